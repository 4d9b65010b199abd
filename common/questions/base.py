"""Base classes of questions: ranges of time, plans and buckets."""

import hashlib
import re
from abc import abstractmethod
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    SkipValidation,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from common.cells import TOTAL, Cell, CellFields, parse_cell
from common.dates import ALL_TIME
from common.errors import InvalidParameter, refuse
from common.parameters import (
    Boolean,
    DateOrInstant,
    EventNames,
    Integer,
    LastText,
    Parameters,
    Prefix,
    UserConditions,
    Where,
    Zone,
)
from common.query import Period, Query
from common.user_criteria import UserFilter
from common.user_pages import CursorText, UserPage, page_of
from common.where import MAX_BYTES
from utils.formats import Format
from utils.time.calendar import (
    Interval,
    Range,
    Weekday,
    day_start,
)
from utils.time.ranges import parse_last
from utils.time.slots import month_number
from utils.time.zones import zone

DEFAULT_LAST = "30d"
FILTERED = "filtered"
LIST_HEADERS = ("X-Count", "X-Next-Cursor")

_DAY = timedelta(days=1)
_DEFAULT_PAGE_SIZE = 50


CellText = Annotated[
    SkipValidation[Cell],
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {"type": "string", "maxLength": MAX_BYTES, "examples": ["start:2025-01-06", "plan:pro"]}
    ),
]


def _now() -> datetime:
    return datetime.now(UTC)


def _refused(error: InvalidParameter) -> PydanticCustomError:
    """Return the error for a validator to raise."""
    (fault,) = error.faults
    return refuse(fault.parameter, fault.message)


class Question(Parameters):
    """The base class of every question."""

    name: ClassVar[str]
    answer: ClassVar[Any]
    """The type of the answer, for the OpenAPI description."""
    response_headers: ClassVar[tuple[str, ...]] = ()
    """Headers with what has no place in CSV and NDJSON, which scripts in browsers may read."""
    concerns_one_user: ClassVar[bool] = False
    """Whether answers name users, so that an erasure drops them from the cache."""
    has_values: ClassVar[bool] = False
    """Whether answers have values of properties, so that an erasure drops them from the cache."""

    format: Format | None = Field(
        None, description="The format of the answer, in place of the `Accept` header."
    )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # EventCounts becomes event_counts: the name in SQL files, metrics and cache keys.
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @property
    @abstractmethod
    def query(self) -> Query:
        """The query that the question resolves to."""

    @property
    def cache_name(self) -> str:
        """The first part of the cache key, by which an erasure finds answers with values of users.

        It is the name of the question, followed by `:filtered` if the answer repeats a filter or
        has values of properties.
        """
        return f"{self.name}:{FILTERED}" if self.has_values else self.name

    def fingerprint(self, *, without: Collection[str] = ("format",)) -> str:
        """Return a digest that is equal for questions with the same answer, in every process."""
        # A digest of the validated values rather than `hash()`, which differs between processes.
        parameters = self.model_dump_json(exclude=set(without))
        return hashlib.sha256(f"{self.name} {parameters}".encode()).hexdigest()


class Catalogue(Question):
    """A question about what there is, which the events of all time answer."""

    starts: Prefix = Field("", description="List names that start with this text only.")
    limit: Integer = Field(10, ge=1, le=1000, description="The maximum number of rows.")

    @cached_property
    def query(self) -> Query:
        """The query that the question resolves to."""
        return Query(**self._resolved())

    def _resolved(self) -> dict[str, Any]:
        """Return the fields that the queries of all these questions have."""
        return {"name": self.name, "period": Period(*ALL_TIME), "zone": zone("UTC")}


