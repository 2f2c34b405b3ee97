"""What the text tower learns words from besides captions: class names and two teachers' vectors.

- Names of ImageNet's classes and of everything above them in WordNet, from which the image tower's
  own classifier is the teacher (``train``).
- A sentence encoder (MiniLM) says which texts mean nearly the same, and which nouns WordNet defines
  alike. Its vectors of single words are the first word vectors.
- CLIP's vectors of 2,068 class names (published with Detic) say how words relate in images.

The teachers' vectors of sentences and names are auxiliary targets and not exported.
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sightline.data.training import vocabulary, wordnet
from sightline.data.training.names import BROADER, CLEARER

MOST_CLASSES = 260
"""A broader name with more classes below it says too little about an image."""

WORD_STD = 0.2
"""Standard deviation of the first word vectors."""

DETIC_SETS = (
    ("datasets/metadata/lvis_v1_train_cat_info.json", "lvis_v1_clip_a+cname.npy"),
    ("datasets/metadata/Objects365_names_fix.csv", "o365_clip_a+cnamefix.npy"),
    ("detic/data/datasets/oid.py", "oid_clip_a+cname.npy"),
)
"""Where Detic's repository has the names, and the vectors of the same order."""


@dataclass(frozen=True)
class Group:
    """Names that fit several classes."""

    names: list[str]
    classes: list[int]
    among: list[int] | None
    """The classes that were judged; None for all. Others may belong to the group as well."""


@dataclass(frozen=True)
class Names:
    """The names of the classes, in the classifier's order, and of groups of them."""

    wnids: list[str]
    classes: list[list[str]]
    groups: list[Group]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Names:
        """What :meth:`save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["wnids"], found["classes"], [Group(**each) for each in found["groups"]])


def class_names(nouns: dict[str, wordnet.Synset], wnids: list[str]) -> Names:
    """Names from WordNet, clearer ones first where WordNet's are ambiguous, and all groups."""
    classes = [
        list(dict.fromkeys((*CLEARER.get(wnid, ()), *nouns[wnid[1:]].names))) for wnid in wnids
    ]
    groups = [
        Group(list(node.names), list(node.classes), None)
        for node in wordnet.broader(nouns, wnids, most=MOST_CLASSES)
    ]
    known = {name for names in classes for name in names}
    known |= {name for group in groups for name in group.names}
    index = {wnid: number for number, wnid in enumerate(wnids)}
    judged = sorted({index[w] for ids in BROADER.values() for w in ids.split() if w in index})
    for words, ids in BROADER.items():
        members = sorted(index[wnid] for wnid in ids.split() if wnid in index)
        new = [word for word in words if word not in known]
        if members and new:
            groups.append(Group(new, members, judged))
    return Names(wnids, classes, groups)


