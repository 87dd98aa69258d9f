"""Statistics of agreement and of counts against R (tests/golden/agreement.R) and published examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from polycentric import bootstrap, contingency, kappa
from polycentric.bland_altman import bland_altman
from polycentric.concordance import averaged, concordance
from polycentric.estimates import wilson
from polycentric.randomness import generator
from scipy import stats

# Fleiss 1971: psychiatric diagnoses of 30 patients by 6 raters, as in R package irr
DIAGNOSES = """444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444 224445
333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444 133333 555555"""
# Bland and Altman 1986, table 1: peak expiratory flow of 17 subjects by a large and a mini Wright meter, first readings
LARGE = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)


@pytest.fixture(scope="module")
def r() -> dict[str, Any]:
    return json.loads((Path(__file__).parents[1] / "golden" / "agreement.json").read_text(encoding="utf-8"))


def diagnoses() -> np.ndarray:
    return kappa.counts(np.array([list(map(int, row)) for row in DIAGNOSES.split()]))


def test_fleiss_kappa_equals_r_irr() -> None:
    value, z, p = kappa.fleiss(diagnoses())
    assert value == pytest.approx(0.4302445, abs=5e-8)
    assert z == pytest.approx(17.65183, abs=5e-6)
    assert p < 1e-60


def test_kappa_of_each_diagnosis_equals_r_irr() -> None:
    """kappam.fleiss(diagnoses, detail = TRUE): depression, personality disorder, schizophrenia, neurosis, other."""
    values, z, _ = kappa.fleiss_categories(diagnoses())
    assert values == pytest.approx([0.245, 0.245, 0.520, 0.471, 0.566], abs=5.01e-4)
    assert z == pytest.approx([5.192, 5.192, 11.031, 9.994, 12.009], abs=5.01e-4)


def test_fleiss_kappa_refuses_unequal_numbers_of_ratings() -> None:
    with pytest.raises(ValueError, match="same number"):
        kappa.fleiss(np.array([[3, 0], [1, 1]]))


def test_kappa_of_raters_who_guess_is_near_zero_and_its_interval_covers_it() -> None:
    rng = generator(1, "test")
    table = kappa.counts(rng.integers(0, 2, (400, 4)))
    _, z, _ = kappa.fleiss(table)
    value, lower, upper, used = bootstrap.by_cluster(
        lambda w: kappa.fleiss_values(table, w), np.arange(400), rng, resamples=200
    )
    assert used == 200
    assert abs(z) < 3
    assert lower < value < upper
    assert lower < 0.05
    assert upper > -0.05


def test_the_bootstrap_of_weights_is_that_of_drawn_items() -> None:
    """A weight of 2 is an item drawn twice."""
    table = diagnoses()
    drawn = generator(3, "test").integers(0, len(table), len(table))
    weights = np.bincount(drawn, minlength=len(table))[None].astype(float)
    assert kappa.fleiss_values(table, weights)[0] == pytest.approx(kappa.fleiss(table[drawn])[0], abs=1e-12)
    first, second = np.array([0, 1, 2, 2, 1, 0, 0, 1]), np.array([0, 1, 1, 2, 2, 0, 1, 1])
    weights = np.array([[2, 0, 1, 3, 0, 1, 1, 0]], dtype=float)
    counted = np.zeros((3, 3))
    np.add.at(counted, (first, second), weights[0])
    w = kappa.agreement_weights(3, "linear")
    assert kappa.cohen_values(first, second, w, weights)[0] == pytest.approx(
        kappa.cohen(counted, weights="linear").value, abs=1e-12
    )


def test_clusters_are_drawn_as_a_whole() -> None:
    """Ten copies of every row under one name add nothing: the interval stays that of the single rows."""
    x = generator(5, "test").normal(size=40)
    one = bootstrap.by_cluster(lambda w: w @ x / w.sum(axis=1), np.arange(40), generator(1, "b"), resamples=2000)
    many, names = np.tile(x, 10), np.tile(np.arange(40), 10)
    other = bootstrap.by_cluster(lambda w: w @ many / w.sum(axis=1), names, generator(1, "b"), resamples=2000)
    assert other == pytest.approx(one, abs=1e-12)
    assert one[2] - one[1] == pytest.approx(2 * 1.96 * x.std() / np.sqrt(40), rel=0.1)


@pytest.mark.parametrize("pair", ["ab", "ac", "bc"])
@pytest.mark.parametrize("weights", ["unweighted", "linear", "quadratic"])
def test_cohen_kappa_equals_r_psych_and_statsmodels(r: dict[str, Any], pair: str, weights: kappa.Weights) -> None:
    """psych 2.2.9 takes row sums for column sums in the variance of weighted kappa: that one is statsmodels' alone."""
    first, second = (np.array(r["ratings"][c]) for c in pair)
    table = np.zeros((4, 4))
    np.add.at(table, (first - 1, second - 1), 1)
    value, variance = r["cohen"][pair][weights]
    found = kappa.cohen(table, weights=weights)
    error = (found.upper - found.lower) / 2 / stats.norm.ppf(0.975)
    assert found.value == pytest.approx(value, abs=1e-8)
    if weights == "unweighted":
        assert error == pytest.approx(np.sqrt(variance), abs=1e-8)
    from statsmodels.stats.inter_rater import cohens_kappa

    other = cohens_kappa(table, wt=None if weights == "unweighted" else weights)
    assert error == pytest.approx(other.std_kappa, abs=1e-10)
    assert found.value / found.z == pytest.approx(other.std_kappa0, abs=1e-10)


