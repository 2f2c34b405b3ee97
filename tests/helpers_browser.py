"""Shared by the browser tests: the gallery, and user actions on the page."""

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
IMAGES = SCENES + MIRRORED + BURST
"""Images in the gallery: more than one page of results."""

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
"""Adds up layout shifts in ``window.shifted``."""

SMALL_TARGETS = """
() => [...document.querySelectorAll("button, select, summary, input, [role=option], a.pill")]
  .filter((node) => node.checkVisibility() && !node.closest("#timeline, .tile .actions, [inert]"))
  .map((node) => node.closest("label") ?? node)
  .map((node) => [node.ariaLabel ?? (node.id || node.textContent), node.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 43.9 || height < 43.9)
  .map(([name, { width, height }]) => `${name}: ${width} x ${height}`)
"""
"""The controls that are smaller than a finger, 44 pixels. Links in a text, months, and what a tile
shows to mouse and keyboard are exempt: there are larger ways to the same."""


def make_gallery(folder: Path) -> None:
    """Writes ``IMAGES`` images, three of them near-identical (``*_again*``), and a broken file."""
    scenes = write_gallery(folder, count=SCENES, seed=0)
    for number in range(MIRRORED):
        path = scenes[number % SCENES]
        with Image.open(path) as image:
            other = ImageOps.mirror(image)
            if number >= SCENES:
                other = ImageOps.posterize(ImageOps.flip(image), 4)
            name = f"{path.stem}_other{number}.jpg"
            other.save(path.with_name(name), quality=88, exif=image.info["exif"])
    for number in range(BURST):
        with Image.open(scenes[0]) as image:
            name = f"{scenes[0].stem}_again{number}.jpg"
            lighter = ImageEnhance.Brightness(image).enhance(1.02 + number / 50)
            lighter.save(scenes[0].with_name(name), quality=86, exif=image.info["exif"])
    (folder / "broken.jpg").write_text("no image")


@contextmanager
def open_page(browser: Browser, address: str, path: str = "", **options: Any) -> Iterator[Page]:
    """A new browser context at ``path``. Fails on page errors, console messages and requests to
    other hosts."""
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
    """The tiles in the document."""
    return page.locator("#results .tile > a")


def ids(page: Page) -> list[int]:
    """The image ids of the tiles in the document, in order."""
    found = page.locator("#results .tile").evaluate_all(
        """(tiles) => tiles.sort((a, b) => a.ariaPosInSet - b.ariaPosInSet)
            .map((tile) => Number(tile.querySelector("a").hash.slice(1)))"""
    )
    return [int(one) for one in found]


def searched(page: Page, act: Callable[[], object], pattern: str = "") -> dict[str, Any]:
    """Performs an action that searches; returns the JSON of the search whose URL matches
    ``pattern``, once it is shown."""
    # Of the first results: the next ones of the search before may still be on their way.
    url = re.compile(rf"/api/search\?(?=.*&offset=0$).*{pattern}")
    with page.expect_response(url) as answer:
        act()
    page.wait_for_function("() => !document.body.classList.contains('searching')")
    found: dict[str, Any] = answer.value.json()
    return found


def search(page: Page, query: str) -> dict[str, Any]:
    """Types a query, presses Enter and waits for the results."""

    def typed() -> None:
        page.fill("#q", query)
        page.press("#q", "Enter")

    # Clearing the box a moment ago may still be searching.
    return searched(page, typed, f"q={re.escape(quote_plus(query))}&")


def wait_for_module(page: Page, name: str) -> None:
    """Until the page runs the module ``name``, which it requests when it first needs it."""
    page.wait_for_function(
        """async (name) => {
            const loaded = performance.getEntriesByType("resource")
              .find((entry) => entry.name.endsWith(`/${name}`));
            return loaded && (await import(loaded.name));
        }""",
        arg=name,
    )


@contextmanager
def long_press(page: Page, tile: Locator) -> Iterator[Callable[[Locator], None]]:
    """Holds a finger on a tile until it is selected, and lets go at the end. The yielded function
    moves the finger to another tile."""
    session = page.context.new_cdp_session(page)

    def send(kind: str, *points: dict[str, float]) -> None:
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    def inside(one: Locator) -> dict[str, float]:
        box = one.bounding_box()
        assert box
        return {"x": box["x"] + 20, "y": box["y"] + 20, "id": 1}

    start = inside(tile)

    def move(to: Locator) -> None:
        wait_for_module(page, "drag_select.js")
        end = inside(to)
        for part in (0.3, 0.6, 1, 1):
            point = {axis: start[axis] + part * (end[axis] - start[axis]) for axis in ("x", "y")}
            send("touchMove", {**point, "id": 1})

    send("touchStart", start)
    page.locator("#results .tile.on").first.wait_for()
    yield move
    send("touchEnd")
    session.detach()


def touch(page: Page, start: list[tuple[float, float]], end: list[tuple[float, float]]) -> None:
    """Moves one or more fingers from ``start`` to ``end`` within a second.

    They rest before release: after a fling, browsers interpret the next tap as stopping it.
    """
    session = page.context.new_cdp_session(page)
    fractions = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1]
    then = time.time() - 1
    for step, fraction in enumerate(fractions):
        points = [
            {"x": ax + fraction * (bx - ax), "y": ay + fraction * (by - ay), "id": number}
            for number, ((ax, ay), (bx, by)) in enumerate(zip(start, end, strict=True))
        ]
        event = {"type": "touchMove" if step else "touchStart", "touchPoints": points}
        session.send("Input.dispatchTouchEvent", {**event, "timestamp": then + step / 10})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    session.detach()
