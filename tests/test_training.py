"""The recipe of the built-in model: its data, its text sources, and a short run of all commands."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from sightline.data.scenes import captions, compose, triples
from sightline.data.training import features, prepare, teachers, vocabulary, wordnet
from sightline.data.training.__main__ import main
from sightline.data.training.export import export, logit_scale
from sightline.data.training.names import article, phrase
from sightline.data.training.network import (
    BATCH_NORM_EPS,
    BagOfWordpieces,
    Block,
    Convolution,
    EfficientNetLite,
    load_efficientnet,
)
from sightline.indexer.encoder import Encoder

WIDTH, DEPTH = 0.25, 0.5
"""Of the small image tower in these tests."""

NOUNS = """  1 This line stands for the licence.
02084071 05 n 02 dog 0 domestic_dog 0 001 @ 02083346 n 0000 | of the genus Canis; "it barked"
02083346 05 n 01 canine 0 001 @ 00015388 n 0000 | any of various fissiped mammals
00015388 03 n 02 animal 0 beast 0 000 | a living organism
02958343 06 n 02 car 0 motorcar 0 001 @ 04524313 n 0000 | a motor vehicle with four wheels
04524313 06 n 01 vehicle 0 000 | a conveyance that transports people or objects
05770926 09 n 01 thinking 0 000 | the process of using your mind
"""
COUNTS = "dog%1:05:00:: 1 42\ncar%1:06:00:: 1 71\nanimal%1:03:00:: 1 7\nthinking%1:09:00:: 1 9\n"
WNIDS = ["n02084071", "n02958343"]


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordNet of six synsets."""
    folder = tmp_path_factory.mktemp("wordnet")
    (folder / "data.noun").write_text(NOUNS)
    (folder / "cntlist.rev").write_text(COUNTS)
    return folder


# --- words ---------------------------------------------------------------------------------------


def test_names_and_definitions_are_read_from_wordnet(dictionary: Path) -> None:
    dog = wordnet.read_nouns(dictionary)["02084071"]
    assert dog.names == ("dog", "domestic dog")
    assert dog.hypernyms == ("02083346",)
    assert dog.gloss == "of the genus Canis"


def test_broader_names_belong_to_all_classes_below_them(dictionary: Path) -> None:
    nodes = wordnet.broader(wordnet.read_nouns(dictionary), WNIDS, most=10)
    found = {node.names[0]: node.classes for node in nodes}
    assert found == {"canine": (0,), "animal": (0,), "vehicle": (1,)}


def test_only_concrete_nouns_that_occur_are_taught(dictionary: Path) -> None:
    counts = wordnet.read_counts(dictionary)
    synsets = wordnet.concrete(wordnet.read_nouns(dictionary), counts)
    assert [synset.names[0] for synset in synsets] == ["car", "dog"]  # animal is in another file


def test_groups_of_everyday_names_are_judged_among_their_classes_only(dictionary: Path) -> None:
    wnids = ["n02099601", "n02084071"]  # golden retriever, which the groups know, and dog
    nouns = wordnet.read_nouns(dictionary)
    nouns["02099601"] = wordnet.Synset(("golden retriever",), ("02084071",), "a dog", 5)
    names = teachers.class_names(nouns, wnids)
    pet = next(group for group in names.groups if "pet" in group.names)
    assert (pet.classes, pet.among) == ([0], [0])
    assert "dog" not in {name for group in names.groups if group.among for name in group.names}


def test_nouns_have_the_definition_of_their_most_frequent_meaning(dictionary: Path) -> None:
    nouns = wordnet.read_nouns(dictionary)
    synsets = wordnet.concrete(nouns, wordnet.read_counts(dictionary))
    found = teachers.definitions(nouns, WNIDS, synsets)
    assert found["nouns"]["domestic dog"] == "dog, of the genus canis"
    assert found["classes"] == ["dog, of the genus canis", "car, a motor vehicle with four wheels"]


def test_whole_words_go_before_pieces_in_the_vocabulary(tmp_path: Path) -> None:
    counts = vocabulary.counted([("two lorries and a lorry on the road", 5.0), ("fjord", 3.0)])
    tokenizer = vocabulary.build(counts, tmp_path / "vocab.txt")
    assert tokenizer.encode("Lorries on a fjord").tokens == [
        *("[CLS]", "lorries", "on", "a", "fjord", "[SEP]")
    ]
    assert tokenizer.encode("road").ids[0] == 2  # [CLS], among the special tokens


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("lorry", "lorries"),
        ("dog", "dogs"),
        ("fox", "foxes"),
        ("beach", "beaches"),
        ("day", "days"),
    ],
)
def test_nouns_have_plurals(noun: str, expected: str) -> None:
    assert vocabulary.plural(noun) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "a dog"),
        ("umbrella", "an umbrella"),
        ("mountains", "mountains"),
        ("fresh food", "fresh food"),
        ("a cup of coffee", "a cup of coffee"),
    ],
)
def test_names_carry_the_right_article(name: str, expected: str) -> None:
    assert article(name) == expected
    assert phrase(name, "a photo of {a}") == f"a photo of {expected}"


