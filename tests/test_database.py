"""Whatever lies where a library's file should be, the answer is one line and the file is kept."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import DIMENSION, TOP, new_catalog, picture
from helpers_killed import Forks

from sightline.indexer.catalog import Catalog, Thumbnails
from sightline.indexer.catalog.salvage import salvage
from sightline.indexer.errors import LibraryBusyError, LibraryError
from sightline.indexer.library import Library
from sightline.indexer.types import Condition, Failure, Filters

HERE = Path(__file__).resolve().parent


def filled(folder: Path, images: int = 60) -> Path:
    """A catalog of some pictures, closed."""
    folder.mkdir(exist_ok=True)
    catalog, root = new_catalog(folder)
    with catalog:
        for start in range(0, images, 20):
            catalog.write(
                root,
                images=[
                    picture(f"{n % 5}/{n}.jpg", seed=n, camera=f"camera {n % 3}", keywords=("k",))
                    for n in range(start, start + 20)
                ],
                failed=[Failure(str(TOP), "bad.jpg", 1, 1, "no")],
            )
        catalog.remove([1, 2, 3])
    return catalog.path


def names(folder: Path) -> list[str]:
    """What lies in ``folder``."""
    return sorted(path.name for path in folder.iterdir())


def ask_everything(path: Path) -> None:
    """Opens the catalog at ``path`` and asks it all it can be asked."""
    with Catalog.open(path) as catalog:
        ids = catalog.select()
        catalog.vectors(ids)
        catalog.images(ids)
        list(catalog.blocks(10))
        catalog.changes(0)
        catalog.random(5)
        for root in catalog.roots():
            catalog.known(root)
            catalog.failed(root)
        catalog.failures()
        catalog.runs()
        catalog.select(Filters((Condition("in", "1"), Condition("camera", "camera"))))
        catalog.full_text_search("jpg 1", 10)
        catalog.suggest("folder")
        catalog.facets("camera")
        catalog.by_date(ids)
        catalog.histogram()
        catalog.check()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"SQLite", "truncated"),
        (b"SQLite format 3\x00", "truncated"),
        (b"a text that is no database, long enough to be taken for one" * 9, "not an SQLite file"),
        (b"\x00" * 8192, "not an SQLite file"),
        (os.urandom(5000), "not an SQLite file"),
    ],
)
def test_a_file_that_is_no_database_raises_an_error_and_stays(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(content)
    for open_it in (Catalog.open, Thumbnails.open):
        with pytest.raises(LibraryError, match=what):
            open_it(path)
    assert path.read_bytes() == content
    assert names(tmp_path) == ["catalog.db"]


def test_another_programs_database_raises_an_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    other = sqlite3.connect(path)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE images (id INTEGER)")
    other.commit()
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    assert "catalog.db-wal" in before, "with a log that is not ours to play"
    with pytest.raises(LibraryError, match="another program's SQLite file"):
        Catalog.open(path)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before
    other.close()
    thumbnails = tmp_path / "thumbnails.db"
    Thumbnails.open_or_create(thumbnails).close()
    with pytest.raises(LibraryError, match="not a Sightline library"):
        Catalog.open(thumbnails)


def test_a_missing_file_or_a_folder_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"there is no .*catalog\.db"):
        Catalog.open(tmp_path / "catalog.db")
    with pytest.raises(LibraryError, match="cannot be read"):
        Catalog.open(tmp_path)
    with pytest.raises(LibraryError, match="cannot be made"):
        Catalog.create(tmp_path / "no" / "catalog.db", model="m", revision="r", dimension=4)
    path = filled(tmp_path)
    with pytest.raises(LibraryError, match="is there already"):
        Catalog.create(path, model="m", revision="r", dimension=4)


def test_the_log_of_a_deleted_catalog_is_not_replayed_into_a_new_one(tmp_path: Path) -> None:
    path = filled(tmp_path)
    catalog = Catalog.open(path)
    catalog.remove([10])
    log = path.with_name("catalog.db-wal")
    content = log.read_bytes()
    assert content
    catalog.close()
    path.unlink()
    log.write_bytes(content)
    with Catalog.create(path, model="other", revision="1", dimension=4) as new:
        assert (new.count, new.version) == (0, 0)
        assert new.check() == []


def test_a_catalog_truncated_anywhere_raises_an_error_and_stays(tmp_path: Path) -> None:
    whole = filled(tmp_path).read_bytes()
    path = tmp_path / "short.db"
    lengths = [1, 15, 16, 50, 99, 100, 4096, len(whole) - 1, *range(8192, len(whole), 8192)]
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(LibraryError) as caught:
            Catalog.open(path)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == whole[:length]


def test_flipped_bytes_raise_a_library_error_or_do_no_harm(tmp_path: Path) -> None:
    """Three hundred catalogs with some bytes wrong: whatever is asked, the answer is a LibraryError
    or an answer, and never another exception."""
    whole = filled(tmp_path).read_bytes()
    path = tmp_path / "corrupt.db"
    chance = random.Random(5)
    named: list[str] = []
    for _ in range(300):
        corrupt = bytearray(whole)
        page = chance.randrange(len(whole) // 8192) * 8192
        for _ in range(chance.choice([1, 1, 4, 64])):
            # Half of the damage is in the page's head, where SQLite's own numbers are.
            spread = chance.choice([32, 8192])
            corrupt[page + chance.randrange(spread)] = chance.randrange(256)
        path.write_bytes(corrupt)
        try:
            ask_everything(path)
        except LibraryError as error:
            named.append(str(error))
    assert len(named) > 40
    assert not [text for text in named if "\n" in text]


def test_intact_pages_of_a_corrupt_catalog_are_salvaged(tmp_path: Path) -> None:
    path = filled(tmp_path, 400)
    with Catalog.open(path) as catalog:
        before = {image.id: image for image in catalog.images(catalog.select())}
        vectors = dict(zip(before, catalog.vectors(np.array(list(before))), strict=True))
        version = catalog.version
        catalog.write_labels([(50, "dog", 0.5)])
    with sqlite3.connect(path) as database:
        leaves = [
            number
            for name, number in database.execute(
                "SELECT name, pageno FROM dbstat WHERE pagetype = 'leaf'"
            )
            if name in ("images", "embeddings")
        ]
    database.close()
    corrupt = bytearray(path.read_bytes())
    for number in leaves[1::4]:
        corrupt[(number - 1) * 8192 : number * 8192] = os.urandom(8192)
    path.write_bytes(corrupt)
    with pytest.raises(LibraryError, match="doctor"):
        ask_everything(path)
    with Catalog.open(path) as catalog:
        assert {problem.kind for problem in catalog.check()} == {"damaged"}
    target = tmp_path / "saved.db"
    saved = salvage(path, target)
    assert path.read_bytes() == bytes(corrupt)
    assert saved.gaps
    with Catalog.open(target) as catalog:
        assert catalog.check() == []
        ids = catalog.select()
        assert len(ids) == saved.images
        assert len(before) * 0.3 < len(ids) < len(before)
        assert catalog.images(ids) == [before[i] for i in ids.tolist()]
        assert (catalog.vectors(ids) == [vectors[i] for i in ids.tolist()]).all()
        assert catalog.version > version
        root = catalog.add_root(TOP)
        assert catalog.write(root, images=[picture("new.jpg")]).images[0] > max(before)
        assert len(catalog.full_text_search("new", 5))
    with pytest.raises(LibraryError, match="is there already"):
        salvage(path, target)
    path.write_bytes(b"gone" + bytes(corrupt)[4:])
    with pytest.raises(LibraryError, match=r"nothing .* can be saved"):
        salvage(path, tmp_path / "other.db")


def test_a_truncated_catalog_is_salvaged_as_far_as_it_goes(tmp_path: Path) -> None:
    path = filled(tmp_path, 400)
    whole = path.read_bytes()
    saved = []
    for share in (0.98, 0.88, 0.78):
        path.write_bytes(whole[: int(len(whole) * share)])
        target = tmp_path / f"saved-{share}.db"
        saved.append(salvage(path, target).images)
        with Catalog.open(target) as catalog:
            assert catalog.check() == []
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LibraryError, match="its first tables are lost"):
        salvage(path, tmp_path / "none.db")
    assert not [name for name in names(tmp_path) if "none" in name]
    assert saved == sorted(saved, reverse=True)


def test_salvage_does_not_report_an_unavailable_catalog_as_lost(tmp_path: Path) -> None:
    path = filled(tmp_path, 40)
    (tmp_path / "catalog.db-wal").mkdir()
    with pytest.raises(LibraryError, match=r"cannot be read now .* Nothing was changed; try again"):
        salvage(path, tmp_path / "saved.db")
    (tmp_path / "catalog.db-wal").rmdir()
    assert salvage(path, tmp_path / "saved.db").images == 37


def test_creating_a_library_below_a_file_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LibraryError, match=r"library cannot be written .Not a directory.: is its"):
        Library.create(tmp_path / "file" / "library", model="toy", revision="1", dimension=8)


def test_a_writer_waits_for_another_and_then_raises_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)
    monkeypatch.setattr("sightline.indexer.catalog.store.BUSY_TIMEOUT", 0.1)
    with Catalog.open(path) as catalog:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LibraryBusyError, match="being written by another program"):
            catalog.remove([10])
        assert catalog.image(10) is not None
        other.execute("ROLLBACK")
        other.close()
        assert catalog.remove([10]).tolist() == [10]


def test_a_write_transaction_locks_the_file_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has read before it writes is still so when it writes."""
    path = filled(tmp_path)
    monkeypatch.setattr("sightline.indexer.catalog.store.BUSY_TIMEOUT", 0.1)
    with Catalog.open(path) as one, Catalog.open(path) as other:
        with one._store.writing(), pytest.raises(LibraryBusyError):
            other.remove([10])
        assert other.remove([10]).tolist() == [10]


