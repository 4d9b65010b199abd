"""Adopting a table step by step: each can be cut off, and is gone on with by the same command."""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from repo.adopt.adoption import AdoptRepo, Held, Line, Part
from repo.adopt.mapping import Map, Place
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
_MOST_PAGES = 10_000


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
    def is_true(self) -> bool:
        return not any(self.others[state] for state in WRONG)


@dataclass(slots=True)
class Comparison:
    """What became of all rows of a table, as one snapshot sees them."""

    days: dict[date, Day] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)

    @property
    def whole(self) -> Day:
        days = self.days.values()
        return Day(
            sum(day.rows for day in days) + self.rejected.total(),
            sum(day.events for day in days),
            sum((day.others for day in days), Counter()),
        )


def compared(lines: Iterable[Line]) -> Comparison:
    found = Comparison()
    for line in lines:
        if line.day is None:
            found.rejected[line.state] += line.rows
            continue
        day = found.days.setdefault(line.day, Day())
        day.rows += line.rows
        if line.state == "event":
            day.events += line.events
            day.others["taken"] += line.rows - line.events
        else:
            day.others[line.state] += line.rows
    return found


def install(repo: AdoptRepo, table: Table, made: Map, place: Place) -> Adoption:
    """Raises: CannotAdopt, also where writers hold the table for too long."""
    return _tried(repo, table, lambda: repo.install(table, made, place, _LOCK_MS))


def release(repo: AdoptRepo, table: Table, place: Place, adoption_id: int) -> None:
    """The trigger does nothing at once, and goes as soon as nobody holds the table.

    Raises: CannotAdopt.
    """
    repo.silence(adoption_id, place.home)
    _tried(repo, table, lambda: repo.drop(adoption_id, place.home, _LOCK_MS))


def _tried(repo: AdoptRepo, table: Table, work: Callable[[], R]) -> R:
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return work()
        except Held:
            if time.monotonic() > deadline:
                raise CannotAdopt(_held(repo, table)) from None
            time.sleep(random.uniform(*_PAUSES_S))


def _held(repo: AdoptRepo, table: Table) -> str:
    holder = repo.holder(table)
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
        check_room: Callable[[], None] = lambda: None,
    ) -> None:
        """`progress` is told how many pages; `pace` 0: as fast as it goes. `check_room` is called
        before each batch, and raises where there is none."""
        self._check_room = check_room
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
            self._check_room()
            began = time.monotonic()
            beyond = min(part.copied + self._pages, part.pages)
            with uninterrupted():
                done = self._repo.copy_pages(self._adoption, part, beyond)
                self.inserted += done.inserted
            self._progress(beyond - part.copied)
            self._adapt(beyond - part.copied, done.rows)
            part = part._replace(copied=beyond)
            self._rest(began, done.rows)

    def _adapt(self, pages: int, rows: int) -> None:
        """Rows are of any length: as many pages as hold one batch, coming there step by step."""
        wanted = pages * self._batch // max(rows, 1)
        self._pages = max(1, min(wanted, pages * 4, _MOST_PAGES))

    def _rest(self, began: float, rows: int) -> None:
        if self._pace:
            time.sleep(max(0.0, rows / self._pace - (time.monotonic() - began)))
