"""Latency of HTTP requests to a served library, cold and warm.

    python -m benchmarks.search --images 100000 [--keep DIR] [--requests 300]

Fills a library with synthetic images (vectors with the geometry of CLIP's; metadata and thumbnails
like those of a personal collection), builds its index as ``sightline index`` does, starts
``sightline serve``, and sends requests from other processes, with one client and with sixteen:

    new text     a text not searched before: the text tower runs
    known text   the text's vector is cached, the ranking is not (other weights and offsets)
    like         an image of the library
    filtered     a text with filters that 1/10 and 1/1000 of the images meet, the same each time
    new filter   the same with another month each time, 1/1000 of the images
    image        an upload of 0.3 megapixels
    thumbnail    one that was not requested before, read from disk unless the OS caches it
    again        one of fifty, in memory

Prints p50, p95 and p99 in milliseconds, the server's CPU time per request, which other programs on
the machine hardly change, and answers per second; how many requests the server refused because it
had too many (503; the client waits as long as the answer says and goes on with the next); and the
time from the start of the server to its first answer, with the part of Python, torch and the model
in it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.catalog import BATCH, ROOT, synthetic
from benchmarks.clip_geometry import ClipGeometry
from benchmarks.photographs import photograph
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library

TOP = Path(__file__).resolve().parent.parent
WORDS = [
    "a", "photo", "of", "two", "dogs", "running", "on", "the", "beach", "at", "sunset", "with",
    "children", "near", "old", "stone", "house", "in", "snow", "red", "car", "under", "bridge",
    "black", "cat", "sleeping", "window", "birthday", "cake", "candles", "mountain", "lake", "boat",
]  # fmt: skip
THUMBNAILS = 20_000
"""Images with a thumbnail; a million of them would fill the disk and not change the figures."""

WARM_UP = 5
"""First requests of each kind that the percentiles and the CPU time leave out."""


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="folder of the library; reused if it exists")
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(exist_ok=True)
        make(place, options.images)
        first_answer(place)
        with served(place / "library") as port:
            measure(port, options)


def make(place: Path, images: int, *, thumbnails: int = THUMBNAILS) -> None:
    """Creates the model and the library, unless they exist."""
    model, directory = place / "model", place / "library"
    if not model.exists():
        from benchmarks.encoder import build

        model.mkdir()
        build(model)
    if Library.exists(directory):
        return
    encoder = Encoder.load(str(model))
    geometry = ClipGeometry(encoder.dimension, seed=0)
    random = np.random.default_rng(0)
    thumbnail = io.BytesIO()
    photograph(0, (512, 384)).save(thumbnail, "WEBP", quality=78)
    started = time.perf_counter()
    with Library.create(
        directory, model=encoder.model, revision=encoder.revision, dimension=encoder.dimension
    ) as library:
        root = library.ensure_root(ROOT)
        for start in range(0, images, BATCH):
            count = min(BATCH, images - start)
            vectors = geometry.images(count, seed=start + 1)
            batch = [synthetic(start + i, vectors[i], random) for i in range(count)]
            written = library.catalog.write(root, images=batch)
            if start < thumbnails:
                library.thumbnails.put_many(dict.fromkeys(written.images, thumbnail.getvalue()))
        run = library.catalog.start_run([str(ROOT)])
        library.catalog.finish_run(run, {})  # optimises the catalog, as every run does
        filled = time.perf_counter()
        texts = geometry.texts(500, seed=1)
        library.maintain_index(text_queries=lambda: texts)
        state = library.index_state
        print(
            f"{images:,} images written in {filled - started:.0f} s; {state.type} index built in"
            f" {time.perf_counter() - filled:.0f} s, nprobe {state.nprobe}, recall {state.recall}"
        )


# the server ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def served(directory: Path) -> Iterator[int]:
    """Runs ``sightline serve`` on a free port."""
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0"]
    command += ["--library", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=TOP) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"at http://\S+:(\d+)/", line):
                break
        else:
            raise SystemExit(f"the server did not start: {''.join(said)}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield int(found[1])
        finally:
            process.terminate()


def first_answer(place: Path) -> None:
    """Prints the time from the start of the process to the first answer, and the model's part."""
    command = [sys.executable, "-c"]
    load = (
        "import sys; from sightline.indexer.encoder import encoder;"
        "encoder.Encoder.load(sys.argv[1]).warm(['text'])"
    )
    times: dict[str, list[float]] = {"torch": [], "model": [], "served": []}
    for _ in range(3):
        for name, code in (("torch", "import torch"), ("model", load)):
            started = time.perf_counter()
            subprocess.run([*command, code, str(place / "model")], check=True, cwd=TOP)
            times[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        with served(place / "library") as port:
            client = Client(port)
            client.get("/api/search?q=" + quote("a dog on a beach"))
            times["served"].append(time.perf_counter() - started)
    median = {name: sorted(values)[1] for name, values in times.items()}
    print(
        f"first answer {median['served']:.2f} s after the start; python and torch alone"
        f" {median['torch']:.2f} s, with the text tower loaded and run {median['model']:.2f} s\n"
    )


class Client:
    """One persistent connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.times: list[float] = []
        """Milliseconds of each request that was answered."""
        self.refused = 0
        """Requests that were refused because the server had too many."""

    def get(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> None:
        """Sends a request. An error other than 503 ends the benchmark."""
        started = time.perf_counter()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status == 503:
            self.refused += 1
            time.sleep(float(answer.headers["Retry-After"]))
        elif answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {content[:200]!r}")
        else:
            self.times.append((time.perf_counter() - started) * 1000)


def cpu_milliseconds(port: int) -> float:
    """The CPU time that the server has used."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    found = re.search(
        r"^process_cpu_seconds_total (\S+)", connection.getresponse().read().decode(), re.M
    )
    assert found is not None
    return float(found[1]) * 1000


