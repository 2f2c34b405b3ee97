"""Generates the session in docs/mcp.md: the SDK's client and ``sightline mcp`` over a drawn
gallery. A test fails when it is out of date.

python docs/make_mcp_transcript.py
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from PIL import Image

from sightline.data.scenes import write_gallery
from sightline.server.cli import run

PAGE = Path(__file__).resolve().parent / "mcp.md"

PICTURES = 40

BEGIN, END = "<!-- session -->\n```text\n", "```\n<!-- end of session -->\n"

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("library_status", {}),
    ("facets", {"kind": "year", "limit": 3}),
    ("search_photos", {"query": "a red car", "k": 3}),
    ("search_photos", {"query": "a house after:2021 before:2024", "k": 2}),
    ("describe_photo", {"id": 1}),
    ("get_photo", {"id": 1}),
    ("find_similar", {"id": 1, "k": 2}),
    ("find_duplicates", {}),
    ("get_photo", {"id": 9999}),
]


def make_library(place: Path) -> Path:
    """Draws ``pictures`` in ``place``, one of them twice, and returns their library."""
    first, *_ = write_gallery(place / "pictures", count=PICTURES, seed=0)
    (place / "pictures" / "copy.jpg").write_bytes(first.read_bytes())
    arguments = ["index", place / "pictures", "--library", place / "library", "--model", "builtin"]
    # One worker: the ids follow the order of the files.
    assert run([*map(str, arguments), "--quiet", "--workers", "1"]) == 0
    return place / "library"


def session(library: Path) -> str:
    """What the client sends and receives."""
    return anyio.run(_session, library)


async def _session(library: Path) -> str:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "sightline", "mcp", "--library", str(library)],
        env={**os.environ},
    )
    lines = []
    async with Client(stdio_client(server)) as client:
        tools = await client.list_tools()
        lines += ["> tools/list", ", ".join(tool.name for tool in tools.tools)]
        for name, arguments in CALLS:
            result = await client.call_tool(name, arguments)
            lines += ["", f"> {name} {json.dumps(arguments)}"]
            lines += [_shown(content) for content in result.content]
        read = await client.read_resource("photo://1")
        lines += ["", "> resources/read photo://1"]
        lines += [_image(one.mime_type, one.blob) for one in read.contents]
    return "\n".join(lines) + "\n"


def _shown(content: Any) -> str:
    if content.type == "image":
        return _image(content.mime_type, content.data)
    return str(content.text)


def _image(kind: str, data: str) -> str:
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        return f"[{kind}, {image.width} x {image.height} pixels]"


def in_page(page: str) -> str:
    """The session that docs/mcp.md shows."""
    return page.partition(BEGIN)[2].partition(END)[0]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        text = PAGE.read_text(encoding="utf-8")
        found = session(make_library(Path(folder)))
        PAGE.write_text(text.replace(in_page(text), found), encoding="utf-8")
