"""The texts of the page: one file per language, complete, used, and nothing beside it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tree_sitter_javascript
from helpers_client import client_of
from helpers_library import make_library, make_pictures
from tree_sitter import Language, Node, Parser

from sightline.indexer.errors import QueryError
from sightline.server.search import SearchEngine, parse
from sightline.server.search.engine import _no_matches
from sightline.server.search.language import LATIN, SCRIPTS, language_notice
from sightline.server.search.query import FILTER_NAMES
from sightline.server.web.app import create_app
from sightline.server.web.strings import PLACEHOLDER, languages

if TYPE_CHECKING:
    from flask.testing import FlaskClient

    from sightline.indexer.encoder import Encoder
    from sightline.server.web.strings import Strings

TOP = Path(__file__).resolve().parent.parent
TEMPLATES = TOP / "templates"
MODULES = sorted((TEMPLATES / "static").glob("*.js"))
ENGLISH = languages()["en"].sections
OWN = ("html", "server", "languages")
"""Sections that the server itself uses."""
OTHERS = [one for one in languages().values() if one.language != "en"]

LETTERS = re.compile(r"[^\W\d_]{2}")

REPORTS = {"models.html"}
"""Templates of the command line, which is English."""

PLAIN_HTML = {"Sightline", "sightline index ~/Pictures"}
"""Text of templates that is not translated: the name and a command."""

NOT_TEXT = {
    # Selectors, styles, media types and addresses, by the call or property that they are in.
    "calls": {
        "addEventListener", "append", "closest", "createElementNS", "get", "getItem", "matchMedia",
        "matches", "querySelector", "querySelectorAll", "setItem", "style", "test", "toggle",
    },
    "keys": {"class", "rel", "headers", "role", "type", "rootMargin"},
    # The markup of icons; scripts for a shell, which are English like the shell; and queries, whose
    # language is the same in every language of the page and whose words every model understands.
    "functions": {"shell", "powershell"},
    "constants": {"EXAMPLES", "QUERIES", "KEYS", "PHOTO_KEYS"},
    "modules": {"icons.js"},
}  # fmt: skip

NAMES = {
    "Sightline", "OpenStreetMap", "Content-Type", "Retry-After", "Sightline-Errors", "AbortError",
    "Escape", "Enter", "Tab", "Home", "End", "Backspace", "PageDown", "PageUp", "Arrow",
    "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight", "Files", "POST", "DELETE",
}  # fmt: skip
"""Names of keys, headers, methods and programs."""

PLAIN_JS = {
    " · Sightline",  # the name
    "sightline index ~/Pictures",  # a command
    "0 ", "px ",  # a style that is not in a call of style()
    "notice ",  # a class
    "w, thumbnails/",  # addresses of an image
    " country:",  # a filter
    "; path=", "; max-age=", "; samesite=lax",  # the cookie
}  # fmt: skip


# -- the files


@pytest.mark.parametrize("strings", OTHERS, ids=lambda one: one.language)
def test_every_language_has_the_same_keys_and_placeholders(strings: Strings) -> None:
    assert list(strings.sections) == list(ENGLISH)
    forms = {*strings.locale.plural_form.rules, "other"}
    for section, texts in strings.sections.items():
        wanted = {}
        for key, text in ENGLISH[section].items():
            base, _, form = key.rpartition("_")
            if form == "other":
                wanted |= {f"{base}_{one}": text for one in forms}
            elif form != "one" or f"{base}_other" not in ENGLISH[section]:
                wanted[key] = text
        assert set(texts) == set(wanted), section
        for key, text in texts.items():
            placeholders = set(PLACEHOLDER.findall(wanted[key]))
            # "one photo" may be written without the number.
            if key.endswith(("_one", "_two")):
                placeholders.discard("count")
            assert set(PLACEHOLDER.findall(text)) - {"count"} == placeholders - {"count"}, key
            assert placeholders <= set(PLACEHOLDER.findall(text)), key
            assert text == text.strip() or section == "photo", key


def test_english_has_a_singular_for_every_plural() -> None:
    for section, texts in ENGLISH.items():
        for key in texts:
            if key.endswith("_other"):
                assert key.removesuffix("other") + "one" in texts, f"{section}.{key}"


@pytest.mark.parametrize("strings", OTHERS, ids=lambda one: one.language)
def test_translations_are_translated(strings: Strings) -> None:
    same = [
        f"{section}.{key}"
        for section, texts in strings.sections.items()
        for key, text in texts.items()
        if ENGLISH[section].get(key) == text and LETTERS.search(PLACEHOLDER.sub("", text))
    ]
    if strings.direction == "rtl":
        assert same == []
    else:
        # Words that both languages have.
        assert len(same) < 20, same


# -- nothing beside them


class Texts(HTMLParser):
    """Collects what a reader of a template sees or hears."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(re.sub(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}", "", source, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = ("aria-label", "title", "placeholder", "alt", "aria-description")
        self.found += [value or "" for name, value in attrs if name in shown]

    def handle_data(self, data: str) -> None:
        self.found.append(data)


