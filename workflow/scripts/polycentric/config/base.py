"""Base class of every section of a study file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Section(BaseModel):
    """A section: unknown keys are errors, values cannot change after loading, every key has a description."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$", max_length=48)]
Expression = Annotated[str, StringConstraints(min_length=1)]


class Source(Section):
    """Where data or weights come from, for the report and for a reader who does not have them yet."""

    description: str = Field(description="What they are.")
    url: str | None = Field(None, description="Where they can be had.")
    licence: str | None = Field(None, description="Their licence.")
    instructions: str = Field(
        description="What to download and where to put it; printed when a folder of images is absent."
    )


class ImportedWeights(Section):
    """Weights that were trained elsewhere, with what is known of the patients behind them."""

    path: str = Field(description="File with the weights (safetensors, as a study of Polycentric writes them).")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="SHA-256 of the file.")
    seen: tuple[str, ...] = Field(
        (),
        description="Pseudonyms of patients of this study that the model has seen; they enter its ledger. Empty for "
        "weights in a results folder of Polycentric: those of the ledger beside them are taken.",
    )
    source: Source | None = Field(None, description="Where the weights come from and under which licence.")
