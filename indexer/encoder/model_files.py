"""Finds the files of a model: by name in the registry, in a folder, in the hub's cache, on the hub.

Only data is downloaded or read: JSON, tokenizer files, safetensors, and PyTorch ``.bin`` files if a
repository has no safetensors. Code in a repository is neither downloaded nor run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sightline.indexer.encoder import open_clip, registry
from sightline.indexer.errors import ModelError

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
"""A model has at least one of these (``vocab.json`` comes with ``merges.txt``)."""

SMALL_FILES = (
    "config.json",
    open_clip.CONFIG,
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
"""As transformers names them. OpenCLIP's files (``open_clip_*``), with other names of the tensors,
are read where a model has no others."""
PICKLES = re.compile(
    r"pytorch_model\.bin|pytorch_model\.bin\.index\.json|pytorch_model-\d+-of-\d+\.bin"
)

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
REVISION = re.compile(r"[\w./-]{1,200}")

Download = Literal["any", "named", "never"]
"""Which models may be downloaded: any (the user named it), those of ``registry.MODELS`` (a library
named it), or none."""

REMEDY = (
    "give --model a folder that holds the model, copy a filled Hugging Face cache here "
    "(HF_HOME says where), or use --model builtin, which needs no network"
)


@dataclass(frozen=True)
class ModelFiles:
    """A model's files on this machine, and its identity."""

    id: str
    """Hub id, ``builtin``, or the folder's absolute path."""
    revision: str
    """The hub's commit, or a fingerprint of the folder's files."""
    directory: Path
    config: dict[str, Any]
    preprocessor: dict[str, Any]
    weights: tuple[Path, ...]
    info: registry.ModelInfo | None = None
    open_clip: bool = False
    """Whether ``config`` was translated from OpenCLIP's, and the tensors have its names."""

    @property
    def family(self) -> str:
        """``model_type`` of ``config.json``: ``clip``, ``siglip``, ..."""
        return str(self.config.get("model_type", ""))


def resolve(model: str, *, revision: str | None = None, download: Download = "any") -> ModelFiles:
    """Finds the files of ``model``: a name of ``registry.MODELS``, a hub id, or a folder.

    A hub model that is complete in the local cache is used without network access; otherwise it is
    downloaded if ``download`` permits it. ``revision`` (a commit, branch or tag) applies to hub
    models only. Raises ``ModelError`` with the remedy.
    """
    info = registry.find(model)
    if info is not None and info.repo is None:
        return _from_folder(registry.builtin_directory(), id=info.name, info=info)
    if info is None:
        path = Path(model).expanduser()
        if path.is_dir():
            return _from_folder(path.resolve(), id=str(path.resolve()), info=None)
        if not HUB_ID.fullmatch(model) or path.is_absolute() or model.startswith("."):
            raise ModelError(_unknown_model(model))
    repo = (info.repo if info else None) or model
    if revision is not None and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ModelError(f"{revision!r} cannot be a revision of {repo} on the hub")
    directory = _from_cache(repo, revision)
    if directory is None:
        if download == "never" or (download == "named" and info is None):
            name = f"{repo}@{revision}" if revision else repo
            refused = (
                "this command downloads no model"
                if download == "never"
                else "what a library or a set of embeddings names is not downloaded"
            )
            raise ModelError(
                f"{repo} is not on this machine, and {refused}: if you trust it, run"
                f" `sightline models --download {name}`"
            )
        directory = _download(repo, revision)
    return _read(directory, id=repo, revision=directory.name, info=info)


def _unknown_model(model: str) -> str:
    if os.sep in model or model.startswith((".", "~")):
        return f"there is no folder {model}; `sightline models` lists the models known by name"
    close = registry.similar(model)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"no model is called {model!r}: {hint}`sightline models` lists the names; "
        "a hub id (owner/name) or a folder also does"
    )


def _from_folder(directory: Path, *, id: str, info: registry.ModelInfo | None) -> ModelFiles:
    """The model in a local folder, identified by a fingerprint of its files."""
    if not directory.is_dir():
        raise ModelError(
            f"the {id} model is missing from this installation ({directory}): install Sightline "
            "again"
        )
    files = _read(directory, id=id, revision="", info=info)
    return replace(files, revision=_fingerprint(files))


