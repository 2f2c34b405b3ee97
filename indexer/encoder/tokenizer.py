"""Texts to token ids, as each family of models was trained: case, length, padding, special tokens.

Tokenizers are loaded without transformers where possible, because its import takes two seconds:
``tokenizer.json`` and CLIP's merges by the ``tokenizers`` library, SigLIP's ``spiece.model`` by
sentencepiece.
"""

from __future__ import annotations

import re
import string
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sightline.indexer.encoder import open_clip
from sightline.indexer.encoder.model_files import ModelFiles, read_json
from sightline.indexer.encoder.weights import Weights
from sightline.indexer.errors import ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HfTokenizer

WORD_EMBEDDINGS = (
    "text_model.embeddings.token_embedding.weight",
    "text_model.embeddings.word_embeddings.weight",
    "text_model.roberta.embeddings.word_embeddings.weight",
)
"""Names of the token embedding table, one row per token."""

POSITION_EMBEDDINGS = (
    "text_model.embeddings.position_embedding.weight",
    "text_model.embeddings.position_embeddings.weight",
    "text_model.roberta.embeddings.position_embeddings.weight",
)
"""Names of the position embedding table, one row per position."""


@dataclass(frozen=True)
class TextRules:
    """A family's treatment of text that no file of the model states."""

    pad_to_max_length: bool = False
    """SigLIP pools at the last position and was trained with full padding. CLIP's causal tower
    pools at the end token and BERT's has a mask, so padding does not change their embeddings."""
    attention_mask: bool = True
    """Whether the tower takes a mask."""
    lowercase: bool = False
    """Before tokenization: SigLIP 2 was trained so, and its Gemma tokenizer keeps the case."""
    max_length: int | None = None
    """Tokens that the model was trained on, if fewer than it has positions."""


TEXT_RULES = {
    open_clip.FAMILY: TextRules(attention_mask=False),
    "clip": TextRules(attention_mask=False),
    "metaclip_2": TextRules(attention_mask=False),
    "siglip": TextRules(pad_to_max_length=True, attention_mask=False, lowercase=True),
    "siglip2": TextRules(pad_to_max_length=True, attention_mask=False, lowercase=True),
    "chinese_clip": TextRules(max_length=52),
    "altclip": TextRules(max_length=77),
}


@dataclass(frozen=True)
class Tokens:
    """The token ids of a batch of texts."""

    ids: NDArray[np.int64]
    """``(n, length) int64``."""
    mask: NDArray[np.int64] | None
    """``(n, length) int64``, 1 at tokens and 0 at padding; None for towers that take no mask."""


