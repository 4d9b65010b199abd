"""python main.py verify"""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import click
from tqdm import tqdm

from commands._prepare import one_line_errors, prepare
from config.database import connect
from config.settings import load_settings
from repo.verify.snapshot import Unverifiable
from services.servers import database_server

if TYPE_CHECKING:
    from repo.verify.findings import Findings


@click.command()
@one_line_errors
def verify() -> None:
    """Recount all events, and compare each row of the rollups. Exits with 1 if any differs."""
    began = time.monotonic()
    settings = load_settings()
    with database_server(settings) as url:
        if not settings.database_url:
            prepare(url)
        try:
            findings = verified(url, settings.zones)
        except Unverifiable as exc:
            # A check that has checked nothing must not pass.
            raise click.ClickException(f"nothing was verified: {exc}") from exc
    _tell(findings, time.monotonic() - began)
    if findings.differences:
        sys.exit(1)


def verified(url: str, zones: Sequence[ZoneInfo]) -> "Findings":
    """`zones` are those that are declared. Raises: Unverifiable, DatabaseUnavailable."""
    # They need numpy, which is large, and workers import all commands.
    from repo.verify.check import chunks, verify_chunk
    from repo.verify.findings import Findings
    from repo.verify.numbers import verify_numbers
    from repo.verify.tables import verify_tables

    findings = Findings()
    conn = connect(url, "analytics-verify")
    conn.autocommit = True
    try:
        verify_tables(conn, findings)
        for chunk in tqdm(chunks(conn), desc="verify", unit=" months", disable=None):
            verify_chunk(conn, chunk, findings)
        verify_numbers(conn, findings, [tz.key for tz in zones])
    finally:
        conn.close()
    return findings


def _tell(findings: "Findings", seconds: float) -> None:
    for difference in findings.told:
        click.echo(str(difference))
    if untold := findings.differences - len(findings.told):
        click.echo(f"... and {untold:,} more.")
    outcome = f"{findings.differences:,} differ" if findings.differences else "all are true"
    click.echo(
        f"Compared {findings.rows:,} rows with {findings.events:,} events "
        f"in {seconds:.1f} s: {outcome}."
    )
