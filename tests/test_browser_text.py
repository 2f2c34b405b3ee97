"""The page in a real browser: text in photos, on tiles and beside an open photo."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from helpers_browser import PHONE, open_page, tiles
from helpers_library import as_bytes, draw
from helpers_serving import serving
from PIL import ImageDraw, ImageFont

from sightline.server.cli import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

SIGNS = {"harbour": ("Harbour Museum", "Open Monday"), "garage": ("Parking Garage", "Open Friday")}


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where two photos of signs and one without text are served; their text was read."""
    place = tmp_path_factory.mktemp("text")
    folder = place / "photos"
    folder.mkdir()
    (folder / "plain.jpg").write_bytes(as_bytes(draw(7)))
    for seed, (name, lines) in enumerate(SIGNS.items()):
        scene = draw(seed, (1200, 800))
        pen = ImageDraw.Draw(scene)
        for n, line in enumerate(lines):
            pen.rectangle((300, 200 + 150 * n, 1000, 320 + 150 * n), fill="white")
            pen.text((330, 225 + 150 * n), line, "black", ImageFont.load_default(64))
        (folder / f"{name}.jpg").write_bytes(as_bytes(scene, quality=90))
    arguments = ["index", folder, "--ocr", "--model", "builtin", "--library", place / "library"]
    assert run([*map(str, arguments), "--quiet", "--workers", "1"]) == 0
    with serving("--library", place / "library") as address:
        yield address


def test_tiles_show_the_text_that_was_searched(browser: Browser, signs: str) -> None:
    from playwright.sync_api import expect

    for size in ({}, PHONE):
        with open_page(browser, signs, "?q=text:openn", **size) as page:
            tiles(page).first.wait_for()
            expect(page.locator(".tile .snippet")).to_have_text(["Open Friday", "Open Monday"])
            expect(page.get_by_role("link", name="Open Monday")).to_be_visible()
    with open_page(browser, signs) as page:
        tiles(page).first.wait_for()
        expect(page.locator(".tile")).to_have_count(3)
        expect(page.locator(".snippet")).to_have_count(0)
    with open_page(browser, signs, "?plain=1&q=text:museum") as page:
        expect(page.locator(".plain li")).to_have_text(["Harbour Museum"])


def test_text_of_an_open_photo_is_selected_copied_and_outlined(
    browser: Browser, signs: str
) -> None:
    from playwright.sync_api import expect

    with urllib.request.urlopen(f"{signs}api/search?q=text:museum") as answer:
        (hit,) = json.load(answer)["hits"]
    with urllib.request.urlopen(f"{signs}api/images/{hit['id']}") as answer:
        (first, _) = json.load(answer)["text"]
    permissions = ["clipboard-read", "clipboard-write"]
    with open_page(browser, signs, "?q=text:openn", permissions=permissions) as page:
        page.get_by_role("link", name="Open Monday").click()
        written = page.locator(".written")
        lines = written.locator("p")
        expect(lines).to_have_text([*SIGNS["harbour"]])
        expect(lines.first).to_be_visible()
        outline = page.locator(".outline")
        expect(outline).to_be_hidden()
        lines.first.hover()
        expect(outline).to_be_visible()
        image = page.locator(".stage img").bounding_box()
        drawn = outline.bounding_box()
        assert image is not None
        assert drawn is not None
        left, top, right, bottom = first["box"]
        assert drawn["x"] == pytest.approx(image["x"] + left * image["width"], abs=2)
        assert drawn["y"] == pytest.approx(image["y"] + top * image["height"], abs=2)
        assert drawn["width"] == pytest.approx((right - left) * image["width"], abs=2)
        assert drawn["height"] == pytest.approx((bottom - top) * image["height"], abs=2)
        page.keyboard.press("ArrowLeft")
        expect(lines).to_have_text([*SIGNS["garage"]])
        page.mouse.move(2, 2)  # a line of this photo may lie under the pointer
        expect(outline).to_be_hidden()
        lines.last.click(click_count=3)
        assert page.evaluate("() => getSelection().toString().trim()") == "Open Friday"
        written.get_by_role("button", name="Copy text").click()
        expect(page.locator("dialog[open]").get_by_role("status")).to_contain_text("Text copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert copied == "\n".join(SIGNS["garage"])
