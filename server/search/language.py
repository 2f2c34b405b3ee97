"""A query in a language that the library's model was not trained on is recognised and said.

Where the letters are not Latin, they say it. Where they are, py3langid does, a naive Bayes model
over byte n-grams (M. Lui and T. Baldwin, "langid.py: An Off-the-shelf Language Identification
Tool", ACL 2012). A few words are little to go by and English is full of borrowed ones, so it must
be much surer of another language than of English; small words of another language ("im", "sur")
count for it, and an everyday English word settles it.

Measured on 78 English queries chosen to mislead (``espresso machine``, ``rio de janeiro carnival``)
and 68 in fourteen other languages (``tests/test_language.py`` has them all): 3 of the former are
taken for another language, 56 of the latter are recognised.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

from sightline.indexer.encoder import registry
from sightline.indexer.encoder.registry import MODELS
from sightline.indexer.zero_shot.captions import CAPTIONS

SURE_WORDS, SURE_WORD = 12.0, 16.0
"""Difference of the log-probabilities of another language and English from which a query of
several words, and one of a single word, is taken for the other."""

SMALL = frozenset(
    """
    der die das ein eine einen einem einer im am mit und auf von vor zum zur bei ohne
    le la les un une du des sur dans avec au aux et sous de el los las una con en del y sobre
    bajo il lo gli nel nella sulla sul di della che o os um uma com na no do da em een het op
    van bij naast ett på med och under og na w z i pod bir ve ile
    """.split()  # noqa: SIM905 (a list of lists would be longer than a screen)
)
"""Words that other languages use as English uses "the", "in" and "with"."""

SMALL_WORD = 6.0
"""What each of them adds, where it stands beside others."""

LATIN = {
    "cs": "Czech", "da": "Danish", "de": "German", "es": "Spanish", "fi": "Finnish", "fr": "French",
    "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "nl": "Dutch", "no": "Norwegian",
    "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "sv": "Swedish", "tr": "Turkish",
    "vi": "Vietnamese",
}  # fmt: skip

SCRIPTS = {
    "ARABIC": "Arabic", "ARMENIAN": "Armenian", "BENGALI": "Bengali", "CJK": "Chinese",
    "CYRILLIC": "Cyrillic letters", "DEVANAGARI": "Hindi", "GEORGIAN": "Georgian",
    "GREEK": "Greek", "HANGUL": "Korean", "HEBREW": "Hebrew", "HIRAGANA": "Japanese",
    "KATAKANA": "Japanese", "TAMIL": "Tamil", "TELUGU": "Telugu", "THAI": "Thai",
}  # fmt: skip
"""First word of a letter's Unicode name -> what to call it."""


@lru_cache(1024)
def language(text: str) -> str | None:
    """The language of ``text`` when it is surely not English, else None. Remembered: every page of
    a query's results asks again."""
    letters = [letter for letter in text if letter.isalpha()]
    scripts = [unicodedata.name(letter, "").partition(" ")[0] for letter in letters]
    foreign = [SCRIPTS[script] for script in scripts if script in SCRIPTS]
    if foreign:
        return "Japanese" if "Japanese" in foreign else max(set(foreign), key=foreign.count)
    if len(letters) < 4:
        return None
    words = text.lower().split()
    if any(len(word) > 2 and word in everyday_words() for word in words):
        return None
    ranked = dict(_rank(" ".join(words)))
    code = max(LATIN, key=lambda one: ranked[one])
    found = ranked[code] - ranked["en"]
    if len(words) == 1:
        return LATIN[code] if found > SURE_WORD else None
    found += SMALL_WORD * sum(word in SMALL for word in words)
    return LATIN[code] if found > SURE_WORDS else None


def _rank(text: str) -> list[tuple[str, float]]:
    import py3langid

    return py3langid.rank(text)


def prepare(model: str) -> None:
    """Reads what ``notice`` needs for a library of this model, a second and a half of a processor
    that some query would wait for otherwise."""
    if _limited(model) is not None:
        _rank("")


@cache
def everyday_words() -> frozenset[str]:
    """English words that captions use of what is seen."""
    return frozenset(re.findall(r"[a-z]+", " ".join(CAPTIONS).lower()))


def notice(text: str, model: str) -> str | None:
    """One line when ``text`` is in a language that ``model`` (a library's) does not know.

    Nothing is said of a model that knows many languages, or of which that is not known.
    """
    known = _limited(model)
    if known is None:
        return None
    found = language(text)
    if found is None or (found == "Chinese" and known.languages == "zh"):
        return None
    able = [one.name for one in MODELS if one.languages == "multilingual"]
    able += [one.name for one in MODELS if one.languages == "zh" and found == "Chinese"]
    trained = {"en": "English", "zh": "Chinese"}[known.languages]
    return (
        f"this looks like {found}, and {known.name} was trained on {trained}; models for many"
        f" languages: {', '.join(able)}"
    )


def _limited(model: str) -> registry.ModelInfo | None:
    """The model, where there are languages that it is known not to know."""
    known = registry.find(model)
    return known if known is not None and known.languages in ("en", "zh") else None
