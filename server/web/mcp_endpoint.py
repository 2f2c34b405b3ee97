"""``/mcp``: the Model Context Protocol over HTTP (``serve --mcp``), behind the checks of every
other route: host, origin, token, size and load."""

from __future__ import annotations

from flask import Blueprint, Response, request

from sightline.indexer.errors import SightlineError
from sightline.server.mcp import http
from sightline.server.mcp.server import create_mcp_server
from sightline.server.mcp.tools import PhotoTools
from sightline.server.search.current_engine import CurrentEngine
from sightline.server.web.parameters import Operation, operation
from sightline.server.web.public import public_error

MAX_BODY = 32 * 2**20
"""Bytes of a request: an image of up to 24 MB, base64-encoded."""

HEADERS = ("Accept", "Content-Type")
"""Headers that the protocol uses, beside those that start with ``MCP_HEADER``."""

MCP_HEADER = "mcp-"


def mcp_endpoint(engines: CurrentEngine) -> Blueprint:
    """The blueprint of the endpoint. Paths in its answers start at the name of their root."""
    blueprint = Blueprint("mcp", __name__)
    server = create_mcp_server(PhotoTools(engines), message=_public_message)

    @blueprint.post(http.PATH)
    @operation(
        Operation(
            "Model Context Protocol, streamable HTTP without sessions: one JSON-RPC message",
            body={"type": "object"},
            max_body=MAX_BODY,
            answer={"type": "object"},
        )
    )
    def mcp() -> Response:
        """The JSON-RPC response."""
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name in HEADERS or name.lower().startswith(MCP_HEADER)
        ]
        status, kind, body = http.answer(server, headers, request.get_data())
        return Response(body, status=status, content_type=kind or None)

    return blueprint


def _public_message(error: SightlineError) -> str:
    _, message = public_error(error)
    return message
