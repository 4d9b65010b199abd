"""Users whose events are not to come back."""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from psycopg2 import errors
from psycopg2.extensions import connection

from config.database_errors import DatabaseUnavailable
from repo import ingest as ingest_module
from repo.ingest import Event, IngestRepo, Inserted, as_rows
from repo.lifecycle.suppression import SuppressionRepo, WritersActive
from tests.events import insert
from tests.servers import SCHEMA
from tests.source_comparison import connected
from tests.wait_until import adjusted_for_load, wait_until

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
ID = "00000000-0000-4000-8000-{:012}"


@pytest.fixture
def suppressing(other: connection) -> SuppressionRepo:
    return SuppressionRepo(other)


def users(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select user_id from events order by 1")
        return [user for (user,) in cur]


def refused(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute("select count(*) from refused_events where reason = 'suppressed'")
        (count,) = cur.fetchone() or (0,)
        return int(count)


def triggers(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select tgname from pg_trigger where tgrelid = 'events'::regclass order by 1")
        return [name for (name,) in cur]


def execute(conn: connection, text: str) -> None:
    conn.cursor().execute(text)


def test_events_of_those_on_the_list_are_left_out_and_counted(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    suppressing.add(["u", "ü/\\ "], 1)
    insert(conn, ("u", "view", NOON), ("v", "view", NOON), ("", "view", NOON), ("U", "view", NOON))
    insert(conn, ("ü/\\ ", "view", NOON))
    assert users(conn) == ["", "U", "v"]
    assert refused(conn) == 2


def test_no_list_is_too_long(conn: connection, suppressing: SuppressionRepo) -> None:
    suppressing.add([f"u{n}" for n in range(3_000)], 1)
    insert(conn, *((f"{mark}{n}", "view", NOON) for n in range(0, 3_000, 7) for mark in "uv"))
    assert users(conn) == sorted(f"v{n}" for n in range(0, 3_000, 7))


def test_the_list_names_nobody(conn: connection, suppressing: SuppressionRepo) -> None:
    suppressing.add(["somebody"], 1)
    with conn.cursor() as cur:
        cur.execute("select encode(digest, 'hex'), suppressed_users::text from suppressed_users")
        ((digest, row),) = cur.fetchall()
    assert digest == hashlib.sha256(b"somebody").hexdigest()
    assert "somebody" not in row


def test_events_of_unsuppressed_users_are_stored_again(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    suppressing.add(["u", "v"], 1)
    suppressing.add(["v"], 1)
    assert suppressing.get_state().users == 2
    assert suppressing.remove(["u", "nobody"], 1) == 1
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    assert users(conn) == ["u"]
    assert triggers(conn) == ["events_are_facts", "events_suppressed"]


def test_without_a_list_events_cost_what_they_did(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    assert triggers(conn) == ["events_are_facts"]
    suppressing.add(["u"], 1)
    suppressing.remove(["u"], 1)
    assert triggers(conn) == ["events_are_facts"]
    insert(conn, ("u", "view", NOON))
    assert users(conn) == ["u"]


def test_who_is_writing_is_waited_for(
    conn: connection, database_url: str, suppressing: SuppressionRepo
) -> None:
    """Its events are there before the list is, and can be erased."""
    execute(conn, "begin")
    insert(conn, ("u", "view", NOON))
    adding = threading.Thread(target=suppressing.add, args=(["u"], 10))
    adding.start()
    with connected(database_url) as third:
        # Others go on writing meanwhile: whoever waits does not stand in their way for long.
        for _ in range(3):
            began = time.monotonic()
            insert(third, ("v", "view", NOON))
            assert time.monotonic() - began < adjusted_for_load(1)
    assert adding.is_alive()
    assert suppressing_count(conn) == 0
    execute(conn, "commit")
    adding.join()
    assert users(conn) == ["u", "v", "v", "v"]
    insert(conn, ("u", "view", NOON))
    assert refused(conn) == 1


def suppressing_count(conn: connection) -> int:
    return SuppressionRepo(conn).get_state().users


def test_who_writes_without_end_is_told_of(conn: connection, suppressing: SuppressionRepo) -> None:
    execute(conn, "begin")
    insert(conn, ("v", "view", NOON))
    with pytest.raises(WritersActive):
        suppressing.add(["u"], 0.5)
    execute(conn, "commit")
    assert suppressing.get_state().users == 0
    assert triggers(conn) == ["events_are_facts"]


@pytest.mark.parametrize("earlier", [[], ["w"]])
def test_a_snapshot_of_before_cannot_write(
    conn: connection, suppressing: SuppressionRepo, earlier: list[str]
) -> None:
    """It does not see the list; what it is told makes clients begin anew."""
    suppressing.add(earlier, 1)
    execute(conn, "begin isolation level repeatable read; select")
    suppressing.add(["u"], 1)
    with pytest.raises(errors.SerializationFailure, match="after this transaction began"):
        insert(conn, ("u", "view", NOON))
    execute(conn, "rollback; begin isolation level repeatable read")
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    execute(conn, "commit")
    assert users(conn) == ["v"]


def test_ids_of_another_cluster_stop_nobody(conn: connection, suppressing: SuppressionRepo) -> None:
    """After a restore the transaction that the trigger names may be one of the future."""
    suppressing.add(["u"], 1)
    execute(
        conn,
        "create or replace trigger events_suppressed before insert on events for each row "
        "execute function leave_out_suppressed_event('9000000000', '7')",
    )
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    assert users(conn) == ["v"]


def test_whoever_may_insert_events_needs_no_right_to_the_list(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    """And cannot put another list before it."""
    suppressing.add(["u"], 1)
    execute(conn, "drop role if exists only_writes; create role only_writes")
    execute(conn, "grant insert on events to only_writes")
    execute(conn, f'grant usage on schema "{SCHEMA}" to only_writes; set role only_writes')
    execute(conn, "create temporary table suppressed_users (digest bytea)")
    insert(conn, ("u", "view", NOON), ("v", "view", NOON))
    execute(conn, "reset role; drop owned by only_writes; drop role only_writes")
    assert users(conn) == ["v"]


def event(n: int, user: str) -> Event:
    return Event(ID.format(n), user, "view", NOON.isoformat(), "{}")


def test_a_batch_tells_what_became_of_its_events(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    ingest = IngestRepo(conn)
    assert ingest.insert(as_rows([event(1, "u"), event(2, "v"), event(2, "v")])) == Inserted(2, 0)
    suppressing.add(["w", "x"], 1)
    batch = [event(n, user) for n, user in enumerate(["u", "u", "v", "w", "x", "w", ""])]
    assert ingest.insert(as_rows(batch)) == Inserted(2, 3)
    assert refused(conn) == 3


def like(user: str) -> str:
    """Somebody else whose digest begins with the same 12 bits."""

    def first(name: str) -> str:
        return hashlib.sha256(name.encode()).hexdigest()[:3]

    return next(name for name in (f"v{n}" for n in range(10**6)) if first(name) == first(user))


def test_a_batch_is_looked_up_as_a_whole(conn: connection, suppressing: SuppressionRepo) -> None:
    """The trigger, which here tells whom it looks at, sees those alone who are left out."""
    suppressing.add(["u"], 1)
    execute(
        conn,
        "create table seen (user_id text);"
        "create or replace function leave_out_suppressed_event() returns trigger language plpgsql "
        "as $$ begin insert into seen values (new.user_id); return null; end $$",
    )
    ingest = IngestRepo(conn)
    ingest.insert(as_rows([event(1, "w")]))
    ingest.insert(as_rows([event(1, "w")]))  # from here on batches are staged
    batch = [event(n, user) for n, user in enumerate([like("u"), "", "u", "w", "u"], 2)]
    assert ingest.insert(as_rows(batch)) == Inserted(3, 2)
    assert seen(conn) == ["u", "u"]
    insert(conn, (like("u"), "view", NOON))  # what was found out is known of that batch alone
    assert seen(conn) == ["u", "u", like("u")]
    assert users(conn) == sorted(["", "w", "w", like("u")])


def seen(conn: connection) -> list[str]:
    with conn.cursor() as cur:
        cur.execute("select user_id from seen")
        return [user for (user,) in cur]


def test_with_a_long_list_batches_are_staged_at_once(
    conn: connection, suppressing: SuppressionRepo
) -> None:
    suppressing.add([f"u{n}" for n in range(1_800)], 1)
    batch = as_rows([event(1, "w"), event(2, "u7"), event(3, "u1799")])
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(ingest_module, "_try_copy")
        assert IngestRepo(conn).insert(batch) == Inserted(1, 2)
    assert users(conn) == ["w"]
    assert refused(conn) == 2


@pytest.mark.parametrize("way", ["copied", "staged"])
def test_a_batch_in_a_snapshot_of_before_cannot_be_written(
    database_url: str, suppressing: SuppressionRepo, way: str
) -> None:
    with closing(psycopg2.connect(database_url)) as old:
        old.set_session(isolation_level="REPEATABLE READ")
        ingest = IngestRepo(old)
        for _ in range(2 if way == "staged" else 0):
            ingest.insert(as_rows([event(0, "w")]))
        execute(old, "select")
        suppressing.add(["u"], 1)
        with pytest.raises(DatabaseUnavailable):
            ingest.insert(as_rows([event(1, "u")]))


def test_lists_of_two_who_work_at_once_are_both_kept(database_url: str, conn: connection) -> None:
    """One takes the last off the list while the other puts somebody on it."""
    SuppressionRepo(conn).add(["first"], 1)

    def run(work: Callable[[SuppressionRepo], object]) -> threading.Thread:
        def in_a_session() -> None:
            with connected(database_url) as own:
                work(SuppressionRepo(own))

        thread = threading.Thread(target=in_a_session)
        thread.start()
        return thread

    execute(conn, "begin; lock table events in share row exclusive mode")
    adding = run(lambda repo: repo.add(["u"], 10))
    wait_until(lambda: waiting(conn) == 1, timeout_s=5)
    removing = run(lambda repo: repo.remove(["first"], 10))
    wait_until(lambda: waiting(conn) == 2, timeout_s=5)
    execute(conn, "commit")
    for thread in (adding, removing):
        thread.join()
    insert(conn, ("first", "view", NOON), ("u", "view", NOON))
    assert users(conn) == ["first"]


def waiting(conn: connection) -> int:
    with conn.cursor() as cur:
        cur.execute("select count(*) from pg_locks where not granted")
        (count,) = cur.fetchone() or (0,)
        return int(count)
