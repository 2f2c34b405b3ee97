"""Valid images that readers often get wrong, and files that are broken only in a detail."""

from __future__ import annotations

import io
import re
import struct
import zlib
from pathlib import Path

import helpers_photos as files
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from sightline.indexer.errors import PhotoError
from sightline.indexer.indexing.index_folders import index_folders
from sightline.indexer.photo import colour, photo, repair
from sightline.indexer.types import Geometry

EXACT = Geometry(120, 160, 160, fit="squash")
"""The size of ``files.scene()``."""


def tiff(values: np.ndarray, **options: object) -> bytes:
    """A TIFF written by tifffile."""
    out = io.BytesIO()
    tifffile.imwrite(out, values, **options)
    return out.getvalue()


def read(data: bytes) -> np.ndarray:
    return photo.read_bytes(data, EXACT).pixels.astype(int)


def difference(data: bytes, image: Image.Image) -> float:
    """Mean difference of what is read to ``image``, of 255."""
    return float(np.abs(read(data) - np.asarray(image.convert("RGB"), int)).mean())


RGB = np.asarray(files.scene())
GREY = np.asarray(files.scene().convert("L"))
DEEP = RGB.astype(np.uint16) * 257


# --- bit depths and layouts of TIFF ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (np.moveaxis(DEEP, -1, 0), {"planarconfig": "separate", "photometric": "rgb"}),
        (
            np.moveaxis(DEEP, -1, 0),
            {"planarconfig": "separate", "photometric": "rgb", "compression": "lzw"},
        ),
        (
            np.moveaxis(DEEP, -1, 0),
            {"planarconfig": "separate", "photometric": "rgb", "byteorder": ">"},
        ),
        (np.moveaxis(RGB, -1, 0), {"planarconfig": "separate", "photometric": "rgb"}),
        (DEEP, {"photometric": "rgb", "predictor": True, "compression": "zlib"}),
        (DEEP, {"photometric": "rgb", "tile": (64, 64)}),
        (DEEP >> 4, {"photometric": "rgb"}),
        ((RGB / np.float32(255)), {"photometric": "rgb"}),
        ((RGB / 255).astype(np.float16), {"photometric": "rgb"}),
        ((RGB / 255), {"photometric": "rgb"}),
        (DEEP.astype(np.uint32) * 65537, {"photometric": "rgb"}),
        (
            np.moveaxis(RGB / np.float32(255), -1, 0),
            {"planarconfig": "separate", "photometric": "rgb"},
        ),
    ],
    ids=[
        "planar", "planar lzw", "planar big-endian", "planar 8 bits", "predictor", "tiles",
        "12 bits in 16", "float", "half", "double", "32 bits", "planar float",
    ],
)  # fmt: skip
def test_colour_tiffs_of_every_depth_and_layout_are_read(
    values: np.ndarray, options: dict[str, object]
) -> None:
    assert difference(tiff(values, **options), files.scene()) < 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("format", ["TIFF", "PNG"])
def test_grey_values_of_any_depth_in_16_bits_keep_their_tones(bits: int, format: str) -> None:
    stretched = (GREY - GREY.min()) / np.ptp(GREY)
    values = np.round(stretched * (2**bits - 1)).astype(np.uint16)
    seen = Image.fromarray(np.round(stretched * 255).astype(np.uint8))
    assert difference(files.saved(Image.fromarray(values), format), seen) < 1


def test_a_dark_image_of_16_bits_stays_dark() -> None:
    values = GREY.astype(np.uint16) * 25
    assert 6_000 > values.max() > 4_096
    assert read(files.saved(Image.fromarray(values), "PNG")).max() <= values.max() >> 8


def test_white_may_be_zero() -> None:
    values = 65535 - GREY.astype(np.uint16) * 257
    data = tiff(values, photometric="miniswhite")
    assert difference(data, files.scene().convert("L")) < 1


def test_floats_that_exceed_white_a_little_are_clipped() -> None:
    values = RGB / np.float32(255)
    values[5, 5] = 1.4
    assert difference(tiff(values, photometric="rgb"), files.scene()) < 1.5


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_alpha_of_16_bits_is_applied(kind: str) -> None:
    values = np.concatenate([DEEP, np.full((*DEEP.shape[:2], 1), 65535, np.uint16)], axis=2)
    values[:, 80:, 3] = 0
    if kind == "assocalpha":
        values[:, 80:, :3] = 0
    data = tiff(values, photometric="rgb", extrasamples=[kind])
    assert (read(data)[:, 90:] == 255).all()
    assert np.abs(read(data)[:, :70] - RGB[:, :70]).max() <= 3


