"""Feature tables that were made elsewhere: by other tools, or by people who scored the images."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import ledger as ledgers
from .. import tables
from ..coding import coded
from ..config.clinical import ColumnSettings
from ..config.features import Chosen, ImportedSet
from ..errors import UserError
from ..files import canonical_json
from ..jobs import SILENT, Log
from ..tables.schemas import FEATURES
from ..tables.written import absent, read_written, rows_in_words

# what an identifier may be written without, to say what is wrong where none matches
VARIANTS: dict[str, Callable[[str], str]] = {
    "in capitals": str.upper,
    "in small letters": str.lower,
    "without leading zeros": lambda v: v.lstrip("0"),
    "without what follows the first underscore": lambda v: v.partition("_")[0],
    "with - for _": lambda v: v.replace("_", "-"),
    "with _ for -": lambda v: v.replace("-", "_"),
}
SHOWN = 5
UNKNOWN = "whose outcomes were used to choose its features"
Identify = Callable[[str, str, str], str]


@dataclass
class _Read:
    """Rows of one file: whose they are (a row of `keys` each, same index) and their features as text."""

    name: str
    keys: pd.DataFrame
    features: pd.DataFrame
    diagnostics: pd.DataFrame
    counts: dict[str, int]


def import_table(
    set_name: str,
    settings: ImportedSet,
    *,
    files: Sequence[Path],
    identify: Identify,
    cohort: Collection[str] | None = None,
    output: Path,
    withdrawn: Collection[str] = (),
    fold: str = "main",
    ledger: Path | None = None,
    settings_json: str = "{}",
    code: str = "",
    log: Log = SILENT,
) -> None:
    """Read feature tables into schema features, one row with status ok per patient, scan, reader and ROI.

    Parameters
    ----------
    files
        the files of `settings.files`, in that order.
    identify
        gives the pseudonym of a `patient`, `session` or `scan` from this kind, the centre and the identifier.
    cohort
        pseudonyms of the patients of the cohort: rows of others stay without values, rejected with
        FEATURE_ROW_STRANGER. None takes everybody.
    withdrawn
        pseudonyms of patients whose rows are left out altogether.
    ledger
        where to write whose outcomes were used to choose the features (`settings.chosen_on`).

    Rows without a scan column belong to no scan of the study: their scan is `imported-<patient>`, with the visit where
    there is one. A second row with the same keys is `...-2`, rejected with FEATURE_ROW_DUPLICATE where the settings do
    not stop. Numbers are stored in the project's units, ordinal and binary scores as codes, categories as categories;
    columns `diagnostics_*` that are dropped stay readable in the text column `diagnostics`.

    Raises
    ------
    UserError
        with all problems at once, each with file, rows and columns (never an identifier) and what to write instead.
    """
    where = f"features: {set_name}"
    problems: list[str] = []
    marked = settings.chosen_on.rows if isinstance(settings.chosen_on, Chosen) else {}
    absent_marks = [(column, value) for column, values in marked.items() for value in values]
    read = [
        found
        for path, (_, centre) in zip(files, settings.files, strict=True)
        if (found := _read(path, centre, settings, where, problems, absent_marks)) is not None
    ]
    _refuse(where, problems)
    names = ", ".join(r.name for r in read)
    problems += [
        f"{where}: chosen_on.rows: no row of {names} has {value!r} in column {column!r}."
        for column, value in absent_marks
    ]
    _refuse(where, problems)
    _check_names(read, settings, where, problems)
    keys = pd.concat([r.keys for r in read], ignore_index=True)
    text = pd.concat([r.features for r in read], ignore_index=True)
    diagnostics = pd.concat([r.diagnostics for r in read], ignore_index=True)
    places = [(r.name, row) for r in read for row in r.keys.index]
    if settings.rois and (lost := sorted({*settings.rois} - {*keys["roi"]})):
        problems.append(f"{where}: rois: {lost} are not in the table; it has {sorted({*keys['roi']})[:10]}.")
    values, infinite = _values(text, places, settings, where, problems)

    people = [identify("patient", c, p) for c, p in zip(keys["centre"], keys["patient"], strict=True)]
    wanted = [not settings.rois or roi in settings.rois for roi in keys["roi"]]
    taken = [i for i, name in enumerate(people) if wanted[i] and name not in withdrawn]
    known = [i for i in taken if cohort is None or people[i] in cohort]
    hints = _hints(keys, people, cohort, identify)
    if taken and not known:
        likely = next(iter(hints.values()), "")
        problems.append(
            f"{where}: none of the {len(taken)} rows belongs to a patient of the cohort. "
            + (f"Identifiers {likely} would match: correct them, or write patient_pattern. " if likely else "")
            + "Check columns.patient (identifiers as in the DICOM files), patient_pattern and the centre."
        )
    first: dict[tuple[str, ...], list[int]] = {}
    rows: list[dict[str, Any]] = []
    readers = {name: f"reader-{k}" for k, name in enumerate(sorted({*keys["reader"]} - {""}), start=1)}
    numbers = values.to_numpy(dtype=object)
    for i in taken:
        centre, visit, scan = (keys.at[i, c] for c in ("centre", "visit", "scan"))
        session = identify("session", centre, visit) if visit else "imported"
        name = identify("scan", centre, scan) if scan else f"imported-{people[i]}{f'-{session}' if visit else ''}"
        row = {
            "centre": centre, "patient": people[i], "session": session, "scan": name, "set": set_name, "view": "",
            "source": readers.get(keys.at[i, "reader"], ""), "roi": keys.at[i, "roi"], "fold": fold, "status": "ok",
            "reason": "", "row": i,
        }  # fmt: skip
        same = first.setdefault((name, row["source"], row["roi"]), [])
        same.append(i)
        if len(same) > 1:
            row["scan"] = f"{name}-{len(same)}"
        if cohort is not None and people[i] not in cohort:
            hint = f"; it would match {hints[i]}" if i in hints else ""
            reason = f"FEATURE_ROW_STRANGER: no patient of the cohort has this identifier and centre{hint}"
            row |= {"status": "rejected", "reason": reason}
        elif len(same) > 1:
            differing = sum(not _equal(a, b) for a, b in zip(numbers[i], numbers[same[0]], strict=True))
            how = f"{differing} of {len(values.columns)} features differ" if differing else "with equal values"
            row |= {
                "status": "rejected",
                "reason": f"FEATURE_ROW_DUPLICATE: row {len(same)} of this patient and ROI, {how}; the first is used",
            }
        rows.append(row)
    copies = [same for same in first.values() if len(same) > 1 and (cohort is None or people[same[0]] in cohort)]
    if copies and settings.duplicates == "error":
        problems.append(_duplicates(copies, places, settings, where))
    _refuse(where, problems)

    strangers = sum(row["reason"].startswith("FEATURE_ROW_STRANGER") for row in rows)
    log.event(
        "imported",
        rows=len(keys),
        taken=len(rows),
        not_selected=sum(r.counts["not_selected"] for r in read),
        other_rois=len(keys) - sum(wanted),
        duplicates=sum(row["reason"].startswith("FEATURE_ROW_DUPLICATE") for row in rows),
        strangers=strangers,
        patients=len({row["patient"] for row in rows if row["status"] == "ok"}),
        features=len(values.columns),
        missing=int(values.isna().to_numpy().sum()),
        infinite=infinite,
    )
    if strangers:
        log.event("warning", text=f"{strangers} of {len(rows)} rows belong to no patient of the cohort")
    if cohort is not None:
        log.event("without_row", patients=len({*cohort} - {row["patient"] for row in rows}))
    tables.write(_table(rows, values, diagnostics), output, FEATURES)
    if ledger is not None:
        used = {people[i] for i in known if keys.at[i, "chosen"] == "yes"}
        log.event("chosen_on", patients=len(used), known=settings.chosen_on is not None)
        ledgers.write(
            ledger,
            name=set_name,
            stage=ledgers.CHOSEN,
            split="",
            seen={"chosen": used},
            unknown=UNKNOWN if settings.chosen_on is None else "",
            settings=settings_json,
            code=code,
        )


def _refuse(where: str, problems: list[str]) -> None:
    if len(problems) > 1:
        raise UserError(f"{where} has {len(problems)} problems:", *(f"  - {p}" for p in problems))
    if problems:
        raise UserError(*problems)


def _read(
    path: Path,
    centre: str | None,
    settings: ImportedSet,
    where: str,
    problems: list[str],
    absent_marks: list[tuple[str, str]],
) -> _Read | None:
    """One file as keys and features, its columns under the project's names; None where it cannot be read.

    Columns and values of `chosen_on.rows` that it has leave `absent_marks`: not every file need have each.
    """
    try:
        raw = read_written(path, f"{where}: table", sheet=settings.sheet, encoding=settings.encoding)
    except UserError as error:
        problems += error.messages
        return None
    name, before = path.name, len(problems)
    if twice := sorted({str(c) for c in raw.columns[raw.columns.duplicated()]}):
        problems.append(f"{where}: {name}: columns {', '.join(twice[:SHOWN])} stand there twice. Rename one of each.")
        return None
    columns = settings.columns.keys()
    for key, column in columns.items():
        problems += absent(raw, name, f"{where}: columns.{key}", column)
    for column in settings.only:
        problems += absent(raw, name, f"{where}: only", column)
    marked = settings.chosen_on.rows if isinstance(settings.chosen_on, Chosen) else {}
    for column, wanted in marked.items():
        missing = absent(raw, name, f"{where}: chosen_on.rows", column)
        problems += missing
        for value in wanted if not missing else ():
            if (column, value) in absent_marks and raw[column].str.strip().eq(value).any():
                absent_marks.remove((column, value))
    if settings.long:
        problems += absent(raw, name, f"{where}: long.feature", settings.long.feature)
        problems += absent(raw, name, f"{where}: long.value", settings.long.value)
    if len(problems) > before:
        return None
    used = _chosen(raw, columns, marked)  # before rows are left out: another row of the patient may tell it
    chosen = pd.Series(True, index=raw.index)
    for column, allowed in settings.only.items():
        chosen &= raw[column].str.strip().isin(allowed)
    counts = {"not_selected": int((~chosen).sum())}
    if not chosen.any():
        problems.append(f"{where}: only: no row of {name} is left; check the values of {', '.join(settings.only)}.")
        return None
    raw = raw[chosen]
    keys = pd.DataFrame("", index=raw.index, columns=["centre", "patient", "scan", "visit", "roi", "reader"])
    patterns = {"patient": settings.patient_pattern, "centre": settings.centre_pattern, "roi": settings.roi_pattern}
    for key, column in columns.items():
        found = _captured(raw[column], patterns.get(key), key, settings, f"{where}: {name}", problems)
        if key == "lesion":
            continue
        keys[key] = found
    if settings.columns.roi is None:
        keys["roi"] = settings.rois[0] if len(settings.rois) == 1 and settings.columns.lesion is None else "whole"
    if settings.columns.lesion is not None:
        lesion = raw[settings.columns.lesion].str.strip()
        base = keys["roi"] if settings.columns.roi is not None else pd.Series("lesion", index=raw.index)
        keys["roi"] = base + "-" + lesion
    if centre is not None:
        keys["centre"] = centre
    keys["chosen"] = _told(settings, keys["centre"], used[chosen])
    if settings.long:
        table, keys, copies = _wide(raw, keys, settings.long)
        counts["values_twice"] = len(copies)
        if copies and settings.duplicates == "error":
            names = ", ".join(repr(c) for c in (*columns.values(), settings.long.feature))
            problems.append(
                f"{where}: {name}: {rows_in_words(copies)}: a feature that an earlier row has, by columns {names}. "
                "Remove them, tell them apart by columns: {scan|visit|lesion|reader: <column>}, or write "
                "`duplicates: first`."
            )
    else:
        told = {*columns.values(), *settings.only, *marked}
        table = raw.drop(columns=[c for c in told if c not in settings.rename])
    dropped = [c for c in table.columns if _matches(c, settings.drop) and c not in settings.rename]
    left = [c for c in table.columns if c not in dropped]
    if settings.take:
        for pattern in settings.take:
            if not any(fnmatchcase(c, pattern) for c in left):
                problems.append(f"{where}: take: no column of {name} matches {pattern!r}{_near(pattern, left)}.")
        left = [c for c in left if _matches(c, settings.take)]
    renamed = [_renamed(c, settings) for c in left]
    if clash := sorted({n for n in renamed if renamed.count(n) > 1}):
        pairs = "; ".join(f"{n}: {', '.join(c for c, m in zip(left, renamed, strict=True) if m == n)}" for n in clash)
        problems.append(f"{where}: {name}: several columns get one name ({pairs}). Change rename or patterns.")
        return None
    features = table[left].set_axis(renamed, axis=1)
    diagnostics = table[[c for c in dropped if c.startswith("diagnostics_")]]
    return _Read(name, keys, features, diagnostics, counts)


def _chosen(raw: pd.DataFrame, columns: dict[str, str], marked: dict[str, tuple[str, ...]]) -> pd.Series:
    """Rows of the patients of whom a row is marked (bool)."""
    own = pd.Series(False, index=raw.index)
    for column, values in marked.items():
        own |= raw[column].str.strip().isin(values)
    person = [raw[columns[key]].str.strip() for key in ("patient", "centre") if key in columns]
    return own.groupby(person).transform("any") if own.any() else own


def _told(settings: ImportedSet, centre: pd.Series, marked: pd.Series) -> pd.Series:
    """Whether the outcomes of each row's patient were used to choose the features: yes or no."""
    how = settings.chosen_on
    yes = marked | centre.isin(how.centres) if isinstance(how, Chosen) else pd.Series(how == "everybody", marked.index)
    return yes.map({True: "yes", False: "no"})