def test_check_finds_and_repair_repairs_wrong_rows(tmp_path: Path) -> None:
    path = filled(tmp_path)
    breakage = {
        "without a vector": "DELETE FROM embeddings WHERE image_id = 20",
        "have a vector and no row": "DELETE FROM images WHERE id = 21",
        "in an unknown folder": "UPDATE images SET folder_id = 777 WHERE id = 22",
        "zero, not finite": "UPDATE embeddings SET vector = zeroblob(16) WHERE image_id = 23",
        "of the wrong length": "UPDATE embeddings SET vector = x'00' WHERE image_id = 24",
        "not finite": f"UPDATE embeddings SET vector = x'{'007e' * DIMENSION}' WHERE image_id = 25",
        "full-text index": "DELETE FROM words WHERE rowid = 26",
        "were deleted and still exist": "INSERT INTO removals VALUES (27, 1)",
        "have a version above": "UPDATE embeddings SET version = 1000 WHERE image_id = 28",
    }
    database = sqlite3.connect(path)
    for statement in breakage.values():
        database.execute(statement)
    database.commit()
    database.close()
    with Catalog.open(path) as catalog:
        problems = catalog.check()
        text = "\n".join(problem.text for problem in problems)
        assert all(what in text for what in breakage)
        assert all(problem.repairable for problem in problems)
        wrong = {i for problem in problems for i in problem.ids}
        assert wrong == set(range(20, 29))
        assert catalog.repair()
        assert catalog.check() == []
        assert catalog.repair() == []
        assert set(catalog.select().tolist()) == set(range(4, 61)) - wrong | {26}
        assert set(catalog.changes(4).removed.tolist()) >= wrong - {26}
        root = catalog.roots()[0]
        assert catalog.write(root, images=[picture("0/19.jpg", seed=3)]).images[0] > 60


