"""Validation of the events in an HTTP body, within limits of their size.

Blocks of events are validated at once. From the first block on that needs a closer look, the events
are validated one by one, which finds the reasons.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import randbits

import msgspec

from common.errors import EventFault, InvalidEvents, TooLarge
from repo.ingest import Event, as_rows
from services.ingest.fast_validation import validate_block
from services.ingest.http_body import Form, split_events
from services.ingest.lone_surrogates import lone_surrogate_field
from services.ingest.strict_json import (
    HugeNumber,
    NotStrict,
    check_strict,
)
from services.ingest.validation import FIELDS, REQUESTS, Invalid, RawEvent, Validator

MAX_FAULTS = 100  # of a request that are reported; the others are only counted
# Properties may have 64 kB as PostgreSQL writes them; escapes and spaces can make the text longer.
MAX_EVENT_BYTES = 2**18
# More values do not fit into 64 kB: PostgreSQL writes at least two bytes for each.
MAX_EVENT_VALUES = 2**15
# The limit for all events of a request; parsing so many takes some tenths of a second.
MAX_VALUES = 1_000_000

EVENT = "(event)"
_BLOCK = 100  # events that are validated at once
_UNKNOWN = f"(unknown) only these are allowed: {', '.join(FIELDS)}"
_TYPES = {
    "event_id": "event_id must be a UUID",
    "user_id": "user_id must be text, a whole number or null",
    "event_name": "event_name must be text",
    "occurred_at": "occurred_at must be a time such as 2025-01-31T09:00:00+01:00",
}
_FIELD = re.compile(rf"at `\$\.({'|'.join(_TYPES)})`$")
# Linear time for any text: possessive quantifiers do not backtrack, and an unterminated string
# matches up to the end.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_NULL = msgspec.Raw(b"null")
_SPACES = b" \t\r\n"

# The version and variant bits of a UUID of version 7 (RFC 9562).
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_LOW_BITS = 2**62 - 1


class EventBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event as sent by the client."""

    event_id: str | None = None
    user_id: str | int | None = None
    event_name: str | None = None
    occurred_at: str | None = None
    properties: msgspec.Raw = _NULL


_decoder = msgspec.json.Decoder(EventBody)
_decode, _decode_lines = _decoder.decode, _decoder.decode_lines


@dataclass(slots=True)
class ReadEvents:
    """The valid events of a request, and the faults of the others."""

    rows: list[str]
    """In the text format of COPY."""
    indexes: list[int]
    """The position of each row in the request, from 0."""
    faults: "Faults"

    def error(self, *, are_all: bool = True) -> InvalidEvents:
        """The error about the faults; `are_all` false: there may be more."""
        return self.faults.error(len(self.rows) + self.faults.count, are_all=are_all)

    def reject(self, reasons: Mapping[int, str]) -> None:
        """Turn rows into faults; `reasons` are by the number of a row."""
        for row, reason in sorted(reasons.items()):
            self.faults.add(self.indexes[row], reason)
        kept = [row for row in range(len(self.rows)) if row not in reasons]
        self.rows = [self.rows[row] for row in kept]
        self.indexes = [self.indexes[row] for row in kept]


def read_events(text: bytes, form: Form, now: datetime) -> ReadEvents:
    """The events of a decompressed body, which are all valid.

    Raises: UnreadableBody, TooLarge, InvalidEvents.
    """
    events = read_valid_events(split_events(text, form), now)
    if events.faults.count:
        raise events.error()
    return events


def read_valid_events(pieces: list[bytes], now: datetime) -> ReadEvents:
    """The events of a request, each a JSON text.

    `now` is the time of receipt in UTC. This may take long: call it in a thread. Raises: TooLarge.
    """
    limits, faults = JsonLimits(pieces), Faults()
    rows = [] if limits.are_near else _read_blocks(pieces, now)
    events = ReadEvents(rows, list(range(len(rows))), faults)
    if len(rows) < len(pieces):
        _read_one_by_one(events, pieces, limits, now)
    return events


