"""The code behind a rule as one hash: its adapter and every library module that it imports, directly or not.

Syntax trees are hashed without comments, docstrings and positions, so that a touch, a comment or a moved project
changes nothing, and an edited function changes exactly its dependants. Other files of an imported package (templates,
style sheets) count by their bytes.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
IGNORED_SUFFIXES = {".py", ".pyc"}


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
    digest = hashlib.sha256(tree_text(adapter).encode())
    for name in sorted(modules):
        path = module_file(name)
        assert path is not None
        digest.update(f"\n{name}\n{tree_text(path)}".encode())
        if path.name == "__init__.py" and path.parent != PACKAGE:
            for other in data_files(path.parent):
                digest.update(f"\n{name}/{other.relative_to(path.parent)}\n".encode() + other.read_bytes())
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
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path, package: str) -> tuple[str, ...]:
    """Dotted names of the library that a file imports anywhere; a name may turn out to be an attribute."""
    found = []
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found += [module, *(f"{module}.{alias.name}" for alias in node.names)]
    return tuple(sorted({n for n in found if n.split(".")[0] == PACKAGE.name}))


@cache
def tree_text(path: Path) -> str:
    """The syntax tree without comments, docstrings and positions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:]
    return ast.dump(tree)
