"""The stored statistics of properties: when they were counted, and what they are."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from psycopg2 import Binary
from psycopg2.extensions import cursor

from config.database import Cursor
from repo.catalogue.name_counter import NameCount
from repo.catalogue.statistics import (
    KIND_BITS,
    PropertyStatistics,
    decode_values,
)
from repo.columns.chunk import Kind
from repo.columns.chunk_table import Path
from repo.engine.timeline import instant, microseconds
from repo.statements import statements
from utils.copy_binary import encode

SQL = statements("catalogue")


class StoredCounts(NamedTuple):
    """The time and the columns of the stored statistics."""

    counted_at: datetime
    columns: str
    """The state of the columns that were counted."""
    is_old: bool
    """Whether `counted_at` is at least as long ago as the caller asked for."""


class RegisteredKinds(NamedTuple):
    """The types of a property that were registered when events were written to columns."""

    path_id: int
    path: Path
    bits: int


class Baseline(NamedTuple):
    """The state that must not change between a count and the storage of its result."""

    erasure: int
    horizon: str | None


class EncodedStatistics(NamedTuple):
    """The statistics of a property, with the values compressed as in the table."""

    statistics: PropertyStatistics
    values: bytes | None
    """The compressed values; None if they are not stored."""


@dataclass(frozen=True, slots=True)
class CatalogueCount:
    """The result of a count of all properties."""

    counted_at: datetime
    snapshot: str
    columns: str
    baseline: Baseline
    properties: Sequence[EncodedStatistics]
    names: Sequence[NameCount]
    generation: int
    registered: Sequence[RegisteredKinds]


def read_counts(cur: cursor, age_s: float = 0) -> StoredCounts | None:
    """Return when statistics were counted; None if there are none."""
    cur.execute(SQL["catalogue_counts"], {"age_s": age_s})
    row = cur.fetchone()
    return StoredCounts(*row) if row else None


def read_baseline(cur: cursor) -> Baseline:
    """Return the last erasure and the horizon."""
    cur.execute(SQL["catalogue_erasure"])
    return Baseline(*cur.fetchone() or (0, None))


def read_properties(cur: cursor) -> list[PropertyStatistics]:
    """Return the statistics of all properties, without their values."""
    cur.execute(SQL["catalogue_properties"])
    return [_statistics(*row) for row in cur]


def read_property(cur: cursor, path: Path) -> PropertyStatistics | None:
    """Return the statistics of a property with its values; None if no event had it."""
    cur.execute(SQL["catalogue_property"], {"path": list(path)})
    row = cur.fetchone()
    return _statistics(*row) if row else None


def read_names(cur: cursor, prefix: str, limit: int) -> tuple[int, list[NameCount]]:
    """Return the number of names with a prefix, and the most frequent of them."""
    params = {"prefix": prefix, "limit": limit}
    cur.execute(SQL["catalogue_name_count"], params)
    (count,) = cur.fetchone() or (0,)
    cur.execute(SQL["catalogue_names"], params)
    rows = [
        NameCount(name, events, users, microseconds(first), microseconds(last))
        for name, events, users, first, last in cur
    ]
    return int(count), rows


def has_names(cur: cursor) -> bool:
    """Return whether there are counts of event names."""
    cur.execute(SQL["catalogue_has_names"])
    return bool(cur.fetchone() == (True,))


def read_kinds(cur: cursor, generation: int) -> dict[Path, list[Kind]]:
    """Return the types of properties that were written to columns, by property."""
    cur.execute(SQL["catalogue_kinds"], {"generation": generation})
    return {
        tuple(path): [kind for kind, bit in KIND_BITS.items() if bits & bit] for path, bits in cur
    }


def read_registered(cur: cursor, generation: int) -> list[RegisteredKinds]:
    """Return all properties that have columns, with the types of those."""
    cur.execute(SQL["catalogue_all_kinds"], {"generation": generation})
    return [RegisteredKinds(path_id, tuple(path), bits) for path_id, path, bits in cur]


def store(cur: Cursor, count: CatalogueCount) -> bool:
    """Replace the statistics, in a transaction that excludes erasures and writers of columns.

    Returns False, and stores nothing, if a user was erased or events were dropped meanwhile.
    """
    if read_baseline(cur) != count.baseline:
        return False
    forget(cur)
    params = {each: getattr(count, each) for each in ("counted_at", "snapshot", "columns")}
    cur.execute(SQL["catalogue_store_counts"], params)
    for each in count.properties:
        cur.execute(SQL["catalogue_store_property"], _row(each))
    names = ((*each[1:], each.name.encode()) for each in count.names)
    cur.copy_expert(SQL["catalogue_store_names"], io.BytesIO(encode(names, "qqqqb")))
    _store_kinds(cur, count)
    return True


def touch(cur: cursor, counted_at: datetime, columns: str) -> None:
    """Say that the statistics are those of a later time, since the columns have not changed."""
    cur.execute(SQL["catalogue_touch"], {"counted_at": counted_at, "columns": columns})


def forget(cur: cursor) -> int:
    """Delete all statistics; return the number of properties."""
    cur.execute(SQL["catalogue_forget"])
    return cur.rowcount


def _row(encoded: EncodedStatistics) -> Mapping[str, Any]:
    statistics, values = encoded
    return {
        "path": list(statistics.path),
        "events": statistics.events,
        "users": statistics.users,
        "first": instant(statistics.first),
        "last": instant(statistics.last),
        **{kind: statistics.types.get(kind, 0) for kind in KIND_BITS},
        "distinct": statistics.distinct,
        "values": None if values is None else Binary(values),
    }


def _store_kinds(cur: cursor, count: CatalogueCount) -> None:
    counted = {
        each.path: sum(map(KIND_BITS.__getitem__, each.types)) for each, _ in count.properties
    }
    params = {
        "generation": count.generation,
        "path_ids": [each.path_id for each in count.registered],
        "before": [each.bits for each in count.registered],
        "counted": [counted.get(each.path, 0) for each in count.registered],
    }
    cur.execute(SQL["catalogue_store_kinds"], params)


def _statistics(
    path: Sequence[str],
    events: int,
    users: int,
    first: datetime,
    last: datetime,
    texts: int,
    numbers: int,
    booleans: int,
    distinct: int | None,
    values: memoryview | None = None,
) -> PropertyStatistics:
    types: dict[Kind, int] = {"number": numbers, "text": texts, "boolean": booleans}
    return PropertyStatistics(
        tuple(path),
        events,
        users,
        microseconds(first),
        microseconds(last),
        {kind: count for kind, count in types.items() if count},
        distinct,
        None if values is None else decode_values(values),
    )
