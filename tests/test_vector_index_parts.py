"""Parts of the vector index: cosines of float16 vectors, the choice of an index by size."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.indexer.vector_index.build import EXACT_BELOW, FAST_SCAN_BELOW, plan_for
from sightline.indexer.vector_index.exact import CHUNK, cosines, to_float32


def test_to_float32_equals_astype_for_every_finite_float16() -> None:
    every = np.arange(65536, dtype="<u2").view("<f2")
    every = every[np.isfinite(every)]
    assert (to_float32(every).view(np.uint32) == every.astype(np.float32).view(np.uint32)).all()


@settings(deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([1, 7, CHUNK, CHUNK + 1]),
    step=st.integers(1, 3),
)
def test_equal_vectors_have_bitwise_equal_cosines_at_any_position(
    seed: int, rows: int, step: int
) -> None:
    random = np.random.default_rng(seed)
    half = random.standard_normal((rows * step, 24)).astype(np.float16)[::step]
    half[-1] = half[0]
    query = random.standard_normal(24).astype(np.float32)
    scores = cosines(half, query)
    assert np.allclose(scores, half.astype(np.float64) @ query, atol=1e-4)
    assert scores[0] == scores[-1] == cosines(half[:1], query)[0]


@settings(deadline=None)
@given(count=st.integers(EXACT_BELOW, 10**9), dimension=st.sampled_from([192, 512, 768, 1152]))
def test_the_training_sample_is_large_enough_and_fits_in_memory(count: int, dimension: int) -> None:
    plan = plan_for("ivf-pq", count, dimension)
    assert 39 * plan.nlist <= plan.sample <= count, "FAISS warns below 39 points a centroid"
    assert 2 * 4 * 512 * plan.sample < 3 * 2**30, "the sample and its rotated copy"
    codes = plan.factory.rpartition("PQ")[2]
    if count < FAST_SCAN_BELOW:
        assert codes == f"{dimension // 2}x4fsr", "a byte for four dimensions"
    else:
        assert int(codes.removesuffix("np")) <= 64
        assert dimension % int(codes.removesuffix("np")) == 0
