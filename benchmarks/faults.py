"""Every step of a library that writes, made the last one: killed, torn, on a full or broken disk.

    python -m benchmarks.faults                       # every point of every act, four faults each
    python -m benchmarks.faults --faults kill --sample 50
    python -m benchmarks.faults --part 3/40           # the third of forty runs that make the whole
    python -m benchmarks.faults --list                # what is written, in order

An *act* is something that writes a library: its first index, a run over a folder in which pictures
came, changed, moved, were copied and went, a rebuild of the vector index, a repair, a folder that
moves or is forgotten, an upgrade. The kernel holds it before each call that changes a file of the
library (``tests/helpers_faults.py``), and there it is killed with SIGKILL (``kill``), killed in the
middle of the write (``torn``), or told that the disk is full from now on (``full``) or failed
(``broken``). Then, each time:

* a server would go on: the library opens, and what it holds is found and has its thumbnail;
* an error is one of the program's own, one line;
* the next run ends where an undisturbed one does: every picture once with its embedding, thumbnail
  and id, the same failures, nothing orphaned, no file left over, index and catalog agreeing, and
  ``sightline doctor`` finding nothing.

The vector index is quantised from 300 pictures on here instead of 50,000, so that it takes part.
Printed is a table; the exit status is 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

# One thread each: several of these run side by side, and spinning threads would hold them up.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

TOP = Path(__file__).resolve().parent.parent
sys.path.append(str(TOP / "tests"))

import helpers_faults as faults  # noqa: E402
from helpers_library import as_bytes, draw  # noqa: E402
from helpers_models import build_clip  # noqa: E402

from sightline.indexer.encoder import Encoder  # noqa: E402
from sightline.indexer.indexing import doctor  # noqa: E402
from sightline.indexer.indexing.run import update_library  # noqa: E402
from sightline.indexer.library import Library  # noqa: E402
from sightline.indexer.vector_index import build, tune  # noqa: E402
from sightline.indexer.vector_index import index as vector_index  # noqa: E402
from sightline.indexer.vector_index.manifest import MANIFEST, read_manifest  # noqa: E402
from sightline.indexer.zero_shot import captions  # noqa: E402

MANY = 300
"""Pictures of the larger library: a code book has 256 entries."""


def many_changes(folder: Path) -> None:
    """What a person does to a folder between two runs."""
    for seed in range(900, 908):
        picture(folder, f"new/{seed}.jpg", seed)
    for seed in range(3):
        picture(folder, f"{seed:03}.jpg", 950 + seed)
    for seed in (10, 11):
        os.utime(folder / f"{seed:03}.jpg", ns=(1, 1))
    for seed in (20, 21, 22):
        (folder / f"{seed:03}.jpg").rename(folder / f"new/moved-{seed}.jpg")
    shutil.copy(folder / "030.jpg", folder / "new/copy.jpg")
    for seed in (40, 41, 42):
        (folder / f"{seed:03}.jpg").unlink()
    picture(folder, "broken-1.jpg", 960)  # mended
    (folder / "broken-2.jpg").write_bytes(b"corrupt since")


def picture(folder: Path, name: str, seed: int) -> None:
    """A small JPEG, of which no two are alike."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(as_bytes(draw(seed, (48, 36))))


@dataclass
class Act:
    """Something that writes the library in ``directory``."""

    name: str
    before: Path
    """The library it starts from; it may not exist."""
    work: Callable[[Path], object]
    again: Callable[[Path], object]
    """What a person does next."""
    served: bool = True
    """Whether a server can use the library at any moment of it."""


