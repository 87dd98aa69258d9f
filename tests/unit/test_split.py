"""Splits: who goes where, and who moves when somebody is added."""

from __future__ import annotations

from pathlib import Path

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.config.splits import Split
from polycentric.errors import UserError
from polycentric.split import assign
from polycentric.tables.schemas import PATIENTS, SPLIT
from polycentric.where import holds
from pydantic import ValidationError


def table(path: Path, sizes: dict[str, int], seed: int = 0, external: str | None = "east") -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    centre = np.repeat(list(sizes), list(sizes.values()))
    frame = pd.DataFrame(
        {
            "centre": centre,
            "patient": [f"{c}{k:03d}" for k, c in enumerate(centre)],
            "role": np.where(centre == external, "external", "development"),
            "scans": 1,
            "clinical": True,
            "response": rng.choice(["yes", "no"], len(centre)),
            "event": rng.choice([0, 1], len(centre)),
            "time_days": rng.uniform(10, 999, len(centre)).round(),
            "age_years": rng.normal(60, 9, len(centre)).round(1),
        }
    )
    tables.write(frame, path, PATIENTS)
    return frame


def run(path: Path, name: str = "main", seed: int = 7, parent=None, members=None, **settings) -> pd.DataFrame:
    output = path.parent / f"{name}.tsv"
    assign(name, Split(**settings), seed=seed, patients=path, outcomes=cohorts.OUTCOMES, parent=parent,
           members=members, output=output)  # fmt: skip
    return tables.read(output, SPLIT).set_index("patient")


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    table(tmp_path / "patients.tsv", {"north": 53, "south": 40, "east": 21})
    return tmp_path / "patients.tsv"


def test_every_patient_is_assigned_once_and_external_stays_external(patients: Path) -> None:
    frame = tables.read(patients, PATIENTS)
    split = run(patients, test=0.2, validation=0.1, stratify=["centre", "response"])
    assert sorted(split.index) == sorted(frame["patient"])
    assert split.index.is_unique
    assert list(split.index) == sorted(split.index)
    assert set(split.loc[split["centre"] == "east", "part"]) == {"external"}
    assert "external" not in set(split.loc[split["centre"] != "east", "part"])


@pytest.mark.parametrize("stratify", [["centre"], ["centre", "response"], ["centre", "death", "response"], []])
def test_every_stratum_has_its_share_within_one_patient(patients: Path, stratify: list[str]) -> None:
    split = run(patients, test=0.2, validation=0.15, stratify=stratify)
    strata = split[split["part"] != "external"].groupby("stratum")["part"]
    assert len(strata) == {0: 1, 1: 2, 2: 4, 3: 8}[len(stratify)]
    for _, parts in strata:
        for part, fraction in (("test", 0.2), ("validation", 0.15), ("training", 0.65)):
            assert abs((parts == part).sum() - fraction * len(parts)) < 1


def test_whole_numbers_are_met_exactly(patients: Path) -> None:
    for seed in range(20):
        split = run(patients, seed=seed, test=0.3, validation=0.1)
        counts = split[split["centre"] == "south"]["part"].value_counts()  # 40 patients
        assert dict(counts) == {"training": 24, "test": 12, "validation": 4}


def test_shares_are_right_on_average_over_tiny_strata(tmp_path: Path) -> None:
    # rounding would send nobody of a stratum of two into a test part of 0.2
    table(tmp_path / "patients.tsv", {f"c{k}": 2 for k in range(300)}, external=None)
    test = (run(tmp_path / "patients.tsv", test=0.2)["part"] == "test").sum()
    assert abs(test - 120) < 4 * np.sqrt(300 * 0.4 * 0.6)


def test_an_added_patient_moves_at_most_the_neighbour_of_each_border(tmp_path: Path) -> None:
    path = tmp_path / "patients.tsv"
    frame = table(path, {"north": 47, "south": 30, "east": 9})
    moves = []
    for k in range(30):  # each patient in turn is the one who was added
        rest = frame.drop(index=k)
        tables.write(rest, path, PATIENTS)
        before = run(path, test=0.2, validation=0.2, stratify=["centre", "response"])
        tables.write(frame, path, PATIENTS)
        after = run(path, test=0.2, validation=0.2, stratify=["centre", "response"])
        both = after.loc[before.index]
        moved = both[both["part"] != before["part"]]
        stratum = after.loc[frame.loc[k, "patient"], "stratum"]
        assert set(moved["stratum"]) <= {stratum}
        assert len(moved) <= 2
        moves.append(len(moved))
    assert 0 < np.mean(moves) < 2


