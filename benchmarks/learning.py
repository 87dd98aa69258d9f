"""Does synthesis learn? `python benchmarks/learning.py --seed 1 [--minutes 20] [--model single|multi]`

Trains on simulated patients whose truth is known (`learning_phantoms.py`, frozen before anything was tuned) by the
library's own training and inference, with the settings of `learning.yaml`, and judges unseen patients
(`learning_checks.py`). `single`: contrast is taken out of CT; the images as they are and a shift of all values must
fail the same checks. `multi`: CT from two MR sequences against CT from one of them. Prints a table and writes JSON with
all figures, whether they pass or not; the exit status is 0 only where all checks hold.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import learning_checks as checks
import learning_cohort as cohorts
import learning_phantoms as phantoms
import numpy as np
import yaml
from polycentric.config.profiles import FeatureNetwork
from polycentric.config.synthesis import Synthesis
from polycentric.files import sha256_file, write_json
from polycentric.jobs import Log

HERE = Path(__file__).parent
MEASURED = 20
# view or views of the source by model; the first two are what one sequence alone reaches
MR_MODELS = {"first": ["first"], "second": ["second"], "both": ["first", "second"]}


def settings_of(kind: str, **changes: Any) -> dict[str, Any]:
    return yaml.safe_load((HERE / "learning.yaml").read_text())[kind] | changes


def of_length(given: dict[str, Any], iterations: int) -> Synthesis:
    """These settings for so many iterations; a schedule is shortened alike."""
    schedule = {k: v * iterations // given["iterations"] if k != "kind" else v for k, v in given["schedule"].items()}
    return Synthesis.model_validate(given | {"iterations": iterations, "schedule": schedule})


def train(
    cohort: cohorts.Cohort, name: str, given: dict[str, Any], options: argparse.Namespace, views: list[str]
) -> tuple[dict[int, np.ndarray], dict[str, Any]]:
    """Train for the given time, translate the unseen patients; images by number, and how long it took."""
    folder = options.folder / name
    log = Log(name=name)
    if options.iterations:
        iterations, rate = options.iterations, None
    else:
        seconds = []
        for count in (1, 1 + MEASURED):
            start = time.monotonic()
            trial = of_length(given, count)
            cohorts.train(
                cohort, f"{name}-rate", trial, seed=options.seed, folder=folder / f"rate-{count}-{start:.0f}",
                views=[*views, "ct"], log=log,
            )  # fmt: skip
            seconds.append(time.monotonic() - start)
        rate = MEASURED / max(1e-3, seconds[1] - seconds[0])
        iterations = max(1, min(given["iterations"], int(rate * options.minutes * 60)))
    settings = of_length(given, iterations)
    start = time.monotonic()
    cohorts.train(
        cohort, name, settings, seed=options.seed, folder=folder, views=list(dict.fromkeys([*views, "ct"])), log=log
    )
    trained = time.monotonic() - start
    images = cohorts.translate(cohort, name, settings, folder=folder, views=views, log=log)
    told = {
        "iterations": iterations, "rate_per_s": rate, "training_minutes": trained / 60,
        "settings": settings.model_dump(mode="json"),
    }  # fmt: skip
    return images, told


def single(options: argparse.Namespace) -> tuple[bool, dict[str, Any]]:
    """Take the contrast out; judge that, and what must fail."""
    from polycentric.profiles.extractor import load

    cohort = cohorts.chests(options.seed, options.folder / "data", options.patients)
    made, told = train(cohort, "decontrast", settings_of("single"), options, ["ct"])
    people = [phantoms.patient(options.seed, number) for number in made]
    others = [cohort.image("ct", number) for number in cohort.numbers["test", "no"]]
    # the shift that is best for blood: by the mean enhancement, which no method would know
    shift = np.mean([p.enhancement_hu * p.gain[p.vessel >= checks.PURE].mean() for p in people])
    contrast = [p.scan(contrast=True) for p in people]
    extractor = load(FeatureNetwork())
    found = {
        name: checks.judge(people, images, others, extractor, seed=options.seed)
        for name, images in (
            ("synthetic", list(made.values())),
            ("identity", contrast),
            ("shift", [np.rint(image - shift).astype(np.int16) for image in contrast]),
        )
    }
    for name, one in found.items():
        rows = [[*_row(c)] for c in one["checks"]]
        _table(f"{name}: {'passes' if one['passed'] else 'fails'}", rows)
    beside = [
        [name, _interval(f), "", ""] for name, f in found["synthetic"]["beside"].items()
    ]  # fmt: skip
    _table("beside (not checked)", beside)
    passed = found["synthetic"]["passed"] and not found["identity"]["passed"] and not found["shift"]["passed"]
    return passed, {"training": told, "shift_hu": float(shift), "judged": found}


def multi(options: argparse.Namespace) -> tuple[bool, dict[str, Any]]:
    """CT from both sequences against CT from either."""
    cohort = cohorts.slabs(options.seed, options.folder / "data", options.patients)
    made, told = {}, {}
    for name, views in MR_MODELS.items():
        given = settings_of("mr") | settings_of("mr_inputs")[name]
        made[name], told[name] = train(cohort, name, given, options, views)
    truths = [phantoms.slab(options.seed, number) for number in made["both"]]
    found = {
        name: checks.gain(truths, list(made[name].values()), list(made["both"].values()), seed=options.seed)
        for name in ("first", "second")
    }
    for name, one in found.items():
        rows = [[f"error of {name} alone, HU", _interval(one["one"]), "", ""]]
        rows += [["error of both, HU", _interval(one["several"]), "", ""]]
        _table(f"both against {name}", [_row(one["check"]), *rows])
    beside = {
        "by_brightness": {name: by_brightness(truths, views) for name, views in MR_MODELS.items()},
        "mean_hu": {name: by_tissue(truths, list(images.values())) for name, images in made.items()},
    }
    _table("error of the best function of a voxel's brightness, HU (not checked)", _beside(beside["by_brightness"]))
    for name, means in beside["mean_hu"].items():
        _table(f"mean HU by {name} (not checked)", _beside(means))
    return all(one["check"]["passed"] for one in found.values()), {"training": told, "judged": found, "beside": beside}


def by_brightness(truths: list[phantoms.Slab], views: list[str]) -> float:
    """Mean absolute error in the inserts of the best function of a voxel's own brightness, HU.

    Medians of the truth by steps of 100 units of each sequence, taken of the very patients that are judged: what a
    translation that looks at single voxels can at best reach.
    """
    steps = [np.concatenate([getattr(t, view)[t.inserts] for t in truths]) // 100 for view in views]
    truth = np.concatenate([t.truth[t.inserts] for t in truths])
    _, groups = np.unique(np.stack(steps), axis=1, return_inverse=True)
    medians = np.array([np.median(truth[groups == group]) for group in range(groups.max() + 1)])
    return float(np.abs(truth - medians[groups]).mean())


def by_tissue(truths: list[phantoms.Slab], images: list[np.ndarray]) -> dict[str, float]:
    """Mean HU of images in the inserts of each tissue, which is told by the truth."""
    hu = {name: values[0] for name, values in phantoms.MR_KINDS.items()}
    truth = np.concatenate([t.truth[t.inserts] for t in truths])
    made = np.concatenate([image[t.inserts] for t, image in zip(truths, images, strict=True)])
    nearest = np.abs(truth[:, None] - np.array(list(hu.values()))).argmin(1)
    return {f"{name}, {value:g} HU": float(made[nearest == n].mean()) for n, (name, value) in enumerate(hu.items())}


def _interval(found: dict[str, Any]) -> str:
    return " ".join("-" if found[k] is None else f"{found[k]:.3g}" for k in ("value", "lower", "upper"))


def _beside(found: dict[str, float]) -> list[list[str]]:
    return [[name, f"{value:.3g}", "", ""] for name, value in found.items()]


def _row(check: dict[str, Any]) -> list[str]:
    limit = f"{check['limit']} {check['unit']}".strip()
    return [check["name"], _interval(check), limit, "yes" if check["passed"] else "NO"]


def _table(title: str, rows: list[list[str]]) -> None:
    print(f"\n{title}")
    print(f"{'':62}{'value, 95 % interval':26}{'limit':16}passed")
    for name, interval, limit, passed in rows:
        print(f"{name:62}{interval:26}{limit:16}{passed}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, choices=phantoms.SEEDS, required=True)
    parser.add_argument("--minutes", type=float, default=20.0, help="time of training a model; measured beforehand")
    parser.add_argument("--iterations", type=int, help="instead of --minutes, to repeat a run exactly")
    parser.add_argument("--model", choices=("single", "multi"), default="single")
    parser.add_argument("--patients", type=int, help="of each group at most, to try the script out; never a result")
    parser.add_argument("--folder", type=Path, help="work folder; an interrupted run resumes there")
    parser.add_argument("--out", type=Path, help="JSON; empty: result.json in the folder")
    options = parser.parse_args()
    options.folder = options.folder or Path(tempfile.gettempdir()) / f"learning-{options.model}-{options.seed}"
    passed, record = {"single": single, "multi": multi}[options.model](options)
    import torch

    record |= {
        "passed": passed, "model": options.model, "seed": options.seed, "patients": options.patients,
        "simulator_sha256": sha256_file(phantoms.__file__),
        "machine": f"{platform.machine()}, torch {torch.__version__}",
    }  # fmt: skip
    write_json(options.out or options.folder / "result.json", record)
    print(f"\n{options.model}, seed {options.seed}: {'all checks hold' if passed else 'NOT REACHED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
