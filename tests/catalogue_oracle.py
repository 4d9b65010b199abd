"""The catalogue in plain Python: each event by itself, without any code of the product."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from tests.where_oracle import Event

_ORDER: list[type] = [Decimal, str, bool]
_TYPES = {Decimal: "number", str: "text", bool: "boolean"}

Occurred = tuple[datetime, Event]
Path = tuple[str, ...]


class Property(NamedTuple):
    events: int
    users: int
    first_seen: datetime
    last_seen: datetime
    types: dict[str, int]
    distinct: int


class Value(NamedTuple):
    value: Any
    type: str
    events: int
    users: int


def properties(events: Iterable[Occurred]) -> dict[Path, Property]:
    """Return what events say about each property."""
    having: dict[Path, list[tuple[datetime, Event, set[Any]]]] = defaultdict(list)
    for occurred_at, event in events:
        by_path: dict[Path, set[Any]] = defaultdict(set)
        for path, value in _leaves((), event.properties):
            by_path[path].add((type(value), value))
        for path, values in by_path.items():
            having[path].append((occurred_at, event, values))
    return {path: _property(members) for path, members in having.items()}


def values(events: Iterable[Occurred], path: Path) -> list[Value]:
    """Return the values of a property, most events first."""
    having: dict[Any, list[Event]] = defaultdict(list)
    for _, event in events:
        for value in {(type(v), v) for p, v in _leaves((), event.properties) if p == path}:
            having[value].append(event)
    rows = [
        Value(value, _TYPES[kind], len(members), _users(members))
        for (kind, value), members in having.items()
    ]
    return sorted(rows, key=lambda row: (-row.events, _ORDER.index(type(row.value)), row.value))


def _property(members: list[tuple[datetime, Event, set[Any]]]) -> Property:
    types = [{_TYPES[kind] for kind, _ in values} for _, _, values in members]
    times = [occurred_at for occurred_at, _, _ in members]
    return Property(
        len(members),
        _users([event for _, event, _ in members]),
        min(times),
        max(times),
        {kind: sum(kind in each for each in types) for kind in set().union(*types)},
        len(set().union(*(values for _, _, values in members))),
    )


def _users(events: list[Event]) -> int:
    return len({event.user_id for event in events} - {None, ""})


def _leaves(path: Path, node: Any) -> Iterator[tuple[Path, Any]]:
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from _leaves((*path, key), inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _leaves(path, inner)
    elif node is not None:
        yield path, node
