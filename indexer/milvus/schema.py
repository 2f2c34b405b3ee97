"""The rows of a Milvus collection: one per image, and one per fact about the collection.

    <collection>          id, embedding, the fields that filters compare, the rest as JSON
    <collection>_facts    model, folders, facets, finished shards, the version

Values that filters compare have their own field, case-folded where case does not matter. Milvus 2.3
has no null: an unknown value is a number or text that no filter matches. The metric is the inner
product of the stored vectors, as in a local library, so that scores are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from sightline.indexer.catalog.full_text import fold, plain, words_in
from sightline.indexer.milvus.tokens import (
    MAX_TOKEN_BYTES,
    MAX_TOKENS,
    NGRAMS,
    TOKENS,
    ngrams,
    truncated,
    without_wildcards,
)
from sightline.indexer.types import ImageRecord, Location, PhotoInfo, TextLine

FORMAT = "sightline-milvus-1"
"""Which layout the fact ``library`` names; readers refuse any other."""

METRIC = "IP"

UNKNOWN_TIME = -(2**60)
UNKNOWN_MTIME = -(2**62)
"""Before all others, as NULL is in SQLite; whether it is known is in the record."""
UNKNOWN_COORDINATE = 1000.0
UNKNOWN_RATING = -1

NAME_BYTES, VALUE_BYTES, LISTED_BYTES, RECORD_BYTES = 2048, 1024, 512, 60_000
"""Of a file name, a camera or lens, a keyword or label, a record. Milvus stores 65,535 at most."""

MAX_LINES = 200
"""Lines of text of one image."""

MAX_LISTED = 1024
"""Keywords, or labels, of one image."""

RECORD_FIELDS = ["id", "folder", "taken", "mtime_ns", "width", "height", "format", "camera", "lens",
                 "latitude", "longitude", "rating", "record"]  # fmt: skip
"""The fields that ``to_record`` reads."""


def fields(dimension: int, types: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """``(name, type, options)`` of the collection's fields; ``types`` is pymilvus' DataType."""
    listed = {"element_type": types.VARCHAR, "max_capacity": MAX_LISTED, "max_length": LISTED_BYTES}
    tokens = {
        "element_type": types.VARCHAR,
        "max_capacity": MAX_TOKENS,
        "max_length": MAX_TOKEN_BYTES,
    }
    return [
        ("id", types.INT64, {"is_primary": True}),
        ("embedding", types.FLOAT_VECTOR, {"dim": dimension}),
        ("folder", types.INT64, {}),
        ("name", types.VARCHAR, {"max_length": NAME_BYTES}),
        ("taken", types.INT64, {}),
        ("mtime_ns", types.INT64, {}),
        ("width", types.INT32, {}),
        ("height", types.INT32, {}),
        ("format", types.VARCHAR, {"max_length": 64}),
        ("camera", types.VARCHAR, {"max_length": VALUE_BYTES}),
        ("lens", types.VARCHAR, {"max_length": VALUE_BYTES}),
        ("latitude", types.DOUBLE, {}),
        ("longitude", types.DOUBLE, {}),
        ("rating", types.INT8, {}),
        ("keywords", types.ARRAY, listed),
        ("labels", types.ARRAY, listed),
        (TOKENS, types.ARRAY, tokens),
        (NGRAMS, types.ARRAY, tokens),
        ("stamp", types.INT64, {}),
        ("record", types.JSON, {}),
    ]


def fact_fields(types: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """The fields of the facts. Milvus requires a vector in every collection; it is unused here."""
    return [
        ("name", types.VARCHAR, {"is_primary": True, "max_length": 1024}),
        ("nothing", types.FLOAT_VECTOR, {"dim": 2}),
        ("value", types.JSON, {}),
    ]


def from_json(value: Any) -> Any:
    """The value of a JSON field, which Milvus Lite returns parsed and a server as text."""
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def to_seconds(moment: datetime | None) -> int:
    """A camera's local time as a number of the same order; UNKNOWN_TIME for None."""
    if moment is None:
        return UNKNOWN_TIME
    return int(moment.replace(tzinfo=UTC, microsecond=0).timestamp())


def to_moment(seconds: int) -> datetime | None:
    """The inverse of ``to_seconds``."""
    if seconds == UNKNOWN_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def folder_number(root: str, path: str) -> int:
    """The number of a folder in rows: a hash of its name, so that parallel runs need not agree."""
    return xxhash.xxh3_64_intdigest(f"{root}\0{path}".encode()) >> 1


