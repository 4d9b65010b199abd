"""Chunks of a few events."""

from collections.abc import Sequence

import msgspec

from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES, USERS

_JSON = msgspec.json.Encoder(decimal_format="number")


def chunk_of(events: Sequence[Event]) -> Chunk:
    """Return events as a chunk; ordinals and ids are positions in USERS and EVENT_NAMES, from 1."""
    return build_chunk([_record(row, event) for row, event in enumerate(events)])


def _record(row: int, event: Event) -> EventRecord:
    return EventRecord(
        time=row,
        user=USERS.index(event.user_id) + 1 if event.user_id else 0,
        name=EVENT_NAMES.index(event.event_name) + 1,
        xid=1,
        event_id=row.to_bytes(16, "big"),
        properties=_JSON.encode(event.properties),
    )
