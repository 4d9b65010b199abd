"""Explain a query: run it on a source that adds up costs and reads no events or rollups."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime

from common.questions.answer import PlanData
from repo.engine.cost import MAX_BYTES, MAX_ROWS, Cost
from repo.engine.source import NO_COUNT, CountSeries, Source, Top
from utils.time.calendar import Range


class CostEstimator:
    """A source that counts nothing, and adds up what counting would cost."""

    cache_version = None

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cost = Cost()
        self._needs_dropped = False

    @property
    def kind(self) -> str:
        return self._source.kind

    def plan(self) -> PlanData:
        """Return the plan of the calls that were made so far."""
        cost = self._cost
        tail = self._source.tail()
        return PlanData(
            self.kind,
            cost.rows,
            cost.bytes,
            cost.events,
            tail,
            MAX_ROWS,
            MAX_BYTES,
            self._source.allowed_events,
            self._source.horizon,
            self._needs_dropped,
        )

    @property
    def allowed_events(self) -> int:
        return self._source.allowed_events

    @property
    def horizon(self) -> datetime | None:
        return self._source.horizon

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        return self._source.needs_dropped(ranges)

    def tail(self) -> int:
        return self._source.tail()

    def cost(self, ranges: Sequence[Range], *, by_name: bool) -> Cost:
        self._needs_dropped |= self._source.needs_dropped(ranges)
        self._cost += self._source.cost(ranges, by_name=by_name)
        return self._cost

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        self._needs_dropped |= self._source.needs_dropped(ranges)
        self._cost += self._source.active_cost(ranges)
        return self._cost

    # The queries call these methods with the same ranges as on a real source, and go on with zeros.
    def counts(self, ranges: Sequence[Range]) -> CountSeries:
        self.cost(ranges, by_name=False)
        return CountSeries(NO_COUNT, [NO_COUNT for _ in ranges])

    def top(self, time_range: Range, limit: int) -> Top:
        self.cost([time_range], by_name=True)
        return Top(NO_COUNT, [], 0, NO_COUNT)

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        self.active_cost(ranges)
        windows = ("dau", "wau", "mau", "active", "calendar_week", "calendar_month")
        return {window: [0] * len(days) for window in windows}
