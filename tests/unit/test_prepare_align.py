"""Several modalities of a patient on one grid by the scanner's positions, and the misalignment that remains."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from polycentric import tables, volumes
from polycentric.config.features import RadiomicsSet, Recipe
from polycentric.config.views import View
from polycentric.errors import ScanError
from polycentric.files import sha256_file
from polycentric.grids import corner_distance_mm
from polycentric.prepare import prepare_shard
from polycentric.prepare.align import misalignment
from polycentric.prepare.register import register
from polycentric.radiomics import extract_shard
from polycentric.tables.schemas import FEATURES, MASKS, PATIENTS, SCANS, VIEWS, VOLUMES
from polycentric.volumes import Geometry, Rigid, Volume
from scipy import ndimage

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)


def anatomy(points: np.ndarray) -> np.ndarray:
    """A label at points (..., 3) in mm: an ellipsoid with a few spheres inside."""
    labels = np.zeros(points.shape[:-1], int)
    labels[((points / [70.0, 55.0, 60.0]) ** 2).sum(-1) <= 1] = 1
    for number, (centre, radius) in enumerate(
        [((30, 10, 12), 18), ((-28, -14, 20), 15), ((5, 25, -24), 16), ((-20, 18, -10), 13), ((12, -28, -5), 12)]
    ):
        labels[((points - centre) ** 2).sum(-1) <= radius**2] = 2 + number % 3
    return labels


def scan(levels, geometry: Geometry, moved=(0.0, 0.0, 0.0), seed: int = 0) -> Volume:
    """An image of the anatomy that lies `moved` mm away from where it should."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in geometry.size[::-1]), indexing="ij")
    index = np.stack([x, y, z], axis=-1) * geometry.spacing
    points = np.array(geometry.origin) + index @ np.array(geometry.direction).reshape(3, 3).T
    array = np.array(levels, float)[anatomy(points - moved)]
    array = ndimage.gaussian_filter(array, 0.7) + np.random.default_rng(seed).normal(0, 5, array.shape)
    return Volume(array.astype(np.float32), geometry)


T1 = Geometry((80, 70, 24), (2.0, 2.0, 6.0), (-80.0, -70.0, -70.0))
T2 = Geometry((60, 56, 30), (2.6, 2.6, 5.0), (-95.0, -45.0, -75.0), OBLIQUE)
T1_LEVELS, T2_LEVELS = (0, 100, 180, 60, 140), (5, 220, 60, 250, 130)


@pytest.mark.parametrize("moved", [(0, 0, 0), (7, 0, 0), (-4, 6, 0), (3, -5, 8)])
def test_a_known_displacement_is_found_between_contrasts(moved):
    found = misalignment(scan(T1_LEVELS, T1), scan(T2_LEVELS, T2, moved, 1))
    np.testing.assert_allclose(found, -np.array(moved, float), atol=1.2)


def test_nothing_to_see_has_no_figure():
    image = scan(T1_LEVELS, T1)
    assert misalignment(image, Volume(np.zeros_like(image.array), T1)) is None
    away = Geometry(T1.size, T1.spacing, (500.0, 0.0, 0.0))
    assert misalignment(image, Volume(image.array, away)) is None


def motion(degrees: tuple[float, float, float], mm: tuple[float, float, float], centre=(0.0, 0.0, 0.0)) -> Rigid:
    """Rotations about x, then y, then z through a centre, then a translation."""
    x, y, z = np.radians(degrees)
    matrix = np.eye(3)
    for axis, angle in enumerate((x, y, z)):
        a, b = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = (-np.sin(angle), np.sin(angle)) if axis != 1 else (np.sin(angle), -np.sin(angle))
        matrix = turn @ matrix
    offset = np.array(centre) + mm - matrix @ np.array(centre)
    return Rigid(tuple(map(float, matrix.ravel())), tuple(map(float, offset)))


def wrong(found: Rigid, truth: Rigid, points: np.ndarray) -> tuple[float, float]:
    """How far a motion is off, in mm over some points (root mean square) and in degrees."""
    mm = np.sqrt(((found.apply(points) - truth.apply(points)) ** 2).sum(axis=1).mean())
    return float(mm), found.inverse().then(truth).angle_deg()


