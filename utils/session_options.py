"""How sessions of PostgreSQL are started, and how statements are called."""

import re
import sys
from collections.abc import Mapping
from typing import Any

_NAME_COMMENT = re.compile(r"\s*/\* (\w+) \*/")

# Noticed by the server while a query runs, so that nobody's query ends (Linux has the means).
_CHECK_CLIENT = {"client_connection_check_interval": "500"} if sys.platform == "linux" else {}

QUESTION_OPTIONS: Mapping[str, str] = {
    "timezone": "UTC",
    "default_transaction_read_only": "on",
    "lock_timeout": "500",
    "jit": "off",
    "work_mem": "64MB",  # used where very many events are not folded; others need little
    **_CHECK_CLIENT,
}

WRITER_OPTIONS: Mapping[str, str] = {"timezone": "UTC", **_CHECK_CLIENT}

INGEST_OPTIONS: Mapping[str, str] = {**WRITER_OPTIONS, "jit": "off"}

# A host that vanished without a word is given up after 15 seconds rather than 15 minutes.
_KEEPALIVE = {
    "connect_timeout": 2,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
}

BEGIN = """
begin isolation level repeatable read read only;
set local statement_timeout = %s;
select now(), pg_is_in_recovery()
"""

BEGIN_WRITING = "begin; set local statement_timeout = %s; select now()"

# How far a replica has come is told before its snapshot is taken: it goes on meanwhile. Where that
# is not known since its start, it has come as far as to the last checkpoint.
BEGIN_ON_REPLICA = """
begin read only;
select set_config(
    'analytics.replayed',
    coalesce(pg_last_xact_replay_timestamp(),
             (select checkpoint_time from pg_control_checkpoint()))::text,
    false);
commit;
begin isolation level repeatable read read only;
set local statement_timeout = %s;
select case when pg_is_in_recovery() then current_setting('analytics.replayed')::timestamptz
            else now() end,
       pg_is_in_recovery()
"""


def connect_arguments(
    options: Mapping[str, str], application_name: str, request_s: float | None = None
) -> dict[str, Any]:
    """Keyword arguments of `psycopg2.connect` for a session with these server settings.

    `request_s` limits the times of a session whose requests take so many seconds.
    """
    limits = {} if request_s is None else _time_limits(request_s)
    server_options = " ".join(f"-c {name}={value}" for name, value in {**options, **limits}.items())
    return {"options": server_options, "application_name": application_name, **_KEEPALIVE}


def _time_limits(request_s: float) -> dict[str, str]:
    """A request may compute between its statements as long as it has time."""
    return {
        "statement_timeout": str(int(request_s * 1000)),
        "idle_in_transaction_session_timeout": str(int((request_s + 5) * 1000)),
    }


def statement_name(text: str) -> str:
    """The name that stands before a statement as a comment."""
    match = _NAME_COMMENT.match(text)
    return match[1] if match else "sql"
