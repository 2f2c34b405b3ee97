"""Folding near-identical shots: a burst takes one place in the results, not ten.

Two pictures are near-identical when their embeddings say the same thing *and* their perceptual
hashes agree, or when they are copies of one file. Either sign alone is not enough: embeddings
say what is seen and not which frame it is, and hashes of two plain skies are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from indexer.types import Embeddings, Ids

COSINE = 0.95
"""Cosine from which two embeddings may belong to near-identical shots."""

BITS = 8
"""Bits of 64 in which their perceptual hashes may differ. Measured on 238 product photographs with
the DCT hash: saved again smaller and at quality 40 to 90, at most 2 change; of the 28,203 pairs of
different ones none differs in fewer than 10."""

IDENTICAL = 0.9995
"""Cosine from which the hash is not asked: copies of one file, also where it has no hash."""


def fold(
    ids: Ids,
    vectors: Embeddings,
    hashes: Callable[[Ids], Mapping[int, int | None]],
    *,
    before: tuple[Ids, Embeddings] | None = None,
) -> list[tuple[int, int]]:
    """For each of ``ids``, in their order: (id, id of the earlier picture it is folded under).

    The second is the id itself for a picture that stands on its own. ``before`` are pictures that
    were found standing on their own earlier in the same ranking. ``hashes`` gives the perceptual
    hashes of ids, and is asked only for those whose embeddings agree.
    """
    heads_before, known = before if before is not None else (ids[:0], vectors[:0])
    all_ids = np.concatenate([heads_before, ids])
    all_vectors = np.concatenate([known, vectors])
    agree = vectors @ all_vectors.T >= COSINE
    offset = len(heads_before)
    # Only what came earlier can take a picture in: the lower triangle.
    agree &= np.arange(len(all_ids))[None, :] < np.arange(len(ids))[:, None] + offset
    rows, columns = np.nonzero(agree)
    if not len(rows):
        return [(int(image), int(image)) for image in ids]
    asked = np.unique(np.concatenate([ids[rows], all_ids[columns]]))
    phash = hashes(asked)
    under: dict[int, int] = {}
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        image, other = int(ids[row]), int(all_ids[column])
        # A picture that is itself folded takes nothing in: chains would tie strangers together.
        if image in under or other in under:
            continue
        cosine = float(vectors[row] @ all_vectors[column])
        if cosine >= IDENTICAL or _close(phash.get(image), phash.get(other)):
            under[image] = other
    return [(int(image), under.get(int(image), int(image))) for image in ids]


def _close(one: int | None, other: int | None) -> bool:
    """Whether two 64-bit hashes differ in few bits."""
    if one is None or other is None:
        return False
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count() <= BITS


def heads(folded: list[tuple[int, int]], ids: Ids, vectors: Embeddings) -> tuple[Ids, Embeddings]:
    """The pictures of ``folded`` that stand on their own, with their vectors."""
    alone: NDArray[np.bool_] = np.array([image == under for image, under in folded], bool)
    return ids[alone], vectors[alone]
