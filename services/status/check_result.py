"""The result of one check of the status, and the format of its numbers."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

# `action`: an operator has to do something. `unknown`: the role may not read the data.
State = Literal["ok", "action", "unknown"]

Values = dict[str, Any]

_UNITS = (("day", 86_400), ("h", 3600), ("min", 60))
_SIZES = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6))


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of checking one part of the service."""

    name: str
    state: State
    summary: str
    """One line of text."""
    action: str = ""
    """The command or step that is needed, if the state is `action`; else empty."""
    values: Values = field(default_factory=dict)
    """The result for programs: numbers, and times in UTC."""
    subject: str = ""
    """The table or setting that was checked, if several checks have the same name."""

    @property
    def label(self) -> str:
        """The name and the subject as text."""
        return f"{self.name.replace('_', ' ')} {self.subject}".rstrip()


def duration(seconds: float) -> str:
    """A duration such as `4 min`; a negative one, after a clock was set back, is `0 s`."""
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}{'s' if unit == 'day' else ''}"
    return f"{max(seconds, 0):.0f} s"


def size(number: int) -> str:
    """A number of bytes such as `1.2 GB`."""
    for unit, factor in _SIZES:
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number / 1000:.0f} kB"


def day(moment: datetime) -> str:
    """The UTC day of a time, such as `2026-01-31`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
