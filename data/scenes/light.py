"""The light of a scene (time and weather), and its sky."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from .canvas import RGB, Canvas, clouds, mix, shade
from .scene import PLACES, Scene

_SKIES: dict[str, tuple[RGB, RGB, RGB, RGB]] = {
    "dawn": ((104, 122, 196), (176, 158, 212), (246, 190, 190), (255, 226, 184)),
    "day": ((44, 116, 210), (88, 158, 230), (150, 204, 244), (216, 237, 248)),
    "sunset": ((50, 42, 106), (146, 64, 124), (238, 104, 80), (255, 192, 98)),
    "night": ((7, 11, 38), (15, 24, 68), (32, 46, 102), (70, 84, 142)),
}
_GREYS: dict[str, RGB] = {
    "dawn": (196, 178, 192),
    "day": (182, 193, 204),
    "sunset": (176, 132, 134),
    "night": (34, 40, 60),
}
_SUNS: dict[str, RGB] = {
    "dawn": (255, 244, 214),
    "day": (255, 252, 236),
    "sunset": (255, 226, 150),
    "night": (240, 244, 255),
}
_TINTS = {
    "dawn": (1.0, 0.91, 0.93),
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.83, 0.73),
    "night": (0.50, 0.56, 0.76),
}
#: Fraction of grey that the weather adds to the sky, and fraction of light it lets through.
_COVER = {"clear": (0.0, 1.0), "cloudy": (0.62, 0.93), "rain": (0.86, 0.80), "snow": (0.80, 0.96),
          "fog": (0.78, 0.95)}  # fmt: skip


@dataclass(frozen=True)
class Mood:
    """The light: four sky colours from zenith to horizon, what the light tints, and the haze.

    ``sun_x`` and ``sun_y`` (of the moon at night) are fractions of the image; ``mist`` (0 to 1) is
    the haze at a distance.
    """

    sky: tuple[RGB, RGB, RGB, RGB]
    tint: tuple[float, float, float]
    subject_tint: tuple[float, float, float]
    haze: RGB
    sun: RGB
    sun_x: float
    sun_y: float
    sun_shows: bool
    mist: float
    night: bool
    lamps: bool
    snowy: bool


def mood_of(scene: Scene, rng: Random) -> Mood:
    """The light of a scene; ``rng`` only places the sun."""
    grey = _GREYS[scene.time]
    cover, left = _COVER[scene.weather]
    if scene.weather == "rain":
        grey = shade(grey, 0.74)
    elif scene.weather == "snow" and scene.time != "night":
        grey = mix(grey, (236, 240, 246), 0.5)
    elif scene.weather == "fog":
        grey = mix(grey, (226, 230, 234), 0.35) if scene.time != "night" else (66, 74, 98)
    zenith, high, low, horizon = _SKIES[scene.time]
    tones = (shade(grey, 0.80), shade(grey, 0.92), grey, mix(grey, (255, 255, 255), 0.16))
    sky = tuple(mix(a, b, cover) for a, b in zip((zenith, high, low, horizon), tones, strict=True))
    tint = _TINTS[scene.time]
    lit = tuple(c * left for c in tint)
    night = scene.time == "night"
    # Subjects must keep recognisable colours in the dark.
    subject = (0.72, 0.72, 0.86) if night else tuple(0.35 + 0.65 * c for c in lit)
    if night and scene.weather == "fog":  # mist scatters light
        lit, subject = (0.60, 0.64, 0.80), (0.84, 0.84, 0.94)
    if night and scene.place == "city street":
        lit, subject = (0.62, 0.58, 0.66), (0.86, 0.80, 0.78)
    horizon_y = PLACES[scene.place].horizon
    return Mood(
        sky=(sky[0], sky[1], sky[2], sky[3]),
        tint=(lit[0], lit[1], lit[2]),
        subject_tint=(subject[0], subject[1], subject[2]),
        haze=sky[3] if not night else mix(sky[3], sky[2], 0.5),
        sun=_SUNS[scene.time],
        sun_x=rng.choice((rng.uniform(0.12, 0.38), rng.uniform(0.62, 0.88))),
        sun_y=horizon_y
        * {"dawn": rng.uniform(0.72, 0.86), "sunset": rng.uniform(0.74, 0.92)}.get(
            scene.time, rng.uniform(0.18, 0.40)
        ),
        sun_shows=scene.weather == "clear",
        mist={"clear": 0.0, "cloudy": 0.05, "rain": 0.28, "snow": 0.30, "fog": 0.62}[scene.weather]
        + (0.12 if scene.time == "dawn" else 0.0),
        night=night,
        lamps=night or (scene.weather in ("rain", "fog") and scene.time != "day"),
        snowy=scene.weather == "snow"
        or (scene.season == "winter" and PLACES[scene.place].seasonal),
    )


def draw_sky(canvas: Canvas, scene: Scene, mood: Mood, rng: Random) -> None:
    """Gradient, sun or moon, stars and clouds, down to a little below the horizon."""
    w, h = canvas.w, canvas.h
    horizon = PLACES[scene.place].horizon * h
    sky = _gradient(canvas, mood, horizon)
    canvas.image.paste(sky, (0, 0))
    sun_x, sun_y = mood.sun_x * w, mood.sun_y * h
    u = canvas.unit
    if mood.night and scene.weather in ("clear", "cloudy"):
        _draw_stars(canvas, rng, horizon, 150 if scene.weather == "clear" else 30)
    if mood.sun_shows and mood.night:
        r = 0.058 * u
        canvas.glow(sun_x, sun_y, 6.5 * r, (150, 170, 230), 0.42)
        canvas.glow(sun_x, sun_y, 2.6 * r, (220, 230, 255), 0.55)
        canvas.disc(sun_x, sun_y, r, (246, 243, 226))
        for dx, dy, q in (
            (-0.3, -0.2, 0.26),
            (0.25, 0.3, 0.2),
            (0.35, -0.3, 0.13),
            (-0.2, 0.42, 0.14),
        ):
            x, y, s = sun_x + dx * r, sun_y + dy * r, q * r
            canvas.disc(x, y, s, (216, 214, 204))
    elif mood.sun_shows:
        r = (0.075 if scene.time != "day" else 0.055) * u
        canvas.glow(sun_x, sun_y, 5.2 * r, mix(mood.sun, mood.sky[3], 0.4), 0.55)
        canvas.glow(sun_x, sun_y, 2.3 * r, mood.sun, 0.75)
        canvas.disc(sun_x, sun_y, r, mix(mood.sun, (255, 255, 255), 0.45))
    _draw_clouds(canvas, scene, mood, rng, horizon)


def _gradient(canvas: Canvas, mood: Mood, horizon: float) -> Image.Image:
    """The sky's colours with the sun's wide glow, computed small and enlarged."""
    depth = int(horizon * 1.12)
    n, m = 64, 48
    y = np.linspace(0, 1, n)[:, None]
    at = np.array([0.0, 0.36, 0.72, 0.96])
    sky = np.stack(
        [np.interp(y, at, [c[b] for c in mood.sky]) * np.ones((1, m)) for b in range(3)], axis=-1
    )
    if mood.sun_shows or mood.mist < 0.2:
        x = np.linspace(0, 1, m)[None, :] * canvas.w / canvas.unit
        down = y * depth / canvas.unit
        far = np.hypot(x - mood.sun_x * canvas.w / canvas.unit,
                       1.5 * (down - mood.sun_y * canvas.h / canvas.unit))  # fmt: skip
        glow = np.exp(-3.2 * far)[..., None] * (0.62 if not mood.night else 0.20)
        sky += (np.array(mood.sun if not mood.night else (120, 140, 220)) - sky) * glow
    small = Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))
    return small.resize((canvas.w, depth), Image.Resampling.BILINEAR)


def _draw_stars(canvas: Canvas, rng: Random, horizon: float, count: int) -> None:
    f = canvas.factor
    if not canvas.fine:
        count //= 2
    for _ in range(count):
        x, y = rng.random() * canvas.w, rng.random() ** 1.3 * horizon
        r = f * (0.32 + 0.5 * rng.random() ** 4) * (canvas.unit / f / 600 + 0.45)
        glint = rng.randint(110, 255)
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 235, glint))


def _draw_clouds(canvas: Canvas, scene: Scene, mood: Mood, rng: Random, horizon: float) -> None:
    """Far clouds small and low, near ones large and high; a closed cover when it is overcast."""
    count = {"clear": rng.choice((0, 2, 3, 4)), "cloudy": 13, "rain": 12, "snow": 9, "fog": 2}[
        scene.weather
    ]
    if mood.night:
        count = count // 2 if scene.weather == "clear" else count
    bright = {
        "dawn": (255, 226, 214),
        "day": (255, 255, 255),
        "sunset": (255, 190, 130),
        "night": (86, 98, 146),
    }[scene.time]
    dark = {
        "dawn": (172, 150, 196),
        "day": (150, 176, 208),
        "sunset": (128, 66, 110),
        "night": (20, 26, 58),
    }[scene.time]
    if scene.weather in ("cloudy", "rain", "snow"):
        dull = _GREYS[scene.time]
        weight = {"cloudy": 0.45, "rain": 0.8, "snow": 0.6}[scene.weather]
        k = 0.66 if scene.weather == "rain" else 0.86
        bright = mix(bright, mix(dull, (255, 255, 255), 0.25), weight)
        dark = mix(dark, shade(dull, k), weight)
        if scene.weather == "rain":
            bright = shade(bright, 0.88)
    stamps = clouds()
    for i in range(count):
        t = (i + rng.random()) / count
        high = (1 - t) ** 1.1 if scene.weather == "clear" else 1 - t
        base = horizon * (0.10 + 0.80 * (1 - high))
        width = canvas.unit * (0.16 + 0.55 * high) * rng.uniform(0.75, 1.25)
        if scene.weather != "clear":
            width *= 1.55
        x = rng.uniform(-0.15, 1.0) * canvas.w
        box = (x, base - 0.30 * width, x + width, base + 0.12 * width)
        fade = 0.55 * (1 - high)
        ramp = (mix(dark, mood.sky[3], fade), mix(mix(dark, bright, 0.6), mood.sky[3], fade),
                mix(bright, mood.sky[3], fade * 0.6))  # fmt: skip
        canvas.stamp(
            rng.choice(stamps),
            box,
            ramp,
            alpha=0.92 if scene.weather != "fog" else 0.3,
            flip=mood.sun_x > 0.5,
        )
