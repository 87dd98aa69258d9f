"""Ask the series index of the Imaging Data Commons, without a network, and freeze the answer."""

from __future__ import annotations

import ast
import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..config.idc import IdcSource, query_text
from ..errors import UserError
from ..tables.idc import ORDER, Manifest, check, gigabytes
from ..where import holds

PACKAGE = "idc-index-data"
ROWS = 65_536
_COLUMNS = {
    "collection_id": "collection",
    "PatientID": "patient_id",
    "StudyInstanceUID": "study_uid",
    "Modality": "modality",
    "SeriesInstanceUID": "series_uid",
    "instanceCount": "instances",
    "license_short_name": "licence",
    "source_DOI": "doi",
    "analysis_result_id": "analysis_result",
    "TransferSyntaxUID": "transfer_syntax",
    "series_revised_idc_version": "revised",
    "aws_bucket": "bucket",
    "crdc_series_uuid": "series_uuid",
    "series_size_MB": "size_mb",
}


@dataclass(frozen=True)
class Index:
    """A series index: its Parquet file and the version of the package that it comes from."""

    path: Path
    version: str

    @property
    def words(self) -> str:
        return f"{PACKAGE} {self.version} (Imaging Data Commons v{self.version.partition('.')[0]})"


def installed_index() -> Index:
    """The index in the package idc-index-data.

    Raises
    ------
    UserError
        if the package is not installed.
    """
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        raise UserError(
            f"the series index of the Imaging Data Commons is not installed. Write: pip install {PACKAGE}==25.0.5 "
            f"(79 MB; needed to freeze a manifest, not to run a study), or name a Parquet file with --index."
        ) from None
    found = [f for f in files if f.name == "idc_index.parquet"]
    return Index(Path(str(found[0].locate())), metadata.version(PACKAGE))


def index_file(path: Path, version: str | None = None) -> Index:
    """A series index in a file of its own, such as the one in the package or some rows of it."""
    stated = (pq.read_schema(path).metadata or {}).get(b"idc_index_data_version", b"").decode().partition("-")[0]
    if not (version or stated):
        raise UserError(f"{path.name} does not state its version. Write it as well: --index-version 25.0.5")
    return Index(path, version or stated)


def select(source: IdcSource, index: Index) -> Manifest:
    """Series that a section asks for, as a manifest to freeze.

    The index is streamed: of a million series, only those of the collections and modalities are kept in memory.
    Sizes are exact: the index states them in megabytes of 1,000,000 bytes, with all their digits.

    Raises
    ------
    UserError
        for an unknown collection or column, or if nothing remains; the message says what there is.
    """
    file = pq.ParquetFile(index.path, buffer_size=1 << 20)
    known = file.schema_arrow.names
    asked = _names(source.where)
    if unknown := sorted(asked - set(known)):
        raise UserError(f"idc.where: the index has no column {unknown[0]!r}. Columns: {', '.join(known)}.")
    columns = [*_COLUMNS, *sorted(asked - set(_COLUMNS))]
    kept: list[pa.RecordBatch] = []
    there: set[str] = set()
    for batch in file.iter_batches(batch_size=ROWS, columns=columns, use_threads=False):
        there |= set(pc.unique(batch["collection_id"]).to_pylist())
        kept.append(batch.filter(_among(batch["collection_id"], source.collection)))
    if wrong := sorted(set(source.collection) - there):
        words = {part for name in wrong for part in name.split("_") if len(part) > 2}
        near = [c for c in sorted(there) if any(word in c for word in words)] or sorted(there)
        raise UserError(f"idc.collection: there is no collection {wrong[0]!r}. There are: {', '.join(near)}.")
    collections = _text_columns(pa.Table.from_batches(kept).to_pandas())
    series = collections[collections["Modality"].isin(source.modality)]
    own = series["analysis_result_id"].isna() | series["analysis_result_id"].isin(source.analysis_results)
    if absent := sorted(set(source.analysis_results) - set(series["analysis_result_id"].dropna())):
        raise UserError(
            f"idc.analysis_results: {absent[0]!r} has no such series here. There is:", *_contents(collections)
        )
    series = series[own]
    if source.where:
        series = series[holds(source.where, series, where="idc.where")]
    if source.complete:
        level = "PatientID" if source.complete == "patient" else "StudyInstanceUID"
        has = series.groupby(["collection_id", level])["Modality"].transform("nunique")
        series = series[has == len(set(source.modality))]
    if source.patients is not None:
        ranks = {name: hashlib.sha256(name.encode()).hexdigest() for name in series["PatientID"].unique()}
        series = series[series["PatientID"].isin(sorted(ranks, key=ranks.__getitem__)[: source.patients])]
    if absent := sorted(set(source.modality) - set(series["Modality"])):
        message = f"idc: no series of modality {absent[0]} is left by analysis_results, where and complete. There is:"
        raise UserError(message, *_contents(collections))
    return freeze(source, index, series)


def freeze(source: IdcSource, index: Index, series: pd.DataFrame) -> Manifest:
    """Rows of the index as a manifest, sorted."""
    frame = series.rename(columns=_COLUMNS)[list(_COLUMNS.values())]
    size = (frame["size_mb"] * 1e6).round()
    if not ((frame["size_mb"] * 1e6 - size).abs() < 0.1).all():
        raise UserError(
            f"{index.path.name}: sizes are rounded, so that downloads could not be checked. Use the package."
        )
    frame = check(frame.assign(size_bytes=size.astype("int64")).drop(columns="size_mb"), index.path.name)
    frame = frame.sort_values(ORDER, kind="stable").reset_index(drop=True)
    return Manifest(frame, query_text(source), index.words, totals(frame))


def totals(series: pd.DataFrame) -> list[str]:
    """A line per modality and one for all: patients, series, instances, size; then series by licence."""
    groups = [*series.groupby("modality", sort=True), ("all", series)]
    lines = [
        f"{name}: {group['patient_id'].nunique():,} patients, {len(group):,} series, {group['instances'].sum():,} "
        f"instances, {gigabytes(group['size_bytes'].sum())}"
        for name, group in groups
    ]
    return lines + [f"{name}: {n:,} series" for name, n in series["licence"].value_counts().sort_index().items()]


def _among(column: pa.Array, values: tuple[str, ...]) -> pa.Array:
    return pc.is_in(column, pa.array(values, column.type))


def _text_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Text with missing values that compare as missing, so that conditions on them are false and not errors."""
    return frame.astype({c: "string" for c in frame.columns if frame[c].dtype == object})


def _names(expression: str | None) -> set[str]:
    if expression is None:
        return set()
    try:
        return {node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)}
    except SyntaxError:
        return set()  # the evaluation says what is wrong with it


def _contents(series: pd.DataFrame) -> list[str]:
    """What collections hold, a line per modality and analysis result."""
    groups = series.fillna({"analysis_result_id": ""}).groupby(
        ["collection_id", "analysis_result_id", "Modality"], sort=True
    )
    return [
        f"  - {collection}: {modality}, {f'analysis result {result}' if result else 'original data'}: {len(group):,} "
        f"series of {group['PatientID'].nunique():,} patients"
        for (collection, result, modality), group in groups
    ]