class Stage:
    """A model, folders of pictures, and the acts on them; ``place`` holds everything."""

    def __init__(self, place: Path, wanted: list[str]) -> None:
        self.place = place
        self.encoder = Encoder.load(str(build_clip(place / "model")), device="cpu")
        type(self.encoder).batch_size = property(lambda self: 4)  # type: ignore[assignment]
        build.EXACT_BELOW = vector_index.EXACT_BELOW = MANY // 2
        vector_index.EXTEND_ROWS, vector_index.EXTEND_FRACTION = 5, 0.0
        # Measuring an index writes nothing and takes most of the time.
        tune.QUERIES, captions.CAPTIONS = 10, captions.CAPTIONS[:10]
        few, many = place / "few", place / "many"
        for folder, count in ((few, 10), (many, MANY)):
            folder.mkdir()
            for seed in range(count):
                picture(folder, f"{seed:03}.jpg", seed + count)
            (folder / "broken-1.jpg").write_bytes(b"no picture")
            (folder / "broken-2.jpg").write_bytes(b"no picture either")
        self.acts = [a for a in self._acts(few, many) if not wanted or a.name in wanted]
        needed = {act.before.name for act in self.acts}
        steps: list[Callable[[], object]] = []
        if needed - {"none", "old"}:
            steps += [lambda: self.index(place / "large", many), lambda: many_changes(many)]
        if needed & {"settled", "two", "damaged"}:
            steps.append(lambda: self.prepare(few, many))
        for step in steps:
            if said := in_child(step):
                raise SystemExit(said)
        (place / "old").mkdir()
        oldest = TOP / "tests/fixtures/catalog-1-images_and_embeddings.db.gz"
        (place / "old/catalog.db").write_bytes(gzip.decompress(oldest.read_bytes()))

    def prepare(self, few: Path, many: Path) -> None:
        """The libraries that acts start from."""
        shutil.copytree(self.place / "large", self.place / "settled")
        self.index(self.place / "settled", many)
        shutil.copytree(self.place / "settled", self.place / "two")
        self.index(self.place / "two", few)
        shutil.copytree(self.place / "two", self.place / "damaged")
        damage(self.place / "damaged")

    def _acts(self, few: Path, many: Path) -> Iterator[Act]:
        elsewhere = self.place / "elsewhere"
        elsewhere.symlink_to(few)
        index = self.index
        first = self.place / "none"
        yield Act("first run", first, lambda d: index(d, few), lambda d: index(d, few))
        yield Act("later run", self.place / "large", lambda d: index(d, many), index)
        yield Act("rebuild", self.place / "settled", self.rebuild, self.rebuild)
        yield Act("repair", self.place / "damaged", self.repair, self.repair, served=False)
        yield Act(
            "move a root",
            self.place / "two",
            lambda d: self.move(d, few, elsewhere),
            lambda d: self.move(d, few, elsewhere),
        )
        yield Act(
            "forget a root",
            self.place / "two",
            lambda d: self.forget(d, few),
            lambda d: self.forget(d, few),
        )
        yield Act("upgrade", self.place / "old", self.upgrade, self.upgrade, served=False)

    def index(self, directory: Path, *folders: Path) -> None:
        """``sightline index``."""
        if Library.exists(directory):
            library = Library.open(directory)
        else:
            library = Library.create(
                directory,
                model=self.encoder.model,
                revision=self.encoder.revision,
                dimension=self.encoder.dimension,
            )
        with library:
            update_library(library, self.encoder, folders, workers=1)

    def rebuild(self, directory: Path) -> None:
        """``sightline rebuild``."""
        with Library.open(directory) as library, library.writing():
            library.rebuild_index(
                kind="ivf-pq", device="cpu", text_queries=lambda: library.sample()[:50]
            )

    def repair(self, directory: Path) -> None:
        """``sightline doctor --repair`` and ``sightline index``."""
        doctor.repair(directory)
        self.index(directory)

    def move(self, directory: Path, old: Path, new: Path) -> None:
        """``sightline roots --move``, unless it was done."""
        with Library.open(directory) as library:
            if old in library.root_paths():
                library.move_root(old, new)
        self.index(directory)

    def forget(self, directory: Path, folder: Path) -> None:
        """``sightline roots --forget``, unless it was done."""
        with Library.open(directory) as library:
            if folder in library.root_paths():
                library.forget_root(folder)
        self.index(directory)

    def upgrade(self, directory: Path) -> None:
        """Opening a library of an earlier version."""
        Library.open(directory).close()


