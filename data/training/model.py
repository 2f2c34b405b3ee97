"""The built-in model while it learns: its two towers, their words and pixels, and what it is asked.

``train_builtin`` is the recipe that uses these; the finished model is plain transformers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedTokenizerBase,
    ResNetConfig,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
)

from sightline.data.training.data import Source

VOCABULARY = 8_000
LONGEST_TEXT = 48  # tokens; the longest scene caption is well below
DIMENSION = 256  # of the shared space
MEAN, STD = (0.48, 0.45, 0.41), (0.26, 0.26, 0.27)  # of the photographs, about


def build_tokenizer(texts: Iterable[str], folder: Path) -> PreTrainedTokenizerBase:
    """A lower-casing WordPiece tokenizer of the words in ``texts``, kept in ``folder``."""
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    trainer.save_model(str(folder))
    tokenizer = BertTokenizer(
        vocab=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=LONGEST_TEXT
    )
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def build_model(tokenizer: PreTrainedTokenizerBase) -> VisionTextDualEncoderModel:
    """An untrained model: a small residual network and a small BERT with one shared space.

    Plain 3 x 3 convolutions use a CPU's bfloat16 units best (300 GFLOP/s on two cores, where
    depthwise designs reach 60 to 170), and wide and shallow learns faster than deep: top-1 on
    held-out pictures after equal, very short training (300 CPU seconds) was .211 for widths 64 to
    512 with one block a stage, .152 for 48 to 384 with two, .185 for three stages 64 to 320 with
    two, .151 for a RegNet of the same cost. The second block of the third stage is for longer
    runs, where depth should count for more; that was not measured.
    """
    widths = [64, 128, 256, 512]
    vision = ResNetConfig(
        embedding_size=48,
        hidden_sizes=widths,
        depths=[1, 1, 2, 1],
        layer_type="basic",
        hidden_size=widths[-1],  # where VisionTextDualEncoderModel reads the width
    )
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=768,
        max_position_embeddings=LONGEST_TEXT,
        type_vocab_size=2,
        pad_token_id=tokenizer.pad_token_id,
        # Dropping words (see word_dropped) regularises as well and costs nothing.
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        vision, text, projection_dim=DIMENSION, logit_scale_init_value=math.log(1 / 0.07)
    )
    return VisionTextDualEncoderModel(config)


def image_features(model: VisionTextDualEncoderModel, pictures: Tensor) -> Tensor:
    """Normalised pixels (n, 3, size, size) -> unit vectors (n, DIMENSION)."""
    pooled = model.vision_model(pictures).pooler_output.flatten(1)
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_features(
    model: VisionTextDualEncoderModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> Tensor:
    """Sentences -> unit vectors (n, DIMENSION).

    In groups of like length: class names are a few tokens, captions twenty, and padding the one to
    the other costs more than the image tower.
    """
    lengths = [len(text) for text in texts]
    order = sorted(range(len(texts)), key=lengths.__getitem__)
    parts = []
    for start in range(0, len(order), 96):
        tokens = tokenizer(
            [texts[row] for row in order[start : start + 96]],
            padding=True,
            truncation=True,
            max_length=LONGEST_TEXT,
            return_tensors="pt",
        ).to(model.device)
        parts.append(model.get_text_features(**tokens).pooler_output.float())
    back = torch.tensor(order, device=model.device).argsort()
    return F.normalize(torch.cat(parts)[back], dim=-1)


def normalised(pictures: Tensor) -> Tensor:
    """Pixels in 0..1 (n, 3, h, w) as the model wants them."""
    mean = torch.tensor(MEAN, device=pictures.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=pictures.device).view(1, 3, 1, 1)
    return ((pictures - mean) / std).contiguous(memory_format=torch.channels_last)


def resized(pixels: Tensor, size: int) -> Tensor:
    """Bytes (n, s, s, 3) -> 0..1 floats (n, 3, size, size)."""
    pictures = pixels.permute(0, 3, 1, 2).float() / 255
    if pictures.shape[-1] != size:
        pictures = F.interpolate(
            pictures, size=(size, size), mode="bicubic", antialias=True, align_corners=False
        ).clamp(0, 1)
    return pictures


def augmented(
    pixels: Tensor, size: int, *, mirrored: Tensor, smallest_area: float, colour: float
) -> Tensor:
    """Random crop, mirror and a little brightness and contrast, on the pixels' own device.

    Bytes (n, s, s, 3) and a bool (n,) that says which to mirror -> 0..1 floats (n, 3, size, size).
    """
    n, device = len(pixels), pixels.device
    # Shrunk first with a proper filter: the sampling below would alias.
    working = pixels.shape[1] if pixels.shape[1] <= 1.3 * size else round(1.15 * size)
    pictures = resized(pixels, working)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, device=device).uniform_(low, high)

    area = uniform(smallest_area, 1)
    stretch = uniform(-0.5, 0.5) * (1 - smallest_area)  # log of width over height
    width = (area.sqrt() * torch.exp(stretch / 2)).clamp(max=1)
    height = (area.sqrt() * torch.exp(-stretch / 2)).clamp(max=1)
    boxes = torch.zeros(n, 2, 3, device=device)
    boxes[:, 0, 0] = torch.where(mirrored, -width, width)
    boxes[:, 1, 1] = height
    boxes[:, 0, 2] = uniform(-1, 1) * (1 - width)
    boxes[:, 1, 2] = uniform(-1, 1) * (1 - height)
    grid = F.affine_grid(boxes, [n, 3, size, size], align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)

    gain = (1 + uniform(-colour, colour)).view(n, 1, 1, 1)
    shift = (0.5 * uniform(-colour, colour)).view(n, 1, 1, 1)
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    return ((pictures - mean) * gain + mean + shift).clamp(0, 1)


# --- learning ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """What a batch asks about some of its pictures: which of these texts belongs to which."""

    pictures: slice
    texts: slice | None  # none: this time only the auxiliary classifier is asked
    targets: Tensor  # (pictures, texts), rows sum to 1, or to 0 where a picture has no class
    both_ways: bool  # captions also look for their picture
    name: str  # of the source and level: which scale and which auxiliary classifier are its own
    contrasts: slice | None = None  # further texts that belong to none of the pictures


@dataclass(frozen=True)
class Batch:
    pictures: Tensor
    texts: list[str]
    questions: list[Question]


class Learner(nn.Module):
    """The model with what only training needs, which is left behind at export.

    Class names teach in three steps, since pictures and words that are both still noise teach one
    another next to nothing (.059 top-1 after 1,300 steps, .039 where a linear classifier on the
    same tower had .108): pictures learn a linear classifier and one *prototype* a class in the
    shared space, and the words of a class learn to stand where its prototype stands. Every source
    has temperatures of its own, since 200 classes and 50 captions want different ones.
    """

    def __init__(self, model: VisionTextDualEncoderModel, sources: Sequence[Source]) -> None:
        super().__init__()
        self.model = model
        width = model.config.vision_config.hidden_size
        self.names = {
            f"{source.name}-{depth}": level.names
            for source in sources
            for depth, level in enumerate(source.levels)
        }
        levels = {name: len(classes) for name, classes in self.names.items()}
        captioned = [source.name for source in sources if source.captions]
        self.classifiers = nn.ModuleDict(
            {name: nn.Linear(width, classes) for name, classes in levels.items()}
        )
        self.prototypes = nn.ParameterDict(
            {
                name: nn.Parameter(F.normalize(torch.randn(classes, DIMENSION), dim=-1))
                for name, classes in levels.items()
            }
        )
        self.scales = nn.ParameterDict(
            {name: nn.Parameter(torch.tensor(math.log(20.0))) for name in (*levels, *captioned)}
        )

    @torch.no_grad()
    def adopt(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Put every class's prototype where the model's words for that class already stand."""
        self.model.eval()
        for name, classes in self.names.items():
            means = [text_features(self.model, tokenizer, names).mean(dim=0) for names in classes]
            self.prototypes[name].copy_(F.normalize(torch.stack(means), dim=-1))

    def forward(self, batch: Batch, tokenizer: PreTrainedTokenizerBase) -> Tensor:
        """Softmax cross-entropy of every question, weighted by its number of pictures."""
        pooled = self.model.vision_model(batch.pictures).pooler_output.flatten(1)
        images = F.normalize(self.model.visual_projection(pooled).float(), dim=-1)
        words = text_features(self.model, tokenizer, batch.texts) if batch.texts else images[:0]
        total = images.new_zeros(())
        for question in batch.questions:
            targets = question.targets.to(images.device)
            scale = self.scales[question.name].clamp(0, math.log(100)).exp()
            mine, pictures = images[question.pictures], pooled[question.pictures]
            share = len(mine) / len(images)
            asked = words[question.texts] if question.texts is not None else None
            if question.both_ways and asked is not None:
                logits = scale * mine @ asked.T
                almost = logits[:, :0]
                if question.contrasts is not None:
                    almost = scale * mine @ words[question.contrasts].T
                wide = F.pad(targets, (0, almost.shape[1]))
                there = softmax_loss(torch.cat([logits, almost], dim=1), wide)
                back = softmax_loss(logits.T, targets)
                total = total + share * (there + back) / 2
                continue
            prototypes = F.normalize(self.prototypes[question.name], dim=-1)
            total = total + share * (
                softmax_loss(self.classifiers[question.name](pictures).float(), targets)
                + softmax_loss(scale * mine @ prototypes.T, targets)
            )
            if asked is not None:
                own = torch.eye(len(asked), device=asked.device)
                total = total + share * (
                    softmax_loss(scale.detach() * asked @ prototypes.detach().T, own)
                    + softmax_loss(scale * mine @ asked.T, targets)
                )
        return total


def softmax_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of rows of logits against distributions; rows of zeros ask nothing."""
    return -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()


def ease_backward(model: nn.Module) -> None:
    """Keep those convolutions in float32 whose bfloat16 gradient is slow on a CPU.

    oneDNN's backward pass of a 3 x 3 convolution with stride 2, or of a wide one on a map of 2 x 2,
    took 1.4 to 3 times longer in bfloat16 (256 pictures, 512 channels: .30 against .11 seconds),
    where everywhere else it takes half the time; together that was half of a step.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.kernel_size != (3, 3):
            continue
        if module.stride == (2, 2) or module.out_channels >= 512:
            exact = torch.autocast("cpu", enabled=False)
            plain = module.forward
            replaced = exact(lambda pictures, plain=plain: plain(pictures.float()))
            setattr(module, "forward", replaced)  # noqa: B010  (the weights keep their names)
