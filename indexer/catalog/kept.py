"""Saved searches, favourites and collections: what the user keeps in a library.

A collection refers to an image by its file's content (``content_hash``), so that it survives when
the file is moved, when it is removed and indexed again, and when the library is encoded with
another model. Identical files are one photo to a collection. An image whose content is unknown,
because it was imported without its file, is referred to by its id (``image:5``) until its file has
been read. An image whose file changes stays in its collections (``image_rows.update``).
"""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sightline.indexer.catalog import image_rows
from sightline.indexer.catalog.full_text import fold
from sightline.indexer.catalog.image_rows import CONTENT
from sightline.indexer.catalog.store import Store
from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.types import Ids

FAVOURITES = 1
"""The id of the collection that every library has."""

MAX_NAME = 100
"""Characters of a name."""

MAX_QUERY = 2000
"""Characters of a saved query."""

MAX_SEARCHES = MAX_COLLECTIONS = 500
"""Entries of a library."""

MEMBERS = """
    SELECT images.id, position FROM collection_images
    JOIN images ON images.content_hash = content
    WHERE collection_id = ?1
    UNION ALL
    SELECT images.id, position FROM collection_images
    JOIN images ON images.id = CAST(substr(content, 7) AS INTEGER)
    WHERE collection_id = ?1 AND content GLOB 'image:*' AND images.content_hash = ''
"""
"""The images of a collection, with their positions."""


@dataclass(frozen=True)
class SavedSearch:
    """A query with a name."""

    name: str
    query: str
    saved_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True)
class Collection:
    """A named, ordered set of images."""

    id: int
    name: str
    count: int
    """Photos that are in the library now; identical files count once."""
    cover: int | None
    """The id of its first image."""

    @property
    def is_favourites(self) -> bool:
        """Whether it is the one that every library has."""
        return self.id == FAVOURITES


def checked_name(name: str) -> str:
    """``name`` with white space collapsed. UsageError for an empty or too long one, and for
    characters that the query language or a terminal cannot show."""
    clean = " ".join(unicodedata.normalize("NFC", name).split())
    if not clean:
        raise UsageError("a name is missing")
    if len(clean) > MAX_NAME:
        raise UsageError(f"the name has {len(clean):,} characters; the limit is {MAX_NAME}")
    if any(letter == '"' or unicodedata.category(letter) in ("Cc", "Cs") for letter in clean):
        raise UsageError("a name cannot contain double quotes or control characters")
    return clean


def members(connection: sqlite3.Connection, collection: int) -> list[int]:
    """The ids of a collection's images, in its order."""
    sql = f"SELECT id FROM ({MEMBERS}) ORDER BY position, id"
    return [image for (image,) in connection.execute(sql, [collection])]


