"""What the built-in model can do, measured on images it has not seen, beside its aims.

    python -m benchmarks.builtin_model
    python -m benchmarks.builtin_model --flickr8k-images DIR --flickr8k-captions FILE \\
        --flickr8k-test FILE --imagenet-samples DIR --wordnet DIR --tiny-imagenet DIR \\
        --json figures.json
    python -m benchmarks.builtin_model --model DIR --imagenet-samples DIR --wordnet DIR \\
        --held-out FILE

Scenes and the gallery are rendered here; the photos need the data sets that
``data/builtin/README.md`` names. ``--held-out`` lists the WordNet ids of classes whose names a
model was not taught, and measures these alone. Everything goes through the project's own
``Encoder``, so ``--model`` takes any model's name or folder; the gallery's rows go through
``SearchEngine``.
Intervals are at 95 %: Wilson's for independent cases, bootstrap over images or queries otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.scenes import Scene, captions, compose, render
from sightline.data.training import wordnet
from sightline.data.training.names import phrase
from sightline.data.training.prepare import exchanged, read_flickr8k_captions
from sightline.indexer.encoder import Encoder
from sightline.indexer.evaluation.metrics import Proportion, grouped_proportion, proportion
from sightline.indexer.library import Library
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Geometry,
    NewImage,
    Photo,
    PhotoInfo,
    Pixels,
)
from sightline.server.search.engine import SearchEngine

GALLERY = 300
"""Images of the drawn gallery, as many as ``sightline demo`` draws."""

PAGE = 10
"""Hits of which the precision is taken, or fewer where fewer images are right."""

FEWEST = 3
"""Right images below which a gallery query is left out."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Figure:
    """One row of the table."""

    measure: str
    value: float
    aim: float
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @classmethod
    def of(cls, measure: str, found: Proportion, aim: float) -> Figure:
        """A fraction with its interval."""
        return cls(measure, found.value, aim, found.low, found.high)


# --- images --------------------------------------------------------------------------------------


def fitted(image: Image.Image, geometry: Geometry) -> Pixels:
    """An image cut and resized as the model requires: (H, W, 3) uint8."""
    rgb = image.convert("RGB")
    resample = Image.Resampling[geometry.resample.upper()]
    size = (geometry.width, geometry.height)
    if geometry.fit == "squash":
        return np.asarray(rgb.resize(size, resample), dtype=np.uint8)
    side = min(rgb.size)
    width, height = (
        geometry.width * side / geometry.resize,
        geometry.height * side / geometry.resize,
    )
    left, top = (rgb.width - width) / 2, (rgb.height - height) / 2
    box = (left, top, left + width, top + height)
    return np.asarray(rgb.resize(size, resample, box=box), dtype=np.uint8)


def encoded(encoder: Encoder, images: Iterable[Image.Image], batch: int = 64) -> Embeddings:
    """Images -> (n, d) float32, unit norm."""
    parts: list[Embeddings] = []
    waiting = (fitted(image, encoder.geometry) for image in images)
    while pixels := list(islice(waiting, batch)):
        parts.append(encoder.encode_images(np.stack(pixels)))
    return np.concatenate(parts)


def opened(paths: Sequence[Path]) -> Iterator[Image.Image]:
    """Files as images, one at a time."""
    for path in paths:
        with Image.open(path) as image:
            yield image.copy()


def ranks(queries: Embeddings, gallery: Embeddings, own: Sequence[int]) -> np.ndarray:
    """For each query the number of rows that score above its own: 0 is a hit at rank one."""
    found = []
    rows = np.asarray(own)
    for start in range(0, len(queries), 512):
        scores = queries[start : start + 512] @ gallery.T
        mine = scores[np.arange(len(scores)), rows[start : start + 512]]
        found.append((scores > mine[:, None]).sum(axis=1))
    return np.concatenate(found)


def first_ranks(images: Embeddings, texts: Embeddings, own: Sequence[int]) -> np.ndarray:
    """For each image the number of texts of other images that score above the best of its own."""
    owners = np.asarray(own)
    scores = images @ texts.T
    mine = owners[None] == np.arange(len(images))[:, None]
    best = np.where(mine, scores, -np.inf).max(axis=1, keepdims=True)
    counts: np.ndarray = ((scores > best) & ~mine).sum(axis=1)
    return counts


