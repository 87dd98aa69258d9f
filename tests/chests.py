"""Simulated CT scans of chests as volumes, with their truth, for tests of what images show."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from polycentric import tables, volumes
from polycentric.config.simulate import Scanner
from polycentric.files import sha256_file
from polycentric.simulate.anatomy import draw_anatomy
from polycentric.simulate.render import scan as render
from polycentric.tables.schemas import VOLUMES
from polycentric.volumes import Geometry, Volume

# spacing x, y, z (mm), sharpness (mm), noise and error of calibration (HU) of several scanners
SCANNERS = (
    ((2.2, 2.2, 5.0), 1.5, 15.0, 0.0),
    ((1.9, 1.9, 6.0), 3.5, 10.0, 20.0),
    ((3.0, 3.0, 1.0), 1.0, 40.0, -15.0),
    ((2.0, 2.0, 3.0), 0.8, 80.0, 0.0),
    ((2.6, 2.6, 2.5), 2.5, 25.0, 40.0),
    ((2.0, 2.0, 6.0), 2.0, 50.0, -40.0),
)


@dataclass(frozen=True)
class Chest:
    """A simulated scan and its truth."""

    volume: Volume
    contrast: str
    enhancement_hu: float
    noise_hu: float
    offset_hu: float


def chest(number: int, seed: int = 7, *, contrast: bool | None = None) -> Chest:
    """Scan `number` of a cohort: half with agent (100 to 250 HU), the scanners in turn."""
    rng = np.random.default_rng([seed, number])
    spacing, fwhm, noise, offset = SCANNERS[number % len(SCANNERS)]
    field, length = rng.uniform(310, 460), rng.uniform(150, 280)
    matrix, slices = int(np.ceil(field / spacing[0])), max(16, int(length / spacing[2]))
    scanner = Scanner(
        spacing_mm=spacing, matrix=matrix, slices=slices, fwhm_mm=fwhm, noise_hu=noise, offset_hu=offset
    )  # fmt: skip
    enhanced = bool(rng.random() < 0.5) if contrast is None else contrast
    enhancement = rng.uniform(100, 250) if enhanced else 0.0
    anatomy = draw_anatomy(
        rng, field_mm=spacing[0] * matrix, length_mm=spacing[2] * slices, volume_ml=rng.uniform(5, 60),
        heterogeneity_hu=60,
    )  # fmt: skip
    x = (np.arange(matrix) - (matrix - 1) / 2) * spacing[0]
    z = (np.arange(slices) - (slices - 1) / 2) * spacing[2]
    hu = render(anatomy, scanner, x, x, z, blood_hu=40 + enhancement, tumour_hu=35 + 0.25 * enhancement, rng=rng)
    array = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    volume = Volume(array, Geometry(array.shape[::-1], spacing, (-200.0, -220.0, 40.0)))
    return Chest(volume, "yes" if enhanced else "no", enhancement, noise, offset)


def manifest(root: Path, scans: dict[str, Volume | None], *, modality: str = "CT", shard: str = "north-0") -> Path:
    """Write volumes and their manifest; None is a scan whose conversion failed."""
    rows = []
    for name, volume in scans.items():
        row = {"centre": "north", "patient": f"P-{name}", "session": f"V-{name}", "scan": name, "modality": modality}
        if volume is None:
            rows.append(row | {"status": "rejected", "reason": "TS_UNDECODABLE: slice 3 cannot be decoded"})
            continue
        path = root / "volumes" / shard / f"{name}.nii"
        path.parent.mkdir(parents=True, exist_ok=True)
        volumes.write(volume, path)
        rows.append(
            row
            | volume.geometry.columns()
            | {
                "status": "ok",
                "path": path.relative_to(root).as_posix(),
                "sha256": sha256_file(path),
                "pixels_sha256": sha256_file(path),
            }
        )
    path = root / "volumes" / f"{shard}.tsv"
    tables.write(rows, path, VOLUMES)
    return path
