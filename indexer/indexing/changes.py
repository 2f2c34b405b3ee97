"""What one run looks at: the part of a root that a person named, and what is there now.

A *scope* is a root, a folder below it, or a single file. Comparing a scope with the catalog says
which pictures are new, changed, unchanged or gone, and whether so many are gone that a person must
confirm it: an unmounted disk looks just like a mass deletion.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from sightline.indexer.errors import UsageError
from sightline.indexer.files import archives, walk
from sightline.indexer.types import Candidate, Failure, Known

LARGEST_LOSS = 0.2
"""Share of a scope's pictures that may be gone at once without ``--prune``."""


@dataclass(frozen=True)
class Scope:
    """The part of one root that a run looks at. ``below`` is ``""`` for all of it."""

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
class Survey:
    """One scope compared with the catalog."""

    scope: Scope
    new: list[Candidate] = field(default_factory=list)
    changed: list[tuple[int, Candidate]] = field(default_factory=list)
    """With the id of the image it was."""
    unchanged: int = 0
    still_failing: int = 0
    """Files that could not be read before and have not changed since."""
    gone: dict[str, Known] = field(default_factory=dict)
    """Pictures of the catalog that are not there now, by path."""
    gone_failures: list[str] = field(default_factory=list)
    unreadable: list[Failure] = field(default_factory=list)
    """Folders that could not be listed and names that cannot be stored."""
    known: int = 0
    """Pictures of this scope in the catalog before the run."""
    missing: bool = False
    """The folder itself is not there."""
    found: int = 0
    """Files that may be pictures, and what could not be looked at."""

    def why_held_back(self, gone: int) -> str | None:
        """The line to show when ``gone`` pictures are too many to remove unasked, else None."""
        if self.missing and self.known:
            return (
                f"{self.scope.path} is not there (a disk not mounted?): its {self.known:,} pictures"
                " stay in the library. Moved? `sightline roots --move OLD NEW`. Gone for good?"
                " index it again with --prune"
            )
        if gone and gone > self.known * LARGEST_LOSS:
            return (
                f"{gone:,} of {self.known:,} pictures of {self.scope.path} are not there now, more"
                " than a fifth at once: nothing was removed. If that is right, run again with"
                " --prune"
            )
        return None


def scopes_of(paths: Sequence[Path], roots: Collection[Path]) -> list[Scope]:
    """What ``paths`` (absolute) name, as parts of known ``roots`` where they lie in one.

    A path that is neither there nor known is a UsageError, and so is a file outside all roots: a
    root is a folder. A path named twice, or lying in another one named, is looked at once.
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
        scopes.append(scope)
    return [
        scope
        for number, scope in enumerate(scopes)
        if not any(
            scope.path.is_relative_to(other.path) and (scope.path != other.path or later < number)
            for later, other in enumerate(scopes)
            if later != number
        )
    ]


def survey(
    scope: Scope,
    known: Mapping[str, Known],
    failed: Mapping[str, tuple[int, int]],
    *,
    exclude: Sequence[str] = (),
    retry_failures: bool = False,
    stop: walk.Stop | None = None,
) -> Survey | None:
    """Compares what is in ``scope`` now with ``known`` images and ``failed`` files of its root.

    ``failed`` maps a path to (size, mtime_ns) when it failed. Returns None when ``stop`` was set
    before the scope was looked at whole, since then nothing can be said of what is gone.
    """
    result = Survey(scope)
    images = {path: image for path, image in known.items() if scope.holds(path)}
    failures = {path: seen for path, seen in failed.items() if scope.holds(path)}
    # What was imported and never seen as a file cannot be missed, only turn up.
    unseen = {path for path, image in images.items() if not image.mtime_ns}
    result.known = len(images) - len(unseen)
    if not scope.path.exists():
        result.missing = True
        result.gone = {path: image for path, image in images.items() if path not in unseen}
        return result
    for candidate in walk.scan(
        scope.root,
        below=scope.below,
        exclude=exclude,
        on_error=result.unreadable.append,
        include_archives=True,
    ):
        if stop is not None and stop.is_set():
            return None
        result.found += 1
        image = images.pop(candidate.path, None)
        seen = (candidate.size, candidate.mtime_ns)
        if image is not None:
            if (image.size, image.mtime_ns) == seen:
                result.unchanged += 1
            elif failures.pop(candidate.path, None) == seen and not retry_failures:
                result.still_failing += 1
            else:
                result.changed.append((image.id, candidate))
        elif failures.pop(candidate.path, None) == seen and not retry_failures:
            result.still_failing += 1
        else:
            result.new.append(candidate)
    result.found += len(result.unreadable)
    for failure in result.unreadable:
        failures.pop(failure.path, None)
    # What lies below a folder that could not be listed is not gone: it was not looked at.
    blind = [PurePosixPath(failure.path) for failure in result.unreadable]
    result.gone = {
        path: image
        for path, image in images.items()
        if path not in unseen
        and not any(PurePosixPath(path).is_relative_to(folder) for folder in blind)
    }
    result.gone_failures = [
        path
        for path in failures
        if not any(PurePosixPath(path).is_relative_to(folder) for folder in blind)
    ]
    return result