# --- photos --------------------------------------------------------------------------------------


def measure_flickr8k(
    encoder: Encoder, images: Path, captions_file: Path, test_file: Path
) -> list[Figure]:
    """The official test split: captions find their photo, photos their captions."""
    sentences = read_flickr8k_captions(captions_file)
    files = test_file.read_text(encoding="utf-8").split()
    own = [row for row, file in enumerate(files) for _ in sentences[file]]
    texts = encoder.encode_texts([text for file in files for text in sentences[file]])
    vectors = encoded(encoder, opened([images / file for file in files]))
    forward, back = ranks(texts, vectors, own), first_ranks(vectors, texts, own)
    to_image = f"Flickr8k test, {len(own):,} captions -> {len(files):,} photos"
    return [
        Figure.of(f"{to_image}, R@1", grouped_proportion(forward < 1, own), 0.21),
        Figure.of(f"{to_image}, R@10", grouped_proportion(forward < 10, own), 0.61),
        Figure.of("Flickr8k test, photo -> captions, R@1", proportion_of(back < 1), 0.29),
        Figure.of("Flickr8k test, photo -> captions, R@10", proportion_of(back < 10), 0.70),
    ]


def proportion_of(right: np.ndarray) -> Proportion:
    """The fraction of independent cases that are right."""
    return proportion(int(right.sum()), len(right))


def class_vectors(encoder: Encoder, names: Sequence[Sequence[str]]) -> Embeddings:
    """Mean vector of each class's names, "a photo of a ..." each: (c, d) float32, unit norm."""
    prompts = [phrase(name, "a photo of {a}") for several in names for name in several]
    flat = encoder.encode_texts(prompts)
    ends = np.cumsum([len(several) for several in names])
    means = np.stack([part.mean(axis=0) for part in np.split(flat, ends[:-1])])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def measure_imagenet(
    encoder: Encoder, samples: Path, dictionary: Path, held_out: Path | None
) -> list[Figure]:
    """One photo for each ImageNet class, ``<wnid>_<name>.JPEG``, classified by WordNet's names.

    With ``held_out`` only the classes listed there, among one another.
    """
    files = sorted(samples.glob("n*.JPEG"))
    if held_out:
        chosen = set(held_out.read_text(encoding="utf-8").split())
        files = [file for file in files if file.name.split("_")[0] in chosen]
    nouns = wordnet.read_nouns(dictionary)
    names = [nouns[file.name.split("_")[0][1:]].names for file in files]
    rank = ranks(encoded(encoder, opened(files)), class_vectors(encoder, names), range(len(files)))
    five = proportion_of(rank < 5)
    if held_out:
        what = f"{len(files)} ImageNet classes whose names were not taught, among these, top-5"
        return [Figure.of(what, five, 0.40)]
    what = f"{len(files):,} ImageNet sample photos by class name"
    return [
        Figure.of(f"{what}, top-1", proportion_of(rank < 1), 0.58),
        Figure.of(f"{what}, top-5", five, 0.84),
    ]


def wordnet_names(words_file: Path, wnids: Iterable[str]) -> dict[str, list[str]]:
    """The names that Tiny ImageNet's ``words.txt`` gives each WordNet id, plainest first."""
    lines = words_file.read_text(encoding="utf-8").splitlines()
    table = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return {wnid: [name.strip() for name in table[wnid].split(",")] for wnid in wnids}


def measure_tiny_imagenet(encoder: Encoder, root: Path) -> list[Figure]:
    """Validation photos of 64 x 64 pixels by the names of the 200 classes."""
    wnids = sorted((root / "wnids.txt").read_text(encoding="utf-8").split())
    names = wordnet_names(root / "words.txt", wnids)
    lines = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    table = [line.split("\t")[:2] for line in lines]
    images = encoded(encoder, opened([root / "val" / "images" / file for file, _ in table]))
    classes = class_vectors(encoder, [names[wnid] for wnid in wnids])
    rank = ranks(images, classes, [wnids.index(wnid) for _, wnid in table])
    return [
        Figure.of("Tiny ImageNet val, 200 class names, top-1", proportion_of(rank < 1), 0.0),
        Figure.of("Tiny ImageNet val, 200 class names, top-5", proportion_of(rank < 5), 0.0),
    ]


# --- scenes and the gallery ----------------------------------------------------------------------


