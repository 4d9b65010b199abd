"""Rollup worker: folds events into the rollups as long as the service runs."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import NoReturn
from zoneinfo import ZoneInfo

from common.metric_values import shared_folder
from common.metrics import (
    ACTIVE_USERS,
    EVENTS,
    FAILED_DAYS,
    FOLD_SECONDS,
    FOLDED_EVENTS,
    HORIZON,
    REFUSED,
    REJECTED_ROWS,
    ROLLUP_LAG_EVENTS,
    ROLLUP_LAG_SECONDS,
    SEALED_SPANS,
)
from config.database import connect
from config.database_errors import DatabaseError, DiskFull
from repo.columns.store import DEFAULT_MAX_PATHS
from repo.lifecycle.retention import RetainRepo
from repo.rollups.metrics_outbox import OTHER, PERIODS
from repo.rollups.rollup_writer import RollupWriter, Step
from services.background.column_metrics import ColumnMetrics

log = logging.getLogger("analytics.rollup")

_POLL_EVERY_S = 0.2
# Events wait this long to be folded together: the more there are, the less each costs.
_FOLD_AFTER_S = 0.5
# This many events are folded at once: every question has to read the tail.
_FOLD_AT_EVENTS = 5_000
_SEAL_EVERY_S = 30.0
_RETRY_EVERY_S = 1.0
# The statistics of today change with each event, so they are not updated after each fold.
_MAINTAIN_EVERY_S = 5.0
# Questions with filters read the events that are not in columns yet.
_WRITE_COLUMNS_EVERY_S = 0.5
_MAINTAIN_BUDGET_S = 0.5
_COUNT_EVERY_S = 5.0
_PUBLISH_EVERY_S = 3.0
# While nothing is written, only the heartbeat shows a replica that it is up to date.
_HEARTBEAT_EVERY_S = 1.0
_MAX_COUNTED = 1_000_000  # events of the tail; counting more would take too long


def fold_forever(
    database_url: str,
    zones: Sequence[ZoneInfo],
    names: Sequence[str] = (),
    check_reserve: Callable[[], None] = lambda: None,
    max_paths: int = DEFAULT_MAX_PATHS,
) -> NoReturn:
    """Fold events until the process ends; after an error, connect again and continue.

    `names` are the event names with metrics of their own, and `max_paths` properties get columns.
    `check_reserve` raises DiskFull to suspend folding, during which questions read the tail from
    the events.
    """
    schedule = _FoldSchedule()
    for name in (*names, OTHER):
        EVENTS.labels(name)  # creates the series at 0, so that the first increase is not lost
    while True:
        try:
            _fold(database_url, zones, names, schedule, check_reserve, max_paths)
        except DatabaseError as exc:
            log.warning("folding waits for PostgreSQL", extra={"failure": str(exc)})
        except Exception:  # retry: without folding answers stay correct, but get slower and slower
            log.exception("a fold failed")
        _publish_active_users({})
        time.sleep(_RETRY_EVERY_S)


def _fold(
    database_url: str,
    zones: Sequence[ZoneInfo],
    names: Sequence[str],
    schedule: "_FoldSchedule",
    check_reserve: Callable[[], None],
    max_paths: int,
) -> NoReturn:
    _wait_for_disk_space(check_reserve)
    with closing(connect(database_url, "analytics-rollup")) as conn:
        conn.autocommit = True
        writer = RollupWriter(conn, zones, max_paths=max_paths)
        writer.delete_undeclared_zones()
        columns = ColumnMetrics(writer, max_paths)
        tasks = _tasks(writer, RetainRepo(conn), names, columns)
        while True:
            _wait_for_disk_space(check_reserve)
            if schedule.is_due(writer.count_pending(_FOLD_AT_EVENTS)):
                schedule.record_step(_step(writer))
            for task in tasks:
                task.run_if_due()
            time.sleep(0 if any(task.has_more for task in tasks) else schedule.pause_s)


def _tasks(
    writer: RollupWriter, retention: RetainRepo, names: Sequence[str], columns: ColumnMetrics
) -> "list[_PeriodicTask]":
    """Return the work of the rollup worker beside folding."""
    works: list[tuple[str, float, Callable[[], object]]] = [
        ("write columns", _WRITE_COLUMNS_EVERY_S, lambda: _repeat(writer.write_columns)),
        ("maintain the stores", _MAINTAIN_EVERY_S, lambda: _maintain_stores(writer)),
        ("write the heartbeat", _HEARTBEAT_EVERY_S, writer.heartbeat),
        ("count the tail", _COUNT_EVERY_S, lambda: _publish_tail(writer)),
        ("publish the metrics of columns", _COUNT_EVERY_S, columns.publish),
        ("count refused events", _PUBLISH_EVERY_S, lambda: _publish_refused_events(retention)),
        ("count rejected rows", _COUNT_EVERY_S, lambda: _publish_rejected_rows(writer)),
    ]
    # Reading the outbox empties it. Leave it to a rollup worker whose metrics are scraped.
    if shared_folder():
        publish = partial(_publish_business_metrics, writer, names)
        works.append(("publish business metrics", _PUBLISH_EVERY_S, publish))
    return [_PeriodicTask(*work) for work in works]


def _wait_for_disk_space(check_reserve: Callable[[], None]) -> None:
    """Wait until `check_reserve` passes."""
    is_logged = False  # log once only: the log may be on the same disk
    while True:
        try:
            return check_reserve()
        except DiskFull as exc:
            if not is_logged:
                log.error("folding waits for free disk space", extra={"failure": str(exc)})
            is_logged = True
        _publish_active_users({})
        time.sleep(_RETRY_EVERY_S)


def _step(writer: RollupWriter) -> Step:
    with FOLD_SECONDS.time():
        step = writer.step()
    FOLDED_EVENTS.inc(step.events)
    SEALED_SPANS.inc(step.sealed["spans"])
    return step


def _maintain_stores(writer: RollupWriter) -> None:
    _repeat(writer.maintain)
    FAILED_DAYS.set(len(writer.failed_days))


def _repeat(step: Callable[[], object]) -> bool:
    """Do steps of work for at most 0.5 s, so that folding is not delayed for long.

    A step returns how much it has done. Returns whether there may be more to do.
    """
    end = time.monotonic() + _MAINTAIN_BUDGET_S
    while step():
        if time.monotonic() >= end:
            return True
    return False


def _publish_tail(writer: RollupWriter) -> None:
    ROLLUP_LAG_EVENTS.set(writer.count_pending(_MAX_COUNTED))


def _publish_business_metrics(writer: RollupWriter, names: Sequence[str]) -> None:
    for name, events in writer.take_outbox(names).items():
        EVENTS.labels(name).inc(events)
    _publish_active_users(writer.active_users())


def _publish_active_users(users: Mapping[str, int]) -> None:
    """Set the gauges of active users; an unknown one is NaN, so that it keeps no old value."""
    for period in PERIODS:
        ACTIVE_USERS.labels(period).set(users.get(period, math.nan))


def _publish_rejected_rows(writer: RollupWriter) -> None:
    REJECTED_ROWS.set(writer.rejected_rows())


def _publish_refused_events(retention: RetainRepo) -> None:
    for reason, events in retention.read_refused_counts().items():
        REFUSED.labels(reason).inc(events)
    horizon = retention.get().horizon
    HORIZON.set(horizon.timestamp() if horizon else 0)


class _PeriodicTask:
    """Work that is repeated at an interval. Errors are logged, except those of the database."""

    def __init__(self, name: str, every_s: float, work: Callable[[], object]) -> None:
        """`work` may return True to be repeated at once."""
        self._name = name
        self._every_s = every_s
        self._work = work
        self._last_run_at = time.monotonic()
        self.has_more = False

    def run_if_due(self) -> None:
        if not self.has_more and time.monotonic() - self._last_run_at < self._every_s:
            return
        self._last_run_at = time.monotonic()
        self.has_more = False
        try:
            self.has_more = self._work() is True
        except DatabaseError:  # handled by `fold_forever`, which connects again
            raise
        except Exception:
            log.exception("the rollup worker could not %s", self._name)


class _FoldSchedule:
    """Decides when to fold: soon after new events, and every 30 s to seal spans that are over."""

    pause_s = 0.0

    def __init__(self) -> None:
        self._last_step_at = -_SEAL_EVERY_S
        self._tail_since: float | None = None
        """The monotonic time since when the tail has not been empty."""

    def is_due(self, pending: int) -> bool:
        """Whether to fold now; `pending` is the number of events in the tail. Updates metrics."""
        now = time.monotonic()
        since = self._tail_since = (self._tail_since or now) if pending else None
        # `pending` is counted up to this limit only; above, `_publish_tail` sets the metric.
        if pending < _FOLD_AT_EVENTS:
            ROLLUP_LAG_EVENTS.set(pending)
        ROLLUP_LAG_SECONDS.set(now - since if since else 0)
        self.pause_s = _POLL_EVERY_S
        has_waited = since is not None and now - since >= _FOLD_AFTER_S
        return pending >= _FOLD_AT_EVENTS or has_waited or now - self._last_step_at >= _SEAL_EVERY_S

    def record_step(self, step: Step) -> None:
        """Record a step; if it has left work, the next one is due at once."""
        if step.has_more:
            self._last_step_at, self.pause_s = -_SEAL_EVERY_S, 0
        else:
            self._last_step_at, self._tail_since = time.monotonic(), None
