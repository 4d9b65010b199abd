"""The repository of questions about events; each method reads one snapshot."""

from typing import TypeVar

from common.dates import ALL_TIME
from common.decorators import with_cursor, with_statement
from common.query import Query
from common.questions.active_users import ActiveUsersData, ActiveUsersQuery
from common.questions.answer import Answer, MoreToRead, PlanData, Reading, Result
from common.questions.breakdown import BreakdownData, BreakdownQuery
from common.questions.event_counts import EventCountsData, EventCountsQuery
from common.questions.event_names import EventNamesData, EventNamesQuery
from common.questions.funnel import FunnelData, FunnelQuery
from common.questions.lifecycle import LifecycleData, LifecycleQuery
from common.questions.numbers import NumbersData, NumbersQuery
from common.questions.properties import PropertiesData, PropertiesQuery
from common.questions.property_values import PropertyValuesData, PropertyValuesQuery
from common.questions.retention import RetentionData, RetentionQuery
from common.questions.stickiness import StickinessData, StickinessQuery
from common.questions.top_events import TopEventsData, TopEventsQuery
from common.questions.user_events import PageMeta, UserEventsAnswer, UserEventsQuery
from common.questions.user_lists import CountedUsers
from common.questions.user_profile import UserProfileData, UserProfileQuery
from common.questions.users import UsersAnswer, UsersQuery
from config.database import Connection, Cursor
from repo.queries.active_users import ActiveUsersReduction
from repo.queries.answers import answer, explain
from repo.queries.breakdown import BreakdownReduction
from repo.queries.counted_users import counted_users
from repo.queries.event_counts import EventCountsReduction
from repo.queries.event_names import event_names
from repo.queries.funnel import FunnelReduction
from repo.queries.lifecycle import LifecycleReduction
from repo.queries.numbers import NumbersReduction
from repo.queries.properties import properties
from repo.queries.property_values import property_values
from repo.queries.retention import RetentionReduction
from repo.queries.stickiness import StickinessReduction
from repo.queries.top_events import TopEventsReduction
from repo.queries.user_events import History, user_events
from repo.queries.user_profile import user_profile
from repo.queries.users import users
from utils.time.calendar import Range

Q = TypeVar("Q", bound=Query)
D = TypeVar("D")


