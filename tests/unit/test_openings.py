"""Openings for users: steps of their own, models from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from polycentric import ledger
from polycentric.config.base import ImportedWeights
from polycentric.config.study import load_file
from polycentric.config.views import View
from polycentric.errors import UserError
from polycentric.files import sha256_file
from polycentric.prepare import apply
from polycentric.volumes import Geometry, Volume

STEP = """
import numpy as np
from pydantic import BaseModel, ConfigDict
from polycentric.volumes import Volume


class Shift(BaseModel):
    model_config = ConfigDict(extra="forbid")
    hu: float

    def __call__(self, volume: Volume) -> Volume:
        return volume.with_array((volume.array + self.hu).astype(np.float32))
"""


def view(path: Path, **settings: object) -> View:
    steps = [{"kind": "custom", "uses": f"{path}:Shift", "settings": settings}, {"kind": "clip", "low": 0, "high": 100}]
    return View.model_validate({"from": "scan", "steps": steps})


def test_an_own_step_runs_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "my_steps.py"
    path.write_text(STEP)
    volume = Volume(np.full((2, 3, 4), -30, np.int16), Geometry((4, 3, 2), (1, 1, 1)))
    assert (apply(view(path, hu=50), volume).array == 20).all()
    assert (apply(view(path, hu=10), volume).array == 0).all()
    with pytest.raises(ValueError, match="extra"):
        apply(view(path, hu=10, strength=3), volume)


def test_an_own_step_and_a_missing_file_in_the_study_file(tmp_path: Path) -> None:
    import yaml

    config = Path(__file__).parents[2] / "config" / "config.yaml"
    study = tmp_path / "study.yaml"
    changes = {
        "extends": str(config),
        "views": {"ct": {"steps": [{"kind": "custom", "uses": "nowhere.py:Shift"}]}},
        "segmentation": {"unet": {"import": {"path": "nowhere.safetensors", "sha256": "0" * 64}}},
    }
    study.write_text(yaml.safe_dump(changes))
    with pytest.raises(UserError) as caught:
        load_file(study)
    text = "\n".join(caught.value.messages)
    assert "views.ct.steps: there is no file 'nowhere.py'" in text
    assert "segmentation.unet.import.path: there is no file 'nowhere.safetensors'" in text


def test_weights_from_elsewhere_are_checked_and_have_a_ledger(tmp_path: Path) -> None:
    import torch
    from polycentric.jobs import SILENT
    from polycentric.networks import weights
    from polycentric.training.adopt import Outputs, adopt

    given = tmp_path / "given.safetensors"
    weights.write({"net.weight": torch.arange(4.0)}, given, name="elsewhere")
    files = Outputs(*(tmp_path / n for n in ("weights.safetensors", "settings.json", "history.csv", "ledger.json")))
    facts = {"stage": "segmentation", "split": "main", "settings_json": "{}", "code": "c", "where": "x", "log": SILENT}
    facts["patients"] = tmp_path / "split.tsv"  # read where a ledger lies beside the weights

    model = ImportedWeights(path=str(given), sha256=sha256_file(given), seen=("P-1",))
    adopt("unet", model, files, **facts)
    assert files.weights.read_bytes() == given.read_bytes()
    ledger.refuse_leaks(["P-2"], [files.ledger], where="analyses.x")
    with pytest.raises(UserError, match="'unet' behind its inputs has seen 1"):
        ledger.refuse_leaks(["P-1"], [files.ledger], where="analyses.x")

    with pytest.raises(UserError, match="sha256"):
        adopt("unet", ImportedWeights(path=str(given), sha256="0" * 64), files, **facts)


def test_weights_of_whom_nothing_is_known_say_so_and_imported_ones_can_be_imported_again(tmp_path: Path) -> None:
    import torch
    from polycentric import tables
    from polycentric.jobs import SILENT
    from polycentric.networks import weights
    from polycentric.tables.schemas import SPLIT
    from polycentric.training.adopt import Outputs, adopt

    given = tmp_path / "given" / "weights.safetensors"
    weights.write({"net.weight": torch.arange(4.0)}, given, name="elsewhere")
    tables.write([{"centre": "n", "patient": "P-1", "part": "test", "stratum": ""}], tmp_path / "split.tsv", SPLIT)
    facts = {"stage": "segmentation", "split": "main", "settings_json": "{}", "code": "c", "where": "x", "log": SILENT}
    facts["patients"] = tmp_path / "split.tsv"
    names = ("weights.safetensors", "settings.json", "history.csv", "ledger.json")
    first, second = (Outputs(*(tmp_path / folder / n for n in names)) for folder in ("first", "second"))
    sha = sha256_file(given)

    adopt("unet", ImportedWeights(path=str(given), sha256=sha), first, **facts)
    assert "which patients" in ledger.unknown([first.ledger])["unet"]
    adopt("again", ImportedWeights(path=str(first.weights), sha256=sha), second, **facts)
    assert "which patients" in ledger.unknown([second.ledger])["again"]
    adopt("unet", ImportedWeights(path=str(given), sha256=sha, seen=("P-1",)), first, **facts)
    assert not ledger.unknown([first.ledger])

    adopt("other", ImportedWeights(path=str(first.weights), sha256=sha), second, **facts)
    with pytest.raises(UserError, match="'other' behind its inputs has seen 1"):
        ledger.refuse_leaks(["P-1"], [second.ledger], where="analyses.x")
    # another training of a model of that name, whose ledger did not come along
    weights.write({"net.weight": torch.arange(3.0)}, first.weights, name="unet")
    with pytest.raises(UserError, match="the ledger of other weights of model 'unet'"):
        adopt("other", ImportedWeights(path=str(first.weights), sha256=sha256_file(first.weights)), second, **facts)