def _captured(
    column: pd.Series, pattern: str | None, key: str, settings: ImportedSet, where: str, problems: list[str]
) -> pd.Series:
    """The column as text, or the first group of a pattern in it."""
    text = column.str.strip()
    if (empty := text.isin(["", *settings.missing])).any() and key in ("patient", "centre", "roi", "lesion"):
        problems.append(
            f"{where}: {rows_in_words(text.index[empty])}: no {key} (column {column.name!r}). Write it or remove them."
        )
    text = text.mask(empty, "")
    if pattern is None:
        return text
    compiled = re.compile(pattern)
    found = text.map(lambda v: m.group(1) if (m := compiled.search(v)) else None)
    if (wrong := found.isna() & ~empty).any():
        problems.append(
            f"{where}: {key}_pattern: {pattern!r} does not match column {column.name!r} in "
            f"{rows_in_words(text.index[wrong])}; change the pattern."
        )
    return found.fillna("")


def _wide(raw: pd.DataFrame, keys: pd.DataFrame, long: Any) -> tuple[pd.DataFrame, pd.DataFrame, list[int]]:
    """A column per feature from a row per feature; the rows whose feature stood there before are left out."""
    names = raw[long.feature].str.strip()
    group = keys.groupby(list(keys.columns), sort=False).ngroup()
    cells = pd.DataFrame({"group": group, "feature": names, "value": raw[long.value]})
    again = cells.duplicated(["group", "feature"])
    wide = cells[~again].pivot(index="group", columns="feature", values="value").fillna("")
    wide = wide[list(dict.fromkeys(names))]
    starts = ~group.duplicated()
    index = raw.index[starts]
    wide = wide.loc[group[starts]].set_index(index)
    wide.columns.name = None
    return wide, keys[starts], [int(row) for row in raw.index[again]]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _renamed(name: str, settings: ImportedSet) -> str:
    if name in settings.rename:
        return settings.rename[name]
    for pattern in settings.patterns:
        if match := re.fullmatch(pattern.match, name):
            return match.expand(pattern.to)
    return name


