"""sqlite-utils as this project takes it: without pandas.

Where pandas is installed, as it is beside Ray, pymilvus and notebooks, sqlite-utils imports it to
know one more type of column, which is not used here; that takes half a second of every command.
"""

from __future__ import annotations

import sys

_without = "pandas" not in sys.modules
if _without:
    sys.modules["pandas"] = None  # type: ignore[assignment]  # an import of it fails
try:
    from sqlite_utils import Database, Migrations
finally:
    if _without:
        del sys.modules["pandas"]

__all__ = ["Database", "Migrations"]
