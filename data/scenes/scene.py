"""Composes scenes: which subjects appear where, when and in which colour.

``compose`` turns a seed into a ``Scene``, a frozen record of everything in the image.
``captioning`` describes it and ``rendering`` draws it; neither adds facts.

Measures are fractions, so that a scene can be drawn at any size: ``x`` and ``y`` of the image's
width and height (from the top left), heights of its shorter side.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from functools import cache
from random import Random

SPLITS = ("train", "test", "gallery")
TIMES = ("dawn", "day", "sunset", "night")
WEATHERS = ("clear", "cloudy", "rain", "snow", "fog")
SEASONS = ("spring", "summer", "autumn", "winter")

#: One in ``HELD_OUT_EVERY`` (subject, colour, place) triples is held out from training.
HELD_OUT_EVERY = 6

Span = tuple[float, float]


@dataclass(frozen=True)
class Place:
    """One kind of landscape: where subjects stand, as spans of the image's height."""

    horizon: float
    ground: Span
    water: Span | None = None
    road: Span | None = None
    snows: bool = True
    rains: bool = True
    #: Whether the season is visible, so that captions may name it.
    seasonal: bool = True


PLACES: dict[str, Place] = {
    "beach": Place(0.46, (0.77, 0.93), water=(0.53, 0.60), snows=False, seasonal=False),
    "forest": Place(0.52, (0.76, 0.93)),
    "city street": Place(0.64, (0.745, 0.775), road=(0.85, 0.92), seasonal=False),
    "mountains": Place(0.54, (0.74, 0.92)),
    "desert": Place(0.50, (0.72, 0.92), snows=False, rains=False, seasonal=False),
    "lake": Place(0.47, (0.89, 0.96), water=(0.58, 0.72)),
    "fields": Place(0.50, (0.70, 0.92)),
    "harbour": Place(0.46, (0.88, 0.95), water=(0.58, 0.70), seasonal=False),
}


@dataclass(frozen=True)
class Kind:
    """One kind of subject: its colours, the places it belongs to, and its size.

    ``height`` is a fraction of the image's shorter side, ``aspect`` is width over height, ``zone``
    is the span of the place it stands in, ``most`` the maximum count.
    """

    colours: tuple[str, ...]
    places: tuple[str, ...]
    height: float
    aspect: float
    zone: str = "ground"
    most: int = 3
    fair_weather: bool = False
    seasons: tuple[str, ...] = SEASONS


_ALL = tuple(PLACES)
_WILD = ("forest", "mountains", "lake", "fields")
_OPEN = ("desert", "fields", "mountains", "lake", "beach")
_STREET = ("city street", "desert", "mountains", "fields", "harbour")
_BRIGHT = ("red", "orange", "yellow", "green", "blue", "purple", "pink")
_PAINT = ("red", "yellow", "blue", "green", "white", "orange")
_FUR = ("black", "white", "brown")
_SHORES = ("beach", "lake", "harbour")

