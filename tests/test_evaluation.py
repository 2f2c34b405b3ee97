"""``sightline eval``: the formats, ranks and intervals, and what the command prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.data.scenes import captions as captions_of
from sightline.data.scenes import compose, render
from sightline.indexer.errors import UsageError
from sightline.indexer.evaluation import evaluate
from sightline.indexer.evaluation.datasets import read_captioned, read_classified
from sightline.indexer.evaluation.metrics import (
    best_ranks,
    centred,
    grouped_proportion,
    proportion,
    query_bank,
    unadjusted,
    z_scores,
)
from sightline.server.cli import run

SCENES = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn scenes, captioned in a token file, and a library of them made with the built-in
    model."""
    place = tmp_path_factory.mktemp("evaluation")
    (place / "photos").mkdir()
    lines = []
    for seed in range(SCENES):
        scene = compose(seed)
        render(scene, width=128).save(place / "photos" / f"{seed}.jpg", quality=92)
        lines += [f"{seed}.jpg#{n}\t{text} ." for n, text in enumerate(captions_of(scene)[:2])]
    (place / "captions.token.txt").write_text("\n".join(lines))
    arguments = ["index", place / "photos", "--library", place / "library", "--model", "builtin"]
    assert run([*map(str, arguments), "--quiet"]) == 0
    return place


@pytest.fixture
def measured(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict]:
    """What ``eval --json`` prints."""

    def call(*arguments: str | Path) -> dict:
        capsys.readouterr()
        assert run(["eval", *map(str, arguments), "--json", "--quiet"]) == 0
        return json.loads(capsys.readouterr().out)  # type: ignore[no-any-return]

    return call


# --- formats -------------------------------------------------------------------------------------

KARPATHY = {
    "dataset": "tiny",
    "images": [
        {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "one  a."}, {"raw": "two a"}]},
        {"filename": "b.jpg", "split": "test", "sentences": [{"raw": "one b"}]},
        {"filename": "c.jpg", "split": "train", "sentences": [{"raw": "one c"}]},
    ],
}
COCO = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 3, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 7, "caption": "one a."},
        {"image_id": 3, "caption": "one b\n"},
        {"image_id": 7, "caption": "two a"},
    ],
}
TOKENS = "a.jpg#0\tone a.\na.jpg#1\ttwo a\nb.jpg#0\tone b\n"
COMMAS = 'split,image,caption\ntest,a.jpg,one a.\ntest,a.jpg,two a\ntest,b.jpg,"one b"\n'
BARS = "image_name| comment_number| comment\na.jpg| 0| one a.\na.jpg| 1| two a\nb.jpg| 0| one b\n"
TABS = "filepath\ttitle\nphotos/a.jpg\tone a.\nphotos/a.jpg\ttwo a\nphotos/b.jpg\tone b\n"


@pytest.mark.parametrize(
    ("text", "format"),
    [
        (json.dumps(KARPATHY), "karpathy"),
        (json.dumps(COCO), "coco"),
        (TOKENS, "flickr"),
        (COMMAS, "csv"),
        (BARS, "csv"),
        (TABS, "csv"),
    ],
)
def test_every_caption_format_reads_to_the_same_set(tmp_path: Path, text: str, format: str) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    path = tmp_path / "captions"
    path.write_text(text, encoding="utf-8")
    found = read_captioned(path, tmp_path)
    assert found.format == format
    assert [image.name for image in found.images] == ["a.jpg", "b.jpg"]
    assert (found.captions, found.targets) == (("one a.", "two a", "one b"), (0, 0, 1))
    one = read_captioned(path, tmp_path, per_image=1, tidy=True)
    assert (one.captions, one.targets) == (("one a", "one b"), (0, 1))
    (tmp_path / "listed.txt").write_text("b.jpg\nunheard-of.jpg\n")
    listed = read_captioned(path, tmp_path, split=str(tmp_path / "listed.txt"))
    assert listed.captions == ("one b",)


def test_splits_are_selected_by_name_or_refused(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"x")
    for text in (json.dumps(KARPATHY), COMMAS.replace("test,b", "train,b")):
        (tmp_path / "set").write_text(text)
        assert len(read_captioned(tmp_path / "set", tmp_path, split="train").images) == 1
    (tmp_path / "set").write_text(TOKENS)
    with pytest.raises(UsageError, match="no splits"):
        read_captioned(tmp_path / "set", tmp_path, split="train")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nothing of the kind", "not of a known format"),
        ("", "not of a known format"),
        ("{", "not JSON"),
        ('{"images": [{"split": "test"}]}', "neither"),
        ('{"images": []}', "no caption"),
        (TOKENS.replace("b.jpg", "gone.jpg"), r"gone\.jpg"),
    ],
)
def test_an_unusable_caption_file_is_an_error_with_the_reason(
    tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "set").write_text(text)
    with pytest.raises(UsageError, match=reason):
        read_captioned(tmp_path / "set", tmp_path)


