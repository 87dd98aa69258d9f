"""Settings of what scans are examined for, and of how evidence becomes facts of the cohort."""

from __future__ import annotations

from pydantic import Field

from .base import Section


class ExamineSettings(Section):
    """What the images themselves tell about CT scans."""

    enhancement_hu: float = Field(
        20.0,
        gt=0,
        le=100,
        description="Blood that is brighter than muscle by this counts as enhanced as likely as not, HU.",
    )
    apex_share: float = Field(
        0.01,
        ge=0,
        le=0.2,
        description="Lungs that fill less than this share of their largest section in the first and the last slice "
        "are covered completely.",
    )


class EstablishSettings(Section):
    """How tags, descriptions and images are joined to the facts of the cohort table."""

    review_below: float = Field(
        0.9,
        ge=0.5,
        le=1,
        description="Contrast status that is less certain than this (probability) goes to the table for review.",
    )
    low_dose_mgy: float = Field(
        3.0,
        gt=0,
        description="CT scans with a volume dose index (CTDIvol, 32 cm phantom) up to this are low-dose, mGy; 3 is the "
        "limit of the ACR-STR practice parameter for lung cancer screening.",
    )
