"""A server under load: latency by kind of request, and correctness of every response.

    python -m benchmarks.load --keep FOLDER [--images 100000] [--seconds 60] [--think 0.5]

Creates a library of synthetic images (as ``benchmarks/search.py``, with a thumbnail that contains
the image's id), starts ``sightline serve`` on it, and runs 64 clients with a mix of requests for a
minute, or until a rebuild has ended. Each client waits ``--think`` seconds on average between
requests. Meanwhile

* ``sightline index`` adds images and ``sightline rebuild`` rebuilds the index, repeatedly;
* 100 slow clients send half a request, read a response byte by byte, or disconnect.

Then the server receives SIGTERM with requests in progress. Checked are: no status of 500 and above
except 503 with Retry-After; no response about another image than requested; no growth of memory;
every request accepted before SIGTERM is answered, and exit status 0. Exit status 1 if a check
fails. Latency, on the idle server and under load, is printed and not checked; the clients' own
process takes 4% of a core at ``--think 2``.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.catalog import BATCH, ROOT, synthetic
from benchmarks.clip_geometry import ClipGeometry
from benchmarks.photographs import photograph, write_photographs
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library

TOP = Path(__file__).resolve().parent.parent

MIX = {
    "new text": 8,
    "known text": 20,
    "filtered": 14,
    "similar": 14,
    "metadata": 8,
    "image": 4,
    "thumbnail": 32,
}
"""Percentage of each kind of request."""

WORDS = ["a", "photo", "of", "two", "dogs", "on", "a", "meadow", "at", "sunset", "with", "children"]

MARK = b"SLno"
"""Name of the RIFF chunk of a thumbnail that contains its image's id."""

MAX_SECONDS = 420
"""Time limit of a run that waits for a rebuild."""

MAX_GROWTH = 1.25
"""Allowed ratio of the server's memory at the end to that after a third of the time."""


# the library --------------------------------------------------------------------------------------


def make(place: Path, images: int) -> None:
    """Creates the library, unless it exists."""
    directory = place / "library"
    if Library.exists(directory):
        return
    encoder = Encoder.load("builtin")
    geometry = ClipGeometry(encoder.dimension, seed=0)
    rng = np.random.default_rng(0)
    webps = []
    for seed in range(100):
        out = io.BytesIO()
        photograph(seed, (512, 384)).save(out, "WEBP", quality=70, method=0)
        webps.append(out.getvalue())
    started = time.perf_counter()
    with Library.create(
        directory, model=encoder.model, revision=encoder.revision, dimension=encoder.dimension
    ) as library:
        root = library.ensure_root(ROOT)
        for start in range(0, images, BATCH):
            count = min(BATCH, images - start)
            vectors = geometry.images(count, seed=start + 1)
            batch = [synthetic(start + i, vectors[i], rng) for i in range(count)]
            written = library.catalog.write(root, images=batch)
            library.thumbnails.put_many(
                {id_: numbered(webps[id_ % len(webps)], id_) for id_ in written.images}
            )
        library.maintain_index(text_queries=lambda: geometry.texts(300, seed=1))
        print(f"{images:,} images created in {time.perf_counter() - started:.0f} s")


def numbered(webp: bytes, number: int) -> bytes:
    """``webp`` with an extra chunk that contains ``number``, which decoders skip."""
    chunk = MARK + struct.pack("<IQ", 8, number)
    size = struct.unpack("<I", webp[4:8])[0] + len(chunk)
    return webp[:4] + struct.pack("<I", size) + webp[8:] + chunk


def number_of(webp: bytes) -> int | None:
    """The number that ``numbered`` stored, or None."""
    offset = webp.rfind(MARK)
    return struct.unpack("<Q", webp[offset + 8 : offset + 16])[0] if offset >= 0 else None


# the clients --------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Latencies in ms, statuses and errors; one per client."""

    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Adds another client's."""
        for kind, times in other.times.items():
            self.times[kind] += times
        self.statuses += other.statuses
        self.wrong += other.wrong


