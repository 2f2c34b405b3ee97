"""Embedding on Ray: every image once, whatever dies meanwhile, and importing it into a library."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow.parquet as parquet
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from helpers_library import empty_library, id_of, make_pictures
from helpers_shards import (
    Cluster,
    make_archive,
    make_drawings,
    rows_of,
    two_nodes,
    workers_of_ray,
)
from test_attacks_files import header_of, negative_size

from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import LibraryError, ModelMismatchError, UsageError
from sightline.indexer.indexing.run import update_library
from sightline.indexer.photo import Decoder
from sightline.indexer.photo.photo import read
from sightline.indexer.shards import ray_run
from sightline.indexer.shards.import_shards import create_for, import_shards
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import Item, Shard, find_items, plan, read_plan
from sightline.indexer.shards.ray_task import Job, embed_shard
from sightline.indexer.shards.shard_files import (
    Origin,
    failed_rows,
    read_origin,
    read_shard,
    whole_shards,
    write_origin,
)
from sightline.indexer.types import Photo
from sightline.server.cli import run

TOP = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """66 files in three folders, one of them corrupt, and an archive of 12 images."""
    folder = make_pictures(tmp_path_factory.mktemp("embed") / "Pictures")
    make_archive(folder / "archives" / "00000.tar", range(200, 212))
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """The Ray cluster of all tests. This process stays connected to it, as a notebook would, so
    that its workers keep their model from one test to the next."""
    with two_nodes() as started, ray_run.cluster(started.address):
        yield started


@pytest.fixture(scope="module")
def embedded(
    tmp_path_factory: pytest.TempPathFactory, pictures: Path, tiny_clip: Path, cluster: Cluster
) -> tuple[Place, dict[str, Any]]:
    """The output of the command for ``pictures``, and the document that it printed."""
    output = tmp_path_factory.mktemp("embedded") / "shards"
    arguments = ["embed", str(pictures), "--output", str(output), "--model", str(tiny_clip)]
    options = ["--ray-address", cluster.address, "--shard-size", "10", "--json", "--quiet"]
    with redirect_stdout(io.StringIO()) as printed:
        assert run([*arguments, *options]) == 0
    return Place.at(str(output)), json.loads(printed.getvalue())


def as_job(place: Place, encoder: Encoder) -> Job:
    """The job of a run."""
    origin = Origin(encoder.model, encoder.revision, encoder.dimension, "test", "2026-01-01")
    return Job(place.url, origin, device="cpu")


# the output ---------------------------------------------------------------------------------------


def test_every_image_is_in_the_shards_once_and_a_corrupt_one_with_the_reason(
    embedded: tuple[Place, dict[str, Any]],
) -> None:
    place, report = embedded
    rows = rows_of(place)
    names = [row.path for row in rows]
    assert len(names) == len(set(names)) == 66 + 12
    assert len({row.id for row in rows}) == len(rows)
    (broken,) = [row for row in rows if row.failure]
    assert broken.path == "Odd/broken.jpg"
    assert broken.vector is None
    assert broken.failure == "it is not an image but text"
    assert (report["embedded"], report["failed"], report["failures"]) == (77, 1, 1)
    assert report["shards"] == len(whole_shards(place)) == 8  # 66 in tens, and the archive


def test_a_worker_process_loads_the_model_for_its_first_shard_only(
    embedded: tuple[Place, dict[str, Any]], tmp_path: Path, tiny_encoder: Encoder
) -> None:
    _, report = embedded
    assert 1 <= report["workers"] < report["shards"]  # a process embeds several shards
    place = Place.at(str(tmp_path / "out"))
    folder = make_drawings(tmp_path / "in", 2)
    job = replace(as_job(place, tiny_encoder), device="auto")  # no other test here has loaded it
    first, second = (
        embed_shard(job, shard) for shard in plan(place, find_items(str(folder)), size=1)[0]
    )
    assert first.load_seconds > 0 == second.load_seconds


def test_shards_can_be_read_with_pyarrow_alone(embedded: tuple[Place, dict[str, Any]]) -> None:
    place, _ = embedded
    table = parquet.read_table(place.join("shard-000001.parquet"))
    assert str(table.schema.field("embedding").type) == "fixed_size_list<element: halffloat>[32]"
    assert {"id", "source", "path", "width", "height", "taken_at", "content_hash", "thumbnail"} < {
        *table.column_names
    }
    failures = parquet.read_table(place.join("failures.parquet")).to_pylist()
    assert [(row["path"], row["failure"]) for row in failures] == [
        ("Odd/broken.jpg", "it is not an image but text")
    ]


def test_vectors_and_metadata_equal_those_of_sightline_index(
    embedded: tuple[Place, dict[str, Any]], pictures: Path, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    place, _ = embedded
    with (
        empty_library(tmp_path / "local", tiny_encoder) as local,
        create_for(tmp_path / "imported", read_origin(place)) as imported,
    ):
        update_library(local, tiny_encoder, [pictures], workers=1)
        done = import_shards(imported, place)
        assert (done.added, done.failed, done.shards) == (77, 1, 8)
        ours = {record.path: record for record in imported.images(imported.select().tolist())}
        theirs = {record.path: record for record in local.images(local.select().tolist())}
        assert set(theirs) == set(ours)
        for path, record in theirs.items():
            mine = ours[path]
            assert (mine.info, mine.content_hash, mine.phash, mine.absolute, mine.mtime_ns) == (
                record.info,
                record.content_hash,
                record.phash,
                record.absolute,
                record.mtime_ns,
            )
            assert imported.thumbnail(mine.id) == local.thumbnail(record.id)
            pair = np.array([mine.id], np.int64), np.array([record.id], np.int64)
            cosine = float((imported.vectors(pair[0]) * local.vectors(pair[1])).sum())
            assert cosine > 0.999
        assert [f.path for f in imported.failures()] == ["Odd/broken.jpg"]


def test_images_in_an_archive_have_the_caption_beside_them(
    embedded: tuple[Place, dict[str, Any]],
) -> None:
    place, _ = embedded
    rows = {row.path: row for row in rows_of(place) if ".tar/" in row.path}
    row = rows["archives/00000.tar/00203.jpg"]
    assert row.info is not None
    assert (row.info.caption, row.info.url) == ("blots number 203", "https://example.org")
    assert (row.info.width, row.info.height) == (320, 240)
    assert row.thumbnail is not None


def test_import_makes_a_library_and_a_second_import_changes_nothing(
    embedded: tuple[Place, dict[str, Any]],
    tiny_clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["import", embedded[0].url, "--library", str(tmp_path / "library"), "--json", "-q"]
    assert run(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["added"], said["failed"], said["model"]) == (77, 1, str(tiny_clip))
    assert run(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["added"], said["updated"], said["unchanged"]) == (0, 0, 77)
    search = ["search", "blots in:00000.tar", "--library", str(tmp_path / "library"), "--json"]
    assert run(search) == 0
    assert json.loads(capsys.readouterr().out)["total"] == 12


def test_no_thumbnail_is_made_when_thumbnails_are_off(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = make_drawings(tmp_path / "in", 2)
    place = Place.at(str(tmp_path / "out"))
    (shard,), _ = plan(place, find_items(str(folder)), size=2)
    embed_shard(replace(as_job(place, tiny_encoder), thumbnails=False), shard)
    rows = {row.path: row for row in rows_of(place)}
    assert [row.thumbnail for row in rows.values()] == [None, None]
    with Decoder(tiny_encoder.geometry, thumbnails=False) as decoder:
        for path, photo in decoder.each((one.name, one) for one in folder.iterdir()):
            assert isinstance(photo, Photo)
            assert photo.thumbnail == b""
            full = read(folder / path, tiny_encoder.geometry)
            assert (photo.info, photo.phash) == (full.info, full.phash)
            assert (rows[path].info, rows[path].phash) == (full.info, full.phash)


# resuming -----------------------------------------------------------------------------------------


def test_a_second_run_embeds_only_missing_shards_and_new_images(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    folder = make_drawings(tmp_path / "in", 20)
    output = str(tmp_path / "out")

    def embed() -> ray_run.EmbedReport:
        return ray_run.embed(
            [str(folder)], output, encoder=tiny_encoder, address=cluster.address, shard_size=5
        )

    assert (embed().shards, embed().shards) == (4, 0)
    (Path(output) / "shard-000002.parquet").unlink()
    dates = {p.name: p.stat().st_mtime_ns for p in Path(output).glob("shard-*")}
    make_drawings(folder / "more", 3)
    again = embed()
    assert (again.shards, again.shards_before, again.embedded) == (2, 3, 8)
    assert (
        dates.items()
        <= {p.name: p.stat().st_mtime_ns for p in Path(output).glob("shard-*")}.items()
    )
    assert len({row.path for row in rows_of(Place.at(output))}) == 23


def test_an_interrupted_run_keeps_complete_shards_and_resumes(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    folder = make_drawings(tmp_path / "in", 30)
    output, stop = str(tmp_path / "out"), Event()

    def after_the_first(phase: str, *numbers: object) -> None:
        if phase.startswith("embedding"):
            stop.set()

    options: dict[str, Any] = {"encoder": tiny_encoder, "address": cluster.address, "shard_size": 3}
    first = ray_run.embed([str(folder)], output, progress=after_the_first, stop=stop, **options)
    assert first.interrupted
    assert 0 < first.shards < 10
    second = ray_run.embed([str(folder)], output, **options)
    assert first.shards + second.shards >= 10 - first.shards
    paths = [row.path for row in rows_of(Place.at(output))]
    assert len(paths) == len(set(paths)) == 30
    assert not [one for one in Path(output).iterdir() if one.name.startswith(".")]


def restore(path: Path, data: bytes, like: os.stat_result) -> None:
    """Writes a file again with the size and date that it had."""
    path.write_bytes(data.ljust(like.st_size, b"\0"))
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))


def test_failures_are_retried_under_the_same_ids(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    folder = make_drawings(tmp_path / "in", 8)
    missing, corrupt = folder / "0001.jpg", folder / "0006.jpg"
    data, good = missing.read_bytes(), corrupt.read_bytes()
    corrupt.write_bytes(b"no picture".ljust(len(good) + 100))
    of_missing, of_corrupt = missing.stat(), corrupt.stat()
    place = Place.at(str(tmp_path / "out"))
    job = as_job(place, tiny_encoder)
    write_origin(place, job.origin)
    shards, _ = plan(place, find_items(str(folder)), size=4)
    missing.unlink()
    for shard in shards:
        embed_shard(job, shard)
    before = {row.path: row for row in rows_of(place)}
    assert {path for path, row in before.items() if row.failure} == {"0001.jpg", "0006.jpg"}

    def embed(**options: Any) -> tuple[ray_run.EmbedReport, set[str]]:
        """A run, and the images that still have no embedding after it."""
        report = ray_run.embed(
            [str(folder)], place.url, encoder=tiny_encoder, address=cluster.address, **options
        )
        rows = rows_of(place)
        assert [row.id for row in sorted(rows, key=lambda row: row.path)] == [
            before[path].id for path in sorted(before)
        ]
        for row in rows:
            assert (
                row.vector is None
                or before[row.path].vector is None
                or np.array_equal(row.vector, before[row.path].vector)
            )
        failed = {row.path for row in rows if row.failure}
        listed = parquet.read_table(place.join("failures.parquet")).column("path").to_pylist()
        assert (report.failures, set(listed)) == (len(failed), failed)
        return report, failed

    report, failed = embed()  # the file is missing: nothing to retry
    assert (report.retried, report.shards, failed) == (0, 0, {"0001.jpg", "0006.jpg"})
    restore(missing, data, of_missing)
    restore(corrupt, good, of_corrupt)
    report, failed = embed()  # a failure that may have passed is retried without an option
    assert (report.retried, report.embedded, report.shards) == (1, 1, 1)
    assert failed == {"0006.jpg"}
    assert embed()[0].shards == 0
    report, failed = embed(retry_failures=True)
    assert (report.retried, report.embedded, report.failed, failed) == (1, 1, 0, set())


def test_a_failure_disappears_when_its_changed_file_is_embedded(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    folder = make_drawings(tmp_path / "in", 4)
    good = (folder / "0000.jpg").read_bytes()
    for name in ("0001.jpg", "0002.jpg"):
        (folder / name).write_bytes(b"no picture")
    (folder / "closed").mkdir()
    place = Place.at(str(tmp_path / "out"))
    job = as_job(place, tiny_encoder)
    write_origin(place, job.origin)
    unlisted = str(folder), Item("closed", 64, 1, "the folder cannot be read: Permission denied")
    for shard in plan(place, [*find_items(str(folder)), unlisted], size=2)[0]:
        embed_shard(job, shard)

    def run_again() -> tuple[int, dict[str, str]]:
        report = ray_run.embed(
            [str(folder)], place.url, encoder=tiny_encoder, address=cluster.address
        )
        rows = parquet.read_table(place.join("failures.parquet")).to_pylist()
        assert report.failures == len(rows)
        return report.shards, {row["path"]: row["failure"] for row in rows}

    with create_for(tmp_path / "library", job.origin) as library:

        def failing() -> set[str]:
            import_shards(library, place)
            return {failure.path for failure in library.failures()}

        assert failing() == {"0001.jpg", "0002.jpg", "closed"}
        # One is repaired, one is corrupt in another way, and the folder can be listed again.
        (folder / "0001.jpg").write_bytes(good)
        (folder / "0002.jpg").write_bytes(b"")
        (folder / "closed" / "0009.jpg").write_bytes(good)
        assert failing() == {"0001.jpg", "0002.jpg", "closed"}  # no run has seen it yet
        shards, listed = run_again()
        assert shards == 1
        assert listed == {"0002.jpg": "the file is empty"}
        assert run_again() == (0, listed)
        for _ in range(2):
            assert failing() == {"0002.jpg"}
            assert library.count == 4


def test_import_adds_images_that_were_read_on_retry(tmp_path: Path, tiny_encoder: Encoder) -> None:
    folder = make_drawings(tmp_path / "in", 4)
    away = folder / "0001.jpg"
    whole, status = away.read_bytes(), away.stat()
    place = Place.at(str(tmp_path / "out"))
    job = as_job(place, tiny_encoder)
    write_origin(place, job.origin)
    (shard,), _ = plan(place, find_items(str(folder)), size=4)
    away.unlink()
    embed_shard(job, shard)
    with create_for(tmp_path / "library", job.origin) as library:
        assert import_shards(library, place).failed == 1
        restore(away, whole, status)
        embed_shard(job, shard, frozenset({1}))
        again = import_shards(library, place)
        assert (again.added, again.unchanged, again.failed) == (1, 3, 0)
        assert (library.count, library.failures()) == (4, [])
        record = library.image(id_of(library, "0001.jpg"))
        assert record is not None
        assert record.mtime_ns == status.st_mtime_ns


def test_retry_reads_a_truncated_archive_from_where_it_ended(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    store = fsspec.filesystem("memory")
    data = make_archive(tmp_path / "a.tar", range(6)).read_bytes()
    cut = data[: len(data) // 2]
    store.pipe_file("/cut/a.tar", cut)
    place = Place.at(str(tmp_path / "out"))
    job = as_job(place, tiny_encoder)
    (shard,), _ = plan(place, find_items("memory://cut"), size=10)
    first = embed_shard(job, shard)
    store.pipe_file("/cut/a.tar", data)
    (failed,) = failed_rows(place).values()
    assert (len(failed), all(failed.values())) == (
        1,
        True,
    )  # the archive itself, a failure that may pass
    second = embed_shard(job, shard, frozenset(failed))
    assert first.embedded + second.embedded == 6
    rows = rows_of(place)
    assert sorted(row.path for row in rows) == [f"a.tar/{n:05}.jpg" for n in range(6)]
    assert len({row.id for row in rows}) == 6
    assert {row.info.caption for row in rows if row.info} == {f"blots number {n}" for n in range(6)}


def embedded_despite(
    progress: Callable[..., None], place: Path, encoder: Encoder, cluster: Cluster
) -> list[str]:
    """Embeds 60 images while ``progress`` kills something; the paths of all rows."""
    folder = make_drawings(place / "in", 60)
    report = ray_run.embed(
        [str(folder)],
        str(place / "out"),
        encoder=encoder,
        address=cluster.address,
        shard_size=4,
        progress=progress,
    )
    assert not report.shards_failed
    return [row.path for row in rows_of(Place.at(str(place / "out")))]


def test_no_image_is_lost_when_a_worker_is_killed(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    killed: list[int] = []

    def kill(phase: str, *numbers: object) -> None:
        if phase.startswith("embedding") and not killed:
            for pid in workers_of_ray():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    paths = embedded_despite(kill, tmp_path, tiny_encoder, cluster)
    assert killed
    assert len(paths) == len(set(paths)) == 60


@pytest.mark.slow
def test_no_image_is_lost_or_doubled_when_a_node_dies(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    gone: list[int] = []

    def lose(phase: str, *numbers: object) -> None:
        if phase.startswith("embedding") and not gone:
            import ray

            # Not the node of this process: losing it would end the run itself.
            cluster.lose(but=ray.get_runtime_context().get_node_id())
            gone.append(1)

    paths = embedded_despite(lose, tmp_path, tiny_encoder, cluster)
    assert gone
    assert len(paths) == len(set(paths)) == 60


# capacity -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "reason"),
    [
        ({"cpus": 2}, "a shard needs 2 cores and 0 GPUs, and none of the . nodes has that"),
        ({"gpus": 1}, "a shard needs 1 core and 1 GPU"),
    ],
)
def test_a_task_larger_than_every_node_is_refused(
    share: dict[str, float],
    reason: str,
    tmp_path: Path,
    tiny_encoder: Encoder,
    cluster: Cluster,
) -> None:
    warnings: list[str] = []
    with pytest.raises(UsageError, match=reason) as error:
        ray_run.embed(
            [str(make_drawings(tmp_path / "in", 2))],
            str(tmp_path / "out"),
            encoder=tiny_encoder,
            address=cluster.address,
            joining=0,
            warn=warnings.append,
            **share,
        )
    assert "--cpus-per-task" in str(error.value)
    assert not warnings


@pytest.mark.slow
def test_a_run_warns_and_waits_for_a_node_that_joins(
    tmp_path: Path, tiny_encoder: Encoder, cluster: Cluster
) -> None:
    warnings: list[str] = []

    def join(warning: str) -> None:
        warnings.append(warning)
        cluster.join(num_gpus=1)

    report = ray_run.embed(
        [str(make_drawings(tmp_path / "in", 6))],
        str(tmp_path / "out"),
        encoder=tiny_encoder,
        address=cluster.address,
        gpus=1,
        joining=120,
        shard_size=3,
        warn=join,
    )
    assert (report.embedded, report.shards) == (6, 2)
    (warning,) = warnings
    assert "waiting 120 seconds for one to join" in warning


def test_the_command_refuses_too_large_a_task_in_one_line(
    tmp_path: Path, tiny_clip: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_drawings(tmp_path / "in", 1)
    arguments = ["embed", str(folder), "--output", str(tmp_path / "out"), "--model", str(tiny_clip)]
    options = ["--ray-address", cluster.address, "--cpus-per-task", "5000", "--quiet"]
    assert run([*arguments, *options, "--wait-for-nodes", "0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "a shard needs 5000 cores and 0 GPUs, and none of" in line


# refusals -----------------------------------------------------------------------------------------


def test_an_output_of_another_model_is_refused(
    embedded: tuple[Place, dict[str, Any]], pictures: Path
) -> None:
    with pytest.raises(ModelMismatchError, match="give another --output"):
        ray_run.embed(
            [str(pictures)], embedded[0].url, encoder=Encoder.load("builtin", device="cpu")
        )


def test_an_output_folder_with_other_files_is_refused(
    pictures: Path, tiny_encoder: Encoder
) -> None:
    with pytest.raises(LibraryError, match="holds other things"):
        ray_run.embed([str(pictures)], str(pictures), encoder=tiny_encoder)


def test_a_missing_source_is_an_error_in_one_line(
    tmp_path: Path, tiny_clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["embed", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]
    assert run([*arguments, "--model", str(tiny_clip)]) == 2
    assert "there is no folder and no file" in capsys.readouterr().err


def test_an_unreachable_cluster_is_an_error_in_one_line() -> None:
    with (
        pytest.raises(LibraryError, match=r"Ray cluster at 127\.0\.0\.1:1 cannot be reached"),
        ray_run.cluster("127.0.0.1:1"),
    ):
        pass


def test_the_error_for_a_corrupt_shard_names_it(
    embedded: tuple[Place, dict[str, Any]], tmp_path: Path
) -> None:
    place = Place.at(str(tmp_path))
    whole = Path(embedded[0].join("shard-000001.parquet")).read_bytes()
    (tmp_path / "shard-000001.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LibraryError, match=r"shard-000001.parquet is corrupt"):
        list(read_shard(place, "shard-000001.parquet"))


# sources ------------------------------------------------------------------------------------------


def test_images_in_a_store_are_fetched_and_embedded(
    pictures: Path, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    store = fsspec.filesystem("memory")
    for name in ("Home/IMG_0000.jpg", "Odd/broken.jpg", "archives/00000.tar"):
        store.pipe_file(f"/bucket/{name}", (pictures / name).read_bytes())
    place = Place.at(str(tmp_path / "out"))
    shards, _ = plan(place, find_items("memory://bucket"), size=100)
    for shard in shards:
        embed_shard(as_job(place, tiny_encoder), shard)
    rows = {row.path: row for row in rows_of(place)}
    assert len(rows) == 2 + 12
    assert rows["Home/IMG_0000.jpg"].source == "memory://bucket"
    assert rows["Home/IMG_0000.jpg"].vector is not None
    assert rows["Odd/broken.jpg"].failure == "it is not an image but text"
    assert rows["archives/00000.tar/00200.jpg"].vector is not None


class Buckets(MemoryFileSystem):
    """A store like S3: it has no folders, and its driver creates a bucket when asked for one. One
    folder in it cannot be listed."""

    protocol = "abfss"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    find = AbstractFileSystem.find

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("abfss://", "memory://")))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError(f"a bucket was made for {path}")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if not path.startswith("/bucket"):
            raise FileNotFoundError("The specified bucket does not exist")
        return super()._open(path, mode, **options)

    def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        if path.endswith("/closed"):
            raise ConnectionError("Could not connect to the endpoint")
        return super().ls(path, detail, **options)


fsspec.register_implementation("abfss", Buckets, clobber=True)


def test_a_folder_that_a_store_cannot_list_is_an_error() -> None:
    fsspec.filesystem("abfss").pipe({"/bucket/in/a.jpg": b"a", "/bucket/in/closed/b.jpg": b"b"})
    with pytest.raises(
        LibraryError, match=r"^abfss://bucket/in cannot be reached: Could not connect"
    ):
        list(find_items("abfss://bucket/in"))
    with pytest.raises(LibraryError, match=r"^abfss://bucket/in/closed cannot be reached"):
        Place.at("abfss://bucket/in/closed").names()


def test_no_bucket_is_created_for_a_mistyped_name(tiny_encoder: Encoder) -> None:
    origin = as_job(Place.at("abfss://bucket/out"), tiny_encoder).origin
    write_origin(Place.at("abfss://bucket/out"), origin)
    assert read_origin(Place.at("abfss://bucket/out")) == origin
    with pytest.raises(LibraryError, match=r"abfss://bukcet/out cannot be written: The specified"):
        write_origin(Place.at("abfss://bukcet/out"), origin)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    word = "hunter2"
    with pytest.raises(UsageError, match="password") as error:
        Place.at(f"s3://key:{word}@bucket/in")
    assert word not in str(error.value)


def test_a_truncated_archive_yields_its_images_and_a_failure(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    archive = make_archive(tmp_path / "in" / "a.tar", range(6))
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    place = Place.at(str(tmp_path / "out"))
    (shard,), _ = plan(place, find_items(str(archive)), size=10)
    done = embed_shard(as_job(place, tiny_encoder), shard)
    assert 0 < done.embedded < 6
    (failed,) = [row for row in rows_of(place) if row.failure]
    assert failed.path == "a.tar"
    assert "cannot be read to its end" in (failed.failure or "")


def test_a_hostile_archive_is_a_failure_of_embed(tmp_path: Path, tiny_encoder: Encoder) -> None:
    """Archives on this machine are listed in a worker, as by ``index``."""
    pictures = make_drawings(tmp_path / "in", 3)
    (pictures / "negative.tar").write_bytes(negative_size())
    with (pictures / "pax.tar").open("wb") as file:
        file.write(header_of(6 * 2**30, tarfile.XHDTYPE))
        file.truncate(6 * 2**30 + 1024)
    place = Place.at(str(tmp_path / "out"))
    shards, _ = plan(place, find_items(str(pictures)), size=10)
    for shard in shards:
        embed_shard(as_job(place, tiny_encoder), shard)
    reasons = {row.path: row.failure for row in rows_of(place) if row.failure}
    assert set(reasons) == {"negative.tar", "pax.tar"}
    assert "memory" in (reasons["pax.tar"] or "")


class EndlessHeader(io.RawIOBase):
    """An archive whose first member's name never ends."""

    def __init__(self) -> None:
        self.start, self.sent = header_of(6 * 2**30, tarfile.GNUTYPE_LONGNAME), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        assert self.sent < 64 * 2**20, "the header is read into memory"
        part = self.start.ljust(len(buffer), b"x") if not self.sent else b"x" * len(buffer)
        buffer[:] = part[: len(buffer)]
        self.sent += len(buffer)
        return len(buffer)


