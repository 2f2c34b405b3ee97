"""Models by name, in folders and on the hub, and what can be wrong with them."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import helpers_models
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.indexer.encoder import Encoder, registry
from sightline.indexer.errors import ModelError
from sightline.indexer.library import Library

TOP = Path(__file__).resolve().parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of a model that a test may change."""
    return shutil.copytree(tiny_clip, tmp_path / "model")


# --- OpenCLIP's format ---------------------------------------------------------------------------


def test_a_model_in_open_clips_format_gives_the_same_vectors(
    tiny_clip: Path, tmp_path: Path
) -> None:
    folder = helpers_models.save_as_open_clip(tiny_clip, tmp_path / "open-clip")
    texts = ["a dog on a beach", "", "naïve café", " ".join(["two people"] * 250)]
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for options in ({"few_texts": True}, {"device": "cpu"}):
        expected = Encoder.load(str(tiny_clip), dtype="float32", **options)
        found = Encoder.load(str(folder), dtype="float32", **options)
        np.testing.assert_allclose(
            found.encode_texts(texts), expected.encode_texts(texts), atol=1e-5
        )
    assert found.geometry == expected.geometry
    np.testing.assert_allclose(
        found.encode_images(pixels), expected.encode_images(pixels), atol=1e-5
    )
    assert found.logit_scale == expected.logit_scale


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision_cfg", {"ls_init_value": 0.1}, "needs the extra openclip"),
        ("vision_cfg", {"timm_model_name": "fastvit_mci2"}, "needs the extra openclip"),
        ("text_cfg", {"no_causal_mask": True}, "needs the extra openclip"),
        ("text_cfg", None, "names no vision_cfg and text_cfg"),
    ],
)
def test_an_architecture_that_is_not_ours_names_the_package(
    tiny_clip: Path, tmp_path: Path, part: str, change: dict[str, object] | None, message: str
) -> None:
    folder = helpers_models.save_as_open_clip(tiny_clip, tmp_path / "open-clip")
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"][part] = change and {**config["model_cfg"][part], **change}
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        Encoder.load(str(folder)).encode_texts(["a dog"])


# --- the registry --------------------------------------------------------------------------------


def test_the_default_model_has_a_permissive_licence() -> None:
    default = registry.find(registry.DEFAULT)
    assert default is not None
    assert default.licence == "MIT"


def test_names_and_hub_ids_find_the_same_model() -> None:
    assert len({info.name for info in registry.MODELS}) == len(registry.MODELS)
    for info in registry.MODELS:
        assert registry.find(info.name.upper()) is info
        assert registry.find(info.id) is info
    assert registry.find("nothing") is None


def test_metaclip_models_are_marked_as_not_for_commercial_use() -> None:
    for info in registry.MODELS:
        if info.name.startswith("metaclip"):
            assert info.licence == "CC-BY-NC-4.0"
            assert "not for commercial use" in info.note


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("laion-b3", "did you mean laion-b32"),
        ("SIGLIP", "did you mean siglip"),
        ("zzzz", "no model is called 'zzzz': `sightline models` lists the names"),
        ("./nowhere", "there is no folder ./nowhere"),
        ("~/nowhere", "there is no folder"),
        ("a/b/c", "there is no folder a/b/c"),
    ],
)
def test_an_unknown_model_name_suggests_similar_names(model: str, message: str) -> None:
    with pytest.raises(ModelError, match=message.replace(".", r"\.")):
        Encoder.load(model)


# --- folders -------------------------------------------------------------------------------------


