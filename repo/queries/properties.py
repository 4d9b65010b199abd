"""Compute the answer to `properties` from stored statistics, or from all columns."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from zoneinfo import ZoneInfo

from common.errors import CatalogueCounting, TooExpensive
from common.filters import Name
from common.questions.answer import Answer, Checkpoint, Meta, Reading, Result
from common.questions.properties import PropertiesData, PropertiesQuery, PropertyRow
from config.database import Cursor
from repo.catalogue.property_counter import PropertyCounter
from repo.catalogue.statistics import KINDS, PropertyStatistics
from repo.catalogue.statistics_table import read_properties
from repo.columns.chunk_table import Path
from repo.engine.scan import MatchingEvents
from repo.engine.timeline import instant
from repo.queries.catalogue import CatalogueReader

MAX_VALUES = 100_000_000
"""Rows of columns of all properties together: some seconds of processor time."""

_MAX_DISTINCT = 2**20
"""Distinct values of all properties together, which take 250 MB."""


def properties(cur: Cursor, query: PropertiesQuery) -> Result[PropertiesData]:
    """Return the properties with this prefix, and their counts.

    Raises: CatalogueCounting, TooExpensive.
    """
    reader = CatalogueReader(cur, query)
    if reader.counted_at:
        rows = _with_new(cur, query.zone, reader)
        return Answer(_data(query, rows), Meta(**reader.meta(reader.counted_at)))
    return _counted_now(query, reader)


def _with_new(cur: Cursor, zone: ZoneInfo, reader: CatalogueReader) -> Iterator[PropertyRow]:
    """Yield the properties that were counted, and those that are new since then."""
    types = reader.new_types()
    for each in read_properties(cur):
        row = _row(each, zone)
        others = types.pop(each.path, set()).difference(row.types)
        yield replace(row, types={**row.types, **dict.fromkeys(sorted(others), 0)})
    for path, kinds in types.items():
        yield PropertyRow(
            str(Name(path)), 0, 0, None, None, dict.fromkeys(sorted(kinds), 0), distinct=0
        )


def _counted_now(query: PropertiesQuery, reader: CatalogueReader) -> Reading[PropertiesData]:
    paths = reader.scans.paths()
    plan = reader.scans.plan_of(paths)
    if plan.row_count * len(paths) > MAX_VALUES:
        raise CatalogueCounting
    counters = _Counters(paths)
    evaluation = reader.scans.read(plan, counters)
    meta = reader.meta()

    def evaluate(checkpoint: Checkpoint) -> Answer[PropertiesData]:
        evaluation(checkpoint)
        rows = [_row(each, query.zone) for each in counters.statistics()]
        return Answer(_data(query, rows), Meta(**meta))

    return Reading(evaluate, evaluation.size)


class _Counters:
    """Counts the events of several properties: a `Collector`."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._counters = {path: PropertyCounter(path) for path in paths}

    def add(self, events: MatchingEvents) -> None:
        """Raises: TooExpensive."""
        for path in {key.path for key in events.chunk.properties}:
            self._counters[path].add(events)
        values = sum(each.distinct for each in self._counters.values())
        if values > _MAX_DISTINCT:
            raise TooExpensive(
                "values of all properties", values, _MAX_DISTINCT, "the values of one property"
            )

    def statistics(self) -> Iterator[PropertyStatistics]:
        """Yield the statistics of those properties that some event has."""
        for counter in self._counters.values():
            if counter.events:
                yield counter.statistics(None)


def _row(statistics: PropertyStatistics, zone: ZoneInfo) -> PropertyRow:
    return PropertyRow(
        str(Name(statistics.path)),
        statistics.events,
        statistics.users,
        instant(statistics.first).astimezone(zone),
        instant(statistics.last).astimezone(zone),
        {kind: statistics.types[kind] for kind in sorted(KINDS) if kind in statistics.types},
        statistics.distinct,
    )


def _data(query: PropertiesQuery, rows: Iterable[PropertyRow]) -> PropertiesData:
    named = [row for row in rows if _begins(row.property, query.prefix)]
    named.sort(key=lambda row: (-row.events, row.property))
    return PropertiesData(len(named), named[: query.limit])


def _begins(name: str, prefix: str) -> bool:
    """Return whether a name begins with a text, which may lack the quote before the first key."""
    return name.startswith((prefix, f'"{prefix}'))
