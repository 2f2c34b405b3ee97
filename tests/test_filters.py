"""Filters are exact: what SQL selects is what a plain reading of each condition selects."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pytest
from helpers_catalog import TOP, new_catalog, picture
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from sightline.indexer.catalog import Catalog
from sightline.indexer.errors import QueryError
from sightline.indexer.types import Condition, Filters, ImageRecord, Root

FOLDERS = (
    "", "Holidays", "holidays 2", "2023/Italy/Rome", "2023-07 Italy", "Italyna", "Straße", "İzmir",
    "a_Italy_b", "100%", "x.y/[z]",
)  # fmt: skip
CAMERAS = (None, "Apple iPhone 12", "APPLE IPHONE 15", "Canon EOS R6", "ÄÖÜ-Kamera", "100% Cam_era")
PLACES = (
    None, (0.0, 0.0), (89.99, 10.0), (-89.99, -170.0), (90.0, 0.0), (10.0, 179.99),
    (10.0, -179.99), (10.0, 180.0), (48.1, 11.6), (48.2, 11.5), (-33.9, 151.2),
)  # fmt: skip
KEYWORDS = ("Sea", "sea", "straße", "a|b")
PEOPLE = ("Ada Lovelace", "ada", "Adam Öz")
NAMES = ("a.jpg", "IMG_1.JPG", "Ärger.png", "100%.heic", "x_y.dng")
LABELS = ("dog", "Dog", "sea otter")
SHAPES = ((400, 300), (300, 400), (300, 300), (1, 3000))
TAKEN = (
    None, datetime(2023, 5, 31, 23, 59, 59), datetime(2023, 6, 1), datetime(2023, 6, 1, 0, 0, 1),
    datetime(2023, 6, 30, 12), datetime(1999, 12, 31), datetime(2023, 6, 1, 0, 0, 0, 500),
)  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Catalog, dict]]:
    """Three hundred pictures that mix everything above, under two roots, and their labels."""
    catalog, root = new_catalog(tmp_path_factory.mktemp("filters"))
    other = catalog.add_root(Path("/media/Holidays/Photos of Italy"))
    with catalog:
        for n in range(300):
            place = PLACES[n % 11]
            width, height = SHAPES[n * 7 % 4]
            image = picture(
                f"{FOLDERS[n * 5 % 11]}/{n}{NAMES[n % 5]}".lstrip("/"),
                width=width,
                height=height,
                format=("jpeg", "png", "heif", "raw", "tiff")[n * 3 % 5],
                taken_at=TAKEN[n % 7],
                camera=CAMERAS[n * 5 % 6],
                lens=CAMERAS[n % 6],
                latitude=place and place[0],
                longitude=place and place[1],
                keywords=tuple(KEYWORDS[i] for i in range(4) if n >> i & 1),
                people=tuple(PEOPLE[i] for i in range(3) if n >> i & 2),
                rating=(None, 0, 1, 3, 5)[n % 5],
            )
            catalog.write(root if n % 3 else other, images=[image])
        catalog.write_labels((i, LABELS[i % 3], 0.5) for i in range(1, 301) if i % 4)
        yield catalog, catalog.labels(range(1, 301))


def fold(text: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def kilometres(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The angle between two unit vectors, by their cross and dot products."""

    def on_sphere(place: tuple[float, float]) -> tuple[float, float, float]:
        p, q = map(math.radians, place)
        return math.cos(p) * math.cos(q), math.cos(p) * math.sin(q), math.sin(p)

    (x, y, z), (u, v, w) = on_sphere(a), on_sphere(b)
    across = math.hypot(y * w - z * v, z * u - x * w, x * v - y * u)
    return 6371.0088 * math.atan2(across, x * u + y * v + z * w)