KINDS: dict[str, Kind] = {
    "house": Kind(
        ("red", "white", "yellow", "blue", "brown", "green", "pink"), ("beach", *_WILD), 0.34, 1.25
    ),
    "sailboat": Kind((*_PAINT, "pink"), _SHORES, 0.40, 0.85, "water"),
    "rowing boat": Kind((*_PAINT[:5], "brown"), _SHORES, 0.12, 2.9, "water"),
    "swan": Kind(("white", "black"), ("lake", "harbour"), 0.18, 1.25, "water", 4),
    "car": Kind((*_PAINT, "black"), (*_STREET, "forest"), 0.19, 2.35, "road", 2),
    "bus": Kind(_PAINT, _STREET, 0.25, 2.3, "road", 1),
    "bicycle": Kind(
        (*_PAINT[:5], "black", "pink"),
        ("city street", "beach", "fields", "forest", "harbour", "lake"),
        0.23,
        1.6,
        most=2,
    ),
    "train": Kind(
        ("red", "yellow", "blue", "green", "orange"),
        ("fields", "mountains", "desert", "forest"),
        0.20,
        5.0,
        most=1,
    ),
    "hot-air balloon": Kind(_BRIGHT, (*_OPEN, "city street"), 0.36, 0.75, "sky", 4, True),
    "airplane": Kind(
        ("white", "red", "blue", "yellow"),
        tuple(p for p in _ALL if p != "forest"),
        0.15,
        2.5,
        "sky",
        1,
        True,
    ),
    "kite": Kind(_BRIGHT, _OPEN, 0.26, 0.75, "sky", 3, True),
    "bird": Kind(("white", "black", "blue", "red"), _ALL, 0.13, 1.7, "sky", 5),
    "tree": Kind(
        ("green", "red", "orange", "yellow", "pink", "white"),
        ("fields", "lake", "mountains", "city street"),
        0.46,
        0.85,
    ),
    "flower": Kind(
        ("red", "yellow", "pink", "purple", "white", "blue"),
        _WILD,
        0.27,
        0.5,
        most=5,
        seasons=("spring", "summer"),
    ),
    "dog": Kind((*_FUR, "grey"), _ALL, 0.20, 1.25),
    "cat": Kind(
        ("black", "white", "orange", "grey"),
        ("city street", "harbour", "fields", "forest", "beach"),
        0.19,
        0.95,
    ),
    "horse": Kind((*_FUR, "grey"), (*_OPEN, "forest"), 0.30, 1.2),
    "cow": Kind(_FUR, ("fields", "mountains", "lake", "beach"), 0.23, 1.5),
    "sheep": Kind(_FUR, ("fields", "mountains", "lake", "harbour"), 0.18, 1.3, most=5),
    "person with umbrella": Kind(
        ("red", "yellow", "blue", "green", "purple", "pink", "black", "white"),
        ("city street", "beach", "harbour", *_WILD),
        0.33,
        0.72,
    ),
    "tent": Kind(
        ("red", "orange", "yellow", "green", "blue", "purple"),
        ("desert", "beach", *_WILD),
        0.22,
        1.6,
    ),
    "lighthouse": Kind(("red", "white", "blue", "yellow", "black"), _SHORES, 0.56, 0.42, most=1),
    "windmill": Kind(
        ("white", "red", "brown", "green", "blue"),
        ("fields", "lake", "harbour", "mountains"),
        0.50,
        0.85,
        most=2,
    ),
    "bench": Kind(
        ("red", "green", "blue", "white", "brown", "yellow"),
        ("city street", "lake", "harbour", "forest", "beach", "fields"),
        0.15,
        1.8,
        most=2,
    ),
    "fountain": Kind(
        ("white", "grey", "brown"), ("city street", "harbour", "fields"), 0.30, 1.15, most=1
    ),
    "snowman": Kind(
        ("red", "blue", "green", "yellow", "purple"),
        ("city street", *_WILD),
        0.28,
        0.72,
        seasons=("winter",),
    ),
    "campfire": Kind(
        ("orange",), ("desert", "beach", *_WILD), 0.17, 1.0, most=1, fair_weather=True
    ),
    "parasol": Kind(_BRIGHT, ("beach",), 0.32, 1.05, fair_weather=True),
}

#: Seasons in which a tree has a colour.
TREE_SEASONS = {
    "green": ("spring", "summer"),
    "pink": ("spring",),
    "red": ("autumn",),
    "orange": ("autumn",),
    "yellow": ("autumn",),
    "white": ("winter",),
}
#: Subjects large enough for something to stand in front of them.
BACKDROPS = ("house", "tree", "lighthouse", "windmill", "tent")
#: Subjects small enough to stand there.
SMALL = ("dog", "cat", "horse", "cow", "sheep", "bicycle", "person with umbrella", "bench", "car")

RELATIONS = ("left of", "right of", "in front of", "above")
SHAPES = ((4, 3), (3, 2), (16, 9), (1, 1), (3, 4), (2, 3), (4, 5))
SHAPE_WEIGHTS = (30, 24, 10, 12, 12, 7, 5)

#: GPS positions by place: name, latitude, longitude (degrees).
AREAS: dict[str, tuple[tuple[str, float, float], ...]] = {
    "beach": (("Algarve", 37.087, -8.252), ("Cornwall", 50.414, -5.075)),
    "forest": (("Black Forest", 48.280, 8.190), ("Ardennes", 50.250, 5.670)),
    "city street": (("Lisbon", 38.713, -9.139), ("Copenhagen", 55.680, 12.583)),
    "mountains": (("Dolomites", 46.410, 11.850), ("Lofoten", 68.150, 13.600)),
    "desert": (("Wadi Rum", 29.580, 35.420), ("Merzouga", 31.080, -4.010)),
    "lake": (("Bled", 46.364, 14.095), ("Lake District", 54.460, -3.080)),
    "fields": (("Tuscany", 43.060, 11.600), ("Burgundy", 47.050, 4.380)),
    "harbour": (("Bergen", 60.397, 5.320), ("Marseille", 43.295, 5.370)),
}
CAMERAS = (
    "FUJIFILM X-T4",
    "Canon EOS R6",
    "NIKON Z 6",
    "SONY ILCE-7M3",
    "Apple iPhone 13",
    "Google Pixel 7",
)


