"""Builds the wheel and the source distribution of what git tracks; the same commit gives the same
bytes.

python .ci/dist.py [FOLDER]
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent

BUILD = """
import os, sys, setuptools.build_meta as backend
os.umask(0o022)  # files that the build makes are in the wheel with their modes
folder = sys.argv[1]  # each call replaces sys.argv
backend.build_wheel(folder)
backend.build_sdist(folder)
"""


def build(folder: Path) -> list[Path]:
    """Writes the wheel and the source distribution to ``folder`` and returns their paths.

    Their times are ``$SOURCE_DATE_EPOCH``, or that of the last commit.
    """
    folder.mkdir(parents=True, exist_ok=True)
    moment = int(os.environ.get("SOURCE_DATE_EPOCH") or git("log", "-1", "--format=%ct"))
    with tempfile.TemporaryDirectory() as place:
        source, made = Path(place) / "source", Path(place) / "made"
        made.mkdir()
        for name in tracked():
            target = source / name
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.write_bytes((TOP / name).read_bytes())
            target.chmod(0o644)
        subprocess.run(
            [sys.executable, "-c", BUILD, str(made)],
            cwd=source,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(moment)},
            check=True,
            capture_output=True,
        )
        (wheel,), (sdist,) = made.glob("*.whl"), made.glob("*.tar.gz")
        found = [folder / wheel.name, folder / sdist.name]
        found[0].write_bytes(wheel.read_bytes())
        found[1].write_bytes(normalized(sdist, moment))
    return found


def normalized(archive: Path, moment: int) -> bytes:
    """A ``.tar.gz`` with sorted members that have no owner, and one time: setuptools writes those
    of the machine that builds."""
    out = io.BytesIO()
    with (
        tarfile.open(archive) as old,
        gzip.GzipFile("", "wb", fileobj=out, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime = moment
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.pax_headers = {}
            member.mode = 0o755 if member.isdir() else 0o644
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return out.getvalue()


def tracked() -> list[str]:
    """Paths of the files that git tracks, or would, and that exist."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return sorted(name for name in listed.split("\0") if name and (TOP / name).is_file())


def git(*arguments: str) -> str:
    """What git prints."""
    command = ["git", *arguments]
    return subprocess.run(command, cwd=TOP, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    for path in build(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")):
        print(path)