def test_templates_have_no_text_of_their_own() -> None:
    for path in TEMPLATES.glob("*.html"):
        if path.name in REPORTS:
            continue
        for text in Texts(path.read_text(encoding="utf-8")).found:
            text = text.strip(" ·\n")
            assert not LETTERS.search(text) or text in PLAIN_HTML, f"{path.name}: {text!r}"


@cache
def strings_of(path: Path) -> list[tuple[str, Node]]:
    """The string literals of a module, also the pieces of templates."""
    tree = Parser(Language(tree_sitter_javascript.language())).parse(path.read_bytes())
    found, waiting = [], [tree.root_node]
    while waiting:
        node = waiting.pop()
        if node.type == "string_fragment":
            found.append(((node.text or b"").decode(), node))
        waiting += node.children
    return found


def is_code(node: Node) -> bool:
    """Whether a string is read by the browser and not by people."""
    at: Node | None = node
    while at is not None:
        above = at.parent
        name = ""
        if above is None:
            break
        if above.type == "import_statement":
            return True
        if above.type == "pair" and (key := above.child_by_field_name("key")):
            name = (key.text or b"").decode().strip('"')
            if key == at or name in NOT_TEXT["keys"]:
                return True
        if above.type == "call_expression" and (called := above.child_by_field_name("function")):
            name = re.split(r"\W", (called.text or b"").decode())[-1]
            if name in NOT_TEXT["calls"] and at.type == "arguments":
                return True
        if above.type in ("function_declaration", "variable_declarator"):
            name = ((above.child_by_field_name("name") or above).text or b"").decode()
            if name in NOT_TEXT["functions"] | NOT_TEXT["constants"]:
                return True
        at = above
    return False


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_have_no_text_of_their_own(path: Path) -> None:
    if path.name in NOT_TEXT["modules"]:
        return
    for text, node in strings_of(path):
        looks_like_text = LETTERS.search(text) and (" " in text or re.match(r"[^\W\d_a-z]", text))
        if looks_like_text and text not in NAMES | PLAIN_JS and not is_code(node):
            raise AssertionError(f"{path.name}:{node.start_point.row + 1}: {text!r}")


# -- every key exists and is used


def keys_in(sources: Iterator[str]) -> set[str]:
    """Keys, and beginnings of keys (``query.kind_``), in string literals."""
    sections = "|".join(ENGLISH)
    return {text for text in sources if re.fullmatch(rf"(?:{sections})\.(?!(?:js|css)$)\w+", text)}


def is_used(key: str, used: set[str]) -> bool:
    base = re.sub(r"_(one|other)$", "", key)
    starts = [one for one in used if one.endswith("_")]
    return key in used or base in used or any(key.startswith(start) for start in starts)


def test_every_key_that_is_used_exists_and_none_is_unused() -> None:
    templates = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*.html"))
    used = keys_in(iter(re.findall(r'"([\w.]+)"', templates)))
    used.add("html.language_name")
    for path in MODULES:
        used |= keys_in(text for text, _ in strings_of(path))
    known = {f"{section}.{key}" for section in ENGLISH for key in ENGLISH[section]}
    for key in used:
        assert any(one == key or is_used(one, {key}) for one in known), f"{key} is missing"
    work = {"tray.work_"}  # tray.work_NAME and tray.work_NAME_of
    unused = {
        key
        for key in known
        if key.partition(".")[0] not in ("server", "languages") and not is_used(key, used | work)
    }
    assert unused == set()


