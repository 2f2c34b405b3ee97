"""The words around a picture: file and folder names, title, caption, keywords, place and date.

They are kept in the full-text table ``words`` (SQLite's FTS5; rowid = image id) in the form that
``spread`` gives them, and a query is spread in the same way. Accents and case do not matter.
"""

from __future__ import annotations

import json
import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from sightline.indexer.errors import LibraryError
from sightline.indexer.types import ImageRecord

COLUMNS = ("name", "folders", "title", "caption", "keywords", "place", "date")

WEIGHTS = (1.0, 2.0, 4.0, 2.0, 4.0, 3.0, 2.0)
"""bm25 weights of COLUMNS: what a person chose for this picture counts more than where it lies,
and a file name (mostly the camera's) least."""

STOP_WORDS = frozenset({
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "into", "is", "it", "its", "of",
    "on", "or", "that", "the", "their", "this", "to", "was", "with",
})  # fmt: skip
"""Say nothing of a picture; dropped from a query that has other words."""

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
"""Kana and Han: scripts that set no space between words. Each sign becomes a word, and a run of
them in a query a phrase."""

_SEPARATORS = re.compile(r"[\s,;:!?|/\\]+")
_WORD = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """``text`` in the form in which case and composition of accents make no difference."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def spread(text: str) -> str:
    """``text`` with spaces where words meet without one: ``GermanyTrip2019``, ``北京``."""
    if not text.isascii():
        text = _WITHOUT_SPACES.sub(r" \1 ", unicodedata.normalize("NFC", text))
    return _BOUNDARIES.sub(" ", text)


def _date_words(taken_at: str | None) -> str:
    """``2019-07-04T..`` -> ``2019 July``: as people write a time."""
    if not taken_at:
        return ""
    return f"{taken_at[:4]} {MONTHS[int(taken_at[5:7]) - 1]}"


_TEXTS = """
    SELECT images.id, images.name, roots.path, folders.path, images.title, images.caption,
        (SELECT group_concat(keyword, ' | ') FROM keywords WHERE image_id = images.id),
        images.place, images.taken_at
    FROM images
    JOIN folders ON folders.id = images.folder_id
    JOIN roots ON roots.id = folders.root_id
"""


def _rows(texts: Iterable[tuple]) -> Iterable[tuple]:
    for image, name, root, folder, title, caption, keywords, place, taken_at in texts:
        yield (
            image,
            spread(name),
            spread(f"{PurePath(root).name}/{folder}"),
            spread(title or ""),
            spread(caption or ""),
            spread(keywords or ""),
            spread(place or ""),
            _date_words(taken_at),
        )


def around(record: ImageRecord) -> tuple[str, ...]:
    """What is written of one picture into each of COLUMNS."""
    folder, _, name = record.path.rpartition("/")
    info = record.info
    taken_at = info.taken_at.isoformat() if info.taken_at else None
    keywords = " | ".join(info.keywords)
    facts = (name, record.root, folder, info.title, info.caption, keywords, info.place, taken_at)
    return next(iter(_rows([(record.id, *facts)])))[1:]


_INSERT = f"INSERT INTO words (rowid, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})"


def fill(connection: sqlite3.Connection) -> None:
    """Writes the words of every image anew."""
    connection.execute("DELETE FROM words")
    connection.executemany(_INSERT, _rows(connection.execute(_TEXTS)))


def write(connection: sqlite3.Connection, images: Sequence[int]) -> None:
    """Writes the words of ``images`` anew."""
    wanted = json.dumps(images)
    remove(connection, images)
    texts = connection.execute(
        f"{_TEXTS} WHERE images.id IN (SELECT value FROM json_each(?))", [wanted]
    ).fetchall()
    connection.executemany(_INSERT, _rows(texts))


def remove(connection: sqlite3.Connection, images: Sequence[int]) -> None:
    """Takes the words of ``images`` out."""
    connection.execute(
        "DELETE FROM words WHERE rowid IN (SELECT value FROM json_each(?))", [json.dumps(images)]
    )


def to_match(text: str, *, every: bool = False) -> str:
    """The FTS5 query for ``text``: any of its words (``every``: all of them), ``""`` when it has
    none.

    Everything is quoted, so nothing in ``text`` is taken for FTS5's own syntax.
    """
    joint = " AND " if every else " OR "
    return joint.join(f'"{phrase}"' for phrase in phrases(text))


def phrases(text: str) -> list[str]:
    """What is looked for of ``text``: its words, without those that say nothing where it has
    others. What ``spread`` takes apart is a phrase: ``IMG_2023``, ``GermanyTrip``, ``北京``."""
    parts = (_WORD.findall(spread(part)) for part in _SEPARATORS.split(text))
    found = [" ".join(words) for words in parts if words]
    telling = [phrase for phrase in found if phrase.lower() not in STOP_WORDS]
    return list(dict.fromkeys(telling or found))


def search(connection: sqlite3.Connection, text: str, limit: int) -> list[tuple[int, float]]:
    """``(image id, bm25)`` of the pictures whose words hold any of ``text``'s, best first. A higher
    number is better, unlike in FTS5."""
    weights = ", ".join(map(str, WEIGHTS))
    sql = (
        f"SELECT rowid, -bm25(words, {weights}) AS score FROM words WHERE words MATCH ?"
        " ORDER BY score DESC, rowid LIMIT ?"
    )
    return _found(connection, sql, to_match(text), limit)


def holding(connection: sqlite3.Connection, text: str, limit: int) -> list[int]:
    """The ids, ascending, of the first ``limit`` pictures whose words hold all of ``text``'s. They
    are not ranked, which makes it ten times as fast as ``search``."""
    sql = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid LIMIT ?"
    found = _found(connection, sql, to_match(text, every=True), limit)
    return [image for (image,) in found]


def _found(connection: sqlite3.Connection, sql: str, match: str, limit: int) -> list:
    if not match or limit < 1:
        return []
    try:
        return connection.execute(sql, [match, limit]).fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_ERROR:
            raise
        raise LibraryError(
            f"the full-text index is damaged ({' '.join(str(error).split())}): see"
            " `sightline doctor`"
        ) from error
