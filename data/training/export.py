"""Writes the trained model as a folder that ``Encoder`` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from sightline.data.training import features
from sightline.data.training.network import DIMENSION, MAX_TOKENS, BagOfWordpieces
from sightline.indexer.encoder import families

PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"height": features.SIDE, "width": features.SIDE},
    "resample": 3,
    "do_center_crop": False,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [features.MEAN / 255] * 3,
    "image_std": [features.STD / 255] * 3,
}
"""Squeezed to a square of 224 pixels, then ``(value - 127) / 128``."""


def export(
    to: Path, state: dict[str, Tensor], tokenizer: Tokenizer, *, width: float, depth: float
) -> None:
    """``state`` has the parameters of ``EfficientNetLite`` below ``vision_model.``, those of
    ``BagOfWordpieces`` below ``text_model.``, ``visual_projection.weight`` and ``.bias`` over the
    pooled features, and ``logit_scale``. Everything is written in float16.
    """
    to.mkdir(parents=True, exist_ok=True)
    half = {name: tensor.detach().half().contiguous() for name, tensor in state.items()}
    save_file(half, to / "model.safetensors", metadata={"format": "pt"})
    (to / "model.safetensors").chmod(0o644)
    config = {
        "model_type": families.OWN_FAMILY,
        "projection_dim": DIMENSION,
        "vision_config": {
            "model_type": "efficientnet_lite",
            "image_size": features.SIDE,
            "width_multiplier": width,
            "depth_multiplier": depth,
        },
        "text_config": {
            "model_type": "bag_of_wordpieces",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": BagOfWordpieces.WIDTH,
            "num_hidden_layers": BagOfWordpieces.LAYERS,
            "num_attention_heads": BagOfWordpieces.HEADS,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-5,
            "max_position_embeddings": MAX_TOKENS,
        },
    }
    _write(to / "config.json", config)
    _write(to / "preprocessor_config.json", PREPROCESSING)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(to / "tokenizer.json"))
    marks = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}
    kind = {"tokenizer_class": "BertTokenizer", "model_max_length": MAX_TOKENS}
    _write(to / "tokenizer_config.json", {**kind, "do_lower_case": True, **marks})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def logit_scale(value: float) -> Tensor:
    """The factor between cosines and logits, as the file format has it: its logarithm."""
    return torch.tensor(value).log()