def test_motions_are_those_of_simpleitk():
    import SimpleITK as sitk

    own = motion((3, -4, 6), (5, -7, 4), (10.0, 20.0, -5.0))
    other = sitk.Euler3DTransform((10.0, 20.0, -5.0), *np.radians((3, -4, 6)), (5, -7, 4))
    other.ComputeZYXOn()
    points = np.random.default_rng(0).normal(0, 50, (5, 3))
    np.testing.assert_allclose(own.apply(points), [other.TransformPoint(p) for p in points], atol=1e-9)
    np.testing.assert_allclose(own.then(own.inverse()).apply(points), points, atol=1e-9)
    versor = sitk.VersorTransform()
    versor.SetMatrix(own.matrix)
    assert own.angle_deg() == pytest.approx(np.degrees(2 * np.arccos(versor.GetVersor()[3])))
    assert Rigid.from_text(own.to_text()) == own
    placed = own.place(T2)
    index = (3, 4, 5)
    grid = Volume(np.zeros(T2.size[::-1], np.uint8), T2)
    before, after = (Volume(grid.array, g).to_sitk().TransformIndexToPhysicalPoint(index) for g in (T2, placed))
    np.testing.assert_allclose(own.apply(np.array([before]))[0], after, atol=1e-9)


registration = sys.modules[register.__module__]
PLACES = np.array([[x, y, z] for x in (-35.0, 35.0) for y in (-30.0, 30.0) for z in (-30.0, 30.0)])


def test_a_known_rigid_motion_is_found_between_contrasts():
    # thin slices: the phantom has no partial volume, which would hide half a degree in thick ones
    fine = Geometry((80, 70, 48), (2.0, 2.0, 3.0), T1.origin)
    oblique = Geometry((80, 74, 50), (2.0, 2.0, 3.0), (-95.0, -45.0, -75.0), OBLIQUE)
    truth = motion((-6, 5, 8), (10, -8, 6))
    image = scan(T2_LEVELS, oblique, seed=1)
    misplaced = Volume(image.array, truth.inverse().place(image.geometry))
    found = register(scan(T1_LEVELS, fine), misplaced)
    assert max(wrong(found.motion, truth, PLACES)) < 0.5
    assert found.facts["before_mm"] == pytest.approx(np.linalg.norm((10, -8, 6)), abs=3)
    assert found.facts["consistency_mm"] < 1
    assert found.facts["information"][1] > found.facts["information"][0]


def test_registration_repeats_itself(monkeypatch):
    monkeypatch.setattr(registration, "LEVELS_MM", (6.0,))
    pair = scan(T1_LEVELS, T1), scan(T2_LEVELS, T2, (4, 3, 0), 1)
    assert registration.register(*pair) == registration.register(*pair)


def test_what_cannot_be_registered_is_refused(monkeypatch):
    monkeypatch.setattr(registration, "LEVELS_MM", (6.0,))
    image = scan(T1_LEVELS, T1)
    noise = Volume(np.random.default_rng(0).normal(0, 1, image.array.shape).astype(np.float32), T1)
    away = Volume(image.array, Geometry(T1.size, T1.spacing, (500.0, 0.0, 0.0)))
    for moving in (noise, away, Volume(np.zeros_like(image.array), T1)):
        with pytest.raises(ScanError, match="VIEW_REGISTRATION"):
            register(image, moving)


