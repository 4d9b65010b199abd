"""Status checks of the servers: Redis, the disk, and the connections of the other roles."""

import os
from collections.abc import Iterator
from contextlib import suppress

from config.database_errors import DatabaseError, DiskFull
from config.settings import Settings, variable
from repo.database_identity import DatabaseState
from repo.status import StatusRepo, Unreadable, status_snapshot
from services.cache_service import CacheFailed, CacheService
from services.container import open_cache
from services.database_identity import Identity
from services.disk_space import storage_limits
from services.status.check_result import CheckResult, Values, duration, size
from utils.session_options import in_schema

_CLEARING = "cache_of_erased_users"
_TRIES = 3  # connecting may take longer than the timeout of a command
_WITHIN_S = 10.0
_MAX_REPLICA_AGE_S = 60.0
_ROLES = ("query_database_url", "ingest_database_url", "rollup_database_url")


async def cache(
    settings: Settings, url: str | None, state: DatabaseState | None
) -> list[CheckResult]:
    """Checks of Redis, and of responses about erased users in it.

    `url` and `state` are None if unknown.
    """
    if url is None:
        action = f"set {variable('redis_url')}, or start the service"
        redis = CheckResult("redis", "action", "no server is known", action, {"reachable": False})
        return [redis, CheckResult(_CLEARING, "unknown", "unknown without Redis")]
    client = open_cache(settings, url, Identity(state.identity if state else None))
    try:
        reached = await _reaches(client)
        return [_redis_check(is_reached=reached), *await _clearing(client, state, reached)]
    finally:
        await client.close()


async def _reaches(client: CacheService) -> bool:
    for _ in range(_TRIES):
        with suppress(CacheFailed):
            await client.ping()
            return True
    return False


def _redis_check(*, is_reached: bool) -> CheckResult:
    values = {"reachable": is_reached}
    if is_reached:
        return CheckResult("redis", "ok", "reachable", values=values)
    summary = "unreachable: questions are answered without a cache, and limits are not enforced"
    return CheckResult(
        "redis", "action", summary, f"start it, or check {variable('redis_url')}", values
    )


async def _clearing(
    client: CacheService, state: DatabaseState | None, reached: bool
) -> list[CheckResult]:
    name, values = _CLEARING, {"pending": None}
    if state is None:
        return [CheckResult(name, "unknown", "this role may not read the erasures", values=values)]
    if not state.erasure_version:
        return [CheckResult(name, "ok", "no user was erased", values={"pending": False})]
    if not reached:
        summary = "unknown while Redis is unreachable; the service deletes them when it is back"
        return [CheckResult(name, "unknown", summary, values=values)]
    try:
        is_cleared = await client.is_cleared(state.erasure_version)
    except CacheFailed:
        return [CheckResult(name, "unknown", "unknown: Redis did not reply in time", values=values)]
    if is_cleared:
        return [
            CheckResult(name, "ok", "deleted since the last erasure", values={"pending": False})
        ]
    summary = "not confirmed as deleted since the last erasure"
    action = "start the service, which deletes them within seconds; if it does not, see its log"
    return [CheckResult(name, "action", summary, action, {"pending": True})]


def disk(repo: StatusRepo, settings: Settings) -> Iterator[CheckResult]:
    """The check of the database size and, for the embedded servers, of the free disk space."""
    total, free = repo.database_size(), _free(settings)
    values: Values = {"database_bytes": total, "free_bytes": free}
    summary = f"database {size(total)}"
    try:
        parts = repo.sizes()
        summary += " (" + ", ".join(f"{name} {size(part)}" for name, part in parts.items()) + ")"
        values["table_bytes"] = parts
    except Unreadable as exc:
        summary += f"; sizes of tables are unknown: {exc}"
    summary += f", {size(free)} free" if free is not None else ", free space unknown"
    try:
        limits = storage_limits(settings)
        limits.check_free()
        limits.check_size(total)
    except DiskFull as exc:
        yield CheckResult("disk", "action", summary, str(exc), values)
    else:
        yield CheckResult("disk", "ok", summary, values=values)


def _free(settings: Settings) -> int | None:
    """Free bytes on the disk of the embedded servers; None for another PostgreSQL, which has no
    function for it."""
    if settings.database_url:
        return None
    found = os.statvfs(settings.data_dir)
    return found.f_bavail * found.f_frsize


def connections(settings: Settings, state: DatabaseState | None) -> Iterator[CheckResult]:
    """Checks of the other URLs that are set: that they lead to the same database."""
    for field in _ROLES:
        if url := getattr(settings, field):
            found = in_schema(url.get_secret_value(), settings.database_schema)
            yield _connection(variable(field), found, state)


def _connection(setting: str, url: str, state: DatabaseState | None) -> CheckResult:
    name, values = "connection", Values(reachable=True)
    try:
        with status_snapshot(url, _WITHIN_S) as repo:
            age_s, other = repo.server().replica_age_s, _identity(repo)
    except DatabaseError as exc:
        summary = " ".join(str(exc).split())
        action = f"check {setting}"
        return CheckResult(name, "action", summary, action, {"reachable": False}, setting)
    if state and other and other != state.identity:
        action = f"correct {setting}, or {variable('database_url')}"
        return CheckResult(name, "action", "leads to another database", action, values, setting)
    if age_s is None:
        return CheckResult(name, "ok", "reachable", "", values, setting)
    values["replica_age_s"] = round(age_s, 1)
    summary = f"reachable, a replica that is {duration(age_s)} behind"
    if age_s > _MAX_REPLICA_AGE_S:
        action = "see pg_stat_replication on the primary: questions do not see newer events"
        return CheckResult(name, "action", summary, action, values, setting)
    return CheckResult(name, "ok", summary, "", values, setting)


def _identity(repo: StatusRepo) -> str | None:
    """The identity of the database; None if the role may not read it, as those for ingest and
    folding."""
    try:
        return repo.database_state().identity
    except Unreadable:
        return None
