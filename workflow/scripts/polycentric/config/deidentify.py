"""Settings of the shareable, de-identified copy of the accepted cohort."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from .base import Section

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]+$", to_lower=True, min_length=1, max_length=32)]
_REACH_DAYS = 36_500


class DeidentifySettings(Section):
    """What a shareable copy keeps beyond the Basic Application Level Confidentiality Profile of DICOM PS3.15."""

    dates: Literal["shift", "remove"] = Field(
        "shift",
        description="Dates: moved into the past by a secret number of days per patient, with times kept (shift), or "
        "emptied together with times (remove). Uptake values of PET need shift.",
    )
    shift_days: tuple[int, int] = Field(
        (365, 3650), description="Fewest and most days by which the dates of a patient move into the past."
    )
    device: Literal["pseudonym", "keep", "remove"] = Field(
        "pseudonym",
        description="Serial number, station name and the like of the scanner: a keyed pseudonym that tells scanners "
        "apart (pseudonym), the originals (keep), or nothing (remove). Maker, model, software and kernel always stay.",
    )
    patient_characteristics: bool = Field(
        True,
        description="Keep sex, age, size, weight and the like; ages above 89 years become 90. Uptake values of PET "
        "need the weight.",
    )
    descriptors: Literal["clean", "remove"] = Field(
        "clean",
        description="Descriptions of series, protocols, contours and the like: only words of a vocabulary stay "
        "(clean), or nothing (remove).",
    )
    words: tuple[Word, ...] = Field((), description="Further words that descriptions may keep; letters only.")
    roi_names: tuple[str, ...] = Field(
        (),
        description="Names of contours and segments that stay whatever their words: regular expressions that the whole "
        "name must match, upper and lower case alike. The study's own regions of interest are added.",
    )

    @model_validator(mode="after")
    def _check(self) -> DeidentifySettings:
        problems = []
        low, high = self.shift_days
        if not 1 <= low <= high <= _REACH_DAYS:
            problems.append(
                f"shift_days: write two numbers from 1 to {_REACH_DAYS}, the smaller one first: [365, 3650]"
            )
        elif high - low < 30:
            problems.append("shift_days: so narrow a range can be guessed; write numbers that lie 30 or more apart")
        for pattern in self.roi_names:
            try:
                re.compile(pattern)
            except re.error as error:
                problems.append(f"roi_names: {pattern!r} is no regular expression ({error})")
        if problems:
            raise ValueError("; ".join(problems))
        return self
