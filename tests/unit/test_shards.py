from functools import partial
from pathlib import Path

import pytest
from polycentric.errors import ScanError
from polycentric.shards import Item, Row, process, shard_of


def work(item: Item, folder: Path, calls: Path) -> list[Row]:
    calls.open("a").write(item.key + "\n")
    if item.key == "bad":
        raise ScanError("GEOM_MISSING_SLICE", "2 slices are missing")
    if item.key == "broken":
        raise RuntimeError("no such luck with /home/jane")
    path = folder / f"{item.key}.txt"
    path.write_text(item.key)
    return [{"path": path}]


def run(root: Path, keys: list[str], *, settings: str = "{}", code: str = "1", workers: int = 1) -> list[Row]:
    items = [Item(key, {"scan": key}, (f"hash of {key}",)) for key in keys]
    job = partial(work, calls=root / "calls")
    return process(items, job, folder=root / "v", root=root, settings=settings, code=code, workers=workers)


def calls(root: Path) -> list[str]:
    path = root / "calls"
    done = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(done)


def test_every_scan_has_a_row_and_none_sinks_the_others(tmp_path: Path) -> None:
    rows = run(tmp_path, ["a", "bad", "broken", "b"])
    assert [(r["scan"], r["status"]) for r in rows] == [
        ("a", "ok"),
        ("bad", "rejected"),
        ("broken", "failed"),
        ("b", "ok"),
    ]
    assert rows[1]["reason"] == "GEOM_MISSING_SLICE: 2 slices are missing"
    assert "jane" not in rows[2]["reason"]
    assert rows[0]["path"] == "v/a.txt"


def test_a_second_run_repeats_only_what_failed(tmp_path: Path) -> None:
    first = run(tmp_path, ["a", "bad", "broken"])
    calls(tmp_path)
    assert run(tmp_path, ["a", "bad", "broken"]) == first
    assert calls(tmp_path) == ["broken"]


@pytest.mark.parametrize("change", [{"settings": "[1]"}, {"code": "2"}])
def test_other_settings_or_code_repeat_everything(tmp_path: Path, change: dict) -> None:
    run(tmp_path, ["a", "b"])
    calls(tmp_path)
    run(tmp_path, ["a", "b"], **change)
    assert calls(tmp_path) == ["a", "b"]


def test_a_damaged_or_lost_file_is_made_again(tmp_path: Path) -> None:
    run(tmp_path, ["a", "b", "c"])
    calls(tmp_path)
    (tmp_path / "v" / "a.txt").write_text("damaged")
    (tmp_path / "v" / "b.txt").unlink()
    run(tmp_path, ["a", "b", "c"])
    assert calls(tmp_path) == ["a", "b"]
    assert (tmp_path / "v" / "a.txt").read_text() == "a"


def test_a_half_written_sidecar_counts_as_none(tmp_path: Path) -> None:
    run(tmp_path, ["a"])
    (tmp_path / "v" / "a.json").write_text('{"state": ')
    assert run(tmp_path, ["a"])[0]["status"] == "ok"


def test_files_of_scans_that_left_the_shard_are_removed(tmp_path: Path) -> None:
    run(tmp_path, ["a", "b"])
    run(tmp_path, ["b"])
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == ["b.json", "b.txt"]


def test_results_do_not_depend_on_workers(tmp_path: Path) -> None:
    keys = [f"k{n}" for n in range(9)]
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert run(tmp_path / "one", keys) == run(tmp_path / "two", keys, workers=3)


def test_an_added_patient_moves_nobody_to_another_shard() -> None:
    patients = [f"P-{n}" for n in range(1000)]
    before = {p: shard_of(p, 7) for p in patients}
    assert {p: shard_of(p, 7) for p in [*patients, "P-new"] if p in before} == before
    sizes = [list(before.values()).count(k) for k in range(7)]
    # binomial(1000, 1/7): mean 142.9, sd 11.1
    assert min(sizes) > 142.9 - 4 * 11.1
    assert max(sizes) < 142.9 + 4 * 11.1
