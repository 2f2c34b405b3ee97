"""Builders of small models with real architectures, random weights and real tokenizers.

Each ``build_<family>`` writes a folder as the hub would hold it (configuration, safetensors,
tokenizer, image processor) and returns it. The same arguments give the same folder. Towers have two
layers and a few dozen dimensions, so that building one takes a fraction of a second; everything
that the families do differently (tokenizer kind, padding, pooling, projection, image geometry) is
real. Tokenizers are trained on ``TEXT``, so they split unknown words as real ones do.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

TEXT = [
    "a photo of a golden retriever on a sandy beach at sunset",
    "two people riding bicycles along the river, seen from behind",
    "the kitchen table with a bowl of red apples and a green bottle",
    "snow on the mountains; a small wooden hut with smoke rising from its chimney",
    "children playing football in the park on a cloudy autumn afternoon",
    "an old train crossing a stone bridge over a deep valley",
    "a black cat sleeping on a blue sofa next to a pile of books",
    "night view of a city with neon signs and wet streets",
    "her birthday cake with seven candles, 2019",
    "it's raining and they've forgotten the umbrella",
    "ein Hund am Strand bei Sonnenuntergang",
    "un chat noir dort sur le canapé",
    "沙滩上的一只狗 夕阳 红色的苹果 城市的夜景",
    "собака на пляже на закате",
]
"""What the tokenizers learn from: English mostly, and a little of what multilingual ones meet."""

CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d"
    r"|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
"""How CLIP's tokenizer cuts text into words before byte-pair encoding."""


def build_clip(
    directory: Path,
    *,
    seed: int = 0,
    dimension: int = 32,
    image_size: int = 32,
    legacy_eos: bool = False,
    **text_options: Any,
) -> Path:
    """OpenAI CLIP, LAION exports and MetaCLIP: ``CLIPModel`` with a byte-level BPE tokenizer.

    ``legacy_eos`` writes the end-of-text id 2 into the configuration, as the first releases of
    OpenAI's models did: transformers then pools at the highest token id instead. ``text_options``
    go into the text tower's configuration.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    vocabulary = save_clip_tokenizer(directory)
    torch.manual_seed(seed)
    end = vocabulary - 1
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        **_small(dimension),
        projection_dim=dimension,
        bos_token_id=0 if legacy_eos else end - 1,
        eos_token_id=2 if legacy_eos else end,
        pad_token_id=1 if legacy_eos else end,
        **text_options,
    )
    vision = CLIPVisionConfig(
        **_small(dimension + 16), projection_dim=dimension, image_size=image_size, patch_size=8
    )
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=dimension
    )
    _save(CLIPModel(config), directory)
    save_preprocessor(
        directory,
        "CLIPImageProcessor",
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        do_center_crop=True,
    )
    return directory


def save_clip_tokenizer(directory: Path, *, vocabulary: int = 700) -> int:
    """Trains and saves a ``CLIPTokenizer``; returns its number of tokens.

    As in CLIP, every byte is a token both inside and at the end of a word, so any text can be
    written, and the start and end marks have the two highest ids.
    """
    from tokenizers import Regex, normalizers, pre_tokenizers
    from transformers import CLIPTokenizer

    normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    cutter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    words = [
        (*word[:-1], word[-1] + "</w>")
        for line in TEXT
        for word, _ in cutter.pre_tokenize_str(normalizer.normalize_str(line))
    ]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    merges = learn_merges(words, vocabulary - len(letters) - 2)
    pieces = [*letters, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    tokenizer.save_pretrained(directory)
    return len(tokenizer)


def learn_merges(words: Sequence[tuple[str, ...]], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding (Sennrich et al., 2016): the most frequent pair, ``count`` times over.

    The trainer of ``tokenizers`` breaks ties differently from run to run; models for tests must
    not change.
    """
    counted = Counter(words)
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in counted.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        merged: Counter[tuple[str, ...]] = Counter()
        for word, times in counted.items():
            merged[_joined(word, best)] += times
        counted = merged
    return merges


def _joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """The word with every occurrence of the pair as one piece."""
    pieces: list[str] = []
    for piece in word:
        if pieces and (pieces[-1], piece) == pair:
            pieces[-1] += piece
        else:
            pieces.append(piece)
    return tuple(pieces)


