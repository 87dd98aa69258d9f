"""The ledger: which patients each model has seen, and the refusal to evaluate on any of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import read_json, write_json

VERSION = 1
CHOSEN = "import"  # stage of a feature table whose features were chosen elsewhere, with the outcomes of who is seen


def write(
    path: str | Path,
    *,
    name: str,
    stage: str,
    split: str,
    seen: dict[str, Iterable[str]],
    upstream: Iterable[str | Path] = (),
    unknown: str = "",
    weights: str = "",
    settings: str,
    code: str,
) -> None:
    """Write the ledger of a fitted model.

    `seen` maps a part (training, validation) to the patients whose data any fit, choice or stopping rule used;
    `upstream` are the ledger files of the models that made the inputs; they are embedded, so that one file tells all.
    `unknown` says what is not known of who was seen; `weights` is the SHA-256 of the weights that a training gave.
    """
    write_json(
        path,
        ({"unknown": unknown} if unknown else {})
        | ({"weights": weights} if weights else {})
        | {
            "schema_version": VERSION,
            "name": name,
            "stage": stage,
            "split": split,
            "seen": {part: sorted(set(patients)) for part, patients in seen.items()},
            "upstream": [read(p) for p in upstream],
            "settings": settings,
            "code": code,
        },
    )


def read(path: str | Path) -> dict[str, Any]:
    record = read_json(path)
    if record.get("schema_version") != VERSION:
        raise UserError(f"{path}: ledger of version {record.get('schema_version')}; remove it and run again.")
    return record


def beside(weights: str | Path) -> Path | None:
    """The ledger in the folder of a file of weights, where results of Polycentric have it."""
    path = Path(weights).with_name("ledger.json")
    return path if path.is_file() else None


def seen_by(record: dict[str, Any]) -> dict[str, set[str]]:
    """Patients seen by a model and by every model upstream of it, by model name."""
    result = {record["name"]: {p for patients in record["seen"].values() for p in patients}}
    for upstream in record["upstream"]:
        for name, patients in seen_by(upstream).items():
            result[name] = result.get(name, set()) | patients  # a name may come again, as after fine-tuning
    return result


# fits that may share the training part of what they serve: scalers and harmonisation, fitted like the chain itself
SHARED_STAGES = ("prepare", "extract", "harmonise")


def refuse(
    training: Iterable[str], held_out: Iterable[str], ledgers: Iterable[str | Path], *, split: str, where: str
) -> None:
    """Raise UserError if a model behind the inputs has seen a patient whom it must not have seen.

    Patients that are evaluated must be unknown to every model upstream. Patients that are fitted must be so too, since
    a learned image of a seen patient differs from one of an unseen patient; only a scaler or a harmonisation fitted
    on the training part of this very split may know them: it is a part of the chain. So may features that were chosen
    elsewhere with their outcomes (`chosen`).
    """
    training, held_out = set(training), set(held_out)
    problems = []
    for path in ledgers:
        for record in _records(read(path)):
            seen = {p for patients in record["seen"].values() for p in patients}
            if record["stage"] == CHOSEN:
                if leaked := sorted(seen & held_out):
                    problems.append(
                        f"{where}: features {record['name']!r} were chosen with the outcomes of {len(leaked)} patients "
                        f"who are to be evaluated ({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}). Give "
                        f"{where} a split in which these patients are in training, or take all features of the table "
                        "and let a selection inside the chain choose."
                    )
                continue
            shared = record["split"] == split and record["stage"] in SHARED_STAGES
            leaked = sorted(seen & (held_out if shared else held_out | training))
            if leaked:
                problems.append(
                    f"{where}: model {record['name']!r} behind its inputs has seen {len(leaked)} of its patients "
                    f"({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}). Give {where} a split that lies "
                    f"within the test part of that model's split (splits: ...: {{within: {record['split']}.test}})."
                )
    if problems:
        raise UserError(*dict.fromkeys(problems))


def chosen(patients: Iterable[str], ledgers: Iterable[str | Path]) -> dict[str, list[str]]:
    """Of these patients, those whose outcomes chose features elsewhere, by feature set; sets of nobody are left out."""
    patients = set(patients)
    found = {}
    for path in ledgers:
        for record in _records(read(path)):
            if record["stage"] == CHOSEN and (own := sorted(patients & set(record["seen"].get("chosen", ())))):
                found[record["name"]] = own
    return found


def unknown(ledgers: Iterable[str | Path]) -> dict[str, str]:
    """What is not known of who was seen, by name."""
    records = [record for path in ledgers for record in _records(read(path))]
    return {record["name"]: record["unknown"] for record in records if record.get("unknown")}


def _records(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [record, *(r for upstream in record["upstream"] for r in _records(upstream))]


def refuse_leaks(evaluated: Iterable[str], ledgers: Iterable[str | Path], *, where: str) -> None:
    """Raise if a model behind the inputs has seen a patient that is to be evaluated (or fitted downstream).

    Whose outcomes chose imported features does not matter here: images are evaluated, not predictions of outcomes.

    Raises
    ------
    UserError
        naming each model and how many of its patients are concerned.
    """
    evaluated = set(evaluated)
    problems = []
    for path in ledgers:
        for record in _records(read(path)):
            model, patients = record["name"], {p for own in record["seen"].values() for p in own}
            if record["stage"] != CHOSEN and (leaked := sorted(evaluated & patients)):
                problems.append(
                    f"{where}: model {model!r} behind its inputs has seen {len(leaked)} of its patients "
                    f"({', '.join(leaked[:3])}{', ...' if len(leaked) > 3 else ''}). Give {where} a split that lies "
                    f"within the test part of that model's split (splits: ...: {{within: <split>.test}})."
                )
    if problems:
        raise UserError(*problems)
