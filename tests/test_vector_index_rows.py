"""Float16 vectors become float32 and cosines bit for bit as numpy has them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from indexer.index_rows import CHUNK, cosines, widened


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
