"""Building a generation: choose by size, train on a sample, stream the rest, measure, install.

Trained on image vectors only, with spherical k-means, as many points a centroid as FAISS asks for;
vectors come from the catalog in blocks, so that memory holds a block, the sample and the quantised
vectors, however large the library is.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.types import Embeddings, Ids, Progress
from sightline.indexer.vector_index import gpu
from sightline.indexer.vector_index import manifest as index_files
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.manifest import Manifest, install, next_generation
from sightline.indexer.vector_index.tune import tuned

BLOCK = 65_536
"""Vectors in memory at a time while they are streamed."""

BUFFER = 1 << 22
"""Bytes of an index written at once."""

EXACT_BELOW = 50_000
"""A library smaller than this is searched exactly: on two cores in under 3 ms."""

FINE_BELOW = 300_000
"""A library smaller than this has RAM for codes of twice the size, which need fewer candidates."""

POINTS_A_CENTROID = 64
ITERATIONS = 10
"""Of k-means. More make no difference that a search can see."""

MOST_LISTS = 1 << 14
LARGEST_SAMPLE = 40 * MOST_LISTS
"""Vectors to train on: 1.3 GB of 512 dimensions, and FAISS holds a rotated copy beside it."""

SEED = 20_250_101

KINDS = ("auto", "exact", "ivf-pq", "ivf-rabitq")


class Changed(Protocol):
    """What has happened to the vectors of a source since a version."""

    @property
    def ids(self) -> Ids:
        """New, or encoded again."""

    @property
    def vectors(self) -> Embeddings:
        """Of ``ids``."""

    @property
    def removed(self) -> Ids:
        """Gone."""

    @property
    def version(self) -> int:
        """What this leads to."""


class VectorSource(Protocol):
    """Where vectors come from: a catalog."""

    dimension: int
    identity: str

    @property
    def version(self) -> int:
        """Grows with every change."""

    @property
    def count(self) -> int:
        """Of images."""

    def blocks(
        self,
        size: int = ...,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All vectors by id, or those newer than a version."""

    def changes(self, after_version: int) -> Changed:
        """What makes the vectors of that version today's."""

    def pending(self, after_version: int) -> int:
        """How much that is."""


@dataclass(frozen=True)
class Plan:
    """What FAISS is told for so many vectors."""

    kind: str
    factory: str
    nlist: int
    sample: int


