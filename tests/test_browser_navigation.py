"""The page in a real browser: focus, history, scroll position, outages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

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
from helpers_serving import get

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser

LAST = IMAGES - BURST
"""Rank of the last tile: the burst is folded into one."""


def tile(page: Page, rank: int) -> Locator:
    """The link of the tile with this rank, from 1."""
    return page.locator(f'#results .tile[aria-posinset="{rank}"] > a')


def test_keys_work_at_both_ends_of_the_lightbox(page: Page) -> None:
    from playwright.sync_api import expect

    dialog = page.get_by_role("dialog", name="Photo")
    tile(page, 2).click()
    dialog.get_by_role("button", name="Previous photo").click()
    expect(dialog).to_contain_text(f"1 of {IMAGES}")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text(f"2 of {IMAGES}")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("+")
    expect(dialog.locator(".stage > img")).not_to_have_css("transform", re.compile(r"^matrix\(1,"))
    page.keyboard.press("i")
    expect(dialog.get_by_role("complementary")).to_be_hidden()
    page.keyboard.press("i")
    # A photo opened from the details replaces the button that had the focus.
    dialog.get_by_role("complementary").locator(".near button").first.click()
    page.keyboard.press("Escape")
    expect(page.locator("#results a:focus")).to_have_count(1)
    expect(page).not_to_have_url(re.compile("#"))
    page.keyboard.press("End")
    expect(tile(page, LAST)).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_contain_text(f"{LAST} of {LAST}")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(dialog).to_contain_text(f"{LAST - 1} of {LAST}")
    dialog.get_by_role("button", name="Next photo").press("Enter")
    page.keyboard.press("x")
    expect(dialog.get_by_role("button", name="Select")).to_have_attribute("aria-pressed", "true")


def test_end_reaches_the_last_photo_and_the_focus_stays(page: Page) -> None:
    from playwright.sync_api import expect

    tiles(page).first.focus()
    page.keyboard.press("End")
    expect(tile(page, LAST)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert int(page.locator("#results a:focus").locator("..").get_attribute("aria-posinset")) > 120  # type: ignore[arg-type]
    # All photos, not only the first page, are selected.
    page.keyboard.press("Home")
    page.reload()
    tiles(page).first.focus()
    page.keyboard.press("Control+a")
    tray = page.get_by_role("region", name="Selected photos")
    expect(tray).to_contain_text(f"{IMAGES} selected")  # with those in stacks

    def find_similar() -> None:
        tray.get_by_role("button", name="Find similar").click()
        # For a few seconds.
        expect(page.get_by_role("status")).to_contain_text(f"the first 20 of {IMAGES}")

    assert searched(page, find_similar, "like")["query"].count("like:") == 20


ENTER_AT_ONCE = """
(query) => {
  const box = document.getElementById("q");
  box.value = query;
  box.dispatchEvent(new Event("input"));
  box.form.requestSubmit();
}
"""
"""Enter before the pause after which a typed text is searched."""


def test_back_returns_to_each_search_ended_with_enter(page: Page) -> None:
    from playwright.sync_api import expect

    box = page.locator("#q")
    for query in ("snow", "boat", "night"):
        searched(page, lambda query=query: page.evaluate(ENTER_AT_ONCE, query), f"={query}&")
    for query in ("boat", "snow"):
        page.go_back()
        expect(box).to_have_value(query)
    page.go_back()
    expect(box).to_have_value("")


FIRST_VISIBLE = """
() => [...document.querySelectorAll("#results .tile")]
  .sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
  .map((tile) => [Number(tile.firstChild.hash.slice(1)), tile.getBoundingClientRect()])
  .filter(([, box]) => box.bottom > document.querySelector("main").offsetTop)
  .map(([id, box]) => [id, box.top])[0]
