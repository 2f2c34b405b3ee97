"""How a picture lies in a Milvus collection: one row, its vector, what filters ask for, the record.

    <collection>          a row a picture
    <collection>_facts    a row a fact: model, folders, facets, shards done, the version

What filters compare has a field of its own, folded where case makes no difference; Milvus of 2.3
knows no null, so what is not known is a number or text that nothing meets. Everything else is in
``record``, JSON. The metric is the inner product of the stored vectors, as in a local library, so
that both give the same scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from sightline.indexer.catalog.full_text import fold
from sightline.indexer.milvus.filters import plain
from sightline.indexer.milvus.words import MOST_WORDS, PARTS, WORD, WORDS, cut, name_parts
from sightline.indexer.types import ImageRecord, PhotoInfo

UNKNOWN_TIME = -(2**60)
UNKNOWN_PLACE = 1000.0
UNKNOWN_RATING = -1

NAME, VALUE, LISTED, RECORD = 2048, 1024, 512, 60_000
"""Bytes: of a file's name, a camera's, a keyword, a record. Milvus takes 65,535 at most."""

MOST_LISTED = 1024
"""Keywords or labels of one picture."""

METRIC = "IP"

RECORDS = ["id", "folder", "taken", "mtime_ns", "width", "height", "format", "camera", "lens",
           "latitude", "longitude", "rating", "record"]  # fmt: skip
"""What a record is made from."""


def fields(dimension: int, types: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """Of the collection: name, type, options."""
    text = {"element_type": types.VARCHAR, "max_capacity": MOST_LISTED, "max_length": LISTED}
    words = {"element_type": types.VARCHAR, "max_capacity": MOST_WORDS, "max_length": WORD}
    return [
        ("id", types.INT64, {"is_primary": True}),
        ("embedding", types.FLOAT_VECTOR, {"dim": dimension}),
        ("folder", types.INT64, {}),
        ("name", types.VARCHAR, {"max_length": NAME}),
        ("taken", types.INT64, {}),
        ("mtime_ns", types.INT64, {}),
        ("width", types.INT32, {}),
        ("height", types.INT32, {}),
        ("format", types.VARCHAR, {"max_length": 64}),
        ("camera", types.VARCHAR, {"max_length": VALUE}),
        ("lens", types.VARCHAR, {"max_length": VALUE}),
        ("latitude", types.DOUBLE, {}),
        ("longitude", types.DOUBLE, {}),
        ("rating", types.INT8, {}),
        ("keywords", types.ARRAY, text),
        ("labels", types.ARRAY, text),
        (WORDS, types.ARRAY, words),
        (PARTS, types.ARRAY, words),
        ("stamp", types.INT64, {}),
        ("record", types.JSON, {}),
    ]


def fact_fields(types: Any) -> list[tuple[str, Any, dict[str, Any]]]:
    """Of the facts' collection. Milvus wants a vector in each; here it says nothing."""
    return [
        ("name", types.VARCHAR, {"is_primary": True, "max_length": 1024}),
        ("nothing", types.FLOAT_VECTOR, {"dim": 2}),
        ("value", types.JSON, {}),
    ]


def seconds(moment: datetime | None) -> int:
    """A camera's local time as a number that orders as it does."""
    if moment is None:
        return UNKNOWN_TIME
    return int(moment.replace(tzinfo=UTC, microsecond=0).timestamp())


def moment(number: int) -> datetime | None:
    """The other way round."""
    if number == UNKNOWN_TIME:
        return None
    return datetime.fromtimestamp(number, UTC).replace(tzinfo=None)


def row(
    record: ImageRecord,
    vector: NDArray[np.float32],
    folder: int,
    labels: Sequence[tuple[str, float]] = (),
    words: Sequence[str] | None = None,
    parts: bool = False,
) -> dict[str, Any]:
    """What is written for one picture. ``folder`` is the number of its folder among the facts,
    ``words`` what ``milvus_words`` gives for it; None where a collection has no field for them.
    ``parts``: those of its name too."""
    info = record.info
    name = record.path.rpartition("/")[2]
    value: dict[str, Any] = {
        "id": record.id,
        "folder": folder,
        "name": cut(plain(fold(name)), NAME),
        "taken": seconds(info.taken_at),
        "mtime_ns": record.mtime_ns,
        "width": info.width,
        "height": info.height,
        "format": info.format,
        "camera": cut(info.camera or "", VALUE),
        "lens": cut(info.lens or "", VALUE),
        "latitude": UNKNOWN_PLACE if info.latitude is None else info.latitude,
        "longitude": UNKNOWN_PLACE if info.longitude is None else info.longitude,
        "rating": UNKNOWN_RATING if info.rating is None else info.rating,
        "keywords": folded(info.keywords),
        "labels": folded(label for label, _ in labels),
        "record": kept(
            {
                "name": name,
                "size": record.size,
                "content_hash": record.content_hash,
                "phash": None if record.phash is None else str(record.phash),
                "added_at": record.added_at.isoformat(),
                "orientation": info.orientation,
                "color": info.color,
                "title": info.title,
                "place": info.place,
                "url": info.url,
                "keywords": list(info.keywords),
                "labels": [[label, score] for label, score in labels],
                "caption": info.caption,
            }
        ),
    }
    if words is not None:
        value[WORDS] = list(words)
        value[PARTS] = name_parts(fold(name)) if parts else []
    digest = xxhash.xxh3_64(json.dumps(value, sort_keys=True, default=str).encode())
    digest.update(np.asarray(vector, "<f2").tobytes())
    value["stamp"] = digest.intdigest() - 2**63
    value["embedding"] = np.asarray(vector, np.float32)
    return value


def folded(values: Any) -> list[str]:
    """Keywords or labels as filters compare them, each once."""
    return list(dict.fromkeys(cut(fold(value), LISTED) for value in values))[:MOST_LISTED]


def kept(record: dict[str, Any]) -> dict[str, Any]:
    """``record`` without what does not fit into a row: the end of a caption of a novel's length,
    then keywords beyond the thousandth."""
    for name, most in (("caption", 8000), ("title", 4000), ("keywords", 1000), ("labels", 500)):
        if len(json.dumps(record).encode()) <= RECORD:
            break
        if record[name]:
            record[name] = record[name][:most]
    return record


def to_record(row: dict[str, Any], folders: dict[int, tuple[str, str]]) -> ImageRecord:
    """An image from its row. ``folders`` gives the root and the path of each folder."""
    said = row["record"]
    if isinstance(said, str):
        said = json.loads(said)
    root, path = folders.get(row["folder"], ("/", ""))
    info = PhotoInfo(
        width=row["width"],
        height=row["height"],
        format=row["format"],
        orientation=said["orientation"],
        taken_at=moment(row["taken"]),
        camera=row["camera"] or None,
        lens=row["lens"] or None,
        latitude=None if row["latitude"] == UNKNOWN_PLACE else row["latitude"],
        longitude=None if row["longitude"] == UNKNOWN_PLACE else row["longitude"],
        title=said["title"],
        caption=said["caption"],
        place=said["place"],
        keywords=tuple(said["keywords"]),
        rating=None if row["rating"] == UNKNOWN_RATING else row["rating"],
        color=said["color"],
        url=said["url"],
    )
    return ImageRecord(
        id=row["id"],
        root=root,
        path=f"{path}/{said['name']}" if path else said["name"],
        size=said["size"],
        mtime_ns=row["mtime_ns"],
        content_hash=said["content_hash"],
        info=info,
        added_at=datetime.fromisoformat(said["added_at"]),
        phash=None if said["phash"] is None else int(said["phash"]),
    )
