"""Loads one tower of a CLIP-family model: the text tower or the image tower.

Most towers are those of ``transformer``, ``resnet``, ``efficientnet_lite`` and
``bag_of_wordpieces``, which need torch only. The others
(XLM-RoBERTa, other dual encoders) are transformers' modules, built on torch's meta device without
the other tower. Only the weights of the tower that is loaded are read.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import torch

from sightline.indexer.encoder import efficientnet_lite, open_clip, resnet
from sightline.indexer.encoder.bag_of_wordpieces import BagOfWordpiecesTower
from sightline.indexer.encoder.families import (
    OWN_FAMILY,
    SIGLIP_FAMILIES,
    TRANSFORMERS_CLASSES,
)
from sightline.indexer.encoder.layers import Source, int8_levels
from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.encoder.tower_config import (
    LayerConfig,
    bag_of_wordpieces_config,
    clip_text_config,
    layer_config,
    tower_config,
)
from sightline.indexer.encoder.transformer import BertTextTower, ClipTextTower, VitImageTower
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Geometry

Modality = Literal["text", "image"]

TextTower = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Token ids ``(n, t) int64`` and their mask or None -> unnormalised embeddings ``(n, d)``."""

ImageTower = Callable[[torch.Tensor], torch.Tensor]
"""Normalised pixels ``(n, height, width, 3)`` -> unnormalised embeddings ``(n, d)``."""

CONVOLUTIONAL_TOWERS: dict[
    str, tuple[Callable[[dict[str, Any]], bool], Callable[[Source, dict[str, Any]], ImageTower]]
] = {
    "efficientnet_lite": (
        efficientnet_lite.is_supported,
        efficientnet_lite.EfficientNetLiteImageTower,
    ),
    "resnet": (resnet.is_supported, resnet.ResNetImageTower),
}
"""Image towers of dual encoders, by ``model_type`` of the ``vision_config``: whether the tower
supports that configuration, and its class."""


def load_text_tower(
    files: ModelFiles, weights: Weights, *, device: torch.device, dtype: torch.dtype
) -> TextTower:
    """The text tower with its weights. Raises ``ModelError`` if a weight is missing."""
    if files.family == open_clip.FAMILY:
        from sightline.indexer.encoder.open_clip_towers import OpenClipTextTower

        return OpenClipTextTower(files, device, dtype)
    source = Source(weights, device, dtype)
    if clip := clip_text_config(files):
        return ClipTextTower(source, clip)
    config = tower_config(files, "text_config")
    dual = files.family == "vision-text-dual-encoder" and config.get("model_type") == "bert"
    if files.family == "chinese_clip" or dual:
        layers = layer_config(config, heads=12, activation="gelu", eps=1e-12)
        if layers:
            return BertTextTower(source, layers, pooler=dual)
    if files.family == OWN_FAMILY:
        if own := bag_of_wordpieces_config(files):
            # Small enough for float32 everywhere: all doors give the same scores.
            return BagOfWordpiecesTower(Source(weights, device, torch.float32), own)
        raise _unsupported_tower(files, "text_config")
    return _TransformersTextTower(
        _load_transformers(files, weights, "text", device=device, dtype=dtype)
    )


def load_image_tower(
    files: ModelFiles,
    weights: Weights,
    *,
    geometry: Geometry,
    device: torch.device,
    dtype: torch.dtype,
    int8: bool = False,
) -> ImageTower:
    """The image tower with its weights, for images of ``geometry``. ``int8``: with products in int8
    of float32 inputs and outputs.

    Raises ``ModelError`` if a weight is missing, the geometry is not the model's, or the model has
    no int8.
    """
    if int8 and not has_int8(files):
        raise ModelError(
            f"{files.id} does not run in int8, which is for vision transformers that Sightline"
            " computes itself: use --dtype auto"
        )
    if files.family == open_clip.FAMILY:
        from sightline.indexer.encoder.open_clip_towers import OpenClipImageTower

        return OpenClipImageTower(files, device, dtype)
    source = Source(weights, device, dtype)
    config = tower_config(files, "vision_config")
    if layers := _vit_config(files):
        return VitImageTower(source, layers, geometry=geometry, int8=int8)
    if files.family in ("vision-text-dual-encoder", OWN_FAMILY):
        known = CONVOLUTIONAL_TOWERS.get(str(config.get("model_type")))
        if known:
            is_supported, tower = known
            if is_supported(config):
                return tower(source, config)
    # transformers' module of NaFlex takes patches, not images.
    if files.family in (OWN_FAMILY, "siglip2"):
        raise _unsupported_tower(files, "vision_config")
    return _TransformersImageTower(
        _load_transformers(files, weights, "image", device=device, dtype=dtype)
    )


