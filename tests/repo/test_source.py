"""Which source answers: rollups where there are some of this cluster, else the events."""

from datetime import UTC, datetime

import pytest
from psycopg2.extensions import connection

from common.questions.event_counts import EventCounts
from repo.engine.cardinality import Aggregates, CardinalityCache
from repo.engine.cost import Cost
from repo.engine.plan import Aggregation, Plan
from repo.queries.answers import choose, open_sources, open_watermark
from tests.events import fold, insert
from tests.source_comparison import Asker
from utils.time.zones import zone

NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
AGGREGATION = Aggregation(question="test", ranges=[], zone=zone("UTC"))


class StubSource:
    """A source with a fixed plan."""

    cache_version = None

    def __init__(self, kind: str, cost: Cost | None, *, is_able: bool = True) -> None:
        self.kind = kind
        self._plan = Plan(source=kind, cost=cost, allowed_events=1)
        self._is_able = is_able

    def supports(self, _: Aggregation) -> bool:
        return self._is_able

    def plan(self, _: Aggregation, *, explain: bool = False) -> Plan:
        return self._plan

    def read(self, _: Plan) -> Aggregates:
        return Aggregates([], CardinalityCache())


def test_the_cheapest_plan_is_chosen() -> None:
    sources = [StubSource("a", Cost(rows=9)), StubSource("b", Cost(events=8))]
    source, plan = choose(sources, AGGREGATION, explain=False)
    assert (source.kind, plan.source) == ("b", "b")


def test_a_source_that_cannot_answer_is_left_out() -> None:
    sources = [StubSource("a", None, is_able=False), StubSource("b", Cost(events=8))]
    source, _ = choose(sources, AGGREGATION, explain=False)
    assert source.kind == "b"


@pytest.mark.parametrize(
    ("change", "kind"), [("select", "rollups"), ("update fold_state set cluster = 1", "events")]
)
def test_rollups_of_this_cluster_are_the_source(
    conn: connection, asker: Asker, database_url: str, change: str, kind: str
) -> None:
    insert(conn, ("u", "view", NOON))
    fold(database_url)
    conn.cursor().execute(change)
    with asker.snapshot() as cur:
        source, *_ = open_sources(cur, open_watermark(cur, EventCounts().query))
    assert source.kind == kind


def test_the_clock_of_the_snapshot_is_not_behind_the_rollups(
    conn: connection, asker: Asker, database_url: str
) -> None:
    fold(database_url)
    with asker.snapshot() as cur:
        folded_at = cur.now
        cur.now = NOON
        open_watermark(cur, EventCounts().query)
        assert NOON < cur.now <= folded_at
