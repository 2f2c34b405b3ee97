"""XMP: the RDF packet in which programs store titles, captions, keywords, ratings and people.

A packet with a document type, and so with entities or external references, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_PACKET_BYTES = 4 * 2**20
"""Larger packets are ignored. Most have a few thousand bytes; some editors store their history."""

NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "exifEX": "http://cipa.jp/exif/1.0/",
    "aux": "http://ns.adobe.com/exif/1.0/aux/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "MP": "http://ns.microsoft.com/photo/1.2/",
    "MPReg": "http://ns.microsoft.com/photo/1.2/t/Region#",
    "MicrosoftPhoto": "http://ns.microsoft.com/photo/1.0/",
}
"""Of the properties that ``metadata`` reads."""

REGIONS = {
    "mwg-rs:Regions": ("mwg-rs:Name", "mwg-rs:Type", ("", "Face", "Pet")),
    "MP:RegionInfo": ("MPReg:PersonDisplayName", "", ("",)),
}
"""Lists of regions -> the fields for the name and the type of one, and the types that are read."""

_PREFIX = {uri: prefix for prefix, uri in NAMESPACES.items()}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"


@dataclass(frozen=True)
class Xmp:
    """Values of properties by prefixed name (``dc:title``), in the order of the packet.

    Of a text in several languages only the default is kept.
    """

    properties: dict[str, list[str]] = field(default_factory=dict)

    def one(self, name: str) -> str | None:
        """The first value of a property, or None."""
        values = self.properties.get(name)
        return values[0] if values else None

    def over(self, other: Xmp) -> Xmp:
        """The properties of both; of one that both have, this one's values."""
        return Xmp({**other.properties, **self.properties})

    def all(self, name: str) -> list[str]:
        """All values of a property."""
        return self.properties.get(name, [])


def parse(packet: bytes) -> Xmp:
    """Parses a packet. Raises ``ExpatError`` for malformed XML, ``ValueError`` for a document
    type."""
    packet = packet.strip(b"\0 \t\r\n")
    if not packet or len(packet) > MAX_PACKET_BYTES:
        return Xmp()
    found: dict[str, list[str]] = {}
    for name, value in _properties(_tree(packet)):
        if value.strip():
            found.setdefault(name, []).append(value.strip())
    return Xmp(found)


def _tree(packet: bytes) -> Element:
    """The root element, with names as ElementTree writes them: ``{uri}name``."""
    builder = TreeBuilder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True

    def full(name: str) -> str:
        return "{" + name if "}" in name else name

    def start(name: str, attributes: dict[str, str]) -> None:
        builder.start(full(name), {full(key): value for key, value in attributes.items()})

    def refuse(*_: object) -> None:
        raise ValueError("an XMP packet has no document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: builder.end(full(name))
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(packet, True)
    return builder.close()


def _properties(root: Element) -> Iterator[tuple[str, str]]:
    # Only the outermost: a packet may nest descriptions 60,000 deep, and each would be searched.
    for description in next(root.iter(f"{_RDF}RDF"), root).findall(f"{_RDF}Description"):
        for key, value in description.attrib.items():
            name = _name(key)
            if name:
                yield name, value
        for child in description:
            name = _name(child.tag)
            if not name:
                continue
            if name in REGIONS:
                yield from _region_names(child, *REGIONS[name])
                continue
            items = list(child.iter(f"{_RDF}li"))
            items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
            if child.find(f"{_RDF}Alt") is not None:
                items = items[:1]  # the others are translations
            for item in items:
                yield name, item.text or ""
            if not items:
                yield name, child.text or ""


def _region_names(
    regions: Element, field: str, kind: str, kinds: tuple[str, ...]
) -> Iterator[tuple[str, str]]:
    """The names of the regions below an element, as values of ``field``. Each element is visited
    once, however deep it is nested."""
    for element in regions.iter():
        fields = {_name(key): value for key, value in element.attrib.items()}
        fields |= {name: one.text or "" for one in element if (name := _name(one.tag))}
        if field in fields and fields.get(kind, "").strip() in kinds:
            yield field, fields[field]


def _name(key: str) -> str | None:
    """``{uri}title`` as ``dc:title``; None for a namespace that is not read."""
    uri, brace, local = key[1:].partition("}")
    prefix = _PREFIX.get(uri) if brace else None
    return f"{prefix}:{local}" if prefix else None
