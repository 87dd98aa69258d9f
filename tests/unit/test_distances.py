"""Distances between sets of images against closed forms, other implementations, and simulated sets."""

from __future__ import annotations

import numpy as np
import pytest
from polycentric.distances import densities, frechet, kernel
from polycentric.fidelity import judge, resampling, sets
from scipy import linalg, stats

RNG = np.random.default_rng(0)


# ------------------------------------------------------------------------------------------------------------ Frechet


def by_root(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as written, by scipy's matrix root."""
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(one @ other).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 6), (40, 30, 40), (300, 20, 24), (2, 500, 3)])
def test_frechet_is_the_formula_whatever_the_shapes(n: int, m: int, d: int) -> None:
    mix = RNG.normal(size=(d, d))
    a, b = RNG.normal(size=(n, d)) @ mix, RNG.normal(size=(m, d)) @ mix * 1.3 + 0.4
    assert frechet.of_samples(a, b) == pytest.approx(by_root(a, b), rel=1e-5)
    assert frechet.of_samples(a, b) == pytest.approx(frechet.of_samples(b, a))


def test_frechet_of_known_normal_distributions() -> None:
    # commuting covariances: |mu|^2 + sum (s1 - s2)^2, and a shift alone gives its square exactly
    scale, other = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 1.5])
    a = RNG.normal(size=(40_000, 3)) * scale
    b = RNG.normal(size=(40_000, 3)) * other + [1.0, 0, 0]
    assert frechet.of_samples(a, b) == pytest.approx(1 + 1 + 0 + 1, rel=0.02)
    assert frechet.of_samples(a, a + 3.0) == pytest.approx(27)
    assert frechet.of_samples(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_agrees_with_monai() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    a, b = RNG.normal(size=(60, 12)), RNG.normal(0.3, 1.2, size=(80, 12))
    expected = metrics.FIDMetric()(torch.from_numpy(a), torch.from_numpy(b)).item()
    assert frechet.of_samples(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_refuses_what_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        frechet.of_samples(np.zeros((1, 3)), np.zeros((5, 3)))


# ------------------------------------------------------------------------------------------------------------- kernel


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    poly_mmd = pytest.importorskip("torchmetrics.image.kid").poly_mmd
    a, b = RNG.normal(size=(25, 8)), RNG.normal(0.5, 1, size=(25, 8))
    assert kernel.of_samples(a, b) == pytest.approx(float(poly_mmd(torch.from_numpy(a), torch.from_numpy(b))), rel=1e-9)


def test_kernel_distance_is_unbiased() -> None:
    found = [kernel.of_samples(RNG.normal(size=(12, 4)), RNG.normal(size=(12, 4))) for _ in range(400)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))
    # the expectation for a shift s of standard normals with kernel (xy/d + 1)^1 would be |s|^2 / d; cubic: by sampling
    far = RNG.normal(size=(4000, 4)), RNG.normal(1, 1, size=(4000, 4))
    k = [(x[:2000] * y[2000:]).sum(1) / 4 + 1 for x in far for y in far]
    independent = (k[0] ** 3).mean() + (k[3] ** 3).mean() - (k[1] ** 3).mean() - (k[2] ** 3).mean()
    assert kernel.of_samples(*(x[:600] for x in far)) == pytest.approx(independent, rel=0.25)


def test_slices_of_one_patient_are_no_independent_draws() -> None:
    # patients differ, their slices hardly: counted as independent, two real sets would seem far apart
    def patients(n: int) -> list[np.ndarray]:
        return [RNG.normal(size=(1, 6)) + RNG.normal(0, 0.05, (5, 6)) for _ in range(n)]

    naive, by_patient = [], []
    for _ in range(60):
        a, b = patients(8), patients(8)
        naive.append(kernel.of_samples(np.concatenate(a), np.concatenate(b)))
        one = np.ones(8)
        same = np.eye(8, dtype=bool)
        within = [kernel.Blocks.of(x, x, same).mean(one, one) for x in (a, b)]
        by_patient.append(sum(within) - 2 * kernel.Blocks.of(a, b, ~np.ones((8, 8), bool)).mean(one, one))
    error = np.std(by_patient) / np.sqrt(60)
    assert abs(np.mean(by_patient)) < 3 * error
    assert np.mean(naive) > 3 * error


# ---------------------------------------------------------------------------------------------------------- densities


def test_divergence_of_normal_distributions() -> None:
    grid = np.linspace(-12, 12, 2401)
    p, q = (stats.norm.pdf(grid, m, s) for m, s in ((0.0, 1.0), (0.5, 1.3)))
    p, q = p / p.sum(), q / q.sum()
    exact = np.log(1.3) + (1 + 0.25) / (2 * 1.69) - 0.5
    assert densities.kl_divergence(p, q) == pytest.approx(exact, rel=0.02)  # smoothing moves it a little
    eps = densities.SMOOTHING
    a, b = ((h + eps) / (h + eps).sum() for h in (p, q))
    assert densities.kl_divergence(p, q) == pytest.approx(stats.entropy(a, b))
    both = densities.kl_divergence(np.stack([p, q]), np.stack([p, p]))
    assert both[0] == pytest.approx(0, abs=1e-12)
    assert both[1] == pytest.approx(stats.entropy(b, a))


def test_correlation_intersection_and_difference_leave_empty_bins_out() -> None:
    p, q = RNG.dirichlet(np.ones(64)), RNG.dirichlet(np.ones(64))
    assert densities.correlation(p, q) == pytest.approx(stats.pearsonr(p, q).statistic)
    assert densities.intersection(p, p) == pytest.approx(1)
    assert densities.intersection(np.array([0.5, 0.5, 0]), np.array([0.25, 0.25, 0.5])) == pytest.approx(0.5)
    assert np.isnan(densities.correlation(np.ones(4) / 4, np.array([1.0, 0, 0, 0])))
    p[:20], q[50:] = np.nan, np.nan
    assert densities.correlation(p, q) == pytest.approx(stats.pearsonr(p[20:50], q[20:50]).statistic)
    assert densities.mean_difference(p, q) == pytest.approx(np.abs(p - q)[20:50].mean())
    assert np.isnan(densities.mean_difference(np.full(3, np.nan), np.ones(3)))


# -------------------------------------------------------------------------------- sets of patients, halves, intervals


def image_set(
    n: int,
    rng: np.random.Generator,
    *,
    shift: float = 0.0,
    name: str = "x",
    layers: int = 3,
    d: int = 6,
) -> sets.ImageSet:
    """Patients with histograms of normal values around `shift`, each a little other, and features of the same shift."""
    edges = np.linspace(-4, 6, 41)
    fine = np.empty((n, layers, 40), dtype=np.float32)
    features, layer = [], []
    for p in range(n):
        own = rng.normal(0, 0.3)
        for k in range(layers):
            fine[p, k] = np.diff(stats.norm.cdf(edges, shift + own + 0.3 * k, 1))
        features.append(rng.normal(shift, 1, (1, d)) + rng.normal(0, 0.3, (2 * layers, d)))
        layer.append(np.repeat(np.arange(layers), 2))
    fine /= fine.sum(-1, keepdims=True)
    coarse = np.stack([fine[..., :13].sum(-1), fine[..., 13:26].sum(-1), fine[..., 26:].sum(-1)], axis=-1)
    parts = {"fine": fine, "coarse": coarse, "radial": np.log10(fine + 1e-3), "plane": np.log10(fine + 1e-3)}
    names = [f"{name}{i:03d}" for i in range(n)]
    return sets.ImageSet(name, names, parts, features, layer, np.full((n, layers), 2), n)


def judged(images: sets.ImageSet, target: sets.ImageSet, seed: int, repeats: int = 20, bootstrap: int = 200) -> dict:
    sizes = len(images.patients), len(target.patients)
    rng = np.random.default_rng(seed)
    draws = [
        resampling.halves(*sizes, rng, repeats),
        resampling.resamples(*sizes, rng, bootstrap),
    ]
    found = {}
    for metric in judge.metrics_of(40, "FD_x"):
        values = judge.by_layer(metric, images, target, draws)
        found[metric.name] = judge.summarise(metric, values, n=sum(sizes), seed=seed)
    return found


def test_halves_are_disjoint_and_of_equal_number() -> None:
    for drawn in (resampling.halves(5, 20, RNG, 50), resampling.resamples(5, 20, RNG, 50)):
        assert (drawn.images.sum(1) == 5).all()
        assert not ((drawn.reference > 0) & (drawn.other > 0)).any()
        resampled = drawn.divisions > 1
        assert len(drawn) == (50 * drawn.divisions)
        assert (drawn.reference.max() > 1) == resampled
        assert (drawn.reference + drawn.other).sum() == len(drawn) * (20 if resampled else 10)
    assert resampling.size_of(50, 9) == 4


def test_real_images_are_as_near_as_real_images() -> None:
    # two sets of one distribution: every ratio is 1 and the kernel distance 0, within noise
    found = [
        judged(
            image_set(24, np.random.default_rng(s)),
            image_set(40, np.random.default_rng(1000 + s), name="t"),
            s,
            bootstrap=2,
        )
        for s in range(25)
    ]
    for metric, limit in (("histogram_intersection", 0.03), ("histogram_correlation", 0.03), ("log_psd", 0.25)):
        ratios = [f[metric][1]["value"] for f in found]
        assert np.mean(ratios) == pytest.approx(1, abs=max(limit, 3 * np.std(ratios) / 5)), metric
    for metric in ("kl_fine", "kl_coarse"):  # ratios of divergences are skewed
        assert np.exp(np.mean(np.log([f[metric][1]["value"] for f in found]))) == pytest.approx(1, abs=0.35), metric
    kernels = [f["kernel"][1]["value"] for f in found]
    assert abs(np.mean(kernels)) < 3 * np.std(kernels) / 5


def test_a_shift_is_found_in_every_layer_and_grows() -> None:
    rng = np.random.default_rng(3)
    target = image_set(40, rng, name="t")
    near, far = (judged(image_set(24, rng, shift=s), target, 3) for s in (0.5, 1.5))
    for metric in ("kl_fine", "kl_coarse", "log_psd"):
        assert 1 < near[metric][1]["value"] < far[metric][1]["value"]
        assert far[metric][1]["lower"] > 1
        assert all(row["against_baseline"] > 1 for row in far[metric][0])
    assert far["histogram_intersection"][1]["upper"] < 1
    assert far["kernel"][1]["lower"] > 0
    for metric, (rows, over) in far.items():
        assert over["lower"] <= over["value"] <= over["upper"], metric
        assert len(rows) == 3


def test_a_layer_that_the_images_lack_is_left_out() -> None:
    rng = np.random.default_rng(4)
    images, target = image_set(10, rng), image_set(20, rng, name="t")
    for values in images.densities.values():
        values[:, 1] = np.nan
    images.slices[:, 1] = 0
    found = judged(images, target, 4)["kl_fine"]
    assert found[1]["layers"] == 2
    assert np.isnan(found[0][1]["against_baseline"])
    assert np.isfinite(found[0][0]["against_baseline"])


def test_intervals_cover() -> None:
    """The truth is the value of very many patients; patients are what varies."""
    big = [image_set(400, np.random.default_rng(s), shift=shift, name="b") for s, shift in ((1, 0.6), (2, 0.0))]
    truth_kernel = kernel_truth(big)
    hits = {"kernel": 0, "histogram_intersection": 0}
    truth = None
    values = []
    for number in range(60):
        rng = np.random.default_rng(100 + number)
        found = judged(image_set(16, rng, shift=0.6), image_set(32, rng, name="t"), number, bootstrap=150)
        facts = found["kernel"][1]
        hits["kernel"] += facts["lower"] <= truth_kernel <= facts["upper"]
        values.append(found["histogram_intersection"][1])
    truth = np.mean([v["value"] for v in values])  # of sets of this size, by simulation
    hits["histogram_intersection"] = sum(v["lower"] <= truth <= v["upper"] for v in values)
    for metric, count in hits.items():
        assert 52 <= count <= 60, metric  # nominal 57; divisions add to the spread of the resamples


def kernel_truth(big: list[sets.ImageSet]) -> float:
    """Mean over layers of the kernel distance of two large sets: its expectation does not depend on the number."""
    found = []
    for layer in range(3):
        a, b = ([f[k == layer] for f, k in zip(s.features, s.layer, strict=True)] for s in big[:2])
        one = np.ones(400)
        same = np.eye(400, dtype=bool)
        across = kernel.Blocks.of(a, b, np.zeros((400, 400), bool)).mean(one, one)
        found.append(sum(kernel.Blocks.of(x, x, same).mean(one, one) for x in (a, b)) - 2 * across)
    return float(np.mean(found))


def test_pooled_frechet_against_real_images() -> None:
    rng = np.random.default_rng(7)
    target = [rng.normal(size=(1, 30)) * 0.3 + rng.normal(size=(6, 30)) for _ in range(30)]
    alike = [rng.normal(size=(1, 30)) * 0.3 + rng.normal(size=(6, 30)) for _ in range(15)]
    draws = [
        resampling.halves(15, 30, rng, 10),
        resampling.resamples(15, 30, rng, 40),
    ]
    same = judge.pooled_frechet("FD", alike, target, draws, seed=1)
    assert same["value"] == pytest.approx(1, abs=0.15)
    assert same["lower"] < 1 < same["upper"]
    other = judge.pooled_frechet("FD", [a + 1 for a in alike], target, draws, seed=1)
    assert other["images"] - same["images"] == pytest.approx(30, rel=0.15)  # the square of the shift
    assert other["lower"] > 1
