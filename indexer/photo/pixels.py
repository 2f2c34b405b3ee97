"""Pixels: from the modes and sizes of image files to RGB of the size of a model or a thumbnail.

A large image is first reduced by a whole factor to at least ``MARGIN`` times the size that is
needed (JPEG decodes to 1/2, 1/4 or 1/8, other formats are averaged over squares), then resized and
cropped in one step with the model's own filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageStat

from sightline.indexer.photo import high_depth
from sightline.indexer.photo.colour import ColourSpace, to_srgb
from sightline.indexer.types import Geometry, Pixels

MARGIN = 2
"""Decoded pixels per pixel of the model's input, each way. At 2 embeddings equal those of the full
image (cosine > .999, ``benchmarks/decoding.py``); at 1 they do not quite."""

STRIP_PIXELS = 8 * 2**20
"""Pixels that are converted to RGB at a time, so that there is no second full image in memory."""

BRIGHT = 192
"""Mean tone of the visible parts, of 255, from which an image with transparency is shown on
``DARK`` instead of white."""

DARK = (32, 32, 32)

GROUND_SIZE = 64
"""Pixels on the longer side of the copy that the ground is chosen by."""

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}

TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that makes an image upright, by EXIF orientation."""

Size = tuple[int, int]
"""Width, height."""


def oriented(size: Size, orientation: int) -> Size:
    """``size`` after an EXIF orientation is applied; or before, as the operation is symmetric."""
    return (size[1], size[0]) if orientation >= 5 else size


def resized_size(size: Size, geometry: Geometry) -> Size:
    """The size that an image of ``size`` is resized to before the centre crop."""
    if geometry.fit == "squash":
        return geometry.width, geometry.height
    if geometry.fit == "patches":
        return _whole_patches(size, geometry)
    width, height = size
    longer = geometry.resize * max(size) // min(size)
    return (geometry.resize, longer) if width <= height else (longer, geometry.resize)


MIN_SCALE, MAX_SCALE, SCALE_STEP = 1e-6, 100.0, 1e-5
"""Bounds and precision of the scale by which an image is resized to patches, as in training."""


def _whole_patches(size: Size, geometry: Geometry) -> Size:
    """The largest scaled ``size``, rounded up to whole patches, of at most ``max_patches``.

    Found by bisection, as in training: the exact solution has another patch now and then."""
    low, high = MIN_SCALE, MAX_SCALE
    columns, rows = 1, 1
    while high - low >= SCALE_STEP:
        scale = (low + high) / 2
        wide, tall = (max(1, math.ceil(side * scale / geometry.patch)) for side in size)
        if wide * tall <= geometry.max_patches:
            low, columns, rows = scale, wide, tall
        else:
            high = scale
    return columns * geometry.patch, rows * geometry.patch


def fit_within(size: Size, longest: int) -> Size:
    """``size`` scaled down, never up, so that its longer side is at most ``longest``."""
    scale = longest / max(size)
    if scale >= 1:
        return size
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def min_decoded_size(size: Size, geometry: Geometry, thumbnail: int) -> Size:
    """The least size to decode an image of ``size`` to, for both the model and a thumbnail."""
    model, small = resized_size(size, geometry), fit_within(size, thumbnail)
    return max(MARGIN * model[0], small[0]), max(MARGIN * model[1], small[1])


