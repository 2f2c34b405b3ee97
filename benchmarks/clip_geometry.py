"""Vectors with the geometry of CLIP's, as many as are wanted, for measuring an index.

    python -m benchmarks.clip_geometry [REAL.npz]     # prints how near they come to real ones

Random vectors on a sphere are the hardest case there is for an index, and nothing like embeddings.
What was measured on 2,404 image and 250 text embeddings of ViT-B/32 (512 dimensions) is imitated:

- images lie in a narrow cone: the mean has length 0.73, and one dimension holds most of it;
- around the mean the spectrum falls so that 10 directions hold a third of the variance and 100
  three quarters; the intrinsic dimension (TwoNN) is about 21;
- they come in clusters whose sizes follow Zipf's law, each a patch of low dimension;
- texts lie in another cone, at a cosine of 0.32 to that of images; a text's cosine to the picture
  it describes is 0.33, to others 0.17 with a deviation of 0.046; the rest of a text's variance lies
  in few directions, which are hardly those of images.
"""

from __future__ import annotations

import argparse

import numpy as np

MEAN, PEAK = 0.734, 0.646
TEXT_MEAN, CONES = 0.711, 0.32
ALIGNED = 0.33
"""Cosine between what is left of a text and of its picture when their means are taken off."""
CLUSTERS, ZIPF = 2_000, 0.9
PATCH = 48
"""Dimensions of a cluster."""
SHARED = 0.58
"""Share of the variance that lies between clusters; the rest lies within."""


class ClipGeometry:
    """Draws image and text vectors; the same for the same seeds."""

    def __init__(self, dimension: int = 512, *, seed: int = 0, clusters: int = CLUSTERS) -> None:
        """``dimension`` of at least 64."""
        random = np.random.default_rng(seed)
        self.dimension = dimension
        basis = np.linalg.qr(random.standard_normal((dimension, dimension)))[0]
        place = np.arange(dimension)
        self._spread = np.sqrt(_falling((place + 6.0) ** -0.95 * np.exp(-place / 240)))
        self._basis = basis.astype(np.float32)
        mean = np.zeros(dimension)
        mean[0] = -PEAK
        mean += _of_length(random.standard_normal(dimension), np.sqrt(MEAN**2 - PEAK**2))
        self._mean = (mean * MEAN / np.linalg.norm(mean)).astype(np.float32)
        other = random.standard_normal(dimension)
        other -= (other @ mean) / (mean @ mean) * mean
        text = CONES * mean / np.linalg.norm(mean) + np.sqrt(1 - CONES**2) * _of_length(other, 1)
        self._text_mean = (TEXT_MEAN * text).astype(np.float32)
        self._text_basis = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(
            np.float32
        )
        self._text_spread = np.sqrt(_falling(np.exp(-place / 28)))
        self._centres = self._drawn(clusters, random)
        weights = np.arange(1, clusters + 1) ** -ZIPF
        self._weights = weights / weights.sum()
        self._patches = np.argsort(random.random((clusters, dimension)) / self._spread**2, axis=1)[
            :, :PATCH
        ]

    def images(self, count: int, *, seed: int) -> np.ndarray:
        """``(count, d) float32`` of unit length."""
        return self._images(count, np.random.default_rng((seed, 1)))[0]

    def texts(self, count: int, *, seed: int) -> np.ndarray:
        """``(count, d) float32`` of unit length; each describes a picture like those of
        ``images``."""
        random = np.random.default_rng((seed, 2))
        _, centred = self._images(count, random)
        rest = (random.standard_normal((count, self.dimension)) * self._text_spread).astype(
            np.float32
        ) @ self._text_basis.T
        own = ALIGNED * _unit(centred) + np.sqrt(1 - ALIGNED**2) * _unit(rest)
        return _unit(self._text_mean + np.sqrt(1 - TEXT_MEAN**2) * own)

    def _drawn(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Unit variance in all, with the spectrum of images."""
        drawn = random.standard_normal((count, self.dimension), np.float32) * self._spread
        return drawn.astype(np.float32)

    def _images(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        cluster = random.choice(len(self._weights), count, p=self._weights)
        within = 0.35 * self._drawn(count, random)
        patch = self._patches[cluster]
        rows = np.arange(count)[:, None]
        inside = random.standard_normal((count, PATCH), np.float32) / np.sqrt(PATCH)
        within[rows, patch] += np.float32(np.sqrt(1 - 0.35**2)) * inside
        mixed = np.sqrt(SHARED) * self._centres[cluster] + np.sqrt(1 - SHARED) * within
        centred = mixed.astype(np.float32) @ self._basis.T * np.float32(np.sqrt(1 - MEAN**2))
        return _unit(self._mean + centred), centred


def _falling(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _of_length(vector: np.ndarray, length: float) -> np.ndarray:
    return vector * (length / np.linalg.norm(vector))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# how near they come -------------------------------------------------------------------------------


def describe(name: str, images: np.ndarray, texts: np.ndarray) -> None:
    """Prints the figures that matter to an index."""
    cosines = images @ images.T
    np.fill_diagonal(cosines, -1)
    near = np.sort(cosines, axis=1)[:, ::-1]
    centred = images - images.mean(axis=0)
    spectrum = np.linalg.svd(centred, compute_uv=False) ** 2
    held = np.cumsum(spectrum) / spectrum.sum()
    distances = np.sort(1 - cosines, axis=1)[:, :2]
    ratio = np.sqrt(np.maximum(distances[:, 1], 1e-9) / np.maximum(distances[:, 0], 1e-9))
    across = texts @ images.T
    print(
        f"{name:10} mean {np.linalg.norm(images.mean(axis=0)):.3f}"
        f"  nearest {near[:, 0].mean():.3f}  tenth {near[:, 9].mean():.3f}"
        f"  spectrum 10: {held[9]:.2f} 50: {held[49]:.2f} 100: {held[99]:.2f}"
        f"  dimension {1 / np.log(ratio).mean():.0f}"
        f"  text-image {across.mean():.3f} +- {across.std():.3f}"
        f"  best {across.max(axis=1).mean():.3f} tenth {np.sort(across)[:, -10].mean():.3f}"
    )


def main() -> None:
    """Prints one line, or two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real", nargs="?", help="image_embeddings and text_embeddings in an .npz")
    options = parser.parse_args()
    if options.real:
        real = np.load(options.real)
        describe(
            "real",
            _unit(real["image_embeddings"].astype(np.float32))[100:],
            _unit(real["text_embeddings"].astype(np.float32)),
        )
    geometry = ClipGeometry()
    describe("generated", geometry.images(2404, seed=1), geometry.texts(250, seed=2))


if __name__ == "__main__":
    main()
