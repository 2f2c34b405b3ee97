"""Text in images: recall of words, false text and speed.

    python -m benchmarks.ocr                        # 200 rendered images
    python -m benchmarks.ocr --photos FOLDER        # false text and CPU time, beside RapidOCR alone
    python -m benchmarks.ocr --photos FOLDER --text # and every line that was accepted

Renders signs, receipts, screenshots and slides with known words in DejaVu (Debian's fonts-dejavu);
without it, in Pillow's own font, which has no accents, and without words that need them. A word
counts as read if its characters are right (``written``), as found if ``text:`` finds it, without
case and accents (``found``) or with one error too (``similar``).
"""

from __future__ import annotations

import argparse
import io
import random
import re
import resource
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rapidfuzz.distance import OSA

from sightline.indexer.catalog.full_text import fold_word
from sightline.indexer.catalog.spellings import MIN_LENGTH
from sightline.indexer.photo import photo
from sightline.indexer.photo.ocr import TextReader

VOCABULARY = """
    invoice total receipt coffee bakery Müller Straße station exit platform museum closed open
    monday friday price bread butter milk apples cheese parking garage hotel reception welcome
    library concert ticket harbour market street avenue castle garden school hospital pharmacy
    police danger caution water electric private property beach swimming forbidden allowed summer
    winter sale discount budget revenue quarter growth forecast project deadline meeting agenda
    summary conclusion questions account password settings network battery storage download upload
    message contact photo gallery Zürich Köln Größe Übung Café château forêt niño señor Ärzte
    Öffnung Frühling Łódź smørrebrød
"""
WORDS = VOCABULARY.split()

FOLDERS = (Path("/usr/share/fonts"), Path("/Library/Fonts"), Path("C:/Windows/Fonts"))

Rendered = tuple[Image.Image, list[str]]


@cache
def faces(pattern: str) -> tuple[str | None, ...]:
    """DejaVu's files that match ``pattern``; None, for Pillow's own font, if there are none."""
    files = (str(path) for folder in FOLDERS for path in folder.rglob(pattern))
    return tuple(sorted(files)) or (None,)


class Artist:
    """Draws one image: all chances come from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.face = self.random.choice(faces("DejaVuS*.ttf"))
        self.mono = self.random.choice(faces("DejaVuSansMono*.ttf"))

    def font(self, size: int, *, mono: bool = False) -> Any:
        """The image's font."""
        face = self.mono if mono else self.face
        return ImageFont.load_default(size) if face is None else ImageFont.truetype(face, size)

    def words(self, count: int) -> list[str]:
        """Different words, some of them in capitals."""
        known = WORDS if self.face else [word for word in WORDS if word.isascii()]
        found = self.random.sample(known, count)
        return [word.upper() if self.random.random() < 0.2 else word for word in found]

    def photographed(self, flat: Image.Image, scene: Image.Image, *, tilt: float) -> Image.Image:
        """``flat`` in perspective on ``scene``, a little out of focus, with noise."""
        width, height = flat.size
        left = self.random.randint(0, scene.width - width)
        top = self.random.randint(0, scene.height - height)
        corners = [(left, top), (left + width, top), (left + width, top + height)]
        corners.append((left, top + height))
        shift = tilt * min(width, height)
        to = [
            (x + self.random.uniform(-shift, shift), y + self.random.uniform(-shift, shift))
            for x, y in corners
        ]
        source = [(0, 0), (width, 0), (width, height), (0, height)]
        rows, values = [], []
        for (x, y), (u, v) in zip(to, source, strict=True):
            rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
            values += [u, v]
        transform = Image.Transform.PERSPECTIVE
        numbers = np.linalg.solve(np.array(rows), np.array(values)).tolist()
        opaque = flat.convert("RGBA")
        laid = opaque.transform(scene.size, transform, numbers, Image.Resampling.BICUBIC)
        scene.paste(laid, (0, 0), laid)
        scene = scene.filter(ImageFilter.GaussianBlur(self.random.uniform(0, 1)))
        noise = Image.effect_noise(scene.size, self.random.uniform(4, 20)).convert("RGB")
        return Image.blend(scene, noise, 0.06)


