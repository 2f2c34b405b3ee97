"""The WordPiece vocabulary: whole words first, pieces for the rest.

A vocabulary trained on 30,000 captions tears common nouns apart ("lorry" became "lori" and more),
and a bag of pieces then knows nothing of them. So every slot but some 1,400 pieces is a whole word,
ranked by how much the training texts and WordNet say of it.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer, Tokenizer

SIZE = 16_000

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

PIECES = 1_400
"""Single characters and word parts, the shortest first."""

ENDINGS = ("##s", "##es", "##ing", "##ed", "##er", "##ly")

WORD = re.compile(r"[a-z]+|[0-9]+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a text."""
    return WORD.findall(text.lower())


def counted(texts: Iterable[tuple[str, float]]) -> Counter[str]:
    """How often each word occurs, each text with its own weight."""
    found: Counter[str] = Counter()
    for text, weight in texts:
        for word in words(text):
            found[word] += weight  # type: ignore[assignment]  # a Counter of floats
    return found


def plural(noun: str) -> str:
    """The regular plural of a noun."""
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def build(counts: Counter[str], path: Path) -> Tokenizer:
    """Write ``vocab.txt`` with the most frequent words and return the tokenizer for it."""
    trainer = BertWordPieceTokenizer(lowercase=True)
    repeated = (word for word, count in counts.items() for _ in range(int(min(count, 20))))
    trainer.train_from_iterator(repeated, vocab_size=3_000, min_frequency=2, show_progress=False)
    pieces = sorted(
        (piece for piece in trainer.get_vocab() if piece.startswith("##") or len(piece) == 1),
        key=lambda piece: (len(piece), piece),
    )
    entries = dict.fromkeys((*SPECIAL, *string.punctuation, *pieces[:PIECES], *ENDINGS))
    for word, _ in counts.most_common():
        if len(entries) == SIZE:
            break
        entries[word] = None
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return load(path)


def load(path: Path) -> Tokenizer:
    """The tokenizer for a ``vocab.txt``: lower case, [CLS] and [SEP] at the ends."""
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    model = models.WordPiece.from_file(str(path), unk_token="[UNK]")
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    start, end = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", end), ("[CLS]", start))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
