"""A platform table for tests of `adopt`: its rows, its writers, and the events expected of it."""

import hashlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from click.testing import CliRunner, Result
from psycopg2.extensions import connection, cursor, parse_dsn

from main import cli
from tests.source_comparison import connected

MAIN = [sys.executable, str(Path(__file__).parents[1] / "main.py")]
MAP = (
    "--map=event_name=type",
    "--map=user_id=account_id",
    "--map=occurred_at=created_at",
    "--map=properties=payload",
    "--tz=Europe/Berlin",
)
BERLIN = ZoneInfo("Europe/Berlin")

_TABLE = """
create table app_events (
    id         bigserial primary key,
    account_id bigint,
    type       text,
    created_at timestamp,
    payload    jsonb,
    seen       boolean not null default false
)
"""
_FILL = """
insert into app_events (account_id, type, created_at, payload)
select n %% 50, case when n %% 100 = 0 then '' else 'type' || n %% 7 end,
       timestamp '2025-03-29 12:00' + n * interval '1 minute', jsonb_build_object('n', n)
from   generate_series(1, %s) n
"""
_INSERT = "insert into app_events (account_id, type, created_at, payload) values "
_COPY = "copy app_events (account_id, type, created_at, payload) from stdin"

Adopt = Callable[..., Result]
Expected = tuple[str, str, datetime, Any]


def make_table(conn: connection, rows: int = 0) -> None:
    """Create app_events with rows of which one in a hundred cannot be an event."""
    run_sql(conn, _TABLE)
    fill_table(conn, rows)


def fill_table(conn: connection, rows: int) -> None:
    run_sql(conn, _FILL, rows)


def adopt_command(url: str) -> Adopt:
    """The command `adopt` in this process, without confirmation unless requested."""
    runner = CliRunner(env={"DATABASE_URL": url})

    def call(*arguments: str, asked: str | None = None) -> Result:
        confirmation = [] if asked is not None or "--check" in arguments else ["--yes"]
        return runner.invoke(cli, ["adopt", *arguments, *confirmation], input=asked)

    return call


@contextmanager
def platform_role(conn: connection, url: str) -> Iterator[str]:
    """The URL of a role that has rights on its own tables and on none of the service."""
    name, parts = f"platform_{uuid4().hex}", parse_dsn(url)
    with conn.cursor() as cur:
        cur.execute(f"create role {name} login password 'secret'")
        cur.execute(f"grant select, insert, update, delete, truncate on app_events to {name}")
        cur.execute(f"grant usage on all sequences in schema public to {name}")
        yield url.replace(f"{parts['user']}:{parts['password']}@", f"{name}:secret@")
        cur.execute(f"drop owned by {name}")
        cur.execute(f"drop role {name}")


def random_row(rng: random.Random) -> tuple[Any, ...]:
    name = rng.choice(["view", "buy", "", "x" * 201, None, "sign up"])
    local_time = rng.choice([datetime(1999, 5, 1), datetime(2026, 10, 25, 2, 30), None])
    properties = rng.choice(["{}", '{"n": 1}', "[]", "null", None])
    return rng.randrange(50), name, local_time, properties


def write_transaction(cur: cursor, rng: random.Random) -> None:
    """Write rows in one transaction, with a random one of the ways that platforms use."""
    rows = [random_row(rng) for _ in range(rng.randrange(1, 20))]
    placeholders = ", ".join(["(%s, %s, %s, %s)"] * len(rows))
    cur.execute("begin")
    cur.execute("update app_events set seen = not seen where id %% 97 = %s", (rng.randrange(97),))
    cur.execute(_INSERT + placeholders, [value for each in rows for value in each])
    cur.execute("savepoint part")
    cur.execute(_INSERT + "(%s, %s, %s, %s)", random_row(rng))
    cur.execute(rng.choice(["rollback to part", "release part"]))
    if rng.random() < 0.3:
        cur.copy_expert(_COPY, StringIO("".join(map(_copy_line, rows))))
    if rng.random() < 0.1:
        time.sleep(rng.uniform(0, 0.5))
    cur.execute("rollback" if rng.random() < 0.15 else "commit")


def _copy_line(values: tuple[Any, ...]) -> str:
    return "\t".join("\\N" if value is None else str(value) for value in values) + "\n"


@contextmanager
def writers(url: str, count: int) -> Iterator[list[Exception]]:
    """Run writers until the end of the block; yields their exceptions."""
    is_over, failures = threading.Event(), list[Exception]()

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            with connected(url) as conn, conn.cursor() as cur:
                while not is_over.is_set():
                    write_transaction(cur, rng)
                    time.sleep(rng.uniform(0, 0.05))
        except Exception as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(count)]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join)
        stack.callback(is_over.set)
        yield failures
    if failures:
        raise failures[0]


def event_id_of(key: str, table: str = "public.app_events") -> str:
    return str(UUID(hashlib.md5(f"{table}/{key}".encode()).hexdigest()))


def expected_events(conn: connection) -> dict[str, Expected]:
    """The events that the rows of app_events should become, by event id."""
    with conn.cursor() as cur:
        cur.execute("select id, account_id, type, created_at, payload from app_events")
        events = {event_id_of(str(key)): _event(*values) for key, *values in cur}
    return {event_id: event for event_id, event in events.items() if event is not None}


def _event(
    user: int, name: str | None, local_time: datetime | None, properties: Any
) -> Expected | None:
    if not name or len(name) > 200 or local_time is None or not 2000 <= local_time.year < 2100:
        return None
    if not isinstance(properties, dict | None):
        return None
    return str(user), name, _berlin_to_utc(local_time), properties or {}


def _berlin_to_utc(local_time: datetime) -> datetime:
    """The instant of a local time: the first in a repeated hour; a skipped time moves forward."""
    return local_time.replace(tzinfo=BERLIN).astimezone(UTC)


def stored_events(conn: connection) -> dict[str, Expected]:
    with conn.cursor() as cur:
        cur.execute("select event_id, user_id, event_name, occurred_at, properties from events")
        return {
            event_id: (*values, occurred_at.astimezone(UTC), properties)
            for event_id, *values, occurred_at, properties in cur
        }


def run_sql(conn: connection, text: str, *values: object) -> Sequence[tuple[Any, ...]]:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        return cur.fetchall() if cur.description is not None else []
