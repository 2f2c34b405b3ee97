"""The text towers of CLIP, MetaCLIP, SigLIP and the built-in model in numpy, one text at a time.

They compute what the towers of ``transformer`` and ``bag_of_wordpieces`` compute in float32 (the
tests compare the two), without the import of torch, which takes longer than everything else in a
search from a shell. A server, which encodes many texts, uses the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.encoder.tokenizer import Tokenizer
from sightline.indexer.encoder.tower_config import (
    SILU_FACTOR,
    SPECIAL_TOKENS,
    Activation,
    ClipTextConfig,
    LayerConfig,
    bag_of_wordpieces_config,
    clip_text_config,
)
from sightline.indexer.encoder.weights import Weights

Array = NDArray[np.float32]


def load_numpy_text_tower(files: ModelFiles, weights: Weights) -> NumpyTextTower | None:
    """The text tower of a model, or None if its architecture or its weights files need torch.
    Raises ``ModelError`` if a weight is missing."""
    if not weights.mappable:
        return None
    text = Source(weights, "text_model.")
    encode: Callable[[NDArray[np.int64]], Array]
    if clip := clip_text_config(files):
        encode = _ClipText(text, Source(weights), clip)
    elif layers := bag_of_wordpieces_config(files):
        encode = _BagOfWordpieces(text, layers)
    else:
        return None
    return NumpyTextTower(Tokenizer(files, weights), encode)


class NumpyTextTower:
    """Texts to unit vectors."""

    def __init__(self, tokenizer: Tokenizer, encode: Callable[[NDArray[np.int64]], Array]) -> None:
        self._tokenizer, self._encode = tokenizer, encode

    def __call__(self, texts: Sequence[str]) -> Array:
        """``n`` texts to ``(n, d) float32``, unit norm."""
        # More threads than one wait for each other longer than these small products take.
        with threadpool_limits(1, user_api="blas"):
            # Of one text; it is padded only where the tower pools at the last position.
            rows = [self._encode(self._tokenizer([text]).ids[0]) for text in texts]
        vectors = np.stack(rows)
        norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


class Source:
    """A model's weights below a name prefix."""

    def __init__(self, weights: Weights, prefix: str = "") -> None:
        self._weights, self._prefix = weights, prefix

    def array(self, name: str) -> Array:
        """A whole tensor."""
        return self._weights.array(self._prefix + name)

    def rows(self, name: str, ids: NDArray[np.int64] | slice) -> Array:
        """Rows of a tensor; the others are not read."""
        return self._weights.array(self._prefix + name, ids)

    def below(self, prefix: str) -> Source:
        """The weights below a further prefix."""
        return Source(self._weights, self._prefix + prefix)

    def linear(self, name: str, x: Array, *, bias: bool = True) -> Array:
        """``x W^T + b``."""
        y: Array = x @ self.array(f"{name}.weight").T
        return y + self.array(f"{name}.bias") if bias else y

    def layer_norm(self, name: str, x: Array, eps: float) -> Array:
        """Layer normalisation over the last dimension."""
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + np.float32(eps))
        normed: Array = scaled * self.array(f"{name}.weight") + self.array(f"{name}.bias")
        return normed

    def mlp(self, up: str, down: str, x: Array, activation: Activation) -> Array:
        """The two linear layers of a transformer block."""
        return self.linear(down, ACTIVATIONS[activation](self.linear(up, x)))


