"""Filling a Milvus collection: from a local library, or from the shards of ``sightline embed``.

From a library: new and changed images are written, deleted ones removed; ids are the library's.
From shards: each is written once and marked as done. Both resume after an interruption, and both
end by counting the facts (folders, facets, months) over the collection itself.

A collection is filled from one library or one output of ``embed``, because the same ids mean
different images in another one.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import LibraryError, ModelMismatchError, UsageError
from sightline.indexer.library import Library
from sightline.indexer.milvus.connection import LONG_TIMEOUT, STRONG, Address, Milvus
from sightline.indexer.milvus.dates import month_of
from sightline.indexer.milvus.index_params import (
    CHECKED_DEPTH,
    CHECKED_QUERIES,
    INDEX_TYPES,
    MIN_RECALL_UNDER_FILTER,
    ONLY,
    OVERSAMPLING,
    build_params,
    recall_under_filter,
    search_params,
    uses_nlist,
)
from sightline.indexer.milvus.library import ValueCounter, fact_of, values_of
from sightline.indexer.milvus.schema import (
    FORMAT,
    METRIC,
    fact_fields,
    fields,
    from_json,
    to_row,
)
from sightline.indexer.milvus.tokens import TOKENS, tokens_of, truncated
from sightline.indexer.places import Gazetteer
from sightline.indexer.shards.import_shards import library_place, mtime_of
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.shard_files import (
    MAX_ROWS,
    ShardRow,
    embedded_rows,
    read_failures,
    read_origin,
    read_shard,
    whole_shards,
)
from sightline.indexer.shards.superseded import superseded
from sightline.indexer.types import Failure, ImageRecord, Progress, TextLine, no_progress

LISTED = ("keyword", "person", "label", "country", "place", "places", "countries", "written")
"""What ``count_facts`` counts in records."""

BATCH = 2048
"""Images compared and written at a time."""

MAX_FAILURES = 100_000
"""Failures stored with a collection."""

FACT_BYTES = 40_000
"""Bytes of JSON in one part of a fact; Milvus stores 65,535 at most."""

Embedded = tuple[ImageRecord, NDArray[np.float32]]
"""An image and its ``(d,)`` vector."""


@dataclass(frozen=True)
class FillReport:
    """What filling did."""

    added: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: int = 0
    failed: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    images: int = 0
    """In the collection now."""
    index: str = ""


def fill_from_library(
    library: Library,
    address: str,
    *,
    index: str = "HNSW",
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> FillReport:
    """Makes the collection at ``address`` equal to ``library``.

    ``index`` is one of ``INDEX_TYPES``. Raises UsageError for one that the server cannot build,
    ModelMismatchError and LibraryError for a collection that was filled from something else.
    """
    origin = {
        "identity": library.catalog.identity,
        "model": library.model,
        "revision": library.revision,
        "dimension": library.dimension,
        "thumbnails": {"library": str(library.directory)},
    }
    with _Fill(address, origin, index, progress, stop) as fill:
        fill.reconcile(library)
        return fill.finish(library.failures())


def fill_from_shards(
    place: Place,
    address: str,
    *,
    index: str = "HNSW",
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> FillReport:
    """Writes the shards at ``place`` into the collection at ``address``. Raises what
    ``fill_from_library`` raises."""
    with _for_shards(place, address, index, progress, stop) as fill:
        failures = fill.import_shards(place)
        return fill.finish(failures)


def create_for_shards(place: Place, address: str, *, index: str = "HNSW") -> None:
    """Creates an empty collection for the shards at ``place``, for rows without n-grams of names:
    Milvus before 2.4 refuses ``name:`` there. Raises what ``fill_from_library`` raises."""
    with _for_shards(place, address, index, no_progress, None) as fill:
        fill.update_about(name_parts=False)


def _for_shards(
    place: Place, address: str, index: str, progress: Progress, stop: Event | None
) -> _Fill:
    made = read_origin(place)
    origin = {
        "identity": made.identity,
        "model": made.model,
        "revision": made.revision,
        "dimension": made.dimension,
        "thumbnails": {"shards": place.url},
    }
    return _Fill(address, origin, index, progress, stop)


class _Fill:
    """An open collection that is being filled; creates it if necessary."""

    def __init__(
        self,
        address: str,
        origin: dict[str, Any],
        index: str,
        progress: Progress,
        stop: Event | None,
    ) -> None:
        self.started = time.monotonic()
        self.milvus = Milvus(Address.parse(address))
        self.collection = self.milvus.address.collection
        self.facts = f"{self.collection}_facts"
        self.origin = origin
        self.kind = index.upper().replace("-", "_")
        self.progress = progress
        self.stop = stop or Event()
        self.counts: Counter[str] = Counter()
        self.gazetteer = cache(Gazetteer.load)
        self.folders: dict[int, tuple[str, str]] = {}
        """Root and path of the folders that the collection knows, by number."""
        self.spans: list[tuple[int, int]] = []
        """First id, and number of ids, of each shard."""
        try:
            self._prepare()
        except BaseException:
            self.milvus.close()
            raise

    def __enter__(self) -> _Fill:
        return self

    def __exit__(self, *_: object) -> None:
        self.milvus.close()

    # creating -------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        milvus = self.milvus
        if self.kind not in INDEX_TYPES:
            raise UsageError(f"there is no index type {self.kind}: use {', '.join(INDEX_TYPES)}")
        for edition, able in ONLY.items():
            if edition in milvus.version and self.kind not in able:
                raise UsageError(
                    f"this server (Milvus {milvus.version}) cannot build {self.kind} without loss:"
                    f" use {', '.join(able)}"
                )
        if milvus.exists(self.collection) and not milvus.exists(self.facts):
            raise LibraryError(
                f"the collection {self.collection} is not Sightline's: name another one at the end"
                " of the address"
            )
        self._create(self.facts, fact_fields(milvus.types), "nothing", "FLAT")
        self.about: dict[str, Any] = self._read("library") or {}
        if not self.about:
            self.update_about(
                format=FORMAT,
                **self.origin,
                facts=0,
                parts={},
                name_parts=not milvus.has_infix_like,
                low=0,
                high=0,
                created_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            )
        self._check_origin()
        dimension = self.origin["dimension"]
        self._create(self.collection, fields(dimension, milvus.types), "embedding", self.kind)
        found = milvus.describe_index(self.collection)
        if not found or found["index_type"] != self.kind:
            self.rebuild_index(milvus.count(self.collection, level=STRONG))
        self.has_tokens = milvus.has_field(self.collection, TOKENS)
        for rows in milvus.iterate(self.facts, 'name like "place:%"', ["name", "value"]):
            for row in rows:
                root, path = from_json(row["value"])["is"]
                self.folders[int(row["name"].partition(":")[2])] = root, path

    def _check_origin(self) -> None:
        made, ours = self.about, self.origin
        same = ("model", "revision", "dimension")
        if [made[name] for name in same] != [ours[name] for name in same]:
            raise ModelMismatchError(
                f"the collection {self.collection} was made with {made['model']}, not"
                f" {ours['model']}: name another one at the end of the address"
            )
        if made["identity"] != ours["identity"]:
            raise LibraryError(
                f"the collection {self.collection} was filled from another library or output, whose"
                " ids mean different images: name another one at the end of the address"
            )
        self.about["thumbnails"] = ours["thumbnails"]

    def _create(self, name: str, columns: Sequence[Any], vector: str, kind: str) -> None:
        """Creates and loads a collection; one that exists is loaded."""
        milvus, client = self.milvus, self.milvus.client
        if milvus.exists(name):
            with milvus.translated_errors():
                client.load_collection(name, timeout=LONG_TIMEOUT)
                if not milvus.address.is_file:
                    # Rows of a bulk import are searched only after this.
                    client.refresh_load(name, timeout=LONG_TIMEOUT)
            return
        with milvus.translated_errors():
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            for column, type, options in columns:
                schema.add_field(column, type, **options)
            client.create_collection(name, schema=schema, timeout=LONG_TIMEOUT)
        try:
            with milvus.translated_errors():
                client.create_index(name, self._index_params(vector, kind, 0), sync=False)
                client.load_collection(name, timeout=LONG_TIMEOUT)
        except LibraryError as error:
            # It is empty, and a collection without its index would be in the way.
            with milvus.translated_errors():
                client.drop_collection(name)
            raise UsageError(f"this server cannot build {kind}: {error}") from error

    def _index_params(self, vector: str, kind: str, count: int) -> Any:
        params = self.milvus.client.prepare_index_params()
        params.add_index(
            vector,
            index_type=kind,
            metric_type=METRIC,
            params=build_params(kind, count, self.origin["dimension"]),
        )
        return params

    def rebuild_index(self, count: int) -> None:
        """Drops the index on the vectors and builds one for ``count`` rows."""
        client = self.milvus.client
        with self.milvus.translated_errors():
            client.release_collection(self.collection)
            if client.list_indexes(self.collection):
                client.drop_index(self.collection, "embedding")
            params = self._index_params("embedding", self.kind, count)
            client.create_index(self.collection, params, sync=False)
            client.load_collection(self.collection, timeout=LONG_TIMEOUT)

    # facts ----------------------------------------------------------------------------------------

    def _read(self, name: str) -> Any:
        rows = self.milvus.by_keys(self.facts, "name", [name], ["value"], level=STRONG)
        return from_json(rows[0]["value"])["is"] if rows else None

    def _write_facts(self, facts: dict[str, Any]) -> None:
        self.milvus.write(
            self.facts,
            [
                {"name": name, "nothing": [0.0, 1.0], "value": {"is": value}}
                for name, value in facts.items()
            ],
        )

    def update_about(self, **values: Any) -> None:
        """Changes values of the fact ``library``."""
        self.about = {**self.about, **values}
        self._write_facts({"library": self.about})

    def _part_names(self, kind: str) -> list[str]:
        count = self.about["parts"].get(kind, 0)
        return [f"{kind}:{self.about['facts']}:{n}" for n in range(count)]

    def write_lists(self, lists: dict[str, list[Any]], **about: Any) -> None:
        """Replaces all lists among the facts; readers see all old or all new ones."""
        before = [name for kind in self.about["parts"] for name in self._part_names(kind)]
        generation = self.about["facts"] + 1
        parts: dict[str, int] = {}
        for kind, items in lists.items():
            divided = list(split(items))
            parts[kind] = len(divided)
            for n, part in enumerate(divided):
                self._write_facts({f"{kind}:{generation}:{n}": part})
        self.update_about(facts=generation, parts=parts, **about)
        self.milvus.delete(self.facts, before)

    # images ---------------------------------------------------------------------------------------

    def to_rows(
        self,
        images: Sequence[Embedded],
        labels: dict[int, list[tuple[str, float]]] | None = None,
        texts: dict[int, list[TextLine]] | None = None,
    ) -> list[dict[str, Any]]:
        """The rows of images. Their folders are written before rows refer to them."""
        rows = rows_of(
            images,
            labels or {},
            texts or {},
            with_tokens=self.has_tokens,
            with_ngrams=bool(self.about.get("name_parts")),
        )
        new = {}
        for row, (record, _) in zip(rows, images, strict=True):
            if row["folder"] not in self.folders:
                place = record.root, record.path.rpartition("/")[0]
                new[f"place:{row['folder']}"] = place
                self.folders[row["folder"]] = place
        self._write_facts(new)
        return rows

    def reconcile(self, library: Library) -> None:
        """Writes what differs from the library, and deletes what was deleted from it."""
        stamps: dict[int, int] = {}
        for rows in self.milvus.iterate(self.collection, "id >= 0", ["id", "stamp"]):
            stamps |= {row["id"]: row["stamp"] for row in rows}
        total, done = library.count, 0
        for ids, vectors in library.catalog.blocks(BATCH):
            if self.stop.is_set():
                return
            by_id = dict(zip(ids.tolist(), vectors, strict=True))
            images = [(record, by_id[record.id]) for record in library.images(ids.tolist())]
            new, changed = [], []
            for row in self.to_rows(
                images, library.labels(ids.tolist()), library.texts(ids.tolist())
            ):
                stamp = stamps.pop(row["id"], None)
                if stamp is None:
                    new.append(row)
                elif stamp != row["stamp"]:
                    changed.append(row)
                else:
                    self.counts["unchanged"] += 1
            self.milvus.write(self.collection, new, new=True)
            self.milvus.write(self.collection, changed)
            self.counts["added"] += len(new)
            self.counts["updated"] += len(changed)
            done += len(ids)
            self.progress("filling", done, total)
        self.milvus.delete(self.collection, list(stamps))
        self.counts["removed"] += len(stamps)

    def import_shards(self, place: Place) -> list[Failure]:
        """Writes every shard that is not marked as done or was rewritten since. Returns the
        failures of all shards."""
        shards = whole_shards(place)
        sizes = place.sizes()
        old = superseded(place, shards)
        spans = {
            start: length
            for name in self._part_names("span")
            for start, length in self._read(name) or []
        }
        for number, (shard, name) in enumerate(shards.items()):
            if self.stop.is_set():
                break
            self.progress("filling from shards", number, len(shards))
            if (self._read(f"shard:{shard}") or {}).get("bytes") == sizes[name]:
                continue
            length = self._import_shard(place, shard, name, old)
            spans[shard * MAX_ROWS] = length
            self._write_facts({f"shard:{shard}": {"rows": length, "bytes": sizes[name]}})
        self.spans = sorted(spans.items())
        self.milvus.delete(self.collection, [i for i in old if i // MAX_ROWS in shards])
        failures = []
        for row in read_failures(place, but=old):
            root, path = library_place(row)
            failures.append(Failure(str(root), path, row.size, mtime_of(row), row.failure or ""))
        return failures

    def _import_shard(self, place: Place, shard: int, name: str, old: set[int]) -> int:
        """Writes one shard without the rows ``old``; the number of ids that it spans."""
        low, high = shard * MAX_ROWS, (shard + 1) * MAX_ROWS
        present = self.milvus.count(self.collection, f"id >= {low} and id < {high}", level=STRONG)
        # Then a bulk import wrote it, or a run that was stopped before it could mark it.
        complete = present == embedded_rows(place, name) and not any(low <= i < high for i in old)
        length = written = 0
        for group in read_shard(place, name, thumbnails=False):
            length = max([length, *(row.id - low + 1 for row in group)])
            current = [row for row in group if row.id not in old]
            images = embedded_images(current, self.gazetteer)
            self.counts["failed"] += len(current) - len(images)
            rows = self.to_rows(images)
            if not complete:
                self.milvus.write(self.collection, rows, new=not present)
            written += len(rows)
        self.counts["added"] += max(0, written - present)
        self.counts["unchanged"] += min(written, present)
        return length

    # finishing ------------------------------------------------------------------------------------

    def finish(self, failures: Sequence[Failure]) -> FillReport:
        """Flushes, builds and checks the index, counts the facts and raises the version."""
        milvus = self.milvus
        self.progress("writing to disk", 0, None)
        with milvus.translated_errors():
            milvus.client.flush(self.collection, timeout=LONG_TIMEOUT)
        count = milvus.count(self.collection, level=STRONG)
        if uses_nlist(self.kind):
            nlist = int(milvus.describe_index(self.collection).get("nlist") or 0)
            wanted = build_params(self.kind, count, self.origin["dimension"])["nlist"]
            if not nlist or not 0.5 <= wanted / nlist <= 2:
                self.rebuild_index(count)
        self.wait_for_index()
        if self.kind in OVERSAMPLING and not self.stop.is_set():
            self.check_filters()
        self.count_facts(failures)
        version = self._read("version") or {"n": 0}
        self._write_facts({"version": {"n": version["n"] + 1}})
        with milvus.translated_errors():
            milvus.client.flush(self.facts, timeout=LONG_TIMEOUT)
        return FillReport(
            **self.counts,
            interrupted=self.stop.is_set(),
            seconds=time.monotonic() - self.started,
            images=count,
            index=self.kind,
        )

    def wait_for_index(self) -> None:
        """Waits until the index holds every row that was flushed."""
        while not self.stop.is_set():
            found = self.milvus.describe_index(self.collection)
            state = str(found.get("state", "Finished"))
            if "Fail" in state:
                raise LibraryError(
                    f"Milvus could not build {self.kind}: {found.get('index_state_fail_reason')}"
                )
            total, pending = found.get("total_rows") or 0, found.get("pending_index_rows") or 0
            self.progress("building the index", total - pending, total)
            if not pending and state.endswith("Finished"):
                return
            self.stop.wait(0.5)

    def check_filters(self) -> None:
        """Raises LibraryError if the index loses images when a filter is set."""
        milvus = self.milvus
        index = milvus.describe_index(self.collection)
        params = search_params(index, CHECKED_DEPTH, filtered=True)
        with milvus.translated_errors():
            some = milvus.client.query(
                self.collection,
                filter="id >= 0",
                output_fields=["id", "embedding"],
                limit=CHECKED_QUERIES,
                consistency_level=STRONG,
                timeout=LONG_TIMEOUT,
            )
        vectors = {row["id"]: row["embedding"] for row in some}

        def search(id: int, k: int, where: str) -> dict[int, int]:
            with milvus.translated_errors():
                (hits,) = milvus.client.search(
                    self.collection,
                    data=[vectors[id]],
                    limit=k,
                    filter=where,
                    output_fields=["id", "stamp"],
                    search_params={"metric_type": METRIC, "params": params},
                    consistency_level=STRONG,
                    timeout=LONG_TIMEOUT,
                )
            return {hit["id"]: hit["entity"]["stamp"] for hit in hits}

        recall = recall_under_filter(search, vectors)
        if recall < MIN_RECALL_UNDER_FILTER:
            raise LibraryError(
                f"{self.kind} of this server (Milvus {milvus.version}) loses images when a filter"
                f" is set ({1 - recall:.0%} of those found without one): run the same command with"
                " --index-type IVF_SQ8 or HNSW, which keeps what was written"
            )

    def count_facts(self, failures: Sequence[Failure]) -> None:
        """Counts folders, facets and months over the collection, and writes them."""
        scalars: dict[str, Counter[Any]] = {
            name: Counter() for name in ("folder", "camera", "lens", "format", "rating")
        }
        months: Counter[str] = Counter()
        listed = {kind: ValueCounter() for kind in LISTED}
        low, high, done = 2**62, 0, 0
        for rows in self.milvus.iterate(
            self.collection, "id >= 0", ["id", "taken", "record", *scalars]
        ):
            for row in rows:
                low, high = min(low, row["id"]), max(high, row["id"])
                for name, counter in scalars.items():
                    counter[row[name]] += 1
                record = from_json(row["record"])
                months[month_of(row["taken"], record.get("taken_precision", "second"))] += 1
                for kind, values in listed.items():
                    values.add(values_of(record, kind))
            done += len(rows)
            self.progress("counting", done, None)
        lists: dict[str, list[Any]] = {
            "folder": [
                [number, *self.folders[number], count]
                for number, count in sorted(scalars["folder"].items())
                if number in self.folders
            ],
            "month": sorted([month, count] for month, count in months.items()),
            "failure": [
                [f.root, f.path, f.size, f.mtime_ns, truncated(f.reason, 1000)]
                for f in failures[:MAX_FAILURES]
            ],
            "span": [list(span) for span in self.spans],
            "rating": [[str(r), n] for r, n in scalars["rating"].most_common() if r >= 0],
        }
        for kind, name in (("camera", "camera"), ("lens", "lens"), ("type", "format")):
            lists[kind] = [[text, n] for text, n in scalars[name].most_common() if text]
        for kind, values in listed.items():
            lists[fact_of(kind)] = [[text, n] for text, n in values.counts()]
        self.write_lists(lists, low=low if high else 0, high=high)


def rows_of(
    images: Sequence[Embedded],
    labels: dict[int, list[tuple[str, float]]],
    texts: dict[int, list[TextLine]],
    *,
    with_tokens: bool,
    with_ngrams: bool,
) -> list[dict[str, Any]]:
    """The rows of images, with their labels and the text in them by id."""
    records = [record for record, _ in images]
    tokens = tokens_of(records, texts) if with_tokens else [None] * len(images)
    return [
        to_row(
            record,
            vector,
            labels.get(record.id, ()),
            lines=texts.get(record.id, ()),
            tokens=found,
            with_ngrams=with_ngrams,
        )
        for (record, vector), found in zip(images, tokens, strict=True)
    ]


def embedded_images(
    rows: Iterable[ShardRow], gazetteer: Callable[[], Gazetteer | None]
) -> list[Embedded]:
    """The image and the vector of each of ``rows`` that has one. ``gazetteer`` names the places of
    those with a position."""
    added_at = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    embedded = [(row, row.vector, row.info) for row in rows if row.vector is not None and row.info]
    positions = {
        row.id: (info.latitude, info.longitude)
        for row, _, info in embedded
        if info.latitude is not None and info.longitude is not None
    }
    table = gazetteer() if positions else None
    found = table.locate(list(positions.values())) if table is not None else []
    locations = dict(zip(positions, found, strict=False))
    images = []
    for row, vector, info in embedded:
        root, path = library_place(row)
        record = ImageRecord(
            id=row.id,
            root=str(root),
            path=path,
            size=row.size,
            mtime_ns=mtime_of(row),
            content_hash=row.content_hash or "",
            info=info,
            added_at=added_at,
            location=locations.get(row.id),
            phash=row.phash,
        )
        images.append((record, vector))
    return images


def split(items: Iterable[Any]) -> Iterator[list[Any]]:
    """``items`` in lists of at most ``FACT_BYTES`` of JSON."""
    part: list[Any] = []
    size = 0
    for item in items:
        length = len(json.dumps(item).encode()) + 1
        if part and size + length > FACT_BYTES:
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part
