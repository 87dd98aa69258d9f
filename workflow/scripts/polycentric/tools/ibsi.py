"""The reference values of IBSI 1, and what our features give for its phantoms.

Source: Zwanenburg et al., The Image Biomarker Standardization Initiative, Radiology 295:328, 2020; tables of the
archive `ibsi` (consensus value, tolerance, tag).
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

from ..config.features import FEATURE_CLASSES, Recipe
from ..radiomics import extract
from ..volumes import Volume

# PyRadiomics' features in the words of the IBSI reference tables: class, tag (# is 3D or 2_5D), {PyRadiomics: IBSI}
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
# directions of GLCM and GLRLM are averaged, slices of 2D textures merged
FAMILIES = [
    ("shape", "morph_{}", SHAPE),
    ("firstorder", "{}", FIRST),
    ("glcm", "cm_{}_#_avg", GLCM),
    ("glrlm", "rlm_{}_#_avg", GLRLM),
    ("glszm", "szm_{}_#", GLSZM),
    ("gldm", "ngl_{}_#", GLDM),
    ("ngtdm", "ngt_{}_#", NGTDM),
]
KURTOSIS = "original_firstorder_Kurtosis"  # PyRadiomics does not subtract 3
DIGITAL, CHEST = "ibsi_1_digital_phantom", "ibsi_1_ct_radiomics_phantom"
# phantom, settings: IBSI reference manual, section 5 (table of configurations)
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "digital phantom": (DIGITAL, {"bin_width": 1}),
    "A": (CHEST, {"two_dimensional": True, "bin_width": 25, "resegment_range": [-500, 400]}),
    "B": (
        CHEST,
        {
            "two_dimensional": True, "spacing_mm": [2, 2, 0], "interpolation": "linear", "round_intensities": True,
            "bin_count": 32, "resegment_range": [-500, 400],
        },
    ),
    "C": (
        CHEST,
        {
            "spacing_mm": [2, 2, 2], "interpolation": "linear", "round_intensities": True, "bin_width": 25,
            "resegment_range": [-1000, 400],
        },
    ),
    "D": (
        CHEST,
        {
            "spacing_mm": [2, 2, 2], "interpolation": "linear", "round_intensities": True, "bin_count": 32,
            "resegment_sigma": 3,
        },
    ),
    "E": (
        CHEST,
        {
            "spacing_mm": [2, 2, 2], "interpolation": "bspline", "round_intensities": True, "bin_count": 32,
            "resegment_range": [-1000, 400], "resegment_sigma": 3,
        },
    ),
}  # fmt: skip


def names(two_dimensional: bool = False) -> dict[str, str]:
    """PyRadiomics' feature names and the tags of IBSI."""
    textures = "2_5D" if two_dimensional else "3D"
    return {
        f"original_{family}_{ours}": tag.format(theirs).replace("#", textures)
        for family, tag, pairs in FAMILIES
        for ours, theirs in (pair.split() for pair in pairs.split(", "))
    }


def recipe(**settings: Any) -> Recipe:
    """A recipe with every feature that IBSI has a value for."""
    classes = dict.fromkeys(FEATURE_CLASSES, ()) | {"shape": [p.split()[0] for p in SHAPE.split(", ")]}
    return Recipe(classes=classes, **settings)


def phantom(root: Path, kind: str) -> tuple[Volume, Volume]:
    """Image and mask of a phantom below the unpacked archive."""
    import SimpleITK as sitk

    paths = [next((root / kind / "nifti" / part).glob("*.nii.gz")) for part in ("image", "mask")]
    return tuple(Volume.from_sitk(sitk.ReadImage(str(path))) for path in paths)  # type: ignore[return-value]


def values(root: Path, configuration: str, engine: str) -> dict[str, float]:
    """Features of a configuration's phantom by an engine."""
    kind, settings = CONFIGURATIONS[configuration]
    return extract(*phantom(root, kind), recipe(engine=engine, **settings)).values


def table(root: Path, configuration: str) -> Path:
    """The reference values of a configuration."""
    stem = "dig_phantom" if configuration == "digital phantom" else f"chest_config_{configuration.lower()}"
    return root / "ibsi_1_reference_values" / f"ibsi_1_{stem}.csv"


def check(root: Path, configuration: str, engine: str) -> tuple[int, set[str]]:
    """How many features were compared, and which lie outside of the consensus tolerance (and its last digit)."""
    settings = CONFIGURATIONS[configuration][1]
    found = values(root, configuration, engine)
    with table(root, configuration).open() as stream:
        rows = {r["tag"]: r for r in csv.DictReader(stream, delimiter=";")}
    compared, wrong = 0, set()
    for ours, theirs in names(settings.get("two_dimensional", False)).items():
        if theirs not in rows or not rows[theirs]["reference value"]:
            continue
        reference, tolerance = float(rows[theirs]["reference value"]), float(rows[theirs]["tolerance"] or 0)
        # the tables give three significant digits
        digit = 10 ** (math.floor(math.log10(abs(reference))) - 2) if reference else 1e-3
        compared += 1
        if not abs(found[ours] - reference) <= tolerance + 0.505 * digit:
            wrong.add(ours)
    return compared, wrong
