"""Drops events in tests, without the wait for running queries."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from repo.rollups.store import Horizon
from repo.verify.report import Findings
from services.lifecycle.retention import RetentionRun, open_retention_run


def drop(
    url: str, zones: Sequence[ZoneInfo], until: datetime, *, keeps_properties: bool = False
) -> int:
    """Drop all events before this time, as the command does; returns how many."""
    with open_retention_run(url, zones, print) as work:
        publish(work, until, keeps_properties=keeps_properties)
        dropped = sum(work.drop(until))
        work.fold()
        return dropped


def publish(work: RetentionRun, until: datetime, *, keeps_properties: bool = False) -> None:
    work.fold()
    work.refuse(until)
    findings = Findings()
    for part in work.repo.parts(until):
        work.repo.verify(part, findings)
    assert findings.listed == []
    work.publish(Horizon(until, None if keeps_properties else until), 0)
