"""The final table of scans: evidence joined, questions and answers, copies, flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from polycentric import tables
from polycentric.cohort import evidence
from polycentric.cohort.establish import establish
from polycentric.config.examine import EstablishSettings
from polycentric.errors import UserError
from polycentric.jobs import SILENT
from polycentric.report.flow import check
from polycentric.tables.schemas import ACCEPTED, DUPLICATES, EXAMINED, FLOW, REVIEW, SCANS, VOLUMES

SETTINGS = EstablishSettings()
Row = dict[str, Any]

# ------------------------------------------------------------------------------------------------------------- evidence


def says(tag: str = "unknown", description: str = "unknown", image: str = "unknown", sure: float = 0.993) -> Row:
    return {
        "modality": "CT", "contrast": "unknown", "contrast_tag": tag, "contrast_description": description,
        "contrast_image": image, "contrast_image_confidence": None if image == "unknown" else sure,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "status", "source", "asked"),
    [
        (says("yes", "yes", "yes"), "yes", "image", False),
        (says("no", "no", "no"), "no", "image", False),
        # an image with a clear blood pool wins against headers, and a person looks
        (says("yes", "unknown", "no"), "no", "image", True),
        (says("no", "no", "yes"), "yes", "image", True),
        (says("yes", "yes", "no"), "no", "image", True),
        # half an image does not
        (says("yes", "yes", "no", 0.7), "yes", "description", True),
        (says("unknown", "unknown", "yes"), "yes", "image", False),
        (says("unknown", "unknown", "yes", 0.8), "yes", "image", True),
        (says("unknown", "no"), "no", "description", False),
        (says("yes"), "yes", "tag", False),
        (says("no"), "no", "tag", True),  # an empty tag says little
        (says("yes", "no"), "unknown", "none", True),
        (says(), "unknown", "none", True),
    ],
)
def test_contrast_from_all_evidence(row: Row, status: str, source: str, asked: bool) -> None:
    found = evidence.contrast(row, SETTINGS)
    assert (found.status, found.source, bool(found.why)) == (status, source, asked)


def test_odds_multiply() -> None:
    # by hand: 10 to 1 by the tag, 9 to 1 by the image
    found = evidence.contrast(says("yes", image="yes", sure=0.9), SETTINGS)
    assert found.confidence == pytest.approx(90 / 91, abs=1e-3)
    # tag and description together count at most 20 to 1
    assert evidence.contrast(says("yes", "yes"), SETTINGS).confidence == pytest.approx(20 / 21, abs=1e-3)
    assert evidence.contrast(says("yes"), EstablishSettings(review_below=0.95)).why == "uncertain"


def test_assumptions_of_the_study_hold_where_nothing_is_said() -> None:
    assert evidence.contrast(says() | {"contrast": "no"}, SETTINGS) == evidence.Contrast("no", "assumed", None, "")
    assert evidence.contrast(says(image="yes") | {"contrast": "no"}, SETTINGS).status == "yes"


def test_other_modalities_are_not_asked_about() -> None:
    assert evidence.contrast(says("yes", "no") | {"modality": "MR"}, SETTINGS).why == ""
    assert evidence.contrast(says() | {"modality": "NM"}, SETTINGS).why == ""


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"ctdi_mgy": 2.9, "exposure_mas": 400}, ("low", "ctdi")),
        ({"ctdi_mgy": 8.0, "dose_words": "low"}, ("standard", "ctdi")),
        # NLST: 120 to 140 kVp, 20 to 30 mAs effective, about 1.5 mGy; diagnostic chests have 100 mAs and more
        ({"exposure_mas": 25, "kvp": 120}, ("low", "exposure")),
        ({"exposure_mas": 15, "kvp": 140}, ("low", "exposure")),
        ({"exposure_mas": 110, "kvp": 120}, ("standard", "exposure")),
        ({"exposure_mas": 50, "kvp": 120}, ("standard", "exposure")),
        ({"exposure_mas": 50, "kvp": 120, "dose_words": "low"}, ("low", "description")),
        ({"exposure_mas": 50, "kvp": 80}, ("low", "exposure")),
        ({"exposure_mas": 0, "ctdi_mgy": 0, "dose_words": "low"}, ("low", "description")),
        ({"exposure_mas": float("nan")}, ("unknown", "none")),
        ({}, ("unknown", "none")),
        ({"modality": "PT", "ctdi_mgy": 2.0}, ("unknown", "none")),
    ],
)
def test_dose(facts: Row, expected: tuple[str, str]) -> None:
    assert evidence.dose({"modality": "CT"} | facts, SETTINGS) == expected


# ---------------------------------------------------------------------------------------------------------------- table


def study(root: Path, scans: list[Row]) -> dict[str, Any]:
    """Tables of a small study. Keys of a scan: name, centre, patient, pixels, failed, and columns of the tables."""
    accepted, examined, volumes = [], [], []
    for scan in scans:
        scan = {"centre": "north", "patient": f"P-{scan['name']}", "pixels": scan["name"], "failed": ""} | scan
        keys = {"centre": scan["centre"], "patient": scan["patient"], "session": f"V-{scan['name']}"}
        keys |= {"scan": scan["name"], "modality": scan.get("modality", "CT")}
        status = {"status": "failed" if scan["failed"] == "crash" else "rejected" if scan["failed"] else "ok"}
        defaults = {
            "role": "development", "shard": f"{scan['centre']}-0", "verdict": "accept", "contrast": "unknown",
            "contrast_tag": "unknown", "contrast_description": "unknown", "timepoint": 1, "days": 0, "structures": 1,
        }  # fmt: skip
        accepted.append(keys | defaults | {k: v for k, v in scan.items() if k in ACCEPTED.columns})
        seen = {"contrast_image": "unknown", "covers_thorax": "unknown"} | {
            k: v for k, v in scan.items() if k in EXAMINED.columns
        }
        examined.append(keys | (status | {"status": "missing"} if scan["failed"] else status) | seen)
        reason = f"{scan['failed']}: slice 3" if scan["failed"] not in ("", "crash") else scan["failed"]
        volumes.append(
            keys | status | {"reason": reason, "pixels_sha256": "" if scan["failed"] else scan["pixels"], "codes": ""}
        )
    paths = {name: root / f"{name}.tsv" for name in ("accepted", "examined", "volumes", "flow")}
    tables.write(accepted, paths["accepted"], ACCEPTED)
    tables.write(examined, paths["examined"], EXAMINED)
    tables.write(volumes, paths["volumes"], VOLUMES)
    flow = []
    for centre in dict.fromkeys(row["centre"] for row in accepted):
        own = [row for row in accepted if row["centre"] == centre]
        people = len({row["patient"] for row in own})
        for step, box, code, patients, number in (
            (1, "files", "", people, 100), (5, "candidates", "", people + 1, len(own) + 2),
            (6, "excluded", "TOO_FEW_SLICES", 1, 2), (7, "accepted", "", people, len(own)),
            (8, "accepted with contours", "", people, len(own)), (9, "patients without an accepted scan", "", 1, 0),
        ):  # fmt: skip
            flow.append(
                {"centre": centre, "step": step, "box": box, "code": code, "patients": patients, "scans": number}
            )
    tables.write(flow, paths["flow"], FLOW)
    return {
        "accepted": paths["accepted"], "examined": [paths["examined"]], "volumes": [paths["volumes"]],
        "flow": paths["flow"], "review_table": None, "settings": SETTINGS, "duplicates_verdict": "reject",
        "scans": root / "scans.tsv", "review": root / "review.tsv", "duplicates": root / "duplicates.tsv",
        "flow_out": root / "flow_out.tsv", "log": SILENT,
    }  # fmt: skip


SCANS_OF = [
    {"name": "S-A", "contrast_tag": "yes", "contrast": "yes", "contrast_image": "yes", "blood_hu": 180.0,
     "contrast_image_confidence": 0.99, "covers_thorax": "yes", "body_part_image": "chest", "ctdi_mgy": 2.0},
    {"name": "S-B", "contrast_tag": "yes", "contrast": "yes", "contrast_image": "no", "blood_hu": 41.0,
     "contrast_image_confidence": 0.99, "covers_thorax": "no", "body_part_image": "chest", "codes": "TS_LOSSY",
     "patient": "P-two", "timepoint": 1, "days": 0},
    {"name": "S-C", "patient": "P-two", "timepoint": 2, "days": 84, "body_part": "CHEST"},
    {"name": "S-D", "failed": "TS_UNDECODABLE", "contrast_description": "no", "contrast": "no"},
    {"name": "S-E", "failed": "crash", "contrast_description": "no", "contrast": "no"},
]  # fmt: skip


def run(job: dict[str, Any], **changes: Any) -> dict[str, pd.DataFrame]:
    job = job | changes
    establish(job["accepted"], job["examined"], job["volumes"], **{k: v for k, v in job.items() if k not in (
        "accepted", "examined", "volumes")})  # fmt: skip
    outputs = {"scans": SCANS, "review": REVIEW, "duplicates": DUPLICATES, "flow_out": FLOW}
    return {name: tables.read(job[name], schema) for name, schema in outputs.items()}


def test_final_table(tmp_path: Path) -> None:
    made = run(study(tmp_path, SCANS_OF))
    scans = made["scans"].set_index("scan")
    assert scans["contrast"].to_dict() == {"S-A": "yes", "S-B": "no", "S-C": "unknown", "S-D": "no", "S-E": "no"}
    assert scans.loc["S-B", ["contrast_source", "codes"]].tolist() == ["image", "TS_LOSSY;CONTRAST_CONFLICT"]
    assert scans["coverage"].to_dict() == dict.fromkeys(scans.index, "unknown") | {
        "S-A": "complete",
        "S-B": "incomplete",
    }
    assert scans.loc["S-A", ["dose", "dose_source"]].tolist() == ["low", "ctdi"]
    assert scans.loc["S-C", ["timepoint", "days"]].tolist() == [2, 84]
    assert scans["status"].to_dict() == dict.fromkeys(scans.index, "ok") | {"S-D": "rejected", "S-E": "failed"}


def test_open_questions_are_listed_and_answers_settle_them(tmp_path: Path) -> None:
    job = study(tmp_path, SCANS_OF)
    review = run(job)["review"]
    asked = {(r.scan, r.question): (r.present, r.why) for r in review.itertuples()}
    assert asked == {
        ("S-B", "contrast"): ("no", "image against tag"),
        ("S-C", "contrast"): ("unknown", "nothing tells"),
        ("S-C", "coverage"): ("unknown", "the lungs are not clear"),
    }
    assert review.set_index(["scan", "question"]).loc[("S-B", "contrast"), ["tag", "image", "blood_hu"]].tolist() == [
        "yes", "no", 41.0,
    ]  # fmt: skip
    assert (review["answer"] == "").all()
    # a person fills in the table that the study wrote, one answer stays open
    filled = tmp_path / "filled.tsv"
    review["answer"] = ["Yes", "", "complete"]
    review.loc[1, "comment"] = "ask the centre"
    tables.write(review, filled, REVIEW)
    made = run(job, review_table=filled)
    scans = made["scans"].set_index("scan")
    assert scans.loc["S-B", ["contrast", "contrast_source"]].tolist() == ["yes", "review"]
    assert scans.loc["S-C", ["contrast", "coverage"]].tolist() == ["unknown", "complete"]
    assert made["review"][["scan", "question"]].to_numpy().tolist() == [["S-C", "contrast"]]


def test_kinds_of_mr_images_with_agent_and_answers(tmp_path: Path) -> None:
    magnetic = {"modality": "MR", "sequence_tag": "T1", "sequence_description": "T1", "contrast_tag": "unknown"}
    conflict = magnetic | {"sequence_description": "T2"}
    job = study(tmp_path, [
        magnetic | {"name": "S-A"}, magnetic | {"name": "S-B", "contrast_tag": "yes", "contrast": "yes"},
        conflict | {"name": "S-C"}, conflict | {"name": "S-D"}, {"name": "S-E", "contrast_tag": "yes"},
    ])  # fmt: skip
    made = run(job)
    found = {"S-A": "T1", "S-B": "T1+Gd", "S-C": "T2", "S-D": "T2", "S-E": ""}
    assert made["scans"].set_index("scan")["sequence"].to_dict() == found
    asked = made["review"][made["review"]["question"] == "sequence"]
    assert asked[["scan", "present", "tag", "description", "why"]].to_numpy().tolist() == [
        ["S-C", "T2", "T1", "T2", "description against tag"], ["S-D", "T2", "T1", "T2", "description against tag"],
    ]  # fmt: skip
    path = tmp_path / "filled.csv"
    path.write_text("scan,question,answer\nS-C,sequence,t1+gd\nS-B,contrast,no\n")
    made = run(job, review_table=path)
    scans = made["scans"].set_index("scan")
    assert scans["sequence"].to_dict() == found | {"S-B": "T1", "S-C": "T1+Gd"}
    assert scans["sequence_source"].to_dict() == {
        "S-A": "description", "S-B": "description", "S-C": "review", "S-D": "description", "S-E": "",
    }  # fmt: skip
    assert made["review"].loc[made["review"]["question"] == "sequence", "scan"].tolist() == ["S-D"]


@pytest.mark.parametrize("separator", ["\t", ",", ";"])
def test_spellings_of_the_filled_table(tmp_path: Path, separator: str) -> None:
    # as spreadsheets save it: the first line padded with separators and quoted, a byte order mark, quoted cells, CRLF
    head = ['"# schema: review/1"', "", ""]
    rows = [["Scan", "Question", "Answer"], ["S-B", "contrast", '" yes "'], ["S-A", "dose", "standard"], ["", "", ""]]
    path = tmp_path / "filled.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(separator.join(line) for line in [head, *rows]).encode())
    scans = run(study(tmp_path, SCANS_OF), review_table=path)["scans"].set_index("scan")
    assert scans.loc["S-B", "contrast"] == "yes"
    assert scans.loc["S-A", ["dose", "dose_source"]].tolist() == ["standard", "review"]


def test_mistakes_in_the_filled_table_come_at_once(tmp_path: Path) -> None:
    job = study(tmp_path, SCANS_OF)
    path = tmp_path / "filled.csv"
    lines = ["scan,question,answer", "S-Z,contrast,yes", "S-A,contrast,maybe", "S-A,colour,red", "S-B,contrast,yes",
             "S-B,contrast,no", "S-C,coverage,"]  # fmt: skip
    path.write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        run(job, review_table=path)
    message = str(caught.value)
    assert "4 problems" in message
    for text in (
        "row 2: no accepted scan",
        "row 3: 'maybe' is no answer",
        "row 4: question 'colour'",
        "row 6: another",
    ):
        assert text in message
    path.write_text("scan,answer\nS-A,yes\n")
    with pytest.raises(UserError, match="no column question"):
        run(job, review_table=path)
    path.write_text("")
    with pytest.raises(UserError, match="no column scan"):
        run(job, review_table=path)
    with pytest.raises(UserError, match="does not exist"):
        run(job, review_table=tmp_path / "nowhere.tsv")


def test_identical_pixels_of_two_patients_stop_the_study(tmp_path: Path) -> None:
    job = study(
        tmp_path,
        [
            {"name": "S-A", "pixels": "x"}, {"name": "S-B", "pixels": "x", "centre": "south"}, {"name": "S-C"},
            {"name": "S-D", "pixels": "y", "patient": "P-one"}, {"name": "S-E", "pixels": "y", "patient": "P-one"},
            {"name": "S-F", "failed": "TS_UNDECODABLE"}, {"name": "S-G", "failed": "TS_UNDECODABLE"},
        ],
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        run(job)
    message = str(caught.value)
    assert "scan S-A of P-S-A (north), scan S-B of P-S-B (south)" in message
    assert "exclude: {S-B: a copy}" in message
    assert "STUDY_DUPLICATE_PATIENT: flag" in message
    assert "S-D" not in message
    made = run(job, duplicates_verdict="flag")
    copies = made["duplicates"]
    assert copies.groupby("group")["scan"].agg(list).tolist() == [["S-A", "S-B"], ["S-D", "S-E"]]
    assert copies["code"].tolist() == ["STUDY_DUPLICATE_PATIENT"] * 2 + ["PIXELS_REPEATED"] * 2
    codes = made["scans"].set_index("scan")["codes"].to_dict()
    assert codes["S-A"] == "STUDY_DUPLICATE_PATIENT"
    assert codes["S-E"] == "PIXELS_REPEATED"
    assert codes["S-C"] == ""


def test_many_shared_groups_are_cut_in_the_message(tmp_path: Path) -> None:
    scans = [{"name": f"S-{k:03d}", "pixels": str(k // 2)} for k in range(60)]
    with pytest.raises(UserError) as caught:
        run(study(tmp_path, scans))
    assert "30 groups" in str(caught.value)
    assert str(caught.value).count("\n  - group") == 20
    assert "and 10 more groups" in str(caught.value)


def test_flow_ends_with_scans_that_have_a_volume(tmp_path: Path) -> None:
    flow = run(study(tmp_path, [*SCANS_OF, {"name": "S-F", "centre": "south"}]))["flow_out"]
    north = flow[flow["centre"] == "north"]
    assert north[["step", "box", "code", "patients", "scans"]].to_numpy().tolist()[3:] == [
        [7, "accepted", "", 4, 5],
        [8, "not converted", "TS_UNDECODABLE", 1, 1],
        [8, "not converted", "FAILED", 1, 1],
        [9, "with a volume", "", 2, 3],
        [10, "with a volume and contours", "", 2, 3],
        [12, "patients without an accepted scan", "", 1, 0],
    ]
    assert check(flow) == []
    assert flow[flow["centre"] == "south"]["box"].tolist()[3:5] == ["accepted", "with a volume"]
    wrong = flow.assign(scans=flow["scans"].where(flow["box"] != "with a volume", 2))
    assert len(check(wrong)) == 2
    # as many as went in, where nothing failed
    assert "1 accepted" in check(wrong)[1]


def test_an_empty_study_gives_empty_tables(tmp_path: Path) -> None:
    made = run(study(tmp_path, []))
    assert all(frame.empty for frame in made.values())
