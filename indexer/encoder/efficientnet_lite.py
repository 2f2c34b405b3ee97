"""EfficientNet-Lite (Tan and Le, 2019) as the image tower of a dual encoder, in plain torch.

Inverted residual blocks with ReLU6 and without squeeze-and-excitation. Batch normalisation is
folded into the convolutions at export, so the weights are convolutions with a bias and nothing
else. transformers has no class for this network; the built-in model uses it.

The pooled features say what is in the image and roughly where: the mean of the last map, its first
moments along x and y, and the mean and maxima of the fifth stage's map, whose finer grid shows
small objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.layers import Source

CHUNK = 4
"""Images per pass on a CPU. Their largest activations fit the L2 cache: 25% faster than 32."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution: the first block has the stride."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    blocks: int


STAGES = (
    Stage(kernel=3, stride=1, expansion=1, channels=16, blocks=1),
    Stage(kernel=3, stride=2, expansion=6, channels=24, blocks=2),
    Stage(kernel=5, stride=2, expansion=6, channels=40, blocks=2),
    Stage(kernel=3, stride=2, expansion=6, channels=80, blocks=3),
    Stage(kernel=5, stride=1, expansion=6, channels=112, blocks=3),
    Stage(kernel=5, stride=2, expansion=6, channels=192, blocks=4),
    Stage(kernel=3, stride=1, expansion=6, channels=320, blocks=1),
)
"""Lite0. Larger members scale channels and blocks, except the stem and the number of blocks in the
first and the last stage."""

FINE_STAGE = 5
"""Stages whose output is also pooled: stride 16, 14 x 14 cells at 224 pixels."""


def blocks_per_stage(depth: float) -> list[int]:
    """Number of blocks in each stage for a depth multiplier (Lite0: 1.0, Lite2: 1.2)."""
    last = len(STAGES) - 1
    return [
        stage.blocks if number in (0, last) else math.ceil(stage.blocks * depth)
        for number, stage in enumerate(STAGES)
    ]


class EfficientNetLiteImageTower:
    """The network, its pooled features, and the projection."""

    def __init__(self, source: Source, config: dict[str, Any]) -> None:
        """``config`` is the model's ``vision_config``; see ``is_supported``."""
        image = source.below("vision_model.")
        depths = blocks_per_stage(float(config.get("depth_multiplier", 1.0)))
        self._stem = Convolution(image.below("stem."), stride=2)
        self._stages = [
            [
                Block(image.below(f"stages.{number}.{block}."), stage, first=block == 0)
                for block in range(depth)
            ]
            for number, (stage, depth) in enumerate(zip(STAGES, depths, strict=True))
        ]
        self._head = Convolution(image.below("head."))
        self._project = source.linear("visual_projection")

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels ``(n, height, width, 3)`` to unnormalised embeddings ``(n, d)``."""
        if pixels.device.type != "cpu":
            return self._encode(pixels)
        return torch.cat([self._encode(chunk) for chunk in pixels.split(CHUNK)])

    def _encode(self, pixels: torch.Tensor) -> torch.Tensor:
        # A (n, 3, height, width) view, channels last in memory: the fastest for convolutions.
        x = self._stem(pixels.permute(0, 3, 1, 2)).clamp_(0, 6)
        fine = x
        for number, stage in enumerate(self._stages, start=1):
            for block in stage:
                x = block(x)
            if number == FINE_STAGE:
                fine = x
        return self._project(pooled(self._head(x).clamp_(0, 6), fine).to(pixels.dtype))


def pooled(last: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
    """Maps ``(n, c, h, w)`` and ``(n, f, H, W)`` to features ``(n, 3 c + 6 f)`` float32.

    The mean of the last map and its first moments along x and y (positions from -1 to 1); of the
    fine map the mean, the maximum, and the maxima over its left, right, upper and lower half.
    """
    rows, columns = last.float().mean(3), last.float().mean(2)
    down = torch.linspace(-1, 1, rows.shape[2], device=last.device)
    across = torch.linspace(-1, 1, columns.shape[2], device=last.device)
    fine = fine.float()
    height, width = fine.shape[2] // 2, fine.shape[3] // 2
    halves = (fine[..., :width], fine[..., width:], fine[:, :, :height], fine[:, :, height:])
    return torch.cat(
        [
            columns.mean(2),
            (columns * across).mean(2),
            (rows * down).mean(2),
            fine.mean((2, 3)),
            *(part.amax((2, 3)) for part in (fine, *halves)),
        ],
        dim=1,
    )


class Block:
    """An inverted residual block: expand, filter each channel, project."""

    def __init__(self, source: Source, stage: Stage, *, first: bool) -> None:
        """``first``: whether this block has the stage's stride."""
        stride = stage.stride if first else 1
        expands = stage.expansion > 1
        self._expand = Convolution(source.below("expand.")) if expands else None
        self._depthwise = Convolution(source.below("depthwise."), stride=stride, depthwise=True)
        self._project = Convolution(source.below("project."))
        self._residual = not first

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)``, smaller by the stride."""
        out = x if self._expand is None else self._expand(x).clamp_(0, 6)
        out = self._project(self._depthwise(out).clamp_(0, 6))
        return out.add_(x) if self._residual else out


class Convolution:
    """A convolution with a bias, padded as TensorFlow's "same": more at the end for stride 2."""

    def __init__(self, source: Source, *, stride: int = 1, depthwise: bool = False) -> None:
        weight, self._bias = source.tensors("weight", "bias")
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._stride = stride
        self._groups = len(weight) if depthwise else 1
        kernel = weight.shape[-1]
        self._padding = kernel // 2 if stride == 1 else 0
        start = (kernel - 2) // 2
        self._edges = (start, kernel - 2 - start) * 2 if stride == 2 else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(n, c, height, width)`` to another number of channels; even sizes for stride 2."""
        if self._edges is not None:
            x = F.pad(x, self._edges)
        return F.conv2d(
            x, self._weight, self._bias, self._stride, self._padding, groups=self._groups
        )


def is_supported(config: dict[str, Any]) -> bool:
    """Whether ``EfficientNetLiteImageTower`` computes the network of this ``vision_config``."""
    return "depth_multiplier" in config
