"""SearchEngine: the nearest images to a query.

    from sightline import Library, SearchEngine

    engine = SearchEngine(Library.open("~/.local/share/sightline/library"))
    for hit in engine.search("dog on a beach -people after:2023").hits:
        print(hit.score, hit.record.absolute)

In a notebook a result shows its images. The command line, the HTTP API and Python code all use this
class.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.catalog.text_vectors import StoredTextVectors
from sightline.indexer.encoder import registry
from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.types import EXACT_TEXT, Embeddings, Filters, Ids
from sightline.server.search.calibration import Calibration, text_scale
from sightline.server.search.caption_bank import CaptionBank, ScoredText
from sightline.server.search.fused_ranking import FusedRanking, TextMatches
from sightline.server.search.language import language_notice
from sightline.server.search.lru_cache import LruCache
from sightline.server.search.query import Query, Term, meaning, parse
from sightline.server.search.query_encoder import QueryEncoder, Upload
from sightline.server.search.ranking import (
    CosineRanking,
    ExactTextFirst,
    ListedRanking,
    MatchAllRanking,
    Ranking,
    WeightedVector,
    combine,
)
from sightline.server.search.relevance import UNREACHABLE, ScoreScale, relevance
from sightline.server.search.results import Hit, ResultOrder, SearchResult
from sightline.server.search.snippets import patterns, searches_words, snippet

if TYPE_CHECKING:
    from sightline.indexer.catalog import Months, Suggestion
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.library import AnyLibrary
    from sightline.server.search.duplicate_groups import DuplicateFinder

MAX_K = 10_000
"""Hits of one search."""

MAX_OFFSET = 2**31

CACHED_RANKINGS = 64
"""Rankings in memory, for paging: one of 100,000 ranks takes 2 MB."""

MAX_MATCHES = 20_000
"""Matches that are sorted by date, counted by month or counted by label."""

EXACT_COUNT = 500
"""Matches up to which they are counted exactly; more are estimated."""

MIN_CAPTIONS = 3
"""Captions that ``words_for`` returns even if none is a match, with most models."""

FACETS = ("label", "person", "country", "place", "keyword")

CHANGEABLE = ("label", "collection", "is", "text")
"""Filters by what can change while no embedding does."""

NO_STRONG_MATCHES = "No strong matches. Closest results:"
NONE_TO_SORT = "No strong matches to sort by date."
NO_MATCHES = "No photos match these filters."
EMPTY_LIBRARY = "This library has no photos yet."


def _no_matches(filters: Filters) -> str:
    dates = meaning(filters.conditions)
    return NO_MATCHES if dates is None else f"{NO_MATCHES[:-1]} (taken {dates})."


class SearchEngine:
    """Searches one library with the model it was made with. Safe to use from several threads.

    A context manager: leaving it ends the worker processes that decode query images. The library is
    the caller's to close.
    """

    def __init__(
        self,
        library: AnyLibrary,
        encoder: Encoder | None = None,
        *,
        stored_texts: StoredTextVectors | None = None,
    ) -> None:
        """``encoder``: the library's model; loaded unless given. ``stored_texts``: where vectors of
        texts are kept for later processes."""
        if encoder is None:
            from sightline.indexer.encoder import Encoder

            encoder = Encoder.load(library.model, revision=library.revision, download="named")
            library.check_model(encoder.model, encoder.revision, encoder.dimension)
        self.library = library
        self.encoder = encoder
        self.query_encoder = QueryEncoder(library, encoder, stored_texts)
        self._captions = CaptionBank(library, encoder, self.query_encoder.encode_texts)
        self._rankings: LruCache[tuple[int, Ranking]] = LruCache(CACHED_RANKINGS)
        self._totals: LruCache[int] = LruCache(CACHED_RANKINGS)
        self._scales: LruCache[tuple[Embeddings, ScoreScale]] = LruCache(CACHED_RANKINGS)
        self._calibration = Calibration.of(encoder)

    def close(self) -> None:
        """Ends the worker processes."""
        self.query_encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def duplicates(self) -> DuplicateFinder:
        """Finds the duplicates in the library."""
        from sightline.server.search.duplicate_groups import DuplicateFinder

        return DuplicateFinder(self.library)

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
        """The images nearest to ``query``, ranks ``offset`` to ``offset + k``.

        ``images`` are image files' bytes, terms of weight 1 beside those of the query. With
        ``fold``, near-duplicates share one rank (``Hit.duplicates``). Ranking is by exact cosine,
        ties by id. With ``words``, a query of texts whose words occur in names, titles, captions,
        keywords or places is ranked by both (``fused_ranking``). A query without terms lists what
        meets its filters, newest first. Raises ``UsageError`` (``QueryError``) for an invalid query
        and ``NotFoundError`` for ``like:`` an image that is not in the library.
        """
        started = time.perf_counter()
        parsed = _parsed(query)
        if not 0 < k <= MAX_K:
            raise UsageError(f"k is {k}; it must be 1 to {MAX_K:,}")
        if not 0 <= offset <= MAX_OFFSET:
            raise UsageError(f"offset is {offset}; it must be 0 to {MAX_OFFSET:,}")
        version = self._refresh()
        uploads = [self.query_encoder.encode_image(data) for data in images]
        ranking = self._ranking(parsed, uploads, version, fold=fold, words=words)
        total = self._total(parsed.filters)
        # Counted first: it can need a deeper search than the page.
        good = ranking.count_matches(EXACT_COUNT, page=offset + k)
        hits = self._hits(ranking, ranking.page(offset, k), parsed)
        message = None
        if not total:
            message = _no_matches(parsed.filters) if parsed.filters else EMPTY_LIBRARY
        elif good is not None and not good.count:
            message = NO_STRONG_MATCHES if parsed.sort == "relevance" else NONE_TO_SORT
        notice = self._notice(_positive_text(parsed.terms))
        if notice is not None:
            message = f"{notice} {message}" if message else notice
        took = (time.perf_counter() - started) * 1000
        text = parsed.raw or parsed.to_text()
        return SearchResult(
            text,
            took,
            total,
            None if good is None else good.count,
            hits,
            message,
            parsed.interpreted,
            good_is_estimated=good is not None and good.estimated,
        )

    def similar(self, image: int, *, k: int = 50) -> SearchResult:
        """The images nearest to one of the library, without itself."""
        result = self.search(Query((Term(like=image),)), k=min(k + 1, MAX_K), fold=False)
        others = tuple(hit for hit in result.hits if hit.id != image)[:k]
        good = result.good
        if good is not None and not result.good_is_estimated:
            good = max(good - 1, 0)
        return replace(result, hits=others, good=good, total=max(result.total - 1, 0), message=None)

    def ids(self, query: Query | str) -> Ids:
        """The ids of a query's matches, best first, up to ``MAX_MATCHES``; without terms, of all
        images that meet its filters."""
        parsed = _parsed(query)
        version = self._refresh()
        if not _weighted(parsed.terms):
            return self.library.select(parsed.filters)
        by_relevance = replace(parsed, sort="relevance")
        return self._ranking(by_relevance, (), version, fold=True).match_ids(MAX_MATCHES)

    def order(self, query: Query | str) -> ResultOrder:
        """All results of a query in the order of ``search``. Text and image queries are ranked up
        to ``ranking.MAX_DEPTH``."""
        parsed = _parsed(query)
        ranking = self._ranking(parsed, (), self._refresh(), fold=True)
        ids, heads, matches = ranking.order()
        is_head = np.isin(ids, ranking.ids[heads])
        offsets = np.cumsum(is_head) - 1
        strong = None if matches is None else int(np.searchsorted(offsets, matches))
        in_collection = any(one.name == "collection" for one in parsed.filters.conditions)
        by_rank = _weighted(parsed.terms) or in_collection or self._exact_text(parsed.filters)
        if parsed.sort == "relevance" and by_rank:
            return ResultOrder(ids, offsets, strong, ())
        counted = self.library.histogram(ranking.ids)
        by_date = counted.months if parsed.sort == "oldest" else tuple(reversed(counted.months))
        months: list[tuple[str | None, int]] = []
        rank = 0
        for month, count in (*by_date, (None, counted.undated)):
            if count:
                months.append((month, int(np.searchsorted(heads, rank))))
            rank += count
        return ResultOrder(ids, offsets, strong, tuple(months))

    def facets(self, query: Query | str, *, most: int = 30) -> dict[str, list[Suggestion]]:
        """The ``most`` frequent labels, people, countries, cities and keywords of a query's
        matches, with their counts."""
        parsed = _parsed(query)
        known = [kind for kind in FACETS if self.library.facets(kind)]
        ids = self.ids(parsed) if known and (parsed.terms or parsed.filters) else None
        return {
            kind: self.library.facets(kind, ids)[:most] if kind in known else [] for kind in FACETS
        }

    def timeline(self, query: Query | str) -> Months:
        """A query's matches (without terms, all images that meet its filters) by month taken."""
        parsed = _parsed(query)
        if _weighted(parsed.terms) or parsed.filters:
            return self.library.histogram(self.ids(parsed))
        self._refresh()
        return self.library.histogram(None)

    def random(self, *, k: int = 50, seed: int = 0) -> SearchResult:
        """Random images; the same ``seed`` gives the same ones."""
        started = time.perf_counter()
        if not 0 < k <= MAX_K:
            raise UsageError(f"k is {k}; it must be 1 to {MAX_K:,}")
        self._refresh()
        ranking = ListedRanking(self.library, self.library.random(k, seed), False)
        hits = self._hits(ranking, ranking.page(0, k), Query())
        took = (time.perf_counter() - started) * 1000
        total = self.library.count
        return SearchResult("", took, total, None, hits, None if total else EMPTY_LIBRARY)

    def upload(self, data: bytes) -> Upload:
        """Keeps an image in memory for ``upload:TOKEN``. Raises ``UsageError`` if it cannot be
        decoded."""
        return self.query_encoder.upload(data)

    def words_for(self, image: int, *, k: int = 10) -> list[tuple[str, float]]:
        """The captions that match an image of the library, up to ``k``, with their cosines. If none
        does, the best ``MIN_CAPTIONS`` with a model whose ``caption_cosine`` is not known. [] for
        an image without an embedding."""
        try:
            texts = self.describe(image, k=k)
        except NotFoundError:
            if self.library.image(image) is None:
                raise
            return []
        matches = [one for one in texts if (one.relevance or 0) >= 0.5]
        model = registry.find(self.library.model)
        if model is None or model.caption_cosine is None:
            matches = matches or texts[:MIN_CAPTIONS]
        else:
            matches = [one for one in matches if one.score >= model.caption_cosine]
        return [(one.text, max(one.score, 0.0)) for one in matches]

    def describe(
        self, image: int | bytes, *, texts: Sequence[str] | None = None, k: int = 10
    ) -> list[ScoredText]:
        """The ``k`` texts nearest to an image of the library or an image file's bytes.

        From ``texts``, or a bank of everyday captions. Raises ``NotFoundError`` for an image that
        is not in the library and ``UsageError`` for one that cannot be decoded.
        """
        if isinstance(image, bytes):
            vector = self.query_encoder.encode_image(image).vector
        else:
            (vector,) = self.query_encoder.encode_terms([Term(like=image)])
        return self._captions.rank(vector, k, texts=texts)

    def _refresh(self) -> int:
        """Makes the latest commits searchable; returns the library's version from before.

        The version is read first: an image written in between may or may not be searched, so its
        version must not be the key of a cached ranking."""
        version = self.library.version
        self.library.refresh(wait=False)
        return version

    def _notice(self, text: str) -> str | None:
        """What is to say about the words of a query, in one line."""
        foreign = language_notice(text, self.library.model)
        if foreign is not None:
            return foreign
        unknown = [f'"{word}"' for word in self.query_encoder.unknown_words(text)]
        if not unknown:
            return None
        words = "the word" if len(unknown) == 1 else "the words"
        return f"This model does not know {words} {', '.join(unknown)}."

    def _total(self, filters: Filters) -> int:
        if not filters:
            return self.library.count
        key = (filters, self.library.version, self._stamp(filters))
        return self._totals.get_or_create(key, lambda: self.library.matching(filters))

    def _stamp(self, filters: Filters) -> int:
        """Part of the key of what is cached for ``filters``: labels and collections change without
        a new version."""
        changeable = any(one.name in CHANGEABLE for one in filters.conditions)
        return self.library.stamp if changeable else 0

    def _scale(self, vector: NDArray[np.float32], text: str | None) -> ScoreScale:
        """The scale of a vector's cosines to the library's sample; ``text``: its positive text if
        it is one of texts only. Cached: clients change filters more often than terms, and the
        sample is 8 MB."""
        sample = self.library.sample()
        cached = self._scales.get(key := (vector.tobytes(), text))
        if cached is None or cached[0] is not sample:
            calibration = self._calibration if text is not None else None
            ids = self.encoder.word_ids(text) if text is not None else []
            cached = self._scales.put(
                key, (sample, text_scale(vector, sample, calibration, ids=ids))
            )
        return cached[1]

    def _ranking(
        self,
        query: Query,
        uploads: Sequence[Upload],
        version: int,
        *,
        fold: bool,
        words: bool = True,
    ) -> Ranking:
        """The ranking of a query in one version of the library. A cached one of an earlier version
        is used if what has changed since is in none of its ranks."""
        stamp = self._stamp(query.filters)
        key = (query, tuple(upload.token for upload in uploads), fold, words, stamp)
        cached = self._rankings.get(key)
        if cached is not None and cached[0] == version:
            return cached[1]
        ranking = self._rank(query, uploads, fold=fold, words=words)
        if cached is not None:
            changes = self.library.changes(cached[0])
            if changes is not None and cached[1].outlasts(changes, ranking):
                ranking = cached[1]
        return self._rankings.put(key, (version, ranking))[1]

    def _rank(self, query: Query, uploads: Sequence[Upload], *, fold: bool, words: bool) -> Ranking:
        terms = _weighted(query.terms)
        texts = [term.text for term in terms if term.text is not None]
        match_all = query.combine == "all" and (
            sum(term.weight > 0 for term in terms) + len(uploads) > 1
        )
        by_text = words and not match_all and not uploads and len(texts) == len(terms)
        matches = self._text_matches(terms, query.filters) if by_text else None
        if matches is not None and matches.remainder:
            # In one batch, which takes two thirds of the time; both are cached then.
            self.query_encoder.encode_texts([*texts, matches.remainder])
        vectors = [
            WeightedVector(vector, term.weight, is_image=term.text is None)
            for term, vector in zip(terms, self.query_encoder.encode_terms(terms), strict=True)
        ]
        vectors += [WeightedVector(upload.vector, 1.0, is_image=True) for upload in uploads]
        if not vectors:
            descending = None if query.sort == "relevance" else query.sort == "newest"
            ids = self.library.listed(query.filters, descending=descending)
            if descending is None and (exact := self._exact_text(query.filters)):
                is_exact = np.isin(ids, self.library.select(exact))
                ids = np.concatenate([ids[is_exact], ids[~is_exact]])
            return ListedRanking(self.library, ids, fold)

        def rank(filters: Filters) -> Ranking:
            if match_all:
                return MatchAllRanking(self.library, filters, fold, vectors)
            found = matches
            if by_text and filters != query.filters:
                found = self._text_matches(terms, filters)
            return self._rank_by_sum(filters, terms, vectors, found, fold=fold)

        ranking = rank(query.filters)
        if exact := self._exact_text(query.filters):
            ranking = ExactTextFirst(self.library, query.filters, fold, ranking, rank(exact))
        if query.sort == "relevance":
            return ranking
        return self._by_date(ranking, newest_first=query.sort == "newest", fold=fold)

    def _exact_text(self, filters: Filters) -> Filters | None:
        """``filters`` without words that differ by a reading error; None if no image has any."""
        exact = Filters(
            tuple(
                replace(one, name=EXACT_TEXT) if one.name == "text" and not one.negated else one
                for one in filters.conditions
            )
        )
        if exact == filters or self.library.matching(exact) == self._total(filters):
            return None
        return exact

    def _text_matches(self, terms: Sequence[Term], filters: Filters) -> TextMatches | None:
        text = _positive_text(terms)
        return TextMatches.find(self.library, text, filters) if text else None

    def _rank_by_sum(
        self,
        filters: Filters,
        terms: Sequence[Term],
        vectors: Sequence[WeightedVector],
        matches: TextMatches | None,
        *,
        fold: bool,
    ) -> CosineRanking:
        """``vectors`` are those of ``terms`` and then of images without a term."""
        vector = combine(vectors, self.library.sample())
        single = len(vectors) == 1 and vectors[0].weight > 0
        only_texts = not any(one.is_image for one in vectors)
        scale = self._scale(vector, _positive_text(terms) if only_texts else None)
        if only_texts and self._knows_nothing_of(_positive_text(terms)):
            scale = replace(scale, threshold=UNREACHABLE, matches=0)
        if matches is not None:
            remainder = None
            if matches.remainder:
                (rest,) = self.query_encoder.encode_texts([matches.remainder])
                remainder = rest, self._scale(rest, matches.remainder)
            return FusedRanking(
                self.library, filters, fold, vector, scale, matches, remainder=remainder
            )
        one_image = single and not only_texts
        itself = terms[0].like if one_image and terms and terms[0].crop is None else None
        return CosineRanking(
            self.library, filters, fold, vector, scale, is_image=one_image, itself=itself
        )

    def _knows_nothing_of(self, text: str) -> bool:
        """Whether the model knows none of the words of ``text``."""
        unknown = self.query_encoder.unknown_words(text)
        return bool(unknown) and len(unknown) == len(text.split())

    def _by_date(self, ranking: Ranking, *, newest_first: bool, fold: bool) -> Ranking:
        """The matches of ``ranking`` by date."""
        ids = self.library.by_date(ranking.match_ids(MAX_MATCHES), descending=newest_first)
        by_id = np.argsort(ranking.ids)
        ranks = by_id[np.searchsorted(ranking.ids, ids, sorter=by_id)]
        return ListedRanking(
            self.library,
            ids,
            fold,
            scores=ranking.scores[ranks],
            z_scores=ranking.z_scores[ranks],
            threshold=ranking.threshold,
        )

    def _hits(
        self, ranking: Ranking, page: Sequence[tuple[int, tuple[int, ...]]], query: Query
    ) -> tuple[Hit, ...]:
        ranks = np.array([rank for rank, _ in page], np.int64)
        z_scores = ranking.z_scores[ranks]
        relevances = relevance(z_scores, ranking.threshold)
        matches = z_scores >= (-np.inf if ranking.threshold is None else ranking.threshold)
        shown = ranking.ids[ranks].tolist()
        records = {record.id: record for record in self.library.images(shown)}
        labels = self.library.labels(shown)
        texts = self.library.texts(shown) if searches_words(query) else {}
        words = patterns(query, self.library) if texts else ()
        snippets = {i: snippet(lines, words) for i, lines in texts.items()}
        return tuple(
            Hit(
                record,
                score,
                fit,
                match,
                snippets.get(image),
                duplicates,
                labels[image][0][0] if image in labels else None,
                partial(self.library.thumbnail, image),
            )
            for image, score, fit, match, (_, duplicates) in zip(
                shown,
                ranking.scores[ranks].tolist(),
                relevances.tolist(),
                matches.tolist(),
                page,
                strict=True,
            )
            # An image deleted since it was ranked has no record.
            if (record := records.get(image)) is not None
        )


def _parsed(query: Query | str) -> Query:
    return parse(query) if isinstance(query, str) else query


def _weighted(terms: Sequence[Term]) -> list[Term]:
    """Terms of weight 0 are kept in a query, without effect."""
    return [term for term in terms if term.weight]


def _positive_text(terms: Sequence[Term]) -> str:
    return " ".join(term.text for term in terms if term.text is not None and term.weight > 0)
