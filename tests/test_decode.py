"""Pictures are read in worker processes: whatever one picture does, it is named and the others are
read."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import helpers_photos as files
import numpy as np
import pytest

from sightline.indexer.errors import PhotoError, SightlineError
from sightline.indexer.files.walk import scan
from sightline.indexer.photo import photo
from sightline.indexer.photo.decoder import Decoder
from sightline.indexer.types import Candidate, Geometry, Photo

SMALL = Geometry(32, 32, 32)
TOP = Path(__file__).resolve().parent.parent


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder(SMALL, workers=2) as decoder:
        yield decoder


def candidates(folder: Path, *, each: int = 1) -> list[Candidate]:
    return list(scan(folder)) * each


def outcomes(decoder: Decoder, of: list[Candidate]) -> dict[str, Photo | PhotoError]:
    return {candidate.path: outcome for candidate, outcome in decoder.photos(of)}


def started(decoder: Decoder) -> int:
    """Lets ``decoder`` start one worker, and returns its process id."""
    decoder.read_bytes(files.saved(files.scene()))
    [pid] = decoder.pids
    return pid


def wait_for_the_end_of(*pids: int) -> None:
    """Until these processes have ended; fails after a minute."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        ready, _, _ = select.select([handle], [], [], 60)
        os.close(handle)
        assert ready, f"process {pid} is still running"


# reading ------------------------------------------------------------------------------------------


def test_every_good_file_is_read_and_every_bad_one_named(decoder: Decoder, tmp_path: Path) -> None:
    files.write(tmp_path / "good", files.good_files())
    files.write(tmp_path / "bad", {name: data for name, (data, _) in files.bad_files().items()})
    found = outcomes(decoder, candidates(tmp_path))
    assert len(found) == len(files.good_files()) + len(files.bad_files())
    for path, outcome in found.items():
        folder, _, name = path.partition("/")
        if folder == "good":
            assert isinstance(outcome, Photo), f"{path}: {outcome}"
            assert outcome.pixels.shape == (32, 32, 3)
            assert outcome.pixels.dtype == np.uint8
        else:
            assert isinstance(outcome, PhotoError)
            assert files.bad_files()[name][1] in str(outcome)


def test_a_worker_reads_what_this_process_would_read(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(files.saved(files.scene(1, (1000, 800))))
    [here, there] = photo.read(path, SMALL), decoder.read_bytes(path.read_bytes())
    assert np.array_equal(here.pixels, there.pixels)
    assert (here.info, here.thumbnail, here.content_hash, here.phash) == (
        *(there.info, there.thumbnail, there.content_hash, there.phash),
    )


def test_bytes_that_are_no_picture_are_refused_with_the_reason(decoder: Decoder) -> None:
    with pytest.raises(PhotoError, match="not a picture but text"):
        decoder.read_bytes(b"hello, this is text")
    with pytest.raises(PhotoError, match="empty"):
        decoder.read_bytes(b"")


def test_parts_and_previews_are_made_in_a_worker_too(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(files.saved(files.scene(1, (1000, 800))))
    box = (0.5, 0.0, 1.0, 0.5)
    expected = photo.crop(path, box, SMALL)
    assert np.array_equal(decoder.crop(path, box), expected)
    assert np.array_equal(decoder.crop(path.read_bytes(), box), expected)
    assert decoder.preview(path, 300) == photo.preview(path, 300)
    with pytest.raises(PhotoError, match="empty"):
        decoder.crop(path, (1.0, 0.0, 0.0, 1.0))
    with pytest.raises(PhotoError, match="not there any more"):
        decoder.preview(tmp_path / "gone.jpg", 300)


def test_a_file_that_vanished_is_named(decoder: Decoder, tmp_path: Path) -> None:
    found = outcomes(decoder, [Candidate(tmp_path, "gone.jpg", 1, 1)])["gone.jpg"]
    assert str(found) == "the file is not there any more"
    assert isinstance(found, PhotoError)
    assert found.passing


def test_what_is_wrong_with_a_file_itself_does_not_pass(decoder: Decoder) -> None:
    with pytest.raises(PhotoError) as caught:
        decoder.read_bytes(b"hello, this is text")
    assert not caught.value.passing


def test_candidates_are_taken_only_a_little_ahead(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(files.saved(files.scene()))
    taken = 0

    def endless() -> Iterator[Candidate]:
        nonlocal taken
        while True:
            taken += 1
            yield Candidate(tmp_path, "a.jpg", 1, 1)

    photos = decoder.photos(endless())
    # At once, before the first is asked for: whoever asks may have a model to load until then.
    assert taken == 4 * 2 + 32
    for number in range(1, 101):
        next(photos)
        assert taken <= number + 4 * 2 + 32
    photos.close()  # type: ignore[attr-defined]
    assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_an_error_of_the_list_itself_is_raised(decoder: Decoder) -> None:
    def broken() -> Iterator[Candidate]:
        raise SightlineError("no more")
        yield

    with pytest.raises(SightlineError, match="no more"):
        list(decoder.photos(broken()))


def test_several_threads_may_share_a_decoder(decoder: Decoder) -> None:
    data = [files.saved(files.scene(seed)) for seed in range(6)]
    expected = [photo.read_bytes(each, SMALL).content_hash for each in data]
    found: dict[int, str] = {}
    threads = [
        threading.Thread(
            target=lambda n=n: found.__setitem__(n, decoder.read_bytes(data[n]).content_hash)
        )
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(6)] == expected


# what pictures can do to a worker -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fatal", "reason"),
    [
        (signal.SIGKILL, "ended by the system, probably for want of memory"),
        (signal.SIGSEGV, r"crashes the decoder \(SIGSEGV\)"),
        (signal.SIGABRT, r"crashes the decoder \(SIGABRT\)"),
    ],
)
def test_a_picture_that_every_worker_dies_of_is_named(fatal: signal.Signals, reason: str) -> None:
    data = files.large_png(200)  # it takes a second
    caught: list[PhotoError] = []

    def read(decoder: Decoder) -> None:
        try:
            decoder.read_bytes(data)
        except PhotoError as error:
            caught.append(error)

    with Decoder(SMALL) as decoder:
        thread = threading.Thread(target=read, args=[decoder])
        thread.start()
        while thread.is_alive():
            for pid in decoder.pids:
                os.kill(pid, fatal)
            thread.join(0.02)
        with pytest.raises(PhotoError, match=reason):
            raise caught[0]
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_a_picture_is_not_blamed_for_one_death() -> None:
    with Decoder(SMALL) as decoder:
        pid = started(decoder)
        os.kill(pid, signal.SIGSTOP)  # the next picture is in hand, or on its way, when it dies
        os.kill(pid, signal.SIGKILL)
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)
        assert pid not in decoder.pids


def test_workers_that_keep_dying_hold_nothing_up(tmp_path: Path) -> None:
    files.write(tmp_path, {f"{n:03}.jpg": files.saved(files.scene(n)) for n in range(60)})
    read, kills = {}, 0
    with Decoder(SMALL, workers=2) as decoder:
        for number, (candidate, outcome) in enumerate(decoder.photos(candidates(tmp_path))):
            read[candidate.path] = isinstance(outcome, Photo)
            if number % 12 == 0:
                for pid in decoder.pids[:1]:
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
    assert len(read) == 60
    # Two must die of one picture before it is given up.
    assert list(read.values()).count(False) <= kills // 2


def test_a_picture_that_never_ends_is_given_up() -> None:
    with Decoder(SMALL, timeout=0.5) as decoder:
        pid = started(decoder)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PhotoError, match=r"took longer than 0\.5 seconds"):
            decoder.read_bytes(files.saved(files.scene()))
        wait_for_the_end_of(pid)
    with Decoder(SMALL, timeout=60) as decoder:
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_a_picture_that_wants_too_much_memory_is_given_up() -> None:
    data = files.large_png(200)
    with Decoder(SMALL, memory=128 * 2**20) as decoder:
        pid = started(decoder)
        with pytest.raises(PhotoError, match="more memory than a picture may have"):
            decoder.read_bytes(data)
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)
        assert decoder.pids == (pid,)  # it was refused memory, and lives


