"""Rows of ``images``, ``keywords``, ``people`` and ``folders``, to and from the project's types.

Functions on a connection, called inside a transaction by ``Catalog``.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog import full_text
from sightline.indexer.catalog.full_text import fold
from sightline.indexer.dates import from_text
from sightline.indexer.errors import CorruptError, LibraryError
from sightline.indexer.types import (
    Candidate,
    Failure,
    Ids,
    ImageRecord,
    Location,
    NewImage,
    PhotoInfo,
    TextLine,
)

_T = TypeVar("_T")

_OF_FILE = ("folder_id", "name", "folded", "size", "mtime_ns", "ctime_ns", "inode")
_OF_PHOTO = (
    "content_hash", "width", "height", "format", "orientation", "taken_at", "camera", "lens",
    "latitude", "longitude", "title", "caption", "place", "rating", "color", "phash",
    "url", "decoded", "metadata_stamp", "pixels_hash", "taken_from",
)  # fmt: skip

_OF_METADATA = (
    "taken_at", "camera", "lens", "latitude", "longitude", "title", "caption", "place", "rating",
    "metadata_stamp", "taken_from",
)  # fmt: skip
"""The columns that change with a sidecar."""

_INSERT = (
    f"INSERT INTO images (id, {', '.join((*_OF_FILE, *_OF_PHOTO))}, added_at)"
    f" VALUES (?{', ?' * (len(_OF_FILE) + len(_OF_PHOTO))}, ?)"
)
_UPDATE = (
    f"UPDATE images SET {', '.join(f'{name} = ?' for name in (*_OF_FILE, *_OF_PHOTO))},"
    " location_id = NULL WHERE id = ?"
)
_DESCRIBE = (
    f"UPDATE images SET {', '.join(f'{name} = ?' for name in _OF_METADATA)},"
    " location_id = NULL WHERE id = ?"
)
_MOVE = f"UPDATE images SET {', '.join(f'{name} = ?' for name in _OF_FILE)} WHERE id = ?"
_COPY = (
    f"INSERT INTO images (id, {', '.join((*_OF_FILE, *_OF_PHOTO))}, location_id, added_at)"
    f" SELECT ?{', ?' * len(_OF_FILE)}, {', '.join(_OF_PHOTO)}, location_id, ?"
    " FROM images WHERE id = ?"
)

_RECORDS = f"""
    SELECT images.id, roots.path,
        iif(folders.path = '', '', folders.path || '/') || images.name,
        images.size, images.mtime_ns, images.added_at,
        country_code, country, region, city, district,
        {", ".join("images." + n for n in _OF_PHOTO)}
    FROM images
    JOIN folders ON folders.id = images.folder_id
    JOIN roots ON roots.id = folders.root_id
    LEFT JOIN locations ON locations.id = images.location_id
"""

COLOR = re.compile(r"#[0-9A-Fa-f]{6}")
"""The form of a colour."""

CONTENT = "iif(images.content_hash = '', 'image:' || images.id, images.content_hash)"
"""What a collection stores of an image; see ``kept``."""

LISTED = "(SELECT value FROM json_each(?))"


def now() -> str:
    """The current time as the catalog stores it: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")


