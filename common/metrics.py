"""What `/metrics` shows. Labels come from bounded sets: never a path, a user or an event name.

In a service with workers all of them count in files of one folder, and any of them shows the sum.
"""

import gc
import threading
from collections.abc import Container, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    values,
)
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from config.database import Database
from config.workers import folder_of_places, take_place, workers

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each of ours

_LIVE_GAUGES = "gauge_live*_{}.db"  # as prometheus_client names its files


def _forget_gauges(folder: Path, place: int) -> None:
    """Those of the worker that had the place before; counters go on."""
    for file in folder.glob(_LIVE_GAUGES.format(place)):
        file.unlink(missing_ok=True)


_FOLDER = folder_of_places()
if _FOLDER:
    _PLACE = take_place(_FOLDER)
    _forget_gauges(_FOLDER, _PLACE)
    values.ValueClass = values.MultiProcessValue(lambda: _PLACE)  # type: ignore[no-untyped-call]

_OURS = CollectorRegistry()

# The bounds that OpenTelemetry advises for HTTP, so that both can be drawn in one picture.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=_OURS)


def _gauge(name: str, text: str, of_all: Literal["livesum", "livemax"] = "livesum") -> Gauge:
    return Gauge(name, text, registry=_OURS, multiprocess_mode=of_all)


