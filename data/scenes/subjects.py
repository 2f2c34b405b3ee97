"""Draws vehicles, aircraft and buildings, one function per kind.

Each takes a ``Pen`` whose origin is the middle of the subject's foot and whose unit is its height,
the subject's colour, and the ``Look`` of the scene. ``creatures`` draws the other kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import cos, pi, sin

from .canvas import RGB, Pen, mix, shade, smooth

# One point per line would hide the shapes.
# fmt: off

PAINT: dict[str, RGB] = {
    "red": (210, 38, 38),
    "orange": (242, 132, 28),
    "yellow": (252, 206, 44),
    "green": (52, 148, 74),
    "blue": (38, 98, 204),
    "purple": (128, 66, 176),
    "pink": (246, 138, 176),
    "white": (250, 248, 242),
    "black": (40, 40, 48),
    "brown": (136, 84, 46),
    "grey": (144, 147, 154),
}
CREAM: RGB = (250, 242, 222)
GLASS: RGB = (150, 192, 216)
LAMP: RGB = (255, 222, 140)
RUBBER: RGB = (34, 34, 40)
STEEL: RGB = (176, 182, 190)
TIMBER: RGB = (122, 84, 54)


@dataclass(frozen=True)
class Look:
    """How time, weather and season affect a subject: darkness, lit lamps, snow cover, wind."""

    night: bool = False
    lamps: bool = False
    snowy: bool = False
    windy: bool = False


def _dome(cx: float, cy: float, rx: float, ry: float, n: int = 14) -> list[tuple[float, float]]:
    """The upper half of an ellipse."""
    return [(cx + rx * cos(pi * i / n), cy + ry * sin(pi * i / n)) for i in range(n + 1)]


_CAR_BODY = smooth(
    [(-1.12, 0.20), (-1.17, 0.40), (-1.10, 0.56), (-0.78, 0.62), (-0.50, 0.90), (-0.28, 0.99),
     (0.12, 0.99), (0.36, 0.90), (0.66, 0.62), (1.02, 0.55), (1.15, 0.42), (1.15, 0.22),
     (0.90, 0.16), (-0.90, 0.16)]
)


def car(pen: Pen, paint: RGB, look: Look) -> None:
    """A small rounded car; at night its lamps are lit."""
    pen.shadow(1.2, 110)
    if look.lamps:
        beam = [(1.1, 0.46), (3.3, 0.62), (3.5, -0.12), (1.1, 0.34)]
        pen.shape(beam, (255, 236, 170), alpha=34, lit=False)
        pen.shape([(1.1, 0.44), (2.7, 0.4), (2.8, -0.1), (1.1, 0.36)], (255, 240, 190), alpha=44,
                  lit=False)
        pen.oval(2.1, -0.02, 1.0, 0.07, (255, 232, 160), alpha=60, lit=False)
    pen.shape(_CAR_BODY, paint)
    pen.shape([(-1.15, 0.20), (-1.17, 0.36), (1.15, 0.36), (1.15, 0.20), (0.9, 0.15),
               (-0.9, 0.15)], paint, 0.72)
    pen.shape([(-0.30, 0.985), (-0.24, 0.95), (0.10, 0.95), (0.16, 0.985)], paint, 1.35)
    pen.shape([(-1.1, 0.555), (-0.78, 0.61), (0.66, 0.61), (1.02, 0.545), (1.0, 0.51),
               (-1.08, 0.51)], paint, 1.22)
    glass, k = (LAMP, 0.72) if look.lamps else (GLASS, 1.0)
    front = [(0.05, 0.63), (0.05, 0.91), (0.14, 0.91), (0.31, 0.84), (0.50, 0.63)]
    back = [(-0.05, 0.63), (-0.05, 0.91), (-0.24, 0.91), (-0.43, 0.83), (-0.61, 0.63)]
    for window in (front, back):
        pen.shape(window, glass, k, lit=not look.lamps)
    if pen.fine:
        pen.shape([(0.08, 0.64), (0.2, 0.9), (0.26, 0.87), (0.18, 0.64)], (255, 255, 255), alpha=70)
        pen.shape([(-0.45, 0.64), (-0.3, 0.89), (-0.22, 0.9), (-0.36, 0.64)], (255, 255, 255),
                  alpha=70)
        pen.line([(0.0, 0.92), (0.0, 0.3)], 0.015, paint, 0.6)
        pen.bar(-0.2, 0.5, -0.08, 0.53, shade(paint, 0.5))
        pen.bar(0.24, 0.5, 0.36, 0.53, shade(paint, 0.5))
    for x in (-0.68, 0.70):
        pen.shape(_dome(x, 0.17, 0.28, 0.29), shade(paint, 0.45))
        pen.oval(x, 0.19, 0.215, 0.215, RUBBER)
        pen.oval(x, 0.19, 0.12, 0.12, STEEL)
        pen.oval(x, 0.19, 0.05, 0.05, STEEL, 0.55)
    pen.oval(1.07, 0.44, 0.06, 0.065, (255, 246, 214), lit=not look.lamps)
    pen.oval(-1.12, 0.45, 0.04, 0.06, (226, 30, 30), lit=not look.lamps)
    if look.lamps:
        pen.glow(1.12, 0.44, 0.62, (255, 240, 190), 0.85)
        pen.glow(-1.14, 0.45, 0.34, (255, 60, 40), 0.6)


def bus(pen: Pen, paint: RGB, look: Look) -> None:
    """A town bus with a row of windows."""
    pen.shadow(1.16, 110)
    body = smooth([(-1.13, 0.14), (-1.15, 0.5), (-1.12, 0.93), (-0.95, 0.99), (0.9, 0.99),
                   (1.08, 0.94), (1.14, 0.5), (1.13, 0.14), (0.6, 0.12), (-0.6, 0.12)], 3)
    pen.shape(body, paint)
    pen.bar(-1.12, 0.14, 1.12, 0.26, paint, 0.68)
    pen.bar(-1.14, 0.40, 1.13, 0.445, CREAM)
    pen.bar(-0.95, 0.955, 0.9, 0.985, paint, 1.35)
    for i in range(6):
        x = -1.04 + i * 0.325
        pen.bar(x, 0.52, x + 0.275, 0.84, LAMP if look.lamps else GLASS, 0.95, lit=not look.lamps)
        if not look.lamps and pen.fine:
            pen.shape([(x + 0.04, 0.53), (x + 0.14, 0.83), (x + 0.2, 0.83), (x + 0.1, 0.53)],
                      (255, 255, 255), alpha=60)
        elif pen.fine and i % 2:
            pen.oval(x + 0.14, 0.6, 0.05, 0.08, (70, 54, 50), lit=False)
    pen.shape([(0.94, 0.5), (0.94, 0.87), (1.09, 0.87), (1.12, 0.5)], GLASS, 0.9)
    for x in (-0.66, 0.66):
        pen.shape(_dome(x, 0.14, 0.19, 0.2), shade(paint, 0.4))
        pen.oval(x, 0.14, 0.145, 0.145, RUBBER)
        pen.oval(x, 0.14, 0.075, 0.075, STEEL)
    pen.oval(1.08, 0.31, 0.045, 0.04, (255, 246, 214), lit=not look.lamps)
    pen.bar(-1.14, 0.28, -1.09, 0.35, (226, 30, 30), lit=not look.lamps)
    if look.lamps:
        pen.glow(1.12, 0.31, 0.45, (255, 240, 190), 0.85)
        pen.glow(0.0, 0.68, 0.9, LAMP, 0.14)
        pen.glow(-1.12, 0.32, 0.22, (255, 60, 40), 0.6)


def bicycle(pen: Pen, paint: RGB, look: Look) -> None:
    """A bicycle with a coloured frame and mudguards."""
    pen.shadow(0.82, 60)
    hubs = ((-0.46, 0.34), (0.48, 0.34))
    for x, y in hubs:
        pen.ring(x, y, 0.34, 0.045, RUBBER)
        pen.ring(x, y, 0.30, 0.018, STEEL)
        if pen.fine:
            for i in range(8):
                a = i * pi / 8
                pen.line([(x - 0.29 * cos(a), y - 0.29 * sin(a)),
                          (x + 0.29 * cos(a), y + 0.29 * sin(a))], 0.008, STEEL)
        arc = [(x + 0.36 * cos(a), y + 0.36 * sin(a)) for a in (0.5, 0.9, 1.3, 1.7, 2.1, 2.5, 2.9)]
        pen.line(arc, 0.05, paint)
    crank, seat, head = (-0.02, 0.32), (-0.17, 0.76), (0.33, 0.78)
    for tube in ((hubs[0], crank), (hubs[0], seat), (crank, head), (head, hubs[1])):
        pen.line(tube, 0.065, paint)
    pen.line([crank, (-0.2, 0.86)], 0.065, paint)
    pen.line([(-0.16, 0.72), (0.32, 0.74)], 0.065, paint)
    pen.line([(0.33, 0.76), (0.30, 0.95), (0.44, 0.98)], 0.045, STEEL)
    pen.line([(0.40, 0.98), (0.28, 0.99)], 0.05, RUBBER)
    pen.shape([(-0.36, 0.87), (-0.34, 0.92), (-0.1, 0.9), (-0.07, 0.86), (-0.2, 0.84)], RUBBER)
    pen.ring(crank[0], crank[1], 0.09, 0.03, STEEL)
    pen.line([crank, (0.04, 0.2)], 0.03, STEEL, 0.7)
    if pen.fine:  # a basket
        pen.shape([(0.38, 0.7), (0.36, 0.9), (0.66, 0.9), (0.62, 0.7)], (188, 140, 84))
        for i in range(4):
            pen.line([(0.37, 0.73 + i * 0.05), (0.64, 0.73 + i * 0.05)], 0.012, (130, 92, 52))
    if look.lamps:
        pen.glow(0.52, 0.74, 0.3, (255, 240, 190), 0.8)


def train(pen: Pen, paint: RGB, look: Look) -> None:
    """A railcar with two carriages, on rails that cross the whole picture."""
    pen.bar(-14, -0.12, 14, 0.02, (124, 112, 100))
    pen.bar(-14, -0.15, 14, -0.10, (96, 88, 80))
    if pen.fine:
        for i in range(-30, 31):
            pen.bar(i * 0.22, -0.03, i * 0.22 + 0.1, 0.02, (86, 66, 50))
    pen.bar(-14, 0.02, 14, 0.05, STEEL, 0.8)
    lit = look.lamps
    glass = LAMP if lit else GLASS
    for x0, x1 in ((-2.5, -0.92), (-0.86, 0.72)):
        pen.bar(x0, 0.14, x1, 0.92, paint)
        pen.bar(x0 + 0.02, 0.90, x1 - 0.02, 0.98, (110, 114, 124))
        pen.bar(x0, 0.14, x1, 0.26, paint, 0.66)
        pen.bar(x0, 0.36, x1, 0.41, CREAM)
        for i in range(5):
            x = x0 + 0.1 + i * 0.3
            pen.bar(x, 0.5, x + 0.2, 0.78, glass, lit=not lit)
    nose = [(0.78, 0.14), (0.78, 0.95), (1.7, 0.95), (2.15, 0.82), (2.46, 0.46), (2.5, 0.14)]
    pen.shape(nose, paint)
    pen.shape([(0.8, 0.90), (0.8, 0.98), (1.66, 0.98), (1.9, 0.90)], (110, 114, 124))
    pen.bar(0.78, 0.14, 2.49, 0.26, paint, 0.66)
    pen.shape([(0.78, 0.36), (0.78, 0.41), (2.47, 0.41), (2.49, 0.36)], CREAM)
    pen.shape([(1.92, 0.52), (1.92, 0.8), (2.08, 0.8), (2.34, 0.52)], (60, 78, 96))
    for i in range(3):
        pen.bar(0.92 + i * 0.3, 0.5, 1.12 + i * 0.3, 0.78, glass, lit=not lit)
    for x in (-2.25, -1.95, -1.45, -1.15, -0.6, -0.3, 0.2, 0.5, 1.05, 1.35, 1.9, 2.2):
        pen.oval(x, 0.11, 0.085, 0.085, RUBBER)
        pen.oval(x, 0.11, 0.04, 0.04, STEEL, 0.7)
    pen.oval(2.43, 0.32, 0.04, 0.04, (255, 246, 214), lit=not lit)
    if lit:
        for x in (-1.7, -0.1, 1.35):
            pen.glow(x, 0.6, 0.95, LAMP, 0.16)
        pen.glow(2.46, 0.32, 0.8, (255, 240, 190), 0.9)
        pen.shape([(2.45, 0.34), (5.5, 0.7), (5.8, -0.1), (2.45, 0.28)], (255, 236, 170), alpha=40,
                  lit=False)


def _gore(edge: float) -> list[tuple[float, float]]:
    """The outline of the envelope's part between its middle and ``edge`` (-1 to 1 of its width)."""
    out = []
    for i in range(15):
        t = i / 14
        y = 0.20 + 0.80 * t
        # A sphere on a cone: the widest at two thirds of the height.
        half = 0.37 * sin(pi * min((t + 0.14) / 1.14, 1.0)) ** 0.72 if t < 1 else 0.0
        out.append((half * edge, y))
    return out


