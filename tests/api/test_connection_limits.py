"""Connections that let the service wait, and more of them than there may be."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import httpx
import psycopg2
import pytest

from routes import bounded_protocol
from tests.api.test_connections import COMPLETE, HOST, connected, problem, received, sent_events
from tests.live_server import running, scrape, value
from tests.slow_events import slow_down
from tests.wait_until import adjusted_for_load, wait_until

FEW = 8


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less time for everything; the service runs in this process."""
    monkeypatch.setattr(bounded_protocol, "HEAD_TIMEOUT_S", 0.5)
    monkeypatch.setattr(bounded_protocol, "REST_TIMEOUT_S", 0.5)
    monkeypatch.setattr(bounded_protocol, "SEND_TIMEOUT_S", 1.5)


@pytest.fixture
def small(database_url: str, redis_url: str) -> Iterator[httpx.Client]:
    """A service that has few connections."""
    with running(database_url, redis_url, connection_limit=FEW) as client:
        yield client


def connections(service: httpx.Client) -> int:
    return int(value(scrape(service), "http_connections"))


def whole_answer(opened: socket.socket) -> bytes:
    """Head and body come in pieces; a piece that is left would be taken for the next answer."""
    opened.sendall(COMPLETE)
    answer = b""
    while not answer.endswith(b"}"):
        part = opened.recv(2**16)
        assert part, "the connection was closed"
        answer += part
    return answer


def closed(connections: list[socket.socket]) -> list[socket.socket]:
    """Those that ended without an answer."""
    done, _, _ = select.select(connections, [], [], 10)
    return [each for each in done if not answered(each)]


def answered(opened: socket.socket) -> bytes:
    try:
        return opened.recv(100)
    except ConnectionResetError:
        return b""


def trickle(opened: socket.socket, byte: bytes, seconds: float) -> bytes:
    """A byte now and then for so long, and what came until the connection ended."""
    end = time.monotonic() + seconds
    opened.settimeout(0.1)
    parts = []
    while time.monotonic() < end:
        try:
            opened.sendall(byte)
            part = opened.recv(2**16)
        except TimeoutError:
            continue
        except OSError:
            break
        parts.append(part)
        if not part:
            break
    else:
        raise AssertionError("the connection was still open")
    return b"".join(parts)


@pytest.mark.usefixtures("hasty")
class TestTime:
    def test_a_silent_connection_ends(self, shared_service: httpx.Client) -> None:
        with connected(shared_service) as opened:
            assert received(opened) == b""

    def test_half_a_head_is_a_problem(self, shared_service: httpx.Client) -> None:
        with connected(shared_service) as opened:
            opened.sendall(COMPLETE[:20])
            status, _, content = problem(received(opened))
        assert status == 408
        assert content["type"] == "urn:analytics-service:problem:request-timeout"

    def test_a_head_that_trickles_has_no_more_time(self, shared_service: httpx.Client) -> None:
        with connected(shared_service) as opened:
            opened.sendall(b"GET /healthz?")
            assert problem(trickle(opened, b"x", 15))[0] == 408

    def test_a_second_head_has_as_much(self, shared_service: httpx.Client) -> None:
        with connected(shared_service) as opened:
            opened.sendall(COMPLETE)
            assert opened.recv(2**16).startswith(b"HTTP/1.1 200")
            opened.sendall(COMPLETE[:20])
            assert problem(received(opened))[0] == 408

    def test_half_a_head_after_an_answer_has_as_much(self, shared_service: httpx.Client) -> None:
        """It came before the answer."""
        with connected(shared_service) as opened:
            opened.sendall(COMPLETE + COMPLETE[:20])
            answers = received(opened).split(b"HTTP/1.1 ")
        assert [answer[:3] for answer in answers] == [b"", b"200", b"408"]

    def test_a_body_that_nobody_reads_ends_soon(self, shared_service: httpx.Client) -> None:
        head = b"POST /events HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n\r\n"
        with connected(shared_service) as opened:
            opened.sendall(head)
            answer = trickle(opened, b"x", 15)
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.count(b"HTTP/1.1 ") == 1

    def test_an_answer_that_is_not_read_ends(self, shared_service: httpx.Client) -> None:
        page = shared_service.get("/docs").text
        script = next(part for part in page.split('"') if part.endswith("bundle.js"))
        request = b"GET " + script.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n"
        before = connections(shared_service)
        with connected(shared_service) as opened:
            opened.sendall(request * 20)
            wait_until(lambda: connections(shared_service) > before, timeout_s=5)
            wait_until(lambda: connections(shared_service) == before, timeout_s=20)

    def test_what_is_computed_has_the_time_of_a_request(
        self, service: httpx.Client, database_url: str
    ) -> None:
        conn = psycopg2.connect(database_url)
        conn.autocommit = True
        slow_down(conn, 3.0)
        conn.close()
        path = "/analytics/event-counts?start=2025-03-10T00:01:00Z&end=2025-03-10T00:02:00Z"
        assert service.get(path).status_code == 200


