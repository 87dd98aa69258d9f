"""The code behind a rule as one hash: its adapter and every library module that it imports, directly or not.

Syntax trees are hashed without comments, docstrings and positions, so that a touch, a comment or a moved project
changes nothing, and an edited function changes exactly its dependants. Other files of an imported package (templates,
style sheets) count by their bytes.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import sys
from collections import deque
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
IGNORED_SUFFIXES = {".py", ".pyc"}
# what files of a content import: level, module, names
Imported = list[tuple[int, str, list[str]]]


def code_hash(adapter: str | Path) -> str:
    """Hash of an adapter script and of the library modules behind it."""
    adapter = Path(adapter)
    modules: set[str] = set()
    todo = list(imports(adapter, PACKAGE.name))
    while todo:
        name = todo.pop()
        if name in modules or (path := module_file(name)) is None:
            continue
        modules.add(name)
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo += [*parents(name), *imports(path, package)]
    digest = hashlib.sha256(tree_hash(adapter).encode())
    for name in sorted(modules):
        path = module_file(name)
        assert path is not None
        digest.update(f"\n{name}\n{tree_hash(path)}".encode())
        if path.name == "__init__.py" and path.parent != PACKAGE:
            for other in data_files(path.parent):
                digest.update(f"\n{name}/{other.relative_to(path.parent)}\n".encode() + other.read_bytes())
    _store().save()
    return digest.hexdigest()[:32]


def data_files(package: Path) -> list[Path]:
    """Files of a package that are no code, those in its folders that are no packages included."""
    found = []
    for path in sorted(package.iterdir()):
        if path.is_dir() and not (path / "__init__.py").exists():
            found += data_files(path)
        elif path.is_file() and path.suffix not in IGNORED_SUFFIXES:
            found.append(path)
    return found


def engine_version(package: str) -> str:
    """The literal ``ENGINE_VERSION`` of a package that trains, read without importing it."""
    source = (PACKAGE / package / "__init__.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        targets = node.targets if isinstance(node, ast.Assign) else [target]
        if any(isinstance(t, ast.Name) and t.id == "ENGINE_VERSION" for t in targets):
            return str(ast.literal_eval(node.value))  # type: ignore[attr-defined]
    raise ValueError(f"polycentric.{package} has no ENGINE_VERSION")


def parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def module_file(module: str) -> Path | None:
    """File of a library module by its dotted name; None if there is no such module (an attribute, say)."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@cache
def imports(path: Path, package: str) -> tuple[str, ...]:
    """Dotted names of the library that a file imports anywhere; a name may turn out to be an attribute."""
    found = []
    for level, module, names in _facts(path)[1]:
        base = package.split(".")[: len(package.split(".")) - level + 1] if level else []
        whole = ".".join([*base, *([module] if module else [])])
        found += [whole, *(f"{whole}.{name}" for name in names)]
    return tuple(sorted({n for n in found if n.split(".")[0] == PACKAGE.name}))


def tree_hash(path: Path) -> str:
    """Hash of a file's syntax tree without comments, docstrings and positions."""
    return _facts(path)[0]


@cache
def _facts(path: Path) -> tuple[str, Imported]:
    """Hash of a file's syntax tree, and what it imports."""
    return _store().of(path.read_bytes())


class _Store:
    """Facts of files by their content, kept beside Python's own compiled files: parsing takes seconds at each start."""

    def __init__(self, path: Path) -> None:
        self.path, self.new = path, False
        try:
            self.known: dict[str, tuple[str, Imported]] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            self.known = {}

    def of(self, source: bytes) -> tuple[str, Imported]:
        key = hashlib.sha256(source).hexdigest()
        if key not in self.known:
            self.known[key], self.new = parsed(source), True
        return self.known[key]

    def save(self) -> None:
        if not self.new:
            return
        self.new = False
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # a folder that must not be written: they are found again at each start
            temporary.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps(self.known))
            temporary.replace(self.path)


@cache
def _store() -> _Store:
    # the text of a tree is another in another Python
    return _Store(PACKAGE / "__pycache__" / f"syntax-{sys.version_info.major}{sys.version_info.minor}.json")


def parsed(source: bytes) -> tuple[str, Imported]:
    """Hash of the syntax tree without comments, docstrings and positions, and what the source imports anywhere."""
    tree = ast.parse(source)
    found: Imported = []
    todo = deque([tree])
    while todo:
        node = todo.popleft()
        todo.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            found += [(0, alias.name, []) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), found
