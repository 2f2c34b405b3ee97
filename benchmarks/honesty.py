"""Whether matches are honest: nouns that a library shows have matches, and right ones; others none.

    python -m benchmarks.honesty [--clothes DIR] [--imagenet-samples DIR --wordnet DIR] \\
        [--flickr8k-images DIR --flickr8k-captions FILE --flickr8k-test FILE] [--model NAME]

Libraries: drawn scenes of the gallery, photos of clothes (``labels.csv``: file, label), ImageNet's
sample photos with WordNet as the judge, and Flickr8k's test photos with their captions as judges (a
photo is right if one caption has the noun; a noun is present if two captions of five photos have
it). Every query goes through ``SearchEngine``. Prints for each library the fraction of present
nouns with a match, the mean precision of the matches (at most `PAGE` a query), and the fraction of
absent things and of gibberish without a match. Intervals are bootstrapped over queries, at 95 %.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.builtin_model import GALLERY, encoded, library_of, mean, nouns, opened, quoted
from sightline.data.scenes import compose, render
from sightline.data.training import vocabulary, wordnet
from sightline.data.training.prepare import read_flickr8k_captions
from sightline.indexer.encoder import Encoder
from sightline.server.search.engine import SearchEngine

PAGE = 50
"""Matches of a query that are judged."""

FEWEST = 3
"""Right images below which a noun is not asked for."""

EVERYDAY = """
    dog cat bird horse cow sheep elephant monkey snake fish butterfly spider bear lion insect frog
    car truck bus train bicycle motorcycle boat ship airplane ball guitar piano drum violin trumpet
    chair table sofa bed lamp clock bottle cup plate bowl spoon knife telephone computer keyboard
    camera television umbrella hat shoe shirt dress jacket glasses bag book bread fruit vegetable
    mushroom pizza cake tree flower beach mountain lake river snow street bridge fence tower church
    castle house garden playground swing slide skateboard surfboard kayak tent campfire
    football basketball baseball soccer rock stick grass sand bench
""".split()  # noqa: SIM905 (a list would be longer than a screen)

CLOTHES = {
    "dress": ("Dress",),
    "skirt": ("Skirt",),
    "hat": ("Hat",),
    "shoes": ("Shoes",),
    "trousers": ("Pants",),
    "shorts": ("Shorts",),
    "jacket": ("Outwear", "Blazer", "Hoodie"),
    "t-shirt": ("T-Shirt", "Polo", "Undershirt", "Top"),
    "shirt": ("Shirt", "Blouse", "Polo", "T-Shirt", "Longsleeve", "Undershirt", "Top"),
    "hoodie": ("Hoodie",),
    "blazer": ("Blazer",),
}
"""Words, and the labels of the clothing data set that they are true of."""

ABSENT = [
    "spaceship", "astronaut", "dinosaur", "unicorn", "rhinoceros", "kangaroo", "octopus", "x-ray",
    "passport", "sushi", "wedding cake", "tax receipt", "chess board", "eclipse", "submarine",
    "pyramid", "volcano", "tornado", "igloo", "hospital corridor", "meteor", "aurora", "milky way",
    "penguin", "giraffe", "koala", "windsurfing", "cockpit", "sewing machine", "stethoscope",
    "fireworks", "chemistry lab", "blueprint", "barcode", "bagpipes", "gravestone",
]  # fmt: skip
"""Left out where a library's judge knows the word."""

GIBBERISH = """
    sdfkjh qwertz asdfgh xkcdq blorptz wvbnq zzgrk fjdksl mnbvcx plokij trghjk hjkl zxcvb vfrtgb
    kkjjhh ploxy snrf grblfx dfgdfg wqeqwe
""".split()  # noqa: SIM905


def report(
    name: str,
    encoder: Encoder,
    images: Iterable[Image.Image],
    present: Mapping[str, np.ndarray],
    absent: Sequence[str],
) -> None:
    """Print one library's row; ``present`` has a bool for each image."""
    vectors = encoded(encoder, images)
    with tempfile.TemporaryDirectory() as folder:
        library = library_of(Path(folder), encoder, vectors)
        with library, SearchEngine(library, encoder) as engine:

            def matches(query: str) -> list[int]:
                hits = engine.search(quoted(query), k=PAGE, fold=False, words=False).hits
                return [int(Path(hit.record.path).stem) - 1 for hit in hits if hit.match]

            found = {query: matches(query) for query in present}
            matched = {query: matches(query) for query in absent}
            right = [float(present[q][rows].mean()) for q, rows in found.items() if rows]
            columns = {
                f"present ({len(found)}): any": [float(bool(rows)) for rows in found.values()],
                "precision": right,
                f"absent ({len(absent)}): none": [float(not rows) for rows in matched.values()],
                f"gibberish ({len(GIBBERISH)}): none": [
                    float(not matches(query)) for query in GIBBERISH
                ],
            }
    print(f"\n{name}, {len(vectors):,} images")
    for column, values in columns.items():
        figure = mean(values)
        print(f"  {column:24} {figure.value:.2f}  ({figure.low:.2f} to {figure.high:.2f})")
    silent = [query for query, rows in found.items() if not rows]
    loud = [query for query in absent if matched[query]]
    print(f"  present, no match: {', '.join(silent) or '-'}")
    print(f"  absent, a match: {', '.join(loud) or '-'}")


def drawn(encoder: Encoder) -> None:
    """The gallery, judged by what was drawn."""
    scenes = [compose(seed, split="gallery") for seed in range(GALLERY)]
    truth = {word: np.array([shows(scene) for scene in scenes]) for word, shows in nouns().items()}
    images = (render(scene) for scene in scenes)
    report("drawn gallery", encoder, images, _enough(truth), ABSENT)


def clothes(encoder: Encoder, folder: Path) -> None:
    """Photos of single clothes, judged by their labels."""
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split(",") for line in lines if line]
    truth = {
        word: np.array([label.casefold() in map(str.casefold, labels) for _, label in rows])
        for word, labels in CLOTHES.items()
    }
    images = opened([folder / file for file, _ in rows])
    report("photos of clothes", encoder, images, _enough(truth), ABSENT)


def imagenet(encoder: Encoder, folder: Path, dictionary: Path) -> None:
    """One photo of each class, judged by WordNet: whatever is above or is the class."""
    files = sorted(folder.glob("n*.JPEG"))
    synsets = wordnet.read_nouns(dictionary)
    names = [names_above(synsets, file.name.split("_")[0][1:]) for file in files]
    truth = {word: np.array([word in known for known in names]) for word in EVERYDAY}
    shuttle = {"spaceship"}  # ImageNet has a space shuttle, which WordNet files elsewhere
    absent = [word for word in ABSENT if not any(word in known for known in [*names, shuttle])]
    report("ImageNet sample photos", encoder, opened(files), _enough(truth), absent)


def names_above(synsets: Mapping[str, wordnet.Synset], offset: str) -> set[str]:
    """The names of a synset and of everything above it."""
    found: set[str] = set()
    waiting = [offset]
    while waiting:
        synset = synsets[waiting.pop()]
        found.update(synset.names)
        waiting += synset.hypernyms
    return found


def flickr8k(encoder: Encoder, folder: Path, captions_file: Path, test_file: Path) -> None:
    """Test photos, judged by their captions."""
    sentences = read_flickr8k_captions(captions_file)
    files = test_file.read_text(encoding="utf-8").split()
    said = [[set(vocabulary.words(text)) for text in sentences[file]] for file in files]
    counts = {
        word: np.array(
            [sum(bool({word, vocabulary.plural(word)} & text) for text in texts) for texts in said]
        )
        for word in EVERYDAY
    }
    truth = {word: count > 0 for word, count in counts.items() if (count > 1).sum() >= FEWEST}
    everything = {word for texts in said for text in texts for word in text}
    absent = [word for word in ABSENT if word.split()[-1] not in everything]
    report("Flickr8k test", encoder, opened([folder / file for file in files]), truth, absent)


def _enough(truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {word: right for word, right in truth.items() if right.sum() >= FEWEST}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin", help="a model's name or folder")
    parser.add_argument("--clothes", type=Path, help="folder with labels.csv")
    parser.add_argument("--imagenet-samples", type=Path, help="folder of <wnid>_<name>.JPEG")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--flickr8k-images", type=Path, help="folder of the photos")
    parser.add_argument("--flickr8k-captions", type=Path, help="Flickr8k.token.txt")
    parser.add_argument("--flickr8k-test", type=Path, help="list of the test photos' file names")
    options = parser.parse_args()
    encoder = Encoder.load(options.model, device="cpu")
    drawn(encoder)
    if options.clothes:
        clothes(encoder, options.clothes)
    if options.imagenet_samples:
        imagenet(encoder, options.imagenet_samples, options.wordnet)
    if options.flickr8k_images:
        flickr8k(encoder, options.flickr8k_images, options.flickr8k_captions, options.flickr8k_test)


if __name__ == "__main__":
    main()
