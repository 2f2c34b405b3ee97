"""Zero-shot classification by labels (Radford et al. 2021; SigLIP: Zhai et al. 2023).

labels = read_labels("dog, cat, bicycle")
weights = classifier(encoder, labels, templates("imagenet"))        # (3, d)
probabilities(images @ weights.T, encoder)                          # (n, 3)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.errors import UsageError
from sightline.indexer.types import Embeddings
from sightline.indexer.zero_shot.captions import CAPTIONS
from sightline.indexer.zero_shot.prompts import fill

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder

MIN_FIT = 0.2
"""Least fit of a label that is stored. With the built-in model more than half of the labels stored
are right on four sets (``python -m benchmarks.labels``, ``docs/labels.md``)."""

FILE_SUFFIXES = frozenset({".txt", ".json", ".csv"})
"""Of a missing file that would otherwise become a label, lower-case."""

PROMPTS_PER_CALL = 4096
"""Prompts that are encoded in one call: 1,000 labels in 80 templates are 80,000."""


@dataclass(frozen=True)
class Label:
    """A label, with its synonyms."""

    name: str
    names: tuple[str, ...]
    """The name, then the synonyms; each is put into every template."""


def label(name: str, *synonyms: str) -> Label:
    """A label of that name, with synonyms."""
    return Label(name, (name, *synonyms))


def read_labels(given: str) -> list[Label]:
    """Labels from a file, or names separated by commas.

    A text file holds one label per line (``dog, puppy, hound``: the name, then synonyms; lines that
    begin with ``#`` are comments), a ``.json`` file a list of names, or an object of names with
    lists of synonyms. Raises ``UsageError`` for no label, a duplicate, or a missing file.
    """
    path = file_named(given)
    if path is not None:
        found = _from_json(path) if path.suffix.lower() == ".json" else _from_lines(path)
    else:
        found = [label(name) for name in _split(given)]
    if not found:
        raise UsageError(f"there is no label in {given!r}")
    seen: set[str] = set()
    for one in found:
        if one.name.casefold() in seen:
            raise UsageError(f"the label {one.name!r} is given twice")
        seen.add(one.name.casefold())
    return found


def file_named(given: str) -> Path | None:
    """The file that ``given`` names, or None if it is text. Raises ``UsageError`` for the name of a
    text or JSON file that does not exist."""
    path = Path(given).expanduser()
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):
        return None  # the text is longer than a file name can be
    if "," not in given and path.suffix.lower() in FILE_SUFFIXES:
        raise UsageError(f"there is no file {given}")
    return None


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a BOM. Raises ``UsageError``."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text in UTF-8: {error.reason}") from error


def _from_lines(path: Path) -> list[Label]:
    lines = (line.strip() for line in read_text(path).splitlines())
    rows = (_split(line) for line in lines if not line.startswith("#"))
    return [label(*row) for row in rows if row]


def _from_json(path: Path) -> list[Label]:
    try:
        given: Any = json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if isinstance(given, list):
        given = (
            {name: [] for name in given if isinstance(name, str)} if _is_text_list(given) else None
        )
    if not isinstance(given, dict) or not all(_is_text_list(others) for others in given.values()):
        raise UsageError(
            f'{path} should hold a list of names, or an object of names and synonyms: {{"dog":'
            ' ["puppy"]}'
        )
    return [label(name, *others) for name, others in given.items() if name.strip()]


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _split(line: str) -> list[str]:
    return [word for part in line.split(",") if (word := " ".join(part.split()))]


def classifier(encoder: Encoder, labels: Sequence[Label], templates: Sequence[str]) -> Embeddings:
    """``(c, d) float32, unit norm``: per label the mean over its names and templates."""
    result = np.empty((len(labels), encoder.dimension), np.float32)
    step = max(1, PROMPTS_PER_CALL // (len(templates) * max(len(one.names) for one in labels)))
    for start in range(0, len(labels), step):
        prompts = [
            [fill(template, name) for name in one.names for template in templates]
            for one in labels[start : start + step]
        ]
        vectors = encoder.encode_texts([prompt for group in prompts for prompt in group])
        ends = np.cumsum([len(group) for group in prompts])[:-1]
        for row, group_vectors in enumerate(np.split(vectors, ends), start):
            result[row] = group_vectors.mean(axis=0)
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return result / np.maximum(norms, np.float32(1e-12))


def probabilities(cosines: NDArray[np.float32], encoder: Encoder) -> NDArray[np.float32]:
    """``(n, c)`` cosines of images and labels -> probabilities, by the model's training loss.

    A softmax over the labels, so that rows sum to one; for SigLIP a sigmoid per label.
    """
    logits = cosines.astype(np.float64) * encoder.logit_scale + encoder.logit_bias
    if encoder.sigmoid:
        return (1 / (1 + np.exp(-np.clip(logits, -50, 50)))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class Labeller:
    """Scores images against labels.

    Probabilities alone do not tell whether any label fits: one is always the most probable. The
    *fit*, 0 to 1, does: for models trained with a softmax it is the label's probability when a bank
    of everyday captions competes with the labels (captions that mention a label do not compete with
    it); for SigLIP it is the probability. Measured in ``docs/labels.md``.
    """

    def __init__(
        self,
        encoder: Encoder,
        labels: Sequence[Label],
        *,
        templates: Sequence[str],
        bank: Sequence[str] = CAPTIONS,
    ) -> None:
        self.labels = tuple(labels)
        self._weights = classifier(encoder, labels, templates)
        self._encoder = encoder
        self._bank = np.empty((0, encoder.dimension), np.float32)
        if not encoder.sigmoid and bank:
            self._bank = encoder.encode_texts(list(bank))
            self._competes = ~np.array([[_mentions(text, one) for one in labels] for text in bank])
            """``(bank, c) bool``."""

    def __call__(self, images: Embeddings) -> LabelScores:
        """Scores ``(n, d)`` images."""
        cosines = images @ self._weights.T
        own = probabilities(cosines, self._encoder)
        return LabelScores(cosines, own, self._fits(cosines, images) if len(self._bank) else own)

    def _fits(self, cosines: NDArray[np.float32], images: Embeddings) -> NDArray[np.float32]:
        scale = self._encoder.logit_scale
        logits = cosines.astype(np.float64) * scale
        bank_logits = (images @ self._bank.T).astype(np.float64) * scale
        top = np.maximum(logits.max(axis=1), bank_logits.max(axis=1))[:, None]
        powers = np.exp(logits - top)
        bank_powers = np.exp(bank_logits - top) @ self._competes
        return (powers / (powers.sum(axis=1, keepdims=True) + bank_powers)).astype(np.float32)


@dataclass(frozen=True)
class LabelScores:
    """Scores of n images and c labels, all ``(n, c) float32``."""

    cosines: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    """See ``probabilities``."""
    fits: NDArray[np.float32]
    """0 to 1, see ``Labeller``; labels from ``MIN_FIT`` are stored."""


def _mentions(text: str, one: Label) -> bool:
    return any(
        re.search(rf"\b{re.escape(name)}(e?s)?\b", text, re.IGNORECASE) for name in one.names
    )
