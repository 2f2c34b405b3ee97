"""Which requests are accepted, and the security headers of the responses.

* Host check: ``Host`` must be one of the server's own names (prevents DNS rebinding).
* Origin check: unsafe methods are accepted from the server's own page and from programs only.
  Browsers state the origin in ``Sec-Fetch-Site`` and ``Origin``, which pages cannot forge.
* Authentication: where other machines can reach the server, programs send the token as
  ``Authorization: Bearer``; browsers enter it once in a form and get a strict, HTTP-only cookie
  with a value derived from it.
* Content-Security-Policy without ``unsafe-inline``: only the server's own scripts run.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import socket
from urllib.parse import urlsplit

from flask import Flask, Request, Response, g, request
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
"""For the pages. ``blob:`` is a query image that has not been uploaded yet."""

FILE_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""For the user's files: nothing in them may run, whatever their content."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

OPEN_ENDPOINTS = {"pages.sign_in", "pages.sign_in_form", "pages.static_file", "api.healthz"}
"""Endpoints that need no token: the sign-in form, its style sheet, and the health check."""

SHARED_BLUEPRINT = "knn_service"
"""The blueprint that pages of ``ServerConfig.origins`` may use."""

OTHER_SITE = "pages of other sites may not use this server"

_SAFE = {"GET", "HEAD", "OPTIONS"}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(?::\d{1,5})?")


class Misdirected(HTTPException):
    """The ``Host`` header is not a name of this server."""

    code = 421
    description = "this host name is not accepted; add it with `sightline serve --host-name`"


def protect(app: Flask, config: ServerConfig) -> None:
    """Adds the checks and the response headers to every request of ``app``."""
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
            # DNS rebinding needs a name; a loopback server is reached by loopback addresses only.
            return address.is_loopback or not local
        return host in names

    @app.before_request
    def check() -> None:
        # Browsers always send Host; HTTP/1.0 programs may omit it.
        if not known_host(request.headers.get("Host", "localhost")):
            raise Misdirected
        if not _is_shared(request, config):
            _check_origin(request)
        g.signed_in = config.token is not None and _is_authenticated(request, config.token)
        if config.token is not None and not g.signed_in and request.endpoint not in OPEN_ENDPOINTS:
            raise Unauthorized("this server requires its token")

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Cache-Control", "private, no-cache")
        if _is_shared(request, config):
            response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            response.headers.add("Vary", "Origin")
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = 'Bearer realm="sightline"'
        return response


def sees_paths() -> bool:
    """Whether the client may see absolute paths: clients with the token and local clients. A
    request that a local proxy forwards, which its headers show, is not local."""
    if g.get("signed_in", False):
        return True
    forwarded = any(
        name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
    )
    return not forwarded and is_loopback(request.remote_addr or "")


def cookie_value(token: str) -> str:
    """The value of the sign-in cookie, derived from ``token``."""
    return hmac.new(token.encode(), b"sightline browser cookie", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    """Whether ``given`` equals the token; compared in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())


def set_cookie(response: Response, token: str) -> None:
    """Signs a browser in for ``COOKIE_DAYS``."""
    response.set_cookie(
        COOKIE,
        cookie_value(token),
        max_age=COOKIE_DAYS * 86_400,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
    )


def _is_authenticated(request: Request, token: str) -> bool:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and is_token(given.strip(), token):
        return True
    if kind.lower() == "basic" and is_token(_password(given), token):
        return True
    return is_token(request.cookies.get(COOKIE, ""), cookie_value(token))


def _password(credentials: str) -> str:
    """The password of basic authentication, for programs that take a URL
    (``http://any:TOKEN@host/``) but no header. Browsers are never prompted for it."""
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]


def _is_shared(request: Request, config: ServerConfig) -> bool:
    """Whether this is a clip-retrieval request from a page of an allowed origin."""
    return request.blueprint == SHARED_BLUEPRINT and request.headers.get("Origin") in config.origins


def _check_origin(request: Request) -> None:
    """Raises ``Forbidden`` for a request from another site's page."""
    site = request.headers.get("Sec-Fetch-Site")
    if request.method in _SAFE:
        # Other sites may link to this server but not embed or fetch from it.
        navigates = request.headers.get("Sec-Fetch-Mode") == "navigate"
        if site in ("cross-site", "same-site") and not navigates:
            raise Forbidden(OTHER_SITE)
        return
    if site is not None:
        if site not in ("same-origin", "none"):
            raise Forbidden(OTHER_SITE)
        return
    origin = request.headers.get("Origin")
    if origin is None or (origin == "null" and request.endpoint == "pages.sign_in"):
        # Not a browser; or the sign-in form: `no-referrer` hides its origin, and it has the token.
        return
    try:
        parts = urlsplit(origin)
    except ValueError as error:
        raise Forbidden(OTHER_SITE) from error
    if (parts.scheme, parts.netloc.lower()) != (request.scheme, request.host.lower()):
        raise Forbidden(OTHER_SITE)
