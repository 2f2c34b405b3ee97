"""Full text of an image: file and folder names, title, caption, keywords,
people, place, date and text in the image.

Stored in the FTS5 table ``words`` (rowid = image id), split by ``split_words``; queries are split
in the same way. Case, accents, ligatures and the width of letters are ignored.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePath

from sightline.indexer.catalog import spellings
from sightline.indexer.catalog.store import error_code
from sightline.indexer.errors import LibraryError
from sightline.indexer.types import ImageRecord

COLUMNS = ("name", "folders", "title", "caption", "keywords", "people", "place", "date", "text")
NAMES = ("name", "folders", "place")

STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "into", "is", "it", "its", "of",
    "on", "or", "that", "the", "their", "this", "to", "was", "with",
})  # fmt: skip
"""Dropped from a query that has other words."""

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

_BOUNDARIES = re.compile(
    r"(?<=[a-z\u00df-\u00f6\u00f8-\u00ff])(?=[A-Z\u00c0-\u00d6\u00d8-\u00de])"  # GermanyTrip
    r"|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"  # Trip2019, 2019Trip
    r"|_"
)
_WITHOUT_SPACES = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")
"""Kana and Han, which are written without spaces: each character becomes a token, and a run of them
in a query a phrase."""

_MARKS = re.compile("[\u0300-\u036f]")
"""Accents of Latin, Greek and Cyrillic letters."""

_LETTERS = str.maketrans({
    "\u00df": "ss", "\u1e9e": "SS", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE",
    "\u00f8": "o", "\u00d8": "O", "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D",
    "\u00f0": "d", "\u00d0": "D", "\u00fe": "th", "\u00de": "TH", "\u0131": "i",
})  # fmt: skip
"""Letters that Unicode does not decompose, as they are written without them."""

_SEPARATORS = re.compile(r"[\s,;:!?|/\\]+")
_WORD = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """``text`` case-folded, with accents composed (NFC)."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def plain(text: str) -> str:
    """``text`` case-folded and without accents."""
    folded = fold(text)
    if folded.isascii():
        return folded
    decomposed = unicodedata.normalize("NFD", folded)
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def split_words(text: str) -> str:
    """``text`` in basic letters, with spaces between words that are joined: ``Café``,
    ``GermanyTrip2019``, ``北京``."""
    if not text.isascii():
        text = _WITHOUT_SPACES.sub(r" \1 ", _basic_letters(text))
    return _BOUNDARIES.sub(" ", text)


def fold_word(word: str) -> str:
    """``word`` as the full-text index compares it."""
    return split_words(word).casefold()


def _basic_letters(text: str) -> str:
    """``text`` without accents, and with compatibility characters replaced (NFKD)."""
    text = _MARKS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", text).translate(_LETTERS)


def _date_text(taken_at: str | None) -> str:
    """``2019-07-04T..`` -> ``2019 July``, as people write it; ``1943`` -> ``1943``."""
    if not taken_at or len(taken_at) < 7:
        return taken_at or ""
    return f"{taken_at[:4]} {MONTHS[int(taken_at[5:7]) - 1]}"


_SOURCES = """
    SELECT images.id, images.name, roots.path, folders.path, images.title, images.caption,
        (SELECT group_concat(keyword, ' | ') FROM keywords WHERE image_id = images.id),
        (SELECT group_concat(person, ' | ') FROM people WHERE image_id = images.id),
        images.place, district || ' | ' || city || ' | ' || region || ' | ' || country,
        images.taken_at, (SELECT text FROM texts WHERE image_id = images.id)
    FROM images
    JOIN folders ON folders.id = images.folder_id
    JOIN roots ON roots.id = folders.root_id
    LEFT JOIN locations ON locations.id = images.location_id
"""


def _rows(sources: Iterable[tuple]) -> Iterable[tuple]:
    for (
        image,
        name,
        root,
        folder,
        title,
        caption,
        keywords,
        people,
        place,
        names,
        taken_at,
        text,
    ) in sources:
        yield (
            image,
            split_words(name),
            split_words(f"{PurePath(root).name}/{folder}"),
            split_words(title or ""),
            split_words(caption or ""),
            split_words(keywords or ""),
            split_words(people or ""),
            split_words(" | ".join(filter(None, (place, names)))),
            _date_text(taken_at),
            split_words(text or ""),
        )


def texts_of(record: ImageRecord, text: str = "") -> tuple[str, ...]:
    """The text of one image for each of COLUMNS; ``text`` was read in the image."""
    folder, _, name = record.path.rpartition("/")
    info = record.info
    lists = (" | ".join(info.keywords), " | ".join(info.people))
    names = " | ".join(record.location.names) if record.location else None
    places = (info.place, names)
    facts = (name, record.root, folder, info.title, info.caption, *lists, *places, info.taken, text)
    return next(iter(_rows([(record.id, *facts)])))[1:]


