"""A small made-up study in the layout of results: every table through its schema, images of a few kilobytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from polycentric import figures, ledger, tables, volumes
from polycentric.files import sha256_bytes, sha256_file, write_json
from polycentric.report import AnalysisFiles, ModelFiles, ReportInputs, provenance
from polycentric.tables import schemas

SIZE = (72, 60, 12)
SPACING = (5.0, 5.0, 6.0)
CENTRES = {"north": "development", "south": "development", "east": "external"}
PATIENTS = 6


@dataclass
class Study:
    """The fake study: its settings as data, the root of its results, and the paths that a report needs."""

    settings: dict[str, Any]
    root: Path
    inputs: ReportInputs
    scans: pd.DataFrame


def pseudonym(kind: str, *names: object) -> str:
    return kind + sha256_bytes("|".join(map(str, names)).encode())[:10]


def chest(rng: np.random.Generator, contrast: bool) -> tuple[np.ndarray, np.ndarray]:
    """A body with two lungs, a heart and a nodule, HU; and the nodule's mask."""
    nx, ny, nz = SIZE
    z, y, x = np.mgrid[:nz, :ny, :nx].astype(float)
    image = np.full((nz, ny, nx), -1000.0)
    image[((x - 36) / 32) ** 2 + ((y - 30) / 24) ** 2 < 1] = 30
    for cx in (20, 52):
        image[((x - cx) / 12) ** 2 + ((y - 28) / 17) ** 2 < 1] = -840
    image[((x - 38) / 8) ** 2 + ((y - 26) / 8) ** 2 < 1] = 180 if contrast else 45
    cx, cy, r = 20 + rng.integers(-4, 5), 26 + rng.integers(-5, 6), rng.uniform(2.5, 5)
    mask = (x - cx) ** 2 + (y - cy) ** 2 + (1.2 * (z - 6)) ** 2 < r**2
    image[mask] = 60 if contrast else 35
    return (image + rng.normal(0, 15, image.shape)).astype(np.float32), mask.astype(np.uint8)


