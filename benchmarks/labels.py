"""Precision and recall of stored labels, by threshold of the fit.

    python -m benchmarks.labels --cifar10 DIR --tiny-imagenet DIR [--model builtin]
    python -m benchmarks.labels --captions Flickr8k.token.txt --images DIR --split FILE

``--cifar10`` is a folder of test images with one folder per class, ``--tiny-imagenet`` the folder
with ``val/`` and ``words.txt``. Every image has at most one right label. Besides all labels of a
set, small sets of labels are tried in libraries where some of them fit nothing. Prints one row for
the relevance threshold, one for the model's probability and one for each threshold of the fit.

With ``--captions``, and for a gallery of drawn scenes, also what is said of an image by captions of
everyday photos, by threshold of the cosine. A caption counts as right if what it names first is in
a caption of the image or a fact of the scene, and as wrong if nothing that it names is.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from benchmarks.builtin_model import GALLERY, encoded, opened, wordnet_names
from sightline.data.scenes import captions, compose, render
from sightline.data.training import vocabulary, wordnet
from sightline.indexer.encoder import Encoder
from sightline.indexer.evaluation.datasets import read_captioned
from sightline.indexer.zero_shot.captions import CAPTIONS
from sightline.indexer.zero_shot.labels import Label, Labeller, label
from sightline.indexer.zero_shot.prompts import templates
from sightline.server.search.relevance import ScoreScale

IMAGES_PER_CLASS = 300
"""Of CIFAR-10."""


WORDS = {
    **{name: name for name in ("beach", "water", "ball", "street", "pool", "football", "field")},
    "soccer": "soccer",
    "dog": "dogs? puppy",
    "snow": "snow snowy",
    "bicycle": "bicycles? bikes? biker cyclist",
    "grass": "grass grassy",
    "girl": "girls?",
    "boy": "boys?",
    "man": "man men",
    "child": "child children kid kids",
    "mountain": "mountains?",
    "rock": "rocks? rocky",
    "surfing": r"surf\w*",
    "skateboard": r"skateboard\w*",
}
"""Label -> regular expressions of its words in captions."""

MIN_CAPTIONS = 2
"""Captions of an image that must mention a label for it to be right."""

VISIBLE = frozenset({5, 6, 8, 13, 15, 17, 18, 20})
"""WordNet's files of animals, artifacts, body parts, food, places, natural objects, people and
plants: what a caption names."""

UNSPOKEN = frozenset(
    ["light", "in", "at", "on", "front", "air", "dry", "white", "black", "red", "green", "blue"]
)
"""Nouns of WordNet that captions use otherwise."""

SAID = 5
"""Captions that are said of an image at most, as in an assistant's answer."""


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--tiny-imagenet", type=Path)
    parser.add_argument("--captions", type=Path, help="captions, as `sightline eval` takes them")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--split")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    options = parser.parse_args()
    encoder = Encoder.load(options.model)
    if options.captions:
        captioned = read_captioned(options.captions, options.images, split=options.split)
        mentions = np.zeros((len(captioned.images), len(WORDS)), np.int64)
        for text, image in zip(captioned.captions, captioned.targets, strict=True):
            mentions[image] += [
                any(re.search(rf"\b{form}\b", text.lower()) for form in forms.split())
                for forms in WORDS.values()
            ]
        images = encoded(encoder, opened(captioned.images))
        labels = [label(name) for name in WORDS]
        report(f"{len(WORDS)} words of captions", encoder, images, mentions >= MIN_CAPTIONS, labels)
        said = [""] * len(captioned.images)
        for text, image in zip(captioned.captions, captioned.targets, strict=True):
            said[image] += f" {text}"
        report_captions("photos with captions", encoder, images, said, options.wordnet)
        scenes = [compose(seed, split="gallery") for seed in range(GALLERY)]
        drawn = encoded(encoder, (render(scene) for scene in scenes))
        facts = [" ".join(captions(scene)) for scene in scenes]
        report_captions("drawn gallery", encoder, drawn, facts, options.wordnet)
    if options.cifar10:
        folders = sorted(path for path in options.cifar10.iterdir() if path.is_dir())
        files = [file for folder in folders for file in sorted(folder.iterdir())[:IMAGES_PER_CLASS]]
        truth = np.repeat(np.arange(len(folders)), IMAGES_PER_CLASS)
        images = encoded(encoder, opened(files))
        labels = [label(folder.name) for folder in folders]
        report("10 labels of CIFAR-10", encoder, images, _one(truth, labels), labels)
    if options.tiny_imagenet:
        root = options.tiny_imagenet
        wnids = sorted((root / "wnids.txt").read_text(encoding="utf-8").split())
        names = wordnet_names(root / "words.txt", wnids)
        every = [label(*names[wnid]) for wnid in wnids]
        lines = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
        table = [line.split("\t")[:2] for line in lines]
        truth = np.array([wnids.index(wnid) for _, wnid in table])
        images = encoded(encoder, opened([root / "val" / "images" / file for file, _ in table]))
        report("200 labels of Tiny ImageNet", encoder, images, _one(truth, every), every)
        order = np.random.default_rng(1).permutation(200)
        for case, present, labelled in (
            ("40 labels, 20 of them absent, 40 classes", order[:40], order[20:60]),
            ("4 labels, one of them absent, 60 classes", order[:60], order[57:61]),
            ("10 labels, 200 classes", order, order[:10]),
        ):
            chosen = np.isin(truth, present)
            column = {int(number): row for row, number in enumerate(labelled)}
            own = np.array([column.get(int(number), -1) for number in truth[chosen]])
            labels = [every[number] for number in labelled]
            report(case, encoder, images[chosen], _one(own, labels), labels)


