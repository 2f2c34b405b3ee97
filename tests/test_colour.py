"""Every image is shown and encoded in sRGB, whatever its colour space and the way to its pixels."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import helpers_photos as files
import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from sightline.data.scenes.rendering import render
from sightline.data.scenes.scene import compose
from sightline.indexer.encoder import Encoder
from sightline.indexer.photo import colour, photo
from sightline.indexer.types import Geometry, Photo

CLIP = Geometry()
Write = Callable[..., bytes]
D50 = (0.3457, 0.3585)
SRGB = colour.PRIMARIES[1]
PROFILES = {
    "ProPhoto": colour.matrix_profile((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), 1.8, D50),
    "Adobe RGB": colour.matrix_profile(colour.ADOBE_RGB, 563 / 256),
    "Display P3": colour.matrix_profile(colour.PRIMARIES[12], None),
    "linear": colour.matrix_profile(SRGB, 1.0),
    "Apple RGB": colour.matrix_profile((0.625, 0.34, 0.28, 0.595, 0.155, 0.07), 1.8),
}
RED, GREY = (220, 30, 30), (128, 128, 128)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    """The built-in model."""
    return Encoder.load("builtin", device="cpu")


def in_profile(image: Image.Image, profile: bytes) -> Image.Image:
    """An sRGB image's colours in another RGB space."""
    converted = ImageCms.profileToProfile(
        image,
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    assert converted is not None
    return converted


def grey_profile(gamma: float) -> bytes:
    """A profile of the colour space GRAY."""
    rgb = colour.matrix_profile(SRGB, gamma)
    (count,) = struct.unpack_from(">I", rgb, 128)
    tags = {
        rgb[at : at + 4]: struct.unpack_from(">II", rgb, at + 4)
        for at in range(132, 132 + 12 * count, 12)
    }
    values = [(b"wtpt", tags[b"wtpt"]), (b"kTRC", tags[b"rTRC"])]
    table, data = struct.pack(">I", 2), b""
    for name, (start, size) in values:
        table += name + struct.pack(">II", 128 + 4 + 24 + len(data), size)
        data += rgb[start : start + size]
    header = bytearray(rgb[:128])
    header[16:20] = b"GRAY"
    header[:4] = struct.pack(">I", 128 + len(table) + len(data))
    return bytes(header) + table + data


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """``png`` with a chunk behind its header."""
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return png[:33] + chunk + png[33:]


def pq_signal(image: Image.Image) -> np.ndarray:
    """An sRGB image in BT.2020 and PQ, white at 203 nits: 0..1."""
    power = (np.maximum(in_linear(image, 9), 0) * 0.0203) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_signal(image: Image.Image) -> np.ndarray:
    """An sRGB image in BT.2020 and HLG, white at 75 %, which is 203 nits on a display of 1,000."""
    light = np.maximum(in_linear(image, 9), 0) * 0.203
    luminance = light @ [0.2627, 0.6780, 0.0593]
    scene = light * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    low = np.sqrt(3 * scene)
    high = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.clip(np.where(scene <= 1 / 12, low, high), 0, 1)


def pq(image: Image.Image) -> Image.Image:
    """``pq_signal`` in 8 bits."""
    return Image.fromarray(np.round(pq_signal(image) * 255).astype(np.uint8))


def hlg(image: Image.Image) -> Image.Image:
    """``hlg_signal`` in 8 bits."""
    return Image.fromarray(np.round(hlg_signal(image) * 255).astype(np.uint8))


def in_linear(image: Image.Image, primaries: int) -> np.ndarray:
    """Linear light of an sRGB image by other primaries."""
    signal = np.asarray(image, np.float64) / 255
    linear = np.where(signal <= 0.04045, signal / 12.92, ((signal + 0.055) / 1.055) ** 2.4)
    to_2020 = [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    return linear @ np.array(to_2020).T if primaries == 9 else linear


def heic(image: Image.Image, transfer: int, primaries: int = 9) -> bytes:
    """A HEIC file with these code points."""
    return files.saved(
        image, "HEIF", quality=98, chroma=444, color_primaries=primaries,
        transfer_characteristics=transfer, matrix_coefficients=9, save_nclx_profile=True,
    )  # fmt: skip


def avif(image: Image.Image, transfer: int, primaries: int = 9) -> bytes:
    """An AVIF file with these code points."""
    data = bytearray(files.saved(image, "AVIF", quality=98, subsampling="4:4:4"))
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    return bytes(data)


def patch(colour: tuple[int, int, int] = RED, *, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """One colour, and a scene in the corner."""
    image = Image.new("RGB", size, colour)
    image.paste(files.scene(0, (size[0] // 4, size[1] // 4)), (size[0] * 3 // 4, size[1] * 3 // 4))
    return image


def levels(read: Photo) -> tuple[list[int], list[int]]:
    """The colour of a patch in the model's input and in the thumbnail."""
    shown = Image.open(io.BytesIO(read.thumbnail)).convert("RGB")
    return read.pixels[60, 60].tolist(), list(shown.getpixel((60, 60)))


def assert_shows(read: Photo, expected: tuple[int, int, int], within: int = 3) -> None:
    """Model's input and thumbnail have the colour (the thumbnail's WebP loses a little)."""
    pixels, thumbnail = levels(read)
    assert np.abs(np.subtract(pixels, expected)).max() <= within, pixels
    assert np.abs(np.subtract(thumbnail, expected)).max() <= within + 3, thumbnail


# --- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *((name, "PNG") for name in PROFILES),
        *(("Display P3", format) for format in ("TIFF", "WEBP", "JPEG", "HEIF", "AVIF")),
    ],
)
def test_colours_of_an_rgb_profile_are_shown_in_srgb(name: str, format: str) -> None:
    image = in_profile(patch(), PROFILES[name])
    options = {"WEBP": {"lossless": True}, "PNG": {}, "TIFF": {}}.get(format, {"quality": 97})
    read = photo.read_bytes(files.saved(image, format, icc_profile=PROFILES[name], **options), CLIP)
    assert_shows(read, RED, within=8 if name == "linear" and options else 5)


@pytest.mark.parametrize("mode", ["RGBA", "P", "PA", "LA"])
def test_a_profile_counts_in_every_mode(mode: str) -> None:
    profile = PROFILES["Apple RGB"]
    expected = GREY if mode == "LA" else RED
    image = in_profile(patch(expected), profile)
    if mode == "P":
        image = image.quantize(64)
    elif mode == "PA":
        image = image.quantize(32)
        image.info["transparency"] = 200
    elif mode == "LA":
        image, profile = in_profile(patch(GREY), profile).convert("LA"), grey_profile(1.8)
    else:
        image = image.convert("RGBA")
    read = photo.read_bytes(files.saved(image, "PNG", icc_profile=profile), CLIP)
    assert_shows(read, expected, within=4)


@pytest.mark.parametrize("mode", ["L", "I;16"])
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_profiles_count_for_8_and_16_bits(mode: str, format: str) -> None:
    level = round(255 * ((((128 / 255) + 0.055) / 1.055) ** 2.4) ** (1 / 1.2))
    values = np.full((240, 320), level, np.uint8 if mode == "L" else np.uint16)
    values[0, 0] = 255
    image = Image.fromarray(values if mode == "L" else values * 257)
    data = files.saved(image, format, icc_profile=grey_profile(1.2))
    assert_shows(photo.read_bytes(data, CLIP), GREY, within=3)


def test_profiles_of_any_size_count() -> None:
    profile = PROFILES["ProPhoto"] + bytes(600_000)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    image = in_profile(patch(), PROFILES["ProPhoto"])
    assert_shows(
        photo.read_bytes(files.saved(image, icc_profile=profile, quality=97), CLIP), RED, 5
    )


def test_an_srgb_profile_changes_no_pixel() -> None:
    image = files.scene()
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, named = (
        photo.read_bytes(files.saved(image, icc_profile=icc), CLIP) for icc in (b"", profile)
    )
    assert np.array_equal(plain.pixels, named.pixels)
    assert plain.thumbnail == named.thumbnail


def test_black_stays_black_and_white_white() -> None:
    for level in (0, 255):
        image = patch((level, level, level))
        data = files.saved(image, "PNG", icc_profile=PROFILES["ProPhoto"])
        assert_shows(photo.read_bytes(data, CLIP), (level, level, level), within=1)


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile",
        bytes(400),
        PROFILES["Adobe RGB"][:200],
        PROFILES["Adobe RGB"][:200] + bytes(500),
    ],
    ids=["text", "zeros", "truncated", "overwritten"],
)
def test_a_broken_profile_is_ignored_and_noted(profile: bytes) -> None:
    plain = photo.read_bytes(files.saved(files.scene()), CLIP)
    read = photo.read_bytes(files.saved(files.scene(), icc_profile=profile), CLIP)
    assert np.array_equal(read.pixels, plain.pixels)
    assert read.notes == (colour.BROKEN,)
    assert plain.notes == ()


def test_a_profile_of_another_colour_model_is_ignored_and_noted() -> None:
    cmyk = PROFILES["Adobe RGB"].replace(b"RGB XYZ ", b"CMYKXYZ ", 1)
    read = photo.read_bytes(files.saved(files.scene(), icc_profile=cmyk), CLIP)
    assert read.notes == (colour.BROKEN,)


# --- without a profile ---------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 6])
def test_adobe_rgb_is_recognised_by_the_interoperability_index(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA001] = 0xFFFF
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    image = in_profile(patch(), PROFILES["Adobe RGB"])
    data = files.saved(image, quality=97, exif=exif.tobytes())
    assert_shows(photo.read_bytes(data, CLIP), RED, within=5)
    exif.get_ifd(0x8769)[0xA005] = {1: "R98"}
    plain = files.saved(patch(), quality=97, exif=exif.tobytes())
    assert_shows(photo.read_bytes(plain, CLIP), RED, within=5)


@pytest.mark.parametrize("write", [heic, avif])
def test_pq_is_shown_as_on_an_srgb_display(write: Write) -> None:
    assert_shows(photo.read_bytes(write(pq(patch()), 16), CLIP), RED, within=6)
    assert_shows(photo.read_bytes(write(pq(patch(GREY)), 16), CLIP), GREY, within=4)


@pytest.mark.parametrize("write", [heic, avif])
def test_hlg_is_shown_as_on_an_srgb_display(write: Write) -> None:
    assert_shows(photo.read_bytes(write(hlg(patch()), 18), CLIP), RED, within=6)
    assert_shows(photo.read_bytes(write(hlg(patch(GREY)), 18), CLIP), GREY, within=4)


@pytest.mark.parametrize("write", [heic, avif])
def test_code_points_of_wide_gamuts_count(write: Write) -> None:
    image = in_profile(patch(), PROFILES["Display P3"])
    assert_shows(photo.read_bytes(write(image, 13, 12), CLIP), RED, within=6)


def test_highlights_above_white_are_compressed_in_order() -> None:
    steps = np.repeat(np.array([0.25, 1, 2, 4], np.float32) * 203, 80)
    power = (steps / 10_000) ** 0.1593017578125
    signal = ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    row = np.round(signal * 255).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.tile(row, (320, 1))[..., None], 3, axis=2))
    shown = photo.read_bytes(heic(image, 16), CLIP).pixels[112, [28, 84, 140, 196], 0].astype(int)
    assert abs(shown[0] - 137) <= 3  # a quarter of white's light stays as it is
    assert 200 <= shown[1] < shown[2] < shown[3] <= 255
    assert shown[3] >= 250


