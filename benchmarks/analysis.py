"""Speed of the analyses of tables, as tables in Markdown; fails when a limit is passed.

    python benchmarks/analysis.py [statistics] [comparison] [permutations] [--repeats 20] [--permutations 1000]

CPU seconds of one thread. `statistics`: what a study of 1,000 patients and 1,200 features needs to stay interactive,
the best of five. `comparison`: the classifiers of study 1, seven models, 160 patients, 122 features, folds of 10
repeated 20 times, correlation and Kendall's rank in every fold, 200 trees. `permutations`: runs of a LASSO chain on as
many patients and features with permuted outcomes, through the tables of a study, in shards as a cluster makes them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# not this folder: `radiomics` is PyRadiomics
sys.path[0] = str(Path(__file__).parents[1] / "workflow" / "scripts")
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from polycentric import concordance, tables, univariate  # noqa: E402
from polycentric.analysis import calibration, classifiers, classify_null, decision, roc, tuning  # noqa: E402
from polycentric.analysis.schemas import PERMUTATIONS  # noqa: E402
from polycentric.bootstrap import counts  # noqa: E402
from polycentric.config.classification import ClassificationAnalysis  # noqa: E402
from polycentric.config.clinical import read_outcome  # noqa: E402
from polycentric.jobs import Log  # noqa: E402
from polycentric.tables.schemas import FEATURES, PATIENTS, SPLIT  # noqa: E402

MODELS = ("logistic", "linear-svm", "random-forest", "pls-da", "ridge", "lasso", "elastic-net")
COMPARISON_LIMIT = 1200  # ten minutes on two cores


def statistics() -> list[tuple[str, float, Callable[[], object]]]:
    """Name, limit in seconds, and what is timed."""
    rng = np.random.default_rng(0)
    n = 1000
    y = rng.random(n) < 0.4
    first, second = (np.round(rng.normal(size=n) + 0.8 * y, 3) for _ in range(2))
    p = 1 / (1 + np.exp(-first))
    subjects = rng.normal(size=(100, 1, 1200)) + rng.normal(size=(100, 2, 1200))
    features = rng.normal(size=(2000, 1200))
    some = np.where(rng.random(features.shape) < 0.02, np.nan, features)
    thresholds = decision.grid(0.01, 0.99)
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


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def correlated(patients: int, features: int, blocks: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Features in correlated blocks of which three carry the outcome, as radiomics features are."""
    common = rng.normal(size=(patients, blocks))
    x = common[:, np.arange(features) % blocks] + 0.7 * rng.normal(size=(patients, features))
    y = (rng.random(patients) < 1 / (1 + np.exp(-common[:, :3].sum(axis=1)))).astype(int)
    return pd.DataFrame(x, columns=[f"f{k:03d}" for k in range(features)]), y


def comparison(repeats: int) -> list[tuple[str, float, float | None]]:
    """Each model, and all seven together, which share the fronts of the folds: name, seconds, limit."""
    x, y = correlated(160, 122, 24, np.random.default_rng(1))
    settings = ClassificationAnalysis.model_validate(
        {
            "split": "s", "outcome": "o", "features": ["f"], "models": MODELS, "trees": 200,
            "resampling": {"folds": 10, "repeats": repeats},
            "selection": [{"kind": "correlation", "above": 0.9}, {"kind": "kendall", "at_least": 0.2}],
        }
    )  # fmt: skip
    rows: list[tuple[str, float, float | None]] = []
    for models in (*((m,) for m in MODELS), MODELS):
        rng = np.random.default_rng(2)
        taken = seconds(lambda m=models, r=rng: tuning.fit_models(m, x, y, settings, rng=r, seed=3))
        if len(models) > 1:
            rows.append((f"all seven, {repeats} x 10 folds", taken, COMPARISON_LIMIT))
        else:
            rows.append((f"{models[0]} ({len(classifiers.GRIDS[models[0]])} settings)", taken, None))
    return rows


def permutations(total: int, shards: int) -> list[tuple[str, float, float | None]]:
    """All shards, and the slowest of them: name, seconds, limit."""
    x, y = correlated(160, 122, 24, np.random.default_rng(1))
    settings = ClassificationAnalysis.model_validate(
        {
            "split": "s", "outcome": "o", "features": ["f"], "models": ["lasso"], "permutations": total,
            "permutation_shards": shards, "resampling": {"folds": 10, "repeats": 1},
        }
    )  # fmt: skip
    people = pd.DataFrame(
        {"centre": "north", "patient": [f"p{k:03d}" for k in range(len(y))], "role": "development", "scans": 1,
         "clinical": True, "event": y}
    )  # fmt: skip
    part = np.where(np.arange(len(y)) < 112, "training", "test")
    described = {"session": "", "scan": "", "set": "f", "view": "", "source": "", "roi": "", "fold": "main",
                 "status": "ok", "reason": ""}  # fmt: skip
    taken = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        tables.write(people, folder / "patients.tsv", PATIENTS)
        tables.write(people[["centre", "patient"]].assign(part=part, stratum="all"), folder / "split.tsv", SPLIT)
        rows = pd.concat([people[["centre", "patient"]].assign(**described), x], axis=1)
        rows["session"] = rows["scan"] = rows["patient"]
        tables.write(rows, folder / "f.parquet", FEATURES)
        outcome = read_outcome({"type": "binary", "column": "event", "positive": 1})
        for k, numbers in enumerate(settings.permutations_of()):
            taken.append(
                seconds(
                    lambda k=k, numbers=numbers: classify_null.permute(
                        "a", settings, numbers, seed=1, features={"f": folder / "f.parquet"}, ledgers=[],
                        patients=folder / "patients.tsv", split=folder / "split.tsv", outcome=outcome,
                        path=folder / f"{k}.tsv", log=Quiet(),
                    )
                )
            )  # fmt: skip
        found = tables.read_all([folder / f"{k}.tsv" for k in range(len(taken))], PERMUTATIONS)
    name = f"{len(found):,} permutations of a LASSO chain, {len(taken)} shards"
    return [
        (f"{name}, mean AUC {found['value'].mean():.3f}", sum(taken), None),
        ("the slowest shard", max(taken), None),
    ]


class Quiet(Log):
    def event(self, event: str, *, quiet: bool = False, **facts: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="statistics, comparison, permutations; all of them where none is named")
    parser.add_argument("--repeats", type=int, default=20, help="repetitions of the ten folds of the comparison")
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=50)
    given, slow = parser.parse_args(), 0
    print("| what | CPU s | limit |\n|---|---|---|")

    def show(name: str, taken: float, limit: float | None) -> None:
        nonlocal slow
        late = limit is not None and taken > limit
        slow += late
        limited = "" if limit is None else f"{limit:g}"
        print(f"| {name} | {taken:.3g}{' **too slow**' * late} | {limited} |", flush=True)

    if "statistics" in (given.what or ["statistics"]):
        for name, limit, function in statistics():
            show(name, seconds(function, 5), limit)
    if "comparison" in (given.what or ["comparison"]):
        for row in comparison(given.repeats):
            show(*row)
    if "permutations" in (given.what or ["permutations"]):
        for row in permutations(given.permutations, given.shards):
            show(*row)
    return int(slow > 0)


if __name__ == "__main__":
    raise SystemExit(main())
