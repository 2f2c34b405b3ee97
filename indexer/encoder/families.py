"""The supported families of CLIP-like models, by ``model_type`` of their ``config.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.indexer.encoder import open_clip
from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    from sightline.indexer.encoder.weights import Weights

TRANSFORMERS_CLASSES = {
    "clip": ("clip", "CLIP"),
    "metaclip_2": ("metaclip_2", "MetaClip2"),
    "siglip": ("siglip", "Siglip"),
    "siglip2": ("siglip2", "Siglip2"),
    "chinese_clip": ("chinese_clip", "ChineseCLIP"),
    "altclip": ("altclip", "AltCLIP"),
    "vision-text-dual-encoder": ("vision_text_dual_encoder", "VisionTextDualEncoder"),
}
"""transformers' module of each family, and the prefix of its classes."""

OWN_FAMILY = "sightline-dual-encoder"
"""The built-in model's: EfficientNet-Lite and a bag of word pieces, which transformers lacks."""

SIGLIP_FAMILIES = frozenset({"siglip", "siglip2"})
"""Trained with a sigmoid loss per pair; the others with a softmax over a batch. SigLIP 2 of a fixed
size is of the family ``siglip``; ``siglip2`` is NaFlex, which takes images of any shape."""


def require_supported(files: ModelFiles) -> None:
    """Raises ``ModelError`` for a model of another family."""
    if files.family in (*TRANSFORMERS_CLASSES, OWN_FAMILY, open_clip.FAMILY):
        return
    raise ModelError(
        f"{files.id} is of the family {files.family!r}, which is not supported: use a model of one "
        f"of {', '.join(sorted([*TRANSFORMERS_CLASSES, OWN_FAMILY]))}"
    )


def embedding_dimension(files: ModelFiles, weights: Weights) -> int:
    """The dimension of the embeddings, from the shape of the projection."""
    if files.family == open_clip.FAMILY and isinstance(files.config["projection_dim"], int):
        return files.config["projection_dim"]
    for name in ("visual_projection.weight", "text_projection.weight", "text_model.head.weight"):
        shape = weights.shape(name)
        if shape:
            return shape[0]
    raise ModelError(
        f"the weights of {files.id} have no projection into a common space for texts and images: "
        "they are not those of a whole CLIP-family model"
    )
