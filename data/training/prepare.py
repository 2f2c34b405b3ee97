"""Images and captions for training, decoded or rendered once into plain arrays.

A prepared source is two files in one folder: ``<name>.npy``, uint8 ``(n, SIDE, SIDE, 3)``, and
``<name>.json``, a list with what is known of each image. Images are squeezed to a square, as the
model's preprocessing does, because captions also name what is at the edges.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.scenes import Scene, Subject, captions, compose, render, triples
from sightline.data.training.names import CLOTHING

Pixels = NDArray[np.uint8]

SIDE = 288
"""Pixels a side of a prepared image: random crops of 224 keep their detail."""

SCENE_WIDTH = 448
"""Pixels at which training scenes are rendered: a third of the time of their full size."""

DEV_SCENES = 1_000_000
"""Seed of the first scene to choose by; training scenes count from 0."""

CONTRASTS = 6
"""Almost true captions per scene."""

OPPOSITE = {"left of": "right of", "right of": "left of"}


def square(image: Image.Image) -> Pixels:
    """An image as RGB, squeezed to ``SIDE`` x ``SIDE``."""
    rgb = image.convert("RGB")
    resized = rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(resized, dtype=np.uint8)


def decoded(path: Path) -> Pixels:
    """A file as :func:`square` has it."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        return square(image)


def save(folder: Path, name: str, images: Iterable[Pixels], facts: Sequence[Any]) -> None:
    """Write a source; ``images`` are as many as ``facts``. The ``.json`` file is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part.npy"
    shape = (len(facts), SIDE, SIDE, 3)
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for row, image in enumerate(images):
        pixels[row] = image
    pixels.flush()
    part.replace(folder / f"{name}.npy")
    (folder / f"{name}.json").write_text(json.dumps(facts), encoding="utf-8")


def load(folder: Path, name: str) -> tuple[Pixels, list[Any]]:
    """What :func:`save` wrote; the pixels stay on disk until they are used."""
    facts = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return np.load(folder / f"{name}.npy", mmap_mode="r"), facts


# --- photos --------------------------------------------------------------------------------------


def tidy_caption(caption: str) -> str:
    """Flickr8k's captions are tokenised ("A dog ."): back to ordinary lower-case text."""
    for mark in (".", ",", "!", "?", "'s", "n't"):
        caption = caption.replace(f" {mark}", mark)
    return " ".join(caption.split()).rstrip(".").strip().lower()


