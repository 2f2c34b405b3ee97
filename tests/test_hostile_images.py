"""Corrupt and malicious files are read or refused with a reason, without side effects."""

from __future__ import annotations

from pathlib import Path

import helpers_photos as files
import pytest

from sightline.indexer.errors import PhotoError
from sightline.indexer.files.walk import scan
from sightline.indexer.photo import Decoder
from sightline.indexer.types import Geometry, Photo

SMALL = Geometry(32, 32, 32)


def test_corrupt_files_are_read_or_refused_and_no_worker_dies(tmp_path: Path) -> None:
    files.write(tmp_path, dict(files.mutated(300, seed=7)))
    with Decoder(SMALL, workers=2) as decoder:
        first: set[int] = set()
        for candidate, outcome in decoder.photos(list(scan(tmp_path))):
            first = first or set(decoder.pids)
            if isinstance(outcome, PhotoError):
                reason = str(outcome)
                assert reason.startswith(("it ", "the file ")), f"{candidate.path}: {reason}"
                assert "\n" not in reason
                assert len(reason) < 300
            else:
                assert outcome.pixels.shape == (32, 32, 3)
        assert first <= set(decoder.pids)


def test_corrupt_bytes_are_read_or_refused() -> None:
    read = refused = 0
    with Decoder(SMALL) as decoder:
        for _, data in files.mutated(100, seed=8):
            try:
                read += isinstance(decoder.read_bytes(data), Photo)
            except PhotoError:
                refused += 1
    assert read + refused == 100
    assert refused > 10


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        (files.png(250_000_000, 1), "truncated"),
        (files.png(1, 250_000_001), "too large"),
        (files.png(60_000, 60_000), "too large"),
        (files.png(2**31 - 1, 2**31 - 1), "too large"),
        (files.png(0, 10), "corrupt|not an image|no pixels"),
    ],
    ids=["wide", "tall", "square", "largest", "none"],
)
def test_huge_sizes_in_headers_are_refused(data: bytes, outcome: str) -> None:
    with Decoder(SMALL) as decoder, pytest.raises(PhotoError, match=outcome):
        decoder.read_bytes(data)


def test_only_the_first_frame_of_an_animation_is_decoded() -> None:
    from PIL import Image

    frames = [Image.new("P", (500, 500), n) for n in range(200)]
    data = files.saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Decoder(SMALL, memory=64 * 2**20) as decoder:
        assert decoder.read_bytes(data).info.width == 500
