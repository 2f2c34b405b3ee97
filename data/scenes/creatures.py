"""Draws animals, people, plants, snowmen and campfires, one function per kind.

Coordinates as in ``subjects``: origin at the foot, height 1, facing positive x.
"""

from __future__ import annotations

from math import cos, pi, sin

from .canvas import RGB, Pen, Ramp, crowns, mix, shade, smooth
from .subjects import CREAM, RUBBER, TIMBER, Look

# One point per line would hide the shapes.
# fmt: off

_EYE: RGB = (24, 20, 24)


def _fur(paint: RGB) -> tuple[RGB, RGB]:
    """The coat, and a darker (for black: lighter) tone that separates its parts."""
    if max(paint) < 90:
        return paint, (78, 78, 90)
    return paint, shade(paint, 0.76)


_DOG_BODY = smooth(
    [(-0.46, 0.64), (-0.2, 0.69), (0.12, 0.68), (0.30, 0.74), (0.40, 0.58), (0.32, 0.40),
     (0.05, 0.38), (-0.22, 0.42), (-0.44, 0.40), (-0.52, 0.54)]
)
_DOG_NECK = smooth([(0.14, 0.64), (0.34, 0.46), (0.52, 0.70), (0.46, 0.86), (0.30, 0.86)])
_DOG_TAIL = smooth(
    [(-0.46, 0.64), (-0.58, 0.74), (-0.64, 0.92), (-0.58, 0.95), (-0.50, 0.80), (-0.38, 0.68)]
)


def _legs(
    pen: Pen, paint: RGB, far: RGB, xs: tuple[float, ...], top: float, width: float, foot: RGB
) -> None:
    """Four legs at ``xs``: two far ones first, then two near ones."""
    for n, x in enumerate(xs):
        colour = far if n < 2 else paint
        w = width / 2
        pen.shape([(x - w * 1.7, top), (x - w, top * 0.45), (x - w * 0.85, 0.02),
                   (x + w * 1.1, 0.02), (x + w, top * 0.45), (x + w * 1.6, top)], colour)
        pen.shape([(x - w, 0.0), (x - w * 0.9, 0.05), (x + w * 1.1, 0.05), (x + w * 1.5, 0.0)],
                  foot)


def dog(pen: Pen, paint: RGB, look: Look) -> None:
    """A friendly dog with floppy ears."""
    coat, dark = _fur(paint)
    pen.shadow(0.55)
    pen.shape(_DOG_TAIL, coat)
    _legs(pen, coat, dark, (-0.30, 0.18, -0.42, 0.30), 0.46, 0.085, coat)
    pen.shape(_DOG_BODY, coat)
    pen.shape([(-0.44, 0.44), (-0.2, 0.46), (0.1, 0.42), (0.32, 0.44), (0.2, 0.39), (-0.2, 0.41)],
              dark, alpha=150)
    pen.shape(_DOG_NECK, coat)
    pen.oval(0.44, 0.85, 0.16, 0.145, coat)
    muzzle = smooth([(0.46, 0.90), (0.60, 0.88), (0.73, 0.82), (0.72, 0.74), (0.58, 0.71),
                     (0.44, 0.74)], 3)
    pen.shape(muzzle, mix(coat, CREAM, 0.35) if max(coat) >= 90 else coat, 1.1)
    pen.oval(0.725, 0.81, 0.036, 0.032, (20, 18, 22))
    ear = smooth([(0.34, 0.96), (0.44, 0.93), (0.42, 0.76), (0.35, 0.64), (0.27, 0.74)], 3)
    pen.shape(ear, dark)
    pen.oval(0.53, 0.885, 0.026, 0.028, _EYE if max(coat) >= 90 else (235, 200, 130))
    if pen.fine:
        pen.oval(0.538, 0.893, 0.008, 0.008, (255, 255, 255))
        pen.line([(0.70, 0.75), (0.60, 0.745)], 0.010, _EYE)
        pen.shape(smooth([(0.62, 0.745), (0.68, 0.74), (0.66, 0.67), (0.62, 0.68)], 3),
                  (236, 110, 120))
    collar = (206, 60, 60) if coat[0] < 190 or coat[1] > 190 else (50, 110, 190)
    pen.line([(0.23, 0.69), (0.36, 0.62), (0.50, 0.66)], 0.045, collar)
    if pen.fine:
        pen.oval(0.40, 0.61, 0.022, 0.026, (250, 210, 90))


