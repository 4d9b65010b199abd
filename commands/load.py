"""python main.py load"""

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
from commands._options import mapping, time_zone
from commands._prepare import prepare
from commands._progress import progress
from commands._report import complain, report
from config.database import connect
from config.settings import load_settings
from repo.ingest import IngestRepo
from repo.storage import database_size
from services.ingest.events import FIELDS, Validator
from services.ingest.lines import Columns, Form, Unreadable
from services.ingest.load import BATCH, Loader, RejectedFile, Report
from services.ingest.readers import form_of, opened
from services.servers import databases
from services.storage import StorageGate, storage_limits
from utils.local_times import HOW_READ
from utils.signals import stoppable

_BROKEN_OFF = "{}: it broke off: run the same command again, which counts no event twice"


@click.command(
    cls=Command,
    settings=(*DATABASE, "ingest_database_url", "min_free_mb", "max_database_gb"),
    exit_codes={0: "All rows are stored.", 1: f"Some were rejected. {FAILED}"},
)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=mapping,
    metavar="FIELD=SOURCE",
    help="The file calls this field otherwise: user_id=visitor, or in NDJSON user_id=user.id.",
)
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Leave this column out.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Form)),
    help="The form of the files; it is told by their first bytes unless given.",
)
@click.option("--tz", callback=time_zone, help="The zone of times that have no offset.")
@click.option("--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows at a time.")
@stoppable()
def load(
    files: tuple[Path, ...],
    names: dict[str, str],
    ignore: tuple[str, ...],
    form: Form | None,
    tz: ZoneInfo | None,
    batch: int,
) -> None:
    """Load events from NDJSON, CSV or Parquet FILES, gzip or not; - is standard input.

    An interrupted load is simply repeated: each event_id is stored once.
    """
    columns = Columns(names, _ignored(names, ignore))
    settings = load_settings()
    with databases(settings) as found:
        prepare(found.owner)
        validator = Validator(tz, lambda: datetime.now(UTC))
        with closing(connect(found.url("writer"), "analytics-load")) as conn:
            gate = StorageGate(storage_limits(settings), lambda: database_size(conn))
            loader = Loader(IngestRepo(conn), validator, batch, gate)
            places = _RejectedPaths()
            with _collecting_seldom():
                clean = [_load_one(loader, file, form, columns, places(file)) for file in files]
    if not all(clean):
        sys.exit(1)


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Rows are many objects and hardly any cycles: at the usual pace a third of the time goes into
    the search for these.
    """
    before = gc.get_threshold()
    gc.set_threshold(20_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _ignored(names: dict[str, str], ignore: tuple[str, ...]) -> tuple[str, ...]:
    """Raises: click.BadParameter for a column that is needed."""
    used = {names.get(name, name) for name in FIELDS}
    if needed := used & set(ignore):
        raise click.BadParameter(f"--ignore: {', '.join(needed)} holds a field of events")
    return tuple(dict.fromkeys(ignore))


def _load_one(
    loader: Loader, path: Path, form: Form | None, columns: Columns, rejected_path: Path
) -> bool:
    """Whether all of the input was taken; what was done is told also where it breaks off."""
    done, rejected = Report(), RejectedFile(rejected_path)
    try:
        with report(partial(_told, path, columns, done, rejected), _BROKEN_OFF.format(path)):
            try:
                with _input(path) as raw, _progress(path, raw) as progress:
                    file = opened(raw)
                    known = form or form_of(file)
                    loader.load(known, file, columns, done, rejected=rejected, progress=progress)
            except (OSError, Unreadable) as exc:
                done.failure = str(exc)
    finally:
        _tell_failures(path, done, rejected)
    return done.is_clean


@contextmanager
def _input(path: Path) -> Iterator[io.BufferedReader]:
    """Standard input goes through a file when it is Parquet, which is read from its end."""
    if path != Path("-"):
        with path.open("rb") as file:
            yield file
        return
    head = sys.stdin.buffer.read(64)  # all of it, however small the pieces come in
    given = cast(io.BufferedReader, io.BufferedReader(_Rejoined(head, sys.stdin.buffer)))
    if not head.startswith(b"PAR1"):
        yield given
        return
    with tempfile.TemporaryFile(buffering=0) as spooled:
        shutil.copyfileobj(given, spooled)
        spooled.seek(0)
        yield io.BufferedReader(spooled)


class _Rejoined(io.RawIOBase):
    """What was read already, and then the rest."""

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
    """A bar of the bytes read, or of rows where nobody knows how many bytes there are."""
    sized = raw.seekable()
    total = os.fstat(raw.fileno()).st_size if sized else None
    with progress(path.name, "B" if sized else "rows", total) as shown:

        def advance(rows: int) -> None:
            shown.add(max(raw.tell() - shown.done, 0) if sized else rows)

        yield advance


class _RejectedPaths:
    """Beside the input, or here if that folder cannot be written; never the same for two."""

    def __init__(self) -> None:
        self._given: set[Path] = set()

    def __call__(self, path: Path) -> Path:
        name = "stdin" if path == Path("-") else path.name
        folder = path.absolute().parent
        folder = folder if os.access(folder, os.W_OK) else Path.cwd()
        tries = (f"{name}{n}.rejected.ndjson" for n in ("", *(f"-{n}" for n in range(2, 10_000))))
        found = next(folder / name for name in tries if folder / name not in self._given)
        self._given.add(found)
        return found


def _told(path: Path, columns: Columns, done: Report, rejected: RejectedFile) -> str:
    """Nothing where nothing could be read."""
    rejected.close()
    if done.failure and not done.read:
        return ""
    count = done.rejected.total()
    suppressed = f"suppressed {done.suppressed:,}, " if done.suppressed else ""
    lines = [
        f"{path}: read {done.read:,}, inserted {done.inserted:,}, "
        f"already there {done.present:,}, {suppressed}rejected {count:,}"
    ]
    lines += [
        f"  {rows:,} without {columns.of(field)}, the source of {field}"
        for field, rows in done.lacking.most_common()
    ]
    lines += [f"  {rows:,} {HOW_READ[kind]}" for kind, rows in done.adjusted.items()]
    lines += [f"  {rows:,} rejected: {reason}" for reason, rows in done.rejected.most_common()]
    if count and not rejected.failure:
        lines.append(f"  the rejected rows are in {rejected.path}")
    return "\n".join(lines)


def _tell_failures(path: Path, done: Report, rejected: RejectedFile) -> None:
    if rejected.failure and done.rejected:
        complain(f"  the rejected rows could not be written: {rejected.failure}")
    if done.ended:
        complain(f"  stopped after row {done.read:,}: {done.ended}")
    if done.failure:
        complain(f"{path}: {done.failure}")
