"""A text tower for little training data: a weighted bag of word pieces plus a small transformer.

The bag learns what words mean from few examples. The transformer, whose output is added, learns
what depends on the order of the words, such as "a car to the left of a dog".
"""

from __future__ import annotations

import torch

from sightline.indexer.encoder.layers import Mlp, Source
from sightline.indexer.encoder.tower_config import SPECIAL_TOKENS, LayerConfig
from sightline.indexer.encoder.transformer import VIT_NAMES, PreNormLayer


class BagOfWordpiecesTower:
    """The weighted mean of the word embeddings, an MLP, and the transformer beside them."""

    def __init__(self, source: Source, config: LayerConfig) -> None:
        """``config`` is that of the transformer's layers."""
        text = source.below("text_model.")
        self._words = text.weights.table(f"{text.prefix}embeddings.word_embeddings.weight")
        weights, self._positions = text.tensors(
            "embeddings.word_weights.weight", "embeddings.position_embeddings.weight"
        )
        self._weights = weights.float().reshape(-1).exp()
        self._weights[:SPECIAL_TOKENS] = 0
        self._bag_norm = text.layer_norm("bag.norm", config.eps)
        self._bag_linear = text.linear("bag.linear")
        self._bag_mlp = Mlp(text, "bag.up", "bag.down", config.activation)
        self._order_down = text.linear("order.down")
        self._layers = [
            PreNormLayer(text.below(VIT_NAMES.layer.format(number)), VIT_NAMES, config)
            for number in range(config.layers)
        ]
        self._order_norm = text.layer_norm("order.norm", config.eps)
        self._order_up = text.linear("order.up")

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Token ids ``(n, t) int64`` and their mask to unnormalised embeddings ``(n, d)``."""
        words = self._words(ids).to(self._positions.device, self._positions.dtype)
        ids = ids.to(words.device)
        mask = torch.ones_like(ids) if mask is None else mask.to(words.device)
        weights = self._weights[ids] * mask
        bag = self._bag_norm(_weighted_mean(words, weights))
        x = self._order_down(words) + self._positions[: ids.shape[1]]
        attended = None if bool(mask.all()) else mask.bool()[:, None, None, :]
        for layer in self._layers:
            x = layer(x, mask=attended)
        order = _weighted_mean(self._order_norm(x), mask.float())
        return self._bag_linear(bag) + self._bag_mlp(bag) + self._order_up(order)


def _weighted_mean(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """``(n, t, d)`` by ``(n, t) float32`` to ``(n, d)``; zero where all weights are zero."""
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
    return (weights[:, None] @ x.float())[:, 0].to(x.dtype)
