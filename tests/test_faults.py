"""A library survives whatever happens to the program and the disk while it is written.

``benchmarks/faults.py`` tries every call that writes; here are some of each kind, drawn by chance
but always the same.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.skipif(sys.platform != "linux", reason="calls are held by Linux's kernel")
def test_a_run_that_any_write_was_the_last_of_is_made_good_by_the_next() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--sample", "4", "--faults", "kill,full"]
    command += ["--act", "first run", "--act", "later run"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "8 x kill, 8 x full; 0 lost"
