"""Reads ``preprocessor_config.json``: how images are resized, cropped and normalised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Geometry

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

PILLOW_FILTERS: dict[int, Literal["bicubic", "bilinear", "lanczos"]] = {
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}

CLIP_DEFAULTS: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": OPENAI_MEAN,
    "image_std": OPENAI_STD,
}
SQUARE_DEFAULTS: dict[str, Any] = {
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "resample": 3,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
NAFLEX_DEFAULTS: dict[str, Any] = {
    "patch_size": 16,
    "max_num_patches": 256,
    "resample": 2,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": CLIP_DEFAULTS,
    "ChineseCLIP": CLIP_DEFAULTS,
    "Siglip": SQUARE_DEFAULTS,
    "Siglip2": NAFLEX_DEFAULTS,
    "ViT": {**SQUARE_DEFAULTS, "resample": 2},
}
"""Defaults of transformers' image processors, by the prefix of their class."""


@dataclass(frozen=True)
class Preprocessing:
    """A model's geometry, and its normalisation: ``byte * scale + shift`` per channel."""

    geometry: Geometry
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]


def read_preprocessing(files: ModelFiles) -> Preprocessing:
    """Reads the preprocessor configuration. Raises ``ModelError`` if it is not supported."""
    found = files.preprocessor
    kind = str(found.get("image_processor_type") or found.get("feature_extractor_type") or "CLIP")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    if kind not in DEFAULTS and not {"size", "image_mean", "image_std"} <= found.keys():
        raise ModelError(f"{files.id} prepares images by {kind}, which is not supported")
    config = {**DEFAULTS.get(kind, SQUARE_DEFAULTS), **found}
    mean = _three(config["image_mean"]) if config.get("do_normalize", True) else (0.0,) * 3
    std = _three(config["image_std"]) if config.get("do_normalize", True) else (1.0,) * 3
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    return Preprocessing(
        geometry=_geometry(config, files, square=kind in ("Siglip", "ViT")),
        scale=_three([factor / s for s in std]),
        shift=_three([-m / s for m, s in zip(mean, std, strict=True)]),
    )


def _geometry(config: dict[str, Any], files: ModelFiles, *, square: bool) -> Geometry:
    """``square`` tells what a size given as one number means: a square, or the shortest edge."""
    resample = PILLOW_FILTERS.get(config["resample"])
    if resample is None:
        raise ModelError(
            f"{files.id} resizes images by Pillow's filter {config['resample']}, which is not "
            "supported"
        )
    if "max_num_patches" in config:
        patch, most = int(config["patch_size"]), int(config["max_num_patches"])
        if patch < 1 or most < 1:
            raise ModelError(f"{files.id} takes {most} patches of {patch} pixels: not supported")
        side = math.isqrt(most) * patch
        return Geometry(side, side, side, "patches", resample, patch, most)
    size, crop = config["size"], config.get("crop_size")
    if isinstance(size, int):  # before transformers 4.23
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    if not config.get("do_center_crop"):
        crop = None
    if "shortest_edge" in size:
        if crop:
            height, width = int(crop["height"]), int(crop["width"])
        else:
            expected = (files.config.get("vision_config") or {}).get("image_size", 224)
            height, width = (expected, expected) if isinstance(expected, int) else expected
        return Geometry(int(height), int(width), int(size["shortest_edge"]), "crop", resample)
    if "height" not in size or "width" not in size:
        raise ModelError(f"{files.id} resizes images to {size}, which is not supported")
    height, width = int(size["height"]), int(size["width"])
    if crop and (crop["height"], crop["width"]) != (height, width):
        raise ModelError(f"{files.id} squashes images and then crops them: not supported")
    return Geometry(height, width, height, "squash", resample)


def _three(values: Any) -> tuple[float, float, float]:
    if not isinstance(values, (list, tuple)) or len(values) != 3:
        raise ModelError(f"a preprocessor configuration has {values!r} where three numbers belong")
    return float(values[0]), float(values[1]), float(values[2])
