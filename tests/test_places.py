"""Positions get names, offline, and are found by them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers_client import client_of
from helpers_library import as_bytes, draw, empty_library
from test_exchange import clip_set, unit
from test_photo_metadata import exif

from sightline.indexer.encoder import Encoder
from sightline.indexer.exchange import import_set, open_set
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.milvus.fill import fill_from_shards
from sightline.indexer.milvus.library import MilvusLibrary
from sightline.indexer.places import Gazetteer
from sightline.indexer.shards.import_shards import import_shards
from sightline.indexer.shards.place import Place
from sightline.indexer.shards.plan import find_items, plan
from sightline.indexer.shards.ray_task import Job, embed_shard
from sightline.indexer.shards.shard_files import Origin, write_origin
from sightline.indexer.types import Condition, Filters, Location
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

POSITIONS = {
    "beach": (37.0891, -8.2479),
    "tower": (38.6979, -9.2065),
    "gate": (52.5163, 13.3777),
    "sea": (30.0, -40.0),
    "nowhere": None,
}


@pytest.fixture(scope="module")
def gazetteer() -> Gazetteer:
    loaded = Gazetteer.load()
    assert loaded is not None
    return loaded


def gps_of(latitude: float, longitude: float) -> dict[int, object]:
    """EXIF of a position in the northern hemisphere."""
    return {1: "N", 2: (latitude, 0.0, 0.0), 3: "EW"[longitude < 0], 4: (abs(longitude), 0.0, 0.0)}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Encoder) -> Iterator[Library]:
    """Five images; four have a position, and one of them is far from any place."""
    root = tmp_path_factory.mktemp("places")
    (root / "pictures").mkdir()
    for seed, (name, position) in enumerate(POSITIONS.items()):
        gps: dict[int, object] = {}
        if position:
            gps = gps_of(*position)
        data = as_bytes(draw(seed), exif=exif(gps=gps))
        (root / "pictures" / f"{name}.jpg").write_bytes(data)
    with empty_library(root / "library", tiny_encoder) as made:
        update_library(made, tiny_encoder, [root / "pictures"], workers=1)
        yield made


def found(library: Library, name: str, value: str) -> list[str]:
    ids = library.select(Filters((Condition(name, value),)))
    return sorted(record.path.removesuffix(".jpg") for record in library.images(ids.tolist()))


@pytest.mark.parametrize(
    ("position", "shown", "region"),
    [
        ((37.0891, -8.2479), "Albufeira, Portugal", "Faro"),
        ((48.1374, 11.5755), "Munich, Germany", "Bavaria"),
        ((43.5528, 7.0174), "Cannes, France", "Provence-Alpes-Côte d'Azur"),
        ((47.1410, 9.5209), "Vaduz, Liechtenstein", "Vaduz"),
        ((47.5596, 7.5886), "Basel, Switzerland", "Basel-City"),
        ((36.1408, -5.3536), "Gibraltar", None),
        ((69.6492, 18.9553), "Tromsø, Norway", "Troms"),
        ((-33.8568, 151.2153), "Sydney, Australia", "New South Wales"),
        ((21.2793, -157.8292), "Waikīkī, United States", "Hawaii"),
        ((-16.4332, 179.3645), "Labasa, Fiji", "Northern"),
    ],
)
def test_positions_have_the_names_that_people_use(
    gazetteer: Gazetteer, position: tuple[float, float], shown: str, region: str | None
) -> None:
    (place,) = gazetteer.locate([position])
    assert place is not None
    assert (str(place), place.region) == (shown, region)


def test_a_district_is_named_beside_its_city(gazetteer: Gazetteer) -> None:
    (place,) = gazetteer.locate([(52.5163, 13.3777)])
    assert place == Location("DE", "Germany", "State of Berlin", "Berlin", "Tiergarten")
    assert place.names == ("Tiergarten", "Berlin", "State of Berlin", "Germany")


def test_the_date_line_and_the_poles_are_no_edges(gazetteer: Gazetteer) -> None:
    one, other = gazetteer.locate([(-16.8, 179.9999), (-16.8, -179.9999)])
    assert one == other
    assert gazetteer.locate([(90, 0), (-90, 12), (0, -30)]) == [None, None, None]


def test_place_finds_city_region_and_country_without_case_and_accents(library: Library) -> None:
    for value in ("albufeira", "FARO", "Portugal", "pórtugal"):
        assert "beach" in found(library, "place", value), value
    assert found(library, "place", "tiergarten") == found(library, "place", "berlin") == ["gate"]
    assert found(library, "place", "port") == []


def test_country_is_a_code_or_a_name(library: Library) -> None:
    assert found(library, "country", "pt") == found(library, "country", "portugal")
    assert found(library, "country", "PT") == ["beach", "tower"]
    assert found(library, "country", "germany") == ["gate"]
    assert found(library, "country", "ger") == found(library, "country", "") == []


def test_names_of_places_are_words(library: Library) -> None:
    assert library.full_text_search("albufeira", 5).size == 1
    assert library.full_text_search("portugal tower", 5).size == 1
    assert library.full_text_search("germany beach", 5).size == 0


def test_no_place_is_guessed(library: Library) -> None:
    records = {record.path: record for record in library.images(library.select().tolist())}
    assert records["nowhere.jpg"].location is records["sea.jpg"].location is None
    assert library.catalog.unlocated(9) == [], "each position is looked up once"


def test_countries_and_cities_are_counted_and_suggested(
    library: Library, tiny_encoder: Encoder
) -> None:
    with SearchEngine(library, tiny_encoder) as engine, client_of(create_app(engine)) as client:
        facets = client.get("/api/facets?q=").json
        assert facets["country"] == [
            {"value": "Portugal", "filter": "country:Portugal", "count": 2},
            {"value": "Germany", "filter": "country:Germany", "count": 1},
        ]
        assert {one["filter"] for one in facets["place"]} >= {"place:Albufeira", "place:Berlin"}
        few = client.get("/api/facets?q=country:de").json
        assert [one["value"] for one in few["place"]] == ["Berlin"]
        suggested = client.get("/api/suggest?prefix=albu").json["suggestions"]
        assert {"text": "place:Albufeira", "kind": "place", "count": 1} in suggested
        assert client.get("/api/images/1").json["location"]["city"] == "Albufeira"


def test_a_new_position_is_looked_up_again(tmp_path: Path, tiny_encoder: Encoder) -> None:
    munich = exif(gps=gps_of(48.1374, 11.5755))
    (tmp_path / "a.jpg").write_bytes(as_bytes(draw(1), exif=munich))
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        update_library(library, tiny_encoder, [tmp_path], workers=1)
        assert found(library, "place", "munich") == ["a"]
        (tmp_path / "a.jpg").write_bytes(as_bytes(draw(1)))
        update_library(library, tiny_encoder, [tmp_path], workers=1)
        assert found(library, "place", "munich") == []
        assert library.full_text_search("munich", 5).size == 0


def test_imported_images_with_a_position_have_places(tmp_path: Path, tiny_encoder: Encoder) -> None:
    columns = {
        "image_path": ["a.jpg", "b.jpg"],
        "latitude": [48.1374, None],
        "longitude": [11.5755, None],
    }
    source = clip_set(tmp_path / "set", [(unit(2), columns)])
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_set(library, open_set(source), workers=1)
        assert found(library, "place", "munich") == found(library, "country", "de") == ["a"]
        assert library.full_text_search("bavaria", 5).size == 1


def test_images_of_shards_with_a_position_have_places(
    tmp_path: Path, tiny_encoder: Encoder
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    munich = exif(gps=gps_of(48.1374, 11.5755))
    (folder / "a.jpg").write_bytes(as_bytes(draw(1), exif=munich))
    (folder / "b.jpg").write_bytes(as_bytes(draw(2)))
    place = Place.at(str(tmp_path / "shards"))
    encoder = tiny_encoder
    origin = Origin(encoder.model, encoder.revision, encoder.dimension, "gps", "2026-01-01")
    write_origin(place, origin)
    for shard in plan(place, find_items(str(folder)), size=4)[0]:
        embed_shard(Job(place.url, origin, device="cpu"), shard)
    with empty_library(tmp_path / "library", tiny_encoder) as library:
        import_shards(library, place)
        assert found(library, "place", "munich") == found(library, "country", "de") == ["a"]
        assert library.full_text_search("bavaria", 5).size == 1
    fill_from_shards(place, str(tmp_path / "places.db"), index="FLAT")
    with MilvusLibrary.open(str(tmp_path / "places.db")) as remote:
        for name, value in (("place", "munich"), ("country", "de"), ("place", "bavaria")):
            ids = remote.select(Filters((Condition(name, value),))).tolist()
            assert [record.path for record in remote.images(ids)] == ["a.jpg"]
            assert str(remote.images(ids)[0].location) == "Munich, Germany"
        assert remote.full_text_search("bavaria", 5).size == 1
