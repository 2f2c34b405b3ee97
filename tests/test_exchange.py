"""Import and export of embeddings: clip-retrieval's folder, parquet and JSON lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from helpers_client import client_of
from helpers_library import as_bytes, dated, draw, empty_library

from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import LibraryBusyError, UsageError
from sightline.indexer.exchange import FORMATS, import_set, open_set, write_set
from sightline.indexer.indexing import doctor
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.types import Condition, Filters
from sightline.server.cli import run
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app
from sightline.server.web.placeholder import placeholder

DIMENSION = 32


def unit(n: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, DIMENSION)).astype(np.float32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def clip_set(folder: Path, parts: list[tuple[np.ndarray, dict[str, list]]]) -> Path:
    """A folder as clip-retrieval's inference writes it."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number, (vectors, columns) in enumerate(parts):
        np.save(folder / f"img_emb/img_emb_{number}.npy", vectors)
        table = pyarrow.table(columns)
        pyarrow.parquet.write_table(table, folder / f"metadata/metadata_{number}.parquet")
    return folder


def pictures(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for seed in range(count):
        data = as_bytes(draw(seed), exif=dated(2020, 1 + seed))
        (folder / f"{seed}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """A library of four images whose files are gone. The tests only read it."""
    folder = tmp_path_factory.mktemp("indexed")
    with empty_library(folder / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [pictures(folder / "pictures")], workers=1)
        shutil.rmtree(folder / "pictures")
        yield library


def everything(library: Library) -> dict[str, tuple]:
    """The metadata and the vector of each image, by its path."""
    ids = library.select()
    vectors = dict(zip(ids.tolist(), library.vectors(ids), strict=True))
    return {
        record.path: (record.info, record.content_hash, record.phash, vectors[record.id].tobytes())
        for record in library.images(ids.tolist())
    }


def test_a_laion_set_becomes_a_library_without_image_files(
    tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    vectors = unit(25)
    source = clip_set(
        tmp_path / "laion",
        [
            (
                vectors[part],
                {
                    "image_path": [f"{n:09}" for n in range(part.start, part.stop)],
                    "caption": [f"an old castle number {n}" for n in range(part.start, part.stop)],
                    "url": [f"https://e.org/{n}.jpg" for n in range(part.start, part.stop)],
                    "width": [640] * (part.stop - part.start),
                    "height": [480] * (part.stop - part.start),
                    "NSFW": ["UNLIKELY"] * (part.stop - part.start),
                },
            )
            for part in (slice(0, 10), slice(10, 20), slice(20, 25))
        ],
    )
    directory = tmp_path / "library"
    asked = ["import", str(source), "--model", tiny_encoder.model, "--library", str(directory)]
    assert run([*asked, "--json", "-q"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["found"], report["imported"], report["read"]) == (25, 25, 0)
    with Library.open(directory) as library:
        assert library.vectors(library.select()).astype(np.float16).tobytes() == vectors.tobytes()
        record = library.images([13])[0]
        assert (record.path, record.info.url) == ("000000012", "https://e.org/12.jpg")
        assert (record.info.format, record.info.width) == ("jpeg", 640)
        assert library.full_text_search("castle 12", 2).tolist() == [13]
        scores, ids = library.nearest(vectors[12:13].astype(np.float32), 1)
        assert ids[0, 0] == 13
        assert scores[0, 0] > 0.999
        assert library.matching(Filters((Condition("is", "landscape"),))) == 25
    # Neither the doctor nor a run over the library's folders counts the files as missing.
    assert doctor.examine(directory) == []
    with Library.open(directory) as library:
        report = update_library(library, tiny_encoder, workers=1, prune=True)
        assert (report.removed, report.held_back, library.count) == (0, (), 25)
    # The page shows the set's metadata.
    with Library.open(directory) as library, SearchEngine(library, tiny_encoder) as engine:
        client = client_of(create_app(engine))
        shown = client.get("/thumbnails/13?w=256")
        assert shown.mimetype == "image/svg+xml"
        assert "an old castle" in shown.get_data(as_text=True)
        assert "sandbox" in shown.headers["Content-Security-Policy"]
        told = client.get("/api/images/13").get_json()
        assert (told["url"], told["available"]) == ("https://e.org/12.jpg", False)
        assert client.get("/images/13").status_code == 404
        assert client.get("/thumbnails/99").status_code == 404
    # Importing it again changes no id, and nothing else.
    assert run([*asked, "-q"]) == 0
    with Library.open(directory) as library:
        assert library.select().tolist() == list(range(1, 26))


def test_an_image_file_that_appears_later_is_read(tmp_path: Path, tiny_encoder: Encoder) -> None:
    source = clip_set(
        tmp_path / "set", [(unit(2), {"image_path": ["a.jpg", "b.jpg"], "caption": ["x", "y"]})]
    )
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), workers=1)
        assert library.thumbnail(1) is None
        (source / "a.jpg").write_bytes(as_bytes(draw(1)))
        report = update_library(library, tiny_encoder, workers=1)
        assert (report.updated, report.removed, library.count) == (1, 0, 2)
        assert library.thumbnail(1) is not None
        (source / "a.jpg").unlink()
        assert update_library(library, tiny_encoder, workers=1, prune=True).removed == 1
        assert library.select().tolist() == [2]


def test_existing_image_files_are_read_and_not_encoded(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = pictures(tmp_path / "pictures")
    paths = [str(folder / f"{n}.jpg") for n in range(4)]
    source = clip_set(tmp_path / "set", [(unit(4), {"image_path": paths})])
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        report = import_set(library, open_set(source), workers=1)
        assert (report.imported, report.read) == (4, 4)
        assert library.root_paths() == [folder]
        found = everything(library)
        assert found["2.jpg"][0].camera == "Sightline Nine"
        assert found["2.jpg"][3] == unit(4)[2].astype(np.float32).tobytes()
        assert all(library.thumbnail(id) for id in library.select().tolist())
        # A run over the folder finds nothing to do.
        again = update_library(library, tiny_encoder, workers=1)
        assert (again.unchanged, again.added, again.updated) == (4, 0, 0)


@pytest.mark.parametrize("format", FORMATS)
def test_export_and_import_restore_everything(
    tmp_path: Path, tiny_encoder: Encoder, indexed: Library, format: str
) -> None:
    target = tmp_path / ("set" if format == "npy" else f"set.{format}")
    assert write_set(indexed, target, format=format) == 4
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    before = everything(indexed)
    source = open_set(target)
    assert (source.model, source.revision) == (tiny_encoder.model, tiny_encoder.revision)
    with empty_library(tmp_path / "restored", tiny_encoder) as library:
        assert import_set(library, source, workers=1).read == 0
        assert everything(library) == before


def test_an_exported_set_finds_its_image_files_again_and_elsewhere(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder, moved = pictures(tmp_path / "pictures"), tmp_path / "elsewhere"
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [folder], workers=1)
        write_set(library, tmp_path / "set.jsonl", format="jsonl")
        before = everything(library)
    source = open_set(tmp_path / "set.jsonl")
    with empty_library(tmp_path / "again", tiny_encoder) as library:
        assert import_set(library, source, workers=1).read == 4
        assert everything(library) == before
    folder.rename(moved)
    with empty_library(tmp_path / "moved", tiny_encoder) as library:
        assert import_set(library, source, pictures=moved, workers=1).read == 4
        assert library.root_paths() == [moved]


def test_npy_is_the_folder_that_clip_retrieval_reads(tmp_path: Path, indexed: Library) -> None:
    (folder,) = indexed.root_paths()
    write_set(indexed, tmp_path / "set", format="npy")
    stored = indexed.vectors(indexed.select())
    vectors = np.load(tmp_path / "set/img_emb/img_emb_0.npy")
    assert (vectors.dtype, vectors.shape) == (np.float16, (4, DIMENSION))
    assert (vectors.astype(np.float32) == stored).all()
    table = pyarrow.parquet.read_table(tmp_path / "set/metadata/metadata_0.parquet").to_pydict()
    assert sorted(table["image_path"]) == [str(folder / f"{n}.jpg") for n in range(4)]
    assert len(table["caption"]) == 4


def test_export_is_restricted_by_filters(
    tmp_path: Path, indexed: Library, capsys: pytest.CaptureFixture
) -> None:
    where = ["--library", str(indexed.directory), "-q"]
    target = tmp_path / "spring.jsonl"
    assert run(["export", str(target), "--only", "after:2020-03", *where]) == 0
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert sorted(line["taken_at"][:7] for line in lines) == ["2020-03", "2020-04"]
    assert len(lines[0]["embedding"]) == DIMENSION
    assert run(["export", str(target), *where]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["export", str(tmp_path / "x.parquet"), "--only", "dog", *where]) == 2
    capsys.readouterr()
    assert run(["export", str(tmp_path / "missing" / "x.jsonl"), *where]) == 2
    assert capsys.readouterr().err == f"sightline: there is no folder {tmp_path / 'missing'}\n"


def test_unusable_vectors_are_reported_and_the_others_imported(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    vectors = unit(5).astype(np.float32)
    vectors[1], vectors[3, 2] = 0, np.nan
    vectors[4] *= 7  # of another length: that is only a matter of scale
    names = ["a.jpg", "b.jpg", "a.jpg", "d.jpg", "../../e.jpg"]
    source = clip_set(tmp_path / "set", [(vectors, {"image_path": names})])
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        report = import_set(library, open_set(source), workers=1)
        assert (report.found, report.imported, report.skipped) == (5, 2, 3)
        assert [problem.partition(":")[0] for problem in report.problems] == [
            "row 1", "row 2", "row 3",
        ]  # fmt: skip
        assert [record.path for record in library.images([1, 2])] == ["a.jpg", "000000004"]
        assert np.linalg.norm(library.vectors(np.array([2]))) == pytest.approx(1, abs=1e-3)


def test_a_set_of_another_model_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_encoder: Encoder, capsys: pytest.CaptureFixture
) -> None:
    source = clip_set(tmp_path / "set", [(unit(3), {"image_path": ["a", "b", "c"]})])
    new = ["--library", str(tmp_path / "new"), "-q"]
    assert run(["import", str(source), *new]) == 2
    assert "--model" in capsys.readouterr().err
    assert run(["import", str(source), "--model", "builtin", *new]) == 2
    assert "256" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), workers=1)
        write_set(library, tmp_path / "set.parquet", format="parquet")
        with library.writing(), pytest.raises(LibraryBusyError):
            import_set(library, open_set(source), workers=1)
    there = ["--library", str(tmp_path / "library"), "-q"]
    assert run(["import", str(tmp_path / "set.parquet"), "--model", "builtin", *there]) == 1
    assert "made with builtin" in capsys.readouterr().err


def test_the_error_for_a_file_that_is_not_a_set_names_it(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "bad.npy").write_bytes(b"not numpy")
    (tmp_path / "bad.jsonl").write_text('{"embedding": [1, 2]}\n{"no": 1}\n', encoding="utf-8")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(5, np.float32))
    pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), tmp_path / "none.parquet")
    ragged = pyarrow.table({"embedding": [[1.0, 2.0], [1.0]]})
    pyarrow.parquet.write_table(ragged, tmp_path / "ragged.parquet")
    short = clip_set(tmp_path / "short", [(unit(3), {"image_path": ["a", "b"]})])
    (tmp_path / "nothing").mkdir()
    for path in (
        *(tmp_path / f"{name}" for name in ("bad.parquet", "bad.npy", "objects.npy", "flat.npy")),
        *(tmp_path / name for name in ("none.parquet", "ragged.parquet", "bad.jsonl", "nothing")),
        short,
    ):
        with pytest.raises(UsageError, match=path.name):
            list(open_set(path).batches())


def test_a_placeholder_shows_any_caption_and_contains_no_script(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    import xml.etree.ElementTree

    captions = ["<script>alert(1)</script>", "海滩上的狗", "a\x00b\x1b", "word " * 500, "x" * 5000]
    columns = {"caption": captions, "width": [10, 1, 9999, 5, 5], "height": [1, 10, 1, 5, 5]}
    source = clip_set(tmp_path / "set", [(unit(5), columns)])
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), workers=1)
        for record in library.images(library.select().tolist()):
            drawn = xml.etree.ElementTree.fromstring(placeholder(record))
            kinds = {element.tag.rpartition("}")[2] for element in drawn.iter()}
            assert kinds <= {"svg", "rect", "g", "text"}
            assert len(placeholder(record)) < 2000


def table_of(path: Path, rows: list[dict[str, object]]) -> Path:
    """A parquet or JSONL file of ``rows``."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize("missing", [0, 2])
def test_a_missing_vector_costs_its_own_row_only(
    tmp_path: Path, tiny_encoder: Encoder, suffix: str, missing: int
) -> None:
    vectors: list[object] = unit(3).tolist()
    vectors[1] = [None, *vectors[1][1:]]  # type: ignore[index]
    vectors.insert(missing, None)
    rows = [{"path": f"{n}.jpg", "embedding": vector} for n, vector in enumerate(vectors)]
    source = open_set(table_of(tmp_path / f"set{suffix}", rows))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        report = import_set(library, source)
        assert (report.imported, report.skipped) == (2, 2)
        assert f"row {missing}: its vector is missing, zero or not finite" in report.problems


def test_addresses_in_the_place_of_paths_are_not_files_of_this_machine(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = pictures(tmp_path / "pictures", 1)
    [file] = folder.iterdir()
    texts = [
        "s3://bucket/a/b.jpg",
        "gs://bucket/c%20d.png?version=1",
        "https://example.org/e.jpg",
        f"file://{file}",
    ]
    vectors = unit(4).tolist()
    rows = [{"path": t, "embedding": v} for t, v in zip(texts, vectors, strict=True)]
    source = open_set(table_of(tmp_path / "set.jsonl", rows))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        report = import_set(library, source, pictures=folder)
        found = [
            (record.info.url, record.path) for record in library.images(library.select(Filters()))
        ]
    assert (report.imported, report.read) == (4, 1)
    assert sorted(found, key=str) == sorted(
        [
            (texts[0], "bucket/a/b.jpg"),
            (texts[1], "bucket/c d.png"),
            (texts[2], "example.org/e.jpg"),
            (None, file.name),
        ],
        key=str,
    )
