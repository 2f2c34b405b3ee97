"""Attacks by someone who can write to an indexed folder: on files that are served, and on a run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, empty_library, id_of, make_library
from test_archives import pack, shard

from sightline.indexer.errors import NotFoundError, PhotoError
from sightline.indexer.files import archives, walk
from sightline.indexer.files.beneath import open_beneath
from sightline.indexer.indexing.run import update_library
from sightline.indexer.photo import Decoder, decoder, photo
from sightline.indexer.types import Candidate, Failure, Geometry, IndexReport
from sightline.server.search import SearchEngine
from sightline.server.search.originals import open_original
from sightline.server.web import zip_download
from sightline.server.web.app import create_app

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder

SECRET = b"a file of another user " * 400


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "inner").mkdir(parents=True)
    for number, name in enumerate(("a.jpg", "b.jpg", "inner/c.jpg")):
        (folder / name).write_bytes(as_bytes(draw(number)))
    (tmp_path / "secret").write_bytes(SECRET)
    return folder


@pytest.fixture
def engine(tmp_path: Path, tiny_encoder: Encoder, pictures: Path) -> Iterator[SearchEngine]:
    shard(pictures / "shard.tar", range(3))
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        yield engine


@pytest.fixture
def client(engine: SearchEngine) -> FlaskClient:
    return client_of(create_app(engine))


# what is served ----------------------------------------------------------------------------------


def test_a_file_that_alternates_with_a_link_is_never_served_as_the_links_target(
    client: FlaskClient, engine: SearchEngine, pictures: Path, tmp_path: Path
) -> None:
    image, path, link = id_of(engine.library, "a.jpg"), pictures / "a.jpg", pictures / "link"
    original = path.read_bytes()
    spare = pictures / "spare"
    over = threading.Event()

    def alternate() -> None:
        while not over.is_set():
            link.symlink_to(tmp_path / "secret")
            link.replace(path)
            spare.write_bytes(original)
            spare.replace(path)

    def opened() -> bytes:
        try:
            file, _ = open_beneath(pictures, "a.jpg")
        except (OSError, PhotoError):
            return b""
        with file:
            return file.read()

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        answers = [client.get(f"/images/{image}?download=1") for _ in range(300)]
        contents = {opened() for _ in range(300)}  # not compared with the catalog
    finally:
        over.set()
        thread.join()
    assert SECRET not in contents
    assert {answer.status_code for answer in answers} <= {200, 404}
    assert all(answer.data in (original, b"") for answer in answers if answer.status_code == 200)


def test_a_link_placed_after_the_path_was_resolved_is_not_followed(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = os.path.realpath

    def resolve_then_swap(path: str, **options: bool) -> str:
        found = resolve(path, **options)
        if str(path).endswith(("c.jpg", "a.jpg")):
            (pictures / "a.jpg").unlink()
            (pictures / "a.jpg").symlink_to(tmp_path / "secret")
            (pictures / "inner").rename(tmp_path / "moved")
            (pictures / "inner").symlink_to(tmp_path / "moved")
        return found

    (pictures / "to-a.jpg").symlink_to("a.jpg")
    (pictures / "to-inner").symlink_to("inner")
    for name in ("to-a.jpg", "to-inner/c.jpg"):  # paths with a link are resolved before opening
        with monkeypatch.context() as patch:
            patch.setattr(os.path, "realpath", resolve_then_swap)
            with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
                open_beneath(pictures, name)
        (pictures / "inner").unlink()
        (tmp_path / "moved").rename(pictures / "inner")


def test_a_zip_does_not_follow_a_link_placed_while_it_is_downloaded(
    client: FlaskClient, engine: SearchEngine, pictures: Path, tmp_path: Path
) -> None:
    ids = [id_of(engine.library, name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    answer = client.post("/api/zip", json={"ids": ids}, buffered=False)
    parts = iter(answer.response)
    received = [next(parts)]
    (pictures / "b.jpg").unlink()
    (pictures / "b.jpg").symlink_to(tmp_path / "secret")
    (pictures / "inner" / "c.jpg").unlink()
    os.mkfifo(pictures / "inner" / "c.jpg")
    received += parts
    answer.close()
    with zipfile.ZipFile(io.BytesIO(b"".join(map(bytes, received)))) as archive:
        assert archive.testzip() is None
        assert [Path(name).name for name in archive.namelist()] == ["a.jpg"]


def test_a_long_member_name_does_not_break_a_zip(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    names = ("x" * 990 + ".jpg", "/".join(["d" * 90] * 10) + "/y.jpg", "z" * 70_000 + ".jpg")
    pack(pictures / "long.tar", {name: as_bytes(draw(len(name))) for name in names})
    deep = pictures.joinpath(*["f" * 100] * 25)
    deep.mkdir(parents=True)
    (deep / "deep.jpg").write_bytes(as_bytes(draw(5)))
    with (
        make_library(tmp_path / "library", tiny_encoder, pictures) as library,
        SearchEngine(library, tiny_encoder) as engine,
    ):
        client = client_of(create_app(engine))
        ids = library.select().tolist()
        answer = client.post("/api/zip", json={"ids": ids})
        with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
            assert archive.testzip() is None
            assert len(archive.namelist()) == len(ids) == 6
            assert max(map(len, archive.namelist())) == zip_download.MAX_PATH
            parts = [part for name in archive.namelist() for part in name.split("/")]
            assert max(map(len, parts)) == zip_download.MAX_NAME


def test_search_continues_when_a_served_archive_becomes_hostile(
    client: FlaskClient, engine: SearchEngine, pictures: Path
) -> None:
    image = id_of(engine.library, "000000001.jpg")
    assert client.get(f"/images/{image}").status_code == 200
    (pictures / "shard.tar").write_bytes(negative_size())
    assert client.get(f"/images/{image}").status_code == 404
    assert client.post("/api/zip", json={"ids": [image]}).status_code == 200
    assert client.get("/api/search?q=dog").get_json()["hits"]


def test_an_image_in_an_archive_supports_ranges_and_conditions(
    client: FlaskClient, engine: SearchEngine
) -> None:
    image = id_of(engine.library, "000000001.jpg")
    whole = client.get(f"/images/{image}")
    part = client.get(f"/images/{image}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, whole.data[10:20])
    beyond = client.get(f"/images/{image}", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    same = client.get(f"/images/{image}", headers={"If-None-Match": whole.headers["ETag"]})
    assert same.status_code == 304


def test_a_worker_does_not_decode_a_link_out_of_the_root(
    engine: SearchEngine, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.jpg").write_bytes(as_bytes(draw(9)))
    (pictures / "a.jpg").unlink()
    (pictures / "a.jpg").symlink_to(tmp_path / "other.jpg")
    candidate = Candidate(pictures, "a.jpg", 1, 1)
    worker = engine.query_encoder.decoder
    for read in (
        lambda: worker.preview(candidate, 100),
        lambda: worker.crop(candidate, (0, 0, 1, 1)),
        lambda: worker.hash(candidate),
        lambda: photo.read(candidate, Geometry()),
    ):
        with pytest.raises(PhotoError, match="a link out of its folder"):
            read()
    record = engine.library.images([id_of(engine.library, "a.jpg")])[0]
    with pytest.raises(NotFoundError):
        open_original(record, worker)


# what is indexed ---------------------------------------------------------------------------------


def negative_size() -> bytes:
    """A tar whose only member has a negative size, so that its successor is itself."""
    member = tarfile.TarInfo("a.jpg")
    header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024 % 2**16).to_bytes(2, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(2048)


def header_of(size: int, kind: bytes) -> bytes:
    """A tar that ends after a header of ``size`` bytes of metadata."""
    member = tarfile.TarInfo("x")
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def indexed(tmp_path: Path, encoder: Encoder, pictures: Path) -> IndexReport:
    with empty_library(tmp_path / "library", encoder) as library:
        return update_library(library, encoder, [pictures], workers=2)


def test_links_out_of_the_root_are_reported_and_not_indexed(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    (tmp_path / "other").mkdir()
    for name in ("other/d.jpg", "e.jpg"):
        (tmp_path / name).write_bytes(as_bytes(draw(len(name))))
    shard(tmp_path / "f.tar", range(1))
    (pictures / "folder").symlink_to(tmp_path / "other")
    (pictures / "file.jpg").symlink_to(tmp_path / "e.jpg")
    (pictures / "archive.tar").symlink_to(tmp_path / "f.tar")
    (pictures / "inside.jpg").symlink_to("inner/c.jpg")
    report = indexed(tmp_path, tiny_encoder, pictures)
    assert report.added == 4
    assert {failure.path for failure in report.failures} == {"folder", "file.jpg", "archive.tar"}
    assert all("link out of its folder" in failure.reason for failure in report.failures)


def test_follow_links_indexes_linked_folders_as_roots_and_nothing_else(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    for name in ("other/d.jpg", "third/e.jpg", "f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(as_bytes(draw(len(name) + ord(name[0]))))
    (pictures / "folder").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "further").symlink_to(tmp_path / "third")
    (tmp_path / "third" / "back").symlink_to(pictures)
    (pictures / "file.jpg").symlink_to(tmp_path / "f.jpg")
    (pictures / "up").symlink_to(tmp_path)
    (pictures / "system").symlink_to("/etc")
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        before = update_library(library, tiny_encoder, [pictures], workers=1)
        assert "--follow-links" in {one.path: one.reason for one in before.failures}["folder"]
        first = update_library(library, tiny_encoder, [pictures], follow_links=True, workers=1)
        assert before.added + first.added == 5
        reasons = {failure.path: failure.reason for failure in first.failures}
        assert set(reasons) == {"file.jpg", "up", "system"}
        assert "contains" in reasons["up"]
        assert "confirm with --allow-root /etc" in reasons["system"]
        roots = {pictures, tmp_path / "other", tmp_path / "third"}
        assert set(library.root_paths()) == roots
        records = library.images(library.select().tolist())
        assert len(records) == 5
        assert all(record.decoded for record in records)
        later = update_library(library, tiny_encoder, workers=1)
        assert (later.unchanged, set(library.root_paths())) == (5, roots)
        assert {failure.path for failure in later.failures} == {"file.jpg", "up", "system"}


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("pipe", "not a regular file"),
        ("endless", "a link out of its folder"),
        ("outside", "a link out of its folder"),
        ("large", "larger than 65,536 bytes"),
        ("immense", "larger than 65,536 bytes"),
        ("stars", "longer than 1,000 characters"),
        ("range", "invalid pattern"),
    ],
)
def test_an_ignore_file_that_cannot_be_used_is_reported(
    pictures: Path, tmp_path: Path, attack: str, reason: str
) -> None:
    file = pictures / ".sightlineignore"
    if attack == "pipe":
        os.mkfifo(file)
    elif attack == "endless":
        file.symlink_to("/dev/zero")
    elif attack == "outside":
        file.symlink_to(tmp_path / "secret")
    elif attack == "large":
        file.write_text("x\n" * 40_000)
    elif attack == "immense":
        file.touch()
        os.truncate(file, 2**40)  # sparse: takes no space
    elif attack == "stars":
        file.write_text("*a" * 501)
    else:
        file.write_text("[z-a]")
    failures: list[Failure] = []
    found = list(walk.scan(pictures, on_error=failures.append))
    [failure] = failures
    assert failure.path == ".sightlineignore"
    assert reason in failure.reason
    assert len(found) == 3


def test_a_pattern_that_would_backtrack_is_matched_in_linear_time(pictures: Path) -> None:
    (pictures / ("a" * 200 + ".jpg")).write_bytes(b"x")
    (pictures / ".sightlineignore").write_text("a*" * 30 + "b\nb.jpg\n")
    assert [c.path for c in walk.scan(pictures)] == [
        "a.jpg",
        "a" * 200 + ".jpg",
        "inner/c.jpg",
    ]


def test_a_hostile_archive_fails_alone(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    (pictures / "negative.tar").write_bytes(negative_size())
    for name, kind in (("longname.tar", tarfile.GNUTYPE_LONGNAME), ("pax.tar", tarfile.XHDTYPE)):
        with (pictures / name).open("wb") as file:
            file.write(header_of(6 * 2**30, kind))
            file.truncate(6 * 2**30 + 1024)  # sparse: takes no space
    os.mkfifo(pictures / "pipe.tar")
    report = indexed(tmp_path, tiny_encoder, pictures)
    assert report.added == 3
    reasons = {failure.path: failure.reason for failure in report.failures}
    assert set(reasons) == {"negative.tar", "longname.tar", "pax.tar"}
    assert "memory" in reasons["pax.tar"]


def test_an_endless_listing_ends_with_the_decoders_timeout(
    pictures: Path,
) -> None:
    shard(pictures / "a.tar", range(1))
    with Decoder(Geometry(32, 32, 32), timeout=5) as worker:
        worker.read_bytes(as_bytes(draw(1)))
        [pid] = worker.pids
        os.kill(pid, signal.SIGSTOP)
        failures: list[Failure] = []
        found = walk.scan(pictures, on_error=failures.append, list_archive=worker.list_archive)
        assert len(list(found)) == 3
    assert "took longer than 5 seconds" in failures[0].reason


def test_hostile_metadata_costs_no_image(
    tmp_path: Path, tiny_encoder: Encoder, pictures: Path
) -> None:
    deep = b"<rdf:Description>" * 60_000 + b"</rdf:Description>" * 60_000
    packet = (
        b'<x xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:RDF>'
        + deep
        + b"</rdf:RDF></x>"
    )
    (pictures / "xmp.png").write_bytes(as_bytes(draw(7), "PNG", pnginfo=_text_chunk(packet)))
    jpeg = as_bytes(draw(8))
    segment = b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65_527)
    (pictures / "exif.jpg").write_bytes(jpeg[:2] + segment * 700 + jpeg[2:])
    report = indexed(tmp_path, tiny_encoder, pictures)
    assert report.added + report.failed == 5
    # Pillow's time for these segments is quadratic: 12 s, or the limit of a worker.
    assert {failure.path for failure in report.failures} <= {"exif.jpg"}


def _text_chunk(packet: bytes) -> object:
    from PIL.PngImagePlugin import PngInfo

    chunk = PngInfo()
    chunk.add_itxt("XML:com.adobe.xmp", packet.decode())
    return chunk


def test_one_sigterm_ends_a_run_whose_worker_hangs(pictures: Path, tmp_path: Path) -> None:
    program = f"""
