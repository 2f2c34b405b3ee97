"""Models in OpenCLIP's format: ``open_clip_config.json`` with ``open_clip_model.safetensors``.

A ViT with CLIP's or SigLIP's layout is read by our own towers: its configuration is translated to
that of transformers here, and its tensors are found under transformers' names. Every other
architecture is computed by the package ``open_clip_torch`` (``open_clip_towers``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.encoder.weights import Table, Weights
from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    import torch

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
FAMILY = "open_clip"
"""``model_type`` of what only ``open_clip_torch`` computes."""

VISION = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"}
"""Keys of ``vision_cfg`` that the towers of ``transformer`` take; other keys may have only the
values in ``IGNORED``."""
TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "norm_kwargs"}
IGNORED = {
    "patch_dropout": None,  # of the training
    "output_tokens": None,
    "timm_model_pretrained": None,
    "hf_tokenizer_name": None,
    "tokenizer_kwargs": None,
    "pad_id": 0,
    "pool_type": "argmax",
    "proj_type": "linear",
}
"""Keys without an effect on the embeddings of these towers: with any value (None), or with one."""

TIMM_SIGLIP = re.compile(r"vit_(base|large|so400m)_patch(\d+)_siglip_\d+")
TIMM_SIZES = {"base": (768, 12, 12), "large": (1024, 24, 16), "so400m": (1152, 27, 16)}
"""Width, layers and heads of timm's SigLIP image towers."""

RESAMPLE = {"bicubic": 3, "bilinear": 2}


def translate(config: dict[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """``open_clip_config.json`` as transformers' ``config.json`` and ``preprocessor_config.json``.

    ``model_type`` is ``clip`` or ``siglip``, or ``FAMILY`` for another architecture. ``ModelError``
    for a file that lacks what every model has.
    """
    model, preprocess = config.get("model_cfg"), config.get("preprocess_cfg") or {}
    if not isinstance(model, dict) or not isinstance(preprocess, dict):
        raise ModelError(f"{name}: {CONFIG} names no model_cfg")
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise ModelError(f"{name}: {CONFIG} names no vision_cfg and text_cfg")
    size = preprocess.get("size") or vision.get("image_size", 224)
    size = size[-1] if isinstance(size, list) and len(set(size[-2:])) == 1 else size
    if not isinstance(size, int):
        raise ModelError(f"{name} takes images of {size} pixels, which is not supported")
    translated = _clip(model, vision, text) or _siglip(vision, text) or {"model_type": FAMILY}
    translated["projection_dim"] = model.get("embed_dim")
    return translated, _preprocessor(preprocess, size, name)


def _clip(
    model: dict[str, Any], vision: dict[str, Any], text: dict[str, Any]
) -> dict[str, Any] | None:
    """The configuration of a ViT with CLIP's layout, or None."""
    if not (_only(vision, VISION) and _only(text, TEXT)) or not _is_count(vision.get("layers", 12)):
        return None
    activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
    width = vision.get("width", 768)
    return {
        "model_type": "clip",
        "vision_config": {
            "num_hidden_layers": vision.get("layers", 12),
            "num_attention_heads": width // vision.get("head_width", 64),
            "hidden_act": activation,
            "image_size": vision.get("image_size", 224),
        },
        "text_config": {
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 8),
            "hidden_act": activation,
            "layer_norm_eps": _eps(text, 1e-5),
            # OpenCLIP pools at the highest id, which is the end token's.
            "eos_token_id": 2,
        },
    }


def _siglip(vision: dict[str, Any], text: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration of a ViT with SigLIP's layout, or None."""
    image = TIMM_SIGLIP.fullmatch(str(vision.get("timm_model_name")))
    fixed = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last"}
    rest = {key: value for key, value in text.items() if key not in {*fixed, "act_kwargs"}}
    if (
        image is None
        or vision.get("timm_pool") != "map"
        or vision.get("timm_proj") != "none"
        or not _only(rest, TEXT)
        or any(text.get(key) != value for key, value in fixed.items())
    ):
        return None
    _, layers, heads = TIMM_SIZES[image[1]]
    tanh = (text.get("act_kwargs") or {}).get("approximate") == "tanh"
    cleaning = (text.get("tokenizer_kwargs") or {}).get("clean")
    return {
        "model_type": "siglip",
        "vision_config": {
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
        },
        "text_config": {
            "num_hidden_layers": text.get("layers", 12),
            "num_attention_heads": text.get("heads", 12),
            "hidden_act": "gelu_pytorch_tanh" if tanh else "gelu",
            "layer_norm_eps": _eps(text, 1e-5),
            "without_punctuation": cleaning == "canonicalize",
        },
    }


def _only(config: dict[str, Any], known: set[str]) -> bool:
    return all(
        key in known or value in (None, False) or (key in IGNORED and IGNORED[key] in (None, value))
        for key, value in config.items()
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value > 0


def _eps(config: dict[str, Any], default: float) -> float:
    return float((config.get("norm_kwargs") or {}).get("eps", default))


def _preprocessor(preprocess: dict[str, Any], size: int, name: str) -> dict[str, Any]:
    mode = preprocess.get("resize_mode") or "shortest"
    if mode not in ("shortest", "squash"):
        raise ModelError(f"{name} resizes images by {mode!r}, which is not supported")
    crop = mode == "shortest"
    given = {"image_mean": preprocess.get("mean"), "image_std": preprocess.get("std")}
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size} if crop else {"height": size, "width": size},
        "do_center_crop": crop,
        "crop_size": {"height": size, "width": size},
        "resample": RESAMPLE.get(preprocess.get("interpolation") or "bicubic"),
        # Without them ``preprocessing`` takes CLIP's.
        **{name: values for name, values in given.items() if values},
    }


# --- tensors -------------------------------------------------------------------------------------

_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TIMM_LAYER = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "self_attn.out_proj": "attn.proj",
}
_CLIP_VISION = {
    "embeddings.patch_embedding": "conv1",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
}
_TIMM_VISION = {
    "embeddings.patch_embedding": "patch_embed.proj",
    "post_layernorm": "norm",
    "head.probe": "attn_pool.latent",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    "head.mlp.fc1": "attn_pool.mlp.fc1",
    "head.mlp.fc2": "attn_pool.mlp.fc2",
}
_TEXT = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "head": "text_projection",
}
_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_PARTS = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


