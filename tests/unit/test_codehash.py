import shutil
from pathlib import Path

import pytest
from polycentric import codehash


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "scripts"
    package = root / "polycentric"
    (package / "stage").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "files.py").write_text('"""Files."""\n\ndef read(path):\n    return path\n')
    (package / "other.py").write_text("def unused():\n    return 1\n")
    (package / "stage" / "__init__.py").write_text("from .work import work\n")
    (package / "stage" / "work.py").write_text("def work():\n    from ..files import read\n    return read(1)\n")
    (package / "stage" / "page.html").write_text("<p>page</p>")
    (package / "stage" / "look").mkdir()
    (package / "stage" / "look" / "style.css").write_text("p { margin: 0 }")
    (root / "adapter.py").write_text("from polycentric.stage import work\nwork()\n")
    use(root, monkeypatch)
    return root


def use(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codehash, "PACKAGE", root / "polycentric")


def digest(root: Path) -> str:
    for cached in (codehash._facts, codehash._store, codehash.imports):
        cached.cache_clear()
    return codehash.code_hash(root / "adapter.py")


def test_comments_docstrings_blank_lines_and_a_move_change_nothing(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(library)
    files = library / "polycentric" / "files.py"
    files.write_text('"""Another docstring."""\n# a comment\n\n\ndef read(path):\n    """Read."""\n    return (path)\n')
    assert digest(library) == before
    moved = tmp_path / "elsewhere"
    shutil.copytree(library, moved)
    use(moved, monkeypatch)
    assert digest(moved) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("adapter.py", "work()", "work(2)"),
        ("polycentric/stage/work.py", "read(1)", "read(2)"),
        ("polycentric/files.py", "return path", "return str(path)"),
        ("polycentric/stage/page.html", "page", "sheet"),
        ("polycentric/stage/look/style.css", "0", "1px"),
    ],
)
def test_an_edit_anywhere_behind_the_adapter_changes_the_hash(library: Path, file: str, old: str, new: str) -> None:
    before = digest(library)
    path = library / file
    path.write_text(path.read_text().replace(old, new))
    assert digest(library) != before


def test_what_is_kept_of_parsed_files_changes_nothing(library: Path) -> None:
    fresh = digest(library)
    (kept,) = (library / "polycentric" / "__pycache__").iterdir()
    assert digest(library) == fresh
    (library / "polycentric" / "files.py").write_text("def read(path):\n    return -path\n")
    edited = digest(library)
    assert edited != fresh
    kept.unlink()
    assert digest(library) == edited
    kept.write_text("torn")
    assert digest(library) == edited
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("no folder")  # nothing can be kept
    assert digest(library) == edited


def test_an_edit_of_a_module_that_is_not_imported_changes_nothing(library: Path) -> None:
    before = digest(library)
    (library / "polycentric" / "other.py").write_text("def unused():\n    return 2\n")
    assert digest(library) == before


def test_every_adapter_has_a_hash_and_the_library_never_imports_snakemake() -> None:
    scripts = codehash.PACKAGE.parent
    adapters = sorted(scripts.glob("*.py"))
    assert len(adapters) > 20
    assert len({codehash.code_hash(adapter) for adapter in adapters}) == len(adapters)
    for path in codehash.PACKAGE.rglob("*.py"):
        assert "snakemake" not in {name.split(".")[0] for name in all_imports(path)}, path


def all_imports(path: Path) -> set[str]:
    import ast

    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_adapters_stay_short() -> None:
    for path in codehash.PACKAGE.parent.glob("*.py"):
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith(("#", '"""'))]
        assert len(lines) < 30, f"{path.name} has {len(lines)} lines"


def test_stage_packages_do_not_import_each_other() -> None:
    stages = {
        "idc", "simulate", "index", "curation", "cohort", "split", "convert", "prepare", "synthesis", "segmentation",
        "radiomics", "harmonise", "stability", "analysis", "fidelity", "segquality", "agreement", "readers", "report",
        "profiles", "export", "deidentify", "examine", "quicklook",
    }  # fmt: skip
    for stage in sorted(stages):
        folder = codehash.PACKAGE / stage
        assert folder.is_dir(), stage
        for path in folder.rglob("*.py"):
            package = ".".join(["polycentric", *path.relative_to(codehash.PACKAGE).parts[:-1]])
            others = {name.split(".")[1] for name in codehash.imports(path, package) if "." in name} & stages
            assert others <= {stage}, f"{path}: imports {others - {stage}}"
