"""Who asks: keys, known to each worker and checked without asking anybody."""

import asyncio
import hashlib
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from common.errors import Forbidden, InvalidKey, Unauthorized, Unavailable
from common.metrics import key_checks
from config.database import Database, DatabaseError, connect, get_connection
from repo.api_keys import ApiKey, ApiKeysRepo, KeysRepo, Scope
from utils.tracing import span

_PREFIX = "ask_"
_HINT = len(_PREFIX) + 4
_READ_EVERY_S = 2.0
_READ_ONCE_IN_S = 0.5
_TELL_EVERY_S = 15.0
_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Secret:
    """A new key: `text` is for its owner alone, the rest is kept."""

    text: str
    digest: bytes
    hint: str


def new_secret() -> Secret:
    text = _PREFIX + secrets.token_urlsafe(32)
    return Secret(text, digest_of(text), text[:_HINT])


def digest_of(text: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(text.encode()).digest()


class KeyRing:
    """The keys that work, read again and again.

    Looking a digest up in a dictionary tells nothing by its time: who does not know the secret
    cannot choose its digest.
    """

    def __init__(self, database: Database, writer_url: str, *, may_be_open: bool) -> None:
        """`may_be_open`: as long as there are no keys at all, none is asked for."""
        self._database = database
        self._writer_url = writer_url
        self._may_be_open = may_be_open
        self._keys: dict[bytes, ApiKey] | None = None
        self._used: dict[int, float] = {}
        self._read_at = -_READ_ONCE_IN_S
        self._reading = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._may_be_open and self._keys == {}

    async def check(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        """The key of a request; None where none is needed.

        Raises: Unauthorized, InvalidKey, Forbidden, Unavailable.
        """
        key = self.known(authorization, scope)
        if key is not None or self.is_open:
            return key
        if authorization is None and self._keys is not None:
            key_checks("none").inc()
            raise Unauthorized
        await self._read_soon()
        return self._checked_again(authorization, scope)

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
        """Read the keys and tell which were used, until cancelled."""
        told_at = time.monotonic()
        while True:
            with suppress(DatabaseError):
                await self._read()
            if time.monotonic() - told_at > _TELL_EVERY_S:
                told_at = time.monotonic()
                await self.tell_used()
            await asyncio.sleep(_READ_EVERY_S)

    async def tell_used(self) -> None:
        """Write down when keys were used last; what cannot be written now is written later."""
        used, self._used = self._used, {}
        if used:
            try:
                await asyncio.to_thread(self._tell, used)
            except DatabaseError:
                self._used = used | self._used

    def _tell(self, used: dict[int, float]) -> None:
        conn = connect(self._writer_url, "analytics-keys")
        try:
            KeysRepo(conn).tell_used(used)
        finally:
            conn.close()

    def _checked_again(self, authorization: str | None, scope: Scope) -> ApiKey | None:
        if self._keys is None:
            raise Unavailable
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

    async def _read_soon(self) -> None:
        """A key may be newer than what was read; but guesses must not become a load."""
        asked_at = time.monotonic()
        async with self._reading:
            if self._read_at > asked_at:  # for another one who waited here
                return
            await asyncio.sleep(self._read_at + _READ_ONCE_IN_S - asked_at)
            with suppress(DatabaseError):
                await self._read()

    async def _read(self) -> None:
        self._read_at = time.monotonic()
        connection = get_connection(self._database, self._read_at + _WITHIN_S)
        keys = await connection.run(ApiKeysRepo(connection).get_active_keys)
        self._keys = {key.digest: key for key in keys}
