"""Quick-look pictures: outlines where the masks end, true proportions, the body's own planes, no identity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from polycentric import pictures, tables, volumes
from polycentric.config.quicklook import QuicklookSettings
from polycentric.files import sha256_file
from polycentric.quicklook import QUICKLOOK, quicklook_shard
from polycentric.tables.schemas import MASKS, SCANS, VOLUMES
from polycentric.volumes import Geometry, Volume

ORANGE, BLUE = pictures.OUTLINES[:2]
TOP, LEFT = 21, 6  # where the first panel begins


def _key(scan: str) -> dict[str, str]:
    return {"centre": "north", "patient": f"P-{scan}", "session": f"S-{scan}", "scan": scan}


class Shard:
    """A small shard on disk; scans are added one by one."""

    def __init__(self, root: Path) -> None:
        self.root, self.volumes, self.masks = root, [], []

    def add(self, scan: str, volume: Volume, masks: dict[tuple[str, str], np.ndarray], **facts: Any) -> None:
        row = self._write(volume, f"volumes/north-0/{scan}.nii") | volume.geometry.columns()
        self.volumes.append(_key(scan) | {"modality": "CT", "unit": "HU"} | row | facts)
        for (source, roi), mask in masks.items():
            path = f"masks/{source}/main/north-0/{scan}--{roi}.nii"
            row = self._write(volume.with_array(mask.astype(np.uint8)), path)
            self.masks.append(_key(scan) | {"source": source, "fold": "main", "roi": roi} | row)

    def _write(self, volume: Volume, path: str) -> dict[str, str]:
        volumes.write(volume, self.root / path)
        return {"path": path, "sha256": sha256_file(self.root / path), "status": "ok", "reason": ""}

    def draw(self, **settings: Any) -> list[dict[str, Any]]:
        root = self.root
        tables.write(self.volumes, root / "volumes" / "north-0.tsv", VOLUMES)
        tables.write(self.masks, root / "masks.tsv", MASKS)
        scans = [
            _key(row["scan"]) | {"role": "development", "shard": "north-0", "modality": "CT", "contrast": "no"}
            | {"verdict": "flag", "codes": "KERNEL_MISSING"}
            for row in self.volumes
        ]  # fmt: skip
        tables.write(scans, root / "scans.tsv", SCANS)
        quicklook_shard(
            root / "volumes" / "north-0.tsv", [root / "masks.tsv"], root / "scans.tsv",
            settings=QuicklookSettings(**settings), root=root, manifest=root / "quicklook" / "north-0.tsv",
            settings_json=str(sorted(settings.items())), code="test",
        )  # fmt: skip
        return tables.read(root / "quicklook" / "north-0.tsv", QUICKLOOK).to_dict("records")

    def picture(self, scan: str) -> np.ndarray:
        return np.asarray(Image.open(self.root / "quicklook" / "north-0" / f"{scan}.png"))


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return Shard(tmp_path)


def _box(shape: tuple[int, ...], *bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in bounds)] = True
    return mask


def _where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour)).all(axis=2)


def test_outline_lies_on_the_edge_of_the_mask(shard: Shard) -> None:
    # a cube of 96 voxels of 1 mm in 96 pixels: the axial panel shows a voxel per pixel
    shape = (96, 96, 96)
    mask = _box(shape, (30, 50), (20, 60), (10, 40))
    shard.add("V-A", Volume(np.zeros(shape, np.int16), Geometry(shape, (1, 1, 1))), {("manual", "tumour"): mask})
    shard.draw(height=96)
    axial = shard.picture("V-A")[TOP : TOP + 96, LEFT : LEFT + 96]
    expected = _box(shape, (0, 1), (20, 60), (10, 40))[0] & ~_box(shape, (0, 1), (21, 59), (11, 39))[0]
    assert (_where(axial, ORANGE) == expected).all()
    coronal = shard.picture("V-A")[TOP : TOP + 96, LEFT + 102 : LEFT + 198]
    rows, columns = np.nonzero(_where(coronal, ORANGE))
    # the head is up: z from 30 to 50 lies between rows 96 - 50 and 96 - 30
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (46, 65, 10, 39)
    sagittal = shard.picture("V-A")[TOP : TOP + 96, LEFT + 204 : LEFT + 300]
    rows, columns = np.nonzero(_where(sagittal, ORANGE))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (46, 65, 20, 59)


def test_two_sources_have_their_colours_also_where_they_agree(shard: Shard) -> None:
    shape = (32, 96, 96)
    mask = _box(shape, (10, 20), (20, 60), (10, 40))
    volume = Volume(np.zeros(shape, np.int16), Geometry((96, 96, 32), (1, 1, 3)))
    shard.add("V-A", volume, {("manual", "tumour"): mask, ("reader-a", "tumour"): mask})
    shard.add("V-B", volume, {("reader-a", "tumour"): mask})
    shard.add("V-C", volume, {})
    rows = shard.draw(height=96)
    assert [r["regions"] for r in rows] == [2, 1, 0]
    both = shard.picture("V-A")[TOP : TOP + 96]
    counts = [int(_where(both, colour).sum()) for colour in (ORANGE, BLUE)]
    assert min(counts) > 0.4 * max(counts)
    # a source keeps its colour in scans where the other is missing
    assert not _where(shard.picture("V-B"), ORANGE).any()
    assert _where(shard.picture("V-B"), BLUE).any()
    assert not _where(shard.picture("V-C"), BLUE).any()


def test_proportions_are_those_of_the_body(shard: Shard) -> None:
    # a sphere of 60 mm in voxels of 0.5 x 2 x 5 mm must be drawn round in all planes
    spacing, size = (0.5, 2.0, 5.0), (160, 40, 16)
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(size[::-1], spacing[::-1], strict=True)), indexing="ij")
    ball = (x - 40) ** 2 + (y - 40) ** 2 + (z - 40) ** 2 <= 30**2
    shard.add("V-A", Volume(np.where(ball, 400, -1000).astype(np.int16), Geometry(size, spacing)), {})
    shard.draw(height=160, through="middle")
    picture = shard.picture("V-A")[TOP : TOP + 160]
    start = LEFT
    for _ in range(3):
        panel = picture[:, start : start + 160, 0] > 128
        panel[:, :14] = False  # the letter of the patient's side
        rows, columns = np.flatnonzero(panel.any(axis=1)), np.flatnonzero(panel.any(axis=0))
        # 2 pixels per mm; half a voxel of 5 mm is the error of the grid
        assert np.ptp(rows) + 1 == pytest.approx(120, abs=12)
        assert np.ptp(columns) + 1 == pytest.approx(120, abs=12)
        start += 166


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (True, True, True)])
def test_planes_are_the_bodys_own_however_the_scan_was_acquired(axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    body = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6))
    body.SetSpacing((0.5, 1.0, 2.0))
    turned = sitk.Flip(sitk.PermuteAxes(body, axes), flips)  # the same points in space, stored in another order
    array, spacing = pictures.upright(Volume.from_sitk(turned))
    assert (array == sitk.GetArrayFromImage(body)).all()
    assert spacing == (0.5, 1.0, 2.0)


def test_mapped_volume_is_the_volume(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for dtype in (np.int16, np.float32, np.uint8):
        array = (rng.normal(size=(3, 4, 5)) * 100).astype(dtype)
        volume = Volume(array, Geometry((5, 4, 3), (1, 1, 2)))
        volumes.write(volume, tmp_path / "v.nii")
        opened = pictures.open_volume(tmp_path / "v.nii", volume.geometry.columns())
        assert isinstance(opened.array, np.memmap)
        assert (opened.array == array).all()


def test_windows_follow_modality_and_unit() -> None:
    values = np.concatenate([np.zeros(5000), np.linspace(100, 200, 5000)])
    assert pictures.window("CT", "HU", values, (-160, 240))[:2] == (-160, 240)
    assert pictures.window("PT", "SUVbw (g/mL)", values, (-160, 240))[:2] == (0, 10)
    low, high, words = pictures.window("MR", "arbitrary", values, (-160, 240))
    assert (low, high) == (pytest.approx(101, abs=0.1), pytest.approx(199.5, abs=0.1))
    assert "arbitrary" in words
    assert pictures.window("MR", "", np.zeros(10), (-160, 240))[:2] == (0, 1)


def test_planar_scans_show_their_planes(shard: Shard) -> None:
    array = np.zeros((2, 64, 32), np.int16)
    array[0, :8], array[1, -8:] = 100, 100
    shard.add("V-A", Volume(array, Geometry((32, 64, 2), (2, 2, 1))), {}, modality="NM", unit="counts")
    (row,) = shard.draw(height=64)
    picture = shard.picture("V-A")
    assert "counts" in row["window"]
    one, two = picture[TOP : TOP + 64, LEFT : LEFT + 32, 0], picture[TOP : TOP + 64, LEFT + 38 : LEFT + 70, 0]
    assert one[:8].min() > 250 > 5 > one[8:].max()
    assert two[-8:].min() > 250 > 5 > two[:-8].max()


def test_same_bytes_again_and_with_any_name_of_a_region(shard: Shard) -> None:
    shape = (16, 32, 32)
    volume = Volume(np.zeros(shape, np.int16), Geometry(shape[::-1], (1, 1, 1)))
    shard.add("V-A", volume, {("manual", "x"): _box(shape, (4, 9), (4, 9), (4, 9))})
    shard.masks[0]["roi"] = "ü\u202e" + "long " * 40  # the caption shows what a font can show
    (first,) = shard.draw()
    (shard.root / first["path"]).unlink()
    (again,) = shard.draw()
    assert first["sha256"] == again["sha256"]


def test_shard_has_a_row_per_scan_also_without_volume(shard: Shard) -> None:
    shape = (16, 32, 32)
    shard.add("V-A", Volume(np.zeros(shape, np.int16), Geometry(shape[::-1], (1, 1, 1))), {})
    shard.volumes.append(_key("V-B") | {"modality": "CT", "status": "rejected", "reason": "TS_UNDECODABLE: slice 3"})
    rows = shard.draw()
    assert [(r["scan"], r["status"]) for r in rows] == [("V-A", "ok"), ("V-B", "missing")]
    shard.volumes.clear()
    assert shard.draw() == []
