"""Models in OpenCLIP's format against OpenCLIP's own preprocessing, tokenizer and towers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helpers_models
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import ModelError
from sightline.indexer.photo import Decoder

TEXTS = [
    "a dog on a beach",
    "A Golden RETRIEVER, it's sleeping!",
    "two_words and 3 numbers: 1, 22, 333",
    "naïve café",
    " ".join(["a very long description of two people riding bicycles"] * 50),
    "x",
]
"""One to 450 words."""

CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
MODELS: dict[str, dict[str, Any]] = {
    "vit": {
        "embed_dim": 48,
        "vision_cfg": {
            "image_size": 64, "layers": 2, "width": 96, "head_width": 32, "patch_size": 16,
        },
        "text_cfg": CLIP_TEXT,
    },
    "vit-quickgelu": {
        "embed_dim": 48,
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": 64, "layers": 2, "width": 128, "patch_size": 32, "mlp_ratio": 2.0,
        },
        "text_cfg": CLIP_TEXT,
    },
    "custom-text": {
        "embed_dim": 48,
        "custom_text": True,
        "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": CLIP_TEXT,
    },
    "siglip": {
        "embed_dim": 768,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {
            "image_size": 256,
            "timm_model_name": "vit_base_patch32_siglip_256",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 500,
            "hf_tokenizer_name": "tokenizer",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": 64,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
}  # fmt: skip
OTHERS: dict[str, dict[str, Any]] = {
    "resnet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": CLIP_TEXT,
    },
    "convnext": {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "convnext_atto",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "text_cfg": CLIP_TEXT,
    },
    "layer-scale": {
        "embed_dim": 48,
        "vision_cfg": {
            "image_size": 64, "layers": 1, "width": 64, "patch_size": 16, "ls_init_value": 0.1,
        },
        "text_cfg": CLIP_TEXT,
    },
}  # fmt: skip
"""Architectures that the package computes."""

SQUASHED = {
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "interpolation": "bicubic",
    "resize_mode": "squash",
}

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Writes a model with random weights, made and saved by OpenCLIP, once."""
    import open_clip
    from open_clip.tokenizer import default_bpe

    top = tmp_path_factory.mktemp("open-clip")

    def folder(name: str) -> Path:
        directory = top / name
        if directory.exists():
            return directory
        directory.mkdir()
        config = {**MODELS, **OTHERS}[name]
        torch.manual_seed(0)
        kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
        arguments = {key: value for key, value in config.items() if key != "custom_text"}
        model = kind(**arguments).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.02)
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()},
            directory / "open_clip_model.safetensors",
        )
        preprocess = SQUASHED if name == "siglip" else {}
        (directory / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
        )
        if name == "siglip":
            helpers_models.save_unigram_tokenizer(directory, longest=16)
        else:
            save_clip_vocabulary(directory, Path(default_bpe()))
        return directory

    return folder


def save_clip_vocabulary(directory: Path, merges: Path) -> None:
    """OpenCLIP's vocabulary as the files that its models have on the hub."""
    import gzip

    from open_clip.tokenizer import SimpleTokenizer

    lines = gzip.decompress(merges.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {
        names.get(token, token): number for token, number in SimpleTokenizer().encoder.items()
    }
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five formats, wide and tall."""
    top = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    paths = []
    for number, ending in enumerate(("jpg", "png", "webp", "tiff", "bmp")):
        size = (150, 90) if number % 2 else (80, 200)
        colours = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        image = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)
        image.save(top / f"{number}.{ending}")
        paths.append(top / f"{number}.{ending}")
    return paths


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(-1))


@pytest.mark.parametrize("name", [*MODELS, *OTHERS])
def test_vectors_are_those_of_open_clip(build: Build, images: list[Path], name: str) -> None:
    import open_clip

    directory = build(name)
    address = f"local-dir:{directory}"
    model, preprocess = open_clip.create_model_from_pretrained(address)
    model.eval()
    with torch.no_grad():
        pixels = torch.stack([preprocess(Image.open(path).convert("RGB")) for path in images])
        expected_images = model.encode_image(pixels, normalize=True).numpy()
        tokens = open_clip.get_tokenizer(address)(TEXTS)
        expected_texts = model.encode_text(tokens, normalize=True).numpy()

    encoder = Encoder.load(str(directory), device="cpu", dtype="float32")
    assert (encoder._files.family == "open_clip") == (name in OTHERS)
    with Decoder(encoder.geometry, workers=1) as decoder:
        found = [decoder.read_bytes(path.read_bytes()).pixels for path in images]
    assert cosines(encoder.encode_images(np.stack(found)), expected_images).min() > 0.999
    assert cosines(encoder.encode_texts(TEXTS), expected_texts).min() > 0.999
    few = Encoder.load(str(directory), dtype="float32", few_texts=True)
    assert cosines(few.encode_texts(TEXTS), expected_texts).min() > 0.999


def test_logit_scale_and_bias_are_read(build: Build) -> None:
    encoder = Encoder.load(str(build("siglip")))
    assert encoder.sigmoid
    assert encoder.logit_bias == pytest.approx(-10, abs=0.2)
    assert Encoder.load(str(build("vit"))).logit_scale == pytest.approx(1 / 0.07, rel=0.2)


def test_weights_that_do_not_fit_are_an_error_in_one_line(build: Build, tmp_path: Path) -> None:
    directory = tmp_path / "broken"
    directory.mkdir()
    for path in build("resnet").iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    save_file({"visual.nothing": torch.zeros(2)}, directory / "open_clip_model.safetensors")
    encoder = Encoder.load(str(directory))
    with pytest.raises(ModelError, match="cannot be loaded by open_clip_torch") as caught:
        encoder.encode_texts(["a dog"])
    assert "\n" not in str(caught.value)
