"""The default data directory, terminals, and loopback addresses."""

import io
import os
from pathlib import Path

import pytest

from utils.paths import default_data_dir, is_loopback, is_terminal


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback_hosts(host: str, is_local: bool) -> None:
    assert is_loopback(host) is is_local


@pytest.mark.parametrize(
    ("user", "directory"),
    [
        (0, "/var/lib/analytics-service"),
        (1000, "/home/ada/.local/share/analytics-service"),
    ],
)
def test_the_data_directory_depends_on_the_user(
    user: int, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_data_dir() == Path(directory)


def test_closed_and_missing_streams_are_no_terminals() -> None:
    closed = io.StringIO()
    closed.close()
    assert [is_terminal(stream) for stream in (None, closed, io.StringIO())] == [False] * 3
