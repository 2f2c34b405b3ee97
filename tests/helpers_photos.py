"""Builders of image files: valid in every format, unusual, invalid and corrupt."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageDraw

SIZE = (160, 120)
"""Default size of ``scene``."""


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A smooth image with a dark house left of the middle, so that every rotation and mirroring of
    it differs. Deterministic by ``seed``."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 230, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
    width, height = size
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 8, height // 2, width // 2, height * 7 // 8), fill=(40, 30, 90))
    draw.polygon(
        [(width // 8, height // 2), (width // 3, height // 8), (width // 2, height // 2)],
        fill=(150, 20, 20),
    )
    return image


def saved(image: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    """``image`` as the bytes of a file."""
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def with_alpha(image: Image.Image) -> Image.Image:
    """``image`` with its right half transparent black."""
    clear = image.convert("RGBA")
    width, height = image.size
    clear.paste((0, 0, 0, 0), (width // 2, 0, width, height))
    return clear


def over_white(image: Image.Image) -> Image.Image:
    """``with_alpha(image)`` over a white background."""
    width, height = image.size
    result = image.copy()
    result.paste((255, 255, 255), (width // 2, 0, width, height))
    return result


def grey_in_mode(image: Image.Image, mode: str) -> Image.Image:
    """``image`` in grey in the mode ``I;16`` (16-bit), ``I`` (32-bit) or ``F`` (float)."""
    grey = np.asarray(image.convert("L"))
    if mode == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    values = grey.astype(np.uint32) * 257
    return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))


def _big_endian(image: Image.Image) -> Image.Image:
    """16-bit values in big-endian order."""
    return Image.frombytes("I;16B", image.size, np.asarray(image).astype(">u2").tobytes())


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A grey PNG whose header has this size, whatever ``data`` holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def large_png(megapixels: int) -> bytes:
    """A grey PNG of that many megapixels in some hundred kilobytes."""
    side = 10_000
    rows = megapixels * 100
    packer = zlib.compressobj(1)
    line = b"\0" + bytes(side)
    data = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()
    return png(side, rows, data)


@cache
def grey_files() -> dict[str, bytes]:
    """``scene()`` in grey, in many formats and bit depths."""
    image = scene()
    return {
        "grey.jpg": saved(image.convert("L"), quality=95),
        "grey.png": saved(image.convert("L"), "PNG"),
        "sixteen.png": saved(grey_in_mode(image, "I;16"), "PNG"),
        "sixteen.tif": saved(grey_in_mode(image, "I;16"), "TIFF"),
        "sixteen big-endian.tif": saved(_big_endian(grey_in_mode(image, "I;16")), "TIFF"),
        "thirty-two.tif": saved(grey_in_mode(image, "I"), "TIFF"),
        "floating.tif": saved(grey_in_mode(image, "F"), "TIFF"),
    }


@cache
def colour_files() -> dict[str, bytes]:
    """``scene()`` in colour, in many formats."""
    image = scene()
    frames = {"save_all": True, "append_images": [scene(1), scene(2)], "duration": 100}
    lab = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    return {
        "plain.jpg": saved(image, quality=95),
        "progressive.jpeg": saved(image, quality=95, progressive=True),
        "upper.JPG": saved(image, quality=95, subsampling=0),
        "print.jpg": saved(image.convert("CMYK"), quality=95),
        "two in one.jpg": saved(image, "MPO", save_all=True, append_images=[scene(1)], quality=95),
        "plain.png": saved(image, "PNG"),
        "palette.png": saved(image.quantize(256), "PNG"),
        "interlaced.png": saved(image, "PNG", interlace=1),
        "plain.webp": saved(image, "WEBP", quality=95),
        "lossless.webp": saved(image, "WEBP", lossless=True),
        "plain.gif": saved(image, "GIF"),
        "plain.bmp": saved(image, "BMP"),
        "plain.tif": saved(image, "TIFF"),
        "packed.tiff": saved(image, "TIFF", compression="tiff_lzw"),
        "jpeg inside.tiff": saved(image, "TIFF", compression="jpeg", quality=95),
        "print.tiff": saved(image.convert("CMYK"), "TIFF"),
        "lab.tiff": saved(lab, "TIFF"),
        "pages.tiff": saved(image, "TIFF", save_all=True, append_images=[scene(1)]),
        "plain.avif": saved(image, "AVIF", quality=90),
        "plain.heic": saved(image, "HEIF", quality=95),
        "moving.gif": saved(image, "GIF", **frames),
        "moving.png": saved(image, "PNG", **frames),
        "moving.webp": saved(image, "WEBP", quality=95, **frames),
        "moving.avif": saved(image, "AVIF", quality=90, **frames),
    }


@cache
def transparent_files() -> dict[str, bytes]:
    """``scene()`` with its right half transparent, in every format that has transparency."""
    image = with_alpha(scene())
    return {
        "clear.png": saved(image, "PNG"),
        "clear palette.png": saved(image.quantize(255, method=Image.Quantize.FASTOCTREE), "PNG"),
        "clear.webp": saved(image, "WEBP", lossless=True),
        "clear.gif": saved(image, "GIF"),
        "clear.tiff": saved(image, "TIFF"),
        "clear.avif": saved(image, "AVIF", quality=90),
        "clear.heic": saved(image, "HEIF", quality=95),
    }


@cache
def named_files() -> dict[str, bytes]:
    """Images with unusual file names."""
    names = (
        "it's.jpg",
        'say "cheese".jpg',
        "50% off #1?.jpg",
        "a&b=c;d.jpg",
        "Überläufer 写真 🌄.jpg",
        "two\nlines.jpg",
        "-rf.jpg",
        " spaces at both ends .jpg",
        "back\\slash.jpg",
        "$HOME `id`.jpg",
    )
    return {name: saved(scene(10 + number)) for number, name in enumerate(names)}


@cache
def small_files() -> dict[str, bytes]:
    """Images of extreme sizes and aspect ratios."""
    return {
        "one.png": saved(Image.new("RGB", (1, 1), (200, 100, 50)), "PNG"),
        "one.jpg": saved(Image.new("RGB", (1, 1), (200, 100, 50))),
        "wide.png": saved(scene(3, (3000, 2)), "PNG"),
        "tall.png": saved(scene(3, (2, 3000)), "PNG"),
        "bits.tiff": saved(scene().convert("1"), "TIFF"),
    }


@cache
def good_files() -> dict[str, bytes]:
    """Name -> bytes of all files that can be read."""
    return {
        **colour_files(),
        **grey_files(),
        **transparent_files(),
        **named_files(),
        **small_files(),
    }


@cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    """Name -> bytes of files that cannot be read, and a part of the reason."""
    jpeg, heic = saved(scene()), saved(scene(), "HEIF")
    return {
        "nothing.jpg": (b"", "is empty"),
        "text.jpg": (b"Dear diary,\nno image today.\n", "not an image but text"),
        "page.jpg": (b"<!DOCTYPE html><title>404</title>", "a web page"),
        "paper.png": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF document"),
        "film.heic": (struct.pack(">I", 20) + b"ftypqt  " + bytes(40), "a video"),
        "zeros.jpg": (bytes(5000), "zeros only"),
        "noise.jpg": (np.random.default_rng(0).bytes(5000), "not an image"),
        "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        "bomb.png": (png(60_000, 60_000), "too large: 3,600,000,000 pixels"),
        "large.png": (png(20_000, 20_000), "too large: 20,000 x 20,000 pixels"),
        "no data.png": (png(100, 100), "truncated"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "head.jpg": (jpeg[:100], "truncated"),
        "half.heic": (heic[: len(heic) // 2], "corrupt"),
        "half.png": (saved(scene(), "PNG")[:2000], "truncated"),
    }


@cache
def raw_files() -> dict[str, bytes]:
    """``scene()`` as camera RAW, without and with a preview."""
    image = scene()
    return {"raw.dng": dng(image), "preview.dng": dng(image, preview=saved(image))}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes ``files`` into ``folder`` and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def mutated(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` corrupt files (name, bytes) in every format: bits flipped, bytes set, pieces
    removed, doubled or taken from another file, truncations, and lengths changed."""
    rng = np.random.default_rng(seed)
    kinds = {**colour_files(), **grey_files(), **transparent_files(), **raw_files()}
    originals = list(kinds.items())
    for number in range(count):
        name, data = originals[number % len(originals)]
        broken = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            _corrupt(broken, rng, originals[int(rng.integers(len(originals)))][1])
        yield f"{number:05}-{name}", bytes(broken)


