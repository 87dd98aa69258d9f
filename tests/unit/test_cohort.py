"""Cohort: pseudonyms, the clinical table and its problems, participant flow, shards."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import tiny_dicom
from polycentric import tables
from polycentric.cohort import CentreFacts, assemble, read_clinical
from polycentric.config.clinical import ClinicalSettings
from polycentric.config.curation import CurationSettings, Limits
from polycentric.curation import curate
from polycentric.errors import UserError
from polycentric.index import build
from polycentric.jobs import Log
from polycentric.pseudonyms import patient, pseudonym, salt
from polycentric.shards import shard_of
from polycentric.tables.private import FILES, PSEUDONYMS
from polycentric.tables.schemas import ACCEPTED, CURATION, FLOW, PATIENTS, SHARD
from pydantic import ValidationError

LOG = Log()
SALT = b"s" * 32

# ----------------------------------------------------------------------------------------------------------- pseudonyms


def test_pseudonyms_are_keyed_and_scoped_by_kind_and_centre() -> None:
    one = pseudonym(SALT, "patient", "4711")
    assert one == pseudonym(SALT, "patient", "4711")
    assert one.startswith("P-")
    assert len(one) == 12
    others = [pseudonym(b"t" * 32, "patient", "4711"), pseudonym(SALT, "patient", "4712")]
    others += [patient(SALT, "north", "4711"), patient(SALT, "south", "4711")]
    others += ["P" + pseudonym(SALT, "scan", "4711")[1:]]
    assert len({one, *others}) == 6
    assert patient(SALT, "north", " 4711 ") == patient(SALT, "north", "4711")
    # RFC 4231, test case 2 shows the construction: HMAC-SHA256 of key and text
    import base64
    import hashlib
    import hmac

    digest = hmac.new(SALT, b"patient\x1f4711", hashlib.sha256).digest()
    assert one == "P-" + base64.b32encode(digest).decode()[:10]


def test_salt_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "private" / "salt"
    first = salt(path)
    assert len(first) == 32
    assert salt(path) == salt(path, seed=5) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert salt(tmp_path / "other") != first
    assert salt(tmp_path / "a", seed=5) == salt(tmp_path / "b", seed=5) != salt(tmp_path / "c", seed=6)
    path.write_text("not a key")
    with pytest.raises(UserError, match="does not hold a key"):
        salt(path)


# ------------------------------------------------------------------------------------------------------- clinical table

SETTINGS = {
    "patient": "id",
    "columns": {
        "age": {"type": "numeric", "unit": "years", "min": 18, "max": 110},
        "sex": {"type": "categorical", "values": ["F", "M"]},
        "stage": {"type": "categorical", "column": "Stage (UICC)"},
    },
    "outcomes": {
        "covid": {"type": "binary", "column": "diagnosis", "positive": "covid"},
        "survival": {"type": "time-to-event", "time": "days", "event": "dead"},
    },
}
HEADER = "id,centre,age,sex,Stage (UICC),diagnosis,days,dead,name"
GOOD = ["A1,north,50,F,II,covid,100,1,Anna Doe", "A2,north,61.5,M,NA,other,20.5,0,Bert Doe", "B1,south,,F,IV,covid,,,C"]


def table(
    folder: Path, rows: list[str], header: str = HEADER, name: str = "clinical.csv", encoding: str = "utf-8"
) -> Path:
    path = folder / name
    path.write_bytes("\n".join([header, *rows, ""]).encode(encoding))
    return path


def test_clinical_table_is_typed_and_only_declared_columns_leave_it(tmp_path: Path) -> None:
    frame = read_clinical(table(tmp_path, GOOD), ClinicalSettings(**SETTINGS), centres=["north", "south"])
    assert list(frame.columns) == ["patient_id", "centre", "age", "sex", "stage", "diagnosis", "days", "dead"]
    assert frame["age"].tolist()[:2] == [50, 61.5]
    assert frame.isna().sum().to_dict() | {"age": 1, "stage": 1, "days": 1, "dead": 1} == frame.isna().sum().to_dict()
    assert frame.index.tolist() == [2, 3, 4]


@pytest.mark.parametrize("kind", ["semicolon", "tab", "bom", "latin", "xlsx"])
def test_spellings_of_a_table_give_the_same(tmp_path: Path, kind: str) -> None:
    expected = read_clinical(table(tmp_path, GOOD), ClinicalSettings(**SETTINGS))
    lines = [HEADER, *GOOD]
    if kind == "semicolon":
        path = table(tmp_path, [r.replace(",", ";") for r in GOOD], HEADER.replace(",", ";"), "a.csv")
    elif kind == "tab":
        path = table(tmp_path, [r.replace(",", "\t") for r in GOOD], HEADER.replace(",", "\t"), "a.tsv")
    elif kind == "bom":
        path = table(tmp_path, GOOD, encoding="utf-8-sig", name="a.csv")
    elif kind == "latin":
        path = table(tmp_path, [r.replace("Anna", "Ännä") for r in GOOD], encoding="cp1252", name="a.csv")
    else:
        cells = [[_number(c) for c in line.split(",")] for line in lines]
        path = tmp_path / "a.xlsx"
        pd.DataFrame(cells[1:], columns=cells[0]).to_excel(path, index=False)
    pd.testing.assert_frame_equal(read_clinical(path, ClinicalSettings(**SETTINGS)), expected)


def _number(text: str) -> object:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return text or None


def test_all_problems_come_at_once_with_row_and_column_and_without_identifiers(tmp_path: Path) -> None:
    rows = [
        "SECRET1,north,17,F,I,covid,100,1,Anna",
        "SECRET2,north,999,f,I,other,-5,0,Bert",
        "SECRET2,north,50,M,I,other,10,maybe,Bert",
        "",
        ",north,5O,W,I,other,12 days,0,Nobody",
        'SECRET4,west,"61,5",M,I,other,12,0,Dora',
    ]
    with pytest.raises(UserError) as error:
        read_clinical(table(tmp_path, rows), ClinicalSettings(**SETTINGS), centres=["north", "south"])
    text = "\n".join(error.value.messages)
    for part in (
        "row 2, column 'age': below the limit of 18 years (17)",
        "row 3, column 'age': above the limit of 110 years (999)",
        "rows 6, 7, column 'age': text (such as 5O, 61,5) where a number is needed. Write a point, not a comma.",
        "row 3, column 'sex': not an allowed value. Did you mean 'F'?",
        "row 6, column 'sex': not an allowed value. Write one of: F, M.",
        "rows 3, 4: the same patient",
        "row 6, column 'id': no patient",
        "row 7, column 'centre': no centre of the study; write one of ['north', 'south']",
        "row 3, column 'days': a negative time (days) to the event of 'survival'",
        "row 6, column 'days': text (such as 12 days)",
        "row 4, column 'dead': neither 1 nor 0",
    ):
        assert part in text, text
    assert "SECRET" not in text
    assert "Anna" not in text
    assert len(error.value.messages) == 12  # eleven and the head line


def test_missing_columns_are_named_with_what_is_meant(tmp_path: Path) -> None:
    path = table(tmp_path, ["A,north,1"], "ID,centre,Age")
    with pytest.raises(UserError) as error:
        read_clinical(path, ClinicalSettings(**SETTINGS))
    text = "\n".join(error.value.messages)
    assert "clinical.patient: clinical.csv has no column 'id'" in text
    assert "clinical.columns.age: clinical.csv has no column 'age'. Did you mean 'Age'?" in text
    assert "clinical.outcomes: clinical.csv has no column 'diagnosis'" in text


def test_outcome_that_never_happens_is_a_mistake(tmp_path: Path) -> None:
    path = table(tmp_path, ["A,north,50,F,I,Covid-19,1,0,x", "B,north,50,F,I,none,1,0,x"])
    with pytest.raises(UserError) as error:
        read_clinical(path, ClinicalSettings(**SETTINGS))
    text = "\n".join(error.value.messages)
    assert "no row is 'covid'. Check clinical.outcomes.covid.positive" in text
    assert "no event of 'survival' at all" in text


def test_files_that_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "a.xlsx").write_text("no workbook")
    for name, words in (("absent.csv", "does not exist"), ("a.csv", "not a table"), ("a.pdf", "cannot be read")):
        with pytest.raises(UserError, match=words):
            read_clinical(tmp_path / name, ClinicalSettings(**SETTINGS))
    with pytest.raises(UserError, match="not a table"):
        read_clinical(tmp_path / "a.xlsx", ClinicalSettings(**SETTINGS))


def test_settings_say_what_to_write() -> None:
    for wrong, words in (
        ({"outcomes": {"x": {"type": "binary", "column": "c", "positive": True}}}, "put quotes"),
        ({"columns": {"scans": {"type": "numeric"}}}, "is taken by the patient table"),
        ({"columns": {"a": {"type": "numeric", "values": ["1"]}}}, "values are for categorical"),
        ({"columns": {"a": {"type": "numeric", "min": 5, "max": 1}}}, "write min: 1 and max: 5"),
        ({"centre": {"column": "a", "value": "b"}}, "write either"),
    ):
        with pytest.raises(ValidationError, match=words):
            ClinicalSettings(**wrong)


# --------------------------------------------------------------------------------------------------------------- cohort


def cohort(
    folder: Path,
    centres: dict[str, int],
    clinical: Path | None = None,
    settings: ClinicalSettings | None = None,
    limits: Limits | None = None,
    **left_out: object,
) -> Path:
    out, private = folder / "results", folder / "private"
    for centre in centres:
        if (private / f"{centre}.parquet").exists():  # only the cohort differs between tests
            continue
        build(centre, folder / centre, output=private / f"{centre}.index.parquet", log=LOG)
        curate(
            centre,
            private / f"{centre}.index.parquet",
            settings=CurationSettings(),
            salt=SALT,
            curation=out / f"{centre}.parquet",
            files=private / f"{centre}.parquet",
            log=LOG,
        )
    shards = [f"{centre}-{k}" for centre, n in centres.items() for k in range(n)]
    assemble(
        [out / f"{centre}.parquet" for centre in centres],
        [private / f"{centre}.parquet" for centre in centres],
        centres={c: CentreFacts("external" if c == "east" else "development", n) for c, n in centres.items()},
        clinical=clinical,
        clinical_settings=settings,
        salt=SALT,
        accepted_out=out / "accepted.tsv",
        patients=out / "patients.tsv",
        flow=out / "flow.tsv",
        curation_out=out / "curation.parquet",
        shards={s: out / "shards" / f"{s}.tsv" for s in shards},
        private_shards={s: private / "files" / f"{s}.parquet" for s in shards},
        pseudonyms=private / "pseudonyms.tsv",
        log=LOG,
        limits=limits,
        **left_out,
    )
    return out


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two centres that number their patients alike; north has defects of several kinds."""
    folder = tmp_path_factory.mktemp("hospital")
    north: list = []
    for number in range(4):
        images = tiny_dicom.series(5, name=f"n{number}", patient=f"A{number}")
        north += images
        if number < 2:
            circles = [tiny_dicom.circle(-40, -33, 106, 3)]
            north.append(tiny_dicom.structure_set(images, {"GTV-1": circles}, name=f"rt{number}"))
    north += tiny_dicom.series(5, name="gap", patient="A9")[:2] + tiny_dicom.series(5, name="gap", patient="A9")[3:]
    north += tiny_dicom.series(2, name="few", patient="A0")
    lost = tiny_dicom.series(5, name="lost", patient="A3")
    north.append(tiny_dicom.structure_set(lost, {"GTV-1": []}, name="orphan"))
    for name in ("one", "two"):
        north.append(tiny_dicom.structure_set(tiny_dicom.series(5, name="n2", patient="A2"), {"GTV-1": []}, name=name))
    copied = tiny_dicom.series(5, name="n3", patient="A3")[2]
    tiny_dicom.save(folder / "north", north, copied)
    (folder / "north" / "Thumbs.db").write_bytes(b"x" * 500)
    tiny_dicom.save(
        folder / "east",
        tiny_dicom.series(5, name="e0", patient="A0"),
        tiny_dicom.series(5, name="e1", patient="E1"),
    )
    return folder


