"""Analyses of synthetic images against real ones: distances by layer, detectability, shift of features."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from .base import Expression, Name, Section
from .image_analyses import Part

PARTS: tuple[Part, ...] = ("test", "external")


class RadiomicsOfComparison(Section):
    """Feature sets for the Frechet radiomics distance."""

    target: Name = Field(description="feature set of the images of the target domain")
    synthetic: dict[Name, Name] = Field(description="feature set of the synthetic images by synthesis model")


class SynthesisComparison(Section):
    """How near the images of one or several synthesis models come to real ones, by axial layer."""

    kind: Literal["synthesis-comparison"] = Field("synthesis-comparison", description="kind of the analysis")
    synthesis: tuple[Name, ...] = Field(
        min_length=1, description="synthesis models to compare; each is judged on the unseen patients of its own split"
    )
    views: dict[Name, Name] = Field(
        {}, description="view made by a model, by model; needed where a model makes several views"
    )
    profile: Name = Field("default", description="profile (section profiles) by which slices are described")
    parts: tuple[Part, ...] = Field(PARTS, description="parts of the models' splits to examine, never training")
    source: bool = Field(
        True, description="compare the images of the source domain, too: what translation gains; CT to CT only"
    )
    radiomics: RadiomicsOfComparison | None = Field(
        None, description="feature sets for the Frechet radiomics distance; empty: none"
    )
    repeats: PositiveInt = Field(
        20, description="random divisions of the target's patients into two halves, over which estimates are averaged"
    )
    bootstrap: PositiveInt = Field(500, description="resamples of patients for the confidence intervals")
    frechet_bootstrap: PositiveInt = Field(50, description="the same for Frechet distances, which take much longer")
    frechet_slices: PositiveInt = Field(
        10, description="slices of a patient at most that enter the pooled Frechet distance, evenly spaced"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.synthesis)) < len(self.synthesis):
            raise ValueError("synthesis names a model twice; write each once")
        known = set(self.synthesis)
        for key, named in (
            ("views", self.views),
            ("radiomics: synthetic", self.radiomics and self.radiomics.synthetic),
        ):
            if unknown := sorted(set(named or {}) - known):
                raise ValueError(f"{key} names {unknown}, which synthesis does not list; write models of that list")
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        return self


class Detectability(Section):
    """Whether a classifier on the features of a fixed network tells synthetic from acquired images."""

    kind: Literal["detectability"] = Field("detectability", description="kind of the analysis")
    synthesis: Name = Field(description="synthesis model to examine")
    view: Name | None = Field(None, description="view made by that model; empty: the only one there is")
    profile: Name = Field("default", description="profile (section profiles) that has the features of a network")
    parts: tuple[Part, ...] = Field(PARTS, description="parts of the model's split to examine, never training")
    hidden: tuple[PositiveInt, ...] = Field(
        (256, 128, 64, 32, 16), description="nodes of the hidden layers (sigmoid); []: logistic regression"
    )
    l1: NonNegativeFloat = Field(1e-5, description="weight of the sum of the absolute weights and biases in the loss")
    epochs: PositiveInt = Field(2500, description="epochs of the classifier")
    batch: PositiveInt = Field(28, description="slices per step")
    learning_rate: PositiveFloat = Field(1e-4, description="learning rate of Adam")
    test: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="share of the patients kept for the test")
    validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="share of the other patients drawn for validation, anew in every repeat"
    )
    repeats: Annotated[int, Field(ge=2)] = Field(30, description="repeats with other validation patients")
    curve: PositiveInt = Field(25, description="epochs per point of the curves")
    bootstrap: PositiveInt = Field(1000, description="resamples of patients for the interval of the test's area")
    threads: PositiveInt = Field(2, description="CPU threads; sums, and so the last digits, depend on it")

    @model_validator(mode="after")
    def _has_parts(self) -> Self:
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        return self


class FeatureShift(Section):
    """How far the features of images change when they pass a synthesis model."""

    kind: Literal["feature-shift"] = Field("feature-shift", description="kind of the analysis")
    synthesis: Name = Field(description="synthesis model to examine")
    before: Name = Field(description="feature set of the images before the model")
    after: Name = Field(description="feature set of the same scans and regions after it")
    where: Expression | None = Field(
        None,
        description="expression over scans and patients that selects the scans, such as contrast == 'no'; empty: all",
    )
    parts: tuple[Part, ...] = Field(PARTS, description="parts of the model's split to examine, never training")
    shown_percent: PositiveFloat = Field(500.0, description="largest absolute change in percent that the figure shows")
    kept_percent: PositiveFloat = Field(10.0, description="change in percent up to which a value counts as kept")
    bootstrap: PositiveInt = Field(1000, description="resamples of patients for the confidence intervals")

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.before == self.after:
            raise ValueError("before and after name the same feature set; write those of the two views")
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        return self


class SynthesisProbe(Section):
    """What the way of inference does to synthetic images, and whether the generator hides the source in them."""

    kind: Literal["synthesis-probe"] = Field("synthesis-probe", description="kind of the analysis")
    synthesis: Name = Field(description="synthesis model to examine; its generators run again here")
    parts: tuple[Part, ...] = Field(PARTS, description="parts of the model's split to examine, never training")
    scans: PositiveInt = Field(10, description="scans to examine, one a patient, drawn at random")
    crop: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (192, 192, 96),
        description="voxels along x, y, z in the middle of the body that are examined; bounds time",
    )
    overlaps: tuple[PositiveInt, ...] = Field(
        (1, 2, 4),
        description="strides to compare, as windows per length of a window; the largest is the truth",
    )
    sigmas_hu: tuple[PositiveFloat, ...] = Field(
        (1.0, 2.0, 5.0), description="standard deviations in HU of the noise that the way back must bear"
    )
    examples: Annotated[int, Field(ge=0)] = Field(3, description="scans that are shown as pictures")
    window: tuple[float, float] = Field((-160.0, 240.0), description="lowest and highest HU of the pictures")
    bootstrap: PositiveInt = Field(1000, description="resamples of patients for the confidence intervals")

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if len(set(self.overlaps)) < 2:
            raise ValueError("overlaps names fewer than two strides; write such as [1, 2, 4]")
        if not self.parts:
            raise ValueError("parts is empty; write parts: [test, external]")
        return self


class SynthesisSummary(Section):
    """All metrics of all synthesis models that other analyses of the study have found, as one table and figure."""

    kind: Literal["synthesis-summary"] = Field("synthesis-summary", description="kind of the analysis")
    synthesis: tuple[Name, ...] = Field(
        (), description="synthesis models to show, in this order; empty: all that the analyses examine"
    )
    analyses: tuple[Name, ...] = Field(
        (),
        description="analyses of this study to join, of the kinds synthesis-comparison, synthesis-fidelity, "
        "detectability, feature-shift and synthesis-probe; empty: all there are",
    )
