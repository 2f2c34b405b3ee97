"""Reads a model's tensors by name, from safetensors or from PyTorch ``.bin`` files.

A ``.bin`` file is read by torch's ``weights_only`` loader, which runs no code.
"""

from __future__ import annotations

import json
import os
import pickle
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    import torch

RENAMES = (
    # Older transformers wrapped CLIP's towers once more inside a dual encoder.
    ("vision_model.vision_model.", "vision_model."),
    ("text_model.text_model.", "text_model."),
    # BERT checkpoints that were converted from TensorFlow.
    (".LayerNorm.gamma", ".LayerNorm.weight"),
    (".LayerNorm.beta", ".LayerNorm.bias"),
    # AltCLIP's text tower, as transformers 5 names it.
    (".encoder.layer.", ".encoder.layers."),
)
"""(part of a name in older files, the same part in current transformers)."""


NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16, "F64": np.float64}
"""numpy's types of safetensors' types; it has no bfloat16."""


Table = Callable[["torch.Tensor"], "torch.Tensor"]
"""A lookup of rows: ids ``(...) int64`` to ``(..., d)`` on the CPU."""


class Weights:
    """The tensors of a model's files, by name. Safetensors are read on demand."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._unpickled: dict[str, torch.Tensor] = {}
        self._mapped: dict[Path, _MappedFile] = {}
        for path in paths:
            if path.suffix == ".safetensors":
                self._list_safetensors(path)
            else:
                self._load_bin(path)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, or None if there is no such tensor. Reads no data."""
        stored = self._stored_name(name)
        return self._shapes[stored] if stored else None

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of these names. Raises ``ModelError`` if one is missing."""
        stored_names = {name: self._stored_name(name) for name in names}
        missing = sorted(name for name, stored in stored_names.items() if stored is None)
        if missing:
            raise _missing(missing)
        by_file: dict[Path, dict[str, str]] = {}
        for name, stored in stored_names.items():
            assert stored is not None
            by_file.setdefault(self._paths[stored], {})[name] = stored
        tensors: dict[str, torch.Tensor] = {}
        for path, wanted in by_file.items():
            tensors |= self._read_file(path, wanted)
        return tensors

    def scalar(self, name: str) -> float | None:
        """The tensor of one number, or None if there is no such tensor."""
        if self.shape(name) is None:
            return None
        return float(self.read([name])[name].float().reshape(-1)[0])

    @property
    def mappable(self) -> bool:
        """Whether ``array`` can read every tensor: all files are safetensors."""
        return not self._unpickled

    def array(
        self, name: str, rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """A tensor of a safetensors file as float32, without torch; only what is used of it is
        read. Raises ``ModelError`` if it is missing or not of a floating-point type."""
        stored = self._stored_name(name)
        if stored is None:
            raise _missing([name])
        path = self._paths[stored]
        mapped = self._mapped.get(path)
        if mapped is None:
            mapped = self._mapped[path] = _MappedFile(path)
        return mapped.array(stored, rows)

    def table(self, name: str) -> Table:
        """A lookup of rows of a 2-D tensor.

        Rows are read from a safetensors file when they are looked up: word embeddings are a
        quarter of CLIP's text tower and two thirds of SigLIP 2's, and a query needs ten rows.
        """
        stored = self._stored_name(name)
        if stored is None or stored in self._unpickled:
            from torch.nn.functional import embedding

            tensor = self.read([name])[name]
            return lambda ids: embedding(ids.cpu(), tensor)
        return _FileTable(self._paths[stored], stored)

    def _read_file(self, path: Path, wanted: dict[str, str]) -> dict[str, torch.Tensor]:
        if path.suffix != ".safetensors":
            return {name: self._unpickled[stored] for name, stored in wanted.items()}
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(stored) for name, stored in wanted.items()}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error

    def _list_safetensors(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    self._paths[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is not a readable safetensors file ({error}): download it again"
            ) from error

    def _load_bin(self, path: Path) -> None:
        import torch

        try:
            # Files written before torch 1.6 are not zip archives and cannot be memory-mapped.
            mmap = zipfile.is_zipfile(path)
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
            raise ModelError(
                f"{path} was not loaded: it holds more than weights, or is corrupt; "
                "use a safetensors version of the model"
            ) from error
        if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
            found = found["state_dict"]  # OpenCLIP's training checkpoints
        if not isinstance(found, dict):
            raise ModelError(f"{path} does not hold named weights")
        for full_name, tensor in found.items():
            name = str(full_name).removeprefix("module.")
            if isinstance(tensor, torch.Tensor):
                self._paths[name] = path
                self._shapes[name] = tuple(tensor.shape)
                self._unpickled[name] = tensor

    def _stored_name(self, name: str) -> str | None:
        """The name that the files give to a tensor."""
        if name in self._paths:
            return name
        for old, new in RENAMES:
            if new in name and (older := name.replace(new, old, 1)) in self._paths:
                return older
        return None


def _missing(names: Sequence[str]) -> ModelError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return ModelError(
        f"the weights lack {names[0]}{more}: they are corrupt, or not those of the model that "
        "config.json describes"
    )


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where the tensors begin."""
    size = int.from_bytes(file.read(8), "little")
    return json.loads(file.read(size)), 8 + size


class _MappedFile:
    """A safetensors file in memory as far as it was used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._entries, self._start = _header(file)
        self._data = np.memmap(path, np.uint8, "r")

    def array(self, name: str, rows: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        entry = self._entries[name]
        begin, end = (self._start + offset for offset in entry["data_offsets"])
        dtype = NUMPY_DTYPES.get(entry["dtype"])
        if dtype is None:
            raise ModelError(f"{self._path}: {name} has the type {entry['dtype']}")
        found = self._data[begin:end].view(dtype).reshape(entry["shape"])[rows]
        if entry["dtype"] == "BF16":  # the upper half of a float32
            found = (found.astype(np.uint32) << 16).view(np.float32)
        return np.asarray(found, np.float32)


class _FileTable:
    """Looks up rows of one table in a safetensors file. Thread-safe."""

    def __init__(self, path: Path, name: str) -> None:
        import torch

        self.path = path
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        header, start = _header(self._file)
        entry = header[name]
        self._dtype = {
            "F32": torch.float32,
            "F16": torch.float16,
            "BF16": torch.bfloat16,
            "F64": torch.float64,
        }[entry["dtype"]]
        self._count, self._width = entry["shape"]
        self._start = start + entry["data_offsets"][0]
        self._version = self._file_version()

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """``(...) int64`` to ``(..., d)``. Raises ``ModelError`` if the file has changed."""
        import torch

        if self._file_version() != self._version:
            raise ModelError(f"{self.path} was changed while it was in use: start again")
        unique, inverse = torch.unique(ids.cpu(), return_inverse=True)
        row_size = self._width * self._dtype.itemsize
        buffer = bytearray(len(unique) * row_size)
        view = memoryview(buffer)
        with self._lock:
            for index, row in enumerate(unique.tolist()):
                if not 0 <= row < self._count:
                    raise ModelError(f"{self.path} has no word embedding {row}")
                self._file.seek(self._start + row * row_size)
                if self._file.readinto(view[index * row_size : (index + 1) * row_size]) != row_size:
                    raise ModelError(f"{self.path} is truncated: download it again")
        table = torch.frombuffer(buffer, dtype=self._dtype).view(len(unique), self._width)
        return torch.nn.functional.embedding(inverse, table)

    def _file_version(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns
