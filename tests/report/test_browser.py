"""The report and the reader page in a real browser: they work, and they ask for nothing outside."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from polycentric import readers, tables
from polycentric.config.readers import ReaderStudy
from polycentric.config.report import ReportSettings
from polycentric.readers.answers import order_of
from polycentric.report import build
from polycentric.tables.readers import ANSWERS, ITEMS, KEY, REJECTED
from report_support import factory
from report_support.chromium import CHROMIUM, page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> factory.Study:
    return factory.make(tmp_path_factory.mktemp("study") / "results")


def test_the_report_asks_for_nothing_outside(study: factory.Study, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    build(ReportSettings(), study=study.settings, root=study.root, inputs=study.inputs, output=output)
    with page(tmp_path / "profile") as p:
        p.open(output)
        p.listen(0.5)
        asked = [url for url in p.requests() if not url.startswith("data:")]
        assert asked == [output.resolve().as_uri()]
        assert p.complaints() == []
        # every figure is decoded, has words, and the page has one heading and one main part
        assert p.evaluate("[...document.querySelectorAll('figure img')].every((i) => i.complete && i.naturalWidth > 0)")
        assert p.evaluate("[...document.images].filter((i) => i.closest('figure')).every((i) => i.alt.length > 10)")
        assert p.evaluate("document.querySelectorAll('figure img').length") >= 8
        assert p.evaluate("[document.querySelectorAll('h1').length, document.querySelectorAll('main').length]") == [
            1,
            1,
        ]
        assert p.evaluate("new Set([...document.querySelectorAll('[id]')].map((e) => e.id)).size") == p.evaluate(
            "document.querySelectorAll('[id]').length"
        )
        # nothing runs over the right edge, and the style is in force in spite of the policy
        assert p.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert p.evaluate("getComputedStyle(document.querySelector('nav')).position") == "sticky"
        # a table sorts by number, up and down
        sort = "document.querySelector('[aria-label=Ledger] th:nth-child(1) button').click()"
        first = "document.querySelector('[aria-label=Ledger] tbody th').textContent"
        p.evaluate(sort)
        assert p.evaluate(first) == "covid"
        p.evaluate(sort)
        assert p.evaluate(first) == "decontrast"
        shot = p.send("Page.captureScreenshot")["data"]
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("L"))
    assert (pixels < 100).mean() > 0.005  # text


def test_the_report_fits_a_telephone(study: factory.Study, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    build(ReportSettings(), study=study.settings, root=study.root, inputs=study.inputs, output=output)
    with page(tmp_path / "profile") as p:
        p.send("Emulation.setDeviceMetricsOverride", width=400, height=800, deviceScaleFactor=1, mobile=False)
        p.open(output)
        assert p.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_reader_answers_by_keyboard_and_the_file_is_taken_in(study: factory.Study, tmp_path: Path) -> None:
    settings = ReaderStudy.model_validate(
        {
            "views": {
                "acquired": {"view": "ct", "where": "contrast == 'no'"},
                "synthetic": {"view": "noncontrast", "where": "contrast == 'yes'"},
            },
            "split": "synthesis", "parts": ["test", "external"], "items": 8, "size_px": 64, "pixel_mm": 6,
        }
    )  # fmt: skip
    folder, key = study.root / "readers" / "turing", tmp_path / "key.tsv"
    readers.export(
        "turing", settings, seed=1, manifests={"acquired": study.inputs.views["ct"],
        "synthetic": study.inputs.views["noncontrast"]}, scans=study.inputs.scans,
        split=study.inputs.splits["synthesis"], ledgers=[study.inputs.models["decontrast"].ledger], secret=b"s",
        root=study.root, folder=folder / "app", items=folder / "items.tsv", key=key, manifest=folder / "app.tsv",
    )  # fmt: skip
    items = tables.read(folder / "items.tsv", ITEMS)
    build_id = items["build"].iloc[0]
    order = order_of(build_id, "R-1", items["item"].tolist())
    arms = tables.read(key, KEY).set_index("item")["arm"]
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    with page(tmp_path / "profile", downloads=downloads) as p:
        p.open(folder / "app" / "index.html")
        assert p.evaluate("RS.sha256('abc')") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        p.evaluate("document.getElementById('reader').value = 'R-1'; document.querySelector('#gate button').click()")
        for number, item in enumerate(order, start=1):
            assert p.evaluate("document.getElementById('count').textContent") == f"{number} of 8"
            spread = p.evaluate(
                "(() => { const c = document.getElementById('image'); const d = c.getContext('2d')"
                ".getImageData(0, 0, c.width, c.height).data; return [Math.min(...d), Math.max(...d)]; })()"
            )
            assert spread == [0, 255], "the image is drawn"
            # this reader is right about everything but the first image
            right = arms[item] == "acquired"
            p.press("1" if right != (number == 1) else "2")
        p.until("!document.getElementById('end').hidden")
        receipt = p.evaluate("document.getElementById('receipt').textContent")
        p.evaluate("document.getElementById('saveend').click()")
        for _ in range(50):
            p.listen(0.1)
            if saved := [f for f in downloads.iterdir() if f.suffix == ".json"]:
                break
        # the answers outlive the page: opened again, the study is at its end
        p.open(folder / "app" / "index.html")
        p.evaluate("document.getElementById('reader').value = 'R-1'; document.querySelector('#gate button').click()")
        assert not p.evaluate("document.getElementById('end').hidden")
        outside = [u for u in p.requests() if not u.startswith(("file://", "data:", "blob:"))]
        assert outside == []
        assert p.complaints() == []
    record = json.loads(saved[0].read_text())
    assert record["sha256"][:12] == receipt
    readers.ingest(
        "turing", settings, seed=1, items=folder / "items.tsv", key=key, answers=downloads, root=study.root,
        folder=folder, output=folder / "answers.parquet", rejected=folder / "rejected.tsv",
    )  # fmt: skip
    answers = tables.read(folder / "answers.parquet", ANSWERS)
    assert tables.read(folder / "rejected.tsv", REJECTED).empty
    assert (answers["answer"] == answers["arm"]).sum() == 7
    assert answers.sort_values("position")["item"].tolist() == order
    assert (answers["active_ms"] >= 0).all()
