"""Link the rows of the clinical table to the patients of the images."""

from __future__ import annotations

import pandas as pd

from ..config.clinical import ClinicalSettings
from ..errors import UserError
from ..pseudonyms import patient
from ..tables.written import rows_in_words


def link(
    table: pd.DataFrame, people: pd.DataFrame, settings: ClinicalSettings, *, salt: bytes, where: str
) -> pd.DataFrame:
    """Append the clinical columns to the patients, and the patients that only the table knows.

    Parameters
    ----------
    table
        as `read_clinical` gives it.
    people
        patients of the images: centre, patient_id, patient, clinical.
    settings
        `without_scans` says what becomes of patients without images.

    Returns
    -------
    DataFrame
        `people` with the flag `clinical` and the table's columns; patients without images come last.

    Raises
    ------
    UserError
        for rows whose centre is unclear, that miss a scanned patient by spelling alone, or (without_scans: error) that
        belong to no scanned patient. Rows are named by number.
    """
    table = table.copy()
    problems: list[str] = []
    table["centre"] = _found_centres(table, people, problems)
    settled = table[table["centre"] != ""]
    clash = settled[settled.duplicated(["centre", "patient_id"], keep=False)]
    for _, group in clash.groupby(["centre", "patient_id"]):
        problems.append(f"{rows_in_words(group.index)}: the same patient. Leave one row per patient.")
    keys = set(zip(people["centre"], people["patient_id"], strict=True))
    known = pd.Series([(r.centre, r.patient_id) in keys for r in table.itertuples()], index=table.index, dtype=bool)
    listed = set(zip(table["centre"], table["patient_id"], strict=True))
    spelled = {(c, _loose(p)): p for c, p in sorted(keys - listed)}
    near = [r.Index for r in table[~known].itertuples() if (r.centre, _loose(r.patient_id)) in spelled]
    if near:
        problems.append(
            f"{rows_in_words(near)}, column {settings.patient!r}: differs from a scanned patient, who has no row, "
            "only in upper and lower case, blanks, signs or leading zeros. Write the identifier as in the DICOM files."
        )
    unknown = table[~known].drop(index=near)
    unknown = unknown[unknown["centre"] != ""]
    if len(unknown) and settings.without_scans == "error":
        problems.append(
            f"{rows_in_words(unknown.index)}, column {settings.patient!r}: no images of this patient. Correct the "
            "identifier, remove the row, or write clinical.without_scans: keep or ignore."
        )
    if len(people) and len(table) and not known.any() and not problems:
        problems.append(
            f"column {settings.patient!r}: none of the {len(table)} rows belongs to a patient of the images. Write the "
            "column that holds the DICOM patient identifiers: clinical.patient."
        )
    if problems:
        raise UserError(
            f"{where} has {len(problems)} problem{'s' * (len(problems) > 1)}:", *(f"  - {p}" for p in problems)
        )

    if settings.without_scans == "keep":
        added = unknown[["centre", "patient_id"]].copy()
        added["patient"] = [patient(salt, r.centre, r.patient_id) for r in added.itertuples()]
        people = pd.concat([part for part in (people, added.assign(clinical=False)) if len(part)], ignore_index=True)
    merged = people.drop(columns="clinical").merge(table, on=["centre", "patient_id"], how="left", indicator="clinical")
    merged["clinical"] = merged["clinical"] == "both"
    return merged


def _found_centres(table: pd.DataFrame, people: pd.DataFrame, problems: list[str]) -> pd.Series:
    """Centres of rows that name none, by the images: the one centre that has a patient of this identifier."""
    by_identifier = people.groupby("patient_id")["centre"].agg(lambda c: sorted(set(c))).to_dict()
    centres, several, nowhere = table["centre"].copy(), [], []
    for row in table[table["centre"] == ""].itertuples():
        options = by_identifier.get(row.patient_id, [])
        if len(options) == 1:
            centres[row.Index] = options[0]
        else:
            (several if options else nowhere).append(row.Index)
    advice = "Add a column with the centre and name it under clinical.centre.column."
    if several:
        problems.append(f"{rows_in_words(several)}: several centres have a patient of this identifier. {advice}")
    if nowhere:
        problems.append(f"{rows_in_words(nowhere)}: no images of this patient, so the centre is not known. {advice}")
    return centres


def _loose(identifier: str) -> str:
    return "".join(c for c in identifier.casefold() if c.isalnum()).lstrip("0")
