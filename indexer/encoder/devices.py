"""Which device and which number format a model runs in, when nobody says."""

from __future__ import annotations

import torch

from sightline.indexer.errors import ModelError


def device(wanted: str) -> torch.device:
    """``auto``: a GPU where there is one, else the CPU. Raises ``ModelError`` for one not here."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    kind, _, number = wanted.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= int(number or 0):
            found = f"there are {count} GPUs here" if count else "no GPU that torch can use is here"
            raise ModelError(f"device {wanted} asked for, but {found}: use --device cpu or auto")
        return torch.device("cuda", int(number or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ModelError("device mps asked for, but this is not a Mac with Metal: use --device cpu")
    return torch.device(kind)


def dtype(wanted: str, place: torch.device) -> torch.dtype:
    """``auto``: bfloat16 where the hardware multiplies it, float16 on older GPUs, else float32."""
    if wanted != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[wanted]
    if place.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if place.type == "cpu" and multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions that multiply bfloat16 matrices (AMX, AVX512-BF16)."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
