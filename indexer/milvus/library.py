"""A library held by Milvus: the questions that ``library.Library`` answers, asked of a collection.

    library = MilvusLibrary.open("milvus+http://host:19530/photos")

Vectors, filter fields and records are rows of the collection; folders, facets and the like are its
facts (``milvus_schema``), read when the version changes. Ranking is by the exact inner product of
the stored vectors, as in a local library: what an index that keeps them shortened finds is ranked
again by the vectors themselves.

Not here: a ranking of what words find by bm25 (``search_words``), which nothing that serves asks
for; and the original files are shown only where their folders are on this machine too.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sightline.indexer.catalog import facets, tokens
from sightline.indexer.catalog.facets import FolderCount, Months, Suggestion
from sightline.indexer.catalog.full_text import fold
from sightline.indexer.errors import LibraryAwayError, LibraryError, ModelMismatchError, UsageError
from sightline.indexer.milvus import dates
from sightline.indexer.milvus.connection import BOUNDED, SECONDS, STRONG, WINDOW, Address, Milvus
from sightline.indexer.milvus.filters import NEAR, Folder, expression
from sightline.indexer.milvus.index_params import SHORTENED, wider, width
from sightline.indexer.milvus.schema import METRIC, RECORDS, to_record
from sightline.indexer.milvus.thumbnails import Thumbs
from sightline.indexer.milvus.words import WORDS, holding
from sightline.indexer.types import Embeddings, Failure, Filters, Ids, ImageRecord, IndexState
from sightline.indexer.vector_index.exact import best, cosines

FORMAT = "sightline-milvus-1"

POLL = 1.0
"""Seconds between two looks at the version of the collection."""

FRESH = 10.0
"""Seconds after a change in which every read waits for what was written."""

SAMPLE, SAMPLE_DRIFT = 4096, 0.1
"""As in ``library``."""

LISTED = 100_000
"""Pictures that are listed by date: as many as a ranking is deep."""

MOST_SELECTED = 1_000_000
"""Ids that a filter may give at once; 10 s over the network."""

TIES = 32
"""Places beyond the last that are looked at, so that equal scores are ordered by id."""

RANKED_AGAIN = 1024
"""Up to so many places scores are computed here, from the vectors, as a local library does."""

FEW = 1_000
"""Up to so many pictures that meet a filter are ranked one by one: an index that filters what it
finds misses them (Milvus Lite's HNSW: recall .7 of two in 2,000)."""

KEPT, KEPT_IDS = 256, 100_000
"""Answers kept until the version changes, and ids that one of them may hold."""

KEPT_VECTORS = 20_000
"""Vectors kept for the folding of near-duplicates, which asks for them after each search."""


class MilvusLibrary:
    """An open collection. Close it, or use it in a ``with``. Any thread may ask it anything.

    Raises LibraryAwayError when the server cannot be reached.
    """

    def __init__(self, address: Address) -> None:
        self.milvus = Milvus(address)
        self.collection = address.collection
        self.facts = f"{address.collection}_facts"
        self._lock = threading.RLock()
        self._asked = self._fresh_until = 0.0
        self._version = -1
        self._cache: dict[object, Any] = {}
        self._vectors: dict[int, Any] = {}
        self._sampled: tuple[int, Embeddings] | None = None
        self._thumbs: Thumbs | None = None
        self._told: dict[str, Any] | None = None
        try:
            self._open(address)
        except BaseException:
            self.milvus.close()
            raise

    @classmethod
    def open(cls, address: str) -> Self:
        """Opens the collection at an address. LibraryError where there is none."""
        return cls(Address.parse(address))

    def _open(self, address: Address) -> None:
        if address.is_file and not Path(address.uri).exists():
            raise LibraryError(f"there is no file {address.uri}: fill one with `sightline import`")
        if not self.milvus.exists(self.facts) or not self.milvus.exists(self.collection):
            raise LibraryError(
                f"there is no collection {self.collection} of Sightline's in {address.uri}: fill it"
                f" with `sightline import DIR --to milvus --uri {address}`"
            )
        for collection in (self.facts, self.collection):
            with self.milvus.told():
                self.milvus.client.load_collection(collection)
        about = self._about()
        self.model: str = about["model"]
        self.revision: str = about["revision"]
        self.dimension: int = about["dimension"]
        self._has_words = self.milvus.has_field(self.collection, WORDS)
        self._name_parts = bool(about.get("name_parts"))
        self._read_version()

    def _about(self) -> dict[str, Any]:
        facts = self._facts(["library"])
        about = facts.get("library")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise LibraryError(
                f"the collection {self.collection} was not filled by this version of Sightline:"
                " fill another one with `sightline import DIR --to milvus`"
            )
        return about

    @property
    def directory(self) -> str:
        """Where it is, for messages."""
        return str(self.milvus.address)

    def close(self) -> None:
        """Lets go of the server."""
        self.milvus.close()
        if self._thumbs is not None:
            self._thumbs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def check_model(self, model: str, revision: str, dimension: int) -> None:
        """ModelMismatchError unless this model filled the collection."""
        if (model, revision, dimension) != (self.model, self.revision, self.dimension):
            raise ModelMismatchError(
                f"the collection in {self.directory} was made with {self.model} (revision"
                f" {self.revision[:12]}, {self.dimension} dimensions), not {model}"
                f" ({revision[:12]}, {dimension}): search it with that model"
            )

    def is_being_written(self) -> bool:
        """Nobody knows of a remote collection."""
        return False

    # facts ----------------------------------------------------------------------------------------

    def _facts(self, names: Sequence[str], level: str = STRONG) -> dict[str, Any]:
        rows = self.milvus.rows(self.facts, "name", names, ["name", "value"], level=level)
        return {row["name"]: _json(row["value"]).get("is") for row in rows}

    def _read_version(self) -> None:
        fact = self._facts(["version"], BOUNDED if self._version >= 0 else STRONG).get("version")
        version = int(fact["n"]) if fact else 0
        if version > self._version:
            self._version = version
            self._fresh_until = time.monotonic() + FRESH
            self._cache.clear()
            self._vectors.clear()
        self._asked = time.monotonic()

    def refresh(self, *, wait: bool = True) -> None:
        """Takes in what has been written since the last look; there is nothing to wait for."""
        with self._lock:
            if time.monotonic() - self._asked > POLL:
                self._read_version()

    @property
    def version(self) -> int:
        """Counts up with every import."""
        return self._version

    @property
    def level(self) -> str:
        """The consistency that reads ask for now."""
        return STRONG if time.monotonic() < self._fresh_until else BOUNDED

    def _kept(self, key: object, compute: Callable[[], Any]) -> Any:
        """``compute()``, remembered until the version changes."""
        with self._lock:
            version, found = self._version, self._cache.get(key)
        if found is None:
            found = (compute(),)
            large = isinstance(found[0], np.ndarray) and len(found[0]) > KEPT_IDS
            with self._lock:
                if version == self._version and not large:
                    self._cache[key] = found
                    if len(self._cache) > KEPT:
                        self._cache.pop(next(iter(self._cache)))
        return found[0]

    def _list(self, kind: str) -> list[Any]:
        """A fact that is kept in parts."""

        def compute() -> list[Any]:
            about = self._about()
            generation, parts = about["facts"], about["parts"].get(kind, 0)
            names = [f"{kind}:{generation}:{n}" for n in range(parts)]
            found = self._facts(names)
            return [item for name in names for item in found.get(name, [])]

        return self._kept(("list", kind), compute)

    def folders(self) -> Sequence[Folder]:
        """Every folder that holds pictures."""

        def compute() -> list[Folder]:
            made = []
            for number, root, path, count in self._list("folder"):
                base = "/" + fold(root).replace("\\", "/").strip("/") + "/"
                folded = f"{base}{fold(path)}/" if path else f"{base}/"
                made.append(Folder(number, root, path, folded, count))
            return made

        return self._kept("folders", compute)

    def values(self, kind: str) -> Sequence[str]:
        """Every camera or lens."""
        return [text for text, _ in self._list(kind)]

    def located(self, box: str) -> Sequence[tuple[int, float, float]]:
        """``(id, latitude, longitude)`` of what lies in a box."""
        found: list[tuple[int, float, float]] = []
        wanted = ["id", "latitude", "longitude"]
        for rows in self.milvus.every(self.collection, box, wanted, level=self.level):
            found += [(row["id"], row["latitude"], row["longitude"]) for row in rows]
            if len(found) > NEAR:
                break
        return found

    def by_parts(self) -> bool:
        """Whether names are looked into by their parts."""
        return self._name_parts and not self.milvus.looks_inside

    def names(self, candidates: str) -> Sequence[tuple[int, str]]:
        """``(id, name)`` of what meets an expression; some more than ``NEAR`` at most."""
        found: list[tuple[int, str]] = []
        for rows in self.milvus.every(
            self.collection, candidates, ["id", "name"], level=self.level
        ):
            found += [(row["id"], row["name"]) for row in rows]
            if len(found) > NEAR:
                break
        return found

    def _where(self, filters: Filters) -> str:
        return expression(filters, self) if filters else ""

    # searching ------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.matching(Filters())

    def matching(self, filters: Filters) -> int:
        """How many images meet ``filters``."""
        return self._kept(
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
        fewer. Equal scores are in the order of their ids."""
        where = self._where(filters)
        if among is None and where and self.matching(filters) <= FEW:
            among = self.select(filters)
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        ids = np.full((len(vectors), k), -1, np.int64)
        if among is not None and len(among) > FEW:
            where = f"id in [{', '.join(map(str, among.tolist()))}]"
        for n, vector in enumerate(np.asarray(vectors, np.float32)):
            if among is not None and len(among) <= FEW:
                found_scores, found = self._ranked(vector, among, k)
            else:
                found_scores, found = self._nearest(vector, k, where)
            scores[n, : len(found)], ids[n, : len(found)] = found_scores, found
        return scores, ids

    def _nearest(self, vector: Any, k: int, where: str) -> tuple[Any, Ids]:
        index = self._index()
        lossy = index["index_type"] in SHORTENED
        # One question more for the ties of a place that nobody looks at is not worth it.
        fetch = k + TIES if k + TIES <= WINDOW else k
        if lossy:
            fetch = max(min(k * wider(index["index_type"]), WINDOW), fetch)
        found, scores = self._candidates(vector, fetch, where, index)
        if lossy or k <= RANKED_AGAIN:
            return self._ranked(vector, found, k)
        return best(scores, found, k)

    def _ranked(self, vector: Any, ids: Ids, k: int) -> tuple[Any, Ids]:
        """The best ``k`` of ``ids`` by the arithmetic of a local library."""
        exact = self.vectors(ids)
        there = ~np.isnan(exact[:, 0]) if len(exact) else np.zeros(0, bool)
        return best(cosines(exact[there].astype(np.float16), vector), ids[there], k)

    def _candidates(
        self, vector: Any, fetch: int, where: str, index: dict[str, Any]
    ) -> tuple[Ids, Any]:
        """The ``fetch`` nearest by the store's own reckoning. Beyond what it gives at once, the
        question is asked again without those that were found."""
        ids: list[int] = []
        scores: list[float] = []
        while len(ids) < fetch:
            limit = min(fetch - len(ids), WINDOW)
            without = f"id not in [{', '.join(map(str, ids))}]" if ids else ""
            clause = " and ".join(f"({part})" for part in (where, without) if part)
            with self.milvus.told():
                (hits,) = self.milvus.client.search(
                    self.collection,
                    data=[vector.tolist()],
                    limit=limit,
                    filter=clause,
                    output_fields=["id"],
                    search_params={
                        "metric_type": METRIC,
                        "params": width(index, limit, filtered=bool(where)),
                    },
                    consistency_level=self.level,
                    timeout=SECONDS,
                )
            ids += [hit["id"] for hit in hits]
            scores += [hit["distance"] for hit in hits]
            if len(hits) < limit:
                break
        return np.array(ids, np.int64), np.array(scores, np.float32)

    def _index(self) -> dict[str, Any]:
        def compute() -> dict[str, Any]:
            with self.milvus.told():
                found = self.milvus.client.describe_index(self.collection, "embedding")
            if not found:
                raise LibraryError(
                    f"{self.collection} has no index: run `sightline import --to milvus` again"
                )
            return dict(found)

        return self._kept("index", compute)

    def select(self, filters: Filters = Filters()) -> Ids:  # noqa: B008 (frozen)
        """The ids of the images that meet ``filters``, ascending. UsageError for more than
        ``MOST_SELECTED``."""
        if self.matching(filters) > MOST_SELECTED:
            raise UsageError(
                f"more than {MOST_SELECTED:,} pictures meet these filters, and a Milvus collection"
                " does not list so many: narrow them"
            )

        def compute() -> Ids:
            where = self._where(filters) or "id >= 0"
            parts = [
                np.array([row["id"] for row in rows], np.int64)
                for rows in self.milvus.every(self.collection, where, ["id"], level=self.level)
            ]
            return np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)

        return self._kept(("select", filters), compute)

    def vectors(self, ids: Ids) -> Embeddings:
        """``(n, d) float32`` in the order of ``ids``; a row of NaN where there is no such image."""
        ids = np.asarray(ids, np.int64)
        out = np.full((len(ids), self.dimension), np.nan, np.float32)
        kept = self._vectors
        lacking = [i for i in ids.tolist() if i not in kept]
        if lacking:
            rows = self.milvus.rows(
                self.collection, "id", lacking, ["id", "embedding"], level=self.level
            )
            fetched = {row["id"]: np.asarray(row["embedding"], np.float16) for row in rows}
        else:
            fetched = {}
        for n, i in enumerate(ids.tolist()):
            vector = fetched.get(i, kept.get(i))
            if vector is not None:
                out[n] = vector
        with self._lock:
            if len(kept) + len(fetched) > KEPT_VECTORS:
                kept.clear()
            if len(fetched) <= KEPT_VECTORS // 4:
                kept.update(fetched)
        return out

    def image(self, id: int) -> ImageRecord | None:
        """One image, or None."""
        return next(iter(self.images([id])), None)

    def images(self, ids: Sequence[int]) -> list[ImageRecord]:
        """Images in the order of ``ids``; those that are gone are left out."""
        wanted = [int(i) for i in ids]
        rows = self.milvus.rows(self.collection, "id", wanted, RECORDS, level=self.level)
        folders = self._kept(
            "places", lambda: {one.id: (one.root, one.path) for one in self.folders()}
        )
        found = {row["id"]: to_record(row, folders) for row in rows}
        return [found[i] for i in wanted if i in found]

    def thumbnail(self, id: int) -> bytes | None:
        """A WebP picture, or None: from the library or the shards that filled the collection, if
        they can be reached from here."""
        with self._lock:
            if self._thumbs is None:
                self._thumbs = Thumbs.at(self._about().get("thumbnails"))
        return self._thumbs.get(id)

    def sample(self) -> Embeddings:
        """``(n <= SAMPLE, d)``: vectors that stand for the whole library."""
        count = self.count
        with self._lock:
            sampled = self._sampled
        if sampled is None or abs(count - sampled[0]) > SAMPLE_DRIFT * sampled[0]:
            sampled = count, self.vectors(np.sort(self._some(SAMPLE, 0)))
            with self._lock:
                self._sampled = sampled
        return sampled[1]

    def random(self, k: int, seed: int = 0) -> Ids:
        """``k`` images by chance, the same for the same ``seed``."""
        return np.random.default_rng(seed).permutation(self._some(k, seed))

    def _some(self, n: int, seed: int) -> Ids:
        """As ``catalog_vectors.some_ids``: ids are drawn from their range and kept when they are
        there; the same ones as in a local library of the same pictures."""
        count = self.count
        if count <= n:
            return self.select()
        about = self._kept("about", self._about)
        low, high = about["low"], about["high"]
        random = np.random.default_rng(seed)
        if count < 10 * n or (count < (high - low + 1) / 10 and count <= MOST_SELECTED):
            return np.sort(random.choice(self.select(), n, replace=False))
        chosen: dict[int, None] = {}
        while len(chosen) < n:
            wanted = self._drawn(random, low, high, 2 * n)
            rows = self.milvus.rows(self.collection, "id", wanted, ["id"], level=self.level)
            there = {row["id"] for row in rows}
            chosen |= dict.fromkeys(image for image in wanted if image in there)
        return np.sort(np.array(list(chosen)[:n], np.int64))

    def _drawn(self, random: np.random.Generator, low: int, high: int, n: int) -> list[int]:
        """``n`` ids that may be there. Ids of shards lie close together in few places."""
        spans = self._list("span")
        if not spans:
            return random.integers(low, high + 1, n).tolist()
        starts = np.array([start for start, _ in spans], np.int64)
        ends = np.cumsum([length for _, length in spans])
        places = random.integers(0, ends[-1], n)
        span = np.searchsorted(ends, places, side="right")
        return (starts[span] + places - np.where(span > 0, ends[span - 1], 0)).tolist()

    # dates ----------------------------------------------------------------------------------------

    def by_date(self, ids: Ids, *, descending: bool = True) -> Ids:
        """``ids`` in the order in which the pictures were taken."""
        rows = self.milvus.rows(
            self.collection,
            "id",
            np.unique(ids).tolist(),
            ["id", "taken", "mtime_ns"],
            level=self.level,
        )
        return dates.by_date(rows, descending=descending)

    def listed(self, filters: Filters, *, descending: bool = True) -> Ids:
        """What meets ``filters`` by date, the first ``LISTED`` of it."""

        def compute() -> Ids:
            where, held = self._where(filters), (self.milvus, self.collection, self.level)
            return dates.listed(*held, where, LISTED, descending=descending)

        return self._kept(("listed", filters, descending), compute)

    def histogram(self, ids: Ids | None = None) -> Months:
        """How many of ``ids``, or of all images, were taken in each month."""
        if ids is None:
            months = self._list("month")
            return Months(
                tuple((month, count) for month, count in months if month),
                sum(count for month, count in months if not month),
            )
        rows = self.milvus.rows(
            self.collection, "id", np.unique(ids).tolist(), ["id", "taken"], level=self.level
        )
        counted = Counter(dates.month_of(row["taken"]) for row in rows)
        undated = counted.pop("", 0)
        return Months(tuple(sorted(counted.items())), undated)

    # words and facets -----------------------------------------------------------------------------

    def facets(self, kind: str, ids: Ids | None = None) -> list[Suggestion]:
        """Every value of one kind of filter with how many pictures have it, most first; with
        ``ids`` every ``keyword`` or ``label`` of those images."""
        if kind == "year":
            years: Counter[str] = Counter()
            for month, count in self.histogram().months:
                years[month[:4]] += count
            found = [Suggestion(kind, year, count) for year, count in years.items()]
        elif ids is None:
            found = [Suggestion(kind, str(text), count) for text, count in self._list(kind)]
        else:
            name = "labels" if kind == "label" else "keywords"
            rows = self.milvus.rows(
                self.collection, "id", np.asarray(ids).tolist(), ["id", "record"], level=self.level
            )
            counted: Counter[str] = Counter()
            shown: dict[str, str] = {}
            for row in rows:
                values = _json(row["record"])[name]
                texts = [value[0] if kind == "label" else value for value in values]
                for text in {fold(text): text for text in texts}.items():
                    counted[text[0]] += 1
                    shown[text[0]] = min(text[1], shown.get(text[0], text[1]))
            found = [Suggestion(kind, shown[key], count) for key, count in counted.items()]
        return sorted(found, key=lambda one: (-one.count, fold(one.text)))

    def has(self, kind: str) -> bool:
        """Whether any image has a ``keyword``, a ``label`` or a ``year``."""
        return bool(self.facets(kind))

    def suggest(self, kind: str, prefix: str = "", limit: int = 10) -> list[Suggestion]:
        """Values of one kind of filter that begin with ``prefix``, most pictures first."""
        if kind == "folder":
            known = [
                FolderCount(one.root, one.path, one.folded, one.count) for one in self.folders()
            ]
            return facets.suggest_folders(known, prefix, limit)
        wanted = fold(prefix)
        return [one for one in self.facets(kind) if facets.starts_a_word(one.text, wanted)][:limit]

    def search_words(self, text: str, limit: int) -> list[tuple[int, float]]:
        """Nothing: a collection knows which pictures hold words, and not how well."""
        return []

    def holding_words(self, text: str, limit: int) -> Ids:
        """The first ``limit`` images, by id, whose words hold all of ``text``'s; none in a
        collection without the field for words, whose status says so."""
        wanted = tokens.wanted(text) if self._has_words else []
        if not wanted or limit < 1:
            return np.empty(0, np.int64)

        def compute() -> Ids:
            where = holding(wanted)
            with self.milvus.told():
                rows = self.milvus.client.query(
                    self.collection,
                    filter=where,
                    output_fields=["id"],
                    limit=min(limit, WINDOW),
                    consistency_level=self.level,
                    timeout=SECONDS,
                )
            found = [row["id"] for row in rows]
            if len(found) == min(limit, WINDOW):  # some of more, in no order that is promised
                found = []
                for rows in self.milvus.every(self.collection, where, ["id"], level=self.level):
                    found += [row["id"] for row in rows]
                    if len(found) >= limit:
                        break
            return np.sort(np.array(found, np.int64))[:limit]

        return self._kept(("holding", tuple(wanted), limit), compute)

    def labels(self, ids: Sequence[int]) -> dict[int, list[tuple[str, float]]]:
        """``(label, fit)`` of each of ``ids`` that has any, best first."""
        rows = self.milvus.rows(
            self.collection, "id", [int(i) for i in ids], ["id", "record"], level=self.level
        )
        found = {row["id"]: _json(row["record"])["labels"] for row in rows}
        return {i: [(label, fit) for label, fit in values] for i, values in found.items() if values}

    # about itself ---------------------------------------------------------------------------------

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
        """What the store says of its index."""
        index = self._index()
        return IndexState(
            type=f"milvus {index['index_type'].lower()}",
            count=int(index.get("indexed_rows") or 0),
            generation=self._version,
            bytes=0,
            pending=int(index.get("pending_index_rows") or 0),
        )

    def status(self) -> dict[str, Any]:
        """What there is, as ``sightline status --json`` prints it; while the store is away, what
        there was, with that in its note."""
        try:
            self.refresh()
            self._told = {
                "library": self.directory,
                "model": self.model,
                "revision": self.revision,
                "dimension": self.dimension,
                "images": self.count,
                "failures": len(self._list("failure")),
                "index": asdict(self.index_state),
                "roots": self.roots(),
                "run": None,
                "note": f"held by Milvus {self.milvus.version}: originals are shown where their"
                " folders are on this machine" + self._lacking(),
            }
        except LibraryAwayError as error:
            if self._told is None:
                raise
            return {**self._told, "note": str(error), "away": True}
        return self._told

    def _lacking(self) -> str:
        if self._has_words:
            return ""
        return (
            "; words in names and captions are not searched: an earlier version filled this"
            " collection, and `sightline import DIR --to milvus` fills another one with them"
        )


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value
