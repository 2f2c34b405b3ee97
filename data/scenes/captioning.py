"""Captions of a scene: one exact caption, then varied ones.

The first names every fact of the scene; the others vary vocabulary, order and detail.
"""

from __future__ import annotations

from random import Random

from .scene import PLACES, Scene, Subject

NUMBERS = ("no", "a", "two", "three", "four", "five")

#: Singular and plural, the plain noun first, then synonyms.
NOUNS: dict[str, tuple[tuple[str, str], ...]] = {
    "house": (("house", "houses"), ("cottage", "cottages"), ("home", "homes")),
    "sailboat": (
        ("sailboat", "sailboats"),
        ("sailing boat", "sailing boats"),
        ("yacht", "yachts"),
        ("boat with a sail", "boats with sails"),
    ),
    "rowing boat": (("rowing boat", "rowing boats"), ("rowboat", "rowboats"), ("boat", "boats")),
    "swan": (("swan", "swans"), ("water bird", "water birds")),
    "car": (("car", "cars"), ("automobile", "automobiles"), ("vehicle", "vehicles")),
    "bus": (("bus", "buses"), ("coach", "coaches")),
    "bicycle": (("bicycle", "bicycles"), ("bike", "bikes"), ("cycle", "cycles")),
    "train": (("train", "trains"), ("railway train", "railway trains")),
    "hot-air balloon": (
        ("hot-air balloon", "hot-air balloons"),
        ("hot air balloon", "hot air balloons"),
        ("balloon", "balloons"),
    ),
    "airplane": (("airplane", "airplanes"), ("plane", "planes"), ("aeroplane", "aeroplanes")),
    "kite": (("kite", "kites"),),
    "bird": (("bird", "birds"), ("flying bird", "flying birds")),
    "tree": (("tree", "trees"),),
    "flower": (("flower", "flowers"), ("blossom", "blossoms"), ("bloom", "blooms")),
    "dog": (("dog", "dogs"), ("puppy", "puppies"), ("hound", "hounds")),
    "cat": (("cat", "cats"), ("kitty", "kitties")),
    "horse": (("horse", "horses"), ("pony", "ponies")),
    "cow": (("cow", "cows"),),
    "sheep": (("sheep", "sheep"), ("lamb", "lambs")),
    "person with umbrella": (
        ("person with {} umbrella", "people with {} umbrellas"),
        ("person under {} umbrella", "people under {} umbrellas"),
        ("somebody holding {} umbrella", "people holding {} umbrellas"),
        ("pedestrian with {} umbrella", "pedestrians with {} umbrellas"),
    ),
    "tent": (("tent", "tents"), ("camping tent", "camping tents")),
    "lighthouse": (("lighthouse", "lighthouses"), ("light tower", "light towers")),
    "windmill": (("windmill", "windmills"), ("mill", "mills")),
    "bench": (("bench", "benches"), ("park bench", "park benches"), ("seat", "seats")),
    "fountain": (("fountain", "fountains"), ("water fountain", "water fountains")),
    "snowman": (
        ("snowman with {} scarf", "snowmen with {} scarves"),
        ("snowman wearing {} scarf", "snowmen wearing {} scarves"),
    ),
    "campfire": (("campfire", "campfires"), ("fire", "fires"), ("bonfire", "bonfires")),
    "parasol": (
        ("beach umbrella", "beach umbrellas"),
        ("parasol", "parasols"),
        ("sunshade", "sunshades"),
    ),
}

#: Kinds with one colour, which captions leave out.
UNCOLOURED = {"campfire"}

COLOUR_WORDS = {
    "red": ("red", "bright red", "scarlet"),
    "purple": ("purple", "violet"),
    "grey": ("grey", "gray"),
}

