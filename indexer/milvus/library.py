"""A library held by Milvus: the queries of ``library.Library``, answered by a collection.

    library = MilvusLibrary.open("milvus+http://host:19530/photos")

Vectors, filter fields and records are rows of the collection; folders, facets and the like are
facts (``schema``), read again when the version changes. Ranking is by the exact inner product of
the stored vectors, as in a local library: what an index of quantised vectors finds is re-ranked.

Originals are shown only if their folders are on this machine too.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import Changes, facets, spellings, tokens
from sightline.indexer.catalog.facets import FolderCount, Months, Suggestion
from sightline.indexer.catalog.full_text import fold, fold_word, words_in
from sightline.indexer.errors import LibraryAwayError, LibraryError, ModelMismatchError, UsageError
from sightline.indexer.milvus import dates
from sightline.indexer.milvus.connection import (
    BOUNDED,
    MAX_LIMIT,
    STRONG,
    TIMEOUT,
    Address,
    Milvus,
    all_of,
    is_among,
)
from sightline.indexer.milvus.filters import MAX_CANDIDATES, Folder, any_written, expression
from sightline.indexer.milvus.index_params import OVERSAMPLING, search_params
from sightline.indexer.milvus.schema import FORMAT, METRIC, RECORD_FIELDS, from_json, to_record
from sightline.indexer.milvus.thumbnails import SourceThumbnails
from sightline.indexer.milvus.tokens import TOKENS, contains_all, not_only_in_names
from sightline.indexer.types import (
    Embeddings,
    Failure,
    Filters,
    Ids,
    ImageRecord,
    IndexState,
    TextLine,
)
from sightline.indexer.vector_index import cosines, top_k

VERSION_INTERVAL = 1.0
"""Seconds between two reads of the collection's version."""

STRONG_READS = 10.0
"""Seconds after a change of version in which every read waits for all earlier writes."""

SAMPLE, SAMPLE_DRIFT = 4096, 0.1
"""As in ``library.Library``: vectors in a sample, and the change of count that draws a new one."""

MAX_LISTED = 100_000
"""Images listed by date: as many as a ranking is deep."""

MAX_SELECTED = 1_000_000
"""Ids that a filter returns at most: 10 s over the network."""

TIES = 32
"""Results fetched beyond the last, so that equal scores are ordered by id."""

MAX_RERANKED = 1024
"""Results up to which scores are computed here from the vectors, as a local library does."""

MAX_BRUTE_FORCE = 1_000
"""Matches of a filter up to which all are ranked here: a filtered index misses some (Milvus Lite's
HNSW: recall .7 with two matches in 2,000)."""

CACHE_SIZE, MAX_CACHED_IDS = 256, 100_000
"""Answers cached until the version changes, and ids in one of them."""

CACHED_VECTORS = 20_000
"""Vectors cached for the grouping of near-duplicates, which reads them after each search."""


