"""Features against values that others publish: the IBSI consensus and PyRadiomics' own baselines."""

from __future__ import annotations

import ast
import csv
import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from polycentric.config.features import FEATURE_CLASSES, Recipe, from_pyradiomics
from polycentric.radiomics import extract
from polycentric.volumes import Volume

pytestmark = pytest.mark.realdata

# PyRadiomics' features in the words of the IBSI reference tables: class, prefix, aggregation, {PyRadiomics: IBSI}
SHAPE = (
    "MeshVolume volume, VoxelVolume vol_approx, SurfaceArea area_mesh, SurfaceVolumeRatio av, Compactness1 comp_1, "
    "Compactness2 comp_2, SphericalDisproportion sph_dispr, Sphericity sphericity, Maximum3DDiameter diam, "
    "MajorAxisLength pca_maj_axis, MinorAxisLength pca_min_axis, LeastAxisLength pca_least_axis, "
    "Elongation pca_elongation, Flatness pca_flatness"
)
FIRST = (
    "Mean stat_mean, Variance stat_var, Skewness stat_skew, Kurtosis stat_kurt, Median stat_median, "
    "Minimum stat_min, 10Percentile stat_p10, 90Percentile stat_p90, Maximum stat_max, InterquartileRange stat_iqr, "
    "Range stat_range, MeanAbsoluteDeviation stat_mad, RobustMeanAbsoluteDeviation stat_rmad, Energy stat_energy, "
    "RootMeanSquared stat_rms, Entropy ih_entropy, Uniformity ih_uniformity"
)
GLCM = (
    "MaximumProbability joint_max, JointAverage joint_avg, SumSquares joint_var, JointEntropy joint_entr, "
    "DifferenceAverage diff_avg, DifferenceVariance diff_var, DifferenceEntropy diff_entr, SumAverage sum_avg, "
    "SumEntropy sum_entr, JointEnergy energy, Contrast contrast, Id inv_diff, Idn inv_diff_norm, Idm inv_diff_mom, "
    "Idmn inv_diff_mom_norm, InverseVariance inv_var, Correlation corr, Autocorrelation auto_corr, "
    "ClusterTendency clust_tend, ClusterShade clust_shade, ClusterProminence clust_prom, Imc1 info_corr1, "
    "Imc2 info_corr2"
)
GLRLM = (
    "ShortRunEmphasis sre, LongRunEmphasis lre, LowGrayLevelRunEmphasis lgre, HighGrayLevelRunEmphasis hgre, "
    "ShortRunLowGrayLevelEmphasis srlge, ShortRunHighGrayLevelEmphasis srhge, LongRunLowGrayLevelEmphasis lrlge, "
    "LongRunHighGrayLevelEmphasis lrhge, GrayLevelNonUniformity glnu, GrayLevelNonUniformityNormalized glnu_norm, "
    "RunLengthNonUniformity rlnu, RunLengthNonUniformityNormalized rlnu_norm, RunPercentage r_perc, "
    "GrayLevelVariance gl_var, RunVariance rl_var, RunEntropy rl_entr"
)
GLSZM = (
    "SmallAreaEmphasis sze, LargeAreaEmphasis lze, LowGrayLevelZoneEmphasis lgze, HighGrayLevelZoneEmphasis hgze, "
    "SmallAreaLowGrayLevelEmphasis szlge, SmallAreaHighGrayLevelEmphasis szhge, LargeAreaLowGrayLevelEmphasis lzlge, "
    "LargeAreaHighGrayLevelEmphasis lzhge, GrayLevelNonUniformity glnu, GrayLevelNonUniformityNormalized glnu_norm, "
    "SizeZoneNonUniformity zsnu, SizeZoneNonUniformityNormalized zsnu_norm, ZonePercentage z_perc, "
    "GrayLevelVariance gl_var, ZoneVariance zs_var, ZoneEntropy zs_entr"
)
GLDM = (
    "SmallDependenceEmphasis lde, LargeDependenceEmphasis hde, LowGrayLevelEmphasis lgce, "
    "HighGrayLevelEmphasis hgce, SmallDependenceLowGrayLevelEmphasis ldlge, "
    "SmallDependenceHighGrayLevelEmphasis ldhge, LargeDependenceLowGrayLevelEmphasis hdlge, "
    "LargeDependenceHighGrayLevelEmphasis hdhge, GrayLevelNonUniformity glnu, DependenceNonUniformity dcnu, "
    "DependenceNonUniformityNormalized dcnu_norm, GrayLevelVariance gl_var, DependenceVariance dc_var, "
    "DependenceEntropy dc_entr"
)
NGTDM = "Coarseness coarseness, Contrast contrast, Busyness busyness, Complexity complexity, Strength strength"
FAMILIES = [
    ("shape", "morph_", "", SHAPE),
    ("firstorder", "", "", FIRST),
    ("glcm", "cm_", "_3D_avg", GLCM),
    ("glrlm", "rlm_", "_3D_avg", GLRLM),
    ("glszm", "szm_", "_3D", GLSZM),
    ("gldm", "ngl_", "_3D", GLDM),
    ("ngtdm", "ngt_", "_3D", NGTDM),
]
NAMES = {
    f"original_{family}_{ours}": f"{prefix}{theirs}{suffix}"
    for family, prefix, suffix, pairs in FAMILIES
    for ours, theirs in (pair.split() for pair in pairs.split(", "))
}
KURTOSIS = "original_firstorder_Kurtosis"  # PyRadiomics does not subtract 3


