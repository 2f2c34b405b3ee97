"""A library: one directory that binds a catalog, thumbnails, a vector index and a model.

    <library>/
        catalog.db       SQLite: images, embeddings, failures, runs. The truth.
        thumbnails.db    WebP thumbnails; can be made again
        index/           FAISS; can be built again from the catalog
        write.lock       held by whoever is writing

The vector index trails the catalog: images newer than its generation are held beside it in memory
and searched exactly, so that what one process writes another finds at its next search, and a
missing or damaged index costs time, never an answer.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from indexer.catalog import Catalog
from indexer.errors import LibraryBusyError, LibraryError, ModelMismatchError, NotFoundError
from indexer.thumbnails import Thumbnails
from indexer.types import Embeddings, Failure, Filters, Ids, ImageRecord, Root
from indexer.vector_index import VectorIndex

CATALOG, THUMBNAILS, INDEX, LOCK = "catalog.db", "thumbnails.db", "index", "write.lock"

SAMPLE = 4096
"""Images whose vectors stand for the whole library when a query's scores are judged."""
