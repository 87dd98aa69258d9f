"""Settings of the analyses of tables: what they share, cohort description, classification."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from .base import Name, Section

Classifier = Literal["logistic", "ridge", "lasso", "elastic-net", "random-forest"]
Aggregate = Literal["mean", "median", "maximum", "minimum"]


class Analysis(Section):
    """What all analyses have: the words that the report prints."""

    title: str = Field("", description="Heading in the report; empty: the name of the analysis.")
    question: str = Field("", description="The question that the analysis answers, in one sentence.")
    caption: str = Field("", description="Text that is added to the caption of the main figure.")


class Selection(Section):
    """Selection of features, always inside training and inside every fold of its resampling."""

    variance: float = Field(0.0, ge=0, description="Features with a variance at or below this are left out.")
    univariate_p: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Only features whose single test has a p value at or below this; null: no such limit. The test is "
        "Mann-Whitney for classes and the score test of Cox regression for survival.",
    )
    correlation: float | None = Field(
        0.9,
        gt=0,
        le=1,
        description="Of two features with an absolute Spearman correlation above this, the one with the weaker single "
        "test is left out; null: keep both.",
    )
    keep: int | None = Field(
        10, ge=1, description="At most this many features, the strongest single tests first; null: no limit."
    )


class Imputation(Section):
    """What stands in for missing values, always learnt inside training and inside every fold of its resampling."""

    method: Literal["median", "forest"] = Field(
        "median",
        description="`median` of the column; `forest`: random forests that predict a column from others, in rounds "
        "(missForest). Fitted anew in every fold and permutation, which takes time: lower `permutations` with it.",
    )
    trees: int = Field(50, ge=1, description="Trees of a forest.")
    rounds: int = Field(5, ge=1, description="Most rounds over all columns with missing values.")
    predictors: int = Field(
        20, ge=1, description="A column is predicted from at most this many others, those that correlate most with it."
    )


class Resampling(Section):
    """Repeated stratified cross-validation inside the training part, to tune and to set thresholds."""

    folds: int = Field(5, ge=2, description="Folds; fewer if the smaller class has fewer patients.")
    repeats: int = Field(5, ge=1, description="Repetitions with other folds.")


class TableAnalysis(Analysis):
    """What analyses of feature tables share."""

    split: Name = Field(description="Split whose training part fits and whose other parts evaluate.")
    outcome: str = Field(description="Name of the outcome.")
    rois: tuple[str, ...] | None = Field(
        None, description="Regions of interest whose features are used; null: all that the feature set has."
    )
    aggregate: Aggregate = Field(
        "mean", description="How several rows of one patient (scans, regions) become one value per feature."
    )
    imputation: Imputation = Field(Imputation(), description="What stands in for missing values.")
    selection: Selection = Field(Selection(), description="Selection of features.")
    resampling: Resampling = Field(Resampling(), description="Cross-validation inside the training part.")
    bootstraps: int = Field(1000, ge=0, description="Bootstrap samples of patients for the intervals.")
    permutations: int = Field(
        1000, ge=0, description="Runs of the whole chain with permuted outcomes of the training patients."
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")


class CohortAnalysis(Analysis):
    """Description of the cohort: patients, outcomes and acquisition by group."""

    kind: Literal["cohort"] = "cohort"
    split: Name | None = Field(None, description="Describe the patients of this split only, with its parts.")
    by: str = Field(
        "centre", min_length=1, description="Groups: `centre`, `part` (of the split), or a column of the patient table."
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Columns of the patient table to describe; null: all that the study declares."
    )
    acquisition: bool = Field(True, description="Describe the scans too: spacing, thickness, manufacturer, contrast.")


class ClassificationAnalysis(TableAnalysis):
    """Classification of a binary outcome from feature tables."""

    kind: Literal["classification"] = "classification"
    features: tuple[Name, ...] = Field((), description="Feature sets; each gives models of its own.")
    clinical: tuple[str, ...] = Field(
        (), description="Clinical columns that enter every model next to the features, without selection."
    )
    models: tuple[Classifier, ...] = Field(("lasso", "random-forest"), min_length=1, description="Classifiers.")
    select_on: Name | None = Field(
        None,
        description="Select on this feature set and use the selected features of every set (twin sets); null: each "
        "set selects for itself.",
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="`balanced`: both classes weigh the same in the fit; null: every patient weighs the same."
    )
    trees: int = Field(200, ge=1, description="Trees of a random forest.")

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not self.features and not self.clinical:
            raise ValueError("nothing to classify with: write features: [<set>] or clinical: [<column>]")
        if self.select_on is not None and self.select_on not in self.features:
            raise ValueError(
                f"select_on: {self.select_on!r} is not one of features: {list(self.features)}: write one of them"
            )
        for key in ("features", "clinical", "models"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ValueError(f"{key}: {list(getattr(self, key))} names something twice: write each once")
        return self


def features_of(analysis: Any) -> list[str]:
    """Names of the feature sets that an analysis reads, in order, without repeats."""
    if isinstance(models := getattr(analysis, "models", None), dict):
        names = [model.features for model in models.values() if model.features]
    else:
        names = list(getattr(analysis, "features", []))
    return list(dict.fromkeys(names))
