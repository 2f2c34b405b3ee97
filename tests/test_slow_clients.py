"""Slow and disconnecting clients: the server answers others meanwhile, and releases sockets, files
and threads afterwards."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers_library import id_of, make_library
from helpers_serving import eventually, get, serving_process
from helpers_shards import make_drawings
from PIL import Image

from sightline.indexer.encoder import Encoder

CLIENTS = 120
"""Concurrent slow clients: three times the server's threads."""

IMAGES = 40

ALLOWED = min(8 * (os.cpu_count() or 1), 120)
"""Threads and open files that the server may keep after its first load; a leak of one per client
would be 240."""

NAMED = b" HTTP/1.1\r\nHost: localhost\r\n"
BEHAVIOURS = {
    "sends nothing": b"",
    "sends half a request": b"GET /api/search?q=dog" + NAMED,
    "sends half an upload": b"POST /api/uploads" + NAMED + b"Content-Length: 9999999\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + b"x" * 5000,
    "does not read the response": b"GET /api/search?q=dog" + NAMED + b"\r\n",
    "does not read a large file": b"GET /images/LARGE" + NAMED + b"\r\n",
}


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[tuple[str, int, int]]:
    """A server's URL, its process id, and the id of an image of 27 MB, more than the kernel
    buffers for a client that does not read."""
    place = tmp_path_factory.mktemp("slow")
    pictures = make_drawings(place / "pictures", IMAGES - 1)
    noise = np.random.default_rng(1).integers(0, 256, (3000, 3000, 3), np.uint8)
    Image.fromarray(noise).save(pictures / "large.png", compress_level=0)
    with make_library(place / "library", tiny_encoder, pictures) as library:
        large = id_of(library, "large.png")
    with serving_process("--library", place / "library", "--device", "cpu") as (address, pid):
        assert eventually(lambda: is_answered(address))
        yield address, pid, large


def handles(pid: int) -> list[str]:
    """The targets of a process's open file descriptors."""
    found = []
    for handle in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(str(handle.readlink()))
    return found


def sockets(pid: int) -> int:
    """Number of open sockets, the listening one included."""
    return sum(handle.startswith("socket:") for handle in handles(pid))


def threads_of(pid: int) -> int:
    """Number of threads."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def is_answered(address: str) -> bool:
    """Whether a search succeeds; a busy server answers 503 with Retry-After."""
    try:
        return bool(get(address, "/api/search", q="a slow evening")["total"] == IMAGES)
    except HTTPError as error:
        with error:
            if error.code != 503 or not error.headers["Retry-After"]:
                raise
        return False


@contextmanager
def slow_clients(address: str, request: bytes) -> Iterator[None]:
    """Connections that send ``request`` and read nothing; reset at the end."""
    where = urlsplit(address)
    with ExitStack() as connections:
        for _ in range(CLIENTS):
            one = connections.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.connect((where.hostname, where.port))
            one.sendall(request)
        yield


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_slow_clients_do_not_block_others_or_leak_resources(
    behaviour: str, served: tuple[str, int, int]
) -> None:
    address, pid, large = served
    request = BEHAVIOURS[behaviour].replace(b"LARGE", str(large).encode())
    before = threads_of(pid), len(handles(pid))
    for _ in range(2):
        with slow_clients(address, request):
            if behaviour != "does not read the response":
                assert eventually(lambda: sockets(pid) > CLIENTS)
            assert eventually(lambda: is_answered(address)), "other clients are not answered"
        assert eventually(lambda: sockets(pid) == 1), "connections leak"
        assert eventually(lambda: not any("large.png" in one for one in handles(pid)))
    assert eventually(lambda: threads_of(pid) <= before[0] + ALLOWED), "threads leak"
    assert eventually(lambda: len(handles(pid)) <= before[1] + ALLOWED), "files leak"