def _one(truth: np.ndarray, labels: list[Label]) -> np.ndarray:
    """``(n, c) bool``: whether each label is right, from each image's label (-1: none)."""
    right: np.ndarray = truth[:, None] == np.arange(len(labels))[None]
    return right


def report(
    case: str, encoder: Encoder, images: np.ndarray, right: np.ndarray, labels: list[Label]
) -> None:
    """Prints one case. ``right``: ``(n, c) bool``, whether each label is right."""
    scored = Labeller(encoder, labels, templates=templates(encoder.templates))(images)
    print(f"\n{case}: {len(images):,} images")
    scales = [ScoreScale.of(column) for column in scored.cosines.T]
    matches = [
        scale.z_scores(column) >= (scale.threshold or 0)
        for scale, column in zip(scales, scored.cosines.T, strict=True)
    ]
    _row("relevance threshold", np.stack(matches, axis=1), right)
    _row("probability from .5", scored.probabilities >= 0.5, right)
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5):
        _row(f"fit from {threshold}", scored.fits >= threshold, right)


def report_captions(
    case: str, encoder: Encoder, images: np.ndarray, said: list[str], dictionary: Path
) -> None:
    """Prints, for each threshold, how much is said of the images and how much of it is wrong.

    ``said`` is all that is known of each image, in words. A caption must also stand out in the
    library, as in the product.
    """
    things = {
        name
        for synset in wordnet.read_nouns(dictionary).values()
        if synset.file in VISIBLE
        for name in synset.names
    } - UNSPOKEN
    bank = {text: names for text in CAPTIONS if (names := _named(text, things))}
    known = [set(_named(text, things)) for text in said]
    first = np.array([[several[0] in words for several in bank.values()] for words in known])
    any_of = np.array(
        [[bool(words & set(several)) for several in bank.values()] for words in known]
    )
    cosines = images @ encoder.encode_texts(list(bank)).T
    scales = [ScoreScale.of(column) for column in cosines.T]
    standing = np.stack(
        [
            scale.z_scores(column) >= (scale.threshold or 0)
            for scale, column in zip(scales, cosines.T, strict=True)
        ],
        axis=1,
    )
    best = np.argsort(-cosines, axis=1)[:, :SAID]
    scores, standing, first, any_of = (
        np.take_along_axis(table, best, axis=1) for table in (cosines, standing, first, any_of)
    )
    print(f"\n{case}: {len(images):,} images, captions of everyday photos")
    for threshold in (0.0, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5):
        shown = standing & (scores >= threshold)
        count = max(int(shown.sum()), 1)
        print(
            f"  cosine from {threshold:.2f}  images with any {shown.any(axis=1).mean():.2f}"
            f"  captions {int(shown.sum()):5,}  right {(first & shown).sum() / count:.2f}"
            f"  wrong {(~any_of & shown).sum() / count:.2f}"
        )


def _named(text: str, things: set[str]) -> list[str]:
    """The things that a text names, in the singular where WordNet has it."""
    found = []
    for word in vocabulary.words(text):
        forms = (word.removesuffix("s"), word.removesuffix("es"), word)
        single = next((form for form in forms if form in things), None)
        if word.endswith("ies") and f"{word[:-3]}y" in things:
            single = f"{word[:-3]}y"
        if single and len(single) > 1:
            found.append(single)
    return found


def _row(name: str, stored: np.ndarray, right: np.ndarray) -> None:
    good = int((stored & right).sum())
    precision, recall = good / max(int(stored.sum()), 1), good / max(int(right.sum()), 1)
    print(f"  {name:28}precision {precision:.2f}  recall {recall:.2f}")


if __name__ == "__main__":
    main()
