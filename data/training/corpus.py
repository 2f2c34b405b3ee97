"""Everything that is trained on, in memory, and batches of it.

A batch is the cached features of some images and a list of texts; ``Batch.spans`` says which texts
are for what. Every choice depends on the step alone, so that a resumed run sees what it would have
seen without the interruption.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sightline.data.scenes.captioning import (
    BARE_PLACES,
    NOUNS,
    PLACE_WORDS,
    TIME_WORDS,
    WEATHER_WORDS,
)
from sightline.data.scenes.scene import KINDS
from sightline.data.training import prepare, vocabulary
from sightline.data.training.features import Cached
from sightline.data.training.names import TEMPLATES, article, phrase
from sightline.data.training.network import MAX_TOKENS
from sightline.data.training.teachers import Names

PHOTOS, SCENES, UNCAPTIONED = 512, 384, 128
"""Images per batch: captioned photos, scenes, and photos from which only the classifier's
judgement is learnt."""

SAME_SETTING = 24
"""Scenes of one place, time and weather shown together: only beside its like does a scene teach
what is in it."""

CLASSES, GROUPS, QUERIES, SENTENCES, CLIP_NAMES = 320, 192, 96, 384, 256
"""Texts per batch: class names, names of groups, short queries for scenes, the teachers' texts."""

FULL_STOP = 0.2
"""Probability of a full stop at the end of a text: a model that has never seen one loses a third of
its zero-shot accuracy to it."""

Ids = list[int]


@dataclass
class Batch:
    """One step's images and texts."""

    photos: NDArray[np.int64]
    """``(n, 2)``: image and view."""
    scenes: NDArray[np.int64]
    uncaptioned: NDArray[np.int64]
    texts: list[Ids] = field(default_factory=list)
    spans: dict[str, slice] = field(default_factory=dict)
    caption_sentences: dict[str, list[int]] = field(default_factory=dict)
    """The sentence encoder's rows of the captions."""
    same_captions: list[tuple[int, ...]] = field(default_factory=list)
    """The caption of each scene: scenes with equal captions are equally right."""
    ordered: list[int] = field(default_factory=list)
    """The scenes of the texts ``true_order`` and ``false_order``."""
    true_queries: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    """``(queries, scenes)``: which query is true of which scene."""
    classes: list[int] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    sentences: list[int] = field(default_factory=list)
    clip_names: list[int] = field(default_factory=list)

    def add(self, name: str, texts: Sequence[Ids]) -> None:
        """Append texts under a name."""
        self.spans[name] = slice(len(self.texts), len(self.texts) + len(texts))
        self.texts += texts


