"""The eight places, painted from the horizon to the viewer's feet, one function a place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin
from random import Random

import numpy as np

from .scene_canvas import RGB, Canvas, Pen, Ramp, crowns, mix, shade
from .scene_creatures import LEAVES
from .scene_grammar import Scene
from .scene_light import Mood

SNOW: RGB = (238, 244, 251)
_GRASS: dict[str, RGB] = {
    "spring": (132, 186, 84),
    "summer": (104, 160, 70),
    "autumn": (180, 154, 76),
    "winter": SNOW,
}
_WOODS: dict[str, tuple[Ramp, ...]] = {
    "spring": (((34, 84, 44), (104, 164, 74), (190, 222, 122)), ((40, 92, 50), (120, 176, 84), (206, 230, 140))),
    "summer": (((18, 58, 38), (48, 112, 56), (128, 180, 88)), ((22, 66, 40), (60, 124, 58), (146, 192, 92))),
    "autumn": (((120, 50, 18), (214, 118, 38), (250, 190, 92)), ((104, 34, 22), (186, 70, 40), (240, 142, 78)),
               ((120, 86, 20), (220, 176, 54), (250, 226, 130))),
    "winter": (((120, 140, 172), (206, 218, 234), (252, 254, 255)),),
}  # fmt: skip
_FIR: RGB = (38, 78, 62)


@dataclass
class Stage:
    """What a place is painted with; ``w``, ``h`` and ``unit`` are canvas pixels."""

    canvas: Canvas
    scene: Scene
    mood: Mood
    rng: Random

    @property
    def w(self) -> int:
        """Width."""
        return self.canvas.w

    @property
    def h(self) -> int:
        """Height."""
        return self.canvas.h

    @property
    def u(self) -> int:
        """The shorter side."""
        return self.canvas.unit

    def tone(self, rgb: RGB, k: float = 1.0, fade: float = 0.0) -> RGB:
        """A colour in this light, ``fade`` (0 to 1) of the way into the haze."""
        r, g, b = shade(rgb, k)
        t = self.mood.tint
        lit = (min(int(r * t[0]), 255), min(int(g * t[1]), 255), min(int(b * t[2]), 255))
        fade = fade + (1 - fade) * self.mood.mist * min(fade * 2.2 + 0.06, 1.0)
        return mix(lit, self.mood.haze, fade)

    def grass(self) -> RGB:
        """The colour of meadows in this season."""
        return SNOW if self.mood.snowy else _GRASS[self.scene.season]

    def ridge(self, base: float, height: float, rough: float, *, waves: float = 3.0) -> np.ndarray:
        """A skyline: ``(n, 2)`` canvas points; ``rough`` from 0 (hills) to 1 (rock)."""
        n = 96 if self.canvas.fine else 40
        x = np.linspace(0, 1, n)
        y = np.zeros(n)
        amount, frequency = 1.0, waves * self.w / self.u
        for _ in range(5 if rough else 2):
            phase = self.rng.random() * 6.283
            wave = np.sin(x * frequency * 2 + phase)
            if rough:  # sharp crests, rounded valleys
                wave = 1 - 2 * np.abs(wave) ** (1.4 - 0.5 * rough)
            y += amount * wave
            amount *= 0.30 + 0.22 * rough
            frequency *= 2.1
        y = base - height * (0.5 + 0.5 * y / 1.5)
        return np.stack([x * self.w, y], axis=1)

    def hill(self, line: np.ndarray, bottom: float, top_tone: RGB, low_tone: RGB) -> None:
        """The land under a skyline, down to ``bottom``."""
        points = [tuple(p) for p in line.tolist()]
        self.canvas.land(
            [*points, (self.w, bottom), (0, bottom)], [(0.0, top_tone), (1.0, low_tone)]
        )

    def pen(self, x: float, y: float, size: float, *, fade: float = 0.0, facing: int = 1) -> Pen:
        """A pen for scenery at a canvas position."""
        fade = fade + (1 - fade) * self.mood.mist * min(fade * 2.2, 1.0)
        return Pen(
            self.canvas,
            x,
            y,
            size,
            facing,
            tint=self.mood.tint,
            haze=self.mood.haze,
            fade=fade,
            sun_side=-1 if self.mood.sun_x < 0.5 else 1,
            seed=self.rng.randrange(1 << 30),
        )

    def fir(self, x: float, y: float, size: float, fade: float) -> None:
        """A conifer, its light side towards the sun."""
        base = mix(_FIR, SNOW, 0.25) if self.mood.snowy else _FIR
        dark, light = self.tone(base, 0.8, fade), self.tone(base, 1.12, fade)
        tip = self.tone(SNOW, 1.0, fade)
        draw, side = self.canvas.draw, -1 if self.mood.sun_x < 0.5 else 1
        draw.rectangle((x - size * 0.02, y - size * 0.12, x + size * 0.02, y),
                       fill=self.tone((80, 58, 46), 1.0, fade))  # fmt: skip
        tiers = 4 if size > 24 else 2
        for i in range(tiers):
            t = i / tiers
            low = y - size * (0.08 + 0.84 * t)
            top = y - size * (0.08 + 0.84 * (t + 1.5 / tiers)) if i < tiers - 1 else y - size
            half = size * 0.24 * (1 - 0.72 * t)
            draw.polygon([(x - half, low), (x, top), (x + half, low)], fill=dark)
            draw.polygon([(x, low - size * 0.02), (x, top), (x + side * half, low)], fill=light)
            if self.mood.snowy and size > 14:
                draw.polygon(
                    [(x - half * 0.45, low - (low - top) * 0.52), (x, top), (x + half * 0.45, low - (low - top) * 0.52)],
                    fill=tip)  # fmt: skip

    def crown(self, x: float, y: float, size: float, fade: float) -> None:
        """A bush or a far tree's crown that stands at ``y``."""
        season = "winter" if self.mood.snowy else self.scene.season
        ramp = self.rng.choice(_WOODS[season])
        dark, mid, bright = (self.tone(c, 1.0, fade) for c in ramp)
        self.canvas.stamp(
            self.rng.choice(crowns()),
            (x - size * 0.5, y - size * 0.88, x + size * 0.5, y + size * 0.12),
            (dark, mid, bright),
            flip=self.mood.sun_x > 0.5,
        )

    def tufts(self, top: float, bottom: float, colour: RGB, count: int) -> None:
        """Blades of grass, larger towards the viewer."""
        if not self.canvas.fine:
            count //= 3
        draw = self.canvas.draw
        for _ in range(count):
            t = self.rng.random() ** 0.8
            x, y = self.rng.random() * self.w, top + (bottom - top) * t
            s = self.u * (0.008 + 0.022 * t)
            c = self.tone(colour, self.rng.uniform(0.72, 1.18))
            for lean in (-0.5, 0.0, 0.45):
                draw.polygon([(x - s * 0.10, y), (x + lean * s, y - s), (x + s * 0.10, y)], fill=c)

    def blooms(self, top: float, bottom: float, colours: tuple[RGB, ...], count: int) -> None:
        """Dots of wild flowers."""
        if not self.canvas.fine:
            count //= 2
        for _ in range(count):
            t = self.rng.random()
            x, y = self.rng.random() * self.w, top + (bottom - top) * t
            r = self.u * (0.0022 + 0.0035 * t)
            c = self.tone(self.rng.choice(colours))
            self.canvas.draw.ellipse((x - r, y - r * 0.8, x + r, y + r * 0.8), fill=c)

    def glitter(self, top: float, bottom: float, count: int, strength: int = 150) -> None:
        """Where the sun or the moon breaks on water, and small waves elsewhere."""
        mood, draw = self.mood, self.canvas.draw
        if not self.canvas.fine:
            count //= 2
        bright = mix(mood.sun, mood.sky[3], 0.25) if mood.sun_shows else mood.sky[3]
        for _ in range(count):
            t = self.rng.random() ** 1.2
            y = top + (bottom - top) * t
            spread = (0.02 + 0.12 * t) if mood.sun_shows and self.rng.random() < 0.6 else 0.9
            x = self.w * (mood.sun_x + self.rng.gauss(0, spread))
            half = self.u * (0.006 + 0.035 * t) * self.rng.uniform(0.5, 1.5)
            thick = max(self.u * (0.0008 + 0.0022 * t), 0.6)
            alpha = int(strength * (1.0 if spread < 0.5 else 0.34))
            draw.ellipse((x - half, y - thick, x + half, y + thick), fill=(*bright, alpha))

    def lamp(self, x: float, y: float, size: float) -> None:
        """A street lamp, lit when it is dark."""
        pen = self.pen(x, y, size)
        iron: RGB = (46, 52, 62)
        pen.line([(0, 0), (0, 0.86)], 0.022, iron)
        pen.bar(-0.035, 0.0, 0.035, 0.08, iron)
        pen.line([(-0.05, 0.84), (0.05, 0.84)], 0.02, iron)
        lit = self.mood.lamps
        pen.shape([(-0.035, 0.85), (-0.055, 0.96), (0.055, 0.96), (0.035, 0.85)],
                  (255, 232, 170) if lit else (214, 226, 232), lit=not lit)  # fmt: skip
        pen.shape([(-0.07, 0.955), (0.0, 1.0), (0.07, 0.955)], iron)
        if lit:
            pen.glow(0, 0.90, 0.52, (255, 214, 140), 0.55)
            pen.glow(0, 0.90, 0.16, (255, 240, 206), 0.9)
            pen.oval(0, 0.0, 0.5, 0.05, (255, 214, 140), alpha=46, lit=False)


