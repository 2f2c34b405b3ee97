"""Image files: thumbnails, originals and previews, by image id only."""

from __future__ import annotations

import io
import re
from hashlib import blake2b
from pathlib import PurePosixPath

from flask import Blueprint, Response, request, send_file
from PIL import Image
from werkzeug.exceptions import RequestedRangeNotSatisfiable

from sightline.indexer.errors import NotFoundError, PhotoError
from sightline.indexer.types import ImageRecord
from sightline.server.search.originals import Original, open_original, original
from sightline.server.web.app_state import engine, state
from sightline.server.web.parameters import Choice, Number, Operation, Text, operation, values
from sightline.server.web.placeholder import placeholder
from sightline.server.web.public import find, public_reason
from sightline.server.web.security import FILE_POLICY

images = Blueprint("pictures", __name__)

BROWSER_FORMATS = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "avif": "image/avif",
}
"""Formats that browsers render; other formats are served as a preview."""

OTHER_FORMATS = {"tiff": "image/tiff", "heif": "image/heif"}

PREVIEW_SIZE = 2048
"""Default preview size: pixels of the longer side."""

IMMUTABLE = "private, max-age=31536000, immutable"
"""For URLs that contain a hash of the content."""

FIVE_MINUTES = "private, max-age=300"

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
"""Characters that a header cannot hold; ``send_file`` quotes or encodes all others (RFC 6266)."""

WIDTHS = ("128", "256", "512")


@images.get("/thumbnails/<int:id>")
@operation(
    Operation(
        "The thumbnail of an image, WebP",
        (
            Choice("w", "Pixels of the longer side, at most.", "512", WIDTHS),
            Text("v", "The image's `v`: the response is then cached indefinitely.", longest=64),
        ),
        answer="image/webp",
        missing=True,
    )
)
def thumbnail(id: int) -> Response:
    """The stored thumbnail, resized on request; an SVG placeholder for an image that was imported
    without its file."""
    given = values()
    stored: bytes | None = engine().library.thumbnail(id) if 0 < id < 2**63 else None
    if stored is None:
        record = engine().library.image(id) if 0 < id < 2**63 else None
        if record is None or record.mtime_ns is not None:
            raise NotFoundError(f"there is no thumbnail of image {str(id)[:30]}")
        svg = placeholder(record).encode()
        tag = blake2b(svg, digest_size=12).hexdigest()
        return _response(svg, "image/svg+xml", tag, FIVE_MINUTES)
    data: bytes = stored
    tag = blake2b(data, digest_size=12).hexdigest()
    if given["w"] != "512":
        size = int(given["w"])
        data = state().thumbnails.get_or_create((tag, size), lambda: _resized(stored, size))
        tag = f"{tag}-{size}"
    return _response(data, "image/webp", tag, IMMUTABLE if given["v"] else FIVE_MINUTES)


def _resized(data: bytes, size: int) -> bytes:
    """A stored thumbnail, scaled down to ``size`` pixels on the longer side."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
        small = image.convert("RGB")
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        # method=1: a third of the default's time, 6% more bytes.
        small.save(out, "WEBP", quality=80, method=1)
    return out.getvalue()


@images.get("/images/<int:id>")
@operation(
    Operation(
        "An image: the original file, or a preview that browsers can show",
        (
            Number("size", "A preview of at most N pixels on its longer side.", None, 64, 4096),
            Choice("download", "1: the original file, as a download.", "0", ("0", "1")),
        ),
        answer="image/*",
        missing=True,
    )
)
def image(id: int) -> Response:
    """The original, if browsers render its format, it is no larger than ``size``, or with
    ``download``; otherwise a preview (HEIC, TIFF, RAW)."""
    given = values()
    record = find(id)
    opened = open_original(record, engine().query_encoder.decoder, limit=state().decodes)
    size = given["size"]
    shown = record.info.format in BROWSER_FORMATS and (
        size is None or size >= max(record.info.width, record.info.height)
    )
    if shown or given["download"] == "1":
        return _file(record, opened, attachment=given["download"] == "1")
    opened.file.close()
    return _preview(record, opened, size or PREVIEW_SIZE)


def _file(record: ImageRecord, opened: Original, *, attachment: bool) -> Response:
    """The file itself, with support for ranges and conditional requests."""
    kind = (BROWSER_FORMATS | OTHER_FORMATS).get(record.info.format, "application/octet-stream")
    response = send_file(
        opened.file,
        etag=f"{opened.mtime_ns:x}-{opened.size:x}",
        last_modified=opened.mtime_ns / 1e9,
        mimetype=kind,
        as_attachment=attachment,
        download_name=_CONTROL.sub("_", PurePosixPath(record.path).name),
        conditional=False,
    )
    response.content_length = opened.size
    try:
        response.make_conditional(request, accept_ranges=True, complete_length=opened.size)
    except RequestedRangeNotSatisfiable:
        opened.file.close()
        raise
    if response.status_code == 304 or request.method == "HEAD":
        opened.file.close()
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = FILE_POLICY
    return response


def _preview(record: ImageRecord, opened: Original, size: int) -> Response:
    """A copy of at most ``size`` pixels on the longer side, in a format that browsers render."""
    key = (record.id, opened.size, opened.mtime_ns, size)
    tag = blake2b(repr(key).encode(), digest_size=12).hexdigest()
    if tag in request.if_none_match:
        return _response(b"", "image/webp", tag, "private, no-cache")

    def make() -> bytes:
        with state().decodes:
            try:
                return engine().query_encoder.decoder.preview(original(record), size)
            except PhotoError as error:
                reason = public_reason(str(error), record.root)
                raise NotFoundError(f"image {record.id} cannot be shown: {reason}") from error

    data = state().previews.get_or_create(key, make)
    kind = "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
    return _response(data, kind, tag, "private, no-cache")


def _response(data: bytes, kind: str, tag: str, caching: str) -> Response:
    response = Response(data, mimetype=kind)
    response.set_etag(tag)
    response.headers["Cache-Control"] = caching
    response.headers["Content-Security-Policy"] = FILE_POLICY
    response.make_conditional(request)
    return response
