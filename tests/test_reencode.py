"""Another model for a library: whole at every moment, and nothing else changes."""

from __future__ import annotations

import json
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers_client import client_of
from helpers_killed import Forks
from helpers_library import as_bytes, draw, id_of, make_library

from sightline.indexer.catalog import FAVOURITES
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import (
    LibraryBusyError,
    LibraryError,
    ModelChangedError,
    ModelMismatchError,
    UsageError,
)
from sightline.indexer.indexing import index_folders
from sightline.indexer.indexing.encoders import encoder_for
from sightline.indexer.indexing.reencode import OLD_LABELS, discard, reencode
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.library.library import REENCODING, reencoding_lock
from sightline.indexer.types import TextLine
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.search.current_engine import CurrentEngine
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from sightline.indexer.types import Embeddings

PICTURES = 24


@pytest.fixture(scope="session")
def wide_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model than ``tiny_clip``: 48 dimensions of 40 pixels."""
    from helpers_models import build_clip

    folder = tmp_path_factory.mktemp("models") / "wide-clip"
    return build_clip(folder, seed=1, dimension=48, image_size=40)


@pytest.fixture(scope="session")
def wide_encoder(wide_clip: Path) -> Encoder:
    """``wide_clip``, loaded; batches of four."""
    encoder = Encoder.load(str(wide_clip), device="cpu")
    encoder.__class__ = type("SmallBatches", (Encoder,), {"batch_size": 4})
    return encoder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Path:
    """``pictures`` and their ``library`` by ``tiny_clip``."""
    place = tmp_path_factory.mktemp("reencode")
    (place / "pictures").mkdir()
    for number in range(PICTURES):
        data = as_bytes(draw(number, (160, 120)), quality=90)
        (place / "pictures" / f"{number:02}.jpg").write_bytes(data)
    make_library(place / "library", tiny_encoder, place / "pictures").close()
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """A library that the test may change, and its pictures."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    with Library.open(tmp_path / "library") as library:
        library.move_root(made / "pictures", tmp_path / "pictures")
    return tmp_path


def vectors(directory: Path) -> Embeddings:
    """Of all images, in the order of their ids."""
    with Library.open(directory, read_only=True) as library:
        return library.catalog.vectors(library.select())


def fresh_vectors(place: Path, encoder: Encoder) -> dict[str, Any]:
    """By name, in a new library of the pictures."""
    with make_library(place / "fresh", encoder, place / "pictures") as library:
        ids = library.select()
        names = [record.path for record in library.images(ids.tolist())]
        return dict(zip(names, library.catalog.vectors(ids), strict=True))


def everything_else(library: Library) -> dict[str, Any]:
    """What must stay."""
    ids = library.select().tolist()
    return {
        "images": library.images(ids),
        "thumbnails": [library.thumbnail(image) for image in ids],
        "labels": library.labels(ids),
        "texts": library.texts(ids),
        "searches": library.kept.searches(),
        "collections": library.kept.collections(),
        "favourites": library.kept.images(FAVOURITES).tolist(),
        "found by text": library.full_text_search("invoice", 10).tolist(),
    }


def stop_after(images: int) -> tuple[Event, Any]:
    """A ``stop`` that is set, by the ``progress`` beside it, when so many are encoded."""
    stop = Event()

    def progress(phase: str, done: int, total: int | None) -> None:
        if phase == "re-encoding" and done >= images:
            stop.set()

    return stop, progress


def test_the_new_model_replaces_all_embeddings_and_everything_else_stays(
    place: Path, wide_encoder: Encoder
) -> None:
    directory = place / "library"
    with Library.open(directory) as library:
        dog, cat = library.select()[:2].tolist()
        library.catalog.write_labels([(dog, "dog", 0.9)])
        library.catalog.write_texts([(cat, [TextLine("invoice", 0.9, (0, 0, 1, 1))])], engine="e")
        library.kept.save_search("Dogs", "dog")
        library.kept.add(FAVOURITES, [dog])
        before, version = everything_else(library), library.version
    report = reencode(directory, encoder=wide_encoder, workers=1)
    assert (report.images, report.from_originals, report.from_thumbnails) == (PICTURES, PICTURES, 0)
    assert (report.unreadable, report.notes, report.interrupted) == ((), (OLD_LABELS,), False)
    expected = fresh_vectors(place, wide_encoder)
    with Library.open(directory) as library:
        assert (library.model, library.dimension) == (wide_encoder.model, 48)
        assert library.version == version + 1
        assert everything_else(library) == before
        ids = library.select()
        names = [record.path for record in library.images(ids.tolist())]
        found = library.catalog.vectors(ids)
        np.testing.assert_allclose(found, [expected[name] for name in names], atol=2e-3)
        assert library.nearest(found, 1)[1][:, 0].tolist() == ids.tolist()
        assert library.catalog.check(library.thumbnails.ids()) == []
        assert library.index_state.note is None
        assert update_library(library, wide_encoder, workers=1).unchanged == PICTURES
    assert not (directory / REENCODING).exists()
    assert reencode(directory, encoder=wide_encoder, workers=1).from_originals == 0


