"""Makes neuroharmonize.json with neuroHarmonize 2.4.5 and neuroCombat 0.2.12, neither of them a dependency:
`pip install --no-deps neuroHarmonize==2.4.5 neuroCombat==0.2.12` next to statsmodels and nibabel, then run this file.

The rows are those of combat.json; neuroHarmonize runs as it is, with its own stopping rule. Its `ref_batch` fails with
numpy 2.4.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

np.int = int  # neuroCombat 0.2.12 knows numpy before 1.24 only
from neuroHarmonize import harmonizationLearn  # noqa: E402

given = json.loads(Path(__file__).with_name("combat.json").read_text())
X = np.array(given["X"])
covars = pd.DataFrame({"SITE": given["batch"], "age": given["age"]})

record = {
    "plain": harmonizationLearn(X, covars[["SITE"]])[1].tolist(),
    "covariate": harmonizationLearn(X, covars)[1].tolist(),
}
Path(__file__).with_suffix(".json").write_text(json.dumps(record) + "\n")
