"""waitress's connections with limits that hold before a client has signed in.

* A request with a body is checked when its headers are complete: method, route, host and token. A
  refused one is answered at once; its body is neither read nor stored.
* The bodies of all requests together are limited, and so are the connections, also per client. At a
  limit the connection that has waited longest for its client is closed, so that connections which
  send nothing never keep others out.
* Headers, bodies and responses have deadlines, also if a disk does not answer.
* Without free file descriptors accepting pauses, with one line in the log.
"""

from __future__ import annotations

import errno
import json
import logging
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from waitress.adjustments import Adjustments
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error, RequestEntityTooLarge

from sightline.indexer.errors import FilesAwayError
from sightline.indexer.files.deadline import CHUNK, TimedFile, start

log = logging.getLogger("sightline")

MAX_CONNECTIONS = 1000
"""Open connections of all clients."""

MAX_CLIENT_CONNECTIONS = 250
"""Open connections of one address; a trusted proxy may have ``MAX_CONNECTIONS``."""

MAX_HEADER = 64 * 2**10
"""Bytes of a request's headers; the longest query is 36 kB when percent-encoded."""

MAX_HELD = 256 * 2**20
"""Bytes of the bodies of all requests that are being received or wait for a thread."""

HEADER_SECONDS = 10
"""From the first byte, or the start of the connection, to the end of the headers."""

BODY_SECONDS = 300
"""From the end of the headers to the end of the body."""

IDLE_SECONDS = 60
"""Without a byte from or to the client."""

LINGER_SECONDS = 5
"""What a refused client still sends is dropped for this long: a reset could overtake the answer."""

PAUSE_SECONDS = 1.0
"""After accept() has failed for lack of file descriptors or memory."""

REPORT_SECONDS = 60.0
"""Between two lines in the log about that."""

ACCEPTS = 16
"""Connections accepted between two polls."""

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}

Check = Callable[[dict[str, Any]], int]
"""The number of bytes that the body of a request, given by its WSGI environment without the body,
may have; 0 if it is refused or takes none."""


class TooBusy(Error):
    """503, for a body beyond ``MAX_HELD``."""

    code = 503
    reason = "Service Unavailable"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        """Status, headers and body."""
        status, headers, body = super().to_response(ident)
        return status, [*headers, ("Retry-After", "2")], body


def max_connections() -> int:
    """``MAX_CONNECTIONS``, or fewer where this process may open few files: a connection needs up to
    three, and 200 are left for the library and the models."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(4 * ACCEPTS, min(MAX_CONNECTIONS, (limit - 200) // 3))


class HeldBytes:
    """The size of all request bodies in memory and in temporary files."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._total = 0

    def add(self, count: int) -> bool:
        """Adds ``count`` bytes; returns whether the total is within ``MAX_HELD``."""
        with self._lock:
            self._total += count
            return self._total <= MAX_HELD


