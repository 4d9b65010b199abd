"""Counts of ranges from spans, slots, the tail and edges."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from psycopg2.extensions import connection

from repo.engine.cardinality import CardinalityCache
from repo.engine.cost import Cost
from repo.engine.plan import Aggregation, Group
from repo.engine.rollup_source import EngineCaches, RollupSource
from repo.engine.span_cache import SpanCache
from repo.engine.watermark import read_watermark
from tests.events import fold, insert
from tests.source_comparison import Asker
from utils.time.calendar import Range
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARCH = Range(datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))


@pytest.fixture
def events(conn: connection, database_url: str) -> None:
    """Three events that are folded, and one that is in the tail."""
    insert(conn, ("a", "view", NOON), ("b", "view", NOON), ("a", "buy", NOON + 20 * MINUTE))
    fold(database_url)
    insert(conn, ("c", "view", NOON + MINUTE))


@contextmanager
def opened(asker: Asker) -> Iterator[RollupSource]:
    with asker.snapshot() as cur:
        watermark = read_watermark(cur)
        assert watermark is not None
        yield RollupSource(cur, watermark, caches=EngineCaches(SpanCache(), CardinalityCache()))


def aggregation(*ranges: Range, group: Group | None = None) -> Aggregation:
    return Aggregation(question="test", ranges=list(ranges), zone=zone("UTC"), group=group)


@pytest.mark.usefixtures("events")
def test_a_range_counts_folded_events_and_the_tail(asker: Asker) -> None:
    with opened(asker) as source:
        plan = source.plan(aggregation(MARCH), explain=True)
        (part,) = source.read(plan).ranges
    assert plan.tail == 1
    assert part.named == {}
    assert part.others.events == 4


@pytest.mark.usefixtures("events")
def test_names_are_counted_by_themselves(asker: Asker) -> None:
    with opened(asker) as source:
        result = source.read(source.plan(aggregation(MARCH, group=Group())))
    (part,) = result.ranges
    assert {name: partial.events for name, partial in part.named.items()} == {"view": 3, "buy": 1}
    assert (part.others.events, result.other_groups) == (0, 0)


@pytest.mark.usefixtures("events")
def test_names_beyond_the_limit_are_the_others(asker: Asker) -> None:
    with opened(asker) as source:
        result = source.read(source.plan(aggregation(MARCH, group=Group(limit=1))))
    (part,) = result.ranges
    assert {name: partial.events for name, partial in part.named.items()} == {"view": 3}
    assert (part.others.events, result.other_groups) == (1, 1)
    assert result.cardinalities.counts(result.totals) == [(4, 3)]


@pytest.mark.usefixtures("events")
def test_parts_finer_than_a_slot_are_counted_from_the_events(asker: Asker) -> None:
    ranges = [Range(NOON, NOON + MINUTE), Range(NOON + MINUTE, NOON + 20 * MINUTE)]
    with opened(asker) as source:
        plan = source.plan(aggregation(*ranges))
        counts = [part.others.events for part in source.read(plan).ranges]
        assert plan.cost
        assert plan.cost.events > 0
        assert source.plan(aggregation(MARCH), explain=True).cost == Cost(rows=1, bytes=20)
        assert source.plan(aggregation(MARCH)).cost is None
    assert counts == [2, 1]


@pytest.mark.usefixtures("events")
def test_users_of_several_plans_in_one_snapshot_are_the_same(
    asker: Asker, conn: connection
) -> None:
    """Also those without an ordinal: one has only signed up, and the other has only bought."""
    insert(conn, ("alice", "signup", NOON), ("bob", "buy", NOON + MINUTE))
    with opened(asker) as source:
        signed_up, bought = (
            source.read(source.plan(replace(aggregation(MARCH), event_names=[name])))
            for name in ("signup", "buy")
        )
        users = signed_up.cardinalities.users
        first, second = users(signed_up.totals[0]), users(bought.totals[0])
    assert (len(first), len(second)) == (1, 2)
    assert not first & second
