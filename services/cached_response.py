"""Cached responses: how answers are rendered, and the keys that they are stored under."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Any

import msgspec

from common.questions.answer import Answer, Result
from repo.engine.watermark import Months
from repo.events import EventsRepo
from utils.formats import MEDIA_TYPES, Format, as_csv, as_json, as_ndjson
from utils.time.zones import TZDATA_VERSION

_MIN_COMPRESSED_BYTES = 1_000  # smaller bodies are not compressed: headers outweigh the gain
_GZIP_LEVEL = 5
# The version of the stored form. Increment it when responses or answers change: responses of older
# versions are no longer found, and expire.
_VERSION = 7


class CachedResponse(msgspec.Struct, frozen=True, array_like=True):
    """A rendered answer: the body and the headers to send, and what the cache needs."""

    key: str
    media_type: str
    headers: dict[str, str]
    body: bytes
    etag: str
    compute_s: float
    """Seconds that the computation took."""
    fresh_s: int
    """Seconds for which the response is fresh."""


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A question, the form of its response, the call that answers it, and its key in the cache."""

    name: str
    base_key: str
    """The part of the key that depends on the question and the form alone."""
    months: Months | None
    """The months that the answer depends on; None if they change with time."""
    cache_version: str | None
    """The cache version of these months, as last read; None if there is none."""
    erasure_version: str
    """The last erasure, as last read. It is part of keys without a cache version."""
    form: Format
    compressed: bool
    answer: Callable[[EventsRepo], Result[Any]]
    """Answers the question with a repo. A query outlives its request, so it must hold no repo."""
    identity: str = ""
    """The identity of the database, as last read."""
    epoch: object = None
    """The epoch of `CacheVersions` in which the versions and the identity were read."""
    key: str = field(init=False)
    """The key to look up."""

    def __post_init__(self) -> None:
        # `object`, since a frozen instance has no assignment.
        object.__setattr__(self, "key", self.key_for(self.cache_version))

    def key_for(self, cache_version: str | None) -> str:
        """The key of a response that was computed from this cache version."""
        # The version of the time zone data is included, since it changes where days begin.
        database = f"analytics:{_VERSION}.{TZDATA_VERSION}:{self.identity}"
        return f"{database}:{self.base_key}:{cache_version or self.erasure_version}"


def render(
    query: PreparedQuery, answer: Answer[Any], *, compute_s: float, fresh_s: int
) -> CachedResponse:
    """The response of an answer. Rendering a large answer takes long: call it in a thread.

    The key contains the cache version that the answer was computed from, which may be newer than
    the one in the key of the query.
    """
    data = msgspec.Raw(as_json(answer.data))  # encoded once, for the body and for the ETag
    body = _body(answer, data, query.form)
    headers = answer.headers()
    if query.compressed and len(body) >= _MIN_COMPRESSED_BYTES:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    etag = _etag(answer, data, query.form)
    key = query.key_for(answer.cache_version if query.cache_version else None)
    return CachedResponse(key, MEDIA_TYPES[query.form], headers, body, etag, compute_s, fresh_s)


def _body(answer: Answer[Any], data: msgspec.Raw, form: Format) -> bytes:
    if form == "json":
        return as_json({"data": data, "meta": answer.meta})
    columns, rows = answer.table()
    return as_csv(columns, rows) if form == "csv" else as_ndjson(rows)


def _etag(answer: Answer[Any], data: msgspec.Raw, form: Format) -> str:
    """An ETag of all but the fields that differ between computations, such as `computed_at`."""
    # Weak (RFC 9110, section 8.8.1), since the body does contain these fields.
    volatile = answer.meta.volatile_fields
    names = [each.name for each in fields(answer.meta) if each.name not in volatile]
    values = {name: getattr(answer.meta, name) for name in names}
    meta = {name: value for name, value in values.items() if value is not msgspec.UNSET}
    stable = as_json([form, data, meta])
    return f'W/"{blake2b(stable, digest_size=12).hexdigest()}"'
