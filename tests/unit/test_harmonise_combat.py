"""ComBat against neuroCombat's numbers and against known shifts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from polycentric.errors import UserError
from polycentric.harmonise import ComBat

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "combat.json").read_text())
X = np.array(GOLDEN["X"])
BATCH = GOLDEN["batch"]
AGE = np.array(GOLDEN["age"])[:, None]
NEUROHARMONIZE = json.loads((Path(__file__).parents[1] / "golden" / "neuroharmonize.json").read_text())


@pytest.mark.parametrize(
    ("name", "options"),
    [("parametric", {}), ("nonparametric", {"parametric": False}), ("reference", {"reference": "b"})],
)
def test_equals_neurocombat(name, options):
    result = ComBat(**options).fit_transform(X, batch=BATCH, covariates=AGE)
    np.testing.assert_allclose(result, GOLDEN[name], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "covariates"),
    [("plain", None), ("covariate", AGE)],
)
def test_equals_neuroharmonize_under_its_stopping_rule(name, covariates):
    """To 1e-8 as it is; it stops before convergence, which moves some values by up to a percent of an SD."""
    expected = np.array(NEUROHARMONIZE[name])
    early = ComBat(stopping="neurocombat").fit_transform(X, batch=BATCH, covariates=covariates)
    np.testing.assert_allclose(early, expected, rtol=0, atol=1e-8)
    combat = ComBat().fit(X, batch=BATCH, covariates=covariates)
    converged = combat.transform(X, batch=BATCH, covariates=covariates)
    difference = np.abs((converged - expected) / combat.scale_).max()
    assert 1e-8 < difference < 0.01


def test_nonparametric_and_mean_only_are_their_equations():
    """Johnson et al. 2007, supplement: weights are likelihoods of a feature's rows under the effects of others."""
    combat = ComBat(parametric=False, mean_only=True).fit(X, batch=BATCH)
    S = (X - combat.mean_) / combat.scale_
    rows = S[np.array(BATCH) == "b"]
    g = rows.mean(0)
    for j in (0, 5):
        others = np.delete(g, j)
        likelihood = [np.prod(np.exp(-((rows[:, j] - o) ** 2) / 2) / np.sqrt(2 * np.pi)) for o in others]
        assert combat.shift_[1, j] == pytest.approx((likelihood * others).sum() / np.sum(likelihood), rel=1e-9)
    assert (combat.factor_ == 1).all()


def test_unseen_batch_through_phantoms():
    """A third batch without training patients measures 5 higher and three times as wide; phantoms tell."""
    rng = np.random.default_rng(8)
    affine = {"a": (0.0, 1.0), "b": (2.0, 1.5), "c": (5.0, 3.0)}

    def scanned(truth, batch):
        shift, scale = affine[batch]
        return 10 + shift + scale * truth + 0.01 * rng.normal(size=truth.shape)

    objects = rng.normal(size=(40, 25))
    names = np.repeat(["a", "b", "c"], 40)
    link = ComBat().fit(np.vstack([scanned(objects, b) for b in "abc"]), batch=names)
    truth = rng.normal(size=(300, 25))
    batch = np.repeat(["a", "b", "c"], 100)
    measured = np.vstack([scanned(truth[batch == b], b) for b in "abc"])
    known = batch != "c"
    combat = ComBat(unseen="phantom").fit(measured[known], batch=batch[known], phantom=link)
    result = combat.transform(measured, batch=batch)
    # patients of c land where their own features would, had they been scanned in a or b
    twin = combat.transform(np.vstack([scanned(truth[~known], "a"), scanned(truth[~known], "b")]),
                            batch=np.repeat(["a", "b"], 100))  # fmt: skip
    expected = (twin[:100] + twin[100:]) / 2
    # what remains is what empirical Bayes shrinks
    assert np.abs(result[~known] - expected).mean() < 0.2
    assert np.abs(measured[~known] - expected).mean() > 3
    again = ComBat.from_parameters(json.loads(json.dumps(combat.parameters())))
    np.testing.assert_array_equal(again.transform(measured, batch=batch), result)
    with pytest.raises(UserError, match="neither training rows nor phantom scans"):
        combat.transform(measured[:1], batch=["d"])
    with pytest.raises(UserError, match="needs phantom scans"):
        ComBat(unseen="phantom").fit(measured[known], batch=batch[known])


