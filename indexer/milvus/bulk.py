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

from sightline.indexer.milvus.fill import embedded, filling, folder_number
from sightline.indexer.milvus.schema import fields, row
from sightline.indexer.milvus.words import words_of
from sightline.indexer.shards.shard_files import Place, read_origin, read_shard, whole_shards
from sightline.indexer.shards.superseded import superseded


def prepare(place: Place, address: str, *, index: str = "HNSW") -> None:
    """Makes the collection at ``address`` for the shards at ``place``, without a picture in it:
    one for rows that are the same for every server, so that Milvus before 2.4 refuses ``name:``.
    Raises what ``fill_from_shards`` raises."""
    with filling(place, address, index=index, stop=Event()) as work:
        work.without_name_parts()


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
            found = list(embedded(one for one in group if one.id not in old))
            words = words_of([record for record, _ in found])
            for (record, vector), said in zip(found, words, strict=True):
                folder = folder_number(record.root, record.path.rpartition("/")[0])
                yield row(record, vector, folder, words=said)
