"""The device and the dtype that a model runs in, with the defaults for ``auto``."""

from __future__ import annotations

import os

import torch

from sightline.indexer.errors import ModelError

OLDER_INSTRUCTIONS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Values of ``ONEDNN_MAX_CPU_ISA`` without bfloat16."""


def resolve_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is a GPU if there is one, else the CPU.

    Raises ``ModelError`` for a device that this machine does not have.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= int(number or 0):
            reason = f"torch finds {count} GPUs" if count else "torch finds no GPU"
            raise ModelError(f"device {name} is not available: {reason}; use --device cpu or auto")
        return torch.device("cuda", int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device mps is not available: it needs a Mac with Metal; use --device cpu")
    return torch.device(kind)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; ``auto`` is bfloat16 if the hardware multiplies it, float16 on older
    GPUs, else float32. ``int8`` is what the text tower of such a model computes in: ``auto``.

    Raises ``ModelError`` for int8 on another device than a CPU.
    """
    if name == "int8" and device.type != "cpu":
        raise ModelError(f"int8 is for CPUs, and the device is {device}: use another --dtype")
    if name not in ("auto", "int8"):
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "cpu" and cpu_multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16 matrices (AMX, AVX512-BF16), and
    oneDNN is not limited to older ones."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in OLDER_INSTRUCTIONS:
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
