"""Speed of synthesis in one table: `python benchmarks/synthesis.py [--device cuda] [--threads 2] [--quick]`.

Runs `training.py` and `inference.py`, which lie beside it and print their own tables (variants interleaved, medians,
same device), then the table of what is promised, with the limits, and what was found on this machine. What this machine
cannot tell (no GPU, no AMX, no MONAI) is 'not measured'. `--quick` shows that it runs; its figures mean nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import inference
import torch
import training

# on a GPU as published; on a CPU small enough for some minutes
TRAINING = {"cpu": "--width 8 --patch 32 --layers 2", "cuda": "--width 64 --patch 64 --layers 3"}
INFERENCE = {
    "cpu": "--width 16 --window 32 --stride 16 --shape 32 96 96 --repeats 3",
    "cuda": "--width 64 --window 64 --stride 32 --shape 128 256 256 --repeats 3",
}
QUICK = (
    "--width 2 --patch 16 --layers 1 --blocks 1 --repeats 1",
    "--width 2 --blocks 1 --window 16 --stride 8 --shape 16 24 24 --repeats 1",
)
NOT_MEASURED = "not measured"
Cell = tuple[float | None, float, bool]  # what was found, the limit, whether it is a lower one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    common = ["--device", options.device, "--threads", str(options.threads)]
    first, second = QUICK if options.quick else (TRAINING[options.device], INFERENCE[options.device])
    trained = training.measure(training.options_of([*common, *first.split()]))
    print()
    passed = inference.measure(inference.options_of([*common, *second.split()]))
    cuda = options.device == "cuda"
    print(f"\n{trained['device']}{' with AMX' if trained['amx'] else ''}, torch {trained['torch']}\n")
    print("| | CPU | GPU |\n|---|---|---|")
    for title, cpu, gpu in rows(trained, passed, cuda):
        print(f"| {title} | {cell(cpu)} | {cell(gpu)} |")


def rows(
    trained: dict[str, Any], passed: list[dict[str, Any]], cuda: bool
) -> Iterator[tuple[str, list[Cell], list[Cell]]]:
    """Title, figures of a CPU and of a GPU; those of the other kind of device are None."""
    speed = {row["variant"]: row for row in trained["figures"]}
    ways = {row["way"]: row for row in passed}

    def ratio(own: str, plain: str, here: bool) -> float | None:
        """Of iterations, the fastest of the variants whose names begin so."""
        found = [row["per_s"] for name, row in speed.items() if name.startswith(own)]
        return max(found) / speed[plain]["per_s"] if here and found else None

    def faster(own: str, peer: str, here: bool) -> float | None:
        known = here and own in ways and peer in ways
        return ways[peer]["seconds"] / ways[own]["seconds"] if known else None

    def error(own: str, column: str, here: bool) -> float | None:
        return ways[own][column] if here and own in ways else None

    def only(value: float | None, here: bool) -> float | None:
        return value if here else None

    amx, cpu = not cuda and trained["amx"], not cuda
    yield (
        "training, iterations/s against a plain fp32 loop, batch of one, six passes",
        [(ratio("ours", "plain fp32", amx), 3.5, True)],
        [(ratio("ours", "plain fp32", cuda), 3, True)],
    )
    yield (
        "the same against that loop with bf16 autocast", [], [(ratio("ours", "plain bf16 autocast", cuda), 1.5, True)]
    )  # fmt: skip
    yield (
        "exact fp32 step against the plain fp32 loop",
        [(ratio("ours fp32", "plain fp32", cpu), 1.4, True)],
        [(ratio("ours fp32", "plain fp32", cuda), 1.2, True)],
    )
    shares = [row["of_ceiling"] for name, row in speed.items() if name.startswith("ours")]
    yield "share of the ceiling of matrix products", [], [(only(max(shares), cuda), 0.35, True)]
    yield (
        "inference, voxels/s against MONAI, fp32 (GPU: TF32 against TF32)",
        [(faster("ours fp32, 4", "MONAI fp32, 4", cpu), 1.15, True)],
        [(faster("ours tf32, 4", "MONAI tf32, 4", cuda), 3, True)],
    )
    yield (
        "the same, bf16 against MONAI in fp32 (GPU: both fp16)",
        [(faster("ours bf16, 4", "MONAI fp32, 4", amx), 5, True)],
        [(faster("ours fp16, 4", "MONAI fp16, 4", cuda), 1.5, True)],
    )
    yield (
        "mean error of the default precision, HU",
        [(error("ours fp32, 4", "mean_hu", cpu), 0.05, False)],
        [(error("ours fp16, 4", "mean_hu", cuda), 0.5, False)],
    )
    yield (
        "largest error of the default precision, HU",
        [(error("ours fp32, 4", "max_hu", cpu), 0.05, False)],
        [(error("ours fp16, 4", "max_hu", cuda), 5, False)],
    )
    yield "patches/s from the store, 64 x 64 x 64", [(only(speed["store mapped"]["per_s"], cpu), 1000, True)], []
    fastest = max((row for name, row in speed.items() if name.startswith("ours")), key=lambda row: row["per_s"])
    yield "share of the time for data", [], [(only(fastest["data_share"], cuda), 0.02, False)]


def cell(found: list[Cell]) -> str:
    if not found:
        return "-"
    texts = []
    for value, limit, lower in found:
        wanted = f"{'>=' if lower else '<='} {limit:g}"
        met = value is not None and (value >= limit if lower else value <= limit)
        told = NOT_MEASURED if value is None else f"{value:,.4g} ({'met' if met else 'NOT met'})"
        texts.append(f"{wanted}: {told}")
    return "; ".join(texts)


if __name__ == "__main__":
    main()
