"""The keyed maps of identifiers, and the identifiers that must not survive."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

from pydicom.uid import UID_dictionary

_SOP_CLASS = re.compile(r"1\.2\.840\.10008\.5\.1\.4(\.\d{1,4}){1,8}")
_DATE = re.compile(r"(\d{4})(\.?)(\d\d)\2(\d\d)")
_DATETIME = re.compile(r"(\d{8})(\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?([+-]\d{4})?")
SHORTEST_PHRASE = 4
SEARCHED_PHRASE = 8
_SHORTEST_PLAIN = 6
_LONGEST_PHRASE = 64
_SHORTEST_NAME = 2


@dataclass(frozen=True)
class Key:
    """The secret behind the maps of a study, derived from the key of its pseudonyms."""

    secret: bytes

    @classmethod
    def of(cls, salt: bytes) -> Key:
        return cls(hmac.new(salt, b"polycentric shareable copy", hashlib.sha256).digest())

    def digest(self, kind: str, value: str) -> bytes:
        text = f"{kind}\x1f{value}".encode(errors="surrogateescape")
        return hmac.new(self.secret, text, hashlib.sha256).digest()

    def uid(self, original: str) -> str:
        """The same UID for the same original in all objects: HMAC-SHA256 as a UUID below 2.25 (PS3.5, B.2)."""
        return _uid(self, original)

    def days(self, patient: str, low: int, high: int) -> int:
        """Days by which the dates of a patient move into the past."""
        return low + int.from_bytes(self.digest("days", patient)[:8], "big") % (high - low + 1)

    def device(self, original: str) -> str:
        return "D-" + base64.b32encode(self.digest("device", original))[:10].decode()


@lru_cache(maxsize=200_000)
def _uid(key: Key, original: str) -> str:
    return f"2.25.{UUID(bytes=key.digest('uid', original)[:16], version=4).int}"


def registered(uid: str) -> bool:
    """Whether a UID is one of the standard's registry (classes, syntaxes, coding schemes), which identifies nothing."""
    return uid in UID_dictionary or _SOP_CLASS.fullmatch(uid) is not None


def shift_date(text: str, days: int) -> str:
    """A date moved into the past by `days`; empty if it is no complete date."""
    match = _DATE.fullmatch(text)
    return "" if match is None else _shifted("".join(match.group(1, 3, 4)), days)


def shift_datetime(text: str, days: int) -> str:
    match = _DATETIME.fullmatch(text)
    if match is None or not (date := _shifted(match[1], days)):
        return ""
    return date + (match[2] or "") + (match[3] or "")


def _shifted(text: str, days: int) -> str:
    try:
        moved = datetime.strptime(text, "%Y%m%d") - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"


@dataclass
class Identifiers:
    """What names a patient or someone around: whole values, these without anything but letters and digits, parts of
    names, and the bytes to be searched for."""

    phrases: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    needles: set[bytes] = field(default_factory=set)

    def add(self, raw: bytes, *, name: bool = False) -> None:
        """Learn a value as it stands in the file; of names also each part."""
        raw = raw.strip(b" \0")
        text = raw.decode("utf-8", errors="replace").casefold()
        if len(text) > _LONGEST_PHRASE:
            return
        if len(text) >= SHORTEST_PHRASE:
            self.phrases.add(text)
            if len(bare := _plain(text)) >= _SHORTEST_PLAIN:
                self.plain.add(bare)
        if len(raw) >= SEARCHED_PHRASE:
            self.needles |= _spellings(raw)
        if name:
            for part in re.split(r"[\s^=,.;_-]+", text):
                if len(part) >= _SHORTEST_NAME:
                    self.names.add(part)
                if len(part) >= SEARCHED_PHRASE:
                    self.needles |= _spellings(part.encode())

    def merged(self, others: Iterable[Identifiers]) -> Identifiers:
        every = [self, *others]
        return Identifiers(
            set().union(*(o.phrases for o in every)),
            set().union(*(o.plain for o in every)),
            set().union(*(o.names for o in every)),
            set().union(*(o.needles for o in every)),
        )

    def within(self, text: str) -> bool:
        """Whether a text holds an identifier, however it is spaced or cased."""
        if not (self.phrases or self.names):
            return False
        folded = text.casefold()
        if any(phrase in folded for phrase in self.phrases):
            return True
        if self.names.intersection(re.findall(r"[^\W\d_]+|\d+", folded)):
            return True
        bare = _plain(folded)
        return any(phrase in bare for phrase in self.plain)

    def left_in(self, data: bytes) -> bool:
        """Whether the bytes of a file hold an identifier of eight or more characters, as ASCII, UTF-8 or UTF-16.

        Numbers count as a whole only: coordinates of contours hold any eight digits sooner or later.
        """
        folded = data.lower()
        for needle in self.needles:
            at = folded.find(needle)
            while at >= 0:
                if not needle.isdigit():
                    return True
                around = folded[max(at - 1, 0) : at] + folded[at + len(needle) : at + len(needle) + 1]
                if not any(c in b"0123456789." for c in around):
                    return True
                at = folded.find(needle, at + 1)
        return False


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum())


def _spellings(raw: bytes) -> set[bytes]:
    """The bytes in lower case (of ASCII letters) in the encodings in which they may stand in a file."""
    found = {raw.lower()}
    for encoding in ("utf-8", "latin-1"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        found |= {text.encode(other).lower() for other in ("utf-16-le", "utf-16-be")}
        break
    return found
