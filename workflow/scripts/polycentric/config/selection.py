"""Settings of the selection of features: a list of steps, carried out in order inside every fit."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .base import Section


class VarianceStep(Section):
    """Leave out features that hardly vary."""

    kind: Literal["variance"] = Field(description="Which kind of step this is.")
    above: float = Field(0.0, ge=0, description="Keep features with a variance above this, in their own unit squared.")


class CorrelationStep(Section):
    """Leave out features that say the same as others."""

    kind: Literal["correlation"] = Field(description="Which kind of step this is.")
    above: float = Field(0.9, gt=0, le=1, description="Of features with an absolute correlation above this, one stays.")
    method: Literal["spearman", "pearson"] = Field("spearman", description="Which correlation.")
    keep: Literal["better-auc", "lower-mean-correlation"] = Field(
        "better-auc",
        description="Which one stays: `better-auc`, the one with the stronger single test (AUC of two classes, "
        "Kruskal-Wallis of several, score test of Cox regression for survival), so that the strongest is taken first; "
        "`lower-mean-correlation`, the one whose mean absolute correlation with all others is lower.",
    )


class KendallStep(Section):
    """Keep features whose rank correlation with the outcome is strong enough."""

    kind: Literal["kendall"] = Field(description="Which kind of step this is.")
    at_least: float = Field(
        0.2, ge=0, lt=1, description="Least absolute Kendall's tau-b with the outcome; of several classes, in order."
    )


class SingleTestStep(Section):
    """Keep features whose single test is significant."""

    kind: Literal["test"] = Field(description="Which kind of step this is.")
    p: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Largest p value, uncorrected. The test is Mann-Whitney for two classes, Kruskal-Wallis for "
        "several "
        "and the score test of Cox regression for survival.",
    )


class MrmrStep(Section):
    """Minimum redundancy, maximum relevance: features are taken one after the other."""

    kind: Literal["mrmr"] = Field(description="Which kind of step this is.")
    count: int = Field(20, ge=1, description="So many features.")


class ForestStep(Section):
    """Keep the features that matter most to many random forests with random settings."""

    kind: Literal["forest"] = Field(description="Which kind of step this is.")
    count: int = Field(20, ge=1, description="So many features.")
    forests: int = Field(
        1000,
        ge=1,
        description="Forests, each with settings of its own drawn at random; their importances are averaged.",
    )
    trees: int = Field(20, ge=1, description="Trees of a forest.")


class EliminationStep(Section):
    """Recursive feature elimination: fit, drop the weakest, fit again."""

    kind: Literal["elimination"] = Field(description="Which kind of step this is.")
    count: int = Field(10, ge=1, description="So many features stay.")
    by: Literal["ridge", "random-forest", "xgboost"] = Field(
        "ridge", description="Model whose absolute coefficients or importances say which features are weakest."
    )
    drop: float = Field(
        0.2, gt=0, lt=1, description="Share of the remaining features that leaves at each round, at least one."
    )


class TopStep(Section):
    """Keep the features with the strongest single tests."""

    kind: Literal["top"] = Field(description="Which kind of step this is.")
    count: int = Field(10, ge=1, description="So many features.")


Step = Annotated[
    VarianceStep | CorrelationStep | KendallStep | SingleTestStep | MrmrStep | ForestStep | EliminationStep | TopStep,
    Field(discriminator="kind"),
]
NEED_CLASSES = ("kendall", "forest", "elimination")


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError(
            "write a list of steps, as in selection: [{kind: variance}, {kind: correlation, above: 0.9}, "
            "{kind: top, count: 10}]"
        )
    return value


Selection = Annotated[tuple[Step, ...], BeforeValidator(_listed)]
DEFAULT: tuple[Step, ...] = (
    VarianceStep(kind="variance"),
    CorrelationStep(kind="correlation"),
    TopStep(kind="top"),
)
