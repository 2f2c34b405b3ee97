"""One shard, from its pictures to its parquet file: what a worker process of a cluster does.

The photo code and the encoder are those of a run on one machine (``decode``, ``encoding``,
``encoder``). The model is loaded once a process and kept for the shards that follow.
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
from sightline.indexer.errors import ModelMismatchError, PhotoError
from sightline.indexer.photo.decoder import Decoder
from sightline.indexer.shards.plan import Picture, Read, Shard, pictures
from sightline.indexer.shards.shard_files import (
    MOST_ROWS,
    Origin,
    Place,
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
    """What every shard of a run has in common."""

    output: str
    origin: Origin
    device: str = "auto"
    decoders: int = 1
    """Processes that decode beside the encoder."""
    thumbnails: bool = True


@dataclass(frozen=True)
class ShardDone:
    """What became of one shard."""

    number: int
    embedded: int
    failed: int
    seconds: float
    load_seconds: float
    """Spent on the model; 0 where the process had it already."""
    worker: str
    """``host:process id``."""


@lru_cache(maxsize=1)
def _encoder(model: str, revision: str, device: str) -> Encoder:
    from sightline.indexer.encoder import Encoder

    encoder = Encoder.load(model, device=device, revision=revision)
    if (encoder.model, encoder.revision) != (model, revision):
        raise ModelMismatchError(
            f"{socket.gethostname()} has {encoder.model} in revision {encoder.revision[:12]}, and"
            f" the run uses {revision[:12]}: put the same model on every machine"
        )
    encoder.warm(("image",))
    return encoder


def embed_shard(job: Job, shard: Shard, again: frozenset[int] = frozenset()) -> ShardDone:
    """Reads, encodes and writes one shard. Its file is whole or not there. Of a shard that is
    there only the rows ``again`` are read, and what an archive has beyond them; it is written
    anew with them.

    Raises ModelError where the model cannot be had on this machine, OSError where the output
    cannot be written. A picture that cannot be read is a row with the reason.
    """
    started = time.monotonic()
    loaded = _encoder.cache_info().misses
    encoder = _encoder(job.origin.model, job.origin.revision, job.device)
    load_seconds = time.monotonic() - started if _encoder.cache_info().misses > loaded else 0.0
    embedded = failed = 0
    place = Place.at(job.output)
    failures: list[ShardRow] = []
    name = shard_name(shard.number)
    there = row_numbers(place, name) - again if again else frozenset()
    with (
        Decoder(encoder.geometry, workers=job.decoders, thumbnails=job.thumbnails) as decoder,
        ShardWriter(place, shard.number, encoder.dimension) as out,
    ):
        for rows in read_shard(place, name) if again else ():
            for row in rows:
                if row.id % MOST_ROWS in there:
                    out.write(row)
        photos = _readable(decoder.each(_bounded(pictures(shard, but=there))), shard, failures)
        for batch in encode_photos(encoder, photos):
            for picture, photo, vector in batch:
                row = _row(shard, picture)
                info = photo.info
                caption = info.caption or picture.caption
                info = replace(info, caption=caption, url=picture.url)
                out.write(
                    replace(
                        row,
                        vector=vector,
                        info=info,
                        content_hash=photo.content_hash,
                        phash=photo.phash,
                        thumbnail=photo.thumbnail or None,
                    )
                )
                embedded += 1
            failed += _write_all(out, failures)
        failed += _write_all(out, failures)
    return ShardDone(
        shard.number,
        embedded,
        failed,
        time.monotonic() - started,
        load_seconds,
        f"{socket.gethostname()}:{os.getpid()}",
    )


def _row(shard: Shard, picture: Picture) -> ShardRow:
    return ShardRow(
        image_id(shard.number, picture.row),
        shard.source,
        picture.path,
        picture.size,
        picture.mtime_ns,
    )


def _write_all(out: ShardWriter, failures: list[ShardRow]) -> int:
    count = len(failures)
    for row in failures:
        out.write(row)
    failures.clear()
    return count


def _bounded(read: Iterable[Read]) -> Iterator[Read]:
    for picture, source in read:
        if picture.row >= MOST_ROWS:
            raise ValueError(
                f"{picture.path}: an archive may hold {MOST_ROWS:,} pictures; split this one"
            )
        yield picture, source


def _readable(
    read: Iterable[tuple[Picture, Photo | PhotoError]], shard: Shard, failures: list[ShardRow]
) -> Iterator[tuple[Picture, Photo]]:
    """The photos among ``read``; what could not be read goes to ``failures``."""
    for picture, outcome in read:
        if isinstance(outcome, PhotoError):
            failures.append(
                replace(_row(shard, picture), failure=str(outcome), passing=outcome.passing)
            )
        else:
            yield picture, outcome
