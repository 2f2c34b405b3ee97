"""``index_folders``: open or create a library, load its model, index folders, watch them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from sightline.indexer.encoder import registry
from sightline.indexer.errors import LibraryBusyError, LibraryError, ModelMismatchError, UsageError
from sightline.indexer.files.watch import QUIET, changes, nearest_existing
from sightline.indexer.indexing.changes import scopes_of
from sightline.indexer.indexing.encoders import encoder_for, load_encoder
from sightline.indexer.indexing.read_texts import read_texts
from sightline.indexer.indexing.run import update_library
from sightline.indexer.library.library import Library, absolute
from sightline.indexer.photo.ocr import engine_name
from sightline.indexer.types import IndexReport, Progress, no_progress

if TYPE_CHECKING:
    from sightline.indexer.encoder import Encoder
    from sightline.indexer.encoder.model_files import Download

BUSY_SECONDS = 2.0
"""Seconds between two attempts of a watching run while another process writes to the library."""


def index_folders(
    library: Library | Path | str,
    paths: Path | str | Iterable[Path | str] = (),
    *,
    model: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    encoder: Encoder | None = None,
    exclude: Sequence[str] = (),
    prune: bool = False,
    retry_failures: bool = False,
    reread: bool = False,
    include_nomedia: bool = False,
    workers: int | None = None,
    allow_roots: Sequence[Path] = (),
    follow_links: bool = False,
    ocr: bool | None = None,
    on_report: Callable[[IndexReport], None] | None = None,
    progress: Progress = no_progress,
    stop: Event | None = None,
) -> IndexReport:
    """Bring ``library`` up to date with the images below ``paths``.

    ``library`` is a directory, created if it holds no library yet, or an open ``Library``, which
    stays open. Without ``paths``, every folder indexed before is compared with the library again.

    - ``model``: of a new library, as ``sightline models`` lists them (the default model if None).
    - ``device``: where the model runs: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    - ``dtype``: what it computes in: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``int8``.
      ``auto`` is int8 on CPUs that do not multiply bfloat16 if a check on the library's first
      images shows that it changes little (``docs/models.md``).
    - ``encoder``: the library's encoder, if it is loaded already; ``model``, ``device`` and
      ``dtype`` are then not used.
    - ``exclude``: patterns in .gitignore syntax.
    - ``prune``: delete images from the library even if over a fifth of a folder is missing.
    - ``retry_failures``: read files again that could not be read before and have not changed.
    - ``reread``: read every file again, also those that have not changed, for its metadata; only
      images whose pixels differ from those encoded before are encoded again.
    - ``include_nomedia``: index folders that hold a ``.nomedia`` file too.
    - ``workers``: decoding processes (default: one per core).
    - ``allow_roots``: folders that are indexed although they contain a system's or a user's private
      files (``files.sensitive``): ``/``, ``/etc``, the home folder itself.
    - ``follow_links``: folders and archives that symbolic links lead to, out of all folders of the
      library, are indexed as folders of their own. Without it such links are listed as failures.
    - ``ocr``: whether this and every later run reads the text in images too (the ``ocr`` extra);
      None leaves the library's setting.
    - ``on_report``: if given, watch the library's folders until ``stop`` is set, and receive the
      report of the first run and of every later run that changed something.
    - ``progress``: called often, from this thread.
    - ``stop``: setting it ends the run after the batch in flight; the next run continues.

    Returns the report of the (first) run. Raises UsageError for a path that does not exist,
    ModelMismatchError if the library was made with another model, ModelError if the model cannot
    be loaded, LibraryBusyError while another process writes, ModelChangedError if another process
    has given the library another model meanwhile, LibraryError if the library cannot be opened or
    written.
    """
    folders = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    stop = stop or Event()
    with _opened(
        library,
        folders,
        model=model,
        device=device,
        dtype=dtype,
        encoder=encoder,
        allow_roots=allow_roots,
    ) as (opened, loaded):
        if ocr:
            engine_name()  # refuses without the extra before anything is indexed
        if ocr is not None:
            opened.catalog.set_reads_text(ocr)

        def run(changed: Sequence[Path], **options: Any) -> IndexReport:
            report = update_library(
                opened,
                loaded,
                changed,
                exclude=exclude,
                include_nomedia=include_nomedia,
                workers=workers,
                allow_roots=allow_roots,
                follow_links=follow_links,
                progress=progress,
                stop=stop,
                **options,
            )
            if opened.catalog.reads_text and not report.interrupted:
                read = read_texts(opened, workers=workers, progress=progress, stop=stop)
                report = replace(report, texts_read=read.read, interrupted=read.interrupted)
            return report

        report = run(folders, prune=prune, retry_failures=retry_failures, reread=reread)
        if on_report is not None and not report.interrupted:
            on_report(report)
            watch_folders(opened, partial(run, named=False), on_report, stop, progress=progress)
        return report


@contextmanager
def _opened(
    library: Library | Path | str,
    paths: Sequence[Path],
    *,
    model: str | None,
    device: str,
    dtype: str,
    encoder: Encoder | None,
    allow_roots: Sequence[Path],
) -> Iterator[tuple[Library, Encoder]]:
    """The library and its encoder. A library opened here is closed at the end."""
    # Naming the model of a library confirms its download.
    download: Download = "any" if model is not None else "named"

    def encoder_of(existing: Library) -> Encoder:
        _check_made_with(existing, model)
        return encoder or encoder_for(existing, device=device, dtype=dtype, download=download)

    if isinstance(library, Library):
        yield library, encoder_of(library)
        return
    directory = Path(library).expanduser()
    if Library.exists(directory):
        with Library.open(directory) as opened:
            yield opened, encoder_of(opened)
        return
    if not paths:
        raise UsageError("name the folder to index: sightline index FOLDER")
    scopes_of(
        [absolute(path) for path in paths], (), allow_roots
    )  # refuses bad paths before the model loads
    new = encoder or load_encoder(model, device=device, dtype=dtype)
    with Library.create(
        directory, model=new.model, revision=new.revision, dimension=new.dimension
    ) as opened:
        yield opened, new


def _check_made_with(library: Library, model: str | None) -> None:
    """ModelMismatchError unless ``model``, as users name it, is None or the library's model."""
    if model is None:
        return
    known = registry.find(model)
    names = {model, str(Path(model).expanduser().resolve())}
    if known is not None:
        names |= {known.name, known.repo or known.name}
    if library.model not in names:
        raise ModelMismatchError(
            f"the library in {library.directory} was made with {library.model}, not {model}: leave"
            f" out --model, run `sightline reencode --model {model}`, or choose another folder with"
            " --library"
        )