_GORES = [_gore(e) for e in (-1.0, -0.72, -0.36, 0.0, 0.36, 0.72, 1.0)]


def balloon(pen: Pen, paint: RGB, look: Look) -> None:
    """A striped hot-air balloon; at night its flame lights it from within."""
    if look.night:
        pen.glow(0, 0.5, 0.75, mix(paint, LAMP, 0.5), 0.38)
    pale = mix(paint, (255, 255, 255), 0.42)
    for i in range(6):
        panel = _GORES[i] + _GORES[i + 1][::-1]
        base = pale if i % 2 else paint
        # The side away from the sun is the darker one.
        away = (i - 2.5) / 2.5 * pen.sun_side
        k = 1.0 + 0.22 * away - 0.10 if not look.night else 1.12 - 0.08 * abs(i - 2.5)
        pen.shape(panel, base, k)
    band_y = 0.60
    half = 0.362
    zigzag = []
    for i in range(13):
        zigzag.append((-half + i * half / 6, band_y + (0.035 if i % 2 else 0.0)))
    zigzag += [(half - i * half / 6, band_y - 0.05 - (0.0 if i % 2 else 0.035)) for i in range(13)]
    pen.shape(zigzag, CREAM, alpha=215)
    pen.shape([(-0.13, 0.205), (-0.10, 0.185), (0.10, 0.185), (0.13, 0.205)], shade(paint, 0.55))
    pen.oval(-0.13 if pen.sun_side < 0 else 0.13, 0.82, 0.10, 0.07, (255, 255, 255), alpha=46)
    for x in (-1, -0.35, 0.35, 1):
        pen.line([(0.105 * x, 0.19), (0.06 * x, 0.095)], 0.008, (70, 52, 40))
    pen.shape([(-0.072, 0.095), (0.072, 0.095), (0.058, 0.0), (-0.058, 0.0)], (150, 98, 54))
    pen.bar(-0.078, 0.082, 0.078, 0.1, (106, 66, 36))
    if pen.fine:
        for i in range(3):
            pen.line([(-0.064, 0.02 + i * 0.02), (0.064, 0.02 + i * 0.02)], 0.006, (110, 70, 40))
        pen.oval(-0.025, 0.115, 0.016, 0.02, (60, 44, 40))
        pen.oval(0.025, 0.118, 0.016, 0.02, (90, 50, 44))
    if look.night:
        pen.glow(0, 0.22, 0.3, (255, 214, 120), 0.85)
        pen.glow(0, 0.5, 0.42, (255, 226, 150), 0.35)


