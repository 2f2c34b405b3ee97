"""QueryEncoder: the terms of queries -> unit vectors, each encoded only once."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog.text_vectors import StoredTextVectors
from sightline.indexer.errors import NotFoundError, PhotoError, SightlineError, UsageError
from sightline.server.search.lru_cache import LruCache
from sightline.server.search.query import Box, Term

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import AnyLibrary
    from sightline.indexer.photo import Decoder
    from sightline.indexer.types import Candidate, Pixels

Vector = NDArray[np.float32]
"""``(d,) float32, unit norm``."""

CACHED_TEXTS = 8192
"""Text vectors in memory: 16 MB at 512 dimensions."""
UPLOAD_BYTES = 24 * 2**20
"""Of uploads in memory: 500 of 50 kB."""
IMAGE_BYTES = 4 * 2**20
"""Of query images in memory, each sent again for every page of its results."""
CACHED_REGIONS = 512
"""Vectors of image regions in memory."""
DECODERS = 2
"""Worker processes that decode query images; more requests wait rather than take memory."""


@dataclass(frozen=True)
class Upload:
    """An image to search with that is not in the library. Its file is not kept, only the vector and
    a thumbnail from which a region can be cropped; nothing is written to disk."""

    width: int
    height: int
    vector: Vector
    thumbnail: bytes
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))

    def size(self) -> int:
        """Bytes in memory."""
        return len(self.thumbnail) + self.vector.nbytes


class QueryEncoder:
    """Encodes texts and images to search with. Safe to use from several threads."""

    def __init__(
        self, library: AnyLibrary, encoder: Encoder, stored: StoredTextVectors | None = None
    ) -> None:
        """``stored``: where vectors of texts are kept for later processes."""
        self._library = library
        self._stored = stored
        self._encoder = encoder
        self._texts: LruCache[Vector] = LruCache(CACHED_TEXTS)
        self._unknown_words: LruCache[list[str]] = LruCache(CACHED_TEXTS)
        self._images: LruCache[Upload] = LruCache(IMAGE_BYTES, size_of=Upload.size)
        self._uploads: LruCache[Upload] = LruCache(UPLOAD_BYTES, size_of=Upload.size)
        self._regions: LruCache[Vector] = LruCache(CACHED_REGIONS)
        self._decoder: Decoder | None = None
        self._decoder_lock = threading.Lock()
        # One thread: OpenMP and oneDNN have threads and buffers of each thread that calls them.
        self._image_tower = ThreadPoolExecutor(1, thread_name_prefix="encode-images")

    def close(self) -> None:
        """Ends the worker processes and the image tower's thread."""
        self._image_tower.shutdown()
        with self._decoder_lock:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None

    @property
    def decoder(self) -> Decoder:
        """Decodes images in worker processes, under limits of time and memory."""
        with self._decoder_lock:
            if self._decoder is None:
                from sightline.indexer.photo import Decoder

                self._decoder = Decoder(self._encoder.geometry, workers=DECODERS)
            return self._decoder

    def encode_terms(self, terms: Sequence[Term]) -> list[Vector]:
        """The unit vector of each term, before weighting.

        Raises ``NotFoundError`` for an image that is not in the library and ``UsageError`` for an
        upload that is no longer in memory.
        """
        texts = iter(self.encode_texts([term.text for term in terms if term.text is not None]))
        return [next(texts) if term.text is not None else self._image(term) for term in terms]

    def encode_texts(self, texts: Sequence[str]) -> list[Vector]:
        """The unit vector of each text."""
        vectors = {text: self._texts.get(text) for text in texts}
        new = [text for text, vector in vectors.items() if vector is None]
        if new and self._stored is not None:
            for text, found in self._stored.get(new).items():
                vectors[text] = self._texts.put(text, found)
            new = [text for text in new if vectors[text] is None]
        if new:
            # The encoder batches the texts of concurrent callers.
            rows = self._encoder.encode_texts(new)
            encoded = {text: row.copy() for text, row in zip(new, rows, strict=True)}
            for text, made in encoded.items():
                vectors[text] = self._texts.put(text, made)
            if self._stored is not None:
                self._stored.add(encoded)
        return [vector for text in texts if (vector := vectors[text]) is not None]

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` that the model does not know; see ``Encoder.unknown_words``."""
        return self._unknown_words.get_or_create(text, lambda: self._encoder.unknown_words(text))

    def encode_image(self, data: bytes) -> Upload:
        """Decodes and encodes an image file. Raises ``UsageError`` if it cannot be decoded."""
        key = hashlib.blake2b(data, digest_size=16).digest()
        return self._images.get_or_create(key, lambda: self._read(data))

    def upload(self, data: bytes) -> Upload:
        """``encode_image``, kept for terms that name its token (``upload:TOKEN``)."""
        upload = self.encode_image(data)
        return self._uploads.put(upload.token, upload)

    def _read(self, data: bytes) -> Upload:
        try:
            photo = self.decoder.read_bytes(data)
        except PhotoError as error:
            raise UsageError(f"this image cannot be read: {error}") from error
        vector = self._encode(photo.pixels)
        return Upload(photo.info.width, photo.info.height, vector, photo.thumbnail)

    def _image(self, term: Term) -> Vector:
        if term.upload is not None:
            return self._uploaded(term, term.upload)
        assert term.like is not None
        if term.crop is not None:
            return self._region_of_image(term, term.like, term.crop)
        vector = self._library.vectors(np.array([term.like], np.int64))[0]
        if np.isnan(vector[0]):
            if self._library.image(term.like) is not None:
                raise NotFoundError(f"image {term.like} has no embedding: its file cannot be read")
            raise NotFoundError(f"there is no image {term.like} in this library")
        return vector

    def _uploaded(self, term: Term, token: str) -> Vector:
        upload = self._uploads.get(token)
        if upload is None:
            raise UsageError(f"upload:{token} has expired: upload the image again")
        box, thumbnail = term.crop, upload.thumbnail
        if box is None:
            return upload.vector
        return self._regions.get_or_create((token, box), lambda: self._region(term, thumbnail, box))

    def _region_of_image(self, term: Term, image: int, box: Box) -> Vector:
        record = self._library.image(image)
        if record is None:
            raise NotFoundError(f"there is no image {image} in this library")
        from sightline.server.search.originals import original

        def encode() -> Vector:
            try:
                return self._region(term, original(record), box)
            except SightlineError:
                # The file is missing or unreadable now; its thumbnail is still in the library.
                thumbnail = self._library.thumbnail(image)
                if thumbnail is None:
                    raise
                return self._region(term, thumbnail, box)

        return self._regions.get_or_create((image, record.content_hash, box), encode)

    def _region(self, term: Term, source: Candidate | bytes, box: Box) -> Vector:
        try:
            return self._encode(self.decoder.crop(source, box))
        except PhotoError as error:
            raise UsageError(f"{term.to_text()} cannot be cropped: {error}") from error

    def _encode(self, pixels: Pixels) -> Vector:
        return self._image_tower.submit(self._encoder.encode_images, pixels[None]).result()[0]
