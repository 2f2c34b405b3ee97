"""Measures the towers against transformers' on one thread.

    python -m benchmarks.encoder [--threads 1] [--rounds 5]
    ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m benchmarks.encoder --dtypes
    ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI python -m benchmarks.encoder --dtypes

Builds ViT-B/32 with random weights and prints, for images in batches of 1, 8 and 32 and for one
text, the best CPU time of interleaved rounds, the lowest cosine to transformers in float32, and the
time per text in batches. With ``--dtypes``, for images of ViT-B/32 and of the built-in model, with
``--large`` of ViT-L/14: images per second in each dtype, limited to older instructions if the
environment says so, and the median ratio to float32.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from sightline.indexer.encoder import Encoder

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from helpers_models import save_clip_tokenizer, save_preprocessor

TEXT = "a golden retriever on a sandy beach at sunset"


LARGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
"""The image tower of ViT-L/14."""


def build(folder: Path, *, image_size: int = 224, **vision_options: int) -> None:
    """ViT-B/32 as LAION trained it (exact GELU), with random weights."""
    end = save_clip_tokenizer(folder) - 1
    torch.manual_seed(0)
    text = {"hidden_act": "gelu", "eos_token_id": end}
    vision = {"hidden_act": "gelu", "image_size": image_size, **vision_options}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    save_preprocessor(
        folder,
        "CLIPImageProcessor",
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        do_center_crop=True,
    )


def seconds(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Best CPU time of each call, in interleaved rounds."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            taken[name].append(time.process_time() - start)
    return {name: min(times[1:]) for name, times in taken.items()}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtypes", action="store_true")
    parser.add_argument("--large", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.dtypes:
        compare_dtypes(options.rounds, large=options.large)
        return
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
        theirs = {
            dtype: CLIPModel.from_pretrained(folder, dtype=dtype).eval()
            for dtype in (torch.float32, torch.bfloat16)
        }
        ours = {dtype: Encoder.load(folder, dtype=dtype) for dtype in ("float32", "bfloat16")}
        for encoder in ours.values():
            encoder.warm(["text", "image"])
        compare(theirs, ours, options.rounds)


def compare_dtypes(rounds: int, *, large: bool) -> None:
    """Images in each dtype, in batches of 8."""
    vit = ("ViT-L/14", LARGE) if large else ("ViT-B/32", {})
    dtypes = ("float32", "bfloat16", "int8")
    print(f"{'images per second':32}{'':>8}   times float32")
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), **vit[1])
        models = [(vit[0], folder, dtypes), ("built-in model", "builtin", dtypes[:2])]
        for name, model, possible in models[: 1 if large else 2]:
            encoders = {one: Encoder.load(model, dtype=one, device="cpu") for one in possible}
            height, width = encoders["float32"].geometry.height, encoders["float32"].geometry.width
            blots = np.random.default_rng(0).integers(0, 256, (8, 5, 5, 3), dtype=np.uint8)
            scale = (1, height // 5 + 1, width // 5 + 1, 1)
            pixels = np.kron(blots, np.ones(scale, np.uint8))[:, :height, :width]
            taken: dict[str, list[float]] = {one: [] for one in possible}
            for _ in range(rounds + 1):
                for one, encoder in encoders.items():
                    start = time.process_time()
                    encoder.encode_images(pixels)
                    taken[one].append(time.process_time() - start)
            for one in possible:
                ratios = np.array(taken["float32"][1:]) / np.array(taken[one][1:])
                speed = len(pixels) / min(taken[one][1:])
                print(f"{f'{name} {one}':32}{speed:8.1f}{np.median(ratios):12.2f}", flush=True)


def compare(theirs: dict[torch.dtype, CLIPModel], ours: dict[str, Encoder], rounds: int) -> None:
    """Images, one text, and batches of texts."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 224, 224, 3), dtype=np.uint8)
    exact = ours["float32"]
    tokens = exact._load_text_tower()[0]([TEXT]).ids
    padded = F.pad(tokens, (0, 77 - tokens.shape[1]), value=int(tokens[0, -1]))

    def images(model: CLIPModel, count: int) -> np.ndarray:
        with torch.inference_mode():
            seen = exact._standardize(torch.from_numpy(pixels[:count])).permute(0, 3, 1, 2)
            found = model.get_image_features(pixel_values=seen.to(model.dtype)).pooler_output
            return F.normalize(found.float(), dim=-1).numpy()

    def text(model: CLIPModel, ids: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            found = model.get_text_features(input_ids=ids).pooler_output
            return F.normalize(found.float(), dim=-1).numpy()

    reference = images(theirs[torch.float32], 8)
    print(f"{'images per second':32}{'1':>8}{'8':>8}{'32':>8}   lowest cosine")
    rows: dict[str, Callable[[int], np.ndarray]] = {
        "transformers float32": lambda n: images(theirs[torch.float32], n),
        "float32": lambda n: ours["float32"].encode_images(pixels[:n]),
        "transformers bfloat16": lambda n: images(theirs[torch.bfloat16], n),
        "bfloat16": lambda n: ours["bfloat16"].encode_images(pixels[:n]),
    }
    speeds = {
        n: seconds({name: lambda row=row, n=n: row(n) for name, row in rows.items()}, rounds)
        for n in (1, 8, 32)
    }
    for name, row in rows.items():
        lowest = (row(8) * reference).sum(axis=1).min()
        print(
            f"{name:32}" + "".join(f"{n / speeds[n][name]:8.1f}" for n in speeds), f"{lowest:12.5f}"
        )

    reference = text(theirs[torch.float32], tokens)
    calls: dict[str, Callable[[], np.ndarray]] = {
        "transformers float32, padded": lambda: text(theirs[torch.float32], padded),
        "transformers float32": lambda: text(theirs[torch.float32], tokens),
        "float32": lambda: ours["float32"].encode_texts([TEXT]),
        "transformers bfloat16, padded": lambda: text(theirs[torch.bfloat16], padded),
        "transformers bfloat16": lambda: text(theirs[torch.bfloat16], tokens),
        "bfloat16": lambda: ours["bfloat16"].encode_texts([TEXT]),
    }
    times = seconds(calls, 2 * rounds)
    print(f"\n{f'one text of {tokens.shape[1]} tokens':32}{'ms':>8}   cosine")
    for name, call in calls.items():
        print(f"{name:32}{times[name] * 1e3:8.1f}{(call() * reference).sum():12.5f}")

    together = {
        str(n): lambda n=n: ours["bfloat16"].encode_texts([TEXT] * n) for n in (1, 2, 4, 8, 16, 32)
    }
    times = seconds(together, 2 * rounds)
    print(f"\n{'texts in a batch, bfloat16':32}{'ms per text':>12}")
    for count, taken in times.items():
        print(f"{count:32}{taken * 1e3 / int(count):12.1f}")


if __name__ == "__main__":
    main()