def make(root: Path, *, simulated: bool = True) -> Study:
    rng = np.random.default_rng(1)
    scans, curation, manifests = [], [], {"volumes": [], "masks": [], "ct": [], "noncontrast": []}
    for centre, role in CENTRES.items():
        for k in range(PATIENTS):
            patient, session, scan = (pseudonym(n, centre, k) for n in ("P", "E", "S"))
            contrast = k % 2 == 0
            keys = {"centre": centre, "patient": patient, "session": session, "scan": scan}
            image, mask = chest(rng, contrast)
            shard = f"{centre}-0"
            grid = volumes.Geometry(SIZE, SPACING)

            def store(
                kind: str, name: str, array: np.ndarray, keys: dict = keys, shard: str = shard, grid: Any = grid
            ) -> dict:
                path = root / kind / shard / f"{name}.nii"
                volumes.write(volumes.Volume(array, grid), path)
                where = {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path)}
                return {**keys, **where, "status": "ok", "reason": "", **grid.columns()}

            manifests["volumes"].append({**store("volumes", scan, image), "modality": "CT", "pixels_sha256": "0"})
            manifests["masks"].append(
                {k: v for k, v in store("masks/manual/main", f"{scan}--GTV-1", mask).items() if k not in schemas.GRID}
                | {"source": "manual", "fold": "main", "roi": "GTV-1", "voxels": int(mask.sum())}
                | {"volume_ml": float(mask.sum() * grid.voxel_ml), "contour_volume_ml": None, "codes": ""}
            )
            manifests["ct"].append({**store("views/ct/main", scan, image), "view": "ct", "fold": "main"})
            made = np.where(image > 120, image - 130, image + rng.normal(0, 8, image.shape)).astype(np.float32)
            manifests["noncontrast"].append(
                {**store("views/noncontrast/main", scan, made), "view": "noncontrast", "fold": "main"}
            )
            about = {
                "slices": SIZE[2], "spacing_x_mm": 5.0, "spacing_y_mm": 5.0, "spacing_z_mm": 6.0, "thickness_mm": 6.0,
                "length_mm": 66.0, "manufacturer": "TOYSCAN", "model": "M1", "kernel": "B30", "kvp": 120.0,
                "structures": 1,
            }  # fmt: skip
            flag = "flag" if k == 3 else "accept"
            codes = "GEOM_UNEVEN" if k == 3 else ""
            contrast_word = "yes" if contrast else "no"
            curation.append(
                {**keys, **about, "modality": "CT", "verdict": flag, "codes": codes, "files": SIZE[2]}
                | {"files_sha256": "0", "contrast": contrast_word}
            )
            facts = {k: v for k, v in about.items() if k != "length_mm"}
            scans.append(
                {**keys, **facts, "role": role, "shard": shard, "modality": "CT", "verdict": flag, "codes": codes}
                | {"contrast": contrast_word}
            )
        for code in ("GEOM_MISSING_SLICE", "SERIES_LOCALIZER"):
            keys = {c: pseudonym(c[0].upper(), centre, code) for c in ("patient", "session", "scan")}
            curation.append(
                {"centre": centre, **keys, "modality": "CT", "verdict": "reject", "codes": code, "files": 9}
                | {"reason": code.lower(), "files_sha256": "0", "contrast": "unknown"}
            )
    cohort = root / "cohort"
    curation = [{"contrast_tag": "unknown", "contrast_description": "unknown"} | row for row in curation]
    tables.write(curation, cohort / "curation.parquet", schemas.CURATION)
    frame = tables.write(scans, cohort / "scans.tsv", schemas.SCANS)
    patients = [
        {"centre": s["centre"], "patient": s["patient"], "role": s["role"], "scans": 1, "clinical": True} for s in scans
    ]
    tables.write(patients, cohort / "patients.tsv", schemas.PATIENTS)
    steps = []
    for centre in CENTRES:
        n = PATIENTS
        for step, box, code, people, count in (
            (1, "files", "", n + 2, n * SIZE[2] + 18),
            (2, "candidates", "", n + 2, n + 2),
            (3, "excluded", "GEOM_MISSING_SLICE", 1, 1),
            (3, "excluded", "SERIES_LOCALIZER", 1, 1),
            (4, "accepted", "", n, n),
        ):
            steps.append({"centre": centre, "step": step, "box": box, "code": code, "patients": people, "scans": count})
    tables.write(steps, cohort / "flow.tsv", schemas.FLOW)
    split = []
    for index, patient in enumerate(patients):
        part = "external" if patient["role"] == "external" else ("training" if index % PATIENTS < 3 else "test")
        split.append({"centre": patient["centre"], "patient": patient["patient"], "part": part, "stratum": ""})
    tables.write(split, cohort / "splits" / "synthesis.tsv", schemas.SPLIT)
    shown = {
        "volumes": (root / "volumes" / "all.tsv", schemas.VOLUMES),
        "masks": (root / "masks" / "manual" / "main" / "all.tsv", schemas.MASKS),
        "ct": (root / "views" / "ct" / "main" / "all.tsv", schemas.VIEWS),
        "noncontrast": (root / "views" / "noncontrast" / "main" / "all.tsv", schemas.VIEWS),
    }
    # one scan of the synthetic view failed, as it may
    manifests["noncontrast"][-1] |= {"status": "failed", "reason": "OutOfMemory: see the log", "path": "", "sha256": ""}
    for name, (path, schema) in shown.items():
        tables.write(manifests[name], path, schema)
    training = [r["patient"] for r in split if r["part"] == "training"]
    model = root / "models" / "decontrast" / "main"
    ledger.write(
        model / "ledger.json",
        name="decontrast", stage="synthesis", split="synthesis", seen={"training": training}, settings="{}", code="0",
    )  # fmt: skip
    steps_of_training = np.arange(1, 41) * 25
    history = pd.DataFrame({"iteration": steps_of_training})
    for name, start in (("generator", 2.0), ("discriminator", 0.6), ("cycle", 4.0)):
        history[name] = start * np.exp(-steps_of_training / 700) + 0.1 + rng.uniform(0, 0.05, len(history))
    figures.write_csv(history, model / "history.csv")
    analyses = {"cohort": _cohort(root), "covid": _classification(root, training, model), "survival": _survival(root)}
    settings = {
        "study": "fixture-study", "seed": 7,
        "centres": {
            c: ({"simulate": {"patients": PATIENTS}} if simulated else {"images": f"/data/secret/{c}"}) | {"role": r}
            for c, r in CENTRES.items()
        },
        "clinical": {"table": "/data/secret/clinical.csv", "outcomes": {"covid": {"type": "binary"}}},
        "views": {
            "ct": {"from": "scan", "spacing_mm": [5, 5, 6]},
            "noncontrast": {"from": "ct", "synthesis": "decontrast"},
        },
        "synthesis": {"decontrast": {"split": "synthesis", "source": {"view": "ct", "where": "contrast == 'yes'"}}},
        "analyses": {
            "covid": {"kind": "classification", "question": "Do features of the lesion tell the diagnosis?"},
            "cohort": {"kind": "cohort"}, "survival": {"kind": "survival", "title": "Survival with radiomics"},
        },
    }  # fmt: skip
    manifests_written = [path for path, _ in shown.values()]
    provenance(
        root / "report" / "provenance.json",
        study=settings, code={"curate": "ab12", "train": "cd34"}, packages=["numpy", "pandas", "no-such-package"],
        manifests=manifests_written, root=root,
    )  # fmt: skip
    inputs = ReportInputs(
        curation=cohort / "curation.parquet", scans=cohort / "scans.tsv", patients=cohort / "patients.tsv",
        flow=cohort / "flow.tsv", provenance=root / "report" / "provenance.json",
        splits={"synthesis": cohort / "splits" / "synthesis.tsv"}, volumes=[shown["volumes"][0]],
        masks={"manual": [shown["masks"][0]]}, views={v: [shown[v][0]] for v in ("ct", "noncontrast")},
        models={"decontrast": ModelFiles(model / "ledger.json", None, model / "history.csv")}, analyses=analyses,
    )  # fmt: skip
    return Study(settings, root, inputs, frame)


