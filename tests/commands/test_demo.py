"""`python main.py demo`: the same events for the same seed, and none where there are some."""

import pytest
from psycopg2.extensions import connection

from tests.cli import run_cli
from tests.events import insert


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


def demo(environment: dict[str, str], *arguments: str) -> str:
    done = run_cli("demo", *arguments, **environment)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def counts(conn: connection) -> tuple[int, bool, bool]:
    with conn.cursor() as cur:
        cur.execute(
            "select count(*), max(occurred_at) between now() - interval '1 day' and now(), "
            "min(occurred_at) > now() - interval '91 days' from events"
        )
        return cur.fetchone() or (0, False, False)


def test_it_fills_in_the_days_that_end_now(environment: dict[str, str], conn: connection) -> None:
    result = demo(environment, "--events", "3000")
    assert result == "Made 3,000 demo events of 90 days: inserted 3,000.\n"
    assert counts(conn) == (3000, True, True)


def test_it_leaves_a_database_with_events_alone(
    environment: dict[str, str], conn: connection
) -> None:
    insert(conn, ("u", "view", "2025-01-01T00:00:00Z"))
    assert demo(environment, "--if-empty") == "There are events: no demo events are needed.\n"
    assert counts(conn)[0] == 1
