"""Text in image files whose encoding or purpose has to be recognised: IPTC, comments, prompts."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

ENCODINGS = {
    b"\x1b%G": "utf-8", b"\x1b%/I": "utf-8", b"\x1b.A": "iso8859-1", b"\x1b-A": "iso8859-1",
    b"\x1b.B": "iso8859-2", b"\x1b-B": "iso8859-2", b"\x1b-L": "iso8859-5", b"\x1b.L": "iso8859-5",
    b"\x1b-F": "iso8859-7", b"\x1b.F": "iso8859-7", b"\x1b-M": "iso8859-9", b"\x1b.M": "iso8859-9",
}  # fmt: skip
"""The encoding that the escape sequence in IPTC's CodedCharacterSet (1:90) declares."""

_SOFTWARE = re.compile(
    r"^(creator: gd-jpeg|lead technologies|applemark|intel\(r\)|lavc|file written by|"
    r"processed by|(optimi[sz]ed|created|edited|made|compressed|resized|generated|converted|"
    r"produced|saved|gif \w+)\b.{0,40}\b(by|with|using|on)\b)",
    re.IGNORECASE,
)
"""Comments that programs leave behind."""

_SETTINGS = re.compile(r"\s*\b(?:Negative prompt:|Steps: \d)")
"""What follows the prompt in the parameters of an image generator."""


def decode_iptc(value: bytes, declared: Any) -> str:
    """An IPTC value in the encoding that is ``declared``; else, or if it is not valid in that, in
    UTF-8, Mac Roman or Windows-1252, whichever the bytes look like."""
    encoding = ENCODINGS.get(declared) if isinstance(declared, bytes) else None
    for name in (encoding, "utf-8"):
        if name is not None:
            with suppress(UnicodeDecodeError):
                return value.decode(name)
    # Mac Roman has accented letters where Windows-1252 has few letters, rare ones.
    high = [byte for byte in value if byte >= 0x80]
    is_mac = any(byte < 0xA0 for byte in high) and all(
        0x80 <= byte <= 0x9F or byte in b"\xa7\xd2\xd3\xd4\xd5" for byte in high
    )
    quotes = all(0x91 <= byte <= 0x97 or byte in b"\x82\x84\x85\x8b\x9b" for byte in high)
    return value.decode("mac_roman" if is_mac and not quotes else "cp1252", "replace")


def decode_user_comment(value: Any) -> str | None:
    """The text of EXIF's UserComment, whose first eight bytes name its encoding."""
    if isinstance(value, str):
        value = value.encode("latin-1", "ignore")
    if not isinstance(value, bytes) or len(value) <= 8:
        return None
    code, body = value[:8].rstrip(b"\0 "), value[8:]
    if code == b"UNICODE":
        if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return body.decode("utf-16", "replace")
        # The byte order is that of the EXIF, which Pillow does not tell: that with more letters of
        # one block, whose high bytes repeat.
        big = len(set(body[::2])) < len(set(body[1::2]))
        return body.decode("utf-16-be" if big else "utf-16-le", "replace")
    if code == b"JIS":
        return body.decode("iso2022_jp", "replace")
    if code not in (b"ASCII", b""):
        return None
    try:
        return body.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("cp1252", "replace") if code else None


def comment(text: str | None) -> str | None:
    """What a person wrote in a comment: not a program's name, not JSON, and of an image
    generator's parameters the prompt only."""
    if not text or text.startswith(("{", "[", "<")) or _SOFTWARE.match(text):
        return None
    return _SETTINGS.split(text, maxsplit=1)[0].strip() or None


def workflow_prompt(value: Any) -> str | None:
    """The positive prompt in a ComfyUI workflow: JSON of nodes that refer to each other. Raises
    ``ValueError`` for what is not JSON."""
    if not isinstance(value, str):
        return None
    nodes = json.loads(value)
    if not isinstance(nodes, dict):
        return None
    inputs = {
        name: node["inputs"]
        for name, node in nodes.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    found = []
    for one in inputs.values():
        link = one.get("positive")
        if isinstance(link, list) and link and isinstance(link[0], str):
            text = inputs.get(link[0], {}).get("text")
            if isinstance(text, str):
                found.append(text)
    return ", ".join(dict.fromkeys(found)) or None
