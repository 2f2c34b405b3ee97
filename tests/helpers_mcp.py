"""The MCP SDK's own client, on a transport, for tests that are plain functions."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from helpers_serving import TOP, serving_process
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

TOKEN = "kGJ3cVt0sRzQ8mWnYb5xLa"


class McpClient:
    """A connected client, and the process that it talks to."""

    def __init__(self, client: Client, portal: BlockingPortal, pid: int) -> None:
        self.client, self.portal, self.pid = client, portal, pid

    def run(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """The result of a coroutine function in the client's event loop."""
        return self.portal.call(partial(method, *arguments, **options))

    def call(self, tool: str, **arguments: Any) -> Any:
        """The structured result of a tool that succeeds."""
        result = self.run(self.client.call_tool, tool, arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refused(self, tool: str, **arguments: Any) -> str:
        """The message of a tool that fails."""
        result = self.run(self.client.call_tool, tool, arguments)
        assert result.is_error
        return str(result.content[0].text)


@contextmanager
def connected(transport: Any, pid: Any, *, mode: str = "auto") -> Iterator[McpClient]:
    """A client on ``transport``; ``pid()`` is that of the server, called after connecting."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Client(transport, mode=mode)) as client,
    ):
        yield McpClient(client, portal, pid())


@contextmanager
def stdio(library: Path, *options: str, mode: str = "auto") -> Iterator[McpClient]:
    """A client of ``sightline mcp``, which it starts itself."""
    before = children()
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "sightline", "mcp", "--library", str(library), *options],
        env={**os.environ},
        cwd=TOP,
    )

    def pid() -> int:
        (found,) = children() - before
        return found

    with connected(stdio_client(server), pid, mode=mode) as client:
        yield client


@contextmanager
def http(library: Path, *, mode: str = "auto") -> Iterator[McpClient]:
    """A client of ``sightline serve --mcp`` with a token."""
    token = {"SIGHTLINE_TOKEN": TOKEN}
    arguments = ("--mcp", "--library", library)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with (
        serving_process(*arguments, environment=token) as (address, pid),
        connected(_http(f"{address}mcp", headers), lambda: pid, mode=mode) as client,
    ):
        yield client


@asynccontextmanager
async def _http(url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


def children() -> set[int]:
    """The child processes of this one (Linux)."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found
