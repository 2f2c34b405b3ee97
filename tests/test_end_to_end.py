"""The whole way: a folder of pictures, a run, and the same answers from the command line, over
HTTP, from Python, and on the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_serving import FLAGS, chromium, get, serving

from sightline.data.scenes import write_gallery
from sightline.indexer.indexing.encoders import encoder_for
from sightline.indexer.library import Library
from sightline.server.cli import run
from sightline.server.search import SearchEngine

PICTURES = 60
QUERY = "a red car under a night sky"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn gallery and a library of it, made with the built-in model."""
    place = tmp_path_factory.mktemp("whole-way")
    write_gallery(place / "pictures", count=PICTURES, seed=0)
    arguments = ["index", place / "pictures", "--library", place / "library", "--model", "builtin"]
    assert run([*map(str, arguments), "--quiet"]) == 0
    return place


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    with serving("--library", place / "library") as address:
        yield address


def test_command_line_http_and_python_give_the_same_answers(
    place: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Library.open(place / "library", read_only=True) as library:
        encoder = encoder_for(library)
        with SearchEngine(library, encoder) as engine:
            for query in (QUERY, "boat -night", "like:7", "2:forest after:2019", "is:portrait"):
                capsys.readouterr()
                arguments = ["search", query, "--json", "-k", "20"]
                assert run([*arguments, "--library", str(place / "library")]) == 0
                printed = json.loads(capsys.readouterr().out)
                served = get(address, "/api/search", q=query, k=20)
                asked = engine.search(query, k=20).as_dict()
                for answer in (printed, served, asked):
                    answer.pop("took_ms")
                assert printed["hits"]
                ids = [hit["id"] for hit in printed["hits"]]
                assert [hit["id"] for hit in served["hits"]] == ids
                assert [hit["id"] for hit in asked["hits"]] == ids
                # Two float32 implementations, rounded to six decimals: at most the last differs.
                assert [hit["score"] for hit in served["hits"]] == pytest.approx(
                    [hit["score"] for hit in printed["hits"]], abs=1.1e-6
                )


def test_a_running_server_finds_what_is_indexed_meanwhile(tmp_path: Path, place: Path) -> None:
    pictures = tmp_path / "pictures"
    shutil.copytree(place / "pictures", pictures)
    library = tmp_path / "library"
    index = ["index", str(pictures), "--library", str(library), "--model", "builtin", "--quiet"]
    assert run(index) == 0
    with serving("--library", library) as address:
        assert get(address, "/api/status")["images"] == PICTURES
        write_gallery(tmp_path / "more", count=3, seed=99)
        shutil.copytree(tmp_path / "more", pictures / "more")
        assert run(["index", "--library", str(library), "--quiet"]) == 0
        found = get(address, "/api/search", q="in:more")
        assert found["total"] == 3
        image = found["hits"][0]["id"]
        assert get(address, "/api/search", q=f"like:{image}", k=5)["hits"]


def test_serve_indexes_the_folders_it_is_given(tmp_path: Path, place: Path) -> None:
    shutil.copytree(place / "library", tmp_path / "library")
    write_gallery(tmp_path / "more", count=2, seed=5)
    with serving(tmp_path / "more", "--library", tmp_path / "library") as address:
        assert get(address, "/api/status")["images"] == PICTURES + 2


@pytest.mark.browser
def test_the_page_finds_pictures_by_words_by_a_picture_and_by_likeness(
    place: Path, address: str
) -> None:
    from playwright.sync_api import expect, sync_playwright

    best = get(address, "/api/search", q=QUERY)["hits"][0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        pictures = page.locator("#results img")
        expect(pictures.first).to_be_visible()
        page.fill("#q", QUERY)
        page.press("#q", "Enter")
        page.wait_for_url("**/?q=*")
        expect(pictures.first).to_have_attribute("src", re.compile(rf"\bthumbnails/{best['id']}\b"))
        shown = next((place / "pictures").rglob("*.jpg"))
        page.click("#clear")
        with page.expect_response(re.compile("/api/search.*upload")) as answer:
            page.set_input_files("#files", shown)
        [hit, *_] = answer.value.json()["hits"]
        assert hit["name"] == shown.name
        assert not problems
        browser.close()


@pytest.mark.browser
def test_the_page_answers_without_javascript(address: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        page = browser.new_context(java_script_enabled=False).new_page()
        page.goto(address)
        page.fill("#q", QUERY)
        page.click("button[type=submit]")
        expect(page.locator("ul.plain img").first).to_be_visible()
        browser.close()
