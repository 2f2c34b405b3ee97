"""Search: queries -> vectors -> rankings -> hits. Knows no HTTP."""

from sightline.server.search.engine import SearchEngine
from sightline.server.search.query import Query, Term, parse
from sightline.server.search.results import Hit, SearchResult

__all__ = ["Hit", "Query", "SearchEngine", "SearchResult", "Term", "parse"]