def build_metaclip2(directory: Path, *, seed: int = 0) -> Path:
    """MetaCLIP 2: its own classes, XLM-V's kind of tokenizer (unigram), end-of-text id 2."""
    from transformers import (
        MetaClip2Config,
        MetaClip2Model,
        MetaClip2TextConfig,
        MetaClip2VisionConfig,
    )

    vocabulary = save_unigram_tokenizer(directory, longest=77)
    torch.manual_seed(seed)
    text = MetaClip2TextConfig(
        vocab_size=vocabulary,
        **_small(32),
        projection_dim=24,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        hidden_act="gelu",
    )
    vision = MetaClip2VisionConfig(
        **_small(48), projection_dim=24, image_size=28, patch_size=14, hidden_act="gelu"
    )
    config = MetaClip2Config(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24
    )
    _save(MetaClip2Model(config), directory)
    save_preprocessor(
        directory,
        "CLIPImageProcessor",
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        do_center_crop=True,
    )
    return directory


def save_unigram_tokenizer(directory: Path, *, longest: int) -> int:
    """Trains and saves an ``XLMRobertaTokenizer``; returns its number of tokens."""
    from transformers import XLMRobertaTokenizer

    pieces = _unigrams()
    vocab = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab += [(piece, score) for piece, score in pieces if piece not in dict(vocab)]
    vocab += [("<mask>", 0.0)]
    tokenizer = XLMRobertaTokenizer(vocab=vocab, model_max_length=longest)
    tokenizer.save_pretrained(directory)
    return len(tokenizer)


def _unigrams(vocabulary: int = 500) -> list[tuple[str, float]]:
    """Pieces of a SentencePiece unigram model, with their scores."""
    from sentencepiece import SentencePieceProcessor

    pieces = SentencePieceProcessor(model_proto=_sentencepiece(vocabulary))
    return [(pieces.id_to_piece(n), pieces.get_score(n)) for n in range(len(pieces))]


def _sentencepiece(vocabulary: int = 500, **options: Any) -> bytes:
    """A SentencePiece unigram model trained on ``TEXT``."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        vocab_size=vocabulary,
        model_type="unigram",
        character_coverage=1.0,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


def build_siglip(directory: Path, *, seed: int = 0, image_size: int = 32) -> Path:
    """SigLIP: sigmoid loss, attention pooling, SentencePiece, every text padded to 64."""
    from transformers import SiglipTokenizer

    directory.mkdir(parents=True, exist_ok=True)
    model = _sentencepiece(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    (directory / "spiece.model").write_bytes(model)
    tokenizer = SiglipTokenizer(str(directory / "spiece.model"))
    tokenizer.save_pretrained(directory)
    _save_siglip(directory, len(tokenizer), seed=seed, image_size=image_size)
    return directory


def build_siglip2(directory: Path, *, seed: int = 0, image_size: int = 40) -> Path:
    """SigLIP 2 of a fixed size: SigLIP's architecture with Gemma's tokenizer."""
    vocabulary = save_gemma_tokenizer(directory)
    _save_siglip(directory, vocabulary, seed=seed, image_size=image_size)
    return directory


def build_siglip2_naflex(directory: Path, *, seed: int = 0, max_patches: int = 256) -> Path:
    """SigLIP 2 NaFlex: images of any shape, of up to ``max_patches`` patches."""
    from transformers import Siglip2Config, Siglip2Model, Siglip2TextConfig, Siglip2VisionConfig

    vocabulary = save_gemma_tokenizer(directory)
    torch.manual_seed(seed)
    text = Siglip2TextConfig(vocab_size=vocabulary, **_small(48), projection_size=48)
    vision = Siglip2VisionConfig(**_small(48))
    model = Siglip2Model(Siglip2Config(text_config=text.to_dict(), vision_config=vision.to_dict()))
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    # As strong as the patches: else an error in resizing them would not be seen in the vectors.
    _save(model, directory, image_positions=15.0)
    save_preprocessor(
        directory,
        "Siglip2ImageProcessor",
        patch_size=16,
        max_num_patches=max_patches,
        resample=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return directory


def save_gemma_tokenizer(directory: Path) -> int:
    """Saves a ``GemmaTokenizer`` as SigLIP 2's; returns its number of tokens."""
    from transformers import GemmaTokenizer

    words = [
        tuple(("\u2581" if place else "") + word)
        for line in TEXT
        for place, word in enumerate(line.lower().split())
    ]
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = sorted({letter for word in words for letter in word} | {"\u2581"})
    merges = learn_merges(words, 200)
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    pieces += map("".join, merges)
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = GemmaTokenizer(
        vocab=vocab,
        merges=merges,
        add_bos_token=False,
        add_eos_token=True,
        padding_side="right",
        model_max_length=64,
    )
    tokenizer.save_pretrained(directory)
    return len(tokenizer)