class TestNumber:
    def test_idle_connections_are_closed_at_the_limit(self, small: httpx.Client) -> None:
        with ExitStack() as stack:
            for _ in range(5 * FEW):
                stack.enter_context(connected(small))
            began = time.monotonic()
            assert httpx.get(f"{small.base_url}/healthz", timeout=30).status_code == 200
            assert time.monotonic() - began < adjusted_for_load(15)

    def test_the_one_that_idled_longest_is_closed_first(self, small: httpx.Client) -> None:
        with ExitStack() as stack:
            idle = [stack.enter_context(connected(small)) for _ in range(FEW)]
            for each in (*idle, idle[0]):
                assert whole_answer(each).startswith(b"HTTP/1.1 200")
                time.sleep(0.01)  # the clock of the event loop counts milliseconds
            assert httpx.get(f"{small.base_url}/healthz", timeout=30).status_code == 200
            assert received(idle[1]) == b""
            for each in (idle[0], idle[-1]):
                assert whole_answer(each).startswith(b"HTTP/1.1 200")

    def test_a_body_that_does_not_come_makes_room(self, small: httpx.Client) -> None:
        """Before its time is over: then it would be a 408."""
        head = sent_events(small, b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n")
        with ExitStack() as stack:
            slow = [stack.enter_context(connected(small)) for _ in range(FEW)]
            for each in slow:
                each.sendall(head + b"{")
            assert httpx.get(f"{small.base_url}/healthz", timeout=30).status_code == 200
            assert closed(slow)

    def test_a_request_without_a_known_key_makes_room(
        self, small: httpx.Client, database_url: str
    ) -> None:
        """One that needs no key, while the database does not answer: then it would be a 503."""
        request = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
        with closing(psycopg2.connect(database_url)) as conn, conn.cursor() as cur:
            cur.execute("lock table schema_migrations")
            with ExitStack() as stack:
                waiting = [stack.enter_context(connected(small)) for _ in range(FEW)]
                for each in waiting:
                    each.sendall(request * 2)
                assert httpx.get(f"{small.base_url}/healthz", timeout=30).status_code == 200
                assert closed(waiting)

    def test_who_sends_a_body_is_closed_after_who_idles(self, small: httpx.Client) -> None:
        """With each 64 kB it is as if the request had just begun."""
        size = 2**22
        head = sent_events(
            small, b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
        )
        with ExitStack() as stack:
            sender = stack.enter_context(connected(small))
            sender.sendall(head + b" " * 2**16)
            idle = [stack.enter_context(connected(small)) for _ in range(FEW - 1)]
            for each in idle:
                whole_answer(each)
            for _ in range(10):
                sender.sendall(b" " * 2**17)
                time.sleep(0.1)
            assert httpx.get(f"{small.base_url}/healthz", timeout=30).status_code == 200
            assert closed(idle)
            sender.sendall(b" " * (size - 2**16 - 10 * 2**17))
            assert sender.recv(2**16).startswith(b"HTTP/1.1 400")

    def test_nobody_who_is_answered_is_closed(self, small: httpx.Client, database_url: str) -> None:
        """Others wait until one is done. One key may have three different ones computed."""
        conn = psycopg2.connect(database_url)
        conn.autocommit = True
        slow_down(conn, 2.0)
        conn.close()
        path = "/analytics/event-counts?start=2025-03-10T00:01:00Z&end=2025-03-10T00:0{}:00Z"
        statuses: list[int] = []

        def ask(n: int) -> None:
            url = f"{small.base_url}{path.format(2 + n % 3)}"
            headers = {"Authorization": small.headers["Authorization"]}
            statuses.append(httpx.get(url, headers=headers, timeout=30).status_code)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(2 * FEW)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [200] * (2 * FEW)