def damage(directory: Path) -> None:
    """A corrupt page of embeddings, a vector that is gone, and thumbnails that are."""
    path = directory / "catalog.db"
    with sqlite3.connect(path) as connection:
        [(page,)] = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'embeddings'"
        ).fetchall()
        [(size,)] = connection.execute("PRAGMA page_size").fetchall()
        connection.execute("DELETE FROM embeddings WHERE image_id = 7")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(path.read_bytes())
    data[page * size : page * size + 600] = b"\xa5" * 600
    path.write_bytes(data)
    with sqlite3.connect(directory / "thumbnails.db") as connection:
        connection.execute("DELETE FROM thumbnails WHERE image_id < 4")
    connection.close()


# what a library holds -----------------------------------------------------------------------------


def contents(directory: Path) -> dict[str, Any]:
    """All that must be the same in the end, whatever came between."""
    with Library.open(directory, read_only=True) as library:
        ids = library.select()
        return {
            "images": {
                (record.root, record.path): (record.id, record.size, record.mtime_ns, record.info)
                for record in library.images(ids.tolist())
            },
            "hashes": {record.path: record.content_hash for record in library.images(ids.tolist())},
            "thumbnails": {
                record.path: library.thumbnail(record.id) for record in library.images(ids.tolist())
            },
            "failures": sorted((f.root, f.path, f.size, f.reason) for f in library.failures()),
            "roots": sorted(map(str, library.root_paths())),
            "vectors": dict(
                zip(
                    (record.path for record in library.images(ids.tolist())),
                    library.vectors(ids),
                    strict=True,
                )
            ),
        }


def compare(found: dict[str, Any], wanted: dict[str, Any], highest: int) -> None:
    """AssertionError unless ``found`` is ``wanted``; ids up to ``highest`` were given before."""
    assert len(found["images"]) == len(wanted["images"]), "pictures are missing, or there twice"
    for place, (id_, *facts) in wanted["images"].items():
        assert place in found["images"], f"{place} is missing"
        assert found["images"][place][1:] == tuple(facts), f"{place} is another"
        assert id_ > highest or found["images"][place][0] == id_, f"{place} lost its id"
    for name in ("hashes", "thumbnails", "failures", "roots"):
        assert found[name] == wanted[name], f"{name} differ"
    for path, vector in wanted["vectors"].items():
        assert np.allclose(found["vectors"][path], vector, atol=2e-3), f"the vector of {path}"


def serves(directory: Path) -> None:
    """AssertionError unless a server could use the library now."""
    if not Library.exists(directory):
        return
    with Library.open(directory, read_only=True) as library:
        if not (directory / "thumbnails.db").exists():
            assert not library.count, "there are no thumbnails"
            return
        wrong = [p.text for p in library.catalog.check(library.thumbnails.ids())]
        assert all("thumbnail" in text and "no image" in text for text in wrong), wrong
        finds_all(library)


def finds_all(library: Library) -> None:
    """AssertionError unless a search finds every picture, each by its own vector, and no other."""
    ids = library.select()
    if not len(ids):
        return
    vectors = library.vectors(ids)
    scores, _ = library.nearest(vectors, 1)
    assert (scores > 0.999).all(), "a picture is not found by its own vector"
    _, found = library.nearest(vectors[:1], len(ids) + 1)
    assert np.array_equal(np.sort(found[0][found[0] >= 0]), ids), "index and catalog differ"


def whole(directory: Path) -> None:
    """AssertionError unless the library is in order and there is nothing in it that is not its."""
    findings = doctor.examine(directory)
    assert not findings, [finding.text for finding in findings]
    left = {path.name for path in directory.iterdir()}
    left -= {"catalog.db", "thumbnails.db", "index", "write.lock"}
    left = {name for name in left if ".damaged-" not in name}
    assert not left, f"left behind: {sorted(left)}"
    if (directory / "index").exists():
        manifest = read_manifest(directory / "index")
        assert manifest is not None
        kept = {MANIFEST, *(facts.name for facts in manifest.files.values())}
        there = {path.name for path in (directory / "index").iterdir()}
        assert there == kept, f"left behind in index/: {sorted(there - kept)}"
    with Library.open(directory, read_only=True) as library:
        assert library.index_state.note is None
        finds_all(library)


