"""Adopting a table step by step: each can be cut off, and is gone on with by the same command."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from repo.adopt.adoption import AdoptRepo, LockHeld, Part, ReportRow
from repo.adopt.mapping import AdoptionNames, TableMapping
from repo.adopt.tables import CannotAdopt, Table
from repo.adopt.trigger import Adoption
from utils.signals import uninterrupted

R = TypeVar("R")

BATCH = 10_000
WAIT_S = 60.0
"""How long is tried to get the table for a moment."""

# Writers wait behind the one who waits for the table, so that it is given up soon.
_LOCK_MS = 200
_PAUSES_S = (0.1, 1.0)
_FIRST_PAGES = 32
_MAX_PAGES = 10_000


WRONG = ("missing", "taken")
"""What rows should not be. To be `taken` is to have the id of another row, or to have been another
event on coming in; rows that are `expired` or `suppressed` are left out as they should be."""


@dataclass(slots=True)
class Day:
    """What became of the rows of a day."""

    rows: int = 0
    events: int = 0
    others: Counter[str] = field(default_factory=Counter)
    """Rows that are no events though they could be, by what they are instead."""

    @property
    def is_consistent(self) -> bool:
        return not any(self.others[state] for state in WRONG)


@dataclass(slots=True)
class Comparison:
    """What became of all rows of a table, as one snapshot sees them."""

    days: dict[date, Day] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> Day:
        days = self.days.values()
        return Day(
            sum(day.rows for day in days) + self.rejected.total(),
            sum(day.events for day in days),
            sum((day.others for day in days), Counter()),
        )


def compare_rows(rows: Iterable[ReportRow]) -> Comparison:
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
    """Raises: CannotAdopt, also where writers hold the table for too long."""
    return _retry_while_locked(
        repo, table, lambda: repo.install(table, field_map, adoption_names, _LOCK_MS)
    )


def release(repo: AdoptRepo, table: Table, adoption_names: AdoptionNames, adoption_id: int) -> None:
    """The trigger does nothing at once, and goes as soon as nobody holds the table.

    Raises: CannotAdopt.
    """
    repo.disable_trigger(adoption_id, adoption_names.home)
    _retry_while_locked(repo, table, lambda: repo.drop(adoption_id, adoption_names.home, _LOCK_MS))


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
    whose = f": process {holder[0]} has done so for {holder[1]} s" if holder else ""
    return f"transactions hold {table.name} all the time{whose}. Run the same command again"


class Copier:
    """Copies pages in batches of about so many rows, and at most so many rows a second."""

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
        """`progress` is told how many pages; `pace` 0: as fast as it goes. `check_room` is called
        before each batch, and raises where there is none."""
        self._check_space = check_space
        self._repo = repo
        self._adoption = adoption
        self._batch = batch
        self._pace = pace
        self._progress = progress
        self._pages = _FIRST_PAGES
        self.inserted = 0
        """Events that are new, and committed."""

    def copy(self) -> None:
        """Copy what was there when the trigger came."""
        for part in self._repo.parts(self._adoption):
            self._copy_part(part)

    def copy_missing(self) -> None:
        """Copy what is no event and should be, wherever in the table it is."""
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
        """Rows are of any length: as many pages as hold one batch, coming there step by step."""
        wanted_pages = pages * self._batch // max(rows, 1)
        self._pages = max(1, min(wanted_pages, pages * 4, _MAX_PAGES))

    def _rest(self, began: float, rows: int) -> None:
        if self._pace:
            time.sleep(max(0.0, rows / self._pace - (time.monotonic() - began)))