import os, signal, sys, threading
from pathlib import Path
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Candidate, Geometry
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
with Decoder(Geometry(), stop=stop) as decoder:
    decoder.hash(Candidate(Path({str(pictures)!r}), "a.jpg", 1, 1))
    os.kill(decoder.pids[0], signal.SIGSTOP)
    print("ready", flush=True)
    for _, outcome in decoder.photos([Candidate(Path({str(pictures)!r}), "a.jpg", 1, 1)]):
        print(outcome)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert b"interrupted" in process.stdout.read()
        assert process.wait() == 0


# workers -----------------------------------------------------------------------------------------


def test_a_worker_has_no_secrets_and_cannot_write_to_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIGHTLINE_TOKEN", "a token of some length")
    monkeypatch.setenv("HF_TOKEN", "another one")
    with Decoder(Geometry(32, 32, 32)) as worker:
        worker.read_bytes(as_bytes(draw(1)))
        [pid] = worker.pids
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        status = Path(f"/proc/{pid}/status").read_text()
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    assert b"TOKEN" not in environment
    assert "NoNewPrivs:\t1" in status
    for name, most in (
        ("Max file size", "0"),
        ("Max open files", str(decoder.MAX_OPEN_FILES)),
    ):
        [line] = [line for line in limits if line.startswith(name)]
        assert line[len(name) :].split()[:2] == [most, most]


@pytest.mark.parametrize(
    "message",
    [
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0{}",
        b"\x02\0\0\0\0\0\0\0[[",
        b'\x24\0\0\0\0\0\0\0{"kind":"pixels","value":[],"bytes":[]}'[:44],
    ],
)
def test_a_worker_under_foreign_control_costs_one_image(
    message: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker answers its start, and then sends ``message`` for each call."""
    script = (
        "import sys, os, pickle; sys.path[:] = {path!r};"
        "from sightline.indexer.photo import messages; pickle.load(sys.stdin.buffer);"
        "os.write(1, messages.encode('ready')); pickle.load(sys.stdin.buffer);"
        "os.write(1, bytes.fromhex('" + message.hex() + "'))"
    )
    monkeypatch.setattr(decoder, "_WORKER_SCRIPT", script)
    with Decoder(Geometry(32, 32, 32)) as worker, pytest.raises(PhotoError):
        worker.read_bytes(b"x")


def test_a_caption_with_lone_surrogates_is_replaced() -> None:
    caption = archives.parse_sidecar("a.json", b'{"caption": "a \\ud800 b"}')["caption"]
    assert caption == "a ? b"
