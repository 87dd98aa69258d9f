"""Kept survival models applied to a feature table, without fitting anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import bootstrap
from ..config.clinical import ColumnSettings
from ..config.survival import SurvivalAnalysis
from ..errors import UserError
from ..estimates import Estimate, bca_interval, estimate, finite
from ..files import read_json
from ..randomness import generator
from . import chains, competing, data, survival
from .artefacts import read_skops
from .survive_evaluate import cox_one


def predict(
    frame: pd.DataFrame,
    fitted: SurvivalAnalysis,
    path: Path,
    record: Path,
    features: Path | None,
    columns: Mapping[str, ColumnSettings] | None,
    where: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Index, risk group and predicted survival of the patients of `frame` who have what the model needs.

    Parameters
    ----------
    path
        the kept chain or stack, named after its model in `fitted`.
    record
        ledger of the analysis; the metrics beside it say where risk groups are cut and at which times survival is
        predicted. Without them there is the index alone.

    Returns
    -------
    DataFrame, dict
        a row per patient (index: patient), and the cut, the times and their unit.

    Raises
    ------
    UserError
        if the model is not one of the analysis, or a table lacks a column of it.
    """
    key = path.stem
    if key not in fitted.models:
        raise UserError(f"{where}: model {key!r} is none of {list(fitted.models)}: keep the name of its file.")
    members = fitted.models[key].stack or (key,)
    values = None
    if any(fitted.models[name].features is not None for name in members):
        if features is None:
            raise UserError(f"{where}: the model has features; write features: <set>.")
        values, _ = data.features(features, frame.index, rois=fitted.rois, aggregate=fitted.aggregate, where=where)
        frame = frame[frame.index.isin(values.index)]
    tables = {}
    for name in members:
        model = fitted.models[name]
        table = data.clinical(frame, model.clinical, where, columns)
        if model.features is not None and values is not None:
            table = pd.concat([table, values.loc[table.index]], axis=1)
        tables[name] = table
    chain = read_skops(path)
    for name, own in (chain.chains_ if isinstance(chain, chains.Stack) else {key: chain}).items():
        if missing := sorted(set(own.named_steps["front"].columns_) - set(tables[name].columns)):
            raise UserError(
                f"{where}: the features lack {len(missing)} columns of the model, such as {missing[0]!r}: make them "
                "with the recipe that the model's features had."
            )
    fit = chains.Fitted(key, chain, None, 0)
    result = frame[["centre", "patient"]].copy()
    result["index"] = fit.index(tables)
    metrics = record.with_name("metrics.json")
    known: dict[str, Any] = read_json(metrics) if metrics.exists() else {}
    facts = {"unit": known.get("unit"), "times": [], "cut": None}
    if known and key in known.get("results", {}):
        facts["cut"] = known["results"][key]["cut"]["value"]
        facts["times"] = [] if fitted.competing is not None else list(known["times"])
    if facts["cut"] is not None:
        result["group"] = np.where(result["index"] > facts["cut"], "high", "low")
    if facts["times"] and len(result):
        predicted = fit.survival(tables, np.array(facts["times"], dtype=float))
        for k, t in enumerate(facts["times"]):
            result[f"survival_at_{t:g}"] = predicted[:, k]
    return result, facts


def performance(name: str, time: np.ndarray, event: np.ndarray, index: np.ndarray, groups: np.ndarray | None,
                cause: np.ndarray | None, *, samples: int, level: float, seed: int) -> dict[str, Any]:  # fmt: skip
    """Harrell's C, the calibration slope and the log-rank test of the risk groups; Gray's where `cause` (n,) tells of
    competing events."""
    n = len(time)
    value = survival.concordance(time, event, index)
    method = "Harrell's C"
    found: dict[str, Any] = {}
    c: Estimate = estimate(math.nan, method=method, n=n, level=level)
    if math.isfinite(value):
        drawn = bootstrap.counts(np.zeros(n), samples, generator(seed, "apply", name))
        found_again = survival.bootstrap_concordance(time, event, index, drawn)
        knife = survival.jackknife_concordance(time, event, index)
        bounds = bca_interval(value, found_again, knife, level)
        c = estimate(
            value, bounds.lower, bounds.upper, n=n, level=level, seed=seed, events=int(event.sum()),
            method=f"{method}, {bounds.how} bootstrap over patients, {bounds.used} samples",
        )  # fmt: skip
    found["c_index"] = c
    found["calibration_slope"] = cox_one(index, time, event, level, n, "Wald, Cox regression on the index")
    if groups is not None and n:
        test = "log-rank" if cause is None else "Gray"
        chi, p = survival.log_rank(time, event, groups) if cause is None else competing.gray(time, cause, groups)
        found["log_rank"] = {"test": test, "chi_squared": finite(chi), "p": finite(p), "n": n}
    return found