def storable(text: str) -> str:
    """``text`` as SQLite can store it: bytes of a name that are not UTF-8 become ``\\xff``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode(errors="surrogateescape").decode(errors="backslashreplace")
        except UnicodeEncodeError:
            return text.encode(errors="backslashreplace").decode()
    return text


@dataclass(frozen=True)
class Files:
    """What distinguishes the files of images: arrays ``(n,)`` in the order of ``ids``."""

    ids: Ids
    """Sorted."""
    content: NDArray[np.int64]
    """Equal numbers for equal contents; -1 if the content is unknown."""
    phash: NDArray[np.int64]
    """0 for an image without detail."""
    hashed: NDArray[np.bool_]
    """Whether ``phash`` is known."""
    pixels: NDArray[np.int64]
    sizes: NDArray[np.int64]
    """Bytes."""


def files(connection: sqlite3.Connection, ids: Ids | None = None) -> Files:
    """``Files`` of ``ids``, or of all images."""
    condition = "" if ids is None else f" WHERE id IN {LISTED}"
    parameters = [] if ids is None else [json.dumps(ids.tolist())]
    numbers: dict[str, int] = {"": -1}
    columns = [
        (
            image,
            numbers.setdefault(content, len(numbers)),
            phash or 0,
            phash is not None,
            area,
            size,
        )
        for image, content, phash, area, size in connection.execute(
            # An image with a colour was decoded: if it has no hash, it has no detail.
            "SELECT id, content_hash, CASE WHEN phash IS NULL AND color IS NOT NULL THEN 0"
            " ELSE phash END, width * height, size FROM images"
            f"{condition} ORDER BY id",
            parameters,
        )
    ]
    table = np.array(columns, np.int64).reshape(-1, 6)
    image, content, phash, hashed, area, size = np.ascontiguousarray(table.T)
    return Files(image, content, phash, hashed.astype(bool), area, size)


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)


class Folders:
    """Ids of the folders of one root, inserted when first needed."""

    def __init__(self, connection: sqlite3.Connection, root: int) -> None:
        self.connection = connection
        self.root = root
        self.ids: dict[str, int] = {}

    def id(self, path: str) -> int:
        """The id of the folder at ``path`` (``""`` is the root itself)."""
        if path not in self.ids:
            self.connection.execute(
                "INSERT OR IGNORE INTO folders (root_id, path, folded) VALUES (?, ?, ?)",
                [self.root, path, fold(path)],
            )
            row = self.connection.execute(
                "SELECT id FROM folders WHERE root_id = ? AND path = ?", [self.root, path]
            )
            (self.ids[path],) = row.fetchone()
        return self.ids[path]

    def of_file(self, candidate: Candidate) -> tuple:
        """Values of ``_OF_FILE``."""
        try:
            candidate.path.encode()
        except UnicodeEncodeError:
            raise LibraryError(
                f"{storable(candidate.path)} has a name that is not UTF-8 and cannot be stored:"
                " rename the file"
            ) from None
        folder, _, name = candidate.path.rpartition("/")
        status = candidate.size, candidate.mtime_ns, candidate.ctime_ns, candidate.inode
        return (self.id(folder), name, fold(name), *status)


def _of_photo(image: NewImage) -> tuple:
    info = image.photo.info
    return (
        image.photo.content_hash, info.width, info.height, info.format, info.orientation,
        info.taken, _text(info.camera), _text(info.lens), info.latitude, info.longitude,
        _text(info.title), _text(info.caption), _text(info.place), info.rating, info.color,
        image.photo.phash, _text(info.url), int(image.decoded), image.candidate.metadata_stamp,
        image.pixels_hash, _text(info.taken_from),
    )  # fmt: skip


def next_id(connection: sqlite3.Connection) -> int:
    """The id of the next image: above every id ever assigned."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'images'").fetchone()
    return (row[0] if row else 0) + 1


def known_as(
    connection: sqlite3.Connection, folders: Folders, images: Sequence[NewImage]
) -> list[int | None]:
    """The existing id of each of ``images``: the one it names, if that still exists, or that of the
    image at its path; None for a new image."""
    paths = [image.candidate.path for image in images]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise LibraryError(f"{twice} is twice in one batch")
    ids: list[int | None] = []
    at_path = "SELECT id FROM images WHERE folder_id = ? AND name = ?"
    for image in images:
        row = None
        if image.image is not None:
            row = connection.execute("SELECT id FROM images WHERE id = ?", [image.image]).fetchone()
        if row is None:
            row = connection.execute(at_path, folders.of_file(image.candidate)[:2]).fetchone()
        ids.append(row[0] if row else None)
    return ids


def insert(
    connection: sqlite3.Connection, folders: Folders, images: Sequence[tuple[int, NewImage]]
) -> None:
    """Inserts new images under the ids given."""
    moment = now()
    connection.executemany(
        _INSERT,
        [(i, *folders.of_file(image.candidate), *_of_photo(image), moment) for i, image in images],
    )
    _write_listed(connection, [(i, image.photo.info) for i, image in images])


