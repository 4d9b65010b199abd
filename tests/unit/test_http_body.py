"""Bodies of requests: their headers, their limits, and how they are decompressed."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator

import pytest

from common.errors import AnalyticsError, SlowBody, TooLarge, UnreadableBody, UnsupportedMedia
from services.ingest.body_formats import EVENTS
from services.ingest.http_body import BodyReader, inflate, parse_body_headers, split_batch
from tests.wait_until import adjusted_for_load


async def chunks(*parts: bytes, delay_s: float = 0) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(delay_s)
        yield part


def received(body: AsyncIterator[bytes], timeout_s: float = 60) -> bytes:
    async def receive() -> bytes:
        async with BodyReader().receive(body, time.monotonic() + timeout_s) as whole:
            return whole

    return asyncio.run(receive())


@pytest.mark.parametrize(
    ("headers", "parsed"),
    [
        ({"content-type": "application/json"}, ("json", "identity")),
        (
            {"content-type": 'Application/X-NDJSON; charset="UTF-8"', "content-encoding": "GZip"},
            ("ndjson", "gzip"),
        ),
        ({"content-type": "application/json;charset=utf8"}, ("json", "identity")),
        ({"content-type": "application/json ; v=1; charset=utf-8;"}, ("json", "identity")),
        ({"content-type": 'application/x-ndjson;profile="a;b,c"'}, ("ndjson", "identity")),
    ],
)
def test_headers_name_form_and_compression(
    headers: dict[str, str], parsed: tuple[str, str]
) -> None:
    assert parse_body_headers(headers, EVENTS.forms) == parsed


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, UnsupportedMedia),
        ({"content-type": "text/csv"}, UnsupportedMedia),
        ({"content-type": "application/json; charset=latin-1"}, UnsupportedMedia),
        ({"content-type": 'application/json; v=1; charset="utf-16"'}, UnsupportedMedia),
        ({"content-type": "application/json, application/json"}, UnsupportedMedia),
        ({"content-type": "application/json; charset=utf-8, text/csv"}, UnsupportedMedia),
        ({"content-type": "application/json; charset"}, UnsupportedMedia),
        ({"content-type": "application/json", "content-encoding": "br"}, UnsupportedMedia),
        ({"content-type": "application/json", "content-length": "8388609"}, TooLarge),
    ],
)
def test_other_headers_are_refused(headers: dict[str, str], error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_body_headers(headers, EVENTS.forms)


@pytest.mark.parametrize("piece", ["; ", ";", " ", "; a=b ", '; a="', "; a"])
def test_a_long_media_type_takes_no_time(piece: str) -> None:
    """A page may send it with a key that is public."""
    headers = {"content-type": "application/json" + piece * 10_000 + ","}
    began = time.process_time()
    with pytest.raises(UnsupportedMedia):
        parse_body_headers(headers, EVENTS.forms)
    assert time.process_time() - began < adjusted_for_load(0.5)


def test_a_body_is_received_within_its_limits() -> None:
    assert received(chunks(b"ab", b"c")) == b"abc"
    with pytest.raises(TooLarge):
        received(chunks(bytes(2**23), b"x"))
    with pytest.raises(SlowBody):
        received(chunks(b"a", delay_s=60), timeout_s=0.01)


def test_gzip_members_are_concatenated() -> None:
    assert inflate(gzip.compress(b"ab") + gzip.compress(b"c"), "gzip") == b"abc"
    assert inflate(b"abc", "identity") == b"abc"


def test_damaged_and_too_large_bodies_are_refused() -> None:
    with pytest.raises(UnreadableBody):
        inflate(gzip.compress(b"abc")[:-1], "gzip")
    with pytest.raises(UnreadableBody):
        inflate(b"abc", "zstd")
    with pytest.raises(TooLarge):
        inflate(gzip.compress(bytes(2**24 + 1)), "gzip")


def test_a_batch_has_few_values_beside_its_events() -> None:
    """Each member would take ten times its size in memory."""
    events = b"[" + b",".join([b"{}"] * 10_000) + b"]"
    others = b",".join(b'"%d":1' % n for n in range(10_000))
    assert len(split_batch(b'{%s,"batch":%s}' % (others, events))) == 10_000
    refusals: list[tuple[type[AnalyticsError], bytes, str]] = [
        (
            TooLarge,
            b'{%s,"x":1,"batch":%s}' % (others, events),
            "must hold at most 10,000 values beside `batch`",
        ),
        (UnreadableBody, b'{"batch":[],"batch":%s}' % events, "must not have a key twice"),
    ]
    for error, text, message in refusals:
        with pytest.raises(error) as refused:
            split_batch(text)
        assert [fault.message for fault in refused.value.faults] == [message]
