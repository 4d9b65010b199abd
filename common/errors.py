"""The errors that callers see. The default text of each is its docstring."""

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

_REFUSED_PREFIX = "refused:"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one parameter."""

    parameter: str
    message: str


@dataclass(frozen=True, slots=True)
class EventFault(Fault):
    """What is wrong with one event of a request."""

    index: int
    """Its place among them, from 0."""


class AnalyticsError(Exception):
    """Something went wrong."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    default_headers: ClassVar[Mapping[str, str]] = {}
    extra_members: Mapping[str, str] = {}
    """Members of the problem besides those that all have."""

    def __init__(self, detail: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail or self.__doc__)
        self.faults = list(faults)
        self.headers = dict(self.default_headers)


class InvalidParameter(AnalyticsError):
    """A parameter is missing, unknown or out of bounds; `errors` tells which."""

    status = 422
    kind = "invalid-parameter"
    title = "Invalid parameter"


class InvalidCursor(AnalyticsError):
    """The cursor is not one that this question, with these parameters, gave."""

    status = 400
    kind = "invalid-cursor"
    title = "Invalid cursor"

    def __init__(self) -> None:
        message = "use next_cursor or previous_cursor of an answer, with the same parameters"
        super().__init__(faults=[Fault("cursor", message)])


class UnreadableBody(AnalyticsError):
    """The body is not what its headers say; nothing was stored."""

    status = 400
    kind = "unreadable-body"
    title = "Unreadable body"

    def __init__(self, message: str) -> None:
        super().__init__(faults=[Fault("(body)", message)])


class SlowBody(AnalyticsError):
    """The body was not there in time; nothing was stored."""

    status = 408
    kind = "request-timeout"
    title = "Request timeout"


class TooLarge(AnalyticsError):
    """The body is larger than one request may be; nothing was stored, send less at a time."""

    status = 413
    kind = "too-large"
    title = "Too large"

    def __init__(self, message: str) -> None:
        super().__init__(faults=[Fault("(body)", message)])


class UnsupportedMedia(AnalyticsError):
    """The body comes in a form that is not read; `errors` tells which are."""

    status = 415
    kind = "unsupported-media-type"
    title = "Unsupported media type"

    def __init__(self, header: str, allowed: Sequence[str], response_header: str) -> None:
        """`answer` is the header that tells programs what is allowed."""
        super().__init__(faults=[Fault(header, f"must be {' or '.join(allowed)}")])
        self.headers = {response_header: ", ".join(allowed)}


class InvalidEvents(AnalyticsError):
    """Some events cannot be stored, so none was; `errors` tells which, and why."""

    status = 422
    kind = "invalid-events"
    title = "Invalid events"

    def __init__(
        self, refused: int, events: int, faults: Sequence[Fault], *, is_complete: bool = True
    ) -> None:
        """`are_all`: nothing else is wrong."""
        prefix = "" if is_complete else "At least "
        note = f"; `errors` tells the first {len(faults)}" if len(faults) < refused else ""
        detail = f"{prefix}{refused:,} of {events:,} events cannot be stored, so none was{note}."
        super().__init__(detail, faults=faults)
        self.refused = refused


class Unauthorized(AnalyticsError):
    """A key is needed: send it as `Authorization: Bearer KEY`."""

    status = 401
    kind = "unauthorized"
    title = "Unauthorized"
    default_headers: ClassVar[Mapping[str, str]] = {"WWW-Authenticate": 'Bearer realm="analytics"'}


class InvalidKey(Unauthorized):
    """The key is not known, or its time is over."""

    default_headers: ClassVar[Mapping[str, str]] = {
        "WWW-Authenticate": 'Bearer realm="analytics", error="invalid_token"'
    }


class Forbidden(AnalyticsError):
    """The key lacks the scope that this needs."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"

    def __init__(self, scope: str, detail: str | None = None) -> None:
        super().__init__(detail or f"The key lacks the scope `{scope}`.")
        challenge = f'Bearer realm="analytics", error="insufficient_scope", scope="{scope}"'
        self.headers = {"WWW-Authenticate": challenge}


class HostNotAllowed(AnalyticsError):
    """Without keys only 127.0.0.1 and localhost are answered; ask these, or create a key."""

    status = 403
    kind = "forbidden"
    title = "Forbidden"


class TooManyRequests(AnalyticsError):
    """The key has used up its requests for now."""

    status = 429
    kind = "too-many-requests"
    title = "Too many requests"

    def __init__(self, per_second: int, wait_ms: int) -> None:
        super().__init__(f"This key may ask {per_second} times a second.")
        wait_s = math.ceil(wait_ms / 1000)
        limits = rate_limit_headers(per_second, 0, wait_ms)
        self.headers = {"Retry-After": str(wait_s), **limits}


class TooManyConcurrent(AnalyticsError):
    """The key has too many questions under way."""

    status = 429
    kind = "too-many-at-once"
    title = "Too many requests at once"

    def __init__(self, concurrency_limit: int) -> None:
        super().__init__(f"This key may have {concurrency_limit} questions computed at a time.")
        self.headers = {"Retry-After": "1"}


class TooExpensive(AnalyticsError):
    """The question would read more than one question may."""

    status = 422
    kind = "too-expensive"
    title = "Too expensive"

    def __init__(self, resource: str, reads: int, allowed: int, alternative: str) -> None:
        super().__init__(
            f"This question would read {reads:,} {resource}, and may read {allowed:,}. Cheaper: "
            f"{alternative}. With explain=true its plan is told and nothing is read."
        )


class EventsDropped(AnalyticsError):
    """The question needs events one by one that are no longer kept."""

    status = 409
    kind = "events-dropped"
    title = "Events dropped"

    def __init__(self, horizon: datetime, alternatives: str) -> None:
        since = format_instant(horizon)
        super().__init__(
            f"This question needs events of before {since} one by one, and these are no longer "
            f"kept. It can still be asked about {alternatives}."
        )
        self.extra_members = {"horizon": since}


class Busy(AnalyticsError):
    """Too many questions at once; try again shortly."""

    status = 503
    kind = "busy"
    title = "Busy"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class Unavailable(AnalyticsError):
    """The database cannot be reached at the moment; try again shortly."""

    status = 503
    kind = "unavailable"
    title = "Database unavailable"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "2"}


class TooSlow(AnalyticsError):
    """The answer was not ready in time; ask about a shorter range."""

    status = 504
    kind = "too-slow"
    title = "Deadline exceeded"


class InsufficientStorage(AnalyticsError):
    """PostgreSQL has no room left on its disk for this; free some there, and try again."""

    status = 507
    kind = "insufficient-storage"
    title = "Insufficient storage"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "30"}


def rate_limit_headers(per_second: int, remaining: int, reset_ms: int) -> dict[str, str]:
    """As in the IETF's draft "RateLimit header fields for HTTP": a quota for a window of 1 s."""
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
    """The error of ours for one of the pool's."""
    (translation,) = (
        service_error
        for database_error, service_error in _TRANSLATED.items()
        if isinstance(error, database_error)
    )
    return translation(str(error)) if isinstance(error, DiskFull) else translation()


def format_instant(instant: datetime) -> str:
    """As parameters take it."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def refuse(parameter: str, message: str) -> PydanticCustomError:
    """An error for a validator to raise that stands by the named parameter."""
    return PydanticCustomError(_REFUSED_PREFIX + parameter, message)


def refused_parameter(kind: str) -> str | None:
    """The parameter that `refuse` named, from the type of the error."""
    return kind.removeprefix(_REFUSED_PREFIX) if kind.startswith(_REFUSED_PREFIX) else None
