"""The checks of a series, one function each, in the order in which they run.

A check looks at the files that earlier repairs left and yields what it finds; it decides nothing. Which verdict a
finding gets is settled by `CurationSettings.verdict`. Facts behind the rules: the defect table of the documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..config.curation import CurationSettings
from .candidates import Candidate, Check, Finding
from .geometry import POSITION, angle_deg, axes, positioned

Found = Iterator[Finding]
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
UNCOMPRESSED = {"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
LOSSLESS = {f"1.2.840.10008.1.2.{s}" for s in ("4.57", "4.70", "4.80", "4.90", "5")}
LOSSY = {f"1.2.840.10008.1.2.{s}" for s in ("4.50", "4.51", "4.81", "4.91")}
LOCALIZER_DEG = 5.0
ORIENTATION_DEG = 0.1
FEW_LOCALIZERS = 3


def modality(c: Candidate, s: CurationSettings) -> Found:
    found = sorted(set(c.files["modality"]))
    if wrong := [m or "none" for m in found if m not in s.modalities]:
        yield Finding("MODALITY_WRONG", f"modality {', '.join(wrong)} is not among {', '.join(s.modalities)}")


def patient(c: Candidate, s: CurationSettings) -> Found:
    identifiers = set(c.files["patient_id"])
    if "" in identifiers:
        yield Finding("PATIENT_ID_EMPTY", f"{int((c.files['patient_id'] == '').sum())} files name no patient")
    if len(identifiers - {""}) > 1:
        yield Finding("PATIENT_ID_CONFLICT", f"{len(identifiers - {''})} patient identifiers in one series")


def identifiers(c: Candidate, s: CurationSettings) -> Found:
    for column, words in (("series_uid", "series"), ("sop_instance", "instance")):
        if empty := int((c.files[column] == "").sum()):
            yield Finding(
                "UID_EMPTY_OR_INVALID", f"{empty} files without {words} identifier", before=empty, after="derived"
            )


def meta(c: Candidate, s: CurationSettings) -> Found:
    if forced := int((c.files["reading"] == "forced").sum()):
        yield Finding(
            "FILE_NO_META", f"{forced} files without preamble", before=forced, after="read as plain data sets"
        )


def secondary_capture(c: Candidate, s: CurationSettings) -> Found:
    if (captures := _captures(c.files)).sum() * 2 > len(c.files):
        yield Finding("SECONDARY_CAPTURE", f"{int(captures.sum())} of {len(c.files)} files are secondary captures")


def _captures(files: pd.DataFrame) -> pd.Series:
    # ORIGINAL\SECONDARY and reformatted volumes (DERIVED\SECONDARY with positions) are ordinary in radiotherapy
    derived = files["image_type"].str.upper().str.startswith("DERIVED\\SECONDARY")
    return files["sop_class"].str.startswith(SECONDARY) | (derived & files[POSITION].isna().any(axis=1))


def multiframe(c: Candidate, s: CurationSettings) -> Found:
    if (many := c.files["frames"].fillna(1) > 1).any():
        yield Finding("MULTIFRAME_ENHANCED", f"{int(many.sum())} files hold several frames")
    if (tiled := c.files["image_type"].str.upper().str.contains("MOSAIC")).any():
        yield Finding("MOSAIC", f"{int(tiled.sum())} files are mosaics")


def truncated(c: Candidate, s: CurationSettings) -> Found:
    if cut := int(c.files["truncated"].fillna(False).sum()):
        yield Finding("FILE_TRUNCATED", f"pixel data of {cut} of {len(c.files)} files are cut off")


def transfer_syntax(c: Candidate, s: CurationSettings) -> Found:
    syntaxes = set(c.files["transfer_syntax"])
    if names := sorted(syntaxes & LOSSLESS):
        yield Finding("TS_COMPRESSED_OK", f"transfer syntax {', '.join(names)}")
    lossy = c.files["lossy"].isin(["01", "1"]) | c.files["transfer_syntax"].isin(LOSSY)
    if lossy.any():
        yield Finding("TS_LOSSY", f"{int(lossy.sum())} files were compressed with loss")
    if BIG_ENDIAN in syntaxes:
        yield Finding("TS_BIG_ENDIAN", "explicit VR big endian")
    if DEFLATED in syntaxes:
        yield Finding("TS_DEFLATED", "deflated")
    if names := sorted(syntaxes - UNCOMPRESSED - LOSSLESS - LOSSY - {BIG_ENDIAN, DEFLATED}):
        yield Finding("TS_UNDECODABLE", f"transfer syntax {', '.join(names)} is not known")
    if len(syntaxes) > 1:
        yield Finding("SERIES_MIXED_TS", f"{len(syntaxes)} transfer syntaxes")


def localizers(c: Candidate, s: CurationSettings) -> Found:
    """LOCALIZER in the image type, or few slices that lie across the others (ITK averages them into the spacing)."""
    marked = c.files["image_type"].str.upper().str.contains("LOCALIZER") | _captures(c.files)
    across = pd.Series(False, index=c.files.index)
    rest = c.files[~marked]
    rest = rest[positioned(rest)]
    if len(rest) > 1:
        normals = rest["orientation"].map(lambda o: tuple(axes(o)[2]))
        main = np.array(normals.mode().iloc[0])
        off = normals.map(lambda n: min(angle_deg(np.array(n), main), angle_deg(-np.array(n), main)) > LOCALIZER_DEG)
        if 0 < off.sum() <= FEW_LOCALIZERS and off.sum() * 2 < len(rest):
            across[off[off].index] = True
    aside = marked | across
    if aside.all():
        yield Finding("SERIES_ALL_LOCALIZER", f"all {len(c.files)} files are localizers")
    elif aside.any():
        yield Finding(
            "LOCALIZER_IN_SERIES",
            f"{int(aside.sum())} localizers among {len(c.files)} files",
            drop=tuple(aside[aside].index),
            before=len(c.files),
            after=int((~aside).sum()),
        )


def position(c: Candidate, s: CurationSettings) -> Found:
    if lacking := int((~positioned(c.files)).sum()):
        yield Finding("GEOM_NO_POSITION", f"{lacking} files lack position, orientation or pixel spacing")


def matrix(c: Candidate, s: CurationSettings) -> Found:
    grids = c.files[["rows", "columns"]].drop_duplicates()
    if len(grids) > 1:
        sizes = ", ".join(
            f"{int(r.columns)} x {int(r.rows)}" for r in grids.sort_values(["rows", "columns"]).itertuples()
        )
        yield Finding("GEOM_MATRIX_MIXED", f"matrices {sizes}")
        return
    spacing = c.files[["pixel_spacing_x_mm", "pixel_spacing_y_mm"]]
    if (spacing.max() - spacing.min()).max() > 1e-4:
        low, high = spacing.min().min(), spacing.max().max()
        yield Finding("GEOM_MATRIX_MIXED", f"pixel spacing varies from {low:g} to {high:g} mm")


def orientation(c: Candidate, s: CurationSettings) -> Found:
    different = sorted(set(c.files["orientation"]))
    first = axes(different[0])
    turned = max(angle_deg(axes(o)[i], first[i]) for o in different for i in (0, 1))
    if turned > ORIENTATION_DEG:
        yield Finding("GEOM_MIXED_ORIENTATION", f"slices are turned against each other by up to {turned:.3g} degrees")


def exact_duplicates(c: Candidate, s: CurationSettings) -> Found:
    """Same position, same pixels, whatever the instance identifiers say: the first copy stays."""
    files = c.files[c.files["content_sha256"] != ""].sort_values(["sop_instance", "path"])
    copies = files.groupby([*_place(files), "content_sha256"])["path"].cumcount() > 0
    if copies.any():
        yield Finding(
            "DUP_EXACT",
            f"{int(copies.sum())} copies of slices",
            drop=tuple(copies[copies].index),
            before=len(c.files),
            after=len(c.files) - int(copies.sum()),
        )


def _place(files: pd.DataFrame) -> list:
    return [files[name].round(3) for name in POSITION]


def shared_positions(c: Candidate, s: CurationSettings) -> Found:
    """Several images at one position: volumes that a tag tells apart, or a mixture that nothing can."""
    counts = c.files.groupby(_place(c.files))["path"].transform("size")
    if counts.max() == 1:
        return
    places = c.files.groupby(_place(c.files)).ngroups
    if places == 1:
        yield Finding("GEOM_SINGLE_POSITION", f"all {len(c.files)} slices are at one position")
        return
    for tag in ("acquisition_number", "echo_time_ms", "temporal_position", "acquisition_time", "content_time"):
        values = c.files[tag]
        groups = [tuple(g.index) for _, g in c.files.groupby(values, sort=True)]
        alone = all(not c.files.loc[list(g)].duplicated(POSITION).any() for g in groups)
        if values.notna().all() and len(groups) > 1 and alone and min(map(len, groups)) >= s.slices[0]:
            yield Finding(
                "SERIES_MULTI_ACQ",
                f"{len(groups)} volumes, told apart by {tag.removesuffix('_ms').replace('_', ' ')}",
                split=tuple(groups),
                before=len(c.files),
                after=[len(g) for g in groups],
            )
            return
    yield Finding("DUP_POSITION_DIFF_PIXELS", f"{int((counts > 1).sum())} files share positions with different images")


def slices(c: Candidate, s: CurationSettings) -> Found:
    if len(c.files) < s.slices[0]:
        yield Finding("TOO_FEW_SLICES", f"{len(c.files)} slices, at least {s.slices[0]} are wanted")
    elif len(c.files) > s.slices[1]:
        yield Finding("SCAN_LENGTH_OUT_OF_RANGE", f"{len(c.files)} slices, at most {s.slices[1]} are wanted")


def tolerance(step: float, s: CurationSettings) -> float:
    """Deviation of a slice distance that counts as jitter, mm."""
    return min(s.spacing_tolerance_mm, s.spacing_tolerance_share * step) + 1e-6


def spacing(c: Candidate, s: CurationSettings) -> Found:
    if len(c.files) < 3 or (stack := c.stack) is None:
        return
    steps, modal = stack.steps, stack.modal_step
    if modal < 1e-3:  # positions shared by different images; reported above
        return
    off = np.abs(steps - modal) > tolerance(modal, s)
    if off.any():
        multiples = np.round(steps[off] / modal)
        whole = (multiples >= 2) & (np.abs(steps[off] - multiples * modal) <= tolerance(modal, s) * multiples)
        if whole.all() and off.sum() <= max(1, len(steps) // 4):
            missing = int((multiples - 1).sum())
            yield Finding(
                "GEOM_MISSING_SLICE", f"{missing} slices are missing in {int(off.sum())} gaps of {modal:.4g} mm"
            )
        else:
            yield Finding(
                "GEOM_VARIABLE_SPACING", f"slice distance varies from {steps.min():.4g} to {steps.max():.4g} mm"
            )
    elif np.ptp(steps) > 1e-3:
        yield Finding("GEOM_JITTER", f"slice distance deviates by up to {np.abs(steps - modal).max():.3g} mm")


def shear(c: Candidate, s: CurationSettings) -> Found:
    """The tag for gantry tilt is advisory; positions decide."""
    if len(c.files) < 2 or (stack := c.stack) is None or stack.along[-1] - stack.along[0] < 1e-3:
        return
    if stack.shear_deg > s.tilt_tolerance_deg:
        yield Finding("GEOM_GANTRY_TILT", f"slices are sheared by {stack.shear_deg:.3g} degrees")
    elif stack.wander_mm > max(s.spacing_tolerance_mm, 0.01):
        yield Finding("GEOM_GANTRY_TILT", f"slices are displaced in their plane by up to {stack.wander_mm:.3g} mm")


def axial(c: Candidate, s: CurationSettings) -> Found:
    if s.axial_tolerance_deg is None or (stack := c.stack) is None:
        return
    angle = angle_deg(stack.axes[2], np.array([0.0, 0.0, 1.0]))
    angle = min(angle, 180.0 - angle)
    if angle > s.axial_tolerance_deg:
        yield Finding("GEOM_NOT_AXIAL", f"slice normal is {angle:.1f} degrees off the body axis")


def pixels(c: Candidate, s: CurationSettings) -> Found:
    x, y = c.files["pixel_spacing_x_mm"].iloc[0], c.files["pixel_spacing_y_mm"].iloc[0]
    if abs(x - y) > 1e-3 * max(x, y):
        yield Finding("GEOM_ANISO_PIXEL", f"pixels of {x:g} x {y:g} mm")


def thickness(c: Candidate, s: CurationSettings) -> Found:
    values = c.files["thickness_mm"].dropna()
    values = values[values > 0]
    stack = c.stack
    step = float(np.median(stack.steps)) if stack is not None and len(stack.order) > 1 else float("nan")
    if values.max() - values.min() > 0.01:
        yield Finding("THICKNESS_MIXED", f"slice thickness from {values.min():g} to {values.max():g} mm")
    if len(values) and abs(values.median() - step) > max(0.05, 0.02 * step):
        yield Finding("THICKNESS_NE_SPACING", f"slices of {values.median():g} mm every {step:.4g} mm")
    if s.slice_thickness_mm is not None:
        low, high = s.slice_thickness_mm
        smallest, largest = (values.min(), values.max()) if len(values) else (step, step)
        if smallest < low - 1e-6 or largest > high + 1e-6:
            value = smallest if smallest < low else largest
            yield Finding("THICKNESS_OUT_OF_RANGE", f"slice thickness {value:g} mm is outside {low:g} to {high:g} mm")


def length(c: Candidate, s: CurationSettings) -> Found:
    if s.length_mm is None or (stack := c.stack) is None:
        return
    covered = float(stack.along[-1] - stack.along[0])
    if not s.length_mm[0] <= covered <= s.length_mm[1]:
        low, high = s.length_mm
        yield Finding("SCAN_LENGTH_OUT_OF_RANGE", f"{covered:.0f} mm long, {low:g} to {high:g} mm are wanted")


def rescale(c: Candidate, s: CurationSettings) -> Found:
    both = c.files[["slope", "intercept"]]
    lacking = int(both.isna().any(axis=1).sum())
    if lacking and (c.files["modality"] == "CT").all():
        yield Finding("RESCALE_MISSING", f"{lacking} of {len(c.files)} files lack rescale slope or intercept")
    if len(both.dropna().drop_duplicates()) > 1:
        yield Finding("RESCALE_VARIES", f"{len(both.dropna().drop_duplicates())} pairs of slope and intercept")


def kernel(c: Candidate, s: CurationSettings) -> Found:
    if not (c.files["modality"] == "CT").all():
        return
    found = sorted({k.upper() for k in c.files["kernel"]})
    if "" in found:
        yield Finding("KERNEL_MISSING", "the convolution kernel is not given")
    if s.kernels is not None and (wrong := set(found) - {k.upper() for k in s.kernels} - {""}):
        yield Finding("KERNEL_NOT_ALLOWED", f"{len(wrong)} kernels are not among {', '.join(s.kernels)}")


def padding(c: Candidate, s: CurationSettings) -> Found:
    """Padding outside the field of view, stored as a value that no tissue has; conversion clips it."""
    if not (c.files["modality"] == "CT").all():
        return
    hu = c.files["padding_value"] * c.files["slope"] + c.files["intercept"]
    if (below := hu < -1024).any():
        yield Finding("HU_IMPLAUSIBLE", f"padding is stored as {hu[below].min():g} HU")


def contrast(c: Candidate, s: CurationSettings) -> Found:
    by_tag, described = contrast_by_tag(c.files), contrast_by_description(c.files)
    # a scan without agent often lacks the tag, so absence conflicts only with a description that names one
    if described != "unknown" and described != (by_tag if by_tag != "unknown" else "no"):
        agent = {"yes": "names an agent", "no": "is empty", "unknown": "is absent"}[by_tag]
        yield Finding("CONTRAST_CONFLICT", f"the contrast tag {agent}, the description says {described}")


_NO_AGENT = re.compile(r"^\W*(no|none|non|without|w/?o|n/?a|nil|0|nativ)\b", re.IGNORECASE)
_WITHOUT = re.compile(
    r"\b(without|w/o|non[- ]?contrast|no contrast|native?|unenhanced|ohne km|c-)(?=\W|$)", re.IGNORECASE
)
_WITH = re.compile(
    r"\b(contrast|w/ ?c|enhanced|post[- ]?contrast|arterial|portal|venous|mit km|ce|c\+)(?=\W|$)", re.IGNORECASE
)


def contrast_by_tag(files: pd.DataFrame) -> str:
    """yes, no or unknown by the contrast agent tag: empty means no, absent says nothing."""
    agents = files["contrast_agent"]
    if (agents.map(bool) & ~agents.str.match(_NO_AGENT)).mean() > 0.5:
        return "yes"
    return "no" if files["contrast_tagged"].fillna(False).any() else "unknown"


def contrast_by_description(files: pd.DataFrame) -> str:
    """yes, no or unknown by the words of the series description."""
    found = {
        "no" if _WITHOUT.search(text) else "yes" if _WITH.search(text) else "unknown"
        for text in set(files["series_description"])
    }
    return found.pop() if len(found) == 1 else "unknown"


def study_time(c: Candidate, s: CurationSettings) -> Found:
    """Times never group slices: three real patients would fall into 27 to 37 pieces each."""
    if (times := c.files["study_time"].nunique()) > 1:
        yield Finding("STUDYTIME_VARIES", f"{times} study times in one series")


CHECKS: tuple[Check, ...] = (
    modality, patient, identifiers, meta, secondary_capture, multiframe, truncated, transfer_syntax, localizers,
    position, matrix, orientation, exact_duplicates, shared_positions, slices, spacing, shear, axial, pixels,
    thickness, length, rescale, padding, kernel, contrast, study_time,
)  # fmt: skip
