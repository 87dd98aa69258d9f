"""First-order features of the intensities of one ROI, in PyRadiomics' definitions."""

from __future__ import annotations

import math

import numpy as np


def first_order(values: np.ndarray, counts: np.ndarray, shift: float, voxel_mm3: float) -> dict[str, float]:
    """Features of float64 `values` (n,) in raster order; `counts` holds the number of voxels in each occupied bin."""
    low, quarter, median, three_quarters, high = np.percentile(values, [10, 25, 50, 75, 90])
    mean = values.mean()
    deviation = values - mean
    squares = deviation * deviation
    variance = squares.mean()
    middle = values[(values >= low) & (values <= high)]
    shifted = values + shift
    energy = (shifted * shifted).sum()
    p = counts / counts.sum()
    smallest, largest = values.min(), values.max()
    return {
        "Energy": energy,
        "TotalEnergy": energy * voxel_mm3,
        "Entropy": -(p * np.log2(p + np.spacing(1))).sum(),
        "Minimum": smallest,
        "10Percentile": low,
        "90Percentile": high,
        "Maximum": largest,
        "Mean": mean,
        "Median": median,
        "InterquartileRange": three_quarters - quarter,
        "Range": largest - smallest,
        "MeanAbsoluteDeviation": np.abs(deviation).mean(),
        "RobustMeanAbsoluteDeviation": np.abs(middle - middle.mean()).mean(),
        "RootMeanSquared": math.sqrt(energy / len(values)),
        "StandardDeviation": math.sqrt(variance),
        "Skewness": (squares * deviation).mean() / (variance**1.5 if variance else 1.0),
        "Kurtosis": (squares * squares).mean() / (variance**2 if variance else 1.0),
        "Variance": variance,
        "Uniformity": (p * p).sum(),
    }
