"""One line of the status, and how its numbers are written."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["ok", "action", "unknown"]
"""`action`: somebody has to do something. `unknown`: this role has no right to read it."""

Values = dict[str, Any]

_UNITS = (("day", 86_400), ("h", 3600), ("min", 60))
_SIZES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6))


@dataclass(frozen=True, slots=True)
class Check:
    """What was found about one part of the service."""

    name: str
    state: State
    summary: str
    """For people, on one line."""
    action: str = ""
    """What to do, where the state is `action`."""
    values: Values = field(default_factory=dict)
    """For programs: numbers, and times in UTC."""
    subject: str = ""
    """Which one, where there are several of the name: a table, or a setting."""

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.name.replace('_', ' ')} {self.subject}".rstrip()


def duration(seconds: float) -> str:
    """Such as 4 min; a clock that was put back is not told as negative."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}{'s' if unit == 'day' else ''}"
    return f"{max(seconds, 0):.0f} s"


def size(number: int) -> str:
    """Bytes, such as 1.2 GB."""
    for unit, factor in _SIZES:
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1000:.0f} kB"


def day(moment: datetime) -> str:
    """Such as 2026-01-31, of UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def count(number: int, noun: str) -> str:
    """Such as 1 event and 2,000 events."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