_CAT_BODY = smooth(
    [(-0.30, 0.0), (-0.36, 0.18), (-0.28, 0.42), (-0.10, 0.62), (0.10, 0.64), (0.22, 0.42),
     (0.25, 0.16), (0.24, 0.0), (0.0, -0.01)]
)
_CAT_TAIL = [(-0.24, 0.06), (-0.40, 0.05), (-0.50, 0.14), (-0.48, 0.28), (-0.40, 0.34)]


def cat(pen: Pen, paint: RGB, look: Look) -> None:
    """A sitting cat that looks at the viewer."""
    coat, dark = _fur(paint)
    pale = mix(coat, CREAM, 0.6) if max(coat) >= 90 else coat
    pen.shadow(0.42)
    pen.line(_CAT_TAIL, 0.10, coat)
    pen.oval(-0.40, 0.35, 0.05, 0.05, dark)
    pen.shape(_CAT_BODY, coat)
    pen.shape(smooth([(-0.30, 0.02), (-0.30, 0.22), (-0.14, 0.30), (-0.06, 0.1), (-0.1, 0.0)], 3),
              dark, alpha=140)
    pen.oval(0.10, 0.36, 0.10, 0.20, pale)
    for x in (0.03, 0.16):
        pen.line([(x, 0.34), (x, 0.06)], 0.085, coat)
        pen.oval(x + 0.01, 0.03, 0.065, 0.038, pale)
    pen.line([(0.095, 0.30), (0.095, 0.04)], 0.012, dark)
    for ear in ([(-0.16, 0.80), (-0.14, 1.02), (0.03, 0.90)], [(0.12, 0.90), (0.29, 1.02),
                                                               (0.31, 0.80)]):
        pen.shape(ear, coat)
        cx = sum(p[0] for p in ear) / 3
        cy = sum(p[1] for p in ear) / 3
        inner = [(cx + (x - cx) * 0.55, cy + (y - cy) * 0.55) for x, y in ear]
        pen.shape(inner, (232, 150, 150))
    pen.oval(0.075, 0.755, 0.235, 0.185, coat)
    pen.oval(0.085, 0.69, 0.12, 0.085, pale, 1.06)
    if max(coat) >= 90 and min(coat) < 200:  # a tabby's forehead
        for x in (0.02, 0.075, 0.13):
            pen.line([(x, 0.93), (x, 0.84)], 0.022, dark)
        for y in (0.2, 0.3, 0.4):
            pen.line([(-0.31, y), (-0.2, y - 0.01)], 0.026, dark)
    iris = (130, 200, 90) if max(coat) < 90 or coat[0] > 200 else (240, 190, 70)
    for x in (-0.02, 0.17):
        pen.oval(x, 0.775, 0.046, 0.046, iris, lit=not look.night)
        pen.oval(x, 0.775, 0.018, 0.040, _EYE)
    pen.shape([(0.05, 0.72), (0.105, 0.72), (0.078, 0.69)], (230, 120, 130))
    if pen.fine:
        for side in (-1, 1):
            for dy in (-0.02, 0.02):
                pen.line([(0.078 + side * 0.1, 0.69), (0.078 + side * 0.32, 0.69 + dy)], 0.006,
                         (250, 250, 250), alpha=190)
    pen.line([(-0.05, 0.605), (0.08, 0.575), (0.2, 0.605)], 0.035, (60, 130, 190))


