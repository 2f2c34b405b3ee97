"""From terms to unit vectors: words and pictures through the encoder, each only once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import NotFoundError, PhotoError, SightlineError, UsageError
from sightline.server.search.lru_cache import LruCache
from sightline.server.search.originals import original
from sightline.server.search.query import Box, Term
from sightline.server.search.uploads import Upload

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.interface import AnyLibrary
    from sightline.indexer.photo.decoder import Decoder
    from sightline.indexer.types import Embeddings, Pixels

Vector = NDArray[np.float32]
"""``(d,) float32, unit norm``."""

Yielding = Callable[[], AbstractContextManager[None]]
"""Makes a context in which the caller waits for the model and needs no CPU slot of its own."""

TEXTS = 8192
"""Texts whose vectors are kept: 16 MB at 512 dimensions."""
PARTS = 512
"""Parts of pictures whose vectors are kept."""


class TextVectors:
    """Texts -> unit vectors, remembered: a repeated or refined query runs no tower again."""

    def __init__(self, encode: Callable[[Sequence[str]], Embeddings], yielding: Yielding) -> None:
        self._encode = encode
        self._yielding = yielding
        self._kept: LruCache[Vector] = LruCache(TEXTS)

    def __call__(self, texts: Sequence[str]) -> list[Vector]:
        """The vector of each text."""
        found = {text: self._kept.get(text) for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        if new:
            with self._yielding():
                # The encoder lets those who ask at the same time share a batch.
                rows = self._encode(new)
            for text, row in zip(new, rows, strict=True):
                found[text] = self._kept.put(text, row.copy())
        return [vector for text in texts if (vector := found[text]) is not None]


class TermVectors:
    """Turns the terms of queries into unit vectors. Safe to use from several threads."""

    def __init__(
        self,
        library: AnyLibrary,
        encoder: Encoder,
        uploads: LruCache[Upload],
        *,
        yielding: Yielding,
    ) -> None:
        self._yielding = yielding
        self._library = library
        self._encoder = encoder
        self._uploads = uploads
        self.texts = TextVectors(encoder.encode_texts, yielding)
        self._parts: LruCache[Vector] = LruCache(PARTS)
        self._shown: LruCache[Upload] = LruCache(PARTS)
        self._decoder: Decoder | None = None
        self._decoding = threading.Lock()
        self._tower = threading.Lock()

    def close(self) -> None:
        """Ends the worker processes that decode pictures, if there are any."""
        with self._decoding:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None

    def resolve(self, terms: Sequence[Term]) -> list[Vector]:
        """The unit vector of each term, whatever its weight.

        Raises ``NotFoundError`` for a picture that is not there, ``UsageError`` for an upload that
        was forgotten.
        """
        texts = [term.text for term in terms if term.text is not None]
        words = iter(self.texts(texts))
        return [next(words) if term.text is not None else self._picture(term) for term in terms]

    def show(self, data: bytes) -> Upload:
        """Decodes and encodes a picture's bytes; the same bytes only once.

        Raises ``UsageError`` naming what is wrong with the picture.
        """
        key = hashlib.blake2b(data, digest_size=16).digest()
        return self._shown.get_or_create(key, lambda: self._read(data))

    def _read(self, data: bytes) -> Upload:
        with self._yielding():
            try:
                photo = self.decoder.read_bytes(data)
            except PhotoError as error:
                raise UsageError(f"this picture cannot be read: {error}") from error
            vector = self._encode(photo.pixels)
        return Upload(photo.info.width, photo.info.height, vector, photo.thumbnail)

    @property
    def decoder(self) -> Decoder:
        """Reads pictures in processes of their own: what comes from outside, and what is decoded in
        full for a page. Two of them: more wait rather than take memory."""
        with self._decoding:
            if self._decoder is None:
                from sightline.indexer.photo.decoder import Decoder

                self._decoder = Decoder(self._encoder.geometry, workers=2)
            return self._decoder

    def _picture(self, term: Term) -> Vector:
        if term.upload is not None:
            upload = self._uploads.get(term.upload)
            if upload is None:
                raise UsageError(f"upload:{term.upload} is not known any more: send it again")
            if term.crop is None:
                return upload.vector
            box, thumbnail = term.crop, upload.thumbnail
            return self._parts.get_or_create(
                (term.upload, box), lambda: self._part(thumbnail, box, term)
            )
        assert term.like is not None
        if term.crop is not None:
            return self._part_of_image(term, term.like, term.crop)
        vector = self._library.vectors(np.array([term.like], np.int64))[0]
        if np.isnan(vector[0]):
            raise NotFoundError(f"there is no picture {term.like} in this library")
        return vector

    def _part_of_image(self, term: Term, image: int, box: Box) -> Vector:
        record = self._library.image(image)
        if record is None:
            raise NotFoundError(f"there is no picture {image} in this library")

        def make() -> Vector:
            try:
                return self._part(original(record), box, term)
            except SightlineError:
                # The file is away or unreadable now; the thumbnail is still here.
                thumbnail = self._library.thumbnail(image)
                if thumbnail is None:
                    raise
                return self._part(thumbnail, box, term)

        return self._parts.get_or_create((image, record.content_hash, box), make)

    def _part(self, source: Path | bytes, box: Box, term: Term) -> Vector:
        with self._yielding():
            try:
                return self._encode(self.decoder.crop(source, box))
            except PhotoError as error:
                raise UsageError(f"{term.to_text()} cannot be cut: {error}") from error

    def _encode(self, pixels: Pixels) -> Vector:
        with self._tower:
            return self._encoder.encode_images(pixels[None])[0]
