"""The words of the report: summary, limits, and the settings as text without anything private."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .results import Estimate, number

PRIVATE = ("images", "table", "answers", "private", "withdraw", "path", "import")
HIDDEN = "‹kept private›"
PLAIN = re.compile(r"[A-Za-z‹][\w ./›-]*[\w./›-]|[A-Za-z]")
RESERVED = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")  # other things in YAML


def plural(n: int, one: str, many: str | None = None) -> str:
    return f"{number(n)} {one if n == 1 else many or one + 's'}"


def interval(e: Estimate) -> str:
    """An estimate in a sentence: ``0.81 (95 % interval 0.70 to 0.90, n = 34)``."""
    text = number(e.value)
    extra = []
    if e.lower is not None and e.upper is not None:
        extra.append(f"{e.level:.0%} interval {number(e.lower)} to {number(e.upper)}".replace("%", "\u202f%"))
    if e.n is not None:
        extra.append(f"n\u00a0=\u00a0{number(e.n)}")
    return f"{text} ({', '.join(extra)})" if extra else text


def facts(curation: pd.DataFrame, scans: pd.DataFrame, patients: pd.DataFrame) -> list[tuple[str, str]]:
    """The numbers at the top of the page."""
    external = patients.loc[patients["role"] == "external", "centre"].nunique()
    return [
        (number(int(scans["patient"].nunique())), "patients"),
        (number(len(scans)), "scans accepted"),
        (number(int((curation["verdict"] == "reject").sum())), "scans excluded"),
        (number(int(patients["centre"].nunique())), f"centres, {external} external"),
    ]


def summary(
    curation: pd.DataFrame,
    scans: pd.DataFrame,
    patients: pd.DataFrame,
    splits: Mapping[str, pd.DataFrame],
    analyses: Sequence[dict[str, Any]],
    readers: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """Sentences on the cohort, and for each question its main results."""
    rejected = int((curation["verdict"] == "reject").sum())
    repaired = int((curation["verdict"] == "repair").sum())
    external = sorted(patients.loc[patients["role"] == "external", "centre"].unique())
    cohort = [
        f"{plural(len(curation), 'candidate scan')} of {plural(int(curation['patient'].nunique()), 'patient')} from "
        f"{plural(int(curation['centre'].nunique()), 'centre')} were examined. {plural(rejected, 'was', 'were')} "
        f"excluded, each with a reason, and {number(repaired)} repaired; {plural(len(scans), 'scan')} of "
        f"{plural(int(scans['patient'].nunique()), 'patient')} went on."
    ]
    if external:
        cohort.append(
            f"Nothing was fitted on patients of {_list(external)}: what is said about them shows how the results carry "
            f"over to another hospital."
        )
    if splits:
        cohort.append("Patients were divided before anything was fitted; a patient is in one part of a split only.")
    answers = []
    for entry in [*(a for a in analyses if a["kind"] != "cohort"), *readers]:
        sentences = entry["sentences"] or [f"{e.what}: {interval(e)}" for e in _first(entry["estimates"])]
        if entry["status"]:
            sentences = [entry["status"][:1].upper() + entry["status"][1:] + ".", *sentences]
        answers.append(
            {"name": entry["name"], "title": entry["title"], "question": entry["question"], "sentences": sentences}
        )
    return {"cohort": cohort, "answers": answers}


def _first(estimates: Sequence[Estimate], limit: int = 4) -> list[Estimate]:
    """The first estimate of each group, on patients that fitted nothing where there are such."""
    known = [e for e in estimates if e.value is not None and e.lower is not None]
    chosen = [e for e in known if set(e.path) & {"test", "external"}] or known
    groups: dict[tuple[str, ...], Estimate] = {}
    for e in chosen:
        groups.setdefault(e.path[:-1], e)
    return list(groups.values())[:limit]


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def limits(
    study: Mapping[str, Any],
    simulated: Sequence[str],
    splits: Mapping[str, pd.DataFrame],
    analyses: Sequence[dict[str, Any]],
    readers: Sequence[dict[str, Any]],
    scans: pd.DataFrame,
) -> list[str]:
    """What this study cannot know, from what it has and lacks."""
    result = []
    if simulated:
        result.append(
            f"The scans of {_list(list(simulated))} are simulated. They show that the method finds what was planted, "
            f"and say nothing about patients."
        )
    if not (scans["role"] == "external").any():
        result.append("No centre was kept external: how results carry over to another hospital is unknown.")
    for name, split in splits.items():
        for part in ("test", "external"):
            n = int((split["part"] == part).sum())
            if 0 < n < 30:
                result.append(
                    f"The {part} part of split {name!r} has {plural(n, 'patient')}: intervals are wide, and a result "
                    f"may rest on a few of them."
                )
    if any((view or {}).get("synthesis") for view in (study.get("views") or {}).values()):
        result.append(
            "Synthetic images show what a model learned to be likely. They can add or remove structures, and must not "
            "be used to diagnose. That a metric is good does not show that a lesion is kept."
        )
    if any("simulated" in w for r in readers for w in r["warnings"]):
        result.append("Simulated readers are not readers: their numbers follow from the settings.")
    if len([a for a in analyses if a["kind"] != "cohort"]) > 1:
        result.append(
            "Several analyses were run. Their intervals and p values are not corrected for each other, unless an "
            "analysis says so."
        )
    result += [
        "The patients are those that the centres sent. Who was not scanned, or not sent, is not known here.",
        "Exclusions follow the tags of the scans: a wrong tag can exclude a sound scan, or let a faulty one pass.",
        "An association is not a cause. Scanner, protocol and hospital differ together with the patients.",
    ]
    return result


def without_paths(value: Any, key: str = "") -> Any:
    """The study without folders, files and identifiers that lead to people."""
    if isinstance(value, Mapping):
        return {str(k): HIDDEN if k in PRIVATE and v else without_paths(v, str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(v, key) for v in value]
    if isinstance(value, str) and (value.startswith(("/", "~", "\\")) or value[1:3] in (":\\", ":/")):
        return HIDDEN
    return value


def settings_text(value: Any, indent: int = 0) -> str:
    """Plain data as YAML for reading: short lists and mappings of single values on one line."""
    pad = "  " * indent
    if isinstance(value, Mapping):
        lines = []
        for key, item in value.items():
            if item is None or item in ({}, [], ""):
                continue
            if _inline(item) is not None:
                lines.append(f"{pad}{_inline(key)}: {_inline(item)}")
            else:
                lines.append(f"{pad}{_inline(key)}:\n{settings_text(item, indent + 1)}")
        return "\n".join(lines)
    if isinstance(value, list):
        return "\n".join(
            f"{pad}- {_inline(v)}" if _inline(v) is not None else f"{pad}-\n{settings_text(v, indent + 1)}"
            for v in value
        )
    return f"{pad}{_inline(value)}"


def _inline(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or isinstance(value, int | float):
        return "null" if value is None else repr(value)
    if isinstance(value, str):
        return (
            value if PLAIN.fullmatch(value) and value.lower() not in RESERVED else json.dumps(value, ensure_ascii=False)
        )
    if isinstance(value, list) and all(not isinstance(v, Mapping | list) for v in value):
        text = "[" + ", ".join(_inline(v) or "" for v in value) + "]"
        return text if len(text) <= 96 else None
    return None
