"""The page on a phone, by finger: what is kept, slideshow, dates, duplicates, sizes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

import pytest
from helpers_browser import (
    BURST,
    IMAGES,
    PHONE,
    SMALL_TARGETS,
    ids,
    long_press,
    open_page,
    search,
    searched,
    tiles,
    touch,
)
from helpers_serving import get, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

MOVED = """
window.moved = [];
let parsed = Infinity;
addEventListener("DOMContentLoaded", () =>
  requestAnimationFrame(() => requestAnimationFrame((now) => (parsed = now))));
new PerformanceObserver((list) => {
  for (const { node, previousRect: a, currentRect: b } of list
    .getEntries().filter((entry) => entry.startTime >= parsed).flatMap((entry) => entry.sources))
    window.moved.push(`${node?.id || node?.className}: ${a.x}, ${a.y} -> ${b.x}, ${b.y}`);
}).observe({ type: "layout-shift", buffered: true });
"""
"""Lists what moves in ``window.moved`` once the whole document is shown: on a busy machine browsers
draw what they have parsed of it."""

LAST = IMAGES - BURST
"""Results without a query: the burst is folded into one."""


@pytest.fixture(scope="module")
def address(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a copy of the gallery is served: what is kept in it is this module's."""
    copy = tmp_path_factory.mktemp("touched") / "library"
    shutil.copytree(gallery / "library", copy)
    with serving("--library", copy) as found:
        yield found


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a phone, its first photos shown."""
    permissions = ["clipboard-read", "clipboard-write"]
    with open_page(browser, address, permissions=permissions, **PHONE) as page:
        page.wait_for_load_state("networkidle")
        tiles(page).first.wait_for()
        yield page


def test_favourites_and_a_collection_by_touch(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    first, second, third = ids(page)[:3]

    def favourites() -> list[int]:
        return list(get(address, "/api/collections/1/images")["ids"])

    tray = page.get_by_role("region", name="Selected photos")
    with long_press(page, tiles(page).nth(0)) as move:
        move(tiles(page).nth(2))
    expect(tray).to_contain_text("3 selected")
    with page.expect_response(re.compile("/api/collections/1/add")):
        tray.get_by_role("button", name="Favourite", exact=True).tap()
    assert favourites() == [first, second, third]
    tray.get_by_role("button", name="Collection").tap()
    menu = page.get_by_role("dialog", name="Add to collection")
    menu.get_by_role("textbox").fill("By finger")
    assert page.evaluate(SMALL_TARGETS) == []
    menu.get_by_role("button", name="Create collection").tap()
    expect(page.locator("#toast")).to_contain_text("Added to By finger (3)")
    expect(menu).to_have_count(0)
    tray.get_by_role("button", name="Clear selection").tap()
    # The empty box leads to both.
    page.locator("#q").tap()
    start = page.locator("#start")
    searched(page, start.get_by_role("button", name="By finger").tap, "collection")
    assert ids(page) == [first, second, third]
    with long_press(page, tiles(page).nth(2)):
        pass
    searched(page, tray.get_by_role("button", name="To start").tap)
    assert ids(page) == [third, first, second]
    searched(page, tray.get_by_role("button", name="Remove").tap)
    assert ids(page) == [first, second]
    # In the lightbox, which a swipe down closes.
    tiles(page).first.tap()
    dialog = page.get_by_role("dialog", name="Photo")
    heart = dialog.get_by_role("button", name="Favourite (f)")
    expect(heart).to_have_attribute("aria-pressed", "true")
    with page.expect_response(re.compile("/api/collections/1/remove")):
        heart.tap()
    dialog.get_by_role("button", name="Add to collection").tap()
    menu.get_by_role("button", name="Favourites").tap()
    expect(dialog.get_by_role("status")).to_contain_text("Added to Favourites (3)")
    touch(page, [(180, 250)], [(190, 290)])  # too short
    expect(dialog).to_be_visible()
    touch(page, [(180, 250)], [(190, 450)])
    expect(dialog).to_be_hidden()


def test_searches_are_saved_and_deleted_by_touch(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    search(page, "windmill")
    page.locator("#q").blur()
    page.get_by_role("button", name="Save this search").tap()
    menu = page.get_by_role("dialog", name="Save search")
    menu.get_by_role("textbox").fill("Mills")
    menu.get_by_role("button", name="Save").tap()
    expect(menu).to_have_count(0)
    page.get_by_role("button", name="Clear search").tap()
    start = page.locator("#start")
    row = start.get_by_role("button", name="Mills", exact=False).first
    expect(row).to_be_visible()
    assert page.evaluate(SMALL_TARGETS) == []
    assert searched(page, row.tap, "windmill")["query"] == "windmill"
    expect(start).to_be_hidden()
    page.get_by_role("button", name="Clear search").tap()
    start.get_by_role("button", name="Delete Mills").tap()
    expect(start.get_by_role("heading", name="Saved")).to_have_count(0)
    assert get(address, "/api/searches") == {"searches": []}
    page.locator("#q").blur()
    expect(start).to_be_hidden()


def test_a_slideshow_runs_and_stops_by_touch(page: Page) -> None:
    from playwright.sync_api import expect

    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    shown = ids(page)
    tiles(page).nth(0).tap()
    dialog = page.get_by_role("dialog", name="Photo")
    stage = dialog.locator(".stage")
    play = dialog.get_by_role("button", name="Slideshow (p)")
    assert page.evaluate(SMALL_TARGETS) == []
    play.tap()
    expect(stage).to_have_class(re.compile("playing"))
    for later in shown[1:3]:
        page.clock.fast_forward(5000)
        expect(page).to_have_url(re.compile(f"#{later}$"))
    # The controls fade, and a touch shows them again.
    expect(stage).to_have_class(re.compile("idle"))
    touch(page, [(300, 400)], [(60, 410)])
    expect(page).to_have_url(re.compile(f"#{shown[3]}$"))
    expect(stage).not_to_have_class(re.compile("idle"))
    play.tap()
    expect(stage).not_to_have_class(re.compile("playing"))
    page.clock.fast_forward(11_000)
    expect(page).to_have_url(re.compile(f"#{shown[3]}$"))


def test_dates_are_reached_by_touch(page: Page) -> None:
    from playwright.sync_api import expect

    touch(page, [(180, 600)], [(180, 100)])
    dates = page.get_by_role("slider", name="Jump to a date")
    dates.wait_for()
    # While the clock stands they do not fade.
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    touch(page, [(180, 600)], [(180, 100)])
    expect(dates).to_have_css("opacity", "1")
    box = dates.bounding_box()
    assert box
    assert box["width"] >= 44
    x = box["x"] + box["width"] / 2
    touch(page, [(x, box["y"] + 40)], [(x, box["y"] + box["height"] - 2)])
    page.clock.resume()
    expect(page.locator(f'#results .tile[aria-posinset="{LAST}"]')).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


def test_the_size_of_thumbnails_is_changed_by_touch(page: Page) -> None:
    from playwright.sync_api import expect

    def height() -> float:
        box = tiles(page).first.bounding_box()
        assert box
        return box["height"]

    button = page.locator("#size")
    heights = [height()]
    for name in ("large", "small", "medium"):
        button.tap()
        expect(button).to_have_accessible_name(f"Thumbnail size: {name}")
        heights.append(height())
    medium, large, small, again = heights
    assert large > 1.2 * medium
    assert small < 0.9 * medium
    assert again == medium
    # The order of sorting is a target of the same size, and readable where there is space.
    searched(page, lambda: page.select_option("#sort", "oldest"), "oldest")
    expect(page.locator("#summary")).to_contain_text("oldest first")


def test_duplicates_are_chosen_by_touch(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    page.goto(f"{address}duplicates")
    group = page.locator(".group", has_text="_again")
    keep = group.get_by_role("checkbox")
    expect(keep).to_have_count(BURST + 1)
    bar = page.get_by_role("region", name="Files that are not kept")
    expect(bar).to_be_visible()
    assert page.evaluate(SMALL_TARGETS) == []
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    others = page.evaluate("document.querySelectorAll('.keep input:not(:checked)').length")
    group.locator("label").first.tap()
    expect(keep.first).not_to_be_checked()
    expect(group).to_contain_text("this group is left out")
    # The others are beside it, a swipe away.
    list_ = group.locator("ul")
    box = list_.bounding_box()
    assert box
    touch(page, [(300, box["y"] + 80)], [(20, box["y"] + 80)])
    page.wait_for_function("(node) => node.scrollLeft > 100", arg=list_.element_handle())
    group.locator("label").nth(1).tap()
    expect(bar).to_contain_text(f"{others} files")
    bar.get_by_role("button", name="Copy paths").tap()
    expect(page.locator("#toast")).to_contain_text(f"{others} paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    kept, chosen = (group.locator("li").nth(n).get_attribute("data-path") for n in (0, 1))
    assert kept in paths
    assert chosen not in paths


@pytest.mark.parametrize("device", ["phone", "desk", "desk without a timeline"])
def test_nothing_moves_while_a_query_is_typed(browser: Browser, address: str, device: str) -> None:
    from playwright.sync_api import expect

    options = PHONE if device == "phone" else {}
    with open_page(browser, address, "failures", **options) as page:
        if device.endswith("timeline"):
            page.evaluate("localStorage.setItem('months', '')")
        page.add_init_script(MOVED)
        page.goto(address)
        page.locator("#results img.in").first.wait_for()
        page.wait_for_load_state("networkidle")
        grid = page.locator("#results")
        top = grid.evaluate("(grid) => grid.offsetTop")
        box = page.locator("#q")
        notice = page.locator("#notice")
        for query, message in (
            ("a football match", "No strong matches"),
            ("a yellow bus in a city street", None),
            ("sdfkjh", "does not know"),
            ("lihgthouse", None),
        ):
            box.fill("")
            typed = f"q={re.escape(quote_plus(query))}&"
            searched(page, lambda query=query: box.press_sequentially(query), typed)
            page.keyboard.press("Enter")
            page.wait_for_load_state("networkidle")
            assert grid.evaluate("(grid) => grid.offsetTop") == top, query
            if message is not None:
                expect(notice).to_contain_text(message)
                below, first = notice.bounding_box(), tiles(page).first.bounding_box()
                assert below
                assert first
                assert below["y"] + below["height"] <= first["y"], query
        expect(page.get_by_role("button", name="Did you mean lighthouse?")).to_be_visible()
        assert grid.evaluate("(grid) => grid.offsetTop") == top
        assert page.evaluate("window.moved") == []
