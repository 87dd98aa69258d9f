"""Feature tables of other tools and of people: shapes, names, units, categories, strangers, duplicates."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from polycentric import ledger, tables
from polycentric.analysis import classify, classify_study
from polycentric.config.classification import ClassificationAnalysis
from polycentric.config.clinical import BinaryOutcome, ClinicalSettings
from polycentric.config.features import FeatureSet, ImportedSet, JoinedSet
from polycentric.errors import UserError
from polycentric.jobs import Log
from polycentric.pseudonyms import identify as real_identify
from polycentric.pseudonyms import patient, pseudonym
from polycentric.radiomics import import_table, join_features
from polycentric.tables.schemas import FEATURES, PATIENTS, SPLIT
from pydantic import TypeAdapter, ValidationError
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler


def identify(kind: str, centre: str, value: str) -> str:
    return kind[0].upper() + hashlib.sha256(f"salt {kind} {centre} {value}".encode()).hexdigest()[:8]


def who(value: str, centre: str = "north") -> str:
    return identify("patient", centre, value)


def settings(**changes) -> ImportedSet:
    base = {"kind": "imported", "table": "t.csv", "centre": "north", "columns": {"patient": "id"}}
    return ImportedSet.model_validate(base | changes)


def take(tmp_path: Path, chosen: ImportedSet, *contents: str | pd.DataFrame, log: Log | None = None, **more):
    """The imported table of files with these contents: text as CSV, frames as XLSX."""
    paths = []
    for number, content in enumerate(contents):
        path = tmp_path / f"file-{number}.{'csv' if isinstance(content, str) else 'xlsx'}"
        if isinstance(content, str):
            path.write_bytes(content.encode(more.pop("encoding", "utf-8")))
        else:
            content.to_excel(path, index=False)
        paths.append(path)
    options = {"files": paths, "identify": identify, "output": tmp_path / "features.parquet"} | more
    import_table("theirs", chosen, **options, **({"log": log} if log else {}))
    return tables.read(options["output"], FEATURES)


def test_a_table_of_another_tool_gets_our_names_and_units(tmp_path):
    # as a spreadsheet in German writes it: semicolons, decimal commas, cp1252
    text = (
        "id;Größe;Volume_mL;LIFEx_GLCM_Contrast;LIFEx_GLCM_Joint_Entropy;Software\n"
        "1;12,5;3,25;0,5;1,75;LIFEx\n"
        "2;-1e-3;k. A.;7;;LIFEx\n"
    )
    chosen = settings(
        decimal=",",
        missing=["", "k. A."],
        drop=["Software"],
        rename={"Volume_mL": "original_shape_MeshVolume", "Größe": "size"},
        patterns=[
            {"match": r"LIFEx_GLCM_Joint_(.+)", "to": r"original_glcm_Joint\1"},
            {"match": r"LIFEx_GLCM_(.+)", "to": r"original_glcm_\1"},
        ],
        factors={"original_shape_*Volume": 1000},
    )
    frame = take(tmp_path, chosen, text, encoding="cp1252").set_index("patient")
    expected = {
        "original_shape_MeshVolume": [3250.0, np.nan],
        "original_glcm_Contrast": [0.5, 7.0],
        "original_glcm_JointEntropy": [1.75, np.nan],
        "size": [12.5, -0.001],
    }
    assert {*frame.columns} - {*FEATURES.columns} == {*expected}
    for name, values in expected.items():
        np.testing.assert_array_equal(frame.loc[[who("1"), who("2")], name].to_numpy(float), values)


def test_numbers_are_the_nearest_floats(tmp_path):
    values = np.random.default_rng(1).normal(size=400) * 10.0 ** np.random.default_rng(2).integers(-12, 12, 400)
    text = "id,f\n" + "".join(f"{k},{v!r}\n" for k, v in enumerate(values.tolist()))
    frame = take(tmp_path, settings(), text).set_index("patient")
    assert frame.loc[[who(str(k)) for k in range(400)], "f"].tolist() == values.tolist()


def test_long_and_wide_tables_give_the_same(tmp_path):
    rng = np.random.default_rng(0)
    wide = pd.DataFrame(rng.normal(size=(6, 3)).round(6), columns=["a", "b", "c"])
    wide.insert(0, "region", ["GTV", "node"] * 3)
    wide.insert(0, "id", ["p1", "p1", "p2", "p2", "p3", "p3"])
    long = wide.melt(["id", "region"], ["a", "b", "c"], "feature", "value").sample(frac=1, random_state=3)
    long["unit"] = "mm"
    gap = long.index[(long["id"] == "p2") & (long["region"] == "GTV") & (long["feature"] == "b")]
    columns = {"columns": {"patient": "id", "roi": "region"}}
    one = take(tmp_path, settings(**columns), wide)
    two = take(tmp_path, settings(**columns, long={"feature": "feature", "value": "value"}), long.drop(gap))
    one.loc[one["patient"].eq(who("p2")) & one["roi"].eq("GTV"), "b"] = np.nan
    pd.testing.assert_frame_equal(one, two)


def test_a_file_for_each_centre_and_rows_that_are_chosen(tmp_path):
    chosen = settings(
        centre=None, table={"south": "b.csv", "north": "a.csv"}, only={"sequence": ["T1"]}, rename={"x1": "x"}
    )
    assert [centre for _, centre in chosen.files] == ["north", "south"]
    frame = take(tmp_path, chosen, "id,sequence,x1,y\n7,T1,1,2\n7,T2,5,6\n", "id,sequence,x\n7,T1,3\n")
    frame = frame.set_index("patient")
    assert frame["x"].to_dict() == {who("7", "north"): 1, who("7", "south"): 3}
    assert frame.loc[who("7", "north"), "y"] == 2
    assert np.isnan(frame.loc[who("7", "south"), "y"])


def test_strangers_are_rows_with_a_code_and_without_values(tmp_path):
    text = "id,x,note\n1,10,a\n002,20,b\n9,30,c\n8,40,d\n"
    stream = io.StringIO()
    chosen = settings(coding={"note": {"type": "categorical"}})
    frame = take(
        tmp_path, chosen, text, log=Log(stream), cohort={who("1"), who("2"), who("5")}, withdrawn=[who("8")]
    ).set_index("patient")
    assert len(frame) == 3
    assert who("8") not in frame.index
    assert frame["status"].to_dict() == {who("1"): "ok", who("002"): "rejected", who("9"): "rejected"}
    assert frame.loc[who("9"), "reason"].startswith("FEATURE_ROW_STRANGER: no patient of the cohort")
    assert frame.loc[who("002"), "reason"].endswith("would match without leading zeros")
    assert frame.loc[frame["status"].ne("ok"), ["x", "note"]].isna().all(axis=None)
    assert '"strangers": 2' in stream.getvalue()
    assert '"without_row", "patients": 2' in stream.getvalue()


def test_no_stranger_is_silent_when_nobody_matches(tmp_path):
    with pytest.raises(UserError, match=r"none of the 2 rows .* without leading zeros would match"):
        take(tmp_path, settings(), "id,x\n01,10\n02,20\n", cohort={who("1"), who("2")})


def test_readers_visits_and_lesions_tell_rows_apart(tmp_path):
    columns = {"patient": "id", "roi": "roi", "lesion": "no", "reader": "by", "visit": "date", "scan": "series"}
    text = (
        "id,roi,no,by,date,series,x\n"
        "1,GTV,1,Zoe,2020-01-01,1.2.3,1\n1,GTV,1,Adam,2020-01-01,1.2.3,2\n"
        "1,GTV,2,Adam,2020-01-01,1.2.3,3\n1,GTV,2,Adam,2021-01-01,1.2.4,4\n"
    )
    frame = take(tmp_path, settings(columns=columns), text).sort_values("x")
    assert frame["status"].eq("ok").all()
    assert frame["roi"].tolist() == ["GTV-1", "GTV-1", "GTV-2", "GTV-2"]
    assert frame["source"].tolist() == ["reader-2", "reader-1", "reader-1", "reader-1"]
    assert frame["scan"].tolist() == [identify("scan", "north", s) for s in ("1.2.3", "1.2.3", "1.2.3", "1.2.4")]
    assert frame["session"].nunique() == 2
    assert not re.search("Zoe|Adam|2020|2021|1\\.2\\.", frame.to_csv())
    without = {k: v for k, v in columns.items() if k in ("patient", "roi")}
    with pytest.raises(UserError) as caught:
        take(tmp_path, settings(columns=without, drop=["no", "by", "date", "series"]), text)
    (message,) = caught.value.messages
    assert "several rows have the same patient ('id'), roi ('roi'): rows 2, 3, 4, 5" in message
    assert "{scan|visit|lesion|reader: <column>}" in message
    assert "duplicates: first" in message
    assert "Zoe" not in message


def test_a_series_gets_the_id_of_that_scan_in_the_cohort():
    salt = b"s" * 32
    # as curation names a series that is one volume, and its study
    assert real_identify(salt, "scan", "a", "1.2") == pseudonym(salt, "scan", "a\x1f1.2\x1f0")
    assert real_identify(salt, "session", "a", "1.9") == pseudonym(salt, "session", "a\x1f1.9")
    assert real_identify(salt, "patient", "a", " 7 ") == patient(salt, "a", "7")


SCORES = pd.DataFrame(
    {
        "id": ["1", "2", "3", "4"],
        "F1 location": ["frontal", "temporal", "", "frontal"],
        "F5 enhancing": ["6-33%", "none", "<5%", "6-33%"],
        "F24 crossing": ["no", "yes", "no", "n/a"],
        "grade": [1, 2, None, 1],
    }
)
CODING = {
    "location": {"type": "categorical", "values": ["temporal", "frontal", "insular"], "reference": "frontal"},
    "F5 enhancing": {"type": "ordinal", "values": ["none", "<5%", "6-33%", "34-67%"]},
    "F24 crossing": {"type": "binary", "values": ["no", "yes"]},
    "grade": {"type": "categorical", "values": [1, 2, 3]},
}


def test_semantic_scores(tmp_path):
    frame = take(tmp_path, settings(rename={"F1 location": "location"}, coding=CODING), SCORES).set_index("patient")
    frame = frame.loc[[who(str(k)) for k in range(1, 5)]]
    order = CODING["F5 enhancing"]["values"]
    expected = OrdinalEncoder(categories=[order]).fit_transform(SCORES[["F5 enhancing"]]).ravel()
    assert frame["F5 enhancing"].tolist() == expected.tolist() == [2, 0, 1, 2]
    assert frame["F24 crossing"].fillna(-1).tolist() == [0, 1, 0, -1]
    assert list(frame["location"].cat.categories) == ["frontal", "temporal", "insular"]
    assert frame["location"].fillna("insular").tolist() == ["frontal", "temporal", "insular", "frontal"]
    assert list(frame["grade"].cat.categories) == ["1", "2", "3"]
    assert frame["grade"].isna().tolist() == [False, False, True, False]


def test_all_problems_come_at_once(tmp_path):
    coding = {
        "location": {"type": "categorical", "values": ["temporal", "insular"]},
        "F5 enhancing": {"type": "ordinal", "values": ["none", "6-33%"]},
        "grades": {"type": "numeric"},
        "grade": {"type": "numeric", "max": 1},
    }
    chosen = settings(rename={"F1 location": "location", "F25": "f"}, coding=coding, factors={"volume": 2})
    with pytest.raises(UserError) as caught:
        take(tmp_path, chosen, SCORES)
    text = "\n".join(caught.value.messages)
    for part in (
        "has 7 problems",
        "rename: there is no column 'F25'",
        "coding: there is no feature 'grades'; did you mean 'grade'?",
        "factors: no feature is called 'volume'",
        "rows 2, 5, feature 'location': none of the values temporal, insular",
        "row 4, feature 'F5 enhancing'",
        "row 3, feature 'grade': above the limit of 1",
        "1 columns hold text, not numbers (F24 crossing): name them under `drop`, or say what they hold under `coding`",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("id,a\n1,2\n", {"patterns": [{"match": "a", "to": "roi"}]}, "names that Polycentric uses itself"),
        ("id,a,b\n1,2,3\n", {"rename": {"a": "b"}}, r"several columns get one name \(b: a, b\)"),
        ("id,a\n1,1.5\n2,\n", {"columns": {"patient": "ID"}}, "has no column 'ID'. Did you mean 'id'"),
        ("id,a\n1,5\n,6\n", {}, "row 3: no patient"),
        ("id;a\n1;1,5\n2;2\n", {}, "row 2, feature 'a': text where a number is needed. Write `decimal: ','`"),
        ("id,a\n1,5\n", {"take": ["b*"]}, "take: no column of file-0.csv matches 'b[*]'"),
        ("id,a\n1,5\n", {"only": {"a": ["6"]}}, "no row of file-0.csv is left"),
        ("id,a\n1,\xe4\n", {"encoding": "ascii"}, "encoding is not ascii"),
        ("id\n1\n", {}, "no column is left as a feature"),
        ("id,n,v\n1,a,2\n1,a,3\n", {"long": {"feature": "n", "value": "v"}}, "row 3: a feature that an earlier row"),
    ],
)
def test_mistakes_are_told(tmp_path, text, changes, message):
    with pytest.raises(UserError, match=message):
        take(tmp_path, settings(**changes), text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"centre": "c"}}, "write one of `centre: <name>`"),
        ({"roi_pattern": "(.+)"}, "looks into a column"),
        ({"patterns": [{"match": "a(", "to": "b"}]}, "no regular expression"),
        ({"patterns": [{"match": "a(.)", "to": r"\2"}]}, "uses group 2"),
        ({"coding": {"a": {"type": "ordinal"}}}, "needs its order"),
        ({"coding": {"a": {"type": "binary", "values": ["x"]}}}, "needs two values"),
        ({"coding": {"a": {"type": "categorical", "values": ["x"], "reference": "y"}}}, "one of the values"),
        ({"coding": {"a": {"type": "categorical", "values": ["x", "x"]}}}, "stand there twice"),
    ],
)
def test_wrong_settings(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("said", "used"),
    [
        (None, []),
        ("nobody", []),
        ("everybody", ["a", "b", "c"]),
        ({"centres": ["south"]}, ["c"]),
        ({"rows": {"phase": ["found"]}}, ["a"]),
        ({"rows": {"phase": ["found"]}, "centres": ["south"]}, ["a", "c"]),
    ],
)
def test_whose_outcomes_chose_the_features_enters_the_ledger(tmp_path, said, used):
    """A mark on any row of a patient counts, also on one that is not taken; strangers and withdrawn ones are nobody."""
    text = (
        "id,centre,part,phase,x\na,north,T1,checked,1\na,north,T2,found,1\nb,north,T1,checked,2\nc,south,T1,,3\n"
        "d,south,T1,found,4\ne,north,T1,found,5\n"
    )
    chosen = ImportedSet.model_validate(
        {"kind": "imported", "table": "t.csv", "columns": {"patient": "id", "centre": "centre"}, "chosen_on": said,
         "only": {"part": ["T1"]}, "drop": [] if isinstance(said, dict) and "rows" in said else ["phase"]}
    )  # fmt: skip
    cohort = {who("a"), who("b"), who("c", "south"), who("e")}
    path = tmp_path / "ledger.json"
    table = take(tmp_path, chosen, text, cohort=cohort, withdrawn=[who("e")], ledger=path)
    assert [c for c in table.columns if c not in FEATURES.columns] == ["x"]
    record = ledger.read(path)
    assert record["seen"]["chosen"] == sorted(who(p, "south" if p == "c" else "north") for p in used)
    assert bool(record.get("unknown")) == (said is None)


def test_a_wrong_mark_is_told(tmp_path):
    with pytest.raises(UserError, match=r"chosen_on.rows: no row of file-0.csv has 'discovery' in column 'phase'"):
        take(tmp_path, settings(chosen_on={"rows": {"phase": ["discovery"]}}), "id,phase,x\na,found,1\n")
    with pytest.raises(UserError, match=r"chosen_on.rows.*'fase'"):
        take(tmp_path, settings(chosen_on={"rows": {"fase": ["found"]}}), "id,phase,x\na,found,1\n")
    with pytest.raises(ValidationError, match="write `nobody`"):
        settings(chosen_on={})
    with pytest.raises(ValidationError, match="have no rows here"):
        settings(chosen_on={"centres": ["south"]})


def test_a_mark_need_not_stand_in_every_file(tmp_path):
    """The file of a centre that only validated has no row of the discovery."""
    chosen = ImportedSet.model_validate(
        {"kind": "imported", "table": {"north": "n.csv", "south": "s.csv"}, "columns": {"patient": "id"},
         "chosen_on": {"rows": {"phase": ["found"]}}}
    )  # fmt: skip
    path = tmp_path / "ledger.json"
    take(tmp_path, chosen, "id,phase,x\na,found,1\nb,checked,2\n", "id,phase,x\nc,checked,3\n", ledger=path)
    assert ledger.read(path)["seen"]["chosen"] == [who("a")]


def test_sets_side_by_side(tmp_path):
    radiomics = take(
        tmp_path, settings(columns={"patient": "id", "roi": "r"}), "id,r,x\n1,a,1\n1,b,3\n2,a,5\n", cohort=None,
        output=tmp_path / "one.parquet",
    )  # fmt: skip
    coding = {"where": {"type": "categorical", "values": ["left", "right"]}, "free": {"type": "categorical"}}
    scores = "id,rd,where,free,n\n1,A,left,u,1\n1,B,right,u,2\n3,A,right,v,\n"
    columns = {"patient": "id", "reader": "rd"}
    take(tmp_path, settings(columns=columns, coding=coding), scores, output=tmp_path / "two.parquet")
    assert len(radiomics) == 3
    for incomplete in ("reject", "keep"):
        chosen = JoinedSet(kind="joined", of=("ct", "vasari"), incomplete=incomplete)
        output = tmp_path / f"{incomplete}.parquet"
        join_features("all", chosen, features=[tmp_path / "one.parquet", tmp_path / "two.parquet"], output=output)
        frame = tables.read(output, FEATURES).set_index("patient").loc[[who("1"), who("2"), who("3")]]
        ok = incomplete == "keep"
        assert frame["status"].tolist() == ["ok", *(["ok"] * 2 if ok else ["missing"] * 2)]
        assert frame["ct: x"].fillna(-1).tolist() == [2, 5, -1]
        assert frame["vasari: n"].fillna(-1).tolist() == [1.5, -1, -1]
        assert frame["vasari: where"].fillna("left").tolist() == ["left", "left", "right"]
        assert frame["vasari: where"].isna().tolist() == [True, True, False]  # the readers of the first disagree
        assert frame["vasari: free"].fillna("").tolist() == ["u", "", "v"]
    with pytest.raises(ValidationError, match="names something twice"):
        JoinedSet(kind="joined", of=("a", "a"))


def test_the_example_of_the_page_is_valid():
    page = (Path(__file__).parents[2] / "docs/tables.md").read_text(encoding="utf-8")
    raw = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.S).group(1))
    assert ClinicalSettings.model_validate(raw["clinical"]).resolved("dead-2y").at_days == 730.5
    sets = TypeAdapter(dict[str, FeatureSet]).validate_python(raw["features"])
    assert [s.kind for s in sets.values()] == ["imported", "imported", "joined"]
    assert ClassificationAnalysis.model_validate(raw["analyses"]["early-death"]).outcome == "dead-2y"


@pytest.mark.realdata
def test_gliomas_from_table_to_classification(realdata, tmp_path):
    root = realdata("glioma_features")
    known = pd.read_csv(root / "outcomes.csv")
    known["centre"] = known["PatientID"].str.extract(r"TCGA-(\w\w)-")[0]
    known["patient"] = [who(p, c) for p, c in zip(known["PatientID"], known["centre"], strict=True)]
    people = known.assign(role="development", scans=0, clinical=True, idh=known["IDH-binary"])
    people.loc[people["centre"].eq("CS"), "role"] = "external"
    tables.write(people[["centre", "patient", "role", "scans", "clinical", "idh"]], tmp_path / "p.tsv", PATIENTS)
    part = np.where(people["centre"].eq("CS"), "external", "training")
    tables.write(people[["centre", "patient"]].assign(part=part, stratum=""), tmp_path / "s.tsv", SPLIT)
    sequences = {"t1": "T1", "t1c": "T1CE", "t2": "T2", "flair": "T2F"}
    for name, file in sequences.items():
        chosen = ImportedSet.model_validate(
            {
                "kind": "imported",
                "table": f"features_{file}.csv",
                "columns": {"patient": "PatientID", "centre": "PatientID"},
                "centre_pattern": r"TCGA-(\w\w)-",
                "patterns": [{"match": r"radVar(\d+)", "to": r"medimage_\1"}],
            }
        )
        path = root / f"features_{file}.csv"
        import_table(name, chosen, files=[path], identify=identify, cohort={*known["patient"]},
                     output=tmp_path / f"{name}.parquet")  # fmt: skip
        frame = tables.read(tmp_path / f"{name}.parquet", FEATURES)
        assert frame["status"].value_counts().to_dict() == {"rejected": 140, "ok": 103}
        assert frame.loc[frame["status"].ne("ok"), "reason"].str.startswith("FEATURE_ROW_STRANGER").all()
    raw = pd.read_csv(root / "features_T2.csv", float_precision="round_trip").set_index("PatientID")
    joined = JoinedSet(kind="joined", of=tuple(sequences))
    join_features("all", joined, features=[tmp_path / f"{n}.parquet" for n in sequences], output=tmp_path / "a.parquet")
    settings = ClassificationAnalysis.model_validate({
        "split": "s", "outcome": "idh", "features": ["all"], "models": ["ridge"], "permutations": 0, "bootstraps": 200,
        "resampling": {"folds": 5, "repeats": 1}, "validation": [{"kind": "leave-centre-out"}],
        "explain": {"permutations": 0, "dependence": 0, "shap": False},
    })  # fmt: skip
    inputs = (settings, 1, {"all": tmp_path / "a.parquet"}, tmp_path / "p.tsv", tmp_path / "s.tsv",
              BinaryOutcome(column="idh", positive=1))  # fmt: skip
    study = classify_study.read("idh", *inputs, None)
    assert study.outcome.sum() == 76
    assert len(study.outcome) == 103
    assert study.counts["parts"]["external"]["patients"] == 16
    table = study.arms["all"].table
    assert table.shape == (103, 4 * 361)
    order = known.set_index("patient").loc[table.index, "PatientID"]
    ours = table[[f"t2: medimage_{k}" for k in range(1, 362)]].to_numpy()
    np.testing.assert_array_equal(ours, raw.loc[order, [f"radVar{k}" for k in range(1, 362)]].to_numpy())
    # one centre left out in turn, against a chain of scikit-learn alone
    _, seed, features, patients, split, outcome = inputs
    metrics = classify.analyse(
        "idh", settings, seed=seed, features=features, patients=patients, split=split, outcome=outcome, ledgers=[],
        root=tmp_path, folder=tmp_path / "idh", settings_json="{}", code="c",
    )  # fmt: skip
    found = metrics["validation"]["leave-centre-out"]
    centre = known.set_index("patient").loc[table.index, "centre"].to_numpy()
    x, y, aucs = np.nan_to_num(table.to_numpy()), study.outcome, {}
    for held in ("DU", "FG", "HT"):
        inside = (centre != held) & (centre != "CS")
        chain = make_pipeline(StandardScaler(), SelectKBest(f_classif, k=10), LogisticRegression(C=0.1))
        p = chain.fit(x[inside], y[inside]).predict_proba(x[centre == held])[:, 1]
        aucs[held] = roc_auc_score(y[centre == held], p)
    assert set(found["centres"]) == set(aucs)
    expected = np.average([*aucs.values()], weights=[(centre == held).sum() for held in aucs])
    assert found["results"]["all"]["ridge"]["auc"]["value"] == pytest.approx(expected, abs=0.08)
