"""Mutants of real files, and what the index, curation and the decoders make of them within bounds.

A mutant is named by its number: the same number and the same seed files give the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from polycentric import tables
from polycentric.config.curation import CurationSettings
from polycentric.convert.pixels import decode
from polycentric.convert.stack import Plane
from polycentric.curation import curate
from polycentric.elements import DEFLATED, IMPLICIT, Irregular, Short, meta, scan
from polycentric.errors import ScanError
from polycentric.index import build, guard
from polycentric.index.build import Task, _Earlier, _entries, _row, _table
from polycentric.index.headers import read_header
from polycentric.jobs import Log
from polycentric.tables.private import FILES, INDEX
from pydicom.data import get_testdata_files

LARGEST_SEED = 600_000
BATCH = 100


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: how its rows were read, how its pixels decoded, processor seconds, peak memory.

    `curated` tells what became of the batch that it ends: "", "ok", or what was raised.
    """

    number: int
    kind: str
    readings: tuple[str, ...]
    errors: tuple[str, ...]
    decoded: tuple[str, ...]
    seconds: float
    peak_bytes: int
    curated: str = ""


def seeds(*folders: Path, per_folder: int = 2) -> list[Path]:
    """pydicom's own test files, and a few files of every folder of real data."""
    found = [Path(f) for f in sorted(get_testdata_files()) if Path(f).is_file()]
    for root in folders:
        for folder in sorted({p.parent for p in root.rglob("*") if p.is_file()}):
            found += sorted(p for p in folder.iterdir() if p.is_file())[:per_folder]
    return [p for p in found if 0 < p.stat().st_size <= LARGEST_SEED]


def _start(data: bytes) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins; 0 where the file has no plain meta information."""
    try:
        syntax, _, start = meta(data, len(data))
        return (syntax, start) if data[128:132] == b"DICM" else ("", 0)
    except (Irregular, Short, struct.error):
        return "", 0


def _elements(data: bytes) -> list[tuple[int, int]]:
    """Where elements begin and end, of a file that is plainly encoded."""
    syntax, start = _start(data)
    if not start or syntax == DEFLATED:
        return []
    try:
        found, _ = scan(data, start, len(data), syntax == IMPLICIT)
    except (Irregular, Short, struct.error):
        return []
    long = () if syntax == IMPLICIT else (b"SQ", b"OB", b"UN", b"UT")
    return sorted((start - (12 if vr in long else 8), stop) for vr, start, stop in found.values())


def flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 2, 8, 64))):
        at = draw.randrange(min(len(data), draw.choice((400, 4000, len(data)))))
        changed[at] ^= 1 << draw.randrange(8)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(min(len(data), draw.choice((200, 4000, len(data)))))]


def swap(data: bytes, draw: random.Random) -> bytes:
    """Two elements change places, or one is lost, doubled, or stands in for another."""
    spans = _elements(data)
    if len(spans) < 2:
        return flip(data, draw)
    (a, b), (c, d) = sorted(draw.sample(spans, 2))
    first, second = data[a:b], data[c:d]
    one, two = draw.choice(((second, first), (b"", second), (first, first), (first + second, second), (second, second)))
    return data[:a] + one + data[b:c] + two + data[d:]


def length(data: bytes, draw: random.Random) -> bytes:
    """The length of an element becomes absurd."""
    spans = _elements(data)
    if not spans:
        return flip(data, draw)
    changed, (at, _) = bytearray(data), draw.choice(spans)
    value = draw.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF, draw.randrange(2**32)))
    if _start(data)[0] == IMPLICIT or data[at + 4 : at + 6] in (b"SQ", b"OB", b"UN", b"UT"):
        where = at + 4 if _start(data)[0] == IMPLICIT else at + 8
        changed[where : where + 4] = struct.pack("<I", value)
    else:
        changed[at + 6 : at + 8] = struct.pack("<H", value & 0xFFFF)
        if draw.random() < 0.3:
            changed[at + 4 : at + 6] = draw.choice((b"UT", b"OB", b"SQ", b"UN", b"ZZ", b"\0\0"))
    return bytes(changed)


def nest(data: bytes, draw: random.Random) -> bytes:
    """Sequences within sequences, up to thousands deep."""
    syntax, start = _start(data)
    if not start or syntax == DEFLATED:
        return cut(data, draw)
    tag = draw.choice((b"\x08\x00\x40\x11", b"\x09\x00\x10\x10", b"\x00\x52\x30\x92", b"\x06\x30\x39\x00"))
    head = tag + (b"" if syntax == IMPLICIT else b"SQ\0\0") + b"\xff\xff\xff\xff"
    item, ends = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    depth = draw.choice((3, 40, 60, 300, 3000, 20000))
    return data[:start] + (head + item) * depth + ends * draw.choice((depth, depth // 2)) + data[start:]


def giant(data: bytes, draw: random.Random) -> bytes:
    """The matrix, or the number of frames, becomes huge; in the pixel data of a codec, too."""
    changed = bytearray(data)
    for tag in (b"\x28\x00\x10\x00", b"\x28\x00\x11\x00"):
        at = data.find(tag)
        if at > 0 and draw.random() < 0.8:
            changed[at + 8 : at + 10] = struct.pack("<H", draw.choice((0, 1, 5000, 65535)))
    at = data.find(b"\x28\x00\x08\x00")
    if at > 0 and data[at + 4 : at + 6] == b"IS":
        changed[at + 8 : at + 9] = b"9"
    for marker in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc3", b"\xff\xf7"):  # frame headers of JPEG and JPEG-LS
        at = data.find(marker, max(0, data.rfind(b"\xe0\x7f\x10\x00")))
        if at > 0 and draw.random() < 0.7:
            changed[at + 5 : at + 9] = struct.pack(">HH", draw.choice((65500, 30000)), draw.choice((65500, 1)))
    at = data.find(b"\xff\x4f\xff\x51")  # size of a JPEG 2000 image
    if at > 0:
        changed[at + 8 : at + 16] = struct.pack(">II", draw.choice((2**31, 60000)), draw.choice((2**31, 60000)))
    return bytes(changed)


@lru_cache(maxsize=1)
def _zeros() -> bytes:
    """A megabyte of zeros, deflated so that copies can be joined."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)


