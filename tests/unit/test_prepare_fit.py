"""Fitted steps: on training patients only, whatever the shards, with a ledger; masks and conditions in a shard."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from polycentric import ledger, tables, volumes
from polycentric.config.views import View
from polycentric.errors import UserError
from polycentric.files import read_json, sha256_file
from polycentric.prepare import fit_view, prepare_shard
from polycentric.tables.schemas import MASKS, PATIENTS, SCANS, SPLIT, VIEWS, VOLUMES
from polycentric.volumes import Geometry, Volume

PATIENTS_OF = {"north": 8, "south": 4}
PARTS = ("training", "training", "training", "test")


def image(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return (50 * number + rng.normal(300, 20 + number, (6, 10, 12))).astype(np.float32)


class Cohort:
    """Volumes of 12 patients in shards, masks, split, scans and patients."""

    def __init__(self, root: Path, shards: dict[str, int]) -> None:
        self.root = root
        self.images: dict[str, np.ndarray] = {}
        split, scans, patients, number = [], [], [], 0
        by_shard: dict[str, list[dict]] = {f"{c}-{k}": [] for c, n in shards.items() for k in range(n)}
        masks: dict[str, list[dict]] = {shard: [] for shard in by_shard}
        for centre, count in PATIENTS_OF.items():
            for k in range(count):
                patient, scan, shard = (
                    f"p{number:02}",
                    f"s{97 * (number + 3) % 101:03}",
                    f"{centre}-{k % shards[centre]}",
                )
                key = {"centre": centre, "patient": patient, "session": f"v{number}", "scan": scan}
                part = PARTS[k % 4]
                split.append({"centre": centre, "patient": patient, "part": part, "stratum": ""})
                patients.append(
                    {"centre": centre, "patient": patient, "role": "development", "scans": 1, "clinical": True}
                    | {"age": 40 + number}
                )
                scans.append(
                    key
                    | {"role": "development", "shard": shard, "modality": "MR", "contrast": "no", "verdict": "accept"}
                )
                array = image(number)
                spacing = (1.0, 1.0, 3.0) if number % 3 else (0.9, 0.9, 5.0)
                geometry = Geometry(array.shape[::-1], spacing)
                path = root / "volumes" / shard / f"{scan}.nii"
                volumes.write(Volume(array, geometry), path)
                self.images[patient] = array
                row = {
                    "path": path.relative_to(root).as_posix(),
                    "sha256": sha256_file(path),
                    "status": "ok",
                    "reason": "",
                }
                by_shard[shard].append(key | row | {"modality": "MR"} | geometry.columns())
                if number != 5:
                    own = np.zeros(array.shape, np.uint8)
                    own[2:4, 3:6, 4:9] = 1
                    path = root / "masks" / "manual" / "main" / shard / f"{scan}--brain.nii"
                    volumes.write(Volume(own, geometry), path)
                    masks[shard].append(
                        key
                        | {"source": "manual", "fold": "main", "roi": "brain", "status": "ok", "reason": ""}
                        | {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path)}
                    )
                number += 1
        self.parts = {row["patient"]: row["part"] for row in split}
        self.split, self.scans, self.patients = root / "split.tsv", root / "scans.tsv", root / "patients.tsv"
        tables.write(split, self.split, SPLIT)
        tables.write([row | dict.fromkeys(set(SCANS.columns) - set(row)) for row in scans], self.scans, SCANS)
        tables.write(patients, self.patients, PATIENTS)
        self.sources, self.masks = {}, {}
        for shard, rows in by_shard.items():
            self.sources[shard] = root / "volumes" / f"{shard}.tsv"
            self.masks[shard] = root / "masks" / "manual" / "main" / f"{shard}.tsv"
            tables.write(rows, self.sources[shard], VOLUMES)
            tables.write(masks[shard], self.masks[shard], MASKS)

    def fit(self, view: View, name: str = "z", **more) -> tuple[Path, Path]:
        model, book = (self.root / "models" / name / "main" / f for f in ("fit.json", "ledger.json"))
        fit_view(
            name, view, sources=list(self.sources.values()), masks=list(self.masks.values()), split=self.split,
            root=self.root, scans=self.scans, patients=self.patients, model=model, ledger=book, **more,
        )  # fmt: skip
        return model, book

    def prepare(self, view: View, shard: str, model: Path | None = None, name: str = "z") -> list[dict]:
        manifest = self.root / "views" / name / "main" / f"{shard}.tsv"
        prepare_shard(
            name, view, source=self.sources[shard], root=self.root, manifest=manifest, masks=self.masks[shard],
            scans=self.scans, patients=self.patients, model=model,
        )  # fmt: skip
        return tables.read(manifest, VIEWS).to_dict("records")

    def training(self, centre: str | None = None) -> list[np.ndarray]:
        first = PATIENTS_OF["north"]
        return [
            array
            for k, (patient, array) in enumerate(self.images.items())
            if self.parts[patient] == "training" and (centre is None or (k < first) == (centre == "north"))
        ]


TRAINING = {"fit": {"split": "images"}, "steps": [{"kind": "z-score", "of": "training"}]}


def test_z_score_of_the_training_patients_is_applied_to_all(tmp_path):
    cohort = Cohort(tmp_path, {"north": 2, "south": 1})
    view = View.model_validate(TRAINING)
    model, book = cohort.fit(view)
    values = np.concatenate([a.ravel() for a in cohort.training()]).astype(float)
    fitted = read_json(model)["steps"][0]["parameters"]
    assert fitted["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert fitted["sd"] == pytest.approx(values.std(), rel=1e-12)
    record = ledger.read(book)
    assert record["stage"] == "prepare"
    assert record["seen"] == {"training": [p for p in cohort.images if cohort.parts[p] == "training"]}
    rows = cohort.prepare(view, "north-1", model)
    assert [row["status"] for row in rows] == ["ok"] * 4
    for row in rows:
        made = volumes.read(tmp_path / row["path"], row).array
        np.testing.assert_allclose(made, (cohort.images[row["patient"]] - values.mean()) / values.std(), atol=1e-4)


def test_a_fit_depends_neither_on_shards_nor_on_workers_nor_on_other_patients(tmp_path):
    steps = [{"kind": "nyul"}, {"kind": "clip", "low": -50, "high": 150}, {"kind": "z-score", "of": "training"}]
    view = View.model_validate({"fit": {"split": "images"}, "spacing_mm": [1, 1, 2], "steps": steps})
    one, _ = Cohort(tmp_path / "a", {"north": 1, "south": 1}).fit(view)
    cohort = Cohort(tmp_path / "b", {"north": 3, "south": 2})
    other, _ = cohort.fit(view, workers=2)
    assert one.read_bytes() == other.read_bytes()
    for patient, part in cohort.parts.items():  # test patients' images become others
        if part == "test":
            row = next(
                r
                for p in cohort.sources.values()
                for r in tables.read(p, VOLUMES).to_dict("records")
                if r["patient"] == patient
            )
            volumes.write(
                Volume(np.full((6, 10, 12), 1e6, np.float32), Geometry((12, 10, 6), (1, 1, 3))),
                cohort.root / row["path"],
            )
    again, _ = cohort.fit(view)
    assert again.read_bytes() == one.read_bytes()


def test_the_mode_of_a_centre_is_the_target_grid(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate(
        {"fit": {"split": "images", "centres": ["north"]}, "steps": [{"kind": "resample", "spacing_mm": "mode"}]}
    )
    model, book = cohort.fit(view)
    assert read_json(model)["steps"][0]["parameters"]["spacing_mm"] == [1.0, 1.0, 3.0]
    assert len(ledger.read(book)["seen"]["training"]) == 6
    rows = cohort.prepare(view, "south-0", model)
    assert {(row["spacing_x_mm"], row["spacing_z_mm"]) for row in rows} == {(1.0, 3.0)}


def test_a_standard_of_one_image_is_that_image(tmp_path):
    exposure = pytest.importorskip("skimage.exposure")
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    base = {"where": "age == 40", "fit": {"split": "images"}}
    matched = View.model_validate(base | {"steps": [{"kind": "histogram-match", "levels": 4096}]})
    model, _ = cohort.fit(matched)
    everyone = matched.model_copy(update={"where": None})
    rows = cohort.prepare(everyone, "south-0", model)
    for row in rows:
        made = volumes.read(tmp_path / row["path"], row).array
        expected = exposure.match_histograms(cohort.images[row["patient"]], cohort.images["p00"])
        np.testing.assert_allclose(made, expected, atol=1.0)
    rows = cohort.prepare(matched, "north-0", model, "selected")
    assert [row["status"] for row in rows].count("ok") == 1
    assert rows[3]["reason"].startswith("VIEW_NOT_SELECTED")


def test_nyul_landmarks(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate({"fit": {"split": "images"}, "steps": [{"kind": "nyul"}]})
    model, _ = cohort.fit(view)
    percentiles = [1, *range(10, 100, 10), 99]
    own = np.array([np.percentile(a, percentiles) for a in cohort.training()])
    standard = (100 * (own - own[:, :1]) / (own[:, -1:] - own[:, :1])).mean(0)
    np.testing.assert_allclose(read_json(model)["steps"][0]["parameters"]["landmarks"], standard, rtol=1e-5)
    row = cohort.prepare(view, "south-0", model)[3]
    made = volumes.read(tmp_path / row["path"], row).array
    array = cohort.images[row["patient"]]
    np.testing.assert_allclose(np.percentile(made, percentiles), standard, atol=0.1)
    order = np.argsort(array.ravel())
    assert (np.diff(made.ravel()[order]) >= 0).all()  # beyond the landmarks too: nothing is clipped
    assert made.min() < standard[0]


def test_nyul_agrees_with_another_implementation(tmp_path):
    peer = pytest.importorskip("intensity_normalization.normalizers.population.nyul")
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate({"fit": {"split": "images"}, "steps": [{"kind": "nyul"}]})
    model, _ = cohort.fit(view)
    standard = read_json(model)["steps"][0]["parameters"]["landmarks"]
    row = cohort.prepare(view, "south-0", model)[3]
    made, array = volumes.read(tmp_path / row["path"], row).array, cohort.images[row["patient"]]
    nibabel = pytest.importorskip("nibabel")
    from intensity_normalization.adapters.images import NibabelImageAdapter as Adapter

    images = [Adapter(nibabel.Nifti1Image(a.astype(np.float64), np.eye(4))) for a in cohort.training()]
    normaliser = peer.NyulNormalizer(output_min_value=0.0).fit_population(images)
    np.testing.assert_allclose(normaliser.standard_scale, standard, atol=1e-4)
    theirs = normaliser.transform(Adapter(nibabel.Nifti1Image(array.astype(np.float64), np.eye(4)))).get_data()
    np.testing.assert_allclose(made, theirs, atol=1e-2)


def test_masks_reach_the_steps_and_a_scan_without_is_rejected(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate({"masks": "manual", "steps": [{"kind": "z-score", "inside": "brain"}]})
    rows = cohort.prepare(view, "north-0")
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["rejected"] + ["ok"] * 2
    assert rows[5]["reason"] == "VIEW_NO_MASK: the scan has no mask of brain"
    counted = cohort.images["p02"][2:4, 3:6, 4:9].astype(float)
    row = next(row for row in rows if row["patient"] == "p02")
    made = volumes.read(tmp_path / row["path"], row).array
    np.testing.assert_allclose(made, (cohort.images["p02"] - counted.mean()) / counted.std(), atol=1e-4)
    # a fit leaves the scan without a mask out, and says so
    view = View.model_validate(
        {
            "masks": "manual",
            "fit": {"split": "images"},
            "steps": [{"kind": "z-score", "of": "training", "inside": "brain"}],
        }
    )
    model, book = cohort.fit(view)
    record = read_json(model)
    assert [reason.split(":")[0] for reason in record["left_out"].values()] == ["VIEW_NO_MASK"]
    assert "p05" not in ledger.read(book)["seen"]["training"]


def test_a_changed_mask_or_fit_makes_the_image_again_and_others_stay(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate({"masks": "manual", "steps": [{"kind": "z-score", "inside": "brain"}]})
    before = {row["scan"]: row["sha256"] for row in cohort.prepare(view, "south-0")}
    rows = tables.read(cohort.masks["south-0"], MASKS)
    path = tmp_path / rows.loc[0, "path"]
    mask = volumes.read(path)
    mask.array[:] = 1
    volumes.write(mask, path)
    rows.loc[0, "sha256"] = sha256_file(path)
    tables.write(rows, cohort.masks["south-0"], MASKS)
    after = {row["scan"]: row["sha256"] for row in cohort.prepare(view, "south-0")}
    assert [scan for scan in before if before[scan] != after[scan]] == [rows.loc[0, "scan"]]


def test_what_steps_found_is_in_the_manifest(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    rows = cohort.prepare(View.model_validate({"steps": [{"kind": "non-local-means"}]}), "south-0")
    notes = json.loads(rows[0]["diagnostics"])
    assert [(note["step"], note["kind"]) for note in notes] == [(0, "non-local-means")]


def test_leaks_and_empty_fits_are_refused(tmp_path):
    cohort = Cohort(tmp_path, {"north": 1, "south": 1})
    view = View.model_validate(TRAINING)
    upstream = tmp_path / "gan.json"
    book = {"name": "gan", "stage": "synthesize", "split": "other", "settings": "", "code": ""}
    ledger.write(upstream, seen={"training": ["p00"]}, **book)
    with pytest.raises(UserError, match="'gan' behind its inputs has seen 1"):
        cohort.fit(view, upstream=[upstream])
    ledger.write(upstream, seen={"training": ["p03"]}, **book)
    cohort.fit(view, upstream=[upstream])
    ledger.write(upstream, seen={"training": ["p00"]}, **book | {"stage": "prepare", "split": "images"})
    _, made = cohort.fit(view, upstream=[upstream])
    assert ledger.read(made)["upstream"][0]["name"] == "gan"
    with pytest.raises(UserError, match="no training patient"):
        cohort.fit(view.model_copy(update={"where": "age > 90"}))
    with pytest.raises(ValueError, match="needs model"):
        cohort.prepare(view, "north-0")
