"""The page that readers open: a folder of static files that works from a USB stick and asks for nothing outside.

The images are raw int16 in base64, uncompressed on purpose: every file has the same length, so that not even the size
tells an acquired image from a synthetic one (smoother images compress better).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..config.readers import ReaderStudy
from ..files import canonical_json, hash_of, sha256_bytes, sha256_file, write_text
from .items import Item

SCHEMA = "rs-answers/1"
QUESTION = "Was this image made by a scanner, or by a computer?"
CHOICES = [
    {"answer": "acquired", "key": "1", "label": "Scanner (acquired)"},
    {"answer": "synthetic", "key": "2", "label": "Computer (synthetic)"},
]


def _study(name: str, settings: ReaderStudy, items: Sequence[Item]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "study": name,
        "question": QUESTION,
        "choices": CHOICES,
        "size": settings.size_px,
        "range": list(settings.range_hu),
        "window": list(settings.window_hu),
        "items": [item.id for item in items],
    }


def build_of(name: str, settings: ReaderStudy, items: Sequence[Item]) -> str:
    """Identity of what readers are shown: changes with any image or question, not with the page's code."""
    return hash_of([_study(name, settings, items), [sha256_bytes(item.pixels.tobytes()) for item in items]])[:16]


def write(folder: Path, name: str, settings: ReaderStudy, items: Sequence[Item], build: str) -> list[Path]:
    """Write the page; remove images of an earlier build. Returns the files in order."""
    written = []
    for file in ("index.html", "app.js", "app.css", "README.txt"):
        text = resources.files(__package__).joinpath("app", file).read_text(encoding="utf-8")
        if file == "index.html":
            scripts = "\n".join(f'<script src="data/{item.id}.js"></script>' for item in items)
            text = text.replace("<!-- images -->", scripts)
        write_text(folder / file, text)
        written.append(folder / file)
    study = canonical_json({**_study(name, settings, items), "build": build})
    write_text(folder / "study.js", f"RS.study({study});\n")
    written.append(folder / "study.js")
    keep = {f"{item.id}.js" for item in items}
    if (folder / "data").exists():
        for old in (folder / "data").iterdir():
            if old.name not in keep:
                old.unlink()
    for item in items:
        path = folder / "data" / f"{item.id}.js"
        write_text(path, f'RS.put("{item.id}","{base64.b64encode(item.pixels.tobytes()).decode()}");\n')
        written.append(path)
    sums = "".join(f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in written)
    write_text(folder / "SHA256SUMS", sums)
    return [*written, folder / "SHA256SUMS"]
