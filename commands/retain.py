"""python main.py retain"""

import sys
import time
from datetime import datetime

import click

from commands._help import DATABASE, FAILED, Command
from commands._prepare import prepare_embedded
from commands._progress import progress
from commands._report import complain, report, say
from common.errors import instant
from config.invocation import invocation
from config.settings import load_settings
from repo.verify.findings import Findings
from services.retain import Retaining, horizon_of, retaining
from services.servers import database_server
from services.storage import storage_limits
from utils.periods import Last, parse_age
from utils.signals import stoppable

_BROKEN_OFF = "It broke off: run the same command again to drop the rest."
_ASKED = (
    "Drop {events:,} events of before {until}, and refuse all that come in later? Counts stay as "
    "exact as they are, of ranges that begin and end with a quarter of an hour; histories begin "
    "there. This cannot be undone."
)


def _age(_: click.Context, __: click.Parameter, text: str) -> Last:
    try:
        return parse_age(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


@click.command(
    cls=Command,
    settings=(*DATABASE, "min_free_mb", "time_zones", "request_timeout_s"),
    exit_codes={0: "All is dropped.", 1: f"Rollups differ from the events. {FAILED}"},
)
@click.option("--raw", required=True, callback=_age, metavar="AGE", help="Such as 90d, 13months.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@stoppable()
def retain(raw: Last, yes: bool) -> None:
    """Drop events that are older than AGE; what was counted of them stays.

    A run that was interrupted is simply repeated.
    """
    settings = load_settings()
    with database_server(settings) as url:
        prepare_embedded(settings, url)
        check_reserve = storage_limits(settings).check_reserve
        with retaining(url, settings.zones, complain, check_reserve) as work:
            with progress("fold", "steps"):
                work.fold()
            until = _until(work, raw)
            if not yes:
                events = work.repo.count(until)
                click.confirm(_ASKED.format(events=events, until=instant(until)), abort=True)
            _publish(work, until, settings.request_timeout_s)
            _drop(work, until)


def _until(work: Retaining, age: Last) -> datetime:
    """The horizon never moves back. Raises: click.BadParameter."""
    known = work.repo.get()
    try:
        wanted = horizon_of(age, known.now)
    except (ValueError, OverflowError):
        message = "must not reach back before 2000, from when on events are"
        raise click.BadParameter(message, param_hint="--raw") from None
    if known.horizon and wanted < known.horizon:
        complain(f"What is older than {instant(known.horizon)} is dropped already.")
    return max(wanted, known.horizon or wanted)


def _publish(work: Retaining, until: datetime, request_s: float) -> None:
    """Only what is right is kept alone. Exits with 1 where anything differs."""
    findings = Findings()
    with progress("verify", "months") as shown:
        work.refuse(until)
        parts = list(work.repo.parts(until))
        shown.total = len(parts)
        for part in parts:
            work.repo.verify(part, findings)
            shown.add(1)
    if findings.differences:
        work.give_up()
        _tell(findings)
        sys.exit(1)
    complain(
        f"Events of before {instant(until)} are no longer read; waiting {request_s:g} s for those "
        "who do."
    )
    work.publish(until, request_s)


def _drop(work: Retaining, until: datetime) -> None:
    began = time.monotonic()
    vacuumed_s: float | None = None

    def told() -> str:
        dropped = f"Dropped {work.dropped:,} events of before {instant(until)}"
        if vacuumed_s is None:
            return f"{dropped} in {time.monotonic() - began:.1f} s."
        dropped_s = time.monotonic() - began - vacuumed_s
        return f"{dropped} in {dropped_s:.1f} s, and vacuumed in {vacuumed_s:.1f} s."

    with report(told, _BROKEN_OFF):
        with progress("drop", total=work.repo.count(until)) as shown:
            for events in work.drop(until):
                shown.add(events)
        dropped_at = time.monotonic()
        complain("Vacuuming, at the pace of autovacuum.")
        with progress("vacuum", "tables"):
            work.repo.vacuum()
        vacuumed_s = time.monotonic() - dropped_at


def _tell(findings: Findings) -> None:
    for difference in findings.told:
        say(str(difference))
    say(
        f"Nothing was dropped: {findings.differences:,} rows of rollups are not what the events "
        f"say. Make them anew with `{invocation('rollup --rebuild')}`."
    )
