"""What a DICOM header says about its pixels, and words that are stored as they are."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from ..elements import Elements, tag_of
from ..errors import ScanError
from .decoder import CODE

PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
FLOATS = {"FloatPixelData": np.float32, "DoubleFloatPixelData": np.float64}
# position of a picture in the unused bits, of each group that may have one
OVERLAYS = [group << 16 | 0x0102 for group in range(0x6000, 0x6020, 2)]


@dataclass
class Facts:
    """What the files say about their values, beyond the values."""

    bits: int = 0
    signed: bool = False
    colour: int = 0
    dark_is_high: int = 0
    sign_differs: int = 0
    excess: int = 0
    units: str = ""
    padding: list[int] = field(default_factory=list)

    def add(self, header: Header) -> None:
        self.bits, self.signed = max(self.bits, header.stored), self.signed or header.signed
        self.units = self.units or header.units
        if header.padding is not None:
            self.padding.append(header.padding)


@dataclass(frozen=True)
class Header:
    """Rows, columns, samples and frames of a picture, its bits, and how its values are meant."""

    rows: int
    columns: int
    samples: int
    frames: int
    allocated: int
    stored: int
    high: int
    signed: bool
    syntax: str
    whole: bool
    dark_is_high: bool
    palette: bool
    overlay_bits: bool
    units: str
    padding: int | None

    @staticmethod
    def of(elements: Elements, syntax: str) -> Header:
        """The header of a data set of a transfer syntax.

        Raises
        ------
        ScanError
            TS_UNDECODABLE where no picture can be of that kind.
        """

        def whole(keyword: str, default: int | None = None) -> int:
            values = elements.numbers(tag_of(keyword)) or [default]
            if len(values) != 1 or values[0] is None:
                raise ScanError(CODE, f"the header gives no {keyword}")
            return int(values[0])

        allocated = whole("BitsAllocated")
        stored = whole("BitsStored", 0) or allocated
        photometric = elements.text(tag_of("PhotometricInterpretation"))
        padding = elements.numbers(tag_of("PixelPaddingValue"))
        found = Header(
            rows=whole("Rows"),
            columns=whole("Columns"),
            samples=whole("SamplesPerPixel", 0) or 1,
            frames=whole("NumberOfFrames", 0) or 1,
            allocated=allocated,
            stored=stored,
            high=whole("HighBit", stored - 1),
            signed=whole("PixelRepresentation", 0) == 1,
            syntax=syntax,
            whole=not any(tag_of(keyword) in elements for keyword in FLOATS),
            dark_is_high=photometric == "MONOCHROME1",
            # colours of a scintigram or PET are for display; its stored values are what was counted
            palette=photometric == "PALETTE COLOR" and elements.text(tag_of("Modality")) not in ("NM", "PT"),
            overlay_bits=stored < allocated and any(any(elements.numbers(tag)) for tag in OVERLAYS),
            units=elements.text(tag_of("Units")),
            padding=int(padding[0]) if len(padding) == 1 and padding[0] is not None else None,
        )
        if not (found.rows > 0 and found.columns > 0 and 0 < found.stored <= found.allocated <= 64):
            raise ScanError(CODE, "the header gives no possible size of its pixels")
        return found

    @property
    def plain(self) -> bool:
        """Whether the pixels are words of two or four bytes, one after the other."""
        return self.whole and self.samples == 1 and self.allocated in (16, 32) and self.syntax in PLAIN

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(f"{'i' if self.signed else 'u'}{self.allocated // 8}")

    @property
    def bytes(self) -> int:
        return self.rows * self.columns * self.allocated // 8


def start_of_pixels(stream: BinaryIO, header: Header) -> int:
    """Where the pixels begin, their element being the next of the stream; -1 if they do not lie there."""
    order = ">" if header.syntax == ExplicitVRBigEndian else "<"
    element = stream.read(12)
    if len(element) < 12 or struct.unpack(order + "HH", element[:4]) != (0x7FE0, 0x0010):
        return -1
    if header.syntax == ImplicitVRLittleEndian:
        length, start = struct.unpack("<I", element[4:8])[0], stream.tell() - 4
    elif element[4:6] in (b"OW", b"OB"):
        length, start = struct.unpack(order + "I", element[8:12])[0], stream.tell()
    else:
        return -1
    return start if length != 0xFFFFFFFF else -1


def read_words(stream: BinaryIO, start: int, plane: np.ndarray, header: Header, number: int) -> None:
    """Fill `plane` with the words of the stream from `start` on.

    Raises
    ------
    ScanError
        TS_UNDECODABLE if slice `number` is cut off.
    """
    stream.seek(start)
    view = memoryview(plane).cast("B")
    while view:  # members of archives come in pieces
        got = stream.readinto(view)  # type: ignore[attr-defined]
        if not got:
            raise ScanError(CODE, f"slice {number} is cut off")
        view = view[got:]
    if header.syntax == ExplicitVRBigEndian:
        plane.byteswap(inplace=True)


def settled(plane: np.ndarray, header: Header, facts: Facts, keep_dark: bool) -> np.ndarray:
    """The values of a grey plane of stored words, turned over where high ones are dark unless `keep_dark`."""
    plane = tidy(plane, header, facts)
    if not header.dark_is_high:
        return plane
    facts.dark_is_high += 1
    if keep_dark:
        return plane
    low = -(2 ** (header.stored - 1)) if header.signed else 0
    return (2 * low + 2**header.stored - 1 - plane.astype(np.int64)).astype(plane.dtype)


def tidy(plane: np.ndarray, header: Header, facts: Facts) -> np.ndarray:
    """Take the stored bits out of their words and extend the sign, where the words hold anything else beside them."""
    bits, above = header.stored, header.high + 1 - header.stored
    if bits >= 8 * plane.dtype.itemsize or plane.dtype.kind not in "iu":
        return plane
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.signed else (0, 2**bits - 1)
    smallest, largest = int(plane.min()), int(plane.max())
    if smallest >= low and largest <= high and above <= 0:
        return plane
    words = plane.astype(np.int64)
    if above > 0:
        words >>= above
    elif not header.overlay_bits and (smallest < low or largest >= 2**bits):
        facts.excess += 1  # more bits than declared: the values stay, since cutting them off would fold them
        return plane
    words &= 2**bits - 1
    if header.signed:
        words -= (words >> (bits - 1)) << bits
    return words.astype(plane.dtype)
