"""Steps for MR images: bias fields that are known, white matter whose level is known, standards of a training set."""

from __future__ import annotations

import numpy as np
import pytest
from polycentric.config.views import View
from polycentric.errors import ScanError
from polycentric.prepare import Context, apply
from polycentric.prepare.steps.mri import white_matter_peak
from polycentric.volumes import Geometry, Volume
from scipy import ndimage

SHAPE = (24, 48, 48)
N4 = {"kind": "n4", "shrink": 2, "iterations": [20, 20, 10]}


def volume_of(array, spacing=(1.0, 1.0, 1.0)) -> Volume:
    return Volume(np.asarray(array), Geometry(np.asarray(array).shape[::-1], spacing))


def head(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels (0 air, 1 fluid, 2 grey, 3 white) and a T1-like image with 110, 220 and 320 and noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    radius = np.sqrt(((z - 12) / 11) ** 2 + ((y - 24) / 21) ** 2 + ((x - 24) / 19) ** 2)
    folds = ndimage.gaussian_filter(rng.normal(size=SHAPE), 3)
    labels = np.where(radius < 1, np.where(folds > 0.0, 3, 2), 0)
    labels[radius < 0.3] = 1
    levels = np.array([0, 110, 220, 320])
    return labels, np.abs(levels[labels] + rng.normal(0, 8, SHAPE)).astype(np.float32)


def field() -> np.ndarray:
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    log = 0.25 * x - 0.2 * y**2 + 0.15 * y * z
    return np.exp(log - log.mean()).astype(np.float32)


def variation(array: np.ndarray, labels: np.ndarray) -> float:
    return float(array[labels == 3].std() / array[labels == 3].mean())


@pytest.mark.parametrize("where", ["all", "otsu", "region"])
def test_n4_finds_a_known_field(where):
    labels, truth = head()
    biased = truth * field()
    mask = (labels >= 2).astype(np.uint8)
    view = {
        "all": View(steps=[N4 | {"iterations": [5, 5]}]),
        "otsu": View(steps=[N4 | {"foreground": "otsu"}]),
        "region": View(
            masks="manual",
            steps=[N4 | {"inside": {"rois": ["brain"], "without": ["ventricles"]}}],
        ),
    }[where]
    masks = {"brain": volume_of((labels > 0).astype(np.uint8)), "ventricles": volume_of((labels == 1).astype(np.uint8))}
    context = Context(masks)
    made = apply(view, volume_of(biased, (2.0, 2.0, 3.0)), _moved(context, (2.0, 2.0, 3.0))).array
    assert made.dtype == np.float32
    inside = mask > 0
    found = np.log(biased[inside] / np.maximum(made[inside], 1e-3))
    if where == "all":  # air with its noise takes part, as in the definition
        assert variation(made, labels) < variation(biased, labels)
    else:
        assert np.corrcoef(found, np.log(field())[inside])[0, 1] > 0.97
        assert variation(made, labels) < 0.4 * variation(biased, labels)
    again = apply(view, volume_of(biased, (2.0, 2.0, 3.0)), _moved(context, (2.0, 2.0, 3.0))).array
    np.testing.assert_array_equal(made, again)


def _moved(context: Context, spacing) -> Context:
    return Context({roi: volume_of(mask.array, spacing) for roi, mask in context.masks.items()})


def test_n4_corrects_the_region_alone_where_asked():
    labels, truth = head()
    biased = truth * field()
    view = View(masks="manual", steps=[N4 | {"inside": "brain", "correct": "region"}])
    made = apply(view, volume_of(biased), Context({"brain": volume_of((labels > 0).astype(np.uint8))})).array
    np.testing.assert_array_equal(made[labels == 0], biased[labels == 0])
    assert variation(made, labels) < 0.4 * variation(biased, labels)
    with pytest.raises(ScanError, match="VIEW_NOT_POSITIVE"):
        apply(View(steps=[{"kind": "n4"}]), volume_of(-truth - 1))


def test_white_stripe_finds_white_matter():
    labels, image = head()
    context = Context({"brain": volume_of((labels > 0).astype(np.uint8))})
    view = View(masks="manual", steps=[{"kind": "white-stripe", "inside": "brain"}])
    made = apply(view, volume_of(image), context).array
    white = image[labels == 3].astype(float)
    # white matter lies at 0; the stripe is a part of its distribution, so its SD is below that of the tissue
    assert made[labels == 3].mean() == pytest.approx(0, abs=0.5)
    slope = np.polyfit(image.ravel(), made.ravel(), 1)
    assert -slope[1] / slope[0] == pytest.approx(np.median(white), abs=3)
    note = context.notes[0]
    assert note["peak"] == pytest.approx(320, abs=3)
    # whatever gain and offset the scanner has, the result is the same
    other = apply(view, volume_of(2.5 * image + 40), context).array
    np.testing.assert_allclose(other, made, atol=2e-2)
    # T2: white matter is the highest peak wherever it lies
    assert white_matter_peak(np.concatenate([white - 200, white[: len(white) // 3]]), "t2") == pytest.approx(120, abs=3)


def test_white_stripe_agrees_with_another_implementation():
    peer = pytest.importorskip("intensity_normalization.normalizers.individual.whitestripe")
    nibabel = pytest.importorskip("nibabel")
    from intensity_normalization.adapters.images import NibabelImageAdapter

    labels, image = head(1)
    mask = (labels > 0).astype(np.uint8)
    view = View(masks="manual", steps=[{"kind": "white-stripe", "inside": "brain"}])
    made = apply(view, volume_of(image), Context({"brain": volume_of(mask)})).array
    wrap = [NibabelImageAdapter(nibabel.Nifti1Image(a, np.eye(4))) for a in (image.astype(np.float64), mask)]
    normaliser = peer.WhiteStripeNormalizer()
    expected = np.asarray(normaliser.fit(*wrap).transform(wrap[0]).get_data())
    # its density has 80 points: the peak is known to within 4 units of 320
    zero = [
        -np.polyfit(image.ravel(), a.ravel(), 1)[1] / np.polyfit(image.ravel(), a.ravel(), 1)[0]
        for a in (made, expected)
    ]
    assert zero[0] == pytest.approx(zero[1], abs=4)
    np.testing.assert_allclose(
        np.polyfit(image.ravel(), made.ravel(), 1)[0], np.polyfit(image.ravel(), expected.ravel(), 1)[0], rtol=0.2
    )


def test_the_field_is_sought_on_voxels_of_four_mm():
    """auto is the factor that gives 4 mm along each axis; that a field is found, other tests show."""
    rng = np.random.default_rng(2)
    y, x = np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48), indexing="ij")
    truth = np.exp(0.3 * x - 0.2 * y + 0.2 * x * y)
    tissue = np.where((np.hypot(x, y) % 0.5) < 0.25, 100.0, 160.0)
    array = (tissue * truth + rng.normal(0, 2, (12, *x.shape))).astype(np.float32)

    def field(spacing, shrink):
        volume = Volume(array, Geometry(array.shape[::-1], spacing))
        made = apply(View(steps=[{"kind": "n4", "shrink": shrink, "iterations": [3, 3]}]), volume).array
        return np.log(array / made)

    np.testing.assert_array_equal(field((1.0, 1.0, 1.0), "auto"), field((1.0, 1.0, 1.0), 4))
    np.testing.assert_array_equal(field((4.0, 4.0, 8.0), "auto"), field((4.0, 4.0, 8.0), 1))
    assert np.abs(field((4.0, 4.0, 8.0), "auto") - field((4.0, 4.0, 8.0), 4)).max() > 1e-3
