"""Simulated DICOM, read back by pydicom and SimpleITK and compared with what was planned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from polycentric import tables
from polycentric.config.simulate import Defect, DefectCode, Scanner, SimulatedCentre, Simulation
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.simulate import plan_cohort, simulate_centre
from polycentric.simulate.anatomy import draw_anatomy, tumour_polygon
from polycentric.simulate.centre import simulate_patient
from polycentric.tables.simulate import SIMULATED, TRUTH
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

SEED = 11
SIMULATION = Simulation(volume_ml=35, volume_range_ml=(18, 80))
SMALL = Scanner(matrix=40, slices=20, spacing_mm=(8.5, 8.5, 8.0), fwhm_mm=6, noise_hu=15, offset_hu=7)
CODES = get_args(DefectCode)


class Cohort:
    """Centres written below a folder, and how to read them."""

    def __init__(self, root: Path, centres: dict[str, SimulatedCentre]) -> None:
        self.root, self.centres = root, centres
        plan_cohort(
            centres, SIMULATION, seed=SEED, clinical=root / "c.csv", truth=root / "t.parquet", effects=root / "e.json"
        )
        for name in centres:
            self.write(name)
        self.truth = tables.read(root / "t.parquet", TRUTH)

    def write(self, name: str) -> None:
        simulate_centre(
            name, self.centres[name], SIMULATION,
            seed=SEED, truth=self.root / "t.parquet", folder=self.root / name, manifest=self.root / f"{name}.tsv",
        )  # fmt: skip

    def patients(self, centre: str) -> list[dict]:
        return self.truth[self.truth["centre"] == centre].to_dict("records")

    def folder(self, patient: dict) -> Path:
        return self.root / patient["centre"] / patient["patient_id"]


def datasets(folder: Path) -> list[tuple[Path, Dataset]]:
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        try:
            found.append((path, pydicom.dcmread(path)))
        except (InvalidDicomError, EOFError):
            continue
    return found


def slices(folder: Path) -> list[tuple[Path, Dataset]]:
    """The main CT series, from feet to head."""
    found = [(p, d) for p, d in datasets(folder) if d.Modality == "CT" and d.SeriesNumber == 2]
    return sorted(found, key=lambda item: float(item[1].get("SliceLocation", 0)))


def structure(folder: Path) -> Dataset:
    (found,) = [d for _, d in datasets(folder) if d.Modality == "RTSTRUCT"]
    return found


def roi(d: Dataset, name: str) -> list[np.ndarray]:
    numbers = [s.ROINumber for s in d.StructureSetROISequence if s.ROIName == name]
    return [
        np.array(c.ContourData, float).reshape(-1, 3)
        for r in d.ROIContourSequence
        if r.ReferencedROINumber in numbers
        for c in r.ContourSequence
    ]


def shoelace(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    sharp = SMALL.model_copy(update={"fwhm_mm": 0.0, "transfer_syntax": "rle", "manufacturer": "Siemens-like"})
    centres = {
        "north": SimulatedCentre(patients=4, scanner=SMALL, roi="GTV-1"),
        "south": SimulatedCentre(patients=2, scanner=sharp, roi="GTV1", contrast_fraction=1.0),
    }
    return Cohort(tmp_path_factory.mktemp("cohort"), centres)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One patient per defect."""
    centre = SimulatedCentre(patients=len(CODES), scanner=SMALL, defects=[Defect(code=c) for c in CODES])
    return Cohort(tmp_path_factory.mktemp("broken"), {"west": centre})


def read_sitk(files: list[Path]) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(f) for f in files])
    return reader.Execute()


