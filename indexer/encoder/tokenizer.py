"""Words to token ids, as each family was trained: case, length, padding, marks at the ends."""

from __future__ import annotations

import re
import string
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sightline.indexer.encoder.model_files import ModelFiles, read_json
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer as Fast

WORDS = (
    "text_model.embeddings.token_embedding.weight",
    "text_model.embeddings.word_embeddings.weight",
    "text_model.roberta.embeddings.word_embeddings.weight",
)
"""Where the families keep a vector for every token."""

POSITIONS = (
    "text_model.embeddings.position_embedding.weight",
    "text_model.embeddings.position_embeddings.weight",
    "text_model.roberta.embeddings.position_embeddings.weight",
)
"""And one for every position."""


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


class Splitter(Protocol):
    """Texts to token ids, with the marks at the ends, cut at the longest length."""

    size: int
    """How many tokens it knows."""
    pad: int
    """The id that fills up a shorter text."""

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """One list of ids a text."""


class Tokenizer:
    """One model's tokenizer. Safe to use from several threads.

    ``tokenizer.json``, or CLIP's merges, go to the ``tokenizers`` library itself and SigLIP's
    ``spiece.model`` to sentencepiece: asking transformers costs two seconds for the import. It is
    asked for the rest, and where a ``tokenizer.json`` does not mark the ends of a text.
    """

    def __init__(self, files: ModelFiles, weights: Weights) -> None:
        self.rules = RULES.get(files.family, TextRules())
        try:
            self.longest = self._longest(files, weights)
            self._split = _splitter(files, self.longest)
        except ModelError:
            raise
        except Exception as error:  # whatever a damaged file makes the libraries raise
            raise ModelError(
                f"the tokenizer in {files.directory} cannot be read: {error}"
            ) from error
        rows = next((shape[0] for name in WORDS if (shape := weights.shape(name))), None)
        # transformers makes an empty tokenizer from a folder without tokenizer files, silently.
        if self._split.size < 16 or (rows is not None and self._split.size > rows):
            raise ModelError(
                f"the tokenizer in {files.directory} knows {self._split.size} tokens, the model "
                f"{rows}: its files are incomplete, or belong to another model"
            )

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenizes, cuts at the longest length, and pads to the longest of these texts (or fully,
        where the model needs it)."""
        import torch

        found = self._split([text.lower() if self.rules.lower else text for text in texts])
        length = self.longest if self.rules.padded else max(map(len, found))
        ids = torch.full((len(found), length), self._split.pad, dtype=torch.int64)
        mask = torch.zeros_like(ids) if self.rules.masked else None
        for row, numbers in enumerate(found):
            ids[row, : len(numbers)] = torch.tensor(numbers)
            if mask is not None:
                mask[row, : len(numbers)] = 1
        return Tokens(ids, mask)

    def _longest(self, files: ModelFiles, weights: Weights) -> int:
        """Tokens that the tower takes, marks included."""
        positions = next((shape[0] for name in POSITIONS if (shape := weights.shape(name))), 77)
        text = files.config.get("text_config") or {}
        if text.get("model_type") in ("roberta", "xlm-roberta", "camembert", "altclip_text_model"):
            positions -= int(text.get("pad_token_id", 1)) + 1  # these count from the padding id
        own = _tokenizer_config(files).get("model_max_length")  # absurd where nobody set it
        limits = [positions, int(own) if own else positions, self.rules.longest or positions]
        return min(limits)


def _splitter(files: ModelFiles, longest: int) -> Splitter:
    """The lightest way to read this model's tokenizer that reads it rightly."""
    folder = files.directory
    if files.family == "siglip" and (folder / "spiece.model").is_file():
        return _Pieces(folder / "spiece.model", _tokenizer_config(files), longest)
    fast = _from_json(folder) or (_from_merges(folder) if files.family == "clip" else None)
    if fast is not None:
        found = _Fast(fast, _tokenizer_config(files), longest)
        if found.marked:
            return found
    return _Transformers(files, longest)


def _from_json(folder: Path) -> Fast | None:
    """What ``tokenizer.json`` describes."""
    from tokenizers import Tokenizer as Fast

    path = folder / "tokenizer.json"
    return Fast.from_file(str(path)) if path.is_file() else None


