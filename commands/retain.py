"""The command `retain`."""

import sys
import time
from datetime import datetime

import click

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import migrate_embedded
from commands._progress import progress
from commands._report import print_error, print_result, report
from commands._settings import read_settings
from common.errors import format_instant
from config.invocation import invocation
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
    "This cannot be undone."
)


def _parse_age(_: click.Context, __: click.Parameter, text: str) -> RelativeRange:
    try:
        return parse_age(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command(
    cls=Command,
    settings=(*DATABASE, "min_free_mb", "time_zones", "request_timeout_s"),
    exit_codes={0: "The events are dropped.", 1: f"The rollups differ from the events. {FAILED}"},
)
@click.option(
    "--raw",
    required=True,
    callback=_parse_age,
    metavar="AGE",
    help="The age to keep, such as 90d or 13months.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@stoppable()
def retain(raw: RelativeRange, yes: bool) -> None:
    """Drop events that are older than AGE and keep their counts.

    Run an interrupted run again to continue it.
    """
    settings = read_settings()
    with database_server(settings) as url:
        migrate_embedded(settings, url)
        check_reserve = storage_limits(settings).check_reserve
        with open_retention_run(url, settings.zones, print_error, check_reserve) as run:
            with progress("fold", "steps"):
                run.fold()
            until = _new_horizon(run, raw)
            if not yes:
                events = run.repo.count(until)
                click.confirm(
                    _CONFIRMATION.format(
                        events=quantity(events, "event"), until=format_instant(until)
                    ),
                    abort=True,
                )
            _publish(run, until, settings.request_timeout_s)
            _drop(run, until)


def _new_horizon(run: RetentionRun, age: RelativeRange) -> datetime:
    """The new horizon, never before the present one. Raises: click.BadParameter."""
    state = run.repo.get()
    try:
        horizon = horizon_of(age, state.now)
    except (ValueError, OverflowError):
        message = "must not reach back before 2000, the first year that events may have"
        raise click.BadParameter(message, param_hint="--raw") from None
    if state.horizon and horizon < state.horizon:
        print_error(f"Events before {format_instant(state.horizon)} are dropped already.")
    return max(horizon, state.horizon or horizon)


def _publish(run: RetentionRun, until: datetime, request_s: float) -> None:
    """Verify the rollups that are to stand alone, then publish the horizon.

    Exits with 1 if anything differs.
    """
    findings = Findings()
    with progress("verify", "months") as bar:
        run.refuse(until)
        parts = list(run.repo.parts(until))
        bar.total = len(parts)
        for part in parts:
            run.repo.verify(part, findings)
            bar.add(1)
    if findings.differences:
        run.cancel()
        _print_differences(findings)
        sys.exit(1)
    print_error(
        f"Events before {format_instant(until)} are no longer read; waiting {request_s:g} s "
        "for queries in flight."
    )
    run.publish(until, request_s)


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
