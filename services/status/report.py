"""The report of the command `status`: all checks, in the order in which they are printed."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from config.invocation import invocation
from config.settings import Settings
from repo.database_identity import DatabaseState
from repo.status import Server, StatusRepo, Unreadable, status_snapshot
from services.embedded import Endpoints
from services.status.check_result import CheckResult
from services.status.database import CHECKS, Context, schema
from services.status.servers import cache, connections, disk
from utils.version import version

_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Status:
    """The results of all checks; `checked_at` is a time of PostgreSQL's clock."""

    version: str
    postgresql: str
    database: str
    role: str
    checked_at: datetime
    checks: list[CheckResult]

    @property
    def needs_action(self) -> int:
        """The number of checks with the state `action`."""
        return sum(check.state == "action" for check in self.checks)


def read_status(settings: Settings, endpoints: Endpoints) -> Status:
    """The status of the service. Nothing is changed, and each server has some seconds to reply.

    Raises: DatabaseUnavailable, MigrationError if there is no schema.
    """
    with status_snapshot(endpoints.database_url, _WITHIN_S) as repo:
        server = repo.server()
        checks = list(_database_checks(repo, settings))
        state = _database_state(repo)
    redis = asyncio.run(cache(settings, endpoints.redis_url or None, state))
    checks += [*redis, *connections(settings, state)]
    return _status(server, checks)


def _status(server: Server, checks: list[CheckResult]) -> Status:
    return Status(version(), server.version, server.database, server.role, server.now, checks)


def _database_checks(repo: StatusRepo, settings: Settings) -> Iterator[CheckResult]:
    context = Context(repo, settings, repo.sessions())
    yield from schema(context)
    for name, check in CHECKS.items():
        yield from _readable(name, partial(check, context))
    yield from _readable("disk", partial(disk, repo, settings))


def _readable(name: str, check: Callable[[], Iterable[CheckResult]]) -> list[CheckResult]:
    """The checks; if their data cannot be read, a check that says why."""
    try:
        return list(check())
    except Unreadable as exc:
        if exc.is_forbidden:
            return [CheckResult(name, "unknown", f"this role may not read it: {exc}")]
        action = (
            f"if migrations are pending, run `{invocation('migrate')}`; otherwise the database is "
            "overloaded, or was changed by another program"
        )
        return [CheckResult(name, "action", f"cannot be read: {exc}", action)]


def _database_state(repo: StatusRepo) -> DatabaseState | None:
    try:
        return repo.database_state()
    except Unreadable:
        return None
