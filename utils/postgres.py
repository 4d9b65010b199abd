"""What psycopg2's connections lack: a look whether they live, and a way to hang up on them."""

import os
import select
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg2
from psycopg2.extensions import connection

# Noticed by the server while a query runs, so that nobody's query ends (Linux has the means).
_CHECK_CLIENT = {"client_connection_check_interval": "500"} if sys.platform == "linux" else {}

QUESTION_OPTIONS: Mapping[str, str] = {
    "timezone": "UTC",
    "default_transaction_read_only": "on",
    "lock_timeout": "500",
    "idle_in_transaction_session_timeout": "5000",
    "jit": "off",
    **_CHECK_CLIENT,
}

WRITER_OPTIONS: Mapping[str, str] = {"timezone": "UTC", **_CHECK_CLIENT}

# A host that vanished without a word is given up after 15 seconds rather than 15 minutes.
_KEEPALIVE = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}


def connect_arguments(options: Mapping[str, str], application_name: str) -> dict[str, Any]:
    """Keyword arguments of `psycopg2.connect` for a session with these server settings."""
    started_with = " ".join(f"-c {name}={value}" for name, value in options.items())
    return {"options": started_with, "application_name": application_name, **_KEEPALIVE}


def is_alive(conn: connection) -> bool:
    """Whether an idle connection can still be used, told without a round trip.

    An idle session never has unread bytes: readable means the server hung up or said why.
    """
    if conn.closed:
        return False
    poll = select.poll()  # select() cannot watch a descriptor from 1024 on
    poll.register(conn.fileno(), select.POLLIN)
    return not poll.poll(0)


def hang_up(conn: connection) -> None:
    """End whatever the connection does, from any thread and without waiting.

    `conn.cancel()` would hold the interpreter's lock, and `conn.close()` waits for the query.
    """
    with suppress(OSError, psycopg2.Error), socket.socket(fileno=os.dup(conn.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def close_quietly(conn: connection) -> None:
    with suppress(psycopg2.Error):
        conn.close()
