"""Prompt templates: sentences into which a label's name is put before it is encoded.

CLIP models were trained on sentences, and the mean vector over several templates classifies better
than one name (Radford et al. 2021, section 3.1.4). The templates are used as published, "a origami
apple" included, so that published figures can be reproduced.

``IMAGENET`` (80 templates) and ``IMAGENET_7`` (the seven that a forward selection kept) are from
https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb; ``SIGLIP``
is from the model cards of SigLIP and SigLIP 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.indexer.errors import UsageError

SLOT = "{}"
"""Replaced by the name."""

IMAGENET: tuple[str, ...] = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a photo of the hard to see {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "the embroidered {}.",
    "a photo of a hard to see {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "the plastic {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a plastic {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the origami {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a origami {}.",
    "a low resolution photo of a {}.",
    "the toy {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "a cartoon {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a embroidered {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a plushie {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "the cartoon {}.",
    "art of the {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "the plushie {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a toy {}.",
    "itap of my {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)

IMAGENET_7: tuple[str, ...] = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

PHOTO = ("a photo of a {}.",)
SIGLIP = ("This is a photo of {}.",)
PLAIN = (SLOT,)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet": IMAGENET,
    "imagenet-7": IMAGENET_7,
    "photo": PHOTO,
    "siglip": SIGLIP,
    "plain": PLAIN,
}
"""By their names in ``--templates``."""


def templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """A set of ``TEMPLATES`` by its name, or the templates given themselves.

    Raises ``UsageError`` for an unknown name, or a template without ``{}``.
    """
    if isinstance(given, str):
        if given in TEMPLATES:
            return TEMPLATES[given]
        if SLOT not in given:
            raise UsageError(
                f"{given!r} is neither a set of templates ({', '.join(TEMPLATES)}) nor a template"
                f" with {SLOT} for the name"
            )
        given = (given,)
    if not given:
        raise UsageError("no template was given")
    for template in given:
        if SLOT not in template:
            raise UsageError(f"the template {template!r} has no {SLOT} for the name")
    return tuple(given)


def fill(template: str, name: str) -> str:
    """The template with ``name`` in it. Braces in a name are ordinary characters."""
    return template.replace(SLOT, name)
