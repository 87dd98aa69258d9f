"""The page on curation says what the registry of codes and the presets say."""

from __future__ import annotations

import re
from pathlib import Path

from polycentric.config.codes import CODES
from polycentric.config.curation import PRESETS, CurationSettings
from polycentric.tools.defects import page

PAGE = (Path(__file__).parents[2] / "docs" / "curation.md").read_text(encoding="utf-8")
WORD = re.compile(r"\b(?:FILE|SERIES|GEOM|THICKNESS|TS|UID|PHI|RT|SEG|MASK|DUP|HU|KERNEL|SUV|PATIENT)_[A-Z_]+\b")


def test_tables_of_the_page_are_those_of_the_code() -> None:
    assert page(PAGE) == PAGE


def test_every_code_and_setting_that_the_page_names_exists() -> None:
    assert {*WORD.findall(PAGE)} - {*CODES} == set()
    assert all(f"| {code} |" in PAGE for code in CODES)
    settings = {*CurationSettings.model_fields}
    named = re.findall(r"; `([a-z_]+)`(?:, `([a-z_]+)`)?", PAGE)
    assert {name for pair in named for name in pair} - {""} <= settings
    assert len(named) > 6


def test_presets_are_settings_and_yield_to_written_keys() -> None:
    for name, values in PRESETS.items():
        assert CurationSettings(preset=name).model_dump(include=set(values)) == values
    assert CurationSettings(preset="brain-mr", slices=(3, 9)).slices == (3, 9)


def test_the_study_file_can_give_every_verdict_that_the_page_lists() -> None:
    for name, code in CODES.items():
        for verdict in (code.default, *code.others):
            assert CurationSettings(verdicts={name: verdict}).verdict(name) == verdict
