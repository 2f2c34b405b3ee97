"""Draws inland places from the horizon to the viewer, one function per place."""

from __future__ import annotations

from .canvas import RGB, veil
from .stage import SNOW, Stage, draw_meadow, draw_peaks

# One point per line would hide the shapes.
# fmt: off


def forest(stage: Stage) -> None:
    """Trunks behind trunks into the mist, a path, ferns, and sun rays."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    season = "winter" if mood.snowy else stage.scene.season
    ground: RGB = {"winter": SNOW, "autumn": (172, 108, 56)}.get(season, (92, 132, 64))
    glow = stage.tone({"autumn": (246, 206, 140), "winter": (214, 226, 242)}.get(
        season, (186, 216, 150)), 1.0, 0.35)
    canvas.draw.rectangle((0, int(0.34 * h), w, h), fill=glow)
    veil(canvas.image, glow, [(0, 0.25), (0.34, 0.92), (0.4, 1), (1, 1)])
    for layer in range(4):
        fade = (0.72, 0.52, 0.30, 0.10)[layer]
        base = (0.60, 0.635, 0.675, 0.715)[layer] * h
        size = (0.50, 0.64, 0.80, 1.02)[layer] * u
        line = stage.ridge(base, 0.02 * h, 0.0)
        stage.hill(line, h, stage.tone(ground, 0.92, fade), stage.tone(ground, 0.82, fade * 0.6))
        count = max(3, int((11, 9, 7, 4)[layer] * w / u / 1.3))
        for i in range(count):
            x = (i + rng.uniform(0.15, 0.85)) / count * w
            if layer == 3 and abs(x / w - 0.5) < 0.30:  # a clearing for the subjects
                continue
            y = base + rng.uniform(-0.01, 0.012) * h
            if rng.random() < 0.5 and layer < 3:
                stage.fir(x, y, size * rng.uniform(0.75, 1.1), fade)
                continue
            half = size * 0.026 * rng.uniform(0.7, 1.3)
            bark = (92, 72, 58) if rng.random() < 0.75 else (206, 200, 190)
            top = y - size * 1.1
            canvas.draw.polygon([(x - half * 1.5, y), (x - half, y - size * 0.1), (x - half * 0.7,
                top),
                                 (x + half * 0.7, top), (x + half, y - size * 0.1),
                                     (x + half * 1.5, y)],
                                fill=stage.tone(bark, 0.8, fade))
            lit = half if mood.sun_x > 0.5 else -half
            canvas.draw.polygon([(x + lit, y - size * 0.1), (x + lit * 0.7, top), (x + lit * 0.25,
                top),
                                 (x + lit * 0.3, y - size * 0.1)],
                                fill=stage.tone(bark, 1.12, fade))
            for _ in range(2 if canvas.fine or layer > 1 else 1):
                cx, cy = x + rng.uniform(-0.14, 0.14) * size, y - size * rng.uniform(0.52, 0.86)
                stage.crown(cx, cy, size * rng.uniform(0.40, 0.60), fade)
    if mood.sun_shows and not mood.night:
        sx, sy = mood.sun_x * w, -0.05 * h
        for i in range(5):
            a = (0.28 + 0.13 * i) * (1 if mood.sun_x < 0.5 else -1)
            reach, half = 0.95 * h, (0.018 + 0.012 * (i % 2)) * w
            ex = sx + reach * a * 1.25
            canvas.draw.polygon([(sx - half * 0.3, sy), (sx + half * 0.3, sy), (ex + half * 2,
                reach),
                                 (ex - half * 2, reach)], fill=(*mood.sun, 26))
    floor = stage.ridge(0.725 * h, 0.02 * h, 0.0)
    stage.hill(floor, h, stage.tone(ground, 1.04), stage.tone(ground, 0.66))
    path = stage.tone(SNOW if mood.snowy else (176, 146, 108), 0.94)
    bend = rng.uniform(0.35, 0.65) * w
    canvas.draw.polygon([(bend - 0.02 * w, 0.725 * h), (bend + 0.02 * w, 0.725 * h),
                         (0.56 * w, 0.80 * h), (0.80 * w, h), (0.28 * w, h), (0.42 * w, 0.80 * h)],
                        fill=(*path, 150))
    for x in (-0.02, 0.10, 0.90, 1.02):
        stage.crown(x * w, (0.80 + rng.uniform(-0.03, 0.03)) * h, 0.20 * u, 0.0)
    if not mood.snowy:
        leaf = (206, 120, 50) if season == "autumn" else (96, 150, 70)
        stage.tufts(0.76 * h, 1.01 * h, leaf, 80)
        if season == "autumn":
            stage.blooms(0.75 * h, h, ((230, 120, 40), (214, 70, 40), (246, 196, 70)), 110)
        elif season == "spring":
            stage.blooms(0.75 * h, h, ((250, 250, 250), (190, 150, 240)), 70)


def mountains(stage: Stage) -> None:
    """Snow-capped peaks behind fir-grown slopes and a meadow."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    base = 0.60 * h
    canvas.gradient(0.45 * h, 0.75 * h, [(0, mood.sky[3]), (1, mood.haze)])
    wide = w / u
    draw_peaks(stage, base, 0.34 * u, 0.62, max(3, round(3.5 * wide)), (116, 124, 156))
    draw_peaks(stage, base, 0.42 * u, 0.26, max(2, round(2.2 * wide)), (112, 110, 134))
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
    draw_meadow(stage, 0.72 * h)


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
        points = [(x - half * 1.35, line), (x - half * 1.05, line - tall * 0.42),
            (x - half * 0.92, line - tall * 0.5),
                  (x - half * 0.84, line - tall), (x + half * 0.7, line - tall * 0.97),
                      (x + half * 0.8, line - tall * 0.5),
                  (x + half * 1.0, line - tall * 0.4), (x + half * 1.3, line)]
        canvas.land(
            points, [(0, stage.tone(rock, 1.08, fade)), (1, stage.tone(rock, 0.9, fade + 0.15))]
        )
        dark = 1 if mood.sun_x < 0.5 else -1
        canvas.draw.polygon([(x + dark * half * 0.2, line), (x + dark * half * 0.3,
            line - tall * 0.97),
                             (x + dark * half * 0.72, line - tall * 0.97),
                                 (x + dark * half * 0.85, line - tall * 0.45),
                             (x + dark * half * 1.25, line)],
                            fill=(*stage.tone(rock, 0.66, fade), 120))
    side = -1 if mood.sun_x < 0.5 else 1
    for n, (base, tall, fade) in enumerate(((0.56, 0.05, 0.42), (0.60, 0.08, 0.26), (0.655, 0.10,
        0.12),
                                            (0.73, 0.10, 0.0))):
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
                    y0 + (y1 + fall - y0) * t**0.8) for t in (1.0, 0.8, 0.6, 0.4, 0.2)]
            canvas.draw.polygon([*flank, *bow], fill=(*stage.tone((176, 104, 70), 0.95, fade), 150))
    for _ in range(46 if canvas.fine else 12):
        t = rng.random()
        x, y = rng.random() * w, (0.76 + 0.24 * t) * h
        half = u * (0.03 + 0.09 * t)
        canvas.draw.arc((x - half, y, x + half, y + half * 0.22), 200, 340,
                        fill=(*stage.tone(sand, 0.72), 110), width=max(1, int(u * 0.0024)))
    stage.tufts(0.75 * h, h, (150, 138, 84), 10)


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
        if (n and canvas.fine) or n == 3:  # furrows run towards one far point
            vanish = rng.uniform(0.1, 0.9) * w
            for i in range(int(11 * wide)):
                x = (i / (11 * wide)) * w * 1.6 - 0.3 * w
                k = min(
                    max(int(vanish / w * (len(line) - 1) + (x - vanish) / w * 30), 0), len(line) - 1
                )
                canvas.draw.line((line[k][0], line[k][1] + 1, x,
                    line[k][1] + (0.10 + 0.04 * n) * h),
                                 fill=(*stage.tone(crop, 0.80, fade), 110),
                                 width=max(1, int(u * (0.0015 + 0.0012 * n))))
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
                         (0.48 * w - 0.03 * u, 0.80 * h)], fill=(*track, 150))
    draw_meadow(stage, 0.72 * h)