def estimate(value: float, half: float, n: int, **more: Any) -> dict[str, Any]:
    bounds = {"value": value, "lower": value - half, "upper": value + half}
    return {**bounds, "level": 0.95, "method": "bootstrap of patients", "n": n, "seed": 7, **more}


def _artefact(root: Path, kind: str, path: Path, title: str, caption: str, data: Path | None = None) -> dict[str, Any]:
    return {
        "kind": kind, "path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "title": title,
        "caption": caption, "data": data.relative_to(root).as_posix() if data else "",
    }  # fmt: skip


def _finish(root: Path, name: str, metrics: dict[str, Any], rows: list[dict], has_ledger: bool) -> AnalysisFiles:
    folder = root / "analyses" / name
    write_json(folder / "metrics.json", {"schema_version": 1, **metrics})
    tables.write(rows, folder / "manifest.tsv", schemas.ARTEFACTS)
    ledger_file = folder / "ledger.json" if has_ledger else None
    return AnalysisFiles(folder / "metrics.json", folder / "manifest.tsv", ledger_file)


def _cohort(root: Path) -> AnalysisFiles:
    folder = root / "analyses" / "cohort"
    table = pd.DataFrame(
        {
            "variable": ["patients", "age, years: median (IQR)", "female: n (%)", "contrast: n (%)"],
            **{c: ["6", "64 (58 to 71)", "3 (50.0 %)", "3 (50.0 %)"] for c in CENTRES},
            "all": ["18", "64 (58 to 71)", "9 (50.0 %)", "9 (50.0 %)"],
        }
    )
    figures.write_csv(table, folder / "tables" / "table1.csv")
    fig, axis = figures.new(100, 60)
    axis.bar(list(CENTRES), [6, 6, 6], color=figures.COLOURS[0])
    axis.set_ylabel("patients")
    figures.save(fig, folder / "figures" / "summary.svg")
    rows = [
        _artefact(root, "table", folder / "tables" / "table1.csv", "Table 1", "Patients and scans by centre; n = 18."),
        _artefact(root, "figure", folder / "figures" / "summary.svg", "Patients", "Patients by centre; n = 18."),
    ]
    return _finish(root, "cohort", {"kind": "cohort"}, rows, False)