def test_code_points_of_a_png_count() -> None:
    png = with_chunk(files.saved(pq(patch()), "PNG"), b"cICP", bytes([9, 16, 0, 1]))
    assert_shows(photo.read_bytes(png, CLIP), RED, within=4)
    wide = files.saved(in_profile(patch(), PROFILES["Display P3"]), "PNG")
    assert_shows(photo.read_bytes(with_chunk(wide, b"cICP", bytes([12, 13, 0, 1])), CLIP), RED, 3)


def test_the_gamma_of_a_png_counts_unless_it_says_srgb() -> None:
    linear = files.saved(in_profile(patch(), PROFILES["linear"]), "PNG")
    gamma = with_chunk(linear, b"gAMA", struct.pack(">I", 100_000))
    assert_shows(photo.read_bytes(gamma, CLIP), RED, within=6)
    plain = with_chunk(files.saved(patch(), "PNG"), b"gAMA", struct.pack(">I", 45_455))
    assert_shows(photo.read_bytes(plain, CLIP), RED, within=1)
    both = with_chunk(
        with_chunk(files.saved(patch(), "PNG"), b"gAMA", struct.pack(">I", 100_000)), b"sRGB", b"\0"
    )
    assert_shows(photo.read_bytes(both, CLIP), RED, within=1)


