"""From a model's name to files on this machine: registry, hub cache, hub, or a folder.

Only data is ever fetched or opened: JSON, tokenizer files, safetensors, and PyTorch ``.bin`` files
where a repository has nothing safer (they are read by torch's ``weights_only`` loader). Code that
a repository may bring is neither fetched nor run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.indexer.encoder import registry
from sightline.indexer.errors import ModelError

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""Any one of these makes a tokenizer (``vocab.json`` with ``merges.txt`` beside it)."""

SMALL_FILES = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    *TOKENIZER_FILES,
)

SAFETENSORS = re.compile(
    r"model\.safetensors|model\.safetensors\.index\.json|model-\d+-of-\d+\.safetensors"
)
"""What transformers writes; OpenCLIP's own files (``open_clip_*``) name their weights otherwise."""
PICKLED = re.compile(
    r"pytorch_model\.bin|pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"
)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")

WAYS_OUT = (
    "give --model a folder that holds the model, copy a filled Hugging Face cache here "
    "(HF_HOME says where), or use --model builtin, which needs no network"
)


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine, and who it is."""

    id: str
    """What a library remembers: hub id, ``builtin``, or the folder's absolute path."""
    revision: str
    """The hub's commit, or a fingerprint of the folder's files."""
    directory: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    weights: tuple[Path, ...]
    info: registry.ModelInfo | None = None

    @property
    def family(self) -> str:
        """transformers' name of the architecture: ``clip``, ``siglip``, ..."""
        return str(self.config.get("model_type", ""))


def resolve(model: str, *, revision: str | None = None) -> ModelFiles:
    """Finds the files of ``model``: a name of ``models.MODELS``, a hub id, or a folder.

    A hub model is taken from the local cache without asking the network where it is there whole,
    and fetched otherwise. ``revision`` (a commit, branch or tag) means something on the hub only.
    Raises ``ModelError`` with the ways out.
    """
    info = registry.find(model)
    if info is not None and info.repo is None:
        return _folder(registry.builtin_directory(), name=info.name, info=info)
    if info is None:
        path = Path(model).expanduser()
        if path.is_dir():
            return _folder(path.resolve(), name=str(path.resolve()), info=None)
        if not HUB_ID.fullmatch(model) or path.is_absolute() or model.startswith("."):
            raise ModelError(_unknown(model))
    repo = (info.repo if info else None) or model
    directory = _cached(repo, revision) or _fetched(repo, revision)
    return _read(directory, name=repo, revision=directory.name, info=info)


def _unknown(model: str) -> str:
    if os.sep in model or model.startswith((".", "~")):
        return f"there is no folder {model}; `sightline models` lists the models known by name"
    close = registry.similar(model)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"no model is called {model!r}: {hint}`sightline models` lists the names; "
        "a hub id (owner/name) or a folder also does"
    )


def _folder(directory: Path, *, name: str, info: registry.ModelInfo | None) -> ModelFiles:
    """The model in a folder of the user's own, known by a fingerprint of its files."""
    if not directory.is_dir():
        raise ModelError(f"the {name} model is missing from this installation: {directory}")
    files = _read(directory, name=name, revision="", info=info)
    return ModelFiles(**{**vars(files), "revision": _fingerprint(files)})


def _read(
    directory: Path, *, name: str, revision: str, info: registry.ModelInfo | None
) -> ModelFiles:
    lacking = _lacking(directory)
    if lacking:
        raise ModelError(f"{name} cannot be used: {directory} has no {lacking}")
    config = read_json(directory / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{directory / 'config.json'} names no model_type: this is not a model "
            "in transformers' format"
        )
    return ModelFiles(
        id=name,
        revision=revision,
        directory=directory,
        config=config,
        preprocessor=_preprocessor(directory),
        weights=weight_files(directory),
        info=info,
    )


