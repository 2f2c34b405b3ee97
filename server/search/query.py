"""The query language: a line of text <-> ``Query`` (terms, filters, options).

    dog on a beach -people after:2023-06-01 in:Holidays camera:iphone

======================== =====================================================================
``dog on a beach``       plain words form one text term
``"a red car"``          a separate text term; quoted text is never a filter
``-people -"a crowd"``   negative terms: a word, a phrase
``2:golden retriever``   weight 2 for this and the following words, up to the next quoted or
                         weighted term; ``-0.5:fog`` has weight -0.5
``like:5``               an image of the library; ``-like:5`` and ``2:like:5`` work too
``like:5@0,0,.5,1``      a region of it: left, top, right, bottom as fractions of the image
``upload:TOKEN``         an image uploaded before
``date:2012-06``         taken in that year, month or on that day; ``date:2012-06-01..2012-06-14``
                         from the first to the last day of a range, ``after:2012`` from its first
                         day, ``before:2012`` before it
``in:"My trip"``         filters, see ``indexer.types.Condition``; ``-in:x`` inverts one
``match:all``            every term must match (the default is ``match:sum``)
``sort:newest``          matches by date: ``newest``, ``oldest`` or ``relevance``
``beach july 2023``      plain words can hold dates (``date_words``), which are filters too
======================== =====================================================================

Any other word with a colon is plain text, and so is a number before a number (``16:9``). A text
cannot contain double quotes. Typographic quotes, which phones write, are read as plain ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, NamedTuple

from sightline.indexer.dates import PRECISIONS, end_of, from_text, to_text
from sightline.indexer.errors import QueryError
from sightline.indexer.types import Condition, Filters
from sightline.server.search.date_words import FoundDate, find_dates, without_dates

MAX_LENGTH = 2000
"""Characters of a query."""

MAX_TERMS = 32
MAX_CONDITIONS = 64
MAX_WEIGHT = 100.0
MAX_ID = 2**63 - 1
EARTH_KM = 20_040.0
"""Half of the equator: the largest useful radius."""

NEAR_KM = 10.0
"""Default radius of ``near:lat,lon``."""

NO_FILTERS = Filters()

DECIMALS = 4
"""Decimal places of weights and boxes; coordinates have six (0.1 m)."""

Combine = Literal["sum", "all"]
Sort = Literal["relevance", "newest", "oldest"]


class Box(NamedTuple):
    """A region of an image as displayed: fractions of its width and height, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Term:
    """A text or an image with a weight. One of ``text``, ``like`` and ``upload`` is set."""

    text: str | None = None
    like: int | None = None
    """Id of an image of the library."""
    upload: str | None = None
    """Token of an uploaded image."""
    crop: Box | None = None
    """A region of the image; None for the whole image."""
    weight: float = 1.0
    """Negative ranks similar images lower; 0 has no effect."""

    @property
    def kind(self) -> Literal["text", "like", "upload"]:
        """Which of the three is set."""
        if self.text is not None:
            return "text"
        return "like" if self.like is not None else "upload"

    def as_dict(self) -> dict[str, Any]:
        """As ``/api/parse`` returns it."""
        common = {"box": list(self.crop) if self.crop else None, "weight": self.weight}
        if self.text is not None:
            return {"kind": "text", "text": self.text, **common}
        if self.like is not None:
            return {"kind": "like", "id": self.like, **common}
        return {"kind": "upload", "token": self.upload, **common}

    def to_text(self) -> str:
        """The term in the query language, if it is not the plain words."""
        size = abs(self.weight)
        sign = "-" if self.weight < 0 else ""
        factor = "" if size == 1 else f"{_number(size)}:"
        if self.text is not None:
            # A single plain word needs no quotes after a minus: -people.
            bare = bool(sign) and not factor and _is_bare_word(self.text)
            return f"{sign}{factor}{self.text}" if bare else f'{sign}{factor}"{self.text}"'
        body = f"like:{self.like}" if self.like is not None else f"upload:{self.upload}"
        part = "@" + ",".join(map(_number, self.crop)) if self.crop else ""
        return f"{sign}{factor}{body}{part}"


