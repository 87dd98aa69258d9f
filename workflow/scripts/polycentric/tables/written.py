"""Tables that people and tools write: CSV, TSV, XLSX or Parquet in whatever encoding, as text, with row numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import pandas as pd

from ..errors import UserError

SHOWN = 20


def read_written(path: Path, key: str, *, sheet: str | None = None, encoding: str | None = None) -> pd.DataFrame:
    """All cells as text; blank rows are left out, and the index is the row number in the file (the header is row 1).

    Parameters
    ----------
    path
        CSV (comma, semicolon or tabulator), TSV, XLSX or Parquet file.
    key
        The key of the study file that names it, for messages.
    sheet
        Sheet of an XLSX file; None: the first.
    encoding
        Encoding of a text file; None finds UTF-8, UTF-16 or cp1252.

    Raises
    ------
    UserError
        if it is absent or no table.
    """
    options = {"dtype": str, "keep_default_na": False, "na_filter": False}
    try:
        if path.suffix.lower() in (".xlsx", ".xlsm"):
            frame = pd.read_excel(
                path, 0 if sheet is None else sheet, dtype=str, keep_default_na=False, na_filter=False
            )
        elif path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path).map(_parquet_text)
        elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
            text = _decode(path, encoding)
            header = text.split("\n", 1)[0]
            separator = "\t" if path.suffix.lower() == ".tsv" else max((",", ";", "\t"), key=header.count)
            frame = pd.read_csv(StringIO(text), sep=separator, skip_blank_lines=False, index_col=False, **options)
        else:
            raise UserError(
                f"{path.name}: tables of type {path.suffix!r} cannot be read. Save it as .csv, .tsv, .xlsx or .parquet."
            )
    except FileNotFoundError:
        raise UserError(f"{key}: the file {path.name!r} does not exist. Write its path.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path.name}: this is not a table ({reason}). Save it again as CSV or XLSX.") from None
    frame.columns = [str(c).strip() for c in frame.columns]
    frame.index = pd.RangeIndex(2, len(frame) + 2)
    frame = frame.fillna("").astype(str)
    return frame[(frame.apply(lambda c: c.str.strip()) != "").any(axis=1)]


def _parquet_text(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _decode(path: Path, encoding: str | None = None) -> str:
    data = path.read_bytes()
    if encoding is not None:
        try:
            return data.decode(encoding)
        except LookupError:
            raise ValueError(f"there is no encoding {encoding!r}") from None
        except UnicodeDecodeError:
            raise ValueError(f"its encoding is not {encoding}") from None
    for encoding in ("utf-8-sig", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def absent(raw: pd.DataFrame, where: str, key: str, column: str) -> list[str]:
    """What to say if a table has no such column."""
    if column in raw.columns:
        return []
    names = {str(name).lower(): str(name) for name in raw.columns}
    near = difflib.get_close_matches(column.lower(), names, n=1)
    hint = f"Did you mean {names[near[0]]!r}?" if near else f"Its columns are: {', '.join(raw.columns)}."
    return [f"{key}: {where} has no column {column!r}. {hint}"]


def rows_in_words(rows: Iterable[int]) -> str:
    """Row numbers for a message, at most `SHOWN` of them."""
    numbers = [str(r) for r in rows]
    rest = f" and {len(numbers) - SHOWN} more rows" if len(numbers) > SHOWN else ""
    return f"row{'s' * (len(numbers) > 1)} {', '.join(numbers[:SHOWN])}{rest}"
