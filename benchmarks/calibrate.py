"""Fits the calibration of the built-in model: from which cosine an image matches which text.

    python -m benchmarks.calibrate --work DIR --efficientnet FILE.pth [--wordnet DIR]

``--work`` is the folder of the recipe (``python -m sightline.data.training``: ``prepare``,
``features`` and ``texts``). Four libraries of images that ``benchmarks.honesty`` does not use:
Flickr8k's dev photos, judged by their captions; three photos of each class of which the ImageNet
classifier is sure, judged by WordNet; drawn scenes of training's dev seeds; and 14 photos for each
label of the clothing data set. Prints, for each, the fraction of present nouns with a match, the
precision, the fraction of absent things without a match, and the recall among the first
`PAGE`. Run it again whenever the weights change.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.builtin_model import encoded
from benchmarks.honesty import ABSENT, CLOTHES, EVERYDAY, FEWEST, names_above
from sightline.data.training import prepare, vocabulary, wordnet
from sightline.data.training.features import Cached
from sightline.data.training.network import load_efficientnet
from sightline.data.training.teachers import Names
from sightline.indexer.encoder import Encoder
from sightline.indexer.encoder.registry import builtin_directory
from sightline.indexer.types import Embeddings
from sightline.server.search.calibration import FILE, Calibration
from sightline.server.search.visual_words import visual_words

PAGE = 50
"""Images of a query that are judged, the closest ones."""

SURE = 0.6
"""Probability of a class from which the classifier's judgement counts."""

UNSEEN = 0.02
"""Probability of a thing below which the classifier does not see it in any photo."""

MOST = 0.4
"""Fraction of a library above which a thing is too common to be asked for."""

UNLIKE = 0.5
"""Cosine of texts from which something absent is too like something present to count as absent."""

CLOTHES_PER_LABEL, PHOTOS_PER_CLASS, SCENES = 14, 3, 300

OTHER_WEIGHT = 0.3
"""Weight of a noun that is not among the everyday ones."""

BELOW_BEST, CERTAIN = 0.04, 0.1
"""Less shows fewer images that are right and more queries' matches that are all right."""

WANTED = np.array([0.92, 0.82, 0.97])
"""Found, precision and absent without a match: the aims, and two points to spare."""

LIBRARY_WEIGHTS = {"drawn scenes": 0.6}
RECALL_WEIGHT = 0.15
MIDDLE_LOG_RANK = 8.0

STAND_FOR_NOTHING = frozenset(
    """
    man woman people person boy girl child lady guy two front back white black red blue green
    air top side one group young men women outdoor indoor yellow gold golden silver pink purple
    grey orange brown wooden metal leather paper ear eye finger hand foot mouth nose neck knee
    drink paint watch kiss smile ring round dark dot spring fall light goal party
""".split()  # noqa: SIM905 (a list would be longer than a screen)
)
"""Visible words of captions that are no things, or other parts of speech."""


@dataclass(frozen=True)
class DevLibrary:
    """Images, what is in them, and what is not."""

    vectors: Embeddings
    present: Mapping[str, NDArray[np.bool_]]
    """A bool for each image."""
    absent: Sequence[str]