# at every point -----------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> str:
    """Does ``work`` in a forked process, since FAISS and torch must not have computed anything in
    one that forks; what it raised, or nothing."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            work()
        except BaseException:
            os.write(write, traceback.format_exc()[-4000:].encode())
            os._exit(1)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or (f"status {status}" if status else "")


@contextmanager
def copied(act: Act, place: Path) -> Iterator[Path]:
    """A library like the one that ``act`` starts from."""
    directory = place / "library"
    shutil.rmtree(directory, ignore_errors=True)
    if act.before.exists():
        shutil.copytree(act.before, directory)
    yield directory


def rehearse(stage: Stage, act: Act, place: Path) -> tuple[list[faults.Call], Path]:
    """The calls of an undisturbed act, and what the library held in the end (pickled)."""
    import pickle

    with copied(act, place) as directory:
        outcome = faults.watch(lambda: act.work(directory), directory)
        if outcome.said:
            raise SystemExit(f"{act.name}: {outcome.said}")
        goal = place / "goal.pickle"

        def keep() -> None:
            if act.name != "upgrade":
                whole(directory)
            goal.write_bytes(pickle.dumps(contents(directory)))

        if said := in_child(keep):
            raise SystemExit(f"{act.name}: {said}")
        return outcome.calls, goal


def suffer(
    stage: Stage, act: Act, place: Path, goal: Path, fault: faults.Fault
) -> tuple[str, str, faults.Call | None]:
    """One fault: how the act ended (``killed``, ``error``, ``done``), what was wrong afterwards
    (nothing, if all is well), and at which call it was."""
    import pickle

    highest = 0
    if (act.before / "catalog.db").exists():
        # Immutable: no log beside it, which another lane would find as it copies the folder.
        uri = f"{(act.before / 'catalog.db').as_uri()}?immutable=1"
        with sqlite3.connect(uri, uri=True) as connection:
            [(highest,)] = connection.execute("SELECT seq FROM sqlite_sequence WHERE name='images'")
        connection.close()
    with copied(act, place) as directory:
        outcome = faults.watch(lambda: act.work(directory), directory, fault)
        at = outcome.calls[fault.at - 1] if len(outcome.calls) >= fault.at else None
        how = "killed" if outcome.killed else "error" if outcome.said else "done"
        wrong = []
        if how == "error" and not clear(outcome.said):
            wrong.append(f"an error that says nothing to a person: {outcome.said}")
        if act.served and (said := in_child(lambda: serves(directory))):
            wrong.append(f"before the next run: {said}")

        def next_run() -> None:
            act.again(directory)
            if act.name != "upgrade":
                whole(directory)
            compare(contents(directory), pickle.loads(goal.read_bytes()), highest)

        if said := in_child(next_run):
            wrong.append(f"after the next run: {said}")
        return how, "\n".join(wrong), at


def clear(said: str) -> bool:
    """Whether an error is one line of the program's own about the disk."""
    one = said.startswith("LibraryError: ") and len(said.splitlines()) == 1
    return one and any(word in said for word in ("space", "disk", "cannot be"))


def points(calls: list[faults.Call], kind: str, sample: int | None, seed: int) -> list[int]:
    """Where a fault is tried: everywhere it makes a difference, or a sample that holds each kind
    of call on each kind of file."""
    there = [
        call
        for call in calls
        if kind in ("kill", "broken")
        or (kind == "torn" and call.name in ("write", "pwrite64"))
        or (kind == "full" and call.name in faults.NEEDS_SPACE)
    ]
    if sample is None or sample >= len(there):
        return [call.number for call in there]
    chance = random.Random(seed)
    chance.shuffle(there)
    one_each: dict[tuple[str, str], faults.Call] = {}
    for call in there:
        one_each.setdefault((call.name, "".join(c for c in call.file if not c.isdigit())), call)
    chosen = (list(one_each.values()) + [c for c in there if c not in one_each.values()])[:sample]
    return sorted(call.number for call in chosen)


