"""Checks of the servers themselves: Redis, the disk, and the URLs of other roles."""

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
from services.status.check import Check, Values, duration, size

_CLEARING = "cache_of_erased_users"
_TRIES = 3
"""A connection may take longer than a command, and is there at the next try."""
_WITHIN_S = 10.0
_BEHIND_S = 60.0
"""Seconds that a replica may be behind."""
_ROLES = ("query_database_url", "ingest_database_url", "fold_database_url")


async def cache(settings: Settings, url: str | None, state: DatabaseState | None) -> list[Check]:
    """Of Redis, and of answers about erased users that it may hold; `state` None: not known."""
    if url is None:
        action = f"set {variable('redis_url')}, or start the service"
        redis = Check("redis", "action", "no server is known", action, {"reachable": False})
        return [redis, Check(_CLEARING, "unknown", "not known without Redis")]
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


def _redis_check(*, is_reached: bool) -> Check:
    values = {"reachable": is_reached}
    if is_reached:
        return Check("redis", "ok", "reached", values=values)
    summary = "not reached: questions are answered without a cache, and nobody is limited"
    return Check("redis", "action", summary, f"start it, or check {variable('redis_url')}", values)


async def _clearing(
    client: CacheService, state: DatabaseState | None, reached: bool
) -> list[Check]:
    name, values = _CLEARING, {"pending": None}
    if state is None:
        return [Check(name, "unknown", "this role may not read the erasures", values=values)]
    if not state.erasure_version:
        return [Check(name, "ok", "no user was erased", values={"pending": False})]
    if not reached:
        summary = "not known while Redis is not reached; a service drops them when it can"
        return [Check(name, "unknown", summary, values=values)]
    try:
        is_cleared = await client.is_cleared(state.erasure_version)
    except CacheFailed:
        return [Check(name, "unknown", "not known: Redis did not answer in time", values=values)]
    if is_cleared:
        return [Check(name, "ok", "dropped since the last erasure", values={"pending": False})]
    summary = "no service has confirmed since the last erasure that they are dropped"
    action = "start the service, which does so within seconds; its log says why if it does not"
    return [Check(name, "action", summary, action, {"pending": True})]


def disk(repo: StatusRepo, settings: Settings) -> Iterator[Check]:
    """What the database takes, and what is left where that is known."""
    total, free = repo.database_size(), _free(settings)
    values: Values = {"database_bytes": total, "free_bytes": free}
    summary = f"database {size(total)}"
    try:
        parts = repo.sizes()
        summary += " (" + ", ".join(f"{name} {size(part)}" for name, part in parts.items()) + ")"
        values["table_bytes"] = parts
    except Unreadable as exc:
        summary += f"; sizes of tables are not known: {exc}"
    summary += f", {size(free)} free" if free is not None else ", free space not known here"
    try:
        limits = storage_limits(settings)
        limits.check_free()
        limits.check_size(total)
    except DiskFull as exc:
        yield Check("disk", "action", summary, str(exc), values)
    else:
        yield Check("disk", "ok", summary, values=values)


def _free(settings: Settings) -> int | None:
    """Bytes on the disk of the embedded servers; another PostgreSQL does not tell."""
    if settings.database_url:
        return None
    found = os.statvfs(settings.data_dir)
    return found.f_bavail * found.f_frsize


def connections(settings: Settings, state: DatabaseState | None) -> Iterator[Check]:
    """Of the other URLs that are set: whether they lead to the same database."""
    for field in _ROLES:
        if url := getattr(settings, field):
            yield _connection(variable(field), url.get_secret_value(), state)


def _connection(setting: str, url: str, state: DatabaseState | None) -> Check:
    name, values = "connection", Values(reachable=True)
    try:
        with status_snapshot(url, _WITHIN_S) as repo:
            age_s, other = repo.server().replica_age_s, _identity(repo)
    except DatabaseError as exc:
        summary = " ".join(str(exc).split())
        action = f"check {setting}"
        return Check(name, "action", summary, action, {"reachable": False}, setting)
    if state and other and other != state.identity:
        action = f"correct {setting}, or {variable('database_url')}"
        return Check(name, "action", "leads to another database", action, values, setting)
    if age_s is None:
        return Check(name, "ok", "reached", "", values, setting)
    values["replica_age_s"] = round(age_s, 1)
    summary = f"reached, a replica that is {duration(age_s)} behind"
    if age_s > _BEHIND_S:
        action = "see pg_stat_replication on the primary: questions are answered as of then"
        return Check(name, "action", summary, action, values, setting)
    return Check(name, "ok", summary, "", values, setting)


def _identity(repo: StatusRepo) -> str | None:
    """None where the role may not read it: it stores events, or folds them."""
    try:
        return repo.database_state().identity
    except Unreadable:
        return None