def airplane(pen: Pen, paint: RGB, look: Look) -> None:
    """An airliner seen from the side, climbing a little."""
    tilt = 0.09

    def up(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x, y + x * tilt) for x, y in points]

    other = (70, 96, 150) if min(paint) > 200 else (246, 246, 246)
    pen.shape(up([(-0.1, 0.52), (-0.42, 0.86), (-0.26, 0.88), (0.3, 0.54)]), paint, 0.62)
    body = smooth([(-1.18, 0.56), (-0.9, 0.62), (0.7, 0.64), (1.05, 0.56), (1.22, 0.42),
                   (1.02, 0.32), (0.6, 0.28), (-0.5, 0.30), (-1.0, 0.46)], 4)
    pen.shape(up(body), paint)
    pen.shape(up([(-1.0, 0.46), (-0.5, 0.30), (0.6, 0.28), (1.02, 0.32), (1.1, 0.36), (-0.9,
        0.46)]),
              paint, 0.78)
    pen.shape(up([(-1.16, 0.56), (-1.25, 0.98), (-1.05, 1.0), (-0.72, 0.60)]), paint, 0.9)
    pen.shape(up([(-1.24, 0.88), (-1.25, 0.98), (-1.05, 1.0), (-0.97, 0.88)]), other)
    pen.shape(up([(-1.1, 0.52), (-1.34, 0.62), (-1.2, 0.63), (-0.86, 0.53)]), paint, 0.7)
    pen.shape(up([(0.34, 0.40), (-0.42, 0.02), (-0.62, 0.02), (-0.14, 0.42)]), paint, 0.84)
    pen.shape(up([(-0.42, 0.02), (-0.62, 0.02), (-0.5, 0.08), (-0.32, 0.07)]), other)
    pen.shape(up(smooth([(0.22, 0.26), (0.2, 0.16), (-0.08, 0.17), (-0.1, 0.25)], 3)), STEEL, 0.8)
    glass = LAMP if look.night else (80, 110, 140)
    for i in range(11):
        x = -0.72 + i * 0.14
        pen.oval(x, 0.50 + x * tilt, 0.026, 0.036, glass, lit=not look.night)
    pen.shape(up([(0.94, 0.52), (0.98, 0.57), (1.1, 0.5), (1.08, 0.47)]), (60, 80, 100))
    if look.night:
        pen.glow(-0.52, -0.03, 0.3, (255, 70, 60), 0.9)
        pen.glow(1.2, 0.52, 0.34, (255, 255, 240), 0.8)
        pen.glow(0, 0.5, 1.2, LAMP, 0.12)


