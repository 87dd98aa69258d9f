"""Shift of features: closed forms and planted changes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from phantoms import Phantom
from polycentric import ledger, tables
from polycentric.config.synthesis_analyses import FeatureShift
from polycentric.errors import UserError
from polycentric.fidelity.shift import concordance, percentage_change, shift
from polycentric.tables import schemas
from pydantic import ValidationError


def test_percentage_change_and_its_edges() -> None:
    found = percentage_change(np.array([10.0, -10, 0, 0]), np.array([15.0, -15, 0, 3]))
    assert found[:3].tolist() == [50, -50, 0]
    assert np.isnan(found[3])


def test_concordance_as_by_lin() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(5, 2, 500)
    assert concordance(a, a) == pytest.approx(1)
    # a shift by d leaves the correlation at 1: 2 s^2 / (2 s^2 + d^2)
    assert concordance(a, a + 3) == pytest.approx(2 * a.var() / (2 * a.var() + 9))
    b = a + rng.normal(0, 1, 500)
    correlation = np.corrcoef(a, b)[0, 1]
    exact = 2 * correlation * a.std() * b.std() / (a.var() + b.var() + (a.mean() - b.mean()) ** 2)
    assert concordance(a, b) == pytest.approx(exact)
    assert np.isnan(concordance(np.ones(3), np.ones(3)))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    parts = {f"p{i:02d}": "training" if i < 2 else "test" for i in range(22)}
    return Phantom(tmp_path_factory.mktemp("shift"), parts)


def run(cohort: Phantom, folder: str, seen: list[str], after: dict[str, float], **changes) -> tuple[dict, Path]:
    rng = np.random.default_rng(1)
    base = pd.DataFrame([{k: cohort.facts(p)[k] for k in schemas.SCAN} for p in cohort.patients])
    base = base.assign(roi="GTV-1", fold="main", status="ok")
    values = pd.DataFrame({f: rng.normal(100, 10, len(base)) for f in ("stays", "doubles", "shifts")})
    changed = pd.DataFrame({f: values[f] * after.get(f, 1) for f in values if f in after or not after})
    paths = {}
    for name, frame in (("before", values), ("after", changed)):
        paths[name] = cohort.root / "features" / f"{folder}-{name}.parquet"
        tables.write(pd.concat([base.assign(set=name), frame], axis=1), paths[name], schemas.FEATURES)
    written = cohort.root / "ledger.json"
    ledger.write(written, name="m", stage="synthesis", split="main", settings="{}", code="0", seen={"training": seen})
    target = cohort.root / "analyses" / folder
    shift(
        "shift", FeatureShift(synthesis="m", before="before", after="after", bootstrap=50, **changes), **paths,
        scans=cohort.scans, patients=cohort.patient_table, split=cohort.split, split_name="main", ledgers=[written],
        seed=1, root=cohort.root, folder=target, settings_json="{}", code="0",
    )  # fmt: skip
    return json.loads((target / "metrics.json").read_text()), target


def test_planted_changes_are_found(cohort: Phantom) -> None:
    found, folder = run(cohort, "a", ["p00"], {"stays": 1.0, "doubles": 2.0, "shifts": 1.05})
    assert found["n"] == {"patients": 20, "scans": 20, "regions": 20, "features": 3}
    table = pd.read_csv(folder / "tables" / "features.csv").set_index("feature")
    assert table["median_change_percent"].round(6).to_dict() == {"stays": 0, "doubles": 100, "shifts": 5}
    assert table.loc["stays", "ccc"] == pytest.approx(1)
    assert table.loc["doubles", "ccc"] < 0.1
    assert found["kept"]["value"] == pytest.approx(200 / 3)  # all but the doubled ones
    histogram = pd.read_csv(folder / "tables" / "histogram.csv")
    assert histogram["values"].sum() == 60
    assert histogram.loc[histogram["from_percent"] == 100, "values"].item() == 20
    where, _ = run(cohort, "b", ["p00"], {"stays": 1.0}, where="contrast == 'no'")
    assert where["n"]["patients"] == 10
    assert where["kept"]["value"] == 100


def test_leaks_and_sets_without_a_common_feature(cohort: Phantom) -> None:
    with pytest.raises(UserError, match="'m' behind its inputs has seen 1"):
        run(cohort, "c", ["p05"], {"stays": 1.0})
    with pytest.raises(UserError, match="share 20 regions of unseen patients and 0 features"):
        run(cohort, "d", [], {"other": 1.0})
    with pytest.raises(ValidationError, match="name the same feature set"):
        FeatureShift(synthesis="m", before="x", after="x")
