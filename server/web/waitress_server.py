"""``Server``: waitress with bounded queues and a graceful shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer, create_server

from sightline.indexer.errors import SightlineError
from sightline.server.web.config import ServerConfig

MAX_CONNECTIONS = 1000
"""Open connections; further ones wait in the kernel's backlog."""

IDLE_SECONDS = 60
"""Inactive connections are closed after this."""

GRACE_SECONDS = 20.0
"""Time for requests in progress to finish on shutdown."""

BUFFER = 2**20
"""Bytes of a request or response held in memory; the rest goes to an unnamed temporary file, so
that a slow client occupies no thread and little memory."""


class Server:
    """A listening application. ``run`` returns after ``stop``, which any thread or signal handler
    may call. Raises ``SightlineError`` when the address cannot be bound."""

    def __init__(self, app: Flask, config: ServerConfig) -> None:
        # waitress logs every queued request; /metrics counts them.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._sockets: dict[int, Any] = {}
        try:
            create_server(
                app,
                map=self._sockets,
                host=config.host,
                port=config.port,
                threads=config.threads,
                connection_limit=MAX_CONNECTIONS,
                channel_timeout=IDLE_SECONDS,
                # Reading ahead while a request waits detects that its client has disconnected.
                channel_request_lookahead=1,
                max_request_body_size=config.max_upload,
                outbuf_overflow=BUFFER,
                # Above this waitress makes the view wait for the client to read.
                outbuf_high_watermark=64 * 2**20,
                ident="sightline",
                clear_untrusted_proxy_headers=False,
            )
        except (OSError, ValueError) as error:
            self._close()
            raise SightlineError(
                f"cannot listen on {config.host}, port {config.port}:"
                f" {getattr(error, 'strerror', None) or error}; choose another with --port"
            ) from error
        # A host name with several addresses has a socket for each; they share the threads.
        self._listening = [one for one in self._sockets.values() if isinstance(one, BaseWSGIServer)]
        self._tasks = self._listening[0].task_dispatcher
        self._stopping = threading.Event()
        app.extensions["sightline_admission"].waiting = self.waiting

    @property
    def port(self) -> int:
        """The bound port: the configured one, or the one that the system chose for port 0."""
        return int(self._listening[0].effective_port)

    def waiting(self) -> int:
        """Number of requests that have been read and wait for a thread."""
        return len(self._tasks.queue)

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Answers requests until ``stop``, then finishes those in progress."""
        ready()
        try:
            while not self._stopping.is_set():
                self._poll(0.5)
        finally:
            self._finish()

    def stop(self) -> None:
        """Makes ``run`` return."""
        self._stopping.set()
        for one in self._listening:
            one.pull_trigger()

    def _poll(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._sockets, count=1)

    def _finish(self) -> None:
        """Stops accepting, answers requests in progress for up to ``GRACE_SECONDS``, closes."""
        end = time.monotonic() + GRACE_SECONDS
        for one in self._listening:
            one.accepting = False
        while time.monotonic() < end and self._busy():
            self._poll(0.05)
        self._tasks.shutdown(cancel_pending=True, timeout=1)
        self._close()

    def _busy(self) -> bool:
        channels = [one for one in self._sockets.values() if isinstance(one, HTTPChannel)]
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _close(self) -> None:
        wasyncore.close_all(self._sockets, ignore_all=True)
