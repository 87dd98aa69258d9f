"""Freeze the series of a study's centres: ask the index of the Imaging Data Commons, write the manifests to commit.

    python -m polycentric.tools.freeze config/studies/NAME.yaml [--centre NAME] [--update]

It needs no network; the index is in the package idc-index-data. A manifest that would change is left alone, and the
difference is printed, unless --update is given.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import yaml
from pydantic import ValidationError

from ..config.idc import IdcSource
from ..config.study import describe, extend
from ..errors import UserError
from ..idc.select import Index, index_file, installed_index, select
from ..tables.idc import Manifest, gigabytes, manifest_text, read_manifest, write_manifest

SHOWN = 10


def sources(path: Path, centre: str | None = None) -> dict[str, IdcSource]:
    """The `idc:` sections of a study file by centre; the rest of the study may still be wrong or unfinished."""
    if not path.is_file():
        raise UserError(f"there is no study file {str(path)!r}. Write its path.")
    raw = extend(yaml.safe_load(path.read_text(encoding="utf-8")) or {}, path.parent, str(path))
    centres = raw.get("centres") or {}
    found = {n: c["idc"] for n, c in centres.items() if isinstance(c, Mapping) and c.get("idc")}
    if not found:
        raise UserError(f"{path}: no centre has a section 'idc:'. Add one: {{collection: ..., manifest: ...}}.")
    if centre is not None and centre not in found:
        raise UserError(f"--centre {centre}: has no section 'idc:'; centres that have one: {', '.join(found)}.")
    result, errors = {}, []
    for name, section in found.items():
        if centre in (None, name):
            try:
                result[name] = IdcSource.model_validate(section)
            except ValidationError as error:
                errors += [f"centres.{name}.idc.{describe(e, section)}" for e in error.errors()]
    if errors:
        raise UserError(*errors)
    return result


def difference(old: Manifest, new: Manifest) -> list[str]:
    """What changes from one manifest to another, in lines; empty if nothing does."""
    if manifest_text(old) == manifest_text(new):
        return []
    before, after = (m.series.set_index("series_uid") for m in (old, new))
    lines = [
        f"{what}: {a or 'none'} -> {b}"
        for what, a, b in (("query", old.query, new.query), ("index", old.index, new.index))
        if a != b
    ]
    gone, come = before.loc[before.index.difference(after.index)], after.loc[after.index.difference(before.index)]
    lines += _listed("series no longer there", gone) + _listed("new series", come)
    both = before.index.intersection(after.index)
    for column in [c for c in before.columns if c in after.columns]:
        changed = before.loc[both, column].astype(str) != after.loc[both, column].astype(str)
        if changed.any():
            uid = both[changed.to_numpy()][0]
            example = f"{before.loc[uid, column]} -> {after.loc[uid, column]}"
            lines.append(f"{column} of {int(changed.sum()):,} series, such as {uid}: {example}")
    return lines or ["only the comment lines differ"]


def _listed(what: str, series: pd.DataFrame) -> list[str]:
    if series.empty:
        return []
    size = gigabytes(series["size_bytes"].sum())
    lines = [f"{what}: {len(series):,} ({series['patient_id'].nunique():,} patients, {size})"]
    lines += [f"  {row.modality} {uid} of {row.patient_id}" for uid, row in series.head(SHOWN).iterrows()]
    return lines + (["  ..."] if len(series) > SHOWN else [])


def freeze(study: Path, *, index: Index, centre: str | None = None, update: bool = False) -> Iterator[str]:
    """Write the manifests of a study's centres; yields lines of a summary.

    Raises
    ------
    UserError
        if a manifest that is there would change and `update` is false; it is left as it is.
    """
    refused = []
    for name, source in sources(study, centre).items():
        try:
            manifest = select(source, index)
        except UserError as error:
            raise UserError(f"centres.{name}: {error.messages[0]}", *error.messages[1:]) from None
        yield f"{name}: {', '.join(source.collection)}, {manifest.index}"
        yield from (f"  {line}" for line in manifest.totals)
        path = Path(source.manifest)
        changes = _changes(path, manifest)
        if changes == []:
            yield f"  {path} is unchanged"
        elif changes is None or update:
            yield from (f"  changed: {line}" for line in changes or [])
            write_manifest(manifest, path)
            yield f"  wrote {path}; commit it with the study"
        else:
            refused += [f"{path} would change:", *(f"  - {line}" for line in changes)]
    if refused:
        raise UserError(*refused, "It was left as it is. Write --update to replace it.")


def _changes(path: Path, manifest: Manifest) -> list[str] | None:
    """Differences of the file to a manifest; None if there is no file."""
    if not path.exists():
        return None
    try:
        return difference(read_manifest(path), manifest)
    except UserError as error:
        return list(error.messages)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m polycentric.tools.freeze", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("study", type=Path, help="study file")
    parser.add_argument("--centre", help="only this centre")
    parser.add_argument("--update", action="store_true", help="replace a manifest that differs")
    parser.add_argument(
        "--index", type=Path, help="Parquet file of the index; that of the installed package if not given"
    )
    parser.add_argument("--index-version", help="version of that file, if it does not state it")
    given = parser.parse_args(arguments)
    try:
        index = index_file(given.index, given.index_version) if given.index else installed_index()
        for line in freeze(given.study, index=index, centre=given.centre, update=given.update):
            print(line)
    except UserError as error:
        print("\n".join(error.messages), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
