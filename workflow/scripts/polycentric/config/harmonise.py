"""The analysis that shows what harmonisation changed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .analyses import Analysis
from .base import Name


class HarmonisationAnalysis(Analysis):
    """Differences between centres (or other batches) before and after harmonisation."""

    kind: Literal["harmonisation"] = Field(description="Which kind of analysis this is.")
    features: tuple[Name, Name] = Field(description="The feature set as it was, then the harmonised one.")
    split: Name = Field(description="Split by whose training part the harmonisation was fitted.")
    batch: str | tuple[str, ...] = Field(
        "centre", description="What tells batches apart, as in the harmonised feature set."
    )
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest; null: all.")
    show: int = Field(8, ge=1, le=24, description="Features whose distributions are drawn, most different ones first.")
    folds: int = Field(5, ge=2, description="Folds of the classifiers that predict the batch of training patients.")
    repeats: int = Field(5, ge=1, description="Repetitions with other folds.")
    trees: int = Field(200, ge=1, description="Trees of the random forest that predicts the batch.")
    bootstraps: int = Field(1000, ge=0, description="Bootstrap samples of patients for the intervals.")
    permutations: int = Field(1000, ge=0, description="Permutations of the batches for the linear classifier's null.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")

    @property
    def batches(self) -> tuple[str, ...]:
        return (self.batch,) if isinstance(self.batch, str) else self.batch

    @model_validator(mode="after")
    def _check(self) -> HarmonisationAnalysis:
        if self.features[0] == self.features[1]:
            raise ValueError("features names the same set twice: write the set as it was, then the harmonised one")
        return self
