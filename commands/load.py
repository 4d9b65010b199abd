"""The command `load`."""

import gc
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, cast, get_args
from zoneinfo import ZoneInfo

import click

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import apply_migrations
from commands._options import mapping, time_zone
from commands._progress import progress
from commands._report import print_error, report
from commands._settings import read_settings
from config.database import connect
from repo.database_size import database_size
from repo.ingest import IngestRepo
from services.disk_space import StorageGate, storage_limits
from services.ingest.input_rows import ColumnMapping, Form, UnreadableInput
from services.ingest.loader import BATCH, Loader, LoadReport, RejectedFile
from services.ingest.readers import form_of, open_input
from services.ingest.validation import FIELDS, Validator
from services.server_urls import databases
from utils.signals import stoppable
from utils.time.local_times import ADJUSTMENT_TEXTS

_INTERRUPTED = "{}: interrupted: run the same command again, which stores no event twice"


@click.command(
    cls=Command,
    settings=(*DATABASE, "ingest_database_url", "min_free_mb", "max_database_gb"),
    exit_codes={0: "All rows are stored.", 1: f"Some rows were rejected. {FAILED}"},
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=mapping,
    metavar="FIELD=SOURCE",
    help="The source of a field: user_id=visitor, or in NDJSON user_id=user.id.",
)
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Do not store this column.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Form)),
    help="The format of the files; detected from their first bytes by default.",
)
@click.option("--tz", callback=time_zone, help="The time zone of times without an offset.")
@click.option(
    "--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows per transaction."
)
@stoppable()
def load(
    files: tuple[Path, ...],
    names: dict[str, str],
    ignore: tuple[str, ...],
    form: Form | None,
    tz: ZoneInfo | None,
    batch: int,
) -> None:
    """Load events from FILES (NDJSON, CSV or Parquet, optionally gzip); - is standard input.

    Run an interrupted load again to continue it: each event_id is stored once.
    """
    columns = ColumnMapping(names, _ignored(names, ignore))
    settings = read_settings()
    with databases(settings) as urls:
        apply_migrations(urls.owner)
        validator = Validator(tz, lambda: datetime.now(UTC))
        with closing(connect(urls.url("writer"), "analytics-load")) as conn:
            gate = StorageGate(storage_limits(settings), lambda: database_size(conn))
            loader = Loader(IngestRepo(conn), validator, batch, gate)
            rejected_paths = _RejectedPaths()
            with _rare_garbage_collection():
                are_clean = [
                    _load_one(loader, file, form, columns, rejected_paths(file)) for file in files
                ]
    if not all(are_clean):
        sys.exit(1)


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


def _ignored(names: dict[str, str], ignore: tuple[str, ...]) -> tuple[str, ...]:
    """The columns to ignore. Raises: click.BadParameter for the source of a field."""
    used = {names.get(name, name) for name in FIELDS}
    if needed := used & set(ignore):
        raise click.BadParameter(
            f"--ignore: {', '.join(needed)} is the source of a field of events"
        )
    return tuple(dict.fromkeys(ignore))


def _load_one(
    loader: Loader, path: Path, form: Form | None, columns: ColumnMapping, rejected_path: Path
) -> bool:
    """Whether all rows were stored. The report is printed also when the load is interrupted."""
    outcome, rejected = LoadReport(), RejectedFile(rejected_path)
    try:
        with report(partial(_summary, path, columns, outcome, rejected), _INTERRUPTED.format(path)):
            try:
                with _input(path) as raw, _progress(path, raw) as progress:
                    file = open_input(raw)
                    file_form = form or form_of(file)
                    loader.load(
                        file_form, file, columns, outcome, rejected=rejected, progress=progress
                    )
            except (OSError, UnreadableInput) as exc:
                outcome.failure = str(exc)
    finally:
        _print_failures(path, outcome, rejected)
    return outcome.is_clean


@contextmanager
def _input(path: Path) -> Iterator[io.BufferedReader]:
    """The input as a binary stream; Parquet from standard input is spooled to a file."""
    if path != Path("-"):
        with path.open("rb") as file:
            yield file
        return
    head = sys.stdin.buffer.read(64)  # blocks until 64 bytes or the end of the input
    stdin = cast(io.BufferedReader, io.BufferedReader(_PrefixedStream(head, sys.stdin.buffer)))
    if not head.startswith(b"PAR1"):
        yield stdin
        return
    with tempfile.TemporaryFile(buffering=0) as spooled:
        shutil.copyfileobj(stdin, spooled)
        spooled.seek(0)
        yield io.BufferedReader(spooled)


class _PrefixedStream(io.RawIOBase):
    """A stream whose first bytes were read already: `head`, then `rest`."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        part = self._head[:size] or self._rest.read1(size)  # type: ignore[attr-defined]
        self._head = self._head[size:]
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def _progress(path: Path, raw: io.BufferedReader) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes that are read, or of rows where the size of the input is unknown."""
    is_seekable = raw.seekable()
    total = os.fstat(raw.fileno()).st_size if is_seekable else None
    with progress(path.name, "B" if is_seekable else "rows", total) as bar:

        def advance(rows: int) -> None:
            bar.add(max(raw.tell() - bar.done, 0) if is_seekable else rows)

        yield advance


class _RejectedPaths:
    """Paths for rejected rows: beside the input, or in the current directory if that is read-only.

    Two inputs never share a path.
    """

    def __init__(self) -> None:
        self._used: set[Path] = set()

    def __call__(self, path: Path) -> Path:
        name = "stdin" if path == Path("-") else path.name
        folder = path.absolute().parent
        folder = folder if os.access(folder, os.W_OK) else Path.cwd()
        tries = (f"{name}{n}.rejected.ndjson" for n in ("", *(f"-{n}" for n in range(2, 10_000))))
        free_path = next(folder / name for name in tries if folder / name not in self._used)
        self._used.add(free_path)
        return free_path


def _summary(
    path: Path, columns: ColumnMapping, outcome: LoadReport, rejected: RejectedFile
) -> str:
    """The report of one input; empty if nothing could be read."""
    rejected.close()
    if outcome.failure and not outcome.read:
        return ""
    count = outcome.rejected.total()
    suppressed = f"suppressed {outcome.suppressed:,}, " if outcome.suppressed else ""
    lines = [
        f"{path}: read {outcome.read:,}, inserted {outcome.inserted:,}, "
        f"already there {outcome.present:,}, {suppressed}rejected {count:,}"
    ]
    lines += [
        f"  {rows:,} without {columns.of(field)}, the source of {field}"
        for field, rows in outcome.missing_sources.most_common()
    ]
    lines += [f"  {rows:,} {ADJUSTMENT_TEXTS[kind]}" for kind, rows in outcome.adjusted.items()]
    lines += [f"  {rows:,} rejected: {reason}" for reason, rows in outcome.rejected.most_common()]
    if count and not rejected.failure:
        lines.append(f"  the rejected rows are in {rejected.path}")
    return "\n".join(lines)


def _print_failures(path: Path, outcome: LoadReport, rejected: RejectedFile) -> None:
    if rejected.failure and outcome.rejected:
        print_error(f"  the rejected rows could not be written: {rejected.failure}")
    if outcome.truncation:
        print_error(f"  stopped after row {outcome.read:,}: {outcome.truncation}")
    if outcome.failure:
        print_error(f"{path}: {outcome.failure}")
