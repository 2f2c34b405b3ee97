"""Zero-shot classification: labels become vectors, and cosines become probabilities.

A label's vector is the mean of the unit vectors of its name in each of several templates, brought
to unit length again (prompt ensembling: Radford et al. 2021, section 3.1.4). A model that was
trained with a softmax over a batch says how well labels fit beside each other, so their
probabilities sum to one; SigLIP was trained with a sigmoid for each pair, so each label has one of
its own (Zhai et al. 2023).

    labels = read_labels("dog, cat, bicycle")
    vectors = classifier(encoder, labels, templates("imagenet"))       # (3, d)
    probabilities(images @ vectors.T, encoder)                         # (n, 3)
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

FITS = 0.2
"""The fit from which a label is kept: the lowest tenth at which, with the built-in model, half and
more of what is kept is right: .82 on CIFAR-10 (ten labels, each fits a tenth of the pictures), .50
on Tiny ImageNet with all 200 labels, .51 with 40 labels of which half are nowhere, .52 on Flickr8k,
where several labels fit a picture: ``python -m benchmarks.labels``."""

PROMPTS_AT_ONCE = 4096
"""Prompts that are encoded in one call: 1,000 labels in 80 templates are 80,000."""


@dataclass(frozen=True)
class Label:
    """One label, and what it is called in sentences."""

    name: str
    names: tuple[str, ...]
    """The name first, then synonyms; each goes into every template."""


def label(name: str, *synonyms: str) -> Label:
    """A label of that name, with other words for the same thing."""
    return Label(name, (name, *synonyms))


def read_labels(given: str) -> list[Label]:
    """Labels from a file, or from words with commas between them.

    A text file holds a label a line (``dog, puppy, hound``: the first is its name, the others are
    synonyms; lines that begin with ``#`` are passed over), a ``.json`` file a list of names or an
    object of names with lists of synonyms. Raises ``UsageError`` where there is no label, or one
    twice.
    """
    path = Path(given).expanduser()
    if is_file(path):
        found = _from_json(path) if path.suffix.lower() == ".json" else _from_lines(path)
    else:
        found = [label(name) for name in _split(given)]
    if not found:
        raise UsageError(f"there is no label in {given!r}")
    seen: set[str] = set()
    for one in found:
        if one.name.casefold() in seen:
            raise UsageError(f"the label {one.name!r} is there twice")
        seen.add(one.name.casefold())
    return found


def is_file(path: Path) -> bool:
    """Whether ``path``, which may be any words, is a file."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False  # words can be longer than a file's name may be


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a mark at its beginning. Raises ``UsageError``."""
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
        given = {name: [] for name in given if isinstance(name, str)} if _texts(given) else None
    if not isinstance(given, dict) or not all(_texts(others) for others in given.values()):
        raise UsageError(
            f'{path} should hold a list of names, or an object of names and synonyms: {{"dog":'
            ' ["puppy"]}'
        )
    return [label(name, *others) for name, others in given.items() if name.strip()]


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _split(line: str) -> list[str]:
    return [word for part in line.split(",") if (word := " ".join(part.split()))]


def classifier(encoder: Encoder, labels: Sequence[Label], templates: Sequence[str]) -> Embeddings:
    """``(c, d) float32, unit norm``: a vector a label, the mean over its names and templates."""
    result = np.empty((len(labels), encoder.dimension), np.float32)
    step = max(1, PROMPTS_AT_ONCE // (len(templates) * max(len(one.names) for one in labels)))
    for start in range(0, len(labels), step):
        some = labels[start : start + step]
        prompts = [
            [fill(template, name) for name in one.names for template in templates] for one in some
        ]
        vectors = encoder.encode_texts([prompt for several in prompts for prompt in several])
        ends = np.cumsum([len(several) for several in prompts])[:-1]
        for row, part in enumerate(np.split(vectors, ends), start):
            result[row] = part.mean(axis=0)
    norms = np.linalg.norm(result, axis=1, keepdims=True)
    return result / np.maximum(norms, np.float32(1e-12))


def probabilities(cosines: NDArray[np.float32], encoder: Encoder) -> NDArray[np.float32]:
    """``(n, c)`` cosines of pictures and labels -> probabilities as the model was trained to give
    them: each row sums to one, or, for SigLIP, each value stands alone."""
    logits = cosines.astype(np.float64) * encoder.logit_scale + encoder.logit_bias
    if encoder.sigmoid:
        return (1 / (1 + np.exp(-np.clip(logits, -50, 50)))).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class Labeller:
    """Scores pictures against labels, and says which fit.

    Nearest labels always exist, as nearest pictures do: of three labels one comes first for a
    picture that none of them fits. So beside the model's own probabilities there is a *fit*, 0 to
    1, by which labels are kept. For models with a softmax it is the label's share when a bank of
    everyday captions (``captions``) stands beside the labels for everything else that a
    picture may show; captions that mention the label itself are no rivals of it. For SigLIP, which
    judges each label alone, it is the probability itself. ``docs/labels.md`` has what that reaches.
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
        self.vectors = classifier(encoder, labels, templates)
        """``(c, d)``, one a label."""
        self._encoder = encoder
        self._bank = np.empty((0, encoder.dimension), np.float32)
        if not encoder.sigmoid and bank:
            self._bank = encoder.encode_texts(list(bank))
            self._rival = ~np.array([[_mentions(text, one) for one in labels] for text in bank])

    def __call__(self, images: Embeddings) -> Scored:
        """Scores ``(n, d)`` pictures."""
        cosines = images @ self.vectors.T
        own = probabilities(cosines, self._encoder)
        return Scored(cosines, own, self._fits(cosines, images) if len(self._bank) else own)

    def _fits(self, cosines: NDArray[np.float32], images: Embeddings) -> NDArray[np.float32]:
        scale = self._encoder.logit_scale
        others = (images @ self._bank.T).astype(np.float64) * scale
        logits = cosines.astype(np.float64) * scale
        top = np.maximum(logits.max(axis=1), others.max(axis=1))[:, None]
        powers = np.exp(logits - top)
        rivals = np.exp(others - top) @ self._rival
        return (powers / (powers.sum(axis=1, keepdims=True) + rivals)).astype(np.float32)


@dataclass(frozen=True)
class Scored:
    """What a ``Labeller`` says of n pictures and c labels; all ``(n, c) float32``."""

    cosines: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    """The model's own: see the function of that name."""
    fits: NDArray[np.float32]
    """How well each label fits, 0 to 1; from ``FITS`` on it is kept."""


def _mentions(text: str, one: Label) -> bool:
    return any(
        re.search(rf"\b{re.escape(name)}(e?s)?\b", text, re.IGNORECASE) for name in one.names
    )