_HORSE_BODY = smooth(
    [(-0.44, 0.58), (-0.34, 0.66), (-0.12, 0.63), (0.10, 0.64), (0.24, 0.66), (0.33, 0.56),
     (0.28, 0.43), (0.08, 0.37), (-0.16, 0.38), (-0.34, 0.42), (-0.44, 0.46)]
)
_HORSE_HEAD = smooth(
    [(0.10, 0.63), (0.24, 0.76), (0.32, 0.90), (0.40, 0.965), (0.47, 0.93), (0.58, 0.78),
     (0.62, 0.71), (0.58, 0.665), (0.51, 0.69), (0.44, 0.765), (0.39, 0.72), (0.34, 0.50),
     (0.22, 0.46)]
)
_HORSE_MANE = smooth(
    [
        (0.40, 0.99),
        (0.30, 0.94),
        (0.20, 0.80),
        (0.08, 0.64),
        (0.14, 0.58),
        (0.25, 0.70),
        (0.36, 0.88),
    ]
)
_HORSE_TAIL = smooth(
    [(-0.42, 0.62), (-0.50, 0.58), (-0.55, 0.40), (-0.60, 0.22), (-0.50, 0.20), (-0.46, 0.36),
     (-0.42, 0.50)]
)


def horse(pen: Pen, paint: RGB, look: Look) -> None:
    """A standing horse with mane and tail."""
    coat, dark = _fur(paint)
    bay = max(coat) >= 90 and min(coat) < 120
    hair: RGB = (40, 30, 28) if bay else (214, 206, 194) if min(coat) > 200 else dark
    pen.shadow(0.5)
    pen.shape(_HORSE_TAIL, hair)
    hoof = (52, 44, 42)
    for n, (x, kick) in enumerate(((-0.28, 0.02), (0.16, 0.03), (-0.38, -0.02), (0.26, 0.0))):
        colour = dark if n < 2 else coat
        hind = x < 0
        bend = -0.035 if hind else 0.0
        pen.shape([(x - 0.075, 0.48), (x - 0.045 + bend, 0.25), (x - 0.035 + kick, 0.04),
                   (x + 0.035 + kick, 0.04), (x + 0.035 + bend, 0.25), (x + 0.085, 0.46)],
                  colour)
        pen.shape([(x - 0.042 + kick, 0.0), (x - 0.035 + kick, 0.055), (x + 0.035 + kick, 0.055),
                   (x + 0.05 + kick, 0.0)], hoof)
    pen.shape(_HORSE_BODY, coat)
    pen.shape([(-0.36, 0.44), (-0.1, 0.43), (0.1, 0.41), (0.28, 0.45), (0.08, 0.375), (-0.16,
        0.385)],
              dark, alpha=140)
    pen.shape([(0.36, 0.94), (0.36, 1.02), (0.42, 0.95)], coat)
    pen.shape(_HORSE_HEAD, coat)
    pen.shape(_HORSE_MANE, hair)
    pen.shape([(0.40, 0.97), (0.44, 0.92), (0.46, 0.86), (0.42, 0.92)], hair)
    pen.oval(0.585, 0.705, 0.036, 0.034, mix(coat, (90, 70, 70), 0.45))
    pen.oval(0.455, 0.865, 0.016, 0.017, _EYE if max(coat) >= 90 else (220, 210, 200))
    pen.oval(0.60, 0.70, 0.008, 0.008, _EYE)
    if bay:
        pen.shape([(0.47, 0.91), (0.55, 0.79), (0.53, 0.79), (0.46, 0.89)], CREAM)


_COW_BODY = smooth(
    [(-0.60, 0.80), (-0.25, 0.84), (0.25, 0.82), (0.48, 0.86), (0.55, 0.66), (0.46, 0.42),
     (0.10, 0.36), (-0.35, 0.36), (-0.60, 0.42), (-0.68, 0.62)]
)


