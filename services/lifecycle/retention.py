"""Dropping what is old: the horizon is told first, and rows go when nobody reads them any more."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

from config.database import connect
from config.database_errors import DatabaseUnavailable
from repo.lifecycle.retention import LockHeld, RetainRepo
from repo.rollups.rollup_writer import RollupWriter
from utils.signals import uninterrupted
from utils.time.ranges import RelativeRange, days_ago

_EVENTS_FROM = datetime(2000, 1, 1, tzinfo=UTC)
_RETRY_EVERY_S = 1.0
_TRIES = 60
_MIN_REST_S = 0.01


def horizon_of(age: RelativeRange, now: datetime) -> datetime:
    """Where the day of UTC begins that was so long ago: no slot and no sealed day is half dropped.

    Raises: ValueError, OverflowError for one before 2000.
    """
    day = days_ago(age, now.astimezone(UTC).date())
    horizon = datetime.combine(day, clock(), UTC)
    if horizon < _EVENTS_FROM:
        raise ValueError("must not reach back before the year 2000")
    return horizon


@contextmanager
def open_retention_run(
    url: str,
    zones: Sequence[ZoneInfo],
    notify: Callable[[str], None],
    check_reserve: Callable[[], None] = lambda: None,
) -> "Iterator[RetentionRun]":
    """Over a connection of its own. Raises: DatabaseUnavailable."""
    with closing(connect(url, "analytics-retain")) as conn:
        conn.autocommit = True
        yield RetentionRun(RetainRepo(conn), RollupWriter(conn, zones), notify, check_reserve)


class RetentionRun:
    """One run; the steps in the order in which they are to be done, each of them again at will."""

    def __init__(
        self,
        repo: RetainRepo,
        writer: RollupWriter,
        notify: Callable[[str], None],
        check_reserve: Callable[[], None] = lambda: None,
    ) -> None:
        """`say` is told what is waited for. `check_reserve` is called before each step, and raises
        where there is no room on the disk for it."""
        self._check_reserve = check_reserve
        self.repo = repo
        self._writer = writer
        self._notify = notify
        self.dropped = 0
        """Events, of all batches that are committed."""

    def fold(self) -> None:
        """Whatever is there, into the rollups. Raises: DatabaseUnavailable."""
        self._check_reserve()
        while self._writer.step().has_more:
            self._check_reserve()

    def refuse(self, until: datetime) -> None:
        """Let nothing older in, and see to the end all that is being written.

        Raises: DiskFull, DatabaseUnavailable.
        """
        self._check_reserve()
        self._retry_while_locked(lambda: self.repo.refuse_before(until))
        self.fold()

    def cancel(self) -> None:
        """Take what is not dropped again. Raises: DatabaseUnavailable."""
        self._retry_while_locked(self.repo.accept_again)

    def publish(self, until: datetime, request_s: float) -> None:
        """From now on questions know; wait for those that did not. Raises: DatabaseUnavailable."""
        for _ in range(_TRIES):
            if self.repo.publish(until):
                time.sleep(request_s)
                return
            self.fold()
            time.sleep(_RETRY_EVERY_S)
        raise DatabaseUnavailable("others make rollups anew all the time: nothing was dropped")

    def drop(self, until: datetime) -> Iterator[int]:
        """Batch by batch; rests as long as it works. Raises: DiskFull, DatabaseUnavailable."""
        since: str | None = "-infinity"
        while since is not None:
            self._check_reserve()
            began = time.monotonic()
            with uninterrupted():
                events, since = self.repo.drop(since, until)
                self.dropped += events
            yield events
            time.sleep(max(time.monotonic() - began, _MIN_REST_S))

    def _retry_while_locked(self, change: Callable[[], None]) -> None:
        """Others write on: whoever has to wait for this does so for a moment only."""
        reported = ""
        while True:
            try:
                return change()
            except LockHeld as exc:
                if str(exc) != reported:
                    reported = str(exc)
                    self._notify(f"Waiting for {reported}.")
                time.sleep(_RETRY_EVERY_S)
