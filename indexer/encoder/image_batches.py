"""Encodes a stream of photos in batches, several at the same time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from sightline.indexer.types import Embeddings, Photo

if TYPE_CHECKING:
    from sightline.indexer.encoder.encoder import Encoder

Key = TypeVar("Key")


SMALLEST = 4
"""The smallest batch is this fraction of the largest: it takes a tenth more time per image."""


def encode_photos(
    encoder: Encoder, photos: Iterable[tuple[Key, Photo]], *, count: int | None = None
) -> Iterator[list[tuple[Key, Photo, Embeddings]]]:
    """Encodes ``photos`` in batches of ``encoder.batch_size``, as many at once as it recommends.

    ``count`` is how many they are, at most: the last batches are then smaller, so that all cores
    have work until the end (guided self-scheduling, C. Polychronopoulos and D. Kuck, 1987).

    Yields lists of (key, photo, ``(d,)`` unit vector) in the order of ``photos``. An error of the
    encoder is raised where its batch would have been yielded.
    """
    pending: deque[tuple[list[tuple[Key, Photo]], Future[Embeddings]]] = deque()

    def result() -> list[tuple[Key, Photo, Embeddings]]:
        batch, future = pending.popleft()
        return [(*item, vector) for item, vector in zip(batch, future.result(), strict=True)]

    with (
        encoder.concurrent_encoding() as concurrency,
        ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="encode") as pool,
    ):

        def submit(batch: list[tuple[Key, Photo]]) -> None:
            pixels = [photo.pixels for _, photo in batch]
            pending.append((batch, pool.submit(encoder.encode_images, pixels)))

        largest = encoder.batch_size

        def next_size(done: int) -> int:
            if count is None:
                return largest
            return min(max((count - done) // concurrency, largest // SMALLEST, 1), largest)

        batch: list[tuple[Key, Photo]] = []
        size = next_size(0)
        for number, item in enumerate(photos, 1):
            batch.append(item)
            if len(batch) == size:
                submit(batch)
                batch, size = [], next_size(number)
            while pending and (len(pending) > concurrency or pending[0][1].done()):
                yield result()
        if batch:
            submit(batch)
        while pending:
            yield result()
