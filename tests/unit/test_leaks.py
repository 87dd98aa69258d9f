"""Ten leaks planted by the means they have in practice, each refused or found, and their clean twins that pass.

A leak through our own chains is planted where a user can plant it: a model, a scaler, a harmonisation or a selection of
another split. A leak from outside is planted in a feature table that another tool made.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.analysis import chain, classify, classify_study, data, leaks, roc
from polycentric.cohort import duplicates
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.features import HarmonisedSet, ImportedSet
from polycentric.errors import UserError
from polycentric.harmonise import ComBat, harmonise
from polycentric.radiomics import import_table
from polycentric.report import leaks as report
from polycentric.tables.schemas import FEATURES, PATIENTS, SPLIT, VOLUMES

NAMES = [f"f{k}" for k in range(12)]


@pytest.fixture
def cohort(tmp_path: Path) -> cohorts.Cohort:
    """120 patients of two centres, whose scanners differ by 1.3 SD, and 30 external ones."""
    made = cohorts.write(tmp_path, sizes={"north": 60, "east": 60, "south": 30}, external="south", features=12)
    frame = tables.read(made.features["mixed"], FEATURES)
    own = dict(zip(("north", "east", "south"), np.random.default_rng(2).normal(0, 4, (3, 12)), strict=True))
    frame[NAMES] = frame[NAMES].to_numpy() * 3 + 50 + np.stack([own[c] for c in frame["centre"]])
    tables.write(frame, made.features["mixed"], FEATURES)
    return made


def parts(cohort: cohorts.Cohort) -> pd.Series:
    return tables.read(cohort.split, SPLIT).set_index("patient")["part"].astype("object")


def values(cohort: cohorts.Cohort) -> pd.DataFrame:
    return tables.read(cohort.features["mixed"], FEATURES).set_index("patient")[NAMES].astype(float)


def outcome(cohort: cohorts.Cohort) -> pd.Series:
    frame = tables.read(cohort.patients, PATIENTS).set_index("patient")
    return frame["response"].eq("yes").astype(float)


def found(cohort: cohorts.Cohort, table: pd.DataFrame) -> list[str]:
    """Codes of what an analysis says, or is stopped by, when it reads this table as its feature set."""
    frame = tables.read(cohort.features["mixed"], FEATURES).set_index("patient", drop=False)
    kept = frame[[c for c in frame.columns if c in FEATURES.columns]]
    imported = cohort.root / "imported.parquet"
    tables.write(pd.concat([kept, table.loc[kept.index]], axis=1).reset_index(drop=True), imported, FEATURES)
    settings = ClassificationAnalysis(split="main", outcome="response", features=("mixed",))
    inputs = ({"mixed": imported}, cohort.patients, cohort.split, cohorts.OUTCOMES["response"])
    try:
        study = classify_study.read("a", settings, 1, *inputs, None)
    except UserError as error:
        return re.findall(r"LEAK_\w+", str(error))
    return [code for warning in study.warnings for code in re.findall(r"^LEAK_\w+", warning)]


def analyse(cohort: cohorts.Cohort, ledgers: list[Path], **more: Any) -> dict[str, Any]:
    settings = ClassificationAnalysis(
        split="main", outcome="response", features=("mixed",), models=("ridge",), bootstraps=20, permutations=0,
        resampling={"folds": 3, "repeats": 1}, explain={"permutations": 0, "dependence": 0, "shap": False}, **more,
    )  # fmt: skip
    return classify.analyse(
        "a", settings, seed=1, features=cohort.features, patients=cohort.patients, split=cohort.split,
        outcome=cohorts.OUTCOMES["response"], ledgers=ledgers, root=cohort.root, folder=cohort.root / "analyses/a",
        settings_json="{}", code="c",
    )  # fmt: skip


def fitted(cohort: cohorts.Cohort, stage: str, split: str, seen: dict[str, list[str]], *upstream: Path) -> Path:
    path = cohort.root / f"{stage}-{split}.json"
    ledger.write(
        path, name=f"the {stage}", stage=stage, split=split, seen=seen, upstream=upstream, settings="", code=""
    )
    return path


def of(cohort: cohorts.Cohort, part: str) -> list[str]:
    split = parts(cohort)
    return sorted(split.index[split == part])


def held_out_seen(cohort: cohorts.Cohort, path: Path) -> dict[str, int]:
    """What the audit of the report says of a ledger on the split of the analysis."""
    analysis = fitted(cohort, "analyse", "main", {"training": of(cohort, "training")}, path)
    return report.audit({"a": analysis}, {"main": tables.read(cohort.split, SPLIT)})[0].overlaps


# 1 a scaler fitted on all data


def test_a_scaler_of_another_split_is_refused_and_one_of_this_split_is_not(cohort: cohorts.Cohort) -> None:
    everyone = sorted(parts(cohort).index)
    leaky = fitted(cohort, "prepare", "everyone", {"training": everyone})
    with pytest.raises(UserError, match=r"the prepare.*has seen \d+ of its patients.*within"):
        analyse(cohort, [leaky])
    assert held_out_seen(cohort, leaky)["the prepare"] == len(of(cohort, "test")) + len(of(cohort, "external"))
    clean = fitted(cohort, "prepare", "main", {"training": of(cohort, "training")})
    assert analyse(cohort, [clean])["results"]
    assert held_out_seen(cohort, clean) == {}


@pytest.mark.parametrize("how", ["standard", "range"])
def test_a_table_scaled_on_all_patients_is_found(cohort: cohorts.Cohort, how: str) -> None:
    table, training = values(cohort), of(cohort, "training")

    def scaled(on: pd.DataFrame) -> pd.DataFrame:
        if how == "standard":
            return (table - on.mean()) / on.std()
        return (table - on.min()) / (on.max() - on.min())

    assert found(cohort, scaled(table)) == ["LEAK_SCALED"]
    development = parts(cohort).ne("external")
    assert found(cohort, scaled(table[development.loc[table.index]])) == ["LEAK_SCALED"]
    assert found(cohort, scaled(table.loc[training])) == []
    assert found(cohort, table) == []


# 2 selection before the split


def test_features_chosen_on_test_patients_are_refused(cohort: cohorts.Cohort) -> None:
    leaky = fitted(cohort, "extract", "everyone", {"training": sorted(parts(cohort).index)})
    with pytest.raises(UserError, match="the extract"):
        analyse(cohort, [leaky])
    clean = fitted(cohort, "extract", "main", {"training": of(cohort, "training")})
    assert analyse(cohort, [clean])["results"]


def chosen_elsewhere(cohort: cohorts.Cohort, on: list[str], said: Any) -> tuple[cohorts.Cohort, Path]:
    """A colleague's table: of 600 columns of noise the 8 that tell the outcomes of `on` best, `said` of them."""
    rng, split, y = np.random.default_rng(8), parts(cohort), outcome(cohort)
    noise = pd.DataFrame(rng.normal(size=(len(split), 600)), index=split.index).add_prefix("n")
    strength = [abs(roc.auc(y[on].to_numpy() > 0, noise.loc[on, name].to_numpy()) - 0.5) for name in noise]
    best = noise.iloc[:, np.argsort(strength)[-8:]]
    file, root = cohort.root / "theirs.csv", cohort.root
    told = best.assign(patient=best.index, used=["yes" if p in on else "no" for p in best.index])
    told.assign(centre=tables.read(cohort.split, SPLIT).set_index("patient")["centre"]).to_csv(file, index=False)
    settings = ImportedSet.model_validate(
        {"kind": "imported", "table": "theirs.csv", "columns": {"patient": "patient", "centre": "centre"},
         "drop": [] if "rows" in (said or ()) else ["used"], "chosen_on": said}
    )  # fmt: skip
    import_table(
        "theirs", settings, files=[file], identify=lambda kind, centre, value: value, cohort=set(split.index),
        output=root / "features/theirs.parquet", ledger=root / "models/theirs/main/ledger.json",
    )  # fmt: skip
    paths = {"mixed": root / "features/theirs.parquet"}
    return dataclasses.replace(cohort, features=paths), root / "models/theirs/main/ledger.json"


