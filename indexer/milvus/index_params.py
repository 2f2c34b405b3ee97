"""Index types of Milvus: which may be used, how each is built and searched, and a check of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

INDEX_TYPES = ("FLAT", "IVF_FLAT", "IVF_SQ8", "IVF_PQ", "HNSW", "SCANN", "DISKANN")
"""Milvus' names. Its GPU indexes are missing: they return at most 1,024 or 2,048 neighbours."""

ONLY = {
    "milvus_lite": ("FLAT", "HNSW", "IVF_FLAT", "IVF_SQ8"),
    "-lite": ("FLAT", "IVF_FLAT", "HNSW", "SCANN"),
}
"""By a part of the version: what Milvus Lite, and the server in the PyPI package ``milvus``, serve.
The latter (2.3.5) never finishes DISKANN, and with IVF_SQ8 and IVF_PQ deletes the vectors' file, so
that they are lost at the next restart. Any other server refuses what it lacks."""

OVERSAMPLING = {"IVF_SQ8": 10, "IVF_PQ": 40}
"""Candidates fetched per result from indexes of quantised vectors, and re-ranked exactly: IVF_PQ at
64 bytes has a recall@10 of .53 by itself."""

HALF = "stamp >= 0"
"""A filter that half of all images meet, at random: a stamp is a digest minus 2**63."""

CHECKED_QUERIES, CHECKED_DEPTH = 16, 200
"""Queries, and results of each, that ``recall_under_filter`` compares."""

MIN_RECALL_UNDER_FILTER = 0.8
"""Below this an index is refused; equal scores may swap ranks, so that 1 is not required."""

Search = Callable[[int, int, str], Mapping[int, int]]
"""``(image id, k, filter) -> {id: stamp}`` of its k nearest neighbours."""


def recall_under_filter(search: Search, ids: Iterable[int]) -> float:
    """The fraction, 0 to 1, of the neighbours found without a filter that match ``HALF`` and are
    found with it too; ``search`` is called for each of ``ids``. A sound index has 1, however coarse
    its codes are; IVF_PQ of Milvus 2.3.5 (Knowhere 2.2.3) has 1/3."""
    expected = found = 0
    for id in ids:
        wanted = {near for near, stamp in search(id, CHECKED_DEPTH, "").items() if stamp >= 0}
        expected += len(wanted)
        found += len(wanted & set(search(id, len(wanted), HALF))) if wanted else 0
    return found / expected if expected else 1.0


def build_params(kind: str, count: int, dimension: int) -> dict[str, Any]:
    """Parameters to build an index of ``count`` vectors. ``nlist`` is a power of two of about 4
    times the square root (FAISS's guideline), at most 2,048: each segment of a collection, of half
    a million rows, has its own index. PQ stores a byte per 8 dimensions."""
    nlist = int(2 ** max(4, min(11, int(np.log2(max(count, 1)) / 2 + 2))))
    if kind == "IVF_PQ":
        m = next((m for m in (64, 48, 32, 16, 8, 4, 2) if dimension % m == 0 and m < dimension), 1)
        return {"nlist": nlist, "m": m, "nbits": 8}
    if uses_nlist(kind):
        return {"nlist": nlist}
    return {"M": 24, "efConstruction": 200} if kind == "HNSW" else {}


def uses_nlist(kind: str) -> bool:
    """Whether an index of this type has inverted lists."""
    return "IVF" in kind or kind == "SCANN"


def search_params(index: dict[str, Any], limit: int, *, filtered: bool) -> dict[str, Any]:
    """Parameters to find ``limit`` neighbours also of text queries, which are far from all images.
    A filter removes much of what a search passes. ``index`` is Milvus' description."""
    kind = index["index_type"]
    if kind == "HNSW":
        return {"ef": min(max(2 * limit, 1024 if filtered else 384), 32_768)}
    if kind == "DISKANN":
        return {"search_list": min(max(2 * limit, 400 if filtered else 200), 65_535)}
    if uses_nlist(kind):
        nlist = int(index.get("nlist") or 1024)
        # A quarter of the lists; an eighth when there are thousands.
        nprobe = nlist // (4 if nlist <= 2048 else 8)
        return {"nprobe": min(nlist, max(32, 2 * nprobe if filtered else nprobe))}
    return {}
