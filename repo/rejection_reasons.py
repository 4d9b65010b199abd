"""Reasons why PostgreSQL refuses events, without the values that its own messages may hold."""

import re
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple

import psycopg2
from psycopg2 import errors

from common.errors import format_instant

# By constraint of the table `events`.
REASONS = {
    "events_user_id_is_short": "user_id must be at most 256 bytes long",
    "events_event_name_is_short": "event_name must be 1 to 200 bytes long",
    "events_occurred_at_is_of_these_years": "occurred_at must be within the years 2000 to 2099",
    "events_properties_is_a_small_object": "properties must be an object of less than 64 kB",
}
# Errors that the values of an event can cause; all others are errors of the service or the server.
REFUSAL_ERRORS = (
    psycopg2.DataError,
    psycopg2.IntegrityError,
    errors.RaiseException,
    errors.StatementTooComplex,
)
_LINE_NUMBER = re.compile(r"COPY\D+(\d+)")  # whatever language the server's messages have


class EventsRefused(Exception):
    """PostgreSQL has refused a batch because of one event."""

    reason: str | None = None
    """The reason without values; None if only PostgreSQL's own message has one."""
    index: int | None = None
    """The position of the event in the batch, from 0; None if it is unknown."""


class RefusedEvent(NamedTuple):
    """An event that PostgreSQL refuses: its position in the batch, from 0, and the reason."""

    row: int
    reason: str | None


class Refusals(NamedTuple):
    """Refused events of a batch; `is_complete` is false if there may be more."""

    events: list[RefusedEvent]
    is_complete: bool


class EventsExpired(EventsRefused):
    """Some events are older than what is accepted, and none of the batch was stored.

    `indexes` are their positions in the batch, from 0.
    """

    def __init__(self, accepted_from: datetime, indexes: Collection[int]) -> None:
        super().__init__(
            f"occurred_at must not be before {format_instant(accepted_from)}: older events are no "
            "longer accepted"
        )
        self.indexes = frozenset(indexes)


def refusal(error: psycopg2.Error) -> EventsRefused:
    """Return the refusal of a batch as an error without values."""
    # PostgreSQL's message is part of the exception, but only `reason` is shown to clients.
    reason = REASONS.get(error.diag.constraint_name or "")
    refused = EventsRefused(reason or error.diag.message_primary or "cannot be stored")
    refused.reason = reason
    if line := _LINE_NUMBER.search(error.diag.context or ""):
        refused.index = int(line[1]) - 1
    return refused