def test_imported_features_that_were_chosen_on_held_out_patients_are_refused(cohort: cohorts.Cohort) -> None:
    """What the choice does to noise, who may be told of it, and the clean twin that training alone has chosen."""
    training, held = of(cohort, "training"), [*of(cohort, "test"), *of(cohort, "external")]
    marked = {"rows": {"used": ["yes"]}}
    refused = {r"'theirs' were chosen with the outcomes of \d+ patients": marked, "features 'theirs'": "everybody",
               "outcomes of 30 patients": {"centres": ["south"]}}  # fmt: skip
    for text, said in refused.items():
        leaky, path = chosen_elsewhere(cohort, [*training, *held], said)
        with pytest.raises(UserError, match=text):
            analyse(leaky, [path])
    assert held_out_seen(cohort, path) == {"theirs": 30}
    # nothing was said: noise predicts, and the report says that it is not known why
    silent, path = chosen_elsewhere(cohort, [*training, *held], None)
    metrics = analyse(silent, [path])
    assert metrics["results"]["mixed"]["ridge"]["parts"]["external"]["auc"]["value"] > 0.65
    assert any("'theirs': it is not known whose outcomes" in w for w in metrics["warnings"])
    assert report.audit({"theirs": path}, {})[0].unknown
    # the clean twin: training chose; held-out patients are predicted by chance, and training is said to be too good
    clean, path = chosen_elsewhere(cohort, training, marked)
    metrics = analyse(clean, [path])
    ridge = metrics["results"]["mixed"]["ridge"]["parts"]
    assert ridge["external"]["auc"]["lower"] < 0.5 < ridge["external"]["auc"]["upper"]
    assert ridge["cross-validated"]["auc"]["value"] > 0.65
    assert "too good" in ridge["cross-validated"]["auc"]["method"]
    assert any("estimates of training, cross-validated ones too" in w for w in metrics["warnings"])
    assert held_out_seen(cohort, path) == {}
    nobody, path = chosen_elsewhere(cohort, training, "nobody")
    assert not any(w.startswith("Features") for w in analyse(nobody, [path])["warnings"])