@dataclass(frozen=True)
class DateWords:
    """A date in the plain words of a query."""

    words: str
    """As they were written."""
    filters: tuple[Condition, ...]
    applied: bool
    """Whether these are among the query's filters, and the words not among its terms. If not, the
    words may be a date."""
    other: str
    """The query that reads the words the other way."""

    @property
    def filter(self) -> str:
        """The filters in the query language."""
        return " ".join(map(_condition_text, self.filters))

    @property
    def sentence(self) -> str:
        """For the user, in one line."""
        if self.applied:
            return f'"{self.words}" is read as {self.filter}: quote it to search for the words'
        return f'"{self.words}" may be a date: {self.filter} searches for it'

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "words": self.words,
            "filter": self.filter,
            "applied": self.applied,
            "other": self.other,
        }


@dataclass(frozen=True)
class Query:
    """A parsed query. ``raw`` is the line it was parsed from, and is not compared."""

    terms: tuple[Term, ...] = ()
    filters: Filters = NO_FILTERS
    combine: Combine = "sum"
    sort: Sort = "relevance"
    raw: str = field(default="", compare=False)
    interpreted: tuple[DateWords, ...] = field(default=(), compare=False)
    """Dates in its plain words."""

    def to_text(self) -> str:
        """A line that ``parse`` reads as an equal query."""
        parts = []
        plain_taken = False
        for term in self.terms:
            if not plain_taken and term.weight == 1 and term.text and _is_plain(term.text):
                parts.append(term.text)
                plain_taken = True
            else:
                parts.append(term.to_text())
        parts += [_condition_text(condition) for condition in self.filters.conditions]
        if self.combine != "sum":
            parts.append(f"match:{self.combine}")
        if self.sort != "relevance":
            parts.append(f"sort:{self.sort}")
        return " ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """As ``/api/parse`` returns it."""
        dated = [one.as_dict() for one in self.interpreted]
        return {
            "terms": [_term_dict(term) for term in self.terms],
            "filters": [_condition_dict(c) for c in self.filters.conditions],
            "combine": self.combine,
            "sort": self.sort,
            "text": self.to_text(),
            **({"interpreted": dated} if dated else {}),
        }


# Characters other than white space; quoted text may contain it, and an unclosed quote ends with the
# line.
TOKEN = re.compile(r'(?:[^\s"]+|"[^"]*"?)+')
# A weight precedes a word, not another number: 16:9 and 10:30 are text.
_WEIGHT = re.compile(r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}):(?=[^\d\s])", re.ASCII)
_NAME = re.compile(r"([A-Za-z]+):")
_LIKE = re.compile(r"(\d{1,19})(?:@(.*))?", re.ASCII | re.DOTALL)
_UPLOAD = re.compile(r"([A-Za-z0-9_-]{1,64})(?:@(.*))?", re.ASCII | re.DOTALL)
_DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d{1,9}(?:\.\d*)?|\.\d+)", re.ASCII)
_QUOTES = str.maketrans(dict.fromkeys("\u201c\u201d\u201e\u201f\uff02\u00ab\u00bb", '"'))


def parse(text: str, *, today: date | None = None, dates: bool = True) -> Query:
    """Parses one line. ``today`` is what ``yesterday`` precedes, by default that of this machine's
    clock; without ``dates``, dates in plain words stay words. Raises ``QueryError`` that names the
    invalid part."""
    if len(text) > MAX_LENGTH:
        raise QueryError(f"the query has {len(text):,} characters; the limit is {MAX_LENGTH:,}")
    # Tokenizers and SQLite reject lone surrogates, which JSON escapes can hold.
    clean = text.encode("utf-8", "replace").decode("utf-8").translate(_QUOTES)
    parser = _Parser()
    for token in TOKEN.findall(clean):
        parser.read(token)
    if dates:
        parser.read_dates(today or date.today())
    return parser.query(text)


class _Parser:
    """Reads tokens from left to right. ``current`` is the text term that plain words extend."""

    def __init__(self) -> None:
        self.terms: list[Term | _TextTerm] = []
        self.plain = _TextTerm(1.0)
        self.current = self.plain
        self.conditions: list[Condition] = []
        self.combine: Combine = "sum"
        self.sort: Sort = "relevance"
        self.tokens: list[str] = []
        self.plain_at: list[int] = []
        """Indices of the tokens that are the words of ``plain``."""
        self.interpreted: list[DateWords] = []

    def read(self, token: str) -> None:
        self.tokens.append(token)
        negated = token.startswith("-") and len(token) > 1
        body = token[1:] if negated else token
        weight = _WEIGHT.match(body)
        if weight:
            body = body[weight.end() :]
        size = _weight(weight[1]) if weight else 1.0
        signed = -size if negated else size
        name = _NAME.match(body)
        key = name[1].lower() if name else ""
        value = body[name.end() :].replace('"', "") if name else ""
        if key in ("like", "upload"):
            self.terms.append(_image_term(key, value, signed))
        elif key in _VALUES and not weight:
            self.conditions.append(Condition(key, _filter_value(key, value), negated))
        elif key == "match" and not weight and not negated:
            self.combine = _choice(key, value, {"all": "all", "sum": "sum"})
        elif key == "sort" and not weight and not negated:
            choices = {name: name for name in ("relevance", "newest", "oldest")}
            self.sort = _choice(key, value, choices)
        elif body.startswith('"'):
            self.add(_TextTerm(signed, [body]))
            self.current = self.plain
        elif weight:
            self.current = _TextTerm(signed, [body])
            self.add(self.current)
        elif negated:
            self.add(_TextTerm(signed, [body]))
        else:
            self.add(self.current)
            self.current.parts.append(body)
            if self.current is self.plain:
                self.plain_at.append(len(self.tokens) - 1)

    def read_dates(self, today: date) -> None:
        """Makes filters of the dates in the plain words."""
        words = self.plain.parts
        if any('"' in word for word in words):
            return
        found = find_dates(words, today)
        for one in found:
            filters = one.conditions
            dated = DateWords(
                words=" ".join(words[one.start : one.end]),
                filters=filters,
                applied=one.certain,
                other=self.as_words() if one.certain else self.as_filters(one),
            )
            self.interpreted.append(dated)
            if one.certain:
                self.conditions += filters
        if any(one.certain for one in found):
            self.plain.parts = without_dates(words, found)

    def as_words(self) -> str:
        """The query with its plain words in quotes, which are never dates."""
        quoted = f'"{" ".join(self.plain.parts)}"'
        first, *others = self.plain_at
        tokens = [quoted if n == first else token for n, token in enumerate(self.tokens)]
        return " ".join(token for n, token in enumerate(tokens) if n not in others)

    def as_filters(self, found: FoundDate) -> str:
        """The query with a filter in place of the words of a date."""
        dated = set(self.plain_at[found.start : found.end])
        rest = [token for n, token in enumerate(self.tokens) if n not in dated]
        return " ".join([*rest, *map(_condition_text, found.conditions)])

    def add(self, text: _TextTerm) -> None:
        """Adds a term, once."""
        if not any(text is term for term in self.terms):
            self.terms.append(text)

    def query(self, raw: str) -> Query:
        """The query of all tokens read."""
        terms = [term.term() if isinstance(term, _TextTerm) else term for term in self.terms]
        kept = tuple(term for term in terms if term.text != "")
        if len(kept) > MAX_TERMS:
            raise QueryError(f"the query has {len(kept)} terms; the limit is {MAX_TERMS}")
        if len(self.conditions) > MAX_CONDITIONS:
            raise QueryError(
                f"the query has {len(self.conditions)} filters; the limit is {MAX_CONDITIONS}"
            )
        conditions = tuple(dict.fromkeys(self.conditions))
        return Query(
            kept, Filters(conditions), self.combine, self.sort, raw, tuple(self.interpreted)
        )


class _TextTerm:
    """A text term whose words are still being read."""

    def __init__(self, weight: float, parts: list[str] | None = None) -> None:
        self.weight = weight
        self.parts = parts or []

    def term(self) -> Term:
        """The term, without quotes, white space collapsed."""
        text = " ".join(" ".join(self.parts).replace('"', "").split())
        return Term(text=text, weight=self.weight)


def _weight(text: str) -> float:
    weight = round(float(text), DECIMALS)
    if weight > MAX_WEIGHT:
        raise QueryError(f"the weight {text}: is too large; the limit is {MAX_WEIGHT:g}")
    return weight


def _image_term(kind: str, value: str, weight: float) -> Term:
    found = (_LIKE if kind == "like" else _UPLOAD).fullmatch(value)
    if found is None or (kind == "like" and not 0 < int(found[1]) <= MAX_ID):
        wanted = "the id of an image, as in like:5" if kind == "like" else "an upload's token"
        raise QueryError(f"{kind}:{value} should hold {wanted}")
    box = _box(found[2], f"{kind}:{value}") if found[2] is not None else None
    if kind == "like":
        return Term(like=int(found[1]), crop=box, weight=weight)
    return Term(upload=found[1], crop=box, weight=weight)


def _box(text: str, where: str) -> Box:
    numbers = _numbers(text, 4, DECIMALS)
    if numbers is not None:
        left, top, right, bottom = numbers
        if 0 <= left < right <= 1 and 0 <= top < bottom <= 1:
            return Box(left, top, right, bottom)
    raise QueryError(
        f"{where}: a region is left,top,right,bottom between 0 and 1, as in like:5@0,0,.5,1"
    )


def _numbers(text: str, count: int, decimals: int) -> tuple[float, ...] | None:
    """``count`` comma-separated numbers; None for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != count or not all(_FLOAT.fullmatch(part) for part in parts):
        return None
    # Adding zero makes -0.0 0.0, so that both are written alike.
    return tuple(round(float(part), decimals) + 0.0 for part in parts)