def test_thumbnails_stand_in_for_folders_that_are_not_there(
    place: Path, wide_encoder: Encoder
) -> None:
    expected = fresh_vectors(place, wide_encoder)
    shutil.move(place / "pictures", place / "unplugged")
    notes: list[str] = []
    report = reencode(place / "library", encoder=wide_encoder, workers=1, on_note=notes.append)
    assert (report.from_originals, report.from_thumbnails) == (0, PICTURES)
    [note] = notes
    assert str(place / "pictures") in note
    assert "is not there" in note
    with Library.open(place / "library") as library:
        names = [record.path for record in library.images(library.select().tolist())]
        found = library.catalog.vectors(library.select())
        cosines = [vector @ expected[name] for name, vector in zip(names, found, strict=True)]
        assert np.mean(cosines) > 0.99
        shutil.move(place / "unplugged", place / "pictures")
        assert update_library(library, wide_encoder, workers=1).unchanged == PICTURES
        update_library(library, wide_encoder, workers=1, reread=True)
        found = library.catalog.vectors(library.select())
        np.testing.assert_allclose(found, [expected[name] for name in names], atol=2e-3)


def test_from_thumbnails_reads_a_file_only_where_there_is_no_thumbnail(
    place: Path, wide_encoder: Encoder
) -> None:
    first, *others = sorted((place / "pictures").iterdir())
    for picture in others:
        picture.write_bytes(b"")
    with Library.open(place / "library") as library:
        library.remove_thumbnails([id_of(library, first.name)])
    report = reencode(place / "library", encoder=wide_encoder, workers=1, pixels="thumbnails")
    assert (report.from_thumbnails, report.from_originals) == (PICTURES - 1, 1)
    assert report.notes == ()


def test_a_file_that_changed_or_is_broken_is_encoded_from_its_thumbnail_until_it_is_indexed(
    place: Path, wide_encoder: Encoder
) -> None:
    pictures = place / "pictures"
    (pictures / "00.jpg").write_bytes(b"broken")
    (pictures / "01.jpg").write_bytes(as_bytes(draw(900, (160, 120))))
    (pictures / "02.jpg").unlink()
    report = reencode(place / "library", encoder=wide_encoder, workers=1)
    assert (report.from_originals, report.from_thumbnails) == (PICTURES - 3, 3)
    [note] = report.notes
    assert note.startswith("3 files could not be read, as ")
    with Library.open(place / "library") as library:
        changed = id_of(library, "01.jpg")
        shown = library.catalog.vectors(np.array([changed]))[0]
        run = update_library(library, wide_encoder, workers=1)
        assert (run.updated, run.removed, run.failed) == (1, 1, 1)
        assert library.catalog.vectors(np.array([changed]))[0] @ shown < 0.999


def test_an_image_without_file_and_thumbnail_is_kept_with_a_reason_and_read_by_a_later_run(
    place: Path, wide_encoder: Encoder
) -> None:
    path = place / "pictures" / "05.jpg"
    data = path.read_bytes()
    path.write_bytes(b"broken")
    with Library.open(place / "library") as library:
        image = id_of(library, "05.jpg")
        library.remove_thumbnails([image])
        library.kept.add(FAVOURITES, [image])
    report = reencode(place / "library", encoder=wide_encoder, workers=1)
    [(lost, reason)] = report.unreadable
    assert lost == str(path)
    with Library.open(place / "library") as library:
        assert library.count == PICTURES
        assert library.kept.images(FAVOURITES).tolist() == [image]
        [failure] = library.failures()
        assert (failure.path, failure.reason) == ("05.jpg", reason)
        assert [p.kind for p in library.catalog.check(library.thumbnails.ids())] == []
        others = np.setdiff1d(library.select(), [image])
        assert library.nearest(library.vectors(others), PICTURES)[1].max() in others
        with client_of(create_app(SearchEngine(library, wide_encoder))) as client:
            assert client.get(f"/api/images/{image}?words=1").json["words"] == []
        path.write_bytes(data)
        assert update_library(library, wide_encoder, workers=1).updated == 1
        assert id_of(library, "05.jpg") == image
        assert np.isfinite(library.vectors(np.array([image]))).all()
        assert library.failures() == []


