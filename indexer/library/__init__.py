"""Library: a directory that binds a catalog, a vector index and one model."""

from sightline.indexer.library.interface import AnyLibrary
from sightline.indexer.library.library import Library

__all__ = ["AnyLibrary", "Library"]
