"""``ServerConfig``: where a server listens, who may use it, and its limits."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from sightline.indexer.errors import UsageError

TOKEN_VARIABLE = "SIGHTLINE_TOKEN"
TOKEN_FILE_VARIABLE = "SIGHTLINE_TOKEN_FILE"

MIN_TOKEN_LENGTH = 16
"""Characters; a shorter token can be guessed."""

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
    hosts: tuple[str, ...] = ()
    """Additional values of the ``Host`` header that are accepted."""
    origins: tuple[str, ...] = ()
    """Origins (``https://front.example.org``) whose pages may use the clip-retrieval routes, and
    nothing else, from a browser."""
    threads: int = 40
    max_waiting: int = 256
    """Requests that may wait for a thread; above this the answer is 503."""
    max_upload: int = 64 * 2**20
    """Bytes of one request body."""
    max_zips: int = 2
    """Concurrent zip downloads; each occupies a thread until the client has read it."""

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < MIN_TOKEN_LENGTH:
            raise UsageError(f"the token is too short: use at least {MIN_TOKEN_LENGTH} characters")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"{self.host} is reachable from other machines and needs a token: set"
                f" ${TOKEN_VARIABLE}, or ${TOKEN_FILE_VARIABLE} to the path of a file with the"
                " token, or listen on 127.0.0.1"
            )


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


def read_token(file: Path | None = None) -> str | None:
    """Reads the token from ``file``, else from the file named by ``$SIGHTLINE_TOKEN_FILE``, else
    from ``$SIGHTLINE_TOKEN``; returns None if none of them is set. The command line takes no
    token, because every user of the machine can read it there."""
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    path = file or (Path(named).expanduser() if named else None)
    if path is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip() or None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the token file {path} cannot be read: {error}") from error
    if not token:
        raise UsageError(f"the token file {path} is empty")
    return token