def simulated(seed: int, n: int = 400, features: int = 30):
    """Two batches with known shift 3 and scale 2 of the second, an effect of a covariate, a signal."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n, features))
    covariate = rng.normal(size=(n, 1))
    batch = np.where(rng.random(n) < 0.5, "a", "b")
    second = (batch == "b")[:, None]
    measured = 10 + 0.5 * covariate + np.where(second, 3 + 2 * signal, signal)
    return measured, batch, covariate, signal


def test_known_shift_and_scale_are_removed_from_new_patients():
    measured, batch, covariate, _ = simulated(1)
    combat = ComBat().fit(measured, batch=batch, covariates=covariate)
    new, at, covariate, signal = simulated(2)
    result = combat.transform(new, batch=at, covariates=covariate)
    second = at == "b"
    difference = result[second].mean(0) - result[~second].mean(0)
    expected = 0.5 * (covariate[second].mean() - covariate[~second].mean())
    assert np.abs(difference - expected).mean() < 0.25  # standard error of 400 rows with SD about 1.6, before: 3
    assert result[second].std(0).mean() / result[~second].std(0).mean() == pytest.approx(1, abs=0.05)
    within = np.mean([np.corrcoef(result[~second, j], signal[~second, j])[0, 1] for j in range(30)])
    assert within > 0.9  # what differs between patients of one batch stays


def test_covariate_effect_survives_when_batches_differ_in_it():
    rng = np.random.default_rng(3)
    batch = np.repeat(["a", "b"], 300)
    covariate = (rng.normal(size=600) + np.where(batch == "b", 2.0, 0.0))[:, None]
    measured = 1.0 * covariate + np.where(batch == "b", 5.0, 0.0)[:, None] + 0.5 * rng.normal(size=(600, 20))
    result = ComBat().fit_transform(measured, batch=batch, covariates=covariate)
    slopes = [np.polyfit(covariate[:, 0], result[:, j], 1)[0] for j in range(20)]
    assert np.mean(slopes) == pytest.approx(1, abs=0.02)


def test_mean_only_keeps_variances():
    measured, batch, _, _ = simulated(4)
    result = ComBat(mean_only=True).fit_transform(measured, batch=batch)
    for name in "ab":
        np.testing.assert_allclose(result[batch == name].std(0), measured[batch == name].std(0), rtol=1e-9)
    assert abs((result[batch == "a"].mean(0) - result[batch == "b"].mean(0)).mean()) < 0.1


def test_rows_are_transformed_one_by_one():
    measured, batch, covariate, _ = simulated(5, n=40)
    combat = ComBat().fit(measured, batch=batch, covariates=covariate)
    together = combat.transform(measured, batch=batch, covariates=covariate)
    for i in range(5):
        alone = combat.transform(measured[[i]], batch=batch[[i]], covariates=covariate[[i]])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-12)


def test_unseen_batch():
    combat = ComBat().fit(X, batch=BATCH)
    with pytest.raises(UserError, match="unseen: identity"):
        combat.transform(X[:2], batch=["a", "new"])
    result = combat.set_params(unseen="identity").transform(X[:2], batch=["a", "new"])
    np.testing.assert_array_equal(result[1], X[1])
    assert not np.allclose(result[0], X[0])


def test_constant_features_and_missing_values_stay():
    measured = X.copy()
    measured[:, 3] = 0.1
    measured[4, 0] = np.nan
    result = ComBat().fit_transform(measured, batch=BATCH)
    np.testing.assert_array_equal(result[:, 3], measured[:, 3])
    assert np.isnan(result[4, 0])
    assert np.isfinite(np.delete(result[:, 0], 4)).all()
    # the missing value leaves the feature's other rows nearly as they were without it
    whole = ComBat().fit_transform(np.where(np.isnan(measured), X, measured), batch=BATCH)
    assert np.abs(np.delete(result[:, 0] - whole[:, 0], 4)).max() < X[:, 0].std()


def test_parameters_restore_the_transformer():
    combat = ComBat().fit(X, batch=BATCH, covariates=AGE)
    again = ComBat.from_parameters(json.loads(json.dumps(combat.parameters())))
    np.testing.assert_array_equal(
        again.transform(X, batch=BATCH, covariates=AGE), combat.transform(X, batch=BATCH, covariates=AGE)
    )


def test_refusals():
    with pytest.raises(UserError, match="mean_only"):
        ComBat().fit(X[:10], batch=[*BATCH[:9], "z"])
    with pytest.raises(UserError, match="cannot be told apart"):
        ComBat().fit(X, batch=BATCH, covariates=(np.array(BATCH) == "b").astype(float)[:, None])
    with pytest.raises(UserError, match="no training rows"):
        ComBat(reference="z").fit(X, batch=BATCH)
