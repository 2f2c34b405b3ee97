"""Text in images: recall of words, false text and speed.

    python -m benchmarks.ocr --photos FOLDER

Renders 200 signs, receipts, screenshots and slides with known words, and reads them and the photos
of a folder (without text) on one core. A word is found if it was read exactly, ignoring case.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from sightline.indexer.photo.ocr import TextReader

VOCABULARY = """
    invoice total receipt coffee bakery Müller Straße station exit platform museum closed open
    monday friday price bread butter milk apples cheese parking garage hotel reception welcome
    library concert ticket harbour market street avenue castle garden school hospital pharmacy
    police danger caution water electric private property beach swimming forbidden allowed summer
    winter sale discount budget revenue quarter growth forecast project deadline meeting agenda
    summary conclusion questions account password settings network battery storage download upload
    message contact photo gallery Zürich Köln Größe Übung Café château forêt niño señor Ärzte
    Öffnung Frühling
"""
WORDS = VOCABULARY.split()
KINDS = ("sign", "receipt", "screenshot", "slide")


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def sign(draw: random.Random) -> tuple[Image.Image, list[str]]:
    """Two or three words on a plate in a blurred scene, turned a little."""
    scene = Image.effect_noise((60, 45), 90).resize((1200, 900)).convert("RGB")
    scene = scene.filter(ImageFilter.GaussianBlur(8))
    words = draw.sample(WORDS, draw.choice((2, 3)))
    back, ink = draw.choice((("#0a4ea0", "white"), ("white", "black"), ("#f2c400", "black")))
    plate = Image.new("RGB", (600, 90 * len(words) + 30), back)
    pen = ImageDraw.Draw(plate)
    for n, word in enumerate(words):
        pen.text((30, 20 + 90 * n), word, fill=ink, font=font(draw.randint(50, 70)))
    plate = plate.rotate(draw.uniform(-6, 6), expand=True, fillcolor="#8a8a8a")
    scene.paste(plate, (draw.randint(50, 400), draw.randint(50, 400)))
    return scene, words


def receipt(draw: random.Random) -> tuple[Image.Image, list[str]]:
    """A narrow list of words and prices, photographed a little out of focus."""
    words = draw.sample(WORDS, 14)
    paper = Image.new("RGB", (620, 1000), "#f4f2ec")
    pen = ImageDraw.Draw(paper)
    for n, word in enumerate(words):
        pen.text((50, 40 + 64 * n), word, fill="#222", font=font(30))
        pen.text(
            (450, 40 + 64 * n), f"{draw.randint(1, 99)}.{draw.randint(10, 99)}", "#222", font(30)
        )
    table = Image.new("RGB", (1000, 1300), "#6b4a2f")
    table.paste(paper.rotate(draw.uniform(-3, 3), expand=True, fillcolor="#6b4a2f"), (150, 120))
    return table.filter(ImageFilter.GaussianBlur(0.8)), words


def screenshot(draw: random.Random) -> tuple[Image.Image, list[str]]:
    """Small text in a window of 1,920 pixels."""
    words = draw.sample(WORDS, 24)
    dark = draw.random() < 0.5
    page = Image.new("RGB", (1920, 1080), "#1e1f22" if dark else "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, 1920, 50), fill="#3c3f41" if dark else "#dddddd")
    for n, word in enumerate(words):
        place = (80 + 430 * (n % 4), 120 + 140 * (n // 4))
        pen.text(
            place, word, fill="#e0e0e0" if dark else "#202020", font=font(draw.randint(18, 26))
        )
    return page, words


def slide(draw: random.Random) -> tuple[Image.Image, list[str]]:
    """A title and points, projected and photographed."""
    words = draw.sample(WORDS, 9)
    page = Image.new("RGB", (1280, 720), draw.choice(("white", "#102a43", "#fdf6e3")))
    ink = "white" if page.getpixel((0, 0)) == (16, 42, 67) else "#102a43"
    pen = ImageDraw.Draw(page)
    pen.text((80, 60), " ".join(words[:2]), fill=ink, font=font(64))
    for n, word in enumerate(words[2:]):
        pen.text((120, 190 + 68 * n), f"\u2022 {word}", fill=ink, font=font(40))
    room = Image.new("RGB", (1500, 900), "#1a1a1a")
    room.paste(page.rotate(draw.uniform(-2, 2), fillcolor="#1a1a1a"), (110, 90))
    return room, words


def rendered(count: int) -> Iterator[tuple[str, Image.Image, list[str]]]:
    """``count`` images: kind, image, words."""
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        image, words = globals()[kind](random.Random(n))
        yield kind, image, words


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="A folder of photos without text.")
    parser.add_argument("--count", type=int, default=200, help="Rendered images.")
    given = parser.parse_args()
    reader = TextReader()
    found: dict[str, list[bool]] = defaultdict(list)
    exact: dict[str, float] = defaultdict(float)
    for kind, image, words in rendered(given.count):
        before = cpu_seconds()
        text = " ".join(line.text for line in reader.read(image))
        exact[kind] += cpu_seconds() - before
        read = set(re.findall(r"[^\W_]+", text.lower()))
        found[kind] += [word.lower() in read for word in words]
    for kind, hits in found.items():
        seconds = exact[kind] / (given.count / len(KINDS))
        print(f"{kind:12} recall {sum(hits) / len(hits):.3f} of {len(hits)}  {seconds:.2f} CPU s")
    every = [hit for hits in found.values() for hit in hits]
    print(f"{'all':12} recall {sum(every) / len(every):.3f} of {len(every)}")
    if given.photos:
        measure_photos(reader, given.photos)


def measure_photos(reader: TextReader, folder: Path) -> None:
    """False text, and the seconds of photos in which none was read."""
    from sightline.indexer.photo import photo

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    false, seconds, empty = [], 0.0, 0
    for path in files:
        before = cpu_seconds()
        lines = photo.read_text(path, reader)
        if lines:
            false.append(f"{path.name}: {[(line.text, line.confidence) for line in lines]}")
        else:
            empty += 1
            seconds += cpu_seconds() - before
    print(
        f"{len(files)} photos, {len(false)} with text; {seconds / max(empty, 1):.3f} CPU s without"
    )
    print("\n".join(false))


if __name__ == "__main__":
    main()
