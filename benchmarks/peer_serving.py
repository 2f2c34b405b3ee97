"""Compares ``sightline serve`` with clip-retrieval's server on the same vectors; run by ``peers``.

Kinds of requests, one client, fifty hits each, near-duplicates left out by both:

    new text     a text not searched before: the text tower runs
    known text   one that was (Sightline caches its vector, clip-retrieval nothing)
    vector       like an image of the library: Sightline by its id, clip-retrieval by its vector

For each the median latency and the server's CPU time per request; then the time from the start of
the server to its first answer, and its resident memory at the end.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.search import TOP, sentence

Command = list[str | Path]
KINDS = ("new text", "known text", "vector")
HITS = 50
WARM_UP = 5
"""First requests of each kind that are not counted."""

ON_LOOPBACK = """
import flask
run = flask.Flask.run
flask.Flask.run = lambda app, host, **more: run(app, host="127.0.0.1", **more)
from clip_retrieval.cli import main
main()
"""
"""clip-retrieval's command, which otherwise listens on all addresses."""


@dataclass(frozen=True)
class Request:
    """An HTTP request."""

    path: str
    body: bytes | None = None


@dataclass(frozen=True)
class ServedProgram:
    """A server to measure."""

    command: Callable[[int], Command]
    """Port -> command. It is ready when it prints the address with the port."""
    request: Callable[[str, int], Request]
    """(kind, number) -> request."""


def sightline(library: Path, images: int) -> ServedProgram:
    """``sightline serve`` of this checkout."""

    def command(port: int) -> Command:
        serve: Command = [sys.executable, "-m", "sightline", "serve"]
        return [*serve, "--port", str(port), "--library", library]

    def request(kind: str, number: int) -> Request:
        text = {
            "new text": sentence(number),
            # The weight changes: rankings are cached too.
            "known text": f"{1 + number % 10_000 / 10_000:.4f}:dog on a beach",
            "vector": f"like:{1 + number * 7919 % images}",
        }[kind]
        return Request(f"/api/search?q={quote(text)}&k={HITS}")

    return ServedProgram(command, request)


def clip_retrieval(python: Path, model: Path, folder: Path) -> ServedProgram:
    """clip-retrieval's server of the index in ``folder / "i"``, made from ``vectors.npy``."""
    indices = folder / "indices.json"
    indices.write_text(json.dumps({"images": str(folder / "i")}))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")

    def command(port: int) -> Command:
        back: Command = [python, "-c", ON_LOOPBACK, "back", "--port", str(port)]
        back += ["--indices-paths", indices, "--clip_model", f"hf_clip:{model}"]
        # These download models of others.
        return [*back, "--enable_mclip_option=False", "--provide_aesthetic_embeddings=False"]

    def request(kind: str, number: int) -> Request:
        query = {
            "new text": lambda: {"text": sentence(number)},
            "known text": lambda: {"text": "dog on a beach"},
            "vector": lambda: {
                "embedding_input": vectors[number * 7919 % len(vectors)].astype(float).tolist()
            },
        }[kind]()
        settings = {"modality": "image", "num_images": HITS, "indice_name": "images"}
        body = {**query, **settings, "deduplicate": True}
        return Request("/knn-service", json.dumps(body).encode())

    return ServedProgram(command, request)


@contextmanager
def running(command: Command, port: int) -> Iterator[int]:
    """The process id of a server that is ready."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    variables = {**os.environ, **offline}
    if command[0] != sys.executable:
        variables["PYTHONPATH"] = ""
    with subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=TOP,
        env=variables,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if re.search(rf"http://127\.0\.0\.1:{port}\b", line):
                break
        else:
            raise SystemExit(f"the server did not start: {''.join(said[-3:])}")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        try:
            yield process.pid
        finally:
            process.terminate()


def free_port() -> int:
    """A port of the loopback interface that nobody uses."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def send(connection: http.client.HTTPConnection, request: Request) -> None:
    """Sends a request and reads the answer; one without hits ends the benchmark."""
    method = "GET" if request.body is None else "POST"
    headers = {} if request.body is None else {"Content-Type": "application/json"}
    connection.request(method, request.path, request.body, headers)
    answer = connection.getresponse()
    content = answer.read()
    found = json.loads(content) if answer.status == 200 else None
    if not (found["hits"] if isinstance(found, dict) else found):
        raise SystemExit(f"{request.path}: {answer.status} {content[:200]!r}")


def cpu_milliseconds(process: int) -> float:
    """The CPU time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def resident(process: int) -> dict[str, float]:
    """Megabytes of a process: all, and without mapped files."""
    status = Path(f"/proc/{process}/status").read_text()
    return {
        name: int(re.findall(rf"^{key}:\s+(\d+) kB", status, re.M)[0]) / 1024
        for name, key in (("resident, MB", "VmRSS"), ("without mapped files, MB", "RssAnon"))
    }


def measure(programs: dict[str, ServedProgram], requests: int, rounds: int) -> None:
    """Starts each program in turn and prints the table of medians of the rounds."""
    rows: dict[str, dict[str, list[float]]] = {}
    for turn in range(rounds):
        for name, program in programs.items():
            for row, value in one_round(program, requests, turn).items():
                rows.setdefault(row, {}).setdefault(name, []).append(value)
    print(f"\n| served | {' | '.join(programs)} | ratio |\n{'|---' * (len(programs) + 2)}|")
    for row, values in rows.items():
        medians = [statistics.median(values[name]) for name in programs]
        shown = [f"{value:.2f}" if value < 10 else f"{value:.0f}" for value in medians]
        print(f"| {row} | {' | '.join(shown)} | {medians[0] / medians[-1]:.2f} |")


def one_round(program: ServedProgram, requests: int, turn: int) -> dict[str, float]:
    """What one start of the server takes, by row of the table."""
    row, port = {}, free_port()
    started = time.perf_counter()
    with running(program.command(port), port) as process:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        first = (turn + 1) * 1_000_000
        send(connection, program.request("new text", first))
        row["start to first answer, s"] = time.perf_counter() - started
        for kind in KINDS:
            times, used = [], 0.0
            for number in range(requests + WARM_UP):
                if number == WARM_UP:
                    used = cpu_milliseconds(process)
                begun = time.perf_counter()
                send(connection, program.request(kind, first + 1 + number))
                times.append((time.perf_counter() - begun) * 1000)
            row[f"{kind}, p50 ms"] = statistics.median(times[WARM_UP:])
            row[f"{kind}, CPU ms"] = (cpu_milliseconds(process) - used) / requests
        row |= resident(process)
        connection.close()
    return row
