"""Compute the answer to `property_values` from stored statistics, or from columns."""

from typing import NamedTuple

from common.errors import Fault, InvalidParameter
from common.property_values import json_value
from common.questions.answer import Answer, Checkpoint, Meta, Reading, Result
from common.questions.property_values import (
    PropertyValuesData,
    PropertyValuesQuery,
    ValueRow,
)
from common.remarks import Remarks, Unknown
from config.database import Cursor
from repo.catalogue.property_counter import MAX_DISTINCT, PropertyCounter
from repo.catalogue.statistics import PropertyStatistics, ValueCount, text_of
from repo.catalogue.statistics_table import read_property
from repo.catalogue.user_pairs import MAX_PAIRS, UserPairs
from repo.engine.grouping.collector import GroupCollector
from repo.queries.answers import remark_fields
from repo.queries.catalogue import CatalogueReader


class _Values(NamedTuple):
    """The values of a property with the most events."""

    events: int
    """The events that have any value."""
    distinct: int | None
    rows: list[ValueCount]


def property_values(cur: Cursor, query: PropertyValuesQuery) -> Result[PropertyValuesData]:
    """Return the values with this prefix, and their counts.

    Raises: InvalidParameter, TooExpensive.
    """
    reader = CatalogueReader(cur, query)
    if reader.counted_at is None:
        return _counted_now(query, reader)
    statistics = read_property(cur, query.property.path)
    if statistics is None:
        is_new = query.property.path in reader.new_types()
        unknown = None if is_new else Unknown([], [str(query.property)])
        meta = reader.meta(reader.counted_at) | remark_fields(Remarks(unknown=unknown))
        return Answer(_data(query, _Values(0, 0, [])), Meta(**meta))
    if (values := _stored(statistics, query)) is None:
        return _counted_now(query, reader)
    return Answer(_data(query, values), Meta(**reader.meta(reader.counted_at)))


def _stored(statistics: PropertyStatistics, query: PropertyValuesQuery) -> _Values | None:
    """Return the values that are stored; None if others may be among the most frequent ones."""
    if statistics.values is None:
        return None
    rows = [each for each in statistics.values if text_of(each.value).startswith(query.prefix)]
    is_complete = len(statistics.values) == statistics.distinct
    if not is_complete and len(rows) < query.limit:
        return None
    distinct = len(rows) if is_complete else None if query.prefix else statistics.distinct
    return _Values(statistics.events, distinct, rows[: query.limit])


def _counted_now(
    query: PropertyValuesQuery, reader: CatalogueReader
) -> Reading[PropertyValuesData]:
    plan = reader.scans.plan_of([query.property.path], may_lack_values=False)
    plan.check()
    counter = _PrefixCounter(query) if query.prefix else _Counter(query)
    evaluation = reader.scans.read(plan, counter.collector)
    meta = reader.meta()

    def evaluate(checkpoint: Checkpoint) -> Answer[PropertyValuesData]:
        remarks = evaluation(checkpoint)
        values = counter.values(checkpoint)
        return Answer(_data(query, values), Meta(**meta, **remark_fields(remarks)))

    return Reading(evaluate, evaluation.size)


class _Counter:
    """Counts all values, however many there are."""

    def __init__(self, query: PropertyValuesQuery) -> None:
        self._limit = query.limit
        self.collector = GroupCollector([query.property.path])

    def values(self, checkpoint: Checkpoint) -> _Values:
        # One more group, since events without a value are one.
        groups = self.collector.groups(self._limit + 1, 0, checkpoint)
        rows = [(row.values[0], row.total) for row in groups.rows]
        distinct = len(rows) + groups.other_groups - (groups.missing.events > 0)
        return _Values(
            groups.total.events - groups.missing.events,
            distinct if distinct <= MAX_DISTINCT else None,
            [ValueCount(value, *count) for value, count in rows if value is not None][
                : self._limit
            ],
        )


class _PrefixCounter:
    """Counts the values that begin with a text."""

    def __init__(self, query: PropertyValuesQuery) -> None:
        self._limit = query.limit
        self._pairs = UserPairs(MAX_PAIRS)
        self.collector = PropertyCounter(query.property.path, self._pairs, prefix=query.prefix)

    def values(self, checkpoint: Checkpoint) -> _Values:
        """Raises: InvalidParameter."""
        checkpoint()
        if not self._pairs.is_complete or self.collector.has_too_many:
            message = f"more than {MAX_DISTINCT:,} values begin with it, or have too many users"
            raise InvalidParameter(faults=[Fault("starts", message)])
        statistics = self.collector.statistics(self._pairs.counts())
        rows = list(statistics.values or ())
        return _Values(statistics.events, statistics.distinct, rows[: self._limit])


def _data(query: PropertyValuesQuery, values: _Values) -> PropertyValuesData:
    rows = [
        ValueRow(json_value(each.value), each.kind, each.events, each.users) for each in values.rows
    ]
    return PropertyValuesData(str(query.property), values.events, values.distinct, rows)
