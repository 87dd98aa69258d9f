"""Settings of the survival analyses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .analyses import Explanation, TableAnalysis
from .base import Name, Section
from .clinical import ClinicalSettings
from .selection import NEED_CLASSES, Selection

SurvivalMethod = Literal["cox", "ridge", "lasso", "elastic-net", "forest", "boosting"]


def _no_classes(steps: Selection) -> None:
    if wrong := [step.kind for step in steps if step.kind in NEED_CLASSES]:
        raise ValueError(f"selection: a step of kind {wrong[0]} needs classes; write test, correlation, mrmr or top")


class SurvivalModel(Section):
    """One survival model: its columns and its method, or other models whose prognostic indices it combines."""

    clinical: tuple[str, ...] = Field((), description="Clinical columns.")
    features: Name | None = Field(None, description="Feature set.")
    stack: tuple[Name, ...] = Field(
        (),
        description="Instead of columns: models of this analysis, whose prognostic indices enter a Cox model.",
    )
    method: SurvivalMethod = Field(
        "ridge",
        description="`cox`: without penalty; `ridge`, `lasso`, `elastic-net` (half lasso, half ridge): Cox regression "
        "with a penalty on whatever `select` lets be selected; `forest`: random survival forest; `boosting`: gradient "
        "boosting of the partial likelihood (XGBoost).",
    )
    select: Literal["features", "all"] = Field(
        "features",
        description="What selection, elimination and penalty act on: `features` only, so that all clinical columns "
        "enter; or `all`, clinical columns included.",
    )
    selection: Selection | None = Field(None, description="Selection of this model; null: that of the analysis.")
    eliminate: Annotated[float, Field(gt=0, lt=1)] | Literal["aic"] | None = Field(
        None,
        description="Backward elimination after the selection (method cox): variables leave one at a time while the "
        "largest p of Wald's test is above this; `aic`: while Akaike's criterion falls; null: none.",
    )
    indices: Literal["cross-validated", "fitted"] = Field(
        "cross-validated",
        description="Indices of training patients that a stack is fitted on: `cross-validated`, of models that did not "
        "see the patient; `fitted`, which favours the model that overfits most.",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.stack:
            if self.clinical or self.features is not None:
                raise ValueError(
                    "a stack combines other models and has no columns of its own: leave out clinical: and features:, "
                    "or give the columns a model of their own and name it in stack:"
                )
            if len(set(self.stack)) < max(2, len(self.stack)):
                raise ValueError(f"stack: {list(self.stack)}: write two different models or more")
        elif not self.clinical and self.features is None:
            raise ValueError("an empty model: write clinical: [<column>], features: <set> or stack: [<models>]")
        _no_classes(self.selection or ())
        if self.eliminate is not None and (self.method != "cox" or self.stack):
            raise ValueError("eliminate: backward elimination is for unpenalised models of columns; write method: cox")
        return self


class SurvivalAnalysis(TableAnalysis):
    """Models of a time-to-event outcome, compared with one another."""

    kind: Literal["survival"] = "survival"
    models: dict[Name, SurvivalModel] = Field(
        min_length=1,
        description="Models by name; every other model is compared with the first, so write the one without radiomics "
        "first.",
    )
    primary: Name | None = Field(None, description="Model whose risk groups are drawn; null: the last one.")
    penalty: Annotated[float, Field(ge=0)] | Literal["tuned"] = Field(
        "tuned",
        description="Penalty of ridge, lasso and elastic net on standardised variables, per event; tuned: by "
        "cross-validated partial likelihood inside training.",
    )
    ties: Literal["efron", "breslow"] = Field(
        "efron",
        description="Events at the same time in Cox models: Efron's approximation, R's default; or Breslow's, that of "
        "many older programs, which draws coefficients to 0 where many times are equal.",
    )
    trees: int = Field(300, ge=1, description="Trees of a random survival forest.")
    cut: Literal["median", "upper-quartile", "maximal"] = Field(
        "median",
        description="Where the training patients' prognostic index divides low from high risk: its median, its 75th "
        "percentile, or the cut with the largest log-rank statistic (its p is corrected for the search).",
    )
    explain: Explanation = Field(Explanation(), description="Explanations of the fitted models.")
    horizon_days: float | None = Field(
        None, gt=0, description="Follow-up is cut here: later events count as censored at this time; null: all."
    )
    times_days: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="Times at which predictions are judged (AUC, Brier score, calibration, net benefit); empty: the "
        "median time of the training events.",
    )
    interval: Literal["log-log", "log"] = Field(
        "log-log", description="Scale on which intervals of Kaplan-Meier curves are symmetric; R's default is log."
    )
    competing: str | int | None = Field(
        None,
        description="Value of the outcome's event column that means that another event came first. Models are then of "
        "the cause-specific hazard, and curves are cumulative incidences; null: there is none.",
    )

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.primary is not None and self.primary not in self.models:
            raise ValueError(f"primary: {self.primary!r} is not one of models: write one of {list(self.models)}")
        _no_classes(self.selection)
        plain = [name for name, model in self.models.items() if not model.stack]
        for name, model in self.models.items():
            if wrong := [other for other in model.stack if other not in plain]:
                raise ValueError(
                    f"models.{name}.stack: {wrong[0]!r} is no model of columns of this analysis: write some of {plain}"
                )
        if self.horizon_days is not None and (late := [t for t in self.times_days if t > self.horizon_days]):
            raise ValueError(f"times_days: {late[0]:g} lies after horizon_days {self.horizon_days:g}: write less")
        if len(set(self.times_days)) != len(self.times_days):
            raise ValueError("times_days: write each time once")
        return self


def problems(where: str, analysis: SurvivalAnalysis, clinical: ClinicalSettings) -> Iterator[tuple[str, str]]:
    """Mistakes that show against the clinical section: (key, message)."""
    outcome = clinical.outcomes.get(analysis.outcome)
    if outcome is not None and outcome.type != "time-to-event":
        timed = [name for name, other in clinical.outcomes.items() if other.type == "time-to-event"]
        yield (
            f"{where}.outcome",
            f"{analysis.outcome!r} is {outcome.type}; survival needs a time-to-event outcome: write one of {timed} or "
            "declare one under clinical.outcomes: with time: and event:.",
        )