class Ranged(Question):
    """A question about a range of time, start <= t < end."""

    start: DateOrInstant | None = Field(None, description="The beginning of the range.")
    end: DateOrInstant | None = Field(
        None, description="The end of the range, exclusive. Default: the end of today."
    )
    last: LastText | None = Field(
        None,
        description="A range that ends now, in place of `start` and `end`: `30d`, `12w` and `6mo` "
        "are whole days, weeks and months in `tz`, including the current one; `24h` counts back "
        "from now. Default: `30d`.",
        examples=["30d"],
    )
    tz: Zone = Field("UTC", description="The IANA time zone of dates, days, weeks and months.")
    week_start: Weekday = Field("monday", description="The first day of the week.")
    event: EventNames = Field((), description="Count events of this name only; may be repeated.")

    @cached_property
    def query(self) -> Query:
        """The query that the question resolves to."""
        return Query(**self._resolved())

    def _resolved(self) -> dict[str, Any]:
        """Return the fields that the queries of all questions have."""
        look_ahead, period = self._look_ahead, self._period()
        return {
            "name": self.name,
            "period": period,
            "zone": zone(self.tz),
            "week_start": self.week_start,
            "event_names": list(self.event) or None,
            "look_ahead": look_ahead,
            "months": self._months(fixed_range) if (fixed_range := period.fixed_range) else None,
        }

    def _period(self) -> Period:
        if self.start is None:
            return Period(last=parse_last(self.last or DEFAULT_LAST))
        tz = zone(self.tz)
        start, end = [
            edge if edge is None or isinstance(edge, datetime) else day_start(edge, tz)
            for edge in (self.start, self.end)
        ]
        return Period(start, end)

    def _months(self, time_range: Range) -> tuple[int, int] | None:
        """Return the first and last UTC month that the answer depends on."""
        # The end is exclusive, but one month too many does no harm: late events in it only cause a
        # cached answer to be computed again.
        last_instant = time_range.end + self._look_ahead
        first_instant = time_range.start - self._look_back(time_range)
        return month_number(first_instant), month_number(last_instant)

    def _look_back(self, time_range: Range) -> timedelta:
        """Return the longest time before the range in which events affect the answer."""
        return timedelta(0)

    @property
    def _look_ahead(self) -> timedelta:
        """The longest time after the range in which events affect the answer."""
        return timedelta(0)

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.last is not None and (self.start is not None or self.end is not None):
            raise refuse("last", "must not be given together with start or end")
        if self.end is not None and self.start is None:
            raise refuse("start", "must be given together with end")
        # A first check by the service's clock, so that most errors need no connection to the
        # database. The range may grow until the snapshot, whose clock counts.
        now = _now()
        try:
            time_range = self.query.range_at(now)
        except InvalidParameter as error:
            raise _refused(error) from None
        if time_range.start >= time_range.end and not self._is_skipped_day:
            raise refuse("start", "must be before end, which is the end of today by default")
        return self

    @property
    def _is_skipped_day(self) -> bool:
        """Whether the range is whole days that the zone skipped: it is valid, and empty."""
        start, end = self.start, self.end
        if isinstance(start, datetime) or isinstance(end, datetime):
            return False
        return start is not None and end is not None and start < end


class Counting(Ranged):
    """A question whose answer is counted, at a cost that is limited."""

    response_headers: ClassVar[tuple[str, ...]] = ("X-Unknown",)

    where: Where = Field(
        (),
        description="Count events that match this condition only, such as `plan:pro` or "
        "`amount:>=100`; may be repeated, and all must hold.",
    )
    did: UserConditions = Field(
        (),
        description="Count events only of users who caused such events: event names, then a "
        "condition, then `@times:3..`, and `@last:30d` or `@start:` and `@end:`; may be repeated, "
        "and all must hold.",
    )
    not_did: UserConditions = Field(
        (),
        description="Count events only of users who did not cause such events; may be repeated, "
        "and none may hold.",
    )
    explain: Boolean = Field(
        False,
        description="Return the plan instead of the answer: what the question would read, and the "
        "limits. A question that exceeds them is refused.",
    )

    def _resolved(self) -> dict[str, Any]:
        users, resolved = self._user_filter, super()._resolved()
        months = resolved["months"]
        if months and users:
            months = self._all_months(months, resolved["period"], users)
        return resolved | {
            "where": next(iter(self.where), None),
            "users": users,
            # A plan depends on the tail as well, so that it has no months.
            "months": None if self.explain else months,
        }

    @property
    def _user_filter(self) -> UserFilter | None:
        if not self.did and not self.not_did:
            return None
        return UserFilter(
            did=self.did, not_did=self.not_did, zone=zone(self.tz), week_start=self.week_start
        )

    def _all_months(
        self, months: tuple[int, int], period: Period, users: UserFilter
    ) -> tuple[int, int]:
        """Return the first and last month, also of the events by which users are chosen."""
        if (time_range := period.fixed_range) is None:
            return months
        ranges = [each.range for each in users.criteria(time_range, time_range.end)]
        return (
            min(months[0], *(month_number(each.start) for each in ranges)),
            max(months[1], *(month_number(each.end) for each in ranges)),
        )

    @property
    def cache_name(self) -> str:
        is_filtered = self.where or self.did or self.not_did or self.has_values
        return f"{self.name}:{FILTERED}" if is_filtered else self.name

    @model_validator(mode="after")
    def _check_users(self) -> Self:
        if not self.did and not self.not_did:
            return self
        now = _now()
        try:
            self.query.user_criteria(self.query.range_at(now), now)
        except InvalidParameter as error:
            raise _refused(error) from None
        return self


