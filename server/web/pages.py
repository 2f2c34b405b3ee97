"""HTML pages: the search page, its version without JavaScript, the sign-in form, the list of
failures; and the static files."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Response,
    current_app,
    make_response,
    redirect,
    render_template,
    request,
    send_from_directory,
)
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from sightline.indexer.errors import SightlineError
from sightline.indexer.library import Library
from sightline.server.search import SearchResult, parse
from sightline.server.search.engine import FACETS
from sightline.server.search.language import is_english_only
from sightline.server.search.query import FILTER_NAMES
from sightline.server.search.spelling import correction
from sightline.server.web.app_state import engine, state
from sightline.server.web.parameters import MAX_OFFSET, OFFSET, QUERY
from sightline.server.web.public import public_error, public_failures, public_status
from sightline.server.web.security import (
    TOO_MANY_TOKENS,
    delete_cookie,
    set_cookie,
    sign_in_failed,
    sign_in_wait,
)
from sightline.server.web.strings import Strings, languages, strings
from sightline.server.web.thumbnails import IMMUTABLE
from sightline.server.web.tokens import Token

pages = Blueprint("pages", __name__)

PAGE_SIZE = 60
"""Results per page without JavaScript; divisible by 2 to 6, so that rows are full."""


@pages.get("/")
def index() -> Response:
    """The search page. Its state is ``q``; its scripts fetch the results. ``plain=1`` renders
    results in HTML for browsers without JavaScript."""
    q, offset, result, reason, code = "", 0, None, None, 200
    plain = request.args.get("plain") == "1"
    try:
        q = QUERY.read(request.args.get("q")).strip()
        offset = OFFSET.read(request.args.get("offset")) or 0
        if plain:
            result = engine().search(parse(q), k=PAGE_SIZE, offset=offset)
    except SightlineError as error:
        code, reason = public_error(error)
    values: dict[str, Any] = {
        "q": q,
        "status": public_status(),
        "private": _token() is not None,
        "english_model": is_english_only(engine().library.model),
    }
    if not plain:
        # Reserve space for what scripts add after the images, so that the layout does not shift.
        library = engine().library
        values["faceted"] = any(map(library.has, FACETS))
        values["dated"] = library.has("year")
        values["keeps"] = isinstance(library, Library)
        values["favourites"] = isinstance(library, Library) and library.kept.has_favourites
        values["parts"] = _has_chips(q)
        values["filter_names"] = FILTER_NAMES
        values["languages"] = {code: one.name for code, one in languages().items()}
        return make_response(render_template("index.html", **values))
    values |= {"result": result, "error": reason, "offset": offset, "size": PAGE_SIZE}
    values["following"] = _next_offset(result, offset)
    values["correction"] = None if result is None else correction(engine().library, q)
    return make_response(render_template("plain.html", **values), code)


def _has_chips(q: str) -> bool:
    """Whether scripts show parts of the query below the search box."""
    shown = re.sub(r"\b(sort|match):\S+", "", q)
    return any(mark in shown for mark in ':"-') or bool(parse(shown).interpreted)


def _next_offset(result: SearchResult | None, offset: int) -> int | None:
    """The offset of the next page, or None on the last one."""
    if result is None or len(result.hits) < PAGE_SIZE or offset + PAGE_SIZE > MAX_OFFSET:
        return None
    return offset + PAGE_SIZE


@pages.get("/failures")
def failures() -> str:
    """The files that could not be read, with reasons."""
    return render_template("failures.html", failures=public_failures())


@pages.get("/signin")
def sign_in_form() -> AnyResponse:
    """The form for the token."""
    if _token() is None:
        return redirect(home())
    following = local_address(request.args.get("next"))
    return make_response(render_template("signin.html", problem=None, following=following))


@pages.post("/signin")
def sign_in() -> AnyResponse:
    """Checks the token and sets the cookie."""
    token = _token()
    if token is None:
        return redirect(home(), 303)
    following = local_address(request.form.get("next"))
    if wait := sign_in_wait():
        page = render_template("signin.html", problem=TOO_MANY_TOKENS, following=following)
        return make_response(page, 429, {"Retry-After": str(wait)})
    if not token.equals(request.form.get("token", "").strip()):
        sign_in_failed()
        page = render_template("signin.html", problem="incorrect token", following=following)
        return make_response(page, 403)
    response = make_response(redirect(following, 303))
    set_cookie(response, token)
    return response


def local_address(text: str | None) -> str:
    """``text`` if it is an address of this server: a path, query and fragment. The page otherwise,
    so that a link to the sign-in form cannot lead to another site."""
    if text and re.fullmatch(r"/(?![/\\])[\x21-\x7e]*", text):
        return text
    return home()


def home() -> str:
    """The address of the page."""
    return f"{request.script_root}/"


@pages.post("/signout")
def sign_out() -> AnyResponse:
    """Deletes the cookie and what the browser has cached."""
    response = make_response(redirect(f"{request.script_root}/signin", 303))
    delete_cookie(response)
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _token() -> Token | None:
    """The token of this server; None if it needs none."""
    found: Token | None = current_app.extensions["sightline_token"]
    return found


@pages.get("/static/<path:name>")
def static_file(name: str) -> Response:
    """A style sheet or script. URLs made by ``static_url`` contain a hash of all static files, so
    that relative module imports work and browsers cache them indefinitely."""
    first, _, rest = name.partition("/")
    version, _, language = first.partition("_")
    versioned = version == state().static_version and language in languages() and bool(rest)
    kind = mimetypes.types_map.get(Path(name).suffix, "application/octet-stream")
    name = rest if versioned else name
    if section := re.fullmatch(r"strings\.(\w+)\.js", name):
        response = _strings_module(section[1], languages()[language] if versioned else strings())
    else:
        response = send_from_directory(state().templates / "static", name, mimetype=kind)
    if not section and response.status_code == 200 and Path(name).suffix in (".js", ".css"):
        text = _without_comments(state().templates / "static" / name, state().static_version)
        response.direct_passthrough = False
        response.close()
        response.set_data(text)
    # A URL with an old hash gets the current file, uncached.
    response.headers["Cache-Control"] = IMMUTABLE if versioned else "no-cache"
    return response


def _strings_module(section: str, texts: Strings) -> Response:
    """A section of the texts, which modules of the page import."""
    try:
        return Response(texts.script(section), mimetype="text/javascript")
    except KeyError:
        raise NotFound from None


_INDENTATION = re.compile(r"^[ \t]+", re.MULTILINE)
_COMMENT_LINES = re.compile(r"^(?:/\*.*?\*/|//[^\n]*)\n?", re.MULTILINE | re.DOTALL)


@lru_cache(maxsize=128)
def _without_comments(path: Path, version: str) -> bytes:
    """A script or style sheet without indentation and lines of comments: a sixth of its bytes.
    ``version`` is that of all static files."""
    text = path.read_text(encoding="utf-8")
    return _COMMENT_LINES.sub("", _INDENTATION.sub("", text)).encode()


def static_version(directory: Path) -> str:
    """A hash of the names and contents of all templates, texts and static files."""
    whole = hashlib.blake2b(digest_size=6)
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        whole.update(path.relative_to(directory).as_posix().encode() + b"\0")
        whole.update(hashlib.blake2b(path.read_bytes()).digest())
    return whole.hexdigest()


def static_url(name: str) -> str:
    """The URL of a static file, with the hash of all of them and the language: the modules that it
    imports are in the same one."""
    version = f"{state().static_version}_{strings().language}"
    return f"{request.script_root}/static/{version}/{name}"


def sentence(text: str) -> str:
    """A message as a sentence: first word capitalised, full stop added. A filter (``after:x``) at
    the start is left as it is."""
    first, space, rest = text.partition(" ")
    if first.isalpha():
        first = first[:1].upper() + first[1:]
    return first + space + rest + ("" if text.endswith((".", ":", "!", "?")) else ".")


@pages.get("/favicon.ico")
def favicon() -> AnyResponse:
    """Redirects programs that do not read the page's icon link."""
    return redirect(static_url("mark.svg"))
