from pathlib import Path

import pytest
from polycentric import ledger
from polycentric.errors import UserError


def write(path: Path, name: str, patients: list[str], upstream: list[Path] | None = None) -> Path:
    ledger.write(
        path, name=name, stage="synthesis", split="s", seen={"training": patients}, upstream=upstream or [],
        settings="{}", code="c",
    )  # fmt: skip
    return path


def test_a_patient_seen_by_a_model_far_upstream_is_found(tmp_path: Path) -> None:
    generator = write(tmp_path / "g.json", "generator", ["P1", "P2"])
    network = write(tmp_path / "n.json", "network", ["P3"], [generator])
    ledger.refuse_leaks(["P4", "P5"], [network], where="analyses.x")
    with pytest.raises(UserError, match=r"generator.*seen 1 of its patients.*within"):
        ledger.refuse_leaks(["P2", "P4"], [network], where="analyses.x")
    with pytest.raises(UserError, match="network"):
        ledger.refuse_leaks(["P3"], [network], where="analyses.x")


def test_all_leaking_models_are_named_at_once(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.json", n, ["P1"]) for n in ("one", "two")]
    with pytest.raises(UserError) as caught:
        ledger.refuse_leaks(["P1"], paths, where="analyses.x")
    assert len(caught.value.messages) == 2


def test_a_name_that_comes_again_upstream_hides_nobody(tmp_path: Path) -> None:
    before = write(tmp_path / "before.json", "generator", ["P1"])
    tuned = write(tmp_path / "tuned.json", "generator", ["P2"], [before])
    assert ledger.seen_by(ledger.read(tuned)) == {"generator": {"P1", "P2"}}
    with pytest.raises(UserError, match="seen 1 of its patients"):
        ledger.refuse_leaks(["P2"], [tuned], where="analyses.x")
