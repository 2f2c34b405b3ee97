"""A run that is killed at any moment loses at most the batch in flight."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from helpers_killed import Forks
from helpers_library import as_bytes, draw

from sightline.indexer.encoder import Encoder
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library

PICTURES = 240
KILLS = 20


def test_after_killed_runs_one_run_completes_the_library(
    tmp_path: Path, tiny_clip: Path, tiny_encoder: Encoder
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(PICTURES):
        (pictures / f"{number:03}.jpg").write_bytes(as_bytes(draw(number, (120, 90))))
    directory = tmp_path / "library"
    random_steps = random.Random(1)
    with Forks(RUN, str(tiny_clip), str(directory), str(pictures)) as forks:
        for _ in range(KILLS):
            # The child prints each step of its run. It is killed after some of them and a moment
            # more: while it compares, decodes, encodes, writes or finishes. If this process does
            # not run in that moment, the child waits for it after one step more.
            steps = random_steps.randrange(1, 9)
            child = forks.start(str(steps + 1))
            for _ in range(steps):
                forks.printed()
            for _ in range(random_steps.randrange(20_000)):
                pass
            forks.kill(child)
            if (directory / "catalog.db").exists():
                uri = f"file:{directory}/catalog.db?mode=ro"
                with sqlite3.connect(uri, uri=True) as connection:
                    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                connection.close()
    with Library.open(directory) as library:
        report = update_library(library, tiny_encoder, [pictures], workers=1)
        assert report.failed == 0
        records = library.images(library.select().tolist())
        assert sorted(r.path for r in records) == [f"{n:03}.jpg" for n in range(PICTURES)]
        assert library.catalog.check(library.thumbnails.ids()) == []
        ids = library.select()
        _, found = library.nearest(library.vectors(ids), 1)
        assert found[:, 0].tolist() == ids.tolist()


RUN = """
    import signal, sys
    from pathlib import Path
    from sightline.indexer.indexing.encoders import load_encoder
    from sightline.indexer.indexing.run import update_library
    from sightline.indexer.library import Library

    model, directory, pictures = sys.argv[1:]
    encoder = load_encoder(model)
    type(encoder).batch_size = property(lambda self: 4)

    def work(steps):
        left = int(steps)

        def write(*step):
            nonlocal left
            print(step, flush=True)
            left -= 1
            if not left:
                signal.pause()

        if Library.exists(Path(directory)):
            library = Library.open(Path(directory))
        else:
            library = Library.create(
                Path(directory),
                model=encoder.model,
                revision=encoder.revision,
                dimension=encoder.dimension,
            )
        update_library(library, encoder, [Path(pictures)], workers=1, progress=write)
"""
