"""The answers: `data` of each question, and `meta`, which all have."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Generic, Protocol, TypeVar, cast

import msgspec
from pydantic import Field, WithJsonSchema

D = TypeVar("D")

SETTLED_AFTER = timedelta(minutes=15)
"""Events that are stored later than so after they occurred are late."""

Table = tuple[type, Sequence[Any]]
"""What kind of rows, and the rows: their kind names the columns where there are none."""


class Tabular(Protocol):
    """Data that can be shown as rows."""

    def table(self) -> Table: ...


def _absent_field() -> Any:
    """A field that is left out of the answer unless it was asked for."""
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
    """Whether time has not finished the bucket."""


@dataclass(frozen=True, slots=True)
class Counts:
    """A range without a series, as a row."""

    events: int
    users: int


@dataclass(frozen=True, slots=True)
class Previous:
    """The counts of the range before."""

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
    """The part of all events asked about, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Other:
    """All event names that are not in the rows."""

    event_names: int
    events: int
    users: int
    share: float


@dataclass(frozen=True, slots=True)
class TopEventRow:
    """A line of CSV or NDJSON."""

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
        """The last row, without a name, is all the others, so that the rows add up."""
        rows: list[TopEventRow] = [TopEventRow(*astuple(row)) for row in self.rows]
        if self.other.event_names:
            other = self.other
            rows.append(TopEventRow(None, other.events, other.users, other.share))
        return TopEventRow, rows


@dataclass(frozen=True, slots=True)
class ActiveDay:
    """Active users of one day: different users with an event in each window that ends with it."""

    date: date
    dau: int
    wau: int
    """Rolling 7 days."""
    mau: int
    """Rolling 30 days."""
    stickiness: float | None
    """dau / mau; null where mau is 0."""
    calendar_week: int
    """The week that holds the day, up to the day."""
    calendar_month: int
    """The month that holds the day, up to the day."""
    partial: bool
    """Whether the day is not over."""
    active: int = field(default_factory=_absent_field)
    """The rolling days that were asked for as `window`."""


@dataclass(frozen=True, slots=True)
class ActiveUsersData:
    series: list[ActiveDay]

    def table(self) -> Table:
        return ActiveDay, self.series


@dataclass(frozen=True, slots=True)
class PlanData:
    """What a question would read."""

    source: str
    """`rollups`, or `events` where there are none for this database."""
    rows: int
    """Of rollups, those that the process remembers included, and sets of users that are joined for
    the windows of active users: eight for each day and 64 kB of its users."""
    bytes: int
    """Of these rows, and of the sets of the longest window."""
    events: int
    """Events at most, of edges that are finer than a quarter of an hour; an estimate of all that
    are read where there are no rollups; for active users each is counted twelve times, once for
    entering and once for leaving each of six windows."""
    tail: int
    """Events that are not folded yet, up to 10,000; they are read besides, and do not count."""
    allowed_rows: int
    allowed_bytes: int
    allowed_events: int
    horizon: datetime | None
    """Before it events are dropped; null where none is."""
    needs_dropped: bool
    """Whether the question needs some of these, and is refused with 409."""

    def table(self) -> Table:
        return PlanData, [self]


@dataclass(slots=True)  # frozen ones take three times as long to make, and there are up to 1,000
class UserEvent:
    event_id: Annotated[str, WithJsonSchema({"type": "string", "format": "uuid"})]
    event_name: str
    occurred_at: datetime
    properties: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Meta:
    """What was answered."""

    start: datetime | None
    """Of a whole history null, or the moment before which events are dropped."""
    end: datetime | None
    tz: str
    computed_at: datetime
    """The database's clock when the answer's snapshot was taken; up to where a replica has come."""
    complete_until: datetime
    """All events before this moment that were committed by `computed_at` are counted."""
    source: str
    """`rollups`, or `events`: histories, and all where there are no rollups for this database."""

    @property
    def is_settled(self) -> bool:
        """Whether only late events can change the answer."""
        return self.end is not None and self.end <= self.computed_at - SETTLED_AFTER


@dataclass(frozen=True, slots=True)
class PageMeta(Meta):
    next_cursor: str | None
    """For the events before these; null at the end of the history."""
    previous_cursor: str | None
    """For the events after these; null at its beginning."""


@dataclass(frozen=True, slots=True)
class ActiveUsersMeta(Meta):
    windows: dict[str, str]
    """What the numbers of `series` count over: rolling days, or calendar units."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[D]):
    data: D
    meta: Meta
    cache_version: Annotated[str | None, Field(exclude=True)] = None
    """Of the months that it depends on; None where late events are not watched. Never shown."""

    def table(self) -> Table:
        """The rows of the answer, for the formats that are rows."""
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
    """What was erased. It names nobody: with the user's id, its salt proves for whom it is."""

    erasure_id: str
    erased_at: datetime
    salt: str
    """SHA-256 of it and the user's id is the `proof` that the table `erasures` keeps."""
    events: int
    slots: int
    """Quarters of an hour whose counts were changed."""
    spans: int
    """Sealed hours, days and months that were."""
    days: int
    """Days whose numbers for SQL readers were counted anew."""
    first_month: date | None
    """The first day of the month of UTC of the first event; null where there was none."""
    last_month: date | None
    """The same of the last event."""
    suppressed: bool
    """Whether events of the user that come in from now on are left out."""
    unknown_before: datetime | None
    """Events before this moment were dropped already: nobody knows how many were of the user, so
    counts of events keep them; counts of users do not."""
    may_return_from: tuple[str, ...] = ()
    """Adopted tables, whose rows are the platform's own: those of the user that are still there
    are events again when `adopt` is run the next time, unless the user is suppressed."""
    cache_cleared: bool = False
    """Whether no answer about the user is left in Redis."""
