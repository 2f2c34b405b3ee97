"""Measures the page in Chromium on a served library: weight, latency, scrolling.

    python -m benchmarks.page [--images 20000] [--keep DIR] [--parts weight latency scroll]

Renders 300 scenes, embeds them with the built-in model, and fills a library with N images near
them: a scene's embedding plus noise, its thumbnail, synthetic metadata.

    weight      bytes loaded before the first thumbnail, uncompressed
    latency     types twenty searches and measures, from the last keystroke, until the rows are
                painted (in the images' colours) and until the first row's thumbnails are
    scroll      scrolls through all results and reads the main thread's tasks from Chromium's trace;
                counts DOM nodes, and the heap after a garbage collection

The last two also print the layout shift (CLS) and the messages in the console.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import numpy as np

from benchmarks.catalog import BATCH, ROOT, synthetic
from benchmarks.search import served
from sightline.data.scenes import write_gallery
from sightline.indexer.encoder import Encoder
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

SCENES = 300
NOISE = 0.6
"""Norm of the noise added to a unit embedding: images of one scene have a cosine of .74, below the
threshold of near-identical."""

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WINDOW = {"width": 1360, "height": 850}
QUERIES = [
    "a sailboat on a lake",
    "three dogs on a beach",
    "a red car at night",
    "snow in the mountains",
    "yellow bus in the rain",
    "hot air balloon at sunset",
    "two horses near a barn",
    "a lighthouse in the fog",
    "a cat under an umbrella",
    "an orange tent under the moon",
]
KEY_MS = 70
"""Milliseconds between keystrokes."""
LONG_TASK_MS = 50.0
PARTS = ["weight", "latency", "scroll"]
SCROLL_STEP, SCROLL_SPEED = 60_000, 12_000
"""Pixels between two memory readings; pixels per second, as in a sustained hard flick."""

CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]

WATCH = """
window.shifted = window.shiftedByInput = 0;
new PerformanceObserver((list) => {
  for (const { value, hadRecentInput } of list.getEntries())
    window[hadRecentInput ? "shiftedByInput" : "shifted"] += value;
}).observe({ type: "layout-shift", buffered: true });
addEventListener("input", () => {
  window.typed = performance.now();
  window.rows = window.thumbs = 0;
}, true);
const painted = (done) => requestAnimationFrame(() => {
  const after = new MessageChannel();
  after.port1.onmessage = () => done(performance.now());
  after.port2.postMessage(0);
});
new MutationObserver(() => {
  const asked = new URLSearchParams(location.search).get("q") ?? "";
  if (!window.typed || window.rows || asked !== document.getElementById("q").value.trim()) return;
  const first = [...document.querySelectorAll("#results .tile")]
    .filter((tile) => tile.getAttribute("aria-posinset") < 5);
  if (!first.length || !first.some((tile) => !tile.seen)) return;
  first.forEach((tile) => (tile.seen = true));
  window.rows = -1;
  painted((now) => (window.rows = now - window.typed));
  Promise.all(first.map((tile) => tile.querySelector("img").decode().catch(() => null)))
    .then(() => painted((now) => (window.thumbs = now - window.typed)));
}).observe(document, { childList: true, subtree: true });
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--keep", type=Path, help="create the library here, or reuse it")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with contextlib.ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        directory.mkdir(exist_ok=True)
        make_library(directory, options.images)
        port = stack.enter_context(served(directory / "library"))
        playwright = stack.enter_context(sync_playwright())
        program = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        address = f"http://127.0.0.1:{port}/"
        print(f"{options.images:,} images, {os.cpu_count()} cores, Chromium {browser.version}")
        if "weight" in options.parts:
            weight(browser, address)
        if "latency" in options.parts:
            with opened(browser, address) as page:
                latency(page)
        if "scroll" in options.parts:
            with opened(browser, address) as page:
                scroll(page, options.images)
        browser.close()


