"""Paired measures, structure, seams and hidden signals: against other implementations and planted changes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import ledger, tables
from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import SynthesisProbe
from polycentric.errors import UserError
from polycentric.fidelity import paired, structure, windows
from polycentric.fidelity.probe import probe
from polycentric.tables import schemas
from scipy import ndimage

RNG = np.random.default_rng(0)


def pair() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    truth = ndimage.gaussian_filter(RNG.normal(0, 3000, (14, 24, 28)), 2) + 40
    image = truth + RNG.normal(0, 40, truth.shape)
    within = np.zeros(truth.shape, bool)
    within[2:12, 4:20, 4:24] = True
    return truth, image, within


def test_paired_measures_agree_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    truth, image, within = pair()
    a, b = (np.where(within, v.clip(-1024, 3071), -1024) for v in (truth, image))
    _, found = metrics.structural_similarity(a, b, data_range=4095, full=True, win_size=7)
    assert paired.structural_similarity(truth, image, within) == pytest.approx(found[within].mean(), rel=1e-6)
    psnr = metrics.peak_signal_noise_ratio(a[within], b[within], data_range=4095)
    assert paired.peak_signal_to_noise(truth, image, within) == pytest.approx(psnr)
    assert paired.mean_absolute_error(truth, image, within) == pytest.approx(np.abs(a - b)[within].mean())


def test_paired_measures_in_another_range_and_of_a_single_plane() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    truth, image, within = (v[5:6] for v in pair())
    truth, image = truth / 300, image / 300
    a, b = (np.where(within, v.clip(-1, 2), -1) for v in (truth, image))
    _, found = metrics.structural_similarity(a[0], b[0], data_range=3, full=True, win_size=7)
    limits = (-1.0, 2.0)
    assert paired.structural_similarity(truth, image, within, limits) == pytest.approx(found[within[0]].mean(), 1e-6)
    psnr = metrics.peak_signal_noise_ratio(a[within], b[within], data_range=3)
    assert paired.peak_signal_to_noise(truth, image, within, limits) == pytest.approx(psnr)
    assert paired.mean_absolute_error(truth, image, within, limits) == pytest.approx(np.abs(a - b)[within].mean())


def test_paired_measures_of_equal_images_and_of_a_known_shift() -> None:
    truth, _, within = pair()
    assert paired.mean_absolute_error(truth, truth, within) == 0
    assert paired.peak_signal_to_noise(truth, truth, within) == np.inf
    assert paired.structural_similarity(truth, truth, within) == pytest.approx(1)
    assert paired.mean_absolute_error(truth, truth + 25, within) == pytest.approx(25)
    assert paired.peak_signal_to_noise(truth, truth + 25, within) == pytest.approx(20 * np.log10(4095 / 25))
    # what lies outside the mask, or beyond the range, does not count
    outside = truth.copy()
    outside[~within] += 500
    assert paired.mean_absolute_error(truth, outside, within) == 0
    assert paired.mean_absolute_error(truth - 5000, truth - 6000, within) == 0
    assert np.isnan(paired.mean_absolute_error(truth, truth, np.zeros(truth.shape, bool)))
    assert np.isnan(paired.structural_similarity(truth[:5], truth[:5], within[:5]))


def scene(shift: int = 0, blur: float = 0.0) -> np.ndarray:
    z, y, x = np.ogrid[:16, :48, :48]
    image = np.full((16, 48, 48), 40.0)
    image[np.broadcast_to((y - 24) ** 2 + (x - 14 - shift) ** 2 < 64, image.shape)] = -850
    image[np.broadcast_to((y - 24) ** 2 + (x - 36 - shift) ** 2 < 25, image.shape) & (z >= 0)] = 700
    image = ndimage.gaussian_filter(image, (0, blur, blur)) if blur else image
    return image + np.random.default_rng(1).normal(0, 5, image.shape)


def test_structure_that_stays_and_structure_that_moves() -> None:
    within = np.ones((16, 48, 48), bool)
    spacing = (1.0, 1.0, 2.0)
    source = scene()
    darker = source.copy()
    darker[(source > 0) & (source < 100)] -= 30  # soft tissue changes, the anatomy does not
    same, moved = (structure.region_overlaps(source, i, within) for i in (darker, scene(4)))
    assert same == {"lung or gas": 1, "bone": 1}
    # two discs of radius r, d apart: the exact area of their intersection
    r, d = 8.0, 4.0
    exact = (2 * r * r * np.arccos(d / 2 / r) - d / 2 * np.sqrt(4 * r * r - d * d)) / (np.pi * r * r)
    assert moved["lung or gas"] == pytest.approx(exact, abs=0.04)
    kept, lost = (structure.edges_kept(source, i, within, spacing) for i in (darker, scene(6)))
    assert kept["edge_agreement"] > 0.95
    assert kept["gradient_correlation"] > 0.95
    assert lost["edge_agreement"] < 0.7
    assert lost["gradient_correlation"] < 0.5
    blurred = structure.edges_kept(source, scene(0, 3.0), within, spacing)
    assert lost["gradient_correlation"] < blurred["gradient_correlation"] < kept["gradient_correlation"]
    assert np.isnan(structure.dice(np.zeros(3, bool), np.zeros(3, bool)))


# ------------------------------------------------------------------------------------------------------------ windows


@pytest.mark.parametrize(("length", "window", "stride"), [(100, 32, 16), (33, 32, 16), (32, 32, 8), (20, 32, 16)])
def test_windows_lie_where_the_inference_puts_them(length: int, window: int, stride: int) -> None:
    pytest.importorskip("torch")
    from polycentric.inference import sliding

    if length >= window:
        assert windows.starts(length, window, stride) == sliding.starts(length, window, stride)
    found = windows.borders(length, window, stride)
    assert all(0 < b < length for b in found)
    assert bool(found) == (length > window)


def test_seams_are_found_and_smooth_changes_have_none() -> None:
    shape, window, stride = (24, 40, 40), (8, 16, 16), (8, 12, 12)
    within = np.ones(shape, bool)
    noise = RNG.normal(0, 5, shape)
    assert windows.seams(noise, within, window, stride) == pytest.approx(1, abs=0.03)
    offsets = noise.copy()
    for axis in range(3):
        for border in windows.borders(shape[axis], window[axis], stride[axis]):
            part = [slice(None)] * 3
            part[axis] = slice(border, None)
            offsets[tuple(part)] += 20  # a step of 20 HU at every border
    # |20 + noise of a difference| against |noise of a difference|, whose mean is sigma sqrt(2) sqrt(2 / pi)
    assert windows.seams(offsets, within, window, stride) == pytest.approx(
        20 / (5 * np.sqrt(2) * np.sqrt(2 / np.pi)), rel=0.05
    )
    assert windows.seams(np.zeros(shape), within, window, stride) == 1  # nothing changes: no seams
    assert np.isnan(windows.seams(noise, within, shape, shape))  # one window: no borders
    assert np.isnan(windows.seams(noise, np.zeros(shape, bool), window, stride))


def test_strides_converge_to_the_finest() -> None:
    image = RNG.normal(0, 100, (8, 32, 32))
    window = (8, 16, 16)

    def translate(hu: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
        """Each window adds its own number: averaged over overlaps, as an inference does."""
        total, weight = np.zeros(hu.shape), np.zeros(hu.shape)
        for y in windows.starts(32, 16, stride[1]):
            for x in windows.starts(32, 16, stride[2]):
                total[:, y : y + 16, x : x + 16] += (y + x) % 7
                weight[:, y : y + 16, x : x + 16] += 1
        return hu + total / weight

    found = windows.convergence(
        image, translate, [(8, 16, 16), (8, 4, 4), (8, 8, 8)], window=window, within=np.ones(image.shape, bool)
    )
    assert [f.stride[1] for f in found] == [4, 8, 16]
    assert found[0].mean_hu == found[0].largest_hu == 0
    assert [f.windows for f in found] == [25, 9, 4]
    assert found[1].mean_hu < found[2].mean_hu


def test_disagreement_is_the_deviation_of_what_windows_say() -> None:
    image = RNG.normal(0, 100, (4, 12, 12))
    calls = iter(range(100))
    values: list[tuple[tuple[slice, ...], float]] = []
    for y in windows.starts(12, 8, 4):
        values += [((slice(0, 4), slice(y, y + 8), slice(x, x + 8)), 0.0) for x in windows.starts(12, 8, 4)]

    found = windows.disagreement(image, lambda w: w + 10 * next(calls), window=(4, 8, 8), stride=(4, 4, 4))
    stacked = np.full((len(values), *image.shape), np.nan)
    for number, (at, _) in enumerate(values):
        stacked[(number, *at)] = 10 * number
    np.testing.assert_allclose(found, np.nanstd(stacked, axis=0), atol=1e-4)
    assert not windows.disagreement(image, lambda w: w, window=(4, 8, 8), stride=(4, 4, 4)).any()
    with pytest.raises(ValueError, match="smaller than the window"):
        windows.disagreement(image, lambda w: w, window=(8, 8, 8), stride=(4, 4, 4))


def test_a_hidden_signal_is_found_and_an_honest_generator_is_not_accused() -> None:
    image = np.zeros((6, 24, 24))
    image[:, 8:16, 8:16] = 150.0  # enhancement, which the forward generator takes away
    image += 40
    within = np.ones(image.shape, bool)

    def hides(hu: np.ndarray) -> np.ndarray:
        return np.full(hu.shape, 40.0) + (hu - 40) / 100  # the enhancement stays, at a hundredth of its size

    hidden = windows.steganography(
        image, hides, lambda hu: 40 + (hu - 40) * 100, np.random.default_rng(0), within=within
    )
    honest = windows.steganography(
        image, lambda hu: np.full(hu.shape, 40.0), lambda hu: hu, np.random.default_rng(0), within=within
    )
    assert hidden[0].error_hu == pytest.approx(0, abs=1e-9)  # a perfect cycle
    for one in hidden:
        assert one.amplification == pytest.approx(100)
        assert one.error_with_noise_hu == pytest.approx(100 * one.sigma_hu * np.sqrt(2 / np.pi), rel=0.05)
    for one in honest:
        assert one.amplification == pytest.approx(1)
        assert one.error_with_noise_hu < one.error_hu + one.sigma_hu


# -------------------------------------------------------------------------------------------------------------- probe


def test_probe_finds_what_windows_and_cycles_do(tmp_path: Path) -> None:
    parts = {f"p{i}": "training" if i < 2 else "test" for i in range(8)}
    cohort = Phantom(tmp_path, parts)
    written = tmp_path / "ledger.json"

    def run(seen: list[str], back: bool) -> dict:
        facts = {"name": "m", "stage": "synthesis", "split": "main", "settings": "{}", "code": "0"}
        ledger.write(written, seen={"training": seen}, **facts)

        def predict(hu: np.ndarray) -> np.ndarray:
            return hu - hu.mean() / 10  # depends on what the window sees

        def translate(hu: np.ndarray, stride: tuple[int, int, int]) -> np.ndarray:
            total, weight = np.zeros(hu.shape), np.zeros(hu.shape)
            for z, y, x in itertools.product(
                *(windows.starts(n, w, s) for n, w, s in zip(hu.shape, (8, 12, 12), stride, strict=True))
            ):
                at = slice(z, z + 8), slice(y, y + 12), slice(x, x + 12)
                total[at] += predict(hu[at])
                weight[at] += 1
            return total / weight

        probe(
            "probe", SynthesisProbe(synthesis="m", scans=2),
            synthesis=Synthesis(
                split="main", source={"view": "ct", "where": "contrast == 'yes'"}, target={"view": "ct"},
                patch=(12, 12, 8), generator={"downs": 1}, discriminator={"layers": 1},
            ),
            generators=SimpleNamespace(
                translate=translate, predict=predict, back=(lambda hu: 7 * hu) if back else None
            ), seed=1,
            source=[cohort.view], target=[cohort.view],
            scans=cohort.scans, patients=cohort.patient_table, split=cohort.split,
            ledgers=[written], root=tmp_path, folder=tmp_path / "analyses" / "probe", settings_json="{}", code="0",
        )  # fmt: skip
        return json.loads((tmp_path / "analyses" / "probe" / "metrics.json").read_text())

    found = run(["p0"], back=True)
    estimates = found["estimates"]
    assert found["patients"] == 2
    assert estimates["noise_amplification"]["value"] == pytest.approx(7)
    assert estimates["coarsest_stride_mean_hu"]["value"] > 1
    assert estimates["coarsest_stride_seams"]["value"] > 1.05
    assert estimates["own_stride_mean_hu"]["value"] == 0  # a quarter of the window, which is the finest here
    assert estimates["disagreement_mean_hu"]["value"] > 1
    assert all(e["lower"] <= e["value"] <= e["upper"] and e["n"] == 2 for e in estimates.values())
    listed = tables.read(tmp_path / "analyses" / "probe" / "manifest.tsv", schemas.ARTEFACTS)
    assert {Path(p).name for p in listed["path"]} >= {"summary.svg", "disagreement-1.png", "strides.csv", "noise.csv"}
    assert "noise_amplification" not in run(["p0"], back=False)["estimates"]
    # another modality has no HU to compare the way back with; where the body is, the synthetic image tells
    scans = tables.read(cohort.scans, schemas.SCANS)
    tables.write(scans.assign(modality="MR"), cohort.scans, schemas.SCANS)
    other = run(["p0"], back=True)["estimates"]
    assert "noise_amplification" not in other
    assert other["coarsest_stride_mean_hu"]["value"] == pytest.approx(
        estimates["coarsest_stride_mean_hu"]["value"], 0.2
    )
    with pytest.raises(UserError, match="'m' behind its inputs has seen 1"):
        run(["p4"], back=False)
