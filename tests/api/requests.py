"""Requests of `POST /events`, as a platform sends them."""

import gzip
import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
from psycopg2.extensions import connection

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}


def ndjson(*events: dict[str, Any] | bytes) -> bytes:
    return b"\n".join(e if isinstance(e, bytes) else json.dumps(e).encode() for e in events)


def array(*events: dict[str, Any] | bytes) -> bytes:
    return b"[" + ndjson(*events).replace(b"\n", b",") + b"]"


def send(
    service: httpx.Client,
    body: Any,
    media_type: str = "application/x-ndjson",
    coding: str | None = None,
    **headers: str,
) -> httpx.Response:
    """Send a body unchanged, which must match the coding."""
    all_headers = {"Content-Type": media_type, **headers}
    if coding:
        all_headers["Content-Encoding"] = coding
    return service.post("/events", content=body, headers=all_headers)


def stored_rows(conn: connection, columns: str = "event_id") -> list[Any]:
    with conn.cursor() as cur:
        cur.execute(f"select {columns} from events order by event_id")
        return [row[0] if len(row) == 1 else row for row in cur]
