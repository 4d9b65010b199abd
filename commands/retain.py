"""The command `retain`."""

import sys
import time
from datetime import datetime
from typing import Literal

import click

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import migrate_embedded
from commands._progress import progress
from commands._report import print_error, print_result, report
from commands._settings import read_settings
from common.errors import format_instant
from config.invocation import invocation
from repo.rollups.store import Horizon
from repo.verify.report import Findings
from services.disk_space import storage_limits
from services.lifecycle.retention import RetentionRun, horizon_of, open_retention_run
from services.server_urls import database_server
from utils.formats import quantity
from utils.signals import stoppable
from utils.time.ranges import RelativeRange, parse_age

_INTERRUPTED = "Interrupted: run the same command again to drop the rest."
_CONFIRMATION = (
    "Drop {events} before {until}, and reject events before it from now on? Counts stay "
    "exact for ranges that begin and end on a quarter of an hour; histories begin at this time. "
    "{properties} This cannot be undone."
)


ColumnsAge = RelativeRange | Literal["forever"]


def _parse_age(_: click.Context, __: click.Parameter, text: str) -> RelativeRange:
    try:
        return parse_age(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def _parse_columns_age(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> ColumnsAge | None:
    if text is None:
        return None
    return "forever" if text == "forever" else _parse_age(context, parameter, text)


@click.command(
    cls=Command,
    settings=(*DATABASE, "min_free_mb", "time_zones", "column_paths", "request_timeout_s"),
    exit_codes={0: "The events are dropped.", 1: f"The rollups differ from the events. {FAILED}"},
)
@click.option(
    "--raw",
    required=True,
    callback=_parse_age,
    metavar="AGE",
    help="The age to keep, such as 90d or 13months.",
)
@click.option(
    "--columns",
    callback=_parse_columns_age,
    metavar="AGE|forever",
    help="The age up to which filters on properties stay possible. They are personal data like the "
    "events. By default that of --raw.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@stoppable()
def retain(raw: RelativeRange, columns: ColumnsAge | None, yes: bool) -> None:
    """Drop events that are older than AGE and keep their counts.

    Run an interrupted run again to continue it.
    """
    settings = read_settings()
    with database_server(settings) as url:
        migrate_embedded(settings, url)
        check_reserve = storage_limits(settings).check_reserve
        with open_retention_run(
            url, settings.zones, print_error, check_reserve, settings.column_paths
        ) as run:
            with progress("fold", "steps"):
                run.fold()
            horizon = _new_horizon(run, raw, columns or raw)
            if not yes:
                _confirm(run, horizon)
            _publish(run, horizon, settings.request_timeout_s)
            _drop(run, horizon.events)


def _new_horizon(run: RetentionRun, raw: RelativeRange, columns: ColumnsAge) -> Horizon:
    """The new horizon, never before the present one. Raises: click.BadParameter."""
    state = run.repo.get()
    events = _horizon_of(raw, state.now, "--raw")
    properties = None if columns == "forever" else _horizon_of(columns, state.now, "--columns")
    if properties and properties > events:
        raise click.BadParameter("must not be shorter than --raw", param_hint="--columns")
    if state.horizon and events < state.horizon:
        print_error(f"Events before {format_instant(state.horizon)} are dropped already.")
    return Horizon(max(events, state.horizon or events), properties)


def _horizon_of(age: RelativeRange, now: datetime, option: str) -> datetime:
    """Raises: click.BadParameter."""
    try:
        return horizon_of(age, now)
    except (ValueError, OverflowError):
        message = "must not reach back before 2000, the first year that events may have"
        raise click.BadParameter(message, param_hint=option) from None


def _confirm(run: RetentionRun, horizon: Horizon) -> None:
    """Raises: click.Abort."""
    properties = "Filters on properties stay exact."
    if horizon.properties:
        earliest = format_instant(horizon.properties)
        properties = f"Filters on properties cannot reach before {earliest} any more."
    question = _CONFIRMATION.format(
        events=quantity(run.repo.count(horizon.events), "event"),
        until=format_instant(horizon.events),
        properties=properties,
    )
    click.confirm(question, abort=True)


def _publish(run: RetentionRun, horizon: Horizon, request_s: float) -> None:
    """Verify the rollups that are to stand alone, then publish the horizon.

    Exits with 1 if anything differs.
    """
    findings = Findings()
    with progress("verify", "months") as bar:
        run.refuse(horizon.events)
        parts = list(run.repo.parts(horizon.events))
        bar.total = len(parts)
        for part in parts:
            run.repo.verify(part, findings)
            bar.add(1)
    if findings.differences:
        run.cancel()
        _print_differences(findings)
        sys.exit(1)
    print_error(
        f"Events before {format_instant(horizon.events)} are no longer read; waiting "
        f"{request_s:g} s for queries in flight."
    )
    run.publish(horizon, request_s)


def _drop(run: RetentionRun, until: datetime) -> None:
    began = time.monotonic()
    vacuum_s: float | None = None

    def summary() -> str:
        dropped = f"Dropped {quantity(run.dropped, 'event')} before {format_instant(until)}"
        if vacuum_s is None:
            return f"{dropped} in {time.monotonic() - began:.1f} s."
        drop_s = time.monotonic() - began - vacuum_s
        return f"{dropped} in {drop_s:.1f} s, and vacuumed in {vacuum_s:.1f} s."

    with report(summary, _INTERRUPTED):
        with progress("drop", total=run.repo.count(until)) as bar:
            for events in run.drop(until):
                bar.add(events)
        with progress("rewrite columns", "steps"):
            run.fold()
        dropped_at = time.monotonic()
        print_error("Vacuuming, at the pace of autovacuum.")
        with progress("vacuum", "tables"):
            run.repo.vacuum()
        vacuum_s = time.monotonic() - dropped_at


def _print_differences(findings: Findings) -> None:
    for difference in findings.listed:
        print_result(str(difference))
    print_result(
        f"Nothing was dropped: {findings.differences:,} rows of rollups are not what the events "
        f"say. Make them anew with `{invocation('rollup --rebuild')}`."
    )