PLACE_WORDS = {
    "beach": ("on a beach", "at the beach", "on the sand by the sea", "at the seaside"),
    "forest": ("in a forest", "in the woods", "among the trees of a forest", "in the woodland"),
    "city street": (
        "on a city street",
        "in the city",
        "on a street in town",
        "on an urban street with tall buildings",
    ),
    "mountains": ("in the mountains", "below the mountains", "in the Alps", "with mountain peaks"),
    "desert": ("in a desert", "among sand dunes", "in the sandy desert", "in the dunes"),
    "lake": ("at a lake", "by the lake", "beside a calm lake", "on a lakeshore"),
    "fields": ("in the fields", "in the countryside", "on farmland", "among rolling fields"),
    "harbour": ("in a harbour", "at the harbor", "at the port", "on the quay"),
}
BARE_PLACES = {
    "beach": ("beach", "seaside"),
    "forest": ("forest", "woods"),
    "city street": ("city street", "street", "city"),
    "mountains": ("mountains", "mountain landscape"),
    "desert": ("desert", "dunes"),
    "lake": ("lake", "lakeside"),
    "fields": ("fields", "countryside"),
    "harbour": ("harbour", "harbor", "port"),
}
TIME_WORDS = {
    "dawn": ("at dawn", "at sunrise", "early in the morning", "in the pink morning light"),
    "day": ("by day", "during the day", "in daylight", "in the daytime"),
    "sunset": ("at sunset", "at dusk", "in the evening", "in the orange evening light"),
    "night": ("at night", "in the dark", "under a night sky", "by moonlight"),
}
WEATHER_WORDS = {
    "clear": ("in clear weather", "under a clear sky", "in fine weather"),
    "cloudy": ("under a cloudy sky", "in cloudy weather", "on an overcast day", "beneath clouds"),
    "rain": ("in the rain", "in rainy weather", "on a rainy day", "while it rains"),
    "snow": ("in falling snow", "while it is snowing", "in a snowfall", "in the snow"),
    "fog": ("in fog", "in the mist", "in foggy weather", "on a misty day"),
}
SEASON_WORDS = {
    "spring": ("in spring", "in springtime"),
    "summer": ("in summer", "on a summer day"),
    "autumn": ("in autumn", "in the fall"),
    "winter": ("in winter", "in wintertime"),
}
RELATION_WORDS = {
    "left of": ("to the left of", "left of", "on the left of"),
    "right of": ("to the right of", "right of", "on the right of"),
    "in front of": ("in front of", "before"),
    "above": ("above", "over", "high above"),
}
#: Activities of a kind, in phrases that fit singular and plural.
DOING = {
    "sailboat": ("sailing", "on the water"),
    "rowing boat": ("on the water", "floating"),
    "swan": ("swimming", "on the water"),
    "hot-air balloon": ("floating in the sky", "in the air"),
    "airplane": ("flying", "in the sky"),
    "kite": ("flying in the wind", "in the sky"),
    "bird": ("flying", "in the sky"),
    "horse": ("standing", "outdoors"),
    "cow": ("standing", "outdoors"),
    "sheep": ("standing", "outdoors"),
    "dog": ("standing", "outside"),
    "cat": ("sitting", "looking around"),
}


def _with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeio' else 'a'} {words}"


def _name(subject: Subject, noun: tuple[str, str], colour: str) -> str:
    """``a red car``, ``two red cars``, ``a person with a red umbrella``."""
    one, many = noun
    if "{}" in one:  # the colour belongs to what is carried
        one, many = one.format(_with_article(colour)), many.format(colour)
    elif subject.kind not in UNCOLOURED:
        one, many = f"{colour} {one}", f"{colour} {many}"
    if subject.count > 1:
        return f"{NUMBERS[subject.count]} {many}"
    return one if one.startswith("somebody") else _with_article(one)


def plain_name(subject: Subject) -> str:
    """The subject in plain words: ``two black dogs``."""
    return _name(subject, NOUNS[subject.kind][0], subject.colour)


def season_shows(scene: Scene) -> bool:
    """Whether the season is visible, so that a caption may name it."""
    return PLACES[scene.place].seasonal or scene.weather == "snow"


