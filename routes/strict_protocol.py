"""Reject requests whose length or host is ambiguous (RFC 9112), against request smuggling."""

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
    """The reason why a proxy may read another host or length; None if the request is unambiguous.

    RFC 9112, sections 3.2 and 6.1.
    """
    # Trailing blanks do not belong to a value.
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
    """The head of the request without its `Upgrade` header."""
    first = b"%s %s HTTP/%s\r\n" % (method, target, version.encode())
    lines = [b"%s: %s\r\n" % header for header in headers if header[0] != b"upgrade"]
    return b"".join([first, *lines, b"\r\n"])


class StrictProtocol(HttpToolsProtocol):
    """Rejects ambiguous requests, and ignores upgrades."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.error: AnalyticsError | None = None
        """The error that ended parsing."""
        self.has_upgrade = False
        """Whether the head is being parsed again, without `Upgrade`."""
        self.is_ignoring_input = False
        """Whether further input is discarded."""

    def feed(self, data: bytes) -> None:
        """Parse input. Raises: httptools.HttpParserError."""
        # httptools stops at the head of a request with `Upgrade` and loses its body, so a second
        # parser reads the request without that header.
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
        """Stop parsing by raising the error."""
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
        """After CONNECT the input may be another protocol, so nothing more is parsed."""
        self.cycle.keep_alive = False
        self.is_ignoring_input = True
