"""Contact sheets, and the participant flow from files to masks."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from polycentric import tables, volumes
from polycentric.cohort.flow import with_conversion
from polycentric.report import contact, flow
from polycentric.tables.schemas import MASKS, VOLUMES
from polycentric.volumes import Geometry, Volume


def _rows(root: Path, centre: str, count: int, size: tuple[int, int, int] = (32, 24, 16)) -> list[dict[str, Any]]:
    rows = []
    for k in range(count):
        keys = {"centre": centre, "patient": f"P-{centre}{k}", "session": "S", "scan": f"V-{centre}{k:03d}"}
        volume = Volume(np.full(size[::-1], 30 + k, np.int16), Geometry(size, (1, 1, 2)))
        path = f"volumes/{centre}-0/{keys['scan']}.nii"
        volumes.write(volume, root / path)
        rows.append(keys | {"modality": "CT", "unit": "HU", "path": path, "sha256": "0", "status": "ok", "reason": ""}
                    | volume.geometry.columns())  # fmt: skip
    return rows


def test_sheets_are_capped_and_say_so(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "north", 13) + _rows(tmp_path, "south", 2)
    tables.write(rows, tmp_path / "volumes" / "all.tsv", VOLUMES)
    one, two = contact.sheets([tmp_path / "volumes" / "all.tsv"], tmp_path, tmp_path, number=12, window=(-160, 240))
    assert "12 scans of north, the first by pseudonym of 13" in one.caption
    assert "2 scans of south." in two.caption
    width, height = Image.open(one.path).size
    cell = contact.LABEL + 2 + 72 + 2 + 96 + contact.GAP  # axial 32 x 24 mm, coronal 32 x 32 mm: 3 pixels per mm
    assert width == 10 * (contact.CELL + contact.GAP) + contact.GAP
    assert height == pytest.approx(2 * cell, abs=8)
    assert contact.sheets([tmp_path / "volumes" / "all.tsv"], tmp_path, tmp_path, number=0, window=(0, 1)) == []


def test_a_scan_that_cannot_be_read_leaves_its_cell_empty(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "north", 2)
    (tmp_path / rows[0]["path"]).write_bytes(b"junk")
    tables.write(rows, tmp_path / "all.tsv", VOLUMES)
    (sheet,) = contact.sheets([tmp_path / "all.tsv"], tmp_path, tmp_path, number=5, window=(0, 100))
    values = np.asarray(Image.open(sheet.path).convert("L"))[40:110]
    assert values[:, 10:90].max() < 40 < values[:, 110:190].mean()


def test_many_centres_share_the_space(tmp_path: Path) -> None:
    """20 centres of 40 scans with noise, which compresses worst, leave the report room: it has 10 MB."""
    rng = np.random.default_rng(1)
    rows = _rows(tmp_path, "c", 1, (128, 128, 64))
    volume = Volume(rng.normal(0, 100, (64, 128, 128)).astype(np.int16), Geometry((128, 128, 64), (1, 1, 2)))
    volumes.write(volume, tmp_path / rows[0]["path"])
    many = [rows[0] | {"centre": f"c{k:02d}", "scan": f"V-{k}-{n}"} for k in range(20) for n in range(40)]
    tables.write(many, tmp_path / "all.tsv", VOLUMES)
    sheets = contact.sheets([tmp_path / "all.tsv"], tmp_path, tmp_path, number=40, window=(-160, 240))
    assert len(sheets) == 20
    assert all("12 scans of" in sheet.caption for sheet in sheets)
    assert sum(sheet.path.stat().st_size for sheet in sheets) * 4 / 3 < 3.2e6


# -------------------------------------------------------------------------------------------------------------- flow


def _steps(candidates: int = 10, excluded: int = 3, accepted: int = 7) -> pd.DataFrame:
    rows = [
        (1, "files", "", 900), (5, "candidates", "", candidates), (6, "excluded", "GEOM_MISSING_SLICE", excluded),
        (7, "accepted", "", accepted), (8, "accepted with contours", "", accepted),
    ]  # fmt: skip
    return pd.DataFrame(
        [
            {"centre": "x", "step": s, "box": b, "code": c, "patients": n if s > 1 else 0, "scans": n}
            for s, b, c, n in rows
        ]
    )


def _manifests(ok: int, bad: dict[str, int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    reasons = [""] * ok + [reason for reason, n in bad.items() for _ in range(n)]
    volumes_ = [
        {"centre": "x", "patient": f"P{k}", "session": "S", "scan": f"V{k}", "modality": "CT"}
        | {"status": "ok" if not r else "failed" if "see the log" in r else "rejected", "reason": r}
        for k, r in enumerate(reasons)
    ]
    masks = [
        {k: row[k] for k in ("centre", "patient", "session", "scan")}
        | {"source": source, "fold": "main", "roi": roi, "status": "ok", "reason": ""}
        for row in volumes_[:ok]
        for source, roi in (("manual", "tumour"), ("manual", "lung"), ("reader-a", "tumour"))
    ]
    complete = [frame.reindex(columns=list(s.columns)) for frame, s in (
        (pd.DataFrame(volumes_), VOLUMES), (pd.DataFrame(masks, columns=list(MASKS.columns)), MASKS))]  # fmt: skip
    return complete[0], complete[1]


def _whole(volumes: pd.DataFrame, masks: pd.DataFrame) -> pd.DataFrame:
    """The flow as the cohort continues it and the report shows it."""
    accepted = volumes[["centre", "patient", "scan"]].assign(structures=1)
    return flow.with_outlines(with_conversion(_steps(), accepted, volumes), masks)


def test_what_conversion_could_not_use_is_a_box_with_reasons() -> None:
    bad = {"TS_UNDECODABLE: slice 3 cannot be decoded": 2, "KeyError: see the log of this job": 1}
    whole = _whole(*_manifests(4, bad))
    assert flow.check(whole) == []
    (box,) = [b for b in flow.boxes(whole) if b.name == "not converted"]
    assert box.reasons == (("FAILED", 1), ("TS_UNDECODABLE", 2))
    counts = {b.name: b.scans for b in flow.boxes(whole)}
    assert counts["with a volume"] == counts["with outlines"] == 4
    (outlined,) = [b for b in flow.boxes(whole) if b.name == "with outlines"]
    assert outlined.reasons == (("manual", 4), ("reader-a", 4))  # the sources overlap, their scans count once
    names = [b.name for b in flow.boxes(whole)]
    assert names.index("accepted") < names.index("not converted") < names.index("with a volume")


def test_scans_that_vanish_in_conversion_are_a_problem() -> None:
    whole = _whole(*_manifests(5, {"TS_UNDECODABLE: x": 1}))
    assert flow.check(whole) == ["x: 7 accepted less 1 not converted are not 5 with a volume."]
    assert flow.check(_whole(*_manifests(6, {})))
    assert flow.check(_whole(*_manifests(7, {}))) == []


def test_a_centre_of_which_nothing_is_left_shows_its_zero() -> None:
    whole = _steps(excluded=10, accepted=0)
    assert flow.check(whole) == []
    assert {b.name: b.scans for b in flow.boxes(whole)}["accepted"] == 0
    assert flow.check(_steps(excluded=9, accepted=0)) == ["x: 10 candidates less 9 excluded are not 0 accepted."]
    texts = [e.text for e in ET.fromstring(flow.draw(whole, {})).iter("{http://www.w3.org/2000/svg}text")]
    assert "0 scans" in texts


def test_the_drawing_that_stands_alone_brings_its_style() -> None:
    css = (Path(flow.__file__).with_name("page") / "style.css").read_text()
    alone = flow.draw(_steps(), {"x": "development"}, flow.page_style(css))
    (style,) = ET.fromstring(alone).iter("{http://www.w3.org/2000/svg}style")
    for name in ("in", "out", "name", "code", "count", "arrow", "head"):
        assert f".flow .{name} " in style.text
    assert "<style>" not in flow.draw(_steps(), {"x": "development"})  # the page's security policy would refuse it
