"""Small cohorts of arrays for tests of synthesis and segmentation: tables, volumes, views, masks and a split."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from polycentric import tables, volumes
from polycentric.files import sha256_file
from polycentric.tables import schemas
from polycentric.volumes import Geometry, Volume

ENHANCEMENT_HU = 150.0


@dataclass
class Phantom:
    """A cohort below `root`: a scan per patient, `parts` by patient, every second scan with contrast."""

    root: Path
    parts: dict[str, str]
    shape: tuple[int, int, int] = (20, 24, 24)
    spacing: tuple[float, float, float] = (2.0, 2.0, 2.0)
    vessels: dict[str, np.ndarray] = field(default_factory=dict)
    spheres: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.patients = list(self.parts)
        self.geometry = Geometry(self.shape[::-1], self.spacing, (-10.0, 5.0, 30.0))
        for number, patient in enumerate(self.patients):
            self._draw(number, patient)
        self._tables()

    def contrast(self, patient: str) -> bool:
        return self.patients.index(patient) % 2 == 0

    def facts(self, patient: str) -> dict[str, str]:
        part = self.parts[patient]
        centre = "east" if part == "external" else "north"
        return {"centre": centre, "patient": patient, "session": f"s-{patient}", "scan": f"scan-{patient}"}

    def _draw(self, number: int, patient: str) -> None:
        rng = np.random.default_rng(number)
        z, y, x = np.ogrid[tuple(slice(0, n) for n in self.shape)]
        image = np.full(self.shape, -1000.0)
        middle = [n / 2 for n in self.shape]
        body = ((y - middle[1]) / (0.46 * self.shape[1])) ** 2 + ((x - middle[2]) / (0.46 * self.shape[2])) ** 2 < 1
        body = np.broadcast_to(body, self.shape)
        image[body] = 40.0
        at = [n * rng.uniform(0.4, 0.6) for n in self.shape[1:]]
        vessel = np.broadcast_to((y - at[0]) ** 2 + (x - at[1]) ** 2 < 9, self.shape)
        if self.contrast(patient):
            image[vessel] += ENHANCEMENT_HU
        centre = [n * rng.uniform(0.35, 0.65) for n in self.shape]
        sphere = (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 4.0**2
        image[sphere] = 300.0
        image += rng.normal(0, 15, self.shape)
        self.images[patient] = np.rint(np.clip(image, -1000, 1000)).astype(np.int16)
        self.vessels[patient] = vessel & ~sphere & body
        self.spheres[patient] = sphere

    def _tables(self) -> None:
        scans, patients, split, view, own, masks = [], [], [], [], [], []
        for patient in self.patients:
            facts = self.facts(patient)
            role = "external" if self.parts[patient] == "external" else "development"
            scans.append(
                facts
                | {"role": role, "shard": "north-0", "modality": "CT", "verdict": "accept"}
                | {"contrast": "yes" if self.contrast(patient) else "no"}
            )
            patients.append(
                {k: facts[k] for k in ("centre", "patient")}
                | {"role": role, "scans": 1, "clinical": True, "age": 50 + len(patients)}
            )
            split.append({k: facts[k] for k in ("centre", "patient")} | {"part": self.parts[patient]})
            path = self.root / "views" / "ct" / "main" / "all" / f"{facts['scan']}.nii"
            volumes.write(Volume(self.images[patient], self.geometry), path)
            file = {"path": path.relative_to(self.root).as_posix(), "sha256": sha256_file(path)}
            file |= {"status": "ok", "reason": ""} | self.geometry.columns()
            view.append(facts | {"view": "ct", "fold": "main"} | file)
            own.append(facts | {"modality": "CT"} | file)
            mask = self.root / "masks" / "manual" / "main" / "all" / f"{facts['scan']}--GTV-1.nii"
            volumes.write(Volume(self.spheres[patient].astype(np.uint8), self.geometry), mask)
            masks.append(
                facts
                | {"source": "manual", "fold": "main", "roi": "GTV-1", "status": "ok", "reason": ""}
                | {"path": mask.relative_to(self.root).as_posix(), "sha256": sha256_file(mask)}
                | {"voxels": int(self.spheres[patient].sum()), "volume_ml": 1.0}
            )
        self.scans = self.root / "cohort" / "scans.tsv"
        self.patient_table = self.root / "cohort" / "patients.tsv"
        self.split = self.root / "cohort" / "splits" / "main.tsv"
        self.view = self.root / "views" / "ct" / "main" / "all.tsv"
        self.volumes = self.root / "volumes" / "all.tsv"
        self.masks = self.root / "masks" / "manual" / "main" / "all.tsv"
        tables.write(scans, self.scans, schemas.SCANS)
        tables.write(patients, self.patient_table, schemas.PATIENTS)
        tables.write(split, self.split, schemas.SPLIT)
        tables.write(view, self.view, schemas.VIEWS)
        tables.write(own, self.volumes, schemas.VOLUMES)
        tables.write(masks, self.masks, schemas.MASKS)
