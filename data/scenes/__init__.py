"""The sample gallery: scenes composed from a seed, rendered as images, with captions.

scene = compose(7)                     # place, time, weather, subjects, positions
captions(scene)                        # ['a red car to the left of two black dogs on a ...', ...]
render(scene, width=128)               # a Pillow image
write_gallery(Path("gallery"))         # JPEG files with EXIF in folders, for `sightline demo`

The same seed always gives the same scene, captions and pixels.
"""

from .captioning import canonical, captions
from .gallery import write_gallery
from .rendering import render
from .scene import (
    KINDS,
    PLACES,
    SEASONS,
    SPLITS,
    TIMES,
    WEATHERS,
    Scene,
    Spot,
    Subject,
    compose,
    held_out,
    triples,
)

__all__ = [
    "KINDS",
    "PLACES",
    "SEASONS",
    "SPLITS",
    "TIMES",
    "WEATHERS",
    "Scene",
    "Spot",
    "Subject",
    "canonical",
    "captions",
    "compose",
    "held_out",
    "render",
    "triples",
    "write_gallery",
]
