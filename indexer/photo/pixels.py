"""Pixels: from whatever a file holds to RGB of the size that a model or a person wants.

A large picture is made small first and exactly sized afterwards: to a whole fraction of its size
that is at least ``MARGIN`` times what is wanted (JPEG decodes straight to 1/2, 1/4 or 1/8 of its
size; other kinds are averaged over squares), then by the resampling that the model was trained
with, crop and resize in one step.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms, ImageStat

from sightline.indexer.types import Geometry, Pixels

MARGIN = 2
"""The small picture has at least so many pixels for one wanted, each way. At 2 embeddings are those
of the full picture (cosine > .999, benchmarks/decoding.py); at 1 they are not quite."""

STRIP = 8 * 2**20
"""Pixels that are converted to RGB at once: pictures that need converting then cost little more
memory than they have anyway."""

PROFILE_BYTES = 8192
"""Larger colour profiles are not kept in thumbnails. Those of cameras and telephones have 500 to
3,200 bytes; those of printers have megabytes."""

RESAMPLE = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes a picture upright, by its EXIF orientation."""

Size = tuple[int, int]
"""Width, height."""


def turned(size: Size, orientation: int) -> Size:
    """``size`` as it is seen, for a picture stored with ``orientation``; or back."""
    return (size[1], size[0]) if orientation >= 5 else size


def resized(size: Size, geometry: Geometry) -> Size:
    """What a picture of ``size`` is resized to before the model's window is cut from the middle."""
    if geometry.fit == "squash":
        return geometry.width, geometry.height
    width, height = size
    short, long = min(size), max(size)
    other = geometry.resize * long // short
    return (geometry.resize, other) if width <= height else (other, geometry.resize)


def within(size: Size, longest: int) -> Size:
    """``size`` made smaller, never larger, so that its longer side is at most ``longest``."""
    scale = longest / max(size)
    if scale >= 1:
        return size
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def wanted(size: Size, geometry: Geometry, thumbnail: int) -> Size:
    """The least size that a picture of ``size`` may be shrunk to before both are made of it."""
    model, small = resized(size, geometry), within(size, thumbnail)
    return max(MARGIN * model[0], small[0]), max(MARGIN * model[1], small[1])


def shrink(image: Image.Image, least: Size) -> Image.Image:
    """``image`` in RGB, over white, a whole fraction of its size and not below ``least``.

    ``image`` may be of any mode, and is loaded here if it was not.
    """
    image.load()
    factor = max(1, min(image.width // least[0], image.height // least[1]))
    plain = image.mode in ("RGB", "L") and "transparency" not in image.info
    if image.mode in ("I", "F"):
        image = _bytes_of(image)
        plain = True
    if plain:
        small = image.reduce(factor) if factor > 1 else image
        return small.convert("RGB")
    return _shrink_strips(image, factor)


def _shrink_strips(image: Image.Image, factor: int) -> Image.Image:
    """Converts and averages a strip at a time, so that there is never a second full picture."""
    width, height = image.size
    out = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(1, STRIP // width // factor) * factor
    convert = _converter(image)
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(height, top + rows))))
        out.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return out


def _converter(image: Image.Image):  # type: ignore[no-untyped-def]
    """The function that makes RGB of a piece of ``image``."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _over_white
    if image.mode.startswith("I;16"):
        return _high_bytes
    transform = _colour_transform(image)
    if transform is not None:
        return lambda strip: ImageCms.applyTransform(strip, transform)
    return lambda strip: strip.convert("RGB")


def _over_white(strip: Image.Image) -> Image.Image:
    if strip.mode == "La":
        strip = strip.convert("LA")
    strip = strip.convert("RGBA")
    ground = Image.new("RGB", strip.size, "white")
    ground.paste(strip, mask=strip.getchannel("A"))
    return ground


def _colour_transform(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """To sRGB, for kinds of colour that need a profile; None where plain arithmetic has to do."""
    if image.mode not in ("CMYK", "LAB"):
        return None
    try:
        if image.mode == "LAB":
            profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            held = image.info.get("icc_profile")
            if not held:
                return None
            profile = ImageCms.ImageCmsProfile(io.BytesIO(held))
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None  # a broken profile is no reason to lose the picture


def _high_bytes(strip: Image.Image) -> Image.Image:
    """16-bit grey as RGB."""
    return Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8)).convert("RGB")


def _bytes_of(image: Image.Image) -> Image.Image:
    """A picture of 32-bit numbers or fractions as one of bytes (``L``).

    What the numbers mean is not written down: they are read as fractions, bytes or 16-bit numbers
    when they fit into that, and stretched otherwise.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and values.dtype.kind == "f" and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255:
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` turned as its EXIF orientation says."""
    turn = UPRIGHT.get(orientation)
    return image.transpose(turn) if turn is not None else image


def cut(image: Image.Image, size: Size, geometry: Geometry) -> Pixels:
    """What the model is to see of ``image``, an upright RGB picture that was ``size`` before it was
    shrunk: ``(height, width, 3) uint8``."""
    resample = RESAMPLE[geometry.resample]
    whole = resized(size, geometry)
    window = geometry.width, geometry.height
    left, top = (whole[0] - window[0]) // 2, (whole[1] - window[1]) // 2
    if left < 0 or top < 0:
        # A model that crops more than it resizes to sees black borders.
        canvas = Image.new("RGB", window)
        canvas.paste(image.resize(whole, resample), (-left, -top))
        return np.asarray(canvas)
    across, down = image.width / whole[0], image.height / whole[1]
    box = (
        left * across,
        top * down,
        min((left + window[0]) * across, image.width),
        min((top + window[1]) * down, image.height),
    )
    return np.asarray(image.resize(window, resample, box))


def smaller(image: Image.Image, longest: int, filter: Image.Resampling) -> Image.Image:
    """``image`` with its longer side at most ``longest``."""
    size = within(image.size, longest)
    return image if size == image.size else image.resize(size, filter)


def kept_profile(image: Image.Image) -> bytes | None:
    """The colour profile that a smaller copy of ``image`` needs so that its colours stay right."""
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= PROFILE_BYTES:
        return None
    return profile if image.mode == "RGB" and profile[16:20] == b"RGB " else None


def mean_colour(image: Image.Image) -> str:
    """Of an RGB picture, as ``#rrggbb``."""
    red, green, blue = map(round, ImageStat.Stat(image).mean)
    return f"#{red:02x}{green:02x}{blue:02x}"


def _cosines(size: int) -> np.ndarray:
    """Rows of the discrete cosine transform (type II, not normalised)."""
    places = np.arange(size)
    return np.cos(np.pi * places[:8, None] * (2 * places[None, :] + 1) / (2 * size)).astype(
        np.float32
    )


_DCT = _cosines(32)


def perceptual_hash(image: Image.Image) -> int:
    """64 bits, signed, that hardly change when a picture is saved again, smaller or worse.

    They say which of its 8 x 8 lowest frequencies are above their median: the DCT hash of pHash.
    """
    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = _DCT @ np.asarray(grey, np.float32) @ _DCT.T
    bits = np.packbits((low > np.median(low)).ravel())
    return int.from_bytes(bits.tobytes(), "big", signed=True)