def _peaks(stage: Stage, base: float, height: float, fade: float, count: int, rock: RGB) -> None:
    """A row of mountains with a light and a dark side each, and snow on top."""
    rng, draw = stage.rng, stage.canvas.draw
    side = -1 if stage.mood.sun_x < 0.5 else 1
    xs = [(i + rng.uniform(0.2, 0.8)) / count * 1.3 - 0.15 for i in range(count)]
    rng.shuffle(xs)
    lit, dark = stage.tone(rock, 1.14, fade), stage.tone(rock, 0.80, fade)
    white, grey = stage.tone(SNOW, 1.0, fade), stage.tone((186, 200, 224), 1.0, fade)
    for x in xs:
        px, tall = x * stage.w, height * rng.uniform(0.62, 1.0)
        py = base - tall
        half = tall * rng.uniform(0.85, 1.25)
        left, right = px - half, px + half * rng.uniform(0.9, 1.1)
        steps = 7
        # The crease that parts light from shadow wanders down from the summit.
        crease = [(px, py)]
        for i in range(1, steps):
            t = i / (steps - 1)
            crease.append((px + rng.uniform(-0.07, 0.07) * tall * (0.4 + t) - side * 0.10 * tall * t,
                           py + tall * t))  # fmt: skip
        flanks: list[list[tuple[float, float]]] = []
        for end in (left, right):
            flank = [(px, py)]
            for i in range(1, steps):
                t = i / (steps - 1)
                flank.append((px + (end - px) * t + rng.uniform(-0.025, 0.025) * tall * (i < steps - 1),
                              py + tall * t ** 1.06 + rng.uniform(-0.02, 0.02) * tall))  # fmt: skip
            flanks.append(flank)
        for n, flank in enumerate(flanks):
            sunny = (n == 0) == (side < 0)
            draw.polygon([*flank, *reversed(crease)], fill=lit if sunny else dark)
            depth = 4 if stage.mood.snowy else 3
            edge = flank[:depth]
            inner = list(reversed(crease[:depth]))
            (ax, ay), (bx, by) = edge[-1], inner[0]
            ragged = []
            for i in range(1, 6):
                t = i / 6
                drop = (0.085 if i % 2 else -0.05) * tall * rng.uniform(0.5, 1.2)
                ragged.append((ax + (bx - ax) * t, ay + (by - ay) * t + drop))
            draw.polygon([*edge, *ragged, *inner], fill=white if sunny else grey)


