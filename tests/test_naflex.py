"""SigLIP 2 NaFlex, whose images have any shape: against transformers, and in a library."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import helpers_models
import helpers_photos as files
import numpy as np
import pytest
import torch
from helpers_library import as_bytes, draw, id_of, make_library
from PIL import Image
from torch.nn import functional as F
from transformers import AutoImageProcessor, AutoModel, AutoProcessor

from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import ModelError
from sightline.indexer.indexing.reencode import reencode
from sightline.indexer.library import Library
from sightline.indexer.photo import Decoder, photo
from sightline.indexer.photo.pixels import resized_size
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import find_items, plan
from sightline.indexer.shards.ray_task import Job, embed_shard
from sightline.indexer.shards.shard_files import Origin, read_shard, shard_name
from sightline.indexer.types import Geometry
from sightline.server.cli import run
from sightline.server.search import SearchEngine

PATCHES = Geometry(256, 256, 256, "patches", "bilinear", patch=16, max_patches=256)

IMAGES = {
    "wide.png": (1600, 90),
    "tall.webp": (70, 1100),
    "line.png": (3000, 2),
    "dot.bmp": (1, 1),
    "tiny.bmp": (7, 5),
    "square.png": (256, 256),
    "landscape.jpg": (2400, 1600),
    "portrait.jpg": (1200, 1600),
    "scan.tiff": (480, 640),
    "banner.gif": (500, 120),
}
"""Width and height of each file."""

TEXTS = [
    "a dog on a beach",
    "A Golden RETRIEVER, it's sleeping!",
    "",
    "沙滩上的一只狗",
    " ".join(["a very long description of two people riding bicycles"] * 60),
]


@pytest.fixture(scope="module")
def naflex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the real architecture of random weights."""
    return helpers_models.build_siglip2_naflex(tmp_path_factory.mktemp("models") / "naflex")


@pytest.fixture(scope="module")
def encoder(naflex: Path) -> Encoder:
    return Encoder.load(str(naflex), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``IMAGES``."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate(IMAGES.items()):
        files.scene(seed, size).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def shown(pictures: Path, encoder: Encoder) -> list[np.ndarray]:
    """What the model is shown of ``IMAGES``."""
    return read(pictures, encoder.geometry)


def read(folder: Path, geometry: Geometry) -> list[np.ndarray]:
    """``IMAGES``, read in a worker process."""
    with Decoder(geometry, workers=1) as decoder:
        return [decoder.read_bytes((folder / name).read_bytes()).pixels for name in IMAGES]


def transformers_images(directory: Path, folder: Path) -> np.ndarray:
    """transformers' embeddings of ``IMAGES``: its image processor, all in one padded batch."""
    model = AutoModel.from_pretrained(directory).eval()
    processor = AutoImageProcessor.from_pretrained(directory)
    opened = []
    for name in IMAGES:
        with Image.open(folder / name) as image:
            opened.append(image.convert("RGB"))
    inputs = processor(images=opened, return_tensors="pt")
    assert not bool(inputs["pixel_attention_mask"].all())
    with torch.no_grad():
        return F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1).numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a * b).sum(-1))


# --- against transformers ------------------------------------------------------------------------


def test_images_of_any_shape_and_texts_have_the_vectors_of_transformers(
    naflex: Path, encoder: Encoder, pictures: Path, shown: list[np.ndarray]
) -> None:
    expected = transformers_images(naflex, pictures)
    found = encoder.encode_images(shown)
    assert cosines(found, expected).min() > 0.999
    # The comparison is meaningful only if different inputs give different vectors.
    assert (found @ found.T - np.eye(len(found))).max() < 0.99

    model, processor = (
        AutoModel.from_pretrained(naflex).eval(),
        AutoProcessor.from_pretrained(naflex),
    )
    tokens = processor(
        text=[text.lower() for text in TEXTS],
        padding="max_length",
        truncation=True,
        max_length=64,
        return_tensors="pt",
    )
    with torch.no_grad():
        # Without a mask: the model was trained on padded texts.
        features = model.get_text_features(tokens["input_ids"]).pooler_output
    expected = F.normalize(features, dim=-1).numpy()
    assert (expected @ expected.T - np.eye(len(TEXTS))).max() < 0.999
    assert cosines(encoder.encode_texts(TEXTS), expected).min() > 0.999
    few = Encoder.load(str(naflex), dtype="float32", few_texts=True)
    assert cosines(few.encode_texts(TEXTS), expected).min() > 0.999


