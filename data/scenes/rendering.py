"""Renders a scene: sky, place, subjects from far to near, then weather."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from random import Random

import numpy as np
from PIL import Image

from . import creatures, lands, shores
from . import subjects as things
from .canvas import RGB, Canvas, Pen, mix, veil
from .light import Mood, draw_sky, mood_of
from .scene import KINDS, PLACES, Scene, Spot, Subject
from .stage import Stage
from .subjects import PAINT, Look

DRAWINGS: dict[str, Callable[[Pen, RGB, Look], None]] = {
    "house": things.house,
    "sailboat": things.sailboat,
    "rowing boat": things.rowing_boat,
    "swan": creatures.swan,
    "car": things.car,
    "bus": things.bus,
    "bicycle": things.bicycle,
    "train": things.train,
    "hot-air balloon": things.balloon,
    "airplane": things.airplane,
    "kite": things.kite,
    "bird": creatures.bird,
    "tree": creatures.tree,
    "flower": creatures.flower,
    "dog": creatures.dog,
    "cat": creatures.cat,
    "horse": creatures.horse,
    "cow": creatures.cow,
    "sheep": creatures.sheep,
    "person with umbrella": creatures.person,
    "tent": things.tent,
    "lighthouse": things.lighthouse,
    "windmill": things.windmill,
    "bench": things.bench,
    "fountain": things.fountain,
    "snowman": creatures.snowman,
    "campfire": creatures.campfire,
    "parasol": things.parasol,
}

LANDS: dict[str, Callable[[Stage], None]] = {
    "beach": shores.beach,
    "forest": lands.forest,
    "city street": shores.city,
    "mountains": lands.mountains,
    "desert": lands.desert,
    "lake": shores.lake,
    "fields": lands.fields,
    "harbour": shores.harbour,
}


def render(scene: Scene, *, width: int | None = None, height: int | None = None) -> Image.Image:
    """The scene as an RGB image, the same pixels for the same scene and size.

    Without ``width`` and ``height`` (pixels) it has the scene's size; with one of them the scene's
    aspect ratio; with both exactly that size. Raises ValueError below 16.
    """
    if width is None and height is None:
        width, height = scene.width, scene.height
    elif width is None:
        width = round((height or 0) * scene.width / scene.height)
    elif height is None:
        height = round(width * scene.height / scene.width)
    if width < 16 or height is None or height < 16:
        raise ValueError(f"a scene is at least 16 pixels wide and high, not {width} x {height}")
    # Small images need more supersampling for the same smoothness.
    canvas = Canvas(width, height, 3 if max(width, height) < 200 else 2)
    rng = Random(f"art {scene.seed} {scene.taken_at.isoformat()}")
    mood = mood_of(scene, rng)
    # The sky has no edges: without supersampling it takes a fraction of the time.
    sky = Canvas(width, height, 1)
    draw_sky(sky, scene, mood, rng)
    canvas.image.paste(sky.image.resize(canvas.image.size, Image.Resampling.NEAREST))
    LANDS[scene.place](Stage(canvas, scene, mood, rng))
    if mood.mist > 0.2:
        horizon = PLACES[scene.place].horizon
        far = [(horizon - 0.2, 0.10), (horizon, 0.55 * mood.mist + 0.05)]
        near = [(horizon + 0.16, 0.45 * mood.mist), (1.0, 0.05)]
        veil(canvas.image, mood.haze, [(0.0, 0.0), *far, *near])
    for subject, spot, number in _far_to_near(scene):
        _draw_subject(canvas, scene, mood, subject, spot, number)
    _draw_weather(canvas, scene, rng)
    image = canvas.finish()
    _grade(image, scene, mood)
    return image


def _far_to_near(scene: Scene) -> list[tuple[Subject, Spot, int]]:
    every = [
        (subject, spot, 10 * i + n)
        for i, subject in enumerate(scene.subjects)
        for n, spot in enumerate(subject.spots)
    ]
    order = {"sky": 0, "water": 1, "ground": 2, "road": 2}
    return sorted(every, key=lambda e: (order[KINDS[e[0].kind].zone], e[1].y))


def _draw_subject(
    canvas: Canvas, scene: Scene, mood: Mood, subject: Subject, spot: Spot, number: int
) -> None:
    zone = KINDS[subject.kind].zone
    # At another aspect ratio widths are kept, so that neighbours do not overlap.
    own = min(scene.width, scene.height) / scene.width
    size = spot.height * min(canvas.unit, canvas.w * own)
    x, y = spot.x * canvas.w, spot.y * canvas.h
    fade = 0.5 * mood.mist * (0.55 if zone in ("ground", "road") else 0.8)
    pen = Pen(
        canvas,
        x,
        y,
        size,
        spot.facing,
        tint=mood.subject_tint,
        haze=mood.haze,
        fade=min(fade, 0.24),
        sun_side=-1 if mood.sun_x < 0.5 else 1,
        seed=scene.seed * 64 + number,
    )
    look = Look(
        night=mood.night, lamps=mood.lamps, snowy=mood.snowy, windy=scene.season == "winter"
    )
    if subject.kind == "tree":
        creatures.tree(pen, PAINT[subject.colour], look, leaves=creatures.LEAVES[subject.colour])
    else:
        DRAWINGS[subject.kind](pen, PAINT[subject.colour], look)
    if zone == "water":
        _mirror_subject(canvas, mood, x, y, size, KINDS[subject.kind].aspect, 0.42)
    elif scene.place == "city street" and scene.weather == "rain" and zone != "sky":
        _mirror_subject(canvas, mood, x, y, size * 0.8, KINDS[subject.kind].aspect * 1.2, 0.26)


def _mirror_subject(
    canvas: Canvas, mood: Mood, x: float, y: float, size: float, aspect: float, strength: float
) -> None:
    """Mirror the subject at ``(x, y)`` below itself, fading with depth."""
    half = 0.56 * size * aspect
    left, right = max(int(x - half), 0), min(int(x + half), canvas.w)
    depth = min(int(size * 0.72), canvas.h - int(y) - 1)
    if right - left < 4 or depth < 4:
        return
    source = canvas.image.crop((left, max(int(y - depth / 0.72), 0), right, int(y)))
    flipped = source.transpose(Image.Transpose.FLIP_TOP_BOTTOM).resize(
        (right - left, depth), Image.Resampling.BILINEAR
    )
    mask = _fading(strength).resize((right - left, depth), Image.Resampling.BILINEAR)
    canvas.image.paste(flipped, (left, int(y)), mask)


def _draw_weather(canvas: Canvas, scene: Scene, rng: Random) -> None:
    w, h, u, f = canvas.w, canvas.h, canvas.unit, canvas.factor
    small = not canvas.fine
    if scene.weather == "rain":
        slant = 0.16
        for _ in range(150 if small else 420):
            x, y, t = rng.uniform(-0.1, 1.05) * w, rng.uniform(-0.1, 1.0) * h, rng.random()
            length = u * (0.03 + 0.06 * t)
            canvas.draw.line((x, y, x - slant * length, y + length),
                             fill=(226, 236, 248, int(40 + 80 * t)),
                             width=max(1, round((0.0010 + 0.0016 * t) * u)))  # fmt: skip
        for _ in range(20 if small else 60):  # splashes
            x, y = rng.random() * w, rng.uniform(0.74, 0.99) * h
            half = u * rng.uniform(0.006, 0.014)
            canvas.draw.ellipse((x - half, y - half * 0.28, x + half, y + half * 0.28),
                                outline=(236, 242, 250, 90), width=max(1, f // 2))  # fmt: skip
    elif scene.weather == "snow":
        for _ in range(150 if small else 380):
            t = rng.random() ** 2.2
            x, y = rng.random() * w, rng.random() * h
            r = u * (0.0026 + 0.0075 * t)
            canvas.draw.ellipse((x - r, y - r, x + r, y + r),
                                fill=(255, 255, 255, int(225 - 80 * t)))  # fmt: skip


def _grade(image: Image.Image, scene: Scene, mood: Mood) -> None:
    """Cover the finished image with mist, wet air and darker edges."""
    if scene.weather == "rain":
        veil(image, mix(mood.sky[1], (60, 70, 90), 0.5), [(0, 0.10), (1, 0.06)])
    elif scene.weather == "fog":
        horizon = PLACES[scene.place].horizon
        veil(image, mood.haze, [(0, 0.16), (horizon, 0.30), (0.8, 0.16), (1, 0.10)])
    if mood.night:  # draws the eye to lit subjects
        veil(image, (4, 6, 22), [(0, 0.10), (0.25, 0.0), (0.8, 0.0), (1, 0.22)])
    else:
        veil(image, (30, 24, 50), [(0, 0.06), (0.2, 0.0), (0.82, 0.0), (1, 0.12)])


@lru_cache(maxsize=8)
def _fading(strength: float) -> Image.Image:
    """A mask of reflections: linear down the depth, soft at both sides so that no box shows."""
    down = np.linspace(1, 0, 64)[:, None]
    across = np.clip(np.minimum(np.linspace(0, 8, 64), np.linspace(8, 0, 64)), 0, 1)[None, :]
    return Image.fromarray((255 * strength * down * across).astype(np.uint8))
