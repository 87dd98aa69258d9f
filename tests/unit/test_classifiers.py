"""The classifiers, selection steps and measures against other implementations and against arithmetic by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from polycentric.analysis import (
    boosted,
    classifiers,
    discriminants,
    multiclass,
    penalised,
    roc,
    schemes,
    selection,
    svm,
    treeshap,
    tuning,
)
from polycentric.analysis.artefacts import read_skops, write_skops
from polycentric.analysis.classify_evaluate import lesion_samples
from polycentric.analysis.classify_study import join
from polycentric.analysis.thresholds import threshold_at
from polycentric.config.classification import ClassificationAnalysis
from scipy import stats
from sklearn.cross_decomposition import PLSRegression
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import Pipeline


def example(classes: int, n: int = 120, p: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Standardised columns; the class depends on the first two."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    eta = np.c_[np.zeros(n), 1.5 * x[:, 0], -1.2 * x[:, 1]][:, :classes]
    p_ = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = (rng.random(n)[:, None] > p_.cumsum(axis=1)).sum(axis=1)
    return (x - x.mean(axis=0)) / x.std(axis=0), y


def settings(**more: object) -> ClassificationAnalysis:
    base = {"split": "s", "outcome": "o", "features": ("f",), "resampling": {"folds": 3, "repeats": 1}, "trees": 20}
    return ClassificationAnalysis.model_validate(base | more)


@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("balanced", [False, True])
def test_penalised_fits_of_three_classes_agree_with_saga(ratio: float, balanced: bool) -> None:
    x, y = example(3)
    mine = penalised.PenalisedLogistic(0.03, ratio, balanced).fit(x, y)
    other = LogisticRegression(l1_ratio=ratio, C=1 / (len(y) * 0.03), solver="saga", tol=1e-9, max_iter=50000,
                               class_weight="balanced" if balanced else None)  # fmt: skip
    assert mine.converged_
    assert mine.predict_proba(x) == pytest.approx(other.fit(x, y).predict_proba(x), abs=1e-5)


def test_the_unpenalised_fit_agrees_with_statsmodels_and_says_when_classes_separate() -> None:
    x, y = example(2)
    mine = penalised.PenalisedLogistic(0.0).fit(x, y)
    other = sm.Logit(y, sm.add_constant(x)).fit(disp=0, tol=1e-14)
    assert np.r_[mine.intercept_, mine.coef_[0]] == pytest.approx(other.params, abs=1e-7)
    separated = penalised.PenalisedLogistic(0.0).fit(x, (x[:, 0] > 0).astype(int))
    assert not separated.converged_
    assert np.isfinite(separated.coef_).all()


def test_a_ridge_of_more_columns_than_rows_is_the_same_model() -> None:
    x, y = example(2, n=40, p=90)
    mine = penalised.PenalisedLogistic(0.1).fit(x, y)
    other = LogisticRegression(C=1 / (40 * 0.1), solver="newton-cholesky", tol=1e-12).fit(x, y)
    assert mine.coef_[0] == pytest.approx(other.coef_[0], abs=1e-6)


def test_pls_agrees_with_scikit_learn_and_discriminates_as_lda_of_its_scores() -> None:
    for classes in (2, 3):
        x, y = example(classes)
        rotations = discriminants.pls_weights(x, y, 3)
        other = PLSRegression(3, scale=True, tol=1e-14, max_iter=10000).fit(x, np.eye(classes)[y]).transform(x)
        for mine, theirs in zip((x @ rotations).T, other.T, strict=True):
            assert abs(np.corrcoef(mine, theirs)[0, 1]) == pytest.approx(1, abs=1e-6)
        model = discriminants.PlsDa(2).fit(x, y)
        scores = x @ model.rotations_
        # scikit-learn divides the pooled covariance by n, we by n - K: its distances are ours times n / (n - K)
        lda = LinearDiscriminantAnalysis().fit(scores, y)
        prior = np.log(np.bincount(y) / len(y))
        ours = np.log(model.predict_proba(scores @ np.linalg.pinv(model.rotations_)))
        theirs = (np.log(lda.predict_proba(scores)) - prior) * (len(y) - classes) / len(y) + prior
        assert ours - ours[:, :1] == pytest.approx(theirs - theirs[:, :1], abs=1e-8)


def test_nearest_shrunken_centroids_choose_as_scikit_learn() -> None:
    x, y = example(3)
    for shrinkage in (0.0, 1.0, 2.5):
        mine = discriminants.NearestCentroid(shrinkage, balanced=True).fit(x, y)
        other = NearestCentroid(shrink_threshold=shrinkage or None).fit(x, y)
        if shrinkage:
            assert mine.centroids_ == pytest.approx(other.centroids_, abs=0.02)
        assert mine.temperature_ >= 1
    nothing = discriminants.NearestCentroid(50.0).fit(x, y)
    assert nothing.predict_proba(x) == pytest.approx(np.tile(np.bincount(y) / len(y), (len(y), 1)))


def test_platt_scaling_is_the_stated_logistic_regression() -> None:
    x, y = example(2)
    values = 3 * x[:, 0]
    slope, constant = svm.platt(values, y)
    k, n = y.sum(), len(y)
    goal = np.where(y == 1, (k + 1) / (k + 2), 1 / (n - k + 2))
    other = sm.GLM(goal, sm.add_constant(values), family=sm.families.Binomial()).fit(tol=1e-14)
    assert (constant, slope) == pytest.approx(other.params, abs=1e-7)
    for kernel in ("linear", "rbf"):
        for classes in (2, 3):
            x, y = example(classes, n=900)
            p = svm.PlattSvm(kernel, 1.0).fit(x[:400], y[:400]).predict_proba(x[400:])
            assert p.sum(axis=1) == pytest.approx(1)
            # calibrated where it was not fitted, although the machine itself knows no probabilities
            assert p.mean(axis=0) == pytest.approx(np.bincount(y[400:]) / 500, abs=0.06)
            sure = p[:, 1] > 0.7
            assert (y[400:][sure] == 1).mean() > 0.65


@pytest.mark.parametrize("classes", [2, 3])
def test_boosting_in_stages_and_shapley_values_add_up(classes: int, tmp_path: Path) -> None:
    x, y = example(classes)
    model = boosted.BoostedTrees(rounds=30, seed=3)
    early = model.staged(x, y, [10, 30], x)
    model.fit(x, y)
    assert early[1] == pytest.approx(model.predict_proba(x), abs=1e-6)
    assert early[0] == pytest.approx(boosted.BoostedTrees(rounds=10, seed=3).fit(x, y).predict_proba(x), abs=1e-6)
    p = model.predict_proba(x)
    eta = np.log(p[:, 1:] / (1 - p[:, 1:])) if classes == 2 else np.log(p)
    rest = eta - model.shapley(x).sum(axis=2)  # what is left is the same for everybody, up to what classes share
    rest = rest if classes == 2 else rest - rest.mean(axis=1, keepdims=True)
    assert np.ptp(rest, axis=0) == pytest.approx(0, abs=1e-4)
    write_skops(Pipeline([("model", model)]), tmp_path / "m.skops")
    np.testing.assert_array_equal(read_skops(tmp_path / "m.skops").predict_proba(x), p)


def test_shapley_values_of_a_forest_are_those_of_the_definition() -> None:
    x, y = example(3, n=60, p=4)
    model = RandomForestClassifier(5, max_depth=4, random_state=0).fit(x, y)
    values = treeshap.forest(model, x)
    expected = treeshap.expected(model)
    assert values.sum(axis=2) + expected == pytest.approx(model.predict_proba(x), abs=1e-12)

    def known(tree: object, row: np.ndarray, columns: set[int], node: int = 0) -> np.ndarray:
        """What a tree predicts when only some columns are known."""
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            return tree.value[node, 0] / tree.value[node, 0].sum()
        if tree.feature[node] in columns:
            way = left if np.float32(row[tree.feature[node]]) <= tree.threshold[node] else right
            return known(tree, row, columns, way)
        size = tree.weighted_n_node_samples
        parts = [size[way] / size[node] * known(tree, row, columns, way) for way in (left, right)]
        return parts[0] + parts[1]

    for row in (0, 17):
        for i in range(4):
            total = np.zeros(3)
            for order in itertools.permutations(range(4)):  # the definition: mean over all orders
                before = set(order[: order.index(i)])
                for e in model.estimators_:
                    total += known(e.tree_, x[row], before | {i}) - known(e.tree_, x[row], before)
            assert values[row, :, i] == pytest.approx(total / 24 / 5, abs=1e-12)


def test_out_of_bag_probabilities_are_those_of_scikit_learn() -> None:
    x, y = example(3)
    builder = lambda kind, s: classifiers.build(kind, s, trees=50, balanced=False, seed=4)  # noqa: E731
    mine = classifiers.out_of_bag([{"share": 0.0, "leaf": 3}], x, y, builder)[0]
    other = RandomForestClassifier(50, min_samples_leaf=3, oob_score=True, random_state=4).fit(x, y)
    assert mine == pytest.approx(other.oob_decision_function_, abs=1e-12)


@pytest.mark.parametrize("kind", ["lasso", "elastic-net", "ridge", "pls-da", "xgboost", "linear-svm"])
def test_many_settings_at_once_are_the_single_fits(kind: str) -> None:
    x, y = example(2)
    builder = lambda k, s: classifiers.build(k, s, trees=5, balanced=True, seed=4)  # noqa: E731
    grid = classifiers.GRIDS[kind]
    together = classifiers.predict_settings(kind, grid, x[:90], y[:90], x[90:], builder)
    for setting, p in zip(grid, together, strict=True):
        alone = classifiers.fit(kind, setting, x[:90], y[:90], builder).predict_proba(x[90:])
        assert p == pytest.approx(alone, abs=1e-3)
    assert len(grid) <= 10


def test_single_tests_agree_with_scipy() -> None:
    x, y = example(3, n=60)
    x = np.c_[x, np.round(x[:, 0])]  # with ties
    share, p = selection.kruskal(x, y)
    theirs = [stats.kruskal(*(column[y == k] for k in range(3))) for column in x.T]
    assert p == pytest.approx([t.pvalue for t in theirs], abs=1e-12)
    assert share * 59 == pytest.approx([t.statistic for t in theirs])
    assert selection.kendall(x, y) == pytest.approx([stats.kendalltau(c, y).statistic for c in x.T], abs=1e-12)


def test_steps_of_selection_do_what_they_say() -> None:
    rng = np.random.default_rng(2)
    n = 200
    y = np.repeat([0, 1], n // 2)
    base = rng.normal(size=(n, 6))
    signal = base[:, 0] + 1.2 * y
    x = np.c_[signal, signal + 0.05 * rng.normal(size=n), base[:, 1] + 0.8 * y, base[:, 2:]]

    def choose(*steps: dict) -> list[int]:
        return selection.choose(x, y, selection.steps(steps)).tolist()

    # 0 and 1 say the same: mRMR takes one of them, then 2, which is weaker alone
    taken = choose({"kind": "mrmr", "count": 2})
    assert len({0, 1} & set(taken)) == 1
    assert 2 in taken
    assert set(choose({"kind": "top", "count": 2})) == {0, 1}
    assert set(choose({"kind": "kendall", "at_least": 0.2})) == {0, 1, 2}
    for by in ("ridge", "random-forest", "xgboost"):
        found = choose({"kind": "correlation"}, {"kind": "elimination", "count": 2, "by": by})
        assert 2 in found
        assert len({0, 1} & set(found)) == 1
    assert set(choose({"kind": "forest", "count": 3, "forests": 20, "trees": 5})) == {0, 1, 2}
    # steps act one after the other
    assert choose({"kind": "top", "count": 1}, {"kind": "variance", "above": 100.0}) == []
    assert choose() == list(range(7))


def test_the_lower_mean_correlation_stays() -> None:
    rng = np.random.default_rng(3)
    a, b, c = rng.normal(size=(3, 300))
    # 0 and 1 are too similar; 1 resembles 2 as well, so 0 resembles the others less
    x = np.c_[a, a + 0.3 * b, b, c]
    kept = selection.choose(
        x, np.arange(300) % 2,
        selection.steps([{"kind": "correlation", "above": 0.9, "keep": "lower-mean-correlation", "method": "pearson"}]),
    )  # fmt: skip
    means = (np.abs(np.corrcoef(x.T)).sum(axis=0) - 1) / 3
    assert means[0] < means[1]
    assert set(kept) == {0, 2, 3}


def test_measures_of_several_classes_agree_with_scikit_learn() -> None:
    x, y = example(3)
    p = penalised.PenalisedLogistic(0.1).fit(x[:, :3], y).predict_proba(x[:, :3])
    assert multiclass.discrimination(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovo"), abs=1e-12)
    assert multiclass.macro(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr"), abs=1e-12)
    once = [np.ones((1, int((y == k).sum()))) for k in range(3)]
    assert multiclass.bootstrap_values(y, p, once)[0] == pytest.approx(multiclass.discrimination(y, p))
    assert multiclass.macro_values(y, p, once)[0] == pytest.approx(multiclass.macro(y, p))
    # a sample that draws some patients twice is the AUC of those rows
    drawn = multiclass.weights(y, 3, 1, np.random.default_rng(0))
    rows = np.concatenate([np.repeat(np.flatnonzero(y == k), drawn[k][0].astype(int)) for k in range(3)])
    assert multiclass.bootstrap_values(y, p, drawn)[0] == pytest.approx(multiclass.discrimination(y[rows], p[rows]))
    assert multiclass.macro_values(y, p, drawn)[0] == pytest.approx(multiclass.macro(y[rows], p[rows]))


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_of_lesions_in_samples_is_that_of_the_drawn_lesions(classes: int) -> None:
    rng = np.random.default_rng(classes)
    patient, y = np.repeat(np.arange(20), 3), rng.integers(0, classes, 60)
    p = rng.dirichlet(np.ones(classes), 60).round(1)
    p[:, 0] = 1 - p[:, 1:].sum(axis=1)
    drawn = rng.multinomial(20, np.full(20, 1 / 20), size=4)
    found = lesion_samples(y, p, drawn[:, patient].astype(float))
    for k in range(4):
        rows = np.concatenate([np.tile(np.flatnonzero(patient == i), drawn[k, i]) for i in range(20)])
        assert found[k] == pytest.approx(multiclass.discrimination(y[rows], p[rows]))


def test_the_threshold_of_a_sensitivity_is_the_highest_that_reaches_it() -> None:
    x, y = example(2)
    score = np.round(x[:, 0], 1)
    _, true, at = roc_curve(y, score, drop_intermediate=False)
    for wanted in (0.5, 0.9, 0.95, 0.999):
        mine = threshold_at(y, score, wanted)
        assert (score[y == 1] >= mine).mean() >= wanted
        theirs = at[np.flatnonzero(true >= wanted)[0]]
        assert (score >= mine).tolist() == (score >= theirs).tolist()


def test_lesions_join_by_hand() -> None:
    p = np.array([0.2, 0.5, 0.9, 0.1])
    both, patient = np.c_[1 - p, p], np.array([0, 0, 1, 1])
    assert join(both, patient, "maximum")[:, 1] == pytest.approx([0.5, 0.9])
    assert join(both, patient, "mean")[:, 1] == pytest.approx([0.35, 0.5])
    assert join(both, patient, "noisy-or")[:, 1] == pytest.approx([1 - 0.8 * 0.5, 1 - 0.1 * 0.9])


def test_folds_keep_the_lesions_of_a_patient_together() -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(30), rng.integers(1, 6, 30))
    y = (patient % 3 == 0).astype(int)
    count, repeats = tuning.draw_folds(y, patient, 5, 2, rng)
    assert count == 5
    for parts in repeats:
        assert sorted(np.concatenate(parts)) == list(range(len(patient)))
        owner = [set(patient[rows]) for rows in parts]
        assert sum(len(o) for o in owner) == 30
        assert all(len(set(y[rows])) == 2 for rows in parts)


def test_the_corrected_interval_by_hand_and_in_simulation() -> None:
    values = np.array([0.6, 0.7, 0.8, 0.7])
    found = schemes.corrected(values, 0.25, n=100, level=0.95)
    half = stats.t.ppf(0.975, 3) * np.sqrt((1 / 4 + 0.25) * values.var(ddof=1))
    assert (found["value"], found["lower"], found["upper"]) == pytest.approx((0.7, 0.7 - half, 0.7 + half))


def test_selection_inside_the_folds_finds_nothing_in_noise_and_outside_it_would() -> None:
    inside, outside = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x = pd.DataFrame(rng.normal(size=(60, 300)), columns=[f"f{k}" for k in range(300)])
        y = np.arange(60) % 2
        steps = [{"kind": "top", "count": 5}]
        honest = tuning.fit_models(["ridge"], x, y, settings(selection=steps), rng=np.random.default_rng(1), seed=1)
        leaked = x.iloc[:, selection.choose(x.to_numpy(), y, selection.steps(steps))]
        twin = tuning.fit_models(["ridge"], leaked, y, settings(selection=[]), rng=np.random.default_rng(1), seed=1)
        inside.append(roc.auc(y, honest["ridge"].out_of_fold[:, 1]))
        outside.append(roc.auc(y, twin["ridge"].out_of_fold[:, 1]))
    assert np.mean(inside) == pytest.approx(0.5, abs=0.12)
    assert np.mean(outside) > 0.7


@pytest.mark.parametrize("kind", ["random", "bayes"])
def test_searches_are_repeatable_and_no_worse_than_the_worst_setting(kind: str) -> None:
    pytest.importorskip("optuna")
    x, y = example(2, n=80)
    frame = pd.DataFrame(x, columns=list("abcdef"))
    chosen = settings(search={"kind": kind, "trials": 8}, selection=[])
    made = [
        tuning.fit_models(["ridge", "pls-da", "logistic"], frame, y, chosen, rng=np.random.default_rng(1), seed=1)
        for _ in range(2)
    ]
    for model in ("ridge", "pls-da", "logistic"):
        one, other = (m[model] for m in made)
        assert one.tried == other.tried
        np.testing.assert_array_equal(one.out_of_fold, other.out_of_fold)
        losses = [row["log_loss"] for row in one.tried]
        assert len(losses) == (1 if model == "logistic" else 8)
        own = next(row for row in one.tried if {k: v for k, v in row.items() if k != "log_loss"} == one.setting)
        assert own["log_loss"] == min(losses)
        # the log loss that was compared is that of the out-of-fold probabilities
        assert tuning.log_loss(y, one.out_of_fold) == pytest.approx(own["log_loss"])


@pytest.mark.parametrize(("sampling", "size"), [("undersample", 20), ("oversample", 80)])
def test_balanced_sampling_draws_as_many_of_each_class(sampling: str, size: int) -> None:
    y = np.repeat([0, 1], [80, 20])
    rows = tuning.sampled(y, sampling, 1, 0)
    assert np.bincount(y[rows]).tolist() == [size, size]
    if sampling == "undersample":
        assert len(set(rows)) == len(rows)
    else:
        assert set(range(100)) == set(rows)
