"""Several modalities of a patient on one grid by the scanner's positions, and the misalignment that remains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from polycentric import tables, volumes
from polycentric.config.views import View
from polycentric.files import sha256_file
from polycentric.grids import corner_distance_mm
from polycentric.prepare import prepare_shard
from polycentric.prepare.align import misalignment
from polycentric.tables.schemas import PATIENTS, SCANS, VIEWS, VOLUMES
from polycentric.volumes import Geometry, Volume
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
