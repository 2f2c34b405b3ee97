"""The transformer inside CLIP, MetaCLIP, SigLIP and BERT, in plain torch.

transformers' modules compute the same (the tests hold them equal), but importing them takes twice
as long as importing torch, and a search from a cold shell pays that every time. Leaving them out
also leaves room for what only inference may do:

- one matrix product for queries, keys and values;
- in the last layer, queries for the one pooled position only: the other rows would be thrown away;
- word vectors stay in the file, and the few rows that a text needs are read when it needs them;
- on a CPU, matrices are laid out once as oneDNN wants them and the activation is done in the same
  pass, as ``torch.compile`` with freezing would, without a compiler and half a minute of waiting.

Measured on one Zen 4 core (AVX512-BF16), ViT-B/32 in bfloat16, against transformers' modules: 24.6
pictures a second in batches of 32 for 21.3, 21.5 for 14.1 one by one, and 12.4 ms a text for 19.6
(43 when padded to 77). ``benchmarks/encoder.py`` prints the table. ``torch.compile`` with freezing
gave 12% over unpacked matrices for half a minute of compiling, so it is not used on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.weights import Rows, Weights
from sightline.indexer.errors import ModelError

Activation = Literal["none", "gelu", "gelu_tanh", "silu", "tanh"]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "quick_gelu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
"""transformers' names of the activations that are known here. CLIP's quick GELU is
``x sigmoid(1.702 x) = silu(1.702 x) / 1.702``; the two factors go into the matrices around it."""

SILU_FACTOR = 1.702

PLAIN: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}

FUSED: dict[Activation, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "silu": ("swish", [], ""),
    "tanh": ("tanh", [], ""),
}
"""The same in oneDNN's words: name, numbers, variant."""

PACK_ROWS = 512
"""Rows of input that a packed matrix is laid out for: it serves any other number nearly as well."""


@dataclass(frozen=True)
class Source:
    """Where a tower's weights come from, and what they are to become."""

    weights: Weights
    prefix: str
    device: torch.device
    dtype: torch.dtype

    def __call__(self, *names: str) -> list[torch.Tensor]:
        """The tensors of those names below the prefix, on the device, in the dtype."""
        full = [self.prefix + name for name in names]
        found = self.weights.read(full)
        return [found[name].to(self.device, self.dtype, copy=True) for name in full]

    def has(self, name: str) -> bool:
        """Whether there is a tensor of that name below the prefix."""
        return self.weights.shape(self.prefix + name) is not None

    def below(self, prefix: str) -> Source:
        """The same, one level down."""
        return Source(self.weights, self.prefix + prefix, self.device, self.dtype)

    def dense(
        self,
        name: str,
        *,
        bias: bool = True,
        activation: Activation = "none",
        scales: tuple[float, float] = (1.0, 1.0),
    ) -> Dense:
        """The linear layer of that name; its weight and bias times ``scales``."""
        full = [
            f"{self.prefix}{name}.{part}" for part in (("weight", "bias") if bias else ("weight",))
        ]
        found = self.weights.read(full)
        scaled = [
            (found[each].float() * scale if scale != 1.0 else found[each]).to(
                self.device, self.dtype, copy=True
            )
            for each, scale in zip(full, scales, strict=False)
        ]
        return Dense(scaled[0], scaled[1] if bias else None, activation)

    def norm(self, name: str, eps: float) -> Norm:
        """The layer normalisation of that name."""
        weight, bias = self(f"{name}.weight", f"{name}.bias")
        return Norm(weight, bias, eps)


class Dense:
    """A linear layer and the activation after it: ``activation(x W^T + b)``."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation = "none"
    ) -> None:
        self.activation = activation
        self.bias = bias
        self.packed = weight.device.type == "cpu" and can_pack(weight.dtype)
        self.weight = _packed(weight) if self.packed else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., k)`` to ``(..., n)``."""
        if not self.packed:
            return PLAIN[self.activation](F.linear(x, self.weight, self.bias))
        return torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, *FUSED[self.activation]
        )


