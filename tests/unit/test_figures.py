"""Figures: equal bytes, physical size, no global figures, pictures that do not lie about their window."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from polycentric import figures


def draw(path: Path) -> None:
    fig, axis = figures.new(width_mm=80, height_mm=60)
    axis.plot([0, 1, 2], [1, 3, 2], label="a")
    axis.fill_between([0, 1, 2], 0, [1, 2, 3], alpha=0.2)
    axis.set_xlabel("time, days")
    axis.legend()
    figures.save(fig, path)


@pytest.mark.parametrize("suffix", ["svg", "png", "jpg"])
def test_equal_figures_give_equal_bytes(tmp_path: Path, suffix: str) -> None:
    draw(tmp_path / f"a.{suffix}")
    draw(tmp_path / f"b.{suffix}")
    a, b = ((tmp_path / f"{n}.{suffix}").read_bytes() for n in "ab")
    assert a == b
    assert not re.search(rb"20\d\d-\d\d-\d\d", a)


def test_figures_have_the_size_in_mm(tmp_path: Path) -> None:
    draw(tmp_path / "a.svg")
    width, height = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"', (tmp_path / "a.svg").read_text()).groups()
    assert float(width) == pytest.approx(80 * 72 / 25.4, rel=1e-5)
    assert float(height) == pytest.approx(60 * 72 / 25.4, rel=1e-5)


def test_svg_text_needs_no_font(tmp_path: Path) -> None:
    draw(tmp_path / "a.svg")
    assert "<text" not in (tmp_path / "a.svg").read_text()


def test_csv_reads_back_exactly(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [0.1, 1 / 3, np.nan], "name": ["a", "b,c", ""]})
    figures.write_csv(frame, tmp_path / "a.csv")
    back = pd.read_csv(io.StringIO((tmp_path / "a.csv").read_text()))
    assert back["x"].iloc[1] == 1 / 3
    assert back["name"].iloc[1] == "b,c"


def panel(value: float, **kw) -> figures.Panel:
    image = np.full((40, 60), value)
    return figures.Panel(image, kw.pop("spacing", (2.0, 2.0)), kw.pop("window", (-1000, 1000)), **kw)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_picture_shows_grey_values_by_the_window(tmp_path: Path) -> None:
    """A panel of 0 HU in the window -1000..1000 is mid-grey wherever no bar or title lies."""
    figures.picture(tmp_path / "a.png", [panel(0.0)], width_mm=60)
    image = pixels(tmp_path / "a.png")
    centre = image[image.shape[0] // 2, image.shape[1] // 3]
    assert abs(centre - 127.5).max() <= 1.5


def test_picture_draws_the_outline_where_the_mask_ends(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    figures.picture(tmp_path / "a.png", [panel(-1000.0, outlines=(mask,))], width_mm=60)
    image = pixels(tmp_path / "a.png")
    orange = (abs(image - [0xE6, 0x9F, 0x00]).max(axis=-1) < 30).nonzero()
    black = (image.max(axis=-1) < 3).nonzero()
    top, left = black[0].min(), black[1].min()
    per_pixel = (orange[1].max() - orange[1].min()) / 20  # the outline is 20 voxels wide
    assert (orange[0].min() - top) / per_pixel == pytest.approx(10, abs=1)
    assert (orange[1].min() - left) / per_pixel == pytest.approx(20, abs=1)
    assert (orange[0].max() - orange[0].min()) / per_pixel == pytest.approx(20, abs=0.7)


def test_pictures_respect_anisotropic_spacing(tmp_path: Path) -> None:
    """A 40 x 60 slice with 3 mm rows and 1 mm columns is twice as high as wide."""
    figures.picture(tmp_path / "a.png", [panel(-1000.0, spacing=(1.0, 3.0))], width_mm=60)
    black = pixels(tmp_path / "a.png").max(axis=-1) < 3
    rows = (black.sum(axis=1) > black.sum(axis=1).max() / 2).sum()
    columns = (black.sum(axis=0) > black.sum(axis=0).max() / 2).sum()
    assert rows / columns == pytest.approx(2, rel=0.05)


def test_panels_that_share_a_bar_share_the_window(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different windows"):
        figures.picture(tmp_path / "a.png", [panel(0.0), panel(0.0, window=(-100, 100))])
