"""The page in a real browser: searching with pictures, parts of pictures, and likeness."""

from __future__ import annotations

import base64
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from helpers_browser import PHONE, answered, ids, looking, search, tiles, touch
from helpers_serving import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = pytest.mark.browser

HAND_OVER = """
([kind, files]) => {
  const transfer = new DataTransfer();
  for (const { name, data } of files) {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
  }
  if (kind === "paste") dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer }));
  else for (const name of ["dragover", "drop"])
    document.body.dispatchEvent(
      new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }),
    );
}
"""
"""What the system does when a person drops or pastes files; no test reaches outside a browser."""


@pytest.fixture
def shots(gallery: Path) -> list[Path]:
    """Some files of the gallery, each the only one of its scene."""
    found = sorted((gallery / "pictures").rglob("*.jpg"))
    return [path for path in found if "_" not in path.stem.replace("IMG_", "").replace("DSC_", "")]


def hand_over(page: Page, kind: str, *files: Path) -> None:
    """Drops or pastes files."""
    told = [
        {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in files
    ]
    page.evaluate(HAND_OVER, [kind, told])


def test_pictures_are_chosen_from_files_several_at_once(page: Page, shots: list[Path]) -> None:
    from playwright.sync_api import expect

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Search with a photo").click()
    found = answered(page, lambda: chooser.value.set_files(shots[2]), "upload")
    assert found["hits"][0]["name"] == shots[2].name
    both = answered(page, lambda: page.set_input_files("#files", [shots[5], shots[9]]), "upload")
    assert both["query"].count("upload:") == 3
    expect(page.locator("#thumbs img")).to_have_count(3)
    expect(page.locator("#chips .chip")).to_have_count(3)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_is_dropped_or_pasted_and_words_join_it(
    page: Page, shots: list[Path], kind: str
) -> None:
    from playwright.sync_api import expect

    found = answered(page, lambda: hand_over(page, kind, shots[4]), "upload")
    assert found["hits"][0]["name"] == shots[4].name
    page.locator("#q").focus()
    answered(page, lambda: page.keyboard.type("at night", delay=20), "night")
    expect(page.locator("#chips .chip")).to_have_count(2)
    # The picture is turned away from, then taken out again with the key that deletes.
    answered(page, page.get_by_role("button", name="Less like this: photo").click, "-upload")
    page.locator("#q").press("Home")
    answered(page, lambda: page.keyboard.press("Backspace"))
    expect(page.locator("#thumbs img")).to_have_count(0)
    assert page.locator("#q").input_value() == "at night"


def test_what_is_no_picture_is_said(page: Page, gallery: Path) -> None:
    from playwright.sync_api import expect

    note = gallery / "note.txt"
    note.write_text("no picture")
    page.set_input_files("#files", note)
    expect(page.get_by_role("status")).to_contain_text("This isn’t an image file.")


def test_a_picture_that_no_browser_here_shows_is_seen_and_cut_too(
    page: Page, shots: list[Path], tmp_path: Path
) -> None:
    from PIL import Image
    from playwright.sync_api import expect

    with Image.open(shots[6]) as picture:
        picture.save(tmp_path / "scan.tiff")
    whole = answered(page, lambda: page.set_input_files("#files", tmp_path / "scan.tiff"), "upload")
    assert whole["hits"][0]["name"] == shots[6].name
    page.reload()
    seen = page.locator("#chips img")
    expect(seen).to_be_visible()
    page.wait_for_function("(image) => image.naturalWidth", arg=seen.element_handle())
    chip_of(page, "photo").get_by_role("button", name="Choose a part").click()
    dialog = page.get_by_role("dialog", name="Part of a photo")
    dialog.get_by_role("button", name="Search with this part").click()
    expect(chip_of(page, "part of a photo")).to_be_visible()


def test_an_upload_survives_a_reload(page: Page, shots: list[Path]) -> None:
    from playwright.sync_api import expect

    answered(page, lambda: page.set_input_files("#files", shots[3]), "upload")
    shown = ids(page)[:5]
    page.reload()
    tiles(page).first.wait_for()
    expect(page.locator("#thumbs img")).to_have_count(1)
    assert ids(page)[:5] == shown


def test_a_picture_that_the_server_forgot_is_given_to_it_again(
    browser: Browser, gallery: Path, shots: list[Path]
) -> None:
    from playwright.sync_api import expect

    library = ("--library", gallery / "library")
    with ExitStack() as stack:
        with serving(*library) as address:
            page = stack.enter_context(looking(browser, address))
            found = answered(page, lambda: page.set_input_files("#files", shots[3]), "upload")
            part = f"{found['query']}@0.1,0.2,0.7,0.9 at night"
            page.goto(f"{address}?q={quote_plus(part)}")
            tiles(page).first.wait_for()
            shown, asked = ids(page)[:5], page.url
            page.goto("about:blank")
        # Another server in its place knows nothing of what the first one was given.
        with serving(*library, "--port", str(urlsplit(address).port)):
            page.goto(asked)
            tiles(page).first.wait_for()
            expect(page.locator("#thumbs img")).to_have_count(1)
            assert ids(page)[:5] == shown
            [token] = parse_qs(urlsplit(page.url).query)["q"]
            assert token.endswith("@0.1,0.2,0.7,0.9 at night")
            assert token != part
            # What this browser was never given it cannot give.
            page.goto(f"{address}?q=upload:AAAAAAAAAAAAAAAA")
            expect(page.locator("#notice.bad")).to_contain_text("Add it again")


def test_more_like_one_is_a_key_and_a_button_away(page: Page) -> None:
    [first, second, *_] = ids(page)
    tiles(page).first.focus()
    found = answered(page, lambda: page.keyboard.press("s"), "like")
    assert found["hits"][0]["id"] == first
    page.go_back()
    page.locator("#results").get_by_role("link").nth(1).hover()
    found = answered(page, page.get_by_role("button", name="Similar photos").click, "like")
    assert found["hits"][0]["id"] == second


def test_marks_refine_the_search(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "a yellow bus in a city street")
    [more, _, less, *_] = ids(page)
    tiles(page).first.focus()
    page.keyboard.press("+")
    tiles(page).nth(2).hover()
    page.get_by_role("button", name="Less like this").click()
    tray = page.get_by_role("region", name="Selected photos")
    expect(tray).to_contain_text("1 more, 1 less like this")
    refined = answered(page, lambda: page.keyboard.press("r"), "like")
    assert f"0.5:like:{more}" in refined["query"]
    assert f"-0.5:like:{less}" in refined["query"]
    expect(tray).to_be_hidden()
    expect(page.locator("#results .tile.more")).to_have_count(1)


def test_a_picture_may_be_typed_and_is_in_the_search_once(page: Page) -> None:
    from playwright.sync_api import expect

    first, second = ids(page)[:2]
    found = answered(page, lambda: page.fill("#q", f"like:{first}"))
    assert found["query"] == f"like:{first}"
    page.press("#q", "Enter")  # nothing new is searched: an answer now would be of the next line
    found = answered(page, lambda: page.fill("#q", f"like:{second} snow"), "snow")
    assert found["query"] == f"like:{second} snow"
    answered(page, lambda: page.locator("#sort").select_option("newest"), "newest")
    expect(page.locator("#q")).to_have_value("snow sort:newest")
    expect(page.locator("#thumbs button")).to_have_count(1)


def test_a_part_of_a_picture_is_dragged_out_and_searched_with(page: Page) -> None:
    from playwright.sync_api import expect

    first = ids(page)[0]
    tiles(page).first.click()
    dialog = page.get_by_role("dialog", name="Photo")
    dialog.get_by_role("button", name="Search with part of the photo").click()
    shown = dialog.get_by_role("img").first.bounding_box()
    assert shown
    x, y, width, height = shown["x"], shown["y"], shown["width"], shown["height"]
    page.mouse.move(x + width * 0.5, y + height * 0.5)
    page.mouse.down()
    page.mouse.move(x + width * 0.7, y + height * 0.6)
    page.mouse.move(x + width * 0.9, y + height * 0.75)
    page.mouse.up()
    found = answered(page, dialog.get_by_role("button", name="Search with this part").click, "like")
    [id, box] = re.fullmatch(r"like:(\d+)@(.*)", found["query"]).groups()  # type: ignore[union-attr]
    assert int(id) == first
    assert [float(one) for one in box.split(",")] == pytest.approx([0.5, 0.5, 0.9, 0.75], abs=0.02)
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("group", name="part of a photo")).to_be_visible()


