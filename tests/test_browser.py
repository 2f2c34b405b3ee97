"""The page in a real browser: what a person does with it, by mouse, keyboard and address."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_serving import FLAGS, chromium, get, serving

from data.scenes import write_gallery
from server.cli import run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

PICTURES = 60
TOKEN = "a token of more than sixteen characters"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a drawn gallery and one file that is no picture, made with the built-in model."""
    place = tmp_path_factory.mktemp("browser")
    write_gallery(place / "pictures", count=PICTURES, seed=0)
    (place / "pictures" / "broken.jpg").write_text("no picture")
    arguments = ["index", place / "pictures", "--library", place / "library", "--model", "builtin"]
    assert run([*map(str, arguments), "--quiet"]) == 0
    return place / "library"


@pytest.fixture(scope="module")
def address(library: Path) -> Iterator[str]:
    with serving("--library", library) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page, opened; nothing may go wrong in it, nor leave this machine."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: problems.append(message.text) if message.type == "error" else None,
    )
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "blob:", "data:"))
            else problems.append(f"asked {request.url}")
        ),
    )
    page.goto(address)
    tiles(page).first.wait_for()
    yield page
    context.close()
    assert not problems


def tiles(page: Page):  # type: ignore[no-untyped-def]
    return page.locator("#results img")


def search(page: Page, query: str) -> None:
    """Types a query and waits for its answer."""
    with page.expect_response(re.compile(r"/api/search\?")):
        page.fill("#q", query)
        page.press("#q", "Enter")
    page.wait_for_function("() => !document.body.classList.contains('searching')")


def first(page: Page) -> str:
    """The address of the first picture."""
    return tiles(page).first.get_attribute("src") or ""


def test_an_empty_box_shows_everything(page: Page) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#summary")).to_contain_text(f"{PICTURES} pictures")
    expect(page.locator("#count")).to_have_text(str(PICTURES))


def test_words_find_pictures_and_the_address_holds_the_search(page: Page, address: str) -> None:
    search(page, "a sailboat on a lake")
    best = get(address, "/api/search", q="a sailboat on a lake")["hits"][0]["id"]
    assert f"/thumbnails/{best}" in first(page)
    assert "q=a+sailboat+on+a+lake" in page.url
    assert "sailboat" in page.title()


def test_back_and_forward_lead_through_the_searches(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "snow")
    page.click("#clear")
    search(page, "is:portrait")
    page.go_back()
    page.go_back()
    expect(page.locator("#q")).to_have_value("snow")
    page.go_forward()
    page.go_forward()
    expect(page.locator("#q")).to_have_value("is:portrait")


