"""Volumes and masks as NRRD: other readers get the same voxels at the same places."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from polycentric import tables, volumes
from polycentric.config.export import DicomExport, NrrdExport
from polycentric.config.study import load, load_file
from polycentric.errors import UserError
from polycentric.export import export_nrrd
from polycentric.export.nrrd import NRRD, write_nrrd
from polycentric.files import sha256_file
from polycentric.tables.schemas import MASKS, VIEWS, VOLUMES
from polycentric.volumes import Geometry, Volume

RNG = np.random.default_rng(0)
ANGLE = 0.3
TILTED = (1.0, 0.0, 0.0, 0.0, np.cos(ANGLE), -np.sin(ANGLE), 0.0, np.sin(ANGLE), np.cos(ANGLE))
GRID = Geometry((7, 6, 5), (0.1 + 0.2, 0.71234567890123, 2.5), (-120.3, 1 / 3, -1e-7), tuple(map(float, TILTED)))


def parsed(path: Path) -> tuple[dict[str, str], np.ndarray]:
    """Header fields and values of an NRRD file, read by the rules of its definition alone."""
    head, _, data = path.read_bytes().partition(b"\n\n")
    lines = head.decode("ascii").split("\n")
    assert re.fullmatch("NRRD000[1-5]", lines[0])
    fields = dict(line.split(": ", 1) for line in lines[1:] if not line.startswith("#"))
    kind = {"unsigned char": "u1", "short": "i2", "float": "f4", "double": "f8"}[fields["type"]]
    assert (fields["encoding"], fields["endian"]) == ("gzip", "little")
    sizes = [int(n) for n in fields["sizes"].split()]
    # the first axis is the fastest
    return fields, np.frombuffer(gzip.decompress(data), f"<{kind}").reshape(sizes[::-1])


def vectors(text: str) -> np.ndarray:
    return np.array([[float(v) for v in part.split(",")] for part in re.findall(r"\(([^)]*)\)", text)])


@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8", ">i2"])
def test_other_readers_get_the_same_volume(tmp_path: Path, kind: str) -> None:
    array = RNG.integers(0, 200, GRID.size[::-1]).astype(kind)
    path = tmp_path / "a.nrrd"
    write_nrrd(Volume(array, GRID), path)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
    assert image.GetSize() == GRID.size
    np.testing.assert_allclose(image.GetSpacing(), GRID.spacing, rtol=1e-15)
    np.testing.assert_allclose(image.GetDirection(), GRID.direction, atol=1e-15)
    assert image.GetOrigin() == GRID.origin

    fields, values = parsed(path)
    np.testing.assert_array_equal(values, array)
    assert fields["space"] == "left-posterior-superior"
    assert tuple(vectors(fields["space origin"])[0]) == GRID.origin
    # a row per axis: where a step along it leads, mm in the patient
    columns = np.array(GRID.direction).reshape(3, 3).T
    np.testing.assert_array_equal(vectors(fields["space directions"]), columns * np.array(GRID.spacing)[:, None])


def test_the_same_volume_is_the_same_bytes(tmp_path: Path) -> None:
    array = RNG.normal(size=GRID.size[::-1]).astype(np.float32)
    for name in ("a.nrrd", "other.nrrd"):
        write_nrrd(Volume(array, GRID), tmp_path / name)
    assert sha256_file(tmp_path / "a.nrrd") == sha256_file(tmp_path / "other.nrrd")
    assert (tmp_path / "a.nrrd").stat().st_size < array.nbytes + 600


def study(root: Path) -> dict[str, Path]:
    """Three scans: one with two regions, one whose view failed, one with a bad mask and a shifted one."""
    rows: dict[str, list] = {"volumes": [], "views": [], "masks": []}

    def file(volume: Volume, path: str) -> dict[str, Any]:
        volumes.write(volume, root / path)
        return {"path": path, "sha256": sha256_file(root / path), "status": "ok", "reason": ""}

    for n in range(3):
        key = {"centre": "north", "patient": f"P-{n}", "session": "S", "scan": f"V-{n}"}
        image = Volume(RNG.integers(-1000, 1000, GRID.size[::-1]).astype(np.int16), GRID)
        view = Volume(RNG.normal(size=(4, 4, 4)).astype(np.float32), Geometry((4, 4, 4), (1.0, 1.0, 1.0)))
        rows["volumes"].append(key | {"modality": "CT"} | file(image, f"volumes/north-0/V-{n}.nii") | GRID.columns())
        made = file(view, f"views/ct/main/north-0/V-{n}.nii") | view.geometry.columns()
        if n == 1:
            made = {"status": "rejected", "reason": "GEOM_GAP: a slice is missing"}
        rows["views"].append(key | {"view": "ct", "fold": "main"} | made)
        for number, roi in enumerate(("GTV-1", "left lung")):
            grid = GRID if n != 2 else Geometry(GRID.size, GRID.spacing, (0.0, 0.0, 0.0), GRID.direction)
            mask = Volume((RNG.random(GRID.size[::-1]) < 0.3).astype(np.uint8), grid)
            outline = file(mask, f"masks/manual/main/north-0/V-{n}--{number}.nii")
            if n == 2 and number == 1:
                outline = {"status": "rejected", "reason": "MASK_TINY: 3 voxels"}
            rows["masks"].append(key | {"source": "manual", "fold": "main", "roi": roi} | outline)
    for name, schema in (("volumes", VOLUMES), ("views", VIEWS), ("masks", MASKS)):
        tables.write(pd.DataFrame(rows[name]), root / f"{name}.tsv", schema)
    return {name: root / f"{name}.tsv" for name in rows}


def export(root: Path, paths: dict[str, Path], **settings: Any) -> pd.DataFrame:
    chosen = NrrdExport(kind="nrrd", **settings)
    manifest = root / "nrrd" / "slicer" / "north-0.tsv"
    export_nrrd(
        chosen, images=paths["volumes" if chosen.view == "scan" else "views"], volumes=paths["volumes"],
        masks=paths["masks"] if chosen.masks else None, root=root, manifest=manifest,
        settings_json=chosen.model_dump_json(), code="0",
    )  # fmt: skip
    return tables.read(manifest, NRRD)


def test_a_shard_keeps_geometry_and_labels(tmp_path: Path) -> None:
    paths = study(tmp_path)
    rows = export(tmp_path, paths, masks="manual").set_index(["scan", "roi"])
    folder = tmp_path / "nrrd" / "slicer" / "north-0"
    assert rows.loc[("V-0", ""), "path"] == "nrrd/slicer/north-0/V-0.nrrd"
    assert rows.loc[("V-0", "GTV-1"), "path"] == "nrrd/slicer/north-0/V-0--GTV-1.nrrd"
    for (scan, roi), row in rows[rows["status"].eq("ok")].iterrows():
        assert sha256_file(tmp_path / row["path"]) == row["sha256"]
        written = Volume.from_sitk(sitk.ReadImage(str(tmp_path / row["path"])))
        number = "" if not roi else f"--{('GTV-1', 'left lung').index(roi)}"
        source = f"masks/manual/main/north-0/{scan}{number}.nii" if roi else f"volumes/north-0/{scan}.nii"
        truth = volumes.read(tmp_path / source)
        np.testing.assert_array_equal(written.array, truth.array)
        assert written.array.dtype == truth.array.dtype
        # image and mask on one grid, to the last digit but for the norm of the directions; NIfTI has float32
        np.testing.assert_allclose(written.geometry.spacing, GRID.spacing, rtol=1e-15)
        assert written.geometry.origin == GRID.origin
        np.testing.assert_allclose(written.geometry.origin, truth.geometry.origin, atol=1e-4)
        np.testing.assert_allclose(written.geometry.direction, truth.geometry.direction, atol=1e-6)
    assert rows.loc["V-2", "status"].to_dict() == {"": "ok", "GTV-1": "rejected", "left lung": "rejected"}
    assert rows.loc[("V-2", "GTV-1"), "reason"].startswith("MASK_GEOMETRY")
    assert rows.loc[("V-2", "left lung"), "reason"] == "MASK_TINY: 3 voxels"
    assert len([*folder.glob("*.nrrd")]) == 3 + 4

    # another choice of regions leaves no file of the first behind
    rows = export(tmp_path, paths, masks="manual", rois=("GTV-1", "heart")).set_index(["scan", "roi"])
    assert rows.loc[("V-0", "heart"), "reason"].startswith("ROI_MISSING: manual does not outline it")
    assert sorted(p.name for p in folder.glob("*.nrrd")) == [
        "V-0--GTV-1.nrrd", "V-0.nrrd", "V-1--GTV-1.nrrd", "V-1.nrrd", "V-2.nrrd",
    ]  # fmt: skip


def test_a_view_has_its_own_grid_and_what_is_missing_is_a_row(tmp_path: Path) -> None:
    rows = export(tmp_path, study(tmp_path), view="ct").set_index("scan")
    assert rows["status"].to_dict() == {"V-0": "ok", "V-1": "missing", "V-2": "ok"}
    assert rows.loc["V-1", "reason"] == "GEOM_GAP: a slice is missing"
    image = sitk.ReadImage(str(tmp_path / rows.loc["V-0", "path"]))
    assert image.GetSize() == (4, 4, 4)
    assert image.GetPixelIDTypeAsString() == "32-bit float"


def test_settings() -> None:
    raw = load_file("config/config.yaml").model_dump(mode="json", by_alias=True)
    raw["exports"] = {
        "pacs": {"view": "noncontrast"},
        "slicer": {"kind": "nrrd", "masks": "manual"},
        "automatic": {"kind": "nrrd", "view": "noncontrast", "masks": "unet", "rois": ["tumour"]},
    }
    study = load(raw)
    assert study.dicom_exports == [DicomExport(view="noncontrast")]
    for change, words in (
        ({"view": "cts"}, "exports.slicer.view"),
        ({"masks": "hand"}, "exports.slicer.masks"),
        ({"masks": None, "rois": ["tumour"]}, "rois belong to a mask source"),
        ({"kind": "mha"}, "kind must be dicom or nrrd"),
    ):
        wrong = raw | {"exports": raw["exports"] | {"slicer": raw["exports"]["slicer"] | change}}
        with pytest.raises(UserError, match=re.escape(words)):
            load(wrong)
