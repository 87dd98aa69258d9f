"""The page on views is true: its views load, its table lists the steps, their settings and the codes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import polycentric.prepare
import yaml
from polycentric.config.steps import Step
from polycentric.config.views import View

PAGE = (Path(__file__).parents[2] / "docs" / "views.md").read_text(encoding="utf-8")
STEPS = {step.model_fields["kind"].default: step for step in get_args(get_args(Step)[0])}


def test_all_views_of_the_page_load():
    views = [
        v for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S) for v in yaml.safe_load(block)["views"].items()
    ]
    assert len(views) > 10
    made = {name: View.model_validate(view) for name, view in views}
    assert made["prepared"].fitted
    inline = [yaml.safe_load(text) for text in re.findall(r"`(\{spacing_mm.*?\}|\[\{kind.*?\}\])`", PAGE)]
    assert len(inline) == 3
    for steps in inline:
        View.model_validate(steps if isinstance(steps, dict) else {"steps": steps})


def test_the_table_lists_every_step_with_its_settings():
    rows = dict(re.findall(r"^\| `([a-z0-9-]+)` \| (.*) \|$", PAGE, re.M))
    assert set(rows) - {"from", "where", "onto", "minus", "preset", "masks", "fit", "keep"} == set(STEPS)
    for kind, step in STEPS.items():
        counted = {"above", "inside"} & set(step.model_fields)
        named = set(re.findall(r"`([a-z_]+)`", rows[kind].split(" | ")[1]))
        assert named - {"mode", "inside"} == set(step.model_fields) - {"kind"} - counted, kind


def test_all_codes_are_listed():
    folder = Path(polycentric.prepare.__file__).parent
    codes = {code for path in folder.rglob("*.py") for code in re.findall(r'"(VIEW_[A-Z0-9_]+)', path.read_text())}
    assert set(re.findall(r"`(VIEW_[A-Z0-9_]+)`", PAGE)) == codes