class Backend(Protocol):
    """Texts to token ids, with special tokens, truncated to the maximal length. Thread-safe."""

    vocabulary_size: int
    pad_id: int

    def __call__(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""


class Tokenizer:
    """The tokenizer of one model. Thread-safe."""

    def __init__(self, files: ModelFiles, weights: Weights) -> None:
        self.rules = TEXT_RULES.get(files.family, TextRules())
        text_config = files.config.get("text_config") or {}
        self._without_punctuation = text_config.get("without_punctuation") is True
        try:
            self.max_length = self._max_length(files, weights)
            self._backend = _backend(files, self.max_length)
        except ModelError:
            raise
        except Exception as error:  # the libraries raise many kinds for a corrupt file
            raise ModelError(
                f"the tokenizer in {files.directory} cannot be read: {error}"
            ) from error
        size = self._backend.vocabulary_size
        rows = _rows(weights, WORD_EMBEDDINGS)
        # From a folder without tokenizer files transformers makes an empty tokenizer, silently.
        if size < 16 or (rows is not None and size > rows):
            raise ModelError(
                f"the tokenizer in {files.directory} has {size} tokens, the model {rows}: its "
                "files are incomplete, or belong to another model"
            )

    def __call__(self, texts: Sequence[str], *, multiple: int = 1) -> Tokens:
        """Tokenizes, truncates and pads: to the longest of these texts, rounded up to a
        ``multiple``, or to ``max_length``."""
        rows = self._backend([self._prepared(text) for text in texts])
        length = -(-max(map(len, rows)) // multiple) * multiple
        if self.rules.pad_to_max_length or length > self.max_length:
            length = self.max_length
        ids = np.full((len(rows), length), self._backend.pad_id, np.int64)
        mask = np.zeros_like(ids) if self.rules.attention_mask else None
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            if mask is not None:
                mask[index, : len(row)] = 1
        return Tokens(ids, mask)

    def _prepared(self, text: str) -> str:
        if self.rules.lowercase:
            text = text.lower()
        if self._without_punctuation:
            text = " ".join(text.replace("_", " ").translate(NO_PUNCTUATION).split())
        return text

    def _max_length(self, files: ModelFiles, weights: Weights) -> int:
        """Tokens that the tower takes, special tokens included."""
        positions = _rows(weights, POSITION_EMBEDDINGS) or 77
        text = files.config.get("text_config") or {}
        if text.get("model_type") in ("roberta", "xlm-roberta", "camembert", "altclip_text_model"):
            positions -= int(text.get("pad_token_id", 1)) + 1  # these count from the padding id
        configured = _tokenizer_config(files).get("model_max_length")  # 1e30 if it was never set
        return min(
            positions,
            int(configured) if configured else positions,
            self.rules.max_length or positions,
        )


class WholeWords:
    """A vocabulary that holds every word its model was taught, as the built-in model's does."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is the model's, with a ``tokenizer.json``."""
        self._folder = folder
        self._ids = vocabulary(folder)

    @cached_property
    def _tokenizer(self) -> HfTokenizer:
        found = _from_json(self._folder)
        assert found is not None
        return found

    def unknown(self, text: str) -> list[str]:
        """The words of ``text`` that the model does not know.

        A known word with an ending, and a compound of two, are known ("croissant" and "s", "space"
        and "ship"); three pieces, or two of which the first is shorter than a word, are not.
        """
        return [word for word in WORD.findall(text) if not self._knows(word)]

    def ids(self, text: str) -> list[int]:
        """The id of each word of ``text``: frequent words have low ones. A plural has that of its
        singular if this is lower, a word in pieces the size of the vocabulary."""
        return [self._id(word) for word in WORD.findall(text.lower())]

    def _id(self, word: str) -> int:
        forms = {word, word.removesuffix("s")}
        return min((self._ids[form] for form in forms if form in self._ids), default=len(self._ids))

    def _knows(self, word: str) -> bool:
        lower = word.lower()
        if lower in self._ids:
            return True
        if lower.isascii() and len(lower) <= LONGEST_SPLIT:
            # As WordPiece does: the longest piece first. The tokenizer takes as long to load as a
            # tenth of a search from the shell.
            first = next(
                lower[:end] for end in range(len(lower), 0, -1) if lower[:end] in self._ids
            )
            return len(first) >= SHORTEST_WORD and f"##{lower.removeprefix(first)}" in self._ids
        pieces = self._tokenizer.encode(word, add_special_tokens=False).tokens
        return len(pieces) < 2 or (len(pieces) == 2 and len(pieces[0]) >= SHORTEST_WORD)


@cache
def vocabulary(folder: Path) -> dict[str, int]:
    """The tokens of ``tokenizer.json`` and their ids."""
    found: dict[str, int] = read_json(folder / "tokenizer.json")["model"]["vocab"]
    return found


WORD = re.compile(r"[^\W\d_]+")
"""A run of letters."""

LONGEST_SPLIT = 100
"""Letters of the longest word that WordPiece splits."""

SHORTEST_WORD = 3
"""Letters of the shortest word to which another piece may be joined."""


def _rows(weights: Weights, names: Sequence[str]) -> int | None:
    """The number of rows of the first of these tensors that the model has."""
    return next((shape[0] for name in names if (shape := weights.shape(name))), None)


def _backend(files: ModelFiles, max_length: int) -> Backend:
    """The backend with the cheapest import that reads this model's tokenizer correctly."""
    folder = files.directory
    if files.family == open_clip.FAMILY:
        from sightline.indexer.encoder.open_clip_towers import OpenClipTokenizer

        return OpenClipTokenizer(files)
    if files.family == "siglip" and (folder / "spiece.model").is_file():
        return _SentencePiece(folder / "spiece.model", _tokenizer_config(files), max_length)
    found = _from_json(folder) or (_from_merges(folder) if files.family == "clip" else None)
    if found is not None:
        fast = _Fast(found, _tokenizer_config(files), max_length)
        if fast.adds_special_tokens:
            return fast
    return _Transformers(files, max_length)


def _from_json(folder: Path) -> HfTokenizer | None:
    """The tokenizer of ``tokenizer.json``."""
    from tokenizers import Tokenizer as HfTokenizer

    path = folder / "tokenizer.json"
    return HfTokenizer.from_file(str(path)) if path.is_file() else None


def _from_merges(folder: Path) -> HfTokenizer | None:
    """CLIP's tokenizer from ``vocab.json`` and ``merges.txt``: all that MetaCLIP's folders hold."""
    from tokenizers import Regex, normalizers, pre_tokenizers, processors
    from tokenizers import Tokenizer as HfTokenizer
    from tokenizers.models import BPE

    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    if not (vocab.is_file() and merges.is_file()):
        return None
    bpe = BPE.from_file(
        str(vocab), str(merges), end_of_word_suffix="</w>", unk_token=CLIP_END, fuse_unk=False
    )
    found = HfTokenizer(bpe)
    found.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    begin, end = found.token_to_id(CLIP_BEGIN), found.token_to_id(CLIP_END)
    if begin is None or end is None:
        return None
    found.add_special_tokens([CLIP_BEGIN, CLIP_END])
    found.post_processor = processors.RobertaProcessing(
        (CLIP_END, end), (CLIP_BEGIN, begin), trim_offsets=False, add_prefix_space=False
    )
    return found


CLIP_BEGIN, CLIP_END = "<|startoftext|>", "<|endoftext|>"
CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""How OpenAI's CLIP splits text before byte-pair encoding: contractions, letters, single digits,
the rest."""


class _Fast:
    """A tokenizer of the ``tokenizers`` library."""

    def __init__(self, tokenizer: HfTokenizer, config: dict[str, Any], max_length: int) -> None:
        self._tokenizer = tokenizer
        # Set once: changing them while another thread encodes raises "Already borrowed".
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length)
        self.vocabulary_size = tokenizer.get_vocab_size()
        probe = tokenizer.encode("a")
        special = probe.special_tokens_mask
        begins = config.get("add_bos_token", bool(special) and special[0] == 1)
        self.adds_special_tokens = bool(special) and special[-1] == 1 and bool(special[0]) == begins
        """Whether it adds the begin and end tokens that ``tokenizer_config.json`` requires."""
        pad_id = tokenizer.token_to_id(_content(config.get("pad_token")))
        self.pad_id = pad_id if pad_id is not None else probe.ids[-1] if probe.ids else 0

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]


class _SentencePiece:
    """SigLIP's ``spiece.model``: lower case without punctuation, as its captions were prepared."""

    def __init__(self, path: Path, config: dict[str, Any], max_length: int) -> None:
        from sentencepiece import SentencePieceProcessor

        self._processor = SentencePieceProcessor(model_file=str(path))
        self._lowercase = bool(config.get("do_lower_case", True))
        self._max_length = max_length
        self.vocabulary_size = self._processor.get_piece_size()
        self._end_id = self._piece_id(config.get("eos_token"), "</s>")
        self.pad_id = self._piece_id(config.get("pad_token"), "</s>")
        # Texts are encoded after an unknown token, so that the first word keeps its word mark.
        self._prefix = _content(config.get("unk_token")) or "<unk>"
        self._prefix_length = len(self._processor.encode(self._prefix))

    def _piece_id(self, token: Any, default: str) -> int:
        return int(self._processor.piece_to_id(_content(token) or default))

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return [[*self._encode(text)[: self._max_length - 1], self._end_id] for text in texts]

    def _encode(self, text: str) -> list[int]:
        text = "\u2581" + text.replace("\u2581", " ")
        text = (text.lower() if self._lowercase else text).translate(NO_PUNCTUATION)
        text = re.sub(r"\s+", " ", text).strip()
        ids: list[int] = self._processor.encode(self._prefix + text)
        return ids[self._prefix_length :]


NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class _Transformers:
    """Any other tokenizer, by transformers."""

    def __init__(self, files: ModelFiles, max_length: int) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            files.directory, local_files_only=True, trust_remote_code=False
        )
        self._tokenizer.truncation_side = "right"
        self._max_length = max_length
        self._lock = threading.Lock()  # a call sets the truncation, see _Fast
        self.vocabulary_size = len(self._tokenizer)
        self.pad_id = int(self._tokenizer.pad_token_id or 0)

    def __call__(self, texts: list[str]) -> list[list[int]]:
        with self._lock:
            found = self._tokenizer(texts, truncation=True, max_length=self._max_length)
        return [list(ids) for ids in found["input_ids"]]


def _tokenizer_config(files: ModelFiles) -> dict[str, Any]:
    path = files.directory / "tokenizer_config.json"
    return read_json(path) if path.is_file() else {}


def _content(token: Any) -> str:
    """The text of a special token in ``tokenizer_config.json``, given as a string or an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