class EndlessStore(MemoryFileSystem):
    protocol = "endless"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        return io.BufferedReader(EndlessHeader())


def test_an_endless_header_in_a_store_is_not_read(tmp_path: Path, tiny_encoder: Encoder) -> None:
    fsspec.register_implementation("endless", EndlessStore, clobber=True)
    shard = Shard(1, "endless://bucket", (Item("a.tar", 6 * 2**30, 0),))
    place = Place.at(str(tmp_path / "out"))
    embed_shard(as_job(place, tiny_encoder), shard)
    [row] = rows_of(place)
    assert row.failure == "the archive cannot be read to its end: a header is corrupt"


def test_new_files_extend_the_plan_and_change_no_shard(tmp_path: Path) -> None:
    folder = make_drawings(tmp_path / "in", 7)
    place = Place.at(str(tmp_path / "out"))
    before, new = plan(place, find_items(str(folder)), size=3)
    assert (len(before), len(new)) == (3, 3)
    make_drawings(folder / "later", 2)
    after, new = plan(place, find_items(str(folder)), size=3)
    assert after[:3] == before
    assert [item.path for item in new[0].items] == ["later/0000.jpg", "later/0001.jpg"]
    assert read_plan(place) == after


def test_an_unknown_kind_of_address_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        Place.at("gopher://host/pictures")


