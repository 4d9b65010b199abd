"""Durations as text: a number of seconds, minutes, hours, days or weeks."""

import re
from datetime import timedelta

_DURATION = re.compile(r"([1-9][0-9]{0,8})([smhdw])", re.ASCII)
_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}


def parse_duration(text: str) -> timedelta:
    """Return the duration that a text such as `30m` means. Raises: ValueError."""
    if not (match := _DURATION.fullmatch(text)):
        raise ValueError("must be a number followed by s, m, h, d or w, such as 90s, 30m, 24h, 7d")
    try:
        return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        raise ValueError("must be at most 999999999d") from None


def duration_text(duration: timedelta) -> str:
    """Return the shortest text of a duration of whole seconds; weeks are written as days."""
    for unit in ("d", "h", "m"):
        length = _UNITS[unit]
        if not duration % length:
            return f"{duration // length}{unit}"
    return f"{duration // _UNITS['s']}s"
