"""One seed per study, an independent stream for every consumer."""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, *names: str | int) -> np.random.SeedSequence:
    """Seed sequence of (seed, stage, name, item id, ...); independent of call order, cores and shards."""
    digest = hashlib.sha256("\x1f".join(str(n) for n in names).encode()).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest, dtype="<u4").tolist()])


def generator(seed: int, *names: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *names)))


def integer_seed(seed: int, *names: str | int) -> int:
    """A seed below 2**31 for libraries that take an integer (torch, scikit-learn)."""
    return int(seed_sequence(seed, *names).generate_state(1)[0] & 0x7FFFFFFF)
