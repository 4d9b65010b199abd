"""The parts that the answers of all questions share: `meta`, plans, and rows for CSV and NDJSON."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast

import msgspec
from pydantic import Field

from common.checkpoint import Checkpoint as Checkpoint
from common.remarks import AnyNote, Unknown
from config.database import Cursor
from utils.time.slots import SETTLED_AFTER

D = TypeVar("D")

# Numbers are `msgspec.Raw`, since they are exact.
Table = tuple[type | Sequence[str], Sequence[Any]]
"""The dataclass of the rows, or the names of their columns if they are mappings; and the rows."""


class Tabular(ABC):
    """Data with a form as rows, for CSV and NDJSON."""

    __slots__ = ()

    @abstractmethod
    def table(self) -> Table: ...

    def headers(self) -> dict[str, str]:
        """Return response headers with what has no place in the rows."""
        return {}


def absent_field() -> Any:
    """Return the default of a field that is left out of the answer unless requested."""
    # msgspec leaves UNSET out of JSON; None would be written as null.
    return msgspec.UNSET


def is_absent(value: object) -> bool:
    return value is msgspec.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One hour, day, ... of a series."""

    day: date = field(default_factory=absent_field)
    """The first day of the bucket, in the zone of the question; left out for hours."""
    start: datetime
    end: datetime
    events: int
    users: int
    partial: bool
    """Whether the bucket had not ended when the answer was computed."""
    cut: bool
    """Whether the range has only a part of the hour, day, ..."""


@dataclass(frozen=True, slots=True)
class PlanData(Tabular):
    """The plan of a question: what it would read, and the limits."""

    source: str
    """`rollups`; `columns` with a filter; or `events` if this database has no rollups."""
    rows: int
    """Rows of rollups, also those in the memory of the process, and set operations for the windows
    of active users: nine for each day and 64 kB of its users."""
    bytes: int
    """Bytes of these rows, and of the sets of the longest window."""
    events: int
    """Events of edges that are finer than a slot, at most; without rollups, an estimate of all
    events read. For active users each counts twelve times, for entering and leaving six windows."""
    tail: int
    """Events in the tail, up to 10,000; they are read in addition, and do not count. With `where`,
    events that are not in columns yet, up to 100,001: above 100,000 or 64 MB of
    properties, the answer is 503."""
    allowed_rows: int
    allowed_bytes: int
    allowed_events: int
    chunks: int
    """Chunks of columns that have events in the range."""
    column_rows: int
    """Events in these chunks."""
    column_bytes: int
    """Bytes of columns that are not cached in the memory or on the disk of the service."""
    allowed_column_rows: int
    horizon: datetime | None
    """Events before it are dropped; null if none are."""
    needs_dropped: bool
    """Whether the question needs dropped events, and would be refused with 409."""

    def table(self) -> Table:
        return PlanData, [self]


@dataclass(frozen=True, slots=True)
class Meta:
    """Metadata of an answer: range, time zone, and the time and source of its computation."""

    volatile_fields: ClassVar[tuple[str, ...]] = (
        "computed_at",
        "counted_at",
        "complete_until",
        "source",
    )
    """Fields that differ between computations of equal answers."""

    start: datetime | None
    """For a full history, the horizon, or null if there is none."""
    end: datetime | None
    tz: str
    computed_at: datetime
    """The database's clock when the snapshot was taken; on a replica, the time of its replay."""
    complete_until: datetime
    """All events before this instant that were committed by `computed_at` are counted."""
    source: str
    """`rollups`; `columns` with a filter; or `events` for histories and for databases without
    rollups."""
    _: KW_ONLY
    definition: str = field(default_factory=absent_field)
    """A sentence that says which events and users are counted."""
    where: str = field(default_factory=absent_field)
    """The canonical text of the filter."""
    notes: Sequence[AnyNote] = field(default_factory=absent_field)
    """Values that were skipped, and lists whose elements count."""
    unknown: Unknown = field(default_factory=absent_field)
    """Names in the question that no event has."""
    events_without_user: int = field(default_factory=absent_field)
    """Events of a question about users that have no user, and so do not count."""
    counted_at: datetime = field(default_factory=absent_field)
    """The time at which the counts of a catalogue were exact."""

    def headers(self) -> dict[str, str]:
        """Return response headers with what has no place in CSV and NDJSON."""
        return {} if is_absent(self.unknown) else {"X-Unknown": self.unknown.header()}

    @property
    def is_settled(self) -> bool:
        """Whether only late events can change the answer.

        Any event may have a name that is unknown.
        """
        is_over = self.end is not None and self.end <= self.computed_at - SETTLED_AFTER
        return is_over and is_absent(self.unknown)


@dataclass(frozen=True, slots=True)
class Answer(Generic[D]):
    data: D
    meta: Meta
    cache_version: Annotated[str | None, Field(exclude=True)] = None
    """The cache version of the months that the answer depends on, never part of the response.

    None if late events are not tracked.
    """
    is_over: Annotated[bool, Field(exclude=True)] = False
    """Whether all that the answer depends on is over, never part of the response."""

    @property
    def is_settled(self) -> bool:
        """Whether only late events can change the answer, which its cache version tells."""
        return self.cache_version is not None and self.is_over and self.meta.is_settled

    def table(self) -> Table:
        """Return the rows of the answer, for CSV and NDJSON."""
        return cast(Tabular, self.data).table()

    def headers(self) -> dict[str, str]:
        """Return response headers with what has no place in the rows."""
        return cast(Tabular, self.data).headers() | self.meta.headers()


@dataclass(frozen=True, slots=True)
class Reading(Generic[D]):
    """Data that was read in one snapshot; an answer is computed from it without a connection."""

    evaluate: Callable[[Checkpoint], "Answer[D] | MoreToRead[D]"]
    """Compute the answer, for longer than an event loop may wait. Raises: TooExpensive, and what
    the checkpoint raises."""
    size: int = 0
    """The bytes that it holds, about."""


@dataclass(frozen=True, slots=True)
class MoreToRead(Generic[D]):
    """A further read, in a second snapshot, that an evaluation needs for its answer."""

    read: Callable[[Cursor], Reading[D]]
    """Return the reading that gives the answer. Raises: TooExpensive."""


Result = Answer[D] | Reading[D]
"""The result of a method of the repository: an answer, or the reading that gives it."""