def test_kappa_as_published() -> None:
    """Fleiss, Cohen and Everitt 1969: 200 diagnoses by two; kappa .429 with variance .002885."""
    table = 200 * np.array([[0.53, 0.05, 0.02], [0.11, 0.14, 0.05], [0.01, 0.06, 0.03]])
    found = kappa.cohen(table)
    assert found.value == pytest.approx(0.429, abs=5e-4)
    assert ((found.upper - found.lower) / 2 / stats.norm.ppf(0.975)) ** 2 == pytest.approx(0.002885, abs=5e-6)


def test_icc_equals_r_psych_on_the_data_of_shrout_and_fleiss(r: dict[str, Any]) -> None:
    scores = np.array(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
    )
    found = concordance(scores[:, :, None])
    singles = [found.icc_1, found.icc_a, found.icc_c]
    forms = [*singles, *(averaged(one, 4) for one in singles)]
    golden = r["shrout_fleiss"]
    for field, key in (("value", "icc"), ("lower", "lower"), ("upper", "upper")):
        assert [float(getattr(one, field)[0]) for one in forms] == pytest.approx(golden[key], abs=1e-8), key
    assert [found.f_one_way[0], found.f_two_way[0]] == pytest.approx(golden["f"][:2], abs=1e-8)
    assert [found.p_one_way[0], found.p_two_way[0]] == pytest.approx(golden["p"][:2], abs=1e-10)
    # as printed by Shrout and Fleiss 1979, table 4
    assert [round(float(one.value[0]), 2) for one in forms] == [0.17, 0.29, 0.71, 0.44, 0.62, 0.91]


def test_bland_altman_as_published_for_peak_flow() -> None:
    """Bland and Altman 1986: bias -2.1 l/min (-22.0 to 17.8), SD 38.8; limits by two SD -79.7 and 75.5."""
    found = bland_altman(np.array(LARGE), np.array(MINI))
    assert found.bias["value"] == pytest.approx(-2.1, abs=0.05)
    assert [found.bias["lower"], found.bias["upper"]] == pytest.approx([-22.0, 17.8], abs=0.1)
    assert found.sd == pytest.approx(38.8, abs=0.05)
    assert found.lower["value"] == pytest.approx(found.bias["value"] - 1.959964 * found.sd, abs=1e-4)
    # their approximate intervals (-114.3 to -45.1 and 40.9 to 110.1) reach less far outwards than exact ones
    assert found.lower["lower"] < -114.3
    assert found.upper["upper"] > 110.1