def _read_blocks(pieces: list[bytes], now: datetime) -> list[str]:
    """The rows of the first blocks, up to one that needs a closer look."""
    rows: list[str] = []
    for first in range(0, len(pieces), _BLOCK):
        try:
            block_rows = _read_block(pieces[first : first + _BLOCK], now)
        except (ValueError, RecursionError):
            return rows
        if block_rows is None:
            return rows
        rows += block_rows
    return rows


def _read_block(pieces: list[bytes], now: datetime) -> list[str] | None:
    """The rows of a block of events; None if any of them needs a closer look.

    Raises: ValueError or RecursionError if any of them cannot be decoded.
    """
    if max(map(len, pieces)) > MAX_EVENT_BYTES:
        return None
    lines = b"\n".join([piece.strip(_SPACES) for piece in pieces])
    if _separators(lines) > MAX_EVENT_VALUES:
        return None
    events = _decode_lines(lines)
    if len(events) != len(pieces) or any(map(_lacks_time, events)):
        return None
    columns = list(zip(*[_texts(event, now) for event in events], strict=True))
    return validate_block(columns, now + REQUESTS.max_ahead, lines)


def _texts(event: EventBody, now: datetime) -> Event:
    """The fields of an event as text. A missing event_id or occurred_at is generated."""
    return Event(
        time_ordered_uuid(now) if event.event_id is None else event.event_id,
        "" if event.user_id is None else str(event.user_id),
        event.event_name or "",
        now.isoformat() if event.occurred_at is None else event.occurred_at,
        "{}" if event.properties == _NULL else str(event.properties, "utf-8"),
    )


def _lacks_time(event: EventBody) -> bool:
    # A retry with the same event_id would have another time if it were generated.
    return event.occurred_at is None and event.event_id is not None


def _read_one_by_one(
    events: ReadEvents, pieces: list[bytes], limits: "JsonLimits", now: datetime
) -> None:
    """Read the events after those that were read already. Raises: TooLarge."""
    validator = Validator(None, lambda: now, REQUESTS)
    valid: list[Event] = []
    for index, piece in enumerate(pieces[len(events.rows) :], len(events.rows)):
        try:
            limits.check(piece)
            valid.append(validator(_raw_event(piece, now), is_strict=True))
            events.indexes.append(index)
        except Invalid as exc:
            events.faults.add(index, str(exc))
    events.rows += as_rows(valid)


def _raw_event(piece: bytes, now: datetime) -> RawEvent:
    """The event in a JSON text. A missing event_id or occurred_at is generated. Raises: Invalid."""
    event = _decode_event(piece)
    if _lacks_time(event):
        raise Invalid("occurred_at must be given if event_id is")
    return RawEvent(
        time_ordered_uuid(now) if event.event_id is None else event.event_id,
        event.user_id,
        event.event_name,
        now if event.occurred_at is None else event.occurred_at,
        None if event.properties == _NULL else bytes(event.properties).decode(),
    )


def _decode_event(piece: bytes) -> EventBody:
    """The event in a JSON text. Raises: Invalid."""
    try:
        # The decoder skips the contents of `properties`, so these are checked first.
        check_json(piece.decode())
        return _decode(piece)
    except UnicodeDecodeError:
        raise Invalid(f"{EVENT} must be UTF-8") from None
    except msgspec.ValidationError as exc:
        raise Invalid(_reason(str(exc))) from None
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(undecodable_reason(piece.decode(), FIELDS)) from None


def undecodable_reason(text: str, fields: Collection[str]) -> str:
    """Why the decoder refuses an event with these fields."""
    field = lone_surrogate_field(text)
    if field is None:
        return f"{EVENT} must be valid JSON"
    return f"{field if field in fields else EVENT} must not contain a lone surrogate"


