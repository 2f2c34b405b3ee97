"""How long the catalog takes to answer, on synthetic pictures.

python -m benchmarks.catalog                       # 100,000 pictures of 512 dimensions
python -m benchmarks.catalog --images 1000000 --keep /tmp/catalog-million
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np

from sightline.indexer.catalog import Catalog, Thumbnails
from sightline.indexer.types import Candidate, Condition, Filters, NewImage, Photo, PhotoInfo

ROOT = Path("/photographs")
BATCH = 1_000
CAMERAS = (
    "iPhone 12",
    "iPhone 15 Pro",
    "Canon EOS R6",
    "NIKON Z 6",
    "Pixel 8",
    "X-T5",
    "DSC-RX100",
)
PLACES = ("Italy", "Germany", "Norway", "Crete", "Holidays", "Home", "Work", "Garden")


def synthetic(number: int, vector: np.ndarray, random: np.random.Generator) -> NewImage:
    """Picture ``number``: a folder a hundred pictures, twenty years, seven cameras."""
    folder = number // 100
    year, place = 2005 + folder % 20, PLACES[folder // 20 % len(PLACES)]
    path = f"{year}/{place} {folder}/IMG_{number:07d}.jpg"
    taken_at = datetime(year, 1, 1) + timedelta(minutes=int(random.integers(525_000)))
    located = number % 4 == 0
    info = PhotoInfo(
        width=4000 if number % 3 else 3000,
        height=3000 if number % 3 else 4000,
        format="jpeg" if number % 10 else "heif",
        taken_at=taken_at if number % 20 else None,
        camera=CAMERAS[int(random.integers(len(CAMERAS)))],
        lens="50mm f/1.8",
        latitude=float(random.uniform(35, 70)) if located else None,
        longitude=float(random.uniform(-10, 30)) if located else None,
        keywords=("family",) if number % 50 == 0 else (),
        rating=number % 6 if number % 7 == 0 else None,
        color="#808080",
    )
    photo = Photo(info, np.empty((0, 0, 3), np.uint8), b"", f"{number:032x}")
    return NewImage(Candidate(ROOT, path, 3_000_000 + number, number), photo, vector)


def fill(catalog: Catalog, images: int) -> None:
    """Writes ``images`` pictures in the manner of an indexing run."""
    random = np.random.default_rng(0)
    root = catalog.add_root(ROOT)
    for start in range(0, images, BATCH):
        vectors = random.standard_normal((BATCH, catalog.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        batch = [
            synthetic(start + i, vectors[i], random) for i in range(min(BATCH, images - start))
        ]
        catalog.write(root, images=batch)
    catalog.finish_run(catalog.start_run([str(ROOT)]), {"found": images})


def clock(what: str, work: Callable[[], object], rounds: int = 5) -> None:
    """Prints the first and the median time of ``work``, in milliseconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        result = work()
        times.append((time.perf_counter() - begin) * 1000)
    size = len(result) if hasattr(result, "__len__") else result
    print(f"{what:<52}{times[0]:>10.2f}{sorted(times)[len(times) // 2]:>10.2f}   {size}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--keep", type=Path, help="make it here, or use what was made here before")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        path = folder / "catalog.db"
        if not path.exists():
            begin = time.perf_counter()
            with Catalog.create(
                path, model="m", revision="r", dimension=given.dimension
            ) as catalog:
                fill(catalog, given.images)
            seconds = time.perf_counter() - begin
            size = path.stat().st_size / 1e6
            print(f"written: {given.images / seconds:,.0f} images/s, {size:,.0f} MB")
        with Catalog.open(path) as catalog:
            measure(catalog)
        thumbnails(folder / "thumbnails.db")
    finally:
        if given.keep is None:
            shutil.rmtree(folder)


def measure(catalog: Catalog) -> None:
    """Prints the table of questions."""
    random = np.random.default_rng(1)
    everything = catalog.select()
    print(f"{'milliseconds':<52}{'first':>10}{'median':>10}   answer")
    clock("count", lambda: catalog.count)
    clock("version", lambda: catalog.version)
    clock("known(root)", lambda: catalog.known(catalog.roots()[0]), 3)
    for n in (100, 300, 1000):
        clock(
            f"vectors of {n} random ids",
            lambda n=n: catalog.vectors(random.choice(everything, n)),
            20,
        )
    clock("images: 50 records", lambda: catalog.images(random.choice(everything, 50).tolist()), 20)
    clock("random 4096", lambda: catalog.random(4096), 3)
    clock("blocks: one of 65,536", lambda: next(catalog.blocks())[0], 3)
    clock("blocks: all", lambda: sum(len(ids) for ids, _ in catalog.blocks()), 1)
    clock("changes since the last commit but one", lambda: catalog.changes(catalog.version - 1))
    clock("select: everything", catalog.select)
    for text, conditions in {
        "in:Crete": [Condition("in", "Crete")],
        "in:2012 after:2012-06": [
            Condition("in", "2012"), Condition("after", date(2012, 6, 1)),
        ],
        "after:2023-06-01 before:2023-07-01": [
            Condition("after", date(2023, 6, 1)), Condition("before", date(2023, 7, 1)),
        ],
        "camera:iphone": [Condition("camera", "iphone")],
        "-camera:iphone": [Condition("camera", "iphone", negated=True)],
        "type:heic": [Condition("type", "heic")],
        "is:portrait": [Condition("is", "portrait")],
        "is:square": [Condition("is", "square")],
        "near:48,11,20": [Condition("near", (48.0, 11.0, 20.0))],
        "near:48,11,500": [Condition("near", (48.0, 11.0, 500.0))],
        "keyword:family": [Condition("keyword", "family")],
        "rating:5": [Condition("rating", 5)],
        "name:09999": [Condition("name", "09999")],
        "camera:pixel in:Norway after:2015 -is:portrait": [
            Condition("camera", "pixel"), Condition("in", "Norway"),
            Condition("after", date(2015, 1, 1)), Condition("is", "portrait", negated=True),
        ],
    }.items():  # fmt: skip
        clock(f"select: {text}", lambda c=conditions: catalog.select(Filters(tuple(c))), 5)
    clock("by_date of 1,000", lambda: catalog.by_date(everything[:1000]))
    clock("by_date of everything", lambda: catalog.by_date(everything), 3)
    clock("histogram of everything", lambda: catalog.histogram().months, 3)
    clock("histogram of half", lambda: catalog.histogram(everything[::2]).months, 3)
    clock(
        "full_text_search('germany 2019 castle', 200)",
        lambda: catalog.full_text_search("germany 2019 castle", 200),
    )
    clock("full_text_search('9998', 200)", lambda: catalog.full_text_search("IMG_0009998", 200))
    clock("suggest folder 'cr'", lambda: catalog.suggest("folder", "cr"))
    clock("suggest camera 'ip'", lambda: catalog.suggest("camera", "ip"))
    clock("facets year", lambda: catalog.facets("year"))


def thumbnails(path: Path) -> None:
    """Prints how long a thumbnail takes."""
    path.unlink(missing_ok=True)
    random = np.random.default_rng(2)
    with Thumbnails.open_or_create(path) as store:
        for start in range(0, 2000, 100):
            store.put_many({start + i: random.bytes(25_000) for i in range(100)})
        clock("thumbnail of 25 kB", lambda: store.get(int(random.integers(2000))), 200)


if __name__ == "__main__":
    main()
