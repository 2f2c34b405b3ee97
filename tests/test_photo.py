"""One image file becomes pixels, a thumbnail, hashes and metadata, whatever its format."""

from __future__ import annotations

import io
import os
import re
import sys
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import helpers_photos as files
import numpy as np
import pytest
import xxhash
from PIL import Image

from sightline.indexer.errors import PhotoError
from sightline.indexer.installation import install_command
from sightline.indexer.photo import formats, photo
from sightline.indexer.types import Geometry

CLIP = Geometry()
SIGLIP = Geometry(width=256, height=256, resize=256, fit="squash", resample="bilinear")


def full_decode(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """What the models' own processors make of ``image``, decoded in full: resize, then crop."""
    resample = Image.Resampling[geometry.resample.upper()]
    window = geometry.width, geometry.height
    if geometry.fit == "squash":
        return np.asarray(image.convert("RGB").resize(window, resample))
    scale = geometry.resize / min(image.size)
    width, height = (max(geometry.resize, int(side * scale)) for side in image.size)
    resized = image.convert("RGB").resize((width, height), resample)
    left, top = (width - window[0]) // 2, (height - window[1]) // 2
    return np.asarray(resized.crop((left, top, left + window[0], top + window[1])))


def mean_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of two images, of 255."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).mean())


def opened(data: bytes) -> Image.Image:
    """A thumbnail or preview, decoded."""
    return Image.open(io.BytesIO(data))


# --- formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", files.colour_files())
def test_every_format_gives_the_same_pixels(name: str) -> None:
    read = photo.read_bytes(files.colour_files()[name], CLIP)
    assert mean_difference(read.pixels, full_decode(files.scene(), CLIP)) < 4
    assert (read.info.width, read.info.height) == files.SIZE
    assert opened(read.thumbnail).size == files.SIZE


@pytest.mark.parametrize("name", files.grey_files())
def test_grey_images_of_every_bit_depth_keep_their_tones(name: str) -> None:
    read = photo.read_bytes(files.grey_files()[name], CLIP)
    assert mean_difference(read.pixels, full_decode(files.scene().convert("L"), CLIP)) < 2


@pytest.mark.parametrize("name", files.transparent_files())
def test_transparent_pixels_become_white(name: str) -> None:
    read = photo.read_bytes(files.transparent_files()[name], CLIP)
    assert mean_difference(read.pixels, full_decode(files.over_white(files.scene()), CLIP)) < 4
    assert opened(read.thumbnail).convert("RGB").getpixel((150, 60)) == (255, 255, 255)


@pytest.mark.parametrize("geometry", [CLIP, SIGLIP], ids=["crop", "squash"])
@pytest.mark.parametrize("name", files.small_files())
def test_images_of_extreme_aspect_ratios_are_read(name: str, geometry: Geometry) -> None:
    data = files.small_files()[name]
    read = photo.read_bytes(data, geometry)
    assert mean_difference(read.pixels, full_decode(Image.open(io.BytesIO(data)), geometry)) < 4
    assert max(opened(read.thumbnail).size) <= photo.THUMBNAIL_SIZE


def test_formats_have_their_common_names() -> None:
    named = {
        name: photo.read_bytes(data, CLIP).info.format
        for name, data in files.colour_files().items()
    }
    assert named["two in one.jpg"] == named["plain.jpg"] == "jpeg"
    assert named["plain.heic"] == "heif"
    assert set(named.values()) == {"jpeg", "png", "webp", "gif", "bmp", "tiff", "avif", "heif"}


def test_nan_pixels_are_black() -> None:
    values = np.full((20, 20), 0.5, np.float32)
    values[0, 0], values[1, 1] = np.nan, np.inf
    read = photo.read_bytes(files.saved(Image.fromarray(values), "TIFF"), CLIP)
    assert read.pixels[112, 112].tolist() == [128, 128, 128]


# --- size and quality ----------------------------------------------------------------------------


@pytest.mark.parametrize("geometry", [CLIP, SIGLIP], ids=["crop", "squash"])
@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (2400, 700), (1000, 1001)])
def test_a_reduced_jpeg_matches_the_full_decode(geometry: Geometry, size: tuple[int, int]) -> None:
    data = files.saved(files.scene(4, size), quality=92)
    read = photo.read_bytes(data, geometry)
    assert mean_difference(read.pixels, full_decode(Image.open(io.BytesIO(data)), geometry)) < 1
    assert (read.info.width, read.info.height) == size
    assert max(opened(read.thumbnail).size) == photo.THUMBNAIL_SIZE


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16"])
def test_large_images_of_every_mode_are_reduced_correctly(mode: str) -> None:
    image = files.scene(5, (2310, 1790))
    seen = image
    if mode == "P":
        seen = image = image.quantize(256)
    elif mode == "I;16":
        seen, image = image.convert("L"), files.grey_in_mode(image, mode)
    elif mode == "RGBA":
        image, seen = files.with_alpha(image), files.over_white(image)
    else:
        seen = image = image.convert(mode)
    read = photo.read_bytes(files.saved(image, "TIFF"), CLIP)
    assert mean_difference(read.pixels, full_decode(seen, CLIP)) < 1


