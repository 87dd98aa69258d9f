"""Requirement files and conda environments of the families of rules.

Scripts see the module path of the driver behind their own, so a package that is missing from an environment stays
hidden. What each family imports is therefore compared with its pins, and under `slow` really installed and imported.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from polycentric.tools import families

PROJECT = Path(__file__).parents[2]
SCRIPTS = PROJECT / "workflow" / "scripts"
REQUIREMENTS = PROJECT / "requirements"
FAMILIES: dict[str, list[str]] = tomllib.loads((REQUIREMENTS / "families.toml").read_text())["families"]


def adapters() -> dict[str, list[Path]]:
    """Adapters of each family: the scripts of the rules that name its environment."""
    found: dict[str, set[Path]] = {}
    for file in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", file.read_text(), flags=re.MULTILINE)[1:]:
            script = re.search(r'\n    script:\s+"(.+?)"', rule)
            environment = re.search(r'\n    conda:\s+"\.\./\.\./envs/(\w+)\.yaml"', rule)
            assert (script is None) == (environment is None), f"{file.name}: {rule.splitlines()[0]}"
            if script and environment:
                found.setdefault(environment[1], set()).add((file.parent / script[1]).resolve())
    return {family: sorted(paths) for family, paths in sorted(found.items())}


ADAPTERS = adapters()


def module_file(name: str) -> Path | None:
    base = SCRIPTS.joinpath(*name.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def imported(path: Path, *, whole: bool) -> set[str]:
    """Dotted names that a file imports; with `whole` inside functions too, but never only for type checkers."""
    package = path.relative_to(SCRIPTS).parts[:-1]
    names: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif whole or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += ast.iter_child_nodes(node)
    return names


def third_party(adapter: Path) -> set[str]:
    """Top-level names of the packages behind an adapter, through every module of the library that it reaches."""
    done: set[Path] = set()
    todo, found = [adapter], set()
    while todo:
        path = todo.pop()
        if path in done:
            continue
        done.add(path)
        for name in imported(path, whole=True):
            if name.split(".")[0] != "polycentric":
                found.add(name.split(".")[0])
                continue
            parts = name.split(".")
            todo += [file for n in range(1, len(parts) + 1) if (file := module_file(".".join(parts[:n])))]
    return found - set(sys.stdlib_module_names) - {"snakemake"}


def test_files_follow_from_the_lock() -> None:
    assert families.drift(PROJECT) == []


def test_every_family_has_rules_and_every_rule_a_family() -> None:
    assert set(ADAPTERS) == set(FAMILIES)


@pytest.mark.parametrize("family", sorted(ADAPTERS))
def test_pins_cover_what_the_adapters_import(family: str) -> None:
    pins = families.read_pins(REQUIREMENTS / f"{family}.txt")
    providers = metadata.packages_distributions()
    missing = {
        module: adapter.name
        for adapter in ADAPTERS[family]
        for module in third_party(adapter)
        if not {families.canonical(name) for name in providers.get(module, [])} & set(pins)
    }
    assert not missing, f"add these to {family} in requirements/families.toml: {missing}"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_conda_environment_holds_the_same_pins_inline(family: str) -> None:
    environment = yaml.safe_load((PROJECT / "envs" / f"{family}.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    assert "python=3.11" in environment["dependencies"]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    pins = families.read_pins(REQUIREMENTS / f"{family}.txt")
    assert pip == [f"{name}=={version}" for name, version in pins.items()]


def test_no_committed_file_names_a_package_index() -> None:
    for path in [*REQUIREMENTS.iterdir(), *(PROJECT / "envs").iterdir(), PROJECT / "Makefile"]:
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text()), path.name


def test_a_missing_pin_and_another_version_are_named() -> None:
    lock = families.closure(["pandas"])
    assert families.cut(["pandas"], lock) == lock
    assert {"pandas", "numpy", "python-dateutil"} <= set(lock)
    other = {name: "0" if name == "numpy" else version for name, version in lock.items() if name != "python-dateutil"}
    with pytest.raises(families.UserError, match="no pin of python-dateutil") as error:
        families.cut(["pandas"], other)
    assert any("numpy==0" in message for message in error.value.messages)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_adapters_import_in_an_environment_of_their_family(family: str, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", python.parents[1]], check=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", REQUIREMENTS / f"{family}.txt"], check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)

    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for adapter in ADAPTERS[family]:
        # The import statements alone: the rest of an adapter needs a job of Snakemake. Modules that the library imports
        # only inside functions are imported too.
        tree = ast.parse(adapter.read_text())
        statements = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        late = [f"import {name}" for name in sorted(third_party(adapter))]
        code = "\n".join([f"import sys; sys.path.append({str(SCRIPTS)!r})", *statements, *late])
        done = subprocess.run([python, "-c", code], env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{adapter.name} in {family}: {done.stderr}"
