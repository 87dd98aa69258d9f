"""Write the table of defect codes into docs/curation.md, between its marks.

`python -m polycentric.tools.defects` writes it, `--check` fails if the page drifted from the registry.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..config.codes import CODES
from ..config.curation import PRESETS
from ..files import write_text

PAGE = Path("docs/curation.md")
_STAGES = {"curate": "headers", "convert": "pixels, contours", "cohort": "cohort"}


def codes() -> str:
    """All codes in their order: meaning, level, where they are found, verdict by default, other possible verdicts."""
    lines = ["| code | meaning | level | found in | verdict | or |", "|---|---|---|---|---|---|"]
    for name, code in CODES.items():
        meaning = code.meaning + (" (ends the examination)" if code.final else "")
        others = ", ".join(code.others) or "-"
        lines.append(f"| {name} | {meaning} | {code.level} | {_STAGES[code.stage]} | **{code.default}** | {others} |")
    return "\n".join(lines)


def presets() -> str:
    lines = ["| preset | values |", "|---|---|"]
    for name, values in PRESETS.items():
        shown = "; ".join(f"`{key}: {_shown(value)}`" for key, value in values.items())
        lines.append(f"| `{name}` | {shown} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(str(v) for v in value)}]"
    return "null" if value is None else str(value)


def page(text: str) -> str:
    """The page with its generated parts renewed."""
    for name, table in (("codes", codes()), ("presets", presets())):
        start, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
        head, _, rest = text.partition(start)
        if not rest or end not in rest:
            raise ValueError(f"{PAGE} lacks the marks {start.strip()} and {end.strip()}")
        text = head + start + table + end + rest.partition(end)[2]
    return text


def main(arguments: list[str]) -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if "--check" in arguments:
        if new != old:
            print(f"{PAGE} has drifted; run python -m polycentric.tools.defects")
        return int(new != old)
    write_text(PAGE, new)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
