"""What the browser tests share: the gallery that is looked at, and what a person does with it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

from PIL import Image, ImageEnhance, ImageOps

from sightline.data.scenes import write_gallery

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

SCENES, MIRRORED, BURST = 60, 70, 2
PICTURES = SCENES + MIRRORED + BURST
"""Of the gallery: more than one page of results holds."""

PHONE: dict[str, Any] = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
}


SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
"""Adds up what moves on the page without having been asked to, as ``window.shifted``."""


def make_gallery(folder: Path) -> None:
    """``PICTURES`` pictures, of which three are one shot taken three times (``*_again*``), and a
    file that is no picture."""
    scenes = write_gallery(folder, count=SCENES, seed=0)
    for number in range(MIRRORED):
        path = scenes[number % SCENES]
        with Image.open(path) as picture:
            other = ImageOps.mirror(picture)
            if number >= SCENES:
                other = ImageOps.posterize(ImageOps.flip(picture), 4)
            name = f"{path.stem}_other{number}.jpg"
            other.save(path.with_name(name), quality=88, exif=picture.info["exif"])
    for number in range(BURST):
        with Image.open(scenes[0]) as picture:
            name = f"{scenes[0].stem}_again{number}.jpg"
            lighter = ImageEnhance.Brightness(picture).enhance(1.02 + number / 50)
            lighter.save(scenes[0].with_name(name), quality=86, exif=picture.info["exif"])
    (folder / "broken.jpg").write_text("no picture")


@contextmanager
def looking(browser: Browser, address: str, path: str = "", **options: Any) -> Iterator[Page]:
    """A window of its own at ``path``. Nothing may go wrong in it, nor leave this machine."""
    context = browser.new_context(**options)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((address, "blob:", "data:"))
            else problems.append(f"asked {request.url}")
        ),
    )
    page.goto(address + path)
    yield page
    context.close()
    assert not problems, problems


def tiles(page: Page) -> Locator:
    """The pictures that are shown."""
    return page.locator("#results .tile > a")


def ids(page: Page) -> list[int]:
    """The pictures' ids, in the order of the results."""
    found = page.locator("#results .tile").evaluate_all(
        """(tiles) => tiles.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
            .map((tile) => Number(tile.querySelector("a").hash.slice(1)))"""
    )
    return [int(one) for one in found]


def answered(page: Page, act: Callable[[], object], wanted: str = "") -> dict[str, Any]:
    """Does something that searches; the answer, once it is shown. ``wanted``: in its address."""
    with page.expect_response(re.compile(r"/api/search\?.*" + wanted)) as answer:
        act()
    page.wait_for_function("() => !document.body.classList.contains('searching')")
    found: dict[str, Any] = answer.value.json()
    return found


def search(page: Page, query: str) -> dict[str, Any]:
    """Types a query, presses Enter, and waits for its answer."""

    def typed() -> None:
        page.fill("#q", query)
        page.press("#q", "Enter")

    # Clearing the box a moment ago may still be under way: that is another answer.
    return answered(page, typed, f"q={re.escape(quote_plus(query))}&")


def touch(page: Page, start: list[tuple[float, float]], end: list[tuple[float, float]]) -> None:
    """Moves one finger, or several at once, from where they start to where they end, in a second.

    They rest before they let go: a browser takes a tap that follows a fling for one that stops it.
    """
    session = page.context.new_cdp_session(page)
    shares = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    then = time.time() - 1
    for step, share in enumerate(shares):
        points = [
            {"x": ax + share * (bx - ax), "y": ay + share * (by - ay), "id": number}
            for number, ((ax, ay), (bx, by)) in enumerate(zip(start, end, strict=True))
        ]
        event = {"type": "touchMove" if step else "touchStart", "touchPoints": points}
        session.send("Input.dispatchTouchEvent", {**event, "timestamp": then + step / 10})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()
