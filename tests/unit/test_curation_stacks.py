"""Curation: stacks of slices and frames, how they are told apart, repaired and laid onto a grid."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import tiny_dicom
from highdicom.spatial import get_volume_positions
from polycentric.curation.geometry import Stack
from polycentric.tables.schemas import GRID
from polycentric.volumes import Geometry
from tiny_index import candidates, curated, magnetic, multiframe, one, slices

ANY = {"axial_tolerance_deg": None, "modalities": ("CT", "MR", "PT")}


def verdicts(*parts: pd.DataFrame, **settings: object) -> list[tuple[str, str, int]]:
    """Verdict, codes and slices of each candidate."""
    return [(c.verdict, ";".join(c.codes), len(c.files)) for c in candidates(*parts, **settings)]


def again(frame: pd.DataFrame, name: str = "again", **columns: object) -> pd.DataFrame:
    """The same series and positions, other instances, other pixels."""
    count = len(frame)
    facts = {"sop_instance": [tiny_dicom.uid(name, n) for n in range(count)]}
    facts |= {"path": [f"{name}/{n}" for n in range(count)], "content_sha256": [f"{name}{n}" for n in range(count)]}
    return frame.assign(**(facts | columns))


def hashed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(content_sha256=[f"first{n}" for n in range(len(rows))])


def grid_of(files: pd.DataFrame) -> Geometry:
    used = files[files["use"] == "slice"]
    assert (used[list(GRID)].nunique() == 1).all()
    return Geometry.from_columns(used.iloc[0])


# --------------------------------------------------------------------------------------------- several in one series


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"acquisition_number": "1"}, {"acquisition_number": "2"}),
        ({"echo_time_ms": 2.3}, {"echo_time_ms": 4.6}),
        ({"temporal_position": "1"}, {"temporal_position": "2"}),
        ({"b_value": 0.0}, {"b_value": 800.0}),
        ({"image_type": "ORIGINAL\\PRIMARY\\M\\ND"}, {"image_type": "ORIGINAL\\PRIMARY\\P\\ND"}),
        ({"kernel": "B30f"}, {"kernel": "B70f"}),
        ({"acquisition_time": "101000"}, {"acquisition_time": "101130"}),
        # each slice has a time of its own, but the second pass begins when the first is over
        (
            {"content_time": [f"1010{n:02d}" for n in range(12)]},
            {"content_time": [f"1011{n:02d}" for n in range(12)]},
        ),
        ({"acquisition_number": [str(n) for n in range(12)]}, {"acquisition_number": [str(n + 12) for n in range(12)]}),
    ],
)
def test_full_stacks_are_told_apart_by_tags(first: dict[str, object], second: dict[str, object]) -> None:
    rows = hashed(slices(**first))
    found = candidates(rows, again(rows, **second))
    assert [(c.verdict, c.codes, len(c.files)) for c in found] == [("repair", ["SERIES_MULTI_ACQ"], 12)] * 2
    for c in found:  # no mixture: each volume has the value of one part, or one pass
        (column,) = first
        values = first[column] if isinstance(first[column], list) else [first[column]]
        assert len(set(c.files[column]) & set(values)) in (0, len(values))


def test_interleaved_passes_are_not_told_apart_by_time() -> None:
    rows = hashed(slices(content_time=[f"1010{2 * n:02d}" for n in range(12)]))
    second = again(rows, content_time=[f"1010{2 * n + 1:02d}" for n in range(12)])
    # slice by slice, both images of a place one after the other: no pass is over before the next begins
    assert verdicts(rows, second) == [("reject", "DUP_POSITION_DIFF_PIXELS", 24)]


def test_echo_and_phase_together_tell_four_volumes_apart() -> None:
    base = hashed(slices())
    parts = [
        again(base, f"{echo}{kind}", echo_time_ms=echo, image_type=f"ORIGINAL\\PRIMARY\\{kind}")
        for echo in (2.3, 4.6)
        for kind in ("M", "P")
    ]
    assert verdicts(*parts) == [("repair", "SERIES_MULTI_ACQ", 12)] * 4


def test_repeated_slices_of_another_acquisition_are_set_aside() -> None:
    rows = hashed(slices())
    rows, files = curated(rows, again(rows.iloc[3:5], acquisition_number="2"))
    assert (rows.loc[0, "verdict"], rows.loc[0, "codes"]) == ("repair", "DUP_POSITION_DIFF_PIXELS")
    assert (files["use"] == "dropped").sum() == 2
    assert set(files.loc[files["use"] == "dropped", "code"]) == {"DUP_POSITION_DIFF_PIXELS"}
    # of a mixture, the volume that a tag names goes on; the rest is a candidate that is rejected
    base = hashed(slices())
    directions = [again(base, f"d{n}", b_value=800.0) for n in range(3)]
    assert verdicts(base.assign(b_value=0.0), *directions) == [
        ("repair", "DUP_POSITION_DIFF_PIXELS", 12), ("reject", "DUP_POSITION_DIFF_PIXELS", 36)
    ]  # fmt: skip
    # and two acquisitions that overlap by half are two volumes
    base = hashed(slices(24))
    assert (
        verdicts(base.iloc[:16], again(base.iloc[8:], acquisition_number="2"))
        == [("repair", "DUP_POSITION_DIFF_PIXELS", 16)] * 2
    )


def test_slices_of_other_matrix_or_orientation() -> None:
    rows = slices(20)
    small = rows.assign(rows=[512] * 16 + [256] * 4)
    assert verdicts(small) == [("repair", "GEOM_MATRIX_MIXED", 16), ("repair", "GEOM_MATRIX_MIXED", 4)]
    # half and half is no majority, unless both halves cover the scan: two reconstructions
    half = rows.assign(pixel_spacing_x_mm=[0.8] * 10 + [0.7] * 10)
    assert [v[:2] for v in verdicts(half)] == [("reject", "GEOM_MATRIX_MIXED")]
    fine = again(rows, rows=48, columns=64, pixel_spacing_x_mm=0.4, pixel_spacing_y_mm=0.4)
    assert verdicts(rows, fine) == [("repair", "GEOM_MATRIX_MIXED", 20)] * 2
    # one slice of another matrix within the stack leaves a hole
    hole = rows.assign(rows=[24] * 7 + [20] + [24] * 12)
    assert verdicts(hole)[0][:2] == ("reject", "GEOM_MATRIX_MIXED")
    # every second slice turned in its plane: one stack of which each part has half
    turned = rows.assign(orientation=["1.0 0.0 0.0 0.0 1.0 0.0", "0.0 1.0 0.0 -1.0 0.0 0.0"] * 10)
    assert verdicts(turned) == [("reject", "GEOM_MIXED_ORIENTATION", 20)]
    coronal = slices(12, orientation="1.0 0.0 0.0 0.0 0.0 -1.0", position_z_mm=100.0)
    coronal = again(coronal.assign(position_y_mm=np.arange(12) * 3.0), series_uid=rows["series_uid"].iloc[0])
    assert verdicts(rows, coronal) == [
        ("repair", "GEOM_MIXED_ORIENTATION", 20), ("reject", "GEOM_MIXED_ORIENTATION;GEOM_NOT_AXIAL", 12)
    ]  # fmt: skip


def test_parts_of_parts_have_scans_of_their_own() -> None:
    rows = hashed(slices(20))
    fine = again(rows, rows=48, columns=64, pixel_spacing_x_mm=0.4, pixel_spacing_y_mm=0.4)
    late = again(fine, "late", acquisition_number="2")
    found, files = curated(rows, fine, late)
    assert found["scan"].nunique() == 3
    assert found["slices"].tolist() == [20, 20, 20]
    assert (files["use"] == "slice").sum() == 60


# ------------------------------------------------------------------------------------------------ series in fragments


def scattered(rows: pd.DataFrame, prefix: str = "f", **columns: object) -> pd.DataFrame:
    return rows.assign(series_uid=[tiny_dicom.uid(prefix, n) for n in range(len(rows))], **columns)


def test_a_series_identifier_for_each_slice_makes_one_scan() -> None:
    row, files = one(scattered(magnetic()), **ANY)
    assert (row["verdict"], row["codes"], row["slices"]) == ("repair", "SERIES_FRAGMENTED", 12)
    assert json.loads(row["repairs"])[0] == {"after": 1, "before": 12, "code": "SERIES_FRAGMENTED", "files": 0}
    assert files["series_uid"].nunique() == 12
    refused, _ = one(scattered(magnetic()), **ANY, verdicts={"SERIES_FRAGMENTED": "reject"})
    assert refused["excluded"] == "SERIES_FRAGMENTED"
    # also if the frame of reference was replaced slice by slice
    frames = [tiny_dicom.uid("frame", n) for n in range(12)]
    assert verdicts(scattered(magnetic(), frame_uid=frames), **ANY) == [("repair", "SERIES_FRAGMENTED", 12)]


def test_fragments_of_two_echoes_make_two_scans() -> None:
    rows = magnetic(content_sha256=[f"{n}" for n in range(12)])
    second = scattered(again(rows, echo_time_ms=2.3), "g")
    assert verdicts(scattered(rows), second, **ANY) == [("repair", "SERIES_FRAGMENTED", 12)] * 2


def test_a_missing_fragment_is_a_missing_slice() -> None:
    assert verdicts(scattered(slices()).drop(index=5)) == [("reject", "SERIES_FRAGMENTED;GEOM_MISSING_SLICE", 11)]


@pytest.mark.parametrize(
    "columns",
    [
        {"patient_id": [f"P{n}" for n in range(12)]},
        {
            "study_uid": [tiny_dicom.uid("st", n) for n in range(12)],
            "frame_uid": [tiny_dicom.uid(n) for n in range(12)],
        },
        {"position_z_mm": [1.0, 5, 6, 20, 22, 29, 31, 44, 46, 60, 61, 80]},
        {"position_z_mm": 100.0},
        {"series_description": [f"view {n}" for n in range(12)]},
        # scanners number series, and each begins with its first instance
        {"series_number": [str(n) for n in range(12)], "instance_number": 1.0},
        {"image_type": "ORIGINAL\\PRIMARY\\LOCALIZER"},
    ],
)
def test_short_series_that_are_none_of_one_stack_stay_apart(columns: dict[str, object]) -> None:
    found = verdicts(scattered(slices(**columns)))
    assert len(found) == 12
    assert {verdict for verdict, _, _ in found} == {"reject"}
    assert not any("SERIES_FRAGMENTED" in codes for _, codes, _ in found)


# ------------------------------------------------------------------------------------------------------------ repairs


def test_gantry_tilt_is_planned_as_a_shear() -> None:
    angle = np.radians(18.5)
    orientation = f"1.0 0.0 0.0 0.0 {float(np.cos(angle))!r} {float(np.sin(angle))!r}"
    row, files = one(slices(20, spacing=5.0, orientation=orientation))
    assert (row["verdict"], row["codes"]) == ("repair", "GEOM_GANTRY_TILT;THICKNESS_NE_SPACING")
    assert json.loads(row["repairs"])[0]["before"] == {"shear_deg": pytest.approx(18.5)}
    before, after = json.loads(row["geometry_before"]), json.loads(row["geometry_after"])
    step = 5.0 * np.cos(angle)
    assert before["spacing_mm"][2] == after["spacing_mm"][2] == pytest.approx(step)
    assert before["size"] == [32, 24, 20]
    grid = grid_of(files)
    used = files[files["use"] == "slice"].sort_values("order")
    assert set(used["geometry_repair"]) == {"shear"}
    # every pixel centre of every acquired slice lies within the grid, in the plane of a grid slice
    directions = np.array(grid.direction).reshape(3, 3).T
    axes = np.array([[1, 0, 0], [0, np.cos(angle), np.sin(angle)], [0, -np.sin(angle), np.cos(angle)]])
    assert np.allclose(directions, axes)
    for number in range(20):
        origin = np.array([-50.5, -40.25, 100.0 + 5.0 * number])
        for x, y in ((0, 0), (31, 0), (0, 23), (31, 23)):
            point = origin + 0.8 * x * axes[0] + 0.8 * y * axes[1]
            index = (directions @ (point - np.array(grid.origin))) / np.array(grid.spacing)
            assert index[2] == pytest.approx(number, abs=1e-6)
            assert (index > -1e-6).all()
            assert (index[:2] < np.array(grid.size[:2]) - 1 + 1e-6).all()
        place = used.iloc[number]
        moved = np.array([-50.5, -40.25, 100.0])
        moved = moved + place["offset_x_mm"] * axes[0] + place["offset_y_mm"] * axes[1]
        along = place["position_mm"] - used["position_mm"].iloc[0]
        assert np.allclose(moved + along * axes[2], origin)
    assert one(slices(20, orientation=orientation), verdicts={"GEOM_GANTRY_TILT": "reject"})[0]["excluded"] == (
        "GEOM_GANTRY_TILT"
    )


def test_a_tilted_scan_is_axial_and_an_oblique_one_is_not() -> None:
    angle = np.radians(20)
    orientation = f"1.0 0.0 0.0 0.0 {float(np.cos(angle))!r} {float(np.sin(angle))!r}"
    assert verdicts(slices(orientation=orientation, thickness_mm=None))[0][1] == "GEOM_GANTRY_TILT"
    along = np.arange(12) * 3.0
    oblique = slices(orientation=orientation, position_y_mm=-along * np.sin(angle), position_z_mm=along * np.cos(angle))
    assert verdicts(oblique) == [("reject", "GEOM_NOT_AXIAL", 12)]


def test_isolated_missing_slices_are_interpolated_where_a_study_says_so() -> None:
    repair = {"verdicts": {"GEOM_MISSING_SLICE": "repair"}}
    rows = slices(30).drop(index=[7, 20])
    assert verdicts(rows) == [("reject", "GEOM_MISSING_SLICE", 28)]
    row, files = one(rows, **repair)
    assert (row["verdict"], row["codes"], row["slices"]) == ("repair", "GEOM_MISSING_SLICE", 28)
    assert grid_of(files).size == (32, 24, 30)
    assert grid_of(files).spacing[2] == pytest.approx(3.0)
    assert set(files["geometry_repair"]) == {"interpolate"}
    assert json.loads(row["repairs"])[0]["after"] == {"slices": 30, "interpolated": 2}
    assert json.loads(row["geometry_before"])["largest_step_mm"] == 6.0
    two = slices(30).drop(index=[7, 8])
    assert verdicts(two, **repair) == [("reject", "GEOM_MISSING_SLICE", 28)]
    assert verdicts(two, **repair, missing_slices=2) == [("repair", "GEOM_MISSING_SLICE", 28)]


def test_variable_distance_is_resampled_where_a_study_says_so() -> None:
    repair = {"verdicts": {"GEOM_VARIABLE_SPACING": "repair"}}
    along = np.concatenate([np.arange(10) * 3.0, 27.0 + 1.0 + np.arange(10) * 1.0])
    rows = slices(20, position_z_mm=along, thickness_mm=None)
    assert verdicts(rows) == [("reject", "GEOM_VARIABLE_SPACING", 20)]
    row, files = one(rows, **repair, uniform_spacing_mm=2.0)
    assert (row["verdict"], row["codes"]) == ("repair", "GEOM_VARIABLE_SPACING")
    grid = grid_of(files)
    assert (grid.size[2], grid.spacing[2]) == (19, 2.0)  # 37 mm hold 18 steps of 2 mm
    used = files.sort_values("order")
    assert np.allclose(used["position_mm"], along)
    assert set(used["geometry_repair"]) == {"resample"}
    assert grid_of(one(rows, **repair)[1]).spacing[2] == pytest.approx(1.0)  # the median
    assert verdicts(rows, **repair, largest_gap_mm=2.5) == [("reject", "GEOM_VARIABLE_SPACING", 20)]


def test_slice_location_stands_in_for_positions_where_a_study_says_so() -> None:
    repair = {"verdicts": {"GEOM_NO_POSITION": "repair"}}
    nowhere = {f"position_{a}_mm": None for a in "xyz"}
    rows = slices(slice_location_mm=np.arange(12)[::-1] * 3.0 + 7, **nowhere)
    assert verdicts(rows) == [("reject", "GEOM_NO_POSITION", 12)]
    row, files = one(rows, **repair)
    assert (row["verdict"], row["codes"], row["spacing_z_mm"]) == ("repair", "GEOM_NO_POSITION", 3.0)
    used = files[files["use"] == "slice"].sort_values("order")
    assert np.allclose(used["position_mm"], 7 + 3.0 * np.arange(12))
    assert used["path"].tolist() == sorted(used["path"])[::-1]
    assert verdicts(rows.assign(orientation=""), **repair) == [("repair", "GEOM_NO_POSITION", 12)]
    for location in (None, 5.0, np.arange(12) ** 2.0):
        bad = rows.assign(slice_location_mm=location)
        assert verdicts(bad, **repair) == [("reject", "GEOM_NO_POSITION", 12)]


# ------------------------------------------------------------------------------------------------------------- frames


def test_frames_of_one_file_are_the_slices_of_a_scan() -> None:
    rows = multiframe([{} for _ in range(12)])
    row, files = one(rows)
    assert (row["verdict"], row["codes"]) == ("accept", "MULTIFRAME_ENHANCED")
    assert (row["files"], row["slices"], row["spacing_z_mm"], row["thickness_mm"]) == (1, 12, 3.0, 3.0)
    assert files["frame"].tolist() == files["order"].tolist() == list(range(12))
    assert files["path"].nunique() == 1
    _, flat_files = one(slices())
    assert grid_of(files) == grid_of(flat_files)
    backwards = [{"position": [-50.5, -40.25, 100.0 - 3.0 * n]} for n in range(12)]
    _, files = one(multiframe(backwards))
    assert files.sort_values("order")["frame"].tolist() == list(range(12))[::-1]


def test_frames_have_the_defects_of_slices() -> None:
    def frames(count: int = 12, **facts: object) -> list[dict[str, object]]:
        return [{key: value(n) if callable(value) else value for key, value in facts.items()} for n in range(count)]

    gap = [{"position": [0, 0, 3.0 * n]} for n in range(12) if n != 5]
    assert verdicts(multiframe(gap)) == [("reject", "MULTIFRAME_ENHANCED;GEOM_MISSING_SLICE", 11)]
    assert verdicts(multiframe(frames(position=None)))[0][1] == "MULTIFRAME_ENHANCED;GEOM_NO_POSITION"
    assert verdicts(slices(1, frames=12))[0][1] == "MULTIFRAME_ENHANCED;GEOM_NO_POSITION"
    assert verdicts(multiframe(frames(slope=lambda n: 1.0 + n)))[0][:2] == (
        "accept", "MULTIFRAME_ENHANCED;RESCALE_VARIES"
    )  # fmt: skip
    assert verdicts(multiframe([{} for _ in range(12)]), verdicts={"MULTIFRAME_ENHANCED": "reject"})[0][0] == "reject"


@pytest.mark.parametrize(
    ("fact", "values"),
    [("temporal", ["1", "2"]), ("echo_time", [2.3, 4.6]), ("b_value", [0.0, 800.0]), ("stack", ["1", "2"])],
)
def test_frames_of_several_volumes_are_told_apart(fact: str, values: list[object]) -> None:
    frames = [{"position": [0, 0, 3.0 * n], fact: value} for n in range(12) for value in values]
    rows, files = curated(multiframe(frames, modality="MR", kvp=None), **ANY)
    assert rows["codes"].tolist() == ["MULTIFRAME_ENHANCED;SERIES_MULTI_ACQ"] * 2
    assert (rows["slices"] == 12).all()
    assert rows["files_sha256"].nunique() == 2
    for _, part in files.groupby("scan"):
        assert part.sort_values("order")["frame"].diff().dropna().eq(2).all()


def test_volumes_of_a_table_need_no_identifiers_of_dicom() -> None:
    facts = {"reading": "image", "sop_class": "", "sop_instance": "", "study_uid": "", "series_uid": "", "kernel": ""}
    volume = multiframe([{"spacing": [0.8, 0.9]} for _ in range(12)], **facts)
    other = volume.assign(path="b/0.nii")
    rows, files = curated(volume, other)
    assert rows["codes"].tolist() == ["GEOM_ANISO_PIXEL;KERNEL_MISSING"] * 2
    assert rows["scan"].nunique() == 2
    assert (files["use"] == "slice").sum() == 24


# ------------------------------------------------------------------------------------------------------ planar images

FLAT = {f"position_{a}_mm": None for a in "xyz"} | {"orientation": "", "kernel": "", "kvp": None, "slope": None}
BONE = FLAT | {
    "modality": "NM",
    "sop_class": "1.2.840.10008.5.1.4.1.1.20",
    "image_type": "ORIGINAL\\PRIMARY\\WHOLE BODY",
}


def test_views_of_a_planar_scan_are_planes_in_order() -> None:
    row, files = one(slices(1, frames=2, **BONE), preset="nm")
    assert (row["verdict"], row["codes"], row["slices"], row["files"]) == ("accept", "", 2, 1)
    assert files.sort_values("order")["frame"].tolist() == [0, 1]
    grid = grid_of(files)
    assert (grid.size, grid.spacing, grid.origin) == ((32, 24, 2), (0.8, 0.8, 1.0), (0.0, 0.0, 0.0))
    _, files = one(slices(2, **(BONE | {"instance_number": [2.0, 1.0]})), preset="nm")
    assert files.sort_values("order")["path"].tolist() == ["00001/a/0001.dcm", "00000/a/0000.dcm"]


def test_what_is_wrong_with_planar_scans() -> None:
    assert verdicts(slices(1, **BONE | {"pixel_spacing_x_mm": None}), preset="nm")[0][:2] == ("flag", "GEOM_NO_SPACING")
    captured = BONE | {"sop_class": "1.2.840.10008.5.1.4.1.1.7", "image_type": "DERIVED\\SECONDARY"}
    assert verdicts(slices(1, **captured), preset="nm")[0][:2] == ("reject", "SECONDARY_CAPTURE")
    assert verdicts(slices(1, **BONE | {"samples": 3}), preset="nm")[0][:2] == ("reject", "SECONDARY_CAPTURE")
    assert verdicts(slices(1, **BONE | {"burned_in": "YES"}), preset="nm")[0][:2] == ("reject", "PHI_BURNED_IN")
    assert verdicts(slices(2, **BONE | {"rows": [24, 48]}), preset="nm") == [("repair", "GEOM_MATRIX_MIXED", 1)] * 2
    assert verdicts(slices(2, **BONE | {"sop_instance": "1.2.3"}), preset="nm") == [("repair", "DUP_EXACT", 1)]
    assert verdicts(slices(1, **BONE))[0][:2] == ("reject", "MODALITY_WRONG")


def test_pictures_of_a_table_are_planar_whatever_their_modality() -> None:
    facts = FLAT | {"reading": "image", "sop_class": "", "sop_instance": "", "study_uid": "", "series_uid": ""}
    facts |= {"pixel_spacing_x_mm": None, "pixel_spacing_y_mm": None, "samples": 3}
    rows, _ = curated(slices(3, **facts), preset="planar")
    assert rows["codes"].tolist() == ["GEOM_NO_SPACING"] * 3
    assert rows["slices"].tolist() == [1, 1, 1]


# --------------------------------------------------------------------------- cross-check with another implementation


def stack_of(positions: np.ndarray, orientation: np.ndarray) -> Stack:
    text = " ".join(repr(float(v)) for v in orientation)
    rows = slices(len(positions), orientation=text)
    rows = rows.assign(**{f"position_{a}_mm": positions[:, i] for i, a in enumerate("xyz")})
    rows = rows.assign(path=[f"{n:02d}" for n in range(len(rows))])
    return Stack.of(rows)


@pytest.mark.parametrize("seed", range(10))
def test_order_and_distance_agree_with_highdicom(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    row, column = q[0], q[1]
    normal = np.cross(row, column)
    step = float(rng.uniform(0.5, 6.0))
    regular = rng.normal(size=3) * 100 + np.arange(15)[:, None] * step * normal
    shuffled = regular[rng.permutation(15)]
    orientation = np.concatenate([row, column])
    spacing, places = get_volume_positions(shuffled, orientation, sort=True)
    stack = stack_of(shuffled, orientation)
    assert stack.modal_step == pytest.approx(spacing)
    assert stack.spacing(0.05) == pytest.approx(spacing)
    # highdicom numbers slices against DICOM's normal for its own convention; up to direction the order is the same
    order = np.argsort(places).tolist()
    assert stack.order in (order, order[::-1])

    gap = np.delete(regular, 6, axis=0)
    assert get_volume_positions(gap, orientation)[0] is None
    assert get_volume_positions(gap, orientation, allow_missing_positions=True)[0] == pytest.approx(step)
    assert stack_of(gap, orientation).modal_step == pytest.approx(step)
    assert len(stack_of(gap, orientation).steps) == 13

    tilted = regular + np.outer(np.arange(15) * step * np.tan(np.radians(5)), column)
    assert get_volume_positions(tilted, orientation)[0] is None
    assert stack_of(tilted, orientation).shear_deg == pytest.approx(5.0)

    uneven = regular + np.outer(np.arange(15) ** 2 * 0.1, normal)
    assert get_volume_positions(uneven, orientation)[0] is None
    assert np.ptp(stack_of(uneven, orientation).steps) == pytest.approx(0.1 * (29 - 2 - 1))
