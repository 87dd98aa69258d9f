"""Losses of the cycle-GAN."""

from __future__ import annotations

from torch import Tensor


def least_squares(verdicts: Tensor, real: bool) -> Tensor:
    """Mean squared distance of verdicts to 1 (real) or 0 (Mao et al. 2017, equation 2)."""
    return ((verdicts - float(real)) ** 2).mean()


def absolute(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference."""
    return (a - b).abs().mean()