def read_flickr8k_captions(path: Path) -> dict[str, list[str]]:
    """``Flickr8k.token.txt``: lines of ``<file>#<n><tab><caption>``, by file name."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        key, _, caption = line.partition("\t")
        if caption:
            found.setdefault(key.split("#")[0], []).append(tidy_caption(caption))
    return found


def flickr8k(folder: Path, name: str, *, images: Path, captions_file: Path, split: Path) -> None:
    """The photos of one official split (a list of file names) with five captions each."""
    sentences = read_flickr8k_captions(captions_file)
    listed = split.read_text(encoding="utf-8").split()
    files = [file for file in listed if file in sentences and (images / file).exists()]
    save(folder, name, _decoded_all(images, files), [sentences[file] for file in files])


def clothing(folder: Path, root: Path) -> None:
    """The clothing data set (CC0), ``images.csv`` and ``images/<id>.jpg``: one label per image."""
    rows = [line.split(",") for line in (root / "images.csv").read_text().splitlines()[1:]]
    chosen = [
        (f"{row[0]}.jpg", row[2])
        for row in rows
        if row[2] in CLOTHING and (root / "images" / f"{row[0]}.jpg").exists()
    ]
    files = [file for file, _ in chosen]
    save(folder, "clothing", _decoded_all(root / "images", files), [label for _, label in chosen])


def photos(folder: Path, root: Path) -> None:
    """JPEG files without captions, from which only the classifier's judgement is learnt."""
    files = sorted(path.name for path in root.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    save(folder, "photos", _decoded_all(root, files), files)


def _decoded_all(folder: Path, files: Sequence[str]) -> Iterator[Pixels]:
    return (decoded(folder / file) for file in files)


# --- scenes --------------------------------------------------------------------------------------


def scenes(folder: Path, name: str, *, first: int, count: int, workers: int = 1) -> None:
    """``count`` rendered scenes of the training split, seeds ``first`` and up."""
    seeds = range(first, first + count)
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(_drawn, seeds, chunksize=32)
        save(folder, name, drawn, [scene_facts(seed) for seed in seeds])


def _drawn(seed: int) -> Pixels:
    return square(render(compose(seed, split="train"), width=SCENE_WIDTH))


def scene_facts(seed: int, *, split: str = "train") -> dict[str, Any]:
    """Everything that is said of a scene, true and false.

    ``captions`` are true, ``swapped`` have the first two subjects exchanged and are false where the
    scene has a relation; ``mirrored`` and ``mirrored_swapped`` are the same for the image flipped
    from left to right. ``contrasts`` are almost true. ``subjects`` are (kind, colour, count).
    """
    scene = compose(seed, split=split)
    facts: dict[str, Any] = {
        "captions": captions(scene, seed=seed),
        "setting": f"{scene.place}, {scene.time}, {scene.weather}",
        "place": scene.place,
        "time": scene.time,
        "weather": scene.weather,
        "relation": scene.relation,
        "subjects": [(subject.kind, subject.colour, subject.count) for subject in scene.subjects],
        "contrasts": contrasting(scene, random.Random(f"contrasts {seed}")),
    }
    if scene.relation:
        facts["swapped"] = captions(exchanged(scene), seed=seed)
        turned = replace(scene, relation=OPPOSITE.get(scene.relation, scene.relation))
        facts["mirrored"] = captions(turned, seed=seed)
        facts["mirrored_swapped"] = captions(exchanged(turned), seed=seed)
    return facts


def exchanged(scene: Scene) -> Scene:
    """The scene with its first two subjects in each other's place in the relation."""
    first, second, *others = scene.subjects
    return replace(scene, subjects=(second, first, *others))


def contrasting(scene: Scene, rng: random.Random, count: int = CONTRASTS) -> list[str]:
    """Full captions that differ from the scene's own in one subject: its kind, colour or number.

    They never name a held-out combination, so nothing is learnt about those either way.
    """
    known = [triple for triple in triples(held=False) if triple[2] == scene.place]
    own = captions(scene, count=1)[0]
    found: dict[str, None] = {}
    for attempt in range(4 * count):
        if len(found) == count:
            break
        place = rng.randrange(len(scene.subjects))
        subject = scene.subjects[place]
        before, after = scene.subjects[:place], scene.subjects[place + 1 :]
        instead: Subject | None
        if attempt % 4 == 3:  # one more, one fewer, or none
            absent = (before or after) and rng.random() < 0.4
            instead = None if absent else _more_or_fewer(subject, rng)
        else:
            match attempt % 4:
                case 0:  # another kind of the same colour, if there is one
                    fits = [t for t in known if t[1] == subject.colour and t[0] != subject.kind]
                case 1:  # the same kind in another colour
                    fits = [t for t in known if t[0] == subject.kind and t[1] != subject.colour]
                case _:
                    fits = known
            if not fits:
                continue
            kind, colour, _ = rng.choice(fits)
            if any((kind, colour) == (other.kind, other.colour) for other in before + after):
                continue
            instead = replace(subject, kind=kind, colour=colour)
        changed = (*before, *([instead] if instead else []), *after)
        relation = scene.relation if instead else None
        text = captions(replace(scene, subjects=changed, relation=relation), count=1)[0]
        if text != own:
            found[text] = None
    return list(found)


def _more_or_fewer(subject: Subject, rng: random.Random) -> Subject:
    spots = subject.spots
    fewer = len(spots) > 1 and rng.random() < 0.5
    spots = spots[:-1] if fewer else (*spots, spots[-1])
    return replace(subject, spots=spots[:5])
