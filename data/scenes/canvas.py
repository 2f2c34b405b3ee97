"""Drawing tools: a supersampled canvas, soft stamps for clouds and foliage, and a pen for subjects.

Pillow draws hard edges, so everything is drawn at two or three times the size and averaged down.
Clouds and foliage are rendered once as clusters of lit spheres (stamps), then only coloured and
scaled: an image takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
Ramp = tuple[RGB, RGB, RGB]

_BILINEAR = Image.Resampling.BILINEAR


def mix(a: RGB, b: RGB, t: float) -> RGB:
    """Linear interpolation from ``a`` (t = 0) to ``b`` (t = 1)."""
    return (
        round(a[0] + (b[0] - a[0]) * t),
        round(a[1] + (b[1] - a[1]) * t),
        round(a[2] + (b[2] - a[2]) * t),
    )


def shade(rgb: RGB, k: float) -> RGB:
    """Darker for k < 1, nearer to white for k > 1."""
    if k <= 1:
        return (round(rgb[0] * k), round(rgb[1] * k), round(rgb[2] * k))
    return mix(rgb, (255, 255, 255), min(k - 1, 1.0))


def smooth(points: Points, steps: int = 5) -> list[tuple[float, float]]:
    """A closed Catmull-Rom curve through the points, as a polygon."""
    # Cached: most outlines recur, and computing the curve takes longer than drawing it.
    return _curve(tuple(points), steps)


@lru_cache(maxsize=512)
def _curve(points: tuple[tuple[float, float], ...], steps: int) -> list[tuple[float, float]]:
    n = len(points)
    out = []
    for i in range(n):
        p0, p1, p2, p3 = (points[(i + j - 1) % n] for j in range(4))
        for s in range(steps):
            t = s / steps
            a, b = t * t, t * t * t
            out.append(
                (
                    0.5 * (2 * p1[0] + (p2[0] - p0[0]) * t
                           + (2 * p0[0] - 5 * p1[0] + 4 * p2[0] - p3[0]) * a
                           + (3 * p1[0] - p0[0] - 3 * p2[0] + p3[0]) * b),
                    0.5 * (2 * p1[1] + (p2[1] - p0[1]) * t
                           + (2 * p0[1] - 5 * p1[1] + 4 * p2[1] - p3[1]) * a
                           + (3 * p1[1] - p0[1] - 3 * p2[1] + p3[1]) * b),
                )
            )  # fmt: skip
    return out


@cache
def _radial() -> Image.Image:
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    fall = np.clip(1 - np.hypot(x, y), 0, 1)
    return Image.fromarray((255 * fall**2 * (3 - 2 * fall)).astype(np.uint8))


@cache
def _disc() -> Image.Image:
    y, x = np.mgrid[-1.04:1.04:128j, -1.04:1.04:128j]
    return Image.fromarray((255 * np.clip((1 - np.hypot(x, y)) * 50 + 0.5, 0, 1)).astype(np.uint8))


@lru_cache(maxsize=256)
def _radial_of(strength: int) -> Image.Image:
    return _radial().point([v * strength // 255 for v in range(256)])


@lru_cache(maxsize=2048)
def _palette(ramp: Ramp) -> bytes:
    """256 colours from the ramp's darkest to its brightest."""
    at = np.arange(256)
    bands = [np.interp(at, (0, 128, 255), [tone[c] for tone in ramp]) for c in range(3)]
    return np.stack(bands, axis=-1).astype(np.uint8).tobytes()


@dataclass(frozen=True, eq=False)
class Stamp:
    """A soft shape lit from above: ``shading`` (0 dark, 255 bright) and ``mask``, both mode L."""

    shading: Image.Image
    mask: Image.Image


@lru_cache(maxsize=256)
def _version(stamp: Stamp, halvings: int, alpha: float) -> Stamp:
    """The stamp at a smaller size and opacity; cached, because downscaling is slow."""
    step = 1 << halvings
    mask = stamp.mask.reduce(step)
    if alpha < 1:
        mask = mask.point([int(v * alpha) for v in range(256)])
    return Stamp(stamp.shading.reduce(step), mask)


