"""The two halves of a CLIP-family model, each loaded alone: pictures or text to raw embeddings.

A tower is the whole model built without memory (torch's meta device), stripped of the other half,
and given its own weights from the files. So a server that only answers text queries holds the text
tower and nothing else, whatever the family.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal

import torch

from indexer.errors import ModelError
from indexer.model_families import CLASSES
from indexer.model_files import ModelFiles
from indexer.model_weights import Weights

if TYPE_CHECKING:
    from indexer.model_text import Tokens

Half = Literal["text", "image"]

PARTS: dict[Half, tuple[str, str]] = {
    "text": ("text_model", "text_projection"),
    "image": ("vision_model", "visual_projection"),
}
"""What transformers calls the halves, in every family of this kind."""


class Tower(torch.nn.Module):
    """One half of a model: what it takes in, raw (not yet normalised) embeddings out."""

    def __init__(self, model: torch.nn.Module, *, family: str) -> None:
        super().__init__()
        self.model = model
        self.family = family

    def text(self, tokens: Tokens) -> torch.Tensor:
        """Token ids to ``(n, d)``."""
        features = self.model.get_text_features(  # type: ignore[operator]
            input_ids=tokens.ids, attention_mask=tokens.mask
        )
        return features.pooler_output

    def images(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, 3, height, width)`` to ``(n, d)``."""
        if self.family == "vision-text-dual-encoder":
            # Convolutional vision models pool to (n, channels, 1, 1).
            seen = self.model.vision_model(pixel_values=pixels)  # type: ignore[operator]
            return self.model.visual_projection(seen.pooler_output.flatten(1))  # type: ignore[operator]
        return self.model.get_image_features(pixel_values=pixels).pooler_output  # type: ignore[operator]


def load(
    files: ModelFiles,
    weights: Weights,
    half: Half,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tower:
    """Builds one half of the model and reads its weights, and no others."""
    config = _config(files)
    with torch.device("meta"):
        model = _model_class(files)(config)
    other: Half = "image" if half == "text" else "text"
    for name in PARTS[other]:
        if hasattr(model, name):
            delattr(model, name)
    wanted = [name for name in model.state_dict() if name not in ("logit_scale", "logit_bias")]
    tensors = {
        name: tensor.to(
            device=device, dtype=dtype if tensor.is_floating_point() else None, copy=True
        )
        for name, tensor in weights.read(wanted).items()
    }
    try:
        model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"the weights of {files.id} do not fit its config.json: {_second_line(error)}"
        ) from error
    for name in ("logit_scale", "logit_bias"):
        if hasattr(model, name):
            delattr(model, name)
    _fill_buffers(model, device)
    return Tower(model.eval().requires_grad_(False), family=files.family)


def scalar(weights: Weights, name: str) -> float | None:
    """A single number among the weights, None where there is none."""
    if weights.shape(name) is None:
        return None
    return float(weights.read([name])[name].float().reshape(-1)[0])


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
