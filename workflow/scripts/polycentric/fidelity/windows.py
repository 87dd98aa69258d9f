"""What the sliding window leaves behind: seams, dependence on the stride, disagreement of windows. numpy alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..tiling import Shape, borders, seams, starts

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis

__all__ = [
    "Convergence",
    "Hidden",
    "Shape",
    "borders",
    "convergence",
    "disagreement",
    "of",
    "seams",
    "starts",
    "steganography",
]


def of(synthesis: Synthesis) -> tuple[Shape, Shape]:
    """Window and stride with which a model made its views (z, y, x); flat ones have one voxel along z."""
    window, stride = synthesis.inference.used(synthesis.patch)
    full = [tuple(reversed((*size, 1) if len(size) == 2 else size)) for size in (window, stride)]
    return full[0], full[1]  # type: ignore[return-value]


@dataclass(frozen=True)
class Convergence:
    """Of a stride (z, y, x): windows, mean and largest difference from the finest stride within the mask, seams."""

    stride: Shape
    windows: int
    mean_hu: float
    largest_hu: float
    seams: float


def convergence(
    image: np.ndarray,
    translate: Callable[[np.ndarray, Shape], np.ndarray],
    strides: Sequence[Shape],
    *,
    window: Shape,
    within: np.ndarray,
    hounsfield: bool = True,
) -> list[Convergence]:
    """How the synthetic image depends on the stride, against the finest one (most windows) of `strides`.

    `translate(image, stride)` passes an image (z, y, x) through the generator. Seams are looked for in what it changed,
    or, of an image that has no HU, in what it made.
    """

    def count(stride: Shape) -> int:
        return int(np.prod([len(starts(n, w, s)) for n, w, s in zip(image.shape, window, stride, strict=True)]))

    ordered = sorted(set(strides), key=lambda s: (-count(s), s))
    reference = translate(image, ordered[0]).astype(np.float64)
    found = []
    for stride in ordered:
        made = reference if stride == ordered[0] else translate(image, stride).astype(np.float64)
        difference = np.abs(made - reference)[within]
        mean, largest = (float(f(difference)) if difference.size else float("nan") for f in (np.mean, np.max))
        found.append(
            Convergence(
                stride,
                count(stride),
                mean,
                largest,
                seams(made - image if hounsfield else made, within, window, stride),
            )
        )
    return found


def disagreement(
    image: np.ndarray, predict: Callable[[np.ndarray], np.ndarray], *, window: Shape, stride: Shape
) -> np.ndarray:
    """Standard deviation (z, y, x), float32, of the predictions of all windows that cover a voxel; 0 where one does.

    `predict` maps a window in HU to one of the same shape. Windows count alike. The volume must be as large as the
    window. Memory: two float64 volumes.
    """
    if any(n < w for n, w in zip(image.shape, window, strict=True)):
        raise ValueError(f"volume {image.shape} is smaller than the window {window}")
    mean = np.zeros(image.shape)
    squares = np.zeros(image.shape)
    counts = [np.zeros(n, dtype=np.int32) for n in image.shape]
    places = [starts(n, w, s) for n, w, s in zip(image.shape, window, stride, strict=True)]
    for axis, (found, length) in enumerate(zip(places, window, strict=True)):
        for start in found:
            counts[axis][start : start + length] += 1
    for origin in itertools.product(*places):
        at = tuple(slice(o, o + w) for o, w in zip(origin, window, strict=True))
        # differences from the source keep the sums of squares small
        change = predict(image[at]).astype(np.float64) - image[at]
        mean[at] += change
        squares[at] += change**2
    number = counts[0][:, None, None] * counts[1][:, None] * counts[2]
    mean /= number
    return np.sqrt(np.maximum(squares / number - mean**2, 0)).astype(np.float32)


@dataclass(frozen=True)
class Hidden:
    """How the way back depends on what nobody sees in a synthetic image.

    sigma_hu
        standard deviation of the noise that was added to the synthetic image.
    error_hu, error_with_noise_hu
        mean absolute difference of the reconstruction from the source, without and with noise.
    amplification
        change of the reconstruction over the noise, root mean squares: about 1 or less for a way back that reads what
        is visible, far above 1 for one that reads a hidden signal.
    """

    sigma_hu: float
    error_hu: float
    error_with_noise_hu: float
    amplification: float


def steganography(
    image: np.ndarray,
    forward: Callable[[np.ndarray], np.ndarray],
    backward: Callable[[np.ndarray], np.ndarray],
    rng: np.random.Generator,
    *,
    within: np.ndarray,
    sigmas_hu: Iterable[float] = (1.0, 2.0, 5.0),
) -> list[Hidden]:
    """Whether a cycle-GAN hides the source in invisible detail of its output (Chu et al. 2017, section 4).

    They found that a little noise on the output ruins the reconstruction, which the content alone would survive.
    Noise of at most some HU is far below that of the images; both generators map HU to HU.
    """
    synthetic = forward(image).astype(np.float64)
    plain = backward(synthetic).astype(np.float64)
    error = float(np.abs(plain - image)[within].mean())
    found = []
    for sigma in sigmas_hu:
        noise = rng.normal(0, sigma, image.shape)
        disturbed = backward(synthetic + noise).astype(np.float64)
        change = float(np.sqrt(((disturbed - plain)[within] ** 2).mean()))
        size = float(np.sqrt((noise[within] ** 2).mean()))
        found.append(Hidden(float(sigma), error, float(np.abs(disturbed - image)[within].mean()), change / size))
    return found
