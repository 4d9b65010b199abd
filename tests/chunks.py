"""Chunks of a few events, and which of these match a filter."""

from collections.abc import Sequence

import msgspec

from common.filters import Filter
from common.where import parse_where
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.chunk import Chunk
from repo.columns.filter_evaluation import EventFields, field_conditions, matches, matching_ids
from tests.where_oracle import Event
from tests.where_strategies import EVENT_NAMES, USERS

json_of = msgspec.json.Encoder(decimal_format="number").encode


def chunk_of(events: Sequence[Event]) -> Chunk:
    """Return events as a chunk; ordinals and ids are positions in USERS and EVENT_NAMES, from 1."""
    return build_chunk(
        [record(row, event, json_of(event.properties)) for row, event in enumerate(events)]
    )


def record(row: int, event: Event, properties: str | bytes) -> EventRecord:
    """Return an event for a chunk, with its properties as JSON."""
    return EventRecord(
        time=row,
        user=USERS.index(event.user_id) + 1 if event.user_id else 0,
        name=EVENT_NAMES.index(event.event_name) + 1,
        xid=1,
        event_id=row.to_bytes(16, "big"),
        properties=properties,
    )


def parsed(where: str) -> Filter:
    result = parse_where([where])
    assert result
    return result


def event_fields(where: Filter) -> EventFields:
    names = {name: number for number, name in enumerate(EVENT_NAMES, 1)}
    users = {user: number for number, user in enumerate(USERS, 1)}
    return EventFields(
        {
            each: matching_ids(each.test, names if each.name.field == "event" else users)
            for each in field_conditions(where)
        }
    )


def matching(
    where: str | Filter, chunk: Chunk, start: int = 0, stop: int | None = None
) -> list[bool]:
    where = parsed(where) if isinstance(where, str) else where
    mask = matches(where, chunk, event_fields(where), start, stop)
    return list(map(bool, mask))
