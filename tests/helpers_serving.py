"""``sightline serve`` as a separate process, the browser for its tests, and waiting for what a
server does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

TIMEOUT = 60.0
"""Seconds until a test gives up waiting."""


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether ``holds()`` becomes true within ``TIMEOUT`` seconds."""
    end, pause = time.monotonic() + TIMEOUT, threading.Event()
    while not holds():
        if time.monotonic() > end:
            return False
        pause.wait(0.02)
    return True


@contextmanager
def serving(*arguments: str | Path) -> Iterator[str]:
    """The URL of ``sightline serve`` with these arguments."""
    with serving_process(*arguments) as (address, _):
        yield address


@contextmanager
def serving_process(
    *arguments: str | Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """The URL and the process id."""
    command = [sys.executable, "-m", "sightline", "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=TOP,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **(environment or {})},
    ) as process:
        assert process.stderr is not None
        output = ""
        for line in process.stderr:
            output += line
            if found := re.search(r"at (http://\S+)", line):
                break
        else:
            raise AssertionError(f"the server did not start: {output}")
        reader = threading.Thread(target=process.stderr.read, daemon=True)
        reader.start()
        try:
            yield found[1], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            # Requests in progress have 20 seconds, and what the first search needs may be loading.
            process.wait(timeout=120)
            reader.join()
    assert process.returncode == 0, f"the server exited with {process.returncode}"


def get(address: str, path: str, **parameters: object) -> Any:
    """The JSON document at ``path``."""
    query = urllib.parse.urlencode(parameters)
    with urllib.request.urlopen(f"{address.rstrip('/')}{path}?{query}", timeout=60) as answer:
        return json.load(answer)


def chromium() -> str:
    """The path of Chromium."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "the browser tests need Chromium (Debian: apt-get install chromium)"
    return found
