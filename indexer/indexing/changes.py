"""Compares folders with the catalog.

A *scope* is a root, a folder below it, or a single file. The comparison tells which images are new,
changed, unchanged or missing, and whether so many are missing that the user must confirm their
deletion: an unmounted disk looks like a mass deletion.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sightline.indexer.errors import UsageError
from sightline.indexer.files import archives, sensitive, walk
from sightline.indexer.library.library import position_in
from sightline.indexer.types import Candidate, Failure, FileStamp, Known

MAX_MISSING = 0.2
"""Fraction of a scope's images that one run deletes without ``--prune``."""


@dataclass(frozen=True)
class Scope:
    """The part of one root that a run compares. ``below`` is ``""`` for all of it."""

    root: Path
    below: str = ""

    @property
    def path(self) -> Path:
        """The folder or file itself."""
        return self.root / self.below if self.below else self.root

    def holds(self, path: str) -> bool:
        """Whether ``path``, relative to the root, is in this scope."""
        return not self.below or path == self.below or path.startswith(self.below + "/")


@dataclass
class Comparison:
    """One scope compared with the catalog."""

    scope: Scope
    new: list[Candidate] = field(default_factory=list)
    changed: list[tuple[int, Candidate]] = field(default_factory=list)
    """``(image id, file)``."""
    outdated: list[tuple[int, Candidate]] = field(default_factory=list)
    """Images whose metadata has to be read again: a sidecar has changed, their file has not."""
    recognised: list[tuple[int, Candidate]] = field(default_factory=list)
    """The same among the images that were moved, copied or touched."""
    unchanged: int = 0
    unstamped: list[tuple[int, Candidate]] = field(default_factory=list)
    """``(image id, file)`` of unchanged files whose ctime or inode is to be stored."""
    still_failing: int = 0
    """Files that could not be read before and have not changed since."""
    gone: dict[str, Known] = field(default_factory=dict)
    """Images in the catalog whose files do not exist now, by path."""
    gone_failures: list[str] = field(default_factory=list)
    unreadable: list[Failure] = field(default_factory=list)
    """Folders that could not be listed and names that cannot be stored."""
    known: int = 0
    """Images of this scope in the catalog, without those whose files were never read."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Files of each suffix that is not supported, and folders that ``.nomedia`` leaves out."""
    missing: bool = False
    """The folder itself does not exist."""
    found: int = 0
    """Files that may be images, and folders that could not be listed."""

    def why_held_back(self, gone: int) -> str | None:
        """The warning if ``gone`` images are too many to delete without ``--prune``, else None."""
        if self.missing and self.known:
            return (
                f"{self.scope.path} is not there (a disk not mounted?): its {self.known:,} images"
                " stay in the library. Moved? `sightline roots --move OLD NEW`. Gone for good?"
                " index it again with --prune"
            )
        if gone and gone > self.known * MAX_MISSING:
            return (
                f"{gone:,} of {self.known:,} images of {self.scope.path} are not there now, more"
                " than a fifth at once: nothing was removed. If that is right, run again with"
                " --prune"
            )
        return None