@dataclass(frozen=True)
class Spot:
    """The position of one subject: the middle of its foot ``(x, y)``, height and direction.

    ``x`` and ``y`` are fractions of the image, ``height`` of its shorter side; ``facing`` is 1
    (right) or -1 (left).
    """

    x: float
    y: float
    height: float
    facing: int = 1


@dataclass(frozen=True)
class Subject:
    """One to five things of one kind and colour, with a spot for each."""

    kind: str
    colour: str
    spots: tuple[Spot, ...]

    @property
    def count(self) -> int:
        """The number of things."""
        return len(self.spots)


@dataclass(frozen=True)
class Scene:
    """Everything in the image, and the metadata of a photo.

    ``relation`` is the position of ``subjects[0]`` relative to ``subjects[1]`` (one of `RELATIONS`,
    or None). ``width`` and ``height`` are the natural size in pixels, ``latitude`` and
    ``longitude`` degrees, ``area`` the name of the region.
    """

    place: str
    time: str
    weather: str
    season: str
    subjects: tuple[Subject, ...]
    relation: str | None
    width: int
    height: int
    taken_at: dt.datetime
    area: str
    latitude: float | None
    longitude: float | None
    camera: str | None
    seed: int

    @property
    def triples(self) -> frozenset[tuple[str, str, str]]:
        """The (subject, colour, place) combinations in the image."""
        return frozenset((s.kind, s.colour, self.place) for s in self.subjects)


def held_out(kind: str, colour: str, place: str) -> bool:
    """Whether a combination is held out from training; the hash must never change."""
    digest = hashlib.sha256(f"sightline-553/{kind}/{colour}/{place}".encode()).digest()
    return digest[0] % HELD_OUT_EVERY == 0


@cache
def triples(*, held: bool | None = None) -> tuple[tuple[str, str, str], ...]:
    """All valid (subject, colour, place) triples; ``held`` selects held-out ones or the others."""
    every = [(k, c, p) for k, kind in KINDS.items() for c in kind.colours for p in kind.places]
    return tuple(t for t in every if held is None or held_out(*t) is held)


@cache
def _triples_of(kind: str, held: bool | None) -> tuple[tuple[str, str, str], ...]:
    return tuple(t for t in triples(held=held) if t[0] == kind)


@dataclass(frozen=True)
class _Wish:
    """A scene that demo visitors are likely to search for; empty fields are random."""

    kind: str
    colour: str = ""
    place: str = ""
    time: str = ""
    weather: str = ""
    season: str = ""
    count: int = 0


_WISHES = (
    _Wish("car", "red", "city street", "night", "clear"),
    _Wish("hot-air balloon", "", "fields", "dawn", "clear"),
    _Wish("sailboat", "white", "lake", "sunset", "clear"),
    _Wish("dog", "brown", "beach", "day", "clear"),
    _Wish("lighthouse", "red", "harbour", "night", "clear"),
    _Wish("person with umbrella", "red", "city street", "night", "rain", count=1),
    _Wish("house", "red", "mountains", "", "snow", "winter"),
    _Wish("horse", "brown", "fields", "sunset", "clear"),
    _Wish("tent", "orange", "mountains", "night", "clear"),
    _Wish("hot-air balloon", "", "desert", "sunset", "clear", count=3),
    _Wish("tree", "orange", "lake", "day", "clear", "autumn"),
    _Wish("car", "red", "desert", "night", "clear"),
    _Wish("train", "red", "mountains", "day", "clear"),
    _Wish("cat", "black", "city street", "night"),
    _Wish("sailboat", "red", "harbour", "day", "clear"),
    _Wish("tree", "pink", "fields", "day", "clear", "spring"),
    _Wish("kite", "", "beach", "day", "clear"),
    _Wish("house", "white", "fields", "night", "clear"),
    _Wish("campfire", "", "forest", "night", "clear"),
    _Wish("bicycle", "blue", "city street", "day", "clear"),
    _Wish("swan", "white", "lake", "dawn", "fog"),
    _Wish("windmill", "", "fields", "sunset", "clear"),
    _Wish("sheep", "white", "mountains", "day", "cloudy"),
    _Wish("snowman", "red", "forest", "day", "snow", "winter"),
    _Wish("bus", "yellow", "city street", "day", "rain"),
    _Wish("parasol", "yellow", "beach", "day", "clear"),
    _Wish("flower", "red", "fields", "day", "clear", "summer", count=5),
    _Wish("car", "yellow", "city street", "", "rain"),
)


