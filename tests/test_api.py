"""The HTTP API, image files and pages, on a real application and library."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import threading
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, id_of, make_library, make_pictures
from PIL import Image

from sightline.indexer.errors import SightlineError
from sightline.server.search import SearchEngine
from sightline.server.web import health
from sightline.server.web.app import create_app
from sightline.server.web.config import ServerConfig
from sightline.server.web.waitress_server import Server

if TYPE_CHECKING:
    from flask import Flask
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

CASES = int(os.environ.get("SIGHTLINE_FUZZ_CASES", "5"))
"""Generated requests per operation; `make fuzz` sets more."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """A library of generated images."""
    folder = tmp_path_factory.mktemp("api")
    images = make_pictures(folder / "pictures")
    with make_library(folder / "library", tiny_encoder, images) as made:
        yield made


@pytest.fixture(scope="module")
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    """A search engine on ``library``."""
    with SearchEngine(library, tiny_encoder) as made:
        yield made


@pytest.fixture(scope="module")
def app(engine: SearchEngine) -> Flask:
    """The application of `sightline serve` on loopback."""
    return create_app(engine)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A local client."""
    return client_of(app)


def form_file(image: bytes, name: str = "x.png") -> tuple[io.BytesIO, str]:
    """A file of a multipart form."""
    return io.BytesIO(image), name


# searching ---------------------------------------------------------------------------------------


def test_search_returns_the_hits_of_the_engine(client: FlaskClient, engine: SearchEngine) -> None:
    answer = client.get("/api/search", query_string={"q": "red -blue in:Trips", "k": 7}).get_json()
    expected = engine.search("red -blue in:Trips", k=7).as_dict()
    assert {**answer, "took_ms": 0} == {**expected, "took_ms": 0}
    following = client.get("/api/search?q=red+-blue+in:Trips&k=7&offset=7").get_json()
    assert [hit["id"] for hit in following["hits"]] == [
        hit.id for hit in engine.search("red -blue in:Trips", k=14).hits[7:]
    ]


def test_empty_query_returns_the_newest_images(client: FlaskClient) -> None:
    answer = client.get("/api/search").get_json()
    dates = [hit["taken_at"] for hit in answer["hits"] if hit["taken_at"]]
    assert dates == sorted(dates, reverse=True)
    assert (answer["good"], answer["nothing_matches"], len(answer["hits"])) == (None, False, 50)


def test_more_matches_than_are_counted_are_reported_as_an_estimate(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"q": "-like:3"}
    counted = client.get("/api/search", query_string=query).get_json()
    monkeypatch.setattr("sightline.server.search.engine.EXACT_COUNT", counted["good"] - 1)
    found = client.get("/api/search", query_string={"q": "-2:like:3"}).get_json()
    assert (counted["good_is_estimated"], found["good_is_estimated"]) == (False, True)
    page = client.get("/", query_string={"q": "-2:like:3", "plain": 1}).get_data(as_text=True)
    assert f"about {found['good']:,} strong matches of {found['total']:,}" in page
    assert found["good"] == pytest.approx(counted["good"], rel=0.3)


def test_fold_0_returns_near_duplicates_as_separate_hits(
    client: FlaskClient, library: Library
) -> None:
    folded = client.get("/api/search?q=red&k=1000").get_json()["hits"]
    single = client.get("/api/search?q=red&k=1000&fold=0").get_json()["hits"]
    assert len(single) == library.count == len(folded) + sum(len(h["duplicates"]) for h in folded)


def test_images_in_a_form_are_query_terms(client: FlaskClient, library: Library) -> None:
    sent = {"q": "", "k": "1", "image": [form_file(as_bytes(draw(7), "PNG"))]}
    hits = client.post("/api/search", data=sent).get_json()["hits"]
    assert hits[0]["id"] == id_of(library, "IMG_0007.jpg")
    two = [form_file(as_bytes(draw(7), "PNG")), form_file(as_bytes(draw(8), "PNG"))]
    answer = client.post("/api/search", data={"q": "match:all", "image": two}).get_json()
    best = {hit["name"] for hit in answer["hits"]}
    assert {"IMG_0007.jpg", "IMG_0008.jpg"} & best


