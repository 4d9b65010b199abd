"""The body of a request: how it is taken in, and what is inside. Nothing of it is believed.

What is larger than allowed is given up as soon as that is known, so nobody can fill the memory.
"""

import asyncio
import sys
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple, Protocol, cast

from starlette.requests import ClientDisconnect

from common.errors import Busy, SlowBody, TooLarge, UnreadableBody, UnsupportedMedia
from services.hang_up import ClientGone

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MOST_BYTES = 8 * 2**20
MOST_INFLATED = 16 * 2**20
_MOST_HELD = 32 * 2**20  # of all requests at a time, in one worker
_MOST_OF_CALLER = 24 * 2**20  # of those of one caller
_MOST_PARTS = 100  # gzip and zstd may come as several files one after another
_WINDOW_LOG = 23  # what a client may want of our memory for zstd: 8 MB (RFC 9659)

_TYPES = {"application/json": "json", "application/x-ndjson": "ndjson"}
_CODINGS = ("gzip", "zstd", "identity")
_GZIP = 31  # zlib's number for it

Form = Literal["json", "ndjson"]
Coding = Literal["gzip", "zstd", "identity"]


class Sent(NamedTuple):
    """What the headers say of the body."""

    form: Form
    coding: Coding


def sent_as(headers: Mapping[str, str]) -> Sent:
    """Raises: UnsupportedMedia, TooLarge."""
    media_type, _, parameters = headers.get("content-type", "").lower().partition(";")
    charset = parameters.replace('"', "").strip().removeprefix("charset=")
    form = _TYPES.get(media_type.strip())
    if form is None or charset not in ("", "utf-8"):
        raise UnsupportedMedia("Content-Type", [*_TYPES], "Accept")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in _CODINGS:
        raise UnsupportedMedia("Content-Encoding", _CODINGS, "Accept-Encoding")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MOST_BYTES:
        raise _too_large()
    return Sent(cast(Form, form), cast(Coding, coding))


class Bodies:
    """Takes bodies in, and knows how much of them is held."""

    def __init__(self) -> None:
        self._held = 0
        self._of: Counter[str] = Counter()

    @asynccontextmanager
    async def received(
        self, chunks: AsyncIterator[bytes], deadline: float, caller: str = ""
    ) -> AsyncIterator[bytes]:
        """A whole body, which is held until the end of the block.

        One caller may not hold all that there is room for, unless it is `""`: anybody where no key
        is needed.

        Raises: TooLarge, SlowBody, Busy, ClientGone.
        """
        parts: list[bytes] = []
        try:
            await self._read(chunks, parts, deadline, caller)
            yield b"".join(parts)
        finally:
            self._hold(caller, -sum(map(len, parts)))

    async def _read(
        self, chunks: AsyncIterator[bytes], parts: list[bytes], deadline: float, caller: str
    ) -> None:
        size = 0
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                async for chunk in chunks:
                    parts.append(chunk)
                    size += len(chunk)
                    self._hold(caller, len(chunk))
                    if size > MOST_BYTES:
                        raise _too_large()
                    if self._is_full_for(caller):
                        raise Busy("Too much is sent at once; nothing was stored, try again.")
        except TimeoutError:
            raise SlowBody from None
        except ClientDisconnect:
            raise ClientGone from None

    def _hold(self, caller: str, size: int) -> None:
        self._held += size
        self._of[caller] += size
        if not self._of[caller]:
            del self._of[caller]

    def _is_full_for(self, caller: str) -> bool:
        most = _MOST_OF_CALLER if caller else _MOST_HELD
        return self._of[caller] > most or self._held > _MOST_HELD


class _Inflater(Protocol):
    """What zlib and zstd have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def inflated(body: bytes, coding: Coding) -> bytes:
    """What is inside. Takes a while: for threads. Raises: TooLarge, UnreadableBody."""
    if coding == "identity":
        return body
    try:
        return _inflated(body, _gzip if coding == "gzip" else _zstd)
    except (zlib.error, zstd.ZstdError, EOFError):
        raise UnreadableBody(f"must be {coding}, and whole") from None


def _inflated(body: bytes, inflater: Callable[[], _Inflater]) -> bytes:
    """Raises: TooLarge, EOFError where it is cut off, and what the inflater raises."""
    parts: list[bytes] = []
    room = MOST_INFLATED
    for _ in range(_MOST_PARTS):
        part = inflater()
        parts.append(part.decompress(body, room + 1))
        room -= len(parts[-1])
        if room < 0:
            raise _too_large()
        if not part.eof:
            raise EOFError
        body = part.unused_data
        if not body:
            return b"".join(parts)
    raise _too_large()


def _gzip() -> _Inflater:
    return zlib.decompressobj(_GZIP)


def _zstd() -> _Inflater:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


def _too_large() -> TooLarge:
    most, inflated = MOST_BYTES // 2**20, MOST_INFLATED // 2**20
    return TooLarge(f"must be at most {most} MB as it is sent, and {inflated} MB decompressed")