def test_schemes_do_not_predict_patients_whose_outcomes_chose_the_features(cohort: cohorts.Cohort) -> None:
    north = [p for p in of(cohort, "training") if p in set(cohort.frame.query("centre == 'north'")["patient"])]
    chosen, path = chosen_elsewhere(cohort, north, {"rows": {"used": ["yes"]}})
    schemes = ({"kind": "cross-validation", "repeats": 1, "folds": 3}, {"kind": "leave-centre-out"},
               {"kind": "random-splits", "count": 3})  # fmt: skip
    metrics = analyse(chosen, [path], validation=schemes)
    assert set(metrics["validation"]) == {"leave-centre-out"}
    assert metrics["validation"]["leave-centre-out"]["centres"] == ["east"]
    said = [w for w in metrics["warnings"] if w.startswith("validation:")]
    assert len(said) == 3
    assert any("centre north was not left out" in w for w in said)


def test_selection_in_a_chain_knows_training_rows_alone(cohort: cohorts.Cohort) -> None:
    """The same features are chosen whatever the outcomes of the other patients; chosen on all, they differ."""
    rng = np.random.default_rng(4)
    table, y, train = pd.DataFrame(rng.normal(size=(80, 300))), rng.random(80) < 0.5, np.arange(80) < 40
    table.columns = [f"g{k}" for k in range(300)]
    pick = ({"kind": "top", "count": 5},)
    one = chain.Front(selection=pick).fit(table[train], y[train]).chosen_
    flipped = np.where(train, y, ~y)
    assert np.array_equal(chain.Front(selection=pick).fit(table[train], flipped[train]).chosen_, one)
    everyone = chain.Front(selection=pick).fit(table, y).chosen_
    scores = [
        np.mean([max(a, 1 - a) for a in (roc.auc(y[~train], table.iloc[~train, k].to_numpy()) for k in chosen)])
        for chosen in (one, everyone)
    ]
    assert scores[1] > scores[0] + 0.05  # noise looks informative when test patients took part


# 3 ComBat on all data


