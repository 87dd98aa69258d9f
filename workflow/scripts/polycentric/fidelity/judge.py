"""One set of images against real ones: every distance beside that between two halves of the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..distances import densities, frechet, kernel
from .resampling import Draws, centred, fact
from .sets import ImageSet, mean_density, stack

Values = tuple[np.ndarray, np.ndarray]  # of the images and of real ones, each (draws, layers)
CHUNK = 50


@dataclass(frozen=True)
class Metric:
    """A distance by layer: `form` ratio to the real images' own, or difference from it; `better` lower or higher."""

    name: str
    text: str
    density: str
    function: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    form: str = "ratio"
    better: str = "lower"


def metrics_of(bins: int, distance: str) -> list[Metric]:
    """The distances by layer; `distance` is what a Frechet distance of the features is called, empty without any."""
    kl, correlation = densities.kl_divergence, densities.correlation
    found = [
        Metric("kl_fine", f"KL divergence, {bins} bins (nats)", "fine", kl),
        Metric("kl_coarse", "KL divergence, 3 bins (nats)", "coarse", kl),
        Metric("histogram_correlation", "Histogram correlation", "fine", correlation, better="higher"),
        Metric("histogram_intersection", "Histogram intersection", "fine", densities.intersection, better="higher"),
        Metric("spectral_correlation", "Correlation of log spectra", "plane", correlation, better="higher"),
        Metric("log_psd", "Log power spectrum, distance (decades)", "radial", densities.mean_difference),
    ]
    if distance:
        title = "Kernel distance, " + distance.removeprefix("FD_").replace("FID", "Inception v3 of 2015")
        found.append(Metric("kernel", title, "", None, form="difference"))
    return found


def by_layer(metric: Metric, images: ImageSet, target: ImageSet, draws: Sequence[Draws]) -> list[Values]:
    """Distances of `images` and of other real images to the same real images, by layer, for each set of draws."""
    if metric.function is None:
        return _kernel(images, target, draws)
    found = []
    for one in draws:
        parts = [_density(metric, images, target, one.part(k, k + CHUNK)) for k in range(0, len(one), CHUNK)]
        found.append(tuple(one.averaged(np.concatenate([p[k] for p in parts])) for k in (0, 1)))
    return found  # type: ignore[return-value]


def _density(metric: Metric, images: ImageSet, target: ImageSet, draws: Draws) -> Values:
    reference = mean_density(target.densities[metric.density], draws.reference)
    other = mean_density(target.densities[metric.density], draws.other)
    own = mean_density(images.densities[metric.density], draws.images)
    return metric.function(own, reference), metric.function(other, reference)  # type: ignore[misc]


def _kernel(images: ImageSet, target: ImageSet, draws: Sequence[Draws]) -> list[Values]:
    layers = images.slices.shape[1]
    found = [(np.full((len(d), layers), np.nan), np.full((len(d), layers), np.nan)) for d in draws]
    same = np.array([[p == q for q in target.patients] for p in images.patients])
    for layer in range(layers):
        own, real = (
            [f[k == layer].astype(np.float64) for f, k in zip(s.features, s.layer, strict=True)]
            for s in (images, target)
        )
        within = kernel.Blocks.of(own, own, np.eye(len(own), dtype=bool))
        within_real = kernel.Blocks.of(real, real, np.eye(len(real), dtype=bool))
        across = kernel.Blocks.of(own, real, same)
        for one, (value, baseline) in zip(draws, found, strict=True):
            reference = within_real.mean(one.reference, one.reference)
            value[:, layer] = (
                within.mean(one.images, one.images) + reference - 2 * across.mean(one.images, one.reference)
            )
            baseline[:, layer] = (
                within_real.mean(one.other, one.other) + reference - 2 * within_real.mean(one.other, one.reference)
            )
    return [(one.averaged(value), one.averaged(baseline)) for one, (value, baseline) in zip(draws, found, strict=True)]


def summarise(
    metric: Metric, values: list[Values], *, n: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows by layer, and the estimate over layers, from the values of the repeats and of the bootstrap.

    Over layers: the mean distance against the mean of the real images' own, over the layers where both are defined.
    """
    (value, baseline), (drawn, drawn_baseline) = values
    relative = metric.form == "ratio"

    def compare(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(b > 0, a / b, np.nan) if relative else a - b

    with np.errstate(invalid="ignore"):
        means, real = value.mean(axis=0), baseline.mean(axis=0)
    estimates = compare(means, real)
    rows = []
    for layer, estimate in enumerate(estimates):
        chosen = compare(drawn[:, layer], drawn_baseline[:, layer])
        lower, upper = centred(float(estimate), chosen, relative=relative)
        rows.append(
            {"layer": layer + 1, "value": means[layer], "baseline": real[layer]}
            | {"against_baseline": estimate, "lower": lower, "upper": upper}
        )
    defined = np.isfinite(means) & np.isfinite(real)
    text = "ratio of the mean over layers to that of real images" if relative else "mean difference from real images"
    text = (
        f"{metric.text}; {text}, equal numbers of patients, mean over random halves; percentile bootstrap of patients"
    )
    if not defined.any():
        return rows, fact(np.nan, (np.nan, np.nan), method=text, n=n, seed=seed)
    overall = float(compare(means[defined].mean(), real[defined].mean()))
    some = compare(drawn[:, defined].mean(axis=1), drawn_baseline[:, defined].mean(axis=1))
    facts = fact(overall, centred(overall, some, relative=relative), method=text, n=n, seed=seed)
    facts |= {"images": float(means[defined].mean()), "real": float(real[defined].mean()), "form": metric.form}
    return rows, facts | {"better": metric.better if relative else "lower", "layers": int(defined.sum())}


def pooled_frechet(
    name: str, images: list[np.ndarray], target: list[np.ndarray], draws: Sequence[Draws], *, seed: int
) -> dict[str, Any]:
    """Frechet distance of all slices together: ratio to that of real images, of equal numbers of patients.

    `images` and `target` hold (slices, d) by patient; the first of `draws` gives the estimate, the second its interval.
    """
    found = []
    for one in draws:
        pairs = []
        for i, r, o in zip(one.images, one.reference, one.other, strict=True):
            sides = [stack(images, i), stack(target, r), stack(target, o)]
            few = min(map(len, sides)) < 2
            pairs.append([np.nan] * 2 if few else [frechet.of_samples(sides[k], sides[1]) for k in (0, 2)])
        found.append(one.averaged(np.array(pairs)))
    value, real = found[0].mean(axis=0)
    ratio = float(value / real) if real > 0 else np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = found[1][:, 0] / found[1][:, 1]
    text = f"{name} of all slices; ratio to that of real images, equal numbers; percentile bootstrap of patients"
    facts = fact(ratio, centred(ratio, drawn, relative=True), method=text, n=len(images) + len(target), seed=seed)
    return facts | {"images": float(value), "real": float(real), "form": "ratio", "better": "lower"}