@pytest.fixture(scope="module")
def plain(hospital: Path) -> Path:
    return cohort(hospital, {"north": 3, "east": 1})


def test_flow_adds_up(plain: Path) -> None:
    flow = tables.read(plain / "flow.tsv", FLOW)
    north = flow[flow["centre"] == "north"]
    boxes = north.groupby("box")["scans"].sum().to_dict()
    curation = tables.read(plain / "curation.parquet", CURATION)
    volumes = curation[(curation["centre"] == "north") & (curation["modality"] != "RTSTRUCT")]
    assert boxes["files"] == boxes["files skipped"] + boxes["files of contours"] + volumes["files"].sum()
    assert boxes["candidates"] == boxes["excluded"] + boxes["accepted"] == len(volumes)
    assert north[north["box"].str.contains("excluded")].set_index("code")["scans"].to_dict() == {
        "RT_NO_IMAGE": 1, "TOO_FEW_SLICES": 1, "GEOM_MISSING_SLICE": 1
    }  # fmt: skip
    assert north.set_index("box").loc["accepted", ["patients", "scans"]].tolist() == [4, 4]
    assert north.set_index("box").loc["accepted with contours", "scans"] == 3
    assert north.set_index("box").loc["patients without an accepted scan", "patients"] == 1
    assert boxes["files"] == len(list((plain.parent / "north").iterdir()))


