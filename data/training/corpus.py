"""Everything that is trained on, in memory, and batches of it.

A batch is the cached features of some images and a list of texts; ``Batch.spans`` says which texts
are for what. Every choice depends on the step alone, so that a resumed run sees what it would have
seen without the interruption.
"""

from __future__ import annotations

import json
import random
import string
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
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
    RELATION_WORDS,
    TIME_WORDS,
    WEATHER_WORDS,
)
from sightline.data.scenes.scene import KINDS
from sightline.data.training import prepare, vocabulary
from sightline.data.training.features import Cached
from sightline.data.training.names import TEMPLATES, article, phrase
from sightline.data.training.network import MAX_TOKENS
from sightline.data.training.teachers import Names

PHOTOS, SCENES, UNCAPTIONED = 768, 384, 192
"""Images per batch: captioned photos, scenes, and photos from which only the classifier's
judgement is learnt."""

SAME_SETTING = 24
"""Scenes of one place, time and weather shown together: only beside its like does a scene teach
what is in it."""

CONTRASTS = 2
"""Almost true captions per scene."""

PHOTO_WORDS, GIBBERISH = 160, 24
"""Texts per batch: single nouns of the captions, and random letters, which fit no image."""

FEWEST_PHOTOS, LONGEST_GIBBERISH = 8, 9
"""Photos whose captions name a noun that is taught by itself; letters of a word of gibberish."""

GROUPS, DEFINITIONS, QUERIES, SENTENCES, CLIP_NAMES = 200, 300, 160, 384, 256
"""Texts per batch: names of groups, nouns with a definition, short queries for scenes, the
teachers' texts."""

RELATIONS, OTHER_SCENES, KEPT_PHOTOS, KEPT_TEXTS = 48, 24, 128, 64
"""Per batch of the order of words: scenes whose subjects have a relation, other scenes, and the
photos and texts whose embeddings must not change."""

RELATION_TEXTS = 4
"""Captions, true and false, of each scene with a relation, from which only the transformer learns.
"""

FULL_STOP = 0.2
"""Probability of a full stop at the end of a text: a model that has never seen one loses a third of
its zero-shot accuracy to it."""

Ids = list[int]

Role = tuple[int, int, int]
"""A relation of `ROLES` and two kinds of `KIND_NUMBERS`: the first is left of, above or in front of
the second."""

ROLES = ("left of", "above", "in front of")
KIND_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


KIND_NOUNS = {kind: NOUNS[kind][0][0] for kind in KINDS}
KIND_NOUNS |= {"person with umbrella": "umbrella", "snowman": "snowman"}
"""The plainest noun of each kind."""


