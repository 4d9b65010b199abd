"""How much JSON one request may have parsed: small texts can become very large objects."""

import re

from common.errors import TooLarge
from services.ingest.events import Invalid

MOST_EVENT_BYTES = 2**18
"""Properties take less than 64 kB as PostgreSQL writes them; escapes and spaces can take more."""
MOST_EVENT_VALUES = 2**15
"""More do not fit into 64 kB: PostgreSQL writes at least two bytes for each."""
MOST_VALUES = 1_000_000
"""In all events of a request; parsing them takes some tenths of a second."""

# Never fails and never goes back, whatever the text: a string without an end goes to the end.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class JsonLimits:
    """Checks each event of one request before it is parsed."""

    def __init__(self, text: bytes) -> None:
        """`text` is that of all events."""
        self._is_exact = _separators(text) > MOST_VALUES
        self._left = MOST_VALUES

    def check(self, event: bytes) -> None:
        """Raises: Invalid for an event that is too large, TooLarge where all of them are."""
        if len(event) > MOST_EVENT_BYTES:
            raise Invalid(f"(event) must be at most {MOST_EVENT_BYTES // 1024} kB long")
        values = self._values(event)
        if values > MOST_EVENT_VALUES:
            raise Invalid("properties must be an object of less than 64 kB")
        self._left -= values
        if self._left < 0:
            raise TooLarge(f"must hold at most {MOST_VALUES:,} JSON values")

    def _values(self, event: bytes) -> int:
        """Commas and brackets; those inside of strings are left out where it matters."""
        most = _separators(event)
        if self._is_exact or most > MOST_EVENT_VALUES:
            return _separators(_STRING.sub(b"", event))
        return most


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
