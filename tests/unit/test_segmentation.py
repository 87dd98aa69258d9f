"""Training and application of a segmentation model."""

from pathlib import Path

import numpy as np
import pydantic
import pytest
import torch
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.config.segmentation import Segmentation
from polycentric.errors import UserError
from polycentric.segmentation import apply, losses, model
from polycentric.segmentation.train import train
from polycentric.tables import schemas
from polycentric.training import patches
from polycentric.volumes import Geometry

TINY = {
    "split": "main",
    "view": "ct",
    "patch": [8, 8, 8],
    "width": 2,
    "depth": 1,
    "iterations": 6,
    "learning_rate": 1e-2,
    "hu_range": [-200, 400],
    "history_every": 4,
    "threads": 1,
}
PARTS = dict.fromkeys(["p0", "p1", "p2"], "training") | {"p3": "test", "p4": "external"}
LEARN = {"patch": [16, 16, 16], "width": 8, "depth": 2, "iterations": 80, "inference": {"stride": [8, 8, 8]}}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return Phantom(tmp_path_factory.mktemp("segmentation"), PARTS)


def call(cohort: Phantom, out: Path, **changes) -> None:
    train(
        "tumour",
        Segmentation(**(TINY | changes)),
        seed=1,
        scans=cohort.scans,
        patients=cohort.patient_table,
        split=cohort.split,
        manifests=[cohort.view],
        masks=[cohort.masks],
        root=cohort.root,
        work=out / "work",
        fold="main",
        weights=out / "weights.safetensors",
        settings_out=out / "settings.json",
        history=out / "history.csv",
        ledger=out / "ledger.json",
        device="cpu",
        upstream=[],
        settings_json="{}",
        code="0",
    )


def segment(cohort: Phantom, trained: Path, name: str, volumes: Path | None = None, **changes) -> list[dict]:
    manifest = cohort.root / "masks" / name / "main" / "all.tsv"
    apply.segment_shard(
        name,
        Segmentation(**(TINY | changes)),
        weights=trained / "weights.safetensors",
        ledger=trained / "ledger.json",
        view=cohort.view,
        volumes=volumes or cohort.volumes,
        root=cohort.root,
        manifest=manifest,
        fold="main",
        settings_json=str(changes),
        code="0",
        device="cpu",
    )
    return tables.read(manifest, schemas.MASKS).to_dict("records")


