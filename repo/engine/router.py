"""The router: which sources a snapshot has, and which of them answers a query."""

from collections.abc import Iterable

from common.metrics import PLANS
from common.query import Query
from config.database import Cursor
from repo.engine.plan import Aggregation, Plan
from repo.engine.raw_source import RawSource
from repo.engine.rollup_source import RollupSource
from repo.engine.source import Source
from repo.engine.watermark import read_horizon, read_watermark


def open_sources(cur: Cursor, query: Query) -> list[Source]:
    """Return the sources of the snapshot, and set its clock to that of the rollups if it is behind.

    The events themselves are a source only where there are no rollups of this cluster.
    """
    watermark = read_watermark(cur, query.months)
    if watermark is None:
        return [RawSource(cur, read_horizon(cur))]
    # The clock may be behind the watermark: on a replica, or because it was put back.
    cur.now = max(cur.now, watermark.folded_range.end)
    return [RollupSource(cur, watermark)]


def choose(
    sources: Iterable[Source], aggregation: Aggregation, *, explain: bool
) -> tuple[Source, Plan]:
    """Return the source with the cheapest plan, and the plan."""
    plans = ((source, source.plan(aggregation, explain=explain)) for source in sources)
    able = [(source, plan) for source, plan in plans if plan is not None]
    source, plan = min(able, key=lambda candidate: candidate[1].weight)
    PLANS.labels(aggregation.question, source.kind).inc()
    return source, plan
