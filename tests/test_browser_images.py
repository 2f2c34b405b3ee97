"""The page in a real browser: search by image, crops and similar photos."""

from __future__ import annotations

import base64
import re
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote_plus, urlsplit

import pytest
from helpers_browser import PHONE, ids, open_page, search, searched, tiles, touch
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
"""Simulates dropping or pasting files from the system."""


@pytest.fixture
def shots(gallery: Path) -> list[Path]:
    """Files of the gallery without near-identical copies."""
    found = sorted((gallery / "pictures").rglob("*.jpg"))
    return [path for path in found if "_" not in path.stem.replace("IMG_", "").replace("DSC_", "")]


def hand_over(page: Page, kind: str, *files: Path) -> None:
    """Drops or pastes files."""
    told = [
        {"name": path.name, "data": base64.b64encode(path.read_bytes()).decode()} for path in files
    ]
    page.evaluate(HAND_OVER, [kind, told])


def test_files_are_picked_several_at_once(page: Page, shots: list[Path]) -> None:
    from playwright.sync_api import expect

    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Search with a photo").click()
    found = searched(page, lambda: chooser.value.set_files(shots[2]), "upload")
    assert found["hits"][0]["name"] == shots[2].name
    both = searched(page, lambda: page.set_input_files("#files", [shots[5], shots[9]]), "upload")
    assert both["query"].count("upload:") == 3
    expect(page.locator("#thumbs img")).to_have_count(3)
    expect(page.locator("#chips .chip")).to_have_count(3)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_dropped_or_pasted_photo_combines_with_text(
    page: Page, shots: list[Path], kind: str
) -> None:
    from playwright.sync_api import expect

    found = searched(page, lambda: hand_over(page, kind, shots[4]), "upload")
    assert found["hits"][0]["name"] == shots[4].name
    page.locator("#q").focus()
    searched(page, lambda: page.keyboard.type("at night", delay=20), "night")
    expect(page.locator("#chips .chip")).to_have_count(2)
    # The photo is negated, then removed with Backspace.
    searched(page, page.get_by_role("button", name="Less like this: photo").click, "-upload")
    page.locator("#q").press("Home")
    searched(page, lambda: page.keyboard.press("Backspace"))
    expect(page.locator("#thumbs img")).to_have_count(0)
    assert page.locator("#q").input_value() == "at night"


def test_files_that_are_no_images_are_named_and_stop_no_others(
    page: Page, gallery: Path, shots: list[Path]
) -> None:
    from playwright.sync_api import expect

    note = gallery / "note.txt"
    note.write_text("no image")
    page.set_input_files("#files", note)
    message = page.get_by_role("status")
    expect(message).to_contain_text("This isn’t an image file.")
    # Beside a good photo: the photo is searched, the others are named without the decoder's words.
    broken, good = gallery / "pictures" / "broken.jpg", shots[0]

    def add() -> None:
        page.set_input_files("#files", [broken, good, note])
        expect(message).to_contain_text(  # for a few seconds
            "broken.jpg can’t be read: the file may be damaged. note.txt isn’t an image file."
        )

    found = searched(page, add, "upload")
    assert found["query"].count("upload:") == 1
    assert found["hits"][0]["name"] == good.name


def test_a_tiff_has_a_preview_and_can_be_cropped(
    page: Page, shots: list[Path], tmp_path: Path
) -> None:
    from PIL import Image
    from playwright.sync_api import expect

    with Image.open(shots[6]) as image:
        image.save(tmp_path / "scan.tiff")
    whole = searched(page, lambda: page.set_input_files("#files", tmp_path / "scan.tiff"), "upload")
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

    searched(page, lambda: page.set_input_files("#files", shots[3]), "upload")
    shown = ids(page)[:5]
    page.reload()
    tiles(page).first.wait_for()
    expect(page.locator("#thumbs img")).to_have_count(1)
    assert ids(page)[:5] == shown