@dataclass
class Part:
    """One of several runs that together try every point once. Points are dealt out in turn, so
    that each run has some of every act and fault."""

    number: int = 1
    of: int = 1
    seen: int = 0
    """Points of all runs so far."""
    taken: int = 0

    @classmethod
    def parse(cls, text: str) -> Part:
        """From ``3/40``. ValueError for what is no part."""
        number, of = (int(word) for word in text.split("/"))
        if not 1 <= number <= of:
            raise ValueError(text)
        return cls(number, of)

    def take(self, todo: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """What of an act's points is tried in this run."""
        mine = [one for n, one in enumerate(todo, self.seen) if n % self.of == self.number - 1]
        self.seen += len(todo)
        self.taken += len(mine)
        return mine


def lane(
    stage: Stage, act: Act, goal: Path, todo: list[tuple[str, int]], place: Path, out: Path
) -> None:
    """Tries ``todo`` one after another, and writes a line for each."""
    place.mkdir()
    with out.open("w") as file:
        for kind, at in todo:
            began = time.monotonic()
            how, wrong, call = suffer(stage, act, place, goal, faults.Fault(kind, at))
            took = time.monotonic() - began
            print(json.dumps([kind, at, how, wrong, str(call), took]), file=file, flush=True)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--act", action="append", help="only this one (repeatable)")
    parser.add_argument("--faults", default=",".join(get_args(faults.Kind)))
    parser.add_argument("--sample", type=int, help="points of each act and fault, by chance")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", type=Part.parse, default=Part(), metavar="N/OF")
    parser.add_argument("--lanes", type=int, default=2, help="processes side by side")
    parser.add_argument("--list", action="store_true", help="print the calls and stop")
    options = parser.parse_args()
    lost = 0
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        stage = Stage(Path(place).resolve(), options.act or [])
        print(f"{'':16}{'fault':8}{'points':>8}{'killed':>8}{'error':>8}{'done':>8}{'lost':>8}")
        for act in stage.acts:
            rehearsal = stage.place / f"rehearsal {act.name}"
            rehearsal.mkdir()
            calls, goal = rehearse(stage, act, rehearsal)
            if options.list:
                print(act.name, *calls, sep="\n  ")
                continue
            todo = options.part.take(
                [
                    (kind, at)
                    for kind in options.faults.split(",")
                    for at in points(calls, kind, options.sample, options.seed)
                ]
            )
            files = []
            children = []
            for number in range(options.lanes):
                files.append(stage.place / f"{act.name} {number}.json")
                own = stage.place / f"lane {act.name} {number}"
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        lane(stage, act, goal, todo[number :: options.lanes], own, files[-1])
                        status = 0
                    except BaseException:
                        traceback.print_exc()
                    os._exit(status)
                children.append(child)
            ended = [os.waitpid(child, 0)[1] for child in children]
            if any(ended):
                raise SystemExit(f"{act.name}: a lane ended with {ended}")
            results = [json.loads(line) for file in files for line in file.read_text().splitlines()]
            for kind in options.faults.split(","):
                rows = [row for row in results if row[0] == kind]
                hows = Counter(row[2] for row in rows)
                bad = [row for row in rows if row[3]]
                lost += len(bad)
                total[kind] += len(rows)
                print(
                    f"{act.name:16}{kind:8}{len(rows):8}"
                    + "".join(f"{hows[how]:8}" for how in ("killed", "error", "done"))
                    + f"{len(bad):8}"
                    + f"{sum(row[5] for row in rows):8.0f} s",
                    flush=True,
                )
                for _, _, how, wrong, call, _ in bad[:20]:
                    print(f"    {how} at {call}:\n{wrong}", file=sys.stderr, flush=True)
    if options.part.of > 1:
        part = options.part
        print(f"part {part.number} of {part.of}: {part.taken:,} of {part.seen:,} points")
    print(", ".join(f"{count:,} x {kind}" for kind, count in total.items()) + f"; {lost} lost")
    return int(bool(lost))


if __name__ == "__main__":
    sys.exit(main())