def to_row(
    record: ImageRecord,
    vector: NDArray[np.float32],
    labels: Sequence[tuple[str, float]] = (),
    *,
    lines: Sequence[TextLine] = (),
    tokens: Sequence[str] | None = None,
    with_ngrams: bool = False,
) -> dict[str, Any]:
    """The row of one image. ``tokens`` is None for a collection without a field for them;
    ``with_ngrams`` adds the n-grams of the name."""
    info = record.info
    folder, _, name = record.path.rpartition("/")
    row: dict[str, Any] = {
        "id": record.id,
        "folder": folder_number(record.root, folder),
        "name": truncated(without_wildcards(fold(name)), NAME_BYTES),
        "taken": to_seconds(info.taken_at),
        "mtime_ns": UNKNOWN_MTIME if record.mtime_ns is None else record.mtime_ns,
        "width": info.width,
        "height": info.height,
        "format": info.format,
        "camera": truncated(info.camera or "", VALUE_BYTES),
        "lens": truncated(info.lens or "", VALUE_BYTES),
        "latitude": UNKNOWN_COORDINATE if info.latitude is None else info.latitude,
        "longitude": UNKNOWN_COORDINATE if info.longitude is None else info.longitude,
        "rating": UNKNOWN_RATING if info.rating is None else info.rating,
        "keywords": _folded(info.keywords),
        "labels": _folded(label for label, _ in labels),
        "record": _within_limit(
            {
                "name": name,
                "size": record.size,
                "read": record.mtime_ns is not None,
                "content_hash": record.content_hash,
                "phash": None if record.phash is None else str(record.phash),
                "added_at": record.added_at.isoformat(),
                "orientation": info.orientation,
                "taken_precision": info.taken_precision,
                "taken_from": info.taken_from,
                "color": info.color,
                "title": info.title,
                "place": info.place,
                "url": info.url,
                "keywords": list(info.keywords),
                "people": list(info.people),
                "people_folded": _folded(info.people),
                "location": None if record.location is None else list(astuple(record.location)),
                "lines": [[line.text, line.confidence, *line.box] for line in lines[:MAX_LINES]],
                "written": written_words(lines),
                "places": list(dict.fromkeys(map(plain, place_names(record)))),
                "countries": country_names(record),
                "labels": [[label, score] for label, score in labels],
                "caption": info.caption,
            }
        ),
    }
    if tokens is not None:
        row[TOKENS] = list(tokens)
        row[NGRAMS] = ngrams(fold(name)) if with_ngrams else []
    digest = xxhash.xxh3_64(json.dumps(row, sort_keys=True, default=str).encode())
    digest.update(np.asarray(vector, "<f2").tobytes())
    row["stamp"] = digest.intdigest() - 2**63
    row["embedding"] = np.asarray(vector, np.float32)
    return row


def written_words(lines: Iterable[TextLine]) -> list[str]:
    """The distinct words in an image, as ``text:`` compares them."""
    return list(dict.fromkeys(word for line in lines for word in words_in(line.text)))[:MAX_LISTED]


def place_names(record: ImageRecord) -> list[str]:
    """Names that ``place:`` finds."""
    names = record.location.names if record.location else ()
    return [*names, *((record.info.place,) if record.info.place else ())]


def country_names(record: ImageRecord) -> list[str]:
    """What ``country:`` finds, as filters compare it."""
    place = record.location
    return [] if place is None else [plain(place.country_code), plain(place.country)]


def _folded(values: Iterable[str]) -> list[str]:
    """Keywords or labels as filters compare them, without duplicates."""
    return list(dict.fromkeys(truncated(fold(value), LISTED_BYTES) for value in values))[
        :MAX_LISTED
    ]


def _within_limit(record: dict[str, Any]) -> dict[str, Any]:
    """``record``, cut to ``RECORD_BYTES``: first a caption as long as a novel, then the rest."""
    for name, size in (
        ("caption", 8000),
        ("title", 4000),
        ("keywords", 1000),
        ("labels", 500),
        ("lines", 100),
        ("written", 500),
    ):
        if len(json.dumps(record).encode()) <= RECORD_BYTES:
            break
        if record[name]:
            record[name] = record[name][:size]
    return record


def to_record(row: dict[str, Any], folders: dict[int, tuple[str, str]]) -> ImageRecord:
    """The image of a row with ``RECORD_FIELDS``. ``folders`` maps numbers to ``(root, path)``."""
    stored = from_json(row["record"])
    root, path = folders.get(row["folder"], ("/", ""))
    # Rows of earlier versions hold the mtime 0 of files that were never read.
    was_read = stored.get("read", row["mtime_ns"] != 0)
    info = PhotoInfo(
        width=row["width"],
        height=row["height"],
        format=row["format"],
        orientation=stored["orientation"],
        taken_at=to_moment(row["taken"]),
        taken_precision=stored.get("taken_precision", "second"),
        taken_from=stored.get("taken_from"),
        camera=row["camera"] or None,
        lens=row["lens"] or None,
        latitude=None if row["latitude"] == UNKNOWN_COORDINATE else row["latitude"],
        longitude=None if row["longitude"] == UNKNOWN_COORDINATE else row["longitude"],
        title=stored["title"],
        caption=stored["caption"],
        place=stored["place"],
        keywords=tuple(stored["keywords"]),
        people=tuple(stored.get("people", ())),
        rating=None if row["rating"] == UNKNOWN_RATING else row["rating"],
        color=stored["color"],
        url=stored["url"],
    )
    return ImageRecord(
        id=row["id"],
        root=root,
        path=f"{path}/{stored['name']}" if path else stored["name"],
        size=stored["size"],
        mtime_ns=row["mtime_ns"] if was_read else None,
        content_hash=stored["content_hash"],
        info=info,
        added_at=datetime.fromisoformat(stored["added_at"]),
        location=Location(*stored["location"]) if stored.get("location") else None,
        phash=None if stored["phash"] is None else int(stored["phash"]),
        decoded=was_read,
    )
