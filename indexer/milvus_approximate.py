"""Milvus' approximate indexes: how wide to search each, and which keep vectors shortened."""

from __future__ import annotations

from typing import Any

SHORTENED = frozenset({"IVF_PQ", "IVF_SQ8", "GPU_IVF_PQ", "HNSW_SQ", "HNSW_PQ", "IVF_RABITQ"})
"""Indexes whose own scores are approximate. IVF_PQ of 64 bytes gave recall@10 .53 by itself."""

WIDER = 10
"""Candidates for each place that such an index is asked for."""


def width(index: dict[str, Any], limit: int, *, filtered: bool) -> dict[str, Any]:
    """Search parameters of an index that find ``limit`` neighbours well, also for queries in
    words, which lie far from the pictures; a filter takes away much of what a search passes."""
    kind = index["index_type"]
    if kind.startswith("HNSW"):
        return {"ef": min(max(2 * limit, 1024 if filtered else 384), 32_768)}
    if kind == "DISKANN":
        return {"search_list": min(max(2 * limit, 400 if filtered else 200), 65_535)}
    if kind == "GPU_CAGRA":
        return {"itopk_size": min(max(2 * limit, 256), 1024)}
    if "IVF" in kind or kind == "SCANN":
        lists = int(index.get("nlist") or 1024)
        # A quarter of the lists; an eighth when there are thousands.
        share = lists // (4 if lists <= 2048 else 8)
        return {"nprobe": min(lists, max(32, 2 * share if filtered else share))}
    return {}
