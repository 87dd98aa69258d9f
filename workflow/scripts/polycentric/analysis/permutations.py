"""Null distributions from permuted outcomes, in numbered runs that may be made anywhere in any order.

Run k permutes with a stream of its own, so that 1,000 runs in 50 jobs of a cluster are the same runs as in one job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from .. import tables
from ..errors import UserError
from ..jobs import Log
from ..randomness import generator
from .schemas import PERMUTATIONS

Place = tuple[str, str]  # model and part of the split
FOLDER = "permutations"


def permuted(outcome: np.ndarray, seed: int, name: str, number: int, within: np.ndarray | None = None) -> np.ndarray:
    """The outcome (n, ...) of the analysis `name` with its rows permuted by the stream of run `number` (from 0).

    Within groups `within` (n,) where given, such as centres: where outcome and features both differ between centres,
    this keeps what the centre alone explains in the null distribution.
    """
    stream = generator(seed, "analyse", name, "permutation", number)
    if within is None:
        return stream.permutation(outcome)
    result, groups = np.array(outcome), np.asarray(within)
    for label in np.unique(groups):
        rows = np.flatnonzero(groups == label)
        result[rows] = result[stream.permutation(rows)]
    return result


def write(numbers: Sequence[int], run: Callable[[int], dict[Place, float]], path: Path, log: Log) -> None:
    """Make the runs `numbers` and write the values that `run` returns by model and part."""
    rows = []
    for done, number in enumerate(numbers, start=1):
        found = run(number)
        rows += [{"number": number, "model": m, "part": p, "value": value} for (m, p), value in found.items()]
        if done % max(1, len(numbers) // 10) == 0:
            log.progress("permutations", done, len(numbers))
    tables.write(rows, path, PERMUTATIONS)


def gather(paths: Iterable[Path], total: int, places: Sequence[Place], where: str) -> dict[Place, np.ndarray]:
    """Values (total,) of every model and part from the tables of all shards.

    Raises
    ------
    UserError
        if a run is missing, was made twice, or was not asked for.
    """
    rows = tables.read_all(list(paths), PERMUTATIONS)
    keys = list(zip(rows["number"].astype(int), rows["model"], rows["part"], strict=True))
    found, wanted = set(keys), {(n, *place) for n, place in product(range(total), places)}
    missing = sorted({key[0] for key in wanted - found})
    strange = sorted({key[0] for key in found - wanted})
    twice = len(keys) - len(found)
    if missing or strange or twice:
        what = [
            f"{len(missing)} of {total} are missing (such as number {missing[0]})" if missing else "",
            f"{twice} values are there twice" if twice else "",
            f"{len(strange)} were not asked for (such as number {strange[0]})" if strange else "",
        ]
        raise UserError(
            f"{where}: the permutations of the shards do not add up: {'; '.join(w for w in what if w)}. Remove the "
            f"folder {FOLDER} of the analysis and run snakemake again."
        )
    values = {place: np.full(total, np.nan) for place in places}
    for (number, model, part), value in zip(keys, rows["value"].astype(float), strict=True):
        values[model, part][number] = value
    return values