def _choice(name: str, value: str, choices: dict[str, Any]) -> Any:
    if value.lower() not in choices:
        raise QueryError(
            f"{name}:{value} is not one of {', '.join(f'{name}:{c}' for c in choices)}"
        )
    return choices[value.lower()]


# Filters ------------------------------------------------------------------------------------


def _date(value: str) -> date | None:
    found = _DATE.fullmatch(value)
    if found is None:
        return None
    try:
        return date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return None


def _dates(value: str) -> tuple[date, date] | None:
    """``(first day, day after the last)`` of a period or of a range of two, ``2012-06..2013``."""
    first, dots, last = value.partition("..")
    start, last_start = _date(first), _date(last if dots else first)
    if start is None or last_start is None:
        return None
    end = end_of(last_start, PRECISIONS[(last if dots else first).count("-")])
    return (start, end) if start < end else None


def _near(value: str) -> tuple[float, float, float] | None:
    numbers = _numbers(value, 3, 6) or _numbers(f"{value},{NEAR_KM}", 3, 6)
    if numbers is None:
        return None
    latitude, longitude, kilometres = numbers
    if abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < kilometres <= EARTH_KM:
        return latitude, longitude, kilometres
    return None


def _stars(value: str) -> int | None:
    return int(value) if re.fullmatch("[0-5]", value) else None


