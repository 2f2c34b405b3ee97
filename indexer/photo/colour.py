"""Colour management: the colour space of an image file, and its pixels in sRGB.

The space comes from, in this order: the CICP code points of a PQ or HLG image, a PNG's cICP chunk,
an ICC profile, the code points of HEIC and AVIF, a PNG's gAMA and cHRM chunks, and Adobe RGB in the
EXIF. Without any of them the pixels are sRGB already, which costs nothing.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

Convert = Callable[[Image.Image], Image.Image]
"""From an image in a mode of its colour space to sRGB: ``RGB``."""

BROKEN = "its colour profile is broken and was ignored"
"""The note on such an image."""

UNCHANGED = 2
"""Levels of 255 by which a profile may change colours and still counts as sRGB."""

PROFILES = 32
"""Transforms that are cached; building one takes up to 10 ms."""

MAX_PROFILE_BYTES = 16 * 2**20
"""Larger profiles are taken for broken. Printers' have up to 3 MB."""

MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""Pillow's mode by the colour space in the header of an ICC profile."""

WHITE_NITS = 203
"""Luminance of white in an HDR image, which becomes 255 (ITU-R BT.2408)."""

HLG_PEAK_NITS, HLG_GAMMA = 1000, 1.2
"""Display that HLG is made for (ITU-R BT.2100)."""

KNEE = 0.5
"""Fraction of white, in linear light, from which highlights are compressed if some exceed white."""

D65 = (0.3127, 0.3290)
PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""x and y of red, green and blue by CICP code: BT.709, BT.2020 and P3, with white at D65. Others
are treated as BT.709."""

ADOBE_RGB = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060)

GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
"""Exponents of transfer functions by CICP code; others are treated as sRGB's, except PQ and HLG."""

PQ, HLG = 16, 18
"""CICP codes of their transfer functions."""

D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


class Cicp(NamedTuple):
    """Code points of a colour space (ITU-T H.273)."""

    primaries: int
    transfer: int


@dataclass(frozen=True)
class ColourSpace:
    """The colour space of one image."""

    mode: str
    """Pillow's mode of its pixels: ``RGB``, ``L``, ``CMYK`` or ``LAB``."""
    convert: Convert
    profile: bytes = b""
    """The ICC profile, except for Lab and HDR."""
    cicp: Cicp | None = None
    """The code points of a PQ or HLG image."""

    def convert_deep(self, values: NDArray[np.uint16]) -> Image.Image:
        """``(H, W, 1 or 3) uint16`` in this space as ``RGB`` in sRGB."""
        import imagecodecs

        grey = self.mode == "L" and self.cicp is None
        if grey:
            values = values[..., :1]
        elif values.shape[2] == 1:
            values = np.repeat(values, 3, axis=2)
        if self.cicp is not None:
            return _hdr_to_srgb(values, self.cicp)
        converted = imagecodecs.cms_transform(
            np.ascontiguousarray(values[..., 0] if grey else values),
            self.profile,
            ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            colorspace="gray" if grey else "rgb",
            outcolorspace="rgb",
            outdtype="uint8",
            intent=int(ImageCms.Intent.RELATIVE_COLORIMETRIC),
            flags=int(ImageCms.Flags.BLACKPOINTCOMPENSATION),
        )
        return Image.fromarray(converted)


def to_srgb(image: Image.Image, space: ColourSpace | None) -> Image.Image:
    """``image`` (``L``, ``RGB``, ``RGBA``, ``CMYK``) in sRGB: ``RGBA`` if it was, else ``RGB``."""
    if space is None:
        return image if image.mode in ("RGB", "RGBA") else image.convert("RGB")
    if space.mode == "CMYK" and image.mode != "CMYK":
        return to_srgb(image, None)
    if space.mode == "L" and image.mode != "L":
        pixels = image.convert("L")
    else:
        pixels = image.convert(space.mode)
    converted = space.convert(pixels)
    if image.mode == "RGBA":
        converted.putalpha(image.getchannel("A"))
    return converted