def update(
    connection: sqlite3.Connection, folders: Folders, images: Sequence[tuple[int, NewImage]]
) -> None:
    """Updates images whose files have changed, and deletes the labels of those with a new
    embedding: they described the old content. The images stay in their collections."""
    encoded = json.dumps([i for i, image in images if image.vector is not None])
    connection.executemany(
        "INSERT OR IGNORE INTO collection_images (collection_id, content, position, added_at)"
        " SELECT collection_id, ?2, position, added_at FROM collection_images"
        f" WHERE content = (SELECT {CONTENT} FROM images WHERE id = ?1) AND ?2 <> ''",
        [(i, image.photo.content_hash) for i, image in images],
    )
    _park(connection, [i for i, _ in images])
    connection.executemany(
        _UPDATE,
        [(*folders.of_file(image.candidate), *_of_photo(image), i) for i, image in images],
    )
    connection.execute(f"DELETE FROM labels WHERE image_id IN {LISTED}", [encoded])
    # What the model is shown may be the same, of a smaller part or at another size.
    ids = json.dumps([i for i, _ in images])
    connection.execute(f"DELETE FROM texts WHERE image_id IN {LISTED}", [ids])
    _write_listed(connection, [(i, image.photo.info) for i, image in images])


def describe(
    connection: sqlite3.Connection, described: Sequence[tuple[int, Candidate, PhotoInfo]]
) -> None:
    """Replaces the metadata of images whose files have not changed."""
    for i, candidate, info in described:
        values = (
            info.taken, _text(info.camera), _text(info.lens), info.latitude, info.longitude,
            _text(info.title), _text(info.caption), _text(info.place), info.rating,
            candidate.metadata_stamp, _text(info.taken_from),
        )  # fmt: skip
        connection.execute(_DESCRIBE, [*values, i])
    _write_listed(connection, [(i, info) for i, _, info in described])


def _write_listed(connection: sqlite3.Connection, images: Sequence[tuple[int, PhotoInfo]]) -> None:
    """Writes the keywords and people of images, replacing what is there."""
    ids = json.dumps([i for i, _ in images])
    for table, column, attribute in LISTS:
        connection.execute(f"DELETE FROM {table} WHERE image_id IN {LISTED}", [ids])
        connection.executemany(
            f"INSERT INTO {table} (image_id, position, {column}, folded) VALUES (?, ?, ?, ?)",
            [
                (i, position, storable(value), fold(storable(value)))
                for i, info in images
                for position, value in enumerate(getattr(info, attribute))
            ],
        )


LISTS = (("keywords", "keyword", "keywords"), ("people", "person", "people"))
"""Table, column, and field of ``PhotoInfo``."""


def move(
    connection: sqlite3.Connection, folders: Folders, moved: Sequence[tuple[int, Candidate]]
) -> None:
    """Updates the paths, sizes and times of images."""
    _park(connection, [image for image, _ in moved])
    for image, candidate in moved:
        if not connection.execute(_MOVE, [*folders.of_file(candidate), image]).rowcount:
            raise LibraryError(f"image {image} is no longer in the library")


def _park(connection: sqlite3.Connection, images: Sequence[int]) -> None:
    """Gives images a temporary name before they are renamed: two may swap paths. No file's name
    contains ``/``."""
    connection.executemany(
        "UPDATE images SET name = '/' || id WHERE id = ?", [(image,) for image in images]
    )


def copy(
    connection: sqlite3.Connection,
    folders: Folders,
    copies: Sequence[tuple[int, int, Candidate]],
    version: int,
) -> None:
    """Inserts ``(new id, id, file)``: copies of image ``id`` with its embedding, keywords,
    people, labels and text."""
    moment = now()
    for new, old, candidate in copies:
        values = [new, *folders.of_file(candidate), moment, old]
        if not connection.execute(_COPY, values).rowcount:
            raise LibraryError(f"image {old} is no longer in the library")
        connection.execute(
            "INSERT INTO embeddings SELECT ?, vector, ? FROM embeddings WHERE image_id = ?",
            [new, version, old],
        )
        connection.execute(
            "INSERT INTO texts SELECT ?, text, confidence, lines, engine, read_at FROM texts"
            " WHERE image_id = ?",
            [new, old],
        )
        for table, columns in (
            ("keywords", "position, keyword"),
            ("people", "position, person"),
            ("labels", "label, score"),
        ):
            connection.execute(
                f"INSERT INTO {table} (image_id, folded, {columns})"
                f" SELECT ?, folded, {columns} FROM {table} WHERE image_id = ?",
                [new, old],
            )


