"""Makes combat.json with neuroCombat 0.2.12 (not a dependency): `pip install neuroCombat==0.2.12`, then run this file.

Its iteration stops at a relative change of 1e-4 that ignores negative values; here it runs on to 1e-13, so that the
numbers are those of the equations.
"""

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

np.int = int  # neuroCombat 0.2.12 knows numpy before 1.24 only
module = importlib.import_module("neuroCombat.neuroCombat")
solve = module.it_sol


def converged(*args):
    return solve(*args, conv=1e-13)


module.it_sol = converged

rng = np.random.default_rng(7)
batch = np.repeat(["a", "b", "c"], [9, 12, 10])
age = rng.normal(60, 10, len(batch))
shift, scale = {"a": 0.0, "b": 2.0, "c": -1.0}, {"a": 1.0, "b": 1.7, "c": 0.6}
X = rng.normal(size=(len(batch), 12)) * [[scale[b]] for b in batch] * rng.uniform(0.8, 1.2, 12)
X += [[shift[b]] for b in batch] * rng.uniform(0.5, 1.5, 12) + 0.03 * age[:, None] * rng.normal(size=12) + 5
# neuroCombat reads its input as float32
X, age = X.astype("float32").astype(float), age.astype("float32").astype(float)
covars = pd.DataFrame({"batch": batch, "age": age})


def run(**options):
    return module.neuroCombat(X.T, covars, "batch", continuous_cols=["age"], **options)["data"].T.tolist()


record = {
    "X": X.tolist(),
    "batch": batch.tolist(),
    "age": age.tolist(),
    "parametric": run(),
    "nonparametric": run(parametric=False),
    "reference": run(ref_batch="b"),
}
(Path(__file__).with_suffix(".json")).write_text(json.dumps(record) + "\n")
