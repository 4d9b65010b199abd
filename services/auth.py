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
from common.metrics import key_checks
from common.reach import reaching
from config.database import Database, connected_for, get_connection
from config.failures import DatabaseError
from repo.api_keys import ApiKey, ApiKeysRepo, KeysRepo, KnownKeys, Scope
from utils.tracing import span

log = logging.getLogger("analytics.keys")

_PREFIX = "ask_"
_HINT = len(_PREFIX) + 4
_GIVEN = re.compile(_PREFIX + "[A-Za-z0-9_-]{32,200}")
_READ_EVERY_S = 2.0
_READ_ONCE_IN_S = 0.5
_TELL_EVERY_S = 15.0
_WITHIN_S = 5.0
_GUESS_WITHIN_S = 1.0
_MOST_GUESSES = 4  # that wait at a time
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


def given_secret(text: str) -> Secret | None:
    """One that was made elsewhere; None where it could be guessed by its form."""
    if not _GIVEN.fullmatch(text):
        return None
    return Secret(text, digest_of(text), text[:_HINT])


def digest_of(text: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).digest()


class KeyRing:
    """The keys that work, read again and again.

    Looking a digest up in a dictionary tells nothing by its time: who does not know the secret
    cannot choose its digest.
    """

    def __init__(
        self,
        database: Database,
        writer_url: str,
        *,
        instead: Database | None = None,
        may_be_open: bool,
    ) -> None:
        """`instead` is read while the database is away and no keys are known at all: what a replica
        knows may be older than what is known here.

        `may_be_open`: as long as there never was a key, none is asked for.
        """
        self._database = database
        self._instead = instead
        self._writer_url = writer_url
        self._may_be_open = may_be_open
        self._keys: dict[bytes, ApiKey] | None = None
        self._labels = KeyLabels()
        self._never_any = False
        self._used: dict[int, float] = {}
        self._read_at = -_READ_ONCE_IN_S
        self._as_of = self._read_at
        self._reading = asyncio.Lock()
        self._guesses = 0
        self._is_silent = False
        """Whether a request waited for the keys in vain, and they were not read since."""

    @property
    def is_open(self) -> bool:
        return self._may_be_open and self._never_any

    async def check(
        self, authorization: str | None, scope: Scope, deadline: float
    ) -> ApiKey | None:
        """The key of a request; None where none is needed.

        Raises: Unauthorized, InvalidKey, Forbidden, Unavailable.
        """
        key = self.known(authorization, scope)
        if key is not None or self.is_open:
            return key
        if self._keys is None:
            await self._read_by(deadline)
        elif _is_of_a_key(authorization):
            await self._guess(deadline)
        return self._checked_again(authorization, scope)

    def holder(self, authorization: str) -> ApiKey | None:
        """The key of a request, whatever its scopes, if this worker has it."""
        return self._find(authorization)

    def known(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        """The key if this worker has it, without a wait. Raises: Forbidden."""
        with span("key check"):
            key = self._find(authorization)
        if key is None:
            return None
        if not key.may(scope):
            key_checks("forbidden").inc()
            raise Forbidden(scope)
        key_checks("ok").inc()
        self._used[key.key_id] = time.time()
        return key

    async def keep(self) -> NoReturn:
        """Read the keys again and again, whatever happens: else revoked ones would work on."""
        while True:
            try:
                await self._read()
            except DatabaseError:
                pass
            except Exception as exc:
                log.error("keys cannot be read", extra={"failure": type(exc).__name__})
            await asyncio.sleep(_READ_EVERY_S)

    async def keep_telling(self) -> NoReturn:
        """Tell which keys were used; apart from reading, which must not wait for it."""
        while True:
            await asyncio.sleep(_TELL_EVERY_S)
            await self.tell_used()

    async def tell_used(self) -> None:
        """Write down when keys were used last; what cannot be written now is written later."""
        used, self._used = self._used, {}
        if used:
            try:
                await asyncio.to_thread(self._tell, used)
            except asyncio.CancelledError:
                self._used = used | self._used  # at the end it is told once more
                raise
            except Exception as exc:
                self._used = used | self._used
                log.warning("keys' last use is not told", extra={"failure": type(exc).__name__})

    def _tell(self, used: dict[int, float]) -> None:
        with connected_for(self._writer_url, "analytics-keys", _WITHIN_S) as conn:
            KeysRepo(conn).tell_used(used)

    def _checked_again(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        key = self.known(authorization, scope)
        if key is not None or self.is_open:
            return key
        key_checks("none" if authorization is None else "unknown").inc()
        raise Unauthorized if authorization is None else InvalidKey

    def _find(self, authorization: str | None) -> ApiKey | None:
        if authorization is None or self._keys is None:
            return None
        kind, _, secret = authorization.partition(" ")
        return self._keys.get(digest_of(secret.strip())) if kind.lower() == "bearer" else None

    async def _guess(self, deadline: float) -> None:
        """A key may be newer than what was read, so it waits for the next reading; but few do at a
        time, and none while the database is silent.

        Raises: Unavailable, when it cannot be told whether the key is one.
        """
        now = time.monotonic()
        if self._is_silent:
            raise Unavailable
        if self._guesses >= _MOST_GUESSES:
            if now - self._as_of > _TRUSTED_S:
                raise Unavailable
            return
        self._guesses += 1
        try:
            await self._read_by(min(deadline, now + _GUESS_WITHIN_S))
        finally:
            self._guesses -= 1

    async def _read_by(self, deadline: float) -> None:
        """Raises: Unavailable."""
        asked_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(deadline - asked_at):
                await self._read_soon(asked_at)
        if self._as_of < asked_at:
            self._is_silent = True
            raise Unavailable

    async def _read_soon(self, asked_at: float) -> None:
        """Not at once for each: guesses must not become a load."""
        async with self._reading:
            if self._read_at > asked_at:  # for another one who waited here
                return
            await asyncio.sleep(self._read_at + _READ_ONCE_IN_S - asked_at)
            with suppress(DatabaseError):
                await self._read()

    async def _read(self) -> None:
        self._read_at = began = time.monotonic()
        try:
            with reaching("postgresql", "keys"):
                known = await _known_to(self._database)
        except DatabaseError:
            if self._instead and self._keys is None:
                self._learn(await _known_to(self._instead))
            raise
        if began >= self._as_of:  # else another reading overtook this one
            self._learn(known)
            self._as_of = began

    def _learn(self, known: KnownKeys) -> None:
        self._is_silent = False
        self._keys = {key.digest: key for key in self._labelled(known.active)}
        self._never_any = not known.ever

    def _labelled(self, keys: list[ApiKey]) -> list[ApiKey]:
        """The keys with printable names, and the labels that their requests are counted under."""
        named = [key._replace(name=printable_name(key.name)) for key in keys]
        labels = self._labels.update(key.name for key in named)
        return [key._replace(label=labels.get(key.name, OTHER_KEYS)) for key in named]


def _is_of_a_key(authorization: str | None) -> bool:
    """Whether it has the form of one that may have been made since keys were read."""
    kind, _, secret = (authorization or "").partition(" ")
    return kind.lower() == "bearer" and bool(_GIVEN.fullmatch(secret.strip()))


async def _known_to(database: Database) -> KnownKeys:
    connection = get_connection(database, time.monotonic() + _WITHIN_S)
    return await connection.run(ApiKeysRepo(connection).get_known_keys)
