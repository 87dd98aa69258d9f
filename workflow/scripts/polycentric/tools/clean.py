"""Clean: remove what a results folder holds but its study no longer lists."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..jobs import SILENT, Log


def listed(study: Mapping[str, Any]) -> dict[str, set[str]]:
    """Names that a validated study lists, by folder below its results."""
    shards = {f"{name}-{k}" for name, centre in study["centres"].items() for k in range(centre["shards"])}
    with_ledger = ("harmonised", "selected", "imported")
    sets = {name for name, own in study["features"].items() if own["kind"] in with_ledger}
    fitted = {name for name, view in study["views"].items() if view["fit"]}
    names = {
        "simulated": {n for n, c in study["centres"].items() if c["simulate"]} | {"clinical", "truth", "effects"},
        "cohort/curation": set(study["centres"]),
        "cohort/shards": shards,
        "cohort/splits": set(study["splits"]),
        "volumes": shards,
        "cohort/examined": shards,
        "quicklook": shards,
        "shareable": shards | {"deidentification"},
        "masks": {*study["convert"]["sources"], *study["segmentation"]},
        "views": set(study["views"]),
        "models": {*study["synthesis"], *study["segmentation"], *sets, *fitted},
        "work": {*study["synthesis"], *study["segmentation"]},
        "features": set(study["features"]),
        "analyses": set(study["analyses"]),
        "readers": set(study["readers"]),
        "profiles": set(study["profiles"]),
        "dicom": {export["view"] for export in study["exports"].values() if export["kind"] == "dicom"},
        "nrrd": {name for name, export in study["exports"].items() if export["kind"] == "nrrd"},
    }
    names |= {f"masks/{source}/main": shards for source in names["masks"]}
    names |= {f"views/{view}/main": shards for view in names["views"]}
    names |= {f"nrrd/{name}": shards for name in names["nrrd"]}
    names |= {f"features/{name}": shards for name in names["features"]}
    for name, own in study["analyses"].items():
        runs = range(min(own.get("permutations", 0), own.get("permutation_shards", 0)))
        names[f"analyses/{name}/permutations"] = {str(k) for k in runs}
    return names


def clean(study: Mapping[str, Any], root: Path, *, log: Log = SILENT) -> list[Path]:
    """Remove what the study does not list, and what killed jobs left, below `root`; return what was removed."""
    removed = []
    for folder, names in listed(study).items():
        for path in sorted((root / folder).glob("*")):
            if path.name.partition(".")[0] not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
                log.event("removed", path=path.relative_to(root).as_posix())
    for view, own in study["views"].items():
        if own.get("keep", True):  # what is left of the time when its images did not stay
            for path in sorted((*root.glob(f"views/{view}/*/*.removed.json"), *root.glob(f"views/{view}/*/*.for.*"))):
                path.unlink()
                removed.append(path)
    for path in sorted(root.rglob(".tmp-*")):  # begun by a job that was killed
        if path.is_file():
            path.unlink()
            removed.append(path)
    return removed
