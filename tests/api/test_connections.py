"""What stands before a request's route: heads, pipelines and trailers, within their limits."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from tests.live_server import scrape, value

HOST = b"Host: 127.0.0.1\r\n"
COMPLETE = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
LIMIT = 64 * 1024


@contextmanager
def connected(service: httpx.Client) -> Iterator[socket.socket]:
    with socket.create_connection((service.base_url.host, service.base_url.port or 0)) as opened:
        opened.settimeout(20)
        yield opened


def received(opened: socket.socket) -> bytes:
    """All that comes until the other side is done."""
    parts = []
    with suppress(ConnectionResetError):
        while part := opened.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def response_text(service: httpx.Client, *parts: bytes) -> bytes:
    """What comes back until the end of the connection."""
    with connected(service) as opened:
        for part in parts:
            with suppress(BrokenPipeError, ConnectionResetError):
                opened.sendall(part)
        return received(opened)


def problem(answer: bytes) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body of an answer, which is a problem."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert headers["x-content-type-options"] == "nosniff"
    assert int(headers["content-length"]) == len(body)
    content = json.loads(body)
    assert content["request_id"] == headers["x-request-id"]
    return int(status.split()[1]), headers, content


def head_of(size: int) -> bytes:
    """A whole head of so many bytes, by how they are counted: the target, names and values."""
    target = b"/healthz"
    names = [b"host", *(b"x-%02d" % n for n in range(90))]
    room = size - len(target) - sum(len(name) + 4 for name in names) - len(b"127.0.0.1")
    each, more = divmod(room, 90)
    values = [b"127.0.0.1", *(b"v" * (each + (more if n == 0 else 0)) for n in range(90))]
    lines = [name + b": " + text + b"\r\n" for name, text in zip(names, values, strict=True)]
    return b"GET " + target + b" HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"


def test_malformed_requests_get_a_problem_document(shared_service: httpx.Client) -> None:
    status, _, content = problem(response_text(shared_service, b"hello\r\n\r\n"))
    assert status == 400
    assert content | {"request_id": ""} == {
        "type": "urn:analytics-service:problem:malformed-request",
        "title": "Malformed request",
        "status": 400,
        "detail": "The request is not HTTP/1.1 as RFC 9112 defines it.",
        "request_id": "",
    }


def test_it_is_counted(shared_service: httpx.Client) -> None:
    series = 'http_requests_total{method="other",route="(none)",status="400"}'
    before = value(scrape(shared_service), series)
    response_text(shared_service, b"hello\r\n\r\n")
    assert value(scrape(shared_service), series) == before + 1


def test_the_largest_head_is_answered(shared_service: httpx.Client) -> None:
    with connected(shared_service) as opened:
        opened.sendall(head_of(LIMIT))
        assert opened.recv(100).startswith(b"HTTP/1.1 200")


def test_a_larger_one_is_refused(shared_service: httpx.Client) -> None:
    status, _, content = problem(response_text(shared_service, head_of(LIMIT + 1)))
    assert status == 431
    assert content["type"] == "urn:analytics-service:problem:head-too-large"


@pytest.mark.parametrize(
    "endless",
    [
        b"GET /healthz?" + b"x" * 2**17,
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 2**17,
        b"GET /healthz HTTP/1.1\r\n" + b"y" * 2**17,
        b"\r\n" * 2**16,
    ],
    ids=["target", "value", "name", "nothing"],
)
def test_a_head_without_end_is_refused_before_its_end(
    shared_service: httpx.Client, endless: bytes
) -> None:
    status, _, _ = problem(response_text(shared_service, endless))
    assert status == 431


def test_a_hundred_headers_are_allowed(shared_service: httpx.Client) -> None:
    lines = [b"x-%d: y\r\n" % n for n in range(99)]
    with connected(shared_service) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n")
        assert opened.recv(100).startswith(b"HTTP/1.1 200")
    lines.append(b"x-99: y\r\n")
    head = b"GET /healthz HTTP/1.1\r\n" + HOST + b"".join(lines) + b"\r\n"
    assert problem(response_text(shared_service, head))[0] == 431


CHUNKED = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "endless",
    [b"0\r\n" + b"x: " + b"y" * 2**20, b"0\r\n" + b"x: y\r\n" * 2**18, b"1;" + b"x" * 2**20],
    ids=["trailer", "trailers", "extension"],
)
def test_chunk_framing_is_limited(shared_service: httpx.Client, endless: bytes) -> None:
    """The answer came long before; the connection ends without another one."""
    answer = response_text(shared_service, CHUNKED, endless)
    assert answer.count(b"HTTP/1.1 ") in (1, 2)
    assert answer.count(b"HTTP/1.1 200") <= 1


def test_a_trailer_is_no_header(service: httpx.Client) -> None:
    """A key that comes after the body lets nobody in, and changes nothing that was checked."""
    key = service.headers["Authorization"].encode()
    events = b"POST /events HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    events += b"Transfer-Encoding: chunked\r\n\r\n"
    body = b'{"event_name":"x"}'
    framed = b"%x\r\n%s\r\n0\r\nAuthorization: %s\r\n\r\n" % (len(body), body, key)
    with connected(service) as opened:
        opened.sendall(events + framed)
        assert opened.recv(100).startswith(b"HTTP/1.1 401")


def test_pipelined_requests_are_answered_in_their_order(shared_service: httpx.Client) -> None:
    last = b"GET /nothing HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = response_text(shared_service, COMPLETE * 63 + last)
    assert answer.count(b"HTTP/1.1 200") == 63
    assert answer.count(b"HTTP/1.1 404") == 1
    assert answer.rindex(b"HTTP/1.1 404") > answer.rindex(b"HTTP/1.1 200")


def test_of_too_many_the_first_are_answered_and_the_last_says_so(
    shared_service: httpx.Client,
) -> None:
    answer = response_text(shared_service, COMPLETE * 5000)
    responses = answer.count(b"HTTP/1.1 200")
    assert 64 <= responses <= 66
    assert answer.count(b"HTTP/1.1 ") == responses
    assert answer.count(b"connection: close") == 1


@pytest.mark.parametrize("target", ["/analytics/top-events?event=é", "/é"])
def test_raw_utf_8_in_a_url_is_a_problem_that_says_how_to_write_it(
    shared_service: httpx.Client, target: str
) -> None:
    request = f"GET {target} HTTP/1.1\r\n".encode() + HOST + b"\r\n"
    status, _, body = problem(response_text(shared_service, request))
    assert (status, body["type"]) == (400, "urn:analytics-service:problem:malformed-request")
    assert body["detail"] == (
        "The URL has characters that must be percent-encoded as UTF-8: `é` is written `%C3%A9`, "
        "and a space `%20`."
    )


def test_a_request_before_malformed_data_is_answered(shared_service: httpx.Client) -> None:
    answer = response_text(shared_service, COMPLETE + b"hello\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 1


def test_a_body_that_breaks_off_is_a_problem(service: httpx.Client) -> None:
    key = service.headers["Authorization"].encode()
    events = b"POST /events HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
    events += b"Authorization: " + key + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connected(service) as opened:
        opened.sendall(events + b"5\r\n[{}]\n\r\n")
        opened.sendall(b"nonsense\r\n")
        assert problem(received(opened))[0] == 400
    assert service.get("/healthz").status_code == 200


EVENT = b'{"event_name":"upgraded"}'
PLAIN = b"Content-Length: %d\r\n\r\n%s" % (len(EVENT), EVENT)
IN_CHUNKS = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(EVENT), EVENT)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"


def sent_events(service: httpx.Client, *lines: bytes) -> bytes:
    """The head of a request that sends events, up to the line that frames its body."""
    key = b"Authorization: " + service.headers["Authorization"].encode() + b"\r\n"
    return b"POST /events HTTP/1.1\r\n" + HOST + key + b"".join(lines)


@pytest.mark.parametrize("media_type", [b"application/json", b"application/x-ndjson"])
@pytest.mark.parametrize("framed", [PLAIN, IN_CHUNKS], ids=["length", "chunked"])
def test_events_that_are_sent_with_an_upgrade_are_stored(
    service: httpx.Client, media_type: bytes, framed: bytes
) -> None:
    """As the HTTP client of Java sends its first request; the connection is kept, as it expects."""
    content = b"Content-Type: " + media_type + b"\r\n"
    request = sent_events(service, H2C, content) + framed
    last = sent_events(service, content, b"Connection: close\r\n") + framed
    with connected(service) as opened:
        for part in (request[:-30], request[-30:] + request, request + last):
            opened.sendall(part)
            time.sleep(0.1)
        answer = received(opened)
    assert answer.count(b"HTTP/1.1 200") == 4
    assert answer.count(b'"accepted":1') == 4


def test_the_limits_of_heads_hold_for_upgrades(shared_service: httpx.Client) -> None:
    lines = [b"x-%d: y\r\n" % n for n in range(97)]
    head = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
    with connected(shared_service) as opened:
        opened.sendall(head + b"".join(lines) + b"\r\n")
        assert opened.recv(100).startswith(b"HTTP/1.1 200")
    larger = head + b"".join(lines) + b"x-97: y\r\n\r\n"
    assert problem(response_text(shared_service, larger))[0] == 431
    assert response_text(shared_service, (head + b"\r\n") * 5000).count(b"HTTP/1.1 200") in (
        64,
        65,
        66,
    )


HOST_ONCE = "`Host` must be sent once."
HOST_IS = "`Host` must be a name or an address, and may have a port."
CODING_IS = "`Transfer-Encoding` must be `chunked` alone, in HTTP/1.1."


@pytest.mark.parametrize(
    ("version", "lines", "detail"),
    [
        (b"1.1", b"", HOST_ONCE),
        (b"1.1", HOST * 2, HOST_ONCE),
        (b"1.0", HOST * 2, HOST_ONCE),
        (b"1.1", b"Host: a/b\r\n", HOST_IS),
        (b"1.1", b"Host: a, b\r\n", HOST_IS),
        (b"1.1", b"Host: u@a\r\n", HOST_IS),
        (b"1.1", b"Host: a:b\r\n", HOST_IS),
        (b"1.1", HOST + b"Transfer-Encoding: gzip, chunked\r\n", CODING_IS),
        (b"1.1", HOST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", CODING_IS),
        (b"1.1", HOST + b"Transfer-Encoding: gzip\r\n", CODING_IS),
        (b"1.1", HOST + b"Transfer-Encoding: chunked;q=1\r\n", CODING_IS),
        (b"1.0", HOST + b"Transfer-Encoding: chunked\r\n", CODING_IS),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(
    shared_service: httpx.Client, version: bytes, lines: bytes, detail: str
) -> None:
    request = b"POST /events HTTP/" + version + b"\r\n" + lines + b"\r\n0\r\n\r\n"
    status, _, content = problem(response_text(shared_service, request))
    assert (status, content["detail"]) == (400, detail)


@pytest.mark.parametrize(
    ("version", "lines"),
    [
        (b"1.0", b""),
        (b"1.1", b"Host:\r\n"),
        (b"1.1", b"Host: xn--bcher-kva.example:8000\r\n"),
        (b"1.1", b"Host: my_service\r\n"),
        (b"1.1", b"Host: localhost:8000 \t\r\n"),
        (b"1.1", b"Host: [::1]:8000\r\n"),
        (b"1.1", HOST + b"Transfer-Encoding: Chunked\r\n"),
    ],
)
def test_what_is_read_in_one_way_is_answered(
    shared_service: httpx.Client, version: bytes, lines: bytes
) -> None:
    request = b"GET /healthz HTTP/" + version + b"\r\n" + lines + b"Connection: close\r\n\r\n"
    with connected(shared_service) as opened:
        opened.sendall(request)
        assert opened.recv(100).startswith(b"HTTP/1.1 200")


def test_a_pipeline_ends_with_a_key_that_is_not_known(shared_service: httpx.Client) -> None:
    """Each of them would wait until the keys are read again."""
    guess = b"GET /analytics/event-counts HTTP/1.1\r\n" + HOST
    guess += b"Authorization: Bearer ask_" + b"x" * 43 + b"\r\n\r\n"
    answer = response_text(shared_service, COMPLETE * 2 + guess * 20)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.count(b"HTTP/1.1 ") == 3
    assert b"HTTP/1.1 401" in answer
    json.loads(answer.rpartition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_is_answered_as_a_request(
    shared_service: httpx.Client, protocol: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    request = (
        b"GET /analytics/users/canary/events HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\n"
        b"Upgrade: " + protocol + b"\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    last = b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    with connected(shared_service) as opened:
        opened.sendall(request)
        assert opened.recv(2**16).startswith(b"HTTP/1.1 401")
        opened.sendall(last)
        assert b"HTTP/1.1 200" in received(opened)
    assert "canary" not in "".join(capfd.readouterr())