class Corpus:
    """The prepared, cached and tokenised data of one folder."""

    def __init__(self, folder: Path, *, held_out: Sequence[str] = (), seed: int = 0) -> None:
        """``held_out`` are WordNet ids of classes whose names are never taught."""
        self.seed = seed
        self.tokenizer = vocabulary.load(folder / "vocab.txt")
        self.tokenizer.enable_truncation(MAX_TOKENS)
        self.names = Names.load(folder / "names.json")
        self._held_out(set(held_out))
        self.photos, captions = _source(folder, "flickr8k")
        self.captions = [self.tokens(several) for several in captions]
        texts = json.loads((folder / "sentences.json").read_text(encoding="utf-8"))
        rows = {text: row for row, text in enumerate(texts)}
        self._caption_rows = [[rows[text] for text in several] for several in captions]
        self.scenes, facts = _source(folder, "scenes")
        self.scene_texts = [
            {name: self.tokens(texts) for name, texts in fact.items() if _is_texts(texts)}
            for fact in facts
        ]
        self._settings = np.unique([fact["setting"] for fact in facts], return_inverse=True)[1]
        self.uncaptioned = [
            _source(folder, name)[0]
            for name in ("photos", "clothing")
            if (folder / f"{name}.flipped.npy").exists()
        ]
        queries = scene_queries()
        self._queries = self.tokens([text for text, _, _ in queries])
        self._query_truth = np.array(
            [[_is_true(key, value, fact) for fact in facts] for _, key, value in queries]
        )
        self._sentences = self.tokens(texts)
        self.sentence_vectors = np.load(folder / "sentences.npy", mmap_mode="r")
        self._clip = json.loads((folder / "clip_names.json").read_text(encoding="utf-8"))
        self.clip_vectors = torch.from_numpy(np.load(folder / "clip_names.npy"))
        self._full_stop: int = self.tokenizer.encode(".", add_special_tokens=False).ids[0]

    def tokens(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids of each text, with the marks at both ends."""
        return [each.ids for each in self.tokenizer.encode_batch(list(texts))]

    def _held_out(self, wnids: set[str]) -> None:
        held = {n for n, wnid in enumerate(self.names.wnids) if wnid in wnids}
        words = {name for n in held for name in self.names.classes[n]}
        self._taught = [n for n in range(len(self.names.wnids)) if n not in held]
        self.groups = []
        for group in self.names.groups:
            names = [name for name in group.names if name not in words]
            classes = [number for number in group.classes if number not in held]
            if names and classes:
                self.groups.append((names, classes, group.among))

    def batch(self, step: int, *, ordered: bool) -> Batch:
        """The images and texts of a step; pairs for the order of words only with ``ordered``."""
        rng = random.Random(f"{self.seed}/{step}")
        photos = self._drawn(self.photos, self._rows(len(self.captions), step, PHOTOS), rng)
        scenes = self._drawn(self.scenes, self._scene_rows(step), rng)
        batch = Batch(photos, scenes, self._drawn_uncaptioned(rng))
        numbers = [rng.sample(range(len(self.captions[row])), 2) for row in photos[:, 0]]
        for place, name in enumerate(("captions", "other_captions")):
            chosen = [(row, pair[place]) for row, pair in zip(photos[:, 0], numbers, strict=True)]
            batch.add(name, [self.captions[row][number] for row, number in chosen])
            batch.caption_sentences[name] = [self._caption_rows[row][n] for row, n in chosen]
        self._add_scenes(batch, rng, ordered=ordered)
        queries = rng.sample(range(len(self._queries)), QUERIES)
        queries = [number for number in queries if self._query_truth[number, scenes[:, 0]].any()]
        batch.add("queries", [self._queries[number] for number in queries])
        batch.true_queries = self._query_truth[queries][:, scenes[:, 0]]
        batch.classes = rng.sample(self._taught, min(CLASSES, len(self._taught)))
        batch.groups = [rng.randrange(len(self.groups)) for _ in range(GROUPS)]
        batch.add("classes", self.tokens([self._class_phrase(n, rng) for n in batch.classes]))
        names = [rng.choice(self.groups[number][0]) for number in batch.groups]
        batch.add("groups", self.tokens([_phrase(name, rng) for name in names]))
        batch.sentences = rng.sample(
            range(len(self._sentences)), min(SENTENCES, len(self._sentences))
        )
        batch.add("sentences", [self._sentences[number] for number in batch.sentences])
        batch.clip_names = rng.sample(range(len(self._clip)), min(CLIP_NAMES, len(self._clip)))
        batch.add(
            "clip_names", self.tokens([_phrase(self._clip[n], rng) for n in batch.clip_names])
        )
        batch.texts = [self._punctuated(text, rng) for text in batch.texts]
        return batch

    def _class_phrase(self, number: int, rng: random.Random) -> str:
        return _phrase(rng.choice(self.names.classes[number]), rng)

    def _punctuated(self, text: Ids, rng: random.Random) -> Ids:
        if rng.random() >= FULL_STOP or len(text) >= MAX_TOKENS:
            return text
        return [*text[:-1], self._full_stop, text[-1]]

    def _rows(self, count: int, step: int, size: int) -> list[int]:
        """The images of a step: each once an epoch, every epoch in another order."""
        epoch, offset = divmod(step * size, max(count - count % size, size))
        order = np.random.default_rng((self.seed, epoch)).permutation(count)
        return [int(order[position % count]) for position in range(offset, offset + size)]

    def _scene_rows(self, step: int) -> list[int]:
        count = len(self._settings)
        size = min(SCENES, count)
        epoch, offset = divmod(step * size, max(count - count % size, size))
        rng = np.random.default_rng((self.seed, epoch, 1))
        order = rng.permutation(count)
        order = order[np.argsort(self._settings[order], kind="stable")]
        runs = [order[start : start + SAME_SETTING] for start in range(0, count, SAME_SETTING)]
        shuffled = np.concatenate([runs[place] for place in rng.permutation(len(runs))])
        return [int(row) for row in shuffled[offset : offset + size]]

    def _drawn(self, cached: Cached, rows: list[int], rng: random.Random) -> NDArray[np.int64]:
        views = cached.features.shape[1]
        return np.array([(row, rng.randrange(views)) for row in rows], np.int64).reshape(-1, 2)

    def _drawn_uncaptioned(self, rng: random.Random) -> NDArray[np.int64]:
        total = sum(len(cached.features) for cached in self.uncaptioned)
        rows = [rng.randrange(total) for _ in range(UNCAPTIONED if total else 0)]
        return np.array([(row, 0) for row in rows], np.int64).reshape(-1, 2)

    def _add_scenes(self, batch: Batch, rng: random.Random, *, ordered: bool) -> None:
        captions: list[Ids] = []
        contrasts: list[Ids] = []
        true_order: list[Ids] = []
        false_order: list[Ids] = []
        for place, (row, view) in enumerate(batch.scenes):
            texts = self.scene_texts[row]
            mirrored = bool(self.scenes.flipped[row, view]) and "mirrored" in texts
            true = texts["mirrored" if mirrored else "captions"]
            # The first caption is the fullest.
            captions.append(true[0] if rng.random() < 0.5 else rng.choice(true))
            if texts["contrasts"] and rng.random() < 0.6:
                contrasts.append(rng.choice(texts["contrasts"]))
            if ordered and "swapped" in texts and rng.random() < 0.8:
                false = texts["mirrored_swapped" if mirrored else "swapped"]
                number = 0 if rng.random() < 0.6 else rng.randrange(min(len(true), len(false)))
                if true[number] != false[number]:
                    batch.ordered.append(place)
                    true_order.append(true[number])
                    false_order.append(false[number])
        batch.same_captions = [tuple(caption) for caption in captions]
        batch.add("scene_captions", captions)
        batch.add("contrasts", contrasts)
        batch.add("true_order", true_order)
        batch.add("false_order", false_order)


def scene_queries() -> list[tuple[str, str, Any]]:
    """Short texts, and the fact that makes each true of a scene: (text, key, value)."""
    found: list[tuple[str, str, Any]] = []
    for kind, forms in NOUNS.items():
        for one, many in forms:
            single = _uncoloured(one)
            found += [(text, "kind", kind) for text in (single, _uncoloured(many), article(single))]
    found += [("snowman", "kind", "snowman"), ("umbrella", "kind", "person with umbrella")]
    animals = ("dog", "cat", "horse", "cow", "sheep", "bird", "swan")
    found += [("animal", "kinds", animals), ("animals", "kinds", animals)]
    found += [("boat", "kinds", ("sailboat", "rowing boat"))]
    for kind, spec in KINDS.items():
        noun = NOUNS[kind][0][0]
        for colour in spec.colours:
            text = noun.format(article(colour)) if "{}" in noun else f"{colour} {noun}"
            found.append((text, "coloured", (kind, colour)))
    for key, words in (("place", PLACE_WORDS), ("time", TIME_WORDS), ("weather", WEATHER_WORDS)):
        found += [(text, key, value) for value, texts in words.items() for text in texts]
    found += [(text, "place", value) for value, texts in BARE_PLACES.items() for text in texts]
    return found


def _uncoloured(noun: str) -> str:
    """ "person with {} umbrella" -> "person with an umbrella"."""
    before, colour, after = noun.partition("{} ")
    if not colour:
        return noun
    return before + (after if after.endswith("s") and not after.endswith("ss") else article(after))


def _is_true(key: str, value: Any, fact: dict[str, Any]) -> bool:
    subjects = fact["subjects"]
    match key:
        case "kind":
            return any(kind == value for kind, _, _ in subjects)
        case "kinds":
            return any(kind in value for kind, _, _ in subjects)
        case "coloured":
            return any((kind, colour) == value for kind, colour, _ in subjects)
    return bool(fact[key] == value)


def _phrase(name: str, rng: random.Random) -> str:
    return phrase(name, rng.choice(TEMPLATES))


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _source(folder: Path, name: str) -> tuple[Cached, list[Any]]:
    _, facts = prepare.load(folder, name)
    return Cached.open(folder, name, len(facts)), facts


def padded(texts: Sequence[Ids]) -> Tensor:
    """Token ids as one ``(n, t) int64`` tensor, 0 where a text has ended."""
    ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor(text)
    return ids
