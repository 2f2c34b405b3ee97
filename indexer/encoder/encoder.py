"""Pictures and text to unit vectors in one space, by any CLIP-family model of transformers.

    encoder = Encoder.load("laion-b32")
    encoder.encode_texts(["a dog on a beach"])      # (1, 512) float32, unit norm
    encoder.encode_images(pixels)                   # (B, H, W, 3) uint8 -> (B, 512) float32

``Encoder.load`` reads configuration files only and imports neither torch nor transformers; a tower
(the half of the model for pictures, or for text) is loaded when it is first used, and only that
one. An encoder may be used from several threads.

Pictures come as bytes already cut as ``encoder.geometry`` asks; scaling and normalisation happen
here, on the model's device. On a GPU batches are pinned and copied as bytes while the one before is
computed; that path has not been run on a card yet, only its CPU twin.

What the families do differently is in the modules beside this one: ``model_files`` (where the files
are), ``model_images`` (cutting and scaling), ``model_text`` (tokens), ``model_towers`` and
``model_transformer`` (the networks).
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sightline.indexer.encoder import families, model_files, registry
from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.encoder.preprocessing import preprocessing
from sightline.indexer.encoder.text_batcher import Batcher
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Embeddings, Geometry, Pixels

if TYPE_CHECKING:
    import torch

    from sightline.indexer.encoder.tokenizer import Tokenizer, Tokens
    from sightline.indexer.encoder.towers import Half, ImageTower, TextTower

DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DTYPES = ("auto", "float32", "bfloat16", "float16")

CPU_BATCH = 32
"""Pictures a CPU takes at once: more gain nothing and cost memory."""
GPU_BATCH = 512


class Encoder:
    """A CLIP-family model. Make one with ``Encoder.load``."""

    model: str
    """Who it is: a hub id, ``builtin``, or a folder's absolute path."""
    revision: str
    """The hub's commit, or a fingerprint of the folder's files. Together with ``model`` it is what
    a library is bound to."""
    dimension: int
    """Of the embeddings."""
    geometry: Geometry
    """How pictures must be cut for ``encode_images``."""
    languages: registry.Languages
    """What text it understands; ``unknown`` for a model that ``registry`` does not list."""
    device_wanted: str
    """As it was asked for, ``auto`` among them; ``device`` says what that came to."""
    templates: str
    """The prompt templates (``prompts``) that suit it best for labels."""
    sigmoid: bool
    """Whether a score becomes a probability by a sigmoid (SigLIP) or by a softmax over labels."""

    def __init__(self, files: ModelFiles, *, device: str, dtype: str) -> None:
        if not DEVICES.fullmatch(device):
            raise ModelError(f"no device is called {device!r}: auto, cpu, cuda, cuda:1 or mps")
        if dtype not in DTYPES:
            raise ModelError(f"no dtype is called {dtype!r}: {', '.join(DTYPES)}")
        families.check(files)
        self._files = files
        self.device_wanted = device
        self._dtype_wanted = dtype
        self._weights = Weights(files.weights)
        self._preprocessing = preprocessing(files)
        self._text: TextTower | None = None
        self._image: ImageTower | None = None
        self._locks: dict[Half, threading.Lock] = {
            "text": threading.Lock(),
            "image": threading.Lock(),
        }
        self._lock = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._batcher = Batcher(self._encode_texts, largest=CPU_BATCH)
        self.model = files.id
        self.revision = files.revision
        self.geometry = self._preprocessing.geometry
        self.languages = files.info.languages if files.info else "unknown"
        self.sigmoid = files.family in families.SIGMOID
        unlisted = "siglip" if self.sigmoid else "imagenet"
        self.templates = files.info.templates if files.info else unlisted
        self.dimension = families.dimension(files, self._weights)
        if device != "auto":
            _ = self._place  # a device that is not there is an error now

    @classmethod
    def load(
        cls,
        model: str = registry.DEFAULT,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
    ) -> Encoder:
        """An encoder for a name of ``registry``, a hub id, or a folder.

        ``device`` is ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``;
        ``dtype`` is ``auto`` (bfloat16 where the hardware multiplies it fast), ``float32``,
        ``bfloat16`` or ``float16``. ``revision`` pins a hub model to a commit. Raises
        ``ModelError``, in one line that says what to do.
        """
        return cls(model_files.resolve(model, revision=revision), device=device, dtype=dtype)

    def encode_images(self, pixels: Pixels) -> Embeddings:
        """``(B, H, W, 3) uint8``, cut as ``geometry`` asks -> ``(B, d) float32``, unit norm.

        Any B: large batches are split. Raises ``ValueError`` for another shape or type.
        """
        import torch

        expected = (self.geometry.height, self.geometry.width, 3)
        if pixels.ndim != 4 or pixels.shape[1:] != expected or pixels.dtype != np.uint8:
            raise ValueError(
                f"pixels are {pixels.dtype} {pixels.shape}, not uint8 (B, *{expected})"
            )
        if not len(pixels):
            return np.empty((0, self.dimension), np.float32)
        tower = self._image_tower()
        batch = self.batch_size
        parts = []
        with torch.inference_mode():
            for start in range(0, len(pixels), batch):
                # torch takes no read-only array, as Pillow makes them.
                part = torch.from_numpy(np.require(pixels[start : start + batch], None, ["C", "W"]))
                parts.append(_unit(tower(self._normalised(part))))
            return torch.cat(parts).cpu().numpy()

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """``n`` texts -> ``(n, d) float32``, unit norm. Texts beyond the model's length are cut.

        Calls from several threads share a batch.
        """
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a sequence of texts, not one text")
        if not len(texts):
            return np.empty((0, self.dimension), np.float32)
        return self._batcher(texts)

    def _encode_texts(self, texts: list[str]) -> Embeddings:
        import torch

        result = np.empty((len(texts), self.dimension), np.float32)
        tower = self._text_tower()
        # Texts of like length together: each batch is padded to its longest.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        batch = self.batch_size
        with torch.inference_mode():
            for start in range(0, len(order), batch):
                rows = order[start : start + batch]
                tokens = self._tokens([texts[row] for row in rows])
                result[rows] = _unit(tower(tokens.ids, tokens.mask)).cpu().numpy()
        return result

    def warm(self, towers: Iterable[Half] = ("text",)) -> None:
        """Loads the towers named (``text``, ``image``) now, and runs each once."""
        for half in towers:
            if half == "text":
                self.encode_texts(["a photo"])
            else:
                self.encode_images(
                    np.zeros((1, self.geometry.height, self.geometry.width, 3), np.uint8)
                )

    @contextmanager
    def sharing_cores(self) -> Iterator[int]:
        """For indexing: yields how many calls of ``encode_images`` should be under way at once.

        On a CPU that is one a core, each on one thread, while other processes decode: whoever has
        work has a core, so neither side waits for the other and no thread spins at a barrier. On a
        GPU two calls keep it fed: one batch is copied while the other is computed.
        """
        import torch

        if self._place.type != "cpu":
            yield 2
            return
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield before
        finally:
            torch.set_num_threads(before)

    @property
    def batch_size(self) -> int:
        """Pictures that ``encode_images`` takes best at once."""
        return CPU_BATCH if self._place.type == "cpu" else GPU_BATCH

    @property
    def device(self) -> str:
        """Where it runs: ``cpu``, ``cuda:0``, ``mps``."""
        return str(self._place)

    @property
    def dtype(self) -> str:
        """What it computes in: ``float32``, ``bfloat16`` or ``float16``."""
        return str(self._dtype).removeprefix("torch.")

    @cached_property
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax or sigmoid over labels."""
        from sightline.indexer.encoder.towers import scalar

        found = scalar(self._weights, "logit_scale")
        return math.exp(found) if found is not None else 100.0  # what CLIP's training ends at

    @cached_property
    def logit_bias(self) -> float:
        """What is added to a scaled cosine; 0 but for SigLIP."""
        from sightline.indexer.encoder.towers import scalar

        return scalar(self._weights, "logit_bias") or 0.0

    # --- inside ----------------------------------------------------------------------------------

    def _text_tower(self) -> TextTower:
        with self._locks["text"]:
            if self._text is None:
                from sightline.indexer.encoder.towers import load_text

                self._text = load_text(
                    self._files, self._weights, device=self._place, dtype=self._dtype
                )
        return self._text

    def _image_tower(self) -> ImageTower:
        with self._locks["image"]:
            if self._image is None:
                from sightline.indexer.encoder.towers import load_image

                self._image = load_image(
                    self._files,
                    self._weights,
                    size=(self.geometry.height, self.geometry.width),
                    device=self._place,
                    dtype=self._dtype,
                )
        return self._image

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        with self._lock:
            if self._tokenizer is None:
                from sightline.indexer.encoder.tokenizer import Tokenizer

                self._tokenizer = Tokenizer(self._files, self._weights)
        return self._tokenizer(texts)

    @cached_property
    def _place(self) -> torch.device:
        from sightline.indexer.encoder.devices import device

        return device(self.device_wanted)

    @cached_property
    def _dtype(self) -> torch.dtype:
        from sightline.indexer.encoder.devices import dtype

        return dtype(self._dtype_wanted, self._place)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Bytes ``(n, H, W, 3)`` on the CPU -> what the tower sees, same shape, on the device.

        Three quarters of the bytes of a float32 picture never cross the bus.
        """
        import torch

        if self._place.type == "cuda":
            pixels = pixels.pin_memory().to(self._place, non_blocking=True)
        else:
            pixels = pixels.to(self._place)
        scale = torch.tensor(self._preprocessing.scale, device=self._place)
        shift = torch.tensor(self._preprocessing.shift, device=self._place)
        return torch.addcmul(shift, pixels.float(), scale).to(self._dtype)


def _unit(vectors: torch.Tensor) -> torch.Tensor:
    """Rows to length one, in float32 whatever the tower computes in."""
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1)
