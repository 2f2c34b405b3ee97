"""Names of places by their position, offline."""

from sightline.indexer.places.gazetteer import Gazetteer

__all__ = ["Gazetteer"]
