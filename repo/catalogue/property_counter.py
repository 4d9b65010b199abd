"""Count the events, users and values of one property, chunk by chunk."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from common.filters import Value, typed
from repo.catalogue.statistics import (
    EVENT_NAMES,
    KINDS,
    PropertyStatistics,
    ValueCount,
    kind_of,
    text_of,
)
from repo.catalogue.user_pairs import UserPairs
from repo.columns.chunk import Kind, ScaledNumbers
from repo.columns.chunk_table import Path
from repo.columns.values import python_values
from repo.engine.grouping.memberships import Selection, by_property
from repo.engine.grouping.value_table import NO_TEXTS, ValueTable
from repo.engine.ordinals import FlaggedUsers
from repo.engine.scan import MatchingEvents
from utils.distinct import distinct, is_first

MAX_DISTINCT = 100_000
"""The distinct values that are counted, at most."""
MAX_VALUES = 10_000
"""The values that a result has, at most: those with the most events."""
_MAX_TEXT = 2**24
"""The characters of all distinct values together, at most."""

Key = tuple[str, Value]
"""A value with its type."""


class PropertyCounter:
    """Counts the events of a property."""

    def __init__(
        self,
        path: Path,
        pairs: UserPairs | None = None,
        *,
        prefix: str = "",
        max_distinct: int = MAX_DISTINCT,
        max_values: int = MAX_VALUES,
    ) -> None:
        """`pairs` receives the users of each value; without it, values have no users.

        Values are only those whose texts begin with the prefix.
        """
        self.path = path
        self._prefix = prefix
        self._pairs = pairs
        self._max_distinct = max_distinct
        self._max_values = max_values
        self.events = 0
        self._types: Counter[Kind] = Counter()
        self._first, self._last = 2**63 - 1, -(2**63)
        self._users = FlaggedUsers()
        self._indexes: dict[Key, int] = {}
        """The numbers of the values, from 0 in the order of their first use."""
        self._scaled: dict[int, dict[int, int]] = {}
        """The numbers of values that are numbers, by their scale and themselves, since it takes
        longer to make exact decimals of them."""
        self._events_of: list[int] = []
        """The events of each value, by its number."""
        self._text_size = 0
        self.has_too_many = False
        """Whether there are too many distinct values."""

    def add(self, events: MatchingEvents) -> None:
        """Add the selected events of a chunk."""
        if (part := values_of(events, self.path)) is None:
            return
        rows = part.rows if part.is_single else part.rows[is_first(part.rows)]
        self.events += len(rows)
        # The events of a chunk are in the order of time.
        times = part.selection.of(events.chunk.time[events.start : events.stop])
        self._first = min(self._first, int(times[rows[0]]))
        self._last = max(self._last, int(times[rows[-1]]))
        users = part.selection.of(events.chunk.user[events.start : events.stop])
        self._users.add(users[rows])
        counts = np.bincount(part.codes, minlength=len(part.table))
        self._types.update(part.types(counts))
        if not self.has_too_many:
            self._add_values(part, counts, users[part.rows])

    @property
    def distinct(self) -> int:
        """The number of distinct values that are counted."""
        return len(self._indexes)

    @property
    def values(self) -> list[tuple[Key, int]]:
        """The values with the most events, with their numbers; ties are in the order of values."""
        ranked = sorted(self._indexes.items(), key=lambda each: self._order(*each))
        return ranked[: self._max_values]

    def statistics(self, users_of: Mapping[int, int] | None) -> PropertyStatistics:
        """Return the statistics of at least one event; `users_of` has the users by value."""
        values = None
        if users_of is not None and not self.has_too_many:
            values = [
                ValueCount(value, self._events_of[index], users_of.get(index, 0))
                for (_, value), index in self.values
            ]
        return PropertyStatistics(
            self.path,
            self.events,
            self._users.count,
            self._first,
            self._last,
            {kind: self._types[kind] for kind in KINDS if self._types[kind]},
            None if self.has_too_many else self.distinct,
            values,
        )

    def _order(self, key: Key, index: int) -> tuple[int, int, Value]:
        _, value = key
        return -self._events_of[index], KINDS.index(kind_of(value)), value

    def _add_values(
        self, part: "ValuesOfChunk", counts: NDArray[np.int64], users: NDArray[np.uint32]
    ) -> None:
        used = np.flatnonzero(counts)
        if self._prefix:
            used = used[_may_begin(part.table, used, self._prefix)]
        elif len(used) > self._max_distinct:
            self._forget_values()
            return
        numbers = self._numbers(part.table, used)
        if self.has_too_many:
            return
        for number, count in zip(numbers.tolist(), counts[used].tolist(), strict=True):
            if number >= 0:
                self._events_of[number] += count
        if self._pairs:
            self._pairs.add(_mapped(part.codes, used, numbers, len(part.table)), users)

    def _numbers(self, table: ValueTable, used: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the values of codes, -1 without the prefix.

        New values get the next numbers.
        """
        first_text = int(np.searchsorted(used, table.first_text))
        if not first_text or not isinstance(table.numbers, ScaledNumbers):
            return self._look_up(table, used)
        scaled = table.numbers.scaled[used[:first_text]].tolist()
        known = self._scaled.setdefault(table.numbers.scale, {})
        numbers = np.full(len(used), -1)
        numbers[:first_text] = [known.get(each, -1) for each in scaled]
        unknown = np.flatnonzero(numbers < 0)
        numbers[unknown] = self._look_up(table, used[unknown])
        # Not those without the prefix, which may be many.
        for position in unknown[unknown < first_text].tolist():
            if numbers[position] >= 0:
                known[scaled[position]] = int(numbers[position])
        return numbers

    def _look_up(self, table: ValueTable, used: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = []
        for key in keys_of(table, used):
            number = self._indexes.get(key, -1)
            if number < 0 and self._begins(key[1]):
                number = self._indexes[key] = len(self._indexes)
                self._events_of.append(0)
                self._text_size += len(key[1]) if isinstance(key[1], str) else 1
            numbers.append(number)
        if len(self._indexes) > self._max_distinct or self._text_size > _MAX_TEXT:
            self._forget_values()
        return np.array(numbers, np.int64)

    def _begins(self, value: Value) -> bool:
        return not self._prefix or text_of(value).startswith(self._prefix)

    def _forget_values(self) -> None:
        self.has_too_many = True
        self._indexes.clear()
        self._scaled.clear()
        self._events_of.clear()
        if self._pairs:
            self._pairs.clear()


class ValueUserCounter:
    """Counts the users of some values of a property, whose events are known."""

    def __init__(self, path: Path, numbers: Mapping[Key, int], users: UserPairs) -> None:
        """`numbers` has the numbers of these values, and `users` receives their users."""
        self._path = path
        self._numbers = numbers
        self._users = users

    def add(self, events: MatchingEvents) -> None:
        """Add the selected events of a chunk."""
        if (part := values_of(events, self._path)) is None:
            return
        users = part.selection.of(events.chunk.user[events.start : events.stop])
        used = np.flatnonzero(np.bincount(part.codes))
        numbers = [self._numbers.get(key, -1) for key in keys_of(part.table, used)]
        self._users.add(_mapped(part.codes, used, numbers, len(part.table)), users[part.rows])


class ValuesOfChunk(NamedTuple):
    """The values of a property in a chunk: a code for each distinct value of each event."""

    codes: NDArray[np.int32]
    rows: NDArray[np.int64]
    """The positions of the events among the selected ones, ascending."""
    table: ValueTable
    selection: Selection
    is_single: bool
    """Whether no event has several values."""

    def types(self, counts: NDArray[np.int64]) -> dict[Kind, int]:
        """Return how many events have values of each type; `counts` has the events by code."""
        firsts = np.array((self.table.first_text, self.table.first_boolean))
        if self.is_single:
            by_kind = [int(part.sum()) for part in np.split(counts, firsts)]
            return dict(zip(KINDS, by_kind, strict=True))
        kinds = np.searchsorted(firsts, self.codes, side="right")
        kinds = distinct(self.rows * len(KINDS) + kinds) % len(KINDS)
        events = np.bincount(kinds, minlength=len(KINDS))
        return dict(zip(KINDS, events.tolist(), strict=True))


def values_of(events: MatchingEvents, path: Path) -> ValuesOfChunk | None:
    """Return the values of a property in a chunk; None if no selected event has one.

    Values of the path `EVENT_NAMES` are the ids of names.
    """
    selection = Selection(events.mask, int(np.count_nonzero(events.mask)))
    if selection.count and path == EVENT_NAMES:
        return _names_of(events, selection)
    if not selection.count or not any(events.column(path, kind) for kind in KINDS):
        return None
    (codes, rows, _), table = by_property(events, path, selection)
    has_value = codes != table.missing
    if not has_value.any():
        return None
    positions = np.flatnonzero(has_value) if rows is None else rows[has_value]
    return ValuesOfChunk(codes[has_value], positions, table, selection, rows is None)


def _names_of(events: MatchingEvents, selection: Selection) -> ValuesOfChunk:
    ids = selection.of(events.chunk.name[events.start : events.stop])
    table = ValueTable(ScaledNumbers(np.arange(int(ids.max()) + 1), 0), NO_TEXTS)
    return ValuesOfChunk(ids, np.arange(len(ids)), table, selection, is_single=True)


def keys_of(table: ValueTable, codes: NDArray[np.int64]) -> Iterator[Key]:
    """Yield the values of codes, which are ascending and have a value, with their types."""
    taken = table.take(codes)
    values: Sequence[Value] = [
        *python_values(taken.numbers),
        *taken.texts.to_pylist(),
        *(bool(code - table.first_boolean) for code in codes if code >= table.first_boolean),
    ]
    return map(typed, values)


def _mapped(
    codes: NDArray[np.int32],
    used: NDArray[np.int64],
    numbers: NDArray[np.int64] | Sequence[int],
    size: int,
) -> NDArray[np.int64]:
    """Return the numbers of codes, -1 for those that have none."""
    table = np.full(size, -1, np.int64)
    table[used] = numbers
    return table[codes]


def _may_begin(table: ValueTable, codes: NDArray[np.int64], prefix: str) -> NDArray[np.bool_]:
    """Return whether values may begin with a text; those that are no texts always may."""
    start, end = np.searchsorted(codes, (table.first_text, table.first_boolean)).tolist()
    texts = table.texts.take(pa.array(codes[start:end] - table.first_text))
    may = np.ones(len(codes), np.bool_)
    may[start:end] = pc.starts_with(texts, pattern=prefix).to_numpy(zero_copy_only=False)
    return may
