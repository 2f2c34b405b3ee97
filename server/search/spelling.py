"""Offers corrections of a misspelt word or of a filter that does not exist; applies none.

A word is misspelt if neither the library's text, nor the captions, nor the words of the built-in
model has it, but one of these has a word within a few edits (optimal string alignment: insertions,
deletions, substitutions, transpositions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from sightline.indexer.encoder.registry import builtin_directory
from sightline.indexer.encoder.tokenizer import vocabulary
from sightline.server.search.date_words import find_dates
from sightline.server.search.language import detect_language
from sightline.server.search.query import FILTER_NAMES, TOKEN
from sightline.server.search.visual_words import visual_words

if TYPE_CHECKING:
    from sightline.indexer.library import AnyLibrary

MIN_LENGTH = 4
"""Letters of a word that is corrected: shorter words are one edit from too many others."""

LONG = 8
"""Letters from which two edits are allowed instead of one."""

MAX_WORDS = 12
"""Words of a query that are checked, the first ones."""

OTHER_NAMES = {
    "album": "in", "dir": "in", "directory": "in", "folder": "in", "path": "in",
    "tag": "keyword", "tags": "keyword", "keywords": "keyword", "category": "label",
    "class": "label", "who": "person", "people": "person", "face": "person", "date": "after",
    "since": "after", "from": "after", "year": "after", "until": "before", "to": "before",
    "ext": "type", "extension": "type", "filetype": "type", "format": "type", "file": "name",
    "filename": "name", "stars": "rating", "shape": "is", "orientation": "is", "gps": "near",
    "location": "place", "city": "place", "town": "place", "make": "camera",
    "model": "camera", "order": "sort",
}  # fmt: skip
"""What other programs call a filter -> its name here."""

_FILTER = re.compile(r"(-?)([A-Za-z]+):(?!//)(.+)", re.DOTALL)
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Correction:
    """A query that may have been meant."""

    text: str
    """The parts that differ: ``lighthouse``, ``in:Holidays``."""
    query: str
    """The whole corrected query."""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"text": self.text, "query": self.query}


def correction(library: AnyLibrary, query: str) -> Correction | None:
    """The correction of ``query``; None if there is nothing to correct."""
    tokens = TOKEN.findall(query)
    texts = [token for token in tokens if ":" not in token]
    for one in reversed(find_dates(texts, date.today())):
        del texts[one.start : one.end]  # Juli is no misspelt July
    words = [word for text in texts for word in _WORD.findall(text)]
    known = _Vocabulary(library)
    checked = frozenset(words[:MAX_WORDS])
    changed: list[str] = []

    def read(found: re.Match[str]) -> str:
        token = found[0]
        other = _filter(token) if ":" in token else _spelled(token, checked, known)
        foreign = other is not None and ":" not in token and detect_language(" ".join(words))
        if other is None or foreign:
            return token
        changed.append(other.replace('"', ""))
        return other

    corrected = TOKEN.sub(read, query)
    return Correction(", ".join(changed), corrected) if changed else None


def _filter(token: str) -> str | None:
    """The token with the name of an existing filter, if it has the form of a filter but no name."""
    found = _FILTER.fullmatch(token)
    known = (*FILTER_NAMES, "sort", "match", "like", "upload")
    if found is None or found[2].lower() in known:
        return None
    name = found[2].lower()
    if name not in OTHER_NAMES:
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        closest = process.extractOne(name, known, scorer=OSA.distance, score_cutoff=1)
        if closest is None or len(name) < MIN_LENGTH:
            return None
        name = closest[0]
    return f"{found[1]}{OTHER_NAMES.get(name, name)}:{found[3]}"


def _spelled(token: str, checked: frozenset[str], known: _Vocabulary) -> str | None:
    """The token with those of its words that are ``checked`` and misspelt replaced; None if there
    are none."""

    def read(found: re.Match[str]) -> str:
        word = found[0]
        other = known.closest(word.lower()) if word in checked else None
        return word if other is None else other

    corrected = _WORD.sub(read, token)
    return corrected if corrected != token else None


class _Vocabulary:
    """Words that a query may hold: of the library, the captions and the built-in model."""

    def __init__(self, library: AnyLibrary) -> None:
        self.library = library
        self._own: frozenset[str] | None = None

    @property
    def own(self) -> frozenset[str]:
        """The words of the library's folders, keywords, labels, people and cameras."""
        if self._own is None:
            texts = self.library.value_texts()
            self._own = frozenset(word.lower() for text in texts for word in _WORD.findall(text))
        return self._own

    def closest(self, word: str) -> str | None:
        """The word that was meant by ``word``; None if it is correct, short or unlike any."""
        if len(word) < MIN_LENGTH or word in visual_words() or word in english_words():
            return None
        if len(self.library.full_text_search(word, 1)):
            return None
        from rapidfuzz import process
        from rapidfuzz.distance import OSA

        own, visual, frequency = self.own, visual_words(), english_words()
        choices = {*own, *visual, *frequency}
        edits = 2 if len(word) >= LONG else 1
        found = process.extract(
            word, choices, scorer=OSA.distance, score_cutoff=edits, limit=len(choices)
        )

        # Few edits first, then the same first letter, a word of the library, a visible thing, and
        # the more frequent word.
        best = min(
            (
                (
                    distance,
                    one[0] != word[0],
                    one not in own,
                    one not in visual,
                    frequency.get(one, len(frequency)),
                    one,
                )
                for one, distance, _ in found
            ),
            default=None,
        )
        return None if best is None or len(best[-1]) < MIN_LENGTH - 1 else best[-1]


@cache
def english_words() -> dict[str, int]:
    """The whole words of the built-in model's vocabulary, frequent ones first, with their ranks."""
    held = vocabulary(builtin_directory())
    ranked = sorted(held, key=held.__getitem__)
    return {word: rank for rank, word in enumerate(ranked) if word.isalpha()}
