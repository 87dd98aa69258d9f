"""What a generator must have learned: measures by patient, checks with intervals, and what must fail them."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import learning_phantoms as phantoms
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
from polycentric import anatomy
from polycentric.bootstrap import estimate
from polycentric.randomness import generator as stream

BLOOD_HU, TISSUE_HU = 15.0, 10.0
PURE, NONE = 0.9, 0.01  # share of blood in a voxel of the blood pool, and of one outside of all vessels
STILL = ("fat", "muscle", "lung", "bone", "unenhanced organs")
CALIBRES = {"under 3 mm": (0, 3), "3 to 6 mm": (3, 6), "over 6 mm": (6, 99)}
RESAMPLES = 2000
SLICES = 8  # of a patient, for the classifier
FOLDS, DIVISIONS = 4, 6


@dataclass(frozen=True)
class Check:
    """An estimate with its interval, and whether the interval lies inside the limit."""

    name: str
    unit: str
    value: float | None
    lower: float | None
    upper: float | None
    limit: str
    passed: bool
    n: int


def by_patient(person: phantoms.Patient, image: np.ndarray) -> dict[str, float]:
    """Errors of a synthetic scan without contrast against the noiseless truth, and changes against the source, HU.

    blood: mean over the blood pool of image minus truth. Tissues: mean change outside of vessels of what takes up no
    contrast agent; `change`: mean absolute change there, voxel by voxel. Enhanced organs: error against the truth,
    since they have to change.
    """
    source = person.scan(contrast=True).astype(np.float64)
    error, change = image - person.native, image - source
    pool = person.vessel >= PURE
    outside = person.vessel < NONE
    found = {"blood": float(error[pool].mean()), "blood of the source": float((source - person.native)[pool].mean())}
    for name, (low, high) in CALIBRES.items():
        own = (person.vessel > 0.3) & (person.radius_mm > low) & (person.radius_mm <= high)
        found[f"blood, vessels {name}"] = float(error[own].mean()) if own.any() else np.nan
    still = outside & np.isin(person.tissue, [phantoms.TISSUES[t] for t in STILL])
    found["change"] = float(np.abs(change[still]).mean())
    for tissue in STILL:
        own = outside & (person.tissue == phantoms.TISSUES[tissue])
        found[f"change of {tissue}"] = float(change[own].mean())
    organs = outside & (person.tissue == phantoms.ORGAN)
    found["enhanced organs"] = float(error[organs].mean())
    twin = person.scan(contrast=False)
    within = anatomy.body(twin)
    found["mae_to_twin"] = float(np.abs(image[within] - twin[within].astype(np.float64)).mean())
    return found


def features(scans: list[np.ndarray], extractor: Any) -> np.ndarray:
    """(patients, slices, d) features of evenly spaced slices, by the fixed network of the evaluation."""
    from polycentric.profiles import slices

    found = []
    for hu in scans:
        within = anatomy.body(hu)
        chosen = np.linspace(2, len(hu) - 3, SLICES).round().astype(int)
        found.append(extractor(np.stack([slices.grey(hu[z], within[z], (-1000.0, 1000.0)) for z in chosen])))
    return np.stack(found)


def scores(one: np.ndarray, other: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean probability of being of the first kind, for every patient by classifiers that have not seen the patient.

    Logistic regression on the features of slices, four-fold by patient, mean over six divisions; divisions and streams
    are the same for every set of images, so that equal images are equally detectable.
    """
    from polycentric.fidelity.classifier import Plan, train

    sizes = len(one), len(other)
    people = np.repeat(np.arange(sum(sizes)), SLICES)
    data = np.concatenate([one, other]).reshape(len(people), -1)
    labels = np.repeat(np.r_[np.ones(sizes[0]), np.zeros(sizes[1])], SLICES).astype(int)
    rng = stream(seed, "learning", "detectability")
    roles = []
    for _ in range(DIVISIONS):
        # the two kinds divided alike, so that both tasks see the same division
        fold = np.concatenate([rng.permutation(np.arange(n) % FOLDS) for n in sizes])
        roles += [np.where(fold[people] == k, 2, 0) for k in range(FOLDS)]
    trained = train(
        data, labels, np.array(roles), Plan((), 1e-4, 200, 64, 1e-3, 200), stream(seed, "learning", "classifier")
    )
    unseen = np.where(np.array(roles) == 2, trained.scores[-1], np.nan)
    own = np.array([np.nanmean(unseen[:, people == p]) for p in range(sum(sizes))])
    return own[: sizes[0]], own[sizes[0] :]