def cow(pen: Pen, paint: RGB, look: Look) -> None:
    """A cow with horns, a pink muzzle and an udder."""
    coat, dark = _fur(paint)
    pen.shadow(0.72)
    pen.line([(-0.62, 0.76), (-0.72, 0.6), (-0.71, 0.32)], 0.035, coat)
    pen.oval(-0.71, 0.28, 0.04, 0.07, dark)
    _legs(pen, coat, dark, (-0.38, 0.26, -0.54, 0.42), 0.46, 0.10, (52, 44, 42))
    pen.oval(-0.26, 0.36, 0.12, 0.07, (240, 170, 170))
    pen.shape(_COW_BODY, coat)
    if max(coat) < 90:  # a white patch or two tell a black cow from a bull
        pen.shape(smooth([(-0.30, 0.42), (-0.36, 0.58), (-0.12, 0.64), (-0.02, 0.46), (-0.14,
            0.38)],
                         3), (245, 243, 238))
    else:
        pen.shape([(-0.55, 0.44), (-0.2, 0.46), (0.3, 0.46), (0.46, 0.46), (0.1, 0.37),
                   (-0.35, 0.37)], mix(coat, CREAM, 0.5) if min(coat) < 200 else dark)
    for y in (0.93,):
        pen.line([(0.55, y - 0.02), (0.52, y + 0.05), (0.55, y + 0.08)], 0.04, (232, 220, 190))
        pen.line([(0.70, y - 0.02), (0.75, y + 0.05), (0.72, y + 0.08)], 0.04, (232, 220, 190))
    pen.oval(0.50, 0.84, 0.085, 0.04, dark)
    pen.oval(0.79, 0.84, 0.07, 0.038, dark)
    head = smooth([(0.52, 0.90), (0.64, 0.94), (0.76, 0.90), (0.76, 0.70), (0.74, 0.56),
                   (0.60, 0.56), (0.54, 0.70)], 3)
    pen.shape(head, coat, 1.0 if max(coat) >= 90 else 1.12)
    pen.shape([(0.62, 0.93), (0.67, 0.93), (0.69, 0.66), (0.62, 0.66)],
              (245, 243, 238) if min(coat) < 200 else mix(coat, dark, 0.4))
    pen.oval(0.665, 0.58, 0.105, 0.075, (240, 178, 172))
    pen.oval(0.63, 0.58, 0.016, 0.02, (150, 80, 84))
    pen.oval(0.70, 0.58, 0.016, 0.02, (150, 80, 84))
    pen.oval(0.585, 0.79, 0.02, 0.024, _EYE if max(coat) >= 90 else (250, 250, 250))
    pen.oval(0.735, 0.79, 0.02, 0.024, _EYE if max(coat) >= 90 else (250, 250, 250))


def sheep(pen: Pen, paint: RGB, look: Look) -> None:
    """A round woolly sheep."""
    coat = paint
    face: RGB = (58, 52, 54) if min(paint) > 200 else (214, 198, 178) if max(paint) > 90 else (
        92, 88, 94)
    pen.shadow(0.6)
    _legs(pen, face, shade(face, 0.8), (-0.22, 0.20, -0.32, 0.30), 0.36, 0.085, (40, 36, 38))
    tufts = [(-0.42, 0.58), (-0.34, 0.42), (-0.14, 0.36), (0.08, 0.36), (0.28, 0.42), (0.38, 0.58),
             (0.26, 0.74), (0.06, 0.80), (-0.16, 0.80), (-0.34, 0.72)]
    for n, (x, y) in enumerate(tufts):
        pen.oval(x, y, 0.16, 0.155, coat, 0.84 if 0 < n < 5 else 1.0)
    pen.oval(-0.02, 0.58, 0.40, 0.26, coat)
    for x, y, r in ((-0.2, 0.66, 0.10), (0.02, 0.70, 0.11), (0.2, 0.62, 0.09), (-0.08, 0.5, 0.09)):
        pen.oval(x, y, r, r * 0.9, coat, 1.10 if max(coat) < 90 else 1.03)
        pen.oval(x + 0.015, y - 0.03, r * 0.9, r * 0.72, coat)
    pen.oval(-0.56, 0.62, 0.07, 0.06, coat)
    head = smooth([(0.38, 0.88), (0.52, 0.90), (0.64, 0.74), (0.62, 0.62), (0.52, 0.60), (0.40,
        0.70)],
                  4)
    pen.shape(smooth([(0.40, 0.84), (0.28, 0.80), (0.26, 0.74), (0.38, 0.76)], 3), face, 0.85)
    pen.shape(head, face)
    pen.oval(0.42, 0.91, 0.12, 0.085, coat, 1.04)
    pen.oval(0.53, 0.79, 0.026, 0.026, (250, 250, 246))
    pen.oval(0.537, 0.788, 0.013, 0.015, _EYE)


