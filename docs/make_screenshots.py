"""Makes the pictures of the README and of ui.md from a running ``sightline demo``.

python docs/make_screenshots.py [http://127.0.0.1:8008/]
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
SHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "page.jpg": ("a red car at night -rain", {"viewport": {"width": 1280, "height": 800}}),
    "picture.jpg": ("a sailboat on a lake", {"viewport": {"width": 1280, "height": 800}}),
    "phone.jpg": (
        "a red car under a night sky",
        {
            "viewport": {"width": 390, "height": 844},
            "device_scale_factor": 4 / 3,
            "color_scheme": "dark",
            "is_mobile": True,
            "has_touch": True,
        },
    ),
}
"""File -> the query it shows, and the browser window."""


def main(address: str) -> None:
    """Writes every picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        for name, (query, window) in SHOTS.items():
            page = browser.new_context(reduced_motion="reduce", **window).new_page()
            page.goto(f"{address}?{urlencode({'q': query})}")
            page.locator("#results img.in").first.wait_for()
            if name == "picture.jpg":
                page.locator("#results .tile > a").first.click()
                page.locator(".details .near img").first.wait_for()
            take(page, IMAGES / name)
            page.context.close()
        browser.close()


def take(page: Page, path: Path) -> None:
    """Saves what the window shows, once nothing is loading."""
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(path, quality=88, optimize=True, progressive=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8008/")
