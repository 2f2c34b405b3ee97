"""The sample gallery's scenes: composed from a seed, said in words, drawn as pictures.

```
scene = compose(7)                     # facts: place, hour, weather, subjects, positions
captions(scene)                        # ['a red car to the left of two black dogs on a ...', ...]
render(scene, width=128)               # a Pillow picture
write_gallery(Path("gallery"))         # JPEG files with EXIF in folders, for `sightline demo`
```
"""

from __future__ import annotations

from .art import render
from .files import contact_sheet, write_gallery
from .grammar import (
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
from .words import canonical, captions

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
    "contact_sheet",
    "held_out",
    "render",
    "triples",
    "write_gallery",
]
