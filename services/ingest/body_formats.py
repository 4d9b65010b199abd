"""Formats of the bodies in which events are sent over HTTP."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.ingest.http_body import Form
from services.ingest.http_event_validation import ReadEvents, read_events
from services.ingest.segment import Call, read_batch, read_call

TEXT = "text/plain"
"""The media type of JSON that pages send without a preflight."""

_JSON: Mapping[str, Form] = {"application/json": "json"}
_JSON_OR_TEXT: Mapping[str, Form] = {**_JSON, TEXT: "json"}


@dataclass(frozen=True, slots=True)
class BodyFormat:
    """The formats of bodies that an endpoint accepts, and the function that reads their events."""

    forms: Mapping[str, Form]
    """The formats by media type."""
    read: Callable[[bytes, Form, datetime], ReadEvents]
    """Returns the events of a decompressed body.

    The instant is the time of receipt. Raises: UnreadableBody, TooLarge, InvalidEvents.
    """
    is_partial: bool = False
    """Whether valid events are stored if others are not: otherwise a request stores all or none."""


def segment_call(call: Call) -> BodyFormat:
    """The body of one call of Segment's API, such as `track`."""
    return BodyFormat(_JSON_OR_TEXT, lambda text, _, now: read_call(call, text, now))


EVENTS = BodyFormat({**_JSON, "application/x-ndjson": "ndjson"}, read_events)
PAGE_EVENTS = BodyFormat(_JSON_OR_TEXT, read_events)
SEGMENT_BATCH = BodyFormat(
    _JSON_OR_TEXT, lambda text, _, now: read_batch(text, now), is_partial=True
)
