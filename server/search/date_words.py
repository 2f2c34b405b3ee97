"""Dates in plain words, English and German: ``beach july 2023``, ``schnee letzten winter``.

A closed grammar. What can only be a date is ``certain``: a month, season or holiday with its year,
``in 2018``, ``last winter``, ``yesterday``, ``two weeks ago``, ``between june and august 2021``.
What describes an image as well (``summer``, ``monday``, ``may``, a year alone) is not, and is found
only at an end of a short text. Years before photography and years to come are not dates.

Assumptions: seasons are those of the northern hemisphere, in whole months, and winter starts in
December: ``winter 2019`` is January and February 2019 and the winter that starts in December 2019.
Weeks start on Monday. ``last winter`` is the latest one that is over, ``this winter`` the latest
one that has started. Christmas is December 24 to 26, Easter Good Friday to Easter Monday,
Thanksgiving that of the United States, and New Year's Eve includes January 1.

docs/evaluation.md has the measurements (``python -m benchmarks.date_words``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache

from sightline.indexer.catalog.full_text import STOP_WORDS, plain
from sightline.indexer.dates import end_of
from sightline.indexer.types import Condition

MAX_OFFERED_WORDS = 4
"""Words of a text up to which a date that is not certain is found. Captions have more."""

_PUNCTUATION = ".,;:!?()"

Span = tuple[date, date]
"""The first day, and the day after the last."""


@dataclass(frozen=True)
class FoundDate:
    """A date among words."""

    start: int
    end: int
    """It is the words ``start`` to ``end`` (exclusive), with prepositions before it."""
    conditions: tuple[Condition, ...]
    """Filters: ``date``, ``after`` or ``before``."""
    certain: bool


@dataclass(frozen=True)
class _Period:
    spans: tuple[Span, ...]
    """Mostly one."""
    certain: bool
    is_year: bool = False
    """A year alone."""
    month: int | None = None
    """Of a month without a year."""


def find_dates(words: Sequence[str], today: date) -> list[FoundDate]:
    """The certain dates in ``words``; without any, the first of those that may be one."""
    simple = [plain(word).replace("\u2019", "").replace("'", "") for word in words]
    simple = [word.replace("\u2013", "-").strip(_PUNCTUATION) for word in simple]
    if _TRIGGERS.isdisjoint(simple) and not any(map(_FOUR_DIGITS.search, simple)):
        return []
    found = list(_Reader(simple, today).dates())
    certain = [one for one in found if one.certain]
    if certain or len(words) > MAX_OFFERED_WORDS:
        return certain
    return [one for one in found if _is_at_an_end(simple, one)][:1]


def without_dates(words: Sequence[str], found: Iterable[FoundDate]) -> list[str]:
    """The other words; none if all they say is that photos are searched."""
    dated = {n for one in found for n in range(one.start, one.end)}
    rest = [word for n, word in enumerate(words) if n not in dated]
    return [] if all(plain(word).strip(_PUNCTUATION) in _FILLERS for word in rest) else rest


def _is_at_an_end(words: Sequence[str], one: FoundDate) -> bool:
    if one.end == len(words):
        return True
    is_year = one.start == 0 and one.end == 1 and words[0].isdigit()
    return is_year and words[1] not in STOP_WORDS  # 2001 a space odyssey


# Words ----------------------------------------------------------------------------------------


def _numbered(lines: Sequence[str], first: int) -> dict[str, int]:
    return {word: n for n, line in enumerate(lines, first) for word in line.split()}


_MONTHS = _numbered(
    ("january januar janner", "february februar", "march marz maerz", "april", "may mai",
     "june juni", "july juli", "august", "september", "october oktober", "november",
     "december dezember"), 1,
)  # fmt: skip
_SHORT_MONTHS = _numbered(
    ("jan", "feb", "mar mrz", "apr", "", "jun", "jul", "aug", "sep sept", "oct okt", "nov",
     "dec dez"), 1,
)  # fmt: skip
_SEASONS = _numbered(
    ("spring fruhling fruhjahr fruehling fruehjahr", "summer sommer", "autumn fall herbst",
     "winter"), 1,
)  # fmt: skip
_WINTER = 4
_WEEKDAYS = _numbered(
    ("monday montag", "tuesday dienstag", "wednesday mittwoch", "thursday donnerstag",
     "friday freitag", "saturday samstag sonnabend", "sunday sonntag"), 0,
)  # fmt: skip
_NUMBERS = _numbered(
    ("one a an ein eine einem einen einer", "two zwei", "three drei", "four vier",
     "five funf fuenf", "six sechs", "seven sieben", "eight acht", "nine neun", "ten zehn"), 1,
)  # fmt: skip
_UNITS = {
    "day": "day days tag tage tagen", "week": "week weeks woche wochen",
    "weekend": "weekend weekends wochenende wochenenden",
    "month": "month months monat monate monaten", "year": "year years jahr jahre jahren jahres",
}  # fmt: skip
_UNIT_OF = {word: unit for unit, line in _UNITS.items() for word in line.split()}
_HOLIDAYS = {
    "christmas": r"christmas|xmas|weihnachten",
    "christmas eve": r"christmas eve|heiligabend",
    "christmas day": r"christmas day",
    "new year's eve": r"new years? eve|silvester",
    "new year": r"new years?(?: day)?|neujahr(?:stag)?",
    "easter": r"easter|ostern",
    "whitsun": r"whitsun|pentecost|pfingsten",
    "halloween": r"halloween",
    "valentine's day": r"valentines day|valentinstag",
    "thanksgiving": r"thanksgiving",
}
_LAST_WORDS = (
    "last past previous letzte letzten letzter letztes letztem vorige vorigen voriges vorigem"
    " vergangene vergangenen vergangener vergangenes vergangenem"
)
_THIS_WORDS = "this diese diesen dieser dieses diesem"
_DAYS_AGO = {"today": 0, "heute": 0, "yesterday": 1, "gestern": 1, "vorgestern": 2}

_FOUR_DIGITS = re.compile(r"\d{4}", re.ASCII)
_TRIGGERS = frozenset(
    (
        "ago",
        "vor",
        *_LAST_WORDS.split(),
        *_THIS_WORDS.split(),
        *_DAYS_AGO,
        *_MONTHS,
        *_SEASONS,
        *_WEEKDAYS,
    )
)
"""Every date has one of these words, or four digits."""

_PHOTO_WORDS = (
    "photo photos picture pictures image images pic pics foto fotos bild bilder aufnahmen"
)
_FILLER_WORDS = (
    "all my our me show taken everything or alle alles meine unsere zeig mir aufgenommen der die"
    " das den dem und oder von aus im am"
)
_FILLERS = frozenset((*_PHOTO_WORDS.split(), *STOP_WORDS, *_FILLER_WORDS.split()))


# Patterns: the text is case-folded, without accents, apostrophes and punctuation ----------------


def _any(words: Iterable[str]) -> str:
    return "|".join(sorted(words, key=len, reverse=True))


_YEAR = r"(?P<year>18[4-9]\d|19\d\d|20\d\d)"
_LAST, _THIS = _any(_LAST_WORDS.split()), _any(_THIS_WORDS.split())
_LAST_OR_THIS = rf"(?:(?P<last>{_LAST})|(?:{_THIS}))"
_OF_YEAR = rf"(?: of| in| im| des)? (?:{_YEAR}|{_LAST_OR_THIS} (?:year|jahre?s?))"
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_MONTH = rf"(?P<month>{_any(_MONTHS)})"
_ANY_MONTH = rf"(?P<month>{_any({**_MONTHS, **_SHORT_MONTHS})})"
_SEASON = rf"(?P<season>{_any(_SEASONS)})"
_WEEKDAY = rf"(?P<weekday>{_any(_WEEKDAYS)})"
_HOLIDAY = "|".join(f"(?P<h{n}>{pattern})" for n, pattern in enumerate(_HOLIDAYS.values()))
_ONE_UNIT = r"(?P<unit>week|weekend|month|year|woche|wochenende|monat|jahr)"
_COUNT = rf"(?P<count>\d\d?|{_any(_NUMBERS)}) (?P<unit>{_any(_UNIT_OF)})"
_NO_QUANTITY = (
    r"(?! (?:m|km|meters?|metres?|metern|kilometern?|kilometers?|kilometres?|miles|meilen|feet|ft"
    r"|pixels?|px|people|leuten?|menschen|euros?|dollars?|pounds|pieces|watts?|mb|gb|kg|pages"
    r"|seiten|years|jahren?|steps|stufen)\b)"
)
"""After a number that is a year: not ``in 2000 meters``."""
_BEFORE = (
    r"(?:taken |aufgenommen )?"
    r"(?:(?:in|on|at|from|of|during|over|im|am|an|aus|vom|von|zu|uber|wahrend) )?"
    r"(?:the |der |dem |den |das )?"
)
"""What may precede a date, and goes with it."""
_IN_YEAR = r"(?:(?:in|during)(?: the year)?|im jahre?|in dem jahr|(?:the )?year|jahr) "
_IN_DECADE = r"(?:in|during) the |in den "
_TO = r"(?:to|until|till|through|bis|-)"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)


class _Reader:
    """Reads the dates in one text."""

    def __init__(self, words: Sequence[str], today: date) -> None:
        self.text = " ".join(words)
        self.today = today
        self.at: dict[int, int] = {}
        """Position of the first letter of a word -> its number; also of the end of the text."""
        position = 0
        for number, word in enumerate(words):
            self.at[position] = number
            position += len(word) + 1
        self.at[position] = len(words)

    def dates(self) -> Iterator[FoundDate]:
        """From left to right, without overlaps."""
        following = 0
        for start, number in list(self.at.items())[:-1]:
            found = self.read(start) if number >= following else None
            if found is not None:
                end, conditions, certain = found
                following = self.at[end + 1]
                yield FoundDate(number, following, conditions, certain)

    def match(self, pattern: str, start: int) -> re.Match[str] | None:
        """A match of whole words that starts at ``start``."""
        return _compiled(rf"(?:{pattern})(?!\S)").match(self.text, start)

    def after(self, pattern: str, start: int) -> int | None:
        """The end of a match of words and a space."""
        found = _compiled(pattern).match(self.text, start)
        return found.end() if found else None

    def read(self, start: int) -> tuple[int, tuple[Condition, ...], bool] | None:
        """The end of a date that starts at ``start``, its filters, and whether it is certain."""
        bounded = self.range(start) or self.bound(start)
        if bounded is not None:
            return bounded
        if (inner := self.after(_IN_YEAR, start)) is not None:
            year = self.match(_YEAR + _NO_QUANTITY, inner)
            if year is not None and (spans := self.year(year)):
                return year.end(), _dated(spans), True
        if (inner := self.after(_IN_DECADE, start)) is not None:
            decade = self.match(_DECADE, inner)
            if decade is not None and (spans := self.decade(decade)):
                return decade.end(), _dated(spans), True
        inner = self.after(_BEFORE, start)
        for first in dict.fromkeys((start, inner or start)):
            if (found := self.period(first)) is not None:
                end, period = found
                certain = period.certain or (first > start and self.is_of_photos(start, first, end))
                return end, _dated(period.spans), certain
        return None

    def is_of_photos(self, start: int, first: int, end: int) -> bool:
        """Whether a year follows ``photos from``. A car from 1965 need not have been photographed
        then."""
        before = self.text[:start].split()
        is_year = _compiled(_YEAR).fullmatch(self.text, first, end) is not None
        return is_year and bool(before) and before[-1] in _PHOTO_WORDS.split()

    def range(self, start: int) -> tuple[int, tuple[Condition, ...], bool] | None:
        """``between 2018 and 2020``, ``june to august 2021``."""
        inner = self.after(r"(?:from|between|von|vom|zwischen) ", start)
        first = self.period(start if inner is None else inner)
        if first is None:
            return None
        joint = _TO if inner is None else rf"(?:{_TO}|and|und)"
        to = self.after(rf" {joint} ", first[0])
        last = self.period(to) if to is not None else None
        if last is None:
            return None
        opening, (end, closing) = first[1], last
        if opening.month is not None and closing.certain:
            year = closing.spans[0][0].year
            year -= opening.month > closing.spans[0][0].month
            opening = _Period(_month(year, opening.month), True)
        span = opening.spans[0][0], closing.spans[-1][1]
        if span[0] >= span[1]:
            return None
        years = inner is not None and opening.is_year and closing.is_year
        return end, _dated((span,)), years or (opening.certain and closing.certain)

    def bound(self, start: int) -> tuple[int, tuple[Condition, ...], bool] | None:
        """``since march 2020``, ``before 2018``."""
        for pattern, bounded in _BOUNDS.items():
            inner = self.after(rf"(?:{pattern}) (?:the |dem |der |den )?", start)
            found = self.period(inner) if inner is not None else None
            if inner is None or found is None:
                continue
            end, period = found
            if period.certain or self.match(_YEAR + _NO_QUANTITY, inner):
                return end, (bounded(period),), True
        return None

    def period(self, start: int) -> tuple[int, _Period] | None:
        """The longest period that starts at ``start``, and its end."""
        longest: tuple[int, _Period] | None = None
        for pattern, (read, certain) in _RULES.items():
            found = self.match(pattern, start)
            if found is None or (longest is not None and found.end() <= longest[0]):
                continue
            try:
                spans = read(self, found)
            except ValueError:  # no day of the calendar
                continue
            spans = tuple(span for span in spans if span[0] <= self.today)
            if spans:
                month = found["month"] if read is _Reader.recent else None
                longest = (
                    found.end(),
                    _Period(
                        spans, certain, read is _Reader.year, _MONTHS[month] if month else None
                    ),
                )
        return longest

    # What each rule means: its spans, none if it is no date

    def year_of(self, found: re.Match[str]) -> int:
        """``2019``, ``last year`` or ``this year``."""
        if found["year"]:
            return int(found["year"])
        return self.today.year - bool(found["last"])

    def calendar(self, found: re.Match[str]) -> tuple[Span, ...]:
        """A day, or a month without ``day``."""
        parts = found.groupdict()
        name = parts["month"]
        year = self.year_of(found) if "last" in parts else int(parts["year"])
        month = int(name) if name.isdigit() else {**_MONTHS, **_SHORT_MONTHS}[name]
        if not parts.get("day"):
            return _month(year, month)
        return _day(date(year, month, int(parts["day"])))

    def slashes(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``13/07/2019`` and ``07/13/2019``; nothing for ``07/08/2019``."""
        one, other = int(found["one"]), int(found["other"])
        if (one > 12) == (other > 12) and one != other:
            return ()
        return _day(date(int(found["year"]), min(one, other), max(one, other)))

    def season(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``summer 2019``, ``winter 2018/19``."""
        year, number = self.year_of(found), _SEASONS[found["season"]]
        second = found["second"]
        if second:
            follows = int(second) in (year + 1, (year + 1) % 100)
            return (_season(number, year),) if number == _WINTER and follows else ()
        if number == _WINTER:
            return (date(year, 1, 1), date(year, 3, 1)), _season(number, year)
        return (_season(number, year),)

    def holiday(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``christmas 2019``."""
        return (_holiday(_name_of_holiday(found), self.year_of(found)),)

    def relative(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``last winter``, ``this week``, ``letzten montag``."""
        return self.latest(found, over=bool(found["last"]))

    def recent(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``summer``, ``monday``, ``july``: the latest one that has started."""
        return self.latest(found, over=False)

    def latest(self, found: re.Match[str], *, over: bool) -> tuple[Span, ...]:
        """The latest season, holiday, month, weekday or unit that is over, or has started."""
        parts, today = found.groupdict(), self.today
        years = range(today.year, today.year - 3, -1)
        choices: Iterable[Span]
        if parts.get("season"):
            choices = [_season(_SEASONS[found["season"]], year) for year in years]
        elif parts.get("month"):
            choices = [_month(year, _MONTHS[found["month"]])[0] for year in years]
        elif parts.get("weekday"):
            back = (today.weekday() - _WEEKDAYS[found["weekday"]]) % 7
            choices = [_day(today - timedelta(back + days))[0] for days in (0, 7)]
        elif parts.get("unit"):
            choices = [self.unit(_UNIT_OF[found["unit"]], ago) for ago in (0, 1, 2)]
        else:
            choices = [_holiday(_name_of_holiday(found), year) for year in years]
        return tuple(one for one in choices if (one[1] if over else one[0]) <= today)[:1]

    def unit(self, unit: str, ago: int) -> Span:
        """The day, week, weekend, month or year, ``ago`` before that of today."""
        today = self.today
        if unit == "year":
            return date(today.year - ago, 1, 1), date(today.year - ago + 1, 1, 1)
        if unit == "month":
            years, month = divmod(today.year * 12 + today.month - 1 - ago, 12)
            return _month(years, month + 1)[0]
        if unit == "day":
            return _day(today - timedelta(ago))[0]
        monday = today - timedelta(today.weekday() + 7 * ago)
        if unit == "weekend":
            return monday + timedelta(5), monday + timedelta(7)
        return monday, monday + timedelta(7)

    def ago(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``two weeks ago``: that week."""
        return (self.unit(_UNIT_OF[found["unit"]], _count(found)),)

    def past(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``last 3 months``: until today."""
        unit, count, today = _UNIT_OF[found["unit"]], _count(found), self.today
        if unit == "weekend":
            return ()
        if unit in ("day", "week"):
            first = today - timedelta(count * (7 if unit == "week" else 1))
        else:
            month = self.unit("month", count * (12 if unit == "year" else 1))
            first = min(month[0] + timedelta(today.day - 1), month[1] - timedelta(1))
        return ((first, today + timedelta(1)),)

    def day(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``yesterday``."""
        ago = _DAYS_AGO.get(found[0], 2)
        return _day(self.today - timedelta(ago))

    def night(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``last night``: yesterday and today."""
        return ((self.today - timedelta(1), self.today + timedelta(1)),)

    def day_of_year(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``july 4``: the latest one."""
        month, day = _MONTHS[found["month"]], int(found["day"])
        days = [date(year, month, day) for year in (self.today.year, self.today.year - 1)]
        return _day(next(one for one in days if one <= self.today))

    def year(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``2019``."""
        year = int(found["year"])
        return ((date(year, 1, 1), date(year + 1, 1, 1)),) if year <= self.today.year else ()

    def years(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``2018-2020``."""
        first, last = int(found["year"]), int(found["until"])
        if not first < last <= self.today.year:
            return ()
        return ((date(first, 1, 1), date(last + 1, 1, 1)),)

    def decade(self, found: re.Match[str]) -> tuple[Span, ...]:
        """``1980s``."""
        first = int(found["year"])
        if first > self.today.year:
            return ()
        return ((date(first, 1, 1), date(first + 10, 1, 1)),)


_DECADE = r"(?P<year>(?:18[4-9]|19\d|20\d)0)(?:s|er|ern|er jahren?)"

Rule = tuple[Callable[[_Reader, re.Match[str]], tuple[Span, ...]], bool]

_RULES: dict[str, Rule] = {
    rf"{_YEAR}-(?P<month>\d\d)(?:-(?P<day>\d\d))?": (_Reader.calendar, True),
    rf"(?P<day>\d\d?)\.(?P<month>\d\d?)\.{_YEAR}": (_Reader.calendar, True),
    rf"(?P<one>\d\d?)/(?P<other>\d\d?)/{_YEAR}": (_Reader.slashes, True),
    rf"{_DAY}(?: of)? {_ANY_MONTH} {_YEAR}": (_Reader.calendar, True),
    rf"{_ANY_MONTH} {_DAY} {_YEAR}": (_Reader.calendar, True),
    rf"{_ANY_MONTH}{_OF_YEAR}": (_Reader.calendar, True),
    rf"{_YEAR} {_MONTH}": (_Reader.calendar, True),
    rf"{_SEASON}{_OF_YEAR}(?:[/-](?P<second>\d\d(?:\d\d)?))?": (_Reader.season, True),
    rf"(?:{_HOLIDAY}){_OF_YEAR}": (_Reader.holiday, True),
    rf"{_LAST_OR_THIS} {_SEASON}(?! of\b)": (_Reader.relative, True),
    rf"{_LAST_OR_THIS} {_ONE_UNIT}(?! of\b)": (_Reader.relative, True),
    rf"(?P<last>{_LAST}) (?:{_MONTH}|{_WEEKDAY}|{_HOLIDAY})(?! of\b)": (_Reader.relative, True),
    rf"(?:{_LAST}) {_COUNT}(?! of\b)": (_Reader.past, True),
    rf"{_COUNT} ago": (_Reader.ago, True),
    rf"vor {_COUNT}": (_Reader.ago, True),
    rf"{_any(_DAYS_AGO)}|(?:the )?day before yesterday": (_Reader.day, True),
    r"last night|letzte nacht|gestern (?:abend|nacht)": (_Reader.night, True),
    rf"{_DAY}(?: of)? {_MONTH}": (_Reader.day_of_year, False),
    rf"{_MONTH} {_DAY}": (_Reader.day_of_year, False),
    _YEAR: (_Reader.year, False),
    rf"{_YEAR}[-/](?P<until>\d{{4}})": (_Reader.years, False),
    _DECADE: (_Reader.decade, False),
    rf"{_MONTH}|{_SEASON}|{_WEEKDAY}": (_Reader.recent, False),
}
"""Pattern -> its meaning, and whether it is certain."""

_BOUNDS: dict[str, Callable[[_Period], Condition]] = {
    "since|seit|ab": lambda period: Condition("after", period.spans[0][0]),
    "before|vor|bis vor": lambda period: Condition("before", period.spans[0][0]),
    "until|till|bis": lambda period: Condition("before", period.spans[-1][1]),
    "after|nach": lambda period: Condition("after", period.spans[-1][1]),
}


# The calendar ---------------------------------------------------------------------------------


def _dated(spans: Iterable[Span]) -> tuple[Condition, ...]:
    return tuple(Condition("date", span) for span in spans)


def _day(day: date) -> tuple[Span, ...]:
    return ((day, day + timedelta(1)),)


def _month(year: int, month: int) -> tuple[Span, ...]:
    first = date(year, month, 1)
    return ((first, end_of(first, "month")),)


def _season(number: int, year: int) -> Span:
    """The season ``number`` that starts in ``year``."""
    if number == _WINTER:
        return date(year, 12, 1), date(year + 1, 3, 1)
    return date(year, 3 * number, 1), date(year, 3 * number + 3, 1)


def _holiday(name: str, year: int) -> Span:
    easter = _easter(year)
    fourth_thursday = 28 - (date(year, 11, 28).weekday() - 3) % 7
    first, days = {
        "christmas": (date(year, 12, 24), 3),
        "christmas eve": (date(year, 12, 24), 1),
        "christmas day": (date(year, 12, 25), 1),
        "new year's eve": (date(year, 12, 31), 2),
        "new year": (date(year - 1, 12, 31), 2),
        "easter": (easter - timedelta(2), 4),
        "whitsun": (easter + timedelta(49), 2),
        "halloween": (date(year, 10, 31), 1),
        "valentine's day": (date(year, 2, 14), 1),
        "thanksgiving": (date(year, 11, fourth_thursday), 1),
    }[name]
    return first, first + timedelta(days)


def _easter(year: int) -> date:
    """Easter Sunday (Anonymous, "To find Easter", Nature 13, 1876)."""
    golden, (century, rest) = year % 19, divmod(year, 100)
    leap, remainder = divmod(century, 4)
    correction = (century - (century + 8) // 25 + 1) // 3
    moon = (19 * golden + century - leap - correction + 15) % 30
    quarter, within = divmod(rest, 4)
    weekday = (32 + 2 * remainder + 2 * quarter - moon - within) % 7
    late = (golden + 11 * moon + 22 * weekday) // 451
    month, day = divmod(moon + weekday - 7 * late + 114, 31)
    return date(year, month, day + 1)


def _count(found: re.Match[str]) -> int:
    return int(found["count"]) if found["count"].isdigit() else _NUMBERS[found["count"]]


def _name_of_holiday(found: re.Match[str]) -> str:
    return next(name for n, name in enumerate(_HOLIDAYS) if found[f"h{n}"])
