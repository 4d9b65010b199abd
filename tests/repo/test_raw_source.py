"""Aggregates of the events themselves."""

from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from common.errors import EventsDropped
from repo.engine.plan import Aggregation, Group
from repo.engine.raw_source import RawSource
from tests.events import insert
from tests.source_comparison import Asker, rows_read
from utils.time.calendar import Range
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
BEFORE = Range(NOON - DAY, NOON)
LATER = Range(NOON + 20 * DAY, NOON + 21 * DAY)


def aggregation(*ranges: Range, group: Group | None = None) -> Aggregation:
    return Aggregation(question="test", ranges=list(ranges), zone=zone("UTC"), group=group)


def test_events_and_users_of_each_range_and_name(conn: connection, asker: Asker) -> None:
    early, late = BEFORE.start, LATER.start
    insert(
        conn, ("a", "view", early), ("b", "view", early), ("b", "buy", early), ("", "buy", early)
    )
    insert(conn, ("b", "view", late), ("b", "view", late))
    with asker.snapshot() as cur:
        source = RawSource(cur)
        result = source.read(source.plan(aggregation(BEFORE, LATER, group=Group(limit=1))))
    first, second = result.ranges
    count = result.cardinalities.counts
    assert list(first.named) == list(second.named) == ["view"]
    assert count([*first.named.values(), first.others]) == [(2, 2), (2, 1)]
    assert count([*second.named.values(), second.others]) == [(2, 1), (0, 0)]
    assert count(result.totals) == [(4, 2), (2, 1)]
    assert result.other_groups == 1


def test_events_between_ranges_are_not_read(conn: connection, asker: Asker) -> None:
    insert(conn, ("a", "view", BEFORE.start), ("b", "view", LATER.start))
    insert(conn, *[("c", "view", NOON + 5 * DAY)] * 500)
    conn.cursor().execute("analyze events")
    with asker.snapshot() as cur:
        cur.execute("set local enable_seqscan = off")
        source = RawSource(cur)
        plan = source.plan(aggregation(BEFORE, LATER), explain=True)
        before = rows_read(cur)
        result = source.read(plan)
        assert rows_read(cur) - before < 100
    assert result.cardinalities.counts(result.totals) == [(1, 1), (1, 1)]


def test_ranges_before_the_horizon_are_refused(asker: Asker) -> None:
    with asker.snapshot() as cur:
        plan = RawSource(cur, horizon=NOON).plan(aggregation(BEFORE))
        assert plan.needs_dropped
        assert plan.cost is None
        with pytest.raises(EventsDropped):
            plan.check()
        RawSource(cur, horizon=BEFORE.start).plan(aggregation(BEFORE)).check()