def has_int8(files: ModelFiles) -> bool:
    """Whether the image tower can multiply in int8 on this CPU."""
    return int8_levels() > 0 and _vit_config(files) is not None


def _vit_config(files: ModelFiles) -> LayerConfig | None:
    """The layers of ``VitImageTower``; None if that is not the model's image tower."""
    config = tower_config(files, "vision_config")
    if files.family in ("clip", "metaclip_2", "chinese_clip", "altclip"):
        return layer_config(config, heads=12, activation="quick_gelu", eps=1e-5)
    if files.family in SIGLIP_FAMILIES and config.get("vision_use_head", True):
        return layer_config(config, heads=12, activation="gelu_pytorch_tanh", eps=1e-6)
    return None


def _unsupported_tower(files: ModelFiles, name: str) -> ModelError:
    return ModelError(
        f"{files.id}: the {name} in config.json is not that of a supported tower of the family "
        f"{files.family!r}: use the file that belongs to these weights"
    )


# --- transformers' own modules -------------------------------------------------------------------

TRANSFORMERS_PARTS: dict[Modality, tuple[str, str]] = {
    "text": ("text_model", "text_projection"),
    "image": ("vision_model", "visual_projection"),
}
"""Attributes of a transformers model that hold each tower, in every family."""


class _TransformersTextTower:
    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        device = self.model.device
        mask = mask.to(device) if mask is not None else None
        return self.model.get_text_features(ids.to(device), attention_mask=mask).pooler_output


class _TransformersImageTower:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.has_projection = hasattr(model, "visual_projection")

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = self.model.vision_model(pixel_values=pixels.permute(0, 3, 1, 2)).pooler_output
        # Convolutional models pool to (n, channels, 1, 1).
        pooled = pooled.flatten(1)
        return self.model.visual_projection(pooled) if self.has_projection else pooled


def _load_transformers(
    files: ModelFiles,
    weights: Weights,
    modality: Modality,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    """transformers' model without the other tower, with its weights."""
    module, prefix = TRANSFORMERS_CLASSES[files.family]
    with torch.device("meta"):
        model_class = _transformers_class(f"{module}.modeling_{module}", f"{prefix}Model")
        model = model_class(_transformers_config(files))
    other: Modality = "image" if modality == "text" else "text"
    for name in (*TRANSFORMERS_PARTS[other], "logit_scale", "logit_bias"):
        if hasattr(model, name):
            delattr(model, name)
    tensors = weights.read(list(model.state_dict()))
    for name, tensor in tensors.items():
        target = dtype if tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.to(device, target, copy=True)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = lines[min(1, len(lines) - 1)]  # the first line names the class only
        raise ModelError(
            f"the weights of {files.id} do not fit its config.json: {reason}"
        ) from error
    _fill_buffers(model, device)
    return model.eval().requires_grad_(False)


def _transformers_config(files: ModelFiles) -> Any:
    module, prefix = TRANSFORMERS_CLASSES[files.family]
    config_class = _transformers_class(f"{module}.configuration_{module}", f"{prefix}Config")
    try:
        return config_class.from_dict(files.config)
    except Exception as error:  # strict configurations raise their own kinds
        raise ModelError(f"config.json of {files.id} is wrong: {error}") from error


def _transformers_class(module: str, name: str) -> Any:
    return getattr(importlib.import_module(f"transformers.models.{module}"), name)


def _fill_buffers(model: torch.nn.Module, device: torch.device) -> None:
    """Creates the buffers that checkpoints leave out because their shape determines them."""
    for owner in model.modules():
        for name, buffer in list(owner.named_buffers(recurse=False)):
            if not buffer.is_meta:
                continue
            if name == "position_ids":
                filled = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
            elif name == "token_type_ids":
                filled = torch.zeros(buffer.shape, dtype=torch.long, device=device)
            else:
                raise ModelError(f"{type(owner).__name__} needs {name}, which no file holds")
            owner.register_buffer(name, filled, persistent=False)