@pytest.mark.parametrize("centre", ["north", "south"])
def test_simpleitk_reads_the_planned_grid(cohort, centre):
    for patient in cohort.patients(centre):
        found = slices(cohort.folder(patient))
        image = read_sitk([p for p, _ in found])
        assert image.GetSize() == (40, 40, 20)
        assert np.allclose(image.GetSpacing(), (8.5, 8.5, 8.0))
        assert np.allclose(image.GetDirection(), np.eye(3).ravel())
        assert np.allclose(image.GetOrigin(), [float(v) for v in found[0][1].ImagePositionPatient])
        numbers = [int(d.InstanceNumber) for _, d in found]
        assert numbers == list(range(20, 0, -1))


@pytest.mark.parametrize("centre", ["north", "south"])
def test_heart_tumour_and_noise_have_the_planned_values(cohort, centre):
    """Voxel values deep inside an organ against the truth table, scanner offset included."""
    scanner = cohort.centres[centre].scanner
    for patient in cohort.patients(centre):
        hu = sitk.GetArrayFromImage(read_sitk([p for p, _ in slices(cohort.folder(patient))]))
        export = simulate_patient(patient, cohort.centres[centre], seed=SEED)
        grid = export.grid
        x, y, z = grid.x[None, None], grid.y[None, :, None], grid.z[:, None, None]
        heart = hu[export.chest.blood_mm(x, y, z) > 14]
        assert heart.size > 100
        assert heart.mean() == pytest.approx(patient["blood_hu"] + 7, abs=4)
        assert heart.std() == pytest.approx(15, rel=0.2)
        assert (patient["contrast"] == "yes") == (heart.mean() > 85)
        core = hu[export.chest.tumour.inside_mm(x, y, z) > 0.5 * export.chest.tumour.radius_mm]
        error = 3 * np.hypot(patient["heterogeneity_hu"], scanner.noise_hu) / np.sqrt(core.size / 8)
        assert core.mean() == pytest.approx(patient["tumour_hu"] + 7, abs=max(error, 25))
        assert np.median(hu[:, :3, :3]) == pytest.approx(-1000 + 7, abs=5)
        assert (hu < -700).mean() > 0.3
    for _, d in slices(cohort.folder(patient)):
        assert ("ContrastBolusAgent" in d) == (patient["contrast"] == "yes")


def test_contours_hold_the_planned_volume(cohort):
    """Sum of polygon areas times slice distance. A paraboloid profile summed at distance h over a half length c errs
    by at most (h / 2c)^2 (Euler-Maclaurin), the polygon of 96 points by 0.1 %."""
    for centre, name in (("north", "GTV-1"), ("south", "GTV1")):
        for patient in cohort.patients(centre):
            contours = roi(structure(cohort.folder(patient)), name)
            half = (len(contours) - 1) / 2 * 8.0 + 0.01  # the half length is at least this
            volume = sum(shoelace(c) for c in contours) * 8.0 / 1000
            assert volume == pytest.approx(patient["volume_ml"], rel=(8.0 / (2 * half)) ** 2 + 0.001)
            assert patient["volume_ml"] / cohort.centres[centre].scanner.voxel_ml > 25


def test_contours_shrink_to_the_analytic_volume_on_fine_slices():
    rng = np.random.default_rng(0)
    chest = draw_anatomy(rng, field_mm=340, length_mm=160, volume_ml=30, heterogeneity_hu=20)
    assert chest.tumour.volume_ml == pytest.approx(30, rel=1e-9)
    heights = np.arange(-80, 80, 0.5)
    polygons = [p for z in heights if (p := tumour_polygon(chest.tumour, 0.0, float(z))) is not None]
    assert sum(shoelace(p) for p in polygons) * 0.5 / 1000 == pytest.approx(30, rel=0.002)
    # Monte Carlo with the function that paints voxels: 1 / sqrt(n) error
    low, high = np.array(chest.tumour.centre) - 60, np.array(chest.tumour.centre) + 60
    points = rng.uniform(low, high, size=(400_000, 3))
    share = (chest.tumour.inside_mm(*points.T) > 0).mean()
    assert share * 120**3 / 1000 == pytest.approx(30, rel=3 / np.sqrt(share * 400_000))


