"""The pages: the search page, and one with its results for whoever has no JavaScript; the files
they are made of; the sign-in form; what could not be read; errors for people."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path
from typing import Any

from flask import (
    Blueprint,
    Response,
    make_response,
    redirect,
    render_template,
    request,
    send_from_directory,
)
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response as AnyResponse

from sightline.indexer.errors import SightlineError
from sightline.server.search.engine import SearchResult
from sightline.server.search.query import parse
from sightline.server.web.api import MAX_OFFSET, OFFSET, QUERY, public_failures, public_status
from sightline.server.web.app_state import engine, state
from sightline.server.web.errors import told
from sightline.server.web.security import config, is_token, set_cookie
from sightline.server.web.thumbnails import FOR_EVER

pages = Blueprint("pages", __name__)

PAGE = 60
"""Results on a page without JavaScript: whole rows of two, three, four, five and six."""


@pages.get("/")
def index() -> Response:
    """The search page: ``q`` is all its state, and its scripts ask for the results and say what is
    wrong. A browser without JavaScript is sent on to ``plain=1``: the results as a page, ``PAGE``
    at a time."""
    q, result, reason, code = "", None, None, 200
    plain, offset = request.args.get("plain") == "1", 0
    try:
        q = QUERY.read(request.args.get("q")).strip()
        offset = OFFSET.read(request.args.get("offset")) or 0
        if plain:
            result = engine().search(parse(q), k=PAGE, offset=offset)
    except SightlineError as error:
        code, reason = told(error)
    facts: dict[str, Any] = {"q": q, "status": public_status()}
    if not plain:
        # Room is kept for what comes after the pictures, so that it moves none of them.
        library = engine().library
        facts["faceted"] = library.has("label") or library.has("keyword")
        facts["dated"] = library.has("year")
        facts["parts"] = any(mark in q for mark in ':"-')
        return make_response(render_template("index.html", **facts))
    facts |= {"result": result, "error": reason, "offset": offset, "size": PAGE}
    facts["following"] = _following(result, offset)
    return make_response(render_template("plain.html", **facts), code)


def _following(result: SearchResult | None, offset: int) -> int | None:
    """The offset of the next page, if there is one."""
    if result is None or len(result.hits) < PAGE or offset + PAGE > MAX_OFFSET:
        return None
    return offset + PAGE


@pages.get("/failures")
def failures() -> str:
    """Every file that could not be read, with the reason."""
    return render_template("failures.html", failures=public_failures())


@pages.get("/signin")
def sign_in_form() -> AnyResponse:
    """The form that asks for the token."""
    if config().token is None:
        return redirect("/")
    return make_response(render_template("signin.html", wrong=False))


@pages.post("/signin")
def sign_in() -> AnyResponse:
    """Takes the token and sets the cookie."""
    token = config().token
    if token is None:
        return redirect("/", 303)
    if not is_token(request.form.get("token", "").strip(), token):
        return make_response(render_template("signin.html", wrong=True), 403)
    response = make_response(redirect("/", 303))
    set_cookie(response, token)
    return response


@pages.get("/static/<path:name>")
def static_file(name: str) -> Response:
    """A style sheet or script. An address made by ``static_url`` holds the files' common hash, so
    that modules find each other by relative names and every browser keeps them for ever."""
    static = Static.of(state().templates)
    first, _, rest = name.partition("/")
    versioned = first == static.version() and bool(rest)
    kind = mimetypes.types_map.get(Path(name).suffix, "application/octet-stream")
    response = send_from_directory(static.directory, rest if versioned else name, mimetype=kind)
    # Of a version that is gone the browser gets what there is now, and keeps nothing.
    response.headers["Cache-Control"] = FOR_EVER if versioned else "no-cache"
    return response


class Static:
    """The files of the page, and the hash of them all."""

    _kept: dict[Path, Static] = {}  # noqa: RUF012 (one for the process)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stamp: tuple[tuple[str, int, int], ...] = ()
        self._version = ""

    @classmethod
    def of(cls, templates: Path) -> Static:
        """Of this folder of templates."""
        return cls._kept.setdefault(templates, cls(templates / "static"))

    def version(self) -> str:
        """A hash of names and contents, computed anew when a file has changed."""
        files = sorted(path for path in self.directory.rglob("*") if path.is_file())
        stamp = tuple(
            (str(path), (status := path.stat()).st_mtime_ns, status.st_size) for path in files
        )
        if stamp != self._stamp:
            whole = hashlib.blake2b(digest_size=6)
            for path in files:
                whole.update(path.relative_to(self.directory).as_posix().encode() + b"\0")
                whole.update(hashlib.blake2b(path.read_bytes()).digest())
            self._version, self._stamp = whole.hexdigest(), stamp
        return self._version


def static_url(name: str) -> str:
    """The address of a file of the page, with the hash in it."""
    return f"/static/{Static.of(state().templates).version()}/{name}"


def sentence(text: str) -> str:
    """A reason as it stands alone on a page. A filter at its front stays as it is written."""
    first, space, rest = text.partition(" ")
    if first.isalpha():
        first = first[:1].upper() + first[1:]
    return first + space + rest + ("" if text.endswith((".", "!", "?")) else ".")


@pages.get("/favicon.ico")
def favicon() -> AnyResponse:
    """Asked for by programs that do not read the page."""
    if not (Static.of(state().templates).directory / "mark.svg").exists():
        raise NotFound
    return redirect(static_url("mark.svg"))
