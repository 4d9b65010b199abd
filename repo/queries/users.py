"""Compute the answer to `users`, a page of the list of users, from columns."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from common.dates import ALL_TIME
from common.questions.answer import Checkpoint
from common.questions.user_lists import UserListMeta
from common.questions.users import User, UsersAnswer, UsersQuery
from config.database import Cursor
from repo.engine.column_plan import ColumnPlan
from repo.engine.column_reader import ColumnReader
from repo.engine.scan import Scan
from repo.engine.scan_evaluation import ScanEvaluation
from repo.engine.timeline import instant
from repo.queries.answers import horizon_of, open_watermark, reduction_at, remark_fields
from repo.queries.base import ScanReduction
from repo.queries.user_names import UserNames, cursor_after
from repo.queries.user_page import (
    Activity,
    ActivityCollector,
    NamedUser,
    SortCollector,
    select_page,
)
from utils.time.calendar import Range

_CHEAPER = "another `sort`, or fewer users"


class UsersReduction(ScanReduction[UsersQuery, Any], query=UsersQuery):
    """All users of the range, and the value by which each is sorted."""

    def scan(self) -> Scan:
        return self._scan([self.time_range], fields=frozenset({"time"}))

    def collector(self) -> SortCollector:
        return SortCollector(self.query.sort)

    def data(self, collector: SortCollector, checkpoint: Checkpoint) -> Any:
        return collector.users()


def users(cur: Cursor, query: UsersQuery, checkpoint: Checkpoint) -> UsersAnswer:
    """Return a page of users.

    Raises: InvalidParameter, InvalidCursor, EventsDropped, TooExpensive, and what the checkpoint
    raises.
    """
    assert query.page, "users come in pages"
    watermark = open_watermark(cur, query)
    reader = ColumnReader(cur, watermark, horizon_of(cur, watermark))
    reduction, plan = _plan(cur, reader, query)
    plan.check()
    collector = reduction.collector()
    evaluation = reader.read(plan, collector)
    remarks = evaluation(checkpoint)
    ordinals, values = reduction.data(collector, checkpoint)
    position, size = query.page_position, query.page.size
    page = select_page(
        ordinals,
        values,
        (position.value, position.user_id) if position else None,
        size + 1,
        UserNames(cur, evaluation.tail.new_users, _CHEAPER).in_order,
    )
    rows = _rows(reader, evaluation, page[:size], query, checkpoint)
    last = page[size - 1] if len(page) > size else None
    cursor = cursor_after(cur, reduction, watermark, last)
    meta = {**_meta(reduction, plan), **remark_fields(remarks)}
    return UsersAnswer(rows, UserListMeta(**meta, count=len(ordinals), next_cursor=cursor))


def _plan(
    cur: Cursor, reader: ColumnReader, query: UsersQuery
) -> tuple[UsersReduction, ColumnPlan]:
    """Return what to read. Without a range, that are all events that are stored."""
    reduction = reduction_at(cur, query, UsersReduction)
    assert isinstance(reduction, UsersReduction), "it has this type"
    plan = reader.plan(reduction.scan())
    since = _dropped_before(plan)
    if since is None or query.page_position or not query.is_all_time:
        return reduction, plan
    stored = UsersReduction(query, Range(since, reduction.time_range.end), reduction.now)
    return stored, reader.plan(stored.scan())


def _dropped_before(plan: ColumnPlan) -> datetime | None:
    """Return the time before which events that a plan needs were dropped; None if none were."""
    horizons = [each.horizon for each in plan.scan_plans if each.needs_dropped]
    return max(filter(None, horizons), default=None)


def _rows(
    reader: ColumnReader,
    evaluation: ScanEvaluation,
    page: Sequence[NamedUser],
    query: UsersQuery,
    checkpoint: Checkpoint,
) -> list[User]:
    if not page:
        return []
    collector = ActivityCollector([user.ordinal for user in page], query.zone)
    reader.read_again(evaluation, collector)(checkpoint)
    activities = collector.activities()
    return [_row(user, activities[user.ordinal], query.zone) for user in page]


def _row(user: NamedUser, activity: Activity, tz: ZoneInfo) -> User:
    first, last = (instant(each).astimezone(tz) for each in (activity.first, activity.last))
    return User(user.user_id, first, last, activity.events, activity.active_days)


def _meta(reduction: UsersReduction, plan: ColumnPlan) -> dict[str, Any]:
    query, time_range = reduction.query, reduction.time_range
    meta = {**query.meta(time_range, reduction.now, plan.source), **reduction.extra_meta()}
    if not query.is_all_time:
        return meta
    has_horizon = time_range.start != ALL_TIME.start
    return meta | {"start": meta["start"] if has_horizon else None, "end": None}
