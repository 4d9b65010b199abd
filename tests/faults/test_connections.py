"""Clients that send without end, or nothing, or very many of them."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.faults.conftest import Check, DedicatedServers
from tests.faults.http_load import percentile
from tests.faults.service_process import COUNTS, Service, service
from tests.faults.test_postgres import statuses

SENT = 105 * 10**6
LINE = b"X-Header: " + b"y" * 1000 + b"\r\n"
FILES = 64
SILENT = 200
SENDERS = 50


def resident(running: Service) -> list[int]:
    """Bytes of memory of each worker."""
    pages = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in running.worker_pids()]
    return [int(count) * 4096 for count in pages]


def send_head_without_end(port: int) -> tuple[int, bytes]:
    """How many bytes were taken, and what came back."""
    sent_bytes, response = 0, b""
    with socket.create_connection(("127.0.0.1", port)) as opened, suppress(OSError):
        opened.settimeout(10)
        opened.sendall(b"GET /healthz HTTP/1.1\r\n")
        with suppress(OSError):
            while sent_bytes < SENT:
                opened.sendall(LINE * 64)
                sent_bytes += 64 * len(LINE)
        while part := opened.recv(2**16):
            response += part
    return sent_bytes, response


@pytest.mark.check(54)
def test_a_head_without_end(running: Service, check: Check) -> None:
    """105 MB of headers on one connection"""
    running.ask_repeatedly(200, at_once=4)
    before = resident(running)
    sent_bytes, response = send_head_without_end(running.port)
    peak = max(now - then for now, then in zip(resident(running), before, strict=True))
    check.record(
        f"{sent_bytes / 2**20:.1f} MB taken, {response[9:12].decode()}, {peak / 2**20:+.1f} MB"
    )
    assert sent_bytes < 10 * 2**20
    assert response.startswith(b"HTTP/1.1 431 ")
    assert b"application/problem+json" in response
    assert peak < 20 * 2**20


@pytest.mark.check(54)
def test_others_are_answered_meanwhile(running: Service, check: Check) -> None:
    """105 MB of headers on one connection"""
    alone = percentile(running.ask_repeatedly(500, at_once=2), 95)
    end = time.monotonic() + 3

    def send() -> None:
        while time.monotonic() < end:
            send_head_without_end(running.port)

    sender = threading.Thread(target=send)
    sender.start()
    replies = running.ask_repeatedly(500, at_once=2)
    sender.join()
    p95 = percentile(replies, 95)
    check.record(f"others p95 {p95 * 1000:.0f} ms (alone {alone * 1000:.0f})")
    assert statuses(replies) == {200: 500}
    assert p95 <= alone * 10 + 0.1


@pytest.fixture
def short_of_files(own: DedicatedServers, fault_url: str) -> Iterator[Service]:
    with service(fault_url, own.endpoints.redis_url, files=FILES) as started:
        yield started


@pytest.mark.check(55)
def test_silent_connections(short_of_files: Service, check: Check) -> None:
    """200 silent connections, with 64 files for each process"""
    running = short_of_files
    with ExitStack() as stack:
        for _ in range(SILENT):
            opened = socket.create_connection(("127.0.0.1", running.port), timeout=30)
            stack.enter_context(opened)
        began = time.monotonic()
        first = running.get("/healthz")
        duration = time.monotonic() - began
        cpu_before = cpu_seconds(running)
        replies = [running.get(COUNTS).status_code for _ in range(50)]
        seconds = time.monotonic() - began - duration
        cpu = cpu_seconds(running) - cpu_before
    check.record(f"first answer after {duration:.1f} s, then 50 in {seconds:.1f} s")
    assert first.status_code == 200
    assert duration < 15
    assert not [line for line in running.log_lines() if line["level"] in ("ERROR", "CRITICAL")]
    assert replies == [200] * 50
    assert cpu < 2 * seconds + 1


def cpu_seconds(running: Service) -> float:
    stats = [Path(f"/proc/{pid}/stat").read_text().split() for pid in running.worker_pids()]
    return sum(int(stat[13]) + int(stat[14]) for stat in stats) / 100


@pytest.mark.check(55)
def test_as_many_questions_as_there_may_be(short_of_files: Service, check: Check) -> None:
    """200 silent connections, with 64 files for each process"""
    replies = short_of_files.ask_fresh(600, at_once=SENDERS, mark="files")
    check.record(f"600 questions of {SENDERS}: {statuses(replies)}")
    assert set(statuses(replies)) <= {200, 0, 503}
    assert statuses(replies)[200] >= 500
    assert short_of_files.get("/healthz").status_code == 200


@pytest.mark.check(56)
def test_a_head_that_trickles(running: Service, check: Check) -> None:
    """50 clients send a byte of a head now and then"""
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port)))
            for _ in range(SENDERS)
        ]
        for each in slow:
            each.sendall(b"GET /")
        began = time.monotonic()
        ended: dict[int, float] = {}
        while len(ended) < SENDERS and time.monotonic() < began + 30:
            for n, each in enumerate(slow):
                if n not in ended and not still_open(each):
                    ended[n] = time.monotonic() - began
            time.sleep(0.2)
    longest = max(ended.values(), default=0)
    check.record(f"{len(ended)} ended, the last after {longest:.1f} s")
    assert len(ended) == SENDERS
    assert running.get("/healthz").status_code == 200


def still_open(opened: socket.socket) -> bool:
    """Sends one byte more; the answer to what is too slow is 408."""
    opened.setblocking(False)
    with suppress(BlockingIOError):
        try:
            received = opened.recv(2**16)
        except ConnectionResetError:
            return False
        assert received.startswith(b"HTTP/1.1 408 ") or not received
        return False
    with suppress(OSError):
        opened.send(b"x")
    return True


@pytest.mark.check(56)
def test_more_connections_than_there_may_be(
    own: DedicatedServers, fault_url: str, check: Check
) -> None:
    """50 clients send a byte of a head now and then"""
    with service(fault_url, own.endpoints.redis_url, ANALYTICS_CONNECTION_LIMIT="16") as running:
        replies = running.ask_repeatedly(2000, at_once=SENDERS)
    check.record(f"{SENDERS} clients on 32 connections: {statuses(replies)}")
    assert statuses(replies)[200] >= 1000
    assert set(statuses(replies)) <= {200, 0}