class MilvusLibrary:
    """An open collection. Close it, or use it in a ``with``. Thread-safe.

    Every method raises LibraryAwayError if the server cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self.milvus = Milvus(address)
        self.collection = address.collection
        self.facts = f"{address.collection}_facts"
        self._lock = threading.RLock()
        self._version_read = self._strong_until = 0.0
        self._version = -1
        self._cache: dict[object, Any] = {}
        self._vectors: dict[int, Any] = {}
        self._sampled: tuple[int, Embeddings] | None = None
        self._thumbnails: SourceThumbnails | None = None
        self._last_status: dict[str, Any] | None = None
        try:
            self._open(address)
        except BaseException:
            self.milvus.close()
            raise

    @classmethod
    def open(cls, address: str) -> Self:
        """Opens the collection at an address. Raises LibraryError if there is none."""
        return cls(Address.parse(address))

    def _open(self, address: Address) -> None:
        if address.is_file and not Path(address.uri).exists():
            raise LibraryError(f"there is no file {address.uri}: fill one with `sightline import`")
        if not self.milvus.exists(self.facts) or not self.milvus.exists(self.collection):
            raise LibraryError(
                f"there is no collection {self.collection} of Sightline in {address.uri}: fill it"
                f" with `sightline import DIR --to milvus --uri {address}`"
            )
        for collection in (self.facts, self.collection):
            with self.milvus.translated_errors():
                self.milvus.client.load_collection(collection)
        about = self._about()
        self.model: str = about["model"]
        self.revision: str = about["revision"]
        self.dimension: int = about["dimension"]
        self._has_tokens = self.milvus.has_field(self.collection, TOKENS)
        self._has_ngrams = bool(about.get("name_parts"))
        self._read_version()

    def _about(self) -> dict[str, Any]:
        about = self._read_facts(["library"]).get("library")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise LibraryError(
                f"the collection {self.collection} was not filled by this version of Sightline:"
                " fill another one with `sightline import DIR --to milvus`"
            )
        return about

    @property
    def directory(self) -> str:
        """The address, for messages."""
        return str(self.milvus.address)

    def close(self) -> None:
        """Closes the connection."""
        self.milvus.close()
        if self._thumbnails is not None:
            self._thumbnails.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def model_changed(self) -> bool:
        """False: another model is another collection."""
        return False

    def check_model(self, model: str, revision: str, dimension: int) -> None:
        """Raises ModelMismatchError unless this model filled the collection."""
        if (model, revision, dimension) != (self.model, self.revision, self.dimension):
            raise ModelMismatchError(
                f"the collection in {self.directory} was made with {self.model} (revision"
                f" {self.revision[:12]}, {self.dimension} dimensions), not {model}"
                f" ({revision[:12]}, {dimension}): search it with that model"
            )

    def is_being_written(self) -> bool:
        """Always False: it is unknown."""
        return False

    # facts ----------------------------------------------------------------------------------------

    def _read_facts(self, names: Sequence[str], level: str = STRONG) -> dict[str, Any]:
        rows = self.milvus.by_keys(self.facts, "name", names, ["name", "value"], level=level)
        return {row["name"]: from_json(row["value"]).get("is") for row in rows}

    def _read_version(self) -> None:
        level = BOUNDED if self._version >= 0 else STRONG
        fact = self._read_facts(["version"], level).get("version")
        version = int(fact["n"]) if fact else 0
        if version > self._version:
            self._version = version
            self._strong_until = time.monotonic() + STRONG_READS
            self._cache.clear()
            self._vectors.clear()
        self._version_read = time.monotonic()

    def refresh(self, *, wait: bool = True) -> None:
        """Sees what has been written since the last call. ``wait`` has no effect."""
        with self._lock:
            if time.monotonic() - self._version_read > VERSION_INTERVAL:
                self._read_version()

    @property
    def version(self) -> int:
        """Increases with every import."""
        return self._version

    @property
    def stamp(self) -> int:
        """Increases with every import."""
        return self._version

    @property
    def level(self) -> str:
        """The consistency level of reads at this moment."""
        return STRONG if time.monotonic() < self._strong_until else BOUNDED

    def _cached(self, key: object, compute: Callable[[], Any]) -> Any:
        """``compute()``, cached until the version changes."""
        with self._lock:
            version, found = self._version, self._cache.get(key)
        if found is None:
            found = (compute(),)
            large = isinstance(found[0], np.ndarray) and len(found[0]) > MAX_CACHED_IDS
            with self._lock:
                if version == self._version and not large:
                    self._cache[key] = found
                    if len(self._cache) > CACHE_SIZE:
                        self._cache.pop(next(iter(self._cache)))
        return found[0]

    def _list(self, kind: str) -> list[Any]:
        """A list among the facts; a long one is stored in parts."""

        def compute() -> list[Any]:
            about = self._about()
            generation, parts = about["facts"], about["parts"].get(kind, 0)
            names = [f"{kind}:{generation}:{n}" for n in range(parts)]
            found = self._read_facts(names)
            return [item for name in names for item in found.get(name, [])]

        return self._cached(("list", kind), compute)

    # what filters read ----------------------------------------------------------------------------

    def folders(self) -> Sequence[Folder]:
        """Every folder that holds images."""

        def compute() -> list[Folder]:
            made = []
            for number, root, path, count in self._list("folder"):
                base = "/" + fold(root).replace("\\", "/").strip("/") + "/"
                folded = f"{base}{fold(path)}/" if path else f"{base}/"
                made.append(Folder(number, root, path, folded, count))
            return made

        return self._cached("folders", compute)

    def values(self, kind: str) -> Sequence[str]:
        """Every ``camera``, ``lens`` or ``person``."""
        return [text for text, _ in self._list(kind)]

    def lists(self, kind: str) -> bool:
        """Whether the collection lists all values of ``kind``."""
        return kind in self._cached("parts", lambda: self._about()["parts"])

    @property
    def finds_names_by_ngrams(self) -> bool:
        """Whether ``name:`` uses the n-grams of names for lack of an infix LIKE."""
        return self._has_ngrams and not self.milvus.has_infix_like

    def candidates(self, expression: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """The rows that match, at most ``MAX_CANDIDATES + 1``."""
        return self.milvus.at_most(
            self.collection, expression, fields, MAX_CANDIDATES + 1, level=self.level
        )

    def _where(self, filters: Filters) -> str:
        return expression(filters, self) if filters else ""

    def _rows(self, ids: Sequence[int] | Ids, *fields: str) -> list[dict[str, Any]]:
        """``id`` and these fields of the images ``ids``, in any order."""
        wanted = [int(i) for i in ids]
        return self.milvus.by_keys(self.collection, "id", wanted, ["id", *fields], level=self.level)

    # searching ------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """The number of images."""
        return self.matching(Filters())

    def changes(self, after_version: int) -> Changes | None:
        """None: a collection does not list its changes."""
        return None

    def matching(self, filters: Filters) -> int:
        """The number of images that meet ``filters``."""
        return self._cached(
            ("matching", filters),
            lambda: self.milvus.count(self.collection, self._where(filters), level=self.level),
        )

    def nearest(
        self,
        vectors: Embeddings,
        k: int,
        *,
        filters: Filters = Filters(),  # noqa: B008 (frozen)
        among: Ids | None = None,
    ) -> tuple[Embeddings, Ids]:
        """As ``Library.nearest``: ``(q, k)`` scores, highest first, and ids; -1 where there are
        fewer. Equal scores are ordered by id."""
        where = self._where(filters)
        if among is None and where and self.matching(filters) <= MAX_BRUTE_FORCE:
            among = self.select(filters)
        brute_force = among is not None and len(among) <= MAX_BRUTE_FORCE
        if among is not None and not brute_force:
            where = is_among("id", among.tolist())
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        ids = np.full((len(vectors), k), -1, np.int64)
        for n, vector in enumerate(np.asarray(vectors, np.float32)):
            if among is not None and brute_force:
                found_scores, found = self._rerank(vector, among, k)
            else:
                found_scores, found = self._search(vector, k, where)
            scores[n, : len(found)], ids[n, : len(found)] = found_scores, found
        return scores, ids

    def _search(self, vector: Any, k: int, where: str) -> tuple[Any, Ids]:
        index = self._index()
        oversampling = OVERSAMPLING.get(index["index_type"])
        # A second request only for the ties of the last rank is not worth it.
        fetch = k + TIES if k + TIES <= MAX_LIMIT else k
        if oversampling:
            fetch = max(min(k * oversampling, MAX_LIMIT), fetch)
        found, scores = self._candidates(vector, fetch, where, index)
        if oversampling or k <= MAX_RERANKED:
            return self._rerank(vector, found, k)
        return top_k(scores, found, k)

    def _rerank(self, vector: Any, ids: Ids, k: int) -> tuple[Any, Ids]:
        """The best ``k`` of ``ids`` by the arithmetic of a local library."""
        exact = self.vectors(ids)
        present = ~np.isnan(exact[:, 0]) if len(exact) else np.zeros(0, bool)
        return top_k(cosines(exact[present].astype(np.float16), vector), ids[present], k)

    def _candidates(
        self, vector: Any, fetch: int, where: str, index: dict[str, Any]
    ) -> tuple[Ids, Any]:
        """The ``fetch`` nearest by Milvus' own scores. Beyond the limit of one search, the next one
        excludes what was found."""
        ids: list[int] = []
        scores: list[float] = []
        while len(ids) < fetch:
            limit = min(fetch - len(ids), MAX_LIMIT)
            with self.milvus.translated_errors():
                (hits,) = self.milvus.client.search(
                    self.collection,
                    data=[vector.tolist()],
                    limit=limit,
                    filter=all_of(where, f"id not in {ids}" if ids else ""),
                    output_fields=["id"],
                    search_params={
                        "metric_type": METRIC,
                        "params": search_params(index, limit, filtered=bool(where)),
                    },
                    consistency_level=self.level,
                    timeout=TIMEOUT,
                )
            ids += [hit["id"] for hit in hits]
            scores += [hit["distance"] for hit in hits]
            if len(hits) < limit:
                break
        return np.array(ids, np.int64), np.array(scores, np.float32)

    def _index(self) -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            found = self.milvus.describe_index(self.collection)
            if not found:
                raise LibraryError(
                    f"{self.collection} has no index: run `sightline import --to milvus` again"
                )
            return found

        return self._cached("index", compute)

    def select(self, filters: Filters = Filters()) -> Ids:  # noqa: B008 (frozen)
        """The ids of the images that meet ``filters``, ascending. Raises UsageError for more than
        ``MAX_SELECTED``."""
        if self.matching(filters) > MAX_SELECTED:
            raise UsageError(
                f"more than {MAX_SELECTED:,} images meet these filters, more than a Milvus"
                " collection lists: use narrower filters"
            )

        def compute() -> Ids:
            where = self._where(filters) or "id >= 0"
            parts = [
                np.array([row["id"] for row in rows], np.int64)
                for rows in self.milvus.iterate(self.collection, where, ["id"], level=self.level)
            ]
            return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

        return self._cached(("select", filters), compute)

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN for an unknown id."""
        ids = np.asarray(ids, np.int64)
        out = np.full((len(ids), self.dimension), np.nan, np.float32)
        cached = self._vectors
        missing = [i for i in ids.tolist() if i not in cached]
        fetched = {
            row["id"]: np.asarray(row["embedding"], np.float16)
            for row in self._rows(missing, "embedding")
        }
        for n, i in enumerate(ids.tolist()):
            vector = fetched.get(i, cached.get(i))
            if vector is not None:
                out[n] = vector
        with self._lock:
            if len(cached) + len(fetched) > CACHED_VECTORS:
                cached.clear()
            if len(fetched) <= CACHED_VECTORS // 4:
                cached.update(fetched)
        return out

    def image(self, id: int) -> ImageRecord | None:
        """One image, or None."""
        return next(iter(self.images([id])), None)

    def images(self, ids: Sequence[int]) -> list[ImageRecord]:
        """Images in the order of ``ids``, without those that were deleted."""
        wanted = [int(i) for i in ids]
        rows = self._rows(wanted, *RECORD_FIELDS[1:])
        folders = self._cached(
            "folder paths", lambda: {one.id: (one.root, one.path) for one in self.folders()}
        )
        found = {row["id"]: to_record(row, folders) for row in rows}
        return [found[i] for i in wanted if i in found]

    def thumbnail(self, id: int) -> bytes | None:
        """WebP from the library or the shards that filled the collection; None if they have none,
        or cannot be reached from here."""
        with self._lock:
            if self._thumbnails is None:
                self._thumbnails = SourceThumbnails.open(self._about().get("thumbnails"))
        return self._thumbnails.get(id)

    def sample(self) -> Embeddings:
        """``(n <= SAMPLE, d)``: a random sample of the vectors."""
        count = self.count
        with self._lock:
            sampled = self._sampled
        if sampled is None or abs(count - sampled[0]) > SAMPLE_DRIFT * sampled[0]:
            sampled = count, self.vectors(np.sort(self._random_ids(SAMPLE, 0)))
            with self._lock:
                self._sampled = sampled
        return sampled[1]

    def random(self, k: int, seed: int = 0) -> Ids:
        """``k`` random images, the same for the same ``seed``."""
        return np.random.default_rng(seed).permutation(self._random_ids(k, seed))

    def _random_ids(self, n: int, seed: int) -> Ids:
        """As ``catalog.embeddings.some_ids``, with the same result for the same images: ids are
        drawn from their range, and those that exist are taken."""
        count = self.count
        if count <= n:
            return self.select()
        about = self._cached("about", self._about)
        low, high = about["low"], about["high"]
        random = np.random.default_rng(seed)
        if count < 10 * n or (count < (high - low + 1) / 10 and count <= MAX_SELECTED):
            return np.sort(random.choice(self.select(), n, replace=False))
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            drawn = self._drawn(random, low, high, 2 * n)
            existing = {row["id"] for row in self._rows(drawn)}
            chosen |= dict.fromkeys(image for image in drawn if image in existing)
        return np.sort(np.array(list(chosen)[:n], np.int64))

    def _drawn(self, random: np.random.Generator, low: int, high: int, n: int) -> list[int]:
        """``n`` ids that may exist. Those of shards are in a few dense spans of the range."""
        spans = self._list("span")
        if not spans:
            return random.integers(low, high + 1, n).tolist()
        starts = np.array([start for start, _ in spans], np.int64)
        ends = np.cumsum([length for _, length in spans])
        offsets = random.integers(0, ends[-1], n)
        span = np.searchsorted(ends, offsets, side="right")
        return (starts[span] + offsets - np.where(span > 0, ends[span - 1], 0)).tolist()

    # dates ----------------------------------------------------------------------------------------

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` by the date on which the images were taken."""
        return dates.sort_by_date(
            self._rows(np.unique(ids), "taken", "mtime_ns"), descending=descending
        )

    def listed(self, filters: Filters, *, descending: bool | None = None) -> Ids:
        """The images that meet ``filters`` by date, newest first unless ``descending`` is False,
        the first ``MAX_LISTED`` of them."""
        descending = descending is not False
        return self._cached(
            ("listed", filters, descending),
            lambda: dates.list_by_date(
                self.milvus,
                self.collection,
                self._where(filters),
                MAX_LISTED,
                descending=descending,
                level=self.level,
            ),
        )

    def histogram(self, ids: Ids | None = None) -> Months:
        """How many of ``ids``, or of all images, were taken in each month."""
        if ids is None:
            counted = Counter(dict(self._list("month")))
        else:
            rows = self._rows(np.unique(ids), "taken")
            counted = Counter(
                dates.month_of(row["taken"]) for row in rows if not dates.may_be_year(row["taken"])
            )
            years = np.array([r["id"] for r in rows if dates.may_be_year(r["taken"])], np.int64)
            for row in self._rows(years, "taken", "record"):
                record = from_json(row["record"])
                precision = record.get("taken_precision", "second")
                counted[dates.month_of(row["taken"], precision)] += 1
        undated = counted.pop("", 0)
        return Months(tuple(sorted(counted.items())), undated)

    # facets and full text -------------------------------------------------------------------------

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every value of one kind of filter with its number of images, the most frequent first;
        with ``ids`` those of these images: see ``catalog.facets.counts_of``."""
        if kind == "year":
            years: Counter[str] = Counter()
            for month, count in self.histogram().months:
                years[month[:4]] += count
            found = [Suggestion(kind, year, count) for year, count in years.items()]
        elif ids is None:
            found = [
                Suggestion(kind, str(text), count) for text, count in self._list(fact_of(kind))
            ]
        else:
            counter = ValueCounter()
            for row in self._rows(ids, "record"):
                counter.add(values_of(from_json(row["record"]), kind))
            found = [Suggestion(kind, text, count) for text, count in counter.counts()]
        return sorted(found, key=lambda one: (-one.count, fold(one.text)))

    def has(self, kind: str) -> bool:
        """Whether any image has one: ``keyword``, ``person``, ``place``, ``label``, ``year``."""
        return bool(self.facets(kind))

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of one kind of filter that start with ``prefix``, the most frequent first."""
        if kind == "folder":
            known = [
                FolderCount(one.root, one.path, one.folded, one.count) for one in self.folders()
            ]
            return facets.suggest_folders(known, prefix, limit)
        if kind == "collection":
            return []
        wanted = fold(prefix)
        return [one for one in self.facets(kind) if facets.starts_a_word(one.text, wanted)][:limit]

    def value_texts(self) -> set[str]:
        """Every folder (relative to its root), root, camera, lens, keyword, person, place, country
        and label."""
        kinds = ("camera", "lens", "keyword", "person", "place", "country", "label")
        found = {one.text for kind in kinds for one in self.facets(kind)}
        for folder in self.folders():
            found |= {folder.path, facets.root_name(folder.root)}
        return found

    def full_text_search(self, text: str, limit: int, *, names: bool = True) -> Ids:
        """The first ``limit`` images, by id, whose text contains all of ``text``'s tokens; none in
        a collection without the field for tokens, whose status says so. File, folder and place
        names count only with ``names``, and always if an earlier version filled the collection."""
        wanted = tokens.query_tokens(text) if self._has_tokens else []
        if not wanted or limit < 1:
            return np.empty(0, np.int64)

        def compute() -> Ids:
            where = all_of(contains_all(wanted), "" if names else not_only_in_names(wanted))
            return self._first(where, limit)

        return self._cached(("holding", tuple(wanted), limit, names), compute)

    def _first(self, where: str, limit: int) -> Ids:
        """The first ``limit`` ids of rows that match."""
        rows = self.milvus.at_most(self.collection, where, ["id"], limit, level=self.level)
        return np.sort(np.array([row["id"] for row in rows], np.int64))

    def labels(self, ids: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, score)`` of each of ``ids`` that has any, best first."""
        found = {row["id"]: from_json(row["record"])["labels"] for row in self._rows(ids, "record")}
        return {i: [(label, fit) for label, fit in values] for i, values in found.items() if values}

    def texts(self, ids: Sequence[int]) -> dict[int, list[TextLine]]:
        """The lines of text in each of ``ids`` that has any."""
        found = {
            row["id"]: from_json(row["record"]).get("lines") for row in self._rows(ids, "record")
        }
        return {
            i: [TextLine(text, confidence, (a, b, c, d)) for text, confidence, a, b, c, d in lines]
            for i, lines in found.items()
            if lines
        }

    def similar_words(self, word: str) -> list[str]:
        """The words in images that are one reading error from ``word``, the most frequent first;
        see ``spellings``."""

        def compute() -> list[str]:
            vocabulary = self._cached("vocabulary", lambda: dict(self._list("written")))
            return spellings.similar_among(vocabulary, folded)

        folded = fold_word(word)
        return self._cached(("similar", folded), compute)

    def misread(self, word: str, limit: int) -> Ids:
        """The first ``limit`` images, by id, in which one of ``similar_words(word)`` is written."""
        wanted = [words_in(one) for one in self.similar_words(word)]
        if not wanted or limit < 1:
            return np.empty(0, np.int64)

        return self._cached(
            ("misread", tuple(map(tuple, wanted)), limit),
            lambda: self._first(any_written(wanted, self), limit),
        )

    # status ---------------------------------------------------------------------------------------

    def failures(self) -> list[Failure]:
        """The files that could not be read, and why."""
        return [Failure(*values) for values in self._list("failure")]

    def roots(self) -> list[dict[str, Any]]:
        """``{"path", "images", "available"}`` for each folder that was indexed."""
        counts: Counter[str] = Counter()
        for folder in self.folders():
            counts[folder.root] += folder.count
        return [
            {"path": root, "images": count, "available": Path(root).exists()}
            for root, count in sorted(counts.items())
        ]

    @property
    def index_state(self) -> IndexState:
        """What Milvus reports of its index."""
        index = self._index()
        return IndexState(
            type=f"milvus {index['index_type'].lower()}",
            count=int(index.get("indexed_rows") or 0),
            generation=self._version,
            bytes=0,
            pending=int(index.get("pending_index_rows") or 0),
        )

    def status(self) -> dict[str, Any]:
        """The document of ``sightline status --json``; while Milvus is away, the last one, with the
        reason as its note."""
        try:
            self.refresh()
            self._last_status = {
                "library": self.directory,
                "model": self.model,
                "revision": self.revision,
                "dimension": self.dimension,
                "images": self.count,
                "failures": len(self._list("failure")),
                "index": asdict(self.index_state),
                "roots": self.roots(),
                "run": None,
                "note": self._note(),
            }
        except LibraryAwayError as error:
            if self._last_status is None:
                raise
            return {**self._last_status, "note": str(error), "away": True}
        return self._last_status

    def _note(self) -> str:
        note = (
            f"held by Milvus {self.milvus.version}: originals are shown where their folders are on"
            " this machine"
        )
        if self._has_tokens:
            return note
        return (
            f"{note}; words in names and captions are not searched: an earlier version filled this"
            " collection, and `sightline import DIR --to milvus` fills another one with them"
        )


class ValueCounter:
    """Counts keywords, people or labels ignoring case; each is shown in its first spelling."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._shown: dict[str, str] = {}

    def add(self, values: Sequence[str]) -> None:
        """Counts those of one image."""
        for key, text in {fold(text): text for text in values}.items():
            self._counts[key] += 1
            self._shown[key] = min(text, self._shown.get(key, text))

    def counts(self) -> list[tuple[str, int]]:
        """``(text, number of images)``, the most frequent first."""
        return [(self._shown[key], count) for key, count in self._counts.most_common()]


def fact_of(kind: str) -> str:
    """The name of the fact that lists the values of a facet: ``place`` are folders."""
    return "city" if kind == "place" else kind


def values_of(record: dict[str, Any], kind: str) -> list[str]:
    """The ``keyword``s, ``person``s, ``label``s, ``country``, ``place`` (city), and names of
    places (``places``, ``countries``) in a stored record."""
    if kind == "label":
        return [label for label, _ in record["labels"]]
    if kind in ("country", "place"):
        location = record.get("location")
        return [location[1 if kind == "country" else 3]] if location else []
    return record.get({"keyword": "keywords", "person": "people"}.get(kind, kind), [])