class Parser(HTTPRequestParser):
    """Receives one request of ``channel``."""

    def __init__(self, channel: Channel, adj: Adjustments) -> None:
        super().__init__(adj)
        self._channel = channel
        self._held = 0
        self._limit = 0
        self._refused = False
        self.started = time.monotonic()
        """Of the headers, then of the body."""

    def received(self, data: bytes) -> int:
        """Receives ``data``; returns the number of bytes that belong to this request."""
        before = self.body_bytes_received
        consumed = int(super().received(data))
        added = self.body_bytes_received - before
        if added:
            self._hold(added)
        if self.completed:
            # waitress would send 100 Continue, and wait for a body that does not come.
            self.expect_continue = False
            if self.error is not None or self._refused:
                # What follows may belong to this request's body.
                self._channel.drops = True
                return len(data)
        return consumed

    def _hold(self, count: int) -> None:
        """Counts bytes of the body, and drops it above a limit."""
        self._held += count
        within = self._channel.server.held.add(count)
        if self.body_bytes_received > self._limit:
            self._refuse(RequestEntityTooLarge(f"at most {self._limit:,} bytes"))
        elif not within:
            self._refuse(TooBusy("too many uploads at once; try again in a moment"))

    def _refuse(self, error: Error) -> None:
        self.error, self.completed = error, True
        self.close()
        self.body_rcv = None

    def parse_header(self, header_plus: bytes) -> None:
        """Parses the headers, and decides whether a body is received."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # a Content-Length of thousands of digits, an invalid URL
            raise ParsingError("invalid request") from error
        self.started = time.monotonic()
        if self.body_rcv is None:
            return
        self._limit = self._channel.server.allowed_body(self._channel, self)
        if self._limit == 0 or self.content_length > self._limit:
            # The application answers from the headers.
            self.close()
            self.body_rcv, self._refused = None, True
            self.headers["CONNECTION"] = "close"

    def close(self) -> None:
        """Frees the body."""
        super().close()
        self._channel.server.held.add(-self._held)
        self._held = 0


class Pumped(ReadOnlyFileBasedBuffer):
    """A file that is sent on ``channel``. It is read by threads: a disk that does not answer would
    stop the main loop, which sends to all clients."""

    def __init__(self, source: ReadOnlyFileBasedBuffer, file: TimedFile, channel: Channel) -> None:
        super().__init__(file)
        self.remain = self._unread = source.remain
        """Bytes to be sent, and to be read."""
        self._source, self._file, self._channel = source, file, channel
        self._position = source.file.tell()
        self._ready = bytearray()
        self._lock = threading.Lock()
        self._reading = self._closed = False

    def is_starved(self) -> bool:
        """Whether nothing is ready to be sent; starts to read more."""
        with self._lock:
            if self._unread and not self._reading and len(self._ready) < CHUNK:
                self._reading = start(self._read)
            return not self._ready

    def _read(self) -> None:
        try:
            data = self._file.read_at(self._position, min(CHUNK, self._unread))
        except OSError:
            data = b""
        with self._lock:
            self._ready += data
            self._position += len(data)
            self._unread -= len(data)
            self._reading = False
            closed = self._closed
        if closed:
            self._source.close()
        elif not data:  # the file has become shorter than the response has announced
            self._channel.will_close = True
        with suppress(OSError):  # the server has stopped
            self._channel.server.pull_trigger()

    def get(self, numbytes: int = -1, skip: bool = False) -> bytes:
        """Up to ``numbytes`` that are ready."""
        with self._lock:
            return bytes(self._ready[:numbytes])

    def skip(self, numbytes: int, allow_prune: bool = False) -> None:
        """Drops what was sent."""
        with self._lock:
            del self._ready[:numbytes]
        self.remain -= numbytes

    def close(self) -> None:
        """Closes the file, as soon as it is not being read."""
        with self._lock:
            self._closed, reading = True, self._reading
        if not reading:
            self._source.close()


class RefusedTask(ErrorTask):
    """A request that is refused before the application sees it."""

    def execute(self) -> None:
        """Sends the error as JSON."""
        error = self.request.error
        self.status, headers, _ = error.to_response()
        body = json.dumps({"error": f"{error.reason.lower()}: {error.body}"}).encode()
        self.response_headers += [one for one in headers if one[0] != "Content-Type"]
        self.response_headers += [("Content-Type", "application/json")]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Task(WSGITask):
    """One request."""

    def service(self) -> None:
        """Answers the request; a response whose file cannot be read to its end is broken off."""
        try:
            super().service()
        except FilesAwayError as error:
            log.error("%s: %s", self.request.path, error)
            raise ClientDisconnected from error


class Channel(HTTPChannel):
    """One connection."""

    task_class = Task
    error_task_class = RefusedTask
    server: Listener
    close_when_flushed: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.waits_since = time.monotonic()
        """When it began to wait for a request."""
        self.drops = False
        """Whether what the client sends is dropped."""
        self.closes_at: float | None = None
        super().__init__(*args, **kwargs)
        self.parser_class = partial(Parser, self)

    def received(self, data: bytes) -> bool:
        """Receives ``data``."""
        if self.drops:
            return False
        return bool(super().received(data))

    def write_soon(self, data: Any) -> int:
        """Queues ``data`` to be sent."""
        if not self.total_outbufs_len:
            self.last_activity = time.time()  # before, the client had nothing to read
        if isinstance(data, ReadOnlyFileBasedBuffer):
            file = getattr(data.file, "raw", None)
            if isinstance(file, TimedFile):
                data = Pumped(data, file, self)
        return int(super().write_soon(data))

    def writable(self) -> bool:
        """Whether there is something to be sent, or the connection is to be closed."""
        first = self.outbufs[0]
        if isinstance(first, Pumped) and not self.will_close and first.is_starved():
            return False
        return bool(super().writable())

    def service(self) -> None:
        """Answers one request, in a thread."""
        super().service()
        self.waits_since = time.monotonic()

    def handle_write(self) -> None:
        """Sends, then closes if that is due; a client that still sends reads the answer first."""
        if self.drops and self.close_when_flushed and not self.will_close:
            self._flush_exception(self._flush_some)
            if self.total_outbufs_len or self.will_close or not self.connected:
                return
            self.close_when_flushed = False
            self.closes_at = time.monotonic() + LINGER_SECONDS
            with suppress(OSError):  # the client has closed the connection
                self.socket.shutdown(socket.SHUT_WR)
            return
        super().handle_write()

    def handle_close(self) -> None:
        """Closes the connection and frees a body that was being received."""
        if self.request is not None:
            self.request.close()
        super().handle_close()

    def handle_error(self) -> None:
        """Closes the connection; a fault of the system is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error()
            return
        log.error("a connection was closed: %s", error)
        self.handle_close()

    def is_receiving_body(self) -> bool:
        """Whether it has admitted headers and waits for the rest of their body."""
        return self.request is not None and bool(self.request.headers_finished)

    def is_overdue(self, now: float) -> bool:
        """Whether its client has exceeded a deadline at ``now``, of ``time.monotonic``."""
        if self.closes_at is not None:
            return now > self.closes_at
        if self.total_outbufs_len:
            return time.time() > self.last_activity + IDLE_SECONDS
        if self.requests:
            return False
        if self.request is None:
            # Nothing of a request yet: a new connection has less time than one that is kept alive.
            fresh = self.last_activity == self.creation_time
            return now > self.waits_since + (HEADER_SECONDS if fresh else IDLE_SECONDS)
        allowed = BODY_SECONDS if self.request.headers_finished else HEADER_SECONDS
        return now > self.request.started + allowed


