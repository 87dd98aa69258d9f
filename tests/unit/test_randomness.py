import numpy as np
from polycentric.randomness import generator, integer_seed


def test_streams_differ_by_every_name_and_do_not_run_together() -> None:
    draws = {
        tuple(generator(seed, *names).integers(0, 2**62, 4))
        for seed in (1, 2)
        for names in [("a", "b"), ("ab",), ("a", "b", 1), ("b", "a"), ("a",)]
    }
    assert len(draws) == 10


def test_streams_are_independent_of_each_other() -> None:
    streams = np.array([generator(7, "stage", f"scan-{n}").standard_normal(2000) for n in range(40)])
    correlations = np.corrcoef(streams)[np.triu_indices(40, 1)]
    # 780 correlations of 2000 draws each: sd 0.0224, the largest of 780 lies below 4.5 sd
    assert np.abs(correlations).max() < 4.5 / np.sqrt(2000)
    assert len({integer_seed(7, n) for n in range(1000)}) == 1000
