"""Settings of the analyses of tables: what they share, cohort description."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from .base import Name, Section
from .selection import DEFAULT, Selection

Share = Annotated[float, Field(gt=0, lt=1)]
Aggregate = Literal["mean", "median", "maximum", "minimum"]
Correction = Literal["holm", "bonferroni", "benjamini-hochberg", "none"]
GroupTest = Literal[
    "t",
    "student-t",
    "mann-whitney",
    "anova",
    "welch-anova",
    "kruskal-wallis",
    "fisher",
    "chi-squared",
    "two-proportion-z",
    "none",
]


class Analysis(Section):
    """What all analyses have: the words that the report prints."""

    title: str = Field("", description="Heading in the report; empty: the name of the analysis.")
    question: str = Field("", description="The question that the analysis answers, in one sentence.")
    caption: str = Field("", description="Text that is added to the caption of the main figure.")


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


class Explanation(Section):
    """What is said about how the fitted models come to their probabilities."""

    permutations: int = Field(
        10, ge=0, description="Shuffles of each variable among held-out patients for its importance; 0: none."
    )
    dependence: int = Field(4, ge=0, description="Variables of each model with a curve of partial dependence; 0: none.")
    shap: bool = Field(
        True,
        description="Shapley values on held-out patients: of random forests and boosted trees; of survival models, of "
        "boosted trees.",
    )


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
    unseen_category: Literal["missing", "reference", "error"] = Field(
        "missing",
        description="A category that no training patient has (in a fold: none of its training patients): a missing "
        "value, which is imputed; the reference category; or stop, where a patient outside training has it.",
    )
    absent_variable: Literal["impute", "drop", "error"] = Field(
        "impute",
        description="A variable without a value in any patient of a held-out centre, while training has it: impute it "
        "there from training, or drop it from all models (which then know that much of the held-out patients), each "
        "with a warning; or stop.",
    )
    selection: Selection = Field(
        DEFAULT,
        description="Selection of features: steps that are carried out in order, always inside training and inside "
        "every fold of its resampling; an empty list keeps all.",
    )
    resampling: Resampling = Field(Resampling(), description="Cross-validation inside the training part.")
    bootstraps: int = Field(1000, ge=0, description="Bootstrap samples of patients for the intervals.")
    permutations: int = Field(
        1000, ge=0, description="Runs of the whole chain with permuted outcomes of the training patients."
    )
    permutation_shards: int = Field(
        1,
        ge=1,
        description="Jobs that share the permutations; one permutation for each job at least. Results do not depend on "
        "it: raise it on a cluster.",
    )
    permute_within: Literal["centre"] | None = Field(
        None,
        description="`centre`: outcomes are permuted among the training patients of each centre, so that the null "
        "keeps what the centre alone tells of the outcome; null: among all training patients.",
    )
    decision_thresholds: tuple[Share, Share] = Field(
        (0.01, 0.99),
        description="Lowest and highest threshold of the decision curves: those at which somebody would act, such as "
        "`[0.05, 0.4]` where harm of a missed patient outweighs that of one treated in vain.",
    )
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
    subgroups: dict[str, tuple[float, ...]] = Field(
        {},
        description="Columns of the patient or the scan table by whose groups performance is shown, with the bounds "
        "of the groups of numbers (`age_years: [60]`); an empty list takes words as they are and divides numbers at "
        "the median of training. Performance by centre is always shown.",
    )
    expected_r2: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="Nagelkerke's R squared that the sample size criteria expect of a model.",
    )

    @property
    def permuted_where(self) -> str:
        """For captions: among whom outcomes are permuted, if not among all training patients."""
        return f" within each {self.permute_within}" if self.permute_within else ""

    @model_validator(mode="after")
    def _range(self) -> Self:
        low, high = self.decision_thresholds
        if high - low < 0.01 - 1e-9:
            raise ValueError(
                f"decision_thresholds: {[low, high]}: write the lower one first and 0.01 apart at least, such as "
                "[0.05, 0.4]"
            )
        return self

    def permutations_of(self) -> list[range]:
        """The permutations of each shard: contiguous, sizes differ by one at most, none is empty."""
        total, shards = self.permutations, min(self.permutation_shards, self.permutations)
        return [range(total * k // shards, total * (k + 1) // shards) for k in range(shards)]


class CohortAnalysis(Analysis):
    """Description of the cohort: patients, outcomes and acquisition by group."""

    kind: Literal["cohort"] = "cohort"
    split: Name | None = Field(None, description="Describe the patients of this split only, with its parts.")
    by: str = Field(
        "centre",
        min_length=1,
        description="Groups: `centre`, `part` (of the split), a column of the patient table, or a binary, multi-class "
        "or horizon outcome.",
    )
    columns: tuple[str, ...] | None = Field(
        None,
        description="Columns of the patient table and outcomes to describe; null: all that the study declares.",
    )
    tests: dict[str, GroupTest] = Field(
        {},
        description="Tests of single columns where the usual choice is not wanted, such as {age_years: t}. Of numbers "
        "in two groups: `t` (Welch), `student-t`, `mann-whitney`; in any number: `anova`, `welch-anova`, "
        "`kruskal-wallis`; of categories: `fisher`, `chi-squared`, `two-proportion-z` (two groups, two categories); "
        "`none`.",
    )
    normality: Literal["decides", "reported"] = Field(
        "decides",
        description="Shapiro-Wilk test of every group: `decides` between tests of means and of ranks at p = 0.05, or "
        "is `reported` only, and means are compared.",
    )
    spread: Literal["auto", "f", "levene"] = Field(
        "auto",
        description="Test of equal spreads of numbers, reported beside: F test of two variances, Levene's test round "
        "medians (Brown and Forsythe), or `auto`: F for two groups that Shapiro-Wilk accepts as normal, else Levene. "
        "More than two groups always take Levene's.",
    )
    correction: Correction = Field("holm", description="Correction of the p values over the table.")
    acquisition: bool = Field(True, description="Describe the scans too: spacing, thickness, manufacturer, contrast.")


def features_of(analysis: Any) -> list[str]:
    """Names of the feature sets that an analysis reads, in order, without repeats."""
    if isinstance(models := getattr(analysis, "models", None), dict):
        names = [model.features for model in models.values() if model.features]
    else:
        names = list(getattr(analysis, "features", []))
    return list(dict.fromkeys(names))


def clinical_of(analysis: Any) -> list[str]:
    """Clinical columns that the models of a classification or survival analysis have, in order, without repeats."""
    if analysis.kind == "survival":
        return list(dict.fromkeys(name for model in analysis.models.values() for name in model.clinical))
    return list(analysis.clinical)
