"""Scans of the events of all time, by property, in one snapshot."""

from collections.abc import Collection
from datetime import datetime
from functools import cached_property

from common.dates import ALL_TIME
from config.database import Cursor
from repo.columns.cache import ColumnCache
from repo.columns.chunk import ColumnKey
from repo.columns.chunk_table import Path, all_paths
from repo.columns.column_tail import TailEvents
from repo.engine.column_plan import ColumnPlan
from repo.engine.column_reader import ColumnReader
from repo.engine.count_collectors import TotalCollector
from repo.engine.scan import Collector, Scan
from repo.engine.scan_evaluation import ScanEvaluation
from repo.engine.watermark import Watermark, read_horizon
from utils.time.calendar import Range


class PropertyScans:
    """Reads the properties of all events up to the clock of the snapshot.

    All methods raise ColumnsBuilding.
    """

    def __init__(
        self, cur: Cursor, watermark: Watermark | None, question: str, cache: ColumnCache
    ) -> None:
        """`question` is a label in metrics."""
        self._cur = cur
        self._question = question
        horizon = watermark.horizon if watermark else read_horizon(cur)
        self._reader = ColumnReader(cur, watermark, horizon, cache)
        self._range = ALL_TIME.until(cur.now)
        self.since = self.plan_of([("",)]).horizon
        """The time before which events or their properties were dropped; None if none were."""
        self._range = Range(self.since or ALL_TIME.start, self._range.end)
        self.plan = self.plan_of(())
        """The plan without any property: it has the state of columns, and all chunks."""

    def plan_of(self, paths: Collection[Path], *, may_lack_values: bool = True) -> ColumnPlan:
        """Return the plan to read some properties. Raises: InvalidParameter."""
        scan = Scan(
            question=self._question,
            ranges=[self._range],
            paths=frozenset(paths),
            fields=frozenset({"time"}),
            parameter="property",
            may_lack_values=may_lack_values,
        )
        return self._reader.plan(scan)

    def has_events(self, since: datetime) -> bool:
        """Return whether an event occurred since a time."""
        scan = Scan(
            question=self._question,
            ranges=[Range(since, self._range.end)],
            fields=frozenset({"time"}),
        )
        counter = TotalCollector()
        self.read(self._reader.plan(scan), counter)(lambda: None)
        return counter.events > 0

    def plan_of_names(self) -> ColumnPlan:
        """Return the plan to read the names of all events, also before properties were dropped."""
        return self._reader.plan(
            Scan(
                question=self._question,
                ranges=[ALL_TIME.until(self._cur.now)],
                fields=frozenset({"time", "name"}),
            )
        )

    def names(self, evaluation: ScanEvaluation) -> dict[int, str]:
        """Return all event names by their ids, with the temporary ids of the tail."""
        return self._reader.names(evaluation.tail)

    def paths(self) -> list[Path]:
        """Return all properties that columns or the events in no chunk have."""
        registered = all_paths(self._cur, self.plan.generation) if self.plan.state else {}
        return sorted({*registered, *(key.path for key in self.tail_columns())})

    def tail_columns(self) -> Collection[ColumnKey]:
        """Return the properties of the events that are in no chunk, by type."""
        return self._tail.chunk.properties.keys()

    def read(self, plan: ColumnPlan, collector: Collector) -> ScanEvaluation:
        """Return the evaluation of a plan, which gives the events to the collector."""
        tail = self._tail if plan.ranges == self.plan.ranges else None
        return self._reader.read(plan, collector, tail)

    @cached_property
    def _tail(self) -> TailEvents:
        """The events that are in no chunk, which are parsed once for all properties."""
        return self._reader.read_tail(self.plan)
