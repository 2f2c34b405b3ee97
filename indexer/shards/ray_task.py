"""Embeds one shard, from its images to its parquet file: the work of one Ray task.

Reading and encoding are those of ``sightline index`` (``photo.decoder``, ``encoder``). The model is
loaded once per process and cached for the next shards.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from sightline.indexer.encoder import encode_photos
from sightline.indexer.errors import ModelMismatchError
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.capture_date import from_name, with_date
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import Shard, ShardImage, Source, images
from sightline.indexer.shards.shard_files import (
    MAX_ROWS,
    Origin,
    ShardRow,
    ShardWriter,
    image_id,
    read_shard,
    row_numbers,
    shard_name,
)
from sightline.indexer.types import Photo

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder


@dataclass(frozen=True)
class Job:
    """What all shards of a run have in common."""

    output: str
    origin: Origin
    device: str = "auto"
    dtype: str = "auto"
    """``auto`` is never int8: no library is at hand whose images could decide for it."""
    decoders: int = 1
    """Processes that decode beside the encoder."""
    thumbnails: bool = True


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard."""

    number: int
    embedded: int
    failed: int
    seconds: float
    load_seconds: float
    """Spent on loading the model; 0 if the process had it."""
    worker: str
    """``host:process id``."""


@lru_cache(maxsize=1)
def _encoder(model: str, revision: str, device: str, dtype: str) -> Encoder:
    from sightline.indexer.encoder import Encoder

    encoder = Encoder.load(model, device=device, dtype=dtype, revision=revision)
    if (encoder.model, encoder.revision) != (model, revision):
        raise ModelMismatchError(
            f"{socket.gethostname()} has {encoder.model} in revision {encoder.revision[:12]}, and"
            f" the run uses {revision[:12]}: put the same model on every machine"
        )
    encoder.warm(("image",))
    return encoder


def embed_shard(job: Job, shard: Shard, retry: frozenset[int] = frozenset()) -> ShardReport:
    """Reads, encodes and writes one shard. An image that cannot be read is a row with the reason.

    ``retry`` are rows of a shard that exists: only these, and what its archive has beyond its rows,
    are read, and the shard is rewritten with them. Raises ModelError if this machine cannot load
    the model, OSError if the output cannot be written.
    """
    started = time.monotonic()
    misses = _encoder.cache_info().misses
    encoder = _encoder(job.origin.model, job.origin.revision, job.device, job.dtype)
    loaded = _encoder.cache_info().misses > misses
    load_seconds = time.monotonic() - started if loaded else 0.0
    embedded = failed = 0
    place = Place.at(job.output)
    failures: list[ShardRow] = []
    name = shard_name(shard.number)
    kept = row_numbers(place, name) - retry if retry else frozenset()
    with (
        Decoder(encoder.geometry, workers=job.decoders, thumbnails=job.thumbnails) as decoder,
        ShardWriter(place, shard.number, encoder.dimension) as out,
    ):

        def write_failures() -> int:
            count = len(failures)
            for row in failures:
                out.write(row)
            failures.clear()
            return count

        def photos() -> Iterator[tuple[ShardImage, Photo]]:
            found = images(shard, list_archive=decoder.list_archive, but=kept)
            for image, outcome in decoder.each(_at_most_max_rows(found)):
                if isinstance(outcome, Photo):
                    yield image, outcome
                else:
                    row = replace(_row(shard, image), failure=str(outcome))
                    failures.append(replace(row, passing=outcome.transient))

        for rows in read_shard(place, name) if retry else ():
            for row in rows:
                if row.id % MAX_ROWS in kept:
                    out.write(row)
        for batch in encode_photos(encoder, photos()):
            for image, photo, vector in batch:
                caption = photo.info.caption or image.caption
                info = replace(photo.info, caption=caption, url=photo.info.url or image.url)
                out.write(
                    replace(
                        _row(shard, image),
                        vector=vector,
                        info=with_date(info, from_name(image.path), "name"),
                        content_hash=photo.content_hash,
                        phash=photo.phash,
                        thumbnail=photo.thumbnail or None,
                    )
                )
                embedded += 1
            failed += write_failures()
        failed += write_failures()
    return ShardReport(
        shard.number,
        embedded,
        failed,
        time.monotonic() - started,
        load_seconds,
        f"{socket.gethostname()}:{os.getpid()}",
    )


def _row(shard: Shard, image: ShardImage) -> ShardRow:
    id = image_id(shard.number, image.row)
    return ShardRow(id, shard.source, image.path, image.size, image.mtime_ns)


def _at_most_max_rows(
    read: Iterable[tuple[ShardImage, Source]],
) -> Iterator[tuple[ShardImage, Source]]:
    for image, source in read:
        if image.row >= MAX_ROWS:
            raise ValueError(
                f"{image.path}: an archive may hold {MAX_ROWS:,} images; split this one"
            )
        yield image, source
