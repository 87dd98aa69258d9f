"""Speed of the analyses of tables, as a table in Markdown.

    python benchmarks/analysis.py [--repeats 20]

The classifier comparison is that of study 1: seven models, 160 patients, 122 features, folds of 10 repeated 20 times,
correlation and Kendall's rank in every fold, 200 trees. CPU seconds on one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from polycentric.analysis import classifiers, tuning  # noqa: E402
from polycentric.config.classification import ClassificationAnalysis  # noqa: E402

MODELS = ("logistic", "linear-svm", "random-forest", "pls-da", "ridge", "lasso", "elastic-net")


def correlated(patients: int, features: int, blocks: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Features in correlated blocks of which three carry the outcome, as radiomics features are."""
    common = rng.normal(size=(patients, blocks))
    x = common[:, np.arange(features) % blocks] + 0.7 * rng.normal(size=(patients, features))
    y = (rng.random(patients) < 1 / (1 + np.exp(-common[:, :3].sum(axis=1)))).astype(int)
    return pd.DataFrame(x, columns=[f"f{k:03d}" for k in range(features)]), y


def comparison(repeats: int) -> list[tuple[str, float]]:
    """CPU seconds of each model, and of all seven together, which share the fronts of the folds."""
    x, y = correlated(160, 122, 24, np.random.default_rng(1))
    settings = ClassificationAnalysis.model_validate(
        {
            "split": "s", "outcome": "o", "features": ["f"], "models": MODELS, "trees": 200,
            "resampling": {"folds": 10, "repeats": repeats},
            "selection": [{"kind": "correlation", "above": 0.9}, {"kind": "kendall", "at_least": 0.2}],
        }
    )  # fmt: skip
    rows = []
    for models in (*((m,) for m in MODELS), MODELS):
        start = time.process_time()
        tuning.fit_models(models, x, y, settings, rng=np.random.default_rng(2), seed=3)
        name = "all seven" if len(models) > 1 else f"{models[0]} ({len(classifiers.GRIDS[models[0]])} settings)"
        rows.append((name, time.process_time() - start))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="repetitions of the ten folds")
    repeats = parser.parse_args().repeats
    print(f"| tuning in {repeats} x 10 folds | CPU s |\n|---|---|")
    for name, seconds in comparison(repeats):
        print(f"| {name} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
