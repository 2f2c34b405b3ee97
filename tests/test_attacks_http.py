"""Attacks over HTTP: on memory, disk and connections before authentication, on the token, and past
a proxy. Real sockets on loopback."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import make_library
from helpers_serving import TIMEOUT, eventually
from helpers_shards import make_drawings

from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.files import deadline
from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder, decoder
from sightline.indexer.types import Geometry
from sightline.server.search import SearchEngine, originals
from sightline.server.search.notebook import figure
from sightline.server.web import connections, health, security
from sightline.server.web.app import create_app
from sightline.server.web.config import ServerConfig, read_token
from sightline.server.web.tokens import FREE_TRIES, BackOff
from sightline.server.web.waitress_server import Server

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

TOKEN = "correct horse battery staple"
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
LARGE = 62 * 10**6


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[SearchEngine]:
    """A search engine on a library of four drawings."""
    folder = tmp_path_factory.mktemp("attacks")
    drawings = make_drawings(folder / "pictures", 4)
    with (
        make_library(folder / "library", tiny_encoder, drawings) as library,
        SearchEngine(library, tiny_encoder) as made,
    ):
        yield made


@contextmanager
def serving(engine: SearchEngine, **settings: object) -> Iterator[int]:
    """The port of a server that requires ``TOKEN``."""
    config = ServerConfig(port=0, threads=4, token=TOKEN)
    config = replace(config, **settings)  # type: ignore[arg-type]
    server = Server(create_app(engine, config=config), config)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, kwargs={"ready": ready.set})
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        yield server.port
    finally:
        server.stop()
        thread.join(TIMEOUT)


@pytest.fixture(scope="module")
def port(engine: SearchEngine) -> Iterator[int]:
    """The port of a server that requires ``TOKEN``."""
    with serving(engine) as found:
        yield found


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection to the server."""
    return socket.create_connection(("127.0.0.1", port), TIMEOUT, (source, 0))


def headers(method: str, path: str, *more: str, host: str = "localhost") -> bytes:
    """The head of a request."""
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{''.join(more)}\r\n".encode("latin-1")


def answer_of(connection: socket.socket) -> tuple[int, str]:
    """The status and the headers of the next response."""
    data = b""
    while b"\r\n\r\n" not in data:
        received = connection.recv(65536)
        assert received, f"the connection was closed after {data!r}"
        data += received
    head = data.partition(b"\r\n\r\n")[0].decode("latin-1")
    return int(head.split()[1]), head


def ask(port: int, request: bytes, source: str = "127.0.0.1") -> tuple[int, str]:
    """Sends ``request``; the status and the headers of the response."""
    with connected(port, source) as connection:
        connection.sendall(request)
        return answer_of(connection)


def spooled() -> int:
    """Bytes of the unnamed temporary files that this process, which is the server, has open."""
    total = 0
    for handle in Path("/proc/self/fd").iterdir():
        try:
            if str(handle.readlink()).endswith("(deleted)"):
                total += handle.stat().st_size
        except FileNotFoundError:
            continue
    return total


# exposure ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exposed",
    [{"hosts": ("photos.example.org",)}, {"trusted_proxy": "127.0.0.1"}, {"host": "0.0.0.0"}],
)
def test_exposure_beyond_this_machine_requires_a_token(exposed: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"token.*SIGHTLINE_TOKEN"):
        ServerConfig(**exposed)  # type: ignore[arg-type]
    ServerConfig(**exposed, token=TOKEN)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["Forwarded", "X-Forwarded-For", "X-Forwarded-Prefix", "X-Real-IP", "Via", "CF-Connecting-IP"],
)
def test_without_a_token_nothing_is_served_through_a_proxy(engine: SearchEngine, name: str) -> None:
    client = client_of(create_app(engine))
    for address in ("/", "/api/search?q=dog", "/images/1", "/healthz", "/metrics"):
        answer = client.get(address, headers={name: "1.1 proxy"})
        assert answer.status_code == 403
        assert "SIGHTLINE_TOKEN" in answer.get_data(as_text=True)
    tokened = client_of(create_app(engine, config=ServerConfig(token=TOKEN)))
    for header, status in (({}, 401), ({"Authorization": f"Bearer {TOKEN}"}, 200)):
        answer = tokened.get("/api/status", headers={name: "1.1 proxy", **header})
        assert answer.status_code == status