# --- images --------------------------------------------------------------------------------------


def test_a_source_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    images = [np.full((prepare.SIDE, prepare.SIDE, 3), value, np.uint8) for value in (7, 200)]
    prepare.save(tmp_path, "photos", images, ["a", "b"])
    pixels, facts = prepare.load(tmp_path, "photos")
    assert facts == ["a", "b"]
    assert pixels[:, 0, 0, 0].tolist() == [7, 200]


def test_the_first_view_is_the_whole_image_and_the_others_differ() -> None:
    noise = np.random.default_rng(0)
    pixels = noise.integers(0, 256, (1, prepare.SIDE, prepare.SIDE, 3), dtype=np.uint8)
    found = [image for image, _ in features.views(pixels, 3, features.PHOTO, seed=1)]
    whole = Image.fromarray(pixels[0]).resize((224, 224), Image.Resampling.BICUBIC)
    assert np.array_equal(found[0], np.asarray(whole))
    assert not np.array_equal(found[1], found[2])
    again = [image for image, _ in features.views(pixels, 3, features.PHOTO, seed=1)]
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_swapped_captions_are_false_and_mirrored_ones_true_of_the_flipped_scene() -> None:
    seed = next(seed for seed in range(100) if compose(seed, split="train").relation == "left of")
    facts = prepare.scene_facts(seed)
    first, second = facts["captions"][0], facts["swapped"][0]
    assert " to the left of " in first
    assert " to the left of " in second
    assert sorted(first.split()) == sorted(second.split())
    assert first != second
    assert facts["mirrored"][0] == first.replace("left of", "right of")


def test_contrasts_are_almost_true_and_never_of_a_held_out_combination() -> None:
    held = {f"{colour} {kind}": place for kind, colour, place in triples(held=True)}
    for seed in range(40):
        scene = compose(seed, split="train")
        own = captions(scene, count=1)[0]
        almost = prepare.contrasting(scene, random.Random(seed))
        assert len(almost) > 2
        assert own not in almost
        for text in almost:
            assert len(set(text.split()) & set(own.split())) >= 3
            assert not [words for words, place in held.items() if words in text and place in text]


# --- the towers ----------------------------------------------------------------------------------


def small_tower() -> EfficientNetLite:
    """Random weights whose activations neither vanish nor saturate."""
    torch.manual_seed(0)
    tower = EfficientNetLite(width=WIDTH, depth=DEPTH)
    for parameter in tower.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return tower


def published(tower: EfficientNetLite, path: Path, classes: int) -> Path:
    """The tower as published: with batch normalisation after each convolution."""
    state: dict[str, torch.Tensor] = {}

    def unfold(convolution: Convolution, weight: str, norm: str) -> None:
        assert convolution.bias is not None
        channels = len(convolution.weight)
        variance = torch.rand(channels) + 0.5
        mean = torch.randn(channels) / 10
        factor = torch.rand(channels) + 0.5
        scale = factor / (variance + BATCH_NORM_EPS).sqrt()
        state[f"{weight}.weight"] = convolution.weight.detach() / scale[:, None, None, None]
        state[f"{norm}.weight"], state[f"{norm}.running_var"] = factor, variance
        state[f"{norm}.running_mean"] = mean
        state[f"{norm}.bias"] = convolution.bias.detach() + mean * scale

    unfold(tower.stem, "_conv_stem", "_bn0")
    blocks = [module for module in tower.modules() if isinstance(module, Block)]
    for number, block in enumerate(blocks):
        at = f"_blocks.{number}."
        if block.expand is not None:
            unfold(block.expand, f"{at}_expand_conv", f"{at}_bn0")
        unfold(block.depthwise, f"{at}_depthwise_conv", f"{at}_bn1")
        unfold(block.project, f"{at}_project_conv", f"{at}_bn2")
    unfold(tower.head, "_conv_head", "_bn1")
    state["_fc.weight"] = torch.randn(classes, 1280) / 20
    state["_fc.bias"] = torch.zeros(classes)
    torch.save(state, path)
    return path


def test_batch_normalisation_is_folded_into_the_convolutions(tmp_path: Path) -> None:
    tower = small_tower()
    path = published(tower, tmp_path / "lite.pth", classes=2)
    loaded, weight, _ = load_efficientnet(path, width=WIDTH, depth=DEPTH)
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(tower(pixels), loaded(pixels), atol=1e-3)
    assert weight.shape == (2, 1280)


