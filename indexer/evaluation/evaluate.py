"""Measures a model, and a library's vector index, on image sets with known answers.

*Retrieval*: every caption searches its image among all images, and every image one of its captions:
recall@1, @5, @10 and the median rank; exactly, and through a library's vector index.
*Classification*: zero-shot by class names in prompt templates, and a linear probe; top-1 and top-5.
``docs/evaluation.md`` compares the results with published figures.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.encoder import encode_photos
from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.evaluation.datasets import Captioned, Classified
from sightline.indexer.evaluation.metrics import (
    RECALL_AT,
    Adjust,
    Proportion,
    Ranks,
    best_ranks,
    centred,
    grouped_proportion,
    proportion,
    query_bank,
    query_slices,
    unadjusted,
    z_scores,
)
from sightline.indexer.installation import install_command
from sightline.indexer.photo import Decoder
from sightline.indexer.types import (
    Candidate,
    Embeddings,
    Ids,
    Int8Check,
    Photo,
    Progress,
    no_progress,
)
from sightline.indexer.zero_shot.captions import CAPTIONS
from sightline.indexer.zero_shot.labels import classifier, label

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import Library

RANKINGS = ("plain", "centred", "querybank", "standing")
"""By cosine, centred captions, query-bank normalisation (text to image only) and z-scores (image to
text only)."""

Direction = Literal["text_to_image", "image_to_text"]

PROBE_CS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse regularisation strengths that a linear probe chooses from, for standardised features."""

PROBE_SELECTION = 10_000
"""Images that the strength is chosen with, at most; the probe itself is trained on all."""

PROBE_STEPS = 1000
"""Steps of L-BFGS, at most, as in the CLIP paper (Radford et al. 2021, appendix A.3)."""

CAPTIONS_PER_CALL = 4096
"""Captions that are encoded between two calls of ``progress``."""


@dataclass(frozen=True)
class Retrieval:
    """Recall in one direction, by one ranking."""

    direction: Direction
    ranking: str
    through: Literal["exact", "index"]
    queries: int
    gallery: int
    recall: Mapping[int, Proportion]
    median_rank: float | None
    """None if it is beyond the depth of the search."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "direction": self.direction,
            "ranking": self.ranking,
            "through": self.through,
            "queries": self.queries,
            "gallery": self.gallery,
            **{f"recall@{k}": value.as_dict() for k, value in self.recall.items()},
            "median_rank": self.median_rank,
        }


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a classification."""

    method: str
    """The name of the templates, or ``linear probe``."""
    cases: int
    top1: Proportion
    top5: Proportion
    mean_per_class: float
    """Mean over the classes of their top-1 accuracy."""
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "cases": self.cases,
            "top1": self.top1.as_dict(),
            "top5": self.top5.as_dict(),
            "mean_per_class": round(self.mean_per_class, 5),
            **self.details,
        }


@dataclass(frozen=True)
class Encoded:
    """The embeddings of a list of files."""

    vectors: Embeddings
    """``(n, d)`` of the files that could be read."""
    kept: Ids
    """``(n,)``: their indices in the list."""
    failures: tuple[str, ...]
    """The other files, each with the reason."""


def encode_files(
    encoder: Encoder,
    files: Sequence[Path],
    *,
    workers: int | None = None,
    on_int8_check: Callable[[Int8Check], None] | None = None,
    progress: Progress = no_progress,
) -> Encoded:
    """Reads and encodes ``files`` as an indexing run does; ``on_int8_check`` as in
    ``encode_photos``."""
    result = np.full((len(files), encoder.dimension), np.nan, np.float32)
    rows_of: dict[Path, list[int]] = {}
    for row, file in enumerate(files):
        rows_of.setdefault(file, []).append(row)
    failures: list[str] = []

    def readable(
        outcomes: Iterator[tuple[Candidate, Photo | PhotoError]],
    ) -> Iterator[tuple[Path, Photo]]:
        for candidate, outcome in outcomes:
            if isinstance(outcome, PhotoError):
                failures.append(f"{candidate.absolute}: {outcome}")
            else:
                yield candidate.absolute, outcome

    candidates = (Candidate(file.parent, file.name, 0, 0) for file in rows_of)
    workers = min(workers or os.cpu_count() or 1, max(len(rows_of), 1))
    with Decoder(encoder.geometry, workers=workers) as decoder:
        done = 0
        photos = readable(decoder.photos(candidates))
        for batch in encode_photos(encoder, photos, on_int8_check=on_int8_check):
            for file, _, vector in batch:
                result[rows_of[file]] = vector
            done += len(batch)
            progress("encoding images", done + len(failures), len(rows_of))
    kept = np.flatnonzero(~np.isnan(result[:, 0])).astype(np.int64)
    if not len(kept):
        raise UsageError(f"none of the images could be read: {failures[0]}")
    return Encoded(result[kept], kept, tuple(failures))


