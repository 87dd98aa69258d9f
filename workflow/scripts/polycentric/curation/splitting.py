"""Volumes that share one series: told apart by tags, by the order in time, by matrix or by orientation."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from .candidates import Labels
from .geometry import POSITION, axes, places

# what scanners write to tell acquisitions apart, the plainest first
TAGS = (
    "acquisition_number", "stack", "echo_time_ms", "inversion_time_ms", "temporal_position", "b_value", "image_type",
    "kernel", "acquisition_time", "content_time",
)  # fmt: skip
PASSES = ("acquisition_number", "temporal_position", "acquisition_time", "content_time")
_CLOCKS = ("acquisition_time", "content_time")


def in_words(tag: str) -> str:
    return tag.removesuffix("_ms").replace("_", " ")


def by_tags(files: pd.DataFrame, fewest: int) -> tuple[str, list[Labels]] | None:
    """Volumes without shared positions that one tag tells apart, or two together; each of at least `fewest` slices."""
    place = places(files)
    told = [tag for tag in TAGS if tag in files and files[tag].nunique(dropna=False) > 1]
    for tags in [(t,) for t in told] + list(combinations([t for t in told if t not in _CLOCKS], 2)):
        if not all(_complete(files[tag]) for tag in tags):
            continue
        keys = files.groupby([files[t] for t in tags], sort=True).ngroup().to_numpy()
        count = np.bincount(keys)
        alone = len(np.unique(np.stack([keys, place]), axis=1)[0]) == len(files)
        if alone and count.min() >= fewest:
            groups = [tuple(files.index[keys == number]) for number in range(len(count))]
            return " and ".join(map(in_words, tags)), groups
    return None


def by_passes(files: pd.DataFrame, fewest: int) -> tuple[str, list[Labels]] | None:
    """Volumes acquired one after the other, every position once in each: dynamic series whose tags count slices."""
    place = places(files)
    counts = np.bincount(place)
    if counts.min() != counts.max() or len(counts) < fewest:
        return None
    for tag in PASSES:
        values = pd.to_numeric(files[tag], errors="coerce").to_numpy(dtype=float)
        if not np.isfinite(values).all():
            continue
        order = np.lexsort((values, place))
        table = values[order].reshape(len(counts), counts[0])
        distinct = (np.diff(table, axis=1) > 0).all()
        if distinct and (table[:, :-1].max(axis=0) < table[:, 1:].min(axis=0)).all():
            labels = files.index.to_numpy()[order].reshape(table.shape)
            return f"the order of {in_words(tag)}", [tuple(labels[:, n]) for n in range(counts[0])]
    return None


def main_and_rest(files: pd.DataFrame, fewest: int) -> tuple[str, Labels, Labels] | None:
    """A volume that holds every position once, told from further images of them by a tag; and those."""
    place = places(files)
    for tag in TAGS:
        if tag not in files or tag in _CLOCKS or not _complete(files[tag]):
            continue
        for value in sorted(set(files[tag])):
            own = (files[tag] == value).to_numpy()
            covered = place[own]
            if fewest <= own.sum() < len(files) and len(covered) == len(set(covered)) == len(set(place)):
                return in_words(tag), tuple(files.index[own]), tuple(files.index[~own])
    return None


def _complete(values: pd.Series) -> bool:
    return bool(values.notna().all() and not (values == "").any())


def spans(files: pd.DataFrame, normal: np.ndarray) -> tuple[float, float]:
    """Lowest and highest position along a direction, mm."""
    along = files[POSITION].to_numpy(dtype=float) @ normal
    return float(along.min()), float(along.max())


def interleaved(files: pd.DataFrame, groups: list[Labels]) -> bool:
    """Whether slices of parallel groups lie between each other: together one stack, apart one with holes."""
    largest = max(groups, key=len)
    normal = axes(files.loc[largest[0], "orientation"])[2]
    position = {g: np.sort(files.loc[list(g), POSITION].to_numpy(dtype=float) @ normal) for g in groups}
    own = position[largest]
    step = np.median(np.diff(own)) if len(own) > 1 else 0.0
    for group in groups:
        direction = axes(files.loc[group[0], "orientation"])[2]
        if group == largest or abs(direction @ normal) < 0.99:
            continue
        inside = position[group][(position[group] > own[0]) & (position[group] < own[-1])]
        if len(inside):
            # a second reconstruction lies at the same positions, a part of the stack between them
            distance = np.abs(own[:, None] - inside[None, :]).min(axis=0)
            if (distance > 0.25 * step).mean() > 0.5:
                return True
    return False


def same_extent(files: pd.DataFrame, groups: list[Labels]) -> bool:
    """Whether each group covers at least four fifths of what the largest covers: reconstructions of one acquisition."""
    largest = max(groups, key=len)
    normal = axes(files.loc[largest[0], "orientation"])[2]
    low, high = spans(files.loc[list(largest)], normal)
    for group in groups:
        start, end = spans(files.loc[list(group)], normal)
        if min(high, end) - max(low, start) < 0.8 * (high - low):
            return False
    return True
