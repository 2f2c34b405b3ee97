"""Pictures that people search with: decoded, encoded, and kept in memory for a while.

The bytes are decoded in a worker process under limits and then dropped. What stays is the
embedding and a thumbnail of the program's own making, from which a part can be cut; nothing is
written to disk. Nothing of an upload is ever served, but that whoever sends it can have the
thumbnail back in the same answer.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_UPLOADS = 512
"""Kept at once; the ones not used for longest go first. One takes about 50 kB."""


@dataclass(frozen=True)
class Upload:
    """A picture that was handed to the server."""

    width: int
    height: int
    vector: NDArray[np.float32]
    """``(d,) float32, unit norm``."""
    thumbnail: bytes
    token: str = field(default_factory=lambda: secrets.token_urlsafe(12))