def test_the_metadata_of_a_planar_tiff_is_read() -> None:
    data = tiff(
        np.moveaxis(DEEP, -1, 0), planarconfig="separate", photometric="rgb",
        extratags=[(271, "s", 0, "Canon", True), (274, "H", 1, 6, True)],
    )  # fmt: skip
    info = photo.read_bytes(data, EXACT).info
    assert (info.camera, info.orientation, info.width, info.height) == ("Canon", 6, 120, 160)
    assert info.format == "tiff"


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("layout", ["alpha", "planes"])
def test_cmyk_tiffs_with_alpha_or_in_planes_are_read(bits: int, layout: str) -> None:
    values = np.asarray(files.scene().convert("CMYK"))
    options: dict[str, object] = {"photometric": "separated"}
    if layout == "alpha":
        values = np.dstack([values, np.full(values.shape[:2], 255, np.uint8)])
        options["extrasamples"] = ["unassalpha"]
    else:
        values = np.moveaxis(values, -1, 0)
        options["planarconfig"] = "separate"
    if bits == 16:
        values = values.astype(np.uint16) * 257
    assert difference(tiff(values, **options), files.scene()) < 1


@pytest.mark.parametrize("kind", ["16 bits", "alpha"])
def test_lab_tiffs_of_16_bits_or_with_alpha_are_read(kind: str) -> None:
    lab = ImageCms.profileToProfile(
        files.scene(),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    values = np.frombuffer(lab.tobytes("raw", "LAB"), np.uint8).reshape(120, 160, 3)
    if kind == "alpha":
        deep = np.dstack([values, np.full(values.shape[:2], 255, np.uint8)])
        data = tiff(deep, photometric="cielab", extrasamples=["unassalpha"])
    else:
        data = tiff(values.astype(np.uint16) << 8, photometric="cielab")
    assert difference(data, files.scene()) < 2


def test_an_unsupported_tiff_is_refused_with_the_true_reason() -> None:
    data = tiff(np.zeros((64, 64, 4), np.float32), photometric="separated")
    with pytest.raises(PhotoError, match="a TIFF of float32 in CMYK, which is not supported"):
        photo.read_bytes(data, EXACT)


@pytest.mark.parametrize("compression", ["zstd", "lzma", "jpegxl"])
def test_tiffs_of_unusual_compressions_are_read(compression: str) -> None:
    assert difference(tiff(RGB, photometric="rgb", compression=compression), files.scene()) < 2


@pytest.mark.parametrize("format", ["PNG", "WEBP", "HEIF", "AVIF", "JPEG", "TIFF"])
def test_the_orientation_counts_once_in_every_format(format: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned = files.scene().transpose(Image.Transpose.ROTATE_90)
    options = {} if format in ("PNG", "TIFF") else {"quality": 95}
    data = files.saved(turned, format, exif=exif.tobytes(), **options)
    assert photo.read_bytes(data, EXACT).info.width == files.SIZE[0]
    assert difference(data, files.scene()) < 3


def test_a_video_behind_a_jpeg_is_ignored() -> None:
    video = struct.pack(">I", 24) + b"ftypmp42" + bytes(5000)
    jpeg = files.saved(files.scene(), quality=95)
    assert difference(jpeg + video, files.scene()) < 3


@pytest.mark.parametrize("size", [(20_000, 300), (790, 36_861)])
def test_panoramas_are_read_and_previewed(size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "panorama.jpg"
    path.write_bytes(files.saved(files.scene(1, size)))
    info = photo.read(path, EXACT).info
    assert (info.width, info.height) == size
    assert max(Image.open(io.BytesIO(photo.preview(path, 2048))).size) == 2048


@pytest.mark.parametrize("box", [b"wide", b"mdat", b"moov"])
def test_a_quicktime_file_without_its_type_is_called_a_video(box: bytes) -> None:
    with pytest.raises(PhotoError, match="a video"):
        photo.read_bytes(struct.pack(">I", 8) + box + bytes(500) + b"moov", EXACT)


def test_a_jpeg_of_12_bits_is_refused_with_the_true_reason() -> None:
    data = imagecodecs.jpeg_encode(RGB.astype(np.uint16) << 4, bitspersample=12, level=90)
    with pytest.raises(PhotoError, match="a JPEG of 12 bits per channel, which is not supported"):
        photo.read_bytes(data, EXACT)


@pytest.mark.parametrize("declared", [True, False])
def test_a_tiff_whose_first_page_is_a_reduced_copy_is_read_at_full_size(declared: bool) -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        small = np.asarray(files.scene().resize((80, 60)))
        writer.write(small, photometric="rgb", subfiletype=1 if declared else 0)
        writer.write(RGB, photometric="rgb")
    found = photo.read_bytes(out.getvalue(), EXACT)
    assert (found.info.width, found.info.height) == files.SIZE
    assert np.abs(found.pixels.astype(int) - RGB).mean() < 1


def test_pages_that_are_no_copies_do_not_replace_the_first() -> None:
    out = io.BytesIO()
    with tifffile.TiffWriter(out) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(np.zeros((900, 500, 3), np.uint8), photometric="rgb")
    assert photo.read_bytes(out.getvalue(), EXACT).info.width == files.SIZE[0]


# --- broken in a detail ---------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes, *, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum or right)


@pytest.mark.parametrize(
    "bad",
    [
        chunk(b"tEXt", b"Comment\0hello", checksum=1),
        chunk(b"zTXt", b"Comment\0\0no zlib stream"),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(5 * 2**20))),
        chunk(b"iTXt", b"Comment\0\1\0\0\0broken"),
        chunk(b"pHYs", bytes(9), checksum=1),
        chunk(b"eXIf", b"Exif", checksum=1),
    ],
    ids=["checksum", "stream", "bomb", "international", "density", "exif"],
)
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
def test_a_png_with_a_bad_chunk_beside_its_pixels_is_read(bad: bytes, behind: bool) -> None:
    png = files.saved(files.scene(), "PNG")
    at = len(png) - 12 if behind else 33
    data = png[:at] + bad + png[at:]
    found = photo.read_bytes(data, EXACT)
    assert np.array_equal(found.pixels, photo.read_bytes(png, EXACT).pixels)
    assert found.notes == (repair.BAD_CHUNK,)
    assert photo.read_bytes(png, EXACT).notes == ()


@pytest.mark.parametrize("size", [files.SIZE, (1601, 1203)], ids=["small", "reduced"])
@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(
    size: tuple[int, int], progressive: bool, mode: str, tmp_path: Path
) -> None:
    data = files.saved(files.scene(0, size).convert(mode), progressive=progressive, quality=90)
    assert data.endswith(b"\xff\xd9")
    found, whole = photo.read_bytes(data[:-2], EXACT), photo.read_bytes(data, EXACT)
    assert np.abs(found.pixels.astype(int) - whole.pixels).max() <= 2
    assert found.notes == (repair.NO_END,)
    path = tmp_path / "image.jpg"
    path.write_bytes(data[:-1])
    assert photo.preview(path, 100)


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_jpeg_that_lacks_pixels_is_refused(progressive: bool, part: float) -> None:
    if progressive and part > 0.6:
        part = 0.5  # behind it every scan has begun
    data = files.saved(files.scene(0, (640, 480)), progressive=progressive, quality=90)
    with pytest.raises(PhotoError, match="truncated"):
        photo.read_bytes(data[: int(len(data) * part)], EXACT)


def test_jpeg_xl_is_read_with_its_colours() -> None:
    from pillow_jxl import JpegXLImagePlugin

    assert JpegXLImagePlugin
    found = photo.read_bytes(files.saved(files.scene(), "JXL", lossless=True), EXACT)
    assert np.abs(found.pixels.astype(int) - RGB).max() <= 1
    assert found.info.format == "jxl"


def test_the_error_without_the_jxl_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    from pillow_jxl import JpegXLImagePlugin

    assert JpegXLImagePlugin
    data = files.saved(files.scene(), "JXL")
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)  # as if it were not installed
    with pytest.raises(PhotoError, match="JPEG XL needs the extra `jxl`") as caught:
        photo.read_bytes(data, EXACT)
    assert caught.value.transient


