"""Near-duplicates are folded: similar embeddings with similar perceptual hashes."""

from __future__ import annotations

import numpy as np

from sightline.server.search.near_duplicates import MAX_HASH_BITS, fold


def unit(*numbers: float) -> np.ndarray:
    """A unit vector."""
    vector = np.array(numbers, np.float32)
    return vector / np.linalg.norm(vector)


A, NEAR_A, B = unit(1, 0, 0), unit(1, 0.1, 0), unit(0, 1, 0)
IDS = np.array([7, 3, 9], np.int64)


def test_similar_embeddings_with_similar_hashes_are_folded() -> None:
    hashes = {7: 0b1111, 3: 0b0111, 9: 0b1111}
    folded = fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: hashes)
    assert folded.tolist() == [7, 7, 9]


def test_similar_embeddings_with_different_hashes_are_not_folded() -> None:
    hashes = {7: 0, 3: (1 << (MAX_HASH_BITS + 1)) - 1, 9: 0}
    assert fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: hashes)[1] == 3


def test_negative_hashes_are_compared_as_64_bits() -> None:
    assert fold(IDS, np.stack([A, NEAR_A, B]), lambda ids: {7: -1, 3: -2, 9: 0})[1] == 7


def test_copies_without_hashes_are_folded() -> None:
    folded = fold(IDS, np.stack([A, A, B]), lambda ids: dict.fromkeys(ids.tolist()))
    assert folded.tolist() == [7, 7, 9]


def test_hashes_are_read_only_for_similar_embeddings() -> None:
    asked: list[int] = []

    def hashes(ids: np.ndarray) -> dict[int, int | None]:
        asked.extend(ids.tolist())
        return dict.fromkeys(ids.tolist(), 0)

    fold(IDS, np.stack([A, unit(0, 0, 1), B]), hashes)
    assert not asked
    fold(IDS, np.stack([A, NEAR_A, B]), hashes)
    assert sorted(asked) == [3, 7]


def test_an_image_is_folded_under_one_of_an_earlier_block() -> None:
    before = IDS[:1], A[None]
    folded = fold(IDS[1:], np.stack([A, B]), lambda ids: {}, before=before)
    assert folded.tolist() == [7, 9]


def test_folding_does_not_depend_on_the_block_size() -> None:
    random = np.random.default_rng(0)
    scenes = random.normal(size=(40, 32))
    vectors = scenes[random.integers(0, 40, 600)] + random.normal(size=(600, 32)) * 0.22
    vectors = (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32)
    ids = random.permutation(600).astype(np.int64)
    hashes = {int(image): int(image) % 3 * 0xFFFF for image in ids}
    whole = fold(ids, vectors, lambda asked: hashes)
    assert 50 < (whole != ids).sum() < 550
    for size in (1, 7, 128, 300):
        folded = ids[:0]
        for start in range(0, 600, size):
            some = slice(start, start + size)
            alone = folded == ids[:start]
            before = ids[:start][alone], vectors[:start][alone]
            more = fold(ids[some], vectors[some], lambda asked: hashes, before=before)
            folded = np.concatenate([folded, more])
        assert folded.tolist() == whole.tolist()
