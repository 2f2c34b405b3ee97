"""A library survives any fault of the program and the disk while it is written.

``benchmarks/faults.py`` tries every call that writes; this test tries a fixed random sample.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="calls are held by Linux's kernel")
def test_a_run_recovers_from_a_fault_at_any_write_of_the_last_one() -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--sample", "4", "--faults", "kill,full"]
    command += ["--act", "first run", "--act", "later run"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=TOP)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "8 x kill, 8 x full; 0 lost"


def test_the_parts_of_a_sweep_try_every_point_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOP)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the module sets
    faults = importlib.import_module("benchmarks.faults")
    acts = [[(kind, at) for kind in ("kill", "torn") for at in range(n)] for n in (1, 40, 7)]
    tried = []
    for number in (1, 2, 3):
        part = faults.Part.parse(f"{number}/3")
        tried += [(act, *point) for act, points in enumerate(acts) for point in part.take(points)]
        assert (part.taken, part.seen) == (32, 96)
    assert sorted(tried) == sorted((act, *p) for act, points in enumerate(acts) for p in points)