def reduce_to_rgb(
    image: Image.Image, min_size: Size, space: ColourSpace | None = None
) -> Image.Image:
    """``image``, of any mode, as sRGB, reduced by a whole factor to >= ``min_size``.

    ``space`` is its colour space, None for sRGB. Transparent parts show a ground that contrasts
    with the rest."""
    image.load()
    factor = max(1, min(image.width // min_size[0], image.height // min_size[1]))
    if image.mode in ("I", "F"):
        image = _scale_to_bytes(image)
    simple = image.mode in ("RGB", "L", "CMYK") and "transparency" not in image.info
    if simple:
        small = image.reduce(factor) if factor > 1 else image
    else:
        small = _reduce_in_strips(image, factor, space)
    if image.mode != "LAB":
        small = to_srgb(small, space)
    return _over_ground(small) if small.mode == "RGBA" else small


def reduce_deep_to_rgb(
    values: high_depth.Deep, min_size: Size, space: ColourSpace | None
) -> Image.Image:
    """As ``reduce_to_rgb``, of pixels of 16 bits."""
    height, width, _ = values.shape
    factor = max(1, min(width // min_size[0], height // min_size[1]))
    small = high_depth.to_srgb(high_depth.reduced(values, factor), space)
    return _over_ground(small) if small.mode == "RGBA" else small


def _reduce_in_strips(image: Image.Image, factor: int, space: ColourSpace | None) -> Image.Image:
    """In mode ``L``, ``RGB`` or ``RGBA``."""
    width, height = image.size
    rows = max(1, STRIP_PIXELS // width // factor) * factor
    convert = _converter(image, space)
    out: Image.Image | None = None
    for top in range(0, height, rows):
        strip = convert(image.crop((0, top, width, min(height, top + rows))))
        if out is None:
            out = Image.new(strip.mode, (-(-width // factor), -(-height // factor)))
        out.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    assert out is not None
    return out


def _converter(
    image: Image.Image, space: ColourSpace | None
) -> Callable[[Image.Image], Image.Image]:
    """The function that converts a strip of ``image``."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        return _to_rgba
    if image.mode.startswith("I;16"):
        # The depth of the values is not declared: 12 bits would be nearly black in 16.
        shift = max(0, high_depth.depth(_highest(image)) - 8)
        inverted = getattr(image, "tag_v2", {}).get(262) == 0
        return lambda strip: _from_16_bits(strip, shift, inverted)
    if image.mode == "LAB" and space is not None:
        return space.convert
    return lambda strip: strip.convert("RGB")


def _highest(image: Image.Image) -> int:
    """The highest value of an image of 16 bits; Pillow's own function does not know all modes."""
    rows = max(1, STRIP_PIXELS // image.width)
    strips = (
        image.crop((0, top, image.width, min(image.height, top + rows)))
        for top in range(0, image.height, rows)
    )
    return max(int(np.asarray(strip).max()) for strip in strips)


def _to_rgba(strip: Image.Image) -> Image.Image:
    return (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")


def _over_ground(image: Image.Image) -> Image.Image:
    """An ``RGBA`` image over white, or over ``DARK`` if what is visible is bright."""
    alpha = image.getchannel("A")
    if alpha.getextrema() == (255, 255):
        return image.convert("RGB")
    small = image.resize(fit_within(image.size, GROUND_SIZE), Image.Resampling.BOX)
    opacity = np.asarray(small.getchannel("A"), np.float32)
    grey = np.asarray(small.convert("RGB").convert("L"), np.float32)
    visible = float(opacity.sum())
    bright = visible > 0 and float((grey * opacity).sum()) / visible >= BRIGHT
    ground = Image.new("RGB", image.size, DARK if bright else "white")
    ground.paste(image, mask=alpha)
    return ground


def _from_16_bits(strip: Image.Image, shift: int, inverted: bool) -> Image.Image:
    values = (np.asarray(strip) >> shift).astype(np.uint8)
    return Image.fromarray(255 - values if inverted else values)


def _scale_to_bytes(image: Image.Image) -> Image.Image:
    """32-bit integers or floats (modes ``I`` and ``F``) to ``L``.

    Files do not state the range: 0..1 (floats), 0..255 and 0..65535 are assumed if the values fit,
    otherwise the values are stretched.
    """
    values = np.asarray(image)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        low, high = high_depth.float_range(values)
    else:
        low, high = float(values.min()), float(values.max())
        if low >= 0 and high <= 65535:
            low, high = 0.0, 255.0 if high <= 255 else 65535.0
    scaled = (values.astype(np.float32) - low) * (255 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(scaled + 0.5, 0, 255).astype(np.uint8))


def make_upright(image: Image.Image, orientation: int) -> Image.Image:
    """``image`` with its EXIF orientation applied."""
    operation = TRANSPOSE.get(orientation)
    return image.transpose(operation) if operation is not None else image


def model_input(image: Image.Image, size: Size, geometry: Geometry) -> Pixels:
    """Resizes and crops an upright RGB image, whose size was ``size`` before reduction, to the
    model's input: ``(height, width, 3) uint8``."""
    resample = FILTERS[geometry.resample]
    resized = resized_size(size, geometry)
    crop = resized if geometry.fit == "patches" else (geometry.width, geometry.height)
    left, top = (resized[0] - crop[0]) // 2, (resized[1] - crop[1]) // 2
    if left < 0 or top < 0:
        # A model whose crop is larger than the resized image sees black borders.
        canvas = Image.new("RGB", crop)
        canvas.paste(image.resize(resized, resample), (-left, -top))
        return np.asarray(canvas)
    x_scale, y_scale = image.width / resized[0], image.height / resized[1]
    box = (
        left * x_scale,
        top * y_scale,
        min((left + crop[0]) * x_scale, image.width),
        min((top + crop[1]) * y_scale, image.height),
    )
    return np.asarray(image.resize(crop, resample, box))


def downscale(image: Image.Image, longest: int, filter: Image.Resampling) -> Image.Image:
    """``image`` with its longer side at most ``longest``."""
    size = fit_within(image.size, longest)
    return image if size == image.size else image.resize(size, filter)


def mean_colour(image: Image.Image) -> str:
    """The mean colour of an RGB image, as ``#rrggbb``."""
    red, green, blue = map(round, ImageStat.Stat(image).mean)
    return f"#{red:02x}{green:02x}{blue:02x}"


_DCT = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1) / 64).astype(np.float32)
"""``(8, 32)``: the lowest eight rows of the DCT-II of length 32, not normalised."""


MIN_COEFFICIENT, MIN_COEFFICIENTS = 50, 12
"""An image has detail if so many of its 63 lowest frequencies are so strong. Noise and rounding
reach 25; of 238 product photographs each has 50, an even gradient 6, a blank page none."""


def perceptual_hash(image: Image.Image) -> int | None:
    """The 64-bit DCT hash of pHash, signed: nearly the same for rescaled and recompressed copies.
    None for an image without detail: its bits would be noise.

    The bits tell which of the 8 x 8 lowest frequencies are above their median.
    """
    grey = image.convert("L").resize((32, 32), Image.Resampling.LANCZOS)
    low = _DCT @ np.asarray(grey, np.float32) @ _DCT.T
    if np.count_nonzero(np.abs(low.ravel()[1:]) >= MIN_COEFFICIENT) < MIN_COEFFICIENTS:
        return None
    bits = np.packbits((low > np.median(low)).ravel())
    return int.from_bytes(bits.tobytes(), "big", signed=True)


FRAME_DETAIL = 12.0
"""Standard deviation of a frame's levels, of 255, from which it is not blank."""

MAX_FRAMES = 100
"""Frames that are decoded, at most, to find one that is not blank."""

FRAME_SIZE = (32, 32)


def seek_representative_frame(image: Image.Image, *, max_pixels: int) -> None:
    """Moves an animation to its first frame that is not blank, or to the most detailed one. Frames
    of ``max_pixels`` together are decoded at most."""
    if not getattr(image, "is_animated", False):
        return
    info = image.info
    frames = min(MAX_FRAMES, max(1, max_pixels // (image.width * image.height)))
    best, most = 0, -1.0
    for number in range(frames):
        try:
            image.seek(number)
            small = reduce_to_rgb(image, FRAME_SIZE).resize(FRAME_SIZE, Image.Resampling.BOX)
        except (EOFError, OSError, SyntaxError, ValueError):
            break  # the last one, or the rest is corrupt
        detail = max(ImageStat.Stat(small).stddev)
        if detail > most:
            best, most = number, detail
        if detail >= FRAME_DETAIL:
            break
    if image.tell() != best:
        image.seek(best)
    image.info = {**info, **image.info}
