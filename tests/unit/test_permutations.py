"""Null distributions made in shards: the same bytes however they are divided, and nothing held out in any fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.analysis import classify, classify_null, classify_study, permutations, survive, survive_null
from polycentric.analysis.schemas import PERMUTATIONS
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.survival import SurvivalAnalysis
from polycentric.errors import UserError
from polycentric.tables.schemas import FEATURES, PATIENTS

QUICK = {"split": "main", "bootstraps": 20, "permutations": 7, "resampling": {"folds": 3, "repeats": 1}}
SIZES = {"north": 60, "east": 40, "south": 30}


def classification(**more: Any) -> ClassificationAnalysis:
    base = {"outcome": "response", "features": ("mixed",), "models": ("lasso", "ridge"),
            "explain": {"permutations": 0, "dependence": 0, "shap": False}}  # fmt: skip
    return ClassificationAnalysis.model_validate(QUICK | base | more)


def survival(**more: Any) -> SurvivalAnalysis:
    models = {"clinical": {"clinical": ["age_years"]}, "radiomics": {"features": "mixed"},
              "both": {"stack": ["clinical", "radiomics"]}}  # fmt: skip
    return SurvivalAnalysis.model_validate(QUICK | {"outcome": "death", "models": models} | more)


PLACES = {
    "classification": [(f"mixed/{m}", part) for m in ("lasso", "ridge") for part in ("test", "external")],
    "survival": [(m, part) for m in ("clinical", "radiomics", "both") for part in ("test", "external")],
}
KINDS = {"classification": (classification, classify, classify_null, "response"),
         "survival": (survival, survive, survive_null, "death")}  # fmt: skip


def inputs(cohort: cohorts.Cohort, outcome: str) -> dict[str, Any]:
    return {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
            "outcome": cohorts.OUTCOMES[outcome], "ledgers": []}  # fmt: skip


def null(cohort: cohorts.Cohort, kind: str, folder: str = "n", **more: Any) -> pd.DataFrame:
    settings, _, module, outcome = KINDS[kind]
    paths = cohorts.null(module.permute, "a", settings(**more), cohort.root / folder, **inputs(cohort, outcome))
    return tables.read_all(paths, PERMUTATIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_the_same_bytes_in_one_two_and_five_shards(tmp_path: Path, kind: str) -> None:
    settings, module, own, outcome = KINDS[kind]
    cohort = cohorts.write(tmp_path / "c", sizes=SIZES, external="south", features=12)
    written, values = [], []
    for count in (1, 2, 5):
        chosen, folder = settings(permutation_shards=count), tmp_path / f"c/analyses/{count}"
        shards = cohorts.null(own.permute, "a", chosen, folder, **inputs(cohort, outcome))[::-1]  # any order
        values.append(permutations.gather(shards, 7, PLACES[kind], "a"))
        if count == 2:
            continue
        module.analyse("a", chosen, permutations=shards, **inputs(cohort, outcome), root=folder, folder=folder,
                       settings_json="{}", code="c")  # fmt: skip
        assert len(shards) == count
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "permutations"]
        written.append({path.relative_to(folder).as_posix(): path.read_bytes() for path in files})
    assert {"metrics.json", "figures/null.csv", "figures/null.svg", "tables/performance.csv"} <= set(written[0])
    assert written[0] == written[1]
    for other in values[1:]:
        assert {place: found.tobytes() for place, found in other.items()} == {
            place: found.tobytes() for place, found in values[0].items()
        }


@pytest.mark.parametrize("kind", KINDS)
def test_fits_know_nothing_of_held_out_patients(tmp_path: Path, kind: str) -> None:
    first = null(cohorts.write(tmp_path / "a", sizes=SIZES, external="south"), kind)
    other = cohorts.write(tmp_path / "b", sizes=SIZES, external="south")
    frame = tables.read(other.features["mixed"], FEATURES)
    rows = frame["centre"].eq("south")
    names = [f"f{k}" for k in range(8)]
    frame.loc[rows, names] = frame.loc[rows, names].to_numpy()[::-1] + 3.0
    tables.write(frame, other.features["mixed"], FEATURES)
    second = null(other, kind)
    inside = first["part"].eq("test")
    pd.testing.assert_frame_equal(first[inside], second[inside])
    assert not first.loc[~inside, "value"].equals(second.loc[~inside, "value"])


def test_held_out_outcomes_only_say_how_well_chance_does(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south")
    first = null(cohort, "classification")
    people = tables.read(cohort.patients, PATIENTS)
    rows = people["centre"].eq("south")
    people.loc[rows, "response"] = np.where(people.loc[rows, "response"].eq("yes"), "no", "yes")
    tables.write(people, cohort.patients, PATIENTS)
    second = null(cohort, "classification")
    turned = np.where(first["part"].eq("external"), 1 - first["value"], first["value"])
    # the AUC of the same probabilities against the opposite outcomes
    np.testing.assert_allclose(second["value"], turned, atol=1e-12)


def test_permuting_within_centres_keeps_what_the_centre_tells(tmp_path: Path) -> None:
    def by_centre(frame: pd.DataFrame) -> pd.DataFrame:
        rates = frame["centre"].map({"north": 0.9, "east": 0.1, "south": 0.5})
        return frame.assign(response=np.where(np.random.default_rng(4).random(len(frame)) < rates, "yes", "no"))

    cohort = cohorts.write(tmp_path, sizes={"north": 150, "east": 150}, external=None, change=by_centre)
    frame = tables.read(cohort.features["mixed"], FEATURES)
    frame["f3"] += 10.0 * frame["centre"].eq("north")  # tells the centre
    tables.write(frame, cohort.features["mixed"], FEATURES)
    free = null(cohort, "classification", "free")["value"].mean()
    within = null(cohort, "classification", "within", permute_within="centre")["value"].mean()
    assert abs(free - 0.5) < 0.1
    assert within > 0.8  # of centres with rates of 0.9 and 0.1 in equal numbers the AUC is 0.9


def test_permuted_lesions_keep_one_outcome_per_patient(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south")
    frame = tables.read(cohort.features["mixed"], FEATURES)
    tables.write(pd.concat([frame, frame.assign(roi="GTV-2")]), cohort.features["mixed"], FEATURES)
    lesions = classification(lesions={"join": "mean"})
    study = classify_study.read("a", lesions, 1, cohort.features, cohort.patients, cohort.split,
                                cohorts.OUTCOMES["response"], None)  # fmt: skip
    training = study.part("training")
    mixed = classify_null._permuted(study, 3)
    assert len(mixed) == 2 * training.sum()
    per_patient = pd.Series(mixed).groupby(study.patient[study.rows(training)])
    assert per_patient.nunique().eq(1).all()
    assert sorted(per_patient.first()) == sorted(study.outcome[training])
    assert per_patient.first().tolist() != study.outcome[training].tolist()


# --- runs and shards -------------------------------------------------------------------------------------------------


def test_runs_have_streams_of_their_own() -> None:
    y = np.arange(30)
    runs = [permutations.permuted(y, 1, "a", k).tolist() for k in range(10)]
    assert len({tuple(run) for run in runs}) == 10
    assert all(sorted(run) == y.tolist() for run in runs)
    assert permutations.permuted(y, 1, "b", 0).tolist() != runs[0]
    rows = np.column_stack([y, -y])
    assert permutations.permuted(rows, 1, "a", 4).tolist() == [[v, -v] for v in runs[4]]


def test_permutations_within_centres_keep_their_rates() -> None:
    centre = np.repeat(["a", "b"], 20)
    y = np.r_[np.arange(20) < 15, np.arange(20) < 5].astype(int)
    for k in range(5):
        mixed = permutations.permuted(y, 3, "a", k, within=centre)
        assert mixed[:20].sum() == 15
        assert mixed[20:].sum() == 5
        assert mixed.tolist() != y.tolist()


@pytest.mark.parametrize(("total", "shards"), [(10, 1), (10, 3), (10, 10), (10, 50), (1000, 50), (0, 4)])
def test_shards_are_contiguous_and_even(total: int, shards: int) -> None:
    pieces = classification(permutations=total, permutation_shards=shards).permutations_of()
    assert [k for piece in pieces for k in piece] == list(range(total))
    assert len(pieces) == min(total, shards)
    sizes = [len(piece) for piece in pieces]
    assert not sizes or (max(sizes) - min(sizes) <= 1 and min(sizes) > 0)


def test_a_lost_repeated_or_strange_shard_is_refused(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes=SIZES, external="south")
    chosen = classification(permutation_shards=3)
    own = inputs(cohort, "response")
    shards = cohorts.null(classify_null.permute, "a", chosen, tmp_path / "n", **own)

    def refused(paths: list[Path], settings: ClassificationAnalysis, words: str) -> None:
        with pytest.raises(UserError, match=f"analyses: a: .*{words}"):
            classify.analyse("a", settings, permutations=paths, **own, root=tmp_path, folder=tmp_path / "a",
                             settings_json="{}", code="c")  # fmt: skip
        assert not (tmp_path / "a").exists()

    refused(shards[:2], chosen, "3 of 7 are missing .such as number 4")
    refused([], chosen, "7 of 7 are missing")
    refused([*shards, shards[0]], chosen, "there twice")
    refused(shards, classification(permutations=5), "2 were not asked for .such as number 5")
    refused(shards, classification(models=("lasso", "ridge", "logistic")), "7 of 7 are missing")
    refused(shards, classification(models=("lasso",)), "7 were not asked for")