def clip_names(detic: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Class names and CLIP ViT-B/32's text vectors of them, ``(n, 512)``, unit norm.

    ``detic`` is a checkout of facebookresearch/Detic.
    """
    names: list[str] = []
    vectors: list[NDArray[np.float32]] = []
    for listed, file in DETIC_SETS:
        found = _detic_names(detic / listed)
        rows = np.load(detic / "datasets/metadata" / file).astype(np.float32)
        rows = rows.T if len(rows) != len(found) else rows
        names += [re.sub(r"_\(.*\)", "", name).replace("_", " ").lower().strip() for name in found]
        vectors.append(rows)
    table = np.concatenate(vectors)
    return names, table / np.linalg.norm(table, axis=1, keepdims=True)


def _detic_names(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return [entry["name"] for entry in sorted(json.loads(text), key=lambda entry: entry["id"])]
    if path.suffix == ".csv":
        return [row[-1].strip() or row[1] for row in csv.reader(text.splitlines())]
    listed = re.search(r"^categories = (\[.*?^\])", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    return [entry["name"] for entry in ast.literal_eval(listed[1])]


@torch.inference_mode()
def sentence_vectors(encoder: Path, texts: list[str]) -> NDArray[np.float16]:
    """The sentence encoder's vectors, ``(n, d) float16``, unit norm.

    ``encoder`` is a folder with a BERT model in transformers' format; the mean over the tokens is
    taken, as sentence-transformers does for all-MiniLM-L6-v2.
    """
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    model = AutoModel.from_pretrained(encoder, dtype=torch.bfloat16).eval()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    result = np.zeros((len(texts), model.config.hidden_size), np.float16)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        tokens = tokenizer(
            [texts[row] for row in rows],
            padding=True,
            truncation=True,
            max_length=64,
            return_tensors="pt",
        )
        hidden = model(**tokens).last_hidden_state.float()
        there = tokens["attention_mask"][..., None]
        mean = (hidden * there).sum(1) / there.sum(1)
        result[rows] = torch.nn.functional.normalize(mean, dim=-1).half().numpy()
    return result


def definition(synset: wordnet.Synset) -> str:
    """The text by which the sentence encoder compares what nouns mean."""
    return f"{synset.names[0]}, {synset.gloss}".lower()


def definitions(
    nouns: dict[str, wordnet.Synset], wnids: list[str], synsets: list[wordnet.Synset]
) -> dict[str, Any]:
    """``nouns``: names and the definition of their most frequent meaning; ``classes``: the
    definitions of the classes."""
    classes = [nouns[wnid[1:]] for wnid in wnids]
    found: dict[str, str] = {}
    for synset in [*synsets, *classes]:
        for name in synset.names:
            found.setdefault(name, definition(synset))
    return {"nouns": found, "classes": [definition(synset) for synset in classes]}


def word_vectors(encoder: Path, words: Sequence[str], dimension: int) -> NDArray[np.float32]:
    """The first word vectors ``(n, dimension)``: principal components of the sentence encoder's.

    Special tokens have zeros.
    """
    special = len(vocabulary.SPECIAL)
    plain = [word.removeprefix("##") for word in words[special:]]
    vectors = sentence_vectors(encoder, plain).astype(np.float32)
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    parts = centred @ axes[:dimension].T
    found = np.zeros((len(words), dimension), np.float32)
    found[special:, : parts.shape[1]] = WORD_STD * parts / parts.std()
    return found


def teacher_texts(
    captions: list[list[str]],
    names: Names,
    clip: list[str],
    synsets: list[wordnet.Synset],
    counts: dict[str, int],
    defined: Iterable[str],
) -> list[str]:
    """What the sentence encoder is asked: captions, names, definitions and frequent words."""
    texts = [caption for several in captions for caption in several]
    texts += [name for several in names.classes for name in several]
    texts += [name for group in names.groups for name in group.names]
    texts += clip
    for synset in synsets:
        texts += [*synset.names, definition(synset)]
    texts += defined
    texts += [word for word, count in counts.items() if count >= 2 and word.isalpha()]
    return list(dict.fromkeys(text.lower() for text in texts))


def word_counts(
    captions: list[list[str]],
    scenes: list[list[str]],
    names: Names,
    clip: list[str],
    synsets: list[wordnet.Synset],
    counts: dict[str, int],
) -> Counter[str]:
    """What :func:`vocabulary.build` ranks words by: names before captions before WordNet."""
    texts = [(caption, 3.0) for several in captions for caption in several]
    texts += [(caption, 1.0) for several in scenes for caption in several]
    texts += [(name, 30.0) for several in names.classes for name in several]
    texts += [(name, 30.0) for group in names.groups for name in group.names]
    texts += [(name, 30.0) for name in clip]
    texts += [(name, 3.0) for synset in synsets for name in synset.names]
    texts += [(synset.gloss, 0.3) for synset in synsets]
    texts += [(word, 6.0 * min(count, 30) + 1) for word, count in counts.items()]
    nouns = [name for synset in synsets for name in synset.names if name.isalpha()]
    texts += [(vocabulary.plural(noun), 3.0) for noun in nouns]
    return vocabulary.counted(texts)