def test_a_crop_larger_than_the_resized_image_has_black_borders() -> None:
    read = photo.read_bytes(files.saved(files.scene()), Geometry(64, 64, 32))
    assert not read.pixels[:16].any()
    assert read.pixels[20:44, 20:44].all()


def test_the_colour_is_the_mean_of_the_image() -> None:
    data = files.saved(Image.new("RGB", (90, 60), (12, 200, 255)), "PNG")
    assert photo.read_bytes(data, CLIP).info.color == "#0cc8ff"


# --- orientation ---------------------------------------------------------------------------------

TURN_BACK = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def with_orientation(image: Image.Image, orientation: int, format: str, **options: object) -> bytes:
    """A file of ``image`` with this EXIF orientation, its pixels stored accordingly."""
    turn = TURN_BACK[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(turn) if turn is not None else image
    return files.saved(stored, format, exif=exif.tobytes(), **options)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_made_upright(format: str, orientation: int, tmp_path: Path) -> None:
    # JPEG is decoded at half this size; the others take long enough.
    size = (1200, 900) if format == "JPEG" else (600, 450)
    image = files.scene(6, size)
    data = with_orientation(
        image, orientation, format, **({} if format == "TIFF" else {"quality": 92})
    )
    read = photo.read_bytes(data, CLIP)
    assert (read.info.width, read.info.height) == size
    assert read.info.orientation == orientation
    assert mean_difference(read.pixels, full_decode(image, CLIP)) < 3
    small = image.resize((512, 384))
    assert mean_difference(np.asarray(opened(read.thumbnail)), np.asarray(small)) < 4
    path = tmp_path / "image"
    path.write_bytes(data)
    assert mean_difference(np.asarray(opened(photo.preview(path, 512))), np.asarray(small)) < 4


# --- crops and previews --------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("geometry", [CLIP, SIGLIP], ids=["crop", "squash"])
def test_a_crop_is_relative_to_the_upright_image(
    geometry: Geometry, orientation: int, tmp_path: Path
) -> None:
    image = files.scene(7, (2000, 1000))
    path = tmp_path / "image.jpg"
    path.write_bytes(with_orientation(image, orientation, "JPEG", quality=95))
    expected = full_decode(image.crop((1000, 250, 2000, 750)), geometry)
    box = (0.5, 0.25, 1.0, 0.75)
    assert mean_difference(photo.crop(path, box, geometry), expected) < 2
    assert mean_difference(photo.crop(path.read_bytes(), box, geometry), expected) < 2


def test_a_crop_may_be_tiny_or_exceed_the_image(tmp_path: Path) -> None:
    data = files.saved(files.scene())
    assert photo.crop(data, (0.999, 0.999, 1, 1), CLIP).shape == (224, 224, 3)
    whole = photo.crop(data, (-1, -1, 2, 2), CLIP)
    assert np.array_equal(whole, photo.read_bytes(data, CLIP).pixels)
    for box in ((0.5, 0.5, 0.5, 1), (1, 0, 0, 1), (1, 0, 2, 1)):
        with pytest.raises(PhotoError, match="empty"):
            photo.crop(data, box, CLIP)


def test_a_preview_is_never_larger_than_the_image(tmp_path: Path) -> None:
    path = tmp_path / "image.heic"
    path.write_bytes(files.saved(files.scene(8, (900, 600)), "HEIF"))
    assert opened(photo.preview(path, 300)).size == (300, 200)
    assert opened(photo.preview(path, 1600)).size == (900, 600)
    assert opened(photo.preview(path, 300)).format == "WEBP"


# --- hashes --------------------------------------------------------------------------------------


def test_equal_bytes_have_equal_hashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = files.saved(files.scene())
    path = tmp_path / "image.jpg"
    path.write_bytes(data)
    expected = xxhash.xxh3_128_hexdigest(data)
    assert photo.hash_file(path) == expected
    assert photo.read(path, CLIP).content_hash == expected
    assert photo.read_bytes(data, CLIP).content_hash == expected
    # Files too large to be held in memory take another way.
    monkeypatch.setattr(formats, "IN_MEMORY_BYTES", 100)
    assert photo.read(path, CLIP).content_hash == expected


def hamming_distance(one: int | None, other: int | None) -> int:
    assert one is not None
    assert other is not None
    return ((one ^ other) & (2**64 - 1)).bit_count()


def test_a_recompressed_image_keeps_its_perceptual_hash() -> None:
    images = [files.scene(seed, (800, 600)) for seed in range(12)]
    hashes = [photo.read_bytes(files.saved(p, quality=95), CLIP).phash for p in images]
    for image, phash in zip(images, hashes, strict=True):
        again = files.saved(image.resize((400, 300)), quality=50)
        assert hamming_distance(phash, photo.read_bytes(again, CLIP).phash) <= 4
        assert -(2**63) <= (phash or 0) < 2**63
    assert min(hamming_distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 4


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", files.bad_files())
def test_an_unreadable_file_is_an_error_with_the_reason(name: str, tmp_path: Path) -> None:
    data, reason = files.bad_files()[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(PhotoError) as caught:
        photo.read(path, CLIP)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(PhotoError):
        photo.read_bytes(data, CLIP)
    with pytest.raises(PhotoError):
        photo.preview(path, 100)


@pytest.mark.parametrize(
    "name", ["plain.jpg", "plain.png", "plain.webp", "plain.heic", "plain.tif"]
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_truncated_anywhere_is_never_read_in_part(name: str) -> None:
    data = files.colour_files()[name]
    whole = photo.read_bytes(data, CLIP).pixels
    read = 0
    lengths = sorted({*range(1, 200, 13), *range(200, len(data), 97), len(data) - 1})
    for length in lengths:
        try:
            pixels = photo.read_bytes(data[:length], CLIP).pixels
        except PhotoError:
            continue
        read += 1
        assert np.array_equal(pixels, whole)  # only what stands after the pixels was missing
    assert read <= max(2, len(lengths) // 50)


def test_images_above_max_pixels_are_refused() -> None:
    data = files.saved(files.scene())
    photo.read_bytes(data, CLIP, max_pixels=160 * 120)
    with pytest.raises(PhotoError, match="too large: 160 x 120"):
        photo.read_bytes(data, CLIP, max_pixels=160 * 120 - 1)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    for name, reason in (
        ("pipe.jpg", "not a regular file"),
        (".", "regular file|directory"),
        ("gone.jpg", "no longer exists"),
        ("round.jpg", "symbolic link in a loop"),
    ):
        with pytest.raises(PhotoError, match=reason):
            photo.read(tmp_path / name, CLIP)
        with pytest.raises(PhotoError, match=reason):
            photo.hash_file(tmp_path / name)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(files.saved(files.scene()))
    with ExitStack() as stack:
        stack.enter_context(formats.unchanged(path.open("rb")))
        path.write_bytes(files.saved(files.scene(1)))
        with pytest.raises(PhotoError, match="changed while it was read"):
            stack.close()


def test_the_reason_for_a_file_that_changes_and_fails_is_the_change(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(files.saved(files.scene()))

    def read_and_fail() -> None:
        with formats.unchanged(path.open("rb")):
            path.write_bytes(b"")
            raise PhotoError("it is truncated")

    with pytest.raises(PhotoError, match="changed while it was read"):
        read_and_fail()


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (PermissionError(13, "Permission denied"), "no permission to read it", True),
        (OSError(5, "Input/output error"), "the disk could not read it: Input/output error", True),
        (MemoryError(), "more memory", False),
        (SyntaxError("broken\nPNG"), "corrupt: broken PNG", False),
        (IndexError(), "corrupt: IndexError", False),
    ],
)
def test_every_exception_becomes_a_photo_error_of_one_line(
    error: Exception, reason: str, transient: bool
) -> None:
    with pytest.raises(PhotoError, match=reason) as caught, formats.photo_errors():
        raise error
    assert caught.value.transient == transient  # worth trying again although the file is as it was


# --- camera RAW ----------------------------------------------------------------------------------


@pytest.mark.parametrize("has_preview", [False, True], ids=["sensor", "preview"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_camera_raw_is_read_from_sensor_data_and_previews(
    has_preview: bool, orientation: int, tmp_path: Path
) -> None:
    image = files.scene(9, (1200, 900))
    turn = TURN_BACK[orientation]
    stored = image.transpose(turn) if turn is not None else image
    preview = files.saved(stored, quality=95) if has_preview else None
    path = tmp_path / "image.DNG"
    path.write_bytes(files.dng(stored, orientation=orientation, preview=preview))
    read = photo.read(path, CLIP)
    # Developed sensor data has another tone curve, so the difference is larger.
    assert mean_difference(read.pixels, full_decode(image, CLIP)) < (2 if has_preview else 12)
    assert (read.info.format, read.info.width, read.info.height) == ("raw", 1200, 900)
    assert read.info.orientation == orientation
    assert read.info.camera == "Sightline Nine"
    assert read.info.taken_at == datetime(2022, 5, 6, 7, 8, 9)
    assert read.content_hash == photo.hash_file(path)
    assert opened(photo.preview(path, 400)).size == (400, 300)
    part = full_decode(image.crop((600, 0, 1200, 450)), CLIP)
    assert mean_difference(photo.crop(path, (0.5, 0, 1, 0.5), CLIP), part) < (
        2 if has_preview else 12
    )


def test_a_tiny_raw_preview_is_not_used(tmp_path: Path) -> None:
    image = files.scene(9, (1200, 900))
    stamp = files.saved(Image.new("RGB", (160, 120), "red"))
    path = tmp_path / "image.dng"
    path.write_bytes(files.dng(image, preview=stamp))
    assert mean_difference(photo.read(path, CLIP).pixels, full_decode(image, CLIP)) < 12


def test_an_invalid_raw_file_is_an_error_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "image.cr2"
    for data in (b"this is text, whatever its name says", files.dng(files.scene())[:3000]):
        path.write_bytes(data)
        with pytest.raises(PhotoError, match=r"not camera RAW that can be read|corrupt|truncated"):
            photo.read(path, CLIP)


def test_the_error_without_the_raw_extra_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.dng"
    path.write_bytes(files.dng(files.scene()))
    monkeypatch.setitem(sys.modules, "rawpy", None)  # as if it were not installed
    with pytest.raises(PhotoError, match=re.escape(install_command("raw"))) as caught:
        photo.read(path, CLIP)
    assert caught.value.transient