def sign(artist: Artist) -> Rendered:
    """Two or three words on a plate in a scene."""
    draw = artist.random
    scene = Image.effect_noise((60, 45), 90).resize((1600, 1200)).convert("RGB")
    scene = scene.filter(ImageFilter.GaussianBlur(8))
    words = artist.words(draw.choice((2, 3)))
    colours = (("#0a4ea0", "white"), ("white", "black"), ("#f2c400", "black"), ("#8c1d18", "white"))
    back, ink = draw.choice(colours)
    size = draw.randint(28, 80)
    font = artist.font(size)
    width = max(round(font.getlength(word)) for word in words) + 2 * size
    plate = Image.new("RGB", (width, round(1.5 * size * len(words)) + size), back)
    pen = ImageDraw.Draw(plate)
    for n, word in enumerate(words):
        pen.text((size, size // 2 + round(1.5 * size * n)), word, fill=ink, font=font)
    return artist.photographed(plate, scene, tilt=0.08), words


def receipt(artist: Artist) -> Rendered:
    """A narrow list of words and prices on a table."""
    draw = artist.random
    words = artist.words(14)
    paper = Image.new("RGB", (560, 900), "#f4f2ec")
    pen = ImageDraw.Draw(paper)
    font = artist.font(26, mono=True)
    for n, word in enumerate(words):
        pen.text((40, 40 + 58 * n), word, "#333", font)
        price = f"{draw.randint(1, 99)}.{draw.randint(10, 99)}"
        pen.text((520, 40 + 58 * n), price, "#333", font, anchor="ra")
    table = Image.new("RGB", (1200, 1600), "#6b4a2f")
    return artist.photographed(paper, table, tilt=0.05), words


def screenshot(artist: Artist) -> Rendered:
    """Lines of small text in a window of 1,920 pixels."""
    draw = artist.random
    words = artist.words(24)
    dark = draw.random() < 0.5
    page = Image.new("RGB", (1920, 1080), "#1e1f22" if dark else "white")
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, 1920, 50), fill="#3c3f41" if dark else "#dddddd")
    for n in range(0, len(words), 4):
        at = (80 + 500 * (n // 4 % 3), 120 + 90 * n // 4)
        font = artist.font(draw.randint(14, 24))
        pen.text(at, " ".join(words[n : n + 4]), "#e0e0e0" if dark else "#202020", font)
    return page, words


def slide(artist: Artist) -> Rendered:
    """A title and points, projected and photographed."""
    words = artist.words(9)
    back, ink = artist.random.choice((("white", "#102a43"), ("#102a43", "white")))
    page = Image.new("RGB", (1280, 720), back)
    pen = ImageDraw.Draw(page)
    pen.text((80, 60), " ".join(words[:2]), ink, artist.font(64))
    for n, word in enumerate(words[2:]):
        pen.text((120, 190 + 68 * n), f"\u2022 {word}", ink, artist.font(40))
    room = Image.new("RGB", (1600, 1000), "#1a1a1a")
    return artist.photographed(page, room, tilt=0.03), words


KINDS: tuple[Callable[[Artist], Rendered], ...] = (sign, receipt, screenshot, slide)


def as_photo(image: Image.Image) -> Image.Image:
    """As a JPEG file has it."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return Image.open(data).convert("RGB")


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def matches(word: str, text: str) -> tuple[bool, bool, bool]:
    """Whether ``word`` is written, found and found with an error in ``text``."""
    wanted, words = fold_word(word), fold_word(text)
    found = re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", words) is not None
    edits = 1 if len(wanted) >= MIN_LENGTH else 0
    near = any(OSA.distance(wanted, one) <= edits for one in re.findall(r"\w+", words))
    written = word.lower() in re.findall(r"[^\W_]+", text.lower())
    return written, found, found or near


def measure_rendered(reader: TextReader, count: int, *, show: bool) -> None:
    """Prints recall and CPU time by kind of image."""
    print("fonts:", ", ".join(Path(one).stem if one else "Pillow" for one in faces("DejaVuS*.ttf")))
    results: dict[str, list[tuple[bool, bool, bool]]] = defaultdict(list)
    seconds: dict[str, float] = defaultdict(float)
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        image, words = kind(Artist(n))
        image = as_photo(image)
        before = cpu_seconds()
        text = " ".join(line.text for line in reader.read(image))
        seconds[kind.__name__] += cpu_seconds() - before
        for word in words:
            result = matches(word, text)
            results[kind.__name__].append(result)
            results["all"].append(result)
            if not word.isascii():
                results["with accents"].append(result)
            if show and not result[1]:
                print(f"{kind.__name__} {n}: {word!r} is not in {text!r}")
    print(f"{'':14}{'words':>7}{'written':>9}{'found':>8}{'similar':>9}{'CPU s':>8}")
    for kind, found in results.items():
        rates = [sum(column) / len(found) for column in zip(*found, strict=True)]
        each = f"{seconds[kind] * len(KINDS) / count:8.2f}" if kind in seconds else ""
        print(f"{kind:14}{len(found):7}{rates[0]:9.3f}{rates[1]:8.3f}{rates[2]:9.3f}{each}")


def measure_photos(reader: TextReader, folder: Path, *, show: bool) -> None:
    """Prints the photos in which text was accepted, and the CPU time of the others."""
    from rapidocr import RapidOCR

    threads = "EngineConfig.onnxruntime"
    plain = RapidOCR(
        params={
            "Global.log_level": "critical",
            f"{threads}.intra_op_num_threads": 1,
            f"{threads}.inter_op_num_threads": 1,
        }
    )
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    accepted = lines_by_default = without = 0
    seconds, by_default = 0.0, 0.0
    for number, path in enumerate(files):
        before = cpu_seconds()
        lines = photo.read_text(path, reader)
        used = cpu_seconds() - before
        accepted += bool(lines)
        if lines and show:
            print(f"{path.name}: {[(line.text, line.confidence) for line in lines]}")
        if number % 10 == 0 and not lines:  # ten times as slow: every tenth
            before = cpu_seconds()
            with Image.open(path) as image:
                found = plain(np.asarray(image.convert("RGB"))[:, :, ::-1])
            by_default += cpu_seconds() - before
            lines_by_default += len(found.txts or ())
            seconds += used
            without += 1
    print(f"{len(files)} photos, text accepted in {accepted}")
    print(
        f"{without} photos without text: {seconds / without:.3f} CPU s per photo, RapidOCR's"
        f" defaults {by_default / without:.3f} ({lines_by_default} lines)"
    )


def main() -> None:
    """Prints tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--photos", type=Path, help="A folder of photos.")
    parser.add_argument("--text", action="store_true", help="Print what was read wrongly.")
    parser.add_argument("--count", type=int, default=200, help="Rendered images.")
    given = parser.parse_args()
    reader = TextReader()
    if given.photos:
        measure_photos(reader, given.photos, show=given.text)
    else:
        measure_rendered(reader, given.count, show=given.text)


if __name__ == "__main__":
    main()