def _near(name: str, names: Collection[str]) -> str:
    small = {n.lower(): n for n in names}
    found = difflib.get_close_matches(name.lower(), small, n=1)
    return f"; did you mean {small[found[0]]!r}?" if found else ""


def _check_names(read: list[_Read], settings: ImportedSet, where: str, problems: list[str]) -> None:
    """Names in the study file that no file has, and features that have a name of ours."""
    names = list(dict.fromkeys(c for r in read for c in r.features.columns))
    for old, new in settings.rename.items():
        if new not in names:
            problems.append(f"{where}: rename: there is no column {old!r}{_near(old, names)}.")
    for key in settings.coding:
        if key not in names:
            problems.append(f"{where}: coding: there is no feature {key!r}{_near(key, names)}.")
    for pattern in settings.factors:
        if not any(fnmatchcase(n, pattern) for n in names):
            problems.append(f"{where}: factors: no feature is called {pattern!r}{_near(pattern, names)}.")
    if clash := sorted({*names} & {*FEATURES.columns}):
        problems.append(
            f"{where}: columns {clash} have names that Polycentric uses itself: write them under drop, rename or "
            "columns."
        )
    if not names:
        problems.append(f"{where}: no column is left as a feature; check drop, take and columns.")


def _values(
    text: pd.DataFrame, places: list[tuple[str, int]], settings: ImportedSet, where: str, problems: list[str]
) -> tuple[pd.DataFrame, int]:
    """Features by name: numbers in our units, codes and categories; and how many numbers were infinite."""
    result: dict[str, pd.Series] = {}
    infinite = 0
    words: list[str] = []
    several = len({name for name, _ in places}) > 1
    for name in sorted(text.columns):
        column = text[name].fillna("").str.strip()
        column = column.mask(column.isin({"", *settings.missing} - {*(_declared(settings, name).values or ())}))
        declared = _declared(settings, name)
        if declared.type != "numeric":
            result[name], wrong = coded(column.astype("object").where(column.notna(), None), declared)
            if wrong.any():
                near = _near(str(column[wrong].iloc[0]), declared.levels)
                problems.append(
                    f"{where}: {_at(places, wrong, several)}, feature {name!r}: none of the values "
                    f"{', '.join(declared.levels)}{near}. Correct them, or coding.{name}.values."
                )
            continue
        numbers, wrong = _numbers(column, settings.decimal)
        if wrong.any() and name not in settings.coding and wrong.sum() == column.notna().sum():
            words.append(name)
            continue
        if wrong.any():
            comma = " Write `decimal: ','`." if column[wrong].str.fullmatch(r"-?\d+,\d+").all() else ""
            problems.append(
                f"{where}: {_at(places, wrong, several)}, feature {name!r}: text where a number is needed.{comma} "
                "Correct it, or write what it means under missing or coding."
            )
            continue
        infinite += int(np.isinf(numbers).sum())
        numbers = numbers.where(np.isfinite(numbers))
        for limit, off, word in (
            (declared.min, numbers < (declared.min or 0), "below"),
            (declared.max, numbers > (declared.max or 0), "above"),
        ):
            if limit is not None and off.any():
                problems.append(
                    f"{where}: {_at(places, off, several)}, feature {name!r}: {word} the limit of {limit:g}. Correct "
                    f"them, or coding.{name}."
                )
        factor = next((f for p, f in settings.factors.items() if fnmatchcase(name, p)), 1.0)
        result[name] = numbers * factor if factor != 1 else numbers
    if words:
        rest = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
        problems.append(
            f"{where}: {len(words)} columns hold text, not numbers ({', '.join(words[:SHOWN])}{rest}): name them under "
            "`drop`, or say what they hold under `coding`, as in "
            f"{{{words[0]}: {{type: categorical}}}} or {{type: ordinal, values: [low, high]}}."
        )
    return pd.DataFrame(result, index=text.index), infinite