def test_without_a_token_nothing_is_served_below_a_path(engine: SearchEngine) -> None:
    client = client_of(create_app(engine))
    assert client.get("/api/status", base_url="http://localhost/photos").status_code == 403


# bodies before authentication --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "method", "path", "more", "host"),
    [
        (401, "POST", "/api/uploads", "", "localhost"),
        (401, "POST", "/api/zip", "Authorization: Bearer wrong-wrong-wrong\r\n", "localhost"),
        (401, "PUT", "/nowhere", "", "localhost"),
        (404, "POST", "/nowhere", BEARER, "localhost"),
        (405, "PUT", "/api/uploads", BEARER, "localhost"),
        (405, "POST", "/api/status", BEARER, "localhost"),
        (200, "GET", "/api/status", BEARER, "localhost"),
        (413, "POST", "/api/zip", BEARER, "localhost"),
        (413, "POST", "/knn-service", BEARER, "localhost"),
        (413, "POST", "/signin", "", "localhost"),
        (421, "POST", "/api/uploads", BEARER, "evil.example"),
        (403, "POST", "/api/uploads", BEARER + "Origin: http://evil.example\r\n", "localhost"),
    ],
)
def test_a_refused_body_is_answered_from_the_headers_and_not_stored(
    port: int, status: int, method: str, path: str, more: str, host: str
) -> None:
    before = spooled()
    head = headers(method, path, more, f"Content-Length: {LARGE}\r\n", host=host)
    with connected(port) as connection:
        connection.sendall(head)
        assert answer_of(connection)[0] == status  # not a byte of the body was sent
        assert spooled() == before


def test_bodies_sent_without_a_token_use_no_disk(port: int) -> None:
    before, most = spooled(), 0
    with ExitStack() as stack:
        for _ in range(8):
            connection = stack.enter_context(connected(port))
            connection.sendall(headers("POST", "/api/uploads", f"Content-Length: {LARGE}\r\n"))
            try:
                for _ in range(40):
                    connection.sendall(b"x" * 100_000)
            except OSError:
                continue
            finally:
                most = max(most, spooled() - before)
    assert most == 0


def test_a_refused_client_that_sends_its_body_first_reads_the_answer(port: int) -> None:
    for head in (f"Content-Length: {2**20}\r\n", "Transfer-Encoding: chunked\r\n"):
        with connected(port) as connection:
            connection.sendall(headers("POST", "/api/uploads", head) + b"x" * 2**20)
            assert answer_of(connection)[0] == 401


def test_a_refused_body_is_not_parsed_as_the_next_request(port: int) -> None:
    inner = headers("GET", "/api/status", BEARER)
    head = headers("POST", "/api/uploads", f"Content-Length: {len(inner)}\r\n")
    with connected(port) as connection:
        connection.sendall(head + inner)
        received = b""
        while data := connection.recv(65536):
            received += data
        assert received.count(b"HTTP/1.1") == 1


def test_a_chunked_body_ends_at_the_limit_of_its_route(port: int) -> None:
    chunk = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    kind = "Content-Type: application/json\r\n"
    with connected(port) as connection:
        connection.sendall(
            headers("POST", "/api/zip", BEARER, kind, "Transfer-Encoding: chunked\r\n")
            + chunk
            + chunk[:100]
        )
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413")
    assert b"Content-Type: application/json" in head
    assert list(json.loads(body)) == ["error"]