def write_texts(
    connection: sqlite3.Connection, read: Sequence[tuple[int, Sequence[TextLine]]], engine: str
) -> list[int]:
    """Stores the lines that were read in each image; returns the ids that exist."""
    listed = json.dumps([image for image, _ in read])
    sql = f"SELECT id FROM images WHERE id IN {LISTED}"
    there = {image for (image,) in connection.execute(sql, [listed])}
    moment = now()
    connection.executemany(
        "INSERT OR REPLACE INTO texts (image_id, text, confidence, lines, engine, read_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                image,
                storable("\n".join(line.text for line in lines)),
                min((line.confidence for line in lines), default=None),
                json.dumps([[storable(line.text), line.confidence, *line.box] for line in lines]),
                engine,
                moment,
            )
            for image, lines in read
            if image in there
        ],
    )
    return sorted(there)


def texts(connection: sqlite3.Connection, ids: Sequence[int]) -> dict[int, list[TextLine]]:
    """The lines read in each of ``ids`` that has any."""
    rows = connection.execute(
        f"SELECT image_id, lines FROM texts WHERE image_id IN {LISTED} AND text <> ''",
        [json.dumps(list(ids))],
    )
    try:
        return {
            image: [
                TextLine(text, confidence, (a, b, c, d)) for text, confidence, a, b, c, d in found
            ]
            for image, found in ((image, json.loads(lines)) for image, lines in rows)
        }
    except (TypeError, ValueError) as error:
        raise CorruptError(
            f"an image's text is corrupt ({error}): see `sightline doctor`"
        ) from None


def write_locations(
    connection: sqlite3.Connection, found: Sequence[tuple[int, Location | None]]
) -> None:
    """Stores the place of each image; 0 is the number of none."""
    for image, place in found:
        number = 0
        if place is not None:
            values = (
                place.country_code, place.country, place.region or "", place.city,
                place.district or "",
            )  # fmt: skip
            connection.execute(
                "INSERT OR IGNORE INTO locations (country_code, country, region, city, district)"
                " VALUES (?, ?, ?, ?, ?)",
                values,
            )
            (number,) = connection.execute(
                "SELECT id FROM locations WHERE (country_code, region, city, district)"
                " = (?, ?, ?, ?)",
                (values[0], *values[2:]),
            ).fetchone()
        connection.execute("UPDATE images SET location_id = ? WHERE id = ?", [number, image])


def in_the_way(
    connection: sqlite3.Connection, folders: Folders, moved: Sequence[tuple[int, Candidate]]
) -> list[int]:
    """Images at paths that others now have, unless they move away themselves."""
    leaving = {image for image, _ in moved}
    found: list[int] = []
    for _, candidate in moved:
        row = connection.execute(
            "SELECT id FROM images WHERE folder_id = ? AND name = ?", folders.of_file(candidate)[:2]
        ).fetchone()
        if row and row[0] not in leaving:
            found.append(row[0])
    return found


def remove(connection: sqlite3.Connection, ids: str, version: int) -> list[int]:
    """Deletes the images in the JSON list ``ids``, leaves tombstones in ``removals``, and returns
    the ids that existed. Call ``sweep_folders`` afterwards."""
    sql = f"SELECT id FROM images WHERE id IN {LISTED}"
    gone = [image for (image,) in connection.execute(sql, [ids])]
    if not gone:
        return gone
    listed = json.dumps(gone)
    full_text.remove(connection, gone)
    for table in ("keywords", "people", "labels", "texts", "embeddings"):
        connection.execute(f"DELETE FROM {table} WHERE image_id IN {LISTED}", [listed])
    connection.execute(f"DELETE FROM images WHERE id IN {LISTED}", [listed])
    connection.executemany(
        "INSERT OR REPLACE INTO removals (image_id, version) VALUES (?, ?)",
        [(i, version) for i in gone],
    )
    return gone


def sweep_folders(connection: sqlite3.Connection) -> None:
    """Deletes empty folders, at the end of a transaction that deleted or moved images. Takes 10 ms
    for 10,000 folders."""
    connection.execute(
        "DELETE FROM folders WHERE NOT EXISTS (SELECT 1 FROM images WHERE folder_id = folders.id)"
    )


