"""API keys: their digests, scopes and dates in the database, which never holds the secrets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from psycopg2 import errors
from psycopg2.extensions import connection, cursor

from common.decorators import translate_errors, with_cursor
from config.database import Connection, Cursor
from config.invocation import invocation
from repo.commit_outcome import transaction
from repo.statements import statements

SQL = statements("api_keys")

Scope = Literal["read", "write", "admin"]


class ApiKey(NamedTuple):
    """An active API key."""

    key_id: int
    name: str
    digest: bytes
    scopes: frozenset[str]
    label: str = ""
    """The name of the key in the labels of metrics."""
    origins: frozenset[str] = frozenset()
    """Only pages of these origins may use the key; empty: no limit."""
    rate: int | None = None
    """Requests per second; None: as set for all keys."""

    def may(self, scope: Scope) -> bool:
        """Return whether the key has the scope; `admin` includes all scopes."""
        return scope in self.scopes or "admin" in self.scopes


class ApiKeySet(NamedTuple):
    """The active keys, and whether any key has ever existed."""

    active: list[ApiKey]
    has_existed: bool


class ApiKeyInfo(NamedTuple):
    """A key as commands list it."""

    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    ends_at: datetime | None
    last_used_at: datetime | None
    rate: int | None
    origins: list[str]


class NoSuchKey(Exception):
    """No active key has this name."""


class KeyExists(Exception):
    """An active key has this name already."""


class ApiKeysRepo:
    """Reads the keys that requests are authenticated by."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_keys(self, cur: Cursor) -> ApiKeySet:
        """Return the active keys, ordered by the time at which their names were first created."""
        cur.execute(SQL["api_keys_active"])
        active = [
            ApiKey(
                key_id,
                name,
                bytes(digest),
                frozenset(scopes),
                origins=frozenset(origins),
                rate=rate,
            )
            for key_id, name, digest, scopes, origins, rate in cur
        ]
        return ApiKeySet(active, bool(active) or _has_rows(cur))


def _has_rows(cur: cursor) -> bool:
    cur.execute(SQL["api_keys_ever"])
    (has_existed,) = cur.fetchone() or ()
    return bool(has_existed)


class KeysRepo:
    """Manages keys for commands; each method is one transaction.

    All methods raise RightsMissing if the role lacks privileges, and DatabaseUnavailable.
    """

    def __init__(self, conn: connection) -> None:
        self._conn = conn

    @contextmanager
    def _transaction(self) -> Iterator[cursor]:
        at_stake = f"check it with `{invocation('keys list')}`"
        with (
            translate_errors("this role may not manage API keys"),
            transaction(self._conn, at_stake) as cur,
        ):
            yield cur

    def get_all(self) -> list[ApiKeyInfo]:
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_all"])
            return [ApiKeyInfo(*row) for row in cur]

    def has_any(self) -> bool:
        """Return whether any key is active. Raises: DatabaseUnavailable without a schema."""
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_active"])
            return cur.rowcount > 0

    def has_existed(self) -> bool:
        """Return whether any key has ever existed, such as one that was revoked."""
        with self._transaction() as cur:
            return _has_rows(cur)

    def create_first(self, name: str, digest: bytes, hint: str, scopes: Sequence[Scope]) -> bool:
        """Create a key unless one has ever existed; return whether it was created."""
        with self._transaction() as cur:
            # Checked by the statement itself: two processes may start at the same time.
            cur.execute(
                SQL["api_keys_insert_first"],
                {"name": name, "digest": digest, "hint": hint, "scopes": list(scopes)},
            )
            return cur.rowcount > 0

    def create(
        self,
        name: str,
        digest: bytes,
        hint: str,
        scopes: Sequence[Scope],
        origins: Sequence[str] = (),
        rate: int | None = None,
    ) -> None:
        """Create a key; see `ApiKey` for `origins` and `rate`. Raises: KeyExists."""
        try:
            with self._transaction() as cur:
                cur.execute(
                    SQL["api_keys_insert"],
                    {
                        "name": name,
                        "digest": digest,
                        "hint": hint,
                        "scopes": list(scopes),
                        "origins": list(origins),
                        "rate": rate,
                    },
                )
        except errors.UniqueViolation as exc:
            raise KeyExists(name) from exc

    def rotate(self, name: str, digest: bytes, hint: str, grace: timedelta) -> None:
        """Replace the key of a name; the old one stays valid for `grace`. Raises: NoSuchKey."""
        with self._transaction() as cur:
            # One transaction, so that there is never a moment without a valid key.
            cur.execute(SQL["api_keys_end"], {"name": name, "grace_period": grace})
            row = cur.fetchone()
            if row is None:
                raise NoSuchKey(name)
            scopes, origins, rate = row
            cur.execute(
                SQL["api_keys_insert"],
                {
                    "name": name,
                    "digest": digest,
                    "hint": hint,
                    "scopes": scopes,
                    "origins": origins,
                    "rate": rate,
                },
            )

    def revoke(self, name: str) -> None:
        """Revoke the keys of a name for good. Raises: NoSuchKey."""
        # A flag rather than a date, which would be undone if the server's clock were put back.
        with self._transaction() as cur:
            cur.execute(SQL["api_keys_revoke"], {"name": name})
            if cur.fetchone() != (True,):
                raise NoSuchKey(name)

    def record_last_used(self, last_used: Mapping[int, float]) -> None:
        """Store when keys were last used: seconds since 1970, by key id."""
        with self._transaction() as cur:
            cur.execute(
                SQL["api_keys_used"],
                {"key_ids": list(last_used), "used_at": list(last_used.values())},
            )
