"""Evaluate filters on chunks: which events match, and which values a filter skips."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from common import filters
from common.filters import AnyOf, Condition, Exists, Filter, Name, Not, Test, conditions
from common.remarks import Note
from repo.columns.chunk import Chunk, Column, ColumnKey, Kind, TextValues
from repo.columns.value_matching import in_intervals, matching_values

KINDS: tuple[Kind, ...] = ("text", "number", "boolean")

Mask = NDArray[np.bool_]

# Comparing with each of a few ids is faster than looking ids up in a table.
_FEW_IDS = 8


class IdSet:
    """Ids of event names, or ordinals of users."""

    def __init__(self, ids: Iterable[int] | NDArray[np.integer]) -> None:
        self._ids = ids if isinstance(ids, np.ndarray) else np.fromiter(ids, np.int64)
        self._table = np.zeros(0, np.bool_)
        if len(self._ids) > _FEW_IDS:
            # Greater values are clipped to the last entry, which is false.
            self._table = np.zeros(int(self._ids.max()) + 2, np.bool_)
            self._table[self._ids] = True

    def __or__(self, other: "IdSet") -> "IdSet":
        if not len(other._ids):
            return self
        return IdSet(np.concatenate([self._ids, other._ids]))

    def contains(self, values: NDArray[Any]) -> Mask:
        """Return for each value whether it is in the set; a new array."""
        if len(self._table):
            return self._table.take(values, mode="clip")
        return in_intervals(values, [(each, each + 1) for each in self._ids.tolist()])


def matching_ids(test: Test, ids: Mapping[str, int]) -> IdSet:
    """Return the ids of the texts that match a test, from the ids of all texts."""
    texts = sorted(ids)
    values = TextValues(np.arange(len(texts), dtype=np.int32), pa.array(texts, pa.string()))
    hits = matching_values(test, values, slice(None))
    return IdSet(ids[texts[code]] for code in np.flatnonzero(hits))


@dataclass(frozen=True, slots=True)
class EventFields:
    """The ids that match each condition on `@event`, and the ordinals for those on `@user`.

    Conditions that `field_conditions` does not yield need none.
    """

    ids: Mapping[Condition, IdSet] = field(default_factory=dict)


def field_conditions(where: Filter) -> Iterator[Condition]:
    """Yield the conditions whose ids `EventFields` must have."""
    for condition in conditions(where):
        if condition.name.field and isinstance(condition.test, AnyOf):
            yield condition


def paths_of(where: Filter) -> frozenset[tuple[str, ...]]:
    """Return the paths of all properties in a filter."""
    return frozenset(each.name.path for each in conditions(where) if not each.name.field)


def columns_of(where: Filter) -> frozenset[ColumnKey]:
    """Return the columns that `matches` and `skipped_values` read, where they exist."""
    return frozenset(
        ColumnKey(each.name.path, kind)
        for each in conditions(where)
        if not each.name.field
        for kind in (KINDS if _used_kind(each.test) else _kinds(each.test))
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a chunk from `start` to before `stop`."""

    chunk: Chunk
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def none(self) -> Mask:
        return np.zeros(len(self), np.bool_)

    def values(self, column: Column) -> slice:
        """Return which values of a column are in these rows."""
        if column.rows is None:
            return slice(self.start, self.stop)
        # An integer of the same type, or numpy would convert all rows.
        edges = np.array((self.start, self.stop), column.rows.dtype)
        return slice(*column.rows.searchsorted(edges).tolist())

    def with_value(self, column: Column, hits: Mask | None = None) -> Mask:
        """Return which rows have a value, or one of the hits among the values of `values`."""
        if column.rows is None:
            return np.ones(len(self), np.bool_) if hits is None else hits
        rows = column.rows[self.values(column)]
        mask = self.none()
        # `compress` takes half the time of an index.
        mask[(rows if hits is None else rows.compress(hits)) - self.start] = True
        return mask


def matches(
    where: Filter, chunk: Chunk, fields: EventFields, start: int = 0, stop: int | None = None
) -> Mask:
    """Return which events match, of the rows of a chunk from `start` to before `stop`.

    The array is new and may be changed.
    """
    rows = _Rows(chunk, start, len(chunk) if stop is None else stop)
    return _evaluate(where, rows, fields)


