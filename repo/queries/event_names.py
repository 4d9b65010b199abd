"""Compute the answer to `event_names` from rollups and from the first and last events."""

from collections.abc import Sequence
from datetime import datetime

from common.dates import ALL_TIME
from common.questions.answer import Answer, Meta
from common.questions.event_names import EventNameRow, EventNamesData, EventNamesQuery
from config.database import Cursor
from repo.engine.cardinality import Aggregates
from repo.engine.plan import Aggregation, Group
from repo.engine.watermark import Watermark
from repo.queries.answers import open_sources, open_watermark
from repo.statements import statements

SQL = statements("event_names")


def event_names(cur: Cursor, query: EventNamesQuery) -> Answer[EventNamesData]:
    """Return the names that begin with the prefix, and their counts up to now."""
    watermark = open_watermark(cur, query)
    (source,) = open_sources(cur, watermark)
    aggregation = Aggregation(
        question=query.name,
        ranges=[ALL_TIME.until(cur.now)],
        zone=query.zone,
        group=Group(),
    )
    plan = source.plan(aggregation)
    plan.check()
    aggregates = source.read(plan)
    assert isinstance(aggregates, Aggregates), "only filters need an evaluation"
    meta = query.meta(ALL_TIME, cur.now, source.kind)
    meta |= {"start": None, "end": None, "counted_at": meta["computed_at"]}
    return Answer(_data(cur, query, watermark, aggregates), Meta(**meta))


def _data(
    cur: Cursor, query: EventNamesQuery, watermark: Watermark | None, aggregates: Aggregates
) -> EventNamesData:
    (groups,) = aggregates.ranges
    named = {name: each for name, each in groups.named.items() if name.startswith(query.prefix)}
    listed = sorted(named, key=lambda name: (-named[name].events, name))[: query.limit]
    counts = aggregates.cardinalities.counts(named[name] for name in listed)
    seen = _seen(cur, watermark, listed)
    rows = [
        EventNameRow(name, *count, *(each.astimezone(query.zone) for each in seen[name]))
        for name, count in zip(listed, counts, strict=True)
    ]
    return EventNamesData(len(named), rows)


def _seen(
    cur: Cursor, watermark: Watermark | None, names: Sequence[str]
) -> dict[str, tuple[datetime, datetime]]:
    """Return when the first and the last event of each name occurred."""
    params = {"names": names, "now": cur.now}
    if watermark:
        cur.execute(SQL["event_names_seen"], {**params, **watermark.tail})
    else:
        cur.execute(SQL["event_names_seen_in_events"], params)
    return {name: (first, last) for name, first, last in cur.fetchall()}
