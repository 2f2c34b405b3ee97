"""The offline half of Sightline: pictures go in, a library comes out.

    from indexer import Library

Nothing heavy is loaded by importing this package; torch is loaded by ``indexer.encoder``, faiss by
``indexer.vector_index``, when they are first used.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from indexer.library import Library as Library

# Threads of OpenMP that wait for work should sleep: spinning, they take the cores from the decoding
# processes and from one another (on two busy cores k-means took five times as long). It must be set
# before torch or faiss are loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``Library``, loaded when it is asked for."""
    if name == "Library":
        from indexer.library import Library

        return Library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