def test_the_encoder_computes_what_was_trained(tmp_path: Path) -> None:
    tower = small_tower()
    words = "a red car to the left of two black dogs"
    counts: Counter[str] = Counter(words.split())
    tokenizer = vocabulary.build(counts, tmp_path / "vocab.txt")
    text = BagOfWordpieces(tokenizer.get_vocab_size())
    for parameter in (*text.order["up"].parameters(), text.embeddings["word_weights"].weight):
        nn.init.normal_(parameter, std=0.1)  # these start at zero
    pixels = np.random.default_rng(0).integers(0, 256, (9, 224, 224, 3), dtype=np.uint8)
    values = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    texts = [words, "dogs", "a lorry"]
    with torch.no_grad():
        seen = tower(values)
        project = nn.Linear(seen.shape[1], 256)
        images = F.normalize(project(seen), dim=-1).numpy()
        ids = [torch.tensor(each.ids) for each in tokenizer.encode_batch(texts)]
        vectors = text(nn.utils.rnn.pad_sequence(ids, batch_first=True)).numpy()
    state = {
        **{f"vision_model.{name}": each for name, each in tower.state_dict().items()},
        **{f"text_model.{name}": each for name, each in text.state_dict().items()},
        "visual_projection.weight": project.weight,
        "visual_projection.bias": project.bias,
        "logit_scale": logit_scale(20.0),
    }
    export(tmp_path / "model", state, tokenizer, width=WIDTH, depth=DEPTH)
    encoder = Encoder.load(str(tmp_path / "model"), device="cpu", dtype="float32")
    assert (encoder.encode_images(pixels) * images).sum(1).min() > 0.999
    assert (encoder.encode_texts(texts) * vectors).sum(1).min() > 0.9999
    assert encoder.logit_scale == pytest.approx(20, rel=1e-3)


