"""Writes the gallery: JPEG files with EXIF, in folders by year and region."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from .rendering import render
from .scene import CAMERAS, Scene, compose

QUALITY = 88
#: Camera name -> EXIF Make, Model and LensModel, and the pattern of its file names.
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
    """Degrees, minutes and seconds for EXIF."""
    value = abs(value)
    degrees = int(value)
    minutes = int((value - degrees) * 60)
    seconds = Fraction((value - degrees - minutes / 60) * 3600).limit_denominator(10_000)
    return IFDRational(degrees), IFDRational(minutes), IFDRational(max(seconds, Fraction(0)))


def exif_of(scene: Scene) -> Image.Exif:
    """EXIF as a camera writes it: date, camera, lens and, if known, GPS. ``Software`` marks the
    image as drawn.
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
    """An unused file name in the pattern of the scene's camera."""
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
    """Render ``count`` scenes as JPEG files below ``directory``; returns their paths in order.

    Another ``seed`` gives another gallery. ``progress`` is called with (done, total) after each
    image. Existing files are never overwritten: a second gallery is added to the first.
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


assert set(_MAKES) == set(CAMERAS)
