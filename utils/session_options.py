"""Options of PostgreSQL sessions, the statements that begin transactions, and statement names."""

import re
import sys
from collections.abc import Mapping
from typing import Any

_NAME_COMMENT = re.compile(r"\s*/\* (\w+) \*/")

# The server ends a running query whose client has gone. Only Linux supports the check.
_CHECK_CLIENT = {"client_connection_check_interval": "500"} if sys.platform == "linux" else {}

QUESTION_OPTIONS: Mapping[str, str] = {
    "timezone": "UTC",
    "default_transaction_read_only": "on",
    "lock_timeout": "500",
    "jit": "off",
    "work_mem": "64MB",  # used with a large tail only; other queries need little
    **_CHECK_CLIENT,
}

WRITER_OPTIONS: Mapping[str, str] = {"timezone": "UTC", **_CHECK_CLIENT}

# Without `jit`: compiling a short statement takes longer than running it.
INGEST_OPTIONS: Mapping[str, str] = {**WRITER_OPTIONS, "jit": "off"}

# A host that has vanished without closing its connections is given up after 15 s, not 15 min.
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

# The replay position is read before the snapshot is taken, since replay goes on meanwhile: a later
# position would promise commits that the snapshot lacks. A replica that has replayed no commit
# since its start is at least at its last checkpoint.
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
    """Return keyword arguments of `psycopg2.connect` for a session with these server settings.

    `request_s` is the deadline of a request in seconds; it limits statements and idle transactions.
    """
    limits = {} if request_s is None else _time_limits(request_s)
    server_options = " ".join(f"-c {name}={value}" for name, value in {**options, **limits}.items())
    return {"options": server_options, "application_name": application_name, **_KEEPALIVE}


def _time_limits(request_s: float) -> dict[str, str]:
    # A request may compute between two statements until its deadline, so the limit of idle
    # transactions is a safety net above it.
    return {
        "statement_timeout": str(int(request_s * 1000)),
        "idle_in_transaction_session_timeout": str(int((request_s + 5) * 1000)),
    }


def statement_name(text: str) -> str:
    """Return the name in the comment before a statement; `sql` without one."""
    match = _NAME_COMMENT.match(text)
    return match[1] if match else "sql"
