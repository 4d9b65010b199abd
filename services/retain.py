"""Dropping what is old: the horizon is told first, and rows go when nobody reads them any more."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

from config.database import connect
from config.failures import DatabaseUnavailable
from repo.retain import Held, RetainRepo
from repo.rollups.folder import Folder
from utils.periods import Last, days_ago
from utils.signals import uninterrupted

_EVENTS_FROM = datetime(2000, 1, 1, tzinfo=UTC)
_TRY_AGAIN_S = 1.0
_TRIES = 60
_LEAST_REST_S = 0.01


def horizon_of(age: Last, now: datetime) -> datetime:
    """Where the day of UTC begins that was so long ago: no slot and no sealed day is half dropped.

    Raises: ValueError, OverflowError for one before 2000.
    """
    day = days_ago(age, now.astimezone(UTC).date())
    horizon = datetime.combine(day, clock(), UTC)
    if horizon < _EVENTS_FROM:
        raise ValueError("must not reach back before the year 2000")
    return horizon


@contextmanager
def retaining(
    url: str,
    zones: Sequence[ZoneInfo],
    say: Callable[[str], None],
    check_reserve: Callable[[], None] = lambda: None,
) -> "Iterator[Retaining]":
    """Over a connection of its own. Raises: DatabaseUnavailable."""
    with closing(connect(url, "analytics-retain")) as conn:
        conn.autocommit = True
        yield Retaining(RetainRepo(conn), Folder(conn, zones), say, check_reserve)


class Retaining:
    """One run; the steps in the order in which they are to be done, each of them again at will."""

    def __init__(
        self,
        repo: RetainRepo,
        folder: Folder,
        say: Callable[[str], None],
        check_reserve: Callable[[], None] = lambda: None,
    ) -> None:
        """`say` is told what is waited for. `check_reserve` is called before each step, and raises
        where there is no room on the disk for it."""
        self._check_reserve = check_reserve
        self.repo = repo
        self._folder = folder
        self._say = say
        self.dropped = 0
        """Events, of all batches that are committed."""

    def fold(self) -> None:
        """Whatever is there, into the rollups. Raises: DatabaseUnavailable."""
        self._check_reserve()
        while self._folder.step().is_more:
            self._check_reserve()

    def refuse(self, until: datetime) -> None:
        """Let nothing older in, and see to the end all that is being written.

        Raises: DiskFull, DatabaseUnavailable.
        """
        self._check_reserve()
        self._patiently(lambda: self.repo.refuse(until))
        self.fold()

    def give_up(self) -> None:
        """Take what is not dropped again. Raises: DatabaseUnavailable."""
        self._patiently(self.repo.take_again)

    def publish(self, until: datetime, request_s: float) -> None:
        """From now on questions know; wait for those that did not. Raises: DatabaseUnavailable."""
        for _ in range(_TRIES):
            if self.repo.publish(until):
                time.sleep(request_s)
                return
            self.fold()
            time.sleep(_TRY_AGAIN_S)
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
            time.sleep(max(time.monotonic() - began, _LEAST_REST_S))

    def _patiently(self, change: Callable[[], None]) -> None:
        """Others write on: whoever has to wait for this does so for a moment only."""
        told = ""
        while True:
            try:
                return change()
            except Held as exc:
                if str(exc) != told:
                    told = str(exc)
                    self._say(f"Waiting for {told}.")
                time.sleep(_TRY_AGAIN_S)