def _reason(decoder_message: str) -> str:
    """The reason for a message of the decoder, which may repeat personal data of the event."""
    if decoder_message.startswith("Object contains unknown field"):
        return _UNKNOWN
    field = _FIELD.search(decoder_message)
    return _TYPES[field[1]] if field else f"{EVENT} must be a JSON object"


def check_json(text: str) -> None:
    """Check that no key is repeated and no number too large. Raises: Invalid."""
    try:
        check_strict(text)
    except HugeNumber as exc:
        raise Invalid(f"properties {exc}") from None
    except NotStrict as exc:
        raise Invalid(f"{EVENT} {exc}") from None


def time_ordered_uuid(instant: datetime) -> str:
    """A UUID of version 7 whose first 48 bits are the milliseconds of `instant`."""
    # New ids are adjacent in the index, so that inserts touch few of its pages.
    milliseconds = int(instant.timestamp() * 1000)
    random = randbits(74)
    number = milliseconds << 80 | _VERSION | random >> 62 << 64 | _VARIANT | random & _LOW_BITS
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Faults:
    """The faults of the events of a request, of which at most 100 are reported."""

    def __init__(self, parameters: Mapping[str, str] | None = None) -> None:
        """`parameters` are the names of fields in the request, where these differ."""
        self._parameters = parameters or {}
        self.count = 0
        self._reported: list[EventFault] = []

    def add(self, index: int, reason: str) -> None:
        """Add a fault. The first word of `reason` is the field at fault."""
        self.count += 1
        if len(self._reported) < MAX_FAULTS:
            field, _, message = reason.partition(" ")
            self._reported.append(EventFault(self._named(field), message, index))

    def _named(self, field: str) -> str:
        return self._parameters.get(field, field)

    def add_all(self, others: "Faults", indexes: Sequence[int]) -> None:
        """Add the faults of other events, which are at `indexes` in this request."""
        self.count += others.count
        added = (
            EventFault(self._named(fault.parameter), fault.message, indexes[fault.index])
            for fault in others._reported
        )
        self._reported = sorted((*self._reported, *added), key=lambda fault: fault.index)
        del self._reported[MAX_FAULTS:]

    @property
    def reported(self) -> tuple[EventFault, ...]:
        """The faults to report, 100 at most."""
        return tuple(self._reported)

    def error(self, events: int, *, are_all: bool = True) -> InvalidEvents:
        """The error about `events` events in all; `are_all` false: there may be more faults."""
        return InvalidEvents(self.count, events, self._reported, is_complete=are_all)


class JsonLimits:
    """Checks the events of one request before they are parsed: a small text can become large
    objects."""

    def __init__(self, pieces: list[bytes]) -> None:
        # A separator takes a byte, so those of a short text need not be counted.
        is_long = sum(map(len, pieces)) > MAX_VALUES
        self.are_near = is_long and sum(map(_separators, pieces)) > MAX_VALUES
        """Whether all events together may have too many values."""
        self._remaining = MAX_VALUES

    def check(self, event: bytes) -> None:
        """Check the next event.

        Raises: Invalid if the event is too large, TooLarge if all events together are.
        """
        if len(event) > MAX_EVENT_BYTES:
            raise Invalid(f"{EVENT} must be at most {MAX_EVENT_BYTES // 1024} kB long")
        values = self._count_values(event)
        if values > MAX_EVENT_VALUES:
            raise Invalid("properties must be an object of less than 64 kB")
        self._remaining -= values
        if self._remaining < 0:
            raise TooLarge(f"must hold at most {MAX_VALUES:,} JSON values")

    def _count_values(self, event: bytes) -> int:
        """The number of values, estimated by commas and opening brackets."""
        # Those inside strings make it an upper bound. Removing the strings takes time, so this is
        # only done if the bound exceeds a limit.
        upper_bound = _separators(event)
        if self.are_near or upper_bound > MAX_EVENT_VALUES:
            return _separators(_STRING.sub(b"", event))
        return upper_bound


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
