"""Schema of the list of stable features, which other stages read."""

from __future__ import annotations

from . import Column, Schema

STABLE = Schema(
    "stable",
    1,
    {
        "feature": Column("text", "feature"),
        "stable": Column("flag", "whether the feature passes every design"),
        "reason": Column("text", "designs that it does not pass, with the number and the limit", required=False),
    },
    key=("feature",),
)
