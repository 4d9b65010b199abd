"""Errors that clients see as problem details (RFC 9457); the docstring is the default text."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from pydantic_core import PydanticCustomError

from config.database_errors import (
    DatabaseError,
    DatabaseUnavailable,
    DeadlineExceeded,
    DiskFull,
    PoolBusy,
)

# Pydantic's custom errors carry a type and a message; the type holds the name of the parameter.
_REFUSED_PREFIX = "refused:"

_COLUMN_EVENTS_PER_S = 100_000  # written to columns, about
_MAX_BUILDING_WAIT_S = 60


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in one parameter."""

    parameter: str
    message: str


@dataclass(frozen=True, slots=True)
class EventFault(Fault):
    """An error in one event of a request."""

    index: int
    """Its position in the request, from 0."""


class AnalyticsError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    default_headers: ClassVar[Mapping[str, str]] = {}
    extra_members: Mapping[str, str] = {}
    """Members of the problem details besides those that all problems have."""

    def __init__(self, detail: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or self.__doc__)
        self.faults = list(faults)
        self.headers = dict(self.default_headers)


class InvalidParameter(AnalyticsError):
    """A parameter is missing, unknown or out of range; `errors` says which."""

    status = 422
    kind = "invalid-parameter"
    title = "Invalid parameter"


class InvalidCursor(AnalyticsError):
    """The cursor does not belong to this question with these parameters."""

    status = 400
    kind = "invalid-cursor"
    title = "Invalid cursor"

    def __init__(self) -> None:
        message = "must be next_cursor or previous_cursor of an answer with the same parameters"
        super().__init__(faults=[Fault("cursor", message)])


class UnreadableBody(AnalyticsError):
    """The body does not match its headers; nothing was stored."""

    status = 400
    kind = "unreadable-body"
    title = "Unreadable body"

    def __init__(self, message: str) -> None:
        super().__init__(faults=[Fault("(body)", message)])


class SlowBody(AnalyticsError):
    """The body was not received in time; nothing was stored."""

    status = 408
    kind = "request-timeout"
    title = "Request timeout"


class TooLarge(AnalyticsError):
    """The body exceeds a limit of one request; nothing was stored. Send fewer events at a time."""

    status = 413
    kind = "too-large"
    title = "Too large"

    def __init__(self, message: str) -> None:
        super().__init__(faults=[Fault("(body)", message)])


# RFC 9110, section 15.5.16: the response names what is allowed in `Accept` or `Accept-Encoding`.
class UnsupportedMedia(AnalyticsError):
    """The media type or the encoding of the body is not supported; `errors` lists what is."""

    status = 415
    kind = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self, header: str, allowed: Sequence[str], response_header: str) -> None:
        """`response_header` is the header of the response that lists the allowed values."""
        super().__init__(faults=[Fault(header, f"must be {' or '.join(allowed)}")])
        self.headers = {response_header: ", ".join(allowed)}


class InvalidEvents(AnalyticsError):
    """Some events are invalid, so none was stored; `errors` says which and why."""

    status = 422
    kind = "invalid-events"
    title = "Invalid events"

    def __init__(
        self, refused: int, events: int, faults: Sequence[Fault], *, is_complete: bool = True
    ) -> None:
        """`is_complete` is false if more events than `refused` may be invalid."""
        prefix = "" if is_complete else "At least "
        note = f"; `errors` lists the first {len(faults)}" if len(faults) < refused else ""
        detail = f"{prefix}{refused:,} of {events:,} events are invalid, so none was stored{note}."
        super().__init__(detail, faults=faults)
        self.refused = refused


# RFC 6750: the challenge has an error code only if the request had credentials.
class Unauthorized(AnalyticsError):
    """An API key is required: send it as `Authorization: Bearer KEY`."""

    status = 401
    kind = "unauthorized"
    title = "Unauthorized"
    default_headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="analytics"'}


class InvalidKey(Unauthorized):
    """The API key is unknown, expired or revoked."""

    default_headers: ClassVar[Mapping[str, str]] = {
        "WWW-Authenticate": 'Bearer realm="analytics", error="invalid_token"'
    }


class Forbidden(AnalyticsError):
    """The API key lacks the scope that this request needs."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"

    def __init__(self, scope: str, detail: str | None = None) -> None:
        super().__init__(detail or f"The API key lacks the scope `{scope}`.")
        challenge = f'Bearer realm="analytics", error="insufficient_scope", scope="{scope}"'
        self.headers = {"WWW-Authenticate": challenge}


class HostNotAllowed(AnalyticsError):
    """Without API keys, only 127.0.0.1 and localhost are served: use these, or create a key."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"


class OriginNotAllowed(AnalyticsError):
    """The API key may only be used by pages of its origins."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"


class KeyNotForPages(AnalyticsError):
    """A key of pages must be limited to origins: create it with `--scope write --origin ORIGIN`."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"