"""
"""The id and top of the first tile below the header."""


def test_the_scroll_position_survives_resizing_and_reload(page: Page) -> None:
    from playwright.sync_api import expect

    for way in (100_000, 100_000, -300):
        page.evaluate("(way) => scrollBy(0, way)", way)
        expect(tile(page, 121)).to_be_attached()
    id, top = page.evaluate(FIRST_VISIBLE)
    row = f'.tile:has(a[href="#{id}"])'
    for width in (900, 1100, 1280):
        page.set_viewport_size({"width": width, "height": 720})
        page.wait_for_function(
            """([row, top]) => {
              const box = (node) => node?.getBoundingClientRect() ?? {};
              const right = Math.max(...[...document.querySelectorAll(".tile")]
                .map((tile) => box(tile).right));
              return Math.abs(box(document.querySelector(row)).top - top) < 2
                && Math.abs(right - box(document.getElementById("results")).right) < 1;
            }""",
            arg=[row, top],
        )
    before = page.evaluate("() => scrollY")
    page.reload()
    # In one step: the tiles there are drawn with the next frame.
    page.wait_for_function(
        f"([y, id]) => scrollY === y && ({FIRST_VISIBLE})()?.[0] === id", arg=[before, id]
    )


def test_the_address_holds_a_random_selection_and_a_photo_past_the_first_page(
    page: Page, address: str
) -> None:
    from playwright.sync_api import expect

    page.get_by_role("button", name="Surprise me").click()
    expect(page).to_have_url(re.compile(r"\?random=\d+$"))
    expect(page.locator("#summary")).to_contain_text("Random selection")
    shown = ids(page)[:9]
    page.reload()
    expect(page.locator("#summary")).to_contain_text("Random selection")
    tiles(page).first.wait_for()
    assert ids(page)[:9] == shown
    search(page, "snow")
    page.go_back()
    expect(page.locator("#summary")).to_contain_text("Random selection")
    assert ids(page)[:9] == shown
    late = get(address, "/api/search", k=200)["hits"][LAST - 2]
    page.goto(f"{address}#{late['id']}")
    dialog = page.get_by_role("dialog", name="Photo")
    expect(dialog).to_contain_text(f"{LAST - 1} of {LAST}")
    dialog.get_by_role("button", name="Next photo").click()
    expect(dialog).to_contain_text(f"{LAST} of {LAST}")
    for rank in (LAST - 1, LAST - 2):
        dialog.get_by_role("button", name="Previous photo").click()
        expect(dialog).to_contain_text(f"{rank} of {LAST}")


def test_the_page_recovers_from_an_outage(browser: Browser, address: str) -> None:
    """Not `open_page`: the browser reports each request that got no answer."""
    from playwright.sync_api import expect

    context = browser.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    tiles(page).first.wait_for()
    context.set_offline(True)
    for button in ("Help", "library status"):
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("status")).to_contain_text("The server isn’t responding")
    tile(page, 1).click()
    page.locator("#q").press_sequentially("came")
    expect(page.locator("#notice.bad")).to_contain_text("The server isn’t responding")
    context.set_offline(False)
    # The failed search is repeated without a click.
    expect(page.locator("#summary")).to_contain_text("of")
    expect(page.locator("#notice.bad")).to_have_count(0)
    page.locator("#q").press_sequentially("r")
    expect(page.locator("#suggestions").get_by_role("option").first).to_contain_text("camera:")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("dialog", name="Help")).to_contain_text("your own words")
    page.keyboard.press("Escape")
    tile(page, 1).click()
    expect(page.get_by_role("dialog", name="Photo")).to_contain_text("1 of")
    assert errors == []
    context.close()


def test_a_module_is_retried_and_slow_loading_is_shown(browser: Browser, address: str) -> None:
    """The fetch of a module succeeds and its import fails: browsers remember that for ever."""
    from playwright.sync_api import Route, expect

    page = browser.new_page()
    page.goto(address)
    tiles(page).first.wait_for()
    waiting: list[Route] = []

    def hold_then_fail(route: Route) -> None:
        if route.request.resource_type == "script":
            route.abort()
        else:
            waiting.append(route)

    page.route(re.compile(r"/panels\.js$"), hold_then_fail)
    page.get_by_role("button", name="Help").click()
    expect(page.locator("body.waiting")).to_have_count(1)
    # Another module that loads meanwhile does not end the sign.
    page.locator("#q").focus()
    expect(page.locator("#start")).to_be_visible()
    expect(page.locator("body.waiting")).to_have_count(1)
    page.keyboard.press("Escape")
    waiting[0].continue_()
    expect(page.get_by_role("status")).to_contain_text("The server isn’t responding")
    expect(page.locator("body.waiting")).to_have_count(0)
    page.get_by_role("button", name="Help").click()
    expect(page.get_by_role("dialog", name="Help")).to_contain_text("your own words")
    page.close()


def test_a_phone_has_large_targets_feedback_and_swipe_to_close(
    browser: Browser, address: str
) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, **PHONE) as page:
        page.wait_for_load_state("networkidle")
        assert page.evaluate(SMALL_TARGETS) == []
        tile(page, 1).tap()
        dialog = page.get_by_role("dialog", name="Photo")
        expect(dialog).to_be_visible()
        touch(page, [(180, 200)], [(190, 420)])
        expect(dialog).to_be_hidden()
        expect(page.locator(".tile .actions")).to_have_count(0)
        tray = page.get_by_role("region", name="Selected photos")
        with long_press(page, tile(page, 2)):
            expect(tray).to_contain_text("1 selected")
        more = tray.get_by_role("button", name="More like this")
        assert more.evaluate("(node) => parseFloat(getComputedStyle(node).fontSize)") >= 11
        more.tap()
        expect(tray).to_contain_text("1 more like this")
        searched(page, tray.get_by_role("button", name="Refine").tap, "like")
