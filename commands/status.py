"""The command `status`."""

import json
import sys
from datetime import datetime
from typing import Any

import click

from commands._errors import failure
from commands._help import DATABASE, FAILED, Command
from commands._report import print_result
from commands._settings import read_settings
from common.errors import format_instant
from services.server_urls import running_servers
from services.status.check_result import CheckResult
from services.status.report import Status, read_status
from utils.signals import stoppable
from utils.version import version

_MARKS = {"ok": "ok", "action": "ACTION", "unknown": "unknown"}


@click.command(
    cls=Command,
    settings=(
        *DATABASE,
        "redis_url",
        "query_database_url",
        "ingest_database_url",
        "rollup_database_url",
        "host",
        "min_free_mb",
        "max_database_gb",
        "cache_timeout_s",
        "column_paths",
    ),
    exit_codes={0: "Nothing needs action.", 1: f"Something does. {FAILED}"},
)
@click.option("--json", "is_json", is_flag=True, help="Print JSON, for programs.")
@stoppable()
def status(is_json: bool) -> None:
    """Show what works and what needs somebody to act, with the command to run.

    It changes nothing and starts no server. Exits with 1 if anything needs action.
    """
    try:
        found = _read()
    except Exception as exc:
        error = failure(exc)
        if is_json:
            print_result(_error_as_json(error.message))
        raise error from exc
    print_result(_as_json(found) if is_json else _as_text(found))
    if found.needs_action:
        sys.exit(1)


def _read() -> Status:
    settings = read_settings()
    with running_servers(settings) as endpoints:
        return read_status(settings, endpoints)


def _as_text(found: Status) -> str:
    width = max(len(check.label) for check in found.checks)
    lines = [line for check in found.checks for line in _lines(check, width)]
    count = found.needs_action
    end = {0: "Healthy.", 1: "1 thing needs action."}.get(count, f"{count} things need action.")
    if any(check.state == "unknown" for check in found.checks):
        end += f" {found.role} may not read all of it: the owner of the tables may."
    head = (
        f"Analytics Service {found.version}, PostgreSQL {found.postgresql}, "
        f"database {found.database}, as {found.role}, {format_instant(found.checked_at)}"
    )
    return "\n".join([head, "", *lines, "", end])


def _lines(check: CheckResult, width: int) -> list[str]:
    start = f"{_MARKS[check.state]:<8} {check.label:<{width}}  "
    action = [" " * len(start) + f"-> {check.action}"] if check.action else []
    return [start + check.summary, *action]


def _as_json(found: Status) -> str:
    checks = [
        {
            "name": check.name,
            "subject": check.subject or None,
            "state": check.state,
            "summary": check.summary,
            "action": check.action or None,
            "values": check.values,
        }
        for check in found.checks
    ]
    whole = {
        "version": found.version,
        "postgresql": found.postgresql,
        "database": found.database,
        "role": found.role,
        "checked_at": found.checked_at,
        "healthy": not found.needs_action,
        "error": None,
        "checks": checks,
    }
    return json.dumps(whole, default=_as_value, indent=2)


def _error_as_json(error: str) -> str:
    """The JSON of a status that could not be read: the keys of a report, with null values."""
    unknown: dict[str, Any] = dict.fromkeys(("postgresql", "database", "role", "checked_at"))
    whole = {"version": version(), **unknown, "healthy": False, "error": error, "checks": []}
    return json.dumps(whole, indent=2)


def _as_value(value: Any) -> str:
    """A time in ISO 8601, for the JSON encoder; no other type reaches it."""
    assert isinstance(value, datetime)
    return format_instant(value)
