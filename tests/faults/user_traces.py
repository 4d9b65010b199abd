"""Searches every place where data of a user may remain."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import suppress

import httpx
import psycopg2
import redis

from tests.faults.conftest import DedicatedServers
from tests.faults.service_process import SCRAPER, Service
from tests.otel_collector import Collector

_RELATIONS = """
select format('%I.%I', nspname, relname)
from   pg_class c
join   pg_namespace n on n.oid = relnamespace
where  relkind in ('r', 'v', 'm')
and    nspname in (current_schema(), 'pg_catalog')
and    relname not like '%numa%'  -- of memory, and not to be read everywhere
"""
_GZIP = b"\x1f\x8b\x08"


class TraceSearch:
    """Searches the servers, files and answers of a service for texts."""

    def __init__(
        self, own: DedicatedServers, running: Service, url: str, texts: tuple[str, ...]
    ) -> None:
        self._own = own
        self._running = running
        self._url = url
        self._texts = [text.encode() for text in texts]

    def locations(self, collector: Collector) -> set[str]:
        names = {*self._relations(), *self._redis(), *self._files()}
        pages = {name: self._page(name) for name in ("metrics", "readyz", "openapi.json")}
        spans = str(collector.requests).encode()
        return names | {
            name for name, text in {**pages, "spans": spans}.items() if self._holds_text(text)
        }

    def _holds_text(self, content: bytes) -> bool:
        return any(text in content for text in self._texts)

    def _relations(self) -> Iterator[str]:
        """The tables of the service and all system views, as a superuser sees them."""
        with psycopg2.connect(self._url) as conn, conn.cursor() as cur:
            cur.execute(_RELATIONS)
            for (name,) in cur.fetchall():
                cur.execute(f"select coalesce(string_agg(r::text, ' '), '') from {name} r")
                (text,) = cur.fetchone() or ("",)
                if self._holds_text(text.encode()):
                    yield name.removeprefix("pg_catalog.")
        conn.close()

    def _redis(self) -> Iterator[str]:
        with redis.Redis.from_url(self._own.endpoints.redis_url) as store:
            for key in store.scan_iter(count=1000):
                if self._holds_text(key) or self._holds_text(_value(store, key)):
                    yield f"redis {key.decode().split(':')[3]}"

    def _files(self) -> Iterator[str]:
        """Logs and other files of the directory, except for the data files of PostgreSQL."""
        others = [path for path in self._own.folder.rglob("*") if "postgres" not in path.parts]
        for path in (self._running.log, *others):
            if path.is_file() and self._holds_text(path.read_bytes()):
                yield path.name

    def _page(self, name: str) -> bytes:
        return httpx.get(f"{self._running.base}/{name}", headers=SCRAPER, timeout=30).content


def _value(store: "redis.Redis", key: bytes) -> bytes:
    """The value of a key, followed by its decompressed parts."""
    with suppress(redis.ResponseError):
        raw: bytes = store.get(key) or b""  # type: ignore[assignment]
        return raw + b"".join(_inflated(raw, at) for at in _gzip_offsets(raw))
    return str(store.zrange(key, 0, -1)).encode()


def _gzip_offsets(raw: bytes) -> Iterator[int]:
    at = raw.find(_GZIP)
    while at >= 0:
        yield at
        at = raw.find(_GZIP, at + 1)


def _inflated(raw: bytes, at: int) -> bytes:
    with suppress(zlib.error, gzip.BadGzipFile):
        return zlib.decompressobj(wbits=31).decompress(raw[at:])
    return b""
