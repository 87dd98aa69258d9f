"""CT, PET and MR of real sarcomas on the whole way from files to features, against values found by other means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
import SimpleITK as sitk
from matplotlib.path import Path as Polygon
from polycentric import tables, volumes
from polycentric.cohort import CentreFacts, assemble
from polycentric.cohort.establish import establish
from polycentric.config.curation import ConvertSettings, CurationSettings
from polycentric.config.examine import EstablishSettings, ExamineSettings
from polycentric.config.features import RadiomicsSet, Recipe
from polycentric.config.views import View
from polycentric.convert import convert_shard
from polycentric.curation import curate
from polycentric.examine import examine_shard
from polycentric.grids import corner_distance_mm
from polycentric.index import build
from polycentric.jobs import SILENT
from polycentric.prepare import prepare_shard
from polycentric.radiomics import extract_shard
from polycentric.tables.private import FILES
from polycentric.tables.schemas import FEATURES, MASKS, SCANS, VIEWS, VOLUMES

pytestmark = pytest.mark.realdata
PATIENTS = ("STS_003", "STS_008")  # of two vendors; the MR of the second covers half of its CT
FOLDERS = {"CT": "CT", "PT": "PET", "MR": "MR_T1"}
SALT = b"s" * 32


@dataclass(frozen=True)
class Study:
    """The results of the two patients, and which folder of the archive each scan came from."""

    source: Path
    root: Path
    where: dict[str, str]

    @property
    def scans(self) -> pd.DataFrame:
        return tables.read(self.root / "scans.tsv", SCANS)

    def make(self, name: str, view: dict[str, Any], recipe: Recipe) -> tuple[dict[str, dict], pd.DataFrame]:
        """Rows of a view by scan, and the features of the tumour in it."""
        root, made = self.root, View.model_validate(view)
        manifest, output = root / "views" / name / "main" / "x-0.tsv", root / "features" / name / "x-0.parquet"
        volumes_, masks = root / "volumes" / "x-0.tsv", root / "masks" / "manual" / "main" / "x-0.tsv"
        prepare_shard(
            name, made, source=volumes_, references=volumes_ if made.onto else None, scans=root / "scans.tsv",
            patients=root / "patients.tsv", root=root, manifest=manifest, settings_json=json.dumps(view),
        )  # fmt: skip
        extract_shard(
            name, RadiomicsSet(view=name), recipe, views=manifest, volumes=volumes_, masks=[masks], root=root,
            output=output,
        )  # fmt: skip
        rows = {row["scan"]: row for row in tables.read(manifest, VIEWS).to_dict("records")}
        return rows, tables.read(output, FEATURES).set_index("scan")


@pytest.fixture(scope="module")
def study(realdata: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    source, root = realdata("sts"), tmp_path_factory.mktemp("sarcoma")
    images = root / "images"
    for patient in PATIENTS:
        shutil.copytree(source / patient, images / patient)
    index, curation, files = (root / f"{name}.parquet" for name in ("index", "x", "files"))
    shard, private = root / "x-0.tsv", root / "x-0.parquet"
    build("x", images, output=index, log=SILENT)
    curate(
        "x", index, settings=CurationSettings(modalities=("CT", "PT", "MR")), salt=SALT, curation=curation,
        files=files, log=SILENT,
    )  # fmt: skip
    assemble(
        [curation], [files], centres={"x": CentreFacts("development", 1)}, clinical=None, clinical_settings=None,
        salt=SALT, accepted_out=root / "accepted.tsv", patients=root / "patients.tsv", flow=root / "flow-0.tsv",
        curation_out=root / "curation.parquet", shards={"x-0": shard}, private_shards={"x-0": private},
        pseudonyms=root / "pseudonyms.tsv", log=SILENT,
    )  # fmt: skip
    made, examined = root / "volumes" / "x-0.tsv", root / "examined" / "x-0.tsv"
    convert_shard(
        shard, private, images, settings=ConvertSettings(rois={"tumour": "GTV_Mass.*"}), root=root, volumes=made,
        masks={"manual": root / "masks" / "manual" / "main" / "x-0.tsv"}, settings_json="", code="", log=SILENT,
    )  # fmt: skip
    examine_shard(made, settings=ExamineSettings(), root=root, examined=examined, settings_json="", code="", log=SILENT)
    establish(
        root / "accepted.tsv", [examined], [made], flow=root / "flow-0.tsv", review_table=None,
        settings=EstablishSettings(), duplicates_verdict="reject", scans=root / "scans.tsv",
        review=root / "review.tsv", duplicates=root / "duplicates.tsv", flow_out=root / "flow.tsv", log=SILENT,
    )  # fmt: skip
    used = tables.read(files, FILES)
    slices = used[used["use"] == "slice"].drop_duplicates("scan").set_index("scan")["path"]
    return Study(source, root, {scan: path.rsplit("/", 2)[0] for scan, path in slices.items()})


def by_hand(folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """Values, mask (z, y, x) and polygons' volume in mL of a scan, straight from its files: a second way."""
    slices = [pydicom.dcmread(path) for path in (folder / "image").iterdir()]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    scale = [(float(s.get("RescaleSlope", 1)), float(s.get("RescaleIntercept", 0))) for s in slices]
    values = np.stack([s.pixel_array * slope + add for s, (slope, add) in zip(slices, scale, strict=True)])
    heights = np.array([float(s.ImagePositionPatient[2]) for s in slices])
    origin, size = np.array(slices[0].ImagePositionPatient[:2], float), float(slices[0].PixelSpacing[0])
    centres = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape[:0:-1])), axis=-1).reshape(-1, 2)
    mask, area = np.zeros(values.shape, bool), 0.0
    for contour in pydicom.dcmread(folder / "mask" / "RS.dcm").ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        x, y = points[:, 0], points[:, 1]
        area += 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
        inside = Polygon((points[:, :2] - origin) / size).contains_points(centres)
        mask[np.abs(heights - points[0, 2]).argmin()] ^= inside.reshape(values.shape[1:])
    return values, mask, area * float(np.median(np.diff(heights))) / 1000


