from pathlib import Path

import pytest
from polycentric import files


def test_atomic_leaves_the_old_file_when_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    path.write_text("old")

    def fail() -> None:
        with files.atomic(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_canonical_json_ignores_order_but_not_values() -> None:
    assert files.canonical_json({"a": 1, "b": [2]}) == files.canonical_json({"b": [2], "a": 1})
    assert files.canonical_json({"a": 1, "b": 2}) != files.canonical_json({"a": 2, "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.canonical_json({"a": float("nan")})


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "naïve", "x" * 300, "", ".", "line\nbreak", "-rf", "a b"])
def test_fragment_stays_one_safe_path_component(name: str) -> None:
    fragment = files.fragment(name)
    assert Path(fragment).name == fragment
    assert fragment.isascii()
    assert len(fragment) < 70
    assert not fragment.startswith(("-", "."))


def test_fragment_tells_different_names_apart() -> None:
    names = ["GTV-1", "GTV 1", "GTV/1", "GTV_1", "x" * 60, "x" * 61, "a", "-a"]
    assert len({files.fragment(name) for name in names}) == len(names)


def test_sha256_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4 examples
    assert files.sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
    assert files.sha256_file(tmp_path / "empty").startswith("e3b0c44298fc1c149afbf4c8996fb924")
