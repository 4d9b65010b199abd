"""Ids for what came without one."""

from datetime import datetime
from secrets import randbits

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


def time_ordered_uuid(instant: datetime) -> str:
    """A UUID of version 7 (RFC 9562): those made later stand later in the index, side by side."""
    milliseconds = int(instant.timestamp() * 1000)
    number = milliseconds << 80 | _VERSION | randbits(12) << 64 | _VARIANT | randbits(62)
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
