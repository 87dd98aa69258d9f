"""Speed and memory of feature extraction:
`python benchmarks/radiomics.py DATA [--cases 20] [--repeats 3] [--large] [--mirp PYTHON]`.

DATA holds the unpacked archives `ibsi` and `pyradiomics_cases`. CPU seconds of one thread, tools run in turn and the
best of some repeats counts. PyRadiomics runs by itself, with none of our code. MIRP needs another pandas than the lock:
`python -m venv mirp && mirp/bin/pip install mirp SimpleITK`, then `--mirp mirp/bin/python`; it reads the files itself.
The full set: original image, LoG of 1, 2 and 3 mm, coif1 wavelet, seven classes, bins of 25: 1,130 features.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
os.environ |= dict.fromkeys(THREADS, "1")
sys.path[0] = str(Path(__file__).parents[1] / "workflow" / "scripts")  # not this folder: PyRadiomics is `radiomics`
PAT1, BRAIN1 = "IBSI CT phantom", "brain1"


def paths(data: Path, case: str) -> tuple[str, str]:
    if case == BRAIN1:
        return tuple(str(data / "pyradiomics_cases" / f"brain1_{part}.nrrd") for part in ("image", "label"))
    folder = data / "ibsi" / "ibsi_1_ct_radiomics_phantom" / "nifti"
    return tuple(str(next((folder / part).glob("*.nii.gz"))) for part in ("image", "mask"))


Timed = tuple[float, dict[str, float]]


def peer(tool: str, data: Path, case: str, zoom: int, only_shape: bool) -> Timed:
    """CPU seconds and features of a case by PyRadiomics (without reading the files) or MIRP (with it)."""
    if tool == "MIRP":
        return mirp(*paths(data, case))
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image, mask = (sitk.ReadImage(path) for path in paths(data, case))
    if zoom > 1:
        image, mask = (sitk.Expand(i, [zoom] * 3, sitk.sitkNearestNeighbor) for i in (image, mask))
    import radiomics
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    radiomics.setVerbosity(60)
    extractor = RadiomicsFeatureExtractor(binWidth=25)
    if only_shape:
        extractor.disableAllFeatures()
        extractor.enableFeatureClassByName("shape")
    else:
        extractor.enableImageTypes(LoG={"sigma": [1.0, 2.0, 3.0]}, Wavelet={})
    mask = sitk.Cast(mask > 0, sitk.sitkUInt8)
    start = time.process_time()
    found = extractor.execute(image, mask)
    return time.process_time() - start, {k: float(v) for k, v in found.items() if not k.startswith("diagnostics_")}


def mirp(image: str, mask: str) -> Timed:
    """The full set by MIRP with PyRadiomics' bins and textures averaged over directions. Values of the original image
    come with the tags of IBSI's tables, without what MIRP appends on distance, threshold and bins."""
    import logging
    import warnings

    from mirp import extract_features

    logging.disable(50)
    warnings.simplefilter("ignore")
    method = {"method": "fixed_bin_size_pyradiomics", "bin_width": 25.0}
    discretised = {f"{of}_discretisation_{k}": v for of in ("base", "response_map") for k, v in method.items()}
    start = time.process_time()
    frames = extract_features(
        image=image, mask=mask, ibsi_compliant=False, base_feature_families="all", response_map_feature_families="all",
        glcm_spatial_method="3d_average", glrlm_spatial_method="3d_average", **discretised,
        filter_kernels=["laplacian_of_gaussian", "separable_wavelet"], laplacian_of_gaussian_sigma=[1.0, 2.0, 3.0],
        separable_wavelet_families="coif1", separable_wavelet_set="all",
    )  # fmt: skip
    spent = time.process_time() - start
    values = {}
    for frame in frames:
        for column in frame.columns:
            tag = column.removesuffix("_fbsp_w25.0").replace("_a0.0_", "_").replace("_d1_", "_")
            try:
                values.setdefault(tag, float(frame[column].iloc[0]))
            except (TypeError, ValueError):  # names of files and the like
                continue
    return spent, values