def test_combat_on_another_split_is_refused(cohort: cohorts.Cohort) -> None:
    everyone = tables.read(cohort.split, SPLIT).assign(part="training")
    tables.write(everyone, cohort.root / "cohort/splits/everyone.tsv", SPLIT)
    for split, clean in (("everyone", False), ("main", True)):
        settings = HarmonisedSet(kind="harmonised", of="mixed", split=split, unseen="identity")
        path = cohort.root / f"combat-{split}.json"
        harmonise(
            "combat", settings, features=cohort.features["mixed"], scans=cohort.scans, patients=cohort.patients,
            split=cohort.root / f"cohort/splits/{split}.tsv", output=cohort.root / "combat.parquet",
            model=cohort.root / "combat-model.json", ledger=path,
        )  # fmt: skip
        if clean:
            assert analyse(cohort, [path])["results"]
            continue
        with pytest.raises(UserError, match="'combat' behind its inputs has seen"):
            analyse(cohort, [path])
        assert held_out_seen(cohort, path)["combat"] > 0


def test_a_table_harmonised_on_all_patients_is_found(cohort: cohorts.Cohort) -> None:
    table, part = values(cohort), parts(cohort)
    centre = tables.read(cohort.split, SPLIT).set_index("patient")["centre"].loc[table.index].to_numpy(dtype=object)
    x, training = table.to_numpy(), part.loc[table.index].eq("training").to_numpy()

    def combat(rows: np.ndarray) -> pd.DataFrame:
        model = ComBat(unseen="identity").fit(x[rows], batch=centre[rows])
        return pd.DataFrame(model.transform(x, batch=centre), index=table.index, columns=table.columns)

    assert found(cohort, combat(np.ones(len(x), dtype=bool))) == ["LEAK_HARMONISED"]
    assert found(cohort, combat(part.loc[table.index].ne("external").to_numpy())) == ["LEAK_HARMONISED"]
    assert found(cohort, combat(training)) == []
    alike = np.random.default_rng(3).normal(size=x.shape)  # centres that need no harmonisation
    assert found(cohort, pd.DataFrame(alike, index=table.index, columns=table.columns)) == []


# 4 imputation on all data


@pytest.mark.parametrize("fill", ["mean", "median"])
def test_a_table_imputed_on_all_patients_is_found(cohort: cohorts.Cohort, fill: str) -> None:
    table = values(cohort)
    gaps = np.random.default_rng(1).random(table.shape) < 0.06
    table = table.mask(gaps)
    assert found(cohort, table.fillna(getattr(table, fill)())) == ["LEAK_IMPUTED"]
    assert found(cohort, table.fillna(getattr(table.loc[of(cohort, "training")], fill)())) == []
    assert found(cohort, table) == []
    floor = table.clip(lower=table.quantile(0.05), axis=1)  # a limit of detection repeats, too
    assert found(cohort, floor) == []


def test_imputation_in_a_chain_knows_training_rows_alone(cohort: cohorts.Cohort) -> None:
    table, training = values(cohort).mask(np.random.default_rng(1).random((150, 12)) < 0.1), of(cohort, "training")
    y = outcome(cohort).loc[training].to_numpy()
    front = chain.Front(selection=()).fit(table.loc[training], y)
    assert front.medians_ == pytest.approx(table.loc[training].median().to_numpy())
    assert front.medians_ != pytest.approx(table.median().to_numpy())


# 5 a patient in two parts


def test_a_patient_in_two_parts_is_refused(cohort: cohorts.Cohort) -> None:
    lines = cohort.split.read_text().splitlines()
    patient = of(cohort, "training")[0]
    own = next(line for line in lines if f"\t{patient}\t" in line)
    assert len(data.cohort(cohort.patients, cohort.split, "analyses: a")) == 150
    cohort.split.write_text("\n".join([*lines, own.replace("\ttraining\t", "\ttest\t")]) + "\n")
    with pytest.raises(UserError, match=r"analyses: a: the split.*not unique.*snakemake"):
        analyse(cohort, [])