class Listener(TcpWSGIServer):
    """One listening socket. ``check`` decides which bodies are received; ``proxy`` is the address
    of the trusted proxy, if there is one."""

    channel_class = Channel

    def __init__(self, *args: Any, check: Check, proxy: str | None, **kwargs: Any) -> None:
        self.held = HeldBytes()
        self._check = check
        self._proxy = proxy
        self._paused_until = self._report_after = 0.0
        super().__init__(*args, **kwargs)

    def allowed_body(self, channel: Channel, request: Parser) -> int:
        """The number of bytes that the body of ``request`` may have."""
        body, request.body_rcv = request.body_rcv, None
        try:
            return self._check(WSGITask(channel, request).get_environment())
        finally:
            request.body_rcv = body

    def readable(self) -> bool:
        """Whether to accept connections."""
        return bool(super().readable()) and time.monotonic() >= self._paused_until

    def accept(self) -> tuple[socket.socket, Any] | None:
        """A new connection; pauses when the system has no room for one."""
        try:
            accepted: tuple[socket.socket, Any] | None = super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            now = time.monotonic()
            self._paused_until = now + PAUSE_SECONDS
            if now >= self._report_after:
                self._report_after = now + REPORT_SECONDS
                log.error(
                    "cannot accept connections: %s; raise the limit with `ulimit -n`",
                    error.strerror,
                )
            # Half at most: accept() fails without a client too, and the newest may be sending.
            for _ in range(min(ACCEPTS, (len(self._channels()) + 1) // 2)):
                self._close_longest_waiting(self._channels())
            return None
        return accepted

    def handle_accept(self) -> None:
        """Accepts up to ``ACCEPTS`` connections."""
        for _ in range(ACCEPTS):
            before = len(self.active_channels)
            super().handle_accept()
            if len(self.active_channels) == before:
                return
            self._enforce_limits()

    def _channels(self) -> list[Channel]:
        """All connections of the server that stay open, the newest last."""
        return [
            one for one in self._map.values() if isinstance(one, Channel) and not one.will_close
        ]

    def _enforce_limits(self) -> None:
        """After a connection was accepted: closes one if there are too many."""
        channels = self._channels()
        newest = channels[-1].addr[0]
        same = [one for one in channels if one.addr[0] == newest]
        if newest != self._proxy and len(same) > MAX_CLIENT_CONNECTIONS:
            self._close_longest_waiting(same)
        elif len(channels) > self.adj.connection_limit - ACCEPTS:
            crowd = Counter(one.addr[0] for one in channels)
            [(largest, _)] = crowd.most_common(1)
            self._close_longest_waiting([one for one in channels if one.addr[0] == largest])

    def _close_longest_waiting(self, channels: list[Channel]) -> None:
        """Closes the one of ``channels`` that has waited longest for its client; if requests are in
        progress on all of them, the newest."""
        waiting = [one for one in channels if not (one.requests or one.will_close)]
        # Closed after the next poll: a file descriptor must not be reused before.
        if waiting:
            first = min(waiting, key=lambda one: (one.is_receiving_body(), one.waits_since))
            first.will_close = True
        elif channels:
            channels[-1].will_close = True

    def handle_error(self) -> None:
        """Logs a fault and goes on listening."""
        log.error("accepting a connection failed", exc_info=True)

    def maintenance(self, now: float) -> None:
        """Closes connections whose clients have exceeded a deadline."""
        for channel in list(self.active_channels.values()):
            if channel.is_overdue(time.monotonic()):
                channel.will_close = True
