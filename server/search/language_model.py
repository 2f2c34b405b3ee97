"""py3langid's model of some languages, memory-mapped from the user's cache folder.

py3langid decompresses 68 MB in every process: 0.5 s of CPU time and 60 MB of memory. A query needs
a few pages of them.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

ARRAYS = ("nb_ptc", "nb_pc", "nb_classes", "tk_nextmove", "tk_row", "tk_output")
"""The attributes of ``LanguageIdentifier`` that hold the model."""

log = logging.getLogger("sightline")


def load_identifier(languages: Sequence[str]) -> LanguageIdentifier:
    """py3langid for these ISO 639 codes. The first call on a machine writes 44 MB to the cache
    folder; without permission to write, every process decompresses the model."""
    from platformdirs import user_cache_path
    from py3langid.langid import MODEL_DIR, MODEL_FILE

    # The size identifies the version of the model.
    size = (MODEL_DIR / MODEL_FILE).stat().st_size
    name = "-".join(["py3langid", str(size), *sorted(languages)])
    folder = user_cache_path("sightline", appauthor=False) / name
    try:
        return _read(folder)
    except (OSError, ValueError, EOFError) as error:
        log.debug("%s is not used: %s", folder, error)
    identifier = _decompress(languages)
    try:
        _write(identifier, folder)
        return _read(folder)
    except (OSError, ValueError, EOFError) as error:
        log.debug("%s is not written: %s", folder, error)
        return identifier


def _decompress(languages: Sequence[str]) -> LanguageIdentifier:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(languages)
    # It keeps the other languages; a new one does not.
    return _identifier({name: getattr(identifier, name) for name in ARRAYS})


def _read(folder: Path) -> LanguageIdentifier:
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    # Plain views: a single element of a memmap takes ten times as long to read.
    views: dict[str, Any] = {
        name: memoryview(array) if name.startswith("tk_") else np.asarray(array)
        for name, array in arrays.items()
    }
    return _identifier({**views, "nb_classes": arrays["nb_classes"].tolist()})


def _write(identifier: LanguageIdentifier, folder: Path) -> None:
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{folder.name[:9]}-", dir=folder.parent))
    try:
        for name in ARRAYS:
            np.save(temporary / f"{name}.npy", np.asarray(getattr(identifier, name)))
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _identifier(arrays: dict[str, Any]) -> LanguageIdentifier:
    from py3langid.langid import LanguageIdentifier

    return LanguageIdentifier(
        arrays["nb_ptc"],
        arrays["nb_pc"],
        arrays["nb_classes"],
        arrays["tk_nextmove"],
        arrays["tk_output"],
        tk_row=arrays["tk_row"],
    )
