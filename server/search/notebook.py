"""Hits that show themselves in a notebook (Jupyter's ``_repr_html_``).

Everything is in the text: thumbnails as data addresses, styles on the elements. Nothing is fetched,
and what a person wrote (names, titles, queries) is escaped.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.server.search.results import Hit, SearchResult

MOST = 60
"""Hits that are shown: a notebook keeps what it shows, some 20 kB each."""

GRID = "display:flex;flex-wrap:wrap;gap:10px;align-items:flex-end"
FIGURE = "margin:0;width:160px;font:12px system-ui,sans-serif;overflow-wrap:anywhere"
PICTURE = "display:block;max-width:160px;max-height:160px;border-radius:4px"
ABSENT = "display:block;width:160px;height:120px;border-radius:4px;background:"


def hit_html(hit: Hit) -> str:
    """One picture with its score and path."""
    data = hit.thumbnail() if hit.thumbnail is not None else None
    if data is None:
        shown = f'<span style="{ABSENT}{escape(hit.record.info.color or "#ddd")}"></span>'
    else:
        source = base64.b64encode(data).decode("ascii")
        shown = f'<img style="{PICTURE}" alt="" src="data:image/webp;base64,{source}">'
    path = escape(str(hit.record.absolute))
    more = f" +{len(hit.duplicates)}" if hit.duplicates else ""
    return (
        f'<figure style="{FIGURE}" title="{path}">{shown}<figcaption>'
        f"{hit.score:.3f} &middot; {hit.id}{more}<br>{escape(hit.path)}</figcaption></figure>"
    )


def result_html(result: SearchResult) -> str:
    """A grid of the hits; what stands below the line under the good matches is fainter."""
    figures = []
    for hit in result.hits[:MOST]:
        opacity = "" if hit.match else ' style="opacity:.45"'
        figures.append(f"<div{opacity}>{hit_html(hit)}</div>")
    good = "" if result.good is None else f"{result.good:,} good matches of "
    said = f"{escape(result.query) or 'everything'}: {good}{result.total:,} pictures"
    if len(result.hits) > MOST:
        said += f", {MOST} of {len(result.hits):,} hits shown"
    if result.message:
        said += f"; {escape(result.message)}"
    return f'<p>{said}</p><div style="{GRID}">{"".join(figures)}</div>'
