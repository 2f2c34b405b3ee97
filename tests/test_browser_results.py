"""The page in a real browser: results, the lightbox, selection."""

from __future__ import annotations

import itertools
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_browser import (
    BURST,
    IMAGES,
    PHONE,
    SHIFTS,
    ids,
    long_press,
    open_page,
    search,
    searched,
    tiles,
)
from helpers_serving import get

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

pytestmark = pytest.mark.browser


def test_tiles_keep_aspect_ratios_without_layout_shift(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(SHIFTS)
    page.goto(address)
    page.locator("#results img.in").first.wait_for()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("() => window.shifted") < 0.02
    hits = {hit["id"]: hit for hit in get(address, "/api/search", k=60)["hits"]}
    shapes = page.locator("#results .tile").evaluate_all(
        """(tiles) => tiles.map((tile) => [Number(tile.firstChild.hash.slice(1)),
            tile.offsetWidth / tile.offsetHeight, tile.style.backgroundColor,
            tile.querySelector("img").srcset])"""
    )
    for id, shape, color, srcset in shapes:
        assert shape == pytest.approx(hits[id]["width"] / hits[id]["height"], rel=0.03)
        assert color.startswith("rgb")
        assert srcset.count("thumbnails/") == 2
    context.close()


def test_scrolling_reaches_the_end_with_few_tiles_in_the_document(page: Page) -> None:
    from playwright.sync_api import expect

    assert tiles(page).count() < IMAGES / 2
    page.mouse.move(400, 400)
    with page.expect_response(re.compile("offset=120")):
        page.mouse.wheel(0, 100_000)
    page.mouse.wheel(0, 100_000)
    expect(page.locator("#end")).to_have_text("End of results")
    page.mouse.wheel(0, 100_000)
    last = page.locator(f'#results .tile[aria-posinset="{IMAGES - BURST}"]')
    expect(last).to_be_visible()
    assert tiles(page).count() < IMAGES / 2
    page.keyboard.press("Home")


def test_arrow_keys_move_between_tiles(page: Page) -> None:
    tiles(page).first.focus()

    def place() -> tuple[float, float]:
        box = page.locator("#results a:focus").bounding_box()
        assert box
        return box["x"], box["y"]

    x, y = place()
    page.keyboard.press("ArrowRight")
    assert place()[0] > x
    page.keyboard.press("ArrowDown")
    assert place()[1] > y
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    assert place() == (x, y)


def test_the_actions_fit_on_the_narrowest_tile(page: Page) -> None:
    page.set_viewport_size({"width": 700, "height": 800})
    page.wait_for_function(
        """() => [...document.querySelectorAll("#results .tile")]
            .every((tile) => tile.getBoundingClientRect().right <= innerWidth)"""
    )
    search(page, "is:portrait")
    page.locator("#q").blur()
    narrow = page.locator("#results .tile").first
    narrow.evaluate("(tile) => (tile.style.width = '96px')")
    narrow.hover()
    page.locator(".tile .actions button").nth(3).wait_for()
    outside = narrow.evaluate(
        """(tile) => [...tile.querySelectorAll(".actions button")].filter((button) => {
          const inner = button.getBoundingClientRect(), outer = tile.getBoundingClientRect();
          return inner.left < outer.left || inner.right > outer.right
            || inner.bottom > outer.bottom;
        }).length"""
    )
    assert outside == 0


def test_a_tile_shows_its_name_and_date_under_the_pointer(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    second = get(address, "/api/search", k=2)["hits"][1]
    tiles(page).nth(1).hover()
    caption = page.locator("#results .caption")
    expect(caption).to_contain_text(second["name"])
    expect(caption).to_contain_text(second["taken_at"][:4])
    tiles(page).first.hover()
    expect(caption).to_have_count(1)
    expect(caption).not_to_contain_text(second["name"])


def test_old_photos_stay_until_the_new_ones_are_loaded(page: Page) -> None:
    """The clock stands, and thumbnails of the new results are held back."""
    from playwright.sync_api import expect

    tiles(page).first.hover()
    page.locator("#results .actions").wait_for()
    old = page.locator(".ghost .tile")
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    held: list[Route] = []
    page.route("**/thumbnails/*", lambda route: held.append(route))
    with page.expect_request("**/thumbnails/*"):
        search(page, "windmill")
    page.clock.run_for(300)
    expect(old).not_to_have_count(0)
    assert held
    for route in held:
        route.continue_()
    page.unroute("**/thumbnails/*")
    page.wait_for_function(
        """() => [...document.querySelectorAll("#results .tile img")]
            .filter((image) => image.src && image.getBoundingClientRect().top < innerHeight)
            .every((image) => image.matches(".in"))"""
    )
    page.clock.run_for(50)
    expect(old).to_have_count(0)
    # Not for ever, if the new ones do not come.
    page.route("**/thumbnails/*", lambda route: held.append(route))
    search(page, "a lighthouse by the sea")
    expect(old).not_to_have_count(0)
    page.clock.run_for(500)
    expect(old).to_have_count(0)
    page.unroute("**/thumbnails/*")


def test_a_divider_separates_less_likely_matches(page: Page) -> None:
    from playwright.sync_api import expect

    good = search(page, "a yellow bus in a city street")["good"]
    line = page.locator("#results .divider")
    expect(line).to_have_text("Less likely matches")
    box, above, below = (
        one.bounding_box()
        for one in (
            line,
            page.locator(f'.tile[aria-posinset="{good}"]'),
            page.locator(f'.tile[aria-posinset="{good + 1}"]'),
        )
    )
    assert box
    assert above
    assert below
    assert above["y"] + above["height"] <= box["y"]
    assert box["y"] + box["height"] <= below["y"]


def test_an_estimated_number_of_matches_is_called_one(page: Page) -> None:
    from playwright.sync_api import expect

    def estimated(route: Route) -> None:
        answer = route.fetch()
        found = answer.json() | {"good": 1200, "good_is_estimated": True}
        route.fulfill(response=answer, json=found)

    good = search(page, "a yellow bus in a city street")["good"]
    page.route("**/api/search?*", estimated)
    search(page, "a yellow bus in a city")
    expect(page.locator("#summary")).to_contain_text("about 1,200 strong matches of")
    page.unroute("**/api/search?*")
    expect(page.locator("#results .divider")).to_have_text("Less likely matches")
    assert good < 500


def test_near_identical_photos_are_stacked_and_expand(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    burst = [hit for hit in get(address, "/api/search", k=1000)["hits"] if hit["duplicates"]]
    [shot] = [hit for hit in burst if len(hit["duplicates"]) == BURST]
    search(page, f"like:{shot['id']}")
    stack = page.locator(".tile", has=page.locator(f'a[href="#{shot["id"]}"]')).get_by_role(
        "button", name=f"{BURST} near-identical photos"
    )
    stack.click()
    members = page.locator("#results .tile.member")
    expect(members).to_have_count(BURST)
    shown = set(ids(page))
    assert {shot["id"], *shot["duplicates"]} <= shown
    expect(stack).to_have_attribute("aria-expanded", "true")
    stack.click()
    expect(members).to_have_count(0)
    # By keyboard: Tab reaches the button from the photo, `e` works on the photo.
    page.locator(f'a[href="#{shot["id"]}"]').focus()
    page.keyboard.press("Tab")
    expect(stack).to_be_focused()
    page.keyboard.press("Enter")
    expect(members).to_have_count(BURST)
    page.keyboard.press("e")
    expect(members).to_have_count(0)
    # The lightbox lists the members.
    page.keyboard.press("Enter")
    details = page.get_by_role("complementary", name="Details")
    expect(details).to_contain_text(f"{BURST} near-identical photos")
    details.locator(".near").first.get_by_role("button").first.click()
    expect(details.get_by_role("heading", level=2)).to_contain_text("_again")


def test_a_month_of_the_timeline_filters(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    month = max(get(address, "/api/timeline")["months"], key=lambda month: month["count"])
    bar = page.locator("#timeline button").filter(has_text="").nth(0)
    year, number = month["month"].split("-")
    names = "January February March April May June July August September October November December"
    name = f"{names.split()[int(number) - 1]} {year}"
    bar = page.get_by_role("button", name=re.compile(f"^{name}, {month['count']} photo"))
    found = searched(page, bar.click, "after")
    assert found["total"] == month["count"]
    assert {hit["taken_at"][:7] for hit in found["hits"]} == {month["month"]}
    expect(bar).to_have_attribute("aria-pressed", "true")
    searched(page, bar.click)
    expect(page.locator("#q")).to_have_value("")
    # Months without photos cannot be clicked; an empty range keeps the timeline.
    empty = page.locator("#timeline button:disabled").first
    expect(empty).to_have_attribute("aria-label", re.compile(", 0 photos"))
    page.goto(f"{address}?q=after:2001-01 before:2001-02")
    expect(page.locator("#notice")).to_contain_text("No photos match these filters")
    searched(page, page.get_by_role("button", name=re.compile(f"^{name}")).click, "after")
    expect(tiles(page)).not_to_have_count(0)
    searched(page, bar.click)
    years = page.locator("#timeline small").evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect()).sort((a, b) => a.left - b.left)"
    )
    assert all(a["right"] < b["left"] for a, b in itertools.pairwise(years))
    # By keyboard: one tab stop, arrow keys between months.
    page.locator("#timeline button").first.focus()
    page.keyboard.press("ArrowRight")
    searched(page, lambda: page.keyboard.press("Enter"), "after")
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#timeline")).to_be_hidden()


def test_new_photos_are_offered_without_moving_results(page: Page) -> None:
    """The count changes; the results stay until the offer is clicked."""
    from playwright.sync_api import expect

    def more(route: Route) -> None:
        answer = route.fetch()
        status = answer.json()
        route.fulfill(response=answer, json={**status, "images": status["images"] + 3})

    search(page, "snow")
    before = tiles(page).first.bounding_box()
    page.route("**/api/status", more)
    page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")
    offer = page.get_by_role("button", name="3 new photos")
    expect(offer).to_be_visible()
    assert tiles(page).first.bounding_box() == before
    searched(page, offer.click, "snow")
    expect(offer).to_have_count(0)


def test_surprise_me_shows_a_random_selection(page: Page) -> None:
    from playwright.sync_api import expect

    before = ids(page)
    with page.expect_response(re.compile("/api/random")):
        page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#summary")).to_contain_text("Random selection")
    assert ids(page) != before


# Lightbox ---------------------------------------------------------------------------------


def open_first(page: Page) -> Locator:
    """Opens the first photo by keyboard."""
    tiles(page).first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Photo")
    dialog.wait_for()
    return dialog


def test_the_lightbox_by_keyboard_returns_focus_to_the_tile(page: Page) -> None:
    from playwright.sync_api import expect

    dialog = open_first(page)
    expect(dialog).to_contain_text(f"1 of {IMAGES}")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text(f"2 of {IMAGES}")
    dialog.get_by_role("button", name="Next photo").click()
    dialog.get_by_role("button", name="Previous photo").click()
    expect(page).to_have_url(re.compile(r"#\d+$"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    # The browser goes back asynchronously.
    expect(page).not_to_have_url(re.compile("#"))
    # The focus is on the photo shown last.
    expect(page.locator('.tile[aria-posinset="2"] > a')).to_be_focused()


def test_zoom_and_pan_by_mouse_and_keyboard(page: Page) -> None:
    from playwright.sync_api import expect

    dialog = open_first(page)
    image = dialog.get_by_role("img").first
    fitted = image.bounding_box()
    assert fitted
    x, y = fitted["x"] + fitted["width"] / 4, fitted["y"] + fitted["height"] / 4
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function(
        """(width) => document.querySelector(".stage > img")
            .getBoundingClientRect().width > 2 * width""",
        arg=fitted["width"],
    )
    zoomed = image.bounding_box()
    assert zoomed
    # The point under the pointer stays in place.
    assert (x - zoomed["x"]) / zoomed["width"] == pytest.approx(0.25, abs=0.02)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=3)
    page.mouse.up()
    moved = image.bounding_box()
    assert moved
    assert moved["x"] - zoomed["x"] == pytest.approx(60, abs=2)
    page.keyboard.press("0")
    expect(image).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    expect(image).not_to_have_css("transform", re.compile(r"^matrix\(1, 0, 0, 1"))
    page.mouse.dblclick(x, y)
    expect(image).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")


def test_details_captions_and_similar_photos_are_shown(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    located, told = next(
        (hit, told)
        for hit in get(address, "/api/search", k=1000)["hits"]
        if hit["latitude"] is not None
        if (told := get(address, f"/api/images/{hit['id']}", words=1))["words"]
    )
    page.goto(f"{address}#{located['id']}")
    details = page.get_by_role("complementary", name="Details")
    for known in (located["name"], str(located["taken_at"][:4]), located["camera"], "MP"):
        expect(details).to_contain_text(known)
    expect(details).to_contain_text(f"{located['width']:,} × {located['height']:,}")
    expect(details).to_contain_text(told["words"][0]["text"])
    expect(details).to_contain_text(located["folder"])
    # The map is on another host: a link, never loaded.
    link = details.get_by_role("link", name="OpenStreetMap")
    expect(link).to_be_hidden()
    details.locator("summary").click()
    expect(link).to_be_visible()
    expect(details.get_by_role("link", name="Open", exact=True)).to_have_attribute(
        "href", f"images/{located['id']}"
    )
    details.get_by_role("button", name="Copy path").click()
    # Inside the dialog, which hides the rest of the page.
    expect(page.locator("dialog[open]").get_by_role("status")).to_contain_text("Path copied")
    assert page.evaluate("() => navigator.clipboard.readText()").endswith(located["path"])
    with page.expect_download() as download:
        details.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == located["name"]
    near = details.locator(".near button").first
    name = near.get_attribute("aria-label") or ""
    near.click()
    expect(details.get_by_role("heading", name=name)).to_be_visible()
    words = details.locator(".tags a").first
    text = words.inner_text()
    searched(page, words.click)
    expect(page.locator("#q")).to_have_value(text)


# Selection ------------------------------------------------------------------------------------


def test_selection_by_mouse_copies_paths(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    tray = page.get_by_role("region", name="Selected photos")
    tiles(page).nth(1).hover()
    page.get_by_role("button", name="Select (x)").click()
    expect(tray).to_contain_text("1 selected")
    tiles(page).nth(4).click(modifiers=["Shift"])
    expect(tray).to_contain_text("4 selected")
    tiles(page).nth(2).click()
    expect(tray).to_contain_text("3 selected")
    tray.get_by_role("button", name="Copy paths").click()
    expect(page.get_by_role("status")).to_contain_text("3 paths copied")
    hits = get(address, "/api/search", k=10)["hits"]
    wanted = {hits[n]["absolute"] for n in (1, 3, 4)}
    assert set(page.evaluate("() => navigator.clipboard.readText()").split("\n")) == wanted
    page.keyboard.press("Escape")
    expect(tray).to_be_hidden()


def test_selection_by_keyboard_finds_similar(page: Page) -> None:
    from playwright.sync_api import expect

    tray = page.get_by_role("region", name="Selected photos")
    tiles(page).first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(tray).to_contain_text("3 selected")
    chosen = ids(page)[:3]
    found = searched(page, tray.get_by_role("button", name="Find similar").click, "like")
    assert found["query"] == " ".join(f"like:{id}" for id in chosen)


def test_the_selection_downloads_as_a_zip(page: Page, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    tiles(page).first.focus()
    page.keyboard.press("Shift+ArrowRight")
    tray = page.get_by_role("region", name="Selected photos")
    expect(tray).to_contain_text("2 selected")
    with page.expect_download() as download:
        tray.get_by_role("button", name="Download zip").click()
    download.value.save_as(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert len(archive.namelist()) == 2
        assert archive.testzip() is None


def test_a_long_press_selects_on_a_phone(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, **PHONE) as page:
        page.wait_for_load_state("networkidle")  # later content moves the tiles
        tray = page.get_by_role("region", name="Selected photos")
        with long_press(page, tiles(page).nth(1)):
            expect(tray).to_contain_text("1 selected")
        tiles(page).nth(2).tap()
        expect(tray).to_contain_text("2 selected")
