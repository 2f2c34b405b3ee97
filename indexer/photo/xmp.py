"""XMP: the RDF packet in which programs keep what people wrote about a picture.

defusedxml parses it, so that a packet with entities or references to the outside is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

LARGEST = 4 * 2**20
"""Bytes of a packet that is read. Those of programs have a few thousand; some editors keep their
whole history in them."""

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
}
"""Those of the properties that are asked for."""

_PREFIX = {uri: prefix for prefix, uri in NAMESPACES.items()}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True)
class Xmp:
    """Properties by prefixed name (``dc:title``), each with its values in the order of the packet;
    of a text in several languages the default one comes first."""

    properties: dict[str, list[str]] = field(default_factory=dict)

    def one(self, name: str) -> str | None:
        """The first value of a property."""
        values = self.properties.get(name)
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """All its values."""
        return self.properties.get(name, [])


def parse(packet: bytes) -> Xmp:
    """Reads a packet. Raises what defusedxml raises when it is not well-formed or not harmless."""
    packet = packet.strip(b"\0 \t\r\n")
    if not packet or len(packet) > LARGEST:
        return Xmp()
    from defusedxml.ElementTree import fromstring

    found: dict[str, list[str]] = {}
    for name, value in _properties(fromstring(packet, forbid_dtd=True)):
        if value.strip():
            found.setdefault(name, []).append(value.strip())
    return Xmp(found)


def _properties(root: Element) -> Iterator[tuple[str, str]]:
    for description in root.iter(f"{_RDF}Description"):
        for key, value in description.attrib.items():
            name = _name(key)
            if name:
                yield name, value
        for child in description:
            name = _name(child.tag)
            if not name:
                continue
            items = list(child.iter(f"{_RDF}li"))
            items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
            if child.find(f"{_RDF}Alt") is not None:
                items = items[:1]  # the same in other languages
            for item in items:
                yield name, item.text or ""
            if not items:
                yield name, child.text or ""


def _name(key: str) -> str | None:
    """``{uri}title`` as ``dc:title``, for the namespaces of interest."""
    uri, brace, local = key[1:].partition("}")
    prefix = _PREFIX.get(uri) if brace else None
    return f"{prefix}:{local}" if prefix else None