def _histogram(name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> Histogram:
    return Histogram(name, text, labels, buckets=bounds, registry=_OURS)


REQUESTS = _counter("http_requests", "Requests that were answered.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    "Seconds from the request's head to the answer's last byte.",
    "method",
    "route",
    bounds=_BOUNDS,
)
IN_FLIGHT = _gauge("http_requests_in_flight", "Requests that are being answered now.")
QUESTION_SECONDS = _histogram(
    "analytics_question_duration_seconds",
    "Seconds a question took that was computed, waiting for a connection included.",
    "question",
    bounds=(0.001, 0.0025, *_BOUNDS),
)
CACHE_REQUESTS = _counter(
    "analytics_cache_requests",
    "Questions by what became of them: hit, miss, joined (computed for another one), stale, "
    "refresh (computed anew before its end), bypass (told not to look), error (no Redis).",
    "result",
)
CACHE_ERRORS = _counter(
    "analytics_cache_errors",
    "Redis commands that failed or took too long; skipped: not tried, since others just failed.",
    "operation",
)
LIMITED = _counter(
    "analytics_limited_requests",
    "Requests over a limit of their key: rate, at_once; unknown: let through, Redis being away.",
    "limit",
)
KEY_CHECKS = _counter(
    "analytics_key_checks",
    "Requests by what their key was: ok, none, unknown, or forbidden without the scope.",
    "result",
)

INGESTED = _counter(
    "analytics_ingested_events",
    "Events that were sent to POST /events: accepted, duplicate (their event_id was there), or "
    "refused, and with them the others of their request.",
    "result",
)
INGEST_SECONDS = _histogram(
    "analytics_ingest_duration_seconds",
    "Seconds from the last byte of a batch to its commit, waiting for a connection included.",
    bounds=(0.001, 0.0025, *_BOUNDS),
)

PLANS = _counter(
    "analytics_plans",
    "Questions that were computed, by what from: rollups, or the events where there are none.",
    "question",
    "source",
)
ROLLUP_ROWS = _counter("analytics_rollup_rows_read", "Rows of rollups that were read.", "question")
ROLLUP_BYTES = _counter(
    "analytics_rollup_bytes_read", "Bytes of rollups that were read.", "question"
)
EVENTS_READ = _counter(
    "analytics_events_read",
    "Events that were read beside rollups: of edges and the tail.",
    "question",
)
TAIL_EVENTS = _gauge("analytics_tail_events", "Events that are not folded, up to a million.")
# The folder tells how long it has had some of them; workers, how long it has not been heard of.
TAIL_SECONDS = _gauge(
    "analytics_tail_seconds", "Seconds that events have waited to be folded, at most.", "livemax"
)
FOLD_SECONDS = _histogram(
    "analytics_fold_duration_seconds",
    "Seconds of one fold, with the sealing of spans that are over.",
    bounds=(*_BOUNDS, 30, 60),
)
FOLDED_EVENTS = _counter("analytics_folded_events", "Events that were folded.")
SEALED_SPANS = _counter("analytics_sealed_spans", "Spans that were sealed.")
REFUSED = _counter(
    "analytics_refused_events",
    "Events that were left out of the table they were put into: expired, being older than what "
    "is kept; suppressed, of a user who was erased.",
    "reason",
)
HORIZON = _gauge(
    "analytics_horizon_timestamp_seconds",
    "The moment before which events are dropped; 0: none is.",
)
VERIFIED_ROWS = _counter(
    "analytics_verified_rows", "Rows of rollups that were compared with the events, in samples."
)
DRIFT = _counter("analytics_drift", "Rows of rollups that were not what the events say.")

# Children are kept: to find one by its labels takes longer than to count.
requests = cache(REQUESTS.labels)
request_seconds = cache(REQUEST_SECONDS.labels)
cache_requests = cache(CACHE_REQUESTS.labels)
key_checks = cache(KEY_CHECKS.labels)

_POOL_COUNTERS = {
    "acquired": "Connections that were lent.",
    "acquire_seconds": "Seconds spent waiting for a connection.",
    "busy": "Requests that no connection became free for in time.",
    "deadlines": "Requests whose deadline passed while PostgreSQL worked.",
    "opened": "Connections that were opened.",
    "discarded": "Connections that were closed since they were dead, broken or old.",
}
_POOL_GAUGES = {
    "size": "Connections that the pools may hold.",
    "in_use": "Connections that are lent now.",
    "waiting": "Requests that wait for a connection now.",
}
_POOL = {name: _counter(f"analytics_pool_{name}", text) for name, text in _POOL_COUNTERS.items()}
_POOL_NOW = {name: _gauge(f"analytics_pool_{name}", text) for name, text in _POOL_GAUGES.items()}
_GC = {
    "collections": _counter(
        "python_gc_collections", "Runs of the garbage collector.", "generation"
    ),
    "collected": _counter(
        "python_gc_objects_collected", "Objects that garbage collection freed.", "generation"
    ),
    "uncollectable": _counter(
        "python_gc_objects_uncollectable",
        "Objects that garbage collection could not free.",
        "generation",
    ),
}


class Publisher:
    """Publishes what a pool and the garbage collector count for themselves."""

    def __init__(self, database: Database) -> None:
        self._stats = database.stats
        self._told: dict[Any, float] = {}
        self._lock = threading.Lock()

    def publish(self) -> None:
        with self._lock:
            for name, gauge in _POOL_NOW.items():
                gauge.set(getattr(self._stats, name))
            for name, counter in _POOL.items():
                self._tell(counter, name, getattr(self._stats, name))
            for generation, stats in enumerate(gc.get_stats()):
                for name, counter in _GC.items():
                    self._tell(counter.labels(generation), (name, generation), stats[name])

    def _tell(self, counter: Any, name: object, total: float) -> None:
        counter.inc(total - self._told.get(name, 0))
        self._told[name] = total


_PUBLISHERS: set[Publisher] = set()


@contextmanager
def published(database: Database) -> Iterator[Publisher]:
    """Show the pool's numbers for as long as it is open; others see them when they are told."""
    publisher = Publisher(database)
    _PUBLISHERS.add(publisher)
    try:
        yield publisher
    finally:
        publisher.publish()
        _PUBLISHERS.remove(publisher)


def collected() -> CollectorRegistry:
    """All metrics of all workers, as they are now."""
    for publisher in list(_PUBLISHERS):
        publisher.publish()
    registry = CollectorRegistry()
    registry.register(_All())
    return registry


class _All(Collector):
    def collect(self) -> Iterator[Metric]:
        if _FOLDER is None:
            yield from _OURS.collect()
            yield from _of_processes({0: "self"})
            return
        alive = workers(_FOLDER)
        told = [str(file) for file in _FOLDER.glob("*.db") if _is_told(file, alive)]
        yield from MultiProcessCollector.merge(told)  # type: ignore[no-untyped-call]
        yield from _of_processes(alive)


def _is_told(file: Path, alive: Container[int]) -> bool:
    """What was so while another worker lived is so no more."""
    place = int(file.stem.rsplit("_", 1)[1])
    return place in alive or not file.match(_LIVE_GAUGES.format(place))


def _of_processes(pids: dict[int, Any]) -> Iterator[Metric]:
    """`process_*` of each worker, which counts from nothing with a new process."""
    found: dict[str, Metric] = {}
    for place, pid in sorted(pids.items()):
        for metric in ProcessCollector(pid=partial(str, pid), registry=None).collect():
            kept = found.setdefault(
                metric.name, Metric(metric.name, metric.documentation, metric.type)
            )
            for sample in metric.samples:
                kept.add_sample(sample.name, {"worker": str(place)}, sample.value)
    yield from found.values()
