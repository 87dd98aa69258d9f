"""Reporting checklists: items in our own words, and which evidence of a study answers them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from ..files import hash_of
from .base import Section

FOLDER = Path(__file__).parents[4] / "resources" / "checklists"
ChecklistName = Literal["claim", "tripod-ai", "stard-ai", "clear", "metrics"]
NAMES: tuple[ChecklistName, ...] = ChecklistName.__args__  # type: ignore[attr-defined]
NOT_APPLICABLE = "not applicable:"

# YAML reads 4 as a number and 3a as text
Number = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]
Answer = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Answers = dict[Number, Answer]


class Item(Section):
    """An item of a checklist."""

    id: str = Field(description="Number in the source.")
    section: str = Field(description="Section of the checklist.")
    topic: str = Field(description="What it asks for, in our own words.")
    evidence: tuple[str | tuple[str, ...], ...] = Field(
        (), description="Evidence that answers it: every one is needed; of those in a list, one."
    )
    left: str = Field("", description="What only the author can say, evidence or not.")
    with_: str | None = Field(None, alias="with", description="Applies only where this evidence is found.")
    without: str | None = Field(None, description="Applies only where this evidence is not found.")
    otherwise: str = Field("", description="Why it does not apply else.")
    weight: float | None = Field(None, description="Weight in the score of the checklist.")


class Applies(Section):
    """Which studies a checklist is for."""

    to: tuple[str, ...] = Field(description="Evidence of which one must be found.")
    otherwise: str = Field(description="Why it does not apply else.")


class Checklist(Section):
    """A reporting checklist."""

    name: str = Field(description="Name.")
    about: str = Field(description="What it is for.")
    source: str = Field(description="Where it was published.")
    count: int = Field(description="Number of items in the source, each sub-item counted.")
    applies: Applies = Field(description="Which studies it is for.")
    items: tuple[Item, ...] = Field(description="Its items, in order.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        ids = [item.id for item in self.items]
        if len(set(ids)) != len(ids) or len(ids) != self.count:
            raise ValueError(f"{self.name}: {len(set(ids))} different items, and {self.count} in the source")
        if any((item.with_ or item.without) and not item.otherwise for item in self.items):
            raise ValueError(f"{self.name}: an item that need not apply must say why")
        return self


def path(name: ChecklistName) -> Path:
    return FOLDER / f"{name}.yaml"


def fingerprint(name: ChecklistName) -> str:
    """Hash of a checklist without its comments."""
    lines = path(name).read_text(encoding="utf-8").splitlines()
    return hash_of([line for line in lines if not line.startswith("#")])


@cache
def load(name: ChecklistName) -> Checklist:
    return Checklist.model_validate(yaml.safe_load(path(name).read_text(encoding="utf-8")))


def problems(name: ChecklistName, answers: Answers) -> list[str]:
    """What is wrong with an author's answers, in words."""
    known = {item.id: item for item in load(name).items}
    found = [
        f"checklists.{name}: there is no item {number!r}; items are {', '.join(known)}"
        for number in answers
        if number not in known
    ]
    for number, text in answers.items():
        lower = text.lower()
        if lower.startswith("not applicable") and not lower.removeprefix(NOT_APPLICABLE).strip():
            found.append(f"checklists.{name}.{number}: say why, as in 'not applicable: no one was treated'")
        elif number in known and known[number].weight is not None and not re.match(r"(yes|no)\b", lower):
            found.append(f"checklists.{name}.{number}: begin with yes or no, since the item counts in a score")
    return found
