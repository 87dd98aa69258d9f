"""Images of a centre from the Imaging Data Commons: what is asked for, and the frozen answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from .base import Expression, Section

QUERY_LINE = "# query: "


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
Modality = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{2,16}$")]
IdOrIds = Annotated[tuple[Id, ...], BeforeValidator(_listed)]
ModalityOrModalities = Annotated[tuple[Modality, ...], BeforeValidator(_listed)]


class IdcSource(Section):
    """Series of the Imaging Data Commons, frozen in a manifest that is committed with the study."""

    collection: IdOrIds = Field(
        min_length=1, description="Collection, or a list of them, as the index writes it, such as nsclc_radiomics."
    )
    modality: ModalityOrModalities = Field(
        ("CT",), min_length=1, description="DICOM modality, or a list of them: CT, MR, PT, RTSTRUCT, SEG, ..."
    )
    where: Expression | None = Field(
        None,
        description="Condition on the columns of the series index, such as \"Manufacturer == 'SIEMENS'\"; it is asked "
        "of series of every modality.",
    )
    analysis_results: IdOrIds = Field(
        (),
        description="Analysis results (outlines and measurements that others added to a collection later) to take as "
        "well, by their id; original data alone if empty.",
    )
    complete: Literal["patient", "study"] | None = Field(
        None,
        description="Keep only patients (or imaging studies) that have a series of every modality that is asked for.",
    )
    patients: int | None = Field(
        None, ge=1, description="Only this many patients, chosen by a hash of their identifiers; for a small trial."
    )
    manifest: Annotated[str, StringConstraints(pattern=r"\.tsv$")] = Field(
        description="The frozen list of series, made by `python -m polycentric.tools.freeze` and committed.",
    )
    folder: str = Field(
        "data/idc",
        description="Folder of the files, in any layout: they are found by their headers; missing ones are downloaded "
        "below it. Several centres and studies can share it.",
    )
    download: bool = Field(
        True, description="Download what is missing; false only checks, for machines without a network."
    )
    same_bytes: bool = Field(
        True,
        description="Whether a series must have the size in bytes that the index states; false for copies from "
        "elsewhere, whose file headers may differ, so that only the number of instances counts.",
    )


def query(source: IdcSource) -> dict[str, Any]:
    """The part of the section that decides which series are taken; the manifest records it."""
    given = source.model_dump(mode="json", include={*ASKED})
    return {key: sorted(set(v)) if isinstance(v, list) else v for key, v in given.items() if v not in (None, [])}


ASKED = ("collection", "modality", "where", "analysis_results", "complete", "patients")


def query_text(source: IdcSource) -> str:
    return json.dumps(query(source), sort_keys=True, ensure_ascii=False)


def problems(where: str, source: IdcSource) -> Iterator[tuple[str, str]]:
    """What is wrong with a manifest: it is absent, or was frozen from another query (only its first lines are read)."""
    how = "Write: python -m polycentric.tools.freeze STUDY.yaml"
    path = Path(source.manifest)
    if not path.is_file():
        yield f"{where}.manifest", f"there is no file {source.manifest!r}. {how}"
        return
    with path.open(encoding="utf-8", errors="replace") as stream:
        recorded = next(
            (line.removeprefix(QUERY_LINE).strip() for line in _comments(stream) if line.startswith(QUERY_LINE)), ""
        )
    if recorded != query_text(source):
        yield (
            f"{where}.manifest",
            f"{source.manifest} was frozen from another query, {recorded or 'none'}; this study asks for "
            f"{query_text(source)}. {how} --update",
        )


def _comments(stream: Any) -> Iterator[str]:
    for line in stream:
        if not line.startswith("#"):
            return
        yield line
