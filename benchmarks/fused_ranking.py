"""Ways to combine cosine and full text, with the built-in model.

    python -m benchmarks.fused_ranking [--scenes 600] [--seed 1] [--kinds]

Drawn scenes of held-out seeds, in a library as people have it: most have a position (and so a
place), every one a date; some have people, keywords, a title, and a painted sign, whose words are
stored as text in the image. All of these are random, so independent of the content. 150 queries of
ten kinds ("portugal dog", "anna beach", "invoice cafe") whose answers are known: every image that
meets all parts. Then the captions of half of the scenes in this library, where a sign "Harbour" or
the title "Sun Valley" can only reduce recall. Then the same with folders: a caption with and
without its trip, a trip alone, and misleading folder names ("Red Car Club").

Constants are chosen on seed 0; another ``--seed`` draws other scenes, facts and queries.

Prints nDCG@10, R@1, R@10 (queries with an answer at rank one, or among ten) and the mean reciprocal
rank of each way, then R@1; ``--kinds`` prints nDCG@10 by kind of query.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.builtin_model import encoded
from sightline.data.scenes import Scene, captions, compose, render
from sightline.indexer.encoder import Encoder
from sightline.indexer.library import Library
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Ids,
    NewImage,
    Photo,
    PhotoInfo,
    TextLine,
)
from sightline.server.search import SearchEngine, engine
from sightline.server.search.fused_ranking import RANK_CONSTANT, FusedRanking
from sightline.server.search.relevance import Scores

COUNTRIES = (
    "Germany", "Italy", "Norway", "Portugal", "Japan", "Peru", "Kenya", "Canada", "Greece",
    "India", "Iceland", "Chile", "Vietnam", "Ireland", "Morocco", "Poland", "Turkey", "Nepal",
    "Cuba", "Fiji",
)  # fmt: skip
TRIPS = tuple(f"{year} {country}" for country in COUNTRIES for year in (2018, 2019))

MISLEADING = (
    "Red Car Club", "Dog Park", "Blue House", "Night Market", "Green Boat", "Snow Tree",
    "Rain City",
    "Yellow Bird", "Beach Days", "Mountain Horse", "Cat Cafe", "Sunset Bus", "Field of Flowers",
    "Winter Forest", "Bicycle Tour", "Fog Harbour", "White Tent", "Orange Balloon", "Desert Train",
    "Lake Cabin",
)  # fmt: skip

CITIES = {
    "Lisbon": ("Portugal", 38.7167, -9.1333), "Porto": ("Portugal", 41.1496, -8.611),
    "Berlin": ("Germany", 52.5244, 13.4105), "Munich": ("Germany", 48.1374, 11.5755),
    "Hamburg": ("Germany", 53.5507, 9.993), "Florence": ("Italy", 43.7793, 11.2463),
    "Naples": ("Italy", 40.8522, 14.2681), "Oslo": ("Norway", 59.9127, 10.7461),
    "Bergen": ("Norway", 60.393, 5.3242), "Kyoto": ("Japan", 35.0211, 135.7538),
    "Cusco": ("Peru", -13.5226, -71.9673), "Nairobi": ("Kenya", -1.2833, 36.8167),
    "Athens": ("Greece", 37.9838, 23.7278), "Dublin": ("Ireland", 53.3331, -6.2489),
    "Galway": ("Ireland", 53.2719, -9.0489), "Krakow": ("Poland", 50.0614, 19.9366),
}  # fmt: skip
PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry")
KEYWORDS = ("wedding", "birthday", "festival", "reunion", "picnic", "training")
TITLES = ("Hotel Miramar", "Villa Aurora", "Casa Verde", "Camp Osprey", "Castle Ruin", "Sun Valley")
SIGNS = (
    "Invoice", "Cafe", "Museum", "Station", "Bakery", "Exit", "Ticket", "Garage", "Market",
    "Pharmacy", "Library", "Harbour",
)  # fmt: skip
"""Words of signs; two of them are also words for what scenes show."""

PER_KIND = 15
"""Queries of each kind."""


@dataclass(frozen=True)
class Picture:
    """One image of the library, and what is known of it."""

    scene: Scene
    city: str | None
    taken: datetime
    people: tuple[str, ...]
    keywords: tuple[str, ...]
    title: str | None
    caption: str | None
    sign: tuple[str, ...]

    @property
    def words(self) -> str:
        """Its caption in the drawn scene, which is not in the library."""
        return captions(self.scene)[0]

    def shows(self, kind: str) -> bool:
        """Whether the scene has a subject of this kind."""
        return any(subject.kind == kind for subject in self.scene.subjects)


def pictures(count: int, seed: int) -> list[Picture]:
    """``count`` scenes with random facts."""
    rng = random.Random(1000 * seed)

    def some(choices: Sequence[str], odds: float) -> str | None:
        return rng.choice(choices) if rng.random() < odds else None

    made = []
    first_scene = 500_000 + 100_000 * seed
    for scene in range(first_scene, first_scene + count):
        title = some(TITLES, 0.2)
        first, _, last = (some(TITLES, 0.15) or "").partition(" ")
        made.append(
            Picture(
                scene=compose(scene, split="test"),
                city=some(list(CITIES), 0.8),
                taken=datetime(rng.randint(2016, 2023), rng.randint(1, 12), rng.randint(1, 28)),
                people=tuple(rng.sample(PEOPLE, rng.choice((0, 0, 1, 2)))),
                keywords=tuple(rng.sample(KEYWORDS, rng.choice((0, 0, 0, 1)))),
                title=title,
                # The words of a title, but not one after the other.
                caption=f"{last} and the {first}" if last and title is None else None,
                sign=tuple(rng.sample(SIGNS, rng.choice((0, 0, 1, 2)))),
            )
        )
    return made


def drawn(picture: Picture) -> Image.Image:
    """The scene, with its sign."""
    image = render(picture.scene, width=320, height=240)
    if picture.sign:
        draw = ImageDraw.Draw(image)
        font = ImageFont.load_default(22)
        draw.rectangle((8, 8, 140, 16 + 26 * len(picture.sign)), fill="white", outline="black")
        draw.multiline_text((16, 10), "\n".join(picture.sign), fill="black", font=font)
    return image


def make(directory: Path, encoder: Encoder, vectors: Embeddings, folders: Sequence[str]) -> Library:
    """A library of ``vectors``, image n in ``folders[n]``."""
    infos = [PhotoInfo(640, 480, "jpeg")] * len(folders)
    return _library(directory, encoder, vectors, folders, infos)


def make_mixed(
    directory: Path, encoder: Encoder, vectors: Embeddings, images: Sequence[Picture]
) -> Library:
    """A library of ``images`` with their facts."""
    infos = []
    for one in images:
        _, latitude, longitude = CITIES[one.city] if one.city else (None, None, None)
        infos.append(
            PhotoInfo(
                640,
                480,
                "jpeg",
                taken_at=one.taken,
                latitude=latitude,
                longitude=longitude,
                title=one.title,
                caption=one.caption,
                people=one.people,
                keywords=one.keywords,
            )
        )
    library = _library(directory, encoder, vectors, ["DCIM"] * len(images), infos)
    lines = [
        (n + 1, [TextLine(word, 0.95, (0.0, 0.0, 0.4, 0.2)) for word in one.sign])
        for n, one in enumerate(images)
    ]
    library.catalog.write_texts(lines, engine="drawn")
    library.locate(threading.Event())
    return library


def _library(
    directory: Path,
    encoder: Encoder,
    vectors: Embeddings,
    folders: Sequence[str],
    infos: Sequence[PhotoInfo],
) -> Library:
    library = Library.create(
        directory, model=encoder.model, revision=encoder.revision, dimension=encoder.dimension
    )
    root = library.ensure_root(directory / "pictures")
    nothing = np.empty((0, 0, 3), np.uint8)
    images = [
        NewImage(
            Candidate(root.path, f"{folder}/IMG_{n:04}.jpg", 1, 0),
            Photo(info, nothing, b"", ""),
            vector,
        )
        for n, (folder, info, vector) in enumerate(zip(folders, infos, vectors, strict=True))
    ]
    library.catalog.write(root, images=images)
    return library


# queries --------------------------------------------------------------------------------------

Meets = Callable[[Picture], bool]


def country_of(picture: Picture) -> str | None:
    """The country of its place."""
    return CITIES[picture.city][0] if picture.city else None


def queries(images: Sequence[Picture], seed: int) -> Iterator[tuple[str, str, set[int]]]:
    """``(kind, query, answers)``: each query is made from one image, and is answered by the ids of
    all that meet it."""
    kinds: dict[str, Callable[[Picture], tuple[str, Meets] | None]] = {
        "country + subject": _country_subject,
        "city + year + subject": _city_year_subject,
        "person + scene": _person_scene,
        "person + city": _person_city,
        "person + year + subject": _person_year_subject,
        "two words of a sign": _two_signs,
        "word of a sign + subject": _sign_subject,
        "keyword + subject": _keyword_subject,
        "title": _title,
        "caption alone": lambda picture: (picture.words, lambda one: one is picture),
    }
    rng = random.Random(1000 * seed + 1)
    for kind, make_query in kinds.items():
        found: dict[str, set[int]] = {}
        while len(found) < PER_KIND:
            made = make_query(rng.choice(images))
            if made is not None:
                query, meets = made
                found[query.lower()] = {n for n, one in enumerate(images, 1) if meets(one)}
            if kind == "title" and len(found) == len(TITLES):
                break
        yield from ((kind, query, answers) for query, answers in found.items())


def _noun(picture: Picture) -> str | None:
    """A subject that is one word."""
    return next((one.kind for one in picture.scene.subjects if " " not in one.kind), None)


def _country_subject(picture: Picture) -> tuple[str, Meets] | None:
    country, noun = country_of(picture), _noun(picture)
    if country is None or noun is None:
        return None
    return f"{country} {noun}", lambda one: country_of(one) == country and one.shows(noun)


def _city_year_subject(picture: Picture) -> tuple[str, Meets] | None:
    city, noun, year = picture.city, _noun(picture), picture.taken.year
    if city is None or noun is None:
        return None
    return (
        f"{city} {year} {noun}",
        lambda one: one.city == city and one.taken.year == year and one.shows(noun),
    )


def _person_scene(picture: Picture) -> tuple[str, Meets] | None:
    if not picture.people:
        return None
    person, place = picture.people[0], picture.scene.place
    return f"{person} {place}", lambda one: person in one.people and one.scene.place == place


def _person_city(picture: Picture) -> tuple[str, Meets] | None:
    if not picture.people or picture.city is None:
        return None
    person, city = picture.people[0], picture.city
    return f"{person} {city}", lambda one: person in one.people and one.city == city


def _person_year_subject(picture: Picture) -> tuple[str, Meets] | None:
    noun, year = _noun(picture), picture.taken.year
    if not picture.people or noun is None:
        return None
    person = picture.people[0]
    return (
        f"{person} {year} {noun}",
        lambda one: person in one.people and one.taken.year == year and one.shows(noun),
    )


def _two_signs(picture: Picture) -> tuple[str, Meets] | None:
    if len(picture.sign) < 2:
        return None
    return " ".join(picture.sign), lambda one: set(picture.sign) <= set(one.sign)


def _sign_subject(picture: Picture) -> tuple[str, Meets] | None:
    noun = _noun(picture)
    if not picture.sign or noun is None:
        return None
    word = picture.sign[0]
    return f"{word} {noun}", lambda one: word in one.sign and one.shows(noun)


def _keyword_subject(picture: Picture) -> tuple[str, Meets] | None:
    noun = _noun(picture)
    if not picture.keywords or noun is None:
        return None
    keyword = picture.keywords[0]
    return f"{keyword} {noun}", lambda one: keyword in one.keywords and one.shows(noun)


def _title(picture: Picture) -> tuple[str, Meets] | None:
    if picture.title is None:
        return None
    return picture.title, lambda one: one.title == picture.title


# ways -----------------------------------------------------------------------------------------


Values = NDArray[np.float64]


class Reciprocal(FusedRanking):
    """Reciprocal ranks with another weight of text or another constant."""

    text, constant = 1.0, RANK_CONSTANT

    def _fuse(self, z_scores: Scores, ranks: Values, text_ranks: Values, weights: Values) -> Values:
        text = self.text * weights / (self.constant + text_ranks)
        return 1 / (self.constant + ranks) + text


class Half(Reciprocal):
    """Half the weight of text."""

    text = 0.5


class Double(Reciprocal):
    """Twice the weight of text."""

    text = 2.0


class Sixty(Reciprocal):
    """The paper's constant."""

    constant = 60


