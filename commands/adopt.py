"""The command `adopt`."""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import click

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import apply_migrations, check_schema
from commands._options import field_values, mapping, property_names, time_zone
from commands._progress import progress
from commands._report import print_result, report
from commands._settings import read_settings
from commands.rollup import fold
from config.database import connect
from config.settings import Settings
from repo.adopt.adoption import AdoptRepo, MappedRow
from repo.adopt.catalog import CannotAdopt, Table
from repo.adopt.mapping import (
    CONSTANT_FIELDS,
    AdoptionNames,
    TableMapping,
    make_mapping,
    stored_mapping,
)
from repo.adopt.trigger import Adoption, trigger_name
from repo.rollups.rollup_writer import RollupWriter
from services.disk_space import StorageGate, storage_limits
from services.lifecycle.adoption import (
    BATCH,
    WRONG,
    Comparison,
    Copier,
    compare_rows,
    install,
    release,
)
from services.server_urls import database_server
from utils.formats import quantity
from utils.signals import stoppable
from utils.time.epochs import Epoch
from utils.time.local_times import ADJUSTMENT_TEXTS
from utils.time.zones import TZDATA_VERSION

_SAMPLE_ROWS = 3
_MAX_ROW_CHARS = 240
_MB = 1024 * 1024

_PLAN = """
A trigger stores an event for each row that is inserted from now on, in the same transaction, and
rejects rows that cannot be events. Then the existing rows are copied. Rows that are updated or
deleted later do not change their events.
"""
_INTERRUPTED = "Interrupted: run the same command again to continue."
_WHY = {
    "missing": "the trigger was bypassed, or their users were erased; run adopt again to copy them",
    "taken": "their event_id belongs to another row, or the row was updated after it was inserted",
    "expired": "they are older than the horizon",
    "suppressed": "their users are suppressed",
}


