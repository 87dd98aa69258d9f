"""Where patches are cut from: volumes on the device, or files mapped into memory. The patches are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..jobs import SILENT, Log

Range = tuple[float, float]
# the other half is for networks and what a step keeps for its gradients
SHARE_OF_FREE = 0.5


class Store:
    """Scans of one domain, each of one volume (z, y, x) per channel, all channels on one grid."""

    def __init__(
        self, scans: Sequence[Sequence[np.ndarray]], ranges: Sequence[Range], device: torch.device, *, resident: bool
    ) -> None:
        """`ranges` maps each channel's values to -1 and 1. Resident volumes are copied to the device here."""
        self.device, self.resident, self.ranges = device, resident, tuple(ranges)
        self.shapes = [scan[0].shape for scan in scans]
        self.scans: list[list[np.ndarray]] | list[list[Tensor]]
        if resident:
            self.scans = [[_tensor(volume).to(device) for volume in scan] for scan in scans]
        else:
            self.scans = [list(scan) for scan in scans]

    def cut(self, number: int, start: Sequence[int], size: Sequence[int]) -> list[Tensor]:
        """A part (z, y, x) of each channel of a scan, as stored: on the device if resident, else a copy on the CPU.

        Nothing of the device is touched for mapped files, so that a thread may cut ahead of time.
        """
        part = tuple(slice(o, o + s) for o, s in zip(start, size, strict=True))
        cuts = []
        for volume in self.scans[number]:
            if isinstance(volume, Tensor):
                cuts.append(volume[part])
            else:
                cut = _tensor(volume[part])
                cuts.append(cut.pin_memory() if self.device.type == "cuda" else cut)
        return cuts

    def scaled(self, cuts: Sequence[Tensor]) -> list[Tensor]:
        """What was cut, on the device, in [-1, 1], float32."""
        moved = (cut.to(self.device, non_blocking=True) for cut in cuts)
        return [scale(cut, interval) for cut, interval in zip(moved, self.ranges, strict=True)]


def scale(values: Tensor, interval: Range) -> Tensor:
    """Clip values to an interval and map it to [-1, 1], float32: bit for bit as `patches.scale` on a CPU."""
    low, high = interval
    middle, half = float(np.float32((low + high) / 2)), float(np.float32((high - low) / 2))
    return values.to(torch.float32, copy=True).clamp_(low, high).sub_(middle).div_(half)


def room(device: torch.device) -> int:
    """Bytes that volumes may take on a device: a share of what is free now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * SHARE_OF_FREE)
    for line in Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else ():
        if line.startswith("MemAvailable:"):
            return int(int(line.split()[1]) * 1024 * SHARE_OF_FREE)
    return 0


def resident(
    wanted: str, domains: Sequence[Sequence[Sequence[np.ndarray]]], device: torch.device, where: str, log: Log = SILENT
) -> bool:
    """Whether volumes go to the device: as `wanted`, or for `auto` on a GPU into which all domains fit.

    On a CPU `auto` maps files into memory: the system keeps in memory what there is room for.

    Raises
    ------
    UserError
        when they are wanted there and do not fit.
    """
    needed = sum(volume.nbytes for scans in domains for scan in scans for volume in scan)
    free = room(device)
    chosen = wanted == "device" or (wanted == "auto" and device.type == "cuda" and needed <= free)
    log.event(
        "store",
        kind="volumes on the device" if chosen else "files mapped into memory",
        volumes_gb=round(needed / 1e9, 3),
        room_gb=round(free / 1e9, 3),
        device=device.type,
    )
    if chosen and needed > free:
        raise UserError(
            f"{where}: engine: store: device needs {needed / 1e9:.1f} GB for all volumes, and {free / 1e9:.1f} GB "
            f"(half of what is free) may be taken there; write store: auto."
        )
    return chosen


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor of a copy of an array; types that torch calculates badly with become wider ones of the same values."""
    kind = array.dtype.newbyteorder("=")
    wider = {"uint16": np.dtype("int32"), "uint32": np.dtype("int64")}.get(kind.name, kind)
    return torch.from_numpy(np.array(array, dtype=wider, order="C", copy=True))