def _corrupt(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    """One random corruption, half of the time in the first 600 bytes."""
    length = len(data)
    if length < 16:
        return
    extent = min(length, 600) if rng.random() < 0.5 else length
    at = int(rng.integers(0, extent - 8))
    span = int(rng.integers(1, max(2, length // 8)))
    match int(rng.integers(8)):
        case 0:
            for place in rng.integers(0, extent, int(rng.integers(1, 32))):
                data[place] ^= 1 << int(rng.integers(8))
        case 1:
            data[at] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
        case 2:
            del data[at:]
        case 3:
            del data[at : at + span]
        case 4:
            data[at:at] = data[at : at + span]
        case 5:
            data[at : at + span] = other[at : at + span]
        case 6:
            data[:at] = other[:at]
        case 7:
            number = rng.choice([0, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 100_000])
            data[at : at + 4] = struct.pack(rng.choice([">I", "<I"]), int(number))


def dng(image: Image.Image, *, orientation: int = 1, preview: bytes | None = None) -> bytes:
    """Camera RAW: ``image`` as Bayer sensor data in a DNG file, with an embedded ``preview``
    (a JPEG of its size) if one is given."""
    width, height = image.size
    linear = (np.asarray(image, np.float32) / 255) ** 2.2 * 65535
    sensor = np.empty((height, width), np.uint16)
    for y, x, colour in ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 2)):
        sensor[y::2, x::2] = linear[y::2, x::2, colour]
    camera = [
        (271, 2, b"Sightline\0"),
        (272, 2, b"Sightline Nine\0"),
        (274, 3, [orientation]),
        (306, 2, b"2022:05:06 07:08:09\0"),
        (50706, 1, bytes([1, 4, 0, 0])),
        (50708, 2, b"Sightline Nine\0"),
        # sRGB's primaries, so that the colours are reproduced.
        (
            50721,
            10,
            [(round(n * 10_000), 10_000) for n in (3.2406, -1.5372, -0.4986)]
            + [(round(n * 10_000), 10_000) for n in (-0.9689, 1.8758, 0.0415)]
            + [(round(n * 10_000), 10_000) for n in (0.0557, -0.2040, 1.0570)],
        ),
        (50728, 5, [(1, 1)] * 3),
        (50778, 3, [21]),
    ]
    raw = [
        (254, 4, [0]),
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [16]),
        (259, 3, [1]),
        (262, 3, [32803]),
        (273, 4, sensor.tobytes()),
        (277, 3, [1]),
        (278, 4, [height]),
        (33421, 3, [2, 2]),
        (33422, 1, bytes([0, 1, 1, 2])),
        (50717, 4, [65535]),
    ]
    if preview is None:
        return _tiff([*raw, *camera])
    shown = [
        (254, 4, [1]),
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, [8, 8, 8]),
        (259, 3, [7]),
        (262, 3, [6]),
        (273, 4, preview),
        (277, 3, [3]),
        (278, 4, [height]),
    ]
    return _tiff([*shown, *camera], below=raw)


