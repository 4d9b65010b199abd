"""Recount from the events what columns should contain."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

from repo.verify.column_state import ColumnState, Instants, Path
from repo.verify.copy_rows import copy_rows
from repo.verify.fingerprints import (
    EVENT_ID,
    EventRows,
    Hashes,
    Property,
    concatenate,
    property_hashes,
    text_hashes,
)
from repo.verify.json_values import PropertyValues, read_objects
from repo.verify.snapshot import SQL

_RECORD = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("time", ">i8"),
        ("l2", ">i4"), ("user", ">i4"),
        ("l3", ">i4"), ("name", ">i4"),
        ("l4", ">i4"), ("xid", ">i8"),
        ("l5", ">i4"), ("event_id", EVENT_ID),
        ("l6", ">i4"),
    ]
)  # fmt: skip


class CountedProperties:
    """Adds up the hashes of properties, of those values that are compared."""

    def __init__(self, state: ColumnState, *, is_detailed: bool) -> None:
        """`is_detailed`: keep the hashes of each property as well."""
        self._state = state
        self._after = state.compared_after()
        self._is_detailed = is_detailed

    def add_up(
        self, time: NDArray[np.int64], columns: Mapping[Property, tuple[NDArray[Any], Hashes]]
    ) -> tuple[Hashes, dict[Property, Hashes]]:
        """Return the sum of all properties by row, and those of each property.

        `columns` has the ascending rows and the hashes of values.
        """
        sums, parts = np.zeros(len(time), np.uint64), {}
        for key, (rows, values) in columns.items():
            hashes = property_hashes(key, rows, values, len(time))
            hashes *= time > self._compared_after(key.path)
            sums += hashes
            if self._is_detailed:
                parts[key] = hashes
        return sums, parts

    def _compared_after(self, path: Path) -> int:
        after = self._after.get(path)
        return self._state.unregistered_compared_after(path) if after is None else after


def read_events(
    cur: cursor, state: ColumnState, span: Instants, *, is_detailed: bool = False
) -> EventRows:
    """Return the events of a range of time that are written to columns, in any order."""
    parts: list[EventRows] = []
    properties = CountedProperties(state, is_detailed=is_detailed)

    def take(heads: NDArray[np.void], objects: list[bytes]) -> None:
        columns = {key: _hash_values(key, values) for key, values in read_objects(objects).items()}
        time, user, name, xid = (
            heads[field].astype(np.int64) for field in ("time", "user", "name", "xid")
        )
        sums, by_property = properties.add_up(time, columns)
        event_id = np.ascontiguousarray(heads["event_id"])
        parts.append(EventRows(time, user, name, xid, event_id, sums, by_property))

    params = {**state.params, **span.within_calendar()._asdict()}
    copy_rows(cur, SQL["verify_column_events"], params, _RECORD, take)
    return concatenate(parts)


def _hash_values(key: Property, column: PropertyValues) -> tuple[NDArray[np.int64], Hashes]:
    rows = np.array(column.rows, np.int64)
    if key.kind == "boolean":
        return rows, np.array(column.values, np.uint64)
    return rows, text_hashes(column.values)