def encode_captions(
    encoder: Encoder,
    captions: Sequence[str],
    templates: Sequence[str] = ("{}",),
    *,
    progress: Progress = no_progress,
) -> Embeddings:
    """``(n, d)``: per caption the mean over the templates, normalised."""
    parts = [np.empty((0, encoder.dimension), np.float32)]
    for start in range(0, len(captions), CAPTIONS_PER_CALL):
        texts = captions[start : start + CAPTIONS_PER_CALL]
        parts.append(classifier(encoder, [label(text) for text in texts], templates))
        progress("encoding captions", start + len(texts), len(captions))
    return np.concatenate(parts)


# --- retrieval -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gallery:
    """The images that captions are searched in."""

    vectors: Embeddings
    """``(m, d)``."""
    rows: Ids
    """The row of each image of the set; -1 for an image that could not be read."""
    ids: Ids | None = None
    """``(m,)``: the library's ids of ``vectors``; None if they are not a library's."""


def gallery_of(encoded: Encoded, images: int) -> Gallery:
    """A gallery of the ``images`` images of the set alone."""
    rows = np.full(images, -1, np.int64)
    rows[encoded.kept] = np.arange(len(encoded.kept))
    return Gallery(encoded.vectors, rows)


def gallery_in(library: Library, images: Sequence[Path]) -> Gallery:
    """A gallery of all images of a library. Raises ``UsageError`` if an image of the set is not in
    it."""
    blocks = list(library.catalog.blocks())
    if not blocks:
        raise UsageError(f"the library in {library.directory} is empty")
    ids = np.concatenate([block for block, _ in blocks])
    found = [library.catalog.find(Path(os.path.abspath(file))) for file in images]  # noqa: PTH100
    missing = [file for file, record in zip(images, found, strict=True) if record is None]
    if missing:
        raise UsageError(
            f"{len(missing):,} of the {len(images):,} images are not in the library, the first is"
            f" {missing[0]}: index their folder first"
        )
    rows = np.searchsorted(ids, [record.id for record in found if record])
    return Gallery(np.concatenate([vectors for _, vectors in blocks]), rows.astype(np.int64), ids)


def retrieval(
    texts: Embeddings,
    gallery: Gallery,
    captioned: Captioned,
    *,
    rankings: Sequence[str] = ("plain",),
    bank: Embeddings | None = None,
    progress: Progress = no_progress,
) -> list[Retrieval]:
    """Exact retrieval in both directions, for each of ``rankings``.

    ``texts`` are the embeddings of the captions, ``bank`` those of other captions, for ``centred``
    and ``querybank``. Captions of images that could not be read are left out.
    """
    targets = gallery.rows[np.asarray(captioned.targets, np.int64)]
    texts, targets = texts[targets >= 0], targets[targets >= 0]
    rows = np.unique(targets)
    captions_of: dict[int, list[int]] = {int(row): [] for row in rows}
    for caption, row in enumerate(targets.tolist()):
        captions_of[row].append(caption)
    captions_of_rows = [captions_of[int(row)] for row in rows]
    results: list[Retrieval] = []
    for number, ranking in enumerate(rankings):
        progress("ranking", number, len(rankings))
        if ranking not in RANKINGS:
            raise UsageError(f"no ranking is called {ranking!r}: use {', '.join(RANKINGS)}")
        queries = texts
        adjust_images: Adjust = unadjusted
        adjust_texts: Adjust = unadjusted
        if ranking in ("centred", "querybank"):
            if bank is None or not len(bank):
                raise UsageError(f"the ranking {ranking!r} needs a bank of captions")
            if ranking == "centred":
                queries = centred(texts, bank)
            else:
                adjust_images = query_bank(gallery.vectors, bank)
        if ranking == "standing":
            adjust_texts = z_scores(queries, gallery.vectors)
        else:
            ranks = best_ranks(queries, gallery.vectors, targets[:, None].tolist(), adjust_images)
            results.append(
                _retrieval("text_to_image", ranking, ranks, targets, len(gallery.vectors))
            )
        if ranking != "querybank":
            ranks = best_ranks(gallery.vectors[rows], queries, captions_of_rows, adjust_texts)
            results.append(_retrieval("image_to_text", ranking, ranks, rows, len(queries)))
    return results


def through_index(
    library: Library, texts: Embeddings, gallery: Gallery, captioned: Captioned
) -> tuple[Retrieval, float]:
    """Text-to-image retrieval through the library's vector index, and its recall@10 of the exact
    results."""
    assert gallery.ids is not None
    targets = gallery.rows[np.asarray(captioned.targets, np.int64)]
    depth = max(RECALL_AT)
    k = min(depth, len(gallery.vectors))
    ranks = np.full(len(texts), depth + 1, np.int64)
    common = 0
    for rows in query_slices(len(texts), len(gallery.vectors)):
        _, ids = library.nearest(texts[rows], depth)
        right = ids == gallery.ids[targets[rows]][:, None]
        ranks[rows] = np.where(right.any(axis=1), 1 + right.argmax(axis=1), depth + 1)
        scores = texts[rows] @ gallery.vectors.T
        exact = np.argpartition(scores, -k, axis=1)[:, -k:]
        common += sum(
            len(set(found.tolist()) & set(gallery.ids[best].tolist()))
            for found, best in zip(ids, exact, strict=True)
        )
    result = _retrieval("text_to_image", "plain", ranks, targets, len(gallery.vectors), depth=depth)
    return result, common / (len(texts) * k)


