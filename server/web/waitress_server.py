"""``Server``: waitress with bounded queues and a graceful shutdown."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.proxy_headers import proxy_headers_middleware
from waitress.task import ThreadedTaskDispatcher

from sightline.indexer.errors import SightlineError
from sightline.server.web.config import ServerConfig
from sightline.server.web.connections import MAX_HEADER, Channel, Check, Listener, max_connections

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
            settings = Adjustments(
                host=config.host,
                port=config.port,
                threads=config.threads,
                connection_limit=max_connections(),
                # Deadlines are checked this often, in seconds.
                cleanup_interval=1,
                # Reading ahead while a request waits detects that its client has disconnected.
                channel_request_lookahead=1,
                max_request_header_size=MAX_HEADER,
                # Each route has its own limit.
                max_request_body_size=2**62,
                recv_bytes=2**16,
                inbuf_overflow=BUFFER,
                outbuf_overflow=BUFFER,
                # Above this waitress makes the view wait for the client to read.
                outbuf_high_watermark=64 * 2**20,
                ident="sightline",
                clear_untrusted_proxy_headers=False,
                # Becomes SCRIPT_NAME. Proxies that strip the path and those that do not both work.
                url_prefix=config.base_path,
                **_proxy_settings(config),
            )
            self._tasks = ThreadedTaskDispatcher()
            self._tasks.set_thread_count(config.threads)
            # A host name with several addresses has a socket for each; they share the threads.
            self._listening = [
                Listener(
                    app,
                    map=self._sockets,
                    dispatcher=self._tasks,
                    adj=settings,
                    sockinfo=address,
                    check=_body_check(app, config),
                    proxy=config.trusted_proxy,
                )
                for address in settings.listen
            ]
        except (OSError, ValueError) as error:
            self._close()
            raise SightlineError(
                f"cannot listen on {config.host}, port {config.port}:"
                f" {getattr(error, 'strerror', None) or error}; choose another with --port"
            ) from error
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
        channels = [one for one in self._sockets.values() if isinstance(one, Channel)]
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _close(self) -> None:
        wasyncore.close_all(self._sockets, ignore_all=True)


def _proxy_settings(config: ServerConfig) -> dict[str, Any]:
    """waitress's settings for the trusted proxy."""
    if config.trusted_proxy is None:
        return {}
    return {
        "trusted_proxy": config.trusted_proxy,
        "trusted_proxy_count": 1,
        "trusted_proxy_headers": {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"},
    }


def _body_check(app: Flask, config: ServerConfig) -> Check:
    """``security.body_limit`` of ``app``, with the trusted proxy's headers applied."""
    limit = app.extensions["sightline_body_limit"]
    found = "sightline.body_limit"

    def store(environ: dict[str, Any], start_response: object) -> list[bytes]:
        environ[found] = limit(environ)
        return []

    settings = _proxy_settings(config)
    check = (
        proxy_headers_middleware(store, clear_untrusted=False, **settings) if settings else store
    )

    def body_limit(environ: dict[str, Any]) -> int:
        # A malformed header of the proxy is answered without `store`: no body.
        list(check(environ, lambda *_: None))
        return int(environ.get(found, 0))

    return body_limit