def perceptron(source: Source, up: str, down: str, activation: Activation) -> tuple[Dense, Dense]:
    """The two layers of a perceptron, with the activation between them."""
    factor = SILU_FACTOR if activation == "silu" else 1.0
    return (
        source.dense(up, activation=activation, scales=(factor, factor)),
        source.dense(down, scales=(1 / factor, 1.0)),
    )


class Norm:
    """Layer normalisation over the last dimension."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> None:
        self.weight, self.bias, self.eps = weight, bias, eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape out as in."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


def _packed(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, PACK_ROWS)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch has the packed product that ``torch.compile`` uses, and it is right.

    They are not part of torch's documented interface, so they are tried before they are trusted.
    """
    try:
        with torch.inference_mode():
            x = torch.linspace(-1, 1, 3 * 32).reshape(3, 32).to(dtype)
            weight = torch.linspace(-1, 1, 64 * 32).reshape(64, 32).to(dtype)
            bias = torch.linspace(-1, 1, 64).to(dtype)
            packed = _packed(weight)
            for activation, plain in PLAIN.items():
                expected = plain(F.linear(x.float(), weight.float(), bias.float()))
                found = torch.ops.mkldnn._linear_pointwise(x, packed, bias, *FUSED[activation])
                if not torch.allclose(found.float(), expected, rtol=0.02, atol=0.02):
                    return False
        return True
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


@dataclass(frozen=True)
class Shape:
    """What a tower's layers are like beyond the sizes of their matrices."""

    layers: int
    heads: int
    activation: Activation
    eps: float


@dataclass(frozen=True)
class Names:
    """What a family calls the parts of a layer."""

    layer: str
    query: str
    key: str
    value: str
    out: str
    first_norm: str
    second_norm: str
    up: str
    down: str


VIT_NAMES = Names(
    layer="encoder.layers.{}.",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    out="self_attn.out_proj",
    first_norm="layer_norm1",
    second_norm="layer_norm2",
    up="mlp.fc1",
    down="mlp.fc2",
)
BERT_NAMES = Names(
    layer="encoder.layer.{}.",
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    out="attention.output.dense",
    first_norm="attention.output.LayerNorm",
    second_norm="output.LayerNorm",
    up="intermediate.dense",
    down="output.dense",
)

At = int | torch.Tensor
"""A position: the same in every row of the batch, or ``(n,) int64``, one a row."""


class Attention:
    """Multi-head self-attention (Vaswani et al., 2017)."""

    def __init__(self, source: Source, names: Names, heads: int) -> None:
        q, k, v = names.query, names.key, names.value
        parts = source(
            f"{q}.weight", f"{k}.weight", f"{v}.weight", f"{q}.bias", f"{k}.bias", f"{v}.bias"
        )
        self.width = parts[0].shape[0]
        self.heads = heads
        self.query = Dense(parts[0], parts[3])
        self.key_value = Dense(torch.cat(parts[1:3]), torch.cat(parts[4:6]))
        self.out = source.dense(names.out)

    def __call__(
        self, x: torch.Tensor, mask: torch.Tensor | None, causal: bool, at: At | None
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)`` for the position ``at`` alone."""
        n, length, width = x.shape
        asked = x if at is None else taken(x, at)
        q = self.query(asked).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        k, v = self.key_value(x).view(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if causal and at is not None:
            # The one position asked for sees what stands before it, and itself.
            places = torch.as_tensor(at, device=x.device).reshape(-1, 1)
            mask = (torch.arange(length, device=x.device) <= places)[:, None, None, :]
        causal = causal and at is None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(n, -1, width))


class PreNormLayer:
    """A layer that normalises what goes into its two halves (CLIP, SigLIP)."""

    def __init__(self, source: Source, names: Names, shape: Shape) -> None:
        self.attention = Attention(source, names, shape.heads)
        self.first_norm = source.norm(names.first_norm, shape.eps)
        self.second_norm = source.norm(names.second_norm, shape.eps)
        self.up, self.down = perceptron(source, names.up, names.down, shape.activation)

    def __call__(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        at: At | None = None,
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)`` for the position ``at`` alone."""
        x = taken(x, at) + self.attention(self.first_norm(x), mask, causal, at)
        return x + self.down(self.up(self.second_norm(x)))


