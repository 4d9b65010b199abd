"""Validation of events by column: a whole column at once, and single values where that fails.

It accepts what `Validator` accepts, but for local times that need an adjustment, and makes the same
events. A value that it does not accept becomes None: its row is validated by itself, which finds
the reason.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from repo.ingest import rows_of
from services.ingest.fast_validation import IDS, all_match
from services.ingest.strict_json import are_strict
from services.ingest.validation import (
    STORED_LIMIT,
    Invalid,
    has_storable_escapes,
    stored_event_id,
    stored_event_name,
    stored_properties,
    stored_user_id,
)

Texts = Sequence[str | None]
_USER_BYTES, _NAME_BYTES = 256, 200


class EventColumns(NamedTuple):
    """The values of the fields of some events, before validation."""

    event_ids: Sequence[Any]
    user_ids: Sequence[Any]
    event_names: Sequence[Any]
    times: Texts
    """The times as stored."""
    properties: Sequence[Any]
    is_strict: bool
    """Whether all properties are certainly strict JSON."""

    def take(self, rows: Sequence[int]) -> "EventColumns":
        """The events at these positions."""
        columns = ([column[at] for at in rows] for column in self[:-1])
        ids, users, names, times, properties = columns
        return EventColumns(ids, users, names, times, properties, self.is_strict)


def valid_rows(events: EventColumns) -> tuple[list[str], list[int]]:
    """The rows of the events that are valid, in the text format of COPY, and their positions."""
    columns = (
        _ids(events.event_ids),
        _users(events.user_ids),
        _names(events.event_names),
        events.times,
        _properties(events.properties, events.is_strict),
    )
    invalid = {at for column in columns if None in column for at in _positions_of_none(column)}
    positions = [at for at in range(len(events.times)) if at not in invalid]
    if invalid:
        columns = tuple([column[at] for at in positions] for column in columns)  # type: ignore[assignment]
    return rows_of(columns) if positions else [], positions  # type: ignore[arg-type]


def _positions_of_none(values: Texts) -> list[int]:
    return [at for at, value in enumerate(values) if value is None]


def _ids(values: Sequence[Any]) -> Texts:
    if _are_texts(values) and all_match(IDS, values):
        return values
    return _each(stored_event_id, values)


def _users(values: Sequence[Any]) -> Texts:
    kinds = set(map(type, values))
    if not kinds <= {str, int, type(None)}:
        return _each(stored_user_id, values)
    if kinds != {str}:
        values = ["" if value is None else str(value) for value in values]
    return values if _are_short(values, _USER_BYTES) else _each(stored_user_id, values)


def _names(values: Sequence[Any]) -> Texts:
    if _are_texts(values) and all(values) and _are_short(values, _NAME_BYTES):
        return values
    return _each(stored_event_name, values)


def _properties(values: Sequence[Any], is_strict: bool) -> Texts:
    if not all(values):
        values = [value or "{}" for value in values]
    if _are_texts(values) and _are_objects(values) and (is_strict or _are_strict(values)):
        return values
    return _each(lambda value: stored_properties(value, is_strict), values)


def _are_objects(values: Sequence[str]) -> bool:
    """Whether all texts begin as an object, are not too large, and have escapes that are stored."""
    text = "\n".join(("", *values))
    return (
        text.count("\n{") == len(values) == text.count("\n")
        and max(map(len, values)) <= STORED_LIMIT
        and ("\\u" not in text or has_storable_escapes(text))
    )


def _are_strict(objects: Sequence[str]) -> bool:
    return are_strict("\n".join(objects).encode(errors="replace"), len(objects))


def _are_texts(values: Sequence[Any]) -> bool:
    return set(map(type, values)) == {str}


def _are_short(values: Sequence[str], max_bytes: int) -> bool:
    text = "".join(values)
    # UTF-8 takes at most 4 bytes per character.
    max_chars = max_bytes if text.isascii() else max_bytes // 4
    return max(map(len, values)) <= max_chars and "\0" not in text


def _each(read: Callable[[Any], str], values: Sequence[Any]) -> list[str | None]:
    """The values one by one, None for invalid ones."""
    texts: list[str | None] = []
    for value in values:
        try:
            texts.append(read(value))
        except Invalid:
            texts.append(None)
    return texts
