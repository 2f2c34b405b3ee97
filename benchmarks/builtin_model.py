"""What the built-in model can do, measured on pictures it has never seen, beside its targets.

    python -m benchmarks.builtin_model
    python -m benchmarks.builtin_model --tiny-imagenet DIR --flickr8k-images DIR \\
        --flickr8k-captions FILE --flickr8k-test FILE --json figures.json

The scenes are rendered on the spot, from held-out seeds and held-out combinations; the
photographs need the data sets (``data/builtin/README.md`` says which). Everything goes through the
project's own ``Encoder``, so any model's name or folder can be measured with ``--model``.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sightline.data.scenes.gallery import captions, compose, render
from sightline.data.training.data import phrase, read_flickr_captions, wordnet_names
from sightline.indexer.encoder import Encoder
from sightline.indexer.types import Embeddings, Geometry, Pixels


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    measure: str
    value: float
    target: float
    unit: str = ""


def fitted(image: Image.Image, geometry: Geometry) -> Pixels:
    """A picture cut and resized as the model asks: (H, W, 3) uint8."""
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
    """Pictures -> (n, d) float32, unit norm."""
    parts: list[Embeddings] = []
    waiting: list[Pixels] = []
    for image in images:
        waiting.append(fitted(image, encoder.geometry))
        if len(waiting) == batch:
            parts.append(encoder.encode_images(np.stack(waiting)))
            waiting.clear()
    if waiting:
        parts.append(encoder.encode_images(np.stack(waiting)))
    return np.concatenate(parts)


def opened(paths: Sequence[Path]) -> Iterable[Image.Image]:
    """Files as pictures, one at a time."""
    for path in paths:
        with Image.open(path) as image:
            yield image.copy()


def ranks(texts: Embeddings, images: Embeddings, own: Sequence[int]) -> np.ndarray:
    """For each text the number of pictures that score above its own: 0 is a hit at rank one."""
    found = []
    rows = np.asarray(own)
    for start in range(0, len(texts), 512):
        scores = texts[start : start + 512] @ images.T
        mine = scores[np.arange(len(scores)), rows[start : start + 512]]
        found.append((scores > mine[:, None]).sum(axis=1))
    return np.concatenate(found)


def measure_scenes(encoder: Encoder, count: int) -> list[Figure]:
    """Held-out scenes found by their full captions among one another."""
    scenes = [compose(seed, split="test") for seed in range(count)]
    images = encoded(encoder, (render(scene) for scene in scenes))
    texts = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    rank = ranks(texts, images, range(count))
    return [
        Figure(f"{count:,} held-out scenes, caption -> image R@1", float((rank < 1).mean()), 0.80),
        Figure(
            f"{count:,} held-out scenes, caption -> image R@10", float((rank < 10).mean()), 0.97
        ),
    ]


def measure_tiny_imagenet(encoder: Encoder, root: Path) -> list[Figure]:
    """Validation photos classified by the names of the 200 classes, "a photo of a ..." each.

    A class's vector is the mean over the names that WordNet's ``words.txt`` gives it.
    """
    wnids = sorted((root / "wnids.txt").read_text(encoding="utf-8").split())
    names = wordnet_names(root / "words.txt", wnids)
    prompts = [[phrase(name, "a photo of {a}") for name in names[wnid]] for wnid in wnids]
    flat = encoder.encode_texts([prompt for several in prompts for prompt in several])
    ends = np.cumsum([len(several) for several in prompts])
    means = np.stack([part.mean(axis=0) for part in np.split(flat, ends[:-1])])
    classes = means / np.linalg.norm(means, axis=1, keepdims=True)
    lines = (root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines()
    table = [line.split("\t")[:2] for line in lines]
    images = encoded(encoder, opened([root / "val" / "images" / file for file, _ in table]))
    truth = np.array([wnids.index(wnid) for _, wnid in table])
    right = (images @ classes.T).argmax(axis=1) == truth
    return [Figure("Tiny ImageNet val, zero-shot by class name, top-1", float(right.mean()), 0.30)]


def measure_flickr8k(
    encoder: Encoder, images: Path, captions_file: Path, test_file: Path
) -> list[Figure]:
    """The official test split: every caption looks for its photo among 1,000."""
    sentences = read_flickr_captions(captions_file)
    files = test_file.read_text(encoding="utf-8").split()
    own = [row for row, file in enumerate(files) for _ in sentences[file]]
    texts = encoder.encode_texts([text for file in files for text in sentences[file]])
    rank = ranks(texts, encoded(encoder, opened([images / file for file in files])), own)
    what = f"Flickr8k test, {len(own):,} captions -> {len(files):,} photos R@10"
    return [Figure(what, float((rank < 10).mean()), 0.10)]


def best_time(work: Callable[[], object], rounds: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def measure_speed(encoder: Encoder) -> list[Figure]:
    """Pictures already in memory, in batches of 32, and one short query at a time."""
    shape = (32, encoder.geometry.height, encoder.geometry.width, 3)
    batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    image_seconds = best_time(lambda: encoder.encode_images(batch), 15)
    queries = [f"a red car under a night sky with {n} dogs" for n in range(41)]
    query = iter(queries)
    text_seconds = best_time(lambda: encoder.encode_texts([next(query)]), 40)
    return [
        Figure("images a second, batch of 32", 32 / image_seconds, 200),
        Figure("milliseconds a text query", 1000 * text_seconds, 5, "ms"),
    ]


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, with the targets for a model trained without a GPU."""
    rows = ["| measure | reached | target |", "|---|---|---|"]
    for figure in figures:
        if figure.unit == "ms":
            rows.append(f"| {figure.measure} | {figure.value:.1f} | < {figure.target:.0f} |")
        elif figure.target > 1:
            rows.append(f"| {figure.measure} | {figure.value:.0f} | >= {figure.target:.0f} |")
        else:
            rows.append(f"| {figure.measure} | {figure.value:.3f} | {figure.target:.2f} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="builtin", help="a model's name or folder")
    parser.add_argument("--scenes", type=int, default=1000, help="how many held-out scenes")
    parser.add_argument("--tiny-imagenet", type=Path, help="folder with val/ and words.txt")
    parser.add_argument("--flickr8k-images", type=Path, help="folder of the photographs")
    parser.add_argument("--flickr8k-captions", type=Path, help="Flickr8k.token.txt")
    parser.add_argument("--flickr8k-test", type=Path, help="list of the test photos' file names")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    encoder = Encoder.load(options.model)
    figures = measure_scenes(encoder, options.scenes)
    if options.tiny_imagenet:
        figures += measure_tiny_imagenet(encoder, options.tiny_imagenet)
    if options.flickr8k_images:
        figures += measure_flickr8k(
            encoder, options.flickr8k_images, options.flickr8k_captions, options.flickr8k_test
        )
    figures += measure_speed(encoder)
    print(table(figures))
    if options.json:
        text = json.dumps([asdict(figure) for figure in figures], indent=2) + "\n"
        options.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
