"""What a server is told: where it listens, who may come in, how much it takes on."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path

from sightline.indexer.errors import UsageError

TOKEN_VARIABLE = "SIGHTLINE_TOKEN"
TOKEN_FILE_VARIABLE = "SIGHTLINE_TOKEN_FILE"

SHORTEST_TOKEN = 16
"""Characters. Anything shorter could be tried out."""

PORT = 8008


@dataclass(frozen=True)
class ServerConfig:
    """The settings of one server. Raises ``UsageError`` for an address that others can reach
    without a token to keep them out."""

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = field(default=None, repr=False)
    """What a visitor must show; see ``read_token``. None: nobody is asked, on loopback only."""
    hosts: tuple[str, ...] = ()
    """More names under which the server may be asked for, as in a browser's address bar."""
    origins: tuple[str, ...] = ()
    """Pages of other servers (``https://front.example.org``) that may use clip-retrieval's
    protocol, and nothing else, from people's browsers."""
    threads: int = 40
    max_waiting: int = 256
    """Requests that may wait for a thread; beyond that the answer is 503."""
    max_upload: int = 64 * 2**20
    """Bytes of one request with pictures in it."""
    max_zips: int = 2
    """Zip downloads at the same time: each holds a thread for as long as its reader takes."""

    def __post_init__(self) -> None:
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise UsageError(f"the token is too short: {SHORTEST_TOKEN} characters are the fewest")
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"{self.host} can be reached by others: put a token into ${TOKEN_VARIABLE} or a"
                f" file named by ${TOKEN_FILE_VARIABLE}, or listen on 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    address = ip_address(host)
    return address is not None and address.is_loopback


def ip_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """``host`` as an address, brackets of IPv6 taken off; None when it is a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def read_token(file: Path | None = None) -> str | None:
    """The token from ``file``, else from the file named by ``$SIGHTLINE_TOKEN_FILE``, else from
    ``$SIGHTLINE_TOKEN``; None where there is none. It is never taken from the command line, where
    every user of the machine could read it."""
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
