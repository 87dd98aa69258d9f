"""The report: numbers that add up, no identity, no outside address, equal bytes, leaks shown, words escaped."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from polycentric import ledger, tables
from polycentric.config.report import ReportSettings
from polycentric.errors import UserError
from polycentric.files import read_json
from polycentric.report import ReaderFiles, build, flow, leaks, provenance, results, writing
from polycentric.report.inputs import ModelFiles
from polycentric.tables import schemas
from pydantic import ValidationError
from report_support import factory


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.skip = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.skip = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self.skip = False

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> factory.Study:
    return factory.make(tmp_path_factory.mktemp("report") / "results")


def make(study: factory.Study, output: Path, settings: ReportSettings | None = None, **more: Any) -> str:
    inputs = dataclasses.replace(study.inputs, **more)
    build(settings or ReportSettings(), study=study.settings, root=study.root, inputs=inputs, output=output)
    return output.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(study: factory.Study, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(study, tmp_path_factory.mktemp("page") / "report.html", ReportSettings(authors=("A. & B.",)))


def test_equal_inputs_give_equal_bytes(study: factory.Study, page: str, tmp_path: Path) -> None:
    assert make(study, tmp_path / "again.html", ReportSettings(authors=("A. & B.",))) == page


def test_nothing_is_fetched_from_outside(page: str) -> None:
    reader = Reader(page)
    for tag, attributes in reader.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action", "xlink:href"):
            value = attributes.get(name)
            if value is not None and not (tag == "a" and value.startswith("https://doi.org/")):
                assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert "@import" not in page
    assert "url(" not in page
    policy = next(a["content"] for t, a in reader.tags if t == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert len(page.encode()) < 10_000_000


def test_the_page_is_accessible_in_its_bones(page: str) -> None:
    tags = Reader(page).tags
    names = [t for t, _ in tags]
    assert names.count("h1") == names.count("main") == names.count("nav") == 1
    assert all(len(a["alt"] or "") > 10 for t, a in tags if t == "img" and a.get("src") != "data:,")
    assert next(a["lang"] for t, a in tags if t == "html") == "en"
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for t, a in tags if t == "a" and (a.get("href") or "").startswith("#")}
    assert targets <= set(ids)


def test_numbers_and_words_of_the_study_are_there(page: str) -> None:
    text = Reader(page).text
    for expected in (
        "Simulated data. All centres", "24 candidate scans of 24 patients", "6 were excluded",
        "mixed · lasso · test · auc", "0.740", "0.620 to 0.860", "< 0.001", "64 (58 to 71)", "GEOM_MISSING_SLICE",
        "views noncontrast", "OutOfMemory", "No model, nor any model upstream of it, has seen", "Seed 7",
        "no-such-package",
        "Not for diagnosis", "Kaplan-Meier", "The test part of split 'synthesis' has 6 patients", "A. & B.",
        "Ties are many.", "share of comparable pairs",
    ):  # fmt: skip
        assert expected in text, expected


def test_words_of_others_are_escaped(page: str) -> None:
    assert "The test part has 6 patients; &lt;b&gt;intervals&lt;/b&gt; are wide." in page
    assert "<b>intervals</b>" not in page
    assert "<curve>" not in page


def test_no_private_path_and_no_machine(study: factory.Study, page: str, tmp_path: Path) -> None:
    real = dataclasses.replace(study, settings={**study.settings, "centres": {"north": {"images": "/data/secret/n"}}})
    text = make(real, tmp_path / "report.html")
    assert "/data/secret" not in text
    assert "kept private" in text
    assert "Simulated data." not in text
    for word in (str(study.root), "/tmp/", "/root", "/home"):
        assert word not in re.sub(r"data:[^\"]*", "", text)


def test_numbers_behind_figures_can_be_downloaded(study: factory.Study, page: str) -> None:
    wanted = (study.root / "analyses" / "covid" / "tables" / "roc.csv").read_bytes()
    links = [a for t, a in Reader(page).tags if t == "a" and a.get("download") == "roc.csv"]
    assert len(links) == 1
    assert base64.b64decode(links[0]["href"].split(",")[1]) == wanted


def test_a_changed_figure_is_refused(tmp_path: Path) -> None:
    study = factory.make(tmp_path / "results")
    figure = study.root / "analyses" / "survival" / "figures" / "summary.svg"
    figure.write_text(figure.read_text() + "\n")
    with pytest.raises(UserError, match=r"survival/figures/summary.svg.*changed"):
        make(study, tmp_path / "report.html")


def test_a_model_that_saw_test_patients_is_named(study: factory.Study, tmp_path: Path) -> None:
    split = tables.read(study.inputs.splits["synthesis"], schemas.SPLIT)
    everyone = split["patient"].tolist()
    path = tmp_path / "ledger.json"
    ledger.write(
        path, name="leaky", stage="synthesis", split="synthesis", seen={"training": everyone}, settings="", code=""
    )
    entries = leaks.audit({"leaky": path}, {"synthesis": split})
    assert entries[0].overlaps == {"leaky": 12}
    model = dataclasses.replace(study.inputs.models["decontrast"], ledger=path)
    text = Reader(make(study, tmp_path / "report.html", models={"leaky": model})).text
    assert "leaky: leaky has seen 12 of the 12 patients held out" in text
    assert "No model, nor any model upstream" not in text


def test_a_leak_upstream_counts_though_the_model_itself_is_clean(tmp_path: Path) -> None:
    split = pd.DataFrame({"patient": ["a", "b", "c"], "part": ["training", "test", "external"]})
    up, down = tmp_path / "up.json", tmp_path / "down.json"
    common = {"split": "s", "settings": "", "code": ""}
    ledger.write(up, name="up", stage="synthesis", seen={"training": ["a", "c"]}, **common)
    ledger.write(down, name="down", stage="analysis", seen={"training": ["a"]}, upstream=[up], **common)
    entry = leaks.audit({"down": down}, {"s": split})[0]
    assert entry.overlaps == {"up": 1}
    assert entry.upstream == ["up"]


def test_what_is_not_known_of_a_ledger_is_said(study: factory.Study, tmp_path: Path) -> None:
    common = {"split": "", "settings": "", "code": "", "stage": ledger.CHOSEN, "seen": {"chosen": []}}
    paths = {name: tmp_path / f"{name}.json" for name in ("silent", "told")}
    ledger.write(paths["silent"], name="silent", unknown="whose outcomes were used to choose its features", **common)
    ledger.write(paths["told"], name="told", **common)
    models = study.inputs.models | {name: ModelFiles(path) for name, path in paths.items()}
    text = Reader(make(study, tmp_path / "report.html", models=models)).text
    assert "silent: it is not known whose outcomes were used to choose its features" in text
    assert "told: it is not known" not in text
    assert [e.name for e in leaks.audit(paths, {})] == ["silent"]


def test_what_only_evaluates_still_shows_the_models_behind_it(tmp_path: Path) -> None:
    split = pd.DataFrame({"patient": ["a", "b"], "part": ["training", "test"]})
    up, only, described = (tmp_path / f"{n}.json" for n in ("up", "only", "described"))
    common = {"split": "s", "settings": "", "code": ""}
    ledger.write(up, name="up", stage="synthesis", seen={"training": ["a", "b"]}, **common)
    ledger.write(only, name="only", stage="fidelity", seen={}, upstream=[up], **common)
    ledger.write(described, name="described", stage="cohort", seen={}, **common)
    entries = leaks.audit({"only": only, "described": described}, {"s": split})
    assert [(e.name, e.overlaps) for e in entries] == [("only", {"up": 1})]


def steps(**changes: int) -> pd.DataFrame:
    counts = {"files": 100, "candidates": 10, "A": 2, "B": 1, "accepted": 7} | changes
    rows = [
        (1, "files", "", counts["files"]), (2, "candidates", "", counts["candidates"]),
        (3, "excluded", "A", counts["A"]), (3, "excluded", "B", counts["B"]), (4, "accepted", "", counts["accepted"]),
    ]  # fmt: skip
    return pd.DataFrame(
        [{"centre": "x", "step": s, "box": b, "code": c, "patients": n, "scans": n} for s, b, c, n in rows]
    )


def test_the_flow_adds_up_or_says_so() -> None:
    assert flow.check(steps()) == []
    assert flow.check(steps(accepted=8)) == ["x: 10 candidates less 3 excluded are not 8 accepted."]


def test_the_flow_shows_every_number_once_per_centre_and_summed() -> None:
    both = pd.concat([steps(), steps(A=0, B=3).assign(centre="y")])
    svg = flow.draw(both, {"x": "development", "y": "external"})
    words = [e.text for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("y (external)") == 1
    assert words.count("14 scans · 14 patients") == 1  # the sum
    assert words.count("7 scans · 7 patients") == 2
    sums = [words[k + 1] for k, w in enumerate(words) if w in ("A", "B")]
    assert sums == ["2", "4", "2", "1", "3"]  # all: A, B; x: A, B; y has no A


def test_files_and_patients_beside_the_way_are_no_steps_of_it() -> None:
    """100 files become 10 candidates: no sum; patients without scans stand beside and count as patients."""
    more = [
        (1, "files", "", 100, 9),
        (2, "files skipped", "C", 4, 0),
        (4, "patients without an accepted scan", "", 0, 3),
    ]
    rows = [{"centre": "x", "step": s, "box": b, "code": c, "patients": p, "scans": n} for s, b, c, n, p in more]
    table = pd.concat([steps().query("step > 1").assign(step=lambda f: f["step"] + 1), pd.DataFrame(rows)])
    table.loc[table["box"] == "patients without an accepted scan", "step"] = 9
    assert flow.check(table) == []
    chain = flow.boxes(table)
    assert [b.name for b in chain if not b.aside] == ["files", "candidates", "accepted"]
    words = [e.text for e in ET.fromstring(flow.draw(table, {})).iter("{http://www.w3.org/2000/svg}text")]
    assert words[-3:] == ["patients without an", "accepted scan", "3"]


def test_twelve_centres_are_wrapped() -> None:
    many = pd.concat([steps().assign(centre=f"c{k:02d}") for k in range(12)])
    box = ET.fromstring(flow.draw(many, {})).get("viewBox").split()
    assert float(box[2]) < 1000
    assert flow.boxes(many)[1].scans == 120


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7412, "0.741"), (0.5, "0.500"), (0, "0"), (0.0, "0.00"), (-3.14159, "−3.14"), (12345.6, "12346"),
        (1234, "1\u202f234"), (0.00123, "0.0012"), (0.000012, "1.20 × 10⁻⁵"), (float("nan"), "–"), (None, "–"),
        (123.456, "123"), (99.96, "100.0"), (True, "yes"),
    ],
)  # fmt: skip
def test_numbers_for_people(value: Any, text: str) -> None:
    assert results.number(value) == text


def test_estimates_are_found_wherever_they_lie() -> None:
    e = {"value": 1.0, "lower": 0.5, "upper": 2.0, "n": 3}
    metrics = {
        "schema_version": 1, "results": {"a": {"parts": {"external": {"auc": e}, "test": {"auc": e}}}},
        "comparisons": [{"name": "a against b", "difference": e}], "cohort": {"patients": 4}, "curve": [1, 2, 3],
    }  # fmt: skip
    assert [x.what for x in results.estimates(metrics)] == [
        "a · test · auc",
        "a · external · auc",
        "comparisons · a against b · difference",
    ]
    assert results.scalars(metrics) == [("comparisons · a against b · name", "a against b"), ("cohort · patients", 4)]


def test_the_summary_speaks_of_patients_that_fitted_nothing() -> None:
    e = {"value": 0.9, "lower": 0.8, "upper": 1.0, "n": 3}
    found = results.estimates({"results": {"training": {"auc": e}, "test": {"auc": {**e, "value": 0.6}}}})
    assert [x.value for x in writing._first(found)] == [0.6]


def test_settings_without_what_is_private() -> None:
    study = {
        "centres": {"n": {"images": "data/n"}}, "withdraw": ["Jane"], "x": ["/abs/path", "C:\\scans", "fine"],
        "clinical": {"table": "c.csv", "outcomes": {"o": {"type": "binary"}}}, "seed": 3, "none": None, "flag": True,
    }  # fmt: skip
    text = writing.settings_text(writing.without_paths(study))
    assert not re.search(r"Jane|data/n|abs|scans|c\.csv", text)
    assert "seed: 3" in text
    assert "type: binary" in text
    assert "flag: true" in text
    assert "none" not in text


def test_settings_read_back_as_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    data = {
        "a": {"b": [1, 2.5, "x y"], "c": "contrast == 'yes'", "d": {"e": [{"f": 1, "g": [True]}]}},
        "h": "007", "on": "yes", "long": ["word"] * 60, "colon": "a: b",
    }  # fmt: skip
    assert yaml.safe_load(writing.settings_text(data)) == data


def test_provenance_names_no_machine(study: factory.Study) -> None:
    import getpass
    import platform

    record = read_json(study.inputs.provenance)
    text = json.dumps(record)
    assert str(study.root) not in text
    assert platform.node() not in text
    assert not re.search(rf'"{re.escape(getpass.getuser())}"', text)
    assert record["packages"]["no-such-package"] is None
    assert record["packages"]["pandas"] == pd.__version__
    assert "volumes/all.tsv" in record["manifests"]


def test_provenance_is_the_same_for_any_order(study: factory.Study, tmp_path: Path) -> None:
    paths = [study.inputs.curation, study.inputs.flow]
    for name, order in (("a", paths), ("b", paths[::-1])):
        provenance(
            tmp_path / name,
            study={"study": "s"},
            code={},
            packages=["pandas", "numpy"],
            manifests=order,
            root=study.root,
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_study_with_nothing_but_a_cohort_has_a_report(study: factory.Study, tmp_path: Path) -> None:
    text = Reader(
        make(
            study, tmp_path / "r.html", ReportSettings(gallery=0), models={}, analyses={}, splits={}, views={}, masks={}
        )
    ).text
    assert "The study has no analyses." in text
    assert "Nothing was fitted." in text
    assert "Training" not in text


def test_chapters_come_in_the_order_asked_for(study: factory.Study, tmp_path: Path) -> None:
    page = make(study, tmp_path / "r.html", ReportSettings(chapters=("limits", "summary"), gallery=0))
    ids = [a["id"] for t, a in Reader(page).tags if t == "section" and "id" in a]
    assert ids == ["limits", "summary"]
    with pytest.raises(ValidationError, match="name each once"):
        ReportSettings(chapters=("limits", "limits"))


def test_a_reader_study_without_answers_is_shown_as_waiting(study: factory.Study, tmp_path: Path) -> None:
    folder = study.root / "readers" / "empty"
    folder.mkdir(parents=True)
    metrics = {"schema_version": 1, "status": "waiting: 0 of 3 readers", "estimates": {}, "warnings": []}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    tables.write([], folder / "manifest.tsv", schemas.ARTEFACTS)
    files = ReaderFiles(folder / "metrics.json", folder / "manifest.tsv")
    text = Reader(make(study, tmp_path / "r.html", ReportSettings(gallery=0), readers={"empty": files})).text
    assert "waiting: 0 of 3 readers" in text
