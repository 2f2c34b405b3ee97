"""What the vector index is made of: exact cosines of float16 vectors, plans that fit in memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sightline.indexer.vector_index.build import EXACT_BELOW, FINE_BELOW, plan_for
from sightline.indexer.vector_index.exact import CHUNK, cosines, widened


def test_every_finite_half_is_widened_to_the_same_number() -> None:
    every = np.arange(65536, dtype="<u2").view("<f2")
    every = every[np.isfinite(every)]
    assert (widened(every).view(np.uint32) == every.astype(np.float32).view(np.uint32)).all()


@given(
    seed=st.integers(0, 10**6),
    rows=st.sampled_from([1, 7, CHUNK, CHUNK + 1]),
    step=st.integers(1, 3),
)
def test_equal_rows_have_equal_cosines_wherever_they_lie(seed: int, rows: int, step: int) -> None:
    random = np.random.default_rng(seed)
    half = random.standard_normal((rows * step, 24)).astype(np.float16)[::step]
    half[-1] = half[0]
    query = random.standard_normal(24).astype(np.float32)
    scores = cosines(half, query)
    assert np.allclose(scores, half.astype(np.float64) @ query, atol=1e-4)
    assert scores[0] == scores[-1] == cosines(half[:1], query)[0]


@given(count=st.integers(EXACT_BELOW, 10**9), dimension=st.sampled_from([192, 512, 768, 1152]))
def test_a_plan_trains_on_enough_and_not_on_more_than_memory_holds(
    count: int, dimension: int
) -> None:
    plan = plan_for("ivf-pq", count, dimension)
    assert 39 * plan.nlist <= plan.sample <= count, "FAISS warns below 39 points a centroid"
    assert 2 * 4 * 512 * plan.sample < 3 * 2**30, "the sample and its rotated copy"
    codes = plan.factory.rpartition("PQ")[2]
    if count < FINE_BELOW:
        assert codes == f"{dimension // 2}x4fsr", "a byte for four dimensions"
    else:
        assert int(codes.removesuffix("np")) <= 64
        assert dimension % int(codes.removesuffix("np")) == 0