def test_intervals_of_limits_are_exact(r: dict[str, Any]) -> None:
    for n, factors in r["carkeet"].items():
        x = generator(2, "test", n).normal(size=int(n))
        found = bland_altman(x, np.zeros(int(n)))
        bounds = [(found.upper[k] - x.mean()) / x.std(ddof=1) for k in ("lower", "upper")]
        assert bounds == pytest.approx(factors, abs=1e-7)


def test_limits_cover_and_a_planted_slope_is_found() -> None:
    rng = generator(4, "test")
    inside = 0
    for _ in range(400):
        found = bland_altman(rng.normal(0.3, 1, 12), np.zeros(12))
        inside += found.upper["lower"] <= 0.3 + 1.959964 <= found.upper["upper"]
    assert abs(inside / 400 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 400) + 0.02
    size = rng.uniform(10, 100, 300)
    found = bland_altman(1.2 * size + rng.normal(0, 1, 300), size)
    # d = 0.2 s, mean = 1.1 s
    assert found.slope["lower"] < 0.2 / 1.1 < found.slope["upper"]
    assert found.p_slope < 1e-10
    fit = stats.linregress(found.mean, found.difference)
    assert [found.slope["value"], found.p_slope] == pytest.approx([fit.slope, fit.pvalue], rel=1e-8)
    residuals = np.abs(found.difference - fit.intercept - fit.slope * found.mean)
    ranks = stats.spearmanr(found.mean, residuals)
    assert [found.widening, found.p_widening] == pytest.approx([ranks.statistic, ranks.pvalue], rel=1e-8)
    ratios = bland_altman(1.2 * size * np.exp(rng.normal(0, 0.1, 300)), size, ratio=True)
    assert ratios.bias["lower"] < 1.2 < ratios.bias["upper"]
    assert ratios.upper["value"] == pytest.approx(1.2 * np.exp(1.96 * 0.1), rel=0.03)


@pytest.mark.parametrize("name", ["t33", "t25", "t44", "tea"])
def test_fisher_equals_r(r: dict[str, Any], name: str) -> None:
    golden = r["fisher"][name]
    found = contingency.fisher(np.array(golden["table"]), generator(1, "test"))
    assert found.name == "Fisher"
    assert found.p == pytest.approx(golden["p"], rel=1e-7)


def test_fisher_by_draws_is_near_the_exact_p(r: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contingency, "STEPS", 100)
    golden = r["fisher"]["job"]
    found = contingency.fisher(np.array(golden["table"]), generator(1, "test"))
    assert found.name == "Fisher, 9999 draws"
    assert abs(found.p - golden["p"]) < 4 * np.sqrt(golden["p"] * (1 - golden["p"]) / 9999)


def test_tests_of_counts_equal_r(r: dict[str, Any]) -> None:
    found = contingency.chi_squared(np.array(r["chisq"]["table"]))
    assert [found.statistic, found.p] == pytest.approx([r["chisq"]["statistic"], r["chisq"]["p"]], abs=1e-10)
    found = contingency.two_proportions(*r["prop"]["counts"])
    assert [found.statistic**2, found.p] == pytest.approx([r["prop"]["chisq"], r["prop"]["p"]], abs=1e-10)
    assert contingency.against_share(61, 100, 0.5) == pytest.approx(r["binom"]["p"], abs=1e-10)


