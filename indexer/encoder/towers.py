"""The two halves of a CLIP-family model, each loaded alone: pictures or text to raw embeddings.

Most towers are built from ``model_transformer`` and ``model_resnet``, which need torch only. What
is not written there (XLM-RoBERTa, whatever else a dual encoder may be made of) is transformers'
own: the whole model built without memory (torch's meta device), stripped of the other half, and
given its own weights from the files. Either way a server that only answers text queries holds the
text tower and nothing else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Literal

import torch

from sightline.indexer.encoder import resnet
from sightline.indexer.encoder import transformer as plain
from sightline.indexer.encoder.families import CLASSES
from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError

Half = Literal["text", "image"]

TextTower = Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]
"""Token ids ``(n, t) int64`` and their mask (or None) to raw embeddings ``(n, d)``."""

ImageTower = Callable[[torch.Tensor], torch.Tensor]
"""Normalised pixels ``(n, height, width, 3)`` to raw embeddings ``(n, d)``."""


def load_text(
    files: ModelFiles, weights: Weights, *, device: torch.device, dtype: torch.dtype
) -> TextTower:
    """The text tower with its weights. Raises ``ModelError`` where one is missing."""
    source = plain.Source(weights, "", device, dtype)
    section = _section(files, "text_config")
    if files.family in ("clip", "metaclip_2"):
        shape = _shape(section, heads=8, activation="quick_gelu", eps=1e-5)
        end = section.get("eos_token_id", 49407)
        if shape and isinstance(end, int):
            # The first CLIP configurations name a wrong end mark, 2. transformers then pools at
            # the highest id; MetaCLIP 2's end mark really is 2.
            legacy = files.family == "clip" and end == 2
            return plain.VitText(source, shape, end=-1 if legacy else end)
    if files.family == "siglip":
        shape = _shape(section, heads=12, activation="gelu_pytorch_tanh", eps=1e-6)
        if shape:
            return plain.VitText(source, shape, end=None)
    dual = files.family == "vision-text-dual-encoder" and section.get("model_type") == "bert"
    if files.family == "chinese_clip" or dual:
        shape = _shape(section, heads=12, activation="gelu", eps=1e-12)
        if shape:
            return plain.BertText(source, shape, pooler=dual)
    return _TransformersText(_half(files, weights, "text", device=device, dtype=dtype))


def load_image(
    files: ModelFiles,
    weights: Weights,
    *,
    size: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
) -> ImageTower:
    """The image tower with its weights, for pictures of ``size`` (height, width). Raises
    ``ModelError`` where a weight is missing or the size is not the model's."""
    section = _section(files, "vision_config")
    activation, eps = "quick_gelu", 1e-5
    known = files.family in ("clip", "metaclip_2", "chinese_clip", "altclip")
    if files.family == "siglip":
        activation, eps = "gelu_pytorch_tanh", 1e-6
        known = bool(section.get("vision_use_head", True))
    shape = _shape(section, heads=12, activation=activation, eps=eps) if known else None
    if shape:
        return plain.VitImage(plain.Source(weights, "", device, dtype), shape, size)
    if files.family == "vision-text-dual-encoder" and resnet.readable(section):
        return resnet.ResNetImage(plain.Source(weights, "", device, dtype), section)
    return _TransformersImage(_half(files, weights, "image", device=device, dtype=dtype))


def scalar(weights: Weights, name: str) -> float | None:
    """A single number among the weights, None where there is none."""
    if weights.shape(name) is None:
        return None
    return float(weights.read([name])[name].float().reshape(-1)[0])


def _section(files: ModelFiles, name: str) -> dict[str, Any]:
    """One tower's part of the configuration. Early files repeat it under another name, which wins
    in transformers."""
    found = files.config.get(f"{name}_dict") or files.config.get(name) or {}
    return found if isinstance(found, dict) else {}


def _shape(
    section: dict[str, Any], *, heads: int, activation: str, eps: float
) -> plain.Shape | None:
    """What the configuration says of the layers, with the family's own values where it is silent;
    None for an activation that is not written here."""
    name = plain.ACTIVATIONS.get(section.get("hidden_act", activation))
    if name is None or section.get("position_embedding_type", "absolute") != "absolute":
        return None
    return plain.Shape(
        layers=int(section.get("num_hidden_layers", 12)),
        heads=int(section.get("num_attention_heads", heads)),
        activation=name,
        eps=float(section.get("layer_norm_eps", eps)),
    )


# --- transformers' own modules -------------------------------------------------------------------

PARTS: dict[Half, tuple[str, str]] = {
    "text": ("text_model", "text_projection"),
    "image": ("vision_model", "visual_projection"),
}
"""What transformers calls the halves, in every family of this kind."""


class _TransformersText:
    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        device = self.model.device
        seen = mask.to(device) if mask is not None else None
        return self.model.get_text_features(ids.to(device), attention_mask=seen).pooler_output


class _TransformersImage:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.dual = hasattr(model, "visual_projection")

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        seen = self.model.vision_model(pixel_values=pixels.permute(0, 3, 1, 2)).pooler_output
        # Convolutional models pool to (n, channels, 1, 1).
        seen = seen.flatten(1)
        return self.model.visual_projection(seen) if self.dual else seen


def _half(
    files: ModelFiles, weights: Weights, half: Half, *, device: torch.device, dtype: torch.dtype
) -> Any:
    """One half of transformers' model with its weights."""
    with torch.device("meta"):
        model = _model_class(files)(_config(files))
    for name in PARTS["image" if half == "text" else "text"]:
        if hasattr(model, name):
            delattr(model, name)
    for name in ("logit_scale", "logit_bias"):
        if hasattr(model, name):
            delattr(model, name)
    tensors = weights.read(list(model.state_dict()))
    for name, tensor in tensors.items():
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.to(device, kind, copy=True)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {files.id} do not fit its config.json: {_second_line(error)}"
        ) from error
    _fill_buffers(model, device)
    return model.eval().requires_grad_(False)


def _config(files: ModelFiles) -> Any:
    module, prefix = CLASSES[files.family]
    package = importlib.import_module(f"transformers.models.{module}.configuration_{module}")
    try:
        return getattr(package, f"{prefix}Config").from_dict(files.config)
    except Exception as error:  # strict configurations raise their own kinds
        raise ModelError(f"config.json of {files.id} is wrong: {error}") from error


def _model_class(files: ModelFiles) -> Any:
    module, prefix = CLASSES[files.family]
    package = importlib.import_module(f"transformers.models.{module}.modeling_{module}")
    return getattr(package, f"{prefix}Model")


def _fill_buffers(model: torch.nn.Module, device: torch.device) -> None:
    """Makes the few tensors that no file holds because they follow from their shape."""
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


def _second_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)]
