"""How good a model, and a library's index, are on sets with known answers.

*Retrieval*: every caption looks for its picture among all pictures, and every picture for one of
its captions among all captions: recall@1, @5 and @10, and the median rank. Exactly, and, for a
library, through its vector index. *Classification*: zero-shot by the names of the classes in prompt
templates, and a linear probe (logistic regression on frozen embeddings), top-1 and top-5.

Intervals are at 95%: Wilson's where cases are independent, the bootstrap over pictures where five
captions belong to one. ``docs/evaluation.md`` has published figures to check these against.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.encoder import encode_photos
from sightline.indexer.errors import PhotoError, UsageError
from sightline.indexer.evaluation.datasets import Captioned, Classified
from sightline.indexer.evaluation.metrics import (
    AT,
    Adjust,
    Ranks,
    Share,
    centred,
    chunks,
    plain,
    query_bank,
    ranks,
    share,
    shares_of_groups,
    standing,
)
from sightline.indexer.photo.decoder import Decoder
from sightline.indexer.types import Candidate, Embeddings, Ids, Photo, Progress, no_progress
from sightline.indexer.zero_shot.captions import CAPTIONS
from sightline.indexer.zero_shot.labels import classifier
from sightline.indexer.zero_shot.prompts import fill

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.library import Library

RANKINGS = ("plain", "centred", "querybank", "standing")
"""Ideas of ranking that ``retrieval`` measures; ``standing`` for captions of a picture only,
``querybank`` for pictures of a caption only."""

Direction = Literal["text_to_image", "image_to_text"]


PROBE_CS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse strengths of regularisation that a probe chooses among, for standardised features. Raw
embeddings lie in a cone, where it takes ten times as long and finds less: .24 for .30 with the
built-in model and 25 pictures of each class of Tiny ImageNet."""

PROBE_TRIES = 10_000
"""Pictures at most with which that choice is made; the probe itself takes all."""

PROBE_STEPS = 1000
"""Steps of L-BFGS at most, as in the CLIP paper (Radford et al. 2021, appendix A.3)."""


@dataclass(frozen=True)
class Retrieval:
    """Recall of one kind of query."""

    direction: Direction
    ranking: str
    through: Literal["exact", "index"]
    queries: int
    gallery: int
    recall: Mapping[int, Share]
    median_rank: float | None
    """1 is the first place; None where it lies beyond what was looked at."""

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
    """How often the right class came first, and among five."""

    method: str
    """The name of the templates, or ``linear probe``."""
    cases: int
    top1: Share
    top5: Share
    mean_per_class: float
    """Top-1, each class counted alike."""
    about: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "method": self.method,
            "cases": self.cases,
            "top1": self.top1.as_dict(),
            "top5": self.top5.as_dict(),
            "mean_per_class": round(self.mean_per_class, 5),
            **self.about,
        }


@dataclass(frozen=True)
class Encoded:
    """Pictures that have become vectors."""

    vectors: Embeddings
    """``(n, d)`` of those that could be read, in their order."""
    kept: Ids
    """The places of these among the files given."""
    failures: tuple[str, ...]
    """The others, each with its reason."""


def encode_files(
    encoder: Encoder,
    files: Sequence[Path],
    *,
    workers: int | None = None,
    show: Progress = no_progress,
) -> Encoded:
    """Reads and encodes ``files`` as an indexing run does."""
    result = np.full((len(files), encoder.dimension), np.nan, np.float32)
    places: dict[Path, list[int]] = {}
    for place, file in enumerate(files):
        places.setdefault(file, []).append(place)
    failures: list[str] = []

    def readable(
        read: Iterator[tuple[Candidate, Photo | PhotoError]],
    ) -> Iterator[tuple[Path, Photo]]:
        for candidate, outcome in read:
            if isinstance(outcome, PhotoError):
                failures.append(f"{candidate.absolute}: {outcome}")
            else:
                yield candidate.absolute, outcome

    candidates = (Candidate(file.parent, file.name, 0, 0) for file in places)
    cores = workers or os.cpu_count() or 1
    with Decoder(encoder.geometry, workers=min(cores, max(len(places), 1))) as decoder:
        done = 0
        for batch in encode_photos(encoder, readable(decoder.photos(candidates))):
            for file, _, vector in batch:
                result[places[file]] = vector
            done += len(batch)
            show("encoding pictures", done + len(failures), len(places))
    kept = np.flatnonzero(~np.isnan(result[:, 0])).astype(np.int64)
    if not len(kept):
        raise UsageError(f"none of the pictures could be read: {failures[0]}")
    return Encoded(result[kept], kept, tuple(failures))