def test_an_upload_can_be_searched_with_by_token(client: FlaskClient, library: Library) -> None:
    sent = {"image": form_file(as_bytes(draw(9), "PNG"))}
    answer = client.post("/api/uploads", data=sent).get_json()
    assert (answer["width"], answer["height"]) == (320, 240)
    found = client.get("/api/search", query_string={"q": f"upload:{answer['token']}", "k": 1})
    assert found.get_json()["hits"][0]["id"] == id_of(library, "IMG_0009.jpg")
    assert "preview" not in answer


def test_upload_returns_a_preview_of_formats_that_browsers_lack(client: FlaskClient) -> None:
    sent = {"image": form_file(as_bytes(draw(9), "TIFF"))}
    kind, _, data = client.post("/api/uploads?preview=1", data=sent).json["preview"].partition(",")  # type: ignore[index]
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as preview:
        assert preview.size == (320, 240)


def test_parse_returns_terms_and_filters(client: FlaskClient) -> None:
    line = '2:"a dog" -like:5@0,0,.5,1 in:"My trip" match:all sort:newest'
    assert client.get("/api/parse", query_string={"q": line}).get_json() == {
        "terms": [
            {"kind": "text", "text": "a dog", "box": None, "weight": 2.0},
            {"kind": "like", "id": 5, "box": [0, 0, 0.5, 1], "weight": -1.0},
        ],
        "filters": [{"name": "in", "value": "My trip", "negated": False}],
        "combine": "all",
        "sort": "newest",
        "text": '2:"a dog" -like:5@0,0,0.5,1 in:"My trip" match:all sort:newest',
    }


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("in:Lak", [('in:"Lake Como"', "folder", 40)]),
        ("-in:hom", [("-in:Home", "folder", 20)]),
        ("Hom", [("in:Home", "folder", 20)]),
        ("after:202", [("after:2021", "year", 15), ("after:2020", "year", 15)]),
        ("camera:nine", [('camera:"Sightline Nine"', "camera", 61)]),
        ("is:po", [("is:portrait", "is", None)]),
        ("sort:", [(f"sort:{one}", "sort", None) for one in ("newest", "oldest", "relevance")]),
        ("ca", [("camera:", "filter", None)]),
        ("nothing:x", []),
        ("", []),
        ("-", []),
    ],
)
def test_suggest_completes_filters_and_values(
    client: FlaskClient, prefix: str, expected: list
) -> None:
    answer = client.get("/api/suggest", query_string={"prefix": prefix}).get_json()["suggestions"]
    found = [(one["text"], one["kind"], one["count"]) for one in answer]
    assert set(expected) <= set(found)
    assert bool(found) == bool(expected)


def test_timeline_counts_every_image_by_month(client: FlaskClient, library: Library) -> None:
    answer = client.get("/api/timeline").get_json()
    assert sum(month["count"] for month in answer["months"]) + answer["undated"] == library.count
    assert answer["months"] == sorted(answer["months"], key=lambda month: month["month"])


def test_random_is_reproducible_with_a_seed(client: FlaskClient) -> None:
    one = client.get("/api/random?k=5&seed=3").get_json()
    assert one["hits"] == client.get("/api/random?k=5&seed=3").get_json()["hits"]
    assert len(one["hits"]) == 5


def test_image_returns_metadata_and_similar_images(client: FlaskClient, library: Library) -> None:
    image = id_of(library, "IMG_0013.jpg")
    answer = client.get(f"/api/images/{image}").get_json()
    assert answer["path"] == "Trips/Lake Como/IMG_0013.jpg"
    assert answer["folder"] == "pictures/Trips/Lake Como"
    assert (answer["width"], answer["height"], answer["format"]) == (320, 240, "jpeg")
    assert answer["taken_at"] == "2020-02-10T12:00:00"
    assert answer["available"] is True
    assert "words" not in answer
    words = client.get(f"/api/images/{image}?words=1").get_json()["words"]
    assert words[0]["text"]
    similar = client.get(f"/api/images/{image}/similar?k=3").get_json()["hits"]
    assert len(similar) == 3
    assert image not in [hit["id"] for hit in similar]


