"""The page in a real browser: weight, indexing progress, status, sign-in, printing."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_browser import BURST, IMAGES, open_page, search, tiles
from helpers_serving import get, serving

from sightline.server.cli import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

TOKEN = "a token of more than sixteen characters"
MAX_BYTES = 75_000
"""Bytes loaded at first sight, uncompressed, without thumbnails."""


def test_the_page_is_small_and_its_content_security_policy_strict(
    browser: Browser, address: str
) -> None:
    sizes: dict[str, int] = {}
    page = browser.new_page()
    loaded = []
    page.on("response", lambda response: loaded.append(response))
    opened = page.goto(address)
    tiles(page).first.wait_for()
    page.wait_for_load_state("networkidle")
    for response in loaded:
        if "/thumbnails/" not in response.url and "/api/" not in response.url:
            sizes[response.url.rsplit("/", 1)[-1]] = len(response.body())
    assert sum(sizes.values()) <= MAX_BYTES, sizes
    assert opened
    policy = opened.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    page.close()


def test_an_empty_library_explains_itself_and_fills_while_indexing(
    browser: Browser, gallery: Path, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    library, images = tmp_path / "library", tmp_path / "pictures"
    images.mkdir()
    index = ["index", str(images), "--library", str(library), "--quiet"]
    assert run([*index, "--model", "builtin"]) == 0
    permissions = ["clipboard-read", "clipboard-write"]
    with (
        serving("--library", library) as address,
        open_page(browser, address, permissions=permissions) as page,
    ):
        expect(page.get_by_role("heading", name="No photos yet")).to_be_visible()
        page.get_by_role("button", name="Copy command").click()
        expect(page.get_by_role("status")).to_contain_text("Copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert copied == "sightline index ~/Pictures"
        expect(page.locator("#empty")).to_contain_text(copied)
        page.locator("#status-open").click()
        shutil.copytree(gallery / "pictures", images, dirs_exist_ok=True)
        reading = page.get_by_role("progressbar", name="Indexing photos")
        with held_run(library) as go_on:
            expect(reading).to_be_visible(timeout=120_000)
            expect(page.locator("#count")).to_contain_text(re.compile(r"\d%"), timeout=120_000)
            page.keyboard.press("Escape")
            # Indexed photos are shown while the rest is read.
            expect(page.locator("#empty")).to_be_hidden()
            expect(tiles(page).first).to_be_visible()
            go_on()
        expect(page.locator("#count")).to_have_text(str(IMAGES), timeout=120_000)
        page.locator("#status-open").click()
        expect(reading).to_be_hidden()


@contextmanager
def held_run(library: Path) -> Iterator[Callable[[], None]]:
    """An indexing run, paused after its second batch until the yielded function is called."""
    from sightline.indexer.indexing.encoders import load_encoder
    from sightline.indexer.indexing.run import update_library
    from sightline.indexer.library import Library

    held, steps = threading.Event(), []

    def progress(phase: str, done: int, total: int | None) -> None:
        if phase == "indexing" and done:
            steps.append(done)
            if len(steps) == 2:
                assert held.wait(120)

    def work() -> None:
        with Library.open(library) as opened:
            encoder = load_encoder("builtin")
            update_library(opened, encoder, workers=1, progress=progress)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield held.set
    finally:
        held.set()
        thread.join()
    assert len(steps) >= 2


def test_the_status_panel_shows_count_model_and_failures(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    page.get_by_role("button", name="library status").click()
    panel = page.get_by_role("dialog", name="This library")
    expect(panel).to_contain_text("builtin")
    expect(panel).to_contain_text(str(get(address, "/api/status")["images"]))
    expect(panel).to_contain_text("broken.jpg")
    expect(panel).to_contain_text("not an image")
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_be_hidden()
    page.goto(f"{address}failures")
    expect(page.locator("main")).to_contain_text("broken.jpg")
    page.locator("main").get_by_role("link", name="Back to photos").click()
    expect(tiles(page).first).to_be_visible()


def test_the_duplicates_page_lists_groups_best_first(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    page.get_by_role("button", name="library status").click()
    page.get_by_role("link", name="Duplicates").click()
    groups = page.locator("section.group")
    told = get(address, "/api/duplicates")["groups"]
    expect(groups).to_have_count(len(told))
    burst = groups.filter(has_text="_again")
    expect(burst.locator("li")).to_have_count(BURST + 1)
    expect(burst.get_by_role("heading")).to_contain_text("Near-identical")
    expect(burst.locator("strong")).to_have_text(["best"])
    [best] = [group["images"][0] for group in told if len(group["images"]) == BURST + 1]
    expect(burst.locator("li").first).to_contain_text(best["name"])
    expect(burst.locator("img").last).to_have_js_property("complete", True)
    assert burst.locator("img").last.evaluate("(image) => image.naturalWidth") > 0
    original = burst.get_by_role("link").first.get_attribute("href")
    assert original == f"/images/{best['id']}"
    assert page.request.get(address + original[1:]).ok
    page.get_by_role("link", name="Back to photos", exact=True).click()
    expect(tiles(page).first).to_be_visible()


def test_a_library_without_dates_has_no_timeline(
    browser: Browser, gallery: Path, tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    shutil.copytree(gallery / "library", tmp_path / "library")
    with closing(sqlite3.connect(tmp_path / "library" / "catalog.db")) as catalog, catalog:
        catalog.execute("UPDATE images SET taken_at = NULL")
    with (
        serving("--library", tmp_path / "library") as address,
        open_page(browser, address) as page,
    ):
        tiles(page).first.wait_for()
        expect(page.locator("#sort")).to_be_visible()
        for id in ("months", "timeline"):
            expect(page.locator(f"#{id}")).to_be_hidden()
        top = page.locator("#results").evaluate("(grid) => grid.offsetTop")
        page.mouse.wheel(0, 900)
        page.wait_for_function("() => scrollY > 800")
        expect(page.locator(".bubble")).to_have_count(1)
        expect(page.locator(".bubble")).to_be_hidden()
        expect(page.get_by_role("slider")).to_have_count(0)
        search(page, "a football match")
        assert page.locator("#results").evaluate("(grid) => grid.offsetTop") == top


def test_help_opens_by_key_and_button(page: Page) -> None:
    from playwright.sync_api import expect

    panel = page.get_by_role("dialog", name="Help")
    page.keyboard.press("?")
    expect(panel).to_contain_text("your own words")
    expect(panel).to_contain_text("-people")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    page.get_by_role("button", name="Help").click()
    expect(panel).to_be_visible()
    page.mouse.click(5, 5)
    expect(panel).to_be_hidden()


def test_keys_focus_the_box_and_the_results(page: Page) -> None:
    from playwright.sync_api import expect

    box = page.locator("#q")
    for key in ("/", "Control+k"):
        page.keyboard.press(key)
        expect(box).to_be_focused()
        page.keyboard.press("Escape")
        expect(box).not_to_be_focused()
    # From an empty box to what it offers, from a search to its results.
    page.keyboard.press("/")
    page.locator("#start").wait_for()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#start button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(box).to_be_focused()
    search(page, "snow")
    page.keyboard.press("ArrowDown")
    expect(tiles(page).first).to_be_focused()
    page.reload()
    tiles(page).first.wait_for()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to results")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#results")).to_be_focused()


def test_screen_readers_hear_results_and_selection(page: Page) -> None:
    from playwright.sync_api import expect

    good = search(page, "a yellow bus in a city street")["good"]
    expect(page.locator("#live")).to_contain_text(f"{good} strong matches")
    link = tiles(page).first
    assert ".jpg" in (link.get_attribute("aria-label") or "")
    link.focus()
    page.keyboard.press("x")
    expect(link).to_have_attribute("aria-label", re.compile("selected"))


def test_the_theme_switches_and_persists(page: Page) -> None:
    from playwright.sync_api import expect

    ground = "() => getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Switch theme").click()
    expect(page.locator("body")).not_to_have_css("background-color", before)
    after = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == after
    # Another tab follows.
    other = page.context.new_page()
    other.goto(page.url)
    page.get_by_role("button", name="Switch theme").click()
    expect(other.locator("body")).to_have_css("background-color", before)
    other.close()


def test_printing_shows_the_photos_in_order_without_an_empty_tail(page: Page) -> None:
    page.mouse.move(400, 400)
    for way in (2500, -1800):
        page.mouse.wheel(0, way)
        page.wait_for_function("(way) => Math.sign(way) * scrollY > way / 2", arg=way)
        page.wait_for_load_state("networkidle")
    page.emulate_media(media="print")
    order = page.locator("#results .tile").evaluate_all("(all) => all.map((t) => t.ariaPosInSet)")
    assert order == sorted(order, key=int)
    height, last = page.evaluate(
        """() => [document.documentElement.scrollHeight,
            Math.max(...[...document.querySelectorAll(".tile")]
              .map((tile) => tile.getBoundingClientRect().bottom + scrollY))]"""
    )
    assert height - last < 60
    assert page.locator(".top").is_hidden()


def test_reduced_motion_disables_animations(browser: Browser, address: str) -> None:
    with open_page(browser, address, reduced_motion="reduce") as page:
        tiles(page).first.wait_for()
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Help").wait_for()
        moving = page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((node) => {
              const { transitionProperty, transitionDuration, animationName } =
                getComputedStyle(node);
              return animationName !== "none"
                || (transitionProperty !== "none" && transitionDuration !== "0s");
            }).map((node) => node.outerHTML.slice(0, 80))"""
        )
        assert moving == []


def test_signing_in_with_the_token_and_an_expired_session(
    browser: Browser, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setenv("SIGHTLINE_TOKEN", TOKEN)
    with serving("--library", gallery / "library") as address:
        page = browser.new_context().new_page()
        page.goto(address)
        page.fill("#token", "a wrong one")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("Incorrect token.")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect(tiles(page).first).to_be_visible()
        page.context.clear_cookies()
        page.fill("#q", "snow")
        expect(page.locator("#notice")).to_have_text("You have been signed out. Sign in again.")
        # Signing in leads back to the search.
        page.get_by_role("link", name="Sign in again").click()
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"/\?q=snow$"))
        expect(page.locator("#q")).to_have_value("snow")
        page.context.close()
