"""Read slices of plain words straight to where they belong: nothing is decoded, so nothing needs to be isolated."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..elements import Irregular, read_plain
from ..errors import ScanError
from ..sources import SEPARATOR, Refused, open_file
from .header import Facts, Header, read_words, settled, start_of_pixels
from .stack import Plane, Slots, Stack


def read(
    planes: Sequence[Plane], folder: Path, matrix: tuple[int, int], *, smaller: bool, keep_dark: bool
) -> Stack | None:
    """Stored values of the slices, as `decode` has them; None if not all are plain and whole: decoders tell why.

    Parameters
    ----------
    matrix
        rows and columns of a slice, or the most of them if `smaller`.

    Raises
    ------
    OSError
        If a file is gone.
    """
    slots, facts = Slots(len(planes)), Facts()
    wanted: dict[str, list[int]] = {}
    for number, plane in enumerate(planes):
        if plane.image or SEPARATOR in plane.path:
            return None
        wanted.setdefault(plane.path, []).append(number)
    for path, numbers in wanted.items():
        try:
            with open_file(folder, path) as stream:
                size = os.fstat(stream.fileno()).st_size
                one = read_plain(stream, size)
                header = Header.of(one.elements, one.syntax)
                shape = header.rows, header.columns
                fits = shape[0] <= matrix[0] and shape[1] <= matrix[1] if smaller else shape == matrix
                stream.seek(one.end)
                start = start_of_pixels(stream, header) if header.plain and not header.palette and fits else -1
                last = max(planes[n].frame for n in numbers)
                if start < 0 or last >= header.frames or start + (last + 1) * header.bytes > size:
                    return None
                facts.add(header)
                for number in numbers:
                    room = slots.room(number, shape, header.dtype)
                    read_words(stream, start + planes[number].frame * header.bytes, room, header, number)
                    if (plane := settled(room, header, facts, keep_dark)) is not room:
                        room[...] = plane
        except (Irregular, Refused, ScanError):
            return None
    slots.settle()
    facts.padding = sorted(set(facts.padding))
    return None if slots.array is None else Stack(slots.array, facts)