def colour_space(
    image: Image.Image, file: BinaryIO | None = None
) -> tuple[ColourSpace | None, str | None]:
    """The colour space of ``image``, whose header was read from ``file``; None for sRGB. And a note
    for the user, or None."""
    if image.mode == "LAB":
        return _profile_space(b"", "LAB"), None
    cicp = _cicp(image, file)
    if cicp is not None and cicp.transfer in (PQ, HLG):
        return _hdr_space(cicp), None
    profile = image.info.get("icc_profile")
    if profile and not (cicp is not None and image.format == "PNG"):
        return _embedded(profile, image.mode)
    if cicp is not None:
        return _primaries_space(cicp), None
    if image.format == "PNG":
        return _png_gamma_space(image), None
    if image.mode == "RGB" and is_adobe_rgb(image):
        return _profile_space(matrix_profile(ADOBE_RGB, 563 / 256), "RGB"), None
    return None, None


@cache
def _hdr_space(cicp: Cicp) -> ColourSpace:
    return ColourSpace("RGB", lambda image: _hdr_to_srgb(np.asarray(image), cicp), cicp=cicp)


def _embedded(profile: Any, mode: str) -> tuple[ColourSpace | None, str | None]:
    """The colour space of an embedded ICC profile, and a note if it is broken."""
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= MAX_PROFILE_BYTES:
        return None, BROKEN
    profile_mode = MODES.get(profile[16:20])
    if profile_mode is None or (profile_mode == "CMYK") != (mode == "CMYK"):
        return None, BROKEN
    try:
        return _profile_space(profile, profile_mode), None
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, BROKEN


@lru_cache(PROFILES)
def _profile_space(profile: bytes, mode: str) -> ColourSpace | None:
    """The colour space of an ICC profile; None if it is sRGB. ``LAB`` has no profile."""
    source = ImageCms.createProfile("LAB") if mode == "LAB" else io.BytesIO(profile)
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(source),
        ImageCms.createProfile("sRGB"),
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )

    def convert(image: Image.Image) -> Image.Image:
        converted = ImageCms.applyTransform(image, transform)
        assert converted is not None
        return converted

    if mode in ("RGB", "L"):
        sample = _sample(mode)
        before, after = (
            np.asarray(one, np.int16) for one in (sample.convert("RGB"), convert(sample))
        )
        if np.abs(before - after).max() <= UNCHANGED:
            return None
    return ColourSpace(mode, convert, profile)


@cache
def _sample(mode: str) -> Image.Image:
    """Every tone of grey, or colours on a grid."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1)
    return Image.fromarray(grid.reshape(64, 64, 3))


def is_adobe_rgb(image: Image.Image) -> bool:
    """Whether the EXIF names Adobe RGB, as cameras write it: no sRGB, interoperability R03."""
    try:
        exif = image.getexif()
        if not exif or ExifTags.IFD.Exif not in exif:
            return False
        space = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.ColorSpace)
        if space == 1:
            return False
        index = exif.get_ifd(ExifTags.IFD.Interop).get(ExifTags.Interop.InteropIndex)
    except Exception:  # malformed metadata raises any kind of exception
        return False
    if isinstance(index, bytes):
        index = index.decode("latin-1")
    return space == 2 or (isinstance(index, str) and index.rstrip("\0 ") == "R03")


def _png_gamma_space(image: Image.Image) -> ColourSpace | None:
    """The space of the chunks gAMA and cHRM, which count if there is no sRGB chunk."""
    gamma, primaries = image.info.get("gamma"), image.info.get("chromaticity")
    if not gamma or not 0.1 <= gamma <= 10 or "srgb" in image.info:
        return None
    if isinstance(primaries, tuple) and len(primaries) == 8 and min(primaries) > 0:
        white, primaries = primaries[:2], primaries[2:]
    else:
        white, primaries = D65, PRIMARIES[1]
    if abs(gamma - 1 / 2.2) < 0.005:  # what encoders write for sRGB
        if np.allclose(primaries, PRIMARIES[1], atol=0.01):
            return None
        exponent = None
    else:
        exponent = 1 / gamma
    try:
        return _profile_space(matrix_profile(primaries, exponent, white), "RGB")
    except (ImageCms.PyCMSError, np.linalg.LinAlgError, struct.error):
        return None


def _primaries_space(cicp: Cicp) -> ColourSpace | None:
    """The space of code points without PQ and HLG."""
    gamma = GAMMAS.get(cicp.transfer)
    if gamma is None and cicp.primaries not in (9, 12):
        return None
    return _profile_space(matrix_profile(PRIMARIES.get(cicp.primaries, PRIMARIES[1]), gamma), "RGB")


@cache
def matrix_profile(
    primaries: tuple[float, ...],
    gamma: float | None,
    white: tuple[float, float] = D65,
) -> bytes:
    """An ICC profile: ``primaries`` (x and y of red, green, blue), and an exponent or, if ``gamma``
    is None, sRGB's curve."""
    columns = _xyz_matrix(primaries, white)
    adapted = np.linalg.inv(BRADFORD) @ np.diag(
        (BRADFORD @ D50) / (BRADFORD @ _xyz(white))
    ) @ BRADFORD @ columns  # fmt: skip
    numbers = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045] if gamma is None else [gamma]
    kind = 3 if gamma is None else 0
    curve = b"para" + struct.pack(">IHH", 0, kind, 0) + b"".join(map(_fixed, numbers))
    tags = [(b"wtpt", b"XYZ \0\0\0\0" + b"".join(map(_fixed, D50)))]
    for letter, column in zip(b"rgb", adapted.T, strict=True):
        name = bytes([letter])
        tags.append((name + b"XYZ", b"XYZ \0\0\0\0" + b"".join(map(_fixed, column))))
        tags.append((name + b"TRC", curve))
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags:
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    size = start + len(data)
    header = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, D50))
    return header.ljust(128, b"\0") + table + data


