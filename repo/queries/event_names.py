"""Compute the answer to `event_names` from rollups and from the first and last events."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from common.dates import ALL_TIME
from common.errors import TooExpensive
from common.questions.answer import Answer, Checkpoint, Meta, Reading, Result
from common.questions.event_names import EventNameRow, EventNamesData, EventNamesQuery
from config.database import Cursor
from repo.catalogue.name_counter import NameCount, NameCounter
from repo.catalogue.statistics_table import has_names, read_names
from repo.catalogue.user_pairs import MAX_PAIRS, UserPairs
from repo.engine.cardinality import Aggregates
from repo.engine.plan import Aggregation, Group
from repo.engine.timeline import instant
from repo.engine.watermark import Watermark
from repo.queries.answers import open_sources, open_watermark
from repo.queries.catalogue import CatalogueReader
from repo.statements import statements

SQL = statements("event_names")


def event_names(cur: Cursor, query: EventNamesQuery) -> Result[EventNamesData]:
    """Return the names that begin with the prefix, and their counts up to now.

    Raises: TooExpensive.
    """
    watermark = open_watermark(cur, query)
    (source,) = open_sources(cur, watermark)
    aggregation = Aggregation(
        question=query.name,
        ranges=[ALL_TIME.until(cur.now)],
        zone=query.zone,
        group=Group(),
    )
    plan = source.plan(aggregation)
    try:
        plan.check()
    except TooExpensive as error:
        return _of_very_many(cur, query, error)
    aggregates = source.read(plan)
    assert isinstance(aggregates, Aggregates), "only filters need an evaluation"
    meta = query.meta(ALL_TIME, cur.now, source.kind)
    meta |= {"start": None, "end": None, "counted_at": meta["computed_at"]}
    return Answer(_data(cur, query, watermark, aggregates), Meta(**meta))


def _of_very_many(
    cur: Cursor, query: EventNamesQuery, error: TooExpensive
) -> Result[EventNamesData]:
    """Return the counts that are stored, or count the names in columns. Raises: TooExpensive."""
    reader = CatalogueReader(cur, query)
    if reader.counted_at and has_names(cur):
        count, rows = read_names(cur, query.prefix, query.limit)
        meta = reader.meta(reader.counted_at) | {"start": None}
        return Answer(_listed(query, count, rows), Meta(**meta))
    plan, pairs = reader.scans.plan_of_names(), UserPairs(MAX_PAIRS)
    plan.check()
    counter = NameCounter(pairs)
    evaluation = reader.scans.read(plan, counter)
    names, meta = reader.scans.names(evaluation), reader.meta() | {"start": None}

    def evaluate(checkpoint: Checkpoint) -> Answer[EventNamesData]:
        evaluation(checkpoint)
        if counter.counter.has_too_many or not pairs.is_complete:
            raise error
        every = counter.rows(pairs.counts(), names)
        rows = [each for each in every if each.name.startswith(query.prefix)]
        return Answer(_listed(query, len(rows), rows[: query.limit]), Meta(**meta))

    return Reading(evaluate, evaluation.size)


def _listed(query: EventNamesQuery, count: int, rows: Iterable[NameCount]) -> EventNamesData:
    zone = query.zone
    return EventNamesData(
        count,
        [
            EventNameRow(
                each.name,
                each.events,
                each.users,
                instant(each.first).astimezone(zone),
                instant(each.last).astimezone(zone),
            )
            for each in rows
        ],
    )


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
