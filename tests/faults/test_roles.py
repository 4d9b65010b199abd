"""What the sessions of the service may do, and how they were started."""

import json
from typing import Any

import pytest

from tests.faults.conftest import Check
from tests.faults.service_process import DEADLINE_S, POOL, WORKERS, Service
from tests.wait_until import wait_until

MAX_USERS = WORKERS * POOL

# As docs/operations.md has them; times are milliseconds.
SETTINGS = {
    "statement_timeout": f"{DEADLINE_S * 1000:.0f}",
    "lock_timeout": "500",
    "idle_in_transaction_session_timeout": f"{DEADLINE_S * 1000 + 5000:.0f}",
    "client_connection_check_interval": "500",
    "default_transaction_read_only": "on",
    "TimeZone": "UTC",
    "jit": "off",
}
USERS = {
    "analytics": "analytics_test_reader",
    "analytics-cache-versions": "analytics_test_reader",
    "analytics-keys": "analytics_test_writer",
    "analytics-rollup": "analytics_test_rollup",
}

# Whoever reads events tells how its session was started.
LISTEN = """
create function tell() returns boolean language plpgsql as $$
begin
    perform pg_notify('sessions', json_build_object(
        'pid', pg_backend_pid(),
        'settings', (select json_object_agg(name, reset_val) from pg_settings where name in (
            'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
            'client_connection_check_interval', 'default_transaction_read_only', 'TimeZone',
            'jit')))::text);
    return true;
end
$$;
alter table events rename to stored_events;
create view events as select * from stored_events where (select tell());
grant select on events to analytics_reader;
"""

# The tables that the role of questions may change, and whether it may make any.
MAY_CHANGE = """
select relname
from   pg_class
cross  join unnest('{INSERT, UPDATE, DELETE, TRUNCATE}'::text[]) as granted
where  relnamespace = (select oid from pg_namespace where nspname = current_schema())
and    relkind in ('r', 'v', 'p')
and    has_table_privilege('analytics_test_reader', oid, granted)
union  all
select 'any' where has_schema_privilege('analytics_test_reader', current_schema(), 'create')
"""


def users(running: Service) -> dict[str, str]:
    """Who each kind of session is."""
    return dict(
        running.query(
            "select regexp_replace(application_name, '-[0-9]+$', ''), usename "
            "from pg_stat_activity where datname = current_database() "
            "and application_name like 'analytics%'"
        )
    )


def notifications(running: Service) -> dict[int, dict[str, str]]:
    """By session, what those told that have read events."""
    running.conn.poll()
    payloads: list[dict[str, Any]] = [json.loads(note.payload) for note in running.conn.notifies]
    return {session["pid"]: session["settings"] for session in payloads}


@pytest.mark.check(13)
def test_read_only_role(running: Service, check: Check) -> None:
    """Questions can only read, and each session is set as documented"""
    running.query("listen sessions")
    running.conn.cursor().execute(LISTEN)

    def is_complete() -> bool:
        running.ask_fresh(MAX_USERS, at_once=MAX_USERS, mark=f"told{len(running.conn.notifies)}-")
        return set(running.backends()) <= set(notifications(running))

    wait_until(lambda: len(running.backends()) == MAX_USERS, timeout_s=10)
    wait_until(is_complete, timeout_s=15)
    sessions = notifications(running)
    assert all(settings == SETTINGS for settings in sessions.values())
    assert running.query(MAY_CHANGE) == []
    wait_until(lambda: users(running) == USERS, timeout_s=5)
    check.record(f"{len(sessions)} sessions of {len(set(USERS.values()))} roles")