@pytest.mark.parametrize("patches", [64, 600])
def test_the_budget_of_patches_is_the_models(tmp_path: Path, pictures: Path, patches: int) -> None:
    # Positions were learnt on a grid of 16 x 16.
    directory = helpers_models.build_siglip2_naflex(tmp_path / "model", max_patches=patches)
    encoder = Encoder.load(str(directory), device="cpu", dtype="float32")
    shown = read(pictures, encoder.geometry)
    counts = [one.shape[0] * one.shape[1] // 16**2 for one in shown]
    assert 0.8 * patches < max(counts) <= patches
    found = encoder.encode_images(shown)
    assert cosines(found, transformers_images(directory, pictures)).min() > 0.999


def test_a_folder_written_by_transformers_own_processor_is_read(
    naflex: Path, encoder: Encoder, tmp_path: Path
) -> None:
    # Into processor_config.json, without a preprocessor_config.json.
    directory = shutil.copytree(naflex, tmp_path / "model")
    (directory / "preprocessor_config.json").unlink()
    AutoProcessor.from_pretrained(naflex).save_pretrained(directory)
    assert not (directory / "preprocessor_config.json").exists()
    again = Encoder.load(str(directory), device="cpu", dtype="float32")
    assert again.geometry == encoder.geometry == PATCHES
    pixels = np.full((1, 256, 256, 3), 77, np.uint8)
    assert np.array_equal(again.encode_images(pixels), encoder.encode_images(pixels))


@pytest.mark.parametrize("kind", ["Siglip2ImageProcessorFast", "Siglip2ImageProcessorPil"])
def test_every_processor_of_transformers_is_known(naflex: Path, tmp_path: Path, kind: str) -> None:
    # The hub's files name the first; sizes and normalisation are the class's defaults.
    directory = shutil.copytree(naflex, tmp_path / "model")
    config = {"image_processor_type": kind}
    (directory / "preprocessor_config.json").write_text(json.dumps(config))
    found, expected = (Encoder.load(str(model))._preprocessing for model in (directory, naflex))
    assert found == expected


@pytest.mark.parametrize("patches", [64, 256, 1024])
def test_sizes_are_those_of_transformers(patches: int) -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import (
        get_image_size_for_max_num_patches,
    )

    geometry = Geometry(fit="patches", patch=16, max_patches=patches)
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(0, np.log(20_000), (400, 2))).astype(int).tolist()
    for width, height in [*sizes, (60_000, 3), (1, 40_000), (1, 1), (4000, 3000), (3024, 4032)]:
        height_found, width_found = get_image_size_for_max_num_patches(height, width, 16, patches)
        assert resized_size((width, height), geometry) == (width_found, height_found)


# --- batches -------------------------------------------------------------------------------------


