"""The kind of MR images by words, tags and the times of the pulses, and what becomes of it in the table of scans."""

from __future__ import annotations

import pytest
import tiny_index
from polycentric.cohort import evidence
from polycentric.curation import sequences

# descriptions as hospitals write them
WORDS = {
    "T1": ("t1_mprage_sag_p2_iso", "AX T1 FLAIR", "SAG T1W_TSE", "T1 Gd", "IBSI_1_STS_001_MR_T1_image", "BRAVO +C",
           "t1_vibe_fs_tra_bh_dyn", "T1 post-op", "3D FSPGR"),
    "T2": ("Ax T2 PROPELLER", "t2_tse_tra", "T2W_SPAIR", "HASTE cor", "T2 water sat"),
    "FLAIR": ("AX FLAIR", "T2 FLAIR fs", "tirm_tra_dark-fluid", "t2_spc_da-fl_dark-fluid_sag"),
    "PD": ("PD fs cor", "PDW_TSE", "proton density", "pd_tse_fs"),
    "STIR": ("STIR cor", "t2_tirm_cor"),
    "T2*": ("T2* GRE", "t2_star", "AX T2 GRE", "t2_fl2d_tra_hemo"),
    "SWI": ("SWI_Images", "Mag_SWAN", "SUSCEPTIBILITY"),
    "DWI": ("ep2d_diff_b1000", "DWI b=800", "DTI 32 dir", "ep2d_diff_3scan_trace_TRACEW"),
    "ADC": ("ep2d_diff_ADC", "Apparent Diffusion Coefficient (mm2/s)", "dADC Map"),
    "in-phase": ("T1 in-phase", "t1_vibe_dixon_in", "LAVA-Flex IP", "InPhase: AX DUAL"),
    "out-of-phase": ("T1 out of phase", "t1_vibe_dixon_opp", "opposed-phase", "outPhase"),
    "water": ("t1_vibe_dixon_W Water", "WATER: LAVA"),
    "other": ("FAST LOCALIZER", "TOF 3D", "perfusion", "T1 map", "MRA head"),
    "unknown": ("axial", "", "T1 T2 head", "T12 spine", "MPR cor"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WORDS)
def test_words(kind: str) -> None:
    assert {text: sequences.by_words(text) for text in WORDS[kind]} == dict.fromkeys(WORDS[kind], kind)


def test_both_phases_are_told_apart_by_the_echo_time() -> None:
    """Water and fat turn against each other at 217 Hz in 1.5 T: opposed after 2.3 ms, together after 4.6."""
    for field, echo, kind in (
        (1.5, 2.3, "out-of-phase"), (1.5, 4.6, "in-phase"), (3.0, 1.15, "out-of-phase"), (3.0, 2.3, "in-phase"),
        (3.0, 3.45, "out-of-phase"), (1.5, 3.45, "unknown"), (None, 4.6, "unknown"),
    ):  # fmt: skip
        assert sequences.by_words("T1 DUAL FFE in/opp", echo, field) == kind


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("T1", ("SE", "SK", 10, 500, None)),
        ("T1", ("SE\\IR", "SK", 24, 2000, 860)),  # T1 FLAIR
        ("T1", ("GR\\IR", "SP\\MP", 3, 2300, 900)),  # MP-RAGE
        ("T1", ("GR", "SP", 4, 180, None)),
        ("T2", ("SE", "SK", 100, 4500, None)),
        ("PD", ("SE", "SK", 30, 2800, None)),
        ("FLAIR", ("SE\\IR", "SK", 120, 9000, 2500)),
        ("FLAIR", ("SE\\IR", "SK\\SP\\MP", 394, 6000, 2200)),
        ("STIR", ("SE\\IR", "SK", 40, 4000, 160)),
        ("T2*", ("GR", "SP", 25, 650, None)),
        ("unknown", ("SE", "SK", 100, 800, None)),
        ("unknown", ("EP", "SK", 80, 5000, None)),
        ("unknown", ("GR", "SS", 3, 6, None)),  # balanced
        ("unknown", ("SE", "", None, 500, None)),
        ("unknown", ("", "", 10, 500, None)),
    ],
)
def test_times_of_the_pulses(kind: str, times: tuple) -> None:
    assert sequences.by_parameters(*times) == kind


def test_curation_writes_both(tmp_path) -> None:
    def scan(name: str, **facts: object):
        return tiny_index.magnetic(name=name, study_uid=tiny_index.tiny_dicom.uid("mr"), **facts)

    facts = {"scanning_sequence": "SE", "sequence_variant": "SK", "echo_time_ms": 100.0, "repetition_time_ms": 4000.0}
    dual = {"scanning_sequence": "GR", "sequence_variant": "SP", "series_description": "DUAL in/opp"}
    adc = {"image_type": "DERIVED\\PRIMARY\\DIFFUSION\\ADC", "series_description": "ep2d_diff"}
    rows, _ = tiny_index.curated(
        scan("a", series_description="Smith t2_tse", **facts), scan("b", protocol="T1 flash", **facts),
        scan("c", echo_time_ms=2.3, **dual), scan("d", echo_time_ms=4.6, **dual),
        scan("e", acquisition_contrast="FLUID_ATTENUATED"), scan("f", **adc), tiny_index.slices(name="g"),
        modalities=("CT", "MR"),
    )  # fmt: skip
    found = sorted(zip(rows["sequence_tag"], rows["sequence_description"], strict=True))
    assert found == sorted([
        ("T2", "T2"), ("T2", "T1"), ("T1", "out-of-phase"), ("T1", "in-phase"), ("FLAIR", "unknown"), ("ADC", "DWI"),
        ("", ""),
    ])  # fmt: skip
    assert "Smith" not in rows.to_csv()


@pytest.mark.parametrize(
    ("tag", "words", "expected"),
    [
        ("T2", "T2", ("T2", "description", "")),
        ("T2", "FLAIR", ("FLAIR", "description", "")),  # no inversion time in the header
        ("T1", "in-phase", ("in-phase", "description", "")),
        ("ADC", "DWI", ("ADC", "tag", "")),
        ("T2", "unknown", ("T2", "tag", "")),
        ("unknown", "T1", ("T1", "description", "")),
        ("T2", "T1", ("T1", "description", "description against tag")),
        ("unknown", "unknown", ("unknown", "none", "nothing tells")),
    ],
)
def test_evidence_is_joined(tag: str, words: str, expected: tuple[str, str, str]) -> None:
    kind = evidence.sequence({"modality": "MR", "sequence_tag": tag, "sequence_description": words})
    assert (kind.status, kind.source, kind.why) == expected
    assert evidence.sequence({"modality": "CT", "sequence_tag": "", "sequence_description": ""}).status == ""
