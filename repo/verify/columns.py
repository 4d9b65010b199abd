"""Verify columns: recount the events, and compare them with those of all chunks."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from repo.verify.column_chunks import ChunkReader, read_list, rows_of_chunk
from repo.verify.column_events import read_events
from repo.verify.column_state import ColumnState, Instants, instants_of, read_state
from repo.verify.columns_before_horizon import NOTHING, SlotName, count_records, count_rows
from repo.verify.fingerprints import EventRows, Property, concatenate
from repo.verify.recount import Records
from repo.verify.report import MAX_LISTED, Difference, format_name, format_span
from repo.verify.slot_chunk import Chunk, name_finder
from repo.verify.snapshot import Span
from utils.formats import quantity

_EPOCH_2000 = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_NAMED = 3


class EventKey(NamedTuple):
    """Under these, differing events are listed."""

    time: int
    user: int
    name: int

    def mask(self, rows: EventRows) -> NDArray[np.bool_]:
        """Return which rows have this key."""
        mask: NDArray[np.bool_] = (
            (rows.time == self.time) & (rows.user == self.user) & (rows.name == self.name)
        )
        return mask


class ColumnVerifier:
    """Verifies the columns of the events of a chunk of slots."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self.end = chunk.span.end
        self._name_of = name_finder(chunk.cur)
        self._state = read_state(chunk.cur, chunk.state.generation)
        if self._state is not None:
            self._list = read_list(chunk.cur, self._state)
            self._reader = ChunkReader(chunk.cur, self._state, chunk.findings)

    def add(self, piece: Span, records: Records) -> None:
        """Compare the columns of a piece with the events, or with rollups before the horizon."""
        if self._state is None or piece.end > self.end:
            return
        span = instants_of(piece)
        stored = self._read_chunks(self._state, span)
        if piece.end <= self._chunk.state.horizon:
            self._compare_counts(self._state, stored, records)
        else:
            self._compare(self._state, stored, read_events(self._chunk.cur, self._state, span))

    def _read_chunks(
        self, state: ColumnState, span: Instants, *, is_detailed: bool = False
    ) -> EventRows:
        """Return the rows of all chunks, and check the chunks that begin in the range."""
        parts = []
        for listed in self._list:
            if listed.overlaps(span) and (chunk := self._reader.read(listed)) is not None:
                if listed.begins_in(span) and not is_detailed:
                    self._reader.check(listed, chunk)
                parts.append(rows_of_chunk(state, chunk, span, is_detailed=is_detailed))
        return concatenate(parts)

    def _compare(self, state: ColumnState, stored: EventRows, expected: EventRows) -> None:
        for key in _differing_keys(stored, expected):
            self._report(state, key, stored, expected)
        tied = stored.select(stored.has_id())
        # The ids of events that differ otherwise are not compared.
        is_known = np.isin(tied.with_ids(), expected.with_ids())
        is_known |= ~np.isin(tied.fingerprints(), expected.fingerprints())
        for key in _keys(tied.select(~is_known)):
            self._add(key, "another event_id", "that of the event")

    def _report(
        self, state: ColumnState, key: EventKey, stored: EventRows, expected: EventRows
    ) -> None:
        if self._chunk.findings.differences >= MAX_LISTED:
            self._add(key, "", "")
            return
        have, need = (int(np.count_nonzero(key.mask(rows))) for rows in (stored, expected))
        if have != need:
            self._add(key, quantity(have, "event"), quantity(need, "event"))
        else:
            self._add(key, f"other values of {self._differing(state, key)}", "those of the event")

    def _differing(self, state: ColumnState, key: EventKey) -> str:
        """Return the properties that differ, without their values, which are personal data."""
        instant = Instants(key.time, key.time + 1)
        sides = (
            self._read_chunks(state, instant, is_detailed=True),
            read_events(self._chunk.cur, state, instant, is_detailed=True),
        )
        stored, expected = (_property_hashes(rows.select(key.mask(rows))) for rows in sides)
        properties = sorted(stored.keys() | expected.keys())
        names = [str(name) for name in properties if stored.get(name) != expected.get(name)]
        if len(names) > _MAX_NAMED:
            names[_MAX_NAMED:] = [f"{len(names) - _MAX_NAMED} more"]
        return ", ".join(names or ["the transaction"])

    def _compare_counts(self, state: ColumnState, stored: EventRows, records: Records) -> None:
        """Compare the number of events and the users by slot and name."""
        counted, expected = count_rows(stored), count_records(records)
        reduced = state.has_reduced_counts
        for key in sorted(counted.keys() | expected.keys()):
            have, need = counted.get(key, NOTHING), expected.get(key, NOTHING)
            is_equal = have.equals(need, has_reduced_counts=reduced)
            if not is_equal and key.slot >= state.first_slot:
                self._add(key, str(have), str(need))

    def _add(self, key: EventKey | SlotName, stored: str, expected: str) -> None:
        is_listed = self._chunk.findings.differences < MAX_LISTED
        text = self._describe(key) if is_listed else ""
        self._chunk.findings.add(Difference("columns", text, stored, expected))

    def _describe(self, key: EventKey | SlotName) -> str:
        if isinstance(key, SlotName):
            name = format_name(key.name_id, self._name_of)
            return f"{format_span(Span(key.slot, key.slot + 1))} {name}"
        name = format_name(key.name, self._name_of)
        user = {0: "no user", -1: "a user without an ordinal"}.get(key.user, f"user {key.user}")
        return f"{_format_time(key.time)} {name} of {user}"


def _differing_keys(stored: EventRows, expected: EventRows) -> list[EventKey]:
    """Return the keys of events that only one side has, or has more often."""
    have, need = stored.fingerprints(), expected.fingerprints()
    if np.array_equal(np.sort(have), np.sort(need)):
        return []
    distinct, positions = np.unique(np.concatenate([have, need]), return_inverse=True)
    have_positions, need_positions = np.split(positions, [len(have)])
    counts = np.bincount(have_positions, minlength=len(distinct))
    differs = counts != np.bincount(need_positions, minlength=len(distinct))
    sides = ((stored, have_positions), (expected, need_positions))
    return _keys(concatenate([rows.select(differs[positions]) for rows, positions in sides]))


def _keys(rows: EventRows) -> list[EventKey]:
    """Return the distinct keys, ascending."""
    keys = np.stack([rows.time, rows.user, rows.name], axis=1)
    return [EventKey(*key) for key in np.unique(keys, axis=0).tolist()]


def _property_hashes(rows: EventRows) -> Mapping[Property, list[int]]:
    """Return the hashes of the values of each property that has any, ascending."""
    return {
        key: sorted(hashes.tolist()) for key, hashes in rows.by_property.items() if hashes.any()
    }


def _format_time(time: int) -> str:
    try:
        moment = _EPOCH_2000 + timedelta(microseconds=time)
    except OverflowError:
        return f"time {time}"
    return moment.isoformat().replace("+00:00", "Z")
