"""The Prometheus metrics of `/metrics`.

Label values come from bounded sets, so they never contain a path or a user id. Worker processes
count in files of a shared directory, named by `share_metrics`, and each of them can show the sum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    values,
)

from common.metric_values import Value

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each child

# Before the first metric is created: prometheus_client chooses the class when it creates values.
values.ValueClass = Value

REGISTRY = CollectorRegistry()

# The buckets that OpenTelemetry's HTTP conventions advise, so that both can share a graph.
_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


def _counter(name: str, text: str, *labels: str) -> Counter:
    return Counter(name, text, labels, registry=REGISTRY)


def _gauge(
    name: str,
    text: str,
    *labels: str,
    aggregation: Literal["livesum", "livemax", "livemin"] = "livesum",
) -> Gauge:
    return Gauge(name, text, labels, registry=REGISTRY, multiprocess_mode=aggregation)


def _histogram(name: str, text: str, *labels: str, bounds: tuple[float, ...]) -> Histogram:
    return Histogram(name, text, labels, buckets=bounds, registry=REGISTRY)


REQUESTS = _counter("http_requests", "Answered requests.", "method", "route", "status")
REQUEST_SECONDS = _histogram(
    "http_request_duration_seconds",
    "Seconds from the headers of the request to the last byte of the response.",
    "method",
    "route",
    bounds=_BOUNDS,
)
IN_FLIGHT = _gauge("http_requests_in_flight", "Requests in progress.")
CONNECTIONS = _gauge("http_connections", "Open client connections.")
QUESTION_SECONDS = _histogram(
    "analytics_question_duration_seconds",
    "Seconds to compute a question, with the wait for a connection, by source of the answer: "
    "rollups, columns, events, or none if it failed.",
    "question",
    "source",
    bounds=(0.001, 0.0025, *_BOUNDS),
)
EVALUATIONS = _gauge(
    "analytics_evaluations",
    "Answers that are being computed from columns, or wait for one of the threads for that; there "
    "are as many threads per worker process as processors.",
)
EVALUATION_WAIT_SECONDS = _histogram(
    "analytics_evaluation_wait_seconds",
    "Seconds that the computation of an answer from columns has waited for a thread.",
    bounds=(0.001, 0.0025, *_BOUNDS),
)
EVALUATION_SECONDS = _histogram(
    "analytics_evaluation_duration_seconds",
    "Seconds to compute an answer from columns, after they were read.",
    "question",
    bounds=(0.001, 0.0025, *_BOUNDS),
)
CACHE_REQUESTS = _counter(
    "analytics_cache_requests",
    "Questions by cache result: hit, miss, joined (computed for another request), stale, refresh "
    "(recomputed before expiry), bypass (Cache-Control: no-cache), error (Redis failed).",
    "result",
)
CACHE_ERRORS = _counter(
    "analytics_cache_errors",
    "Redis commands that failed or timed out; skipped: not sent while the circuit breaker is open.",
    "operation",
)
CACHE_CLEARING_PENDING = _gauge(
    "analytics_cache_clearing_pending",
    "1 while Redis may still hold cached responses about erased users, else 0.",
    aggregation="livemax",
)
LIMITED = _counter(
    "analytics_limited_requests",
    "Requests over a limit of their key: rate, at_once; unknown: admitted without Redis.",
    "limit",
)
KEY_CHECKS = _counter(
    "analytics_key_checks",
    "Requests by result of the API key check: ok, none, unknown, or forbidden (lacks the scope).",
    "result",
)

INGESTED = _counter(
    "analytics_ingested_events",
    "Events sent over HTTP: accepted, duplicate (event_id is stored already), or refused "
    "(invalid, or of a suppressed user).",
    "result",
)
INGEST_SECONDS = _histogram(
    "analytics_ingest_duration_seconds",
    "Seconds from the last byte of a batch to its commit, with the wait for a connection.",
    bounds=(0.001, 0.0025, *_BOUNDS),
)

PLANS = _counter(
    "analytics_plans",
    "Computed questions by source: rollups, columns with a filter, or events where there are no "
    "rollups.",
    "question",
    "source",
)
ROLLUP_ROWS = _counter("analytics_rollup_rows_read", "Rows read from rollups.", "question")
ROLLUP_BYTES = _counter("analytics_rollup_bytes_read", "Bytes read from rollups.", "question")
EVENTS_READ = _counter(
    "analytics_events_read",
    "Events read in addition to rollups: at edges finer than a slot, and in the tail.",
    "question",
)
ROLLUP_LAG_EVENTS = _gauge(
    "analytics_rollup_lag_events", "Events in the tail: not folded yet, counted up to a million."
)
# The rollup worker sets how long it has had a tail; workers set how long there was no fold although
# there is one, so that the metric also rises when no rollup worker runs.
ROLLUP_LAG_SECONDS = _gauge(
    "analytics_rollup_lag_seconds",
    "Age of the tail: seconds that events have waited to be folded, at most.",
    aggregation="livemax",
)
FOLD_SECONDS = _histogram(
    "analytics_fold_duration_seconds",
    "Seconds of one fold, including the sealing of spans.",
    bounds=(*_BOUNDS, 30, 60),
)
FOLDED_EVENTS = _counter("analytics_folded_events", "Folded events.")
SEALED_SPANS = _counter("analytics_sealed_spans", "Sealed spans (hours, days and months).")
REFUSED = _counter(
    "analytics_refused_events",
    "Inserted events that a trigger rejected: expired (older than what is kept), suppressed (of a "
    "suppressed user).",
    "reason",
)
HORIZON = _gauge(
    "analytics_horizon_timestamp_seconds",
    "Unix time of the horizon, before which events were dropped; 0 if none were.",
)
REJECTED_ROWS = _gauge(
    "analytics_rejected_rows",
    "Rows of adopted tables that could not become events, as stored in rejected_rows.",
    aggregation="livemax",
)
FAILED_DAYS = _gauge(
    "analytics_daily_statistics_failing",
    "Days whose daily statistics could not be counted and will be retried.",
)
VERIFIED_ROWS = _counter(
    "analytics_verified_rows",
    "Rows of rollups and chunks of columns that were compared with the events, by sampling.",
)
VERIFY_DIFFERENCES = _counter(
    "analytics_verify_differences",
    "Verified rows of rollups, and events in columns, that differed from the events.",
)

COLUMN_LAG_EVENTS = _gauge(
    "analytics_column_lag_events",
    "Folded events that are not written to columns yet, counted up to a million, without those of "
    "a backfill.",
    aggregation="livemax",
)
COLUMN_LAG_SECONDS = _gauge(
    "analytics_column_lag_seconds",
    "Seconds that events have waited to be written to columns, at most.",
    aggregation="livemax",
)
COLUMN_BACKFILL_EVENTS = _gauge(
    "analytics_column_backfill_events",
    "About the number of existing events that are still to be written to columns; 0 without a "
    "backfill.",
    aggregation="livemax",
)
COLUMN_CHUNKS = _gauge("analytics_column_chunks", "Chunks of columns.", aggregation="livemax")
COLUMN_BYTES = _gauge(
    "analytics_column_bytes",
    "Bytes of the tables of columns and their indexes on disk.",
    aggregation="livemax",
)
COLUMN_PATHS = _gauge(
    "analytics_column_paths", "Properties that have columns.", aggregation="livemax"
)
COLUMN_PATH_LIMIT = _gauge(
    "analytics_column_path_limit",
    "Properties that may have columns: ANALYTICS_COLUMN_PATHS.",
    aggregation="livemax",
)
COLUMN_ERASURES = _gauge(
    "analytics_column_pending_erasures",
    "Erased users whose events are still to be removed from columns; no answer contains them.",
    aggregation="livemax",
)
COLUMN_ERASURE_SECONDS = _gauge(
    "analytics_column_pending_erasure_seconds",
    "Seconds since the first of these users was erased; 0 without any.",
    aggregation="livemax",
)
COLUMN_CACHE_COLUMNS = _counter(
    "analytics_column_cache_columns",
    "Columns of chunks that filters needed: hit (cached) or miss (read from PostgreSQL).",
    "result",
)
COLUMN_CACHE_BYTES = _gauge(
    "analytics_column_cache_bytes",
    "Bytes of cached columns that a worker process holds or maps; the largest of all workers, as "
    "they map the same files.",
    aggregation="livemax",
)
COLUMN_WRITTEN_EVENTS = _counter(
    "analytics_column_written_events", "Events that were written to columns."
)
COLUMN_WRITE_SECONDS = _counter(
    "analytics_column_write_seconds", "Seconds spent writing events to columns and merging chunks."
)
CATALOGUE_AGE = _gauge(
    "analytics_catalogue_age_seconds",
    "Seconds since the statistics of properties were counted; 0 while there are none.",
    aggregation="livemax",
)
CATALOGUE_SECONDS = _counter(
    "analytics_catalogue_seconds", "Seconds spent counting the statistics of properties."
)

EVENTS = _counter(
    "analytics_events",
    "Events by name, counted when they are folded: names in ANALYTICS_METRIC_EVENTS, and all "
    "others as other.",
    "event_name",
)
ACTIVE_USERS = _gauge(
    "analytics_active_users",
    "Users active today, and in the 7 and the 30 days that end today.",
    "period",
    aggregation="livemax",
)

UP = _gauge(
    "analytics_up",
    "1 if all workers reach the server and have the rights they need, else 0.",
    "server",
    aggregation="livemin",
)
STORAGE_HEADROOM = _gauge(
    "analytics_storage_headroom_bytes",
    "Bytes that remain until events are rejected with 507.",
    "limit",
    aggregation="livemin",
)
REPLICA_LAG_SECONDS = _gauge(
    "analytics_replica_lag_seconds",
    "Seconds that the read replica of questions is behind, at least; 0 without one.",
    aggregation="livemax",
)

# Prometheus' increase() misses the first event of a series that does not begin at 0.
for _label in ("accepted", "duplicate", "refused"):
    INGESTED.labels(_label)
for _label in ("expired", "suppressed"):
    REFUSED.labels(_label)
for _label in ("hit", "miss"):
    COLUMN_CACHE_COLUMNS.labels(_label)

# labels() takes longer than inc(), so the children of hot metrics are cached.
requests = cache(REQUESTS.labels)
request_seconds = cache(REQUEST_SECONDS.labels)
cache_requests = cache(CACHE_REQUESTS.labels)
key_checks = cache(KEY_CHECKS.labels)

POOL_COUNTERS = {
    name: _counter(f"analytics_pool_{name}", text, "pool")
    for name, text in {
        "acquired": "Connections acquired from the pool.",
        "acquire_seconds": "Seconds spent waiting for a connection.",
        "busy": "Requests that got no connection in time.",
        "deadlines": "Requests whose deadline passed during a query.",
        "opened": "Connections opened.",
        "discarded": "Connections closed because they were dead, broken or too old.",
    }.items()
}
POOL_GAUGES = {
    name: _gauge(f"analytics_pool_{name}", text, "pool")
    for name, text in {
        "size": "Maximum number of connections.",
        "in_use": "Connections in use.",
        "waiting": "Requests that wait for a connection.",
    }.items()
}
GC_COUNTERS = {
    name: _counter(f"python_gc_{series}", text, "generation")
    for name, series, text in (
        ("collections", "collections", "Runs of the garbage collector."),
        ("collected", "objects_collected", "Objects freed by garbage collection."),
        (
            "uncollectable",
            "objects_uncollectable",
            "Objects that garbage collection could not free.",
        ),
    )
}


Server = Literal["postgresql", "redis"]

_IS_REACHABLE: dict[tuple[Server, str], bool] = {}


@contextmanager
def track_reachability(server: Server, purpose: str) -> Iterator[None]:
    """Record in `analytics_up` whether the block, which uses the server, raised an exception.

    A server is up if the last block of every purpose succeeded.
    """
    try:
        yield
    except Exception:
        _record(server, purpose, is_reachable=False)
        raise
    _record(server, purpose, is_reachable=True)


def _record(server: Server, purpose: str, *, is_reachable: bool) -> None:
    _IS_REACHABLE[server, purpose] = is_reachable
    UP.labels(server).set(
        all(
            is_up
            for (checked_server, _), is_up in _IS_REACHABLE.items()
            if checked_server == server
        )
    )
