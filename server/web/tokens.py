"""The server's token: comparison, rotation, the sign-in cookie, and back-off after wrong tokens."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import threading
import time
from collections.abc import Callable
from math import ceil

from cachetools import LRUCache

from sightline.indexer.errors import UsageError
from sightline.server.web.config import ServerConfig, check_token, read_token

log = logging.getLogger("sightline")

FREE_TRIES = 10
"""Wrong tokens of one client before it must wait."""

LONGEST_WAIT = 60.0
"""Seconds; the wait doubles from 1 s with each further wrong token."""

FORGIVEN_AFTER = 3600.0
"""Seconds without a wrong token."""

CLIENTS = 10_000
"""Clients whose wrong tokens are counted; those seen longest ago are dropped."""


class BackOff:
    """Counts the wrong tokens of each client, an IPv4 address or an IPv6 network of 64 bits."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: LRUCache[str, tuple[int, float]] = LRUCache(CLIENTS)
        """Number of wrong tokens, and the time of the last one."""

    def wait(self, address: str) -> int:
        """Seconds until the client at ``address`` may try another token."""
        with self._lock:
            count, last = self._failures.get(_client(address), (0, 0.0))
        if count < FREE_TRIES:
            return 0
        pause = min(LONGEST_WAIT, 2.0 ** min(count - FREE_TRIES, 10))
        return max(0, ceil(last + pause - self._clock()))

    def failed(self, address: str) -> None:
        """Counts a wrong token."""
        client, now = _client(address), self._clock()
        with self._lock:
            count, last = self._failures.get(client, (0, now))
            count = count + 1 if now - last < FORGIVEN_AFTER else 1
            self._failures[client] = count, now
        if count == FREE_TRIES:
            log.warning("%s sent %d wrong tokens; further ones must wait", client, count)


def _client(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


class Token:
    """The token of a server that has one. A change of the token file takes effect at once: programs
    need the new token, and browsers must sign in again."""

    def __init__(self, config: ServerConfig) -> None:
        assert config.token is not None
        self._file = config.token_file
        self._lock = threading.Lock()
        self._value = config.token
        self._seen = self._stamp()

    def equals(self, given: str) -> bool:
        """Whether ``given`` is the token; compared in constant time."""
        return _equal(given, self._current())

    def cookie(self) -> str:
        """The value of the sign-in cookie, derived from the token."""
        key = self._current().encode()
        return hmac.new(key, b"sightline browser cookie", hashlib.sha256).hexdigest()

    def is_cookie(self, given: str) -> bool:
        """Whether ``given`` is the cookie's value; compared in constant time."""
        return _equal(given, self.cookie())

    def _current(self) -> str:
        """The token, read again if its file has changed. A file that cannot be used changes nothing
        but the log."""
        stamp = self._stamp()
        with self._lock:
            if stamp is not None and stamp != self._seen:
                self._seen = stamp
                try:
                    token = read_token(self._file) or ""
                    check_token(token)
                except UsageError as error:
                    log.error("the previous token stays valid: %s", error)
                else:
                    self._value = token
                    log.warning("the token has changed; every browser must sign in again")
            return self._value

    def _stamp(self) -> tuple[int, int, int] | None:
        """Identifies the state of the token file; None without one."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