def test_the_revision_of_a_folder_changes_with_its_files(folder: Path, tiny_clip: Path) -> None:
    one, same = Encoder.load(str(folder)), Encoder.load(str(tiny_clip))
    assert one.model == str(folder)
    assert one.revision == same.revision  # a copy is the same model
    weights = load_file(folder / "model.safetensors")
    name = "text_model.final_layer_norm.bias"
    save_file(
        {key: value + 0.01 if key == name else value for key, value in weights.items()},
        folder / "model.safetensors",
    )
    tuned = {key: value * 1.001 for key, value in weights.items()}
    save_file(tuned, folder / "model.safetensors")
    assert Encoder.load(str(folder)).revision != one.revision
    shutil.copy(tiny_clip / "model.safetensors", folder)
    helpers_models.save_preprocessor(
        folder, "CLIPImageProcessor", size={"height": 32, "width": 32}, do_center_crop=False
    )
    assert Encoder.load(str(folder)).revision != one.revision


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("preprocessor_config.json", "has no preprocessor_config.json"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_the_error_for_an_incomplete_folder_names_the_missing_file(
    folder: Path, file: str, message: str
) -> None:
    (folder / file).unlink()
    with pytest.raises(ModelError, match=message):
        Encoder.load(str(folder))


def test_every_truncated_file_is_an_error_in_one_line(folder: Path, tiny_clip: Path) -> None:
    for file in sorted(tiny_clip.iterdir()):
        whole = file.read_bytes()
        for size in (0, 1, 7, 100, len(whole) // 2, len(whole) - 1):
            (folder / file.name).write_bytes(whole[:size])
            problem = problem_with(folder)
            # A JSON file may lose the newline at its end.
            assert problem or size == len(whole) - 1, f"{file.name} cut to {size} bytes"
            assert "\n" not in problem
        (folder / file.name).write_bytes(whole)


def problem_with(folder: Path) -> str:
    """The error for a folder, or an empty string if it can be used."""
    try:
        Encoder.load(str(folder), device="cpu").warm(["text", "image"])
    except ModelError as error:
        return str(error)
    return ""


def test_weights_of_another_model_are_an_error(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"the weights lack text_model\.encoder\.layers\.2"):
        Encoder.load(str(folder)).warm()


@pytest.mark.parametrize(
    ("model_type", "message"),
    [
        ("llama", "family 'llama', which is not supported"),
        (None, "names no model_type"),
    ],
)
def test_an_unsupported_architecture_is_an_error(
    folder: Path, model_type: str | None, message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = model_type
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        Encoder.load(str(folder))


def test_a_tokenizer_of_another_model_is_an_error(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    helpers_models.save_clip_tokenizer(other, vocabulary=760)
    shutil.copy(other / "tokenizer.json", folder)
    with pytest.raises(ModelError, match="has 760 tokens, the model 700"):
        Encoder.load(str(folder)).warm()


def test_weights_that_change_while_an_encoder_runs_are_an_error(folder: Path) -> None:
    encoder = Encoder.load(str(folder))
    encoder.warm()
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ModelError, match="was changed while it was in use"):
        encoder.encode_texts(["a dog"])


# --- weights -------------------------------------------------------------------------------------


def test_sharded_weights_are_read(folder: Path, tiny_clip: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {
        "model-00001-of-00002.safetensors": names[::2],
        "model-00002-of-00002.safetensors": names[1::2],
    }
    for shard, inside in shards.items():
        save_file({name: weights[name] for name in inside}, folder / shard)
    index = {"weight_map": {name: shard for shard, inside in shards.items() for name in inside}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(
        Encoder.load(str(folder)).encode_texts(["a dog"]),
        Encoder.load(str(tiny_clip)).encode_texts(["a dog"]),
    )
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match="has no model-00002-of-00002"):
        Encoder.load(str(folder))
    index["weight_map"][names[0]] = "../../model.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="outside its folder"):
        Encoder.load(str(folder))


def test_half_precision_weights_are_read(folder: Path, tiny_clip: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    for dtype in (torch.float16, torch.bfloat16):
        save_file(
            {name: tensor.to(dtype) for name, tensor in weights.items()},
            folder / "model.safetensors",
        )
        halved = Encoder.load(str(folder), dtype="float32").encode_texts(["a dog"])
        whole = Encoder.load(str(tiny_clip), dtype="float32").encode_texts(["a dog"])
        assert (halved * whole).sum() > 0.999


def test_a_bin_file_of_tensors_is_read(folder: Path, tiny_clip: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    pixels = np.zeros((2, 32, 32, 3), np.uint8)
    theirs = Encoder.load(str(tiny_clip))
    for zipped in (True, False):  # today's files, and those from before torch 1.6
        path = folder / "pytorch_model.bin"
        torch.save(weights, path, _use_new_zipfile_serialization=zipped)
        ours = Encoder.load(str(folder))
        np.testing.assert_array_equal(ours.encode_texts(["a dog"]), theirs.encode_texts(["a dog"]))
        np.testing.assert_array_equal(ours.encode_images(pixels), theirs.encode_images(pixels))


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_a_bin_file_with_code_is_refused_and_nothing_is_run(folder: Path) -> None:
    target = folder / "harm"
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({**weights, "more": Harmful(target)}, path)
    old = io.BytesIO()
    pickle.dump(Harmful(target), old, protocol=2)
    for content in (path.read_bytes(), old.getvalue(), b"", b"garbage", _empty_zip()):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="use a safetensors version"):
            Encoder.load(str(folder))
    assert not target.exists()


def _empty_zip() -> bytes:
    content = io.BytesIO()
    zipfile.ZipFile(content, "w").close()
    return content.getvalue()


# --- the hub -------------------------------------------------------------------------------------


class Hub:
    """A server with one repository, for the part of the hub's protocol that a download uses."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, *, body: bool) -> None:
                hub.asked.append(self.path)
                path = self.path.partition("?")[0]
                content, kind = hub.content(path)
                if content is None:
                    self.send_response(404)
                    self.send_header("X-Error-Code", kind)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hash(content) & (1 << 64) - 1:x}"')
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def content(self, path: str) -> tuple[bytes | None, str]:
        """The file at a path and its content type, or None and the error code."""
        if not path.startswith(("/api/models/owner/model", "/owner/model")):
            return None, "RepoNotFound"
        if path.startswith("/owner/model/resolve/"):
            found = self.files.get(path.split("/", 5)[5])
            return found, "application/octet-stream" if found is not None else "EntryNotFound"
        if "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in self.files.items()
            ]
            return json.dumps(listed).encode(), "application/json"
        siblings = [{"rfilename": name} for name in self.files]
        about = {"id": "owner/model", "modelId": "owner/model", "sha": COMMIT, "siblings": siblings}
        return json.dumps(about).encode(), "application/json"


@pytest.fixture
def hub(tiny_clip: Path) -> Iterator[Hub]:
    files = {file.name: file.read_bytes() for file in tiny_clip.iterdir()}
    files |= {
        "README.md": b"# a model",
        "open_clip_model.safetensors": b"x" * 100,
        "pytorch_model.bin": b"x" * 100,
        "flax_model.msgpack": b"x" * 100,
        "modeling_custom.py": b"raise SystemExit",
    }
    served = Hub(files)
    yield served
    served.server.shutdown()
    served.server.server_close()


LOAD = """
import sys
from sightline.indexer.encoder import Encoder
from sightline.indexer.errors import ModelError
try:
    encoder = Encoder.load(sys.argv[1])
    print(encoder.model, encoder.revision, encoder.dimension)
    if sys.argv[2:]:
        encoder.encode_texts(sys.argv[2:])
except ModelError as error:
    print(error)
"""


def load_from(
    hub_url: str,
    home: Path,
    model: str = "owner/model",
    *,
    texts: Sequence[str] = (),
    **environment: str,
) -> str:
    """Loads a model, and encodes ``texts``, in a new process, because huggingface_hub reads its
    settings once."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", LOAD, model, *texts],
        capture_output=True,
        text=True,
        cwd=TOP,
        env={**clean, **settings, "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment},
        check=True,
    )
    return result.stdout.strip()


def test_a_hub_model_is_downloaded_once_and_then_used_offline(hub: Hub, tmp_path: Path) -> None:
    expected = f"owner/model {COMMIT} 32"
    assert load_from(hub.url, tmp_path, texts=["a dog"]) == expected
    fetched = {path.name for path in tmp_path.rglob("snapshots/*/*")}
    assert fetched == {
        "config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "model.safetensors",
    }
    hub.asked.clear()
    assert load_from(hub.url, tmp_path) == expected
    assert hub.asked == []  # not even a question
    assert load_from("http://127.0.0.1:9", tmp_path) == expected
    assert load_from(hub.url, tmp_path, HF_HUB_OFFLINE="1") == expected


def run_with(hub_url: str, home: Path, *arguments: str) -> tuple[int, str]:
    """The exit status and output of ``sightline`` with that hub and an empty cache in ``home``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "sightline", *arguments],
        capture_output=True,
        text=True,
        env={**clean, **settings, "HF_TOKEN": "hf_private", "HF_HUB_DISABLE_PROGRESS_BARS": "1"},
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_library_cannot_make_this_machine_ask_the_hub(hub: Hub, tmp_path: Path) -> None:
    directory, home = tmp_path / "library", tmp_path / "home"
    library = Library.create(directory, model="owner/model", revision=COMMIT, dimension=32)
    library.close()
    place = ["--library", str(directory)]
    remedy = f"if you trust it, run `sightline models --download owner/model@{COMMIT}`"
    for asked in (["search", "a dog"], ["index"], ["serve", "--port", "0"]):
        status, output = run_with(hub.url, home, *asked, *place)
        assert status != 0
        assert remedy in output
    assert hub.asked == [], "the hub learns neither of the library nor of the token"
    assert run_with(hub.url, home, "models", "--download", f"owner/model@{COMMIT}")[0] == 0
    hub.asked.clear()
    assert run_with(hub.url, home, "search", "a dog", *place)[0] == 0
    assert hub.asked == []


def test_naming_the_model_of_a_library_confirms_its_download(hub: Hub, tmp_path: Path) -> None:
    directory, folder = tmp_path / "library", tmp_path / "photos"
    folder.mkdir()
    Library.create(directory, model="owner/model", revision=COMMIT, dimension=32).close()
    asked = ["index", str(folder), "--model", "owner/model", "--library", str(directory), "-q"]
    assert run_with(hub.url, tmp_path / "home", *asked)[0] == 0


def test_serve_downloads_no_model_because_of_a_library(hub: Hub, tmp_path: Path) -> None:
    """Not even one of the named list, which other commands download."""
    directory = tmp_path / "library"
    id = registry.MODELS[1].id
    Library.create(directory, model=id, revision=COMMIT, dimension=512).close()
    place = ["--library", str(directory)]
    status, output = run_with(hub.url, tmp_path / "home", "serve", "--port", "0", *place)
    assert status != 0
    assert f"sightline models --download {id}@{COMMIT}" in output
    assert hub.asked == []
    run_with(hub.url, tmp_path / "home", "search", "a dog", *place)
    assert any(id in path for path in hub.asked)


@pytest.mark.parametrize("revision", ["../../../tmp/evil", "a b", "", "x\n"])
def test_the_revision_of_a_library_cannot_leave_the_cache(revision: str) -> None:
    with pytest.raises(ModelError, match="cannot be a revision"):
        Encoder.load("owner/model", revision=revision)


def test_a_bin_file_is_downloaded_only_if_there_are_no_safetensors(
    hub: Hub, tmp_path: Path, tiny_clip: Path
) -> None:
    weights = io.BytesIO()
    torch.save(load_file(tiny_clip / "model.safetensors"), weights)
    del hub.files["model.safetensors"]
    hub.files["pytorch_model.bin"] = weights.getvalue()
    assert load_from(hub.url, tmp_path, texts=["a dog"]) == f"owner/model {COMMIT} 32"
    del hub.files["pytorch_model.bin"]
    message = load_from(hub.url, tmp_path / "other")
    assert "owner/model holds no weights in the format of transformers or OpenCLIP" in message


def test_a_model_in_open_clips_format_is_downloaded_if_there_is_no_other(
    hub: Hub, tmp_path: Path, tiny_clip: Path
) -> None:
    folder = helpers_models.save_as_open_clip(tiny_clip, tmp_path / "folder")
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    home = tmp_path / "home"
    assert load_from(hub.url, home, texts=["a dog"]) == f"owner/model {COMMIT} 32"
    assert load_from(hub.url, home, HF_HUB_OFFLINE="1") == f"owner/model {COMMIT} 32"


def test_an_incomplete_cache_is_completed(hub: Hub, tmp_path: Path) -> None:
    load_from(hub.url, tmp_path)
    next(iter(tmp_path.rglob("snapshots/*/model.safetensors"))).unlink()
    assert load_from(hub.url, tmp_path) == f"owner/model {COMMIT} 32"


def test_the_error_for_an_unreachable_hub_names_the_remedies(hub: Hub, tmp_path: Path) -> None:
    away = load_from("http://127.0.0.1:9", tmp_path)
    offline = load_from(hub.url, tmp_path, HF_HUB_OFFLINE="1")
    unknown = load_from(hub.url, tmp_path, model="owner/nothing")
    named = load_from("http://127.0.0.1:9", tmp_path, model=registry.DEFAULT)
    for message in (away, offline, named):
        assert "--model builtin" in message
        assert "HF_HOME" in message
    assert "cannot be reached" in away
    assert "HF_HUB_OFFLINE forbids downloading it" in offline
    assert "the hub has no model owner/nothing" in unknown
    assert all(len(m.splitlines()) == 1 for m in (away, offline, unknown, named))
