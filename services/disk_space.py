"""Limits of disk space and database size, checked before events are stored.

PostgreSQL shuts down when the disk of its write-ahead log is full, so writes are refused earlier.
"""

import asyncio
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from common.metrics import STORAGE_HEADROOM
from config.database import Database, get_connection
from config.database_errors import DatabaseError, DiskFull
from config.settings import Settings
from repo.database_size import DatabaseSizeRepo

MB, GB = 10**6, 10**9

_POLL_EVERY_S = 1.0
_MEASURE_EVERY_S = 5.0  # `pg_database_size` calls stat on each file of the database
_TIMEOUT_S = 2.0
_REPORTED_FOR_S = 30.0

_QUESTIONS_WORK = "Questions are still answered."
_DISK_FULL = f"PostgreSQL has no room left on its disk: free some space there. {_QUESTIONS_WORK}"


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """The bytes that must stay free on the disk, and the bytes that the database may occupy."""

    data_dir: Path | None
    """The data directory of the embedded servers; None if PostgreSQL is not embedded."""
    min_free: int
    """0: not checked."""
    max_database: int
    """0: unlimited."""

    def free(self) -> int | None:
        """Bytes that are free for unprivileged programs; None if unknown or not checked."""
        if self.data_dir is None or not self.min_free:
            return None
        stats = os.statvfs(self.data_dir)
        return stats.f_bavail * stats.f_frsize

    def check_free(self) -> None:
        """Check that events may be stored. Raises: DiskFull."""
        free = self.free()
        if free is not None and free < self.min_free:
            raise DiskFull(
                f"The disk of the data directory has {free // MB:,} MB left, and no events are "
                f"stored below {self.min_free // MB:,} MB (ANALYTICS_MIN_FREE_MB): free some space "
                f"there. {_QUESTIONS_WORK}"
            )

    def check_reserve(self) -> None:
        """Check that stored data may be changed: this writes less, so the limit is half.

        Raises: DiskFull.
        """
        free = self.free()
        if free is not None and free < self.min_free / 2:
            raise DiskFull(
                f"The disk of the data directory has {free // MB:,} MB left, and nothing is "
                f"written below {self.min_free // 2 // MB:,} MB, half of ANALYTICS_MIN_FREE_MB: "
                f"free some space there. {_QUESTIONS_WORK}"
            )

    def check_size(self, size: int) -> None:
        """Check that a database of `size` bytes may grow. Raises: DiskFull."""
        if self.max_database and size >= self.max_database:
            raise DiskFull(
                f"The database takes {size / GB:.3g} GB, and no events are stored from "
                f"{self.max_database / GB:.3g} GB on (ANALYTICS_MAX_DATABASE_GB): raise this "
                f"limit, or make the database smaller. {_QUESTIONS_WORK}"
            )


def storage_limits(settings: Settings) -> StorageLimits:
    return StorageLimits(
        None if settings.database_url else settings.data_dir,
        settings.min_free_mb * MB,
        int(settings.max_database_gb * GB),
    )


class StorageGate:
    """The check of a command that stores events, to be called before each batch."""

    def __init__(self, limits: StorageLimits, read_size: Callable[[], int]) -> None:
        self._limits = limits
        self._read_size = read_size
        self._measured_at = -math.inf

    def __call__(self) -> None:
        """Check that the next batch may be stored. Raises: DiskFull, DatabaseUnavailable."""
        self._limits.check_free()
        if self._limits.max_database and time.monotonic() - self._measured_at >= _MEASURE_EVERY_S:
            self._limits.check_size(self._read_size())
            self._measured_at = time.monotonic()


class Storage:
    """The state of the storage in a worker process, measured in the background."""

    def __init__(self, limits: StorageLimits, database: Database) -> None:
        self._limits = limits
        self._database = database
        self._size = 0
        self._measured_at = -math.inf
        self._reported_at = -math.inf
        self._fault: DiskFull | None = None

    async def poll_forever(self) -> NoReturn:
        """Refresh every second, so that no request has to wait for a measurement."""
        while True:
            await self.refresh()
            await asyncio.sleep(_POLL_EVERY_S)

    async def refresh(self) -> None:
        """Measure again. While PostgreSQL is unavailable the last size of the database is used."""
        if self._limits.max_database and time.monotonic() - self._measured_at >= _MEASURE_EVERY_S:
            self._measured_at = time.monotonic()
            with suppress(DatabaseError):
                self._size = await self._measure_size()
            STORAGE_HEADROOM.labels("database").set(self._limits.max_database - self._size)
        self._fault = await asyncio.to_thread(self._check_disk)

    def check(self) -> None:
        """Check that events may be stored, as last measured. Raises: DiskFull."""
        if self._fault is not None:
            raise DiskFull(str(self._fault))

    def check_reserve(self) -> None:
        """Check that users may be erased. Raises: DiskFull."""
        self._limits.check_reserve()

    def report(self, *, is_full: bool) -> None:
        """Record whether PostgreSQL failed a write because its disk is full."""
        self._reported_at = time.monotonic() if is_full else -math.inf

    @property
    def state(self) -> str:
        """The state for the readiness checks: "ok", or "full: " and the reason."""
        if self._fault is not None:
            return f"full: {self._fault}"
        is_reported = time.monotonic() - self._reported_at < _REPORTED_FOR_S
        return f"full: {_DISK_FULL}" if is_reported else "ok"

    def _check_disk(self) -> DiskFull | None:
        try:
            free = self._limits.free()
            if free is not None:
                STORAGE_HEADROOM.labels("disk").set(free - self._limits.min_free)
            self._limits.check_free()
            self._limits.check_size(self._size)
        except DiskFull as exc:
            return exc
        except OSError:  # not readable: PostgreSQL fails by itself, with the reason
            return None
        return None

    async def _measure_size(self) -> int:
        connection = get_connection(self._database, time.monotonic() + _TIMEOUT_S)
        return await connection.run(DatabaseSizeRepo(connection).get_database_size)
