"""Chunks of a few events, built one value after the other."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from repo.columns.chunk import (
    EVENT_ID,
    BooleanValues,
    Chunk,
    Column,
    ColumnKey,
    DecimalNumbers,
    Kind,
    ScaledNumbers,
    TextValues,
    Values,
)
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES, USERS

KINDS: dict[type, Kind] = {str: "text", Decimal: "number", bool: "boolean"}


def chunk_of(events: Sequence[Event]) -> Chunk:
    """Return events as a chunk; ordinals and ids are positions in USERS and EVENT_NAMES, from 1."""
    leaves: dict[ColumnKey, list[tuple[int, Any]]] = {}
    for row, event in enumerate(events):
        for path, value in _leaves(event.properties, ()):
            leaves.setdefault(ColumnKey(path, KINDS[type(value)]), []).append((row, value))
    users = [USERS.index(event.user_id) + 1 if event.user_id else 0 for event in events]
    return Chunk(
        time=np.arange(len(events)),
        user=np.array(users, np.uint32),
        name=np.array([EVENT_NAMES.index(event.event_name) + 1 for event in events], np.int32),
        xid=np.zeros(len(events), np.int64),
        event_id=np.zeros(len(events), EVENT_ID),
        properties={key: _column(key.kind, pairs, len(events)) for key, pairs in leaves.items()},
    )


def _leaves(node: Any, path: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        for element in node:
            yield from _leaves(element, path)
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif node is not None:
        yield path, node


def _column(kind: Kind, pairs: Sequence[tuple[int, Any]], events: int) -> Column:
    rows = [row for row, _ in pairs]
    values = _values(kind, [value for _, value in pairs])
    is_dense = rows == list(range(events))
    return Column(values, None if is_dense else np.array(rows, np.int32))


def _values(kind: Kind, values: list[Any]) -> Values:
    if kind == "boolean":
        return BooleanValues(np.array(values, np.bool_))
    if kind == "number":
        return _numbers(values)
    distinct = sorted(set(values))
    codes = np.array([distinct.index(value) for value in values], np.int32)
    return TextValues(codes, pa.array(distinct, pa.string()))


def _numbers(values: list[Decimal]) -> Values:
    scale = max(0, *(-int(value.normalize().as_tuple().exponent) for value in values))
    if scale <= 18 and all(abs(value) < Decimal(2**63).scaleb(-scale) for value in values):
        scaled = np.array([int(value.scaleb(scale)) for value in values], np.int64)
        sizes = (
            size for size in (np.int8, np.int16, np.int32) if (scaled.astype(size) == scaled).all()
        )
        return ScaledNumbers(scaled.astype(next(sizes, np.int64)), scale)
    distinct = sorted(set(values))
    codes = np.array([distinct.index(value) for value in values], np.int32)
    return DecimalNumbers(codes, pa.array([str(value) for value in distinct], pa.string()))
