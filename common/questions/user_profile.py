"""The question `user_profile` and its answer: what one user did, in numbers."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import Field

from common.dates import ALL_TIME
from common.parameters import DateOrInstant, UserId
from common.query import Period, Query
from common.questions.answer import Answer, Table, Tabular
from common.questions.base import Ranged
from utils.time.calendar import Range


@dataclass(frozen=True, slots=True)
class NamedEvents:
    """The events of one name."""

    event_name: str
    events: int
    first_seen: datetime
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class LatestValue:
    """The latest value of a property that is not null."""

    name: str
    value: Any
    set_at: datetime
    """The time of the event that has it."""


@dataclass(frozen=True, slots=True)
class UserProfileData(Tabular):
    user_id: str | None
    """Null without events, as are the times: after an erasure, no answer names the user."""
    first_seen: datetime | None
    last_seen: datetime | None
    events: int
    active_days: int
    """The number of local days with an event."""
    event_names: list[NamedEvents]
    """The most frequent first."""
    properties: list[LatestValue]
    """By name."""

    def table(self) -> Table:
        """Return a row for each event name."""
        return NamedEvents, self.event_names


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfileQuery(Query):
    user_id: str
    is_all_time: bool
    """Whether the request has no range."""

    def definition(self, time_range: Range) -> str:
        return (
            f"The events of the user{self.criteria} {self.range_text(time_range)}, up to now, and "
            "the latest value of each property that they have."
        )


class UserProfileParameters(Ranged):
    """The query string of a profile, whose user is in the path."""

    start: DateOrInstant | None = Field(
        None, description="The beginning of the range. Without a range: all stored events."
    )


class UserProfile(UserProfileParameters):
    """The events of one user in numbers, and the latest value of each property."""

    answer = Answer[UserProfileData]
    concerns_one_user = True
    has_values = True
    user_id: UserId

    @cached_property
    def query(self) -> UserProfileQuery:
        return UserProfileQuery(
            **self._resolved(), user_id=self.user_id, is_all_time=self._is_all_time
        )

    def _period(self) -> Period:
        return Period(*ALL_TIME) if self._is_all_time else super()._period()

    def _months(self, _: Range) -> None:
        """Return None: profiles are read from the events, for which versions are not tracked."""

    @property
    def _is_all_time(self) -> bool:
        return self.start is None and self.last is None