def test_the_order_and_shapes_of_a_batch_do_not_change_a_vector(
    encoder: Encoder, shown: list[np.ndarray]
) -> None:
    alone = np.concatenate([encoder.encode_images(one[None]) for one in shown])
    order = np.random.default_rng(1).permutation(8 * len(shown)) % len(shown)
    mixed = encoder.encode_images([shown[row] for row in order])
    np.testing.assert_allclose(mixed, alone[order], atol=1e-5)
    assert encoder.encode_images([]).shape == (0, 48)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((256, 250, 3), np.uint8),
        np.zeros((256, 272, 3), np.uint8),
        np.zeros((0, 16, 3), np.uint8),
        np.zeros((256, 256, 4), np.uint8),
        np.zeros((256, 256, 3), np.float32),
    ],
    ids=["no whole patches", "too many patches", "empty", "channels", "dtype"],
)
def test_pixels_that_are_no_whole_patches_within_the_budget_are_refused(
    encoder: Encoder, image: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        encoder.encode_images([np.zeros((16, 16, 3), np.uint8), image])


def test_bfloat16_vectors_of_any_shape_have_cosine_above_0_999_to_float32(
    naflex: Path, encoder: Encoder, shown: list[np.ndarray]
) -> None:
    fast = Encoder.load(str(naflex), device="cpu", dtype="bfloat16")
    assert cosines(fast.encode_images(shown), encoder.encode_images(shown)).min() > 0.999


# --- files of another model ----------------------------------------------------------------------


def changed(
    naflex: Path, directory: Path, name: str, change: Callable[[dict[str, Any]], Any]
) -> Path:
    """A copy of the model with another configuration."""
    shutil.copytree(naflex, directory)
    config = json.loads((directory / name).read_text())
    change(config)
    (directory / name).write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "preprocessor_config.json",
            lambda config: config.update(patch_size=14),
            "224 x 224 do not fit this model",
        ),
        (
            "preprocessor_config.json",
            lambda config: config.update(max_num_patches=0),
            "takes 0 patches of 16 pixels",
        ),
        (
            "config.json",
            lambda config: config["vision_config"].update(vision_use_head=False),
            "not that of a supported tower of the family 'siglip2'",
        ),
    ],
    ids=["patch size", "no patches", "no head"],
)
def test_a_configuration_that_does_not_fit_is_an_error(
    naflex: Path, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    directory = changed(naflex, tmp_path / "model", name, change)
    with pytest.raises(ModelError, match=message):
        Encoder.load(str(directory)).warm(["image"])


# --- a library -----------------------------------------------------------------------------------


def vectors_by_name(library: Library) -> dict[str, np.ndarray]:
    ids = library.select()
    names = [record.path for record in library.images(ids.tolist())]
    return dict(zip(names, library.catalog.vectors(ids), strict=True))


def test_a_library_is_indexed_and_searched_by_text_image_upload_and_region(
    tmp_path: Path, encoder: Encoder, pictures: Path, shown: list[np.ndarray]
) -> None:
    with make_library(tmp_path / "library", encoder, pictures) as library:
        expected = encoder.encode_images(shown)
        found = vectors_by_name(library)
        assert cosines(np.stack([found[name] for name in IMAGES]), expected).min() > 0.9999
        with SearchEngine(library, encoder) as engine:
            [text] = encoder.encode_texts(["a house"])
            best = max(found, key=lambda name: float(found[name] @ text))
            assert engine.search("a house", k=1).hits[0].id == id_of(library, best)
            for name in ("wide.png", "portrait.jpg"):
                image = id_of(library, name)
                upload = engine.upload((pictures / name).read_bytes())
                assert engine.search(f"upload:{upload.token}", k=1).hits[0].id == image
                region = photo.crop(pictures / name, (0.2, 0, 1, 0.5), encoder.geometry)
                [vector] = encoder.encode_images([region])
                best = max(found, key=lambda name: float(found[name] @ vector))
                [hit] = engine.search(f"like:{image}@.2,0,1,.5", k=1).hits
                assert hit.id == id_of(library, best)


def test_a_library_of_another_model_is_re_encoded(
    tmp_path: Path, tiny_encoder: Encoder, encoder: Encoder
) -> None:
    (tmp_path / "pictures").mkdir()
    expected = {}
    for seed, size in enumerate([(900, 600), (600, 900), (1500, 300), (640, 480)]):
        file = tmp_path / "pictures" / f"{seed}.jpg"
        file.write_bytes(as_bytes(draw(seed, size), quality=90))
        [expected[file.name]] = encoder.encode_images([photo.read(file, encoder.geometry).pixels])
    make_library(tmp_path / "originals", tiny_encoder, tmp_path / "pictures").close()
    shutil.copytree(tmp_path / "originals", tmp_path / "thumbnails")
    for source, least in (("originals", 0.999), ("thumbnails", 0.99)):
        report = reencode(tmp_path / source, encoder=encoder, workers=1, pixels=source)
        counts = {"originals": report.from_originals, "thumbnails": report.from_thumbnails}
        assert counts[source] == 4
        with Library.open(tmp_path / source) as library:
            assert library.model == encoder.model
            found = vectors_by_name(library)
        assert all(float(found[name] @ vector) > least for name, vector in expected.items())


def test_commands_take_the_model(
    tmp_path: Path, naflex: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library, copy, exported = tmp_path / "library", tmp_path / "copy", tmp_path / "set.jsonl"

    def sightline(*arguments: str | Path) -> Any:
        assert run([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    report = sightline("index", pictures, "--library", library, "--model", naflex, "-q")
    assert (report["added"], report["failed"]) == (len(IMAGES), 0)
    found = sightline("search", "--image", pictures / "wide.png", "--library", library)
    assert found["hits"][0]["absolute"] == str(pictures / "wide.png")
    sightline("export", exported, "--library", library, "-q")
    assert sightline("import", exported, "--library", copy, "-q")["imported"] == len(IMAGES)
    with Library.open(library) as one, Library.open(copy) as other:
        assert one.model == other.model == str(naflex)
        vectors = vectors_by_name(one)
        for name, vector in vectors_by_name(other).items():
            assert np.array_equal(vector, vectors[Path(name).name])
    options = ["--images", pictures, "--models", naflex, "-q"]
    [tried] = sightline("models", "--try", "red", *options)
    assert tried["images"] == len(IMAGES)


def test_shards_hold_the_vectors(
    tmp_path: Path, encoder: Encoder, pictures: Path, shown: list[np.ndarray]
) -> None:
    place = Place.at(str(tmp_path / "shards"))
    origin = Origin(encoder.model, encoder.revision, encoder.dimension, "test", "2026-01-01")
    [shard] = plan(place, find_items(str(pictures)), size=100)[0]
    assert embed_shard(Job(place.url, origin, device="cpu"), shard).embedded == len(IMAGES)
    [rows] = read_shard(place, shard_name(shard.number))
    found = {row.path: row.vector for row in rows}
    expected = encoder.encode_images(shown)
    assert cosines(np.stack([found[name] for name in IMAGES]), expected).min() > 0.999
