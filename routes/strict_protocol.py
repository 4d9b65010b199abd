"""Where a message ends, and for whom it is (RFC 9112): there must be one way to read it."""

import re
from collections.abc import Sequence
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.errors import AnalyticsError
from common.protocol_errors import MalformedRequest

_Headers = Sequence[tuple[bytes, bytes]]

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]*|\[[A-Za-z0-9:.%_~-]+\])(?::[0-9]*)?")


def framing_fault(headers: _Headers, version: str) -> str | None:
    """Why another program may take it for another request, or for one of another length; None if
    none may (sections 3.2 and 6.1)."""
    # Blanks behind a value are no part of it.
    hosts = [value.rstrip(b" \t") for name, value in headers if name == b"host"]
    codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
    if len(hosts) > 1 or not (hosts or version == "1.0"):
        return "`Host` must be sent once."
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "`Host` must be a name or an address, and may have a port."
    if codings and (version == "1.0" or codings != [b"chunked"]):
        return "`Transfer-Encoding` must be `chunked` alone, in HTTP/1.1."
    return None


def without_upgrade(method: bytes, target: bytes, version: str, headers: _Headers) -> bytes:
    """The head of the same request as if it did not ask for another protocol."""
    first = b"%s %s HTTP/%s\r\n" % (method, target, version.encode())
    lines = [b"%s: %s\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join([first, *lines, b"\r\n"])


class StrictProtocol(HttpToolsProtocol):
    """Refuses what may be read in two ways, and ignores upgrades."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.error: AnalyticsError | None = None
        """Why the parser was left."""
        self.has_upgrade = False
        """Whether the head that was read is read once more."""
        self.is_ignoring_input = False
        """Whether the rest is thrown away."""

    def feed(self, data: bytes) -> None:
        """The parser takes a request with `Upgrade` for one that has no body, so another parser
        reads it as if it asked for nothing.

        Raises: httptools.HttpParserError.
        """
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self.has_upgrade:
                    self._end_after_answer()
                    return
                data = data[upgrade.args[0] :]
                self._reparse()

    def on_headers_complete(self) -> None:
        if fault := framing_fault(self.headers, self.parser.get_http_version()):
            self.fail(MalformedRequest(fault))
        self.has_upgrade = self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"
        if not self.has_upgrade:
            super().on_headers_complete()

    def fail(self, error: AnalyticsError) -> None:
        """Leaves the parser. Raises: the error."""
        self.error = error
        raise error

    def _reparse(self) -> None:
        """Raises: httptools.HttpParserError."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = without_upgrade(method, self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(head)

    def _end_after_answer(self) -> None:
        """What follows CONNECT may be of another protocol."""
        self.cycle.keep_alive = False
        self.is_ignoring_input = True