@pytest.fixture(scope="module")
def trained(cohort: Phantom, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    call(cohort, folder, **LEARN)
    return folder


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_learns_a_sphere(cohort: Phantom, trained: Path) -> None:
    assert ledger.read(trained / "ledger.json")["seen"] == {"training": ["p0", "p1", "p2"]}
    rows = segment(cohort, trained, "tumour", **LEARN)
    for row in rows:
        assert row["status"] == "ok"
        mask = volumes.read(cohort.root / row["path"])
        assert mask.array.dtype == np.uint8
        assert row["voxels"] == mask.array.sum()
        assert row["volume_ml"] == pytest.approx(row["voxels"] * 0.008)
        assert dice(mask.array > 0, cohort.spheres[row["patient"]]) > 0.85


def test_masks_lie_on_the_grid_of_the_scan(cohort: Phantom, trained: Path) -> None:
    # the same space in voxels half as wide in the axial plane
    half = tuple(s / 2 for s in cohort.spacing[:2])
    origin = tuple(o - h / 2 for o, h in zip(cohort.geometry.origin[:2], half, strict=True))
    size = (2 * cohort.geometry.size[0], 2 * cohort.geometry.size[1], cohort.geometry.size[2])
    fine = Geometry(size, (*half, cohort.spacing[2]), (*origin, cohort.geometry.origin[2]))
    rows = tables.read(cohort.volumes, schemas.VOLUMES)
    for column, value in fine.columns().items():
        rows[column] = value
    path = cohort.root / "fine.tsv"
    tables.write(rows, path, schemas.VOLUMES)
    for row in segment(cohort, trained, "fine", volumes=path, **LEARN):
        mask = volumes.read(cohort.root / row["path"])
        assert mask.geometry.size == size
        np.testing.assert_allclose(mask.geometry.origin, fine.origin, atol=1e-5)
        truth = cohort.spheres[row["patient"]].repeat(2, axis=1).repeat(2, axis=2)
        assert dice(mask.array > 0, truth) > 0.83


def test_nothing_found_is_a_rejected_row(cohort: Phantom, tmp_path: Path) -> None:
    call(cohort, tmp_path, iterations=1)
    rows = segment(cohort, tmp_path, "nothing", inference={"threshold": 0.9999})
    assert {row["status"] for row in rows} == {"rejected"}
    assert all(row["reason"].startswith("SEG_EMPTY") and row["roi"] == "GTV-1" for row in rows)


def test_a_broken_run_resumes_to_the_same_bytes(
    cohort: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(cohort, tmp_path / "whole")
    step, done = model.Segmenter.step, []

    def breaks(self: model.Segmenter) -> torch.Tensor:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(self)

    monkeypatch.setattr(model.Segmenter, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        call(cohort, tmp_path / "broken", checkpoint_iterations=2)
    monkeypatch.undo()
    call(cohort, tmp_path / "broken", checkpoint_iterations=2)
    for name in ("weights.safetensors", "settings.json", "history.csv", "ledger.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "broken" / name).read_bytes()


def test_bad_input_is_told_before_training(cohort: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none of the 3 selected scans of training patients has a mask 'liver'"):
        call(cohort, tmp_path, roi="liver")
    with pytest.raises(UserError, match="smaller patch"):
        call(cohort, tmp_path, patch=[32, 32, 32])


def test_losses_by_hand() -> None:
    logits = torch.tensor([[-50.0, 50.0], [50.0, 50.0]])  # probabilities 0, 1, 1, 1
    truth = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert losses.soft_dice(logits, truth, smooth=0).item() == pytest.approx(1 - 2 * 2 / (3 + 2))
    assert losses.soft_dice(torch.full((2, 2), -50.0), torch.zeros(2, 2)).item() == pytest.approx(0, abs=1e-6)
    expected = -(np.log(0.25) + np.log(1 - 0.5)) / 2
    logits = torch.tensor([np.log(0.25 / 0.75), 0.0], dtype=torch.float32)
    assert losses.cross_entropy(logits, torch.tensor([1.0, 0.0])).item() == pytest.approx(expected)


def test_regions_cut_as_the_whole_mask_does() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((9, 10, 11), dtype=bool)
    mask[3:6, 2:9, 5:7] = rng.random((3, 7, 2)) < 0.5
    mask[3, 2, 5] = mask[5, 8, 6] = True
    region = model.Region.of(mask)
    assert region.box.shape == (3, 7, 2)
    for _ in range(100):
        origin = tuple(int(rng.integers(n - 3)) for n in mask.shape)
        place = tuple(slice(o, o + 4) for o in origin)
        assert np.array_equal(region.cut(origin, (4, 4, 4)), mask[place].astype(np.float32))
    assert np.array_equal(region.centres(mask.shape), np.flatnonzero(mask))


def test_the_learning_rate_falls_to_zero(cohort: Phantom) -> None:
    volume, region = cohort.images["p0"], model.Region.of(cohort.spheres["p0"])
    sampler = patches.PatchSampler([volume], (8, 8, 8), np.random.default_rng(0))
    settings = Segmentation(**(TINY | {"iterations": 4, "learning_rate": 1.0, "decay": 2}))
    trainee = model.Segmenter(settings, sampler, [region], seed=1, names=("x",), device=torch.device("cpu"))
    rates = []
    for _ in range(4):
        trainee.step()
        rates.append(trainee.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1, (3 / 4) ** 2, (1 / 2) ** 2, (1 / 4) ** 2])


def test_largest_component_joins_by_corners() -> None:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = True
    mask[5, 5, 4:6] = True
    kept = apply.largest_component(mask)
    assert kept.sum() == 3
    assert kept[2, 2, 2]
    assert not apply.largest_component(np.zeros((2, 2, 2), dtype=bool)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": [10, 9, 8]}, "cannot be halved 1 times; write multiples of 2"),
        ({"patch": [2, 2, 2]}, "leaves one voxel at the lowest level"),
        ({"inference": {"stride": [9, 8, 8]}}, "would leave gaps"),
        ({"loss": {"dice": 0, "bce": 0}}, "both weights are 0"),
        ({"inference": {"threshold": 1.5}}, "less than 1"),
    ],
)
def test_bad_settings_say_what_to_write(changes: dict, message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        Segmentation(**(TINY | changes))
