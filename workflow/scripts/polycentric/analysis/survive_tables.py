"""Tables of a survival analysis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from .. import tables
from ..artefacts import TableArtefacts
from ..estimates import Estimate, estimate, holm, normal_quantile, p_of_z, p_text, shown
from . import chains, competing, cox, survival
from .artefacts import sentence
from .chain import Front
from .survive_evaluate import Judged
from .survive_study import Study

SINGLE = 50  # variables of the table of single tests


def write(study: Study, fitted: dict[str, chains.Fitted | None], judged: Judged, artefacts: TableArtefacts) -> None:
    """Write every table of the analysis."""
    _performance(study, judged, artefacts)
    _times(study, judged, artefacts)
    _groups(study, judged, artefacts)
    _follow_up(study, artefacts)
    _variables(study, fitted, artefacts)
    _equations(study, fitted, artefacts)
    _single(study, artefacts)
    _sample_size(study, judged, artefacts)
    _comparisons(study, judged, artefacts)


def title_of(study: Study) -> str:
    return study.settings.title or study.name


def percent_of(study: Study) -> str:
    return f"{100 * study.settings.level:g} %"


def _outcome(study: Study) -> str:
    settings = study.settings
    cut = f", follow-up cut at {settings.horizon_days:g} days" if settings.horizon_days else ""
    return f"Outcome {settings.outcome}{cut}"


def _performance(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    settings, rows = study.settings, []
    for key, entry in judged.results.items():
        for part, values in entry["parts"].items():
            held_out, misfit = part != "training", values.get("misspecification", {})
            rows.append(
                {
                    "model": key,
                    "part": part,
                    "patients": values["c_index"]["n"],
                    "events": values["c_index"]["events"],
                    "Harrell's C": shown(values["c_index"]),
                    "Uno's C": shown(values["uno_c"]),
                    "C, cross-validated": "" if held_out else shown(entry["cross_validated_c_index"]),
                    "optimism": "" if held_out else shown(entry["optimism"]),
                    "calibration slope": shown(values["calibration_slope"]) if held_out else "",
                    "p, slope is 1": p_text(values["calibration_slope"]["p_one"]) if held_out else "",
                    "p, misspecification": p_text(misfit.get("p")),
                    "hazard ratio, high to low risk": _ratio(values["log_hazard_ratio_high_low"]),
                    f"{values['log_rank']['test']} p": p_text(values["log_rank"]["p"]) if held_out else "",
                    "permutation p": p_text(entry["permutation"].get(part, {}).get("p")),
                }
            )
    artefacts.table(
        pd.DataFrame(rows),
        "performance",
        f"{title_of(study)}: performance",
        sentence(
            f"{_outcome(study)}; C with {percent_of(study)} intervals by bootstrap over patients ({settings.bootstraps}"
            " samples, BCa)",
            "The C of training is apparent; optimism is its excess over cross-validation of the whole chain",
            "Misspecification: joint likelihood ratio test that the model's variables add nothing to its index",
            f"Risk groups are cut at the {_cut_words(study)} of the prognostic index in training",
            f"Permutation p: {settings.permutations} runs of the whole chain with permuted follow-up"
            f"{settings.permuted_where}",
        ),
    )


def _cut_words(study: Study) -> str:
    words = {"upper-quartile": "75th percentile", "maximal": "cut with the largest log-rank statistic"}
    return words.get(study.settings.cut, study.settings.cut)


def _curve_words(study: Study) -> str:
    if study.settings.competing is not None:
        return f"cumulative incidence by Aalen and Johansen with {percent_of(study)} intervals on the log-log scale"
    return (
        f"median survival and survival by Kaplan-Meier with {percent_of(study)} intervals on the "
        f"{study.settings.interval} scale"
    )


def _times(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = []
    for key, entry in judged.results.items():
        for part, values in entry["parts"].items():
            for label in [k for k in values if k.startswith("at ")]:
                found = values[label]
                rows.append(
                    {
                        "model": key,
                        "part": part,
                        "time": label.removeprefix("at "),
                        "AUC": shown(found["auc"]),
                        "Brier score": shown(found["brier"], 3),
                        "scaled Brier score": shown(found["scaled_brier"]),
                        "observed / expected": shown(found["observed_to_expected"]),
                        "ICI": shown(found["ici"], 3),
                        "integrated Brier score": shown(values["integrated_brier"], 3)
                        if "integrated_brier" in values
                        else "",
                    }
                )
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "times",
            f"{title_of(study)}: predictions at a time",
            sentence(
                f"{_outcome(study)}; {percent_of(study)} BCa bootstrap intervals over patients (ICI: bias-corrected); "
                "training is apparent",
                "Cumulative/dynamic AUC and Brier score with inverse probability of censoring weights (Kaplan-Meier), "
                "as R's riskRegression; the scaled Brier score is 1 less its ratio to that without predictors",
                "Observed / expected: risk by Kaplan-Meier over the mean predicted risk; ICI: mean distance of the "
                "smooth observed from the predicted risk",
            ),
        )


def _groups(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    """Kaplan-Meier of the risk groups of every model at the times of interest."""
    rows: list[dict[str, Any]] = []
    for key, groups in judged.groups.items():
        for part in tables.PARTS:
            for group in ("low", "high"):
                here = study.part(part) & (groups == group)
                if here.any():
                    rows.append({"model": key, "part": part, "risk": group} | _curve(study, here))
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "groups",
            f"{title_of(study)}: survival of the risk groups"
            if study.settings.competing is None
            else f"{title_of(study)}: incidence in the risk groups",
            sentence(
                f"{_outcome(study)}; {_curve_words(study)}; time in {study.unit}; groups cut at the "
                f"{_cut_words(study)} of the index in training",
            ),
        )


def _follow_up(study: Study, artefacts: TableArtefacts) -> None:
    rows = []
    for part in tables.PARTS:
        here = study.part(part)
        if here.any():
            rows.append({"part": part} | _curve(study, here))
    artefacts.table(
        pd.DataFrame(rows),
        "follow-up",
        f"{title_of(study)}: follow-up",
        sentence(
            f"{_outcome(study)}; median follow-up by reverse Kaplan-Meier; {_curve_words(study)}; time in {study.unit}",
        ),
    )


def _curve(study: Study, here: np.ndarray) -> dict[str, Any]:
    settings, time, event = study.settings, study.follow_up[here, 0], study.event[here]
    cause = study.cause[here]
    row: dict[str, Any] = {"patients": len(time), "events": int(event.sum())}
    # whoever had a competing event was not lost to follow-up
    followed = _time(survival.kaplan_meier(time, cause == 0, level=settings.level).median)
    if settings.competing is not None:
        row |= {"competing events": int((cause > 1).sum()), "median follow-up": followed}
        found = competing.aalen_johansen(time, cause, level=settings.level)
        for t in study.times:
            at = np.searchsorted(found.time, t, side="right")
            value = (float(np.r_[0.0, v][at]) for v in (found.incidence, found.lower, found.upper))
            row[f"incidence at {t:g} {study.unit}"] = (
                shown(estimate(*value, method="", n=len(time))) if t <= time.max() else "not reached"
            )
        return row
    km = survival.kaplan_meier(time, event, level=settings.level, interval=settings.interval)
    low, high = km.median_interval
    row |= {"median follow-up": followed, "median survival": f"{_time(km.median)} ({_time(low)} to {_time(high)})"}
    for t in study.times:
        lower, upper = (float(b[0]) for b in km.between(np.array([t])))
        value = estimate(float(km.at(np.array([t]))[0]), lower, upper, method="", n=len(time))
        known = t <= time.max() or value["value"] == 0
        row[f"survival at {t:g} {study.unit}"] = shown(value) if known else "not reached"
    return row


def _time(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "not reached"


def _variables(study: Study, fitted: dict[str, chains.Fitted | None], artefacts: TableArtefacts) -> None:
    frames = [frame for key, fit in fitted.items() if fit and (frame := variables(study, key, fit)) is not None]
    if frames:
        artefacts.table(
            pd.concat(frames, ignore_index=True),
            "variables",
            f"{title_of(study)}: hazard ratios",
            sentence(
                f"Cox regression ({study.settings.ties.capitalize()}) on training; hazard ratios per unit and per "
                "standard deviation of training, "
                f"with Wald's {percent_of(study)} intervals (per SD); the variables of a stack are the indices of its "
                "models",
                "Intervals of penalised variables are approximate, those of a lasso do not exist, and none here knows "
                "of the selection; penalised variables have no p value",
                "Proportional hazards: score test against time on the Kaplan-Meier scale, as cox.zph of R",
            ),
        )


def variables(study: Study, key: str, fit: chains.Fitted) -> pd.DataFrame | None:
    """Coefficients of a fitted Cox model per unit and per SD, with intervals and the proportional-hazards test."""
    training = study.part("training")
    rows = study.tables_of(training)
    names, x = fit.columns(rows)
    if fit.stacked:
        beta, error = fit.chain.coef_, fit.chain.errors_
        mean, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
        penalised = np.full(len(names), fit.chain.rescued_)
        x, beta, error = x / scale, beta * scale, error * scale
    else:
        front, model = fit.chain.named_steps["front"], fit.chain.named_steps["model"]
        if not hasattr(model, "coef_"):
            return None
        kept = model.kept_
        beta, error = model.coef_[kept], model.errors_[kept]
        mean, scale = front.mean_[kept], front.scale_[kept]
        penalised = (kept >= (0 if model.rescued_ else model.free)) & (model.penalty > 0 or model.rescued_)
    if not len(names):
        return None
    p_zph = np.full(len(names) + 1, np.nan)
    if not penalised.any() and np.isfinite(error).all():
        # the score test needs the maximum of the likelihood, where the other scores are zero
        if not fit.stacked or study.settings.models[key].indices == "fitted":
            p_zph = cox.proportional_hazards(x, study.follow_up[training, 0], study.event[training], beta,
                                           ties=study.settings.ties)[1]  # fmt: skip
        if p_zph[-1] < 0.05:
            study.warn(f"{key}: hazards may not be proportional (global p {p_zph[-1]:.3f}); see its variables.")
    half = normal_quantile(study.settings.level) * error
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z_value = np.where(error > 0, beta / error, np.nan)
        frame = pd.DataFrame(
            {
                "model": key,
                "variable": names,
                "coefficient_per_unit": beta / scale,
                "hazard_ratio_per_unit": np.exp(beta / scale),
                "hazard_ratio_per_sd": np.exp(beta),
                "lower": np.exp(beta - half),
                "upper": np.exp(beta + half),
                "p": [p_of_z(v) for v in z_value],
                "penalised": penalised,
                "proportional_hazards_p": p_zph[: len(names)],
                "mean": mean,
                "sd": scale,
            }
        )
    frame.loc[frame["penalised"], "p"] = np.nan
    return frame


def _equations(study: Study, fitted: dict[str, chains.Fitted | None], artefacts: TableArtefacts) -> None:
    """The equation of every Cox model: coefficients per unit, centres, baseline survival at the times of interest."""
    rows: list[dict[str, Any]] = []
    times = np.array(study.times)
    for key, fit in fitted.items():
        frame = variables(study, key, fit) if fit else None
        if frame is None or fit is None:
            continue
        model = fit.chain if isinstance(fit.chain, chains.Stack) else fit.chain.named_steps["model"]
        fills = [None] * len(frame) if isinstance(fit.chain, chains.Stack) else _fills(fit.chain)
        # a stack weighs the indices as they are, other models the variables less their mean
        for row, fill in zip(frame.itertuples(), fills, strict=True):
            rows.append({"model": key, "term": row.variable, "coefficient": row.coefficient_per_unit,
                         "less": 0.0 if fit.stacked else row.mean, "missing": fill})  # fmt: skip
        if study.settings.competing is not None:
            continue  # a cause-specific hazard alone gives no risk
        baseline = cox.survival(np.zeros(1), model.times_, model.hazard_, times)[0]
        rows += [
            {
                "model": key,
                "term": f"baseline survival at {t:g} {study.unit}",
                "coefficient": float(s),
                "less": None,
                "missing": None,
            }
            for t, s in zip(times, baseline, strict=True)
        ]
    if rows:
        risk = "Predicted survival at t is S0(t) to the power exp(PI), with S0 the baseline survival"
        if study.settings.competing is not None:
            risk = "The hazard is that of the cause alone, which gives no risk"
        artefacts.table(
            pd.DataFrame(rows),
            "equations",
            f"{title_of(study)}: equations",
            sentence(
                risk,
                "The prognostic index PI is the sum of coefficient times (variable less its mean in training)",
                "A text column counts as 1 for the named category and 0 otherwise; `missing` stands in for a missing "
                "value (empty where forests impute: apply the kept model instead)",
                "The variables of a stack are the indices of its models",
            ),
        )


def _fills(chain: Pipeline) -> list[float | None]:
    """What stands in for a missing value of every variable of a Cox model: the median of training."""
    front, kept = chain.named_steps["front"], chain.named_steps["model"].kept_
    if front.imputer_ is not None:
        return [None] * len(kept)
    return [float(v) for v in front.medians_[front.chosen_][kept]]


def _single(study: Study, artefacts: TableArtefacts) -> None:
    """Every variable alone: hazard ratio per SD, score test, Holm over all that were tested."""
    training = study.part("training")
    time, event = study.follow_up[training, 0], study.event[training]
    if not event.any():
        return
    level, rows, seen = study.settings.level, [], set()
    for key, model in study.settings.models.items():
        for column in study.tables[key].columns if key in study.tables else ():
            kind = "clinical" if column in model.clinical else str(model.features)
            if (kind, column) in seen:
                continue
            seen.add((kind, column))
            rows.append((kind, column, study.tables[key].loc[training, column]))
    tested = []
    for kind in dict.fromkeys(kind for kind, _, _ in rows):
        table = pd.DataFrame({column: values for k, column, values in rows if k == kind})
        front = Front(tuple(table.columns), (), {}).fit(table, np.c_[time, event])
        x, names = front.transform(table), front.get_feature_names_out()
        chi, p = cox.score_tests(x, time, event)
        tested += [(kind, str(name), x[:, j], chi[j], p[j]) for j, name in enumerate(names)]
    corrected = holm([t[4] for t in tested])
    order = np.argsort([t[4] for t in tested], kind="stable")[:SINGLE]
    found = []
    for j in order:
        kind, name, x, chi, p = tested[j]
        fit = cox.fit(x[:, None], time, event)
        value, error = (fit.coefficients[0], fit.errors[0]) if fit.converged else (math.nan, math.nan)
        with np.errstate(over="ignore", invalid="ignore"):
            ratio, lower, upper = np.exp(value + normal_quantile(level) * error * np.array([0.0, -1.0, 1.0]))
        found.append({"from": kind, "variable": name, "hazard_ratio_per_sd": ratio, "lower": lower, "upper": upper,
                      "chi_squared": chi, "p": p, "p_holm": corrected[j]})  # fmt: skip
    if found:
        artefacts.table(
            pd.DataFrame(found),
            "single",
            f"{title_of(study)}: variables one at a time",
            sentence(
                f"Univariate Cox regression of {len(tested)} variables on {int(training.sum())} training patients, the "
                f"{len(found)} with the smallest p; hazard ratio per standard deviation with Wald's "
                f"{percent_of(study)} interval, p of the score test, Holm's correction over all {len(tested)}; missing "
                "values by the median",
            ),
        )


def _sample_size(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = []
    for key, entry in judged.results.items():
        if (found := entry["sample_size"]) is not None:
            rows.append(
                {
                    "model": key,
                    "patients": found["patients"],
                    "events": found["events"],
                    "candidate variables": found["candidates"],
                    "events per candidate": found["events_per_candidate"],
                    "variables in the model": found["variables"],
                    "events per variable": found["events_per_variable"],
                    "patients needed": found["riley"]["needed"],
                    "candidates that the patients carry": found["riley"]["carries"],
                }
            )
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "sample-size",
            f"{title_of(study)}: what the training data can carry",
            sentence(
                "Criteria of Riley et al. (2019) for the candidate variables: shrinkage of 0.9, optimism of R squared "
                f"below 0.05, overall risk known to 0.05; expected Nagelkerke's R squared "
                f"{study.settings.expected_r2:g}",
                "The candidates of a stack are the indices of its models",
            ),
        )


def _comparisons(study: Study, judged: Judged, artefacts: TableArtefacts) -> None:
    rows = [
        {
            "part": c["part"],
            "model": c["first"]["model"],
            "against": c["second"]["model"],
            "patients": c["difference"]["n"],
            "events": c["difference"]["events"],
            "difference of C": shown(c["difference"], 3),
            "p": p_text(c["p"]),
            "p, Holm": p_text(c["p_holm"]),
        }
        for c in judged.comparisons
    ]
    if rows:
        artefacts.table(
            pd.DataFrame(rows),
            "comparisons",
            f"{title_of(study)}: comparison of models",
            sentence(
                f"{_outcome(study)}; difference of Harrell's C on the same patients with {percent_of(study)} paired "
                "BCa bootstrap intervals; p from the bootstrap standard error, corrected by Holm within a part; "
                "training "
                "is apparent and has none"
            ),
        )


def _ratio(log_ratio: Estimate) -> str:
    if log_ratio["value"] is None or max(abs(log_ratio["lower"]), abs(log_ratio["upper"])) > 20:
        return "not estimable"
    return shown({k: math.exp(log_ratio[k]) for k in ("value", "lower", "upper")})