@pytest.fixture(scope="module")
def own(study: Study) -> tuple[dict[str, dict], pd.DataFrame]:
    """Views on the scans' own grids, and their features."""
    return study.make("own", {}, Recipe(bin_count=32))


def test_every_scan_has_its_unit_and_its_region(study: Study) -> None:
    made = tables.read(study.root / "volumes" / "x-0.tsv", VOLUMES)
    assert made.groupby("modality")["unit"].unique().map(list).to_dict() == {
        "CT": ["HU"], "MR": ["arbitrary"], "PT": ["SUVbw (g/mL)"],
    }  # fmt: skip
    assert (made["status"] == "ok").all()
    masks = tables.read(study.root / "masks" / "manual" / "main" / "x-0.tsv", MASKS).set_index("scan")
    for scan, folder in study.where.items():
        _, mask, polygons_ml = by_hand(study.source / folder)
        assert masks.loc[scan, "voxels"] == pytest.approx(mask.sum(), rel=0.01)
        # 400 to 800 voxels of PET hold the region to about a percent
        assert masks.loc[scan, "volume_ml"] == pytest.approx(polygons_ml, rel=0.02 if "PET" in folder else 0.005)
        assert masks.loc[scan, "contour_volume_ml"] == pytest.approx(polygons_ml, rel=1e-3)


def test_the_kind_of_mr_is_known(study: Study) -> None:
    found = study.scans.groupby("modality")[["sequence", "sequence_source"]].agg(lambda v: list(dict.fromkeys(v)))
    assert found.loc["MR"].tolist() == [["T1"], ["description"]]
    assert found.loc[["CT", "PT"]].to_numpy().ravel().tolist() == [[""]] * 4


def test_features_are_there_and_finite(own: tuple[dict[str, dict], pd.DataFrame]) -> None:
    rows, features = own
    assert {row["status"] for row in rows.values()} == set(features["status"]) == {"ok"}
    measured = features.drop(columns=list(set(FEATURES.columns) & set(features.columns)))
    assert measured.shape == (6, 107)
    assert np.isfinite(measured.to_numpy(dtype=float)).all()


def test_first_order_features_are_those_of_the_files(study: Study, own: tuple[dict[str, dict], pd.DataFrame]) -> None:
    """Highest uptake, mean HU, extremes: of SimpleITK's reading of the series and of values computed by hand."""
    features = own[1]
    masks = tables.read(study.root / "masks" / "manual" / "main" / "x-0.tsv", MASKS).set_index("scan")
    modality = study.scans.set_index("scan")["modality"]
    for scan, folder in study.where.items():
        values, mask, _ = by_hand(study.source / folder)
        row = features.loc[scan]
        assert row["original_firstorder_Maximum"] == pytest.approx(values[mask].max(), rel=1e-6)
        assert row["original_firstorder_Mean"] == pytest.approx(values[mask].mean(), rel=2e-3)
        # GDCM's reading, where one pair of slope and intercept holds for all slices
        if modality[scan] != "PT":
            image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(study.source / folder / "image")))
            label = sitk.ReadImage(str(study.root / masks.loc[scan, "path"]))
            label.CopyInformation(image)
            statistics = sitk.LabelStatisticsImageFilter()
            statistics.Execute(image, label)
            assert row["original_firstorder_Mean"] == pytest.approx(statistics.GetMean(1), rel=1e-6)
            assert row["original_firstorder_Minimum"] == statistics.GetMinimum(1)
    # a sarcoma is soft tissue that takes up glucose
    kinds = features["original_firstorder_Mean"].groupby(modality)
    assert kinds.get_group("CT").between(0, 100).all()
    assert features.loc[modality == "PT", "original_firstorder_Maximum"].between(2, 40).all()


def test_modalities_of_a_patient_on_one_grid(study: Study, own: tuple[dict[str, dict], pd.DataFrame]) -> None:
    scans = study.scans.set_index("scan")
    rows, features = study.make("on-ct", {"onto": {"where": "modality == 'CT'"}}, Recipe(bin_count=32))
    made = {scan: volumes.read(study.root / row["path"], row) for scan, row in rows.items()}
    assert set(features["status"]) == {"ok"}
    for _, visit in scans.groupby("session"):
        ct = visit.index[visit["modality"] == "CT"][0]
        assert {corner_distance_mm(made[ct].geometry, made[s].geometry) for s in visit.index} == {0.0}
        for scan in visit.index:
            note = json.loads(rows[scan]["diagnostics"])[0]
            assert note["reference"] == ct
            # leg and pelvis lie otherwise in another machine, by less than the search reaches
            assert note["misalignment_mm"] == 0 if scan == ct else 0.5 < note["misalignment_mm"] < 10
            for feature in ("firstorder_Mean", "firstorder_Maximum", "shape_VoxelVolume"):
                before = own[1].loc[scan, f"original_{feature}"]
                assert features.loc[scan, f"original_{feature}"] == pytest.approx(before, rel=0.03)
        # the tumour was outlined once and copied: on one grid its regions are one
        names = ["original_shape_VoxelVolume", "original_shape_Maximum3DDiameter"]
        assert (np.ptp(features.loc[visit.index, names].to_numpy(), axis=0) < [2500, 6]).all()