def bomb(data: bytes, draw: random.Random) -> bytes:
    """A deflated data set that grows to hundreds of megabytes, before or within its pixel data."""
    syntax, start = _start(data)
    body = data[start:] if start and syntax not in (IMPLICIT, DEFLATED) else b"\x08\x00\x60\x00CS\x02\x00CT"
    if draw.random() < 0.5:
        body += b"\x09\x00\x10\x10OB\0\0" + struct.pack("<I", draw.choice((2**20, 2**29, 2**31)))
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    megabytes = draw.choice((1, 50, 50, 300, 300, 3000))
    packed = packer.compress(body) + packer.flush(zlib.Z_FULL_FLUSH) + _zeros() * megabytes
    element = b"\x02\x00\x10\x00UI" + struct.pack("<H", len(DEFLATED)) + DEFLATED.encode()
    return bytes(128) + b"DICM" + element + packed


def archive(data: bytes, draw: random.Random) -> bytes:
    """A zip archive with a mutant, mutated itself."""
    with tempfile.TemporaryFile() as stream:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in ("a.dcm", draw.choice(("../../b", "c//d", "n\nl", "x" * 400, "inner.zip"))):
                packed.writestr(zipfile.ZipInfo(name), flip(data, draw))
        stream.seek(0)
        whole = stream.read()
    if draw.random() < 0.3:
        return cut(whole, draw)
    changed = bytearray(whole)
    directory = whole.rfind(b"PK\x01\x02") if draw.random() < 0.7 else 0
    for _ in range(draw.choice((0, 1, 4))):
        changed[draw.randrange(directory, len(whole))] = draw.randrange(256)
    return bytes(changed)


def noise(data: bytes, draw: random.Random) -> bytes:
    """Random bytes behind a true beginning."""
    keep = draw.choice((0, 132, 200, min(len(data), 600)))
    return data[:keep] + draw.randbytes(draw.choice((0, 1, 7, 500, 5000)))


KINDS = {f.__name__: f for f in (flip, cut, swap, length, nest, giant, bomb, archive, noise)}
_WEIGHTS = {"flip": 8, "cut": 3, "swap": 5, "length": 5, "nest": 2, "giant": 4, "bomb": 1, "archive": 2, "noise": 2}


def mutant(paths: Sequence[Path], number: int) -> tuple[str, bytes]:
    """The kind and the bytes of a mutant."""
    draw = random.Random(f"mutant {number}")
    data = paths[draw.randrange(len(paths))].read_bytes()
    kind = draw.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    return kind, KINDS[kind](data, draw)


def sweep(paths: Sequence[Path], numbers: range, *, seconds: float = 5.0, memory: int = 2**30) -> Iterator[Outcome]:
    """Outcomes of mutants, in order. A child examines them; if it dies or stalls, so did that mutant.

    A stall is four times `seconds` of the clock, since other work may share the processor; what is bounded are seconds
    of the processor, by the library, and `memory`, by the system.
    """
    # a fresh process, since a fork begins with the memory of its parent
    context, todo = get_context("spawn"), list(numbers)
    with tempfile.TemporaryDirectory() as scratch:
        while todo:
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_examine_all, args=(sender, paths, list(todo), Path(scratch), memory))
            child.start()
            sender.close()
            try:
                while todo:
                    # the last of a batch is curated with the batch
                    if not receiver.poll(4 * seconds + 60 * (todo[0] % BATCH == BATCH - 1)):
                        yield Outcome(todo.pop(0), "", (), (), ("stalled",), 4 * seconds, 0)
                        break
                    yield receiver.recv()
                    todo.pop(0)
            except EOFError:
                yield Outcome(todo.pop(0), "", (), (), ("died",), 0.0, 0)
            finally:
                with contextlib.suppress(ProcessLookupError):  # with the decoders that it started
                    os.killpg(child.pid, signal.SIGKILL)
                child.join()
                receiver.close()


