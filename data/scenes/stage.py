"""Tools for drawing places: lit colours, skylines, trees, grass, water and lamps."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from .canvas import RGB, Canvas, Pen, Ramp, crowns, mix, shade
from .light import Mood
from .scene import Scene

# One point per line would hide the shapes.
# fmt: off

SNOW: RGB = (238, 244, 251)
_GRASS: dict[str, RGB] = {
    "spring": (132, 186, 84),
    "summer": (104, 160, 70),
    "autumn": (180, 154, 76),
    "winter": SNOW,
}
_WOODS: dict[str, tuple[Ramp, ...]] = {
    "spring": (((34, 84, 44), (104, 164, 74), (190, 222, 122)), ((40, 92, 50), (120, 176, 84),
        (206, 230, 140))),
    "summer": (((18, 58, 38), (48, 112, 56), (128, 180, 88)), ((22, 66, 40), (60, 124, 58), (146,
        192, 92))),
    "autumn": (((120, 50, 18), (214, 118, 38), (250, 190, 92)), ((104, 34, 22), (186, 70, 40),
        (240, 142, 78)),
               ((120, 86, 20), (220, 176, 54), (250, 226, 130))),
    "winter": (((120, 140, 172), (206, 218, 234), (252, 254, 255)),),
}
_FIR: RGB = (38, 78, 62)


@dataclass
class Stage:
    """Draws the scenery of a place; ``w``, ``h`` and ``u`` are canvas pixels."""

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
        """A colour in this light, mixed with haze by ``fade`` (0 to 1)."""
        r, g, b = shade(rgb, k)
        t = self.mood.tint
        lit = (min(int(r * t[0]), 255), min(int(g * t[1]), 255), min(int(b * t[2]), 255))
        fade = fade + (1 - fade) * self.mood.mist * min(fade * 2.2 + 0.06, 1.0)
        return mix(lit, self.mood.haze, fade)

    def grass(self) -> RGB:
        """The colour of grass in this season."""
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
        """A conifer, lit from the sun's side."""
        base = mix(_FIR, SNOW, 0.25) if self.mood.snowy else _FIR
        dark, light = self.tone(base, 0.8, fade), self.tone(base, 1.12, fade)
        tip = self.tone(SNOW, 1.0, fade)
        draw, side = self.canvas.draw, -1 if self.mood.sun_x < 0.5 else 1
        draw.rectangle((x - size * 0.02, y - size * 0.12, x + size * 0.02, y),
                       fill=self.tone((80, 58, 46), 1.0, fade))
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
                    [(x - half * 0.45, low - (low - top) * 0.52), (x, top), (x + half * 0.45,
                        low - (low - top) * 0.52)],
                    fill=tip)

    def crown(self, x: float, y: float, size: float, fade: float) -> None:
        """A bush or a distant tree's crown at ``y``."""
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
        """Reflections of the sun or moon on water, and small waves."""
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
                  (255, 232, 170) if lit else (214, 226, 232), lit=not lit)
        pen.shape([(-0.07, 0.955), (0.0, 1.0), (0.07, 0.955)], iron)
        if lit:
            pen.glow(0, 0.90, 0.52, (255, 214, 140), 0.55)
            pen.glow(0, 0.90, 0.16, (255, 240, 206), 0.9)
            pen.oval(0, 0.0, 0.5, 0.05, (255, 214, 140), alpha=46, lit=False)


def draw_peaks(stage: Stage, base: float, height: float, fade: float, count: int,
    rock: RGB) -> None:
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
        # The ridge between the lit and the dark side, from the summit down.
        crease = [(px, py)]
        for i in range(1, steps):
            t = i / (steps - 1)
            crease.append((px + rng.uniform(-0.07,
                0.07) * tall * (0.4 + t) - side * 0.10 * tall * t,
                           py + tall * t))
        flanks: list[list[tuple[float, float]]] = []
        for end in (left, right):
            flank = [(px, py)]
            for i in range(1, steps):
                t = i / (steps - 1)
                flank.append((px + (end - px) * t + rng.uniform(-0.025,
                    0.025) * tall * (i < steps - 1),
                              py + tall * t ** 1.06 + rng.uniform(-0.02, 0.02) * tall))
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


def draw_meadow(stage: Stage, top: float) -> None:
    """Grass and the season's flowers down to the lower edge."""
    if stage.mood.snowy:
        for _ in range(40 if stage.canvas.fine else 12):  # drifts
            t = stage.rng.random()
            x, y = stage.rng.random() * stage.w, top + (stage.h - top) * t
            half = stage.u * (0.03 + 0.09 * t)
            stage.canvas.draw.ellipse((x - half, y - half * 0.05, x + half, y + half * 0.07),
                                      fill=(*stage.tone((206, 218, 236)), 110))
        return
    grass = stage.grass()
    stage.tufts(top, stage.h * 1.01, grass, 120)
    colours: dict[str, tuple[RGB, ...]] = {
        "spring": ((255, 255, 250), (255, 226, 110), (236, 170, 220)),
        "summer": ((255, 250, 240), (250, 214, 90), (170, 140, 230)),
    }
    if stage.scene.season in colours:
        stage.blooms(top, stage.h, colours[stage.scene.season], 110)


def draw_water(stage: Stage, top: float, bottom: float, strength: float) -> None:
    """Reflecting water, darker towards the viewer, with glitter."""
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