def ours(data: Path, case: str, zoom: int, only_shape: bool) -> Timed:
    import SimpleITK as sitk
    from polycentric.config.features import Recipe
    from polycentric.radiomics import extract
    from polycentric.volumes import Volume

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image, mask = (sitk.ReadImage(path) for path in paths(data, case))
    if zoom > 1:
        image, mask = (sitk.Expand(i, [zoom] * 3, sitk.sitkNearestNeighbor) for i in (image, mask))
    recipe = Recipe(grid="pyradiomics", log_sigmas_mm=(1.0, 2.0, 3.0), wavelet="coif1")
    if only_shape:
        recipe = Recipe(grid="pyradiomics", classes=["shape"])
    image, mask = Volume.from_sitk(image), Volume.from_sitk(mask)
    start = time.process_time()
    values = extract(image, mask, recipe).values
    return time.process_time() - start, values


def measure(tool: str, data: Path, case: str, zoom: int = 1, only_shape: bool = False) -> Timed:
    return ours(data, case, zoom, only_shape) if tool == "Polycentric" else peer(tool, data, case, zoom, only_shape)


def worker(options: argparse.Namespace) -> None:
    """One process: `cases` times the same case; prints CPU seconds since its start, and what one case took."""
    each, values = [], {}
    for _ in range(options.cases):
        seconds, values = measure(options.worker, options.data, options.case, options.zoom, options.shape)
        each.append(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"cpu": time.process_time(), "best": min(each), "peak_mb": peak,
                      "values": values}))  # fmt: skip


def process(tool: str, data: Path, case: str, *more: str, cache: str | None = None, python: str = "") -> dict:
    command = [python or sys.executable, __file__, str(data), "--worker", tool, "--case", case, *more]
    environment = os.environ | ({"NUMBA_CACHE_DIR": cache} if cache else {})
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def agree(one: dict[str, float], other: dict[str, float]) -> str:
    if not other:
        return "-"
    good = sum(abs(one[k] - v) <= max(1e-6 * abs(v), 1e-9) for k, v in other.items() if k in one)
    return f"{good:,} of {len(other):,}"


def agree_ibsi(reference: dict[str, float], tagged: dict[str, float]) -> str:
    """Features of the original image that both have, by the tags of IBSI."""
    from polycentric.tools.ibsi import names

    pairs = [(reference[k], tagged[t.lower()]) for k, t in names().items() if k in reference and t.lower() in tagged]
    good = sum(abs(a - b) <= max(1e-6 * abs(a), 1e-9) for a, b in pairs)
    return f"{good} of {len(pairs)} of the original image"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mirp", help="interpreter of an environment that has MIRP and SimpleITK")
    parser.add_argument("--large", action="store_true", help="a ROI of a million voxels as well (minutes, gigabytes)")
    for name, kind, default in (("worker", str, None), ("case", str, PAT1), ("zoom", int, 1)):
        parser.add_argument(f"--{name}", type=kind, default=default, help=argparse.SUPPRESS)
    parser.add_argument("--shape", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return 0
    data = options.data
    tools = ["PyRadiomics", "Polycentric", *(["MIRP"] if options.mirp else [])]
    print(f"Python {platform.python_version()}, {platform.machine()}, load {os.getloadavg()[0]:.1f}")

    rows = []
    for case in (PAT1, BRAIN1):
        found: dict[str, list[dict]] = {tool: [] for tool in tools}
        for _ in range(options.repeats):
            for tool in tools:
                python = options.mirp if tool == "MIRP" else ""
                found[tool].append(process(tool, data, case, "--cases", "2", python=python))
        reference = min(r["best"] for r in found["PyRadiomics"])
        for tool in tools:
            best = min(r["best"] for r in found[tool])
            peak = max(r["peak_mb"] for r in found[tool])
            same = (agree_ibsi if tool == "MIRP" else agree)(
                found["PyRadiomics"][0]["values"], found[tool][0]["values"]
            )
            rows.append([case, tool, f"{best:.2f}", f"{reference / best:.1f} x", f"{peak:.0f}", same])
    table("Full set, CPU seconds per case without process start", ["case", "tool", "CPU s", "speed", "peak MB",
          "features within 1e-6 of PyRadiomics"], rows)  # fmt: skip

    rows = []
    for case in (PAT1, BRAIN1):
        spent = {tool: process(tool, data, case, "--cases", str(options.cases))["cpu"] for tool in tools[:2]}
        for tool, cpu in spent.items():
            rows.append([case, tool, f"{cpu:.1f}", f"{spent['PyRadiomics'] / cpu:.1f} x"])
    table(f"A process with {options.cases} cases, start included", ["case", "tool", "CPU s", "speed"], rows)

    with tempfile.TemporaryDirectory() as cache:
        cold = process("Polycentric", data, BRAIN1, "--cases", "1", cache=cache)
        warm = process("Polycentric", data, BRAIN1, "--cases", "1", cache=cache)
    table("One case of brain1 in one process, CPU seconds", ["kernels", "CPU s"],
          [["compiled, once per machine", f"{cold['cpu']:.1f}"], ["from the cache", f"{warm['cpu']:.1f}"]])  # fmt: skip

    table("Five ROIs of one image, full set, CPU seconds", ["what", "CPU s"], five(data))

    rows = []
    for jobs in (1, 2):
        start = time.monotonic()
        command = [sys.executable, __file__, str(data), "--worker", "Polycentric", "--cases", "10"]
        running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(jobs)]
        for job in running:
            job.wait()
        rows.append([str(jobs), f"{time.monotonic() - start:.1f}"])
    table("Jobs of ten cases side by side, wall seconds", ["jobs", "wall s"], rows)

    if options.large:
        rows = []
        for what, more in (("shape", ["--shape"]), ("full set", [])):
            for tool in ("PyRadiomics", "Polycentric"):
                got = process(tool, data, PAT1, "--cases", "2", "--zoom", "2", *more)
                rows.append([what, tool, f"{got['best']:.2f}", f"{got['peak_mb']:.0f}"])
        table("ROI of 1,002,048 voxels, without process start", ["what", "tool", "CPU s", "peak MB"], rows)
    return 0


