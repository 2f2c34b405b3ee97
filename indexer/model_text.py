"""Words to token ids, as each family was trained: case, length, padding, marks at the ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from indexer.errors import ModelError
from indexer.model_files import ModelFiles

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextRules:
    """What a family does with text that no file of the model says."""

    padded: bool = False
    """Every text is padded to the full length: SigLIP pools at the last position, and was trained
    to find it there. CLIP's text tower is causal and pools at the end mark, so what follows it
    changes nothing; BERT's is told what is padding."""
    masked: bool = True
    """Whether the tower is told which positions are padding."""
    lower: bool = False
    """Lower-cased before the tokenizer: SigLIP 2 was trained so, its Gemma tokenizer keeps case."""
    longest: int | None = None
    """Tokens the model was trained on, where its positions go further."""


RULES = {
    "clip": TextRules(masked=False),
    "metaclip_2": TextRules(masked=False),
    "siglip": TextRules(padded=True, masked=False, lower=True),
    "chinese_clip": TextRules(longest=52),
    "altclip": TextRules(longest=77),
}


@dataclass(frozen=True)
class Tokens:
    """Texts of one batch as the text tower takes them."""

    ids: torch.Tensor
    """``(n, length) int64``."""
    mask: torch.Tensor | None
    """``(n, length) int64``, 1 where there is text; None for towers that take none."""


class Tokenizer:
    """One model's tokenizer. Safe to use from several threads."""

    def __init__(self, files: ModelFiles) -> None:
        from transformers import AutoTokenizer

        self.rules = RULES.get(files.family, TextRules())
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                files.directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever a damaged file makes the libraries raise
            raise ModelError(
                f"the tokenizer in {files.directory} cannot be read: {error}"
            ) from error
        self._tokenizer.padding_side = "right"
        self._tokenizer.truncation_side = "right"
        text = files.config.get("text_config") or {}
        self.longest = self._longest(text)
        # A fast tokenizer keeps padding and truncation as state: two threads at once raise
        # "Already borrowed", or worse, use each other's.
        self._lock = threading.Lock()
        self._check(files, text)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenizes, cuts at the longest length, and pads to the longest of these texts (or fully,
        where the model needs it)."""
        import torch

        if self.rules.lower:
            texts = [text.lower() for text in texts]
        with self._lock:
            found = self._tokenizer(
                list(texts),
                padding="max_length" if self.rules.padded else True,
                truncation=True,
                max_length=self.longest,
                return_attention_mask=True,
            )
        ids = torch.tensor(found["input_ids"], dtype=torch.int64)
        mask = torch.tensor(found["attention_mask"]) if self.rules.masked else None
        return Tokens(ids, mask)

    def _longest(self, text: dict[str, Any]) -> int:
        """Tokens that the tower takes, marks included."""
        positions = int(text.get("max_position_embeddings") or (64 if self.rules.padded else 77))
        if text.get("model_type") in ("roberta", "xlm-roberta", "camembert", "altclip_text_model"):
            positions -= int(text.get("pad_token_id", 1)) + 1  # these count from the padding id
        own = int(self._tokenizer.model_max_length)  # absurdly large where the files do not say
        return min(positions, own, self.rules.longest or positions)

    def _check(self, files: ModelFiles, text: dict[str, Any]) -> None:
        """Refuses a tokenizer that cannot be this model's: transformers makes an empty one from a
        folder without tokenizer files, and says nothing."""
        size = len(self._tokenizer)
        rows = text.get("vocab_size")
        if size < 16 or (isinstance(rows, int) and size > rows):
            raise ModelError(
                f"the tokenizer in {files.directory} knows {size} tokens, the model {rows}: "
                "its files are incomplete, or belong to another model"
            )
