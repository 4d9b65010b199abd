"""How long a server may take until it answers."""

import signal
import time
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path

import pytest

from services.embedded import servers
from services.embedded.binaries import EmbeddedError
from services.embedded.servers import Server, State

LIMIT_S = 0.3
RUNS_ON = ["sleep", "60"]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_READY_TIMEOUT_S", LIMIT_S)


def server(folder: Path, command: list[str], states: Iterator[State]) -> Server:
    return Server("PostgreSQL", command, folder / "log", lambda: next(states), (), signal.SIGTERM)


def test_a_recovery_takes_as_long_as_it_needs(tmp_path: Path) -> None:
    at_work: list[State] = ["at work"] * 30  # looks, 20 ms apart
    states: Iterator[State] = chain(at_work, repeat("ready"))
    began = time.monotonic()
    process = server(tmp_path, RUNS_ON, states).start()
    try:
        assert process.poll() is None
        assert time.monotonic() - began > 2 * LIMIT_S
    finally:
        process.kill()
        process.wait()


def test_a_server_that_does_not_become_ready_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="PostgreSQL did not start"):
        server(tmp_path, RUNS_ON, repeat("unreachable")).start()


def test_the_log_of_earlier_start_attempts_is_kept(tmp_path: Path) -> None:
    """However often it was tried in vain to start another one."""
    for word in ("first", "second", "third"):
        with pytest.raises(EmbeddedError, match=word):
            server(tmp_path, ["echo", word], repeat("unreachable")).start()
    assert (tmp_path / "log").read_text() == "first\nsecond\nthird\n"


def test_a_large_log_is_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_LARGE_LOG", 3)
    for word in ("first", "second"):
        with pytest.raises(EmbeddedError, match=word):
            server(tmp_path, ["echo", word], repeat("unreachable")).start()
    assert (tmp_path / "log").read_text() == "second\n"
    assert (tmp_path / "log.before").read_text() == "first\n"