# beginning and end --------------------------------------------------------------------------------


def test_closing_ends_the_workers_in_the_middle_of_a_picture(tmp_path: Path) -> None:
    files.write(tmp_path, {f"{n}.png": files.saved(files.scene(n), "PNG") for n in range(9)})
    decoder = Decoder(SMALL, workers=2)
    photos = decoder.photos(candidates(tmp_path, each=20))
    next(photos)
    pids = decoder.pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    photos.close()  # type: ignore[attr-defined]
    decoder.close()
    wait_for_the_end_of(*pids)
    with pytest.raises(SightlineError, match="closed"):
        decoder.read_bytes(b"123")


def test_no_worker_is_started_before_it_is_needed() -> None:
    with Decoder(SMALL, workers=4) as decoder:
        assert decoder.pids == ()
        assert not list(decoder.photos([]))
        assert decoder.pids == ()


PROGRAM = """
import sys
from pathlib import Path
from sightline.indexer.photo.decoder import Decoder
from sightline.indexer.types import Candidate, Geometry

many = [Candidate(Path(sys.argv[1]), "a.jpg", 1, 1)] * 50_000  # half a minute and more

with Decoder(Geometry(32, 32, 32), workers=2) as decoder:
    said = False
    for _ in decoder.photos(many):
        if not said and len(decoder.pids) == 2:
            print(*decoder.pids, flush=True)
            said = True
"""
"""Without a guard against being imported, as people write scripts."""


@pytest.mark.parametrize(
    "fatal",
    # Ctrl-C more often: what it leaves behind depends on the moment.
    [signal.SIGTERM, signal.SIGKILL, *[signal.SIGINT] * 4],
    ids=["TERM", "KILL", *(f"INT-{number}" for number in range(4))],
)
def test_workers_end_with_the_program_however_that_ends(
    fatal: signal.Signals, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(files.saved(files.scene()))
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        # As a terminal does: to everything that belongs to the program.
        os.killpg(program.pid, fatal)
        try:
            _, errors = program.communicate(timeout=60)
        finally:
            program.kill()
        wait_for_the_end_of(*pids)
    assert program.returncode == -fatal
    # One trace, of the program itself; workers say nothing.
    assert errors.count("Traceback") == (1 if fatal == signal.SIGINT else 0)


def test_workers_load_nothing_heavy() -> None:
    code = (
        "import sys; from sightline.indexer.photo import decoder, photo;"
        "sys.exit(', '.join({'torch', 'faiss', 'transformers', 'sqlite3'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, f"a worker loads {result.stderr}"
