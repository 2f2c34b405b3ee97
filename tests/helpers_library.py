"""A small collection of drawn pictures with dates and folders, and a library of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

POSITIONS = {4: (43.7696, 11.2558), 5: (52.5163, 13.3777), 6: (47.1410, 9.5209)}
"""Of three pictures: Florence, Berlin, Vaduz."""

COUNT = 60
"""Pictures in Trips and Home together; Odd holds six more."""


def draw(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture of large soft blots of colour, the same for the same ``seed``."""
    rng = np.random.default_rng(seed)
    blots = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


def as_bytes(picture: Image.Image, format: str = "JPEG", **options: object) -> bytes:
    """The file of ``picture``."""
    out = io.BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def dated(year: int, month: int, *, camera: str = "Sightline Nine") -> Image.Exif:
    """EXIF of a picture taken at noon on the tenth."""
    exif = Image.Exif()
    exif[0x0110] = camera
    exif.get_ifd(0x8769)[0x9003] = f"{year}:{month:02}:10 12:00:00"
    return exif


def make_pictures(folder: Path) -> Path:
    """``COUNT`` different pictures in two folders, and in ``Odd``: a copy, the same picture saved
    smaller, a TIFF, a portrait, a PNG, and a file that is no picture. Two have sidecars that name
    people."""
    for place in ("Trips/Lake Como", "Home", "Odd"):
        (folder / place).mkdir(parents=True)
    for seed in range(COUNT):
        place = "Trips/Lake Como" if seed % 3 else "Home"
        exif = dated(2019 + seed % 4, 1 + seed % 12)
        if seed in POSITIONS:
            latitude, longitude = POSITIONS[seed]
            exif.get_ifd(0x8825).update({1: "N", 2: (latitude, 0, 0), 3: "E", 4: (longitude, 0, 0)})
        path = folder / place / f"IMG_{seed:04}.jpg"
        path.write_bytes(as_bytes(draw(seed), quality=90, exif=exif))
    for seed, people in ((1, ["Ada Lovelace"]), (2, ["Grace Hopper", "Ada Lovelace"])):
        names = [{"name": name} for name in people]
        sidecar = json.dumps({"photoTakenTime": {"timestamp": "1"}, "people": names})
        (folder / "Trips/Lake Como" / f"IMG_{seed:04}.jpg.json").write_text(sidecar)
    odd = folder / "Odd"
    (odd / "copy.jpg").write_bytes((folder / "Home" / "IMG_0000.jpg").read_bytes())
    (odd / "smaller.jpg").write_bytes(as_bytes(draw(3).resize((200, 150)), quality=80))
    (odd / "scan.tiff").write_bytes(as_bytes(draw(101), "TIFF"))
    (odd / "tall.jpg").write_bytes(as_bytes(draw(102, (240, 320))))
    (odd / "sign #1 % of 'x'.png").write_bytes(as_bytes(draw(103), "PNG"))
    (odd / "broken.jpg").write_bytes(b"this is no picture")
    return folder


def empty_library(directory: Path, encoder: Encoder) -> Library:
    """A library for what ``encoder`` makes, without any pictures."""
    from sightline.indexer.library import Library

    return Library.create(
        directory,
        model=encoder.model,
        revision=encoder.revision,
        dimension=encoder.dimension,
    )


def make_library(directory: Path, encoder: Encoder, pictures: Path) -> Library:
    """A library of everything in ``pictures``."""
    from sightline.indexer.indexing.run import update_library

    library = empty_library(directory, encoder)
    update_library(library, encoder, [pictures], workers=1)
    return library


def id_of(library: Library, name: str) -> int:
    """The id of the picture whose file is called so."""
    for record in library.images(library.select().tolist()):
        if record.path.rpartition("/")[2] == name:
            return record.id
    raise LookupError(name)