def test_order_of_rows_does_not_matter_but_seed_and_name_do(patients: Path) -> None:
    first = run(patients, test=0.4)
    frame = tables.read(patients, PATIENTS)
    tables.write(frame.sample(frac=1, random_state=3), patients, PATIENTS)
    assert run(patients, test=0.4)["part"].equals(first["part"])
    assert not run(patients, test=0.4, seed=8)["part"].equals(first["part"])
    assert not run(patients, name="other", test=0.4)["part"].equals(first["part"])


def test_nested_splits_stay_within_their_parent(patients: Path) -> None:
    parent = run(patients, name="synthesis", test=0.4)
    for part in ("test", "training"):
        child = run(patients, name="child", parent=patients.parent / "synthesis.tsv", within=f"synthesis.{part}",
                    test=0.25, stratify=["centre", "response"])  # fmt: skip
        inner = child[child["part"] != "external"]
        assert set(inner.index) == set(parent.index[parent["part"] == part])
        assert set(child.index[child["part"] == "external"]) == set(parent.index[parent["part"] == "external"])


def test_population_condition_and_missing_strata(tmp_path: Path) -> None:
    path = tmp_path / "patients.tsv"
    frame = table(path, {"north": 30, "east": 4})
    frame.loc[:5, "scans"] = 0
    frame.loc[10:12, "clinical"] = False
    frame["response"] = frame["response"].astype("object")
    frame.loc[[20, 21], "response"] = None
    tables.write(frame, path, PATIENTS)
    assert len(run(path)) == 28
    assert len(run(path, of="clinical")) == 31
    assert len(run(path, of="published", members={"north006", "north001", "east031"})) == 3
    split = run(path, where="age_years >= 60", stratify=["response"])
    assert set(split.index) == set(frame.loc[(frame["age_years"] >= 60) & (frame["scans"] > 0), "patient"])
    assert "response=missing" in set(run(path, stratify=["response"])["stratum"])
    with pytest.raises(UserError, match="no patient is left"):
        run(path, where="age_years > 200")
    with pytest.raises(UserError, match="published"):
        run(path, of="published")


def test_unusable_strata_are_named(patients: Path) -> None:
    with pytest.raises(UserError, match="different values") as error:
        run(patients, stratify=["age_years", "nonsense"])
    assert len(error.value.messages) == 2
    assert "nonsense" in error.value.messages[1]


def test_a_given_table_is_followed_and_checked(patients: Path, tmp_path: Path) -> None:
    frame = tables.read(patients, PATIENTS)
    given = pd.DataFrame({"patient": frame["patient"], "part": "training"})
    given.loc[::3, "part"] = "test"
    given.loc[frame["role"] == "external", "part"] = "external"
    given.iloc[5:].to_csv(tmp_path / "given.csv", index=False)
    split = run(patients, table=str(tmp_path / "given.csv"))
    assert split["part"].to_dict() == dict(zip(given["patient"][5:], given["part"][5:], strict=True))
    given["part"] = "training"
    given.to_csv(tmp_path / "given.csv", index=False)
    with pytest.raises(UserError, match="21 patients of external centres"):
        run(patients, table=str(tmp_path / "given.csv"))
    given["part"] = "learn"
    given.to_csv(tmp_path / "given.csv", index=False)
    with pytest.raises(UserError, match="learn"):
        run(patients, table=str(tmp_path / "given.csv"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a > 1", [False, True, False]),
        ("a != 1", [False, True, False]),  # a missing value satisfies nothing
        ("1 <= a < 2", [True, False, False]),
        ("b in ('x', 'y') and not a == 2", [True, False, False]),
        ("b not in ['x']", [False, True, False]),
        ("a == 2 or b == 'x'", [True, True, False]),
        ("flag", [True, False, False]),
        ("a > -1", [True, True, False]),
    ],
)
def test_conditions(expression: str, expected: list[bool]) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, None], "b": ["x", "y", None]})
    frame["flag"] = pd.array([True, False, None], dtype="boolean")
    assert holds(expression, frame, where="test").tolist() == expected


@pytest.mark.parametrize("expression", ["__import__('os').system('true')", "a.sum() > 1", "a +", "b > 1", "1 < 2"])
def test_conditions_run_no_code(expression: str) -> None:
    with pytest.raises(UserError, match="cannot be evaluated"):
        holds(expression, pd.DataFrame({"a": [1.0]}), where="test")


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="sum is below 1"):
        Split(test=0.6, validation=0.4)
    with pytest.raises(ValidationError, match=r"within: synthesis\.test"):
        Split(within="synthesis")
    assert Split(within="a-b.validation").parent == ("a-b", "validation")