# security -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_ray_on_this_machine_listens_on_loopback_and_requires_a_token(
    tmp_path: Path, tiny_clip: Path
) -> None:
    folder, output = make_drawings(tmp_path / "in", 2), tmp_path / "out"
    code = """
import json, os, sys
from pathlib import Path
from sightline.indexer.encoder import Encoder
from sightline.indexer.shards import ray_run

def family():
    '''This process and its descendants.'''
    members, before = {str(os.getpid())}, 0
    while len(members) > before:
        before = len(members)
        for one in Path("/proc").iterdir():
            if one.name.isdigit():
                try:
                    parent = (one / "stat").read_text().rpartition(")")[2].split()[1]
                except OSError:
                    continue
                if parent in members:
                    members.add(one.name)
    return members

def listening():
    '''The addresses on which they listen, in hexadecimal.'''
    sockets = set()
    for pid in family():
        try:
            handles = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for handle in handles:
            try:
                target = os.readlink(handle)
            except OSError:
                continue
            if target.startswith("socket:["):
                sockets.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                found.append(fields[1].rpartition(":")[0])
    return found

found = []
def look(phase, *numbers):
    if phase.startswith("embedding"):
        assert os.environ["RAY_AUTH_MODE"] == "token" and len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        found.extend(listening())

source, output, model = sys.argv[1:]
report = ray_run.embed(
    [source], output, encoder=Encoder.load(model, device="cpu"), progress=look
)
assert "RAY_AUTH_TOKEN" not in os.environ
print(json.dumps([report.embedded, found]))
"""
    command = [sys.executable, "-c", code, str(folder), str(output), str(tiny_clip)]
    environment = os.environ | {"RAY_worker_niceness": "0"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=TOP, env=environment)
    assert done.returncode == 0, done.stderr
    embedded, listening = json.loads(done.stdout)
    assert embedded == 2
    assert len(listening) >= 3  # those of Ray were found
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert set(listening) <= loopback
