"""Request bodies: receiving, decompressing and splitting them, within limits of time and memory.

A body that exceeds a limit is rejected as soon as the limit is reached, whatever its headers say.
"""

import asyncio
import io
import re
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple, Protocol, cast

import msgspec
from starlette.requests import ClientDisconnect

from common.errors import Busy, SlowBody, TooLarge, UnreadableBody, UnsupportedMedia
from services.disconnect import ClientDisconnected
from services.ingest.lone_surrogates import replace_lone_surrogates

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_BODY_BYTES = 8 * 2**20
MAX_INFLATED_BYTES = 16 * 2**20
MAX_EVENTS = 10_000
_MAX_BUFFERED_BYTES = 32 * 2**20  # of all concurrent requests of a worker process
_MAX_CALLER_BYTES = 24 * 2**20  # of the concurrent requests of one caller
_MAX_KEYLESS_BYTES = 2**19  # of a body with a key in it, which is received before the key is known
_MAX_ALL_KEYLESS_BYTES = 8 * 2**20  # of all concurrent requests with such bodies
_MAX_PARTS = 100  # gzip members or zstd frames, which may be concatenated
_WINDOW_LOG = 23  # zstd window of at most 8 MB (RFC 9659), which bounds the memory of a decoder

# More commas may be an array of too many elements, which are counted first without keeping them.
_MAX_COMMAS = 500_000
_MAX_OTHER_COMMAS = 10_000  # of a batch, outside of its array: each may be one more object
_BOM = b"\xef\xbb\xbf"

# Linear time for any text: no two parts can match the same spaces, and none is given back.
_MEDIA_TYPE = re.compile(r'([^\s;,"]++)\s*+(?:;\s*+(?:[^\s;,"=]++=(?:"[^"]*+"|[^\s;,"]*+)\s*+)?)*+')
_CHARSET = re.compile(r';\s*charset="?([^\s;"]*)')
_UTF_8 = ("utf-8", "utf8", "us-ascii")
_CODINGS = ("gzip", "zstd", "identity")
_GZIP = 31  # `wbits` of zlib for a gzip header and the largest window

_BUFFER_FULL = "Too many requests are sending events; nothing was stored, try again shortly."

_KEYLESS = "(keyless)"  # no other caller has this name
_TOO_LARGE_WITHOUT_KEY = (
    f"must be at most {_MAX_KEYLESS_BYTES // 1024} kB with the key in it; more with the key in "
    "`Authorization: Basic`"
)

Form = Literal["json", "ndjson"]
Coding = Literal["gzip", "zstd", "identity"]


class BodyHeaders(NamedTuple):
    """The format of a body and its compression, from the headers."""

    form: Form
    coding: Coding


def parse_body_headers(headers: Mapping[str, str], forms: Mapping[str, Form]) -> BodyHeaders:
    """The format and the compression of a body; `forms` are the formats by media type.

    Raises: UnsupportedMedia, TooLarge.
    """
    form = forms.get(media_type_of(headers))
    if form is None:
        raise UnsupportedMedia("Content-Type", [*forms], "Accept")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in _CODINGS:
        raise UnsupportedMedia("Content-Encoding", _CODINGS, "Accept-Encoding")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) > MAX_BODY_BYTES:
        raise _too_large()
    return BodyHeaders(form, cast(Coding, coding))


def media_type_of(headers: Mapping[str, str]) -> str:
    """The media type of a body in lower case, without its parameters.

    Empty if there is none, if it is malformed, or if its charset is not UTF-8.
    """
    value = headers.get("content-type", "").strip().lower()
    media_type = _MEDIA_TYPE.fullmatch(value)
    are_utf_8 = all(charset in _UTF_8 for charset in _CHARSET.findall(value))
    return media_type[1] if media_type and are_utf_8 else ""