def kite(pen: Pen, paint: RGB, look: Look) -> None:
    """A diamond kite with a ribbon tail."""
    top, left, right, low = (0.10, 1.0), (-0.26, 0.66), (0.36, 0.74), (-0.10, 0.28)
    middle = (0.045, 0.70)
    tail = [(-0.10 + 0.07 * sin(i * 0.9) - i * 0.006, 0.28 - i * 0.03) for i in range(10)]
    pen.line(tail, 0.016, shade(paint, 0.8))
    for i in (2, 5, 8):
        x, y = tail[i]
        c = CREAM if i == 5 else paint
        pen.shape([(x, y), (x - 0.09, y + 0.04), (x - 0.08, y - 0.04)], c)
        pen.shape([(x, y), (x + 0.09, y + 0.04), (x + 0.08, y - 0.04)], c, 0.85)
    pen.line([middle, (0.3, 0.25), (0.52, -0.35)], 0.006, (250, 250, 250), alpha=150)
    pen.shape([top, left, middle], paint, 1.16)
    pen.shape([top, middle, right], paint)
    pen.shape([left, low, middle], paint, 0.9)
    pen.shape([middle, low, right], paint, 0.74)
    pen.line([top, low], 0.014, CREAM)
    pen.line([left, right], 0.014, CREAM)