@cache
def imports_of(name: str) -> frozenset[str]:
    """The modules that are loaded with one."""
    if name.startswith("strings."):
        return frozenset([name])
    source = (TEMPLATES / "static" / name).read_text(encoding="utf-8")
    direct = re.findall(r'(?:\bfrom|^import) "\./([\w.]+)"', source, re.MULTILINE)
    return frozenset({name}.union(*map(imports_of, direct)))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_modules_import_the_sections_that_they_use(path: Path) -> None:
    used = {key.partition(".")[0] for key in keys_in(text for text, _ in strings_of(path))}
    assert not used & set(OWN)
    assert {f"strings.{section}.js" for section in used - {"page"}} <= imports_of(path.name)


def test_pages_with_scripts_load_the_first_section() -> None:
    for name in ("main.js", "duplicates.js"):
        assert "strings.page.js" in imports_of(name)


# -- messages of the search, the library and the server

SOURCES = [
    *("server/search/query.py", "server/search/query_encoder.py", "server/search/ranking.py"),
    *("server/search/originals.py", "server/search/engine.py", "indexer/catalog/kept.py"),
    *("server/web/public.py", "server/web/security.py", "server/web/admission.py"),
    *("server/web/zip_download.py", "server/search/duplicate_groups.py", "server/web/kept.py"),
    *("server/web/pages.py", "server/web/app.py", "server/web/parameters.py"),
    *("indexer/errors.py", "indexer/photo/formats.py", "indexer/photo/decoder.py"),
    *("indexer/library/library.py", "server/web/thumbnails.py"),
]
"""Where the messages are that the page shows."""

FOR_PROGRAMS = re.compile(
    r"\S+ is \S+; it must be|the body must be|send JSON|must be a text|before must be|too deeply"
    r"|the file of image|there is no folder|\S+: cannot be|many values|no space left|be written"
    r"|the vector index cannot|made with|revision|image X1 cannot be shown|holds other things"
    r"|X1 is not there|repair of the library|wait for it|the built-in model|there is no library"
    r"|X1:X1 should|it is in an archive|the decoder|the process that reads"
)
"""Messages about what the page does not cause, and those for programs and the server's owner."""


def raised(path: Path) -> Iterator[str]:
    """The messages of errors that a module raises, with ``X1`` for what varies."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            yield from example(node.exc.args[0])


def written(path: Path) -> Iterator[str]:
    """All texts in a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.expr):
            yield from example(node)


def example(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "X1" for part in node.values
        )


def messages() -> Iterator[str]:
    """Messages that the page shows: raised in the sources, or composed."""
    for source in SOURCES:
        yield from (text for text in raised(TOP / source) if " " in text)
    wrong = [f'{name}:""' for name in FILTER_NAMES]
    for query in [
        *wrong,
        "like:x",
        "upload:+",
        "like:5@1",
        "sort:x",
        "match:x",
        "500:fog",
        "x" * 3000,
    ]:
        with pytest.raises(QueryError) as error:
            parse(query)
        yield str(error.value)
    for query in ("after:2012", "before:2012", "date:2012-06"):
        yield _no_matches(parse(query).filters)
    notice = language_notice("ein hund am strand", "builtin")
    assert notice
    yield from (notice, f"{notice} No strong matches. Closest results:")
    yield from (
        'This model does not know the word "xy".',
        'This model does not know the words "x", "y".',
    )


@pytest.mark.parametrize("strings", OTHERS, ids=lambda one: one.language)
def test_messages_are_translated(strings: Strings) -> None:
    known = [text for text in messages() if not FOR_PROGRAMS.search(text)]
    missing = sorted({text for text in known if strings.message(text) == text})
    assert missing == []


def test_no_translated_message_is_out_of_use() -> None:
    german = languages()["de"]
    found = {german.message(text) for source in SOURCES for text in written(TOP / source)}
    found |= {german.message(text) for text in messages()}
    patterns = {
        key: re.compile(".+".join(map(re.escape, PLACEHOLDER.split(text)[::2])), re.DOTALL)
        for key, text in german.sections["server"].items()
    }
    unused = [key for key, one in patterns.items() if not any(map(one.match, found))]
    assert unused == []