def test_scans_left_out_by_hand_stay_counted_with_their_reason(hospital: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    shutil.copytree(hospital, folder)
    accepted = tables.read(cohort(folder, {"east": 1}) / "accepted.tsv", ACCEPTED)
    scan, withdrawn = accepted.iloc[0], accepted.iloc[1]["patient"]
    chosen = {"limits": Limits(accepted_scans=0), "excluded": {scan["scan"]: "moved"}, "withdrawn": [withdrawn]}
    out = cohort(folder, {"east": 1}, **chosen)
    assert len(tables.read(out / "accepted.tsv", ACCEPTED)) == len(accepted) - 2
    row = tables.read(out / "curation.parquet", CURATION).set_index("scan").loc[scan["scan"]]
    assert row[["verdict", "excluded", "reason"]].tolist() == ["reject", "EXCLUDED", "EXCLUDED: moved"]
    flow = tables.read(out / "flow.tsv", FLOW)
    assert flow[flow["box"] == "excluded"]["code"].tolist() == ["EXCLUDED", "WITHDRAWN"]
    assert set(tables.read(out / "patients.tsv", PATIENTS)["patient"]) == set(accepted["patient"]) - {withdrawn}
    with pytest.raises(UserError, match="exclude: V-NONE: no such scan"):
        cohort(folder, {"east": 1}, excluded={"V-NONE": "moved"})


def test_patients_of_different_centres_are_different_people(plain: Path) -> None:
    people = tables.read(plain / "patients.tsv", PATIENTS).set_index("patient")
    assert people.loc[patient(SALT, "north", "A0"), "centre"] == "north"
    assert people.loc[patient(SALT, "east", "A0"), ["centre", "role", "scans"]].tolist() == ["east", "external", 1]
    assert people["scans"].sum() == len(tables.read(plain / "accepted.tsv", ACCEPTED)) == 6
    assert len(people) == 7


def test_every_scan_is_in_the_shard_of_its_patient(plain: Path) -> None:
    scans = tables.read(plain / "accepted.tsv", ACCEPTED)
    seen = []
    for path in sorted((plain / "shards").iterdir()):
        shard = tables.read(path, SHARD)
        files = tables.read(plain.parent / "private" / "files" / f"{path.stem}.parquet", FILES)
        assert set(files["scan"]) == set(shard["scan"])
        assert set(files["use"]) <= {"slice", "structure"}
        for row in shard.itertuples():
            count = 3 if row.centre == "north" else 1
            assert path.stem == f"{row.centre}-{shard_of(row.patient, count)}"
            assert (files[files["scan"] == row.scan]["use"] == "slice").sum() == 5
        seen += shard["scan"].tolist()
    assert sorted(seen) == sorted(scans["scan"])


def test_pseudonyms_lead_back_and_stay_private(plain: Path) -> None:
    names = tables.read(plain.parent / "private" / "pseudonyms.tsv", PSEUDONYMS)
    people = names[names["kind"] == "patient"]
    assert sorted(people["original"]) == ["A0", "A0", "A1", "A2", "A3", "A9", "E1"]
    for row in people.itertuples():
        assert row.pseudonym == patient(SALT, row.centre, row.original)
    assert set(tables.read(plain / "accepted.tsv", ACCEPTED)["scan"]) <= set(names["pseudonym"])
    for path in plain.rglob("*.tsv"):
        for original in names["original"]:
            assert f"\t{original}\t" not in path.read_text()


def test_clinical_columns_come_to_the_patients(hospital: Path, tmp_path: Path) -> None:
    rows = [
        "A0,north,50,F,II,covid,100,1,x",
        "A1,north,60,M,I,other,20,0,x",
        "A0,east,70,F,I,other,30,1,x",
        "ZZ,east,80,M,I,covid,40,0,x",
    ]
    path = table(tmp_path, rows)
    people = tables.read(
        cohort(hospital, {"north": 1, "east": 1}, path, ClinicalSettings(**SETTINGS)) / "patients.tsv", PATIENTS
    ).set_index("patient")
    assert people.loc[patient(SALT, "north", "A0"), ["age", "sex", "diagnosis"]].tolist() == [50, "F", "covid"]
    assert people.loc[patient(SALT, "east", "A0"), ["age", "days", "dead"]].astype(int).tolist() == [70, 30, 1]
    assert people.loc[patient(SALT, "east", "ZZ"), ["scans", "clinical"]].tolist() == [0, True]
    assert people["clinical"].sum() == 4
    assert len(people) == 8
    for option, message in (("ignore", ""), ("error", "row 5, column 'id': no images of this patient")):
        settings = ClinicalSettings(**SETTINGS, without_scans=option)
        if message:
            with pytest.raises(UserError, match=message):
                cohort(hospital, {"north": 1, "east": 1}, path, settings)
        else:
            out = cohort(hospital, {"north": 1, "east": 1}, path, settings)
            assert len(tables.read(out / "patients.tsv", PATIENTS)) == 7


def test_centre_is_found_by_the_images_or_asked_for(hospital: Path, tmp_path: Path) -> None:
    header = HEADER.replace(",centre", "")
    rows = ["A0,50,F,II,covid,100,1,x", "A1,60,M,I,other,20,0,x", "E1,60,M,I,other,20,0,x", "QQ,60,M,I,other,2,0,x"]
    with pytest.raises(UserError) as error:
        cohort(hospital, {"north": 1, "east": 1}, table(tmp_path, rows, header), ClinicalSettings(**SETTINGS))
    text = "\n".join(error.value.messages)
    assert "row 2: several centres have a patient of this identifier" in text
    assert "row 5: no images of this patient, so the centre is not known" in text
    out = cohort(
        hospital,
        {"north": 1, "east": 1},
        table(tmp_path, [*rows[1:3], "A2" + rows[0][2:]], header),
        ClinicalSettings(**SETTINGS),
    )
    people = tables.read(out / "patients.tsv", PATIENTS)
    assert people.set_index("patient").loc[patient(SALT, "east", "E1"), "clinical"]


def test_misspelt_patients_are_found(hospital: Path, tmp_path: Path) -> None:
    rows = ["a-1,north,50,F,II,covid,100,1,x", "A2,north,60,M,I,other,20,0,x"]
    with pytest.raises(UserError, match="row 2, column 'id': differs from a scanned patient") as error:
        cohort(hospital, {"north": 1, "east": 1}, table(tmp_path, rows), ClinicalSettings(**SETTINGS))
    assert "A1" not in str(error.value)
    with pytest.raises(UserError, match="none of the 1 rows belongs to a patient"):
        cohort(
            hospital,
            {"north": 1, "east": 1},
            table(tmp_path, ["covid,north,50,F,II,covid,100,1,x", "X,north,60,M,I,other,2,0,x"][1:]),
            ClinicalSettings(**(SETTINGS | {"outcomes": {}})),
        )


def test_limits_stop_a_study_and_say_why(hospital: Path) -> None:
    with pytest.raises(UserError) as error:
        cohort(hospital, {"north": 1, "east": 1}, limits=Limits(accepted_share=0.9))
    (message,) = error.value.messages
    assert "centres.north: 4 of 6 candidate scans are accepted, at least 6 are wanted" in message
    assert "GEOM_MISSING_SLICE 1, TOO_FEW_SLICES 1" in message


@pytest.mark.realdata
def test_clinical_table_of_lung1(realdata: Callable[[str], Path]) -> None:
    settings = ClinicalSettings(
        patient="PatientID",
        centre={"value": "maastro"},
        columns={"age": {"type": "numeric", "min": 18, "max": 110}},
        outcomes={"survival": {"type": "time-to-event", "time": "Survival.time", "event": "deadstatus.event"}},
    )
    frame = read_clinical(realdata("lung1") / "clinical.csv", settings, centres=["maastro"])
    assert len(frame) == 422
    first = frame[frame["patient_id"] == "LUNG1-001"].iloc[0]
    assert (first["age"], first["Survival.time"], first["deadstatus.event"]) == (78.7515, 2165, "1")
