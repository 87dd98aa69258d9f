from pathlib import Path

import pandas as pd
import pytest
from polycentric import tables
from polycentric.errors import UserError
from polycentric.tables import Column, Schema
from polycentric.tables.schemas import FEATURES, SPLIT

SCHEMA = Schema(
    "things",
    2,
    {
        "name": Column("text", "name"),
        "kind": Column("text", "kind", True, ("a", "b")),
        "volume_ml": Column("number", "volume", False),
        "count": Column("integer", "count", False),
        "note": Column("text", "note", False),
    },
    key=("name",),
)
ROWS = [
    {"name": "001", "kind": "a", "volume_ml": 0.1 + 0.2, "count": 3, "note": "# not a comment\twith tab"},
    {"name": "nan", "kind": "b", "volume_ml": None, "count": None, "note": None},
]


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_round_trip_keeps_text_numbers_and_blanks(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"things{suffix}"
    tables.write(ROWS, path, SCHEMA)
    frame = tables.read(path, SCHEMA)
    assert list(frame["name"]) == ["001", "nan"]
    assert frame["volume_ml"][0] == 0.1 + 0.2
    assert pd.isna(frame["volume_ml"][1])
    assert pd.isna(frame["count"][1])
    assert list(frame["note"]) == ["# not a comment\twith tab", ""]


@pytest.mark.parametrize("suffix", [".tsv", ".parquet"])
def test_the_same_rows_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        tables.write(ROWS, tmp_path / f"{name}{suffix}", SCHEMA)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_an_empty_table_still_says_its_schema(tmp_path: Path) -> None:
    tables.write([], tmp_path / "none.tsv", SPLIT)
    assert tables.read(tmp_path / "none.tsv", SPLIT).empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "c"}, "allowed"),
        ({"name": None}, "empty"),
        ({"volume_ml": "large"}, "not number"),
        ({"colour": "red"}, "unknown columns"),
    ],
)
def test_what_breaks_the_schema_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tables.write([ROWS[0] | change], tmp_path / "things.tsv", SCHEMA)


def test_repeated_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unique"):
        tables.write([ROWS[0], ROWS[0]], tmp_path / "things.tsv", SCHEMA)


def test_another_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tables.write(ROWS, tmp_path / "things.tsv", SCHEMA)
    newer = Schema("things", 3, SCHEMA.columns, SCHEMA.key)
    with pytest.raises(UserError, match=r"things/2.*things/3.*forcerun"):
        tables.read(tmp_path / "things.tsv", newer)


def test_open_schemas_keep_feature_columns(tmp_path: Path) -> None:
    keys = dict.fromkeys(FEATURES.columns, "x") | {"status": "ok", "reason": ""}
    tables.write([keys | {"original_firstorder_Mean": 1.5}], tmp_path / "f.parquet", FEATURES)
    assert tables.read(tmp_path / "f.parquet", FEATURES)["original_firstorder_Mean"][0] == 1.5
