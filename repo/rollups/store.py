"""The interface of stores: tables that are derived from the events and kept up to date."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from psycopg2.extensions import connection, cursor

from config.database import Cursor
from repo.rollups.aggregate import Batch
from repo.rollups.fold_state import Progress
from repo.rollups.subtract_user import ErasedUser


class StoreBehind(Exception):
    """A store lacks events that are about to be dropped."""


class Horizon(NamedTuple):
    """The times before which data is dropped."""

    events: datetime
    properties: datetime | None
    """Property columns of earlier events are dropped; None: of no further events."""


class Store(ABC):
    """Tables that are derived from the events, and what one process remembers about them.

    All methods but `maintain` run within a transaction that excludes other folds. After a failure
    the process makes its stores anew, so a store may remember what it has written.
    """

    name: ClassVar[str]
    """Under this name `repo/verify` has the verifier of the store."""
    unit: ClassVar[str]
    """The unit of the numbers that the methods return, such as `spans`, in reports and receipts."""
    tables: ClassVar[Sequence[str]]
    """The tables of the store. Rows of a store from events belong to a `generation`."""
    deletes_generations: ClassVar[bool] = False
    """Whether `maintain` deletes the rows of generations that were replaced."""

    def __init__(self, zones: Sequence[ZoneInfo]) -> None:
        """`zones` are the declared time zones."""
        self._zones = zones

    @abstractmethod
    def apply(self, cur: cursor, progress: Progress, batch: Batch) -> None:
        """Add the events of a fold, which are at least one.

        A store with a watermark of its own does so in `maintain`.
        """

    @abstractmethod
    def seal(self, cur: cursor, progress: Progress) -> int:
        """Finish some of what is over at the time of a fold; return how much.

        While this is not 0, the next fold follows immediately.
        """

    @abstractmethod
    def erase(self, cur: Cursor, user: ErasedUser) -> int:
        """Remove a user from all that queries read; return how much changed.

        What no query reads any more may be deleted later, in `maintain`.
        """

    @abstractmethod
    def drop_before(self, cur: Cursor, horizon: Horizon) -> None:
        """Delete what must not outlive the events before the horizon, which is then published.

        What no query reads any more may be deleted later, in `maintain`.

        Raises: StoreBehind if the store must outlive them and does not hold all of them yet.
        """

    @abstractmethod
    def rebuild(self, cur: Cursor, progress: Progress) -> None:
        """Prepare for a new generation: copy or queue what the folds do not recompute."""

    def is_built(self, cur: Cursor, progress: Progress) -> bool:
        """Return whether a generation that has caught up may replace the current one."""
        return True

    @abstractmethod
    def maintain(self, conn: connection, *, is_lazy: bool) -> int:
        """Do some work that folds leave for later, in a transaction of its own; return how much.

        If `is_lazy`, work may be put off until there is enough of it. `conn` is in autocommit.
        """
