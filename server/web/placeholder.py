"""The placeholder for an image that was imported without its file: an SVG with its caption or file
name. SVG leaves the fonts of all scripts to the browser."""

from __future__ import annotations

import textwrap
from html import escape
from pathlib import PurePosixPath

from sightline.indexer.types import ImageRecord

WIDTH = 512
COLUMNS, LINES = 18, 7
LINE_HEIGHT = 54
"""SVG units; characters are about 25 wide."""

BACKGROUND, FOREGROUND = "#e9e9e4", "#4c4c48"


def placeholder(record: ImageRecord) -> str:
    """The SVG for ``record``, with the image's aspect ratio if it is known (1:2 to 2:1)."""
    info = record.info
    aspect = info.height / info.width if info.width and info.height else 1.0
    height = round(WIDTH * min(max(aspect, 0.5), 2.0))
    text = info.caption or info.title or PurePosixPath(record.path).name
    lines = textwrap.wrap(
        " ".join(text.split()),
        COLUMNS,
        max_lines=min(LINES, height // LINE_HEIGHT - 1),
        placeholder=" …",
    )
    top = (height - LINE_HEIGHT * len(lines)) / 2 + 0.75 * LINE_HEIGHT
    rows = "".join(
        f'<text x="{WIDTH // 2}" y="{top + LINE_HEIGHT * n:.0f}">{escape(_plain(line))}</text>'
        for n, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}"'
        f' viewBox="0 0 {WIDTH} {height}">'
        f'<rect width="{WIDTH}" height="{height}" fill="{BACKGROUND}"/>'
        f'<g fill="{FOREGROUND}" font-family="system-ui, sans-serif" font-size="42"'
        f' text-anchor="middle">{rows}</g></svg>'
    )


def _plain(text: str) -> str:
    """``text`` without control characters, which XML does not allow."""
    return "".join(character for character in text if character.isprintable())
