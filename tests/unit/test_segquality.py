"""Measures of agreement against analytic shapes and other implementations; the analysis against known masks."""

import json
from pathlib import Path

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.config.image_analyses import SegmentationQualityAnalysis
from polycentric.config.segmentation import Segmentation
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.segquality import measures
from polycentric.segquality.analyse import analyse
from polycentric.tables import schemas

SPACING = (3.0, 0.9, 1.1)


def ellipsoid(centre: tuple[float, ...], radii: tuple[float, ...], shape: tuple[int, ...] = (24, 40, 44)) -> np.ndarray:
    z, y, x = np.ogrid[tuple(slice(0, n) for n in shape)]
    terms = [((g - c) * s / r) ** 2 for g, c, s, r in zip((z, y, x), centre, SPACING, radii, strict=True)]
    return sum(terms) <= 1


def test_shifted_box() -> None:
    a = np.zeros((10, 12, 14), dtype=bool)
    a[2:6, 3:9, 4:10] = True
    b = np.roll(a, 2, axis=2)
    found = measures.agreement(b, a, (1.0, 1.0, 2.0), tolerance_mm=3.9)
    assert found.dice == pytest.approx(2 * 4 / (6 + 6))
    assert found.hd95_voxel_max_mm == pytest.approx(4.0)  # the far faces are 2 voxels of 2 mm apart
    assert found.volume_difference_ml == 0
    near, total = 0, 0
    for one, other in ((a, b), (b, a)):  # brute force over all pairs of border voxels
        p, q = (np.argwhere(measures.border(m)) * (1.0, 1.0, 2.0) for m in (one, other))
        distances = np.sqrt(((p[:, None] - q) ** 2).sum(-1)).min(1)
        near, total = near + (distances <= 3.9).sum(), total + len(p)
    assert found.nsd_voxel == pytest.approx(near / total)


def test_against_monai() -> None:
    metrics = pytest.importorskip("monai.metrics")
    import torch

    a = ellipsoid((12, 20, 22), (18, 12, 15))
    b = ellipsoid((13, 21.5, 21), (15, 14, 13)) | ellipsoid((3, 5, 40), (4, 3, 3))
    found = measures.agreement(b, a, SPACING, 2.0)
    ta, tb = (torch.from_numpy(m)[None, None] for m in (a, b))
    facts = {"include_background": True, "spacing": SPACING}
    hd95 = metrics.compute_hausdorff_distance(tb, ta, percentile=95, **facts).item()
    nsd = metrics.compute_surface_dice(tb, ta, [2.0], **facts).item()
    dice = metrics.compute_dice(tb, ta).item()
    assert found.hd95_voxel_max_mm == pytest.approx(hd95, rel=1e-6)
    assert found.nsd_voxel == pytest.approx(nsd, abs=1e-6)
    assert found.dice == pytest.approx(dice, rel=1e-6)
    assert found.volume_difference_percent == pytest.approx(100 * (b.sum() / a.sum() - 1))


def test_empty_masks_have_a_stated_policy() -> None:
    full, empty = np.ones((3, 3, 3), dtype=bool), np.zeros((3, 3, 3), dtype=bool)
    found = measures.agreement(empty, full, (1, 1, 1), 2)
    assert (found.dice, found.hd95_voxel_max_mm, found.nsd_voxel) == (0, float("inf"), 0)
    assert found.volume_difference_percent == -100
    assert measures.agreement(empty, empty, (1, 1, 1), 2).dice == 1
    with pytest.raises(ValueError, match="not on one grid"):
        measures.agreement(full, np.ones((3, 3, 4)), (1, 1, 1), 2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    parts = {"p0": "training", "p1": "test", "p2": "test", "p3": "test", "p4": "external", "p5": "external"}
    return Phantom(tmp_path_factory.mktemp("segquality"), parts)


def model_masks(cohort: Phantom) -> Path:
    """p1 perfect, p2 shifted by a voxel, p3 nothing found, p4 perfect, p5 failed."""
    rows = []
    for patient in cohort.patients:
        facts = cohort.facts(patient) | {"source": "tumour", "fold": "main", "roi": "GTV-1", "reason": ""}
        if patient in ("p3", "p5"):
            rows.append(facts | {"status": "rejected" if patient == "p3" else "failed", "reason": "SEG_EMPTY: x"})
            continue
        mask = cohort.spheres[patient].astype(np.uint8)
        mask = np.roll(mask, 1, axis=2) if patient == "p2" else mask
        path = cohort.root / "masks" / "tumour" / "main" / "all" / f"{facts['scan']}.nii"
        volumes.write(volumes.Volume(mask, cohort.geometry), path)
        file = {"status": "ok", "path": path.relative_to(cohort.root).as_posix(), "sha256": sha256_file(path)}
        rows.append(facts | file | {"voxels": int(mask.sum())})
    path = cohort.root / "masks" / "tumour" / "main" / "all.tsv"
    tables.write(rows, path, schemas.MASKS)
    return path


def call(cohort: Phantom, folder: Path, seen: list[str], **changes) -> dict:
    written = cohort.root / "ledger.json"
    facts = {"name": "tumour", "stage": "segmentation", "split": "main", "settings": "{}", "code": "0"}
    ledger.write(written, seen={"training": seen}, **facts)
    analyse(
        "quality",
        SegmentationQualityAnalysis(segmentation="tumour", bootstrap=50, **changes),
        segmentation=Segmentation(split="main", view="ct"),
        seed=1,
        masks=[model_masks(cohort)],
        reference=[cohort.masks],
        split=cohort.split,
        ledgers=[written],
        root=cohort.root,
        folder=folder,
        settings_json="{}",
        code="0",
    )
    return json.loads((folder / "metrics.json").read_text())


def test_analysis(cohort: Phantom) -> None:
    folder = cohort.root / "analyses" / "quality"
    found = call(cohort, folder, ["p0"])
    assert found["n"] == {"scans": 4, "patients": 4, "found_nothing": 1, "excluded": {"failed": 1}}
    sphere = cohort.spheres["p2"]
    shifted = 2 * (sphere & np.roll(sphere, 1, axis=2)).sum() / (2 * sphere.sum())
    everywhere = found["estimates"]["all centres"]
    assert everywhere["dice"]["value"] == pytest.approx((1 + shifted + 0 + 1) / 4)
    assert 0 <= everywhere["dice"]["lower"] < everywhere["dice"]["upper"] <= 1
    assert everywhere["hd95_voxel_max_mm"]["value"] == pytest.approx(1.0)  # median of 0, 0, 2 mm and infinity
    assert everywhere["hd95_voxel_max_mm"]["upper"] is None
    assert found["estimates"]["east"]["dice"] | {"seed": 0} == {
        "value": 1.0, "lower": None, "upper": None, "level": 0.95, "n": 1, "seed": 0,
        "method": everywhere["dice"]["method"],
    }  # fmt: skip
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    assert {p.split("/", 2)[2] for p in listed["path"]} == {
        "figures/summary.svg", "tables/scans.csv", "tables/summary.csv",
    }  # fmt: skip
    for row in listed.to_dict("records"):
        assert sha256_file(cohort.root / row["path"]) == row["sha256"]
    assert ledger.seen_by(ledger.read(folder / "ledger.json")) == {"quality": set(), "tumour": {"p0"}}
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    call(cohort, folder, ["p0"])
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_leaks_are_refused(cohort: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'tumour' behind its inputs has seen 1"):
        call(cohort, tmp_path, ["p0", "p2"])


def test_nothing_to_compare_is_told(cohort: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no reference mask 'liver'"):
        call(cohort, tmp_path, ["p0"], roi="liver")
