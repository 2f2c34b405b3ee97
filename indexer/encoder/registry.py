"""The table of models that ``--model`` knows by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Languages = Literal["en", "zh", "multilingual", "unknown"]

RECALL_SOURCE = "https://docs.immich.app/features/searching"
"""Source of ``ModelInfo.recall``."""


@dataclass(frozen=True)
class ModelInfo:
    """A model, with the facts to choose it by."""

    name: str
    """The value of ``--model``."""
    repo: str | None
    """Id on the Hugging Face hub; None for the built-in model."""
    dimension: int
    """Of its embeddings."""
    parameters: int
    """Millions, both towers together."""
    download_mb: int
    """Megabytes of its float32 weights; 0 for the built-in model."""
    licence: str
    """As the model's page or its authors' repository states it."""
    note: str
    """When to choose it, one line."""
    image_size: int = 224
    """Width and height of its input, in pixels; with ``any_shape``, of a square image's."""
    any_shape: bool = False
    """Whether its input has nearly the image's aspect ratio; else it is square."""
    languages: Languages = "en"
    recall: float | None = None
    """Mean of text-to-image recall@1, @5 and @10 on Crossmodal-3600, English, in percent, from
    ``RECALL_SOURCE``; None if it is not listed there."""
    caption_cosine: float | None = None
    """Cosine from which a caption of everyday photos is said of an image, where measured
    (``docs/labels.md``)."""
    templates: str = "imagenet"
    """Name of its default prompt templates (``zero_shot.prompts.TEMPLATES``)."""

    @property
    def id(self) -> str:
        """The id that a library stores: the hub id, or ``builtin``."""
        return self.repo or self.name


DEFAULT = "laion-b32"
"""Nine points of recall more than OpenAI's model of the same size."""

BUILTIN = "builtin"

