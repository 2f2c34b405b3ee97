"""The page in a real browser: what is kept, selections of everything, jumps to a date, duplicates,
sizes, the slideshow."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
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
    wait_for_module,
)
from helpers_serving import get, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

LAST = IMAGES - BURST
"""Results without a query: the burst is folded into one."""


@pytest.fixture(scope="module")
def address(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a copy of the gallery is served: what is kept in it is this module's."""
    copy = tmp_path_factory.mktemp("kept") / "library"
    shutil.copytree(gallery / "library", copy)
    with serving("--library", copy) as found:
        yield found


def test_favourites_are_toggled_by_key_button_and_in_the_lightbox(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    first, second, third = ids(page)[:3]

    def favourites() -> list[int]:
        return list(get(address, "/api/collections/1/images")["ids"])

    def changed(act: object) -> None:
        with page.expect_response(re.compile(r"/api/collections/1/(add|remove)")):
            act()  # type: ignore[operator]

    tiles(page).nth(0).focus()
    changed(lambda: page.keyboard.press("f"))
    expect(tiles(page).nth(0)).to_have_accessible_name(re.compile("favourite"))
    tiles(page).nth(1).hover()
    button = page.locator("#results").get_by_role("button", name="Favourite (f)")
    changed(button.click)
    tiles(page).nth(2).click()
    dialog = page.get_by_role("dialog", name="Photo")
    heart = dialog.get_by_role("button", name="Favourite (f)")
    changed(heart.click)
    expect(heart).to_have_attribute("aria-pressed", "true")
    assert favourites() == [first, second, third]
    changed(lambda: page.keyboard.press("f"))
    page.keyboard.press("Escape")
    page.wait_for_url(address)  # a reload before that would open the photo again
    page.reload()
    expect(page.locator("#results .heart")).to_have_count(2)
    search(page, "is:favourite")
    assert sorted(ids(page)) == sorted([first, second])


def test_searches_are_saved_listed_and_deleted(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    search(page, "windmill")
    page.get_by_role("button", name="Save this search").click()
    menu = page.get_by_role("dialog", name="Save search")
    menu.get_by_role("textbox").fill("Mills & <b>more</b>")
    menu.get_by_role("button", name="Save").click()
    expect(menu).to_have_count(0)
    (saved,) = get(address, "/api/searches")["searches"]
    assert (saved["name"], saved["query"]) == ("Mills & <b>more</b>", "windmill")
    page.wait_for_function("() => localStorage.getItem('recent')?.includes('windmill')")
    page.get_by_role("button", name="Clear search").click()
    panel = page.locator("#start")
    expect(panel.get_by_role("heading")).to_have_text(
        [re.compile(name) for name in ("Saved", "Recent", "Collections", "Folders")]
    )
    # By keyboard: the first row below the box.
    found = searched(
        page,
        lambda: (page.press("#q", "ArrowDown"), page.keyboard.press("Enter")),
        "q=windmill&",
    )
    assert found["query"] == "windmill"
    # Once nothing is searched, nothing becomes a recent search.
    searched(page, page.get_by_role("button", name="Clear search").click, "q=&")
    panel.get_by_role("button", name="Clear", exact=True).click()
    expect(panel.get_by_role("heading", name="Recent")).to_have_count(0)
    assert page.evaluate("localStorage.getItem('recent')") is None
    panel.get_by_role("button", name="Delete Mills").click()
    expect(panel.get_by_role("heading", name="Saved")).to_have_count(0)
    assert get(address, "/api/searches") == {"searches": []}
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()


def test_a_selection_becomes_a_collection_in_its_own_order(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    shown = ids(page)[:3]
    for n in range(3):
        tiles(page).nth(n).focus()
        page.keyboard.press("x")
    tray = page.get_by_role("region", name="Selected photos")
    tray.get_by_role("button", name="Collection").click()
    menu = page.get_by_role("dialog", name="Add to collection")
    name = menu.get_by_role("textbox")
    name.fill('no "quotes"')
    name.press("Enter")
    expect(menu.get_by_role("alert")).to_contain_text("double quotes")
    name.fill("Lake & Sea")
    name.press("Enter")
    expect(page.locator("#toast")).to_contain_text("Added to Lake & Sea (3)")
    tray.get_by_role("button", name="Clear selection").click()
    search(page, 'collection:"Lake & Sea"')
    assert ids(page) == shown
    expect(page.locator("#summary")).to_contain_text("in its own order")
    tiles(page).nth(2).focus()
    page.keyboard.press("x")
    searched(page, tray.get_by_role("button", name="To start").click)
    assert ids(page) == [shown[2], shown[0], shown[1]]
    searched(page, tray.get_by_role("button", name="Remove").click)
    assert ids(page) == shown[:2]


def test_all_results_are_selected_not_only_those_loaded(page: Page) -> None:
    from playwright.sync_api import expect

    tray = page.get_by_role("region", name="Selected photos")
    tiles(page).first.focus()
    page.keyboard.press("Control+a")
    expect(tray).to_contain_text(f"{IMAGES} selected")
    tray.get_by_role("button", name="Copy paths").click()
    expect(page.locator("#toast")).to_contain_text(f"{IMAGES} paths copied")
    paths = page.evaluate("navigator.clipboard.readText()").split("\n")
    assert len(set(paths)) == IMAGES
    page.keyboard.press("Escape")
    # Also while the focus is on an action of the selection.
    tiles(page).first.focus()
    page.keyboard.press("x")
    tray.get_by_role("button", name="Copy paths").focus()
    page.keyboard.press("Control+a")
    expect(tray).to_contain_text(f"{IMAGES} selected")
    page.keyboard.press("Escape")
    # Of a text query first the strong matches, then everything; a range reaches beyond the window.
    found = search(page, "windmill")
    tiles(page).first.focus()
    page.keyboard.press("Control+a")
    expect(tray).to_contain_text(re.compile(rf"^{found['good']}\d* selected|^\d+ selected"))
    assert int(re.findall(r"\d+", tray.inner_text())[0]) < IMAGES
    tray.get_by_role("button", name="Select all").click()
    expect(tray).to_contain_text(f"{IMAGES} selected")
    page.keyboard.press("Escape")
    tiles(page).first.focus()
    page.keyboard.press("Shift+End")
    expect(tray).to_contain_text(f"{IMAGES} selected")


def test_dragging_selects_by_mouse_and_by_finger(
    page: Page, browser: Browser, address: str
) -> None:
    from playwright.sync_api import expect

    tray = page.get_by_role("region", name="Selected photos")
    first, third = tiles(page).nth(0).bounding_box(), tiles(page).nth(2).bounding_box()
    assert first
    assert third
    tiles(page).first.hover()
    page.locator("#results .actions").wait_for()
    page.mouse.move(4, first["y"] + 10)  # beside the photos
    page.mouse.down()
    wait_for_module(page, "drag_select.js")
    page.mouse.move(60, first["y"] + 20)
    page.mouse.move(third["x"] + 20, third["y"] + 40, steps=4)
    page.mouse.up()
    expect(tray).to_contain_text("3 selected")
    expect(page.get_by_role("dialog", name="Photo")).to_have_count(0)
    with open_page(browser, address, **PHONE) as phone:
        tiles(phone).first.wait_for()
        phone.wait_for_load_state("networkidle")  # what notices a long press is loaded
        with long_press(phone, tiles(phone).nth(0)) as move:
            move(tiles(phone).nth(4))
        expect(phone.get_by_role("region", name="Selected photos")).to_contain_text("5 selected")


def test_the_dates_at_the_right_jump_through_all_results(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    order = get(address, "/api/order", q="")
    assert order["results"] == LAST
    page.mouse.wheel(0, 1200)
    dates = page.get_by_role("slider", name="Jump to a date")
    dates.wait_for()
    box = dates.bounding_box()
    assert box
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] - 2)
    page.mouse.down()
    page.mouse.up()
    last = f'#results .tile[aria-posinset="{LAST}"]'
    expect(page.locator(last)).to_be_visible()
    dates.focus()
    page.keyboard.press("Home")
    expect(dates).to_have_attribute("aria-valuenow", "0")
    expect(page.locator('#results .tile[aria-posinset="1"]')).to_be_visible()
    page.keyboard.press("PageDown")
    month = order["months"][int(dates.get_attribute("aria-valuenow") or 0)]
    expect(page.locator(f'#results .tile[aria-posinset="{month["offset"] + 1}"]')).to_be_visible()
    # End reaches the last at once, and the results before it follow upwards.
    tiles(page).first.focus()
    page.keyboard.press("End")
    expect(page.locator(f"{last} > a")).to_be_focused()
    page.keyboard.press("Home")
    expect(page.locator('#results .tile[aria-posinset="1"] > a')).to_be_focused()


def test_results_before_a_jump_appear_above_and_nothing_moves(
    browser: Browser, address: str
) -> None:
    from playwright.sync_api import expect

    context = {"viewport": {"width": 1280, "height": 720}}
    with open_page(browser, address, **context) as page:
        tiles(page).first.wait_for()
        page.evaluate(SHIFTS)
        tiles(page).first.focus()
        page.keyboard.press("End")
        last = page.locator(f'#results .tile[aria-posinset="{LAST}"]')
        expect(last.locator("a")).to_be_focused()
        for _ in range(400):
            if page.locator('#results .tile[aria-posinset="1"]').count():
                break
            page.mouse.wheel(0, -400)
            page.wait_for_timeout(60)
        expect(page.locator('#results .tile[aria-posinset="1"]')).to_be_visible()
        assert sorted(set(ids(page))) == sorted(ids(page)), "nothing is shown twice"
        assert page.evaluate("window.shifted") < 0.001


def test_thumbnails_have_three_sizes(page: Page) -> None:
    from playwright.sync_api import expect

    def height() -> float:
        box = tiles(page).first.bounding_box()
        assert box
        return box["height"]

    medium = height()
    tiles(page).first.hover()
    page.locator("#results .actions").wait_for()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -120)
    page.keyboard.up("Control")
    page.wait_for_function("() => localStorage.getItem('size') === '2'")
    assert height() > 1.2 * medium
    button = page.locator("#size")
    button.press("Enter")
    expect(button).to_have_accessible_name("Thumbnail size: small")
    assert height() < 0.9 * medium
    page.reload()
    # In one step: a page that has just loaded replaces its tiles.
    page.wait_for_function(
        """(limit) => {
            const tile = document.querySelector("#results .tile > a");
            return tile && tile.getBoundingClientRect().height < limit;
        }""",
        arg=0.9 * medium,
    )


def test_a_slideshow_a_small_photo_and_the_way_to_its_folder_and_day(page: Page) -> None:
    from playwright.sync_api import expect

    page.set_viewport_size({"width": 1800, "height": 1200})
    shown = ids(page)
    tiles(page).nth(1).click()
    dialog = page.get_by_role("dialog", name="Photo")
    image = dialog.locator(".stage > img")
    large = image.bounding_box()
    assert large
    page.keyboard.press("z")  # its own size
    page.wait_for_function(
        """(width) => document.querySelector(".stage > img")
            .getBoundingClientRect().width < width - 20""",
        arg=large["width"],
    )
    page.clock.install()
    page.clock.pause_at(page.evaluate("Date.now() + 1000"))
    dialog.get_by_role("button", name="Slideshow (p)").click()
    stage = dialog.locator(".stage")
    expect(stage).to_have_class(re.compile("playing"))
    page.wait_for_function("() => document.fullscreenElement?.matches('.stage')")
    page.clock.fast_forward(5000)
    expect(page).to_have_url(re.compile(f"#{shown[2]}$"))
    page.keyboard.press("p")
    expect(stage).not_to_have_class(re.compile("playing"))
    page.wait_for_function("() => !document.fullscreenElement")
    page.clock.resume()
    for name, filter in (("That day", "date"), ("Show in folder", "in")):
        link = dialog.get_by_role("button", name=name)
        found = searched(page, link.click)
        assert found["query"].startswith(f"{filter}:")
        focused = page.locator(f'#results a[href="#{shown[2]}"]')
        expect(focused).to_be_focused()
        focused.press("Enter")
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("#"))  # a reload before that would open it again
    page.set_viewport_size({"width": 990, "height": 700})
    page.reload()
    tiles(page).first.click()
    expect(dialog.get_by_role("complementary")).to_be_hidden()


