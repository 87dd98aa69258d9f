"""Figures of how scans were acquired: every scan is counted, where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from polycentric import figures, tables
from polycentric.analysis import acquisition, describe
from polycentric.config.analyses import CohortAnalysis
from polycentric.tables.schemas import ARTEFACTS, PATIENTS, SCANS

GROUPS = ["east", "north"]


def _images(count: int = 200) -> pd.DataFrame:
    """Two centres that differ in kernel and exposure; a tenth of the exposures is not stated."""
    rng = np.random.default_rng(5)
    centre = np.where(np.arange(count) % 4 == 0, "east", "north")
    exposure = np.where(centre == "east", rng.normal(40, 5, count), rng.normal(200, 20, count))
    return pd.DataFrame(
        {
            "centre": centre,
            "scan": [f"V-{k:04d}" for k in range(count)],
            "kvp": 120.0,
            "exposure_mas": np.where(np.arange(count) % 10 == 0, np.nan, exposure),
            "ctdi_mgy": np.nan,
            "kernel": [f"K{k % 9}" if c == "north" else "B30f" for k, c in enumerate(centre)],
            "manufacturer": ["" if k % 5 == 0 else "Acme" for k in range(count)],
            "contrast": "unknown",
        }
    )


def test_histograms_count_every_known_value_where_it_lies() -> None:
    images = _images()
    _, rows = acquisition.numbers(images, "centre", GROUPS)
    assert set(rows["panel"]) == {"kvp", "exposure_mas"}  # nobody states a dose index
    for group, own in images.groupby("centre"):
        stated = own["exposure_mas"].dropna()
        bins = rows[(rows["panel"] == "exposure_mas") & (rows["group"] == group)]
        assert bins["scans"].sum() == len(stated)
        assert set(bins["missing"]) == {len(own) - len(stated)}
        for b in bins.to_dict("records"):  # the last bin holds its upper edge
            last = np.isclose(b["to"], images["exposure_mas"].max())
            inside = (stated >= b["from"]) & ((stated < b["to"]) | last)
            assert b["scans"] == inside.sum()
    assert rows.loc[rows["panel"] == "kvp", "scans"].tolist() == [50, 150]


def test_shares_of_levels_add_up_and_rare_ones_are_together() -> None:
    images = _images()
    _, rows = acquisition.categories(images, "centre", GROUPS)
    for (_, group), part in rows.groupby(["panel", "group"]):
        assert part["scans"].sum() == part["of"].iloc[0] == (images["centre"] == group).sum()
    kernels = rows[rows["panel"] == "kernel"].set_index(["group", "level"])["scans"]
    assert kernels["east", "B30f"] == 50
    assert kernels["east", "other"] == 0
    assert len(set(rows.loc[rows["panel"] == "kernel", "level"])) == acquisition.LEVELS + 1
    unstated = rows[(rows["panel"] == "manufacturer") & (rows["level"] == acquisition.MISSING)]
    assert unstated["scans"].sum() == (images["manufacturer"] == "").sum()


@pytest.mark.parametrize("count", [1, 3])
def test_few_scans_or_groups_without_any_are_drawn(count: int, tmp_path: Path) -> None:
    for make in (acquisition.numbers, acquisition.categories):
        figure, rows = make(_images(count), "centre", [*GROUPS, "west"])
        figures.save(figure, tmp_path / "a.svg")
        figures.save(make(_images(count), "centre", [*GROUPS, "west"])[0], tmp_path / "b.svg")
        assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
        assert len(rows)


def test_description_lists_both_figures_with_their_numbers(tmp_path: Path) -> None:
    images = _images(40).assign(
        patient=lambda f: "P" + f["scan"], session="S", role="development", shard="x-0", modality="CT", verdict="accept"
    )
    tables.write(images.reindex(columns=list(SCANS.columns)), tmp_path / "scans.tsv", SCANS)
    people = images[["centre", "patient", "role"]].assign(scans=1, clinical=False, age_years=range(40))
    tables.write(people, tmp_path / "patients.tsv", PATIENTS)
    folder = tmp_path / "analyses" / "cohort"
    metrics = describe.analyse(
        "cohort", CohortAnalysis(), seed=1, patients=tmp_path / "patients.tsv", scans=tmp_path / "scans.tsv",
        split=None, outcomes={}, columns=["age_years"], root=tmp_path, folder=folder, settings_json="{}", code="c",
    )  # fmt: skip
    manifest = tables.read(folder / "manifest.tsv", ARTEFACTS).set_index("path")
    for name in ("acquisition", "scanners"):
        row = manifest.loc[f"analyses/cohort/figures/{name}.svg"]
        assert "40 scans" in row["caption"]
        assert (tmp_path / row["data"]).is_file()
    described = {v["column"] for v in metrics["variables"]}
    assert {"exposure_mas", "kvp", "kernel", "manufacturer", "contrast"} <= described
    assert "ctdi_mgy" not in described
