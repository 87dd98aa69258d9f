"""Shards: the grain of a job. A shard handles its scans one by one and summarises them in a manifest."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from .errors import ScanError
from .files import hash_of, read_json, sha256_file, write_json
from .jobs import SILENT, Log

Row = dict[str, Any]


def shard_of(patient: str, shards: int) -> int:
    """Shard of a (pseudonymous) patient: a stable hash, so that an added patient moves nobody else."""
    return int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8], "big") % shards


def shard_name(centre: str, index: int) -> str:
    return f"{centre}-{index}"


def folder_of(manifest: Path) -> Path:
    """Folder of the files that a shard's manifest lists: beside it, named by the shard."""
    return manifest.parent / manifest.name.partition(".")[0]


@dataclass(frozen=True)
class Item:
    """One scan to process: its id, the key columns of its rows, and the hashes of everything it is made from."""

    key: str
    row: Row
    inputs: tuple[str, ...]


Work = Callable[[Item, Path], list[Row]]


def process(
    items: Iterable[Item],
    work: Work,
    *,
    folder: Path,
    root: Path,
    settings: str,
    code: str,
    log: Log = SILENT,
    workers: int = 1,
    threads: int = 1,
) -> list[Row]:
    """Run `work(item, folder)` for every item that has no valid sidecar yet; return the manifest rows in order.

    `work` writes its files atomically below `folder` and returns rows; a row that made a file has its absolute path
    under ``path``. A raised `ScanError` becomes a row with status ``rejected``, any other error one with status
    ``failed``: a scan never sinks a study and never vanishes. Paths in rows are relative to `root`, so that a moved
    results tree stays valid. `settings` and `code` are the rule's parameters; together with the item's inputs they
    decide whether the sidecar ``{key}.json`` beside the files still holds. So many `workers` (processes) or `threads`
    handle items at a time; rows keep the order of the items.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = list(items)
    tasks = [(item, work, folder, root, hash_of([settings, code, *item.inputs])) for item in items]
    rows: list[Row] = []

    def collect(results: Iterable[tuple[list[Row], bool, str]]) -> None:
        for number, (item, (new, reused, trace)) in enumerate(zip(items, results, strict=True), start=1):
            rows.extend(new)
            if trace:
                log.event("failed", scan=item.key, traceback=trace)
            states = ",".join(sorted({r["status"] for r in new})) or "none"
            log.progress("scans", number, len(items), scan=item.key, status=states, reused=reused)

    if workers > 1 and len(items) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
            collect(pool.map(_one, tasks))
    elif threads > 1 and len(items) > 1:
        with ThreadPoolExecutor(threads) as pool:
            collect(pool.map(_one, tasks))
    else:
        collect(map(_one, tasks))
    keep = {item.key for item in items}
    for sidecar in folder.glob("*.json"):
        if sidecar.stem not in keep:
            discard(sidecar, root)
    return rows


def discard(sidecar: Path, root: Path) -> None:
    """Remove a sidecar and the files it describes."""
    for row in read_json(sidecar)["rows"]:
        if row.get("path"):
            (root / row["path"]).unlink(missing_ok=True)
    sidecar.unlink()


def _one(task: tuple[Item, Work, Path, Path, str]) -> tuple[list[Row], bool, str]:
    item, work, folder, root, state = task
    sidecar = folder / f"{item.key}.json"
    if (rows := _valid(sidecar, state, root)) is not None:
        return rows, True, ""
    trace = ""
    try:
        rows = [{**item.row, "status": "ok", "reason": "", **row} for row in work(item, folder)]
        for row in rows:
            if row.get("path"):
                path = Path(row["path"])
                row["sha256"] = sha256_file(path)
                row["path"] = path.relative_to(root).as_posix()
    except ScanError as error:
        rows = [{**item.row, "status": "rejected", "reason": str(error)}]
    except Exception as error:  # one bad scan must not sink a study: it becomes a row, and the log has the traceback
        trace = traceback.format_exc()
        rows = [{**item.row, "status": "failed", "reason": f"{type(error).__name__}: see the log of this job"}]
    write_json(sidecar, {"schema_version": 1, "state": state, "rows": rows})
    return rows, False, trace


def _valid(sidecar: Path, state: str, root: Path) -> list[Row] | None:
    if not sidecar.exists():
        return None
    try:
        record = read_json(sidecar)
    except ValueError:
        return None
    if record.get("state") != state or any(row["status"] == "failed" for row in record["rows"]):
        return None
    for row in record["rows"]:
        if row.get("path"):
            path = root / row["path"]
            if not path.exists() or sha256_file(path) != row["sha256"]:
                return None
    return record["rows"]
