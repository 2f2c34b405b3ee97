"""Slow clients, and clients that vanish, tie up nothing: a served library answers others meanwhile,
and has its sockets, files and threads back when they are gone."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers_library import id_of, make_library
from helpers_serving import get, serving_process
from helpers_shards import make_drawings
from PIL import Image

from sightline.indexer.encoder import Encoder

MANY = 120
"""Slow clients at once: three times the server's threads."""

PICTURES = 40

KEPT = min(8 * (os.cpu_count() or 1), 120)
"""Threads, or files of the library, that a server which computes one request a core may begin to
keep the first time that it has so many; one a client would be 240."""

SOON = 60.0
"""Seconds for what takes a fraction of one on an idle machine."""

NAMED = b" HTTP/1.1\r\nHost: localhost\r\n"
MANNERS = {
    "says nothing": b"",
    "sends half a request": b"GET /api/search?q=dog" + NAMED,
    "sends half an upload": b"POST /api/uploads" + NAMED + b"Content-Length: 9999999\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + b"x" * 5000,
    "asks and does not wait": b"GET /api/search?q=dog" + NAMED + b"\r\n",
    "does not read a large file": b"GET /images/LARGE" + NAMED + b"\r\n",
}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[tuple[str, int, int]]:
    """A server's address, its process, and the id of a picture of 27 MB: more than the system
    takes over from a program for a client that does not read."""
    place = tmp_path_factory.mktemp("slow")
    pictures = make_drawings(place / "pictures", PICTURES - 1)
    noise = np.random.default_rng(1).integers(0, 256, (3000, 3000, 3), np.uint8)
    Image.fromarray(noise).save(pictures / "large.png", compress_level=0)
    with make_library(place / "library", tiny_encoder, pictures) as library:
        large = id_of(library, "large.png")
    with serving_process("--library", place / "library", "--device", "cpu") as (address, pid):
        assert soon(lambda: is_answered(address))
        yield address, pid, large


def handles(pid: int) -> list[str]:
    """What a process has open: sockets, files, pipes."""
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(handle.readlink()))
    return found


def sockets(pid: int) -> int:
    """Of a process; the one it listens on is one of them."""
    return sum(handle.startswith("socket:") for handle in handles(pid))


def threads_of(pid: int) -> int:
    """How many a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def soon(holds: Callable[[], bool]) -> bool:
    """Whether this holds within ``SOON`` seconds."""
    end, pause = time.monotonic() + SOON, threading.Event()
    while not holds():
        if time.monotonic() > end:
            return False
        pause.wait(0.02)
    return True


def is_answered(address: str) -> bool:
    """Whether a search finds every picture; a server that is busy says so and when to come."""
    try:
        return bool(get(address, "/api/search", q="a slow evening")["total"] == PICTURES)
    except HTTPError as error:
        with error:
            if error.code != 503 or not error.headers["Retry-After"]:
                raise
        return False


@contextmanager
def slow_clients(address: str, said: bytes) -> Iterator[None]:
    """Connections on which this was said and nothing is read. At the end they are reset."""
    where = urlsplit(address)
    with ExitStack() as connections:
        for _ in range(MANY):
            one = connections.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.connect((where.hostname, where.port))
            one.sendall(said)
        yield


@pytest.mark.parametrize("manner", MANNERS)
def test_slow_clients_tie_up_nothing_and_leave_nothing_behind(
    manner: str, served: tuple[str, int, int]
) -> None:
    address, pid, large = served
    said = MANNERS[manner].replace(b"LARGE", str(large).encode())
    before = threads_of(pid), len(handles(pid))
    for _ in range(2):
        with slow_clients(address, said):
            if manner != "asks and does not wait":
                assert soon(lambda: sockets(pid) > MANY)
            assert soon(lambda: is_answered(address)), "the others are not answered"
        assert soon(lambda: sockets(pid) == 1), "connections are left"
        assert soon(lambda: not any("large.png" in one for one in handles(pid)))
    assert soon(lambda: threads_of(pid) <= before[0] + KEPT), "threads are left"
    assert soon(lambda: len(handles(pid)) <= before[1] + KEPT), "files are left"