class Client:
    """A client with one persistent connection."""

    def __init__(self, port: int, images: int, seed: int) -> None:
        self.port, self.images = port, images
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, kind: str) -> None:
        """Sends one request of that kind and checks the response."""
        id_ = self.rng.randint(1, self.images)
        path, body, headers = self._request(kind, id_)
        started = time.perf_counter()
        self.connection.request("POST" if body else "GET", path, body, headers)
        answer = self.connection.getresponse()
        data = answer.read()
        took = time.perf_counter() - started
        if answer.status == 503:
            if answer.headers.get("Retry-After"):
                self.tally.statuses["503 with Retry-After"] += 1
            else:
                self.tally.statuses["503 without"] += 1
            # Shorter than the header says, to keep up the load.
            time.sleep(0.5)
            return
        self.tally.statuses[str(answer.status)] += 1
        if answer.status != 200:
            self.tally.wrong.append(f"{kind} {path}: {answer.status} {data[:200]!r}")
            return
        self.tally.times[kind].append(took * 1000)
        if (problem := self._check(kind, id_, data)) is not None:
            self.tally.wrong.append(f"{kind} {path}: {problem}")

    def _request(self, kind: str, id_: int) -> tuple[str, bytes | None, dict[str, str]]:
        weight = f"{1 + self.rng.random():.4f}"
        if kind == "new text":
            words = " ".join(self.rng.choices(WORDS, k=7))
            return f"/api/search?k=20&q={quote(words)}+{self.rng.randrange(10**9)}", None, {}
        if kind == "known text":
            return f"/api/search?k=20&q={weight}:dog+on+a+meadow", None, {}
        if kind == "filtered":
            more = self.rng.choice(["type:heic", "camera:canon+after:2024", "is:portrait"])
            return f"/api/search?k=20&q={weight}:dog+on+a+meadow+{more}", None, {}
        if kind == "similar":
            return f"/api/images/{id_}/similar?k=20", None, {}
        if kind == "metadata":
            return f"/api/images/{id_}", None, {}
        if kind == "image":
            # Trailing bytes make each upload different but do not change the image.
            image = UPLOAD + struct.pack("<d", self.rng.random())
            part = b"--part\r\nContent-Disposition: form-data; name="
            body = part + b'"k"\r\n\r\n20\r\n' + part + b'"image"; filename="a.jpg"\r\n'
            body += b"Content-Type: image/jpeg\r\n\r\n" + image + b"\r\n--part--\r\n"
            return "/api/search", body, {"Content-Type": "multipart/form-data; boundary=part"}
        return f"/thumbnails/{id_}", None, {}

    def _check(self, kind: str, id_: int, data: bytes) -> str | None:
        if kind == "thumbnail":
            number = number_of(data)
            return None if number == id_ else f"the thumbnail of {number}"
        body = json.loads(data)
        if kind == "metadata":
            return None if body["name"] == name_of(id_) else body["name"]
        hits = body["hits"]
        if len(hits) != 20:
            return f"{len(hits)} hits"
        for hit in hits:
            if hit["id"] <= self.images and hit["name"] != name_of(hit["id"]):
                return f"{hit['id']} has the name {hit['name']}"
        scores = [hit["score"] for hit in hits]
        if scores != sorted(scores, reverse=True):
            return f"hits are not sorted: {[(hit['id'], hit['score']) for hit in hits]}"
        if kind == "similar" and any(hit["id"] == id_ for hit in hits):
            return "the image is its own neighbour"
        return None


def name_of(id_: int) -> str:
    """The file name of an image that ``make`` created."""
    return f"IMG_{id_ - 1:07d}.jpg"


def upload() -> bytes:
    """A query image."""
    out = io.BytesIO()
    photograph(7, (640, 480)).save(out, "JPEG", quality=88)
    return out.getvalue()


UPLOAD = upload()


def run_client(client: Client, think: float, until: threading.Event) -> None:
    """Sends the requests of ``MIX`` until ``until`` is set."""
    kinds, weights = zip(*MIX.items(), strict=True)
    while not until.is_set():
        # Wait first, or all clients would send their first request at the same time.
        if think and until.wait(client.rng.expovariate(1 / think)):
            return
        [kind] = client.rng.choices(kinds, weights)
        try:
            client.ask(kind)
        except (OSError, http.client.HTTPException) as error:
            if until.is_set():
                return
            client.tally.wrong.append(f"{kind}: {error!r}")
            client.connection.close()


