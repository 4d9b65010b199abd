"""Read events that are not in columns yet, in pages of a limited size."""

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from config.database import Cursor
from repo.columns.builder import EventBatch
from repo.columns.chunk_table import SQL
from repo.columns.ties import Ties
from repo.engine.tail import BackfillCursor, split_ranges
from repo.statements import compose
from utils.copy_binary import SIGNATURE

MAX_EVENTS = 32_768
MAX_BYTES = 16 * 2**20
"""Of the properties of a page as JSON, which one event may exceed."""

BACKFILL_START = BackfillCursor("infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff")
"""All events are before it."""

# If at least this share of the next events in the order of time is unwritten, a backfill reads all
# of them; otherwise it reads and sorts all unwritten ones.
_PROBE, _DENSE = 20_000, 1 / 10
# How many events are read at most for each event of a page.
_READ_FACTOR = 4

_BY_XID = "order by ingested_xid, occurred_at, event_id"
_LATEST_FIRST = "order by occurred_at desc, event_id desc"
_FIRST_ID = "00000000-0000-0000-0000-000000000000"

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)

_ROW = np.dtype(
    [
        ("columns", ">i2"),
        ("l1", ">i4"), ("time", ">i8"),
        ("l2", ">i4"), ("user", ">i4"),
        ("l3", ">i4"), ("name", ">i4"),
        ("l4", ">i4"), ("xid", ">i8"),
        ("l5", ">i4"), ("event_id", "V16"),
        ("properties_length", ">i4"),
    ]
)  # fmt: skip
"""The part of a row of binary COPY that has a fixed size."""
_LENGTH = struct.Struct("!i")


class MissingIds(LookupError):
    """The user or the name of an event has no id."""


class Limits(NamedTuple):
    """The size of a page."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


LIMITS = Limits()


def new_events(cur: Cursor, ranges: Mapping[str, Any], limits: Limits) -> Iterator[EventBatch]:
    """Yield the events of ranges of transaction ids. Raises: MissingIds."""
    for xids in split_ranges(ranges):
        yield from _events_of_range(cur, xids, limits)


def _events_of_range(cur: Cursor, xids: Mapping[str, str], limits: Limits) -> Iterator[EventBatch]:
    after = {"after_xid": xids["first_xid"], "after_time": "-infinity", "after_id": _FIRST_ID}
    while True:
        batch = _read(cur, "columns_new_events", _BY_XID, {**xids, **after}, limits)
        if not len(batch.time):
            return
        yield batch
        last = np.lexsort((*_id_halves(batch), batch.time, batch.xid))[-1]
        after = {
            "after_xid": str(batch.xid[last]),
            "after_time": _instant(batch.time[last]),
            "after_id": _uuid(batch.event_id[last]),
        }


def backfill_events(
    cur: Cursor, backfill: Mapping[str, Any], limits: Limits
) -> Iterator[tuple[EventBatch, BackfillCursor]]:
    """Yield the events of a backfill, the latest first, with the position after each page.

    `backfill` are parameters of statements: the snapshots, the position and the ranges of
    transaction ids. Raises: MissingIds.
    """
    params = dict(backfill)
    while True:
        batch = _backfill_page(cur, params, limits)
        if not len(batch.time):
            return
        first = np.lexsort((*_id_halves(batch), batch.time))[0]
        position = BackfillCursor(_instant(batch.time[first]), _uuid(batch.event_id[first]))
        yield batch, position
        params |= {"backfilled_from": position.until, "backfilled_id": position.event_id}


def _backfill_page(cur: Cursor, params: Mapping[str, Any], limits: Limits) -> EventBatch:
    # By the index on time if the unwritten events are dense there. Otherwise by the index on
    # transaction ids and a sort, which skips written events.
    cur.execute(SQL["columns_density"], {**params, "sample_size": _PROBE})
    (count,) = cur.fetchone() or (0,)
    if count >= _PROBE * _DENSE:
        scan = {**params, "scan_limit": _READ_FACTOR * limits.events}
        batch = _read(cur, "columns_backfill_dense", _LATEST_FIRST, scan, limits)
        if len(batch.time):
            return batch
    return _read(cur, "columns_backfill_sparse", _LATEST_FIRST, params, limits)


def tied_events(cur: Cursor, ties: Ties) -> EventBatch:
    """Return the events of users at instants."""
    params = {"ordinals": ties.user.tolist(), "times": ties.time.tolist()}
    limits = Limits(bytes=2**62)
    return _read(cur, "columns_tied_events", _BY_XID, params, limits)


def _read(
    cur: Cursor, source: str, order: str, params: Mapping[str, Any], limits: Limits
) -> EventBatch:
    statement = compose(SQL["columns_events"], source=SQL[source], order=order)
    sizes = {"limit": limits.events, "max_bytes": limits.bytes}
    batch = _decode(cur.copy_out(statement, {**params, **sizes}))
    if (batch.user == _MISSING).any() or (batch.name == -1).any():
        raise MissingIds
    return batch


_MISSING = np.uint32(2**32 - 1)


def _decode(data: bytes) -> EventBatch:
    starts, texts = [], []
    start, end = len(SIGNATURE), len(data) - 2
    while start < end:
        starts.append(start)
        text_start = start + _ROW.itemsize
        (length,) = _LENGTH.unpack_from(data, text_start - _LENGTH.size)
        start = text_start + length
        texts.append(data[text_start:start])
    rows = _fixed_parts(data, starts)
    return EventBatch(
        time=rows["time"].astype(np.int64),
        user=rows["user"].astype(np.int32).view(np.uint32),
        name=rows["name"].astype(np.int32),
        xid=rows["xid"].astype(np.int64),
        event_id=np.ascontiguousarray(rows["event_id"]),
        properties=texts,
    )


def _fixed_parts(data: bytes, starts: list[int]) -> NDArray[np.void]:
    positions = np.array(starts, np.int64)[:, None] + np.arange(_ROW.itemsize)
    rows: NDArray[np.void] = np.frombuffer(data, np.uint8)[positions].reshape(-1).view(_ROW)
    return rows


def _id_halves(batch: EventBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the less and the more significant halves of ids, as keys of `np.lexsort`."""
    high, low = batch.event_id.view(">u8").reshape(-1, 2).T
    return low, high


def _instant(microseconds: Any) -> str:
    return (_EPOCH_2000 + timedelta(microseconds=int(microseconds))).isoformat()


def _uuid(event_id: Any) -> str:
    return str(UUID(bytes=bytes(event_id)))