def _shape(value: str) -> str | None:
    value = {"favorite": "favourite", "favorites": "favourite", "favourites": "favourite"}.get(
        value.lower(), value.lower()
    )
    return value if value in ("portrait", "landscape", "square", "favourite") else None


def _word(value: str) -> str | None:
    return value.strip() or None


def _lower(value: str) -> str | None:
    return value.strip().lower() or None


_VALUES: dict[str, tuple[Callable[[str], Any], str]] = {
    "date": (_dates, "a day, month, year or range, as in date:2012-06 or date:2012-06-01..2012-07"),
    "after": (_date, "a day, month or year, as in after:2023-06-01"),
    "before": (_date, "a day, month or year, as in before:2024"),
    "in": (_word, "a folder, as in in:Holidays"),
    "camera": (_word, "a camera, as in camera:iphone"),
    "lens": (_word, "a lens, as in lens:50mm"),
    "type": (_lower, "a format, as in type:jpeg"),
    "is": (_shape, "is:portrait, is:landscape, is:square or is:favourite"),
    "collection": (_word, 'a collection, as in collection:"Summer"'),
    "near": (_near, "a place, as in near:48.137,11.575,5 (latitude, longitude, kilometres)"),
    "label": (_word, "a label, as in label:dog"),
    "keyword": (_word, "a keyword, as in keyword:family"),
    "text": (_word, "words written in an image, as in text:invoice or text:invo*"),
    "place": (_word, "a city, region or country, as in place:Lisbon"),
    "country": (_word, "a country, as in country:pt or country:Portugal"),
    "person": (_word, "a person's name, as in person:Ada"),
    "rating": (_stars, "0 to 5 stars, as in rating:4"),
    "name": (_word, "part of a file name, as in name:IMG_2041"),
}
"""Filter -> parser of its value (None if invalid), and what a valid value is."""