def _evaluate(where: Filter, rows: _Rows, fields: EventFields) -> Mask:
    if isinstance(where, Condition):
        return _condition(where, rows, fields)
    if isinstance(where, Not):
        mask = _evaluate(where.part, rows, fields)
        return np.logical_not(mask, out=mask)
    # Slow conditions come last, since nothing more is evaluated when no event is left.
    first, *others = sorted(where.parts, key=_is_slow)
    mask = _evaluate(first, rows, fields)
    for part in others:
        if isinstance(where, filters.Any):
            mask |= _evaluate(part, rows, fields)
        elif mask.any():
            mask &= _evaluate(part, rows, fields)
    return mask


def _is_slow(where: Filter) -> bool:
    """Return whether a filter tests the texts of a dictionary one by one."""
    tests = (each.test for each in conditions(where) if not each.name.field)
    return any(isinstance(test, AnyOf) and test.kind == "~" for test in tests)


def _condition(condition: Condition, rows: _Rows, fields: EventFields) -> Mask:
    name, test = condition.name, condition.test
    if name.field:
        return _field(condition, rows, fields)
    columns = (rows.chunk.properties.get(ColumnKey(name.path, kind)) for kind in _kinds(test))
    masks = [_column(test, column, rows) for column in columns if column is not None]
    if not masks:
        return rows.none()
    for other in masks[1:]:
        masks[0] |= other
    return masks[0]


def _field(condition: Condition, rows: _Rows, fields: EventFields) -> Mask:
    is_user = condition.name.field == "user"
    ids = (rows.chunk.user if is_user else rows.chunk.name)[rows.start : rows.stop]
    if isinstance(condition.test, Exists):
        return ids != 0 if is_user else np.ones(len(ids), np.bool_)
    if isinstance(condition.test, AnyOf):
        return fields.ids[condition].contains(ids)
    return rows.none()


def _column(test: Test, column: Column, rows: _Rows) -> Mask:
    if isinstance(test, Exists):
        return rows.with_value(column)
    hits = matching_values(test, column.values, rows.values(column))
    return rows.with_value(column, hits)


def _kinds(test: Test) -> tuple[Kind, ...]:
    """Return the types of the values that a test may match."""
    if isinstance(test, Exists):
        return KINDS
    if used := _used_kind(test):
        return (used,)
    assert isinstance(test, AnyOf)
    kinds: dict[type, Kind] = {str: "text", bool: "boolean"}
    return tuple({kinds.get(type(value), "number"): None for value in test.values})


def _used_kind(test: Test) -> Kind | None:
    """Return the one type that a test compares; None if it may match values of any type."""
    if isinstance(test, AnyOf):
        return "text" if test.kind else None
    return None if isinstance(test, Exists) else "number"


class Skipped(NamedTuple):
    """Values that tests for another type of value skip."""

    name: Name
    used: Kind
    kind: Kind
    """The type of the values."""


def skipped_values(
    where: Filter, chunk: Chunk, among: Mask, start: int = 0, stop: int | None = None
) -> Counter[Skipped]:
    """Return how many events have values that the filter skips because of their type.

    That are events of the rows from `start` to before `stop` for which `among` is true. An event
    counts once for each type, also if it has a list of such values.
    """
    rows = _Rows(chunk, start, len(chunk) if stop is None else stop)
    counts: Counter[Skipped] = Counter()
    for skipped in _skipping(where):
        column = chunk.properties.get(ColumnKey(skipped.name.path, skipped.kind))
        if column is not None:
            counts[skipped] += int(np.count_nonzero(rows.with_value(column) & among))
    return counts


def _skipping(where: Filter) -> set[Skipped]:
    """Return what a filter skips wherever it exists."""
    return {
        Skipped(condition.name, used, kind)
        for condition in conditions(where)
        if not condition.name.field and (used := _used_kind(condition.test))
        for kind in KINDS
        if kind != used
    }


def notes(skipped: Counter[Skipped]) -> list[Note]:
    """Return a note for each property and type that is used, without those that skip nothing."""
    kinds: dict[tuple[str, Kind], dict[str, int]] = {}
    for name, used, kind in sorted(skipped, key=lambda each: (str(each.name), *each[1:])):
        if count := skipped[Skipped(name, used, kind)]:
            kinds.setdefault((str(name), used), {})[kind] = count
    return [Note(name, used, counts) for (name, used), counts in kinds.items()]
