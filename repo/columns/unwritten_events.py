"""Read events that are not in columns yet, in pages of a limited size."""

import struct
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from config.database import Cursor
from repo.columns.builder import EventBatch
from repo.columns.chunk_table import SQL
from repo.columns.tied_events import Ties
from repo.engine.tail import BackfillCursor, split_ranges
from repo.engine.watermark import read_user_count
from repo.statements import compose
from utils.copy_binary import SIGNATURE

MAX_EVENTS = 65_536
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
NO_LIMITS = Limits(2**31 - 1, 2**62)


class EventPages:
    """Reads events in pages. All methods raise MissingIds."""

    def __init__(self, cur: Cursor, limits: Limits) -> None:
        self._cur = cur
        self._limits = limits
        self._users = read_user_count(cur)

    def new_events(self, ranges: Mapping[str, Any], count: int) -> Iterator[EventBatch]:
        """Yield the events of ranges of transaction ids, of which there are about `count`."""
        for xids in split_ranges(ranges):
            yield from self._events_of_range(xids, count)

    def _events_of_range(self, xids: Mapping[str, str], count: int) -> Iterator[EventBatch]:
        after = {"after_xid": xids["first_xid"], "after_time": "-infinity", "after_id": _FIRST_ID}
        while True:
            batch = self._read("columns_new_events", _BY_XID, {**xids, **after}, count)
            if not len(batch.time):
                return
            last = np.lexsort((*_id_halves(batch), batch.time, batch.xid))[-1]
            after = {
                "after_xid": str(batch.xid[last]),
                "after_time": _instant(batch.time[last]),
                "after_id": _uuid(batch.event_id[last]),
            }
            yield batch

    def backfill(self, backfill: Mapping[str, Any]) -> Iterator[tuple[EventBatch, BackfillCursor]]:
        """Yield the events of a backfill, the latest first, with the position after each page.

        `backfill` are parameters of statements: the snapshots, the position and the ranges of
        transaction ids.
        """
        params = dict(backfill)
        while True:
            batch = self._backfill_page(params)
            if not len(batch.time):
                return
            first = np.lexsort((*_id_halves(batch), batch.time))[0]
            position = BackfillCursor(_instant(batch.time[first]), _uuid(batch.event_id[first]))
            yield batch, position
            params |= {"backfilled_from": position.until, "backfilled_id": position.event_id}

    def _backfill_page(self, params: Mapping[str, Any]) -> EventBatch:
        # By the index on time if the unwritten events are dense there. Otherwise by the index on
        # transaction ids and a sort, which skips written events.
        self._cur.execute(SQL["columns_density"], {**params, "sample_size": _PROBE})
        (count,) = self._cur.fetchone() or (0,)
        most = self._limits.events
        if count >= _PROBE * _DENSE:
            scan = {**params, "scan_limit": _READ_FACTOR * most}
            batch = self._read("columns_backfill_dense", _LATEST_FIRST, scan, most)
            if len(batch.time):
                return batch
        return self._read("columns_backfill_sparse", _LATEST_FIRST, params, most)

    def tied_events(self, ties: Ties) -> EventBatch:
        """Return the events of users at instants."""
        params = {"ordinals": ties.user.tolist(), "times": ties.time.tolist()}
        return self._read("columns_tied_events", _BY_XID, params, len(ties.time))

    def _read(self, source: str, order: str, params: Mapping[str, Any], count: int) -> EventBatch:
        # To read all users takes less time than to look up one in eight.
        has_many = min(count, self._limits.events) * 8 > self._users
        users = SQL["columns_users_all" if has_many else "columns_users_each"]
        statement = compose(SQL["columns_events"], source=SQL[source], order=order, users=users)
        limits = {"limit": self._limits.events, "max_bytes": self._limits.bytes}
        batch = _decode(self._cur.copy_out(statement, {**params, **limits}))
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
    if not starts:
        return np.zeros(0, _ROW)
    windows = sliding_window_view(np.frombuffer(data, np.uint8), _ROW.itemsize)
    rows: NDArray[np.void] = windows[np.array(starts, np.intp)].reshape(-1).view(_ROW)
    return rows


def _id_halves(batch: EventBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the less and the more significant halves of ids, as keys of `np.lexsort`."""
    high, low = batch.event_id.view(">u8").reshape(-1, 2).T
    return low, high


def _instant(microseconds: Any) -> str:
    return (_EPOCH_2000 + timedelta(microseconds=int(microseconds))).isoformat()


def _uuid(event_id: Any) -> str:
    return str(UUID(bytes=bytes(event_id)))
