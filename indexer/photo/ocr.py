"""Reads text in images with RapidOCR (the ``ocr`` extra), whose wheel contains its models.

Most photos have no text: a pass of the detector over a reduced image decides whether it is read
whole. Lines that a model is unsure of, or that no person would write, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from sightline.indexer.errors import UsageError
from sightline.indexer.installation import install_command
from sightline.indexer.types import TextLine

MAX_SIDE = 1600
"""Pixels on the longer side of the image that is read."""

GATE_SIDES = 736, 960
"""Least and most pixels on the longer side of the image in which text is looked for first. Without
enlargement, the detector missed a tenth of the photos of 400 x 533 with text."""

LARGE_BOX = 0.25
"""Of the image's area: three of four photos without text in which the detector finds something get
one box that is larger, mostly the whole photo."""

MIN_CONFIDENCE = 0.8
"""Of a line. In 16 photos without text, patterns were read with up to 0.71."""

MIN_CHARACTERS = 3
"""Letters and digits of a line: shorter ones are mostly edges and buttons."""

MIN_RATIO = 0.6
"""Letters and digits of a line, of its characters without spaces."""

MAX_LINES, MAX_LINE = 1000, 500
"""Lines of an image, and characters of a line."""

_WRITTEN = re.compile(r"[^\W_]")
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{2}")
"""Two characters of Chinese, Japanese or Korean are a word."""


def engine_name() -> str:
    """The engine and its version, stored with what it read. Raises ``UsageError`` without it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"rapidocr {version('rapidocr')}"
    except PackageNotFoundError as error:
        raise UsageError(
            f"text in images is read by the extra ocr: {install_command('ocr')}"
        ) from error


class TextReader:
    """The models in memory, on one thread: loaded in 0.8 s of CPU time."""

    def __init__(self) -> None:
        self._engine = _rapidocr()
        self._gate = _rapidocr({"Det.limit_type": "max", "Det.limit_side_len": GATE_SIDES[1]})

    def read(self, image: Image.Image) -> list[TextLine]:
        """The lines of text in an upright RGB image, from the top to the bottom."""
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
        if not self._may_have_text(image):
            return []
        found = self._engine(_bgr(image))
        if found.txts is None:
            return []
        lines = []
        for text, confidence, corners in zip(found.txts, found.scores, found.boxes, strict=True):
            clean = " ".join(text.split())[:MAX_LINE]
            if confidence >= MIN_CONFIDENCE and is_plausible(clean):
                lines.append(TextLine(clean, round(float(confidence), 3), _box(corners, image)))
        return in_reading_order(lines)[:MAX_LINES]

    def _may_have_text(self, image: Image.Image) -> bool:
        """Whether there is a box of the size of text, or a large one that is legible as a line."""
        side = max(image.size)
        scale = min(max(side, GATE_SIDES[0]), GATE_SIDES[1]) / side
        size = round(image.width * scale), round(image.height * scale)
        sharp = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
        small = image.resize(size, sharp)
        pixels = _bgr(small)
        boxes = self._gate(pixels, use_cls=False, use_rec=False).boxes
        if boxes is None:
            return False
        sides = np.linalg.norm(boxes[:, [1, 3]] - boxes[:, [0]], axis=2)
        if (sides.prod(axis=1) <= LARGE_BOX * small.width * small.height).any():
            return True
        crops = self._engine.crop_text_regions(pixels, boxes.astype(np.float32))
        upright, _ = self._engine.cls_and_rotate(crops)
        return max(self._engine.recognize_txt(upright).scores) >= MIN_CONFIDENCE


def _rapidocr(params: dict[str, Any] | None = None) -> Any:
    """RapidOCR on one thread. onnxruntime's arena would save a fifth of the time, but it takes
    1.2 GB and more address space than a worker has."""
    from rapidocr import RapidOCR

    onnxruntime = "EngineConfig.onnxruntime"
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            f"{onnxruntime}.intra_op_num_threads": 1,
            f"{onnxruntime}.inter_op_num_threads": 1,
            **(params or {}),
        }
    )


def is_plausible(text: str) -> bool:
    """Whether a person may have written this line."""
    written = len(_WRITTEN.findall(text))
    if written < MIN_CHARACTERS and not _WITHOUT_SPACES.search(text):
        return False
    return written >= MIN_RATIO * len(text.replace(" ", ""))


def in_reading_order(lines: Sequence[TextLine]) -> list[TextLine]:
    """``lines`` row by row from the top, each row from the left. Lines are of one row if the middle
    of one is within the height of the other. RapidOCR takes ten pixels for a row, which is more
    than the distance of small lines."""
    rows: list[list[TextLine]] = []
    for line in sorted(lines, key=lambda line: line.box[1] + line.box[3]):
        _, top, _, bottom = line.box
        middle = (top + bottom) / 2
        if rows and rows[-1][0].box[1] <= middle <= rows[-1][0].box[3]:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda line: line.box[0])]


def _bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _box(corners: np.ndarray, image: Image.Image) -> tuple[float, float, float, float]:
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    edges = (left / image.width, top / image.height, right / image.width, bottom / image.height)
    left, top, right, bottom = (round(min(max(float(edge), 0.0), 1.0), 4) for edge in edges)
    return left, top, right, bottom
