"""The source that counts from rollups and the tail."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from heapq import nlargest
from typing import NamedTuple

from common.query import Query
from config.database import Cursor
from repo.cache_versions import format_cache_version
from repo.engine.cardinality import CardinalityCache, PartialAggregate
from repo.engine.cost import FEW_SETS, MAX_EDGE_EVENTS, Cost, windows_cost
from repo.engine.dimensions import ALL, EventNameDictionary, EventNameFilter, Key
from repo.engine.rollup_reader import Partials, RollupReader
from repo.engine.source import Count, CountSeries, Top
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import Watermark, read_user_count
from utils.time.calendar import Interval, Range, first_day

_MONTH_DAYS = 31
_EVENT_NAMES = EventNameDictionary()


class EngineCaches(NamedTuple):
    """Caches of rows and of the cardinality of their unions, which belong together."""

    spans: SpanCache
    cardinalities: CardinalityCache


# Shared by all threads of the process, for committed data only.
CACHES = EngineCaches(SpanCache(), CardinalityCache())


class RollupSource:
    """A source on rollups; see `Source` for its methods."""

    kind = "rollups"

    def __init__(
        self,
        cur: Cursor,
        query: Query,
        watermark: Watermark,
        *,
        is_guarded: bool = True,
        caches: EngineCaches = CACHES,
    ) -> None:
        """With `is_guarded`, queries that exceed the limits of cost raise TooExpensive."""
        self._is_guarded = is_guarded
        self._caches = caches
        self._cur = cur
        self._query = query
        self._watermark = watermark

    @property
    def cache_version(self) -> str | None:
        watermark, months = self._watermark, self._query.months
        return (
            format_cache_version(watermark.lineage, watermark.changed_version) if months else None
        )

    @property
    def horizon(self) -> datetime | None:
        return self._watermark.horizon

    def needs_dropped(self, ranges: Sequence[Range]) -> bool:
        return self._reader().needs_dropped(ranges)

    def cost(self, ranges: Sequence[Range], *, by_name: bool) -> Cost:
        return self._reader(by_name=by_name).cost(ranges)

    allowed_events = MAX_EDGE_EVENTS

    def tail(self) -> int:
        return self._reader().tail()

    def counts(self, ranges: Sequence[Range]) -> CountSeries:
        partials = self._partials(ranges)
        return CountSeries(self._count(partials), [self._count([partial]) for partial in partials])

    def top(self, time_range: Range, limit: int) -> Top:
        reader = self._reader(by_name=True)
        (partials,) = reader.partials([time_range])
        first = _most_frequent(partials, reader.name_filter, limit)
        rows = [(name, self._count([partials[key]])) for key, name in first.items()]
        others = [partial for key, partial in partials.items() if key not in first]
        return Top(self._count([*partials.values()]), rows, len(others), self._count(others))

    def by_name(self, ranges: Sequence[Range]) -> list[list[tuple[str, Count]]]:
        """Return the event names of each range with their counts."""
        reader = self._reader(by_name=True)
        range_partials = reader.partials(ranges)
        names = reader.name_filter.names_of(
            {key for partials in range_partials for key in partials}
        )
        return [
            [(names[key], self._count([partial])) for key, partial in partials.items()]
            for partials in range_partials
        ]

    def active_cost(self, ranges: Sequence[Range]) -> Cost:
        cost, users = self.cost(ranges, by_name=False), read_user_count(self._cur)
        return cost + windows_cost(len(ranges), self._longest_window, cost.bytes, users)

    @property
    def _longest_window(self) -> int:
        """The length of the longest window in days."""
        return max(_MONTH_DAYS, self._query.window)

    def active(self, days: Sequence[date], ranges: Sequence[Range]) -> Mapping[str, list[int]]:
        # The reader checks the cost of rows; this check includes that of the windows.
        if self._is_guarded and len(ranges) + self._longest_window > FEW_SETS:
            self.active_cost(ranges).check(MAX_EDGE_EVENTS)
        partials = self._partials(ranges)
        cardinalities, query = self._caches.cardinalities, self._query
        return {
            **self._rolling(partials),
            "active": cardinalities.rolling(partials, query.window),
            "calendar_week": cardinalities.running(partials, _firsts(query, days, "week")),
            "calendar_month": cardinalities.running(partials, _firsts(query, days, "month")),
        }

    def rolling(self, ranges: Sequence[Range], window: int) -> dict[str, list[int]]:
        """Return dau, wau, mau and the users of the window, for consecutive days."""
        partials = self._partials(ranges)
        return {
            **self._rolling(partials),
            "active": self._caches.cardinalities.rolling(partials, window),
        }

    def _rolling(self, days: Sequence[PartialAggregate]) -> dict[str, list[int]]:
        cardinalities = self._caches.cardinalities
        return {
            "dau": [cardinalities.count([day]) for day in days],
            "wau": cardinalities.rolling(days, 7),
            "mau": cardinalities.rolling(days, 30),
        }

    def _partials(self, ranges: Sequence[Range]) -> list[PartialAggregate]:
        return [_partial_of_all(partials) for partials in self._reader().partials(ranges)]

    def _count(self, partials: Sequence[PartialAggregate]) -> Count:
        events = sum(partial.events for partial in partials)
        return Count(events, self._caches.cardinalities.count(partials))

    def _reader(self, *, by_name: bool = False) -> RollupReader:
        cur, watermark, query = self._cur, self._watermark, self._query
        name_filter = EventNameFilter(
            cur, watermark, query.event_names, _EVENT_NAMES, by_name=by_name
        )
        return RollupReader(
            cur, watermark, self._caches.spans, name_filter, query, is_guarded=self._is_guarded
        )


def _most_frequent(partials: Partials, name_filter: EventNameFilter, limit: int) -> dict[Key, str]:
    """Return the names of the most frequent keys, in the order of the answer."""
    # Only the names that are needed are read: all above the last place, and of those that tie for
    # it the first ones by name.
    least = min(nlargest(limit, (partial.events for partial in partials.values())), default=0)
    more = [key for key, partial in partials.items() if partial.events > least]
    tied = [key for key, partial in partials.items() if partial.events == least]
    names = name_filter.names_of(more) | name_filter.first_names(tied, limit - len(more))
    return dict(sorted(names.items(), key=lambda named: (-partials[named[0]].events, named[1])))


def _partial_of_all(partials: Partials) -> PartialAggregate:
    return partials.get(ALL, PartialAggregate())


def _firsts(query: Query, days: Sequence[date], unit: Interval) -> list[bool]:
    return [first_day(day, unit, query.week_start) == day for day in days]
