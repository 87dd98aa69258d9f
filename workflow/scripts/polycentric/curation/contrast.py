"""What tags and words say about contrast agent and dose, in the languages of hospitals."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd


def _words(*patterns: str) -> re.Pattern[str]:
    """Any of the patterns, not within a longer word."""
    return re.compile(rf"(?<![a-zà-ÿ])({'|'.join(patterns)})(?![a-zà-ÿ])", re.IGNORECASE)


_NO_AGENT = re.compile(
    r"^\W*(no|none|non|not|without|w/?o|n/?a|nil|0|nativ\w*|ohne|sans|sin|sem|senza|geen|zonder|blanco)\b",
    re.IGNORECASE,
)
_WITHOUT = _words(
    r"without(\s+(iv|contrast|gad\w*|agent|injection))*",
    r"w/o(\s*(iv|contrast|c))*", r"wo(\s+contrast|\s+iv)", r"no(n|t)?[-\s]*(iv\s+)?(contrast\w*|enhanced|c|ce)",
    r"no\s+iv", r"un-?enhanced", r"pre-?\s?(contrast|gad\w*|gd|km|injection|c)", r"iv-", r"c-(?!\d)",
    r"nativ\w*", r"ohne(\s+(iv|km|kontrast\w*))*", r"o\.?\s?km", r"km-", r"leerscan",  # German
    r"sans(\s+(iv|inj\w*|pdc|contraste|produit))*", r"(non|pas\s+d)['\s]*inject\w*",  # French
    r"zonder(\s+(iv|contrast|km))*", r"blanco",  # Dutch
    r"senza(\s+(mdc|contrasto|mezzo))*", r"smdc", r"basale", r"diretta",  # Italian
    r"sin(\s+(contraste|civ|medio))*", r"s/c(ontraste|iv)?", r"sem(\s+contraste)*",  # Spanish, Portuguese
)  # fmt: skip
_WITH = _words(
    r"contrast(e|o)?", r"enhanced", r"w/\s?(c|iv)", r"with\s+(iv|contrast|gad\w*)",
    r"post-?\s?(contrast|gad\w*|gd|km|inj\w*|c)", r"gad(olinium|o\w*)?", r"gd", r"\+\s?(c|gd|gad|km)",
    r"c\+", r"iv\+", r"km\+", r"ce(ct|mr\w*|ta)?", r"cta", r"ctpa", r"angio\w*",
    r"arteri(al|ell)\w*", r"art[ée]riel\w*", r"portal\w*", r"porto-?ven\w*", r"ven(ous|ös|oes|os)\w*", r"veineu\w*",
    r"nephrograph\w*", r"corticomedull\w*",
    r"(mit|m\.?|nach)\s?(iv\s+)?(km|kontrast\w*)",
    r"avec\s+(iv|inj\w*|contraste|produit)", r"inject[ée]\w*", r"apr[eè]s\s+inj\w*",
    r"met\s+(iv|contrast|km)", r"w/(?=\s*(&|and|wo|$|\s))",
    r"(with|mit|avec|con|met|com)\s+(and|&|und|et|e|y|en)(?=\s)",  # ... without
    r"con\s+(mdc|contrasto|contraste|civ|mezzo)", r"cmdc", r"c/c(ontraste|iv)?", r"com\s+contraste",
)  # fmt: skip
_LOW = _words(
    r"(ultra[-\s]?)?low[-\s]?dos(e|is)", r"u?ldct", r"ctac", r"ac[-\s]ct", r"ct[-\s]ac",
    r"niedrig(st)?[-\s]?dosis", r"lage[-\s]?dosis", r"(basse|faible|bassa|baixa)[-\s]?dose", r"baja[-\s]?dosis",
)  # fmt: skip
_STANDARD = _words(r"(standard|full|normal|regular|diagnostic)[-\s]?dos(e|is)", r"dose\s+standard", r"dosis\s+completa")
_TEXTS = ("series_description", "protocol", "study_description")


def by_tag(files: pd.DataFrame) -> str:
    """yes, no or unknown by the contrast agent tag: empty means no, absent says nothing."""
    named = [bool(a) and not _NO_AGENT.match(a) for a in files["contrast_agent"]]
    if sum(named) * 2 > len(named):
        return "yes"
    return "no" if files["contrast_tagged"].any() else "unknown"


def by_words(text: str) -> str:
    """yes, no or unknown by one description; one that speaks of both, such as a study's, says nothing of a scan."""
    text = text.replace("_", " ")
    rest, without = _WITHOUT.subn(" ", text)
    with_agent = _WITH.search(rest) is not None
    return "unknown" if with_agent == bool(without) else "yes" if with_agent else "no"


def by_description(files: pd.DataFrame) -> str:
    """yes, no or unknown by the words of the series, else of the protocol, else of the study."""
    return _first((by_words, files[name]) for name in _TEXTS)


def dose_by_words(files: pd.DataFrame) -> str:
    """low, standard or nothing by the words of series, protocol or study."""

    def dose(text: str) -> str:
        text = text.replace("_", " ")
        return "low" if _LOW.search(text) else "standard" if _STANDARD.search(text) else "unknown"

    found = _first((dose, files[name]) for name in _TEXTS)
    return "" if found == "unknown" else found


def _first(pairs: Iterable) -> str:
    """What the first description says that says anything, if all slices agree."""
    for judge, texts in pairs:
        found = {judge(text) for text in set(texts)} - {"unknown"}
        if found:
            return found.pop() if len(found) == 1 else "unknown"
    return "unknown"