def _fixed(number: float) -> bytes:
    """As ICC's s15Fixed16Number."""
    return struct.pack(">i", round(number * 65536))


def _xyz(xy: tuple[float, ...]) -> NDArray[np.float64]:
    x, y = xy
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _xyz_matrix(primaries: tuple[float, ...], white: tuple[float, float]) -> NDArray[np.float64]:
    """``(3, 3)``: linear RGB to XYZ."""
    columns = np.stack([_xyz(primaries[n : n + 2]) for n in (0, 2, 4)], axis=1)
    return columns * np.linalg.solve(columns, _xyz(white))


# --- code points in files -------------------------------------------------------------------------


def _cicp(image: Image.Image, file: BinaryIO | None) -> Cicp | None:
    """The code points in the container of ``image``, None if it has none or leaves them open."""
    found: Cicp | None = None
    if image.format == "HEIF":
        named = image.info.get("nclx_profile")
        if isinstance(named, dict):
            found = Cicp(
                int(named.get("color_primaries", 2)), int(named.get("transfer_characteristics", 2))
            )
    elif file is not None and image.format in ("AVIF", "PNG"):
        position = file.tell()
        try:
            file.seek(0)
            found = _cicp_of_png(file) if image.format == "PNG" else _cicp_of_avif(file)
        except (struct.error, ValueError, LookupError):
            found = None
        finally:
            file.seek(position)
    return None if found is None or found.transfer == 2 == found.primaries else found


def _cicp_of_png(file: BinaryIO) -> Cicp | None:
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"cICP" and size == 4:
            return Cicp(*file.read(2))
        if kind in (b"IDAT", b"IEND"):
            return None
        file.seek(size + 4, io.SEEK_CUR)
    return None


MAX_META_BYTES = 2**22
"""Of the header of an AVIF file; larger ones are not searched for code points."""


