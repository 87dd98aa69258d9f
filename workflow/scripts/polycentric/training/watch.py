"""What goes wrong in a training without ending it: mode collapse, discriminators that win, generators that break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

COARSE = 4  # cells along each axis by whose means patches are compared
LEAST_PATCHES = 8  # fewer say nothing of how much patches vary
COLLAPSED = 0.1  # share of the real patches' standard deviation
COLLAPSED_ROWS = 3
WON = 0.02  # share of the loss of a discriminator that cannot tell
WON_ROWS = 5
BROKEN = 0.5  # mean absolute change, in [-1, 1], of images that a generator shall leave alone
BROKEN_ROWS = 3
WARM_UP = 0.1  # share of the training in which networks may still be anything


class Variety:
    """How much synthetic patches differ from each other, compared with real ones of the same domain.

    Each patch (channels, [z,] y, x) becomes the means of a coarse grid of cells. Over the patches since the last row of
    the history the variance of each cell is summed; the ratio of the square roots of synthetic to real is 1 where the
    synthetic patches vary as the real ones do and falls to 0 for a generator that gives the same for every input (mode
    collapse, Goodfellow 2016, arXiv 1701.00160, section 5.1.1).
    """

    def __init__(self, channels: int, dimensions: int, device: torch.device) -> None:
        size = channels * COARSE**dimensions
        # synthetic and real; sums and sums of squares; float64, since variances are differences of these
        self.sums = torch.zeros(2, 2, size, dtype=torch.float64, device=device)
        self.count = 0

    @staticmethod
    def coarse(patches: Tensor) -> Tensor:
        """Means of the cells, (patches, cells)."""
        pool = functional.adaptive_avg_pool2d if patches.ndim == 4 else functional.adaptive_avg_pool3d
        return pool(patches.detach().float(), COARSE).flatten(1).double()

    def add(self, synthetic: Tensor, real: Tensor) -> None:
        """Note the cells of as many synthetic as real patches."""
        for number, cells in enumerate((synthetic, real)):
            self.sums[number, 0] += cells.sum(0)
            self.sums[number, 1] += cells.square().sum(0)
        self.count += len(real)

    def take(self) -> float | None:
        """The ratio since the last call, None for too few patches; begins anew if there were enough."""
        if self.count < LEAST_PATCHES:
            return None
        mean, square = (self.sums / self.count).unbind(1)
        synthetic, real = (square - mean.square()).clamp_min(0).sum(1).sqrt().tolist()
        self.sums.zero_()
        self.count = 0
        return round(synthetic / real, 6) if real > 0 else None


@dataclass(frozen=True)
class Watch:
    """Rules by which a row of the history gets warnings.

    `variety` names columns with ratios of variety, `judges` gives for the loss of each discriminator what one has that
    cannot tell real from synthetic, `identities` names identity losses; `iterations` is how long the training is meant
    to be.
    """

    variety: Sequence[str]
    judges: Mapping[str, float]
    iterations: int
    identities: Sequence[str] = ()

    def warnings(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Warnings of the last of the rows, as names of columns."""
        rows = [row for row in rows if row["iteration"] > WARM_UP * self.iterations]
        found = []
        for column in self.variety:
            known = [row[column] for row in rows if row[column] is not None][-COLLAPSED_ROWS:]
            if len(known) == COLLAPSED_ROWS and max(known) < COLLAPSED:
                found.append(column)
        for column, chance in self.judges.items():
            recent = [row[column] for row in rows][-WON_ROWS:]
            if len(recent) == WON_ROWS and max(recent) < WON * chance:
                found.append(column)
        for column in self.identities:
            recent = [row[column] for row in rows][-BROKEN_ROWS:]
            if len(recent) == BROKEN_ROWS and min(recent) > BROKEN:
                found.append(column)
        return found


def sentence(column: str) -> str:
    """What a warning means."""
    name = column.replace("_", " ")
    if column.startswith("variety"):
        return (
            f"{name}: synthetic patches differ from each other less than {COLLAPSED:.0%} of what real ones do (mode "
            f"collapse); train with a lower learning_rate or a larger weight of the cycle, and do not use these images."
        )
    if column.startswith("identity"):
        return (
            f"{name}: this generator spoils images that it shall leave alone (by more than a quarter of the range on "
            f"average): it broke down; train with a lower learning_rate, a gradient_limit, or generator: "
            f"{{tanh: false}}, and do not use these images."
        )
    return (
        f"{name}: this discriminator has been right about all patches for {WON_ROWS} rows (below {WON:.0%} of the loss "
        f"by chance), so that its generator learns little; a smaller discriminator or a lower learning_rate may help."
    )


def told(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each warning of a history once: its column, the iteration of its first row and of its last, a sentence."""
    first: dict[str, dict[str, Any]] = {}
    for row in history:
        for column in filter(None, row.get("warnings", "").split(";")):
            entry = {"column": column, "first": row["iteration"], "text": sentence(column)}
            first.setdefault(column, entry)["last"] = row["iteration"]
    return list(first.values())