def test_uploads_survive_a_server_restart(
    browser: Browser, gallery: Path, shots: list[Path]
) -> None:
    from playwright.sync_api import expect

    library = ("--library", gallery / "library")
    with ExitStack() as stack:
        with serving(*library) as address:
            page = stack.enter_context(open_page(browser, address))
            found = searched(page, lambda: page.set_input_files("#files", shots[3]), "upload")
            part = f"{found['query']}@0.1,0.2,0.7,0.9 at night"
            page.goto(f"{address}?q={quote_plus(part)}")
            tiles(page).first.wait_for()
            shown, asked = ids(page)[:5], page.url
            page.goto("about:blank")
        # A new server does not know the upload.
        with serving(*library, "--port", str(urlsplit(address).port)):
            page.goto(asked)
            tiles(page).first.wait_for()
            expect(page.locator("#thumbs img")).to_have_count(1)
            assert ids(page)[:5] == shown
            [token] = parse_qs(urlsplit(page.url).query)["q"]
            assert token.endswith("@0.1,0.2,0.7,0.9 at night")
            assert token != part
            # This browser never had this upload.
            page.goto(f"{address}?q=upload:AAAAAAAAAAAAAAAA")
            expect(page.locator("#notice.bad")).to_contain_text("Add it again")


def test_similar_photos_by_key_and_button(page: Page) -> None:
    [first, second, *_] = ids(page)
    tiles(page).first.focus()
    found = searched(page, lambda: page.keyboard.press("s"), "like")
    assert found["hits"][0]["id"] == first
    page.go_back()
    page.locator("#results").get_by_role("link").nth(1).hover()
    found = searched(page, page.get_by_role("button", name="Similar photos").click, "like")
    assert found["hits"][0]["id"] == second


def test_feedback_refines_the_search(page: Page) -> None:
    from playwright.sync_api import expect

    search(page, "a yellow bus in a city street")
    [more, _, less, *_] = ids(page)
    tiles(page).first.focus()
    page.keyboard.press("+")
    tiles(page).nth(2).hover()
    page.get_by_role("button", name="Less like this").click()
    tray = page.get_by_role("region", name="Selected photos")
    expect(tray).to_contain_text("1 more, 1 less like this")
    refined = searched(page, lambda: page.keyboard.press("r"), "like")
    assert f"0.5:like:{more}" in refined["query"]
    assert f"-0.5:like:{less}" in refined["query"]
    expect(tray).to_be_hidden()
    expect(page.locator("#results .tile.more")).to_have_count(1)


def test_a_typed_image_term_is_in_the_query_once(page: Page) -> None:
    from playwright.sync_api import expect

    first, second = ids(page)[:2]
    found = searched(page, lambda: page.fill("#q", f"like:{first}"))
    assert found["query"] == f"like:{first}"
    page.press("#q", "Enter")  # no new search
    found = searched(page, lambda: page.fill("#q", f"like:{second} snow"), "snow")
    assert found["query"] == f"like:{second} snow"
    searched(page, lambda: page.locator("#sort").select_option("newest"), "newest")
    expect(page.locator("#q")).to_have_value("snow")
    expect(page.locator("#thumbs button")).to_have_count(1)


def test_a_crop_of_a_result_is_searched(page: Page) -> None:
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
    found = searched(page, dialog.get_by_role("button", name="Search with this part").click, "like")
    [id, box] = re.fullmatch(r"like:(\d+)@(.*)", found["query"]).groups()  # type: ignore[union-attr]
    assert int(id) == first
    assert [float(one) for one in box.split(",")] == pytest.approx([0.5, 0.5, 0.9, 0.75], abs=0.02)
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("group", name="part of a photo")).to_be_visible()


def chip_of(page: Page, name: str) -> Locator:
    """A chip of the query by its accessible name."""
    return page.get_by_role("group", name=name, exact=True)