class AllAlike(FusedRanking):
    """File and folder names as all other text."""

    def _fuse(self, z_scores: Scores, ranks: Values, text_ranks: Values, weights: Values) -> Values:
        return super()._fuse(z_scores, ranks, text_ranks, np.sign(weights))


class ScoreSum(FusedRanking):
    """Sum of both scores, each from 0 to 1."""

    def _fuse(self, z_scores: Scores, ranks: Values, text_ranks: Values, weights: Values) -> Values:
        cosine = (z_scores - z_scores.min()) / max(float(np.ptp(z_scores)), 1e-9)
        first = self._matches.ranks.min()
        return cosine + weights * (1 - (text_ranks - first) / len(self._matches.ranks))


class TextFirst(FusedRanking):
    """By text; cosine orders equal text."""

    def _fuse(self, z_scores: Scores, ranks: Values, text_ranks: Values, weights: Values) -> Values:
        return np.sign(weights) / (RANK_CONSTANT + text_ranks) - ranks * 1e-9


class NoPhrases(FusedRanking):
    """Phrases are not ranked before all words."""

    def _search(self, depth: int) -> tuple[Ids, Scores, Scores]:
        object.__setattr__(self._matches, "phrase", self._matches.phrase[:0])
        return super()._search(depth)


class NoTiers(FusedRanking):
    """The fused rank alone."""

    def _tiers(self, *groups: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.zeros(len(groups[0]), np.int64)


WAYS: dict[str, type[FusedRanking] | None] = {
    "cosine alone": None,
    "default": FusedRanking,
    "without phrase tier": NoPhrases,
    "without tiers": NoTiers,
    "text weight 0.5": Half,
    "text weight 2": Double,
    "constant 60": Sixty,
    "names as other text": AllAlike,
    "score sum": ScoreSum,
    "text first": TextFirst,
}


@contextmanager
def engine_with(way: type[FusedRanking] | None, library: Library, encoder: Encoder) -> Iterator:
    """A function that returns the ids of a query's first 100 results, ranked in one ``way``."""
    before = engine.FusedRanking
    engine.FusedRanking = way or before  # type: ignore[misc]
    try:
        with SearchEngine(library, encoder) as made:
            yield lambda query: [
                hit.id for hit in made.search(query, k=100, fold=False, words=way is not None).hits
            ]
    finally:
        engine.FusedRanking = before  # type: ignore[misc]


# measures -------------------------------------------------------------------------------------


def measures(found: Sequence[int], wanted: set[int]) -> tuple[float, float, float, float]:
    """nDCG@10, R@1, R@10 and the reciprocal rank of one query."""
    right = np.isin(found, list(wanted))
    discounts = 1 / np.log2(np.arange(10) + 2)
    gain = float((right[:10] * discounts[: len(right[:10])]).sum())
    rank = int(right.argmax()) + 1 if right.any() else None
    ideal = float(discounts[: len(wanted)].sum())
    return gain / ideal, float(right[0]), float(right[:10].any()), 1 / rank if rank else 0.0


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", action="store_true")
    options = parser.parse_args()
    encoder = Encoder.load("builtin")
    images = pictures(options.scenes, options.seed)
    plain = encoded(encoder, (render(one.scene, width=320, height=240) for one in images))
    signed = encoded(encoder, map(drawn, images))
    rng = random.Random(1000 * options.seed)
    trips = [rng.choice(TRIPS) for _ in images]
    misleading = [rng.choice(MISLEADING) for _ in images]
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        with (
            make_mixed(at / "mixed", encoder, signed, images) as mixed,
            make(at / "trips", encoder, plain, trips) as of_trips,
            make(at / "misleading", encoder, plain, misleading) as of_misleading,
        ):
            asked = list(queries(images, options.seed))
            texts = [(n, one.words) for n, one in enumerate(images, 1)][::2]
            print(f"{len(images):,} images, {len(asked)} mixed queries")
            names = ("nDCG@10", "R@1", "R@10", "MRR", "caption")
            names += ("trip", "no trip", "trip only", "misleading")
            print(f"{'':22}" + "".join(f"{name:>11}" for name in names))
            for name, way in WAYS.items():
                with engine_with(way, mixed, encoder) as search:
                    rows = [measures(search(query), wanted) for _, query, wanted in asked]
                    values = [*np.mean(rows, axis=0), _first(search, texts)]
                with engine_with(way, of_trips, encoder) as search:
                    reversed_ = [" ".join(reversed(trip.split())) for trip in trips]
                    named = [(n, f"{reversed_[n - 1]} {text}") for n, text in texts]
                    values += [_first(search, named), _first(search, texts)]
                    right = [trips[search(trip)[0] - 1] == trip for trip in TRIPS if trip in trips]
                    values.append(float(np.mean(right)))
                with engine_with(way, of_misleading, encoder) as search:
                    values.append(_first(search, texts))
                print(f"{name:22}" + "".join(f"{value:11.3f}" for value in values), flush=True)
                if options.kinds:
                    for kind in dict.fromkeys(kind for kind, _, _ in asked):
                        of_kind = [
                            row[0] for row, one in zip(rows, asked, strict=True) if one[0] == kind
                        ]
                        print(f"    {kind:28}{np.mean(of_kind):8.3f}")


def _first(search: Callable[[str], list[int]], texts: Sequence[tuple[int, str]]) -> float:
    """The fraction of texts whose own image is the first result."""
    return float(np.mean([search(text)[:1] == [n] for n, text in texts]))


if __name__ == "__main__":
    main()