def _constants(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    return field_values(values, CONSTANT_FIELDS, "VALUE")


@click.command(
    cls=Command,
    settings=(*DATABASE, "min_free_mb", "max_database_gb", "time_zones", "column_paths"),
    exit_codes={
        0: "All rows that can be events are stored as events.",
        1: f"With --check, some rows have no event or another one. {FAILED}",
    },
)
@click.option(
    "--table", "name", required=True, help="The name of the table, with or without its schema."
)
@click.option(
    "--map",
    "names",
    multiple=True,
    callback=mapping,
    metavar="FIELD=COLUMN",
    help="The column of a field with another name, such as user_id=account_id.",
)
@click.option(
    "--set",
    "constants",
    multiple=True,
    callback=_constants,
    metavar="FIELD=VALUE",
    help="The value of a field in rows in which no column has one, such as event_name=sign-up.",
)
@click.option(
    "--property",
    "properties",
    multiple=True,
    callback=property_names,
    metavar="COLUMN[=NAME]",
    help="Store this column as a property; '*' is all others.",
)
@click.option(
    "--ignore",
    "ignored",
    multiple=True,
    metavar="COLUMN",
    help="Do not store this column, also with --property '*'.",
)
@click.option(
    "--tz",
    metavar="ZONE",
    callback=time_zone,
    help="The time zone of times without an offset, such as Europe/Berlin.",
)
@click.option(
    "--epoch",
    type=click.Choice(get_args(Epoch)),
    help="The unit of numeric times since 1970.",
)
@click.option(
    "--batch", default=BATCH, type=click.IntRange(1, 100_000), help="Rows per transaction."
)
@click.option(
    "--pace", default=0, type=click.IntRange(0), help="The most rows per second; 0 for no limit."
)
@click.option("--dry-run", is_flag=True, help="Show some rows as events, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--check", is_flag=True, help="Compare the rows with the events made of them.")
@click.option("--release", "is_release", is_flag=True, help="Remove the trigger.")
@stoppable()
def adopt(
    name: str,
    batch: int,
    pace: int,
    dry_run: bool,
    yes: bool,
    check: bool,
    is_release: bool,
    **options: Any,
) -> None:
    """Store the rows of a table of the platform as events, both new and existing rows.

    Run an interrupted adoption again to continue it: each row is stored once.
    """
    if check + is_release + (dry_run or any(options.values())) > 1:
        raise click.UsageError(
            "use --check and --release without other options: the mapping is stored"
        )
    settings = read_settings()
    with database_server(settings) as url, _repo(url, is_dry_run=dry_run) as repo:
        table, adoption_names = repo.find(name)
        if check:
            _check(repo, table, adoption_names)
        elif is_release:
            _release(repo, table, adoption_names, yes)
        else:
            field_map = _mapping(table, **options)
            _preview(repo, table, field_map, adoption_names, options["ignored"])
            if dry_run:
                return
            if not yes:
                click.confirm("Go on?", abort=True, err=True)
            gate = StorageGate(storage_limits(settings), repo.database_size)
            gate()
            adoption = install(repo, table, field_map, adoption_names)
            _copy_rows(repo, adoption, batch, pace, gate)
            _fold(url, settings)


def _mapping(
    table: Table, names: dict[str, str], tz: ZoneInfo | None, **options: Any
) -> TableMapping:
    """Raises: CannotAdopt."""
    return make_mapping(table, names, tz=tz.key if tz else None, **options)


@contextmanager
def _repo(url: str, *, is_dry_run: bool) -> Iterator[AdoptRepo]:
    if is_dry_run:
        check_schema(url)
    else:
        apply_migrations(url)
    with closing(connect(url, "analytics-adopt")) as conn:
        try:
            yield AdoptRepo(conn)
        except CannotAdopt as exc:
            raise click.ClickException(str(exc)) from exc


def _preview(
    repo: AdoptRepo,
    table: Table,
    field_map: TableMapping,
    adoption_names: AdoptionNames,
    ignored: tuple[str, ...],
) -> None:
    """Show the mapping and sample events."""
    repo.check_mapping(field_map, adoption_names)
    rows = repo.sample(table, field_map, adoption_names, _SAMPLE_ROWS)
    about = f"about {table.rows:,} rows, " if table.rows else ""
    click.echo(f"{adoption_names.original_name}: {about}{table.size / _MB:,.1f} MB\n")
    for field, source in _sources(table, field_map).items():
        click.echo(f"  {field:<11}  {source}")
    if unused := [name for name in table.columns if name not in (*field_map.columns, *ignored)]:
        click.echo(f"  not stored   {', '.join(unused)} (--property '*' stores all columns)")
    click.echo("\nSample rows as events:\n" if rows else "\nThe table has no rows yet.")
    for row in rows:
        click.echo("  " + _format_row(row))
    click.echo(_PLAN)


def _sources(table: Table, field_map: TableMapping) -> dict[str, str]:
    time_column = table.columns[field_map.occurred_at]
    how = (
        f", of {field_map.tz}"
        if field_map.tz
        else f", {field_map.epoch} since 1970"
        if field_map.epoch
        else ""
    )
    constants = {name: json.dumps(text) for name, text in field_map.constants.items()}
    return {
        "event_id": ", ".join(field_map.event_id),
        "event_name": _first_of(field_map.event_name, constants.get("event_name")),
        "occurred_at": f"{field_map.occurred_at} ({time_column.display_type}{how})",
        "user_id": _first_of(field_map.user_id, constants.get("user_id")) or "nobody",
        "properties": ", ".join(filter(None, (field_map.properties, *_properties(field_map))))
        or "none",
    }


def _first_of(column: str | None, constant: str | None) -> str:
    return ", or else ".join(filter(None, (column, constant)))


def _properties(field_map: TableMapping) -> Iterator[str]:
    """Yield the columns that become properties, with their names where these differ."""
    for column in field_map.property_columns:
        name = field_map.property_names.get(column)
        yield f"{column} as {name}" if name else column


def _format_row(row: MappedRow) -> str:
    if row.reason:
        return f"{row.key} cannot be an event: {row.reason}"
    event = row._asdict()
    del event["key"], event["reason"]
    text = json.dumps(event, default=_json_default, ensure_ascii=False)
    return text if len(text) <= _MAX_ROW_CHARS else text[:_MAX_ROW_CHARS] + "..."


def _json_default(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _copy_rows(
    repo: AdoptRepo, adoption: Adoption, batch: int, pace: int, gate: StorageGate
) -> None:
    """Copy the existing rows, compare, and copy rows that were moved between pages meanwhile."""
    began = time.monotonic()
    with progress(adoption.table.name, "pages") as bar:
        copier = Copier(repo, adoption, batch=batch, pace=pace, progress=bar.add, check_space=gate)

        def summary() -> str:
            return (
                f"Copied {quantity(copier.inserted, 'event')} in {time.monotonic() - began:.1f} s."
            )

        with report(summary, _INTERRUPTED):
            bar.total = sum(part.pages - part.copied for part in repo.parts(adoption))
            copier.copy()
            comparison = compare_rows(repo.compare(adoption))
            if comparison.total.others["missing"]:
                copier.copy_missing()
                comparison = compare_rows(repo.compare(adoption))
    _print_comparison(adoption.names, comparison, _local_time_notes(repo, adoption))
    _print_trigger_state(repo, adoption.table, adoption.names)


def _fold(url: str, settings: Settings) -> None:
    with closing(connect(url, "analytics-adopt")) as conn:
        conn.autocommit = True
        fold(RollupWriter(conn, settings.zones, max_paths=settings.column_paths))


def _check(repo: AdoptRepo, table: Table, adoption_names: AdoptionNames) -> None:
    """Exit with 1 if a row has no event although it could, or another one."""
    adopted = repo.find_adopted(adoption_names)
    if adopted is None:
        raise CannotAdopt(f"{adoption_names.original_name} was never adopted")
    field_map = stored_mapping(table, adopted.fields)
    adoption = Adoption(table, field_map, adoption_names, adopted.adoption_id)
    with progress("compare", "days"):
        comparison = compare_rows(repo.compare(adoption))
    _print_comparison(adoption_names, comparison, _local_time_notes(repo, adoption))
    for day, counts in sorted(comparison.days.items()):
        if not counts.is_consistent:
            others = ", ".join(f"{state} {counts.others[state]:,}" for state in WRONG)
            print_result(f"  {day}: {counts.rows:,} rows, {counts.events:,} events, {others}")
    is_firing = _print_trigger_state(repo, table, adoption_names)
    if not is_firing or not comparison.total.is_consistent:
        sys.exit(1)


def _local_time_notes(repo: AdoptRepo, adoption: Adoption) -> Iterator[str]:
    """Yield what is unusual about the local times of rows."""
    tz = adoption.mapping.tz
    for kind, count in repo.count_adjusted(adoption).items():
        yield f"{count:,} {ADJUSTMENT_TEXTS[kind]}"
    others = repo.count_other_rules(adoption)
    if others is None:
        yield f"PostgreSQL does not know {tz}: the rules of tzdata {TZDATA_VERSION} were used"
    elif others:
        yield (
            f"{others:,} with a local time that PostgreSQL's rules of {tz} read differently: those "
            f"of tzdata {TZDATA_VERSION} were used"
        )


def _print_comparison(
    adoption_names: AdoptionNames, comparison: Comparison, notes: Iterable[str]
) -> None:
    total = comparison.total
    print_result(
        f"{adoption_names.original_name}: {total.rows:,} rows, {total.events:,} events, "
        f"rejected {comparison.rejected.total():,}"
    )
    for reason, count in comparison.rejected.most_common():
        print_result(f"  {count:,} rejected: {reason}")
    for note in notes:
        print_result(f"  {note}")
    for state, why in _WHY.items():
        if count := total.others[state]:
            print_result(f"  {count:,} have no event: {why}")


def _print_trigger_state(repo: AdoptRepo, table: Table, names: AdoptionNames) -> bool:
    """Whether the trigger is there and enabled."""
    is_firing = repo.is_trigger_enabled(table)
    if is_firing is None:
        print_result(
            "The trigger is missing: run adopt to create it and to copy the rows that it missed."
        )
    elif not is_firing:
        trigger = trigger_name(names.own_schema)
        print_result(
            f"The trigger is disabled: ALTER TABLE ... ENABLE TRIGGER {trigger}, then adopt."
        )
    return bool(is_firing)


def _release(
    repo: AdoptRepo, table: Table, adoption_names: AdoptionNames, is_confirmed: bool
) -> None:
    adopted = repo.find_adopted(adoption_names)
    if adopted is None or (adopted.is_released and repo.is_trigger_enabled(table) is None):
        raise CannotAdopt(f"{adoption_names.original_name} is not adopted")
    if not is_confirmed:
        click.confirm(
            f"Stop storing new rows of {adoption_names.original_name} as events?", abort=True
        )
    release(repo, table, adoption_names, adopted.adoption_id)
    print_result(f"{adoption_names.original_name} is released. The events of its rows stay.")
