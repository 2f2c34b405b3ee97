"""Catalog: images, embeddings, full text and failures in SQLite."""

from sightline.indexer.catalog.catalog import Catalog, WriteResult
from sightline.indexer.catalog.check import Problem
from sightline.indexer.catalog.embeddings import Changes
from sightline.indexer.catalog.facets import Months, Suggestion
from sightline.indexer.catalog.kept import FAVOURITES, Collection, Kept, SavedSearch
from sightline.indexer.catalog.new_embeddings import NewEmbedding, NewEmbeddings
from sightline.indexer.catalog.thumbnails import Thumbnails

__all__ = [
    "FAVOURITES",
    "Catalog",
    "Changes",
    "Collection",
    "Kept",
    "Months",
    "NewEmbedding",
    "NewEmbeddings",
    "Problem",
    "SavedSearch",
    "Suggestion",
    "Thumbnails",
    "WriteResult",
]
