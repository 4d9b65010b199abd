"""What is committed is in the next answer, once, whatever writers and rollup workers do."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg2.extensions import connection, cursor

from common.questions.active_users import ActiveUsers
from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from common.questions.top_events import TopEvents
from repo.rollups.rollup_writer import RollupWriter
from tests.example_counts import seconds
from tests.source_comparison import Asker, connected, open_asker
from utils.time.zones import zone

SECONDS = seconds(6)
"""How long it goes on; longer finds more."""
MAX_SECONDS = 30 * SECONDS
LONGEST_S = seconds(2)
"""How long a transaction is held open."""
WRITERS, FOLDERS, READERS = 8, 2, 2
ZONES = [zone("UTC"), zone("Europe/Berlin")]
REMAINING = (
    "select count(*) from events join fold_state on is_current "
    "where not pg_visible_in_snapshot(ingested_xid, snapshot)"
)
INSERT = "insert into events (event_id, user_id, event_name, occurred_at) values (%s, %s, %s, %s)"

Work = Callable[[random.Random], None]


def event(rng: random.Random) -> tuple[str, str, str, datetime]:
    """Now, a little ahead, a little late or very late."""
    shift = rng.choice(
        [0, 0, 0, rng.uniform(0, 3), -rng.uniform(0, 7200), -rng.uniform(0, 250_000)]
    )
    user = rng.choice(["", *(f"u{n}" for n in range(40)), f"new{rng.randrange(10**6)}"])
    occurred_at = datetime.now(UTC) + timedelta(seconds=shift)
    return str(uuid4()), user, rng.choice("abcde"), occurred_at


def write(cur: cursor, rng: random.Random) -> None:
    """One transaction, and part of it may be undone."""
    cur.execute("begin")
    for _ in range(rng.randrange(4)):
        cur.execute(INSERT, event(rng))
    for _ in range(rng.randrange(3)):
        cur.execute("savepoint part")
        cur.execute(INSERT, event(rng))
        cur.execute(rng.choice(["rollback to part", "release part"]))
    if rng.random() < 0.1:
        time.sleep(rng.uniform(0, LONGEST_S))
    cur.execute("rollback" if rng.random() < 0.15 else "commit")


def writer(url: str) -> Work:
    def work(rng: random.Random) -> None:
        with connected(url) as conn, conn.cursor() as cur:
            for _ in range(5):
                write(cur, rng)
                time.sleep(rng.uniform(0, 0.1))

    return work


def rollup_writer(url: str) -> Work:
    """It sweeps when it takes few at a time, and is replaced now and then."""

    def work(rng: random.Random) -> None:
        with connected(url) as conn:
            steps = RollupWriter(conn, ZONES, rng.choice([3, 20, 500_000]))
            for _ in range(rng.randrange(1, 15)):
                steps.step()
                time.sleep(rng.uniform(0, 0.2))

    return work


def question(rng: random.Random) -> Counting:
    now = datetime.now(UTC)
    ends = [None, now, now + timedelta(hours=1), now.replace(minute=0, second=0, microsecond=0)]
    start = now - timedelta(seconds=rng.choice([1, 600, 7200, 86400, 300_000]))
    end = rng.choice(ends)
    params: dict[str, Any] = {
        "start": start,
        "end": end if end and end > start else None,
        "tz": rng.choice(["UTC", "Europe/Berlin", "Asia/Kathmandu"]),
        "event": rng.choice([(), (), ("a",), ("b", "e")]),
    }
    kinds: list[type[Counting]] = [EventCounts, EventCounts, TopEvents, ActiveUsers]
    kind = rng.choice(kinds)
    if kind is EventCounts:
        params["interval"] = rng.choice([None, "hour", "day"])
    return kind(**params)


def reader(asker: Asker, compared: list[Counting]) -> Work:
    def work(rng: random.Random) -> None:
        drawn_question = question(rng)
        asker.compare(drawn_question)
        compared.append(drawn_question)

    return work


@contextmanager
def repeated(work: Work, seed: int, failures: list[Exception]) -> Iterator[None]:
    """In a thread of its own, until the end or the first failure."""
    is_over, rng = threading.Event(), random.Random(seed)

    def run() -> None:
        while not is_over.is_set() and not failures:
            try:
                work(rng)
            except Exception as exc:
                failures.append(exc)
            except AssertionError as exc:
                failures.append(RuntimeError(str(exc)))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@contextmanager
def prepared(conn: connection) -> Iterator[bool]:
    """A transaction that is neither committed nor rolled back; whether the server allows it."""
    with conn.cursor() as cur:
        cur.execute("show max_prepared_transactions")
        is_allowed = cur.fetchone() != ("0",)
        if is_allowed:
            cur.execute("begin")
            for n in range(20):
                cur.execute(INSERT, event(random.Random(n)))
            cur.execute("prepare transaction 'waits'")
        try:
            yield is_allowed
        finally:
            cur.execute("select gid from pg_prepared_xacts where database = current_database()")
            for (gid,) in cur.fetchall():
                cur.execute("rollback prepared %s", (gid,))


@pytest.mark.thorough
def test_an_answer_is_always_that_of_the_events(database_url: str, conn: connection) -> None:
    compared: list[Counting] = []
    failures: list[Exception] = []
    with ExitStack() as stack:
        is_prepared = stack.enter_context(prepared(conn))
        RollupWriter(conn, ZONES).catch_up()
        askers = [stack.enter_context(open_asker(database_url)) for _ in range(READERS)]
        works = [writer(database_url)] * WRITERS + [rollup_writer(database_url)] * FOLDERS
        works += [reader(asker, compared) for asker in askers]
        with ExitStack() as running:
            for seed, work in enumerate(works):
                running.enter_context(repeated(work, random.randrange(10**6) + seed, failures))
            began = time.monotonic()
            while not failures and not is_over(time.monotonic() - began, len(compared)):
                time.sleep(0.05)
        if failures:
            raise failures[0]
        compare_at_the_end(askers[0], conn, is_prepared)
        assert sum(asker.rollup_answers for asker in askers) > 0.9 * len(compared)
    print(len(compared), "comparisons")


def is_over(elapsed_s: float, comparisons: int) -> bool:
    """After the time and enough comparisons, for which a busy machine needs longer."""
    assert elapsed_s < MAX_SECONDS, f"{comparisons} comparisons in {elapsed_s:.0f} s"
    return elapsed_s >= SECONDS and comparisons > 10 * SECONDS


def compare_at_the_end(asker: Asker, conn: connection, is_prepared: bool) -> None:
    """All of it, folded and not folded, and what was prepared once it is committed."""
    full_question = EventCounts(last="5d", interval="day")
    rollup_writer = RollupWriter(conn, ZONES)
    asker.compare(full_question)
    rollup_writer.catch_up()
    before = asker.compare(full_question).events
    if is_prepared:
        conn.cursor().execute("commit prepared 'waits'")
        for _ in range(2):
            assert asker.compare(full_question).events > before
            asker.compare(TopEvents(last="5d"))
            asker.compare(ActiveUsers(last="5d"))
            rollup_writer.catch_up()
    with conn.cursor() as cur:
        cur.execute(REMAINING)
        assert cur.fetchone() == (0,)


if __name__ == "__main__":
    import sys

    from tests.servers import Cluster, open_servers

    SECONDS = int(sys.argv[1])
    with open_servers() as servers:
        url = Cluster(servers.database_url).migrated_database()
        with connected(url) as opened:
            test_an_answer_is_always_that_of_the_events(url, opened)