def test_contours_lie_on_their_slices_around_the_tumour(cohort):
    for patient in cohort.patients("north"):
        found = slices(cohort.folder(patient))
        position = {d.SOPInstanceUID: float(d.ImagePositionPatient[2]) for _, d in found}
        d = structure(cohort.folder(patient))
        image = read_sitk([p for p, _ in found])
        assert [s.ROIName for s in d.StructureSetROISequence] == ["GTV-1", "Lung L", "Lung R"]
        assert d.FrameOfReferenceUID == found[0][1].FrameOfReferenceUID
        series = d.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
        assert series.SeriesInstanceUID == found[0][1].SeriesInstanceUID
        assert {i.ReferencedSOPInstanceUID for i in series.ContourImageSequence} == set(position)
        for r in d.ROIContourSequence:
            assert len(r.ContourSequence) >= 3
            for c in r.ContourSequence:
                assert c.ContourGeometricType == "CLOSED_PLANAR"
                z = position[c.ContourImageSequence[0].ReferencedSOPInstanceUID]
                points = np.array(c.ContourData, float).reshape(-1, 3)
                assert len(points) == c.NumberOfContourPoints
                assert np.allclose(points[:, 2], z, atol=1e-3)
        middle = sorted(roi(d, "GTV-1"), key=shoelace)[-1]
        centre = image[image.TransformPhysicalPointToIndex(middle.mean(axis=0))]
        assert abs(centre - patient["tumour_hu"]) < 5 * patient["heterogeneity_hu"]
        ring = middle.mean(axis=0) + 1.6 * (middle - middle.mean(axis=0))
        around = [image[image.TransformPhysicalPointToIndex(p)] for p in ring]
        assert np.median(around) < -600  # lung around the tumour
        for side, name in ((1, "Lung L"), (-1, "Lung R")):
            largest = sorted(roi(d, name), key=shoelace)[-1]
            values = [image[image.TransformPhysicalPointToIndex(p)] for p in 0.6 * largest + 0.4 * largest.mean(axis=0)]
            assert np.median(values) < -700, name
            assert side * (largest[:, 0].mean() - image.GetOrigin()[0] - 19.5 * 8.5) > 50


@pytest.mark.parametrize("syntax", ["implicit-little", "explicit-big", "rle"])
def test_every_transfer_syntax_holds_the_same_pixels(tmp_path, syntax):
    def read(kind: str) -> tuple[list[str], np.ndarray, np.ndarray]:
        scanner = SMALL.model_copy(update={"transfer_syntax": kind, "slices": 16})
        made = Cohort(tmp_path / kind, {"north": SimulatedCentre(patients=1, scanner=scanner, contrast_fraction=0)})
        found = slices(made.root / "north")
        values = np.stack([d.pixel_array.astype(int) for _, d in found])
        again = sitk.GetArrayFromImage(read_sitk([p for p, _ in found]))
        return [d.file_meta.TransferSyntaxUID.name for _, d in found], values, again

    _, values, hu = read("explicit-little")
    names, others, other_hu = read(syntax)
    wanted = {"implicit-little": "Implicit VR Little", "explicit-big": "Explicit VR Big", "rle": "RLE Lossless"}[syntax]
    assert all(n.startswith(wanted) for n in names)
    assert np.array_equal(values, others)
    assert np.array_equal(hu, values - 1024)
    assert np.array_equal(hu, other_hu)


