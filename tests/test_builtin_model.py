"""The built-in model: what ships in ``data/builtin``, and the recipe that makes it."""

import importlib
import itertools
import json
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from sightline.data.scenes.gallery import captions, compose, render, triples
from sightline.data.training import data, train_builtin

BUILTIN = Path(train_builtin.__file__).parent / "builtin"


class Plain:
    """The shipped folder through transformers alone, without anything of this project."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.preprocessing = json.loads((folder / "preprocessor_config.json").read_text())

    @torch.no_grad()
    def images(self, pictures: list[Image.Image]) -> torch.Tensor:
        size = (self.preprocessing["size"]["width"], self.preprocessing["size"]["height"])
        pixels = np.stack(
            [
                np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BICUBIC))
                for picture in pictures
            ]
        )
        values = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
        mean = torch.tensor(self.preprocessing["image_mean"]).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocessing["image_std"]).view(1, 3, 1, 1)
        pooled = self.model.vision_model((values - mean) / std).pooler_output.flatten(1)
        return F.normalize(self.model.visual_projection(pooled), dim=-1)

    @torch.no_grad()
    def texts(self, sentences: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(sentences, padding=True, return_tensors="pt")
        return F.normalize(self.model.get_text_features(**tokens).pooler_output, dim=-1)


@pytest.fixture(scope="module")
def shipped() -> Plain:
    return Plain(BUILTIN)


def test_the_weights_are_small_and_of_half_precision() -> None:
    weights = BUILTIN / "model.safetensors"
    assert weights.stat().st_size <= 25_000_000
    with safe_open(weights, framework="pt") as tensors:
        kinds = {tensors.get_tensor(name).dtype for name in tensors.keys()}  # noqa: SIM118
    assert kinds <= {torch.float16, torch.int64}  # batch normalisation counts its batches


def test_everything_a_model_folder_needs_is_there() -> None:
    needed = ("config.json", "preprocessor_config.json", "tokenizer.json", "README.md")
    assert all((BUILTIN / name).is_file() for name in needed)


def test_captions_find_held_out_scenes(shipped: Plain) -> None:
    scenes = [compose(seed, split="test") for seed in range(200)]
    images = shipped.images([render(scene, width=320) for scene in scenes])
    texts = shipped.texts([captions(scene)[0] for scene in scenes])
    scores = texts @ images.T
    ranks = (scores > scores.diagonal()[:, None]).sum(dim=1)
    assert (ranks < 10).float().mean() >= 0.8


@pytest.mark.parametrize(
    ("word", "close", "far"),
    [
        ("a dog", "a puppy", "a car"),
        ("a car", "an automobile", "a dog"),
        ("the sea", "a beach", "a pizza"),
        ("a photo of a cat", "a kitten", "a bridge"),
    ],
)
def test_common_words_stand_near_their_like(
    shipped: Plain, word: str, close: str, far: str
) -> None:
    mine, near, other = shipped.texts([word, close, far])
    assert mine @ near > mine @ other


def test_a_sentence_has_one_vector_however_it_is_padded(shipped: Plain) -> None:
    alone = shipped.texts(["a red car"])[0]
    among = shipped.texts(["a red car", "two white sheep to the left of a green windmill"])[0]
    assert torch.allclose(alone, among, atol=1e-4)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The benchmark, which is a script of the checkout and not installed."""
    monkeypatch.syspath_prepend(BUILTIN.parents[1])
    return importlib.import_module("benchmarks.builtin_model")


def test_the_benchmark_counts_pictures_before_the_right_one(benchmark: ModuleType) -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[0.9, 0.1, 0.0], [0.8, 0.5, 0.3], [0.6, 0.7, 0.2]], dtype=np.float32)
    assert benchmark.ranks(texts, images, [0, 1, 2]).tolist() == [0, 1, 2]


def test_the_benchmark_shows_every_figure_beside_its_target(benchmark: ModuleType) -> None:
    figures = [benchmark.Figure("found", 0.8125, 0.80), benchmark.Figure("speed", 412.3, 200)]
    assert benchmark.table(figures).splitlines()[2:] == [
        "| found | 0.812 | 0.80 |",
        "| speed | 412 | >= 200 |",
    ]


