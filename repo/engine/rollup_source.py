"""The source that aggregates rollups and the tail."""

from collections import Counter
from functools import partial
from heapq import nlargest
from typing import NamedTuple

from config.database import Cursor
from repo.engine.aggregate_decoder import TemporaryOrdinals
from repo.engine.bitmaps import max_bytes
from repo.engine.cardinality import Aggregates, CardinalityCache, aggregates
from repo.engine.cost import FEW_SETS, MAX_BYTES, MAX_EDGE_EVENTS, Cost, windows_cost
from repo.engine.dimensions import EventNameDictionary, EventNameFilter, Key
from repo.engine.plan import Aggregation, Cover, Kind, cover_ranges
from repo.engine.rollup_reader import Partials, RollupPlan, RollupReader, count_tail, read_cost
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import Watermark, read_user_count
from utils.time.slots import SEALED_HOURS, days_in, hours_in, months_in, slot_of
from utils.time.zones import zone

_UTC = zone("UTC")
_ALTERNATIVES = (
    "a range that has ended and begins and ends with a quarter of an hour, or about one from that "
    "time on"
)
# Up to this many rows a query is cheap, and runs without a look at its cost (0.2 ms).
COST_CHECK_ROWS = 20_000
_MAX_TAIL = 10_000  # of explained plans
_EVENT_NAMES = EventNameDictionary()


class EngineCaches(NamedTuple):
    """Caches of rows and of the cardinality of their unions, which belong together."""

    spans: SpanCache
    cardinalities: CardinalityCache


# Shared by all threads of the process, for committed data only.
CACHES = EngineCaches(SpanCache(), CardinalityCache())


class RollupSource:
    """A source on rollups, within one snapshot; see `Source` for its methods."""

    kind = "rollups"

    def __init__(
        self,
        cur: Cursor,
        watermark: Watermark,
        *,
        is_guarded: bool = True,
        caches: EngineCaches = CACHES,
    ) -> None:
        """Without `is_guarded`, the cost of plans is not looked up, so all are within limits."""
        self.cache_version = watermark.cache_version
        self._cur = cur
        self._watermark = watermark
        self._is_guarded = is_guarded
        self._caches = caches
        self._versions = caches.spans.sealed_versions(cur, watermark)
        # For all plans of the snapshot, so that their sets of users can be combined.
        self._temporary_ordinals = TemporaryOrdinals()

    def supports(self, aggregation: Aggregation) -> bool:
        return aggregation.where is None

    def plan(self, aggregation: Aggregation, *, explain: bool = False) -> RollupPlan:
        names, cover = self._names(aggregation), self._cover(aggregation)
        horizon = self._watermark.horizon
        return RollupPlan(
            source=self.kind,
            aggregation=aggregation,
            cover=cover,
            names=names,
            cost=self._cost(aggregation, cover, names, explain=explain),
            allowed_events=MAX_EDGE_EVENTS,
            tail=count_tail(self._cur, self._watermark, _MAX_TAIL) if explain else 0,
            horizon=horizon,
            needs_dropped=horizon is not None
            and any(edge.start < horizon for _, edge in cover.edges),
            alternatives=_ALTERNATIVES,
        )

    def read(self, plan: RollupPlan) -> Aggregates:
        reader = RollupReader(
            self._cur,
            self._watermark,
            self._caches.spans,
            self._versions,
            self._temporary_ordinals,
            plan,
        )
        partials = reader.read()
        group = plan.aggregation.group
        named = _most_frequent(partials, plan.names, group.limit) if group else {}
        return aggregates(partials, named, self._caches.cardinalities)

    def _names(self, aggregation: Aggregation) -> EventNameFilter:
        return EventNameFilter(
            self._cur,
            self._watermark,
            aggregation.event_names,
            _EVENT_NAMES,
            by_name=aggregation.group is not None,
        )

    def _cover(self, aggregation: Aggregation) -> Cover:
        folded_range = self._watermark.folded_range
        zones = dict.fromkeys((aggregation.zone, _UTC))
        kinds: list[Kind] = [months_in, *(partial(days_in, tz=each) for each in zones)]
        # Older hours may have been deleted.
        oldest_hour = slot_of(folded_range.end) - SEALED_HOURS
        kinds.append(partial(hours_in, since=oldest_hour))
        return cover_ranges(aggregation.ranges, folded_range, kinds, self._versions.__contains__)

    def _cost(
        self, aggregation: Aggregation, cover: Cover, names: EventNameFilter, *, explain: bool
    ) -> Cost | None:
        """Return the cost of a plan; None without `explain` if it is surely small."""
        days, window_days = max(len(aggregation.ranges) - 1, 0), aggregation.window_days
        has_large_windows = window_days > 0 and days + window_days > FEW_SETS
        is_looked_up = has_large_windows or self._may_be_large(cover, names.row_count)
        if not explain and not (self._is_guarded and is_looked_up):
            return None
        cost = read_cost(self._cur, self._watermark, cover, names)
        if has_large_windows or (explain and window_days):
            cost += windows_cost(days, window_days, cost.bytes, read_user_count(self._cur))
        return cost

    def _may_be_large(self, cover: Cover, row_count: int) -> bool:
        """Return whether to look up the cost before reading; most queries read little."""
        if cover.edges:
            return True
        slots = sum(gap.end - gap.start for _, gap in cover.gaps)
        rows = row_count * (slots + len(cover.spans))
        return rows > COST_CHECK_ROWS or (
            rows > FEW_SETS and rows * max_bytes(read_user_count(self._cur)) > MAX_BYTES
        )


def _most_frequent(
    partials: list[Partials], names: EventNameFilter, limit: int | None
) -> dict[Key, str]:
    """Return the names of the most frequent keys, in the order of the answer."""
    totals: Counter[Key] = Counter()
    for part in partials:
        totals.update({key: aggregate.events for key, aggregate in part.items()})
    if limit is None:
        return names.names_of(totals)
    # Only the names that are needed are read: all above the last place, and of those that tie for
    # it the first ones by name.
    least = min(nlargest(limit, totals.values()), default=0)
    more = [key for key, events in totals.items() if events > least]
    tied = [key for key, events in totals.items() if events == least]
    first = names.names_of(more) | names.first_names(tied, limit - len(more))
    return dict(sorted(first.items(), key=lambda named: (-totals[named[0]], named[1])))
