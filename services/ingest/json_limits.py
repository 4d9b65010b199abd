"""Limits of JSON in a request, checked before parsing: a small text can become large objects."""

import re

from common.errors import TooLarge
from services.ingest.validation import Invalid

# Properties may have 64 kB as PostgreSQL writes them; escapes and spaces can make the text longer.
MAX_EVENT_BYTES = 2**18
# More values do not fit into 64 kB: PostgreSQL writes at least two bytes for each.
MAX_EVENT_VALUES = 2**15
# Of all events of a request together; parsing so many takes some tenths of a second.
MAX_VALUES = 1_000_000

# Linear time for any text: possessive quantifiers do not backtrack, and an unterminated string
# matches up to the end.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)


class JsonLimits:
    """Checks the events of one request before they are parsed."""

    def __init__(self, text: bytes) -> None:
        """`text` contains all events of the request."""
        self._is_exact = _separators(text) > MAX_VALUES
        self._remaining = MAX_VALUES

    def check(self, event: bytes) -> None:
        """Check the next event.

        Raises: Invalid if the event is too large, TooLarge if all events together are.
        """
        if len(event) > MAX_EVENT_BYTES:
            raise Invalid(f"(event) must be at most {MAX_EVENT_BYTES // 1024} kB long")
        values = self._count_values(event)
        if values > MAX_EVENT_VALUES:
            raise Invalid("properties must be an object of less than 64 kB")
        self._remaining -= values
        if self._remaining < 0:
            raise TooLarge(f"must hold at most {MAX_VALUES:,} JSON values")

    def _count_values(self, event: bytes) -> int:
        """The number of values, estimated by commas and opening brackets."""
        # Those inside strings make it an upper bound. Removing the strings takes time, so this is
        # only done if the bound exceeds a limit.
        upper_bound = _separators(event)
        if self._is_exact or upper_bound > MAX_EVENT_VALUES:
            return _separators(_STRING.sub(b"", event))
        return upper_bound


def _separators(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")
