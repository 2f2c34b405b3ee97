"""Measures a quantised index against exact search, and chooses how hard it looks.

Recall@10 is measured for two kinds of query: images of the library (not their own nearest
neighbour) and texts, which lie off the cone of the images and need several times the probes. The
cheapest pair of ``nprobe`` and ``depth`` (candidates ranked exactly) that reaches the target for
both is stored; since candidates are ranked exactly, a neighbour is found where it is among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from indexer.index_files import Manifest
from indexer.index_generation import FIRST, Generation, offset
from indexer.index_rows import Allowed
from indexer.types import Embeddings, Ids

TARGET = 0.97
TARGET_BELOW = 300_000, 0.99
"""For smaller libraries, where it costs nothing that anyone would notice."""
MARGIN = 0.2
"""Of what may be missed, spared while choosing: other queries may fare a little worse."""

QUERIES = 300
"""Of each kind."""

NEIGHBOURS = 10
DEPTHS = (50, 100, 150, 200, 300, 400, 500, 600, 800, 1000, 1200, 1800, 2600, 4000)
SHARES = (0.5, 0.1, 0.03)
"""Shares of the images that pretended filters are met by."""

PROBE_COST, CANDIDATE_COST = 10e-9, 800e-9
"""Seconds, about: to look at one code, and to rank one candidate exactly."""

SPARED = 1000
"""One true neighbour in so many may be lost by not ranking what is unlikely to be one."""

BLOCK = 65_536

Show = Callable[[str, int, int | None], None]


def tuned(generation: Generation, texts: Embeddings | None, progress: Show) -> Manifest:
    """The manifest of ``generation`` with ``nprobe``, ``depth``, ``filtered`` and the recall that
    was measured. Without ``texts`` three times the probes of image queries are taken."""
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
    nprobe, depth, recall = _choose(generation, kinds, truth, rows, target)
    if "text" not in kinds:
        nprobe = min(manifest.nlist, 3 * nprobe)
    slack = max(_slack(generation, kinds[name], truth[name], nprobe, depth) for name in kinds)
    manifest = replace(manifest, nprobe=nprobe, depth=depth, recall=recall, slack=slack)
    filtered = []
    least = nprobe
    for share in SHARES:
        least = _choose_filtered(generation, kinds, share, manifest, least, target, random)
        filtered.append((share, least))
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


def _probes(nlist: int, first: int = 1) -> list[int]:
    """Numbers of probes to try, each about 1.4 times the last."""
    tried = [first]
    while tried[-1] < nlist:
        tried.append(min(nlist, max(tried[-1] + 1, round(tried[-1] * 1.4))))
    return tried


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
) -> tuple[int, int, dict[str, float]]:
    """The cheapest (nprobe, depth) that reaches ``target`` for every kind; where none does, the
    hardest look there is."""
    manifest = generation.manifest
    mean_list = manifest.rows / manifest.nlist
    best: tuple[float, int, int, dict[str, float]] | None = None
    last: tuple[int, int, dict[str, float]] = (manifest.nlist, DEPTHS[-1], {})
    for nprobe in _probes(manifest.nlist):
        scan = nprobe * mean_list * PROBE_COST
        if best is not None and scan > best[0]:
            break
        by_depth = {
            name: _recall_by_depth(
                generation.candidates(queries, DEPTHS[-1] + 1, nprobe, None)[1],
                truth[name],
                own if name == "image" else None,
            )
            for name, queries in kinds.items()
        }
        for depth in DEPTHS:
            recall = {name: found[depth] for name, found in by_depth.items()}
            last = (nprobe, depth, recall)
            if min(recall.values()) >= target:
                cost = scan + depth * CANDIDATE_COST
                if best is None or cost < best[0]:
                    best = (cost, nprobe, depth, recall)
                break
    return last if best is None else best[1:]


def _slack(
    generation: Generation, queries: Embeddings, truth: Ids, nprobe: int, depth: int
) -> float:
    """How far exact scores of true neighbours lie above those by their codes, beyond what is so for
    all (``offset``); all but one in ``SPARED`` of them less."""
    about, rows = generation.candidates(queries, depth, nprobe, None)
    above = [np.empty(0, np.float32)]
    for query, scores, found, true in zip(queries, about, rows, truth, strict=True):
        scores, found = scores[found >= 0], found[found >= 0]
        near = np.isin(found, true[true >= 0])
        if near.any():
            first = generation.fetch(found[:FIRST]) @ query
            exact = generation.fetch(found[near]) @ query
            above.append(exact - scores[near] - offset(first, scores))
    return (
        float(np.quantile(np.concatenate(above), 1 - 1 / SPARED))
        if any(map(len, above))
        else math.inf
    )


def _choose_filtered(
    generation: Generation,
    kinds: dict[str, Embeddings],
    share: float,
    manifest: Manifest,
    nprobe: int,
    target: float,
    random: np.random.Generator,
) -> int:
    """The fewest probes, from ``nprobe`` on, that reach ``target`` under a filter that this share
    of the images meets."""
    alive = np.flatnonzero(np.asarray(generation.ids) >= 0)
    rows = np.sort(random.choice(alive, max(1, int(share * len(alive))), replace=False))
    bits = Allowed(rows).bits(manifest.rows)
    queries = np.concatenate([some[: QUERIES // 3] for some in kinds.values()])
    truth = nearest(generation, queries, NEIGHBOURS, allowed=rows)
    for probes in _probes(manifest.nlist, nprobe):
        _, found = generation.candidates(queries, manifest.depth, probes, bits)
        hits = sum(int(np.isin(t[t >= 0], row).sum()) for t, row in zip(truth, found, strict=True))
        if hits >= target * max(1, int((truth >= 0).sum())):
            return probes
    return manifest.nlist