def _spheres(
    balls: Sequence[tuple[float, float, float]], size: tuple[int, int], crinkle: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shading and coverage (both 0 to 1) of lit balls ``(x, y, radius)`` in the unit square."""
    w, h = size
    y, x = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j]
    rng = np.random.default_rng(seed)
    if crinkle:
        x = x + rng.normal(0, crinkle, x.shape)
        y = y + rng.normal(0, crinkle, y.shape)
    depth = np.full(x.shape, -9.0)
    light = np.zeros(x.shape)
    for n, (bx, by, r) in enumerate(balls):
        d2 = ((x - bx) / r) ** 2 + ((y - by) / r) ** 2
        nz = np.sqrt(np.clip(1 - d2, 0, 1))
        z = 0.7 * nz * r + 0.004 * n
        ahead = (d2 < 1) & (z > depth)
        lit = 0.5 - 0.30 * (x - bx) / r - 0.42 * (y - by) / r + 0.18 * nz
        light = np.where(ahead, lit, light)
        depth = np.where(ahead, z, depth)
    cover = (depth > -9).astype(float)
    # The crown as a whole is also darker below and away from the light.
    light = 0.72 * light + 0.62 * (0.90 - 0.95 * y - 0.34 * x)
    return np.clip(light, 0, 1), cover


def _image(values: NDArray[np.float64]) -> Image.Image:
    return Image.fromarray((255 * np.clip(values, 0, 1)).astype(np.uint8))


@cache
def crowns() -> tuple[Stamp, ...]:
    """Twelve crowns of broad-leaved trees."""
    made = []
    for seed in range(12):
        rng = Random(f"crown {seed}")
        balls = []
        for _ in range(110):
            a, d = rng.uniform(0, 6.283), rng.random() ** 0.5
            bx = 0.5 + 0.37 * d * float(np.cos(a)) * rng.uniform(0.9, 1.08)
            by = 0.50 + 0.36 * d * float(np.sin(a)) * (1.0 if a > 3.14 else 0.82)
            balls.append((bx, by, rng.uniform(0.05, 0.105)))
        # Upper tufts are drawn first, so that every tuft shows its lit top.
        balls.sort(key=lambda b: b[1])
        light, cover = _spheres(balls, (160, 160), 0.007, seed)
        made.append(Stamp(_image(light), _image(cover).filter(ImageFilter.GaussianBlur(0.6))))
    return tuple(made)


@cache
def clouds() -> tuple[Stamp, ...]:
    """Twelve fair-weather clouds, twice as wide as high, with flat bases."""
    made = []
    for seed in range(12):
        rng = Random(f"cloud {seed}")
        balls = []
        for _ in range(26):
            bx = rng.uniform(0.16, 0.84)
            top = 0.62 - 0.42 * (1 - abs(2 * bx - 1) ** 1.6) * rng.random()
            balls.append((bx, top, rng.uniform(0.07, 0.13)))
        y, x = np.mgrid[0:1:80j, 0:1:160j]
        soft = np.zeros(x.shape)
        lit = np.zeros(x.shape)
        for bx, by, r in balls:  # metaballs, whose edges merge
            d2 = ((x - bx) / r) ** 2 + ((y - by) / (1.7 * r)) ** 2
            weight = np.exp(-1.5 * d2)
            soft += weight
            lit += weight * np.clip(0.55 - 0.5 * (y - by) / (1.7 * r) - 0.2 * (x - bx) / r, 0, 1.2)
        light = lit / (soft + 1e-6)
        light = 0.75 * light + 0.4 * (0.75 - y)
        cover = np.clip((soft - 0.32) * 2.2, 0, 1) * np.clip((0.80 - y) * 7, 0, 1)
        made.append(Stamp(_image(light), _image(cover).filter(ImageFilter.GaussianBlur(1.2))))
    return tuple(made)


class Canvas:
    """An RGB image supersampled by ``factor``; coordinates are its pixels, y down."""

    def __init__(self, width: int, height: int, factor: int) -> None:
        self.factor = factor
        self.w, self.h = width * factor, height * factor
        #: The shorter side; subjects' heights are fractions of it.
        self.unit = min(self.w, self.h)
        #: Whether to draw details below a fiftieth of the image.
        self.fine = min(width, height) >= 240
        self.image = Image.new("RGB", (self.w, self.h))
        # The mode makes fills with an alpha value blend.
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def gradient(self, top: float, bottom: float, stops: Sequence[tuple[float, RGB]]) -> None:
        """Fill the full width from ``top`` to ``bottom`` with colours at 0 to 1 of that span."""
        y0, y1 = max(int(top), 0), min(int(bottom + 0.5), self.h)
        if y1 > y0:
            column = _column(
                y1 - y0, stops, (y0 - top) / (bottom - top), (y1 - top) / (bottom - top)
            )
            self.image.paste(column.resize((self.w, y1 - y0), Image.Resampling.NEAREST), (0, y0))

    def land(self, points: Points, stops: Sequence[tuple[float, RGB]]) -> None:
        """A polygon filled with a vertical gradient over its own height."""
        ys = [p[1] for p in points]
        y0, y1 = max(int(min(ys)), 0), min(int(max(ys)) + 1, self.h)
        if y1 <= y0:
            return
        mask = Image.new("1", (self.w, y1 - y0))
        ImageDraw.Draw(mask).polygon([(x, y - y0) for x, y in points], fill=1)
        column = _column(y1 - y0, stops, 0, 1).resize(mask.size, Image.Resampling.NEAREST)
        self.image.paste(column, (0, y0), mask)

    def glow(self, x: float, y: float, radius: float, rgb: RGB, strength: float) -> None:
        """A soft round light; ``strength`` is its opacity at the centre, 0 to 1."""
        size = int(2 * radius)
        if size < 2 or strength <= 0:
            return
        mask = _radial_of(int(255 * min(strength, 1.0))).resize((size, size), _BILINEAR)
        self.image.paste(rgb, (int(x - radius), int(y - radius)), mask)

    def disc(self, x: float, y: float, radius: float, rgb: RGB) -> None:
        """A circle with a soft edge, for canvases without supersampling."""
        size = max(2, round(2.08 * radius))
        mask = _disc().resize((size, size), _BILINEAR)
        self.image.paste(rgb, (round(x - size / 2), round(y - size / 2)), mask)

    def stamp(
        self,
        stamp: Stamp,
        box: tuple[float, float, float, float],
        ramp: Ramp,
        *,
        alpha: float = 1.0,
        flip: bool = False,
    ) -> None:
        """A coloured stamp, scaled into ``box`` (left, top, right, bottom)."""
        w, h = int(box[2] - box[0]), int(box[3] - box[1])
        if w < 2 or h < 2 or box[0] > self.w or box[2] < 0:
            return
        halvings = 0
        while stamp.mask.width >> (halvings + 1) >= w and halvings < 3:
            halvings += 1
        stamp = _version(stamp, halvings, alpha)
        grey, mask = stamp.shading.resize((w, h), _BILINEAR), stamp.mask.resize((w, h), _BILINEAR)
        if flip:
            grey = grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            mask = mask.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        grey.putpalette(_palette(ramp))
        self.image.paste(grey.convert("RGB"), (int(box[0]), int(box[1])), mask)

    def mirror(
        self, top: float, bottom: float, tint: RGB, strength: float, ripple: float, seed: int
    ) -> None:
        """Reflect the image above ``top`` into the band down to ``bottom``.

        ``strength`` is the fraction of the reflection, the rest is ``tint``; ``ripple`` is the
        sideways shift by waves near the viewer (fraction of the width).
        """
        y0, y1 = int(top), min(int(bottom), self.h)
        depth = y1 - y0
        if depth < 2:
            return
        source = self.image.crop((0, max(y0 - int(depth * 1.25), 0), self.w, y0))
        # Half the resolution suffices under waves.
        small = source.resize((max(self.w // 2, 1), max(depth // 2, 2)), _BILINEAR)
        rows = np.asarray(small)[::-1]
        n, w = rows.shape[:2]
        down = np.linspace(0, 1, n)
        phase = np.random.default_rng(seed).uniform(0, 6, 3)
        wave = np.sin(55 * down**0.55 + phase[0]) + 0.6 * np.sin(123 * down**0.6 + phase[1])
        shift = (wave * ripple * w * (0.15 + down)).astype(int)
        column = np.clip(np.arange(w)[None, :] + shift[:, None], 0, w - 1)
        rows = rows[np.arange(n)[:, None], column]
        moved = Image.fromarray(rows).resize((self.w, depth), _BILINEAR)
        self.image.paste(Image.blend(Image.new("RGB", moved.size, tint), moved, strength), (0, y0))

    def finish(self) -> Image.Image:
        """The image at its final size."""
        return self.image.reduce(self.factor)


def veil(image: Image.Image, rgb: RGB, stops: Sequence[tuple[float, float]]) -> None:
    """Cover an image with a colour whose opacity (0 to 1) changes from top to bottom."""
    at = np.linspace(0, 1, image.height)
    alpha = np.interp(at, [s[0] for s in stops], [s[1] for s in stops])
    mask = Image.fromarray((255 * alpha).astype(np.uint8)[:, None])
    image.paste(rgb, (0, 0), mask.resize(image.size, Image.Resampling.NEAREST))


def _column(
    height: int, stops: Sequence[tuple[float, RGB]], first: float, last: float
) -> Image.Image:
    at = np.linspace(first, last, height)
    where = [s[0] for s in stops]
    bands = [np.interp(at, where, [s[1][c] for s in stops]) for c in range(3)]
    return Image.fromarray(np.stack(bands, axis=-1).astype(np.uint8)[:, None, :])


class Pen:
    """Draws one subject in its own coordinates: x in its facing direction, y up, height 1.

    Colours are tinted by the scene's light and faded by haze.
    """

    def __init__(
        self,
        canvas: Canvas,
        x: float,
        y: float,
        size: float,
        facing: int,
        *,
        tint: tuple[float, float, float],
        haze: RGB,
        fade: float,
        sun_side: int,
        seed: int = 0,
    ) -> None:
        self.canvas = canvas
        self.x, self.y, self.size, self.facing = x, y, size, facing
        self.tint, self.haze, self.fade = tint, haze, fade
        #: The side of the light (1 or -1) in the subject's own x.
        self.sun_side = sun_side * facing
        self.rng = Random(seed)
        #: Whether to draw details of a fiftieth of the subject.
        self.fine = size > 100

    def tone(self, rgb: RGB, k: float = 1.0) -> RGB:
        """The colour as it looks in this light; ``k`` as in `shade`."""
        r, g, b = shade(rgb, k)
        t = self.tint
        lit = (min(int(r * t[0]), 255), min(int(g * t[1]), 255), min(int(b * t[2]), 255))
        return mix(lit, self.haze, self.fade) if self.fade else lit

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Canvas coordinates of a point."""
        return self.x + x * self.size * self.facing, self.y - y * self.size

    def shape(
        self, points: Points, rgb: RGB, k: float = 1.0, alpha: int = 255, *, lit: bool = True
    ) -> None:
        """A filled polygon; ``lit=False`` for light sources."""
        s, f, ox, oy = self.size, self.facing * self.size, self.x, self.y
        fill = (*(self.tone(rgb, k) if lit else shade(rgb, k)), alpha)
        self.canvas.draw.polygon([(ox + x * f, oy - y * s) for x, y in points], fill=fill)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        rgb: RGB,
        k: float = 1.0,
        alpha: int = 255,
        *,
        lit: bool = True,
    ) -> None:
        """A filled ellipse around ``(x, y)``."""
        cx, cy = self.at(x, y)
        rx, ry = rx * self.size, ry * self.size
        fill = (*(self.tone(rgb, k) if lit else shade(rgb, k)), alpha)
        self.canvas.draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=fill)

    def ring(self, x: float, y: float, r: float, width: float, rgb: RGB, k: float = 1.0) -> None:
        """A circle's line of the given width, inside ``r``."""
        cx, cy = self.at(x, y)
        r *= self.size
        self.canvas.draw.ellipse(
            (cx - r, cy - r, cx + r, cy + r),
            outline=self.tone(rgb, k),
            width=max(1, round(width * self.size)),
        )

    def bar(
        self,
        x0: float,
        y0: float,
        x1: float,
        y1: float,
        rgb: RGB,
        k: float = 1.0,
        alpha: int = 255,
        *,
        lit: bool = True,
    ) -> None:
        """An upright rectangle."""
        ax, ay = self.at(x0, y1)
        bx, by = self.at(x1, y0)
        fill = (*(self.tone(rgb, k) if lit else shade(rgb, k)), alpha)
        self.canvas.draw.rectangle((min(ax, bx), ay, max(ax, bx), max(by, ay)), fill=fill)

    def line(
        self,
        points: Points,
        width: float,
        rgb: RGB,
        k: float = 1.0,
        alpha: int = 255,
        *,
        lit: bool = True,
    ) -> None:
        """A line through the points with round joints."""
        fill = (*(self.tone(rgb, k) if lit else shade(rgb, k)), alpha)
        self.canvas.draw.line(
            [self.at(x, y) for x, y in points],
            fill=fill,
            width=max(1, round(width * self.size)),
            joint="curve" if width * self.size > 3 else None,
        )

    def glow(self, x: float, y: float, radius: float, rgb: RGB, strength: float) -> None:
        """A soft light source."""
        cx, cy = self.at(x, y)
        self.canvas.glow(cx, cy, radius * self.size, rgb, strength)

    def stamp(
        self,
        stamp: Stamp,
        box: tuple[float, float, float, float],
        ramp: Ramp,
        *,
        alpha: float = 1.0,
    ) -> None:
        """A stamp in ``box`` (left, bottom, right, top), coloured from dark to bright."""
        ax, ay = self.at(box[0], box[3])
        bx, by = self.at(box[2], box[1])
        lit = (self.tone(ramp[0]), self.tone(ramp[1]), self.tone(ramp[2]))
        edges = (min(ax, bx), ay, max(ax, bx), by)
        self.canvas.stamp(stamp, edges, lit, alpha=alpha, flip=self.sun_side * self.facing > 0)

    def shadow(self, half: float, strength: int = 70) -> None:
        """A shadow on the ground, ``half`` to either side."""
        self.oval(0.03, 0.0, half, 0.045, (16, 18, 34), alpha=strength, lit=False)
        self.oval(0.0, 0.005, half * 0.8, 0.028, (12, 14, 28), alpha=strength, lit=False)
