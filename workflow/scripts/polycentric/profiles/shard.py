"""Profile the images of a shard: one small file per scan, which every comparison reuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import anatomy, tables, volumes
from ..jobs import SILENT, Log
from ..shards import Item, Row, process
from ..tables import schemas
from ..tables.profiles import PROFILES, write_arrays
from . import slices

if TYPE_CHECKING:
    from ..config.profiles import ProfileSettings

Features = Callable[[np.ndarray], np.ndarray]


def profile_shard(
    profile: str,
    settings: ProfileSettings,
    *,
    view: str,
    fold: str,
    source: Path,
    splits: Sequence[Path],
    parts: Sequence[str],
    root: Path,
    manifest: Path,
    settings_json: str,
    code: str,
    device: str = "cpu",
    threads: int = 1,
    log: Log = SILENT,
) -> None:
    """Describe the slices of the images of a shard whose patients are evaluated; write their manifest.

    Parameters
    ----------
    source
        The shard's manifest of the view.
    splits, parts
        Tables of the splits whose parts are evaluated: only patients of these parts are described.
    manifest
        Output (schema `PROFILES`); files go to the folder of its name without suffix.
    device, threads
        Where the network runs, and on how many threads.
    """
    wanted: set[str] = set()
    for path in splits:
        split = tables.read(path, schemas.SPLIT)
        wanted |= set(split.loc[split["part"].isin(list(parts)), "patient"])
    rows = tables.read(source, schemas.VIEWS)
    rows = rows[rows["patient"].isin(wanted)].to_dict("records")
    facts = {"network": "", "distance": ""}
    features: Features | None = None
    if settings.network is not None and rows:
        from ..networks import devices
        from . import extractor

        network = extractor.load(settings.network, devices.prepare(device, threads))
        features, facts = network, {"network": network.name, "distance": network.distance}
        log.event("network", name=network.name, device=network.device.type)
    named = {row["scan"]: row for row in rows}
    items = [
        Item(
            row["scan"],
            {name: row[name] for name in schemas.SCAN} | {"view": view, "fold": fold, "profile": profile},
            (str(row["status"]), str(row["sha256"]), device),
        )
        for row in rows
    ]

    def work(item: Item, folder: Path) -> list[Row]:
        row = named[item.key]
        if row["status"] != "ok":
            return [{"status": "missing", "reason": f"SOURCE_{row['status'].upper()}: {row['reason']}"}]
        made, told = describe(volumes.read(root / row["path"], row), settings, features)
        path = folder / f"{item.key}.npz"
        write_arrays(made, path)
        return [{"path": path, **told, **facts}]

    made = process(items, work, folder=manifest.with_suffix(""), root=root, settings=settings_json, code=code, log=log)
    tables.write(made, manifest, PROFILES)


def describe(
    volume: volumes.Volume, settings: ProfileSettings, features: Features | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of a scan's profile, and the columns of its row.

    Arrays: by slice `layer` (n,), `z` (n,) counted from the feet and, if there is a network, `features` (n, d); by
    layer `count` (layers,), `fine` (layers, bins) and `coarse` (layers, 3), the mean histograms of its slices within
    the body, and `radial` (layers, 32) and `plane` (layers, 2048), the mean log spectra; NaN without a slice.

    Raises
    ------
    ScanError
        when the landmarks are not in the image.
    """
    hu, spacing = volumes.upright(volume)
    within = anatomy.body(hu)
    lower, upper = anatomy.landmarks(hu, within, spacing, settings.landmarks)
    number = min(settings.slices, upper - lower + 1)
    chosen = np.unique(np.rint(np.linspace(lower, upper, number)).astype(int))
    layer = anatomy.layers_of(chosen, lower, upper, settings.layers)
    low, high = settings.hu_range
    edges = {
        "fine": np.linspace(low, high, settings.bins + 1),
        "coarse": np.array([min(low, -1e4), *settings.tissue_edges_hu, max(high, 1e5)]),
    }
    by_slice: dict[str, list[np.ndarray]] = {"fine": [], "coarse": [], "radial": [], "plane": []}
    for z in chosen:
        inside = hu[z][within[z]]
        for name, limits in edges.items():
            by_slice[name].append(slices.histogram(inside, limits))
        radial, plane = slices.spectra(hu[z], spacing[:2], settings.hu_range, settings.highest_frequency)
        by_slice["radial"].append(radial)
        by_slice["plane"].append(plane)
    made: dict[str, np.ndarray] = {
        "layer": layer.astype(np.int16),
        "z": chosen.astype(np.int32),
        "count": np.bincount(layer, minlength=settings.layers).astype(np.int32),
    }
    for name, found in by_slice.items():
        values = np.array(found)
        mean = np.full((settings.layers, values.shape[1]), np.nan)
        for k in np.unique(layer):
            mean[k] = values[layer == k].mean(axis=0)
        made[name] = mean.astype(np.float32)
    if features is not None:
        pictures = np.stack([slices.grey(hu[z], within[z], settings.hu_range) for z in chosen])
        made["features"] = features(pictures).astype(np.float32)
    return made, {"slices": len(chosen), "length_mm": (upper - lower) * spacing[2]}