def run_slow_client(port: int, until: threading.Event, seed: int) -> None:
    """A client that sends half a request, reads slowly, or disconnects, until ``until`` is set."""
    rng = random.Random(seed)
    until.wait(rng.uniform(0, 2))
    while not until.is_set():
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as to:
            to.settimeout(1)
            behaviour = seed % 4
            whole = b"GET /api/search?q=dog&k=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            if behaviour == 0:  # half a request
                to.sendall(whole[: rng.randrange(1, len(whole))])
                until.wait(20)
            elif behaviour == 1:  # a large response, read byte by byte
                to.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                to.sendall(whole)
                for _ in range(20):
                    with contextlib.suppress(TimeoutError):
                        to.recv(1)
                    if until.wait(1):
                        break
            elif behaviour == 2:  # disconnects before the response
                to.sendall(whole)
                to.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                until.wait(rng.uniform(0, 2))
            else:  # an incomplete upload
                to.sendall(
                    b"POST /api/uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
                    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + b"x" * 5000
                )
                until.wait(20)


# around them --------------------------------------------------------------------------------------


def index_and_rebuild(place: Path, until: threading.Event, done: Counter[str]) -> None:
    """Adds images and rebuilds the index, in turn, until ``until`` is set, at the niceness that
    ``index --watch`` has."""
    command = [sys.executable, "-m", "sightline"]
    library = ["--library", str(place / "library"), "--quiet", "--nice", "10"]
    while not until.is_set():
        folder = place / "added"
        # New images each time, or results would fold into near-duplicates.
        now = time.time_ns()
        write_photographs(folder / f"{now}", 200, (640, 480), seed=now // 10**6 % 2**31)
        for name, arguments in (
            ("index", ["index", str(folder), "--workers", "1"]),
            ("rebuild", ["rebuild", "--index", "ivf-pq"]),
        ):
            if until.is_set():
                return
            with subprocess.Popen(
                [*command, *arguments, *library], cwd=TOP, stderr=subprocess.PIPE, text=True
            ) as process:
                while process.poll() is None:
                    if until.wait(0.2):
                        process.send_signal(signal.SIGINT)
                        process.wait()
                        return
                assert process.stderr is not None
                output = process.stderr.read()
            done[name if not process.returncode else f"{name} failed: {output}"] += 1


def resident(pid: int) -> int:
    """Anonymous memory in bytes of a process and its children."""
    total = 0
    for one in [pid, *children(pid)]:
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            total += 1024 * int(next(x for x in lines if x.startswith("RssAnon")).split()[1])
    return total


def children(pid: int) -> list[int]:
    """Process ids of the children of ``pid``, which any of its threads may have started."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(one) for text in texts for one in text.split()]


@contextlib.contextmanager
def served(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """``sightline serve`` on a free port: the process and the port."""
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "--library", str(directory)], stderr=subprocess.PIPE, text=True, cwd=TOP
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r":(\d+)/", line)
        if found is None:
            raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
        log: list[str] = []
        threading.Thread(target=lambda: log.extend(process.stderr), daemon=True).start()
        try:
            yield process, int(found[1])
        finally:
            if process.poll() is None:
                process.kill()
            print(*log[-20:], sep="", end="")


def idle(port: int, images: int, rounds: int) -> dict[str, list[float]]:
    """Latencies of each kind with one request at a time."""
    client = Client(port, images, 0)
    for _ in range(rounds):
        for kind in MIX:
            client.ask(kind)
    if client.tally.wrong:
        raise SystemExit("\n".join(client.tally.wrong[:5]))
    return {kind: times[2:] for kind, times in client.tally.times.items()}


def terminate(process: subprocess.Popen[str], port: int, images: int) -> list[str]:
    """Sends SIGTERM with requests in progress; returns what failed."""
    wrong: list[str] = []
    clients = [Client(port, images, 5000 + n) for n in range(16)]
    begun = threading.Barrier(17)

    def ask(client: Client) -> None:
        client.ask("metadata")
        begun.wait()
        try:
            client.ask("new text")
        except (OSError, http.client.HTTPException) as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=ask, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    begun.wait()
    time.sleep(0.03)  # the requests are in flight
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    if process.wait(30):
        wrong.append(f"exit status {process.returncode}")
    for client in clients:
        wrong += client.tally.wrong
    return wrong


def main() -> int:
    """Runs the benchmark and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=0.5, help="seconds between two requests")
    parser.add_argument("--no-writers", action="store_true", help="no indexer, no rebuild")
    parser.add_argument("--keep", type=Path, help="the folder of the library, created if missing")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(exist_ok=True)
        make(place, options.images)
        return load(place, options)


