"""Categories as predictors: codes equal scikit-learn's and R's, levels of training only, missing and absent ones."""

from __future__ import annotations

from pathlib import Path

import cohorts
import numpy as np
import pandas as pd
import pytest
from polycentric import tables
from polycentric.analysis import chain, classify, data, survive
from polycentric.coding import coded, indicators, per_patient
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.clinical import ColumnSettings
from polycentric.config.study import load
from polycentric.config.survival import SurvivalAnalysis
from polycentric.errors import UserError
from sklearn.preprocessing import OneHotEncoder

OFF: tuple = ()


def column(**settings) -> ColumnSettings:
    return ColumnSettings.model_validate(settings)


def design(front: chain.Front, x: pd.DataFrame) -> pd.DataFrame:
    """What the front makes of a table, before scaling."""
    z = front.transform(x) * front.scale_ + front.mean_
    return pd.DataFrame(z.round(12), columns=front.get_feature_names_out(), index=x.index)


def test_treatment_contrasts() -> None:
    # model.matrix(~ relevel(factor(site), ref = "insular")) without the constant, by hand
    values = pd.Series(["frontal", "insular", "temporal", "frontal", "insular"])
    levels = ["temporal", "frontal", "insular"]
    site, wrong = coded(values, column(type="categorical", values=levels, reference="insular"))
    assert not wrong.any()
    x = pd.DataFrame({"site": site})
    front = chain.Front(("site",), OFF).fit(x, np.array([0, 1, 0, 1, 1]))
    expected = pd.DataFrame({"site=frontal": [1, 0, 0, 1, 0], "site=temporal": [0, 0, 1, 0, 0]}, dtype=float)
    pd.testing.assert_frame_equal(design(front, x), expected)


@pytest.mark.parametrize("declared", [True, False])
def test_indicators_are_scikit_learns(declared: bool) -> None:
    rng = np.random.default_rng(4)
    train = pd.DataFrame({"a": rng.choice(["x", "y", "z"], 60, p=[0.2, 0.5, 0.3]), "b": rng.choice(["u", "v"], 60)})
    test = pd.DataFrame({"a": ["z", "w", "x", "y"], "b": ["u", "v", "v", "u"]})  # w was never seen
    reference = {"a": "z", "b": "u"} if declared else {n: train[n].value_counts().idxmax() for n in "ab"}
    own = {
        n: column(type="categorical", values=[*"xyzw"] if n == "a" else ["u", "v"], reference=reference[n])
        if declared
        else column(type="categorical")
        for n in "ab"
    }
    ours = [pd.DataFrame({n: coded(t[n], own[n])[0] for n in "ab"}) for t in (train, test)]
    front = chain.Front(("a", "b"), OFF, unseen="reference").fit(ours[0], rng.integers(0, 2, 60))
    encoder = OneHotEncoder(drop=[reference["a"], reference["b"]], handle_unknown="ignore", sparse_output=False)
    encoder.fit(train)
    names = [n.replace("_", "=") for n in encoder.get_feature_names_out()]
    with pytest.warns(UserWarning, match="unknown categories"):
        theirs = pd.DataFrame(encoder.transform(test), columns=names)
    pd.testing.assert_frame_equal(design(front, ours[1])[sorted(names)], theirs[sorted(names)])


def test_an_unseen_category_is_missing_and_gets_the_most_frequent_one() -> None:
    site, _ = coded(pd.Series([*"aabbbcc"]), column(type="categorical", values=[*"acbz"]))
    x = pd.DataFrame({"site": site})
    front = chain.Front((), OFF).fit(x, np.array([0, 1, 0, 1, 1, 0, 1]))
    test = pd.DataFrame({"site": pd.Categorical(["z", None, "a"], categories=[*"acbz"])})
    # the reference is a, the most frequent is b; medians of the indicators would all be 0
    made = design(front, test)
    assert made["site=b"].tolist() == [1, 1, 0]
    assert made["site=c"].tolist() == [0, 0, 0]
    assert design(chain.Front((), OFF, unseen="reference").fit(x, np.arange(7) % 2), test)["site=b"].tolist() == [
        0,
        1,
        0,
    ]