def five(data: Path) -> list[list[str]]:
    """Time of five overlapping ROIs against the filters once and the ROIs' own time, best of three."""
    import numpy as np
    import SimpleITK as sitk
    from polycentric.config.features import Recipe
    from polycentric.radiomics import engine, extract, extract_rois
    from polycentric.radiomics.fast.filters import images
    from polycentric.volumes import Volume

    image, mask = (Volume.from_sitk(sitk.ReadImage(path)) for path in paths(data, PAT1))
    recipe = Recipe(grid="pyradiomics", log_sigmas_mm=(1.0, 2.0, 3.0), wavelet="coif1")
    masks = {str(n): mask.with_array(np.roll(mask.array, n, axis=2)) for n in range(-2, 3)}
    settings, kinds, _ = engine.settings_of(recipe)

    def seconds(work) -> float:
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
        return best

    def filtered(chosen: list[Volume]) -> None:
        hits = np.argwhere(np.any([m.array > 0 for m in chosen], axis=0))
        box = tuple(slice(int(a), int(b) + 1) for a, b in zip(hits.min(0), hits.max(0), strict=True))
        for _ in images(image, box, settings, kinds):
            pass

    extract(image, mask, recipe)
    search = seconds(lambda: np.argwhere(np.any([m.array > 0 for m in masks.values()], axis=0)))
    one_search = seconds(lambda: np.argwhere(np.any([mask.array > 0], axis=0)))
    once = seconds(lambda: filtered(list(masks.values()))) - search
    own = sum(
        seconds(lambda m=m: extract(image, m, recipe)) - (seconds(lambda m=m: filtered([m])) - one_search)
        for m in masks.values()
    )
    together = seconds(lambda: extract_rois(image, masks, recipe))
    return [
        ["filters once", f"{once:.2f}"],
        ["sum of the ROIs' own time", f"{own:.2f}"],
        ["filters once + 1.1 x own time", f"{once + 1.1 * own:.2f}"],
        ["five ROIs together", f"{together:.2f}"],
    ]


if __name__ == "__main__":
    sys.exit(main())
