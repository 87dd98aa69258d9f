"""A small classifier, trained many times at once: all repeats pass as one batched product. torch alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Plan:
    """Hidden nodes (none: logistic regression), weight of the absolute weights and biases, and the training."""

    hidden: tuple[int, ...]
    l1: float
    epochs: int
    batch: int
    learning_rate: float
    every: int


@dataclass
class Trained:
    """`epochs` (k,) at which was measured; by epoch and repeat (k, repeats) losses and scores of all samples.

    `scores` (k, repeats, samples) are probabilities of the class 1, `losses` (k, repeats, 2) the mean binary
    cross-entropies of the training and the validation samples.
    """

    epochs: np.ndarray
    scores: np.ndarray
    losses: np.ndarray


def train(
    features: np.ndarray,
    labels: np.ndarray,
    roles: np.ndarray,
    plan: Plan,
    rng: np.random.Generator,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train one classifier per repeat; the repeats share the samples and differ in roles, weights and order.

    Kalantar et al. 2023: fully connected layers with sigmoid activation and He uniform initial weights, absolute
    weights and biases in the loss, Adam, binary cross-entropy. Features are standardised by mean and deviation of the
    training samples of the repeat, which the authors do not say.

    Parameters
    ----------
    features : (samples, d).
    labels : (samples,) 0 or 1.
    roles : (repeats, samples) 0 training, 1 validation, 2 neither. Equal numbers of training samples in all repeats
        are not needed: an epoch of a repeat with fewer of them draws some anew.
    """
    repeats, samples = roles.shape
    x = torch.empty(repeats, samples, features.shape[1])
    for number, role in enumerate(roles):
        own = features[role == 0].astype(np.float64)
        spread = own.std(axis=0)
        scaled = (features - own.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
        x[number] = torch.from_numpy(np.clip(scaled, -10, 10).astype(np.float32))
    y = torch.from_numpy(labels.astype(np.float32))
    weights = _initial(features.shape[1], plan.hidden, repeats, rng)
    optimizer = torch.optim.Adam(weights, lr=plan.learning_rate)
    training = [np.flatnonzero(role == 0) for role in roles]
    most = max(len(t) for t in training)
    rows = torch.arange(repeats)[:, None]
    epochs, scores, losses = [], [], []
    for epoch in range(1, plan.epochs + 1):
        order = np.stack([_epoch(t, most, rng) for t in training])
        for start in range(0, most, plan.batch):
            chosen = torch.from_numpy(order[:, start : start + plan.batch])
            logits = _forward(x[rows, chosen], weights)
            # summed over repeats, which share nothing: each gets the gradient of its own mean
            loss = functional.binary_cross_entropy_with_logits(logits, y[chosen], reduction="none").mean(1).sum()
            if plan.l1:
                loss = loss + plan.l1 * sum(w.abs().sum() for w in weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        if epoch % plan.every == 0 or epoch == plan.epochs:
            with torch.inference_mode():
                logits = _forward(x, weights)
                entropy = functional.binary_cross_entropy_with_logits(logits, y.expand(repeats, -1), reduction="none")
            entropy = entropy.double().numpy()
            epochs.append(epoch)
            scores.append(torch.sigmoid(logits).double().numpy())
            losses.append([[_mean(e[r == role]) for role in (0, 1)] for e, r in zip(entropy, roles, strict=True)])
            if progress is not None:
                progress(epoch, plan.epochs)
    return Trained(np.array(epochs), np.array(scores), np.array(losses))


def _epoch(samples: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """All samples once in random order, and some again where the repeat has fewer than the others."""
    order = rng.permutation(samples)
    return np.concatenate([order, rng.choice(samples, length - len(order))]) if len(order) < length else order


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _initial(inputs: int, hidden: Sequence[int], repeats: int, rng: np.random.Generator) -> list[Tensor]:
    """Weights (repeats, in, out) and biases (repeats, 1, out), uniform within sqrt(6 / in) (He et al. 2015)."""
    weights, width = [], inputs
    for nodes in (*hidden, 1):
        limit = np.sqrt(6 / width)
        for shape in ((repeats, width, nodes), (repeats, 1, nodes)):
            values = torch.from_numpy(rng.uniform(-limit, limit, shape).astype(np.float32))
            weights.append(values.requires_grad_())
        width = nodes
    return weights


def _forward(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Logits (repeats, samples) of inputs (repeats, samples, d)."""
    for number in range(0, len(weights), 2):
        x = torch.baddbmm(weights[number + 1], x, weights[number])
        if number + 2 < len(weights):
            x = torch.sigmoid(x)
    return x[..., 0]
