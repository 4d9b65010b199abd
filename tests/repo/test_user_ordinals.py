"""The consumer finds the ordinals of the users of many events by hashes of user ids."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection

from config.database import Cursor
from repo.columns.chunk_table import SQL
from repo.columns.consumer import Consumer
from repo.columns.store import ColumnStore
from repo.columns.unwritten_events import Limits
from repo.columns.user_ordinals import MISSING, UserOrdinals, UserTable
from repo.engine.tail import Snapshot
from repo.lifecycle.erasure import EraseRepo
from repo.rollups.rollup_writer import RollupWriter
from tests.column_contents import expected, query, written
from tests.events import insert

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
BACKFILL: dict[str, Any] = {"limits": Limits(events=2), "max_new_events": 5}
TO = Snapshot("10:10:")


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repo.columns.chunk_writer.MAX_CHUNK_EVENTS", 4)


def fold(conn: connection) -> None:
    writer = RollupWriter(conn, [])
    while writer.step().has_more:
        pass


def insert_days(conn: connection, *users: str, first: int = 0) -> None:
    """Insert and fold an event of each user, one a day into the past."""
    events = enumerate(users, first)
    insert(conn, *((user, "view", NOW - number * DAY, {"n": number}) for number, user in events))
    fold(conn)


def finish(conn: connection, consumer: Consumer) -> None:
    while consumer.step(is_lazy=False):
        pass
    assert written(conn) == expected(conn)


def table(conn: connection, ordinals: UserOrdinals) -> UserTable | None:
    with conn.cursor(cursor_factory=Cursor) as cur:
        return ordinals.table(cur, 1, TO)


def hashes(conn: connection, seed: int, *users: str) -> Any:
    rows = query(conn, "select hashtextextended(u, %s) from unnest(%s) as u", seed, list(users))
    return [each for (each,) in rows]


def test_users_are_found_by_their_hashes(conn: connection) -> None:
    insert_days(conn, "ada", "", "bob", "émile")
    found = table(conn, UserOrdinals())
    assert found is not None
    users = dict(query(conn, "select user_id, ordinal from users"))
    keys = hashes(conn, found.seed, "bob", "", "carl", "ada", "émile", "bob")
    expected_ordinals = [users["bob"], 0, MISSING, users["ada"], users["émile"], users["bob"]]
    assert found.ordinals(keys).tolist() == expected_ordinals


def test_users_are_read_once_for_a_backfill(conn: connection) -> None:
    ordinals = UserOrdinals()
    insert_days(conn, "ada")
    first = table(conn, ordinals)
    insert_days(conn, "bob")
    assert table(conn, ordinals) is first
    ordinals.forget()
    assert table(conn, ordinals) is not first


def test_too_many_users_are_not_read(conn: connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repo.columns.user_ordinals.MAX_USERS", 3)
    insert_days(conn, *"abcdefgh")
    assert table(conn, UserOrdinals()) is None
    finish(conn, Consumer(conn, 2_000, **BACKFILL))
    assert sum(written(conn).values()) == 8


@pytest.mark.parametrize("limits", [{}, BACKFILL])
def test_users_with_the_same_hash_are_told_apart(
    conn: connection, monkeypatch: pytest.MonkeyPatch, limits: dict[str, Any]
) -> None:
    same_hash(monkeypatch, "7::bigint")
    insert_days(conn, *"abcdefgh")
    assert table(conn, UserOrdinals()) is None
    finish(conn, Consumer(conn, 2_000, **limits))


def test_users_of_few_events_are_looked_up(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_days(conn, *(f"user {number}" for number in range(30)))
    consumer = Consumer(conn, 2_000)
    finish(conn, consumer)
    monkeypatch.setattr(UserOrdinals, "table", None)
    insert_days(conn, "user 7", "user 8")
    finish(conn, consumer)
    assert sum(written(conn).values()) == 32


def test_a_user_without_an_ordinal_is_not_taken_for_another_one(
    conn: connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a future event that an older version has folded."""
    same_hash(monkeypatch, "case user_id when 'ada' then 1 when 'bob' then 1 else 2 end::bigint")
    insert_days(conn, *(["ada", "bob"] * 4), first=-1)
    query(conn, "delete from users where user_id = 'ada' returning 1")
    finish(conn, Consumer(conn, 2_000, **BACKFILL))
    assert {event[1] for event in written(conn)} == {"ada", "bob"}


def same_hash(monkeypatch: pytest.MonkeyPatch, expression: str) -> None:
    for name, call in (
        ("columns_user_hash", "hashtextextended(measured.user_id, %(seed)s)"),
        ("columns_user_hashes", "hashtextextended(user_id, %(seed)s)"),
    ):
        assert call in SQL[name]
        monkeypatch.setitem(SQL, name, SQL[name].replace(call, expression))


def test_a_user_who_is_erased_and_returns_has_both_ordinals(conn: connection) -> None:
    insert_days(conn, *(["ada", "bob"] * 5))
    consumer = Consumer(conn, 2_000, **BACKFILL)
    for _ in range(2):
        consumer.step(is_lazy=False)
    EraseRepo(conn).erase("ada")
    insert_days(conn, "ada", first=20)
    while consumer.step(is_lazy=False) or ColumnStore([]).maintain(conn, is_lazy=False):
        pass
    assert written(conn) == expected(conn)
    assert sorted(event[1] for event in written(conn)) == ["ada", *["bob"] * 5]