def plan_for(kind: str, count: int, dimension: int) -> Plan:
    """How ``count`` vectors are kept. Lists grow with the square root of the count.

    In a smaller library product quantisers have four bits for two dimensions (128 bytes at 512):
    their tables fit a register and are looked up for 32 vectors at once ("fast scan", Andre et al.
    2015). In a larger one a code has a byte for every eight dimensions (64 at 512): of codes of
    that size those of eight bits find more among as many candidates.
    """
    fine = kind == "ivf-pq" and count < FINE_BELOW
    lists = (2 if fine else 4) * math.sqrt(max(count, 1))
    nlist = min(MOST_LISTS, 1 << max(4, round(math.log2(lists))))
    while nlist > 16 and count < 39 * nlist:  # FAISS warns below 39 points a centroid
        nlist //= 2
    quantiser = f"IVF{nlist}"
    sizes = (64, 48, 32, 16, 8, 4, 2, 1)
    if kind == "ivf-rabitq":
        factory = f"RR{dimension},{quantiser},RaBitQ2"
    elif fine:
        even = dimension - dimension % 2
        blocks = next(m for m in sizes if even % (2 * m) == 0)
        # r: what is quantised is the difference from the list's centroid.
        factory = f"OPQ{blocks}_{even},{quantiser},PQ{even // 2}x4fsr"
    else:
        codes = next(m for m in sizes if dimension % m == 0 and m <= max(1, dimension // 4))
        # np: without polysemous training, which takes twenty times as long and gives nothing here.
        factory = f"OPQ{codes},{quantiser},PQ{codes}np"
    return Plan(kind, factory, nlist, min(count, POINTS_A_CENTROID * nlist, LARGEST_SAMPLE))


def kind_for(wanted: str, count: int) -> str:
    """The kind that ``wanted`` comes to for so many images."""
    if wanted not in KINDS:
        raise UsageError(f"no index is called {wanted}: {', '.join(KINDS)}")
    if wanted != "auto":
        return wanted
    return "exact" if count < EXACT_BELOW else "ivf-pq"


def build(
    directory: Path,
    source: VectorSource,
    manifest: Manifest,
    *,
    text_queries: Callable[[], Embeddings] | None,
    device: str,
    progress: Progress,
) -> Manifest:
    """Builds a new generation from everything in ``source`` and puts it in force. ``manifest`` says
    what is wanted and of whose vectors."""
    directory.mkdir(mode=0o700, exist_ok=True)
    generation = next_generation(directory)
    version = source.version
    manifest = replace(manifest, generation=generation, version=version)
    paths = _paths(directory, generation)
    rows = _stream(source, version, paths, source.count, progress)
    kind = kind_for(manifest.wanted, rows)
    if kind == "exact" or rows < 256:  # a code book has 256 entries
        for path in paths.values():
            path.unlink(missing_ok=True)
        return install(directory, replace(manifest, kind="exact"), {})
    vectors = np.memmap(paths["vectors"], "<f2", "r", shape=(rows, source.dimension))
    plan = plan_for(kind, rows, source.dimension)
    index = _trained(plan, vectors, device, progress)
    _add(index, vectors, 0, device, progress)
    index = _ready(index)
    manifest = replace(
        manifest, kind=kind, rows=rows, trained_on=rows, factory=plan.factory, nlist=plan.nlist
    )
    return _finish(directory, manifest, index, paths, text_queries, progress)


def extend(
    directory: Path,
    source: VectorSource,
    old: Generation,
    *,
    text_queries: Callable[[], Embeddings] | None,
    device: str,
    progress: Progress,
) -> Manifest:
    """A new generation of ``old`` and what has changed since; nothing is trained."""
    import faiss

    generation = next_generation(directory)
    version = source.version
    paths = _paths(directory, generation)
    files = old.manifest.files
    shutil.copyfile(directory / files["vectors"].name, paths["vectors"])
    ids = np.array(old.ids)
    removed = source.changes(old.manifest.version).removed
    with paths["vectors"].open("ab") as out:
        fresh = []
        for some, block in source.blocks(
            BLOCK, after_version=old.manifest.version, until_version=version
        ):
            fresh.append(_append(out, some, block))
            progress("adding to the index", sum(map(len, fresh)), None)
    new = np.concatenate([np.empty(0, np.int64), *fresh])
    ids[np.isin(ids, np.concatenate([new, removed]))] = -1
    all_ids = np.concatenate([ids, new])
    paths["ids"].write_bytes(all_ids.astype("<i8").tobytes())
    index = faiss.read_index(str(directory / files["index"].name))
    vectors = np.memmap(paths["vectors"], "<f2", "r", shape=(len(all_ids), source.dimension))
    _add(index, vectors, len(ids), device, progress)
    manifest = replace(
        old.manifest,
        generation=generation,
        version=version,
        rows=len(all_ids),
        gone=int((all_ids < 0).sum()),
    )
    return _finish(directory, manifest, index, paths, text_queries, progress)


def _paths(directory: Path, generation: int) -> dict[str, Path]:
    number = f"{generation:06}"
    return {
        "index": directory / f"index-{number}.faiss",
        "vectors": directory / f"vectors-{number}.f16",
        "ids": directory / f"ids-{number}.i64",
    }


def _stream(
    source: VectorSource, version: int, paths: dict[str, Path], count: int, progress: Progress
) -> int:
    """Copies vectors and ids out of the source; how many rows."""
    rows = 0
    with paths["vectors"].open("wb") as out, paths["ids"].open("wb") as ids:
        for some, block in source.blocks(BLOCK, until_version=version):
            kept = _append(out, some, block)
            ids.write(kept.astype("<i8").tobytes())
            rows += len(kept)
            progress("reading vectors", rows, count)
    return rows


def _append(out: BinaryIO, ids: Ids, vectors: Embeddings) -> Ids:
    """Writes what can be searched; FAISS would drop the rest without a word."""
    half = vectors.astype("<f2")
    good = np.isfinite(half).all(axis=1) & half.any(axis=1)
    out.write(half[good].tobytes())
    return ids[good]


def _trained(plan: Plan, vectors: NDArray[np.float16], device: str, progress: Progress) -> Any:
    """An empty index, its quantisers trained on a fair sample of ``vectors``."""
    import faiss

    rows, dimension = vectors.shape
    unpacked = plan.factory.replace("x4fsr", "x4np")
    index = faiss.index_factory(dimension, unpacked, faiss.METRIC_INNER_PRODUCT)
    index.verbose = False
    ivf: Any = faiss.extract_index_ivf(index)
    ivf.cp.niter = ITERATIONS
    ivf.cp.spherical = True
    ivf.cp.seed = SEED
    ivf.cp.max_points_per_centroid = POINTS_A_CENTROID
    if isinstance(index, faiss.IndexPreTransform):
        turn = faiss.downcast_VectorTransform(index.chain.at(0))  # type: ignore[attr-defined]
        if isinstance(turn, faiss.OPQMatrix):
            turn.niter = 15 if rows >= EXACT_BELOW else 4
            turn.niter_pq_0 = 10
            turn.max_train_points = 16_384
    if (there := gpu.moved(faiss.IndexFlatIP(dimension), device)) is not None:
        ivf.clustering_index = there
    progress("training the index", 0, plan.sample)
    chosen = np.sort(np.random.default_rng(SEED).choice(rows, plan.sample, replace=False))
    sample = np.empty((plan.sample, dimension), np.float32)
    for start in range(0, plan.sample, BLOCK):
        part = chosen[start : start + BLOCK]
        sample[start : start + len(part)] = vectors[part]
    index.train(sample)
    if there is not None:
        ivf.clustering_index = None  # FAISS keeps its address, which ends with this function
    progress("training the index", plan.sample, plan.sample)
    return index


def _add(
    index: Any, vectors: NDArray[np.float16], start: int, device: str, progress: Progress
) -> None:
    """Puts the rows from ``start`` on into ``index``; a row's number is its id in FAISS.

    Finding the nearest centroid of each row is nearly all of the work, and is done on the GPU where
    there is one, else by products of float32 matrices; codes are made and kept on the processor.
    """
    import faiss

    rows = len(vectors)
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    # Packed codes have no way in for rows whose lists are known.
    coarse = None if isinstance(ivf, faiss.IndexIVFPQFastScan) else _coarse(ivf, device)
    for first in range(start, rows, BLOCK):
        block = np.asarray(vectors[first : first + BLOCK], np.float32)
        if coarse is None:
            index.add(block)
        else:
            block = index.chain.at(0).apply(block)
            _, lists = coarse.search(block, 1)
            ivf.add_core(len(block), faiss.swig_ptr(block), None, faiss.swig_ptr(lists))
            index.ntotal = ivf.ntotal
        progress("building the index", min(first + BLOCK, rows) - start, rows - start)


def _coarse(ivf: Any, device: str) -> Any:
    """The centroids of ``ivf`` as an index, on the GPU where there is one."""
    import faiss

    coarse: Any = faiss.IndexFlatIP(ivf.d)
    coarse.add(ivf.quantizer.reconstruct_n(0, ivf.nlist))
    there = gpu.moved(coarse, device, half=True)
    return coarse if there is None else there


def _ready(index: Any) -> Any:
    """``index`` as it is searched: codes of four bits in the order in which a scan takes them, 32
    at once; centroids in float16, since to read all of them is what each search begins with."""
    import faiss

    ivf: Any = faiss.downcast_index(index.index)
    centroids = ivf.quantizer
    owners: list[Any] = [ivf, centroids]
    if isinstance(ivf, faiss.IndexIVFPQ) and ivf.pq.nbits == 4:
        ivf = faiss.IndexIVFPQFastScan(ivf)
        owners += [index, ivf]
        index = faiss.IndexPreTransform(index.chain.at(0), ivf)
    else:
        ivf.own_fields = False
        centroids.this.own(True)
    half = faiss.IndexScalarQuantizer(
        ivf.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    half.add(centroids.reconstruct_n(0, ivf.nlist))
    ivf.quantizer = half
    index.referenced_objects = [*owners, half]
    return index


def _write(index: Any, path: Path) -> None:
    """Writes ``index`` through Python's own file: FAISS's says nothing when the disk is full as it
    is closed."""
    import faiss

    refused: list[OSError] = []
    with path.open("wb", buffering=0) as file:

        def write(block: bytes) -> None:
            rest = memoryview(block)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                refused.append(error)
                raise

        try:
            to = faiss.PyCallbackIOWriter(write, BUFFER)  # type: ignore[attr-defined]
            faiss.write_index(index, to)
        except RuntimeError as error:
            raise (refused[0] if refused else error) from None


def _finish(
    directory: Path,
    manifest: Manifest,
    index: Any,
    paths: dict[str, Path],
    text_queries: Callable[[], Embeddings] | None,
    progress: Progress,
) -> Manifest:
    """Writes the index, measures it as it will be searched, and puts it in force."""
    _write(index, paths["index"])
    del index
    # Opened from its files, as a searcher will: what is measured is what is used.
    facts = {
        name: index_files.FileFacts(path.name, path.stat().st_size, index_files.checksum(path))
        for name, path in paths.items()
    }
    draft = Generation(directory, replace(manifest, files=facts))
    manifest = tuned(draft, text_queries() if text_queries else None, progress)
    return install(directory, manifest, paths)
