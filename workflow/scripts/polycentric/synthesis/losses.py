"""Losses of the cycle-GAN. Images lie in [-1, 1]; discriminators give logits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Adversarial = Literal["least-squares", "bce", "minimax"]
Window = Literal["gaussian", "uniform"]

DATA_RANGE = 2.0  # of images in [-1, 1]


def least_squares(verdicts: Tensor, real: bool) -> Tensor:
    """Mean squared distance of verdicts to 1 (real) or 0 (Mao et al. 2017, equation 2)."""
    return ((verdicts - float(real)) ** 2).mean()


def judge(kind: Adversarial, logits: Tensor, real: bool, *, sigmoid: bool) -> Tensor:
    """Loss of a discriminator whose verdicts should be `real`, or of a generator that wants them to be.

    least-squares: of the logits, or with `sigmoid` of the probabilities. bce: cross-entropy of the probabilities, taken
    from the logits, so that it is finite for any (Goodfellow et al. 2014, equation 1, in its non-saturating form for
    generators). minimax: for generators alone, the mean of log(1 - D) (the same equation as it stands).
    """
    if kind == "minimax":
        return -functional.softplus(logits).mean()  # log(1 - sigmoid(x)) = -softplus(x)
    if kind == "bce":
        return functional.softplus(-logits).mean() if real else functional.softplus(logits).mean()
    return least_squares(torch.sigmoid(logits) if sigmoid else logits, real)


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (a - b).abs().mean()


def weights(window: Window, size: int, sigma: float) -> list[float]:
    """Weights of a window along an axis, their sum 1."""
    if window == "uniform":
        return [1.0 / size] * size
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    values = torch.exp(-0.5 * (x / sigma) ** 2)
    return (values / values.sum()).tolist()


def ssim(a: Tensor, b: Tensor, *, window: Window = "gaussian", size: int = 11, sigma: float = 1.5) -> Tensor:
    """Mean structural similarity (Wang et al. 2004, equation 13) of images (batch, channels, [z,] y, x) in [-1, 1].

    Moments are those within a window of `size` voxels along every axis (three of them in 3D), divided by its weights'
    sum; K1 = 0.01, K2 = 0.03, data range 2. Only windows that lie within the image count. Computed in float32 whatever
    the precision around it: variances are differences of near numbers.

    Raises
    ------
    ValueError
        for images smaller than the window.
    """
    if min(a.shape[2:]) < size:
        raise ValueError(f"images of {tuple(a.shape[2:])} voxels are smaller than the window of {size}")
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        moments = torch.stack([a, b, a * a, b * b, a * b])
        for axis in range(3, moments.ndim):
            moments = _smooth(moments, axis, weights(window, size, sigma))
        mean_a, mean_b, square_a, square_b, product = moments
        c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
        both = mean_a * mean_b
        squares = mean_a * mean_a + mean_b * mean_b
        spread = square_a + square_b - squares
        return (((2 * both + c1) * (2 * (product - both) + c2)) / ((squares + c1) * (spread + c2))).mean()


def _smooth(x: Tensor, axis: int, taps: list[float]) -> Tensor:
    """Weighted sums of neighbours along an axis, where all of them are there.

    Sums of shifted images: a convolution of one channel is far slower on a CPU, and inexact where a GPU takes TF32.
    """
    length = x.shape[axis] - len(taps) + 1
    total = x.narrow(axis, 0, length) * taps[0]
    for number, tap in enumerate(taps[1:], start=1):
        total = torch.add(total, x.narrow(axis, number, length), alpha=tap)
    return total
