"""Convolution kernels of CT by vendor, grouped by sharpness.

Vendors name kernels in their own ways and none maps onto another's; the groups follow the vendors' own descriptions of
what a kernel is meant for. Siemens: the two digits rise with sharpness (10 very smooth to 90 ultra sharp), for
filtered back projection (B30f), iterative (I31f 3) and later families (Br40, Hr60, Bl57, Qr44) alike. GE: names.
Philips: letters (A smooth, B standard, C, D sharp, L lung, Y* high resolution, E* edge). Canon/Toshiba: FC and a
number whose tens name the family (0, 1, 4 body; 2 head; 3 inner ear; 5 lung; 8 high resolution) and whose units rise
with sharpness.
"""

from __future__ import annotations

import re

FAMILIES = ("soft", "medium", "sharp")
_GE = {
    "SOFT": "soft", "STANDARD": "medium", "STND": "medium", "DETAIL": "medium", "CHEST": "medium",
    "BONE": "sharp", "BONEPLUS": "sharp", "EDGE": "sharp", "LUNG": "sharp", "ULTRA": "sharp",
}  # fmt: skip
_PHILIPS = {"A": "soft", "B": "soft", "C": "medium", "D": "sharp", "L": "sharp"}
_SIEMENS = re.compile(r"(?:B|I|H|U|D|T|J|Q|S|C|[BHQSTUI][LRFVPCD]?)(\d\d)[A-Z]?")
_CANON = re.compile(r"FC(\d)(\d)")


def family(kernel: str, manufacturer: str = "") -> str:
    """soft, medium or sharp; empty if the kernel is not known."""
    name = re.split(r"[\\/ ]", kernel.strip().upper())[0]
    maker = manufacturer.upper()
    if match := _CANON.fullmatch(name):
        tens, units = int(match[1]), int(match[2])
        return "sharp" if tens in (3, 5, 8) else "soft" if units <= 2 else "medium"
    if name in _GE and not ("SIEMENS" in maker or "PHILIPS" in maker):
        return _GE[name]
    if match := _SIEMENS.fullmatch(name):
        grade = int(match[1])
        return "soft" if grade < 40 else "medium" if grade < 50 else "sharp"
    if "PHILIPS" in maker or len(name) == 1:
        return _PHILIPS.get(name, "sharp" if name[:1] in ("E", "Y") and len(name) == 2 else "")
    return ""


def wanted(kernel: str, manufacturer: str, accepted: tuple[str, ...]) -> bool:
    """Whether a kernel is among names or families; upper and lower case alike."""
    names = {a.upper() for a in accepted}
    first = re.split(r"[\\]", kernel.upper())[0].strip()
    return bool({kernel.upper(), first, family(kernel, manufacturer).upper()} & names)
