"""Library: a directory that binds a catalog, a vector index and one model."""

from sightline.indexer.catalog import Collection, Kept
from sightline.indexer.library.interface import AnyLibrary
from sightline.indexer.library.library import Library

__all__ = ["AnyLibrary", "Collection", "Kept", "Library"]
