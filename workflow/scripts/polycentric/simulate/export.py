"""One patient's imaging study: grid, pixels, files. Defects change it afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from pydicom.dataset import Dataset

from ..config.simulate import Scanner
from .anatomy import Anatomy, lung_polygon, tumour_polygon
from .encode import Planned
from .headers import INTERCEPT, PADDING, Subject, ct_image, structure_set

CT_SERIES, RT_SERIES = 2, 9
TILT_DEGREES = 12.0


@dataclass(frozen=True)
class Grid:
    """Where a scanner samples: x (nx,), y (ny,) and slice heights z (nz,) at y = 0, mm in the chest's coordinates.

    `tilt_deg` leans the slices about the x axis; `shift` moves the chest's coordinates to the frame of reference.
    """

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    tilt_deg: float
    shift: np.ndarray

    @property
    def tangent(self) -> float:
        return math.tan(math.radians(self.tilt_deg))

    @property
    def heights(self) -> np.ndarray:
        return self.z if self.tilt_deg == 0 else self.z[:, None] + self.y[None] * self.tangent

    @property
    def orientation(self) -> tuple[float, ...]:
        angle = math.radians(self.tilt_deg)
        return (1.0, 0.0, 0.0, 0.0, math.cos(angle), math.sin(angle))

    def position(self, k: int) -> np.ndarray:
        """Centre of a slice's first pixel in the frame of reference."""
        return np.array([self.x[0], self.y[0], self.z[k] + self.y[0] * self.tangent]) + self.shift


def make_grid(scanner: Scanner, rng: np.random.Generator, defect: str) -> Grid:
    """The scanner's grid, isocentred up to some millimetres, tables at different heights."""
    dx, dy, dz = scanner.spacing_mm
    middle = (scanner.matrix - 1) / 2
    z = (np.arange(scanner.slices) - (scanner.slices - 1) / 2) * dz
    if defect == "GEOM_VARIABLE_SPACING":
        steps = np.where(np.arange(scanner.slices - 1) < scanner.slices // 2, dz, 0.6 * dz)
        z = z[0] + np.concatenate([[0.0], np.cumsum(steps)])
    tilt = TILT_DEGREES if defect == "GEOM_GANTRY_TILT" else 0.0
    y = (np.arange(scanner.matrix) - middle) * dy * math.cos(math.radians(tilt))
    shift = np.round([rng.uniform(-8, 8), rng.uniform(-40, -5), rng.uniform(-900, 300)], 1)
    return Grid((np.arange(scanner.matrix) - middle) * dx, y, z, tilt, shift)


@dataclass
class Export:
    """All files of a patient. Images are ordered from feet to head; `extra` holds what is neither image nor contour."""

    subject: Subject
    scanner: Scanner
    chest: Anatomy
    grid: Grid
    hu: np.ndarray
    images: list[Planned] = field(default_factory=list)
    structure: Planned | None = None
    extra: list[Planned] = field(default_factory=list)

    @property
    def files(self) -> list[Planned]:
        return [*self.images, *([self.structure] if self.structure else []), *self.extra]

    def folder(self, series: int, description: str) -> str:
        return f"{self.subject.patient_id}/{self.subject.date}_CT_THORAX/{series:03d}_{description}"


def store(hu: np.ndarray, scanner: Scanner) -> np.ndarray:
    """Stored pixel values of one slice: unsigned 12 bit, or signed 16 bit with padded corners."""
    stored = np.round(hu) - INTERCEPT
    if not scanner.padding:
        return np.clip(stored, 0, 4095).astype(np.uint16)
    rows, columns = stored.shape
    j, i = np.ogrid[:rows, :columns]
    outside = np.hypot((j - (rows - 1) / 2) / (rows / 2), (i - (columns - 1) / 2) / (columns / 2)) > 1
    return np.where(outside, PADDING, np.clip(stored, 0, 4095)).astype(np.int16)


def file_name(scanner: Scanner, patient: str, series: int, number: int) -> str:
    """How a vendor's console would name an image."""
    vendor = scanner.manufacturer.lower()
    if "siemens" in vendor:
        return f"{patient}.CT.THORAX.{series:04d}.{number:04d}.IMA"
    if vendor.startswith("ge"):
        return f"i{series:03d}{number:04d}.CTDC.{number}"
    if "philips" in vendor:
        return f"IM_{number:04d}"
    return f"IM-{series:04d}-{number:04d}.dcm"


def series_name(contrast: bool) -> str:
    return "Thorax venous C+" if contrast else "Thorax native"


def add_images(export: Export, *, acquisition: int = 1, noise: np.ndarray | None = None) -> None:
    """Add the CT series; a further acquisition of the same series has numbers of its own."""
    count = len(export.grid.z)
    folder = export.folder(CT_SERIES, "contrast" if export.subject.contrast else "native")
    for k in range(count):
        # consoles number from head to feet
        number = (acquisition - 1) * count + count - k
        pixels = store(export.hu[k] if noise is None else export.hu[k] + noise[k], export.scanner)
        dataset = ct_image(
            export.subject,
            export.scanner,
            series=CT_SERIES,
            key=number,
            description=series_name(export.subject.contrast),
            number=number,
            acquisition=acquisition,
            position=export.grid.position(k),
            orientation=export.grid.orientation,
            spacing=(export.scanner.spacing_mm[1], export.scanner.spacing_mm[0]),
            pixels=pixels,
        )
        name = file_name(export.scanner, export.subject.patient_id, CT_SERIES, number)
        export.images.append(Planned(f"{folder}/{name}", dataset, pixels))


def add_structure(export: Export, roi: str) -> None:
    """Add the RTSTRUCT with the outlines of tumour and lungs as they truly are, in the planes of the images."""
    images: list[Dataset] = [p.dataset for p in export.images if p.dataset is not None]
    grid, chest = export.grid, export.chest
    tumour, left, right = [], [], []
    for k, image in enumerate(images[: len(grid.z)]):
        z = float(grid.z[k])
        for contours, points in (
            (tumour, tumour_polygon(chest.tumour, 0.0, z, grid.tangent)),
            (left, lung_polygon(chest, 1, 0.0, z, grid.tangent)),
            (right, lung_polygon(chest, -1, 0.0, z, grid.tangent)),
        ):
            if points is not None:
                contours.append((image.SOPInstanceUID, points + grid.shift))
    rois = [(roi, "GTV", tumour), ("Lung L", "ORGAN", left), ("Lung R", "ORGAN", right)]
    dataset = structure_set(export.subject, export.scanner, series=RT_SERIES, images=images, rois=rois)
    export.structure = Planned(f"{export.folder(RT_SERIES, 'RTSTRUCT')}/RS.{dataset.SOPInstanceUID}.dcm", dataset)
