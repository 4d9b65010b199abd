"""Answers: the `data` of each question, the `meta` that all have, and receipts of erasures."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

import msgspec
from pydantic import Field, WithJsonSchema

D = TypeVar("D")

# An event is late if it is stored more than this after it occurred.
SETTLED_AFTER = timedelta(minutes=15)

Table = tuple[type, Sequence[Any]]
"""The dataclass of the rows, whose fields name the columns if there are no rows, and the rows."""


class Tabular(Protocol):
    """Data with a form as rows, for CSV and NDJSON."""

    def table(self) -> Table: ...


def _absent_field() -> Any:
    """Return the default of a field that is left out of the answer unless requested."""
    # msgspec leaves UNSET out of JSON; None would be written as null.
    return msgspec.UNSET


def is_absent(value: object) -> bool:
    return value is msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Bucket:
    """One hour, day, ... of a series."""

    start: datetime
    end: datetime
    events: int
    users: int
    partial: bool
    """Whether the bucket had not ended when the answer was computed."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of a range without a series, as a row."""

    events: int
    users: int


@dataclass(frozen=True, slots=True)
class Previous:
    """The counts of the previous range."""

    start: datetime
    end: datetime
    events: int
    users: int


@dataclass(frozen=True, slots=True)
class EventCountsData:
    events: int
    users: int
    series: list[Bucket] = field(default_factory=_absent_field)
    previous: Previous = field(default_factory=_absent_field)

    def table(self) -> Table:
        if is_absent(self.series):
            return Counts, [Counts(self.events, self.users)]
        return Bucket, self.series


@dataclass(frozen=True, slots=True)
class TopEvent:
    event_name: str
    events: int
    users: int
    share: float
    """The share of all events in the range and filter, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Other:
    """The totals of all event names beyond the limit."""

    event_names: int
    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class TopEventRow:
    """A row of CSV or NDJSON; the one without a name holds all other event names."""

    event_name: str | None
    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class TopEventsData:
    events: int
    users: int
    rows: list[TopEvent]
    other: Other

    def table(self) -> Table:
        """Return the rows, the last of which holds the other names, so that the events add up."""
        rows: list[TopEventRow] = [TopEventRow(*astuple(row)) for row in self.rows]
        if self.other.event_names:
            other = self.other
            rows.append(TopEventRow(None, other.events, other.users, other.share))
        return TopEventRow, rows


@dataclass(frozen=True, slots=True)
class ActiveDay:
    """Active users of one day: distinct users with an event in each window that ends with it."""

    date: date
    dau: int
    wau: int
    """Users of the rolling 7 days."""
    mau: int
    """Users of the rolling 30 days."""
    stickiness: float | None
    """dau / mau; null if mau is 0."""
    calendar_week: int
    """Users of the calendar week, up to the day."""
    calendar_month: int
    """Users of the calendar month, up to the day."""
    partial: bool
    """Whether the day had not ended when the answer was computed."""
    active: int = field(default_factory=_absent_field)
    """Users of the rolling days of the parameter `window`."""


@dataclass(frozen=True, slots=True)
class ActiveUsersData:
    series: list[ActiveDay]

    def table(self) -> Table:
        return ActiveDay, self.series


@dataclass(frozen=True, slots=True)
class PlanData:
    """The plan of a question: what it would read, and the limits."""

    source: str
    """`rollups`, or `events` if this database has no rollups."""
    rows: int
    """Rows of rollups, also those in the memory of the process, and set operations for the windows
    of active users: eight for each day and 64 kB of its users."""
    bytes: int
    """Bytes of these rows, and of the sets of the longest window."""
    events: int
    """Events of edges that are finer than a slot, at most; without rollups, an estimate of all
    events read. For active users each counts twelve times, for entering and leaving six windows."""
    tail: int
    """Events in the tail, up to 10,000; they are read in addition, and do not count."""
    allowed_rows: int
    allowed_bytes: int
    allowed_events: int
    horizon: datetime | None
    """Events before it are dropped; null if none are."""
    needs_dropped: bool
    """Whether the question needs dropped events, and would be refused with 409."""

    def table(self) -> Table:
        return PlanData, [self]


# Not frozen: creating a frozen instance takes three times as long, and a page has up to 1,000.
@dataclass(slots=True)
class UserEvent:
    event_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    event_name: str
    occurred_at: datetime
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Meta:
    """Metadata of an answer: range, time zone, and the time and source of its computation."""

    start: datetime | None
    """For a full history, the horizon, or null if there is none."""
    end: datetime | None
    tz: str
    computed_at: datetime
    """The database's clock when the snapshot was taken; on a replica, the time of its replay."""
    complete_until: datetime
    """All events before this instant that were committed by `computed_at` are counted."""
    source: str
    """`rollups`, or `events` for histories and for databases without rollups."""

    @property
    def is_settled(self) -> bool:
        """Whether only late events can change the answer."""
        return self.end is not None and self.end <= self.computed_at - SETTLED_AFTER


@dataclass(frozen=True, slots=True)
class PageMeta(Meta):
    next_cursor: str | None
    """The cursor for older events; null at the end of the history."""
    previous_cursor: str | None
    """The cursor for newer events; null at the beginning of the history."""


@dataclass(frozen=True, slots=True)
class ActiveUsersMeta(Meta):
    windows: dict[str, str]
    """The window of each count in `series`: rolling days or a calendar unit."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[D]):
    data: D
    meta: Meta
    cache_version: Annotated[str | None, Field(exclude=True)] = None
    """The cache version of the months that the answer depends on, never part of the response.

    None if late events are not tracked.
    """

    def table(self) -> Table:
        """Return the rows of the answer, for CSV and NDJSON."""
        return cast(Tabular, self.data).table()


@dataclass(frozen=True, slots=True)
class UserEventsAnswer(Answer[list[UserEvent]]):
    meta: PageMeta

    def table(self) -> Table:
        return UserEvent, self.data


@dataclass(frozen=True, slots=True)
class ActiveUsersAnswer(Answer[ActiveUsersData]):
    meta: ActiveUsersMeta


@dataclass(frozen=True, slots=True)
class Receipt:
    """The result of an erasure. It names no user, but its salt proves whom it is for."""

    erasure_id: str
    erased_at: datetime
    salt: str
    """SHA-256 of the salt and the user's id is the `proof` in the table `erasures`."""
    events: int
    slots: int
    """Slots whose counts were changed."""
    spans: int
    """Sealed hours, days and months that were changed."""
    days: int
    """Days whose daily statistics were recomputed."""
    first_month: date | None
    """The first day of the UTC month of the first event; null if there was no event."""
    last_month: date | None
    """The first day of the UTC month of the last event; null if there was no event."""
    suppressed: bool
    """Whether events of the user that arrive from now on are left out."""
    unknown_before: datetime | None
    """The horizon: earlier events were dropped before the erasure, so counts of events still
    include those of the user. Counts of users do not."""
    may_return_from: tuple[str, ...] = ()
    """Adopted tables with rows of the user, which belong to the platform: the next run of `adopt`
    makes events of them again, unless the user is suppressed."""
    cache_cleared: bool = False
    """Whether Redis holds no answer about the user any more."""