def bird(pen: Pen, paint: RGB, look: Look) -> None:
    """A bird in flight, both wings raised."""
    coat, dark = paint, shade(paint, 0.74) if max(paint) > 90 else (70, 70, 82)
    far = smooth([(0.14, 0.40), (0.22, 0.70), (0.46, 0.98), (0.10, 0.86), (-0.12, 0.52)], 4)
    pen.shape(far, dark)
    pen.shape([(-0.42, 0.36), (-0.84, 0.42), (-0.80, 0.30), (-0.86, 0.20), (-0.40, 0.22)], dark)
    body = smooth([(-0.55, 0.30), (-0.2, 0.42), (0.24, 0.46), (0.52, 0.44), (0.54, 0.32),
                   (0.28, 0.18), (-0.1, 0.14), (-0.4, 0.22)], 4)
    pen.shape(body, coat)
    pen.shape(smooth([(-0.3, 0.22), (0.1, 0.26), (0.42, 0.26), (0.24, 0.17), (-0.1, 0.145)], 3),
              mix(coat, CREAM, 0.55) if max(coat) > 90 else dark)
    pen.oval(0.56, 0.40, 0.125, 0.12, coat)
    pen.shape([(0.64, 0.44), (0.86, 0.37), (0.65, 0.33)], (246, 170, 50))
    pen.oval(0.60, 0.435, 0.024, 0.026, _EYE if max(coat) > 90 else (250, 240, 220))
    near = smooth([(0.18, 0.38), (0.02, 0.64), (-0.30, 0.96), (-0.62, 1.0), (-0.5, 0.80),
                   (-0.36, 0.54), (-0.18, 0.32)], 4)
    pen.shape(near, coat, 1.08 if max(coat) > 90 else 1.14)
    pen.shape([(-0.62, 1.0), (-0.58, 0.90), (-0.4, 0.78), (-0.32, 0.92)], dark)


_SWAN_NECK = [(0.26, 0.30), (0.36, 0.46), (0.34, 0.64), (0.30, 0.78), (0.34, 0.90), (0.42, 0.92)]


def swan(pen: Pen, paint: RGB, look: Look) -> None:
    """A swimming swan with its neck in an S."""
    coat, dark = paint, shade(paint, 0.82) if max(paint) > 90 else (74, 74, 84)
    pen.shape([(-0.44, 0.28), (-0.66, 0.42), (-0.56, 0.22), (-0.4, 0.12)], dark)
    body = smooth([(-0.58, 0.22), (-0.36, 0.36), (0.0, 0.40), (0.34, 0.34), (0.46, 0.18),
                   (0.32, 0.02), (-0.1, -0.01), (-0.42, 0.04)], 4)
    pen.line(_SWAN_NECK, 0.105, coat)
    pen.shape(body, coat)
    pen.oval(0.40, 0.905, 0.085, 0.07, coat)
    pen.shape([(0.46, 0.94), (0.62, 0.87), (0.60, 0.84), (0.45, 0.86)],
              (240, 130, 40) if max(coat) > 90 else (214, 50, 50))
    pen.shape([(0.45, 0.94), (0.50, 0.93), (0.47, 0.87)], (30, 28, 30))
    pen.oval(0.42, 0.93, 0.013, 0.015, _EYE if max(coat) > 90 else (220, 60, 60))
    wing = smooth([(0.16, 0.34), (-0.1, 0.50), (-0.44, 0.50), (-0.66, 0.42), (-0.46, 0.26),
                   (-0.16, 0.14), (0.1, 0.18)], 4)
    pen.shape(wing, coat, 1.05 if max(coat) > 90 else 1.1)
    for i in range(3):
        y = 0.22 + i * 0.085
        pen.line([(-0.05 - i * 0.03, y), (-0.3 - i * 0.1, y + 0.055)], 0.018, dark)
    for i, y in enumerate((-0.03, -0.07)):
        w = 0.62 - 0.12 * i
        pen.line([(-w, y), (w, y)], 0.012, (255, 255, 255), alpha=90)