def test_the_library_stays_as_it_is_if_many_images_cannot_be_encoded(
    place: Path, wide_encoder: Encoder
) -> None:
    before = vectors(place / "library")
    shutil.rmtree(place / "pictures")
    (place / "library" / "thumbnails.db").unlink()
    with pytest.raises(LibraryError, match=f"{PICTURES} of {PICTURES} images have neither a file"):
        reencode(place / "library", encoder=wide_encoder, workers=1)
    np.testing.assert_array_equal(vectors(place / "library"), before)


def test_an_interrupted_call_is_continued_with_what_runs_changed_meanwhile(
    place: Path, tiny_encoder: Encoder, wide_encoder: Encoder
) -> None:
    directory, pictures = place / "library", place / "pictures"
    stop, progress = stop_after(8)
    report = reencode(directory, encoder=wide_encoder, workers=1, progress=progress, stop=stop)
    assert report.interrupted
    assert 8 <= report.from_originals < PICTURES
    with Library.open(directory) as library:
        assert library.model == tiny_encoder.model
        assert library.status()["reencoding"] == {
            "model": wide_encoder.model,
            "done": report.from_originals,
            "total": PICTURES,
            "running": False,
        }
        assert library.status()["run"] is None
        (pictures / "00.jpg").write_bytes(as_bytes(draw(900, (160, 120))))
        (pictures / "01.jpg").unlink()
        (pictures / "new.jpg").write_bytes(as_bytes(draw(901, (160, 120))))
        shutil.copy(pictures / "03.jpg", pictures / "copy.jpg")
        update_library(library, tiny_encoder, workers=1)
    rest = reencode(directory, encoder=wide_encoder, workers=1)
    assert rest.from_originals == PICTURES - report.from_originals + 3
    expected = fresh_vectors(place, wide_encoder)
    with Library.open(directory) as library:
        names = [record.path for record in library.images(library.select().tolist())]
        assert sorted(names) == sorted(expected)
        found = library.catalog.vectors(library.select())
        np.testing.assert_allclose(found, [expected[name] for name in names], atol=2e-3)
        assert library.catalog.check(library.thumbnails.ids()) == []


def test_the_swap_waits_for_an_indexing_run_and_includes_what_it_adds(
    place: Path, tiny_encoder: Encoder, wide_encoder: Encoder
) -> None:
    directory = place / "library"
    waited: list[int] = []
    with Library.open(directory) as library:
        lock = library.writing()
        lock.__enter__()

        def progress(phase: str, done: int, total: int | None) -> None:
            if phase == "waiting for another run to end" and not waited:
                waited.append(1)
                (place / "pictures" / "new.jpg").write_bytes(as_bytes(draw(902, (160, 120))))
                lock.__exit__(None, None, None)
                update_library(library, tiny_encoder, workers=1)

        reencode(directory, encoder=wide_encoder, workers=1, progress=progress)
        assert waited
        assert library.model_changed
        with pytest.raises(ModelChangedError, match="run the command again"):
            update_library(library, tiny_encoder, workers=1)
        with pytest.raises(ModelChangedError):
            library.catalog.write_labels([(1, "dog", 0.9)])
    with Library.open(directory) as library:
        assert library.count == PICTURES + 1
        assert np.isfinite(library.catalog.vectors(library.select())).all()


