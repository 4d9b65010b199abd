"""Why PostgreSQL does not take events, in words of ours: its own may repeat what was given."""

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg2
from psycopg2 import errors

from common.errors import format_instant
from config.database_errors import DatabaseUnavailable

REASONS = {
    "events_user_id_is_short": "user_id must be at most 256 bytes long",
    "events_event_name_is_short": "event_name must be 1 to 200 bytes long",
    "events_occurred_at_is_of_these_years": "occurred_at must be within the years 2000 to 2099",
    "events_properties_is_a_small_object": "properties must be an object of less than 64 kB",
}
_REFUSAL_ERRORS = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    errors.RaiseException,
    errors.StatementTooComplex,
)
_LINE_NUMBER = re.compile(r"COPY\D+(\d+)")  # in any of PostgreSQL's languages


class EventsRefused(Exception):
    """PostgreSQL takes none of the batch, since one event of it cannot be stored."""

    reason: str | None = None
    """The reason in words of ours; PostgreSQL's may repeat what was given."""
    index: int | None = None
    """Of the event in the batch, where it was found while the batch was read."""


class RefusedEvent(NamedTuple):
    """An event that PostgreSQL does not take: its place in the batch, and why."""

    row: int
    reason: str | None


class Refusals(NamedTuple):
    """What is known of a batch that was refused; `are_all` where there are no others."""

    events: list[RefusedEvent]
    is_complete: bool


class EventsExpired(EventsRefused):
    """Some of the batch occurred before what is still kept, and none of it is stored.

    `places` tell which, counted from 0.
    """

    def __init__(self, accepted_from: datetime, indexes: Collection[int]) -> None:
        super().__init__(
            f"occurred_at must not be before {format_instant(accepted_from)}, "
            "up to where events are no longer kept"
        )
        self.indexes = frozenset(indexes)


def _refusal(error: psycopg2.Error) -> EventsRefused:
    reason = REASONS.get(error.diag.constraint_name or "")
    refused = EventsRefused(reason or error.diag.message_primary or "cannot be stored")
    refused.reason = reason
    if line := _LINE_NUMBER.search(error.diag.context or ""):
        refused.index = int(line[1]) - 1
    return refused


@contextmanager
def translate_refusals() -> Iterator[None]:
    try:
        yield
    except _REFUSAL_ERRORS as exc:
        raise _refusal(exc) from exc
    except errors.ReadOnlySqlTransaction as exc:  # a standby, or one that was made read-only
        raise DatabaseUnavailable from exc
