"""The sample gallery: composing, captioning, rendering and writing scenes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from sightline.data.scenes import (
    KINDS,
    PLACES,
    TIMES,
    WEATHERS,
    Scene,
    Subject,
    captions,
    compose,
    held_out,
    render,
    triples,
    write_gallery,
)

SEEDS = range(400)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    directory = tmp_path_factory.mktemp("gallery")
    return directory, write_gallery(directory, count=14, seed=3)


def pixels(scene: Scene, **size: int) -> bytes:
    return render(scene, **size).tobytes()


def where(place: str, **facts: str) -> Scene:
    """A scene at this place, with some facts replaced."""
    scene = next(s for s in map(compose, range(1000)) if s.place == place)
    return dataclasses.replace(scene, **facts)  # type: ignore[arg-type]


def test_the_same_seed_makes_the_same_scene_captions_and_pixels() -> None:
    for split in ("train", "test", "gallery"):
        one, two = compose(11, split=split), compose(11, split=split)
        assert one == two
        assert captions(one) == captions(two)
        assert pixels(one, width=96) == pixels(two, width=96)


def test_pixels_do_not_depend_on_earlier_renders() -> None:
    scene = compose(5)
    before = pixels(scene, width=96)
    for seed in range(6, 12):
        render(compose(seed), width=64)
    assert pixels(scene, width=96) == before


def test_different_seeds_and_splits_make_different_scenes() -> None:
    assert len({compose(seed) for seed in SEEDS}) == len(SEEDS)
    assert compose(1) != compose(1, split="test") != compose(1, split="gallery")


def test_an_unknown_split_is_an_error() -> None:
    with pytest.raises(ValueError, match="split"):
        compose(0, split="validation")


def test_training_never_draws_a_held_out_combination() -> None:
    drawn = set().union(*(compose(seed).triples for seed in range(3000)))
    assert not any(held_out(*triple) for triple in drawn)
    assert len(drawn) > 0.95 * len(triples(held=False))


def test_the_first_subject_of_a_test_scene_is_held_out() -> None:
    for seed in SEEDS:
        scene = compose(seed, split="test")
        assert held_out(scene.subjects[0].kind, scene.subjects[0].colour, scene.place)


def test_every_kind_has_held_out_and_training_combinations() -> None:
    assert {t[0] for t in triples(held=True)} == {t[0] for t in triples(held=False)} == set(KINDS)


def test_subjects_fit_the_place_season_and_count_limit() -> None:
    for seed in SEEDS:
        for split in ("train", "test", "gallery"):
            scene = compose(seed, split=split)
            for subject in scene.subjects:
                kind = KINDS[subject.kind]
                assert scene.place in kind.places
                assert subject.colour in kind.colours
                assert scene.season in kind.seasons
                assert 1 <= subject.count <= kind.most
                assert all(0 < s.x < 1 and 0 < s.y < 1 and s.height > 0 for s in subject.spots)
            if scene.weather == "snow":
                assert PLACES[scene.place].snows
                assert scene.season == "winter"


def test_positions_match_the_relation() -> None:
    seen = set()
    for seed in range(1500):
        scene = compose(seed)
        if scene.relation is None:
            continue
        seen.add(scene.relation)
        first, second = scene.subjects[0].spots, scene.subjects[1].spots
        if scene.relation == "left of":
            assert max(s.x for s in first) < min(s.x for s in second)
        elif scene.relation == "right of":
            assert min(s.x for s in first) > max(s.x for s in second)
        elif scene.relation == "in front of":
            assert first[0].y > second[0].y
        else:
            assert max(s.y for s in first) < max(s.y for s in second)
    assert seen == {"left of", "right of", "in front of", "above"}


def test_the_first_caption_names_every_fact() -> None:
    for seed in SEEDS:
        scene = compose(seed)
        caption = captions(scene)[0]
        for subject in scene.subjects:
            number = ("", "a", "two", "three", "four", "five")[subject.count]
            assert f" {number}" in f" {caption}"
            assert subject.kind == "campfire" or subject.colour in caption
        assert scene.place.rstrip("s") in caption
        assert {"dawn": "dawn", "day": "by day"}.get(scene.time, scene.time) in caption
        words = {"clear": "", "cloudy": "cloudy", "snow": "falling snow"}
        assert words.get(scene.weather, scene.weather) in caption


def test_captions_are_distinct_and_at_most_count() -> None:
    for seed in range(100):
        scene = compose(seed)
        every = captions(scene)
        assert 5 <= len(every) == len(set(every)) <= 8
        assert captions(scene, count=1) == every[:1]
        assert captions(scene, count=0) == []
        assert len({len(c.split()) for c in every}) > 2, "short and long forms"
    assert captions(compose(1), seed=1)[1:] != captions(compose(1), seed=2)[1:]


def test_captions_use_synonyms() -> None:
    caption = " ".join(c for seed in SEEDS for c in captions(compose(seed)))
    for word in ("bike", "yacht", "puppy", "woods", "harbor", "countryside", "mist", "night sky"):
        assert word in caption


@pytest.mark.parametrize("place", PLACES)
def test_every_place_is_drawn_in_every_light_and_weather(place: str) -> None:
    scene = where(place)
    looks = set()
    for time in TIMES:
        for weather in WEATHERS:
            image = render(dataclasses.replace(scene, time=time, weather=weather), width=64)
            assert image.mode == "RGB"
            assert np.asarray(image).std() > 8, "not an empty image"
            looks.add(image.tobytes())
    assert len(looks) == len(TIMES) * len(WEATHERS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_subject_is_visible_in_each_of_its_colours(kind: str) -> None:
    scene = next(
        s for s in map(compose, range(2000)) if s.subjects[0].kind == kind and s.time == "day"
    )
    without = np.asarray(render(dataclasses.replace(scene, subjects=()), width=160)).astype(int)
    for colour in KINDS[kind].colours:
        subject = Subject(kind, colour, scene.subjects[0].spots)
        drawn = np.asarray(render(dataclasses.replace(scene, subjects=(subject,)), width=160))
        changed = (np.abs(drawn - without).max(axis=-1) > 24).mean()
        assert changed > 0.004, f"{colour} {kind} covers {changed:.2%} of the image"


def test_an_image_has_the_requested_size() -> None:
    scene = compose(2)
    assert render(scene).size == (scene.width, scene.height)
    assert render(scene, width=100).width == 100
    assert render(scene, height=60).height == 60
    assert render(scene, width=128, height=96).size == (128, 96)
    with pytest.raises(ValueError, match="16 pixels"):
        render(scene, width=4, height=4)


def test_night_is_darker_than_day() -> None:
    for place in PLACES:
        scene = where(place, weather="clear")
        day, night = (
            np.asarray(render(dataclasses.replace(scene, time=t), width=64)).mean()
            for t in ("day", "night")
        )
        assert night < 0.7 * day


def test_the_gallery_holds_red_cars_at_night_for_the_demo_query() -> None:
    scenes = [compose(seed, split="gallery") for seed in range(300)]
    red_cars = [
        s
        for s in scenes
        if s.time == "night" and any((x.kind, x.colour) == ("car", "red") for x in s.subjects)
    ]
    assert len(red_cars) >= 8
    assert {s.place for s in scenes} == set(PLACES)
    assert {s.time for s in scenes} == set(TIMES)
    assert {s.weather for s in scenes} == set(WEATHERS)


def test_gallery_files_are_jpegs_in_folders_by_year_and_region(
    gallery: tuple[Path, list[Path]],
) -> None:
    directory, paths = gallery
    assert len(paths) == len(set(paths)) == 14
    for path in paths:
        year, region = path.parent.name.split(" ", 1)
        assert 2018 <= int(year) <= 2025
        assert region
        assert path.parent.parent == directory
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert 640 <= max(image.size) <= 1280


def test_gallery_images_have_many_shapes(gallery: tuple[Path, list[Path]]) -> None:
    sizes = [(s.width, s.height) for s in (compose(i, split="gallery") for i in range(100))]
    assert len(set(sizes)) > 15
    assert any(w > h for w, h in sizes)
    assert any(w < h for w, h in sizes)
    assert any(w == h for w, h in sizes)


def test_gallery_exif_reads_back(gallery: tuple[Path, list[Path]]) -> None:
    cameras = places = 0
    for i, path in enumerate(gallery[1]):
        scene = compose(3_000_000 + i, split="gallery")
        with Image.open(path) as image:
            exif = image.getexif()
        details = exif.get_ifd(ExifTags.IFD.Exif)
        taken = details[ExifTags.Base.DateTimeOriginal]
        assert taken == scene.taken_at.strftime("%Y:%m:%d %H:%M:%S")
        if scene.camera:
            cameras += 1
            assert exif[ExifTags.Base.Make]
            assert scene.camera.endswith(exif[ExifTags.Base.Model])
            assert details[ExifTags.Base.LensModel]
        gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
        if scene.latitude is None or scene.longitude is None:
            assert not gps
            continue
        places += 1
        for value, angle, ref, negative in (
            (scene.latitude, ExifTags.GPS.GPSLatitude, ExifTags.GPS.GPSLatitudeRef, "S"),
            (scene.longitude, ExifTags.GPS.GPSLongitude, ExifTags.GPS.GPSLongitudeRef, "W"),
        ):
            d, m, s = (float(part) for part in gps[angle])
            sign = -1 if gps[ref] == negative else 1
            assert sign * (d + m / 60 + s / 3600) == pytest.approx(value, abs=1e-5)
    assert cameras
    assert places


def test_writing_reports_progress_and_never_overwrites(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = write_gallery(
        tmp_path, count=2, progress=lambda done, total: seen.append((done, total))
    )
    before = [path.read_bytes() for path in first]
    second = write_gallery(tmp_path, count=2)
    assert seen == [(1, 2), (2, 2)]
    assert not set(first) & set(second)
    assert [path.read_bytes() for path in first] == before
    assert [path.read_bytes() for path in second] == before
