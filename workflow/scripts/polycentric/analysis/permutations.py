"""Null distributions from permuted outcomes, in numbered runs that may be made anywhere in any order.

Run k permutes with a stream of its own, so that 1,000 runs on 50 cluster jobs are the same runs as on one core.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..errors import UserError
from ..randomness import generator


def permutation_stream(seed: int, name: str, number: int) -> np.random.Generator:
    """The random stream of permutation `number` (from 0) of the analysis `name`."""
    return generator(seed, "analyse", name, "permutation", number)


def permuted(outcome: np.ndarray, seed: int, name: str, number: int, within: np.ndarray | None = None) -> np.ndarray:
    """The outcome (n, ...) with its rows permuted; within groups `within` (n,) where given, such as centres.

    Where outcome and features both differ between centres, permuting within centres keeps what the centre alone
    explains in the null distribution.
    """
    stream = permutation_stream(seed, name, number)
    if within is None:
        return stream.permutation(outcome)
    result, groups = np.array(outcome), np.asarray(within)
    for label in np.unique(groups):
        rows = np.flatnonzero(groups == label)
        result[rows] = result[stream.permutation(rows)]
    return result


def numbers(total: int, shards: int, shard: int) -> range:
    """The permutations of shard `shard` (from 0) of `shards`: contiguous, sizes differ by one at most."""
    if not 0 <= shard < shards:
        raise ValueError(f"shard {shard} of {shards}")
    return range(total * shard // shards, total * (shard + 1) // shards)


def gather(parts: Sequence[pd.DataFrame], total: int, where: str) -> pd.DataFrame:
    """The rows of all shards (column `number` and any others) in the order of the numbers.

    Raises
    ------
    UserError
        if a permutation is missing or was made twice.
    """
    rows = pd.concat(list(parts), ignore_index=True) if parts else pd.DataFrame({"number": []})
    keys = [c for c in rows.columns if c not in ("number", "value")]
    found = rows["number"].astype(int)
    missing = sorted(set(range(total)) - set(found))
    twice = rows.duplicated(["number", *keys])
    strange = sorted(set(found) - set(range(total)))
    if missing or twice.any() or strange:
        what = [
            f"{len(missing)} of {total} are missing (such as {missing[0]})" if missing else "",
            f"{int(twice.sum())} are there twice" if twice.any() else "",
            f"{len(strange)} were not asked for (such as {strange[0]})" if strange else "",
        ]
        raise UserError(
            f"{where}: the permutations of the shards do not add up: {'; '.join(w for w in what if w)}. Remove the "
            "folder of the permutations and run snakemake again."
        )
    return rows.assign(number=found).sort_values(["number", *keys], kind="stable", ignore_index=True)
