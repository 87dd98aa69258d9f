"""The table of open questions that a person fills in: how it is read back and checked."""

from __future__ import annotations

import csv
from collections.abc import Collection
from io import StringIO
from pathlib import Path

from ..columns import SEQUENCES
from ..errors import UserError

ANSWERS: dict[str, tuple[str, ...]] = {
    "contrast": ("yes", "no", "unknown"),
    "coverage": ("complete", "incomplete", "unknown"),
    "dose": ("low", "standard", "unknown"),
    "sequence": SEQUENCES,
}
SHOWN = 20
Answers = dict[tuple[str, str], str]


def read_answers(path: Path, scans: Collection[str]) -> Answers:
    """The answers by scan and question; rows without an answer are passed over.

    The table is `cohort/review.tsv` with the column `answer` filled in, saved as TSV or CSV (comma or semicolon); only
    the columns scan, question and answer count, and rows may be left out or added.

    Raises
    ------
    UserError
        with all problems at once: missing columns, unknown scans, questions or answers, contradictions.
    """
    where = path.name
    rows = _rows(path)
    header = [name.strip().lower() for name in rows[0][1]] if rows else []
    if missing := [name for name in ("scan", "question", "answer") if name not in header]:
        raise UserError(
            f"{where}: the table for review has no column {', '.join(missing)}. Start from cohort/review.tsv, fill in "
            "the column answer, and save it as .tsv or .csv."
        )
    position = {name: header.index(name) for name in ("scan", "question", "answer")}
    answers: Answers = {}
    problems: list[str] = []
    for number, cells in rows[1:]:
        cells = [*cells, *[""] * len(header)]
        scan, question, answer = (cells[position[name]].strip() for name in ("scan", "question", "answer"))
        question = question.lower()
        answer = {a.casefold(): a for a in ANSWERS.get(question, ())}.get(answer.casefold(), answer)
        if not answer:
            continue
        if question not in ANSWERS:
            problems.append(f"row {number}: question {question!r} does not exist; write one of: {', '.join(ANSWERS)}")
        elif answer not in ANSWERS[question]:
            allowed = ", ".join(ANSWERS[question])
            problems.append(f"row {number}: {answer!r} is no answer to {question}; write one of: {allowed}")
        elif scan not in scans:
            problems.append(f"row {number}: no accepted scan is called {scan!r}; correct the name or remove the row")
        elif answers.setdefault((scan, question), answer) != answer:
            problems.append(f"row {number}: another row answers {question} of {scan} otherwise; leave one of them")
    if problems:
        more = [f"  - and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError(
            f"{where} has {len(problems)} problem{'s' * (len(problems) > 1)}:",
            *(f"  - {p}" for p in problems[:SHOWN]),
            *more,
        )
    return answers


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows with their number in the file, without the line that names the schema and without empty ones."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"review: the file {path.name!r} does not exist. Write its path.") from None
    for encoding in ("utf-8-sig", "cp1252", "latin-1"):
        try:
            text = data.decode(encoding)
            break
        except UnicodeDecodeError:
            continue
    lines = text.splitlines()
    header = next((line for line in lines if line.strip() and not _schema(line)), "")
    separator = max(("\t", ";", ","), key=header.count)
    rows = list(enumerate(csv.reader(StringIO(text, newline=""), delimiter=separator), start=1))
    return [(n, cells) for n, cells in rows if any(c.strip() for c in cells) and not _schema(cells[0])]


def _schema(text: str) -> bool:
    return text.lstrip('"# ').startswith("schema:")
