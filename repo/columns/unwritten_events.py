"""Read events that are not in columns yet, in pages of a limited size."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from config.database import Cursor
from repo.columns.builder import EventBatch
from repo.columns.chunk import EVENT_ID
from repo.columns.chunk_table import SQL
from repo.columns.tied_events import Ties
from repo.columns.user_ordinals import MISSING, MissingIds, UserTable
from repo.engine.tail import BackfillCursor, split_ranges
from repo.statements import compose
from utils.copy_binary import decode

MAX_EVENTS = 65_536
MAX_BYTES = 16 * 2**20
"""The largest size of the properties of a page as JSON, which one event may exceed."""

BACKFILL_START = BackfillCursor("infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff")
"""All events are before it."""

# If at least this share of the next events in the order of time is unwritten, a backfill reads all
# of them; otherwise it reads and sorts all unwritten ones.
_PROBE, _DENSE = 20_000, 1 / 10
# The most events that are read for each event of a page.
_READ_FACTOR = 4

# The key of a user in the result, and the join that it needs.
_HASHES = ("columns_user_hash", "")
_LOOKUPS = ("columns_ordinal", "columns_users")

_BY_XID = "order by ingested_xid, occurred_at, event_id"
_LATEST_FIRST = "order by occurred_at desc, event_id desc"
_FIRST_ID = "00000000-0000-0000-0000-000000000000"

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)

_PIECE_BYTES = 2**20
"""The largest size of the properties that one row of the result holds."""


class Limits(NamedTuple):
    """The size of a page."""

    events: int = MAX_EVENTS
    bytes: int = MAX_BYTES


LIMITS = Limits()


class EventPages:
    """Reads events in pages. All methods raise MissingIds."""

    def __init__(self, cur: Cursor, limits: Limits, users: UserTable | None = None) -> None:
        """Without `users`, PostgreSQL looks up the user of each event."""
        self._cur = cur
        self._limits = limits
        self._users = users

    def new_events(self, ranges: Mapping[str, Any]) -> Iterator[EventBatch]:
        """Yield the events of ranges of transaction ids."""
        for xids in split_ranges(ranges):
            yield from self._events_of_range(xids)

    def _events_of_range(self, xids: Mapping[str, str]) -> Iterator[EventBatch]:
        after = {"after_xid": xids["first_xid"], "after_time": "-infinity", "after_id": _FIRST_ID}
        while True:
            batch = self._read("columns_new_events", _BY_XID, {**xids, **after})
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
        params = {**backfill, "scan_limit": _READ_FACTOR * self._limits.events}
        is_dense = self._is_dense(params)
        while True:
            batch = self._backfill_page(params, is_dense=is_dense)
            if not len(batch.time):
                return
            position = _earliest(batch)
            yield batch, position
            params |= {"backfilled_from": position.until, "backfilled_id": position.event_id}

    def _is_dense(self, params: Mapping[str, Any]) -> bool:
        """Return whether many of the next events in the order of time are unwritten."""
        self._cur.execute(SQL["columns_density"], {**params, "sample_size": _PROBE})
        (count,) = self._cur.fetchone() or (0,)
        return bool(count >= _PROBE * _DENSE)

    def _backfill_page(self, params: Mapping[str, Any], *, is_dense: bool) -> EventBatch:
        # By the index on time if the unwritten events are dense there. Otherwise by the index on
        # transaction ids and a sort, which skips written events.
        if is_dense:
            batch = self._read("columns_backfill_dense", _LATEST_FIRST, params)
            if len(batch.time):
                return batch
        return self._read("columns_backfill_sparse", _LATEST_FIRST, params)

    def tied_events(self, ties: Ties) -> Iterator[EventBatch]:
        """Yield the events of users at instants, by their ids."""
        params = {"ordinals": ties.user.tolist(), "times": ties.time.tolist()}
        after = _FIRST_ID
        while True:
            batch = self._read(
                "columns_tied_events", "order by event_id", {**params, "after_id": after}
            )
            if not len(batch.time):
                return
            yield batch
            if not self._is_full(batch):
                return
            after = max(map(_uuid, batch.event_id))

    def _is_full(self, batch: EventBatch) -> bool:
        """Return whether there may be further events beyond the limits of the page."""
        size = sum(map(len, batch.properties))
        return len(batch.time) >= self._limits.events or size >= self._limits.bytes

    def _read(self, source: str, order: str, params: Mapping[str, Any]) -> EventBatch:
        user, join = _HASHES if self._users else _LOOKUPS
        statement = compose(
            SQL["columns_events"],
            source=SQL[source],
            order=order,
            user=SQL[user],
            users=SQL[join] if join else "",
        )
        limits = {"limit": self._limits.events, "max_bytes": self._limits.bytes}
        others = {"piece_bytes": _PIECE_BYTES, "seed": self._users.seed if self._users else 0}
        batch = _decode(self._cur.copy_out(statement, {**params, **limits, **others}), self._users)
        if (batch.user == MISSING).any() or (batch.name == -1).any():
            raise MissingIds
        return batch


def _decode(data: bytes, users: UserTable | None) -> EventBatch:
    rows = list(decode(data, "bbbbbb"))
    time, user, name, xid, event_id, texts = zip(*rows, strict=True) if rows else [()] * 6
    keys = _array(user, ">i8")
    return EventBatch(
        time=_array(time, ">i8"),
        user=users.ordinals(keys) if users else keys.astype(np.uint32),
        name=_array(name, ">i4"),
        xid=_array(xid, ">i8"),
        event_id=np.frombuffer(b"".join(event_id), EVENT_ID),
        properties=[text for piece in texts for text in piece.split(b"\n")],
    )


def _array(parts: Sequence[bytes], kind: str) -> NDArray[Any]:
    """Return integers in the byte order of this machine."""
    stored = np.frombuffer(b"".join(parts), kind)
    return stored.astype(stored.dtype.newbyteorder("="))


def _earliest(batch: EventBatch) -> BackfillCursor:
    """Return the position of the first event in the order of time."""
    (rows,) = np.nonzero(batch.time == batch.time.min())
    event_id = min(batch.event_id[rows].tolist())
    return BackfillCursor(_instant(batch.time[rows[0]]), _uuid(event_id))


def _id_halves(batch: EventBatch) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the less and the more significant halves of ids, as keys of `np.lexsort`."""
    high, low = batch.event_id.view(">u8").reshape(-1, 2).T
    return low, high


def _instant(microseconds: Any) -> str:
    return (_EPOCH_2000 + timedelta(microseconds=int(microseconds))).isoformat()


def _uuid(event_id: Any) -> str:
    return str(UUID(bytes=bytes(event_id)))