def _read(
    directory: Path, *, id: str, revision: str, info: registry.ModelInfo | None
) -> ModelFiles:
    missing = _missing_file(directory)
    is_open_clip = missing is not None and open_clip.is_complete(directory)
    if missing and not is_open_clip:
        raise ModelError(f"{id} cannot be used: {directory} has no {missing}")
    config = read_json(directory / (open_clip.CONFIG if is_open_clip else "config.json"))
    if is_open_clip:
        config, preprocessor = open_clip.translate(config, id)
    else:
        preprocessor = _preprocessor_config(directory)
    if not isinstance(config.get("model_type"), str):
        raise ModelError(
            f"{directory / 'config.json'} names no model_type: use a model in transformers' format"
        )
    return ModelFiles(
        id=id,
        revision=revision,
        directory=directory,
        config=config,
        preprocessor=preprocessor,
        weights=(open_clip.weight_files if is_open_clip else weight_files)(directory),
        info=info,
        open_clip=is_open_clip,
    )


def _missing_file(directory: Path) -> str | None:
    """What a folder lacks to be a model, as the end of a message; None if it is complete."""
    if not (directory / "config.json").is_file():
        return "config.json"
    if not weight_files(directory):
        return "weights (model.safetensors or pytorch_model.bin)"
    for path in weight_files(directory):
        if not path.is_file():
            return f"{path.name}, which its index names"
    if not _preprocessor_config(directory):
        return "preprocessor_config.json, which defines how images are prepared"
    if not any((directory / file).is_file() for file in TOKENIZER_FILES):
        return f"tokenizer ({', '.join(TOKENIZER_FILES)})"
    return None


def weight_files(directory: Path) -> tuple[Path, ...]:
    """The files with the weights: safetensors, or ``.bin`` if there are none; () if neither."""
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


def _preprocessor_config(directory: Path) -> dict[str, Any]:
    """Also found inside ``processor_config.json``, where transformers 5 may put it."""
    path = directory / "preprocessor_config.json"
    if path.is_file():
        return read_json(path)
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
    """Sixteen hex digits that change with everything that changes embeddings.

    Hashes the small files, and of each weights file the size and 65 evenly spread blocks of 4 kB:
    gigabytes take milliseconds, and training changes every weight.
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


def _from_cache(repo: str, revision: str | None) -> Path | None:
    """The model's folder in the hub's local cache; None if it is not complete there."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("config.json", open_clip.CONFIG):
        try:
            found = try_to_load_from_cache(repo, name, revision=revision)
        except HFValidationError as error:
            raise ModelError(f"{repo} cannot be the id of a model on the hub: {error}") from error
        if isinstance(found, str):
            directory = Path(found).parent
            if not _missing_file(directory) or open_clip.is_complete(directory):
                return directory
    return None


def _download(repo: str, revision: str | None) -> Path:
    """Downloads the files of a model, and nothing else of the repository."""
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
            f"forbids downloading it: unset it, or {REMEDY}"
        )
    try:
        listed = HfApi().model_info(repo, revision=revision)
        names = [sibling.rfilename for sibling in listed.siblings or ()]
        folder = snapshot_download(
            repo, revision=revision, allow_patterns=_files_to_download(names, repo)
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{repo} requires you to accept its terms: do so at https://huggingface.co/{repo}, "
            "then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {repo} (or it is private: `hf auth login`); "
            "`sightline models` lists the models known by name"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{repo} has no revision {revision} on the hub: see its commits at "
            f"https://huggingface.co/{repo}/commits/main"
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"{repo} is not in the local cache and the hub cannot be reached "
            f"({_first_line(error)}): try again, {REMEDY}"
        ) from error
    return Path(folder)


def _files_to_download(names: Iterable[str], repo: str) -> list[str]:
    """Of the files of a repository, the small ones and the weights in their safest form."""
    names = sorted(names)
    weights = [name for name in names if SAFETENSORS.fullmatch(name)]
    weights = weights or [name for name in names if PICKLES.fullmatch(name)]
    if open_clip.CONFIG in names and not (weights and "config.json" in names):
        weights = [name for name in open_clip.WEIGHTS if name in names][:1]
    if not weights:
        raise ModelError(
            f"{repo} holds no weights in the format of transformers or OpenCLIP "
            "(model.safetensors, open_clip_model.safetensors): look for a conversion of it on the "
            "hub"
        )
    return weights + [name for name in names if name in SMALL_FILES]


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
