"""The families of CLIP-like models that Sightline knows, and what is true of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    from sightline.indexer.encoder.weights import Weights

CLASSES = {
    "clip": ("clip", "CLIP"),
    "metaclip_2": ("metaclip_2", "MetaClip2"),
    "siglip": ("siglip", "Siglip"),
    "chinese_clip": ("chinese_clip", "ChineseCLIP"),
    "altclip": ("altclip", "AltCLIP"),
    "vision-text-dual-encoder": ("vision_text_dual_encoder", "VisionTextDualEncoder"),
}
"""By ``model_type``: transformers' module of the architecture, and how its classes begin."""

SIGMOID = frozenset({"siglip"})
"""Trained with a sigmoid for each pair; the others with a softmax over a batch."""


def check(files: ModelFiles) -> None:
    """Raises ``ModelError`` for an architecture that is not one of these."""
    if files.family in CLASSES:
        return
    if files.family == "siglip2":
        raise ModelError(
            f"{files.id} is a NaFlex model, which takes pictures of any shape: use a SigLIP 2 "
            "model of a fixed size (siglip2-b16, siglip2-b32)"
        )
    raise ModelError(
        f"{files.id} is of the family {files.family!r}, which Sightline does not know: it knows "
        f"{', '.join(sorted(CLASSES))}"
    )


def dimension(files: ModelFiles, weights: Weights) -> int:
    """Of the embeddings, from the shape of the last layer."""
    for name in ("visual_projection.weight", "text_projection.weight", "text_model.head.weight"):
        shape = weights.shape(name)
        if shape:
            return shape[0]
    raise ModelError(
        f"the weights of {files.id} have no layer into a common space for text and pictures: "
        "they are not those of a whole CLIP-family model"
    )
