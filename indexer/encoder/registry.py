"""The named models: what they are called, how large they are, what they are good for.

``find`` also knows a model by its hub id. The figures are the mean of recall@1, @5 and @10 of
text-to-image retrieval on Crossmodal-3600 in English, as Immich's documentation gives them
(https://docs.immich.app/features/searching); a model it does not list has no figure. Sizes of
downloads are those of the float32 weights; licences are those that the models' pages or their
authors' repositories give.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Languages = Literal["en", "zh", "multilingual", "unknown"]

RECALL_SOURCE = "https://docs.immich.app/features/searching"
"""Where the retrieval figures come from."""


@dataclass(frozen=True)
class ModelInfo:
    """The facts about one model that a person chooses by."""

    name: str
    """What ``--model`` takes."""
    repo: str | None
    """Its id on the Hugging Face hub; None for the built-in model."""
    dimension: int
    """Of the embeddings."""
    image_size: int
    """Pixels on a side of what the model sees."""
    parameters: int
    """Millions, both towers together."""
    download_mb: int
    """Megabytes, fetched once; 0 for the built-in model."""
    languages: Languages
    licence: str
    note: str
    """One line: when to choose it."""
    recall: float | None = None
    """Mean of recall@1, @5, @10, percent, English, Crossmodal-3600; see ``RECALL_SOURCE``."""
    fits: float | None = None
    """Cosine from which a text fits a picture whatever the rest of the library is, where that was
    measured (``docs/evaluation.md``)."""

    templates: str = "imagenet"
    """The prompt templates (``prompts``) that labels are put into unless told otherwise."""

    @property
    def id(self) -> str:
        """What a library remembers: the hub id, or ``builtin``."""
        return self.repo or self.name


DEFAULT = "laion-b32"
"""Ten points of recall over OpenAI's model of the same size, at the same cost."""

BUILTIN = "builtin"

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="builtin",
        repo=None,
        dimension=256,
        image_size=64,
        parameters=10,
        download_mb=0,
        languages="en",
        licence="MIT",
        note="needs no network; for trying things out, far below the others in quality",
        fits=0.45,
        templates="plain",
    ),
    ModelInfo(
        name="laion-b32",
        repo="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        dimension=512,
        image_size=224,
        parameters=151,
        download_mb=605,
        languages="en",
        licence="MIT",
        note="the default: good and fast in English",
        recall=68.8,
    ),
    ModelInfo(
        name="openai-b32",
        repo="openai/clip-vit-base-patch32",
        dimension=512,
        image_size=224,
        parameters=151,
        download_mb=605,
        languages="en",
        licence="MIT",
        note="the original CLIP; laion-b32 finds more at the same cost",
        recall=59.4,
    ),
    ModelInfo(
        name="openai-l14",
        repo="openai/clip-vit-large-patch14",
        dimension=768,
        image_size=224,
        parameters=428,
        download_mb=1711,
        languages="en",
        licence="MIT",
        note="the larger original CLIP",
    ),
    ModelInfo(
        name="laion-h14",
        repo="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dimension=1024,
        image_size=224,
        parameters=986,
        download_mb=3945,
        languages="en",
        licence="MIT",
        note="large; wants a GPU",
        recall=71.3,
    ),
    ModelInfo(
        name="metaclip-b32",
        repo="facebook/metaclip-b32-fullcc2.5b",
        dimension=512,
        image_size=224,
        parameters=151,
        download_mb=605,
        languages="en",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, small; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-b16",
        repo="facebook/metaclip-b16-fullcc2.5b",
        dimension=512,
        image_size=224,
        parameters=150,
        download_mb=599,
        languages="en",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, small patches: sharper and four times slower; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-l14",
        repo="facebook/metaclip-l14-fullcc2.5b",
        dimension=768,
        image_size=224,
        parameters=428,
        download_mb=1711,
        languages="en",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, large; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-h14",
        repo="facebook/metaclip-h14-fullcc2.5b",
        dimension=1024,
        image_size=224,
        parameters=986,
        download_mb=3945,
        languages="en",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, huge; wants a GPU; not for commercial use",
    ),
    ModelInfo(
        name="metaclip2-h14",
        repo="facebook/metaclip-2-worldwide-huge-quickgelu",
        dimension=1024,
        image_size=224,
        parameters=1859,
        download_mb=7437,
        languages="multilingual",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP 2, over 300 languages; wants a GPU; not for commercial use",
    ),
    ModelInfo(
        name="siglip-b16",
        repo="google/siglip-base-patch16-224",
        dimension=768,
        image_size=224,
        parameters=203,
        download_mb=813,
        languages="en",
        licence="Apache-2.0",
        note="better than laion-b32, slower",
        recall=71.6,
        templates="siglip",
    ),
    ModelInfo(
        name="siglip2-b32",
        repo="google/siglip2-base-patch32-256",
        dimension=768,
        image_size=256,
        parameters=377,
        download_mb=1507,
        languages="multilingual",
        licence="Apache-2.0",
        note="many languages at nearly the default's speed",
        recall=73.2,
        templates="siglip",
    ),
    ModelInfo(
        name="siglip2-b16",
        repo="google/siglip2-base-patch16-224",
        dimension=768,
        image_size=224,
        parameters=375,
        download_mb=1501,
        languages="multilingual",
        licence="Apache-2.0",
        note="best quality that is comfortable on a CPU; many languages",
        recall=75.2,
        templates="siglip",
    ),
    ModelInfo(
        name="siglip2-so400m",
        repo="google/siglip2-so400m-patch14-384",
        dimension=1152,
        image_size=384,
        parameters=1136,
        download_mb=4544,
        languages="multilingual",
        licence="Apache-2.0",
        note="large and sharp, many languages; wants a GPU",
        templates="siglip",
    ),
    ModelInfo(
        name="chinese-clip-b16",
        repo="OFA-Sys/chinese-clip-vit-base-patch16",
        dimension=512,
        image_size=224,
        parameters=188,
        download_mb=753,
        languages="zh",
        licence="MIT",
        note="for searching in Chinese",
        templates="plain",
    ),
)
"""In the order in which ``sightline models`` shows them."""


def find(name: str) -> ModelInfo | None:
    """The model of that name or hub id, any case; None when there is none."""
    wanted = name.casefold()
    for info in MODELS:
        if wanted == info.name or (info.repo and wanted == info.repo.casefold()):
            return info
    return None


def similar(name: str) -> list[str]:
    """Names of known models that look like ``name``, the likeliest first."""
    return difflib.get_close_matches(name.casefold(), [m.name for m in MODELS], n=3, cutoff=0.5)


def builtin_directory() -> Path:
    """The folder of the built-in model."""
    return Path(__file__).parents[2] / "data" / BUILTIN
