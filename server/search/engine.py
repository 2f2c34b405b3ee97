"""SearchEngine: a query goes in, the nearest pictures come out.

    from sightline import Library, SearchEngine

    engine = SearchEngine(Library.open("~/.local/share/sightline/library"))
    for hit in engine.search("dog on a beach -people after:2023").hits:
        print(hit.score, hit.record.absolute)

In a notebook the result of ``search`` shows its pictures.

The command line, the HTTP API and Python code all come through here and get the same answers.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.encoder import registry
from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.types import Embeddings, Filters, Ids
from sightline.server.search.caption_bank import Fitting, WordBank
from sightline.server.search.fused_ranking import Fused, Written
from sightline.server.search.language import notice
from sightline.server.search.lru_cache import LruCache
from sightline.server.search.query import Query, Term, parse
from sightline.server.search.query_vectors import TermVectors, Yielding
from sightline.server.search.ranking import (
    AllOf,
    Listed,
    Nearest,
    Ranking,
    Scores,
    Weighted,
    combine,
)
from sightline.server.search.relevance import relevance
from sightline.server.search.results import Hit, SearchResult
from sightline.server.search.uploads import MAX_UPLOADS, Upload

if TYPE_CHECKING:
    from sightline.indexer.catalog.facets import Months, Suggestion
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library.interface import AnyLibrary

__all__ = ["Hit", "SearchEngine", "SearchResult"]

MAX_K = 10_000
"""Hits that one search gives at most."""

MAX_OFFSET = 2**31

RANKINGS = 64
"""Rankings kept for paging; a deep one of 100,000 places takes 2 MB."""

MAX_DATED = 20_000
"""Good matches that are sorted by date or laid on the timeline."""

EXACTLY = 1024
"""Good matches up to which they are counted one by one."""

FEWEST_WORDS = 3
"""Captions that are told of a picture that none of them really fits."""

FACETS = ("label", "keyword")
"""What the pictures of a query are counted by."""

NOTHING = "nothing here really matches; these come closest"
NO_PICTURE = "no picture meets these filters"
EMPTY = "this library holds no pictures yet"
NOTHING_DATED = "nothing here matches well enough to be sorted by date"


class SearchEngine:
    """Searches one library with the model it was made with. Safe to use from several threads.

    A context manager: leaving it ends the worker process that decodes pictures people search
    with. The library is the caller's to close.
    """

    def __init__(
        self,
        library: AnyLibrary,
        encoder: Encoder | None = None,
        *,
        yielding: Yielding = nullcontext,
    ) -> None:
        """``encoder``: the model that made the library, loaded here unless it is given.

        ``yielding`` makes a context that is entered while a call waits for the model: a server
        lends the caller's slot to other requests meanwhile.
        """
        if encoder is None:
            from sightline.indexer.encoder import Encoder

            encoder = Encoder.load(library.model, revision=library.revision)
        self.library = library
        self.encoder = encoder
        self.uploads: LruCache[Upload] = LruCache(MAX_UPLOADS)
        self.terms = TermVectors(library, encoder, self.uploads, yielding=yielding)
        self.words = WordBank(library, encoder, self.terms.texts)
        self._rankings: LruCache[tuple[Ranking, bool]] = LruCache(RANKINGS)
        self._totals: LruCache[int] = LruCache(RANKINGS)
        self._compared: LruCache[tuple[Embeddings, Scores]] = LruCache(RANKINGS)

    def close(self) -> None:
        """Ends what the engine started."""
        self.terms.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def search(
        self,
        query: Query | str,
        *,
        k: int = 50,
        offset: int = 0,
        images: Sequence[bytes] = (),
        fold: bool = True,
        words: bool = True,
    ) -> SearchResult:
        """The pictures that fit ``query`` best: places ``offset`` to ``offset + k``.

        ``images`` are pictures' bytes: terms of weight 1 beside those of the query. ``fold`` lets
        near-identical shots take one place (``Hit.duplicates``). Ranking is by exact cosine, ties
        by id; with ``words``, a query without pictures that is found in names, titles, captions,
        keywords or places is ranked by both (``word_ranking``). A query without terms lists what
        meets its filters, newest first. Raises ``UsageError`` (``QueryError``) for what cannot be
        asked and ``NotFoundError`` for ``like:`` a picture that is not there.
        """
        started = time.perf_counter()
        parsed = parse(query) if isinstance(query, str) else query
        if not 0 < k <= MAX_K:
            raise UsageError(f"k is {k}; it must be 1 to {MAX_K:,}")
        if not 0 <= offset <= MAX_OFFSET:
            raise UsageError(f"offset is {offset}; it must be 0 to {MAX_OFFSET:,}")
        version = self._refreshed()
        shown = [self.terms.show(data) for data in images]
        ranking, has_terms = self._ranking(parsed, shown, version, fold=fold, words=words)
        total = self._total(parsed.filters)
        # First, since it may look deeper than a page does.
        good = ranking.good(EXACTLY, page=offset + k) if has_terms else None
        page = ranking.page(offset, k)
        hits = self._hits(ranking, page, has_terms=has_terms)
        message = None
        if not total:
            message = NO_PICTURE if parsed.filters else EMPTY
        elif good == 0:
            message = NOTHING if parsed.sort == "relevance" else NOTHING_DATED
        foreign = notice(_written(parsed.terms), self.library.model)
        if foreign is not None:
            message = f"{message}; {foreign}" if message else foreign
        took = (time.perf_counter() - started) * 1000
        return SearchResult(parsed.raw or parsed.to_text(), took, total, good, hits, message)

    def similar(self, image: int, *, k: int = 50) -> SearchResult:
        """The pictures most like one of the library, itself left out."""
        result = self.search(Query((Term(like=image),)), k=min(k + 1, MAX_K), fold=False)
        others = tuple(hit for hit in result.hits if hit.id != image)[:k]
        good = result.good if result.good is None else max(result.good - 1, 0)
        return replace(result, hits=others, good=good, total=max(result.total - 1, 0), message=None)

    def ids(self, query: Query | str) -> Ids:
        """The pictures that a query finds: its good matches, best first (``MAX_DATED`` of them at
        most), or everything that meets its filters when it has no terms."""
        parsed = parse(query) if isinstance(query, str) else query
        ranking, has_terms = self._ranking(
            replace(parsed, sort="relevance"), (), self._refreshed(), fold=True, listed=False
        )
        return ranking.good_ids(MAX_DATED) if has_terms else self.library.select(parsed.filters)

    def facets(self, query: Query | str, *, most: int = 30) -> dict[str, list[Suggestion]]:
        """The labels and keywords of what a query finds, each with its number of pictures."""
        parsed = parse(query) if isinstance(query, str) else query
        known = [kind for kind in FACETS if self.library.facets(kind)]
        ids = self.ids(parsed) if known and (parsed.terms or parsed.filters) else None
        return {
            kind: self.library.facets(kind, ids)[:most] if kind in known else [] for kind in FACETS
        }

    def timeline(self, query: Query | str) -> Months:
        """How many of the good matches (of all that meet the filters, when there are no terms)
        were taken in each month."""
        parsed = parse(query) if isinstance(query, str) else query
        ranking, has_terms = self._ranking(
            replace(parsed, sort="relevance"), (), self._refreshed(), fold=True, listed=False
        )
        if has_terms:
            return self.library.histogram(ranking.good_ids(MAX_DATED))
        return self.library.histogram(
            self.library.select(parsed.filters) if parsed.filters else None
        )

    def random(self, *, k: int = 50, seed: int = 0) -> SearchResult:
        """Pictures drawn by chance; the same ``seed`` draws the same ones."""
        started = time.perf_counter()
        if not 0 < k <= MAX_K:
            raise UsageError(f"k is {k}; it must be 1 to {MAX_K:,}")
        self.library.refresh(wait=False)
        ids = self.library.random(k, seed)
        ranking = Listed(self.library, ids, False)
        hits = self._hits(ranking, ranking.page(0, k), has_terms=False)
        took = (time.perf_counter() - started) * 1000
        total = self.library.count
        return SearchResult("", took, total, None, hits, None if total else EMPTY)

    def upload(self, data: bytes) -> Upload:
        """Keeps a picture for ``upload:TOKEN``. Raises ``UsageError`` when it cannot be read."""
        upload = self.terms.show(data)
        self.uploads.put(upload.token, upload)
        return upload

    def words_for(self, image: int, *, k: int = 10) -> list[tuple[str, float]]:
        """The everyday captions that fit a picture of the library, ``k`` at most, best first, with
        their cosines; the best few of them where none really fits."""
        found = self.describe(image, k=k)
        fitting = [one for one in found if (one.relevance or 0) >= 0.5] or found[:FEWEST_WORDS]
        return [(one.text, max(one.score, 0.0)) for one in fitting]

    def describe(
        self, image: int | bytes, *, texts: Sequence[str] | None = None, k: int = 10
    ) -> list[Fitting]:
        """The ``k`` texts that fit one picture best: one of the library, or a picture's bytes.

        Of a bank of everyday captions, or of ``texts``. Raises ``NotFoundError`` for a picture
        that is not there and ``UsageError`` for one that cannot be read.
        """
        if isinstance(image, bytes):
            vector = self.terms.show(image).vector
        else:
            vector = self.library.vectors(np.array([image], np.int64))[0]
            if np.isnan(vector[0]):
                raise NotFoundError(f"there is no picture {image} in this library")
        return self.words.among(texts, vector, k) if texts else self.words.fitting(vector, k)

    def _refreshed(self) -> int:
        """Takes in what is new, and gives the version of which everything is searched now. It is
        read first: what is written in between is searched or not, and must not be remembered as
        all of a version that it only began."""
        version = self.library.version
        self.library.refresh(wait=False)
        return version

    def _total(self, filters: Filters) -> int:
        if not filters:
            return self.library.count
        key = (filters, self.library.version)
        return self._totals.get_or_create(key, lambda: self.library.matching(filters))

    def _compare(self, vector: NDArray[np.float32]) -> Scores:
        """The cosines of the library's sample to a vector, remembered: refining a query changes
        its filters more often than its words, and the sample is 8 MB to go through."""
        sample = self.library.sample()
        kept = self._compared.get(key := vector.tobytes())
        if kept is None or kept[0] is not sample:
            kept = self._compared.put(key, (sample, sample @ vector))
        return kept[1]

    def _ranking(
        self,
        query: Query,
        shown: Sequence[Upload],
        version: int,
        *,
        fold: bool,
        listed: bool = True,
        words: bool = True,
    ) -> tuple[Ranking, bool]:
        """The ranking of a query, and whether it has terms; remembered for the ``version`` that is
        searched."""
        key = (query, tuple(upload.token for upload in shown), fold, words, version)
        found = self._rankings.get(key)
        if found is not None:
            return found
        made = self._make(query, shown, fold=fold, listed=listed, words=words)
        return self._rankings.put(key, made) if listed or made[1] else made

    def _make(
        self, query: Query, shown: Sequence[Upload], *, fold: bool, listed: bool, words: bool
    ) -> tuple[Ranking, bool]:
        asked = [term for term in query.terms if term.weight]
        vectors = self.terms.resolve(asked)
        terms = [
            Weighted(vector, term.weight, picture=term.text is None)
            for term, vector in zip(asked, vectors, strict=True)
        ]
        terms += [Weighted(upload.vector, 1.0, picture=True) for upload in shown]
        if not terms:
            ids = self._by_date(query) if listed else np.empty(0, np.int64)
            return Listed(self.library, ids, fold), False
        ranking: Ranking
        if query.combine == "all" and sum(term.weight > 0 for term in terms) > 1:
            ranking = AllOf(self.library, query.filters, fold, terms)
        else:
            vector = combine(terms, self.library.sample())
            picture = len(terms) == 1 and terms[0].picture and terms[0].weight > 0
            itself = asked[0].like if picture and asked and asked[0].crop is None else None
            described = len(terms) == 1 and not terms[0].picture and terms[0].weight > 0
            model = registry.find(self.library.model) if described else None
            fits = model.match_cosine if model else None
            text = _written(asked) if words and not any(term.picture for term in terms) else ""
            written = Written.find(self.library, text, query.filters) if text else None
            if written is not None:
                rest = self.terms.texts([written.rest])[0] if written.rest else None
                ranking = Fused(
                    self.library,
                    query.filters,
                    fold,
                    vector,
                    written,
                    rest=rest,
                    fits=fits,
                    sampled=self._compare,
                )
            else:
                ranking = Nearest(
                    self.library,
                    query.filters,
                    fold,
                    vector,
                    picture=picture,
                    itself=itself,
                    fits=fits,
                    sampled=self._compare,
                )
        if query.sort != "relevance":
            ranking = self._dated(ranking, query.sort == "newest", fold)
        return ranking, True

    def _by_date(self, query: Query) -> Ids:
        """Everything that meets the filters, newest first unless told otherwise."""
        return self.library.listed(query.filters, descending=query.sort != "oldest")

    def _dated(self, ranking: Ranking, newest: bool, fold: bool) -> Ranking:
        """The good matches of ``ranking``, by date."""
        good = ranking.good_ids(MAX_DATED)
        ids = self.library.by_date(good, descending=newest)
        dated = Listed(self.library, ids, fold)
        place = {int(image): n for n, image in enumerate(ranking.ids)}
        places = np.array([place[int(image)] for image in ids], np.int64)
        dated.scores, dated.standing = ranking.scores[places], ranking.standing[places]
        dated.line = ranking.line
        return dated

    def _hits(
        self,
        ranking: Ranking,
        page: Sequence[tuple[int, tuple[int, ...]]],
        *,
        has_terms: bool,
    ) -> tuple[Hit, ...]:
        places = np.array([place for place, _ in page], np.int64)
        ids, scores = ranking.ids[places], ranking.scores[places]
        line = ranking.line if has_terms else None
        standing = ranking.standing[places]
        fitting = relevance(standing, line)
        matching = standing >= line if line is not None else np.ones(len(ids), bool)
        found = self.library.images(ids.tolist())
        if len(found) < len(ids):
            # A picture that left since it was ranked has no record any more.
            here = np.isin(ids, [record.id for record in found])
            scores, fitting, matching = scores[here], fitting[here], matching[here]
            page = [one for one, there in zip(page, here, strict=True) if there]
        return tuple(
            Hit(record, score, fit, match, duplicates, partial(self.library.thumbnail, record.id))
            for record, score, fit, match, (_, duplicates) in zip(
                found, scores.tolist(), fitting.tolist(), matching.tolist(), page, strict=True
            )
        )


def _written(terms: Sequence[Term]) -> str:
    """The words that a query wants, as they may be written beside a picture."""
    return " ".join(term.text for term in terms if term.text is not None and term.weight > 0)