# --- the whole recipe ----------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Flickr8k's layout: twelve photos with five captions each, and the split files."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    lines = []
    for number in range(12):
        colour = noise.integers(0, 256, 3)
        pixels = np.clip(noise.normal(colour, 25, (80, 100, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        lines += [f"{number}.jpg#{n}\tA dog number {number} runs {n} times ." for n in range(5)]
    (tmp_path / "captions.txt").write_text("\n".join(lines))
    for split, numbers in (("train", range(10)), ("dev", range(10, 12))):
        names = "\n".join(f"{number}.jpg" for number in numbers)
        (tmp_path / f"flickr8k_split_{split}.txt").write_text(names)
    return folder


@pytest.fixture
def detic(tmp_path: Path) -> Path:
    """The files of Detic that are read."""
    folder = tmp_path / "detic"
    (folder / "datasets/metadata").mkdir(parents=True)
    (folder / "detic/data/datasets").mkdir(parents=True)
    (folder / "datasets/metadata/lvis_v1_train_cat_info.json").write_text(
        json.dumps([{"id": 2, "name": "dog"}, {"id": 1, "name": "car_(automobile)"}])
    )
    (folder / "datasets/metadata/Objects365_names_fix.csv").write_text("1,Person,Person\n2,Hat,Hat")
    listed = "categories = [\n    {'name': 'Tree'},\n]\n"
    (folder / "detic/data/datasets/oid.py").write_text(listed)
    for _, file in teachers.DETIC_SETS:
        count = 1 if file.startswith("oid") else 2
        rows = np.random.default_rng(count).normal(size=(count, 16)).astype(np.float32)
        np.save(folder / "datasets/metadata" / file, rows)
    return folder


@pytest.fixture
def sentence_encoder(tmp_path: Path) -> Path:
    """A small BERT with a word-piece tokenizer."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path / "sentence-encoder"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "car", "runs"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_the_recipe_prepares_trains_resumes_and_exports(
    photos: Path, dictionary: Path, detic: Path, sentence_encoder: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (tmp_path / "wnids.txt").write_text("\n".join(WNIDS))
    weights = published(small_tower(), tmp_path / "lite.pth", classes=len(WNIDS))
    here = ("--work", str(work))
    network = ("--efficientnet", str(weights), "--width", str(WIDTH), "--depth", str(DEPTH))
    main(
        [
            *("prepare", *here, "--flickr8k-images", str(photos)),
            *("--flickr8k-captions", str(tmp_path / "captions.txt")),
            *("--flickr8k-splits", str(tmp_path), "--photos", str(photos)),
            *("--scenes", "24", "--workers", "1"),
        ]
    )
    main(["features", *here, *network])
    main(
        [
            *("texts", *here, "--wordnet", str(dictionary), "--detic", str(detic)),
            *("--wnids", str(tmp_path / "wnids.txt")),
            *("--sentence-encoder", str(sentence_encoder)),
        ]
    )
    main(["train", *here, *network, "--steps", "3"])
    assert torch.load(work / "train.pt", weights_only=True)["step"] == 3
    main(["train", *here, *network, "--steps", "5"])
    bag = torch.load(work / "train.pt", weights_only=True)
    assert bag["step"] == 5
    main(["order", *here, *network, "--steps", "2"])
    main(["order", *here, *network, "--steps", "3"])
    runs = [bag, torch.load(work / "order.pt", weights_only=True)]
    before, after = (
        {name.removeprefix("module."): each for name, each in run["averaged"].items()}
        for run in runs
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"text.order.up.weight", "head.weight", "roles"} <= changed
    assert not any(
        name.startswith(("text.bag", "text.embeddings.word", "classes")) for name in changed
    )
    content = slice(0, 1280)  # features that say what is there, not where
    assert torch.equal(before["head.weight"][:, content], after["head.weight"][:, content])
    main(["export", *here, *network, "--to", str(tmp_path / "model")])
    encoder = Encoder.load(str(tmp_path / "model"), device="cpu")
    assert encoder.encode_texts(["a dog"]).shape == (1, 256)
    assert encoder.encode_images(np.zeros((1, 224, 224, 3), np.uint8)).shape == (1, 256)


def test_true_and_false_orders_of_a_scene_state_a_relation(tmp_path: Path) -> None:
    from sightline.data.training.corpus import KIND_NUMBERS, ROLES, _role, _states_relation

    seed = next(seed for seed in range(100) if compose(seed, split="train").relation == "right of")
    facts = prepare.scene_facts(seed)
    relation, first, second = _role(facts)
    assert ROLES[relation] == "left of"  # inverted: the second subject is left of the first
    kinds = [KIND_NUMBERS[kind] for kind, _, _ in facts["subjects"]]
    assert [second, first] == kinds[:2]
    assert _states_relation(facts["captions"][0])
    assert not _states_relation("a red flower at a lake")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("captions", (0, 4, 7)),
        ("swapped", (0, 7, 4)),
        ("mirrored", (0, 7, 4)),
        ("mirrored_swapped", (0, 4, 7)),
    ],
)
def test_captions_of_a_relation_say_who_is_where(name: str, expected: tuple[int, int, int]) -> None:
    from sightline.data.training.corpus import _told

    assert _told(name, (0, 4, 7)) == expected  # 4 is left of 7
    above = (1, *sorted(expected[1:], reverse="swapped" in name))  # a mirror changes no height
    assert _told(name, (1, 4, 7)) == above


def test_regression_makes_nouns_find_their_subjects_and_leaves_photos_alone() -> None:
    from sightline.data.training.learner import Learner, Statistics, regressed_head

    torch.manual_seed(0)
    width = 32
    learner = object.__new__(Learner)
    nn.Module.__init__(learner)
    learner.head = nn.Linear(width, 256)
    nothing = torch.zeros(1, width)
    learner.statistics = Statistics(nothing[0], torch.ones(width), nothing, nothing)
    scenes, photos = torch.randn(2, 500, width)
    scenes[:, width // 2 :], photos[:, : width // 2] = 0, 0
    shown = scenes[:, :3] > 0
    nouns = F.normalize(torch.randn(3, 256), dim=-1)
    with torch.no_grad():  # a head that knows the subjects, and takes much else for them
        learner.head.weight.normal_()
        learner.head.weight[:, :3] += 3 * nouns.T
        captions = F.normalize(learner.head(scenes), dim=-1)
    weight = regressed_head(learner, scenes, photos, captions, shown, nouns)

    def missed(head: torch.Tensor) -> torch.Tensor:
        products = scenes @ head.T @ nouns.T
        return ((products[:, None] < products[None]) & shown[:, None] & ~shown[None]).sum((0, 1))

    assert (missed(weight) < missed(learner.head.weight) * 2 / 3).all()
    before, after = photos @ learner.head.weight.T, photos @ weight.T
    assert (before - after).norm() < 0.02 * before.norm()


def test_batches_depend_on_the_step_alone_and_keep_scenes_of_one_setting_together(
    tmp_path: Path,
) -> None:
    from sightline.data.training.corpus import SAME_SETTING, Corpus

    corpus = object.__new__(Corpus)
    corpus.seed = 0
    settings = np.array([number % 3 for number in range(768)])
    corpus._settings = settings
    rows = [row for step in range(2) for row in corpus._scene_rows(step)]
    assert sorted(rows) == list(range(768))
    assert corpus._scene_rows(1) == rows[384:]
    changes = sum(settings[a] != settings[b] for a, b in itertools.pairwise(rows))
    assert 2 <= changes <= 768 // SAME_SETTING + 3
