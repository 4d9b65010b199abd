"""Compute the answer to `users`, a page of the list of users, from columns."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from common.dates import ALL_TIME
from common.errors import InvalidCursor, TooExpensive
from common.questions.answer import Checkpoint
from common.questions.users import User, UsersAnswer, UsersMeta, UsersPosition, UsersQuery
from config.database import Cursor
from repo.engine.column_plan import ColumnPlan
from repo.engine.column_reader import ColumnReader
from repo.engine.ordinals import Ordinals
from repo.engine.scan import Scan
from repo.engine.scan_evaluation import ScanEvaluation
from repo.engine.tail import Snapshot
from repo.engine.timeline import instant
from repo.engine.watermark import Watermark
from repo.hide_from_pg_stat_activity import Hidden
from repo.queries.answers import horizon_of, open_watermark, remark_fields
from repo.queries.base import ScanReduction
from repo.queries.user_page import (
    Activity,
    ActivityCollector,
    NamedUser,
    SortCollector,
    select_page,
)
from repo.statements import statements
from utils.time.calendar import Range

SQL = statements("users")

_MAX_NAMED = 1_000_000  # users whose ids are sorted for a page
_CHEAPER = "another `sort`, or fewer users"


class UsersReduction(ScanReduction[UsersQuery, Any], query=UsersQuery):
    """All users of the range, and the value by which each is sorted."""

    def scan(self) -> Scan:
        position = self.query.position
        snapshot = Snapshot(position.snapshot) if position else None
        return self._scan([self.time_range], fields=frozenset({"time"}), snapshot=snapshot)

    def collector(self) -> SortCollector:
        return SortCollector(self.query.sort)

    def data(self, collector: SortCollector, checkpoint: Checkpoint) -> Any:
        return collector.users()


def users(cur: Cursor, query: UsersQuery, checkpoint: Checkpoint) -> UsersAnswer:
    """Return a page of users.

    Raises: InvalidParameter, InvalidCursor, EventsDropped, TooExpensive, and what the checkpoint
    raises.
    """
    watermark = open_watermark(cur, query)
    lineage = watermark.lineage if watermark else ""
    if query.position and query.position.lineage != lineage:
        raise InvalidCursor
    reader = ColumnReader(cur, watermark, horizon_of(cur, watermark))
    reduction, plan = _plan(cur, reader, query)
    plan.check()
    collector = reduction.collector()
    evaluation = reader.read(plan, collector)
    remarks = evaluation(checkpoint)
    ordinals, values = reduction.data(collector, checkpoint)
    position = query.position
    page = select_page(
        ordinals,
        values,
        (position.value, position.user_id) if position else None,
        query.limit + 1,
        _Namer(cur, evaluation.tail.new_users).in_order,
    )
    rows = _rows(reader, evaluation, page[: query.limit], query, checkpoint)
    cursor = _cursor(reduction, page, lineage, _snapshot(cur, query, watermark))
    meta = {**_meta(reduction, plan), **remark_fields(remarks)}
    return UsersAnswer(rows, UsersMeta(**meta, count=len(ordinals), next_cursor=cursor))


def _plan(
    cur: Cursor, reader: ColumnReader, query: UsersQuery
) -> tuple[UsersReduction, ColumnPlan]:
    """Return what to read. Without a range, that are all events that are stored."""
    reduction = UsersReduction(query, *_range_and_clock(cur, query))
    plan = reader.plan(reduction.scan())
    since = _dropped_before(plan)
    if since is None or query.position or not query.is_all_time:
        return reduction, plan
    stored = UsersReduction(query, Range(since, reduction.time_range.end), reduction.now)
    return stored, reader.plan(stored.scan())


def _range_and_clock(cur: Cursor, query: UsersQuery) -> tuple[Range, datetime]:
    """Return the range of the list, and the clock of its first page. Raises: InvalidParameter."""
    now = query.position.now if query.position else cur.now
    return query.range_at(now), now


def _dropped_before(plan: ColumnPlan) -> datetime | None:
    """Return the time before which events that a plan needs were dropped; None if none were."""
    horizons = [each.horizon for each in plan.scan_plans if each.needs_dropped]
    return max(filter(None, horizons), default=None)


class _Namer:
    """Finds the ids of users by their ordinals."""

    def __init__(self, cur: Cursor, new_users: Mapping[str, int]) -> None:
        """`new_users` are the temporary ordinals by user id."""
        self._cur = cur
        self._new_users = {ordinal: user_id for user_id, ordinal in new_users.items()}

    def in_order(self, ordinals: Ordinals, after: str | None, limit: int) -> list[tuple[str, int]]:
        """Return the ids and ordinals of users, by id, whose ids are greater than `after`.

        Raises: TooExpensive.
        """
        if len(ordinals) > _MAX_NAMED:
            raise TooExpensive("users that are equal in order", len(ordinals), _MAX_NAMED, _CHEAPER)
        if not len(ordinals) or limit <= 0:
            return []
        params = {
            "ordinals": ordinals.tolist(),
            "after": None if after is None else Hidden(after),
            "limit": limit,
        }
        self._cur.execute(SQL["users_in_order"], params)
        new = [
            (user_id, ordinal)
            for ordinal in params["ordinals"]
            if (user_id := self._new_users.get(ordinal)) and (after is None or user_id > after)
        ]
        return sorted([*self._cur.fetchall(), *new])[:limit]


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


def _cursor(
    reduction: UsersReduction, page: Sequence[NamedUser], lineage: str, snapshot: str
) -> str | None:
    """Return the cursor of the page after this one; None at the end."""
    query = reduction.query
    if len(page) <= query.limit:
        return None
    last = page[query.limit - 1]
    return query.cursor_at(
        UsersPosition(
            last.value, last.user_id, *reduction.time_range, reduction.now, snapshot, lineage
        )
    )


def _snapshot(cur: Cursor, query: UsersQuery, watermark: Watermark | None) -> str:
    """Return the snapshot of the first page."""
    if query.position:
        return query.position.snapshot
    if watermark:
        return watermark.now.text
    cur.execute(SQL["users_snapshot"])
    (text,) = cur.fetchone() or ("",)
    return str(text)


def _meta(reduction: UsersReduction, plan: ColumnPlan) -> dict[str, Any]:
    query, time_range = reduction.query, reduction.time_range
    meta = {**query.meta(time_range, reduction.now, plan.source), **reduction.extra_meta()}
    if not query.is_all_time:
        return meta
    has_horizon = time_range.start != ALL_TIME.start
    return meta | {"start": meta["start"] if has_horizon else None, "end": None}
