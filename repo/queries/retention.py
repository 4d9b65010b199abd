"""Compute the answer to `retention` from the entries of users and the events that follow."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from common.dates import EARLIEST
from common.questions.answer import Checkpoint
from common.questions.retention import (
    Cell,
    Cohort,
    RetentionData,
    RetentionQuery,
    TotalCell,
)
from repo.cohorts import counts
from repo.cohorts.calendar import parts_of
from repo.cohorts.collector import CohortCollector
from repo.cohorts.counts import CohortCounts, calendar_counts
from repo.cohorts.elapsed_windows import ElapsedWindows, TimedEvents
from repo.cohorts.entries import (
    EntryCollector,
    FirstEntries,
    FirstEntriesOfPeriods,
    UsersOfPeriods,
)
from repo.cohorts.presence import MemoryBudget, Presence, UserFlags
from repo.engine.scan import Scan
from repo.engine.timeline import microseconds
from repo.queries.base import ScanReduction
from repo.queries.series import begun_buckets
from utils.time.calendar import Range, whole_units

_MICROSECOND = timedelta(microseconds=1)
_ALTERNATIVES = "`start={horizon}` or later with `entry=first_in_range`, or without properties"


class RetentionReduction(ScanReduction[RetentionQuery, RetentionData], query=RetentionQuery):
    """The cohorts of the periods that have begun, and their cells up to now."""

    def __init__(self, query: RetentionQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        assert query.interval, "cohorts are those of an interval"
        more = query.periods - 1
        self._periods = whole_units(
            time_range, query.interval, query.zone, week_start=query.week_start, more=more
        )
        self._cohorts = begun_buckets(query, time_range, now) if self._periods else []
        self._window = timedelta(hours=query.window_hours)
        self._is_elapsed = query.clock == "24h"
        self._is_open_ended = query.count == "on_or_after"
        since = EARLIEST if query.entry == "first_ever" else None
        self._parts = parts_of(self._periods, time_range, since=since, until=self._until())

    def scan(self) -> Scan:
        conditions = (self.query.entry_events.filter, self.query.return_events.filter)
        return self._scan(
            [part.time_range for part in self._parts],
            filters=tuple(each for each in conditions if each),
            fields=frozenset({"time", "event_id"} if self._is_elapsed else ()),
            parameter="from",
            **({"alternatives": _ALTERNATIVES} if self.query.entry == "first_ever" else {}),
        )

    def collector(self) -> CohortCollector:
        budget = MemoryBudget()
        returns = TimedEvents(budget) if self._is_elapsed else Presence(budget)
        return CohortCollector(
            parts=self._parts,
            entry=self.query.entry_events.filter,
            comeback=self.query.return_events.filter,
            entries=self._entries(returns, budget),
            returns=returns,
            earlier=UserFlags(budget) if self.query.entry == "first_ever" else None,
            budget=budget,
        )

    def data(self, collector: CohortCollector, checkpoint: Checkpoint) -> RetentionData:
        users, present, of = (each[0] for each in self._counts(collector, checkpoint))
        cohorts = [
            self._cohort(number, size, self._cells(number, *cells))
            for number, (size, *cells) in enumerate(
                zip(users.tolist(), present.tolist(), of.tolist(), strict=True)
            )
        ]
        return RetentionData(cohorts, self._total(present, of))

    def extra_meta(self) -> dict[str, Any]:
        return {"complete_until": self.now.astimezone(self.query.zone)}

    def _until(self) -> datetime | None:
        """Return until when events after the last period are read; None for not at all."""
        if self._is_open_ended:
            return self.now
        if self._is_elapsed:
            return self.time_range.end + self.query.periods * self._window
        return None

    def _entries(self, returns: Presence | TimedEvents, budget: MemoryBudget) -> EntryCollector:
        query, count = self.query, len(self._cohorts)
        is_first = query.entry != "each"
        if not isinstance(returns, TimedEvents):
            is_shared = self._are_returns_entries
            presence = returns if is_shared else Presence(budget)
            return UsersOfPeriods(presence, count, is_first=is_first, is_shared=is_shared)
        starts = np.array([microseconds(each.part.start) for each in self._cohorts], np.int64)
        return FirstEntries(starts, budget) if is_first else FirstEntriesOfPeriods(starts, budget)

    @property
    def _are_returns_entries(self) -> bool:
        """Whether in the periods of cohorts all events to return with are entries, too."""
        is_cut = any(bucket.cut for bucket in self._cohorts)
        return self.query.entry_events == self.query.return_events and not is_cut

    def _counts(self, collector: CohortCollector, checkpoint: Checkpoint) -> CohortCounts:
        """Return the users of cohorts and cells. Raises: what the checkpoint raises."""
        cohorts = collector.cohorts(checkpoint)
        returns = collector.returns
        if not isinstance(returns, TimedEvents):
            return calendar_counts(
                cohorts, returns, self.query.periods, is_open_ended=self._is_open_ended
            )
        windows = ElapsedWindows(
            length=self._window // _MICROSECOND,
            count=self.query.periods,
            clock=microseconds(self.now),
            is_open_ended=self._is_open_ended,
        )
        is_each = self.query.entry == "each"
        waves: Iterable[Sequence[counts.Cohort]] = ([each] for each in cohorts)
        return windows.counts(waves if is_each else [list(cohorts)], returns, collector.budget)

    def _cohort(self, number: int, users: int, cells: list[Cell | None]) -> Cohort:
        bucket = self._cohorts[number]
        return Cohort(bucket.day, bucket.start, bucket.end, bucket.cut, users, cells)

    def _cells(self, cohort: int, present: list[int], of: list[int]) -> list[Cell | None]:
        return [
            self._cell(self._period(cohort, number), *cell)
            for number, cell in enumerate(zip(present, of, strict=True))
        ]

    def _cell(self, period: Range, users: int, of: int) -> Cell | None:
        if period.start > self.now:
            return None
        more = {"open_ended": True} if self._is_open_ended else {}
        return Cell(users, of, _share(users, of), partial=period.end > self.now, **more)

    def _period(self, cohort: int, cell: int) -> Range:
        """Return the range in which the events of a cell are."""
        if not self._is_elapsed:
            return self._periods[cohort + cell]
        start, end = self._cohorts[cohort].part
        return Range(start + cell * self._window, end + (cell + 1) * self._window)

    def _total(self, present: counts.Counts, of: counts.Counts) -> list[TotalCell]:
        total = list[TotalCell]()
        for cell in range(self.query.periods):
            ends = [self._period(cohort, cell).end for cohort in range(len(self._cohorts))]
            is_over = np.array([end <= self.now for end in ends], np.bool_)
            users, all_users = (int(part[is_over, cell].sum()) for part in (present, of))
            total.append(TotalCell(users, all_users, _share(users, all_users)))
        return total


def _share(users: int, of: int) -> float | None:
    return users / of if of else None
