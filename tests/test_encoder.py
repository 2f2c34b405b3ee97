"""``Encoder``: every family against transformers' own computation."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import helpers_models
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

from sightline.indexer.encoder import Encoder, devices, encode_photos, layers
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Geometry, Photo, PhotoInfo

TOP = Path(__file__).resolve().parent.parent
FAMILIES = list(helpers_models.BUILDERS)

TEXTS = [
    "a dog on a beach",
    "A Golden RETRIEVER, it's sleeping!",
    "",
    "沙滩上的一只狗",
    "naïve café – 2023 <|endoftext|> </s>",
    " ".join(["a very long description of two people riding bicycles"] * 60),
    "x",
]
"""Among them an empty text, 500 words, and special tokens typed as text."""


def texts_for(family: str) -> list[str]:
    """``TEXTS``; for SigLIP without the end token, which transformers reads from the text."""
    return [text.replace("</s>", "") if family == "siglip" else text for text in TEXTS]


Reference = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a small model of a family, built once per session."""
    top = tmp_path_factory.mktemp("models")

    def folder(family: str) -> Path:
        directory = top / family
        if not directory.exists():
            helpers_models.BUILDERS[family](directory)
        return directory

    return folder


def sample_pixels(geometry: Geometry, count: int = 5) -> np.ndarray:
    """``(count, H, W, 3) uint8``: smooth images of different colours, and one of noise."""
    rng = np.random.default_rng(7)
    small = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    size = (geometry.width, geometry.height)
    found = [np.asarray(Image.fromarray(colours).resize(size)) for colours in small]
    found[-1] = rng.integers(0, 256, found[-1].shape, dtype=np.uint8)
    return np.stack(found)


def transformers_images(directory: Path, pixels: np.ndarray) -> np.ndarray:
    """transformers' embeddings of pixels, by its documented calls."""
    model = AutoModel.from_pretrained(directory).eval()
    if model.config.model_type == "siglip2":
        processor = AutoImageProcessor.from_pretrained(directory)
        inputs = processor(images=[Image.fromarray(one) for one in pixels], return_tensors="pt")
        with torch.no_grad():
            features = model.get_image_features(**inputs).pooler_output
        return F.normalize(features, dim=-1).numpy()
    config = json.loads((directory / "preprocessor_config.json").read_text())
    mean, std = (np.array(config[name], np.float32) for name in ("image_mean", "image_std"))
    values = (pixels.astype(np.float32) * np.float32(config["rescale_factor"]) - mean) / std
    tensor = torch.from_numpy(values).permute(0, 3, 1, 2)
    with torch.no_grad():
        if model.config.model_type == "vision-text-dual-encoder":
            # get_image_features cannot take a residual network's (n, c, 1, 1).
            pooled = model.vision_model(tensor).pooler_output.flatten(1)
            features = model.visual_projection(pooled)
        else:
            features = model.get_image_features(pixel_values=tensor).pooler_output
    return F.normalize(features, dim=-1).numpy()


