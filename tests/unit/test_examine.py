"""What images show: contrast agent, coverage of the thorax, noise; on simulated chests and on real scans."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import chests
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from polycentric import tables
from polycentric.cohort import evidence
from polycentric.config.examine import EstablishSettings, ExamineSettings
from polycentric.examine import examine_shard, facts_of
from polycentric.examine.blood import Pool
from polycentric.examine.coarse import coarsen, upright
from polycentric.examine.facts import judge
from polycentric.examine.noise import noise_hu
from polycentric.jobs import SILENT
from polycentric.tables.schemas import EXAMINED
from polycentric.volumes import Geometry, Volume
from scipy import ndimage

SETTINGS = ExamineSettings()
Facts = dict[str, object]

# --------------------------------------------------------------------------------------------------- simulated cohort


def final(facts: Facts, tag: str, description: str) -> str:
    row = {"modality": "CT", "contrast": "unknown", "contrast_tag": tag, "contrast_description": description, **facts}
    return evidence.contrast(row, EstablishSettings()).status


def lies(number: int, truth: str) -> tuple[str, str]:
    """Tag and description by turns: true, missing, lying, both lying, one of each."""
    false = "no" if truth == "yes" else "yes"
    told = [(truth, truth), ("unknown", "unknown"), (false, "unknown"), (false, false), (truth, false)]
    return told[number % 5]


def cohort_of(count: int, seed: int) -> list[tuple[chests.Chest, Facts, str]]:
    result = []
    for number in range(count):
        chest = chests.chest(number, seed)
        facts = facts_of(chest.volume, SETTINGS)
        result.append((chest, facts, final(facts, *lies(number, chest.contrast))))
    return result


def check(cohort: list[tuple[chests.Chest, Facts, str]], wrong: int) -> None:
    assert {chest.contrast for chest, _, _ in cohort} == {"yes", "no"}
    assert sum(facts["contrast_image"] != chest.contrast for chest, facts, _ in cohort) <= wrong
    assert sum(status != chest.contrast for chest, _, status in cohort) <= wrong
    # the level of the blood, against the planted one: edges of the pool are blurred
    errors = [facts["blood_hu"] - (40 + c.enhancement_hu + c.offset_hu) for c, facts, _ in cohort]
    assert np.median(np.abs(errors)) < 8
    assert sum(facts["covers_thorax"] != "yes" for _, facts, _ in cohort) <= wrong
    assert sum(facts["body_part_image"] != "chest" for _, facts, _ in cohort) == 0


def test_simulated_cohort_with_lying_and_missing_tags() -> None:
    check(cohort_of(24, seed=1), wrong=1)


@pytest.mark.slow
def test_large_simulated_cohort() -> None:
    check(cohort_of(200, seed=2), wrong=10)


def test_noise_is_the_planted_one() -> None:
    for number, spacing in ((3, 0.8), (4, 2.0)):
        # filtered noise in a body with edges, at the resolution of a clinical scan
        rng = np.random.default_rng(number)
        noise = ndimage.gaussian_filter(rng.normal(size=(6, 400, 400)), (0, 0.8 / spacing, 0.8 / spacing))
        j, i = np.ogrid[:400, :400]
        body = np.where(np.hypot(j - 200, i - 200) < 160, 50.0, -1000.0) - 150 * (np.hypot(j - 150, i - 200) < 40)
        for planted in (8.0, 30.0, 90.0):
            array = np.rint(body + planted * noise / noise.std()).astype(np.int16)
            assert noise_hu(array, (3.0, spacing, spacing), 50.0) == pytest.approx(planted, rel=0.08)


def test_air_muscle_and_fat_move_with_the_calibration() -> None:
    chest = chests.chest(0, contrast=False)
    raised = chest.volume.with_array(np.clip(chest.volume.array + 24, -1024, 3071).astype(np.int16))
    plain, moved = facts_of(chest.volume, SETTINGS), facts_of(raised, SETTINGS)
    # levels of the simulator: air -1000, fat -100, muscle 45
    assert plain["air_hu"] == pytest.approx(-1000, abs=6)
    assert plain["fat_hu"] == pytest.approx(-100, abs=6)
    assert plain["muscle_hu"] == pytest.approx(45, abs=6)
    for name in ("air_hu", "fat_hu", "muscle_hu"):
        assert moved[name] - plain[name] == pytest.approx(24, abs=4)
    assert moved["contrast_image"] == plain["contrast_image"] == "no"


@pytest.mark.parametrize("end", ["top", "bottom"])
def test_a_cropped_simulated_chest_is_incomplete(end: str) -> None:
    for number in (0, 2, 4):
        volume = chests.chest(number).volume
        count = volume.array.shape[0]
        kept = np.s_[: round(0.85 * count)] if end == "top" else np.s_[round(0.15 * count) :]
        facts = facts_of(part(volume, kept), SETTINGS)
        assert facts["covers_thorax"] == "no"
        assert facts[f"lung_{end}_mm"] == 0
        assert facts["body_part_image"] == "chest"


def part(volume: Volume, kept: slice | tuple) -> Volume:
    array = np.ascontiguousarray(volume.array[kept])
    return Volume(array, Geometry(array.shape[::-1], volume.geometry.spacing))


@pytest.mark.parametrize(
    ("blood", "muscle", "expected"),
    # unenhanced blood 30 to 55 HU, muscle 40 to 65; enhanced blood from 90 HU
    [(30, 50, "no"), (45, 55, "no"), (55, 45, "no"), (90, 50, "yes"), (150, 60, "yes"), (400, 65, "yes")],
)
def test_levels_of_the_literature(blood: float, muscle: float, expected: str) -> None:
    answer, probability = judge(Pool(blood, 200, "heart"), muscle, SETTINGS)
    assert answer == expected
    assert 0.8 < probability < 1


def test_halfway_is_undecided_and_nothing_is_unknown() -> None:
    assert judge(Pool(70, 200, "heart"), 50.0, SETTINGS)[1] == pytest.approx(0.5)
    assert judge(Pool(72, 200, "heart"), 50.0, ExamineSettings(enhancement_hu=30))[0] == "no"
    assert judge(None, 50.0, SETTINGS) == ("unknown", None)
    assert judge(Pool(150, 200, "vessel"), 50.0, SETTINGS)[1] < judge(Pool(150, 200, "heart"), 50.0, SETTINGS)[1]


# ---------------------------------------------------------------------------------------------------- grid and manifest


def test_volumes_are_turned_upright() -> None:
    rng = np.random.default_rng(0)
    image = sitk.GetImageFromArray(rng.integers(0, 100, (5, 6, 7)).astype(np.int16))
    image.SetSpacing((1.0, 2.0, 3.0))
    straight = Volume.from_sitk(image)
    array, spacing = upright(straight)
    assert spacing == (3.0, 2.0, 1.0)
    assert np.array_equal(array, straight.array)
    # SimpleITK as the oracle: any axial, coronal or sagittal order of axes comes back to LPS
    for code in ("RAS", "LIP", "PSR", "SAL", "RPI"):
        turned = Volume.from_sitk(sitk.DICOMOrient(image, code))
        array, spacing = upright(turned)
        assert np.array_equal(array, straight.array), code
        assert spacing == (3.0, 2.0, 1.0)


def test_blocks_are_means() -> None:
    array = np.arange(4 * 6 * 9, dtype=np.int16).reshape(4, 6, 9)
    coarse = coarsen(array, (1.5, 1.0, 1.0), 3.0)
    assert coarse.hu.shape == (2, 2, 3)
    assert coarse.spacing == (3.0, 3.0, 3.0)
    assert coarse.hu[1, 1, 2] == array[2:, 3:, 6:].mean()
    assert coarsen(array, (6.0, 3.0, 3.0)).hu.shape == array.shape


def test_shard_has_a_row_per_scan_and_skips_what_holds(tmp_path: Path) -> None:
    scans = {"S-A": chests.chest(1, contrast=True).volume, "S-B": None, "S-C": chests.chest(1, contrast=False).volume}
    volumes = chests.manifest(tmp_path, scans)
    examined = tmp_path / "cohort/examined/north-0.tsv"

    def run(settings: ExamineSettings = SETTINGS) -> bytes:
        examine_shard(
            volumes, settings=settings, root=tmp_path, examined=examined,
            settings_json=settings.model_dump_json(), code="x", log=SILENT,
        )  # fmt: skip
        return examined.read_bytes()

    first = run()
    frame = tables.read(examined, EXAMINED).set_index("scan")
    assert frame["contrast_image"].to_dict() == {"S-A": "yes", "S-B": "unknown", "S-C": "no"}
    assert frame["status"].to_dict() == {"S-A": "ok", "S-B": "missing", "S-C": "ok"}
    sidecar = tmp_path / "cohort/examined/north-0/S-A.json"
    stamp = sidecar.stat().st_mtime_ns
    assert run() == first
    assert sidecar.stat().st_mtime_ns == stamp
    run(ExamineSettings(enhancement_hu=30))
    assert sidecar.stat().st_mtime_ns > stamp


def test_other_modalities_say_nothing(tmp_path: Path) -> None:
    noise = Volume(np.random.default_rng(0).random((4, 5, 6)).astype(np.float32), Geometry((6, 5, 4), (1, 1, 1)))
    volumes = chests.manifest(tmp_path, {"S-M": noise}, modality="MR")
    examined = tmp_path / "examined.tsv"
    examine_shard(
        volumes, settings=SETTINGS, root=tmp_path, examined=examined, settings_json="{}", code="x", log=SILENT
    )
    row = tables.read(examined, EXAMINED).iloc[0]
    assert (row["status"], row["contrast_image"], row["covers_thorax"]) == ("ok", "unknown", "unknown")


@pytest.mark.parametrize("hu", [-1024, -1000, 0, 40, 3071])
def test_odd_volumes_are_unknown(hu: int) -> None:
    for shape in ((4, 8, 8), (1, 512, 512), (60, 128, 128)):
        array = np.full(shape, hu, np.int16)
        facts = facts_of(Volume(array, Geometry(shape[::-1], (0.9, 0.9, 3.0))), SETTINGS)
        assert (facts["contrast_image"], facts["covers_thorax"]) == ("unknown", "unknown")
        json.dumps(facts, allow_nan=False)


def test_noise_alone_and_a_water_phantom_are_unknown() -> None:
    rng = np.random.default_rng(0)
    j, i = np.ogrid[:200, :200]
    water = np.where(np.hypot(j - 100, i - 100) < 60, 0, -1000)[None] + rng.normal(0, 20, (40, 200, 200))
    for array in (water, rng.normal(0, 300, (40, 200, 200))):
        volume = Volume(np.clip(array, -1024, 3071).astype(np.int16), Geometry((200, 200, 40), (2.0, 2.0, 5.0)))
        facts = facts_of(volume, SETTINGS)
        assert facts["contrast_image"] == "unknown"
        assert facts["covers_thorax"] != "yes"


def test_bowel_gas_is_no_lung() -> None:
    rng = np.random.default_rng(0)
    k, j, i = np.ogrid[:50, :180, :180]
    body = np.hypot((j - 90) / 55, (i - 90) / 80) < 1
    array = np.where(body, 40.0, -1000.0) + 0 * k
    for x in (55, 125):  # two distended loops of 500 mL
        array[np.hypot(np.hypot((k - 25) * 2.5, j - 75), i - x) < 25] = -1000
        array[np.hypot(np.hypot((k - 25) * 2.5, j - 75), i - x + 0.5) < 20] = -1000
    array = ndimage.gaussian_filter(array, (0.5, 1, 1)) + rng.normal(0, 15, array.shape)
    facts = facts_of(Volume(array.clip(-1024).astype(np.int16), Geometry((180, 180, 50), (2.0, 2.0, 5.0))), SETTINGS)
    assert facts["lung_ml"] == 0
    assert facts["body_part_image"] != "chest"


# ----------------------------------------------------------------------------------------------------------- real scans


@cache
def load(folder: Path) -> Volume:
    """The CT of a folder, slices in order of position; these series are regular."""
    found = []
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        if dataset.get("Modality") == "CT" and "ImagePositionPatient" in dataset:
            normal = np.cross(dataset.ImageOrientationPatient[:3], dataset.ImageOrientationPatient[3:])
            found.append((float(normal @ np.array(dataset.ImagePositionPatient, float)), path, dataset.PixelSpacing))
    found.sort(key=lambda item: item[0])
    planes = [sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[0] for _, path, _ in found]
    step = float(np.median(np.diff([z for z, _, _ in found])))
    array = np.stack(planes).clip(-1024, 3071).astype(np.int16)
    rows, columns = (float(v) for v in found[0][2])
    return Volume(array, Geometry(array.shape[::-1], (columns, rows, step)))


LUNG1 = {
    # looked at: 001 is the CT of a PET-CT, heart and aorta as bright as muscle, no renal enhancement; 002 and 003 have
    # bright chambers, aorta and kidneys
    "LUNG1-001_20180209_CT": "no",
    "LUNG1-002_20180526_CT": "yes",
    "LUNG1-003_20180209_CT": "yes",
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", LUNG1)
def test_real_chests(realdata: Callable[[str], Path], name: str) -> None:
    volume = load(realdata("lung1") / "dicom" / name)
    facts = facts_of(volume, SETTINGS)
    assert facts["contrast_image"] == LUNG1[name]
    assert facts["contrast_image_confidence"] > 0.9
    assert (facts["covers_thorax"], facts["body_part_image"]) == ("yes", "chest")
    assert facts["air_hu"] == pytest.approx(-1000, abs=10)
    low, high = (30, 60) if LUNG1[name] == "no" else (90, 250)
    assert low < facts["blood_hu"] < high
    # tags that lie change nothing, as long as they do not lie together with half an image
    false = "no" if LUNG1[name] == "yes" else "yes"
    assert final(facts, false, "unknown") == final(facts, "unknown", false) == LUNG1[name]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "kept", "top", "bottom"),
    [  # slices from the feet; seen by eye: lungs of 001 in 25 to 108, of 002 in 20 to 96, of 003 in 4 to 75
        ("LUNG1-001_20180209_CT", np.s_[:95], 0, 75),
        ("LUNG1-001_20180209_CT", np.s_[40:], 75, 0),
        ("LUNG1-002_20180526_CT", np.s_[30:], 42, 0),
        ("LUNG1-003_20180209_CT", np.s_[12:], 93, 0),
    ],
)
def test_real_chests_cut_short(
    realdata: Callable[[str], Path], name: str, kept: slice, top: float, bottom: float
) -> None:
    facts = facts_of(part(load(realdata("lung1") / "dicom" / name), kept), SETTINGS)
    assert facts["covers_thorax"] == "no"
    assert facts["contrast_image"] == LUNG1[name]
    assert (facts["lung_top_mm"], facts["lung_bottom_mm"]) == (pytest.approx(top, abs=9), pytest.approx(bottom, abs=9))


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("LUNG1-001_20180209_CT", np.s_[:36]),
        ("LUNG1-002_20180526_CT", np.s_[:24]),
        ("LUNG1-003_20180209_CT", np.s_[:24]),
    ],
)
def test_upper_abdomens(realdata: Callable[[str], Path], name: str, kept: slice) -> None:
    facts = facts_of(part(load(realdata("lung1") / "dicom" / name), kept), SETTINGS)
    assert facts["contrast_image"] == LUNG1[name]
    assert facts["blood_place"] == "vessel"
    assert facts["covers_thorax"] == "no"


@pytest.mark.realdata
@pytest.mark.parametrize("kept", [np.s_[:], np.s_[:48], np.s_[:40]])
def test_portal_venous_abdomen(realdata: Callable[[str], Path], kept: slice) -> None:
    facts = facts_of(part(load(realdata("chaos_ct") / "Data_3D/DICOM_anon"), kept), SETTINGS)
    assert (facts["contrast_image"], facts["covers_thorax"], facts["body_part_image"]) == ("yes", "no", "abdomen")


@pytest.mark.realdata
def test_part_of_a_chest(realdata: Callable[[str], Path]) -> None:
    facts = facts_of(load(realdata("ibsi") / "ibsi_1_ct_radiomics_phantom/dicom/image"), SETTINGS)
    assert (facts["contrast_image"], facts["covers_thorax"]) == ("yes", "no")


@pytest.mark.realdata
@pytest.mark.parametrize("patient", ["STS_001", "STS_003", "STS_005", "STS_008", "STS_009", "STS_011"])
def test_limbs_are_unknown(realdata: Callable[[str], Path], patient: str) -> None:
    facts = facts_of(load(realdata("sts") / patient / "CT/image"), SETTINGS)
    assert (facts["contrast_image"], facts["covers_thorax"], facts["body_part_image"]) == (
        "unknown",
        "unknown",
        "other",
    )


@pytest.mark.realdata
def test_a_head_is_unknown(realdata: Callable[[str], Path]) -> None:
    facts = facts_of(load(realdata("gantry_tilt") / "GE"), SETTINGS)
    assert (facts["contrast_image"], facts["covers_thorax"], facts["body_part_image"]) == (
        "unknown",
        "unknown",
        "other",
    )


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.parametrize("change", ["noise", "kernel", "thick", "thin", "raised", "weak", "strong"])
@pytest.mark.parametrize("name", LUNG1)
def test_real_chests_as_other_scanners_would_show_them(realdata: Callable[[str], Path], name: str, change: str) -> None:
    volume = load(realdata("lung1") / "dicom" / name)
    x, y, z = volume.geometry.spacing
    hu = volume.array.astype(np.float32)[:, ::2, ::2]
    if change == "noise":
        hu += np.random.default_rng(0).normal(0, 80, hu.shape)
    elif change == "kernel":
        hu = ndimage.gaussian_filter(hu, (0, 1.2, 1.2))
    elif change == "thick":
        hu, z = hu[: len(hu) // 2 * 2].reshape(-1, 2, *hu.shape[1:]).mean(axis=1), 2 * z
    elif change == "thin":
        hu, z = np.repeat(hu, 3, axis=0), z / 3
    elif change == "raised":
        hu += 30
    elif LUNG1[name] == "yes":  # what is brighter than muscle and no bone, at another phase
        hu = np.where((hu > 55) & (hu < 350), 55 + (hu - 55) * {"weak": 0.6, "strong": 2.5}[change], hu)
    array = np.clip(np.rint(hu), -1024, 3071).astype(np.int16)
    facts = facts_of(Volume(array, Geometry(array.shape[::-1], (2 * x, 2 * y, z))), SETTINGS)
    assert facts["contrast_image"] == LUNG1[name]