def test_mcnemar_as_in_agresti_and_r(r: dict[str, Any]) -> None:
    """Agresti 1990: approval of a prime minister, 1,600 people asked twice."""
    (a, b), (c, d) = r["mcnemar"]["table"]
    first = np.repeat([True, True, False, False], [a, b, c, d])
    second = np.repeat([True, False, True, False], [a, b, c, d])
    found = contingency.mcnemar(first, second)
    golden = r["mcnemar"]
    assert [found.chi_squared, found.p_corrected] == pytest.approx([golden["chisq"], golden["p"]], abs=1e-8)
    assert found.p_exact == pytest.approx(golden["exact"], rel=1e-7)
    small = r["mcnemar_small"]
    found = contingency.mcnemar(np.arange(15) < small["b"], np.arange(15) >= small["b"])
    assert [found.p_exact, found.p_mid] == pytest.approx([small["exact"], small["mid"]], abs=1e-10)
    nothing = contingency.mcnemar(np.array([True, False]), np.array([True, False]))
    assert (nothing.p_exact, nothing.p_mid) == (1.0, 1.0)


def test_difference_of_paired_proportions_as_published() -> None:
    """Newcombe 1998, Stat Med 17:2635, table II, method 10, rows 36 12 2 0 and 54 0 0 0."""
    first = np.repeat([True, True, False, False], [36, 12, 2, 0])
    second = np.repeat([True, False, True, False], [36, 12, 2, 0])
    found = contingency.paired_difference(first, second)
    assert [found["value"], found["lower"], found["upper"]] == pytest.approx([0.2, 0.0569, 0.3404], abs=5e-5)
    same = np.ones(54, dtype=bool)
    found = contingency.paired_difference(same, same)
    assert [found["value"], found["lower"], found["upper"]] == pytest.approx([0, -0.0664, 0.0664], abs=5e-5)


def test_crossed_bootstrap_is_wider_than_answers_counted_as_independent() -> None:
    """Readers of unequal skill: an interval that speaks for other readers must be wider than the binomial one."""
    rng = generator(2, "test")
    skill = np.linspace(0.35, 0.95, 6)
    correct = (rng.random((6, 80)) < skill[:, None]).astype(float)
    lower, upper, used = bootstrap.crossed_interval(correct, np.repeat([0, 1], 40), rng, resamples=400)
    naive = wilson(int(correct.sum()), correct.size)
    assert used == 400
    assert upper - lower > 1.5 * (naive["upper"] - naive["lower"])
    assert lower < correct.mean() < upper


def test_intervals_of_kappa_cover_the_planted_one() -> None:
    """Raters see the truth with chance s and else guess by the same shares: kappa is s squared (0.64)."""
    rng = generator(7, "test")
    shares, cohorts, inside = np.array([0.4, 0.3, 0.2, 0.1]), 300, {"fleiss": 0, "cohen": 0}
    for _ in range(cohorts):
        truth = rng.choice(4, 60, p=shares)
        said = np.where(rng.random((60, 3)) < 0.8, truth[:, None], rng.choice(4, (60, 3), p=shares))
        counts = kappa.counts(said, range(4))
        _, lower, upper, _ = bootstrap.by_cluster(
            lambda w, c=counts: kappa.fleiss_values(c, w), np.arange(60), rng, resamples=300
        )
        inside["fleiss"] += lower <= 0.64 <= upper
        table = np.zeros((4, 4))
        np.add.at(table, (said[:, 0], said[:, 1]), 1)
        found = kappa.cohen(table)
        inside["cohen"] += found.lower <= 0.64 <= found.upper
    for name, hits in inside.items():
        assert abs(hits / cohorts - 0.95) < 0.02 + 3 * np.sqrt(0.95 * 0.05 / cohorts), name


@pytest.mark.parametrize(
    ("k", "n", "lower", "upper"),
    # Newcombe, Stat Med 1998;17:857, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(k: int, n: int, lower: float, upper: float) -> None:
    found = wilson(k, n)
    assert [found["lower"], found["upper"]] == pytest.approx([lower, upper], abs=5e-5)