def chip_of(page: Page, name: str) -> Locator:
    """A chip of the query, that a person knows by this name."""
    return page.get_by_role("group", name=name, exact=True)


def test_a_part_of_a_picture_that_was_given_is_searched_with(page: Page, shots: list[Path]) -> None:
    from playwright.sync_api import expect

    search(page, "at night")
    whole = answered(page, lambda: page.set_input_files("#files", shots[4]), "upload")
    token = re.search(r"upload:(\S+)", whole["query"])[1]  # type: ignore[index]
    chip_of(page, "photo").get_by_role("button", name="Choose a part").click()
    dialog = page.get_by_role("dialog", name="Part of a photo")
    shown = dialog.get_by_role("img").bounding_box()
    assert shown
    # Drawn by mouse, then its lower right corner is taken elsewhere.
    for (ax, ay), (bx, by) in (((0.1, 0.2), (0.6, 0.5)), ((0.6, 0.5), (0.5, 0.7))):
        page.mouse.move(shown["x"] + shown["width"] * ax, shown["y"] + shown["height"] * ay)
        page.mouse.down()
        page.mouse.move(shown["x"] + shown["width"] * bx, shown["y"] + shown["height"] * by)
        page.mouse.up()
    found = answered(page, dialog.get_by_role("button", name="Search with this part").click, "%40")
    expect(dialog).to_be_hidden()
    [box] = re.fullmatch(rf"upload:{token}@(\S+) at night", found["query"]).groups()  # type: ignore[union-attr]
    assert [float(one) for one in box.split(",")] == pytest.approx([0.1, 0.2, 0.5, 0.7], abs=0.01)
    whole_scores = {hit["id"]: hit["score"] for hit in whole["hits"]}
    assert any(abs(hit["score"] - whole_scores[hit["id"]]) > 0.01 for hit in found["hits"][:50])
    # By keyboard: the same box is there again, is moved, and the focus comes back to the chip.
    again = chip_of(page, "part of a photo").get_by_role("button", name="Choose another part")
    again.press("Enter")
    expect(dialog.get_by_role("button", name="Search with this part")).to_be_focused()
    page.keyboard.press("ArrowDown")
    moved = answered(page, lambda: page.keyboard.press("Enter"), "%40")
    top = float(re.search(r"@([^ ]*)", moved["query"])[1].split(",")[1])  # type: ignore[index]
    assert top == pytest.approx(float(box.split(",")[1]) + 0.02, abs=0.002)
    expect(again).to_be_focused()
    again.click()
    back = answered(page, dialog.get_by_role("button", name="Whole photo").click)
    assert back["query"] == f"upload:{token} at night"
    # Going back leads to the search before, and out of the large view.
    chip_of(page, "photo").get_by_role("button", name="Choose a part").click()
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_be_hidden()


