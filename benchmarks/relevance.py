"""How often the line under the good matches is right, on drawn scenes with the built-in model.

    python -m benchmarks.relevance [--scenes 300]

Scenes of held-out seeds are the library. Queries with an answer are a caption of each; queries
without are everyday things that no scene shows. Printed, without and with the cosine that is known
to mean a match (``indexer.models``): the share of described scenes above the line, the share of
queries that find anything above it, and the share of the others that do.
"""

from __future__ import annotations

import argparse

import numpy as np

from data.scenes import captions, compose, render
from indexer import models, photo
from indexer.encoder import Encoder
from server.relevance import Scale

NOWHERE = (
    "a plate of sushi",
    "an elephant",
    "a laptop on a desk",
    "a wedding couple dancing",
    "a tax receipt",
    "a football stadium",
    "portrait of a woman with glasses",
    "a pizza",
    "an astronaut",
    "a submarine",
    "a newspaper article",
    "a sewing machine",
    "a birthday cake with candles",
    "a baby asleep",
    "a cup of coffee",
    "a screenshot of an email",
    "a giraffe",
    "a violin",
    "shoes on a carpet",
    "a hospital corridor",
    "a chess board",
    "a wrist watch",
    "people in a meeting",
    "a bowl of soup",
    "a gorilla",
    "a bookshelf",
    "a toothbrush",
    "a volcano eruption",
    "an X-ray of a hand",
    "a guitar player on stage",
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300)
    count = parser.parse_args().scenes
    encoder = Encoder.load("builtin")
    scenes = [compose(seed, split="test") for seed in range(500_000, 500_000 + count)]
    pixels = np.stack([_pixels(render(scene), encoder) for scene in scenes])
    vectors = encoder.encode_images(pixels)
    long = encoder.encode_texts([captions(scene)[0] for scene in scenes])
    short = encoder.encode_texts([min(captions(scene), key=len) for scene in scenes])
    nowhere = encoder.encode_texts(list(NOWHERE))
    info = models.find("builtin")
    assert info is not None
    print(f"{'':20}{'answer':>10}{'anything':>10}")
    for name, fits in (("standing alone", None), (f"and cosine {info.fits}", info.fits)):
        print(name)
        for kind, texts in (("long captions", long), ("short captions", short)):
            above = [_above(text @ vectors.T, fits) for text in texts]
            own = np.mean([line[n] for n, line in enumerate(above)])
            print(f"  {kind:18}{own:10.2f}{np.mean([line.any() for line in above]):10.2f}")
        found = np.mean([_above(text @ vectors.T, fits).any() for text in nowhere])
        print(f"  {'not there':18}{'':10}{found:10.2f}")


def _above(scores: np.ndarray, fits: float | None) -> np.ndarray:
    scale = Scale.of(scores, fits)
    assert scale.line is not None
    return scale.standing(scores) >= scale.line


def _pixels(picture: object, encoder: Encoder) -> np.ndarray:
    import io

    out = io.BytesIO()
    picture.save(out, "PNG")  # type: ignore[attr-defined]
    return photo.read_bytes(out.getvalue(), encoder.geometry).pixels


if __name__ == "__main__":
    main()
