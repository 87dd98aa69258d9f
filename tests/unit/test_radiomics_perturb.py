"""Perturbed images through extraction, stability and selection, on a small simulated cohort."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import tables, volumes
from polycentric.config import plan
from polycentric.config.features import RadiomicsSet, Recipe
from polycentric.config.stability import StabilityAnalysis
from polycentric.config.study import load, load_file
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.grids import aligned
from polycentric.radiomics import extract_shard, fast, merge
from polycentric.stability import analyse, select
from polycentric.tables.schemas import FEATURES, MASKS, VIEWS, VOLUMES
from polycentric.tables.stability import STABLE
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

RECIPE = Recipe(bin_width=25, log_sigmas_mm=(2.0,), classes=["firstorder", "shape", "glcm"])
PATIENTS = 10
SD = 30.0
PERTURB = {
    "same": [
        {"kind": "rotation", "degrees": 0},
        {"kind": "noise", "sd": 0},
        {"kind": "translation", "fraction": [0, 0, 0]},
    ],
    "moved": [{"kind": "translation", "fraction": [2, -1, 1]}],
    "noisy": [{"kind": "noise", "sd": SD}],
    "turned": [{"kind": "rotation", "degrees": 7}, {"kind": "translation", "fraction": [0.25, 0.5, 0.25]}],
    "outlined": [{"kind": "contour", "sd_mm": 0.5, "length_mm": 4}],
    "gone": [{"kind": "growth", "mm": -40}],
    "thin": [{"kind": "thickness", "mm": 0.5}],
}


def scan(n: int) -> tuple[Volume, Volume]:
    """Smooth texture of a mean of its own in an ellipsoid of a size of its own; whole HU, as from a scanner."""
    rng = np.random.default_rng(n)
    shape = (24, 28, 30)
    texture = gaussian_filter(rng.normal(size=shape), 2.0)
    array = np.rint(texture / texture.std() * 20 + 40 * rng.normal()).astype(np.int16)
    geometry = Geometry(shape[::-1], (1.0, 1.0, 1.0), (-10.0, 20.0, 5.0))
    z, y, x = (i - (m - 1) / 2 for i, m in zip(np.indices(shape), shape, strict=True))
    mask = (x**2 + y**2 + 1.3 * z**2 < (6 + 2.5 * rng.random()) ** 2).astype(np.uint8)
    return Volume(array, geometry), Volume(mask, geometry)


def write(root: Path, shard: str, patients: Sequence[int], prepare=lambda image: image) -> dict:
    rows: dict[str, list] = {"volumes": [], "views": [], "masks": []}
    for n in patients:
        image, mask = scan(n)
        key = {"centre": "north", "patient": f"p{n:02d}", "session": "s", "scan": f"scan{n}"}
        paths = {
            "volumes": root / "volumes" / shard / f"scan{n}.nii",
            "masks": root / "masks" / shard / f"scan{n}--tumour.nii",
        }
        volumes.write(image, paths["volumes"])
        volumes.write(mask, paths["masks"])
        made = {
            k: {"path": p.relative_to(root).as_posix(), "sha256": sha256_file(p), "status": "ok", "reason": ""}
            for k, p in paths.items()
        }
        rows["volumes"].append(key | made["volumes"] | image.geometry.columns() | {"modality": "CT"})
        view = prepare(image)
        path = root / "views" / shard / f"scan{n}.nii"
        volumes.write(view, path)
        made["views"] = {"path": path.relative_to(root).as_posix(), "sha256": sha256_file(path), "status": "ok"}
        rows["views"].append(
            key | made["views"] | view.geometry.columns() | {"view": "ct", "fold": "main", "reason": ""}
        )
        rows["masks"].append(key | made["masks"] | {"source": "manual", "fold": "main", "roi": "tumour"})
    for name, schema in (("volumes", VOLUMES), ("views", VIEWS), ("masks", MASKS)):
        tables.write(rows[name], root / f"{shard}-{name}.tsv", schema)
    found: dict = {name: root / f"{shard}-{name}.tsv" for name in rows}
    return found | {"masks": [found["masks"]]}


def run(
    root: Path,
    shards: Sequence[Sequence[int]],
    perturb: dict,
    workers: int = 1,
    recipe: Recipe = RECIPE,
    prepare=lambda image: image,
    **changes,
) -> tuple[Path, Path]:
    """Shards and both merged tables of the set `ct`."""
    parts = []
    for k, patients in enumerate(shards):
        parts.append(root / "features" / "ct" / f"north-{k}.parquet")
        settings = RadiomicsSet.model_validate({"view": "ct", "perturb": perturb} | changes)
        extract_shard(
            "ct", settings, recipe, **write(root, f"north-{k}", patients, prepare), root=root, output=parts[-1], seed=3,
            workers=workers,
        )  # fmt: skip
    plain, perturbed = root / "features" / "ct.parquet", root / "features" / "ct.perturbed.parquet"
    merge(parts, plain)
    merge(parts, perturbed, perturbed=True)
    return plain, perturbed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return run(tmp_path_factory.mktemp("perturbed"), [range(PATIENTS)], PERTURB)


def values(path: Path, perturbation: str) -> pd.DataFrame:
    frame = tables.read(path, FEATURES)
    frame = frame[frame["perturbation"].eq(perturbation)].set_index("patient")
    return frame[[c for c in frame.columns if "_firstorder_" in c or "_shape_" in c or "_glcm_" in c]]


def test_rows_of_images_as_they_are_are_those_of_a_set_without_perturbations(made, tmp_path):
    plain, _ = run(tmp_path, [range(PATIENTS)], {})
    assert plain.read_bytes() == made[0].read_bytes()
    assert set(tables.read(plain, FEATURES)["perturbation"]) == {""}


def test_nothing_done_and_whole_voxels_change_no_feature(made):
    """Neither steps of nothing nor, as IBSI has it, a shift by whole voxels: filters included, as no grid is cut."""
    plain = values(made[0], "")
    assert len(plain.columns) > 90
    pd.testing.assert_frame_equal(values(made[1], "same"), plain, check_exact=True)
    moved = values(made[1], "moved")
    original = [c for c in plain.columns if c.startswith("original_")]
    pd.testing.assert_frame_equal(moved[original], plain[original], check_exact=True)
    assert not moved.equals(plain)  # the filtered image sees its moved edge


@pytest.mark.parametrize(
    ("settings", "spacing"),
    [
        ({"spacing_mm": (1.5, 1.5, 2.0), "round_intensities": True, "resegment_range": (-500, 500)}, None),
        ({"spacing_mm": (1.5, 1.5, 2.0), "engine": "pyradiomics"}, None),
        ({"spacing_mm": (1.5, 1.5, 2.0), "grid": "pyradiomics", "interpolation": "bspline"}, None),
        ({}, (1.3, 1.3, 2.1)),
        ({"grid": "pyradiomics"}, (1.3, 1.3, 2.1)),
    ],
)
def test_any_grid_and_engine(tmp_path, settings, spacing):
    """Recipes that resample, and views on a grid of their own: nothing done is nothing changed, and what moves, moves
    together."""
    recipe = Recipe(bin_width=25, classes=["firstorder", "shape", "glcm"], **settings)

    def prepare(image: Volume) -> Volume:
        if spacing is None:
            return image
        made = volumes.resample(image, aligned(image.geometry, spacing), fill=-1000)
        return made.with_array(made.array.astype(np.float32))

    chosen = {name: PERTURB[name] for name in ("same", "turned")}
    plain, perturbed = run(tmp_path, [[1, 2, 3]], chosen, recipe=recipe, prepare=prepare)
    before = values(plain, "")
    pd.testing.assert_frame_equal(values(perturbed, "same"), before, check_exact=True)
    turned = values(perturbed, "turned")
    assert (turned / before)["original_shape_VoxelVolume"].between(0.93, 1.07).all()
    change = (turned - before)["original_firstorder_Median"].abs() / np.sqrt(before["original_firstorder_Variance"])
    assert 0 < change.max() < 0.15


def test_effects_are_as_large_as_the_truth_says(made):
    plain, noisy, outlined = (values(made[k], name) for k, name in ((0, ""), (1, "noisy"), (1, "outlined")))
    # white noise adds its variance to the variance, and nothing to the mean or the shape
    added = (noisy - plain)["original_firstorder_Variance"]
    assert added.mean() == pytest.approx(SD**2 + 1 / 12, rel=0.05)
    assert (noisy - plain)["original_firstorder_Mean"].abs().max() < 4 * SD / np.sqrt(900)
    assert noisy["original_shape_MeshVolume"].equals(plain["original_shape_MeshVolume"])
    assert not outlined["original_shape_MeshVolume"].eq(plain["original_shape_MeshVolume"]).any()
    assert (outlined / plain)["original_shape_MeshVolume"].between(0.7, 1.4).all()
    # rotation smooths: less contrast, the same volume
    turned = values(made[1], "turned")
    assert (turned / plain)["original_shape_VoxelVolume"].between(0.97, 1.03).all()
    assert (turned["original_glcm_Contrast"] < plain["original_glcm_Contrast"]).all()


def test_what_is_lost_is_a_row_with_a_reason(made):
    rows = tables.read(made[1], FEATURES)
    assert not rows.duplicated(["scan", "roi", "perturbation"]).any()
    by = rows.groupby("perturbation")
    assert by.size().to_dict() == dict.fromkeys(PERTURB, PATIENTS)
    ok = set(PERTURB) - {"gone", "thin"}
    assert set(rows.loc[rows["status"].eq("ok"), "perturbation"]) == ok
    for name, roi, reason in (
        ("gone", "tumour", "PERTURBED_MASK_EMPTY: nothing of the ROI is left after growth"),
        ("thin", "*", "THICKNESS_BELOW_SPACING: slices are 1 mm apart"),
    ):
        lost = by.get_group(name)
        assert set(lost["status"]) == {"rejected"}
        assert set(lost["roi"]) == {roi}
        assert lost["reason"].str.startswith(reason).all()


def test_shards_workers_and_other_perturbations_do_not_matter(made, tmp_path):
    chosen = {name: PERTURB[name] for name in ("outlined", "noisy")}
    _, perturbed = run(tmp_path, [[4, 1], [0, 2]], chosen, workers=2)
    ours = tables.read(perturbed, FEATURES).set_index(["scan", "perturbation"])
    theirs = tables.read(made[1], FEATURES).set_index(["scan", "perturbation"]).loc[ours.index, ours.columns]
    assert len(ours) == 8
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    # streams differ between scans and between perturbations of the same steps
    _, twice = run(tmp_path / "b", [[0, 1]], {"a": PERTURB["noisy"], "b": PERTURB["noisy"]})
    energy = tables.read(twice, FEATURES)["original_firstorder_Energy"]
    assert energy.nunique() == 4


def test_the_image_is_filtered_once_and_a_further_perturbation_measures_itself_alone(tmp_path, monkeypatch):
    calls: list[int] = []
    compute = fast.compute

    def counted(image, outlines, *given):
        calls.append(len(outlines))
        return compute(image, outlines, *given)

    monkeypatch.setattr(fast, "compute", counted)
    derive = {"derive": {"rim": {"of": "tumour", "ring_mm": [0, 2]}, "bright": {"of": "tumour", "above": -20}}}
    _, first = run(tmp_path, [[1, 4]], {"noisy": PERTURB["noisy"]}, **derive)
    assert calls == [3, 3, 3, 3]  # three regions at once of each image, as it is and with noise
    before = tables.read(first, FEATURES)
    assert before["status"].eq("ok").all()
    plain, noisy = tables.read(first.with_name("ct.parquet"), FEATURES), before
    bright = noisy["roi"].eq("bright").to_numpy()
    # derived from what was perturbed: the threshold holds in the noisy image
    assert noisy.loc[bright, "original_firstorder_Minimum"].ge(-20).all()
    assert (
        noisy.loc[bright, "original_shape_VoxelVolume"].to_numpy()
        != plain.loc[plain["roi"].eq("bright"), "original_shape_VoxelVolume"].to_numpy()
    ).all()
    calls.clear()
    run(tmp_path, [[1, 4]], {name: PERTURB[name] for name in ("noisy", "turned")}, **derive)
    assert calls == [3, 3]


def test_stable_features_are_those_that_noise_leaves(made, tmp_path):
    plain, perturbed = made
    # a planted feature: true at first, noise after
    frame = tables.read(perturbed, FEATURES)
    rng = np.random.default_rng(0)
    truth = dict(zip(values(plain, "").index, rng.normal(size=PATIENTS), strict=True))
    first = tables.read(plain, FEATURES)
    for table in (first, frame):
        table["original_firstorder_Planted"] = table["patient"].map(truth).astype("float64")
    frame["original_firstorder_Planted"] += 2 * rng.normal(size=len(frame))
    paths = {"ct": tmp_path / "ct.parquet"}
    tables.write(first, paths["ct"], FEATURES)
    tables.write(frame, tmp_path / "ct.perturbed.parquet", FEATURES)
    common = {"repeat": "perturbation", "features": ["ct"], "statistic": "icc-a"}
    settings = StabilityAnalysis.model_validate(
        {
            "kind": "stability",
            "designs": {
                "noise": common | {"levels": ["none", "noisy"], "bound": "value"},
                "position": common | {"levels": ["none", "moved", "turned"], "statistic": "ccc"},
            },
        }
    )
    assert settings.perturbed == ("ct",)
    folder = tmp_path / "analyses" / "robust"
    metrics = analyse(
        "robust", settings, features=paths, perturbed={"ct": tmp_path / "ct.perturbed.parquet"}, scans=None,
        split=None, ledgers=[], root=tmp_path, folder=folder,
    )  # fmt: skip
    assert metrics["designs"]["noise"]["subjects"] == PATIENTS
    assert metrics["designs"]["noise"]["levels"] == ["noisy", "none"]
    assert metrics["designs"]["noise"]["rows_not_ok"] == 0  # those of other perturbations are not counted
    table = pd.read_csv(folder / "tables" / "features.csv").set_index(["design", "feature"])
    icc = table.loc["noise", "icc_a"]
    assert icc["original_shape_MeshVolume"] == 1
    assert icc["original_shape_MeshVolume"] > icc["original_firstorder_Mean"] > 0.98
    assert icc["original_firstorder_Mean"] > icc["original_firstorder_10Percentile"] > icc["original_glcm_Contrast"]
    # ICC(A,1) of a constant shift d: between / (between + d^2 / 2), as a shift leaves two columns d / sqrt(2) apart
    variance = values(plain, "")["original_firstorder_Variance"]
    expected = variance.var() / (variance.var() + (SD**2) ** 2 / 2)
    assert icc["original_firstorder_Variance"] == pytest.approx(expected, abs=0.05)
    for statistic in ("icc_a", "ccc"):
        found = table.loc["position"]
        assert (found[f"{statistic}_lower"] <= found[statistic] + 1e-12).all()

    stable = tables.read(folder / "stable.tsv", STABLE).set_index("feature")
    assert stable.loc["original_shape_MeshVolume", "stable"]
    assert not stable.loc[["original_firstorder_Planted", "original_glcm_Contrast"], "stable"].any()
    assert "noise: ICC(A,1)" in stable.loc["original_firstorder_Planted", "reason"]
    select(
        "kept", features=paths["ct"], stable=folder / "stable.tsv", analysis_ledger=folder / "ledger.json",
        output=tmp_path / "kept.parquet", ledger=tmp_path / "kept.json",
    )  # fmt: skip
    kept = tables.read(tmp_path / "kept.parquet", FEATURES)
    assert len(kept) == PATIENTS
    assert "original_shape_MeshVolume" in kept.columns
    assert {"original_firstorder_Planted", "original_glcm_Contrast"}.isdisjoint(kept.columns)


# ------------------------------------------------------------------------------------------------- settings


def toy() -> dict:
    raw = load_file("config/config.yaml").model_dump(mode="json", by_alias=True)
    raw["features"]["mixed"]["perturb"] = {"noisy": [{"kind": "noise"}], "thick": [{"kind": "thickness", "mm": 12}]}
    design = {"repeat": "perturbation", "features": ["mixed"], "levels": ["none", "noisy"]}
    raw["analyses"]["outlined-twice"]["designs"]["noise"] = design
    return raw


def test_the_seed_matters_to_sets_with_perturbations_alone():
    study = load(toy())
    seed = {
        name: json.loads(plan.settings(study, "extract", {"set": name, "shard": "north-0"}))["seed"]
        for name in ("mixed", "automatic")
    }
    assert seed == {"mixed": study.seed, "automatic": None}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"features": ["combat"]}, "'combat' has no perturbations"),
        ({"levels": ["none", "noise"]}, "'noise' is no perturbation of 'mixed'; write some of: none, noisy, thick"),
    ],
)
def test_designs_without_their_perturbations_are_refused(change, words):
    raw = toy()
    raw["analyses"]["outlined-twice"]["designs"]["noise"] |= change
    with pytest.raises(UserError, match=words):
        load(raw)


def test_a_chain_has_steps_and_none_is_taken():
    for perturb in ({"none": [{"kind": "noise"}]}, {"empty": []}):
        with pytest.raises(ValidationError):
            RadiomicsSet.model_validate({"view": "ct", "perturb": perturb})
