"""The learning benchmark: its simulator is frozen and does what it says; its checks pass and fail what they should."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # last: it holds a radiomics.py of its own
import learning  # noqa: E402
import learning_checks as checks  # noqa: E402
import learning_phantoms as phantoms  # noqa: E402

FROZEN = "b895203f9460177810fc25edf65ed508db1950a821e1cdd915230a77b4a1981a"


def test_the_simulator_is_the_frozen_one() -> None:
    assert hashlib.sha256((BENCHMARKS / "learning_phantoms.py").read_bytes()).hexdigest() == FROZEN


@pytest.fixture(scope="module")
def people() -> list:
    return [phantoms.patient(1, number) for number in (2000, 2001)]


def test_a_chest_is_what_it_says(people: list) -> None:
    for person in people:
        contrast, native = (person.scan(contrast=c).astype(float) for c in (True, False))
        pool = person.vessel > 0.99
        enhanced = (contrast - native)[pool].mean()
        assert enhanced == pytest.approx(person.enhancement_hu * person.gain[pool].mean(), abs=3)
        assert person.gain[pool].mean() == pytest.approx(1, abs=0.12)
        muscle = (person.tissue == phantoms.MUSCLE) & (person.vessel == 0)
        for scan in (contrast, native):  # noise of the size that is stated, at least 20 HU, and independent
            noise = (scan - person.native - (person.enhancement_hu * person.gain if scan is contrast else 0))[muscle]
            assert noise.std() == pytest.approx(person.noise_hu, rel=0.05)
            assert noise.std() > 19
        both = [(s - person.native)[person.tissue == phantoms.FAT] for s in (contrast, native)]
        assert abs(np.corrcoef(*both)[0, 1]) < 0.1
        radii = person.radius_mm[person.vessel > 0.3]
        assert radii[radii > 0].min() < 4 < 12 < radii.max()
    # the sharp kernel leaves finer grain: neighbours are less alike
    grains = []
    for person in people:
        noise = np.where(person.tissue == phantoms.MUSCLE, person.scan(contrast=False) - person.native, np.nan)
        one, other = noise[:, :, :-1].ravel(), noise[:, :, 1:].ravel()
        known = np.isfinite(one) & np.isfinite(other)
        grains.append(np.corrcoef(one[known], other[known])[0, 1])
    assert grains[0] > grains[1] + 0.2


def test_neither_sequence_alone_tells_the_hu() -> None:
    slab = phantoms.slab(1, 0)
    truth, first, second = slab.truth[slab.inserts], slab.first[slab.inserts], slab.second[slab.inserts]

    def unexplained(*images: np.ndarray) -> float:
        """Spread of HU within classes of bright and dark, as a share of all."""
        classes = sum((image > 0) * 2**k for k, image in enumerate(images))
        within = sum(truth[classes == c].var() * (classes == c).mean() for c in np.unique(classes))
        return float(within / truth.var())

    assert unexplained(first, second) < 0.2
    assert min(unexplained(first), unexplained(second)) > 2 * unexplained(first, second)


def test_checks_pass_the_truth_and_fail_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    # how dense the densest of a slice's soft tissue is stands for the features of the network
    def features(scans: list, _: object) -> np.ndarray:
        soft = [[hu[z][(hu[z] > 20) & (hu[z] < 400)] for z in range(8)] for hu in scans]
        return np.array([[np.quantile(values, (0.5, 0.9)) for values in own] for own in soft])

    monkeypatch.setattr(checks, "features", features)
    for name, fewer in (("RESAMPLES", 50), ("FOLDS", 2), ("DIVISIONS", 1)):
        monkeypatch.setattr(checks, name, fewer)
    monkeypatch.setattr(phantoms, "SHAPE", (10, 96, 96))
    everyone = [phantoms.patient(1, n) for n in (2000, 2001, 2002)]
    others = [phantoms.patient(1, n).scan(contrast=False) for n in (3000, 3001, 3002)]
    contrast = [p.scan(contrast=True) for p in everyone]
    perfect = [np.rint(c - p.enhancement_hu * p.gain) for c, p in zip(contrast, everyone, strict=True)]

    def failed(images: list) -> set[str]:
        found = checks.judge(everyone, images, others, None, seed=1)
        return {c["name"] for c in found["checks"] if not c["passed"]}

    detectable = "detectability below that of contrast, difference of areas"
    assert failed(perfect) <= {detectable}  # three patients are few for that
    assert failed(contrast) == {"blood pool, error of a patient", detectable}
    assert "tissue outside vessels, absolute change" in failed([c - 150 for c in contrast])
    blurred = [np.where(p.vessel >= 0.9, i, i + 30) for p, i in zip(everyone, perfect, strict=True)]
    assert "fat outside vessels, mean change" in failed(blurred)


def test_what_single_voxels_tell() -> None:
    # three of four voxels of 0 HU and the other of 100 are alike in the first sequence and differ in the second
    hu = np.tile([0.0, 0.0, 0.0, 100.0], 10).reshape(2, 4, 5)
    dark = np.full(hu.shape, -700, np.int16)
    slab = phantoms.Slab(hu.astype(np.int16), dark, np.where(hu > 50, 600, -700), hu, np.ones(hu.shape, dtype=bool))
    assert learning.by_brightness([slab], ["first"]) == 25
    assert learning.by_brightness([slab], ["second"]) == learning.by_brightness([slab], ["first", "second"]) == 0


def test_the_gain_of_an_input_is_found_and_not_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "RESAMPLES", 200)
    slabs = [phantoms.slab(1, n) for n in range(6)]
    worse, better = [s.truth + 40 for s in slabs], [s.truth - 10 for s in slabs]
    found = checks.gain(slabs, worse, better, seed=1)
    assert found["check"]["passed"]
    assert (found["check"]["value"], found["one"]["value"], found["several"]["value"]) == pytest.approx((30, 40, 10))
    assert not checks.gain(slabs, better, worse, seed=1)["check"]["passed"]
    # as often better as worse, by the same: no gain
    mixed = [w if n % 2 else b for n, (w, b) in enumerate(zip(worse, better, strict=True))]
    other = [b if n % 2 else w for n, (w, b) in enumerate(zip(worse, better, strict=True))]
    assert not checks.gain(slabs, mixed, other, seed=1)["check"]["passed"]
    means = learning.by_tissue(slabs, better)
    assert means["bone, 350 HU"] > 300 > means["blood, 90 HU"] > means["fluid, 5 HU"] > means["fat, -100 HU"]
