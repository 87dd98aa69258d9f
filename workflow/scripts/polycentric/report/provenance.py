"""What made the results: settings, code, packages, inputs. No host, user, path outside the results, or time."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from ..files import hash_of, sha256_file, write_json

# what results depend on; the lock pins them all
PACKAGES = (
    "snakemake", "numpy", "scipy", "pandas", "pyarrow", "pydicom", "SimpleITK", "pyradiomics-bhklab", "numba", "torch",
    "safetensors", "scikit-learn", "skops", "matplotlib", "pydantic", "jinja2",
)  # fmt: skip


def provenance(
    output: Path,
    *,
    study: Mapping[str, Any],
    code: Mapping[str, str],
    packages: Iterable[str],
    manifests: Iterable[Path],
    root: Path,
    device: str | None = None,
) -> None:
    """Write provenance.json.

    `study` is the validated study, of which only the hash, the name and the seed are kept (the report shows the rest);
    `code` maps a rule to the hash of its code; `packages` are names of distributions, of which absent ones get null;
    `manifests` are tables below `root` whose hashes stand for all files that they list.
    """
    versions: dict[str, str | None] = {}
    for package in sorted(set(packages), key=str.lower):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    write_json(
        output,
        {
            "schema_version": 1,
            "polycentric": __version__,
            "study": study.get("study"),
            "study_sha256": hash_of(dict(study)),
            "seed": study.get("seed"),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": device,
            "packages": versions,
            "code": dict(sorted(code.items())),
            "manifests": {path.relative_to(root).as_posix(): sha256_file(path) for path in sorted(set(manifests))},
        },
    )
