"""The built-in model: what ships in ``data/builtin``, and the benchmark that measures it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from sightline.data.scenes import Scene, captions, compose, render
from sightline.indexer.encoder import Encoder, registry
from sightline.indexer.errors import ModelMismatchError
from sightline.indexer.library import Library
from sightline.indexer.types import Embeddings
from sightline.server.cli import run
from sightline.server.search.engine import SearchEngine

BUILTIN = registry.builtin_directory()

SCENES = 120
"""Held-out scenes that the tests render."""


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The benchmark, which is a script of the checkout and not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BUILTIN.parents[1])
        return importlib.import_module("benchmarks.builtin_model")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load("builtin", device="cpu")


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [compose(seed, split="test") for seed in range(SCENES)]


@pytest.fixture(scope="module")
def images(encoder: Encoder, scenes: list[Scene], benchmark: ModuleType) -> Embeddings:
    found: Embeddings = benchmark.encoded(encoder, (render(scene, width=448) for scene in scenes))
    return found


def test_the_weights_are_small_and_of_half_precision() -> None:
    weights = BUILTIN / "model.safetensors"
    assert weights.stat().st_size <= 25_000_000
    with safe_open(weights, framework="pt") as tensors:
        kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {torch.float16}


def test_everything_a_model_folder_needs_is_there() -> None:
    needed = ("config.json", "preprocessor_config.json", "tokenizer.json", "README.md", "NOTICE")
    assert all((BUILTIN / name).is_file() for name in needed)


def test_the_registry_describes_the_shipped_weights(encoder: Encoder) -> None:
    info = registry.find("builtin")
    assert info is not None
    config = json.loads((BUILTIN / "config.json").read_text())
    with safe_open(BUILTIN / "model.safetensors", framework="pt") as tensors:
        count = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    assert info.dimension == encoder.dimension == config["projection_dim"]
    assert info.image_size == encoder.geometry.width == config["vision_config"]["image_size"]
    assert info.parameters == round(count / 1e6)


def test_captions_find_held_out_scenes(
    encoder: Encoder, scenes: list[Scene], images: Embeddings, benchmark: ModuleType
) -> None:
    texts = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    ranks = benchmark.ranks(texts, images, range(len(scenes)))
    assert (ranks < 1).mean() >= 0.9
    assert (ranks < 10).mean() == 1


@pytest.mark.parametrize(
    ("word", "close", "far"),
    [
        ("a dog", "a puppy", "a car"),
        ("a car", "an automobile", "a dog"),
        ("the sea", "a beach", "a pizza"),
        ("a photo of a cat", "a kitten", "a bridge"),
        ("lorry", "truck", "flower"),
        ("child", "toddler", "skyscraper"),
    ],
)
def test_common_words_are_near_their_like(
    encoder: Encoder, word: str, close: str, far: str
) -> None:
    mine, near, other = encoder.encode_texts([word, close, far])
    assert mine @ near > mine @ other


def test_common_nouns_are_one_token() -> None:
    tokenizer = Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    nouns = "lorry skyscraper sunflower wedding birthday toddler bicycle barbecue fjord smartphone"
    for noun in nouns.split():
        assert tokenizer.encode(noun, add_special_tokens=False).tokens == [noun]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("sdfkjh", ["sdfkjh"]),
        ("the Eiffel tower in 2018", ["Eiffel"]),
        ("dogs and croissants", []),
        ("spaceship", []),  # a compound of known words
    ],
)
def test_a_word_that_the_vocabulary_has_only_pieces_of_is_unknown(
    encoder: Encoder, text: str, unknown: list[str]
) -> None:
    assert encoder.unknown_words(text) == unknown


def test_words_in_pieces_are_unknown_as_the_tokenizer_splits_them(encoder: Encoder) -> None:
    tokenizer = Tokenizer.from_file(str(BUILTIN / "tokenizer.json"))
    known = [word for word in sorted(tokenizer.get_vocab()) if word.isalpha() and word.isascii()]
    some = known[::97]
    words = [one + other for one, other in zip(some, [*some[7:], *some[:7]], strict=True)]
    words += [word.title() + "s" for word in some] + [word[1:] + "z" for word in some]
    words += ["a", "Zz", "abz", "x" * 100, "x" * 101, "Ángström", "Müllerin"]
    unknown = 0
    for word in words:
        pieces = tokenizer.encode(word, add_special_tokens=False).tokens
        is_known = len(pieces) == 1 or (len(pieces) == 2 and len(pieces[0]) >= 3)
        assert encoder.unknown_words(word) == ([] if is_known else [word])
        unknown += not is_known
    assert 50 < unknown < len(words) - 50


def test_a_caption_is_said_of_an_image_only_where_it_fits(
    encoder: Encoder,
    scenes: list[Scene],
    images: Embeddings,
    benchmark: ModuleType,
    tmp_path: Path,
) -> None:
    with (
        benchmark.library_of(tmp_path / "library", encoder, images) as library,
        SearchEngine(library, encoder) as engine,
    ):
        said = [[text for text, _ in engine.words_for(id, k=5)] for id in range(1, SCENES + 1)]
    assert any(said)
    assert not all(said)  # rather nothing than what fits least badly
    balloons = [
        any(subject.kind == "hot-air balloon" for subject in scene.subjects)
        for scene, texts in zip(scenes, said, strict=True)
        if any("hot air balloon" in text for text in texts)
    ]
    assert balloons
    assert all(balloons)


def test_a_query_of_unknown_words_has_no_match_and_a_message_that_names_them(
    encoder: Encoder, images: Embeddings, benchmark: ModuleType, tmp_path: Path
) -> None:
    with (
        benchmark.library_of(tmp_path / "library", encoder, images) as library,
        SearchEngine(library, encoder) as engine,
    ):
        nothing = engine.search("sdfkjh qwertz")
        assert nothing.good == 0
        assert not any(hit.match for hit in nothing.hits)
        assert 'This model does not know the words "sdfkjh", "qwertz".' in str(nothing.message)
        partly = engine.search("a dog named Blorptz")
        assert 'This model does not know the word "Blorptz".' in str(partly.message)
        assert engine.search("a red car").message is None


def test_a_text_has_one_vector_however_it_is_padded(encoder: Encoder) -> None:
    alone = encoder.encode_texts(["a red car"])[0]
    texts = ["a red car", "two white sheep to the left of a green windmill"]
    assert alone @ encoder.encode_texts(texts)[0] > 0.9999


def test_case_and_a_full_stop_change_little(encoder: Encoder) -> None:
    plain, other = encoder.encode_texts(["a dog on a beach", "A dog on a beach."])
    assert plain @ other > 0.95


def test_a_text_of_unknown_characters_has_a_vector(encoder: Encoder) -> None:
    vectors = encoder.encode_texts(["", "\u2603", "犬"])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_a_library_of_an_older_builtin_model_names_the_command_that_indexes_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory, photos = tmp_path / "library", tmp_path / "my photos"
    with Library.create(directory, model="builtin", revision="old", dimension=256) as library:
        library.ensure_root(photos)
    assert run(["search", "a dog", "--library", str(directory)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "the built-in model has changed" in line
    assert f"sightline reencode --model builtin --library {directory}" in line
    with Library.open(directory) as library, pytest.raises(ModelMismatchError):
        SearchEngine(library)


# --- the benchmark -------------------------------------------------------------------------------


def test_the_benchmark_counts_images_before_the_right_one(benchmark: ModuleType) -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[0.9, 0.1, 0.0], [0.8, 0.5, 0.3], [0.6, 0.7, 0.2]], dtype=np.float32)
    assert benchmark.ranks(texts, images, [0, 1, 2]).tolist() == [0, 1, 2]


def test_an_image_is_found_by_the_best_of_its_captions(benchmark: ModuleType) -> None:
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[0.1, 0.0], [0.9, 0.1], [0.5, 0.3], [0.0, 0.2]], dtype=np.float32)
    assert benchmark.first_ranks(images, texts, [0, 0, 1, 1]).tolist() == [0, 0]
    assert benchmark.first_ranks(images, texts, [1, 0, 0, 1]).tolist() == [0, 1]


def test_the_benchmark_shows_every_figure_beside_its_aim(benchmark: ModuleType) -> None:
    figures = [
        benchmark.Figure("found", 0.8125, 0.80, 0.79, 0.83),
        benchmark.Figure("speed", 412.3, 200, unit="/s"),
        benchmark.Figure("query", 3.14, 5, unit="ms"),
    ]
    assert benchmark.table(figures).splitlines()[2:] == [
        "| found | 0.812 | 0.790 to 0.830 | 0.8 |",
        "| speed | 412 | | >= 200 |",
        "| query | 3.1 ms | | < 5 ms |",
    ]


def test_the_gallery_is_measured_by_the_facts_of_its_scenes(
    encoder: Encoder, benchmark: ModuleType
) -> None:
    nouns, negatives, both = benchmark.measure_gallery(encoder, 60)
    assert nouns.value >= 0.7  # of 60 images every one must be found, the smallest bird too
    assert 0 <= negatives.low <= negatives.value <= negatives.high <= 1
    assert 0 <= both.value <= 1
