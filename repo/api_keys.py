"""Keys of callers: what is kept of them, which is never the secret."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors, with_cursor
from config.database import Connection, Cursor
from config.invocation import invocation
from repo.statements import statements
from repo.transactions import transaction

SQL = statements("api_keys")

Scope = Literal["read", "write", "admin"]


class ApiKey(NamedTuple):
    """A key that works."""

    key_id: int
    name: str
    digest: bytes
    scopes: frozenset[str]
    label: str = ""
    """The name that its requests are counted under."""

    def may(self, scope: Scope) -> bool:
        """`admin` may do all."""
        return scope in self.scopes or "admin" in self.scopes


class ApiKeySet(NamedTuple):
    """The keys that work, and whether there ever was one."""

    active: list[ApiKey]
    has_existed: bool


class ApiKeyInfo(NamedTuple):
    """What there is to tell about a key."""

    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None


class NoSuchKey(Exception):
    """No key of this name works."""


class KeyExists(Exception):
    """A key of this name works already."""


class ApiKeysRepo:
    """The keys that questions are asked with."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_keys(self, cur: Cursor) -> ApiKeySet:
        """Those that work now, in the order in which their names were first created."""
        cur.execute(SQL["api_keys_active"])
        active = [
            ApiKey(key_id, name, bytes(digest), frozenset(scopes))
            for key_id, name, digest, scopes in cur
        ]
        return ApiKeySet(active, bool(active) or _has_rows(cur))


def _has_rows(cur: cursor) -> bool:
    cur.execute(SQL["api_keys_ever"])
    (has_existed,) = cur.fetchone() or ()
    return bool(has_existed)


class KeysRepo:
    """The keys as their keeper sees them; each method is one transaction.

    All of them raise RightsMissing where this role may not, and DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    @contextmanager
    def _transaction(self) -> Iterator[cursor]:
        at_stake = f"`{invocation('keys list')}` shows it"
        with (
            translate_errors("this role may not do that with keys"),
            transaction(self._conn, at_stake) as cur,
        ):
            yield cur

    def get_all(self) -> list[ApiKeyInfo]:
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_all"])
            return [ApiKeyInfo(*row) for row in cur]

    def has_any(self) -> bool:
        """Whether any key works. Raises: DatabaseUnavailable where there is no schema."""
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_active"])
            return cur.rowcount > 0

    def has_existed(self) -> bool:
        """Whether there ever was a key: it may have been revoked."""
        with self._transaction() as cur:
            return _has_rows(cur)

    def create_first(self, name: str, digest: bytes, hint: str, scopes: Sequence[Scope]) -> bool:
        """Whether it was made: not where there ever was a key."""
        with self._transaction() as cur:
            cur.execute(
                SQL["api_keys_insert_first"],
                {"name": name, "digest": digest, "hint": hint, "scopes": list(scopes)},
            )
            return cur.rowcount > 0

    def create(self, name: str, digest: bytes, hint: str, scopes: Sequence[Scope]) -> None:
        """Raises: KeyExists."""
        try:
            with self._transaction() as cur:
                cur.execute(
                    SQL["api_keys_insert"],
                    {"name": name, "digest": digest, "hint": hint, "scopes": list(scopes)},
                )
        except errors.UniqueViolation as exc:
            raise KeyExists(name) from exc

    def rotate(self, name: str, digest: bytes, hint: str, grace: timedelta) -> None:
        """The name's key is another one now; the old one works for `grace`. Raises: NoSuchKey."""
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_end"], {"name": name, "grace": grace})
            row = cur.fetchone()
            if row is None:
                raise NoSuchKey(name)
            cur.execute(
                SQL["api_keys_insert"],
                {"name": name, "digest": digest, "hint": hint, "scopes": row[0]},
            )

    def revoke(self, name: str) -> None:
        """For good, whatever the clock of the server shows later. Raises: NoSuchKey."""
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_revoke"], {"name": name})
            if cur.fetchone() != (True,):
                raise NoSuchKey(name)

    def record_last_used(self, last_used: Mapping[int, float]) -> None:
        """When keys were used last, in seconds since 1970."""
        with self._transaction() as cur:
            cur.execute(
                SQL["api_keys_used"],
                {"key_ids": list(last_used), "moments": list(last_used.values())},
            )