def test_more_like_this_does_not_count_the_photo_itself(page: Page) -> None:
    from playwright.sync_api import expect

    tiles(page).first.focus()
    found = searched(page, lambda: page.keyboard.press("s"))
    expect(page.locator("#summary")).to_contain_text(f"of {found['total'] - 1:,}")
    expect(page.locator("#summary")).not_to_contain_text("ms")
    page.locator("#status-open").click()
    expect(page.get_by_role("dialog", name="This library")).to_contain_text(" ms")


def test_duplicates_are_compared_and_a_script_removes_the_rest(
    browser: Browser, gallery: Path, tmp_path: Path
) -> None:
    """The script is run on real files with names that need quoting."""
    from playwright.sync_api import expect

    from sightline.server.cli import run

    pictures = tmp_path / "it's $(here) \u2019"
    pictures.mkdir()
    originals = sorted((gallery / "pictures").rglob("*.jpg"))[:3]
    for n, original in enumerate(originals):
        shutil.copy(original, pictures / f"{n}.jpg")
    copy = pictures / "-rf 'a' `b`\n.jpg"
    shutil.copy(originals[0], copy)
    place = ["--library", str(tmp_path / "library")]
    assert run(["index", str(pictures), *place, "--model", "builtin", "--quiet"]) == 0
    with (
        serving(*place) as address,
        open_page(browser, address, "duplicates", accept_downloads=True) as page,
    ):
        group = page.locator(".group")
        expect(group).to_have_count(1)
        expect(group.locator("li")).to_have_count(2)
        keep = group.get_by_role("checkbox")
        expect(keep.first).to_be_checked()
        expect(keep.last).not_to_be_checked()
        keep.first.press("Space")
        expect(group).to_contain_text("this group is left out")
        bar = page.get_by_role("region", name="Files that are not kept")
        expect(bar.get_by_role("button", name="Shell script", exact=True)).to_be_disabled()
        kept = group.locator("li", has_text="0.jpg")
        kept.get_by_role("checkbox").check()
        with page.expect_download() as download:
            bar.get_by_role("button", name="Shell script", exact=True).click()
        script = Path(download.value.path()).read_text()
        with page.expect_download() as download:
            bar.get_by_role("button", name="PowerShell script").click()
        powershell = Path(download.value.path()).read_text()
    assert (
        f"'{str(copy).replace(chr(39), chr(39) * 2).replace(chr(8217), chr(8217) * 2)}'"
        in powershell
    )
    subprocess.run(["sh"], input=script, text=True, check=True, timeout=120)
    assert sorted(path.name for path in pictures.iterdir()) == ["0.jpg", "1.jpg", "2.jpg"]
    changed = script.replace("0.jpg", "1.jpg")  # no longer the same file
    shutil.copy(originals[0], copy)
    subprocess.run(["sh"], input=changed, text=True, check=True, timeout=120)
    assert copy.exists()