def sailboat(pen: Pen, paint: RGB, look: Look) -> None:
    """A yacht: its mainsail and hull have the colour, the foresail is cream."""
    hull = [(-0.40, 0.13), (-0.33, 0.0), (0.28, 0.0), (0.46, 0.155)]
    pen.shape(hull, paint, 0.9)
    pen.shape([(-0.36, 0.055), (-0.33, 0.0), (0.28, 0.0), (0.345, 0.055)], paint, 0.62)
    pen.line([(-0.40, 0.13), (0.46, 0.155)], 0.022, CREAM)
    pen.bar(-0.22, 0.14, 0.10, 0.19, (236, 226, 204))
    pen.bar(-0.18, 0.15, -0.1, 0.18, (60, 80, 100))
    pen.bar(-0.04, 0.15, 0.04, 0.18, (60, 80, 100))
    pen.line([(0.02, 0.14), (0.02, 1.0)], 0.018, (110, 78, 52))
    main = smooth([(0.0, 0.97), (-0.13, 0.66), (-0.30, 0.36), (-0.40, 0.22), (-0.2, 0.235),
                   (0.0, 0.22), (0.0, 0.5)], 4)
    pen.shape(main, paint)
    pen.shape([(0.0, 0.97), (-0.1, 0.7), (-0.12, 0.235), (0.0, 0.22)], paint, 1.2, alpha=150)
    pen.line([(-0.41, 0.205), (0.02, 0.205)], 0.016, (110, 78, 52))
    jib = smooth([(0.045, 0.9), (0.055, 0.24), (0.25, 0.2), (0.43, 0.185), (0.28, 0.46)], 4)
    pale = mix(paint, CREAM, 0.72)
    pen.shape(jib, pale)
    pen.shape([(0.05, 0.86), (0.055, 0.24), (0.18, 0.22), (0.14, 0.55)], pale, 0.9, alpha=150)
    if pen.fine:
        for i in range(3):
            y = 0.36 + i * 0.16
            pen.line([(-0.33 + i * 0.105, y), (-0.005, y + 0.01)], 0.005, shade(paint, 0.75))
        pen.shape([(0.02, 1.0), (0.12, 0.975), (0.02, 0.95)], (226, 60, 50))
    if look.night:
        pen.glow(0.02, 1.0, 0.16, (255, 250, 220), 0.9)
        pen.glow(-0.06, 0.17, 0.3, LAMP, 0.6)


def rowing_boat(pen: Pen, paint: RGB, look: Look) -> None:
    """A wooden boat with its oars out."""
    rim = smooth([(-1.38, 0.78), (-0.7, 0.66), (0.5, 0.66), (1.42, 0.98), (0.6, 0.84), (-0.6,
        0.82)],
                 4)
    hull = smooth([(-1.38, 0.78), (-1.22, 0.2), (-0.7, 0.0), (0.7, 0.0), (1.12, 0.3), (1.42, 0.98),
                   (0.5, 0.62), (-0.6, 0.6)], 4)
    pen.shape(rim, shade(TIMBER, 0.6))
    for x in (-0.6, 0.25):
        pen.shape([(x, 0.68), (x + 0.05, 0.82), (x + 0.34, 0.82), (x + 0.3, 0.68)], (196, 150, 98))
    pen.shape(hull, paint)
    pen.shape([(-1.22, 0.2), (-0.7, 0.0), (0.7, 0.0), (1.1, 0.3), (0.5, 0.16), (-0.6, 0.15)], paint,
              0.68)
    pen.line([(-1.36, 0.76), (-0.7, 0.63), (0.5, 0.64), (1.4, 0.94)], 0.07, CREAM)
    pen.line([(-1.26, 0.42), (-0.7, 0.31), (0.5, 0.32), (1.22, 0.5)], 0.03, shade(paint, 0.75))
    for x0, x1 in ((-0.2, -0.85), (0.35, -0.15)):
        pen.line([(x0 + 0.2, 0.98), (x1, 0.06)], 0.06, (206, 162, 108))
        pen.shape([(x1 + 0.06, 0.14), (x1 - 0.12, -0.16), (x1 - 0.26, -0.10), (x1 - 0.02, 0.2)],
                  (206, 162, 108), 0.9)


