"""``Decoder``: images are read in worker processes that may crash."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import helpers_photos as files
import numpy as np
import pytest

from sightline.indexer.errors import PhotoError, SightlineError
from sightline.indexer.files.walk import scan
from sightline.indexer.photo import Decoder, photo
from sightline.indexer.photo import decoder as decoder_module
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
    with pytest.raises(PhotoError, match="empty"):  # of all calls the shortest
        decoder.read_bytes(b"")
    [pid] = decoder.pids
    return pid


def kill(pid: int, fatal: signal.Signals) -> None:
    """Sends a signal to a worker, which may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, fatal)


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


# --- reading -------------------------------------------------------------------------------------


def test_every_good_file_is_read_and_every_bad_one_fails_with_its_reason(
    decoder: Decoder, tmp_path: Path
) -> None:
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


def test_a_worker_returns_what_photo_read_returns(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(files.saved(files.scene(1, (1000, 800))))
    [here, there] = photo.read(path, SMALL), decoder.read_bytes(path.read_bytes())
    assert np.array_equal(here.pixels, there.pixels)
    assert (here.info, here.thumbnail, here.content_hash, here.phash) == (
        *(there.info, there.thumbnail, there.content_hash, there.phash),
    )


def test_bytes_that_are_not_an_image_are_refused_with_the_reason(decoder: Decoder) -> None:
    with pytest.raises(PhotoError, match="not an image but text"):
        decoder.read_bytes(b"hello, this is text")
    with pytest.raises(PhotoError, match="empty"):
        decoder.read_bytes(b"")


def test_crops_and_previews_are_made_in_a_worker(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(files.saved(files.scene(1, (1000, 800))))
    box = (0.5, 0.0, 1.0, 0.5)
    expected = photo.crop(path, box, SMALL)
    assert np.array_equal(decoder.crop(path, box), expected)
    assert np.array_equal(decoder.crop(path.read_bytes(), box), expected)
    assert decoder.preview(path, 300) == photo.preview(path, 300)
    with pytest.raises(PhotoError, match="empty"):
        decoder.crop(path, (1.0, 0.0, 0.0, 1.0))
    with pytest.raises(PhotoError, match="no longer exists"):
        decoder.preview(tmp_path / "gone.jpg", 300)


def test_a_deleted_file_is_a_transient_error(decoder: Decoder, tmp_path: Path) -> None:
    found = outcomes(decoder, [Candidate(tmp_path, "gone.jpg", 1, 1)])["gone.jpg"]
    assert str(found) == "the file no longer exists"
    assert isinstance(found, PhotoError)
    assert found.transient


def test_an_invalid_file_is_not_a_transient_error(decoder: Decoder) -> None:
    with pytest.raises(PhotoError) as caught:
        decoder.read_bytes(b"hello, this is text")
    assert not caught.value.transient


def test_candidates_are_consumed_at_most_the_read_ahead_in_advance(
    decoder: Decoder, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(files.saved(files.scene()))
    taken = 0

    def endless() -> Iterator[Candidate]:
        nonlocal taken
        while True:
            taken += 1
            yield Candidate(tmp_path, "a.jpg", 1, 1)

    photos = decoder.photos(endless())
    # Before the first is requested: the caller may load a model meanwhile.
    assert taken == 4 * 2 + 128
    for number in range(1, 101):
        next(photos)
        assert taken <= number + 4 * 2 + 128
    photos.close()  # type: ignore[attr-defined]
    assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_an_error_of_the_candidates_is_raised(decoder: Decoder) -> None:
    def broken() -> Iterator[Candidate]:
        raise SightlineError("no more")
        yield

    with pytest.raises(SightlineError, match="no more"):
        list(decoder.photos(broken()))


def test_a_decoder_is_thread_safe(decoder: Decoder) -> None:
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


# --- workers that crash, hang or run out of memory -----------------------------------------------


@pytest.mark.parametrize(
    ("fatal", "reason"),
    [
        (signal.SIGKILL, "ended by the system, probably for lack of memory"),
        (signal.SIGSEGV, r"crashes the decoder \(SIGSEGV\)"),
        (signal.SIGABRT, r"crashes the decoder \(SIGABRT\)"),
    ],
)
def test_an_image_that_kills_two_workers_fails_with_the_signal(
    fatal: signal.Signals, reason: str
) -> None:
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
                kill(pid, fatal)
            thread.join(0.02)
        with pytest.raises(PhotoError, match=reason):
            raise caught[0]
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_an_image_is_read_again_after_one_dead_worker() -> None:
    with Decoder(SMALL) as decoder:
        pid = started(decoder)
        os.kill(pid, signal.SIGSTOP)  # it dies while it has the next image
        os.kill(pid, signal.SIGKILL)
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)
        assert pid not in decoder.pids


def test_a_run_continues_while_workers_keep_dying(tmp_path: Path) -> None:
    files.write(tmp_path, {f"{n:03}.jpg": files.saved(files.scene(n)) for n in range(60)})
    read, kills = {}, 0
    with Decoder(SMALL, workers=2) as decoder:
        for number, (candidate, outcome) in enumerate(decoder.photos(candidates(tmp_path))):
            read[candidate.path] = isinstance(outcome, Photo)
            if number % 12 == 0:
                for pid in decoder.pids[:1]:
                    kill(pid, signal.SIGKILL)
                    kills += 1
    assert len(read) == 60
    # An image fails only after two workers died of it.
    assert list(read.values()).count(False) <= kills // 2


def test_an_image_that_takes_too_long_fails_and_its_worker_is_ended() -> None:
    with Decoder(SMALL, timeout=2.5) as decoder:
        pid = started(decoder)
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(PhotoError, match=r"took longer than 2\.5 seconds"):
            decoder.read_bytes(files.saved(files.scene()))
        wait_for_the_end_of(pid)
    with Decoder(SMALL, timeout=60) as decoder:
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)


def test_an_image_that_needs_too_much_memory_fails_and_its_worker_lives() -> None:
    data = files.large_png(200)
    with Decoder(SMALL, memory=128 * 2**20) as decoder:
        pid = started(decoder)
        with pytest.raises(PhotoError, match="more memory than an image may have"):
            decoder.read_bytes(data)
        assert isinstance(decoder.read_bytes(files.saved(files.scene())), Photo)
        assert decoder.pids == (pid,)  # it was refused memory, and lives


# --- beginning and end ---------------------------------------------------------------------------


def test_closing_ends_workers_that_are_reading(tmp_path: Path) -> None:
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


def test_closing_ends_a_worker_that_is_being_started(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    popen = subprocess.Popen
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(popen(*arguments, **options))
        begun.set()
        assert go_on.wait(60)
        return processes[0]

    monkeypatch.setattr(decoder_module.subprocess, "Popen", start)
    decoder = Decoder(SMALL)
    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(decoder.read_bytes, files.saved(files.scene()))
        assert begun.wait(60)
        decoder.close()
        go_on.set()
        with pytest.raises(PhotoError, match="interrupted"):
            outcome.result()
    assert decoder.pids == ()
    assert processes[0].wait(60) == -signal.SIGKILL


def test_workers_start_on_demand() -> None:
    with Decoder(SMALL, workers=4) as decoder:
        assert decoder.pids == ()
        assert not list(decoder.photos([]))
        assert decoder.pids == ()


PROGRAM = """
import sys
from pathlib import Path
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Geometry

many = [Candidate(Path(sys.argv[1]), "a.jpg", 1, 1)] * 50_000  # half a minute and more

with Decoder(Geometry(32, 32, 32), workers=2) as decoder:
    printed = False
    for _ in decoder.photos(many):
        if not printed and len(decoder.pids) == 2:
            print(*decoder.pids, flush=True)
            printed = True
"""
"""Without a guard against being imported, as people write scripts."""


@pytest.mark.parametrize(
    "fatal",
    # Ctrl-C more often: what it leaves behind depends on the moment.
    [signal.SIGTERM, signal.SIGKILL, *[signal.SIGINT] * 4],
    ids=["TERM", "KILL", *(f"INT-{number}" for number in range(4))],
)
def test_workers_end_with_the_main_program_on_every_signal(
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


def test_workers_do_not_import_torch_faiss_or_sqlite() -> None:
    code = (
        "import sys; from sightline.indexer.photo import decoder, photo;"
        "sys.exit(', '.join({'torch', 'faiss', 'transformers', 'sqlite3'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, f"a worker loads {result.stderr}"


def test_without_details_a_photo_has_the_same_pixels_and_content_hash_only(
    decoder: Decoder, tmp_path: Path
) -> None:
    data = files.saved(files.scene())
    (tmp_path / "a.jpg").write_bytes(data)
    [file] = candidates(tmp_path)
    whole = decoder.read_bytes(data)
    with Decoder(SMALL, details=False) as pixels_only:
        for short in (pixels_only.read_bytes(data), *outcomes(pixels_only, [file]).values()):
            assert isinstance(short, Photo)
            np.testing.assert_array_equal(short.pixels, whole.pixels)
            assert short.content_hash == whole.content_hash
            assert (short.info.width, short.info.height) == (whole.info.width, whole.info.height)
            assert (short.thumbnail, short.phash, short.info.color) == (b"", None, None)
