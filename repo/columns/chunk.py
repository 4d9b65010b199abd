"""Chunks: events as columns of numpy arrays, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_MAX_COUNTED = 4_096
"""The most codes of a column that are counted, in 32 kB."""

Kind = Literal["text", "number", "boolean"]
"""The types of values; a property may have values of several types."""


class ColumnKey(NamedTuple):
    """The values of one type of one property."""

    path: tuple[str, ...]
    """The keys that lead to the value; lists on the way are passed through."""
    kind: Kind


@dataclass(frozen=True, slots=True)
class TextValues:
    """Texts, as codes of a dictionary."""

    codes: NDArray[np.integer]
    """Integers of 1, 2 or 4 bytes."""
    dictionary: pa.StringArray
    """The distinct texts in the order of their code points, so a prefix is a range of codes."""


@dataclass(frozen=True, slots=True)
class ScaledNumbers:
    """Exact numbers: `scaled / 10**scale`."""

    scaled: NDArray[np.int64]
    """Signed integers of 1, 2, 4 or 8 bytes."""
    scale: int


@dataclass(frozen=True, slots=True)
class DecimalNumbers:
    """Exact numbers of which some do not fit into 64 bits, as codes of a dictionary."""

    codes: NDArray[np.int32]
    dictionary: pa.StringArray
    """The distinct numbers as decimal texts, in the order of their values."""


@dataclass(frozen=True, slots=True)
class BooleanValues:
    """Booleans."""

    values: NDArray[np.bool_]


Values = TextValues | ScaledNumbers | DecimalNumbers | BooleanValues


@dataclass(frozen=True, slots=True)
class Column:
    """The values of one type of one property, without those that are missing."""

    values: Values
    rows: NDArray[np.int32] | None = None
    """The row of each value, ascending; a list repeats its row. None: each row has one value."""
    _counts: list[NDArray[np.int64]] = field(
        default_factory=list, init=False, compare=False, repr=False
    )

    def code_counts(self) -> NDArray[np.int64] | None:
        """Return how many values each code has; None unless these are a few texts.

        They are counted once, as columns are cached and never change.
        """
        if not isinstance(self.values, TextValues) or len(self.values.dictionary) > _MAX_COUNTED:
            return None
        if not self._counts:
            size = len(self.values.dictionary)
            self._counts.append(np.bincount(self.values.codes, minlength=size))
        return self._counts[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Events in the order of time, user and `event_id`."""

    time: NDArray[np.int64]
    """Microseconds since 2000-01-01 UTC, as PostgreSQL counts them."""
    user: NDArray[np.uint32]
    """Ordinals; 0 for events without a user."""
    name: NDArray[np.int32]
    """Ids of event names."""
    xid: NDArray[np.int64]
    """The transactions that inserted the rows."""
    event_id: NDArray[np.void]
    """Ids of 16 bytes; zeros for rows that are not tied, in chunks that were read from tables.

    Two rows are tied if they have the same user and time; rows without a user are never tied.
    """
    properties: Mapping[ColumnKey, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time)


EVENT_ID: Any = np.dtype("V16")


def event_order(
    time: NDArray[np.int64], user: NDArray[np.uint32], event_id: NDArray[np.void]
) -> NDArray[np.intp]:
    """Return the positions of events in the order of time, user and `event_id`."""
    order = np.argsort(time, kind="stable")
    is_same = np.diff(time[order]) == 0
    if is_same.any():
        (rows,) = np.nonzero(np.append(is_same, False) | np.append(False, is_same))
        same = order[rows]
        high, low = np.ascontiguousarray(event_id[same]).view(">u8").reshape(-1, 2).T
        order[rows] = same[np.lexsort((low, high, user[same], time[same]))]
    return order


def rows_or_none(rows: NDArray[np.int32], count: int) -> NDArray[np.int32] | None:
    """Return the rows of values, or None if they are those of all `count` events, once each."""
    is_whole = len(rows) == count and np.array_equal(rows, np.arange(count))
    return None if is_whole else rows
