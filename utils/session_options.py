"""Options of PostgreSQL sessions, the statements that begin transactions, and statement names."""

import hashlib
import re
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

_NAME_COMMENT = re.compile(r"\s*/\* (\w+) \*/")
_SCHEMA = re.compile(r"\w[\w$-]*")
_LOGIN = re.compile(r"\w+://[^@/]*@")
_SEARCH_PATH = re.compile(r"-c search_path=(\S+)")
_MAX_NAME = 100  # bytes of a comment with the name of a statement
_MAX_TAG = 32  # bytes; the names of sessions before it have up to 30

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

# `{path}` sets the search path where the session may have another one than it was started with.
BEGIN = """
begin isolation level repeatable read read only;
{path}set local statement_timeout = %s;
select now(), pg_is_in_recovery()
"""

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
{path}set local statement_timeout = %s;
select case when pg_is_in_recovery() then current_setting('analytics.replayed')::timestamptz
            else now() end,
       pg_is_in_recovery()
"""


def connect_arguments(
    url: str, options: Mapping[str, str], application_name: str, request_s: float | None = None
) -> dict[str, Any]:
    """Return keyword arguments of `psycopg2.connect` for a session with these server settings.

    They override the options of the URL. The tag of a schema other than `public` is appended to the
    name.

    `request_s` is the deadline of a request in seconds; it limits statements and idle transactions.
    """
    limits = {} if request_s is None else _time_limits(request_s)
    ours = (f"-c {name}={value}" for name, value in {**options, **limits}.items())
    server_options = " ".join([*_options(url), *ours])
    schema = (search_path(url) or "public").strip('"')
    name = application_name if schema == "public" else f"{application_name} {_tag(schema)}"
    return {"options": server_options, "application_name": name, **_KEEPALIVE}


def _tag(schema: str) -> str:
    """The schema in an `application_name`: 8 digits of a hash if it is long or not ASCII, because
    PostgreSQL escapes other bytes there and cuts the name to 63 bytes."""
    if schema.isascii() and len(schema) <= _MAX_TAG:
        return schema
    return hashlib.sha256(schema.encode()).hexdigest()[:8]


def schema_fault(name: str) -> str | None:
    """Return why a schema cannot have this name; None if it can, even if SQL must quote it."""
    if not _SCHEMA.fullmatch(name) or len(name.encode()) > 63:
        return (
            "must be a name of letters, digits, _, $ and -, of at most 63 bytes and without quotes"
        )
    if name.startswith("pg_") or name == "information_schema":
        return "must not be a schema of PostgreSQL itself"
    return None


def in_schema(url: str, schema: str) -> str:
    """Return the URL with options that make this schema the search path of its sessions."""
    start, query = _parts(url)
    others = [part for part in query if not part.startswith("options=")]
    options = " ".join([*_options(url), f'-c search_path="{schema}"'])
    return start + "?" + "&".join([*others, "options=" + quote(options, safe="")])


def search_path(url: str) -> str | None:
    """Return the search path in the options of a URL, as SQL; None if it has none."""
    paths = _SEARCH_PATH.findall(" ".join(_options(url)))
    return paths[-1] if paths else None


def _options(url: str) -> list[str]:
    _, query = _parts(url)
    return [unquote(part.removeprefix("options=")) for part in query if part.startswith("options=")]


def _parts(url: str) -> tuple[str, list[str]]:
    """Return the URL before its query, and the parts of the query, all still encoded."""
    # Not by `urllib.parse`: unlike libpq, it reads `+` as a space and breaks URLs without a host.
    login = _LOGIN.match(url)
    start, _, query = url[login.end() :].partition("?") if login else url.partition("?")
    before = login[0] if login else ""
    return before + start, [part for part in query.split("&") if part]


def _time_limits(request_s: float) -> dict[str, str]:
    # A request may compute between two statements until its deadline, so the limit of idle
    # transactions is a safety net above it.
    return {
        "statement_timeout": str(int(request_s * 1000)),
        "idle_in_transaction_session_timeout": str(int((request_s + 5) * 1000)),
    }


def statement_name(text: str | bytes) -> str:
    """Return the name in the comment before a statement; `sql` without one."""
    start = text[:_MAX_NAME].decode(errors="replace") if isinstance(text, bytes) else text
    match = _NAME_COMMENT.match(start)
    return match[1] if match else "sql"
