"""Breakdowns in plain Python: each event by itself, without any code of the product."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from typing import Any, NamedTuple

from tests.where_oracle import Event, values

_ORDER: list[type] = [Decimal, str, bool, type(None)]

Count = tuple[int, int]
"""Events and users."""
By = Sequence[str] | str
"""The keys of a path, or `@event`."""


class Row(NamedTuple):
    values: list[tuple[str, Any]]
    """Each with the name of its type."""
    total: Count
    series: list[Count]


class Breakdown(NamedTuple):
    total: Count
    rows: list[Row]
    other_rows: int
    other: Row
    missing: Count


def breakdown(buckets: Sequence[Sequence[Event]], by: Sequence[By], limit: int) -> Breakdown:
    """Return the events of buckets by the distinct values of each event."""
    groups: dict[Any, list[tuple[int, Event]]] = defaultdict(list)
    for index, events in enumerate(buckets):
        for event in events:
            for key in product(*(_keys(event, path) for path in by)):
                groups[key].append((index, event))
    ranked = sorted(groups, key=lambda key: (-len(groups[key]), key))
    top, others = ranked[:limit], ranked[limit:]
    everything = [(index, event) for index, events in enumerate(buckets) for event in events]
    lacking = [key for key in groups if any(_ORDER[rank] is type(None) for rank, _ in key)]
    return Breakdown(
        _count(everything),
        [_row(key, groups[key], len(buckets)) for key in top],
        len(others),
        _row((), [each for key in others for each in groups[key]], len(buckets)),
        _count([each for key in lacking for each in groups[key]]),
    )


def repeated(events: Sequence[Event], path: By) -> int:
    """Return how many times more than once events have a distinct value."""
    return sum(len(_keys(event, path)) - 1 for event in events)


def _keys(event: Event, path: By) -> set[tuple[int, Any]]:
    """The distinct values with their types in the order of ties; the missing one has no value."""
    return {(_ORDER.index(type(each)), each) for each in values(event, path)} or {
        (_ORDER.index(type(None)), 0)
    }


def _row(key: Any, members: Sequence[tuple[int, Event]], buckets: int) -> Row:
    parts = [[each for each in members if each[0] == index] for index in range(buckets)]
    named = [
        (_ORDER[rank].__name__, None if _ORDER[rank] is type(None) else value)
        for rank, value in key
    ]
    return Row(named, _count(members), list(map(_count, parts)))


def _count(members: Sequence[tuple[int, Event]]) -> Count:
    return len(members), len({event.user_id for _, event in members} - {None, ""})