class BodyReader:
    """Receives bodies, and limits the bytes of all bodies that are in memory."""

    def __init__(self) -> None:
        self._buffered = 0
        self._by_caller: Counter[str] = Counter()

    @asynccontextmanager
    async def receive_keyless(
        self, chunks: AsyncIterator[bytes], deadline: float
    ) -> AsyncIterator[bytes]:
        """The complete body of a request without a key in its headers.

        Raises: TooLarge, SlowBody, Busy, ClientDisconnected.
        """
        async with self.receive(chunks, deadline, _KEYLESS) as body:
            yield body

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncIterator[bytes], deadline: float, caller: str = ""
    ) -> AsyncIterator[bytes]:
        """The complete body, which counts as buffered until the end of the block.

        One caller may not use the whole buffer; the caller "", where no key is required, may.

        Raises: TooLarge, SlowBody, Busy, ClientDisconnected.
        """
        parts: list[bytes] = []
        try:
            await self._read(chunks, parts, deadline, caller)
            yield b"".join(parts)
        finally:
            self._account(caller, -sum(map(len, parts)))

    async def _read(
        self, chunks: AsyncIterator[bytes], parts: list[bytes], deadline: float, caller: str
    ) -> None:
        size = 0
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                async for chunk in chunks:
                    parts.append(chunk)
                    size += len(chunk)
                    self._account(caller, len(chunk))
                    if size > MAX_BODY_BYTES:
                        raise _too_large()
                    if caller == _KEYLESS and size > _MAX_KEYLESS_BYTES:
                        raise TooLarge(_TOO_LARGE_WITHOUT_KEY)
                    if self._is_full_for(caller):
                        raise Busy(_BUFFER_FULL)
        except TimeoutError:
            raise SlowBody from None
        except ClientDisconnect:
            raise ClientDisconnected from None

    def _account(self, caller: str, size: int) -> None:
        self._buffered += size
        self._by_caller[caller] += size
        if not self._by_caller[caller]:
            del self._by_caller[caller]

    def _is_full_for(self, caller: str) -> bool:
        limits = {"": _MAX_BUFFERED_BYTES, _KEYLESS: _MAX_ALL_KEYLESS_BYTES}
        limit = limits.get(caller, _MAX_CALLER_BYTES)
        return self._by_caller[caller] > limit or self._buffered > _MAX_BUFFERED_BYTES