def make_library(directory: Path, images: int) -> None:
    """Create the library unless it exists."""
    if Library.exists(directory / "library"):
        return
    encoder = Encoder.load("builtin")
    identity = {
        "model": encoder.model,
        "revision": encoder.revision,
        "dimension": encoder.dimension,
    }
    write_gallery(directory / "scenes", count=SCENES, seed=0)
    with Library.create(directory / "small", **identity) as small:
        update_library(small, encoder, [directory / "scenes"])
        ids = small.select()
        vectors = small.vectors(ids)
        scenes = [
            (record.info, small.thumbnail(record.id)) for record in small.images(ids.tolist())
        ]
    random = np.random.default_rng(0)
    with Library.create(directory / "library", **identity) as library:
        root = library.ensure_root(ROOT)
        for start in range(0, images, BATCH):
            numbers = range(start, min(start + BATCH, images))
            noise = random.standard_normal((len(numbers), encoder.dimension)).astype(np.float32)
            near = vectors[[n % len(scenes) for n in numbers]]
            near = near + NOISE * noise / np.linalg.norm(noise, axis=1, keepdims=True)
            near /= np.linalg.norm(near, axis=1, keepdims=True)
            batch = []
            for n, vector in zip(numbers, near, strict=True):
                row = synthetic(n, vector, random)
                info, _ = scenes[n % len(scenes)]
                shape = {"width": info.width, "height": info.height, "color": info.color}
                photo = replace(row.photo, info=replace(row.photo.info, **shape))
                batch.append(replace(row, photo=photo))
            written = library.catalog.write(root, images=batch)
            library.thumbnails.put_many(
                {
                    image: scenes[n % len(scenes)][1]
                    for image, n in zip(written.images, numbers, strict=True)
                }
            )
        library.maintain_index()


@contextlib.contextmanager
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """A new window that shows the first thumbnails. At the end, print its layout shift and what it
    wrote to the console."""
    messages: list[str] = []
    page = browser.new_context(viewport=WINDOW).new_page()  # type: ignore[arg-type]
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.add_init_script(WATCH)
    page.goto(address)
    page.locator("#results img.in").first.wait_for()
    page.wait_for_load_state("networkidle")
    yield page
    shifted, own = page.evaluate("[window.shifted, window.shiftedByInput]")
    print(f"layout shift {shifted:.4f}, within 500 ms of a key {own:.4f}; console: {messages}")
    page.context.close()


def weight(browser: Browser, address: str) -> None:
    """Print the bytes loaded by content type, without thumbnails and API answers."""
    page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
    kinds: dict[str, int] = {}
    loaded: dict[str, Any] = {}  # a module that is fetched, then imported, is loaded once
    page.on("response", lambda response: loaded.setdefault(response.url, response))
    page.goto(address)
    page.locator("#results img.in").first.wait_for()
    page.wait_for_load_state("networkidle")
    for response in loaded.values():
        if "/thumbnails/" in response.url or "/api/" in response.url:
            continue
        kind = response.headers["content-type"].partition(";")[0].partition("/")[2]
        kinds[kind] = kinds.get(kind, 0) + len(response.body())
    parts = ", ".join(f"{kind} {size:,}" for kind, size in sorted(kinds.items()))
    print(f"\nweight: {sum(kinds.values()):,} bytes ({parts})")
    page.close()


def latency(page: Page) -> None:
    """Print milliseconds from the last keystroke to painted rows and thumbnails."""
    rows, thumbs, server = [], [], []
    for round_ in range(2):
        for query in QUERIES:
            page.fill("#q", "")
            page.wait_for_timeout(600)
            words = f"{query} {'again' if round_ else ''}".strip()
            final = f"q={quote_plus(words)}&"
            with page.expect_response(
                lambda response, final=final: (
                    "/api/search?" in response.url and final in response.url
                )
            ) as answer:
                page.locator("#q").press_sequentially(words, delay=KEY_MS)
            server.append(answer.value.json()["took_ms"])
            page.wait_for_function("() => window.thumbs > 0")
            rows.append(page.evaluate("window.rows"))
            thumbs.append(page.evaluate("window.thumbs"))
    print(f"\nlatency: {len(rows)} searches{'p50':>12}{'p95':>9}{'worst':>9}   ms")
    for name, values in (
        ("search alone, in the server", server),
        ("rows painted", rows),
        ("first thumbnails painted", thumbs),
    ):
        p50, p95 = np.percentile(values, [50, 95])
        print(f"{name:29}{p50:9.0f}{p95:9.0f}{max(values):9.0f}")