def recipe(**settings) -> Recipe:
    classes = dict.fromkeys(FEATURE_CLASSES, ()) | {"shape": [p.split()[0] for p in SHAPE.split(", ")]}
    return Recipe(classes=classes, **settings)


def failing(values: dict[str, float], table: Path) -> tuple[int, set[str]]:
    """How many features were compared, and which lie outside of the consensus tolerance (and its last digit)."""
    compared, wrong = 0, set()
    with table.open() as stream:
        rows = {r["tag"]: r for r in csv.DictReader(stream, delimiter=";")}
    for ours, theirs in NAMES.items():
        if theirs not in rows or not rows[theirs]["reference value"]:
            continue
        reference, tolerance = float(rows[theirs]["reference value"]), float(rows[theirs]["tolerance"] or 0)
        # the tables give three significant digits
        digit = 10 ** (math.floor(math.log10(abs(reference))) - 2) if reference else 1e-3
        compared += 1
        if not abs(values[ours] - reference) <= tolerance + 0.505 * digit:
            wrong.add(ours)
    return compared, wrong


def phantom(root: Path, kind: str) -> tuple[Volume, Volume]:
    folder = root / kind / "nifti"
    return tuple(
        Volume.from_sitk(sitk.ReadImage(str(next((folder / part).glob("*.nii.gz"))))) for part in ("image", "mask")
    )


def test_ibsi_digital_phantom(realdata):
    root = realdata("ibsi")
    values = extract(*phantom(root, "ibsi_1_digital_phantom"), recipe(bin_width=1)).values
    compared, wrong = failing(values, root / "ibsi_1_reference_values" / "ibsi_1_dig_phantom.csv")
    assert compared == 105
    axes = {"original_shape_MinorAxisLength": 9.31, "original_shape_LeastAxisLength": 8.54}
    assert wrong == {KURTOSIS, *axes}
    for name, reference in axes.items():  # PyRadiomics divides the covariance of the 74 voxels by n, IBSI by n - 1
        assert values[name] * math.sqrt(74 / 73) == pytest.approx(reference, abs=0.005)


@pytest.mark.parametrize(
    ("configuration", "settings"),
    [
        ("c", {"interpolation": "linear", "bin_width": 25, "resegment_range": [-1000, 400]}),
        ("d", {"interpolation": "linear", "bin_count": 32, "resegment_sigma": 3}),
        (
            "e",
            {"interpolation": "bspline", "bin_count": 32, "resegment_range": [-1000, 400], "resegment_sigma": 3},
        ),
    ],
)
def test_ibsi_chest_phantom(realdata, configuration, settings):
    root = realdata("ibsi")
    image, mask = phantom(root, "ibsi_1_ct_radiomics_phantom")
    values = extract(image, mask, recipe(spacing_mm=[2, 2, 2], round_intensities=True, **settings)).values
    compared, wrong = failing(values, root / "ibsi_1_reference_values" / f"ibsi_1_chest_config_{configuration}.csv")
    assert compared == 105
    assert wrong == {KURTOSIS}


@pytest.mark.parametrize("case", ["brain1", "brain1_normalization", "brain2_resampling", "breast1_resegmentation"])
def test_pyradiomics_baselines(realdata, case):
    """`grid: pyradiomics` gives the values that PyRadiomics' own regression tests expect."""
    root = realdata("pyradiomics_cases")
    name = case.split("_")[0]
    image, mask = (Volume.from_sitk(sitk.ReadImage(str(root / f"{name}_{part}.nrrd"))) for part in ("image", "label"))
    compared = 0
    for family in ("firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm"):
        with (root / "baseline" / f"baseline_{family}.csv").open() as stream:
            rows = {r["featureName"]: r.get(case) for r in csv.DictReader(stream)}
        if rows["diagnostics_Configuration_TestCase"] is None:
            continue
        settings = ast.literal_eval(rows["diagnostics_Configuration_Settings"])
        expected = {k: float(v) for k, v in rows.items() if k.startswith("original_")}
        chosen = [k.split("_")[2] for k in expected]
        ours = from_pyradiomics({"setting": settings, "featureClass": {family: chosen}})
        values = extract(image, mask, ours).values
        compared += len(expected)
        np.testing.assert_allclose([values[k] for k in expected], list(expected.values()), rtol=1e-6)
    assert compared > 60
