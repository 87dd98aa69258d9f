"""Checks of positions, orientation, matrix and distances: whether the slices are one volume on a regular grid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ..config.curation import CurationSettings
from .candidates import Candidate, Finding, Labels
from .geometry import POSITION, angle_deg, axes, places, positioned
from .splitting import by_passes, by_tags, interleaved, main_and_rest, same_extent

Found = Iterator[Finding]
LOCALIZER_DEG = 5.0
ORIENTATION_DEG = 0.1
FEW_LOCALIZERS = 3
MAIN_SHARE = 2 / 3
SPACING = ["pixel_spacing_x_mm", "pixel_spacing_y_mm"]


def tolerance(step: float, s: CurationSettings) -> float:
    """Deviation of a slice distance that counts as jitter, mm."""
    return min(s.spacing_tolerance_mm, s.spacing_tolerance_share * step) + 1e-6


def localizers(c: Candidate, s: CurationSettings) -> Found:
    """LOCALIZER in the image type, or few slices that lie across the others (ITK averages them into the spacing)."""
    kinds = {k for k in set(c.files["image_type"]) if "LOCALIZER" in k.upper()}
    aside = c.files["image_type"].isin(kinds).to_numpy() | c.files["capture"].to_numpy()
    orientation = c.files["orientation"].where(positioned(c.files) & ~aside, "")
    counts = orientation[orientation != ""].value_counts().sort_index()
    if len(counts) > 1:
        normals = {o: axes(o)[2] for o in counts.index}
        main = normals[counts.idxmax()]
        off = [o for o, n in normals.items() if min(angle_deg(n, main), angle_deg(-n, main)) > LOCALIZER_DEG]
        across = orientation.isin(off).to_numpy()
        if 0 < across.sum() <= FEW_LOCALIZERS and across.sum() * 2 < counts.sum():
            aside = aside | across
    if aside.all():
        yield Finding("SERIES_ALL_LOCALIZER", f"all {len(c.files)} files are localizers")
    elif aside.any():
        yield Finding(
            "LOCALIZER_IN_SERIES",
            f"{int(aside.sum())} localizers among {len(c.files)} files",
            drop=tuple(c.files.index[aside]),
            before=len(c.files),
            after=int((~aside).sum()),
        )


def position(c: Candidate, s: CurationSettings) -> Found:
    """Position, orientation or pixel spacing is absent; the slice location can stand in where a study says so."""
    lacking = int((~positioned(c.files)).sum())
    if not lacking:
        return
    located = _by_location(c.files, s)
    yield Finding(
        "GEOM_NO_POSITION",
        f"{lacking} of {len(c.files)} slices lack position, orientation or pixel spacing",
        files=located,
        before=f"{lacking} slices without position",
        after="slice location along the normal",
        repairable=located is not None,
    )


def _by_location(files: pd.DataFrame, s: CurationSettings) -> pd.DataFrame | None:
    """Positions from the slice location along the common normal, else along the body; None unless equally spaced."""
    location = files["slice_location_mm"].to_numpy(dtype=float)
    orientations = set(files["orientation"]) - {""}
    direction = orientations.pop() if len(orientations) == 1 else "1 0 0 0 1 0" if not orientations else ""
    spaced = (files[SPACING] > 0).all(axis=None)
    if not spaced or not np.isfinite(location).all() or len(location) < 2 or axes(direction) is None:
        return None
    steps = np.diff(np.sort(location))
    if steps.min() < 1e-3 or np.ptp(steps) > 2 * tolerance(float(np.median(steps)), s):
        return None
    points = location[:, None] * axes(direction)[2]
    return files.assign(orientation=direction, **{n: points[:, i] for i, n in enumerate(POSITION)})


def matrix(c: Candidate, s: CurationSettings) -> Found:
    """Slices of another matrix or pixel size: set aside if few, volumes of their own if they cover the same extent."""
    if np.ptp(c.files[["rows", "columns", *SPACING]].to_numpy(dtype=float), axis=0).max() <= 1e-4:
        return
    shape = c.files[["rows", "columns"]].fillna(0)  # a damaged file has none
    spacing = c.files[SPACING].round(4)
    number = c.files.groupby([shape["rows"], shape["columns"], *(spacing[n] for n in SPACING)]).ngroup().to_numpy()
    groups = [tuple(c.files.index[number == n]) for n in np.unique(number)]
    sizes = sorted({f"{int(x)} x {int(y)}" for y, x in shape.itertuples(index=False)})
    pixels = sorted(set(spacing["pixel_spacing_x_mm"]))
    reason = f"matrices {', '.join(sizes)}, pixels of {', '.join(f'{p:g}' for p in pixels)} mm"
    share = max(map(len, groups)) / len(c.files)
    clean = share > MAIN_SHARE or same_extent(c.files, groups)
    yield _divided("GEOM_MATRIX_MIXED", reason, c.files, groups, s, clean)


def orientation(c: Candidate, s: CurationSettings) -> Found:
    """Slices turned against each other: a volume for each orientation, unless they interleave as one stack."""
    different = sorted(set(c.files["orientation"]))
    if len(different) == 1:
        return
    # transitive: an orientation joins the first group whose first member it is close to
    first: list[str] = []
    group: dict[str, int] = {}
    turned = 0.0
    for text in different:
        angles = [max(angle_deg(axes(text)[i], axes(o)[i]) for i in (0, 1)) for o in first]
        near = [n for n, angle in enumerate(angles) if angle <= ORIENTATION_DEG]
        turned = max([turned, *angles])
        if not near:
            first.append(text)
        group[text] = near[0] if near else len(first) - 1
    if len(first) == 1:
        return
    number = c.files["orientation"].map(group).to_numpy()
    groups = [tuple(c.files.index[number == n]) for n in range(len(first))]
    reason = f"slices are turned against each other by up to {turned:.3g} degrees"
    yield _divided("GEOM_MIXED_ORIENTATION", reason, c.files, groups, s, clean=True)


def _divided(
    code: str, reason: str, files: pd.DataFrame, groups: list[Labels], s: CurationSettings, clean: bool
) -> Finding:
    """Groups large enough to be volumes go their own ways, smaller ones are set aside under the code."""
    large = [g for g in groups if len(g) >= max(s.slices[0], 2)]
    small = tuple(label for g in groups if g not in large for label in g)
    large.sort(key=lambda g: (-len(g), g))
    return Finding(
        code,
        reason,
        drop=small,
        split=tuple(large) if len(large) > 1 else (),
        before=[len(g) for g in groups],
        after=[len(g) for g in large],
        repairable=clean and bool(large) and not interleaved(files, groups),
    )


def exact_duplicates(c: Candidate, s: CurationSettings) -> Found:
    """Same position, same pixels, whatever the instance identifiers say: the first copy stays.

    Nor do the encodings matter: one instance stored twice in different transfer syntaxes is a copy; the one without
    loss stays.
    """
    files = c.files
    if np.bincount(_place(files)).max() == 1:
        return
    lossy = files["lossy"].isin(["01", "1"])
    files = files.assign(_lossy=lossy, _place=_place(files)).sort_values(["_lossy", "sop_instance", "path"])
    hashed = files[files["content_sha256"] != ""]
    copies = set(hashed.index[hashed.duplicated(["_place", "frame", "content_sha256"])])
    named = files[files["sop_instance"] != ""]
    same = ["_place", "frame", "sop_instance", "rows", "columns"]
    # only copies in other encodings: in the same one, the hash tells
    syntaxes = named.groupby(same, dropna=False)["transfer_syntax"].transform("nunique")
    copies |= set(named.index[named.duplicated(same) & (syntaxes > 1)])
    if copies:
        yield Finding(
            "DUP_EXACT",
            f"{len(copies)} copies of slices",
            drop=tuple(sorted(copies)),
            before=len(c.files),
            after=len(c.files) - len(copies),
        )


def _place(files: pd.DataFrame) -> np.ndarray:
    return places(files.fillna(dict.fromkeys(POSITION, np.inf)))


def shared_positions(c: Candidate, s: CurationSettings) -> Found:
    """Several images at one position: volumes that a tag tells apart, repeated slices, or a mixture without order."""
    counts = np.bincount(place := places(c.files))
    if counts.max() == 1:
        return
    if len(counts) == 1:
        yield Finding("GEOM_SINGLE_POSITION", f"all {len(c.files)} slices are at one position")
        return
    shared = int((counts[place] > 1).sum())
    fewest = max(s.slices[0], 2)
    if apart := by_tags(c.files, fewest) or by_passes(c.files, fewest):
        tag, groups = apart
        number = {label: n for n, g in enumerate(groups) for label in g}
        held = [len(set(place[[number[label] == n for label in c.files.index]])) for n in range(len(groups))]
        full = min(held) == max(held) == len(counts)
        yield Finding(
            "SERIES_MULTI_ACQ" if full else "DUP_POSITION_DIFF_PIXELS",
            f"{len(groups)} volumes, told apart by {tag}",
            split=tuple(groups),
            before=len(c.files),
            after=[len(g) for g in groups],
        )
    elif rest := main_and_rest(c.files, fewest):
        tag, main, others = rest
        few = len(others) < fewest
        yield Finding(
            "DUP_POSITION_DIFF_PIXELS",
            f"{len(others)} images repeat positions of a complete volume, told apart by {tag}",
            drop=others if few else (),
            split=() if few else (main, others),
            before=len(c.files),
            after=[len(main)] if few else [len(main), len(others)],
        )
    else:
        reason = f"{shared} files share positions with different images, and no tag tells them apart"
        yield Finding("DUP_POSITION_DIFF_PIXELS", reason, repairable=False)


def slices(c: Candidate, s: CurationSettings) -> Found:
    if len(c.files) < s.slices[0]:
        yield Finding("TOO_FEW_SLICES", f"{len(c.files)} slices, at least {s.slices[0]} are wanted")
    elif len(c.files) > s.slices[1]:
        yield Finding("SCAN_LENGTH_OUT_OF_RANGE", f"{len(c.files)} slices, at most {s.slices[1]} are wanted")


def sheared(c: Candidate, s: CurationSettings) -> bool:
    """Whether the slices are shifted in their planes beyond the tolerance."""
    stack = c.stack
    if stack is None or len(stack.order) < 2 or stack.along[-1] - stack.along[0] < 1e-3:
        return False
    return stack.shear_deg > s.tilt_tolerance_deg or _wandering(c, s)


def _wandering(c: Candidate, s: CurationSettings) -> bool:
    return c.stack.wander_mm > max(s.spacing_tolerance_mm, 0.01)


def spacing(c: Candidate, s: CurationSettings) -> Found:
    """Distances of neighbours: missing slices, varying distance, or jitter.

    Sheared stacks are not interpolated along their normal too: of such slices nothing of the plane between is known.
    """
    if len(c.files) < 3 or (stack := c.stack) is None:
        return
    steps, modal = stack.steps, stack.modal_step
    if modal < 1e-3:  # positions shared by different images; reported above
        return
    off = np.abs(steps - modal) > tolerance(modal, s)
    straight = not sheared(c, s)
    if off.any():
        multiples = np.round(steps[off] / modal)
        whole = (multiples >= 2) & (np.abs(steps[off] - multiples * modal) <= tolerance(modal, s) * multiples)
        if whole.all() and off.sum() <= max(1, len(steps) // 4):
            missing = int((multiples - 1).sum())
            in_a_row = int(multiples.max()) - 1
            yield Finding(
                "GEOM_MISSING_SLICE",
                f"{missing} slices are missing in {int(off.sum())} gaps of {modal:.4g} mm",
                before={"slices": len(steps) + 1, "missing": missing, "in_a_row": in_a_row},
                after={"slices": len(steps) + 1 + missing, "interpolated": missing},
                repairable=straight and in_a_row <= s.missing_slices,
            )
        else:
            yield Finding(
                "GEOM_VARIABLE_SPACING",
                f"slice distance varies from {steps.min():.4g} to {steps.max():.4g} mm",
                before={"smallest_mm": round(float(steps.min()), 6), "largest_mm": round(float(steps.max()), 6)},
                after={"uniform_mm": round(uniform_step(c, s), 6)},
                repairable=straight and steps.min() > 1e-3 and steps.max() <= s.largest_gap_mm,
            )
    elif np.ptp(steps) > 1e-3:
        yield Finding("GEOM_JITTER", f"slice distance deviates by up to {np.abs(steps - modal).max():.3g} mm")


def uniform_step(c: Candidate, s: CurationSettings) -> float:
    """Slice distance onto which a stack of varying distance is resampled, mm."""
    return s.uniform_spacing_mm or float(np.median(c.stack.steps))


def shear(c: Candidate, s: CurationSettings) -> Found:
    """The tag for gantry tilt is advisory; positions decide. Single slices beside the others are no tilt."""
    if not sheared(c, s):
        return
    stack = c.stack
    if _wandering(c, s):
        reason = f"slices are displaced in their plane by up to {stack.wander_mm:.3g} mm"
    else:
        reason = f"slices are sheared by {stack.shear_deg:.3g} degrees"
    yield Finding(
        "GEOM_GANTRY_TILT",
        reason,
        before={"shear_deg": round(stack.shear_deg, 4)},
        after={"shear_deg": 0.0},
        repairable=not _wandering(c, s),
    )


def axial(c: Candidate, s: CurationSettings) -> Found:
    """Slices of a tilted gantry follow the body axis although their normal does not: they count as axial."""
    if s.axial_tolerance_deg is None or (stack := c.stack) is None:
        return
    body = np.array([0.0, 0.0, 1.0])
    normal = angle_deg(stack.axes[2], body)
    advance = angle_deg(stack.advance, body) if len(stack.order) > 1 else normal
    angle = min(normal, 180.0 - normal, advance, 180.0 - advance)
    if angle > s.axial_tolerance_deg:
        yield Finding("GEOM_NOT_AXIAL", f"slice normal is {min(normal, 180 - normal):.1f} degrees off the body axis")


def pixels(c: Candidate, s: CurationSettings) -> Found:
    x, y = (float(c.files[name].iloc[0]) for name in SPACING)
    if abs(x - y) > 1e-3 * max(x, y):
        yield Finding("GEOM_ANISO_PIXEL", f"pixels of {x:g} x {y:g} mm")


def pixel_spacing(c: Candidate, s: CurationSettings) -> Found:
    if s.pixel_spacing_mm is not None:
        low, high = s.pixel_spacing_mm
        values = c.files[SPACING].to_numpy(dtype=float)
        values = values[np.isfinite(values)]
        if len(values) and (values.min() < low - 1e-6 or values.max() > high + 1e-6):
            value = values.min() if values.min() < low else values.max()
            yield Finding("PIXEL_SPACING_OUT_OF_RANGE", f"pixels of {value:g} mm, {low:g} to {high:g} mm are wanted")
    if s.matrix is not None:
        found = {(int(x), int(y)) for x, y in c.files[["columns", "rows"]].dropna().drop_duplicates().to_numpy()}
        if wrong := sorted(found - set(s.matrix)):
            sizes = [" or ".join(f"{x} x {y}" for x, y in several) for several in (wrong, s.matrix)]
            yield Finding("MATRIX_NOT_ALLOWED", f"matrix {sizes[0]}, wanted is {sizes[1]}")


def thickness(c: Candidate, s: CurationSettings) -> Found:
    values = c.files["thickness_mm"].to_numpy(dtype=float)
    values = values[values > 0]
    stack = c.stack
    step = float(np.median(stack.steps)) if stack is not None and len(stack.order) > 1 else float("nan")
    if len(values):
        if np.ptp(values) > 0.01:
            yield Finding("THICKNESS_MIXED", f"slice thickness from {values.min():g} to {values.max():g} mm")
        if step > 1e-3 and abs(np.median(values) - step) > max(0.05, 0.02 * step):
            yield Finding("THICKNESS_NE_SPACING", f"slices of {np.median(values):g} mm every {step:.4g} mm")
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


# ------------------------------------------------------------------------------------------------------- planar images


def planar_matrix(c: Candidate, s: CurationSettings) -> Found:
    """Views of different size make images of their own."""
    number = c.files.groupby(["rows", "columns"], dropna=False).ngroup().to_numpy()
    if number.max() > 0:
        groups = tuple(tuple(c.files.index[number == n]) for n in range(number.max() + 1))
        sizes = [len(g) for g in groups]
        reason = f"views of {len(groups)} matrices"
        yield Finding("GEOM_MATRIX_MIXED", reason, split=groups, before=len(c.files), after=sizes)


def planar_spacing(c: Candidate, s: CurationSettings) -> Found:
    if not (c.files[SPACING] > 0).all(axis=None):
        yield Finding("GEOM_NO_SPACING", "pixel spacing is not known, 1 mm is assumed")


def planar_copies(c: Candidate, s: CurationSettings) -> Found:
    """Without positions only identical instances are copies; equal pixels may be two empty views."""
    files = c.files[(c.files["sop_instance"] != "")].sort_values(["sop_instance", "path"])
    copies = files.index[files.duplicated(["sop_instance", "frame", "rows", "columns"])]
    if len(copies):
        yield Finding(
            "DUP_EXACT",
            f"{len(copies)} copies of images",
            drop=tuple(sorted(copies)),
            before=len(c.files),
            after=len(c.files) - len(copies),
        )
