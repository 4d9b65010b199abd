"""The progress of columns, and which events and values they should contain."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor

from repo.verify.snapshot import SQL, Span

Path = tuple[str, ...]

_MAX_PATH_BYTES = 2_000
_KEY_BYTES = 8
_LATEST = 2**63 - 1
_SLOT_US = 900 * 1_000_000
_SLOTS_TO_2000 = 1_051_872
_END_OF_CALENDAR = 4 * 10**15  # in 2126


class Instants(NamedTuple):
    """A range of time in microseconds since 2000-01-01 UTC, start <= time < end."""

    start: int
    end: int

    def within_calendar(self) -> "Instants":
        """Return the part in which events may occur."""
        return Instants(max(self.start, 0), min(self.end, _END_OF_CALENDAR))


class RegisteredPath(NamedTuple):
    """A row of `column_paths`."""

    path: Path
    since: int | None
    """Up to this time, chunks may lack the values; None if they have them all."""


class ColumnState(NamedTuple):
    """The columns of a generation: which events and values they should contain."""

    generation: int
    params: Mapping[str, Any]
    """Parameters of statements that select the events that are written."""
    columns_from: int | None
    """The properties of events before this time were dropped; None if none were."""
    first_slot: int
    """Events of earlier slots had been dropped before there were columns."""
    left_out: bool
    """Whether columns lack values of paths that are not registered."""
    paths: Mapping[int, RegisteredPath]
    erased: NDArray[np.int64]
    """The ordinals of erased users whose events chunks may still contain."""
    has_reduced_counts: bool
    """Whether a user was erased whose events had been dropped: rollups still count these events."""

    def compared_after(self) -> Mapping[Path, int]:
        """Return for each registered path the time after which all its values must be there."""
        return {row.path: self._compared_after(row.since) for row in self.paths.values()}

    def _compared_after(self, since: int | None) -> int:
        dropped = -_LATEST if self.columns_from is None else self.columns_from - 1
        return dropped if since is None else max(since, dropped)

    def unregistered_compared_after(self, path: Path) -> int:
        """Return the same for a path that is not registered; columns lack it."""
        size = sum(len(key.encode()) + _KEY_BYTES for key in path)
        is_left_out = self.left_out or size > _MAX_PATH_BYTES
        return _LATEST if is_left_out else self._compared_after(None)


def instants_of(span: Span) -> Instants:
    """Return the range of time of a run of slots."""
    return Instants(*((slot - _SLOTS_TO_2000) * _SLOT_US for slot in span))


def slots_of(time: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the slots in which times are."""
    return time // _SLOT_US + _SLOTS_TO_2000


def read_state(cur: cursor, generation: int) -> ColumnState | None:
    """Return the progress of the columns of a generation; None if nothing is written."""
    cur.execute(SQL["verify_column_state"], {"generation": generation})
    row = cur.fetchone()
    if row is None:
        return None
    snapshot, since, to, backfilled_from, backfilled_id, columns_from, first_slot, *rest = row
    left_out, has_reduced_counts = rest
    params = {
        "column_snapshot": snapshot,
        "backfill_since": since,
        "backfill_to": to,
        "backfilled_from": backfilled_from,
        "backfilled_id": backfilled_id,
    }
    return ColumnState(
        generation,
        params,
        columns_from,
        first_slot,
        left_out,
        _read_paths(cur, generation),
        _read_erased(cur),
        has_reduced_counts,
    )


def _read_paths(cur: cursor, generation: int) -> dict[int, RegisteredPath]:
    cur.execute(SQL["verify_column_paths"], {"generation": generation})
    return {path_id: RegisteredPath(tuple(path), since) for path_id, path, since in cur}


def _read_erased(cur: cursor) -> NDArray[np.int64]:
    cur.execute(SQL["verify_column_erasures"])
    return np.array([ordinal for (ordinal,) in cur], np.int64)