def test_forests_impute_whole_categories() -> None:
    rng = np.random.default_rng(0)
    number = rng.normal(size=300)
    site = np.array(["low", "middle", "high"])[np.digitize(number, [-0.6, 0.6])]
    x = pd.DataFrame({"number": number, "site": site.astype(object)})
    gaps = np.arange(0, 300, 7)
    x.loc[gaps, "site"] = None
    front = chain.Front((), OFF, {"method": "forest", "trees": 20}).fit(x, rng.integers(0, 2, 300))
    made = design(front, x)
    block = made[[f"site={level}" for level in front.categories_["site"]]].to_numpy()
    assert {*block.ravel()} == {0.0, 1.0}
    assert block.sum(axis=1).max() == 1
    levels = [front.references_["site"], *front.categories_["site"]]
    filled = np.array(levels)[np.where(block.any(axis=1), block.argmax(axis=1) + 1, 0)]
    assert (filled[gaps] == site[gaps]).mean() > 0.9  # the number tells the category; guessing is right half the time
    assert (np.delete(filled, gaps) == np.delete(site, gaps)).all()


@pytest.mark.parametrize(
    ("settings", "values", "expected"),
    [
        ({"type": "ordinal", "values": ["I", "II", "III"]}, ["II", None, "III", "I"], [1, np.nan, 2, 0]),
        ({"type": "ordinal", "values": ["1", "2", "4"]}, [4.0, 1, None, 2], [2, 0, np.nan, 1]),
        ({"type": "ordinal", "values": ["01", "02"]}, [1, 2, 2, None], [0, 1, 1, np.nan]),
        ({"type": "binary", "values": ["no", "yes"]}, ["yes", "no", None, "no"], [1, 0, np.nan, 0]),
        ({"type": "numeric"}, ["1.5", 2, None, 3], [1.5, 2, np.nan, 3]),
    ],
)
def test_codes(settings, values, expected) -> None:
    made, wrong = coded(pd.Series(values, dtype="object"), column(**settings))
    np.testing.assert_array_equal(made.to_numpy(), expected)
    assert not wrong.any()


def test_values_that_are_not_declared_are_told() -> None:
    made, wrong = coded(pd.Series(["I", "V", None]), column(type="ordinal", values=["I", "II"]))
    assert wrong.tolist() == [False, True, False]
    assert made.isna().tolist() == [False, True, True]
    frame = pd.DataFrame({"stage": ["I", "V"], "sex": ["f", "d"]})
    declared = {"stage": column(type="ordinal", values=["I", "II"]), "sex": column(type="binary", values=["f", "m"])}
    with pytest.raises(UserError) as caught:
        data.clinical(frame, ("stage", "sex"), "here", declared)
    assert len(caught.value.messages) == 2


def test_declared_columns_are_what_they_are_declared() -> None:
    # numbers that mean categories; without a declaration they are numbers
    frame = pd.DataFrame({"who": [1, 2, 4, 2]})
    as_categories = data.clinical(frame, ("who",), "here", {"who": column(type="categorical", values=[1, 2, 4])})
    assert list(as_categories["who"].cat.categories) == ["1", "2", "4"]
    free = data.clinical(frame, ("who",), "here", {"who": column(type="categorical")})
    assert free["who"].tolist() == ["1", "2", "4", "2"]
    assert data.clinical(frame, ("who",), "here")["who"].tolist() == [1.0, 2.0, 4.0, 2.0]


def test_rows_of_a_patient() -> None:
    table = pd.DataFrame(
        {"patient": [*"aabb"], "n": [1.0, 3.0, np.inf, 4.0], "s": ["u", "u", "u", "v"], "t": ["q", None, None, None]}
    )
    made, conflicts = per_patient(table, ["n", "s", "t"], "mean")
    assert made["n"].tolist() == [2, 4]
    assert made["s"].tolist() == ["u", None]
    assert made["t"].tolist() == ["q", None]
    assert conflicts == 1
    expected = pd.get_dummies(pd.Series(["u", None, "v"]), prefix="s", prefix_sep="=").astype(float)
    expected.iloc[1] = np.nan
    pd.testing.assert_frame_equal(indicators(pd.DataFrame({"s": ["u", None, "v"]})), expected)


def held_out() -> tuple[dict[str, pd.DataFrame], pd.DataFrame]:
    frame = pd.DataFrame(
        {"centre": [*"aaaabbcc"], "part": ["training"] * 3 + ["test"] + ["external"] * 4}, index=range(8)
    )
    table = pd.DataFrame(
        {
            "everywhere": np.arange(8.0),
            "not in b": [1.0, 2, 3, 4, np.nan, np.nan, 5, 6],
            "gap in test": [1.0, 2, 3, np.nan, 5, 6, 7, 8],  # by chance: the centre has it
            "not in training": [np.nan] * 3 + [1.0] * 5,
            "site": [*"xyxyzzxy"],
        }
    )
    return {"one": table, "two": table[["everywhere"]]}, frame


