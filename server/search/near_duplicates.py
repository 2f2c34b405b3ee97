"""Folding near-identical shots: a burst takes one place in the results, not ten.

Two pictures are near-identical when their embeddings say the same thing *and* their perceptual
hashes agree, or when they are copies of one file. Either sign alone is not enough: embeddings
say what is seen and not which frame it is, and hashes of two plain skies are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from sightline.indexer.types import Embeddings, Ids

COSINE = 0.95
"""Cosine from which two embeddings may belong to near-identical shots."""

BITS = 8
"""Bits of 64 in which their perceptual hashes may differ. Measured on 238 product photographs with
the DCT hash: saved again smaller and at quality 40 to 90, at most 2 change; of the 28,203 pairs of
different ones none differs in fewer than 10."""

IDENTICAL = 0.9995
"""Cosine from which the hash is not asked: copies of one file, also where it has no hash."""

ROUNDING = 1e-5
"""More than a matrix product differs from the product of two of its rows, which decides: so what is
folded does not depend on how many are folded at a time."""

ROWS = 128
"""Pictures that are compared with all earlier ones at a time."""


def fold(
    ids: Ids,
    vectors: Embeddings,
    hashes: Callable[[Ids], Mapping[int, int | None]],
    *,
    before: tuple[Ids, Embeddings] | None = None,
) -> Ids:
    """For each of ``ids``, in their order, the id of the earlier picture it is folded under: its
    own where it stands alone. ``(n,) int64``.

    ``before`` are pictures that were found standing alone earlier in the same ranking.
    ``hashes`` gives the perceptual hashes of ids, and is asked only for those whose embeddings
    agree.
    """
    heads, known = before if before is not None else (ids[:0], vectors[:0])
    all_ids = np.concatenate([heads, ids])
    all_vectors = np.concatenate([known, vectors])
    offset = len(heads)
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(ids), ROWS):
        some = vectors[start : start + ROWS]
        near = some @ all_vectors[: offset + start + len(some)].T
        row, column = np.nonzero(near >= COSINE - ROUNDING)
        before_it = column < offset + start + row  # only those can take a picture in
        rows.append(start + row[before_it])
        columns.append(column[before_it])
    row, column = np.concatenate(rows), np.concatenate(columns)
    if not len(row):
        return ids.copy()
    phash = hashes(np.unique(np.concatenate([ids[row], all_ids[column]])))
    under: dict[int, int] = {}
    for one, earlier in zip(row.tolist(), column.tolist(), strict=True):
        image, other = int(ids[one]), int(all_ids[earlier])
        # A picture that is itself folded takes nothing in: chains would tie strangers together.
        if image in under or other in under:
            continue
        cosine = float(vectors[one] @ all_vectors[earlier])
        if cosine >= IDENTICAL or (cosine >= COSINE and _close(phash.get(image), phash.get(other))):
            under[image] = other
    return np.array([under.get(image, image) for image in ids.tolist()], np.int64)


def _close(one: int | None, other: int | None) -> bool:
    """Whether two 64-bit hashes differ in few bits."""
    if one is None or other is None:
        return False
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count() <= BITS
