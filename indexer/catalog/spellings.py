"""Words that differ by one reading error from a word: ``invoiee`` for ``invoice``.

The table ``text_words`` holds each word that was read in images, with the number of these images,
and reversed. An error (a letter replaced, missing or added, or two swapped) is in one half of a
word; the other half is how the word or the reversed word begins. Two ranges of an index hold every
candidate but one, of which the two letters in the middle are swapped.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

MIN_LENGTH = 4
"""Letters of a word that is looked up: shorter ones are one error from too many others."""

MAX_LENGTH = 40
"""Letters of a word in the table."""

MAX_RATIO, MIN_IMAGES = 0.02, 2
"""Images with another spelling: at most this fraction of those with the word itself, or this many.
A more frequent one is a word, not an error; measured in docs/ocr.md."""

MAX_SPELLINGS = 20
"""Spellings of one word, the most frequent ones."""

DIGITS = {"o": "0", "l": "1", "i": "1", "z": "2", "s": "5", "b": "8", "g": "9", "q": "9"}
"""Letters that are read as digits. ``full_text.split_words`` separates digits, so that the table
has no such words."""

_LETTERS = re.compile(rf"[^\W\d_]{{{MIN_LENGTH - 1},{MAX_LENGTH}}}")
_LAST = "\U0010ffff"


def count(connection: sqlite3.Connection, texts: Iterable[str], images: int) -> None:
    """Adds ``images``, 1 or -1, to the words of each of ``texts`` (as ``full_text.split_words``
    returns them)."""
    found = Counter(word for text in texts for word in set(_LETTERS.findall(text.casefold())))
    if images > 0:
        connection.executemany(
            "INSERT INTO text_words (word, images, reversed) VALUES (?, ?, ?)"
            " ON CONFLICT (word) DO UPDATE SET images = images + excluded.images",
            [(word, number, word[::-1]) for word, number in found.items()],
        )
        return
    connection.executemany(
        "UPDATE text_words SET images = images - ? WHERE word = ?",
        [(number, word) for word, number in found.items()],
    )
    connection.executemany(
        "DELETE FROM text_words WHERE word = ? AND images < 1", [(word,) for word in found]
    )


def similar(connection: sqlite3.Connection, word: str) -> list[str]:
    """The words in images that are one error from ``word`` (folded, as ``split_words`` returns it),
    the most frequent first."""
    if not _is_looked_up(word):
        return []
    half = len(word) // 2
    candidates: dict[str, int] = {}
    for column, start in (("word", word[:half]), ("reversed", word[:half:-1])):
        sql = (
            f"SELECT word, images FROM text_words WHERE {column} >= ? AND {column} < ?"
            " AND length(word) BETWEEN ? AND ?"
        )
        bounds = [start, start + _LAST, len(word) - 1, len(word) + 1]
        candidates.update(connection.execute(sql, bounds))

    def is_written(words: list[str]) -> bool:
        sql = "SELECT 1 FROM words WHERE words MATCH ? LIMIT 1"
        return connection.execute(sql, [f'text : "{" ".join(words)}"']).fetchone() is not None

    return [*_one_error_from(word, candidates), *_with_digits(word, is_written)]


def similar_among(vocabulary: Mapping[str, int], word: str) -> list[str]:
    """As ``similar``, of all words in images, ``vocabulary``, with the number of these images. A
    word with a digit is returned if both of its parts are words."""
    if not _is_looked_up(word):
        return []
    with_digits = _with_digits(word, lambda words: all(one in vocabulary for one in words))
    return [*_one_error_from(word, vocabulary), *with_digits]


def _is_looked_up(word: str) -> bool:
    return len(word) >= MIN_LENGTH and _LETTERS.fullmatch(word) is not None


def _one_error_from(word: str, images: Mapping[str, int]) -> list[str]:
    """The words of ``images``, which has their numbers of images, that are misread ``word``s."""
    if not images:
        return []
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    most = max(MIN_IMAGES, images.get(word, 0) * MAX_RATIO)
    found = process.extract(word, list(images), scorer=OSA.distance, score_cutoff=1, limit=None)
    spellings = [one for one, _, _ in found if one != word and images[one] <= most]
    spellings.sort(key=lambda one: (-images[one], one))
    return spellings[:MAX_SPELLINGS]


def _with_digits(word: str, is_written: Callable[[list[str]], bool]) -> list[str]:
    """The words in images in which one letter of ``word`` is a digit."""
    found = []
    for at, letter in enumerate(word):
        if (digit := DIGITS.get(letter)) is not None:
            before, after = word[:at], word[at + 1 :]
            if is_written([one for one in (before, digit, after) if one]):
                found.append(before + digit + after)
    return found
