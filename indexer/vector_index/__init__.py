"""Nearest neighbours of vectors, exactly or with a quantised index (FAISS)."""

from sightline.indexer.vector_index.exact import cosines, top_k
from sightline.indexer.vector_index.index import (
    VectorIndex,
    build_index,
    check_search_device,
    maintain_index,
    open_index,
    orphans,
    remove_orphans,
    requested_kind,
)
from sightline.indexer.vector_index.manifest import copy_index

__all__ = [
    "VectorIndex",
    "build_index",
    "check_search_device",
    "copy_index",
    "cosines",
    "maintain_index",
    "open_index",
    "orphans",
    "remove_orphans",
    "requested_kind",
    "top_k",
]