def beach(stage: Stage) -> None:
    """Sea to the horizon, surf, and sand with a palm now and then."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    sky_line, shore = 0.46 * h, 0.665 * h
    deep = stage.tone((26, 104, 158) if not mood.night else (34, 62, 112), 1.0)
    shallow = stage.tone((92, 198, 200) if not mood.night else (58, 98, 140), 1.0)
    canvas.gradient(sky_line, shore + 0.08 * h,
                    [(0.0, mix(deep, mood.sky[3], 0.42)), (0.3, mix(deep, mood.sky[2], 0.18)),
                     (0.75, mix(deep, shallow, 0.7)), (1.0, shallow)])  # fmt: skip
    if rng.random() < 0.75:  # a headland
        end = rng.uniform(0.22, 0.42) * w
        height = rng.uniform(0.05, 0.10) * u
        left = rng.random() < 0.5
        points = [(0.0, sky_line + 2)]
        for i in range(13):
            t = i / 12
            points.append((end * t, sky_line - height * (1 - t**2.2) * rng.uniform(0.85, 1.05)))
        points.append((end, sky_line + 2))
        if not left:
            points = [(w - x, y) for x, y in points]
        canvas.land(points, [(0, stage.tone((84, 116, 92), 1.0, 0.42)),
                             (1, stage.tone((104, 122, 112), 1.0, 0.58))])  # fmt: skip
    stage.glitter(sky_line + 2, shore, 90)
    sand = (240, 216, 168)
    wet = mix(sand, (150, 130, 110), 0.55)
    phase, sweep = rng.random() * 6, rng.choice((-1, 1)) * 0.035

    def coast(offset: float, swing: float) -> list[tuple[float, float]]:
        out = []
        for i in range(25):
            t = i / 24
            y = shore + h * (offset + sweep * (t - 0.5) * 2 + swing * sin(5.5 * t + phase))
            out.append((t * w, y + 0.006 * h * sin(17 * t + phase * 2)))
        return out

    for n, offset in enumerate((-0.075, -0.045)):  # breakers
        top = coast(offset, 0.010)
        low = [(x, y + h * 0.007 * (0.6 + 0.4 * sin(x / w * 21 + n))) for x, y in top]
        canvas.draw.polygon([*top, *reversed(low)], fill=(*stage.tone((250, 253, 255)), 170))
    canvas.land([*coast(0.0, 0.014), (w, h), (0, h)], [(0, stage.tone(wet)), (1, stage.tone(wet))])
    canvas.land([*coast(0.035, 0.016), (w, h), (0, h)],
                [(0, stage.tone(sand, 0.94)), (0.25, stage.tone(sand, 1.05)), (1, stage.tone(sand, 0.84))])  # fmt: skip
    foam = coast(-0.006, 0.014)
    canvas.draw.polygon([*foam, *[(x, y + 0.013 * h) for x, y in reversed(foam)]],
                        fill=(*stage.tone((255, 255, 255)), 235))  # fmt: skip
    for _ in range(70 if canvas.fine else 16):  # ripples in the sand
        t = rng.random()
        x, y = rng.random() * w, (0.74 + 0.26 * t) * h
        half = u * (0.01 + 0.04 * t)
        dark = rng.random() < 0.6
        canvas.draw.ellipse((x - half, y - u * 0.0016, x + half, y + u * 0.0016),
                            fill=(*stage.tone(sand, 0.78 if dark else 1.2), 90))  # fmt: skip
    if rng.random() < 0.55:
        _palm(stage, rng.choice((0.05, 0.95)) * w, 0.83 * h, 0.60 * u)
    stage.tufts(0.97 * h, 1.02 * h, (150, 160, 84), 12)


def _palm(stage: Stage, x: float, y: float, size: float) -> None:
    """A leaning coconut palm."""
    pen = stage.pen(x, y, size, facing=1 if x < stage.w / 2 else -1)
    pen.oval(0.05, 0, 0.22, 0.02, (30, 24, 30), alpha=70, lit=False)
    spine = [(0.26 * t * t, 0.86 * t) for t in (0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    for i in range(5):
        pen.line([spine[i], spine[i + 1]], 0.042 - 0.004 * i, (138, 104, 76), 1.0 if i % 2 else 0.9)
    hx, hy = spine[-1]
    for i in range(9):
        a = pi * (i + 0.5) / 9
        reach = 0.33 + 0.04 * (i % 3)
        tip = (hx + reach * cos(a), hy + 0.20 * sin(a) - 0.16 * abs(cos(a)) * 1.2)
        bend = (hx + 0.55 * reach * cos(a), hy + 0.15 + 0.10 * sin(a))
        low = (hx + 0.5 * reach * cos(a), hy + 0.07 + 0.06 * sin(a))
        pen.shape([(hx, hy), bend, tip, low], (58, 122, 62), 0.75 + 0.06 * i)
    for dx in (-0.02, 0.02):
        pen.oval(hx + dx, hy - 0.015, 0.022, 0.022, (112, 76, 48))


def forest(stage: Stage) -> None:
    """Trunks behind trunks into the mist, a path, ferns, and rays where the sun gets in."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    season = "winter" if mood.snowy else stage.scene.season
    ground: RGB = {"winter": SNOW, "autumn": (172, 108, 56)}.get(season, (92, 132, 64))
    glow = stage.tone({"autumn": (246, 206, 140), "winter": (214, 226, 242)}.get(
        season, (186, 216, 150)), 1.0, 0.35)  # fmt: skip
    canvas.draw.rectangle((0, int(0.34 * h), w, h), fill=glow)
    canvas.veil(glow, [(0, 0.25), (0.34, 0.92), (0.4, 1), (1, 1)])
    for layer in range(4):
        fade = (0.72, 0.52, 0.30, 0.10)[layer]
        base = (0.60, 0.635, 0.675, 0.715)[layer] * h
        size = (0.50, 0.64, 0.80, 1.02)[layer] * u
        line = stage.ridge(base, 0.02 * h, 0.0)
        stage.hill(line, h, stage.tone(ground, 0.92, fade), stage.tone(ground, 0.82, fade * 0.6))
        count = max(3, int((11, 9, 7, 4)[layer] * w / u / 1.3))
        for i in range(count):
            x = (i + rng.uniform(0.15, 0.85)) / count * w
            if layer == 3 and abs(x / w - 0.5) < 0.30:  # leave the subjects their clearing
                continue
            y = base + rng.uniform(-0.01, 0.012) * h
            if rng.random() < 0.5 and layer < 3:
                stage.fir(x, y, size * rng.uniform(0.75, 1.1), fade)
                continue
            half = size * 0.026 * rng.uniform(0.7, 1.3)
            bark = (92, 72, 58) if rng.random() < 0.75 else (206, 200, 190)
            top = y - size * 1.1
            canvas.draw.polygon([(x - half * 1.5, y), (x - half, y - size * 0.1), (x - half * 0.7, top),
                                 (x + half * 0.7, top), (x + half, y - size * 0.1), (x + half * 1.5, y)],
                                fill=stage.tone(bark, 0.8, fade))  # fmt: skip
            lit = half if mood.sun_x > 0.5 else -half
            canvas.draw.polygon([(x + lit, y - size * 0.1), (x + lit * 0.7, top), (x + lit * 0.25, top),
                                 (x + lit * 0.3, y - size * 0.1)],
                                fill=stage.tone(bark, 1.12, fade))  # fmt: skip
            for _ in range(2 if canvas.fine or layer > 1 else 1):
                cx, cy = x + rng.uniform(-0.14, 0.14) * size, y - size * rng.uniform(0.52, 0.86)
                stage.crown(cx, cy, size * rng.uniform(0.40, 0.60), fade)
    if mood.sun_shows and not mood.night:
        sx, sy = mood.sun_x * w, -0.05 * h
        for i in range(5):
            a = (0.28 + 0.13 * i) * (1 if mood.sun_x < 0.5 else -1)
            reach, half = 0.95 * h, (0.018 + 0.012 * (i % 2)) * w
            ex = sx + reach * a * 1.25
            canvas.draw.polygon([(sx - half * 0.3, sy), (sx + half * 0.3, sy), (ex + half * 2, reach),
                                 (ex - half * 2, reach)], fill=(*mood.sun, 26))  # fmt: skip
    floor = stage.ridge(0.725 * h, 0.02 * h, 0.0)
    stage.hill(floor, h, stage.tone(ground, 1.04), stage.tone(ground, 0.66))
    path = stage.tone(SNOW if mood.snowy else (176, 146, 108), 0.94)
    bend = rng.uniform(0.35, 0.65) * w
    canvas.draw.polygon([(bend - 0.02 * w, 0.725 * h), (bend + 0.02 * w, 0.725 * h),
                         (0.56 * w, 0.80 * h), (0.80 * w, h), (0.28 * w, h), (0.42 * w, 0.80 * h)],
                        fill=(*path, 150))  # fmt: skip
    for x in (-0.02, 0.10, 0.90, 1.02):
        stage.crown(x * w, (0.80 + rng.uniform(-0.03, 0.03)) * h, 0.20 * u, 0.0)
    if not mood.snowy:
        leaf = (206, 120, 50) if season == "autumn" else (96, 150, 70)
        stage.tufts(0.76 * h, 1.01 * h, leaf, 80)
        if season == "autumn":
            stage.blooms(0.75 * h, h, ((230, 120, 40), (214, 70, 40), (246, 196, 70)), 110)
        elif season == "spring":
            stage.blooms(0.75 * h, h, ((250, 250, 250), (190, 150, 240)), 70)


