"""Pictures and words for training the built-in model, prepared once as plain arrays.

A prepared source is two files in one folder: ``<name>.npy``, uint8 (n, size, size, 3), and
``<name>.json``, what is known about each picture. Pictures are squeezed to a square rather than
cropped, because captions speak of what stands at the edges, and the model's preprocessing does the
same. Two kinds of source teach in two ways:

- *captions*: every picture has sentences of its own (the rendered scenes, Flickr8k);
- *classes*: every picture belongs to classes, each with several names (Tiny ImageNet, CIFAR-10,
  the clothing data set). A class source has one or more *levels* (exact names, broader names); a
  picture may belong to several classes of the broader level, or to none.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sightline.data.training.names import BROADER, CIFAR10, CLEARER, CLOTHING, TEMPLATES, UNCOUNTED

if TYPE_CHECKING:
    from sightline.data.scenes.gallery import Scene, Subject

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Level:
    """Classes to be told apart from one another: names for each, and each picture's classes."""

    names: list[list[str]]
    members: list[list[int]]  # per picture; empty where the picture has no class here


@dataclass(frozen=True)
class Source:
    """One data set: pictures (n, size, size, 3) uint8 with captions or with classes.

    ``settings`` and ``contrasts`` make captions harder to tell apart where a source can say how:
    pictures of one setting are shown together, and each picture's contrasts are sentences that
    are almost true of it. Both are empty where nothing is known.
    """

    name: str
    pixels: Pixels
    captions: list[list[str]]
    levels: list[Level]
    settings: list[str] = field(default_factory=list)
    contrasts: list[list[str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: Sequence[int]) -> "Source":
        """The same source with only these pictures, in this order."""
        chosen = np.asarray(rows, dtype=np.int64)
        return Source(
            self.name,
            self.pixels[chosen],
            [self.captions[row] for row in rows] if self.captions else [],
            [Level(level.names, [level.members[row] for row in rows]) for level in self.levels],
            [self.settings[row] for row in rows] if self.settings else [],
            [self.contrasts[row] for row in rows] if self.contrasts else [],
        )

    def hold_out(self, every: int) -> tuple["Source", "Source"]:
        """Split into a part to learn from and every ``every``-th picture to choose by."""
        held = range(every - 1, len(self), every)
        kept = [row for row in range(len(self)) if row % every != every - 1]
        return self.take(kept), self.take(list(held))

    def save(self, folder: Path) -> None:
        """Write ``<name>.npy`` and ``<name>.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{self.name}.npy", self.pixels)
        levels = [{"names": level.names, "members": level.members} for level in self.levels]
        facts = {"captions": self.captions, "levels": levels}
        facts |= {"settings": self.settings, "contrasts": self.contrasts}
        text = json.dumps(facts)
        (folder / f"{self.name}.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, name: str) -> "Source":
        """Read what :meth:`save` wrote; the pixels stay on disk until they are used."""
        facts: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        pixels = np.load(folder / f"{name}.npy", mmap_mode="r")
        levels = [Level(**level) for level in facts["levels"]]
        settings, contrasts = facts.get("settings", []), facts.get("contrasts", [])
        return cls(name, pixels, facts["captions"], levels, settings, contrasts)


# --- words ---------------------------------------------------------------------------------------


def with_article(name: str) -> str:
    """``"dog" -> "a dog"``, ``"apple" -> "an apple"``, plurals and substances as they are."""
    plural = name.endswith("s") and not name.endswith("ss")
    words = name.split()
    if plural or words[-1] in UNCOUNTED or words[0] in {"a", "by", "inside", "under"}:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def phrase(name: str, template: str) -> str:
    """A class name in a sentence a person might type."""
    return template.replace("{a}", with_article(name)).replace("{}", name)


def random_phrase(names: Sequence[str], rng: random.Random) -> str:
    """One of a class's names in one of the templates; the first name half of the time."""
    name = names[0] if rng.random() < 0.5 else rng.choice(names)
    return phrase(name, rng.choice(TEMPLATES))


def tidy_caption(caption: str) -> str:
    """Flickr8k's captions are tokenised ("A dog ."): back to ordinary punctuation."""
    for mark in (".", ",", "!", "?", "'s", "n't"):
        caption = caption.replace(f" {mark}", mark)
    return " ".join(caption.split()).rstrip(".").strip()


def wordnet_names(words_file: Path, wnids: Iterable[str]) -> dict[str, list[str]]:
    """The names that ``words.txt`` gives each WordNet id, plainest first."""
    lines = words_file.read_text(encoding="utf-8").splitlines()
    table = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return {wnid: [name.strip() for name in table[wnid].split(",")] for wnid in wnids}


# --- pictures ------------------------------------------------------------------------------------


def square(image: Image.Image, size: int) -> Pixels:
    """A picture as RGB, squeezed to ``size`` x ``size``."""
    rgb = image.convert("RGB")
    if rgb.size != (size, size):
        rgb = rgb.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return np.asarray(rgb, dtype=np.uint8)


def read_square(job: tuple[Path, int]) -> Pixels:
    """Decode one file at about the size that is needed (JPEG only; others in full)."""
    path, size = job
    with Image.open(path) as image:
        image.draft("RGB", (2 * size, 2 * size))
        return square(image, size)


def read_all(paths: Sequence[Path], size: int, workers: int) -> Pixels:
    """Decode many files into one array (n, size, size, 3)."""
    pixels = np.empty((len(paths), size, size, 3), dtype=np.uint8)
    with ProcessPoolExecutor(workers) as pool:
        jobs = ((path, size) for path in paths)
        for row, picture in enumerate(pool.map(read_square, jobs, chunksize=64)):
            pixels[row] = picture
    return pixels


# --- one function a data set ---------------------------------------------------------------------


def tiny_imagenet(root: Path, workers: int) -> Source:
    """100,000 training photos of 200 classes, 64 px; names from WordNet and broader ones."""
    wnids = sorted(path.name for path in (root / "train").iterdir() if path.is_dir())
    names = wordnet_names(root / "words.txt", wnids)
    paths: list[Path] = []
    classes: list[int] = []
    for index, wnid in enumerate(wnids):
        found = sorted((root / "train" / wnid).rglob("*.JPEG"))
        paths += found
        classes += [index] * len(found)
    groups = [set(members.split()) for members in BROADER.values()]
    broader = [[group for group, members in enumerate(groups) if wnid in members] for wnid in wnids]
    exact_level = Level(
        [list(dict.fromkeys((*CLEARER.get(wnid, ()), *names[wnid]))) for wnid in wnids],
        [[index] for index in classes],
    )
    broad_level = Level([list(words) for words in BROADER], [broader[index] for index in classes])
    pixels = read_all(paths, 64, workers)
    return Source("tiny_imagenet", pixels, [], [exact_level, broad_level])


def cifar10(root: Path, workers: int) -> Source:
    """50,000 training photos of 10 classes, 32 px: ``train/<class>/*.jpg``."""
    paths = [path for label in CIFAR10 for path in sorted((root / "train" / label).iterdir())]
    order = list(CIFAR10)
    members = [[order.index(path.parent.name)] for path in paths]
    level = Level([list(names) for names in CIFAR10.values()], members)
    return Source("cifar10", read_all(paths, 32, workers), [], [level])


def clothing(root: Path, size: int, workers: int) -> Source:
    """The clothing data set (CC0): ``images.csv`` and ``images/<id>.jpg``."""
    order = list(CLOTHING)
    paths: list[Path] = []
    members: list[list[int]] = []
    for line in (root / "images.csv").read_text(encoding="utf-8").splitlines()[1:]:
        identifier, _sender, label, _kids = line.split(",")
        path = root / "images" / f"{identifier}.jpg"
        if label in CLOTHING and path.exists():
            paths.append(path)
            members.append([order.index(label)])
    level = Level([list(names) for names in CLOTHING.values()], members)
    return Source("clothing", read_all(paths, size, workers), [], [level])


def read_flickr_captions(captions_file: Path) -> dict[str, list[str]]:
    """``Flickr8k.token.txt``: lines of ``<file>#<n><tab><caption>``."""
    captions: dict[str, list[str]] = {}
    for line in captions_file.read_text(encoding="utf-8").splitlines():
        key, _, caption = line.partition("\t")
        if caption:
            captions.setdefault(key.split("#")[0], []).append(tidy_caption(caption))
    return captions


def flickr8k(
    images: Path, captions_file: Path, split_file: Path, *, name: str, size: int, workers: int
) -> Source:
    """The photos of one official split (a list of file names) with five captions each."""
    captions = read_flickr_captions(captions_file)
    listed = split_file.read_text(encoding="utf-8").split()
    files = [file for file in listed if file in captions and (images / file).exists()]
    pixels = read_all([images / file for file in files], size, workers)
    return Source(name, pixels, [captions[file] for file in files], [])


CONTRASTS = 6  # almost true sentences that are kept for a scene


def contrasting(scene: "Scene", rng: random.Random, count: int = CONTRASTS) -> list[str]:
    """Full captions that differ from the scene's own in one subject: its kind, colour or number.

    They never speak of a held-out combination, so nothing is learnt about those either way.
    """
    from sightline.data.scenes.gallery import captions, triples

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
        if attempt % 4 == 3:  # one more, one fewer, or not there at all
            gone = (before or after) and rng.random() < 0.4
            instead = None if gone else _more_or_fewer(subject, rng)
        else:
            match attempt % 4:
                case 0:  # another thing of the same colour, where there is one
                    fits = [t for t in known if t[1] == subject.colour and t[0] != subject.kind]
                case 1:  # the same thing in another colour
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


def _more_or_fewer(subject: "Subject", rng: random.Random) -> "Subject":
    spots = subject.spots
    fewer = len(spots) > 1 and rng.random() < 0.5
    spots = spots[:-1] if fewer else (*spots, spots[-1])
    return replace(subject, spots=spots[:5])


def render_scene(job: tuple[int, int]) -> tuple[Pixels, list[str], str, list[str]]:
    """One rendered training scene, its captions, its setting and sentences almost true of it.

    Held-out combinations are left to the test.
    """
    from sightline.data.scenes.gallery import captions, compose, render

    seed, size = job
    scene = compose(seed, split="train")
    setting = f"{scene.place}, {scene.time}, {scene.weather}"
    contrasts = contrasting(scene, random.Random(f"contrasts {seed}"))
    # Drawn at a third of the usual width: five times faster, and the same after shrinking.
    return square(render(scene, width=256), size), captions(scene, seed=seed), setting, contrasts


def scenes(first: int, count: int, *, size: int, workers: int, name: str = "scenes") -> Source:
    """``count`` rendered scenes from the training split, seeds ``first`` and up."""
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)
    sentences: list[list[str]] = []
    settings: list[str] = []
    contrasts: list[list[str]] = []
    with ProcessPoolExecutor(workers) as pool:
        jobs = ((first + row, size) for row in range(count))
        for row, (picture, words, where, almost) in enumerate(
            pool.map(render_scene, jobs, chunksize=32)
        ):
            pixels[row] = picture
            sentences.append(words)
            settings.append(where)
            contrasts.append(almost)
    return Source(name, pixels, sentences, [], settings, contrasts)


# --- the words the tokenizer is made from --------------------------------------------------------


def sentences(source: Source) -> Iterator[str]:
    """Everything a source can say: its captions, or its class names in every template."""
    for captions in source.captions:
        yield from captions
    for level in source.levels:
        for names in level.names:
            for name in names:
                yield from (phrase(name, template) for template in TEMPLATES)


def broad_vocabulary(words_file: Path, limit: int = 80_000) -> Iterator[str]:
    """Names of everyday things from WordNet's list, so that words never trained on are at least
    split where such words are usually split."""
    for line in islice(words_file.read_text(encoding="utf-8").splitlines(), limit):
        yield from (name.strip() for name in line.partition("\t")[2].split(","))
