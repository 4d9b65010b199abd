"""Compute the answer to `funnel` from the chains of events that match its steps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.cells import Cell
from common.filters import Name, Value
from common.property_values import json_value
from common.questions.answer import Checkpoint
from common.questions.funnel import (
    Conversion,
    FunnelBucket,
    FunnelData,
    FunnelPart,
    FunnelQuery,
    FunnelRow,
    FunnelStep,
    Seconds,
)
from repo.columns.filter_evaluation import Mask
from repo.engine.ordinals import Ordinals
from repo.engine.scan import Scan
from repo.engine.timeline import microseconds
from repo.queries.base import ScanReduction
from repo.queries.cell_users import codes_of_row, number_of
from repo.queries.series import CalendarBucket, begun_buckets, bucket_of
from repo.sequences.chain_search import ChainRules, find_chains
from repo.sequences.first_values import value_order
from repo.sequences.ordered_events import Positions
from repo.sequences.progress import Progress, progress_of, united
from repo.sequences.step_collector import SessionRules, StepCollector
from repo.sequences.step_labels import StepFilters
from utils.time.calendar import Range

_MICROSECOND = timedelta.resolution
_MICROSECONDS = 1_000_000  # of a second


class FunnelReduction(ScanReduction[FunnelQuery, FunnelData], query=FunnelQuery):
    """The furthest step of each user who entered in the range."""

    def scan(self) -> Scan:
        start, end = self.time_range
        names = {**dict.fromkeys(self.query.same, "same"), **dict.fromkeys(self._by, "by")}
        parameters = {name.path: parameter for name, parameter in names.items()}
        return self._scan(
            [Range(start, end), Range(end, end + self.query.within)],
            filters=self._filters.all,
            paths=frozenset(parameters),
            fields=frozenset({"time"}),
            parameter="step",
            parameters=parameters,
        )

    def collector(self) -> StepCollector:
        gap = self.query.gap
        return StepCollector(
            filters=self._filters,
            is_strict=self.query.order == "strict",
            sessions=SessionRules(gap // _MICROSECOND, microseconds(self.now)) if gap else None,
            entry_end=microseconds(self.time_range.end),
            same=[name.path for name in self.query.same],
            by=self.query.by.path if self.query.by else None,
        )

    def data(self, collector: StepCollector, checkpoint: Checkpoint) -> FunnelData:
        rules = self._rules(collector)
        parts = self._progress(collector, rules, checkpoint)
        return self._data(united(parts), collector, rules)

    @property
    def counts_sessions(self) -> bool:
        return self.query.gap is not None

    def cell_users(self, collector: StepCollector, cell: Cell, checkpoint: Checkpoint) -> Ordinals:
        """Return the users that a cell counts; with sessions, the user of each session.

        Raises: InvalidParameter, and what the checkpoint raises.
        """
        rules = self._rules(collector)
        progress = united(self._progress(collector, rules, checkpoint))
        is_in_row = self._in_row(progress, cell, collector)
        is_in_bucket = self._in_bucket(progress, cell)
        return progress.users[_at_step(progress, cell, rules.steps) & is_in_row & is_in_bucket]

    def _rules(self, collector: StepCollector) -> ChainRules:
        return ChainRules(
            bits=collector.filters.bits,
            order=self.query.order,
            within=self.query.within // _MICROSECOND,
            entry_end=collector.entry_end,
            complete_until=microseconds(self.now),
        )

    def _in_row(self, progress: Progress, cell: Cell, collector: StepCollector) -> Mask | bool:
        """Return which users are in the row of a cell; True for all of them."""
        if progress.by is None:
            return True
        values = collector.by_values
        shown = _ranked(progress.by, values)[: self.query.limit]
        codes = codes_of_row(cell, self.query.by, values, shown)
        if codes is None:
            return True
        is_in_row: Mask = np.take(codes, progress.by, mode="wrap")
        return is_in_row

    def _in_bucket(self, progress: Progress, cell: Cell) -> Mask | bool:
        """Return the users of which the reported chain began in the bucket of a cell."""
        if "start" not in cell.fields:
            return True
        buckets = begun_buckets(self.query, self.time_range, self.now)
        number = bucket_of(cell, "start", buckets)
        assert number is not None, "the cell has the field"
        return np.equal(_bucket_numbers(progress, buckets), number)

    def _progress(
        self, collector: StepCollector, rules: ChainRules, checkpoint: Checkpoint
    ) -> Iterator[Progress]:
        """Yield how far the users of each batch came. Raises: what the checkpoint raises."""
        for events in collector.batches():
            checkpoint()
            chains = find_chains(events, rules, checkpoint)
            yield progress_of(events, chains, self.query.by_step - 1)

    def _data(self, progress: Progress, collector: StepCollector, rules: ChainRules) -> FunnelData:
        data = FunnelData(**_numbers(progress, rules))
        if self.query.by:
            data = replace(data, **_by_value(progress, collector, rules, self.query.limit))
        if self.query.interval:
            buckets = begun_buckets(self.query, self.time_range, self.now)
            data = replace(data, series=_series(progress, buckets, rules))
        return data

    @property
    def _by(self) -> list[Name]:
        return [self.query.by] if self.query.by else []

    @property
    def _filters(self) -> StepFilters:
        query = self.query
        parts = (query.steps, query.exclude, query.ignore)
        return StepFilters(*([selection.filter for selection in part] for part in parts))

    def events_without_user(self, collector: StepCollector) -> int:
        return collector.events_without_user

    def extra_meta(self) -> dict[str, Any]:
        return {"complete_until": self.now.astimezone(self.query.zone)}


def _numbers(progress: Progress, rules: ChainRules) -> dict[str, Any]:
    """Return the fields that a funnel and each of its rows have."""
    steps = _steps(progress, rules.steps)
    is_last = progress.furthest == rules.steps
    is_closed = progress.times[0] < rules.open_from
    closed_entries = int(np.count_nonzero(progress.first_entry < rules.open_from))
    total = _conversion(steps[0].users, steps[-1].users)
    return {
        "entered": total.entered,
        "converted": total.converted,
        "rate": total.rate,
        "open": sum(step.open for step in steps),
        "closed": _conversion(closed_entries, int(np.count_nonzero(is_last & is_closed))),
        "seconds": _seconds(progress, is_last, rules.steps - 1, 0),
        "steps": steps,
    }


def _by_value(
    progress: Progress, collector: StepCollector, rules: ChainRules, limit: int
) -> dict[str, Any]:
    """Return the rows of values, and what is left."""
    codes = progress.by
    assert codes is not None, "the values of a property were collected"
    values = collector.by_values
    shown = _ranked(codes, values)[:limit]
    # Each row is a run of users after sorting; then come other values, then missing ones.
    row_of = np.full(len(values) + 1, len(shown))
    row_of[shown] = np.arange(len(shown))
    row_of[-1] = len(shown) + 1
    rows = row_of[codes]
    order = rows.argsort(kind="stable")
    bounds = rows[order].searchsorted(np.arange(len(shown) + 3)).tolist()
    parts = [_numbers(progress.select(order[slice(*each)]), rules) for each in pairwise(bounds)]
    return {
        "rows": [
            FunnelRow(json_value(values[code]), **part)
            for code, part in zip(shown, parts, strict=False)
        ],
        "other": FunnelPart(**parts[-2]),
        "missing": FunnelPart(**parts[-1]),
    }


def _ranked(codes: NDArray[np.int32], values: Sequence[Value]) -> list[int]:
    """Return the codes of values that users have, those of most users first."""
    entered = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
    present = [code for code, count in enumerate(entered) if count]
    return sorted(present, key=lambda code: (-entered[code], value_order(values[code])))


def _at_step(progress: Progress, cell: Cell, steps: int) -> Mask:
    """Return the users of the step of a cell; without one, those of all steps.

    Raises: InvalidParameter.
    """
    step = number_of(cell, "step", 1, steps)
    if cell.count is None:
        return np.greater_equal(progress.furthest, step or 1)
    counted: Mask = progress.is_open if cell.count == "open" else progress.furthest < steps
    return counted if step is None else counted & (progress.furthest == step)


def _bucket_numbers(progress: Progress, buckets: Sequence[CalendarBucket]) -> Positions:
    """Return for each user the number of the bucket in which the reported chain began."""
    starts = [microseconds(bucket.part.start) for bucket in buckets]
    numbers: Positions = np.searchsorted(starts, progress.times[0], side="right") - 1
    return numbers


def _series(
    progress: Progress, buckets: Sequence[CalendarBucket], rules: ChainRules
) -> list[FunnelBucket]:
    """Return the numbers of users by the bucket in which their reported chain began."""
    numbers = _bucket_numbers(progress, buckets)
    size = rules.steps + 1
    cells = np.bincount(numbers * size + progress.furthest, minlength=len(buckets) * size)
    users = cells.reshape(-1, size)[:, ::-1].cumsum(axis=1)[:, -2::-1].tolist()
    is_open = np.bincount(numbers[progress.is_open], minlength=len(buckets)).tolist()
    return [
        FunnelBucket(
            **{
                **bucket.fields,
                "partial": microseconds(bucket.part.end) > rules.open_from,
            },
            **asdict(_conversion(reached[0], reached[-1])),
            open=open_users,
            users=reached,
        )
        for bucket, reached, open_users in zip(buckets, users, is_open, strict=True)
    ]


def _steps(progress: Progress, steps: int) -> list[FunnelStep]:
    furthest = np.bincount(progress.furthest, minlength=steps + 2)[1:]
    users = furthest[::-1].cumsum()[::-1].tolist()
    is_open = np.bincount(progress.furthest[progress.is_open], minlength=steps + 2)[1:].tolist()
    return [
        FunnelStep(
            step=step + 1,
            users=users[step],
            of_first=_ratio(users[step], users[0]),
            of_previous=_ratio(users[step], users[step - 1]) if step else None,
            dropped=users[step] - users[step + 1] if step + 1 < steps else 0,
            open=is_open[step],
            seconds=_seconds(progress, progress.furthest > step, step, step - 1) if step else None,
        )
        for step in range(steps)
    ]


def _conversion(entered: int, converted: int) -> Conversion:
    return Conversion(entered, converted, _ratio(converted, entered))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _seconds(progress: Progress, among: Mask, step: int, since: int) -> Seconds:
    """Return how long some users took to reach a step since another one."""
    times = progress.times
    return _statistics(times[step, among] - times[since, among])


def _statistics(durations: NDArray[np.int64]) -> Seconds:
    """Return statistics of microseconds, in seconds."""
    count = len(durations)
    if not count:
        return Seconds(None, None, None)
    average = int(durations.sum()) / (count * _MICROSECONDS)
    return Seconds(average, _percentile(durations, 0.5), _percentile(durations, 0.9))


def _percentile(durations: NDArray[np.int64], fraction: float) -> float:
    """Return a percentile in seconds as `percentile_cont` of PostgreSQL does."""
    position = (len(durations) - 1) * fraction
    ranks = [math.floor(position), math.ceil(position)]
    low, high = (np.partition(durations, ranks)[ranks] / _MICROSECONDS).tolist()
    return float(low + (high - low) * (position - ranks[0]))
