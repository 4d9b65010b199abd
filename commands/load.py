"""The command `load`."""

import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import click

from commands._help import DATABASE, FAILED, Command
from commands._load_options import mapping_options, parse_options
from commands._load_preview import preview
from commands._load_report import Summary
from commands._migrate_first import apply_migrations
from commands._progress import progress
from commands._report import print_error, print_result, report
from commands._settings import read_settings
from config.database import connect
from repo.database_size import database_size
from repo.ingest import IngestRepo
from services.disk_space import StorageGate, storage_limits
from services.ingest.compression import (
    PARQUET,
    is_zip,
    prefixed,
    seekable_parquet,
    spooled,
    zip_members,
)
from services.ingest.input_file import InputFile, ReadOptions
from services.ingest.input_rows import UnreadableInput
from services.ingest.loader import BATCH, Loader, LoadReport, RejectedFile
from services.ingest.mapping.options import MappingOptions
from services.ingest.validation import Validator
from services.server_urls import databases
from utils.signals import stoppable

_INTERRUPTED = "{}: interrupted: run the same command again, which stores no event twice"


@click.command(
    cls=Command,
    settings=(*DATABASE, "ingest_database_url", "min_free_mb", "max_database_gb"),
    exit_codes={
        0: "All rows are stored.",
        1: f"Some rows were rejected, or options are missing. {FAILED}",
    },
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@mapping_options
@click.option(
    "--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows per transaction."
)
@click.option("--dry-run", is_flag=True, help="Show the first rows as events, and what is missing.")
@stoppable()
def load(files: tuple[Path, ...], batch: int, dry_run: bool, **values: Any) -> None:
    """Load events from FILES, plain or compressed; - is standard input.

    FILES are NDJSON, JSON, CSV, Parquet or access logs. Begin with --dry-run: it shows the first
    rows as events, and which options the file needs. An event has the fields event_id, user_id,
    event_name, occurred_at and properties, of which the name and the time are required.

    Run an interrupted load again to continue it: each event is stored once.
    """
    read_options, options = parse_options(values)
    if dry_run:
        are_clean = [_preview(file, read_options, options) for file in files]
    else:
        are_clean = list(_load_all(files, read_options, options, batch))
    if not all(are_clean):
        sys.exit(1)


def _load_all(
    files: tuple[Path, ...], read_options: ReadOptions, options: MappingOptions, batch: int
) -> Iterator[bool]:
    """Load the files, and yield for each whether all its rows were stored."""
    settings = read_settings()
    with databases(settings) as urls:
        apply_migrations(urls.owner)
        validator = Validator(options.tz, lambda: datetime.now(UTC))
        with closing(connect(urls.url("writer"), "analytics-load")) as conn:
            gate = StorageGate(storage_limits(settings), lambda: database_size(conn))
            loader = Loader(IngestRepo(conn), validator, batch, gate)
            rejected_paths = _RejectedPaths()
            with _rare_garbage_collection():
                for path in files:
                    yield from _load_path(loader, path, read_options, options, rejected_paths)


def _preview(path: Path, read_options: ReadOptions, options: MappingOptions) -> bool:
    """Print the previews of a file; return whether it can be loaded."""
    are_clean = []
    try:
        for name, raw in _inputs(path):
            text, is_clean = preview(str(name), InputFile(raw, read_options), options)
            print_result(text)
            are_clean.append(is_clean)
    except (OSError, UnreadableInput) as exc:
        print_error(f"{path}: {exc}")
        return False
    return all(are_clean)


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    # Rows are many objects without cycles: at the default threshold the collector takes a third
    # of the time.
    before = gc.get_threshold()
    gc.set_threshold(20_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _load_path(
    loader: Loader,
    path: Path,
    read_options: ReadOptions,
    options: MappingOptions,
    rejected_paths: "_RejectedPaths",
) -> Iterator[bool]:
    """Load a file, or each file in a zip archive; yield whether all rows were stored."""
    try:
        for name, raw in _inputs(path):
            outcome, rejected = LoadReport(), RejectedFile(rejected_paths(name))
            _load_one(loader, name, raw, (read_options, options), outcome, rejected)
            yield outcome.is_clean
    except (OSError, UnreadableInput) as exc:
        print_error(f"{path}: {exc}")
        yield False


def _load_one(
    loader: Loader,
    name: Path,
    raw: io.BufferedReader,
    options: tuple[ReadOptions, MappingOptions],
    outcome: LoadReport,
    rejected: RejectedFile,
) -> None:
    """Load one input. The report is printed also when the load is interrupted."""
    summary = Summary(str(name), outcome, rejected)
    try:
        with report(summary, _INTERRUPTED.format(name)):
            try:
                file = InputFile(raw, options[0])
                resolution = file.resolve(options[1])
                if resolution.problems:
                    raise UnreadableInput(resolution.message())
                summary.describe(file, resolution)
                blocks = file.blocks(resolution, options[1], loader.part_rows)
                with _progress(name, file) as progress:
                    loader.load(blocks, outcome, rejected=rejected, progress=progress)
            except (OSError, UnreadableInput) as exc:
                outcome.failure = str(exc)
    finally:
        _print_failures(name, outcome, rejected)


def _inputs(path: Path) -> Iterator[tuple[Path, io.BufferedReader]]:
    """The names and contents of a file, or of the files in a zip archive.

    Raises: OSError, UnreadableInput.
    """
    for name, contents in _members(path):
        with seekable_parquet(contents) as readable:
            yield name, readable


def _members(path: Path) -> Iterator[tuple[Path, io.BufferedReader]]:
    """The names and contents as they are stored; compressed Parquet is not decompressed."""
    with _opened(path) as file:
        if not is_zip(file.peek(4)):
            yield path, file
            return
        for name, contents in zip_members(file):
            # With a slash at its beginning, it would be a path of its own, also of rejected rows.
            yield path / name.lstrip("/"), contents


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The file as a binary stream; what is not read in order is spooled from standard input."""
    if path != Path("-"):
        with path.open("rb") as file:
            yield file
        return
    stdin = cast(io.BufferedReader, sys.stdin.buffer)
    head = stdin.read(4)  # blocks until 4 bytes or the end of the input
    stream = prefixed(head, stdin)
    if not (head.startswith(PARQUET) or is_zip(head)):
        yield stream
        return
    with spooled(stream) as file:
        yield file


@contextmanager
def _progress(path: Path, file: InputFile) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes that are read, or of rows where the size of the input is unknown."""
    size = file.size
    with progress(path.name, "rows" if size is None else "B", size) as bar:

        def advance(rows: int) -> None:
            bar.add(rows if size is None else max(file.tell() - bar.done, 0))

        yield advance


class _RejectedPaths:
    """Paths for rejected rows: beside the input, or in the current directory if that is read-only.

    Two inputs never share a path.
    """

    def __init__(self) -> None:
        self._used: set[Path] = set()

    def __call__(self, path: Path) -> Path:
        name = "stdin" if path == Path("-") else path.name
        # In a zip archive, the parent is no folder.
        folder = next(parent for parent in path.absolute().parents if parent.is_dir())
        folder = folder if os.access(folder, os.W_OK) else Path.cwd()
        tries = (f"{name}{n}.rejected.ndjson" for n in ("", *(f"-{n}" for n in range(2, 10_000))))
        free_path = next(folder / name for name in tries if folder / name not in self._used)
        self._used.add(free_path)
        return free_path


def _print_failures(path: Path, outcome: LoadReport, rejected: RejectedFile) -> None:
    if rejected.failure and outcome.rejected:
        print_error(f"  the rejected rows could not be written: {rejected.failure}")
    if outcome.truncation:
        print_error(f"  stopped after row {outcome.read:,}: {outcome.truncation}")
    if outcome.failure:
        print_error(f"{path}: {outcome.failure}")
