"""Filling a Milvus collection: from a local library, or from the shards of ``sightline embed``.

From a library the collection becomes what the library is: what is new or has changed is written,
what has left is removed; ids are the library's. From shards each is taken in once and marked as
done. Both go on after whatever stopped them, and both end with the facts: folders, facets, months,
counted over the collection itself.

A collection is filled from one library or one output and never from another: their ids mean
different pictures.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from sightline.indexer.catalog.full_text import fold
from sightline.indexer.errors import LibraryError, ModelMismatchError, UsageError
from sightline.indexer.library.library import Library
from sightline.indexer.milvus.connection import LONG, STRONG, Address, Milvus
from sightline.indexer.milvus.dates import month_of
from sightline.indexer.milvus.index_params import (
    ASKED,
    LOOKED_AT,
    SHORTENED,
    kept_by_filters,
    width,
)
from sightline.indexer.milvus.library import FORMAT
from sightline.indexer.milvus.schema import METRIC, fact_fields, fields, row
from sightline.indexer.milvus.words import WORDS, cut, words_of
from sightline.indexer.shards.import_shards import date_of, where
from sightline.indexer.shards.shard_files import (
    MOST_ROWS,
    Place,
    ShardRow,
    embedded_rows,
    read_failures,
    read_origin,
    read_shard,
    whole_shards,
)
from sightline.indexer.shards.superseded import superseded
from sightline.indexer.types import Failure, ImageRecord, PhotoInfo, Progress, no_progress

INDEXES = (
    "FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW", "SCANN", "DISKANN", "GPU_IVF_FLAT",
    "GPU_IVF_PQ", "GPU_CAGRA",
)  # fmt: skip
"""Names of Milvus' index types that may be asked for."""

ONLY = {
    "milvus_lite": ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8"),
    "-lite": ("FLAT", "IVF_FLAT", "HNSW", "SCANN"),
}
"""What small editions can build: Milvus Lite, and the server in the PyPI package ``milvus``. That
one accepts DISKANN and never finishes it; IVF_SQ8 and IVF_PQ it builds, and takes the file of the
vectors themselves away when they are read, so that they are lost with the next restart (seen with
2.3.5). Whatever else is asked of a server, it answers itself."""

BATCH = 2048
MOST_FAILURES = 100_000
PART = 40_000
"""Bytes of one part of a fact; Milvus takes 65,535."""

KEPT = 0.8
"""Of what an index finds, the share that it must find with a filter too; equal scores may change
places."""


@dataclass(frozen=True)
class Filled:
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
) -> Filled:
    """Makes the collection at ``address`` what ``library`` is.

    ``index`` is a name of ``INDEXES``. Raises UsageError for one that the store lacks,
    ModelMismatchError and LibraryError for a collection that something else filled.
    """
    origin = {
        "identity": library.catalog.identity,
        "model": library.model,
        "revision": library.revision,
        "dimension": library.dimension,
        "thumbnails": {"library": str(library.directory)},
    }
    with _Fill(address, origin, index, progress, stop or Event()) as work:
        work.reconcile(library)
        return work.finish(library.failures())