class PostNormLayer(PreNormLayer):
    """A layer that normalises what comes out of its two halves (BERT)."""

    def __call__(
        self,
        x: torch.Tensor,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        at: At | None = None,
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)`` for the position ``at`` alone."""
        x = self.first_norm(taken(x, at) + self.attention(x, mask, causal, at))
        return self.second_norm(x + self.down(self.up(x)))


def taken(x: torch.Tensor, at: At | None) -> torch.Tensor:
    """The rows ``at`` of ``(n, t, d)`` as ``(n, 1, d)``; everything for None."""
    if at is None:
        return x
    if isinstance(at, int):
        return x[:, at : at + 1] if at >= 0 else x[:, at:][:, :1]
    return x[torch.arange(len(x), device=x.device), at].unsqueeze(1)


def layers(
    source: Source, names: Names, shape: Shape, kind: type[PreNormLayer]
) -> list[PreNormLayer]:
    """All the layers. Raises ``ModelError`` when the weights hold fewer than they should."""
    below = [source.below(names.layer.format(number)) for number in range(shape.layers)]
    return [kind(part, names, shape) for part in below]


class Words:
    """Word and position vectors. The words' table stays in its file where that is possible."""

    def __init__(self, source: Source, words: str, positions: str) -> None:
        self.rows: Rows = source.weights.rows(source.prefix + words)
        (self.positions,) = source(positions)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """``(n, t) int64`` to ``(n, t, d)``."""
        place = self.positions
        return self.rows[ids].to(place.device, place.dtype) + place[: ids.shape[1]]