def policies(**more) -> ClassificationAnalysis:
    return ClassificationAnalysis(split="s", outcome="o", features=("f",), **more)


def test_what_held_out_centres_lack_or_add() -> None:
    made, warnings = data.predictors(*held_out(), policies(absent_variable="drop"), "here")
    assert list(made["one"]) == ["everywhere", "gap in test", "not in training", "site"]
    assert list(made["two"]) == ["everywhere"]
    assert warnings == [
        "No patient of b has a value of not in b, so no model uses it.",
        "2 patients outside training have a site that no training patient has; it counts as missing.",
    ]
    made, warnings = data.predictors(*held_out(), policies(unseen_category="reference"), "here")
    assert list(made["one"]) == list(held_out()[0]["one"])
    assert warnings[0] == "No patient of b has a value of not in b: imputed there from training patients alone."
    assert warnings[1].endswith("it counts as the reference category.")
    with pytest.raises(UserError) as caught:
        data.predictors(*held_out(), policies(absent_variable="error", unseen_category="error"), "here")
    assert len(caught.value.messages) == 2


def test_semantic_and_clinical_beside_radiomics(tmp_path: Path) -> None:
    cohort = cohorts.write(tmp_path, sizes={"north": 160, "south": 60}, external="south", features=3, signal=0.0)
    rng = np.random.default_rng(3)
    # the side decides the outcome; a third of the patients has none, and one side occurs in the external centre only
    frame = tables.read(cohort.features["mixed"], cohorts.FEATURES)
    response = cohort.frame["response"].eq("yes").to_numpy()
    side = np.where(rng.random(len(frame)) < 0.9, np.where(response, "left", "right"), "both").astype(object)
    side[rng.random(len(frame)) < 0.2] = None
    external = np.flatnonzero(cohort.frame["centre"].eq("south"))
    side[external[:4]] = "none"
    frame["side"] = pd.array(side, dtype="string")
    tables.write(frame, cohort.features["mixed"], cohorts.FEATURES)
    stage = {"stage": column(type="ordinal", values=["I", "II", "III"])}
    common = {"seed": 1, "features": cohort.features, "patients": cohort.patients, "split": cohort.split,
              "ledgers": [], "root": tmp_path, "settings_json": "{}", "code": "c", "columns": stage}  # fmt: skip
    quick = {"split": "main", "bootstraps": 20, "permutations": 0, "resampling": {"folds": 2, "repeats": 1}}
    metrics = classify.analyse(
        "c", ClassificationAnalysis(**quick, outcome="response", features=("mixed",), clinical=("stage",),
                                    models=("ridge",), imputation={"method": "forest", "trees": 5, "rounds": 2}),
        outcome=cohorts.OUTCOMES["response"], folder=tmp_path / "analyses/c", **common,
    )  # fmt: skip
    assert metrics["results"]["mixed"]["ridge"]["parts"]["external"]["auc"]["value"] > 0.8
    assert (
        "4 patients outside training have a side that no training patient has; it counts as missing."
        in (metrics["warnings"])
    )
    variables = pd.read_csv(tmp_path / "analyses/c/tables/variables.csv")["variable"].tolist()
    assert "stage" in variables
    assert sum(v.startswith("side=") for v in variables) == 2
    survival = SurvivalAnalysis(**quick, outcome="death", models={"m": {"clinical": ["stage"], "features": "mixed"}})
    metrics = survive.analyse(
        "s", survival, outcome=cohorts.OUTCOMES["death"], folder=tmp_path / "analyses/s", **common
    )
    assert any("have a side that no training" in w for w in metrics["warnings"])
    assert metrics["results"]["m"]["parts"]["external"]["c_index"]["value"] is not None


def test_harmonising_categories_is_refused_at_loading(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id\n")
    scores = {"kind": "imported", "table": str(tmp_path / "t.csv"), "centre": "north"}
    study = {
        "study": "s",
        "centres": {"north": {"simulate": {"patients": 4}}},
        "splits": {"main": {}},
        "features": {
            "scores": scores | {"coding": {"site": {"type": "categorical"}}},
            "both": {"kind": "joined", "of": ["scores", "score"]},
            "even": {"kind": "harmonised", "of": "both", "split": "main"},
        },
    }
    with pytest.raises(UserError) as caught:
        load(study)
    text = "\n".join(caught.value.messages)
    assert "features.both.of: 'score' is not defined under features:; did you mean 'scores'?" in text
    assert "features.even.of: feature set 'scores' has categories (site), and this needs numbers" in text