Tags = list[tuple[int, int, object]]
"""(tag, type, value): bytes for types 1 and 2, integers for 3 and 4, fractions for 5 and 10; for
tag 273 the bytes of the strip."""


def _tiff(tags: Tags, *, below: Tags | None = None) -> bytes:
    """A TIFF file of one directory, and a sub-directory ``below`` it."""
    out = bytearray(b"II*\0\0\0\0\0")

    def put(data: bytes) -> int:
        out.extend(bytes(-len(out) % 4))
        out.extend(data)
        return len(out) - len(data)

    def directory(tags: Tags) -> int:
        entries = []
        for tag, kind, value in tags:
            if tag == 273:
                assert isinstance(value, bytes)
                entries.append((279, 4, 1, struct.pack("<I", len(value))))
                entries.append((273, 4, 1, struct.pack("<I", put(value))))
                continue
            if isinstance(value, bytes):
                packed, count = value, len(value)
            else:
                assert isinstance(value, list)
                count = len(value)
                flat = [n for pair in value for n in pair] if kind in (5, 10) else value
                packed = struct.pack(
                    f"<{len(flat)}{ {3: 'H', 4: 'I', 5: 'I', 10: 'i'}[kind] }", *flat
                )
            if len(packed) > 4:
                packed = struct.pack("<I", put(packed))
            entries.append((tag, kind, count, packed.ljust(4, b"\0")))
        entries.sort()
        body = b"".join(struct.pack("<HHI", t, k, n) + value for t, k, n, value in entries)
        return put(struct.pack("<H", len(entries)) + body + bytes(4))

    if below is not None:
        tags = [*tags, (330, 4, [directory(below)])]
    start = directory(tags)
    out[4:8] = struct.pack("<I", start)
    return bytes(out)