class Session:
    """A visit with T1, T2 and a second visit without T1."""

    def __init__(self, root: Path, moved=(0.0, 0.0, 0.0)) -> None:
        self.root, rows, scans = root, [], []
        images = {
            ("t1", "v1", "SE"): scan(T1_LEVELS, T1),
            ("t2", "v1", "TSE"): scan(T2_LEVELS, T2, moved, 1),
            ("t2-later", "v2", "TSE"): scan(T2_LEVELS, T2, (0, 0, 0), 2),
        }
        for (name, visit, kernel), image in images.items():
            path = root / "volumes" / "north-0" / f"{name}.nii"
            volumes.write(image, path)
            key = {"centre": "north", "patient": "p", "session": visit, "scan": name, "modality": "MR"}
            row = {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "status": "ok", "reason": ""}
            rows.append(key | row | image.geometry.columns())
            known = {"role": "development", "shard": "north-0", "contrast": "no", "verdict": "accept", "kernel": kernel}
            scans.append(dict.fromkeys(SCANS.columns) | key | known)
        self.images = images
        self.source, self.scans, self.patients = (root / f"{n}.tsv" for n in ("volumes", "scans", "patients"))
        tables.write(rows, self.source, VOLUMES)
        tables.write(scans, self.scans, SCANS)
        patient = {"centre": "north", "patient": "p", "role": "development", "scans": 3, "clinical": False}
        tables.write([patient], self.patients, PATIENTS)

    def replace(self, name: str, image: Volume) -> None:
        rows = tables.read(self.source, VOLUMES).to_dict("records")
        row = next(row for row in rows if row["scan"] == name)
        volumes.write(image, self.root / row["path"])
        row |= image.geometry.columns() | {"sha256": sha256_file(self.root / row["path"])}
        tables.write(rows, self.source, VOLUMES)

    def prepare(self, view: dict) -> dict[str, dict]:
        manifest = self.root / "views" / "v" / "main" / "north-0.tsv"
        prepare_shard(
            "v", View.model_validate(view), source=self.source, references=self.source, scans=self.scans,
            patients=self.patients, root=self.root, manifest=manifest, settings_json=json.dumps(view),
        )  # fmt: skip
        return {row["scan"]: row for row in tables.read(manifest, VIEWS).to_dict("records")}


ONTO = {"onto": {"where": "kernel == 'SE'"}, "steps": [{"kind": "clip", "low": -1000, "high": 1000}]}


def test_scans_of_a_visit_share_the_grid(tmp_path):
    session = Session(tmp_path, moved=(0, 6, 0))
    rows = session.prepare(ONTO)
    assert {name: row["status"] for name, row in rows.items()} == {"t1": "ok", "t2": "ok", "t2-later": "rejected"}
    assert rows["t2-later"]["reason"].startswith("VIEW_NO_REFERENCE")
    made = {name: volumes.read(tmp_path / rows[name]["path"], rows[name]) for name in ("t1", "t2")}
    assert corner_distance_mm(made["t1"].geometry, made["t2"].geometry) == 0
    np.testing.assert_allclose(made["t1"].array, session.images["t1", "v1", "SE"].array, atol=1e-3)
    # where T2 has been seen, it shows the anatomy (6 mm off) with T2's levels
    expected = scan(T2_LEVELS, T1, (0, 6, 0)).array
    inner = ndimage.binary_erosion(np.abs(expected - 220) < 20, iterations=3)
    seen = inner & (made["t2"].array > made["t2"].array.min() + 1)
    assert seen.sum() > 0.5 * inner.sum()  # the rest lies beyond T2's field of view
    assert np.median(np.abs(made["t2"].array[seen] - expected[seen])) < 8
    note = json.loads(rows["t2"]["diagnostics"])[0]
    assert note["reference"] == "t1"
    assert note["misalignment_mm"] == pytest.approx(6, abs=1.2)
    assert 0.4 < note["overlap_share"] < 1
    assert json.loads(rows["t1"]["diagnostics"])[0]["misalignment_mm"] == 0


def test_limits_and_ambiguity(tmp_path):
    session = Session(tmp_path, moved=(0, 6, 0))
    refused = session.prepare({"onto": ONTO["onto"] | {"largest_misalignment_mm": 4}})
    assert refused["t2"]["reason"].startswith("VIEW_MISALIGNED: the misalignment is")
    refused = session.prepare({"onto": ONTO["onto"] | {"smallest_overlap": 0.99}})
    assert refused["t2"]["reason"].startswith("VIEW_OVERLAP")
    rows = session.prepare({"onto": {"where": "kernel == 'TSE'", "within": "patient"}, "where": "kernel == 'SE'"})
    assert rows["t1"]["reason"].startswith("VIEW_REFERENCE_AMBIGUOUS: 2 scans")
    assert rows["t2"]["reason"].startswith("VIEW_NOT_SELECTED")
    rows = session.prepare({"onto": ONTO["onto"] | {"within": "patient"}})
    assert [row["status"] for row in rows.values()] == ["ok"] * 3