class Kept:
    """The saved searches and collections of an open catalog. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # saved searches -------------------------------------------------------------------------------

    def searches(self) -> list[SavedSearch]:
        """All saved searches, by name."""
        with self._store.reading() as connection:
            sql = "SELECT name, query, saved_at FROM saved_searches ORDER BY folded"
            return [SavedSearch(*row) for row in connection.execute(sql)]

    def search(self, name: str) -> SavedSearch:
        """One saved search, ignoring case. NotFoundError."""
        searches = self.searches()
        for one in searches:
            if fold(one.name) == fold(" ".join(name.split())):
                return one
        names = ", ".join(f"@{one.name}" for one in searches[:10]) or "none is saved"
        raise NotFoundError(f"there is no saved search @{name[:MAX_NAME]}: {names}")

    def save_search(self, name: str, query: str) -> SavedSearch:
        """Saves ``query`` under ``name``; replaces a search of that name. UsageError for an invalid
        name, an empty or too long query, or more than ``MAX_SEARCHES``."""
        name, query = checked_name(name), query.strip()
        if not query or len(query) > MAX_QUERY:
            raise UsageError(f"a saved search has 1 to {MAX_QUERY:,} characters")
        saved = SavedSearch(name, query, image_rows.now())
        with self._store.writing() as connection:
            connection.execute(
                "INSERT INTO saved_searches (name, folded, query, saved_at) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (folded) DO UPDATE SET name = excluded.name,"
                " query = excluded.query, saved_at = excluded.saved_at",
                [name, fold(name), query, saved.saved_at],
            )
            (count,) = connection.execute("SELECT count(*) FROM saved_searches").fetchone()
            if count > MAX_SEARCHES:
                raise UsageError(f"a library has at most {MAX_SEARCHES} saved searches")
        return saved

    def delete_search(self, name: str) -> None:
        """Deletes a saved search. NotFoundError."""
        folded = fold(self.search(name).name)
        with self._store.writing() as connection:
            connection.execute("DELETE FROM saved_searches WHERE folded = ?", [folded])

    # collections ----------------------------------------------------------------------------------

    def collections(self) -> list[Collection]:
        """The favourites, then all other collections by name."""
        with self._store.snapshot() as connection:
            rows = connection.execute(
                "SELECT id, name FROM collections ORDER BY id <> ?, folded", [FAVOURITES]
            ).fetchall()
            return [self._collection(connection, id, name) for id, name in rows]

    def collection(self, id: int) -> Collection:
        """One collection. NotFoundError."""
        with self._store.snapshot() as connection:
            return self._collection(connection, id, self._name(connection, id))

    def collection_named(self, name: str) -> Collection:
        """The collection of this name, ignoring case. NotFoundError."""
        with self._store.snapshot() as connection:
            sql = "SELECT id, name FROM collections WHERE folded = ?"
            row = connection.execute(sql, [fold(" ".join(name.split()))]).fetchone()
            if row is None:
                raise NotFoundError(f"there is no collection {name[:MAX_NAME]!r}")
            return self._collection(connection, *row)

    def create_collection(self, name: str) -> Collection:
        """Creates an empty collection. UsageError for an invalid name or one that exists."""
        name = checked_name(name)
        with self._store.writing() as connection:
            self._check_free(connection, name)
            id = connection.execute(
                "INSERT INTO collections (name, folded, created_at) VALUES (?, ?, ?)",
                [name, fold(name), image_rows.now()],
            ).lastrowid
            (count,) = connection.execute("SELECT count(*) FROM collections").fetchone()
            if count > MAX_COLLECTIONS:
                raise UsageError(f"a library has at most {MAX_COLLECTIONS} collections")
        assert id is not None
        return Collection(id, name, 0, None)

    def rename_collection(self, id: int, name: str) -> Collection:
        """Renames a collection. NotFoundError; UsageError for the favourites, an invalid name, or
        one that exists."""
        name = checked_name(name)
        self._check_not_favourites(id)
        with self._store.writing() as connection:
            self._name(connection, id)
            self._check_free(connection, name, except_id=id)
            connection.execute(
                "UPDATE collections SET name = ?, folded = ? WHERE id = ?", [name, fold(name), id]
            )
        return self.collection(id)

    def delete_collection(self, id: int) -> None:
        """Deletes a collection, not its photos. NotFoundError; UsageError for the favourites."""
        self._check_not_favourites(id)
        with self._store.writing() as connection:
            self._name(connection, id)
            connection.execute("DELETE FROM collections WHERE id = ?", [id])

    @property
    def has_favourites(self) -> bool:
        """Whether anything is a favourite. Faster than ``collection``."""
        with self._store.reading() as connection:
            sql = "SELECT 1 FROM collection_images WHERE collection_id = ? LIMIT 1"
            return connection.execute(sql, [FAVOURITES]).fetchone() is not None

    def images(self, id: int) -> Ids:
        """The ids of a collection's images, in its order. NotFoundError."""
        with self._store.snapshot() as connection:
            self._name(connection, id)
            return np.array(members(connection, id), np.int64)

    def collections_of(self, image: int) -> list[Collection]:
        """The collections that contain an image."""
        with self._store.snapshot() as connection:
            rows = connection.execute(
                "SELECT id, name FROM collections WHERE id IN (SELECT collection_id"
                f" FROM collection_images WHERE content = (SELECT {CONTENT} FROM images"
                " WHERE id = ?)) ORDER BY id <> ?, folded",
                [image, FAVOURITES],
            ).fetchall()
            return [self._collection(connection, id, name) for id, name in rows]

    def add(self, id: int, images: Sequence[int]) -> Collection:
        """Adds images at the end; those in the collection keep their place, unknown ids are
        skipped. NotFoundError."""
        with self._store.writing() as connection:
            self._name(connection, id)
            self._insert(connection, id, images)
        return self.collection(id)

    def remove(self, id: int, images: Sequence[int]) -> Collection:
        """Removes images from a collection. NotFoundError."""
        with self._store.writing() as connection:
            self._name(connection, id)
            connection.execute(
                "DELETE FROM collection_images WHERE collection_id = ? AND content IN"
                f" (SELECT {CONTENT} FROM images WHERE id IN {image_rows.LISTED})",
                [id, _listed(images)],
            )
        return self.collection(id)

    def move(self, id: int, images: Sequence[int], *, before: int | None) -> Collection:
        """Moves images of a collection, in the order given, before the image ``before``, or to the
        end. The others keep their order. NotFoundError."""
        with self._store.writing() as connection:
            self._name(connection, id)
            order = connection.execute(
                "SELECT content FROM collection_images WHERE collection_id = ?"
                " ORDER BY position, content",
                [id],
            )
            contents = [content for (content,) in order]
            by_id = self._contents(connection, [*images, *([] if before is None else [before])])
            wanted = dict.fromkeys(by_id[one] for one in images if one in by_id)
            moved = [content for content in wanted if content in set(contents)]
            target = by_id.get(before) if before is not None else None
            if before is not None and target not in contents:
                raise NotFoundError(f"image {before} is not in this collection")
            if target in wanted:
                return self._collection(connection, id, self._name(connection, id))
            rest = [content for content in contents if content not in wanted]
            at = len(rest) if target is None else rest.index(target)
            connection.executemany(
                "UPDATE collection_images SET position = ? WHERE collection_id = ? AND content = ?",
                [
                    (position, id, content)
                    for position, content in enumerate([*rest[:at], *moved, *rest[at:]], 1)
                ],
            )
        return self.collection(id)

    @staticmethod
    def _insert(connection: sqlite3.Connection, id: int, images: Sequence[int]) -> None:
        connection.execute(
            "INSERT OR IGNORE INTO collection_images (collection_id, content, position, added_at)"
            f" SELECT ?1, {CONTENT}, (SELECT coalesce(max(position), 0) FROM collection_images"
            " WHERE collection_id = ?1) + 1 + listed.key, ?2"
            " FROM json_each(?3) AS listed JOIN images ON images.id = listed.value",
            [id, image_rows.now(), _listed(images)],
        )

    @staticmethod
    def _contents(connection: sqlite3.Connection, images: Sequence[int]) -> dict[int, str]:
        sql = f"SELECT id, {CONTENT} FROM images WHERE id IN {image_rows.LISTED}"
        return dict(connection.execute(sql, [_listed(images)]).fetchall())

    @staticmethod
    def _collection(connection: sqlite3.Connection, id: int, name: str) -> Collection:
        count, cover = connection.execute(
            f"SELECT count(DISTINCT position), (SELECT id FROM ({MEMBERS})"
            f" ORDER BY position, id LIMIT 1) FROM ({MEMBERS})",
            [id],
        ).fetchone()
        return Collection(id, name, count, cover)

    @staticmethod
    def _name(connection: sqlite3.Connection, id: int) -> str:
        row = None
        if id < 2**63:
            row = connection.execute("SELECT name FROM collections WHERE id = ?", [id]).fetchone()
        if row is None:
            raise NotFoundError(f"there is no collection {str(id)[:30]} in this library")
        name: str = row[0]
        return name

    @staticmethod
    def _check_free(
        connection: sqlite3.Connection, name: str, *, except_id: int | None = None
    ) -> None:
        sql = "SELECT 1 FROM collections WHERE folded = ? AND id IS NOT ?"
        if connection.execute(sql, [fold(name), except_id]).fetchone():
            raise UsageError(f"there is a collection {name!r} already")

    @staticmethod
    def _check_not_favourites(id: int) -> None:
        if id == FAVOURITES:
            raise UsageError("the favourites cannot be renamed or deleted")


def _listed(images: Iterable[int]) -> str:
    return json.dumps([int(image) for image in images])
