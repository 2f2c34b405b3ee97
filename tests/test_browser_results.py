"""The page in a real browser: looking through results, at one of them, and choosing some."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_browser import BURST, PICTURES, SHIFTS, answered, ids, looking, search, tiles
from helpers_serving import get

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser


def test_rows_have_the_pictures_shapes_and_nothing_moves(browser: Browser, address: str) -> None:
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
        assert srcset.count("/thumbnails/") == 2
    context.close()


def test_scrolling_reaches_the_last_picture_and_keeps_few(page: Page) -> None:
    from playwright.sync_api import expect

    assert tiles(page).count() < PICTURES / 2
    page.mouse.move(400, 400)
    with page.expect_response(re.compile("offset=120")):
        page.mouse.wheel(0, 100_000)
    page.mouse.wheel(0, 100_000)
    expect(page.locator("#end")).to_have_text("End of results")
    page.mouse.wheel(0, 100_000)
    last = page.locator(f'#results .tile[aria-posinset="{PICTURES - BURST}"]')
    expect(last).to_be_visible()
    assert tiles(page).count() < PICTURES / 2
    page.keyboard.press("Home")


def test_the_arrows_walk_through_the_rows(page: Page) -> None:
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


def test_a_line_stands_where_good_matches_end(page: Page) -> None:
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


def test_near_identical_shots_are_one_until_they_are_spread_out(page: Page, address: str) -> None:
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


def test_a_month_of_the_timeline_filters(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    month = max(get(address, "/api/timeline")["months"], key=lambda month: month["count"])
    bar = page.locator("#timeline button").filter(has_text="").nth(0)
    year, number = month["month"].split("-")
    names = "January February March April May June July August September October November December"
    name = f"{names.split()[int(number) - 1]} {year}"
    bar = page.get_by_role("button", name=re.compile(f"^{name}, {month['count']} photo"))
    found = answered(page, bar.click, "after")
    assert found["total"] == month["count"]
    assert {hit["taken_at"][:7] for hit in found["hits"]} == {month["month"]}
    expect(bar).to_have_attribute("aria-pressed", "true")
    answered(page, bar.click)
    expect(page.locator("#q")).to_have_value("")
    # By keyboard: one stop, arrows between the months.
    page.locator("#timeline button").first.focus()
    page.keyboard.press("ArrowRight")
    answered(page, lambda: page.keyboard.press("Enter"), "after")
    page.get_by_role("button", name="Timeline").click()
    expect(page.locator("#timeline")).to_be_hidden()


def test_pictures_that_came_meanwhile_are_offered(page: Page) -> None:
    """The number of pictures is another one; what is looked at stays until it is asked for."""
    from playwright.sync_api import Route, expect

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
    answered(page, offer.click, "snow")
    expect(offer).to_have_count(0)


def test_surprise_me_shows_others(page: Page) -> None:
    from playwright.sync_api import expect

    before = ids(page)
    with page.expect_response(re.compile("/api/random")):
        page.get_by_role("button", name="Surprise me").click()
    expect(page.locator("#summary")).to_contain_text("Random selection")
    assert ids(page) != before


# One picture ---------------------------------------------------------------------------------


def look(page: Page) -> Locator:
    """Opens the first picture by keyboard."""
    tiles(page).first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Photo")
    dialog.wait_for()
    return dialog


def test_the_keyboard_looks_closely_turns_pages_and_comes_back(page: Page) -> None:
    from playwright.sync_api import expect

    dialog = look(page)
    expect(dialog).to_contain_text(f"1 of {PICTURES}")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text(f"2 of {PICTURES}")
    dialog.get_by_role("button", name="Next photo").click()
    dialog.get_by_role("button", name="Previous photo").click()
    expect(page).to_have_url(re.compile(r"#\d+$"))
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    # Going back is the browser's to do, a moment later.
    expect(page).not_to_have_url(re.compile("#"))
    # The focus is where the person was.
    expect(page.locator('.tile[aria-posinset="2"] > a')).to_be_focused()


def test_a_picture_is_zoomed_and_moved_by_mouse_and_keyboard(page: Page) -> None:
    from playwright.sync_api import expect

    dialog = look(page)
    picture = dialog.get_by_role("img").first
    fitted = picture.bounding_box()
    assert fitted
    x, y = fitted["x"] + fitted["width"] / 4, fitted["y"] + fitted["height"] / 4
    page.mouse.move(x, y)
    page.mouse.wheel(0, -600)
    page.wait_for_function(
        """(width) => document.querySelector(".stage > img")
            .getBoundingClientRect().width > 2 * width""",
        arg=fitted["width"],
    )
    zoomed = picture.bounding_box()
    assert zoomed
    # What was under the pointer still is.
    assert (x - zoomed["x"]) / zoomed["width"] == pytest.approx(0.25, abs=0.02)
    page.mouse.down()
    page.mouse.move(x + 60, y + 30, steps=3)
    page.mouse.up()
    moved = picture.bounding_box()
    assert moved
    assert moved["x"] - zoomed["x"] == pytest.approx(60, abs=2)
    page.keyboard.press("0")
    expect(picture).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    expect(picture).not_to_have_css("transform", re.compile(r"^matrix\(1, 0, 0, 1"))
    page.mouse.dblclick(x, y)
    expect(picture).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")


def test_what_is_known_of_a_picture_is_told(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    located = next(
        hit for hit in get(address, "/api/search", k=1000)["hits"] if hit["latitude"] is not None
    )
    page.goto(f"{address}#{located['id']}")
    details = page.get_by_role("complementary", name="Details")
    told = get(address, f"/api/images/{located['id']}", words=1)
    for known in (located["name"], str(located["taken_at"][:4]), located["camera"], "MP"):
        expect(details).to_contain_text(known)
    expect(details).to_contain_text(f"{located['width']:,} × {located['height']:,}")
    expect(details).to_contain_text(told["words"][0]["text"])
    expect(details).to_contain_text(located["folder"])
    # A map is elsewhere: it is offered once the place itself is asked for, never loaded.
    link = details.get_by_role("link", name="OpenStreetMap")
    expect(link).to_be_hidden()
    details.get_by_text(re.compile(r"^-?\d+\.\d{5}, ")).click()
    expect(link).to_be_visible()
    expect(details.get_by_role("link", name="Open", exact=True)).to_have_attribute(
        "href", f"/images/{located['id']}"
    )
    details.get_by_role("button", name="Copy path").click()
    # Said within the large view, which hides everything else.
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
    answered(page, words.click)
    expect(page.locator("#q")).to_have_value(text)


# Choosing ------------------------------------------------------------------------------------


def test_pictures_are_chosen_by_mouse_and_their_paths_copied(page: Page, address: str) -> None:
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


def test_pictures_are_chosen_by_keyboard_and_searched_with(page: Page) -> None:
    from playwright.sync_api import expect

    tray = page.get_by_role("region", name="Selected photos")
    tiles(page).first.focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(tray).to_contain_text("3 selected")
    chosen = ids(page)[:3]
    found = answered(page, tray.get_by_role("button", name="Find similar").click, "like")
    assert found["query"] == " ".join(f"like:{id}" for id in chosen)


def test_chosen_pictures_come_as_a_zip(page: Page, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    tiles(page).first.focus()
    page.keyboard.press("Shift+ArrowRight")
    tray = page.get_by_role("region", name="Selected photos")
    expect(tray).to_contain_text("2 selected")
    with page.expect_download() as download:
        tray.get_by_role("button", name="Download zip").click()
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert len(archive.namelist()) == 2
        assert archive.testzip() is None


def test_a_long_press_chooses_on_a_phone(browser: Browser, address: str) -> None:
    from helpers_browser import PHONE
    from playwright.sync_api import expect

    with looking(browser, address, **PHONE) as page:
        page.wait_for_load_state("networkidle")  # what arrives later moves the pictures
        tiles(page).nth(1).wait_for()
        box = tiles(page).nth(1).bounding_box()
        assert box
        session = page.context.new_cdp_session(page)
        point = {"x": box["x"] + 20, "y": box["y"] + 20}
        session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
        tray = page.get_by_role("region", name="Selected photos")
        expect(tray).to_contain_text("1 selected")
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        tiles(page).nth(2).tap()
        expect(tray).to_contain_text("2 selected")