def without_aliases(paths: Sequence[Path], roots: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """``paths`` (absolute), those that are another path of a folder in ``roots`` or of another of
    ``paths`` replaced by the path in there; and one line for each that was replaced, and for each
    of two ``roots`` that are one folder.

    Symlinks and bind mounts are recognised, so that no file becomes part of the library twice.
    """
    found: list[Path] = []
    notes: list[str] = []
    for number, path in enumerate(paths):
        # Of two paths of one folder the first is used; a folder and one inside it: the folder.
        others = [
            other
            for later, other in enumerate(paths)
            if other != path and (later < number or position_in(path, other) != "")
        ]
        replaced = path
        if not any(path.is_relative_to(root) for root in roots):
            for owner in (*roots, *others):
                below = position_in(owner, path)
                if below is not None and not path.is_relative_to(owner):
                    replaced = owner / below
                    notes.append(
                        f"{path} is another path of {replaced}, a folder of this library: its"
                        " images are indexed under that path only"
                    )
                    break
        found.append(replaced)
    for number, root in enumerate(roots):
        twin = next((other for other in roots[:number] if position_in(other, root) == ""), None)
        if twin is not None:
            notes.append(
                f"{root} is another path of {twin}, and both are folders of this library:"
                f" `sightline roots --forget {root}` removes the second entries of its images"
            )
    return found, notes


def scopes_of(
    paths: Sequence[Path], roots: Collection[Path], allow_roots: Collection[Path] = ()
) -> list[Scope]:
    """The scopes that the absolute ``paths`` name; each becomes part of one of ``roots`` if it is
    in one.

    UsageError for a path that neither exists nor is a root, for a file outside all roots, and for
    a sensitive folder (``files.sensitive``) that is not among ``allow_roots``. A
    path that is repeated, or below another one, is compared once.
    """
    scopes: list[Scope] = []
    for path in paths:
        owner = max(
            (root for root in roots if path.is_relative_to(root)),
            key=lambda root: len(root.parts),
            default=None,
        )
        if owner is not None:
            below = path.relative_to(owner).as_posix()
            scope = Scope(owner, "" if below == "." else below)
        elif path.is_dir() or (path.suffix.lower() == archives.SUFFIX and path.is_file()):
            scope = Scope(path)
        elif path.exists():
            raise UsageError(f"{path} is not a folder: name the folder that it is in")
        else:
            raise UsageError(f"there is no folder {path}")
        if owner is not None and scope.below and not path.exists():
            raise UsageError(f"there is no folder or file {path}")
        sensitive.refuse([scope.path], allow_roots)
        scopes.append(scope)
    return [
        scope
        for number, scope in enumerate(scopes)
        if not any(
            position_in(other.path, scope.path) or (scope.path == other.path and later < number)
            for later, other in enumerate(scopes)
            if later != number
        )
    ]


def compare(
    scope: Scope,
    known: Mapping[str, Known],
    failed: Mapping[str, FileStamp],
    *,
    exclude: Sequence[str] = (),
    retry_failures: bool = False,
    reread: bool = False,
    decode: bool = False,
    list_archive: walk.ListArchive,
    include_nomedia: bool = False,
    stop: walk.Stop | None = None,
) -> Comparison | None:
    """Compares the files in ``scope`` with ``known`` images and ``failed`` files of its root.

    ``decode``: an imported image that was not decoded yet counts as changed.
    ``reread``: every file counts as changed. Returns None if ``stop`` was set
    before the comparison was complete: what is missing is then unknown. ``list_archive`` lists the
    images in an archive.
    """
    result = Comparison(scope)
    images = {path: image for path, image in known.items() if scope.holds(path)}
    failures = {path: seen for path, seen in failed.items() if scope.holds(path)}
    # The file of an imported image may never have existed here: it cannot be missing.
    unseen = {path for path, image in images.items() if image.mtime_ns is None}
    result.known = len(images) - len(unseen)
    if not scope.path.exists():
        result.missing = True
        result.gone = {path: image for path, image in images.items() if path not in unseen}
        return result
    renumbered: list[tuple[int, Candidate]] = []
    for candidate in walk.scan(
        scope.root,
        below=scope.below,
        exclude=exclude,
        on_error=result.unreadable.append,
        list_archive=list_archive,
        include_nomedia=include_nomedia,
        on_left_out=lambda name: result.left_out.update([name]),
    ):
        if stop is not None and stop.is_set():
            return None
        result.found += 1
        image = images.pop(candidate.path, None)
        seen = FileStamp(candidate.size, candidate.mtime_ns, candidate.ctime_ns)
        if (
            image is not None
            and _is_same(FileStamp(image.size, image.mtime_ns, image.ctime_ns), seen)
            and (image.decoded or not decode)
            and not reread
        ):
            if candidate.inode is not None and image.inode not in (None, candidate.inode):
                renumbered.append((image.id, candidate))
                continue
            if candidate.ctime_ns is not None and image.ctime_ns is None:
                result.unstamped.append((image.id, candidate))
            if image.decoded and image.metadata_stamp != candidate.metadata_stamp:
                result.outdated.append((image.id, candidate))
            else:
                result.unchanged += 1
            continue
        failure = failures.pop(candidate.path, None)
        if failure is not None and _is_same(failure, seen) and not (retry_failures or reread):
            result.still_failing += 1
        elif image is not None:
            result.changed.append((image.id, candidate))
        else:
            result.new.append(candidate)
    # Network shares and FAT renumber their files at every mount: if most inodes differ, that
    # is no sign of a change.
    if len(renumbered) > result.unchanged + len(result.outdated):
        result.unchanged += len(renumbered)
        result.unstamped += renumbered
    else:
        result.changed += renumbered
    result.found += len(result.unreadable)
    for one in result.unreadable:
        failures.pop(one.path, None)
    # Below a folder that could not be listed, nothing is known to be missing.
    unlisted = [PurePosixPath(one.path) for one in result.unreadable]
    result.gone = {
        path: image
        for path, image in images.items()
        if path not in unseen
        and not any(PurePosixPath(path).is_relative_to(folder) for folder in unlisted)
    }
    result.gone_failures = [
        path
        for path in failures
        if not any(PurePosixPath(path).is_relative_to(folder) for folder in unlisted)
    ]
    return result


def _is_same(stored: FileStamp, seen: FileStamp) -> bool:
    """Whether a file is the one whose stamp was stored: an unknown ctime is not compared."""
    if None in (stored.ctime_ns, seen.ctime_ns):
        return stored[:2] == seen[:2]
    return stored == seen
