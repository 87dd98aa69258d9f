"""Does the fast engine give PyRadiomics' values? And both engines those of IBSI and of PyRadiomics' own baselines?

    python -m polycentric.tools.radiomics_gate DATA               print the tables, exit 1 if the gate is not green
    python -m polycentric.tools.radiomics_gate DATA --docs FILE   write them between the markers of docs/radiomics.md
    python -m polycentric.tools.radiomics_gate DATA --quick       leave out the large ROIs

DATA is the folder with the unpacked archives `ibsi`, `pyradiomics_cases`, `lung1` and `sts`.

A value agrees if it differs by at most 1e-6 of the reference value or by at most the floor of its class. Where a
filter's last digit moves a voxel across a bin edge, the features of that image differ by more: they are counted and
listed like any other.
"""

from __future__ import annotations

import argparse
import ast
import csv
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config.features import FEATURE_CLASSES, Recipe, find_recipe, from_pyradiomics, load_recipe
from ..convert.raster import fill
from ..errors import ScanError
from ..files import write_text
from ..grids import box, crop
from ..radiomics import extract
from ..volumes import Geometry, Volume
from . import ibsi

RELATIVE = 1e-6
# what a class's values may differ by where they are zero but for rounding: an axis of length 0 comes out as the root of
# 1e-17, and so do correlations of independent grey levels
FLOOR = {
    "firstorder": 1e-9, "shape": 1e-6, "shape2D": 1e-6, "glcm": 1e-7, "glrlm": 1e-9, "glszm": 1e-9, "gldm": 1e-9,
    "ngtdm": 1e-9,
}  # fmt: skip
MARKERS = ("<!-- gate -->", "<!-- /gate -->")
NEAR_VOXELS = 40  # large CT are cut to this much around the ROI: both engines see the same image


@dataclass(frozen=True)
class Case:
    """An image with a mask, from one archive; `only` names the one recipe that it is compared with, if not all."""

    name: str
    image: Volume
    mask: Volume
    only: str | None = None

    def recipes(self) -> dict[str, Recipe]:
        return {name: recipe for name, recipe in recipes().items() if self.only in (None, name)}


@dataclass(frozen=True)
class Comparison:
    """The two engines on one case: features compared, those that differ (name, fast, reference), largest difference."""

    case: str
    recipe: str
    compared: int
    identical: int
    worst: float
    different: tuple[tuple[str, float, float], ...]


def recipes() -> dict[str, Recipe]:
    """What the engines are compared with: together they use every class, image type and setting."""
    everything = dict.fromkeys(FEATURE_CLASSES, ())
    more = {"Square": {}, "SquareRoot": {}, "Logarithm": {}, "Exponential": {}, "Gradient": {}}
    return {
        "full": Recipe(grid="pyradiomics", log_sigmas_mm=(1.0, 2.0, 3.0), wavelet="coif1"),
        "further filters, 32 bins": Recipe(
            grid="pyradiomics", bin_count=32, original=False, further_image_types=more, voxel_array_shift=300,
            classes=everything,
        ),
        "2D, weighted, distances 1 and 2": Recipe(
            grid="pyradiomics", two_dimensional=True, distances=(1, 2), log_sigmas_mm=(2.5,), wavelet="db2",
            classes=everything, further_settings={"weightingNorm": "euclidean", "symmetricalGLCM": False, "gldm_a": 1},
        ),
        "2 mm B-spline, normalised, 3 SD": Recipe(
            grid="pyradiomics", spacing_mm=(2, 2, 2), interpolation="bspline", bin_width=5, log_sigmas_mm=(2.0,),
            wavelet="coif1",
            further_settings={"resegmentRange": [-3, 3], "resegmentMode": "sigma", "normalize": True,
                              "normalizeScale": 100},
        ),
        "ct-25hu on the IBSI grid": load_recipe(find_recipe("ct-25hu")),
    }  # fmt: skip


def cases(data: Path, quick: bool = False) -> Iterator[Case]:
    """The cases whose archives are unpacked below `data`."""
    for name in ("brain1", "brain2", "breast1"):
        yield nrrd_case(data, name)
    yield nifti_case(data, "ibsi_1_digital_phantom")
    yield nifti_case(data, "ibsi_1_ct_radiomics_phantom")
    if quick:
        return
    for folder in sorted((data / "lung1" / "dicom").iterdir()):
        yield dicom_case(folder.name[:9], folder, "GTV-1")
    patients = sorted(p for p in (data / "sts").iterdir() if p.is_dir())
    for patient in patients:
        for modality in ("CT", "PET", "MR_T1"):
            if (patient / modality).is_dir():
                found = dicom_case(f"{patient.name} {modality}", patient / modality, f"GTV_Mass_{modality}")
                yield found if patient == patients[0] else replace(found, only="full")


