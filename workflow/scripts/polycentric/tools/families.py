"""Cut the lock into one requirement file and one conda environment per family of rules.

    python -m polycentric.tools.families            write requirements/<family>.txt and envs/<family>.yaml
    python -m polycentric.tools.families --check    exit 1 if they, or the lock, drifted from families.toml
    python -m polycentric.tools.families --lock     first pin in lock.txt and test.txt what is installed here

`requirements/families.toml` says what each family needs directly. The rest is found by walking the requirements of
the installed distributions, so it runs in the environment that the lock describes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from ..errors import UserError

PROJECT = Path(__file__).parents[4]

# Accelerator libraries that torch itself pins exactly; which of them are there depends on the machine's build.
ACCELERATOR = re.compile(r"^(nvidia-.*|triton|cuda-.*|pytorch-triton.*)$")

LOCK_HEAD = """\
# Everything that the default run needs, pinned. Made by: python -m polycentric.tools.families --lock
# torch stands without a build tag: the index or wheel that pip is pointed to decides between CPU and CUDA builds.
"""
TEST_HEAD = """\
# What tests need on top of the run, pinned. Made by: python -m polycentric.tools.families --lock
-r lock.txt
"""
FAMILY_HEAD = "# Cut from lock.txt for the rules of this family. Made by: python -m polycentric.tools.families\n"
ENV_HEAD = """\
# Cut from requirements/lock.txt for the rules of this family. Made by: python -m polycentric.tools.families
# Pins stand here and not behind `-r`: Snakemake copies and hashes this file alone.
"""


def canonical(name: str) -> str:
    """Normal form of a distribution's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def public(version: str) -> str:
    """Version without its local build tag: 2.13.0+cpu is 2.13.0."""
    return version.partition("+")[0]


def closure(direct: Iterable[str]) -> dict[str, str]:
    """Installed versions of the requirements and of everything they need here, by canonical name.

    Raises
    ------
    UserError
        when one of them is not installed.
    """
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(text), "") for text in direct]
    while todo:
        requirement, parent = todo.pop()
        name = canonical(requirement.name)
        if ACCELERATOR.match(name):
            continue
        wanted = {(name, extra) for extra in ("", *requirement.extras)} - seen
        if not wanted:
            continue
        seen |= wanted
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            by = f", which {parent} needs," if parent else ""
            raise UserError(f"{name}{by} is not installed here; run make install (or pip install {name})") from None
        found[name] = public(distribution.version)
        needs = [Requirement(text) for text in distribution.requires or []]
        for need in needs:
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for _, extra in wanted):
                todo.append((need, name))
    return found


def read_pins(path: Path) -> dict[str, str]:
    """Pins `name==version` of a requirement file, by canonical name."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if (text := line.partition("#")[0].strip()) and not text.startswith("-"):
            name, separator, version = text.partition("==")
            if not separator:
                raise UserError(f"{path.name}: '{text}' is no exact pin; write {text}==VERSION")
            pins[canonical(name)] = version.strip()
    return pins


def cut(direct: Iterable[str], lock: Mapping[str, str]) -> dict[str, str]:
    """The lock's pins for some direct requirements and everything behind them.

    Raises
    ------
    UserError
        when the lock lacks one of them, or another version is installed here.
    """
    pins, problems = {}, []
    for name, version in sorted(closure(direct).items()):
        if name not in lock:
            problems.append(f"requirements/lock.txt has no pin of {name}; run make lock")
        elif lock[name] != version:
            problems.append(f"requirements/lock.txt pins {name}=={lock[name]}, installed is {version}")
        else:
            pins[name] = lock[name]
    if problems:
        raise UserError(*problems)
    return pins


def lines(pins: Mapping[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def environment(name: str, pins: Mapping[str, str], python: str) -> str:
    """Conda environment of a family, as YAML."""
    return (
        f"{ENV_HEAD}name: polycentric-{name}\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n"
        f"  - python={python}\n  - pip\n  - pip:\n" + "".join(f"      - {line}\n" for line in lines(pins).splitlines())
    )


def generate(project: Path, *, relock: bool = False, python: str = "3.11") -> dict[Path, str]:
    """All generated files and what they should hold."""
    folder = project / "requirements"
    settings = tomllib.loads((folder / "families.toml").read_text(encoding="utf-8"))
    families: dict[str, list[str]] = settings["families"]
    run = [*settings["run"], *(name for family in families.values() for name in family)]
    files = {}
    if relock:
        lock = closure(run)
        tests = {name: version for name, version in closure(settings["test"]).items() if name not in lock}
        files[folder / "test.txt"] = TEST_HEAD + lines(tests)
    else:
        lock = cut(run, read_pins(folder / "lock.txt"))
    files[folder / "lock.txt"] = LOCK_HEAD + lines(lock)
    for name, direct in families.items():
        pins = cut(direct, lock)
        files[folder / f"{name}.txt"] = FAMILY_HEAD + lines(pins)
        files[project / "envs" / f"{name}.yaml"] = environment(name, pins, python)
    return files


def drift(project: Path) -> list[str]:
    """Generated files that are not what they should be, relative to the project."""
    return sorted(
        str(path.relative_to(project))
        for path, text in generate(project).items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m polycentric.tools.families", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file drifted")
    mode.add_argument("--lock", action="store_true", help="pin what is installed here in lock.txt and test.txt first")
    parser.add_argument("--project", type=Path, default=PROJECT, help="folder of the project")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            if files := drift(options.project):
                print(f"Drifted: {', '.join(files)}. Run: make families", file=sys.stderr)
                return 1
            return 0
        for path, text in generate(options.project, relock=options.lock).items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except UserError as error:
        print("\n".join(error.messages), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
