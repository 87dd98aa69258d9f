"""Analyses of agreement: readers and measurements, answers, masks, kinds of features, and another extraction."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .analyses import Aggregate, Analysis, Correction
from .base import Name, Section


class FeatureAgreementAnalysis(Section):
    """How far features agree with those of another extraction of the same ROIs, and volumes with known ones."""

    kind: Literal["feature-agreement"] = Field(description="Which kind of analysis this is.")
    features: tuple[Name, Name] = Field(description="Our feature set, then the one that it is compared with.")
    tolerances: tuple[float, ...] = Field(
        (0.01, 0.05), description="Relative differences below which features count as agreeing."
    )
    volumes: str | None = Field(
        None,
        description="CSV of known ROI volumes with columns patient_id, roi, volume_ml and source (such as analytic or "
        "published); null: none.",
    )
    volume_tolerance: float = Field(
        0.003, gt=0, description="Acceptable relative difference of a mask from a volume whose source is `analytic`."
    )

    @model_validator(mode="after")
    def _check(self) -> FeatureAgreementAnalysis:
        if self.features[0] == self.features[1]:
            raise ValueError("features names the same set twice: write our set and the other one")
        if not self.tolerances or min(self.tolerances) <= 0:
            raise ValueError("tolerances must be relative differences above 0, such as [0.01, 0.05]")
        return self


class _Estimates(Analysis):
    bootstraps: int = Field(1000, ge=0, description="Bootstrap samples for intervals that need them.")
    level: float = Field(0.95, gt=0.5, lt=1, description="Level of the confidence intervals.")
    correction: Correction = Field("holm", description="Correction of the p values within each kind of test.")


class AgreementAnalysis(_Estimates):
    """How far readers, methods or repeats agree about the same patients, scans or regions."""

    kind: Literal["agreement"] = Field(description="Which kind of analysis this is.")
    scale: Literal["nominal", "ordinal", "numeric"] = Field(
        description="`nominal`: categories (Fleiss, Cohen). `ordinal`: categories in an order (weighted kappa too). "
        "`numeric`: measurements (ICC, CCC, Bland-Altman)."
    )
    columns: dict[Name, str] = Field(
        {}, description="Readers or methods, each with its column of the patient table: {reader-1: score_1, ...}."
    )
    features: tuple[Name, ...] = Field(
        (), max_length=1, description="Instead of columns: an imported feature set with a column of readers."
    )
    variables: tuple[str, ...] | None = Field(
        None, min_length=1, description="Features of that set that are compared; null: all that fit the scale."
    )
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest of the set; null: all.")
    levels: tuple[str, ...] | None = Field(
        None, description="Categories in their order, lowest first; null takes numbers as they are (ordinal)."
    )
    truth: str | None = Field(
        None,
        description="Column of the patient table with the true category: share called rightly by reader, and McNemar's "
        "test between readers.",
    )
    ratio: bool = Field(
        False, description="Bland-Altman of ratios (logarithms) for differences that grow with what is measured."
    )
    show: int = Field(
        12,
        ge=1,
        le=200,
        description="Features whose estimates stand in the report, and whose Bland-Altman intervals are made by "
        "bootstrap where patients have several items; tables hold all features.",
    )

    @model_validator(mode="after")
    def _check(self) -> AgreementAnalysis:
        if bool(self.columns) == bool(self.features):
            raise ValueError("write either columns: {reader-1: <column>, reader-2: <column>} or features: [<set>]")
        if len(self.columns) == 1:
            raise ValueError("columns: one reader agrees with nobody; name two or more")
        if self.columns and (self.variables or self.rois):
            raise ValueError("variables and rois belong to features; leave them out with columns")
        if self.truth and (self.scale == "numeric" or self.features):
            raise ValueError("truth is a category of a patient; it goes with columns and scale: nominal or ordinal")
        if self.levels and self.scale != "ordinal":
            raise ValueError("levels is the order of an ordinal scale; leave it out or write scale: ordinal")
        return self


class SurveyAnalysis(_Estimates):
    """Answers of readers: percent correct or preferred, within and between surveys."""

    kind: Literal["survey"] = Field(description="Which kind of analysis this is.")
    readers: tuple[Name, ...] = Field((), description="Reader studies of this study; each is a survey.")
    table: str | None = Field(
        None,
        description="CSV with one answer a row and columns survey (if there are several), reader, item, answer, and "
        "truth where there is a right one. Use codes for readers: names would enter the results.",
    )
    preferred: str | None = Field(
        None, description="Answer whose share is estimated, such as automatic; null: the share of right answers."
    )
    chance: float = Field(
        0.5, gt=0, lt=1, description="Share of right (or preferred) answers by guessing, for the exact binomial test."
    )
    by: str | None = Field(None, description="Further column of the table that groups readers, such as profession.")

    @model_validator(mode="after")
    def _check(self) -> SurveyAnalysis:
        if bool(self.readers) == bool(self.table):
            raise ValueError("write either readers: [<reader study>] or table: <CSV>")
        if self.by and not self.table:
            raise ValueError("by is a column of the table; leave it out with reader studies")
        return self


class MaskAgreementAnalysis(_Estimates):
    """How far the outlines of several readers, or of a network and readers, agree."""

    kind: Literal["mask-agreement"] = Field(description="Which kind of analysis this is.")
    sources: tuple[Name, ...] = Field(min_length=2, description="Mask sources: readers, and networks if wanted.")
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest; null: all they share.")
    against: Name | None = Field(
        None,
        description="One of the sources, such as a network: its agreement with the others is compared with the "
        "agreement of the others among themselves.",
    )
    split: Name | None = Field(None, description="Only patients outside the training part of this split.")

    @model_validator(mode="after")
    def _check(self) -> MaskAgreementAnalysis:
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("sources names one twice: write each once")
        if self.against is not None and (self.against not in self.sources or len(self.sources) < 3):
            raise ValueError("against is one of at least three sources: the others need a pair among themselves")
        return self


class AssociationAnalysis(_Estimates):
    """Correlations between kinds of features: point-biserial, phi and rank correlations."""

    kind: Literal["association"] = Field(description="Which kind of analysis this is.")
    features: tuple[Name, ...] = Field((), description="Feature sets; each is a kind of features.")
    clinical: tuple[str, ...] = Field((), description="Columns of the patient table, together one more kind.")
    split: Name | None = Field(None, description="Only training patients of this split; null: all patients.")
    rank: Literal["spearman", "kendall"] = Field("spearman", description="Correlation of numbers and orders.")
    rois: tuple[str, ...] | None = Field(None, description="Only these regions of interest; null: all.")
    aggregate: Aggregate = Field(
        "mean", description="How several rows of one patient (scans, regions) become one value per feature."
    )
    correction: Correction = Field("benjamini-hochberg", description="Correction of the p values of all pairs.")
    strong: float = Field(0.5, gt=0, le=1, description="Size of a correlation from which it is counted as strong.")

    @model_validator(mode="after")
    def _check(self) -> AssociationAnalysis:
        if len(self.features) + bool(self.clinical) < 2:
            raise ValueError("two kinds of features are needed: name two feature sets, or one and clinical columns")
        return self
