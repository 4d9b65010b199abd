"""Remarks on an answer: values that conditions skipped, and names that no event has."""

import json
from dataclasses import dataclass

_MAX_HEADER_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Note:
    """Values of a property that a condition skips, since they have another type."""

    property: str
    used: str
    """The type that the condition tests: `number` or `text`."""
    skipped: dict[str, int]
    """How many events have such values, by their type."""


@dataclass(frozen=True, slots=True)
class ListNote:
    """Events that count more than once, for each element of a list, so that rows exceed totals."""

    property: str
    repeated: int
    """The number of times that events count beyond the first, in all."""
    used: str = "each distinct element of a list"


AnyNote = Note | ListNote


@dataclass(frozen=True, slots=True)
class Unknown:
    """Names in a question that no event has."""

    events: list[str]
    properties: list[str]

    def header(self) -> str:
        """Return the names as JSON in ASCII; names that exceed 1 kB are left out."""
        short: dict[str, list[str]] = {"events": [], "properties": []}
        for kind, names in (("events", self.events), ("properties", self.properties)):
            for name in names:
                short[kind].append(name)
                if len(_ascii_json(short)) > _MAX_HEADER_BYTES:
                    short[kind].pop()
        return _ascii_json(short)


@dataclass(frozen=True, slots=True)
class Remarks:
    """Notes on an answer, and the names in its question that no event has."""

    notes: tuple[AnyNote, ...] = ()
    """Values that conditions skipped, and lists whose elements count."""
    unknown: Unknown | None = None
    """Names that no event has, if there are any."""
    events_without_user: int | None = None
    """Events that do not count since they have no user; None where they count."""


NO_REMARKS = Remarks()


def _ascii_json(value: object) -> str:
    # The DEL character is ASCII, but not allowed in headers.
    return json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")