def _examine_all(sender: Connection, paths: Sequence[Path], numbers: list[int], scratch: Path, memory: int) -> None:
    os.setpgid(0, 0)
    batch = Path(tempfile.mkdtemp(dir=scratch))
    for position, number in enumerate(numbers):
        outcome = examine(paths, number, batch / f"{number:06d}", memory)
        if number % BATCH == BATCH - 1 or position == len(numbers) - 1:
            try:
                curated(batch)
                outcome = replace(outcome, curated="ok")
            except Exception:
                outcome = replace(outcome, curated=traceback.format_exc(limit=-2))
            shutil.rmtree(batch)
            batch.mkdir()
        sender.send(outcome)


def _clock() -> float:
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def _peak(reset: bool = False) -> int:
    """Most memory of this process since it was reset, and of any that it started."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    own = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))
    return 1024 * max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def examine(paths: Sequence[Path], number: int, folder: Path, memory: int = 2**30) -> Outcome:
    """Index a mutant as a worker does, and decode its pixels as conversion does."""
    kind, data = mutant(paths, number)
    folder.mkdir()
    (folder / ("a.zip" if kind == "archive" else "a.dcm")).write_bytes(data)
    del data
    _peak(reset=True)
    start = _clock()
    tasks = [e for e in _entries(folder, _Earlier(Path("none"), "north", "")) if isinstance(e, Task)]
    with guard.memory(memory):
        rows = [_row(folder, read_header, task) for task in tasks]
        decoded = [decode_one(folder, t.path, row) for t, row in zip(tasks, rows, strict=True) if row.get("rows")]
    if tasks:
        _table("north", tasks, rows)
    seconds = _clock() - start
    return Outcome(
        number,
        kind,
        tuple(row["reading"] for row in rows),
        tuple(row["error"] for row in rows),
        tuple(decoded),
        seconds,
        _peak(),
    )


def decode_one(folder: Path, path: str, row: dict) -> str:
    """ "ok", the code that conversion gives, or the type of what should not have been raised."""
    if row["truncated"]:
        return "FILE_TRUNCATED"  # which curation never lets through
    try:
        decode([Plane(path)], folder, (row["columns"] or 1, row["rows"], 1))
        return "ok"
    except ScanError as error:
        return error.code
    except Exception as error:
        return f"raised {type(error).__name__}"


def curated(folder: Path) -> None:
    """Index and curate a folder of mutants: every file must have a row."""
    log, out = Log(), folder.parent
    build("north", folder, output=out / "index.parquet", log=log)
    curate(
        "north",
        out / "index.parquet",
        settings=CurationSettings(),
        salt=b"s" * 32,
        curation=out / "curation.parquet",
        files=out / "files.parquet",
        log=log,
    )
    names = set(tables.read(out / "index.parquet", INDEX)["path"])
    assert names == set(tables.read(out / "files.parquet", FILES)["path"])
    assert {n.partition("/")[0] for n in names} == {p.name for p in folder.iterdir() if any(p.iterdir())}


def main(count: int, *folders: Path) -> None:
    """Sweep and print a summary: `python tests/fuzzing.py 20000 DATA_FOLDER ...`."""
    paths, start = seeds(*folders), time.monotonic()
    seen: dict[tuple[str, str], int] = {}
    worst = Outcome(0, "", (), (), (), 0.0, 0)
    took: dict[str, float] = {}
    peak = bad = 0
    for outcome in sweep(paths, range(count)):
        took[outcome.kind] = took.get(outcome.kind, 0.0) + outcome.seconds
        for word in (*outcome.readings, *(f"pixels {d}" for d in outcome.decoded)):
            seen[outcome.kind, word] = seen.get((outcome.kind, word), 0) + 1
        worst, peak = max(worst, outcome, key=lambda o: o.seconds), max(peak, outcome.peak_bytes)
        failed = any(d in ("died", "stalled") or d.startswith("raised") for d in outcome.decoded)
        if failed or outcome.curated not in ("", "ok") or outcome.seconds > 5:
            bad += 1
            print(outcome, flush=True)
    print(f"{count} mutants of {len(paths)} files in {time.monotonic() - start:.0f} s, {bad} bad")
    print(f"slowest {worst.seconds:.2f} s ({worst.number}, {worst.kind}), most memory {peak / 1e6:.0f} MB")
    for (kind, word), number in sorted(seen.items()):
        print(f"{kind:8} {word:24} {number}")
    print("processor seconds:", {kind: round(value, 1) for kind, value in sorted(took.items())})


if __name__ == "__main__":
    import sys

    main(int(sys.argv[1]), *map(Path, sys.argv[2:]))