def test_formats_that_are_not_supported_are_named() -> None:
    data = files.saved(files.scene(), "JPEG2000")
    with pytest.raises(PhotoError, match="it is JPEG 2000, which is not supported"):
        photo.read_bytes(data, EXACT)


def test_a_run_reports_what_it_ignored_and_left_out(tmp_path: Path, tiny_clip: Path) -> None:
    pictures = files.write(
        tmp_path / "pictures",
        {
            "a.jpg": files.saved(files.scene(), icc_profile=bytes(400)),
            "b.jpg": files.saved(files.scene(1), icc_profile=bytes(400)),
            "c.png": files.saved(files.scene(2), "PNG")[:33]
            + chunk(b"tEXt", b"Comment\0hello", checksum=1)
            + files.saved(files.scene(2), "PNG")[33:],
            "d.psd": b"8BPS",
            "e.psd": b"8BPS",
        },
    )
    (pictures / "secret").mkdir()
    (pictures / "secret" / ".nomedia").touch()
    report = index_folders(tmp_path / "library", pictures, model=str(tiny_clip))
    assert report.added == 3
    notes = "\n".join(report.notes).replace(str(pictures), "")
    assert notes.count(colour.BROKEN) == 1
    assert re.search(rf"^2 images, as /[ab]\.jpg: {colour.BROKEN}$", notes, re.MULTILINE)
    assert f"/c.png: {repair.BAD_CHUNK}" in notes
    assert "2 .psd: not supported" in notes
    assert "folders left out for a .nomedia file: 1 (--include-nomedia)" in notes
