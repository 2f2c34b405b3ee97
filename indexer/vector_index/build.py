"""Builds generations: choose an index type by size, train on a sample, add, tune.

Quantisers are trained on image vectors only, with spherical k-means. Vectors come from the catalog
in blocks, so memory holds a block, the training sample and the quantised vectors, however large the
library is.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.types import Embeddings, Ids, Progress
from sightline.indexer.vector_index import gpu
from sightline.indexer.vector_index.exact import BLOCK
from sightline.indexer.vector_index.generation import Generation
from sightline.indexer.vector_index.manifest import FileFacts, Manifest, next_generation
from sightline.indexer.vector_index.tune import tuned

WRITE_BYTES = 1 << 22
"""Bytes of a FAISS index written at a time."""

EXACT_BELOW = 50_000
"""Images below which a library is searched exactly: under 3 ms on two cores."""

FAST_SCAN_BELOW = 300_000
"""Images below which IVF-PQ has 4-bit fast-scan codes of twice the size (docs/vector-index.md)."""

POINTS_PER_CENTROID = 64
"""Training vectors for each inverted list; FAISS warns below ``MIN_POINTS_PER_CENTROID``."""
MIN_POINTS_PER_CENTROID = 39

KMEANS_ITERATIONS = 10, 2
"""Of the coarse quantiser: with a quarter of the training vectors, then with all of them."""

NEAR_LISTS, NEAR_FROM = 8, 1024
"""From ``NEAR_FROM`` lists on, the nearest centroid is sought among the ``NEAR_LISTS`` nearest in a
quarter of the dimensions (PCA): 2.4 times as fast, and .4 % of the vectors get another list."""

PCA_POINTS = 32_768

MAX_LISTS = 1 << 14

MAX_SAMPLE = 40 * MAX_LISTS
"""Training vectors: 1.3 GB at 512 dimensions, of which FAISS makes a rotated copy."""

MIN_ROWS = 256
"""Vectors that an 8-bit product quantiser needs for training."""

TUNE_GROWTH = 1.25
"""Growth of an extended generation since training at which it is tuned again, and at each power of
it. Tuning takes 20 CPU seconds at a million rows; without it recall of texts is .975 instead of
.976 after a growth by 12 %."""

SEED = 20_250_101

KINDS = ("auto", "exact", "ivf-pq", "ivf-rabitq")

TextQueries = Callable[[], Embeddings] | None


class VectorChanges(Protocol):
    """Changes of the vectors of a source since a version."""

    @property
    def ids(self) -> Ids:
        """New images, and those encoded again."""

    @property
    def vectors(self) -> Embeddings:
        """``(n, d)``, of ``ids``."""

    @property
    def removed(self) -> Ids:
        """Deleted images."""

    @property
    def version(self) -> int:
        """The version that these changes lead to."""


class VectorSource(Protocol):
    """Where vectors come from: a catalog."""

    dimension: int
    identity: str
    """Tells this catalog from all others."""

    @property
    def version(self) -> int:
        """Increases with every change."""

    @property
    def count(self) -> int:
        """Number of images."""

    def blocks(
        self,
        size: int = ...,
        *,
        after_version: int | None = None,
        until_version: int | None = None,
    ) -> Iterator[tuple[Ids, Embeddings]]:
        """All vectors in the order of their ids, or those newer than a version."""

    def changes(self, after_version: int) -> VectorChanges:
        """Everything that changed after a version."""

    def pending(self, after_version: int) -> int:
        """The number of those changes."""


@dataclass(frozen=True)
class Plan:
    """Parameters of an index for a number of vectors."""

    factory: str
    """FAISS factory string."""
    nlist: int
    sample: int
    """Number of training vectors."""


def plan_for(kind: str, count: int, dimension: int) -> Plan:
    """How to index ``count`` vectors. ``nlist`` is proportional to the square root of the count.

    Smaller libraries have 4-bit product quantisers of two dimensions each (128 bytes per vector at
    512), whose tables fit into registers ("fast scan", Andre et al., 2015). Larger ones have 8-bit
    quantisers of eight dimensions (64 bytes), which have the higher recall at that size.
    """
    fast_scan = kind == "ivf-pq" and count < FAST_SCAN_BELOW
    lists = (2 if fast_scan else 4) * math.sqrt(max(count, 1))
    nlist = min(MAX_LISTS, 1 << max(4, round(math.log2(lists))))
    while nlist > 16 and count < MIN_POINTS_PER_CENTROID * nlist:
        nlist //= 2
    sizes = (64, 48, 32, 16, 8, 4, 2, 1)
    if kind == "ivf-rabitq":
        factory = f"RR{dimension},IVF{nlist},RaBitQ2"
    elif fast_scan:
        even = dimension - dimension % 2
        blocks = next(m for m in sizes if even % (2 * m) == 0)
        # r: the residual to the centroid is quantised.
        factory = f"OPQ{blocks}_{even},IVF{nlist},PQ{even // 2}x4fsr"
    else:
        codes = next(m for m in sizes if dimension % m == 0 and m <= max(1, dimension // 4))
        # np: without polysemous training, which takes 20 times as long and is not used here.
        factory = f"OPQ{codes},IVF{nlist},PQ{codes}np"
    return Plan(factory, nlist, min(count, POINTS_PER_CENTROID * nlist, MAX_SAMPLE))


def kind_for(requested: str, count: int) -> str:
    """The kind of index for ``count`` images. UsageError for an unknown kind."""
    if requested not in KINDS:
        raise UsageError(f"there is no index type {requested}: choose one of {', '.join(KINDS)}")
    if requested != "auto":
        return requested
    return "exact" if count < EXACT_BELOW else "ivf-pq"


def build(
    directory: Path,
    source: VectorSource,
    manifest: Manifest,
    *,
    text_queries: TextQueries,
    device: str,
    progress: Progress,
) -> Manifest:
    """Builds a generation from all vectors of ``source``, to be made current by ``install``.
    ``manifest`` has the requested kind and the identity of the source."""
    directory.mkdir(mode=0o700, exist_ok=True)
    manifest = replace(
        manifest, generation=next_generation(directory), version=source.version, kind="exact"
    )
    kind = kind_for(manifest.requested, source.count)
    if kind == "exact" or source.count < MIN_ROWS:
        return manifest
    paths = _paths(directory, manifest.generation)
    blocks = source.blocks(BLOCK, until_version=manifest.version)
    ids = _write_vectors(paths["vectors"], "wb", blocks, source.count, progress)
    rows = len(ids)
    if rows < MIN_ROWS:
        return manifest
    _write_ids(paths["ids"], ids)
    vectors = np.memmap(paths["vectors"], "<f2", "r", shape=(rows, source.dimension))
    plan = plan_for(kind, rows, source.dimension)
    index = _trained(plan, vectors, device, progress)
    _add(index, vectors, 0, device, progress)
    manifest = replace(
        manifest, kind=kind, rows=rows, trained_on=rows, factory=plan.factory, nlist=plan.nlist
    )
    manifest = _written(manifest, _optimised(index), paths)
    return _tuned(directory, manifest, text_queries, progress)


def extend(
    directory: Path,
    source: VectorSource,
    old: Generation,
    *,
    text_queries: TextQueries,
    device: str,
    progress: Progress,
) -> Manifest:
    """The same from ``old`` and the changes since, without training. Tuned again after each growth
    by ``TUNE_GROWTH`` only."""
    import faiss

    manifest = replace(old.manifest, generation=next_generation(directory), version=source.version)
    paths = _paths(directory, manifest.generation)
    files = old.manifest.files
    removed = source.changes(old.manifest.version).removed
    shutil.copyfile(directory / files["vectors"].name, paths["vectors"])
    blocks = source.blocks(
        BLOCK, after_version=old.manifest.version, until_version=manifest.version
    )
    new = _write_vectors(paths["vectors"], "ab", blocks, None, progress)
    ids = np.array(old.ids)
    ids[np.isin(ids, np.concatenate([new, removed]))] = -1
    ids = np.concatenate([ids, new])
    _write_ids(paths["ids"], ids)
    vectors = np.memmap(paths["vectors"], "<f2", "r", shape=(len(ids), source.dimension))
    index = faiss.read_index(str(directory / files["index"].name))
    _add(index, vectors, old.manifest.rows, device, progress)
    manifest = replace(manifest, rows=len(ids), deleted=int((ids < 0).sum()))
    manifest = _written(manifest, index, paths)
    if _growths(manifest) == _growths(old.manifest):
        return manifest
    return _tuned(directory, manifest, text_queries, progress)


def _growths(manifest: Manifest) -> int:
    """How often the rows have grown by ``TUNE_GROWTH`` since training."""
    return int(math.log(manifest.rows / manifest.trained_on, TUNE_GROWTH))


def _paths(directory: Path, generation: int) -> dict[str, Path]:
    number = f"{generation:06}"
    return {
        "index": directory / f"index-{number}.faiss",
        "vectors": directory / f"vectors-{number}.f16",
        "ids": directory / f"ids-{number}.i64",
    }


def _write_vectors(
    path: Path,
    mode: str,
    blocks: Iterable[tuple[Ids, Embeddings]],
    total: int | None,
    progress: Progress,
) -> Ids:
    """Writes ``blocks`` to ``path`` as float16 and returns their ids. Vectors that are zero or not
    finite are left out: FAISS would drop them without an error."""
    phase = "adding to the index" if total is None else "reading vectors"
    written = [np.empty(0, np.int64)]
    with path.open(mode) as file:
        for ids, vectors in blocks:
            half = vectors.astype("<f2")
            valid = np.isfinite(half).all(axis=1) & half.any(axis=1)
            file.write(half[valid].tobytes())
            written.append(ids[valid])
            progress(phase, sum(map(len, written)), total)
    return np.concatenate(written)


def _write_ids(path: Path, ids: Ids) -> None:
    path.write_bytes(ids.astype("<i8").tobytes())


def _trained(plan: Plan, vectors: NDArray[np.float16], device: str, progress: Progress) -> Any:
    """An empty index, trained on a random sample of ``vectors``."""
    import faiss

    rows, dimension = vectors.shape
    # Fast-scan codes are packed after adding: see _optimised.
    factory = plan.factory.replace("x4fsr", "x4np")
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    index.verbose = False
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    rotation = faiss.downcast_VectorTransform(index.chain.at(0))  # type: ignore[attr-defined]
    if isinstance(rotation, faiss.OPQMatrix):
        rotation.niter = 8 if rows >= EXACT_BELOW else 4
        rotation.niter_pq_0 = 10
        rotation.max_train_points = 16_384
    progress("training the index", 0, plan.sample)
    chosen = np.sort(np.random.default_rng(SEED).choice(rows, plan.sample, replace=False))
    sample = np.empty((plan.sample, dimension), np.float32)
    for start in range(0, plan.sample, BLOCK):
        part = chosen[start : start + BLOCK]
        sample[start : start + len(part)] = vectors[part]
    rotation.train(sample)
    sample = rotation.apply(sample)
    ivf.quantizer.add(_centroids(sample, plan.nlist, device))
    ivf.train(sample)
    index.is_trained = True
    progress("training the index", plan.sample, plan.sample)
    return index


def _centroids(vectors: Embeddings, nlist: int, device: str) -> Embeddings:
    """``(nlist, d)`` centroids of unit length by spherical k-means."""
    import faiss

    nearest = _nearest_centroids(vectors, nlist, device)
    centroids = np.empty(0, np.float32)
    for part, iterations in zip((vectors[::4], vectors), KMEANS_ITERATIONS, strict=True):
        kmeans = faiss.Clustering(vectors.shape[1], nlist)
        kmeans.niter, kmeans.spherical, kmeans.seed = iterations, True, SEED
        kmeans.min_points_per_centroid, kmeans.max_points_per_centroid = 1, len(vectors)
        faiss.copy_array_to_vector(centroids, kmeans.centroids)
        kmeans.train(np.ascontiguousarray(part), nearest)
        centroids = faiss.vector_to_array(kmeans.centroids)
    return centroids.reshape(nlist, -1)


def _nearest_centroids(vectors: Embeddings, nlist: int, device: str) -> Any:
    """An empty index for ``nlist`` centroids of unit length that finds the nearest to a vector, on
    the GPU if there is one. ``vectors`` are distributed like those to be assigned."""
    import faiss

    dimension = vectors.shape[1]
    on_gpu = gpu.to_gpu(faiss.IndexFlatL2(dimension), device, float16=True)
    if on_gpu is not None:
        return on_gpu
    if nlist < NEAR_FROM:
        return faiss.IndexFlatL2(dimension)
    pca = faiss.PCAMatrix(dimension, dimension // 4)
    pca.train(vectors[:PCA_POINTS])
    roughly = faiss.IndexPreTransform(pca, faiss.IndexFlatL2(dimension // 4))
    exactly: Any = faiss.IndexRefineFlat(roughly)
    exactly.k_factor = NEAR_LISTS
    exactly.referenced_objects = [pca, roughly]  # FAISS stores pointers to them
    return exactly


def _add(
    index: Any, vectors: NDArray[np.float16], start: int, device: str, progress: Progress
) -> None:
    """Adds the rows from ``start`` on to ``index``, with their row numbers as ids.

    Assigning rows to lists is most of the work, and runs on the GPU if there is one; codes are
    computed on the CPU.
    """
    import faiss

    rows = len(vectors)
    ivf: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    # Fast-scan indexes cannot add rows whose lists are known.
    coarse: Any = None
    if not isinstance(ivf, faiss.IndexIVFPQFastScan):
        centroids = ivf.quantizer.reconstruct_n(0, ivf.nlist)
        coarse = _nearest_centroids(centroids, ivf.nlist, device)
        coarse.add(centroids)
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


def _optimised(index: Any) -> Any:
    """``index`` as it is searched: 4-bit codes packed for fast scan, and centroids in float16, as
    every search reads all of them (0.3 instead of 0.6 ms at 4,096 lists)."""
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
    index.referenced_objects = [*owners, half]  # FAISS stores pointers to them
    return index


def _write_index(index: Any, path: Path) -> None:
    """Writes ``index`` through a Python file: FAISS's own does not report a disk that is full."""
    import faiss

    errors: list[OSError] = []
    with path.open("wb", buffering=0) as file:

        def write(block: bytes) -> None:
            rest = memoryview(block)
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError as error:
                errors.append(error)
                raise

        try:
            writer = faiss.PyCallbackIOWriter(write, WRITE_BYTES)  # type: ignore[attr-defined]
            faiss.write_index(index, writer)
        except RuntimeError as error:
            raise (errors[0] if errors else error) from None


def _written(manifest: Manifest, index: Any, paths: dict[str, Path]) -> Manifest:
    """Writes ``index``; ``manifest`` with the facts of all files."""
    _write_index(index, paths["index"])
    return replace(manifest, files={name: FileFacts.of(path) for name, path in paths.items()})


def _tuned(
    directory: Path, manifest: Manifest, text_queries: TextQueries, progress: Progress
) -> Manifest:
    """``manifest`` with parameters measured on its files."""
    generation = Generation(directory, manifest)
    return tuned(generation, text_queries() if text_queries else None, progress)