# requests ------------------------------------------------------------------------------------

Request = Callable[[Client, int], None]
"""Sends request number n of a kind."""


def sentence(number: int) -> str:
    """A text that is unique to ``number``."""
    random = np.random.default_rng(number)
    return " ".join(random.choice(WORDS, 7)) + f" {number}"


def search(query: str, **more: object) -> str:
    """The path and query string of a search."""
    extra = "".join(f"&{name}={value}" for name, value in more.items())
    return f"/api/search?q={quote(query)}{extra}"


def month(number: int) -> str:
    """Filters of one month of the five years in which the images were taken."""
    year, first = 2020 + number // 12 % 5, 1 + number % 12
    year_after, next_month = (year + 1, 1) if first == 12 else (year, first + 1)
    return f"after:{year}-{first:02} before:{year_after}-{next_month:02}"


def upload() -> tuple[bytes, str]:
    """A multipart body with one image, and its content type."""
    picture = io.BytesIO()
    photograph(7, (640, 480)).save(picture, "JPEG", quality=88)
    head = (
        b'--part\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n"
    )
    return head + picture.getvalue() + b"\r\n--part--\r\n", "multipart/form-data; boundary=part"


def requests(images: int) -> dict[str, Request]:
    """Kind -> requests by number."""
    body, kind = upload()
    return {
        "new text": lambda client, n: client.get(search(sentence(n))),
        "known text": lambda client, n: client.get(
            search(f"{1 + n / 1000:.3f}:dog on a beach", offset=n % 7)
        ),
        "like": lambda client, n: client.get(search(f"like:{1 + n * 7919 % images}")),
        "filtered 1/10": lambda client, n: client.get(
            search(f"{1 + n / 1000:.3f}:dog on a beach type:heic")
        ),
        "filtered 1/1000": lambda client, n: client.get(
            search(f"{1 + n / 1000:.3f}:dog on a beach camera:canon after:2024-06 before:2024-07")
        ),
        "new filter": lambda client, n: client.get(
            search(f"{1 + n / 1000:.3f}:dog on a beach camera:canon {month(n)}")
        ),
        "image": lambda client, n: client.get(
            "/api/search", "POST", body + b" " * (n % 50), **{"Content-Type": kind}
        ),
        "thumbnail": lambda client, n: client.get(
            f"/thumbnails/{1 + n * 7919 % min(images, THUMBNAILS)}"
        ),
        "again": lambda client, n: client.get(f"/thumbnails/{1 + n % 50}"),
    }


def send(port: int, images: int, kind: str, numbers: range, out: object) -> None:
    """A client process: puts the milliseconds of each answer, the number of refused requests and
    the seconds of all of them, except the first, into the pipe ``out``."""
    client, request = Client(port), requests(images)[kind]
    request(client, numbers[0])
    client.times, client.refused = [], 0
    started = time.perf_counter()
    for number in numbers[1:]:
        request(client, number)
    out.send((client.times, client.refused, time.perf_counter() - started))  # type: ignore[attr-defined]


def measure(port: int, options: argparse.Namespace) -> None:
    """Prints the tables."""
    numbers = itertools.count(0, options.requests + 100)
    kinds = list(requests(options.images))
    print(f"{'one client':18}{'first':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'CPU':>9}")
    for kind in kinds:
        request = requests(options.images)[kind]
        client, start = Client(port), next(numbers)
        for number in range(start, start + options.requests):
            if number == start + WARM_UP:
                used = cpu_milliseconds(port)
            request(client, number)
        times = client.times
        p50, p95, p99 = np.percentile(times[WARM_UP:], [50, 95, 99])
        used = (cpu_milliseconds(port) - used) / (options.requests - WARM_UP)
        print(f"{kind:18}{times[0]:9.1f}{p50:9.1f}{p95:9.1f}{p99:9.1f}{used:9.1f}")
    print(f"\n{'sixteen clients':18}{'per s':>9}{'p50':>9}{'p95':>9}{'p99':>9}{'refused':>9}")
    context = multiprocessing.get_context("spawn")
    for kind in kinds:
        start = next(numbers)
        pipes, workers = [], []
        each = max(10, options.requests // 16)
        for number in range(16):
            mine, theirs = context.Pipe(False)
            first = start + number * each
            worker = context.Process(
                target=send, args=(port, options.images, kind, range(first, first + each), theirs)
            )
            pipes.append(mine)
            workers.append(worker)
        for worker in workers:
            worker.start()
        answers = [pipe.recv() for pipe in pipes]
        for worker in workers:
            worker.join()
        times = [ms for some, _, _ in answers for ms in some]
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        rate = sum(len(some) / seconds for some, _, seconds in answers)
        refused = sum(count for _, count, _ in answers)
        print(f"{kind:18}{rate:9.0f}{p50:9.1f}{p95:9.1f}{p99:9.1f}{refused:9}")
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/api/status")
    status = json.loads(connection.getresponse().read())
    print(f"\n{status['images']:,} images, index {status['index']['type']}, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
