"""Dropping events in tests, without the wait for those who still read them."""

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from repo.verify.findings import Findings
from services.retain import Retaining, retaining


def drop(url: str, zones: Sequence[ZoneInfo], until: datetime) -> int:
    """All events of before, as the command does it; tells how many."""
    with retaining(url, zones, print) as work:
        publish(work, until)
        return sum(work.drop(until))


def publish(work: Retaining, until: datetime) -> None:
    work.fold()
    work.refuse(until)
    findings = Findings()
    for part in work.repo.parts(until):
        work.repo.verify(part, findings)
    assert findings.told == []
    work.publish(until, 0)
