"""Where everything that a study takes in comes from, and what its licences ask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..tables.idc import read_manifest
from .results import Table
from .writing import plural

NOT_STATED = "not stated"
SIMULATED = "none needed: simulated"
_ASKS = (
    (r"\bNC\b|non-?commercial", "allows non-commercial use only"),
    (r"\bND\b|no ?deriv", "forbids to share what is made from it, such as masks or synthetic images"),
    (r"\bSA\b|share-?alike", "asks that what is made from it is shared under the same licence"),
    (r"\bBY\b|attribution", "asks to name its authors: cite the sources of the table"),
)


@dataclass(frozen=True)
class Licences:
    """A row per input and licence, and in sentences what to heed; `restricted` are those beyond naming the authors."""

    table: Table
    restricted: list[str]
    notes: list[str]


@dataclass(frozen=True)
class _Input:
    what: str
    content: str
    licence: str
    origin: str


def licences(study: Mapping[str, Any]) -> Licences:
    """Sources and licences of a validated study, given as plain data.

    Centres of the Imaging Data Commons give a row per licence and data set, from the frozen manifest; other inputs what
    their `source:` says: images of centres, the clinical table, imported feature sets and weights.

    Raises
    ------
    UserError
        if a manifest is absent or damaged.
    """
    inputs = list(_inputs(study))
    rows = [[i.what, i.content, i.licence, i.origin] for i in inputs]
    restricted, notes = [], []
    for licence in sorted({i.licence for i in inputs} - {NOT_STATED, SIMULATED}):
        asks = [text for pattern, text in _ASKS if re.search(pattern, licence, re.IGNORECASE)]
        whose = ", ".join(dict.fromkeys(i.what for i in inputs if i.licence == licence))
        if not asks and not re.search(r"\bCC-?0\b|public domain", licence, re.IGNORECASE):
            restricted.append(f"{licence} ({whose}): read its text; its terms are not known here.")
        for text in asks:
            (notes if text == _ASKS[-1][1] else restricted).append(f"{licence} ({whose}) {text}.")
    if silent := list(dict.fromkeys(i.what for i in inputs if i.licence == NOT_STATED)):
        notes.append(
            f"The study file states no licence for: {', '.join(silent)}. What may be done with them is to be asked "
            f"where they come from."
        )
    return Licences(Table(["input", "content", "licence", "source"], rows), restricted, notes)


def _inputs(study: Mapping[str, Any]) -> Iterator[_Input]:
    for name, centre in (study.get("centres") or {}).items():
        what = f"images of {name}"
        if centre.get("simulate"):
            yield _Input(what, "simulated", SIMULATED, "this study")
        elif centre.get("idc"):
            yield from _series(what, centre["idc"]["manifest"])
        else:
            yield _stated(what, centre.get("source"))
    clinical = study.get("clinical")
    if clinical and clinical.get("table"):
        yield _stated("clinical table", clinical.get("source"))
    for name, features in (study.get("features") or {}).items():
        if features.get("kind") == "imported":
            yield _stated(f"feature set {name}", features.get("source"))
    for section in ("synthesis", "segmentation"):
        for name, model in (study.get(section) or {}).items():
            if given := model.get("import"):
                yield _stated(f"weights of {name}", given.get("source"))


def _stated(what: str, source: Mapping[str, Any] | None) -> _Input:
    source = source or {}
    return _Input(
        what, source.get("description") or "", source.get("licence") or NOT_STATED, source.get("url") or NOT_STATED
    )


def _series(what: str, manifest: str) -> Iterator[_Input]:
    frozen = read_manifest(manifest)
    groups = frozen.series.groupby(["collection", "analysis_result", "licence", "doi"], sort=True)
    for (collection, result, licence, doi), group in groups:
        counts = group["modality"].value_counts().sort_index()
        series = ", ".join(f"{n:,} {modality}" for modality, n in counts.items())
        of = f"{collection}, analysis result {result}" if result else str(collection)
        origin = "; ".join(part for part in (f"https://doi.org/{doi}" if doi else "", frozen.index) if part)
        yield _Input(
            what,
            f"{of}: {series} series of {plural(int(group['patient_id'].nunique()), 'patient')}",
            str(licence),
            origin,
        )
