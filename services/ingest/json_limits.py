"""How much JSON one request may have parsed: small texts can become very large objects."""

import re

from common.errors import TooLarge
from services.ingest.validation import Invalid

MAX_EVENT_BYTES = 2**18
"""Properties take less than 64 kB as PostgreSQL writes them; escapes and spaces can take more."""
MAX_EVENT_VALUES = 2**15
"""More do not fit into 64 kB: PostgreSQL writes at least two bytes for each."""
MAX_VALUES = 1_000_000
"""In all events of a request; parsing them takes some tenths of a second."""

# Never fails and never goes back, whatever the text: a string without an end goes to the end.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class JsonLimits:
    """Checks each event of one request before it is parsed."""

    def __init__(self, text: bytes) -> None:
        """`text` is that of all events."""
        self._is_exact = _separators(text) > MAX_VALUES
        self._remaining = MAX_VALUES

    def check(self, event: bytes) -> None:
        """Raises: Invalid for an event that is too large, TooLarge where all of them are."""
        if len(event) > MAX_EVENT_BYTES:
            raise Invalid(f"(event) must be at most {MAX_EVENT_BYTES // 1024} kB long")
        values = self._count_values(event)
        if values > MAX_EVENT_VALUES:
            raise Invalid("properties must be an object of less than 64 kB")
        self._remaining -= values
        if self._remaining < 0:
            raise TooLarge(f"must hold at most {MAX_VALUES:,} JSON values")

    def _count_values(self, event: bytes) -> int:
        """Commas and brackets; those inside of strings are left out where it matters."""
        upper_bound = _separators(event)
        if self._is_exact or upper_bound > MAX_EVENT_VALUES:
            return _separators(_STRING.sub(b"", event))
        return upper_bound


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