_WALLS: tuple[RGB, ...] = (
    (202, 178, 152), (186, 158, 142), (168, 172, 178), (210, 196, 172), (152, 142, 144),
    (184, 188, 180), (196, 166, 146), (138, 146, 158),
)  # fmt: skip


def city(stage: Stage) -> None:
    """A far skyline, a row of town houses with shops, the pavement, and the road."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    draw = canvas.draw
    curb, road = 0.70 * h, 0.80 * h
    canvas.gradient(0.5 * h, curb, [(0, mood.sky[3]), (1, stage.tone((176, 180, 188), 1.0, 0.5))])
    for fade, tall, base in ((0.70, 0.40, (128, 136, 156)), (0.48, 0.30, (112, 116, 136))):
        x = -0.05 * w
        while x < w:
            width = u * rng.uniform(0.07, 0.16)
            top = curb - u * tall * rng.uniform(0.55, 1.25)
            wall = stage.tone(base, 1.0, fade)
            draw.rectangle((x, top, x + width, curb), fill=wall)
            draw.rectangle((x, top, x + width * 0.35, curb), fill=stage.tone(base, 1.1, fade))
            if rng.random() < 0.3:
                draw.line((x + width / 2, top, x + width / 2, top - 0.05 * u), fill=wall,
                          width=max(1, int(0.004 * u)))  # fmt: skip
            if mood.lamps:
                step = 0.022 * u
                for _ in range(14 if canvas.fine else 5):
                    wx = x + step * 0.4 + step * rng.randrange(max(1, int(width / step) - 1))
                    wy = top + step * (0.5 + rng.randrange(max(1, int((curb - top) / step) - 1)))
                    draw.rectangle(
                        (wx, wy, wx + step * 0.45, wy + step * 0.5), fill=(255, 214, 140, 150)
                    )
            x += width * rng.uniform(0.9, 1.4)
    x = -0.08 * u
    while x < w:
        width = u * rng.uniform(0.22, 0.34)
        if rng.random() < 0.16:  # a gap through which the skyline shows
            x += width * 0.6
            continue
        _town_house(stage, x, curb, width, u * rng.uniform(0.34, 0.56))
        x += width
    stone = (196, 192, 188) if not mood.snowy else (232, 238, 246)
    canvas.gradient(curb, road, [(0, stage.tone(stone, 0.78)), (1, stage.tone(stone, 1.0))])
    for i in range(int(2.2 * w / u * 5) if canvas.fine else 0):
        px = (i + 0.5) * u * 0.09
        draw.line((px, curb, px + (px - w / 2) * 0.22, road), fill=(*stage.tone(stone, 0.7), 120),
                  width=max(1, u // 500))  # fmt: skip
    draw.rectangle((0, road - 0.006 * h, w, road + 0.008 * h), fill=stage.tone(stone, 0.62))
    tar = (84, 86, 96) if not mood.snowy else (190, 198, 210)
    canvas.gradient(road + 0.008 * h, h, [(0, stage.tone(tar, 1.05)), (1, stage.tone(tar, 0.72))])
    step = 0.22 * u
    for i in range(-1, int(w / step) + 2):
        px = i * step + 0.05 * u
        draw.polygon([(px, 0.935 * h), (px + step * 0.5, 0.935 * h), (px + step * 0.47, 0.95 * h),
                      (px - step * 0.06, 0.95 * h)], fill=(*stage.tone((244, 240, 226)), 190))  # fmt: skip
    offset = rng.uniform(0.0, 0.3)
    for i in range(3):
        stage.lamp((offset + i * 0.36) * w, 0.725 * h, 0.36 * u)


def _town_house(stage: Stage, x: float, base: float, width: float, height: float) -> None:
    """One facade with rows of windows above a shop with an awning."""
    rng, mood, canvas = stage.rng, stage.mood, stage.canvas
    draw, u = canvas.draw, stage.u
    wall = rng.choice(_WALLS)
    top = base - height
    draw.rectangle((x, top, x + width, base), fill=stage.tone(wall, 0.97, 0.08))
    draw.rectangle((x + width * 0.94, top, x + width, base), fill=stage.tone(wall, 0.76, 0.08))
    eaves = stage.tone(SNOW, 0.98) if mood.snowy else stage.tone(wall, 0.66)
    if rng.random() < 0.45:
        peak = 0.06 * u
        roof = SNOW if mood.snowy else (118, 84, 78)
        draw.polygon([(x, top), (x + width * 0.12, top - peak), (x + width * 0.88, top - peak),
                      (x + width, top)], fill=stage.tone(roof, 0.96, 0.08))  # fmt: skip
    draw.rectangle(
        (x - width * 0.02, top - 0.012 * u, x + width * 1.02, top + 0.006 * u), fill=eaves
    )
    shop = 0.125 * u
    rows = max(2, int((height - shop) / (0.105 * u)))
    columns = max(2, int(width / (0.085 * u)))
    cell_w, cell_h = width / columns, (height - shop) / rows
    for r in range(rows):
        for c in range(columns):
            left, up = x + cell_w * (c + 0.28), top + cell_h * (r + 0.22)
            right, low = left + cell_w * 0.44, up + cell_h * 0.58
            lit = mood.lamps and rng.random() < 0.55
            glass = (255, rng.randint(196, 226), rng.randint(112, 160)) if lit else stage.tone(
                (92, 116, 140), rng.uniform(0.8, 1.15), 0.05)  # fmt: skip
            if canvas.fine:
                draw.rectangle((left - 0.004 * u, up - 0.004 * u, right + 0.004 * u, low + 0.006 * u),
                               fill=stage.tone(wall, 1.22))  # fmt: skip
            draw.rectangle((left, up, right, low), fill=glass)
            if canvas.fine and not lit:
                draw.polygon([(left, low), (left, up), (right, up)], fill=(255, 255, 255, 26))
            if canvas.fine:
                draw.line(((left + right) / 2, up, (left + right) / 2, low),
                          fill=stage.tone(wall, 0.8), width=max(1, u // 480))  # fmt: skip
    front = base - shop * 0.72
    lit = mood.lamps
    glass = (255, 222, 150) if lit else stage.tone((86, 104, 122))
    draw.rectangle((x + width * 0.07, front, x + width * 0.66, base - 0.012 * u), fill=glass)
    draw.rectangle((x + width * 0.72, front, x + width * 0.88, base), fill=stage.tone((76, 60, 54)))
    awning = rng.choice(((150, 70, 66), (70, 104, 96), (84, 92, 128), (168, 130, 72)))
    for i in range(6):
        a, b = x + width * (0.04 + 0.11 * i), x + width * (0.04 + 0.11 * (i + 1))
        tone = stage.tone(awning if i % 2 else (236, 228, 214), 0.95)
        draw.polygon([(a + width * 0.02, front - 0.030 * u), (b + width * 0.02, front - 0.030 * u),
                      (b, front + 0.012 * u), (a, front + 0.012 * u)], fill=tone)  # fmt: skip
    if lit:
        canvas.glow(x + width * 0.36, base, 0.16 * u, (255, 220, 150), 0.35)


def mountains(stage: Stage) -> None:
    """Snow-capped peaks behind fir-grown slopes and a meadow."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    base = 0.60 * h
    canvas.gradient(0.45 * h, 0.75 * h, [(0, mood.sky[3]), (1, mood.haze)])
    wide = w / u
    _peaks(stage, base, 0.34 * u, 0.62, max(3, round(3.5 * wide)), (116, 124, 156))
    _peaks(stage, base, 0.42 * u, 0.26, max(2, round(2.2 * wide)), (112, 110, 134))
    slope = stage.ridge(0.615 * h, 0.09 * u, 0.0, waves=2.0)
    far = SNOW if mood.snowy else (86, 122, 88)
    stage.hill(slope, 0.8 * h, stage.tone(far, 0.9, 0.30), stage.tone(far, 0.8, 0.2))
    step = max(1, len(slope) // int(34 * wide if canvas.fine else 18 * wide))
    for i in range(0, len(slope), step):
        x, y = slope[i]
        stage.fir(
            x + rng.uniform(-0.01, 0.01) * w, y + 0.02 * u, u * rng.uniform(0.055, 0.10), 0.26
        )
    near = stage.ridge(0.685 * h, 0.07 * u, 0.0, waves=1.6)
    grass = stage.grass()
    stage.hill(near, h, stage.tone(grass, 1.0, 0.06), stage.tone(grass, 0.70))
    for _ in range(int(9 * wide)):
        x = rng.random()
        if abs(x - 0.5) > 0.22:
            y = near[int(x * (len(near) - 1))][1]
            stage.fir(x * w, y + rng.uniform(0.01, 0.04) * u, u * rng.uniform(0.10, 0.17), 0.08)
    _meadow(stage, 0.72 * h)


def _meadow(stage: Stage, top: float) -> None:
    """Grass and the season's flowers down to the lower edge."""
    if stage.mood.snowy:
        for _ in range(40 if stage.canvas.fine else 12):  # drifts
            t = stage.rng.random()
            x, y = stage.rng.random() * stage.w, top + (stage.h - top) * t
            half = stage.u * (0.03 + 0.09 * t)
            stage.canvas.draw.ellipse((x - half, y - half * 0.05, x + half, y + half * 0.07),
                                      fill=(*stage.tone((206, 218, 236)), 110))  # fmt: skip
        return
    grass = stage.grass()
    stage.tufts(top, stage.h * 1.01, grass, 120)
    colours: dict[str, tuple[RGB, ...]] = {
        "spring": ((255, 255, 250), (255, 226, 110), (236, 170, 220)),
        "summer": ((255, 250, 240), (250, 214, 90), (170, 140, 230)),
    }
    if stage.scene.season in colours:
        stage.blooms(top, stage.h, colours[stage.scene.season], 110)


def desert(stage: Stage) -> None:
    """Table mountains in the haze, and dunes with a light and a dark side."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    line = 0.53 * h
    sand: RGB = (236, 176, 104)
    canvas.gradient(0.45 * h, 0.62 * h, [(0, mood.sky[3]), (1, stage.tone(sand, 1.0, 0.6))])
    for _ in range(rng.randint(2, 4)):
        x, half, tall = rng.random() * w, u * rng.uniform(0.06, 0.18), u * rng.uniform(0.06, 0.16)
        rock = (176, 104, 84)
        fade = rng.uniform(0.35, 0.6)
        points = [(x - half * 1.35, line), (x - half * 1.05, line - tall * 0.42), (x - half * 0.92, line - tall * 0.5),
                  (x - half * 0.84, line - tall), (x + half * 0.7, line - tall * 0.97), (x + half * 0.8, line - tall * 0.5),
                  (x + half * 1.0, line - tall * 0.4), (x + half * 1.3, line)]  # fmt: skip
        canvas.land(
            points, [(0, stage.tone(rock, 1.08, fade)), (1, stage.tone(rock, 0.9, fade + 0.15))]
        )
        dark = 1 if mood.sun_x < 0.5 else -1
        canvas.draw.polygon([(x + dark * half * 0.2, line), (x + dark * half * 0.3, line - tall * 0.97),
                             (x + dark * half * 0.72, line - tall * 0.97), (x + dark * half * 0.85, line - tall * 0.45),
                             (x + dark * half * 1.25, line)],
                            fill=(*stage.tone(rock, 0.66, fade), 120))  # fmt: skip
    side = -1 if mood.sun_x < 0.5 else 1
    for n, (base, tall, fade) in enumerate(((0.56, 0.05, 0.42), (0.60, 0.08, 0.26), (0.655, 0.10, 0.12),
                                            (0.73, 0.10, 0.0))):  # fmt: skip
        crest = stage.ridge(base * h, tall * u, 0.0, waves=1.1 + 0.25 * (3 - n))
        stage.hill(crest, h, stage.tone(sand, 1.06, fade), stage.tone(sand, 0.80, fade * 0.6))
        # Each summit throws one flank into shadow, along a crest line that curls to the viewer.
        ys = crest[:, 1]
        tops = [i for i in range(2, len(ys) - 2) if ys[i] < ys[i - 1] and ys[i] <= ys[i + 1]]
        for i in tops:
            x0, y0 = crest[i]
            j = i
            while 0 < j < len(ys) - 1 and ys[j - side] >= ys[j]:
                j -= side
            x1, y1 = crest[j]
            fall = (0.05 + 0.10 * n) * u
            flank = [tuple(p) for p in (crest[min(i, j) : max(i, j) + 1].tolist())]
            if len(flank) < 3:
                continue
            if j < i:
                flank.reverse()
            bow = [(x0 + (x1 - x0) * (0.12 + 0.9 * t) + (1 - t) * 0.05 * u * -side,
                    y0 + (y1 + fall - y0) * t**0.8) for t in (1.0, 0.8, 0.6, 0.4, 0.2)]  # fmt: skip
            canvas.draw.polygon([*flank, *bow], fill=(*stage.tone((176, 104, 70), 0.95, fade), 150))
    for _ in range(46 if canvas.fine else 12):
        t = rng.random()
        x, y = rng.random() * w, (0.76 + 0.24 * t) * h
        half = u * (0.03 + 0.09 * t)
        canvas.draw.arc((x - half, y, x + half, y + half * 0.22), 200, 340,
                        fill=(*stage.tone(sand, 0.72), 110), width=max(1, int(u * 0.0024)))  # fmt: skip
    stage.tufts(0.75 * h, h, (150, 138, 84), 10)


def lake(stage: Stage) -> None:
    """Mountains and woods mirrored in still water, with reeds on the near shore."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    line = 0.50 * h
    wide = w / u
    canvas.gradient(0.44 * h, line, [(0, mood.sky[3]), (1, mood.haze)])
    _peaks(stage, line, 0.26 * u, 0.58, max(3, round(2.6 * wide)), (110, 124, 152))
    hills = stage.ridge(line - 0.005 * h, 0.11 * u, 0.0, waves=2.0)
    far = SNOW if mood.snowy else (80, 116, 92)
    stage.hill(hills, line, stage.tone(far, 0.95, 0.42), stage.tone(far, 0.8, 0.3))
    count = int((30 if canvas.fine else 15) * wide)
    for i in range(count):
        x = (i + rng.random()) / count * w
        if rng.random() < 0.55:
            stage.fir(x, line, u * rng.uniform(0.05, 0.085), 0.24)
        else:
            stage.crown(x, line, u * rng.uniform(0.05, 0.085), 0.22)
    _water(stage, line, 0.90 * h, 0.68)
    shore = stage.ridge(0.865 * h, 0.03 * h, 0.0, waves=1.2)
    grass = stage.grass()
    stage.hill(shore, h, stage.tone(grass, 0.95), stage.tone(grass, 0.62))
    rim = [tuple(p) for p in shore.tolist()]
    canvas.draw.line(
        rim, fill=(*stage.tone((120, 104, 84), 0.8), 200), width=max(1, int(0.006 * u))
    )
    for _ in range(int((60 if canvas.fine else 24) * wide)):  # reeds, away from the middle
        x = rng.choice((rng.gauss(0.03, 0.06), rng.gauss(0.97, 0.06)))
        y = (0.89 + rng.uniform(-0.02, 0.03)) * h
        s, lean = u * rng.uniform(0.06, 0.13), rng.uniform(-0.25, 0.25)
        reed = (214, 206, 176) if mood.snowy else (104, 132, 66)
        canvas.draw.line((x * w, y, x * w + lean * s, y - s), fill=stage.tone(reed, rng.uniform(0.7, 1.1)),
                         width=max(1, int(0.0035 * u)))  # fmt: skip
    _meadow(stage, 0.91 * h)


def _water(stage: Stage, top: float, bottom: float, strength: float) -> None:
    """The mirror, deepening towards the viewer, and what glitters on it."""
    mood, canvas = stage.mood, stage.canvas
    tint = stage.tone((52, 108, 140) if not mood.night else (40, 62, 110))
    rough = {"rain": 0.010, "snow": 0.006}.get(stage.scene.weather, 0.0045)
    if stage.scene.weather in ("rain", "fog", "snow"):
        strength *= 0.7
    canvas.mirror(top, bottom, tint, strength, rough, stage.scene.seed)
    for i in range(8):  # darker towards the viewer
        y = top + (bottom - top) * (0.30 + 0.7 * i / 8)
        canvas.draw.rectangle((0, y, stage.w, bottom), fill=(*shade(tint, 0.55), 15))
    canvas.draw.line((0, top, stage.w, top), fill=(*mood.sky[3], 120), width=max(1, stage.u // 300))
    stage.glitter(top, bottom, 90)


def fields(stage: Stage) -> None:
    """Rolling land in strips, hedges and a farm track."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    wide = w / u
    canvas.gradient(0.44 * h, 0.6 * h, [(0, mood.sky[3]), (1, mood.haze)])
    grass = stage.grass()
    crops: tuple[RGB, ...] = {
        "spring": ((146, 194, 90), (236, 214, 76), (112, 170, 80)),
        "summer": ((226, 194, 98), (120, 168, 74), (168, 190, 86)),
        "autumn": ((196, 152, 82), (150, 112, 70), (178, 160, 84)),
        "winter": (SNOW, (226, 234, 244), SNOW),
    }["winter" if mood.snowy else stage.scene.season]
    levels = ((0.525, 0.05, 0.56), (0.555, 0.06, 0.40), (0.60, 0.07, 0.24), (0.655, 0.07, 0.10))
    for n, (base, tall, fade) in enumerate(levels):
        line = stage.ridge(base * h, tall * u, 0.0, waves=1.5)
        crop = crops[(n + stage.scene.seed) % len(crops)]
        stage.hill(line, h, stage.tone(crop, 1.04, fade), stage.tone(crop, 0.84, fade * 0.6))
        if n and canvas.fine or n == 3:  # furrows run towards one far point
            vanish = rng.uniform(0.1, 0.9) * w
            for i in range(int(11 * wide)):
                x = (i / (11 * wide)) * w * 1.6 - 0.3 * w
                k = min(
                    max(int(vanish / w * (len(line) - 1) + (x - vanish) / w * 30), 0), len(line) - 1
                )
                canvas.draw.line((line[k][0], line[k][1] + 1, x, line[k][1] + (0.10 + 0.04 * n) * h),
                                 fill=(*stage.tone(crop, 0.80, fade), 110),
                                 width=max(1, int(u * (0.0015 + 0.0012 * n))))  # fmt: skip
        count = int((13, 10, 7, 4)[n] * wide)
        for _ in range(count):
            x = rng.random()
            if n == 3 and abs(x - 0.5) < 0.32:
                continue
            y = line[int(x * (len(line) - 1))][1]
            stage.crown(x * w, y + 0.008 * u, u * (0.035 + 0.016 * n) * rng.uniform(0.7, 1.4), fade)
    near = stage.ridge(0.70 * h, 0.05 * u, 0.0, waves=1.0)
    stage.hill(near, h, stage.tone(grass, 1.04), stage.tone(grass, 0.66))
    track = stage.tone(SNOW if mood.snowy else (206, 178, 132), 0.95)
    bend = rng.uniform(0.2, 0.8)
    k = int(bend * (len(near) - 1))
    canvas.draw.polygon([(bend * w - 0.008 * u, near[k][1]), (bend * w + 0.012 * u, near[k][1]),
                         (0.52 * w + 0.04 * u, 0.80 * h), (0.60 * w, h), (0.36 * w, h),
                         (0.48 * w - 0.03 * u, 0.80 * h)], fill=(*track, 150))  # fmt: skip
    _meadow(stage, 0.72 * h)


def harbour(stage: Stage) -> None:
    """A row of gabled houses on the far quay, masts, water, and the stones of this one."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    draw, line = canvas.draw, 0.52 * h
    canvas.gradient(0.42 * h, line, [(0, mood.sky[3]), (1, mood.haze)])
    hills = stage.ridge(0.49 * h, 0.15 * u, 0.0, waves=1.6)
    land = SNOW if mood.snowy else (92, 118, 104)
    stage.hill(hills, line, stage.tone(land, 0.95, 0.55), stage.tone(land, 0.85, 0.45))
    walls: tuple[RGB, ...] = ((196, 120, 96), (222, 194, 138), (226, 220, 206), (150, 164, 168),
                              (204, 160, 116), (172, 132, 112))  # fmt: skip
    x = -0.03 * u
    while x < w:
        width, tall = u * rng.uniform(0.075, 0.115), u * rng.uniform(0.10, 0.15)
        wall = rng.choice(walls)
        top, peak = line - tall, line - tall - width * rng.uniform(0.42, 0.62)
        draw.rectangle((x, top, x + width, line), fill=stage.tone(wall, 1.0, 0.14))
        draw.polygon(
            [(x, top), (x + width / 2, peak), (x + width, top)], fill=stage.tone(wall, 1.0, 0.14)
        )
        draw.line((x, top, x + width / 2, peak, x + width, top), width=max(1, int(0.009 * u)),
                  fill=stage.tone(SNOW if mood.snowy else (110, 78, 74), 1.0, 0.14))  # fmt: skip
        draw.rectangle((x + width * 0.93, top, x + width, line), fill=stage.tone(wall, 0.75, 0.14))
        rows = max(2, int(tall / (0.042 * u)))
        for r in range(rows):
            for c in range(3):
                if r == rows - 1 and c == 1:
                    draw.rectangle((x + width * 0.42, line - 0.036 * u, x + width * 0.60, line),
                                   fill=stage.tone((90, 62, 52), 1.0, 0.1))  # fmt: skip
                    continue
                wx = x + width * (0.14 + 0.28 * c)
                wy = top + tall * (r + 0.2) / rows
                lit = mood.lamps and rng.random() < 0.6
                glass = (255, 216, 140) if lit else stage.tone((94, 112, 130), 1.0, 0.1)
                draw.rectangle((wx, wy, wx + width * 0.15, wy + tall * 0.5 / rows), fill=glass)
        x += width * rng.choice((1.0, 1.0, 1.02, 1.12))
    draw.rectangle(
        (0, line - 0.012 * h, w, line + 0.006 * h), fill=stage.tone((128, 118, 110), 0.9, 0.1)
    )
    for _ in range(int(5 * w / u)):  # moored boats, far off
        mx, tall = rng.random() * w, u * rng.uniform(0.09, 0.17)
        draw.line((mx, line + 0.008 * h, mx, line - tall), fill=stage.tone((230, 222, 208), 0.9, 0.1),
                  width=max(1, int(0.0032 * u)))  # fmt: skip
        draw.polygon([(mx - 0.035 * u, line - 0.005 * u), (mx + 0.04 * u, line - 0.007 * u),
                      (mx + 0.028 * u, line + 0.012 * u), (mx - 0.028 * u, line + 0.012 * u)],
                     fill=stage.tone((222, 222, 220), 0.9, 0.1))  # fmt: skip
        if mood.lamps and canvas.fine:
            canvas.glow(mx, line - tall, 0.02 * u, (255, 244, 200), 0.8)
    _water(stage, line + 0.006 * h, 0.84 * h, 0.62)
    quay, edge = (158, 148, 138), 0.825 * h
    if mood.snowy:
        quay = (220, 226, 236)
    canvas.gradient(edge, h, [(0, stage.tone(quay, 1.02)), (1, stage.tone(quay, 0.74))])
    draw.rectangle((0, edge, w, edge + 0.016 * h), fill=stage.tone(quay, 1.22))
    draw.rectangle((0, edge + 0.016 * h, w, edge + 0.022 * h), fill=stage.tone(quay, 0.62))
    if canvas.fine:
        for r in range(4):
            y0 = edge + (0.022 + 0.036 * r * (1 + 0.25 * r)) * h
            y1 = edge + (0.022 + 0.036 * (r + 1) * (1 + 0.25 * (r + 1))) * h
            draw.line((0, y0, w, y0), fill=(*stage.tone(quay, 0.7), 150), width=max(1, u // 400))
            for i in range(int(6 * w / u) + 1):
                px = (i + 0.5 * (r % 2)) * u * 0.18
                draw.line((px, y0, px + (px - w / 2) * 0.06, y1), fill=(*stage.tone(quay, 0.7), 130),
                          width=max(1, u // 400))  # fmt: skip
    for i in range(3):
        pen = stage.pen((0.07 + 0.43 * i) * w, edge + 0.022 * h, 0.055 * u)
        pen.oval(0.1, 0.0, 0.55, 0.10, (20, 20, 30), alpha=90, lit=False)
        pen.bar(-0.26, 0.0, 0.26, 0.78, (58, 60, 68))
        pen.oval(0, 0.82, 0.42, 0.18, (74, 76, 86))


LANDS: dict[str, Callable[[Stage], None]] = {
    "beach": beach,
    "forest": forest,
    "city street": city,
    "mountains": mountains,
    "desert": desert,
    "lake": lake,
    "fields": fields,
    "harbour": harbour,
}
__all__ = ["LANDS", "LEAVES", "SNOW", "Stage"]
