"""Figures, tables and fitted chains of an analysis, and the manifest that lists what the report shows."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from ..files import atomic


def sentence(*parts: str) -> str:
    """Parts of a caption joined by blanks, each ended by a full stop; empty parts vanish."""
    kept = [part.strip() for part in parts if part and part.strip()]
    return " ".join(part if part.endswith((".", "?", "!")) else part + "." for part in kept)


# the types of our own chains that skops does not trust by itself
TRUSTED = [
    "polycentric.analysis.boost.BoostedCox",
    "polycentric.analysis.boosted.BoostedTrees",
    "polycentric.analysis.chain.ForestImputer",
    "polycentric.analysis.chain.Front",
    "polycentric.analysis.chains.Stack",
    "polycentric.analysis.coxmodel.CoxModel",
    "polycentric.analysis.discriminants.NearestCentroid",
    "polycentric.analysis.discriminants.PlsDa",
    "polycentric.analysis.forest.SurvivalForest",
    "polycentric.analysis.penalised.PenalisedLogistic",
    "polycentric.analysis.svm.PlattSvm",
    "sklearn.tree._tree.Tree",
]


def read_skops(path: Path) -> Any:
    """Load a fitted chain; a file with any other type than those of our chains is refused by skops."""
    import skops.io as sio

    return sio.load(path, trusted=TRUSTED)


def write_skops(estimator: Any, path: Path) -> None:
    """Write a fitted chain as skops, the same bytes for the same chain.

    skops names members by memory address and stamps them with the time; both are replaced by what does not change.
    """
    import skops.io as sio

    with zipfile.ZipFile(io.BytesIO(sio.dumps(estimator))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop("schema.json"))
    names: dict[str, str] = {}
    numbers: dict[int, int] = {}

    def canonical(node: Any) -> Any:
        if isinstance(node, dict):
            result = {}
            for key, value in node.items():
                if key == "__id__":
                    result[key] = numbers.setdefault(value, len(numbers) + 1)
                elif key == "file" and isinstance(value, str):
                    suffix = Path(value).suffix
                    result[key] = names.setdefault(value, f"member-{len(names) + 1}{suffix}")
                else:
                    result[key] = canonical(value)
            return result
        return [canonical(value) for value in node] if isinstance(node, list) else node

    schema = canonical(schema)
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=1))
        for old, new in sorted(names.items(), key=lambda item: item[1]):
            archive.writestr(zipfile.ZipInfo(new), members[old])
