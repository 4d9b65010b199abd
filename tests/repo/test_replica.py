"""A replica answers exactly, as of what it has replayed; a real one follows a real server."""

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest
from psycopg2.extensions import connection
from pydantic import SecretStr

from common.questions.base import Counting
from common.questions.event_counts import EventCounts
from config.database import Cursor, Database, get_connection
from repo.cache_versions import CacheVersionsRepo
from repo.engine.watermark import read_watermark
from repo.rollups.rollup_writer import RollupWriter
from services.embedded import embedded_servers
from tests.cli import run_cli
from tests.events import insert, insert_many
from tests.live_server import identity_in, running
from tests.replica import replica_of
from tests.repo.test_freshness import reader, repeated, rollup_writer, writer
from tests.servers import OPTIONS, Cluster, as_role
from tests.slow_events import slow_down
from tests.source_comparison import Asker, connected, open_asker, rows_read
from tests.tempdirs import temp_dir
from tests.wait_until import wait_until
from utils.time.zones import zone

SECONDS = 2
"""How long it goes on; longer finds more."""
_KEEPING = {"wal_keep_size": "1GB"}
"""A replica whose line was cut goes on from where it was, whatever was written meanwhile."""
ZONES = [zone("UTC"), zone("Europe/Berlin")]
NOW = datetime.now(UTC)
DAYS = EventCounts(last="3d", interval="day")
COUNTS = "/analytics/event-counts"
STANDING = """
select jsonb_build_object(
    'replayed', pg_last_wal_replay_lsn(), 'received', pg_last_wal_receive_lsn(),
    'state', pg_get_wal_replay_pause_state(),
    'receiver', (select jsonb_agg(to_jsonb(r) - 'conninfo') from pg_stat_wal_receiver as r),
    'sessions', (select jsonb_agg(to_jsonb(s)) from pg_stat_activity as s where state is not null),
    'waiting', (select jsonb_agg(to_jsonb(s)) from pg_stat_activity as s
                where backend_type = 'startup'))::text
"""


@dataclass(frozen=True)
class Pair:
    """A server and its replica, and where the same database is on both."""

    folder: Path
    redis_url: str
    primary: str
    replica: str


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Path, str, str, str]]:
    with (
        temp_dir("replica") as made,
        embedded_servers(made, postgres_options={**OPTIONS, **_KEEPING}) as endpoints,
        replica_of(endpoints.database_url, made) as replica,
    ):
        yield made, endpoints.database_url, replica, endpoints.redis_url


@pytest.fixture(scope="module")
def cluster_of_two(servers: tuple[Path, str, str, str]) -> Cluster:
    return Cluster(servers[1])


@pytest.fixture
def pair(servers: tuple[Path, str, str, str], cluster_of_two: Cluster) -> Iterator[Pair]:
    made, _, replica, redis_url = servers
    primary = cluster_of_two.migrated_database()
    name = primary.rsplit("/", 1)[1]
    copied = Pair(made, redis_url, primary, f"{replica.rsplit('/', 1)[0]}/{name}")
    wait_for_replay(copied)
    yield copied
    cluster_of_two.drop(primary)


@pytest.fixture
def conn(pair: Pair) -> Iterator[connection]:
    with connected(pair.primary) as opened:
        yield opened


def one(conn: connection, text: str, *values: object) -> Any:
    with conn.cursor() as cur:
        cur.execute(text, values or None)
        (value,) = cur.fetchone() or (None,)
        return value


def wait_for_replay(pair: Pair) -> None:
    """Until all that is committed by now is on the replica."""
    with connected(pair.primary) as here, connected(f"{server(pair.replica)}/postgres") as replica:
        position = one(here, "select pg_current_wal_insert_lsn()::text")
        replayed = "select pg_last_wal_replay_lsn() >= %s::pg_lsn"
        try:
            wait_until(lambda: bool(one(replica, replayed, position)), timeout_s=10)
        except AssertionError as exc:
            exc.add_note(f"to come to {position}: {one(replica, STANDING)}")
            raise


def server(url: str) -> str:
    return url.rsplit("/", 1)[0]


@contextmanager
def paused(pair: Pair) -> Iterator[None]:
    """The replica stands still."""
    with connected(f"{server(pair.replica)}/postgres") as replica:
        one(replica, "select pg_wal_replay_pause()")
        state = "select pg_get_wal_replay_pause_state()"
        wait_until(lambda: one(replica, state) == "paused", timeout_s=5)
        try:
            yield
        finally:
            one(replica, "select pg_wal_replay_resume()")


