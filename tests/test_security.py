"""Host and origin checks, authentication, security headers, and what clients may see."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, id_of, make_library, make_pictures
from helpers_shards import make_drawings

from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.library import Library
from sightline.server.search import SearchEngine
from sightline.server.search.originals import open_original
from sightline.server.web import health
from sightline.server.web.app import create_app
from sightline.server.web.config import ServerConfig, is_loopback, read_token
from sightline.server.web.public import public_reason

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder

TOKEN = "correct horse battery staple"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """A library of generated images."""
    folder = tmp_path_factory.mktemp("security")
    images = make_pictures(folder / "pictures")
    with make_library(folder / "library", tiny_encoder, images) as made:
        yield made


@pytest.fixture(scope="module")
def engine(library: Library, tiny_encoder: Encoder) -> Iterator[SearchEngine]:
    """A search engine on ``library``."""
    with SearchEngine(library, tiny_encoder) as made:
        yield made


@pytest.fixture
def client(engine: SearchEngine) -> FlaskClient:
    """A local client of a server on loopback."""
    return client_of(create_app(engine))


@pytest.fixture
def guarded(engine: SearchEngine) -> FlaskClient:
    """A remote client of a server that requires its token."""
    config = ServerConfig(host="0.0.0.0", token=TOKEN)
    client = client_of(create_app(engine, config=config))
    client.environ_base["REMOTE_ADDR"] = "192.0.2.7"
    return client


# hosts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8008", "127.0.0.1:8008", "[::1]:8008", "LOCALHOST", "127.0.0.2"],
)
def test_loopback_names_are_accepted(client: FlaskClient, host: str) -> None:
    assert client.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:8008",
        "192.168.1.5",
        "localhost@evil.example",
        "localhost, evil.example",
        "[::1",
        "127.0.0.1:99999999",
        "",
        "local host",
    ],
)
def test_other_host_names_are_refused(client: FlaskClient, host: str) -> None:
    for address in ("/", "/api/search?q=dog", "/healthz", "/images/1", "/static/style.css"):
        answer = client.get(address, headers={"Host": host})
        assert answer.status_code == 421
        assert "dog" not in answer.get_data(as_text=True)


def test_configured_host_names_are_accepted(engine: SearchEngine) -> None:
    client = client_of(create_app(engine, config=ServerConfig(token=TOKEN, hosts=("Photos.home",))))
    assert client.get("/livez", headers={"Host": "photos.home:8008"}).status_code == 200
    assert client.get("/livez", headers={"Host": "other.home"}).status_code == 421


def test_a_public_server_accepts_ip_addresses(guarded: FlaskClient) -> None:
    assert guarded.get("/livez", headers={"Host": "192.168.1.5:8008"}).status_code == 200
    assert guarded.get("/livez", headers={"Host": "evil.example"}).status_code == 421


# origins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Origin": "http://localhost"}, 400),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}, 400),
        ({"Sec-Fetch-Site": "none"}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://localhost"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[broken"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, 403),
        ({"Sec-Fetch-Site": "nonsense"}, 403),
    ],
)
def test_unsafe_methods_require_the_servers_own_page_or_a_program(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    for address in ("/api/zip", "/api/uploads"):
        answer = client.post(address, headers=headers, json={})
        assert answer.status_code == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_every_unsafe_method_is_checked(client: FlaskClient, method: str) -> None:
    answer = client.open("/api/search", method=method, headers={"Origin": "http://evil.example"})
    assert answer.status_code in (403, 405)
    assert method != "POST" or answer.status_code == 403


def test_other_sites_may_link_but_not_embed(client: FlaskClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/", headers={**foreign, "Sec-Fetch-Mode": "navigate"}).status_code == 200
    for address in ("/images/1", "/thumbnails/1", "/api/search?q=dog", "/"):
        answer = client.get(address, headers={**foreign, "Sec-Fetch-Mode": "no-cors"})
        assert answer.status_code == 403


# the token ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "photos.home", ""])
def test_a_public_address_requires_a_token(host: str) -> None:
    with pytest.raises(UsageError, match="token"):
        ServerConfig(host=host)
    assert ServerConfig(host=host, token=TOKEN).token == TOKEN


def test_a_short_token_is_refused() -> None:
    with pytest.raises(UsageError, match="too short") as error:
        ServerConfig(token="hunter2")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_loopback_requires_no_token(host: str) -> None:
    assert is_loopback(host)
    assert ServerConfig(host=host).token is None


def test_the_token_is_not_in_the_repr() -> None:
    assert TOKEN not in repr(ServerConfig(host="0.0.0.0", token=TOKEN))


def test_the_token_is_read_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGHTLINE_TOKEN", raising=False)
    monkeypatch.delenv("SIGHTLINE_TOKEN_FILE", raising=False)
    assert read_token() is None
    monkeypatch.setenv("SIGHTLINE_TOKEN", f" {TOKEN}\n")
    assert read_token() == TOKEN
    file = tmp_path / "token"
    file.write_text("another token of some length\n")
    monkeypatch.setenv("SIGHTLINE_TOKEN_FILE", str(file))
    assert read_token() == "another token of some length"
    file.write_text("  \n")
    with pytest.raises(UsageError, match="empty"):
        read_token()
    with pytest.raises(UsageError, match="cannot be read"):
        read_token(tmp_path / "nowhere")


PROTECTED = [
    "/api/search?q=dog",
    "/api/status",
    "/api/failures",
    "/api/duplicates",
    "/metrics",
    "/indices-list",
    "/api/images/1",
    "/api/images/1/similar",
    "/api/parse?q=dog",
    "/api/suggest?prefix=in",
    "/api/timeline",
    "/api/random",
    "/api/openapi.json",
    "/thumbnails/1",
    "/images/1",
    "/api/nowhere",
]


@pytest.mark.parametrize("address", PROTECTED)
def test_requests_without_the_token_get_401(guarded: FlaskClient, address: str) -> None:
    for headers in (
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer \xff\xfe"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": f"sightline={TOKEN}"},
        {"X-Forwarded-For": "127.0.0.1"},
    ):
        answer = guarded.get(address, headers=headers)
        assert (answer.status_code, list(answer.get_json())) == (401, ["error"])
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert guarded.post("/api/zip", json={"ids": [1]}).status_code == 401


@pytest.mark.parametrize("address", PROTECTED[:-1])
def test_programs_authenticate_with_a_bearer_token(guarded: FlaskClient, address: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get(address, headers=headers).status_code == 200


def test_browsers_sign_in_once_with_a_form(guarded: FlaskClient) -> None:
    html = {"Accept": "text/html"}
    asked = guarded.get("/?q=dog", headers=html)
    # The form leads to the search that was asked for, and never to another site.
    wanted = "/signin?next=%2F%3Fq%3Ddog"
    assert (asked.status_code, asked.headers["Location"]) == (303, wanted)
    form = guarded.get(wanted, headers=html)
    assert form.status_code == 200
    assert 'name="next" value="/?q=dog"' in form.get_data(as_text=True)
    for given, leads in (("/?q=dog#5", "/?q=dog#5"), ("//evil.example", "/"), ("/\\evil", "/")):
        answer = guarded.post("/signin", data={"token": TOKEN, "next": given})
        assert (answer.status_code, answer.headers["Location"]) == (303, leads)
    guarded.delete_cookie("sightline")
    assert 'type="password"' in form.get_data(as_text=True)
    style = re.search(r'href="(/static/[^"]+\.css)"', form.get_data(as_text=True))
    assert style is not None
    assert guarded.get(style[1]).status_code == 200
    wrong = guarded.post("/signin", data={"token": "a wrong one of some length"})
    assert wrong.status_code == 403
    assert "Set-Cookie" not in wrong.headers
    right = guarded.post("/signin", data={"token": TOKEN}, headers={"Origin": "null"})
    assert (right.status_code, right.headers["Location"]) == (303, "/")
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/?q=dog", headers=html).status_code == 200
    assert guarded.get("/api/status").status_code == 200


def test_another_sites_page_cannot_sign_a_browser_in(guarded: FlaskClient) -> None:
    answer = guarded.post(
        "/signin", data={"token": TOKEN}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("address", ["/healthz", "/livez"])
def test_health_checks_need_no_token(
    guarded: FlaskClient, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "SECONDS", 60.0)  # on a busy machine
    assert guarded.get(address).get_json() == {"status": "ok"}


# headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/?q=dog",
        "/api/search?q=dog",
        "/api/nowhere",
        "/signin",
        "/failures",
        "/static/style.css",
    ],
)
def test_every_response_has_the_security_headers(client: FlaskClient, address: str) -> None:
    headers = client.get(address).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in headers


def test_pages_comply_with_their_content_security_policy(client: FlaskClient) -> None:
    for address in ("/", "/?q=dog", "/failures", "/?q=after:x"):
        page = client.get(address, headers={"Accept": "text/html"}).get_data(as_text=True)
        assert not re.search(r"<script(?![^>]*\bsrc=)", page)
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


def test_image_files_are_served_sandboxed(client: FlaskClient, library: Library) -> None:
    for address in ("/images/1", "/images/1?size=99", "/images/1?download=1", "/thumbnails/1"):
        headers = client.get(address).headers
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


# files -------------------------------------------------------------------------------------------


def test_only_files_inside_their_root_are_served(tmp_path: Path, tiny_encoder: Encoder) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(as_bytes(draw(900)))
    pictures = tmp_path / "pictures"
    (pictures / "inner").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "inner/c.jpg", "d.jpg"):
        (pictures / name).write_bytes(as_bytes(draw(len(name))))
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        a, b, c, d = (id_of(library, name) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"))
        # After indexing, files and folders are replaced by links.
        (pictures / "a.jpg").unlink()
        (pictures / "a.jpg").symlink_to(secret)
        (pictures / "b.jpg").unlink()
        (pictures / "b.jpg").symlink_to(pictures / "d.jpg")
        (pictures / "inner").rename(tmp_path / "outer")
        (pictures / "inner").symlink_to(tmp_path / "outer", target_is_directory=True)
        for image in (a, c):
            for address in (f"/images/{image}", f"/images/{image}?size=99"):
                assert client.get(address).status_code == 404
            assert client.post("/api/zip", json={"ids": [image]}).status_code == 404
        assert client.get(f"/images/{b}").data == client.get(f"/images/{d}").data
        (pictures / "d.jpg").unlink()
        (pictures / "d.jpg").mkdir()
        assert client.get(f"/images/{d}").status_code == 404
        record = library.image(a)
        assert record is not None
        with pytest.raises(NotFoundError) as error:
            open_original(record, engine.query_encoder.decoder)
        assert str(tmp_path) not in str(error.value)


def test_a_root_folder_may_be_a_link(tmp_path: Path, tiny_encoder: Encoder) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.jpg").write_bytes(as_bytes(draw(1)))
    (tmp_path / "pictures").symlink_to(tmp_path / "disk", target_is_directory=True)
    with (
        make_library(tmp_path / "library", tiny_encoder, tmp_path / "pictures") as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        assert client.get(f"/images/{id_of(library, 'a.jpg')}").status_code == 200


@pytest.mark.parametrize(
    "remote",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
        {"HTTP_FORWARDED": "for=192.0.2.7"},
        {"HTTP_VIA": "1.1 proxy"},
    ],
)
def test_remote_clients_see_no_paths(
    engine: SearchEngine, library: Library, remote: dict[str, str]
) -> None:
    client = client_of(create_app(engine))
    client.environ_base.update(remote)
    root = library.images([1])[0].root
    places = {str(Path(root).parent), str(library.directory), str(Path(library.model).parent)}
    assert all(place.startswith("/") for place in places)
    addresses = [
        *PROTECTED,
        "/",
        "/?q=dog",
        "/failures",
        "/images/999",
        "/api/search?q=like:1@0,0,.5,.5",
        "/api/search?q=like:99999",
    ]
    for address in addresses:
        answer = client.get(address)
        for place in places:
            assert place.encode() not in answer.data, address
            assert place not in str(answer.headers), address
    bad = client.post("/api/uploads", data={"image": (io.BytesIO(b"x"), "x.jpg")})
    assert b"/tmp" not in bad.data


def test_remote_clients_do_not_see_gpu_errors(
    library: Library, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.indexer.vector_index.gpu.gpu_available", lambda: True)
    with (
        Library.open(library.directory, read_only=True, search_device="cuda") as small,
        SearchEngine(small, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        index = client.get("/api/status").json["index"]
        assert (index["device"], "exactly" in index["device_note"]) == ("cpu", True)
        client.environ_base["REMOTE_ADDR"] = "192.0.2.7"
        index = client.get("/api/status").json["index"]
        assert index["device"] == "cpu"
        assert "device_note" not in index


@pytest.mark.parametrize("file", ["catalog.db", "thumbnails.db"])
def test_library_errors_are_logged_and_hidden_from_remote_clients(
    file: str, tmp_path: Path, tiny_encoder: Encoder, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = make_drawings(tmp_path / "pictures", 4)
    make_library(tmp_path / "library", tiny_encoder, pictures).close()
    with (
        Library.open(tmp_path / "library") as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        path = tmp_path / "library" / file
        path.write_bytes(path.read_bytes()[:100].ljust(path.stat().st_size, b"\xff"))
        here, elsewhere = client_of(create_app(engine)), client_of(create_app(engine))
        elsewhere.environ_base["REMOTE_ADDR"] = "192.0.2.7"
        errors = 0
        for address in ["/", "/?plain=1&q=dog", "/failures", "/duplicates", *PROTECTED]:
            answer = elsewhere.get(address)
            errors += answer.status_code == 500
            assert str(tmp_path).encode() not in answer.data, address
            if answer.status_code == 500:
                assert b"the server's log says" in answer.data.replace(b"&#39;", b"'"), address
                assert f"{address.partition('?')[0]}: {path} is corrupt" in caplog.text
                assert str(path).encode() in here.get(address).data
        assert errors > (10 if file == "catalog.db" else 0)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("it is not an image but text", "it is not an image but text"),
        ("it is corrupt: image/jpeg ends after 1/2 of 3:2", None),
        ("it needs /photos/home/a.xmp beside it", "it needs home/a.xmp beside it"),
        ("it is a link to /etc/passwd", "it could not be read"),
        ("it is truncated: [Errno 5] '/mnt/disk/a.jpg'", "it is truncated"),
        (
            'the store could not give it: Could not connect to "http://10.0.0.5:9000/bucket"',
            "the store could not give it",
        ),
        ("the store could not give it: no route to 10.0.0.5", "the store could not give it"),
        ("the store could not give it: minio.lan:9000 is down", "the store could not give it"),
    ],
)
def test_public_reason_hides_locations(reason: str, shown: str | None) -> None:
    assert public_reason(reason, "/photos/home") == (shown or reason)


def test_local_clients_see_paths(client: FlaskClient) -> None:
    hit = client.get("/api/search?k=1").get_json()["hits"][0]
    assert Path(hit["absolute"]).exists()


def test_signed_in_clients_see_paths(guarded: FlaskClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert "absolute" in guarded.get("/api/search?k=1", headers=headers).get_json()["hits"][0]


def test_unexpected_errors_are_logged_and_hidden(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("secret detail")

    app = create_app(engine)
    monkeypatch.setattr(engine, "search", fault)
    answer = client_of(app).get("/api/search?q=dog")
    assert answer.status_code == 500
    assert "secret" not in answer.get_data(as_text=True)
    assert "secret detail" in caplog.text