def test_status_and_failures_report_the_library(
    client: FlaskClient, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = client.get("/api/status").get_json()
    assert (answer["images"], answer["failures"]) == (library.count, 1)
    (failure,) = client.get("/api/failures").get_json()["failures"]
    assert failure["path"].endswith("Odd/broken.jpg")
    assert failure["reason"]
    monkeypatch.setattr(health, "SECONDS", 60.0)  # on a busy machine
    assert client.get("/healthz").get_json() == {"status": "ok"}


# image files -----------------------------------------------------------------------------------


def test_thumbnails_are_cached_by_the_browser(client: FlaskClient, library: Library) -> None:
    image = id_of(library, "IMG_0001.jpg")
    version = client.get(f"/api/images/{image}").get_json()["v"]
    answer = client.get(f"/thumbnails/{image}?v={version}")
    assert answer.mimetype == "image/webp"
    assert answer.data == library.thumbnail(image)
    assert "immutable" in answer.headers["Cache-Control"]
    assert "private" in answer.headers["Cache-Control"]
    again = client.get(f"/thumbnails/{image}", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert "immutable" not in client.get(f"/thumbnails/{image}").headers["Cache-Control"]


def test_thumbnails_can_be_resized(client: FlaskClient, library: Library) -> None:
    image = id_of(library, "IMG_0001.jpg")
    small = client.get(f"/thumbnails/{image}?w=128")
    with Image.open(io.BytesIO(small.data)) as picture:
        assert picture.size == (128, 96)
    assert small.headers["ETag"] != client.get(f"/thumbnails/{image}").headers["ETag"]
    assert client.get(f"/thumbnails/{image}?w=9999").status_code == 400


def test_originals_support_ranges_and_conditional_requests(
    client: FlaskClient, library: Library
) -> None:
    image = id_of(library, "IMG_0001.jpg")
    data = library.image(image).absolute.read_bytes()  # type: ignore[union-attr]
    answer = client.get(f"/images/{image}")
    assert (answer.data, answer.mimetype) == (data, "image/jpeg")
    assert "attachment" not in answer.headers.get("Content-Disposition", "")
    part = client.get(f"/images/{image}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, data[10:20])
    beyond = client.get(f"/images/{image}", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    again = client.get(f"/images/{image}", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    saved = client.get(f"/images/{image}?download=1")
    assert saved.headers["Content-Disposition"].startswith("attachment; filename=IMG_0001.jpg")


def test_files_with_special_characters_can_be_downloaded(
    client: FlaskClient, library: Library
) -> None:
    image = id_of(library, "sign #1 % of 'x'.png")
    answer = client.get(f"/images/{image}?download=1")
    assert answer.status_code == 200
    assert answer.mimetype == "image/png"


def test_formats_that_browsers_lack_are_served_as_a_preview(
    client: FlaskClient, library: Library
) -> None:
    image = id_of(library, "scan.tiff")
    answer = client.get(f"/images/{image}")
    assert answer.mimetype in ("image/webp", "image/jpeg")
    with Image.open(io.BytesIO(answer.data)) as picture:
        assert picture.size == (320, 240)
    original = client.get(f"/images/{image}?download=1")
    assert original.mimetype == "image/tiff"
    smaller = client.get(f"/images/{id_of(library, 'IMG_0001.jpg')}?size=100")
    with Image.open(io.BytesIO(smaller.data)) as picture:
        assert max(picture.size) == 100
    tag = {"If-None-Match": smaller.headers["ETag"]}
    again = client.get(f"/images/{id_of(library, 'IMG_0001.jpg')}?size=100", headers=tag)
    assert again.status_code == 304


def test_a_deleted_file_is_404_while_its_thumbnail_and_record_remain(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    images = make_pictures(tmp_path / "pictures")
    with (
        make_library(tmp_path / "library", tiny_encoder, images) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        image = id_of(library, "IMG_0002.jpg")
        library.image(image).absolute.unlink()  # type: ignore[union-attr]
        for address in (
            f"/images/{image}",
            f"/images/{image}?download=1",
            f"/images/{image}?size=99",
        ):
            answer = client.get(address)
            assert (answer.status_code, list(answer.get_json())) == (404, ["error"])
        assert client.get(f"/thumbnails/{image}").status_code == 200
        assert client.get(f"/api/images/{image}").get_json()["available"] is False
        assert client.get("/api/search", query_string={"q": f"like:{image}@0,0,.5,1"}).json["hits"]
        assert client.post("/api/zip", json={"ids": [image]}).status_code == 404


def test_zip_contains_the_originals(client: FlaskClient, library: Library) -> None:
    names = ["IMG_0001.jpg", "scan.tiff", "sign #1 % of 'x'.png"]
    ids = [id_of(library, name) for name in names]
    answer = client.post("/api/zip", json={"ids": [*ids, ids[0], 999_999]})
    assert answer.mimetype == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "pictures/Trips/Lake Como/IMG_0001.jpg",
            "pictures/Odd/scan.tiff",
            "pictures/Odd/sign #1 % of 'x'.png",
        ]
        for name, image in zip(archive.namelist(), ids, strict=True):
            record = library.image(image)
            assert record is not None
            assert archive.read(name) == record.absolute.read_bytes()


def test_concurrent_zip_downloads_are_limited(engine: SearchEngine) -> None:
    client = create_app(engine, config=ServerConfig(max_zips=1)).test_client()
    image = engine.search("").hits[0].id
    open_one = client.post("/api/zip", json={"ids": [image]}, buffered=False)
    refused = client.post("/api/zip", json={"ids": [image]})
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    open_one.close()
    assert client.post("/api/zip", json={"ids": [image]}).status_code == 200


# invalid requests ----------------------------------------------------------------------------

HUGE = "9" * 400
FORM = "multipart/form-data"
TRUNCATED = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
TRUNCATED += b"z" * 2**20


@pytest.mark.parametrize(
    ("address", "status"),
    [("/api/search?q=after:x", 400), ("/api/search?k=0", 400), ("/api/images/999999", 404)],
)
def test_errors_are_inside_a_200_response_only_for_the_page(
    client: FlaskClient, address: str, status: int
) -> None:
    refused = client.get(address)
    assert refused.status_code == status
    answered = client.get(address, headers={"Sightline-Errors": "inside"})
    assert answered.status_code == 200
    assert answered.json == {"error": refused.json["error"], "status": status}  # type: ignore[index]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/api/search?k=0", 400),
        ("/api/search?k=-1", 400),
        ("/api/search?k=1001", 400),
        ("/api/search?k=NaN", 400),
        ("/api/search?k=1e3", 400),
        (f"/api/search?k={HUGE}", 400),
        (f"/api/search?offset={HUGE}", 400),
        ("/api/search?offset=-1", 400),
        ("/api/search?offset=10000000", 200),
        ("/api/search?q=" + "x" * 2001, 400),
        ("/api/search?q=nan:dog", 200),
        ("/api/search?q=like:5@0,0,2,2", 400),
        ("/api/search?q=like:5@nan,0,1,1", 400),
        (f"/api/search?q=like:{HUGE}", 400),
        ("/api/search?q=like:9223372036854775807", 404),
        ("/api/search?q=%ff%fe%00", 200),
        ("/api/search?q=%ED%A0%80", 200),
        ("/api/search?q=after:99999", 400),
        ("/api/search?q=in:%00", 200),
        ("/api/search?q=" + "%22a%22+" * 40, 400),
        ("/api/parse?q=after:x", 400),
        ("/api/suggest?prefix=" + "x" * 201, 400),
        ("/api/suggest?prefix=in:%25_%00", 200),
        ("/api/timeline?q=like:abc", 400),
        (f"/api/images/{HUGE}", 404),
        ("/api/images/0", 404),
        ("/api/images/-1", 404),
        ("/api/images/abc", 404),
        ("/api/images/1/similar?k=0", 400),
        (f"/thumbnails/{HUGE}", 404),
        ("/thumbnails/..%2f..%2fcatalog.db", 404),
        (f"/images/{HUGE}", 404),
        ("/images/1?size=1", 400),
        ("/images/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/static/../catalog.db", 404),
        ("/static/%2e%2e/index.html", 404),
        ("/static//etc/passwd", 404),
        ("/api/nothing", 404),
        ("/", 200),
        ("/?q=after:x", 200),
        ("/?plain=1&q=after:x", 400),
        ("/?plain=1&offset=x", 400),
        ("/?plain=1&q=" + "x" * 3000, 400),
    ],
)
def test_invalid_urls_get_a_status_and_a_reason(
    client: FlaskClient, address: str, status: int
) -> None:
    answer = client.get(address)
    assert answer.status_code == status
    if status >= 400 and address.startswith("/api/"):
        assert list(answer.get_json()) == ["error"]
        assert "\n" not in answer.get_json()["error"]


@pytest.mark.parametrize(
    ("address", "sent", "status"),
    [
        ("/api/zip", {"json": {}}, 400),
        ("/api/zip", {"json": []}, 400),
        ("/api/zip", {"json": {"ids": "1"}}, 400),
        ("/api/zip", {"json": {"ids": [True]}}, 400),
        ("/api/zip", {"json": {"ids": [1.5]}}, 400),
        ("/api/zip", {"json": {"ids": [2**63]}}, 400),
        ("/api/zip", {"json": {"ids": list(range(1, 5002))}}, 400),
        ("/api/zip", {"json": {"ids": [10**9]}}, 404),
        ("/api/zip", {"data": b"{", "content_type": "application/json"}, 400),
        ("/api/zip", {"data": b"[" * 10_000, "content_type": "application/json"}, 400),
        ("/api/zip", {"data": b"x" * 2**21, "content_type": "application/json"}, 413),
        ("/api/zip", {"data": {"ids": "1"}}, 415),
        ("/api/uploads", {"data": {}}, 400),
        ("/api/uploads", {"data": b"junk", "content_type": "multipart/form-data"}, 400),
        (
            "/api/uploads",
            {"data": b"--x\r\nbroken", "content_type": "multipart/form-data; boundary=x"},
            400,
        ),
        ("/api/uploads", {"data": TRUNCATED, "content_type": f"{FORM}; boundary=x"}, 400),
        ("/api/search", {"data": {"q": "x" * 2001}}, 400),
        ("/api/search", {"data": {"k": "0"}}, 400),
        ("/api/search", {"data": {"q": "y" * 2**21}, "content_type": FORM}, 413),
        ("/api/search", {"data": {str(n): "x" for n in range(100)}, "content_type": FORM}, 413),
        ("/api/search", {"json": {"q": "dog"}}, 200),
        ("/api/status", {"json": {}}, 405),
        ("/signin", {"data": {"token": "x"}}, 303),
    ],
)
def test_invalid_bodies_get_a_status_and_a_reason(
    client: FlaskClient, address: str, sent: dict[str, Any], status: int
) -> None:
    answer = client.post(address, **sent)
    assert answer.status_code == status
    if status >= 400:
        assert list(answer.get_json()) == ["error"]


@pytest.mark.parametrize("junk", [b"", b"no picture", b"\xff\xd8\xff" + b"x" * 1000, b"GIF89a"])
def test_an_upload_that_is_not_an_image_is_refused(client: FlaskClient, junk: bytes) -> None:
    for address in ("/api/uploads", "/api/search"):
        answer = client.post(address, data={"image": form_file(junk, "../../x.jpg")})
        assert (answer.status_code, list(answer.get_json())) == (400, ["error"])


@pytest.mark.parametrize(
    "fields",
    [
        {"image": form_file(b"")},
        {"image": ""},
        {"q": "dog", "image": [form_file(as_bytes(draw(7), "PNG")), form_file(b"", "y.png")]},
    ],
    ids=["empty file", "empty text", "one of two"],
)
def test_an_image_part_without_bytes_is_refused(
    client: FlaskClient, fields: dict[str, Any]
) -> None:
    answer = client.post("/api/search", data=fields, content_type=FORM)
    assert (answer.status_code, list(answer.get_json())) == (400, ["error"])


def test_an_upload_above_the_size_limit_is_refused(engine: SearchEngine) -> None:
    client = client_of(create_app(engine, config=ServerConfig(max_upload=10_000)))
    answer = client.post("/api/uploads", data={"image": form_file(b"x" * 20_000)})
    assert (answer.status_code, list(answer.get_json())) == (413, ["error"])


def test_more_than_16_images_in_a_request_are_refused(client: FlaskClient) -> None:
    pictures = [form_file(as_bytes(draw(1, (8, 8)), "PNG")) for _ in range(17)]
    assert client.post("/api/search", data={"image": pictures}).status_code == 400


# pages -------------------------------------------------------------------------------------------


def test_the_page_works_without_javascript(client: FlaskClient, engine: SearchEngine) -> None:
    page = client.get("/", query_string={"q": 'red "<script>"', "plain": 1}).get_data(as_text=True)
    for hit in engine.search('red "<script>"', k=5).hits:
        assert f"/thumbnails/{hit.id}" in page
    assert "<script>&" not in page
    assert "&lt;script&gt;" in page


def test_static_files_are_immutable_under_a_url_with_their_hash(
    client: FlaskClient,
) -> None:
    page = client.get("/").get_data(as_text=True)
    address = page.split('rel="stylesheet" href="')[1].split('"')[0]
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer.mimetype == "text/css"
    assert "immutable" in answer.headers["Cache-Control"]
    plain = client.get("/static/style.css")
    assert plain.data == answer.data
    assert plain.headers["Cache-Control"] == "no-cache"


def test_errors_are_html_for_browsers_and_json_for_programs(client: FlaskClient) -> None:
    assert client.get("/nowhere").is_json
    page = client.get("/nowhere", headers={"Accept": "text/html"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert client.get("/api/nowhere", headers={"Accept": "text/html"}).is_json


def test_failures_page_lists_failed_files(client: FlaskClient) -> None:
    assert "broken.jpg" in client.get("/failures").get_data(as_text=True)


# serving -----------------------------------------------------------------------------------------


def test_search_response_is_the_result_as_a_dictionary(
    engine: SearchEngine, client: FlaskClient
) -> None:
    for query in ("dog", "", "is:portrait", "nothing-is-called-so"):
        answer = client.get("/api/search", query_string={"q": query, "k": 1000}).get_json()
        expected = engine.search(query, k=1000).as_dict()
        assert answer | {"took_ms": 0} == expected | {"took_ms": 0}


def test_values_that_orjson_lacks_are_serialised_by_flask(app: Flask) -> None:
    with app.test_request_context():
        for value in ({"n": 2**70}, {"é": [1.5, None, True, "\u2028<&>"]}, [], {"a": {"b": ["c"]}}):
            answer = app.json.response(value)
            assert answer.mimetype == "application/json"
            assert json.loads(answer.get_data()) == value
        assert app.json.response({"é": 1}).get_data() == '{"é":1}\n'.encode()
        with pytest.raises(TypeError):
            app.json.response({"a": object()})


def test_server_answers_over_http_and_stops(app: Flask) -> None:
    server = Server(app, ServerConfig(port=0, threads=2))
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set})
    thread.start()
    assert ready.wait(60)
    address = f"http://127.0.0.1:{server.port}"
    answers: list[bytes] = []

    def ask() -> None:
        with urllib.request.urlopen(f"{address}/api/search?q=a+slow+evening") as answer:
            answers.append(answer.read())

    asking = [threading.Thread(target=ask) for _ in range(8)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert len(answers) == 8
    server.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_a_port_in_use_is_an_error_that_names_the_option(app: Flask) -> None:
    first = Server(app, ServerConfig(port=0, threads=1))
    try:
        with pytest.raises(SightlineError, match=r"cannot listen .* --port"):
            Server(app, ServerConfig(port=first.port, threads=1))
    finally:
        first.stop()
        first.run()


# OpenAPI -----------------------------------------------------------------------


def test_openapi_describes_every_route(client: FlaskClient, app: Flask) -> None:
    documented = set(client.get("/api/openapi.json").get_json()["paths"])
    routes = {rule.rule.replace("<int:id>", "{id}") for rule in app.url_map.iter_rules()}
    pages = {
        "/",
        "/failures",
        "/duplicates",
        "/signin",
        "/signout",
        "/favicon.ico",
        "/static/<path:name>",
    }
    assert routes - pages - {"/api/openapi.json"} == documented


def test_generated_requests_get_documented_responses(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS", 60.0)  # on a busy machine
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis.errors import Unsatisfiable
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app)
    held = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.response_headers_conformance,
    ]
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 14
    answers: Counter[int] = Counter()
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @settings(
                max_examples=CASES,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                # Buffered: closed, as a server does. A zip holds its slot until then.
                answer = case.call_and_validate(checks=held, buffered=True)
                answers[answer.status_code] += 1

            # An operation without parameters has no invalid requests.
            with contextlib.suppress(Unsatisfiable):
                ask()
    print(f"{answers.total():,} requests to {len(operations)} operations: {dict(answers)}")
