"""Retention: drops old events, after the new horizon is published and no question reads them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

from config.database import connect
from config.database_errors import DatabaseUnavailable
from repo.columns.store import DEFAULT_MAX_PATHS
from repo.lifecycle.retention import LockHeld, RetainRepo
from repo.rollups.rollup_writer import RollupWriter
from repo.rollups.store import Horizon
from utils.signals import uninterrupted
from utils.time.ranges import RelativeRange, days_ago

_EVENTS_FROM = datetime(2000, 1, 1, tzinfo=UTC)
_RETRY_EVERY_S = 1.0
_TRIES = 60
_MIN_REST_S = 0.01


def horizon_of(age: RelativeRange, now: datetime) -> datetime:
    """The start of the UTC day that was `age` ago.

    A whole day, so that no slot is dropped in part. Raises: ValueError, OverflowError if it is
    before the year 2000.
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
    max_paths: int = DEFAULT_MAX_PATHS,
) -> "Iterator[RetentionRun]":
    """A retention run with a connection of its own. Raises: DatabaseUnavailable."""
    with closing(connect(url, "analytics-retain")) as conn:
        conn.autocommit = True
        writer = RollupWriter(conn, zones, max_paths=max_paths)
        yield RetentionRun(RetainRepo(conn), writer, notify, check_reserve)


class RetentionRun:
    """One retention run. Its methods are the steps, in this order; each may be repeated."""

    def __init__(
        self,
        repo: RetainRepo,
        writer: RollupWriter,
        notify: Callable[[str], None],
        check_reserve: Callable[[], None] = lambda: None,
    ) -> None:
        """`notify` is called with a message about what the run waits for. `check_reserve` is called
        before each step, and raises DiskFull to stop."""
        self._check_reserve = check_reserve
        self.repo = repo
        self._writer = writer
        self._notify = notify
        self.dropped = 0
        """The number of events that were dropped and committed."""

    def fold(self) -> None:
        """Fold all events into the stores, and delete what these must not hold any longer.

        Raises: DiskFull, DatabaseUnavailable.
        """
        self._check_reserve()
        while self._writer.step().has_more:
            self._check_reserve()
        # Without further folds, so that it ends although others keep writing.
        while self._writer.flush():
            self._check_reserve()

    def refuse(self, until: datetime) -> None:
        """Refuse new events before `until`, and fold those that are being written.

        Raises: DiskFull, DatabaseUnavailable.
        """
        self._check_reserve()
        self._retry_while_locked(lambda: self.repo.refuse_before(until))
        self.fold()

    def cancel(self) -> None:
        """Accept events back to the current horizon again. Raises: DatabaseUnavailable."""
        self._retry_while_locked(self.repo.accept_again)

    def publish(self, horizon: Horizon, request_s: float) -> None:
        """Publish the horizon, and wait for questions that began before. `request_s` is the longest
        time of a request.

        Raises: DatabaseUnavailable.
        """
        for _ in range(_TRIES):
            # Fails while an event before it is not folded: dropping it would lose its counts.
            if self.repo.publish(horizon):
                time.sleep(request_s)
                return
            self.fold()
            time.sleep(_RETRY_EVERY_S)
        raise DatabaseUnavailable(
            "the rollups are rebuilt again and again: nothing was dropped, try again later"
        )

    def drop(self, until: datetime) -> Iterator[int]:
        """Drop events before `until`, and yield the number of events of each batch.

        Raises: DiskFull, DatabaseUnavailable.
        """
        since: str | None = "-infinity"
        while since is not None:
            self._check_reserve()
            began = time.monotonic()
            with uninterrupted():
                events, since = self.repo.drop(since, until)
                self.dropped += events
            yield events
            # Rest as long as the batch took, which leaves half of the time to other sessions.
            time.sleep(max(time.monotonic() - began, _MIN_REST_S))

    def _retry_while_locked(self, change: Callable[[], None]) -> None:
        """Repeat a change until it gets its locks, which it tries only briefly each time: sessions
        that write events queue behind it."""
        reported = ""
        while True:
            try:
                return change()
            except LockHeld as exc:
                if str(exc) != reported:
                    reported = str(exc)
                    self._notify(f"Waiting for {reported}.")
                time.sleep(_RETRY_EVERY_S)
