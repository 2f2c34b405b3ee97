"""How often the line under the good matches is right.

    python -m benchmarks.relevance [--scenes 300] [--tiny-imagenet DIR] [--cifar10 DIR]

Scenes of held-out seeds are the first library. Queries with an answer are a caption of each;
queries without are everyday things that no scene shows. Printed, without and with the cosine that
is known to mean a match (``registry``): the share of described scenes above the line, the
share of queries that find anything above it, and the share of the others that do.

Photographs are the other libraries: some classes of Tiny ImageNet's validation set, or CIFAR-10's
test set (300 pictures of each class, so that a concept is shared by a tenth of the library).
Queries are names of classes; those of classes that are not in the library, or of the other data
set, have no answer. Printed: precision and recall of what stands above the line, the share of
queries without an answer that are told so, and how many pictures the others find; for several
cosines, so that a new model's can be chosen (``fits``).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.builtin_model import encoded, opened
from sightline.data.scenes.gallery import captions, compose, render
from sightline.data.training.data import wordnet_names
from sightline.indexer.encoder import Encoder, registry
from sightline.indexer.photo import photo
from sightline.server.search.relevance import ScoreScale

NOWHERE = (
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
    parser.add_argument("--cifar10", type=Path, help="folder of test pictures, a folder a class")
    parser.add_argument("--model", default="builtin")
    options = parser.parse_args()
    count = options.scenes
    encoder = Encoder.load(options.model)
    scenes = [compose(seed, split="test") for seed in range(500_000, 500_000 + count)]
    pixels = np.stack([_pixels(render(scene), encoder) for scene in scenes])
    vectors = encoder.encode_images(pixels)
    long = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    short = encoder.encode_texts([min(captions(scene), key=len) for scene in scenes])
    nowhere = encoder.encode_texts(list(NOWHERE))
    info = registry.find(encoder.model)
    known = info.match_cosine if info else None
    print(f"{'':20}{'answer':>10}{'anything':>10}")
    for name, fits in {"standing alone": None, f"and cosine {known}": known}.items():
        print(name)
        for kind, texts in (("long captions", long), ("short captions", short)):
            above = [_above(text @ vectors.T, fits) for text in texts]
            own = np.mean([line[n] for n, line in enumerate(above)])
            print(f"  {kind:18}{own:10.2f}{np.mean([line.any() for line in above]):10.2f}")
        found = np.mean([_above(text @ vectors.T, fits).any() for text in nowhere])
        print(f"  {'not there':18}{'':10}{found:10.2f}")

    photographs(encoder, options.tiny_imagenet, options.cifar10, known)


CLASSES = (10, 40, 100)
"""Classes of Tiny ImageNet in a library; fifty pictures each."""

A_CLASS = 300
"""Pictures of each class of CIFAR-10."""


def photographs(
    encoder: Encoder, tiny: Path | None, cifar: Path | None, known: float | None
) -> None:
    """Prints the libraries of photographs."""
    tried = [None, *sorted({0.36, 0.41, 0.46, 0.5} | ({known} if known else set()))]
    elsewhere: list[str] = []
    if tiny:
        wnids = sorted((tiny / "wnids.txt").read_text(encoding="utf-8").split())
        words = wordnet_names(tiny / "words.txt", wnids)
        names = elsewhere = [words[wnid][0] for wnid in wnids]
        lines = (tiny / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
        table = [line.split("\t")[:2] for line in lines]
        images = encoded(encoder, opened([tiny / "val" / "images" / file for file, _ in table]))
        truth = np.array([wnids.index(wnid) for _, wnid in table])
        order = np.random.default_rng(0).permutation(len(wnids))
        for count in CLASSES:
            kept = np.isin(truth, order[:count])
            case = f"{count} classes of Tiny ImageNet, {len(names) - count} elsewhere"
            _judge(case, encoder, images[kept], truth[kept], names, tried)
    if cifar:
        folders = sorted(path for path in cifar.iterdir() if path.is_dir())
        files = [file for folder in folders for file in sorted(folder.iterdir())[:A_CLASS]]
        images = encoded(encoder, opened(files))
        truth = np.repeat(np.arange(len(folders)), A_CLASS)
        names = [folder.name for folder in folders]
        here = {name.casefold() for name in names}
        names += [name for name in elsewhere if name.casefold() not in here]
        case = f"{len(folders)} classes of CIFAR-10, {len(names) - len(folders)} elsewhere"
        _judge(case, encoder, images, truth, names, tried)


def _judge(
    case: str,
    encoder: Encoder,
    images: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    tried: Sequence[float | None],
) -> None:
    scores = encoder.encode_texts(list(names)) @ images.T
    print(f"\n{case}: {len(images):,} pictures")
    print(f"{'cosine':10}{'precision':>10}{'recall':>10}{'told none':>10}{'else find':>10}")
    for fits in tried:
        right = found = wanted = 0
        nowhere = []
        for number, line in enumerate(scores):
            above, own = _above(line, fits), truth == number
            if own.any():
                right += int((above & own).sum())
                found += int(above.sum())
                wanted += int(own.sum())
            else:
                nowhere.append(int(above.sum()))
        none = np.mean([count == 0 for count in nowhere]) if nowhere else np.nan
        some = np.mean([count for count in nowhere if count] or [0])
        print(
            f"{fits or 'none':<10}{right / max(found, 1):10.2f}{right / wanted:10.2f}"
            f"{none:10.2f}{some:10.1f}"
        )


def _above(scores: np.ndarray, fits: float | None) -> np.ndarray:
    scale = ScoreScale.of(scores, fits)
    assert scale.threshold is not None
    return scale.z_scores(scores) >= scale.threshold


def _pixels(picture: object, encoder: Encoder) -> np.ndarray:
    import io

    out = io.BytesIO()
    picture.save(out, "PNG")  # type: ignore[attr-defined]
    return photo.read_bytes(out.getvalue(), encoder.geometry).pixels


if __name__ == "__main__":
    main()