def transformers_texts(directory: Path, texts: list[str]) -> np.ndarray:
    """transformers' embeddings of texts, one by one, fully padded as the model cards advise."""
    model = AutoModel.from_pretrained(directory).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    family = model.config.model_type
    family = "siglip" if family == "siglip2" else family
    longest = {"siglip": 64, "chinese_clip": 52, "vision-text-dual-encoder": 48}.get(family, 77)
    rows = []
    for text in texts:
        if family == "siglip":
            text = text.lower()
            tokens = tokenizer([text], padding="max_length", truncation=True, max_length=longest)
            tokens = {"input_ids": tokens["input_ids"]}
        else:
            tokens = tokenizer([text], padding="max_length", truncation=True, max_length=longest)
        with torch.no_grad():
            features = model.get_text_features(
                **{name: torch.tensor(tokens[name]) for name in tokens if name != "token_type_ids"}
            ).pooler_output
        rows.append(F.normalize(features, dim=-1))
    return torch.cat(rows).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(axis=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_the_vectors_of_transformers(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    directory = family_folders(family)
    encoder = Encoder.load(str(directory), device="cpu", dtype="float32")
    pixels = sample_pixels(encoder.geometry)

    images = encoder.encode_images(pixels)
    asked = texts_for(family)
    texts = encoder.encode_texts(asked)

    for vectors, count in ((images, len(pixels)), (texts, len(asked))):
        assert vectors.shape == (count, encoder.dimension)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert cosines(images, transformers_images(directory, pixels)).min() > 0.99999
    assert cosines(texts, transformers_texts(directory, asked)).min() > 0.99999
    # The comparison is meaningful only if different inputs give different vectors.
    assert (images @ images.T - np.eye(len(images))).max() < 0.99
    different = texts[[0, 1, 3, 5]]
    assert (different @ different.T - np.eye(len(different))).max() < 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_vectors_have_cosine_above_0_999_to_float32(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    directory = str(family_folders(family))
    exact = Encoder.load(directory, device="cpu", dtype="float32")
    fast = Encoder.load(directory, device="cpu", dtype="bfloat16")
    pixels = sample_pixels(exact.geometry)
    assert fast.dtype == "bfloat16"
    assert cosines(exact.encode_images(pixels), fast.encode_images(pixels)).min() > 0.999
    assert cosines(exact.encode_texts(TEXTS), fast.encode_texts(TEXTS)).min() > 0.999


@pytest.mark.parametrize("family", [*FAMILIES, "builtin"])
def test_few_texts_are_encoded_without_torch_to_the_same_vectors(
    family_folders: Callable[[str], Path], family: str
) -> None:
    model = family if family == "builtin" else family_folders(family)
    few = Encoder.load(str(model), dtype="float32", few_texts=True)
    found = few.encode_texts(TEXTS)
    expected = Encoder.load(str(model), device="cpu", dtype="float32").encode_texts(TEXTS)
    assert cosines(found, expected).min() > 0.99999
    without_torch = few._numpy_text_tower is not None
    assert without_torch == (family not in ("chinese-clip", "altclip", "dual-encoder"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_few_texts_are_encoded_from_weights_of_any_type(
    family_folders: Callable[[str], Path], tmp_path: Path, dtype: str
) -> None:
    directory = tmp_path / dtype
    shutil.copytree(family_folders("clip"), directory)
    path = directory / "model.safetensors"
    tensors = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path)
    found = Encoder.load(str(directory), few_texts=True).encode_texts(TEXTS)
    expected = Encoder.load(str(directory), device="cpu", dtype="float32").encode_texts(TEXTS)
    assert cosines(found, expected).min() > 0.99999


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_does_not_depend_on_its_batch(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    encoder = Encoder.load(str(family_folders(family)), device="cpu", dtype="float32")
    pixels = np.tile(
        sample_pixels(encoder.geometry), (15, 1, 1, 1)
    )  # 75: two full batches and a rest
    alone = np.concatenate([encoder.encode_images(one[None]) for one in pixels[:5]])
    np.testing.assert_allclose(encoder.encode_images(pixels), np.tile(alone, (15, 1)), atol=1e-5)
    texts = TEXTS * 10
    apart = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_texts(texts), np.tile(apart, (10, 1)), atol=1e-5)


@pytest.mark.parametrize("family", ["clip", "siglip", "builtin"])
def test_texts_of_similar_lengths_are_padded_to_the_same_length(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    model = family if family == "builtin" else family_folders(family)
    tokenizer, _ = Encoder.load(str(model), device="cpu")._load_text_tower()
    texts = ["dog " * n for n in range(1, 100)]
    lengths = {tokenizer([text], multiple=4).ids.shape[1] for text in texts}
    if family == "siglip":
        assert lengths == {tokenizer.max_length}
        return
    assert lengths == {*range(4, tokenizer.max_length, 4), tokenizer.max_length}
    assert {tokenizer([text]).ids.shape[1] % 4 for text in texts} != {0}


def test_layers_with_and_without_prepacked_weights_agree(
    family_folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Machines without oneDNN, and GPUs, run without prepacked weights.
    vectors = {}
    for packs in (True, False):
        if not packs:
            monkeypatch.setattr(layers, "can_prepack", lambda dtype: False)
        for family in ("clip", "siglip", "chinese-clip"):
            encoder = Encoder.load(str(family_folders(family)), device="cpu", dtype="float32")
            vectors[packs, family] = (
                encoder.encode_texts(TEXTS),
                encoder.encode_images(sample_pixels(encoder.geometry)),
            )
    for family in ("clip", "siglip", "chinese-clip"):
        for packed, plain in zip(vectors[True, family], vectors[False, family], strict=True):
            assert cosines(packed, plain).min() > 0.99999


def test_the_wrong_end_token_id_of_the_first_clip_models_is_handled(tmp_path: Path) -> None:
    directory = helpers_models.build_clip(tmp_path, legacy_eos=True)
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    assert (
        cosines(encoder.encode_texts(TEXTS), transformers_texts(directory, TEXTS)).min() > 0.99999
    )


def test_layer_sizes_and_activation_are_read_from_the_configuration(tmp_path: Path) -> None:
    directory = helpers_models.build_clip(
        tmp_path, dimension=64, hidden_act="gelu", layer_norm_eps=1e-3
    )
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    assert encoder.dimension == 64
    assert (
        cosines(encoder.encode_texts(TEXTS), transformers_texts(directory, TEXTS)).min() > 0.99999
    )


def test_an_unsupported_activation_falls_back_to_transformers(tmp_path: Path) -> None:
    directory = helpers_models.build_clip(tmp_path, hidden_act="relu")
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    assert (
        cosines(encoder.encode_texts(TEXTS), transformers_texts(directory, TEXTS)).min() > 0.99999
    )


@pytest.mark.parametrize(
    "network",
    [
        {"layer_type": "bottleneck", "depths": [2, 2]},
        {"layer_type": "bottleneck", "downsample_in_bottleneck": True},
        {"downsample_in_first_stage": True},
        {"hidden_act": "gelu"},
    ],
    ids=["bottleneck", "bottleneck first", "first stage", "left to transformers"],
)
def test_resnets_of_every_configuration_give_the_vectors_of_transformers(
    tmp_path: Path, network: dict[str, Any]
) -> None:
    directory = helpers_models.build_dual_encoder(tmp_path, image_size=64, **network)
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    pixels = sample_pixels(encoder.geometry)
    vectors = encoder.encode_images(pixels)
    assert cosines(vectors, transformers_images(directory, pixels)).min() > 0.99999
    assert (vectors @ vectors.T - np.eye(len(vectors))).max() < 0.999


# --- lazy loading --------------------------------------------------------------------------------

LOADED = """
import sys
from sightline.indexer.encoder import Encoder
encoders = [Encoder.load(folder) for folder in sys.argv[1:]]
assert "torch" not in sys.modules
for encoder in encoders:
    encoder.encode_texts(["a dog"])
    assert encoder._text_tower is not None and not encoder._image_towers
for encoder in encoders:
    encoder.warm(["image"])
assert "transformers" not in sys.modules
"""


def test_a_text_query_loads_the_text_tower_only_and_not_transformers(
    family_folders: Callable[[str], Path],
) -> None:
    families = ("clip", "metaclip2", "siglip", "siglip2", "siglip2-naflex", "dual-encoder")
    folders = [str(family_folders(family)) for family in families]
    subprocess.run([sys.executable, "-c", LOADED, *folders], cwd=TOP, check=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_needs_only_its_own_weights(
    family: str, family_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = family_folders(family)
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    tensors = load_file(directory / "model.safetensors")
    for half, other in (("text", "vision"), ("vision", "text")):
        copy = shutil.copytree(directory, tmp_path / half)
        kept = {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith((f"{other}_", "visual_" if other == "vision" else "text_"))
        }
        # The dimension is read from this one.
        kept |= {name: tensors[name] for name in tensors if name == "text_model.head.weight"}
        save_file(kept, copy / "model.safetensors")
        alone = Encoder.load(str(copy), dtype="float32", device="cpu")
        if half == "text":
            np.testing.assert_array_equal(alone.encode_texts(TEXTS), encoder.encode_texts(TEXTS))
            with pytest.raises(ModelError, match="the weights lack vis"):
                alone.warm(["image"])
        else:
            pixels = sample_pixels(encoder.geometry)
            np.testing.assert_array_equal(
                alone.encode_images(pixels), encoder.encode_images(pixels)
            )
            with pytest.raises(ModelError, match="the weights lack text"):
                alone.warm()


def test_an_encoder_is_thread_safe(family_folders: Callable[[str], Path]) -> None:
    for family in ("clip", "siglip", "altclip"):
        encoder = Encoder.load(str(family_folders(family)), dtype="float32", device="cpu")
        pixels = sample_pixels(encoder.geometry)
        with ThreadPoolExecutor(8) as pool:
            texts = np.concatenate(list(pool.map(encoder.encode_texts, [[t] for t in TEXTS * 8])))
            images = np.concatenate(list(pool.map(encoder.encode_images, [*pixels[:, None]] * 4)))
        np.testing.assert_allclose(texts, np.tile(encoder.encode_texts(TEXTS), (8, 1)), atol=1e-5)
        np.testing.assert_allclose(
            images, np.tile(encoder.encode_images(pixels), (4, 1)), atol=1e-5
        )


# --- images --------------------------------------------------------------------------------------


# NaFlex's processor gives patches: see test_photo_processors and test_naflex.
@pytest.mark.parametrize("family", [one for one in FAMILIES if one != "siglip2-naflex"])
def test_geometry_and_normalisation_match_transformers_image_processors(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    directory = family_folders(family)
    encoder = Encoder.load(str(directory), dtype="float32", device="cpu")
    config = json.loads((directory / "preprocessor_config.json").read_text())
    processor = pillow_processor(config)
    original = Image.fromarray(
        np.random.default_rng(3).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    ).resize((301, 203), Image.Resampling.BICUBIC)
    for image in (
        original,
        original.transpose(Image.Transpose.ROTATE_90),
        original.resize((40, 40)),
    ):
        theirs = processor(image, return_tensors="np")["pixel_values"]
        pixels = torch.from_numpy(resized_and_cropped(image, encoder.geometry)[None].copy())
        ours = encoder._standardize(pixels).permute(0, 3, 1, 2).numpy()
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def pillow_processor(config: dict[str, Any]) -> Any:
    """transformers' own image processor on Pillow; its others need torchvision."""
    import transformers

    return getattr(transformers, config["image_processor_type"] + "Pil")(**config)


def resized_and_cropped(image: Image.Image, geometry: Geometry) -> np.ndarray:
    """``image`` resized and cropped by the definition of ``Geometry``."""
    resample = Image.Resampling[geometry.resample.upper()]
    if geometry.fit == "squash":
        return np.asarray(image.resize((geometry.width, geometry.height), resample))
    scale = geometry.resize / min(image.size)
    width, height = (max(geometry.resize, int(side * scale)) for side in image.size)
    image = image.resize((width, height), resample)
    left, top = (width - geometry.width) // 2, (height - geometry.height) // 2
    return np.asarray(image.crop((left, top, left + geometry.width, top + geometry.height)))


@pytest.mark.parametrize(
    ("config", "geometry"),
    [
        ({"size": 224, "crop_size": 224}, Geometry(224, 224, 224, "crop", "bicubic")),
        ({"size": {"shortest_edge": 256}}, Geometry(224, 224, 256, "crop", "bicubic")),
        (
            {"size": {"shortest_edge": 30}, "do_center_crop": False},
            Geometry(32, 32, 30, "crop", "bicubic"),
        ),
        (
            {"size": {"height": 32, "width": 48}, "do_center_crop": False, "resample": 2},
            Geometry(32, 48, 32, "squash", "bilinear"),
        ),
        (
            {"size": {"height": 32, "width": 32}, "crop_size": {"height": 32, "width": 32}},
            Geometry(32, 32, 32, "squash", "bicubic"),
        ),
    ],
)
def test_every_notation_of_a_size_is_read(
    config: dict[str, Any],
    geometry: Geometry,
    family_folders: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    directory = shutil.copytree(family_folders("clip"), tmp_path / "model")
    (directory / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "CLIPFeatureExtractor", **config})
    )
    assert Encoder.load(str(directory)).geometry == geometry


def test_pixels_of_another_size_are_refused(family_folders: Callable[[str], Path]) -> None:
    encoder = Encoder.load(str(family_folders("clip")))
    for wrong in (np.zeros((1, 31, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.float32)):
        with pytest.raises(ValueError, match="not uint8"):
            encoder.encode_images(wrong)
    assert encoder.encode_images(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 32)


def test_a_preprocessor_config_of_another_model_is_an_error(
    family_folders: Callable[[str], Path], tmp_path: Path
) -> None:
    directory = shutil.copytree(family_folders("clip"), tmp_path / "model")
    helpers_models.save_preprocessor(
        directory, "CLIPImageProcessor", size={"height": 64, "width": 64}, do_center_crop=False
    )
    with pytest.raises(ModelError, match="64 x 64 do not fit this model"):
        Encoder.load(str(directory)).warm(["image"])


# --- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_token_ids_are_those_of_transformers(
    family: str, family_folders: Callable[[str], Path]
) -> None:
    directory = family_folders(family)
    encoder = Encoder.load(str(directory), device="cpu")
    encoder.warm()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert encoder._tokenizer is not None
    for text in [*texts_for(family), *helpers_models.TEXT]:
        if family.startswith("siglip"):
            text = text.lower()
        ours = encoder._tokenizer([text]).ids[0].tolist()
        theirs = tokenizer(text, truncation=True, max_length=encoder._tokenizer.max_length)
        assert ours[: len(theirs["input_ids"])] == theirs["input_ids"]


def test_clips_tokenizer_is_built_from_merges_without_tokenizer_json(
    tiny_clip: Path, tmp_path: Path
) -> None:
    # As in MetaCLIP's repositories.
    directory = shutil.copytree(tiny_clip, tmp_path / "model")
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    (directory / "tokenizer.json").unlink()
    (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"])])
    (directory / "merges.txt").write_text(merges + "\n")
    texts = [*TEXTS, *helpers_models.TEXT]
    encoder, whole = Encoder.load(str(directory)), Encoder.load(str(tiny_clip))
    np.testing.assert_array_equal(encoder.encode_texts(texts), whole.encode_texts(texts))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert encoder._tokenizer is not None
    for text in texts:
        theirs = tokenizer(text, truncation=True, max_length=77)["input_ids"]
        assert encoder._tokenizer([text]).ids[0].tolist() == theirs


def test_encode_texts_refuses_a_single_string(family_folders: Callable[[str], Path]) -> None:
    encoder = Encoder.load(str(family_folders("clip")))
    with pytest.raises(TypeError):
        encoder.encode_texts("a dog")
    assert encoder.encode_texts([]).shape == (0, 32)


# --- labels --------------------------------------------------------------------------------------


def test_logit_scale_bias_and_sigmoid_are_read_from_the_model(
    family_folders: Callable[[str], Path],
) -> None:
    clip = Encoder.load(str(family_folders("clip")))
    assert (clip.sigmoid, clip.logit_bias) == (False, 0.0)
    assert clip.logit_scale == pytest.approx(np.exp(2.6592), rel=1e-4)
    siglip = Encoder.load(str(family_folders("siglip2")))
    assert siglip.sigmoid
    assert siglip.logit_scale == pytest.approx(np.exp(4.7), rel=1e-4)
    assert siglip.logit_bias == pytest.approx(-16.5)


# --- devices -------------------------------------------------------------------------------------


def test_an_unknown_or_missing_device_is_an_error_in_one_line(
    family_folders: Callable[[str], Path],
) -> None:
    directory = str(family_folders("clip"))
    with pytest.raises(ModelError, match="no device is called 'tpu'"):
        Encoder.load(directory, device="tpu")
    with pytest.raises(ModelError, match="no dtype is called 'int4'"):
        Encoder.load(directory, dtype="int4")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="use --device cpu"):
            Encoder.load(directory, device="cuda")


def test_auto_dtype_is_bfloat16_if_the_cpu_multiplies_it() -> None:
    cpu = torch.device("cpu")
    expected = torch.bfloat16 if devices.cpu_multiplies_bfloat16() else torch.float32
    assert devices.resolve_dtype("auto", cpu) == expected
    assert devices.resolve_dtype("float32", cpu) == torch.float32


def test_the_last_batches_of_photos_are_smaller_so_that_all_cores_work_until_the_end(
    tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Encoder, "batch_size", 8)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
    photos = [Photo(PhotoInfo(32, 32, "jpeg"), one, b"", f"{n}") for n, one in enumerate(pixels)]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batches = list(encode_photos(tiny_encoder, enumerate(photos), count=20))
        others = list(encode_photos(tiny_encoder, enumerate(photos)))
    finally:
        torch.set_num_threads(threads)
    assert [len(batch) for batch in batches] == [8, 6, 3, 1, 1, 1]
    assert [len(batch) for batch in others] == [8, 8, 4]
    encoded = [item for batch in batches for item in batch]
    assert [number for number, _, _ in encoded] == list(range(20))
    np.testing.assert_allclose(
        np.stack([vector for _, _, vector in encoded]),
        tiny_encoder.encode_images(pixels),
        atol=1e-5,
    )