def _classification(root: Path, training: list[str], model: Path) -> AnalysisFiles:
    folder = root / "analyses" / "covid"
    t = np.linspace(0, 1, 30)
    curve = pd.DataFrame({"false_positive_rate": t, "true_positive_rate": t**0.35})
    figures.write_csv(curve, folder / "tables" / "roc.csv")
    fig, axis = figures.new(90, 80)
    axis.plot(t, t**0.35, label="lasso, test: AUC 0.74")
    axis.fill_between(t, t**0.6, t**0.2, alpha=0.2)
    axis.plot([0, 1], [0, 1], "--", color="#999999", linewidth=0.8)
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC")
    axis.legend()
    figures.save(fig, folder / "figures" / "summary.svg")
    fig, axis = figures.new(90, 80)
    axis.scatter(t, t + 0.1 * np.sin(9 * t))
    axis.set(xlabel="predicted probability", ylabel="observed share", title="Calibration")
    figures.save(fig, folder / "figures" / "calibration.svg")
    rows = [
        _artefact(root, "figure", folder / "figures" / "summary.svg", "ROC <curve>",
                  "Sensitivity against 1 − specificity with 95 % band; n = 6.", folder / "tables" / "roc.csv"),
        _artefact(root, "figure", folder / "figures" / "calibration.svg", "Calibration", "Observed share; n = 6."),
    ]  # fmt: skip
    metrics = {
        "kind": "classification",
        "estimates": {
            "mixed": {
                "lasso": {
                    part: {
                        "auc": estimate(0.74, 0.12, n, p=0.0004), "balanced_accuracy": estimate(0.69, 0.15, n),
                        "brier": estimate(0.0012, 0.001, n), "gini": {"value": None, "lower": None, "upper": None},
                    }
                    for part, n in (("test", 6), ("external", 6))
                }
            }
        },
        "warnings": ["The test part has 6 patients; <b>intervals</b> are wide."],
        "features": {"selected": 4, "names": "glcm_Contrast"},
    }  # fmt: skip
    ledger.write(
        folder / "ledger.json",
        name="covid", stage="analysis", split="synthesis", seen={"training": training},
        upstream=[model / "ledger.json"], settings="{}", code="0",
    )  # fmt: skip
    return _finish(root, "covid", metrics, rows, True)


def _survival(root: Path) -> AnalysisFiles:
    folder = root / "analyses" / "survival"
    fig, axis = figures.new(120, 90)
    days = np.arange(0, 1500, 100)
    for index, (name, rate) in enumerate((("low risk", 0.0004), ("high risk", 0.0011))):
        axis.step(days, np.exp(-rate * days), where="post", label=name, color=figures.COLOURS[index])
    axis.set(xlabel="time, days", ylabel="survival", ylim=(0, 1.02), title="Kaplan-Meier")
    axis.legend()
    figures.save(fig, folder / "figures" / "summary.svg")
    rows = [_artefact(root, "figure", folder / "figures" / "summary.svg", "Kaplan-Meier", "Survival by group; n = 12.")]
    metrics = {
        "kind": "survival",
        "estimates": {"clinical": {"concordance": estimate(0.61, 0.09, 12)}},
        "notes": ["Ties are many."],
        "definitions": {"concordance": "share of comparable pairs in the right order"},
    }
    return _finish(root, "survival", json.loads(json.dumps(metrics)), rows, False)
