"""The rule graph in docs/architecture.md, from what `snakemake --rulegraph mermaid-js` prints.

`snakemake --rulegraph mermaid-js | python -m polycentric.tools.graph` writes it.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ..files import write_text

PAGE = Path("docs") / "architecture.md"
BLOCK = re.compile(r"<!-- rulegraph -->.*?<!-- end -->", re.DOTALL)


def edges(mermaid: str) -> list[tuple[str, str]]:
    """Edges between rules, sorted; `all` is left out."""
    names = dict(re.findall(r"^\s*(id\d+)\[([\w ]+)\]", mermaid, re.MULTILINE))
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)", mermaid, re.MULTILINE)
    return sorted({(names[a], names[b]) for a, b in pairs if names[b] != "all"})


def picture(found: list[tuple[str, str]]) -> str:
    """A mermaid picture; edges that a longer way implies are left out, as is what everything feeds: the report."""
    kept = [(a, b) for a, b in found if not _longer_way(found, a, b)]
    lines = "\n".join(f"    {a} --> {b}" for a, b in kept)
    return f"<!-- rulegraph -->\n```mermaid\nflowchart TB\n{lines}\n```\n<!-- end -->"


def _longer_way(found: list[tuple[str, str]], start: str, end: str) -> bool:
    todo = [b for a, b in found if a == start and b != end]
    seen: set[str] = set()
    while todo:
        node = todo.pop()
        if node == end:
            return True
        if node not in seen:
            seen.add(node)
            todo += [b for a, b in found if a == node]
    return False


def page(text: str, mermaid: str) -> str:
    return BLOCK.sub(lambda _: picture(edges(mermaid)), text)


if __name__ == "__main__":
    write_text(PAGE, page(PAGE.read_text(encoding="utf-8"), sys.stdin.read()))
