"""Compute the answer to `lifecycle` from the users of each period."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import numpy as np

from common.cells import Cell
from common.dates import EARLIEST
from common.questions.answer import Checkpoint
from common.questions.lifecycle import STATUSES, LifecycleData, LifecyclePeriod, LifecycleQuery
from repo.cohorts.collector import PeriodCollector
from repo.cohorts.presence import Flags
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.engine.user_sets import UserSets
from repo.queries.base import UserSetReduction
from repo.queries.cell_users import option_of, users_where
from repo.queries.series import begun_buckets, bucket_of
from utils.time.calendar import Range, whole_units


class LifecycleReduction(UserSetReduction[LifecycleQuery, LifecycleData], query=LifecycleQuery):
    """The users of each period that has begun, of the period before, and of all earlier time."""

    def __init__(self, query: LifecycleQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        is_empty = time_range.start == time_range.end
        self._periods = [] if is_empty else begun_buckets(query, time_range, now)

    def scan(self) -> Scan:
        return self._scan(self._ranges(), alternatives="events without `where`")

    def user_sets(self) -> Sequence[Aggregation]:
        return () if self.query.reads_properties else (self._aggregation(self._ranges()),)

    def add_user_sets(self, collector: PeriodCollector, sets: Sequence[UserSets]) -> None:
        for index in range(len(self._ranges())):
            collector.add_users(index, sets[0].users(index))

    def _ranges(self) -> list[Range]:
        """Return all time before the previous period, that one, and the periods."""
        periods = [period.part for period in self._periods]
        if not periods:
            return []
        previous = self._previous(periods[0])
        earlier = Range(min(EARLIEST, previous.start), previous.start)
        return [earlier, previous, *periods]

    def collector(self) -> PeriodCollector:
        return PeriodCollector(first=1, counted=2)

    def events_without_user(self, collector: PeriodCollector) -> int:
        return collector.events_without_user

    def data(self, collector: PeriodCollector, checkpoint: Checkpoint) -> LifecycleData:
        return LifecycleData(list(self._series(collector, checkpoint)))

    def _series(
        self, collector: PeriodCollector, checkpoint: Checkpoint
    ) -> Iterator[LifecyclePeriod]:
        presence, known = collector.presence, collector.earlier_users()
        previous = presence.flags(0)
        known |= previous
        for number, bucket in enumerate(self._periods, 1):
            checkpoint()
            active = presence.flags(number)
            yield LifecyclePeriod(
                bucket.day,
                bucket.start,
                bucket.end,
                *_counts(active, previous, known),
                partial=bucket.partial,
            )
            known |= active
            previous = active

    def cell_users(
        self, collector: PeriodCollector, cell: Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        """Return the users of one status in one period.

        Raises: InvalidParameter, and what the checkpoint raises.
        """
        number = bucket_of(cell, "start", self._periods)
        assert number is not None, "the question requires it"
        presence, known = collector.presence, collector.earlier_users()
        for earlier in range(number + 1):
            checkpoint()
            known |= presence.flags(earlier)
        active, previous = presence.flags(number + 1), presence.flags(number)
        status = option_of(cell, "status", STATUSES) or "active"
        return users_where(_users_of(status, active, previous, known))

    def _previous(self, period: Range) -> Range:
        """Return the period before the first one."""
        query = self.query
        assert query.interval, "periods have a length"
        before = Range(period.start - timedelta.resolution, period.start)
        (previous,) = whole_units(before, query.interval, query.zone, week_start=query.week_start)
        return previous


def _users_of(status: str, active: Flags, previous: Flags, known: Flags) -> Flags:
    """Return which users `_counts` counts as having a status."""
    flags: Flags
    match status:
        case "new":
            flags = active & ~known
        case "returning":
            flags = active & previous
        case "resurrected":
            flags = active & known & ~previous
        case "dormant":
            flags = previous & ~active
        case _:
            flags = active
    return flags


def _counts(active: Flags, previous: Flags, known: Flags) -> tuple[int, int, int, int, int]:
    """Return the numbers of active, new, returning, resurrected and dormant users."""
    total = int(np.count_nonzero(active))
    old = int(np.count_nonzero(active & known))
    returning = int(np.count_nonzero(active & previous))
    dormant = int(np.count_nonzero(previous)) - returning
    return total, total - old, returning, old - returning, dormant
