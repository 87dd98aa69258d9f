from polycentric.words import in_words


def test_estimates_in_words() -> None:
    full = {"value": 0.7142, "lower": 0.6, "upper": 0.849, "level": 0.95}
    assert in_words(full) == "0.71 (95 % interval 0.60 to 0.85)"
    assert in_words({**full, "value": -101.2, "lower": -115.4, "upper": -81.9}, digits=0) == (
        "-101 (95 % interval -115 to -82)"
    )
    assert in_words({**full, "lower": None}) == "0.71 (no interval)"
    assert in_words({"value": None}) == "not estimable"
