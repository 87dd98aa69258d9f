"""Reader studies: blinding, refusal of wrong answers, planted readers."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from polycentric import readers, tables, univariate
from polycentric.config.readers import ReaderStudy
from polycentric.errors import UserError
from polycentric.files import canonical_json, read_json
from polycentric.readers.answers import order_of, seal
from polycentric.readers.items import cut
from polycentric.tables.readers import ANSWERS, APP, ITEMS, KEY, REJECTED
from polycentric.volumes import Geometry, Volume
from pydantic import ValidationError
from report_support import factory


def settings(**more: Any) -> ReaderStudy:
    return ReaderStudy.model_validate(
        {
            "views": {
                "acquired": {"view": "ct", "where": "contrast == 'no'"},
                "synthetic": {"view": "noncontrast", "where": "contrast == 'yes'"},
            },
            "split": "synthesis", "parts": ["test", "external"], "items": 10, "size_px": 48, "pixel_mm": 8,
        }
        | more
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> factory.Study:
    return factory.make(tmp_path_factory.mktemp("readers") / "results")


@pytest.fixture
def export(study: factory.Study, tmp_path: Path) -> Callable[..., Path]:
    def run(chosen: ReaderStudy | None = None, name: str = "turing", folder: Path | None = None) -> Path:
        folder = folder or study.root / "readers" / tmp_path.name
        readers.export(
            name, chosen or settings(), seed=3, manifests={"acquired": study.inputs.views["ct"],
            "synthetic": study.inputs.views["noncontrast"]}, scans=study.inputs.scans,
            split=study.inputs.splits["synthesis"], ledgers=[study.inputs.models["decontrast"].ledger],
            secret=b"secret", root=study.root, folder=folder / "app", items=folder / "items.tsv",
            key=tmp_path / "key.tsv", manifest=folder / "app.tsv",
        )  # fmt: skip
        return folder

    return run


def ingest(study: factory.Study, folder: Path, key: Path, chosen: ReaderStudy, answers: Path | None) -> dict[str, Any]:
    readers.ingest(
        "turing", chosen, seed=3, items=folder / "items.tsv", key=key, answers=answers, root=study.root, folder=folder,
        output=folder / "answers.parquet", rejected=folder / "rejected.tsv",
    )  # fmt: skip
    return read_json(folder / "metrics.json")


def test_a_slice_is_put_on_the_pixels_asked_for() -> None:
    """A ramp of 2 HU per mm along x and 3 along y stays that ramp on other pixels."""
    y, x = np.mgrid[:40, :50].astype(float)
    ramp = 2.0 * (x - 24.5) * 1.5 + 3.0 * (y - 19.5) * 2.0
    volume = Volume(ramp[None], Geometry((50, 40, 1), (1.5, 2.0, 5.0)))
    pixels = cut(volume, 0, 20, 3.0, (-1024, 3071))
    v, u = np.mgrid[:20, :20]
    expected = 2.0 * (u - 9.5) * 3.0 + 3.0 * (v - 9.5) * 3.0
    assert pixels.dtype == np.dtype("<i2")
    assert np.abs(pixels - expected).max() <= 0.5
    outside = cut(volume, 0, 60, 3.0, (-1024, 3071))
    assert outside[0, 0] == -1024


def test_the_page_names_neither_case_nor_arm(export: Callable[..., Path], study: factory.Study, tmp_path: Path) -> None:
    folder = export()
    key = tables.read(tmp_path / "key.tsv", KEY)
    assert key["arm"].value_counts().to_dict() == {"acquired": 5, "synthetic": 5}
    listed = tables.read(folder / "app.tsv", APP)
    files = [study.root / p for p in listed["path"]]
    assert {p for p in (folder / "app").rglob("*") if p.is_file()} == set(files)
    secrets = {*study.scans["scan"], *study.scans["patient"], *study.scans["session"], "north", "south", "east"}
    secrets |= {"noncontrast", "decontrast", '"ct"'}
    public = [*files, folder / "items.tsv"]
    for path in public:
        text = path.read_text(encoding="utf-8") + str(path.relative_to(folder))
        found = [s for s in secrets if s in text]
        assert not found, (path.name, found)
    # an item's own files differ in nothing but id and pixels: same length, and the arm occurs nowhere beside an id
    data = [p for p in files if p.parent.name == "data"]
    assert len({p.stat().st_size for p in data}) == 1
    assert all(re.fullmatch(r'RS\.put\("[0-9a-f]{16}","[A-Za-z0-9+/=]+"\);\n', p.read_text()) for p in data)
    shown = json.loads((folder / "app" / "study.js").read_text().removeprefix("RS.study(").rstrip(");\n"))
    assert shown["items"] == sorted(key["item"])


def test_the_order_on_the_page_tells_nothing(export: Callable[..., Path], tmp_path: Path) -> None:
    """Sorted by id, arms are mixed: ids are keyed hashes, so no run of one arm at either end."""
    folder = export(settings(items=24))
    key = tables.read(tmp_path / "key.tsv", KEY).sort_values("item")
    synthetic = (key["arm"] == "synthetic").to_numpy()
    _, p = univariate.separation(np.arange(len(key), dtype=float), synthetic)
    assert p > 0.01
    items = tables.read(folder / "items.tsv", ITEMS)
    assert order_of("b", "r1", items["item"].tolist()) != order_of("b", "r2", items["item"].tolist())


def test_an_item_shows_its_slice(export: Callable[..., Path], study: factory.Study, tmp_path: Path) -> None:
    """The pixels on the page are those of the scan and slice that the private key names."""
    from polycentric import volumes
    from polycentric.tables import schemas

    folder = export(settings(size_px=60, pixel_mm=5))
    row = tables.read(tmp_path / "key.tsv", KEY).iloc[0]
    text = (folder / "app" / "data" / f"{row['item']}.js").read_text().split('"')[3]
    shown = np.frombuffer(base64.b64decode(text), "<i2").reshape(60, 60)
    manifest = tables.read_all(list(study.inputs.views[row["view"]]), schemas.VIEWS).set_index("scan").loc[row["scan"]]
    array = volumes.read(study.root / manifest["path"], manifest).array[row["slice"]]
    expected = np.clip(array[:, 6:66], -1024, 3071)
    assert np.abs(shown - expected).max() <= 0.5  # 72 columns, of which the middle 60


def test_export_gives_the_same_bytes_again(export: Callable[..., Path], study: factory.Study) -> None:
    first = export()
    hashes = {p.relative_to(first): hashlib.sha256(p.read_bytes()).hexdigest() for p in first.rglob("*") if p.is_file()}
    second = export(folder=study.root / "readers" / "again")
    assert hashes == {
        p.relative_to(second): hashlib.sha256(p.read_bytes()).hexdigest() for p in second.rglob("*") if p.is_file()
        if p.name != "app.tsv"
    } | {Path("app.tsv"): hashes[Path("app.tsv")]}  # fmt: skip


def test_patients_that_a_model_has_seen_are_refused(export: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"decontrast.*has seen"):
        export(settings(parts=["training", "test"]))


def test_an_arm_without_images_says_what_to_write(export: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="views: acquired: no image"):
        export(settings(views={"acquired": {"view": "ct", "where": "kvp > 500"}, "synthetic": {"view": "noncontrast"}}))
    with pytest.raises(UserError, match="cannot be evaluated"):
        export(settings(views={"acquired": {"view": "ct", "where": "kvolt > 5"}, "synthetic": {"view": "noncontrast"}}))


def test_without_answers_the_study_waits(export: Callable[..., Path], study: factory.Study, tmp_path: Path) -> None:
    folder = export()
    for answers in (None, tmp_path / "absent"):
        metrics = ingest(study, folder, tmp_path / "key.tsv", settings(), answers)
        assert metrics["status"] == "waiting: 0 of 3 readers"
        assert metrics["estimates"] == {"readers": {}, "all readers": {}}
    assert tables.read(folder / "answers.parquet", ANSWERS).empty
    assert (folder / "figures" / "summary.svg").exists()


def answer_file(folder: Path, path: Path, reader: str = "R-1", **more: Any) -> dict[str, Any]:
    """A file as the page writes it: everything called acquired, unless `more` says otherwise."""
    items = tables.read(folder / "items.tsv", ITEMS)
    record: dict[str, Any] = {
        "schema": "rs-answers/1", "study": "turing", "build": items["build"].iloc[0], "reader": reader,
        "answers": [
            {"item": i, "answer": "acquired", "active_ms": 2500, "visits": 1} for i in items["item"]
        ], "complete": True,
    } | more  # fmt: skip
    record["sha256"] = hashlib.sha256(canonical_json(record).encode()).hexdigest()
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def test_wrong_files_are_refused_with_the_reason(
    export: Callable[..., Path], study: factory.Study, tmp_path: Path
) -> None:
    folder, inbox = export(), tmp_path / "inbox"
    good = answer_file(folder, inbox / "Dr Jane Doe.json")
    answer_file(folder, inbox / "copy.json")  # the same bytes as the first
    (inbox / "respaced.json").write_text(json.dumps(good, indent=3))  # the same answers, other bytes
    answer_file(folder, inbox / "old.json", "R-2", build="0" * 16)
    answer_file(folder, inbox / "other.json", "R-3", study="preference")
    answer_file(folder, inbox / "half.json", "R-4", answers=good["answers"][:4], complete=False)
    answer_file(folder, inbox / "twice.json", "R-5", answers=[*good["answers"], good["answers"][0]])
    answer_file(folder, inbox / "maybe.json", "R-6", answers=[{**a, "answer": "maybe"} for a in good["answers"]])
    edited = answer_file(folder, inbox / "edited.json", "R-7")
    edited["answers"][0]["answer"] = "synthetic"
    (inbox / "edited.json").write_text(json.dumps(edited))
    (inbox / "noise.json").write_text("{not json")
    answer_file(folder, inbox / "a.json", "R-8")
    answer_file(folder, inbox / "b.json", "R-8", answers=[{**a, "answer": "synthetic"} for a in good["answers"]])
    metrics = ingest(study, folder, tmp_path / "key.tsv", settings(), inbox)
    rejected = tables.read(folder / "rejected.tsv", REJECTED)
    by_reader = rejected.groupby("reader")["code"].apply(lambda c: sorted(c)).to_dict()
    assert by_reader == {
        "": ["UNREADABLE"], "R-1": ["DUPLICATE", "DUPLICATE"], "R-2": ["WRONG_BUILD"], "R-3": ["WRONG_STUDY"],
        "R-4": ["INCOMPLETE"], "R-5": ["IMPOSSIBLE"], "R-6": ["IMPOSSIBLE"], "R-7": ["CHANGED"],
        "R-8": ["TWICE", "TWICE"],
    }  # fmt: skip
    assert metrics["status"] == "waiting: 1 of 3 readers"
    assert set(metrics["estimates"]["readers"]) == {"R-1"}
    # who calls everything acquired has sensitivity 0, specificity 1, and is warned about
    reader = metrics["estimates"]["readers"]["R-1"]
    assert (reader["sensitivity"]["value"], reader["specificity"]["value"]) == (0, 1)
    assert reader["balanced_accuracy"]["value"] == 0.5
    assert any("same answer" in w for w in metrics["warnings"])
    # a person's name in a file name goes nowhere
    for path in folder.rglob("*"):
        assert path.is_dir() or b"Jane" not in path.read_bytes()


def test_the_seal_is_what_the_page_computes(tmp_path: Path) -> None:
    """Keys sorted, no blanks, text as it is: the SHA-256 of a small record, worked out with sha256sum."""
    record = {"b": [1, "é"], "a": True, "sha256": "x"}
    assert seal(record) == hashlib.sha256('{"a":true,"b":[1,"é"]}'.encode()).hexdigest()


def test_simulated_readers_have_the_skill_that_was_planted(
    export: Callable[..., Path], study: factory.Study, tmp_path: Path
) -> None:
    planted = [("perfect", 1.0, 1.0), ("good", 0.9, 0.6), ("inverse", 0.0, 0.0)]
    chosen = settings(
        items=80, bootstraps=50, simulated=[{"name": n, "sensitivity": a, "specificity": b} for n, a, b in planted]
    )
    folder = export(chosen)
    metrics = ingest(study, folder, tmp_path / "key.tsv", chosen, None)
    for name, sensitivity, specificity in planted:
        for measure, truth in (("sensitivity", sensitivity), ("specificity", specificity)):
            e = metrics["estimates"]["readers"][name][measure]
            z = abs(e["value"] - truth) / max(np.sqrt(truth * (1 - truth) / e["n"]), 1e-9)
            assert z < 3.5
    answers = tables.read(folder / "answers.parquet", ANSWERS)
    assert answers["simulated"].all()
    assert any("simulated" in w for w in metrics["warnings"])
    assert metrics["status"].startswith("waiting: 0 of")
    assert metrics["estimates"]["all readers"]["fleiss_kappa"]["value"] < 0.2


def test_a_difference_that_gives_the_arm_away_is_reported(
    export: Callable[..., Path], study: factory.Study, tmp_path: Path
) -> None:
    """Noise was added to the air of all synthetic images: fewer pixels lie at the lowest value."""
    chosen = settings(items=40)
    folder = export(chosen)
    metrics = ingest(study, folder, tmp_path / "key.tsv", chosen, None)
    key = tables.read(tmp_path / "key.tsv", KEY)
    a, b = (key.loc[key["arm"] == arm, "highest_hu"].to_numpy() for arm in ("synthetic", "acquired"))
    wins = (a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean()
    assert metrics["blinding"]["highest_hu"]["auc"] == pytest.approx(wins)
    assert any("tells the two kinds of images apart" in w for w in metrics["warnings"])


def test_settings_say_what_to_write() -> None:
    with pytest.raises(ValidationError, match="goes down; write the lower value first"):
        settings(window_hu=[240, -160])
    with pytest.raises(ValidationError, match="occur twice"):
        settings(simulated=[{"name": "a", "sensitivity": 1, "specificity": 1}] * 2)
    with pytest.raises(ValidationError, match="the same images"):
        settings(views={"acquired": {"view": "ct"}, "synthetic": {"view": "ct"}})


def test_separation_of_known_groups() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 6])
    positive = np.array([False, False, False, True, True, True])
    assert univariate.separation(values, positive)[0] == 1
    assert univariate.separation(-values, positive)[0] == 0
    assert univariate.separation(np.ones(6), positive) == (0.5, 1.0)
    assert np.isnan(univariate.separation(values, np.ones(6, bool))[0])


def test_rates_of_a_reader_by_hand() -> None:
    from polycentric.readers.ingest import _reader

    rows = pd.DataFrame(
        {
            "arm": ["synthetic"] * 4 + ["acquired"] * 6,
            "answer": ["synthetic"] * 3 + ["acquired"] * 4 + ["synthetic"] * 3,
        }
    )
    result = _reader(rows)
    assert result["sensitivity"]["value"] == 3 / 4
    assert result["specificity"]["value"] == 3 / 6
    assert result["accuracy"]["value"] == 6 / 10
    assert result["balanced_accuracy"]["value"] == (3 / 4 + 3 / 6) / 2