def _retrieval(
    direction: Direction,
    ranking: str,
    ranks: Ranks,
    groups: Ids,
    gallery: int,
    *,
    depth: int | None = None,
) -> Retrieval:
    """``groups`` are the images of the queries; ``depth`` is that of a search through the index."""
    median = float(np.median(ranks))
    return Retrieval(
        direction=direction,
        ranking=ranking,
        through="exact" if depth is None else "index",
        queries=len(ranks),
        gallery=gallery,
        recall={k: grouped_proportion(ranks <= k, groups.tolist()) for k in RECALL_AT},
        median_rank=None if depth is not None and median > depth else median,
    )


def bank_vectors(encoder: Encoder, captions: Sequence[str] | None = None) -> Embeddings:
    """The embeddings of a bank of captions; ``CAPTIONS`` by default."""
    return encoder.encode_texts(list(captions or CAPTIONS))


# --- classification ------------------------------------------------------------------------------


def zero_shot(
    encoder: Encoder,
    images: Embeddings,
    truth: NDArray[np.int64],
    classified: Classified,
    templates: Mapping[str, Sequence[str]],
    *,
    progress: Progress = no_progress,
) -> list[Accuracy]:
    """Zero-shot classification by the class names, once for each set of ``templates``.

    ``truth`` ``(n,)`` are the classes of ``images`` ``(n, d)``.
    """
    results = []
    names = sum(len(one.names) for one in classified.labels)
    for number, (method, sentences) in enumerate(templates.items()):
        progress("encoding prompts", number, len(templates))
        weights = classifier(encoder, classified.labels, sentences)
        details = {"prompts": len(sentences) * names}
        results.append(_accuracy(method, images @ weights.T, truth, details))
    return results


def linear_probe(
    train: Embeddings,
    train_truth: NDArray[np.int64],
    images: Embeddings,
    truth: NDArray[np.int64],
) -> Accuracy:
    """Logistic regression on standardised embeddings, as in the CLIP paper: L-BFGS, with the
    regularisation chosen on a held-out fifth of ``train``.

    Raises ``UsageError`` without scikit-learn, or if a class has fewer than two images to train on.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise UsageError(f"a linear probe needs scikit-learn: {install_command('eval')}") from error
    counts = np.bincount(train_truth)
    if counts[counts > 0].min() < 2 or np.count_nonzero(counts) < 2:
        raise UsageError("a linear probe needs at least two training images of each of two classes")
    mean, deviation = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    train, images = (train - mean) / deviation, (images - mean) / deviation
    selection = np.random.default_rng(0).permutation(len(train))[:PROBE_SELECTION]
    try:
        fitted, held_out = train_test_split(
            selection, test_size=0.2, random_state=0, stratify=train_truth[selection]
        )
    except ValueError:  # too few images of a class to have it in both parts
        fitted, held_out = train_test_split(selection, test_size=0.2, random_state=0)

    # From strong to weak regularisation, each starting from the solution before.
    probe: Any = LogisticRegression(max_iter=PROBE_STEPS, warm_start=True)
    best_c, best_score = PROBE_CS[0], -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is reported in the details
        for c in PROBE_CS:
            probe.set_params(C=c).fit(train[fitted], train_truth[fitted])
            score = float(probe.score(train[held_out], train_truth[held_out]))
            if score < best_score:
                break
            best_c, best_score = c, score
        probe = LogisticRegression(C=best_c, max_iter=PROBE_STEPS).fit(train, train_truth)
    scores = np.full((len(images), int(max(truth.max(), train_truth.max())) + 1), -np.inf)
    decision = probe.decision_function(images)
    if decision.ndim == 1:  # two classes: one column, for the second
        decision = np.stack([-decision, decision], axis=1)
    scores[:, probe.classes_] = decision
    details = {
        "trained_on": len(train),
        "C": best_c,
        "converged": bool(int(np.max(probe.n_iter_)) < PROBE_STEPS),
    }
    return _accuracy("linear probe", scores.astype(np.float32), truth, details)


def _accuracy(
    method: str, scores: NDArray[np.float32], truth: NDArray[np.int64], details: Mapping[str, Any]
) -> Accuracy:
    top5 = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    right = top5[:, 0] == truth
    sizes = np.bincount(truth)
    per_class = np.bincount(truth, weights=right)[sizes > 0] / sizes[sizes > 0]
    return Accuracy(
        method,
        len(truth),
        proportion(int(right.sum()), len(truth)),
        proportion(int((top5 == truth[:, None]).any(axis=1).sum()), len(truth)),
        float(per_class.mean()),
        details,
    )
