"""Layers of the towers in plain torch, built from a model's weights for inference.

On a CPU the matrices are prepacked for oneDNN and the activation is fused into the product, as
``torch.compile`` with freezing does, without the half minute of compiling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch.nn import functional as F

from sightline.indexer.encoder.tower_config import SILU_FACTOR, Activation
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError

TORCH_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "tanh": torch.tanh,
}

ONEDNN_ACTIVATIONS: dict[Activation, tuple[str, list[float], str]] = {
    "none": ("none", [], ""),
    "gelu": ("gelu", [], "none"),
    "gelu_tanh": ("gelu", [], "tanh"),
    "silu": ("swish", [], ""),
    "tanh": ("tanh", [], ""),
}
"""Operator, scalars and variant of ``mkldnn._linear_pointwise``."""

SMALLEST_SCALE = 1e-12
"""Of a row of zeros."""

PREPACK_ROWS = 512
"""Input rows that prepacked weights are laid out for; other counts are nearly as fast."""


@dataclass(frozen=True)
class Source:
    """A model's weights below a name prefix, and the device and dtype to load them to.

    A missing tensor raises ``ModelError``.
    """

    weights: Weights
    device: torch.device
    dtype: torch.dtype
    prefix: str = ""
    int8: bool = False
    """Whether ``linear`` and ``layer`` make layers that multiply in int8."""

    def tensors(self, *names: str) -> list[torch.Tensor]:
        """The tensors of these names, on the device, in the dtype."""
        full = [self.prefix + name for name in names]
        found = self.weights.read(full)
        return [found[name].to(self.device, self.dtype, copy=True) for name in full]

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return self.weights.shape(self.prefix + name) is not None

    def below(self, prefix: str) -> Source:
        """The weights below a further prefix, such as ``"encoder.layers.0."``."""
        return replace(self, prefix=self.prefix + prefix)

    def linear(
        self,
        name: str,
        *,
        bias: bool = True,
        activation: Activation = "none",
        scales: tuple[float, float] = (1.0, 1.0),
    ) -> Linear | Int8Linear:
        """The linear layer of this name, its weight and bias multiplied by ``scales``."""
        names = [f"{name}.weight", f"{name}.bias"][: 1 + bias]
        exact = replace(self, dtype=torch.float32) if scales != (1.0, 1.0) else self
        tensors = [
            (tensor * scale if scale != 1.0 else tensor).to(self.dtype)
            for tensor, scale in zip(exact.tensors(*names), scales, strict=False)
        ]
        return self.layer(tensors[0], tensors[1] if bias else None, activation)

    def layer(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation = "none"
    ) -> Linear | Int8Linear:
        """A linear layer of these weights."""
        return (Int8Linear if self.int8 else Linear)(weight, bias, activation)

    def layer_norm(self, name: str, eps: float) -> LayerNorm:
        """The layer normalisation of this name."""
        weight, bias = self.tensors(f"{name}.weight", f"{name}.bias")
        return LayerNorm(weight, bias, eps)


class Linear:
    """A linear layer and the activation after it: ``activation(x W^T + b)``."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation = "none"
    ) -> None:
        self.activation = activation
        self.bias = bias
        self.prepacked = weight.device.type == "cpu" and can_prepack(weight.dtype)
        self.weight = _prepack(weight) if self.prepacked else weight

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., k)`` to ``(..., n)``."""
        if not self.prepacked:
            return TORCH_ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))
        return torch.ops.mkldnn._linear_pointwise(
            x, self.weight, self.bias, *ONEDNN_ACTIVATIONS[self.activation]
        )


class Int8Linear:
    """A linear layer whose weights are int8 per output, and whose inputs become int8 per row.

    oneDNN's ``qlinear_pointwise`` with eager passes before and after it: over float32 1.8 times as
    fast for ViT-B/32 with AVX2 (docs/models.md).
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: Activation = "none"
    ) -> None:
        levels = int8_levels()
        if not levels:
            raise ModelError("this CPU has no int8 kernels: use --dtype float32")
        self.activation = activation
        self.bias = bias
        self.scale = (weight.abs().amax(1) / levels).clamp_(min=SMALLEST_SCALE)
        quantised = (weight / self.scale[:, None]).round_().to(torch.int8)
        self.weight = torch.ops.onednn.qlinear_prepack(quantised, None)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., k)`` to ``(..., n)``, float32."""
        rows = x.reshape(-1, x.shape[-1])
        scale = rows.abs().amax(1, keepdim=True).div_(127).clamp_(min=SMALLEST_SCALE)
        # The conversion to int8 is vectorised and that to uint8, which the product is fastest for,
        # is not: the inverted sign bit adds 128.
        quantised = (rows * scale.reciprocal()).round_().to(torch.int8).bitwise_xor_(-128)
        y = _int8_product(quantised.view(torch.uint8), self.weight, self.scale).mul_(scale)
        if self.bias is not None:
            y += self.bias
        return TORCH_ACTIVATIONS[self.activation](y).view(*x.shape[:-1], -1)


class LayerNorm:
    """Layer normalisation over the last dimension."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> None:
        self.weight, self.bias, self.eps = weight, bias, eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape out as in."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class Mlp:
    """The two linear layers of a transformer block, with the activation between them.

    Quick GELU's two factors (``tower_config.ACTIVATIONS``) are multiplied into the weights.
    """

    def __init__(self, source: Source, up: str, down: str, activation: Activation) -> None:
        factor = SILU_FACTOR if activation == "silu" else 1.0
        self.up = source.linear(up, activation=activation, scales=(factor, factor))
        self.down = source.linear(down, scales=(1 / factor, 1.0))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape out as in."""
        return self.down(self.up(x))


def _prepack(weight: torch.Tensor) -> torch.Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, PREPACK_ROWS)


@cache
def can_prepack(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's prepacked linear operators, and they compute correctly.

    They are not part of torch's documented interface, so each is tested before it is used.
    """
    try:
        with torch.inference_mode():
            x = torch.linspace(-1, 1, 3 * 32).reshape(3, 32).to(dtype)
            weight = torch.linspace(-1, 1, 64 * 32).reshape(64, 32).to(dtype)
            bias = torch.linspace(-1, 1, 64).to(dtype)
            packed = _prepack(weight)
            for activation, function in TORCH_ACTIVATIONS.items():
                expected = function(F.linear(x.float(), weight.float(), bias.float()))
                found = torch.ops.mkldnn._linear_pointwise(
                    x, packed, bias, *ONEDNN_ACTIVATIONS[activation]
                )
                if not torch.allclose(found.float(), expected, rtol=0.02, atol=0.02):
                    return False
        return True
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False


def _int8_product(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """``(m, k) uint8``, 128 for 0, and prepacked weights with a scale per output: ``(m, n)``."""
    zero = torch.zeros(len(scale), dtype=torch.int32)
    return torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 128, weight, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )


@cache
def int8_levels() -> int:
    """The largest weight that the CPU's int8 product takes: 127; 63 where it adds two products in
    16 bits (without VNNI), which overflow beyond that; 0 if torch has no such product."""
    try:
        with torch.inference_mode():
            x = torch.full((16, 64), 255, dtype=torch.uint8)
            for levels in (127, 63):
                weight = torch.full((32, 64), levels, dtype=torch.int8)
                packed = torch.ops.onednn.qlinear_prepack(weight, None)
                if bool((_int8_product(x, packed, torch.ones(32)) == 64 * 127 * levels).all()):
                    return levels
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        pass
    return 0
