"""Adoption of an existing table, in steps: after an interruption the same command continues."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from repo.adopt.adoption import AdoptRepo, LockHeld, Part, ReportRow
from repo.adopt.catalog import CannotAdopt, Table
from repo.adopt.mapping import AdoptionNames, TableMapping
from repo.adopt.trigger import Adoption
from utils.signals import uninterrupted

R = TypeVar("R")

BATCH = 10_000
WAIT_S = 60.0  # how long to retry to lock the table

# Other sessions queue behind a waiting lock request, so each attempt is short.
_LOCK_MS = 200
_PAUSES_S = (0.1, 1.0)
_FIRST_PAGES = 32
_MAX_PAGES = 10_000


# States of rows that are inconsistencies. A `taken` row has the id of another row, or became a
# different event when it was inserted. Rows that are `expired` or `suppressed` are rightly missing.
WRONG = ("missing", "taken")


@dataclass(slots=True)
class Day:
    """The number of rows of a day, and of the events among them."""

    rows: int = 0
    events: int = 0
    others: Counter[str] = field(default_factory=Counter)
    """Valid rows that are not events, by their state."""

    @property
    def is_consistent(self) -> bool:
        """Whether all rows are events, or are rightly missing."""
        return not any(self.others[state] for state in WRONG)


@dataclass(slots=True)
class Comparison:
    """The rows of a table compared with the events, in one snapshot."""

    days: dict[date, Day] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    """Invalid rows, by reason."""

    @property
    def total(self) -> Day:
        """The sum of all days; the rejected rows are included in its rows."""
        days = self.days.values()
        return Day(
            sum(day.rows for day in days) + self.rejected.total(),
            sum(day.events for day in days),
            sum((day.others for day in days), Counter()),
        )


def compare_rows(rows: Iterable[ReportRow]) -> Comparison:
    """The comparison that the rows of a report add up to."""
    comparison = Comparison()
    for row in rows:
        if row.day is None:
            comparison.rejected[row.state] += row.rows
            continue
        day = comparison.days.setdefault(row.day, Day())
        day.rows += row.rows
        if row.state == "event":
            day.events += row.events
            day.others["taken"] += row.rows - row.events
        else:
            day.others[row.state] += row.rows
    return comparison


def install(
    repo: AdoptRepo, table: Table, field_map: TableMapping, adoption_names: AdoptionNames
) -> Adoption:
    """Install the trigger on the table.

    Raises: CannotAdopt, also if the table stays locked for a minute.
    """
    return _retry_while_locked(
        repo, table, lambda: repo.install(table, field_map, adoption_names, _LOCK_MS)
    )


def release(repo: AdoptRepo, table: Table, adoption_names: AdoptionNames, adoption_id: int) -> None:
    """Disable the trigger at once, and drop it once the table can be locked.

    Raises: CannotAdopt.
    """
    repo.disable_trigger(adoption_id, adoption_names.own_schema)
    _retry_while_locked(
        repo, table, lambda: repo.drop(adoption_id, adoption_names.own_schema, _LOCK_MS)
    )


def _retry_while_locked(repo: AdoptRepo, table: Table, work: Callable[[], R]) -> R:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return work()
        except LockHeld:
            if time.monotonic() > deadline:
                raise CannotAdopt(_lock_message(repo, table)) from None
            time.sleep(random.uniform(*_PAUSES_S))


def _lock_message(repo: AdoptRepo, table: Table) -> str:
    holder = repo.lock_holder(table)
    whose = f", such as that of process {holder[0]} for {holder[1]} s" if holder else ""
    return f"transactions keep {table.name} locked{whose}: run the same command again"


class Copier:
    """Copies the pages of a table in batches of about `batch` rows, at a limited rate."""

    def __init__(
        self,
        repo: AdoptRepo,
        adoption: Adoption,
        *,
        batch: int = BATCH,
        pace: int = 0,
        progress: Callable[[int], object],
        check_space: Callable[[], None] = lambda: None,
    ) -> None:
        """`progress` is called with the number of pages of each batch. `pace` is a limit in rows
        per second; 0 means unlimited. `check_space` is called before each batch, and raises
        DiskFull to stop."""
        self._check_space = check_space
        self._repo = repo
        self._adoption = adoption
        self._batch = batch
        self._pace = pace
        self._progress = progress
        self._pages = _FIRST_PAGES
        self.inserted = 0
        """New events that are committed."""

    def copy(self) -> None:
        """Copy the rows that existed before the trigger was installed."""
        for part in self._repo.parts(self._adoption):
            self._copy_part(part)

    def copy_missing(self) -> None:
        """Copy all rows that should be events but are not, wherever in the table they are."""
        with uninterrupted():
            self.inserted += self._repo.copy_missing(self._adoption)

    def _copy_part(self, part: Part) -> None:
        while part.copied < part.pages:
            self._check_space()
            began = time.monotonic()
            end_page = min(part.copied + self._pages, part.pages)
            with uninterrupted():
                result = self._repo.copy_pages(self._adoption, part, end_page)
                self.inserted += result.inserted
            self._progress(end_page - part.copied)
            self._adapt(end_page - part.copied, result.rows)
            part = part._replace(copied=end_page)
            self._rest(began, result.rows)

    def _adapt(self, pages: int, rows: int) -> None:
        """Adapt the number of pages to the length of rows, so that they contain about one batch."""
        # It grows at most fourfold at a time, since the next pages may contain more rows.
        wanted_pages = pages * self._batch // max(rows, 1)
        self._pages = max(1, min(wanted_pages, pages * 4, _MAX_PAGES))

    def _rest(self, began: float, rows: int) -> None:
        if self._pace:
            time.sleep(max(0.0, rows / self._pace - (time.monotonic() - began)))