def test_a_registered_view_and_the_outlines_that_follow_it(tmp_path):
    session = Session(tmp_path)
    truth = motion((4, -3, 7), (8, -6, 5))
    image = session.images["t2", "v1", "TSE"]
    misplaced = Volume(image.array, truth.inverse().place(image.geometry))
    outline = (scan((0, 0, 1000, 0, 0), T2).array > 500).astype(np.uint8)
    path = tmp_path / "masks" / "manual" / "main" / "north-0" / "t2--dot.nii"
    volumes.write(Volume(outline, misplaced.geometry), path)
    session.replace("t2", misplaced)
    rows = session.prepare({"onto": {"where": "kernel == 'SE'", "register": "rigid", "largest_misalignment_mm": 2}})
    assert [rows[name]["status"] for name in ("t1", "t2")] == ["ok", "ok"]
    assert rows["t1"]["moved"] == ""
    assert max(wrong(Rigid.from_text(rows["t2"]["moved"]), truth, PLACES)) < 1  # thick slices
    note = json.loads(rows["t2"]["diagnostics"])[0]
    assert note["misalignment_mm"] < 1.5 < 8 < note["registration"]["before_mm"]
    # the anatomy lies where T1 shows it, with T2's levels
    made, expected = volumes.read(tmp_path / rows["t2"]["path"], rows["t2"]), scan(T2_LEVELS, T1).array
    inner = ndimage.binary_erosion(np.abs(expected - 220) < 20, iterations=3) & (made.array > made.array.min() + 1)
    assert np.median(np.abs(made.array[inner] - expected[inner])) < 8
    # the outline was drawn on the scan as acquired: it goes with the image
    key = {name: rows["t2"][name] for name in ("centre", "patient", "session", "scan")}
    mask = key | {"source": "manual", "fold": "main", "roi": "dot", "status": "ok", "sha256": sha256_file(path)}
    masks = tmp_path / "masks.tsv"
    tables.write([mask | {"path": path.relative_to(tmp_path).as_posix()}], masks, MASKS)
    extract_shard(
        "f", RadiomicsSet(view="v"), Recipe(bin_count=16, classes={"firstorder": ("Mean",)}),
        views=tmp_path / "views" / "v" / "main" / "north-0.tsv", volumes=session.source, masks=[masks], root=tmp_path,
        output=tmp_path / "f.parquet",
    )  # fmt: skip
    row = tables.read(tmp_path / "f.parquet", FEATURES).set_index("scan").loc["t2"]
    stayed = volumes.resample(Volume(outline, misplaced.geometry), T1, interpolation="nearest").array > 0
    assert row["original_firstorder_Mean"] < made.array[stayed].mean() - 20  # dark in bright tissue
    assert row["original_firstorder_Mean"] == pytest.approx(image.array[outline > 0].mean(), abs=20)


@pytest.mark.realdata
def test_a_known_motion_of_a_real_scan_is_found(realdata):
    """T2 and FLAIR of one brain, brought together by others: moved apart by a known motion, they find back."""
    folder = realdata("brain_mr") / "skull_stripped"
    flair, t2 = (volumes.read(folder / f"{name}.nii.gz") for name in ("fla", "t2"))
    centre = np.array(t2.geometry.origin) + np.array(t2.geometry.direction).reshape(3, 3) @ (
        0.5 * np.array(t2.geometry.size) * t2.geometry.spacing
    )
    truth = motion((4, -3, 6), (7, -5, 6), centre)
    found = register(flair, Volume(t2.array, truth.inverse().place(t2.geometry)))
    assert max(wrong(found.motion, truth, PLACES + centre)) < 0.5


@pytest.mark.realdata
def test_real_sequences(realdata):
    folder = realdata("brain_mr") / "raw"
    t1, t2, flair = (volumes.read(folder / f"{name}.nii.gz") for name in ("t1", "t2", "flair"))
    between = misalignment(flair, t2)
    assert np.linalg.norm(between) < 3  # planned together; slices are 5.5 mm thick
    # T1 was planned otherwise: a mid-sagittal picture shows the brain stem some 17 mm higher than in T2
    found = misalignment(t1, t2)
    assert 12 < found[2] < 20
    assert np.abs(found[:2]).max() < 4
    x, y, z = t2.geometry.origin
    moved = Volume(t2.array, Geometry(t2.geometry.size, t2.geometry.spacing, (x + 8, y - 5, z), t2.geometry.direction))
    np.testing.assert_allclose(between - misalignment(flair, moved), (8, -5, 0), atol=1.5)  # half a voxel of 3 mm
