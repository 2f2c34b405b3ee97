"""Tunes a generation: measures recall@10 against exact search and chooses nprobe, radius and depth.

Two kinds of query are measured: images of the library (without themselves as a result) and texts,
which need several times as many probes because text embeddings are outside of the cone of image
embeddings. A true neighbour is found if its list is probed and if its quantised score is among the
``depth`` highest, since these are re-ranked exactly. Of the settings that reach the target recall
for both kinds, the cheapest is stored in the manifest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.types import Embeddings, Ids, Progress
from sightline.indexer.vector_index.exact import BLOCK, Scores
from sightline.indexer.vector_index.generation import TUNED_K, Generation, Probing
from sightline.indexer.vector_index.manifest import Manifest

TARGET_RECALL = 0.97
SMALL_TARGET_RECALL, SMALL = 0.99, 300_000
"""Target for libraries of fewer rows than ``SMALL``, where it costs less than a millisecond."""

MARGIN = 0.2
"""Fraction of the permitted misses held back, because other queries may have a lower recall."""

QUERIES = 300
"""Queries measured of each kind."""

MIN_DEPTH, MAX_DEPTH = 50, 4000
"""Limits of the re-ranking depth; the lower one costs 10 microseconds."""

COVERAGES = 6
"""Coverages tried between the target and 1: fractions of true neighbours in the probed lists."""

RADII = 8
"""Probing radii tried for each coverage."""

CODE_SECONDS, FAST_SCAN_CODE_SECONDS, RERANK_SECONDS = 50e-9, 12e-9, 800e-9
"""Cost of scanning one code of 8 bits or of 4 bits (fast scan), and of re-ranking one candidate."""

TEXT_RADIUS, TEXT_NPROBE = 1.5, 3
"""Ratio of texts to images in radius and nprobe, applied if there are no texts to measure."""


def tuned(generation: Generation, texts: Embeddings | None, progress: Progress) -> Manifest:
    """The manifest of ``generation`` with ``nprobe``, ``radius``, ``depth`` and measured recall."""
    manifest = generation.manifest
    random = np.random.default_rng(manifest.generation)
    live = generation.live()
    rows = np.sort(random.choice(live, min(QUERIES, len(live)), replace=False))
    progress("measuring the index", 0, None)
    images = generation.fetch(rows)
    if texts is None:
        texts = np.empty((0, images.shape[1]), np.float32)
    chosen = random.choice(len(texts), min(QUERIES, len(texts)), replace=False)
    queries = {"image": images, "text": np.asarray(texts[chosen], np.float32)}
    # One pass over the vectors for both kinds; texts have no row of their own.
    own = np.concatenate([rows, np.full(len(chosen), -1)])
    truth = nearest_rows(generation, np.concatenate(list(queries.values())), TUNED_K, own=own)
    parts = np.split(truth, [len(rows)])
    samples = {
        kind: _Sample.of(generation, some, part)
        for (kind, some), part in zip(queries.items(), parts, strict=True)
        if len(some)
    }
    target = SMALL_TARGET_RECALL if manifest.rows < SMALL else TARGET_RECALL
    target += MARGIN * (1 - target)
    settings = _cheapest(generation, samples, target)
    manifest = replace(
        manifest,
        nprobe=settings.probing.nprobe,
        radius=settings.probing.radius,
        depth=settings.depth,
        recall=settings.recall,
    )
    if "text" not in samples:
        nprobe = min(manifest.nlist, TEXT_NPROBE * manifest.nprobe)
        manifest = replace(manifest, nprobe=nprobe, radius=TEXT_RADIUS * manifest.radius)
    progress("measuring the index", 1, 1)
    return manifest


def nearest_rows(generation: Generation, queries: Embeddings, k: int, *, own: Ids) -> Ids:
    """``(q, k)`` rows of the exact nearest neighbours, padded with -1, without the rows ``own`` of
    the queries themselves (-1 for none)."""
    import faiss

    found = faiss.ResultHeap(len(queries), k + 1, keep_max=True)
    rows = generation.live()
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        near = min(k + 1, len(block))
        cosines, positions = faiss.knn(
            queries, generation.fetch(block), near, faiss.METRIC_INNER_PRODUCT
        )
        found.add_result(cosines, block[positions])
    found.finalize()
    others = np.argsort(own[:, None] == found.I, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(found.I, others, axis=1)


@dataclass(frozen=True)
class _Sample:
    """Queries of one kind, and where their true neighbours are."""

    queries: Embeddings
    truth: Ids
    """``(q, 10)`` rows of the exact nearest neighbours, -1 for none."""
    centroid_cosines: Scores
    """``(q, nlist)`` cosines of all centroids to each query, descending."""
    positions: Ids
    """``(n,)`` position of the list of each true neighbour in that order."""
    gaps: Scores
    """``(n,)`` how much lower than that of the nearest centroid the cosine of its centroid is."""

    @classmethod
    def of(cls, generation: Generation, queries: Embeddings, truth: Ids) -> _Sample:
        _, cosines, lists = generation.probed_lists(queries, Probing(generation.manifest.nlist))
        assigned = generation.assigned_lists(truth.ravel()).reshape(truth.shape)
        positions = (lists[:, None, :] == assigned[:, :, None]).argmax(axis=2)
        gaps = cosines[:, :1] - np.take_along_axis(cosines, positions, axis=1)
        return cls(queries, truth, cosines, positions[truth >= 0], gaps[truth >= 0])

    def nprobe_for(self, coverage: float, radius: float) -> int | None:
        """The lowest ``nprobe`` so that this fraction of the true neighbours is in probed lists;
        None if they are not within ``radius``."""
        inside = np.sort(self.positions[self.gaps <= radius])
        needed = max(1, math.ceil(coverage * len(self.positions)))
        return int(inside[needed - 1]) + 1 if len(inside) >= needed else None

    def lists_scanned(self, nprobe: int, radius: float) -> float:
        """Lists scanned per query: halfway between the mean, which few expensive queries determine,
        and the median."""
        within = (self.centroid_cosines >= self.centroid_cosines[:, :1] - radius).sum(axis=1)
        scanned = np.minimum(within, nprobe)
        return float(scanned.mean() + np.median(scanned)) / 2

    def ranks(self, generation: Generation, probing: Probing) -> NDArray[np.float64]:
        """``(n,)`` rank of each true neighbour among the candidates, from 1, ascending; infinite if
        it is not among them."""
        rows = generation.candidates(self.queries, MAX_DEPTH, probing)[1]
        ranks = []
        for true, found in zip(self.truth, rows, strict=True):
            here = np.flatnonzero(np.isin(found, true[true >= 0])) + 1.0
            ranks += [here, np.full((true >= 0).sum() - len(here), np.inf)]
        return np.sort(np.concatenate(ranks))


@dataclass(frozen=True)
class _Settings:
    probing: Probing
    depth: int
    recall: dict[str, float]
    seconds: float
    """Estimated cost per query."""


def _cheapest(generation: Generation, samples: dict[str, _Sample], target: float) -> _Settings:
    """The cheapest settings that reach ``target`` recall for every kind of query; the most thorough
    ones if none do."""
    tried = [
        _settings(generation, samples, float(coverage), target)
        for coverage in np.linspace(target, 1, COVERAGES)
    ]
    enough = [one for one in tried if min(one.recall.values()) >= target]
    return min(enough, key=lambda one: one.seconds) if enough else tried[-1]


def _settings(
    generation: Generation, samples: dict[str, _Sample], coverage: float, target: float
) -> _Settings:
    """Settings that probe the lists of this fraction of the true neighbours of every kind."""
    manifest = generation.manifest
    gaps = np.concatenate([sample.gaps for sample in samples.values()])
    best = math.inf, manifest.nlist, float(gaps.max())
    for radius in np.quantile(gaps, np.linspace(coverage, 1, RADII)) + 1e-6:
        needed = [sample.nprobe_for(coverage, radius) for sample in samples.values()]
        if None not in needed:
            nprobe = max(n for n in needed if n is not None)
            scanned = [sample.lists_scanned(nprobe, radius) for sample in samples.values()]
            best = min(best, (sum(scanned) / len(scanned), nprobe, float(radius)))
    lists, nprobe, radius = best
    probing = Probing(nprobe, radius)
    ranks = {name: one.ranks(generation, probing) for name, one in samples.items()}
    needed_depth = max(float(some[math.ceil(target * len(some)) - 1]) for some in ranks.values())
    depth = int(min(max(needed_depth, MIN_DEPTH), MAX_DEPTH))
    code = FAST_SCAN_CODE_SECONDS if "x4fs" in manifest.factory else CODE_SECONDS
    seconds = lists * manifest.rows / manifest.nlist * code + depth * RERANK_SECONDS
    recall = {name: float((some <= depth).mean()) for name, some in ranks.items()}
    return _Settings(probing, depth, recall, seconds)
