"""Settings of the classification of binary and multi-class outcomes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .analyses import Explanation, TableAnalysis
from .base import Name, Section

Classifier = Literal[
    "logistic",
    "ridge",
    "lasso",
    "elastic-net",
    "linear-svm",
    "rbf-svm",
    "random-forest",
    "pls-da",
    "xgboost",
    "nearest-centroid",
]


class Search(Section):
    """How the hyper-parameters of a model are chosen: by the log loss of the resampling inside training, of forests by
    their out-of-bag log loss, which needs no folds."""

    kind: Literal["grid", "random", "bayes"] = Field(
        "grid",
        description="`grid`: at most ten settings of each model; `random`: settings drawn from wider ranges; `bayes`: "
        "settings proposed one after the other by a tree-structured Parzen estimator (optuna).",
    )
    trials: int = Field(30, ge=1, description="Settings that random and bayes try of each model.")


class CrossValidation(Section):
    """Repeated stratified cross-validation of all patients who are not external, tuning nested inside."""

    kind: Literal["cross-validation"] = Field(description="Which kind of validation this is.")
    folds: int = Field(5, ge=2, description="Folds; fewer if the smallest class has fewer patients.")
    repeats: int = Field(10, ge=1, description="Repetitions with other folds.")


class LeaveCentreOut(Section):
    """Each centre in turn is predicted by models of the other centres; external patients never enter."""

    kind: Literal["leave-centre-out"] = Field(description="Which kind of validation this is.")


class RandomSplits(Section):
    """The distribution of the test AUC over many random splits, and where the split of the study lies in it."""

    kind: Literal["random-splits"] = Field(description="Which kind of validation this is.")
    count: int = Field(100, ge=2, description="Random splits into training and test, stratified by class.")
    test: float | None = Field(
        None, gt=0, lt=1, description="Share of test patients; null: that of the study's split, or 0.3 without one."
    )


Scheme = Annotated[CrossValidation | LeaveCentreOut | RandomSplits, Field(discriminator="kind")]


class Lesions(Section):
    """Models of lesions, whose probabilities are joined per patient."""

    join: Literal["maximum", "mean", "noisy-or"] = Field(
        "maximum",
        description="Probability of a patient from those of the lesions: the largest, the mean, or the probability "
        "that "
        "not all are negative if they were independent.",
    )
    outcome: str | None = Field(
        None,
        description="Column of the feature sets with the outcome of each lesion (1 or 0); null: each lesion has the "
        "outcome of its patient.",
    )


class ClassificationAnalysis(TableAnalysis):
    """Classification of a binary or multi-class outcome from feature tables."""

    kind: Literal["classification"] = "classification"
    features: tuple[Name, ...] = Field((), description="Feature sets; each gives models of its own.")
    clinical: tuple[str, ...] = Field(
        (), description="Clinical columns that enter every model next to the features, without selection."
    )
    models: tuple[Classifier, ...] = Field(
        ("lasso", "random-forest"),
        min_length=1,
        description="Classifiers. Support vector machines get their probabilities by Platt scaling inside training, "
        "`pls-da` by discriminant analysis of its scores, `nearest-centroid` from distances in standard deviations.",
    )
    select_on: Name | tuple[Name, ...] | None = Field(
        None,
        description="Select on this feature set and use the selected features of every set (twin sets); a list does so "
        "with each of its sets in turn, so that models are compared after either selection; null: each set selects for "
        "itself.",
    )
    class_weight: Literal["balanced"] | None = Field(
        None, description="`balanced`: all classes weigh the same in the fit; null: every patient weighs the same."
    )
    sampling: Literal["undersample", "oversample"] | None = Field(
        None,
        description="Balanced training rows, drawn inside every fold after the selection: `undersample` without "
        "replacement to the smallest class, `oversample` with replacement to the largest. Probabilities then refer to "
        "equally frequent classes.",
    )
    search: Search = Field(Search(), description="Choice of hyper-parameters.")
    trees: int = Field(200, ge=1, description="Trees of a random forest.")
    validation: tuple[Scheme, ...] = Field(
        (), description="Further validation beside the split: patients are divided anew, external ones never enter."
    )
    ensembles: dict[Name, tuple[str, ...]] = Field(
        {}, description="Means of the probabilities of models, by name: `{both: [ct/lasso, clinical-ct/xgboost]}`."
    )
    agreements: dict[Name, tuple[str, str]] = Field(
        {},
        description="Combined rules of two models, by name: `{both: [ct/lasso, pet/lasso]}`. A patient in whom they "
        "disagree gets no call; the share with a call is reported.",
    )
    sensitivities: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.9,), description="Sensitivities at which thresholds are set in training, beside Youden's; binary outcomes."
    )
    lesions: Lesions | None = Field(
        None, description="Fit on lesions (rows of the feature sets) and join per patient; null: one row per patient."
    )
    explain: Explanation = Field(Explanation(), description="Explanations of the fitted models.")

    @property
    def references(self) -> tuple[str, ...]:
        """Sets that features are selected on; empty where each set selects for itself."""
        if self.select_on is None:
            return ()
        return (self.select_on,) if isinstance(self.select_on, str) else self.select_on

    @property
    def arms(self) -> dict[str, tuple[str | None, str | None]]:
        """What models are fitted on, by name: (feature set, set that is selected on)."""
        if not self.features:
            return {"clinical": (None, None)}
        if len(self.references) < 2:
            reference = self.references[0] if self.references else None
            return {name: (name, reference) for name in self.features}
        return {f"{name}-by-{by}": (name, by) for by in self.references for name in self.features}

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if not self.features and not self.clinical:
            raise ValueError("nothing to classify with: write features: [<set>] or clinical: [<column>]")
        for name in self.references:
            if name not in self.features:
                raise ValueError(
                    f"select_on: {name!r} is not one of features: {list(self.features)}: write one of them"
                )
        for key in ("features", "clinical", "models", "references", "sensitivities"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                written = "select_on" if key == "references" else key
                raise ValueError(f"{written}: {list(getattr(self, key))} names something twice: write each once")
        kinds = [scheme.kind for scheme in self.validation]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"validation: {kinds} names a kind twice: write each once")
        if self.lesions and not self.features:
            raise ValueError("lesions: rows of lesions come from feature sets: write features: [<set>]")
        return self

    @model_validator(mode="after")
    def _members(self) -> Self:
        known = [f"{arm}/{model}" for arm in self.arms for model in self.models]
        for key in ("ensembles", "agreements"):
            for name, members in getattr(self, key).items():
                also = [f"ensemble/{other}" for other in self.ensembles] if key == "agreements" else []
                if wrong := [member for member in members if member not in (*known, *also)]:
                    raise ValueError(f"{key}.{name}: there is no {wrong[0]!r}; write some of {[*known, *also]}")
                if len(set(members)) < max(2, len(members)):
                    raise ValueError(f"{key}.{name}: {list(members)}: write two different models or more")
        if "ensemble" in self.arms and self.ensembles:
            raise ValueError("features: a set named ensemble stands in the way of ensembles:; give it another name")
        return self


class Application(Section):
    """A kept model applied to a feature table, on request (`snakemake apply`)."""

    model: str = Field(
        description="Model of this study, as analysis/set/model of a classification (`severity/ct/lasso`) or "
        "analysis/model of a survival analysis (`survival/clinical`); or the path of a .skops file beside its ledger, "
        "as another study wrote it.",
        min_length=1,
    )
    features: Name | None = Field(
        None, description="Feature set to apply it to; null: the model has clinical columns alone."
    )
    outcome: str | None = Field(
        None, description="Outcome to compare with, for patients whom the model has not seen; null: none."
    )
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        description="Probability from which on a patient is called positive, as it was set in training (`thresholds` "
        "in metrics.json of the analysis) or published; two classes; null: no calls.",
    )
    subgroups: dict[str, tuple[float, ...]] = Field(
        {},
        description="Columns of the patient or the scan table by whose groups performance is shown, with the bounds of "
        "the groups of numbers (`age_years: [60]`); an empty list takes words as they are and divides numbers at the "
        "median. Performance by centre is always shown.",
    )

    @property
    def file(self) -> bool:
        """Whether the model is a file of another study."""
        return self.model.endswith(".skops")

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.file and self.model.count("/") not in (1, 2):
            raise ValueError(
                f"model: {self.model!r}: write analysis/set/model (classification), analysis/model (survival), or the "
                "path of a .skops file"
            )
        return self
