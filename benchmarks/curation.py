"""Speed of the index and of conversion, beside other tools, as a table in Markdown.

    python benchmarks/curation.py DICOM_FOLDER [--repeats 5] [--copies 10] [--med-imagetools PATH] [--dcm2niix PATH]

DICOM_FOLDER holds series of slices, such as `data/lung1`. The index reads a folder with copies (hard links) of them,
whose pixels are not hashed although they are the same; all other tools read one copy, in turns. Medians of the turns,
after one that brings the files into the system's cache: what is measured is the processor's work.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow" / "scripts"))
import pandas as pd
import pyarrow.parquet as pq
import SimpleITK as sitk
from polycentric import tables
from polycentric.config.curation import ConvertSettings, CurationSettings
from polycentric.convert.volume import write_volumes
from polycentric.curation import curate
from polycentric.index import build
from polycentric.jobs import Log
from polycentric.tables.private import FILES
from polycentric.tables.schemas import CURATION

# copies share their positions, which makes the index hash their pixels: that would be measured instead
sys.modules["polycentric.index.build"]._hash_shared_positions = lambda *_: None  # type: ignore[attr-defined]
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
QUIET = Log()
QUIET.event = lambda *_, **__: None  # type: ignore[method-assign]


def clock() -> tuple[float, float]:
    """Wall and processor seconds of this process and of those that it waited for."""
    own, below = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return time.perf_counter(), own.ru_utime + own.ru_stime + below.ru_utime + below.ru_stime


def timed(work: Callable[[], object]) -> tuple[float, float]:
    start = clock()
    work()
    stop = clock()
    return stop[0] - start[0], stop[1] - start[1]


def in_turns(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median wall and processor seconds of each work, run in turns after one turn that does not count."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            spent = timed(work)
            if turn:
                times[name].append(spent)
    return {name: tuple(statistics.median(column) for column in zip(*t, strict=True)) for name, t in times.items()}


def tree_of_links(source: Path, target: Path, copies: int) -> int:
    """Folders with hard links of all files; number of files."""
    files = sorted(p for p in source.rglob("*") if p.is_file())
    for number in range(copies):
        for file in files:
            place = target / f"copy{number}" / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, place)
    return copies * len(files)


def curated(folder: Path, scratch: Path) -> tuple[list[dict], pd.DataFrame]:
    """Accepted scans of a folder and their files, by our own curation."""
    build("north", folder, output=scratch / "index.parquet", log=QUIET)
    curation, files = scratch / "curation.parquet", scratch / "files.parquet"
    settings, index = CurationSettings(), scratch / "index.parquet"
    curate("north", index, settings=settings, salt=b"s" * 32, curation=curation, files=files, log=QUIET)
    used = tables.read(files, FILES)
    used = used[used["use"] == "slice"]
    scans = tables.read(curation, CURATION)
    # those that a series reader reads as they are
    plain = used[used["geometry_repair"] == ""]["scan"]
    return scans[scans["scan"].isin(set(plain))].to_dict("records"), used[used["scan"].isin(set(plain))]


def converter(scans: list[dict], used: pd.DataFrame, folder: Path, scratch: Path) -> Callable[[], None]:
    root = scratch / "converted"

    def work() -> None:
        shutil.rmtree(root, ignore_errors=True)
        rows = write_volumes(
            scans, used, folder, root / "volumes" / "north-0.tsv", settings=ConvertSettings(), verdicts={}, root=root,
            shard="north-0", settings_json="{}", code="", log=QUIET, workers=1,
        )  # fmt: skip
        assert {row["status"] for row in rows} == {"ok"}, rows

    return work


def plainly(series: dict[str, list[Path]], target: Path) -> None:
    """What a script with SimpleITK does: read a series, write NIfTI."""
    for scan, paths in series.items():
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames([str(p) for p in paths])
        sitk.WriteImage(reader.Execute(), str(target / f"{scan}.nii"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--med-imagetools", type=Path, help="its `imgtools`, of another environment")
    parser.add_argument("--dcm2niix", type=Path)
    options = parser.parse_args()
    rows: list[tuple[str, str, str, str]] = []
    # on the same file system as the data, for hard links
    with tempfile.TemporaryDirectory(dir=options.folder.resolve().parent) as name:
        scratch = Path(name)
        many = scratch / "many"
        count = tree_of_links(options.folder.resolve(), many, options.copies)
        once = scratch / "once"
        single = tree_of_links(options.folder.resolve(), once, 1)
        kept = scratch / "kept.parquet"
        build("north", many, output=kept, log=QUIET)

        def fresh(workers: int) -> Callable[[], None]:
            def work() -> None:
                output = scratch / f"fresh{workers}.parquet"
                output.unlink(missing_ok=True)
                build("north", many, output=output, log=QUIET, workers=workers)

            return work

        spent = in_turns(
            {
                "1": fresh(1),
                "2": fresh(2),
                "again": lambda: build("north", many, output=scratch / "again.parquet", previous=kept, log=QUIET),
            },
            options.repeats,
        )
        assert pq.ParquetFile(kept).metadata.num_rows == count
        for label, key in (("index, 1 core", "1"), ("index, 2 cores", "2"), ("index, unchanged folder", "again")):
            wall, cpu = spent[key]
            rows.append(
                (label, f"{count} files", f"{wall:.2f} / {cpu:.2f}", f"{count / cpu:,.0f} files per CPU-second")
            )
        rows.append(("2 cores against 1", "", "", f"{spent['1'][0] / spent['2'][0]:.2f} times as fast"))

        works: dict[str, Callable[[], object]] = {
            "index of the folder once": lambda: (
                (scratch / "once.parquet").unlink(missing_ok=True),
                build("north", once, output=scratch / "once.parquet", log=QUIET),
            )
        }
        notes = []

        def run(command: list[str], folder: Path) -> None:
            """A tool that may write files; what it wrote goes."""
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            subprocess.run(command, capture_output=True, check=False, cwd=folder)

        if options.med_imagetools:
            crawl = [str(options.med_imagetools), "index", "--dicom-dir", str(once), "--force", "--n-jobs", "1"]
            works["med-imagetools index"] = lambda: run(crawl, scratch / "crawl")
        else:
            notes.append("med-imagetools is not there: --med-imagetools PATH")
        scans, used = curated(options.folder.resolve(), scratch)
        series = {
            str(scan): [options.folder / path for path in group.sort_values("order")["path"]]
            for scan, group in used.groupby("scan")
        }
        slices = sum(map(len, series.values()))
        (scratch / "plain").mkdir()
        works["SimpleITK series read + NIfTI"] = lambda: plainly(series, scratch / "plain")
        works["convert"] = converter(scans, used, options.folder.resolve(), scratch)
        if options.dcm2niix:
            nifti = [str(options.dcm2niix), "-z", "n", "-b", "n", "-o", ".", str(once)]
            works["dcm2niix (all series of the folder)"] = lambda: run(nifti, scratch / "nifti")
        else:
            notes.append("dcm2niix is not there: --dcm2niix PATH")
        spent = in_turns(works, options.repeats)
        for label, (wall, cpu) in spent.items():
            files = slices if "convert" in label or "SimpleITK" in label else single
            unit = "slices" if files == slices else "files"
            rate = f"{files / cpu:,.0f} {unit} per CPU-second"
            rows.append((label, f"{files} {unit}", f"{wall:.2f} / {cpu:.2f}", rate))
        speed = spent["SimpleITK series read + NIfTI"][0] / spent["convert"][0]
        rows.append(("convert against SimpleITK", "", "", f"{speed:.2f} times as fast"))
    print("| what | of | wall / CPU, s | rate |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"\nPython {platform.python_version()}, {machine}")
    for note in notes:
        print(f"Left out: {note}")


if __name__ == "__main__":
    main()
