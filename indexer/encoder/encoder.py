"""``Encoder``: images and texts to unit vectors in one space, by a CLIP-family model.

    encoder = Encoder.load("laion-b32")
    encoder.encode_texts(["a dog on a beach"])      # (1, 512) float32, unit norm
    encoder.encode_images(pixels)                   # (B, H, W, 3) uint8 -> (B, 512) float32

``Encoder.load`` reads configuration files only and does not import torch. Each tower is loaded when
it is first used. Encoders are thread-safe.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sightline.indexer.encoder import families, model_files, registry
from sightline.indexer.encoder.model_files import ModelFiles
from sightline.indexer.encoder.open_clip import OpenClipWeights
from sightline.indexer.encoder.preprocessing import read_preprocessing
from sightline.indexer.encoder.text_batcher import TextBatcher
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError
from sightline.indexer.types import Embeddings, Geometry, Int8Check, Pixels

if TYPE_CHECKING:
    import torch

    from sightline.indexer.encoder.numpy_text import NumpyTextTower
    from sightline.indexer.encoder.tokenizer import Tokenizer, WholeWords
    from sightline.indexer.encoder.towers import ImageTower, Modality, TextTower

DEVICES = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
DTYPES = ("auto", "float32", "bfloat16", "float16", "int8")

CPU_BATCH = 32
"""Images or texts per batch on a CPU; larger batches are no faster (``benchmarks/encoder.py``)."""
INT8_BATCH = 8
"""Images per pass in int8: what is quantised fits the caches. 6% faster than 16 with ViT-B/32."""
GPU_BATCH = 512
"""Images or texts per batch on a GPU."""
TOKEN_MULTIPLE = 4
"""Texts are padded to multiples of so many tokens. oneDNN compiles the products for each number of
rows: 2.3 MB, and 13 ms for the first text of a length (ViT-B/32)."""


class Encoder:
    """A CLIP-family model. Created by ``Encoder.load``."""

    model: str
    """Hub id, ``builtin``, or the absolute path of a folder."""
    revision: str
    """The hub's commit, or a fingerprint of the folder's files. A library is bound to ``model`` and
    ``revision``."""
    directory: Path
    """The folder of its files."""
    dimension: int
    """Of the embeddings."""
    geometry: Geometry
    """Size and crop of the images that ``encode_images`` takes."""
    languages: registry.Languages
    """Languages of its texts; ``unknown`` for a model that is not in ``registry``."""
    requested_device: str
    """The ``device`` argument, such as ``auto``; ``device`` is what it resolved to."""
    requested_dtype: str
    """The ``dtype`` argument, such as ``auto``; ``dtype`` is what it resolved to."""
    int8_check: Int8Check | None
    """The comparison that decided for or against int8; None if there was none."""
    templates: str
    """Name of its default prompt templates (``zero_shot.prompts.TEMPLATES``)."""
    sigmoid: bool
    """Whether scores become probabilities by a sigmoid (SigLIP) or by a softmax over labels."""

    def __init__(
        self, files: ModelFiles, *, device: str, dtype: str, few_texts: bool = False
    ) -> None:
        if not DEVICES.fullmatch(device):
            raise ModelError(f"no device is called {device!r}: use auto, cpu, cuda, cuda:1 or mps")
        if dtype not in DTYPES:
            raise ModelError(f"no dtype is called {dtype!r}: use one of {', '.join(DTYPES)}")
        families.require_supported(files)
        self.requested_device = device
        self.requested_dtype = dtype
        self.int8_check = None
        self._files = files
        self._weights = (OpenClipWeights if files.open_clip else Weights)(files.weights)
        self._preprocessing = read_preprocessing(files)
        self._text_tower: TextTower | None = None
        self._image_towers: dict[bool, ImageTower] = {}  # by whether it is the one in int8
        self._few_texts = few_texts and device in ("auto", "cpu") and dtype in ("auto", "float32")
        self._tokenizer: Tokenizer | None = None
        self._text_lock = threading.Lock()
        self._image_lock = threading.Lock()
        self._batcher = TextBatcher(self._encode_texts, batch_size=CPU_BATCH)
        self.model = files.id
        self.revision = files.revision
        self.directory = files.directory
        self.geometry = self._preprocessing.geometry
        self.languages = files.info.languages if files.info else "unknown"
        self.sigmoid = files.family in families.SIGLIP_FAMILIES
        default_templates = "siglip" if self.sigmoid else "imagenet"
        self.templates = files.info.templates if files.info else default_templates
        self.dimension = families.embedding_dimension(files, self._weights)
        if device != "auto":
            _ = self._device  # raises if there is no such device

    @classmethod
    def load(
        cls,
        model: str = registry.DEFAULT,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        download: model_files.Download = "any",
        few_texts: bool = False,
    ) -> Encoder:
        """An encoder by a name of ``registry.MODELS``, a hub id, or a folder.

        ``device`` is ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``;
        ``dtype`` is ``auto`` (bfloat16 if the hardware multiplies it), ``float32``, ``bfloat16``,
        ``float16`` or, on a CPU, ``int8``: images in int8, texts as with ``auto``. ``revision``
        selects a commit, branch or tag of a hub model. ``download``: which models may be
        downloaded, ``any``, ``named`` (those of ``registry.MODELS``) or ``never``. ``few_texts``:
        encode texts on the CPU, without the import of torch where the model allows it.
        Raises ``ModelError`` with the remedy in one line.
        """
        files = model_files.resolve(model, revision=revision, download=download)
        return cls(files, device=device, dtype=dtype, few_texts=few_texts)

    def encode_images(
        self,
        pixels: Pixels | Sequence[Pixels],
        *,
        dtype: Literal["float32", "int8"] | None = None,
    ) -> Embeddings:
        """``(B, H, W, 3) uint8``, cropped to ``geometry`` -> ``(B, d) float32``, unit norm.

        ``pixels`` may also be a sequence of B images ``(H, W, 3) uint8``; if ``geometry.fit`` is
        ``patches``, of different shapes. B is not limited. ``dtype`` overrides the encoder's, if
        ``may_use_int8``. Raises ``ValueError`` for another shape or dtype.
        """
        import torch

        by_shape: dict[tuple[int, ...], list[int]] = {}
        for row, image in enumerate(pixels):
            if not _fits(image, self.geometry):
                raise ValueError(
                    f"pixels are {image.dtype} {image.shape}, not uint8 as in {self.geometry}"
                )
            by_shape.setdefault(image.shape, []).append(row)
        result = np.empty((len(pixels), self.dimension), np.float32)
        if not len(pixels):
            return result
        int8 = (dtype or self.dtype) == "int8"
        tower = self._load_image_tower(int8=int8)
        towers_dtype = torch.float32 if int8 else self._dtype
        step = INT8_BATCH if int8 else self.batch_size
        parts, order = [], []
        with torch.inference_mode():
            # Images of one shape together: no padding, and no mask over it.
            for rows in by_shape.values():
                for start in range(0, len(rows), step):
                    batch = rows[start : start + step]
                    tensor = torch.from_numpy(np.stack([pixels[row] for row in batch]))
                    standardized = self._standardize(tensor).to(towers_dtype)
                    parts.append(_normalize(tower(standardized)))
                    order += batch
            result[order] = torch.cat(parts).cpu().numpy()
        return result

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """``n`` texts -> ``(n, d) float32``, unit norm. Truncates texts to the model's length.

        Calls from several threads share a batch.
        """
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a sequence of texts, not one text")
        if not len(texts):
            return np.empty((0, self.dimension), np.float32)
        return self._batcher(texts)

    def unknown_words(self, text: str) -> list[str]:
        """The words of ``text`` that the model does not know, if its vocabulary says so, as the
        built-in model's does; else []. Needs no tower."""
        if self._files.family != families.OWN_FAMILY:
            return []
        return self._whole_words.unknown(text)

    def word_ids(self, text: str) -> list[int]:
        """The id of each word of ``text`` in the model's vocabulary, if that is in the order of
        frequency, as the built-in model's is; else []. Needs no tower."""
        if self._files.family != families.OWN_FAMILY:
            return []
        return self._whole_words.ids(text)

    @cached_property
    def _whole_words(self) -> WholeWords:
        from sightline.indexer.encoder.tokenizer import WholeWords

        return WholeWords(self._files.directory)

    def _encode_texts(self, texts: list[str]) -> Embeddings:
        """Called by one thread at a time."""
        if self._numpy_text_tower is not None:
            return self._numpy_text_tower(texts)
        import torch

        result = np.empty((len(texts), self.dimension), np.float32)
        tokenizer, tower = self._load_text_tower()
        # Texts of similar length together: a batch is padded to its longest text.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                tokens = tokenizer([texts[row] for row in rows], multiple=TOKEN_MULTIPLE)
                ids = torch.from_numpy(tokens.ids)
                mask = None if tokens.mask is None else torch.from_numpy(tokens.mask)
                result[rows] = _normalize(tower(ids, mask)).cpu().numpy()
        return result

    def warm(self, towers: Iterable[Modality] = ("text",)) -> None:
        """Loads these towers (``text``, ``image``) now, and runs each once."""
        for tower in towers:
            if tower == "text":
                self.encode_texts(["a photo"])
            else:
                size = (1, self.geometry.height, self.geometry.width, 3)
                self.encode_images(np.zeros(size, np.uint8))

    @contextmanager
    def concurrent_encoding(self) -> Iterator[int]:
        """Yields how many calls of ``encode_images`` to run at once while photos are decoded.

        On a CPU one per core, each on one thread, so that encoding and decoding share the cores
        without waiting for each other. On a GPU two: one batch is copied while the other is
        computed.
        """
        import torch

        if self._device.type != "cpu":
            yield 2
            return
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield threads
        finally:
            torch.set_num_threads(threads)

    @property
    def batch_size(self) -> int:
        """Images per call at which ``encode_images`` is fastest."""
        return CPU_BATCH if self._device.type == "cpu" else GPU_BATCH

    @property
    def device(self) -> str:
        """The device it runs on: ``cpu``, ``cuda:0``, ``mps``."""
        return str(self._device)

    @property
    def dtype(self) -> str:
        """The dtype it computes images in: ``float32``, ``bfloat16``, ``float16`` or ``int8``."""
        checked = self.int8_check is not None and self.int8_check.passed and self.may_use_int8
        if self.requested_dtype == "int8" or checked:
            return "int8"
        return str(self._dtype).removeprefix("torch.")

    @cached_property
    def may_use_int8(self) -> bool:
        """Whether int8 is for a check to decide: ``dtype`` is ``auto``, the CPU does not multiply
        bfloat16, and the model's image tower runs in int8."""
        import torch

        from sightline.indexer.encoder.towers import has_int8

        wanted = self.requested_dtype == "auto" and self._device.type == "cpu"
        return wanted and self._dtype == torch.float32 and has_int8(self._files)

    def decide_int8(self, check: Int8Check) -> None:
        """Encodes images in int8 from now on if ``check`` passed and ``may_use_int8``, else as
        before."""
        self.int8_check = check
        with self._image_lock:
            if self._image_towers:
                self._image_towers.pop(self.dtype != "int8", None)

    @cached_property
    def logit_scale(self) -> float:
        """Factor of the cosines before a softmax or sigmoid."""
        log_scale = self._weights.scalar("logit_scale")
        return math.exp(log_scale) if log_scale is not None else 100.0  # the maximum of CLIP

    @cached_property
    def logit_bias(self) -> float:
        """Added to the scaled cosines; 0 except for SigLIP."""
        return self._weights.scalar("logit_bias") or 0.0

    @cached_property
    def _numpy_text_tower(self) -> NumpyTextTower | None:
        """The text tower for few texts; None for many, or if the model's needs torch."""
        if not self._few_texts:
            return None
        from sightline.indexer.encoder.numpy_text import load_numpy_text_tower

        return load_numpy_text_tower(self._files, self._weights)

    def _load_text_tower(self) -> tuple[Tokenizer, TextTower]:
        with self._text_lock:
            if self._tokenizer is None or self._text_tower is None:
                from sightline.indexer.encoder.tokenizer import Tokenizer
                from sightline.indexer.encoder.towers import load_text_tower

                self._text_tower = load_text_tower(
                    self._files, self._weights, device=self._device, dtype=self._dtype
                )
                self._tokenizer = Tokenizer(self._files, self._weights)
            return self._tokenizer, self._text_tower

    def _load_image_tower(self, *, int8: bool) -> ImageTower:
        with self._image_lock:
            if int8 not in self._image_towers:
                import torch

                from sightline.indexer.encoder.towers import load_image_tower

                self._image_towers[int8] = load_image_tower(
                    self._files,
                    self._weights,
                    geometry=self.geometry,
                    device=self._device,
                    dtype=torch.float32 if int8 else self._dtype,
                    int8=int8,
                )
            return self._image_towers[int8]

    @cached_property
    def _device(self) -> torch.device:
        from sightline.indexer.encoder.devices import resolve_device

        return resolve_device(self.requested_device)

    @cached_property
    def _dtype(self) -> torch.dtype:
        from sightline.indexer.encoder.devices import resolve_dtype

        return resolve_dtype(self.requested_dtype, self._device)

    def _standardize(self, pixels: torch.Tensor) -> torch.Tensor:
        """``(n, H, W, 3) uint8`` on the CPU -> float32 of the same shape on the device.

        The copy is of bytes, a quarter of the size of float32.
        """
        import torch

        if self._device.type == "cuda":
            pixels = pixels.pin_memory().to(self._device, non_blocking=True)
        else:
            pixels = pixels.to(self._device)
        scale = torch.tensor(self._preprocessing.scale, device=self._device)
        shift = torch.tensor(self._preprocessing.shift, device=self._device)
        return torch.addcmul(shift, pixels.float(), scale)


def _fits(image: Pixels, geometry: Geometry) -> bool:
    """Whether ``image`` is ``(H, W, 3) uint8`` of ``geometry``."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        return False
    height, width, _ = image.shape
    if geometry.fit != "patches":
        return (height, width) == (geometry.height, geometry.width)
    rows, columns = height // geometry.patch, width // geometry.patch
    whole = (rows * geometry.patch, columns * geometry.patch) == (height, width)
    return whole and 0 < rows * columns <= geometry.max_patches


def _normalize(vectors: torch.Tensor) -> torch.Tensor:
    """Rows to unit norm, in float32 whatever the tower computes in."""
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1)