def _save_siglip(directory: Path, vocabulary: int, *, seed: int, image_size: int) -> None:
    from transformers import SiglipConfig, SiglipModel, SiglipTextConfig, SiglipVisionConfig

    torch.manual_seed(seed)
    text = SiglipTextConfig(vocab_size=vocabulary, **_small(48), projection_size=48)
    vision = SiglipVisionConfig(**_small(48), image_size=image_size, patch_size=9)
    model = SiglipModel(SiglipConfig(text_config=text.to_dict(), vision_config=vision.to_dict()))
    with torch.no_grad():
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-16.5)
    _save(model, directory)
    save_preprocessor(
        directory,
        "SiglipImageProcessor",
        size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def build_chinese_clip(directory: Path, *, seed: int = 0) -> Path:
    """Chinese-CLIP: a BERT for text, pooled at its first token without BERT's pooler."""
    from transformers import (
        ChineseCLIPConfig,
        ChineseCLIPModel,
        ChineseCLIPTextConfig,
        ChineseCLIPVisionConfig,
    )

    vocabulary = save_wordpiece_tokenizer(directory, longest=512)
    torch.manual_seed(seed)
    text = ChineseCLIPTextConfig(
        vocab_size=vocabulary, **_small(48), max_position_embeddings=512, pad_token_id=0
    )
    vision = ChineseCLIPVisionConfig(**_small(32), projection_dim=32, image_size=32, patch_size=16)
    config = ChineseCLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=32
    )
    _save(ChineseCLIPModel(config), directory)
    save_preprocessor(
        directory,
        "ChineseCLIPImageProcessor",
        size={"height": 32, "width": 32},
        crop_size={"height": 32, "width": 32},
        do_center_crop=False,
    )
    return directory


def save_wordpiece_tokenizer(directory: Path, *, longest: int) -> int:
    """Saves a lower-casing ``BertTokenizer``; returns its number of tokens.

    Its words are those of ``TEXT`` and its pieces all their letters, so that any of them can be
    written, as BERT's can.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import BertTokenizer

    words = sorted(
        {
            word
            for line in TEXT
            for word, _ in BertPreTokenizer().pre_tokenize_str(BertNormalizer().normalize_str(line))
        }
    )
    letters = sorted({letter for word in words for letter in word})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    pieces += [f"##{letter}" for letter in letters] + words[::2]
    vocab = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = BertTokenizer(vocab=vocab, do_lower_case=True, model_max_length=longest)
    tokenizer.save_pretrained(directory)
    return len(tokenizer)


def build_altclip(directory: Path, *, seed: int = 0) -> Path:
    """AltCLIP: XLM-RoBERTa for text, whose positions count from the padding id."""
    from transformers import AltCLIPConfig, AltCLIPModel, AltCLIPTextConfig, AltCLIPVisionConfig

    vocabulary = save_unigram_tokenizer(directory, longest=512)
    torch.manual_seed(seed)
    text = AltCLIPTextConfig(
        vocab_size=vocabulary,
        **_small(32),
        project_dim=24,
        max_position_embeddings=514,
        pad_token_id=1,
    )
    vision = AltCLIPVisionConfig(**_small(32), projection_dim=24, image_size=32, patch_size=8)
    config = AltCLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=24
    )
    _save(AltCLIPModel(config), directory)
    save_preprocessor(
        directory,
        "CLIPImageProcessor",
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        do_center_crop=True,
    )
    return directory


def build_dual_encoder(
    directory: Path, *, seed: int = 0, image_size: int = 32, **network: Any
) -> Path:
    """A residual network and a BERT joined by ``VisionTextDualEncoderModel``: what the built-in
    model is. ``network`` is given to the residual network's configuration."""
    from transformers import (
        BertConfig,
        ResNetConfig,
        VisionTextDualEncoderConfig,
        VisionTextDualEncoderModel,
    )

    vocabulary = save_wordpiece_tokenizer(directory, longest=48)
    torch.manual_seed(seed)
    small = {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "hidden_size": 32}
    vision = ResNetConfig(**{**small, "layer_type": "basic", **network})
    text = BertConfig(
        vocab_size=vocabulary, **_small(32), max_position_embeddings=48, pad_token_id=0
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vision, text, projection_dim=24)
    model = VisionTextDualEncoderModel(config)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2.0)
    _save(model, directory)
    save_preprocessor(
        directory,
        "CLIPImageProcessor",
        size={"height": image_size, "width": image_size},
        do_center_crop=False,
    )
    return directory


