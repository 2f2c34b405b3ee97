"""The transformer towers of CLIP, MetaCLIP, SigLIP and BERT in plain torch.

They compute what transformers' modules compute (the tests compare the two), without the import of
transformers, which would more than double the start of a search from a shell. For inference only:

- keys and values come from one matrix product;
- the last layer computes the pooled position only;
- word embeddings stay in the weights file; only the rows of a text's tokens are read.

ViT-B/32 in bfloat16 on one Zen 4 core (AVX512-BF16), against transformers: 24.6 images/s in batches
of 32 against 21.3, 21.5 against 14.1 one by one, and 12.4 ms per text against 19.6
(``benchmarks/encoder.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.layers import Linear, Mlp, Source
from sightline.indexer.encoder.tower_config import ClipTextConfig, LayerConfig
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Geometry


@dataclass(frozen=True)
class LayerNames:
    """The names of a layer's weights in one architecture."""

    layer: str
    query: str
    key: str
    value: str
    out: str
    first_norm: str
    second_norm: str
    up: str
    down: str


VIT_NAMES = LayerNames(
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
BERT_NAMES = LayerNames(
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

Position = int | torch.Tensor
"""A token position: one for the whole batch, or ``(n,) int64``, one per row."""


class Attention:
    """Multi-head self-attention (Vaswani et al., 2017)."""

    def __init__(self, source: Source, names: LayerNames, heads: int) -> None:
        q, k, v = names.query, names.key, names.value
        self.heads = heads
        self.query = source.linear(q)
        weights = source.tensors(f"{k}.weight", f"{v}.weight")
        biases = source.tensors(f"{k}.bias", f"{v}.bias")
        self.key_value = source.layer(torch.cat(weights), torch.cat(biases))
        self.out = source.linear(names.out)

    def __call__(
        self,
        x: torch.Tensor,
        *,
        mask: torch.Tensor | None,
        causal: bool,
        position: Position | None,
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)``: the output at ``position`` only.

        ``mask`` is a boolean tensor that broadcasts to (n, heads, t, t); True is attended to.
        """
        n, length, width = x.shape
        queries = x if position is None else select(x, position)
        q = self.query(queries).view(n, -1, self.heads, width // self.heads).transpose(1, 2)
        k, v = self.key_value(x).view(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        if causal and position is not None:
            # The one query attends to its own position and those before it.
            last = torch.as_tensor(position, device=x.device).reshape(-1, 1)
            mask = (torch.arange(length, device=x.device) <= last)[:, None, None, :]
        causal = causal and position is None
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).reshape(n, -1, width))


class PreNormLayer:
    """A transformer layer that normalises the input of its two blocks (CLIP, SigLIP)."""

    def __init__(self, source: Source, names: LayerNames, config: LayerConfig) -> None:
        self.attention = Attention(source, names, config.heads)
        self.first_norm = source.layer_norm(names.first_norm, config.eps)
        self.second_norm = source.layer_norm(names.second_norm, config.eps)
        self.mlp = Mlp(source, names.up, names.down, config.activation)

    def __call__(
        self,
        x: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        position: Position | None = None,
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)``: the output at ``position`` only."""
        attended = self.attention(self.first_norm(x), mask=mask, causal=causal, position=position)
        x = select(x, position) + attended
        return x + self.mlp(self.second_norm(x))


class PostNormLayer(PreNormLayer):
    """A transformer layer that normalises the output of its two blocks (BERT)."""

    def __call__(
        self,
        x: torch.Tensor,
        *,
        mask: torch.Tensor | None = None,
        causal: bool = False,
        position: Position | None = None,
    ) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, t, d)``, or to ``(n, 1, d)``: the output at ``position`` only."""
        attended = self.attention(x, mask=mask, causal=causal, position=position)
        x = self.first_norm(select(x, position) + attended)
        return self.second_norm(x + self.mlp(x))


def select(x: torch.Tensor, position: Position | None) -> torch.Tensor:
    """``(n, t, d)`` at ``position`` as ``(n, 1, d)``; unchanged for None."""
    if position is None:
        return x
    if isinstance(position, int):
        return x[:, position, None]
    return x[torch.arange(len(x), device=x.device), position, None]


def _layers(
    source: Source, names: LayerNames, config: LayerConfig, kind: type[PreNormLayer]
) -> list[PreNormLayer]:
    return [
        kind(source.below(names.layer.format(number)), names, config)
        for number in range(config.layers)
    ]


class TokenEmbeddings:
    """Word plus position embeddings. Word embeddings are read from the weights file on demand."""

    def __init__(self, source: Source, words: str, positions: str) -> None:
        self.words = source.weights.table(source.prefix + words)
        (self.positions,) = source.tensors(positions)

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """``(n, t) int64`` to ``(n, t, d)``."""
        positions = self.positions[: ids.shape[1]]
        return self.words(ids).to(positions.device, positions.dtype) + positions


class ClipTextTower:
    """The text tower of CLIP, MetaCLIP and SigLIP."""

    def __init__(self, source: Source, config: ClipTextConfig) -> None:
        text = source.below("text_model.")
        self.embeddings = TokenEmbeddings(
            text, "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
        )
        self.layers = _layers(text, VIT_NAMES, config.layers, PreNormLayer)
        self.norm = text.layer_norm("final_layer_norm", config.layers.eps)
        self.end_id = config.end_id
        self.project = (
            text.linear("head")
            if config.end_id is None
            else source.linear("text_projection", bias=False)
        )

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` to unnormalised embeddings ``(n, d)``. Needs no mask."""
        x = self.embeddings(ids)
        position: Position = -1
        if self.end_id is not None:
            is_end = ids if self.end_id < 0 else (ids == self.end_id).int()
            position = is_end.argmax(-1).to(x.device)
        for layer in self.layers[:-1]:
            x = layer(x, causal=self.end_id is not None)
        x = self.layers[-1](x, causal=self.end_id is not None, position=position)
        return self.project(self.norm(x[:, 0]))


class BertTextTower:
    """The text tower of Chinese-CLIP and of dual encoders with BERT (Devlin et al., 2019)."""

    def __init__(self, source: Source, config: LayerConfig, *, pooler: bool) -> None:
        text = source.below("text_model.")
        self.embeddings = TokenEmbeddings(
            text, "embeddings.word_embeddings.weight", "embeddings.position_embeddings.weight"
        )
        (types,) = text.tensors("embeddings.token_type_embeddings.weight")
        self.embeddings.positions += types[0]  # every token is of the first type
        self.norm = text.layer_norm("embeddings.LayerNorm", config.eps)
        self.layers = _layers(text, BERT_NAMES, config, PostNormLayer)
        self.pooler = text.linear("pooler.dense", activation="tanh") if pooler else None
        self.project = source.linear("text_projection", bias=False)

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t)`` and their mask to unnormalised embeddings ``(n, d)``."""
        x = self.norm(self.embeddings(ids))
        attended = None
        if mask is not None and not bool(mask.all()):
            attended = mask.to(x.device).bool()[:, None, None, :]
        for layer in self.layers[:-1]:
            x = layer(x, mask=attended)
        x = self.layers[-1](x, mask=attended, position=0)[:, 0]
        return self.project(self.pooler(x) if self.pooler else x)


class VitImageTower:
    """The image tower of CLIP, MetaCLIP, Chinese-CLIP, SigLIP and NaFlex (Dosovitskiy et al., 2021;
    Tschannen et al., 2025)."""

    def __init__(
        self, source: Source, config: LayerConfig, *, geometry: Geometry, int8: bool = False
    ) -> None:
        """``geometry`` is that of the images. With ``int8`` the transformer's layers multiply in
        int8; patches, pooling and projection stay as they are."""
        image = source.below("vision_model.")
        (filters,) = image.tensors("embeddings.patch_embedding.weight")
        has_bias = image.has("embeddings.patch_embedding.bias")
        bias = image.tensors("embeddings.patch_embedding.bias")[0] if has_bias else None
        if filters.ndim == 4:
            # Pixels come channels last, so the filters are laid out in that order. NaFlex's are.
            filters = filters.permute(0, 2, 3, 1).flatten(1).contiguous()
        self.patch = math.isqrt(filters.shape[1] // 3)
        self.embed = Linear(filters, bias)
        has_class = image.has("embeddings.class_embedding")
        self.any_shape = geometry.fit == "patches"
        patches = (geometry.height // self.patch) * (geometry.width // self.patch) + has_class
        if self.any_shape:
            # Not every device has the interpolation, nor every dtype.
            image_on_cpu = replace(image, device=torch.device("cpu"), dtype=torch.float32)
            (self.positions,) = image_on_cpu.tensors("embeddings.position_embedding.weight")
            patches = math.isqrt(len(self.positions)) ** 2
        else:
            (self.positions,) = image.tensors("embeddings.position_embedding.weight")
        if len(self.positions) != patches or (self.any_shape and self.patch != geometry.patch):
            raise ModelError(
                f"images of {geometry.height} x {geometry.width} do not fit this model: its "
                "preprocessor_config.json and its weights are of different models"
            )
        self.class_token = image.tensors("embeddings.class_embedding")[0] if has_class else None
        self.first_norm = image.layer_norm("pre_layrnorm", config.eps) if has_class else None
        self.layers = _layers(replace(image, int8=int8), VIT_NAMES, config, PreNormLayer)
        self.last_norm = image.layer_norm("post_layernorm", config.eps)
        self.head = None if has_class else AttentionPooling(image.below("head."), config)
        self.project = source.linear("visual_projection", bias=False) if has_class else None

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, height, width, 3)`` to unnormalised embeddings ``(n, d)``."""
        x = self.embed(self._patches(pixels))
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        x = x + self._positions(pixels.shape[1] // self.patch, pixels.shape[2] // self.patch).to(x)
        if self.first_norm is not None:
            x = self.first_norm(x)
        for layer in self.layers[:-1]:
            x = layer(x)
        if self.head is not None:
            return self.head(self.last_norm(self.layers[-1](x)))
        assert self.project is not None
        return self.project(self.last_norm(self.layers[-1](x, position=0)[:, 0]))

    def _positions(self, down: int, across: int) -> torch.Tensor:
        """``(patches, d)``; NaFlex's are interpolated to the grid of these images."""
        if not self.any_shape:
            return self.positions
        side = math.isqrt(len(self.positions))
        grid = self.positions.T.reshape(1, -1, side, side)
        resized = F.interpolate(grid, (down, across), mode="bilinear", antialias=True)
        return resized[0].flatten(1).T

    def _patches(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(n, height, width, 3)`` to ``(n, patches, patch * patch * 3)``; drops a remainder."""
        n, height, width, channels = pixels.shape
        size, down, across = self.patch, height // self.patch, width // self.patch
        pixels = pixels[:, : down * size, : across * size]
        grid = pixels.reshape(n, down, size, across, size, channels).transpose(2, 3)
        return grid.reshape(n, down * across, size * size * channels)


class AttentionPooling:
    """SigLIP's pooling head: one learnt query attends to all patches."""

    def __init__(self, source: Source, config: LayerConfig) -> None:
        (probe,) = source.tensors("probe")
        weight, bias = source.tensors("attention.in_proj_weight", "attention.in_proj_bias")
        width = weight.shape[1]
        self.heads = config.heads
        self.query = F.linear(probe, weight[:width], bias[:width])
        self.key_value = Linear(weight[width:].contiguous(), bias[width:].contiguous())
        self.out = source.linear("attention.out_proj")
        self.norm = source.layer_norm("layernorm", config.eps)
        self.mlp = Mlp(source, "mlp.fc1", "mlp.fc2", config.activation)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, t, d)`` to ``(n, d)``."""
        n, length, width = x.shape
        q = self.query.view(1, 1, self.heads, -1).transpose(1, 2).expand(n, -1, -1, -1)
        k, v = self.key_value(x).view(n, length, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, width))
        return y + self.mlp(self.norm(y))
