"""The ids of users that a process keeps are those of the snapshot."""

from typing import Literal

import pytest
from psycopg2.extensions import connection

from common.errors import TooExpensive
from common.filters import AnyOf
from config.database import Cursor
from repo.engine import user_ids
from repo.engine.user_ids import UserIdCache, UserIds, read_user_ids
from repo.lifecycle.erasure import EraseRepo
from tests.column_contents import query

KEY = "a database"
USERS = ["ada", "Ada.Lovelace", "bob", "STRASSE", "stra\u00dfe", "\u0130x", "a\nb"]


class Ids:
    """Reads ids with a cache, and counts the users that were read."""

    def __init__(self, conn: connection) -> None:
        self._conn = conn
        self._cache = UserIdCache()

    def read(self, memory_key: str | None = KEY) -> UserIds:
        with self._conn.cursor(cursor_factory=Cursor) as cur:
            return read_user_ids(cur, memory_key, self._cache)

    def texts(self) -> list[str]:
        return list(self.read().texts.to_pylist())

    def matching(self, kind: Literal["^", "~"], *texts: str) -> list[str]:
        ids = self.read()
        test = AnyOf(kind, texts)
        names = dict(zip(ids.ordinals.tolist(), ids.texts.to_pylist(), strict=True))
        return [names[ordinal] for ordinal in ids.matching(test).tolist()]


@pytest.fixture
def ids(conn: connection, monkeypatch: pytest.MonkeyPatch) -> Ids:
    monkeypatch.setattr(user_ids, "_PIECE_USERS", 2)
    return Ids(conn)


def add(conn: connection, *users: str) -> None:
    for user in users:
        query(
            conn,
            "insert into users (user_id, ordinal) "
            "select %s, coalesce(max(ordinal), 0) + 1 from users returning 1",
            user,
        )


def test_ids_contain_or_begin_with_texts(conn: connection, ids: Ids) -> None:
    assert ids.matching("~", "a") == []
    add(conn, *USERS)
    assert ids.matching("^", "a") == ["ada", "a\nb"]
    assert ids.matching("^", "Ad", "bob", "x") == ["Ada.Lovelace", "bob"]
    assert ids.matching("~", "ADA") == ["ada", "Ada.Lovelace"]
    assert ids.matching("~", "stra\u00dfe") == ["STRASSE", "stra\u00dfe"]
    assert ids.matching("~", "LOVE", "o") == ["Ada.Lovelace", "bob"]
    assert ids.matching("~", "\n") == ["a\nb"]


def test_only_new_users_are_read(conn: connection, ids: Ids) -> None:
    add(conn, *USERS)
    first = ids.read()
    assert first.texts.to_pylist() == USERS
    assert ids.read().texts.equals(first.texts)
    add(conn, "new", "newer")
    query(conn, "update users set user_id = 'changed' where user_id = 'ada' returning 1")
    assert ids.texts() == [*USERS, "new", "newer"]
    assert ids.read(None).texts.to_pylist() == ["changed", *USERS[1:], "new", "newer"]


def test_erased_users_are_forgotten(conn: connection, ids: Ids) -> None:
    add(conn, *USERS)
    assert len(ids.texts()) == len(USERS)
    EraseRepo(conn).erase("bob")
    assert ids.texts() == [user for user in USERS if user != "bob"]
    EraseRepo(conn).erase(USERS[-1])
    assert ids.texts() == [user for user in USERS[:-1] if user != "bob"]


def test_a_snapshot_sees_no_later_users(conn: connection, other: connection, ids: Ids) -> None:
    add(conn, "ada")
    with other.cursor(cursor_factory=Cursor) as cur:
        cur.execute("begin isolation level repeatable read; select 1")
        add(conn, "bob")
        assert ids.texts() == ["ada", "bob"]
        earlier = read_user_ids(cur, KEY, ids._cache)
        assert earlier.texts.to_pylist() == ["ada"]
        EraseRepo(conn).erase("bob")
        assert ids.texts() == ["ada"]
        cur.execute("commit")


@pytest.mark.parametrize(
    ("limit", "what"), [("MAX_USERS", "users"), ("MAX_BYTES", "bytes of user ids")]
)
def test_too_many_users_are_refused(
    conn: connection, ids: Ids, monkeypatch: pytest.MonkeyPatch, limit: str, what: str
) -> None:
    add(conn, "ada", "bob")
    monkeypatch.setattr(user_ids, limit, 1)
    with pytest.raises(TooExpensive, match=f"{what}; the limit is 1. Cheaper: `@user:` with whole"):
        ids.read()