def now(asker: Asker) -> datetime:
    with asker.snapshot() as cur:
        return cur.now


def clock(conn: connection) -> datetime:
    instant = one(conn, "select clock_timestamp()")
    assert isinstance(instant, datetime)
    return instant


def test_rollups_say_what_the_events_say(pair: Pair, conn: connection) -> None:
    compared: list[Counting] = []
    failures: list[Exception] = []
    RollupWriter(conn, ZONES).catch_up()
    with ExitStack() as stack:
        askers = [
            stack.enter_context(open_asker(as_role(pair.replica, "reader"))) for _ in range(2)
        ]
        works = [writer(pair.primary)] * 4 + [rollup_writer(pair.primary)]
        works += [reader(asker, compared) for asker in askers]
        with ExitStack() as running_:
            for seed, work in enumerate(works):
                running_.enter_context(repeated(work, random.randrange(10**6) + seed, failures))
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline and not failures:
                time.sleep(0.05)
        if failures:
            raise failures[0]
        assert sum(asker.rollup_answers for asker in askers) > 0.9 * len(compared)
    print(len(compared), "comparisons")
    assert len(compared) > 10 * SECONDS


def test_all_that_was_acknowledged_before_its_moment_is_counted(
    pair: Pair, conn: connection
) -> None:
    """Whatever it lags behind; moments are of the clock of the server that events come in at."""
    acknowledged: list[tuple[datetime, int]] = []
    ended = threading.Event()

    def write() -> None:
        with connected(pair.primary) as other:
            while not ended.is_set():
                insert(other, ("u", "view", NOW - timedelta(hours=1)))
                acknowledged.append((clock(other), len(acknowledged) + 1))

    thread = threading.Thread(target=write)
    thread.start()
    requests, late = 0, 0
    try:
        with open_asker(pair.replica) as asker:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                with asker.snapshot() as cur:
                    cur.execute("select count(*) from events")
                    (seen,) = cur.fetchone() or (0,)
                    instant = cur.now
                expected = [count for at, count in list(acknowledged) if at < instant]
                assert seen >= max(expected, default=0), instant
                requests += 1
                late += seen > max(expected, default=0)
    finally:
        ended.set()
        thread.join()
    assert requests > 100
    assert late > 0, "the moment is never later than what is seen"


def test_the_rows_of_a_transaction_that_is_not_over_are_not_read(
    pair: Pair, conn: connection
) -> None:
    """Its snapshots do not tell which these are: the last fold does."""
    with closing(psycopg2.connect(pair.primary)) as writer, open_asker(pair.replica) as asker:
        insert_many(writer, 2_000, NOW - timedelta(hours=1))
        insert(conn, ("u", "view", NOW - timedelta(hours=1)))
        RollupWriter(conn, ZONES).catch_up()
        insert(conn, ("u", "view", NOW - timedelta(hours=1)))
        wait_for_replay(pair)
        with asker.snapshot() as cur:
            state = read_watermark(cur)
            assert state
            assert state.tail_events == 1
            assert rows_read(cur) < 2_000
        assert asker.compare(DAYS).events == 2
        writer.commit()
        wait_for_replay(pair)
        assert asker.compare(DAYS).events == 2_002


def test_its_moment_stands_still_while_it_is_paused(pair: Pair, conn: connection) -> None:
    insert(conn, ("u", "view", NOW - timedelta(hours=1)))
    RollupWriter(conn, ZONES).catch_up()
    wait_for_replay(pair)
    with open_asker(pair.replica) as asker:
        with paused(pair):
            before = now(asker)
            insert(conn, ("u", "view", NOW - timedelta(hours=1)))
            RollupWriter(conn, ZONES).catch_up()
            time.sleep(0.2)
            assert asker.compare(DAYS).events == 1
            assert now(asker) == before < clock(conn) - timedelta(seconds=0.2)
        wait_for_replay(pair)
        assert asker.compare(DAYS).events == 2
        assert now(asker) > before


def test_the_rollup_worker_advances_the_replay_time_without_events(
    pair: Pair, conn: connection
) -> None:
    with open_asker(pair.replica) as asker:
        instant = clock(conn)
        assert now(asker) < instant
        with connected(as_role(pair.primary, "rollup")) as folding:
            RollupWriter(folding, ZONES).heartbeat()
        wait_until(lambda: now(asker) > instant, timeout_s=5)


