"""Picture files of every kind, good, odd and bad, made with Pillow."""

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
"""Of ``scene``, unless it is told otherwise."""


def scene(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture in soft colours with a dark house left of the middle, so that it has an upper and a
    lower, a left and a right side. The same for the same ``seed``."""
    rng = np.random.default_rng(seed)
    blots = rng.integers(60, 230, (4, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)
    width, height = size
    draw = ImageDraw.Draw(picture)
    draw.rectangle((width // 8, height // 2, width // 2, height * 7 // 8), fill=(40, 30, 90))
    draw.polygon(
        [(width // 8, height // 2), (width // 3, height // 8), (width // 2, height // 2)],
        fill=(150, 20, 20),
    )
    return picture


def saved(picture: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    """The bytes of ``picture``'s file."""
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def with_alpha(picture: Image.Image) -> Image.Image:
    """``picture``, its right half clear and black underneath."""
    clear = picture.convert("RGBA")
    width, height = picture.size
    clear.paste((0, 0, 0, 0), (width // 2, 0, width, height))
    return clear


def over_white(picture: Image.Image) -> Image.Image:
    """What ``with_alpha(picture)`` looks like."""
    width, height = picture.size
    seen = picture.copy()
    seen.paste((255, 255, 255), (width // 2, 0, width, height))
    return seen


def wide_numbers(picture: Image.Image, kind: str) -> Image.Image:
    """``picture`` in grey with 16-bit (``I;16``), 32-bit (``I``) or floating point (``F``)
    numbers."""
    grey = np.asarray(picture.convert("L"))
    if kind == "F":
        return Image.fromarray(grey.astype(np.float32) / 255)
    values = grey.astype(np.uint32) * 257
    return Image.fromarray(values.astype(np.uint16 if kind == "I;16" else np.int32))


def _swapped(picture: Image.Image) -> Image.Image:
    """16-bit numbers with the higher byte first."""
    return Image.frombytes("I;16B", picture.size, np.asarray(picture).astype(">u2").tobytes())


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG file that claims to be of this size, in grey, whatever ``data`` holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def large_png(megapixels: int) -> bytes:
    """A grey PNG of so many million pixels: a file of some hundred kilobytes."""
    side = 10_000
    rows = megapixels * 100
    packer = zlib.compressobj(1)
    line = b"\0" + bytes(side)
    data = b"".join(packer.compress(line) for _ in range(rows)) + packer.flush()
    return png(side, rows, data)


@cache
def grey_files() -> dict[str, bytes]:
    """``scene()`` in grey, as files of many kinds."""
    picture = scene()
    return {
        "grey.jpg": saved(picture.convert("L"), quality=95),
        "grey.png": saved(picture.convert("L"), "PNG"),
        "sixteen.png": saved(wide_numbers(picture, "I;16"), "PNG"),
        "sixteen.tif": saved(wide_numbers(picture, "I;16"), "TIFF"),
        "sixteen the other way.tif": saved(_swapped(wide_numbers(picture, "I;16")), "TIFF"),
        "thirty-two.tif": saved(wide_numbers(picture, "I"), "TIFF"),
        "floating.tif": saved(wide_numbers(picture, "F"), "TIFF"),
    }


@cache
def colour_files() -> dict[str, bytes]:
    """``scene()``, as files of many kinds that all look alike."""
    picture = scene()
    frames = {"save_all": True, "append_images": [scene(1), scene(2)], "duration": 100}
    lab = ImageCms.profileToProfile(
        picture, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    return {
        "plain.jpg": saved(picture, quality=95),
        "progressive.jpeg": saved(picture, quality=95, progressive=True),
        "upper.JPG": saved(picture, quality=95, subsampling=0),
        "print.jpg": saved(picture.convert("CMYK"), quality=95),
        "two in one.jpg": saved(
            picture, "MPO", save_all=True, append_images=[scene(1)], quality=95
        ),
        "plain.png": saved(picture, "PNG"),
        "palette.png": saved(picture.quantize(256), "PNG"),
        "interlaced.png": saved(picture, "PNG", interlace=1),
        "plain.webp": saved(picture, "WEBP", quality=95),
        "lossless.webp": saved(picture, "WEBP", lossless=True),
        "plain.gif": saved(picture, "GIF"),
        "plain.bmp": saved(picture, "BMP"),
        "plain.tif": saved(picture, "TIFF"),
        "packed.tiff": saved(picture, "TIFF", compression="tiff_lzw"),
        "jpeg inside.tiff": saved(picture, "TIFF", compression="jpeg", quality=95),
        "print.tiff": saved(picture.convert("CMYK"), "TIFF"),
        "lab.tiff": saved(lab, "TIFF"),
        "pages.tiff": saved(picture, "TIFF", save_all=True, append_images=[scene(1)]),
        "plain.avif": saved(picture, "AVIF", quality=90),
        "plain.heic": saved(picture, "HEIF", quality=95),
        "moving.gif": saved(picture, "GIF", **frames),
        "moving.png": saved(picture, "PNG", **frames),
        "moving.webp": saved(picture, "WEBP", quality=95, **frames),
        "moving.avif": saved(picture, "AVIF", quality=90, **frames),
    }


@cache
def clear_files() -> dict[str, bytes]:
    """``scene()`` with its right half clear, as files of the kinds that can have that."""
    picture = with_alpha(scene())
    return {
        "clear.png": saved(picture, "PNG"),
        "clear palette.png": saved(picture.quantize(255, method=Image.Quantize.FASTOCTREE), "PNG"),
        "clear.webp": saved(picture, "WEBP", lossless=True),
        "clear.gif": saved(picture, "GIF"),
        "clear.tiff": saved(picture, "TIFF"),
        "clear.avif": saved(picture, "AVIF", quality=90),
        "clear.heic": saved(picture, "HEIF", quality=95),
    }


@cache
def named_files() -> dict[str, bytes]:
    """Ordinary pictures under names that trip programs up."""
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
    """Pictures of odd shapes."""
    return {
        "one.png": saved(Image.new("RGB", (1, 1), (200, 100, 50)), "PNG"),
        "one.jpg": saved(Image.new("RGB", (1, 1), (200, 100, 50))),
        "wide.png": saved(scene(3, (3000, 2)), "PNG"),
        "tall.png": saved(scene(3, (2, 3000)), "PNG"),
        "bits.tiff": saved(scene().convert("1"), "TIFF"),
    }


@cache
def good_files() -> dict[str, bytes]:
    """Name -> bytes of everything odd that is a picture all the same."""
    return {**colour_files(), **grey_files(), **clear_files(), **named_files(), **small_files()}


@cache
def bad_files() -> dict[str, tuple[bytes, str]]:
    """Name -> bytes that are no picture, and words of the reason to be given."""
    jpeg, heic = saved(scene()), saved(scene(), "HEIF")
    return {
        "nothing.jpg": (b"", "is empty"),
        "text.jpg": (b"Dear diary,\nno picture today.\n", "not an image but text"),
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
    picture = scene()
    return {"raw.dng": dng(picture), "preview.dng": dng(picture, preview=saved(picture))}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Writes ``files`` into ``folder`` and returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def mutated(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """``count`` damaged files (name, bytes) made of good ones of every kind: bits flipped, bytes
    set, pieces cut out, doubled, swapped, or taken from another file, and lengths in headers
    raised."""
    rng = np.random.default_rng(seed)
    kinds = {**colour_files(), **grey_files(), **clear_files(), **raw_files()}
    originals = list(kinds.items())
    for number in range(count):
        name, data = originals[number % len(originals)]
        broken = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            _damage(broken, rng, originals[int(rng.integers(len(originals)))][1])
        yield f"{number:05}-{name}", bytes(broken)


def _damage(data: bytearray, rng: np.random.Generator, other: bytes) -> None:
    """One random injury; headers are hurt as often as everything else together."""
    length = len(data)
    if length < 16:
        return
    reach = min(length, 600) if rng.random() < 0.5 else length
    at = int(rng.integers(0, reach - 8))
    span = int(rng.integers(1, max(2, length // 8)))
    match int(rng.integers(8)):
        case 0:
            for place in rng.integers(0, reach, int(rng.integers(1, 32))):
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


def dng(picture: Image.Image, *, orientation: int = 1, preview: bytes | None = None) -> bytes:
    """Camera RAW: ``picture`` as a sensor sees it, one colour a pixel, in a DNG file; with
    ``preview``, a JPEG of its size, as cameras put one in."""
    width, height = picture.size
    linear = (np.asarray(picture, np.float32) / 255) ** 2.2 * 65535
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
        # sRGB's primaries, so that colours come back as they were.
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
"""(tag, type, value): bytes for types 1 and 2, numbers for 3 and 4, fractions for 5 and 10. Of tag
273, the strip's bytes."""


def _tiff(tags: Tags, *, below: Tags | None = None) -> bytes:
    """A TIFF file of one directory, and one below it."""
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
