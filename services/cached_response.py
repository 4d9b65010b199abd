"""Pages: answers as they are sent, and how they are written down."""

import gzip
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from hashlib import blake2b
from typing import Any

import msgspec

from common.answers import Answer
from config.database import Connection
from repo.engine.watermark import Months
from utils.formats import MEDIA_TYPES, Format, as_csv, as_json, as_ndjson
from utils.time.zones import TZDATA_VERSION

_MIN_COMPRESSED_BYTES = 1_000  # bytes; below, headers weigh more
_GZIP_LEVEL = 5
_VERSION = 5  # of the form of pages and answers; a new one leaves the old pages to expire
_VOLATILE_FIELDS = ("computed_at", "complete_until", "source")


class CachedResponse(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it is sent."""

    key: str
    media_type: str
    headers: dict[str, str]
    body: bytes
    etag: str
    compute_s: float
    """How long it took to compute."""
    fresh_s: int
    """How long it will do."""

    def is_due(self, remaining_s: float) -> bool:
        """Whether to compute it anew already, `left_s` before its end.

        The more ask and the longer it takes, the earlier one of them is told so; see "Optimal
        Probabilistic Cache Stampede Prevention" (Vattani, Chierichetti, Lowenstein; VLDB 2015).
        """
        return remaining_s < -self.compute_s * math.log(1 - random.random())


@dataclass(frozen=True, slots=True)
class PreparedQuery:
    """A question in the form that its answer is to have, and how it is answered."""

    name: str
    base_key: str
    """Of the answer, whatever its edition and in whichever database."""
    months: Months | None
    """The months that the answer depends on; None where they move with time."""
    cache_version: str | None
    """Of these months, as far as this worker knows; None where late events are not watched."""
    erasure_version: str
    """The last one that this worker knows of: what it changed is kept under no edition."""
    form: Format
    compressed: bool
    answer: Callable[[Connection], Answer[Any]]
    identity: str = ""
    """Of the database that answers, as far as this worker knows."""

    @property
    def key(self) -> str:
        return self.key_for(self.cache_version)

    def key_for(self, cache_version: str | None) -> str:
        database = f"analytics:{_VERSION}.{TZDATA_VERSION}:{self.identity}"
        return f"{database}:{self.base_key}:{cache_version or self.erasure_version}"


def render(
    query: PreparedQuery, answer: Answer[Any], *, compute_s: float, fresh_s: int
) -> CachedResponse:
    """Large answers take a while: for threads.

    The page is kept for the edition that its answer was computed from, which may be newer than the
    one that it was looked for.
    """
    data = msgspec.Raw(as_json(answer.data))  # once, for the body and for its digest
    body = _body(answer, data, query.form)
    headers = _row_headers(answer)
    if query.compressed and len(body) >= _MIN_COMPRESSED_BYTES:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    etag = _etag(answer, data, query.form)
    key = query.key_for(answer.cache_version if query.cache_version else None)
    return CachedResponse(key, MEDIA_TYPES[query.form], headers, body, etag, compute_s, fresh_s)


def _body(answer: Answer[Any], data: msgspec.Raw, form: Format) -> bytes:
    if form == "json":
        return as_json({"data": data, "meta": answer.meta})
    row_type, rows = answer.table()
    return as_csv(row_type, rows) if form == "csv" else as_ndjson(rows)


def _row_headers(answer: Answer[Any]) -> dict[str, str]:
    """What CSV and NDJSON have no other place for."""
    previous = getattr(answer.data, "previous", None)
    values = {
        "X-Next-Cursor": getattr(answer.meta, "next_cursor", None),
        "X-Previous-Cursor": getattr(answer.meta, "previous_cursor", None),
        "X-Previous-Events": getattr(previous, "events", None),
        "X-Previous-Users": getattr(previous, "users", None),
    }
    return {header: str(value) for header, value in values.items() if value is not None}


def _etag(answer: Answer[Any], data: msgspec.Raw, form: Format) -> str:
    """Of all but what each computation has anew; weak, since those are in the body."""
    meta = {
        field.name: getattr(answer.meta, field.name)
        for field in fields(answer.meta)
        if field.name not in _VOLATILE_FIELDS
    }
    stable = as_json([form, data, meta])
    return f'W/"{blake2b(stable, digest_size=12).hexdigest()}"'
