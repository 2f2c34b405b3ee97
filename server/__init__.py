"""The live half of Sightline: a query goes in, the nearest pictures come out.

    from server import SearchEngine

Nothing heavy is loaded by importing this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.search import SearchEngine as SearchEngine


def __getattr__(name: str) -> Any:
    """``SearchEngine``, loaded when it is asked for."""
    if name == "SearchEngine":
        from server.search import SearchEngine

        return SearchEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
