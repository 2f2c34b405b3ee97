"""Generates vectors with the geometry of CLIP embeddings, for measuring vector indexes.

    python -m benchmarks.clip_geometry [REAL.npz]     # compares them with real embeddings

Uniformly random vectors are much harder to index than embeddings. These reproduce what was measured
on 2,404 image and 250 text embeddings of ViT-B/32 (512 dimensions):

- Image embeddings are in a narrow cone: their mean has length 0.73, most of it in one dimension.
- Around the mean, 10 directions hold a third of the variance and 100 three quarters; the intrinsic
  dimension (TwoNN) is about 21.
- They form clusters of low dimension whose sizes follow Zipf's law.
- Text embeddings are in another cone, whose mean has a cosine of 0.32 to that of images. A text has
  a cosine of 0.33 to the image it describes, and of 0.17 (standard deviation 0.046) to others. The
  rest of its variance is in few directions, mostly different from those of images.
"""

from __future__ import annotations

import argparse

import numpy as np

MEAN, PEAK = 0.734, 0.646
"""Length of the mean of images, and of its largest coordinate."""
TEXT_MEAN, MEANS_COSINE = 0.711, 0.32
"""Length of the mean of texts, and its cosine to that of images."""
ALIGNED = 0.33
"""Cosine of a text to its image after both means are subtracted."""
CLUSTERS, ZIPF = 2_000, 0.9
CLUSTER_DIMENSIONS = 48
BETWEEN_CLUSTERS = 0.58
"""Fraction of the variance between clusters; the rest is within them."""
BACKGROUND = 0.35
"""Standard deviation of an image outside of the dimensions of its cluster."""


class ClipGeometry:
    """Draws image and text vectors, the same for equal seeds."""

    def __init__(self, dimension: int = 512, *, seed: int = 0, clusters: int = CLUSTERS) -> None:
        """``dimension`` is at least 64."""
        random = np.random.default_rng(seed)
        self.dimension = dimension
        basis = np.linalg.qr(random.standard_normal((dimension, dimension)))[0]
        axis = np.arange(dimension)
        self._deviation = np.sqrt(_normalised((axis + 6.0) ** -0.95 * np.exp(-axis / 240)))
        self._basis = basis.astype(np.float32)
        mean = np.zeros(dimension)
        mean[0] = -PEAK
        mean += _with_length(random.standard_normal(dimension), np.sqrt(MEAN**2 - PEAK**2))
        self._mean = (mean * MEAN / np.linalg.norm(mean)).astype(np.float32)
        other = random.standard_normal(dimension)
        other -= (other @ mean) / (mean @ mean) * mean
        text = MEANS_COSINE * mean / np.linalg.norm(mean) + np.sqrt(
            1 - MEANS_COSINE**2
        ) * _with_length(other, 1)
        self._text_mean = (TEXT_MEAN * text).astype(np.float32)
        self._text_basis = np.linalg.qr(random.standard_normal((dimension, dimension)))[0].astype(
            np.float32
        )
        self._text_deviation = np.sqrt(_normalised(np.exp(-axis / 28)))
        self._centroids = self._drawn(clusters, random)
        weights = np.arange(1, clusters + 1) ** -ZIPF
        self._weights = weights / weights.sum()
        self._cluster_axes = np.argsort(
            random.random((clusters, dimension)) / self._deviation**2, axis=1
        )[:, :CLUSTER_DIMENSIONS]

    def images(self, count: int, *, seed: int) -> np.ndarray:
        """``(count, d) float32``, unit norm."""
        return self._images(count, np.random.default_rng((seed, 1)))[0]

    def texts(self, count: int, *, seed: int) -> np.ndarray:
        """``(count, d) float32``, unit norm: each describes an image like those of ``images``."""
        random = np.random.default_rng((seed, 2))
        _, centred = self._images(count, random)
        rest = (random.standard_normal((count, self.dimension)) * self._text_deviation).astype(
            np.float32
        ) @ self._text_basis.T
        own = ALIGNED * _unit(centred) + np.sqrt(1 - ALIGNED**2) * _unit(rest)
        return _unit(self._text_mean + np.sqrt(1 - TEXT_MEAN**2) * own)

    def _drawn(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Random vectors with a total variance of 1 and the spectrum of images."""
        drawn = random.standard_normal((count, self.dimension), np.float32) * self._deviation
        return drawn.astype(np.float32)

    def _images(self, count: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        cluster = random.choice(len(self._weights), count, p=self._weights)
        within = BACKGROUND * self._drawn(count, random)
        patch = self._cluster_axes[cluster]
        rows = np.arange(count)[:, None]
        inside = random.standard_normal((count, CLUSTER_DIMENSIONS), np.float32) / np.sqrt(
            CLUSTER_DIMENSIONS
        )
        within[rows, patch] += np.float32(np.sqrt(1 - BACKGROUND**2)) * inside
        mixed = (
            np.sqrt(BETWEEN_CLUSTERS) * self._centroids[cluster]
            + np.sqrt(1 - BETWEEN_CLUSTERS) * within
        )
        centred = mixed.astype(np.float32) @ self._basis.T * np.float32(np.sqrt(1 - MEAN**2))
        return _unit(self._mean + centred), centred


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def _with_length(vector: np.ndarray, length: float) -> np.ndarray:
    return vector * (length / np.linalg.norm(vector))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# comparison ---------------------------------------------------------------------------------------


def describe(name: str, images: np.ndarray, texts: np.ndarray) -> None:
    """Prints the statistics that affect an index."""
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
    """Prints a line for generated, and one for real embeddings if there are any."""
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