def test_bodies_of_all_clients_together_are_limited(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_HELD", 3 * 2**20)
    head = headers("POST", "/api/uploads", BEARER, f"Content-Length: {LARGE}\r\n")
    free = spooled()
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(connected(port)).sendall(head + b"x" * 2**20)
        # Nearly all: a few kB of each may be in a buffer.
        assert eventually(lambda: spooled() > free + 2 * 2**20 - 2**16)
        before = spooled()
        third = stack.enter_context(connected(port))
        third.sendall(head + b"x" * (2 * 2**20))
        status, answered = answer_of(third)
        assert (status, "Retry-After" in answered) == (503, True)
        assert spooled() <= before + 2 * 2**20
    # All that was held is free again.
    small = headers("POST", "/api/uploads", BEARER, "Content-Length: 2000000\r\n")
    assert eventually(lambda: ask(port, small + b"x" * 2_000_000)[0] == 400)


@pytest.mark.parametrize("more", ["", "Content-Length: 0\r\n"])
def test_expect_continue_without_a_body_is_answered(port: int, more: str) -> None:
    for method, path in (("GET", "/livez"), ("POST", "/nowhere")):
        request = headers(method, path, BEARER, "Expect: 100-continue\r\n", more)
        assert ask(port, request)[0] in (200, 404)


def test_expect_continue_is_refused_without_a_token(port: int) -> None:
    head = ("Expect: 100-continue\r\n", "Content-Length: 4\r\n")
    assert ask(port, headers("POST", "/api/uploads", *head))[0] == 401
    with connected(port) as connection:
        connection.sendall(headers("POST", "/api/uploads", BEARER, *head))
        assert answer_of(connection)[0] == 100
        connection.sendall(b"junk")
        assert answer_of(connection)[0] == 400


@pytest.mark.parametrize(
    "head", [f"Content-Length: {'9' * 5000}\r\n", f"X: {'x' * 70_000}\r\n", "Host: [\r\n"]
)
def test_monstrous_headers_are_refused(port: int, head: str) -> None:
    assert ask(port, headers("POST", "/api/uploads", head))[0] in (400, 413, 421, 431)


# connections -------------------------------------------------------------------------------------


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allows this process, client and server in one, 4,096 open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("sources", [1, 5])
def test_a_thousand_half_requests_keep_nobody_out(
    many_files: None, engine: SearchEngine, sources: int
) -> None:
    with serving(engine) as port, ExitStack() as stack:
        for number in range(1010):
            source = f"127.0.0.{2 + number % sources}"
            half = stack.enter_context(connected(port, source))
            half.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        for source in ("127.0.0.1", "127.0.0.2"):
            assert ask(port, headers("GET", "/livez"), source)[0] == 200


@pytest.mark.parametrize(
    ("limit", "sent"),
    [
        ("HEADER_SECONDS", b""),
        ("HEADER_SECONDS", b"GET / HTTP/1.1\r\n"),
        (
            "BODY_SECONDS",
            headers("POST", "/api/uploads", BEARER, "Content-Length: 9\r\n") + b"x",
        ),
        ("IDLE_SECONDS", headers("GET", "/livez")),
    ],
)
def test_slow_clients_are_disconnected_at_the_deadline(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch, limit: str, sent: bytes
) -> None:
    monkeypatch.setattr(connections, limit, 0.2)
    with serving(engine) as port, connected(port) as connection:
        connection.sendall(sent)
        # Reset if the deadline came before the server had read what was sent.
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass


def test_without_file_descriptors_the_server_waits_and_logs_one_line(
    engine: SearchEngine, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    library = engine.library
    assert isinstance(library, Library)
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0", "--device", "cpu"]
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--library", str(library.directory)], stderr=output)
    try:
        assert eventually(lambda: bool(re.search(r"at http\S+", log.read_text())))
        found = re.search(r"at http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        port = int(found[1])
        assert eventually(lambda: ask(port, headers("GET", "/healthz"))[0] == 200)
        handles = [int(one.name) for one in Path(f"/proc/{process.pid}/fd").iterdir()]
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (max(handles) + 8, 4096))
        with ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(connected(port)).sendall(b"GET / HTTP/1.1\r\n")
            assert eventually(lambda: "cannot accept" in log.read_text())
            assert ask(port, headers("GET", "/livez"))[0] == 200
        text = log.read_text()
        assert "Traceback" not in text
        assert text.count("cannot accept") == 1
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)


# JSON --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["/api/zip", "/knn-service", "/metadata"])
@pytest.mark.parametrize(
    "body", [rb'{"text": "\ud800", "ids": [1], "x": "\udfff"}', b'{"text": "\xed\xa0\x80"}']
)
def test_lone_surrogates_are_invalid_json(engine: SearchEngine, address: str, body: bytes) -> None:
    client = client_of(create_app(engine))
    answer = client.post(address, data=body, content_type="application/json")
    assert answer.status_code == 400


def test_millions_of_values_in_json_take_little_memory(engine: SearchEngine) -> None:
    client = client_of(create_app(engine))
    size = 15 * 10**6
    body = b'{"embedding_input":[' + b"[]," * (size // 3) + b"1]}"
    client.get("/livez")
    tracemalloc.start()
    try:
        assert client.post("/knn-service", data=body).status_code == 400
        assert tracemalloc.get_traced_memory()[1] < 6 * size
    finally:
        tracemalloc.stop()
    assert client.post("/metadata", data=body).status_code == 413


# the token ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weak",
    [
        *("tökén with umläuts", "a\ud800bcdefghijklmnopq", "kX9-qLw3Zr7Te", "x" * 40),
        *("1234567890" * 2, "hunter2" * 3, "a" * 16 + "b", "abcdefghijklmnopqrst"),
    ],
)
def test_tokens_that_cannot_be_sent_or_can_be_guessed_are_refused(weak: str) -> None:
    with pytest.raises(UsageError, match=r"secrets\.token_urlsafe") as error:
        ServerConfig(token=weak)
    assert weak not in str(error.value)


def test_a_token_in_another_encoding_is_an_error_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SIGHTLINE_TOKEN_FILE", raising=False)
    monkeypatch.setitem(os.environb, b"SIGHTLINE_TOKEN", b"caf\xe9 latin-1 token")
    with pytest.raises(UsageError, match="HTTP headers cannot carry"):
        ServerConfig(token=read_token())


def test_guessing_is_slowed_down_for_each_client_alone() -> None:
    now = [0.0]
    back_off = BackOff(clock=lambda: now[0])
    for _ in range(FREE_TRIES):
        assert back_off.wait("2001:db8::1") == 0
        back_off.failed("2001:db8::1")
    waits = []
    for _ in range(9):
        waits.append(back_off.wait("2001:db8::2"))  # the same network
        now[0] += waits[-1]
        assert back_off.wait("2001:db8::2") == 0
        back_off.failed("2001:db8::2")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert back_off.wait("2001:db9::1") == back_off.wait("192.0.2.7") == 0
    now[0] += 3601
    back_off.failed("2001:db8::1")
    assert back_off.wait("2001:db8::1") == 0


def test_wrong_tokens_make_a_client_wait(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A clock that stands still: the first wait is a second.
    monkeypatch.setattr(security, "BackOff", lambda: BackOff(clock=lambda: 0.0))
    client = client_of(create_app(engine, config=ServerConfig(token=TOKEN)))
    assert client.post("/signin", data={"token": TOKEN}).status_code == 303
    stranger = client_of(client.application)
    for number in range(FREE_TRIES):
        if number % 2:
            answer = stranger.post("/signin", data={"token": f"guess {number}"})
            assert answer.status_code == 403
        else:
            header = {"Authorization": f"Bearer guess-{number}"}
            assert stranger.get("/api/status", headers=header).status_code == 401
    right = {"Authorization": f"Bearer {TOKEN}"}
    for answer in (
        stranger.get("/api/status", headers=right),
        stranger.post("/signin", data={"token": TOKEN}),
    ):
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert "Set-Cookie" not in answer.headers
    assert client.get("/api/status").status_code == 200  # signed in already
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert stranger.get("/api/status", headers=right, environ_base=elsewhere).status_code == 200


def test_a_new_token_in_the_file_replaces_the_old_one(
    engine: SearchEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    config = ServerConfig(token=read_token(file), token_file=file)
    client = client_of(create_app(engine, config=config))
    assert client.post("/signin", data={"token": TOKEN}).status_code == 303
    assert client.get("/api/status").status_code == 200
    for useless in ("short", ""):
        file.write_text(useless)
        assert client.get("/api/status").status_code == 200
    assert "previous token stays valid" in caplog.text
    file.write_text("quite another token, as good")
    assert client.get("/api/status").status_code == 401
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/status", headers=header).status_code == 401
    header = {"Authorization": "Bearer quite another token, as good"}
    assert client.get("/api/status", headers=header).status_code == 200


def test_signing_out_deletes_the_cookie(engine: SearchEngine) -> None:
    client = client_of(create_app(engine, config=ServerConfig(token=TOKEN)))
    client.post("/signin", data={"token": TOKEN})
    assert "/signout" in client.get("/").get_data(as_text=True)
    foreign = {"Origin": "http://evil.example"}
    assert client.post("/signout", headers=foreign).status_code == 403
    answer = client.post("/signout", headers={"Origin": "null"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/signin")
    assert client.get("/api/status").status_code == 401


def test_the_cookie_is_secure_behind_a_trusted_proxy_with_tls(engine: SearchEngine) -> None:
    form = f"token={TOKEN.replace(' ', '+')}".encode()
    kind = "Content-Type: application/x-www-form-urlencoded\r\n"
    proxy = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
    request = headers(
        "POST",
        "/signin",
        kind,
        proxy,
        "X-Forwarded-Host: photos.example.org\r\nOrigin: https://photos.example.org\r\n",
        f"Content-Length: {len(form)}\r\n",
    )
    hosts = ("photos.example.org",)
    with serving(engine, trusted_proxy="127.0.0.1", hosts=hosts) as port:
        status, head = ask(port, request + form)
        assert (status, "; Secure" in head) == (303, True)
        assert ask(port, request + form, "127.0.0.2")[0] == 403  # not the proxy


# disks that do not answer -------------------------------------------------------------------------


def reads() -> int:
    """Threads that read files, or were given up."""
    return sum(thread.name == "read" for thread in threading.enumerate())


def answers_again(pipe: Path) -> bool:
    """Opens ``pipe`` for writing, and closes it, until nothing waits for it."""

    def ended() -> bool:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
        return reads() == 0

    return eventually(ended)


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[Path]:
    """A pipe that is never written to: opening it blocks, as a file on a hung network drive does.
    It ends with the test, and so do the threads that were given up."""
    pipe = tmp_path / "hung"
    os.mkfifo(pipe)
    try:
        yield pipe
    finally:
        assert answers_again(pipe)


def test_opening_a_file_on_a_hung_disk_ends_with_503(
    engine: SearchEngine, hung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(create_app(engine))
    requests = (
        lambda: client.get("/images/1"),
        lambda: client.get("/images/1?size=99"),
        lambda: client.get("/api/images/1"),
        lambda: client.post("/api/zip", json={"ids": [1, 2]}),
    )
    with monkeypatch.context() as patch:
        patch.setattr(deadline, "SECONDS", 0.2)
        patch.setattr(originals, "open_beneath", lambda *_: (hung.open("rb"), None))
        for request in requests:
            answer = request()
            assert answer.status_code == 503
            assert "does not answer" in answer.get_json()["error"]
    assert [request().status_code for request in requests] == [200] * 4


def test_a_hung_disk_occupies_a_bounded_number_of_threads(
    engine: SearchEngine, hung: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(create_app(engine))
    monkeypatch.setattr(deadline, "_free", threading.BoundedSemaphore(3))
    with monkeypatch.context() as patch:
        patch.setattr(deadline, "SECONDS", 0.2)
        patch.setattr(originals, "open_beneath", lambda *_: (hung.open("rb"), None))
        assert {client.get("/images/1").status_code for _ in range(6)} == {503}
        # A thread that did not hang may still be ending.
        assert eventually(lambda: reads() == 3)
    assert answers_again(hung)  # the disk answers again
    assert client.get("/images/1").status_code == 200


@pytest.fixture
def hung_reads(hung: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files can be opened, and reading them blocks."""
    monkeypatch.setattr(deadline, "SECONDS", 3.0)  # longer than opening takes on a busy machine

    def read(file: deadline.TimedFile, position: int, count: int) -> bytes:
        with hung.open("rb") as pipe:
            return pipe.read(count)

    monkeypatch.setattr(deadline.TimedFile, "read_at", read)


@pytest.mark.usefixtures("hung_reads")
@pytest.mark.parametrize("more", ["", "Range: bytes=10-\r\n"])
def test_a_download_from_a_hung_disk_blocks_nobody_and_is_broken_off(
    engine: SearchEngine, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not more:  # the main loop sends the file, and must not wait for it at all
        monkeypatch.setattr(deadline, "SECONDS", 3600.0)
    with serving(engine) as port, connected(port) as connection:
        connection.sendall(headers("GET", "/images/1", BEARER, more))
        monkeypatch.setattr(connections, "IDLE_SECONDS", 2.0)
        for _ in range(3):
            assert ask(port, headers("GET", "/thumbnails/1", BEARER))[0] == 200
        received = b""
        while part := connection.recv(65536):
            received += part
    assert received.partition(b"\r\n\r\n")[2] == b""


def test_a_zip_from_a_hung_disk_is_broken_off_and_frees_its_slot(
    engine: SearchEngine, hung_reads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = b'{"ids": [1, 2]}'
    request = headers(
        "POST",
        "/api/zip",
        BEARER,
        "Content-Type: application/json\r\nConnection: close\r\n",
        f"Content-Length: {len(body)}\r\n",
    )

    def download(port: int) -> bytes:
        with connected(port) as connection:
            connection.sendall(request + body)
            received = b""
            while part := connection.recv(65536):
                received += part
        return received

    with serving(engine, max_zips=1) as port:
        assert not download(port).endswith(b"0\r\n\r\n"), "the zip looks complete"
        monkeypatch.undo()
        assert download(port).endswith(b"0\r\n\r\n")


def test_clients_that_leave_before_their_zip_is_sent_free_its_slot(engine: SearchEngine) -> None:
    body = b'{"ids": [1, 2]}'
    length = f"Content-Length: {len(body)}\r\n"
    kind = "Content-Type: application/json\r\n"
    request = headers("POST", "/api/zip", BEARER, kind, length) + body
    with serving(engine, max_zips=1) as port:
        for _ in range(4):
            with connected(port) as connection:
                connection.sendall(request)
        # Until the server has noticed that they left.
        assert eventually(lambda: ask(port, request)[0] == 200)


def test_a_decoder_that_cannot_be_ended_occupies_no_request(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for a hung disk ignores even SIGKILL; here the signal is not sent."""
    monkeypatch.setattr(decoder, "REAP_SECONDS", 0.1)
    reader = Decoder(Geometry(32, 32, 32), timeout=5.0)
    with reader:
        reader.hash(engine.library.images([1])[0].absolute)
        [pid] = reader.pids
        os.kill(pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(subprocess.Popen, "kill", lambda _: None)
            with pytest.raises(PhotoError, match="took longer than 5 seconds"):
                reader.hash(engine.library.images([1])[0].absolute)
        os.kill(pid, signal.SIGKILL)
        assert reader.hash(engine.library.images([1])[0].absolute)


# health ------------------------------------------------------------------------------------------


def test_health_check_fails_while_searches_hang(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(create_app(engine))
    with monkeypatch.context() as busy:
        busy.setattr(health, "SECONDS", 60.0)
        assert client.get("/healthz").status_code == 200
    release = threading.Event()
    monkeypatch.setattr(engine.library, "nearest", lambda *_, **__: release.wait(TIMEOUT))
    hanging = client_of(create_app(engine))
    try:
        for _ in range(3):
            assert hanging.get("/healthz").status_code == 503
        assert hanging.get("/livez").status_code == 200
    finally:
        release.set()


@pytest.mark.parametrize("found", [LookupError("the index is broken"), []])
def test_health_check_fails_if_a_search_does(
    engine: SearchEngine, monkeypatch: pytest.MonkeyPatch, found: object
) -> None:
    monkeypatch.setattr(health, "SECONDS", 60.0)  # on a busy machine

    def images(ids: object) -> object:
        if isinstance(found, LookupError):
            raise found
        return found

    monkeypatch.setattr(engine.library, "images", images)
    client = client_of(create_app(engine))
    assert client.get("/healthz").status_code == 503
    assert client.get("/livez").status_code == 200


def test_health_check_fails_while_every_slot_is_taken(engine: SearchEngine) -> None:
    app = create_app(engine)
    with ExitStack() as slots:
        for _ in range(os.cpu_count() or 1):
            slots.enter_context(app.extensions["sightline_admission"].searching(TIMEOUT))
        assert client_of(app).get("/healthz").status_code == 503


# the notebook ------------------------------------------------------------------------------------


@pytest.mark.parametrize("color", ["red;position:fixed;inset:0", "url(http://evil.example/x)", "é"])
def test_an_imported_colour_adds_no_style_to_the_notebook(engine: SearchEngine, color: str) -> None:
    [record] = engine.library.images([1])
    hostile = replace(record, info=replace(record.info, color=color))
    assert color not in figure(hostile, 0.3, 0, None)
    plain = replace(record, info=replace(record.info, color="#a1b2c3"))
    assert "background:#a1b2c3" in figure(plain, 0.3, 0, None)