def encode_captions(
    encoder: Encoder,
    captions: Sequence[str],
    templates: Sequence[str] = ("{}",),
    *,
    show: Progress = no_progress,
) -> Embeddings:
    """``(n, d)``: the mean over the templates of each caption, unit length."""
    step = 4096
    total = np.zeros((len(captions), encoder.dimension), np.float32)
    for template in templates:
        for start in range(0, len(captions), step):
            some = [fill(template, text) for text in captions[start : start + step]]
            total[start : start + step] += encoder.encode_texts(some)
            show("encoding captions", min(start + step, len(captions)), len(captions))
    result: Embeddings = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return result


# retrieval ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gallery:
    """The pictures among which captions look for theirs."""

    vectors: Embeddings
    """``(m, d)``."""
    rows: Ids
    """Where the pictures of the set stand among them; -1 for one that could not be read."""
    ids: Ids | None = None
    """The library's ids of ``vectors``, where they are a library's."""


def gallery_of(encoded: Encoded, pictures: int) -> Gallery:
    """The pictures of the set alone."""
    rows = np.full(pictures, -1, np.int64)
    rows[encoded.kept] = np.arange(len(encoded.kept))
    return Gallery(encoded.vectors, rows)


def gallery_in(library: Library, images: Sequence[Path]) -> Gallery:
    """All pictures of a library, those of the set among them. ``UsageError`` where one of these is
    not in the library."""
    blocks = list(library.catalog.blocks())
    if not blocks:
        raise UsageError(f"the library in {library.directory} is empty")
    ids = np.concatenate([block for block, _ in blocks])
    found = [library.catalog.find(Path(os.path.abspath(file))) for file in images]  # noqa: PTH100
    missing = [file for file, record in zip(images, found, strict=True) if record is None]
    if missing:
        raise UsageError(
            f"{len(missing):,} of the {len(images):,} pictures are not in the library, {missing[0]}"
            " the first of them: index their folder first"
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
    show: Progress = no_progress,
) -> list[Retrieval]:
    """Both directions, exactly, for each of ``rankings``.

    ``texts`` are the captions' vectors; ``bank`` those of everyday captions, for ``centred`` and
    ``querybank``. Captions of pictures that could not be read are left out.
    """
    own = gallery.rows[np.asarray(captioned.own, np.int64)]
    there = own >= 0
    texts, own = texts[there], own[there]
    pictures = np.unique(own)
    captions_of: dict[int, list[int]] = {int(row): [] for row in pictures}
    for caption, row in enumerate(own.tolist()):
        captions_of[row].append(caption)
    images = gallery.vectors[pictures]
    results: list[Retrieval] = []
    for number, ranking in enumerate(rankings):
        show("ranking", number, len(rankings))
        if ranking not in RANKINGS:
            raise UsageError(f"no ranking is called {ranking!r}: {', '.join(RANKINGS)}")
        if ranking in ("centred", "querybank") and (bank is None or not len(bank)):
            raise UsageError(f"the ranking {ranking!r} needs a bank of captions")
        asked = centred(texts, bank) if ranking == "centred" and bank is not None else texts
        if ranking != "standing":
            adjust: Adjust = plain
            if ranking == "querybank" and bank is not None:
                adjust = query_bank(gallery.vectors, bank)
            places = ranks(asked, gallery.vectors, own[:, None].tolist(), adjust)
            results.append(
                _recall("text_to_image", ranking, "exact", places, own, len(gallery.vectors))
            )
        if ranking != "querybank":
            judge: Adjust = standing(asked, gallery.vectors) if ranking == "standing" else plain
            answers = [captions_of[int(row)] for row in pictures]
            places = ranks(images, asked, answers, judge)
            results.append(_recall("image_to_text", ranking, "exact", places, pictures, len(texts)))
    return results


def through_index(
    library: Library, texts: Embeddings, gallery: Gallery, captioned: Captioned
) -> tuple[Retrieval, float]:
    """Captions to pictures through the library's vector index as it is, and the share of the exact
    first ten that it found."""
    assert gallery.ids is not None
    own = gallery.rows[np.asarray(captioned.own, np.int64)]
    depth = max(AT)
    few = min(depth, len(gallery.vectors))
    places = np.full(len(texts), depth + 1, np.int64)
    same = 0
    for some in chunks(len(texts), len(gallery.vectors)):
        _, ids = library.nearest(texts[some], depth)
        right = ids == gallery.ids[own[some]][:, None]
        places[some] = np.where(right.any(axis=1), 1 + right.argmax(axis=1), depth + 1)
        scores = texts[some] @ gallery.vectors.T
        exact = np.argpartition(scores, -few, axis=1)[:, -few:]
        same += sum(
            len(set(line.tolist()) & set(gallery.ids[best].tolist()))
            for line, best in zip(ids, exact, strict=True)
        )
    found = _recall("text_to_image", "plain", "index", places, own, len(gallery.vectors), depth)
    return found, same / (len(texts) * few)