def age_s(url: str) -> float:
    """How old the metrics say that answers are."""
    database = Database(url, size=1, waiters=0, acquire_timeout_s=1, name="age")
    try:
        repo = CacheVersionsRepo(get_connection(database, time.monotonic() + 10))
        past = repo.get_state(None)
        assert past
        return past.age_s
    finally:
        database.close()


def test_how_far_it_is_behind_is_told(pair: Pair, conn: connection) -> None:
    insert(conn, ("u", "view", NOW - timedelta(hours=1)))
    wait_for_replay(pair)
    with paused(pair):
        wait_until(lambda: age_s(pair.replica) > 0.3, timeout_s=5)
        assert age_s(pair.primary) == 0
    RollupWriter(conn, ZONES).heartbeat()
    wait_until(lambda: age_s(pair.replica) < 0.3, timeout_s=5)


def test_one_that_has_just_started_knows_no_more_than_the_last_checkpoint(pair: Pair) -> None:
    """What it has replayed last is unknown, though it has all that was committed before."""
    with connected(pair.primary) as here:
        one(here, "select count(*) from events")
        here.cursor().execute("checkpoint")
        checkpoint = one(here, "select checkpoint_time from pg_control_checkpoint()")
        with replica_of(pair.primary, pair.folder, "another") as url, open_asker(url) as asker:
            assert checkpoint <= now(asker) < clock(here)


@contextmanager
def over_the_replica(pair: Pair, **more: Any) -> Iterator[httpx.Client]:
    questions = SecretStr(as_role(pair.replica, "reader"))
    with running(pair.primary, pair.redis_url, query_database_url=questions, **more) as service:
        yield service


def complete_until(service: httpx.Client) -> datetime:
    answer = service.get(COUNTS, params={"last": "3d"}, headers={"Cache-Control": "no-cache"})
    assert answer.status_code == 200, answer.text
    return datetime.fromisoformat(answer.json()["meta"]["complete_until"])


def history_until(service: httpx.Client) -> tuple[int, datetime]:
    """Of a whole history, which is one statement on other servers; of any of the connections."""
    fresh = {"Cache-Control": "no-cache"}
    answer = service.get("/analytics/users/u/events", headers=fresh).json()
    return len(answer["data"]), datetime.fromisoformat(answer["meta"]["complete_until"])


def events(service: httpx.Client) -> int:
    answer = service.get(COUNTS, params={"last": "3d"}, headers={"Cache-Control": "no-cache"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["data"]["events"])


def test_answers_tell_how_far_it_has_come(pair: Pair, conn: connection) -> None:
    insert(conn, ("u", "view", NOW - timedelta(hours=1)))
    RollupWriter(conn, ZONES).catch_up()
    wait_for_replay(pair)
    with over_the_replica(pair) as service:
        assert service.get("/readyz").json()["checks"]["rollups"] == "ok"
        with paused(pair):
            until = complete_until(service)
            insert(conn, ("u", "view", NOW - timedelta(hours=1)))
            time.sleep(0.1)
            assert (events(service), complete_until(service)) == (1, until)
            assert [history_until(service) for _ in range(10)] == [(1, until)] * 10
        wait_until(lambda: events(service) == 2, timeout_s=5)
        assert complete_until(service) > until


def test_keys_end_in_time_however_far_behind_it_is(pair: Pair, conn: connection) -> None:
    with over_the_replica(pair) as service, paused(pair):
        assert service.get(COUNTS).status_code == 200
        conn.cursor().execute("update api_keys set ends_at = now()")
        wait_until(lambda: service.get(COUNTS).status_code == 401, timeout_s=5)


def test_it_answers_from_the_start_while_the_other_server_is_away(pair: Pair) -> None:
    away = f"{server(pair.primary).rsplit(':', 1)[0]}:1/none"
    questions = SecretStr(as_role(pair.replica, "reader"))
    with running(away, pair.redis_url, query_database_url=questions) as service:
        wait_until(lambda: service.get(COUNTS).status_code == 200, timeout_s=5)
        unknown = {"Authorization": "Bearer ask_a-key-that-may-be-newer-than-those"}
        assert service.get(COUNTS, headers=unknown).status_code == 503


@contextmanager
def following_at_once(pair: Pair) -> Iterator[None]:
    """It lets no question hold it up: whatever is in its way is cancelled."""
    delay = "alter system {} max_standby_streaming_delay"
    with connected(f"{server(pair.replica)}/postgres") as replica:
        for text in (delay.format("set") + " = 0", "select pg_reload_conf()"):
            replica.cursor().execute(text)
        wait_until(lambda: one(replica, "show max_standby_streaming_delay") == "0", timeout_s=5)
        try:
            yield
        finally:
            for text in (delay.format("reset"), "select pg_reload_conf()"):
                replica.cursor().execute(text)


def slow_question(service: httpx.Client) -> "Future[int]":
    def ask() -> int:
        parameters = {"event": f"slow {time.monotonic()}", "last": "3d"}
        return service.get(COUNTS, params=parameters).status_code

    threads = ThreadPoolExecutor(1)
    future = threads.submit(ask)
    threads.shutdown(wait=False)
    return future


def is_asked(pair: Pair) -> bool:
    text = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and state = 'active' and wait_event = 'PgSleep'"
    )
    with connected(pair.replica) as replica:
        return bool(one(replica, text))


