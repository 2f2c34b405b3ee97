"""What ``config.json`` says about the towers of a model, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sightline.indexer.encoder.families import OWN_FAMILY, SIGLIP_FAMILIES
from sightline.indexer.encoder.model_files import ModelFiles

Activation = Literal["none", "gelu", "gelu_tanh", "silu", "tanh"]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "quick_gelu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
"""By transformers' name. CLIP's quick GELU is ``x sigmoid(1.702 x) = silu(1.702 x) / 1.702``."""

SILU_FACTOR = 1.702

SPECIAL_TOKENS = 5
"""Ids of the built-in model below this are [PAD], [UNK], [CLS], [SEP] and [MASK], which are not in
its bag of word pieces."""

END_ID = 49407
"""Of CLIP's end token, where ``config.json`` does not name it."""


@dataclass(frozen=True)
class LayerConfig:
    """What the transformer layers of a tower have in common, beyond the shapes of their weights."""

    layers: int
    heads: int
    activation: Activation
    eps: float
    """Of the layer normalisations."""


@dataclass(frozen=True)
class ClipTextConfig:
    """The text tower of CLIP, MetaCLIP and SigLIP."""

    layers: LayerConfig
    end_id: int | None
    """The tower is causal and pools at the first token of this id (-1: at the highest id, as the
    first CLIP did). With None it is bidirectional and pools at the last position."""


def tower_config(files: ModelFiles, name: str) -> dict[str, Any]:
    """``text_config`` or ``vision_config``. Early files also have ``text_config_dict``, to which
    transformers gives precedence."""
    found = files.config.get(f"{name}_dict") or files.config.get(name) or {}
    return found if isinstance(found, dict) else {}


def layer_config(
    config: dict[str, Any], *, heads: int, activation: str, eps: float
) -> LayerConfig | None:
    """The layers' configuration, with the family's defaults; None for what our towers lack: another
    activation, or relative positions."""
    name = ACTIVATIONS.get(config.get("hidden_act", activation))
    if name is None or config.get("position_embedding_type", "absolute") != "absolute":
        return None
    return LayerConfig(
        layers=int(config.get("num_hidden_layers", 12)),
        heads=int(config.get("num_attention_heads", heads)),
        activation=name,
        eps=float(config.get("layer_norm_eps", eps)),
    )


def clip_text_config(files: ModelFiles) -> ClipTextConfig | None:
    """The text tower of CLIP, MetaCLIP and SigLIP; None for another architecture."""
    config = tower_config(files, "text_config")
    if files.family in ("clip", "metaclip_2"):
        layers = layer_config(config, heads=8, activation="quick_gelu", eps=1e-5)
        end_id = config.get("eos_token_id", END_ID)
        if layers and isinstance(end_id, int):
            # The first CLIP configurations give a wrong end id, 2, for which transformers pools at
            # the highest id. MetaCLIP 2's end id really is 2.
            legacy = files.family == "clip" and end_id == 2
            return ClipTextConfig(layers, -1 if legacy else end_id)
    if files.family in SIGLIP_FAMILIES:
        layers = layer_config(config, heads=12, activation="gelu_pytorch_tanh", eps=1e-6)
        if layers:
            return ClipTextConfig(layers, None)
    return None


def bag_of_wordpieces_config(files: ModelFiles) -> LayerConfig | None:
    """The transformer layers of the built-in model's text tower; None for another architecture."""
    config = tower_config(files, "text_config")
    if files.family == OWN_FAMILY and config.get("model_type") == "bag_of_wordpieces":
        return layer_config(config, heads=4, activation="gelu", eps=1e-5)
    return None
