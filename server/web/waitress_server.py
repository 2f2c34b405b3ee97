"""Waitress, set up for this application: bounded queues, and an orderly end."""

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

CONNECTIONS = 1000
"""Open connections; more wait in the kernel until one closes."""

IDLE_SECONDS = 60
"""After which a connection that says nothing is closed: a vanished client ties up nothing."""

GRACE_SECONDS = 20.0
"""That requests under way have to finish when the server is told to stop."""

BUFFERED = 2**20
"""Bytes of an answer or a request that are kept in memory; more goes to an unnamed temporary
file, so that a slow reader holds no thread and little memory."""


class Server:
    """An application that listens. ``run`` returns when ``stop`` is called, from any thread or a
    signal handler. Raises ``SightlineError`` when the address cannot be had."""

    def __init__(self, app: Flask, config: ServerConfig) -> None:
        # What waits is told by /metrics, and who is refused by a 503; not line by line in the log.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._sockets: dict[int, Any] = {}
        try:
            create_server(
                app,
                map=self._sockets,
                host=config.host,
                port=config.port,
                threads=config.threads,
                connection_limit=CONNECTIONS,
                channel_timeout=IDLE_SECONDS,
                # Reading on while a request waits tells when its client has gone.
                channel_request_lookahead=1,
                max_request_body_size=config.max_upload,
                outbuf_overflow=BUFFERED,
                # Beyond this waitress would make the view wait for the reader.
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
        # A name may stand for several addresses: one listening socket each, one crew of threads.
        self._listening = [one for one in self._sockets.values() if isinstance(one, BaseWSGIServer)]
        self._tasks = self._listening[0].task_dispatcher
        self._stopping = threading.Event()
        app.extensions["sightline_admission"].waiting = self.waiting

    @property
    def port(self) -> int:
        """Where it listens: the port asked for, or the one that the system chose for port 0."""
        return int(self._listening[0].effective_port)

    def waiting(self) -> int:
        """Requests that were read and have no thread yet."""
        return len(self._tasks.queue)

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Answers requests until ``stop``; then finishes those under way."""
        ready()
        try:
            while not self._stopping.is_set():
                self._turn(0.5)
        finally:
            self._finish()

    def stop(self) -> None:
        """Ends ``run`` soon."""
        self._stopping.set()
        for one in self._listening:
            one.pull_trigger()

    def _turn(self, timeout: float) -> None:
        wasyncore.loop(timeout=timeout, use_poll=True, map=self._sockets, count=1)

    def _finish(self) -> None:
        """Takes no more connections, answers what was asked, and closes everything."""
        end = time.monotonic() + GRACE_SECONDS
        for one in self._listening:
            one.accepting = False
        while time.monotonic() < end and self._busy():
            self._turn(0.05)
        self._tasks.shutdown(cancel_pending=True, timeout=1)
        self._close()

    def _busy(self) -> bool:
        channels = [one for one in self._sockets.values() if isinstance(one, HTTPChannel)]
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _close(self) -> None:
        wasyncore.close_all(self._sockets, ignore_all=True)