def test_a_link_to_a_search_opens_it(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(f"{address}?q=is:portrait")
    expect(page.locator("#q")).to_have_value("is:portrait")
    total = get(address, "/api/search", q="is:portrait")["total"]
    expect(page.locator("#summary")).to_contain_text(f"{total} picture")
    page.close()


def test_filters_become_chips_that_can_be_taken_out(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "tree is:landscape")
    chips = page.locator("#chips")
    expect(chips).to_contain_text("landscape")
    chips.get_by_role("button", name="Remove is: landscape").click()
    expect(page.locator("#q")).to_have_value("tree")


def test_nothing_that_matches_is_said(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "in:nowhere-at-all")
    expect(page.locator("#notice")).to_be_visible()
    expect(tiles(page)).to_have_count(0)


def test_a_query_that_cannot_be_understood_says_why(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(address)
    page.fill("#q", "after:yesterday")
    page.press("#q", "Enter")
    expect(page.locator("#notice.bad")).to_contain_text("after:")
    page.close()


def test_a_picture_is_searched_with_by_choosing_a_file(page: Page, library: Path) -> None:
    shown = next((library.parent / "pictures").rglob("*.jpg"))
    while shown.name == "broken.jpg":
        shown = sorted((library.parent / "pictures").rglob("*.jpg"))[1]
    with page.expect_response(re.compile(r"/api/search\?")) as answer:
        page.set_input_files("#files", shown)
    assert answer.value.json()["hits"][0]["name"] == shown.name
    assert page.locator("#thumbs img").count() == 1


def test_the_keyboard_looks_closely_turns_pages_and_comes_back(page: Page) -> None:
    from playwright.sync_api import expect

    page.locator("#results a").first.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Picture")
    expect(dialog).to_be_visible()
    expect(dialog).to_contain_text(f"1 of {PICTURES}")
    page.keyboard.press("ArrowRight")
    expect(dialog).to_contain_text(f"2 of {PICTURES}")
    assert re.search(r"#\d+$", page.url)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert "#" not in page.url


def test_similar_pictures_are_one_key_away(page: Page, address: str) -> None:
    link = page.locator("#results a").first
    link.focus()
    with page.expect_response(re.compile(r"/api/search\?")) as answer:
        page.keyboard.press("s")
    assert "like%3A" in answer.value.url
    page.wait_for_url("**/?q=like*")


def test_chosen_pictures_come_as_a_zip(page: Page, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page.locator("#results a").nth(0).focus()
    page.keyboard.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    expect(page.locator("#tray")).to_contain_text("2 chosen")
    with page.expect_download() as download:
        page.locator("#tray").get_by_role("button", name="Zip").click()
    download.value.save_as(tmp_path / "pictures.zip")
    with zipfile.ZipFile(tmp_path / "pictures.zip") as archive:
        assert len(archive.namelist()) == 2
        assert archive.testzip() is None


def test_dark_and_light_change_places(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.click("#theme")
    assert page.evaluate(ground) != before


def test_help_and_status_open_and_close(page: Page) -> None:
    from playwright.sync_api import expect

    page.click("#help-open")
    expect(page.locator("#help")).to_contain_text("in your own words")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.click("#status-open")
    expect(page.locator("#status")).to_contain_text("builtin")


def test_a_phone_shows_whole_rows_and_nothing_sticks_out(browser: Browser, address: str) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 740})
    page.goto(address)
    tiles(page).first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.close()


def test_the_failures_have_a_page(browser: Browser, address: str) -> None:
    from playwright.sync_api import expect

    page = browser.new_page()
    page.goto(f"{address}failures")
    expect(page.locator("main")).to_contain_text("broken.jpg")
    page.close()


def test_a_stranger_signs_in_with_the_token(
    browser: Browser, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from playwright.sync_api import expect

    monkeypatch.setenv("SIGHTLINE_TOKEN", TOKEN)
    with serving("--library", library) as address:
        page = browser.new_context().new_page()
        page.goto(address)
        page.fill("#token", "a wrong one")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not the token")
        page.fill("#token", TOKEN)
        page.keyboard.press("Enter")
        expect(tiles(page).first).to_be_visible()
        page.context.close()


@pytest.mark.parametrize("path", ["", "?q=a+sailboat", "failures", "nowhere"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_shuts_people_out(
    browser: Browser, address: str, path: str, scheme: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_context(color_scheme=scheme, bypass_csp=True).new_page()  # type: ignore[arg-type]
    page.goto(address + path)
    page.wait_for_load_state("networkidle")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.context.close()


def test_labels_are_counted_and_filter_and_texts_are_ranked(
    browser: Browser, library: Path, tmp_path: Path
) -> None:
    labelled = tmp_path / "labelled"
    shutil.copytree(library, labelled)
    arguments = ["label", "--labels", "dog, cat", "--keep", "--threshold", "0", "--top", "1"]
    assert run([*arguments, "--library", str(labelled)]) == 0
    with serving("--library", labelled) as address:
        page = browser.new_page()
        page.goto(address)
        facets = page.locator("#facets button")
        facets.first.wait_for()
        counts = [int(text.split()[-1]) for text in facets.all_inner_texts()]
        assert sum(counts) == PICTURES
        facets.first.click()
        page.wait_for_url("**label**")
        page.locator("#summary", has_text=f"{counts[0]} pictures").wait_for()
        page.locator('#facets button[aria-pressed="true"]').wait_for()
        tiles(page).first.click()
        page.get_by_label("Which of these fits best?").fill("a dog, a xylophone")
        page.keyboard.press("Enter")
        page.locator(".choose li").nth(1).wait_for()
        assert all(text.endswith("%") for text in page.locator(".choose li").all_inner_texts())
        page.close()
