"""The groups with the most events, from counts of chunks whose codes differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.checkpoint import Checkpoint
from common.filters import Value
from repo.engine.grouping.value_slices import slices_of
from repo.engine.grouping.value_table import ValueTable, unite

GroupValues = tuple[Value | None, ...]
"""The value of each property of a group; None where it is missing."""

Integers = NDArray[np.int64]
Translate = Callable[[Sequence[ValueTable]], Sequence[ValueTable]]
"""Returns tables with other values of the same codes."""

_MAX_CELLS = 2**22
"""Possible groups whose counts are added without sorting."""
_TYPE_ORDER: list[type] = [Decimal, str, bool, type(None)]


class CountedCodes(NamedTuple):
    """The groups of chunks with the same tables, and how many events each has."""

    tables: tuple[ValueTable, ...]
    """The values of each property, which codes refer to (`digits_of`)."""
    codes: Integers
    """The codes of groups with events, ascending."""
    events: Integers

    def at(self, positions: NDArray[np.intp]) -> "CountedCodes":
        return CountedCodes(self.tables, self.codes[positions], self.events[positions])


@dataclass(frozen=True, slots=True)
class Ranking:
    """The groups with the most events, in order, and the category of each code.

    Categories are the positions of these groups, then one for all other groups, and one for those
    others that lack a property.
    """

    values: list[GroupValues]
    categories: list[Integers]
    """For each `CountedCodes`, the category of each of its codes."""
    other_groups: int

    @property
    def other(self) -> int:
        """The category of the other groups."""
        return len(self.values)


class _Candidate(NamedTuple):
    """A group that may be one of those with the most events."""

    values: GroupValues
    events: int
    codes: list[tuple[int, int]]
    """The positions of a `CountedCodes` and of the group in it."""

    @property
    def order(self) -> tuple[int, list[tuple[int, Value]]]:
        """Most events first; ties by value: numbers, texts, booleans, missing last."""
        return -self.events, [
            (_TYPE_ORDER.index(type(value)), False if value is None else value)
            for value in self.values
        ]


def digits_of(codes: Integers, tables: Sequence[ValueTable]) -> list[Integers]:
    """Return the code of each property, from codes that combine them.

    A code for two properties is `first * len(tables[1]) + second`.
    """
    return [codes] if len(tables) == 1 else list(np.divmod(codes, len(tables[1])))


def rank(
    counted: Sequence[CountedCodes], limit: int, translate: Translate, checkpoint: Checkpoint
) -> Ranking:
    """Return the groups with the most events; ties are in the order of their values.

    Values are compared in slices, which bounds the memory.

    Raises: TooExpensive, and what the checkpoint raises.
    """
    top = list[_Candidate]()
    groups = 0
    digits = [digits_of(each.codes, each.tables) for each in counted]
    slices = slices_of([each.tables for each in counted])
    for positions in slices.positions(digits) if counted else ():
        checkpoint()
        part = [each.at(at) for each, at in zip(counted, positions, strict=True)]
        # A group of a later slice with as many events comes later.
        least = top[-1].events + slices.is_ascending if len(top) == limit else 0
        candidates, count = _candidates(part, positions, limit, least, translate)
        top = sorted([*top, *candidates], key=lambda each: each.order)[:limit]
        groups += count
    return Ranking(
        [each.values for each in top], list(_categories(counted, digits, top)), groups - len(top)
    )


def _candidates(
    counted: Sequence[CountedCodes],
    positions: Sequence[NDArray[np.intp]],
    limit: int,
    least: int,
    translate: Translate,
) -> tuple[list[_Candidate], int]:
    """Return groups with the most events, at least `least`, and the number of all groups.

    `positions` are those of the codes in the `CountedCodes` that they are a part of.
    """
    united, keys = _unite(counted)
    tables = translate(united)
    groups, events = _sum(keys, [each.events for each in counted], prod(map(len, tables)))
    top = _top(tables, groups, events, limit, least)
    candidates = [
        _Candidate(tuple(map(ValueTable.value, tables, codes)), count, [])
        for *codes, count in zip(
            *(each.tolist() for each in digits_of(groups[top], tables)),
            events[top].tolist(),
            strict=True,
        )
    ]
    for number, (of_part, part_keys) in enumerate(zip(positions, keys, strict=True)):
        for candidate, at in _matches(groups[top], part_keys):
            candidates[candidate].codes.append((number, int(of_part[at])))
    return candidates, len(groups)


def _unite(counted: Sequence[CountedCodes]) -> tuple[list[ValueTable], list[Integers]]:
    """Return a table for each property, and the codes of all groups by these tables."""
    tables, digits = list[ValueTable](), list[list[Integers]]()
    local_digits = [digits_of(each.codes, each.tables) for each in counted]
    for dimension in range(len(counted[0].tables)):
        used = [
            _used(each.tables[dimension], local[dimension])
            for each, local in zip(counted, local_digits, strict=True)
        ]
        united, new_codes = unite([table for table, _ in used])
        tables.append(united)
        digits.append([new[codes] for new, (_, codes) in zip(new_codes, used, strict=True)])
    if len(tables) == 1:
        return tables, digits[0]
    size = len(tables[1])
    return tables, [one * size + other for one, other in zip(*digits, strict=True)]


def _used(table: ValueTable, codes: Integers) -> tuple[ValueTable, Integers]:
    """Return the table of the values that are used, and the codes by that table."""
    is_used = np.zeros(len(table), np.bool_)
    is_used[codes] = True
    is_used[table.first_boolean :] = True
    if is_used.all():
        return table, codes
    return table.take(np.flatnonzero(is_used)), (np.cumsum(is_used) - 1)[codes]


def _sum(
    keys: Sequence[Integers], events: Sequence[Integers], cells: int
) -> tuple[Integers, Integers]:
    """Return the distinct keys, ascending, and the events of each. Each part has a key once."""
    if cells <= _MAX_CELLS:
        sums = np.zeros(cells, np.int64)
        for part_keys, part_events in zip(keys, events, strict=True):
            sums[part_keys] += part_events
        groups = np.flatnonzero(sums)
        return groups, sums[groups]
    all_keys = np.concatenate(keys)
    order = np.argsort(all_keys)
    all_keys = all_keys[order]
    starts = np.flatnonzero(np.diff(all_keys, prepend=-1))
    return all_keys[starts], np.add.reduceat(np.concatenate(events)[order], starts)


def _top(
    tables: Sequence[ValueTable], groups: Integers, events: Integers, limit: int, least: int
) -> NDArray[np.intp]:
    """Return the positions of the groups with the most events, at least `least`."""
    if len(groups) > limit:
        # Only groups with as many events as the last of them need an order by value.
        least = max(least, int(np.partition(events, len(events) - limit)[len(events) - limit]))
    positions = np.flatnonzero(events >= least)
    ranks = [
        table.ranks(codes)
        for table, codes in zip(tables, digits_of(groups[positions], tables), strict=True)
    ]
    order = np.lexsort((*reversed(ranks), -events[positions]))
    return positions[order[:limit]]


def _matches(top: Integers, keys: Integers) -> list[tuple[int, int]]:
    """Return the positions of equal keys in `top` and in `keys`."""
    order = np.argsort(top)
    found = np.searchsorted(top, keys, sorter=order)
    at = np.flatnonzero(found < len(top))
    candidates = order[found[at]]
    is_equal = top[candidates] == keys[at]
    return list(zip(candidates[is_equal].tolist(), at[is_equal].tolist(), strict=True))


def _categories(
    counted: Sequence[CountedCodes], digits: Sequence[Sequence[Integers]], top: list[_Candidate]
) -> list[Integers]:
    """Return the categories of the codes of each part."""
    categories = [
        len(top) + _lacks_one(each.tables, of_properties)
        for each, of_properties in zip(counted, digits, strict=True)
    ]
    for number, candidate in enumerate(top):
        for part, position in candidate.codes:
            categories[part][position] = number
    return categories


def _lacks_one(tables: Sequence[ValueTable], digits: Sequence[Integers]) -> NDArray[np.bool_]:
    lacks = np.zeros(len(digits[0]), np.bool_)
    for table, codes in zip(tables, digits, strict=True):
        lacks |= codes == table.missing
    return lacks
