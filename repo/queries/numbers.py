"""Compute the answer to `numbers` from the numbers of events."""

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from common.cells import Cell
from common.filters import Compare, Condition, Filter, Operator, conjunction, disjunction, lacking
from common.property_values import json_value
from common.questions.answer import Checkpoint, is_absent
from common.questions.numbers import NumbersData, NumbersQuery, fraction_of
from common.remarks import Note
from repo.columns.statistics import percentiles
from repo.engine.count_collectors import UserCollector
from repo.engine.grouped_numbers import GroupedNumberCollector
from repo.engine.number_collector import (
    NumberAggregate,
    NumberBudget,
    NumberCollector,
    SkippedEvents,
)
from repo.engine.ordinals import Ordinals
from repo.engine.scan import Scan
from repo.queries.base import ScanReduction
from repo.queries.series import CalendarBucket, begun_buckets, bucket_of, check_cells
from utils.decimals import decimal_text
from utils.time.calendar import Range

_MAX_PLAIN_DIGITS = 60
_ANY_NUMBER: tuple[Operator, Operator] = (">=", "<")


class NumbersReduction(ScanReduction[NumbersQuery, NumbersData], query=NumbersQuery):
    """The statistics up to now, and those of each bucket of a series if requested."""

    def __init__(self, query: NumbersQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        self._buckets = begun_buckets(query, time_range, now) if query.interval else []
        check_cells(self._buckets, query.limit if query.by else 1)
        self._ranges = [bucket.part for bucket in self._buckets]
        if not query.interval:
            self._ranges = [time_range]
        fractions = {name: fraction_of(name) for name in query.statistics}
        self._fractions = {name: each for name, each in fractions.items() if each is not None}

    def scan(self) -> Scan:
        by = {self.query.by.path: "by"} if self.query.by else {}
        parameters = {**by, self.query.of.path: "of"}
        return self._scan(self._ranges, paths=frozenset(parameters), parameters=parameters)

    def collector(self) -> NumberCollector | GroupedNumberCollector:
        if self.query.by:
            new_collector = partial(self._collector, NumberBudget())
            return GroupedNumberCollector(self.query.by.path, new_collector)
        return self._collector(NumberBudget())

    def _collector(self, budget: NumberBudget) -> NumberCollector:
        return NumberCollector(
            self.query.of.path,
            len(self._ranges),
            is_per_user=self.query.is_per_user,
            has_percentiles=bool(self._fractions),
            budget=budget,
        )

    def cell_users(
        self, collector: GroupedNumberCollector | UserCollector, cell: Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        if isinstance(collector, UserCollector):
            return collector.users()
        others = collector.groups(self.query.limit, checkpoint).other
        return others.users(bucket_of(cell, "start", self._buckets))

    def _reads_all(self, cell: Cell) -> bool:
        # Only the counts of all values tell which are in this row.
        return cell.row == "other"

    def _cell_ranges(self, cell: Cell) -> list[Range]:
        index = bucket_of(cell, "start", self._buckets)
        return [self.time_range if index is None else self._buckets[index].part]

    def _cell_condition(self, cell: Cell) -> Filter:
        row = cell.where
        if cell.row == "missing" and self.query.by:
            row = lacking([self.query.by])
        has_number = disjunction(
            [Condition(self.query.of, Compare(each, Decimal(0))) for each in _ANY_NUMBER]
        )
        return conjunction([has_number, row]) if row else has_number

    def data(
        self, collector: NumberCollector | GroupedNumberCollector, checkpoint: Checkpoint
    ) -> NumbersData:
        if isinstance(collector, NumberCollector):
            return NumbersData(self._fields(collector, checkpoint))
        total = self._fields(collector.total, checkpoint)
        groups = collector.groups(self.query.limit, checkpoint)
        rows = [
            {"value": json_value(value), **self._fields(numbers, checkpoint)}
            for value, numbers in groups.rows
        ]
        other = {"values": groups.other_values, **self._fields(groups.other, checkpoint)}
        missing = self._fields(groups.missing, checkpoint)
        return NumbersData(total, rows=rows, other=other, missing=missing)

    def events_without_user(
        self, collector: NumberCollector | GroupedNumberCollector
    ) -> int | None:
        return collector.total.events_without_user if self.query.is_per_user else None

    def remarks(self, collector: NumberCollector | GroupedNumberCollector) -> tuple[Note, ...]:
        skipped = collector.total.skipped[0]._asdict()
        others = {kind: skipped[kind] for kind in ("text", "boolean") if skipped[kind]}
        return (Note(str(self.query.of), "number", others),) if others else ()

    def _fields(self, collector: NumberCollector, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the statistics of all ranges, and the series if requested."""
        total, parts = collector.aggregates(checkpoint)
        total_skipped, skipped = collector.skipped
        fields = self._statistics(total, total_skipped)
        if self.query.interval:
            fields["series"] = [
                _row(bucket, self._statistics(part, missed))
                for bucket, part, missed in zip(self._buckets, parts, skipped, strict=True)
            ]
        return fields

    def _statistics(self, numbers: NumberAggregate, skipped: SkippedEvents) -> dict[str, Any]:
        values = percentiles(numbers.samples, list(self._fractions.values()))
        computed: dict[str, Any] = dict(zip(self._fractions, map(_finite, values), strict=True))
        for name in set(self.query.statistics) - computed.keys():
            computed[name] = _SIMPLE[name](numbers)
        ordered = {name: computed[name] for name in self.query.statistics}
        counts = {"count": numbers.count, "users": numbers.users}
        return {**counts, **ordered, "skipped": skipped._asdict()}


def _row(bucket: CalendarBucket, statistics: dict[str, Any]) -> dict[str, Any]:
    """Return a bucket with its statistics."""
    fields = {name: value for name, value in bucket.fields.items() if not is_absent(value)}
    flags = {name: fields.pop(name) for name in ("partial", "cut")}
    return {**fields, **statistics, **flags}


def _average(numbers: NumberAggregate) -> float | None:
    return _finite(numbers.sum.divided_by(numbers.count)) if numbers.count else None


def _finite(number: float | None) -> float | None:
    """Return a number as in JSON, which has none beyond doubles."""
    return number if number is not None and math.isfinite(number) else None


def _exact(number: Decimal | None) -> msgspec.Raw | None:
    """Return a number as exact JSON, with an exponent only if it is very large or small."""
    if number is None:
        return None
    text = decimal_text(number)
    if "e" in text and abs(number.adjusted()) <= _MAX_PLAIN_DIGITS:
        text = f"{Decimal(text):f}"
    return msgspec.Raw(text.encode())


_SIMPLE: dict[str, Callable[[NumberAggregate], Any]] = {
    "sum": lambda numbers: _exact(numbers.sum.number),
    "avg": _average,
    "min": lambda numbers: _exact(numbers.least),
    "max": lambda numbers: _exact(numbers.greatest),
}
