"""Partial aggregates, and counts of their distinct users with a cache of cardinalities.

Cached rows have ids, and a cardinality is cached under the ids of its rows. It never becomes stale:
a row that changes gets another id.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import NamedTuple, TypeVar

from pyroaring import BitMap

from common.remarks import NO_REMARKS, Remarks
from repo.engine.bitmaps import rolling_counts, running_counts, union_of
from repo.engine.ordinals import Ordinals, count_distinct, set_of
from repo.engine.span_cache import Row, size_of
from utils.lru_cache import SharedLruCache

_MAX_COUNTS = 20_000  # about 4 MB
_MAX_SET_BYTES = 12 * 2**20
_SET_OVERHEAD = 200  # bytes of a cached set in addition to its own size

WindowCount = Callable[[Sequence[BitMap], int], Iterable[int]]
"""Counts the users of windows, given the sets of days from this index on."""


class Count(NamedTuple):
    """The number of events and of their distinct users."""

    events: int
    users: int


@dataclass(slots=True)
class PartialAggregate:
    """The events and users of a range and a group, collected row by row."""

    events: int = 0
    rows: list[Row] = field(default_factory=list)
    """Rows of the span cache."""
    uncached: list[BitMap] = field(default_factory=list)
    """Sets of users that were read for this query and are not cached."""
    ordinals: list[Ordinals] = field(default_factory=list)
    """The users of events of columns, in any order; they may repeat, and 0 is no user."""
    union: BitMap | None = None
    """The union of all rows and sets, once it was computed."""

    def add(self, row: Row) -> None:
        self.events += row.events
        if row.row_id:
            self.rows.append(row)
        else:
            self.uncached.append(row.users)

    def add_events(self, ordinals: Ordinals) -> None:
        """Add events by their users, with 0 for those without one."""
        self.events += len(ordinals)
        self.ordinals.append(ordinals)

    def compact(self) -> int:
        """Turn ordinals into a set, which takes less memory; return the bytes of all sets, about.

        Another pass for each user is the price.
        """
        if self.ordinals:
            self.uncached = [union_of([*self.uncached, set_of(*self.ordinals)])]
            self.ordinals = []
        return sum(map(size_of, self.uncached))


def merge(partials: Sequence[PartialAggregate]) -> PartialAggregate:
    """Return the partial aggregate of the events of all these, which have none in common."""
    if len(partials) == 1:
        return partials[0]
    return PartialAggregate(
        sum(partial.events for partial in partials),
        [row for partial in partials for row in partial.rows],
        [users for partial in partials for users in partial.uncached],
        [ordinals for partial in partials for ordinals in partial.ordinals],
    )


class CardinalityCache:
    """A bounded cache of cardinalities and unions, shared by the threads of a process."""

    def __init__(self) -> None:
        self._counts: SharedLruCache[bytes, int] = SharedLruCache(_MAX_COUNTS)
        self._sets: SharedLruCache[bytes, BitMap] = SharedLruCache(
            _MAX_SET_BYTES, size_of=lambda users: size_of(users) + _SET_OVERHEAD
        )

    def counts(self, partials: Iterable[PartialAggregate]) -> list[Count]:
        """Return the events and the distinct users of each partial aggregate."""
        keyed = [(partial, _count_key(partial)) for partial in partials]
        cardinalities = self._cardinalities({key: partial for partial, key in keyed if key})
        return [
            Count(partial.events, cardinalities[key] if key else self._cardinality(partial))
            for partial, key in keyed
        ]

    def _cardinalities(self, partials: Mapping[bytes, PartialAggregate]) -> dict[bytes, int]:
        """Return the cardinality of the rows of each partial aggregate, by the cache key."""
        if not partials:
            return {}
        cached = self._counts.get_many(partials)
        computed = {
            key: len(union_of(row.users for row in partial.rows))
            for key, partial in partials.items()
            if key not in cached
        }
        if computed:
            self._counts.put_many(computed)
        return cached | computed

    def _cardinality(self, partial: PartialAggregate) -> int:
        if partial.uncached:
            return len(self.users(partial))
        if partial.ordinals:
            return count_distinct(partial.ordinals)
        return len(partial.rows[0].users) if partial.rows else 0

    def users(self, partial: PartialAggregate) -> BitMap:
        """Return the set of users, which must not be changed: it may be shared."""
        if partial.union is None:
            users = self._union_of(partial.rows)
            others = [*partial.uncached, *([set_of(*partial.ordinals)] if partial.ordinals else [])]
            partial.union = union_of([users, *others]) if others else users
        return partial.union

    def rolling(self, days: Sequence[PartialAggregate], width: int) -> list[int]:
        """Return the users of each day and the `width - 1` days before it."""
        firsts = [max(0, index + 1 - width) for index in range(len(days))]
        return self._windows(days, firsts, lambda sets, _: rolling_counts(sets, width))

    def running(self, days: Sequence[PartialAggregate], is_first: Sequence[bool]) -> list[int]:
        """Return the users of the days from the last one that is a first to each day."""
        firsts = list(
            accumulate((at if is_start else 0 for at, is_start in enumerate(is_first)), max)
        )
        return self._windows(
            days, firsts, lambda sets, index: running_counts(sets, is_first[index:])
        )

    def _windows(
        self, days: Sequence[PartialAggregate], firsts: Sequence[int], count: WindowCount
    ) -> list[int]:
        """Return the count of each window, which begins at its index in `firsts`."""
        # A rolling count needs the days in order, so everything from the first unknown window on is
        # computed again.
        keys = _keys(days, firsts)
        cached = [self._counts.get(key) if key else None for key in keys]
        if None not in cached:
            return [number or 0 for number in cached]
        missing = cached.index(None)
        start = firsts[missing]
        computed = list(count([self.users(day) for day in days[start:]], start))[missing - start :]
        for key, number in zip(keys[missing:], computed, strict=True):
            if key:
                self._counts.put(key, number)
        return [*(number or 0 for number in cached[:missing]), *computed]

    def _union_of(self, rows: Sequence[Row]) -> BitMap:
        """Return the union of rows, which must not be changed: it may be shared."""
        if len(rows) < 2:
            return rows[0].users if rows else BitMap()
        key = _key(row.row_id for row in rows)
        users = self._sets.get(key)
        if users is None:
            users = union_of(row.users for row in rows)
            self._sets.put(key, users)
        return users


def _count_key(partial: PartialAggregate) -> bytes | None:
    """Return the cache key of a cardinality; None for one that is not cached."""
    # Uncached sets are unique to this query, and the cardinality of a single row is already known.
    if partial.uncached or partial.ordinals or len(partial.rows) < 2:
        return None
    return _key(sorted(row.row_id for row in partial.rows))


def _key(row_ids: Iterable[int]) -> bytes:
    return _digest(array("Q", row_ids).tobytes())


def _digest(row_ids: bytes) -> bytes:
    """Return a digest of 128 bits, so that collisions can be ignored."""
    return blake2b(row_ids, digest_size=16).digest()


def _keys(days: Sequence[PartialAggregate], firsts: Sequence[int]) -> list[bytes | None]:
    """Return the cache key of each window; None if it includes sets that are not cached."""
    row_ids = [array("Q", (row.row_id for row in day.rows)).tobytes() for day in days]
    last_uncached, keys = -1, list[bytes | None]()
    for index, first in enumerate(firsts):
        last_uncached = index if days[index].uncached or days[index].ordinals else last_uncached
        is_cacheable = first > last_uncached
        keys.append(_digest(b"".join(row_ids[first : index + 1])) if is_cacheable else None)
    return keys


@dataclass(frozen=True, slots=True)
class RangeAggregate:
    """The partial aggregates of one range."""

    named: Mapping[str, PartialAggregate]
    """By group, those with the most events in all ranges first; empty without groups."""
    others: PartialAggregate
    """The partial aggregate of all events that are in no named group."""


@dataclass(frozen=True, slots=True)
class Aggregates:
    """The partial aggregates of each range of an aggregation, in order."""

    ranges: list[RangeAggregate]
    cardinalities: CardinalityCache
    """Counts the distinct users of partial aggregates."""
    other_groups: int = 0
    """How many groups the others are."""
    remarks: Remarks = NO_REMARKS

    @property
    def totals(self) -> list[PartialAggregate]:
        """The partial aggregate of each range, with all its groups together."""
        return [
            merge([*part.named.values(), part.others]) if part.named else part.others
            for part in self.ranges
        ]


K = TypeVar("K", bound=Hashable)


def aggregates(
    partials: Sequence[Mapping[K, PartialAggregate]],
    named: Mapping[K, str],
    cardinalities: CardinalityCache,
) -> Aggregates:
    """Return partial aggregates by range and key as aggregates with these groups."""
    ranges = [
        RangeAggregate(
            {name: part[key] for key, name in named.items() if key in part},
            merge([aggregate for key, aggregate in part.items() if key not in named]),
        )
        for part in partials
    ]
    keys = {key for part in partials for key in part}
    return Aggregates(ranges, cardinalities, len(keys - named.keys()))
