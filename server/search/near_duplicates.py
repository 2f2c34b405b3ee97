"""Folding of near-identical images in a ranking: a burst takes one rank, not ten.

Two images are near-identical if their embeddings *and* their perceptual hashes agree, or if they
are copies of one file. Neither is enough alone: the frames of a film have equal embeddings, and the
hashes of two plain skies are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sightline.indexer.types import Embeddings, Ids, ImageRecord

MIN_COSINE = 0.95
"""Cosine from which two embeddings agree."""

MAX_HASH_BITS = 8
"""Bits of 64 in which agreeing perceptual hashes differ at most. Measured with the DCT hash on 238
product photographs: at most 2 for the same image at another size or JPEG quality, at least 10 for
different images."""

IDENTICAL_COSINE = 0.9995
"""Cosine from which hashes are not compared: copies of one file, even without a hash."""

NO_DETAIL = 0
"""In the place of the hash of an image without detail, which no other image is near-identical to.
A hash has as many bits set as not."""

BLOCK = 512
"""Images compared with all earlier ones at a time."""

ROUNDING = 1e-5
"""Upper bound of the difference between an entry of a matrix product and the inner product of the
two rows, which decides: so the result does not depend on how many images are compared at a time."""


def hashes_of(records: Iterable[ImageRecord]) -> dict[int, int | None]:
    """Perceptual hashes by id: None if unknown, ``NO_DETAIL`` of decoded images that have none."""
    return {
        record.id: NO_DETAIL
        if record.phash is None and record.info.color is not None
        else record.phash
        for record in records
    }


def fold(
    ids: Ids,
    vectors: Embeddings,
    hashes: Callable[[Ids], Mapping[int, int | None]],
    *,
    before: tuple[Ids, Embeddings] | None = None,
) -> Ids:
    """For each of ``ids``, in the order of a ranking, the id of the earlier image that represents
    it; its own id if there is none. ``(n,) int64``.

    ``before`` are ids and vectors that represent themselves in earlier ranks. ``hashes`` returns
    perceptual hashes by id (``hashes_of``); it is called only for images whose embeddings agree
    with another.
    """
    all_ids, all_vectors = ids, vectors
    if before is not None and len(before[0]):
        all_ids = np.concatenate([before[0], ids])
        all_vectors = np.concatenate([before[1], vectors])
    pairs = [np.empty((2, 0), np.int64)]
    for start in range(len(all_ids) - len(ids), len(all_ids), BLOCK):
        block = all_vectors[start : start + BLOCK]
        # BLAS computes one triangle of the product of a matrix with itself.
        for first, others in ((0, all_vectors[:start]), (start, block)):
            agree = np.flatnonzero(block @ others.T >= MIN_COSINE - ROUNDING)
            row, column = np.divmod(agree, max(len(others), 1))
            pairs.append(np.stack([start + row, first + column])[:, first + column < start + row])
    row, column = np.concatenate(pairs, axis=1)
    if not len(row):
        return ids.copy()
    order = np.lexsort((column, row))
    agreeing = np.zeros(len(all_ids), bool)
    agreeing[row] = agreeing[column] = True
    phash = hashes(all_ids[agreeing])
    folded: dict[int, int] = {}
    for n, m in zip(row[order].tolist(), column[order].tolist(), strict=True):
        image, other = int(all_ids[n]), int(all_ids[m])
        # A folded image represents no other: chains would connect unlike images.
        if image in folded or other in folded:
            continue
        if NO_DETAIL in (phash.get(image), phash.get(other)):
            continue
        cosine = float(all_vectors[n] @ all_vectors[m])
        if cosine >= IDENTICAL_COSINE or (
            cosine >= MIN_COSINE and _hashes_agree(phash.get(image), phash.get(other))
        ):
            folded[image] = other
    return np.array([folded.get(image, image) for image in ids.tolist()], np.int64)


def _hashes_agree(one: int | None, other: int | None) -> bool:
    """Whether two 64-bit hashes differ in at most ``MAX_HASH_BITS`` bits."""
    if one is None or other is None:
        return False
    return ((one ^ other) & 0xFFFF_FFFF_FFFF_FFFF).bit_count() <= MAX_HASH_BITS
