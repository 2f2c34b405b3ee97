"""Keeping every core busy: photographs come in one by one, encoded batches go out.

On a CPU the work is shared out by letting several batches be encoded at once, each on one thread,
while other processes decode: whoever has work has a core, so neither side waits for the other, and
no thread spins at a barrier. On a GPU one thread feeds the card.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from sightline.indexer.types import Embeddings, Photo, Pixels

Key = TypeVar("Key")


def in_batches(
    photos: Iterable[tuple[Key, Photo]],
    encode: Callable[[Pixels], Embeddings],
    *,
    size: int,
    lanes: int,
) -> Iterator[list[tuple[Key, Photo, Embeddings]]]:
    """Encodes ``photos`` in batches of ``size``, up to ``lanes`` of them at the same time.

    Yields lists of (key, photo, ``(d,)`` unit vector) in the order in which the photos came. At
    most ``lanes + 1`` batches are in memory. An error of ``encode`` is raised where its batch
    would have been yielded.
    """
    with ThreadPoolExecutor(max_workers=lanes, thread_name_prefix="encode") as pool:
        waiting: deque[tuple[list[tuple[Key, Photo]], Future[Embeddings]]] = deque()
        batch: list[tuple[Key, Photo]] = []

        def submit() -> None:
            pixels = np.stack([photo.pixels for _, photo in batch])
            waiting.append((list(batch), pool.submit(encode, pixels)))
            batch.clear()

        def finished() -> list[tuple[Key, Photo, Embeddings]]:
            photos, future = waiting.popleft()
            vectors = future.result()
            return [
                (key, photo, vector) for (key, photo), vector in zip(photos, vectors, strict=True)
            ]

        for item in photos:
            batch.append(item)
            if len(batch) == size:
                submit()
            while waiting and (len(waiting) > lanes or waiting[0][1].done()):
                yield finished()
        if batch:
            submit()
        while waiting:
            yield finished()
