"""Saved searches, favourites and collections: catalog, query language, API and command line."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_catalog import file, new_catalog, picture
from helpers_client import client_of
from helpers_library import as_bytes, draw, id_of, make_library, make_pictures

from sightline.indexer.catalog import FAVOURITES, Catalog
from sightline.indexer.catalog.kept import MAX_NAME
from sightline.indexer.catalog.salvage import salvage
from sightline.indexer.errors import NotFoundError, QueryError, UsageError
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.milvus.filters import expression
from sightline.indexer.types import Condition, Filters
from sightline.server.cli import run
from sightline.server.search import SearchEngine, parse
from sightline.server.web.app import create_app
from sightline.server.web.config import ServerConfig

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder


def selected(catalog: Catalog, *conditions: Condition) -> list[int]:
    return catalog.select(Filters(conditions)).tolist()


# the catalog -------------------------------------------------------------------------------------


def test_a_saved_search_replaces_one_of_its_name_and_is_found_in_any_case(tmp_path: Path) -> None:
    catalog, _ = new_catalog(tmp_path)
    with catalog:
        catalog.kept.save_search("  Été   2023 ", "beach after:2023")
        catalog.kept.save_search("Dogs", "dog")
        catalog.kept.save_search("ÉTÉ 2023", "sea")
        assert [(one.name, one.query) for one in catalog.kept.searches()] == [
            ("Dogs", "dog"),
            ("ÉTÉ 2023", "sea"),
        ]
        assert catalog.kept.search("été  2023").query == "sea"
        catalog.kept.delete_search("dogs")
        with pytest.raises(NotFoundError, match="@ÉTÉ 2023"):
            catalog.kept.search("Dogs")


@pytest.mark.parametrize("name", ["", "  ", "x" * (MAX_NAME + 1), 'a "b"', "a\x1b[2J", "a\ud800"])
def test_names_are_bounded_and_safe_to_show(tmp_path: Path, name: str) -> None:
    catalog, _ = new_catalog(tmp_path)
    with catalog:
        with pytest.raises(UsageError):
            catalog.kept.save_search(name, "dog")
        with pytest.raises(UsageError):
            catalog.kept.create_collection(name)
        assert len(catalog.kept.collections()) == 1


def test_a_collection_keeps_its_order(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        ids = catalog.write(root, images=[picture(f"{n}.jpg") for n in range(6)]).images
        summer = catalog.kept.create_collection("Summer").id
        assert catalog.kept.add(summer, [ids[3], ids[1], 999]).count == 2
        assert catalog.kept.add(summer, [ids[0], ids[3], ids[5]]).count == 4
        assert catalog.kept.images(summer).tolist() == [ids[3], ids[1], ids[0], ids[5]]
        catalog.kept.move(summer, [ids[5], ids[0]], before=ids[1])
        assert catalog.kept.images(summer).tolist() == [ids[3], ids[5], ids[0], ids[1]]
        catalog.kept.move(summer, [ids[3]], before=None)
        assert catalog.kept.images(summer).tolist() == [ids[5], ids[0], ids[1], ids[3]]
        with pytest.raises(NotFoundError, match="not in this collection"):
            catalog.kept.move(summer, [ids[5]], before=ids[4])
        assert catalog.kept.remove(summer, [ids[0], ids[4]]).cover == ids[5]
        assert catalog.kept.rename_collection(summer, "summer 2023").count == 3
        assert [one.name for one in catalog.kept.collections_of(ids[3])] == ["summer 2023"]
        catalog.kept.delete_collection(summer)
        assert [one.id for one in catalog.kept.collections()] == [FAVOURITES]
        for change in (
            lambda: catalog.kept.delete_collection(FAVOURITES),
            lambda: catalog.kept.rename_collection(FAVOURITES, "x"),
            lambda: catalog.kept.create_collection("FAVOURITES"),
        ):
            with pytest.raises(UsageError):
                change()
        with pytest.raises(NotFoundError):
            catalog.kept.add(2**70, [1])


def test_collections_and_favourites_filter(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        pictures = [picture("a.jpg"), picture("b.jpg", width=300, height=400), picture("c.jpg")]
        a, b, c = catalog.write(root, images=pictures).images
        for name, members in (("Summer", [a, b]), ("Straße", [b, c])):
            catalog.kept.add(catalog.kept.create_collection(name).id, members)
        catalog.kept.add(FAVOURITES, [b, c])
        assert selected(catalog, Condition("collection", "summer")) == [a, b]
        assert selected(catalog, Condition("collection", "summer", True)) == [c]
        both = Condition("collection", "Summer"), Condition("collection", "STRASSE")
        assert selected(catalog, *both) == [b]
        assert selected(catalog, Condition("collection", "unknown")) == []
        favourite = Condition("is", "favourite")
        assert selected(catalog, favourite) == [b, c]
        assert selected(catalog, favourite, Condition("is", "portrait")) == [b]
        assert [one.text for one in catalog.suggest("collection", "su")] == ["Summer"]


def test_members_survive_a_changed_a_removed_and_a_copied_file(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        one, two = picture("1.jpg", content="one"), picture("2.jpg", content="two")
        first, second = catalog.write(root, images=[one, two]).images
        catalog.kept.add(FAVOURITES, [first, second])
        catalog.write(root, moved=[(first, file("elsewhere/1.jpg"))])
        changed = picture("elsewhere/1.jpg", content="edited", image=first)
        catalog.write(root, images=[changed])
        assert catalog.kept.images(FAVOURITES).tolist() == [first, second]
        catalog.remove([second])
        assert catalog.kept.collection(FAVOURITES).count == 1
        (again,) = catalog.write(root, images=[replace(two, image=None)]).images
        assert again != second
        assert catalog.kept.images(FAVOURITES).tolist() == [first, again]
        copies = catalog.write(root, copied=[(first, file("copy.jpg"))]).copied
        assert catalog.kept.images(FAVOURITES).tolist() == [first, copies[0][0], again]
        assert catalog.kept.collection(FAVOURITES).count == 2, "identical files are one photo"
        catalog.kept.remove(FAVOURITES, [copies[0][0]])
        assert catalog.kept.images(FAVOURITES).tolist() == [again]


def test_an_imported_image_stays_when_its_file_is_read(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        imported = picture("1.jpg")
        unknown = replace(imported, photo=replace(imported.photo, content_hash=""))
        other = picture("2.jpg")
        other = replace(other, photo=replace(other.photo, content_hash=""))
        first, second = catalog.write(root, images=[unknown, other]).images
        catalog.kept.add(FAVOURITES, [first])
        assert catalog.kept.images(FAVOURITES).tolist() == [first], "and not all unknown contents"
        catalog.write(root, images=[replace(imported, image=first)])
        assert catalog.kept.images(FAVOURITES).tolist() == [first]
        assert [one.id for one in catalog.kept.collections_of(second)] == []


def test_a_salvaged_catalog_has_everything_kept(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        ids = catalog.write(root, images=[picture("a.jpg"), picture("b.jpg")]).images
        catalog.kept.add(catalog.kept.create_collection("Summer").id, ids)
        catalog.kept.add(FAVOURITES, ids[:1])
        catalog.kept.save_search("Dogs", "dog")
        before = catalog.kept.collections(), catalog.kept.searches()
    salvage(catalog.path, tmp_path / "saved.db")
    with Catalog.open(tmp_path / "saved.db") as saved:
        assert (saved.kept.collections(), saved.kept.searches()) == before


# a library, the API and the command line ---------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(8):
        (folder / f"{seed}.jpg").write_bytes(as_bytes(draw(seed, (160, 120)), quality=90))
    return folder


@pytest.fixture
def library(tmp_path: Path, tiny_encoder: Encoder, pictures: Path) -> Iterator[Library]:
    """Eight images, opened as a server opens them."""
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    with Library.open(tmp_path / "library", read_only=True) as opened:
        yield opened


@pytest.fixture
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    with SearchEngine(library, tiny_encoder) as made:
        yield made


@pytest.fixture
def client(engine: SearchEngine) -> FlaskClient:
    return client_of(create_app(engine))


def test_favourites_survive_a_move_and_indexing_again(
    tmp_path: Path, tiny_encoder: Encoder, library: Library, pictures: Path
) -> None:
    image = id_of(library, "3.jpg")
    with library.keeping() as kept:
        kept.add(FAVOURITES, [image])
    library.close()
    (pictures / "below").mkdir()
    (pictures / "3.jpg").rename(pictures / "below" / "renamed.jpg")
    with Library.open(tmp_path / "library") as opened:
        update_library(opened, tiny_encoder, [pictures], workers=1)
        (found,) = opened.images(opened.kept.images(FAVOURITES).tolist())
        assert found.path == "below/renamed.jpg"
        opened.forget_root(pictures)
        assert opened.kept.collection(FAVOURITES).count == 0
        update_library(opened, tiny_encoder, [pictures], workers=1)
        (found,) = opened.images(opened.kept.images(FAVOURITES).tolist())
        assert found.path == "below/renamed.jpg"


def test_searches_are_saved_listed_and_deleted(client: FlaskClient) -> None:
    saved = client.post("/api/searches", json={"name": "Red ones", "query": "red -blue"})
    assert saved.get_json()["name"] == "Red ones"
    (listed,) = client.get("/api/searches").get_json()["searches"]
    assert (listed["name"], listed["query"]) == ("Red ones", "red -blue")
    assert client.delete("/api/searches?name=red+ones").get_json() == {"deleted": "red ones"}
    assert client.get("/api/searches").get_json() == {"searches": []}
    assert client.delete("/api/searches?name=red+ones").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "query": ""},
        {"name": "x", "query": "after:yesterday"},
        {"name": "x", "query": "upload:abc"},
        {"name": "x" * 101, "query": "dog"},
        {"name": 'a"b', "query": "dog"},
        {"name": 5, "query": "dog"},
    ],
)
def test_what_cannot_be_saved_is_refused(client: FlaskClient, body: dict[str, object]) -> None:
    answer = client.post("/api/searches", json=body)
    assert answer.status_code == 400
    assert "\n" not in answer.get_json()["error"]
    assert client.get("/api/searches").get_json() == {"searches": []}


def test_a_collection_is_searched_in_its_order_and_at_once(
    client: FlaskClient, library: Library
) -> None:
    ids = library.select().tolist()
    made = client.post("/api/collections", json={"name": "Lake Como"}).get_json()
    assert made == {
        "id": made["id"], "name": "Lake Como", "count": 0, "cover": None, "favourites": False
    }  # fmt: skip
    address = f"/api/collections/{made['id']}"

    def shown(q: str) -> list[int]:
        hits = client.get("/api/search", query_string={"q": q}).get_json()["hits"]
        return [hit["id"] for hit in hits]

    assert shown('collection:"lake como"') == []
    assert client.post(f"{address}/add", json={"ids": [ids[4], ids[1], ids[6]]}).get_json() == {
        **made, "count": 3, "cover": ids[4]
    }  # fmt: skip
    assert shown('collection:"lake como"') == [ids[4], ids[1], ids[6]]
    moved = client.post(f"{address}/move", json={"ids": [ids[6]], "before": ids[4]})
    assert moved.status_code == 200
    assert shown('collection:"lake como"') == [ids[6], ids[4], ids[1]]
    assert sorted(shown('red collection:"lake como"')) == sorted([ids[6], ids[4], ids[1]])
    assert client.post(f"{address}/remove", json={"ids": [ids[4]]}).get_json()["count"] == 2
    assert sorted(shown('red collection:"lake como"')) == sorted([ids[6], ids[1]])
    assert client.get(f"{address}/images").get_json() == {"ids": [ids[6], ids[1]]}
    assert client.get(f"/api/images/{ids[1]}").get_json()["collections"] == [
        {"id": made["id"], "name": "Lake Como"}
    ]
    assert client.patch(address, json={"name": "Como"}).get_json()["name"] == "Como"
    assert client.delete(address).get_json() == {"deleted": made["id"]}
    assert client.get(f"{address}/images").status_code == 404
    for bad in ({"ids": []}, {"ids": [0]}, {"ids": [1], "before": "x"}):
        assert client.post("/api/collections/1/move", json=bad).status_code == 400


def test_order_lists_all_results_and_the_first_of_each_month(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    """Near-duplicates follow the result they are folded under, and are no result of their own."""
    folder = make_pictures(tmp_path / "pictures")
    with (
        make_library(tmp_path / "library", tiny_encoder, folder) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        for q in ("", "sort:oldest", "in:Home", "red"):
            order = engine.order(q)
            hits = engine.search(q, k=1000).hits
            grouped = [one for hit in hits for one in (hit.id, *hit.duplicates)]
            assert order.ids.tolist() == grouped
            assert order.results == len(hits) <= len(grouped) - 2 * (q != "in:Home")
            for offset, hit in enumerate(hits):
                assert {order.offset_of(one) for one in (hit.id, *hit.duplicates)} == {offset}
            assert order.offset_of(999_999) is None
            strong = [one for hit in hits if hit.match for one in (hit.id, *hit.duplicates)]
            assert order.strong == (len(strong) if q == "red" else None)
            for month, offset in order.months:
                taken = hits[offset].record.info.taken_at
                assert (taken and f"{taken:%Y-%m}") == month
                before = hits[offset - 1].record.info.taken_at if offset else None
                assert not offset or f"{before:%Y-%m}" != month
            assert bool(order.months) == (q != "red")


def test_several_images_are_described_at_once(client: FlaskClient, library: Library) -> None:
    ids = library.select().tolist()
    images = client.post("/api/images", json={"ids": [ids[2], 999, ids[0]]}).get_json()["images"]
    assert [image["id"] for image in images] == [ids[2], ids[0]]
    assert images[0]["absolute"] == str(library.images([ids[2]])[0].absolute)
    assert client.post("/api/images", json={"ids": []}).status_code == 400


WRITES = (
    ("POST", "/api/searches", {"name": "x", "query": "dog"}),
    ("DELETE", "/api/searches?name=x", None),
    ("POST", "/api/collections", {"name": "x"}),
    ("PATCH", "/api/collections/2", {"name": "y"}),
    ("DELETE", "/api/collections/2", None),
    ("POST", "/api/collections/1/add", {"ids": [1]}),
    ("POST", "/api/collections/1/remove", {"ids": [1]}),
    ("POST", "/api/collections/1/move", {"ids": [1], "before": None}),
)


@pytest.mark.parametrize(("method", "address", "body"), WRITES)
def test_writes_need_the_token_and_the_servers_own_page(
    engine: SearchEngine, method: str, address: str, body: object
) -> None:
    token = "correct horse battery staple 42"
    guarded = client_of(create_app(engine, config=ServerConfig(host="0.0.0.0", token=token)))
    local = client_of(create_app(engine))
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ):
        assert local.open(address, method=method, headers=headers, json=body).status_code == status
    assert guarded.open(address, method=method, json=body).status_code == 401
    if body is not None:  # a form of another site sends no JSON
        sent = local.open(address, method=method, data=json.dumps(body), content_type="text/plain")
        assert sent.status_code == 415
    assert isinstance(engine.library, Library)
    assert [one.count for one in engine.library.kept.collections()] == [0]
    assert engine.library.kept.searches() == []


def test_a_read_only_library_refuses_in_one_line(
    client: FlaskClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # also for root
    answer = client.post("/api/collections/1/add", json={"ids": [1]})
    assert answer.status_code == 400
    assert "read-only" in answer.get_json()["error"]


class _NoCollection:
    """A Milvus collection whose filters need nothing from the server."""


def test_milvus_refuses_in_one_line() -> None:
    for q in ("collection:Summer", "is:favourite"):
        with pytest.raises(QueryError, match="Milvus"):
            expression(parse(q).filters, _NoCollection())  # type: ignore[arg-type]


def test_the_command_line_searches_and_exports(
    library: Library, tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = [id_of(library, name) for name in ("5.jpg", "2.jpg")]
    with library.keeping() as kept:
        kept.save_search("Two of them", "name:2.jpg")
        kept.add(FAVOURITES, wanted)
    place = ["--library", str(tmp_path / "library")]

    assert run(["search", "@two of them", "--paths-only", *place, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{pictures / '2.jpg'}\n"
    assert run(["search", "@nothing", *place]) == 1
    assert "@Two of them" in capsys.readouterr().err
    assert run(["collections", *place]) == 0
    assert capsys.readouterr().out.split() == ["2", "Favourites"]
    assert run(["collections", "favourites", *place]) == 0
    assert capsys.readouterr().out == f"{pictures / '5.jpg'}\n{pictures / '2.jpg'}\n"

    target = tmp_path / "two.zip"
    assert run(["collections", "Favourites", "--zip", str(target), *place]) == 0
    with zipfile.ZipFile(io.BytesIO(target.read_bytes())) as archive:
        assert archive.namelist() == ["pictures/5.jpg", "pictures/2.jpg"]
        assert archive.read("pictures/2.jpg") == (pictures / "2.jpg").read_bytes()
    links = tmp_path / "links"
    assert run(["collections", "Favourites", "--links", str(links), *place]) == 0
    assert {path.name: path.readlink() for path in links.iterdir()} == {
        name: pictures / name for name in ("5.jpg", "2.jpg")
    }
    capsys.readouterr()
    for option in (["--zip", str(target)], ["--links", str(links)]):
        assert run(["collections", "Favourites", *option, *place]) == 2
    (pictures / "2.jpg").unlink()
    assert run(["collections", "Favourites", *place]) == 0
    assert "1 left out" in capsys.readouterr().err
    assert run(["collections", "None", *place]) == 1


def test_a_query_filters_by_favourites_in_either_spelling() -> None:
    for text in ("is:favourite", "IS:Favorite", "is:favorites"):
        assert parse(text).to_text() == "is:favourite"
    assert parse('collection:"Lake Como"').to_text() == 'collection:"Lake Como"'
