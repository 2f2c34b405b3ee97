"""A library held by Milvus answers like a local one: parity, filters, deletions, outages. The tests
run Milvus Lite."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers_catalog import DIMENSION, TOP, picture
from helpers_client import client_of
from helpers_library import COUNT, as_bytes, draw, id_of, make_library, make_pictures
from helpers_shards import make_drawings, rows_of
from test_dates import KNOWN as PARTIAL

from sightline.indexer.dates import from_text
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import (
    LibraryAwayError,
    LibraryError,
    ModelMismatchError,
    QueryError,
    UsageError,
)
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.milvus import bulk, schema
from sightline.indexer.milvus.connection import Address, Milvus, is_address
from sightline.indexer.milvus.fill import fill_from_library, fill_from_shards
from sightline.indexer.milvus.library import MilvusLibrary
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import find_items, plan
from sightline.indexer.shards.ray_task import Job, embed_shard
from sightline.indexer.shards.shard_files import MAX_ROWS, Origin, write_origin
from sightline.indexer.types import Candidate, Condition, Filters, TextLine
from sightline.server.cli import run
from sightline.server.search import SearchEngine, parse
from sightline.server.web.app import create_app


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("milvus") / "Pictures")


@pytest.fixture(scope="module")
def local(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder, pictures: Path
) -> Iterator[Library]:
    with make_library(tmp_path_factory.mktemp("local") / "library", tiny_encoder, pictures) as made:
        ids = made.select().tolist()
        made.catalog.write_labels([(id, "blots", 0.5 + id / 1000) for id in ids if id % 4 == 0])
        lines = [
            TextLine("Harbour Café", 0.9, (0.1, 0.2, 0.5, 0.3)),
            TextLine("E-Mail: harbourmaster@cafe.org", 0.9, (0.1, 0.4, 0.5, 0.5)),
        ]
        texts = {id: lines[: id % 3] for id in ids}
        for id in (3, 8):
            texts[id].append(TextLine("Harb0ur Cafc lnvoice", 0.9, (0.1, 0.6, 0.5, 0.7)))
        made.catalog.write_texts(list(texts.items()), engine="toy 1")
        yield made


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, local: Library) -> str:
    address = str(tmp_path_factory.mktemp("lite") / "pictures.db")
    filled = fill_from_library(local, address, index="FLAT")
    assert (filled.added, filled.images) == (COUNT + 5, COUNT + 5)
    return address


@pytest.fixture(scope="module")
def remote(address: str) -> Iterator[MilvusLibrary]:
    with MilvusLibrary.open(address) as opened:
        yield opened


@pytest.fixture(scope="module")
def engines(
    local: Library, remote: MilvusLibrary, tiny_encoder: Encoder
) -> Iterator[tuple[SearchEngine, SearchEngine]]:
    with SearchEngine(local, tiny_encoder) as one, SearchEngine(remote, tiny_encoder) as other:
        yield one, other


FILTERS = (
    "after:2020-03-01", "before:2021-06-15", "in:Como", "in:home", "-in:Odd", "camera:nine",
    "-camera:nine", "type:jpg", "-type:png", "is:portrait", "is:landscape", "-is:square",
    "name:002", "-name:img_", "name:%", "name:_00", "label:blots", "-label:blots", "keyword:none",
    "rating:3", "near:46,9,100", "person:ada", "person:grace person:ada", "-person:lovelace",
    "place:florence", "-place:tiergarten", "country:de", "country:liechtenstein",
    "text:harbour", "-text:cafe", 'text:"harbour café"', "text:harb*", "-text:HARBOURM*",
    'text:"cafe harbour"', 'text:"harbour ca*"', 'text:"e mail harbour*"', "text:e-mail",
    "text:no*", "text:invoice", "-text:invoice", 'text:"cafe lnvoice"', 'text:"cafe lnv*"',
    'text:"cafe invoice"', "text:lnvoice", "person:lace",
)  # fmt: skip

TERMS = (
    "a golden retriever", "snow on a hut", "-people cat", "2:apples -green", "un chat noir",
    "birthday cake, seven candles", "bicycles + river", "como 2020", "IMG_0007", "home, July 2019",
    "smaller", "Lake-Como boats on the water", "trips jpg -como", "unpaid invoice", "harbour",
)  # fmt: skip


def mixed_queries(ids: list[int]) -> list[str]:
    """200 queries of text, images, both, with filters and without."""
    draw = random.Random(9)
    queries = []
    for _ in range(200):
        parts = draw.sample(TERMS, draw.choice((0, 1, 1, 1)))
        if draw.random() < 0.5:
            parts.append(f"like:{draw.choice(ids)}")
        parts += draw.sample(FILTERS, draw.choice((0, 0, 1, 2)))
        if draw.random() < 0.1:
            parts.append("sort:oldest")
        queries.append(" ".join(parts))
    return queries


# the same answers ---------------------------------------------------------------------------------


def test_200_mixed_queries_return_the_same_ids_in_the_same_order(
    engines: tuple[SearchEngine, SearchEngine], local: Library
) -> None:
    queries = mixed_queries(local.select().tolist())
    hits = 0
    for query in queries:
        one, other = (engine.search(query, k=15) for engine in engines)
        assert [hit.id for hit in other.hits] == [hit.id for hit in one.hits], query
        assert [hit.score for hit in other.hits] == pytest.approx(
            [hit.score for hit in one.hits], abs=1e-6
        )
        assert (other.total, other.good, other.message) == (one.total, one.good, one.message)
        hits += len(one.hits)
    assert hits > 1000  # not empty on both sides


def test_records_vectors_and_thumbnails_are_the_same(local: Library, remote: MilvusLibrary) -> None:
    ids = local.select()
    assert remote.select().tolist() == ids.tolist()
    assert remote.images(ids.tolist()) == local.images(ids.tolist())
    assert np.array_equal(remote.vectors(ids), local.vectors(ids))
    assert remote.labels(ids.tolist()) == local.labels(ids.tolist())
    assert remote.texts(ids.tolist()) == local.texts(ids.tolist()) != {}
    assert remote.failures() == local.failures()
    assert remote.thumbnail(int(ids[0])) == local.thumbnail(int(ids[0])) is not None


def folded(texts: set[str]) -> set[str]:
    return {text.lower() for text in texts if text}


def test_facets_suggestions_and_lists_are_the_same(
    engines: tuple[SearchEngine, SearchEngine], local: Library, remote: MilvusLibrary
) -> None:
    one, other = engines
    for query in ("", "snow", "in:como", "after:2021-01-01"):
        assert other.timeline(query) == one.timeline(query)
    assert other.facets("") == one.facets("")
    for kind in (
        "folder",
        "camera",
        "lens",
        "type",
        "year",
        "keyword",
        "person",
        "country",
        "place",
        "label",
        "rating",
    ):
        assert remote.suggest(kind) == local.suggest(kind), kind
    for kind in ("keyword", "person", "country", "place", "label", "year"):
        assert remote.has(kind) == local.has(kind), kind
    assert folded(remote.value_texts()) == folded(local.value_texts()) - {"favourites"}
    assert remote.roots() == local.roots()
    assert remote.random(9, seed=3).tolist() == local.random(9, seed=3).tolist()
    assert np.array_equal(remote.sample(), local.sample())
    for newest in (True, False):
        listed = remote.listed(Filters(), descending=newest)
        assert listed.tolist() == local.listed(Filters(), descending=newest).tolist()


def test_partial_dates_are_filtered_counted_and_shown_as_in_a_library(tmp_path: Path) -> None:
    folder = tmp_path / "local"
    with Library.create(folder, model="toy", revision="1", dimension=DIMENSION) as local:
        images = []
        for number, text in enumerate(PARTIAL):
            moment, precision = from_text(text)
            date = {"taken_at": moment, "taken_precision": precision, "taken_from": "xmp"}
            images.append(picture(f"{number}.jpg", **date))
        unread = replace(picture("unread.jpg"), candidate=Candidate(TOP, "unread.jpg", 1, None))
        old = replace(picture("old.jpg"), candidate=Candidate(TOP, "old.jpg", 1, 0))
        root = local.ensure_root(TOP)
        local.catalog.write(root, images=[*images, unread, old], decoded=[])
        fill_from_library(local, str(tmp_path / "dates.db"), index="FLAT")
        with MilvusLibrary.open(str(tmp_path / "dates.db")) as remote:
            ids = local.select()
            for query in (
                "before:1944", "before:1943-06", "before:1943-06-11", "after:1943", "date:1943",
                "after:1943-06-02", "date:1943-06", "date:1943-06-10", "-date:1943-06", "date:1944",
            ):  # fmt: skip
                filters = parse(query).filters
                assert remote.select(filters).tolist() == local.select(filters).tolist(), query
            assert remote.histogram() == local.histogram()
            assert remote.histogram(ids) == local.histogram(ids)
            ours, theirs = local.images(ids.tolist()), remote.images(ids.tolist())
            assert [one.info for one in theirs] == [one.info for one in ours]
            assert [one.mtime_ns for one in theirs] == [one.mtime_ns for one in ours]
            assert [one.decoded for one in theirs[-2:]] == [False, True]


WRITTEN = (
    {"path": "Été à Paris/IMG_0001.jpg", "title": "Café au lait", "taken_at": datetime(2019, 7, 4),
     "latitude": 48.86, "longitude": 2.35},
    {"path": "GermanyTrip2019/IMG_0010.jpg", "caption": "a castle; the castle of the king",
     "latitude": -17.8, "longitude": 179.9},
    {"path": "GermanyTrip2019/1000_GMI.jpg", "caption": "the king of the castle", "place": "Bern",
     "latitude": -17.8, "longitude": -179.9},
    {"path": "日記/北京大学.jpg", "keywords": ("red car", "club"), "place": "Füssen",
     "latitude": 89.95, "longitude": 10.0},
    {"path": "a/car_club-red.jpg", "caption": "novel " * 3000 + "the end", "keywords": ("ends",)},
)  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    """A library of images with much text."""
    folder = tmp_path_factory.mktemp("written") / "library"
    with Library.create(folder, model="toy", revision="1", dimension=DIMENSION) as made:
        root = made.ensure_root(TOP)
        made.catalog.write(root, images=[picture(**one) for one in WRITTEN])
        yield made


@pytest.fixture(scope="module")
def written_remote(
    tmp_path_factory: pytest.TempPathFactory, written: Library
) -> Iterator[MilvusLibrary]:
    """The same images in a collection."""
    address = str(tmp_path_factory.mktemp("written") / "written.db")
    fill_from_library(written, address, index="FLAT")
    with MilvusLibrary.open(address) as opened:
        yield opened


@pytest.mark.parametrize(
    ("circle", "count"),
    [
        ((48.8, 2.3, 50.0), 1),
        ((48.8, 2.3, 1.0), 0),
        ((-17.8, 180.0, 15.0), 2),  # across the date line
        ((-17.8, -179.95, 9.0), 1),
        ((89.9, -170.0, 30.0), 1),  # over the pole
        ((0.0, 0.0, 30_000.0), 4),  # everything with a position
    ],
)
def test_near_finds_the_same_images(
    circle: tuple[float, float, float], count: int, written: Library, written_remote: MilvusLibrary
) -> None:
    for negated in (False, True):
        filters = Filters((Condition("near", circle, negated),))
        expected = written.select(filters).tolist()
        assert len(expected) == (len(WRITTEN) - count if negated else count)
        assert written_remote.select(filters).tolist() == expected


def test_near_is_refused_with_too_many_images_in_the_box(
    written_remote: MilvusLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.milvus.filters.MAX_CANDIDATES", 1)
    with pytest.raises(QueryError, match="use a smaller radius"):
        written_remote.select(Filters((Condition("near", (0.0, 0.0, 20_000.0)),)))


def test_full_text_finds_the_same_images(written: Library, written_remote: MilvusLibrary) -> None:
    queries = (
        "cafe", "CAFÉ au", "ete", "paris july", "2019", "germany 2019", "GermanyTrip", "trip-2019",
        "img_0001", "IMG 0010", "gmi_1000", "1000_GMI", "castle", "king-of", "the king", "of the",
        "red-car", "red car", "car-club", "bern", "fussen", "北京", "京北", "大学", "pictures",
        "jpg", "novel", "end", "ends", "nowhere", "castle nowhere", "", "the", "-", '"',
        "king; castle", "/img",
    )  # fmt: skip
    found = 0
    for query in queries:
        for limit in (1, 100):
            for names in (False, True):
                ours = written.full_text_search(query, limit, names=names).tolist()
                theirs = written_remote.full_text_search(query, limit, names=names).tolist()
                assert theirs == ours, (query, names)
        found += bool(ours)
    assert found > len(queries) / 2


def test_parts_of_names_are_found_without_infix_like(
    written: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "parts.db")
    monkeypatch.setattr(Milvus, "has_infix_like", False)  # as Milvus 2.3 is
    fill_from_library(written, address, index="FLAT")
    with MilvusLibrary.open(address) as remote:
        assert remote.finds_names_by_ngrams
        for value in ("i", "_", "%", "IMG", "img_00", "0_g", "00_gmi", "_0010", "0001", "00001",
                      "京大", "北京大学.j", "car_club-red.jpg", "GMI_1000", ""):  # fmt: skip
            for negated in (False, True):
                filters = Filters((Condition("name", value, negated),))
                assert remote.select(filters).tolist() == written.select(filters).tolist(), value
        monkeypatch.setattr("sightline.indexer.milvus.filters.MAX_CANDIDATES", 1)
        with pytest.raises(QueryError, match="write more of the name"):
            remote.select(Filters((Condition("name", "img_0"),)))


def test_a_collection_of_an_earlier_version_works_without_full_text(
    written: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "earlier.db")
    fields = schema.fields
    with monkeypatch.context() as earlier:
        earlier.setattr(
            "sightline.indexer.milvus.fill.fields",
            lambda *given: [one for one in fields(*given) if one[0] not in ("words", "name_parts")],
        )
        fill_from_library(written, address, index="FLAT")
    again = fill_from_library(written, address, index="FLAT")
    assert (again.unchanged, again.updated) == (len(WRITTEN), 0)
    with MilvusLibrary.open(address) as remote:
        assert remote.full_text_search("castle", 10).tolist() == []
        assert remote.select().tolist() == written.select().tolist()
        assert "words in names and captions are not searched" in remote.status()["note"]


def test_an_unknown_id_has_no_vector_record_or_thumbnail(remote: MilvusLibrary) -> None:
    unknown = np.array([10**9], np.int64)
    assert np.isnan(remote.vectors(unknown)).all()
    assert remote.images([10**9]) == []
    assert remote.thumbnail(10**9) is None


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT", "IVF_SQ8"])
def test_approximate_indexes_find_the_exact_neighbours(
    index: str, local: Library, tmp_path: Path
) -> None:
    fill_from_library(local, str(tmp_path / "approximate.db"), index=index)
    ids = local.select()
    with MilvusLibrary.open(str(tmp_path / "approximate.db")) as approximate:
        queries = local.vectors(ids)
        found, exact = (held.nearest(queries, 10)[1] for held in (approximate, local))
        assert approximate.index_state.type == f"milvus {index.lower()}"
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    assert sum(shared) / (10 * len(ids)) >= 0.95


def test_an_index_that_loses_images_under_filters_is_refused(
    local: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymilvus import MilvusClient

    address = str(tmp_path / "losing.db")
    search = MilvusClient.search

    def losing(self: Any, *given: Any, **options: Any) -> Any:
        """Wrong distances when there is a filter, like IVF_PQ of Milvus 2.3.5."""
        if options.get("filter"):
            options["data"] = [[-x for x in vector] for vector in options["data"]]
            options["limit"] = 5
        return search(self, *given, **options)

    with monkeypatch.context() as defect:
        defect.setattr(MilvusClient, "search", losing)
        with pytest.raises(LibraryError, match="loses images when a filter is set"):
            fill_from_library(local, address, index="IVF_SQ8")
    filled = fill_from_library(local, address, index="HNSW")
    assert (filled.added, filled.unchanged) == (0, COUNT + 5)
    with MilvusLibrary.open(address) as remote:
        assert remote.index_state.type == "milvus hnsw"
        filters = Filters((Condition("type", "jpeg"),))
        assert remote.select(filters).tolist() == local.select(filters).tolist()


def test_more_neighbours_than_milvus_returns_at_once_are_found(
    remote: MilvusLibrary, local: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.milvus.library.MAX_LIMIT", 20)
    query = local.vectors(local.select()[:1])
    assert remote.nearest(query, 60)[1].tolist() == local.nearest(query, 60)[1].tolist()


def test_a_long_list_by_date_is_cut_at_the_right_date(
    remote: MilvusLibrary, local: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.milvus.library.MAX_LISTED", 7)
    filters = Filters((Condition("in", "Lake Como"), Condition("type", "jpeg")))
    for newest in (True, False):
        listed = remote.listed(filters, descending=newest)
        assert listed.tolist() == local.listed(filters, descending=newest)[:7].tolist()


# what changes -------------------------------------------------------------------------------------


def test_a_second_import_follows_the_library_and_an_open_reader_sees_it(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.milvus.library.VERSION_INTERVAL", 0.0)
    folder = make_drawings(tmp_path / "Pictures", 12)
    address = str(tmp_path / "pictures.db")
    with make_library(tmp_path / "library", tiny_encoder, folder) as library:
        fill_from_library(library, address, index="FLAT")
        with MilvusLibrary.open(address) as remote, SearchEngine(remote, tiny_encoder) as engine:
            assert engine.search("snow").total == 12
            gone = id_of(library, "0003.jpg")
            changed = id_of(library, "0004.jpg")
            (folder / "0003.jpg").unlink()
            (folder / "0004.jpg").write_bytes(as_bytes(draw(77, (48, 64)), quality=80))
            (folder / "new.jpg").write_bytes(as_bytes(draw(78)))
            update_library(library, tiny_encoder, workers=1)
            filled = fill_from_library(library, address, index="FLAT")
            assert (filled.added, filled.updated, filled.removed, filled.unchanged) == (1, 1, 1, 10)
            assert engine.search("snow").total == 12
            assert gone not in [hit.id for hit in engine.search("snow").hits]
            record = remote.image(changed)
            assert record is not None
            assert (record.info.width, record.info.height) == (48, 64)
            assert engine.search("is:portrait").hits[0].id == changed


def test_each_shard_is_imported_once_and_provides_thumbnails(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = make_drawings(tmp_path / "in", 9)
    (folder / "broken.jpg").write_bytes(b"no picture".ljust(5000))
    place = Place.at(str(tmp_path / "shards"))
    origin = Origin(
        tiny_encoder.model, tiny_encoder.revision, tiny_encoder.dimension, "one", "2026-01-01"
    )
    write_origin(place, origin)
    job = Job(place.url, origin, device="cpu")
    shards, _ = plan(place, find_items(str(folder)), size=4)
    address = str(tmp_path / "pictures.db")
    embed_shard(job, shards[0])
    assert fill_from_shards(place, address, index="FLAT").added == 4
    for shard in shards[1:]:
        embed_shard(job, shard)
    again = fill_from_shards(place, address, index="FLAT")
    assert (again.added, again.failed, again.images) == (5, 1, 9)
    (folder / "0002.jpg").write_bytes(as_bytes(draw(50)))
    _, new = plan(place, find_items(str(folder)), size=4)
    embed_shard(job, new[0])
    assert fill_from_shards(place, address, index="FLAT").images == 9
    with MilvusLibrary.open(address) as remote, SearchEngine(remote, tiny_encoder) as engine:
        result = engine.search("snow", k=20)
        assert len({hit.record.path for hit in result.hits}) == result.total == 9
        rows = {row.id: row for row in rows_of(place)}
        for hit in result.hits:
            assert remote.thumbnail(hit.id) == rows[hit.id].thumbnail
        assert [failure.path for failure in remote.failures()] == ["broken.jpg"]
    # A shard that was rewritten, with the image that had failed, is imported again.
    (folder / "broken.jpg").write_bytes((folder / "0001.jpg").read_bytes())
    (last,) = [shard for shard in shards if "broken.jpg" in [item.path for item in shard.items]]
    (row,) = [n for n, item in enumerate(last.items) if item.path == "broken.jpg"]
    embed_shard(job, last, frozenset({row}))
    taken = fill_from_shards(place, address, index="FLAT")
    assert (taken.added, taken.unchanged, taken.images) == (1, len(last.items) - 1, 10)
    assert fill_from_shards(place, address, index="FLAT").unchanged == 0
    with MilvusLibrary.open(address) as remote:
        assert remote.failures() == []
        assert remote.thumbnail(last.number * MAX_ROWS + row) is not None


def test_rows_of_a_bulk_import_are_not_written_again(
    tmp_path: Path, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_drawings(tmp_path / "in", 9)
    (folder / "0000.jpg").rename(folder / "broken.jpg")
    (folder / "broken.jpg").write_bytes(b"no picture")
    place = Place.at(str(tmp_path / "shards"))
    origin = Origin(
        tiny_encoder.model, tiny_encoder.revision, tiny_encoder.dimension, "bulk", "2026-01-01"
    )
    write_origin(place, origin)
    for shard in plan(place, find_items(str(folder)), size=4)[0]:
        embed_shard(Job(place.url, origin, device="cpu"), shard)
    address, ordinary = str(tmp_path / "bulk.db"), str(tmp_path / "ordinary.db")
    bulk.create_for_shards(place, address, index="FLAT")
    rows = list(bulk.rows(place))
    assert {field.name for field in bulk.schema(place).fields} == set(rows[0])
    with closing(Milvus(Address.parse(address))) as milvus:
        milvus.write("sightline", rows, new=True)  # as the server does with the files
    written: list[str] = []
    write = Milvus.write

    def noted(self: Milvus, collection: str, rows: Any, **options: Any) -> None:
        written.append(collection)
        write(self, collection, rows, **options)

    monkeypatch.setattr(Milvus, "write", noted)
    filled = fill_from_shards(place, address, index="FLAT")
    assert (filled.added, filled.unchanged, filled.failed, filled.images) == (0, 8, 1, 8)
    assert set(written) == {"sightline_facts"}
    fill_from_shards(place, ordinary, index="FLAT")
    assert "sightline" in written
    with MilvusLibrary.open(address) as imported, MilvusLibrary.open(ordinary) as plain:
        assert imported.select().tolist() == plain.select().tolist()
        assert imported.failures() == plain.failures()
        assert imported.roots() == plain.roots()
        ids = plain.select()
        assert imported.nearest(plain.vectors(ids), 5)[1].tolist() == (
            plain.nearest(plain.vectors(ids), 5)[1].tolist()
        )


# refusals and outages -----------------------------------------------------------------------------


def test_an_index_type_that_the_server_lacks_is_refused(
    local: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in ("IVF_PQ", "DISKANN"):
        with pytest.raises(UsageError, match=f"cannot build {index}"):
            fill_from_library(local, str(tmp_path / "none.db"), index=index)
    with monkeypatch.context() as server:  # of the PyPI package, which loses their vectors
        server.setattr("pymilvus.MilvusClient.get_server_version", lambda *_, **__: "v2.3.5-lite")
        for index in ("IVF_SQ8", "IVF_PQ"):
            with pytest.raises(UsageError, match=f"cannot build {index} without loss: use"):
                fill_from_library(local, str(tmp_path / "none.db"), index=index)
    with pytest.raises(UsageError, match="there is no index type"):
        fill_from_library(local, str(tmp_path / "none.db"), index="quickest")
    with pytest.raises(LibraryError, match="there is no collection"):
        MilvusLibrary.open(str(tmp_path / "none.db"))


def test_a_collection_is_filled_from_one_library_only(
    local: Library, address: str, tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    with (
        make_library(tmp_path / "other", tiny_encoder, pictures / "Home") as other,
        pytest.raises(LibraryError, match="filled from another library"),
    ):
        fill_from_library(other, address, index="FLAT")
    strange = Library.create(tmp_path / "strange", model="other", revision="1", dimension=8)
    with strange, pytest.raises(ModelMismatchError, match="was made with"):
        fill_from_library(strange, address, index="FLAT")


def test_another_model_is_refused(remote: MilvusLibrary) -> None:
    with pytest.raises(ModelMismatchError, match="search it with that model"):
        remote.check_model("other", "1", remote.dimension)


def test_addresses() -> None:
    server = Address.parse("milvus+http://host:19530/photos")
    assert (server.uri, server.collection) == ("http://host:19530", "photos")
    assert Address.parse("http://host:19530").collection == "sightline"
    lite = Address.parse("/data/photos.db/more")
    assert (lite.uri, lite.collection, lite.is_file) == ("/data/photos.db", "more", True)
    assert is_address("milvus+http://host:19530/photos")
    with pytest.raises(UsageError, match="SIGHTLINE_MILVUS_TOKEN"):
        Address.parse("http://root:secret@host:19530/photos")
    with pytest.raises(UsageError, match="not a collection name"):
        Address.parse("http://host:19530/my photos")


def test_an_unreachable_server_is_an_error_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    place = "milvus+http://127.0.0.1:1/photos"
    assert run(["search", "snow", "--library", place]) == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "Milvus at http://127.0.0.1:1 cannot be reached" in said


def test_the_server_returns_503_while_milvus_is_away_and_recovers(
    address: str,
    tiny_encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sightline.indexer.milvus.library.VERSION_INTERVAL", 0.0)

    def away(*_: Any, **__: Any) -> Any:
        from pymilvus import MilvusException

        raise MilvusException(code=2, message="Fail connecting to server, server unavailable")

    with MilvusLibrary.open(address) as library, SearchEngine(library, tiny_encoder) as engine:
        client = client_of(create_app(engine))
        headers = {"Host": "localhost"}
        assert client.get("/", headers=headers).status_code == 200
        with monkeypatch.context() as outage:
            for name in ("search", "query", "query_iterator", "describe_index"):
                outage.setattr(library.milvus.client, name, away)
            answer = client.get("/api/search?q=mountains", headers=headers)
            assert answer.status_code == 503
            assert "cannot be reached" in answer.json["error"]
            assert answer.headers["Retry-After"]
            plain = client.get("/?plain=1&q=mountains", headers=headers)
            assert plain.status_code == 503
            assert b"cannot be reached" in plain.data
            # The page itself stays up, and its scripts go on asking.
            assert client.get("/?q=mountains", headers=headers).status_code == 200
            status = client.get("/api/status", headers=headers)
            assert "cannot be reached" in status.json["note"]
            assert "away" not in status.json
            # Where the store is, is for whoever sits here and for the log.
            store = library.milvus.address.uri
            assert store in answer.json["error"]
            assert store in status.json["note"]
            caplog.clear()
            paths = ("/api/search?q=mountains", "/api/status", "/", "/?plain=1&q=a", "/metrics")
            for path in (*paths, "/api/images/1", "/thumbnails/1", "/api/timeline", "/failures"):
                elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
                said = client.get(path, headers=headers, environ_base=elsewhere)
                assert store.encode() not in said.data, path
                if said.status_code == 503:
                    assert b"cannot be reached" in said.data
            assert f"GET /api/search: Milvus at {store} cannot be reached" in caplog.text
            assert client.get("/healthz", headers=headers).status_code == 503
            assert client.get("/livez", headers=headers).status_code == 200
        assert client.get("/api/search?q=mountains", headers=headers).status_code == 200


def test_what_a_collection_does_not_support_is_an_error(
    engines: tuple[SearchEngine, SearchEngine], address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["rebuild", "--library", address]) == 2
    assert "requires a folder, not a Milvus collection" in capsys.readouterr().err
    client = client_of(create_app(engines[1]))
    answer = client.get("/api/duplicates", headers={"Host": "localhost"})
    assert answer.status_code == 400
    note = engines[1].library.status()["note"]
    assert note.endswith("originals are shown where their folders are on this machine")


# the commands -------------------------------------------------------------------------------------


def test_search_and_status_work_on_an_imported_collection(
    local: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = str(tmp_path / "made.db")
    arguments = ["import", str(local.directory), "--to", "milvus", "--uri", address, "--json"]
    assert run([*arguments, "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["added"], said["index"]) == (COUNT + 5, "HNSW")
    assert run(["search", "in:Odd", "--library", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 5
    assert run(["status", "--library", address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == COUNT + 5
    assert run(["failures", "--library", address]) == 0
    assert "broken.jpg" in capsys.readouterr().out


def test_a_refusal_of_milvus_is_a_library_error(remote: MilvusLibrary) -> None:
    with pytest.raises(LibraryError, match="Milvus refuses") as error:
        remote.milvus.count("no_such_collection")
    assert not isinstance(error.value, LibraryAwayError)