def test_a_patient_who_trained_in_another_split_is_refused(cohort: cohorts.Cohort) -> None:
    other = fitted(cohort, "segment", "other", {"training": of(cohort, "test")[:1]})
    with pytest.raises(UserError, match="has seen 1 of its patients"):
        analyse(cohort, [other])
    strangers = fitted(cohort, "segment", "strangers", {"training": ["p9000", "p9001"]})
    assert analyse(cohort, [strangers])["results"]


# 6 the same scan under two patients


def test_one_scan_under_two_patients_is_refused_by_its_pixels() -> None:
    row = dict.fromkeys(VOLUMES.columns, "") | {"status": "ok", "centre": "north", "session": "s"}
    volumes = pd.DataFrame(
        [row | {"patient": p, "scan": f"scan-{p}", "pixels_sha256": h} for p, h in (("a", "1"), ("b", "2"), ("c", "1"))]
    )
    with pytest.raises(UserError, match=r"scan-a of a.*scan-c of c"):
        duplicates.refuse(duplicates.find_duplicates(volumes))
    duplicates.refuse(duplicates.find_duplicates(volumes.iloc[:2]))
    again = volumes.assign(patient=["a", "b", "a"])  # a copy of one's own scan is no leak
    duplicates.refuse(duplicates.find_duplicates(again))


def test_one_scan_under_two_patients_is_found_in_a_table(cohort: cohorts.Cohort) -> None:
    table, train, test = values(cohort), of(cohort, "training"), of(cohort, "test")
    across = table.copy()
    across.loc[test[0]] = across.loc[train[0]].to_numpy()
    assert found(cohort, across) == ["LEAK_SAME_ROWS"]
    findings = leaks.find(across, parts(cohort))
    assert [(f.code, f.refuse) for f in findings] == [("LEAK_SAME_ROWS", True)]
    with pytest.raises(UserError, match=f"analyses: a: LEAK_SAME_ROWS.*{min(test[0], train[0])}"):
        leaks.check(findings, "analyses: a")
    within = table.copy()
    within.loc[train[1]] = within.loc[train[0]].to_numpy()
    assert found(cohort, within) == ["LEAK_SAME_ROWS"]
    findings = leaks.find(within, parts(cohort))
    assert [(f.code, f.refuse) for f in findings] == [("LEAK_SAME_ROWS", False)]
    assert leaks.check(findings, "analyses: a")
    counts = (table - 50).round().clip(-1, 1)  # scores that many patients share
    assert found(cohort, counts) == []


# 7 the outcome or its proxy among the features


def test_the_outcome_and_its_proxies_are_found(cohort: cohorts.Cohort) -> None:
    table, y = values(cohort), outcome(cohort)
    rng = np.random.default_rng(5)
    copy = table.assign(code=np.where(y.loc[table.index] > 0, 2.0, 1.0))
    assert found(cohort, copy) == ["LEAK_OUTCOME"]
    text = table.assign(word=pd.Series(np.where(y.loc[table.index] > 0, "sick", "well"), table.index, dtype="object"))
    assert found(cohort, text) == ["LEAK_OUTCOME"]
    proxy = table.assign(dose=y.loc[table.index] * 3 + rng.normal(0, 0.5, len(table)))
    assert found(cohort, proxy) == ["LEAK_PROXY"]
    cause = table.assign(
        cause=pd.Series(np.where(y.loc[table.index] > 0, rng.choice(["x", "z"], len(table)), "none"), table.index,
                        dtype="object")
    )  # fmt: skip
    assert found(cohort, cause) == ["LEAK_PROXY"]
    strong = table.assign(good=y.loc[table.index] * 2 + rng.normal(0, 1, len(table)))  # AUC about 0.92
    names = pd.Series([f"n{k}" for k in range(len(table))], table.index, dtype="object")
    assert found(cohort, strong.assign(name=names)) == []


def test_columns_of_the_outcome_are_no_predictors() -> None:
    for name, column in (("response", "response"), ("death", "time_days"), ("death", "event")):
        with pytest.raises(UserError, match=f"'{column}' is the outcome"):
            leaks.refuse_outcome_columns(("age_years", column), cohorts.OUTCOMES[name], "analyses: a")
        leaks.refuse_outcome_columns(("age_years", "stage"), cohorts.OUTCOMES[name], "analyses: a")


# 8 to 10 a generator, a segmenter, a checkpoint choice that saw test patients