def test_headers_say_that_the_scan_is_simulated(cohort):
    seen: set[str] = set()
    for centre in ("north", "south"):
        for path, d in datasets(cohort.root / centre):
            assert "SIMULATED" in d.SeriesDescription
            assert "SIMULATED" in str(d.PatientName)
            note = d.StructureSetDescription if d.Modality == "RTSTRUCT" else d.ImageComments
            assert "SIMULATED" in note
            if d.Modality != "RTSTRUCT":
                assert "SIMULATED" in d.DerivationDescription
            assert 2012 <= int(d.StudyDate[:4]) <= 2017
            assert int(d.StudyDate[:4]) - int(d.PatientBirthDate[:4]) - 1 == int(d.PatientAge[:3])
            for uid in (d.SOPInstanceUID, d.SeriesInstanceUID, d.StudyInstanceUID, d.FrameOfReferenceUID):
                assert uid.is_valid
                assert uid.startswith("2.25.")
            assert d.file_meta.MediaStorageSOPInstanceUID == d.SOPInstanceUID
            assert d.SOPInstanceUID not in seen, path
            seen.add(d.SOPInstanceUID)
    assert len(seen) == 6 * 21


def test_files_are_the_same_again_and_repaired_after_a_kill(cohort, tmp_path):
    root = tmp_path / "again"
    shutil.copytree(cohort.root, root)
    again = object.__new__(Cohort)
    again.__dict__.update(cohort.__dict__, root=root)
    wanted = tree(root / "north")
    files = sorted(p for p in (root / "north").rglob("*") if p.is_file())
    for path in files[::2]:
        path.unlink()
    files[1].write_bytes(files[1].read_bytes()[:500])
    (files[3].parent / ".tmp-abc-x.dcm").write_bytes(b"half")
    shutil.copytree(root / "south", root / "north" / "OLD0001")  # a patient who is not planned any more
    kept = files[5].stat().st_mtime_ns
    (root / "north.tsv").unlink()
    again.write("north")
    assert tree(root / "north") == wanted
    assert not (root / "north" / "OLD0001").exists()
    assert files[5].stat().st_mtime_ns == kept
    assert (root / "north.tsv").read_bytes() == (cohort.root / "north.tsv").read_bytes()
    listed = tables.read(root / "north.tsv", SIMULATED)
    assert dict(zip(listed["path"], listed["sha256"], strict=True)) == wanted
    shutil.rmtree(root / "south")
    again.write("south")
    assert tree(root / "south") == tree(cohort.root / "south")


def test_a_folder_with_real_files_is_refused_and_left_alone(cohort, tmp_path):
    root = tmp_path / "foreign"
    shutil.copytree(cohort.root, root)
    again = object.__new__(Cohort)
    again.__dict__.update(cohort.__dict__, root=root)
    (root / "north" / "scan.dcm").write_bytes(bytes(128) + b"DICM" + b"a real scan")
    before = tree(root / "north")
    with pytest.raises(UserError, match=r"holds files that were not simulated, such as scan\.dcm"):
        again.write("north")
    assert tree(root / "north") == before


Check = Callable[[list[tuple[Path, Dataset]], Path], bool]


def _z(found: list[tuple[Path, Dataset]]) -> np.ndarray:
    return np.diff(sorted(float(d.ImagePositionPatient[2]) for _, d in found))


def _extra(folder: Path) -> list[Dataset]:
    return [d for _, d in datasets(folder) if d.SeriesNumber == 5]


def _references(d: Dataset) -> set[str]:
    return {
        i.ReferencedSOPInstanceUID
        for r in d.ROIContourSequence
        for c in r.get("ContourSequence", [])
        for i in c.ContourImageSequence
    }


def _names(folder: Path) -> list[str]:
    return [s.ROIName for s in structure(folder).StructureSetROISequence]


def _decodes(d: Dataset) -> bool:
    try:
        return d.pixel_array.shape == (40, 40)
    except (ValueError, AttributeError):
        return False


