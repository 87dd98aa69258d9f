"""Settings of splits: which patients train, which validate, which test."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, model_validator

from .base import Expression, Section

PARENT = re.compile(r"^(?P<split>[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*)\.(?P<part>training|validation|test)$")


class Split(Section):
    """A named assignment of patients to training, validation and test.

    Patients of external centres always get the part `external`.
    """

    test: float = Field(0.2, ge=0, lt=1, description="Fraction of each stratum that is held out for testing.")
    validation: float = Field(
        0.0, ge=0, lt=1, description="Fraction of each stratum for choices during training (stopping, checkpoints)."
    )
    stratify: tuple[str, ...] = Field(
        ("centre",),
        description="Keep the fractions within every combination of these: `centre`, names of outcomes, columns of the "
        "clinical table with few values.",
    )
    within: str | None = Field(
        None,
        description="Divide one part of another split, such as `synthesis.test`; external patients of that split stay "
        "external.",
    )
    of: str = Field(
        "scans",
        min_length=1,
        description="Which patients are divided: `scans` (those with an accepted scan), `clinical` (those in the "
        "clinical table), or the name of an imported feature set (those in it).",
    )
    where: Expression | None = Field(
        None, description="Only patients for which this holds; columns of the patient table, such as `age_years >= 18`."
    )
    table: str | None = Field(
        None,
        description="A fixed split as input: a TSV or CSV with the columns `patient` (pseudonym) and `part`. Patients "
        "who are not in it are left out.",
    )

    @property
    def parent(self) -> tuple[str, str] | None:
        """Name and part of the split that this one lies in."""
        match = PARENT.match(self.within or "")
        return (match["split"], match["part"]) if match else None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.test + self.validation >= 1:
            raise ValueError(
                f"test ({self.test}) and validation ({self.validation}) leave nobody for training: write fractions "
                "whose sum is below 1, such as test: 0.2 and validation: 0.1"
            )
        if self.within is not None and self.parent is None:
            raise ValueError(
                f"within: {self.within!r} is not <split>.<part>: write a split's name and training, validation or "
                "test, such as within: synthesis.test"
            )
        if len(set(self.stratify)) != len(self.stratify):
            raise ValueError(f"stratify: {list(self.stratify)} names something twice: write each once")
        return self
