"""The SQL expressions for the time of an adopted row."""

from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection
from psycopg2.sql import SQL, Composable, Literal

from repo.adopt.timestamps import by_rules, epoch_instant, local_instant
from utils.time.epochs import Epoch


def evaluated(conn: connection, expression: Composable) -> object:
    with conn.cursor() as cur:
        cur.execute(SQL("select {}").format(expression))
        (value,) = cur.fetchone() or ()
        return value


@pytest.mark.parametrize(
    ("value", "epoch", "instant"),
    [
        (1_700_000_000, "s", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        (1_700_000_000_500, "ms", datetime(2023, 11, 14, 22, 13, 20, 500_000, tzinfo=UTC)),
        (1_700_000_000_000_001, "us", datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)),
        (1_700_000_000_000_001_999, "ns", datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)),
        (946_684_800, "s", datetime(2000, 1, 1, tzinfo=UTC)),
        (946_684_799, "s", None),
        (4_102_444_800, "s", None),
        (2**62, "us", None),
    ],
)
def test_epochs_are_instants_within_the_years_of_events(
    conn: connection, value: int, epoch: Epoch, instant: datetime | None
) -> None:
    assert evaluated(conn, epoch_instant(Literal(value), epoch)) == instant


@pytest.mark.parametrize(
    ("local", "instant"),
    [
        ("2025-06-01 12:00", datetime(2025, 6, 1, 10, tzinfo=UTC)),
        ("2025-12-01 12:00", datetime(2025, 12, 1, 11, tzinfo=UTC)),
        ("2025-10-26 02:30", datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),  # the first of two
        ("2025-03-30 02:30", datetime(2025, 3, 30, 1, 30, tzinfo=UTC)),  # moved forward
        ("1999-11-30 23:59", None),
        ("2100-02-01 00:00", None),
    ],
)
def test_local_times_are_read_by_the_rules_of_the_zone(
    conn: connection, local: str, instant: datetime | None
) -> None:
    value = SQL("{}::timestamp").format(Literal(local))
    assert evaluated(conn, local_instant(value, by_rules("Europe/Berlin"))) == instant
