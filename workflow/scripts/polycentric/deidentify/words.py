"""Which text may stay: words of a vocabulary, and short technical names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pydicom.datadict import DicomDictionary, tag_for_keyword

from .identity import Identifiers

_TOKEN = re.compile(r"[A-Za-z0-9.+]+")
_RUN = re.compile(r"[A-Za-z]+|[0-9]+")
_NUMBER = re.compile(r"\d{1,4}(\.\d{1,4})?")
_YEAR = re.compile(r"(19|20)\d\d")
_LONG_DATE = re.compile(r"(?<!\d)(?:19|20)\d\d\D?(?:0[1-9]|1[0-2])\D?[0-3]\d(?!\d)")
# three and more numbers in a row are a date, a telephone number or the like; a date has a year first or last
_NUMBERS = re.compile(r"\d+(?:[\s./:,-]+\d+){2,}")
_DATE = re.compile(r"(?<!\d)(?:(?:19|20)\d\d\D?(?:0?[1-9]|1[0-2])\D?[0-3]?\d|[0-3]?\d\D[0-3]?\d\D(?:19|20)?\d\d)(?!\d)")
_SIEMENS_SEQUENCE = re.compile(r"[a-z]{1,7}[123]d\d?(_?[a-z0-9]{1,4})?")
_PRINTABLE = re.compile(r"[ -~]*")
_LETTERS_OF_A_NAME = 3
_LETTERS_OF_A_CODE = 4
_LENGTH_OF_A_CODE = 7
_DIGITS = 4


@cache
def vocabulary() -> frozenset[str]:
    """The words of ``words.txt`` in lower case, and without accents and with them spelt out."""
    words = _read("words.txt")
    return frozenset(words | {unicodedata.normalize("NFKD", w).encode("ascii", "ignore").decode() for w in words})


def _read(name: str) -> set[str]:
    lines = Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines()
    return {word for line in lines if not line.startswith("#") for word in line.split()}


@cache
def standard_words() -> frozenset[str]:
    """Words of the names of the standard's attributes, and ``terms.txt``: coded values consist of them."""
    names = " ".join(entry[2] for entry in DicomDictionary.values())
    return frozenset(_read("terms.txt") | {word.lower() for word in re.findall(r"[A-Za-z]{2,}", names)})


class Words:
    """The vocabulary with a study's own words."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        self._words = vocabulary() | set(further)
        self._coded = self._words | standard_words()

    def clean(self, text: str, identifiers: Identifiers, *, technical: bool = False) -> str:
        """The text if all of it may stay, else what may stay of it; empty if that is no word.

        A value that holds an identifier of the patient goes as a whole.
        """
        text = text.strip()
        if not _PRINTABLE.fullmatch(text) or identifiers.within(text):
            return ""
        if tag_for_keyword(text) is not None:  # labels of dimensions
            return text
        # versions look like short dates
        stripped = _LONG_DATE.sub(" ", text) if technical else _NUMBERS.sub(" ", _DATE.sub(" ", text))
        tokens = _TOKEN.findall(stripped)
        safe = [t for t in tokens if self._word(t) or (technical and self._technical(t))]
        if stripped == text and len(safe) == len(tokens):
            return text
        if technical or any(len(t) >= _LETTERS_OF_A_NAME and t.lower() in self._words for t in safe):
            return " ".join(safe)
        return ""

    def whole(self, text: str, identifiers: Identifiers) -> bool:
        """Whether all of a descriptor may stay."""
        return self.clean(text, identifiers) == text.strip() != ""

    def coded(self, text: str, identifiers: Identifiers) -> bool:
        """Whether a coded value consists of words of the standard, of the vocabulary, or of short codes."""
        if not _PRINTABLE.fullmatch(text) or _DATE.search(text):
            return False
        known = self._coded
        others = [token for token in re.findall(r"[A-Za-z0-9]+", text) if token.lower() not in known]
        if others and identifiers.within(text):  # a patient called CT costs no object its modality
            return False
        for token in others:
            letters = [run for run in _RUN.findall(token) if run.isalpha()]
            digits = sum(c.isdigit() for c in token)
            short = all(len(r) <= _LETTERS_OF_A_CODE or r.lower() in known for r in letters)
            if not short or digits > _DIGITS + 1 or len(token) > _LENGTH_OF_A_CODE:
                return False
        return True

    def _word(self, token: str) -> bool:
        """A word, a number, or a short mixture of both such as ``3mm``, ``B30f`` or ``GTV1``."""
        token = token.strip(".+")
        if token.lower() in self._words:
            return True
        if _YEAR.fullmatch(token):
            return False
        if _NUMBER.fullmatch(token):
            return True
        runs = _RUN.findall(token)
        digits = sum(len(r) for r in runs if r.isdigit())
        letters = [r for r in runs if r.isalpha()]
        if digits == 0:
            return all(len(r) < _LETTERS_OF_A_NAME or r.lower() in self._words for r in letters)
        known = sum(r.lower() in self._words for r in letters)
        short = all(len(r) <= _LETTERS_OF_A_NAME or r.lower() in self._words for r in letters)
        return short and digits <= _DIGITS and (len(token) <= _LENGTH_OF_A_CODE or known == len(letters))

    def _technical(self, token: str) -> bool:
        """A part of a version, a model or a kernel: short, or numbers between full stops."""
        token = token.strip(".+")
        if _SIEMENS_SEQUENCE.fullmatch(token):
            return True
        parts = [p for p in token.split(".") if p]
        return all(
            len(p) <= _LENGTH_OF_A_CODE
            and all(len(r) <= _LETTERS_OF_A_CODE or r.lower() in self._words for r in _RUN.findall(p) if r.isalpha())
            and all(len(r) <= _DIGITS + 1 for r in _RUN.findall(p) if r.isdigit())
            for p in parts
        )
