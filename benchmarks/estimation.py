"""Speed of the statistics: `python benchmarks/estimation.py [--repeats 5]`; fails when a limit is passed.

CPU seconds of one thread, the best of some repeats; the limits are those a study of 1,000 patients and 1,200 features
needs to stay interactive.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
os.environ |= dict.fromkeys(THREADS, "1")
sys.path[0] = str(Path(__file__).parents[1] / "workflow" / "scripts")  # not this folder: `radiomics` is PyRadiomics

import numpy as np  # noqa: E402
from polycentric import concordance, univariate  # noqa: E402
from polycentric.analysis import calibration, decision, roc  # noqa: E402
from polycentric.bootstrap import counts  # noqa: E402


def cases() -> list[tuple[str, float, Callable[[], object]]]:
    """Name, limit in seconds, and what is timed."""
    rng = np.random.default_rng(0)
    n = 1000
    y = rng.random(n) < 0.4
    first, second = (np.round(rng.normal(size=n) + 0.8 * y, 3) for _ in range(2))
    p = 1 / (1 + np.exp(-first))
    subjects = rng.normal(size=(100, 1, 1200)) + rng.normal(size=(100, 2, 1200))
    features = rng.normal(size=(2000, 1200))
    some = np.where(rng.random(features.shape) < 0.02, np.nan, features)
    thresholds = np.linspace(0.01, 0.99, 99)
    return [
        ("2,000 bootstraps of the AUC, 1,000 patients", 0.5,
         lambda: roc.bootstrap(y, first, roc.weights(y, 2000, rng), level=0.95, seed=0)),
        ("2,000 paired bootstraps of two AUCs, 1,000 patients", 1.0,
         lambda: roc.bootstrap_difference(y, first, second, roc.weights(y, 2000, rng), level=0.95, seed=0)),
        ("paired DeLong, 1,000 patients", 0.005, lambda: roc.delong_paired(y, first, second)),
        ("ICC and CCC of 1,200 features, 100 patients twice", 1.0, lambda: concordance.concordance(subjects)),
        ("Spearman matrix, 1,200 features x 2,000 patients", 2.0, lambda: univariate.spearman(features)),
        ("the same with 2 % missing at random", 20.0, lambda: univariate.spearman(some)),
        ("univariate AUC with DeLong, 1,200 x 2,000", 2.0, lambda: univariate.roc(features, rng.random(2000) < 0.5)),
        ("calibration with 500 bootstraps, 1,000 patients", 10.0,
         lambda: calibration.assess(y, p, counts(y, 500, rng), level=0.95, seed=0)),
        ("decision curve with 1,000 bootstraps, 1,000 patients", 2.0,
         lambda: decision.curves(y, p, thresholds, rng, samples=1000)),
    ]  # fmt: skip


def seconds(function: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats, slow = parser.parse_args().repeats, 0
    print("| what | CPU s | limit |\n|---|---|---|")
    for name, limit, function in cases():
        taken = seconds(function, repeats)
        slow += taken > limit
        print(f"| {name} | {taken:.3g}{' **too slow**' * (taken > limit)} | {limit:g} |", flush=True)
    return int(slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