def area(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def judge(
    people: list[phantoms.Patient], images: list[np.ndarray], others: list[np.ndarray], extractor: Any, *, seed: int
) -> dict[str, Any]:
    """All checks of a set of synthetic scans (of `people`), beside real scans without contrast of other patients."""
    rows = [by_patient(p, image.astype(np.float64)) for p, image in zip(people, images, strict=True)]
    table = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    checks, told = [], {}

    def interval(name: str, values: np.ndarray) -> dict[str, Any]:
        return estimate(
            lambda i: float(np.nanmean(values[i])), (len(values),), stream(seed, "learning", name),
            resamples=RESAMPLES, seed=seed, method="mean over patients",
        )  # fmt: skip

    for name, values, limit in (
        ("blood pool, error of a patient", np.abs(table["blood"]), BLOOD_HU),
        ("tissue outside vessels, absolute change", table["change"], TISSUE_HU),
        *((f"{t} outside vessels, mean change", table[f"change of {t}"], TISSUE_HU) for t in STILL),
    ):
        found = interval(name, values)
        inside = found["upper"] is not None and found["upper"] < limit and found["lower"] > -limit
        range_hu = f"< {limit:g}" if (values >= 0).all() else f"within {limit:g}"
        checks.append(_check(name, "HU", found, range_hu, inside))
    for name in ("blood", "blood of the source", *(f"blood, vessels {c}" for c in CALIBRES), "enhanced organs"):
        told[name] = interval(name, table[name])
    told["mae_to_twin"] = interval("mae", table["mae_to_twin"])

    real = features(others, extractor)
    contrast = scores(features([p.scan(contrast=True) for p in people], extractor), real, seed)
    synthetic = scores(features(images, extractor), real, seed)
    counts = len(people), len(others)
    for name, (a, b) in (("contrast against non-contrast", contrast), ("synthetic against non-contrast", synthetic)):
        told[name] = estimate(
            lambda i, j, a=a, b=b: area(a[i], b[j]), counts, stream(seed, "learning", "area"),
            resamples=RESAMPLES, seed=seed, method="area under the ROC curve",
        )  # fmt: skip
    lower = estimate(
        lambda i, j: area(contrast[0][i], contrast[1][j]) - area(synthetic[0][i], synthetic[1][j]), counts,
        stream(seed, "learning", "area"), resamples=RESAMPLES, seed=seed, method="difference of areas, paired",
    )  # fmt: skip
    below = lower["lower"] is not None and lower["lower"] > 0
    checks.append(_check("detectability below that of contrast, difference of areas", "", lower, "> 0", below))
    return {
        "passed": all(c.passed for c in checks),
        "checks": [asdict(c) for c in checks],
        "beside": told,
        "by_patient": [{"patient": p.number, **row} for p, row in zip(people, rows, strict=True)],
    }


def gain(truths: list[phantoms.Slab], one: list[np.ndarray], several: list[np.ndarray], *, seed: int) -> dict[str, Any]:
    """What a further input gains: mean absolute error within the inserts, one input minus several, HU."""
    errors = [
        np.array([np.abs(image[t.inserts] - t.truth[t.inserts]).mean() for t, image in zip(truths, made, strict=True)])
        for made in (one, several)
    ]
    better = errors[0] - errors[1]
    found = [
        estimate(
            lambda i, v=v: float(v[i].mean()), (len(v),), stream(seed, "learning", "gain"),
            resamples=RESAMPLES, seed=seed, method="mean over patients",
        )
        for v in (better, *errors)
    ]  # fmt: skip
    passed = found[0]["lower"] is not None and found[0]["lower"] > 0
    check = _check("error in inserts, one input minus both", "HU", found[0], "> 0", passed)
    return {"check": asdict(check), "one": found[1], "several": found[2]}


def _check(name: str, unit: str, found: dict[str, Any], limit: str, passed: bool) -> Check:
    return Check(name, unit, found["value"], found["lower"], found["upper"], limit, bool(passed), found["n"])
