"""Analysis `synthesis-probe`: strides, seams, disagreement of windows, hidden signals. The generators are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from .. import anatomy, figures, ledger, tables, volumes
from ..artefacts import Artefacts
from ..bootstrap import estimate
from ..errors import UserError
from ..files import write_json
from ..jobs import SILENT, Log
from ..randomness import generator as stream
from ..tables import schemas
from ..training import cohort
from ..words import in_words
from . import windows

if TYPE_CHECKING:
    from ..config.synthesis import Synthesis
    from ..config.synthesis_analyses import SynthesisProbe

Row = dict[str, Any]


class Directions(Protocol):
    """The generators of a model as functions of images in HU; `back` is None without a backward one."""

    back: Callable[[np.ndarray], np.ndarray] | None  # by the model's own sliding window

    def translate(self, hu: np.ndarray, stride: windows.Shape) -> np.ndarray:
        """An image ([inputs,] z, y, x) through the forward one by sliding window of a stride (z, y, x)."""

    def predict(self, hu: np.ndarray) -> np.ndarray:
        """One window of the image through the forward one."""


def probe(
    name: str,
    settings: SynthesisProbe,
    *,
    synthesis: Synthesis,
    generators: Directions,
    seed: int,
    source: Sequence[Path],
    target: Sequence[Path],
    scans: Path,
    patients: Path,
    split: Path,
    ledgers: Sequence[Path],
    root: Path,
    folder: Path,
    settings_json: str,
    code: str,
    further: Mapping[str, tuple[list[Row], str]] | None = None,
    calibrated: Sequence[bool] = (True, True),
    log: Log = SILENT,
) -> None:
    """Examine the generators of a model on some scans of patients that they have not seen.

    Parameters
    ----------
    generators
        Both directions of the model.
    source, target
        Manifests of the source view and of the target view, whose scans tell whether synthetic images have HU.
    further
        For a model of several inputs, by scan: rows of the further ones, and why there are none. None for one input.
    calibrated
        Whether the views of source and target hold HU if they are of CT.

    Raises
    ------
    UserError
        when the model has seen a patient that is to be examined, or no scan is left.
    """
    where = f"analyses: {name}"
    translate, predict, back = generators.translate, generators.predict, generators.back
    parts = tables.read(split, schemas.SPLIT)
    unseen = set(parts.loc[parts["part"].isin(settings.parts), "patient"])
    everyone = cohort.cohort(scans, patients)
    chosen = cohort.select(everyone[everyone["patient"].isin(unseen)], synthesis.source.where, where)
    rows = tables.read_all(list(source), schemas.VIEWS)
    rows = rows[(rows["view"] == synthesis.source.view) & (rows["status"] == "ok") & rows["scan"].isin(chosen["scan"])]
    if further is not None:
        rows = rows[rows["scan"].map(lambda scan: not further[scan][1]).astype(bool)]
    rows = rows.sort_values("scan").drop_duplicates("patient").reset_index(drop=True)
    ledger.refuse_leaks(set(rows["patient"]), list(ledgers), where=where)
    if rows.empty:
        raise UserError(f"{where}: no scan of the source domain of unseen patients is left. Write other `parts`.")
    aim = cohort.select(everyone, synthesis.target.where, where)
    shown = tables.read_all(list(target), schemas.VIEWS)
    shown = shown[(shown["view"] == synthesis.target.view) & (shown["status"] == "ok")]
    aim = aim[aim["scan"].isin(shown["scan"])]
    target_hu = calibrated[1] and set(aim["modality"]) <= {"CT"}
    of_ct = set(chosen.loc[chosen["modality"] == "CT", "scan"]) if calibrated[0] else set()
    order = np.sort(stream(seed, "probe", name).permutation(len(rows))[: settings.scans])
    window, own = windows.of(synthesis)
    strides = list(dict.fromkeys([own, *(tuple(max(1, w // o) for w in window) for o in settings.overlaps)]))
    finest = min(strides, key=np.prod)
    out = Artefacts(folder, root)
    curves: list[dict[str, Any]] = []
    hidden: list[dict[str, Any]] = []
    apart: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for number, row in enumerate(rows.iloc[order].to_dict("records"), start=1):
        facts = {"centre": row["centre"], "patient": row["patient"], "scan": row["scan"]}
        source_hu = row["scan"] in of_ct
        hounsfield = source_hu and target_hu
        own_rows = [row, *(further[row["scan"]][0] if further is not None else ())]
        image, spacing = _cut([volumes.read(root / r["path"], r) for r in own_rows], settings.crop, window, source_hu)
        first = image if further is None else image[0]
        # other modalities have no HU: the body is found in what was made of them, if that has
        within = _body(first if source_hu else translate(image, own), source_hu or target_hu)
        if why := _why_not(first, within, window):
            left_out.append({"scan": row["scan"], "why": why})
            log.event("left out", scan=row["scan"], reason=why)
            continue
        for one in windows.convergence(image, translate, strides, window=window, within=within, hounsfield=hounsfield):
            share = min(s / w for s, w in zip(one.stride, window, strict=True) if w > 1)
            told = asdict(one) | {"stride": _name(one.stride)}
            curves.append({**facts, "own": one.stride == own, "stride_share": share, **told})
        map_hu = windows.disagreement(image, predict, window=window, stride=finest)
        tail = float(np.quantile(map_hu[within], 0.99))
        apart.append({**facts, "mean_hu": float(map_hu[within].mean()), "p99_hu": tail})
        if number <= settings.examples:
            path = folder / "figures" / f"disagreement-{number}.png"
            synthetic = translate(image, own)
            _picture(path, first, synthetic, map_hu, within, spacing, settings.window)
            caption = (
                f"Scan {row['scan']} of {row['centre']}: source, synthetic image, and standard deviation in HU of the "
                "predictions of all windows that cover a voxel, in the axial slice where windows disagree most."
            )
            out.add("picture", path, f"Disagreement of windows: {row['scan']}", caption)
        if back is not None and hounsfield and further is None:
            found = windows.steganography(
                image, lambda hu: translate(hu, own), back, stream(seed, "probe", name, row["scan"]),
                within=within, sigmas_hu=settings.sigmas_hu,
            )  # fmt: skip
            hidden += [{**facts, **asdict(h)} for h in found]
        log.progress("scans", number, len(order), scan=row["scan"])
    if not curves:
        raise UserError(
            f"{where}: none of {len(order)} scans can be examined ({'; '.join(sorted({o['why'] for o in left_out}))}). "
            "Windows can disagree only in scans that are at least as large as one; write a smaller inference window, "
            "or leave the analysis out."
        )
    convergence, noise, disagreement = pd.DataFrame(curves), pd.DataFrame(hidden), pd.DataFrame(apart)
    n = convergence["patient"].nunique()
    data = out.table(
        convergence, "tables/strides.csv", "Strides",
        f"Difference in HU from the finest stride within the body, and steps across borders of windows against steps "
        f"elsewhere (1: no seams), {n} scans; the model's own stride is {_name(own)}.",
    )  # fmt: skip
    out.table(disagreement, "tables/disagreement.csv", "Disagreement of windows", f"HU within the body, {n} scans.")
    if hidden:
        out.table(
            noise, "tables/noise.csv", "Noise on the synthetic image",
            "Error of the reconstruction in HU without and with noise on the synthetic image, and the change of the "
            f"reconstruction over the noise (root mean squares), {n} scans.",
        )  # fmt: skip
    path = folder / "figures" / "summary.svg"
    _figure(path, convergence, noise)
    out.add(
        "figure", path, "Strides, seams, hidden signals",
        f"{n} scans of unseen patients, a line each. Left: mean difference from the finest stride, by stride as share "
        "of the window; middle: steps of the change across borders of windows against elsewhere (1: no seams)"
        + ("; right: how much noise on the synthetic image grows on the way back (above 1: the way back reads what "
           "nobody sees)." if hidden else "."),
        data,
    )  # fmt: skip
    coarsest = convergence[convergence["stride"] == _name(max(strides, key=np.prod))]
    used = convergence[convergence["own"]]
    values = {
        "own_stride_mean_hu": used.set_index("patient")["mean_hu"],
        "own_stride_seams": used.set_index("patient")["seams"],
        "coarsest_stride_mean_hu": coarsest.set_index("patient")["mean_hu"],
        "coarsest_stride_seams": coarsest.set_index("patient")["seams"],
        "disagreement_mean_hu": disagreement.set_index("patient")["mean_hu"],
    }
    if hidden:
        least = noise[noise["sigma_hu"] == min(settings.sigmas_hu)].set_index("patient")
        values |= {"cycle_error_hu": least["error_hu"], "noise_amplification": least["amplification"]}
    estimates = {
        measure: _estimate(found.to_numpy(float), settings, stream(seed, "probe", name, measure), seed)
        for measure, found in values.items()
    }
    write_json(
        folder / "metrics.json",
        {
            "schema_version": 1,
            "kind": settings.kind,
            "synthesis": settings.synthesis,
            "summary": _sentences(estimates, own, finest),
            "parts": list(settings.parts),
            "patients": n,
            "left_out": left_out,
            "estimates": estimates,
            "definitions": {
                "own_stride_mean_hu": f"mean absolute difference in HU of the model's own stride ({_name(own)}, x by "
                f"y by z) from the finest ({_name(finest)}), within the body",
                "coarsest_stride_mean_hu": f"the same of the coarsest stride, {coarsest['stride'].iloc[0]}",
                "seams": "mean absolute step of synthetic minus source across borders of windows over that elsewhere",
                "disagreement_mean_hu": "mean over the body of the standard deviation of the predictions of all "
                f"windows that cover a voxel, stride {_name(finest)}",
                "cycle_error_hu": "mean absolute difference of source and reconstruction within the body",
                "noise_amplification": f"change of the reconstruction over noise of {min(settings.sigmas_hu):g} HU on "
                "the synthetic image, root mean squares (Chu et al. 2017)",
            },
        },
    )
    out.write()
    ledger.write(
        folder / "ledger.json", name=name, stage=settings.kind, split=synthesis.split, seen={}, upstream=ledgers,
        settings=settings_json, code=code,
    )  # fmt: skip


def _name(stride: windows.Shape) -> str:
    return "x".join(map(str, reversed(stride)))


def _estimate(values: np.ndarray, settings: SynthesisProbe, rng: np.random.Generator, seed: int) -> dict[str, Any]:
    values = values[np.isfinite(values)]
    return estimate(
        lambda i: float(values[i].mean()), (len(values),), rng, resamples=settings.bootstrap, seed=seed,
        method="mean over patients, one scan each",
    )  # fmt: skip


def _sentences(estimates: dict[str, Any], own: windows.Shape, finest: windows.Shape) -> list[str]:
    told = []
    if own != finest:
        told.append(f"The stride {_name(own)} changes images by {in_words(estimates['own_stride_mean_hu'])} HU.")
    if estimates["own_stride_seams"]["value"] is not None:  # whole slices have no borders
        told.append(f"Steps at borders of windows are {in_words(estimates['own_stride_seams'])} times those elsewhere.")
    if "noise_amplification" in estimates:
        grown = in_words(estimates["noise_amplification"])
        told.append(f"On the way back, noise that nobody sees grows {grown} times.")
    return told


def _why_not(image: np.ndarray, within: np.ndarray, window: windows.Shape) -> str:
    """Why an image cannot be examined; empty if it can."""
    if any(n < w for n, w in zip(image.shape, window, strict=True)):
        return "smaller than the window"
    return "" if within.any() else "no body in the image"


def _body(image: np.ndarray, hounsfield: bool) -> np.ndarray:
    return anatomy.body(image) if hounsfield else np.ones(image.shape, dtype=bool)


def _cut(
    inputs: Sequence[volumes.Volume], crop: Sequence[int], window: windows.Shape, hounsfield: bool
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The middle of the body (of the image without HU), as large as the window at least where the scan is.

    Returns the image (z, y, x) as float32, (inputs, z, y, x) if there are several, and its spacing (x, y, z).
    """
    hu = inputs[0].array.astype(np.float32)
    within = anatomy.body(hu) if hounsfield else np.zeros(hu.shape, dtype=bool)
    places = np.argwhere(within) if within.any() else np.argwhere(np.ones(hu.shape, bool))
    middle = (places.min(axis=0) + places.max(axis=0) + 1) // 2
    at = []
    for axis, size in enumerate(reversed(tuple(crop))):
        length = min(hu.shape[axis], max(size, window[axis]))
        start = int(np.clip(middle[axis] - length // 2, 0, hu.shape[axis] - length))
        at.append(slice(start, start + length))
    cut = [np.ascontiguousarray(volume.array[tuple(at)], dtype=np.float32) for volume in inputs]
    return cut[0] if len(cut) == 1 else np.stack(cut), inputs[0].geometry.spacing


def _picture(
    path: Path, image: np.ndarray, synthetic: np.ndarray, apart: np.ndarray, within: np.ndarray,
    spacing: Sequence[float], window: tuple[float, float],
) -> None:  # fmt: skip
    z = int(np.argmax(np.where(within, apart, 0).sum(axis=(1, 2))))
    top = max(1.0, float(np.quantile(apart[within], 0.999)))
    plane = (float(spacing[0]), float(spacing[1]))
    panels = [
        figures.Panel(image[z], plane, window, "source"),
        figures.Panel(synthetic[z], plane, window, "synthetic"),
        figures.Panel(apart[z], plane, (-top, top), "disagreement of windows", map="difference"),
    ]
    figures.picture(path, panels, columns=3)


def _figure(path: Path, convergence: pd.DataFrame, noise: pd.DataFrame) -> None:
    panels = 3 if len(noise) else 2
    fig, axes = figures.new(width_mm=60 * panels, height_mm=60, columns=panels)
    for column, axis, text in (
        ("mean_hu", axes[0], "mean difference from the finest, HU"),
        ("seams", axes[1], "steps at borders against elsewhere"),
    ):
        for number, (_, own) in enumerate(convergence.groupby("scan", sort=True)):
            own = own.sort_values("stride_share")
            axis.plot(own["stride_share"], own[column], "o-", color=figures.COLOURS[number % 7], linewidth=1)
        axis.set_xlabel("stride, share of the window")
        axis.set_ylabel(text)
    axes[1].axhline(1, color="#555555", linewidth=0.8, linestyle="--")
    if len(noise):
        for number, (_, own) in enumerate(noise.groupby("scan", sort=True)):
            own = own.sort_values("sigma_hu")
            axes[2].plot(own["sigma_hu"], own["amplification"], "o-", color=figures.COLOURS[number % 7], linewidth=1)
        axes[2].axhline(1, color="#555555", linewidth=0.8, linestyle="--")
        axes[2].set_xlabel("noise on the synthetic image, HU")
        axes[2].set_ylabel("change of the way back over noise")
    figures.save(fig, path)