def test_two_messages_are_translated_one_after_the_other() -> None:
    notice = language_notice("ein hund am strand", "builtin")
    text = languages()["de"].message(f"{notice} No strong matches to sort by date.")
    assert text.startswith("Das sieht nach Deutsch aus, aber builtin wurde mit Englisch trainiert.")
    assert text.endswith("Keine guten Treffer, die sich nach Datum sortieren ließen.")


def test_numbers_in_messages_are_written_as_the_language_does() -> None:
    message = "the query has 2,345 characters; the limit is 2,000"
    assert "2.345 Zeichen" in languages()["de"].message(message)


def test_all_languages_that_are_detected_have_names() -> None:
    names = {name.replace(" ", "_") for name in [*LATIN.values(), *SCRIPTS.values()]}
    assert names | {"English"} == set(ENGLISH["languages"])


def test_plural_forms_numbers_and_sizes() -> None:
    german, hebrew = languages()["de"], languages()["he"]
    assert german.text("html.photos", count=1) == "1 Foto"
    assert german.text("html.photos", count=5416) == "5.416 Fotos"
    assert hebrew.text("html.photos", count=2) == "שתי תמונות"
    assert german.file_size(1_250_000) == "1,2 MB"


def test_values_are_escaped() -> None:
    assert "&lt;b&gt;" in languages()["de"].text("html.did_you_mean", text="<b>")


# -- which language


@pytest.fixture(scope="module")
def engine(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder
) -> Iterator[SearchEngine]:
    """A search engine on a few generated images."""
    folder = tmp_path_factory.mktemp("strings")
    images = make_pictures(folder / "pictures")
    with (
        make_library(folder / "library", tiny_encoder, images) as library,
        SearchEngine(library, tiny_encoder) as made,
    ):
        yield made


@pytest.fixture
def client(engine: SearchEngine) -> FlaskClient:
    """A local client."""
    return client_of(create_app(engine))


def html_tag(client: FlaskClient, path: str, accept: str) -> str:
    """The attributes of the page's ``html``."""
    headers = {"Accept": "text/html", "Accept-Language": accept}
    found = re.search(r"<html ([^>]*)>", client.get(path, headers=headers).get_data(as_text=True))
    assert found
    return found[1]


@pytest.mark.parametrize("path", ["/", "/?plain=1&q=red", "/failures", "/duplicates", "/nowhere"])
def test_the_browser_or_its_user_chooses_the_language(client: FlaskClient, path: str) -> None:
    assert html_tag(client, path, "") == 'lang="en"'
    assert html_tag(client, path, "de-AT,de;q=0.9,en;q=0.8") == 'lang="de"'
    assert html_tag(client, path, "he") == 'lang="he" dir="rtl"'
    assert html_tag(client, path, "eo,ja;q=0.5") == 'lang="en"'
    client.set_cookie("language", "en")
    assert html_tag(client, path, "de") == 'lang="en"'
    client.set_cookie("language", "../en")
    assert html_tag(client, path, "de") == 'lang="de"'


def test_modules_come_with_the_texts_of_their_page(client: FlaskClient) -> None:
    page = client.get("/", headers={"Accept-Language": "de"}).get_data(as_text=True)
    found = re.search(r'href="(/static/\w+_de/strings\.page\.js)"', page)
    assert found
    script = client.get(found[1], headers={"Accept-Language": "he"})
    assert script.mimetype == "text/javascript"
    assert "Keine guten Treffer" in script.get_data(as_text=True)
    assert "immutable" in script.headers["Cache-Control"]
    for section in (*OWN, "nothing"):
        assert client.get(f"/static/strings.{section}.js").status_code == 404


def test_programs_get_english_and_the_page_its_own_language(client: FlaskClient) -> None:
    german: dict[str, Any] = {"Accept-Language": "de"}
    path = "/api/search?q=after:x"
    assert client.get(path, headers=german).get_json()["error"].startswith("after:x should hold a")
    answer = client.get(path, headers={**german, "Sightline-Errors": "inside"}).get_json()
    assert answer["error"].startswith("after:x braucht einen Tag")
    found = client.get("/api/search?q=in:nowhere", headers={**german, "Sightline-Errors": "inside"})
    assert found.get_json()["message"] == "Keine Fotos passen zu diesen Filtern."