class EventsRepo:
    """Answers the questions of one request, which gets a connection with the first question."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @with_cursor
    def get_event_counts(self, cur: Cursor, query: EventCountsQuery) -> Result[EventCountsData]:
        """Return the number of events and of distinct users, as a total or a series.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, EventCountsReduction)

    @with_cursor
    def get_top_events(self, cur: Cursor, query: TopEventsQuery) -> Result[TopEventsData]:
        """Return the most frequent event names; ties are ordered by name.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, TopEventsReduction)

    @with_cursor
    def get_breakdown(self, cur: Cursor, query: BreakdownQuery) -> Result[BreakdownData]:
        """Return the events and users of the most frequent values of one or two properties.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, BreakdownReduction)

    @with_cursor
    def get_active_users(self, cur: Cursor, query: ActiveUsersQuery) -> Result[ActiveUsersData]:
        """Return the daily, weekly and monthly active users of each day that has begun.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, ActiveUsersReduction)

    @with_cursor
    def get_event_names(self, cur: Cursor, query: EventNamesQuery) -> Result[EventNamesData]:
        """Return the event names with the counts of all their events, most frequent first.

        Raises: TooExpensive.
        """
        return event_names(cur, query)

    @with_cursor
    def get_properties(self, cur: Cursor, query: PropertiesQuery) -> Result[PropertiesData]:
        """Return the properties with the counts of all their events, most frequent first.

        Raises: CatalogueCounting.
        """
        return properties(cur, query)

    @with_cursor
    def get_property_values(
        self, cur: Cursor, query: PropertyValuesQuery
    ) -> Result[PropertyValuesData]:
        """Return the values of a property with the counts of their events, most frequent first.

        Raises: InvalidParameter, TooExpensive.
        """
        return property_values(cur, query)

    @with_cursor
    def get_numbers(self, cur: Cursor, query: NumbersQuery) -> Result[NumbersData]:
        """Return statistics of a numeric property, as a total or a series.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, NumbersReduction)

    @with_cursor
    def get_retention(self, cur: Cursor, query: RetentionQuery) -> Result[RetentionData]:
        """Return cohorts of users by the period of their entry, and who comes back in each period.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, RetentionReduction)

    @with_cursor
    def get_lifecycle(self, cur: Cursor, query: LifecycleQuery) -> Result[LifecycleData]:
        """Return the new, returning, resurrected and dormant users of each period.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, LifecycleReduction)

    @with_cursor
    def get_stickiness(self, cur: Cursor, query: StickinessQuery) -> Result[StickinessData]:
        """Return in how many periods users were active.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, StickinessReduction)

    @with_cursor
    def get_counted_users(self, cur: Cursor, query: Query) -> CountedUsers:
        """Return a page of the users whom a number of an answer counts.

        Raises: InvalidParameter, InvalidCursor, EventsDropped, TooExpensive.
        """
        return counted_users(cur, query, self.connection.check)

    @with_cursor
    def get_users(self, cur: Cursor, query: UsersQuery) -> UsersAnswer:
        """Return a page of users who have events.

        Raises: InvalidParameter, InvalidCursor, EventsDropped, TooExpensive.
        """
        return users(cur, query, self.connection.check)

    @with_cursor
    def get_user_profile(self, cur: Cursor, query: UserProfileQuery) -> Answer[UserProfileData]:
        """Return what one user did, in numbers; an empty profile for an unknown user.

        Raises: InvalidParameter, EventsDropped.
        """
        return user_profile(cur, query)

    @with_cursor
    def get_funnel(self, cur: Cursor, query: FunnelQuery) -> Result[FunnelData]:
        """Return how many users go through steps, one after the other.

        Raises: InvalidParameter, EventsDropped, TooExpensive.
        """
        return answer(cur, query, FunnelReduction)

    @with_cursor
    def read_more(self, cur: Cursor, more: MoreToRead[D]) -> Reading[D]:
        """Return the reading that gives an answer, which needed more than was read at first.

        Raises: TooExpensive.
        """
        return more.read(cur)

    @with_cursor
    def get_plan(self, cur: Cursor, query: Query) -> Answer[PlanData]:
        """Return what a query would read, and the limits, without reading it.

        Raises: InvalidParameter, InvalidCursor.
        """
        return explain(cur, query)

    def get_user_events(self, query: UserEventsQuery) -> UserEventsAnswer:
        """Return a page of a user's events, newest first; empty for an unknown user.

        Raises: InvalidParameter, EventsDropped.
        """
        # A range that does not depend on the database's clock needs one round trip: the first page
        # is a single statement, which is its own snapshot. A filter may need several statements.
        time_range = query.period.fixed_range
        if time_range and not query.where:
            return self._history_of_range(query, time_range)
        return self._history_now(query)

    @with_statement
    def _history_of_range(
        self, cur: Cursor, query: UserEventsQuery, time_range: Range
    ) -> UserEventsAnswer:
        return _history(cur, query, user_events(cur, query, time_range))

    @with_cursor
    def _history_now(self, cur: Cursor, query: UserEventsQuery) -> UserEventsAnswer:
        return _history(cur, query, user_events(cur, query, query.range_at(cur.now)))


def _history(cur: Cursor, query: UserEventsQuery, history: History) -> UserEventsAnswer:
    meta = query.meta(history.time_range, cur.now, "events")
    if query.is_full_history:
        has_horizon = history.time_range.start != ALL_TIME.start
        meta |= {"start": meta["start"] if has_horizon else None, "end": None}
    page = PageMeta(**meta, next_cursor=history.older, previous_cursor=history.newer)
    return UserEventsAnswer(history.events, page)
