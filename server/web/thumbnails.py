"""Picture files: thumbnails, originals, previews. By id only, and only what the catalog holds."""

from __future__ import annotations

import io
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from flask import Blueprint, Response, request, send_file
from PIL import Image

from sightline.indexer.errors import NotFoundError, PhotoError
from sightline.indexer.files import archives
from sightline.indexer.types import ImageRecord
from sightline.server.search.originals import original
from sightline.server.web.api import find
from sightline.server.web.app_state import engine, state
from sightline.server.web.errors import without_places
from sightline.server.web.parameters import Choice, Number, Operation, Text, operation, values
from sightline.server.web.placeholder import card
from sightline.server.web.security import PICTURE_POLICY
from sightline.server.web.turns import aside

pictures = Blueprint("pictures", __name__)

BROWSER = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "avif": "image/avif",
}
"""Formats that browsers show themselves; of the others they get a preview."""

OTHERS = {"tiff": "image/tiff", "heif": "image/heif"}

PREVIEW = 2048
"""Pixels of the longer side of a preview when nobody says otherwise."""

FOR_EVER = "private, max-age=31536000, immutable"
"""The address carries the file's hash: another picture has another address."""

A_WHILE = "private, max-age=300"

WIDTHS = ("128", "256", "512")


@pictures.get("/thumbnails/<int:id>")
@operation(
    Operation(
        "The thumbnail of a picture, WebP",
        (
            Choice("w", "Pixels of the longer side, at most.", "512", WIDTHS),
            Text("v", "The picture's `v`: the answer may then be kept for ever.", longest=64),
        ),
        answer="image/webp",
        missing=True,
    )
)
def thumbnail(id: int) -> Response:
    """As it lies in ``thumbnails.db``, or smaller; a card for what was imported without a file."""
    given = values()
    stored: bytes | None = engine().library.thumbnail(id) if 0 < id < 2**63 else None
    if stored is None:
        record = engine().library.image(id) if 0 < id < 2**63 else None
        if record is None or record.mtime_ns:
            raise NotFoundError(f"there is no thumbnail of picture {str(id)[:30]}")
        shown = card(record).encode()
        tag = blake2b(shown, digest_size=12).hexdigest()
        return _answer(shown, "image/svg+xml", tag, A_WHILE)
    data: bytes = stored
    tag = blake2b(data, digest_size=12).hexdigest()
    if given["w"] != "512":
        size = int(given["w"])
        data = state().resized.get_or_create((tag, size), lambda: _smaller(stored, size))
        tag = f"{tag}-{size}"
    return _answer(data, "image/webp", tag, FOR_EVER if given["v"] else A_WHILE)


def _smaller(data: bytes, size: int) -> bytes:
    """A WebP of the program's own, scaled down to ``size`` pixels on the longer side."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=["WEBP"]) as picture:
        small = picture.convert("RGB")
        small.thumbnail((size, size), Image.Resampling.LANCZOS)
        # The fastest method: it costs a third of the default one's time and 6% more bytes.
        small.save(out, "WEBP", quality=80, method=1)
    return out.getvalue()


@pictures.get("/images/<int:id>")
@operation(
    Operation(
        "A picture: the original file, or a preview that browsers can show",
        (
            Number("size", "A preview, at most so many pixels on its longer side.", None, 64, 4096),
            Choice("download", "1: the original file, to be saved.", "0", ("0", "1")),
        ),
        answer="image/*",
        missing=True,
    )
)
def image(id: int) -> Response:
    """The original of what browsers show themselves; a preview of HEIC, TIFF and RAW, or where
    ``size`` asks for one; the original of anything with ``download``."""
    given = values()
    record = find(id)
    path = original(record)
    size = given["size"]
    shown = record.info.format in BROWSER
    if given["download"] == "1":
        return _file(record, path, attachment=True)
    if shown and (size is None or size >= max(record.info.width, record.info.height)):
        return _file(record, path, attachment=False)
    return _preview(record, path, size or PREVIEW)


def _file(record: ImageRecord, path: Path, *, attachment: bool) -> Response:
    """The file itself, with ranges and conditions."""
    kind = (BROWSER | OTHERS).get(record.info.format, "application/octet-stream")
    packed = archives.inside(path)
    try:
        response = send_file(
            io.BytesIO(archives.read(*packed)) if packed else path,
            etag=record.content_hash if packed else True,
            mimetype=kind,
            as_attachment=attachment,
            download_name=PurePosixPath(record.path).name,
            conditional=True,
        )
    except OSError as error:
        raise NotFoundError(f"the file of image {record.id} is missing") from error
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers["Content-Security-Policy"] = PICTURE_POLICY
    return response


def _preview(record: ImageRecord, path: Path, size: int) -> Response:
    """A smaller copy that every browser shows."""
    key = (record.id, *archives.status(path), size)
    tag = blake2b(repr(key).encode(), digest_size=12).hexdigest()
    if tag in request.if_none_match:
        return _answer(b"", "image/webp", tag, "private, no-cache")

    def make() -> bytes:
        # Large pictures are decoded two at a time: memory is bounded, the rest wait their turn.
        with aside(), state().previewing.held():
            try:
                return engine().query_encoder.decoder.preview(path, size)
            except PhotoError as error:
                reason = without_places(str(error), record.root)
                raise NotFoundError(f"picture {record.id} cannot be shown now: {reason}") from error

    data = state().previews.get_or_create(key, make)
    kind = "image/webp" if data[8:12] == b"WEBP" else "image/jpeg"
    return _answer(data, kind, tag, "private, no-cache")


def _answer(data: bytes, kind: str, tag: str, caching: str) -> Response:
    response = Response(data, mimetype=kind)
    response.set_etag(tag)
    response.headers["Cache-Control"] = caching
    response.headers["Content-Security-Policy"] = PICTURE_POLICY
    response.make_conditional(request)
    return response
