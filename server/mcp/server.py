"""``create_mcp_server``: the tools and resources of ``PhotoTools`` in the SDK's server."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp.types import ToolAnnotations

from sightline import __version__
from sightline.indexer.errors import NotFoundError, SightlineError
from sightline.server.mcp.tools import MAX_PIXELS, PhotoTools

T = TypeVar("T")

INSTRUCTIONS = (
    "Searches the user's own photo library by what photos show, and by date, place and camera."
    " Read-only. search_photos first; get_photo shows a photo; facets lists folders, cameras,"
    " keywords and other values to filter by. Photos are named by id."
)

MAX_DIGITS = 19
"""A photo's id in a resource has fewer: SQLite's integers have 63 bits."""

READ_ONLY = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


def create_mcp_server(
    tools: PhotoTools, *, message: Callable[[SightlineError], str] = str
) -> MCPServer[Any]:
    """The MCP server of ``tools``; run it on a transport of the SDK. ``message`` makes the text
    that a client gets for an error."""
    # Plain lines; without a handler the SDK installs one that draws boxes.
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    server: MCPServer[Any] = MCPServer(
        "sightline",
        title="Sightline photo search",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="WARNING",
        subscriptions=False,
    )
    for tool in (
        tools.search_photos,
        tools.find_similar,
        tools.get_photo,
        tools.describe_photo,
        tools.facets,
        tools.find_duplicates,
        tools.library_status,
    ):
        server.add_tool(_tool(tools, tool, message), annotations=READ_ONLY)

    @server.resource("photo://{id}", name="photo", mime_type="image/jpeg")
    async def photo(id: str) -> bytes:
        """A photo of the library as JPEG, at most 1,024 pixels on its longer side."""
        try:
            number = int(id) if id.isascii() and id.isdecimal() and len(id) < MAX_DIGITS else 0
            return await _in_thread(tools, functools.partial(tools.jpeg, number, MAX_PIXELS))
        except NotFoundError as error:
            raise ResourceNotFoundError(message(error)) from error
        except SightlineError as error:
            raise ResourceError(message(error)) from error

    return server


async def serve_stdio(server: MCPServer[Any]) -> None:
    """Answers on standard input and output until the client closes them."""
    await server.run_stdio_async()


def _tool(
    tools: PhotoTools, function: Callable[..., T], message: Callable[[SightlineError], str]
) -> Callable[..., Awaitable[T]]:
    """``function`` as a coroutine that runs it in a worker thread."""

    @functools.wraps(function)
    async def call(**arguments: Any) -> T:
        try:
            return await _in_thread(tools, functools.partial(function, **arguments))
        except SightlineError as error:
            raise ToolError(message(error)) from error

    return call


async def _in_thread(tools: PhotoTools, call: Callable[[], T]) -> T:
    """The result of ``call``, which runs in a worker thread. A cancelled call is answered at once;
    the thread finishes its work, which nothing can interrupt."""

    def leased() -> T:
        with tools.engines.lease():
            return call()

    return await anyio.to_thread.run_sync(leased, abandon_on_cancel=True)
