"""Who asks: keys, known to each worker and checked without asking anybody."""

import asyncio
import hashlib
import logging
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from common.errors import Forbidden, InvalidKey, Unauthorized, Unavailable
from common.key_metrics import OTHER_KEYS, KeyLabels, printable_name
from common.metrics import key_checks, track_reachability
from config.database import Database, connect_with_timeout, get_connection
from config.database_errors import DatabaseError
from repo.api_keys import ApiKey, ApiKeySet, ApiKeysRepo, KeysRepo, Scope
from utils.tracing import trace_span

log = logging.getLogger("analytics.keys")

_PREFIX = "ask_"
_HINT = len(_PREFIX) + 4
_SECRET_PATTERN = re.compile(_PREFIX + "[A-Za-z0-9_-]{32,200}")
_READ_EVERY_S = 2.0
_MIN_READ_INTERVAL_S = 0.5
_RECORD_EVERY_S = 15.0
_TIMEOUT_S = 5.0
_GUESS_TIMEOUT_S = 1.0
_MAX_GUESSES = 4  # that wait at a time
_TRUSTED_S = 2 * _READ_EVERY_S


@dataclass(frozen=True, slots=True)
class Secret:
    """A new key: `text` is for its owner alone, the rest is kept."""

    text: str
    digest: bytes
    hint: str


def new_secret() -> Secret:
    text = _PREFIX + secrets.token_urlsafe(32)
    return Secret(text, digest_of(text), text[:_HINT])


def parse_secret(text: str) -> Secret | None:
    """One that was made elsewhere; None where it could be guessed by its form."""
    if not _SECRET_PATTERN.fullmatch(text):
        return None
    return Secret(text, digest_of(text), text[:_HINT])


def digest_of(text: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).digest()


class ApiKeyCache:
    """The keys that work, read again and again.

    Looking a digest up in a dictionary tells nothing by its time: who does not know the secret
    cannot choose its digest.
    """

    def __init__(
        self,
        database: Database,
        writer_url: str,
        *,
        fallback: Database | None = None,
        may_be_open: bool,
    ) -> None:
        """`instead` is read while the database is away and no keys are known at all: what a replica
        knows may be older than what is known here.

        `may_be_open`: as long as there never was a key, none is asked for.
        """
        self._database = database
        self._fallback = fallback
        self._writer_url = writer_url
        self._may_be_open = may_be_open
        self._keys: dict[bytes, ApiKey] | None = None
        self._labels = KeyLabels()
        self._never_had_keys = False
        self._last_used: dict[int, float] = {}
        self._read_at = -_MIN_READ_INTERVAL_S
        self._as_of = self._read_at
        self._reading = asyncio.Lock()
        self._guesses = 0
        self._is_silent = False
        """Whether a request waited for the keys in vain, and they were not read since."""

    @property
    def is_open(self) -> bool:
        return self._may_be_open and self._never_had_keys

    async def check(
        self, authorization: str | None, scope: Scope, deadline: float
    ) -> ApiKey | None:
        """The key of a request; None where none is needed.

        Raises: Unauthorized, InvalidKey, Forbidden, Unavailable.
        """
        key = self.check_cached(authorization, scope)
        if key is not None or self.is_open:
            return key
        if self._keys is None:
            await self._read_by(deadline)
        elif _is_bearer_key(authorization):
            await self._await_new_key(deadline)
        return self._recheck(authorization, scope)

    def find(self, authorization: str) -> ApiKey | None:
        """The key of a request, whatever its scopes, if this worker has it."""
        return self._find(authorization)

    def check_cached(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        """The key if this worker has it, without a wait. Raises: Forbidden."""
        with trace_span("key check"):
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
        """Read the keys again and again, whatever happens: else revoked ones would work on."""
        while True:
            try:
                await self._read()
            except DatabaseError:
                pass
            except Exception as exc:
                log.error("keys cannot be read", extra={"failure": type(exc).__name__})
            await asyncio.sleep(_READ_EVERY_S)

    async def record_use_forever(self) -> NoReturn:
        """Tell which keys were used; apart from reading, which must not wait for it."""
        while True:
            await asyncio.sleep(_RECORD_EVERY_S)
            await self.record_last_used()

    async def record_last_used(self) -> None:
        """Write down when keys were used last; what cannot be written now is written later."""
        last_used, self._last_used = self._last_used, {}
        if last_used:
            try:
                await asyncio.to_thread(self._record, last_used)
            except asyncio.CancelledError:
                self._last_used = last_used | self._last_used  # at the end it is told once more
                raise
            except Exception as exc:
                self._last_used = last_used | self._last_used
                log.warning("keys' last use is not told", extra={"failure": type(exc).__name__})

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
        kind, _, secret = authorization.partition(" ")
        return self._keys.get(digest_of(secret.strip())) if kind.lower() == "bearer" else None

    async def _await_new_key(self, deadline: float) -> None:
        """A key may be newer than what was read, so it waits for the next reading; but few do at a
        time, and none while the database is silent.

        Raises: Unavailable, when it cannot be told whether the key is one.
        """
        now = time.monotonic()
        if self._is_silent:
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

    async def _read_by(self, deadline: float) -> None:
        """Raises: Unavailable."""
        requested_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - requested_at):
                await self._read_soon(requested_at)
        if self._as_of < requested_at:
            self._is_silent = True
            raise Unavailable

    async def _read_soon(self, requested_at: float) -> None:
        """Not at once for each: guesses must not become a load."""
        async with self._reading:
            if self._read_at > requested_at:  # for another one who waited here
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
        if began >= self._as_of:  # else another reading overtook this one
            self._replace_keys(known_keys)
            self._as_of = began

    def _replace_keys(self, known_keys: ApiKeySet) -> None:
        self._is_silent = False
        self._keys = {key.digest: key for key in self._labelled(known_keys.active)}
        self._never_had_keys = not known_keys.has_existed

    def _labelled(self, keys: list[ApiKey]) -> list[ApiKey]:
        """The keys with printable names, and the labels that their requests are counted under."""
        named = [key._replace(name=printable_name(key.name)) for key in keys]
        labels = self._labels.update(key.name for key in named)
        return [key._replace(label=labels.get(key.name, OTHER_KEYS)) for key in named]


def _is_bearer_key(authorization: str | None) -> bool:
    """Whether it has the form of one that may have been made since keys were read."""
    kind, _, secret = (authorization or "").partition(" ")
    return kind.lower() == "bearer" and bool(_SECRET_PATTERN.fullmatch(secret.strip()))


async def _read_keys(database: Database) -> ApiKeySet:
    connection = get_connection(database, time.monotonic() + _TIMEOUT_S)
    return await connection.run(ApiKeysRepo(connection).get_keys)
