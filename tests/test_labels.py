"""Zero-shot labels and image-to-text: prompts, probabilities, ``label``, ``describe``, facets."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers_client import client_of
from helpers_library import make_library
from helpers_models import (
    build_altclip,
    build_chinese_clip,
    build_dual_encoder,
    build_metaclip2,
    build_siglip,
    build_siglip2,
    build_siglip2_naflex,
)
from PIL import Image

from sightline.data.scenes import Scene, compose, render
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import NotFoundError, UsageError
from sightline.indexer.indexing.encoders import encoder_for
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library import Library
from sightline.indexer.zero_shot import prompts
from sightline.indexer.zero_shot.labels import (
    MIN_FIT,
    Labeller,
    classifier,
    label,
    probabilities,
    read_labels,
)
from sightline.server.cli import run
from sightline.server.commands.describe import read_captions
from sightline.server.search import SearchEngine
from sightline.server.web.app import create_app

KINDS = ("sailboat", "lighthouse", "windmill", "campfire")


def scenes_of(kind: str, count: int) -> Iterator[Scene]:
    """Scenes that show ``kind`` and nothing else."""
    every = (compose(seed) for seed in itertools.count())
    return itertools.islice((s for s in every if {x.kind for x in s.subjects} == {kind}), count)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight drawn scenes of each kind, in files called after it."""
    folder = tmp_path_factory.mktemp("labels") / "images"
    folder.mkdir()
    for kind in KINDS:
        for number, scene in enumerate(scenes_of(kind, 8)):
            render(scene, width=128).save(folder / f"{kind}-{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="module")
def directory(gallery: Path) -> Path:
    directory = gallery.parent / "library"
    arguments = ["index", str(gallery), "--library", str(directory), "--model", "builtin"]
    assert run([*arguments, "--quiet"]) == 0
    return directory


@pytest.fixture(scope="module")
def builtin() -> Encoder:
    return Encoder.load("builtin", device="cpu")


@pytest.fixture
def sightline(directory: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs a command on the library and returns what it printed."""

    def call(*arguments: str | Path, status: int = 0) -> str:
        capsys.readouterr()
        given = [str(one) for one in arguments]
        assert run([*given, "--library", str(directory)]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return call


# --- prompts and labels --------------------------------------------------------------------------


def test_the_templates_are_those_of_the_clip_paper() -> None:
    assert len(prompts.IMAGENET) == len(set(prompts.IMAGENET)) == 80
    assert all(template.count("{}") == 1 for template in prompts.IMAGENET)
    assert len(prompts.IMAGENET_7) == 7
    assert set(prompts.IMAGENET_7) < set(prompts.IMAGENET)
    assert set(prompts.PHOTO) < set(prompts.IMAGENET)


def test_templates_are_given_by_name_or_literally() -> None:
    assert prompts.templates("imagenet") is prompts.IMAGENET
    assert prompts.templates("a scan of a {}") == ("a scan of a {}",)
    assert prompts.templates(["one {}", "two {}"]) == ("one {}", "two {}")
    assert prompts.fill("a {} here", "thing {0} {}") == "a thing {0} {} here"
    for wrong in ("nothing", ["one {}", "two"], []):
        with pytest.raises(UsageError):
            prompts.templates(wrong)


def test_labels_are_read_from_names_text_files_and_json(tmp_path: Path) -> None:
    assert [one.name for one in read_labels(" dog ,a  cat,")] == ["dog", "a cat"]
    lines = tmp_path / "labels.txt"
    lines.write_text("\ufeff# animals\ndog, puppy, hound\n\ncat\n", encoding="utf-8")
    assert read_labels(str(lines)) == [label("dog", "puppy", "hound"), label("cat")]
    document = tmp_path / "labels.json"
    document.write_text('{"dog": ["puppy"], "cat": []}')
    assert read_labels(str(document)) == [label("dog", "puppy"), label("cat")]
    document.write_text('["dog", "cat"]')
    assert read_labels(str(document)) == [label("dog"), label("cat")]


@pytest.mark.parametrize("text", ["{", "[1]", '{"dog": "puppy"}', "3", "[" * 100_000])
def test_an_invalid_label_file_is_an_error_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_labels(str(path))


@pytest.mark.parametrize("name", ["animals.txt", "lists/animals.JSON", "~/animals.csv"])
def test_a_missing_label_or_caption_file_is_an_error_and_no_label(name: str) -> None:
    for read in (read_labels, read_captions):
        with pytest.raises(UsageError, match="there is no file"):
            read(name)


def test_no_label_or_a_duplicate_is_an_error() -> None:
    for given in (" , ", "dog, Dog"):
        with pytest.raises(UsageError):
            read_labels(given)


def test_a_labels_vector_is_the_mean_over_its_names_and_templates(tiny_encoder: Encoder) -> None:
    made = classifier(tiny_encoder, [label("dog", "hound"), label("cat")], ["a {}", "the {}"])
    mean = tiny_encoder.encode_texts(["a dog", "the dog", "a hound", "the hound"]).mean(axis=0)
    assert np.allclose(made[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


def test_probabilities_are_a_softmax_or_a_sigmoid_by_model(
    tiny_encoder: Encoder, tmp_path: Path
) -> None:
    cosines = np.array([[0.3, 0.2, 0.1], [0.0, 0.0, 0.0]], np.float32)
    shared = probabilities(cosines, tiny_encoder)
    assert np.allclose(shared.sum(axis=1), 1, atol=1e-5)
    assert shared[0, 0] / shared[0, 1] == pytest.approx(
        np.exp(0.1 * tiny_encoder.logit_scale), rel=1e-3
    )
    siglip = Encoder.load(str(build_siglip(tmp_path / "siglip")), device="cpu")
    assert siglip.templates == "siglip"
    alone = probabilities(cosines, siglip)
    logits = cosines * siglip.logit_scale + siglip.logit_bias
    assert np.allclose(alone, 1 / (1 + np.exp(-logits)), atol=1e-5)
    scored = Labeller(siglip, [label("dog")], templates=prompts.SIGLIP)(
        siglip.encode_texts(["a dog", "a cat"])
    )
    assert (scored.fits == scored.probabilities).all()


@pytest.mark.parametrize(
    ("build", "templates"),
    [
        (build_metaclip2, "imagenet"),
        (build_chinese_clip, "imagenet"),
        (build_altclip, "imagenet"),
        (build_dual_encoder, "imagenet"),
        (build_siglip2, "siglip"),
        (build_siglip2_naflex, "siglip"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_family_has_default_templates_and_fits(
    tmp_path: Path, build: Callable[[Path], Path], templates: str
) -> None:
    encoder = Encoder.load(str(build(tmp_path / "model")), device="cpu")
    assert encoder.templates == templates
    shape = (2, encoder.geometry.height, encoder.geometry.width, 3)
    images = encoder.encode_images(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    scored = Labeller(encoder, read_labels("dog, cat"), templates=prompts.IMAGENET_7)(images)
    total = scored.probabilities.sum(axis=1)
    if encoder.sigmoid:
        assert (scored.fits == scored.probabilities).all()
    else:
        assert np.allclose(total, 1, atol=1e-5)
        assert (scored.fits < scored.probabilities).all()
    assert ((scored.fits >= 0) & (scored.fits <= 1)).all()


def test_every_named_model_has_known_templates() -> None:
    from sightline.indexer.encoder import registry

    for info in registry.MODELS:
        assert info.templates in prompts.TEMPLATES
        assert (info.templates == "siglip") == info.name.startswith("siglip")


def test_the_nearest_label_is_not_stored_if_it_does_not_fit(builtin: Encoder) -> None:
    pizza = builtin.encode_texts(["a pizza fresh from the oven"])
    scored = Labeller(builtin, read_labels("sailing boat, horse"), templates=prompts.PLAIN)(pizza)
    assert scored.probabilities.max() > 0.5
    assert scored.fits.max() < MIN_FIT


def test_a_caption_that_mentions_a_label_does_not_compete_with_it(builtin: Encoder) -> None:
    dog = builtin.encode_texts(["a dog running on the beach"])
    labels = read_labels("dog, cat")
    mentioned = Labeller(builtin, labels, templates=prompts.PLAIN, bank=["a dog running"])(dog)
    other = Labeller(builtin, labels, templates=prompts.PLAIN, bank=["an animal running"])(dog)
    assert mentioned.fits[0, 0] == pytest.approx(mentioned.probabilities[0, 0])
    assert other.fits[0, 0] < other.probabilities[0, 0]


# --- sightline label -----------------------------------------------------------------------------


def test_label_prints_the_labels_that_fit_each_image(sightline) -> None:  # type: ignore[no-untyped-def]
    found = json.loads(sightline("label", "--labels", ",".join(KINDS), "--json", "--threshold", 0))
    assert found["templates"] == ["{}"], "what suits the built-in model"
    assert len(found["images"]) == 32
    right = [
        image["labels"][0]["label"] == Path(image["path"]).name.partition("-")[0]
        for image in found["images"]
    ]
    assert np.mean(right) >= 0.8
    for image in found["images"]:
        fits = [one["fit"] for one in image["labels"]]
        assert fits == sorted(fits, reverse=True)
        assert sum(one["probability"] for one in image["labels"]) == pytest.approx(1, abs=1e-3)


def test_label_prints_csv_and_plain_lines(sightline) -> None:  # type: ignore[no-untyped-def]
    rows = list(
        csv.DictReader(io.StringIO(sightline("label", "-l", "sailboat, lighthouse", "--csv")))
    )
    assert "sailboat" in {row["label"] for row in rows}
    assert all(float(row["fit"]) >= MIN_FIT and Path(row["path"]).exists() for row in rows)
    lines = sightline(
        "label", "-l", "sailboat, lighthouse", "-t", "{}", "name:sailboat-1", "--threshold", "0"
    ).splitlines()
    assert len(lines) == 1
    assert "sailboat-1.jpg: sailboat" in lines[0]


def test_stored_labels_are_filters_and_facets(sightline, directory: Path) -> None:  # type: ignore[no-untyped-def]
    sightline("label", "--labels", "sailboat, lighthouse", "--keep")
    found = json.loads(sightline("search", "label:SAILBOAT", "--json", "-k", "50"))
    names = [hit["name"] for hit in found["hits"]]
    assert len(names) >= 2
    assert np.mean([name.startswith("sailboat") for name in names]) >= 0.8
    with (
        Library.open(directory) as library,
        SearchEngine(library, encoder_for(library)) as engine,
    ):
        client = client_of(create_app(engine))
        facets = client.get("/api/facets").json
        counted = {one["value"]: one["count"] for one in facets["label"]}
        assert counted["sailboat"] == len(names)
        narrowed = client.get("/api/facets?q=label:sailboat").json["label"]
        assert {one["filter"]: one["count"] for one in narrowed}["label:sailboat"] == len(names)
        kinds = ("label", "person", "country", "place", "keyword")
        assert client.get("/api/facets?q=name:nowhere").json == {kind: [] for kind in kinds}
        image = client.get(f"/api/images/{found['hits'][0]['id']}").json
        assert image["labels"][0]["label"] == "sailboat"
        assert MIN_FIT <= image["labels"][0]["fit"] <= 1
        words = client.get("/api/suggest?prefix=label:s").json["suggestions"]
        assert words[0]["text"] == "label:sailboat"


def test_labelling_again_replaces_only_the_same_labels(sightline) -> None:  # type: ignore[no-untyped-def]
    def count(query: str) -> int:
        return json.loads(sightline("search", query, "--json"))["total"]  # type: ignore[no-any-return]

    sightline("label", "--labels", "sailboat, lighthouse", "--keep", "--threshold", "0")
    assert (count("label:sailboat"), count("label:lighthouse")) == (32, 32)
    sightline("label", "--labels", "sailboat", "--keep", "--threshold", "1", "name:sailboat")
    assert (count("label:sailboat"), count("label:lighthouse")) == (24, 32)
    sightline("label", "--forget", "Sailboat, unheard of")
    assert (count("label:sailboat"), count("label:lighthouse")) == (0, 32)
    sightline("label", "--forget", "*")
    assert count("label:lighthouse") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--labels", "dog", "--json", "--csv"],
        ["--labels", " , "],
        ["--labels", "dog", "--templates", "nothing"],
        ["--forget", "dog", "--keep"],
    ],
)
def test_label_errors_are_one_line(sightline, arguments: list[str]) -> None:  # type: ignore[no-untyped-def]
    assert sightline("label", *arguments, status=2).strip()


# --- describe ------------------------------------------------------------------------------------


def test_describe_ranks_given_texts(sightline, gallery: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    texts = "a sailboat, a campfire, a windmill"
    found = json.loads(sightline("describe", gallery / "campfire-0.jpg", "-c", texts, "--json"))
    assert found["captions"][0]["text"] == "a campfire"
    assert sum(one["probability"] for one in found["captions"]) == pytest.approx(1, abs=1e-3)
    listed = tmp_path / "texts.txt"
    listed.write_text("a sailboat, with a comma\n\na campfire\n")
    lines = sightline("describe", gallery / "sailboat-0.jpg", "--captions", listed).splitlines()
    assert [line.split(maxsplit=3)[3] for line in lines] == [
        "a sailboat, with a comma",
        "a campfire",
    ]


def test_describe_ranks_the_caption_bank_for_an_image_of_the_library(sightline) -> None:  # type: ignore[no-untyped-def]
    hit = json.loads(sightline("search", "name:lighthouse-0", "--json"))["hits"][0]
    lines = sightline("describe", str(hit["id"]), "-k", "3").splitlines()
    assert len(lines) == 3
    cosines = [float(line.split()[2]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)


def test_describe_works_without_a_library(
    gallery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["describe", str(gallery / "windmill-0.jpg"), "--model", "builtin"]
    assert run([*given, "-c", "a sailboat, a windmill", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["text"] for one in found["captions"]] == ["a windmill", "a sailboat"]
    assert found["captions"][0]["relevance"] is None
    assert found["model"] == "builtin"
    assert run([*given, "-k", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run(["describe", "7", "--model", "builtin"]) == 1
    assert run(["describe", given[1]]) == 1, "there is no library where the default one lies"


def test_describe_errors_are_one_line(sightline, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "there is no file nowhere.jpg, and it is not an image id" in sightline(
        "describe", "nowhere.jpg", status=1
    )
    assert "there is no image" in sightline("describe", str(10**30), status=1)
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    assert "cannot be read" in sightline("describe", broken, status=2)


def test_the_api_ranks_texts_for_an_image(directory: Path, gallery: Path) -> None:
    with (
        Library.open(directory) as library,
        SearchEngine(library, encoder_for(library)) as engine,
    ):
        client = client_of(create_app(engine))
        (image,) = engine.search("name:sailboat-0").hits
        answer = client.get(
            f"/api/images/{image.id}/captions",
            query_string={"texts": "a campfire\na sailboat, a sailboat"},
        ).json["captions"]
        assert [one["text"] for one in answer] == ["a sailboat", "a campfire"]
        assert len(client.get(f"/api/images/{image.id}/captions?k=4").json["captions"]) == 4
        assert client.get("/api/images/99999/captions").status_code == 404
        long = client.get(f"/api/images/{image.id}/captions?texts={'x' * 5000}")
        assert long.status_code == 400
        many = ",".join(str(n) for n in range(101))
        assert client.get(f"/api/images/{image.id}/captions?texts={many}").status_code == 400
        with pytest.raises(NotFoundError):
            engine.describe(99999)
        shown = engine.describe(
            (gallery / "sailboat-0.jpg").read_bytes(), texts=["a sailboat", "a campfire"]
        )
        assert shown[0].text == "a sailboat"


def test_an_image_that_changes_loses_its_labels(tmp_path: Path, tiny_encoder: Encoder) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "one.png")
    library = make_library(tmp_path / "library", tiny_encoder, folder)
    with library:
        (image,) = library.select().tolist()
        library.catalog.write_labels([(image, "red", 0.9), (image + 1, "gone", 0.9)])
        assert library.labels([image]) == {image: [("red", 0.9)]}
        assert [one.text for one in library.facets("label")] == ["red"]
        Image.new("RGB", (60, 40), "blue").save(folder / "one.png")
        update_library(library, tiny_encoder, [folder], workers=1)
        assert library.labels([image]) == {}
