"""Detection of queries in a language that the library's model was not trained on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_library import empty_library
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from sightline.indexer.encoder import Encoder
from sightline.server.search import SearchEngine
from sightline.server.search.language import LATIN, detect_language, language_notice
from sightline.server.search.language_model import load_identifier

ENGLISH = (
    "dog on a beach", "red car", "birthday cake", "sunset", "a man riding a bicycle",
    "snowy mountain", "cat sleeping on sofa", "christmas tree", "barbecue", "kids in the garden",
    "grandma", "selfie", "croissant", "espresso machine", "pizza napoletana",
    "eiffel tower at night", "oktoberfest", "golden retriever puppy", "volkswagen beetle", "sushi",
    "kimono", "fjord", "passport photo", "receipt", "screenshot", "cappuccino with latte art",
    "couple kissing", "person holding umbrella", "street art graffiti", "germany 2019 castle",
    "lake como", "old barn", "black and white portrait", "food on a table", "concert",
    "wedding dance", "baby laughing", "drone shot of coastline", "macro insect",
    "a tiger in the zoo", "anna and ben at the lake", "san francisco bridge", "el capitan yosemite",
    "grand canyon", "las vegas strip", "rio de janeiro carnival", "mona lisa", "art deco building",
    "modern kitchen interior", "double rainbow", "flat white coffee", "paris metro sign",
    "venice gondola", "spaghetti carbonara", "tapas bar", "siesta hammock", "doppelganger",
    "kindergarten class", "uber receipt", "two people hugging", "boat harbour", "airplane window",
    "autumn leaves", "ferris wheel", "hot air balloon", "tennis match", "tax form",
    "whiteboard notes", "handwritten letter", "lego castle", "stuffed animal", "fire truck",
    "a bowl of ramen", "dim sum", "taj mahal", "mount fuji", "santa claus", "halloween pumpkin",
)  # fmt: skip
"""Many with loan words and foreign names."""

OTHERS = (
    "hund am strand", "rotes auto", "geburtstagskuchen", "sonnenuntergang am meer",
    "ein mann auf einem fahrrad", "schneebedeckter berg", "katze schläft auf dem sofa",
    "weihnachtsbaum", "kinder spielen im garten", "alte frau mit hut", "chien sur la plage",
    "voiture rouge", "gâteau d'anniversaire", "coucher de soleil", "un homme sur un vélo",
    "montagne enneigée", "enfants dans le jardin", "chat qui dort", "perro en la playa",
    "coche rojo", "pastel de cumpleaños", "puesta de sol", "un hombre en bicicleta",
    "montaña nevada", "niños en el jardín", "cane sulla spiaggia", "macchina rossa",
    "torta di compleanno", "tramonto", "bambini che giocano", "hond op het strand", "rode auto",
    "verjaardagstaart", "zonsondergang", "cachorro na praia", "carro vermelho",
    "bolo de aniversário", "crianças no jardim", "hund på stranden", "röd bil", "pies na plaży",
    "czerwony samochód", "urodzinowy tort", "köpek sahilde", "kırmızı araba", "koira rannalla",
    "punainen auto", "pes na pláži", "kutya a tengerparton", "câine pe plajă",
    "alte Burg im Wald", "ein Hund am Strand", "une vieille église", "bateau sur le lac",
    "eine rote Katze", "barco en el mar", "gatto nero", "fiore giallo nel prato", "oude kerk",
    "bloemen in een vaas", "gammalt hus vid sjön", "Kirche bei Nacht", "le chat noir",
    "rotes Haus", "Urlaub in Italien", "Oma und Opa", "kwiaty", "dom nad jeziorem",
)  # fmt: skip

SCRIPTS = {
    "собака на пляже": "Cyrillic letters", "σκύλος στην παραλία": "Greek", "海滩上的狗": "Chinese",
    "浜辺の犬": "Japanese", "해변의 개": "Korean", "كلب على الشاطئ": "Arabic",
    "כלב על החוף": "Hebrew", "समुद्र तट पर कुत्ता": "Hindi", "สุนัขบนชายหาด": "Thai",
}  # fmt: skip


def test_english_is_not_detected_as_another_language() -> None:
    taken = [text for text in ENGLISH if detect_language(text)]
    assert len(taken) <= 3, taken


def test_other_latin_languages_are_detected() -> None:
    missed = [text for text in OTHERS if not detect_language(text)]
    assert len(missed) <= 12, missed


@pytest.mark.parametrize("text", SCRIPTS)
def test_other_scripts_are_detected(text: str) -> None:
    assert detect_language(text) == SCRIPTS[text]


@pytest.mark.parametrize("text", ["", "IMG_2041", "2019", "?!", "a", "🐶", "xy"])
def test_text_without_a_language_is_none(text: str) -> None:
    assert detect_language(text) is None


def test_a_notice_depends_on_the_models_languages() -> None:
    german = "alte Burg im Wald"
    said = language_notice(german, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert said is not None
    assert "German" in said
    assert "siglip2-b16" in said
    assert language_notice(german, "google/siglip2-base-patch16-224") is None
    assert language_notice(german, "/home/ana/my-model") is None
    assert language_notice("海滩上的狗", "OFA-Sys/chinese-clip-vit-base-patch16") is None
    assert "chinese-clip-b16" in (language_notice("海滩上的狗", "builtin") or "")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    encoder = Encoder.load("builtin")
    with (
        empty_library(tmp_path_factory.mktemp("language") / "library", encoder) as library,
        SearchEngine(library, encoder) as made,
    ):
        yield made


def test_py3langid_is_loaded_only_for_monolingual_models() -> None:
    code = (
        "from sightline.server.search.language import _identifier, load_language_model\n"
        "for model in ('siglip2-b16', 'a folder', 'builtin'):\n"
        "    load_language_model(model); print(_identifier.cache_info().currsize > 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False", "True"]


def test_a_search_in_another_language_has_a_message(engine: SearchEngine) -> None:
    assert "German" in (engine.search("ein Hund am Strand").message or "")
    assert "German" not in (engine.search("a dog on a beach").message or "")
    assert "German" not in (engine.search("a dog -schnee").message or "")


@pytest.fixture(scope="module")
def original() -> LanguageIdentifier:
    """py3langid for the same languages, as it is installed."""
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages([*LATIN, "en"])
    return identifier


def same_ranks(identifier: LanguageIdentifier, original: LanguageIdentifier) -> bool:
    return all(identifier.rank(text) == original.rank(text) for text in (*ENGLISH, *OTHERS))


def test_the_cached_language_model_ranks_as_the_original(
    original: LanguageIdentifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert same_ranks(load_identifier([*LATIN, "en"]), original)
    (folder,) = (tmp_path / "sightline").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(LanguageIdentifier, "from_model_file", None)  # the second needs no original
        assert same_ranks(load_identifier([*LATIN, "en"]), original)
    for corrupt in (b"", b"not an array", (folder / "tk_row.npy").read_bytes()[:1000]):
        (folder / "tk_row.npy").write_bytes(corrupt)
        assert same_ranks(load_identifier([*LATIN, "en"]), original)
        assert (folder / "tk_row.npy").stat().st_size > 100_000
    assert list((tmp_path / "sightline").iterdir()) == [folder]


def test_a_language_is_detected_without_a_cache_folder(
    original: LanguageIdentifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert same_ranks(load_identifier([*LATIN, "en"]), original)