def test_an_open_library_answers_with_the_old_model_whole_and_a_server_follows(
    place: Path, tiny_encoder: Encoder, wide_encoder: Encoder
) -> None:
    directory = place / "library"
    library = Library.open(directory, read_only=True)

    def reopen() -> SearchEngine:
        new = Library.open(directory, read_only=True)
        return SearchEngine(new, encoder_for(new, device="cpu"))

    old = SearchEngine(library, tiny_encoder)
    statuses: list[Any] = []
    with CurrentEngine(old, reopen) as engines, client_of(create_app(engines)) as client:

        def progress(phase: str, done: int, total: int | None) -> None:
            if phase == "re-encoding":
                statuses.append(client.get("/api/status").json)

        def hits(query: str) -> list[tuple[int, float]]:
            found = client.get("/api/search", query_string={"q": query, "k": 50}).json["hits"]
            return [(hit["id"], hit["score"]) for hit in found]

        image = int(library.select()[3])
        queries = ("red", f"like:{image}", "red -blue")
        before = [hits(query) for query in queries]
        reencode(directory, encoder=wide_encoder, workers=1, progress=progress)
        running = [one["run"] for one in statuses if one["run"]]
        assert running[-1] == {
            "model": wide_encoder.model,
            "done": PICTURES,
            "total": PICTURES,
            "running": True,
        }
        with engines.lease() as leased:
            assert leased is old
            for query, expected in zip(queries, before, strict=True):
                found = old.search(query, k=50).hits
                assert [hit.id for hit in found] == [image for image, _ in expected]
            for thread in threading.enumerate():
                if thread.name == "reopen":
                    thread.join()
            assert engines.latest is not old
            assert old.search("red -green").hits
        with pytest.raises(LibraryError, match="closed"):
            old.search("red")
        assert client.get("/api/status").json["model"] == wide_encoder.model
        with (
            make_library(place / "fresh", wide_encoder, place / "pictures") as fresh,
            SearchEngine(fresh, wide_encoder) as engine,
        ):
            scores = [hit.score for hit in engine.search("red -blue", k=50).hits]
        np.testing.assert_allclose([score for _, score in hits("red -blue")], scores, atol=2e-3)


def test_another_change_is_refused_until_the_unfinished_one_is_dropped(
    place: Path, tiny_clip: Path, tiny_encoder: Encoder, wide_encoder: Encoder, tmp_path: Path
) -> None:
    from helpers_models import build_clip

    directory = place / "library"
    with pytest.raises(UsageError, match="name the new model"):
        reencode(directory)
    stop, progress = stop_after(4)
    reencode(directory, encoder=wide_encoder, workers=1, progress=progress, stop=stop)
    third = Encoder.load(str(build_clip(tmp_path / "third", seed=2)), device="cpu")
    with pytest.raises(LibraryError, match=r"is unfinished .*--discard` drops it"):
        reencode(directory, encoder=third, workers=1)
    with reencoding_lock(directory):
        with pytest.raises(LibraryBusyError, match="another process is re-encoding"):
            reencode(directory, encoder=wide_encoder)
        with pytest.raises(LibraryBusyError):
            discard(directory)
    assert reencode(directory, encoder=tiny_encoder).from_originals == 0
    assert discard(directory), "changing to the present model drops nothing"
    assert not discard(directory)
    reencode(directory, encoder=third, workers=1)
    with Library.open(directory) as library:
        assert library.model == third.model


def test_too_little_disk_space_is_reported_before_anything_is_encoded(
    place: Path, wide_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 40, 1 << 40, 10_000))
    with pytest.raises(LibraryError, match=r"re-encoding needs some .* GB are free"):
        reencode(place / "library", encoder=wide_encoder, workers=1)


