"""The command `verify`."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click

from commands._help import DATABASE, FAILED, Command
from commands._migrate_first import migrate_embedded
from commands._progress import progress
from commands._report import report
from commands._settings import read_settings
from config.database import connect
from repo.verify.snapshot import Unverifiable
from services.server_urls import database_server
from utils.formats import quantity
from utils.signals import stoppable

if TYPE_CHECKING:
    from repo.verify.report import Findings


@click.command(
    cls=Command,
    settings=(*DATABASE, "time_zones"),
    exit_codes={0: "The rollups equal the events.", 1: f"Something differs. {FAILED}"},
)
@stoppable()
def verify() -> None:
    """Recount all events and compare each row of the rollups. Exits with 1 if any row differs."""
    from repo.verify.report import Findings

    settings = read_settings()
    findings = Findings()
    with database_server(settings) as url:
        migrate_embedded(settings, url)
        try:
            _verify(url, settings.zones, findings)
        except Unverifiable as exc:
            # A check that has checked nothing must not pass.
            raise click.ClickException(f"nothing was verified: {exc}") from exc
    if findings.differences:
        sys.exit(1)


def _verify(url: str, zones: Sequence[ZoneInfo], findings: "Findings") -> None:
    began, is_complete = time.monotonic(), False

    def summary() -> str:
        return _summary(findings, time.monotonic() - began, is_complete=is_complete)

    with report(summary):
        verify_all(url, zones, findings)
        is_complete = True


def verify_all(
    url: str, zones: Sequence[ZoneInfo], findings: "Findings | None" = None
) -> "Findings":
    """The differences of all rollups, for the declared zones; `findings` is filled meanwhile.

    Raises: Unverifiable, DatabaseUnavailable.
    """
    # These modules need numpy, which is slow to import.
    from repo.verify.dictionaries_and_state import verify_tables
    from repo.verify.report import Findings
    from repo.verify.verifiers import chunks, verify_chunk, verify_independent

    findings = Findings() if findings is None else findings
    conn = connect(url, "analytics-verify")
    conn.autocommit = True
    try:
        with progress("verify", "months") as bar:
            verify_tables(conn, findings)
            months = list(chunks(conn))
            bar.total = len(months)
            for chunk in months:
                verify_chunk(conn, chunk, findings)
                bar.add(1)
            verify_independent(conn, findings, [tz.key for tz in zones])
    finally:
        conn.close()
    return findings


def _summary(findings: "Findings", seconds: float, *, is_complete: bool) -> str:
    lines = [str(difference) for difference in findings.listed]
    if unlisted := findings.differences - len(findings.listed):
        lines.append(f"... and {unlisted:,} more.")
    outcome = f"{findings.differences:,} differ" if findings.differences else "all are equal"
    if not is_complete:
        outcome = f"{findings.differences:,} differ so far, and the rest was not compared"
    compared = (
        f"Compared {quantity(findings.rows, 'row')} with {quantity(findings.events, 'event')}"
    )
    return "\n".join([*lines, f"{compared} in {seconds:.1f} s: {outcome}."])