@dataclass(frozen=True)
class _View:
    """How a tensor of transformers is made of stored ones."""

    names: tuple[str, ...]
    """Concatenated, if several."""
    third: int | None = None
    """Which third of the rows: queries, keys and values are one tensor."""
    transposed: bool = False
    flat: bool = False
    """Without a first axis of length 1."""

    @property
    def is_whole(self) -> bool:
        return len(self.names) == 1 and self.third is None and not (self.transposed or self.flat)


class OpenClipWeights(Weights):
    """The tensors of an OpenCLIP model, under transformers' names."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if there is no such tensor. Reads no data."""
        view = self._view(name)
        shapes = [super(OpenClipWeights, self).shape(stored) for stored in view.names]
        first = shapes[0]
        if first is None or None in shapes:
            return None
        rows = sum(shape[0] for shape in shapes if shape)
        if view.third is not None:
            rows //= 3
        shape = (rows, *first[1:])
        if view.transposed:
            return shape[::-1]
        return shape[1:] if view.flat else shape

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of these names. Raises ``ModelError`` if one is missing."""
        import torch

        views = {name: self._view(name) for name in names}
        stored = super().read({part for view in views.values() for part in view.names})
        tensors = {}
        for name, view in views.items():
            parts = [stored[part] for part in view.names]
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            if view.third is not None:
                whole = whole.chunk(3)[view.third]
            if view.transposed:
                whole = whole.T.contiguous()
            tensors[name] = whole[0] if view.flat else whole
        return tensors

    def array(
        self, name: str, rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """A tensor of a safetensors file as float32, without torch."""
        view = self._view(name)
        if view.is_whole:
            return super().array(view.names[0], rows)
        whole = np.concatenate([super(OpenClipWeights, self).array(part) for part in view.names])
        if view.third is not None:
            whole = np.split(whole, 3)[view.third]
        if view.transposed:
            whole = whole.T
        found: NDArray[np.float32] = (whole[0] if view.flat else whole)[rows]
        return found

    def table(self, name: str) -> Table:
        """A lookup of rows of a 2-D tensor."""
        return super().table(self._view(name).names[0])

    def _view(self, name: str) -> _View:
        prefix = "text." if "text.token_embedding.weight" in self._paths else ""
        if name in ("text_projection.weight", "visual_projection.weight"):
            stored = "visual.proj" if name.startswith("visual") else f"{prefix}text_projection"
            return _View((stored,), transposed=True)
        if name.startswith("text_model."):
            rest = name.removeprefix("text_model.")
            return self._layer(rest, f"{prefix}transformer.resblocks", _CLIP_LAYER) or _View(
                (prefix + _renamed(rest, _TEXT),)
            )
        if name.startswith("vision_model."):
            rest = name.removeprefix("vision_model.")
            if "visual.conv1.weight" in self._paths:
                return self._layer(rest, "visual.transformer.resblocks", _CLIP_LAYER) or _View(
                    ("visual." + _renamed(rest, _CLIP_VISION),)
                )
            if rest == "embeddings.position_embedding.weight":
                return _View(("visual.trunk.pos_embed",), flat=True)
            if rest.startswith("head.attention.in_proj_"):
                kind = rest.removeprefix("head.attention.in_proj_")
                pool = "visual.trunk.attn_pool"
                return _View((f"{pool}.q.{kind}", f"{pool}.kv.{kind}"))
            return self._layer(rest, "visual.trunk.blocks", _TIMM_LAYER) or _View(
                ("visual.trunk." + _renamed(rest, _TIMM_VISION),)
            )
        return _View((name,))

    def _layer(self, rest: str, layers: str, names: dict[str, str]) -> _View | None:
        found = _LAYER.fullmatch(rest)
        if found is None:
            return None
        number, part, kind = found.groups()
        layer = f"{layers}.{number}"
        if part in _PARTS:
            joint = f"attn.in_proj_{kind}" if names is _CLIP_LAYER else f"attn.qkv.{kind}"
            return _View((f"{layer}.{joint}",), third=_PARTS[part])
        return _View((f"{layer}.{names.get(part, part)}.{kind}",))


def _renamed(name: str, names: dict[str, str]) -> str:
    """``name``, or its part before ``.weight`` or ``.bias``, by ``names``."""
    if name in names:
        return names[name]
    part, _, kind = name.rpartition(".")
    return f"{names[part]}.{kind}" if part in names else name


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The file with the weights; () if there is none."""
    return tuple(path for name in WEIGHTS if (path := directory / name).is_file())[:1]


def is_complete(directory: Path) -> bool:
    """Whether a folder holds a model in OpenCLIP's format."""
    return (directory / CONFIG).is_file() and bool(weight_files(directory))
