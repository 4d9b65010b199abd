"""The groups of events: one for each event, or one for each distinct element of a list."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import TooExpensive
from repo.columns.chunk import (
    BooleanValues,
    Column,
    DecimalNumbers,
    Kind,
    ScaledNumbers,
    TextValues,
)
from repo.columns.exact_numbers import ExactNumbers
from repo.columns.filter_evaluation import Mask
from repo.columns.property_collector import Path
from repo.columns.values import count_values
from repo.engine.grouping.value_table import NO_NUMBERS, NO_TEXTS, ValueTable
from repo.engine.scan import MatchingEvents
from utils.distinct import distinct

_KINDS: tuple[Kind, ...] = ("number", "text", "boolean")
"""In the order of their codes."""

Codes = NDArray[Any]

_MAX_PAIRS = 2**24
"""Pairs of elements of lists in a part of a chunk."""
_FEW = 1_000
"""Whole numbers that are less apart, or less than twice their count, are not sorted."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The selected rows of a part of a chunk."""

    mask: Mask
    count: int

    @property
    def is_whole(self) -> bool:
        """Whether all rows are selected."""
        return self.count == len(self.mask)

    def of(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the values of the selected rows, from those of all rows."""
        return values if self.is_whole else values.compress(self.mask)


class Memberships(NamedTuple):
    """The groups that selected events are in, by their codes."""

    codes: Codes
    rows: NDArray[np.int64] | None = None
    """The positions of the events among the selected ones, ascending; None: one group for each."""
    counts: NDArray[np.int64] | None = None
    """The number of events by code, where it is known."""


def by_property(
    events: MatchingEvents, path: Path, selection: Selection
) -> tuple[Memberships, ValueTable]:
    """Return the selected events by their values of a property, and the values of the codes."""
    numbers: ExactNumbers = NO_NUMBERS
    texts = NO_TEXTS
    codes, rows = list[Codes](), list[NDArray[np.int32] | None]()
    for column in filter(None, (events.column(path, kind) for kind in _KINDS)):
        part = _part(column, events.start, events.stop)
        match column.values:
            case TextValues(text_codes, texts):
                codes.append(_shifted(text_codes[part], count_values(numbers)))
            case BooleanValues(booleans):
                first = ValueTable(numbers, texts).first_boolean
                codes.append(_shifted(booleans[part].view(np.uint8), first))
            case ScaledNumbers() | DecimalNumbers() as values:
                number_codes, numbers = _number_codes(values, part)
                codes.append(number_codes)
        rows.append(None if column.rows is None else column.rows[part] - events.start)
    table = ValueTable(numbers, texts)
    if len(rows) == 1 and rows[0] is None:
        is_whole = selection.is_whole and selection.count == len(events.chunk)
        only = next(filter(None, (events.column(path, kind) for kind in _KINDS)))
        counts = only.code_counts() if is_whole else None
        return Memberships(selection.of(codes[0]), counts=counts), table
    return _memberships(codes, rows, table, selection), table


def _part(column: Column, start: int, stop: int) -> slice:
    """Return which values of a column are in the rows from `start` to before `stop`."""
    if column.rows is None:
        return slice(start, stop)
    # Of the same type, or numpy would convert all rows.
    edges = np.array((start, stop), column.rows.dtype)
    return slice(*column.rows.searchsorted(edges).tolist())


def _shifted(codes: NDArray[Any], first: int) -> Codes:
    return np.add(codes, first, dtype=np.int32) if first else codes


def _number_codes(numbers: ExactNumbers, part: slice) -> tuple[Codes, ExactNumbers]:
    """Return the codes of numbers, and the numbers that have codes."""
    if isinstance(numbers, DecimalNumbers):
        ranks = np.arange(len(numbers.dictionary), dtype=np.int32)
        return numbers.codes[part], DecimalNumbers(ranks, numbers.dictionary)
    scaled = numbers.scaled[part]
    low, high = (int(scaled.min()), int(scaled.max())) if len(scaled) else (0, -1)
    if high - low < max(_FEW, 2 * len(scaled)):
        codes = np.subtract(scaled, low, dtype=np.int64).astype(np.int32)
        return codes, ScaledNumbers(low + np.arange(high - low + 1), numbers.scale)
    distinct, inverse = np.unique(scaled, return_inverse=True)
    return inverse.astype(np.int32), ScaledNumbers(distinct.astype(np.int64), numbers.scale)


def _memberships(
    codes: Sequence[Codes],
    rows: Sequence[NDArray[np.int32] | None],
    table: ValueTable,
    selection: Selection,
) -> Memberships:
    """Return the selected events by the values of columns, some of which have lists or no value."""
    count = len(selection.mask)
    every = np.arange(count, dtype=np.int32)
    all_rows = np.concatenate([every[:0], *(every if each is None else each for each in rows)])
    all_codes = np.concatenate([np.zeros(0, np.int32), *codes])
    per_row = np.bincount(all_rows, minlength=count)
    if per_row.max(initial=0) <= 1:
        by_row = np.full(count, table.missing, np.int32)
        by_row[all_rows] = all_codes
        return Memberships(selection.of(by_row))
    return _by_elements(all_codes, all_rows, per_row == 0, table, selection)


def _by_elements(
    codes: Codes,
    rows: NDArray[np.int32],
    is_missing: Mask,
    table: ValueTable,
    selection: Selection,
) -> Memberships:
    """Return the selected events by each distinct value, given the values with their rows."""
    is_selected = selection.mask[rows]
    missing_rows = np.flatnonzero(is_missing & selection.mask)
    # Each event with each of its values as one number, so that a value counts once.
    size = np.int64(len(table))
    positions = np.cumsum(selection.mask) - 1
    with_value = positions[rows[is_selected]] * size + codes[is_selected]
    without = positions[missing_rows] * size + table.missing
    keys = distinct(np.concatenate([with_value, without]))
    return Memberships((keys % size).astype(np.int32), keys // size)


def by_pairs(one: Memberships, other: Memberships, sizes: tuple[int, int]) -> Memberships:
    """Return events by pairs of groups; their codes are `code of one * sizes[1] + code of other`.

    Raises: TooExpensive, if there are too many pairs of elements of lists.
    """
    one_codes, other_codes, rows = _aligned(one, other)
    kind = np.int32 if sizes[0] * sizes[1] < 2**31 else np.int64
    codes = np.multiply(one_codes, sizes[1], dtype=kind)
    codes += other_codes
    return Memberships(codes, rows)


def _aligned(one: Memberships, other: Memberships) -> tuple[Codes, Codes, NDArray[np.int64] | None]:
    """Return the codes of both for each pair of groups of an event, and the rows of the events."""
    if one.rows is not None and other.rows is not None:
        return _crossed(one.codes, one.rows, other.codes, other.rows)
    if one.rows is not None:
        return one.codes, other.codes[one.rows], one.rows
    if other.rows is not None:
        return one.codes[other.rows], other.codes, other.rows
    return one.codes, other.codes, None


def _crossed(
    codes: NDArray[Any],
    rows: NDArray[np.int64],
    other_codes: NDArray[Any],
    other_rows: NDArray[np.int64],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
    """Return each code of an event with each of its other codes; all events have both."""
    others_per_row = np.bincount(other_rows)
    repeats = others_per_row[rows]
    count = int(repeats.sum())
    if count > _MAX_PAIRS:
        raise TooExpensive("pairs of elements of lists", count, _MAX_PAIRS, "one property")
    first_others = np.cumsum(others_per_row) - others_per_row
    # The n-th repetition of a code goes with the n-th other code of its row.
    first_repeats = np.cumsum(repeats) - repeats
    others = np.arange(count) + np.repeat(first_others[rows] - first_repeats, repeats)
    return np.repeat(codes, repeats), other_codes[others], np.repeat(rows, repeats)
