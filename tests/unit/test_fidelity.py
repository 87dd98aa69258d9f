"""Measures of fidelity against closed forms and other implementations; the analysis against planted changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from phantoms import ENHANCEMENT_HU, Phantom
from polycentric import anatomy, bootstrap, ledger, tables, volumes
from polycentric.config.image_analyses import FidelityAnalysis
from polycentric.config.synthesis import Synthesis
from polycentric.errors import UserError
from polycentric.fidelity import measures
from polycentric.fidelity.analyse import analyse
from polycentric.files import sha256_file
from polycentric.randomness import generator
from polycentric.tables import schemas

RNG = np.random.default_rng(0)


def test_histogram_counts_what_lies_beyond_in_the_outermost_bins() -> None:
    found = measures.histogram(np.array([-5000, -1000, 0, 999, 1000, 4000]), 4, (-1000, 1000))
    np.testing.assert_allclose(found, np.array([2, 0, 1, 3]) / 6)


def test_tissue_change() -> None:
    source = np.array([-800.0, -90, 40, 60, 150, 210])
    synthetic = source + np.array([5.0, 0, 2, 4, -110, -90])
    found = measures.tissue_change(source, synthetic, np.ones(6, dtype=bool))
    assert found["lung"] == (5, 1)
    assert found["soft tissue"] == (3, 2)
    assert found["enhanced blood"] == (-100, 2)
    assert found["bone"][1] == 0
    assert np.isnan(found["bone"][0])


def test_spectrum_of_noise_is_flat_and_blur_is_found() -> None:
    from scipy import ndimage

    noise = RNG.normal(0, 200, (6, 64, 64))
    flat = measures.log_spectrum(noise, (-1000, 1000))
    # white noise of standard deviation 0.2, by Parseval times the mean square of the taper
    taper = np.outer(np.hanning(64), np.hanning(64))
    assert 10 ** flat[4:].mean() == pytest.approx(0.2**2 * (taper**2).mean(), rel=0.1)
    assert flat[4:].std() < 0.1
    # a Gaussian of sigma s multiplies the power by exp(-(2 pi f s)^2)
    blurred = measures.log_spectrum(ndimage.gaussian_filter(noise, (0, 1.0, 1.0), mode="wrap"), (-1000, 1000))
    frequency = (np.arange(32) + 0.5) / 64
    expected = -((2 * np.pi * frequency) ** 2) / np.log(10)
    np.testing.assert_allclose((blurred - flat)[4:20], expected[4:20], atol=0.12)


def test_body_leaves_the_table_out_and_keeps_the_lungs() -> None:
    image = np.full((3, 40, 40), -1000)
    image[:, 8:28, 8:32] = 0
    image[:, 12:20, 12:20] = -850
    image[:, 34:36, 5:35] = 0  # the table
    body = anatomy.body(image)
    assert body.sum() == 3 * 20 * 24
    assert not anatomy.body(np.full((2, 4, 4), -1000)).any()


def test_bootstrap_covers() -> None:
    hits = 0
    for number in range(100):
        rng = np.random.default_rng(number)
        values = rng.normal(3, 2, 40)
        found = bootstrap.estimate(
            lambda i, v=values: float(v[i].mean()),
            (40,),
            generator(number, "x"),
            resamples=200,
            seed=number,
            method="m",
        )
        assert found["value"] == pytest.approx(values.mean())
        hits += found["lower"] <= 3 <= found["upper"]
    assert 86 <= hits <= 99  # nominal 95, a little less for the percentile method at n = 40


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    parts = {f"p{i}": "training" if i < 2 else "external" if i > 7 else "test" for i in range(10)}
    return Phantom(tmp_path_factory.mktemp("fidelity"), parts)


def perfect_view(cohort: Phantom) -> Path:
    """What a perfect generator would make: the vessels without their enhancement, all else as it is."""
    rows = tables.read(cohort.view, schemas.VIEWS).to_dict("records")
    for row in rows:
        image = cohort.images[row["patient"]].astype(np.int16).copy()
        if cohort.contrast(row["patient"]):
            image[cohort.vessels[row["patient"]]] -= int(ENHANCEMENT_HU)
        path = cohort.root / "views" / "noncontrast" / "main" / "all" / f"{row['scan']}.nii"
        volumes.write(volumes.Volume(image, cohort.geometry), path)
        row |= {"view": "noncontrast", "path": path.relative_to(cohort.root).as_posix(), "sha256": sha256_file(path)}
    path = cohort.root / "views" / "noncontrast" / "main" / "all.tsv"
    tables.write(rows, path, schemas.VIEWS)
    return path


def call(cohort: Phantom, folder: Path, seen: list[str], target: str = "contrast == 'no'", **changes) -> dict:
    written = cohort.root / "ledger.json"
    facts = {"name": "decontrast", "stage": "synthesis", "split": "main", "settings": "{}", "code": "0"}
    ledger.write(written, seen={"training": seen}, **facts)
    analyse(
        "fidelity",
        FidelityAnalysis(synthesis="decontrast", bootstrap=50, examples=1, masks="manual", **changes),
        synthesis=Synthesis(
            split="main",
            source={"view": "ct", "where": "contrast == 'yes'"},
            target={"view": "ct", "where": target},
        ),
        view="noncontrast",
        seed=1,
        source=[cohort.view],
        target=[cohort.view],
        synthetic=[perfect_view(cohort)],
        masks=[cohort.masks],
        scans=cohort.scans,
        patients=cohort.patient_table,
        split=cohort.split,
        ledgers=[written],
        root=cohort.root,
        folder=folder,
        settings_json="{}",
        code="0",
    )
    return json.loads((folder / "metrics.json").read_text())


def test_analysis_finds_the_planted_change(cohort: Phantom) -> None:
    folder = cohort.root / "analyses" / "fidelity"
    found = call(cohort, folder, ["p0", "p1"])
    counts = {"patients": 4, "scans": 4}
    assert found["n"] == {"source": counts, "synthetic": counts, "target": counts}
    change = found["hu_change"]
    # all enhanced voxels are vessel, but for the sphere at 300 HU, which the planted view leaves alone
    within = [
        cohort.vessels[p].sum() / (cohort.vessels[p].sum() + cohort.spheres[p].sum()) for p in ("p2", "p4", "p6", "p8")
    ]
    assert change["enhanced blood"]["value"] == pytest.approx(-ENHANCEMENT_HU * np.mean(within), rel=0.03)
    assert change["enhanced blood"]["lower"] <= change["enhanced blood"]["value"] <= change["enhanced blood"]["upper"]
    assert change["enhanced blood"]["n"] == 4
    assert change["soft tissue"]["value"] == pytest.approx(0, abs=0.5)
    assert found["hu_change_in_masks"]["GTV-1"]["value"] == 0
    kl, shared = found["distances"]["kl"], found["distances"]["intersection"]
    assert kl["synthetic"]["value"] < 0.5 * kl["source"]["value"]
    assert kl["synthetic minus source"]["upper"] < 0
    assert shared["synthetic"]["value"] > shared["source"]["value"]
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    for row in listed.to_dict("records"):
        assert sha256_file(cohort.root / row["path"]) == row["sha256"]
    assert {Path(p).name for p in listed["path"]} >= {"summary.svg", "histogram.svg", "example-1.png"}
    before = {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    call(cohort, folder, ["p0", "p1"])
    assert {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_source_without_hu_has_no_change_in_hu(cohort: Phantom, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = tables.read(cohort.scans, schemas.SCANS)
    scans.loc[scans["contrast"] == "yes", "modality"] = "MR"
    path = cohort.root / "cohort" / "mr.tsv"
    tables.write(scans, path, schemas.SCANS)
    monkeypatch.setattr(cohort, "scans", path)
    folder = cohort.root / "analyses" / "mr"
    found = call(cohort, folder, ["p0", "p1"])
    assert found["hu_change"] == {} == found["hu_change_in_masks"]
    assert found["n"]["source"] == {"patients": 0, "scans": 0}
    assert found["n"]["synthetic"] == {"patients": 4, "scans": 4}
    assert set(found["distances"]["kl"]) == {"synthetic"}
    assert found["distances"]["intersection"]["synthetic"]["value"] > 0.9
    assert set(found["structure"]) == {"correlation of gradients", "agreement of edges", "seams"}
    assert "no CT" in found["notes"][0]
    listed = tables.read(folder / "manifest.tsv", schemas.ARTEFACTS)
    assert {Path(p).name for p in listed["path"]} >= {"summary.svg", "structure.svg", "example-1.png"}


def test_without_a_target_the_distances_are_undefined(cohort: Phantom, tmp_path: Path) -> None:
    found = call(cohort, cohort.root / "analyses" / "none", ["p0"], target="centre == 'west'")
    assert found["distances"]["kl"]["synthetic"]["value"] is None
    assert found["notes"]
    assert found["hu_change"]["lung"]["value"] is None  # no lung in the phantom


def test_leaks_are_refused(cohort: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'decontrast' behind its inputs has seen 1"):
        call(cohort, tmp_path, ["p0", "p2"])


def test_nobody_unseen_is_told(cohort: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Write other `parts`"):
        call(cohort, tmp_path, ["p0"], parts=["validation"])


def test_analyses_do_not_import_torch() -> None:
    import subprocess
    import sys

    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    text = "import polycentric.fidelity.analyse, polycentric.segquality.analyse, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", text], check=True, cwd=scripts)


def test_structure_seams_and_truth(cohort: Phantom) -> None:
    """The sessions of the phantom hold one scan each, so its patients are made one: every contrast scan's truth."""
    frame = tables.read(cohort.scans, schemas.SCANS)
    sessions = {p: f"s-{cohort.patients[(i // 2) * 2]}" for i, p in enumerate(cohort.patients)}
    own = cohort.root / "cohort" / "scans-paired.tsv"
    tables.write(frame.assign(session=frame["patient"].map(sessions)), own, schemas.SCANS)
    plain, cohort.scans = cohort.scans, own
    try:
        found = call(cohort, cohort.root / "analyses" / "pairs", ["p0"], pairs="session")
    finally:
        cohort.scans = plain
    kept = found["structure"]
    assert kept["correlation of gradients"]["value"] > 0.5
    assert kept["seams"]["value"] is None  # the windows of the settings are larger than the phantom
    assert kept["Dice of bone"]["n"] == 0  # nothing above 400 HU
    truth = found["against_truth"]
    assert set(truth) == {"mae_hu", "psnr_db", "ssim"}
    # the twin is another person: but enhancement is gone, so the synthetic image is nearer
    assert truth["mae_hu"]["synthetic"]["value"] < truth["mae_hu"]["source"]["value"]
    assert truth["mae_hu"]["synthetic"]["n"] == 4
    listed = tables.read(cohort.root / "analyses" / "pairs" / "manifest.tsv", schemas.ARTEFACTS)
    assert {Path(p).name for p in listed["path"]} >= {"structure.svg", "structure.csv", "truth.csv"}
