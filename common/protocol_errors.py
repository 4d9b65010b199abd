"""Errors of requests that do not get as far as a route."""

from collections.abc import Mapping
from typing import ClassVar

from common.errors import AnalyticsError


class MalformedRequest(AnalyticsError):
    """The request is not HTTP/1.1 as RFC 9112 defines it."""

    status = 400
    kind = "malformed-request"
    title = "Malformed request"


class HeadTooLarge(AnalyticsError):
    """The request line and the headers may have 64 kB and 100 headers."""

    status = 431
    kind = "head-too-large"
    title = "Request header fields too large"


class SlowHead(AnalyticsError):
    """The request line and the headers did not come in time."""

    status = 408
    kind = "request-timeout"
    title = "Request timeout"


class Stopping(AnalyticsError):
    """The service is being stopped; try again shortly."""

    status = 503
    kind = "stopping"
    title = "Stopping"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


class AmbiguousKey(AnalyticsError):
    """`Authorization` must be sent once and hold one key: of two, programs differ which counts."""

    status = 400
    kind = "ambiguous-key"
    title = "Ambiguous key"