MODELS: tuple[ModelInfo, ...] = (
    ModelInfo(
        name="builtin",
        repo=None,
        dimension=256,
        image_size=224,
        parameters=11,
        download_mb=0,
        languages="en",
        licence="MIT",
        note="needs no network; finds everyday things in photos, far below the others in quality",
        caption_cosine=0.4,
        templates="plain",
    ),
    ModelInfo(
        name="laion-b32",
        repo="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        dimension=512,
        parameters=151,
        download_mb=605,
        licence="MIT",
        note="the default: good and fast in English",
        recall=68.8,
    ),
    ModelInfo(
        name="datacomp-b32",
        repo="laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        dimension=512,
        image_size=256,
        parameters=151,
        download_mb=605,
        licence="MIT",
        note="as fast as the default, trained on better data, slightly larger images",
    ),
    ModelInfo(
        name="datacomp-l14",
        repo="laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        dimension=768,
        parameters=428,
        download_mb=1711,
        licence="MIT",
        note="large, trained on better data; a permissive licence",
    ),
    ModelInfo(
        name="openai-b32",
        repo="openai/clip-vit-base-patch32",
        dimension=512,
        parameters=151,
        download_mb=605,
        licence="MIT",
        note="the original CLIP; laion-b32 finds more at the same cost",
        recall=59.4,
    ),
    ModelInfo(
        name="openai-l14",
        repo="openai/clip-vit-large-patch14",
        dimension=768,
        parameters=428,
        download_mb=1711,
        licence="MIT",
        note="the larger original CLIP",
    ),
    ModelInfo(
        name="laion-h14",
        repo="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dimension=1024,
        parameters=986,
        download_mb=3945,
        licence="MIT",
        note="large; needs a GPU",
        recall=71.3,
    ),
    ModelInfo(
        name="dfn5b-h14",
        repo="apple/DFN5B-CLIP-ViT-H-14-378",
        dimension=1024,
        image_size=378,
        parameters=987,
        download_mb=3947,
        licence="Apple AMLR",
        note="best in English; needs a GPU; for research",
        recall=75.7,
    ),
    ModelInfo(
        name="mobileclip2-s2",
        repo="timm/MobileCLIP2-S2-OpenCLIP",
        dimension=512,
        image_size=256,
        parameters=99,
        download_mb=397,
        licence="Apple AMLR",
        note="small and quick on laptops; for research; needs the extra openclip",
    ),
    ModelInfo(
        name="mobileclip2-s4",
        repo="timm/MobileCLIP2-S4-OpenCLIP",
        dimension=768,
        image_size=256,
        parameters=445,
        download_mb=1782,
        licence="Apple AMLR",
        note="the largest MobileCLIP2; for research; needs the extra openclip",
    ),
    ModelInfo(
        name="pe-core-b16",
        repo="timm/PE-Core-B-16",
        dimension=1024,
        parameters=448,
        download_mb=1791,
        licence="Apache-2.0",
        note="Perception Encoder; needs the extra openclip",
    ),
    ModelInfo(
        name="pe-core-l14",
        repo="timm/PE-Core-L-14-336",
        dimension=1024,
        image_size=336,
        parameters=671,
        download_mb=2685,
        licence="Apache-2.0",
        note="Perception Encoder, large; needs a GPU and the extra openclip",
    ),
    ModelInfo(
        name="metaclip-b32",
        repo="facebook/metaclip-b32-fullcc2.5b",
        dimension=512,
        parameters=151,
        download_mb=605,
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, small; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-b16",
        repo="facebook/metaclip-b16-fullcc2.5b",
        dimension=512,
        parameters=150,
        download_mb=599,
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, small patches: sharper and four times slower; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-l14",
        repo="facebook/metaclip-l14-fullcc2.5b",
        dimension=768,
        parameters=428,
        download_mb=1711,
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, large; not for commercial use",
    ),
    ModelInfo(
        name="metaclip-h14",
        repo="facebook/metaclip-h14-fullcc2.5b",
        dimension=1024,
        parameters=986,
        download_mb=3945,
        licence="CC-BY-NC-4.0",
        note="MetaCLIP, huge; needs a GPU; not for commercial use",
    ),
    ModelInfo(
        name="metaclip2-h14",
        repo="facebook/metaclip-2-worldwide-huge-quickgelu",
        dimension=1024,
        parameters=1859,
        download_mb=7437,
        languages="multilingual",
        licence="CC-BY-NC-4.0",
        note="MetaCLIP 2, over 300 languages; needs a GPU; not for commercial use",
    ),
    ModelInfo(
        name="siglip-b16",
        repo="google/siglip-base-patch16-224",
        dimension=768,
        parameters=203,
        download_mb=813,
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
        parameters=375,
        download_mb=1501,
        languages="multilingual",
        licence="Apache-2.0",
        note="best quality that is comfortable on a CPU; many languages",
        recall=75.2,
        templates="siglip",
    ),
    ModelInfo(
        name="siglip2-b16-naflex",
        repo="google/siglip2-base-patch16-naflex",
        dimension=768,
        image_size=256,
        any_shape=True,
        parameters=375,
        download_mb=1501,
        languages="multilingual",
        licence="Apache-2.0",
        note="sees photos in their own shape: panoramas, screenshots, scans; many languages",
        templates="siglip",
    ),
    ModelInfo(
        name="siglip2-b16-384",
        repo="google/siglip2-base-patch16-384",
        dimension=768,
        image_size=384,
        parameters=376,
        download_mb=1503,
        languages="multilingual",
        licence="Apache-2.0",
        note="siglip2-b16 for small details: sharper and four times slower",
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
        note="large and sharp, many languages; needs a GPU",
        recall=74.9,
        templates="siglip",
    ),
    ModelInfo(
        name="chinese-clip-b16",
        repo="OFA-Sys/chinese-clip-vit-base-patch16",
        dimension=512,
        parameters=188,
        download_mb=753,
        languages="zh",
        licence="MIT",
        note="for searching in Chinese",
        templates="plain",
    ),
)
"""In the order of ``sightline models``."""


def find(name: str) -> ModelInfo | None:
    """The model of that name or hub id, in any case, or None."""
    key = name.casefold()
    return next((info for info in MODELS if key in (info.name, info.id.casefold())), None)


def similar(name: str) -> list[str]:
    """Names of models close to ``name``, closest first."""
    return difflib.get_close_matches(name.casefold(), [m.name for m in MODELS], n=3, cutoff=0.5)


def builtin_directory() -> Path:
    """The folder of the built-in model."""
    return Path(__file__).parents[2] / "data" / BUILTIN
