"""Measures a quantised index against exact search, and chooses how hard it looks.

Recall@10 is measured for two kinds of query: images of the library (not their own nearest
neighbour) and texts, which lie off the cone of the images and need several times the probes. The
cheapest ``reach`` of each (which lists are looked into) and ``depth`` (candidates ranked exactly)
that reach the target for both are stored; since candidates are ranked exactly, a neighbour is
found where it is among them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sightline.indexer.types import Embeddings, Ids, Progress
from sightline.indexer.vector_index.exact import Bits, Scores, bits_of
from sightline.indexer.vector_index.generation import (
    EXACT_ROWS,
    FIRST,
    Generation,
    offset,
    times_as_far,
)
from sightline.indexer.vector_index.manifest import Manifest, Reach

TARGET = 0.97
TARGET_BELOW = 300_000, 0.99
"""For smaller libraries, where it costs nothing that anyone would notice."""
MARGIN = 0.2
"""Of what may be missed, spared while choosing: other queries may fare a little worse."""

QUERIES = 300
"""Of each kind."""

NEIGHBOURS = 10
DEPTHS = (50, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1800, 2600, 4000)
SHARES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
"""Shares of the images that pretended filters are met by, down to what is ranked as a whole."""

LEVELS = (0.97, 0.975, 0.98, 0.985, 0.99, 0.992, 0.994, 0.996, 0.998, 1.0)
"""Shares of the true neighbours that the lists that are tried hold: no more can be found."""

REACHES = 8
"""That are tried for each."""

CODE_COST, PACKED_CODE_COST, CANDIDATE_COST = 50e-9, 12e-9, 800e-9
"""Seconds, about: to look at one code, at one of those that a scan takes 32 at once of, and to rank
one candidate exactly."""

FOR_TEXTS = 1.5
"""Times as far as pictures need, where no texts can be measured."""

SPARED = 1000
"""One true neighbour in so many may be lost by not ranking what is unlikely to be one."""

BLOCK = 65_536


def tuned(generation: Generation, texts: Embeddings | None, progress: Progress) -> Manifest:
    """The manifest of ``generation`` with ``nprobe``, ``reach``, ``depth``, ``filtered`` and the
    recall that was measured. Without ``texts`` half as much again as the reach of image queries is
    taken, and three times their probes."""
    manifest = generation.manifest
    random = np.random.default_rng(manifest.generation)
    alive = np.flatnonzero(np.asarray(generation.ids) >= 0)
    rows = np.sort(random.choice(alive, min(QUERIES, len(alive)), replace=False))
    images = generation.fetch(rows)
    kinds = {"image": images}
    if texts is not None and len(texts):
        chosen = random.choice(len(texts), min(QUERIES, len(texts)), replace=False)
        kinds["text"] = np.asarray(texts[chosen], np.float32)
    progress("measuring the index", 0, None)
    truth = {
        name: nearest(generation, queries, NEIGHBOURS, own=rows if name == "image" else None)
        for name, queries in kinds.items()
    }
    target = TARGET_BELOW[1] if manifest.rows < TARGET_BELOW[0] else TARGET
    target += MARGIN * (1 - target)
    manifest = replace(manifest, **_choose(generation, kinds, truth, rows, target))
    if "text" not in kinds:
        nprobe = min(manifest.nlist, 3 * manifest.nprobe)
        manifest = replace(manifest, nprobe=nprobe, reach=times_as_far(manifest.reach, FOR_TEXTS))
    slack = max(_slack(generation, manifest, kinds[name], truth[name]) for name in kinds)
    manifest = replace(manifest, slack=slack)
    least = EXACT_ROWS / manifest.rows
    shares = [*(share for share in SHARES if share > least), *([least] if least < 1 else [])]
    filtered = []
    for share in shares:
        some = random.choice(alive, max(1, int(share * len(alive))), replace=False)
        filtered.append((share, *_choose_filtered(generation, kinds, some, manifest, target)))
    progress("measuring the index", 1, 1)
    return replace(manifest, filtered=tuple(filtered))


def nearest(
    generation: Generation,
    queries: Embeddings,
    k: int,
    *,
    own: Ids | None = None,
    allowed: Ids | None = None,
) -> Ids:
    """``(q, k)`` rows of the exact nearest neighbours, by a scan in blocks; ``own`` are the rows of
    the queries themselves, which do not count; ``allowed`` the rows that do."""
    rows = np.flatnonzero(np.asarray(generation.ids) >= 0) if allowed is None else allowed
    best_scores = np.full((len(queries), k), -np.inf, np.float32)
    best_rows = np.full((len(queries), k), -1, np.int64)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        scores = queries @ generation.fetch(part).T
        if own is not None:
            scores[own[:, None] == part[None, :]] = -np.inf
        keep = min(k, scores.shape[1])
        top = np.argpartition(scores, -keep, axis=1)[:, -keep:]
        scores = np.concatenate([best_scores, np.take_along_axis(scores, top, 1)], axis=1)
        found = np.concatenate([best_rows, part[top]], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        best_scores = np.take_along_axis(scores, order, 1)
        best_rows = np.take_along_axis(found, order, 1)
    return best_rows


@dataclass(frozen=True)
class _Try:
    """A reach that is tried for one kind of query, and what it comes to."""

    best: float
    """The product of a query and its nearest centroid, in the middle."""
    reach: float
    nprobe: int
    scan: float
    """Seconds, about, to look at the codes."""
    recall: dict[int, float]
    """By depth."""


def _tries(
    generation: Generation,
    queries: Embeddings,
    truth: Ids,
    own: Ids | None,
    target: float,
    fewest: int,
    chosen: Bits | None = None,
) -> Iterator[_Try]:
    """For each of ``LEVELS`` from ``target`` on, the cheapest look at lists that hold so many,
    where ``fewest`` lists may be looked into in any case; ``chosen`` are the rows that count."""
    manifest = generation.manifest
    code = PACKED_CODE_COST if "x4fs" in manifest.factory else CODE_COST
    _, near, lists = generation.lists(queries, manifest.nlist)
    homes = generation.homes(truth.ravel()).reshape(truth.shape)
    place = (lists[:, None, :] == homes[:, :, None]).argmax(axis=2)
    behind = near[:, :1] - np.take_along_axis(near, place, axis=1)
    best = float(np.median(near[:, 0]))
    there = place[truth >= 0], behind[truth >= 0]
    for level in (level for level in LEVELS if level >= target):
        reach, nprobe, looked = _cheapest(near, *there, level, fewest)
        look = ((best, reach),)
        found = generation.candidates(queries, DEPTHS[-1] + 1, nprobe, look, chosen)[1]
        scan = looked * manifest.rows / manifest.nlist * code
        yield _Try(best, reach, nprobe, scan, _recall_by_depth(found, truth, own))


def _cheapest(
    near: Scores, place: Ids, behind: Scores, level: float, fewest: int
) -> tuple[float, int, float]:
    """The reach and the most lists within it that hold this share of the true neighbours while the
    fewest are looked into, and how many these are: halfway between their mean and their median.

    ``near``: ``(q, nlist)`` products with all centroids, falling; of each true neighbour ``place``,
    that of its list among them, and ``behind``, how far below the first. Without a bound on their
    number, queries that are about as close to everything would look into nearly all lists."""
    wanted = math.ceil(level * len(place))
    found = []
    for share in np.linspace(level, 1, REACHES):
        reach = float(np.quantile(behind, share)) + 1e-6
        inside = np.sort(place[behind <= reach])
        if len(inside) >= wanted:
            nprobe = max(int(inside[wanted - 1]) + 1, fewest)
            counts = (near >= near[:, :1] - reach).sum(axis=1)
            looked = np.minimum(counts, nprobe)
            # Of what most queries take and what all take together.
            found.append((float(looked.mean() + np.median(looked)) / 2, reach, nprobe))
    lists, reach, nprobe = min(found)
    return reach, nprobe, lists


def _recall_by_depth(candidates: Ids, truth: Ids, own: Ids | None) -> dict[int, float]:
    """Share of the true neighbours among the first so many candidates."""
    if own is not None:
        candidates = np.where(candidates == own[:, None], -2, candidates)
    wanted = truth >= 0
    total = max(1, int(wanted.sum()))
    found = {}
    for depth in DEPTHS:
        some = candidates[:, : depth + 1 if own is not None else depth]
        hits = sum(
            int(np.isin(true[there], row).sum())
            for true, there, row in zip(truth, wanted, some, strict=True)
        )
        found[depth] = hits / total
    return found


def _choose(
    generation: Generation,
    kinds: dict[str, Embeddings],
    truth: dict[str, Ids],
    own: Ids,
    target: float,
) -> dict[str, Any]:
    """The cheapest ``nprobe``, ``reach`` and ``depth`` that reach ``target`` for every kind, and
    their ``recall``; where none do, the hardest look there is."""
    tried = dict[str, list[_Try]]()
    fewest = 1
    for name in sorted(kinds, reverse=True):  # texts first: the bound on lists is theirs
        mine = own if name == "image" else None
        tried[name] = list(_tries(generation, kinds[name], truth[name], mine, target, fewest))
        fewest = tried[name][0].nprobe
    least, chosen, ranked = math.inf, {name: some[-1] for name, some in tried.items()}, DEPTHS[-1]
    for depth in DEPTHS:
        enough = {
            name: [one for one in some if one.recall[depth] >= target]
            for name, some in tried.items()
        }
        if not all(enough.values()):
            continue
        first = {name: some[0] for name, some in enough.items()}
        cost = depth * CANDIDATE_COST + float(np.mean([one.scan for one in first.values()]))
        if cost < least:
            least, chosen, ranked = cost, first, depth
    return {
        "nprobe": max(one.nprobe for one in chosen.values()),
        "reach": tuple(sorted((one.best, one.reach) for one in chosen.values())),
        "depth": ranked,
        "recall": {name: one.recall[ranked] for name, one in chosen.items()},
    }


def _slack(generation: Generation, look: Manifest, queries: Embeddings, truth: Ids) -> float:
    """How far exact scores of true neighbours lie above those by their codes, beyond what is so for
    all (``offset``); all but one in ``SPARED`` of them less."""
    about, rows = generation.candidates(queries, look.depth, look.nprobe, look.reach, None)
    above = [np.empty(0, np.float32)]
    for query, scores, found, true in zip(queries, about, rows, truth, strict=True):
        scores, found = scores[found >= 0], found[found >= 0]
        near = np.isin(found, true[true >= 0])
        if near.any():
            first = generation.fetch(found[:FIRST]) @ query
            exact = generation.fetch(found[near]) @ query
            above.append(exact - scores[near] - offset(first, scores))
    every = np.concatenate(above)
    return float(np.quantile(every, 1 - 1 / SPARED)) if len(every) else math.inf


def _choose_filtered(
    generation: Generation,
    kinds: dict[str, Embeddings],
    rows: Ids,
    manifest: Manifest,
    target: float,
) -> tuple[int, Reach]:
    """The cheapest ``nprobe`` and ``reach`` that reach ``target`` with the depth that was chosen,
    for every kind, under a filter that leaves these rows; where none do, the hardest look."""
    rows = np.sort(rows)
    bits = bits_of(rows, manifest.rows)
    fewest, reach = manifest.nprobe, []
    at, far = zip(*manifest.reach, strict=True)
    for name in sorted(kinds, reverse=True):
        queries = kinds[name][: 2 * QUERIES // 3]
        truth = nearest(generation, queries, NEIGHBOURS, allowed=rows)
        for one in _tries(generation, queries, truth, None, target, fewest, bits):
            if one.recall[manifest.depth] >= target:
                break
        fewest = one.nprobe
        # No less far than without a filter.
        reach.append((one.best, max(one.reach, float(np.interp(one.best, at, far)))))
    return fewest, times_as_far(sorted(reach), 1 if "text" in kinds else FOR_TEXTS)
