"""Milvus' own bulk import, for collections of 100 million pictures and more: files instead of rows
through the ordinary door. docs/scale.md has the whole way.

    prepare(shards, "milvus+http://host:19530/photos")
    writer = RemoteBulkWriter(schema(shards), ...)            # pymilvus[bulk-writer]
    for row in rows(shards): writer.append_row(row)

The server reads the files; ``sightline import SHARDS --to milvus`` then finds their rows there,
counts the facts and raises the version, after which the collection is like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

from indexer.milvus_fill import as_record, filling, folder_number
from indexer.milvus_schema import fields, row
from indexer.shard_versions import superseded
from indexer.shards import Place, read_origin, read_shard, whole_shards
from indexer.shards_to_library import where


def prepare(place: Place, address: str, *, index: str = "HNSW") -> None:
    """Makes the collection at ``address`` for the shards at ``place``, without a picture in it.
    Raises what ``fill_from_shards`` raises."""
    with filling(place, address, index=index, stop=Event()):
        pass


def schema(place: Place) -> Any:
    """The collection's schema, as pymilvus' bulk writers take it."""
    from pymilvus import CollectionSchema, DataType, FieldSchema

    columns = fields(read_origin(place).dimension, DataType)
    return CollectionSchema([FieldSchema(name, kind, **more) for name, kind, more in columns])


def rows(place: Place) -> Iterator[dict[str, Any]]:
    """Every picture at ``place`` as a row of the collection, shard after shard."""
    shards = whole_shards(place)
    old = superseded(place, shards)
    for name in shards.values():
        for group in read_shard(place, name, thumbnails=False):
            for one in group:
                if one.vector is None or one.id in old:
                    continue
                root, path = where(one)
                folder = folder_number(str(root), path.rpartition("/")[0])
                yield row(as_record(one, str(root), path), one.vector, folder)