def nrrd_case(data: Path, name: str) -> Case:
    import SimpleITK as sitk

    paths = [data / "pyradiomics_cases" / f"{name}_{part}.nrrd" for part in ("image", "label")]
    return Case(name, *(Volume.from_sitk(sitk.ReadImage(str(path))) for path in paths))


def nifti_case(data: Path, kind: str) -> Case:
    import SimpleITK as sitk

    parts = [next((data / "ibsi" / kind / "nifti" / part).glob("*.nii.gz")) for part in ("image", "mask")]
    return Case(kind, *(Volume.from_sitk(sitk.ReadImage(str(path))) for path in parts))


def dicom_case(name: str, folder: Path, roi: str) -> Case:
    """Image and structure set below one folder; slices by position, even-odd filling at pixel centres."""
    import pydicom

    files = [pydicom.dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    slices = sorted((f for f in files if "PixelData" in f and "ImagePositionPatient" in f and f.Modality != "RTDOSE"),
                    key=lambda f: float(f.ImagePositionPatient[2]))  # fmt: skip
    structures = next(f for f in files if f.Modality == "RTSTRUCT")
    planes = [s.pixel_array * float(s.get("RescaleSlope", 1)) + float(s.get("RescaleIntercept", 0)) for s in slices]
    array = np.stack(planes).astype(np.float32)
    first = slices[0]
    step = float(slices[1].ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    spacing = (float(first.PixelSpacing[1]), float(first.PixelSpacing[0]), step)
    geometry = Geometry(array.shape[::-1], spacing, tuple(float(v) for v in first.ImagePositionPatient))
    numbers = {int(s.ROINumber) for s in structures.StructureSetROISequence if s.ROIName == roi}
    polygons: dict[int, list[np.ndarray]] = {}
    for sequence in structures.ROIContourSequence:
        for contour in sequence.ContourSequence if int(sequence.ReferencedROINumber) in numbers else ():
            points = (np.array(contour.ContourData, float).reshape(-1, 3) - geometry.origin) / geometry.spacing
            polygons.setdefault(round(points[0, 2]), []).append(points[:, :2])
    mask = np.zeros(array.shape, np.uint8)
    for z, drawn in polygons.items():
        if 0 <= z < len(mask):
            mask[z] = fill(drawn, mask.shape[1:])
    bounds = box(mask)
    if bounds is None:
        raise ValueError(f"{name}: {roi} is not outlined")
    low = [max(0, a - NEAR_VOXELS) for a in bounds[0]]
    high = [min(n - 1, b + NEAR_VOXELS) for n, b in zip(geometry.size, bounds[1], strict=True)]
    return Case(name, crop(Volume(array, geometry), low, high), crop(Volume(mask, geometry), low, high))


def fitting(recipe: Recipe, case: Case) -> Recipe:
    """The recipe with bins narrow enough for the case: 25 SUV would be a single one."""
    inside = case.image.array[case.mask.array > 0]
    spread = float(inside.max()) - float(inside.min())
    if recipe.bin_width is None or recipe.further_settings.get("normalize"):
        return recipe
    if spread == 0 or spread / recipe.bin_width > 5:
        return recipe
    return recipe.model_copy(update={"bin_width": spread / 30, "round_intensities": False})


def compare(case: Case, name: str, recipe: Recipe) -> Comparison:
    """Both engines on a case.

    Raises
    ------
    ValueError
        if their features differ in name or order, or if only one of them rejects the ROI.
    """
    recipe = fitting(recipe, case)
    found = []
    for engine in ("fast", "pyradiomics"):
        try:
            found.append(extract(case.image, case.mask, recipe.model_copy(update={"engine": engine})).values)
        except ScanError as error:
            found.append({error.code: 0.0})
    fast, reference = found
    if list(fast) != list(reference):
        raise ValueError(f"{case.name}, {name}: engines differ in features: {sorted({*fast} ^ {*reference})[:5]}")
    different, worst, identical = [], 0.0, 0
    for feature, expected in reference.items():
        value = fast[feature]
        if value == expected or (math.isnan(value) and math.isnan(expected)):
            identical += 1
            continue
        distance = abs(value - expected)
        if not distance <= max(RELATIVE * abs(expected), floor(feature)):
            different.append((feature, value, expected))
        elif abs(expected) > floor(feature):
            worst = max(worst, distance / abs(expected))
    return Comparison(case.name, name, len(reference), identical, worst, tuple(different))


def floor(feature: str) -> float:
    """Absolute difference that a feature of this name may always have."""
    return FLOOR.get(feature.split("_")[-2], 0.0) if "_" in feature else 0.0


def baselines(data: Path, engine: str) -> Iterator[tuple[str, str, int, list[tuple[str, float, float]]]]:
    """PyRadiomics' own regression tests: case, class, number of features, those not within 1e-6 of the baseline."""
    loaded = {name: nrrd_case(data, name) for name in ("brain1", "brain2", "breast1")}
    for family in FEATURE_CLASSES:
        with (data / "pyradiomics_cases" / "baseline" / f"baseline_{family}.csv").open() as stream:
            rows = {r.pop("featureName"): r for r in csv.DictReader(stream)}
        for column in rows["diagnostics_Configuration_TestCase"]:
            if (name := column.split("_")[0]) not in loaded:
                continue
            settings = ast.literal_eval(rows["diagnostics_Configuration_Settings"][column])
            expected = {k: float(v[column]) for k, v in rows.items() if k.startswith("original_")}
            parameters = {"setting": settings, "featureClass": {family: [k.split("_")[2] for k in expected]}}
            recipe = from_pyradiomics(parameters).model_copy(update={"engine": engine})
            values = extract(loaded[name].image, loaded[name].mask, recipe).values
            wrong = [
                (feature, values[feature], value)
                for feature, value in expected.items()
                if not math.isclose(values[feature], value, rel_tol=1e-6, abs_tol=1e-12)
            ]
            yield column, family, len(expected), wrong


def report(data: Path, quick: bool, say: bool = True) -> tuple[str, bool]:
    """The tables as Markdown, and whether the gate is green."""
    lines = ["### The fast engine against PyRadiomics", ""]
    lines += [f"Features within {RELATIVE:g} of PyRadiomics' value, or within the floor of their class: "]
    lines[-1] += ", ".join(f"{k} {v:g}" for k, v in FLOOR.items()) + "."
    lines += ["", "| case | voxels | recipe | features | agree | identical bits | largest relative difference |"]
    lines += ["|---|---|---|---|---|---|---|"]
    listed: list[str] = []
    total = agree = 0
    for case in cases(data, quick):
        for name, recipe in case.recipes().items():
            found = compare(case, name, recipe)
            total, agree = total + found.compared, agree + found.compared - len(found.different)
            lines.append(
                f"| {case.name} | {int((case.mask.array > 0).sum()):,} | {name} | {found.compared:,} | "
                f"{found.compared - len(found.different):,} | {found.identical:,} | {found.worst:.0e} |"
            )
            listed += [f"- {case.name}, {name}: {f} {a!r}, PyRadiomics {b!r}" for f, a, b in found.different]
            if say:
                print(lines[-1], file=sys.stderr, flush=True)
    lines += ["", f"{agree:,} of {total:,} agree.", *listed, "", "### PyRadiomics' own baselines", ""]
    lines += ["| engine | values | within 1e-6 | others |", "|---|---|---|---|"]
    green = agree == total
    for engine in ("fast", "pyradiomics"):
        number, wrong = 0, []
        for column, family, compared, off in baselines(data, engine):
            number += compared
            wrong += [f"{column} {family} {f.split('_')[2]} ({(a - b) / b:+.1e})" for f, a, b in off]
        lines.append(f"| {engine} | {number:,} | {number - len(wrong):,} | {', '.join(wrong) or 'none'} |")
    lines += ["", "### IBSI 1 reference values", ""]
    lines += ["| configuration | engine | comparable features | within the consensus tolerance | others |"]
    lines += ["|---|---|---|---|---|"]
    for configuration in ibsi.CONFIGURATIONS:
        for engine in ("fast", "pyradiomics"):
            compared, wrong_names = ibsi.check(data / "ibsi", configuration, engine)
            others = ", ".join(n.removeprefix("original_") for n in sorted(wrong_names)) or "none"
            lines.append(f"| {configuration} | {engine} | {compared} | {compared - len(wrong_names)} | {others} |")
    return "\n".join(lines) + "\n", green


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--docs", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    text, green = report(options.data, options.quick)
    if options.docs is None:
        print(text)
    else:
        page = options.docs.read_text(encoding="utf-8")
        before, _, rest = page.partition(MARKERS[0])
        after = rest.partition(MARKERS[1])[2]
        write_text(options.docs, f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}")
    return 0 if green else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