def person(pen: Pen, paint: RGB, look: Look) -> None:
    """A person in a coat under an umbrella of the given colour."""
    pen.shadow(0.24)
    coat = pen.rng.choice(((70, 84, 112), (176, 146, 108), (96, 92, 98), (112, 120, 96)))
    hair = pen.rng.choice(((54, 38, 30), (110, 70, 40), (30, 26, 28), (196, 152, 92)))
    skin = pen.rng.choice(((240, 200, 170), (206, 156, 118), (142, 96, 68)))
    for x, way in ((-0.055, -0.03), (0.045, 0.04)):
        pen.line([(x, 0.34), (x + way * 0.4, 0.18), (x + way, 0.04)], 0.066, (52, 56, 74))
        pen.shape([(x + way - 0.035, 0.0), (x + way - 0.035, 0.045), (x + way + 0.035, 0.045),
                   (x + way + 0.075, 0.0)], (44, 36, 36))
    body = smooth([(-0.10, 0.60), (-0.135, 0.42), (-0.16, 0.24), (0.0, 0.225), (0.15, 0.24),
                   (0.12, 0.42), (0.09, 0.60), (0.0, 0.63)], 3)
    pen.shape(body, coat)
    pen.shape(
        [(-0.10, 0.58), (-0.135, 0.42), (-0.16, 0.24), (-0.06, 0.23), (-0.04, 0.58)], coat, 0.8
    )
    pen.line([(-0.135, 0.40), (0.125, 0.40)], 0.018, coat, 0.6)
    pen.oval(0.01, 0.695, 0.062, 0.075, skin)
    pen.shape(smooth([(-0.06, 0.66), (-0.065, 0.74), (-0.01, 0.785), (0.06, 0.77), (0.065, 0.735),
                      (0.0, 0.735), (-0.02, 0.66)], 3), hair)
    pen.line([(0.13, 0.50), (0.10, 0.98)], 0.014, (60, 50, 46))
    pen.line([(0.07, 0.57), (0.16, 0.46), (0.13, 0.53)], 0.055, coat, 0.9)
    pen.oval(0.132, 0.545, 0.024, 0.024, skin)
    cx, low, top = 0.07, 0.76, 1.0
    ribs = [-0.36, -0.24, -0.085, 0.085, 0.24, 0.36]
    for i in range(5):
        a, b = ribs[i], ribs[i + 1]
        arch = [
            (cx + a + (b - a) * t, low + 0.035 * sin(pi * t)) for t in (1.0, 0.75, 0.5, 0.25, 0.0)
        ]
        left = [(cx + 0.36 * sin(s * pi / 2) * a / 0.36, low + (top - low) * cos(s * pi / 2))
                for s in (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)]
        right = [(cx + 0.36 * sin(s * pi / 2) * b / 0.36, low + (top - low) * cos(s * pi / 2))
                 for s in (0.2, 0.4, 0.6, 0.8, 1.0)]
        away = (i - 2) / 2 * pen.sun_side
        tone = paint if max(paint) > 90 else shade((58, 58, 68), 1.0 if i % 2 else 0.8)
        pen.shape([*left, *right, *arch[1:]], tone, 1.0 + 0.16 * away - (0.06 if i % 2 else 0.0))
    pen.line([(cx + 0.028, 0.99), (cx + 0.03, 1.03)], 0.014, (60, 50, 46))


#: Dark, middle and bright leaves of a tree of each colour name.
LEAVES: dict[str, Ramp] = {
    "green": ((22, 66, 40), (58, 128, 58), (150, 200, 92)),
    "red": ((92, 16, 26), (196, 44, 38), (246, 112, 72)),
    "orange": ((132, 52, 14), (232, 120, 30), (255, 186, 84)),
    "yellow": ((150, 96, 12), (240, 190, 40), (255, 236, 130)),
    "pink": ((158, 70, 108), (240, 150, 184), (255, 214, 228)),
    "white": ((130, 148, 178), (222, 230, 242), (255, 255, 255)),
}