def _lacking(directory: Path) -> str | None:
    """What a folder lacks to be a model, in words; None when it is whole."""
    if not (directory / "config.json").is_file():
        return "config.json"
    if not weight_files(directory):
        return "weights (model.safetensors or pytorch_model.bin)"
    for path in weight_files(directory):
        if not path.is_file():
            return f"{path.name}, which its index names"
    if not _preprocessor(directory):
        return "preprocessor_config.json, which says how pictures are prepared"
    if not any((directory / file).is_file() for file in TOKENIZER_FILES):
        return f"tokenizer ({', '.join(TOKENIZER_FILES)})"
    return None


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The files that hold the weights: safetensors first, ``.bin`` only without them."""
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (directory / name).is_file():
            return (directory / name,)
        index = directory / f"{name}.index.json"
        if index.is_file():
            shards = sorted(set(read_json(index).get("weight_map", {}).values()))
            if any(not isinstance(shard, str) or Path(shard).name != shard for shard in shards):
                raise ModelError(f"{index} names files outside its folder")
            return tuple(directory / shard for shard in shards)
    return ()


def _preprocessor(directory: Path) -> dict[str, Any]:
    """How pictures are prepared. transformers 5 may keep it inside ``processor_config.json``."""
    own = directory / "preprocessor_config.json"
    if own.is_file():
        return read_json(own)
    joint = directory / "processor_config.json"
    found = read_json(joint).get("image_processor") if joint.is_file() else None
    return found if isinstance(found, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ``ModelError``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a JSON object")
    return found


def _fingerprint(files: ModelFiles) -> str:
    """Sixteen hex digits that change when anything that changes embeddings does.

    Small files whole; of the weights, sizes and 65 evenly spread blocks of 4 kB each, so that
    gigabytes cost milliseconds. Training moves every weight, so a block differs somewhere.
    """
    digest = hashlib.sha256()
    for name in SMALL_FILES:
        path = files.directory / name
        if path.is_file():
            digest.update(name.encode() + b"\0" + path.read_bytes())
    for path in files.weights:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for step in range(65):
                file.seek(max(0, (size - 4096) * step // 64))
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]


# --- the hub -------------------------------------------------------------------------------------


def _cached(repo: str, revision: str | None) -> Path | None:
    """The model's folder in the hub's local cache, when it is there whole."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(repo, "config.json", revision=revision)
    except HFValidationError as error:
        raise ModelError(f"{repo} cannot be the id of a model on the hub: {error}") from error
    if not isinstance(found, str):
        return None
    directory = Path(found).parent
    return None if _lacking(directory) else directory


def _fetched(repo: str, revision: str | None) -> Path:
    """Downloads what a model needs, and nothing else of the repository."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{repo} is not in the local cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE "
            f"forbids fetching it: unset it, or {WAYS_OUT}"
        )
    try:
        listed = HfApi().model_info(repo, revision=revision)
        names = [sibling.rfilename for sibling in listed.siblings or ()]
        wanted = _wanted(names, repo)
        folder = snapshot_download(repo, revision=revision, allow_patterns=sorted(wanted))
    except GatedRepoError as error:
        raise ModelError(
            f"{repo} wants its terms accepted: do so at https://huggingface.co/{repo}, "
            "then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {repo} (or it is private: `hf auth login`); "
            "`sightline models` lists the models known by name"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"{repo} has no revision {revision} on the hub") from error
    except (HTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"{repo} is not in the local cache and the hub cannot be reached "
            f"({_first_line(error)}): try again, {WAYS_OUT}"
        ) from error
    return Path(folder)


def _wanted(names: Iterable[str], repo: str) -> set[str]:
    """The files of a repository to fetch: small ones, and its weights in their safest form."""
    names = list(names)
    weights = {name for name in names if SAFETENSORS.fullmatch(name)}
    weights = weights or {name for name in names if PICKLED.fullmatch(name)}
    if not weights:
        raise ModelError(
            f"{repo} holds no weights in transformers' format (model.safetensors): "
            "look for a conversion of it on the hub"
        )
    return weights | {name for name in names if name in SMALL_FILES}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
