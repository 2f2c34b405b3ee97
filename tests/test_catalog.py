"""The catalog keeps what a library knows: all of a batch or nothing, and never an id twice."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from helpers_catalog import DIMENSION, TOP, file, new_catalog, picture, unit

from sightline.indexer.catalog import Catalog, Months, Suggestion, WriteResult
from sightline.indexer.errors import LibraryError, QueryError
from sightline.indexer.types import (
    Condition,
    Failure,
    FileStamp,
    Filters,
    Known,
    Location,
    Root,
    TextLine,
)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Catalog, Root]]:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        yield catalog, root


def test_an_image_is_read_as_it_was_written(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    image = picture(
        "2023 Italia/Città/IMG 1#%'\".jpg",
        width=3000,
        height=4000,
        format="heif",
        orientation=6,
        taken_at=datetime(2023, 7, 14, 18, 3, 9, 120_000),
        camera="Apple iPhone 12",
        lens="back camera 4.2mm f/1.6",
        latitude=-45.5,
        longitude=179.25,
        title="Tramonto",
        caption="Il sole\nva giù",
        place="Roma, Italia",
        keywords=("sea", "Évora", "sea"),
        people=("Ada", "Grace Hopper"),
        rating=0,
        color="#a0b0c0",
    )
    image = dataclasses.replace(image, photo=dataclasses.replace(image.photo, phash=-(2**63)))
    written = catalog.write(root, images=[image])
    record = catalog.image(written.images[0])
    assert record is not None
    assert record.info == image.photo.info
    assert (record.path, record.root) == (image.candidate.path, str(TOP))
    assert record.absolute == image.candidate.absolute
    assert (record.size, record.mtime_ns) == (1000, 1)
    assert (record.content_hash, record.phash) == (image.photo.content_hash, -(2**63))
    assert record.added_at.tzinfo is None
    assert (catalog.vectors(np.array(written.images)) == image.vector).all()
    assert catalog.find(image.candidate.absolute) == record
    assert catalog.find(TOP / "elsewhere.jpg") is None


def test_metadata_with_invalid_or_odd_text_is_stored(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    written = catalog.write(
        root,
        images=[
            picture("a.jpg", title="bad \udcff sign", caption="nul \x00 here", keywords=("\ud800",))
        ],
    )
    record = catalog.image(written.images[0])
    assert record is not None
    assert record.info.title == "bad \\xff sign"
    assert record.info.caption == "nul \x00 here"
    catalog.write(root, failed=[Failure(str(TOP), "odd \udcff.jpg", 1, 1, "not a name")])
    assert [failure.path for failure in catalog.failures()] == ["odd \\xff.jpg"]
    with pytest.raises(LibraryError, match="not UTF-8"):
        catalog.write(
            root, images=[picture("x").__class__(file("b\udcff.jpg"), picture("x").photo, unit(1))]
        )


def test_known_images_and_failures_are_listed_per_root(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    other = catalog.add_root(Path("/mnt/disk"))
    catalog.write(root, images=[picture("a/b.jpg", size=5, mtime_ns=7), picture("c.jpg", size=6)])
    catalog.write(other, images=[picture("a/b.jpg", content="twin")])
    catalog.write(root, failed=[Failure(str(TOP), "bad.jpg", 3, 4, "cut short")])
    assert catalog.known(root) == {
        "a/b.jpg": Known(1, "a/b.jpg", 5, 7),
        "c.jpg": Known(2, "c.jpg", 6, 1),
    }
    assert catalog.known(other) == {"a/b.jpg": Known(3, "a/b.jpg", 1000, 1)}
    assert catalog.failed(root) == {"bad.jpg": FileStamp(3, 4)}
    assert catalog.failed(other) == {}
    assert catalog.failures(root) == [Failure(str(TOP), "bad.jpg", 3, 4, "cut short")]
    assert catalog.known_sizes({5, 6, 7}) == {5, 6}
    twin = catalog.image(3)
    assert twin is not None
    assert [image.id for image in catalog.with_hash(twin.content_hash)] == [3]
    assert catalog.with_hash("none") == []
    assert catalog.root_counts() == {root.id: 2, other.id: 1}
    assert catalog.add_root(TOP) == root


def test_a_changed_image_keeps_its_id_and_gets_a_new_version(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg", keywords=("old",)), picture("b.jpg")])
    catalog.write_labels([(1, "dog", 0.3)])
    before = catalog.version
    changed = picture("a.jpg", seed=99, image=1, mtime_ns=2, keywords=("new",))
    assert catalog.write(root, images=[changed]).images == (1,)
    assert catalog.version == before + 1
    assert catalog.changes(before).ids.tolist() == [1]
    assert (catalog.vectors(np.array([1])) == unit(99)).all()
    record = catalog.image(1)
    assert record is not None
    assert record.info.keywords == ("new",)
    assert catalog.labels([1]) == {}
    # The same file once more, by a run that did not know of it: no second row.
    assert catalog.write(root, images=[picture("a.jpg", seed=98)]).images == (1,)
    assert catalog.count == 2


def test_images_move_and_can_swap_paths(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg"), picture("b.jpg"), picture("old/c.jpg")])
    before = catalog.version
    catalog.write(
        root, moved=[(1, file("b.jpg")), (2, file("a.jpg")), (3, file("new/c.jpg", mtime_ns=9))]
    )
    assert {path: known.id for path, known in catalog.known(root).items()} == {
        "b.jpg": 1,
        "a.jpg": 2,
        "new/c.jpg": 3,
    }
    assert catalog.version == before, "moving costs the vector index nothing"
    assert [one.text for one in catalog.suggest("folder", "o")] == []
    assert catalog.full_text_search("new", 9).tolist() == [3]
    assert catalog.full_text_search("old", 9).tolist() == []


def test_an_image_is_deleted_when_another_takes_its_path(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg"), picture("b.jpg")])
    written = catalog.write(root, moved=[(1, file("b.jpg"))])
    assert written.removed == (2,)
    assert catalog.select().tolist() == [1]
    assert catalog.changes(0).removed.tolist() == [2]


def test_a_copy_shares_everything_but_its_path(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg", camera="X-T5", keywords=("sea", "sun"))])
    catalog.write_labels([(1, "dog", 0.3)])
    written = catalog.write(root, copied=[(1, file("copies/a.jpg", mtime_ns=5))])
    assert written.copied == ((2, 1),)
    first, second = catalog.images([1, 2])
    assert second.info == first.info
    assert second.content_hash == first.content_hash
    assert (second.path, second.mtime_ns) == ("copies/a.jpg", 5)
    assert catalog.labels([2]) == {2: [("dog", 0.3)]}
    assert (catalog.vectors(np.array([1])) == catalog.vectors(np.array([2]))).all()
    with pytest.raises(LibraryError, match="no longer in the library"):
        catalog.write(root, copied=[(77, file("b.jpg"))])
    with pytest.raises(LibraryError, match="no longer in the library"):
        catalog.write(root, moved=[(77, file("b.jpg"))])


def test_a_touched_file_changes_only_its_date(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg")])
    catalog.write(root, touched=[(1, file("a.jpg", mtime_ns=77))])
    assert catalog.known(root)["a.jpg"].mtime_ns == 77
    assert catalog.version == 1


def test_a_failure_is_stored_until_the_file_is_readable_or_deleted(
    made: tuple[Catalog, Root],
) -> None:
    catalog, root = made
    bad = [Failure(str(TOP), f"{name}.jpg", 1, 1, "cut short") for name in "ab"]
    catalog.write(root, failed=bad)
    catalog.write(root, failed=[dataclasses.replace(bad[0], reason="still cut short")])
    assert [failure.reason for failure in catalog.failures()] == ["still cut short", "cut short"]
    catalog.write(root, images=[picture("a.jpg")])
    assert list(catalog.failed(root)) == ["b.jpg"]
    catalog.forget_failures(root, ["b.jpg"])
    assert catalog.failure_count == 0


def test_ids_are_never_reused(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg"), picture("b.jpg")])
    assert catalog.remove([2, 55]).tolist() == [2]
    assert catalog.write(root, images=[picture("c.jpg")]).images == (3,)
    catalog.remove([1, 3])
    assert catalog.write(root, images=[picture("d.jpg")]).images == (4,)
    path = catalog.path
    catalog.close()
    with Catalog.open(path) as again:
        again.remove([4])
        assert again.write(root, images=[picture("e.jpg")]).images == (5,)


def test_deleting_no_images_keeps_the_version(made: tuple[Catalog, Root]) -> None:
    catalog, _ = made
    assert catalog.remove([3]).tolist() == []
    assert catalog.version == 0


def test_a_batch_is_written_completely_or_not_at_all(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg")])
    seen: list[WriteResult] = []

    def fail(written: WriteResult) -> None:
        seen.append(written)
        raise OSError("the disk with the thumbnails is gone")

    with pytest.raises(OSError, match="thumbnails"):
        catalog.write(
            root,
            images=[picture("b.jpg"), picture("a.jpg", seed=5, image=1)],
            failed=[Failure(str(TOP), "bad.jpg", 1, 1, "no")],
            removed=[1],
            before_commit=fail,
        )
    assert len(seen) == 1
    assert catalog.select().tolist() == [1]
    assert catalog.version == 1
    assert catalog.failure_count == 0
    assert catalog.full_text_search("b", 5).tolist() == []
    assert (catalog.vectors(np.array([1])) == picture("a.jpg").vector).all()
    assert catalog.check() == []


@pytest.mark.parametrize(
    ("vector", "what"),
    [
        (np.full(DIMENSION, np.nan, np.float32), "not finite"),
        (np.full(DIMENSION, np.inf, np.float32), "not finite"),
        (np.full(DIMENSION, 1e9, np.float32), "not finite"),
        (np.zeros(DIMENSION, np.float32), "zero"),
        (np.ones(DIMENSION + 1, np.float32), "another model"),
        (np.ones((1, DIMENSION), np.float32), "another model"),
    ],
)
def test_a_vector_without_a_cosine_is_rejected(
    made: tuple[Catalog, Root], vector: np.ndarray, what: str
) -> None:
    catalog, root = made
    bad = dataclasses.replace(picture("bad.jpg"), vector=vector)
    with pytest.raises(LibraryError, match=what):
        catalog.write(root, images=[picture("good.jpg"), bad])
    assert catalog.count == 0


def test_a_file_that_is_twice_in_a_batch_is_rejected(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    with pytest.raises(LibraryError, match=r"a\.jpg is twice in one batch"):
        catalog.write(root, images=[picture("a.jpg"), picture("a.jpg")])


def test_vectors_are_returned_in_the_order_of_the_ids(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture(f"{n}.jpg", seed=n) for n in range(1, 6)])
    found = catalog.vectors(np.array([5, 1, 9, 1, -1, 3]))
    assert found.dtype == np.float32
    assert (found[[0, 1, 3, 5]] == [unit(5), unit(1), unit(1), unit(3)]).all()
    assert np.isnan(found[[2, 4]]).all()
    assert catalog.vectors(np.empty(0, np.int64)).shape == (0, DIMENSION)
    assert [image.id for image in catalog.images([3, 9, 1, 3])] == [3, 1, 3]


@pytest.mark.parametrize("size", [1, 3, 10, 11, 100])
def test_blocks_contain_every_vector_once(made: tuple[Catalog, Root], size: int) -> None:
    catalog, root = made
    for start in (0, 5):
        catalog.write(root, images=[picture(f"{n}.jpg", seed=n) for n in range(start, start + 5)])
    blocks = list(catalog.blocks(size))
    assert max(len(ids) for ids, _ in blocks) <= size
    assert np.concatenate([ids for ids, _ in blocks]).tolist() == list(range(1, 11))
    assert (np.concatenate([v for _, v in blocks]) == [unit(n) for n in range(10)]).all()
    catalog.write(root, images=[picture("2.jpg", seed=50, image=3)])
    newer = list(catalog.blocks(size, after_version=1))
    assert [i for ids, _ in newer for i in ids.tolist()] == [6, 7, 8, 9, 10, 3]
    until = list(catalog.blocks(size, until_version=2))
    assert [i for ids, _ in until for i in ids.tolist()] == [1, 2, 4, 5, 6, 7, 8, 9, 10]


def test_every_query_works_on_an_empty_catalog(made: tuple[Catalog, Root]) -> None:
    catalog, _ = made
    assert list(catalog.blocks()) == []
    assert list(catalog.blocks(after_version=0)) == []
    assert len(catalog.changes(0)) == 0
    assert catalog.select().tolist() == catalog.random(5).tolist() == []
    assert catalog.histogram() == Months((), 0)
    assert catalog.suggest("folder") == catalog.suggest("year") == []
    assert catalog.full_text_search("x", 5).tolist() == []
    assert catalog.check() == []


def test_random_ids_are_uniform_and_determined_by_their_seed(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture(f"{n}.jpg", seed=n) for n in range(400)])
    assert len(set(catalog.random(39, seed=3).tolist()) & set(range(1, 401))) == 39
    catalog.remove([i for i in range(1, 401) if i % 2])
    ids = catalog.random(20, seed=3)
    assert len(set(ids.tolist())) == 20
    assert ids.tolist() != sorted(ids.tolist())
    assert (ids % 2 == 0).all()
    assert (catalog.random(20, seed=3) == ids).all()
    assert (catalog.random(20, seed=4) != ids).any()
    assert sorted(catalog.random(1000).tolist()) == catalog.select().tolist()
    drawn = np.concatenate([catalog.random(10, seed=seed) for seed in range(400)])
    tally = np.bincount(drawn, minlength=401)[2::2]
    assert 5 < tally.min() <= tally.max() < 45, "20 expected of each, deviation 4.4"
    catalog.remove(range(1, 380))
    assert len(catalog.random(5)) == 5, "few are left of many ids"


def test_runs_are_recorded(made: tuple[Catalog, Root]) -> None:
    catalog, _ = made
    run = catalog.start_run(["/a", "/b"])
    catalog.update_run(run, {"found": 3, "added": 1, "newly_failed": 1}, total=9)
    (kept,) = catalog.runs()
    assert kept.finished_at is None
    assert kept.folders == ("/a", "/b")
    catalog.finish_run(run, {"found": 4, "added": 2, "interrupted": True})
    second = catalog.start_run([])
    latest, first = catalog.runs()
    assert latest.id == second
    assert first.finished_at is not None
    assert first.counts == {
        "found": 4, "added": 2, "updated": 0, "moved": 0, "removed": 0, "unchanged": 0, "failed": 0,
        "interrupted": 1,
    }  # fmt: skip


def test_a_root_moves_without_encoding_again(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a/b.jpg")])
    version = catalog.version
    moved = catalog.move_root(TOP, Path("/mnt/Fotos"))
    assert moved == Root(root.id, Path("/mnt/Fotos"))
    assert catalog.roots() == [moved]
    record = catalog.image(1)
    assert record is not None
    assert record.absolute == Path("/mnt/Fotos/a/b.jpg")
    assert catalog.version == version
    assert catalog.full_text_search("fotos", 5).tolist() == [1]
    assert catalog.full_text_search("pictures", 5).tolist() == []
    catalog.add_root(TOP)
    with pytest.raises(LibraryError, match="is a folder of this library already"):
        catalog.move_root(TOP, Path("/mnt/Fotos"))
    with pytest.raises(LibraryError, match="is not a folder of this library"):
        catalog.move_root(Path("/nowhere"), Path("/mnt/x"))
    with pytest.raises(LibraryError, match="not an absolute path"):
        catalog.add_root(Path("relative"))


def test_deleting_a_root_deletes_its_images_and_failures(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    other = catalog.add_root(Path("/mnt/disk"))
    catalog.write(root, images=[picture("a.jpg")], failed=[Failure(str(TOP), "x", 1, 1, "no")])
    catalog.write(other, images=[picture("b.jpg")])
    assert catalog.remove_root(TOP).tolist() == [1]
    assert catalog.roots() == [other]
    assert catalog.select().tolist() == [2]
    assert catalog.failures() == []
    assert catalog.changes(0).removed.tolist() == [1]
    assert catalog.check() == []


def test_full_text_search_covers_names_folders_titles_keywords_places_and_dates(
    made: tuple[Catalog, Root],
) -> None:
    catalog, root = made
    catalog.write(
        root,
        images=[
            picture("2019 Germany/Burgen/eltz.jpg", taken_at=datetime(2019, 7, 4)),
            picture("GermanyTrip2018/IMG_0042.jpg", caption="a castle on a hill"),
            picture("x/北京旅行/DSC00123.jpg", title="Тадж-Махал", keywords=("Café Central",)),
            picture("y/img_7.jpg", place="Évora, Portugal"),
        ],
    )

    def found(text: str) -> list[int]:
        return catalog.full_text_search(text, 10).tolist()

    assert found("germany 2019 castle") == [], "every word has to be there"
    assert found("germany 2019") == [1]
    assert found("germany castle") == [2]
    assert found("july") == [1]
    assert found("germany") == [1, 2]
    assert found("germany trip") == [2]
    assert (
        found("cafe") == found("CENTRAL") == found("махал") == found("北京") == found("旅行") == [3]
    )
    assert found("dsc00123") == found("DSC00123.jpg") == [3]
    assert found("京旅行程") == []
    assert found("evora") == [4]
    assert found("castle of the hill") == [2]
    assert found("pictures") == [1, 2, 3, 4], "the root's own name counts"
    assert found("a on") == [2], "stop words count if there are no other words"
    assert found("") == found('"') == found("* OR NEAR(") == found("(((") == []
    assert found('castle" AND "hill') == [2]
    assert found('castle" AND "nothing') == []
    assert catalog.full_text_search("pictures", 2).tolist() == [1, 2]
    catalog.remove([2])
    assert found("castle") == []


def test_suggestions_have_image_counts(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(
        root,
        images=[
            picture("2023/Italy/Rome/a.jpg", camera="Canon EOS R6", taken_at=datetime(2023, 5, 1)),
            picture("2023/Italy/b.jpg", camera="Apple iPhone 12", keywords=("Sea", "sea")),
            picture("2024 Italy again/c.jpg", camera="Apple iPhone 12", keywords=("SEA",)),
            picture(
                "d.png", format="png", rating=3, lens="Nikkor 50", taken_at=datetime(2024, 1, 1)
            ),
        ],
    )
    catalog.write_labels([(1, "dog", 0.5), (2, "Dog", 0.4), (99, "gone", 1.0)])

    def suggested(kind: str, prefix: str) -> list[tuple[str, int]]:
        return [(one.text, one.count) for one in catalog.suggest(kind, prefix)]

    assert suggested("folder", "it") == [("Italy", 3), ("2024 Italy again", 1)]
    assert suggested("folder", "2023/i") == [("2023/Italy", 2)]
    assert suggested("folder", "taly") == []
    assert suggested("folder", "pict") == [("Pictures", 4)]
    assert suggested("camera", "iph") == [("Apple iPhone 12", 2)]
    assert suggested("camera", "") == [("Apple iPhone 12", 2), ("Canon EOS R6", 1)]
    assert suggested("lens", "nik") == [("Nikkor 50", 1)]
    assert suggested("type", "j") == [("jpeg", 3)]
    assert suggested("year", "") == [("2023", 1), ("2024", 1)]
    assert [count for _, count in suggested("keyword", "s")] == [2]
    assert [count for _, count in suggested("label", "do")] == [2]
    assert catalog.facets("rating") == [Suggestion("rating", "3", 1)]
    assert len(catalog.suggest("camera", "", limit=1)) == 1
    with pytest.raises(ValueError, match="no kind"):
        catalog.suggest("nonsense")
    for one in catalog.suggest("folder", ""):
        assert catalog.matching(Filters((Condition("in", one.text),))) == one.count


def test_value_texts_are_those_of_the_images(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(
        root,
        images=[
            picture("2023/Italy/a.jpg", camera="Canon EOS R6", keywords=("Sea", "sea", "boat")),
            picture("2023/Italy/b.jpg", camera="Canon EOS R6", lens="Nikkor 50", people=("Ana",)),
            picture("c.jpg", camera="Apple iPhone 12", keywords=("SEA",)),
        ],
    )
    catalog.write_labels([(1, "dog", 0.5), (2, "Dog", 0.4)])
    rome, oslo = Location("IT", "Italy", None, "Rome"), Location("NO", "Norway", None, "Oslo")
    catalog.write_locations([(1, rome), (3, oslo)])
    catalog.kept.create_collection("Summer")

    def folded() -> set[str]:
        return {text.lower() for text in catalog.value_texts() if text}

    always = {"2023/italy", "pictures", "canon eos r6", "nikkor 50", "sea", "boat", "ana", "dog"}
    always |= {"rome", "italy", "favourites", "summer"}
    assert folded() == {*always, "apple iphone 12", "oslo", "norway"}
    catalog.remove([3])
    assert folded() == always


def test_images_are_sorted_and_counted_by_date(
    made: tuple[Catalog, Root], monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, root = made
    taken = [datetime(2023, 5, 2), None, datetime(2021, 1, 1), datetime(2023, 5, 2), None]
    catalog.write(
        root,
        images=[
            picture(f"{n}.jpg", taken_at=when, mtime_ns=100 - n) for n, when in enumerate(taken)
        ],
    )
    newest, oldest = [1, 4, 3, 2, 5], [3, 4, 1, 5, 2]
    everything = catalog.select()
    for few in (5_000, 0):  # small sets are asked of SQLite, large ones of arrays
        monkeypatch.setattr("sightline.indexer.catalog.reader.FEW", few)
        assert catalog.by_date(everything).tolist() == newest
        assert catalog.by_date(everything, descending=False).tolist() == oldest
        assert catalog.by_date(np.array([5, 3, 99, 4])).tolist() == [4, 3, 5]
        assert catalog.histogram(everything) == catalog.histogram()
        assert catalog.histogram(np.array([1, 2, 99])) == Months((("2023-05", 1),), 1)
    assert catalog.histogram() == Months((("2021-01", 1), ("2023-05", 2)), 2)


def test_labels_are_stored_replaced_and_ranked(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg"), picture("b.jpg")])
    assert not catalog.has("label")
    catalog.write_labels([(1, "dog", 0.2), (1, "Cat", 0.6), (2, "dog", 0.3)])
    assert catalog.labels([1, 2, 3]) == {1: [("Cat", 0.6), ("dog", 0.2)], 2: [("dog", 0.3)]}
    catalog.write_labels([(2, "Dog", 0.9)], replace=["DOG"])
    assert catalog.labels([1, 2]) == {1: [("Cat", 0.6)], 2: [("Dog", 0.9)]}
    catalog.remove([2])
    assert catalog.facets("label") == [Suggestion("label", "Cat", 1)]
    assert catalog.has("label")
    assert not catalog.has("keyword")


def test_a_commit_of_any_process_is_noticed(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    with Catalog.open(catalog.path, read_only=True) as other:
        assert not other.changed_since_last_call()
        assert other.count == 0
        catalog.write(root, images=[picture("a.jpg")])
        assert other.changed_since_last_call()
        assert not other.changed_since_last_call()
        assert (other.count, other.version) == (1, 1)
        assert catalog.changed_since_last_call()
        with pytest.raises(LibraryError, match="opened for reading only"):
            other.remove([1])


def test_readers_in_many_threads_see_complete_batches(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                ids = catalog.select()
                if len(ids) % 7 or np.isnan(catalog.vectors(ids)).any():
                    wrong.append(ids)
                changes = catalog.changes(0)
                if len(changes.ids) != changes.version * 7:
                    wrong.append(changes)
                if sum(len(block) for block, _ in catalog.blocks(5)) % 7:
                    wrong.append("blocks")
        except Exception as error:
            wrong.append(error)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for batch in range(30):
        catalog.write(root, images=[picture(f"{batch}/{n}.jpg") for n in range(7)])
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_many_threads_can_write(made: tuple[Catalog, Root]) -> None:
    catalog, root = made

    def write(name: int) -> None:
        for n in range(10):
            catalog.write(root, images=[picture(f"{name}/{n}.jpg")])

    writers = [threading.Thread(target=write, args=(name,)) for name in range(5)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert catalog.count == catalog.version == 50


def test_two_processes_can_write(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    wrong: list[Exception] = []

    def write(name: int, one: Catalog) -> None:
        try:
            for n in range(15):
                one.write(root, images=[picture(f"{name}/{n}.jpg")])
        except LibraryError as error:
            wrong.append(error)

    with Catalog.open(catalog.path) as other:
        writers = [threading.Thread(target=write, args=pair) for pair in ((0, catalog), (1, other))]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert wrong == []
        assert catalog.count == other.count == catalog.version == 30


@pytest.mark.parametrize("after_version", [None, 0])
def test_blocks_are_of_the_version_at_their_start(
    made: tuple[Catalog, Root], after_version: int | None
) -> None:
    catalog, root = made
    for n in range(6):
        catalog.write(root, images=[picture(f"{n}.jpg", seed=n)])
    begun = catalog.version
    blocks = catalog.blocks(2, after_version=after_version)
    found = dict(zip(*map(list, next(blocks)), strict=True))
    catalog.write(root, images=[picture("new.jpg"), picture("4.jpg", seed=40, image=5)])
    catalog.remove([1, 6])
    for ids, vectors in blocks:
        found.update(zip(ids.tolist(), vectors, strict=True))
    assert sorted(found) == [1, 2, 3, 4], "5 has changed, 6 is gone, 7 is new"
    changes = catalog.changes(begun)
    assert changes.ids.tolist() == [5, 7]
    assert changes.removed.tolist() == [1, 6]


def test_records_are_cached_until_any_process_commits(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    catalog.write(root, images=[picture(f"{n}.jpg", title="old") for n in range(3)])
    first = catalog.images([1, 2])
    again = catalog.images([3, 2, 1, 9])
    assert [record.id for record in again] == [3, 2, 1]
    assert again[2] is first[0]
    with Catalog.open(catalog.path) as other:
        other.write(root, images=[picture("0.jpg", image=1, title="new")])
        other.remove([2])
    [one, three] = catalog.images([1, 2, 3])
    assert (one.info.title, three.info.title) == ("new", "old")


def test_images_that_are_read_together_are_of_one_commit(made: tuple[Catalog, Root]) -> None:
    catalog, root = made

    def write(turn: int) -> None:
        titled = [picture(f"{n}.jpg", image=n + 1, title=str(turn)) for n in range(4)]
        catalog.write(root, images=titled)

    catalog.write(root, images=[picture(f"{n}.jpg", title="0") for n in range(4)])
    over = threading.Event()

    def write_on() -> None:
        for turn in itertools.takewhile(lambda _: not over.is_set(), itertools.count(1)):
            write(turn)

    writer = threading.Thread(target=write_on)
    writer.start()
    seen = set()
    try:
        while len(seen) < 40:
            assert writer.is_alive()
            catalog.images([2])
            titles = {record.info.title for record in catalog.images([1, 2, 3, 4])}
            assert len(titles) == 1
            seen |= titles
    finally:
        over.set()
        writer.join()


def test_a_closed_catalog_raises_an_error(made: tuple[Catalog, Root]) -> None:
    catalog, root = made
    blocks = catalog.blocks(1)
    catalog.close()
    catalog.close()
    for use in (lambda: catalog.version, catalog.select, lambda: next(blocks)):
        with pytest.raises(LibraryError, match="has been closed"):
            use()
    with pytest.raises(LibraryError, match="has been closed"):
        catalog.write(root, images=[picture("a.jpg")])


def test_text_in_images_is_stored_found_copied_and_deleted_with_its_image(
    made: tuple[Catalog, Root],
) -> None:
    catalog, root = made
    catalog.write(root, images=[picture("a.jpg"), picture("b.jpg"), picture("c.jpg")])
    assert catalog.texts([1]) == {}
    lines = [
        TextLine("Café Central", 0.9, (0.1, 0.2, 0.5, 0.3)),
        TextLine("closed", 1.0, (0, 0, 1, 1)),
    ]
    catalog.write_texts([(1, lines), (2, []), (99, lines)], engine="toy 1")
    assert catalog.texts([1, 2, 3]) == {1: lines}
    assert catalog.text_count == 1

    def found(value: str) -> list[int]:
        return catalog.select(Filters((Condition("text", value),))).tolist()

    assert found("cafe central") == found("CLO*") == found("closed") == [1]
    assert found("central cafe") == found("clo") == found("café closed") == []
    assert catalog.full_text_search("central a.jpg", 5).tolist() == [1]
    with pytest.raises(QueryError, match="no word"):
        found("*")
    catalog.write(root, copied=[(1, file("copy.jpg"))])
    assert catalog.texts([4]) == {4: lines}
    assert found("central") == [1, 4]
    catalog.write(root, images=[picture("a.jpg", seed=9, image=1, mtime_ns=2)])
    assert found("central") == [4]
    catalog.remove([4])
    assert catalog.text_count == 0
    assert catalog.check() == []