def _declared(settings: ImportedSet, name: str) -> ColumnSettings:
    return settings.coding.get(name) or ColumnSettings(type="numeric")


def _numbers(column: pd.Series, decimal: str) -> tuple[pd.Series, pd.Series]:
    """Text as the nearest float, and which texts are no number; a missing value is NaN."""
    text = column.str.replace(",", ".", regex=False) if decimal == "," else column
    try:
        numbers = pd.Series(text.to_numpy(dtype=object, na_value="nan").astype(float), index=column.index)
        return numbers, pd.Series(False, index=column.index)
    except ValueError:
        numbers = pd.to_numeric(text, errors="coerce").astype(float)
        return numbers, column.notna() & numbers.isna()


def _at(places: list[tuple[str, int]], rows: pd.Series, several: bool) -> str:
    """Rows in words, by file where there are several."""
    found: dict[str, list[int]] = {}
    for number in np.flatnonzero(rows.to_numpy(dtype=bool)):
        name, row = places[number]
        found.setdefault(name, []).append(row)
    return "; ".join((f"{name}: " if several else "") + rows_in_words(numbers) for name, numbers in found.items())


def _hints(keys: pd.DataFrame, people: list[str], cohort: Collection[str] | None, identify: Identify) -> dict[int, str]:
    """For rows of strangers, how their identifier would have to be written to be that of a patient of the cohort."""
    found: dict[int, str] = {}
    for i, name in enumerate(people):
        if cohort is None or name in cohort:
            continue
        written, centre = keys.at[i, "patient"], keys.at[i, "centre"]
        for words, change in VARIANTS.items():
            if change(written) and identify("patient", centre, change(written)) in cohort:
                found[i] = words
                break
    return found


