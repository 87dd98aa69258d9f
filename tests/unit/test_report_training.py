"""Training in the report: curves, variety, warnings, sample pictures."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from polycentric.report import training
from polycentric.report.inputs import ModelFiles
from polycentric.training import samples, watch


def test_empty_warnings_and_losses_of_weight_0_are_not_drawn() -> None:
    text = "iteration,cycle_forward,identity_forward,variety_forward,variety_backward,warnings\n"
    text += "10,2.0,0.0,0.0,,\n20,1.0,0.0,0.0,,\n"
    # a variety of 0 is a collapse
    assert training.shown(pd.read_csv(io.StringIO(text))) == ["cycle_forward", "variety_forward"]


def test_curves_tell_what_was_amiss_and_the_last_sheet_is_shown(tmp_path: Path) -> None:
    rows = ["iteration,cycle_forward,variety_backward,variety_forward,warnings"]
    rows += [f"{n},{10 / n},,{1 if n < 50 else 0.01},{'variety_forward' if n > 60 else ''}" for n in range(10, 101, 10)]
    (tmp_path / "history.csv").write_text("\n".join(rows) + "\n")
    text = watch.sentence("variety_forward")
    warning = {"column": "variety_forward", "first": 70, "last": 1000, "text": text}
    settings = {"warnings": [warning], "discriminator_sees_voxels": 70, "settings": {"patch": [64, 64, 64]}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for iteration in (50, 1000):
        picture = np.full((4, 4, 3), iteration % 251, np.uint8)
        samples.write_png(picture, tmp_path / "samples" / samples.name(iteration))
    samples.hand_over(tmp_path / "samples", tmp_path / "samples.zip", 1000)
    sound = ModelFiles(tmp_path / "ledger.json")
    files = ModelFiles(tmp_path / "l", tmp_path / "settings.json", tmp_path / "history.csv", tmp_path / "samples.zip")

    (curve,) = training.curves({"sound": sound, "bad": files})
    assert "Losses and variety by iteration" in curve["caption"]
    assert f"Warning, iterations 70 to 1,000: {text}" in curve["caption"]
    assert "sees 70 voxels along each axis of patches of 64 x 64 x 64, as much as a whole patch." in curve["caption"]
    (sheet,) = training.sheets({"sound": sound, "bad": files})
    assert sheet["title"] == "Training patches of bad after iteration 1,000"
    last = (tmp_path / "samples" / samples.name(1000)).read_bytes()
    assert base64.b64decode(sheet["uri"].partition(",")[2]) == last