class _Inflater(Protocol):
    """The common interface of the decompressors of zlib and zstd."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def inflate(body: bytes, coding: Coding) -> bytes:
    """The decompressed body. This may take long: call it in a thread.

    Raises: TooLarge, UnreadableBody.
    """
    if coding == "identity":
        return body
    try:
        return _inflate(body, _gzip if coding == "gzip" else _zstd)
    except (zlib.error, zstd.ZstdError, EOFError):
        raise UnreadableBody(f"must be complete {coding} data") from None


def _inflate(body: bytes, inflater: Callable[[], _Inflater]) -> bytes:
    """The concatenated parts of a body.

    Raises: TooLarge, EOFError if the body is incomplete, and the errors of the decompressor.
    """
    parts: list[bytes] = []
    remaining = MAX_INFLATED_BYTES
    for _ in range(_MAX_PARTS):
        part = inflater()
        # One byte more than allowed shows that the limit is exceeded, without inflating the rest.
        parts.append(part.decompress(body, remaining + 1))
        remaining -= len(parts[-1])
        if remaining < 0:
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
    max_mb, max_inflated_mb = MAX_BODY_BYTES // 2**20, MAX_INFLATED_BYTES // 2**20
    return TooLarge(f"must be at most {max_mb} MB as sent, and {max_inflated_mb} MB decompressed")


class _Counted(msgspec.Struct, gc=False):
    """An element of an array that is only counted; decoding stops after MAX_EVENTS of them."""

    def __post_init__(self) -> None:
        _counter.count += 1
        if _counter.count > MAX_EVENTS:
            raise ValueError


class _WithKey(msgspec.Struct, rename="camel", gc=False):
    """A body with a key in it; the decoder skips all other members."""

    write_key: str | None = None


class _Batch(msgspec.Struct, gc=False):
    """The member of a batch that is kept; the decoder skips all others."""

    batch: msgspec.Raw


_counter = threading.local()  # msgspec passes no context to `__post_init__`
_count = msgspec.json.Decoder(list[_Counted]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_batch = msgspec.json.Decoder(_Batch).decode
_with_key = msgspec.json.Decoder(_WithKey).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def write_key_in(body: bytes) -> str | None:
    """The member `writeKey` of an object; None if there is none."""
    try:
        return _with_key(body.removeprefix(_BOM)).write_key
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def split_events(text: bytes, form: Form) -> list[bytes]:
    """The JSON text of each event of a decompressed body. This may take long: call it in a thread.

    Raises: UnreadableBody, TooLarge.
    """
    text = text.removeprefix(_BOM)
    return list(_lines(text)) if form == "ndjson" else _split_by(_split_json, text)


def split_batch(text: bytes) -> list[bytes]:
    """The JSON text of each element of the array `batch` of an object.

    This may take long: call it in a thread. Raises: UnreadableBody, TooLarge.
    """
    return _split_by(_split_members, text.removeprefix(_BOM))


def _split_by(split: Callable[[bytes], list[bytes]], text: bytes) -> list[bytes]:
    """Raises: UnreadableBody, TooLarge."""
    try:
        return split(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _split_with_lone_surrogates(split, text)


def _split_json(text: bytes) -> list[bytes]:
    """Raises: UnreadableBody, TooLarge, and errors of the decoder."""
    if text.lstrip(b" \t\r\n").startswith(b"["):
        return _elements(text)
    _skip(text)
    return [text]


def _split_members(text: bytes) -> list[bytes]:
    """Raises: UnreadableBody, TooLarge, and errors of the decoder."""
    try:
        batch = bytes(_batch(text).batch)
    except msgspec.ValidationError:
        batch = b""
    if not batch.startswith(b"["):
        raise UnreadableBody("must be an object with an array `batch`")
    if text.count(b",") - batch.count(b",") > _MAX_OTHER_COMMAS:
        raise TooLarge(f"must hold at most {_MAX_OTHER_COMMAS:,} values beside `batch`")
    members = _members(text)
    # Decoding drops a repeated key, and with it the colon after it.
    colons = len(members) + sum(key.count(":") for key in members)
    if colons + sum(bytes(raw).count(b":") for raw in members.values()) != text.count(b":"):
        raise UnreadableBody("must not have a key twice")
    return _elements(batch)


def _split_with_lone_surrogates(split: Callable[[bytes], list[bytes]], text: bytes) -> list[bytes]:
    """The events of a text that the decoder refuses because of lone surrogates, which are found
    again when each event is validated.

    Raises: UnreadableBody, TooLarge.
    """
    replaced = replace_lone_surrogates(text)
    try:
        if replaced is None:
            raise msgspec.DecodeError
        pieces = split(replaced)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableBody("must be valid JSON in UTF-8") from None
    return list(_originals(text, replaced, pieces))


def _originals(text: bytes, replaced: bytes, pieces: list[bytes]) -> Iterator[bytes]:
    """The parts of `text` at the positions of `pieces` in `replaced`, which is as long."""
    end = 0
    for piece in pieces:
        start = replaced.index(piece, end)
        end = start + len(piece)
        yield text[start:end]


def _lines(text: bytes) -> Iterator[bytes]:
    """The lines that are not blank. Raises: TooLarge."""
    if text.count(b"\n") > 2 * MAX_EVENTS:
        raise _too_many()
    count = 0
    for line in io.BytesIO(text):
        if not line.isspace():
            count += 1
            if count > MAX_EVENTS:
                raise _too_many()
            yield line


def _elements(text: bytes) -> list[bytes]:
    """The elements of an array. Raises: UnreadableBody, TooLarge, and errors of the decoder."""
    if text.count(b",") > _MAX_COMMAS:
        _count_elements(text)
    elements = _split(text)
    if len(elements) > MAX_EVENTS:
        raise _too_many()
    return list(map(bytes, elements))


def _count_elements(text: bytes) -> None:
    """Check the number of elements without keeping them.

    Raises: UnreadableBody, TooLarge, and errors of the decoder.
    """
    _counter.count = 0
    try:
        _count(text)
    except msgspec.ValidationError:
        if _counter.count > MAX_EVENTS:
            raise _too_many() from None
        raise UnreadableBody("must be an array of JSON objects") from None


def _too_many() -> TooLarge:
    return TooLarge(f"must hold at most {MAX_EVENTS:,} events")
