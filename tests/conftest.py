"""Fixtures that many tests share: a small real model, real pictures, a library of them."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from sightline.indexer.encoder import Encoder

sys.path.insert(0, str(Path(__file__).resolve().parent))

# `make test-openclip` has the package.
collect_ignore = [] if importlib.util.find_spec("open_clip") else ["test_open_clip.py"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background lets them ignore Ctrl-C, and with them every
    # program that they start and press Ctrl-C on.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_library_of_the_person_who_runs_the_tests(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test may touch a real library or ask the hub for anything."""
    monkeypatch.setenv("SIGHTLINE_LIBRARY", str(tmp_path_factory.getbasetemp() / "default-library"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real CLIP architecture of random weights: 32 dimensions, 32 pixels."""
    from helpers_models import build_clip

    return build_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_clip: Path) -> Encoder:
    """``tiny_clip``, loaded."""
    from sightline.indexer.encoder import Encoder

    return Encoder.load(str(tiny_clip), device="cpu")


@pytest.fixture(scope="session")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures`` (a drawn gallery) and their ``library``, by the built-in model."""
    from helpers_browser import make_gallery

    from sightline.server.cli import run

    place = tmp_path_factory.mktemp("gallery")
    make_gallery(place / "pictures")
    arguments = ["index", place / "pictures", "--library", place / "library", "--model", "builtin"]
    # One worker: the ids follow the order of the files.
    assert run([*map(str, arguments), "--quiet", "--workers", "1"]) == 0
    return place


@pytest.fixture(scope="module")
def address(gallery: Path) -> Iterator[str]:
    """Where the gallery is served."""
    from helpers_serving import serving

    with serving("--library", gallery / "library") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. One a module: another test in this process may start its own."""
    from helpers_serving import FLAGS, chromium
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # as long as for actions; a busy machine needs more than 5 s
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page at a desk, its first pictures shown."""
    from helpers_browser import open_page, tiles

    permissions = ["clipboard-read", "clipboard-write"]
    with open_page(browser, address, accept_downloads=True, permissions=permissions) as page:
        tiles(page).first.wait_for()
        yield page