class VitText:
    """The text tower of CLIP, MetaCLIP and SigLIP.

    ``end`` is the id of the mark where a causal tower pools (-1: the highest id in the text, as the
    first CLIP did); None makes a tower that sees both ways and pools at the last position.
    """

    def __init__(self, source: Source, shape: Shape, *, end: int | None) -> None:
        text = source.below("text_model.")
        self.words = Words(
            text, "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        )
        self.layers = layers(text, VIT_NAMES, shape, PreNormLayer)
        self.norm = text.norm("final_layer_norm", shape.eps)
        self.end = end
        self.project = (
            text.dense("head") if end is None else source.dense("text_projection", bias=False)
        )

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` to raw embeddings ``(n, d)``. Padding needs no mask here."""
        x = self.words(ids)
        at: At = -1
        if self.end is not None:
            at = (ids if self.end < 0 else (ids == self.end).int()).argmax(-1).to(x.device)
        for layer in self.layers[:-1]:
            x = layer(x, causal=self.end is not None)
        x = self.layers[-1](x, causal=self.end is not None, at=at)
        return self.project(self.norm(x[:, 0]))


class BertText:
    """The text tower of Chinese-CLIP and of dual encoders with BERT (Devlin et al., 2019)."""

    def __init__(self, source: Source, shape: Shape, *, pooler: bool) -> None:
        text = source.below("text_model.")
        self.words = Words(
            text, "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
        )
        (types,) = text("embeddings.token_type_embeddings.weight")
        self.words.positions = self.words.positions + types[0]  # all is of the first type
        self.first_norm = text.norm("embeddings.LayerNorm", shape.eps)
        self.layers = layers(text, BERT_NAMES, shape, PostNormLayer)
        self.pooler = text.dense("pooler.dense", activation="tanh") if pooler else None
        self.project = source.dense("text_projection", bias=False)

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` and their mask to raw embeddings ``(n, d)``."""
        x = self.first_norm(self.words(ids))
        seen = None
        if mask is not None and not bool(mask.all()):
            seen = mask.to(x.device).bool()[:, None, None, :]
        for layer in self.layers[:-1]:
            x = layer(x, seen)
        x = self.layers[-1](x, seen, at=0)[:, 0]
        return self.project(self.pooler(x) if self.pooler else x)


class VitImage:
    """The image tower of CLIP, MetaCLIP, Chinese-CLIP and SigLIP (Dosovitskiy et al., 2021)."""

    def __init__(self, source: Source, shape: Shape, size: tuple[int, int]) -> None:
        image = source.below("vision_model.")
        (patch,) = image("embeddings.patch_embedding.weight")
        self.patch = patch.shape[-1]
        bias = image("embeddings.patch_embedding.bias")[0] if self._has_bias(image) else None
        # Pixels come with their channels last, so the filters are read in that order.
        self.embed = Dense(patch.permute(0, 2, 3, 1).flatten(1).contiguous(), bias)
        (self.positions,) = image("embeddings.position_embedding.weight")
        classed = image.has("embeddings.class_embedding")
        patches = (size[0] // self.patch) * (size[1] // self.patch)
        if len(self.positions) != patches + classed:
            raise ModelError(
                f"pictures of {size[0]} x {size[1]} do not fit this model: its "
                "preprocessor_config.json and its weights are of different models"
            )
        self.token = image("embeddings.class_embedding")[0] if classed else None
        self.first_norm = image.norm("pre_layrnorm", shape.eps) if classed else None
        self.layers = layers(image, VIT_NAMES, shape, PreNormLayer)
        self.last_norm = image.norm("post_layernorm", shape.eps)
        self.head = None if classed else PoolingHead(image.below("head."), shape)
        self.project = source.dense("visual_projection", bias=False) if classed else None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, height, width, 3)`` to raw embeddings ``(n, d)``."""
        x = self.embed(self._patches(pixels))
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        x = x + self.positions
        if self.first_norm is not None:
            x = self.first_norm(x)
        for layer in self.layers[:-1]:
            x = layer(x)
        if self.head is not None:
            return self.head(self.last_norm(self.layers[-1](x)))
        assert self.project is not None
        return self.project(self.last_norm(self.layers[-1](x, at=0)[:, 0]))

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(n, height, width, 3)`` to ``(n, patches, patch * patch * 3)``; a rest is cut off."""
        n, height, width, channels = pixels.shape
        size, down, across = self.patch, height // self.patch, width // self.patch
        pixels = pixels[:, : down * size, : across * size]
        grid = pixels.reshape(n, down, size, across, size, channels).transpose(2, 3)
        return grid.reshape(n, down * across, size * size * channels)

    @staticmethod
    def _has_bias(image: Source) -> bool:
        return image.has("embeddings.patch_embedding.bias")


class PoolingHead:
    """SigLIP's attention pooling: one learnt question put to all the patches."""

    def __init__(self, source: Source, shape: Shape) -> None:
        (probe,) = source("probe")
        weight, bias = source("attention.in_proj_weight", "attention.in_proj_bias")
        width = weight.shape[1]
        self.heads = shape.heads
        self.question = F.linear(probe, weight[:width], bias[:width])
        self.key_value = Dense(weight[width:].contiguous(), bias[width:].contiguous())
        self.out = source.dense("attention.out_proj")
        self.norm = source.norm("layernorm", shape.eps)
        self.up, self.down = perceptron(source, "mlp.fc1", "mlp.fc2", shape.activation)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, d)``."""
        n, length, width = x.shape
        q = self.question.view(1, 1, self.heads, -1).transpose(1, 2).expand(n, -1, -1, -1)
        k, v = self.key_value(x).view(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, width))
        return y + self.down(self.up(self.norm(y)))