def house(pen: Pen, paint: RGB, look: Look) -> None:
    """A cottage with a gable, lit at night, with snow on its roof."""
    pen.shadow(0.68, 90)
    roof: RGB = (96, 78, 82) if paint[0] > 120 and paint[1] < 120 else (160, 86, 66)
    if look.snowy:
        roof = (238, 243, 250)
    pen.bar(0.36, 0.70, 0.46, 1.0, (140, 96, 80))  # chimney
    pen.bar(0.345, 0.97, 0.475, 1.01, (110, 76, 66))
    if look.windy:
        for i in range(4):
            pen.oval(0.42 + i * 0.05, 1.07 + i * 0.075, 0.04 + i * 0.016, 0.032 + i * 0.012,
                     (240, 240, 244), alpha=110 - i * 22)
    pen.bar(-0.12, 0.0, 0.56, 0.52, paint, 0.86)  # the long side
    pen.shape([(-0.56, 0.0), (-0.56, 0.52), (-0.33, 0.86), (-0.10, 0.52), (-0.10, 0.0)], paint)
    pen.shape([(-0.33, 0.92), (-0.08, 0.49), (0.62, 0.49), (0.42, 0.92)], roof, 0.92)
    pen.shape([(-0.33, 0.92), (-0.30, 0.86), (0.44, 0.86), (0.42, 0.92)], roof, 1.15)
    pen.line([(-0.61, 0.47), (-0.33, 0.90), (-0.07, 0.49)], 0.05, roof, 0.78)
    if pen.fine:
        if not look.snowy:
            for i in range(5):
                y = 0.54 + i * 0.066
                inset = i * 0.035
                pen.line([(-0.10 - inset, y), (0.59 - inset * 0.8, y)], 0.007, roof, 0.74)
        for i in range(6):
            y = 0.08 + i * 0.075
            pen.line([(-0.55, y), (-0.11, y)], 0.004, paint, 0.86)
            pen.line([(-0.10, y), (0.55, y)], 0.004, paint, 0.76)
    pen.bar(-0.57, 0.0, 0.57, 0.035, (130, 124, 120))
    frame = CREAM if min(paint) < 200 else (92, 112, 132)
    windows = ((-0.44, 0.60, 0.11), (0.03, 0.22, 0.12), (0.36, 0.22, 0.12))
    for x, y, w in (*windows, (-0.50, 0.2, 0.12)):
        pen.bar(x - 0.018, y - 0.018, x + w + 0.018, y + 0.16, frame)
        pen.bar(x, y, x + w, y + 0.142, LAMP if look.lamps else (104, 140, 164), lit=not look.lamps)
        if pen.fine:
            pen.line([(x + w / 2, y), (x + w / 2, y + 0.142)], 0.011, frame)
            pen.line([(x, y + 0.071), (x + w, y + 0.071)], 0.011, frame)
            pen.bar(x - 0.03, y - 0.035, x + w + 0.03, y - 0.018, frame, 0.8)
    pen.bar(-0.30, 0.02, -0.165, 0.31, (104, 66, 44))
    pen.bar(-0.285, 0.035, -0.18, 0.295, (128, 84, 56))
    pen.oval(-0.20, 0.16, 0.012, 0.012, (240, 206, 110))
    if look.lamps:
        for x, y, w in windows:
            pen.glow(x + w / 2, y + 0.07, 0.24, LAMP, 0.42)
        pen.glow(-0.23, 0.36, 0.26, LAMP, 0.55)
        pen.glow(0.2, 0.0, 0.55, LAMP, 0.16)
    if pen.fine and not look.snowy:
        for i in range(9):
            pen.oval(0.0 + i * 0.065, 0.035, 0.04, 0.04 + 0.015 * (i % 3), (70, 118, 66), 0.8)


def tent(pen: Pen, paint: RGB, look: Look) -> None:
    """A ridge tent; lit from inside at night."""
    pen.shadow(0.85, 80)
    if look.lamps:
        pen.glow(-0.1, 0.4, 1.25, mix(paint, LAMP, 0.6), 0.42)
    bright = 1.25 if look.lamps else 1.0
    lit = not look.lamps
    pen.shape([(-0.3, 0.98), (0.42, 0.84), (0.82, 0.0), (0.3, 0.0)], paint, 0.74 * bright, lit=lit)
    pen.shape([(-0.82, 0.0), (-0.3, 1.0), (0.32, 0.0)], paint, bright * 0.98, lit=lit)
    pen.shape([(-0.3, 1.0), (-0.22, 0.98), (0.40, 0.0), (0.32, 0.0)], paint, 0.6 * bright, lit=lit)
    inside = (255, 226, 150) if look.lamps else shade(paint, 0.28)
    pen.shape([(-0.50, 0.0), (-0.29, 0.72), (-0.06, 0.0)], inside, lit=lit)
    pen.shape([(-0.50, 0.0), (-0.29, 0.72), (-0.40, 0.0)], paint, 1.2, lit=lit)
    pen.shape([(-0.06, 0.0), (-0.29, 0.72), (-0.15, 0.0)], paint, 0.8, lit=lit)
    pen.line([(-0.3, 1.0), (-0.98, -0.03)], 0.012, (230, 224, 210), alpha=190)
    pen.line([(0.42, 0.84), (1.02, -0.03)], 0.012, (230, 224, 210), alpha=190)
    if look.lamps:
        pen.glow(-0.28, 0.22, 0.5, (255, 236, 180), 0.75)


