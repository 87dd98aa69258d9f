"""Settings of the study report."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from .base import Name, Section
from .checklists import Answers, ChecklistName, problems

Chapter = Literal[
    "summary",
    "participants",
    "cohort",
    "pictures",
    "analyses",
    "readers",
    "training",
    "exclusions",
    "methods",
    "checklists",
    "limits",
]
CHAPTERS: tuple[Chapter, ...] = Chapter.__args__  # type: ignore[attr-defined]


class ReportSettings(Section):
    """What the report says beside the results."""

    title: str | None = Field(None, description="title of the report; that of the study, or its name, if absent")
    authors: tuple[str, ...] = Field((), description="authors, in order")
    intro: str = Field("", description="a few sentences on the question of the study, shown first")
    chapters: tuple[Chapter, ...] = Field(CHAPTERS, description="chapters of the report, in order")
    captions: dict[Name, str] = Field(
        default_factory=dict, description="a sentence or two of your own for an analysis or reader study, by its name"
    )
    language: Literal["en"] = Field("en", description="language of the report")
    checklists: dict[ChecklistName, Answers] = Field(
        default_factory=dict,
        description="What the software cannot know of the items of reporting checklists (claim, tripod-ai, stard-ai, "
        "clear, metrics), in your words by the number of the item: {claim: {44: no funding}}. 'not applicable: why' is "
        "an answer too; those to metrics begin with yes or no.",
    )
    gallery: int = Field(2, ge=0, le=12, description="scans shown per centre in the gallery")
    contact: int = Field(
        40, ge=0, le=200, description="scans per centre on its contact sheet; all centres together show 240 at most"
    )
    window_hu: tuple[int, int] = Field((-160, 240), description="window of the pictures: from, to, HU")
    difference_hu: int = Field(150, gt=0, description="difference pictures show minus to plus this, HU")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.window_hu[0] >= self.window_hu[1]:
            raise ValueError(
                f"window_hu: {list(self.window_hu)} goes down; write the lower value first, as in [-160, 240]"
            )
        if wrong := [p for name, own in self.checklists.items() for p in problems(name, own)]:
            raise ValueError("; ".join(wrong))
        if len(set(self.chapters)) < len(self.chapters):
            raise ValueError("chapters: a chapter occurs twice; name each once")
        return self
