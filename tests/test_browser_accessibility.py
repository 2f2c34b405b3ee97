"""Every view in a real browser: no violation that axe finds in either theme, nothing wider than the
window, targets for fingers on a phone, no message in the console."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers_browser import PHONE, SMALL_TARGETS
from helpers_serving import serving_process

from sightline.indexer.library import Library

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

TOKEN = "a token of more than sixteen characters"

VIEWS: dict[str, tuple[str, list[str]]] = {
    "home": ("", []),
    "chips": ('?q="a bus" -2:rain is:landscape like:3', []),
    "suggestions": ("", ["/", "c", "a", "m", "e"]),
    "saved searches": ("", ["#q"]),
    "saving a search": ("?q=windmill", ["#star"]),
    "divider": ("?q=a+yellow+bus+in+a+city+street", []),
    "no strong matches": ("?q=a+football+match", []),
    "correction": ("?q=a+lihgthouse", []),
    "no photos": ("?q=in:nowhere", []),
    "error": ("?q=like:999999", []),
    "dates": ("", ["ArrowDown", "End", "ArrowUp"]),
    "random": ("?random=7", []),
    "collection": ("?q=collection:Summer", ["ArrowDown", "x"]),
    "adding to a collection": ("", ["ArrowDown", "x", "#tray [aria-haspopup]"]),
    "feedback": ("", ["ArrowDown", "x", "ArrowRight", "+"]),
    "photo": ("#5", []),
    "details": ("#5", ["i"]),
    "slideshow": ("#5", ["p"]),
    "crop of a result": ("#5", ["c"]),
    "crop of an image term": ("?q=like:3", [".chip button.words"]),
    "status": ("", ["#status-open"]),
    "help": ("", ["?"]),
    "failures": ("failures", []),
    "duplicates": ("duplicates", []),
    "not found": ("nowhere", []),
    "plain": ("?plain=1&q=snow", []),
}
"""View -> its address, and the keys and clicks that lead to it."""

REFUSED = ("wrong token", "not found")
"""Views whose status browsers report in the console."""

EVERYTHING = {"resultTypes": ["violations"]}
COLOURS = {"runOnly": {"type": "tag", "values": ["cat.color"]}}
"""What the other theme of the same elements may change."""


@pytest.fixture(scope="module")
def address(gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a copy of the gallery that keeps something is served, behind a token."""
    copy = tmp_path_factory.mktemp("views") / "library"
    shutil.copytree(gallery / "library", copy)
    with Library.open(copy) as library:
        library.kept.add(1, [4, 5])
        library.kept.add(library.kept.create_collection("Summer").id, [2, 5, 9])
        library.kept.save_search("Mills", "windmill")
    environment = {"SIGHTLINE_TOKEN": TOKEN}
    with serving_process("--library", copy, environment=environment) as (found, _):
        yield found


@pytest.mark.parametrize("device", ["desk", "phone"])
def test_every_view_is_accessible_in_both_themes(
    browser: Browser, address: str, device: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    # Without animations: axe would report a fade as poor contrast.
    options: dict[str, Any] = {"bypass_csp": True, "reduced_motion": "reduce"}
    if device == "phone":
        options |= {**PHONE, "viewport": {"width": 340, "height": 740}}
    page = browser.new_context(**options).new_page()
    view, messages = "sign in", []
    page.on("console", lambda message: messages.append((view, message.text)))
    page.on("pageerror", lambda error: messages.append((view, str(error))))

    def check() -> None:
        page.wait_for_load_state("networkidle")
        for scheme, rules in (("light", EVERYTHING), ("dark", COLOURS)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            found = axe.run(page, options=rules)
            assert found.violations_count == 0, f"{view}, {scheme}: {found.generate_report()}"
        width, window = page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert width <= window, view
        if device == "phone":
            assert page.evaluate(SMALL_TARGETS) == [], view

    page.goto(address)
    check()
    view = "wrong token"
    page.fill("#token", "a wrong one")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    check()
    page.fill("#token", TOKEN)
    page.keyboard.press("Enter")
    page.locator("#results img.in").first.wait_for()
    for view, (path, steps) in VIEWS.items():  # noqa: B007 (read by the listeners)
        page.goto("about:blank")
        page.goto(address + path)
        if steps:
            page.wait_for_load_state("networkidle")
        for step in steps:
            if step[0] in ".#":
                page.click(step)
            else:
                page.keyboard.press(step)
        check()
    page.context.close()
    assert [message for message in messages if message[0] not in REFUSED] == []
