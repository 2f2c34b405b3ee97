"""Pixels equal those of the models' own image processors."""

from __future__ import annotations

from typing import Any

import helpers_photos as files
import numpy as np
import pytest

from sightline.indexer.photo import photo
from sightline.indexer.types import Geometry

SIZES = [(160, 120), (120, 161), (333, 500), (640, 427), (225, 224), (224, 224), (50, 300), (7, 5)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("kind", ["clip", "siglip", "naflex"])
def test_pixels_match_those_of_transformers_image_processors(
    kind: str, size: tuple[int, int]
) -> None:
    from transformers import (
        CLIPImageProcessorPil,
        Siglip2ImageProcessorPil,
        SiglipImageProcessorPil,
    )

    raw: dict[str, Any] = {"do_rescale": False, "do_normalize": False}
    if kind == "clip":
        processor: Any = CLIPImageProcessorPil(**raw)
        geometry = Geometry()
    elif kind == "siglip":
        processor = SiglipImageProcessorPil(**raw)
        geometry = Geometry(fit="squash")
    else:
        processor = Siglip2ImageProcessorPil(**raw)
        geometry = Geometry(fit="patches", resample="bilinear")
    image = files.scene(1, size)
    inputs = processor(images=[image], return_tensors="np")
    expected = inputs["pixel_values"][0]
    if kind == "naflex":
        down, across = inputs["spatial_shapes"][0]
        patches = expected[: down * across].reshape(down, across, 16, 16, 3).swapaxes(1, 2)
        expected = np.moveaxis(patches.reshape(down * 16, across * 16, 3), -1, 0)
    found = photo.read_bytes(files.saved(image, "PNG"), geometry).pixels
    apart = np.abs(np.moveaxis(expected, 0, -1).astype(int) - found.astype(int))
    # Crop and resize in one step round once where the processor rounds twice.
    assert apart.max() <= 2
    assert apart.mean() < 0.05
