"""The participant flow as SVG: one column per centre, every exclusion with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from textwrap import wrap

import pandas as pd

WIDTH, GAP, LINE, PAD = 218, 22, 16, 9
PER_ROW = 4


@dataclass(frozen=True)
class Box:
    """A box of the flow: what is counted, and for exclusions the reasons with their counts."""

    name: str
    scans: int
    patients: int
    reasons: tuple[tuple[str, int], ...] = ()

    @property
    def aside(self) -> bool:
        """Whether the box stands beside the way of the data: exclusions, other files, patients without scans."""
        return bool(self.reasons) or self.name.startswith("files ") or not self.scans

    @property
    def title(self) -> list[str]:
        return wrap(self.name, 22)

    @property
    def height(self) -> int:
        return 2 * PAD + LINE * (len(self.title) + (len(self.reasons) if self.aside else 1))


def boxes(rows: pd.DataFrame) -> list[Box]:
    """Boxes of one centre (or of the sum over centres) in order; rows with a code are joined into one box each step."""
    result: list[Box] = []
    rows = rows.sort_values(["step", "box", "code"], kind="stable")
    for (_, name), group in rows.groupby(["step", "box"], sort=False):
        coded = group[group["code"] != ""]
        reasons = coded.groupby("code", sort=True)["scans"].sum()
        scans, patients = int(group["scans"].sum()), int(group["patients"].sum())
        listed = tuple((str(c), int(n)) for c, n in reasons.items() if n)
        if not scans and (len(coded) or not patients):
            continue
        result.append(Box(str(name), scans, patients, listed))
    return result


def check(rows: pd.DataFrame) -> list[str]:
    """Where the numbers do not add up: what went in, less what was excluded, must be what went on."""
    problems = []
    for centre, group in rows.groupby("centre", sort=True):
        chain = boxes(group)
        # files become candidates, several to one; scans with contours are a part of those before
        kept = [k for k, b in enumerate(chain) if not b.aside and b.name != "files" and not b.name.endswith("contours")]
        for here, after in pairwise([*kept, None]):
            assert here is not None
            excluded = [b for b in chain[here + 1 : after] if b.reasons]
            if after is None and not excluded:
                continue
            before, left = chain[here], chain[after].scans if after is not None else 0
            if before.scans - sum(b.scans for b in excluded) != left:
                out = " and ".join(f"{b.scans} {b.name}" for b in excluded) or "nothing"
                name = chain[after].name if after is not None else "scans"
                problems.append(f"{centre}: {before.scans} {before.name} less {out} are not {left} {name}.")
    return problems


def draw(rows: pd.DataFrame, roles: dict[str, str]) -> str:
    """SVG of the flow: the sum first, then every centre; text is real text, the page brings the font."""
    centres = sorted(rows["centre"].unique(), key=lambda c: (roles.get(c, "") == "external", c))
    columns = [(c, f"{c} ({roles[c]})" if c in roles else c, boxes(rows[rows["centre"] == c])) for c in centres]
    if len(centres) > 1:
        columns.insert(0, ("", "all centres", boxes(rows)))
    parts: list[str] = []
    top = 0
    for start in range(0, len(columns), PER_ROW):
        band = columns[start : start + PER_ROW]
        # boxes of one name stand at one height in all columns of the band
        names: list[str] = []
        for _, _, chain in band:
            for index, box in enumerate(chain):
                if box.name not in names:
                    before = [b.name for b in chain[:index]]
                    names.insert(max((names.index(n) + 1 for n in before if n in names), default=0), box.name)
        heights = {n: max(box.height for _, _, chain in band for box in chain if box.name == n) for n in names}
        offset, y = {}, top + 34
        for n in names:
            offset[n] = y
            y += heights[n] + 18
        for k, (_, title, chain) in enumerate(band):
            x = k * (WIDTH + GAP)
            parts.append(f'<text class="head" x="{x + WIDTH / 2}" y="{top + 18}">{escape(title)}</text>')
            main = [b for b in chain if not b.aside]
            for a, b in pairwise(main):
                y1, y2 = offset[a.name] + a.height, offset[b.name]
                parts.append(f'<path class="arrow" d="M{x + 14} {y1}V{y2 - 5}m-4 -5l4 6l4 -6"/>')
            last = chain.index(main[-1]) if main else 0
            for index, box in enumerate(chain):
                parts.append(_box(box, x, offset[box.name], arrow=index < last))
        top = y + 8
    width = min(len(columns), PER_ROW) * (WIDTH + GAP) - GAP
    description = "; ".join(
        f"{title}: " + ", ".join(f"{b.scans or b.patients} {b.name}" for b in chain) for _, title, chain in columns
    )
    return (
        f'<svg class="flow" role="img" aria-labelledby="flow-title flow-text" viewBox="-1 0 {width + 2} {top}" '
        f'width="{width + 2}" xmlns="http://www.w3.org/2000/svg"><title id="flow-title">Participant flow</title>'
        f'<desc id="flow-text">{escape(description)}</desc>' + "".join(parts) + "</svg>"
    )


def _box(box: Box, x: int, y: int, *, arrow: bool) -> str:
    left = x + (30 if box.aside else 0)
    right, base = x + WIDTH - 10, y + PAD + 12
    kind = "out" if box.aside else "in"
    parts = [f'<rect class="{kind}" x="{left}" y="{y}" width="{x + WIDTH - left}" height="{box.height}" rx="4"/>']

    def write(line: int, text: str, style: str, at: int = left + 10) -> None:
        parts.append(f'<text class="{style}" x="{at}" y="{base + line * LINE}">{escape(text)}</text>')

    for number, text in enumerate(box.title):
        write(number, text, "name")
    if box.aside:
        write(0, str(box.scans or box.patients), "count", right)
        for number, (code, count) in enumerate(box.reasons, start=len(box.title)):
            write(number, code if len(code) <= 24 else code[:23] + "…", "code")
            write(number, str(count), "code count", right)
        if arrow:
            parts.append(f'<path class="arrow" d="M{x + 14} {y + box.height / 2}H{left - 5}m-5 -4l6 4l-6 4"/>')
    else:
        patients = f" · {box.patients} patients" if box.patients else ""
        write(len(box.title), f"{box.scans} {'files' if box.name == 'files' else 'scans'}{patients}", "number")
    return "".join(parts)
