"""Evaluate filters on events that are read as rows, by means of a temporary chunk."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from common.errors import Fault, InvalidParameter
from common.filters import Filter, Name
from repo.columns.builder import EventRecord, build_chunk
from repo.columns.filter_evaluation import (
    EventFields,
    field_conditions,
    matches,
    matching_ids,
    paths_of,
)
from repo.columns.property_collector import is_too_long

_NO_ID = bytes(16)


class EventRow(NamedTuple):
    """The fields of an event that filters test."""

    user_id: str
    """Empty for events without a user."""
    event_name: str
    properties: str
    """A JSON object."""


def matching_rows(where: Filter, rows: Sequence[EventRow]) -> list[bool]:
    """Return which of the events match. Raises: InvalidParameter."""
    paths = paths_of(where)
    _check_paths(paths)
    users = _numbers(row.user_id for row in rows if row.user_id)
    names = _numbers(row.event_name for row in rows)
    records = [
        # The position in place of the time, so that the chunk has the order of the rows.
        EventRecord(
            position, users.get(row.user_id, 0), names[row.event_name], 0, _NO_ID, row.properties
        )
        for position, row in enumerate(rows)
    ]
    ids = {"user": users, "event": names}
    fields = {
        condition: matching_ids(condition.test, ids[condition.name.field or "event"])
        for condition in field_conditions(where)
    }
    chunk = build_chunk(records, paths.__contains__)
    return matches(where, chunk, EventFields(fields)).tolist()  # type: ignore[no-any-return]


def _numbers(texts: Iterable[str]) -> dict[str, int]:
    """Number texts from 1."""
    return {text: number for number, text in enumerate(dict.fromkeys(texts), 1)}


def _check_paths(paths: Iterable[tuple[str, ...]]) -> None:
    faults = [
        Fault("where", f"the property {Name(path)} has so long a name that columns do not hold it")
        for path in sorted(paths)
        if is_too_long(path)
    ]
    if faults:
        raise InvalidParameter(faults=faults)
