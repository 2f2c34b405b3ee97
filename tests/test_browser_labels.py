"""The page in a real browser: labels as facets, and the user's own captions."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_browser import IMAGES, PHONE, SHIFTS, open_page, tiles
from helpers_serving import get, serving

from sightline.server.cli import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


def test_facets_count_and_filter_and_captions_are_ranked(
    browser: Browser, gallery: Path, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    labelled = tmp_path / "labelled"
    shutil.copytree(gallery / "library", labelled)
    arguments = ["label", "--labels", "windmill, campfire", "--keep", "--threshold", "0"]
    assert run([*arguments, "--top", "1", "--library", str(labelled)]) == 0
    with serving("--library", labelled) as address, open_page(browser, address) as page:
        # What loads later shifts nothing.
        for size in ({}, PHONE):
            with open_page(browser, address, "failures", **size) as other:
                other.add_init_script(SHIFTS)
                for path in (
                    "",
                    "?q=snow",
                    "?q=a+football+match",
                    "?q=is:landscape -people",
                    "?random",
                ):
                    other.goto(address + path)
                    other.locator("#results img.in").first.wait_for()
                    other.wait_for_load_state("networkidle")
                    assert other.evaluate("() => window.shifted") < 0.01, path
        facets = page.locator('#facets button[title^="label:"]')  # beside those of places
        facets.first.wait_for()
        counts = [int(text.split()[-1]) for text in facets.all_inner_texts()]
        assert sum(counts) == IMAGES
        facets.first.click()
        page.wait_for_url("**label**")
        page.locator("#summary", has_text=f"{counts[0]} photos").wait_for()
        pressed = page.locator('#facets button[aria-pressed="true"]')
        pressed.wait_for()
        assert facets.count() == 1, "no photo has both labels"
        # Screen readers hear what a photo shows, and when it was taken.
        name = pressed.get_attribute("title").removeprefix("label:")  # type: ignore[union-attr]
        taken = get(address, "/api/search", q=f"label:{name}", k=1)["hits"][0]["taken_at"]
        heard = tiles(page).first.get_attribute("aria-label") or ""
        assert heard.startswith(f"{name}, ")
        assert taken[:4] in heard
        tiles(page).first.click()
        expect(page.locator(".stage > img")).to_have_attribute("alt", name)
        # Shortcut letters are text in an input.
        page.get_by_label("Compare captions").press_sequentially("a cross, x")
        page.keyboard.press("Enter")
        ranked = page.locator(".compare li")
        ranked.nth(1).wait_for()
        assert all(text.endswith("%") for text in ranked.all_inner_texts())
        page.keyboard.press("Escape")
        page.locator(".lightbox").wait_for(state="hidden")
        expect(page).not_to_have_url(re.compile("#"))
        pressed.click()
        page.locator("#summary", has_text=f"{IMAGES} photos").wait_for()
