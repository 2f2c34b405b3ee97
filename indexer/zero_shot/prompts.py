"""Prompt templates: sentences into which the name of a label is put before it is encoded.

A model of the CLIP family was trained on sentences, not on names, and a label's vector is better
for being the mean over several of them. ``{}`` is where the name goes. The templates are used as
they were published, "a origami apple" included, so that published figures can be checked.

Sources: ``IMAGENET`` and ``IMAGENET_7`` are the 80 templates, and the seven of them that a forward
selection on ImageNet's training set kept, of OpenAI's notebook "Prompt Engineering for ImageNet"
(https://github.com/openai/CLIP/blob/main/notebooks/Prompt_Engineering_for_ImageNet.ipynb; Radford
et al. 2021, section 3.1.4); ``SIGLIP`` is what the model cards of SigLIP and SigLIP 2 recommend.
"""

from __future__ import annotations

from collections.abc import Sequence

from sightline.indexer.errors import UsageError

PLACE = "{}"
"""Where the name goes."""

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
PLAIN = (PLACE,)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "imagenet": IMAGENET,
    "imagenet-7": IMAGENET_7,
    "photo": PHOTO,
    "siglip": SIGLIP,
    "plain": PLAIN,
}
"""By the names that ``--templates`` takes."""


def templates(given: str | Sequence[str]) -> tuple[str, ...]:
    """The templates of that name; or those given themselves, one or several with ``{}`` in them.

    Raises ``UsageError`` for a name that there is not, or a template without a place for the name.
    """
    if isinstance(given, str):
        if given in TEMPLATES:
            return TEMPLATES[given]
        if PLACE not in given:
            raise UsageError(
                f"{given!r} is no set of templates ({', '.join(TEMPLATES)}), and has no {PLACE} to"
                " put a name in"
            )
        given = (given,)
    wrong = [template for template in given if PLACE not in template]
    if wrong or not given:
        raise UsageError(f"the template {wrong[0]!r} has no {{}}" if wrong else "no template")
    return tuple(given)


def fill(template: str, name: str) -> str:
    """The template with ``name`` in its place. Braces in a name are ordinary characters."""
    return template.replace(PLACE, name)
