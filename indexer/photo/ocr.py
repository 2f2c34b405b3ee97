"""Reads text in images with RapidOCR (the ``ocr`` extra), whose wheel contains its models.

A pass of the detector over a reduced image decides whether there is any text: most photos have
none. Lines that a model is unsure of, or that no person would write, are left out.
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

GATE_SIDE = 960
"""Pixels on the longer side of the image in which text is looked for first."""

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
        from rapidocr import RapidOCR

        threads = "EngineConfig.onnxruntime"
        self._engine: Any = RapidOCR(
            params={
                "Global.log_level": "critical",
                f"{threads}.intra_op_num_threads": 1,
                f"{threads}.inter_op_num_threads": 1,
            }
        )
        gate = RapidOCR(
            params={
                "Global.log_level": "critical",
                "Det.limit_type": "max",
                "Det.limit_side_len": GATE_SIDE,
                f"{threads}.intra_op_num_threads": 1,
                f"{threads}.inter_op_num_threads": 1,
            }
        )
        self._gate: Any = gate

    def read(self, image: Image.Image) -> list[TextLine]:
        """The lines of text in an upright RGB image, from the top to the bottom."""
        small = image.copy()
        small.thumbnail((GATE_SIDE, GATE_SIDE), Image.Resampling.BOX)
        found = self._gate(_bgr(small), use_cls=False, use_rec=False)
        if found.boxes is None or not len(found.boxes):
            return []
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
        found = self._engine(_bgr(image))
        if found.txts is None:
            return []
        lines = []
        for text, confidence, corners in zip(found.txts, found.scores, found.boxes, strict=True):
            clean = " ".join(text.split())[:MAX_LINE]
            if confidence >= MIN_CONFIDENCE and is_plausible(clean):
                lines.append(TextLine(clean, round(float(confidence), 3), _box(corners, image)))
        return in_reading_order(lines)[:MAX_LINES]


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
