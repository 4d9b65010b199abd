"""Unit tests may not open connections."""

import socket
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("a unit test opened a connection: move it to another folder")

    monkeypatch.setattr(socket.socket, "connect", refuse)