class _ClipText:
    def __init__(self, text: Source, model: Source, config: ClipTextConfig) -> None:
        self._text, self._model, self._config = text, model, config

    def __call__(self, ids: NDArray[np.int64]) -> Array:
        """Token ids ``(t,)`` to an unnormalised embedding ``(d,)``."""
        config, text = self._config, self._text
        if config.end_id is not None:
            # Causal: what follows the end token changes nothing.
            is_end = ids if config.end_id < 0 else ids == config.end_id
            ids = ids[: int(is_end.argmax()) + 1]
        x = text.rows("embeddings.token_embedding.weight", ids)
        x = x + text.rows("embeddings.position_embedding.weight", slice(len(ids)))
        for number in range(config.layers.layers):
            last = number == config.layers.layers - 1
            x = _layer(
                text.below(f"encoder.layers.{number}."),
                x,
                config.layers,
                causal=config.end_id is not None,
                only_last=last,
            )
        pooled = text.layer_norm("final_layer_norm", x[-1], config.layers.eps)
        if config.end_id is None:
            return text.linear("head", pooled)
        return self._model.linear("text_projection", pooled, bias=False)


class _BagOfWordpieces:
    def __init__(self, text: Source, config: LayerConfig) -> None:
        self._text, self._config = text, config

    def __call__(self, ids: NDArray[np.int64]) -> Array:
        """Token ids ``(t,)`` to an unnormalised embedding ``(d,)``."""
        text, config = self._text, self._config
        words = text.rows("embeddings.word_embeddings.weight", ids)
        weights = np.exp(text.rows("embeddings.word_weights.weight", ids).reshape(-1))
        weights[ids < SPECIAL_TOKENS] = 0
        weights /= max(float(weights.sum()), 1e-6)
        bag = text.layer_norm("bag.norm", weights @ words, config.eps)
        x = text.linear("order.down", words)
        x = x + text.rows("embeddings.position_embeddings.weight", slice(len(ids)))
        for number in range(config.layers):
            x = _layer(text.below(f"encoder.layers.{number}."), x, config)
        order = text.layer_norm("order.norm", x, config.eps).mean(0)
        return (
            text.linear("bag.linear", bag)
            + text.mlp("bag.up", "bag.down", bag, config.activation)
            + text.linear("order.up", order)
        )


def _layer(
    source: Source,
    x: Array,
    config: LayerConfig,
    *,
    causal: bool = False,
    only_last: bool = False,
) -> Array:
    """A transformer layer that normalises the input of its two blocks: ``(t, d)`` to ``(t, d)``, or
    to ``(1, d)``, the output at the last position."""
    normed = source.layer_norm("layer_norm1", x, config.eps)
    queries = normed[-1:] if only_last else normed
    q, k, v = (
        source.linear(f"self_attn.{name}_proj", rows)
        .reshape(len(rows), config.heads, -1)
        .transpose(1, 0, 2)
        for name, rows in (("q", queries), ("k", normed), ("v", normed))
    )
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[-1]))
    if causal and not only_last:
        scores[:, *np.triu_indices(len(x), 1)] = -np.inf
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    attended = (scores / scores.sum(-1, keepdims=True)) @ v
    attended = attended.transpose(1, 0, 2).reshape(len(queries), -1)
    x = (x[-1:] if only_last else x) + source.linear("self_attn.out_proj", attended)
    normed = source.layer_norm("layer_norm2", x, config.eps)
    return x + source.mlp("mlp.fc1", "mlp.fc2", normed, config.activation)


def _quick_gelu(x: Array) -> Array:
    return x / (1 + np.exp(-np.float32(SILU_FACTOR) * x))


def _gelu(x: Array) -> Array:
    """Exact to 2e-7: the error function by formula 7.1.26 of Abramowitz and Stegun (1964)."""
    z = np.abs(x) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    polynomial = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    erf = np.copysign(1 - polynomial * np.exp(-(z**2)), x)
    return np.asarray(0.5 * x * (1 + erf), np.float32)


def _gelu_tanh(x: Array) -> Array:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    return np.float32(0.5) * x * (1 + np.tanh(inner))


ACTIVATIONS: dict[Activation, Callable[[Array], Array]] = {
    "none": lambda x: x,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _quick_gelu,
    "tanh": np.tanh,
}
"""``silu`` stands for CLIP's quick GELU, whose factors ``layers.Mlp`` has in its weights."""
