"""The estimate of space against the files that are really written, and what it says when the disk is full."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import passing, space, tables, volumes
from polycentric.config import plan
from polycentric.config.study import load_file
from polycentric.config.views import View
from polycentric.errors import UserError
from polycentric.prepare import apply
from polycentric.tables.schemas import CURATION
from polycentric.tables.schemas import VIEWS as VIEWS_SCHEMA
from polycentric.volumes import Geometry, Volume

SIZES = [((56, 50, 32), (0.9, 0.9, 3.0)), ((40, 40, 21), (1.5, 1.4, 5.0))]
HEADER = 352  # of a NIfTI file
VIEWS = {
    "fine": View(spacing_mm=(0.7, 0, 2)),
    "padded": View.model_validate({"from": "fine", "steps": [{"kind": "crop-or-pad", "size": [64, 0, 60]}]}),
    "resized": View.model_validate({"from": "padded", "steps": [{"kind": "resize", "size": [32, 32, 0]}]}),
    "again": View.model_validate({"from": "resized", "spacing_mm": [2, 2, 2]}),
}


def curation(sizes: list = SIZES, **columns: object) -> pd.DataFrame:
    rows = [
        {"modality": "CT", "verdict": "accept", "structures": 1, "columns": n[0], "rows": n[1], "slices": n[2],
         "spacing_x_mm": s[0], "spacing_y_mm": s[1], "spacing_z_mm": s[2], **columns}
        for n, s in sizes
    ]  # fmt: skip
    return pd.DataFrame(rows)


def planned(views: dict[str, View], **more: object) -> dict:
    return {"sources": {}, "networks": [], "views": {n: plan._extent(v) for n, v in views.items()}, **more}


def test_bytes_are_those_of_the_files_that_are_written(tmp_path: Path) -> None:
    rows = space.estimate(curation(), planned(VIEWS)).set_index("name")
    written = dict.fromkeys(("volumes", *VIEWS), 0)
    for size, spacing in SIZES:
        made = {"scan": Volume(np.zeros(size[::-1], np.int16), Geometry(size, spacing))}
        volumes.write(made["scan"], tmp_path / "scan.nii")
        written["volumes"] += (tmp_path / "scan.nii").stat().st_size - HEADER
        for name, view in VIEWS.items():
            made[name] = apply(view, made[view.from_])
            volumes.write(Volume(made[name].array.astype(np.float32), made[name].geometry), tmp_path / f"{name}.nii")
            written[name] += (tmp_path / f"{name}.nii").stat().st_size - HEADER
    assert rows["bytes"].to_dict() == written


def test_masks_count_once_for_each_region_of_scans_with_outlines() -> None:
    frame = curation()
    frame.loc[1, "structures"] = 0
    rows = space.estimate(frame, planned({}, sources={"manual": 3}, networks=["unet"])).set_index("name")
    assert rows.loc["manual", "bytes"] == 3 * 56 * 50 * 32
    assert rows.loc["manual", "scans"] == 1
    assert rows.loc["unet", "bytes"] == 56 * 50 * 32 + 40 * 40 * 21


def test_rejected_scans_take_no_space_and_unknown_sizes_count_as_the_mean() -> None:
    frame = curation([*SIZES, *SIZES])
    frame.loc[3, "verdict"] = "reject"
    frame.loc[2, "slices"] = None
    rows = space.estimate(frame, planned({})).set_index("name")
    assert rows.loc["volumes", "scans"] == 3
    assert rows.loc["volumes", "voxels"] == (56 * 50 * 32 + 40 * 40 * 21) / 2 * 3
    assert "1 scans without one" in rows.loc["volumes", "basis"]


def test_what_cannot_be_known_is_said() -> None:
    views = {"moved": View(onto={"where": "modality == 'CT'"}), "cut": View(steps=[{"kind": "otsu-crop"}])}
    rows = space.estimate(curation(), planned(views)).set_index("name")
    assert rows.loc["moved", "basis"].startswith("unknown")
    assert rows.loc["cut", "basis"].startswith("at most")


def whole(tmp_path: Path) -> Path:
    frame = curation().assign(centre="north", patient="P", session="S", contrast="no", contrast_tag="no", files=1)
    frame = frame.assign(scan=["a", "b"], files_sha256="0", contrast_description="no")
    tables.write(frame, tmp_path / "curation.parquet", CURATION)
    return tmp_path / "curation.parquet"


def test_a_full_disk_stops_before_the_first_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    need = int(space.estimate(curation(), planned(VIEWS))["bytes"].sum())
    kwargs = {"root": tmp_path / "results", "output": tmp_path / "space.tsv"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(need, 0, need))
    space.check(whole(tmp_path), planned(VIEWS), strict=True, **kwargs)
    first = (tmp_path / "space.tsv").read_bytes()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(need, 1, need - 1))
    with pytest.raises(UserError, match="keep: false") as error:
        space.check(whole(tmp_path), planned(VIEWS), strict=True, **kwargs)
    assert any("prepare fine" in line for line in error.value.messages)
    space.check(whole(tmp_path), planned(VIEWS), strict=False, **kwargs)
    assert (tmp_path / "space.tsv").read_bytes() == first, "what is free is no part of the estimate"
    # an image that is there already needs no room
    there = tmp_path / "results" / "views" / "fine" / "main" / "north-0" / "a.nii"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"0")
    space.check(whole(tmp_path), planned(VIEWS), strict=True, **kwargs)


def test_the_settings_of_the_toy_study_are_a_plan() -> None:
    study = load_file("config/config.yaml")
    import json

    own = json.loads(plan.settings(study, "estimate_space"))
    rows = space.estimate(curation(), own)
    assert set(rows["name"]) == {"volumes", "manual", "unet", *study.views}
    assert (rows["stage"] == "synthesize").sum() == 1


def test_images_that_came_and_went_need_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a view with keep: false; and whole numbers, which take half of what is estimated, leave nothing to be made."""
    usage = namedtuple("usage", "total used free")
    own = planned({"fine": VIEWS["fine"].model_copy(update={"keep": False})})
    rows = []
    for scan, (size, spacing) in zip("ab", SIZES, strict=True):
        made = apply(VIEWS["fine"], Volume(np.zeros(size[::-1], np.int16), Geometry(size, spacing)))
        path = tmp_path / "views" / "fine" / "main" / "north-0" / f"{scan}.nii"
        volumes.write(Volume(made.array.astype(np.int16), made.geometry), path)
        keys = {"centre": "north", "patient": "P", "session": "S", "scan": scan, "view": "fine", "fold": "main"}
        there = {"path": path.relative_to(tmp_path).as_posix(), "sha256": "0", "status": "ok"}
        rows.append({**keys, **there, **made.geometry.columns()})
    manifest = tmp_path / "views" / "fine" / "main" / "north-0.tsv"
    tables.write(rows, manifest, VIEWS_SCHEMA)
    volumes_only = int(space.estimate(curation(), own).set_index("name").loc["volumes", "bytes"])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, volumes_only))
    passing.hold(manifest, manifest.with_name("north-0.for.x.tsv"), tmp_path)
    space.check(whole(tmp_path), own, root=tmp_path, output=None, strict=True)
    passing.remove(manifest, manifest.with_name("north-0.removed.json"), tmp_path)
    space.check(whole(tmp_path), own, root=tmp_path, output=None, strict=True)
    # of a view that is made of other scans
    empty = dict.fromkeys([*Geometry((1, 1, 1), (1, 1, 1)).columns(), "path", "sha256"])
    tables.write(
        [{**rows[0], **empty, "status": "missing", "reason": "VIEW_NOT_SELECTED"}, rows[1]], manifest, VIEWS_SCHEMA
    )
    space.check(whole(tmp_path), own, root=tmp_path, output=None, strict=True)
    manifest.unlink()  # as Snakemake does before the job runs again
    with pytest.raises(UserError, match="still to be made"):
        space.check(whole(tmp_path), own, root=tmp_path, output=None, strict=True)