def test_a_part_is_chosen_with_a_finger_after_zooming_with_two(
    browser: Browser, address: str, shots: list[Path]
) -> None:
    with looking(browser, address, **PHONE) as page:
        tiles(page).first.wait_for()
        answered(page, lambda: page.set_input_files("#files", shots[4]), "upload")
        page.locator("#chips .chip button.words").tap()
        dialog = page.get_by_role("dialog", name="Part of a photo")
        picture = dialog.get_by_role("img")
        fitted = picture.bounding_box()
        assert fitted
        x, y = fitted["x"] + fitted["width"] / 2, fitted["y"] + fitted["height"] / 2
        touch(page, [(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)])
        zoomed = picture.bounding_box()
        assert zoomed
        assert zoomed["width"] == pytest.approx(2 * fitted["width"], rel=0.02)
        touch(page, [(x - 90, y - 60)], [(x + 90, y + 60)])
        found = answered(
            page, dialog.get_by_role("button", name="Search with this part").tap, "%40"
        )
        box = re.search(r"@(\S+)", found["query"])[1]  # type: ignore[index]
        wanted = [
            (px - zoomed[side]) / zoomed[length]
            for px, side, length in (
                (x - 90, "x", "width"),
                (y - 60, "y", "height"),
                (x + 90, "x", "width"),
                (y + 60, "y", "height"),
            )
        ]
        assert [float(one) for one in box.split(",")] == pytest.approx(wanted, abs=0.01)


def test_a_part_is_chosen_by_keyboard_alone(page: Page) -> None:
    tiles(page).first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Photo").wait_for()
    for key in ("c", "ArrowLeft", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    found = answered(page, lambda: page.keyboard.press("Enter"), "like")
    assert found["query"].endswith("@0.230,0.230,0.750,0.730")


def test_a_result_is_dragged_into_the_search(page: Page) -> None:
    second = ids(page)[1]
    box = page.locator("#q").bounding_box()
    assert box
    tiles(page).nth(1).hover()
    page.mouse.down()
    page.mouse.move(400, 200, steps=5)

    def let_go() -> None:
        page.mouse.move(box["x"] + 50, box["y"] + 10, steps=5)
        page.mouse.up()

    assert answered(page, let_go, "like")["hits"][0]["id"] == second