def lighthouse(pen: Pen, paint: RGB, look: Look) -> None:
    """A striped tower on a rock; at night its beam sweeps the sky."""
    rock = smooth([(-0.24, 0.0), (-0.20, 0.06), (-0.08, 0.10), (0.10, 0.095), (0.2, 0.05),
                   (0.25, 0.0), (0.0, -0.03)], 3)
    if look.night:
        for way, reach in ((1, 0.20), (-1, 0.13)):
            pen.shape([(0.0, 0.89), (way * 3.2, 0.89 + reach + 0.1), (way * 3.2, 0.89 - reach)],
                      (255, 244, 196), alpha=40, lit=False)
            pen.shape([(0.0, 0.89), (way * 3.2, 0.93 + reach / 2), (way * 3.2, 0.89 - reach / 2)],
                      (255, 246, 206), alpha=46, lit=False)
    pen.shape(rock, (112, 106, 108))
    pen.shape([(-0.15, 0.06), (-0.06, 0.10), (0.10, 0.095), (0.02, 0.05)], (112, 106, 108), 1.2)

    def half(y: float) -> float:
        return 0.125 - 0.055 * (y - 0.08) / 0.72

    white = min(paint) > 200
    levels = [0.08 + i * 0.144 for i in range(6)]
    for i, (low, high) in enumerate(pairwise(levels)):
        colour = paint if i % 2 == 0 or white else (250, 247, 240)
        a, b = half(low), half(high)
        pen.shape([(-a, low), (-b, high), (b, high), (a, low)], colour)
        side = -1 if pen.sun_side > 0 else 1
        pen.shape([(side * a, low), (side * b, high), (side * b * 0.35, high),
                   (side * a * 0.35, low)], colour, 0.76)
    for y in (0.26, 0.44, 0.62):
        pen.bar(
            -0.018, y, 0.018, y + 0.05, LAMP if look.night else (60, 70, 90), lit=not look.night
        )
    pen.bar(-0.035, 0.07, 0.035, 0.16, (80, 56, 44))
    pen.bar(-0.105, 0.795, 0.105, 0.82, (52, 56, 66))
    for i in range(6):
        pen.line([(-0.1 + i * 0.04, 0.82), (-0.1 + i * 0.04, 0.855)], 0.006, (52, 56, 66))
    pen.line([(-0.1, 0.855), (0.1, 0.855)], 0.008, (52, 56, 66))
    pen.bar(-0.055, 0.82, 0.055, 0.915, LAMP if look.night else GLASS, lit=not look.night)
    for x in (-0.055, 0.0, 0.055):
        pen.line([(x, 0.82), (x, 0.915)], 0.008, (52, 56, 66))
    cap = (70, 74, 84) if white or max(paint) < 80 else paint
    pen.shape(_dome(0, 0.91, 0.075, 0.075, 10), cap, 0.85)
    pen.line([(0, 0.98), (0, 1.01)], 0.012, (52, 56, 66))
    if look.night:
        pen.glow(0, 0.89, 0.26, (255, 250, 220), 1.0)


def windmill(pen: Pen, paint: RGB, look: Look) -> None:
    """A tower mill with four lattice sails."""
    pen.shadow(0.22, 80)
    body = [(-0.175, 0.0), (-0.105, 0.58), (0.105, 0.58), (0.175, 0.0)]
    pen.shape(body, paint)
    side = -1 if pen.sun_side > 0 else 1
    pen.shape([(side * 0.175, 0.0), (side * 0.105, 0.58), (side * 0.03, 0.58), (side * 0.06, 0.0)],
              paint, 0.78)
    pen.shape([(-0.14, 0.29), (-0.136, 0.32), (0.136, 0.32), (0.14, 0.29)], paint, 0.6)
    pen.shape(_dome(0, 0.57, 0.125, 0.125, 10), (96, 68, 56))
    pen.bar(-0.04, 0.0, 0.04, 0.12, (84, 56, 42))
    for x, y in ((-0.02, 0.2), (-0.02, 0.42)):
        pen.bar(x, y, x + 0.045, y + 0.06, LAMP if look.lamps else (70, 84, 100),
                lit=not look.lamps)
        if look.lamps:
            pen.glow(x + 0.02, y + 0.03, 0.12, LAMP, 0.6)
    hx, hy = 0.0, 0.60
    turn = pen.rng.uniform(0.2, 1.3)
    for q in range(4):
        a = turn + q * pi / 2
        dx, dy = cos(a), sin(a)
        px, py = -dy, dx

        def on(
            d: float,
            s: float,
            *,
            dx: float = dx,
            dy: float = dy,
            px: float = px,
            py: float = py,
        ) -> tuple[float, float]:
            return hx + dx * d + px * s, hy + dy * d + py * s

        pen.shape([on(0.10, 0.0), on(0.10, 0.085), on(0.40, 0.085), on(0.40, 0.0)],
                  (250, 244, 228), alpha=235)
        pen.line([on(0, 0), on(0.41, 0)], 0.02, (92, 64, 48))
        if pen.fine:
            for i in range(7):
                d = 0.10 + i * 0.05
                pen.line([on(d, 0), on(d, 0.085)], 0.007, (140, 108, 84))
            pen.line([on(0.1, 0.085), on(0.4, 0.085)], 0.008, (140, 108, 84))
    pen.oval(hx, hy, 0.028, 0.028, (70, 50, 40))