def test_a_crop_of_an_upload_is_searched(page: Page, shots: list[Path]) -> None:
    from playwright.sync_api import expect

    search(page, "at night")
    whole = searched(page, lambda: page.set_input_files("#files", shots[4]), "upload")
    token = re.search(r"upload:(\S+)", whole["query"])[1]  # type: ignore[index]
    chip_of(page, "photo").get_by_role("button", name="Choose a part").click()
    dialog = page.get_by_role("dialog", name="Part of a photo")
    shown = dialog.get_by_role("img").bounding_box()
    assert shown
    # Drawn by mouse, then its lower right corner is dragged.
    for (ax, ay), (bx, by) in (((0.1, 0.2), (0.6, 0.5)), ((0.6, 0.5), (0.5, 0.7))):
        page.mouse.move(shown["x"] + shown["width"] * ax, shown["y"] + shown["height"] * ay)
        page.mouse.down()
        page.mouse.move(shown["x"] + shown["width"] * bx, shown["y"] + shown["height"] * by)
        page.mouse.up()
    found = searched(page, dialog.get_by_role("button", name="Search with this part").click, "%40")
    expect(dialog).to_be_hidden()
    [box] = re.fullmatch(rf"upload:{token}@(\S+) at night", found["query"]).groups()  # type: ignore[union-attr]
    assert [float(one) for one in box.split(",")] == pytest.approx([0.1, 0.2, 0.5, 0.7], abs=0.01)
    whole_scores = {hit["id"]: hit["score"] for hit in whole["hits"]}
    assert any(abs(hit["score"] - whole_scores[hit["id"]]) > 0.01 for hit in found["hits"][:50])
    # By keyboard: the box is restored, moved, and the focus returns to the chip.
    again = chip_of(page, "part of a photo").get_by_role("button", name="Choose another part")
    again.press("Enter")
    expect(dialog.get_by_role("button", name="Search with this part")).to_be_focused()
    page.keyboard.press("ArrowDown")
    moved = searched(page, lambda: page.keyboard.press("Enter"), "%40")
    top = float(re.search(r"@([^ ]*)", moved["query"])[1].split(",")[1])  # type: ignore[index]
    assert top == pytest.approx(float(box.split(",")[1]) + 0.02, abs=0.002)
    expect(again).to_be_focused()
    again.click()
    back = searched(page, dialog.get_by_role("button", name="Whole photo").click)
    assert back["query"] == f"upload:{token} at night"
    # Back restores the previous search and closes the dialog.
    chip_of(page, "photo").get_by_role("button", name="Choose a part").click()
    expect(dialog).to_be_visible()
    page.go_back()
    expect(dialog).to_be_hidden()


def test_a_crop_by_touch_after_pinch_zoom(
    browser: Browser, address: str, shots: list[Path]
) -> None:
    with open_page(browser, address, **PHONE) as page:
        tiles(page).first.wait_for()
        searched(page, lambda: page.set_input_files("#files", shots[4]), "upload")
        page.locator("#chips .chip button.words").tap()
        dialog = page.get_by_role("dialog", name="Part of a photo")
        image = dialog.get_by_role("img")
        fitted = image.bounding_box()
        assert fitted
        x, y = fitted["x"] + fitted["width"] / 2, fitted["y"] + fitted["height"] / 2
        touch(page, [(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)])
        zoomed = image.bounding_box()
        assert zoomed
        assert zoomed["width"] == pytest.approx(2 * fitted["width"], rel=0.02)
        touch(page, [(x - 90, y - 60)], [(x + 90, y + 60)])
        found = searched(
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


def test_a_crop_by_keyboard(page: Page) -> None:
    tiles(page).first.focus()
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Photo").wait_for()
    for key in ("c", "ArrowLeft", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    found = searched(page, lambda: page.keyboard.press("Enter"), "like")
    assert found["query"].endswith("@0.230,0.230,0.750,0.730")


def test_a_result_is_dragged_into_the_box(page: Page) -> None:
    second = ids(page)[1]
    box = page.locator("#q").bounding_box()
    assert box
    tiles(page).nth(1).hover()
    page.mouse.down()
    page.mouse.move(400, 200, steps=5)

    def let_go() -> None:
        page.mouse.move(box["x"] + 50, box["y"] + 10, steps=5)
        page.mouse.up()

    assert searched(page, let_go, "like")["hits"][0]["id"] == second
