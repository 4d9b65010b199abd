"""Compute the answer to `stickiness` from the users of each period."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from common.cells import Cell
from common.questions.answer import Checkpoint
from common.questions.stickiness import StickinessData, StickinessQuery
from repo.cohorts.collector import FrequencyCollector, PeriodCollector
from repo.engine.ordinals import Ordinals
from repo.engine.plan import Aggregation
from repo.engine.scan import Scan
from repo.engine.user_sets import UserSets
from repo.queries.base import UserSetReduction
from repo.queries.cell_users import number_of, users_where
from repo.queries.series import begun_buckets
from utils.time.calendar import Range


class StickinessReduction(UserSetReduction[StickinessQuery, StickinessData], query=StickinessQuery):
    """The number of periods in which each user was active, as a distribution."""

    def __init__(self, query: StickinessQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        self._periods = begun_buckets(query, time_range, now)

    def scan(self) -> Scan:
        return self._scan([period.part for period in self._periods])

    def user_sets(self) -> Sequence[Aggregation]:
        if self.query.reads_properties or self.query.min_events > 1:
            return ()
        return (self._aggregation([period.part for period in self._periods]),)

    def add_user_sets(self, collector: PeriodCollector, sets: Sequence[UserSets]) -> None:
        for index in range(len(self._periods)):
            collector.add_users(index, sets[0].users(index))

    def collector(self) -> PeriodCollector | FrequencyCollector:
        min_events = self.query.min_events
        return FrequencyCollector(min_events) if min_events > 1 else PeriodCollector()

    def events_without_user(self, collector: PeriodCollector | FrequencyCollector) -> int:
        return collector.events_without_user

    def cell_users(
        self, collector: PeriodCollector | FrequencyCollector, cell: Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        """Return the users who were active in a number of periods. Raises: InvalidParameter."""
        number = number_of(cell, "in", 1, len(self._periods))
        counts = collector.period_counts()
        if number is None or cell.count == "at_least":
            return users_where(counts >= (number or 1))
        return users_where(counts == number)

    def data(
        self, collector: PeriodCollector | FrequencyCollector, checkpoint: Checkpoint
    ) -> StickinessData:
        periods = len(self._periods)
        users = np.bincount(collector.period_counts(), minlength=periods + 1)[1:]
        at_least = users[::-1].cumsum()[::-1].tolist()
        rows = [
            {"in": number, "users": count, "at_least": more}
            for number, (count, more) in enumerate(zip(users.tolist(), at_least, strict=True), 1)
        ]
        partial = sum(period.partial or period.cut for period in self._periods)
        return StickinessData(periods, partial, at_least[0] if rows else 0, rows)
