"""The MCP server: the SDK's own client on standard input and output and over HTTP."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import runpy
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from helpers_mcp import McpClient, connected, http, stdio
from helpers_serving import TOP, eventually
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from PIL import Image

from sightline.indexer.library import Library
from sightline.server.cli import run
from sightline.server.search import SearchEngine

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

TOOLS = {
    "search_photos",
    "find_similar",
    "get_photo",
    "describe_photo",
    "facets",
    "find_duplicates",
    "library_status",
}


TRANSCRIPT = runpy.run_path(str(TOP / "docs" / "make_mcp_transcript.py"))

PICTURES = TRANSCRIPT["PICTURES"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn ``pictures``, one of them twice, and their ``library``."""
    place = tmp_path_factory.mktemp("mcp")
    TRANSCRIPT["make_library"](place)
    return place


@pytest.fixture(scope="module", params=[stdio, http], ids=["stdio", "http"])
def client(place: Path, request: pytest.FixtureRequest) -> Iterator[McpClient]:
    """A client on each transport."""
    with request.param(place / "library") as client:
        yield client


@pytest.fixture(scope="module")
def engine(place: Path) -> Iterator[SearchEngine]:
    """The engine that answers the same questions directly."""
    with Library.open(place / "library", read_only=True) as library, SearchEngine(library) as found:
        yield found