CHECKS: dict[str, Check] = {
    "FILE_NOT_DICOM": lambda _, folder: {"Thumbs.db", "empty.dcm"} <= {p.name for p in folder.rglob("*")},
    "FILE_NO_META": lambda found, folder: (
        len(found) == 0
        and sum(pydicom.dcmread(p, force=True).get("Rows") == 40 for p in folder.rglob("*.dcm")) == 20
    ),
    "FILE_TRUNCATED": lambda found, _: [_decodes(d) for _, d in found].count(False) == 1,
    "MODALITY_WRONG": lambda _, folder: [d.Modality for d in _extra(folder)] == ["MR"] * 20,
    "LOCALIZER_IN_SERIES": lambda found, _: sorted(d.ImageType[2] for _, d in found) == ["AXIAL"] * 20 + ["LOCALIZER"],
    "SERIES_ALL_LOCALIZER": lambda _, folder: [d.ImageType[2] for d in _extra(folder)] == ["LOCALIZER"] * 2,
    "TOO_FEW_SLICES": lambda _, folder: [d.ImageType[2] for d in _extra(folder)] == ["AXIAL"] * 3,
    "SECONDARY_CAPTURE": lambda _, folder: [list(d.ImageType) for d in _extra(folder)] == [["DERIVED", "SECONDARY"]],
    "GEOM_NO_POSITION": lambda found, _: not any("ImagePositionPatient" in d for _, d in found),
    "GEOM_MISSING_SLICE": lambda found, _: sorted(np.round(_z(found), 6)) == [8.0] * 17 + [16.0],
    "GEOM_VARIABLE_SPACING": lambda found, _: sorted(set(np.round(_z(found), 4))) == [4.8, 8.0],
    "GEOM_JITTER": lambda found, _: 0 < np.abs(_z(found) - 8).max() <= 0.04,
    "GEOM_GANTRY_TILT": lambda found, _: all(
        np.isclose(_tilt(found[0][1]), 12.0, atol=1e-4) and np.isclose(step, 8.0) for step in _z(found)
    ),
    "DUP_EXACT": lambda found, _: len(found) == 21 and len({d.SOPInstanceUID for _, d in found}) == 20,
    "SERIES_MULTI_ACQ": lambda found, _: sorted(int(d.AcquisitionNumber) for _, d in found) == [1] * 20 + [2] * 20
    and len({d.pixel_array.tobytes() for _, d in found}) == 40,
    "RESCALE_MISSING": lambda found, _: not any("RescaleSlope" in d or "RescaleIntercept" in d for _, d in found),
    "HU_IMPLAUSIBLE": lambda found, _: all(d.pixel_array.min() == -2000 for _, d in found),
    "KERNEL_MISSING": lambda found, _: not any("ConvolutionKernel" in d for _, d in found),
    "CONTRAST_CONFLICT": lambda found, _: all(
        ("C+" in d.SeriesDescription) != ("ContrastBolusAgent" in d) for _, d in found
    ),
    "PATIENT_ID_EMPTY": lambda found, _: {d.PatientID for _, d in found} == {""},
    "PATIENT_ID_CONFLICT": lambda found, _: len({d.PatientID for _, d in found}) == 2,
    "STUDYTIME_VARIES": lambda found, _: len({d.StudyTime for _, d in found}) == 20,
    "RT_NO_IMAGE": lambda found, folder: structure(folder).FrameOfReferenceUID != found[0][1].FrameOfReferenceUID,
    "RT_SOPREF_STALE": lambda found, folder: (
        not _references(structure(folder)) & {d.SOPInstanceUID for _, d in found}
        and structure(folder).FrameOfReferenceUID == found[0][1].FrameOfReferenceUID
    ),
    "RT_ROI_MISSING": lambda _, folder: _names(folder) == ["Lung L", "Lung R"],
    "RT_EMPTY_ROI": lambda _, folder: (
        _names(folder)[-1] == "GTV-2"
        and "ContourSequence" not in structure(folder).ROIContourSequence[-1]
        and len(structure(folder).ROIContourSequence) == 4
    ),
    "RT_DUP_CONTOUR": lambda _, folder: 2 * len({c.tobytes() for c in roi(structure(folder), "GTV-1")})
    == len(roi(structure(folder), "GTV-1")),
}  # fmt: skip


