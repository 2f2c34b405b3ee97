"""What every library can be asked, wherever it is stored.

    library.Library          a directory: SQLite and FAISS
    milvus.MilvusLibrary     a Milvus collection

Both return the same ids in the same order, scored by the exact inner product of the stored
vectors, ties by id. ``tests/test_milvus.py`` asks both the same questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.facets import Months, Suggestion
from sightline.indexer.types import (
    Embeddings,
    Failure,
    Filters,
    Ids,
    ImageRecord,
    IndexState,
    TextLine,
)


class AnyLibrary(Protocol):
    """An open library. Thread-safe."""

    @property
    def model(self) -> str:
        """The model that made its embeddings: a hub id, ``builtin``, or a folder's absolute
        path."""

    @property
    def revision(self) -> str:
        """The model's revision."""

    @property
    def dimension(self) -> int:
        """Of its embeddings."""

    @property
    def model_changed(self) -> bool:
        """Whether the library has another model since it was opened."""

    @property
    def version(self) -> int:
        """Grows with every change of the embeddings."""

    @property
    def stamp(self) -> int:
        """Changes with every change of anything that a query can find."""

    @property
    def count(self) -> int:
        """The number of images."""

    @property
    def index_state(self) -> IndexState:
        """What the vector index is, and its measured recall."""

    def close(self) -> None:
        """Closes every file or connection."""

    def check_model(self, model: str, revision: str, dimension: int) -> None:
        """ModelMismatchError unless this model made the library: embeddings of two models, or of
        two revisions of one, cannot be compared."""

    def refresh(self, *, wait: bool = ...) -> None:
        """Loads what has been written since the last call; cheap if nothing has. Without ``wait``,
        a new generation of the index is opened in the background."""

    def nearest(
        self, vectors: Embeddings, k: int, *, filters: Filters = ..., among: Ids | None = None
    ) -> tuple[Embeddings, Ids]:
        """The ``k`` nearest images to each of ``vectors`` ``(q, d) float32, unit norm``, among
        those that meet ``filters`` or, if given, the ascending ids ``among``.

        Returns ``(q, k) float32`` cosines, highest first, and ``(q, k) int64`` ids; -1 where fewer
        images qualify. Equal scores are ordered by id.
        """

    def changes(self, after_version: int) -> Changes | None:
        """The changes of embeddings since ``after_version``; None if there are many, or if that is
        unknown."""

    def matching(self, filters: Filters) -> int:
        """The number of images that meet ``filters``."""

    def select(self, filters: Filters = ...) -> Ids:
        """The ids of the images that meet ``filters``, ascending. Read-only."""

    def listed(self, filters: Filters, *, descending: bool | None = None) -> Ids:
        """``select(filters)`` ordered ``by_date``. Without ``descending``: in the order of the
        collection if the filters name one, otherwise newest first."""

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` by the date the images were taken, undated ones last, by modification time."""

    def random(self, n: int, seed: int = 0) -> Ids:
        """``n`` random ids, determined by ``seed`` and the images."""

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN for an unknown id."""

    def sample(self) -> Embeddings:
        """``(n, d) float32``, n up to 4,096: vectors of random images that represent the library in
        statistics of scores. Unchanged until the library has changed much."""

    def image(self, id: int) -> ImageRecord | None:
        """One image, or None."""

    def images(self, ids: Sequence[int]) -> list[ImageRecord]:
        """The images in the order of ``ids``; unknown ids are skipped."""

    def thumbnail(self, id: int) -> bytes | None:
        """The thumbnail of one image as WebP, or None."""

    def labels(self, ids: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, score)`` of each of ``ids`` that has labels, best first."""

    def texts(self, ids: Sequence[int]) -> dict[int, list[TextLine]]:
        """The lines of text that were read in each of ``ids`` that has any."""

    def similar_words(self, word: str) -> list[str]:
        """The words in images that are one reading error from ``word``, the most frequent
        first."""

    def misread(self, word: str, limit: int) -> Ids:
        """The first ``limit`` ids, ascending, of images in which one of ``similar_words(word)`` is
        written."""

    def full_text_search(self, text: str, limit: int, *, names: bool = True) -> Ids:
        """The first ``limit`` ids, ascending, of the images whose full text (names, title, caption,
        keywords, people, place, date, text in the image) contains every word of ``text``. File,
        folder and place names count only with ``names``."""

    def histogram(self, ids: Ids | None = None) -> Months:
        """The number of images (of ``ids``) per month."""

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every value of one of ``facets.KINDS`` (not ``folder``) with its number of images, most
        frequent first; with ``ids``, every ``keyword``, ``person``, ``label``, ``country`` or
        ``place`` (city) of those images."""

    def has(self, kind: str) -> bool:
        """Whether any image has one: ``keyword``, ``person``, ``place``, ``label``, ``year``."""

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of ``kind`` (as in ``facets``, or ``folder``) in which a word starts with
        ``prefix``, most frequent first."""

    def value_texts(self) -> set[str]:
        """Every folder (relative to its root), root, camera, lens, keyword, person, place, country,
        label and collection."""

    def failures(self) -> list[Failure]:
        """The files that could not be read, with reasons."""

    def roots(self) -> list[dict[str, Any]]:
        """``{"path", "images", "available"}`` of each folder that was indexed."""

    def status(self) -> dict[str, Any]:
        """The document that ``sightline status --json`` prints."""