_LISTED = "rowid IN (SELECT value FROM json_each(?))"
_INSERT = f"INSERT INTO words (rowid, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})"


def fill(connection: sqlite3.Connection) -> None:
    """Rebuilds the table from every image."""
    connection.execute("DELETE FROM words")
    connection.executemany(_INSERT, _rows(connection.execute(_SOURCES)))
    connection.execute("DELETE FROM text_words")
    spellings.count(connection, _written(connection, "TRUE", []), 1)


def write(connection: sqlite3.Connection, images: Sequence[int]) -> None:
    """Writes the text of ``images``, replacing what is there."""
    wanted = json.dumps(images)
    remove(connection, images)
    texts = connection.execute(
        f"{_SOURCES} WHERE images.id IN (SELECT value FROM json_each(?))", [wanted]
    ).fetchall()
    connection.executemany(_INSERT, _rows(texts))
    spellings.count(connection, _written(connection, _LISTED, [wanted]), 1)


def remove(connection: sqlite3.Connection, images: Sequence[int]) -> None:
    """Deletes the text of ``images``."""
    listed = [json.dumps(images)]
    spellings.count(connection, _written(connection, _LISTED, listed), -1)
    connection.execute(f"DELETE FROM words WHERE {_LISTED}", listed)


def _written(connection: sqlite3.Connection, where: str, parameters: list) -> Iterator[str]:
    """The text in images, as the table has it."""
    sql = f"SELECT text FROM words WHERE {where} AND text <> ''"
    return (text for (text,) in connection.execute(sql, parameters))


def phrases(text: str) -> list[str]:
    """The words of a query, without stop words if it has others. What ``split_words`` splits is one
    phrase: ``IMG_2023``, ``GermanyTrip``, ``北京``."""
    parts = (_WORD.findall(split_words(part)) for part in _SEPARATORS.split(text))
    found = [" ".join(words) for words in parts if words]
    telling = [phrase for phrase in found if phrase.lower() not in STOP_WORDS]
    return list(dict.fromkeys(telling or found))


def words_in(text: str) -> list[str]:
    """The words of ``text`` case-folded and without accents, in order."""
    return _WORD.findall(plain(split_words(text)))


def written(connection: sqlite3.Connection, value: str, *, exact: bool) -> str | None:
    """The FTS5 query for images in which the words ``value`` are written one after the other, the
    last one as a prefix if ``value`` ends in ``*``; None without a word. Unless ``exact``, one of
    the words may have a reading error (``spellings``)."""
    words = _WORD.findall(split_words(value))
    if not words:
        return None
    is_prefix = value.rstrip().endswith("*")
    wanted = [words]
    if not exact:
        wanted += misspelled(
            words,
            lambda word: spellings.similar(connection, fold_word(word)),
            is_prefix=is_prefix,
        )
    star = " *" if is_prefix else ""
    return _written_query([" ".join(one) for one in wanted], star)


def misspelled(
    words: Sequence[str], similar: Callable[[str], Iterable[str]], *, is_prefix: bool
) -> Iterator[list[str]]:
    """``words`` with one of them, but not the last one if it is a prefix, replaced by each word
    that is ``similar`` to it."""
    for at, word in enumerate(words[:-1] if is_prefix else words):
        for other in similar(word):
            yield [*words[:at], *split_words(other).split(), *words[at + 1 :]]


def _written_query(phrases: Sequence[str], star: str = "") -> str:
    """The FTS5 query for images in which one of ``phrases`` is written."""
    alternatives = " OR ".join(f'"{phrase}"{star}' for phrase in phrases)
    return f"text : ({alternatives})"


def misread(connection: sqlite3.Connection, word: str, limit: int) -> list[int]:
    """The ids, ascending, of the first ``limit`` images in which a word one reading error from
    ``word`` is written."""
    words = [split_words(one) for one in spellings.similar(connection, fold_word(word))]
    if not words:
        return []
    match = _written_query(words)
    sql = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid LIMIT ?"
    return [image for (image,) in connection.execute(sql, [match, limit])]


def search(
    connection: sqlite3.Connection, text: str, limit: int, *, names: bool = True
) -> list[int]:
    """The ids, ascending, of the first ``limit`` images whose text, without file, folder and place
    names unless ``names``, contains every phrase of ``text``. Unranked, which is ten times as fast
    as a ranking by bm25."""
    # Quoted, so that nothing in ``text`` is read as FTS5 syntax.
    match = " AND ".join(f'"{phrase}"' for phrase in phrases(text))
    if not match or limit < 1:
        return []
    if not names:
        match = f"- {{{' '.join(NAMES)}}} : ({match})"
    sql = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid LIMIT ?"
    try:
        return [image for (image,) in connection.execute(sql, [match, limit])]
    except sqlite3.OperationalError as error:
        if error_code(error) != sqlite3.SQLITE_ERROR:
            raise
        raise LibraryError(
            f"the full-text index is corrupt ({' '.join(str(error).split())}): see"
            " `sightline doctor`"
        ) from error