# --- the recipe ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in Tiny ImageNet's layout: three classes, each with a colour of its own."""
    root = tmp_path_factory.mktemp("photographs")
    noise = np.random.default_rng(0)
    colours = {
        "n01443537": (230, 120, 20),
        "n02099601": (200, 170, 110),
        "n04146614": (250, 210, 0),
    }
    for wnid, colour in colours.items():
        folder = root / "train" / wnid / "images"
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = np.clip(noise.normal(colour, 25, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{wnid}_{number}.JPEG")
    names = {"n01443537": "goldfish", "n02099601": "golden retriever", "n04146614": "school bus"}
    lines = [f"{wnid}\t{name}, {name.title()}" for wnid, name in names.items()]
    (root / "words.txt").write_text("\n".join(lines), encoding="utf-8")
    return root


def test_the_recipe_prepares_trains_resumes_and_exports(photographs: Path, tmp_path: Path) -> None:
    prepared, work, out = tmp_path / "prepared", tmp_path / "work", tmp_path / "out"
    train_builtin.main(
        [
            *("prepare", "--prepared", str(prepared), "--tiny-imagenet", str(photographs)),
            *("--scenes", "60", "--stored-size", "48", "--workers", "1"),
        ]
    )
    training = ["train", "--prepared", str(prepared), "--work", str(work), "--sizes", "32:1"]
    train_builtin.main([*training, "--batch", "24", "--steps", "2"])
    first = torch.load(work / "checkpoint.pt", weights_only=True)
    train_builtin.main([*training, "--batch", "24", "--steps", "4", "--processes", "2"])
    second = torch.load(work / "checkpoint.pt", weights_only=True)
    assert (first["step"], second["step"]) == (2, 4)
    assert second["seconds"] > first["seconds"]

    train_builtin.main(["export", "--work", str(work), "--to", str(out), "--size", "48"])
    model = Plain(out)
    assert model.images([Image.new("RGB", (90, 60), "orange")]).shape == (1, 256)
    assert model.texts(["a goldfish"]).shape == (1, 256)


def test_a_source_comes_back_as_it_was_saved(photographs: Path, tmp_path: Path) -> None:
    source = data.tiny_imagenet(photographs, workers=1)
    source.save(tmp_path)
    again = data.Source.load(tmp_path, "tiny_imagenet")
    assert np.array_equal(source.pixels, again.pixels)
    assert source.levels == again.levels
    assert again.levels[0].names[0] == ["goldfish", "Goldfish"]


def test_broader_names_belong_to_their_classes(photographs: Path) -> None:
    broader = data.tiny_imagenet(photographs, workers=1).levels[1]
    of_dog = {broader.names[group][0] for group in broader.members[12]}
    assert {"dog", "animal"} <= of_dog
    assert "vehicle" not in of_dog


def test_what_is_held_out_is_not_learnt_from() -> None:
    pixels = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1).repeat(3, axis=3)
    source = data.Source("scenes", pixels, [[str(row)] for row in range(20)], [])
    kept, held = source.hold_out(5)
    assert [texts[0] for texts in held.captions] == ["4", "9", "14", "19"]
    assert not {texts[0] for texts in kept.captions} & {texts[0] for texts in held.captions}


def test_an_order_depends_on_the_step_alone() -> None:
    pixels = np.zeros((7, 4, 4, 3), dtype=np.uint8)
    source = data.Source("scenes", pixels, [["a"]] * 7, [])
    one, two = (train_builtin.Feed(source, torch.device("cpu"), seed=3) for _ in range(2))
    straight = [row for step in range(7) for row in one.rows(step, 3)]
    assert two.rows(5, 3) == straight[15:18]
    assert sorted(straight[:7]) == list(range(7))  # every picture once a round


def test_pictures_of_one_setting_are_shown_together() -> None:
    pixels = np.zeros((240, 4, 4, 3), dtype=np.uint8)
    settings = [("beach", "forest", "lake")[row % 3] for row in range(240)]
    source = data.Source("scenes", pixels, [["a"]] * 240, [], settings)
    feed = train_builtin.Feed(source, torch.device("cpu"), seed=3)
    rows = feed.rows(0, 240)
    assert sorted(rows) == list(range(240))
    changes = sum(settings[a] != settings[b] for a, b in itertools.pairwise(rows))
    assert 2 <= changes <= 240 // train_builtin.ALIKE + 2


def test_contrasts_are_almost_true_and_never_of_a_held_out_combination() -> None:
    held = {f"{colour} {kind}": place for kind, colour, place in triples(held=True)}
    for seed in range(40):
        scene = compose(seed, split="train")
        own = captions(scene, count=1)[0]
        almost = data.contrasting(scene, random.Random(seed))
        assert len(almost) > 2
        assert own not in almost
        for text in almost:
            assert len(set(text.split()) & set(own.split())) >= 3
            assert not [words for words, place in held.items() if words in text and place in text]


def test_a_run_can_begin_with_an_exported_model(photographs: Path, tmp_path: Path) -> None:
    prepared, work, out = tmp_path / "prepared", tmp_path / "work", tmp_path / "out"
    names = ("prepare", "--prepared", str(prepared), "--tiny-imagenet", str(photographs))
    train_builtin.main([*names, "--scenes", "60", "--stored-size", "48", "--workers", "1"])
    training = ["train", "--prepared", str(prepared), "--work", str(work), "--sizes", "32:1"]
    begin = ["--start-from", str(BUILTIN), "--batch", "24", "--steps", "1", "--rate", "0"]
    train_builtin.main([*training, *begin])
    train_builtin.main(["export", "--work", str(work), "--to", str(out), "--size", "64"])
    words = ["a dog on a beach"]
    assert float(Plain(out).texts(words)[0] @ Plain(BUILTIN).texts(words)[0]) > 0.999


def test_left_and_right_are_never_mirrored() -> None:
    assert train_builtin.tells_left_from_right("a car to the left of a tree")
    assert not train_builtin.tells_left_from_right("a car beside a tree")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "a dog"),
        ("umbrella", "an umbrella"),
        ("mountains", "mountains"),
        ("fresh food", "fresh food"),
        ("sunglasses", "sunglasses"),
        ("a cup of coffee", "a cup of coffee"),
    ],
)
def test_names_carry_the_right_article(name: str, expected: str) -> None:
    assert data.with_article(name) == expected
