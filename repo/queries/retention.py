"""Compute the answer to `retention` from the entries of users and the events that follow."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from common import cells
from common.dates import EARLIEST
from common.filters import Value
from common.property_values import json_value
from common.questions.answer import Checkpoint
from common.questions.retention import (
    Cell,
    Cohort,
    RetentionData,
    RetentionPart,
    RetentionQuery,
    RetentionRow,
    TotalCell,
)
from repo.cohorts.calendar import parts_of
from repo.cohorts.collector import CohortCollector
from repo.cohorts.counts import (
    ALL_IN_ONE,
    CohortCounts,
    Counts,
    Grouping,
    calendar_counts,
    present_in_period,
)
from repo.cohorts.counts import Cohort as UserCohort
from repo.cohorts.elapsed_windows import ElapsedWindows, TimedEvents
from repo.cohorts.entries import (
    EntryCollector,
    FirstEntries,
    FirstEntriesOfPeriods,
    UsersOfPeriods,
)
from repo.cohorts.presence import Flags, MemoryBudget, Presence, UserFlags
from repo.cohorts.ranking import ranked
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.engine.timeline import microseconds
from repo.engine.user_sets import UserSets
from repo.queries.base import UserSetReduction
from repo.queries.cell_users import codes_of_row, number_of
from repo.queries.series import begun_buckets, bucket_of
from repo.sequences.first_values import FirstValues
from utils.time.calendar import Range, whole_units

_MICROSECOND = timedelta(microseconds=1)
_ALTERNATIVES = "`start={horizon}` or later with `entry=first_in_range`, or without properties"


class RetentionReduction(UserSetReduction[RetentionQuery, RetentionData], query=RetentionQuery):
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
        conditions, by = (
            (self.query.entry_events.filter, self.query.return_events.filter),
            self.query.by,
        )
        return self._scan(
            [part.time_range for part in self._parts],
            filters=tuple(each for each in conditions if each),
            paths=frozenset([by.path] if by else []),
            fields=frozenset({"time", "event_id"} if self._has_times else ()),
            parameter="from",
            parameters={by.path: "by"} if by else {},
            **({"alternatives": _ALTERNATIVES} if self.query.entry == "first_ever" else {}),
        )

    def user_sets(self) -> Sequence[Aggregation]:
        query = self.query
        selections = (query.entry_events, query.return_events)
        has_conditions = any(each.where for each in selections) or query.reads_properties
        if has_conditions or self._has_times:
            return ()
        is_needed = [
            [part.is_entry or part.is_earlier for part in self._parts],
            [part.is_return for part in self._parts],
        ]
        return tuple(
            self._aggregation(
                [
                    each.time_range if needed else Range(each.time_range.end, each.time_range.end)
                    for each, needed in zip(self._parts, flags, strict=True)
                ],
                event_names=_common_names(query.event_names, selection.names),
            )
            for selection, flags in zip(selections, is_needed, strict=True)
        )

    def add_user_sets(self, collector: CohortCollector, sets: Sequence[UserSets]) -> None:
        entering, returning = sets
        for index in range(len(self._parts)):
            collector.add_users(index, entering.users(index), returning.users(index))

    def collector(self) -> CohortCollector:
        budget = MemoryBudget()
        returns = TimedEvents(budget) if self._is_elapsed else Presence(budget)
        values = FirstValues(self.query.by.path) if self.query.by else None
        return CohortCollector(
            parts=self._parts,
            entry=self.query.entry_events.filter,
            comeback=self.query.return_events.filter,
            entries=self._entries(returns, budget, values),
            returns=returns,
            values=values,
            earlier=UserFlags(budget) if self.query.entry == "first_ever" else None,
            budget=budget,
        )

    def data(self, collector: CohortCollector, checkpoint: Checkpoint) -> RetentionData:
        cohorts = collector.cohorts(checkpoint)
        values = collector.values
        if values is None:
            counts = self._counts(collector, cohorts, ALL_IN_ONE)
            return RetentionData(*self._cohorts_and_total(*(each[0] for each in counts)))
        listed = list(cohorts)
        shown, grouping = ranked(listed, values.values, self.query.limit)
        counts = self._counts(collector, listed, grouping)
        *rows, other, missing = (self._part(*each) for each in zip(*counts, strict=True))
        return RetentionData(
            *self._cohorts_and_total(*(each.sum(axis=0) for each in counts)),
            rows=[
                RetentionRow(json_value(values.values[code]), part.users, part.cohorts, part.total)
                for code, part in zip(shown, rows, strict=True)
            ],
            other=other,
            missing=missing,
        )

    def cell_users(
        self, collector: CohortCollector, cell: cells.Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        """Return the users that a cell counts.

        Raises: InvalidParameter, TooExpensive, and what the checkpoint raises.
        """
        number = bucket_of(cell, "cohort", self._cohorts)
        period = number_of(cell, "period", 0, self.query.periods - 1)
        # With `entry=each`, all cohorts together may take far more memory than the entries.
        needs_all = number is None or collector.values is not None
        cohorts = {
            index: cohort
            for index, cohort in enumerate(collector.cohorts(checkpoint))
            if needs_all or index == number
        }
        codes = self._codes_of_row(cell, collector, list(cohorts.values()))
        if number is None:
            parts = [each.ordinals[_in_row(each, codes)] for each in cohorts.values()]
            return np.concatenate([*parts, np.zeros(0, np.intp)]).astype(np.uint32)
        cohort = cohorts[number]
        counted = _in_row(cohort, codes)
        if period is not None:
            counted &= self._present(collector, cohort, number, period)
        return cohort.ordinals[counted].astype(np.uint32)

    def _codes_of_row(
        self, cell: cells.Cell, collector: CohortCollector, cohorts: Sequence[UserCohort]
    ) -> Flags | None:
        """Return which codes of values are in the row of a cell; None without one."""
        values, shown = list[Value](), list[int]()
        if collector.values:
            values = collector.values.values
            shown, _ = ranked(cohorts, values, self.query.limit)
        return codes_of_row(cell, self.query.by, values, shown)

    def _present(
        self, collector: CohortCollector, cohort: UserCohort, number: int, period: int
    ) -> Flags:
        """Return which users of a cohort are present in one of its periods."""
        returns = collector.returns
        if isinstance(returns, TimedEvents):
            return self._windows.present(cohort, period, returns, collector.budget)
        return present_in_period(
            cohort, returns, number + period, is_open_ended=self._is_open_ended
        )

    def _part(self, users: Counts, present: Counts, of: Counts) -> RetentionPart:
        return RetentionPart(int(users.sum()), *self._cohorts_and_total(users, present, of))

    def _cohorts_and_total(
        self, users: Counts, present: Counts, of: Counts
    ) -> tuple[list[Cohort], list[TotalCell]]:
        """Return the cohorts and the total of a group, from the counts of its users."""
        cohorts = [
            self._cohort(number, size, self._cells(number, *cells))
            for number, (size, *cells) in enumerate(
                zip(users.tolist(), present.tolist(), of.tolist(), strict=True)
            )
        ]
        return cohorts, self._total(present, of)

    def events_without_user(self, collector: CohortCollector) -> int:
        return collector.entries_without_user

    def extra_meta(self) -> dict[str, Any]:
        return {"complete_until": self.now.astimezone(self.query.zone)}

    def _until(self) -> datetime | None:
        """Return until when events after the last period are read; None for not at all."""
        if self._is_open_ended:
            return self.now
        if self._is_elapsed:
            return self.time_range.end + self.query.periods * self._window
        return None

    def _entries(
        self, returns: Presence | TimedEvents, budget: MemoryBudget, values: FirstValues | None
    ) -> EntryCollector:
        query, count = self.query, len(self._cohorts)
        is_first = query.entry != "each"
        if isinstance(returns, Presence) and values is None:
            is_shared = self._are_returns_entries
            presence = returns if is_shared else Presence(budget)
            return UsersOfPeriods(presence, count, is_first=is_first, is_shared=is_shared)
        starts = np.array([microseconds(each.part.start) for each in self._cohorts], np.int64)
        kind = FirstEntries if is_first else FirstEntriesOfPeriods
        return kind(starts, budget, values)

    @property
    def _are_returns_entries(self) -> bool:
        """Whether in the periods of cohorts all events to return with are entries, too."""
        is_cut = any(bucket.cut for bucket in self._cohorts)
        return self.query.entry_events == self.query.return_events and not is_cut

    @property
    def _has_times(self) -> bool:
        """Whether the times and ids of entries are collected."""
        return self._is_elapsed or self.query.by is not None

    def _counts(
        self, collector: CohortCollector, cohorts: Iterable[UserCohort], grouping: Grouping
    ) -> CohortCounts:
        """Return the users of cohorts and cells. Raises: what the iterator of cohorts raises."""
        returns = collector.returns
        if not isinstance(returns, TimedEvents):
            return calendar_counts(
                cohorts, returns, self.query.periods, grouping, is_open_ended=self._is_open_ended
            )
        waves: Iterable[Sequence[UserCohort]] = (
            ([each] for each in cohorts) if self.query.entry == "each" else [list(cohorts)]
        )
        return self._windows.counts(waves, returns, collector.budget, grouping)

    @property
    def _windows(self) -> ElapsedWindows:
        return ElapsedWindows(
            length=self._window // _MICROSECOND,
            count=self.query.periods,
            clock=microseconds(self.now),
            is_open_ended=self._is_open_ended,
        )

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

    def _total(self, present: Counts, of: Counts) -> list[TotalCell]:
        total = list[TotalCell]()
        for cell in range(self.query.periods):
            ends = [self._period(cohort, cell).end for cohort in range(len(self._cohorts))]
            is_over = np.array([end <= self.now for end in ends], np.bool_)
            users, all_users = (int(part[is_over, cell].sum()) for part in (present, of))
            total.append(TotalCell(users, all_users, _share(users, all_users)))
        return total


def _common_names(names: list[str] | None, others: Sequence[str]) -> list[str] | None:
    """Return the event names of a question that a selection has, too; None for all names."""
    if not others:
        return names
    return [name for name in others if names is None or name in names]


def _in_row(cohort: UserCohort, codes: Flags | None) -> Flags:
    """Return which users of a cohort entered with a value of a row; all of them without one."""
    if codes is None:
        return np.ones(len(cohort.ordinals), np.bool_)
    flags: Flags = codes[cohort.values]
    return flags


def _share(users: int, of: int) -> float | None:
    return users / of if of else None
