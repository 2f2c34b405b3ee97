"""The texts of the page, in the language of the request.

``templates/strings`` holds one JSON file per language, in the format of i18next: sections of texts
with ``{{named}}`` placeholders. A text that depends on ``count`` has a key for each plural form of
its language: ``photos_one``, ``photos_other``.

Section ``html`` is for the templates, ``server`` for messages of the search and the library, which
are English in Python and for programs; every other section is a module of the page,
``strings.SECTION.js``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from babel import Locale
from babel.numbers import format_decimal
from babel.units import format_unit
from flask import g, request
from markupsafe import Markup, escape
from werkzeug.wrappers import Request

FOLDER = Path(__file__).parents[2] / "templates" / "strings"

ENGLISH = "en"
"""The language of the messages, and of clients that ask for no other that there is."""

COOKIE = "language"
"""The language that was chosen on the page; otherwise Accept-Language decides."""

ERRORS_HEADER = "Sightline-Errors"
"""The page sends it, and gets messages in its language. With the value ``inside``, an error below
500 is answered with status 200 and the status in the body, because browsers log every other status
as a fault of the page."""

PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
ISOLATE = ("\u2068", "\u2069")
"""Unicode's first strong isolate, and its end."""

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+")


@dataclass(frozen=True)
class Strings:
    """The texts of one language."""

    language: str
    sections: dict[str, dict[str, str]]
    locale: Locale

    @property
    def name(self) -> str:
        """What the language is called in itself."""
        return self.sections["html"]["language_name"]

    @property
    def direction(self) -> str:
        """``ltr`` or ``rtl``."""
        return self.locale.text_direction

    def text(self, key: str, **values: Any) -> Markup:
        """The text of ``section.name`` as HTML, its placeholders replaced: ints as the language
        writes them, ``Markup`` as it is, other values escaped."""
        section, _, name = key.partition(".")
        texts = self.sections[section]
        if name not in texts:
            name = f"{name}_{self.locale.plural_form(values['count'])}"
        parts = PLACEHOLDER.split(texts[name])
        parts[1::2] = [self._value(values[part]) for part in parts[1::2]]
        return Markup().join(parts)

    def _value(self, value: Any) -> Markup:
        return escape(self.number(value) if isinstance(value, int) else self._isolated(value))

    def _isolated(self, value: str) -> str:
        """``value`` so that words from right to left beside it do not reorder it."""
        start, end = ISOLATE
        return start + value + end if self.direction == "rtl" else value

    def number(self, n: int) -> str:
        """``n`` with the separators of the language."""
        return format_decimal(n, locale=self.locale)

    def file_size(self, size: int) -> str:
        """``size`` bytes in kB, MB or GB."""
        power, unit = (1, "kilo") if size < 1e6 else (2, "mega") if size < 1e9 else (3, "giga")
        number = size / 1000**power
        form = "0.0" if number < 10 else "0"
        return format_unit(number, f"digital-{unit}byte", "short", form, self.locale)

    def message(self, english: str) -> str:
        """A message of section ``server`` in this language; in English if it is not one of them."""
        if self.language == ENGLISH:
            return english
        return self._message(english) or english

    def _message(self, english: str, *, alone: bool = False) -> str | None:
        """The translation of one message, or, unless ``alone``, of two with a space between."""
        for key, pattern in _patterns():
            found = pattern.match(english)
            if found is None:
                continue
            if english.startswith(" ", found.end()) and not alone:
                rest = self._message(english[found.end() + 1 :], alone=True)
                if rest is not None:
                    return f"{self._filled(key, found)} {rest}"
            if found := pattern.fullmatch(english):
                return self._filled(key, found)
        return None

    def _filled(self, key: str, found: re.Match[str]) -> str:
        names = self.sections["languages"]
        values = {
            name: self.number(int(value.replace(",", "")))
            if _NUMBER.fullmatch(value)
            else names.get(value.replace(" ", "_")) or self._isolated(value)
            for name, value in found.groupdict().items()
        }
        return PLACEHOLDER.sub(lambda part: values[part[1]], self.sections["server"][key])

    def script(self, section: str) -> str:
        """The module that adds a section to the page. KeyError for the server's own."""
        if section in ("html", "server", "languages"):
            raise KeyError(section)
        texts = json.dumps(self.sections[section], ensure_ascii=False, separators=(",", ":"))
        return f'import {{ addTexts }} from "./dom.js";\naddTexts("{section}", {texts});\n'


@cache
def languages() -> dict[str, Strings]:
    """The languages of the page by their codes (``pt_BR``), English first."""
    found = {}
    for path in sorted(FOLDER.glob("*.json"), key=lambda path: (path.stem != ENGLISH, path.stem)):
        sections = json.loads(path.read_text(encoding="utf-8"))
        found[path.stem] = Strings(path.stem, sections, Locale.parse(path.stem))
    return found


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    """Keys of section ``server`` with a pattern of the English message, specific ones first."""
    texts = languages()[ENGLISH].sections["server"]
    found = []
    for key, text in texts.items():
        parts = PLACEHOLDER.split(text)
        literal = sum(map(len, parts[::2]))
        parts[::2] = map(re.escape, parts[::2])
        parts[1::2] = [f"(?P<{part}>.+?)" for part in parts[1::2]]
        found.append((literal, key, re.compile("".join(parts), re.DOTALL)))
    found.sort(reverse=True, key=lambda one: one[0])
    return [(key, pattern) for _, key, pattern in found]


def language_of(request: Request) -> str:
    """The language for this request: the one chosen, or the best that its browser asks for."""
    chosen = request.cookies.get(COOKIE, "")
    if chosen in languages():
        return chosen
    codes = {code.replace("_", "-"): code for code in languages()}
    return codes.get(request.accept_languages.best_match(codes, ENGLISH) or "", ENGLISH)


def strings() -> Strings:
    """The texts in the language of the current request."""
    if "strings" not in g:
        g.strings = languages()[language_of(request)]
    found: Strings = g.strings
    return found


def for_page(message: str) -> str:
    """A message in the language of the page that sent this request; English for programs."""
    return strings().message(message) if ERRORS_HEADER in request.headers else message


def template_values() -> dict[str, Any]:
    """What every template has."""
    own = strings()
    return {
        "t": own.text,
        "number": own.number,
        "file_size": own.file_size,
        "message": own.message,
        "language": own.language.replace("_", "-"),
        "direction": own.direction,
    }