def _from_merges(folder: Path) -> Fast | None:
    """CLIP's tokenizer from ``vocab.json`` and ``merges.txt``: all that MetaCLIP's folders hold."""
    from tokenizers import Regex, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as Fast
    from tokenizers.models import BPE

    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        return None
    pairs = BPE.from_file(
        str(vocab), str(merges), end_of_word_suffix="</w>", unk_token=CLIP_END, fuse_unk=False
    )
    fast = Fast(pairs)
    fast.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    begin, end = fast.token_to_id(CLIP_BEGIN), fast.token_to_id(CLIP_END)
    if begin is None or end is None:
        return None
    fast.add_special_tokens([CLIP_BEGIN, CLIP_END])
    fast.post_processor = processors.RobertaProcessing(
        (CLIP_END, end), (CLIP_BEGIN, begin), trim_offsets=False, add_prefix_space=False
    )
    return fast


CLIP_BEGIN, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""How OpenAI's CLIP cuts text into words: contractions, letters, single digits, the rest."""


class _Fast:
    """A tokenizer of the ``tokenizers`` library."""

    def __init__(self, fast: Fast, config: dict[str, Any], longest: int) -> None:
        self._fast = fast
        # Set once: changing them while another thread encodes raises "Already borrowed".
        self._fast.no_padding()
        self._fast.enable_truncation(longest)
        self.size = self._fast.get_vocab_size()
        probe = self._fast.encode("a")
        marks = probe.special_tokens_mask
        begins = config.get("add_bos_token", bool(marks) and marks[0] == 1)
        self.marked = bool(marks) and marks[-1] == 1 and bool(marks[0]) == begins
        """Whether it puts the marks at the ends that the configuration speaks of."""
        pad = self._fast.token_to_id(_content(config.get("pad_token")))
        self.pad = pad if pad is not None else probe.ids[-1] if probe.ids else 0

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [found.ids for found in self._fast.encode_batch(texts)]


class _Pieces:
    """SigLIP's ``spiece.model``: lower case, no punctuation, as its captions were prepared."""

    def __init__(self, path: Path, config: dict[str, Any], longest: int) -> None:
        from sentencepiece import SentencePieceProcessor

        self._pieces = SentencePieceProcessor(model_file=str(path))
        self._lower = bool(config.get("do_lower_case", True))
        self._longest = longest
        self.size = self._pieces.get_piece_size()
        self._end = self._number(config.get("eos_token"), "</s>")
        self.pad = self._number(config.get("pad_token"), "</s>")
        # Encoded behind an unknown token, so that the first word keeps the mark of its beginning.
        self._before = _content(config.get("unk_token")) or "<unk>"
        self._skip = len(self._pieces.encode(self._before))

    def _number(self, token: Any, default: str) -> int:
        return int(self._pieces.piece_to_id(_content(token) or default))

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [
            [
                *self._pieces.encode(self._before + self._clean(text))[self._skip :][
                    : self._longest - 1
                ],
                self._end,
            ]
            for text in texts
        ]

    def _clean(self, text: str) -> str:
        text = "\u2581" + text.replace("\u2581", " ")
        text = (text.lower() if self._lower else text).translate(NO_PUNCTUATION)
        return re.sub(r"\s+", " ", text).strip()


NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class _Transformers:
    """Any other tokenizer that transformers can make of a folder."""

    def __init__(self, files: ModelFiles, longest: int) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            files.directory, local_files_only=True, trust_remote_code=False
        )
        self._tokenizer.truncation_side = "right"
        self._longest = longest
        self._lock = threading.Lock()  # truncation is state: see _Fast
        self.size = len(self._tokenizer)
        self.pad = int(self._tokenizer.pad_token_id or 0)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        with self._lock:
            found = self._tokenizer(texts, truncation=True, max_length=self._longest)
        return [list(numbers) for numbers in found["input_ids"]]


def _tokenizer_config(files: ModelFiles) -> dict[str, Any]:
    path = files.directory / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _content(token: Any) -> str:
    """A special token as written in ``tokenizer_config.json``: a string, or an object about one."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
