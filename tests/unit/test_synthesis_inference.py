"""Views made by a generator: slabs, several threads, broken scans, precision, the fast mode, memory."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from phantoms import Phantom
from polycentric import ledger, tables, tiling, volumes
from polycentric.config.synthesis import Synthesis
from polycentric.errors import UserError
from polycentric.inference import precision, sliding
from polycentric.networks import weights
from polycentric.networks.layers import initialise
from polycentric.synthesis import apply, cyclegan, translate
from polycentric.tables import schemas
from polycentric.training import patches
from polycentric.volumes import Geometry, Volume

torch.set_num_threads(1)
CPU = torch.device("cpu")
SETTINGS = {
    "split": "main",
    "source": {"view": "ct"},
    "target": {"view": "ct"},
    "patch": [8, 8, 8],
    "generator": {"width": 2, "downs": 1, "residual_blocks": 1},
    "discriminator": {"width": 2, "layers": 1},
    "threads": 1,
    "inference": {"stride": [6, 4, 5], "batch": 3},
}
PARTS = dict.fromkeys([f"p{i}" for i in range(5)], "test")


def model(folder: Path, **changes) -> Synthesis:
    """A generator with drawn weights, as training would leave it."""
    settings = Synthesis(**(SETTINGS | changes))
    network = cyclegan.generator(settings)
    initialise(network, 1, 0.1)
    facts = {"settings": settings.model_dump(mode="json")}
    back = cyclegan.generator(settings, "backward")
    initialise(back, 2, 0.1)
    both = weights.of(network, "forward") | weights.of(back, "backward")
    weights.write(both, folder / "weights.safetensors", **facts)
    ledger.write(
        folder / "ledger.json", name="m", stage="synthesis", split="main", seen={}, upstream=[], settings="{}", code="0"
    )
    return settings


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("views"), PARTS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    model(folder)
    return folder


def shard(
    cohort: Phantom, trained: Path, name: str, source: Path | None = None, direction: str = "forward", **changes
) -> list[dict]:
    manifest = cohort.root / "views" / name / "main" / "all.tsv"
    apply.synthesize_shard(
        name, Synthesis(**(SETTINGS | changes)), weights=trained / "weights.safetensors",
        ledger=trained / "ledger.json", source=source or cohort.view, root=cohort.root, manifest=manifest, fold="main",
        settings_json=json.dumps(changes), code="0", device="cpu", direction=direction,
    )  # fmt: skip
    return tables.read(manifest, schemas.VIEWS).to_dict("records")


def plainly(settings: Synthesis, trained: Path, hu: np.ndarray) -> np.ndarray:
    """The same by the network as it was trained, in one piece."""
    network = cyclegan.generator(settings)
    weights.into(network, weights.read(trained / "weights.safetensors")[0], "forward")
    window, stride = map(patches.full_size, settings.inference.windows(settings.patch))
    values = patches.scale(hu, settings.hu_range)[None]
    made = sliding.slide(values, network.eval(), window=window, stride=stride, batch=1, skip=False)[0]
    return patches.unscale(made, settings.hu_range) + (hu - np.clip(hu, *settings.hu_range))


def test_a_view_is_what_the_trained_network_makes(cohort: Phantom, trained: Path) -> None:
    settings = Synthesis(**SETTINGS)
    for row in shard(cohort, trained, "view"):
        made = volumes.read(cohort.root / row["path"], row)
        expected = plainly(settings, trained, cohort.images[row["patient"]])
        assert np.abs(made.array - expected).max() <= 0.55  # whole HU, and 0.05
        assert made.geometry == cohort.geometry
        (facts,) = json.loads(row["diagnostics"])
        assert facts["precision"] == "fp32"
        assert facts["windows"] == tiling.Tiling.over(cohort.shape, (8, 8, 8), (5, 4, 6)).count


def test_the_backward_generator_makes_a_view_in_the_range_of_the_source(cohort: Phantom, tmp_path: Path) -> None:
    ranges = {"hu_range": (-500, 500), "target": SETTINGS["target"] | {"range": (0, 200)}}
    settings = Synthesis(**(SETTINGS | ranges))
    model(tmp_path, **ranges)
    network = cyclegan.generator(settings, "backward")
    weights.into(network, weights.read(tmp_path / "weights.safetensors")[0], "backward")
    window, stride = map(patches.full_size, settings.inference.windows(settings.patch))
    for row in shard(cohort, tmp_path, "back", direction="backward", **ranges):
        values = patches.scale(cohort.images[row["patient"]], (0, 200))[None]
        made = sliding.slide(values, network.eval(), window=window, stride=stride, batch=1, skip=False)[0]
        array = volumes.read(cohort.root / row["path"], row).array
        assert array.dtype == np.int16  # HU of the source; the narrow target would be float32
        assert np.abs(array - patches.unscale(made, (-500, 500))).max() <= 0.55
    tensors, stated = weights.read(tmp_path / "weights.safetensors")
    forward = {name: tensor for name, tensor in tensors.items() if name.startswith("forward.")}
    weights.write(forward, tmp_path / "weights.safetensors", settings=stated["settings"])
    with pytest.raises(UserError, match="holds no backward generator"):
        shard(cohort, tmp_path, "none", direction="backward", **ranges)


def test_how_an_image_was_moved_goes_with_it(cohort: Phantom, trained: Path) -> None:
    """Outlines of the scan have to move along with the synthetic image as with its source."""
    rows = tables.read(cohort.view, schemas.VIEWS)
    motion = "1 0 0 0 1 0 0 0 1 2.5 0 -1"
    rows.loc[rows["scan"] == "scan-p1", "moved"] = motion
    registered = cohort.root / "registered.tsv"
    tables.write(rows, registered, schemas.VIEWS)
    made = {row["scan"]: row["moved"] for row in shard(cohort, trained, "moved", registered)}
    assert made.pop("scan-p1") == motion
    assert not any(isinstance(other, str) and other for other in made.values())


def test_threads_change_nothing(cohort: Phantom, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = shard(cohort, trained, "several")
    monkeypatch.setattr(apply, "THREADS", 1)
    one = shard(cohort, trained, "one")
    assert [r["scan"] for r in several] == [r["scan"] for r in one] == [f"scan-p{i}" for i in range(5)]
    assert [r["sha256"] for r in several] == [r["sha256"] for r in one]
    assert [r["diagnostics"] for r in several] == [r["diagnostics"] for r in one]


def test_broken_scans_become_rows_and_a_second_run_makes_what_is_missing(
    cohort: Phantom, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tables.read(cohort.view, schemas.VIEWS)
    broken = cohort.root / "cut.nii"
    broken.write_bytes((cohort.root / rows.loc[1, "path"]).read_bytes()[:2000])
    rows.loc[1, "path"] = "cut.nii"
    rows.loc[2, "size_z"] = 19  # the manifest tells another size
    source = cohort.root / "source.tsv"
    tables.write(rows, source, schemas.VIEWS)
    monkeypatch.setattr(
        translate.Pass, "_read", failing(translate.Pass._read, lambda i: np.array_equal(i, cohort.images["p3"]))
    )
    made = shard(cohort, trained, "broken", source)
    assert [r["status"] for r in made] == ["ok", "failed", "failed", "failed", "ok"]
    folder = cohort.root / "views" / "broken" / "main" / "all"
    assert sorted(p.name for p in folder.glob("*.nii")) == [f"scan-p{i}.nii" for i in (0, 4)]
    assert not list(folder.glob(".tmp*"))
    monkeypatch.undo()
    computed = []
    before = translate.Pass.run
    monkeypatch.setattr(translate.Pass, "run", lambda one, put: computed.append(1) or before(one, put))
    again = shard(cohort, trained, "broken", cohort.view)
    assert [r["status"] for r in again] == ["ok"] * 5
    assert len(computed) == 3  # the others are reused
    assert [r["sha256"] for r in again] == [r["sha256"] for r in shard(cohort, trained, "whole")]


def failing(method, condition):
    def run(one, *args):
        if condition(one.image):
            raise RuntimeError("the disk is gone")
        return method(one, *args)

    return run


def test_a_network_that_overflows_becomes_a_row(cohort: Phantom, tmp_path: Path) -> None:
    settings = model(tmp_path)
    network = cyclegan.generator(settings)
    for parameter in network.parameters():
        parameter.data.fill_(float("inf"))
    facts = {"settings": settings.model_dump(mode="json")}
    weights.write(weights.of(network, "forward"), tmp_path / "weights.safetensors", **facts)
    rows = shard(cohort, tmp_path, "overflow")
    assert {r["status"] for r in rows} == {"rejected"}
    assert all(r["reason"].startswith("SYNTH_NOT_FINITE") for r in rows)


class Overflowing(torch.nn.Module):
    """Wrong by so many times the input in half precision."""

    def __init__(self, error: float) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (1 + self.error) if torch.is_autocast_enabled("cpu") else x


@pytest.mark.parametrize(
    ("error", "used"), [(0.0003, "bf16"), (0.0010, "fp32"), (float("nan"), "fp32"), (float("inf"), "fp32")]
)
def test_a_precision_that_is_too_inexact_is_not_used(trained: Path, error: float, used: str) -> None:
    """Of 900 HU, 0.3 and 0.9 HU: the limit of the mean is 0.5."""
    one = translate.Translator(Synthesis(**SETTINGS), trained / "weights.safetensors", CPU, "x")
    one.network = lambda kind: Overflowing(error)
    made: list[np.ndarray] = []
    hu = np.full((20, 9, 9), 900, np.int16)
    hu[3, 3, 3] = 899
    found = one.translate([hu], made.append, "bf16")[0]
    assert found["precision"] == used
    assert found.get("refused", "bf16") == "bf16"
    if used == "bf16":
        assert found["error_mean_hu"] == pytest.approx(0.27, rel=1e-3)
    elif error < 1:
        assert found["error_max_hu"] == pytest.approx(0.9, rel=1e-3)
        assert np.array_equal(np.concatenate(made), hu)
    elif np.isnan(error):
        assert found["error_mean_hu"] is None


@pytest.mark.parametrize("span", [1, 255])
def test_limits_of_precision_shrink_with_a_narrow_range(tmp_path: Path, span: float) -> None:
    """An error of 0.03 % of values of 90 % of the range is 0.27 of 2,000 HU; three times that is too much."""
    changes = {"source": {"view": "ct", "range": [-span, span]}, "target": {"view": "ct", "range": [-span, span]}}
    settings = model(tmp_path, **changes)
    image = np.full((20, 9, 9), 0.9 * span, np.float32)
    image[3, 3, 3] = 0.89 * span
    for error, used in ((0.0003, "bf16"), (0.0010, "fp32")):
        one = translate.Translator(settings, tmp_path / "weights.safetensors", CPU, "x")
        one.network = lambda kind, error=error: Overflowing(error)
        assert one.translate([image], lambda planes: None, "bf16")[0]["precision"] == used


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ((-1000, 1000), "int16"),
        ((-200, 300), "int16"),
        ((0, 1), "float32"),
        ((0, 255), "float32"),
        ((0, 6e4), "float32"),
    ],
)
def test_what_is_not_in_hu_is_not_rounded(cohort: Phantom, tmp_path: Path, limits: tuple, kind: str) -> None:
    settings = model(tmp_path, target={"view": "ct", "range": limits})
    few = cohort.root / "few.tsv"
    tables.write(tables.read(cohort.view, schemas.VIEWS).iloc[:1], few, schemas.VIEWS)
    (row,) = shard(cohort, tmp_path, "ranged", few, target={"view": "ct", "range": limits})
    made = volumes.read(cohort.root / row["path"], row).array
    assert made.dtype == kind
    network = cyclegan.generator(settings)
    weights.into(network, weights.read(tmp_path / "weights.safetensors")[0], "forward")
    window, stride = map(patches.full_size, settings.inference.windows(settings.patch))
    values = patches.scale(cohort.images[row["patient"]], settings.hu_range)[None]
    expected = sliding.slide(values, network.eval(), window=window, stride=stride, batch=1, skip=False)[0]
    expected = (expected.astype(np.float64).clip(-1, 1) + 1) / 2 * (limits[1] - limits[0]) + limits[0]
    if limits == (-1000, 1000):  # the same as the source's
        hu = cohort.images[row["patient"]]
        expected += hu - np.clip(hu, *limits)
    tolerance = 0.55 if kind == "int16" else 5e-5 * (limits[1] - limits[0])
    assert np.abs(made - expected).max() <= tolerance
    assert np.ptp(expected) > 0.05 * (limits[1] - limits[0])  # there is something to ruin


def test_whatever_precision_is_asked_for_a_cpu_without_units_takes_fp32(cohort: Phantom, trained: Path) -> None:
    if precision.amx():
        pytest.skip("this CPU has AMX")
    wanted = SETTINGS["inference"] | {"precision": "bf16"}
    plain, other = shard(cohort, trained, "plain"), shard(cohort, trained, "asked", inference=wanted)
    assert [r["sha256"] for r in plain] == [r["sha256"] for r in other]


def test_the_fast_mode_tells_its_difference_and_seams(cohort: Phantom, trained: Path) -> None:
    few = cohort.root / "few.tsv"
    tables.write(tables.read(cohort.view, schemas.VIEWS).iloc[:1], few, schemas.VIEWS)
    fast = {"stride": [2, 2, 4], "mode": "fast", "fast_window": [12, 30, 8], "fast_stride": [12, 24, 4]}
    exact = shard(cohort, trained, "exact", few, inference={"stride": [2, 2, 4]})
    for own, row in zip(exact, shard(cohort, trained, "fast", few, inference=fast), strict=True):
        _, facts = json.loads(row["diagnostics"])
        assert facts["window"] == [12, 24, 8]  # the scan has 24 voxels along y
        a, b = (volumes.read(cohort.root / r["path"]).array.astype(float) for r in (own, row))
        first, size = (facts[k][::-1] for k in ("sample_first_voxel", "sample_voxels"))
        assert np.prod(size) > 20
        region = tuple(slice(f, f + n) for f, n in zip(first, size, strict=True))
        difference = np.abs(a - b)[region]
        assert difference.mean() > 1
        assert facts["mean_hu"] == pytest.approx(difference.mean(), rel=2e-3)
        assert facts["max_hu"] == difference.max()
        slab = slice(*facts["seam_planes"])
        change = (b - cohort.images[row["patient"]])[slab]
        # windows along x begin and end at 12, along y at the borders of the scan, along z at every fourth plane
        borders = [[z - slab.start for z in range(4, 20, 4) if slab.start < z < slab.stop], [], [12]]
        from polycentric import anatomy

        within = anatomy.body(cohort.images[row["patient"]][slab])
        assert facts["seams"] == pytest.approx(tiling.seams_at(change, within, borders), rel=1e-3)


def test_the_fast_mode_of_the_exact_windows_differs_nowhere(cohort: Phantom, trained: Path) -> None:
    same = {"stride": [4, 4, 4], "mode": "fast", "fast_stride": [4, 4, 4]}
    for row in shard(cohort, trained, "same", inference=same):
        assert json.loads(row["diagnostics"])[1]["max_hu"] == 0


@pytest.mark.parametrize(
    ("inference", "message"),
    [
        ({"fast_stride": [4, 4, 4]}, "need mode: fast"),
        ({"mode": "fast", "fast_stride": [4, 4]}, "write 3, since dimensions is that"),
        ({"mode": "fast", "fast_window": [9, 8, 8]}, r"such as \[8, 8, 8\]"),
        ({"mode": "fast", "fast_window": [4, 4, 4], "fast_stride": [5, 4, 4]}, "would leave gaps"),
        ({"precision": "fp8"}, "precision"),
    ],
)
def test_bad_settings_say_what_to_write(inference: dict, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Synthesis(**(SETTINGS | {"inference": inference}))


def test_planes_come_from_a_file_as_written(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(-1000, 3000, (7, 5, 6)).astype(np.int16)
    path = tmp_path / "a.nii"
    geometry = Geometry((6, 5, 7), (1.0, 1.0, 2.0))
    with volumes.writing(path, geometry, np.int16) as put:
        put(array[:3])
        put(array[3:])
    volumes.write(Volume(array, geometry), tmp_path / "b.nii")
    assert path.read_bytes() == (tmp_path / "b.nii").read_bytes()
    assert np.array_equal(volumes.read(path).array, array)
    assert np.array_equal(translate.planes(patches.open_nifti(path), 2, 9), array[2:])
    for bad in (array[:3], array[:, :3], array.astype(np.float32)):
        with pytest.raises(ValueError, match="planes"), volumes.writing(tmp_path / "c.nii", geometry, np.int16) as put:
            put(bad)
    assert not (tmp_path / "c.nii").exists()


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np, torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from polycentric import volumes
from polycentric.config.synthesis import Synthesis
from polycentric.jobs import SILENT
from polycentric.synthesis import apply, translate
from polycentric.training import patches

def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")).split()[1])

folder, planes = Path(sys.argv[2]), int(sys.argv[3])
geometry = volumes.Geometry((512, 512, planes), (1.0, 1.0, 1.0))
rng = np.random.default_rng(0)
noise = 2 * rng.integers(-500, 500, (10, 512, 512)).astype(np.int16)
with volumes.writing(folder / "in.nii", geometry, np.int16) as put:
    for first in range(0, planes, 10):
        put(noise)
settings = Synthesis(**json.loads(sys.argv[4]))
one = translate.Translator(settings, folder / "weights.safetensors", torch.device("cpu"), "x", SILENT)
one.network = lambda kind: lambda x: x * 0.5
image = patches.open_nifti(folder / "in.nii")
apply.fetch(image)
before = peak()
with volumes.writing(folder / "out.nii", geometry, np.int16) as put:
    one.translate([image], put, "fp32")
after = peak()
made = patches.open_nifti(folder / "out.nii")
assert all(np.array_equal(made[z], noise[z % 10] // 2) for z in range(0, planes, 97))
print(json.dumps([before, after]))
"""


@pytest.mark.slow
def test_a_volume_of_a_thousand_planes_needs_a_few_slabs_of_memory(tmp_path: Path) -> None:
    """512 x 512 x 1,000: windows of 64 planes. Held as a whole in float32 they would take 2 x 1.05 GB."""
    settings = SETTINGS | {"patch": [64, 64, 64], "inference": {"stride": [64, 64, 32]}}
    model(tmp_path, **settings)
    code = str(Path(translate.__file__).parents[2])
    command = [sys.executable, "-c", MEMORY, code, str(tmp_path), "1000", json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)
    slab = 64 * 512 * 512 * 4 / 1024
    assert after - before < 5 * slab  # 330 MB
