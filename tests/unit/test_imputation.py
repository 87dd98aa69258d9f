"""Imputation inside training: values that other columns tell, nothing from the rows it is applied to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric.analysis import chain, tuning
from polycentric.analysis.artefacts import read_skops, write_skops
from polycentric.config.classification import ClassificationAnalysis

FOREST = {"method": "forest", "trees": 8, "rounds": 2, "predictors": 5}


def related(n: int, seed: int) -> np.ndarray:
    """Six columns of which the second and third follow the first; the last three are noise."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=n)
    return np.c_[a, 2 * a + 0.1 * rng.normal(size=n), a**2 + 0.1 * rng.normal(size=n), rng.normal(size=(n, 3))]


def lacking(x: np.ndarray, seed: int, share: float = 0.2) -> np.ndarray:
    made = x.copy()
    made[np.random.default_rng(seed).random(x.shape) < [0, share, share, share, 0, 0]] = np.nan
    return made


def test_forests_find_what_other_columns_tell():
    truth, new = related(200, 1), related(100, 2)
    imputer = chain.ForestImputer(trees=30).fit(lacking(truth, 3))
    given = lacking(new, 4)
    made = imputer.transform(given)
    missing = np.isnan(given)
    np.testing.assert_array_equal(made[~missing], given[~missing])
    for column, limit in ((1, 0.35), (2, 0.5)):  # against 1 for the median
        rows = missing[:, column]
        error = made[rows, column] - new[rows, column]
        median = np.median(new[:, column]) - new[rows, column]
        assert np.sqrt((error**2).mean() / (median**2).mean()) < limit


def test_rows_do_not_see_each_other_and_test_rows_change_nothing():
    truth = lacking(related(120, 1), 3)
    imputer = chain.ForestImputer(trees=10).fit(truth)
    given = lacking(related(20, 2), 4)
    together = imputer.transform(given)
    other = given.copy()
    other[10:] = 1e9
    np.testing.assert_array_equal(imputer.transform(other)[:10], together[:10])
    np.testing.assert_array_equal(imputer.transform(given[[3]])[0], together[3])
    # a column without missing values in training gets its training median
    given[0, 5] = np.nan
    assert imputer.transform(given)[0, 5] == np.median(truth[:, 5])


def test_a_column_without_values_and_a_table_without_gaps():
    x = related(40, 1)
    whole = chain.ForestImputer(trees=5).fit(x)
    np.testing.assert_array_equal(whole.transform(x), x)
    x[:, 3] = np.nan
    made = chain.ForestImputer(trees=5).fit(x).transform(x)
    assert (made[:, 3] == 0).all()


def test_the_chain_fits_it_in_every_fold_and_survives_a_file(tmp_path: Path):
    """Rows outside the fit leave the chain as it is, byte for byte; the stored chain gives the same probabilities."""
    settings = ClassificationAnalysis.model_validate(
        {"split": "main", "outcome": "y", "features": ["f"], "imputation": FOREST,
         "resampling": {"folds": 3, "repeats": 1}, "selection": [{"kind": "top", "count": 3}]}
    )  # fmt: skip
    frame = pd.DataFrame(lacking(related(90, 5), 6), columns=list("abcdef"))
    frame["stage"] = np.where(np.arange(90) % 3 == 0, "II", "I")
    frame.loc[4, "stage"] = None
    y = (related(90, 5)[:, 0] > 0).astype(int)
    made = []
    for changed in (False, True):
        table = frame.copy()
        if changed:
            table.iloc[60:, :6] = 1e6
        fit = tuning.fit_models(["lasso"], table.iloc[:60], y[:60], settings, rng=np.random.default_rng(0), seed=7)[
            "lasso"
        ]
        write_skops(fit.chain, tmp_path / f"{changed}.skops")
        made.append(fit)
    assert (tmp_path / "False.skops").read_bytes() == (tmp_path / "True.skops").read_bytes()
    loaded = read_skops(tmp_path / "False.skops")
    expected = made[0].probabilities(frame.iloc[60:])[:, 1]
    np.testing.assert_array_equal(loaded.predict_proba(frame.iloc[60:])[:, 1], expected)
    assert ((expected > 0.5) == y[60:]).mean() > 0.85


def test_out_of_fold_values_come_from_the_other_folds():
    """A row's own value cannot reach its imputed neighbours' fold: pure noise stays unpredictable."""
    rng = np.random.default_rng(8)
    settings = ClassificationAnalysis.model_validate(
        {"split": "main", "outcome": "y", "features": ["f"], "imputation": FOREST | {"trees": 4},
         "resampling": {"folds": 3, "repeats": 1}}
    )  # fmt: skip
    values = []
    for run in range(6):
        x = rng.normal(size=(60, 5))
        x[rng.random(x.shape) < 0.3] = np.nan
        y = np.arange(60) % 2
        fit = tuning.fit_models(["ridge"], pd.DataFrame(x, columns=list("abcde")), y, settings, rng=rng, seed=run)[
            "ridge"
        ]
        p = fit.out_of_fold[:, 1]
        values.append((p[y == 1][:, None] > p[y == 0]).mean())
    assert np.mean(values) == pytest.approx(0.5, abs=0.12)