def tree(pen: Pen, paint: RGB, look: Look, *, leaves: Ramp | None = None) -> None:
    """A broad-leaved tree; ``leaves`` overrides the colour."""
    pen.shadow(0.30, 80)
    bark: RGB = (92, 66, 48)
    lean = pen.rng.uniform(-0.03, 0.03)
    pen.shape(smooth([(-0.075, 0.0), (-0.036, 0.12), (-0.028 + lean, 0.42), (0.028 + lean, 0.42),
                      (0.036, 0.12), (0.08, 0.0), (0.0, 0.015)], 3), bark)
    pen.shape([(0.01, 0.02), (0.005, 0.12), (0.008 + lean, 0.42), (0.028 + lean, 0.42), (0.036,
        0.12),
               (0.075, 0.0)], bark, 0.72)
    for x, y in ((-0.16, 0.52), (0.15, 0.55)):
        pen.line([(lean, 0.3), (x, y)], 0.028, bark, 0.9)
    stamps = crowns()
    ramp = leaves or ((20, 60, 36), (56, 124, 58), (150, 196, 90))
    pick = pen.rng.randrange(len(stamps))
    pen.stamp(stamps[pick], (-0.50, 0.17, 0.50, 1.05), ramp)
    if pen.fine and ramp[2][0] > 200 and not look.snowy:  # fallen petals or leaves
        for _ in range(22):
            x, y = pen.rng.uniform(-0.45, 0.45), pen.rng.uniform(-0.03, 0.03)
            pen.oval(x, y, 0.012, 0.007, ramp[1 if pen.rng.random() < 0.6 else 2])


def flower(pen: Pen, paint: RGB, look: Look) -> None:
    """One large flower on its stem."""
    stem: RGB = (66, 132, 62)
    sway = pen.rng.uniform(-0.05, 0.05)
    pen.oval(0, 0, 0.16, 0.03, (20, 34, 20), alpha=70, lit=False)
    pen.line([(0, 0), (sway * 0.3, 0.35), (sway, 0.74)], 0.038, stem)
    for side, y in ((-1, 0.12), (1, 0.22)):
        pen.shape(smooth([(0, y), (side * 0.12, y + 0.14), (side * 0.25, y + 0.22),
                          (side * 0.17, y + 0.07)], 4), stem, 0.9 if side < 0 else 1.15)
    n = 8
    for back in (True, False):
        for i in range(n):
            a = 2 * pi * (i + (0.5 if back else 0.0)) / n + 0.3
            r = 0.155 if back else 0.135
            px, py = sway + r * cos(a), 0.76 + r * sin(a)
            ux, uy = cos(a), sin(a)
            length, width = (0.105, 0.06)
            petal = [(px + ux * length * cos(t) - uy * width * sin(t),
                      py + uy * length * cos(t) + ux * width * sin(t))
                     for t in (0, 0.6, 1.2, 1.9, 2.6, 3.14, 3.7, 4.4, 5.1, 5.7)]
            k = 0.80 if back else 1.02 + 0.1 * sin(a)
            if min(paint) > 200:
                k = 0.86 if back else 1.0
            pen.shape(petal, paint, k)
    heart: RGB = (250, 200, 60) if not (paint[0] > 230 and paint[1] > 180 and paint[2] < 90) else (
        150, 86, 30)
    pen.oval(sway, 0.76, 0.082, 0.082, heart, 0.9)
    pen.oval(sway - 0.012, 0.772, 0.052, 0.052, heart, 1.2)