def bench(pen: Pen, paint: RGB, look: Look) -> None:
    """A park bench with coloured slats on iron feet."""
    pen.shadow(0.9, 80)
    for x in (-0.72, 0.66):
        pen.line([(x, 0.0), (x + 0.02, 0.44), (x - 0.02, 0.98)], 0.07, (48, 50, 58))
        pen.line([(x + 0.16, 0.0), (x + 0.14, 0.42)], 0.06, (48, 50, 58))
        pen.line([(x, 0.62), (x + 0.2, 0.62), (x + 0.18, 0.42)], 0.05, (48, 50, 58))
    for i in range(3):
        y = 0.60 + i * 0.145
        pen.bar(-0.86, y, 0.80, y + 0.105, paint, 1.0 + 0.06 * i)
        pen.bar(-0.86, y, 0.80, y + 0.025, paint, 0.74)
    pen.shape([(-0.88, 0.44), (-0.82, 0.52), (0.86, 0.52), (0.94, 0.44)], paint, 1.12)
    pen.shape([(-0.88, 0.38), (-0.88, 0.44), (0.94, 0.44), (0.94, 0.38)], paint, 0.7)
    if look.snowy:
        pen.shape([(-0.87, 0.46), (-0.82, 0.56), (0.86, 0.56), (0.93, 0.46)], (244, 247, 252))
        pen.bar(-0.86, 0.96, 0.80, 1.03, (244, 247, 252))


def fountain(pen: Pen, paint: RGB, look: Look) -> None:
    """A stone fountain with two bowls and falling water."""
    pen.shadow(0.62, 80)
    water: RGB = (150, 206, 236)
    pen.shape([(-0.56, 0.06), (-0.58, 0.24), (0.58, 0.24), (0.56, 0.06)], paint, 0.9)
    pen.oval(0, 0.06, 0.56, 0.07, paint, 0.9)
    pen.bar(-0.58, 0.20, 0.58, 0.25, paint, 1.1)
    pen.oval(0, 0.25, 0.58, 0.08, paint, 1.15)
    pen.oval(0, 0.25, 0.52, 0.062, water, 0.9)
    pen.shape([(-0.09, 0.24), (-0.05, 0.54), (0.05, 0.54), (0.09, 0.24)], paint, 0.84)
    bowl = smooth([(-0.34, 0.60), (-0.2, 0.52), (0.2, 0.52), (0.34, 0.60), (0.0, 0.57)], 3)
    for side in (-1, 1):  # what runs over the rim, then the jets
        for i in range(4):
            x = side * (0.33 - i * 0.05)
            pen.line([(x, 0.59), (x * 1.10, 0.42), (x * 1.16, 0.25)], 0.016, (224, 242, 252),
                     alpha=170)
    pen.shape(bowl, paint, 0.95)
    pen.oval(0, 0.60, 0.34, 0.045, paint, 1.12)
    pen.oval(0, 0.60, 0.29, 0.034, water)
    for reach in (0.08, 0.16, 0.24):
        for side in (-1, 1):
            arc = []
            for i in range(9):
                t = i / 8
                arc.append(
                    (
                        side * reach * t,
                        0.64 + 1.45 * t * (1 - t) * (1 - reach) + 0.1 * t - 0.1 * t * t - 0.05 * t,
                    )
                )
            pen.line(arc, 0.02, (232, 246, 254), alpha=190)
    pen.line([(0, 0.6), (0, 0.98)], 0.035, (240, 250, 255), alpha=220)
    pen.oval(0, 0.97, 0.03, 0.035, (250, 253, 255), alpha=230)
    if pen.fine:
        for _ in range(26):
            x = pen.rng.uniform(-0.4, 0.4)
            pen.oval(x, pen.rng.uniform(0.27, 0.95 - abs(x)), 0.008, 0.010, (240, 250, 255),
                     alpha=190)
    if look.lamps:
        pen.glow(0, 0.5, 0.7, (170, 220, 255), 0.32)
        pen.glow(0, 0.28, 0.5, LAMP, 0.4)


def parasol(pen: Pen, paint: RGB, look: Look) -> None:
    """A leaning beach umbrella over a towel."""
    pen.oval(0.16, 0.0, 0.44, 0.05, (40, 30, 40), alpha=70, lit=False)
    pen.shape([(-0.42, -0.03), (-0.30, 0.05), (0.18, 0.05), (0.12, -0.03)], (244, 238, 226))
    pen.shape([(-0.30, -0.03), (-0.20, 0.05), (-0.10, 0.05), (-0.19, -0.03)], paint, 0.95)
    pen.line([(0.10, 0.0), (-0.03, 0.97)], 0.022, (232, 226, 214))
    rim = []
    for i in range(9):  # eight panels between nine ribs, on a leaning dome
        t = i / 8
        x = -0.54 + 1.05 * t
        rim.append((x, 0.52 + 0.14 * t + 0.07 * sin(pi * t)))
    top = (-0.06, 1.0)
    for i in range(8):
        a, b = rim[i], rim[i + 1]
        bulge_a = ((a[0] * 0.62 + top[0] * 0.38), (a[1] * 0.40 + top[1] * 0.60))
        bulge_b = ((b[0] * 0.62 + top[0] * 0.38), (b[1] * 0.40 + top[1] * 0.60))
        dip = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 0.03)
        colour = paint if i % 2 == 0 else mix(paint, CREAM, 0.84)
        k = 1.0 + 0.10 * (i - 3.5) / 3.5 * pen.sun_side - 0.06
        pen.shape([top, bulge_a, a, dip, b, bulge_b], colour, k)
    pen.line([top, (-0.07, 1.04)], 0.025, (232, 226, 214))
