"""Losses of segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def soft_dice(logits: Tensor, truth: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice coefficient of the whole batch (Milletari et al. 2016, equation 2, without squares).

    Taken over the batch, not per patch: a patch without the region would give a loss of any single false voxel.
    `smooth`, in voxels, keeps a batch without the region defined.
    """
    probability = torch.sigmoid(logits)
    both = (probability * truth).sum()
    return 1 - (2 * both + smooth) / (probability.sum() + truth.sum() + smooth)


def cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy."""
    return functional.binary_cross_entropy_with_logits(logits, truth)