def snowman(pen: Pen, paint: RGB, look: Look) -> None:
    """Three balls of snow, a hat, a carrot, and a scarf of the given colour."""
    snow: RGB = (246, 249, 253)
    pen.shadow(0.34)
    side = pen.sun_side
    for y, r in ((0.21, 0.24), (0.51, 0.175), (0.745, 0.125)):
        pen.oval(0, y, r, r, snow, 0.80)
        pen.oval(side * r * 0.10, y + r * 0.08, r * 0.90, r * 0.90, snow, 0.93)
        pen.oval(side * r * 0.22, y + r * 0.16, r * 0.70, r * 0.72, snow)
    pen.line([(-0.15, 0.54), (-0.33, 0.66), (-0.39, 0.74)], 0.022, TIMBER)
    pen.line([(-0.32, 0.655), (-0.38, 0.64)], 0.018, TIMBER)
    pen.line([(0.15, 0.54), (0.33, 0.62), (0.40, 0.60)], 0.022, TIMBER)
    pen.line([(0.32, 0.615), (0.36, 0.68)], 0.018, TIMBER)
    scarf = smooth([(-0.145, 0.66), (-0.12, 0.60), (0.0, 0.585), (0.13, 0.60), (0.145, 0.66),
                    (0.0, 0.635)], 3)
    pen.shape([(0.05, 0.63), (0.14, 0.62), (0.16, 0.38), (0.07, 0.37)], paint, 0.86)
    pen.shape(scarf, paint)
    if pen.fine:
        for i in range(4):
            pen.line([(0.075 + i * 0.025, 0.375), (0.075 + i * 0.025, 0.345)], 0.010, paint)
        pen.line([(0.06, 0.46), (0.155, 0.465)], 0.018, CREAM)
    for x in (-0.045, 0.05):
        pen.oval(x, 0.775, 0.018, 0.02, (30, 30, 34))
    pen.shape([(0.0, 0.755), (0.19, 0.725), (0.0, 0.72)], (244, 134, 40))
    for y in (0.42, 0.50):
        pen.oval(0.02, y, 0.018, 0.018, (30, 30, 34))
    pen.bar(-0.165, 0.835, 0.165, 0.862, (44, 42, 50))
    pen.bar(-0.095, 0.85, 0.095, 1.0, (44, 42, 50))
    pen.bar(-0.095, 0.86, 0.095, 0.895, paint, 0.9)
    pen.oval(0, 1.0, 0.095, 0.014, (62, 60, 70))


def campfire(pen: Pen, paint: RGB, look: Look) -> None:
    """Burning logs in a ring of stones, and their light."""
    power = 0.8 if look.night else 0.34
    pen.glow(0, 0.35, 3.2, (255, 140, 50), 0.42 * power)
    pen.oval(0, 0.0, 1.9, 0.20, (255, 150, 60), alpha=int(70 * power), lit=False)
    pen.oval(0, 0.0, 1.1, 0.13, (255, 180, 90), alpha=int(90 * power), lit=False)
    for i in range(9):
        a = pi * i / 8
        pen.oval(-0.52 * cos(a), 0.05 + 0.05 * sin(a), 0.085, 0.06, (120, 112, 110), 0.9)
    for log in (((-0.46, 0.05), (0.30, 0.24)), ((0.46, 0.05), (-0.30, 0.24))):
        pen.line(log, 0.13, (104, 66, 42))
        pen.oval(log[0][0], log[0][1] + 0.01, 0.065, 0.065, (200, 150, 100))
    flicker = pen.rng.uniform(-0.05, 0.05)
    for w, h, c in ((0.36, 1.0, (240, 92, 26)), (0.27, 0.80, (252, 150, 36)), (0.17, 0.56, (255,
        214, 80)),
                    (0.08, 0.34, (255, 248, 206))):
        flame = smooth([(-w, 0.16), (-w * 0.98, 0.36 * h), (-w * 0.46, 0.56 * h),
                        (-w * 0.36 + flicker, 0.80 * h), (flicker, h), (w * 0.28 + flicker,
                            0.72 * h),
                        (w * 0.52, 0.62 * h), (w * 0.98, 0.38 * h), (w, 0.18), (0.0, 0.10)], 4)
        pen.shape(flame, c, lit=False)
    pen.glow(0, 0.45, 0.75, (255, 200, 90), 0.35)
    for _ in range(14):
        x, y = pen.rng.gauss(0, 0.22), pen.rng.uniform(0.9, 2.0)
        pen.oval(x, y, 0.015, 0.018, (255, 196, 96), alpha=220, lit=False)
    for log in (((-0.50, -0.02), (0.10, 0.10)), ((0.44, -0.03), (-0.08, 0.09))):
        pen.line(log, 0.10, (84, 52, 36))
    pen.oval(-0.50, -0.015, 0.05, 0.05, RUBBER, 1.2)
