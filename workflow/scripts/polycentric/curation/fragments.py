"""Stacks whose slices carry series identifiers of their own, put together again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..config.curation import CurationSettings
from .candidates import Finding, Labels
from .geometry import Stack, places, positioned
from .splitting import by_passes, by_tags
from .stacks import tolerance

FRAGMENT = 3
_AGREE = (
    "patient_id", "modality", "sop_class", "rows", "columns", "kernel", "echo_time_ms", "repetition_time_ms",
    "inversion_time_ms", "series_description", "manufacturer", "model", "thickness_mm",
)  # fmt: skip


def merge(
    objects: pd.DataFrame, series: list[np.ndarray], settings: CurationSettings
) -> list[tuple[np.ndarray, tuple[Finding, ...]]]:
    """Series as positions in `objects`, those of one stack put together, with what was found about them.

    Slices are put together if patient, study (else frame of reference), matrix, spacing, orientation, kernel, echo
    time, description and scanner agree and their positions form a regular stack. Short series that a scanner
    numbered apart, each with instance numbers of its own, stay apart.
    """
    short = [n for n, rows in enumerate(series) if len(rows) <= FRAGMENT]
    if len(short) < max(settings.slices[0], 2):
        return [(rows, ()) for rows in series]
    owner = np.repeat(short, [len(series[n]) for n in short])
    rows = objects.iloc[np.concatenate([series[n] for n in short])].assign(_series=owner)
    fit = positioned(rows) & rows["frame"].isna() & rows["reading"].isin(["ok", "forced"])
    fit &= ~rows["image_type"].str.upper().str.contains("LOCALIZER")
    rows = rows[fit & rows["modality"].isin(settings.modalities)]
    merged: dict[int, list[tuple[Labels, int]]] = {}
    taken: set[int] = set()
    for place in ("study_uid", "frame_uid"):
        left = rows[~rows["_series"].isin(taken) & (rows[place] != "")]
        for _, group in left.groupby(_keys(left, place), sort=True):
            count = group["_series"].nunique()
            if count < max(settings.slices[0], 2):
                continue
            for labels in _stacks(group, settings):
                own = set(group.loc[list(labels), "_series"])
                merged.setdefault(min(own), []).append((labels, len(own)))
                taken |= own
    used = [label for several in merged.values() for labels, _ in several for label in labels]
    result: list[tuple[np.ndarray, tuple[Finding, ...]]] = []
    for number, own in enumerate(series):
        for labels, count in merged.get(number, []):
            reason = f"{count} series of {len(labels)} slices together make one stack"
            found = Finding("SERIES_FRAGMENTED", reason, before=count, after=1)
            result.append((np.sort(objects.index.get_indexer(list(labels))), (found,)))
        rest = own if number not in taken else own[~np.isin(objects.index[own], used)]
        if len(rest):
            result.append((rest, ()))
    return result


def _keys(rows: pd.DataFrame, place: str) -> list[pd.Series]:
    """What slices of one stack agree in; absent values agree with each other."""
    orientation = rows["orientation"].map(lambda o: " ".join(f"{float(v) + 0.0:.3f}" for v in o.split()))
    spacing = [rows[f"pixel_spacing_{a}_mm"].round(4) for a in "xy"]
    # an anonymiser that gives each slice a frame of its own says nothing with it; else the frame must agree
    frames = rows.groupby(place)["frame_uid"].transform("nunique") < rows.groupby(place)["path"].transform("size")
    frame = rows["frame_uid"].where(frames, "")
    return [rows[place], frame, orientation, *spacing, *(rows[c].fillna(-1) for c in _AGREE)]


def _stacks(group: pd.DataFrame, settings: CurationSettings) -> list[Labels]:
    """Regular stacks among slices that agree; none if they are single slices of different series."""
    numbers = group["instance_number"]
    if numbers.duplicated().any() and group["series_number"].nunique() > 1:
        return []
    fewest = max(settings.slices[0], 2)
    parts: list[Labels] = [tuple(group.index)]
    if np.bincount(places(group)).max() > 1:
        apart = by_tags(group, fewest) or by_passes(group, fewest)
        if apart is None:
            return []
        parts = apart[1]
    return [part for part in parts if len(part) >= fewest and _regular(group.loc[list(part)], settings)]


def _regular(files: pd.DataFrame, settings: CurationSettings) -> bool:
    """Whether slices stand at equal distances along their normal; single ones may be missing."""
    stack = Stack.of(files)
    step = stack.modal_step
    if step < 1e-3 or stack.wander_mm > max(settings.spacing_tolerance_mm, 0.01):
        return False
    multiples = np.maximum(np.round(stack.steps / step), 1)
    whole = np.abs(stack.steps - multiples * step) <= tolerance(step, settings) * multiples
    return bool(whole.all() and (multiples > 1).sum() <= max(1, len(multiples) // 4))
