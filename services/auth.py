"""Authentication by API key, checked against a copy of the keys in each worker process."""

import asyncio
import logging
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from starlette.types import Scope as RequestScope

from common.errors import (
    Forbidden,
    InvalidKey,
    KeyNotForPages,
    OriginNotAllowed,
    Unauthorized,
    Unavailable,
)
from common.key_metrics import OTHER_KEYS, KeyLabels, printable_name
from common.metrics import key_checks, track_reachability
from config.database import Database, connect_with_timeout, get_connection
from config.database_errors import DatabaseError
from repo.api_keys import ApiKey, ApiKeySet, ApiKeysRepo, KeysRepo, Scope
from services.api_key_secrets import SECRET_PATTERN, digest_of, secret_in
from services.cache_service import Limits
from utils import tracing

if TYPE_CHECKING:
    from services.container import Resources

log = logging.getLogger("analytics.keys")

_READ_EVERY_S = 2.0
_MIN_READ_INTERVAL_S = 0.5
_RECORD_EVERY_S = 15.0
_TIMEOUT_S = 5.0
_GUESS_TIMEOUT_S = 1.0
_MAX_GUESSES = 4  # requests with an unknown key that may wait for the next read at a time
_NO_LIMITS = Limits()
_TRUSTED_S = 2 * _READ_EVERY_S  # maximum age of the keys in memory for rejecting an unknown key


class Caller(NamedTuple):
    """The limits of the API key of a request, and the deadline of the request."""

    limits: Limits
    deadline: float
    """In monotonic time."""


async def authorize(
    scope: RequestScope, authorization: str | None, resources: "Resources", needed: Scope
) -> Caller:
    """Check the key of a request, which must have the scope `needed`.

    Raises: Unauthorized, InvalidKey, Forbidden, OriginNotAllowed, Unavailable.
    """
    state = scope["state"]
    deadline = state["began"] + resources.request_s
    key = await resources.keys.check(authorization, needed, deadline)
    state["authorized"], state["key"] = True, key
    if key is not None and key.origins:
        _check_origin(scope, key)
    return Caller(limits_of(key, resources), deadline)


async def authorize_page(scope: RequestScope, secret: str, resources: "Resources") -> Caller:
    """Check a key in a URL, which must be limited to writing from pages of some origins.

    Raises: Unauthorized, InvalidKey, Forbidden, KeyNotForPages, OriginNotAllowed, Unavailable.
    """
    caller = await authorize(scope, f"Bearer {secret}", resources, "write")
    key: ApiKey | None = scope["state"]["key"]
    if key is None:  # no key exists, so that any page could write
        raise InvalidKey
    if not key.origins:
        raise KeyNotForPages
    return caller


