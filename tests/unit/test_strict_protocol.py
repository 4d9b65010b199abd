"""Requests whose host or length a proxy may read differently."""

import pytest

from routes.strict_protocol import framing_fault, without_upgrade

HOST = (b"host", b"example.com:8000")


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ([HOST], "1.1"),
        ([(b"host", b"[::1]:80")], "1.1"),
        ([(b"host", b"")], "1.1"),
        ([], "1.0"),
        ([HOST, (b"transfer-encoding", b"Chunked")], "1.1"),
    ],
)
def test_unambiguous_requests(headers: list[tuple[bytes, bytes]], version: str) -> None:
    assert framing_fault(headers, version) is None


@pytest.mark.parametrize(
    ("headers", "version", "fault"),
    [
        ([], "1.1", "`Host` must be sent once."),
        ([HOST, HOST], "1.1", "`Host` must be sent once."),
        ([(b"host", b"a b")], "1.1", "`Host` must be a name or an address, and may have a port."),
        ([(b"host", b"a/b")], "1.1", "`Host` must be a name or an address, and may have a port."),
        (
            [HOST, (b"transfer-encoding", b"gzip, chunked")],
            "1.1",
            "`Transfer-Encoding` must be `chunked` alone, in HTTP/1.1.",
        ),
        (
            [(b"transfer-encoding", b"chunked")],
            "1.0",
            "`Transfer-Encoding` must be `chunked` alone, in HTTP/1.1.",
        ),
    ],
)
def test_ambiguous_requests(headers: list[tuple[bytes, bytes]], version: str, fault: str) -> None:
    assert framing_fault(headers, version) == fault


def test_the_head_is_repeated_without_upgrade() -> None:
    headers = [HOST, (b"upgrade", b"h2c"), (b"content-length", b"2")]
    assert without_upgrade(b"POST", b"/events?a=1", "1.1", headers) == (
        b"POST /events?a=1 HTTP/1.1\r\nhost: example.com:8000\r\ncontent-length: 2\r\n\r\n"
    )