def test_repair_rebuilds_a_corrupt_sqlite_index(tmp_path: Path) -> None:
    path = filled(tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA writable_schema = ON")
    database.execute(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX images_format ON images (camera)'"
        " WHERE name = 'images_format'"
    )
    database.commit()
    database.close()
    with Catalog.open(path) as catalog:
        assert [(p.kind, p.repairable) for p in catalog.check()][:1] == [("damaged", True)]
        assert [problem.text for problem in catalog.repair()] == ["rebuilt SQLite's indexes"]
        assert catalog.check() == []


# a disk that is read-only, or full, or a process that is killed


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes, where this may be made (Linux, as root)."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if sys.platform != "linux" or not shutil.which("mount"):
        pytest.skip("a small disk is made with Linux's mount")
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_loses_nothing(disk: Path) -> None:
    catalog, root = new_catalog(disk)
    with catalog:
        written = []

        def fill() -> None:
            for start in range(0, 100_000, 50):
                numbers = range(start, start + 50)
                batch = [picture(f"{n}.jpg", seed=n, title="x" * 500) for n in numbers]
                written.extend(catalog.write(root, images=batch).images)

        with pytest.raises(LibraryError, match="no space left on the disk"):
            fill()
        assert len(written) > 100
        assert catalog.select().tolist() == written
        assert catalog.check() == []
    with Catalog.open(catalog.path) as again:
        assert again.count == len(written)


def test_creating_a_catalog_on_a_full_disk_raises_an_error(disk: Path) -> None:
    (disk / "ballast").write_bytes(b"x" * (2 << 20))
    with pytest.raises(LibraryError, match=r"no space left|cannot be made"):
        Catalog.create(disk / "catalog.db", model="m", revision="r", dimension=4)
    assert names(disk) == ["ballast"]


def test_a_read_only_disk_can_be_searched(disk: Path) -> None:
    path = filled(disk, 40)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with Catalog.open(path, read_only=True) as catalog:
        assert catalog.note is not None
        assert "read-only disk" in catalog.note
        assert catalog.count == 37
        assert catalog.check() == []
        assert not catalog.changed_since_last_call()
    with pytest.raises(LibraryError, match=r"read-only|cannot be opened"):
        Catalog.open(path).remove([5])
    with pytest.raises(LibraryError, match=r"read-only|cannot be made|cannot be opened"):
        Thumbnails.open_or_create(disk / "thumbnails.db")


def test_a_log_on_a_read_only_disk_is_not_ignored(disk: Path, tmp_path: Path) -> None:
    path = filled(tmp_path / "made", 20)
    with Catalog.open(path) as catalog:
        catalog.remove([5])
        for name in ("catalog.db", "catalog.db-wal"):
            shutil.copy(path.with_name(name), disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(LibraryError, match=r"changes waiting in catalog\.db-wal"):
        Catalog.open(disk / "catalog.db", read_only=True)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    with Catalog.open(disk / "catalog.db") as catalog:
        assert catalog.image(5) is None


def test_a_file_size_limit_loses_nothing(tmp_path: Path) -> None:
    path = filled(tmp_path)
    limit = path.stat().st_size + (1 << 20)
    writer = f"""
        import resource, sys
        sys.path.insert(0, {str(HERE)!r})
        from helpers_catalog import picture
        from sightline.indexer.catalog import Catalog
        from sightline.indexer.errors import LibraryError
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        with Catalog.open(Path({str(path)!r})) as catalog:
            root = catalog.roots()[0]
            try:
                for n in range(10**6):
                    catalog.write(root, images=[picture(f"more/{{n}}.jpg", title="x" * 5000)])
            except LibraryError as error:
                print(n, catalog.count, error)
    """
    assert resource.RLIMIT_FSIZE
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(writer)],
        capture_output=True,
        text=True,
        cwd=HERE.parent,
    )
    assert result.returncode == 0, result.stderr
    written, count, *message = result.stdout.split()
    assert int(count) == 57 + int(written)
    assert "disk" in message
    with Catalog.open(path) as catalog:
        assert catalog.count == int(count)
        assert catalog.check() == []


