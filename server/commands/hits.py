"""How ``sightline search`` prints hits: lines, a template, previews, or a page in the browser."""

from __future__ import annotations

import io
import json
import os
import re
import string
import sys
from html import escape
from importlib import util
from typing import TYPE_CHECKING, Any

import click

from sightline.indexer.errors import UsageError
from sightline.server.commands.common import printable, say

if TYPE_CHECKING:
    from sightline.server.search import SearchResult
    from sightline.server.search.results import Hit

PREVIEW_COLUMNS = 32
"""Width of a preview in the terminal, in characters."""

_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\0": "\0", r"\\": "\\"}

PAGE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<body style="font:14px system-ui,sans-serif;margin:24px">{results}
"""


def print_hits(result: SearchResult, *, previews: bool | None) -> None:
    """Prints the message of ``result``, then a line per hit (score, id, path, text in the image
    that matches), and the relevance threshold between them. With ``previews`` the image as well;
    None: where the terminal shows images."""
    show = None if previews is False else terminal_image(required=previews is True)
    if result.message:
        say(result.message)
    elif not result.hits:
        say("no hits")
    below = False
    for hit in result.hits:
        if not hit.match and not below:
            below = True
            if result.hits[0].match:
                say("-- the following hits are below the relevance threshold --")
        folded = f"  +{len(hit.duplicates):,} similar" if hit.duplicates else ""
        found = f'  "{printable(hit.snippet)}"' if hit.snippet else ""
        path = printable(hit.record.absolute)
        click.echo(f"{hit.score:6.3f}  {hit.id:>7}  {path}{found}{folded}")
        if show is not None:
            print_preview(hit, show)


def print_json_lines(result: SearchResult) -> None:
    """Prints one JSON document per line and hit."""
    for hit in result.hits:
        click.echo(json.dumps(hit.as_dict()))


def print_formatted(result: SearchResult, template: str, *, null: bool) -> None:
    """Prints ``template`` for each hit and a newline, or a NUL byte. Raises ``UsageError`` for an
    invalid template."""
    text = re.sub(r"\\[tn0\\]", lambda found: _ESCAPES[found[0]], template)
    for hit in result.hits:
        line = format_hit(text, hit.as_dict())
        # As bytes: click removes escape sequences from text, and a path would not exist.
        click.echo(os.fsencode(line) + (b"\0" if null else b"\n"), nl=False)


def format_hit(template: str, values: dict[str, Any]) -> str:
    """``template`` with the fields ``{name}`` or ``{name:format}`` of Python's ``str.format``.
    Raises ``UsageError``."""
    try:
        return _Fields().vformat(template, (), values)
    except KeyError as error:
        known = ", ".join(values)
        raise UsageError(f"--format has no field {error.args[0]!r}; there are {known}") from error
    except (ValueError, TypeError) as error:
        raise UsageError(f"--format {template!r}: {error}") from error


class _Fields(string.Formatter):
    """Only names of fields, no attributes and items of them; what is unknown is empty."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        if field_name not in kwargs:
            raise KeyError(field_name)
        return kwargs[field_name], field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None:
            return ""
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if isinstance(value, str) and sys.stdout.isatty():
            value = printable(value)
        return str(super().format_field(value, format_spec))


def open_in_browser(result: SearchResult) -> None:
    """Opens the results with their thumbnails in the browser."""
    html = PAGE.format(title=escape(result.query), results=result._repr_html_())
    open_page(html, "search.html")


def open_page(html: str, name: str) -> None:
    """Writes a page, readable by this user only, and opens it in the browser. The next call with
    this ``name`` overwrites it."""
    import webbrowser

    from platformdirs import user_cache_path

    folder = user_cache_path("sightline", appauthor=False)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    page = folder / name
    page.unlink(missing_ok=True)
    with open(page, "x", encoding="utf-8", opener=_private) as file:
        file.write(html)
    if not webbrowser.open(page.as_uri()):
        say(f"no browser could be started; the results are in {page}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def terminal_image(*, required: bool) -> Any:
    """The class of rich renderables that shows images in this terminal (kitty's protocol or
    sixel), or None: in a pipe, in other terminals, and without the extra ``previews``. Asks the
    terminal. Raises ``UsageError`` if it is ``required`` and the extra is missing."""
    if util.find_spec("textual_image") is None:
        if required:
            from sightline.indexer.installation import install_command

            raise UsageError(f"previews need the extra `previews`: {install_command('previews')}")
        return None
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from textual_image import renderable

    found = renderable.Image
    if found in (renderable.SixelImage, renderable.TGPImage):
        return found
    if required:
        say("this terminal shows no images")
    return None


def print_preview(hit: Hit, show: Any) -> None:
    """Shows the thumbnail of ``hit``, if there is one."""
    from PIL import Image
    from rich.console import Console

    data = hit.thumbnail() if hit.thumbnail is not None else None
    if data is not None:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            Console().print(show(image.convert("RGB"), width=PREVIEW_COLUMNS))
