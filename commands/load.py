"""python main.py load"""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import click
from tqdm import tqdm

from commands._prepare import one_line_errors, prepare
from config.database import connect
from config.settings import load_settings
from repo.ingest import IngestRepo
from services.ingest.events import FIELDS, Validator
from services.ingest.load import BATCH, Loader, RejectedFile, Report
from services.ingest.readers import Columns, Form, Unreadable, opened, sniff
from services.servers import servers
from utils.zones import zone, zone_names


def _mapping(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """FIELD=COLUMN, by field."""
    pairs = [text.partition("=") for text in given]
    for name, _, column in pairs:
        if name not in FIELDS or not column:
            raise click.BadParameter(f"use FIELD=COLUMN with a field of {', '.join(FIELDS)}")
    return {name: column for name, _, column in pairs}


def _zone(context: click.Context, parameter: click.Parameter, given: str | None) -> ZoneInfo | None:
    if given is not None and given not in zone_names():
        raise click.BadParameter("use an IANA time zone, such as Europe/Berlin")
    return zone(given) if given else None


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=_mapping,
    metavar="FIELD=COLUMN",
    help="The file calls this field otherwise, such as user_id=visitor.",
)
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Leave this column out.")
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Form)),
    help="The form of the files; it is told by their first bytes unless given.",
)
@click.option("--tz", callback=_zone, help="The zone of times that have no offset.")
@click.option("--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows at a time.")
@one_line_errors
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
    columns = Columns(names, ignore)
    with servers(load_settings()) as endpoints:
        prepare(endpoints.database_url)
        conn = connect(endpoints.database_url, "analytics-load")
        validator = Validator(tz, lambda: datetime.now(UTC))
        loader = Loader(IngestRepo(conn), validator, batch)
        clean = [_load_one(loader, file, form, columns) for file in files]
        conn.close()
    if not all(clean):
        sys.exit(1)


def _load_one(loader: Loader, path: Path, form: Form | None, columns: Columns) -> bool:
    """Whether all of the input was taken."""
    rejected = RejectedFile(_rejected_path(path))
    try:
        with _input(path) as raw, _progress(path, raw) as progress:
            file = opened(raw)
            known = form or sniff(file.peek(64))
            report = loader.load(known, file, columns, rejected=rejected, progress=progress)
    except (OSError, Unreadable) as exc:
        click.echo(f"{path}: {exc}", err=True)
        return False
    finally:
        rejected.close()
    _tell(path, report, rejected)
    return report.is_clean


@contextmanager
def _input(path: Path) -> Iterator[io.BufferedReader]:
    """Standard input goes through a file when it is Parquet, which is read from its end."""
    if path != Path("-"):
        with path.open("rb") as file:
            yield file
        return
    given = sys.stdin.buffer
    assert isinstance(given, io.BufferedReader)
    if sniff(given.peek(64)) != "parquet":
        yield given
        return
    with tempfile.TemporaryFile(buffering=0) as spooled:
        shutil.copyfileobj(given, spooled)
        spooled.seek(0)
        yield io.BufferedReader(spooled)


@contextmanager
def _progress(path: Path, raw: io.BufferedReader) -> Iterator[Callable[[int], None]]:
    """A bar of the bytes read, or of rows where nobody knows how many bytes there are."""
    sized = raw.seekable()
    total = os.fstat(raw.fileno()).st_size if sized else None
    unit = {"unit": "B", "unit_scale": True} if sized else {"unit": " rows"}
    with tqdm(total=total, desc=path.name, disable=None, **unit) as bar:

        def advance(rows: int) -> None:
            bar.update(max(raw.tell() - bar.n, 0) if sized else rows)

        yield advance


def _rejected_path(path: Path) -> Path:
    """Beside the input, or here if that folder cannot be written."""
    name = "stdin" if path == Path("-") else path.name
    folder = path.absolute().parent
    return (folder if os.access(folder, os.W_OK) else Path.cwd()) / f"{name}.rejected.ndjson"


def _tell(path: Path, report: Report, rejected: RejectedFile) -> None:
    refused = report.rejected.total()
    click.echo(
        f"{path}: read {report.read:,}, inserted {report.inserted:,}, "
        f"already there {report.present:,}, rejected {refused:,}"
    )
    for reason, count in report.rejected.most_common():
        click.echo(f"  {count:,} rejected: {reason}")
    if refused:
        click.echo(f"  the rejected rows are in {rejected.path}")
    if report.ended:
        click.echo(f"  stopped after row {report.read:,}: {report.ended}", err=True)