def fill_from_shards(
    place: Place,
    address: str,
    *,
    index: str = "HNSW",
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> Filled:
    """Takes the shards at ``place`` into the collection at ``address``; like the above."""
    with filling(place, address, index=index, progress=progress, stop=stop) as work:
        failures = work.take_shards(place)
        return work.finish(failures)


def filling(
    place: Place,
    address: str,
    *,
    index: str,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> _Fill:
    """A filling with the shards at ``place`` that has not begun: the collection is there."""
    made = read_origin(place)
    origin = {
        "identity": made.identity,
        "model": made.model,
        "revision": made.revision,
        "dimension": made.dimension,
        "thumbnails": {"shards": place.url},
    }
    return _Fill(address, origin, index, progress, stop or Event())


class _Fill:
    """The state of one filling."""

    def __init__(
        self, address: str, origin: dict[str, Any], index: str, progress: Progress, stop: Event
    ) -> None:
        self.started = time.monotonic()
        self.milvus = Milvus(Address.parse(address))
        self.collection = self.milvus.address.collection
        self.facts = f"{self.collection}_facts"
        self.origin = origin
        self.kind = index.upper().replace("-", "_")
        self.progress = progress
        self.stop = stop
        self.counts: Counter[str] = Counter()
        self.numbers: dict[tuple[str, str], int] = {}
        """Of folders."""
        self.unwritten: dict[str, Any] = {}
        try:
            self._prepare()
        except BaseException:
            self.milvus.close()
            raise

    def __enter__(self) -> _Fill:
        return self

    def __exit__(self, *_: object) -> None:
        self.milvus.close()

    # making it ------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        milvus = self.milvus
        if self.kind not in INDEXES:
            raise UsageError(f"no index is called {self.kind}: {', '.join(INDEXES)}")
        for edition, able in ONLY.items():
            if edition in milvus.version and self.kind not in able:
                raise UsageError(
                    f"this store (Milvus {milvus.version}) cannot build {self.kind} without loss,"
                    f" only {', '.join(able)}"
                )
        if milvus.exists(self.collection) and not milvus.exists(self.facts):
            raise LibraryError(
                f"there is a collection {self.collection} that is not Sightline's: name another"
                " one at the end of the address"
            )
        self._create(self.facts, fact_fields(milvus.types), "nothing", "FLAT")
        self.about = self._read("library")
        if self.about is None:
            self.about = {
                "format": FORMAT,
                **self.origin,
                "facts": 0,
                "parts": {},
                "name_parts": not milvus.looks_inside,
                "low": 0,
                "high": 0,
                "created_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            }
            self._write_facts({"library": self.about})
        self._check()
        dimension = self.origin["dimension"]
        self._create(self.collection, fields(dimension, milvus.types), "embedding", self.kind)
        self._check_index()
        self.has_words = milvus.has_field(self.collection, WORDS)
        for rows in milvus.every(self.facts, 'name like "place:%"', ["name", "value"]):
            for found in rows:
                root, path = _json(found["value"])["is"]
                self.numbers[root, path] = int(found["name"].partition(":")[2])

    def _check(self) -> None:
        assert self.about is not None
        made, ours = self.about, self.origin
        same = ("model", "revision", "dimension")
        if [made[name] for name in same] != [ours[name] for name in same]:
            raise ModelMismatchError(
                f"the collection {self.collection} was made with {made['model']}, not"
                f" {ours['model']}: name another one at the end of the address"
            )
        if made["identity"] != ours["identity"]:
            raise LibraryError(
                f"the collection {self.collection} was filled from another library or output, and"
                " their ids would mean different pictures: name another one at the end of the"
                " address"
            )
        self.about["thumbnails"] = ours["thumbnails"]

    def _create(self, name: str, columns: Sequence[Any], vector: str, kind: str) -> None:
        milvus, client = self.milvus, self.milvus.client
        if milvus.exists(name):
            with milvus.told():
                client.load_collection(name, timeout=LONG)
                if not milvus.address.is_file:
                    # What a bulk import brought in is not searched before.
                    client.refresh_load(name, timeout=LONG)
            return
        with milvus.told():
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            for column, type, options in columns:
                schema.add_field(column, type, **options)
            index = client.prepare_index_params()
            index.add_index(
                vector,
                index_type=kind,
                metric_type=METRIC,
                params=built_with(kind, 0, self.origin["dimension"]),
            )
            client.create_collection(name, schema=schema, timeout=LONG)
        try:
            with milvus.told():
                client.create_index(name, index, sync=False)
                client.load_collection(name, timeout=LONG)
        except LibraryError as error:
            # Nothing is in it yet, and a collection without its index would be in the way.
            with milvus.told():
                client.drop_collection(name)
            raise UsageError(f"this store cannot build {kind}: {error}") from error

    def _check_index(self) -> None:
        """Builds the index anew where another type was asked for, or it has outgrown its lists."""
        client = self.milvus.client
        with self.milvus.told():
            found = client.describe_index(self.collection, "embedding")
        if found and found["index_type"] == self.kind:
            return
        self.rebuild_index(self.milvus.count(self.collection, level=STRONG))

    def rebuild_index(self, count: int) -> None:
        """Drops the vectors' index and builds one for ``count`` rows."""
        client = self.milvus.client
        with self.milvus.told():
            client.release_collection(self.collection)
            if client.list_indexes(self.collection):
                client.drop_index(self.collection, "embedding")
            index = client.prepare_index_params()
            index.add_index(
                "embedding",
                index_type=self.kind,
                metric_type=METRIC,
                params=built_with(self.kind, count, self.origin["dimension"]),
            )
            client.create_index(self.collection, index, sync=False)
            client.load_collection(self.collection, timeout=LONG)

    def words(self, records: Sequence[ImageRecord]) -> Sequence[Sequence[str] | None]:
        """What the rows of ``records`` hold of the words around them."""
        return words_of(records) if self.has_words else [None] * len(records)

    @property
    def name_parts(self) -> bool:
        """Whether rows hold the parts of names."""
        assert self.about is not None
        return bool(self.about.get("name_parts"))

    def without_name_parts(self) -> None:
        """Says that the rows are written without the parts of names, whatever the server is."""
        assert self.about is not None
        self.about = {**self.about, "name_parts": False}
        self._write_facts({"library": self.about})

    # facts ----------------------------------------------------------------------------------------

    def _read(self, name: str) -> Any:
        rows = self.milvus.rows(self.facts, "name", [name], ["value"], level=STRONG)
        if not rows:
            return None
        return _json(rows[0]["value"])["is"]

    def _write_facts(self, facts: dict[str, Any]) -> None:
        self.milvus.write(
            self.facts,
            [
                {"name": name, "nothing": [0.0, 1.0], "value": {"is": value}}
                for name, value in facts.items()
            ],
        )

    def _parts(self, kind: str) -> Iterator[tuple[str, list[Any]]]:
        assert self.about is not None
        for n in range(self.about["parts"].get(kind, 0)):
            name = f"{kind}:{self.about['facts']}:{n}"
            yield name, self._read(name) or []

    def folder(self, root: str, path: str) -> int:
        """The number of a folder, which is written down before rows speak of it."""
        key = root, path
        if key not in self.numbers:
            number = folder_number(root, path)
            self.numbers[key] = number
            self.unwritten[f"place:{number}"] = [root, path]
        return self.numbers[key]

    def keep_folders(self) -> None:
        """Writes new folders down before rows speak of them."""
        self._write_facts(self.unwritten)
        self.unwritten = {}

    def write_lists(self, lists: dict[str, list[Any]]) -> None:
        """Puts lists in the place of those that were; readers see all of the old or of the new."""
        assert self.about is not None
        before = [name for kind in self.about["parts"] for name, _ in self._parts(kind)]
        generation = self.about["facts"] + 1
        parts: dict[str, int] = {}
        for kind, items in lists.items():
            divided = list(in_parts(items))
            parts[kind] = len(divided)
            for n, part in enumerate(divided):
                self._write_facts({f"{kind}:{generation}:{n}": part})
        self.about = {**self.about, "facts": generation, "parts": parts}
        self._write_facts({"library": self.about})
        if before:
            with self.milvus.told():
                self.milvus.client.delete(self.facts, ids=before)

    # from a library -------------------------------------------------------------------------------

    def reconcile(self, library: Library) -> None:
        """Writes what differs from the library, and removes what has left it."""
        there: dict[int, int] = {}
        for rows in self.milvus.every(self.collection, "id >= 0", ["id", "stamp"]):
            there |= {found["id"]: found["stamp"] for found in rows}
        self.counts["before"] = len(there)
        total, done = library.count, 0
        for ids, vectors in library.catalog.blocks(BATCH):
            if self.stop.is_set():
                return
            found = library.images(ids.tolist())
            words = dict(zip((record.id for record in found), self.words(found), strict=True))
            records = {record.id: record for record in found}
            labels = library.labels(ids.tolist())
            new, changed = [], []
            for i, vector in zip(ids.tolist(), vectors, strict=True):
                record = records.get(i)
                if record is None:
                    continue
                folder = self.folder(record.root, record.path.rpartition("/")[0])
                made = row(record, vector, folder, labels.get(i, ()), words[i], self.name_parts)
                stamp = there.pop(i, None)
                if stamp is None:
                    new.append(made)
                elif stamp != made["stamp"]:
                    changed.append(made)
                else:
                    self.counts["unchanged"] += 1
            self.keep_folders()
            self.milvus.write(self.collection, new, new=True)
            self.milvus.write(self.collection, changed)
            self.counts["added"] += len(new)
            self.counts["updated"] += len(changed)
            done += len(ids)
            self.progress("filling", done, total)
        self.milvus.remove(self.collection, list(there))
        self.counts["removed"] += len(there)

    # from shards ----------------------------------------------------------------------------------

    def take_shards(self, place: Place) -> list[Failure]:
        """Writes every shard that is not marked as done, or was written anew since; the failures
        of all."""
        shards = whole_shards(place)
        sizes = place.sizes()
        old = superseded(place, shards)
        self.counts["before"] = self.milvus.count(self.collection, level=STRONG)
        spans = {start: length for _, part in self._parts("span") for start, length in part}
        for number, (shard, name) in enumerate(shards.items()):
            if self.stop.is_set():
                break
            self.progress("filling from shards", number, len(shards))
            done = {"bytes": sizes[name]}
            if (self._read(f"shard:{shard}") or {}).get("bytes") == done["bytes"]:
                continue
            low, high = shard * MOST_ROWS, (shard + 1) * MOST_ROWS
            begun = self.milvus.count(self.collection, f"id >= {low} and id < {high}", level=STRONG)
            # A bulk import, or a filling that was broken off before it said so, wrote all of it.
            whole = begun == embedded_rows(place, name) and not any(low <= i < high for i in old)
            length = written = 0
            for rows in read_shard(place, name, thumbnails=False):
                length = max([length, *(one.id - low + 1 for one in rows)])
                rows = [one for one in rows if one.id not in old]
                good = list(embedded(rows))
                self.counts["failed"] += len(rows) - len(good)
                made = []
                words = self.words([record for record, _ in good])
                for (record, vector), said in zip(good, words, strict=True):
                    folder = self.folder(record.root, record.path.rpartition("/")[0])
                    made.append(row(record, vector, folder, (), said, self.name_parts))
                self.keep_folders()
                if not whole:
                    self.milvus.write(self.collection, made, new=not begun)
                written += len(made)
            self.counts["added"] += max(0, written - begun)
            self.counts["unchanged"] += min(written, begun)
            spans[low] = length
            self._write_facts({f"shard:{shard}": {"rows": length, **done}})
        self.spans = sorted(spans.items())
        gone = [i for i in old if i // MOST_ROWS in shards]
        self.milvus.remove(self.collection, gone)
        return [
            Failure(str(root), path, one.size, date_of(one), one.failure or "")
            for one in read_failures(place, but=old)
            for root, path in [where(one)]
        ]

    spans: Sequence[tuple[int, int]] = ()

    # the end --------------------------------------------------------------------------------------

    def finish(self, failures: Sequence[Failure]) -> Filled:
        """Everything on the disk, the index built, the facts counted, the version raised."""
        milvus = self.milvus
        self.progress("writing to disk", 0, None)
        with milvus.told():
            milvus.client.flush(self.collection, timeout=LONG)
        count = milvus.count(self.collection, level=STRONG)
        if "IVF" in self.kind or self.kind == "SCANN":
            with milvus.told():
                found = milvus.client.describe_index(self.collection, "embedding")
            lists = int(found.get("nlist") or 0)
            if not lists or not 0.5 <= built_with(self.kind, count, 2)["nlist"] / lists <= 2:
                self.rebuild_index(count)
        self.wait_for_index()
        if self.kind in SHORTENED and not self.stop.is_set():
            self.check_filters()
        self.count_facts(failures)
        version = self._read("version") or {"n": 0}
        self._write_facts({"version": {"n": version["n"] + 1}})
        with milvus.told():
            milvus.client.flush(self.facts, timeout=LONG)
        return Filled(
            added=self.counts["added"],
            updated=self.counts["updated"],
            removed=self.counts["removed"],
            unchanged=self.counts["unchanged"],
            failed=self.counts["failed"],
            interrupted=self.stop.is_set(),
            seconds=time.monotonic() - self.started,
            images=count,
            index=self.kind,
        )

    def wait_for_index(self) -> None:
        """Until the index holds every row that was written to disk."""
        while not self.stop.is_set():
            with self.milvus.told():
                found = self.milvus.client.describe_index(self.collection, "embedding")
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
        """LibraryError where the index loses pictures when a filter is set."""
        milvus = self.milvus
        with milvus.told():
            index = milvus.client.describe_index(self.collection, "embedding")
            some = milvus.client.query(
                self.collection,
                filter="id >= 0",
                output_fields=["id", "embedding"],
                limit=ASKED,
                consistency_level=STRONG,
                timeout=LONG,
            )
        vectors = {row["id"]: row["embedding"] for row in some}
        asked = {"metric_type": METRIC, "params": width(index, LOOKED_AT, filtered=True)}

        def search(id: int, places: int, where: str) -> dict[int, int]:
            with milvus.told():
                (hits,) = milvus.client.search(
                    self.collection,
                    data=[vectors[id]],
                    limit=places,
                    filter=where,
                    output_fields=["id", "stamp"],
                    search_params=asked,
                    consistency_level=STRONG,
                    timeout=LONG,
                )
            return {hit["id"]: hit["entity"]["stamp"] for hit in hits}

        kept = kept_by_filters(search, vectors)
        if kept < KEPT:
            raise LibraryError(
                f"{self.kind} of this store (Milvus {milvus.version}) loses pictures where a filter"
                f" is set ({1 - kept:.0%} of those it finds without one): run the same command with"
                " --index-type IVF_SQ8 or HNSW, which keeps what was written"
            )

    def count_facts(self, failures: Sequence[Failure]) -> None:
        """Counts folders, facets and months over the collection, and writes them down."""
        counted: dict[str, Counter[Any]] = {
            kind: Counter() for kind in ("folder", "camera", "lens", "type", "rating", "month")
        }
        listed: dict[str, Counter[str]] = {"keyword": Counter(), "label": Counter()}
        shown: dict[tuple[str, str], str] = {}
        low, high, done = 2**62, 0, 0
        wanted = ["id", "folder", "camera", "lens", "format", "rating", "taken", "record"]
        for rows in self.milvus.every(self.collection, "id >= 0", wanted):
            for found in rows:
                low, high = min(low, found["id"]), max(high, found["id"])
                counted["folder"][found["folder"]] += 1
                counted["camera"][found["camera"]] += 1
                counted["lens"][found["lens"]] += 1
                counted["type"][found["format"]] += 1
                counted["rating"][found["rating"]] += 1
                counted["month"][month_of(found["taken"])] += 1
                said = _json(found["record"])
                labels = [label for label, _ in said["labels"]]
                for kind, values in (("keyword", said["keywords"]), ("label", labels)):
                    for key, text in {fold(text): text for text in values}.items():
                        listed[kind][key] += 1
                        shown[kind, key] = min(text, shown.get((kind, key), text))
            done += len(rows)
            self.progress("counting", done, None)
        places = {number: key for key, number in self.numbers.items()}
        lists: dict[str, list[Any]] = {
            "folder": [
                [number, *places[number], count]
                for number, count in sorted(counted["folder"].items())
                if number in places
            ],
            "month": sorted([month, count] for month, count in counted["month"].items()),
            "failure": [
                [f.root, f.path, f.size, f.mtime_ns, cut(f.reason, 1000)]
                for f in failures[:MOST_FAILURES]
            ],
            "span": [list(span) for span in self.spans],
        }
        for kind in ("camera", "lens", "type"):
            lists[kind] = [[text, n] for text, n in counted[kind].most_common() if text]
        lists["rating"] = [[str(r), n] for r, n in counted["rating"].most_common() if r >= 0]
        for kind, values in listed.items():
            lists[kind] = [[shown[kind, key], n] for key, n in values.most_common()]
        assert self.about is not None
        self.about = {**self.about, "low": low if high else 0, "high": high}
        self.write_lists(lists)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, (str, bytes)) else value


def folder_number(root: str, path: str) -> int:
    """Of a folder among a collection's facts: made of its name, so that no run need know of
    another's."""
    return xxhash.xxh3_64_intdigest(f"{root}\0{path}".encode()) >> 1


def embedded(rows: Iterable[ShardRow]) -> Iterator[tuple[ImageRecord, NDArray[np.float32]]]:
    """The record and the vector of each of ``rows`` that has one."""
    for one in rows:
        if one.vector is not None and one.info is not None:
            yield _as_record(one, one.info), one.vector


def _as_record(one: ShardRow, info: PhotoInfo) -> ImageRecord:
    root, path = where(one)
    return ImageRecord(
        id=one.id,
        root=str(root),
        path=path,
        size=one.size,
        mtime_ns=date_of(one),
        content_hash=one.content_hash or "",
        info=replace(info),
        added_at=datetime.now(UTC).replace(tzinfo=None, microsecond=0),
        phash=one.phash,
    )


def in_parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """``items`` in lists of at most ``PART`` bytes of JSON."""
    part: list[Any] = []
    size = 0
    for item in items:
        length = len(json.dumps(item).encode()) + 1
        if part and size + length > PART:
            yield part
            part, size = [], 0
        part.append(item)
        size += length
    if part:
        yield part


def built_with(kind: str, count: int, dimension: int) -> dict[str, Any]:
    """Parameters of an index for ``count`` vectors. Lists: 4 times the square root, as FAISS's
    guidelines have it, by powers of two; PQ of 8 dimensions a byte."""
    # Each segment of a collection has an index of its own, and it holds half a million rows.
    lists = int(2 ** max(4, min(11, int(np.log2(max(count, 1)) / 2 + 2))))
    if kind in ("IVF_PQ", "GPU_IVF_PQ"):
        m = next((m for m in (64, 48, 32, 16, 8, 4, 2) if dimension % m == 0 and m < dimension), 1)
        return {"nlist": lists, "m": m, "nbits": 8}
    if "IVF" in kind or kind == "SCANN":
        return {"nlist": lists}
    if kind == "HNSW":
        return {"M": 24, "efConstruction": 200}
    if kind == "GPU_CAGRA":
        return {"intermediate_graph_degree": 64, "graph_degree": 32}
    return {}
