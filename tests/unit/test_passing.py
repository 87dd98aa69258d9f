"""Views that do not stay: nothing is lost when their images go, and nothing but them is made again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from polycentric import passing, tables, volumes
from polycentric.config.study import Study, load_file
from polycentric.config.users import needed_for, users
from polycentric.config.views import View
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.prepare import prepare_shard
from polycentric.tables.schemas import VIEWS, VOLUMES
from polycentric.tools.audit import AUDIT, audit
from polycentric.volumes import Geometry, Volume

VIEW = View(clip=(-500, 500), steps=[{"kind": "gaussian", "sigma_mm": 2.0}])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """The manifest of a prepared view of two scans; of a third there is no image."""
    rows = []
    for index, scan in enumerate(("a", "b", "c")):
        array = np.random.default_rng(index).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
        volume = Volume(array, Geometry((7, 6, 5), (1.0, 1.0, 2.0)))
        path = tmp_path / "volumes" / "north-0" / f"{scan}.nii"
        volumes.write(volume, path)
        keys = {"centre": "north", "patient": f"P{index}", "session": "S", "scan": scan, "modality": "CT"}
        there = {"path": path.relative_to(tmp_path).as_posix(), "sha256": sha256_file(path), "status": "ok"}
        there = there if scan != "c" else {"path": "", "sha256": "", "status": "failed"}
        rows.append({**keys, **there, "reason": "", **volume.geometry.columns(), "pixels_sha256": "0"})
    tables.write(rows, tmp_path / "volumes" / "north-0.tsv", VOLUMES)
    path = tmp_path / "views" / "ct" / "main" / "north-0.tsv"
    make(tmp_path, path)
    return path


def make(root: Path, manifest: Path) -> None:
    prepare_shard("ct", VIEW, source=root / "volumes" / "north-0.tsv", root=root, manifest=manifest, code="1")


def images(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("views/ct/main/north-0/*.nii"))}


def test_images_go_and_come_again_with_the_same_bytes(tmp_path: Path, manifest: Path) -> None:
    before, listed = images(tmp_path), manifest.read_bytes()
    assert len(before) == 2
    lease = manifest.with_name("north-0.for.extract--mixed.tsv")
    assert passing.hold(manifest, lease, tmp_path)
    assert lease.read_bytes() == listed
    record = manifest.with_name("north-0.removed.json")
    passing.remove(manifest, record, tmp_path)
    assert images(tmp_path) == {}
    assert not lease.exists(), "a lease may not outlive the images"
    assert manifest.read_bytes() == listed
    assert not passing.hold(manifest, lease, tmp_path)
    assert not lease.exists()
    make(tmp_path, lease)
    passing.confirm(manifest, lease)
    assert images(tmp_path) == before
    first = record.read_bytes()
    passing.remove(manifest, record, tmp_path)
    passing.remove(manifest, record, tmp_path)
    assert record.read_bytes() == first, "the record is the same however often they went"


def test_one_lost_image_is_made_again_and_the_other_is_left(tmp_path: Path, manifest: Path) -> None:
    first, second = sorted(tmp_path.glob("views/ct/main/north-0/*.nii"))
    first.unlink()
    untouched = second.stat().st_mtime_ns
    lease = manifest.with_name("north-0.for.x.tsv")
    assert not passing.hold(manifest, lease, tmp_path)
    make(tmp_path, lease)
    passing.confirm(manifest, lease)
    assert first.exists()
    assert second.stat().st_mtime_ns == untouched


def test_images_of_other_bytes_are_refused(tmp_path: Path, manifest: Path) -> None:
    lease = manifest.with_name("north-0.for.x.tsv")
    text = manifest.read_text()
    (sha,) = {row["sha256"] for row in tables.read(manifest, VIEWS).to_dict("records") if row["scan"] == "a"}
    lease.write_text(text.replace(sha, "0" * 64))
    with pytest.raises(UserError, match="Delete this file"):
        passing.confirm(manifest, lease)


def test_the_audit_tells_images_that_went_from_lost_ones(tmp_path: Path, manifest: Path) -> None:
    passing.remove(manifest, manifest.with_name("north-0.removed.json"), tmp_path)
    audit([manifest], root=tmp_path, output=tmp_path / "audit.tsv", passing=["ct"])
    assert set(tables.read(tmp_path / "audit.tsv", AUDIT)["verdict"]) == {"not kept"}
    with pytest.raises(UserError, match="lost"):
        audit([manifest], root=tmp_path, output=tmp_path / "audit.tsv", passing=["other"])
    make(tmp_path, manifest)
    image = next(tmp_path.glob("views/ct/main/north-0/*.nii"))
    image.write_bytes(image.read_bytes() + b"0")
    with pytest.raises(UserError, match="changed"):
        audit([manifest], root=tmp_path, output=tmp_path / "audit.tsv", passing=["ct"])


def study(**keep: bool) -> Study:
    raw = load_file("config/config.yaml").model_dump(mode="json", by_alias=True)
    for name, value in keep.items():
        raw["views"][name]["keep"] = value
    raw["exports"] = {}
    return Study.model_validate(raw)


def test_images_wait_for_all_that_read_them() -> None:
    own = study(ct=False)
    waiting = needed_for(own, "ct", "north-0")
    for path in (
        "features/mixed/north-0.parquet", "masks/unet/main/north-0.tsv", "views/noncontrast/main/north-0.tsv",
        "models/decontrast/main/ledger.json", "models/standardised/main/ledger.json", "readers/turing/app.tsv",
        "analyses/fidelity/metrics.json", "profiles/default/ct/main/north-0.tsv",
    ):  # fmt: skip
        assert path in waiting
    assert "features/homogeneous/north-0.parquet" not in waiting, "these read another view"
    # nothing is trained on an external centre, so its images do not wait for training
    assert not any("ledger" in path for path in needed_for(own, "ct", "east-0"))
    assert not any("north" in path for path in needed_for(own, "ct", "east-0"))


def test_what_a_passing_view_is_made_from_waits_for_its_users_too() -> None:
    own = study(ct=False, noncontrast=False)
    assert "features/homogeneous/north-0.parquet" in needed_for(own, "ct", "north-0")


def test_keys_of_users_differ() -> None:
    keys = [user.key for user in users(study())]
    assert len(set(keys)) == len(keys)


def test_exports_need_views_that_stay() -> None:
    from polycentric.config.study import load

    raw = load_file("config/config.yaml").model_dump(mode="json", by_alias=True)
    raw["views"]["noncontrast"]["keep"] = False
    with pytest.raises(UserError) as error:
        load(raw)
    assert any("exports.noncontrast.view" in m and "keep: false" in m for m in error.value.messages)


def test_the_report_shows_no_picture_of_images_that_are_gone(tmp_path: Path) -> None:
    from polycentric.config.report import ReportSettings
    from polycentric.report import build
    from report_support import factory

    own = factory.make(tmp_path / "results")
    own.settings["views"]["noncontrast"]["keep"] = False
    passing.remove(own.inputs.views["noncontrast"][0], tmp_path / "record.json", own.root)
    build(
        ReportSettings(contact=0), study=own.settings, root=own.root, inputs=own.inputs, output=tmp_path / "report.html"
    )
    page = (tmp_path / "report.html").read_text()
    assert "none are shown: noncontrast" in page
    assert "Synthetic images</h3>" not in page