FILTER_NAMES = tuple(_VALUES)
"""In the order in which help lists them."""


def _filter_value(name: str, value: str) -> Any:
    read, wanted = _VALUES[name]
    understood = read(value)
    if understood is None:
        raise QueryError(f"{name}:{value} should hold {wanted}")
    return understood


# Writing --------------------------------------------------------------------------------------


def _number(value: float) -> str:
    """The shortest decimal form, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _value_text(value: Any) -> str:
    if isinstance(value, tuple) and isinstance(value[0], date):
        return _dates_text(*value)
    if isinstance(value, tuple):
        return ",".join(map(_number, value))
    return value.isoformat() if isinstance(value, date) else str(value)


def _term_dict(term: Term) -> dict[str, Any]:
    """As ``/api/parse`` returns it; ``quoted`` if it is plain words only within quotes."""
    quoted = term.text is not None and not _is_plain(term.text)
    return {**term.as_dict(), **({"quoted": True} if quoted else {})}


def _condition_dict(condition: Condition) -> dict[str, Any]:
    """As ``/api/parse`` returns it; of a filter by date with the days that it asks for."""
    found = {
        "name": condition.name,
        "value": _value_text(condition.value),
        "negated": condition.negated,
    }
    days = meaning([replace(condition, negated=False)])
    return found if days is None else {**found, "meaning": days}


def _dates_text(start: date, end: date) -> str:
    """The shortest form of ``date:``; ``end`` is the day after the last."""
    last = end - timedelta(days=1)
    for precision in PRECISIONS[:2]:
        moments = (datetime(day.year, day.month, day.day) for day in (start, last))
        texts = [to_text(moment, precision) for moment in moments]
        first_day, last_start = (from_text(text)[0].date() for text in texts)
        if first_day == start and end_of(last_start, precision) == end:
            return "..".join(dict.fromkeys(texts))
    return f"{start}" if start == last else f"{start}..{last}"


def meaning(conditions: Sequence[Condition]) -> str | None:
    """The first and the last day that the date filters among ``conditions`` leave, as in ``from
    2012-01-01 to 2011-12-31``; None if there are none. Negated ones do not count."""
    periods = [_period(one) for one in conditions if not one.negated and one.name != "date"]
    dated = [period for period in periods if period is not None]
    choices: list[Any] = [one.value for one in conditions if one.name == "date" and not one.negated]
    if choices:  # images meet one of them
        dated.append((min(first for first, _ in choices), max(end for _, end in choices)))
    if not dated:
        return None
    first = max((first for first, _ in dated if first), default=None)
    end = min((end for _, end in dated if end), default=None)
    parts = [f"from {first}"] if first else []
    if end is not None:
        parts.append(f"to {end - timedelta(days=1) if end > date.min else end}")
    return " ".join(parts)


def _period(condition: Condition) -> tuple[date | None, date | None] | None:
    """The first day of ``after:``, the day after the last of ``before:``; None for others."""
    value: Any = condition.value
    return {"after": (value, None), "before": (None, value)}.get(condition.name)


def _condition_text(condition: Condition) -> str:
    value = _value_text(condition.value)
    quoted = f'"{value}"' if re.search(r"\s", value) else value
    return f"{'-' if condition.negated else ''}{condition.name}:{quoted}"


def _is_plain(text: str) -> bool:
    """Whether ``text`` without quotes is parsed as one text term."""
    if '"' in text:
        return False
    try:
        query = parse(text)
    except QueryError:
        return False
    return query == Query((Term(text=text),))


def _is_bare_word(text: str) -> bool:
    """Whether ``text`` after a minus is parsed as one negative word."""
    return not re.search(r"\s", text) and not text.startswith("-") and _is_plain(text)