def _tilt(d: Dataset) -> float:
    """Angle between the slices' normal and the table, degrees, from the orientation tag."""
    row, column = np.array(d.ImageOrientationPatient, float).reshape(2, 3)
    return float(np.degrees(np.arccos(np.cross(row, column)[2])))


@pytest.mark.parametrize("code", CODES)
def test_the_defect_is_in_the_files_and_only_there(broken, code):
    (patient,) = [p for p in broken.patients("west") if p["defect"] == code]
    folder = broken.folder(patient)
    assert CHECKS[code](slices(folder), folder)
    # a patient with another defect must not satisfy the check, else it proves nothing
    decoy = "RT_DUP_CONTOUR" if code != "RT_DUP_CONTOUR" else "KERNEL_MISSING"
    (other,) = [p for p in broken.patients("west") if p["defect"] == decoy]
    elsewhere = broken.folder(other)
    assert not CHECKS[code](slices(elsewhere), elsewhere)


def test_a_tilted_scan_shows_the_same_chest(broken):
    """The tilted slices' pixels, placed by their header, show the tumour where its contours lie."""
    (patient,) = [p for p in broken.patients("west") if p["defect"] == "GEOM_GANTRY_TILT"]
    found = {d.SOPInstanceUID: d for _, d in slices(broken.folder(patient))}
    inside, outside = [], []
    d = structure(broken.folder(patient))
    for c in d.ROIContourSequence[0].ContourSequence:
        image = found[c.ContourImageSequence[0].ReferencedSOPInstanceUID]
        origin = np.array(image.ImagePositionPatient, float)
        row, column = np.array(image.ImageOrientationPatient, float).reshape(2, 3)
        points = np.array(c.ContourData, float).reshape(-1, 3)
        assert np.allclose((points - origin) @ np.cross(row, column), 0, atol=0.01)  # in the plane of the slice
        middle = points.mean(axis=0)
        for scale, values in ((0.0, inside), (1.9, outside)):
            for p in middle + scale * (points - middle):
                i, j = np.round([(p - origin) @ row / 8.5, (p - origin) @ column / 8.5]).astype(int)
                values.append(int(image.pixel_array[j, i]) - 1024)
    assert abs(np.mean(inside) - patient["tumour_hu"]) < 80
    assert np.median(outside) < -500


def test_planted_heterogeneity_can_be_measured_in_the_images(tmp_path):
    """What drives the outcome must be visible, or no feature could ever find it: the standard deviation of HU inside a
    tumour ranks patients like the planted one, on coarse voxels, with blur and noise (20 patients: 0.6 is p < 0.01)."""
    from scipy.stats import spearmanr

    scanner = Scanner(matrix=52, slices=24, spacing_mm=(5.5, 5.5, 6.0), fwhm_mm=4, noise_hu=20)
    centre = SimulatedCentre(patients=20, scanner=scanner)
    plan_cohort(
        {"north": centre}, Simulation(), seed=2,
        clinical=tmp_path / "c.csv", truth=tmp_path / "t.parquet", effects=tmp_path / "e.json",
    )  # fmt: skip
    measured, planted, sizes = [], [], []
    for patient in tables.read(tmp_path / "t.parquet", TRUTH).to_dict("records"):
        export = simulate_patient(patient, centre, seed=2)
        grid = export.grid
        depth = export.chest.tumour.inside_mm(grid.x[None, None], grid.y[None, :, None], grid.z[:, None, None])
        measured.append(export.hu[depth > 4].std())
        planted.append(patient["heterogeneity_hu"])
        sizes.append((depth > 0).sum() * scanner.voxel_ml / patient["volume_ml"])
    assert spearmanr(measured, planted).statistic > 0.6
    assert np.mean(sizes) == pytest.approx(1, abs=0.05)
