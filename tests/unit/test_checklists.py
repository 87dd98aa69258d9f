"""Checklists: an item is answered only where this study holds the evidence."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest
from polycentric.config.checklists import NAMES, Item, load
from polycentric.config.report import ReportSettings
from polycentric.files import read_json, write_json
from polycentric.report import build, checklists, evidence
from polycentric.report.checklists import AUTHOR, EVIDENCE, NOT, OPEN, PART, Filled, _score
from pydantic import ValidationError
from report_support import factory

SETTINGS = {"gallery": 0, "contact": 0}


@pytest.fixture
def study(tmp_path: Path) -> factory.Study:
    made = factory.make(tmp_path / "results")
    made.settings["features"] = {"mixed": {"kind": "radiomics", "view": "ct", "masks": "manual"}}
    made.settings["analyses"]["covid"] |= {"features": ["mixed"], "models": ["lasso"]}
    return made


def filled(study: factory.Study, out: Path, answers: dict | None = None, **settings: object) -> dict[str, pd.DataFrame]:
    own = ReportSettings.model_validate({**SETTINGS, **settings, "checklists": answers or {}})
    build(own, study=study.settings, root=study.root, inputs=study.inputs, output=out / "r.html", checklists_out=out)
    return {n: pd.read_csv(out / f"{n}.csv", dtype=str, keep_default_na=False).set_index("item") for n in NAMES}


# numbers of items as published, sub-items counted
@pytest.mark.parametrize(
    ("name", "items", "first", "last"),
    [("claim", 44, "1", "44"), ("tripod-ai", 52, "1", "27c"), ("stard-ai", 48, "1", "40b"), ("clear", 58, "1", "58"),
     ("metrics", 30, "1", "30")],
)  # fmt: skip
def test_lists_have_all_items_of_their_source(name: str, items: int, first: str, last: str) -> None:
    own = load(name)
    assert len(own.items) == own.count == items
    assert (own.items[0].id, own.items[-1].id) == (first, last)
    assert "doi:10." in own.source
    numbers = [int(re.match(r"\d+", item.id)[0]) for item in own.items]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, numbers[-1] + 1))


def test_weights_of_metrics_are_those_of_its_table() -> None:
    """Sums of the nine categories as published (Kocak et al. 2024), and of all."""
    sums: dict[str, float] = {}
    for item in load("metrics").items:
        sums[item.section] = sums.get(item.section, 0) + item.weight
    assert [round(v, 4) for v in sums.values()] == [
        0.2022, 0.146, 0.0674, 0.1348, 0.09, 0.0899, 0.1348, 0.1124, 0.0225,
    ]  # fmt: skip
    assert sum(sums.values()) == pytest.approx(1)


def test_every_name_of_evidence_is_known_and_used() -> None:
    used = set()
    for name in NAMES:
        own = load(name)
        used |= set(own.applies.to)
        for item in own.items:
            used |= {n for group in item.evidence for n in ((group,) if isinstance(group, str) else group)}
            used |= {n for n in (item.with_, item.without) if n}
    assert used == set(evidence.FINDERS)


def test_an_item_without_its_evidence_is_open(study: factory.Study, tmp_path: Path) -> None:
    before = filled(study, tmp_path / "a")
    assert before["metrics"].loc["22", "status"] == EVIDENCE
    assert "result-covid" in before["metrics"].loc["22", "report"]
    manifest = study.inputs.analyses["covid"].manifest
    kept = [line for line in manifest.read_text().splitlines(keepends=True) if "calibration" not in line]
    manifest.write_text("".join(kept))
    after = filled(study, tmp_path / "b")
    assert after["metrics"].loc["22", "status"] == OPEN
    assert "no calibration in this study" in after["metrics"].loc["22", "answer"]
    differ = before["metrics"]["status"] != after["metrics"]["status"]
    assert list(differ[differ].index) == ["22"]


def test_internal_and_external_testing_need_results_there(study: factory.Study, tmp_path: Path) -> None:
    path = study.inputs.analyses["covid"].metrics
    metrics = read_json(path)
    assert list(filled(study, tmp_path / "a")["metrics"].loc[["26", "27"], "status"]) == [EVIDENCE, EVIDENCE]
    del metrics["estimates"]["mixed"]["lasso"]["external"]
    write_json(path, metrics)
    assert list(filled(study, tmp_path / "b")["metrics"].loc[["26", "27"], "status"]) == [EVIDENCE, OPEN]
    metrics["estimates"]["mixed"]["lasso"] = {"training": metrics["estimates"]["mixed"]["lasso"]["test"]}
    write_json(path, metrics)
    assert list(filled(study, tmp_path / "c")["metrics"].loc[["26", "27"], "status"]) == [OPEN, OPEN]


def test_a_leak_takes_the_evidence_away(study: factory.Study, tmp_path: Path) -> None:
    from polycentric import ledger, tables
    from polycentric.tables import schemas

    assert filled(study, tmp_path / "a")["metrics"].loc["18", "status"] == EVIDENCE
    everyone = tables.read(study.inputs.splits["synthesis"], schemas.SPLIT)["patient"].tolist()
    ledger.write(
        study.inputs.models["decontrast"].ledger, name="decontrast", stage="synthesis", split="synthesis",
        seen={"training": everyone}, settings="", code="",
    )  # fmt: skip
    assert filled(study, tmp_path / "b")["metrics"].loc["18", "status"] == PART


def test_a_patient_in_two_parts_takes_the_evidence_away(study: factory.Study, tmp_path: Path) -> None:
    from polycentric import tables
    from polycentric.tables import schemas

    path = study.inputs.splits["synthesis"]
    split = tables.read(path, schemas.SPLIT)
    assert filled(study, tmp_path / "a")["claim"].loc["20", "status"] == EVIDENCE
    study.inputs.splits["synthesis"].write_text(path.read_text())
    results = _results(study)
    twice = pd.concat([split, split.head(1).assign(part="test")])
    assert evidence.find("patients-apart", results)
    assert not evidence.find("patients-apart", dataclasses.replace(results, splits={"synthesis": twice}))


def _results(study: factory.Study) -> evidence.Results:
    from polycentric import tables
    from polycentric.report import licences
    from polycentric.tables import schemas

    inputs = study.inputs
    return evidence.Results(
        study=study.settings, root=study.root, inputs=inputs, recipes={},
        curation=tables.read(inputs.curation, schemas.CURATION), scans=study.scans,
        patients=tables.read(inputs.patients, schemas.PATIENTS), flow=tables.read(inputs.flow, schemas.FLOW),
        splits={n: tables.read(p, schemas.SPLIT) for n, p in inputs.splits.items()}, analyses=[], readers=[], audit=[],
        licences=licences.licences(study.settings), provenance=read_json(inputs.provenance), places=frozenset(),
    )  # fmt: skip


def test_a_file_that_is_not_there_is_no_evidence(study: factory.Study) -> None:
    results = _results(study)
    assert evidence.find("flow", results)
    (study.root / "cohort" / "flow.tsv").unlink()
    assert not evidence.find("flow", results)
    assert not evidence.find("kept-models", results), "the fixture has no weights"


def test_what_applies_follows_from_the_study(study: factory.Study, tmp_path: Path) -> None:
    first = filled(study, tmp_path / "a")
    assert set(first["clear"]["status"]) == {NOT}, "the table of features is not there"
    assert first["clear"]["answer"].iloc[0] == "the study extracts no features"
    assert first["stard-ai"].loc["31", "status"] != NOT
    # of simulated patients nobody's approval is asked
    assert first["tripod-ai"].loc["17", "status"] == NOT
    study.settings["centres"] = {c: {"images": "/x", "role": r} for c, r in factory.CENTRES.items()}
    assert filled(study, tmp_path / "b")["tripod-ai"].loc["17", "status"] == OPEN
    only = {n: f for n, f in study.inputs.analyses.items() if n != "covid"}
    without = dataclasses.replace(study, inputs=dataclasses.replace(study.inputs, analyses=only))
    assert set(filled(without, tmp_path / "c")["stard-ai"]["status"]) == {NOT}


def test_authors_answer_what_the_software_cannot_know(study: factory.Study, tmp_path: Path) -> None:
    answers = {
        "claim": {44: "No funding.", "31": "not applicable: linear models"},
        "tripod-ai": {"27c": "Centres."},
    }
    rows = filled(study, tmp_path, answers)
    assert tuple(rows["claim"].loc["44", ["status", "answer"]]) == (AUTHOR, "No funding.")
    assert tuple(rows["claim"].loc["31", ["status", "answer"]]) == (NOT, "linear models")
    assert rows["tripod-ai"].loc["27c", "status"] == AUTHOR
    assert rows["claim"].loc["3", "status"] == OPEN
    assert "report.checklists.claim.3" in rows["claim"].loc["3", "answer"]
    page = (tmp_path / "r.html").read_text()
    assert "No funding." in page


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"claim": {"45": "x"}}, "no item '45'"),
        ({"metrics": {"3": "fine"}}, "begin with yes or no"),
        ({"metrics": {"3": "Noted in the protocol."}}, "begin with yes or no"),
        ({"claim": {"3": "not applicable:"}}, "say why"),
        ({"stard": {"3": "x"}}, "stard"),
    ],
)
def test_wrong_answers_are_refused(answers: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        ReportSettings.model_validate({"checklists": answers})


def test_links_lead_to_places_of_the_page(study: factory.Study, tmp_path: Path) -> None:
    for name, chapters in (("all", None), ("few", ("checklists", "participants", "summary"))):
        rows = filled(study, tmp_path / name, **({"chapters": chapters} if chapters else {}))
        page = (tmp_path / name / "r.html").read_text()
        ids = set(re.findall(r'id="([^"]+)"', page))
        assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
        places = {p for own in rows.values() for cell in own["report"] for p in cell.split("; ") if p}
        assert len(places) > 2 or chapters
        assert {p.removeprefix("report.html#") for p in places} <= ids
        files = {f for own in rows.values() for cell in own["files"] for f in cell.split("; ") if f}
        assert files
        assert all((study.root / file).is_file() for file in files)


def item(status: str, weight: float, said: str = "") -> Filled:
    return Filled("1", "", "", status, said, (), weight)


def test_the_score_is_an_interval_until_all_is_answered() -> None:
    items = (item(EVIDENCE, 0.3), item(AUTHOR, 0.2, "Yes: read twice."), item(AUTHOR, 0.1, "no"), item(OPEN, 0.2),
             item(PART, 0.1), item(NOT, 0.1, "no network"))  # fmt: skip
    assert _score(items) == pytest.approx((100 * 0.5 / 0.9, 100 * 0.8 / 0.9))
    assert _score(items[:3]) == pytest.approx((100 * 0.5 / 0.6,) * 2)
    assert _score((dataclasses.replace(items[0], weight=None),)) is None


def test_all_of_the_evidence_is_needed_and_one_of_a_list() -> None:
    there = {"a": (evidence.Found("a"),), "b": (), "c": (evidence.Found("c"),)}

    def status(**item: object) -> str:
        own = Item.model_validate({"id": "1", "section": "s", "topic": "t", **item})
        return checklists._item(own, "", "", lambda name: there[name], "claim").status

    assert status(evidence=["a", "c"]) == EVIDENCE
    assert status(evidence=["a", "b"]) == PART
    assert status(evidence=["b"]) == OPEN
    assert status(evidence=[["a", "b"]]) == EVIDENCE
    assert status(evidence=["a"], left="why") == PART
    assert status() == OPEN
    assert status(evidence=["a"], **{"with": "b", "otherwise": "no b"}) == NOT
    assert status(evidence=["a"], without="a", otherwise="there is a") == NOT


@pytest.mark.parametrize(
    ("judged", "by_centre", "by_group"),
    [
        ({"centre: north": 0.7, "centre: east": 0.6, "sex: f": 0.7, "sex: m": 0.8}, True, True),
        # a group without an estimate was not judged
        ({"centre: north": 0.7, "centre: east": None, "sex: f": 0.7, "sex: m": None}, False, False),
        ({"centre: north": 0.7}, False, False),
    ],
)
def test_groups_count_where_they_have_estimates(
    study: factory.Study, judged: dict[str, float | None], by_centre: bool, by_group: bool
) -> None:
    from polycentric.report import results
    from polycentric.report.results import Table

    groups = {label: {"value": v, "lower": v, "upper": v, "n": 20} for label, v in judged.items()}
    metrics = {"results": {"mixed": {"lasso": {"subgroups": {"test": {"auc": {"groups": groups}}}}}}}
    study.settings["analyses"]["covid"]["subgroups"] = {"sex": []}
    table = {"name": "subgroups.csv", "file": "cohort/flow.tsv", "table": Table(["group"], [["x"]])}
    entry = {"name": "covid", "kind": "classification", "title": "Covid", "figures": [], "tables": [table],
             "estimates": results.estimates(metrics)}  # fmt: skip
    made = dataclasses.replace(_results(study), analyses=[entry])
    assert bool(evidence.find("centre-performance", made)) == by_centre
    assert bool(evidence.find("subgroups", made)) == by_group


def test_no_leak_is_claimed_where_it_is_not_known_who_was_seen(study: factory.Study) -> None:
    from polycentric.report.leaks import Entry

    known = Entry("a", "synthesis", "synthesis", {"training": 3}, [], 5, {})
    results = dataclasses.replace(_results(study), audit=[known])
    assert evidence.find("ledger", results)
    silent = dataclasses.replace(known, name="b", seen={"elsewhere": 0}, unknown="which patients its weights have seen")
    assert not evidence.find("ledger", dataclasses.replace(results, audit=[known, silent]))


def test_imported_weights_have_no_training_curve(study: factory.Study) -> None:
    results = _results(study)
    (name,) = [n for n, files in study.inputs.models.items() if files.history is not None]
    path = study.inputs.models[name].history
    assert evidence.find("history", results)
    path.write_text("iteration\n")  # as `adopt` writes it
    assert not evidence.find("history", results)


def _entry(name: str, kind: str, *path: str) -> dict:
    from polycentric.report import results

    own: dict = {"value": 0.7, "lower": 0.6, "upper": 0.8, "n": 20}
    for key in reversed(path):
        own = {key: own}
    return {"name": name, "kind": kind, "title": name, "question": "", "figures": [], "tables": [], "scalars": [],
            "estimates": results.estimates({"estimates": own})}  # fmt: skip


def test_a_selected_set_beside_a_whole_one_does_not_remove_unstable_features(study: factory.Study) -> None:
    study.settings["features"] |= {"stable": {"kind": "selected", "of": "mixed"}}
    made = dataclasses.replace(_results(study), analyses=[_entry("covid", "classification", "auc")])
    for features, found in ((["stable"], True), (["mixed", "stable"], False), (["mixed"], False)):
        study.settings["analyses"]["covid"]["features"] = features
        assert bool(evidence.find("stable-features", made)) == found


def test_images_of_external_patients_alone_are_no_internal_test(study: factory.Study) -> None:
    made = dataclasses.replace(_results(study), analyses=[_entry("images", "synthesis-fidelity", "mean_hu")])
    for parts, found in ((["test", "external"], True), (["external"], False)):
        study.settings["analyses"]["images"] = {"kind": "synthesis-fidelity", "parts": parts}
        assert bool(evidence.find("internal-test", made)) == found
