"""The participant flow as SVG: one column per centre, every exclusion with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from itertools import pairwise
from textwrap import wrap

import pandas as pd

WIDTH, GAP, LINE, PAD = 218, 22, 16, 9
PER_ROW = 4
CODE_LENGTH = 28
# the way of the data, whose boxes are drawn even when nothing is left; between them stands what was excluded
TRUNK = ("candidates", "accepted", "with a volume")
OUTLINED = "with outlines"  # lists its mask sources, which overlap


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
        if self.name in (*TRUNK, OUTLINED):
            return False
        return bool(self.reasons) or self.name.startswith("files ") or not self.scans

    @property
    def title(self) -> list[str]:
        return wrap(self.name, 22)

    @property
    def height(self) -> int:
        # an aside has its count beside its title
        return 2 * PAD + LINE * (len(self.title) + len(self.reasons) + (not self.aside))


def boxes(rows: pd.DataFrame) -> list[Box]:
    """Boxes of one centre (or of the sum over centres) in order; rows with a code are joined into one box each step.

    A box counts its rows without a code, or else the sum of those with one.
    """
    result: list[Box] = []
    rows = rows.sort_values(["step", "box", "code"], kind="stable")
    for (_, name), group in rows.groupby(["step", "box"], sort=False):
        coded = group[group["code"] != ""]
        reasons = coded.groupby("code", sort=True)["scans"].sum()
        counted = group[group["code"] == ""] if (group["code"] == "").any() else coded
        scans, patients = int(counted["scans"].sum()), int(counted["patients"].sum())
        listed = tuple((str(c), int(n)) for c, n in reasons.items() if n)
        if name not in TRUNK and not scans and (len(coded) or not patients):
            continue
        result.append(Box(str(name), scans, patients, listed))
    return result


def with_outlines(steps: pd.DataFrame, masks: pd.DataFrame) -> pd.DataFrame:
    """The flow table with how many scans have masks, of each source, where it said how many have contours.

    Parameters
    ----------
    steps
        table of schema `FLOW`.
    masks
        manifests of all shards and sources (schema `MASKS`).
    """
    steps = steps.assign(step=steps["step"] * 10)
    if masks.empty:
        return steps
    last = steps.loc[steps["box"].isin(TRUNK), "step"].max()
    steps = steps[~steps["box"].str.endswith("contours") | (steps["step"] < last)]
    rows = []
    good = masks[masks["status"] == "ok"]
    for centre in sorted(steps["centre"].unique()):
        own = good[good["centre"] == centre]
        for source in ("", *sorted(masks["source"].unique())):
            part = own[own["source"] == source] if source else own
            counts = {"patients": part["patient"].nunique(), "scans": part["scan"].nunique()}
            rows.append({"centre": centre, "step": last + 1, "box": OUTLINED, "code": source} | counts)
    return pd.concat([steps, pd.DataFrame(rows)], ignore_index=True)


def check(rows: pd.DataFrame) -> list[str]:
    """Where the numbers do not add up: what went in, less what was excluded, must be what went on."""
    problems = []
    for centre, group in rows.groupby("centre", sort=True):
        chain = boxes(group)
        at = {box.name: number for number, box in enumerate(chain)}
        trunk = [name for name in TRUNK if name in at]
        for one, other in pairwise(trunk):
            before, after = chain[at[one]], chain[at[other]]
            between = [box for box in chain[at[one] + 1 : at[other]] if box.reasons]
            excluded = sum(box.scans for box in between)
            if before.scans - excluded != after.scans:
                names = " and ".join(box.name for box in between) or "excluded"
                problems.append(
                    f"{centre}: {before.scans} {one} less {excluded} {names} are not {after.scans} {other}."
                )
    return problems


def page_style(css: str) -> str:
    """The rules for the drawing out of the page's style sheet, for a drawing that stands alone."""
    return "\n".join(line for line in css.splitlines() if line.startswith(("svg.flow", ".flow")))


def draw(rows: pd.DataFrame, roles: dict[str, str], style: str = "") -> str:
    """SVG of the flow: the sum first, then every centre; text is real text, the page brings the font, or `style`."""
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
        + (f"<style>{style}</style>" if style else "")
        + f'<desc id="flow-text">{escape(description)}</desc>'
        + "".join(parts)
        + "</svg>"
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
    for number, (code, count) in enumerate(box.reasons, start=len(box.title) + (not box.aside)):
        write(number, code if len(code) <= CODE_LENGTH else code[: CODE_LENGTH - 1] + "…", "code")
        write(number, str(count), "code count", right)
    if box.aside:
        write(0, str(box.scans or box.patients), "count", right)
        if arrow:
            parts.append(f'<path class="arrow" d="M{x + 14} {y + box.height / 2}H{left - 5}m-5 -4l6 4l-6 4"/>')
    else:
        patients = f" · {box.patients} patients" if box.patients else ""
        write(len(box.title), f"{box.scans} {'files' if box.name == 'files' else 'scans'}{patients}", "number")
    return "".join(parts)