def test_the_command_changes_continues_and_drops(
    place: Path, wide_clip: Path, wide_encoder: Encoder, capsys: pytest.CaptureFixture[str]
) -> None:
    library = ["--library", str(place / "library"), "--device", "cpu", "-q"]
    assert run(["search", "red", *library[:2], "--json"]) == 0
    stop, progress = stop_after(4)
    reencode(place / "library", encoder=wide_encoder, workers=1, progress=progress, stop=stop)
    assert run(["status", *library[:2]]) == 0
    assert "interrupted: `sightline reencode` continues" in capsys.readouterr().out
    assert run(["reencode", *library, "--from", "thumbnails", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["model"], report["images"]) == (str(wide_clip), PICTURES)
    assert 0 < report["from_thumbnails"] < PICTURES
    assert run(["search", "red", *library[:2], "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    with Library.open(place / "library", read_only=True) as opened:
        (red,) = wide_encoder.encode_texts(["red"])
        scores, _ = opened.nearest(red[None], 1)
    assert found["hits"][0]["score"] == pytest.approx(float(scores[0, 0]), abs=2e-3)
    assert run(["reencode", *library, "--discard"]) == 0
    assert "there is nothing to drop" in capsys.readouterr().err
    assert run(["reencode", *library, "--model", str(wide_clip)]) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert run(["reencode", "--library", "milvus+http://localhost:1/x"]) == 2
    assert "requires a folder, not a Milvus collection" in capsys.readouterr().err


def test_a_watching_run_goes_on_with_the_new_model(
    place: Path,
    tiny_encoder: Encoder,
    wide_encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    models: list[str] = []

    def watch(library: Library, run: Any, *_: object, **options: object) -> None:
        models.append(library.model)
        if len(models) == 1:
            reencode(place / "library", encoder=wide_encoder, workers=1)
            (place / "pictures" / "new.jpg").write_bytes(as_bytes(draw(903, (160, 120))))
            run([place / "pictures"])

    # Without waiting for events of the file system.
    monkeypatch.setattr(index_folders, "watch_folders", watch)
    library = ["--library", str(place / "library"), "--device", "cpu", "-q"]
    assert run(["index", "--watch", *library]) == 0
    assert models == [tiny_encoder.model, wide_encoder.model]
    assert "1 added" in capsys.readouterr().out
    assert np.isfinite(vectors(place / "library")).all()


def test_the_error_for_another_model_names_the_command(
    place: Path, wide_clip: Path, wide_encoder: Encoder
) -> None:
    with (
        Library.open(place / "library") as library,
        pytest.raises(ModelMismatchError, match="sightline reencode"),
    ):
        update_library(library, wide_encoder, workers=1)


# killed -------------------------------------------------------------------------------------------

KILLED = 260
"""Images: enough to train an index of."""

MOMENTS = (
    ("re-encoding", 3),
    ("re-encoding", 5),
    ("reading vectors", 1),
    ("building the index", 1),
    ("measuring the index", 2),
    ("replacing the embeddings", 1),
    ("replaced the embeddings", 1),
)
"""Phases, and the report of progress at which the process is killed. The last but one is inside the
transaction, the last after it."""


def test_a_killed_call_leaves_one_model_whole(
    tmp_path: Path, tiny_clip: Path, wide_clip: Path, tiny_encoder: Encoder
) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(KILLED):
        data = as_bytes(draw(number, (48, 36)))
        (tmp_path / "pictures" / f"{number:03}.jpg").write_bytes(data)
    directory = tmp_path / "library"
    with make_library(directory, tiny_encoder, tmp_path / "pictures") as library:
        library.rebuild_index(kind="ivf-rabitq")
        generation = library.index_state.generation
    old = vectors(directory)
    seen: list[tuple[str, Embeddings]] = []
    with Forks(RUN, str(wide_clip), str(directory)) as forks:
        for phase, report in (*MOMENTS, ("", 0)):
            forks.start(f"{phase}:{report}")
            assert forks.printed() == ("ended 9" if phase else "ended 0"), (phase, report)
            with Library.open(directory) as library:
                assert library.catalog.check(library.thumbnails.ids()) == []
                ids = library.select()
                found = library.catalog.vectors(ids)
                assert library.nearest(found, 1)[1][:, 0].tolist() == ids.tolist()
                exact = library.index_state.type == "exact"
                assert exact == (phase == "replaced the embeddings")
                seen.append((library.model, found))
    assert [model for model, _ in seen] == [str(tiny_clip)] * 6 + [str(wide_clip)] * 2
    for model, found in seen:
        np.testing.assert_array_equal(found, old if model == str(tiny_clip) else seen[-1][1])
    with Library.open(directory) as library:
        assert library.index_state.generation > generation
        assert library.index_state.note is None
        assert not library.index_orphans()
    assert not (directory / REENCODING).exists()


RUN = """
    import os, signal, sys
    from pathlib import Path
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.indexing.reencode import reencode

    model, directory = sys.argv[1:]
    encoder = Encoder.load(model, device="cpu")

    def work(moment):
        phase, _, report = moment.partition(":")
        left = int(report)

        def progress(name, done, total):
            nonlocal left
            left -= name == phase
            if name == phase and left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        reencode(directory, encoder=encoder, pixels="thumbnails", workers=1, progress=progress)
"""