def write_failures(connection: sqlite3.Connection, root: int, failed: Sequence[Failure]) -> None:
    """Stores which files could not be read, replacing their earlier failures."""
    moment = now()
    connection.executemany(
        "INSERT OR REPLACE INTO failures"
        " (root_id, path, size, mtime_ns, ctime_ns, reason, failed_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (root, storable(f.path), f.size, f.mtime_ns, f.ctime_ns, storable(f.reason), moment)
            for f in failed
        ],
    )


def mark_unread(connection: sqlite3.Connection, unreadable: Mapping[int, str]) -> None:
    """Marks the files of images as never read, and stores why they could not be."""
    found = connection.execute(
        "SELECT images.id, folders.root_id, iif(folders.path = '', '', folders.path || '/')"
        " || images.name, images.size FROM images JOIN folders ON folders.id = images.folder_id"
        f" WHERE images.id IN {LISTED}",
        [json.dumps([*unreadable])],
    ).fetchall()
    for image, root, path, size in found:
        write_failures(connection, root, [Failure("", path, size, None, unreadable[image])])
    connection.execute(
        f"UPDATE images SET size = 0, mtime_ns = NULL, pixels_hash = NULL WHERE id IN {LISTED}",
        [json.dumps([*unreadable])],
    )


def forget_failures(connection: sqlite3.Connection, root: int, paths: Sequence[str]) -> None:
    """Deletes the failures of files that can be read now or no longer exist."""
    connection.executemany(
        "DELETE FROM failures WHERE root_id = ? AND path = ?",
        [(root, storable(path)) for path in paths],
    )


def records(
    connection: sqlite3.Connection, condition: str, parameters: Sequence
) -> dict[int, ImageRecord]:
    """The images that meet the SQL ``condition``, by id."""
    rows = connection.execute(f"{_RECORDS} WHERE {condition}", parameters).fetchall()
    ids = json.dumps([row[0] for row in rows])
    listed: list[dict[int, list[str]]] = []
    for table, column, _ in LISTS:
        values: dict[int, list[str]] = {}
        for image, value in connection.execute(
            f"SELECT image_id, {column} FROM {table} WHERE image_id IN {LISTED}"
            " ORDER BY image_id, position",
            [ids],
        ):
            values.setdefault(image, []).append(value)
        listed.append(values)
    try:
        return {
            row[0]: _record(row, *(tuple(one.get(row[0], ())) for one in listed)) for row in rows
        }
    except (TypeError, ValueError) as error:
        raise CorruptError(f"an image's row is corrupt ({error}): see `sightline doctor`") from None


def _record(row: tuple, keywords: tuple[str, ...], people: tuple[str, ...]) -> ImageRecord:
    image, root, path, size, mtime_ns, added_at, code, country, region, city, district = row[:11]
    (
        content_hash, width, height, format, orientation, taken_at, camera, lens,
        latitude, longitude, title, caption, place, rating, color, phash, url, decoded,
        metadata_stamp, _, taken_from,
    ) = row[11:]  # fmt: skip
    if type(width) is not int or type(height) is not int:
        raise ValueError(f"image {image} is {width!r} x {height!r} pixels")
    moment, precision = from_text(taken_at) if taken_at else (None, "second")
    info = _filled(
        PhotoInfo,
        width=width,
        height=height,
        format=format,
        orientation=orientation,
        taken_at=moment,
        taken_precision=precision,
        taken_from=taken_from,
        camera=camera,
        lens=lens,
        latitude=latitude,
        longitude=longitude,
        title=title,
        caption=caption,
        place=place,
        keywords=keywords,
        people=people,
        rating=rating,
        # It becomes part of style sheets.
        color=color if color is None or COLOR.fullmatch(color) else None,
        url=url,
    )
    return _filled(
        ImageRecord,
        id=image,
        root=root,
        path=path,
        size=size,
        mtime_ns=mtime_ns,
        content_hash=content_hash,
        info=info,
        added_at=datetime.fromisoformat(added_at),
        phash=phash,
        decoded=decoded == 1,
        location=Location(code, country, region or None, city, district or None) if code else None,
        metadata_stamp=metadata_stamp,
    )


def _filled(kind: type[_T], /, **fields: Any) -> _T:
    """A frozen dataclass with ``fields`` set directly: its ``__init__`` calls
    ``object.__setattr__`` for each field, which took half the time of a search's fifty records."""
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made