def test_classes_are_read_from_folders_or_a_list_with_names(tmp_path: Path) -> None:
    for name in ("n1/x.jpg", "n1/y.png", "n2/z.JPEG", "n2/notes.txt", "empty/readme.md"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"x")
    (tmp_path / "names.txt").write_text("n1\tgreat dog, hound\nn2\tcat\n")
    (tmp_path / "names.json").write_text('{"n1": ["great dog", "hound"], "n2": "cat"}')
    (tmp_path / "list.txt").write_text("n2/z.JPEG\tn2\t0\t32\nn1/x.jpg\tn1\nn1/y.png,n1\n")
    folders = read_classified(tmp_path / "set", names=tmp_path / "names.txt")
    listed = read_classified(
        tmp_path / "list.txt", images=tmp_path / "set", names=tmp_path / "names.json"
    )
    assert folders == listed
    assert folders.truth == (0, 0, 1)
    assert folders.labels[0].names == ("great dog", "hound")
    assert read_classified(tmp_path / "set").labels[1].name == "n2"
    assert len(read_classified(tmp_path / "set", shots=1).images) == 2
    (tmp_path / "names.txt").write_text("n1\tdog\n")
    for wrong in ({"names": tmp_path / "names.txt"}, {"classes": ["n1"]}):
        with pytest.raises(UsageError, match="n2"):
            read_classified(tmp_path / "set", **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least two are needed"):
        read_classified(tmp_path / "set" / "n1")


# --- ranks and intervals -------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30))
def test_best_ranks_are_those_of_a_stable_sort(seed: int, queries: int, gallery: int) -> None:
    random = np.random.default_rng(seed)
    # Few different values, so that there are ties.
    asked = random.integers(-1, 2, (queries, 3)).astype(np.float32)
    images = random.integers(-1, 2, (gallery, 3)).astype(np.float32)
    own = [sorted(set(random.integers(0, gallery, 3).tolist())) for _ in range(queries)]
    found = best_ranks(asked, images, own, unadjusted)
    for row in range(queries):
        order = np.argsort(-(images @ asked[row]), kind="stable").tolist()
        assert found[row] == 1 + min(order.index(one) for one in own[row])


def test_confidence_intervals_have_their_nominal_coverage() -> None:
    random = np.random.default_rng(0)
    held = [
        proportion(right, 200).low <= 0.1 <= proportion(right, 200).high
        for right in random.binomial(200, 0.1, 1000).tolist()
    ]
    assert 0.92 < np.mean(held) < 0.98
    assert proportion(0, 10).low == 0
    assert proportion(10, 10).high == 1


def test_captions_of_one_image_are_not_independent() -> None:
    random = np.random.default_rng(0)
    each = random.random(100) < 0.5
    alike = grouped_proportion(np.repeat(each, 5), np.repeat(np.arange(100), 5).tolist())
    alone = grouped_proportion(each, range(100))
    assert alike.value == alone.value
    assert (alike.low, alike.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert alike.high - alike.low > 2 * (proportion(250, 500).high - proportion(250, 500).low) * 0.9
    assert alike == grouped_proportion(np.repeat(each, 5), np.repeat(np.arange(100), 5).tolist())


def test_query_bank_normalisation_lowers_a_hub() -> None:
    random = np.random.default_rng(0)
    images = unit(random.standard_normal((50, 16)))
    texts = unit(images + 0.15 * random.standard_normal((50, 16)))
    hub = unit(texts.mean(axis=0, keepdims=True))[0]
    texts = unit(texts + 1.5 * hub)
    gallery = np.concatenate([images, hub[None]])
    bank = unit(unit(random.standard_normal((200, 16))) + 1.5 * hub)
    own = [[n] for n in range(50)]
    before = best_ranks(texts, gallery, own, unadjusted)
    after = best_ranks(texts, gallery, own, query_bank(gallery, bank))
    assert (before == 1).mean() < 0.3
    assert (after == 1).mean() > (before == 1).mean() + 0.3


def test_centring_reduces_the_common_mean_and_z_scores_are_standardised() -> None:
    random = np.random.default_rng(0)
    texts, bank = (unit(random.standard_normal((n, 8)) + 3) for n in (5, 40))
    moved = centred(texts, bank)
    assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    assert abs(moved.mean()) < abs(texts.mean()) / 3
    images = unit(random.standard_normal((400, 8)))
    judged = z_scores(texts, images)(images @ texts.T)
    assert np.allclose(np.median(judged, axis=0), 0, atol=1e-5)
    assert np.allclose(np.quantile(judged, 0.1, axis=0), -1, atol=1e-4)


# --- sightline eval retrieval --------------------------------------------------------------------


def test_retrieval_exactly_and_through_a_librarys_index(
    place: Path, measured: Callable[..., dict]
) -> None:
    given = ["retrieval", place / "captions.token.txt", "--images", place / "photos"]
    alone = measured(*given, "--model", "builtin", "--ranking", "all")
    for name in ("model", "revision", "dtype", "device", "sightline", "seconds"):
        assert alone[name]
    assert (alone["dataset"]["images"], alone["dataset"]["captions"]) == (SCENES, 2 * SCENES)
    assert len(alone["results"]) == 6
    there, back = alone["results"][:2]
    assert (there["direction"], there["queries"], there["gallery"]) == (
        "text_to_image",
        2 * SCENES,
        SCENES,
    )
    assert (back["direction"], back["queries"], back["gallery"]) == (
        "image_to_text",
        SCENES,
        2 * SCENES,
    )
    for one in (there, back):
        first, ten = one["recall@1"], one["recall@10"]
        assert 0.3 < first["value"] <= ten["value"] <= 1
        assert first["low"] < first["high"]
        assert 1 <= one["median_rank"] <= 3
    kept = measured(*given, "--library", place / "library")
    exact, _, index = kept["results"]
    assert index["through"] == "index"
    assert kept["index"]["of_exact_first_10"] == 1.0
    for one in (exact, index):
        # float16 at rest may turn round two that are close.
        assert one["recall@10"]["value"] == pytest.approx(there["recall@10"]["value"], abs=0.05)
    tidy = measured(
        *given, "--library", place / "library", "--tidy", "-t", "three boats, a bus, a cat and {}"
    )
    assert tidy["templates"] == ["three boats, a bus, a cat and {}"]
    assert tidy["results"] != kept["results"]


def test_eval_prints_a_table_and_the_unreadable_images(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.csv").write_text("file,caption\n1.jpg,a scene\nbroken.jpg,nothing\n")
    (tmp_path / "1.jpg").write_bytes((place / "photos" / "1.jpg").read_bytes())
    (tmp_path / "broken.jpg").write_text("no image")
    assert run(["eval", "retrieval", str(tmp_path / "captions.csv"), "--model", "builtin"]) == 0
    captured = capsys.readouterr()
    assert "| text → image | plain | exact | 1 | 1 | 100.0" in captured.out
    assert "broken.jpg" in captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model", "builtin", "--library", "default"],
        ["--model", "builtin", "--ranking", "best"],
        ["--model", "builtin", "--templates", "nothing"],
    ],
)
def test_eval_errors_are_one_line(place: Path, arguments: list[str]) -> None:
    given = ["eval", "retrieval", str(place / "captions.token.txt"), "--images"]
    assert run([*given, str(place / "photos"), "--quiet", *arguments]) == 2


def test_eval_names_an_image_that_is_not_in_the_library(place: Path, tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("file,caption\n1.jpg,a scene\n")
    (tmp_path / "1.jpg").write_bytes((place / "photos" / "1.jpg").read_bytes())
    given = ["eval", "retrieval", str(tmp_path / "captions.csv"), "--library"]
    assert run([*given, str(place / "library"), "--quiet"]) == 2


# --- sightline eval classification ---------------------------------------------------------------


def test_zero_shot_classification_and_a_linear_probe(
    tmp_path: Path, measured: Callable[..., dict], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = {"sailboat": 6, "campfire": 6, "windmill": 6}
    for seed in range(2000):
        scene = compose(seed)
        kinds = {subject.kind for subject in scene.subjects}
        kind = next(iter(kinds))
        if len(kinds) == 1 and wanted.get(kind, 0):
            part = "train" if wanted[kind] > 3 else "test"
            (tmp_path / part / kind).mkdir(parents=True, exist_ok=True)
            render(scene, width=96).save(tmp_path / part / kind / f"{seed}.png")
            wanted[kind] -= 1
    given = ["classification", tmp_path / "test", "--model", "builtin", "-t", "plain", "-t", "a {}"]
    found = measured(*given, "--train", tmp_path / "train")
    assert (found["dataset"]["classes"], found["dataset"]["images"]) == (3, 9)
    plainly, other, probe = found["results"]
    assert (plainly["method"], plainly["prompts"]) == ("plain", 3)
    assert plainly["top1"]["value"] >= 0.6
    assert plainly["top5"]["value"] == 1
    assert plainly["mean_per_class"] == pytest.approx(plainly["top1"]["value"], abs=1e-3)
    assert other["method"] == "a {}"
    assert (probe["method"], probe["trained_on"], probe["converged"]) == ("linear probe", 9, True)
    assert probe["top1"]["value"] >= 0.6
    assert run(["eval", *map(str, given), "--quiet"]) == 0
    assert "| plain | 1 | 9 |" in capsys.readouterr().out


def test_a_probe_handles_two_classes_and_refuses_a_class_with_one_image() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([0, 1], 20)
    vectors = unit(random.standard_normal((40, 8)) + 4 * np.eye(8)[truth * 3])
    found = evaluate.linear_probe(vectors[::2], truth[::2], vectors[1::2], truth[1::2])
    assert found.top1.value > 0.9
    with pytest.raises(UsageError, match="at least two training images"):
        evaluate.linear_probe(vectors[:21], truth[:21], vectors, truth)