def test_a_killed_writer_leaves_complete_batches(tmp_path: Path) -> None:
    """SIGKILL at twelve random moments of writing: every reported version is there, batches are
    complete, and every image has its thumbnail."""
    catalog, _ = new_catalog(tmp_path)
    catalog.close()
    writer = f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from helpers_catalog import picture
        from sightline.indexer.catalog import Catalog, Thumbnails
        from pathlib import Path
        folder = Path({str(tmp_path)!r})

        def work(start):
            catalog = Catalog.open(folder / "catalog.db")
            thumbnails = Thumbnails.open_or_create(folder / "thumbnails.db")
            root = catalog.roots()[0]
            for batch in range(int(start), int(start) + 10**6):
                written = catalog.write(
                    root,
                    images=[picture(f"{{batch}}/{{n}}.jpg") for n in range(7)],
                    before_commit=lambda w: thumbnails.put_many({{i: b"webp" for i in w.images}}),
                )
                print(written.version, flush=True)
                if batch % 3 == 2:
                    catalog.remove(written.images[:7])
                    print(catalog.version, flush=True)
    """
    moments = random.Random(7)
    version = 0
    with Forks(writer) as forks:
        for attempt in range(12):
            child = forks.start(str(attempt * 10**6))
            reported = [int(forks.printed()) for _ in range(moments.randrange(1, 12))]
            for _ in range(moments.randrange(100_000)):
                pass
            reported += map(int, forks.kill(child))
            with (
                Catalog.open(tmp_path / "catalog.db") as catalog,
                Thumbnails.open(tmp_path / "thumbnails.db") as thumbnails,
            ):
                assert reported[-1] <= catalog.version <= reported[-1] + 1
                assert catalog.version > version
                version = catalog.version
                assert catalog.count % 7 == 0
                assert set(catalog.select().tolist()) <= set(thumbnails.ids().tolist())
                assert catalog.check() == []
                assert len(catalog.changes(0).ids) == catalog.count