def scroll(page: Page, images: int) -> None:
    """Scroll from the first result to the last and print the tasks of the main thread."""
    browser = page.context.browser
    assert browser
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    print("\nscroll: last result in the document, tiles, nodes, heap")
    gesture = {
        "x": 600,
        "y": 500,
        "yDistance": -SCROLL_STEP,
        "speed": SCROLL_SPEED,
        "preventFling": True,
    }
    traced: list[Task] = []
    while last_result(page, session) < images:
        browser.start_tracing(page=page, categories=CATEGORIES)
        session.send("Input.synthesizeScrollGesture", gesture)
        traced += tasks(browser.stop_tracing())
    print(
        f"\n{len(traced):9,} tasks of the main thread{'p99':>12}{'longest':>9}{'over 50':>9}   ms"
    )
    for name in ("wall", "cpu"):
        times = [getattr(task, name) for task in traced]
        p99, long = np.percentile(times, 99), sum(time > LONG_TASK_MS for time in times)
        print(f"{name:37}{p99:9.1f}{max(times):9.1f}{long:9}")
    for task in sorted(traced, key=lambda task: -task.cpu)[:5]:
        print(f"  {task.cpu:6.1f} of {task.wall:.1f} ms: {task.about}")


def last_result(page: Page, session: Any) -> int:
    """Print the memory; return the rank of the last result in the document."""
    session.send("HeapProfiler.collectGarbage")
    metrics = session.send("Performance.getMetrics")["metrics"]
    values = {metric["name"]: metric["value"] for metric in metrics}
    ranks = page.locator("#results .tile").evaluate_all(
        "tiles => tiles.map((tile) => Number(tile.getAttribute('aria-posinset')))"
    )
    heap = values["JSHeapUsedSize"] / 1e6
    print(f"{max(ranks):9,} {len(ranks):6} {values['Nodes']:8,.0f} {heap:8.1f} MB")
    return max(ranks)


@dataclass(frozen=True)
class Task:
    """One task of the main thread."""

    wall: float
    """Milliseconds of wall time."""
    cpu: float
    """Milliseconds of CPU time."""
    about: str
    """Its longest events."""


def tasks(trace: bytes) -> list[Task]:
    """All tasks of the page's main thread."""
    events = [event for event in json.loads(trace)["traceEvents"] if event["ph"] in "XM"]
    threads: dict[tuple[int, int], list[dict[str, Any]]] = {
        (event["pid"], event["tid"]): []
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    for event in events:
        if "dur" in event and (event["pid"], event["tid"]) in threads:
            threads[event["pid"], event["tid"]].append(event)

    def of(thread: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [event for event in thread if event["name"] == "RunTask"]

    # The renderer of the page is the busiest one.
    own = max(threads.values(), key=lambda thread: sum(event["dur"] for event in of(thread)))
    found = []
    for task in of(own):
        within: list[dict[str, Any]] = []
        if task["dur"] > 10_000:
            within = [
                event
                for event in own
                if event is not task and task["ts"] <= event["ts"] < task["ts"] + task["dur"]
            ]
        parts = sorted(within, key=lambda event: -event["dur"])[:6]
        about = ", ".join(f"{event['name']} {event['dur'] / 1000:.1f}" for event in parts)
        found.append(Task(task["dur"] / 1000, task.get("tdur", task["dur"]) / 1000, about))
    return found


if __name__ == "__main__":
    main()