def meets(record: ImageRecord, labels: dict, condition: Condition) -> bool:
    """What ``types.Condition`` says, in plain Python."""
    info, value = record.info, condition.value
    match condition.name:
        case "after":
            return info.taken_at is not None and info.taken_at.date() >= value
        case "before":
            return info.taken_at is not None and info.taken_at.date() < value
        case "in":
            folder = str(Path(record.root) / record.path).rpartition("/")[0] + "/"
            wanted, folder = fold(str(value)), fold(folder)
            pieces = re.split(r"([^\W_]+)", wanted.strip("/"))
            if not "".join(pieces):
                return True
            inner = re.escape(wanted.strip("/"))
            start = "/" if wanted.startswith("/") else r"(?:^|(?<=[\W_]))"
            end = "/" if wanted.endswith("/") else r"(?=[\W_])"
            return re.search(start + inner + end, folder) is not None
        case "camera" | "lens":
            name = info.camera if condition.name == "camera" else info.lens
            return name is not None and fold(str(value)) in fold(name)
        case "type":
            names = {"jpg": "jpeg", "heic": "heif", "dng": "raw", "tif": "tiff"}
            return info.format == names.get(str(value).lower(), str(value).lower())
        case "is":
            sign = (info.width > info.height) - (info.width < info.height)
            return {"landscape": 1, "portrait": -1, "square": 0}[str(value)] == sign
        case "near":
            latitude, longitude, radius = value
            if info.latitude is None:
                return False
            away = kilometres((info.latitude, info.longitude), (latitude, longitude))
            assume(abs(away - radius) > 1e-6)  # a millimetre: either answer is right
            return away <= radius
        case "label":
            return any(fold(name) == fold(str(value)) for name, _ in labels.get(record.id, ()))
        case "person":
            wanted = rf"(?:^|[\W_]){re.escape(fold(str(value)))}(?:$|[\W_])"
            return any(re.search(wanted, fold(name)) for name in info.people)
        case "keyword":
            return any(fold(word) == fold(str(value)) for word in info.keywords)
        case "rating":
            return info.rating is not None and info.rating >= value
        case "name":
            return fold(str(value)) in fold(record.path.rpartition("/")[2])
    raise AssertionError(condition)


def passes(record: ImageRecord, labels: dict, filters: Filters) -> bool:
    """What ``types.Filters`` says, in plain Python."""
    either: dict[str, list[bool]] = {}
    for condition in filters.conditions:
        met = meets(record, labels, condition)
        if condition.negated:
            if met:
                return False
        elif condition.name in {"after", "before", "rating", "label", "keyword", "person"}:
            if not met:
                return False
        else:
            either.setdefault(condition.name, []).append(met)
    return all(any(group) for group in either.values())


RADII = st.sampled_from([0.5, 1.0, 2.5, 50.0, 2000.0, 10_007.5, 15_000.0, 20_100.0])
DEGREES = st.one_of(
    st.sampled_from(PLACES[1:]), st.tuples(st.floats(-90, 90), st.floats(-180, 180))
)
IN = [
    "Holidays", "holidays", "HOLI", "italy", "2023/Italy", "/Italy/", "Italy/", "/2023", "rome",
    "strasse", "STRASSE", "home", "home/ana/pictures", "/home/ana/Pictures/2023", "Photos of Italy",
    "izmir", "100%", "%", "_", "[z]", "x.y", "xzy", "", "/", "pictures/holidays", "a_italy",
    "media/holidays/photos", "y/[", "nothing",
]  # fmt: skip
TEXTS = ["iphone", "IPHONE", "e", "", "%", "_", "äöü", "ÄÖÜ-", "cam_", "nothing"]
DAYS = [date(2023, 6, 1), date(2023, 5, 31), date(2000, 1, 1), date(2023, 7, 1), date(1, 1, 1)]
VALUES: dict[str, st.SearchStrategy] = {
    "after": st.sampled_from(DAYS),
    "before": st.sampled_from(DAYS),
    "in": st.sampled_from(IN),
    "camera": st.sampled_from(TEXTS),
    "lens": st.sampled_from(TEXTS),
    "type": st.sampled_from(["jpeg", "JPG", "heic", "dng", "tif", "png", "nothing"]),
    "is": st.sampled_from(["portrait", "landscape", "square"]),
    "near": st.builds(lambda place, radius: (*place, radius), DEGREES, RADII),
    "label": st.sampled_from(["dog", "DOG", "Sea Otter", "sea"]),
    "person": st.sampled_from(["ada", "ADA LOVELACE", "lovelace", "Adam", "öz", "da", "nobody"]),
    "keyword": st.sampled_from(["sea", "SEA", "STRASSE", "a|b", "a"]),
    "rating": st.integers(0, 6),
    "name": st.sampled_from(["jpg", "ä", "1", "%", "_", ".", "1img"]),
}
CONDITIONS = st.one_of(
    st.builds(Condition, st.just(name), values, st.booleans()) for name, values in VALUES.items()
)


@settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(CONDITIONS, max_size=4))
@example([Condition("near", (10.0, 180.0, 2.5))])
@example([Condition("near", (10.0, -180.0, 2.5))])
@example([Condition("near", (90.0, 0.0, 2.5), negated=True)])
@example([Condition("near", (-90.0, 55.0, 1.2))])
def test_sql_selects_what_the_conditions_mean(
    library: tuple[Catalog, dict], conditions: list[Condition]
) -> None:
    catalog, labels = library
    filters = Filters(tuple(conditions))
    records = catalog.images(range(1, 301))
    wanted = [record.id for record in records if passes(record, labels, filters)]
    assert catalog.select(filters).tolist() == wanted
    assert catalog.matching(filters) == len(wanted)


@pytest.mark.parametrize("value", IN)
def test_in_matches_every_way_to_name_a_folder(library: tuple[Catalog, dict], value: str) -> None:
    test = test_sql_selects_what_the_conditions_mean.hypothesis.inner_test
    test(library, [Condition("in", value)])


def test_in_matches_whole_words_of_folder_names(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    with catalog:
        catalog.write(
            root,
            images=[
                picture("Holidays/a.jpg"),
                picture("Holidays/2023/Italy/b.jpg"),
                picture("2023-07 Italy/Rome/c.jpg"),
                picture("Italyna/d.jpg"),
                picture("Holidays.jpg"),
            ],
        )

        def found(value: str) -> list[int]:
            return catalog.select(Filters((Condition("in", value),))).tolist()

        assert found("holidays") == [1, 2]
        assert found("Italy") == [2, 3]
        assert found("2023/italy") == [2]
        assert found("/Italy/") == [2]
        assert found("2023") == [2, 3]
        assert found("holi") == []
        assert found("Pictures") == found(str(TOP)) == found(f"{TOP}/") == [1, 2, 3, 4, 5]
        assert found("holidays\\2023") == [2]


def test_near_with_radius_zero_matches_its_centre(library: tuple[Catalog, dict]) -> None:
    catalog, _ = library
    found = catalog.select(Filters((Condition("near", (48.1, 11.6, 0.0)),)))
    assert {(r.info.latitude, r.info.longitude) for r in catalog.images(found)} == {(48.1, 11.6)}


def test_an_invalid_condition_raises_query_error(library: tuple[Catalog, dict]) -> None:
    catalog, _ = library
    for name, value in [
        ("colour", "red"),
        ("is", "round"),
        ("near", (91.0, 0.0, 1.0)),
        ("near", (0.0, 181.0, 1.0)),
        ("near", (0.0, 0.0, -1.0)),
        ("near", (0.0, 0.0, math.nan)),
        ("near", (0.0, 0.0)),
        ("after", "yesterday"),
        ("rating", "many"),
        ("camera", 5),
    ]:
        with pytest.raises(QueryError, match=name):
            catalog.select(Filters((Condition(name, value),)))  # type: ignore[arg-type]


def test_values_are_never_interpreted_as_sql(library: tuple[Catalog, dict]) -> None:
    catalog, _ = library
    for name in ("in", "camera", "lens", "type", "label", "keyword", "person", "name"):
        for value in ("'; DROP TABLE images; --", '"', "?1", "\x00", "\ud800", "%' OR 1=1"):
            assert catalog.select(Filters((Condition(name, value),))).tolist() == []
    assert catalog.count == 300


def test_the_root_folder_of_the_disk_can_be_a_root(tmp_path: Path) -> None:
    catalog, _ = new_catalog(tmp_path)
    with catalog:
        disk: Root = catalog.add_root(Path("/"))
        catalog.write(disk, images=[picture("srv/a.jpg")])
        assert catalog.select(Filters((Condition("in", "/srv"),))).tolist() == [1]
        record = catalog.find(Path("/srv/a.jpg"))
        assert record is not None
        assert record.absolute == Path("/srv/a.jpg")


def test_selections_include_later_commits_of_any_process(tmp_path: Path) -> None:
    catalog, root = new_catalog(tmp_path)
    wanted = Filters((Condition("type", "png"),))
    with catalog, Catalog.open(catalog.path) as elsewhere:
        for number in range(1, 9):
            assert len(elsewhere.select(wanted)) == elsewhere.matching(wanted) == number - 1
            catalog.write(root, images=[picture(f"{number}.png", format="png")])
            assert elsewhere.matching(wanted) == len(elsewhere.select(wanted)) == number
        # Other filters push it out of what is remembered.
        for rating in range(6):
            assert not len(elsewhere.select(Filters((Condition("rating", rating + 1),))))
        assert len(elsewhere.select(wanted)) == 8
