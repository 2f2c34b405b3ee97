"""Precision and recall of the relevance threshold.

    python -m benchmarks.relevance [--scenes 300] [--tiny-imagenet DIR] [--cifar10 DIR]

*Drawn scenes* of held-out seeds. Positive queries are captions of each scene, negative queries
everyday things that no scene shows. Prints, without and with the model's known match cosine
(``registry``): the fraction of queries whose own scene is a match, and that have any match.

*Photographs*: classes of Tiny ImageNet's validation set, or CIFAR-10's test set (300 images of each
class, so that a concept is a tenth of the library). Queries are class names; classes that are not
in the library, or those of the other data set, are negative. Prints precision and recall of the
matches, the fraction of negative queries without a match, and the matches of the others, for
several match cosines, so that one can be chosen for a new model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.builtin_model import encoded, opened, wordnet_names
from sightline.data.scenes import captions, compose, render
from sightline.indexer.encoder import Encoder, registry
from sightline.indexer.photo import photo
from sightline.server.search.relevance import ScoreScale

NEGATIVE = (
    "a plate of sushi",
    "an elephant",
    "a laptop on a desk",
    "a wedding couple dancing",
    "a tax receipt",
    "a football stadium",
    "portrait of a woman with glasses",
    "a pizza",
    "an astronaut",
    "a submarine",
    "a newspaper article",
    "a sewing machine",
    "a birthday cake with candles",
    "a baby asleep",
    "a cup of coffee",
    "a screenshot of an email",
    "a giraffe",
    "a violin",
    "shoes on a carpet",
    "a hospital corridor",
    "a chess board",
    "a wrist watch",
    "people in a meeting",
    "a bowl of soup",
    "a gorilla",
    "a bookshelf",
    "a toothbrush",
    "a volcano eruption",
    "an X-ray of a hand",
    "a guitar player on stage",
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--tiny-imagenet", type=Path, help="folder with val/ and words.txt")
    parser.add_argument("--cifar10", type=Path, help="test images, one folder per class")
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    count = options.scenes
    encoder = Encoder.load(options.model)
    scenes = [compose(seed, split="test") for seed in range(500_000, 500_000 + count)]
    arrays = np.stack([pixels(render(scene), encoder) for scene in scenes])
    vectors = encoder.encode_images(arrays)
    long = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    short = encoder.encode_texts([min(captions(scene), key=len) for scene in scenes])
    negative = encoder.encode_texts(list(NEGATIVE))
    info = registry.find(encoder.model)
    known = info.match_cosine if info else None
    print(f"{'':20}{'own scene':>10}{'any':>10}")
    for name, cosine in {"z-score": None, f"z-score and cosine {known}": known}.items():
        print(name)
        for kind, texts in (("long captions", long), ("short captions", short)):
            matches = [_matches(text @ vectors.T, cosine) for text in texts]
            own = np.mean([row[n] for n, row in enumerate(matches)])
            print(f"  {kind:18}{own:10.2f}{np.mean([row.any() for row in matches]):10.2f}")
        found = np.mean([_matches(text @ vectors.T, cosine).any() for text in negative])
        print(f"  {'negative':18}{'':10}{found:10.2f}")

    photographs(encoder, options.tiny_imagenet, options.cifar10, known)


CLASSES = (10, 40, 100)
"""Classes of Tiny ImageNet in a library, of 50 images each."""

IMAGES_PER_CLASS = 300
"""Of CIFAR-10."""


def photographs(
    encoder: Encoder, tiny: Path | None, cifar: Path | None, known: float | None
) -> None:
    """Prints the tables of the photographs."""
    tried = [None, *sorted({0.36, 0.41, 0.46, 0.5} | ({known} if known else set()))]
    absent: list[str] = []
    if tiny:
        wnids = sorted((tiny / "wnids.txt").read_text(encoding="utf-8").split())
        words = wordnet_names(tiny / "words.txt", wnids)
        names = absent = [words[wnid][0] for wnid in wnids]
        lines = (tiny / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
        table = [line.split("\t")[:2] for line in lines]
        images = encoded(encoder, opened([tiny / "val" / "images" / file for file, _ in table]))
        truth = np.array([wnids.index(wnid) for _, wnid in table])
        order = np.random.default_rng(0).permutation(len(wnids))
        for count in CLASSES:
            kept = np.isin(truth, order[:count])
            case = f"{count} classes of Tiny ImageNet, {len(names) - count} absent"
            _report(case, encoder, images[kept], truth[kept], names, tried)
    if cifar:
        folders = sorted(path for path in cifar.iterdir() if path.is_dir())
        files = [file for folder in folders for file in sorted(folder.iterdir())[:IMAGES_PER_CLASS]]
        images = encoded(encoder, opened(files))
        truth = np.repeat(np.arange(len(folders)), IMAGES_PER_CLASS)
        names = [folder.name for folder in folders]
        here = {name.casefold() for name in names}
        names += [name for name in absent if name.casefold() not in here]
        case = f"{len(folders)} classes of CIFAR-10, {len(names) - len(folders)} absent"
        _report(case, encoder, images, truth, names, tried)


def _report(
    case: str,
    encoder: Encoder,
    images: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    tried: Sequence[float | None],
) -> None:
    scores = encoder.encode_texts(list(names)) @ images.T
    print(f"\n{case}: {len(images):,} images")
    print(f"{'cosine':10}{'precision':>10}{'recall':>10}{'no match':>10}{'else':>10}")
    for cosine in tried:
        right = found = wanted = 0
        negative = []
        for number, row in enumerate(scores):
            matches, own = _matches(row, cosine), truth == number
            if own.any():
                right += int((matches & own).sum())
                found += int(matches.sum())
                wanted += int(own.sum())
            else:
                negative.append(int(matches.sum()))
        none = np.mean([count == 0 for count in negative]) if negative else np.nan
        some = np.mean([count for count in negative if count] or [0])
        print(
            f"{cosine or 'none':<10}{right / max(found, 1):10.2f}{right / wanted:10.2f}"
            f"{none:10.2f}{some:10.1f}"
        )


def _matches(scores: np.ndarray, match_cosine: float | None) -> np.ndarray:
    scale = ScoreScale.of(scores, match_cosine)
    assert scale.threshold is not None
    return scale.z_scores(scores) >= scale.threshold


def pixels(picture: object, encoder: Encoder) -> np.ndarray:
    """A Pillow image as the encoder's input."""
    import io

    out = io.BytesIO()
    picture.save(out, "PNG")  # type: ignore[attr-defined]
    return photo.read_bytes(out.getvalue(), encoder.geometry).pixels


if __name__ == "__main__":
    main()
