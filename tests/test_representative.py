"""Blank beginnings, transparency and empty images do not make unlike images near-identical."""

from __future__ import annotations

import io
from pathlib import Path

import helpers_photos as files
import numpy as np
import pytest
from PIL import Image, ImageDraw

from sightline.indexer.indexing.index_folders import index_folders
from sightline.indexer.library import Library
from sightline.indexer.photo import photo
from sightline.indexer.photo.pixels import DARK
from sightline.indexer.types import Geometry
from sightline.server.search.duplicate_groups import find_groups

CLIP = Geometry()
SQUARE = Geometry(120, 160, 160, fit="squash")


def animation(frames: list[Image.Image], format: str) -> bytes:
    """An animation of ``frames``."""
    options: dict[str, object] = {"GIF": {}, "PNG": {}}.get(format, {"quality": 95})
    return files.saved(
        frames[0], format, save_all=True, append_images=frames[1:], duration=100, **options
    )


def logo(seed: int, tone: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Shapes of one colour on transparency."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGBA", (240, 240))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.integers(20, 160, 2).tolist()
        draw.rectangle((x, y, x + int(rng.integers(10, 70)), y + 30), fill=(*tone, 255))
    return image


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("blank", ["white", "black"])
def test_an_animation_is_shown_by_its_first_frame_that_is_not_blank(
    format: str, blank: str
) -> None:
    frames = [Image.new("RGB", files.SIZE, blank)] * 2 + [files.scene(1), files.scene(2)]
    frames[1] = Image.new("RGB", files.SIZE, (250, 250, 250) if blank == "white" else (3, 3, 3))
    read = photo.read_bytes(animation(frames, format), SQUARE)
    assert np.abs(read.pixels.astype(int) - np.asarray(files.scene(1))).mean() < 6


def test_an_animation_that_fades_in_is_shown_by_a_frame_with_detail(tmp_path: Path) -> None:
    frames = [Image.blend(Image.new("RGB", files.SIZE), files.scene(1), n / 40) for n in range(41)]
    path = tmp_path / "fade.webp"
    path.write_bytes(animation(frames, "WEBP"))
    read = photo.read(path, SQUARE)
    assert read.pixels.std() >= 9
    shown = np.asarray(Image.open(io.BytesIO(photo.preview(path, 160))).convert("RGB"))
    assert np.abs(shown.astype(int) - read.pixels).mean() < 6


def test_an_animation_of_blank_frames_and_a_corrupt_one_are_still_read() -> None:
    blank = [Image.new("RGB", files.SIZE, (200, n, n)) for n in range(120)]
    assert photo.read_bytes(animation(blank, "GIF"), SQUARE).phash is None
    data = animation([Image.new("RGB", files.SIZE), files.scene(1)], "GIF")
    assert photo.read_bytes(data[: len(data) // 2], SQUARE).phash is None


@pytest.mark.parametrize("tone", [(255, 255, 255), (255, 255, 160), (230, 230, 230)])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_bright_content_on_transparency_is_shown_on_dark(
    tone: tuple[int, int, int], format: str
) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    read = photo.read_bytes(files.saved(logo(1, tone), format, **options), CLIP)
    assert np.abs(read.pixels[0, 0].astype(int) - DARK).max() <= 1
    assert read.pixels.max() >= max(tone) - 3
    assert read.phash is not None


def test_dark_content_on_transparency_is_shown_on_white() -> None:
    read = photo.read_bytes(files.saved(logo(1, (20, 20, 60)), "PNG"), CLIP)
    assert read.pixels[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (300, 200), "white"),
        Image.new("RGB", (300, 200), (12, 90, 200)),
        Image.new("RGBA", (300, 200), (255, 255, 255, 0)),
        Image.linear_gradient("L"),
        Image.fromarray(np.random.default_rng(0).integers(244, 256, (300, 400), dtype=np.uint8)),
    ],
    ids=["white", "blue", "transparent", "gradient", "blank page with noise"],
)
def test_an_image_without_detail_has_no_perceptual_hash(image: Image.Image) -> None:
    assert photo.read_bytes(files.saved(image, "PNG"), CLIP).phash is None


def test_unlike_images_form_no_group(tmp_path: Path, tiny_clip: Path) -> None:
    blank = Image.new("RGB", files.SIZE, "white")
    pictures = files.write(
        tmp_path / "pictures",
        {
            **{
                f"{n}.gif": animation([blank, files.scene(n), files.scene(n + 9)], "GIF")
                for n in range(3)
            },
            **{f"logo{n}.png": files.saved(logo(n), "PNG") for n in range(3)},
            **{f"page{n}.jpg": files.saved(blank, quality=80 + n) for n in range(3)},
            "copy.jpg": files.saved(blank, quality=80),
            "scene.jpg": files.saved(files.scene(20), quality=90),
            "scene again.jpg": files.saved(files.scene(20), quality=80),
        },
    )
    index_folders(tmp_path / "library", pictures, model=str(tiny_clip))
    with Library.open(tmp_path / "library") as library:
        groups = [
            sorted(record.path for record in library.images(group.ids))
            for group in find_groups(library)
        ]
    assert sorted(groups) == [["copy.jpg", "page0.jpg"], ["scene again.jpg", "scene.jpg"]]
