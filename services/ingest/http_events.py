"""Parsing and validation of the events in an HTTP body."""

import io
import re
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

from common.errors import EventFault, InvalidEvents, TooLarge, UnreadableBody
from repo.ingest import Event
from services.ingest.http_body import Form
from services.ingest.json_limits import JsonLimits
from services.ingest.strict_json import HugeNumber, NotStrict, check_strict
from services.ingest.validation import FIELDS, REQUESTS, Invalid, RawEvent, Validator
from utils.uuid7 import time_ordered_uuid

MAX_EVENTS = 10_000
MAX_FAULTS = 100  # of a request that are reported; the others are only counted

EVENT = "(event)"
_UNKNOWN = f"(unknown) only these are allowed: {', '.join(FIELDS)}"
_TYPES = {
    "event_id": "event_id must be a UUID",
    "user_id": "user_id must be text or null",
    "event_name": "event_name must be text",
    "occurred_at": "occurred_at must be a time such as 2025-01-31T09:00:00+01:00",
}
_FIELD = re.compile(rf"at `\$\.({'|'.join(_TYPES)})`$")
_BOM = b"\xef\xbb\xbf"
_NULL = msgspec.Raw(b"null")
# More commas may be an array of too many elements, which are counted first without keeping them.
_MAX_COMMAS = 500_000


class EventBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event as sent by the client."""

    event_id: str | None = None
    user_id: str | None = None
    event_name: str | None = None
    occurred_at: str | None = None
    properties: msgspec.Raw = _NULL


class _Counted(msgspec.Struct, gc=False):
    """An element of an array that is only counted; decoding stops after MAX_EVENTS of them."""

    def __post_init__(self) -> None:
        _counter.count += 1
        if _counter.count > MAX_EVENTS:
            raise ValueError


_counter = threading.local()  # msgspec passes no context to `__post_init__`
_decode = msgspec.json.Decoder(EventBody).decode
_count = msgspec.json.Decoder(list[_Counted]).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def read_events(text: bytes, form: Form, now: datetime) -> list[Event]:
    """All events of a body. This may take long: call it in a thread.

    Raises: UnreadableBody, TooLarge, InvalidEvents.
    """
    text = text.removeprefix(_BOM)
    reader, limits = _Reader(now), JsonLimits(text)
    events: list[Event] = []
    faults = Faults()
    for index, piece in enumerate(_pieces(text, form)):
        try:
            limits.check(piece)
            events.append(reader.event(piece))
        except Invalid as exc:
            faults.add(index, str(exc))
    if faults.count:
        raise faults.error(len(events) + faults.count)
    return events


class Faults:
    """The faults of the events of a request, of which the first 100 are reported."""

    def __init__(self) -> None:
        self.count = 0
        self._reported: list[EventFault] = []

    def add(self, index: int, reason: str) -> None:
        """Add a fault. The first word of `reason` is the field at fault."""
        self.count += 1
        if len(self._reported) < MAX_FAULTS:
            parameter, _, message = reason.partition(" ")
            self._reported.append(EventFault(parameter, message, index))

    def error(self, events: int, *, are_all: bool = True) -> InvalidEvents:
        """The error about `events` events in all; `are_all` false: there may be more faults."""
        return InvalidEvents(self.count, events, self._reported, is_complete=are_all)


class _Reader:
    """Reads the events of one request, which have the same time of receipt."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._validator = Validator(None, lambda: now, REQUESTS)

    def event(self, piece: bytes) -> Event:
        """The valid event in a JSON text. A missing event_id or occurred_at is generated.

        Raises: Invalid.
        """
        body = _decode_event(piece)
        if body.event_id is not None and body.occurred_at is None:
            # Otherwise a retry with the same event_id would have another time.
            raise Invalid("occurred_at must be given if event_id is")
        return self._validator(
            RawEvent(
                time_ordered_uuid(self._now) if body.event_id is None else body.event_id,
                body.user_id,
                body.event_name,
                self._now if body.occurred_at is None else body.occurred_at,
                None if body.properties == _NULL else bytes(body.properties).decode(),
            )
        )


def _pieces(text: bytes, form: Form) -> Iterable[bytes]:
    """The JSON text of each event. Raises: UnreadableBody, TooLarge."""
    if form == "ndjson":
        return _lines(text)
    try:
        if text.lstrip(b" \t\r\n").startswith(b"["):
            return _elements(text)
        _skip(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise UnreadableBody("must be valid JSON in UTF-8") from None
    return (text,)


def _lines(text: bytes) -> Iterator[bytes]:
    """The lines that are not blank. Raises: TooLarge."""
    if text.count(b"\n") > 2 * MAX_EVENTS:
        raise _too_many()
    count = 0
    for line in io.BytesIO(text):
        if not line.isspace():
            count += 1
            if count > MAX_EVENTS:
                raise _too_many()
            yield line


def _elements(text: bytes) -> Iterable[bytes]:
    """The elements of an array. Raises: UnreadableBody, TooLarge, and errors of the decoder."""
    if text.count(b",") > _MAX_COMMAS:
        _count_elements(text)
    elements = _split(text)
    if len(elements) > MAX_EVENTS:
        raise _too_many()
    return map(bytes, elements)


def _count_elements(text: bytes) -> None:
    """Check the number of elements without keeping them.

    Raises: UnreadableBody, TooLarge, and errors of the decoder.
    """
    _counter.count = 0
    try:
        _count(text)
    except msgspec.ValidationError:
        if _counter.count > MAX_EVENTS:
            raise _too_many() from None
        raise UnreadableBody("must be an array of JSON objects") from None


def _decode_event(piece: bytes) -> EventBody:
    """The event in a JSON text. Raises: Invalid."""
    try:
        # The decoder skips the contents of `properties`, so these are checked first.
        _check(piece.decode())
        return _decode(piece)
    except UnicodeDecodeError:
        raise Invalid(f"{EVENT} must be UTF-8") from None
    except msgspec.ValidationError as exc:
        raise Invalid(_reason(str(exc))) from None
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(f"{EVENT} must be valid JSON") from None


def _reason(decoder_message: str) -> str:
    """The reason for a message of the decoder, which may repeat personal data of the event."""
    if decoder_message.startswith("Object contains unknown field"):
        return _UNKNOWN
    field = _FIELD.search(decoder_message)
    return _TYPES[field[1]] if field else f"{EVENT} must be a JSON object"


def _check(text: str) -> None:
    """Check that no key is repeated and no number too large. Raises: Invalid."""
    try:
        check_strict(text)
    except HugeNumber as exc:
        raise Invalid(f"properties {exc}") from None
    except NotStrict as exc:
        raise Invalid(f"{EVENT} {exc}") from None


def _too_many() -> TooLarge:
    return TooLarge(f"must hold at most {MAX_EVENTS:,} events")