class ListsUsers(Counting):
    """A question whose answer counts users, who can be listed for each number."""

    cell_fields: ClassVar[CellFields] = CellFields()
    """The items that a cell may have with any other parameters."""
    response_headers = (*Counting.response_headers, *LIST_HEADERS)

    list_: Literal["users"] | None = Field(
        None,
        alias="list",
        description="`users`: return the users whom a number of the answer counts, in pages, in "
        "place of the answer.",
    )
    cell: CellText | None = Field(
        None,
        description="With `list`: the number, by fields of the answer and conditions on the values "
        "of its row, such as `start:2025-01-06` or `plan:pro country:US`. Default: the total.",
    )
    cursor: CursorText | None = Field(
        None, description="With `list`: `next_cursor` of an answer with the same parameters."
    )
    page_size: Integer | None = Field(
        None,
        ge=1,
        le=1000,
        description=f"With `list`: the maximum number of users. Default: {_DEFAULT_PAGE_SIZE}.",
    )

    @property
    def cells(self) -> CellFields:
        """The items that a cell may have with the other parameters of this question."""
        return self.cell_fields

    def _resolved(self) -> dict[str, Any]:
        if not self.list_:
            return super()._resolved()
        # Pages of one snapshot must not be replaced, so they have no cache version.
        return super()._resolved() | {"months": None, "cell": self._cell, "page": self._page}

    @property
    def _cell(self) -> Cell:
        return self.cell or TOTAL

    @property
    def _page(self) -> UserPage:
        """The page that the cursor leads to. Raises: InvalidCursor."""
        identity = self.fingerprint(without=("cursor", "page_size", "format", "explain"))
        return page_of(self.cursor, self.page_size or _DEFAULT_PAGE_SIZE, identity)

    @property
    def cache_name(self) -> str:
        return f"{self.name}:{FILTERED}" if self.list_ else super().cache_name

    @field_validator("cell", mode="before")
    @classmethod
    def _parse_cell(cls, value: object) -> object:
        return parse_cell(value, cls.cell_fields) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_list(self) -> Self:
        for parameter in ("cell", "cursor", "page_size"):
            if not self.list_ and getattr(self, parameter) is not None:
                raise refuse(parameter, "needs `list=users`")
        if self.list_ and (fault := self._cell.fault(self.cells)):
            raise refuse("cell", fault)
        return self


class Completable(Counting):
    """A question about periods, whose range can be narrowed to those that are whole and over."""

    complete: Boolean = Field(
        False,
        description="Narrow the range to whole periods that are over: days, or what `interval` "
        "says. `meta` has the range that remains.",
    )

    def _resolved(self) -> dict[str, Any]:
        return super()._resolved() | {"complete": self.complete}


class Periodic(Completable):
    """A question that may have a series."""

    interval: Interval | None = Field(
        None, description="Also count per hour, day or longer unit in `tz`, including zeros."
    )

    def _resolved(self) -> dict[str, Any]:
        return super()._resolved() | {"interval": self.interval}

    @model_validator(mode="after")
    def _check_complete(self) -> Self:
        if self.complete and self.interval is None:
            raise refuse("complete", "needs `interval`: without it there are no periods")
        return self
