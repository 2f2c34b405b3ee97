"""Detects queries in a language that the library's model was not trained on.

Scripts other than Latin identify a language by themselves. Latin text is classified by py3langid, a
naive Bayes model over byte n-grams (M. Lui and T. Baldwin, "langid.py: An Off-the-shelf Language
Identification Tool", ACL 2012). Queries are short and English has many loan words, so another
language must be much more probable than English; its function words ("im", "sur") are evidence for
it, and a common English word rules it out. tests/test_language.py holds the queries that this was
measured on.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from sightline.indexer.encoder import registry
from sightline.indexer.encoder.registry import MODELS
from sightline.indexer.zero_shot.captions import CAPTIONS
from sightline.server.search.language_model import load_identifier

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

MIN_MARGIN, MIN_MARGIN_ONE_WORD = 12.0, 16.0
"""Log-probability of a language over that of English from which it is detected, for queries of
several words and of one."""

FUNCTION_WORDS = frozenset(
    """
    der die das ein eine einen einem einer im am mit und auf von vor zum zur bei ohne
    le la les un une du des sur dans avec au aux et sous de el los las una con en del y sobre
    bajo il lo gli nel nella sulla sul di della che o os um uma com na no do da em een het op
    van bij naast ett på med och under og na w z i pod bir ve ile
    """.split()  # noqa: SIM905 (a list of lists would be longer than a screen)
)
"""Articles and prepositions of other languages."""

FUNCTION_WORD_MARGIN = 6.0
"""Added to the margin by each of them in a query of several words."""

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
"""First word of a letter's Unicode name -> name of the language or script."""


@lru_cache(1024)
def detect_language(text: str) -> str | None:
    """The language of ``text`` if it is almost certainly not English, else None. Cached, because
    every page of a query's results calls it."""
    letters = [letter for letter in text if letter.isalpha()]
    scripts = [unicodedata.name(letter, "").partition(" ")[0] for letter in letters]
    foreign = [SCRIPTS[script] for script in scripts if script in SCRIPTS]
    if foreign:
        return "Japanese" if "Japanese" in foreign else max(set(foreign), key=foreign.count)
    if len(letters) < 4:
        return None
    words = text.lower().split()
    if any(len(word) > 2 and word in caption_words() for word in words):
        return None
    probabilities = _log_probabilities(" ".join(words))
    code = max(LATIN, key=probabilities.__getitem__)
    margin = probabilities[code] - probabilities["en"]
    if len(words) == 1:
        return LATIN[code] if margin > MIN_MARGIN_ONE_WORD else None
    margin += FUNCTION_WORD_MARGIN * sum(word in FUNCTION_WORDS for word in words)
    return LATIN[code] if margin > MIN_MARGIN else None


def _log_probabilities(text: str) -> dict[str, float]:
    return dict(_identifier().rank(text))


@cache
def _identifier() -> LanguageIdentifier:
    return load_identifier([*LATIN, "en"])


def load_language_model(model: str) -> None:
    """Loads py3langid if ``language_notice`` needs it for this model."""
    if _monolingual(model) is not None:
        _log_probabilities("")


@cache
def caption_words() -> frozenset[str]:
    """The words of the caption bank: everyday English words for what can be seen."""
    return frozenset(re.findall(r"[a-z]+", " ".join(CAPTIONS).lower()))


def language_notice(text: str, model: str) -> str | None:
    """One line for the user if ``text`` is in a language that a library's ``model`` was not trained
    on; None for multilingual and unknown models."""
    known = _monolingual(model)
    if known is None:
        return None
    found = detect_language(text)
    if found is None or (found == "Chinese" and known.languages == "zh"):
        return None
    able = [one.name for one in MODELS if one.languages == "multilingual"]
    able += [one.name for one in MODELS if one.languages == "zh" and found == "Chinese"]
    trained = {"en": "English", "zh": "Chinese"}[known.languages]
    return (
        f"This looks like {found}, but {known.name} was trained on {trained}."
        f" Multilingual models: {', '.join(able)}."
    )


def is_english_only(model: str) -> bool:
    """Whether a library's ``model`` was trained on English only."""
    known = _monolingual(model)
    return known is not None and known.languages == "en"


def _monolingual(model: str) -> registry.ModelInfo | None:
    known = registry.find(model)
    return known if known is not None and known.languages in ("en", "zh") else None