BUILDERS = {
    "clip": build_clip,
    "metaclip2": build_metaclip2,
    "siglip": build_siglip,
    "siglip2": build_siglip2,
    "siglip2-naflex": build_siglip2_naflex,
    "chinese-clip": build_chinese_clip,
    "altclip": build_altclip,
    "dual-encoder": build_dual_encoder,
}
"""Every family: its name, and what builds a small model of it."""


def save_preprocessor(directory: Path, processor: str, **options: Any) -> None:
    """Writes ``preprocessor_config.json``, with CLIP's values where ``options`` say nothing."""
    config = {
        "image_processor_type": processor,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    (directory / "preprocessor_config.json").write_text(json.dumps({**config, **options}, indent=2))


def _small(width: int) -> dict[str, int]:
    """Two layers of the given width, in heads of 16."""
    width = max(16, width // 16 * 16)
    return {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": width // 16,
    }


def _save(model: torch.nn.Module, directory: Path, *, image_positions: float = 0.5) -> None:
    """Saves the weights after spreading them: as initialised, all inputs give like outputs.

    ``image_positions`` is the spread of the image tower's position embeddings."""
    with torch.no_grad():
        for name, weight in _trainable(model):
            if weight.ndim >= 2:
                strong = name == "vision_model.embeddings.position_embedding.weight"
                spread = image_positions if strong else _spread(name)
                weight.normal_(std=spread * weight[0].numel() ** -0.5)
            elif name.endswith("bias"):
                weight.normal_(std=0.1)
    model.eval()
    model.save_pretrained(directory)  # type: ignore[operator]


def _spread(name: str) -> float:
    """Standard deviation of a weight, in units of one over the root of its inputs."""
    if "position" in name:
        return 0.5
    return 4.0 if "embed" in name else 1.0


def _trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Parameters that tell one input from another: all but the logit scale and bias."""
    for name, weight in model.named_parameters():
        if not name.startswith("logit_"):
            yield name, weight


def save_as_open_clip(source: Path, directory: Path) -> Path:
    """A model of ``build_clip`` in OpenCLIP's format, with the tokenizer's files."""
    directory.mkdir()
    for path in source.iterdir():
        if path.name not in ("config.json", "preprocessor_config.json", "model.safetensors"):
            (directory / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    found = load_file(source / "model.safetensors")
    tensors = {
        "logit_scale": found["logit_scale"],
        "token_embedding.weight": found["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": found["text_model.embeddings.position_embedding.weight"],
        "text_projection": found["text_projection.weight"].T,
        "visual.proj": found["visual_projection.weight"].T,
        "visual.class_embedding": found["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": found["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": found["vision_model.embeddings.position_embedding.weight"],
    }
    norms = {
        "ln_final": "text_model.final_layer_norm",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.ln_post": "vision_model.post_layernorm",
    }
    parts = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "attn.out_proj": "self_attn.out_proj",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    for kind in ("weight", "bias"):
        for new, old in norms.items():
            tensors[f"{new}.{kind}"] = found[f"{old}.{kind}"]
        for new, old in (("", "text_model."), ("visual.", "vision_model.")):
            for number in range(text["num_hidden_layers"]):
                layer = f"{new}transformer.resblocks.{number}."
                before = f"{old}encoder.layers.{number}."
                for part, name in parts.items():
                    tensors[f"{layer}{part}.{kind}"] = found[f"{before}{name}.{kind}"]
                tensors[f"{layer}attn.in_proj_{kind}"] = torch.cat(
                    [found[f"{before}self_attn.{one}_proj.{kind}"] for one in "qkv"]
                )
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        directory / "open_clip_model.safetensors",
    )
    model = {
        "embed_dim": config["projection_dim"],
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": vision["image_size"],
            "layers": vision["num_hidden_layers"],
            "width": vision["hidden_size"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "patch_size": vision["patch_size"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }
    (directory / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": model, "preprocess_cfg": {"interpolation": "bicubic"}})
    )
    return directory
