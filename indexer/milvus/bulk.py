"""Milvus' own bulk import, for collections of 100 million images and more: the server reads files.
docs/scale.md shows every step.

    create_for_shards(shards, "milvus+http://host:19530/photos")
    writer = RemoteBulkWriter(schema(shards), ...)            # pymilvus[bulk-writer]
    for row in rows(shards): writer.append_row(row)

Afterwards ``sightline import SHARDS --to milvus`` finds the rows there, counts the facts and raises
the version; the collection is then like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from sightline.indexer.milvus.fill import create_for_shards, embedded_images, rows_of
from sightline.indexer.milvus.schema import fields
from sightline.indexer.places import Gazetteer
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import read_origin, read_shard, whole_shards
from sightline.indexer.shards.superseded import superseded

__all__ = ["create_for_shards", "rows", "schema"]


def schema(place: Place) -> Any:
    """The collection's schema, as pymilvus' bulk writers require it."""
    from pymilvus import CollectionSchema, DataType, FieldSchema

    columns = fields(read_origin(place).dimension, DataType)
    return CollectionSchema([FieldSchema(name, kind, **more) for name, kind, more in columns])


def rows(place: Place) -> Iterator[dict[str, Any]]:
    """Every image at ``place`` as a row of the collection, shard after shard."""
    shards = whole_shards(place)
    old = superseded(place, shards)
    gazetteer = cache(Gazetteer.load)
    for name in shards.values():
        for group in read_shard(place, name, thumbnails=False):
            images = embedded_images((row for row in group if row.id not in old), gazetteer)
            yield from rows_of(images, {}, {}, with_tokens=True, with_ngrams=False)
