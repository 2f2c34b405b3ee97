"""The residual network that a dual encoder may have for its pictures (He et al., 2016), in plain
torch: the built-in model is one.

transformers' modules compute the same (the tests hold them equal), but importing them takes some
three seconds of a processor, which a first run over a folder of pictures would spend waiting.
Batch normalisation, which at inference is one factor and one term a channel, is folded into the
convolution before it, in float32.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.transformer import Source

BATCH_NORM_EPS = 1e-5
"""What ``ResNetModel`` leaves it at."""


class ResNetImage:
    """``ResNetModel``, pooled, and the projection after it."""

    def __init__(self, source: Source, section: dict[str, Any]) -> None:
        """``section`` is the tower's configuration: ``readable(section)``."""
        below = source.below("vision_model.")
        wide = section.get("layer_type", "bottleneck") == "bottleneck"
        early = bool(section.get("downsample_in_bottleneck", False))
        self._stem = Convolution(below.below("embedder.embedder."), stride=2)
        self._layers = []
        stride = 2 if section.get("downsample_in_first_stage", False) else 1
        for stage, depth in enumerate(section.get("depths", (3, 4, 6, 3))):
            for layer in range(depth):
                steps = [1] * (3 if wide else 2)
                steps[1 if wide and not early else 0] = stride
                at = below.below(f"encoder.stages.{stage}.layers.{layer}.")
                self._layers.append(Residual(at, steps))
                stride = 1
            stride = 2
        self._project = source.dense("visual_projection", bias=False)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised ``(n, height, width, 3)`` to ``(n, d)``."""
        # Seen as (n, 3, height, width), channels last in memory: what convolutions are quickest in.
        x = self._stem(pixels.permute(0, 3, 1, 2)).relu_()
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        for layer in self._layers:
            x = layer(x)
        return self._project(x.mean((2, 3)))


class Residual:
    """Two or three convolutions, to which what went in is added."""

    def __init__(self, source: Source, steps: list[int]) -> None:
        """``steps``: the stride of each convolution."""
        self._layers = [
            Convolution(source.below(f"layer.{number}."), stride=step)
            for number, step in enumerate(steps)
        ]
        across = source.below("shortcut.")
        there = across.has("convolution.weight")
        self._shortcut = Convolution(across, stride=max(steps)) if there else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)``, smaller by the stride."""
        out = x
        for layer in self._layers[:-1]:
            out = layer(out).relu_()
        out = self._layers[-1](out)
        out += x if self._shortcut is None else self._shortcut(x)
        return out.relu_()


class Convolution:
    """A convolution over the same place, and the batch normalisation after it."""

    def __init__(self, source: Source, *, stride: int) -> None:
        exact = replace(source, dtype=torch.float32)
        weight, factor, term, mean, variance = exact(
            "convolution.weight",
            "normalization.weight",
            "normalization.bias",
            "normalization.running_mean",
            "normalization.running_var",
        )
        factor = factor / torch.sqrt(variance + BATCH_NORM_EPS)
        weight = (weight * factor[:, None, None, None]).to(source.dtype)
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = (term - mean * factor).to(source.dtype)
        self._stride, self._padding = stride, weight.shape[-1] // 2

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)`` to another number of channels."""
        return F.conv2d(x, self._weight, self._bias, self._stride, self._padding)


def readable(section: dict[str, Any]) -> bool:
    """Whether the tower of this configuration is one that is written here."""
    return section.get("model_type") == "resnet" and section.get("hidden_act", "relu") == "relu"