def _recall(
    direction: Direction,
    ranking: str,
    through: Literal["exact", "index"],
    places: Ranks,
    groups: Ids,
    gallery: int,
    depth: int | None = None,
) -> Retrieval:
    median = float(np.median(places))
    return Retrieval(
        direction,
        ranking,
        through,
        len(places),
        gallery,
        {k: shares_of_groups(places <= k, groups.tolist()) for k in AT},
        None if depth is not None and median > depth else median,
    )


def bank_vectors(encoder: Encoder, captions: Sequence[str] | None = None) -> Embeddings:
    """The vectors of a bank of captions: of everyday ones unless others are given."""
    return encoder.encode_texts(list(captions or CAPTIONS))


# classification -----------------------------------------------------------------------------------


def zero_shot(
    encoder: Encoder,
    images: Embeddings,
    truth: NDArray[np.int64],
    classified: Classified,
    templates: Mapping[str, Sequence[str]],
    *,
    show: Progress = no_progress,
) -> list[Accuracy]:
    """Pictures to classes by their names, once for each of ``templates``."""
    results = []
    for number, (name, some) in enumerate(templates.items()):
        show("encoding prompts", number, len(templates))
        vectors = classifier(encoder, classified.labels, some)
        about = {"prompts": len(some) * sum(len(one.names) for one in classified.labels)}
        results.append(_accuracy(name, images @ vectors.T, truth, about))
    return results


def linear_probe(
    train: Embeddings,
    train_truth: NDArray[np.int64],
    images: Embeddings,
    truth: NDArray[np.int64],
) -> Accuracy:
    """Logistic regression on frozen embeddings, as in the CLIP paper: L-BFGS, its strength of
    regularisation chosen on a fifth of ``train`` that is held out. Embeddings are standardised by
    the mean and spread of ``train``. Raises ``UsageError`` where scikit-learn is missing, or a
    class has too few pictures."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise UsageError(
            "a linear probe needs scikit-learn: pip install 'sightline[eval]'"
        ) from error
    counts = np.bincount(train_truth)
    if counts[counts > 0].min() < 2 or np.count_nonzero(counts) < 2:
        raise UsageError("a linear probe needs two pictures or more to learn each class from")
    mean, spread = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-6)
    train, images = (train - mean) / spread, (images - mean) / spread
    some = np.random.default_rng(0).permutation(len(train))[:PROBE_TRIES]
    try:
        learn, held = train_test_split(
            some, test_size=0.2, random_state=0, stratify=train_truth[some]
        )
    except ValueError:  # too few of some class to have it in both parts
        learn, held = train_test_split(some, test_size=0.2, random_state=0)

    # From strong to weak regularisation, each solution the start of the next one's search.
    probe: Any = LogisticRegression(max_iter=PROBE_STEPS, warm_start=True)
    best, reached = PROBE_CS[0], -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged is in the report
        for c in PROBE_CS:
            probe.set_params(C=c).fit(train[learn], train_truth[learn])
            score = float(probe.score(train[held], train_truth[held]))
            if score < reached:
                break
            best, reached = c, score
        probe = LogisticRegression(C=best, max_iter=PROBE_STEPS).fit(train, train_truth)
    scores = np.full((len(images), int(max(truth.max(), train_truth.max())) + 1), -np.inf)
    decision = probe.decision_function(images)
    if decision.ndim == 1:  # two classes: one column, for the second
        decision = np.stack([-decision, decision], axis=1)
    scores[:, probe.classes_] = decision
    about = {
        "trained_on": len(train),
        "C": best,
        "converged": bool(int(np.max(probe.n_iter_)) < PROBE_STEPS),
    }
    return _accuracy("linear probe", scores.astype(np.float32), truth, about)


def _accuracy(
    method: str, scores: NDArray[np.float32], truth: NDArray[np.int64], about: Mapping[str, Any]
) -> Accuracy:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    first = order[:, 0] == truth
    five = (order == truth[:, None]).any(axis=1)
    sizes = np.bincount(truth)
    each = np.bincount(truth, weights=first)[sizes > 0] / sizes[sizes > 0]
    return Accuracy(
        method,
        len(truth),
        share(int(first.sum()), len(truth)),
        share(int(five.sum()), len(truth)),
        float(each.mean()),
        about,
    )
