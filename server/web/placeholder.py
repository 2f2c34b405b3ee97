"""What is shown of a picture that came with a set of embeddings and is not on this machine: a card
with its caption, or its name. SVG, so that every script finds a font in the browser."""

from __future__ import annotations

import textwrap
from html import escape
from pathlib import PurePosixPath

from sightline.indexer.types import ImageRecord

WIDE = 512
COLUMNS, LINES = 18, 7
LINE = 54
"""Units of height of a line of text; letters are some 25 wide."""

GROUND, INK = "#e9e9e4", "#4c4c48"


def card(record: ImageRecord) -> str:
    """The SVG for ``record``, of its picture's shape where that is known."""
    info = record.info
    shape = info.height / info.width if info.width and info.height else 1.0
    high = round(WIDE * min(max(shape, 0.5), 2.0))
    said = info.caption or info.title or PurePosixPath(record.path).name
    lines = textwrap.wrap(
        " ".join(said.split()), COLUMNS, max_lines=min(LINES, high // LINE - 1), placeholder=" …"
    )
    top = (high - LINE * len(lines)) / 2 + 0.75 * LINE
    text = "".join(
        f'<text x="{WIDE // 2}" y="{top + LINE * n:.0f}">{escape(_plain(line))}</text>'
        for n, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{high}"'
        f' viewBox="0 0 {WIDE} {high}"><rect width="{WIDE}" height="{high}" fill="{GROUND}"/>'
        f'<g fill="{INK}" font-family="system-ui, sans-serif" font-size="42"'
        f' text-anchor="middle">{text}</g></svg>'
    )


def _plain(text: str) -> str:
    """``text`` without what XML cannot hold."""
    return "".join(letter for letter in text if letter.isprintable())
