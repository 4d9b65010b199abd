"""The command `export`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from commands._help import DATABASE, Command
from commands._migrate_first import migrate_embedded
from commands._progress import Progress, progress
from commands._report import report
from commands._settings import read_settings
from config.database import connect
from services.server_urls import database_server
from utils.formats import quantity
from utils.signals import stoppable

if TYPE_CHECKING:
    from services.export.run import Export

_INTERRUPTED = "Interrupted: run the same command again to write the rest."


@click.command(cls=Command, settings=DATABASE, exit_codes={0: "The files hold all events."})
@click.option(
    "--to",
    "directory",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="A directory for this export alone; it is created.",
)
@click.option(
    "--full",
    is_flag=True,
    help="Read all days, also of a database that was restored or failed over.",
)
@stoppable()
def export(directory: Path, full: bool) -> None:
    """Write all events as Parquet files, one for each UTC day.

    A further run only writes the days that have changed. Events that were erased or dropped leave
    the files.
    """
    # These modules need pyarrow, which is slow to import.
    from repo.export import ExportRepo
    from services.export.run import CannotExport, Export

    settings = read_settings()
    with database_server(settings) as url:
        migrate_embedded(settings, url)
        conn = connect(url, "analytics-export")
        conn.autocommit = True
        try:
            _run(Export(ExportRepo(conn), directory, is_full=full), directory)
        except CannotExport as exc:
            raise click.ClickException(str(exc)) from None
        finally:
            conn.close()


def _run(run: "Export", directory: Path) -> None:
    began = time.monotonic()

    def summary() -> str:
        counts = run.counts
        removed = f", removed {quantity(counts.removed, 'day')}" if counts.removed else ""
        return (
            f"Wrote {quantity(counts.written, 'day')} with {quantity(counts.events, 'event')} to "
            f"{directory} in {time.monotonic() - began:.1f} s{removed}; "
            f"{quantity(counts.unchanged, 'day')} unchanged."
        )

    with report(summary, _INTERRUPTED), progress("export") as bar:
        run.run(lambda total: _begin(bar, total), bar.add)


def _begin(bar: Progress, total: int) -> None:
    bar.total = total