def measure_scenes(encoder: Encoder, count: int) -> list[Figure]:
    """Held-out scenes found by their full captions among one another, and the order of words.

    Order: in scenes of two subjects with a relation, whether the caption scores above the one with
    the subjects exchanged.
    """
    scenes = [compose(seed, split="test") for seed in range(count)]
    images = encoded(encoder, (render(scene) for scene in scenes))
    texts = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    rank = ranks(texts, images, range(count))
    pairs = [n for n, scene in enumerate(scenes) if scene.relation and len(scene.subjects) == 2]
    swapped = encoder.encode_texts([captions(exchanged(scenes[n]))[0] for n in pairs])
    right = ((texts[pairs] - swapped) * images[pairs]).sum(axis=1) > 0
    what = f"{count:,} held-out scenes, caption -> image"
    order = f"order of two subjects, {len(pairs)} held-out scenes, accuracy"
    return [
        Figure.of(f"{what}, R@1", proportion_of(rank < 1), 0.90),
        Figure.of(f"{what}, R@10", proportion_of(rank < 10), 0.995),
        Figure.of(order, proportion_of(right), 0.75),
    ]


Fact = Callable[[Scene], bool]


def nouns() -> dict[str, Fact]:
    """Single nouns of the gallery: what stands in a scene, by the word people would type."""
    from sightline.data.scenes.captioning import NOUNS

    def shows(kind: str) -> Fact:
        return lambda scene: any(subject.kind == kind for subject in scene.subjects)

    plain = {"person with umbrella": "umbrella", "snowman": "snowman"}
    return {plain.get(kind, forms[0][0]): shows(kind) for kind, forms in NOUNS.items()}


def places() -> dict[str, Fact]:
    """Where a scene is."""
    from sightline.data.scenes.scene import PLACES

    return {place: (lambda scene, place=place: scene.place == place) for place in PLACES}


def measure_gallery(encoder: Encoder, count: int) -> list[Figure]:
    """Precision of the first page for nouns, "A -B", and two nouns of which both must fit."""
    scenes = [compose(seed, split="gallery") for seed in range(count)]
    images = encoded(encoder, (render(scene) for scene in scenes))
    things = nouns()
    everything = {**things, **places()}
    with tempfile.TemporaryDirectory() as folder:
        library = library_of(Path(folder), encoder, images)
        with library, SearchEngine(library, encoder) as engine:

            def precisions(queries: dict[str, Fact]) -> list[float]:
                found = []
                for query, fact in queries.items():
                    right = {n + 1 for n, scene in enumerate(scenes) if fact(scene)}
                    if len(right) < FEWEST:
                        continue
                    page = min(PAGE, len(right))
                    hits = engine.search(query, k=page, fold=False, words=False).hits
                    numbers = [int(Path(hit.record.path).stem) for hit in hits]
                    found.append(sum(number in right for number in numbers) / page)
                return found

            negatives: dict[str, Fact] = {}
            both: dict[str, Fact] = {}
            for a, shows_a in everything.items():
                for b, shows_b in everything.items():
                    together = sum(shows_a(scene) and shows_b(scene) for scene in scenes)
                    if a == b or together < FEWEST:
                        continue
                    negatives[f"{quoted(a)} -{quoted(b)}"] = _without(shows_a, shows_b)
                    if a < b:
                        both[f"{quoted(a)} 1:{quoted(b)} match:all"] = _both(shows_a, shows_b)
            rows = (
                ("single nouns", precisions(things), 0.93),
                ('"A -B"', precisions(negatives), 0.75),
                ('"A" and "B", match:all', precisions(both), 0.0),
            )
    return [
        Figure.of(f"drawn gallery, {len(found)} x {what}, precision@{PAGE}", mean(found), aim)
        for what, found, aim in rows
    ]


def _without(a: Fact, b: Fact) -> Fact:
    return lambda scene: a(scene) and not b(scene)


def _both(a: Fact, b: Fact) -> Fact:
    return lambda scene: a(scene) and b(scene)


def quoted(words: str) -> str:
    """A phrase as the query language takes it."""
    return f'"{words}"' if " " in words else words