def image_in(result: Any) -> Image.Image:
    """The image that ``get_photo`` returned."""
    content = result.content[0]
    assert (content.type, content.mime_type) == ("image", "image/jpeg")
    return Image.open(io.BytesIO(base64.b64decode(content.data)))


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file below ``folder``."""
    return {
        str(path): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_the_tools_are_few_typed_and_read_only(client: McpClient) -> None:
    tools = {tool.name: tool for tool in client.run(client.client.list_tools).tools}
    assert set(tools) == TOOLS
    for tool in tools.values():
        assert tool.annotations.read_only_hint
        assert tool.output_schema is not None or tool.name == "get_photo"
    assert "after:2023-06-01" in tools["search_photos"].description
    arguments = tools["search_photos"].input_schema["properties"]
    assert arguments["k"]["maximum"] == 50
    # What every conversation pays for the tools.
    size = sum(len(t.model_dump_json(exclude={"output_schema"})) for t in tools.values())
    assert size < 8000


def test_a_search_returns_the_hits_of_the_engine(client: McpClient, engine: SearchEngine) -> None:
    answer = client.call("search_photos", query="a red car", k=5)
    result = engine.search("a red car", k=5)
    assert [photo["id"] for photo in answer["photos"]] == [hit.id for hit in result.hits]
    assert [photo["good"] for photo in answer["photos"]] == [hit.match for hit in result.hits]
    assert (answer["total"], answer["next_offset"]) == (result.total, 5)
    first = answer["photos"][0]
    assert first["path"] == f"pictures/{result.hits[0].path}"
    assert first["relevance"] == round(result.hits[0].relevance, 2)


def test_pages_continue_each_other_and_end(client: McpClient) -> None:
    first = client.call("search_photos", query="type:jpeg", k=30)
    second = client.call("search_photos", query="type:jpeg", k=30, offset=first["next_offset"])
    ids = [photo["id"] for photo in first["photos"] + second["photos"]]
    assert len(set(ids)) == len(ids)
    assert "next_offset" not in second


def test_fifty_hits_are_a_small_part_of_a_context(client: McpClient) -> None:
    result = client.run(client.client.call_tool, "search_photos", {"query": "a tree", "k": 50})
    (content,) = result.content
    assert len(json.loads(content.text)["photos"]) > 30
    assert len(content.text) < 50 * 160
    assert json.loads(content.text) == result.structured_content


def test_similar_photos_of_a_photo_and_of_an_image(client: McpClient, place: Path) -> None:
    twins = client.call("find_duplicates")["groups"][0]["photos"]
    assert {photo["path"] for photo in twins} >= {"pictures/copy.jpg"}
    one, other = (photo["id"] for photo in twins[:2])
    assert client.call("find_similar", id=one, k=1)["photos"][0]["id"] == other
    data = base64.b64encode((place / "pictures" / "copy.jpg").read_bytes()).decode()
    for image in (data, f"data:image/jpeg;base64,{data}"):
        assert client.call("find_similar", image=image, k=1)["photos"][0]["id"] in (one, other)


def test_a_photo_is_sent_as_an_image_of_the_size_that_was_asked_for(client: McpClient) -> None:
    sizes = {}
    for size in (128, 512, 1024):
        result = client.run(client.client.call_tool, "get_photo", {"id": 1, "size": size})
        with image_in(result) as image:
            image.load()
            sizes[size] = max(image.size)
        assert json.loads(result.content[1].text)["id"] == 1
    about = client.call("describe_photo", id=1)
    own = max(about["width"], about["height"])
    assert own > 512
    assert sizes == {128: 128, 512: 512, 1024: min(own, 1024)}


def test_a_resource_is_a_photo(client: McpClient) -> None:
    (template,) = client.run(client.client.list_resource_templates).resource_templates
    assert template.uri_template == "photo://{id}"
    (content,) = client.run(client.client.read_resource, "photo://1").contents
    assert content.mime_type == "image/jpeg"
    with Image.open(io.BytesIO(base64.b64decode(content.blob))) as image:
        assert max(image.size) > 512


@pytest.mark.parametrize("name", ["9999", "abc", "-1", "9" * 40, "..%2F..%2Fetc%2Fpasswd", "/etc"])
def test_a_resource_is_nothing_else(client: McpClient, name: str) -> None:
    with pytest.raises(MCPError):
        client.run(client.client.read_resource, f"photo://{name}")


def test_a_photo_is_described(client: McpClient, engine: SearchEngine) -> None:
    record = engine.library.image(1)
    assert record is not None
    answer = client.call("describe_photo", id=1)
    assert (answer["width"], answer["height"]) == (record.info.width, record.info.height)
    assert answer["camera"] == record.info.camera
    assert record.info.taken_at is not None
    assert answer["date"] == f"{record.info.taken_at:%Y-%m-%d %H:%M}"
    assert answer["shows"] == [text for text, _ in engine.words_for(1, k=5)]


@pytest.mark.parametrize("kind", ["folder", "camera", "lens", "type", "keyword", "person", "label"])
def test_the_filter_of_a_facet_finds_its_photos(client: McpClient, kind: str) -> None:
    for facet in client.call("facets", kind=kind, limit=3)["values"]:
        answer = client.call("search_photos", query=facet["filter"], k=1)
        assert answer["total"] == facet["count"], facet


def test_years_are_counted(client: McpClient) -> None:
    values = client.call("facets", kind="year")["values"]
    assert sum(one["count"] for one in values) == PICTURES + 1


def test_the_status_names_folders_without_their_paths(client: McpClient, place: Path) -> None:
    answer = client.call("library_status")
    assert answer["photos"] == PICTURES + 1
    assert answer["folders"] == [{"name": "pictures", "photos": PICTURES + 1, "available": True}]
    assert str(place) not in json.dumps(answer)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("search_photos", {"query": "near:nowhere"}, "near:nowhere should hold a place"),
        ("search_photos", {"query": "cat", "k": 51}, "less than or equal to 50"),
        ("search_photos", {}, "Field required"),
        ("find_similar", {}, "give id or image"),
        ("find_similar", {"id": 1, "image": "AAAA"}, "give id or image"),
        ("find_similar", {"image": "/etc/passwd"}, "not valid base64"),
        ("find_similar", {"image": "/etc/passwd0"}, "this image cannot be read"),
        ("find_similar", {"image": "not base64!"}, "not valid base64"),
        ("get_photo", {"id": 9999}, "there is no photo 9999"),
        ("get_photo", {"id": 1, "size": 5000}, "less than or equal to 1024"),
        ("get_photo", {"id": 2**63}, "less than"),
        ("facets", {"kind": "password"}, "must be one of folder, camera"),
        ("find_duplicates", {"query": "a dog"}, "only filters"),
        ("delete_photo", {"id": 1}, "Unknown tool"),
    ],
)
def test_an_error_says_what_is_wrong(
    client: McpClient, tool: str, arguments: dict[str, Any], message: str
) -> None:
    assert message in client.refused(tool, **arguments)


def test_nothing_is_written(client: McpClient, place: Path) -> None:
    before = contents(place)
    client.call("search_photos", query="a house by the sea")
    client.call("find_duplicates")
    client.call("describe_photo", id=2)
    client.run(client.client.call_tool, "get_photo", {"id": 2, "size": 1024})
    assert contents(place) == before


def test_a_thousand_calls_leave_nothing_behind(client: McpClient) -> None:
    def calls(number: int) -> None:
        async def call() -> None:
            for n in range(number):
                query = {"query": f"a red car {n % 50}", "k": 5}
                assert not (await client.client.call_tool("search_photos", query)).is_error

        client.portal.call(call)

    calls(200)  # caches fill
    before = resources(client.pid)
    calls(1000)
    # What the last call used may still be open when its answer arrives.
    assert eventually(lambda: resources(client.pid)["fds"] <= before["fds"])
    assert eventually(lambda: resources(client.pid)["threads"] <= before["threads"] + 1)
    assert resources(client.pid)["bytes"] - before["bytes"] < 8 * 2**20


def resources(pid: int) -> dict[str, int]:
    """What a process holds (Linux)."""
    process = Path(f"/proc/{pid}")
    return {
        "fds": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "bytes": int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }


def test_the_session_in_the_documents_is_a_real_one(place: Path) -> None:
    def without_figures(text: str) -> str:
        return re.sub(r'"relevance":[\d.]+', "", text)

    page = TRANSCRIPT["in_page"]((TOP / "docs" / "mcp.md").read_text(encoding="utf-8"))
    assert without_figures(page) == without_figures(TRANSCRIPT["session"](place / "library")), (
        "the session in docs/mcp.md is stale: run `make docs`"
    )


def test_absolute_paths_are_sent_if_the_user_allows_it(place: Path) -> None:
    with stdio(place / "library", "--absolute-paths", mode="legacy") as client:
        (photo,) = client.call("search_photos", query="a red car", k=1)["photos"]
        assert Path(photo["path"]).is_file()
        assert client.call("library_status")["folders"][0]["name"] == str(place / "pictures")


def test_a_cancelled_call_is_dropped_and_the_next_one_answered(engine: SearchEngine) -> None:
    from sightline.server.mcp.server import create_mcp_server
    from sightline.server.mcp.tools import PhotoTools

    library = engine.library
    assert isinstance(library, Library)

    async def cancel(client: Client, released: threading.Event) -> None:
        answered = []
        async with anyio.create_task_group() as tasks:

            async def duplicates() -> None:
                answered.append(await client.call_tool("find_duplicates", {}))

            tasks.start_soon(duplicates)
            # Another call is answered meanwhile: one that waits blocks no other.
            assert not (await client.call_tool("facets", {"kind": "camera"})).is_error
            tasks.cancel_scope.cancel()
        assert not answered
        assert not (await client.call_tool("facets", {"kind": "camera"})).is_error
        released.set()

    server = create_mcp_server(PhotoTools(engine))
    holding, released = threading.Event(), threading.Event()

    def hold() -> None:
        with library._lock:  # what `find_duplicates` waits for
            holding.set()
            released.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    holding.wait()
    try:
        with connected(server, os.getpid) as client:
            client.run(cancel, client.client, released)
    finally:
        released.set()
        holder.join()


def test_a_file_that_became_a_link_out_of_its_root_is_not_read(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    from helpers_library import draw, make_library

    from sightline.server.mcp.tools import PhotoTools

    (tmp_path / "pictures").mkdir()
    draw(1, (1200, 900)).save(tmp_path / "pictures" / "one.jpg")
    Image.new("RGB", (1200, 900), "red").save(tmp_path / "secret.jpg")
    with (
        make_library(tmp_path / "library", tiny_encoder, tmp_path / "pictures") as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        (tmp_path / "pictures" / "one.jpg").unlink()
        (tmp_path / "pictures" / "one.jpg").symlink_to(tmp_path / "secret.jpg")
        (id,) = library.select().tolist()
        with Image.open(io.BytesIO(PhotoTools(engine).jpeg(id, 1024))) as sent:
            assert max(sent.size) == 512  # the thumbnail
            assert sent.getpixel((10, 10)) != (254, 0, 0)


def test_the_endpoint_is_guarded_like_every_route(place: Path, engine: SearchEngine) -> None:
    from helpers_mcp import TOKEN

    from sightline.server.web.app import create_app
    from sightline.server.web.config import ServerConfig

    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accept = {"Accept": "application/json, text/event-stream"}
    token = accept | {"Authorization": f"Bearer {TOKEN}"}
    client = create_app(engine, config=ServerConfig(token=TOKEN, mcp=True)).test_client()
    assert client.post("/mcp", json=message, headers=accept).status_code == 401
    answer = client.post("/mcp", json=message, headers=token)
    assert {tool["name"] for tool in answer.get_json()["result"]["tools"]} == TOOLS
    elsewhere = token | {"Origin": "https://example.org"}
    assert client.post("/mcp", json=message, headers=elsewhere).status_code == 403
    assert client.post("/mcp", json=message, headers=token | {"Host": "evil"}).status_code == 421
    assert client.get("/mcp", headers=token).status_code == 405
    large = b" " * (33 * 2**20)
    assert client.post("/mcp", data=large, headers=token).status_code == 413
    without = create_app(engine, config=ServerConfig(token=TOKEN)).test_client()
    assert without.post("/mcp", json=message, headers=token).status_code == 404


def test_a_library_of_a_sensitive_folder_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil
    import sqlite3

    shutil.copytree(place / "library", tmp_path / "library")
    with sqlite3.connect(tmp_path / "library" / "catalog.db") as catalog:
        catalog.execute("UPDATE roots SET path = '/etc'")
    catalog.close()
    assert run(["mcp", "--library", str(tmp_path / "library")]) == 2
    assert "--allow-root /etc" in capsys.readouterr().err
