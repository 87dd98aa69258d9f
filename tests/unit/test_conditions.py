"""Conditions (`where:`) and named columns: what is refused before the first job, and what is evaluated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from polycentric import tables
from polycentric.columns import SCAN_COLUMNS, Column
from polycentric.conditions import parse, problems
from polycentric.config.study import load
from polycentric.errors import UserError
from polycentric.tables import Schema
from polycentric.tables.schemas import PATIENTS, SCANS
from polycentric.where import holds

COLUMNS = {
    "contrast": Column("text", "", values=("yes", "no")),
    "kernel": Column("text", ""),
    "age_years": Column("number", ""),
    "clinical": Column("flag", ""),
}
FRAME = pd.DataFrame(
    {
        "contrast": ["yes", "no", None],
        "kernel": ["B31f", "FC08", "B31f"],
        "age_years": [40.0, None, 70.0],
        "clinical": [True, False, True],
    }
)


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("contrast == 'yes'", [0]),
        ("contrast != 'yes'", [1]),  # a missing value satisfies nothing
        ("not contrast == 'yes'", [1, 2]),
        ("kernel in ('B31f', 'B70f') and age_years > 50", [2]),
        ("30 < age_years <= 60 or kernel not in ['B31f']", [0, 1]),
        ("clinical", [0, 2]),
        ("age_years > -1", [0, 2]),
    ],
)
def test_conditions_choose_rows_and_pass_the_check(expression: str, chosen: list[int]) -> None:
    assert list(FRAME.index[holds(expression, FRAME, where="here")]) == chosen
    assert list(problems(expression, COLUMNS)) == []


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("contarst == 'yes'", "no column 'contarst'; did you mean 'contrast'"),
        ("contrast == 'Yes'", "contrast is never 'Yes'; write one of: 'yes', 'no'"),
        ("contrast in ('yes', 'maybe')", "contrast is never 'maybe'"),
        ("kernel == 3", "kernel holds words; put 3 in quotes"),
        ("age_years > '60'", "age_years holds numbers; '60' is none"),
        ("'60' < age_years", "age_years holds numbers"),
        ("age_years > -'6'", "is not a condition"),
        ("clinical == 'yes'", "clinical is true or false"),
        ("kernel < 'C'", "kernel holds words without an order; write kernel in"),
        ("'no' <= contrast", "contrast holds words without an order"),
        ("contrast = 'yes'", "is not a condition"),
        ("age_years and contrast == 'yes'", "age_years alone is no condition"),
    ],
)
def test_what_can_never_be_meant_is_said(expression: str, said: str) -> None:
    (found,) = problems(expression, COLUMNS)
    assert said in found


@pytest.mark.parametrize("name", ["class", "tumour stage", "dose_\u00b5Gy", "2nd"])
def test_a_column_that_no_condition_can_name_is_to_be_called_otherwise(name: str) -> None:
    (found,) = problems(f"{name} == 'a'", COLUMNS | {name: Column("text", "")})
    assert f"cannot name a column {name!r}; declare it under another name" in found


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('true')", "kernel.upper() == 'A'", "age_years + 1 > 2", "1 == 1", "kernel in age_years",
     "age_years is 3", "(lambda: 1)()", "[x for x in kernel] == 1", "'B31f'", "age_years > None"],
)  # fmt: skip
def test_nothing_else_is_evaluated(expression: str) -> None:
    with pytest.raises(ValueError, match=r"column|compar|constant"):
        parse(expression)
    with pytest.raises(UserError, match="cannot be evaluated"):
        holds(expression, FRAME, where="here")


def test_words_that_a_table_gives_back_as_numbers_are_still_found(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"centre": "n", "patient": list("wxyz"), "role": "development", "scans": 1, "clinical": True,
         "stage": ["1", "2", "3", None], "grade": ["01", "02", "03", "04"], "smoker": ["True", "False", "True", None]}
    )  # fmt: skip
    tables.write(frame, tmp_path / "p.tsv", PATIENTS)
    read = tables.read(tmp_path / "p.tsv", PATIENTS)
    columns = {"stage": Column("text", "", values=("1", "2", "3")), "grade": Column("text", "")}
    columns |= {"smoker": Column("text", "", values=("True", "False"))}
    for expression, chosen in (
        ("stage == '1'", "w"), ("stage in ('1', '2')", "wx"), ("stage not in ('1', '2')", "y"), ("stage != '1'", "xy"),
        ("grade == '01'", "w"), ("grade in ('none', '04')", "z"), ("smoker == 'True'", "wy"),
    ):  # fmt: skip
        assert list(problems(expression, columns)) == []
        assert "".join(read["patient"][holds(expression, read, where="x")]) == chosen, expression


def test_a_text_that_a_scan_has_not_is_a_missing_value() -> None:
    schema = Schema("t", 1, {name: SCAN_COLUMNS[name] for name in ("scan", "kernel", "sequence")})
    rows = {"scan": list("abc"), "kernel": ["B30", None, "B70"], "sequence": ["T1", None, "T2"]}
    frame = schema.check(pd.DataFrame(rows), "x")
    for expression, chosen in (
        ("kernel != 'B30'", "c"), ("sequence not in ('T1',)", "c"), ("sequence != 'T1'", "c"), ("sequence == ''", "b"),
        ("kernel != ''", "ac"), ("kernel in ('', 'B70')", "bc"), ("not kernel == 'B30'", "bc"),
    ):  # fmt: skip
        assert list(problems(expression, SCAN_COLUMNS)) == []
        assert "".join(frame["scan"][holds(expression, frame, where="x")]) == chosen, expression


def refused(**changes: object) -> list[str]:
    """Problems of the toy study with other entries, by the key that they name."""
    with open("config/config.yaml", encoding="utf-8") as file:
        raw = yaml.safe_load(file)
    for place, value in changes.items():
        *above, last = place.split("__")
        section = raw
        for key in above:
            section = section[key.replace("_", "-")] if key.replace("_", "-") in section else section[key]
        section[last] = value
    with pytest.raises(UserError) as error:
        load(raw)
    return [line.strip("- ") for line in str(error.value).splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"splits__images__where": "agee > 3"}, "splits.images.where"),
        ({"splits__images__stratify": ["contarst"]}, "splits.images.stratify"),
        ({"views__ct__where": "kernel == 'B31f' and modality = 'CT'"}, "views.ct.where"),
        ({"synthesis__decontrast__source__where": "contrast == 'Yes'"}, "synthesis.decontrast.source.where"),
        ({"segmentation__unet__where": "scanner == 'x'"}, "segmentation.unet.where"),
        ({"splits__images__where": "centre == 'nort'"}, "splits.images.where"),
        ({"views__ct__where": "centre in ('north', 'nort')"}, "views.ct.where"),
        ({"features__combat__batch": "scaner"}, "features.combat.batch"),
        ({"features__combat__batch": "perturbation"}, "features.combat.batch"),
        ({"features__combat__covariates": ["agee"]}, "features.combat.covariates"),
        ({"analyses__severity__clinical": ["agee"]}, "analyses.severity.clinical"),
        ({"analyses__severity__subgroups": {"sexx": []}}, "analyses.severity.subgroups"),
        ({"analyses__survival__subgroups": {"sexx": []}}, "analyses.survival.subgroups"),
        ({"analyses__cohort__by": "hospital"}, "analyses.cohort.by"),
        ({"analyses__feature_shift__where": "contrast == no"}, "analyses.feature-shift.where"),
        (
            {"readers__turing__views__acquired": {"view": "ct", "where": "age_years > 3"}},
            "readers.turing.views.acquired.where",
        ),
    ],
)  # fmt: skip
def test_a_study_that_names_columns_that_will_not_be_is_refused_before_the_first_job(change: dict, key: str) -> None:
    (problem,) = refused(**change)
    assert problem.startswith(f"{key}: "), problem


def test_the_check_knows_the_columns_that_the_tables_have() -> None:
    """The lists that conditions are checked against are those that the tables are written with."""
    from polycentric.columns import PATIENT_COLUMNS, SCAN_COLUMNS

    assert SCANS.columns is SCAN_COLUMNS
    assert PATIENTS.columns is PATIENT_COLUMNS