def compose(seed: int, *, split: str = "train") -> Scene:
    """The scene of a seed.

    ``split`` is ``"train"`` (no held-out combination), ``"test"`` (the first subject is held out)
    or ``"gallery"`` (any, with likely searches more often). The splits share no random numbers.
    Raises ValueError for any other split.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    rng = Random(f"sightline {split} {seed}")
    # Half of a gallery consists of likely searches, each in turn.
    wish = _Wish("")
    if split == "gallery" and seed % 2 == 0:
        wish = _WISHES[seed // 2 % len(_WISHES)]
    held = {"train": False, "test": True, "gallery": None}[split]
    kind, colour, place = _draw_triple(rng, wish, held)
    season, weather, time = _draw_when(rng, wish, kind, colour, place)
    width, height = _draw_size(rng, kind)
    short = min(width, height)

    most = KINDS[kind].most if width >= height else min(KINDS[kind].most, 2)
    count = wish.count or min(most, rng.choices((1, 2, 3, 4, 5), (58, 20, 13, 5, 4))[0])
    groups = [(kind, colour, count)]
    weights = (45, 45, 10) if split == "gallery" else (30, 55, 15)
    for _ in range(rng.choices((0, 1, 2), weights)[0]):
        extra = _draw_companion(rng, groups, place, season, weather, train=split == "train")
        if extra:
            groups.append(extra)
    relation = _draw_relation(rng, groups)
    subjects = _lay_out(rng, groups, relation, place, width / short, height / short)

    area, latitude, longitude = rng.choice(AREAS[place])
    known = rng.random() < 0.6
    return Scene(
        place=place,
        time=time,
        weather=weather,
        season=season,
        subjects=subjects,
        relation=relation,
        width=width,
        height=height,
        taken_at=_draw_date(rng, season, time),
        area=area,
        latitude=round(latitude + rng.uniform(-0.05, 0.05), 6) if known else None,
        longitude=round(longitude + rng.uniform(-0.05, 0.05), 6) if known else None,
        camera=rng.choice(CAMERAS) if rng.random() < 0.85 else None,
        seed=seed,
    )


def _draw_triple(rng: Random, wish: _Wish, held: bool | None) -> tuple[str, str, str]:
    kind = wish.kind or rng.choice([k for k in KINDS if _triples_of(k, held)])
    return rng.choice(
        [
            t
            for t in _triples_of(kind, held)
            if wish.colour in ("", t[1]) and wish.place in ("", t[2])
        ]
    )


def _draw_when(
    rng: Random, wish: _Wish, kind: str, colour: str, place: str
) -> tuple[str, str, str]:
    """Season, weather and time that fit the first subject and the place."""
    seasons = TREE_SEASONS[colour] if kind == "tree" else KINDS[kind].seasons
    season = wish.season or rng.choice(seasons)
    weights = {"clear": 46, "cloudy": 18, "rain": 14, "fog": 10, "snow": 0}
    if season == "winter":
        weights |= {"snow": 30, "rain": 5}
    if not PLACES[place].snows:
        weights["snow"] = 0
    if not PLACES[place].rains:
        weights |= {"rain": 0, "fog": 0}
    if KINDS[kind].fair_weather:
        weights |= {"rain": 0, "snow": 0, "fog": 0}
    weather = wish.weather or rng.choices(list(weights), list(weights.values()))[0]
    time = wish.time or rng.choices(TIMES, (20, 36, 22, 22))[0]
    return season, weather, time


def _draw_size(rng: Random, kind: str) -> tuple[int, int]:
    a, b = rng.choices(SHAPES, SHAPE_WEIGHTS)[0]
    if KINDS[kind].aspect > 1.8 and a < b:  # a bus does not fit a portrait
        a, b = b, a
    if kind == "train":
        a, b = 16, 9
    long_side = rng.choice((640, 720, 800, 800, 960, 960, 1080, 1280))
    return long_side * a // max(a, b), long_side * b // max(a, b)


def _draw_companion(
    rng: Random,
    groups: list[tuple[str, str, int]],
    place: str,
    season: str,
    weather: str,
    *,
    train: bool,
) -> tuple[str, str, int] | None:
    """A further subject that fits the scene, or None if 12 tries find none."""
    # Wide subjects would overlap.
    if sum(KINDS[g[0]].aspect * KINDS[g[0]].height * g[2] for g in groups) > 1.1:
        return None
    for _ in range(12):
        kind = rng.choice(list(KINDS))
        spec = KINDS[kind]
        if place not in spec.places or season not in spec.seasons or kind == "train":
            continue
        if spec.fair_weather and weather in ("rain", "snow", "fog"):
            continue
        # A train passes behind everything, and must not be hidden.
        if groups[0][0] == "train" and spec.zone != "sky" and kind not in ("dog", "cat", "sheep"):
            continue
        colour = rng.choice(spec.colours)
        if any((kind, colour) == g[:2] for g in groups):
            continue
        if train and held_out(kind, colour, place):
            continue
        if kind == "tree" and season not in TREE_SEASONS[colour]:
            continue
        if any(g[0] == kind for g in groups) and rng.random() < 0.5:
            continue
        return kind, colour, min(spec.most, rng.choices((1, 2, 3), (72, 20, 8))[0])
    return None


def _draw_relation(rng: Random, groups: list[tuple[str, str, int]]) -> str | None:
    if len(groups) < 2:
        return None
    (first, _, n), (second, _, m) = groups[:2]
    skies = [KINDS[g[0]].zone == "sky" for g in groups[:2]]
    if skies[0] and not skies[1]:
        return "above" if rng.random() < 0.8 else None
    if skies[1] or first == "train":
        return None
    if second in BACKDROPS and first in SMALL and n == 1 and m == 1 and rng.random() < 0.45:
        return "in front of"
    return rng.choice(("left of", "right of", None))


def _lay_out(
    rng: Random,
    groups: list[tuple[str, str, int]],
    relation: str | None,
    place: str,
    across: float,
    tall: float,
) -> tuple[Subject, ...]:
    """Place every subject so that none hides another.

    ``across`` and ``tall`` are the image's sides in units of the shorter one. Subjects on the
    ground and the water share one row from left to right, flying ones have another.
    """
    spots: dict[int, list[Spot]] = {}
    behind = 1 if relation == "in front of" else None
    for flying in (False, True):
        row = [
            i
            for i, g in enumerate(groups)
            if (KINDS[g[0]].zone == "sky") == flying and i != behind and g[0] != "train"
        ]
        rng.shuffle(row)
        if relation in ("left of", "right of") and not flying:
            rest = [i for i in row if i > 1]
            row = [0, 1] if relation == "left of" else [1, 0]
            for i in rest:
                row.insert(rng.choice((0, 2)), i)
        spots.update(_lay_row(rng, groups, row, place, across, tall))
    if groups[0][0] == "train":  # it passes behind everything else
        near = PLACES[place].ground[1]
        for i, row_spots in spots.items():
            if KINDS[groups[i][0]].zone != "sky":
                spots[i] = [Spot(s.x, near, s.height, s.facing) for s in row_spots]
        y = PLACES[place].ground[0] - 0.02
        spots[0] = [Spot(rng.uniform(0.47, 0.53), y, KINDS["train"].height, rng.choice((-1, 1)))]
    if behind is not None:
        front = spots[0][0]
        spec = KINDS[groups[1][0]]
        height = spec.height * rng.uniform(0.95, 1.1)
        half = 0.5 * height * spec.aspect / across
        side = rng.choice((-1, 1)) * half * 0.55
        low, high = PLACES[place].ground
        x = min(max(front.x + side, half), 1 - half)
        y = low + (high - low) * rng.uniform(0.0, 0.15)
        spots[1] = [Spot(x, min(y, front.y - 0.005), height, rng.choice((-1, 1)))]
        spots[0] = [Spot(front.x, max(front.y, y + 0.04), front.height, front.facing)]
    if relation == "above" and len(spots[1]) == 1 and len(spots[0]) == 1:
        # Directly above, within the image.
        up = spots[0][0]
        half = 0.5 * up.height * KINDS[groups[0][0]].aspect / across
        x = min(max(spots[1][0].x + rng.uniform(-0.06, 0.06), half + 0.01), 0.99 - half)
        clear = spots[1][0].y - spots[1][0].height / tall
        y = max(min(up.y, clear), up.height / tall + 0.01)
        spots[0] = [Spot(x, y, up.height, up.facing)]
    return tuple(Subject(k, c, tuple(spots[i])) for i, (k, c, _) in enumerate(groups))


def _lay_row(
    rng: Random,
    groups: list[tuple[str, str, int]],
    row: list[int],
    place: str,
    across: float,
    tall: float,
) -> dict[int, list[Spot]]:
    """Spots for the groups of one row, by group number, from left to right."""
    found: dict[int, list[Spot]] = {i: [] for i in row}
    if not row:
        return found
    shrink = {1: 1.0, 2: 0.88, 3: 0.78, 4: 0.70, 5: 0.64}
    grow = 1.15 if sum(g[2] for g in groups) == 1 else 1.0
    sizes = {
        i: KINDS[groups[i][0]].height * shrink[groups[i][2]] * rng.uniform(0.92, 1.1) * grow
        for i in row
    }
    widths = {i: sizes[i] * KINDS[groups[i][0]].aspect * 1.06 / across for i in row}
    total = sum(widths[i] * groups[i][2] for i in row)
    if total > 0.94:
        factor = 0.94 / total
        sizes = {i: s * factor for i, s in sizes.items()}
        widths = {i: w * factor for i, w in widths.items()}
        total = 0.94
    gaps = [rng.uniform(0.4, 1.0) for _ in range(len(row) + 1)]
    gaps = [g / sum(gaps) * (0.98 - total) for g in gaps]
    x = 0.01
    for gap, i in zip(gaps, row, strict=False):
        kind, _, count = groups[i]
        x += gap
        facing = rng.choice((-1, 1))
        base = rng.random()
        for n in range(count):
            y = _foot(rng, kind, place, base, sizes[i] / tall, n)
            # Nearer things are larger: perspective, gently.
            near = 1.0 if KINDS[kind].zone == "sky" else 0.94 + 0.12 * base
            size = sizes[i] * near * (rng.uniform(0.9, 1.0) if count > 1 else 1.0)
            look = facing if rng.random() < 0.75 or KINDS[kind].zone == "road" else -facing
            found[i].append(Spot(x + widths[i] / 2, y, size, look))
            x += widths[i]
    return found


def _foot(rng: Random, kind: str, place: str, base: float, size: float, n: int) -> float:
    """The ``y`` of a subject's foot: on the ground, the road, the water, or up in the sky.

    ``size`` is the subject's height as a fraction of the image's.
    """
    where = PLACES[place]
    zone = KINDS[kind].zone
    if zone == "sky":
        top = 0.03 + size
        bottom = max(where.horizon - 0.03, top)
        lift = (base + (0.0, 0.55, 0.25, 0.75, 0.4)[n]) % 1.0
        return top + (bottom - top) * (0.1 + 0.8 * lift)
    span = where.ground
    if zone == "water" and where.water:
        span = where.water
    if zone == "road" and where.road:
        span = where.road
    low, high = span
    # Large subjects stand further back, so that they do not hide small ones.
    depth = base * (0.35 if size > 0.3 else 1.0)
    return low + (high - low) * min(max(depth + rng.uniform(-0.12, 0.12) * (n > 0), 0.0), 1.0)


def _draw_date(rng: Random, season: str, time: str) -> dt.datetime:
    """A date from 2018 to 2025 in this season (northern) and at this time of day."""
    months = {"spring": (3, 4, 5), "summer": (6, 7, 8), "autumn": (9, 10, 11), "winter": (12, 1, 2)}
    hours = {
        "dawn": (5, 6, 7),
        "day": (10, 11, 12, 13, 14, 15),
        "sunset": (17, 18, 19, 20),
        "night": (21, 22, 23, 0, 1),
    }
    return dt.datetime(
        rng.randint(2018, 2025),
        rng.choice(months[season]),
        rng.randint(1, 28),
        rng.choice(hours[time]),
        rng.randrange(60),
        rng.randrange(60),
    )