def _check_origin(scope: RequestScope, key: ApiKey) -> None:
    """Raises: OriginNotAllowed."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    if len(origins) != 1 or origins[0] not in key.origins:
        key_checks("forbidden").inc()
        raise OriginNotAllowed


def limits_of(key: ApiKey | None, resources: "Resources") -> Limits:
    """The limits of a key; none without a key."""
    if key is None:
        return _NO_LIMITS
    caller = f"{resources.identity.value}:{key.key_id}"
    per_second = resources.per_second if key.rate is None else key.rate
    return Limits(caller, per_second, resources.concurrency)


class ApiKeyCache:
    """The active keys, read from PostgreSQL every 2 s.

    The dictionary lookup by digest is safe against timing attacks: without the secret nobody can
    choose the digest that is looked up.
    """

    def __init__(
        self,
        database: Database,
        writer_url: str,
        *,
        fallback: Database | None = None,
        may_be_open: bool,
    ) -> None:
        """`fallback`, which may be a replica, is read only if the database is unavailable before
        the first read: later the keys in memory may be newer than those of a replica.

        `may_be_open`: no key is required until the first one is created.
        """
        self._database = database
        self._fallback = fallback
        self._writer_url = writer_url
        self._may_be_open = may_be_open
        self._keys: dict[bytes, ApiKey] | None = None
        self._labels = KeyLabels()
        self.is_open = False
        """Whether requests need no key."""
        self._last_used: dict[int, float] = {}
        self._read_at = -_MIN_READ_INTERVAL_S
        self._as_of = self._read_at
        self._reading = asyncio.Lock()
        self._guesses = 0
        # A request has waited for a read until its timeout, and none has succeeded since. Until
        # one does, requests with unknown keys fail at once.
        self._is_stalled = False

    async def check(
        self, authorization: str | None, scope: Scope, deadline: float
    ) -> ApiKey | None:
        """The key of a request; None if none is required.

        Raises: Unauthorized, InvalidKey, Forbidden, Unavailable.
        """
        key = self.check_cached(authorization, scope)
        if key is not None or self.is_open:
            return key
        if self._keys is None:
            await self._read_first(deadline)
            key = self.check_cached(authorization, scope)
            if key is not None or self.is_open:
                return key
        # The key may have been created after the last read began.
        if SECRET_PATTERN.fullmatch(secret_in(authorization or "") or ""):
            await self._await_new_key(deadline)
        return self._recheck(authorization, scope)

    def find(self, authorization: str) -> ApiKey | None:
        """The key of a request, whatever its scopes; None if it is not in memory."""
        return self._find(authorization)

    def check_cached(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        """The key of a request, without waiting; None if it is not in memory. Raises: Forbidden."""
        with tracing.span("key check"):
            key = self._find(authorization)
        if key is None:
            return None
        if not key.may(scope):
            key_checks("forbidden").inc()
            raise Forbidden(scope)
        key_checks("ok").inc()
        self._last_used[key.key_id] = time.time()
        return key

    async def poll_forever(self) -> NoReturn:
        """Read the keys every 2 s."""
        while True:
            # No exception may end the loop: revoked keys would stay valid.
            try:
                # Requests wait for the first read, and not for a later one of their own.
                async with self._reading if self._keys is None else nullcontext():
                    await self._read()
            except DatabaseError:
                pass
            except Exception as exc:
                log.error("API keys could not be read", extra={"failure": type(exc).__name__})
            await asyncio.sleep(_READ_EVERY_S)

    async def record_use_forever(self) -> NoReturn:
        """Store the times of last use every 15 s."""
        # Not in the loop that reads the keys: a slow write must not delay the next read.
        while True:
            await asyncio.sleep(_RECORD_EVERY_S)
            await self.record_last_used()

    async def record_last_used(self) -> None:
        """Store when each key was used last; times that could not be stored stay for later."""
        last_used, self._last_used = self._last_used, {}
        if last_used:
            try:
                await asyncio.to_thread(self._record, last_used)
            except asyncio.CancelledError:
                # Kept for the last call, which is made when the service stops.
                self._last_used = last_used | self._last_used
                raise
            except Exception as exc:
                self._last_used = last_used | self._last_used
                log.warning(
                    "the last use of API keys could not be stored",
                    extra={"failure": type(exc).__name__},
                )

    def _record(self, last_used: dict[int, float]) -> None:
        with connect_with_timeout(self._writer_url, "analytics-keys", _TIMEOUT_S) as conn:
            KeysRepo(conn).record_last_used(last_used)

    def _recheck(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        key = self.check_cached(authorization, scope)
        if key is not None or self.is_open:
            return key
        key_checks("none" if authorization is None else "unknown").inc()
        raise Unauthorized if authorization is None else InvalidKey

    def _find(self, authorization: str | None) -> ApiKey | None:
        if authorization is None or self._keys is None:
            return None
        secret = secret_in(authorization)
        return None if secret is None else self._keys.get(digest_of(secret))

    async def _await_new_key(self, deadline: float) -> None:
        """Wait for the next read of the keys, since an unknown key may have been created since the
        last one.

        Raises: Unavailable, if the keys in memory are too old to reject the key.
        """
        # Only a few requests wait at a time, and none while PostgreSQL does not reply: requests
        # with invalid keys must not pile up.
        now = time.monotonic()
        if self._is_stalled:
            raise Unavailable
        if self._guesses >= _MAX_GUESSES:
            if now - self._as_of > _TRUSTED_S:
                raise Unavailable
            return
        self._guesses += 1
        try:
            await self._read_by(min(deadline, now + _GUESS_TIMEOUT_S))
        finally:
            self._guesses -= 1

    async def _read_first(self, deadline: float) -> None:
        """Wait for the first read, which may be in progress. Raises: Unavailable."""
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - time.monotonic()), self._reading:
                pass
        if self._keys is None:
            await self._read_by(deadline)

    async def _read_by(self, deadline: float) -> None:
        """Wait for a read that starts after now. Raises: Unavailable."""
        requested_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - requested_at):
                await self._read_soon(requested_at)
        if self._as_of < requested_at:
            self._is_stalled = True
            raise Unavailable

    async def _read_soon(self, requested_at: float) -> None:
        """Read the keys, at most every 0.5 s: invalid keys must not cause a load on PostgreSQL."""
        async with self._reading:
            if self._read_at > requested_at:  # another request has read them meanwhile
                return
            await asyncio.sleep(self._read_at + _MIN_READ_INTERVAL_S - requested_at)
            with suppress(DatabaseError):
                await self._read()

    async def _read(self) -> None:
        self._read_at = began = time.monotonic()
        try:
            with track_reachability("postgresql", "keys"):
                known_keys = await _read_keys(self._database)
        except DatabaseError:
            if self._fallback and self._keys is None:
                self._replace_keys(await _read_keys(self._fallback))
            raise
        if began >= self._as_of:  # else a read that started later has finished before this one
            self._replace_keys(known_keys)
            self._as_of = began

    def _replace_keys(self, known_keys: ApiKeySet) -> None:
        self._is_stalled = False
        self._keys = {key.digest: key for key in self._labelled(known_keys.active)}
        self.is_open = self._may_be_open and not known_keys.has_existed

    def _labelled(self, keys: list[ApiKey]) -> list[ApiKey]:
        """The keys, with printable names and with the label of their metrics."""
        named = [key._replace(name=printable_name(key.name)) for key in keys]
        labels = self._labels.update(key.name for key in named)
        return [key._replace(label=labels.get(key.name, OTHER_KEYS)) for key in named]


async def _read_keys(database: Database) -> ApiKeySet:
    connection = get_connection(database, time.monotonic() + _TIMEOUT_S)
    return await connection.run(ApiKeysRepo(connection).get_keys)