def load(place: Path, options: argparse.Namespace) -> int:
    """Runs the benchmark on the library in ``place``; returns the exit status."""
    # Keeps the clients' own wait for the GIL out of the latencies.
    sys.setswitchinterval(0.0005)
    until = threading.Event()
    done: Counter[str] = Counter()
    clients: list[Client] = []
    memory: list[int] = []
    with served(place / "library") as (process, port):
        alone = idle(port, options.images, 22)
        clients = [Client(port, options.images, 100 + n) for n in range(options.clients)]
        threads = [
            threading.Thread(target=run_client, args=(client, options.think, until))
            for client in clients
        ]
        threads += [
            threading.Thread(target=run_slow_client, args=(port, until, n)) for n in range(100)
        ]
        if not options.no_writers:
            threads.append(threading.Thread(target=index_and_rebuild, args=(place, until, done)))
        for thread in threads:
            thread.start()
        begun = time.monotonic()
        # At least one rebuild must end under load.
        while (passed := time.monotonic() - begun) < options.seconds or (
            not options.no_writers and not done["rebuild"] and passed < MAX_SECONDS
        ):
            memory.append(resident(process.pid))
            time.sleep(1)
        until.set()
        for thread in threads:
            thread.join()
        wrong = terminate(process, port, options.images)
    tally = Tally()
    for client in clients:
        tally.add(client.tally)
    print(f"{'':14}{'idle':>9}{'':9}{'under load':>12}\n{'':14}{'p50':>9}{'p99':>9}", end="")
    print(f"{'requests':>12}{'p50':>9}{'p99':>9}{'max':>9}{'p99 / idle p50':>16}")
    for kind in MIX:
        own, times = np.array(alone[kind]), np.array(tally.times[kind] or [np.nan])
        idle50 = np.percentile(own, 50)
        p50, p99 = np.percentile(times, [50, 99])
        print(
            f"{kind:14}{idle50:9.1f}{np.percentile(own, 99):9.1f}{len(times):12,}"
            f"{p50:9.1f}{p99:9.1f}{times.max():9.1f}{p99 / idle50:16.1f}"
        )
    total = sum(tally.statuses.values())
    print(
        f"{total:,} responses in {passed:.0f} s to {options.clients} clients:"
        f" {', '.join(f'{count:,} x {status}' for status, count in tally.statuses.most_common())}"
    )
    third = memory[len(memory) // 3]
    print(
        f"memory {memory[0] / 2**20:.0f} MiB at the start, {third / 2**20:.0f} after a third,"
        f" {memory[-1] / 2**20:.0f} at the end, {max(memory) / 2**20:.0f} at most"
    )
    print(", ".join(f"{count} x {name}" for name, count in done.items()) or "no writers")
    wrong += tally.wrong
    wrong += [s for s in tally.statuses if s.startswith("5") and s != "503 with Retry-After"]
    wrong += [name for name in done if "failed" in name]
    if not options.no_writers and not done["rebuild"]:
        wrong.append(f"no rebuild ended within {passed:.0f} s")
    if memory[-1] > MAX_GROWTH * third:
        wrong.append("the server's memory grows")
    print(f"{len(wrong)} wrong", *wrong[:10], sep="\n  ")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
