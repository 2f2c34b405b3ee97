"""Reading a model's tensors: only those asked for, from safetensors or from a safe ``.bin``."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.errors import ModelError

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
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
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
