"""The page in a real browser: text, filters and the address."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from helpers_browser import IMAGES, PHONE, ids, open_page, search, searched, tiles, touch
from helpers_serving import get

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


def test_an_empty_query_lists_all_photos_newest_first(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#summary")).to_contain_text(f"{IMAGES} photos")
    expect(page.locator("#count")).to_have_text(str(IMAGES))
    newest = get(address, "/api/search", k=5)["hits"]
    assert ids(page)[:5] == [hit["id"] for hit in newest]


def test_typing_searches_without_a_page_load(page: Page) -> None:
    page.evaluate("() => (window.still = true)")
    page.keyboard.press("/")
    found = searched(page, lambda: page.keyboard.type("a sailboat on a lake", delay=20), "lake")
    assert ids(page)[:3] == [hit["id"] for hit in found["hits"]][:3]
    assert "q=a+sailboat+on+a+lake" in page.url
    assert "sailboat" in page.title()
    assert page.evaluate("() => window.still")


def test_back_forward_and_reload_restore_searches(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "snow")
    page.click("#clear")
    search(page, "is:portrait")
    shown = ids(page)[:5]
    page.go_back()
    page.go_back()
    expect(page.locator("#q")).to_have_value("snow")
    page.go_forward()
    page.go_forward()
    portrait = page.get_by_role("group", name="is: portrait")
    expect(portrait).to_be_visible()
    expect(page.locator("#q")).to_have_value("")
    page.reload()
    expect(portrait).to_be_visible()
    tiles(page).first.wait_for()
    assert ids(page)[:5] == shown


def test_a_link_opens_a_search_and_a_photo(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    found = get(address, "/api/search", q="is:portrait")
    with open_page(browser, address, f"?q=is:portrait#{found['hits'][1]['id']}") as page:
        expect(page.get_by_role("dialog", name="Photo")).to_contain_text(found["hits"][1]["name"])
        page.keyboard.press("Escape")
        expect(page.locator("#summary")).to_contain_text(f"{found['total']} photo")


def test_a_date_in_words_is_a_chip_and_without_it_the_words_are_words(
    page: Page, address: str
) -> None:
    from playwright.sync_api import expect

    (newest,) = get(address, "/api/search", k=1)["hits"]
    month = datetime.fromisoformat(newest["taken_at"])
    words = f"{month:%B %Y}"
    chip, box = page.get_by_role("group", name=f"Date: {words}"), page.locator("#q")
    page.keyboard.press("/")
    found = searched(page, lambda: page.keyboard.type(f"boat {words}", delay=20), str(month.year))
    assert found["total"] == get(address, "/api/search", q=f"date:{month:%Y-%m}")["total"] < IMAGES
    expect(chip).to_contain_text(f"{words} {month:%Y-%m}")
    expect(box).to_have_value(f"boat {words}")
    page.reload()
    expect(chip).to_be_visible()
    close = chip.get_by_role("button", name=f"Search for the words “{words}” instead")
    assert searched(page, close.click)["total"] == IMAGES
    expect(chip).to_have_count(0)
    expect(box).to_have_value(f'"boat {words}"')
    page.reload()
    tiles(page).first.wait_for()
    expect(box).to_have_value(f'"boat {words}"')
    expect(chip).to_have_count(0)
    page.go_back()
    expect(chip).to_be_visible()
    expect(box).to_have_value(f"boat {words}")


def test_words_that_may_be_a_date_are_offered_as_one(page: Page) -> None:
    from playwright.sync_api import expect

    assert search(page, "boat summer")["total"] == IMAGES
    offer = page.get_by_role("button", name=re.compile(r"^Taken \d{4}-06\.\.\d{4}-08\?$"))
    expect(offer).to_be_visible()
    searched(page, offer.click, "date")
    expect(page.locator("#q")).to_have_value("boat")
    expect(page.get_by_role("group", name=re.compile(r"^date: \d{4}-06"))).to_be_visible()


def test_filters_are_suggested_while_they_are_typed(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    box, menu = page.locator("#q"), page.locator("#suggestions")
    box.focus()
    page.keyboard.type("snow ", delay=20)
    page.keyboard.insert_text("came")  # suggestions for a part of it would be replaced later
    expect(menu.get_by_role("option").first).to_have_text(re.compile("camera:"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(box).to_have_value("snow camera:")
    offered = menu.get_by_role("option").filter(has_text="Canon")
    searched(page, offered.click, "Canon")
    # The filter is a chip; the box holds the words.
    expect(page.get_by_role("group", name=re.compile("camera: .*Canon"))).to_be_visible()
    expect(box).to_have_value("snow ")
    expect(menu).to_be_hidden()
    page.fill("#q", "")
    page.keyboard.type("before:20", delay=20)
    expect(menu.get_by_role("option").first).to_have_text(re.compile(r"before:20\d\d"))
    page.keyboard.press("Escape")
    expect(menu).to_be_hidden()


def test_an_incomplete_filter_is_not_an_error_until_enter(page: Page) -> None:
    from playwright.sync_api import expect

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#q").focus()
    page.keyboard.type("after:20", delay=300)
    assert not [url for url in asked if "search?q=after%3A" in url]
    expect(page.locator("#notice.bad")).to_have_count(0)
    page.keyboard.press("Enter")
    # On the page, not in the console: `page` fails on console messages.
    expect(page.locator("#notice.bad")).to_contain_text("after:20 should hold a day")
    page.fill("#q", "")
    page.keyboard.type("after:2020 is:portrait", delay=20)
    expect(page.locator("#notice.bad")).to_have_count(0)
    expect(page.get_by_role("group", name="is: portrait")).to_be_visible()


def test_a_missing_photo_is_reported(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, "?q=like:999999#999998") as page:
        expect(page.locator("#notice.bad")).to_contain_text("no image 999999")
        expect(page.get_by_role("status")).to_contain_text("no image 999998")


def test_chips_set_weights_negate_and_remove(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, 'tree "red house" is:landscape')
    chips, box = page.locator("#chips"), page.locator("#q")
    house = chips.get_by_role("group", name="red house", exact=True)
    searched(page, lambda: house.get_by_label("Weight of red house").select_option("×2"))
    expect(box).to_have_value('tree 2:"red house"')
    searched(page, house.get_by_role("button", name="Less like this").click)
    expect(box).to_have_value('tree -2:"red house"')
    landscape = chips.get_by_role("group", name="is: landscape")
    inverted = searched(page, landscape.get_by_role("button", name="Invert").click)
    assert inverted["query"] == 'tree -2:"red house" -is:landscape'
    # By keyboard; the focus stays in the chips.
    house.get_by_role("button", name="Remove red house").focus()
    removed = searched(page, lambda: page.keyboard.press("Enter"))
    assert removed["query"] == "tree -is:landscape"
    expect(box).to_have_value("tree")
    expect(chips.locator(":focus")).to_have_count(1)


def test_filters_are_chips_and_the_box_holds_words(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    box, chips = page.locator("#q"), page.locator("#chips .chip")

    def shown() -> list[str]:
        return chips.evaluate_all("(all) => all.map((chip) => chip.ariaLabel)")

    # A month is one chip; `/` and typing replace words only.
    bar = page.locator("#timeline button:enabled").first
    month = (bar.get_attribute("aria-label") or "").split(",")[0]
    searched(page, bar.click, "after")
    expect(box).to_have_value("")
    expect(chips).to_have_count(1)
    assert shown() == [month]
    page.keyboard.press("/")
    found = searched(page, lambda: page.keyboard.type("windmill"), "windmill")
    assert found["query"].startswith("windmill after:20")
    page.keyboard.press("Control+k")
    found = searched(page, lambda: page.keyboard.type("boat"), "=boat")
    assert found["query"].startswith("boat after:20")
    # A typed filter becomes a chip when it is complete, wherever it stands.
    page.keyboard.press("Home")
    page.keyboard.type('-in:"no such" ')
    expect(box).to_have_value("boat")
    expect(chips).to_have_count(2)
    assert shown() == [month, "in: no such"]
    searched(page, lambda: page.keyboard.type("red "), "red\\+boat")
    # Its text leads back to the box; Enter makes it a chip again.
    page.get_by_role("button", name="Edit in: no such").click()
    expect(box).to_have_value('red boat -in:"no such"')
    box.press("End")
    # The quote is open for a while, and swallows no other filter.
    page.keyboard.press("Backspace")
    found = searched(page, lambda: page.keyboard.press("Backspace"), "suc%22")
    assert re.fullmatch(r'red boat -in:"no suc" after:\S+ before:\S+', found["query"])
    page.keyboard.type('h folder"')
    searched(page, lambda: page.keyboard.press("Enter"), "folder")
    expect(box).to_have_value("red boat")
    expect(chips.last).to_have_attribute("aria-label", "in: no such folder")
    # Backspace at the start removes the last chip; sorting leaves no text.
    page.keyboard.press("Home")
    searched(page, lambda: page.keyboard.press("Backspace"))
    searched(page, lambda: page.select_option("#sort", "newest"), "newest")
    expect(box).to_have_value("red boat")
    assert shown() == [month]
    searched(page, page.get_by_role("button", name=f"Remove {month}").click)
    assert "q=red+boat+sort%3Anewest" in page.url
    page.go_back()
    expect(chips).to_have_count(1)


def test_match_all_parts_toggles(page: Page, address: str) -> None:
    from playwright.sync_api import expect

    search(page, '"a dog" "snow"')
    every = page.get_by_role("button", name="Match all parts")
    expect(every).to_have_attribute("aria-pressed", "false")
    found = searched(page, every.click, "match")
    expect(every).to_have_attribute("aria-pressed", "true")
    assert "match%3Aall" in page.url
    expect(page.locator("#q")).to_have_value('a dog "snow"')
    wanted = get(address, "/api/search", q='"a dog" "snow" match:all')["hits"]
    assert [hit["id"] for hit in found["hits"][:5]] == [hit["id"] for hit in wanted[:5]]


def test_strong_matches_are_sorted_by_date(page: Page) -> None:
    from playwright.sync_api import expect

    good = search(page, "a yellow bus in a city street")["good"]
    assert good > 1
    expect(page.locator("#summary")).to_contain_text(f"{good} strong matches")
    found = searched(page, lambda: page.select_option("#sort", "newest"), "sort%3Anewest")
    dates = [hit["taken_at"] for hit in found["hits"]]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == good
    oldest = searched(page, lambda: page.select_option("#sort", "oldest"), "sort%3Aoldest")
    assert [hit["taken_at"] for hit in oldest["hits"]] == sorted(dates)
    searched(page, lambda: page.select_option("#sort", "relevance"))
    expect(page.locator("#q")).to_have_value("a yellow bus in a city street")


def test_no_results_and_no_strong_matches_are_reported(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "in:nowhere-at-all")
    expect(page.locator("#notice")).to_contain_text("No photos match these filters.")
    expect(tiles(page)).to_have_count(0)
    searched(page, lambda: page.click("#clear"), "q=&")
    top = "() => document.getElementById('results').offsetTop"
    before = page.evaluate(top)
    search(page, "a football match")
    expect(page.locator("#notice")).to_contain_text("No strong matches. Closest results:")
    # The notice takes the place of the timeline: nothing moves.
    assert page.evaluate(top) == before
    expect(page.locator("h1")).to_have_text(re.compile(r"^No strong matches of \d+"))
    expect(page.locator("#summary")).to_contain_text("No strong matches")
    expect(tiles(page).first).to_be_visible()


def test_a_misspelt_word_and_an_unknown_filter_are_corrected_on_request(page: Page) -> None:
    from playwright.sync_api import expect

    for typed, offered, query in (
        ("a lihgthouse", "lighthouse", "a lighthouse"),
        ("folder:Bergen snow", "in:Bergen", "in%3ABergen"),
    ):
        assert search(page, typed)["query"] == typed
        offer = page.get_by_role("button", name=f"Did you mean {offered}?")
        expect(offer).to_be_visible()
        expect(page.locator("#q")).to_have_value(typed)
        searched(page, offer.click)
        expect(page).to_have_url(re.compile("q=" + query.split()[0]))
        expect(offer).to_have_count(0)
        page.click("#clear")


def test_without_javascript_text_search_has_pages(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, java_script_enabled=False, **PHONE) as page:
        images = page.locator("ul.plain img")
        expect(images.first).to_be_visible()
        page.fill("#q", "a sailboat on a lake")
        page.keyboard.press("Enter")
        best = get(address, "/api/search", q="a sailboat on a lake")["hits"][0]["id"]
        expect(images.first).to_have_attribute("src", re.compile(f"/thumbnails/{best}\\b"))
        first = images.first.get_attribute("src")
        page.get_by_role("link", name="Next").click()
        expect(images.first).not_to_have_attribute("src", first or "")
        page.get_by_role("link", name="Previous").click()
        expect(images.first).to_have_attribute("src", first or "")
        page.fill("#q", "a lihgthouse")
        page.keyboard.press("Enter")
        page.get_by_role("link", name="lighthouse").click()
        expect(page.locator("#q")).to_have_value("a lighthouse")
    page = browser.new_context(java_script_enabled=False).new_page()
    page.goto(f"{address}?q=after:yesterday")
    expect(page.get_by_role("alert")).to_contain_text("after:yesterday should hold a day")
    page.context.close()


def test_a_phone_searches_and_swipes_without_horizontal_overflow(
    browser: Browser, address: str
) -> None:
    from playwright.sync_api import expect

    with open_page(browser, address, **PHONE) as page:
        tiles(page).first.wait_for()
        box = page.locator("#q")
        found = searched(page, lambda: box.press_sequentially("night is:landscape"), "landscape")
        expect(page.get_by_role("group", name="is: landscape")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        page.locator("#q").blur()
        tiles(page).first.tap()
        dialog = page.get_by_role("dialog", name="Photo")
        expect(dialog).to_be_visible()
        for start, end, place in ((300, 60, "2 of"), (300, 60, "3 of"), (60, 300, "2 of")):
            touch(page, [(start, 400)], [(end, 410)])
            expect(dialog).to_contain_text(place)
        # Vertical or short movements and panning a zoomed photo do not change the photo.
        touch(page, [(180, 500)], [(200, 300)])
        touch(page, [(180, 400)], [(150, 400)])
        touch(page, [(150, 400), (210, 400)], [(120, 400), (240, 400)])
        touch(page, [(300, 400)], [(60, 400)])
        touch(page, [(120, 400), (240, 400)], [(170, 400), (190, 400)])
        touch(page, [(60, 400)], [(300, 400)])
        expect(dialog).to_contain_text("1 of")
        dialog.get_by_role("button", name="Details").tap()
        expect(dialog).to_contain_text(found["hits"][0]["name"])
        dialog.get_by_role("button", name="Close").tap()
        expect(dialog).to_be_hidden()


def test_a_busy_server_is_retried(browser: Browser, address: str) -> None:
    from playwright.sync_api import Route, expect

    page, refused = browser.new_page(), []

    def busy_once(route: Route) -> None:
        if refused:
            route.continue_()
            return
        refused.append(route.request.url)
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"error": "busy"})

    page.route(re.compile(r"/api/search\?"), busy_once)
    page.goto(f"{address}?q=a+sailboat")
    expect(tiles(page).first).to_be_visible()
    assert refused
    expect(page.locator("#notice.bad")).to_have_count(0)
    page.close()
