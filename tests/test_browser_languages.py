"""The page in German and, from right to left, in Hebrew: layout, direction, choice of language."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from helpers_browser import (
    PHONE,
    ids,
    open_page,
    search,
    searched,
    tiles,
    touch,
    wait_for_module,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

SIZES: dict[str, dict[str, Any]] = {
    "340": {**PHONE, "viewport": {"width": 340, "height": 740}},
    "768": {"viewport": {"width": 768, "height": 900}},
    "1440": {"viewport": {"width": 1440, "height": 900}},
}
LANGUAGES = ("de", "he")

FAULTS = """
() => {
  // innerWidth grows with the page on a phone.
  const faults = [], { clientWidth: width, scrollWidth } = document.documentElement;
  if (scrollWidth > width) faults.push(`the page is ${scrollWidth} wide`);
  const modal = document.querySelector("dialog[open]");
  const texts = ".pill,.solid,.link,.step,.quiet,.position,h1,h2,h3,dt,dd,p,strong,label";
  if (modal && modal.scrollWidth > modal.clientWidth) faults.push("it scrolls sideways");
  for (const node of (modal ?? document).querySelectorAll(texts)) {
    // What scrolls sideways, and tiles, which cut what does not fit.
    const free = ".facets, .chips, .tile, .group li, .sr, .skip";
    if (!node.checkVisibility() || node.closest(free)) continue;
    const name = node.id || node.textContent || node.ariaLabel;
    const { left, right } = node.getBoundingClientRect();
    if (left < -1 || right > width + 1) faults.push(`${name} is outside`);
    const { scrollWidth: w, clientWidth, scrollHeight: h, clientHeight } = node;
    if (clientWidth && (w > clientWidth + 1 || h > clientHeight + 4)) faults.push(`${name} is cut`);
  }
  const bars = [".top > *", ".bar > *, .bar .actions > *", ".over > *", "#tray :is(button, strong)",
    ".box > *", ".sheet header > *", ".acts > *"];
  for (const bar of bars) {
    const parts = [...(modal ?? document).querySelectorAll(bar)]
      .filter((node) => node.checkVisibility() && !node.matches(".sr, #start, #suggestions, .run"));
    for (const [i, one] of parts.entries()) for (const other of parts.slice(i + 1)) {
      if (one.contains(other) || other.contains(one)) continue;
      const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 1) faults.push(`${one.outerHTML} overlaps ${other.outerHTML}`);
    }
  }
  return faults;
}
"""
"""What is wrong with the layout of the whole window, or of the open dialog."""


def check(page: Page, view: str) -> None:
    page.wait_for_load_state("networkidle")
    assert page.evaluate(FAULTS) == [], view


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_layout_holds_in_every_language(
    browser: Browser, address: str, language: str, size: str
) -> None:
    query = "?q=a+yellow+bus+is:landscape"
    with open_page(browser, address, query, locale=language, **SIZES[size]) as page:
        tiles(page).first.wait_for()
        assert page.locator("html").get_attribute("lang") == language
        check(page, "results")
        tiles(page).first.focus()
        page.keyboard.press("x")
        page.locator("#tray").wait_for()
        check(page, "tray")
        page.keyboard.press("+")
        page.locator("#tray .solid").wait_for()
        check(page, "feedback")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.keyboard.press("Enter")
        page.locator(".over").wait_for()
        page.locator(".details").wait_for(state="attached")
        check(page, "photo")
        if page.locator(".details").is_hidden():
            page.keyboard.press("i")
        page.locator(".near img").first.wait_for()
        check(page, "details")
        page.keyboard.press("c")
        page.locator(".cropbar").wait_for()
        check(page, "crop")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        page.locator("#help-body dt").first.wait_for()
        check(page, "help")
        page.keyboard.press("Escape")
        page.locator("#status-open").click()
        page.locator("#language").wait_for()
        check(page, "status")
        page.keyboard.press("Escape")
        page.fill("#q", "")
        page.locator("#start").wait_for()
        check(page, "start")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["?plain=1&q=snow", "failures", "duplicates", "nowhere"])
def test_the_other_pages_hold_in_every_language(
    browser: Browser, address: str, language: str, path: str
) -> None:
    page = browser.new_page(locale=language, **SIZES["340"])
    page.goto(address + path)
    check(page, path)
    assert page.locator("html").get_attribute("lang") == language
    page.close()


def test_from_right_to_left_the_page_is_mirrored(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, locale="he") as page:
        tiles(page).first.wait_for()
        order = ids(page)
        first, second = (tiles(page).nth(i).bounding_box() for i in (0, 1))
        assert first
        assert second
        assert first["x"] > second["x"]
        tiles(page).first.focus()
        # The arrow keys go where they point.
        page.keyboard.press("ArrowLeft")
        expect(page.locator(f'#results a[href="#{order[1]}"]')).to_be_focused()
        page.keyboard.press("ArrowRight")
        expect(page.locator(f'#results a[href="#{order[0]}"]')).to_be_focused()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Enter")
        previous, following = page.locator(".step").first, page.locator(".step.next")
        a, b = previous.bounding_box(), following.bounding_box()
        assert a
        assert b
        assert a["x"] > b["x"]
        for step in (previous, following):
            turned = step.locator("svg").evaluate("(svg) => getComputedStyle(svg).transform")
            assert turned == "matrix(-1, 0, 0, 1, 0, 0)"
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("(id) => location.hash === `#${id}`", arg=order[2])
        page.keyboard.press("ArrowRight")
        page.wait_for_function("(id) => location.hash === `#${id}`", arg=order[1])
        following.click()
        page.wait_for_function("(id) => location.hash === `#${id}`", arg=order[2])
        # A drag across the first two photos selects them, from the right.
        page.keyboard.press("Escape")
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(first["x"] + first["width"] + 3, first["y"] + 20)
        page.mouse.down()
        wait_for_module(page, "drag_select.js")
        page.mouse.move(second["x"] + second["width"] - 20, first["y"] + 40, steps=4)
        page.mouse.up()
        expect(page.locator("#tray strong")).to_have_text("נבחרו שתיים")
        assert [tile for tile in order if page.locator(f'.tile.on a[href="#{tile}"]').count()] == (
            order[:2]
        )


def test_from_right_to_left_a_swipe_to_the_right_shows_the_next_photo(
    browser: Browser, address: str
) -> None:
    with open_page(browser, address, locale="he", **PHONE) as page:
        tiles(page).first.wait_for()
        order = ids(page)
        tiles(page).first.tap()
        page.locator(".lightbox[open] img").first.wait_for()
        touch(page, [(60, 300)], [(300, 305)])
        page.wait_for_function("(id) => location.hash === `#${id}`", arg=order[1])
        touch(page, [(300, 300)], [(60, 305)])
        page.wait_for_function("(id) => location.hash === `#${id}`", arg=order[0])


def test_the_language_is_chosen_in_the_status_panel(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, "?q=snow") as page:
        tiles(page).first.wait_for()
        page.locator("#status-open").click()
        with page.expect_navigation():
            page.get_by_label("Language").select_option("Deutsch")
        expect(page.locator("html")).to_have_attribute("lang", "de")
        expect(page.locator("#q")).to_have_value("snow")
        page.goto(address + "duplicates")
        expect(page.get_by_role("heading", level=1)).to_have_text("Duplikate")
        page.goto(address)
        page.locator("#status-open").click()
        with page.expect_navigation():
            page.get_by_label("Sprache").select_option("")
        expect(page.locator("html")).to_have_attribute("lang", "en")


def test_texts_numbers_and_dates_are_those_of_the_language(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, locale="de-AT") as page:
        tiles(page).first.wait_for()
        expect(page).to_have_title("Sightline")
        expect(page.locator("#summary")).to_contain_text("Fotos")
        tiles(page).first.focus()
        page.keyboard.press("Enter")
        details = page.locator(".details")
        expect(details).to_contain_text("Aufnahme")
        expect(details.locator("dd", has_text="MP")).to_contain_text(",")
        page.keyboard.press("Escape")
        # Filters are the same in every language; messages of the server are not.
        search(page, "before:1900")
        expect(page.locator("#notice")).to_have_text(
            "Keine Fotos passen zu diesen Filtern (aufgenommen bis 1899-12-31)."
        )
        expect(page.locator("#chips .filter")).to_have_attribute(
            "title", "Aufgenommen bis 1899-12-31"
        )
        page.keyboard.press("Escape")
        searched(page, lambda: page.get_by_role("button", name="before: 1900 entfernen").click())
        search(page, "sdfkjh qwrtz")
        expect(page.locator("#notice")).to_contain_text("Keine guten Treffer.")
