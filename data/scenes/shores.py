"""Draws waterside places and the city from the horizon to the viewer."""

from __future__ import annotations

from math import cos, pi, sin

from .canvas import RGB, mix
from .stage import SNOW, Stage, draw_meadow, draw_peaks, draw_water

# One point per line would hide the shapes.
# fmt: off


def beach(stage: Stage) -> None:
    """Sea to the horizon, surf, and sand with a palm now and then."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    sky_line, shore = 0.46 * h, 0.665 * h
    deep = stage.tone((26, 104, 158) if not mood.night else (34, 62, 112), 1.0)
    shallow = stage.tone((92, 198, 200) if not mood.night else (58, 98, 140), 1.0)
    canvas.gradient(sky_line, shore + 0.08 * h,
                    [(0.0, mix(deep, mood.sky[3], 0.42)), (0.3, mix(deep, mood.sky[2], 0.18)),
                     (0.75, mix(deep, shallow, 0.7)), (1.0, shallow)])
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
                             (1, stage.tone((104, 122, 112), 1.0, 0.58))])
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
                [(0, stage.tone(sand, 0.94)), (0.25, stage.tone(sand, 1.05)), (1, stage.tone(sand,
                    0.84))])
    foam = coast(-0.006, 0.014)
    canvas.draw.polygon([*foam, *[(x, y + 0.013 * h) for x, y in reversed(foam)]],
                        fill=(*stage.tone((255, 255, 255)), 235))
    for _ in range(70 if canvas.fine else 16):  # ripples in the sand
        t = rng.random()
        x, y = rng.random() * w, (0.74 + 0.26 * t) * h
        half = u * (0.01 + 0.04 * t)
        dark = rng.random() < 0.6
        canvas.draw.ellipse((x - half, y - u * 0.0016, x + half, y + u * 0.0016),
                            fill=(*stage.tone(sand, 0.78 if dark else 1.2), 90))
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


def lake(stage: Stage) -> None:
    """Mountains and woods mirrored in still water, with reeds on the near shore."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    line = 0.50 * h
    wide = w / u
    canvas.gradient(0.44 * h, line, [(0, mood.sky[3]), (1, mood.haze)])
    draw_peaks(stage, line, 0.26 * u, 0.58, max(3, round(2.6 * wide)), (110, 124, 152))
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
    draw_water(stage, line, 0.90 * h, 0.68)
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
        canvas.draw.line((x * w, y, x * w + lean * s, y - s), fill=stage.tone(reed,
            rng.uniform(0.7, 1.1)),
                         width=max(1, int(0.0035 * u)))
    draw_meadow(stage, 0.91 * h)


def harbour(stage: Stage) -> None:
    """A row of gabled houses on the far quay, masts, water, and the stones of this one."""
    w, h, u, rng, mood, canvas = stage.w, stage.h, stage.u, stage.rng, stage.mood, stage.canvas
    draw, line = canvas.draw, 0.52 * h
    canvas.gradient(0.42 * h, line, [(0, mood.sky[3]), (1, mood.haze)])
    hills = stage.ridge(0.49 * h, 0.15 * u, 0.0, waves=1.6)
    land = SNOW if mood.snowy else (92, 118, 104)
    stage.hill(hills, line, stage.tone(land, 0.95, 0.55), stage.tone(land, 0.85, 0.45))
    walls: tuple[RGB, ...] = ((196, 120, 96), (222, 194, 138), (226, 220, 206), (150, 164, 168),
                              (204, 160, 116), (172, 132, 112))
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
                  fill=stage.tone(SNOW if mood.snowy else (110, 78, 74), 1.0, 0.14))
        draw.rectangle((x + width * 0.93, top, x + width, line), fill=stage.tone(wall, 0.75, 0.14))
        rows = max(2, int(tall / (0.042 * u)))
        for r in range(rows):
            for c in range(3):
                if r == rows - 1 and c == 1:
                    draw.rectangle((x + width * 0.42, line - 0.036 * u, x + width * 0.60, line),
                                   fill=stage.tone((90, 62, 52), 1.0, 0.1))
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
        draw.line((mx, line + 0.008 * h, mx, line - tall), fill=stage.tone((230, 222, 208), 0.9,
            0.1),
                  width=max(1, int(0.0032 * u)))
        draw.polygon([(mx - 0.035 * u, line - 0.005 * u), (mx + 0.04 * u, line - 0.007 * u),
                      (mx + 0.028 * u, line + 0.012 * u), (mx - 0.028 * u, line + 0.012 * u)],
                     fill=stage.tone((222, 222, 220), 0.9, 0.1))
        if mood.lamps and canvas.fine:
            canvas.glow(mx, line - tall, 0.02 * u, (255, 244, 200), 0.8)
    draw_water(stage, line + 0.006 * h, 0.84 * h, 0.62)
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
                draw.line((px, y0, px + (px - w / 2) * 0.06, y1), fill=(*stage.tone(quay, 0.7),
                    130),
                          width=max(1, u // 400))
    for i in range(3):
        pen = stage.pen((0.07 + 0.43 * i) * w, edge + 0.022 * h, 0.055 * u)
        pen.oval(0.1, 0.0, 0.55, 0.10, (20, 20, 30), alpha=90, lit=False)
        pen.bar(-0.26, 0.0, 0.26, 0.78, (58, 60, 68))
        pen.oval(0, 0.82, 0.42, 0.18, (74, 76, 86))


_WALLS: tuple[RGB, ...] = (
    (202, 178, 152), (186, 158, 142), (168, 172, 178), (210, 196, 172), (152, 142, 144),
    (184, 188, 180), (196, 166, 146), (138, 146, 158),
)


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
                          width=max(1, int(0.004 * u)))
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
                  width=max(1, u // 500))
    draw.rectangle((0, road - 0.006 * h, w, road + 0.008 * h), fill=stage.tone(stone, 0.62))
    tar = (84, 86, 96) if not mood.snowy else (190, 198, 210)
    canvas.gradient(road + 0.008 * h, h, [(0, stage.tone(tar, 1.05)), (1, stage.tone(tar, 0.72))])
    step = 0.22 * u
    for i in range(-1, int(w / step) + 2):
        px = i * step + 0.05 * u
        draw.polygon([(px, 0.935 * h), (px + step * 0.5, 0.935 * h), (px + step * 0.47, 0.95 * h),
                      (px - step * 0.06, 0.95 * h)], fill=(*stage.tone((244, 240, 226)), 190))
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
                      (x + width, top)], fill=stage.tone(roof, 0.96, 0.08))
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
                (92, 116, 140), rng.uniform(0.8, 1.15), 0.05)
            if canvas.fine:
                draw.rectangle((left - 0.004 * u, up - 0.004 * u, right + 0.004 * u,
                    low + 0.006 * u),
                               fill=stage.tone(wall, 1.22))
            draw.rectangle((left, up, right, low), fill=glass)
            if canvas.fine and not lit:
                draw.polygon([(left, low), (left, up), (right, up)], fill=(255, 255, 255, 26))
            if canvas.fine:
                draw.line(((left + right) / 2, up, (left + right) / 2, low),
                          fill=stage.tone(wall, 0.8), width=max(1, u // 480))
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
                      (b, front + 0.012 * u), (a, front + 0.012 * u)], fill=tone)
    if lit:
        canvas.glow(x + width * 0.36, base, 0.16 * u, (255, 220, 150), 0.35)
