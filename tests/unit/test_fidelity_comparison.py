"""Comparison of models and detectability on cohorts with planted differences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from phantoms import Phantom
from polycentric import ledger, tables, volumes
from polycentric.config.image_analyses import FidelityAnalysis
from polycentric.config.profiles import ProfileSettings
from polycentric.config.synthesis import Synthesis
from polycentric.config.synthesis_analyses import (
    Detectability,
    RadiomicsOfComparison,
    SynthesisComparison,
    SynthesisSummary,
)
from polycentric.errors import UserError
from polycentric.fidelity.analyse import analyse
from polycentric.fidelity.compare import Model, compare
from polycentric.fidelity.detectability import area, detect
from polycentric.fidelity.summary import rows_of, summarise
from polycentric.files import sha256_file
from polycentric.profiles.shard import profile_shard
from polycentric.tables import schemas
from polycentric.tables.profiles import PROFILES, write_arrays
from pydantic import ValidationError
from sklearn import linear_model, metrics

PROFILE = ProfileSettings(network=None, landmarks="body", layers=4, slices=12, bins=64)
SYNTHESIS = Synthesis(
    split="main",
    source={"view": "ct", "where": "contrast == 'yes'"},
    target={"view": "ct", "where": "contrast == 'no'"},
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    parts = {f"p{i:02d}": "training" if i < 2 else "test" for i in range(34)}
    return Phantom(tmp_path_factory.mktemp("comparison"), parts)


def make_view(cohort: Phantom, name: str, change) -> Path:
    """A view of changed images, and its profile."""
    rows = tables.read(cohort.view, schemas.VIEWS).to_dict("records")
    for row in rows:
        image = change(row["patient"], cohort.images[row["patient"]].astype(np.float64))
        path = cohort.root / "views" / name / "main" / "all" / f"{row['scan']}.nii"
        volumes.write(volumes.Volume(np.rint(image).astype(np.int16), cohort.geometry), path)
        row |= {"view": name, "path": path.relative_to(cohort.root).as_posix(), "sha256": sha256_file(path)}
    path = cohort.root / "views" / name / "main" / "all.tsv"
    tables.write(rows, path, schemas.VIEWS)
    return profile(cohort, name, path)


def profile(cohort: Phantom, name: str, view: Path) -> Path:
    manifest = cohort.root / "profiles" / "default" / name / "main" / "all.tsv"
    profile_shard(
        "default", PROFILE, view=name, fold="main", source=view, splits=[cohort.split], parts=["test"],
        root=cohort.root, manifest=manifest, settings_json="{}", code="0",
    )  # fmt: skip
    return manifest


@pytest.fixture(scope="module")
def profiles(cohort: Phantom) -> list[Path]:
    from scipy import ndimage

    def perfect(patient: str, image: np.ndarray) -> np.ndarray:
        if cohort.contrast(patient):
            image[cohort.vessels[patient]] -= 150
        return image

    def blurred(patient: str, image: np.ndarray) -> np.ndarray:
        return ndimage.gaussian_filter(perfect(patient, image), (0, 1, 1))

    def shifted_above(patient: str, image: np.ndarray) -> np.ndarray:
        image = perfect(patient, image)
        image[10:] += 60  # the upper two of four layers
        return image

    made = [profile(cohort, "ct", cohort.view)]
    for name, change in (("perfect", perfect), ("blurred", blurred), ("shifted", shifted_above)):
        made.append(make_view(cohort, name, change))
    return made


def run(cohort: Phantom, profiles: list[Path], folder: str, seen: list[str], **changes) -> dict:
    models = ("perfect", "blurred", "shifted")
    written = cohort.root / "ledger.json"
    ledger.write(
        written, name="perfect", stage="synthesis", split="main", settings="{}", code="0", seen={"training": seen}
    )
    settings = {"synthesis": models, "repeats": 5, "bootstrap": 40, "frechet_bootstrap": 20} | changes
    features = settings.pop("features", None)
    compare(
        "comparison",
        SynthesisComparison(**settings),
        profile=PROFILE,
        models={m: Model(SYNTHESIS, m, cohort.split) for m in models},
        seed=3,
        profiles=profiles,
        scans=cohort.scans,
        patients=cohort.patient_table,
        ledgers=[written],
        features=features,
        root=cohort.root,
        folder=cohort.root / "analyses" / folder,
        settings_json="{}",
        code="0",
    )
    return json.loads((cohort.root / "analyses" / folder / "metrics.json").read_text())


def test_planted_differences_are_found_where_they_are(cohort: Phantom, profiles: list[Path]) -> None:
    found = run(cohort, profiles, "comparison", ["p00", "p01"])["images"]
    assert set(found) == {"perfect", "blurred", "shifted", "source of perfect"}
    for metric in ("kl_fine", "log_psd"):  # a perfect generator is as near as real images are
        facts = found["perfect"][metric]
        assert facts["lower"] < 1 < facts["upper"], metric
    assert found["source of perfect"]["kl_fine"]["lower"] > 2  # contrast is still there
    assert found["shifted"]["kl_fine"]["lower"] > 2
    assert found["blurred"]["log_psd"]["lower"] > 3
    assert found["blurred"]["log_psd"]["value"] > 3 * found["shifted"]["log_psd"]["value"]
    import pandas as pd

    folder = cohort.root / "analyses" / "comparison"
    layers = pd.read_csv(folder / "tables" / "layers.csv")
    of_shifted = layers[(layers["images"] == "shifted") & (layers["metric"] == "kl_fine")].sort_values("layer")
    below, above = np.split(of_shifted["against_baseline"].to_numpy(), 2)
    assert below.max() < 5
    assert above.min() > 5 * below.max()
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    for row in listed.to_dict("records"):
        assert sha256_file(cohort.root / row["path"]) == row["sha256"]
    assert {Path(p).name for p in listed["path"]} >= {"summary.svg", "layers.svg", "models.csv", "layers.csv"}
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    run(cohort, profiles, "comparison", ["p00", "p01"])
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_summary_joins_what_the_analyses_found(cohort: Phantom, profiles: list[Path]) -> None:
    import pandas as pd

    compared = run(cohort, profiles, "all-models", ["p00", "p01"])["images"]
    written = [cohort.root / "ledger.json"]
    where = {"scans": cohort.scans, "patients": cohort.patient_table, "split": cohort.split, "root": cohort.root}
    told = {"settings_json": "{}", "code": "0", "seed": 3}
    for model in ("perfect", "shifted"):
        view = cohort.root / "views" / model / "main" / "all.tsv"
        analyse(
            model, FidelityAnalysis(synthesis=model, bootstrap=20, examples=0), synthesis=SYNTHESIS, view=model,
            source=[cohort.view], target=[cohort.view], synthetic=[view], ledgers=written,
            folder=cohort.root / "analyses" / model, **where, **told,
        )  # fmt: skip
    del where["scans"], where["patients"], where["split"]
    names = ("all-models", "perfect", "shifted")
    joined = {name: cohort.root / "analyses" / name / "metrics.json" for name in names}
    folder = cohort.root / "analyses" / "summary"
    models = ["shifted", "perfect", "blurred"]
    ask = {"ledgers": written, "split": "main", "folder": folder, **where, **told}
    summarise("summary", SynthesisSummary(), models=models, metrics=joined, **ask)
    found = json.loads((folder / "metrics.json").read_text())["metrics"]
    # what was planted: 60 HU in the upper half of the body, nothing in it, and 150 HU less in vessels
    assert found["change of soft tissue, HU"]["shifted"]["value"] == pytest.approx(30, abs=6)
    assert found["change of soft tissue, HU"]["perfect"]["value"] == pytest.approx(0, abs=3)
    title = "KL divergence, 64 bins (nats), ratio to real"
    assert found[title]["shifted"]["value"] == compared["shifted"]["kl_fine"]["value"]
    # the images before translation are named by the model whose source they are
    assert found[title]["perfect"]["source"]["value"] == compared["source of perfect"]["kl_fine"]["value"]
    table = pd.read_csv(folder / "tables" / "summary.csv")
    assert list(dict.fromkeys(table["model"])) == models
    layers = table[(table["metric"] == title) & (table["model"] == "shifted") & (table["images"] == "synthetic")]
    assert list(layers["layer"]) == ["all", "1", "2", "3", "4"]
    assert layers["value"].iloc[3] > 5 * layers["value"].iloc[1]  # the upper two layers
    assert "perfect comes nearest" in json.loads((folder / "metrics.json").read_text())["summary"][0]
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    assert {Path(p).name for p in listed["path"]} == {"summary.svg", "summary.csv"}
    with pytest.raises(UserError, match="say nothing of the models"):
        summarise("summary", SynthesisSummary(), models=["other"], metrics=joined, **ask)


def test_summary_reads_every_kind(tmp_path: Path) -> None:
    fact = {"value": 0.7, "lower": 0.6, "upper": 0.8, "n": 9, "method": "m"}
    tasks = dict.fromkeys(("source against target", "synthetic against target", "shuffled labels"), fact)
    detected = {"kind": "detectability", "synthesis": "m", "network": "N", "auc_test": tasks}
    shifted = {"kind": "feature-shift", "synthesis": "m", "features": ["a", "b"], "kept": fact}
    shifted |= {"n": {"features": 8, "patients": 4}, "features_with_ccc_above_0.9": 6}
    probed = {"kind": "synthesis-probe", "synthesis": "m", "estimates": {"own_stride_seams": fact}}
    rows = [row for told in (detected, shifted, probed) for row in rows_of("x", told, tmp_path)]
    assert [(row.images, row.ideal) for row in rows] == [
        ("synthetic", 0.5), ("source", 0.5), ("synthetic", 100), ("synthetic", 100), ("synthetic", 1),
    ]  # fmt: skip
    assert [row.value for row in rows] == [0.7, 0.7, 0.7, 75.0, 0.7]
    assert not list(rows_of("x", {"kind": "cohort"}, tmp_path))


def test_leaks_are_refused(cohort: Phantom, profiles: list[Path]) -> None:
    with pytest.raises(UserError, match="'perfect' behind its inputs has seen 1"):
        run(cohort, profiles, "leak", ["p02"])


def test_too_few_patients_are_told(cohort: Phantom, profiles: list[Path]) -> None:
    with pytest.raises(UserError, match="at least 4 are needed"):
        run(cohort, profiles, "few", [], parts=("validation",))


def test_frechet_radiomics_distance_is_that_of_standardised_features(cohort: Phantom, profiles: list[Path]) -> None:
    import pandas as pd

    rng = np.random.default_rng(5)
    base = [{k: cohort.facts(p)[k] for k in schemas.SCAN} for p in cohort.patients]
    paths = {}
    for name, shift in (("real", 0.0), ("good", 0.0), ("bad", 2.0)):
        frame = pd.DataFrame(base).assign(set=name, roi="GTV-1", fold="main", status="ok")
        for k, scale in enumerate((1.0, 100.0, 1e-3)):
            frame[f"f{k}"] = (rng.normal(size=len(frame)) + shift) * scale
        frame["constant"], frame["broken"] = 1.0, np.nan
        paths[name] = cohort.root / "features" / f"{name}.parquet"
        tables.write(frame, paths[name], schemas.FEATURES)
    chosen = RadiomicsOfComparison(target="real", synthetic={"perfect": "good", "shifted": "bad"})
    found = run(cohort, profiles, "frd", [], radiomics=chosen, features=paths, source=False, bootstrap=4)["images"]
    good, bad = found["perfect"]["frechet_radiomics"], found["shifted"]["frechet_radiomics"]
    assert good["features"] == 3
    assert good["lower"] < 1 < good["upper"]
    assert bad["lower"] > 1
    assert 8 < bad["images"] < 30  # the square of the shift in three features, 12; eight patients a side add to it
    assert bad["log_images"] == pytest.approx(np.log(bad["images"]))


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="names a model twice"):
        SynthesisComparison(synthesis=("a", "a"))
    with pytest.raises(ValidationError, match="does not list"):
        SynthesisComparison(synthesis=("a",), views={"b": "x"})


# ------------------------------------------------------------------------------------------------------ detectability


def test_area_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 60), np.round(rng.normal(size=60), 1)
    assert area(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores))
    assert np.isnan(area(np.ones(4), np.arange(4)))


def test_batched_repeats_are_logistic_regressions() -> None:
    """Without hidden layers and long enough, each repeat is the (unpenalised) logistic regression of its samples."""
    pytest.importorskip("torch")
    from polycentric.fidelity.classifier import Plan, train

    rng = np.random.default_rng(1)
    features = rng.normal(size=(120, 3))
    labels = (features @ [1.0, -0.5, 0] + rng.logistic(size=120) > 0).astype(int)
    roles = np.array([[0] * 90 + [1] * 30, [1] * 30 + [0] * 90], dtype=np.int8)
    found = train(features, labels, roles, Plan((), 0.0, 500, 90, 0.05, 500), np.random.default_rng(2))
    for number, role in enumerate(roles):
        own = role == 0
        reference = linear_model.LogisticRegression(C=1e6).fit(features[own], labels[own])
        expected = reference.predict_proba(features)[:, 1]
        np.testing.assert_allclose(found.scores[-1, number], expected, atol=0.02)
        entropy = metrics.log_loss(labels[role == 1], found.scores[-1, number, role == 1])
        assert found.losses[-1, number, 1] == pytest.approx(entropy, rel=1e-4)


def detectability_cohort(root: Path, shift: float) -> tuple[dict, list[Path]]:
    """Profiles with planted features: synthetic ones lie `shift` from real ones, source ones 3."""
    patients = [f"q{i:03d}" for i in range(60)]
    rng = np.random.default_rng(9)
    scans, people, split, rows = [], [], [], {"ct": [], "made": []}
    for number, patient in enumerate(patients):
        facts = {"centre": "north", "patient": patient, "session": f"s-{patient}", "scan": f"scan-{patient}"}
        contrast = number % 2 == 0
        scans.append(
            facts
            | {"role": "development", "shard": "north-0", "modality": "CT", "verdict": "accept"}
            | {"contrast": "yes" if contrast else "no"}
        )
        people.append({"centre": "north", "patient": patient, "role": "development", "scans": 1, "clinical": False})
        split.append({"centre": "north", "patient": patient, "part": "test"})
        for view, far in (("ct", 3.0 if contrast else 0.0), ("made", shift)):
            path = root / "profiles" / view / f"{patient}.npz"
            features = rng.normal(size=(5, 8)).astype(np.float32)
            features[:, 0] += far
            write_arrays({"features": features, "z": np.arange(5), "layer": np.arange(5)}, path)
            rows[view].append(
                facts
                | {"view": view, "fold": "main", "profile": "default", "status": "ok", "reason": "", "network": "N"}
                | {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "distance": "FD_N"}
            )
    names = ("scans", "patients", "split")
    paths = {name: root / "cohort" / f"{name}.tsv" for name in names}
    for name, table, schema in zip(
        names, (scans, people, split), (schemas.SCANS, schemas.PATIENTS, schemas.SPLIT), strict=True
    ):
        tables.write(table, paths[name], schema)
    manifests = []
    for view, table in rows.items():
        manifests.append(root / "profiles" / f"{view}.tsv")
        tables.write(table, manifests[-1], PROFILES)
    return paths, manifests


def detected(root: Path, shift: float, **changes) -> dict:
    paths, manifests = detectability_cohort(root, shift)
    written = root / "ledger.json"
    ledger.write(written, name="m", stage="synthesis", split="main", settings="{}", code="0", seen={})
    settings = {
        "hidden": (8,),
        "epochs": 60,
        "learning_rate": 0.02,
        "curve": 20,
        "repeats": 6,
        "bootstrap": 50,
        "threads": 1,
    }
    detect(
        "detect", Detectability(synthesis="m", **settings | changes), synthesis=SYNTHESIS, view="made", seed=1,
        profiles=manifests, ledgers=[written], root=root, folder=root / "analyses" / "detect", settings_json="{}",
        code="0", **paths,
    )  # fmt: skip
    return json.loads((root / "analyses" / "detect" / "metrics.json").read_text())


def test_what_differs_is_detected_and_what_does_not_is_not(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    same = detected(tmp_path / "same", 0.0)
    assert same["patients"] == {"source": 30, "synthetic": 30, "target": 30}
    final = same["validation_at_the_end"]
    assert final["source against target"]["auc"]["value"] > 0.9
    assert 0.3 < final["synthetic against target"]["auc"]["value"] < 0.7
    assert 0.3 < final["shuffled labels"]["auc"]["value"] < 0.7
    assert same["auc_test"]["source against target"]["lower"] > 0.6
    assert same["auc_test"]["synthetic against target"]["lower"] < 0.5
    other = detected(tmp_path / "other", 3.0)
    assert other["validation_at_the_end"]["synthetic against target"]["auc"]["value"] > 0.9
    import pandas as pd

    folder = tmp_path / "other" / "analyses" / "detect"
    curves = pd.read_csv(folder / "tables" / "curves.csv")
    assert set(curves["epoch"]) == {20, 40, 60}
    record = ledger.read(folder / "ledger.json")
    assert 0 < len(record["seen"]["training"]) < 60
    before = (folder / "metrics.json").read_bytes()
    detected(tmp_path / "other", 3.0)
    assert (folder / "metrics.json").read_bytes() == before


def test_no_patient_is_on_two_sides(tmp_path: Path) -> None:
    from polycentric.fidelity import detectability

    patients = np.array([f"p{i:02d}" for i in (*range(30), *range(20, 50))])  # ten have images of both classes
    data = detectability.Samples(np.zeros((60, 2)), np.repeat([1, 0], 30), patients)
    roles = detectability._roles(data, Detectability(synthesis="m"), np.random.default_rng(0))
    assert roles.shape == (30, 60)
    for own in roles:
        for role in (0, 1, 2):
            assert not set(patients[own == role]) & set(patients[own != role])
        assert (own == roles[0])[roles[0] == 2].all()
    assert len({tuple(own) for own in roles}) > 25


def test_too_few_patients_for_a_classifier(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="at least 10"):
        detected(tmp_path, 0.0, parts=("external",))
