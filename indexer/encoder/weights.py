"""Reading a model's tensors: only those asked for, from safetensors or from a safe ``.bin``."""

from __future__ import annotations

import json
import os
import pickle
import threading
import weakref
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    import torch

RENAMES = (
    # Older transformers wrapped CLIP's towers once more inside a dual encoder.
    ("vision_model.vision_model.", "vision_model."),
    ("text_model.text_model.", "text_model."),
    # BERT checkpoints of TensorFlow's days.
    (".LayerNorm.gamma", ".LayerNorm.weight"),
    (".LayerNorm.beta", ".LayerNorm.bias"),
    # AltCLIP's text tower, as transformers 5 names it.
    (".encoder.layer.", ".encoder.layers."),
)
"""Spellings of one and the same weight: in files, and in transformers' present modules."""


class Weights:
    """The tensors in a model's files, by name. Nothing is read before it is asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._pickled: dict[str, torch.Tensor] = {}
        for path in paths:
            if path.suffix == ".safetensors":
                self._open(path)
            else:
                self._unpickle(path)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor, None where there is no such tensor. Costs nothing."""
        found = self._spelled(name)
        return self._shapes[found] if found else None

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """The tensors of those names, each under the name it was asked for.

        Raises ``ModelError`` when one is missing: a tower with random weights in it would answer
        every query with nonsense.
        """
        spelled = {name: self._spelled(name) for name in names}
        missing = sorted(name for name, found in spelled.items() if found is None)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise ModelError(
                f"the weights lack {missing[0]}{more}: they are damaged, or not those of the "
                "model that config.json describes"
            )
        by_file: dict[Path, list[tuple[str, str]]] = {}
        for name, found in spelled.items():
            assert found is not None
            by_file.setdefault(self._places[found], []).append((name, found))
        tensors: dict[str, torch.Tensor] = {}
        for path, wanted in by_file.items():
            tensors.update(self._from(path, wanted))
        return tensors

    def rows(self, name: str) -> Rows:
        """The table of that name, of which single rows are wanted."""
        found = self._spelled(name)
        if found is None:
            self.read([name])  # raises, and says what is missing
        assert found is not None
        path = self._places[found]
        if path.suffix != ".safetensors":
            return Rows(self._pickled[found], None)
        return Rows(None, _FileRows(path, found))

    def _from(self, path: Path, wanted: list[tuple[str, str]]) -> Mapping[str, torch.Tensor]:
        if path.suffix != ".safetensors":
            return {name: self._pickled[found] for name, found in wanted}
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(found) for name, found in wanted}
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    self._places[name] = path
                    self._shapes[name] = tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{path} is not a readable safetensors file ({error}): fetch it again"
            ) from error

    def _unpickle(self, path: Path) -> None:
        import torch

        try:
            # Files from before torch 1.6 are no zip archives, and cannot be mapped.
            mapped = zipfile.is_zipfile(path)
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
            raise ModelError(
                f"{path} holds more than weights, or is damaged, and is not opened: "
                "use a safetensors version of the model"
            ) from error
        if not isinstance(found, dict):
            raise ModelError(f"{path} does not hold named weights")
        for name, tensor in found.items():
            if isinstance(tensor, torch.Tensor):
                self._places[name] = path
                self._shapes[name] = tuple(tensor.shape)
                self._pickled[name] = tensor

    def _spelled(self, name: str) -> str | None:
        """How the files spell that name."""
        if name in self._places:
            return name
        for old, new in RENAMES:
            if new in name and (spelling := name.replace(new, old, 1)) in self._places:
                return spelling
        return None


class Rows:
    """A table of which rows are taken by number: word vectors.

    A quarter of CLIP's text tower and two thirds of SigLIP 2's are word vectors, of which a query
    needs ten. From a safetensors file they are read when asked for; the system's page cache keeps
    those in use.
    """

    def __init__(self, table: torch.Tensor | None, file: _FileRows | None) -> None:
        self._table = table
        self._file = file

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor:
        """``(...) int64`` to ``(..., d)``, in the file's own dtype, on the CPU."""
        import torch

        if self._file is None:
            assert self._table is not None
            return torch.nn.functional.embedding(ids.cpu(), self._table)
        unique, back = torch.unique(ids.cpu(), return_inverse=True)
        return torch.nn.functional.embedding(back, self._file.read(unique.tolist()))


class _FileRows:
    """Rows of one table inside a safetensors file."""

    def __init__(self, path: Path, name: str) -> None:
        import torch

        self.path = path
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()
        length = int.from_bytes(self._file.read(8), "little")
        entry = json.loads(self._file.read(length))[name]
        self._dtype = {
            "F32": torch.float32,
            "F16": torch.float16,
            "BF16": torch.bfloat16,
            "F64": torch.float64,
        }[entry["dtype"]]
        self.count, self._width = entry["shape"]
        self._stride = self._width * self._dtype.itemsize
        self._start = 8 + length + entry["data_offsets"][0]
        self._state = self._now()

    def read(self, numbers: list[int]) -> torch.Tensor:
        """Those rows, ``(n, d)``. Raises ``ModelError`` when the file was changed meanwhile."""
        import torch

        if self._now() != self._state:
            raise ModelError(f"{self.path} was changed while it was in use: start again")
        bytes_ = bytearray(len(numbers) * self._stride)
        view = memoryview(bytes_)
        with self._lock:
            for place, number in enumerate(numbers):
                if not 0 <= number < self.count:
                    raise ModelError(f"{self.path} has no word vector {number}")
                self._file.seek(self._start + number * self._stride)
                target = view[place * self._stride : (place + 1) * self._stride]
                if self._file.readinto(target) != len(target):
                    raise ModelError(f"{self.path} ends too early: fetch it again")
        return torch.frombuffer(bytes_, dtype=self._dtype).view(len(numbers), self._width)

    def _now(self) -> tuple[int, int]:
        state = os.fstat(self._file.fileno())
        return state.st_size, state.st_mtime_ns