def mean(values: Sequence[float]) -> Proportion:
    """The mean over queries, with a bootstrap interval."""
    found = np.asarray(values)
    drawn = np.random.default_rng(0).integers(0, len(found), (RESAMPLES, len(found)))
    low, high = np.quantile(found[drawn].mean(axis=1), [0.025, 0.975])
    return Proportion(float(found.mean()), float(low), float(high))


def library_of(directory: Path, encoder: Encoder, vectors: Embeddings) -> Library:
    """A library of ``vectors``; image n is ``<n + 1>.jpg``."""
    library = Library.create(
        directory, model=encoder.model, revision=encoder.revision, dimension=encoder.dimension
    )
    root = library.ensure_root(directory / "images")
    photo = Photo(PhotoInfo(640, 480, "jpeg"), np.empty((0, 0, 3), np.uint8), b"", "")
    images = [
        NewImage(Candidate(root.path, f"{n}.jpg", 1, 0), photo, vector)
        for n, vector in enumerate(vectors, start=1)
    ]
    library.catalog.write(root, images=images)
    return library


# --- speed ---------------------------------------------------------------------------------------


CORES = 2
"""Cores that the aim for images is stated for."""


def cpu_time(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of a call, all threads together, after one that is not counted.

    Other work on the machine does not count, but what it evicts from the caches does.
    """
    work()
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return statistics.median(times)


def measure_speed(encoder: Encoder) -> list[Figure]:
    """Images already in memory, in batches of 32, and one short query at a time."""
    shape = (32, encoder.geometry.height, encoder.geometry.width, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image_seconds = cpu_time(lambda: encoder.encode_images(batch), 9)
    queries = iter([f"a red car under a night sky with {n} dogs" for n in range(41)])
    text_seconds = cpu_time(lambda: encoder.encode_texts([next(queries)]), 40)
    return [
        Figure(
            f"images per second, {CORES} cores, batch of 32, by CPU time",
            CORES * 32 / image_seconds,
            120,
            unit="/s",
        ),
        Figure("text query, p50, CPU time", 1000 * text_seconds, 5, unit="ms"),
    ]


# --- the table -----------------------------------------------------------------------------------


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table."""
    rows = ["| measure | reached | 95 % interval | aim |", "|---|---|---|---|"]
    for figure in figures:
        if figure.unit == "ms":
            rows.append(f"| {figure.measure} | {figure.value:.1f} ms | | < {figure.aim:.0f} ms |")
        elif figure.unit == "/s":
            rows.append(f"| {figure.measure} | {figure.value:.0f} | | >= {figure.aim:.0f} |")
        else:
            interval = f"{figure.low:.3f} to {figure.high:.3f}" if figure.low is not None else ""
            aim = f"{figure.aim:.3g}" if figure.aim else "-"
            rows.append(f"| {figure.measure} | {figure.value:.3f} | {interval} | {aim} |")
    return "\n".join(rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin", help="a model's name or folder")
    parser.add_argument("--scenes", type=int, default=1000, help="how many held-out scenes")
    parser.add_argument("--gallery", type=int, default=GALLERY, help="images of the drawn gallery")
    parser.add_argument("--flickr8k-images", type=Path, help="folder of the photos")
    parser.add_argument("--flickr8k-captions", type=Path, help="Flickr8k.token.txt")
    parser.add_argument("--flickr8k-test", type=Path, help="list of the test photos' file names")
    parser.add_argument("--imagenet-samples", type=Path, help="folder of <wnid>_<name>.JPEG")
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--held-out", type=Path, help="list of WordNet ids")
    parser.add_argument("--tiny-imagenet", type=Path, help="folder with val/ and words.txt")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    encoder = Encoder.load(options.model, device="cpu")
    figures: list[Figure] = []
    if options.flickr8k_images:
        figures += measure_flickr8k(
            encoder, options.flickr8k_images, options.flickr8k_captions, options.flickr8k_test
        )
    if options.imagenet_samples:
        figures += measure_imagenet(
            encoder, options.imagenet_samples, options.wordnet, options.held_out
        )
    if options.tiny_imagenet:
        figures += measure_tiny_imagenet(encoder, options.tiny_imagenet)
    if not options.held_out:
        figures += measure_scenes(encoder, options.scenes)
        figures += measure_gallery(encoder, options.gallery)
        figures += measure_speed(encoder)
    print(table(figures))
    if options.json:
        text = json.dumps([asdict(figure) for figure in figures], indent=2) + "\n"
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
