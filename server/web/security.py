"""Who may come in, and what a browser may do with the answers.

* The ``Host`` must be one of the server's own names, or a page elsewhere could point its own name
  at this machine and read everything (DNS rebinding).
* What changes anything must come from the server's own page or from a program: a browser says
  where a request comes from in ``Sec-Fetch-Site`` and ``Origin``, and neither can be forged there.
* Where others can reach the server, everyone shows the token: programs as ``Authorization:
  Bearer``, browsers once in a form, after which a strict, HTTP-only cookie holds a value derived
  from it.
* A content security policy without ``unsafe-inline``: only the server's own files run.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import socket
from urllib.parse import urlsplit

from flask import Flask, Request, Response, current_app, g, request
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized

from sightline.server.web.config import ServerConfig, ip_address, is_loopback

COOKIE = "sightline"
COOKIE_DAYS = 30

POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
"""For the pages. ``blob:`` is a picture that is being searched with, before it is sent."""

PICTURE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For people's own files: nothing in them may run, whatever they turn out to be."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

OPEN_ENDPOINTS = {"pages.sign_in", "pages.sign_in_form", "pages.static_file", "api.healthz"}
"""What can be had without a token: the form itself, its style, and whether the server is up."""

SHARED_BLUEPRINT = "knn_service"
"""What pages of other servers may use, where ``ServerConfig.origins`` names them."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


class Misdirected(HTTPException):
    """Asked for under a name that is not the server's own."""

    code = 421
    description = "this server does not go by that name; add it with --host-name if it should"


def guard(app: Flask, config: ServerConfig) -> None:
    """Puts the checks before, and the headers behind, every request of ``app``."""
    names = {"localhost", config.host.lower().strip("[]"), *(n.lower() for n in config.hosts)}
    local = is_loopback(config.host)
    if not local:
        own = socket.gethostname().lower()
        names |= {own, f"{own.split('.')[0]}.local"}

    def known_host(value: str) -> bool:
        found = _HOST.fullmatch(value)
        if found is None:
            return False
        host = found[1].lower().strip("[]").rstrip(".")
        address = ip_address(host)
        if address is not None and host not in names:
            # An address cannot be re-bound. On loopback only loopback addresses make sense.
            return address.is_loopback or not local
        return host in names

    @app.before_request
    def check() -> None:
        # A request without the header cannot come from a browser; HTTP/1.0 programs leave it out.
        if not known_host(request.headers.get("Host", "localhost")):
            raise Misdirected
        if not _is_invited(request, config):
            _check_origin(request)
        g.signed_in = config.token is not None and _shows_token(request, config.token)
        if config.token is not None and not g.signed_in and request.endpoint not in OPEN_ENDPOINTS:
            raise Unauthorized("this server asks for its token")

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if _is_invited(request, config):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            response.headers.add("Vary", "Origin")
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="sightline"'
        return response


def sees_paths() -> bool:
    """Whether this visitor may know where files are on the machine: whoever showed the token, and
    whoever sits at it. A proxy on this machine brings visitors from elsewhere, and says so."""
    if g.get("signed_in", False):
        return True
    forwarded = any(
        name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
    )
    return not forwarded and is_loopback(request.remote_addr or "")


def cookie_value(token: str) -> str:
    """What the cookie of a browser that showed ``token`` holds: not the token itself."""
    return hmac.new(token.encode(), b"sightline browser cookie", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    """Whether ``given`` is the token, in a time that does not tell how near it was."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def set_cookie(response: Response, token: str) -> None:
    """Lets a browser in for ``COOKIE_DAYS``."""
    response.set_cookie(
        COOKIE,
        cookie_value(token),
        max_age=COOKIE_DAYS * 86_400,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )


def _shows_token(request: Request, token: str) -> bool:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and is_token(given.strip(), token):
        return True
    if kind.lower() == "basic" and is_token(_password(given), token):
        return True
    return is_token(request.cookies.get(COOKIE, ""), cookie_value(token))


def _password(given: str) -> str:
    """Of basic authentication, for programs that can be told a password (in an address,
    ``http://any:TOKEN@host/``) and no header. Browsers are never asked for one."""
    try:
        decoded = base64.b64decode(given.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]


def _is_invited(request: Request, config: ServerConfig) -> bool:
    """Whether this comes from the page of another server that may ask for this."""
    return request.blueprint == SHARED_BLUEPRINT and request.headers.get("Origin") in config.origins


def _check_origin(request: Request) -> None:
    """Raises ``Forbidden`` for what another site's page asks for."""
    site = request.headers.get("Sec-Fetch-Site")
    if request.method in _SAFE:
        # A link from elsewhere may lead here; a page elsewhere may not draw on what is here.
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
        if site in ("cross-site", "same-site") and not navigates:
            raise Forbidden("another site may not use this server")
        return
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Forbidden("another site may not use this server")
        return
    origin = request.headers.get("Origin")
    if origin is None or (origin == "null" and request.endpoint == "pages.sign_in"):
        # No browser; or the form, whose origin `no-referrer` hides, and which brings the token.
        return
    try:
        parts = urlsplit(origin)
    except ValueError as error:
        raise Forbidden("another site may not use this server") from error
    if (parts.scheme, parts.netloc.lower()) != (request.scheme, request.host.lower()):
        raise Forbidden("another site may not use this server")


def config() -> ServerConfig:
    """The settings of the server that answers this request."""
    found: ServerConfig = current_app.config["SIGHTLINE"]
    return found
