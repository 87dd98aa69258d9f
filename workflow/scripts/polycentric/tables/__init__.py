"""Tables between stages: a schema each, checked when written and when read.

Human-sized tables are TSV whose first line is a comment ``# schema: name/version``; large ones are Parquet with the
same text in the file's metadata. Column names carry units (`_mm`, `_hu`, `_ml`, `_days`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..columns import PARTS as PARTS
from ..columns import STATUS as STATUS
from ..columns import Column
from ..errors import UserError
from ..files import atomic

_DTYPES = {"text": "string", "integer": "Int64", "number": "float64", "flag": "boolean"}


@dataclass(frozen=True)
class Schema:
    """Columns of a table, its version, the key that must be unique, and whether further columns may follow."""

    name: str
    version: int
    columns: dict[str, Column]
    key: tuple[str, ...] = ()
    open: bool = False

    @property
    def tag(self) -> str:
        return f"{self.name}/{self.version}"

    def check(self, frame: pd.DataFrame, where: str) -> pd.DataFrame:
        """Return the frame with the schema's types and column order; raise ValueError listing all violations."""
        problems = [f"column {c!r} is missing" for c in self.columns if c not in frame.columns]
        extra = [c for c in frame.columns if c not in self.columns]
        if extra and not self.open:
            problems.append(f"unknown columns {extra}")
        if problems:
            raise ValueError(f"{where} ({self.tag}): " + "; ".join(problems))
        frame = frame[[*self.columns, *extra]].copy()
        for name, column in self.columns.items():
            try:
                frame[name] = frame[name].astype(_DTYPES[column.kind])
            except (ValueError, TypeError) as error:
                problems.append(f"column {name!r} is not {column.kind}: {error}")
                continue
            if column.kind == "text" and not column.required:
                frame[name] = frame[name].fillna("")
            if column.required and frame[name].isna().any():
                problems.append(f"column {name!r} has {int(frame[name].isna().sum())} empty values")
            if column.values:
                allowed = {*column.values} if column.required else {*column.values, ""}
                wrong = sorted(set(frame[name].dropna()) - allowed)
                if wrong:
                    problems.append(f"column {name!r} has values {wrong}; allowed: {list(column.values)}")
        if self.key and not problems and frame.duplicated(list(self.key)).any():
            problems.append(f"rows are not unique in {list(self.key)}")
        if problems:
            raise ValueError(f"{where} ({self.tag}): " + "; ".join(problems))
        return frame


def write(frame: pd.DataFrame | list[dict], path: str | Path, schema: Schema) -> pd.DataFrame:
    """Check and write a table atomically as TSV or Parquet, by suffix; an empty list writes the header alone."""
    path = Path(path)
    if isinstance(frame, list):
        frame = pd.DataFrame(frame) if frame else pd.DataFrame(columns=list(schema.columns))
    optional = [name for name, column in schema.columns.items() if not column.required]
    frame = frame.assign(**{name: None for name in optional if name not in frame.columns})
    frame = schema.check(frame, path.name).reset_index(drop=True)
    with atomic(path) as temporary:
        if path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            table = pa.Table.from_pandas(frame, preserve_index=False)
            table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"schema": schema.tag.encode()})
            pq.write_table(table, temporary)
        else:
            with temporary.open("w", encoding="utf-8", newline="") as stream:
                stream.write(f"# schema: {schema.tag}\n")
                frame.to_csv(stream, sep="\t", index=False, lineterminator="\n")
    return frame


def read(path: str | Path, schema: Schema) -> pd.DataFrame:
    """Read and check a table; one of another schema version is refused with what to do."""
    path = Path(path)
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        tag = (table.schema.metadata or {}).get(b"schema", b"").decode()
        frame = None if tag != schema.tag else table.to_pandas()
    else:
        with path.open(encoding="utf-8") as stream:
            tag = stream.readline().removeprefix("# schema: ").strip()
            frame = None
            if tag == schema.tag:
                text = {n: "string" for n, c in schema.columns.items() if c.kind == "text"}
                frame = pd.read_csv(
                    stream, sep="\t", dtype=text, keep_default_na=False, na_values=[""], float_precision="round_trip"
                )
    if frame is None:
        raise UserError(
            f"{path}: this table has schema {tag or 'none'!r}, but this version of Polycentric reads {schema.tag!r}. "
            f"Remove the file, or run snakemake with --forcerun on the rule that makes it, so that it is made again."
        )
    return schema.check(frame, path.name)


def read_all(paths: list[str] | list[Path], schema: Schema) -> pd.DataFrame:
    """Read several manifests of one schema into one frame, in the given order."""
    frames = [read(path, schema) for path in paths]
    if not frames:
        return schema.check(pd.DataFrame(columns=list(schema.columns)), "no tables")
    return pd.concat(frames, ignore_index=True)