def watch_folders(
    library: Library,
    run: Callable[[Sequence[Path]], IndexReport],
    on_report: Callable[[IndexReport], None],
    stop: Event,
    *,
    quiet: float = QUIET,
    progress: Progress = no_progress,
) -> None:
    """Call ``run`` with each batch of changed folders of ``library`` until ``stop`` is set.

    A batch is passed on after ``quiet`` seconds without further changes. While another process
    writes to the library, the batch is retried every ``BUSY_SECONDS``. ``on_report`` receives the
    report of every run that changed something or newly held deletions back. Raises LibraryError if
    none of the library's folders exists.
    """
    roots = [path for path in library.root_paths() if path.is_dir()]
    if not roots:
        raise LibraryError("none of the library's folders is there: there is nothing to watch")
    watching = f"watching {', '.join(map(str, roots))}"
    progress(watching, 0, None)
    reported: tuple[str, ...] = ()
    for changed in changes(roots, stop, quiet=quiet):
        report: IndexReport | None = None
        while report is None and not stop.is_set():
            paths = [nearest_existing(path, roots) for path in changed]
            try:
                report = run(paths)
            except LibraryBusyError:
                stop.wait(BUSY_SECONDS)
            except UsageError:
                if paths == [nearest_existing(path, roots) for path in changed]:
                    raise
                # A folder was deleted while another process wrote.
        if report is None:
            return
        if report.added + report.updated + report.moved + report.removed or (
            report.held_back and report.held_back != reported
        ):
            on_report(report)
        reported = report.held_back
        progress(watching, 0, None)