def _sentence(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def canonical(scene: Scene) -> str:
    """The exact caption: every subject with colour and count, the relation, place, time, weather.

    The season is named only if it is visible; clear weather is not named.
    """
    names = [plain_name(s) for s in scene.subjects]
    said = _listed(names)
    if scene.relation:
        related = f"{names[0]} {RELATION_WORDS[scene.relation][0]} {names[1]}"
        said = " and ".join([related, *names[2:]])
    return _sentence(
        said,
        PLACE_WORDS[scene.place][0],
        TIME_WORDS[scene.time][0],
        WEATHER_WORDS[scene.weather][0] if scene.weather != "clear" else "",
        SEASON_WORDS[scene.season][0] if season_shows(scene) else "",
    )


def captions(scene: Scene, *, count: int | None = None, seed: int = 0) -> list[str]:
    """Distinct captions of a scene, the exact one first: ``count`` or eight.

    ``seed`` determines the choice and order of the others. There are fewer if the scene does not
    yield more. Every caption is true; a short one may fit other scenes as well.
    """
    wanted = 8 if count is None else count
    rng = Random(f"captions {scene.seed} {seed} {scene.taken_at.isoformat()}")
    said = [canonical(scene)][:wanted]
    forms = (_varied, _reordered, _short, _varied, _tagged, _bare, _framed)
    start = rng.randrange(len(forms))
    for turn in range(wanted * 6):
        if len(said) >= wanted:
            break
        text = forms[(start + turn) % len(forms)](scene, rng)
        if text not in said:
            said.append(text)
    return said


def _some_name(subject: Subject, rng: Random) -> str:
    nouns = NOUNS[subject.kind]
    noun = nouns[0] if rng.random() < 0.55 else rng.choice(nouns)
    colours = COLOUR_WORDS.get(subject.colour, (subject.colour,))
    colour = colours[0] if rng.random() < 0.8 else rng.choice(colours)
    if subject.kind == "tree" and rng.random() < 0.3:
        colour = {"pink": "blossoming", "white": "snowy", "green": "leafy"}.get(colour, colour)
    name = _name(subject, noun, colour)
    if subject.count > 2 and rng.random() < 0.15:
        name = "several " + name.split(" ", 1)[1]
    return name


def _subjects(scene: Scene, rng: Random) -> str:
    names = [_some_name(s, rng) for s in scene.subjects]
    relation = scene.relation
    if relation is None:
        rng.shuffle(names)
        return _listed(names)
    if relation in ("left of", "right of") and rng.random() < 0.4:  # the inverse relation
        relation = "right of" if relation == "left of" else "left of"
        names[:2] = names[1::-1]
    said = f"{names[0]} {rng.choice(RELATION_WORDS[relation])} {names[1]}"
    return " and ".join([said, *names[2:]])


def _when(scene: Scene, rng: Random, *, chance: float = 0.8) -> str:
    """Time, weather and season, each with a probability, in random order."""

    def fits(words: str) -> bool:
        # Clouds hide moonlight and coloured light, and a night is not "a rainy day".
        hidden = scene.weather != "clear" and ("light" in words or "night sky" in words)
        return not hidden and (scene.time == "day" or not words.endswith(" day"))

    parts = []
    if rng.random() < (chance if scene.time != "day" else chance / 2):
        parts.append(rng.choice([w for w in TIME_WORDS[scene.time] if fits(w)]))
    if rng.random() < (chance if scene.weather != "clear" else 0.2):
        parts.append(rng.choice([w for w in WEATHER_WORDS[scene.weather] if fits(w)]))
    if season_shows(scene) and rng.random() < chance / 2:
        parts.append(rng.choice([w for w in SEASON_WORDS[scene.season] if fits(w)]))
    rng.shuffle(parts)
    return " ".join(parts)


def _varied(scene: Scene, rng: Random) -> str:
    place = rng.choice(PLACE_WORDS[scene.place])
    return _sentence(_subjects(scene, rng), place, _when(scene, rng))


def _reordered(scene: Scene, rng: Random) -> str:
    place, when = rng.choice(PLACE_WORDS[scene.place]), _when(scene, rng)
    if when and rng.random() < 0.5:
        return _sentence(when + ",", _subjects(scene, rng), place)
    return _sentence(place + ",", _subjects(scene, rng), when)


def _short(scene: Scene, rng: Random) -> str:
    subject = rng.choice(scene.subjects)
    doing = rng.choice(DOING[subject.kind]) if subject.kind in DOING else ""
    tail = rng.choice((rng.choice(PLACE_WORDS[scene.place]), _when(scene, rng, chance=1.0)))
    return _sentence(_some_name(subject, rng), doing if rng.random() < 0.3 else "", tail)


def _bare(scene: Scene, rng: Random) -> str:
    return _some_name(rng.choice(scene.subjects), rng)


def _tagged(scene: Scene, rng: Random) -> str:
    """Keywords, as in a search box: ``red car city street night``."""
    subject = rng.choice(scene.subjects)
    name = _name(subject, rng.choice(NOUNS[subject.kind]), subject.colour)
    skip = {"a", "an", "with", "under", "holding", "wearing", *NUMBERS}
    words = [w for w in name.split() if w not in skip]
    words.append(rng.choice(BARE_PLACES[scene.place]))
    if scene.time != "day":
        words.append(scene.time)
    if scene.weather != "clear" and rng.random() < 0.7:
        words.append(scene.weather)
    return " ".join(words)


def _framed(scene: Scene, rng: Random) -> str:
    frame = rng.choice(("a picture of", "an illustration of", "a view of", "a painting of"))
    place = rng.choice(PLACE_WORDS[scene.place])
    return _sentence(frame, _subjects(scene, rng), place, _when(scene, rng, chance=0.9))
