"""python main.py adopt"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import click

from commands._help import DATABASE, FAILED, Command
from commands._options import mapping, time_zone
from commands._prepare import prepare
from commands._progress import progress
from commands._report import report, say
from commands.rollup import fold
from config.database import connect
from config.settings import Settings, load_settings
from repo.adopt.adoption import AdoptRepo, MappedRow
from repo.adopt.mapping import Map, Place, make_map, remembered_map
from repo.adopt.moments import Epoch
from repo.adopt.tables import CannotAdopt, Table
from repo.adopt.trigger import Adoption
from repo.rollups.folder import Folder
from services.adopt import BATCH, WRONG, Comparison, Copier, compared, install, release
from services.servers import database_server
from services.storage import StorageGate, storage_limits
from utils.local_times import HOW_READ, Adjustment
from utils.signals import stoppable

_SHOWN = 3
_LONGEST = 240
_MB = 1024 * 1024

_PLAN = """
A trigger makes an event of each row that is inserted from now on, in the same transaction, and
leaves out what cannot be one. Then the rows that are there are copied. What is updated or deleted
later stays the event that it was.
"""
_BROKEN_OFF = "It broke off: run the same command again, which goes on from there."
_WHY = {
    "missing": "they came in past the trigger, or their users were erased; adopt takes all of them",
    "taken": "their event_id is that of another row, or they were another event when they came in",
    "expired": "they are older than what is kept",
    "suppressed": "their users are suppressed",
}


@click.command(
    cls=Command,
    settings=(*DATABASE, "min_free_mb", "max_database_gb", "time_zones"),
    exit_codes={
        0: "All rows that can be events are events.",
        1: f"With --check, some are not. {FAILED}",
    },
)
@click.option("--table", "name", required=True, help="The table, with its schema or not.")
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=mapping,
    metavar="FIELD=COLUMN",
    help="The table calls this field otherwise, such as user_id=account_id.",
)
@click.option("--property", "more", multiple=True, metavar="COLUMN", help="It is a property.")
@click.option("--tz", callback=time_zone, help="The zone of times that have no offset.")
@click.option("--epoch", type=click.Choice(["s", "ms", "us"]), help="The unit of times since 1970.")
@click.option("--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows at a time.")
@click.option("--pace", default=0, type=click.IntRange(0), help="At most so many rows a second.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--check", is_flag=True, help="Compare the rows with the events made of them.")
@click.option("--release", "is_release", is_flag=True, help="Take the trigger away again.")
@stoppable()
def adopt(
    name: str,
    names: dict[str, str],
    more: tuple[str, ...],
    tz: ZoneInfo | None,
    epoch: Epoch | None,
    batch: int,
    pace: int,
    yes: bool,
    check: bool,
    is_release: bool,
) -> None:
    """Make the rows of a table of the platform events as well, those to come and those there are.

    An adoption that was interrupted is simply repeated: each row is an event once.
    """
    if check + is_release + bool(names or more or tz or epoch) > 1:
        raise click.UsageError("--check and --release stand alone: the map is known")
    settings = load_settings()
    with database_server(settings) as url, _repo(url) as repo:
        table, place = repo.find(name)
        if check:
            _check(repo, table, place)
        elif is_release:
            _release(repo, table, place, yes)
        else:
            made = make_map(
                table, names, property_columns=more, tz=tz.key if tz else None, epoch=epoch
            )
            _agree(repo, table, made, place, yes)
            gate = StorageGate(storage_limits(settings), repo.database_size)
            gate()
            adoption = install(repo, table, made, place)
            _take(repo, adoption, batch, pace, gate)
            _fold(url, settings)


@contextmanager
def _repo(url: str) -> Iterator[AdoptRepo]:
    prepare(url)
    with closing(connect(url, "analytics-adopt")) as conn:
        try:
            yield AdoptRepo(conn)
        except CannotAdopt as exc:
            raise click.ClickException(str(exc)) from exc


def _agree(repo: AdoptRepo, table: Table, made: Map, place: Place, is_agreed: bool) -> None:
    """Show what is going to be done, and ask."""
    repo.check_map(made, place)
    rows = repo.sample(table, made, place, _SHOWN)
    about = f"about {table.rows:,} rows, " if table.rows else ""
    click.echo(f"{place.known_as}: {about}{table.size / _MB:,.1f} MB\n")
    for field, source in _sources(table, made).items():
        click.echo(f"  {field:<11}  {source}")
    click.echo("\nSome of its rows as events:\n" if rows else "\nIt has no rows yet.")
    for row in rows:
        click.echo("  " + _shown(row))
    click.echo(_PLAN)
    if not is_agreed:
        click.confirm("Go on?", abort=True, err=True)


def _sources(table: Table, made: Map) -> dict[str, str]:
    moment = table.columns[made.occurred_at]
    how = f", of {made.tz}" if made.tz else f", {made.epoch} since 1970" if made.epoch else ""
    return {
        "event_id": ", ".join(made.event_id),
        "event_name": made.event_name,
        "occurred_at": f"{made.occurred_at} ({moment.shown_type}{how})",
        "user_id": made.user_id or "nobody",
        "properties": ", ".join(filter(None, (made.properties, *made.property_columns))) or "none",
    }


def _shown(row: MappedRow) -> str:
    if row.reason:
        return f"{row.key} cannot be one: {row.reason}"
    event = row._asdict()
    del event["key"], event["reason"]
    text = json.dumps(event, default=_as_text, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _as_text(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _take(repo: AdoptRepo, adoption: Adoption, batch: int, pace: int, gate: StorageGate) -> None:
    """Copy what was there, compare, and copy what has moved meanwhile."""
    began = time.monotonic()
    with progress(adoption.table.name, "pages") as bar:
        copier = Copier(repo, adoption, batch=batch, pace=pace, progress=bar.add, check_room=gate)

        def told() -> str:
            return f"Copied {copier.inserted:,} events in {time.monotonic() - began:.1f} s."

        with report(told, _BROKEN_OFF):
            bar.total = sum(part.pages - part.copied for part in repo.parts(adoption))
            copier.copy()
            found = compared(repo.compare(adoption))
            if found.whole.others["missing"]:
                copier.copy_missing()
                found = compared(repo.compare(adoption))
    _tell(adoption.place, found, repo.adjusted(adoption))
    _tell_trigger(repo, adoption.table)


def _fold(url: str, settings: Settings) -> None:
    with closing(connect(url, "analytics-adopt")) as conn:
        conn.autocommit = True
        fold(Folder(conn, settings.zones))


def _check(repo: AdoptRepo, table: Table, place: Place) -> None:
    """Exits with 1 where a row that could be an event is none, or another one."""
    known = repo.known(place)
    if known is None:
        raise CannotAdopt(f"{place.known_as} was never adopted")
    made = remembered_map(table, known.fields)
    adoption = Adoption(table, made, place, known.adoption_id)
    with progress("compare", "days"):
        found = compared(repo.compare(adoption))
    _tell(place, found, repo.adjusted(adoption))
    for day, counts in sorted(found.days.items()):
        if not counts.is_true:
            others = ", ".join(f"{state} {counts.others[state]:,}" for state in WRONG)
            say(f"  {day}: {counts.rows:,} rows, {counts.events:,} events, {others}")
    fires = _tell_trigger(repo, table)
    if not fires or not found.whole.is_true:
        sys.exit(1)


def _tell(place: Place, found: Comparison, adjusted: Mapping[Adjustment, int]) -> None:
    whole = found.whole
    say(
        f"{place.known_as}: {whole.rows:,} rows, {whole.events:,} events, "
        f"rejected {found.rejected.total():,}"
    )
    for reason, count in found.rejected.most_common():
        say(f"  {count:,} rejected: {reason}")
    for kind, count in adjusted.items():
        say(f"  {count:,} {HOW_READ[kind]}")
    for state, why in _WHY.items():
        if count := whole.others[state]:
            say(f"  {count:,} are no events: {why}")


def _tell_trigger(repo: AdoptRepo, table: Table) -> bool:
    """Whether it is as it should be."""
    fires = repo.fires(table)
    if fires is None:
        say("The trigger is not there: call adopt to take what has come in since.")
    elif not fires:
        say("The trigger is disabled: ALTER TABLE ... ENABLE TRIGGER analytics_adopt, then adopt.")
    return bool(fires)


def _release(repo: AdoptRepo, table: Table, place: Place, is_agreed: bool) -> None:
    known = repo.known(place)
    if known is None or (known.is_released and repo.fires(table) is None):
        raise CannotAdopt(f"{place.known_as} is not adopted")
    if not is_agreed:
        click.confirm(f"Rows that {place.known_as} gets from now on are no events?", abort=True)
    release(repo, table, place, known.adoption_id)
    say(f"{place.known_as} is released. Events that were made of its rows stay.")