@dataclass
class Batch:
    """One step's images and texts."""

    photos: NDArray[np.int64]
    """``(n, 2)``: image and view."""
    other_views: NDArray[np.int64]
    """A second view of each of the photos, to be mixed with the first."""
    scenes: NDArray[np.int64]
    uncaptioned: NDArray[np.int64]
    texts: list[Ids] = field(default_factory=list)
    spans: dict[str, slice] = field(default_factory=dict)
    caption_sentences: dict[str, list[int]] = field(default_factory=dict)
    """The sentence encoder's rows of the captions."""
    same_captions: list[tuple[int, ...]] = field(default_factory=list)
    """The caption of each scene: scenes with equal captions are equally right."""
    roles: list[Role | None] = field(default_factory=list)
    """Who is where by each of the texts ``scene_captions`` and then ``relations``."""
    true_queries: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    """``(queries, scenes)``: which query is true of which scene."""
    groups: list[int] = field(default_factory=list)
    shown_words: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """``(words, photos)``: 1 if two captions name the noun, 0 if none does, .5 if one does."""
    definitions: list[int] = field(default_factory=list)
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
        self.shown = torch.tensor(
            [
                [any(kind == one for one, _, _ in fact["subjects"]) for kind in KINDS]
                for fact in facts
            ]
        )
        """``(scenes, kinds) bool``."""
        self.nouns = self.tokens(list(KIND_NOUNS.values()))
        """By kind."""
        self._roles = [_role(fact) for fact in facts]
        self.kind_tokens = _kind_tokens(self)
        self._related = [row for row, role in enumerate(self._roles) if role]
        self._states = [
            {
                name: [_states_relation(text) for text in fact[name]]
                for name in self.scene_texts[row]
            }
            for row, fact in enumerate(facts)
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
        defined = json.loads((folder / "definitions.json").read_text(encoding="utf-8"))
        own = {name for n in self.taught for name in self.names.classes[n]}
        nouns = {name: text for name, text in defined["nouns"].items() if name not in own}
        self._nouns = list(nouns)
        self._words, self._word_counts = _nouns_of(captions, defined["nouns"])
        self._noun_rows = [rows[text] for text in nouns.values()]
        self._class_rows = [rows[defined["classes"][n]] for n in self.taught]
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
        self.taught = [n for n in range(len(self.names.wnids)) if n not in held]
        self.groups = []
        for group in self.names.groups:
            names = [name for name in group.names if name not in words]
            classes = [number for number in group.classes if number not in held]
            if names and classes:
                self.groups.append((names, classes, group.among))

    def batch(self, step: int) -> Batch:
        """The images and texts of a step of :class:`~.train.Training`."""
        rng = random.Random(f"{self.seed}/{step}")
        rows = self._rows(len(self.captions), step, PHOTOS)
        photos, other_views = (
            self._drawn(self.photos, rows, rng),
            self._drawn(self.photos, rows, rng),
        )
        scenes = self._drawn(self.scenes, self._scene_rows(step), rng)
        batch = Batch(photos, other_views, scenes, self._drawn_uncaptioned(UNCAPTIONED, rng))
        numbers = [rng.sample(range(len(self.captions[row])), 2) for row in rows]
        for place, name in enumerate(("captions", "other_captions")):
            chosen = [(row, pair[place]) for row, pair in zip(rows, numbers, strict=True)]
            batch.add(name, [self.captions[row][number] for row, number in chosen])
            batch.caption_sentences[name] = [self._caption_rows[row][n] for row, n in chosen]
        self._add_scenes(batch, rng)
        named = np.flatnonzero((self._word_counts[:, rows] > 1).any(axis=1))
        words = rng.sample(named.tolist(), min(PHOTO_WORDS, len(named)))
        batch.shown_words = 0.5 * np.minimum(self._word_counts[np.ix_(words, rows)], 2).astype(
            np.float32
        )
        batch.add("words", self.tokens([_phrase(self._words[number], rng) for number in words]))
        batch.add("gibberish", self.tokens([_gibberish(rng) for _ in range(GIBBERISH)]))
        queries = rng.sample(range(len(self._queries)), QUERIES)
        queries = [number for number in queries if self._query_truth[number, scenes[:, 0]].any()]
        batch.add("queries", [self._queries[number] for number in queries])
        batch.true_queries = self._query_truth[queries][:, scenes[:, 0]]
        batch.groups = [rng.randrange(len(self.groups)) for _ in range(GROUPS)]
        batch.add("classes", self.tokens([self._class_phrase(n, rng) for n in self.taught]))
        names = [rng.choice(self.groups[number][0]) for number in batch.groups]
        batch.add("groups", self.tokens([_phrase(name, rng) for name in names]))
        batch.definitions = _sample(len(self._nouns), DEFINITIONS, rng)
        nouns = [_phrase(self._nouns[number], rng) for number in batch.definitions]
        batch.add("definitions", self.tokens(nouns))
        batch.sentences = _sample(len(self._sentences), SENTENCES, rng)
        batch.add("sentences", [self._sentences[number] for number in batch.sentences])
        batch.clip_names = _sample(len(self._clip), CLIP_NAMES, rng)
        batch.add(
            "clip_names", self.tokens([_phrase(self._clip[n], rng) for n in batch.clip_names])
        )
        batch.texts = [self._punctuated(text, rng) for text in batch.texts]
        return batch

    def definition_cosines(self, batch: Batch) -> Tensor:
        """Of the definitions of the batch's nouns and those of the taught classes."""
        rows = [self._noun_rows[number] for number in batch.definitions]
        nouns, classes = self.sentence_vectors[rows], self.sentence_vectors[self._class_rows]
        return torch.from_numpy(nouns).float() @ torch.from_numpy(classes).float().T

    def order_batch(self, step: int) -> Batch:
        """The images and texts of a step of :class:`~.train.OrderTraining`.

        ``scene_captions`` are true, ``relations`` are true or false and have no image; ``kept``
        are texts of all sources.
        """
        rng = random.Random(f"{self.seed}/order/{step}")
        related = rng.sample(self._related, min(RELATIONS, len(self._related)))
        others = [rng.randrange(len(self.scene_texts)) for _ in range(OTHER_SCENES)]
        scenes = self._drawn(self.scenes, [*related, *others], rng)
        rows = _sample(len(self.captions), KEPT_PHOTOS, rng)
        photos = self._drawn(self.photos, rows, rng)
        batch = Batch(photos, photos, scenes, self._drawn_uncaptioned(KEPT_PHOTOS // 2, rng))
        true: list[Ids] = []
        relations: list[tuple[Ids, Role]] = []
        for row, view in scenes:
            texts, states, role = self.scene_texts[row], self._states[row], self._roles[row]
            mirrored = bool(self.scenes.flipped[row, view]) and "mirrored" in texts
            name = "mirrored" if mirrored else "captions"
            # The first caption is the fullest.
            number = 0 if rng.random() < 0.5 else rng.randrange(len(texts[name]))
            true.append(texts[name][number])
            batch.roles.append(_told(name, role) if role and states[name][number] else None)
            if role:
                said = [
                    (text, _told(other, role))
                    for other in ORDERS
                    for text, stated in zip(texts[other], states[other], strict=True)
                    if stated
                ]
                relations += rng.sample(said, min(RELATION_TEXTS, len(said)))
        batch.roles += [role for _, role in relations]
        batch.same_captions = [tuple(caption) for caption in true]
        batch.add("scene_captions", true)
        batch.add("relations", [text for text, _ in relations])
        few = KEPT_TEXTS // 4
        kept = [rng.choice(rng.choice(self.captions)) for _ in range(few)]
        kept += [rng.choice(self._sentences) for _ in range(few)]
        kept += [rng.choice(self._queries) for _ in range(few // 2)]
        classes = [self._class_phrase(rng.choice(self.taught), rng) for _ in range(few)]
        clip = [_phrase(rng.choice(self._clip), rng) for _ in range(few // 2)]
        batch.add("kept", [*kept, *self.tokens([*classes, *clip])])
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

    def _drawn_uncaptioned(self, count: int, rng: random.Random) -> NDArray[np.int64]:
        total = sum(len(cached.features) for cached in self.uncaptioned)
        rows = [rng.randrange(total) for _ in range(count if total else 0)]
        return np.array([(row, 0) for row in rows], np.int64).reshape(-1, 2)

    def _add_scenes(self, batch: Batch, rng: random.Random) -> None:
        captions: list[Ids] = []
        contrasts: list[Ids] = []
        for row, view in batch.scenes:
            texts = self.scene_texts[row]
            mirrored = bool(self.scenes.flipped[row, view]) and "mirrored" in texts
            true = texts["mirrored" if mirrored else "captions"]
            # The first caption is the fullest.
            captions.append(true[0] if rng.random() < 0.5 else rng.choice(true))
            almost = texts["contrasts"]
            contrasts += rng.sample(almost, min(CONTRASTS, len(almost)))
        batch.same_captions = [tuple(caption) for caption in captions]
        batch.add("scene_captions", captions)
        batch.add("contrasts", contrasts)


def _nouns_of(
    captions: list[list[str]], nouns: Iterable[str]
) -> tuple[list[str], NDArray[np.int8]]:
    """The nouns of which `FEWEST_PHOTOS` photos have two captions, and ``(nouns, photos)``: how
    many captions of a photo name each, in the singular or plural."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for row, several in enumerate(captions):
        for caption in several:
            for word in set(vocabulary.words(caption)):
                counts[word][row] += 1
    known: dict[str, Counter[int]] = {}
    for noun in nouns:
        if noun in counts or vocabulary.plural(noun) in counts:
            total = counts[noun] + counts[vocabulary.plural(noun)]
            if sum(count > 1 for count in total.values()) >= FEWEST_PHOTOS:
                known[noun] = total
    table = np.zeros((len(known), len(captions)), np.int8)
    for number, total in enumerate(known.values()):
        table[number, list(total)] = list(total.values())
    return list(known), table


def _gibberish(rng: random.Random) -> str:
    length = rng.randint(3, LONGEST_GIBBERISH)
    return "".join(rng.choice(string.ascii_lowercase) for _ in range(length))


def _kind_tokens(corpus: Corpus) -> list[set[int]]:
    """By kind, the whole words that name it and no other kind."""
    found = [
        {
            token
            for forms in NOUNS[kind]
            for token in (
                n
                for text in corpus.tokens([form.replace("{} ", "") for form in forms])
                for n in text
            )
            if str(corpus.tokenizer.id_to_token(token)).isalpha()
        }
        for kind in KINDS
    ]
    counts = Counter(token for tokens in found for token in tokens)
    return [{token for token in tokens if counts[token] == 1} for tokens in found]


def _role(fact: dict[str, Any]) -> Role | None:
    relation = fact["relation"]
    if relation is None:
        return None
    first, second = (KIND_NUMBERS[kind] for kind, _, _ in fact["subjects"][:2])
    if relation == "right of":
        relation, first, second = "left of", second, first
    return ROLES.index(relation), first, second


def _told(name: str, role: Role) -> Role:
    """Who is where by the captions ``name`` of a scene with this role."""
    relation, first, second = role
    swapped = name.endswith("swapped")
    if name.startswith("mirrored") and ROLES[relation] == "left of":
        swapped = not swapped
    return (relation, second, first) if swapped else role


def _states_relation(text: str) -> bool:
    return any(f" {words} " in text for several in RELATION_WORDS.values() for words in several)


ORDERS = ("captions", "swapped", "mirrored", "mirrored_swapped")
"""Captions of a scene with a relation, of which two are true of the scene or its mirror image."""


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


def _sample(count: int, size: int, rng: random.Random) -> list[int]:
    return rng.sample(range(count), min(size, count))


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
