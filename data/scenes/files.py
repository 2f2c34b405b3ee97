"""The gallery as files: JPEGs with EXIF in folders such as a person keeps, and a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from random import Random

from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import IFDRational

from .art import render
from .grammar import CAMERAS, Scene, compose

QUALITY = 88
#: Camera name -> the words of EXIF's Make, Model and LensModel, and how it names its files.
_MAKES = {
    "FUJIFILM X-T4": ("FUJIFILM", "X-T4", "XF18-55mmF2.8-4 R LM OIS", "DSCF{:04}"),
    "Canon EOS R6": ("Canon", "EOS R6", "RF24-105mm F4 L IS USM", "IMG_{:04}"),
    "NIKON Z 6": ("NIKON CORPORATION", "Z 6", "NIKKOR Z 24-70mm f/4 S", "DSC_{:04}"),
    "SONY ILCE-7M3": ("SONY", "ILCE-7M3", "FE 35mm F1.8", "DSC{:05}"),
    "Apple iPhone 13": ("Apple", "iPhone 13", "iPhone 13 back camera 5.1mm f/1.6", "IMG_{:04}"),
    "Google Pixel 7": ("Google", "Pixel 7", "Pixel 7 back camera 6.81mm f/1.85",
                       "PXL_{:%Y%m%d_%H%M%S}"),
}  # fmt: skip


def _degrees(value: float) -> tuple[IFDRational, IFDRational, IFDRational]:
    """Degrees, minutes and seconds, as EXIF wants them."""
    value = abs(value)
    degrees = int(value)
    minutes = int((value - degrees) * 60)
    seconds = Fraction((value - degrees - minutes / 60) * 3600).limit_denominator(10_000)
    return IFDRational(degrees), IFDRational(minutes), IFDRational(max(seconds, Fraction(0)))


def exif_of(scene: Scene) -> Image.Exif:
    """The EXIF block a camera would have written: date, camera and lens, and GPS where known.

    ``Software`` names the gallery, so that nobody takes the pictures for photographs.
    """
    exif = Image.Exif()
    when = scene.taken_at.strftime("%Y:%m:%d %H:%M:%S")
    exif[ExifTags.Base.Software] = "Sightline sample gallery"
    exif[ExifTags.Base.DateTime] = when
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = when
    details[ExifTags.Base.DateTimeDigitized] = when
    if scene.camera:
        make, model, lens, _ = _MAKES[scene.camera]
        exif[ExifTags.Base.Make] = make
        exif[ExifTags.Base.Model] = model
        details[ExifTags.Base.LensModel] = lens
    if scene.latitude is not None and scene.longitude is not None:
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        gps[ExifTags.GPS.GPSLatitudeRef] = "N" if scene.latitude >= 0 else "S"
        gps[ExifTags.GPS.GPSLatitude] = _degrees(scene.latitude)
        gps[ExifTags.GPS.GPSLongitudeRef] = "E" if scene.longitude >= 0 else "W"
        gps[ExifTags.GPS.GPSLongitude] = _degrees(scene.longitude)
    return exif


def _name(scene: Scene, folder: Path, rng: Random) -> Path:
    """A free file name in the manner of the scene's camera."""
    pattern = _MAKES[scene.camera][3] if scene.camera else "scan{:03}"
    number = rng.randint(100, 999) if not scene.camera else rng.randint(1000, 9899)
    while True:
        stem = pattern.format(scene.taken_at if "%" in pattern else number)
        path = folder / f"{stem}.jpg"
        if not path.exists():
            return path
        pattern, number = pattern if "%" not in pattern else "PXL_{:06}", number + 1


def write_gallery(
    directory: Path,
    *,
    count: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Render ``count`` scenes as JPEGs below ``directory``, and return their paths in order.

    Folders are called after the year and the region, files after their cameras. Another ``seed``
    makes another gallery. ``progress`` is called with (done, total) after each picture. Existing
    files are never overwritten: a second gallery in the same place is added to the first.
    """
    rng = Random(f"gallery {seed}")
    paths = []
    for i in range(count):
        scene = compose(seed * 1_000_000 + i, split="gallery")
        folder = directory / f"{scene.taken_at.year} {scene.area}"
        folder.mkdir(parents=True, exist_ok=True)
        path = _name(scene, folder, rng)
        render(scene).save(path, quality=QUALITY, exif=exif_of(scene))
        paths.append(path)
        if progress:
            progress(i + 1, count)
    return paths


def contact_sheet(
    paths: Sequence[Path], *, columns: int = 8, cell: tuple[int, int] = (200, 150), gap: int = 6
) -> Image.Image:
    """The pictures in rows of ``columns``, each cropped to ``cell`` (width, height in pixels)."""
    if not paths or columns < 1:
        raise ValueError("a contact sheet needs at least one picture and one column")
    w, h = cell
    rows = -(-len(paths) // columns)
    sheet = Image.new("RGB", (columns * (w + gap) + gap, rows * (h + gap) + gap), (250, 249, 246))
    for i, path in enumerate(paths):
        with Image.open(path) as picture:
            picture.draft("RGB", (2 * w, 2 * h))
            tile = ImageOps.fit(picture.convert("RGB"), cell, Image.Resampling.LANCZOS)
        sheet.paste(tile, (gap + i % columns * (w + gap), gap + i // columns * (h + gap)))
    return sheet


assert set(_MAKES) == set(CAMERAS)