@pytest.mark.parametrize("stage", ["synthesize", "segment"])
def test_a_network_that_saw_test_patients_is_refused_however_far_upstream(cohort: cohorts.Cohort, stage: str) -> None:
    network = fitted(cohort, stage, "networks", {"training": of(cohort, "external")[:4]})
    features = fitted(cohort, "harmonise", "main", {"training": of(cohort, "training")}, network)
    with pytest.raises(UserError, match=f"the {stage}.*has seen 4 of its patients"):
        analyse(cohort, [features])
    assert held_out_seen(cohort, features) == {f"the {stage}": 4}
    strangers = fitted(cohort, stage, "strangers", {"training": ["p9000"]})
    clean = fitted(cohort, "harmonise", "main", {"training": of(cohort, "training")}, strangers)
    assert analyse(cohort, [clean])["results"]
    assert held_out_seen(cohort, clean) == {}


def test_a_network_that_saw_training_patients_of_the_analysis_is_refused_too(cohort: cohorts.Cohort) -> None:
    """Images of seen patients differ from those of unseen ones: the chain would learn that difference."""
    network = fitted(cohort, "synthesize", "main", {"training": of(cohort, "training")[:3]})
    with pytest.raises(UserError, match="has seen 3 of its patients"):
        analyse(cohort, [network])


def test_a_checkpoint_chosen_on_test_patients_is_refused(cohort: cohorts.Cohort) -> None:
    leaky = fitted(cohort, "segment", "networks", {"training": ["p9000"], "validation": of(cohort, "test")[:2]})
    with pytest.raises(UserError, match="has seen 2 of its patients"):
        analyse(cohort, [leaky])
    assert held_out_seen(cohort, leaky) == {"the segment": 2}
    clean = fitted(cohort, "segment", "networks", {"training": ["p9000"], "validation": ["p9001"]})
    assert analyse(cohort, [clean])["results"]


# a threshold chosen on test data


def test_a_threshold_chosen_on_test_patients_is_found() -> None:
    rng = np.random.default_rng(8)
    y = rng.random(240) < 0.4
    score, training = rng.normal(size=240) + y, np.arange(240) < 120
    from_test = roc.youden(y[~training], score[~training])
    from_training = roc.youden(y[training], score[training])
    assert from_test != from_training
    assert [f.code for f in leaks.threshold(from_test, y, score, training)] == ["LEAK_THRESHOLD"]
    assert leaks.threshold(from_training, y, score, training) == []
    assert leaks.threshold(0.5, y, score, training) == []


def test_thresholds_of_a_chain_do_not_change_with_the_outcomes_of_test_patients(cohort: cohorts.Cohort) -> None:
    before = analyse(cohort, [])["results"]["mixed"]["ridge"]["threshold"]
    people = tables.read(cohort.patients, PATIENTS)
    rows = people["patient"].isin([*of(cohort, "test"), *of(cohort, "external")])
    people.loc[rows, "response"] = people.loc[rows, "response"].map({"yes": "no", "no": "yes"})
    tables.write(people, cohort.patients, PATIENTS)
    assert analyse(cohort, [])["results"]["mixed"]["ridge"]["threshold"] == before


def test_an_analysis_names_what_it_finds_and_stops_at_a_copy_of_the_outcome(cohort: cohorts.Cohort) -> None:
    frame = tables.read(cohort.features["mixed"], FEATURES)
    assert not [w for w in analyse(cohort, [])["warnings"] if "LEAK" in w]
    scaled = frame.copy()
    scaled[NAMES] = (frame[NAMES] - frame[NAMES].mean()) / frame[NAMES].std()
    tables.write(scaled, cohort.features["mixed"], FEATURES)
    assert [w for w in analyse(cohort, [])["warnings"] if "LEAK_SCALED: table 'mixed'" in w]
    copied = frame.assign(code=outcome(cohort).loc[frame["patient"]].to_numpy())
    tables.write(copied, cohort.features["mixed"], FEATURES)
    with pytest.raises(UserError, match=r"analyses: a: LEAK_OUTCOME: table 'mixed'"):
        analyse(cohort, [])
