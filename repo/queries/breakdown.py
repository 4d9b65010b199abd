"""Compute the answer to `breakdown` from events of columns."""

from datetime import datetime

from common.cells import Cell
from common.filters import Filter, lacking
from common.property_values import json_value
from common.questions.answer import Bucket, Checkpoint, absent_field
from common.questions.breakdown import (
    BreakdownData,
    BreakdownQuery,
    BreakdownRow,
    MissingRows,
    OtherRows,
)
from common.remarks import ListNote
from repo.engine.cardinality import Count
from repo.engine.count_collectors import UserCollector
from repo.engine.grouping.collector import GroupCollector, GroupCount
from repo.engine.ordinals import Ordinals
from repo.engine.scan import Scan
from repo.queries.base import ScanReduction
from repo.queries.series import begun_buckets, bucket_of, check_cells
from utils.time.calendar import Range


class BreakdownReduction(ScanReduction[BreakdownQuery, BreakdownData], query=BreakdownQuery):
    """The most frequent values of the range up to now, and the totals of the others."""

    def __init__(self, query: BreakdownQuery, time_range: Range, now: datetime) -> None:
        super().__init__(query, time_range, now)
        self._buckets = begun_buckets(query, time_range, now) if query.interval else []
        check_cells(self._buckets, query.limit)

    @property
    def needs_names(self) -> bool:
        return any(each.field for each in self.query.by)

    def scan(self) -> Scan:
        by = self.query.by
        return self._scan(
            [bucket.part for bucket in self._buckets] if self.query.interval else [self.time_range],
            paths=frozenset(each.path for each in by if not each.field),
            fields=frozenset({"name"}) if self.needs_names else frozenset(),
            parameter="by",
        )

    def collector(self) -> GroupCollector:
        return GroupCollector([None if each.field else each.path for each in self.query.by])

    def cell_users(
        self, collector: GroupCollector | UserCollector, cell: Cell, checkpoint: Checkpoint
    ) -> Ordinals:
        if isinstance(collector, UserCollector):
            return collector.users()
        index = bucket_of(cell, "start", self._buckets)
        return collector.other_users(self.query.limit, index, checkpoint)

    def _reads_all(self, cell: Cell) -> bool:
        # Only the counts of all values tell which are in this row.
        return cell.row == "other"

    def _cell_ranges(self, cell: Cell) -> list[Range]:
        index = bucket_of(cell, "start", self._buckets)
        return [self.time_range if index is None else self._buckets[index].part]

    def _cell_condition(self, cell: Cell) -> Filter | None:
        return lacking(self.query.by) if cell.row == "missing" else cell.where

    def data(self, collector: GroupCollector, checkpoint: Checkpoint) -> BreakdownData:
        groups = collector.groups(self.query.limit, len(self._buckets), checkpoint)
        return BreakdownData(
            by=list(map(str, self.query.by)),
            events=groups.total.events,
            users=groups.total.users,
            rows=[
                BreakdownRow(list(map(json_value, row.values)), *self._counts(row, groups.total))
                for row in groups.rows
            ],
            other=OtherRows(groups.other_groups, *self._counts(groups.other, groups.total)),
            missing=MissingRows(*groups.missing, _share(groups.missing, groups.total)),
        )

    def remarks(self, collector: GroupCollector) -> tuple[ListNote, ...]:
        return tuple(
            ListNote(str(name), repeated)
            for name, repeated in zip(self.query.by, collector.repeated, strict=True)
            if repeated
        )

    def _counts(self, group: GroupCount, total: Count) -> tuple[int, int, float, list[Bucket]]:
        """Return the fields that all rows have."""
        series = [
            Bucket(**bucket.fields, events=count.events, users=count.users)
            for bucket, count in zip(self._buckets, group.series, strict=True)
        ]
        events, users = group.total
        share = _share(group.total, total)
        return events, users, share, series if self.query.interval else absent_field()


def _share(part: Count, total: Count) -> float:
    return part.events / total.events if total.events else 0.0
