"""A run that is killed at any moment loses at most the batch in hand."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from helpers_library import as_bytes, draw

from sightline.indexer.encoder import Encoder
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library

TOP = Path(__file__).resolve().parent.parent
PICTURES = 240
KILLS = 20


@pytest.mark.parametrize("seed", [1])
def test_after_killed_runs_one_run_completes_the_library(
    tmp_path: Path, tiny_clip: Path, tiny_encoder: Encoder, seed: int
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        (pictures / f"{number:03}.jpg").write_bytes(as_bytes(draw(number, (120, 90))))
    directory = tmp_path / "library"
    chance = random.Random(seed)
    deaths = 0
    for _ in range(KILLS):
        # The child says each step of its run on a pipe; after a number of them drawn by lot, and a
        # moment more, it is killed: while it looks, reads, encodes, writes or finishes.
        with subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tiny_clip), str(directory), str(pictures)],
            stdout=subprocess.PIPE,
            cwd=TOP,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        ) as child:
            assert child.stdout is not None
            for _ in range(chance.randrange(1, 9)):
                if not child.stdout.readline():
                    break
            for _ in range(chance.randrange(20_000)):
                pass
            child.send_signal(signal.SIGKILL)
            child.stdout.read()
        deaths += child.returncode == -signal.SIGKILL
        if (directory / "catalog.db").exists():
            with sqlite3.connect(f"file:{directory}/catalog.db?mode=ro", uri=True) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()
    assert deaths == KILLS
    with Library.open(directory) as library:
        report = update_library(library, tiny_encoder, [pictures], workers=1)
        assert report.failed == 0
        records = library.images(library.select().tolist())
        assert sorted(r.path for r in records) == [f"{n:03}.jpg" for n in range(PICTURES)]
        assert library.catalog.check(library.thumbnails.ids()) == []
        ids = library.select()
        _, found = library.nearest(library.vectors(ids.tolist()), 1)
        assert found[:, 0].tolist() == ids.tolist()


CHILD = """
import sys
from pathlib import Path
from sightline.indexer.indexing.run import load_encoder, update_library
from sightline.indexer.library import Library

model, directory, pictures = sys.argv[1:]
encoder = load_encoder(model)
type(encoder).batch_size = property(lambda self: 4)
if Library.exists(Path(directory)):
    library = Library.open(Path(directory))
else:
    library = Library.create(
        Path(directory),
        model=encoder.model,
        revision=encoder.revision,
        dimension=encoder.dimension,
    )
write = lambda *step: print(step, flush=True)
update_library(library, encoder, [Path(pictures)], workers=1, progress=write)
"""
