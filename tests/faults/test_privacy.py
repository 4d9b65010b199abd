"""What is left of users who were erased, whatever fails meanwhile."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg2
import pytest
import redis

from common.questions import QUESTIONS
from repo.lifecycle.erasure import EraseRepo
from tests.adoption import MAP, adopt_command
from tests.api.questions import path_of
from tests.api.test_keys import add_key
from tests.cli import run_cli
from tests.events import insert
from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import ask_all
from tests.faults.service_process import Service, service
from tests.faults.user_traces import TraceSearch
from tests.otel_collector import running_collector
from tests.problems import assert_problem
from tests.wait_until import wait_until

NOW = datetime.now(UTC)
USER = "/analytics/users/u"
HISTORY = f"{USER}/events"
PARAMS = 20
CANARY = "canary-frodo-of-bag-end"
OF_CANARY = "canary-the-ring"
PROPERTIES = '{"of": "canary-the-ring"}'
COPIES = 30
EVENTS = 100_000
HISTORIES = "analytics:*:user_events:*"


def long_cached_service(own: DedicatedServers, url: str) -> AbstractContextManager[Service]:
    return service(url, own.endpoints.redis_url, ANALYTICS_CACHE_TTL_OPEN_S="600")


def cache_history(running: Service) -> dict[str, str]:
    """In Redis; with the key of an admin."""
    insert(running.conn, ("u", "view", NOW))
    running.wait_until_folded()
    assert len(running.get(HISTORY).json()["data"]) == 1
    return add_key(running.conn, "an-admin", "admin", name="admin")


def erase(running: Service, admin: dict[str, str]) -> httpx.Response:
    return httpx.delete(running.base + USER, headers=admin, timeout=30)


def is_erased(running: Service) -> bool:
    return running.query("select count(*) from events") == [(0,)]


def seconds_until_cleared(store: "redis.Redis") -> float:
    began = time.monotonic()
    wait_until(lambda: not list(store.scan_iter(HISTORIES, count=1000)), timeout_s=15)
    return time.monotonic() - began


@contextmanager
def cache_of(own: DedicatedServers) -> Iterator["redis.Redis"]:
    """Without what other tests have left there."""
    with redis.Redis.from_url(own.endpoints.redis_url) as store:
        store.flushall()
        yield store


@pytest.mark.check(71)
def test_no_trace_of_an_erased_user_is_left(
    own: DedicatedServers, fault_url: str, check: Check, tmp_path: Path
) -> None:
    """A user who came in and was asked for by all ways: nothing is left after the erasure"""
    with cache_of(own), running_collector() as collector, ExitStack() as stack:
        url = own.endpoints.redis_url
        endpoint = collector.endpoint
        running = stack.enter_context(service(fault_url, url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint))
        running.query("create extension if not exists pg_stat_statements")
        come_in(running, fault_url, tmp_path)
        ask_about(running)
        filter_by(running)
        running.query("alter table events alter user_id set statistics 100; analyze")
        remains = TraceSearch(own, running, fault_url, (CANARY, OF_CANARY))
        wait_until(lambda: bool(collector.requests), timeout_s=20)
        before = remains.locations(collector)
        assert before >= {"public.events", "public.users", "pg_statistic"}
        assert before >= {"redis user_events", "redis event_counts"}
        admin = add_key(running.conn, "an-admin", "admin", name="admin")
        erased = httpx.delete(f"{running.base}/analytics/users/{CANARY}", headers=admin, timeout=60)
        assert (erased.status_code, CANARY in erased.text) == (200, False)
        assert erased.json()["events"] == 4 * COPIES
        ask_about(running)
        seen = len(collector.requests)
        wait_until(lambda: len(collector.requests) > seen, timeout_s=20)
        assert remains.locations(collector) == set()
    check.record(f"{len(before)} places before ({', '.join(sorted(before))}), none after")


def come_in(running: Service, url: str, folder: Path) -> None:
    """Over HTTP, by load, by SQL and from an adopted table; what is refused comes in as well."""
    running.query(
        "create table app_events (id bigserial primary key, account_id text, type text, "
        "created_at timestamp, payload jsonb)"
    )
    running.query(
        "insert into app_events (account_id, type, created_at, payload) "
        f"select %s, case when n = 0 then '' else 'view' end, now(), '{PROPERTIES}' "
        "from generate_series(0, %s) n",
        CANARY,
        COPIES,
    )
    assert adopt_command(url)("--table=app_events", *MAP).exit_code == 0
    running.query("insert into app_events (account_id, type) values (%s, '')", CANARY)
    adopt_command(url)("--table=app_events", "--release")
    running.query("drop table app_events")
    events = [synthetic_events() for _ in range(COPIES)]
    sent = {**events[0], "event_name": ""}
    for body, status in ((events, 200), (events, 200), ([sent], 422)):
        answer = httpx.post(f"{running.base}/events", json=body, headers=running.headers)
        assert answer.status_code == status
    file = folder / "events.ndjson"
    lines = [json.dumps(synthetic_events()) for _ in range(COPIES)]
    file.write_text("\n".join([*lines, lines[0], json.dumps(sent)]))
    assert run_cli("load", file, DATABASE_URL=url).exit_code == 1
    insert_by_sql = (
        "insert into events (event_id, user_id, event_name, occurred_at, properties) "
        f"select gen_random_uuid(), %s, %s, now() - n * interval '1 hour', '{PROPERTIES}' "
        "from generate_series(1, %s) n"
    )
    running.query(insert_by_sql, CANARY, "view", COPIES)
    with pytest.raises(psycopg2.errors.CheckViolation):
        running.query(insert_by_sql, CANARY, "", COPIES)
    running.wait_until_folded()


def synthetic_events() -> dict[str, object]:
    return {
        "event_id": str(uuid4()),
        "user_id": CANARY,
        "event_name": "view",
        "occurred_at": NOW.isoformat(),
        "properties": {"of": OF_CANARY},
    }


def ask_about(running: Service) -> None:
    """Right and wrong, in all forms, by pages, and on all workers."""
    history = f"/analytics/users/{CANARY}/events"
    for _ in range(5):
        first = running.get(f"{history}?limit=2")
        if cursor := first.json()["meta"]["next_cursor"]:
            running.get(f"{history}?limit=2&cursor={quote(cursor)}")
            running.get(f"{history}?limit=3&cursor={quote(cursor)}&format=csv")
        for more in ("", "?last=7d", "?format=ndjson", "?limit=0", "?cursor=x", "?event=view"):
            running.get(history + more, **{"Accept-Encoding": "gzip"})
        running.get(history, **{"Cache-Control": "no-cache"})
        for question in QUESTIONS:
            running.get(f"{path_of(question, CANARY)}?last=7d")
        assert running.get(f"/nothing/{CANARY}").status_code == 404


def filter_by(running: Service) -> None:
    """By the user and by a property, in all forms, and wrongly."""
    for text in (
        f"@user:{CANARY}",
        f"of:{OF_CANARY}",
        f"of:~{OF_CANARY} or x:1",
        f"of:{OF_CANARY},",
    ):
        for more in ("", "&format=csv", "&explain=true"):
            running.get(f"/analytics/event-counts?last=7d&where={quote(text)}{more}")


@pytest.mark.check(72)
def test_pg_stat_activity_shows_no_user_ids(
    own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """Histories asked for all the time: no session shows whose, at work or idle"""
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_CACHE_ENABLED="false") as running:
        insert(running.conn, *((f"{CANARY}{n}", "view", NOW) for n in range(PARAMS)))
        paths = [f"/analytics/users/{CANARY}{n % PARAMS}/events" for n in range(PARAMS * 50)]
        with ThreadPoolExecutor(1) as threads:
            asking = threads.submit(ask_all, running.port, paths, running.headers, at_once=4)
            activities = [activity(running) for _ in iter(asking.done, True)]
            assert {reply.status for reply in asking.result()} == {200}
        activities.append(activity(running))
        of_histories = [text for texts in activities for text in texts if "user_events" in text]
        assert len(of_histories) > PARAMS
        assert not any(CANARY in text for text in of_histories)
        check.record(f"{len(of_histories)} statements of histories seen, of {len(paths)} asked")


def activity(running: Service) -> list[str]:
    query = "select query from pg_stat_activity where pid <> pg_backend_pid() and query is not null"
    return [text for (text,) in running.query(query)]


@pytest.mark.check(73)
def test_erased_while_redis_is_unreachable(
    own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """Redis unreachable during an erasure, then back as it was: cleared, and PostgreSQL may stop"""
    with (
        cache_of(own) as store,
        long_cached_service(own, fault_url) as running,
    ):
        admin = cache_history(running)
        running.cache.refuse()
        assert erase(running, admin).json()["cache_cleared"] is False
        assert running.get(HISTORY).json()["data"] == []
        time.sleep(1)
        assert list(store.scan_iter(HISTORIES, count=1000)) != []
        running.database.refuse()
        running.cache.mode = "pass"
        statuses = {running.get(HISTORY).status_code for _ in range(PARAMS)}
        assert statuses == {503}
        check.record(f"{seconds_until_cleared(store):.1f} s; asked {PARAMS} times")


@pytest.mark.check(74)
def test_cancelled_erasures(own: DedicatedServers, fault_url: str, check: Check) -> None:
    """An erasure whose client hangs up or whose service is stopped: all or nothing, cache too"""
    with cache_of(own) as store:
        with long_cached_service(own, fault_url) as running:
            admin = cache_history(running)
            with held_up(running):
                hang_up_on(running, admin)
            wait_until(partial(is_erased, running), timeout_s=10)
            hung_up_s = seconds_until_cleared(store)
            insert(running.conn, ("u", "view", NOW))
            with ThreadPoolExecutor(1) as threads, held_up(running):
                erasing = threads.submit(erase, running, admin)
                time.sleep(0.5)
                running.process.send_signal(signal.SIGTERM)
                running.process.wait(20)
                assert_problem(erasing.result(), 503, "unavailable")
            assert not is_erased(running)
        check.record(f"hung up: {hung_up_s:.1f} s")


@contextmanager
def held_up(running: Service) -> Iterator[None]:
    """Erasures wait for the end of the block."""
    running.query("begin")
    running.query("lock table fold_state in exclusive mode")
    yield
    running.query("commit")


def hang_up_on(running: Service, admin: dict[str, str]) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(
            f"DELETE {USER} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {admin['Authorization']}\r\n\r\n".encode()
        )
        wait_until(partial(is_waiting, running), timeout_s=10)


def is_waiting(running: Service) -> bool:
    return running.query("select count(*) from pg_locks where not granted") == [(1,)]


@pytest.mark.check(75)
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_cache_is_purged_if_the_service_ends_after_the_erasure_commit(
    own: DedicatedServers, fault_url: str, check: Check, end: signal.Signals
) -> None:
    """A service that ends when an erasure is committed and the cache not cleared: the next does"""
    with cache_of(own) as store:
        with long_cached_service(own, fault_url) as running:
            admin = cache_history(running)
            running.cache.mode = "swallow"
            with ThreadPoolExecutor(1) as threads:
                threads.submit(erase, running, admin)
                wait_until(partial(is_erased, running), timeout_s=10)
                running.process.send_signal(end)
                running.process.wait(20)
        assert list(store.scan_iter(HISTORIES, count=1000)) != []
        began = time.monotonic()
        with service(fault_url, own.endpoints.redis_url):
            seconds_until_cleared(store)
            took_s = time.monotonic() - began
        check.record(f"{end.name}: {took_s:.1f} s, its start included")


@pytest.mark.check(76)
def test_samples_of_an_earlier_version(running: Service, check: Check) -> None:
    """Statistics that an earlier version left: no id in them after the next erasure"""
    running.query(
        "insert into events (event_id, user_id, event_name, occurred_at, properties) "
        "select gen_random_uuid(), 'user' || n %% 2000, 'view', now() - n * interval '1 minute', "
        "jsonb_build_object('n', n %% 100) from generate_series(1, %s) n",
        EVENTS,
    )
    running.wait_until_folded()
    running.query("alter table events alter user_id set statistics 100")
    running.query("alter table events alter properties set statistics 100; analyze events")
    sampled = (
        "select count(*) from pg_stats where tablename = 'events' "
        "and attname in ('event_id', 'user_id', 'properties')"
    )
    assert running.query(sampled) == [(2,)]
    seconds = [erased_in(running, f"user{n}") for n in (7, 8)]
    assert running.query(sampled) == [(0,)]
    running.query("analyze events")
    assert running.query(sampled) == [(0,)]
    check.record(f"erased in {seconds[0] * 1000:.0f} ms, the next in {seconds[1] * 1000:.0f} ms")


def erased_in(running: Service, user: str) -> float:
    began = time.monotonic()
    assert EraseRepo(running.conn).erase(user).events == EVENTS // 2000
    return time.monotonic() - began
