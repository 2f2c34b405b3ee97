"""HTML of search results for notebooks (Jupyter's ``_repr_html_``).

Self-contained: thumbnails are ``data:`` URLs, styles are inline, nothing is fetched. Names, titles
and queries are escaped.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape

from sightline.indexer.types import ImageRecord

GRID = "display:flex;flex-wrap:wrap;gap:10px;align-items:flex-end"
FIGURE = "margin:0;width:160px;font:12px system-ui,sans-serif;overflow-wrap:anywhere"
IMAGE = "display:block;max-width:160px;max-height:160px;border-radius:4px"
PLACEHOLDER = "display:block;width:160px;height:120px;border-radius:4px;background:"
_COLOR = re.compile(r"#[0-9a-fA-F]{3,8}")
"""An imported catalog may hold any text as a colour."""
BELOW_THRESHOLD = ' style="opacity:.45"'


def figure(record: ImageRecord, score: float, duplicates: int, thumbnail: bytes | None) -> str:
    """One image with its score, id, number of folded near-duplicates and path. Without a
    ``thumbnail`` (WebP) it is a rectangle of the image's mean colour."""
    if thumbnail is None:
        color = record.info.color or ""
        known = color if _COLOR.fullmatch(color) else "#ddd"
        shown = f'<span style="{PLACEHOLDER}{known}"></span>'
    else:
        source = base64.b64encode(thumbnail).decode("ascii")
        shown = f'<img style="{IMAGE}" alt="" src="data:image/webp;base64,{source}">'
    more = f" +{duplicates}" if duplicates else ""
    return (
        f'<figure style="{FIGURE}" title="{escape(str(record.absolute))}">{shown}<figcaption>'
        f"{score:.3f} &middot; {record.id}{more}<br>{escape(record.path)}</figcaption></figure>"
    )


def grid(heading: str, figures: Sequence[tuple[str, bool]]) -> str:
    """A grid of ``(figure, match)`` below a heading; figures that are no match are fainter."""
    cells = [f"<div{'' if match else BELOW_THRESHOLD}>{html}</div>" for html, match in figures]
    return f'<p>{escape(heading)}</p><div style="{GRID}">{"".join(cells)}</div>'
