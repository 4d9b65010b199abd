"""Errors of requests that are refused before a route handles them."""

from collections.abc import Mapping
from typing import ClassVar

from common.errors import AnalyticsError


class MalformedRequest(AnalyticsError):
    """The request is not HTTP/1.1 as RFC 9112 defines it."""

    status = 400
    kind = "malformed-request"
    title = "Malformed request"


class HeadTooLarge(AnalyticsError):
    """The request line and the headers may have at most 64 kB and 100 headers."""

    status = 431
    kind = "head-too-large"
    title = "Request header fields too large"


class SlowHead(AnalyticsError):
    """The request line and the headers were not received in time."""

    status = 408
    kind = "request-timeout"
    title = "Request timeout"


class Stopping(AnalyticsError):
    """The service is stopping; try again shortly."""

    status = 503
    kind = "stopping"
    title = "Stopping"
    default_headers: ClassVar[Mapping[str, str]] = {"Retry-After": "1"}


# Proxies and servers differ in which of two headers they use.
class AmbiguousKey(AnalyticsError):
    """`Authorization` must be sent once, with one key."""

    status = 400
    kind = "ambiguous-key"
    title = "Ambiguous key"
