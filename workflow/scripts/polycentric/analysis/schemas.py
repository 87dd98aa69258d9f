"""Schemas of what analyses write for others to read."""

from __future__ import annotations

from ..columns import PATIENT, integer, number, optional, text
from ..tables import PARTS, Schema

_KEY = PATIENT | {"part": text("part of the split", *PARTS), "model": text("model"), "fold": text("fold")}

CLASSIFICATION = Schema(
    "classification-predictions",
    1,
    _KEY
    | {
        "set": text("feature set"),
        "outcome": number("1 positive, 0 negative; of several classes the position of the class, from 0"),
        "class": text("observed class"),
        "probability": optional("number", "predicted probability of the positive class; empty with several classes"),
        "cross_validated": optional("number", "the same, out of fold, for training patients"),
        "threshold": optional("number", "threshold from training"),
        "predicted": optional(
            "number", "1 if the probability reaches the threshold; the position of the likeliest class"
        ),
    },
    key=("patient", "set", "model", "fold"),
    open=True,  # several classes: probability_<class> and cross_validated_<class>
)
APPLIED = Schema(
    "applied-predictions",
    1,
    PATIENT | {"seen": text("whether a fit behind the model has seen the patient", "yes", "no")},
    key=("patient",),
    open=True,  # probability_<class>, predicted, outcome; of survival: index, group, survival_at_<time>, time, event
)
PERMUTATIONS = Schema(
    "permutations",
    1,
    {
        "number": integer("number of the run, from 0"),
        "model": text("model; of a classification set/model"),
        "part": text("part of the split", *PARTS),
        "value": optional("number", "AUC or Harrell's C with permuted outcomes of training; empty where there is none"),
    },
    key=("number", "model", "part"),
)
SURVIVAL = Schema(
    "survival-predictions",
    1,
    _KEY
    | {
        "time": number("time in the unit of the outcome, cut at the horizon"),
        "event": number("1 event, 0 censored"),
        "index": optional("number", "prognostic index: the linear predictor"),
        "group": optional("text", "risk group", "low", "high"),
    },
    key=("patient", "model", "fold"),
)
