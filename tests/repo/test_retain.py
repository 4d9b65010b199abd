"""What was counted of dropped events stays, exactly; what cannot be told is not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.questions import EventCounts
from repo.rollups.folder import Folder
from services.retain import Retaining, retaining
from tests.events import insert
from tests.rollups import answered, asking
from utils.zones import zone

ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
HORIZON = MIDNIGHT - 40 * DAY


@pytest.fixture
def work(database_url: str) -> Iterator[Retaining]:
    with retaining(database_url, ZONES, print) as opened:
        yield opened


def retain(work: Retaining, until: datetime = HORIZON) -> int:
    work.fold()
    work.refuse(until)
    from repo.verify.findings import Findings

    findings = Findings()
    for part in work.repo.parts(until):
        work.repo.verify(part, findings)
    assert findings.told == []
    work.publish(until, 0)
    return sum(work.drop(until))


def test_smoke(conn: connection, database_url: str, work: Retaining) -> None:
    insert(conn, *((f"u{n % 50}", "ab"[n % 2], NOW - n * DAY / 3) for n in range(300)))
    Folder(conn, ZONES).catch_up()
    from commands.verify import verified

    assert verified(database_url, ZONES).told == []
    with asking(database_url) as asker:
        q = EventCounts(
            start=(NOW - 100 * DAY).date(), end=NOW.date(), interval="day", tz="Europe/Berlin"
        )
        a = asker.compare(q)
        assert retain(work) > 100
        with asker.snapshot() as cur:
            from repo.events import _source

            assert answered(_source(cur, q), q, cur) == a
        assert verified(database_url, ZONES).told == []
        Folder(conn, ZONES).rebuild()
        with asker.snapshot() as cur:
            assert answered(_source(cur, q), q, cur) == a
        found = verified(database_url, ZONES)
        assert found.told == []
        print(found)
    work.repo.vacuum()
    insert(conn, ("x", "a", HORIZON), ("y", "a", HORIZON - timedelta(microseconds=1)))
    assert work.repo.take_refused() == {"expired": 1}
