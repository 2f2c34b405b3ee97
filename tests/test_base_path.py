"""The server below a path of a reverse proxy (``--base-path``)."""

from __future__ import annotations

import http.client
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_library import as_bytes, draw, make_library
from test_attacks_http import TOKEN, serving

from sightline.indexer.errors import UsageError
from sightline.server.search import SearchEngine
from sightline.server.web.config import ServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sightline.indexer.encoder import Encoder

TEMPLATES = Path(__file__).resolve().parent.parent / "templates"


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[SearchEngine]:
    folder = tmp_path_factory.mktemp("base_path")
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.jpg").write_bytes(as_bytes(draw(1)))
    with (
        make_library(folder / "library", tiny_encoder, folder / "pictures") as library,
        SearchEngine(library, tiny_encoder) as made,
    ):
        yield made


@pytest.fixture(scope="module")
def port(engine: SearchEngine) -> Iterator[int]:
    with serving(engine, base_path="/photos") as found:
        yield found


def ask(
    port: int, path: str, method: str = "GET", body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


SIGNED_IN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.parametrize("prefix", ["/photos", ""], ids=["passed on", "stripped by the proxy"])
def test_page_api_and_images_are_below_the_path(port: int, prefix: str) -> None:
    status, _, page = ask(port, f"{prefix}/", **SIGNED_IN)
    assert status == 200
    for address in re.findall(rb'(?:href|src|action)="(/[^"]*)"', page):
        assert address.startswith(b"/photos/")
    [script] = re.findall(rb'src="(/photos/static/\w+/main.js)"', page)
    assert ask(port, script.decode())[0] == 200
    found = json.loads(ask(port, f"{prefix}/api/search?q=red", **SIGNED_IN)[2])
    id = found["hits"][0]["id"]
    for path in (f"/thumbnails/{id}", f"/images/{id}", "/api/openapi.json", "/duplicates"):
        assert ask(port, prefix + path, **SIGNED_IN)[0] == 200
    document = json.loads(ask(port, f"{prefix}/api/openapi.json", **SIGNED_IN)[2])
    assert document["servers"] == [{"url": "/photos"}]


def test_the_path_without_a_slash_leads_to_the_page(port: int) -> None:
    status, headers, _ = ask(port, "/photos", **SIGNED_IN)
    assert (status, headers["Location"]) == (308, "/photos/")
    assert ask(port, "/photosynthesis", **SIGNED_IN)[0] == 404


def test_signing_in_and_out_stays_below_the_path(port: int) -> None:
    status, headers, _ = ask(port, "/photos/duplicates", Accept="text/html")
    assert (status, headers["Location"]) == (303, "/photos/signin?next=%2Fphotos%2Fduplicates")
    form = f"token={TOKEN}&next=/photos/duplicates"
    kind = "application/x-www-form-urlencoded"
    status, headers, _ = ask(port, "/photos/signin", "POST", form, Content_Type=kind)
    assert (status, headers["Location"]) == (303, "/photos/duplicates")
    cookie, _, attributes = headers["Set-Cookie"].partition(";")
    assert "Path=/photos" in attributes
    assert ask(port, "/photos/duplicates", Cookie=cookie)[0] == 200
    status, headers, _ = ask(port, "/photos/signout", "POST", Cookie=cookie)
    assert (status, headers["Location"]) == (303, "/photos/signin")
    assert "Path=/photos" in headers["Set-Cookie"]


@pytest.mark.parametrize("path", ["/photos/api/status", "/api/status", "/photos//api/status"])
def test_the_path_opens_nothing_without_the_token(port: int, path: str) -> None:
    assert ask(port, path)[0] in (401, 404)
    assert ask(port, path, X_Forwarded_Prefix="/photos", X_Script_Name="/photos")[0] in (401, 404)


def test_a_forwarded_prefix_is_ignored(port: int) -> None:
    page = ask(port, "/photos/", X_Forwarded_Prefix="/evil", **SIGNED_IN)[2]
    assert b"/evil" not in page


def test_a_base_path_requires_a_token() -> None:
    with pytest.raises(UsageError, match="needs a token"):
        ServerConfig(base_path="/photos")


@pytest.mark.parametrize("path", ["photos", "/photos/", "//x", "/a b", "/a/../b", "/a\nb", "/<a>"])
def test_an_invalid_base_path_is_an_error(path: str) -> None:
    with pytest.raises(UsageError, match="base path"):
        ServerConfig(base_path=path, token=TOKEN)


ABSOLUTE = re.compile(r"""[`"'](?:/(?:api|images|thumbnails|signin|signout|failures|duplicates)\b"""
                      r"""|/\?)|\b(?:href|src|action)="/""")  # fmt: skip


def test_the_page_has_no_address_that_ignores_the_path() -> None:
    for path in [*TEMPLATES.glob("*.html"), *TEMPLATES.glob("static/*.js")]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not ABSOLUTE.search(line), f"{path.name}:{number}: use a relative address"
