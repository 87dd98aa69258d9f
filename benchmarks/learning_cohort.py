"""Writes the simulated patients of the learning benchmark as a study's tables and views, as training expects them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import learning_phantoms as phantoms
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
from polycentric import ledger, tables, volumes
from polycentric.config.synthesis import Synthesis
from polycentric.files import sha256_bytes, sha256_file, write_text
from polycentric.jobs import Log
from polycentric.tables import schemas
from polycentric.volumes import Geometry, Volume

MAIN = "main"


@dataclass
class Cohort:
    """Tables below `root`; `numbers` are the patients' by their part and domain."""

    root: Path
    views: tuple[str, ...]
    numbers: dict[tuple[str, str], list[int]]

    @property
    def scans(self) -> Path:
        return self.root / "cohort" / "scans.tsv"

    @property
    def patients(self) -> Path:
        return self.root / "cohort" / "patients.tsv"

    @property
    def split(self) -> Path:
        return self.root / "cohort" / "splits" / "main.tsv"

    def manifest(self, view: str) -> Path:
        return self.root / "views" / view / MAIN / "all.tsv"

    def image(self, view: str, number: int) -> np.ndarray:
        return volumes.read(self.root / "views" / view / MAIN / "all" / f"scan-{number:04d}.nii").array


def chests(seed: int, root: Path, few: int | None = None) -> Cohort:
    """CT without (`view: ct`, contrast no) and with contrast; the test patients' twins are not among them."""

    def images(domain: str, number: int) -> dict[str, np.ndarray]:
        return {"ct": phantoms.patient(seed, number).scan(contrast=domain == "yes")}

    numbers = {
        (part, domain): list(found(domain == "yes"))[:few]
        for part, found in (("training", phantoms.training_numbers), ("test", phantoms.test_numbers))
        for domain in ("yes", "no")
    }
    return _write(root, ("ct",), numbers, images, "CT")


def slabs(seed: int, root: Path, few: int | None = None) -> Cohort:
    """Both sequences (contrast unknown stands for MR) of some patients and CT (contrast no) of others."""

    def images(domain: str, number: int) -> dict[str, np.ndarray]:
        slab = phantoms.slab(seed, number)
        return {"ct": slab.ct} if domain == "no" else {"first": slab.first, "second": slab.second}

    numbers = {
        ("training", "unknown"): list(phantoms.training_numbers(True))[:few],
        ("training", "no"): list(phantoms.training_numbers(False))[:few],
        ("test", "unknown"): list(phantoms.test_numbers(True))[:few],
    }
    return _write(root, ("ct", "first", "second"), numbers, images, "MR")


def _write(
    root: Path,
    views: tuple[str, ...],
    numbers: dict[tuple[str, str], list[int]],
    images: Callable[[str, int], dict[str, np.ndarray]],
    modality: str,
) -> Cohort:
    """Write the cohort, unless the folder holds it already, made by the same simulator."""
    cohort = Cohort(root, views, numbers)
    source = Path(phantoms.__file__).read_bytes()
    stamp = sha256_bytes(source + repr(sorted(numbers.items())).encode())
    told = root / "made.txt"
    if told.exists() and told.read_text() == stamp:
        return cohort
    scans, patients, split = [], [], []
    rows: dict[str, list[dict[str, Any]]] = {view: [] for view in views}
    for (part, domain), own in sorted(numbers.items()):
        for number in own:
            facts = {"centre": "simulated", "patient": f"p{number:04d}", "session": f"s{number:04d}"}
            facts["scan"] = f"scan-{number:04d}"
            person = {k: facts[k] for k in ("centre", "patient")}
            role = {"role": "development"}
            kind = {"modality": "CT" if domain == "no" else modality, "verdict": "accept", "contrast": domain}
            scans.append(facts | role | kind | {"shard": "simulated-0"})
            patients.append(person | role | {"scans": 1, "clinical": False})
            split.append(person | {"part": part})
            for view, image in images(domain, number).items():
                rows[view].append(facts | {"view": view, "fold": MAIN} | _file(root, cohort, view, number, image))
    tables.write(scans, cohort.scans, schemas.SCANS)
    tables.write(patients, cohort.patients, schemas.PATIENTS)
    tables.write(split, cohort.split, schemas.SPLIT)
    for view in views:
        tables.write(rows[view], cohort.manifest(view), schemas.VIEWS)
    write_text(told, stamp)
    return cohort


def _file(root: Path, cohort: Cohort, view: str, number: int, image: np.ndarray) -> dict[str, Any]:
    geometry = Geometry(image.shape[::-1], (phantoms.SPACING_MM,) * 3)
    path = cohort.manifest(view).with_suffix("") / f"scan-{number:04d}.nii"
    volumes.write(Volume(image, geometry), path)
    file = {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "status": "ok", "reason": ""}
    return file | geometry.columns()


FILES = {
    "weights": "weights.safetensors",
    "settings_out": "settings.json",
    "history": "history.csv",
    "ledger": "ledger.json",
    "samples": "samples.zip",
}
COMMON = {"settings_json": "{}", "code": "benchmark", "device": "cpu", "fold": MAIN}


def train(
    cohort: Cohort, name: str, settings: Synthesis, *, seed: int, folder: Path, views: Sequence[str], log: Log
) -> None:
    """Train on the training patients by the library's own entry point; the model's files go to `folder`."""
    from polycentric.synthesis.train import train as run

    files = {key: folder / file for key, file in FILES.items()}
    run(
        name, settings, seed=seed, scans=cohort.scans, patients=cohort.patients, split=cohort.split,
        manifests=[cohort.manifest(view) for view in views], root=cohort.root, work=folder / "work", upstream=[],
        log=log, **files, **COMMON,
    )  # fmt: skip


def translate(
    cohort: Cohort, name: str, settings: Synthesis, *, folder: Path, views: Sequence[str], log: Log
) -> dict[int, np.ndarray]:
    """Translate the unseen patients of the source domain by the library's own entry point; HU by number."""
    from polycentric.synthesis.apply import synthesize_shard

    domain = next(d for part, d in cohort.numbers if part == "test" and d != "no")
    wanted = cohort.numbers["test", domain]
    ledger.refuse_leaks([f"p{n:04d}" for n in wanted], [folder / FILES["ledger"]], where=name)
    view = f"made-{name}"
    synthesize_shard(
        view, settings, weights=folder / FILES["weights"], ledger=folder / FILES["ledger"],
        source=_some(cohort, views[0], wanted), root=cohort.root, manifest=cohort.manifest(view), scans=cohort.scans,
        patients=cohort.patients, also=[cohort.manifest(view) for view in views[1:]], log=log, **COMMON,
    )  # fmt: skip
    return {number: cohort.image(view, number) for number in wanted}


def _some(cohort: Cohort, view: str, numbers: Sequence[int]) -> Path:
    """A manifest of some patients alone."""
    rows = tables.read(cohort.manifest(view), schemas.VIEWS)
    path = cohort.manifest(view).with_name("test.tsv")
    tables.write(rows[rows["patient"].isin([f"p{n:04d}" for n in numbers])], path, schemas.VIEWS)
    return path
