"""The ResNet image tower of a dual encoder (He et al., 2016) in plain torch.

It computes what transformers' ``ResNetModel`` computes (the tests compare the two), without the
three seconds that importing transformers takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.layers import Source

BATCH_NORM_EPS = 1e-5
"""The default of ``torch.nn.BatchNorm2d``, which ``ResNetModel`` uses."""


class ResNetImageTower:
    """``ResNetModel``, average pooling, and the projection."""

    def __init__(self, source: Source, config: dict[str, Any]) -> None:
        """``config`` is the model's ``vision_config``; see ``is_supported``."""
        image = source.below("vision_model.")
        bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
        downsample_first = bool(config.get("downsample_in_bottleneck", False))
        self._stem = ConvBatchNorm(image.below("embedder.embedder."), stride=2)
        self._blocks = []
        stride = 2 if config.get("downsample_in_first_stage", False) else 1
        for stage, depth in enumerate(config.get("depths", (3, 4, 6, 3))):
            for layer in range(depth):
                strides = [1, 1, 1] if bottleneck else [1, 1]
                strides[1 if bottleneck and not downsample_first else 0] = stride
                below = image.below(f"encoder.stages.{stage}.layers.{layer}.")
                self._blocks.append(ResidualBlock(below, strides))
                stride = 1
            stride = 2
        self._project = source.linear("visual_projection", bias=False)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, height, width, 3)`` to unnormalised embeddings ``(n, d)``."""
        # A (n, 3, height, width) view, channels last in memory: the fastest for convolutions.
        x = self._stem(pixels.permute(0, 3, 1, 2)).relu_()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for block in self._blocks:
            x = block(x)
        return self._project(x.mean((2, 3)))


class ResidualBlock:
    """Two or three convolutions, one for each of ``strides``, and the shortcut around them."""

    def __init__(self, source: Source, strides: list[int]) -> None:
        self._layers = [
            ConvBatchNorm(source.below(f"layer.{number}."), stride=stride)
            for number, stride in enumerate(strides)
        ]
        shortcut = source.below("shortcut.")
        self._shortcut = (
            ConvBatchNorm(shortcut, stride=max(strides))
            if shortcut.has("convolution.weight")
            else None
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)`` to other channels, height and width divided by the stride."""
        out = x
        for layer in self._layers[:-1]:
            out = layer(out).relu_()
        out = self._layers[-1](out)
        out += x if self._shortcut is None else self._shortcut(x)
        return out.relu_()


class ConvBatchNorm:
    """A convolution with the batch normalisation after it folded in, in float32."""

    def __init__(self, source: Source, *, stride: int) -> None:
        weight, gamma, beta, mean, variance = replace(source, dtype=torch.float32).tensors(
            "convolution.weight",
            "normalization.weight",
            "normalization.bias",
            "normalization.running_mean",
            "normalization.running_var",
        )
        factor = gamma / torch.sqrt(variance + BATCH_NORM_EPS)
        weight = (weight * factor[:, None, None, None]).to(source.dtype)
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = (beta - mean * factor).to(source.dtype)
        self._stride, self._padding = stride, weight.shape[-1] // 2

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)`` to other channels, height and width divided by the stride."""
        return F.conv2d(x, self._weight, self._bias, self._stride, self._padding)


def is_supported(config: dict[str, Any]) -> bool:
    """Whether ``ResNetImageTower`` computes the network of this ``vision_config``."""
    return config.get("hidden_act", "relu") == "relu"
