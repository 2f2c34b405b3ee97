"""One MCP request over HTTP, for a WSGI server: stateless, answered with JSON.

Each request runs the SDK's ASGI application to its end in a separate event loop: 2 ms, and no
session, thread or loop that outlives it. The caller has checked the token, the host and the origin.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

PATH = "/mcp"

CHECKED_BEFORE = TransportSecuritySettings(enable_dns_rebinding_protection=False)


def answer(
    server: MCPServer[Any], headers: list[tuple[str, str]], body: bytes
) -> tuple[int, str, bytes]:
    """The status, the media type and the body of the response to a POST request."""
    return asyncio.run(_answer(server, headers, body))


async def _answer(
    server: MCPServer[Any], headers: list[tuple[str, str]], body: bytes
) -> tuple[int, str, bytes]:
    app = server.streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=len(body) + 1,
        transport_security=CHECKED_BEFORE,
    )
    request = httpx2.Request("POST", f"http://localhost{PATH}", headers=headers, content=body)
    async with app.router.lifespan_context(app):
        response = await httpx2.ASGITransport(app).handle_async_request(request)
        data = await response.aread()
    return response.status_code, response.headers.get("content-type", ""), data