# --- every way to the pixels ----------------------------------------------------------------------


def test_previews_and_crops_are_in_srgb(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    image = in_profile(patch(), PROFILES["ProPhoto"])
    path.write_bytes(files.saved(image, "PNG", icc_profile=PROFILES["ProPhoto"]))
    shown = Image.open(io.BytesIO(photo.preview(path, 300)))
    assert "icc_profile" not in shown.info
    assert np.abs(np.subtract(shown.convert("RGB").getpixel((60, 60)), RED)).max() <= 5
    crop = photo.crop(path, (0.0, 0.0, 0.5, 0.5), CLIP)
    assert np.abs(crop.astype(int) - RED).max() <= 3


def test_the_embedding_is_that_of_the_image_in_srgb(encoder: Encoder) -> None:
    image = render(compose(7), width=480, height=360)
    kinds = {
        name: files.saved(in_profile(image, profile), "PNG", icc_profile=profile)
        for name, profile in PROFILES.items()
    }
    photos = [
        photo.read_bytes(data, encoder.geometry)
        for data in (files.saved(image, "PNG"), *kinds.values())
    ]
    vectors = encoder.encode_images(np.stack([read.pixels for read in photos]))
    cosines = dict(zip(kinds, (vectors[1:] @ vectors[0]).tolist(), strict=True))
    assert min(cosines.values()) >= 0.995, cosines


# --- more than 8 bits -----------------------------------------------------------------------------


def sixteen(image: Image.Image, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """``(H, W, 3) uint16``: ``function`` of the linear light of an sRGB image."""
    return np.round(np.clip(function(in_linear(image, 1)), 0, 1) * 65535).astype(np.uint16)


def deep_heic(values: np.ndarray, transfer: int) -> bytes:
    """A HEIC file of 10 bits in BT.2020."""
    pillow_heif.register_heif_opener()
    height, width, _ = values.shape
    out = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (width, height), values.tobytes()).save(
        out, quality=98, chroma=444, color_primaries=9, transfer_characteristics=transfer,
        matrix_coefficients=9,
    )  # fmt: skip
    return out.getvalue()


def deep_avif(values: np.ndarray, transfer: int) -> bytes:
    """An AVIF file of 10 bits in BT.2020."""
    data = bytearray(imagecodecs.avif_encode(values >> 6, bitspersample=10, level=100, speed=9))
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", 9, transfer)
    return bytes(data)


def test_16_bit_images_keep_the_tones_of_shadows() -> None:
    """In 8 bits of linear light the darkest 13 of 255 tones of sRGB are one."""
    ramp = np.repeat(np.repeat(np.arange(2, 18, dtype=np.uint8), 20)[None, :, None], 320, axis=0)
    image = Image.fromarray(np.repeat(ramp, 3, axis=2))
    values = sixteen(image, lambda light: light)
    png = imagecodecs.png_encode(values)
    gamma = with_chunk(png, b"gAMA", struct.pack(">I", 100_000))
    read = photo.read_bytes(gamma, Geometry(320, 320, 320))
    assert np.abs(read.pixels.astype(int) - np.asarray(image)).max() <= 1
    grey = with_chunk(
        imagecodecs.png_encode(values[..., 0].copy()), b"gAMA", struct.pack(">I", 100_000)
    )
    read = photo.read_bytes(grey, Geometry(320, 320, 320))
    assert np.abs(read.pixels.astype(int) - np.asarray(image)).max() <= 1


@pytest.mark.parametrize("write", [deep_heic, deep_avif])
@pytest.mark.parametrize("size", [(320, 240), (1205, 903)], ids=["small", "reduced"])
def test_10_bits_of_hdr_are_read(write: Write, size: tuple[int, int]) -> None:
    for encoded, transfer in ((pq_signal, 16), (hlg_signal, 18)):
        values = np.round(encoded(patch(size=size)) * 65535).astype(np.uint16)
        assert_shows(photo.read_bytes(write(values, transfer), CLIP), RED, within=2)


def test_transparency_of_16_bits_is_kept() -> None:
    values = np.zeros((240, 320, 4), np.uint16)
    values[..., 0], values[:, :160, 3] = 65535, 65535
    png = with_chunk(imagecodecs.png_encode(values), b"gAMA", struct.pack(">I", 100_000))
    read = photo.read_bytes(png, CLIP)
    assert read.pixels[112, [60, 200]].tolist() == [[255, 0, 0], [255, 255, 255]]


def test_the_embedding_of_an_hdr_image_is_that_of_the_image_in_srgb(encoder: Encoder) -> None:
    image = render(compose(7), width=480, height=360)
    kinds = {"sRGB": files.saved(image, "PNG")}
    for write in (deep_heic, deep_avif):
        for encoded, transfer in ((pq_signal, 16), (hlg_signal, 18)):
            values = np.round(encoded(image) * 65535).astype(np.uint16)
            kinds[f"{write.__name__} {transfer}"] = write(values, transfer)
    photos = [photo.read_bytes(data, encoder.geometry) for data in kinds.values()]
    vectors = encoder.encode_images(np.stack([read.pixels for read in photos]))
    cosines = dict(zip(kinds, (vectors @ vectors[0]).tolist(), strict=True))
    assert min(cosines.values()) >= 0.995, cosines
