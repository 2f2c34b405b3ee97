"""``ServerConfig``: where a server listens, who may use it, and its limits."""

from __future__ import annotations

import ipaddress
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import log2
from pathlib import Path

from sightline.indexer.errors import UsageError

TOKEN_VARIABLE = "SIGHTLINE_TOKEN"
TOKEN_FILE_VARIABLE = "SIGHTLINE_TOKEN_FILE"

MIN_TOKEN_LENGTH = 16
"""Characters; a shorter token can be guessed."""

MIN_TOKEN_BITS = 32
"""Bits of entropy; 16 random hexadecimal digits have at least 35 by this estimate."""

NEW_TOKEN = "make one with `python -c 'import secrets; print(secrets.token_urlsafe())'`"

PORT = 8008


@dataclass(frozen=True)
class ServerConfig:
    """The settings of one server. Raises ``UsageError`` for a short token, and for an address
    that other machines can reach when there is no token."""

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    """The token that clients must send (see ``read_token``); None: no authentication, loopback
    only."""
    token_file: Path | None = None
    """The file that ``token`` was read from: a new token in it takes effect at once."""
    hosts: tuple[str, ...] = ()
    """Additional values of the ``Host`` header that are accepted."""
    trusted_proxy: str | None = None
    """IP address of the reverse proxy whose ``X-Forwarded-For``, ``-Proto`` and ``-Host`` count."""
    base_path: str = ""
    """The path below which a reverse proxy serves this server: ``/photos``; empty for none."""
    origins: tuple[str, ...] = ()
    """Origins (``https://front.example.org``) whose pages may use the clip-retrieval routes, and
    nothing else, from a browser."""
    mcp: bool = False
    """Whether ``/mcp`` is served (extra ``mcp``)."""
    threads: int = 40
    max_waiting: int = 256
    """Requests that may wait for a thread; above this the answer is 503."""
    max_upload: int = 64 * 2**20
    """Bytes of one request body."""
    max_zips: int = 2
    """Concurrent zip downloads; each occupies a thread until the client has read it."""

    def __post_init__(self) -> None:
        if self.token is not None:
            check_token(self.token)
        if self.trusted_proxy is not None and ip_address(self.trusted_proxy) is None:
            raise UsageError(f"the trusted proxy must be an IP address, not {self.trusted_proxy!r}")
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.base_path) or ".." in self.base_path:
            raise UsageError(
                f"the base path must be a path such as /photos, not {self.base_path!r}"
            )
        public = [host for host in (self.host, *self.hosts) if not is_loopback(host)]
        if self.trusted_proxy is not None:
            public.append("a server behind a proxy")
        if self.base_path:
            public.append(f"a server below {self.base_path}")
        if self.token is None and public:
            raise UsageError(
                f"{public[0]} is reachable from other machines and needs a token: set"
                f" ${TOKEN_VARIABLE}, or ${TOKEN_FILE_VARIABLE} to the path of a file with the"
                " token, or use 127.0.0.1 only"
            )


def check_token(token: str) -> None:
    """Raises ``UsageError`` for a token that is not ASCII, or that could be guessed."""
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"the token has characters that HTTP headers cannot carry; {NEW_TOKEN}")
    if len(token) < MIN_TOKEN_LENGTH:
        raise UsageError(
            f"the token is too short: use at least {MIN_TOKEN_LENGTH} characters; {NEW_TOKEN}"
        )
    period = next(n for n in range(1, len(token) + 1) if token.startswith(token[n:]))
    if period <= len(token) // 2 or _bits(token) < MIN_TOKEN_BITS:
        raise UsageError(f"the token is too regular and could be guessed; {NEW_TOKEN}")


def _bits(token: str) -> float:
    """An upper bound of the entropy of ``token``: the Shannon entropy of its characters, and of the
    steps between them, which are equal in ``12345678``."""
    steps = [ord(after) - ord(before) for before, after in pairwise(token)]
    return min(_shannon(token), _shannon(steps))


def _shannon(values: Sequence[str] | Sequence[int]) -> float:
    """Bits: the entropy of one of ``values`` times their number."""
    counts = Counter(values).values()
    return -sum(count * log2(count / len(values)) for count in counts)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    address = ip_address(host)
    return address is not None and address.is_loopback


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """``host`` as an IP address (IPv6 with or without brackets); None if it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def token_path(file: Path | None = None) -> Path | None:
    """The token file: ``file``, else the one named by ``$SIGHTLINE_TOKEN_FILE``, else None."""
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    return file or (Path(named).expanduser() if named else None)


def read_token(file: Path | None = None) -> str | None:
    """Reads the token from ``file``, else from the file named by ``$SIGHTLINE_TOKEN_FILE``, else
    from ``$SIGHTLINE_TOKEN``; returns None if none of them is set. The command line takes no
    token, because every user of the machine can read it there."""
    path = token_path(file)
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {error}") from error
    if not token:
        raise UsageError(f"the token file {path} is empty")
    return token