class Texts:
    """Texts to vectors, each encoded once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Iterable[str]) -> Embeddings:
        """``(n, d)``, unit norm."""
        wanted = list(texts)
        new = [text for text in dict.fromkeys(wanted) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self._encoder.encode_texts(new), strict=True))
        return np.stack([self._vectors[text] for text in wanted])

    def unlike(self, candidates: Iterable[str], others: Iterable[str]) -> list[str]:
        """The candidates that mean none of ``others``."""
        chosen = [text for text in dict.fromkeys(candidates) if text.isascii()]
        near = (self(chosen) @ self(others).T).max(axis=1)
        return [text for text, cosine in zip(chosen, near, strict=True) if cosine < UNLIKE]


# --- libraries -----------------------------------------------------------------------------------


def pixels(encoder: Encoder, work: Path, name: str, rows: Sequence[int]) -> Embeddings:
    """Vectors of rows of a prepared source."""
    images, _ = prepare.load(work, name)
    return encoded(encoder, (Image.fromarray(images[row]) for row in rows))


def flickr8k_dev(encoder: Encoder, work: Path, texts: Texts, things: Sequence[str]) -> DevLibrary:
    """A noun is present if two captions of three photos have it, right if one has it."""
    captions = json.loads((work / "flickr8k_dev.json").read_text(encoding="utf-8"))
    training = json.loads((work / "flickr8k.json").read_text(encoding="utf-8"))
    said = [[set(vocabulary.words(text)) for text in several] for several in captions]
    counts = Counter(word for several in said for word in set().union(*several))
    known = (set(EVERYDAY) | visual_words() | set(things)) - STAND_FOR_NOTHING
    present = {}
    for word in sorted(known & (set(counts) | set(EVERYDAY))):
        forms = {word, vocabulary.plural(word)}
        number = np.array([sum(bool(forms & text) for text in several) for several in said])
        if (number > 1).sum() >= FEWEST and (number > 0).mean() < MOST:
            present[word] = number > 0
    everything = set(counts).union(
        *(vocabulary.words(text) for several in training for text in several)
    )
    unsaid = [name for name in things if name.split()[-1] not in everything]
    spoken = [word for word, count in counts.items() if count >= FEWEST and len(word) > 2]
    vectors = pixels(encoder, work, "flickr8k_dev", range(len(captions)))
    return DevLibrary(vectors, present, texts.unlike(unsaid, spoken))


def classified(
    encoder: Encoder,
    work: Path,
    texts: Texts,
    things: Sequence[str],
    names: Names,
    classifier: tuple[NDArray[np.float32], NDArray[np.float32]],
    nouns: Mapping[str, wordnet.Synset],
) -> DevLibrary:
    """The surest photos of each class: what is present is what WordNet has above it."""
    rows, biases = classifier
    found: list[tuple[str, int, NDArray[np.float32]]] = []
    for source in ("photos", "flickr8k"):
        facts = json.loads((work / f"{source}.json").read_text(encoding="utf-8"))
        features = Cached.open(work, source, len(facts)).features[:, 0, : rows.shape[1]]
        logits = features.astype(np.float32) @ rows.T + biases
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        judgement = powers / powers.sum(axis=1, keepdims=True)
        sure = np.flatnonzero(judgement.max(axis=1) > SURE)
        found += [(source, int(row), judgement[row]) for row in sure]
    found.sort(key=lambda one: -one[2].max())
    taken: Counter[int] = Counter()
    chosen = []
    for one in found:
        taken[label := int(one[2].argmax())] += 1
        if taken[label] <= PHOTOS_PER_CLASS:
            chosen.append(one)
    chosen.sort(key=lambda one: one[0])
    probabilities = np.stack([one[2] for one in chosen])
    vectors = [
        pixels(encoder, work, source, [row for name, row, _ in chosen if name == source])
        for source in sorted({one[0] for one in chosen})
    ]
    above = [names_above(nouns, wnid[1:]) for wnid in names.wnids]
    labels = probabilities.argmax(axis=1)
    shown = set().union(*(above[label] for label in set(labels.tolist())))
    plain = set(EVERYDAY) | {group.names[0] for group in names.groups}
    plain |= {name for several in names.classes for name in several[:2]}
    present = {}
    for name in sorted(plain & shown & (visual_words() | set(EVERYDAY))):
        right = np.array([name in above[label] for label in labels])
        if right.sum() >= FEWEST and right.mean() < MOST:
            present[name] = right
    seen = {
        name: probabilities[:, [name in known for known in above]].sum(axis=1).max()
        for name in plain - shown
        if any(name in known for known in above)
    }
    unseen = sorted(name for name, most in seen.items() if most < UNSEEN)
    absent = texts.unlike([*unseen, *things[::4]], sorted(shown))
    return DevLibrary(np.concatenate(vectors), present, absent)


def drawn_scenes(encoder: Encoder, work: Path, texts: Texts, things: Sequence[str]) -> DevLibrary:
    """Judged by what was drawn."""
    from sightline.data.scenes.captioning import NOUNS

    facts = json.loads((work / "scenes_dev.json").read_text(encoding="utf-8"))[:SCENES]
    plain = {"person with umbrella": "umbrella", "snowman": "snowman"}
    present = {}
    for kind, forms in NOUNS.items():
        right = np.array([any(kind == one[0] for one in fact["subjects"]) for fact in facts])
        if right.sum() >= FEWEST:
            present[plain.get(kind, forms[0][0])] = right
    said = {word for fact in facts for text in fact["captions"] for word in vocabulary.words(text)}
    unsaid = [name for name in things if not said & set(vocabulary.words(name))]
    vectors = pixels(encoder, work, "scenes_dev", range(len(facts)))
    return DevLibrary(vectors, present, texts.unlike(unsaid, sorted(said)))


def clothing(encoder: Encoder, work: Path, texts: Texts, things: Sequence[str]) -> DevLibrary:
    """Photos of single clothes, judged by their labels."""
    labels = json.loads((work / "clothing.json").read_text(encoding="utf-8"))
    order = np.random.default_rng(0).permutation(len(labels)).tolist()
    taken: Counter[str] = Counter()
    rows = []
    for row in order:
        taken[labels[row]] += 1
        if taken[labels[row]] <= CLOTHES_PER_LABEL:
            rows.append(row)
    chosen = [labels[row].casefold() for row in rows]
    truth = {
        word: np.array([label in map(str.casefold, known) for label in chosen])
        for word, known in CLOTHES.items()
    }
    present = {word: right for word, right in truth.items() if right.sum() >= FEWEST}
    absent = texts.unlike(things, [*CLOTHES, "clothing", "hanger", "bed", "person", "fabric"])
    return DevLibrary(pixels(encoder, work, "clothing", rows), present, absent)


# --- fit -----------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """Queries of a library."""

    cosines: NDArray[np.float32]
    """``(q, k)``, of the closest `PAGE` images."""
    log_rank: NDArray[np.float64]
    """``(q,)``."""


def judged(
    library: DevLibrary, asked: Sequence[str], encoder: Encoder, texts: Texts, start: Calibration
) -> tuple[Judged, NDArray[np.int64]]:
    """A :class:`Judged`, and the rows of its images."""
    cosines = texts(asked) @ library.vectors.T
    rows = np.argsort(-cosines, axis=1)[:, :PAGE]
    ranks = np.array([start.log_rank(encoder.word_ids(text)) for text in asked])
    return Judged(np.take_along_axis(cosines, rows, axis=1), ranks), rows


class Case(NamedTuple):
    """One library, ready for many trials."""

    present: Judged
    right: NDArray[np.bool_]
    """``(q, k)``."""
    possible: NDArray[np.int64]
    """Right images of each query, at most `PAGE`."""
    weights: NDArray[np.float64]
    absent: Judged


Parameters = tuple[float, float]
"""Bias and rarity."""


def matches(judged: Judged, parameters: Parameters) -> NDArray[np.bool_]:
    """What :meth:`Calibration.match_cosine` decides, for all queries at once."""
    bias, rarity = parameters
    required = (bias + rarity * judged.log_rank)[:, None]
    limit = np.minimum(judged.cosines[:, :1] - BELOW_BEST, required + CERTAIN)
    return judged.cosines >= np.maximum(required, limit)


def figures(case: Case, parameters: Parameters) -> NDArray[np.float64]:
    """Found, precision, absent without a match, recall."""
    found = matches(case.present, parameters)
    any_found, right = found.any(axis=1), (found & case.right).sum(axis=1)
    precision = right[any_found] / found[any_found].sum(axis=1)
    return np.array(
        [
            np.average(any_found, weights=case.weights),
            np.average(precision, weights=case.weights[any_found]) if any_found.any() else 0.0,
            1 - matches(case.absent, parameters)[:, 0].mean(),
            np.average(right / case.possible, weights=case.weights),
        ]
    )


def fitted(cases: Mapping[str, Case]) -> Parameters:
    """The best of a grid."""
    weights = np.array([LIBRARY_WEIGHTS.get(name, 1.0) for name in cases])

    def cost(parameters: Parameters) -> float:
        table = np.stack([figures(case, parameters) for case in cases.values()])
        missing = np.maximum(WANTED - table[:, :3], 0).sum(axis=1)
        return float(np.average(missing, weights=weights) - RECALL_WEIGHT * table[:, 3].mean())

    # By the cosine that a word of middle rank requires, because bias and rarity depend on it.
    grid = [
        (cosine - rarity * MIDDLE_LOG_RANK, rarity)
        for cosine in np.arange(0.2, 0.45, 0.005).tolist()
        for rarity in np.arange(0, 0.15, 0.005).tolist()
    ]
    return min(grid, key=cost)


def main() -> None:
    """Fits, prints the figures and writes the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the recipe's folder")
    parser.add_argument("--efficientnet", type=Path, required=True, help="its .pth file")
    parser.add_argument("--width", type=float, default=1.1)
    parser.add_argument("--depth", type=float, default=1.2)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    options = parser.parse_args()
    work: Path = options.work
    encoder = Encoder.load("builtin", device="cpu")
    texts = Texts(encoder)
    names = Names.load(work / "names.json")
    clip = json.loads((work / "clip_names.json").read_text(encoding="utf-8"))
    things = [name for name in dict.fromkeys(clip) if name not in ABSENT]
    _, weight, bias = load_efficientnet(
        options.efficientnet, width=options.width, depth=options.depth
    )
    classifier = weight.detach().numpy(), bias.detach().numpy()
    nouns = wordnet.read_nouns(options.wordnet)
    libraries = {
        "Flickr8k dev": flickr8k_dev(encoder, work, texts, things),
        "classified photos": classified(encoder, work, texts, things, names, classifier, nouns),
        "drawn scenes": drawn_scenes(encoder, work, texts, things[::4]),
        "clothing": clothing(encoder, work, texts, things[::4]),
    }
    common = (word for word in visual_words() | set(EVERYDAY) if len(word) > 2)
    first = min(id for word in common for id in encoder.word_ids(word))
    start = Calibration(first, 0.0, 0.0, BELOW_BEST, CERTAIN)
    cases = {}
    for name, library in libraries.items():
        asked = list(library.present)
        present, rows = judged(library, asked, encoder, texts, start)
        truth = np.stack([library.present[word] for word in asked])
        everyday = np.isin(asked, EVERYDAY) | (name in ("drawn scenes", "clothing"))
        cases[name] = Case(
            present,
            np.take_along_axis(truth, rows, axis=1),
            np.minimum(truth.sum(axis=1), PAGE),
            np.where(everyday, 1.0, OTHER_WEIGHT),
            judged(library, library.absent, encoder, texts, start)[0],
        )
    parameters = fitted(cases)
    print("bias {:.3f}, rarity {:.3f}".format(*parameters))
    for name, case in cases.items():
        size = f"{len(case.right)} present, {len(case.absent.cosines)} absent"
        row = figures(case, parameters)
        print(f"{name:18} ({size}): " + "  ".join(f"{value:.2f}" for value in row))
    calibration = replace(start, bias=parameters[0], rarity=parameters[1])
    calibration.save(builtin_directory() / FILE, revision=encoder.revision)


if __name__ == "__main__":
    main()
