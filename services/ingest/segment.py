"""Calls of Segment's tracking API as events.

A call becomes the JSON of an event, which is validated like any other.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import msgspec

from services.ingest.http_body import split_batch, split_events
from services.ingest.http_event_validation import (
    EVENT,
    EventBody,
    Faults,
    JsonLimits,
    ReadEvents,
    check_json,
    read_valid_events,
    undecodable_reason,
)
from services.ingest.mapping.ids import id_of_keys
from services.ingest.validation import REQUESTS, Invalid

Call = Literal["track", "page", "screen", "identify", "group", "alias"]
CALLS: tuple[Call, ...] = get_args(Call)

_NULL = msgspec.Raw(b"null")
_KEY = re.compile(r"at `\$\.(\w+)`$")
_KEYS = {
    "event_id": "messageId",
    "user_id": "userId",
    "event_name": "event",
    "occurred_at": "timestamp",
}
"""The keys of a call by the fields of its event."""

_Id = str | int | None


class _Message(msgspec.Struct, rename="camel", gc=False):
    """A call, without what is not stored."""

    type: str | None = None
    message_id: str | None = None
    timestamp: str | None = None
    original_timestamp: str | None = None
    user_id: _Id = None
    anonymous_id: _Id = None
    event: str | None = None
    name: str | None = None
    category: str | None = None
    group_id: _Id = None
    previous_id: _Id = None
    properties: msgspec.Raw = _NULL
    traits: msgspec.Raw = _NULL


class _Sent(msgspec.Struct, rename="camel", gc=False):
    """The time at which a body was sent, by the client's clock; other members are skipped."""

    sent_at: Any = None


_FIELDS = _Message.__struct_encode_fields__
_decode_sent_at = msgspec.json.Decoder(_Sent).decode
_decode = msgspec.json.Decoder(_Message).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def read_batch(text: bytes, now: datetime) -> ReadEvents:
    """The calls of a batch as events.

    `now` is the time of receipt in UTC. This may take long: call it in a thread.

    Raises: UnreadableBody, TooLarge; InvalidEvents if no call is valid.
    """
    return _read(split_batch(text), None, now, _clock_ahead(text, now))


def read_call(call: Call, text: bytes, now: datetime) -> ReadEvents:
    """The only call of a body, as `read_batch` does for several."""
    return _read(split_events(text, "json"), call, now, _clock_ahead(text, now))


def _clock_ahead(text: bytes, now: datetime) -> timedelta:
    """Return how far `sentAt` shows the client's clock to be ahead; 0 up to 5 minutes.

    A clock that is behind is not corrected: an old `sentAt` may be that of a stored request.
    """
    try:
        ahead = datetime.fromisoformat(_decode_sent_at(text).sent_at) - now
        return ahead if ahead > REQUESTS.max_ahead else timedelta()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError, ValueError):
        return timedelta()


def _read(pieces: list[bytes], call: Call | None, now: datetime, ahead: timedelta) -> ReadEvents:
    """Raises: TooLarge, InvalidEvents."""
    limits, faults = JsonLimits(pieces), Faults(_KEYS)
    bodies, indexes = list[bytes](), list[int]()
    for index, piece in enumerate(pieces):
        try:
            limits.check(piece)
            bodies.append(_event(piece, call, now, ahead))
            indexes.append(index)
        except Invalid as exc:
            faults.add(index, str(exc))
    valid = read_valid_events(bodies, now)
    faults.add_all(valid.faults, indexes)
    events = ReadEvents(valid.rows, [indexes[row] for row in valid.indexes], faults)
    if faults.count and not events.rows:
        raise events.error()
    return events


def _event(piece: bytes, call: Call | None, now: datetime, ahead: timedelta) -> bytes:
    """The JSON of the event that a call becomes. Raises: Invalid."""
    message = _decode_message(piece)
    kind = call or message.type
    if kind not in CALLS:
        raise Invalid(f"type must be one of {', '.join(CALLS)}")
    name = message.event if kind == "track" else kind
    body = EventBody(
        _event_id(name, message.message_id),
        message.anonymous_id if message.user_id in (None, "") else message.user_id,
        name,
        _time(message, now, ahead),
        _PROPERTIES[kind](message),
    )
    return _encode(body)


def _time(message: _Message, now: datetime, ahead: timedelta) -> str:
    """The time of a call by the clock of the service."""
    text = message.original_timestamp if message.timestamp is None else message.timestamp
    if text is None:
        return now.isoformat()
    if not ahead:
        return text
    try:
        return (datetime.fromisoformat(text) - ahead).isoformat()
    except (ValueError, OverflowError):  # found again when the event is validated
        return text


def _event_id(name: str | None, message_id: str | None) -> str | None:
    """The id of an event as `load --from segment` derives it; None without a `messageId`."""
    return id_of_keys(name or "", ["messageId"], [message_id]) if message_id else None


def _decode_message(piece: bytes) -> _Message:
    """Raises: Invalid."""
    try:
        check_json(piece.decode())
        return _decode(piece)
    except UnicodeDecodeError:
        raise Invalid(f"{EVENT} must be UTF-8") from None
    except msgspec.ValidationError as exc:
        raise Invalid(_reason(str(exc))) from None
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(undecodable_reason(piece.decode(), _FIELDS)) from None


def _reason(decoder_message: str) -> str:
    """The reason for a message of the decoder, which may repeat personal data of the call."""
    key = _KEY.search(decoder_message)
    if key is None:
        return f"{EVENT} must be a JSON object"
    number = " or a whole number" if key[1].endswith("Id") and key[1] != "messageId" else ""
    return f"{key[1]} must be text{number}"


def _extended(properties: msgspec.Raw, **more: _Id) -> msgspec.Raw:
    """The properties with more of them, which do not replace any. Raises: Invalid."""
    added = {key: value for key, value in more.items() if value is not None}
    if not added:
        return properties
    try:
        members = {} if properties == _NULL else _decode_members(properties)
    except msgspec.ValidationError:
        raise Invalid("properties must be an object") from None
    return msgspec.Raw(_encode(added | members))


def _traits(message: _Message) -> msgspec.Raw:
    """Raises: Invalid."""
    if message.traits != _NULL and not bytes(message.traits).startswith(b"{"):
        raise Invalid("traits must be an object")
    return message.traits


_PROPERTIES: dict[str, Callable[[_Message], msgspec.Raw]] = {
    "track": lambda message: message.properties,
    "page": lambda message: _extended(
        message.properties, name=message.name, category=message.category
    ),
    "screen": lambda message: _extended(
        message.properties, name=message.name, category=message.category
    ),
    "identify": _traits,
    "group": lambda message: _extended(_traits(message), groupId=message.group_id),
    "alias": lambda message: _extended(_NULL, previousId=message.previous_id),
}
