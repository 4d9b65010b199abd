"""The command `demo`."""

from contextlib import closing
from datetime import UTC, datetime

import click

from commands._help import DATABASE, Command
from commands._migrate_first import apply_migrations
from commands._progress import progress
from commands._report import print_result, report
from commands._settings import read_settings
from config.database import connect
from repo.database_size import database_size
from repo.ingest import Event, IngestRepo, as_rows
from repo.rejection_reasons import EventsExpired
from services.demo_data import demo_events
from services.disk_space import StorageGate, storage_limits
from services.ingest.loader import BATCH
from services.server_urls import databases
from utils.signals import stoppable, uninterrupted

_EVENTS_PER_USER = 20


@click.command(
    cls=Command,
    settings=(*DATABASE, "ingest_database_url", "min_free_mb", "max_database_gb"),
    exit_codes={0: "The events are stored, or with --if-empty there were some."},
)
@click.option(
    "--events",
    default=200_000,
    type=click.IntRange(1, 10_000_000),
    show_default=True,
    help="The number of events.",
)
@click.option(
    "--days",
    default=90,
    type=click.IntRange(1, 3650),
    show_default=True,
    help="The number of days, up to now.",
)
@click.option(
    "--users",
    type=click.IntRange(1, 1_000_000),
    help="The number of users; by default one for each 20 events.",
)
@click.option("--seed", default=1, show_default=True, help="The seed of the random numbers.")
@click.option("--if-empty", is_flag=True, help="Do nothing if there are events.")
@stoppable()
def demo(events: int, days: int, users: int | None, seed: int, if_empty: bool) -> None:
    """Store made-up events of the last days."""
    settings = read_settings()
    with databases(settings) as urls:
        apply_migrations(urls.owner)
        with closing(connect(urls.url("writer"), "analytics-demo")) as conn:
            repo = IngestRepo(conn)
            if if_empty and not repo.is_empty():
                print_result("There are events: no demo events are needed.")
            else:
                gate = StorageGate(storage_limits(settings), lambda: database_size(conn))
                _fill(repo, gate, events, days, users or max(events // _EVENTS_PER_USER, 1), seed)


def _inserted(repo: IngestRepo, batch: list[Event]) -> int:
    """Raises: click.ClickException."""
    try:
        return repo.insert(as_rows(batch)).inserted
    except EventsExpired as exc:
        raise click.ClickException(f"{exc}: use fewer --days") from exc


def _fill(
    repo: IngestRepo, gate: StorageGate, events: int, days: int, users: int, seed: int
) -> None:
    end = datetime.now(UTC)
    with progress("make demo events", total=events) as bar:
        generated = demo_events(
            events, seed=seed, days=days, users=users, end=end, progress=bar.add
        )
    inserted = 0

    def summary() -> str:
        return f"Made {events:,} demo events of {days} days: inserted {inserted:,}."

    with (
        report(summary, "Interrupted: not all of them were inserted."),
        progress("insert demo events", total=events) as insert_bar,
    ):
        for first in range(0, events, BATCH):
            batch = generated[first : first + BATCH]
            gate()
            with uninterrupted():
                inserted += _inserted(repo, batch)
            insert_bar.add(len(batch))