def _duplicates(copies: list[list[int]], places: list[tuple[str, int]], settings: ImportedSet, where: str) -> str:
    columns = ", ".join(f"{key} ({name!r})" for key, name in settings.columns.keys().items())
    free = "|".join(k for k in ("scan", "visit", "lesion", "reader") if getattr(settings.columns, k) is None)
    several = len({name for name, _ in places}) > 1
    shown = []
    for same in copies[:SHOWN]:
        rows = pd.Series(False, index=range(len(places)))
        rows.iloc[same] = True
        shown.append(_at(places, rows, several))
    rest = f" and {len(copies) - SHOWN} more" if len(copies) > SHOWN else ""
    return (
        f"{where}: {len(copies)} times several rows have the same {columns}: {' / '.join(shown)}{rest}. Tell them "
        f"apart by columns: {{{free}: <column>}}, select by only: {{<column>: [<value>]}}, remove rows, or write "
        "`duplicates: first` to use the first and code the others as rejected."
    )


def _table(rows: list[dict[str, Any]], values: pd.DataFrame, diagnostics: pd.DataFrame) -> pd.DataFrame:
    """Rows with their values; rows of strangers keep none."""
    keys = pd.DataFrame(rows, columns=[*(c for c in FEATURES.columns if c != "diagnostics"), "row"])
    strangers = keys["reason"].str.startswith("FEATURE_ROW_STRANGER").to_numpy(dtype=bool)
    own = values.iloc[keys["row"]].reset_index(drop=True)
    own = own.mask(pd.Series(strangers), axis=0)
    own = own.apply(lambda c: c.where(c.notna(), None).astype("string") if c.dtype == object else c)
    told = [
        canonical_json({} if strange else {c: _plain(diagnostics.at[i, c]) for c in diagnostics.columns})
        for i, strange in zip(keys["row"], strangers, strict=True)
    ]
    frame = pd.concat([keys.drop(columns="row").assign(diagnostics=pd.array(told, dtype="string")), own], axis=1)
    return frame.sort_values(["centre", "patient", "scan", "source", "roi"], kind="stable", ignore_index=True)


def _equal(one: Any, other: Any) -> bool:
    return one == other or (pd.isna(one) and pd.isna(other))


def _plain(text: Any) -> Any:
    """A cell as a number where it is one."""
    if pd.isna(text) or text == "":
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() and re.fullmatch(r"-?\d+", text) else number
