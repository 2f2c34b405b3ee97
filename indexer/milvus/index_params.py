"""Milvus' approximate indexes: how wide to search each, and which keep vectors shortened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

Search = Callable[[int, int, str], Mapping[int, int]]
"""``(picture, how many, filter) -> {id: stamp}``: its neighbours."""

HALF = "stamp >= 0"
"""A stamp is a digest less 2**63: half of all pictures, one here and another there."""

SHORTENED = frozenset({"IVF_PQ", "IVF_SQ8", "GPU_IVF_PQ", "HNSW_SQ", "HNSW_PQ", "IVF_RABITQ"})
"""Indexes whose own scores are approximate. IVF_PQ of 64 bytes gave recall@10 .53 by itself."""

WIDER, WIDER_PQ = 10, 40
"""Candidates for each place that such an index is asked for; one that keeps a byte for eight
dimensions has the right ones further back."""

ASKED, LOOKED_AT = 16, 200
"""Pictures that an index is tried with, and places of each answer."""


def wider(kind: str) -> int:
    """Candidates for each place that an index of this kind is asked for."""
    return WIDER_PQ if kind.endswith("PQ") else WIDER


def kept_by_filters(search: Search, ids: Iterable[int]) -> float:
    """The share, 0 to 1, of what an index finds without a filter that it finds with one that this
    meets; 1 for an index that is in order, however short its vectors are. ``search`` is asked for
    the neighbours of each of ``ids``.

    IVF_PQ of Milvus 2.3.5 (Knowhere 2.2.3) takes wrong distances where a filter leaves out one
    picture here and another there: a third.
    """
    there = found = 0
    for id in ids:
        wanted = {near for near, stamp in search(id, LOOKED_AT, "").items() if stamp >= 0}
        there += len(wanted)
        found += len(wanted & set(search(id, len(wanted), HALF))) if wanted else 0
    return found / there if there else 1.0


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
