"""python main.py demo"""

from contextlib import closing
from datetime import UTC, datetime

import click

from commands._help import DATABASE, Command
from commands._prepare import prepare
from commands._progress import progress
from commands._report import report, say
from config.database import connect
from config.settings import load_settings
from repo.ingest import Event, IngestRepo, as_rows
from repo.refused_events import EventsExpired
from repo.storage import database_size
from services.demo import demo_events
from services.ingest.load import BATCH
from services.servers import databases
from services.storage import StorageGate, storage_limits
from utils.signals import stoppable, uninterrupted

_EVENTS_PER_USER = 20


@click.command(
    cls=Command,
    settings=(*DATABASE, "ingest_database_url", "min_free_mb", "max_database_gb"),
    exit_codes={0: "All of them are stored."},
)
@click.option(
    "--events",
    default=200_000,
    type=click.IntRange(1, 10_000_000),
    show_default=True,
    help="How many events.",
)
@click.option(
    "--days",
    default=90,
    type=click.IntRange(1, 3650),
    show_default=True,
    help="Of how many days, up to now.",
)
@click.option("--users", type=click.IntRange(1, 1_000_000), help="One for each 20 events.")
@click.option("--seed", default=1, show_default=True, help="Other numbers, other events.")
@click.option("--if-empty", is_flag=True, help="Do nothing where there are events.")
@stoppable()
def demo(events: int, days: int, users: int | None, seed: int, if_empty: bool) -> None:
    """Fill in made-up events of the days that end now."""
    settings = load_settings()
    with databases(settings) as found:
        prepare(found.owner)
        with closing(connect(found.url("writer"), "analytics-demo")) as conn:
            repo = IngestRepo(conn)
            if if_empty and not repo.is_empty():
                say("There are events: no demo events are needed.")
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
        made = demo_events(events, seed=seed, days=days, users=users, end=end, done=bar.add)
    inserted = 0

    def told() -> str:
        return f"Made {events:,} demo events of {days} days: inserted {inserted:,}."

    with (
        report(told, "It broke off: not all of them were inserted."),
        progress("insert demo events", total=events) as shown,
    ):
        for first in range(0, events, BATCH):
            batch = made[first : first + BATCH]
            gate()
            with uninterrupted():
                inserted += _inserted(repo, batch)
            shown.add(len(batch))