class BrowserEventsDisabled(AnalyticsError):
    """Events of web pages are not accepted: ANALYTICS_BROWSER_EVENTS=true allows them."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"


class TooManyRequests(AnalyticsError):
    """The API key has exceeded its request rate; try again later."""

    status = 429
    kind = "too-many-requests"
    title = "Too many requests"

    def __init__(self, per_second: int, wait_ms: int) -> None:
        super().__init__(f"This API key may make {per_second} requests per second.")
        # `Retry-After` is in whole seconds. Rounded up: a client that waits less is refused again.
        wait_s = math.ceil(wait_ms / 1000)
        limits = rate_limit_headers(per_second, 0, wait_ms)
        self.headers = {"Retry-After": str(wait_s), **limits}


class TooManyConcurrent(AnalyticsError):
    """The API key has too many questions in progress; try again shortly."""

    status = 429
    kind = "too-many-at-once"
    title = "Too many requests at once"

    def __init__(self, concurrency_limit: int) -> None:
        super().__init__(
            f"This API key may have {concurrency_limit} questions in progress at a time."
        )
        self.headers = {"Retry-After": "1"}


class TooExpensive(AnalyticsError):
    """The question would read more data than one question may."""

    status = 422
    kind = "too-expensive"
    title = "Too expensive"

    def __init__(self, resource: str, reads: int, allowed: int, alternative: str) -> None:
        super().__init__(
            f"This question would read {reads:,} {resource}; the limit is {allowed:,}. Cheaper: "
            f"{alternative}. With explain=true the answer is its plan, and nothing is read."
        )


class EventsDropped(AnalyticsError):
    """The question needs individual events that were dropped."""

    status = 409
    kind = "events-dropped"
    title = "Events dropped"

    def __init__(self, horizon: datetime, alternatives: str) -> None:
        since = format_instant(horizon)
        super().__init__(
            f"This question needs individual events from before {since}, which were dropped. "
            f"It can still be asked about {alternatives}."
        )
        self.extra_members = {"horizon": since}


class Busy(AnalyticsError):
    """Too many requests are waiting for the database or for memory; try again shortly."""

    status = 503
    kind = "busy"
    title = "Busy"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class Unavailable(AnalyticsError):
    """The database cannot be reached; try again shortly."""

    status = 503
    kind = "unavailable"
    title = "Database unavailable"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}


class ColumnsBuilding(AnalyticsError):
    """The columns that the question needs are being built."""

    status = 503
    kind = "columns-building"
    title = "Columns are being built"

    def __init__(self, written: int, stored: int) -> None:
        """`written` events are in columns, of `stored` ones, which is an estimate."""
        super().__init__(
            f"The columns that this question needs are being built: {written:,} of about "
            f"{stored:,} events are written, the latest first. Try again later, or ask about a "
            "shorter range that ends now."
        )
        self.extra_members = {"progress": f"{min(written / max(stored, 1), 1):.2f}"}
        wait_s = (stored - written) // _COLUMN_EVENTS_PER_S
        self.headers = {"Retry-After": str(min(max(wait_s, 1), _MAX_BUILDING_WAIT_S))}


class CatalogueCounting(AnalyticsError):
    """The properties of all events are being counted, since the counts were deleted."""

    status = 503
    kind = "catalogue-counting"
    title = "Properties are being counted"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


class TooSlow(AnalyticsError):
    """The answer was not ready before the deadline; ask about a shorter range."""

    status = 504
    kind = "too-slow"
    title = "Deadline exceeded"


class InsufficientStorage(AnalyticsError):
    """PostgreSQL has no room left on its disk for this request; free some space and try again."""

    status = 507
    kind = "insufficient-storage"
    title = "Insufficient storage"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


def rate_limit_headers(per_second: int, remaining: int, reset_ms: int) -> dict[str, str]:
    """Return headers of the IETF draft "RateLimit header fields for HTTP", for a window of 1 s."""
    return {
        "RateLimit-Policy": f'"second";q={per_second};w=1',
        "RateLimit": f'"second";r={remaining};t={math.ceil(reset_ms / 1000)}',
    }


_TRANSLATED: dict[type[DatabaseError], type[AnalyticsError]] = {
    PoolBusy: Busy,
    DeadlineExceeded: TooSlow,
    DatabaseUnavailable: Unavailable,
    DiskFull: InsufficientStorage,
}


def translate_database_error(error: DatabaseError) -> AnalyticsError:
    """Return the error for clients that corresponds to an error of the database."""
    (translation,) = (
        service_error
        for database_error, service_error in _TRANSLATED.items()
        if isinstance(error, database_error)
    )
    # Only messages about the disk are written for clients: others may hold details of the server.
    return translation(str(error)) if isinstance(error, DiskFull) else translation()


def format_instant(instant: datetime) -> str:
    """Return the instant in UTC, in the form that parameters accept."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def refuse(parameter: str, message: str) -> PydanticCustomError:
    """Return an error for a validator to raise, reported for this parameter."""
    return PydanticCustomError(_REFUSED_PREFIX + parameter, message)


def refused_parameter(kind: str) -> str | None:
    """Return the parameter in the type of an error that `refuse` made; None for other errors."""
    return kind.removeprefix(_REFUSED_PREFIX) if kind.startswith(_REFUSED_PREFIX) else None
