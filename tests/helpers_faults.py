"""Faults on demand: a program is stopped at a system call of its choosing that would write.

The kernel is asked (seccomp user notification, Linux 5.5 and newer; no privilege is needed) to hold
a process before every call that changes a file, and to tell this program, which answers: go on,
fail with an error number, or be killed. So each step that writes, SQLite's and FAISS's among them,
can be the last one, and a disk can be full from any of them on. Nothing of the program under test
is replaced.

    seen = watch(work, folder)                              # every write below ``folder``
    watch(work, folder, Fault("kill", 17))                  # SIGKILL instead of the 17th
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["kill", "torn", "full", "broken"]
"""What happens at the chosen call, and after it.

``kill``    SIGKILL instead of it
``torn``    the first half of what it would write is written, then SIGKILL
``full``    ENOSPC, for it and for every later call that needs space; other calls go on
``broken``  EIO, for this call alone
"""

# The numbers of the calls, and where their arguments tell the file: a descriptor, or a path.
_X86, _ARM = 0, 1
CALLS: dict[str, tuple[int | None, int | None, str, int]] = {
    "write": (1, 64, "descriptor", 0),
    "pwrite64": (18, 68, "descriptor", 0),
    "writev": (20, 66, "descriptor", 0),
    "pwritev": (296, 70, "descriptor", 0),
    "sendfile": (40, 71, "descriptor", 0),
    "copy_file_range": (326, 285, "descriptor", 2),
    "ftruncate": (77, 46, "descriptor", 0),
    "fallocate": (285, 47, "descriptor", 0),
    "fsync": (74, 82, "descriptor", 0),
    "fdatasync": (75, 83, "descriptor", 0),
    "truncate": (76, 45, "path", 0),
    "rename": (82, None, "path", 1),
    "renameat": (264, 38, "path", 3),
    "renameat2": (316, 276, "path", 3),
    "unlink": (87, None, "path", 0),
    "unlinkat": (263, 35, "path", 1),
    "mkdir": (83, None, "path", 0),
    "mkdirat": (258, 34, "path", 1),
    "open": (2, None, "path", 0),
    "openat": (257, 56, "path", 1),
}
NEEDS_SPACE = {
    *("write", "pwrite64", "writev", "pwritev", "sendfile", "copy_file_range", "fallocate"),
    *("mkdir", "mkdirat", "open", "openat"),
}
"""What a full disk refuses. (Growing by ``ftruncate`` makes a hole, which takes none.)"""

_MACHINE = {"x86_64": (_X86, 0xC000003E), "aarch64": (_ARM, 0xC00000B7)}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_RECEIVE, _SEND, _VALID = 0xC0502100, 0xC0182101, 0x40082102
_GO_ON = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")


@dataclass(frozen=True)
class Call:
    """One call that writes below the folder that is watched."""

    number: int
    name: str
    file: str
    """Relative to the folder."""

    def __str__(self) -> str:
        return f"{self.number} {self.name} {self.file}"


@dataclass(frozen=True)
class Fault:
    """What is to happen at the ``at``-th call (from 1)."""

    kind: Kind
    at: int


@dataclass
class Outcome:
    """How the work ended."""

    calls: list[Call] = field(default_factory=list)
    killed: bool = False
    said: str = ""
    """What ``work`` raised: empty when it came to its end."""


def watch(work: Callable[[], object], folder: Path, fault: Fault | None = None) -> Outcome:
    """Does ``work`` in a forked child and holds it at every call that writes below ``folder``.

    An exception of ``work`` comes back as ``said``: the line of one of the project's own errors,
    the whole trace of any other.
    """
    mine, theirs = socket.socketpair()
    sys.stdout.flush()
    sys.stderr.flush()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _in_child(work, theirs, write)
    theirs.close()
    os.close(write)
    try:
        _, [listener], _, _ = socket.recv_fds(mine, 1, 1)
    except ValueError:
        os.waitpid(child, 0)
        with os.fdopen(read) as pipe:
            raise RuntimeError(f"calls cannot be watched here: {pipe.read()}") from None
    outcome = Outcome()
    mine.close()
    try:
        _answer(listener, child, folder.resolve(), fault, outcome)
    finally:
        os.close(listener)
    with os.fdopen(read, encoding="utf-8", errors="replace") as pipe:
        outcome.said = pipe.read()
    _, status = os.waitpid(child, 0)
    outcome.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not outcome.killed and status and not outcome.said:
        outcome.said = f"it ended with status {status}"
    return outcome


def _in_child(work: Callable[[], object], to: socket.socket, say: int) -> None:
    status = 1
    try:
        socket.send_fds(to, [b"x"], [_listen()])
        to.close()
        work()
        status = 0
    except BaseException as error:
        from sightline.indexer.errors import SightlineError

        ours = isinstance(error, SightlineError)
        text = f"{type(error).__name__}: {error}" if ours else traceback.format_exc()
        os.write(say, text.encode("utf-8", "replace"))
    finally:
        os._exit(status)


def _listen() -> int:
    """Has the kernel tell of every call in ``CALLS`` of this process and its children; the
    descriptor on which it does."""
    place, machine = _MACHINE[platform.machine()]
    numbers = [(name, call[place]) for name, call in CALLS.items() if call[place] is not None]
    load, equal, bits, back = 0x20, 0x15, 0x45, 0x06
    notify, allow = 0x7FC00000, 0x7FFF0000
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), (back, 0, 0, allow), (load, 0, 0, 0)]
    for name, number in numbers:
        if name in ("open", "openat"):  # only those that may make or empty a file
            flags = 16 + 8 * (1 if name == "open" else 2)
            creates = os.O_CREAT | os.O_TRUNC
            program += [(equal, 0, 4, number), (load, 0, 0, flags), (bits, 0, 1, creates)]
            program += [(back, 0, 0, notify), (back, 0, 0, allow)]
        else:
            program += [(equal, 0, 1, number), (back, 0, 0, notify)]
    program.append((back, 0, 0, allow))
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    held = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("@HP", len(program), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER
    listener = libc.syscall(_SECCOMP[platform.machine()], 1, 8, filter_)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "the kernel has no seccomp user notification")
    return int(listener)


def _answer(listener: int, child: int, folder: Path, fault: Fault | None, outcome: Outcome) -> None:
    """Answers the kernel until the child and all its children have ended."""
    place, _ = _MACHINE[platform.machine()]
    names = {call[place]: name for name, call in CALLS.items() if call[place] is not None}
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    full = False
    while True:
        [(_, event)] = poll.poll()
        if not event & select.POLLIN:
            return
        held = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, held)
        except OSError:  # killed before it could be told
            continue
        id_, pid, _, number, _, _, *arguments = _NOTIFICATION.unpack(held)
        name = names[number]
        error = 0
        file = _file(pid, name, arguments)
        if file is not None and (file == folder or folder in file.parents):
            outcome.calls.append(Call(len(outcome.calls) + 1, name, str(file.relative_to(folder))))
            if fault is not None and len(outcome.calls) == fault.at:
                if fault.kind in ("kill", "torn"):
                    if fault.kind == "torn":
                        _half(pid, name, arguments)
                    os.kill(child, signal.SIGKILL)
                    continue
                error = errno.EIO if fault.kind == "broken" else 0
                full = fault.kind == "full"
            if full and name in NEEDS_SPACE:
                error = errno.ENOSPC
        answer = _ANSWER.pack(id_, 0, -error, 0 if error else _GO_ON)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, answer)


def _file(pid: int, name: str, arguments: list[int]) -> Path | None:
    """The file that a call is about; None where it is none."""
    _, _, how, which = CALLS[name]
    try:
        if how == "descriptor":
            target = str(Path(f"/proc/{pid}/fd/{arguments[which]}").readlink())
            return Path(target) if target.startswith("/") else None
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(arguments[which])
            text = memory.read(1024).split(b"\0")[0]
        path = Path(os.fsdecode(text))
        return path if path.is_absolute() else Path(f"/proc/{pid}/cwd").readlink() / path
    except OSError:  # it has gone
        return None


def _half(pid: int, name: str, arguments: list[int]) -> None:
    """Writes the first half of what ``write`` or ``pwrite64`` was to write."""
    if name not in ("write", "pwrite64"):
        return
    descriptor, address, size, *offset = arguments
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        memory.seek(address)
        data = memory.read(size // 2)
    with Path(f"/proc/{pid}/fdinfo/{descriptor}").open() as facts:
        place = int(facts.readline().split()[1])
    with Path(f"/proc/{pid}/fd/{descriptor}").open("r+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, offset[0] if name == "pwrite64" else place)
