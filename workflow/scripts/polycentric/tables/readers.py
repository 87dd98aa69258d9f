"""Tables of a reader study. `ITEMS` may be shown to readers, `KEY` may not: it lies in the private folder."""

from __future__ import annotations

from ..tables import Column, Schema

ARMS = ("acquired", "synthetic")


def _text(description: str, *values: str, required: bool = True) -> Column:
    return Column("text", description, required, values)


ITEM = _text("item: HMAC of what it shows")
ITEMS = Schema(
    "reader-items",
    1,
    {
        "item": ITEM,
        "build": _text("identity of the whole set: answers to another build are refused"),
        "sha256": _text("SHA-256 of the item's pixels"),
    },
    key=("item",),
)
KEY = Schema(
    "reader-key",
    1,
    {
        "item": ITEM,
        "arm": _text("what it is", *ARMS),
        "centre": _text("centre"),
        "patient": _text("pseudonym of the patient"),
        "scan": _text("scan"),
        "view": _text("view"),
        "slice": Column("integer", "index of the slice, from 0"),
        "lowest_hu": Column("integer", "lowest grey value, HU"),
        "highest_hu": Column("integer", "highest grey value, HU"),
        "mean_hu": Column("number", "mean grey value, HU"),
        "at_lowest": Column("number", "share of pixels at the lowest grey value"),
    },
    key=("item",),
)
ANSWERS = Schema(
    "reader-answers",
    1,
    {
        "reader": _text("code of the reader"),
        "simulated": Column("flag", "whether the computer played the reader"),
        "position": Column("integer", "position of the item in the reader's order, from 1"),
        "item": ITEM,
        "arm": _text("what it is", *ARMS),
        "answer": _text("what the reader said", *ARMS),
        "active_ms": Column("integer", "time that the item was shown while the page was visible, ms", False),
    },
    key=("reader", "item"),
)
REJECTED = Schema(
    "reader-rejected",
    1,
    {
        "file": _text("first characters of the SHA-256 of the file"),
        "reader": _text("code of the reader, if the file gives one", required=False),
        "code": _text(
            "why",
            "UNREADABLE",
            "WRONG_STUDY",
            "WRONG_BUILD",
            "CHANGED",
            "IMPOSSIBLE",
            "INCOMPLETE",
            "DUPLICATE",
            "TWICE",
        ),
        "reason": _text("why, in words"),
    },
)
APP = Schema(
    "reader-app",
    1,
    {"path": _text("file relative to the study's results folder"), "sha256": _text("SHA-256 of that file")},
    key=("path",),
)