def _avif_properties(file: BinaryIO) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of the properties of the primary item."""
    while len(head := file.read(8)) == 8:
        size, kind = struct.unpack(">I4s", head)
        if kind == b"meta":
            meta = dict(_boxes(memoryview(file.read(min(size - 8, MAX_META_BYTES)))[4:]))
            primary, parts = meta[b"pitm"], dict(_boxes(meta[b"iprp"]))
            (item,) = struct.unpack_from(">H" if primary[0] == 0 else ">I", primary, 4)
            properties = list(_boxes(parts[b"ipco"]))
            for index in _associated(parts[b"ipma"], item):
                yield properties[index - 1]
            return
        if size < 8:
            return
        file.seek(size - 8, io.SEEK_CUR)


def _cicp_of_avif(file: BinaryIO) -> Cicp | None:
    for kind, data in _avif_properties(file):
        if kind == b"colr" and bytes(data[:4]) == b"nclx":
            return Cicp(*struct.unpack_from(">HH", data, 4))
    return None


def avif_depth(file: BinaryIO) -> int:
    """Bits per channel of an AVIF file."""
    file.seek(0)
    for kind, data in _avif_properties(file):
        if kind == b"av1C":
            return (12 if data[2] & 0x20 else 10) if data[2] & 0x40 else 8
    return 8


def _associated(ipma: memoryview, item: int) -> Iterator[int]:
    """Numbers, from 1, of the properties of ``item``."""
    version, wide = ipma[0], ipma[3] & 1
    (count,) = struct.unpack_from(">I", ipma, 4)
    position = 8
    for _ in range(count):
        (id,) = struct.unpack_from(">H" if version == 0 else ">I", ipma, position)
        position += 2 if version == 0 else 4
        entries = ipma[position]
        position += 1
        for _ in range(entries):
            if wide:
                number = struct.unpack_from(">H", ipma, position)[0] & 0x7FFF
            else:
                number = ipma[position] & 0x7F
            position += 2 if wide else 1
            if id == item and number:
                yield number


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and content of each box of an ISO media file in ``data``."""
    while len(data) >= 8:
        size, kind = struct.unpack_from(">I4s", data)
        if size < 8:
            return
        yield kind, data[8:size]
        data = data[size:]


# --- high dynamic range ---------------------------------------------------------------------------


def _hdr_to_srgb(values: NDArray[Any], cicp: Cicp) -> Image.Image:
    """PQ or HLG as sRGB. White is at ``WHITE_NITS``; if there are brighter parts, the tones above
    ``KNEE`` are compressed so that all fit."""
    linear = (_pq if cicp.transfer == PQ else _hlg)(values, cicp)
    primaries = PRIMARIES.get(cicp.primaries, PRIMARIES[1])
    to_bt709 = np.linalg.solve(_xyz_matrix(PRIMARIES[1], D65), _xyz_matrix(primaries, D65))
    linear = np.maximum(linear @ to_bt709.T.astype(np.float32), 0)
    brightest = linear.max(axis=-1, keepdims=True)
    peak = float(np.percentile(brightest, 99.9))
    if peak > 1:
        slope = (peak - KNEE) / (1 - KNEE)
        above = np.clip((brightest - KNEE) / (peak - KNEE), 0, 1)
        mapped = KNEE + (1 - KNEE) * above * slope / (1 + (slope - 1) * above)
        linear *= np.where(brightest > KNEE, mapped / np.maximum(brightest, KNEE), 1)
    linear = np.clip(linear, 0, 1)
    encoded = np.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * np.power(linear, 1 / 2.4) - 0.055
    )
    return Image.fromarray(np.round(encoded * 255).astype(np.uint8))


def _signals(values: NDArray[Any]) -> NDArray[np.float64]:
    """Every signal that ``values``, of 8 or 16 bits, can have: 0..1."""
    return np.linspace(0, 1, np.iinfo(values.dtype).max + 1)


def _pq(values: NDArray[Any], _: Cicp) -> NDArray[np.float32]:
    """Linear light, white at 1 (SMPTE ST 2084)."""
    root = _signals(values) ** (1 / 78.84375)
    light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    nits = 10_000 * light ** (1 / 0.1593017578125)
    return (nits / WHITE_NITS).astype(np.float32)[values]


def _hlg(values: NDArray[Any], cicp: Cicp) -> NDArray[np.float32]:
    """Linear light on a display of ``HLG_PEAK_NITS``, white at 1 (ITU-R BT.2100)."""
    signal = _signals(values)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    light = scene.astype(np.float32)[values]
    weights = _xyz_matrix(PRIMARIES.get(cicp.primaries, PRIMARIES[1]), D65)[1]
    luminance = light @ weights.astype(np.float32)
    gain = np.maximum(luminance, 1e-6) ** (HLG_GAMMA - 1) * (HLG_PEAK_NITS / WHITE_NITS)
    return light * gain[..., None]