def remove_rows(conn: connection) -> None:
    """Snapshots of the replica may still see them."""
    for text in ("insert into gone values (1)", "delete from gone", "vacuum gone"):
        conn.cursor().execute(text)


def test_a_question_cancelled_by_replay_is_retried(pair: Pair, conn: connection) -> None:
    conn.cursor().execute("create table gone (x int)")
    slow_down(conn, 1)
    wait_for_replay(pair)
    with over_the_replica(pair) as service, following_at_once(pair):
        future = slow_question(service)
        wait_until(lambda: is_asked(pair), timeout_s=5)
        remove_rows(conn)
        assert future.result() == 200
        with connected(pair.replica) as replica:
            assert (
                one(
                    replica,
                    "select confl_snapshot from pg_stat_database_conflicts "
                    "where datname = current_database()",
                )
                > 0
            )
        future = slow_question(service)
        while not future.done():
            remove_rows(conn)
        assert future.result() == 503


def lineage(cur: Cursor) -> str:
    state = read_watermark(cur)
    assert state is not None
    return state.lineage


def test_a_replica_has_the_identity_of_its_primary(pair: Pair) -> None:
    assert identity_in(pair.replica) == identity_in(pair.primary) != ""


def test_status_tells_how_far_behind_it_is(
    pair: Pair, conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(conn, ("u", "view", NOW))
    RollupWriter(conn, ZONES).catch_up()
    wait_for_replay(pair)
    urls = {"DATABASE_URL": pair.primary, "REDIS_URL": pair.redis_url}
    with_replica = {**urls, "ANALYTICS_QUERY_DATABASE_URL": pair.replica}
    done = run_cli("status", **with_replica)
    shown = "ok       connection ANALYTICS_QUERY_DATABASE_URL  reachable, a replica that is "
    assert shown in done.stdout
    assert done.exit_code == 0
    monkeypatch.setattr("services.status.servers._MAX_REPLICA_AGE_S", 0)
    behind = run_cli("status", **with_replica)
    assert "-> see pg_stat_replication on the primary: questions do not see newer " in behind.stdout
    assert behind.exit_code == 1
    alone = run_cli("status", **{**urls, "DATABASE_URL": pair.replica})
    assert "all events folded; last fold " in alone.stdout
    assert alone.exit_code == 0


def test_one_that_is_promoted_has_another_past_at_once(pair: Pair, conn: connection) -> None:
    """Answers that are kept may be of what it never had. It goes on with the clock of its own."""
    insert(conn, ("u", "view", NOW - timedelta(hours=1)))
    RollupWriter(conn, ZONES).catch_up()
    with replica_of(pair.primary, pair.folder, "heir") as url, open_asker(url) as asker:
        # Much to write makes the checkpoint take minutes that follows.
        conn.cursor().execute("create table much as select n from generate_series(1, 100000) as n")
        followed = Pair(pair.folder, pair.redis_url, pair.primary, url)
        wait_for_replay(followed)
        with asker.snapshot() as cur:
            before = lineage(cur)
        assert identity_in(url) == identity_in(pair.primary)
        with connected(url) as replica:
            assert one(replica, "select pg_promote()") is True
            assert identity_in(url) != identity_in(pair.primary)
            with asker.snapshot() as cur:
                assert lineage(cur) != before
                assert cur.now > clock(conn) - timedelta(seconds=1)
            insert(replica, ("v", "view", NOW - timedelta(hours=1)))
            RollupWriter(replica, ZONES).catch_up()
            answer = asker.compare(DAYS)
            assert (answer.events, answer.users) == (2, 2)
        assert asker.rollup_answers == 1
